#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-img beside qemu-img, one command line after the other.

The lines are in img_lines.txt, grouped by subcommand; see
img_conformance.py for what is compared. What the two tools themselves say they
take is compared with the lines: no subcommand and no option may be missing.
"""

import concurrent.futures
import os
import re
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import img_conformance as conformance  # noqa: E402

AT_LEAST = 450
WORKERS = 3
# Lines that succeed, print nothing and change nothing: a tool that does
# nothing passes them.
SILENT = 12
# What scripts use and qemu-img 7.2 does not tell of.
EXTRA = {'commit': ['-c'], 'measure': ['-U'],
         'main': ['--version', '-V', '--help', '-h', '-T', '--trace']}
# What firn-img has and qemu-img 7.2 has not, so there is nothing to compare.
OURS = {'snapshot': {'-f'}}
WORD = re.compile(r'(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z]|[a-z]+(?==))(?![a-z])')


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


LINES = groups()


@unittest.skipUnless(shutil.which('qemu-img') and shutil.which('qemu-io'),
                     'no qemu-img')
class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-img-')
        cls.pair = conformance.Pair(cls.dir)
        cls.pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        wanted = os.environ.get('FIRN_LINES', '')
        cls.results = {line: cls.pool.submit(cls.pair.compare, line)
                       for lines in LINES.values() for line in lines
                       if wanted in line}

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown()
        shutil.rmtree(cls.dir, ignore_errors=True)

    def result(self, line):
        return self.results[line].result()

    def test_nearly_every_line_can_fail(self):
        silent = [line for line in self.results if not self.result(line)[1]]
        self.assertLessEqual(len(silent), SILENT, '\n'.join(silent))


def add_test(name, lines):
    def test(self):
        for line in lines:
            if line not in self.results:
                continue
            with self.subTest(line=line):
                found = self.result(line)[0]
                self.assertFalse(found, '\n'.join(found))
    test.__doc__ = 'firn-img %s does what qemu-img does' % name
    setattr(Conformance, 'test_' + name, test)


for group, group_lines in LINES.items():
    add_test(group, group_lines)


def qemu_tells():
    """{subcommand: options} of qemu-img --help."""
    _, text, _ = conformance.run([conformance.QEMU_IMG, '--help'], '.')
    syntax = text.split('Command syntax:')[1].split('Command parameters:')[0]
    return {line.split()[0]: set(WORD.findall(line))
            for line in syntax.strip().splitlines()}


def firn_tells():
    """{subcommand: options} of firn-img COMMAND --help, for each COMMAND."""
    program = conformance.FIRN_IMG
    _, text, _ = conformance.run([program, '--help'], '.')
    out = {}
    for name in re.findall(r'^  ([a-z]+)  +[A-Z]', text, re.MULTILINE):
        _, text, _ = conformance.run([program, name, '--help'], '.')
        lines = re.findall(r'^(?:Usage:.*| +-.*?(?=  [^ -]|$))', text,
                           re.MULTILINE)
        found = {word for line in lines for word in WORD.findall(line)}
        out[name] = found - {'-h', '--help'}
    return out


def missing(lines, options):
    """Those of @options that stand in none of @lines, where firn-img runs."""
    steps = [step for line in lines
             for step in re.sub(r'^[!~]+ ', '', line).split(' ; ')
             if not step.startswith(('qemu-img ', 'qemu-io '))]
    words = ' '.join(steps).replace(',', ' ').replace(' +-', ' -')
    return sorted(o for o in options if not re.search(
        r'(^|\s)%s(\s|=|$)' % re.escape(o), words))


@unittest.skipUnless(shutil.which('qemu-img'), 'no qemu-img')
class Coverage(unittest.TestCase):
    """The lines hold everything that a command line can."""

    def test_there_are_enough_and_none_twice(self):
        every = [line for lines in LINES.values() for line in lines]
        self.assertGreaterEqual(len(every), AT_LEAST)
        self.assertEqual(len(set(every)), len(every))

    def test_every_line_stands_below_its_subcommand(self):
        for name, lines in LINES.items():
            for line in lines:
                if name != 'main':
                    self.assertRegex(line, r'(^|[!~] |; )%s( |$)' % name)

    def test_every_subcommand_and_option_occurs(self):
        for program, options in (('qemu-img', qemu_tells()),
                                 ('firn-img', firn_tells())):
            self.assertGreaterEqual(len(options), 15, program)
            for name, found in options.items():
                with self.subTest(program=program, command=name):
                    self.assertGreater(len(found), 3)
                    self.assertIn(name, LINES)
                    found -= OURS.get(name, set())
                    self.assertEqual(missing(LINES[name], found), [])

    def test_the_extra_options_occur(self):
        for name, options in EXTRA.items():
            with self.subTest(command=name):
                self.assertEqual(missing(LINES[name], options), [])

    def test_an_option_that_is_missing_is_seen(self):
        self.assertEqual(missing(['x -a --bc=1 if=2 +-p',
                                  '! qemu-io -c x y ; x ; qemu-img x -q'],
                                 ['-a', '-b', '--bc', '--b', 'if', 'f', '-c',
                                  '-q', '-p']),
                         ['--b', '-b', '-c', '-q', 'f'])


if __name__ == '__main__':
    unittest.main()
