#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Snapshots made by a real QEMU, for tests, benchmarks and fuzzing.

A fixture is a qcow2 image with one internal snapshot of a machine that ran a
guest program of ours: a boot sector which switches to flat 32-bit mode, fills
ranges of guest-physical memory with words of a known generator, says so on
port 0xe9 and halts. So every byte of those ranges is known in advance.

    snapshot(spec)                 path of the image, made at first use
    expected_words(seed, bytes)    what the guest wrote into a range
    qemu_vmstate(image, tag)       the stream as QEMU itself reads it back

Images are kept in $FIRN_FIXTURES (default: fixtures/ in the current
directory, which meson sets to the build tree), one file per spec, made under a
lock and renamed into place; other programs may read but never write them.

This file knows nothing of firn: it is the independent side of each comparison.
Run as a program it makes the standard fixtures and prints their paths.
"""

import array
import contextlib
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

QEMU = os.environ.get("QEMU", "qemu-system-x86_64")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")

MIB = 1 << 20
TAG = "snap1"

DEVICES = ("-vga", "std", "-device", "virtio-rng-pci",
           "-netdev", "user,id=n0,restrict=on", "-device", "e1000,netdev=n0",
           "-device", "piix3-usb-uhci", "-device", "virtio-serial-pci")

# Every spec: memory in MiB, format version, machine, ranges the guest writes
# as (guest-physical address, bytes, seed), and extra QEMU arguments.
SPECS = {
    "pc-128m-v3": dict(memory=128, compat="1.1"),
    "pc-128m-v2": dict(memory=128, compat="0.10"),
    "pc-2g-v3": dict(memory=2048, compat="1.1"),
    "pc-2g-v2": dict(memory=2048, compat="0.10"),
    "q35-128m-v3": dict(memory=128, compat="1.1", machine="q35"),
    # RAM that is split around the hole below 4 GiB; the loader device puts
    # one known word just above 4 GiB.
    "pc-4g-v3": dict(memory=4096, compat="1.1",
                     extra=("-device", "loader,addr=0x100000000,"
                            "data=0x1122334455667788,data-len=8")),
}

BOOT_SOURCE = """
    .code16
    .globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    inb $0x92, %al                  # A20
    orb $2, %al
    outb %al, $0x92
    lgdtl gdt_pointer
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $flat
    .code32
flat:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $table, %esi
next_range:
    movl (%esi), %edi               # address
    movl 4(%esi), %ecx              # words, 0 ends the table
    movl 8(%esi), %eax              # seed
    addl $12, %esi
    testl %ecx, %ecx
    jz done
next_word:
    imull $1664525, %eax, %eax
    addl $1013904223, %eax
    movl %eax, (%edi)
    addl $4, %edi
    decl %ecx
    jnz next_word
    jmp next_range
done:
    movl $0x600dcafe, %ebx          # shows in the saved registers
    movb $0x44, %al                 # 'D'
    outb %al, $0xe9
