#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The driver's check next to qemu-img check, on the catalogue of damages.

Both print the same JSON; every number and the exit status must be equal. What
the driver has repaired must be clean for qemu-img, whose own repair of the same
damage must not have done better, but for what UNREPAIRED explains.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import qcow2_damage

CHECK = os.environ.get("FIRN_QCOW2_CHECK", "qcow2-check")
SECONDS = 300

# Left as they are, because the repair would have to guess: a pointer is lost,
# or a table that would be written is something else too.
UNREPAIRED = {
    "L2 table reserved bits", "L2 table unaligned", "L2 table past the end",
    "L2 entry reserved bits", "data unaligned", "data past the end",
    "compressed and COPIED", "compressed past the end",
    "an L2 table as data", "L1 table as L2 table", "file cut short",
    "snapshot L1 unaligned", "snapshot L1 too large",
    "snapshot L1 past the end", "bad subclusters",
    "subclusters without storage", "data file, compressed",
    "data file, unaligned", "bitmap data past the end",
    "bitmap table entry reserved bits", "bitmap table unaligned",
}
# qemu-img does not open these, so it has no numbers.
NOT_OPENED = {"bitmap table entry reserved bits", "bitmap table unaligned"}
# The only one of these that qemu-img repairs: it writes flags into a table
# that is a guest's data as well.
QEMU_ALONE = {"an L2 table as data"}


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
        for path in (self.path, self.path + ".data"):
            if os.path.exists(path):
                os.unlink(path)
        qcow2_damage.CATALOGUE[name](self.path)

    def test_every_number_is_what_qemu_says(self):
        for name in qcow2_damage.CATALOGUE:
            if name in NOT_OPENED:
                continue
            with self.subTest(name):
                self.make(name)
                theirs, ours = qemu_check(self.path), our_check(self.path)
                if "not supported" in ours[2]:
                    self.skipTest(name + ": " + ours[2].strip())
                self.assertEqual(ours[1], theirs[1], ours[2])
                self.assertEqual(ours[0], theirs[0])

    def test_repaired_images_are_clean_for_qemu(self):
        for name in qcow2_damage.CATALOGUE:
            with self.subTest(name):
                self.make(name)
                ours = our_check(self.path, "-r", "all")
                if "not supported" in ours[2]:
                    self.skipTest(name + ": " + ours[2].strip())
                theirs = qemu_check(self.path)
                self.assertEqual(ours[0], 2 if name in UNREPAIRED else 0,
                                 ours[2])
                self.assertEqual(theirs[0], 1 if name in NOT_OPENED
                                 else ours[0], theirs[2])

    def test_qemu_repairs_nothing_that_the_driver_does_not(self):
        for name in UNREPAIRED - QEMU_ALONE:
            with self.subTest(name):
                self.make(name)
                self.assertNotEqual(qemu_check(self.path, "-r", "all")[0], 0)

    def test_repair_of_leaks_alone(self):
        for name in ("leak", "refcount too high", "COPIED clear",
                     "bitmaps not current"):
            with self.subTest(name):
                self.make(name)
                self.assertEqual(our_check(self.path, "-r", "leaks")[0], 0)
                self.assertEqual(qemu_check(self.path)[0], 0)
        for name in ("refcount too low", "block twice", "no block"):
            with self.subTest(name):
                self.make(name)
                self.assertEqual(our_check(self.path, "-r", "leaks")[0], 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
