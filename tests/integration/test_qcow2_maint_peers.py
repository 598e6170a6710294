#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Creating, resizing, amending and committing images, beside qemu-img.

Images that firn makes are checked, opened and changed by qemu-img, and the
other way round, with every option of the format. FIRN_QCOW2_TOOL is a program
that does what its stdin says, a line at a time (tests/support/qcow2-tool.c).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOL = os.environ.get("FIRN_QCOW2_TOOL", "qcow2-tool")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")

CREATE = [
    "compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=4k",
    "cluster_size=2M", "refcount_bits=1", "refcount_bits=2",
    "refcount_bits=64", "lazy_refcounts=on", "compression_type=zstd",
    "extended_l2=on", "extended_l2=on,cluster_size=16k",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full",
    "preallocation=metadata,extended_l2=on",
    "preallocation=metadata,cluster_size=512",
    "preallocation=full,refcount_bits=64,cluster_size=4k",
    "preallocation=metadata,compat=0.10",
]


def run(*args, ok=(0,)):
    done = subprocess.run(args, stdout=subprocess.PIPE, timeout=300,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode not in ok:
        raise AssertionError("%s: %d\n%s" % (" ".join(args), done.returncode,
                                             done.stdout))
    return done.stdout


def firn(*lines, ok=True):
    """Run commands; what they printed without the "ok" lines."""
    done = subprocess.run([TOOL], input="\n".join(lines) + "\n", text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300)
    if ok and done.returncode != 0:
        raise AssertionError("%s\n%s" % ("\n".join(lines), done.stdout))
    return [l for l in done.stdout.splitlines() if l != "ok"]


def qemu_io(path, *commands):
    args = [QEMU_IO, "-f", "qcow2"]
    for c in commands:
        args += ["-c", c]
    out = run(*args, path)
    if "failed" in out or "Pattern verification" in out:
        raise AssertionError(out)


def check(path):
    run(QEMU_IMG, "check", "-f", "qcow2", path)


def info(path):
    return json.loads(run(QEMU_IMG, "info", "--output=json", path))


@unittest.skipUnless(shutil.which(QEMU_IMG) and shutil.which(QEMU_IO),
                     "no qemu-img and qemu-io")
class Maintenance(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        old = os.getcwd()
        os.chdir(self.dir.name)
        self.addCleanup(os.chdir, old)

    def test_images_of_firn_are_used_by_qemu(self):
        for options in CREATE:
            with self.subTest(options):
                firn("create qcow2 a.qcow2 size=9M," + options)
                check("a.qcow2")
                qemu_io("a.qcow2", "read -P 0 0 9M", "write -P 7 100k 3M",
                        "write -z 1M 64k", "write -P 8 8M 1M")
                check("a.qcow2")
                firn("open a.qcow2 -", "read 102400 900k 7",
                     "read 1M 64k 0", "read 8M 1M 8", "read 5M 1M 0")

    def test_images_of_qemu_are_used_by_firn(self):
        for options in CREATE:
            with self.subTest(options):
                run(QEMU_IMG, "create", "-q", "-f", "qcow2", "-o", options,
                    "a.qcow2", "9M")
                firn("open a.qcow2 -", "read 0 9M 0", "write 100k 3M 7",
                     "zero 1M 64k", "write 8M 1M 8")
                check("a.qcow2")
                qemu_io("a.qcow2", "read -P 7 100k 900k", "read -P 0 1M 64k",
                        "read -P 8 8M 1M", "read -P 0 5M 1M")

    def test_sizes_are_those_of_qemu(self):
        for options in CREATE:
            if "preallocation" not in options:
                continue
            with self.subTest(options):
                firn("create qcow2 a.qcow2 size=9M," + options)
                run(QEMU_IMG, "create", "-q", "-f", "qcow2", "-o", options,
                    "b.qcow2", "9M")
                want = json.loads(run(
                    QEMU_IMG, "measure", "--output=json", "-O", "qcow2",
                    "-o", options, "--size", "9M"))
                cluster = info("a.qcow2")["cluster-size"]
                # A refcount table that had to grow leaves its old place.
                for path in "a.qcow2", "b.qcow2":
                    self.assertAlmostEqual(os.path.getsize(path),
                                           want["fully-allocated"],
                                           delta=max(4 * cluster, 32768))

    def test_data_files_of_firn_are_used_by_qemu(self):
        for raw in "off", "on":
            with self.subTest(raw):
                firn("create qcow2 a.qcow2 size=3M,data_file=d.raw,"
                     "data_file_raw=" + raw)
                check("a.qcow2")
                qemu_io("a.qcow2", "write -P 5 1M 64k")
                firn("open a.qcow2 data-file=d.raw", "read 1M 64k 5",
                     "write 2M 64k 6", "resize 5M", "read 3M 2M 0",
                     "write 4M 64k 9", "resize 4M", "resize 5M",
                     "read 4M 64k 0")
                check("a.qcow2")
                qemu_io("a.qcow2", "read -P 6 2M 64k", "read -P 5 1M 64k")
                if raw == "on":
                    self.assertEqual(os.path.getsize("d.raw"), 5 << 20)
                    qemu_args = [QEMU_IMG, "compare", "-f", "raw", "-F",
                                 "qcow2", "d.raw", "a.qcow2"]
                    run(*qemu_args)

    def test_resized_images_are_used_by_qemu(self):
        for options in CREATE:
            with self.subTest(options):
                firn("create qcow2 a.qcow2 size=6M," + options,
                     "open a.qcow2 -", "write 0 6M 1", "resize 2500k",
                     "resize 8M", "read 0 2500k 1", "read 2500k 5692k 0",
                     "resize 9M metadata", "write 8M 1M 2")
                check("a.qcow2")
                qemu_io("a.qcow2", "read -P 1 0 2500k",
                        "read -P 0 2500k 5692k", "read -P 2 8M 1M")
                run(QEMU_IMG, "resize", "-q", "-f", "qcow2", "--shrink",
                    "a.qcow2", "1M")
                firn("open a.qcow2 -", "length", "read 0 1M 1", "resize 3M",
                     "read 1M 2M 0")
                check("a.qcow2")

    def test_what_firn_cut_off_is_zero_when_qemu_grows_the_disk(self):
        for options in ("compat=1.1", "compat=0.10", "cluster_size=2M",
                        "extended_l2=on", "cluster_size=4k"):
            with self.subTest(options):
                firn("create qcow2 a.qcow2 size=4M," + options,
                     "open a.qcow2 -", "write 0 4M 1", "resize 3000832")
                run(QEMU_IMG, "resize", "-q", "a.qcow2", "6M")
                qemu_io("a.qcow2", "read -P 1 0 3000832",
                        "read -P 0 3000832 3M")
                check("a.qcow2")

    def test_data_files_are_resized_amended_and_renamed(self):
        for raw in "off", "on":
            with self.subTest(raw):
                firn("create qcow2 a.qcow2 size=3M,data_file=d.raw,"
                     "data_file_raw=" + raw,
                     "open a.qcow2 allow-data-file=on unmap", "write 0 3M 1",
                     "discard 1M 1M", "resize 5M metadata", "resize 6M full",
                     "write 5M 1M 7", "amend refcount_bits=64",
                     "amend lazy_refcounts=on")
                os.rename("d.raw", "e.raw")
                firn("open a.qcow2 data-file=e.raw", "amend data_file=e.raw")
                qemu_io("a.qcow2", "read -P 7 5M 1M", "read -P 0 1M 1M",
                        "read -P 0 3M 2M", "write -P 8 4M 64k")
                firn("open a.qcow2 allow-data-file=on", "read 4M 64k 8",
                     "dump whole.raw")
                if raw == "on":
                    run("cmp", "e.raw", "whole.raw")
                firn("open a.qcow2 allow-data-file=on",
                     "amend data_file_raw=off,size=4M")
                self.assertFalse(info("a.qcow2")["format-specific"]["data"]
                                 ["data-file-raw"])
                check("a.qcow2")

    def test_amended_images_are_used_by_qemu(self):
        firn("create qcow2 a.qcow2 size=6M,cluster_size=4k",
             "open a.qcow2 -", "write 0 3M 1", "zero 1M 512k",
             "snapshot create s", "zero 2M 64k unmap")
        for options, key, value in (
                ("compat=0.10", "compat", "0.10"),
                ("compat=1.1", "compat", "1.1"),
                ("refcount_bits=64", "refcount-bits", 64),
                ("refcount_bits=2", "refcount-bits", 2),
                ("lazy_refcounts=on", "lazy-refcounts", True),
                ("lazy_refcounts=off,refcount_bits=16", "refcount-bits", 16),
                ("compat=0.10", "compat", "0.10")):
            with self.subTest(options):
                firn("open a.qcow2 -", "amend " + options)
                check("a.qcow2")
                data = info("a.qcow2")["format-specific"]["data"]
                self.assertEqual(data[key], value)
                qemu_io("a.qcow2", "read -P 1 0 1M", "read -P 0 1M 512k",
                        "read -P 0 2M 64k", "read -P 1 2624k 448k")
        run(QEMU_IMG, "amend", "-f", "qcow2", "-o", "compat=1.1", "a.qcow2")
        run(QEMU_IMG, "snapshot", "-a", "s", "a.qcow2")
        firn("open a.qcow2 -", "read 2M 64k 1", "read 1M 512k 0",
             "amend refcount_bits=8")
        check("a.qcow2")

    def test_commits_and_rebases_of_each_are_seen_by_the_other(self):
        firn("create qcow2 base.qcow2 size=4M,cluster_size=4k",
             "create qcow2 top.qcow2 size=6M,backing_file=base.qcow2,"
             "backing_fmt=qcow2")
        qemu_io("base.qcow2", "write -P 1 0 4M")
        qemu_io("top.qcow2", "write -P 2 1M 64k", "write -z 2M 64k",
                "write -P 3 5M 64k")
        firn("open top.qcow2 - commit", "commit", "read 1M 64k 2")
        for path in "base.qcow2", "top.qcow2":
            check(path)
        qemu_io("base.qcow2", "read -P 2 1M 64k", "read -P 0 2M 64k",
                "read -P 1 3M 1M", "read -P 3 5M 64k", "read -P 0 4M 1M")
        top = json.loads(run(QEMU_IMG, "map", "--output=json", "top.qcow2"))
        self.assertFalse([e for e in top if e["depth"] == 0 and e["present"]])
        qemu_io("top.qcow2", "write -P 4 0 64k")
        run(QEMU_IMG, "commit", "-q", "top.qcow2")
        firn("open base.qcow2 -", "read 0 64k 4")
        shutil.copy("base.qcow2", "other.qcow2")
        firn("open top.qcow2 -", "write 64k 64k 5",
             "backing other.qcow2 qcow2")
        self.assertEqual(info("top.qcow2")["backing-filename"], "other.qcow2")
        qemu_io("top.qcow2", "read -P 5 64k 64k", "read -P 4 0 64k")
        run(QEMU_IMG, "rebase", "-u", "-F", "qcow2", "-b", "base.qcow2",
            "top.qcow2")
        firn("open top.qcow2 -", "read 64k 64k 5", "backing - -")
        self.assertNotIn("backing-filename", info("top.qcow2"))
        check("top.qcow2")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
