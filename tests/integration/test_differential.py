#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A minute of differential.py: firn and QEMU do the same, against a model.

FIRN_DIFF_SECONDS sets another time, FIRN_DIFF_SEED another beginning.
"""

import os
import time
import unittest

import differential


class TestDifferential(unittest.TestCase):
    def test_firn_and_qemu_agree_with_the_model_and_each_other(self):
        programs = [differential.Firn(os.environ['FIRN_QCOW2_TOOL']),
                    differential.Qemu()]
        end = time.monotonic() + float(os.environ.get('FIRN_DIFF_SECONDS',
                                                      '60'))
        first = seed = int(os.environ.get('FIRN_DIFF_SEED', '1'))
        while time.monotonic() < end:
            differential.run_one(seed, programs)
            seed += 1
        print('%d seeds from %d on' % (seed - first, first))
        self.assertGreater(seed, first)


if __name__ == '__main__':
    unittest.main()
