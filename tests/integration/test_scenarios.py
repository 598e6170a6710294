#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shell scripts in the style this field tests with, run twice.

Each file scenarios/*.sh is one test. It calls qemu-img and qemu-io; they are
QEMU's in one directory and links to firn-img and firn-io in another one, and
nothing else differs. What the script prints (timings and names masked), its
exit status, and every file that it leaves must be equal: contents, info, map
and check, asked from the real qemu-img on both sides.

FIRN_SCENARIO=PATTERN runs some of them.
"""

import concurrent.futures
import fnmatch
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import img_conformance as conformance  # noqa: E402

SCRIPTS = os.path.join(HERE, 'scenarios')
QEMU = {'qemu-img': shutil.which(os.environ.get('QEMU_IMG', 'qemu-img')),
        'qemu-io': shutil.which(os.environ.get('QEMU_IO', 'qemu-io'))}
FIRN = {'qemu-img': os.path.abspath(conformance.FIRN_IMG),
        'qemu-io': os.path.abspath(os.environ.get(
            'FIRN_IO', os.path.join(conformance.BUILD, 'tools/io/firn-io')))}
NOTHING = {name: shutil.which('true') for name in QEMU}
AT_LEAST = 170
SECONDS = 300
WORKERS = 3

TIMES = re.compile(r'ops; .* ops/sec\)')
# bash tells of a mistake in the script so, but of a killed job, too.
MISTAKE = re.compile(r'line \d+: (?!\s*\d+ (Killed|Aborted|Terminated|Done))')


def scripts():
    return sorted(glob.glob(os.path.join(SCRIPTS, '*.sh')))


def mask(text):
    text = TIMES.sub('ops; TIMES', text)
    text = re.sub(r'(qemu|firn)-io> ', '> ', text)
    return conformance.mask(text)


class Play:
    """One run of a script: .out, .err, .status and its directory .path."""

    def __init__(self, script, tools, where, name):
        self.path = os.path.join(where, name)
        names = os.path.join(where, name + '-tools')
        os.makedirs(self.path)
        os.makedirs(names)
        for tool, program in tools.items():
            os.symlink(program, os.path.join(names, tool))
        env = dict(os.environ, TZ='UTC', LC_ALL='C',
                   PATH=names + ':' + os.environ['PATH'])
        # Files, not pipes: what a script leaves behind cannot make us wait.
        with open(names + '/out', 'w+b') as out, \
                open(names + '/err', 'w+b') as err:
            job = subprocess.Popen(
                ('bash', script), cwd=self.path, env=env, stdout=out,
                stderr=err, stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                self.status = job.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.status = 'over after %d seconds' % SECONDS
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
            out.seek(0)
            err.seek(0)
            self.out = mask(out.read().decode(errors='replace'))
            self.err = err.read().decode(errors='replace')

    def faults(self):
        """Why this run shows nothing, whatever the other one does."""
        out = []
        if self.status:
            out.append('the script ends with %s' % self.status)
        if not self.out.strip():
            out.append('the script prints nothing')
        mistakes = [line for line in self.err.splitlines()
                    if MISTAKE.search(line)]
        if mistakes:
            out.append('a mistake in the script: ' + mistakes[0])
        return out


def differences(one, two):
    """What @two, a Play, does otherwise than @one."""
    out = []
    if one.status != two.status:
        out.append('exit status %s, not %s' % (two.status, one.status))
    if one.out != two.out:
        out.append(conformance.text_difference(one.out, two.out))
    names = [sorted(conformance.files(p.path)) for p in (one, two)]
    if names[0] != names[1]:
        return out + ['files %s, not %s' % (names[1], names[0])]
    for name in names[0]:
        out += conformance.image_differences((one.path, two.path), name)
    return out


def judge(script):
    """(differences from QEMU, did tools that do nothing differ, stderr)."""
    with tempfile.TemporaryDirectory(prefix='firn-scene-') as where:
        qemu = Play(script, QEMU, where, 'qemu')
        found = qemu.faults()
        if found:
            return found, True, qemu.err
        nothing = Play(script, NOTHING, where, 'nothing')
        firn = Play(script, FIRN, where, 'firn')
        return (differences(qemu, firn), nothing.out != qemu.out,
                'qemu:\n%s\nfirn:\n%s' % (qemu.err, firn.err))


class Scenarios(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        wanted = os.environ.get('FIRN_SCENARIO', '*')
        cls.pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        cls.results = {
            script: cls.pool.submit(judge, script) for script in scripts()
            if fnmatch.fnmatch(os.path.basename(script), wanted)}

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown()

    def test_there_are_enough(self):
        self.assertGreaterEqual(len(scripts()), AT_LEAST)

    def test_each_opens_with_what_it_shows(self):
        for script in scripts():
            with open(script) as f:
                self.assertRegex(f.readline(), r'^# .*\.$', script)

    def show(self, script):
        if script not in self.results:
            self.skipTest('not in FIRN_SCENARIO')
        found, seen, told = self.results[script].result()
        self.assertFalse(found, '\n'.join(found) + '\n' + told)
        self.assertTrue(seen, 'tools that do nothing print the same')


class TheRunner(unittest.TestCase):
    """What makes a scenario fail."""

    def judge(self, text, tools=None):
        with tempfile.TemporaryDirectory(prefix='firn-scene-') as where:
            script = os.path.join(where, 'x.sh')
            with open(script, 'w') as f:
                f.write('. %s/helpers\n%s\n' % (SCRIPTS, text))
            one = Play(script, QEMU, where, 'one')
            two = Play(script, tools or QEMU, where, 'two')
            return one.faults() + differences(one, two)

    def test_a_good_script_passes(self):
        self.assertEqual(self.judge('new t 1M; check t; echo x; kill -9 $$ &\n'
                                    'sleep 0.01; true')[1:], [])
        self.assertEqual(self.judge('new t 1M; sound t'), [])

    def test_a_broken_script_fails(self):
        for text in ('new t 1M; sound t; nosuchcommand; true',
                     'sound t; if', 'echo x; false', 'true',
                     'echo $nosuchvariable', 'echo x; exit 3'):
            with self.subTest(text=text):
                self.assertTrue(self.judge(text))

    def test_tools_that_print_nothing_fail(self):
        self.assertTrue(self.judge('new t 1M; check t', NOTHING))

    def test_other_output_status_and_files_are_seen(self):
        with tempfile.TemporaryDirectory(prefix='firn-scene-') as where:
            odd = os.path.join(where, 'odd')
            with open(odd, 'w') as f:
                f.write('#!/bin/sh\n%s "$@"; s=$?\ncase "$1" in\n'
                        'check) echo more;; create) %s -q -f raw -c '
                        '"write -P 7 0 1k" t; exit $s;; map) exit 9;; esac\n'
                        'exit $s\n' % (QEMU['qemu-img'], QEMU['qemu-io']))
            os.chmod(odd, 0o755)
            tools = dict(QEMU, **{'qemu-img': odd})
            for text in ('new t 1M; rm t; qemu-img create -q -f raw t 1M;'
                         'echo x', 'qemu-io -c q; qemu-img create t 1M;'
                         'qemu-img check t; rm t',
                         'qemu-img create t 1M; st qemu-img map t; rm t'):
                with self.subTest(text=text):
                    self.assertTrue(self.judge(text, tools))


def add_test(script):
    name = os.path.basename(script)[:-len('.sh')]
    with open(script) as f:
        shows = f.readline().lstrip('# ').strip()

    def test(self):
        self.show(script)
    test.__doc__ = '%s: %s' % (name, shows)
    setattr(Scenarios, 'test_' + name.replace('-', '_'), test)


for each in scripts():
    add_test(each)

if not all(QEMU.values()):
    Scenarios = unittest.skip('no qemu-img, qemu-io')(Scenarios)
    TheRunner = unittest.skip('no qemu-img, qemu-io')(TheRunner)

if __name__ == '__main__':
    unittest.main()
