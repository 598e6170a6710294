#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Broken images, made from one that QEMU wrote, given to firn-vmstate.

The bulk is done inside one process by tests/fuzz/hostile, which runs here on
the QEMU-made image too. The tool itself is then started on a few hundred
broken copies: it must end by itself, with a status of its own, in time and
within 1 GiB of address space.

FIRN_HOSTILE_ROUNDS is the number of tool runs (1000).
"""

import os
import random
import resource
import shutil
import subprocess
import tempfile
import unittest

import qemu_fixtures

MIB = 1 << 20
TOOL = os.environ.get('FIRN_VMSTATE', 'firn-vmstate')
HOSTILE = os.environ.get('FIRN_HOSTILE', 'hostile')
ROUNDS = int(os.environ.get('FIRN_HOSTILE_ROUNDS', '1000'))
SEED = int(os.environ.get('FIRN_HOSTILE_SEED', '1'))
SECONDS = 60


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def find_metadata(image):
    """(start, bytes) of what the header points to."""
    def number(at, count):
        return int.from_bytes(image[at:at + count], 'big')

    cluster = 1 << number(20, 4)
    ranges = [(0, 112)]
    for pointer in (40, 48, 64):
        start = number(pointer, 8)
        ranges.append((start, 256))
        below = number(start, 8) & 0x00fffffffffffe00
        if pointer != 64 and 0 < below < len(image):
            ranges.append((below, cluster))
    stream = image.find(b'QEVM\0\0\0\3')
    if stream > 0:
        ranges.append((stream, 4096))
    return [r for r in ranges if r[0] + 8 <= len(image)]


def broken_copy(image, ranges, noise):
    """A truncated or bit-flipped copy of the bytes @image."""
    if noise.random() < 0.3:
        return image[:noise.randrange(len(image))]
    data = bytearray(image)
    for _ in range(noise.randint(1, 6)):
        start, length = noise.choice(ranges)
        at = min(start + noise.randrange(length), len(data) - 8)
        if noise.random() < 0.6:
            data[at] ^= 1 << noise.randrange(8)
        else:
            at &= ~7
            data[at:at + 8] = noise.choice(
                (0, 1, 2 ** 64 - 1, 2 ** 63, 2 ** 56 - 512,
                 noise.getrandbits(64))).to_bytes(8, 'big')
    return bytes(data)


class HostileImages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            qemu_fixtures.need(qemu_fixtures.QEMU, qemu_fixtures.QEMU_IMG,
                               'as', 'ld')
        except qemu_fixtures.FixtureMissing as missing:
            raise unittest.SkipTest(str(missing))
        cls.dir = tempfile.mkdtemp(prefix='firn-hostile-')
        cls.image = os.path.join(cls.dir, 'good.qcow2')
        qemu_fixtures.make_snapshot(cls.image, memory=24,
                                    ranges=[(16 * MIB, 65536, 7)])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def test_the_library_survives_a_thousand_of_each(self):
        done = subprocess.run(
            [HOSTILE], env=dict(os.environ, FIRN_HOSTILE_IMAGE=self.image,
                                FIRN_TEST_TIMEOUT='0'),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0,
                         done.stdout.decode('utf-8', 'replace'))

    def test_the_tool_ends_with_an_error_of_its_own(self):
        with open(self.image, 'rb') as good:
            image = good.read()
        ranges = find_metadata(image)
        path = os.path.join(self.dir, 'broken.qcow2')
        refused = 0
        for number in range(ROUNDS):
            noise = random.Random(SEED * 1000003 + number)
            with open(path, 'wb') as broken:
                broken.write(broken_copy(image, ranges, noise))
            command = (['list', path], ['show', path, qemu_fixtures.TAG],
                       ['verify', path, qemu_fixtures.TAG])[number % 3]
            done = subprocess.run([TOOL, *command], timeout=SECONDS,
                                  preexec_fn=limit_memory,
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, check=False)
            said = done.stderr.decode('utf-8', 'replace')
            self.assertIn(done.returncode, (0, 1, 2),
                          'seed %d round %d: %s' % (SEED, number, said))
            self.assertTrue(done.returncode == 0 or said.strip(),
                            'seed %d round %d: no message' % (SEED, number))
            refused += done.returncode != 0
        self.assertGreater(refused, ROUNDS // 4)


if __name__ == '__main__':
    unittest.main(verbosity=2)
