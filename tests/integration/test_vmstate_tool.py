#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-vmstate on snapshots that a real QEMU made.

What it extracts is compared byte for byte with QEMU's own reading of the same
vmstate, guest memory with what the guest program is known to have written,
registers through gdb, and tables with those of qemu-img.

Environment: FIRN_VMSTATE (the program), FIRN_FIXTURES (where the images are
kept). A peer that is not installed is a skip that names it.
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
import unittest

import qemu_fixtures as qemu

VMSTATE = os.environ.get("FIRN_VMSTATE", "firn-vmstate")
TAG = qemu.TAG
PAIR = ("pc-128m-v3", "pc-128m-v2")
ALL = ("pc-128m-v3", "pc-128m-v2", "pc-2g-v3", "pc-2g-v2", "q35-128m-v3")


def fixture(name):
    try:
        return qemu.snapshot(name)
    except qemu.FixtureMissing as missing:
        raise unittest.SkipTest(str(missing)) from missing


def run(*args, **kwargs):
    """Run the tool; returns the finished process with text output."""
    return subprocess.run([VMSTATE, *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300,
                          **kwargs)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def processor_time(pid):
    """Seconds, of all its threads."""
    with open(f"/proc/{pid}/stat") as f:
        words = f.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class ToolTest(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory(prefix="firn-vmstate-")
        self.addCleanup(tmp.cleanup)
        self.dir = tmp.name

    def path(self, name):
        return os.path.join(self.dir, name)

    def ok(self, *args, **kwargs):
        """Run the tool, which has to succeed; returns its stdout."""
        done = run(*args, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fails(self, code, text, *args, **kwargs):
        """Run the tool, which has to fail and say @text on stderr."""
        done = run(*args, **kwargs)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertTrue(done.stderr.startswith("firn-vmstate: "), done.stderr)
        self.assertIn(text, done.stderr)
        self.assertNotIn("\033", done.stderr)
        return done

    def extract(self, image, *options, **kwargs):
        out = self.path("stream")
        self.ok("extract", image, TAG, "-o", out, *options, **kwargs)
        return read(out)


class Extract(ToolTest):
    def test_extract_is_what_qemu_itself_reads(self):
        for name in ALL:
            with self.subTest(name):
                image = fixture(name)
                size = qemu.qemu_vmstate(image, TAG, self.path("qemu"))
                stream = self.extract(image)
                self.assertEqual(len(stream), size)
                self.assertTrue(stream == read(self.path("qemu")))
                self.assertTrue(stream == b"".join(qemu.raw_vmstate(image)))

    def test_options_make_no_difference_to_the_bytes(self):
        image = fixture("pc-128m-v3")
        want = b"".join(qemu.raw_vmstate(image))
        for options in (("--workers", 1), ("--workers", 64, "--chunk", "4k"),
                        ("--chunk", "64M"), ("--cache", "directsync"),
                        ("--cache=none",), ("-U",), ("-q",)):
            with self.subTest(options):
                self.assertTrue(self.extract(image, *options) == want)
        for backend in ("threads", "io_uring"):
            env = dict(os.environ, FIRN_AIO=backend)
            done = run("extract", image, TAG, "-o", self.path("s"), env=env)
            if backend == "io_uring" and done.returncode:
                self.assertIn("io_uring", done.stderr)
                continue
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(read(self.path("s")) == want)

    def test_extract_writes_to_standard_output(self):
        image = fixture("pc-128m-v3")
        done = subprocess.run([VMSTATE, "extract", "-q", image, TAG, "-o",
                               "-"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=True)
        self.assertTrue(done.stdout == b"".join(qemu.raw_vmstate(image)))
        self.assertEqual(done.stderr, b"")

    def test_image_opts_and_id_name_the_same_snapshot(self):
        image = fixture("pc-128m-v3")
        opts = "driver=qcow2,file.filename=" + image.replace(",", ",,")
        self.ok("extract", "--image-opts", opts, "1", "-o", self.path("s"))
        self.assertTrue(read(self.path("s")) ==
                        b"".join(qemu.raw_vmstate(image)))

    def test_a_failed_write_leaves_the_old_file_and_no_part(self):
        image = fixture("pc-128m-v3")
        with open(self.path("out"), "w") as f:
            f.write("precious")

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        for command in (("extract",), ("dump-ram",), ("dump-ram", "--elf")):
            with self.subTest(command):
                self.fails(1, self.path("out") + ":", *command, image, TAG,
                           "-o", self.path("out"), preexec_fn=limit)
                self.assertEqual(os.listdir(self.dir), ["out"])
                self.assertEqual(read(self.path("out")), b"precious")

    def blkdebug(self, image, **rule):
        """--image-opts with one rule for reads below the format."""
        opts = {"driver": "qcow2", "file.driver": "blkdebug",
                "file.image.driver": "file",
                "file.image.filename": image.replace(",", ",,"),
                "file.inject-error.0.iotype": "read"}
        for key, value in rule.items():
            opts["file.inject-error.0." + key.replace("_", "-")] = value
        return ("--image-opts",
                ",".join(f"{k}={v}" for k, v in opts.items()))

    def test_each_failing_read_is_an_error_without_a_file(self):
        image = fixture("pc-128m-v3")
        failed = 0
        for nth in range(1, 100):
            done = run("extract", *self.blkdebug(image, nth=nth, once="on"),
                       "1", "-o", self.path("out"))
            if done.returncode == 0:
                break
            failed += 1
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("error", done.stderr)
            self.assertEqual(os.listdir(self.dir), [])
        self.assertGreater(failed, 8)
        self.assertEqual(done.returncode, 0)

    def test_an_interruption_leaves_no_part(self):
        image = fixture("pc-128m-v3")
        slow = self.blkdebug(image, errno=0, delay_ns=20_000_000)
        process = subprocess.Popen(
            [VMSTATE, "extract", *slow, "1", "-o", self.path("out"),
             "--workers", "1", "--chunk", "4k"], stderr=subprocess.PIPE)
        try:
            while not os.listdir(self.dir):
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=300)
        finally:
            process.kill()
            process.communicate()
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"interrupted", stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_hashing_can_be_interrupted(self):
        image = fixture("pc-2g-v3")
        process = subprocess.Popen([VMSTATE, "verify", image, TAG],
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        try:
            # Hashing 2 GiB takes seconds; to begin takes no tenth of one.
            while processor_time(process.pid) < 0.2:
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=300)
        finally:
            process.kill()
            process.communicate()
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"interrupted", stderr)


class DumpRam(ToolTest):
    def check_words(self, path, name, base=0):
        with open(path, "rb") as f:
            for address, nbytes, seed in qemu.ranges_of(name):
                f.seek(base + address)
                self.assertTrue(f.read(nbytes) ==
                                qemu.expected_words(seed, nbytes))

    def test_memory_holds_what_the_guest_wrote(self):
        for name in ALL:
            with self.subTest(name):
                image = fixture(name)
                out = self.path(name)
                self.ok("dump-ram", image, TAG, "-o", out)
                self.check_words(out, name)
                st = os.stat(out)
                self.assertEqual(st.st_size,
                                 qemu.SPECS[name]["memory"] * qemu.MIB)
                self.assertLess(st.st_blocks * 512, 16 * qemu.MIB)

    def test_every_block_gets_a_file_of_its_name(self):
        image = fixture("pc-128m-v3")
        self.ok("dump-ram", image, TAG, "-o", self.path("ram"))
        blocks = json.loads(self.ok("show", image, TAG, "--no-fields",
                                    "--output=json"))["ram"]["blocks"]
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            name = "ram"
            if block["name"] != "pc.ram":
                name += "." + "".join(
                    c if c.isalnum() or c in "-_." else "_"
                    for c in block["name"])
            self.assertEqual(os.path.getsize(self.path(name)), block["bytes"])

        bios = read(self.path("ram.pc.bios"))
        self.assertEqual(bios[-16:-15], b"\xea")    # the reset vector's jump
        self.ok("dump-ram", image, TAG, "--block", "pc.bios", "-o",
                self.path("bios"))
        self.assertEqual(read(self.path("bios")), bios)
        self.fails(1, "'pc.bios'", "dump-ram", image, TAG, "--block", "x",
                   "-o", self.path("x"))
        self.assertFalse(os.path.exists(self.path("x")))

    def test_memory_is_what_qemu_pmemsave_writes(self):
        image = fixture("pc-128m-v3")
        self.ok("dump-ram", image, TAG, "-o", self.path("ram"))
        copy = self.path("copy.qcow2")
        shutil.copy(image, copy)
        args = qemu.machine_args(copy, 128, extra=("-S", "-loadvm", TAG))
        with qemu.running(args) as vm:
            vm.monitor(f'pmemsave 0x100000 {127 * qemu.MIB} '
                       f'"{self.path("pmem")}"')
        self.assertTrue(read(self.path("ram"))[qemu.MIB:] ==
                        read(self.path("pmem")))


def core_notes(core):
    """(owner, description) of each note of an ELF64 core file."""
    phoff, = struct.unpack_from("<Q", core, 32)
    count, = struct.unpack_from("<H", core, 56)
    notes = []
    for i in range(count):
        kind, _, at, _, _, size = struct.unpack_from("<IIQQQQ", core,
                                                     phoff + 56 * i)
        end = at + size
        while kind == 4 and at < end:
            name, desc, _ = struct.unpack_from("<III", core, at)
            owner = core[at + 12:at + 12 + name].rstrip(b"\0")
            at += 12 + (name + 3 & ~3)
            notes.append((owner, core[at:at + desc]))
            at += desc + 3 & ~3
    return notes


@unittest.skipUnless(shutil.which("gdb"), "gdb is not installed")
class ElfCore(ToolTest):
    def gdb(self, core, *commands):
        args = [arg for c in commands for arg in ("-ex", c)]
        return subprocess.run(["gdb", "-nx", "-batch", *args, "-c", core],
                              check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True).stdout

    def words(self, seed, count):
        data = qemu.expected_words(seed, 4 * count)
        return "\t".join("0x%08x" % int.from_bytes(data[i:i + 4], "little")
                         for i in range(0, 4 * count, 4))

    def test_gdb_reads_memory_and_registers(self):
        core = self.path("core")
        self.ok("dump-ram", fixture("pc-128m-v3"), TAG, "--elf", "-o", core)
        text = self.gdb(core, "x/4wx 0x1000000", "info registers rbx rip cs",
                        "x/2i $rip-1", "info threads")
        self.assertIn("0x1000000:\t" + self.words(0x1234, 4), text)
        self.assertIn("0x%x" % qemu.MARKER_EBX, text)
        self.assertRegex(text, r"cs +0x8\b")
        self.assertRegex(text, r"\bhlt")
        self.assertIn("LWP 1", text)

    def test_notes_say_what_qemu_dump_guest_memory_says(self):
        image = fixture("pc-128m-v3")
        self.ok("dump-ram", image, TAG, "--elf", "-o", self.path("core"))
        copy = self.path("copy.qcow2")
        shutil.copy(image, copy)
        args = qemu.machine_args(copy, 128, extra=("-S", "-loadvm", TAG))
        with qemu.running(args) as vm:
            vm.qmp("dump-guest-memory", paging=False,
                   protocol="file:" + self.path("qemu"))
        ours = core_notes(read(self.path("core")))
        theirs = core_notes(read(self.path("qemu")))
        self.assertEqual([n for n, _ in ours], [b"CORE", b"QEMU"])
        self.assertEqual(dict(ours)[b"QEMU"], dict(theirs)[b"QEMU"])

    def test_memory_above_4_gib_is_where_the_guest_sees_it(self):
        core = self.path("core")
        image = fixture("pc-4g-v3")
        self.ok("dump-ram", image, TAG, "--elf", "-o", core)
        text = self.gdb(core, "x/2wx 0x100000000", "x/2wx 0x76c00000")
        self.assertIn("0x100000000:\t0x55667788\t0x11223344", text)
        self.assertIn("0x76c00000:\t" + self.words(0x9876, 2), text)

        self.ok("dump-ram", image, TAG, "--elf", "--below-4g", "2G", "-o",
                core)
        text = self.gdb(core, "x/2wx 0x140000000")
        self.assertIn("0x140000000:\t0x55667788\t0x11223344", text)


class List(ToolTest):
    def test_table_is_that_of_qemu_img(self):
        for name in PAIR:
            image = fixture(name)
            want = subprocess.run(["qemu-img", "snapshot", "-l", image],
                                  check=True, stdout=subprocess.PIPE,
                                  text=True).stdout
            got = self.ok("list", image)
            self.assertEqual([line.split() for line in got.splitlines()],
                             [line.split() for line in want.splitlines()])

    def test_json_has_what_qemu_img_info_has(self):
        for name in PAIR:
            image = fixture(name)
            got, = json.loads(self.ok("list", image, "--output=json"))
            want, = qemu.snapshot_table(image)
            for key in want:
                if key != "icount":
                    self.assertEqual(got[key], want[key], key)

    def test_an_image_without_snapshots_lists_none(self):
        image = self.path("empty.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image,
                        "1M"], check=True)
        self.assertEqual(self.ok("list", image), "")
        self.assertEqual(json.loads(self.ok("list", image, "--output=json")),
                         [])


class Show(ToolTest):
    def show(self, name, *options):
        return json.loads(self.ok("show", fixture(name), TAG,
                                  "--output=json", *options))

    def fields(self, shown, device):
        section, = [s for s in shown["sections"] if s["name"] == device]
        return {f["name"]: f for f in section["fields"]}

    def test_sections_cover_the_stream_without_gaps(self):
        for name in ALL:
            with self.subTest(name):
                shown = self.show(name)
                offset = 8
                for section in shown["sections"]:
                    if section["type"] == "DESCRIPTION":
                        offset += 1                 # the end byte
                    self.assertEqual(section["offset"], offset)
                    offset += section["bytes"]
                    self.assertFalse(section["size-guessed"])
                    self.assertEqual(section["described"],
                                     section["type"] == "FULL")
                self.assertEqual(offset, shown["snapshot"]["vm-state-size"])
                self.assertEqual(shown["notes"], [])
                self.assertEqual(shown["trailing-bytes"], 0)

    def test_fields_have_the_values_the_guest_left(self):
        shown = self.show("pc-128m-v3")
        cpu = self.fields(shown, "cpu")
        self.assertTrue(shown["machine"].startswith("pc-i440fx-"))
        self.assertEqual(cpu["env.regs"]["value"][3], qemu.MARKER_EBX)
        self.assertEqual(cpu["env.cr[0]"]["value"] & 1, 1)
        cs = [f for f in next(
            s for s in shown["sections"] if s["name"] == "cpu")["fields"]
            if f["name"] == "env.segs" and f["index"] == 1]
        self.assertEqual(cs[0]["fields"][0]["value"], 8)
        halted = self.fields(shown, "cpu_common")["halted"]
        self.assertEqual(halted["value"], 1)

    def test_ram_blocks_are_those_of_the_machine(self):
        for name in ALL:
            with self.subTest(name):
                ram = self.show(name, "--no-fields")["ram"]
                blocks = {b["name"]: b for b in ram["blocks"]}
                memory = qemu.SPECS[name]["memory"] * qemu.MIB
                self.assertEqual(blocks["pc.ram"]["bytes"], memory)
                self.assertEqual(blocks["pc.bios"]["bytes"], 256 << 10)
                self.assertEqual(sum(b["bytes"] for b in ram["blocks"]),
                                 ram["bytes"])
                for b in ram["blocks"]:
                    self.assertEqual(
                        (b["data-pages"] + b["fill-pages"]) * 4096,
                        b["bytes"])

    def test_human_output_names_devices_and_fields(self):
        image = fixture("pc-128m-v3")
        text = self.ok("show", image, TAG)
        for word in ("virtio-rng", "e1000", "uhci", "vga", "pc.ram",
                     "env.regs", "0x%x" % qemu.MARKER_EBX, "CONFIGURATION",
                     "machine = 'pc-i440fx"):
            self.assertIn(word, text)
        one = self.ok("show", image, TAG, "--device", "cpu")
        self.assertIn("env.eip", one)
        self.assertNotIn("uhci", one)
        self.fails(1, "no section is named 'nothing'", "show", image, TAG,
                   "--device", "nothing")


class Verify(ToolTest):
    def test_checksums_are_those_of_what_is_written(self):
        for name in PAIR:
            with self.subTest(name):
                image = fixture(name)
                found = json.loads(self.ok("verify", image, TAG,
                                           "--output=json"))
                stream = self.extract(image)
                self.ok("dump-ram", image, TAG, "-o", self.path("ram"))
                self.assertEqual(found["stream-bytes"], len(stream))
                self.assertEqual(found["sha256"],
                                 hashlib.sha256(stream).hexdigest())
                ram = next(b for b in found["ram-blocks"]
                           if b["name"] == "pc.ram")
                self.assertEqual(ram["sha256"], hashlib.sha256(
                    read(self.path("ram"))).hexdigest())
                self.assertEqual(found["sizes-guessed"], 0)

    def test_report_says_what_was_checked(self):
        for name in ALL:
            text = self.ok("verify", "--no-checksum", fixture(name), TAG)
            self.assertIn("well-formed", text)
            self.assertIn("checked:", text)
            self.assertIn("as described", text)
        self.assertEqual(self.ok("verify", "-q", fixture("pc-128m-v3"), TAG),
                         "")

    def damage(self, needle, skip, replacement):
        """A copy of the image with bytes of its stream changed."""
        data = bytearray(read(fixture("pc-128m-v3")))
        at = data.find(needle)
        self.assertGreater(at, 0)
        self.assertEqual(data.find(needle, at + 1), -1)
        at += skip
        data[at:at + len(replacement)] = replacement
        with open(self.path("damaged.qcow2"), "wb") as f:
            f.write(data)
        return self.path("damaged.qcow2")

    def test_damage_is_named_with_its_offset(self):
        image = self.damage(b"QEVM\0\0\0\3\7", 0, b"XXXX")
        for command in ("verify", "show"):
            done = self.fails(1, image + ": ", command, image, TAG)
            self.assertIn("offset 0: no migration stream", done.stderr)

        image = self.damage(b"\x03ram\0\0\0\0\0\0\0\4", 11, b"\x09")
        done = self.fails(1, "version 9", "verify", image, TAG)
        self.assertIn("START section 'ram' (id 2, instance 0) at offset 0x1a",
                      done.stderr)

    def test_a_description_that_lies_is_not_followed(self):
        image = self.damage(
            b'"name": "env.eip", "type": "uint64", "size": 8', 45, b"9")
        text = self.ok("verify", image, TAG, "--no-checksum")
        self.assertIn("partly guessed", text)
        self.assertIn("device 'cpu' (instance 0)", text)


@unittest.skipUnless(os.environ.get("FIRN_VMM"), "FIRN_VMM is not set")
class OwnSnapshots(ToolTest):
    def test_a_snapshot_of_firn_vmm_reads_the_same_by_qemu(self):
        image = self.path("own.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image,
                        "64M"], check=True)
        subprocess.run([os.environ["FIRN_VMM"], "--memory", "64M", "--disk",
                        image], input=f"savevm {TAG}\nquit\n", text=True,
                       stdout=subprocess.PIPE, check=True, timeout=300)
        qemu.qemu_vmstate(image, TAG, self.path("qemu"))
        self.assertTrue(self.extract(image) == read(self.path("qemu")))
        text = self.ok("verify", image, TAG)
        self.assertIn("as described", text)
        shown = json.loads(self.ok("show", image, TAG, "--output=json"))
        self.assertEqual(shown["notes"], [])
        for section in shown["sections"]:
            self.assertEqual(section["described"], section["type"] == "FULL")


