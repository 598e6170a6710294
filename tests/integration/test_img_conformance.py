#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-img beside qemu-img, one command line after the other.

The lines are in img_lines.txt, grouped by subcommand; see
img_conformance.py for what is compared.
"""

import os
import re
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import img_conformance as conformance  # noqa: E402


def groups():
    """{subcommand: [line, ...]}"""
    out, name = {}, None
    with open(os.path.join(HERE, 'img_lines.txt')) as f:
        for line in f:
            line = line.rstrip('\n')
            found = re.match(r'\[(\w+)\]$', line)
            if found:
                name = found.group(1)
                out[name] = []
            elif line and not line.startswith('#'):
                out[name].append(line)
    return out


@unittest.skipUnless(shutil.which('qemu-img') and shutil.which('qemu-io'),
                     'no qemu-img')
class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-img-')
        cls.fixtures = os.path.join(cls.dir, 'fixtures')
        conformance.make_fixtures(cls.fixtures)
        cls.pair = conformance.Pair(cls.fixtures, cls.dir)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir, ignore_errors=True)


def add_test(name, lines):
    def test(self):
        for line in lines:
            with self.subTest(line=line):
                found = self.pair.compare(line)
                self.assertFalse(found, '\n'.join(found))
    test.__doc__ = 'firn-img %s does what qemu-img does' % name
    setattr(Conformance, 'test_' + name, test)


for group, group_lines in groups().items():
    add_test(group, group_lines)

if __name__ == '__main__':
    unittest.main()
