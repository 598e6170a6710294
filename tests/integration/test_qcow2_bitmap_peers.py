#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Persistent bitmaps shared with QEMU 7.2.

Each side makes, reads, changes and keeps current what the other one made. What
is in an image is read by a third party: the parser in this file, which knows
the bytes from the description of the format.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

TOOL = os.environ.get("FIRN_QCOW2_TOOL", "qcow2-tool")
FIRN_IMG = os.environ.get("FIRN_IMG", "firn-img")
FIRN_IO = os.environ.get("FIRN_IO", "firn-io")
SECONDS = 300
MIB = 1 << 20
EXTENSION = 0x23852875


# ---- the parser ----

class Bitmap:
    """One bitmap of an image: name, granularity, flags, set of bits."""

    def __init__(self, image, entry):
        (table, size, self.flags, kind, bits,
         name, extra) = struct.unpack(">QIIBBHI", entry[:24])
        assert kind == 1 and extra == 0
        self.name = entry[24:24 + name].decode()
        self.granularity = 1 << bits
        self.bytes = 24 + (name + 7) // 8 * 8
        self.bits = set()
        for i, e in enumerate(image.words(table, size)):
            self.load(image, i * image.cluster * 8, e)

    def load(self, image, first, entry):
        offset = entry & 0x00fffffffffffe00
        assert entry in (0, 1) or entry == offset, hex(entry)
        if entry == 1:
            data = b"\xff" * image.cluster
        elif offset:
            data = image.read(offset, image.cluster)
        else:
            return
        for at, byte in enumerate(data):
            if byte:
                self.bits.update(first + at * 8 + k for k in range(8)
                                 if byte >> k & 1)


