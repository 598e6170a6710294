#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A minute of differential.py: firn and QEMU do the same, against a model.

FIRN_DIFF_SECONDS sets another time, FIRN_DIFF_SEED another beginning.
"""

import os
import time
import unittest

import differential


# Each of these once found something.
KNOWN_SEEDS = (2, 12, 107, 124, 100027, 100330, 100349)


class TestDifferential(unittest.TestCase):
    def setUp(self):
        self.programs = [differential.Firn(os.environ['FIRN_QCOW2_TOOL']),
                         differential.Qemu()]

    def test_seeds_that_once_found_something(self):
        for seed in KNOWN_SEEDS:
            with self.subTest(seed=seed):
                differential.run_one(seed, self.programs)

    def test_firn_and_qemu_agree_with_the_model_and_each_other(self):
        end = time.monotonic() + float(os.environ.get('FIRN_DIFF_SECONDS',
                                                      '60'))
        first = seed = int(os.environ.get('FIRN_DIFF_SEED', '1'))
        while time.monotonic() < end:
            differential.run_one(seed, self.programs)
            seed += 1
        print('%d seeds from %d on' % (seed - first, first))
        self.assertGreater(seed, first)


if __name__ == '__main__':
    unittest.main()