class Errors(ToolTest):
    def test_usage_is_exit_2(self):
        image = fixture("pc-128m-v3")
        for args in ((), ("list",), ("show", image), ("extract", image, TAG),
                     ("list", image, "--output=xml"), ("list", "--nothing"),
                     ("list", image, "--workers", "65"),
                     ("list", image, "--workers", "0"),
                     ("list", image, "--chunk", "1000"),
                     ("list", image, "--cache", "warm"),
                     ("dump-ram", image, TAG, "-o", "-"),
                     ("dump-ram", image, TAG, "-o", "x", "--below-4g", "1G"),
                     ("list", image, "-o", "x")):
            with self.subTest(args):
                self.assertEqual(run(*args).returncode, 2)

    def test_spelling_mistakes_get_the_nearest_name(self):
        for wrong, right in (("lst", "list"), ("shw", "show"),
                             ("extrct", "extract"), ("dumpram", "dump-ram"),
                             ("vreify", "verify")):
            self.fails(2, f"did you mean '{right}'?", wrong)
        self.assertNotIn("did you mean", run("frobnicate").stderr)

    def test_help_and_version(self):
        self.assertIn("dump-ram", self.ok("--help"))
        self.assertRegex(self.ok("--version"), r"^firn-vmstate \d")
        for command in ("list", "show", "extract", "dump-ram", "verify"):
            text = self.ok(command, "--help")
            self.assertIn("Usage: firn-vmstate " + command, text)
            self.assertIn("--workers", text)

    def test_missing_things_are_named(self):
        image = fixture("pc-128m-v3")
        self.fails(1, "there are 'snap1'", "show", image, "snap2")
        self.fails(1, "No such file", "list", self.path("nothing"))
        self.fails(1, "cannot create", "extract", image, TAG, "-o",
                   self.path("no/such/dir"))
        copy = self.path("copy.qcow2")
        shutil.copy(image, copy)
        os.chmod(copy, stat.S_IRUSR | stat.S_IWUSR)
        subprocess.run(["qemu-img", "snapshot", "-c", "diskonly", copy],
                       check=True)
        self.fails(1, "disk only", "show", copy, "diskonly")
        with open(self.path("raw"), "wb") as f:
            f.truncate(1 << 20)
        self.fails(1, "snapshots", "list", self.path("raw"))

    def test_an_image_in_use_wants_force_share(self):
        copy = self.path("copy.qcow2")
        shutil.copy(fixture("pc-128m-v3"), copy)
        with qemu.running(qemu.machine_args(copy, 128, extra=("-S",))):
            self.fails(1, "-U", "list", copy)
            self.assertIn(TAG, self.ok("list", "-U", copy))


if __name__ == "__main__":
    unittest.main(verbosity=2)
