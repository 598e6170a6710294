#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each tool is kept out of an image, or let in, by whoever holds it.

qemu-io and firn-io hold an image in each mode; qemu-img and firn-img then try
what they do with it. Whoever holds it and whoever comes, the answer is that of
QEMU alone.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

IO = os.environ["FIRN_IO"]
IMG = os.environ["FIRN_IMG"]
SECONDS = 300

MODES = [(), ("-r",), ("-r", "-U")]
COMMANDS = [
    ("info", "a"), ("info", "-U", "a"), ("check", "a"), ("map", "a"),
    ("snapshot", "-c", "s", "a"), ("resize", "-q", "a", "1M"),
    ("compare", "a", "a"), ("convert", "-U", "-O", "raw", "a", "b"),
]


class Holder:
    """An interactive session that has the image a open."""

    def __init__(self, tool, mode, cwd):
        self.child = subprocess.Popen(
            ["stdbuf", "-oL", tool, *mode, "a"], cwd=cwd, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.alarm = threading.Timer(SECONDS, self.child.kill)
        self.alarm.start()

    def __enter__(self):
        self.child.stdin.write("length\n")
        self.child.stdin.flush()
        self.line = self.child.stdout.readline()
        return self

    def __exit__(self, *exception):
        self.child.stdin.close()
        self.child.stdout.read()
        self.child.stdout.close()
        self.child.wait()
        self.alarm.cancel()


class Locks(unittest.TestCase):
    def statuses(self, holder, mode, img):
        with tempfile.TemporaryDirectory() as d:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "a",
                            "1M"], cwd=d, check=True, timeout=SECONDS)
            with Holder(holder, mode, d) as h:
                self.assertIn("1 MiB", h.line)
                return [subprocess.run(
                    [img, *command], cwd=d, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    timeout=SECONDS, check=False).returncode
                    for command in COMMANDS]

    def test_everybody_is_excluded_as_among_qemu_tools(self):
        for mode in MODES:
            want = self.statuses("qemu-io", mode, "qemu-img")
            for holder, img in ((IO, IMG), (IO, "qemu-img"),
                                ("qemu-io", IMG)):
                with self.subTest(mode=mode, holder=holder, img=img):
                    self.assertEqual(self.statuses(holder, mode, img), want)

    def test_the_modes_differ(self):
        self.assertEqual(self.statuses(IO, (), IMG)[:4], [1, 0, 1, 1])
        self.assertEqual(self.statuses(IO, ("-r",), IMG)[3:6], [0, 1, 1])
        self.assertEqual(set(self.statuses(IO, ("-r", "-U"), IMG)), {0})


if __name__ == "__main__":
    if not shutil.which("qemu-io") or not shutil.which("qemu-img"):
        print("qemu-img and qemu-io are not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
