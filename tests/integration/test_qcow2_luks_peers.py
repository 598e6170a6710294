#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Encrypted images, made by firn and opened by QEMU and the reverse."""

import json
import unittest

from qcow2_peers import MIB, QEMU_IMG, QEMU_IO, Peers, text

SECRET = ("--object", "secret,id=s,data=abc")
WRONG = ("--object", "secret,id=s,data=abd")
OURS = "secret s data=abc"
KEY = "encrypt.key-secret=s"
LUKS = "encrypt.format=luks,%s,encrypt.iter-time=10" % KEY

GEOMETRIES = (
    "", "cluster_size=512,refcount_bits=2", "cluster_size=2M", "compat=0.10",
    "cluster_size=64k,extended_l2=on", "preallocation=metadata",
    "encrypt.cipher-alg=aes-128",
    "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,"
    "encrypt.ivgen-hash-alg=sha256",
    "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain",
    "encrypt.hash-alg=sha512",
)

THEIRS = (
    "cluster_size=512,refcount_bits=2", "compat=0.10",
    "cluster_size=64k,extended_l2=on,encrypt.cipher-alg=aes-128",
    "preallocation=metadata,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,"
    "encrypt.ivgen-hash-alg=sha256,encrypt.hash-alg=sha512",
)


def options(geometry):
    return LUKS + ("," + geometry if geometry else "")


