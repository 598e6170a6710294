#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""completions/firn.bash: what bash would offer at the end of a line."""

import os
import subprocess
import tempfile
import unittest

from tool_help import PROGRAMS, commands, help_text, options

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), 'completions', 'firn.bash')

# As bash does: words are broken at "=" as well.
ASK = r'''
. "$1"; behind=$2; shift 2
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1 - behind))
_firn "$1"
printf '%s\n' "${COMPREPLY[@]}"
'''


class CompletionTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.dir.cleanup)
        programs = os.path.join(cls.dir.name, 'bin')
        cls.cwd = os.path.join(cls.dir.name, 'cwd')
        os.mkdir(programs)
        os.mkdir(cls.cwd)
        for name, variable in PROGRAMS.items():
            os.symlink(os.path.abspath(os.environ[variable]),
                       os.path.join(programs, name))
        cls.env = dict(os.environ, PATH=programs + ':' + os.environ['PATH'])
        for name in 'disk.qcow2', 'disk two.raw', 'other':
            with open(os.path.join(cls.cwd, name), 'w', encoding='ascii'):
                pass

    def offers(self, *words, behind=()):
        """What comes at the end of WORDS; those BEHIND are typed already."""
        done = subprocess.run(['bash', '--norc', '-c', ASK, 'bash', SCRIPT,
                               str(len(behind)), *words, *behind], cwd=self.cwd, env=self.env, text=True,
                              capture_output=True, timeout=300, check=True)
        self.assertEqual(done.stderr, '')
        return set(done.stdout.split('\n')) - {''}

    def test_subcommands(self):
        for name in 'firn-img', 'firn-vmstate':
            self.assertEqual(self.offers(name, ''), set(commands(name)))
        self.assertEqual(self.offers('firn-img', 're'), {'rebase', 'resize'})
        self.assertEqual(self.offers('firn-img', '-T', 'x', 'conv'),
                         {'convert'})

    def test_options_are_those_of_help(self):
        for name in PROGRAMS:
            subcommands = [] if name == 'firn-io' else commands(name)
            for command in [None, *subcommands]:
                words = [name, command, '-'] if command else [name, '-']
                known = {word for option in
                         options(help_text(name, command)) for word in option}
                self.assertEqual(self.offers(*words), known, words)
        self.assertEqual(self.offers('firn-img', 'convert', 'a', '--target'),
                         {'--target-is-zero', '--target-image-opts'})

    def test_formats(self):
        for words in [('firn-img', 'info', '-f'), ('firn-img', 'dd', '-O'),
                      ('firn-img', 'rebase', '-F'), ('firn-io', '-f'),
                      ('firn-img', 'bitmap', '--source-format'),
                      ('firn-io', '--format')]:
            self.assertEqual(self.offers(*words, ''), {'qcow2', 'raw'}, words)
        self.assertEqual(self.offers('firn-img', 'info', '-f', 'q'), {'qcow2'})

    def test_cache_modes(self):
        modes = {'none', 'writeback', 'writethrough', 'directsync', 'unsafe'}
        for words in [('firn-img', 'convert', '-t'), ('firn-io', '-t'),
                      ('firn-img', 'convert', '-T'), ('firn-io', '--cache'),
                      ('firn-vmm', '--cache'),
                      ('firn-vmstate', 'show', '--cache')]:
            self.assertEqual(self.offers(*words, ''), modes, words)
        self.assertEqual(self.offers('firn-vmm', '--cache', '=', 'wr'),
                         {'writeback', 'writethrough'})

    def test_words_of_other_arguments(self):
        for words, offered in [
                (('firn-img', 'info', '--output', '='), {'human', 'json'}),
                (('firn-img', 'info', '--output', '=', 'j'), {'json'}),
                (('firn-vmstate', 'list', '--output', ''), {'human', 'json'}),
                (('firn-img', 'check', '-r', ''), {'leaks', 'all'}),
                (('firn-img', 'resize', '--preallocation', '=', 'f'),
                 {'falloc', 'full'}),
                (('firn-img', 'bench', '-i', 'th'), {'threads'}),
                (('firn-io', '-d', ''), {'unmap', 'ignore'}),
                (('firn-vmm', '--memory-backend', ''), {'memfd', 'anon'}),
                (('firn-vmm', '--memory', ''), set()),
                (('firn-io', '-c', 'aio_f'), {'aio_flush'}),
                (('firn-io', '-c', "'multi"), {'multiwrite'})]:
            self.assertEqual(self.offers(*words), offered, words)

    def test_image_options(self):
        qcow2 = ('firn-img', 'create', '-f', 'qcow2', '-o')
        self.assertIn('cluster_size=', self.offers(*qcow2, ''))
        self.assertEqual(self.offers(*qcow2, 'lazy'), {'lazy_refcounts='})
        self.assertEqual(self.offers(*qcow2, 'lazy_refcounts', '=', 'o'),
                         {'on', 'off'})
        self.assertEqual(self.offers(*qcow2, 'size', '=', '1M,comp'),
                         {'1M,compat=', '1M,compression_type='})
        self.assertEqual(
            self.offers(*qcow2, 'size', '=', '1M,preallocation', '=', 'm'),
            {'metadata'})
        self.assertEqual(self.offers('firn-img', 'create', '-o', ''),
                         {'size=', 'preallocation=', 'nocow=',
                          'extent_size_hint='})
        self.assertIn('backing_fmt=', self.offers(
            'firn-img', 'convert', '-O', 'qcow2', '-o', 'back'))
        self.assertIn('compat=', self.offers('firn-img', 'amend', '-o', 'co'))
        self.assertEqual(self.offers('firn-img', 'amend', '-o',
                                     'encrypt.state', '=', 'i'), {'inactive'})

    def test_files(self):
        files = {'disk.qcow2', 'disk two.raw'}
        for words in [('firn-img', 'info'), ('firn-io', '-r'), ('firn-io',),
                      ('firn-img', 'create', '-b'), ('firn-vmm', '--disk'),
                      ('firn-img', 'convert', '-p', '-c'),
                      ('firn-vmstate', 'list'),
                      ('firn-vmstate', 'extract', '-o'),
                      ('firn-img', 'dd', 'if', '='),
                      ('firn-vmm', '--disk', '=')]:
            self.assertEqual(self.offers(*words, 'dis'), files, words)

    def test_operands_of_dd(self):
        self.assertEqual(self.offers('firn-img', 'dd', ''),
                         {'bs=', 'count=', 'skip=', 'if=', 'of='})

    def test_tags_of_snapshots(self):
        image = os.path.join(self.dir.name, 'snap.qcow2')
        for words in (['create', '-q', '-f', 'qcow2', image, '1M'],
                      ['bitmap', '--add', image, 'week'],
                      ['bitmap', '--add', image, 'month'],
                      ['snapshot', '-c', 'monday', image],
                      ['snapshot', '-c', 'tuesday', image]):
            subprocess.run(['firn-img', *words], env=self.env, check=True,
                           timeout=300)
        self.assertEqual(self.offers('firn-vmstate', 'show', image, 'm'),
                         {'monday'})
        for words in (('snapshot', image, '-a'), ('snapshot', image, '-d'),
                      ('convert', image, '-l'), ('measure', image, '-l')):
            self.assertEqual(self.offers('firn-img', *words, ''),
                             {'monday', 'tuesday'}, words)
        self.assertEqual(self.offers('firn-img', 'snapshot', '-d', 't',
                                     behind=[image]), {'tuesday'})
        self.assertEqual(self.offers('firn-img', 'bitmap', '--merge', '',
                                     behind=[image]), {'week', 'month'})
        self.assertEqual(self.offers('firn-img', 'snapshot', '-a', ''), set())
        self.assertEqual(self.offers('firn-img', 'snapshot', '-c', '',
                                     behind=[image]), set())


if __name__ == '__main__':
    unittest.main(verbosity=2)
