#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The manual pages: man/*.1.scd, and what scdoc makes of them.

The linter finds nothing in them; every option that a program takes, as its
--help has it, is explained and used in an example, and no other is; the
examples run and print what they show (doc_examples.py).

`test_man_pages.py --update` puts today's output into the pages and the README,
and below a line "?" too. Environment: FIRN_IMG and so on, as of all
tests here, and FIRN_MAN, where the pages are built.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import doc_examples
import tool_help

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(SOURCE, 'man'))
make_page = __import__('make-page')

NAMES = ['firn-img', 'firn-io', 'firn-vmm', 'firn-vmstate']
# The document, and how its examples are fenced.
README = (os.path.join(SOURCE, 'README.md'), '```console')


# Pieces of several pages; their examples stand by themselves.
COMMON = os.path.join(SOURCE, 'man', 'common.scd')


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


class Page:
    """The source of a page: what it says about options, and its examples."""

    def __init__(self, name, text=None):
        self.name = name
        text = text or make_page.expand(
            source(name), COMMON)
        self.examples = [example.command.replace('\\\n', ' ')
                         for example in doc_examples.examples(text)]
        self.sections = {}
        for part in re.split(r'^#+ ', text, flags=re.M)[1:]:
            title, body = part.split('\n', 1)
            self.sections[title] = body

    def options(self, title):
        """{option: what is said about it}; see tool_help.options()."""
        found = {}
        for item in re.finditer(r'^(\*-.*)\n((?:\t.*\n|\n(?=\t))*)',
                                self.sections.get(title, ''), re.M):
            words = re.findall(r'\*(--?[\w-]+)\*', item[1])
            if len([word for word in words if len(word) == 2]) > 1:
                found.update({(word,): item[2] for word in words})
            else:
                found[tuple(words)] = item[2]
        return found

    def synopsis(self, title):
        """Options of the lines that show the command, None: not listed."""
        shown = self.sections[title].lstrip('\n').split('\n\n')[0]
        if '[_options_]' in shown:
            return None
        return {option
                for dash, word in re.findall(r'\*(--?)([\w-]+)\*', shown)
                for option in ([dash + word] if dash == '--' else
                               [dash + letter for letter in word])}

    def uses(self, command=None):
        """What follows the program's (or the command's) name in examples."""
        if command is None:
            pattern = r'(?:^|[|(] *)%s\b([^|]*)' % self.name
        elif self.name == 'firn-io':
            pattern = r"(?:'|-c |\\n)%s\b((?:[^'\\]|\\(?!n))*)" % command
        else:
            pattern = r'%s (?:-T \S+ )?%s\b([^|;]*)' % (self.name, command)
        return [use for example in self.examples
                for use in re.findall(pattern, example)]


def occurs(option, uses):
    """Is the option, in either spelling, among the words of an example?"""
    for use in uses:
        for word in use.split():
            if word.split('=')[0] in option:
                return True
            # Several letters behind one dash.
            if re.fullmatch(r'-\w+', word) and any(
                    len(o) == 2 and o[1] in word[1:] for o in option):
                return True
    return False


