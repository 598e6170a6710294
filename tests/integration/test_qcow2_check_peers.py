#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The driver's check next to qemu-img check, on the catalogue of damages.

Both print the same JSON; every number and the exit status must be equal.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import qcow2_damage

CHECK = os.environ.get("FIRN_QCOW2_CHECK", "qcow2-check")
SECONDS = 60


def numbers(output):
    """The JSON behind whatever else was printed, without names."""
    start = output.find("{")
    result = json.loads(output[start:]) if start >= 0 else {}
    result.pop("filename", None)
    result.pop("format", None)
    return result


def run(*command):
    done = subprocess.run(command, timeout=SECONDS, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    return done.returncode, numbers(done.stdout), done.stderr


def qemu_check(path, *options):
    return run(qcow2_damage.QEMU_IMG, "check", "-f", "qcow2",
               "--output=json", *options, path)


def our_check(path, *options):
    return run(CHECK, *options, path)


class CheckPeers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in (qcow2_damage.QEMU_IMG, qcow2_damage.QEMU_IO):
            if shutil.which(program) is None:
                raise unittest.SkipTest(program + " is not installed")
        cls.dir = tempfile.mkdtemp(prefix="firn-check-")
        cls.path = os.path.join(cls.dir, "image.qcow2")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def make(self, name):
        if os.path.exists(self.path):
            os.unlink(self.path)
        qcow2_damage.CATALOGUE[name](self.path)

    def test_every_number_is_what_qemu_says(self):
        for name in qcow2_damage.CATALOGUE:
            with self.subTest(name):
                self.make(name)
                theirs, ours = qemu_check(self.path), our_check(self.path)
                if "not supported" in ours[2]:
                    self.skipTest(name + ": " + ours[2].strip())
                self.assertEqual(ours[1], theirs[1], ours[2])
                self.assertEqual(ours[0], theirs[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