halt:
    hlt
    jmp halt
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt
table:
"""

MARKER_EBX = 0x600DCAFE


class FixtureMissing(Exception):
    """A program that the fixture needs is not installed."""


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise FixtureMissing(program + " is not installed")


def default_ranges(memory):
    """4 MiB at 16 MiB, and 1 MiB near the top of larger guests."""
    ranges = [(16 * MIB, 4 * MIB, 0x1234)]
    if memory >= 2048:
        ranges.append((1900 * MIB, MIB, 0x9876))
    return ranges


def expected_words(seed, nbytes):
    """The bytes the guest program leaves in a range."""
    words = array.array("I", bytes(nbytes))
    value = seed
    for i in range(nbytes // 4):
        value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
        words[i] = value
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def boot_sector(ranges):
    """Assemble the guest program for @ranges into 512 bytes."""
    need("as", "ld")
    lines = [BOOT_SOURCE]
    for address, nbytes, seed in ranges:
        lines.append(f"    .long {address:#x}, {nbytes // 4:#x}, {seed:#x}\n")
    lines.append("    .long 0, 0, 0\n    .org 510\n    .word 0xaa55\n")
    with tempfile.TemporaryDirectory() as tmp:
        source, obj, out = (os.path.join(tmp, n) for n in "soe")
        with open(source, "w") as f:
            f.write("".join(lines))
        subprocess.run(["as", "--32", "-o", obj, source], check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "-e",
                        "_start", "--oformat", "binary", "-o", out, obj],
                       check=True)
        with open(out, "rb") as f:
            data = f.read()
    assert len(data) == 512
    return data


class Machine:
    """A running QEMU that is driven over QMP on its stdio."""

    def __init__(self, args, debugcon):
        self.debugcon = debugcon
        self.process = subprocess.Popen(
            [QEMU, "-accel", "tcg", "-display", "none", "-nodefaults",
             "-qmp", "stdio", "-chardev", f"file,id=dbg,path={debugcon}",
             "-device", "isa-debugcon,iobase=0xe9,chardev=dbg", *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            greeting = self.process.stdout.readline()
            if b"QMP" not in greeting:
                raise RuntimeError("QEMU did not start")
            self.qmp("qmp_capabilities")
        except BaseException:
            self.kill()
            raise

    def qmp(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("QEMU went away during " + command)
            reply = json.loads(line)
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def monitor(self, line):
        """Run a monitor command whose silence means success."""
        text = self.qmp("human-monitor-command", **{"command-line": line})
        if text.strip():
            raise RuntimeError(f"{line}: {text.strip()}")

    def wait_guest(self):
        """Block until the guest program has said that it is done.

        The chardev file has no event to wait for, so this asks QMP, whose
        answer gives the guest time to run.
        """
        while os.path.getsize(self.debugcon) == 0:
            if self.process.poll() is not None:
                raise RuntimeError("QEMU ended before its guest")
            self.qmp("query-status")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)

    def quit(self):
        self.qmp("quit")
        self.process.communicate(timeout=300)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def running(args):
    """A Machine that is gone at the end of the block, whatever happened."""
    with tempfile.NamedTemporaryFile(prefix="firn-dbg-") as debugcon:
        machine = Machine(args, debugcon.name)
        try:
            yield machine
        finally:
            machine.kill()


def make_disk(path, compat, ranges, size=64 * MIB):
    """A qcow2 of @size whose first sector is the guest program."""
    need(QEMU_IMG)
    with tempfile.NamedTemporaryFile(prefix="firn-boot-") as raw:
        raw.write(boot_sector(ranges))
        raw.truncate(size)
        raw.flush()
        subprocess.run([QEMU_IMG, "convert", "-f", "raw", "-O", "qcow2", "-o",
                        "compat=" + compat, raw.name, path], check=True)


def machine_args(path, memory, machine="pc", extra=(), drive=""):
    return ["-machine", machine, "-m", str(memory), *DEVICES, "-drive",
            f"if=none,id=d0,format=qcow2,file={path}{drive}", "-device",
            "virtio-blk-pci,drive=d0,bootindex=1", *extra]


def make_snapshot(path, memory, compat="1.1", machine="pc", ranges=None,
                  extra=(), tags=(TAG,)):
    """Create @path and save the machine in it under each of @tags."""
    need(QEMU, QEMU_IMG)
    if ranges is None:
        ranges = default_ranges(memory)
    make_disk(path, compat, ranges)
    with running(machine_args(path, memory, machine, extra)) as vm:
        vm.wait_guest()
        for tag in tags:
            vm.monitor("savevm " + tag)
        vm.quit()


def fixture_dir():
    path = os.environ.get("FIRN_FIXTURES") or os.path.abspath("fixtures")
    os.makedirs(path, exist_ok=True)
    return path


def snapshot(name):
    """Path of the fixture @name of SPECS, made when it is not there yet."""
    spec = SPECS[name]
    path = os.path.join(fixture_dir(), name + ".qcow2")
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            make_snapshot(path + ".part", **spec)
            os.rename(path + ".part", path)
    return path


def ranges_of(name):
    spec = SPECS[name]
    return spec.get("ranges") or default_ranges(spec["memory"])


def snapshot_table(image):
    """What qemu-img knows of the image's snapshots."""
    out = subprocess.run([QEMU_IMG, "info", "-U", "--output=json", image],
                         check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out).get("snapshots", [])


