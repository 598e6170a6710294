#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compressed clusters, written by firn and read by QEMU and the reverse."""

import json
import unittest
import zlib

from qcow2_peers import MIB, QEMU_IMG, QEMU_IO, Peers, text

GEOMETRIES = (
    "cluster_size=512", "cluster_size=4k", "cluster_size=64k",
    "cluster_size=2M", "cluster_size=4k,refcount_bits=1",
    "cluster_size=64k,compression_type=zstd",
    "cluster_size=4k,compression_type=zstd,refcount_bits=2",
    "compat=0.10,cluster_size=4k", "cluster_size=64k,extended_l2=on",
)


def entries(image):
    """Every compressed L2 entry as (host offset, bytes)."""
    def be(at, n):
        return int.from_bytes(image[at:at + n], "big")

    bits = be(20, 4)
    version = be(4, 4)
    step = 16 if version >= 3 and be(72, 8) & 16 else 8
    x = 70 - bits
    for i in range(be(36, 4)):
        l2 = be(be(40, 8) + i * 8, 8) & 0x00fffffffffffe00
        for at in range(l2, l2 + (1 << bits) if l2 else l2, step):
            entry = be(at, 8)
            if entry >> 62 & 1:
                offset = entry & ((1 << x) - 1)
                sectors = (entry & ((1 << 62) - 1)) >> x
                yield offset, 512 * (sectors + 1) - offset % 512


class CompressPeers(Peers):
    size = 5 * MIB + 512

    def setUp(self):
        data = bytearray(text(self.size, 1))
        data[MIB:2 * MIB] = bytes(MIB)
        self.data = bytes(data)
        self.raw = self.put("plain.raw", self.data)

    def compare(self, image):
        self.qemu(QEMU_IMG, "compare", "-f", "raw", "-F", "qcow2", self.raw,
                  image)

    def test_qemu_reads_what_firn_compressed(self):
        image = self.path("ours.qcow2")
        for geometry in GEOMETRIES:
            with self.subTest(geometry):
                self.tool("create qcow2 '%s' size=%u,%s"
                          % (image, self.size, geometry),
                          "open '%s'" % image,
                          "load 0 '%s' compressed" % self.raw, "close")
                self.compare(image)
                self.check(image)
                found = sum(1 for _ in entries(self.get("ours.qcow2")))
                self.assertGreater(found, 0)

    def test_streams_are_read_with_a_window_of_4k(self):
        image = self.path("window.qcow2")
        self.tool("create qcow2 '%s' size=%u" % (image, self.size),
                  "open '%s'" % image,
                  "load 0 '%s' compressed" % self.raw, "close")
        file = self.get("window.qcow2")
        for offset, n in entries(file):
            # A byte at a time, so that output behind the window is gone.
            decoder = zlib.decompressobj(-12)
            stream, out = file[offset:offset + n], 0
            while out < 65536:
                piece = decoder.decompress(stream, 1)
                self.assertTrue(piece)
                stream, out = decoder.unconsumed_tail, out + len(piece)
            break

    def test_firn_reads_and_overwrites_what_qemu_compressed(self):
        image = self.path("theirs.qcow2")
        for geometry in GEOMETRIES:
            with self.subTest(geometry):
                self.qemu(QEMU_IMG, "convert", "-c", "-f", "raw", "-O",
                          "qcow2", "-o", geometry, self.raw, image)
                dump = self.path("dump.raw")
                self.tool("open '%s' - ro" % image, "dump '%s'" % dump)
                self.assertEqual(self.get("dump.raw"), self.data)
                self.tool("open '%s' - unmap" % image, "write 12345 100000 7",
                          "zero 2M 64k unmap", "discard 3M 1M",
                          "read 12345 100000 7", "read 2M 64k 0", "close")
                self.check(image)
                self.qemu(QEMU_IO, "-f", "qcow2", "-c",
                          "read -P 7 12345 100000", "-c",
                          "read -P 0 2M 64k", image)

    def test_both_write_into_one_image_in_turns(self):
        image = self.path("turns.qcow2")
        self.tool("create qcow2 '%s' size=4M" % image, "open '%s'" % image,
                  "writec 0 256k 1", "snapshot create one", "close")
        self.qemu(QEMU_IO, "-f", "qcow2", "-c", "write -c -P 2 1M 64k",
                  "-c", "write -P 3 0 4k", image)
        self.tool("open '%s' - unmap" % image, "writec 2M 128k 4", "read 1M 64k 2",
                  "read 0 4k 3", "read 4k 252k 1", "discard 1M 64k",
                  "writec 1M 64k 5", "close")
        self.check(image)
        self.qemu(QEMU_IO, "-f", "qcow2", "-c", "read -P 5 1M 64k", "-c",
                  "read -P 4 2M 128k", image)
        self.qemu(QEMU_IMG, "snapshot", "-a", "one", image)
        self.tool("open '%s'" % image, "read 0 256k 1", "read 1M 3M 0",
                  "snapshot delete one", "close")
        self.check(image)

    def test_damaged_streams_are_errors_on_both_sides(self):
        image = self.path("damaged.qcow2")
        self.tool("create qcow2 '%s' size=64k" % image, "open '%s'" % image,
                  "writec 0 64k 1", "close")
        file = bytearray(self.get("damaged.qcow2"))
        offset, _ = next(entries(file))
        for bad in (0xff, 0x07, 0x00):
            file[offset:offset + 8] = bytes([bad]) * 8
            self.put("damaged.qcow2", file)
            self.assertIn("Input/output error", self.tool_fails(
                "open '%s' - ro" % image, "read 0 4k 1"))
            status, output = self.run_program(
                QEMU_IO, "-r", "-f", "qcow2", "-c", "read 0 4k", image)
            self.assertEqual((status, "Input/output error" in output),
                             (1, True), output)

    def test_counts_of_compressed_clusters_agree(self):
        image = self.path("counted.qcow2")
        self.tool("create qcow2 '%s' size=1M" % image, "open '%s'" % image,
                  "writec 0 512k 1", "write 512k 64k 2", "close")
        theirs = json.loads(self.qemu(QEMU_IMG, "check", "-f", "qcow2",
                                      "--output=json", image))
        self.assertEqual(theirs["compressed-clusters"], 8)
        self.assertEqual(theirs["allocated-clusters"], 9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