class Image:
    """Header, bitmap extension and bitmaps of a qcow2 file."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.file = f
            head = self.read(0, 112)
            self.cluster = 1 << struct.unpack(">I", head[20:24])[0]
            self.size = struct.unpack(">Q", head[24:32])[0]
            self.consistent = head[95] & 1
            self.bitmaps = {}
            at = struct.unpack(">I", head[100:104])[0]
            while True:
                kind, length = struct.unpack(">II", self.read(at, 8))
                if kind in (0, EXTENSION):
                    break
                at += 8 + (length + 7) // 8 * 8
            self.has_extension = kind == EXTENSION
            if self.has_extension:
                self.load(*struct.unpack(">IIQQ", self.read(at + 8, 24)))

    def read(self, offset, count):
        self.file.seek(offset)
        return self.file.read(count).ljust(count, b"\0")

    def words(self, offset, count):
        return struct.unpack(">%dQ" % count, self.read(offset, count * 8))

    def load(self, count, reserved, size, offset):
        assert reserved == 0
        directory, at = self.read(offset, size), 0
        for _ in range(count):
            bitmap = Bitmap(self, directory[at:])
            self.bitmaps[bitmap.name] = bitmap
            at += bitmap.bytes
        assert at == size

    def areas(self, name):
        """(offset, bytes) of each dirty area, as firn's tool prints them."""
        b, result = self.bitmaps[name], []
        last = -(-self.size // b.granularity)
        assert not b.bits or max(b.bits) < last, "bits past the end"
        for bit in sorted(b.bits):
            start = bit * b.granularity
            end = min(start + b.granularity, self.size)
            if result and result[-1][1] == start:
                result[-1][1] = end
            else:
                result.append([start, end])
        return [(a, z - a) for a, z in result]


# ---- both sides ----

def run(*command, data=None):
    done = subprocess.run(command, timeout=SECONDS, text=True, check=False,
                          input=data if data is not None else "",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def must(*command, data=None):
    status, output = run(*command, data=data)
    if status:
        raise AssertionError("%s: %d\n%s" % (command, status, output))
    return output


def firn(path, *lines, mode="-"):
    """Open, do, close; the lines that the tool answered."""
    script = "\n".join(["open '%s' %s" % (path, mode), *lines, "close"])
    return must(TOOL, data=script + "\n").splitlines()


def firn_areas(path, name):
    lines = firn(path, "bitmap dump " + name, mode="- ro")
    return [tuple(map(int, x.split())) for x in lines if x[0].isdigit()]


def qemu_io(path, *commands):
    args = [x for c in commands for x in ("-c", c)]
    output = must("qemu-io", "-f", "qcow2", *args, path)
    assert "failed" not in output, output


def create(path, size, options=""):
    if os.path.exists(path):
        os.unlink(path)
    must("qemu-img", "create", "-q", "-f", "qcow2",
         *(["-o", options] if options else []), path, str(size))


def bitmap(path, *args):
    """qemu-img bitmap."""
    must("qemu-img", "bitmap", *args[:-1], path, args[-1])


class BitmapPeers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in ("qemu-img", "qemu-io"):
            if shutil.which(program) is None:
                raise unittest.SkipTest(program + " is not installed")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="firn-bitmap-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.path = os.path.join(self.dir, "a.qcow2")
        self.other = os.path.join(self.dir, "b.qcow2")

    def check(self, path=None):
        status, output = run("qemu-img", "check", "-f", "qcow2",
                             path or self.path)
        self.assertEqual(status, 0, output)
        lines = firn(path or self.path, "check", mode="- ro check")
        for key in ("corruptions", "leaks", "check-errors"):
            self.assertIn(key + " 0", lines)

    def qemu_list(self, path=None):
        output = must("qemu-img", "info", "--output=json",
                      path or self.path)
        info = json.loads(output[output.index("{"):]) # after any warning
        return {b["name"]: (b["granularity"], sorted(b["flags"]))
                for b in info["format-specific"]["data"].get("bitmaps", [])}

    def firn_list(self, path=None):
        result = {}
        for line in firn(path or self.path, "bitmap list", mode="- ro"):
            if line != "ok":
                name, granularity, *flags = line.split()
                result[name] = (int(granularity), sorted(flags))
        return result

    def expect(self, areas, *names, path=None):
        """Parser and firn see these areas; QEMU keeps them in a merge."""
        path = path or self.path
        image = Image(path)
        for name in names:
            self.assertEqual(image.areas(name), areas, name)
            self.assertEqual(firn_areas(path, name), areas, name)
            granularity = image.bitmaps[name].granularity
            copy = os.path.join(self.dir, "merged.qcow2")
            create(copy, image.size)
            bitmap(copy, "--add", "-g", str(granularity), "m")
            bitmap(copy, "--merge", name, "-b", path, "-F", "qcow2", "m")
            self.assertEqual(Image(copy).areas("m"), areas, name)

    # ---- made by one, read by the other ----

    def test_bitmaps_of_qemu_are_read(self):
        for options in ("cluster_size=512", "cluster_size=64k",
                        "cluster_size=2M", "extended_l2=on",
                        "cluster_size=4k,refcount_bits=1"):
            with self.subTest(options=options):
                create(self.path, 40 * MIB + 512, options)
                bitmap(self.path, "--add", "--disable", "off")
                for granularity in (512, 65536, MIB):
                    bitmap(self.path, "--add", "-g", str(granularity),
                           "g%d" % granularity)
                qemu_io(self.path, "write 0 512", "write 5M 3M",
                        "write 39M 1049088")
                image = Image(self.path)
                for name in image.bitmaps:
                    self.assertEqual(firn_areas(self.path, name),
                                     image.areas(name))
                self.assertEqual(image.areas("off"), [])
                self.assertEqual(len(image.areas("g512")), 3)
                self.assertEqual(self.firn_list(), self.qemu_list())

    def test_bitmaps_of_firn_are_read(self):
        for options in ("cluster_size=512", "cluster_size=64k",
                        "cluster_size=2M", "extended_l2=on"):
            with self.subTest(options=options):
                create(self.path, 40 * MIB + 512, options)
                firn(self.path, "bitmap add on 512",
                     "bitmap add off 64k disabled", "write 512 512 1",
                     "write 5M 3M 2", "write 41942528 1024 3",
                     "bitmap set off 1M 64k")
                self.expect([(512, 512), (5 * MIB, 3 * MIB),
                             (41942528, 1024)], "on")
                self.expect([(MIB, 65536)], "off")
                self.assertEqual(self.qemu_list(), {
                    "on": (512, ["auto"]), "off": (65536, [])})
                self.check()

    def test_names_may_be_long_and_many(self):
        create(self.path, MIB)
        firn(self.path, *("bitmap add %s 64k" % (chr(97 + i % 26) * (i + 1))
                          for i in range(60)), "write 0 1 1")
        self.assertEqual(len(self.qemu_list()), 60)
        self.assertEqual(self.firn_list(), self.qemu_list())
        self.expect([(0, 65536)], "a", "h" * 60)
        self.check()

    def test_a_whole_disk_of_ones(self):
        create(self.path, 64 * MIB, "cluster_size=512")
        firn(self.path, "bitmap add b 512 disabled", "bitmap set b 0 64M")
        self.expect([(0, 64 * MIB)], "b")
        qemu_io(self.path, "write 0 512")
        firn(self.path, "bitmap reset b 1M 4k")
        self.expect([(0, MIB), (MIB + 4096, 63 * MIB - 4096)], "b")
        self.check()

    def test_a_disk_of_no_bytes_gets_no_bitmap(self):
        """QEMU opens no image that has one: its table would be empty."""
        def refused(*words):
            done = subprocess.run(words, capture_output=True, text=True,
                                  timeout=SECONDS, check=False)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("a disk of no bytes cannot keep", done.stderr)
            self.check()
            return self.qemu_list()

        create(self.path, 0)
        self.assertEqual(refused(FIRN_IMG, "bitmap", "--add", self.path, "b"),
                         {})
        subprocess.run(("qemu-img", "snapshot", "-c", "empty", self.path),
                       check=True)
        subprocess.run(("qemu-img", "resize", "-q", self.path, "1M"),
                       check=True)
        bitmap(self.path, "--add", "b")
        for words in ((FIRN_IO, "-c", "truncate 0", self.path),
                      (FIRN_IMG, "snapshot", "-a", "empty", self.path)):
            self.assertEqual(refused(*words), {"b": (65536, ["auto"])})

    # ---- kept current by both ----

    def test_sessions_in_turn(self):
        rand = random.Random(3)
        size, options = 24 * MIB, ("cluster_size=512", "cluster_size=64k")
        for option in options:
            create(self.path, size, option)
            bitmap(self.path, "--add", "-g", "4096", "q")
            firn(self.path, "bitmap add f 4096")
            dirty = set()
            for turn in range(7):
                writes = []
                for _ in range(rand.randrange(1, 5)):
                    at = rand.randrange(size // 512) * 512
                    n = min(rand.randrange(1, 200) * 512, size - at)
                    writes.append((at, n))
                    dirty.update(range(at // 4096, (at + n - 1) // 4096 + 1))
                verb = ("write", "zero", "discard")[turn % 3]
                if turn % 2:
                    verb = {"zero": "write -z"}.get(verb, verb)
                    qemu_io(self.path, *("%s %d %d" % (verb, a, n)
                                         for a, n in writes))
                elif verb == "discard":
                    firn(self.path, *("zero %d %d unmap" % w
                                      for w in writes), mode="- unmap")
                else:
                    firn(self.path, *("%s %d %d 7" % (verb, a, n)
                                      for a, n in writes))
                image = Image(self.path)
                self.assertEqual(image.bitmaps["q"].bits, dirty, turn)
                self.assertEqual(image.bitmaps["f"].bits, dirty, turn)
                self.check()
            self.expect(Image(self.path).areas("q"), "q", "f")

    def test_the_same_changes_by_both(self):
        firn_side = [
            "bitmap disable a", "bitmap clear b", "bitmap remove c",
            "bitmap add e 32k disabled", "bitmap enable d",
            "bitmap merge e a", "bitmap merge d s '%s'",
        ]
        qemu_side = [
            ("--disable", "a"), ("--clear", "b"), ("--remove", "c"),
            ("--add", "--disable", "-g", "32768", "e"), ("--enable", "d"),
            ("--merge", "a", "e"), ("--merge", "s", "-b", None, "-F",
                                    "qcow2", "d"),
        ]
        source = os.path.join(self.dir, "s.qcow2")
        create(source, 8 * MIB, "cluster_size=4k")
        bitmap(source, "--add", "-g", "512", "s")
        qemu_io(source, "write 6M 512")
        create(self.path, 8 * MIB)
        for name in "abc":
            bitmap(self.path, "--add", "-g", "65536", name)
        bitmap(self.path, "--add", "--disable", "-g", "4096", "d")
        qemu_io(self.path, "write 1M 128k", "write 7M 1")
        shutil.copy(self.path, self.other)
        for ours, theirs in zip(firn_side, qemu_side):
            firn(self.path, ours % source if "%" in ours else ours)
            bitmap(self.other, *(source if x is None else x
                                 for x in theirs))
            x, y = Image(self.path), Image(self.other)
            self.assertEqual(self.qemu_list(), self.qemu_list(self.other))
            self.assertEqual(self.firn_list(), self.firn_list(self.other))
            for name in y.bitmaps:
                self.assertEqual(x.areas(name), y.areas(name), ours)
            self.check()
        firn(self.path, *("bitmap remove " + n for n in "abde"))
        self.assertFalse(Image(self.path).has_extension)
        self.check()

    def test_convert_takes_bitmaps_along(self):
        create(self.path, 8 * MIB)
        firn(self.path, "bitmap add b 4k", "write 3M 5000 1")
        must("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2",
             "--bitmaps", self.path, self.other)
        self.expect([(3 * MIB, 8192)], "b", path=self.other)

    def test_resize_by_both(self):
        create(self.path, 8 * MIB, "cluster_size=512")
        firn(self.path, "bitmap add b 512", "write 4M 512 1")
        must("qemu-img", "resize", "-f", "qcow2", self.path, "12M")
        self.expect([(4 * MIB, 512)], "b")
        firn(self.path, "resize 16M", "write 8M 512 1")
        # What firn adds counts as written, see dirty-bitmap.h.
        self.expect([(4 * MIB, 512), (8 * MIB, 512), (12 * MIB, 4 * MIB)],
                    "b")
        self.check()

    def test_measure_counts_bitmaps_as_qemu_does(self):
        create(self.path, 200 * MIB + 512)
        self.compare_measure("-")
        firn(self.path, "bitmap add b 512", "bitmap add longer-name 64k",
             "write 1M 512 1")
        for options in ("-", "cluster_size=512", "cluster_size=4k"):
            self.compare_measure(options)
        self.kill_firn()
        firn(self.path, "bitmap add c 1M")
        self.compare_measure("-")

    def compare_measure(self, options):
        theirs = json.loads(must(
            "qemu-img", "measure", "-O", "qcow2", "--output=json",
            *([] if options == "-" else ["-o", options]), self.path))
        lines = firn(self.path, "measure qcow2 " + options, mode="- ro")
        self.assertIn("bitmaps %d" % theirs["bitmaps"], lines)

    # ---- who dies ----

    def kill_firn(self, *lines):
        """Do @lines in an open image, then be killed."""
        with subprocess.Popen([TOOL], stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE) as tool:
            for line in ("open '%s' -" % self.path, *lines):
                tool.stdin.write(line + "\n")
                tool.stdin.flush()
                self.assertEqual(tool.stdout.readline(), "ok\n")
            tool.kill()
            tool.wait(SECONDS)

    def test_firn_killed_leaves_bitmaps_in_use(self):
        create(self.path, 8 * MIB)
        bitmap(self.path, "--add", "b")
        self.kill_firn("write 0 512 1")
        self.assertEqual(self.qemu_list(), {"b": (65536, ["auto", "in-use"])})
        self.assertEqual(self.firn_list(), self.qemu_list())
        self.assertTrue(Image(self.path).consistent)
        qemu_io(self.path, "write 1M 512")
        status, output = run("qemu-img", "bitmap", "--clear", self.path, "b")
        self.assertEqual(status, 1, output)
        firn(self.path, "write 2M 512 1")
        self.assertEqual(self.qemu_list(), {"b": (65536, ["auto", "in-use"])})
        self.check()
        bitmap(self.path, "--remove", "b")
        self.check()

    def test_firn_killed_before_it_wrote_leaves_them_in_use_too(self):
        create(self.path, 8 * MIB)
        bitmap(self.path, "--add", "b")
        self.kill_firn()
        self.assertEqual(self.qemu_list(), {"b": (65536, ["auto", "in-use"])})
        self.check()

    def test_qemu_killed_leaves_bitmaps_that_firn_distrusts(self):
        create(self.path, 8 * MIB)
        firn(self.path, "bitmap add b 64k", "bitmap add c 64k disabled")
        run("qemu-io", "-f", "qcow2", "-c", "write 0 512", "-c", "abort",
            self.path)
        self.assertEqual(self.firn_list(), {
            "b": (65536, ["auto", "in-use"]), "c": (65536, ["in-use"])})
        for line in ("bitmap clear b", "bitmap dump c", "bitmap enable c",
                     "resize 16M"):
            status, output = run(TOOL, data="open '%s' -\n%s\n" % (self.path,
                                                                    line))
            self.assertEqual(status, 1, line)
            self.assertIn("inconsistent", output)
        firn(self.path, "write 0 1 1", "bitmap remove b", "bitmap remove c",
             "bitmap add b 64k", "resize 16M")
        self.assertEqual(self.qemu_list(), {"b": (65536, ["auto"])})
        self.check()

    def test_bitmaps_of_a_writer_without_knowledge(self):
        create(self.path, 8 * MIB)
        firn(self.path, "bitmap add b 64k", "write 0 1 1")
        with open(self.path, "r+b") as f:
            f.seek(88)
            f.write(bytes(8))
        self.assertEqual(self.firn_list(), {})
        self.assertEqual(self.firn_list(), self.qemu_list())
        firn(self.path, "write 0 1 1")
        self.assertFalse(Image(self.path).has_extension)
        status, output = run("qemu-img", "check", "-r", "leaks", self.path)
        self.assertEqual(status, 0, output)
        self.check()


if __name__ == "__main__":
    unittest.main(verbosity=2)