def _parse_hexdump(text):
    """qemu-io -v lines 'OFFSET:  16 hex bytes  ascii' to bytes."""
    return b"".join(bytes.fromhex(line[11:11 + 47].decode())
                    for line in text.split(b"\n")
                    if line[8:9] == b":")


def qemu_vmstate(image, tag, ret_path):
    """Write the stream of @tag, as QEMU reads it, to the file @ret_path.

    A copy of the image is switched to the snapshot by qemu-img, which makes
    its vmstate the active one, and qemu-io reads that (read -b).
    """
    need(QEMU_IMG, QEMU_IO)
    size = next(int(s["vm-state-size"]) for s in snapshot_table(image)
                if tag in (s["id"], s["name"]))
    step = 16 * MIB
    with tempfile.TemporaryDirectory(dir=os.path.dirname(ret_path)) as tmp:
        copy = os.path.join(tmp, "copy.qcow2")
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        subprocess.run([QEMU_IMG, "snapshot", "-a", tag, copy], check=True)
        with open(ret_path, "wb") as out:
            for pos in range(0, size, step):
                out.write(_read_vmstate(copy, pos, min(step, size - pos)))
    return size


def _read_vmstate(image, pos, nbytes):
    """qemu-io wants whole sectors, so this asks for them and cuts."""
    start, end = pos & ~511, (pos + nbytes + 511) & ~511
    text = subprocess.run(
        [QEMU_IO, "-r", "-f", "qcow2", "-c",
         f"read -vb {start} {end - start}", image],
        check=True, stdout=subprocess.PIPE).stdout
    data = _parse_hexdump(text)[pos - start:pos - start + nbytes]
    if len(data) != nbytes:
        raise RuntimeError(f"qemu-io read {len(data)} bytes of {nbytes}")
    return data


def raw_vmstate(image, snapshot_index=0):
    """The stream, found with a small qcow2 reader of this file's own."""
    with open(image, "rb") as f:
        header = f.read(104)
        cluster_bits, size = struct.unpack(">IQ", header[20:32])
        count, table = struct.unpack(">IQ", header[60:72])
        assert snapshot_index < count
        for _ in range(snapshot_index + 1):
            table = (table + 7) & ~7
            f.seek(table)
            entry = f.read(40 + 16)
            l1, l1_size, id_len, name_len = struct.unpack(">QIHH", entry[:16])
            extra, = struct.unpack(">I", entry[36:40])
            length, disk = struct.unpack(">QQ", entry[40:56])
            table += 40 + extra + id_len + name_len
        cluster = 1 << cluster_bits
        per_l1 = cluster * (cluster // 8)
        f.seek(l1)
        l1_table = struct.unpack(f">{l1_size}Q", f.read(8 * l1_size))
        pos = -(-(disk or size) // per_l1) * per_l1
        for done in range(0, length, cluster):
            index = (pos + done) // per_l1
            l2_offset = l1_table[index] & 0x00FFFFFFFFFFFE00
            host = 0
            if l2_offset:
                f.seek(l2_offset + 8 * (((pos + done) % per_l1) // cluster))
                entry, = struct.unpack(">Q", f.read(8))
                host = 0 if entry & 1 else entry & 0x00FFFFFFFFFFFE00
            want = min(cluster, length - done)
            if host:
                f.seek(host)
                yield f.read(want).ljust(want, b"\0")
            else:
                yield bytes(want)


def main():
    for name in sys.argv[1:] or SPECS:
        try:
            print(snapshot(name), flush=True)
        except FixtureMissing as missing:
            sys.exit(f"qemu_fixtures: {missing}")


if __name__ == "__main__":
    main()
