#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Features that each work alone, together in one image.

One life of an image, for each combination of create options and with backing
files shorter and longer than the disk: written, compressed, saved in snapshots,
resized, amended and emptied, by firn and QEMU in turns. After each step both
find it clean and read the same.
"""

import unittest

from qcow2_peers import MIB, QEMU_IMG, QEMU_IO, Peers

SECRET = ("--object", "secret,id=s,data=abc")
LUKS = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"

# Create options, and MiB of backing file (0: none); the disk has 4.
LIVES = (
    ("extended_l2=on,compression_type=zstd,lazy_refcounts=on", 8),
    ("cluster_size=512,compression_type=zstd", 2),
    ("cluster_size=2M,refcount_bits=64", 8),
    ("refcount_bits=1", 2),
    ("compat=0.10,cluster_size=512", 0),
    (LUKS + ",extended_l2=on,lazy_refcounts=on", 8),
    ("data_file=%s,extended_l2=on", 2),
    ("data_file=%s,data_file_raw=on,cluster_size=512", 0),
)


class Life:
    """One image and how both programs open it."""

    def __init__(self, case, number, options, backing):
        self.case = case
        self.path = case.path("life%u.qcow2" % number)
        self.luks = "luks" in options
        self.external = "data_file" in options
        self.version2 = "0.10" in options
        self.snapshots = not self.external and "bits=1" not in options
        self.backing = backing
        if self.external:
            options = options % (self.path + ".data")
        create = "create qcow2 '%s' size=4M,%s" % (self.path, options)
        commands = ["secret s data=abc"]
        if backing:
            base = self.path + ".base"
            create += ",backing_file=%s,backing_fmt=raw" % base
            commands += ["create raw '%s' size=%uM" % (base, backing),
                         "open '%s' driver=raw" % base,
                         "write 0 %uM 170" % backing, "close"]
        case.tool(*commands, create)

    def key(self):
        return ",encrypt.key-secret=s" if self.luks else ""

    def firn(self, *commands):
        self.case.tool("secret s data=abc",
                       "open '%s' driver=qcow2,allow-data-file=on%s unmap"
                       % (self.path, self.key()), *commands, "close")
        self.agree()

    def qemu(self, program, before, after):
        secret = SECRET if self.luks else ()
        return self.case.qemu(program, *before, *secret, "--image-opts",
                              "driver=qcow2,file.filename=%s%s"
                              % (self.path, self.key()), *after)

    def qemu_io(self, *commands):
        before = ["-d", "unmap"]
        for command in commands:
            before += ["-c", command]
        self.qemu(QEMU_IO, before, ())
        self.agree()

    def agree(self):
        """Both checks are clean and both read the same."""
        self.qemu(QEMU_IMG, ("check", "-q"), ())
        ours, theirs = (self.case.path(n) for n in ("ours", "theirs"))
        output = self.case.tool(
            "secret s data=abc",
            "open '%s' driver=qcow2,allow-data-file=on ro check nobacking"
            % self.path, "check", "close",
            "open '%s' driver=qcow2,allow-data-file=on%s ro"
            % (self.path, self.key()), "dump '%s'" % ours, "close")
        self.case.assertIn("corruptions 0\nleaks 0\n", output)
        self.qemu(QEMU_IMG, ("convert", "-O", "raw"), (theirs,))
        self.case.assertEqual(self.case.get("ours"), self.case.get("theirs"))


class Combinations(Peers):
    def snapshots(self, life):
        life.firn("snapshot create s1")
        life.qemu(QEMU_IMG, ("snapshot", "-c", "s2"), ())
        life.qemu_io("write -P 6 0 300k")
        life.firn("discard 1M 1M", "write 3M 100k 7",
                  "zero 3500k 100k unmap")
        life.firn("snapshot apply s2", "read 0 100k 1", "read 100k 50k 3",
                  "snapshot delete s1")

    def sizes(self, life):
        life.firn("resize 3M", "resize 6M", "read 5M 1M 0")
        life.qemu_io("write -P 9 5M 1M")
        if not life.backing and not life.luks:
            life.firn("read 5M 1M 9", "resize 7M metadata",
                      "resize 8M falloc", "read 6M 2M 0")

    def live(self, life):
        life.firn("write 0 1M 1", "write 1500k 300k 2")
        life.qemu_io("write -P 3 100k 50k", "write -z 200k 100k")
        if not life.luks and not life.external:
            life.firn("writec 2M 2M 4")
            life.qemu_io("read -P 4 2M 2M", "write -P 5 2100k 100k")
        if life.snapshots:
            self.snapshots(life)
        if not life.version2:
            self.sizes(life)
            life.firn("amend refcount_bits=64,lazy_refcounts=on")
            life.firn("amend refcount_bits=16")
        if life.snapshots:
            life.firn("snapshot apply s2", "snapshot delete s2")
        life.firn("empty")
        if not life.backing:
            life.firn("read 0 %u 0" % (3 * MIB))

    def test_whole_lives(self):
        for number, (options, backing) in enumerate(LIVES):
            with self.subTest(options, backing=backing):
                self.live(Life(self, number, options, backing))


if __name__ == "__main__":
    unittest.main(verbosity=2)