class LuksPeers(Peers):
    size = 3 * MIB

    def image_opts(self, image):
        return "driver=qcow2,file.filename=%s,%s" % (image, KEY)

    def qemu_io(self, image, *commands, secret=SECRET):
        arguments = []
        for c in commands:
            arguments += ["-c", c]
        return self.run_program(QEMU_IO, *secret, "--image-opts", *arguments,
                                self.image_opts(image))

    def check(self, path):
        self.qemu(QEMU_IMG, "check", *SECRET, "--image-opts",
                  self.image_opts(path))
        self.tool("open '%s' - check" % path, "check", "close")

    def qemu_io_ok(self, image, *commands):
        status, output = self.qemu_io(image, *commands)
        self.assertEqual(status, 0, output)

    def test_qemu_opens_what_firn_creates(self):
        image = self.path("ours.qcow2")
        raw = self.put("plain.raw", text(self.size, 1))
        for geometry in GEOMETRIES:
            with self.subTest(geometry):
                self.tool(OURS, "create qcow2 '%s' size=%u,%s"
                          % (image, self.size, options(geometry)),
                          "open '%s' %s" % (image, KEY),
                          "load 0 '%s'" % raw, "zero 1M 100k",
                          "discard 2M 128k", "close")
                self.check(image)
                self.qemu_io_ok(image, "read -P 0 1M 100k",
                                "write -P 9 70000 70000")
                self.check(image)
                self.tool(OURS, "open '%s' %s" % (image, KEY),
                          "read 70000 70000 9", "read 1M 100k 0",
                          "dump '%s'" % self.path("dump.raw"), "close")
                want = text(70000, 1)
                self.assertEqual(self.get("dump.raw")[:70000], want)
                out = self.path("theirs.raw")
                self.qemu(QEMU_IMG, "convert", *SECRET, "--image-opts", "-O",
                          "raw", self.image_opts(image), out)
                self.assertEqual(self.get("theirs.raw"),
                                 self.get("dump.raw"))

    def test_firn_opens_what_qemu_creates(self):
        image = self.path("theirs.qcow2")
        for geometry in THEIRS:
            with self.subTest(geometry):
                self.qemu(QEMU_IMG, "create", "-q", "-f", "qcow2", *SECRET,
                          "-o", options(geometry), image, str(self.size))
                self.qemu_io_ok(image, "write -P 1 0 1M",
                                "write -z 512k 64k")
                self.tool(OURS, "open '%s' %s" % (image, KEY),
                          "read 0 512k 1", "read 512k 64k 0",
                          "read 576k 448k 1", "write 300000 77777 2",
                          "zero 900k 10k", "snapshot create one",
                          "write 0 4k 3", "close")
                self.check(image)
                self.qemu_io_ok(image, "read -P 2 300000 77777",
                                "read -P 0 900k 10k", "read -P 3 0 4k",
                                "read -P 1 4k 64k")
                self.qemu(QEMU_IMG, "snapshot", *SECRET, "--image-opts",
                          "-a", "one", self.image_opts(image))
                self.tool(OURS, "open '%s' %s" % (image, KEY),
                          "read 0 290k 1", "snapshot delete one", "close")
                self.check(image)

    def test_both_refuse_the_wrong_passphrase(self):
        ours, theirs = self.path("w1.qcow2"), self.path("w2.qcow2")
        self.tool(OURS, "create qcow2 '%s' size=1M,%s" % (ours, LUKS))
        self.qemu(QEMU_IMG, "create", "-q", "-f", "qcow2", *SECRET, "-o",
                  LUKS, theirs, "1M")
        for image in (ours, theirs):
            self.assertIn("passphrase", self.tool_fails(
                "secret s data=abd", "open '%s' %s" % (image, KEY)))
            self.assertIn("encrypt.key-secret", self.tool_fails(
                "open '%s'" % image))
            status, output = self.qemu_io(image, "read 0 4k", secret=WRONG)
            self.assertEqual(status, 1)
            self.assertIn("password", output)

    def test_qemu_sees_the_encryption(self):
        image = self.path("info.qcow2")
        self.tool(OURS, "create qcow2 '%s' size=1M,%s" % (image, LUKS))
        info = json.loads(self.qemu(QEMU_IMG, "info", "--output=json", image))
        luks = info["format-specific"]["data"]["encrypt"]
        self.assertTrue(info["encrypted"])
        self.assertEqual((luks["format"], luks["cipher-alg"],
                          luks["cipher-mode"], luks["ivgen-alg"],
                          luks["hash-alg"]),
                         ("luks", "aes-256", "xts", "plain64", "sha256"))
        self.assertEqual([s["active"] for s in luks["slots"]],
                         [True] + 7 * [False])

    def test_every_passphrase_of_an_image_opens_it(self):
        image = self.path("slots.qcow2")
        self.tool(OURS, "create qcow2 '%s' size=1M,%s" % (image, LUKS),
                  "open '%s' %s" % (image, KEY), "write 0 64k 5", "close")
        self.qemu(QEMU_IMG, "amend", *SECRET, "--object",
                  "secret,id=n,data=new", "--image-opts", "-o",
                  "encrypt.new-secret=n,encrypt.state=active,"
                  "encrypt.iter-time=10", self.image_opts(image))
        self.tool("secret s data=new", "open '%s' %s" % (image, KEY),
                  "read 0 64k 5", "close")
        self.tool(OURS, "open '%s' %s" % (image, KEY), "read 0 64k 5")

    def test_streams_in_encrypted_images_are_plain_and_read(self):
        image = self.path("c.qcow2")
        raw = self.put("c.raw", b"c" * MIB)
        self.qemu(QEMU_IMG, "create", "-q", "-f", "qcow2", *SECRET, "-o",
                  LUKS, image, "1M")
        self.qemu(QEMU_IMG, "convert", "-n", "-c", "-f", "raw", *SECRET,
                  "--target-image-opts", raw, self.image_opts(image))
        self.tool(OURS, "open '%s' %s" % (image, KEY), "read 0 1M 99",
                  "write 4096 4096 1", "read 0 4k 99", "read 8k 56k 99",
                  "close")
        self.check(image)
        self.qemu_io_ok(image, "read -P 1 4096 4096", "read -P 99 8k 56k")

    def test_measure_counts_the_header(self):
        for geometry in ("", "cluster_size=512"):
            ours = self.tool(OURS, "measure qcow2 size=64M,%s"
                             % options(geometry))
            theirs = json.loads(self.qemu(
                QEMU_IMG, "measure", *SECRET, "-O", "qcow2", "--output=json",
                "--size", "64M", "-o", options(geometry)))
            self.assertIn("fully-allocated %u\n" % theirs["fully-allocated"],
                          ours)


if __name__ == "__main__":
    unittest.main(verbosity=2)