class OptionsTest(unittest.TestCase):
    """A page and the program's --help say the same."""

    # These stand once, above the commands.
    EVERYWHERE = {'firn-img': {('-h', '--help'), ('--object',),
                               ('--image-opts',)},
                  'firn-vmstate': {('--workers',), ('--chunk',), ('--cache',),
                                   ('-U', '--force-share'), ('--image-opts',),
                                   ('-q', '--quiet'), ('-h', '--help')},
                  'firn-io': set(), 'firn-vmm': set()}

    def compare(self, page, title, taken, uses):
        said = page.options(title)
        self.assertEqual(sorted(said), sorted(taken),
                         '%s, %s: explained, and taken' % (page.name, title))
        for option, text in said.items():
            where = '%s, %s: %s' % (page.name, title, option)
            self.assertTrue(text.strip().endswith('.'), where)
            self.assertTrue(occurs(option, uses), where + ' in no example')

    def check(self, name):
        page = Page(name)
        everywhere = self.EVERYWHERE[name]
        self.compare(page, 'OPTIONS', everywhere | set(tool_help.options(
            tool_help.help_text(name))), page.uses())
        for command in tool_help.commands(name):
            taken = set(tool_help.options(tool_help.help_text(name, command)))
            self.assertLessEqual(everywhere, taken, command)
            self.assertIn(command, page.sections)
            self.assertTrue(page.uses(command), command + ' in no example')
            self.compare(page, command, taken - everywhere,
                         page.uses(command))
            self.check_synopsis(page, command, taken - everywhere)

    def check_synopsis(self, page, command, taken):
        shown = page.synopsis(command)
        if shown is None:
            return
        where = '%s, %s: options of the synopsis' % (page.name, command)
        self.assertLessEqual(shown, {o for names in taken for o in names},
                             where)
        for names in taken:
            self.assertTrue(shown & set(names), where + ': %s' % (names,))

    def test_firn_img(self):
        self.check('firn-img')

    def test_firn_io(self):
        self.check('firn-io')

    def test_firn_vmm(self):
        self.check('firn-vmm')

    def test_firn_vmstate(self):
        self.check('firn-vmstate')

    def test_all_events_are_named(self):
        with open(os.path.join(SOURCE, 'include', 'block',
                               'blkdebug-events.h'), encoding='ascii') as file:
            events = re.findall(r'X\(\w+, "(\w+)"\)', file.read())
        self.assertGreater(len(events), 40)
        said = Page('firn-io').sections['Errors and breakpoints: blkdebug']
        said = said.split('The events:')[1]
        self.assertEqual(set(re.findall(r'\*(\w+)\*', said)) | {'none'},
                         set(events))

    def test_what_is_missing_is_noticed(self):
        page = Page('firn-img', '# A\n\n*-x* _y_, *--xx* _y_\n\tAn X.\n\n'
                    '*-z*\n\tA Z.\n\n```\n$ firn-img a -qx 1 | b -z\n```\n')
        uses = page.uses('a')
        self.assertEqual(set(page.options('A')), {('-x', '--xx'), ('-z',)})
        self.assertTrue(occurs(('-x', '--xx'), uses))
        self.assertFalse(occurs(('-z',), uses))
        with self.assertRaises(AssertionError):
            self.compare(page, 'A', {('-x', '--xx'), ('-z',)}, uses)
        with self.assertRaises(AssertionError):
            self.compare(page, 'A', {('-x', '--xx')}, uses)

    def test_a_synopsis_that_differs_is_noticed(self):
        page = Page('firn-img', '# A\n\n*firn-img a* [*-xy*] [*--zz* _n_]\n\n'
                    'Does [*-q*].\n')
        taken = {('-x',), ('-y', '--yy'), ('-z', '--zz')}
        self.check_synopsis(page, 'A', taken)
        for other in (taken | {('-q',)}, taken - {('-x',)}):
            with self.assertRaises(AssertionError):
                self.check_synopsis(page, 'A', other)


class ExamplesTest(unittest.TestCase):

    def run_examples(self, path, *more):
        said = doc_examples.complaints(path, *more)
        self.assertFalse(said, '\n'.join(said))

    def test_examples_of_the_readme(self):
        self.run_examples(*README)

    def test_examples_of_image_options(self):
        self.run_examples(COMMON)

    def test_examples_of_firn_img(self):
        self.run_examples(source('firn-img'))

    def test_examples_of_firn_io(self):
        self.run_examples(source('firn-io'))

    def test_examples_of_firn_vmm(self):
        self.run_examples(source('firn-vmm'))

    def test_examples_of_firn_vmstate(self):
        self.run_examples(source('firn-vmstate'))

    def test_other_output_is_noticed(self):
        with tempfile.NamedTemporaryFile('w', suffix='.scd') as document:
            document.write('```\n$ firn-img --version\nfirn-img version 9.9\n'
                           '$ echo a \\\n    b\na b\n$ false\n```\n')
            document.flush()
            said = doc_examples.complaints(document.name)
        self.assertEqual(len(said), 2, said)
        self.assertIn('should print\nfirn-img version 9.9', said[0])
        self.assertIn('ends with status 1', said[1])


if __name__ == '__main__':
    if sys.argv[1:2] == ['--update']:
        for document in [*zip(map(source, NAMES)), (COMMON,), README]:
            doc_examples.update(*document)
    else:
        unittest.main(verbosity=2)
