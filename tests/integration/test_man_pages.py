#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The manual pages: man/*.1.scd, and what scdoc makes of them.

The linter finds nothing in them, and their examples run and print what they
show (doc_examples.py).

`test_man_pages.py --update [DOCUMENT...]` puts today's output into the
documents, and below a line "?" too. Environment: FIRN_IMG and so on, as of all
tests here, and FIRN_MAN, where the pages are built.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import doc_examples

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
NAMES = ['firn-img', 'firn-io', 'firn-vmm', 'firn-vmstate']


def source(name):
    return os.path.join(SOURCE, 'man', name + '.1.scd')


def lint(page):
    """What mandoc has to say about a page, and its exit status."""
    done = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', page],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@unittest.skipUnless(shutil.which('mandoc'), 'mandoc is not installed')
class LintTest(unittest.TestCase):

    def pages(self):
        where = os.environ.get('FIRN_MAN', '')
        pages = [os.path.join(where, name + '.1') for name in NAMES]
        if not all(map(os.path.exists, pages)):
            self.skipTest('the manual pages were not built (scdoc)')
        return pages

    def test_linter_finds_nothing(self):
        for page in self.pages():
            with self.subTest(page):
                self.assertEqual(lint(page), (0, ''))

    def test_linter_finds_a_mistake(self):
        with open(self.pages()[0], encoding='utf-8') as file:
            text = file.read()
        with tempfile.NamedTemporaryFile('w', suffix='.1') as broken:
            broken.write(text.replace('.SH NAME', '.SHH NAME'))
            broken.flush()
            status, said = lint(broken.name)
        self.assertNotEqual(status, 0)
        self.assertIn('SHH', said)


class ExamplesTest(unittest.TestCase):

    def run_examples(self, name):
        said = doc_examples.complaints(source(name))
        self.assertFalse(said, '\n'.join(said))

    def test_examples_of_firn_img(self):
        self.run_examples('firn-img')

    def test_examples_of_firn_io(self):
        self.run_examples('firn-io')

    def test_examples_of_firn_vmm(self):
        self.run_examples('firn-vmm')

    def test_examples_of_firn_vmstate(self):
        self.run_examples('firn-vmstate')

    def test_other_output_is_noticed(self):
        with tempfile.NamedTemporaryFile('w', suffix='.scd') as document:
            document.write('```\n$ firn-img --version\nfirn-img 9.9\n'
                           '$ echo a \\\n    b\na b\n$ false\n```\n')
            document.flush()
            said = doc_examples.complaints(document.name)
        self.assertEqual(len(said), 2, said)
        self.assertIn('should print\nfirn-img 9.9', said[0])
        self.assertIn('ends with status 1', said[1])


if __name__ == '__main__':
    if sys.argv[1:2] == ['--update']:
        for document in sys.argv[2:] or map(source, NAMES):
            doc_examples.update(document)
    else:
        unittest.main(verbosity=2)
