#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What tests of qcow2 images with QEMU as the peer share.

    Peers               a test case with a directory and the programs
    .tool(*commands)    commands for the block layer (tests/support/qcow2-tool)
    .qemu(*command)     qemu-img or qemu-io, which must succeed
    text(size, seed)    bytes that compress to about half
"""

import os
import random
import shutil
import subprocess
import tempfile
import unittest

import quick_kdf  # noqa: F401

TOOL = os.environ.get("FIRN_QCOW2_TOOL", "qcow2-tool")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")
SECONDS = 300

MIB = 1 << 20


def text(size, seed):
    """Lines of words, every other one random: the same for the same seed."""
    rand = random.Random(seed)
    line = bytes(range(97, 123)) * 5
    parts = []
    for at in range(0, size, 130):
        parts.append(rand.randbytes(130) if at // 130 % 2 else line)
    return b"".join(parts)[:size]


class Peers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in (QEMU_IMG, QEMU_IO):
            if shutil.which(program) is None:
                raise unittest.SkipTest(program + " is not installed")
        cls.dir = tempfile.mkdtemp(prefix="firn-peers-")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def put(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def get(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def run_program(self, *command, stdin=None):
        done = subprocess.run(command, input=stdin, timeout=SECONDS,
                              text=True, check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def tool(self, *commands):
        status, output = self.run_program(TOOL, stdin="\n".join(commands))
        self.assertEqual(status, 0, "%s\n%s" % (commands, output))
        return output

    def tool_fails(self, *commands):
        status, output = self.run_program(TOOL, stdin="\n".join(commands))
        self.assertEqual(status, 1, output)
        return output

    def qemu(self, *command):
        status, output = self.run_program(*command)
        self.assertEqual(status, 0, "%s\n%s" % (command, output))
        return output

    def check(self, path):
        """Both checks find nothing."""
        self.qemu(QEMU_IMG, "check", "-q", "-f", "qcow2", path)
        self.tool("open '%s' - check" % path, "check", "close")
