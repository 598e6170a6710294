#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Some seconds of chain_fuzz.py: random operations on random backing chains.

FIRN_CHAIN_SECONDS sets another time, FIRN_CHAIN_SEED another beginning; a seed
is printed with what was found. Half of the time commands are interrupted.
"""

import collections
import os
import time
import unittest

import chain_fuzz


class TestChainFuzz(unittest.TestCase):
    def run_seeds(self, stop):
        end = time.monotonic() + float(os.environ.get('FIRN_CHAIN_SECONDS',
                                                      '10')) / 2
        first = seed = int(os.environ.get('FIRN_CHAIN_SEED', '1'))
        faults, counts = collections.Counter(), collections.Counter()
        while time.monotonic() < end:
            chain_fuzz.run_one(seed, stop, faults, counts, end)
            seed += 1
        print('%d seeds from %d on, %d operations; of QEMU: %r' % (
            seed - first, first, sum(counts.values()), dict(faults)))
        self.assertGreater(seed, first)

    def test_operations_on_chains_leave_sound_images(self):
        self.run_seeds(False)

    def test_interrupted_operations_leave_sound_images(self):
        self.run_seeds(True)


if __name__ == '__main__':
    unittest.main(verbosity=2)
