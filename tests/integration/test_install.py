#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What `meson install` puts into a DESTDIR is enough to build on.

The headers compile alone, the shared library exports what they declare and
nothing else, and examples/embed.c builds and runs against both libraries.

Environment: FIRN_BUILD_DIR (a complete build), FIRN_SOURCE_DIR, CC.
"""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ.get('FIRN_BUILD_DIR', 'build')
SOURCE = os.environ.get('FIRN_SOURCE_DIR', '.')
CC = os.environ.get('CC', 'cc').split()
HEADERS = ['firn.h', 'types.h', 'vmstate.h']


def run(*argv, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise AssertionError('%s: %s%s' % (' '.join(argv), done.stdout,
                                           done.stderr))
    return done.stdout


@unittest.skipUnless(shutil.which('meson') and shutil.which('pkg-config'),
                     'meson or pkg-config is not installed')
class InstallTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-install-')
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        run('meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet',
            '--destdir', cls.dir)
        cls.pc = cls.find('firn.pc')
        cls.set_prefix(cls.pc, cls.dir)
        cls.lib = os.path.dirname(os.path.dirname(cls.pc))
        cls.prefix = os.path.dirname(os.path.dirname(
            os.path.dirname(cls.find('firn.h'))))

    @staticmethod
    def set_prefix(pc, destdir):
        """Make PC describe the files where they are, not where they go."""
        with open(pc) as file:
            text = file.read()
        with open(pc, 'w') as file:
            file.write(re.sub(r'^prefix=', 'prefix=' + destdir, text,
                              flags=re.M))

    @classmethod
    def find(cls, name):
        found = glob.glob(os.path.join(cls.dir, '**', name), recursive=True)
        if len(found) != 1:
            raise AssertionError('%s: %r' % (name, found))
        return found[0]

    def flags(self, *options):
        env = dict(os.environ)
        env['PKG_CONFIG_PATH'] = os.path.dirname(self.pc)
        return run('pkg-config', *options, 'firn', env=env).split()

    def compile(self, *argv):
        return run(*CC, '-Wall', '-Wextra', '-Wno-unused-parameter',
                   '-Werror', *argv)

    def test_only_the_face_is_installed(self):
        headers = os.listdir(os.path.join(self.prefix, 'include', 'firn'))
        self.assertEqual(sorted(headers), HEADERS)
        self.assertEqual(os.listdir(os.path.join(self.prefix, 'include')),
                         ['firn'])

    def test_every_header_compiles_alone(self):
        for header in HEADERS:
            source = os.path.join(self.dir, 'alone.c')
            with open(source, 'w') as file:
                file.write('#include <firn/%s>\n#include <firn/%s>\n'
                           % (header, header))
            self.compile('-fsyntax-only', source, *self.flags('--cflags'))

    def test_library_exports_what_the_header_declares(self):
        with open(self.find('firn.h')) as file:
            declared = re.findall(r'^FIRN_API [^;]*?\b(firn_\w+)\(',
                                  file.read(), re.M)
        symbols = run('nm', '-D', '--defined-only',
                      os.path.join(self.lib, 'libfirn.so'))
        exported = re.findall(r' [A-Z] (\w+)(?:@.*)?$', symbols, re.M)
        exported = [s for s in exported if not s.startswith('FIRN_')]
        self.assertEqual(sorted(exported), sorted(declared))

    def build_and_run(self, *link):
        program = os.path.join(self.dir, 'embed')
        self.compile(os.path.join(SOURCE, 'examples', 'embed.c'), '-o',
                     program, *self.flags('--cflags'), *link)
        env = dict(os.environ, LD_LIBRARY_PATH=self.lib)
        out = run(program, os.path.join(self.dir, 'toy.qcow2'), env=env)
        self.assertIn('loaded, compared and deleted', out)

    def test_example_runs_with_the_shared_library(self):
        self.build_and_run(*self.flags('--libs'))

    def test_example_runs_with_the_static_library(self):
        libs = [flag for flag in self.flags('--static', '--libs')
                if flag != '-lfirn']
        self.build_and_run(os.path.join(self.lib, 'libfirn.a'), *libs)

    def test_manual_pages_are_installed(self):
        if not shutil.which('scdoc'):
            self.skipTest('scdoc is not installed')
        for name in ['firn-img', 'firn-io', 'firn-vmm', 'firn-vmstate']:
            self.find(name + '.1')

    def test_completions_are_installed(self):
        for name in ['firn-img', 'firn-io', 'firn-vmm', 'firn-vmstate']:
            path = os.path.join('bash-completion', 'completions', name)
            with open(self.find(path), encoding='utf-8') as script:
                self.assertIn(name, script.read())


if __name__ == '__main__':
    unittest.main(verbosity=2)
