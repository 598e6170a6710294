#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shell scripts in the style this field tests with, run twice.

Once with qemu-io as $IO and once with firn-io, nothing else being different:
what they print (timings and names masked) and their exit status must be equal.
Images are made and judged by qemu-img as $IMG both times.
"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

FIRN_IO = os.environ.get("FIRN_IO", "firn-io")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
SECONDS = 60

PRELUDE = """
exec 2>/dev/null
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
check() { $IMG check "$@" >/dev/null; echo "check $?"; }
new() { $IMG create -q -f qcow2 "$@"; }
dbg() { echo "driver=qcow2,file.driver=blkdebug,file.image.filename=$1$2"; }
"""

SCENARIOS = {
    "patterns in three places survive a reopen": """
        new t.qcow2 8M
        for i in 1 2 3; do $IO -c "write -P $i ${i}M 100k" t.qcow2; done
        for i in 1 2 3; do $IO -c "read -P $i ${i}M 100k" t.qcow2; done
        check t.qcow2""",
    "overlay over a pattern": """
        new base 1M; $IO -c "write -P 1 0 1M" base
        new -b base -F qcow2 top; $IO -c "write -P 2 64k 4k" top
        $IO -c "read -P 1 0 64k" -c "read -P 2 64k 4k" -c "read -P 1 68k 60k" \\
            top
        $IO -c map top""",
    "three layers": """
        new a 1M; $IO -c "write -P 1 0 192k" a
        new -b a -F qcow2 b; $IO -c "write -P 2 64k 128k" b
        new -b b -F qcow2 c; $IO -c "write -P 3 128k 64k" c
        for i in 1 2 3; do $IO -c "read -P $i $(((i-1)*64))k 64k" c; done""",
    "commit a chain": """
        new base 1M; $IO -c "write -P 1 0 1M" base
        new -b base -F qcow2 top; $IO -c "write -P 2 64k 64k" top
        $IMG commit -q top; $IO -c "read -P 2 64k 64k" -c "read -P 1 0 64k" base
        $IO -c map top""",
    "rebase keeps what is read": """
        new a 1M; $IO -c "write -P 1 0 1M" a; new b 1M
        $IO -c "write -P 2 0 512k" b
        new -b a -F qcow2 t; $IMG rebase -q -b b -F qcow2 t
        $IO -c "read -P 1 0 1M" t; check t""",
    "killed after a write that was flushed": """
        new t 4M; $IO -c "write -P 7 0 1M" -c flush -c "sigraise 9" t; echo $?
        check -r leaks t; $IO -c "read -P 7 0 1M" t""",
    "killed before the flush leaves a sound image": """
        new t 4M; $IO -c "write -P 7 0 1M" -c "sigraise 9" t >/dev/null
        echo $?; check -r leaks t; check t""",
    "abort with lazy refcounts": """
        new -o lazy_refcounts=on t 4M
        $IO -c "write -P 5 0 64k" -c flush -c abort t >/dev/null; echo $?
        check -r all t; $IO -c "read -P 5 0 64k" t; check t""",
    "a write that fails once": """
        new t 1M
        $IO --image-opts -c "write -P 1 0 64k" -c "write -P 2 0 64k" \\
            $(dbg t ,file.inject-error.0.event=write_aio,file.inject-error.0.once=on)
        echo $?; $IO -c "read -P 2 0 64k" t""",
    "a rule file": """
        new t 1M
        printf '[inject-error]\\nevent = "read_aio"\\nerrno = "5"\\n' > rules
        $IO -c "write -P 1 0 64k" t
        $IO -c "read 0 64k" blkdebug:rules:t; echo $?""",
    "states order two errors": """
        new t 1M
        printf '[set-state]\\nstate = "1"\\nevent = "write_aio"\\n'\\
'new_state = "2"\\n[inject-error]\\nstate = "2"\\nevent = "write_aio"\\n'\\
'errno = "28"\\n' > rules
        $IO -c "write 0 64k" -c "write 0 64k" blkdebug:rules:t; echo $?""",
    "an L2 table that cannot be loaded": """
        new t 1M; $IO -c "write -P 1 0 64k" t >/dev/null
        $IO --image-opts -c "read 0 64k" \\
            $(dbg t ,file.inject-error.0.event=l2_load)
        echo $?; $IO -c "read -P 1 0 64k" t""",
    "errors at every step of an allocation": """
        for e in l2_load l2_alloc_write refblock_alloc cluster_alloc write_aio
        do
            new t 1M
            $IO --image-opts -c "write -P 1 0 128k" $(dbg t \\
              ,file.inject-error.0.event=$e,file.inject-error.0.immediately=on)\\
              >/dev/null
            check -r leaks t >/dev/null; check t
        done""",
    "one write overtakes another": """
        new t 4M
        $IO --image-opts -c "break write_aio A" -c "aio_write -P 1 0 64k" \\
            -c "wait_break A" -c "write -P 2 1M 64k" -c "resume A" \\
            -c aio_flush $(dbg t)
        $IO -c "read -P 1 0 64k" -c "read -P 2 1M 64k" t; check t""",
    "a read waits at a breakpoint": """
        new t 1M; $IO -c "write -P 4 0 64k" t
        $IO --image-opts -c "break read_aio R" -c "aio_read -P 4 0 64k" \\
            -c "wait_break R" -c "write -P 5 512k 64k" -c "resume R" \\
            -c aio_flush $(dbg t)""",
    "overlapping writes into one new cluster": """
        new t 1M
        $IO --image-opts -c "break write_aio A" -c "aio_write -P 1 0 4k" \\
            -c "wait_break A" -c "aio_write -q -P 2 8k 4k" -c "resume A" \\
            -c aio_flush $(dbg t) | sort
        $IO -c "read -P 1 0 4k" -c "read -P 0 4k 4k" -c "read -P 2 8k 4k" t
        check t""",
    "a bad magic": """
        new t 1M; poke t 0 'X'
        $IO -f qcow2 -c "read 0 512" t; echo $?""",
    "a version nobody knows": """
        new t 1M; poke t 7 '\\011'
        $IO -f qcow2 -c "read 0 512" t; echo $?""",
    "an L1 table that is not aligned": """
        new t 1M; poke t 47 '\\001'
        $IO -c "read 0 512" t; echo $?""",
    "an incompatible feature": """
        new t 1M; poke t 72 '\\200'
        $IO -c "read 0 512" t; echo $?""",
    "a corrupt image is not written to": """
        new t 1M; poke t 79 '\\002'
        $IO -c "write 0 512" t; echo $?; $IO -r -c "read -P 0 0 512" t""",
    "an L2 entry that is not aligned": """
        new t 1M; $IO -c "write 0 64k" t >/dev/null
        poke t $((0x40007)) '\\001'
        $IO -c "read 0 512" t; echo $?""",
    "snapshots apply and go": """
        new t 1M; $IO -c "write -P 1 0 256k" t; $IMG snapshot -c s1 t
        $IO -c "write -P 2 0 128k" t; $IO -c "read -P 2 0 128k" t
        $IMG snapshot -a s1 t; $IO -c "read -P 1 0 256k" t
        $IMG snapshot -d s1 t; check t""",
    "vmstate lies behind the disk": """
        new t 1M; $IO -c "write -b -P 9 0 64k" -c "read -b -P 9 0 64k" t
        $IO -c length -c "read -P 0 0 1M" t; check t""",
    "compressed clusters are written over": """
        new t 1M; $IO -c "write -c -P 1 0 64k" -c "write -c -P 2 64k 64k" t
        $IO -c "write -P 3 4k 4k" -c "read -P 1 0 4k" -c "read -P 3 4k 4k" \\
            -c "read -P 2 64k 64k" t
        check t""",
    "zeroes and discards": """
        new t 1M; $IO -c "write -P 1 0 1M" t
        $IO -c "write -z 64k 64k" -c "discard 128k 64k" -c "write -zu 256k 4k" t
        $IO -c "read -P 0 64k 128k" -c "read -P 0 256k 4k" -c "read -P 1 0 64k" t
        check t""",
    "grow and shrink": """
        new t 1M; $IO -c "write -P 1 0 1M" -c "truncate 2M" -c length t
        $IO -c "read -P 0 1M 1M" -c "truncate 512k" -c "truncate 1M" t
        $IO -c "read -P 1 0 512k" -c "read -P 0 512k 512k" t; check t""",
    "reopened read-only and back": """
        new t 1M
        $IO -c "write -P 1 0 64k" -c "reopen -r" -c "write 0 64k" \\
            -c "read -P 1 0 64k" -c "reopen -w" -c "write -P 2 0 64k" t; echo $?
        $IO -c "read -P 2 0 64k" t; check t""",
    "two processes want one image": """
        new t 1M
        (echo "write 0 1k"; sleep 1; echo quit) | $IO t >/dev/null &
        sleep 0.4
        $IO -c "write 0 1k" t; echo $?; $IO -r -U -c "length" t; echo $?; wait""",
    "a pattern file": """
        new t 1M; printf 'abc' > p
        $IO -c "write -s p 0 9" -c "read -v 0 12" t""",
    "copy on read": """
        new base 1M; $IO -c "write -P 1 0 256k" base
        new -b base -F qcow2 top; $IO -C -c "read -P 1 70k 1k" top
        $IO -c map top; $IO -c "read -P 1 64k 64k" top; check top""",
    "an overlay that is forgotten": """
        new t 1M; $IO -c "write -P 1 0 64k" t
        $IO -s -c "write -P 2 0 64k" -c "read -P 2 0 64k" t
        $IO -c "read -P 1 0 64k" t""",
    "verified against a raw image": """
        $IMG create -q -f raw r 1M; new t 1M
        $IO -f raw -c "write -P 1 0 64k" -c "read -P 1 0 64k" blkverify:r:t
        $IO -f raw -c "read -P 1 0 64k" r; $IO -c "read -P 1 0 64k" t
        $IO -c "write -P 2 0 512" t; $IO -f raw -c "read 0 64k" blkverify:r:t \\
            >/dev/null
        echo $?""",
    "a small cluster size, many tables": """
        new -o cluster_size=512 t 2M
        for i in $(seq 1 9); do $IO -c "write -P $i $((i*200))k 100k" t; done
        for i in $(seq 1 9); do $IO -c "read -P $i $((i*200))k 100k" t; done
        check t""",
    "commands from a script": """
        new t 1M
        $IO t <<END
write -P 1 0 4k
aio_write -P 2 4k 4k
aio_flush
read -P 1 0 4k
read -P 2 4k 4k
END
        echo $?""",
}

TIMES = re.compile(r"ops; .* ops/sec\)")


def mask(text):
    text = TIMES.sub("ops; TIMES", text)
    return text.replace("qemu-io> ", "> ").replace("firn-io> ", "> ")


@unittest.skipUnless(shutil.which(QEMU_IO) and shutil.which(QEMU_IMG),
                     "no qemu-io to compare with")
class Scenarios(unittest.TestCase):
    def play(self, script, program):
        with tempfile.TemporaryDirectory(prefix="firn-scene-") as where:
            done = subprocess.run(
                ("bash", "-c", PRELUDE + script), cwd=where, text=True,
                timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, errors="replace",
                env=dict(os.environ, IO=program, IMG=QEMU_IMG))
        return mask(done.stdout), done.returncode

    def test_scripts_do_the_same(self):
        for name, script in SCENARIOS.items():
            with self.subTest(scenario=name):
                peer = self.play(script, QEMU_IO)
                self.assertEqual(self.play(script, FIRN_IO), peer)
                self.assertTrue(peer[0])


if __name__ == "__main__":
    unittest.main()
