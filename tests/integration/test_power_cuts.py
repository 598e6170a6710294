#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Power cuts under whole commands of firn-img, with all their files.

Each command is recorded and cut (power_cuts.py). After each cut the images
open, check finds leaks at worst, and each thing that is looked at (the disk,
its snapshots, the header, bitmaps) is what it was before, or what the command
makes of it; what the command must not change is as before. Here and there it
is given again, and does the rest. When it has ended with status 0, what it did
is durable, without a flush after it.

Then each call of a command on one of its files, reads too, fails once with EIO
(a flush loses what was to be flushed): either the command says so, and the
same holds, or it did all it had to.

FIRN_POWER_CUTS=N looks at N states of each command and some failures, 0 at
all of them;
FIRN_POWER_CUTS_SEED makes other ones.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

import power_cuts

BUILD = os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build'))
IMG = os.environ.get('FIRN_IMG', BUILD + '/tools/img/firn-img')
IO = os.environ.get('FIRN_IO', BUILD + '/tools/io/firn-io')
MODULE = os.environ.get('FIRN_RECORD_MODULE',
                        BUILD + '/tests/support/record-calls.so')
STATES = int(os.environ.get('FIRN_POWER_CUTS', '6'))
SEED = os.environ.get('FIRN_POWER_CUTS_SEED', '1')
MEMORY = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
SIZE = 128 << 10

BITMAPS_OF = 'bitmaps of '
FREE = 'free'       # anything, until the command has ended
SECTORS = 'sectors'  # each is the old one or the new one
FRONT = 'front'     # what is in front of the new end
EITHER = 'either'


class Case:
    """A command and what is looked at: `disks` are qcow2 images by name, or
    (image, snapshot); each with how much it may differ."""

    def __init__(self, setup, command, disks, info=(), new=()):
        self.setup = setup
        self.command = command
        self.disks = disks
        self.info = info        # images whose headers are compared
        self.new = new          # images that the command makes


def create(name, options, size=SIZE, backing=None):
    words = ['create', '-q', '-f', 'qcow2', '-o', options]
    if backing:
        words += ['-b', backing, '-F', 'qcow2']
    return words + [name, str(size)]


def fill(name, *lines):
    return ['io', name] + list(lines)


def chain(top='cluster_size=1k', base='cluster_size=1k', size=SIZE):
    """old and new are backing files, top is on old, over on top."""
    return [
        create('old', base, 96 << 10),
        fill('old', 'write -P 1 0 96k', 'write -z 8k 4k', 'write -z -u 60k 8k'),
        create('new', base, 112 << 10),
        fill('new', 'write -P 2 0 50k', 'write -P 1 50k 30k',
             'write -P 3 100k 12k'),
        create('top', top, size, 'old'),
        fill('top', 'write -P 4 3k 20k', 'write -z -u 30k 10k',
             'write -z 44k 2k', 'write -P 5 120k 3k'),
        create('over', 'cluster_size=2k', size, 'top'),
        fill('over', 'write -P 6 1k 5k'),
    ]


def single(options, *more):
    return [create('a', options),
            fill('a', 'write -P 1 0 40k', 'write -z 60k 8k',
                 'write -P 2 100k 20k')] + list(more)


BITMAPS = [['bitmap', '--add', '-g', '4k', 'a', 'b0'],
           ['bitmap', '--add', '-g', '1k', 'a', 'b1'],
           fill('a', 'write -P 3 4k 30k')]
SNAPSHOTS = [['snapshot', '-c', 's0', 'a'],
             fill('a', 'write -P 3 4k 30k'),
             ['snapshot', '-c', 's1', 'a'],
             fill('a', 'write -P 4 20k 30k', 'write -z -u 0 4k')]
SNAPPED = {'a': EITHER, ('a', 's0'): EITHER, ('a', 's1'): EITHER}
TO_NEW = ['-t', 'writeback', '-O', 'qcow2', '-o', 'cluster_size=4k']
KEYS = ['--object', 'secret,id=k,data=first', '--object',
        'secret,id=n,data=second']

CASES = {
    'rebase': Case(chain(), ['rebase', '-b', 'new', '-F', 'qcow2', 'top'],
                   {'top': EITHER, 'over': EITHER, 'old': EITHER}, ['top']),
    'rebase to nothing': Case(chain(), ['rebase', '-b', '', 'top'],
                              {'top': EITHER, 'over': EITHER}, ['top']),
    'rebase compressed': Case(
        chain('cluster_size=4k'),
        ['rebase', '-c', '-b', 'new', '-F', 'qcow2', 'top'],
        {'top': EITHER, 'over': EITHER}, ['top']),
    'rebase of version 2': Case(
        chain('cluster_size=1k,compat=0.10'),
        ['rebase', '-b', 'new', '-F', 'qcow2', 'top'],
        {'top': EITHER, 'over': EITHER}, ['top']),
    'rebase with subclusters': Case(
        chain('cluster_size=16k,extended_l2=on'),
        ['rebase', '-b', 'new', '-F', 'qcow2', 'top'],
        {'top': EITHER, 'over': EITHER}, ['top']),
    'rebase -u': Case(chain(), ['rebase', '-u', '-b', 'new', '-F', 'qcow2',
                                'top'],
                      {'top': EITHER, 'over': EITHER}, ['top']),
    'commit': Case(chain(), ['commit', 'top'],
                   {'top': EITHER, 'over': EITHER, 'old': FREE}, ['top']),
    'commit of version 2 with subclusters below': Case(
        chain('cluster_size=1k,compat=0.10', 'cluster_size=16k,extended_l2=on'),
        ['commit', 'top'],
        {'top': EITHER, 'over': EITHER, 'old': FREE}, ['top']),
    'commit with lazy refcounts': Case(
        chain('cluster_size=1k,lazy_refcounts=on',
              'cluster_size=1k,lazy_refcounts=on'), ['commit', 'top'],
        {'top': EITHER, 'over': EITHER, 'old': FREE}),
    'commit -d': Case(chain(), ['commit', '-d', 'top'],
                      {'top': EITHER, 'over': EITHER, 'old': FREE}, ['top']),
    'commit -b': Case(chain(), ['commit', '-b', 'old', 'over'],
                      {'over': EITHER, 'old': FREE}, ['over', 'top']),
    'convert': Case(chain(), ['convert', *TO_NEW, 'over', 'out'],
                    {'over': EITHER, 'out': FREE}, new=['out']),
    'convert -c': Case(chain(), ['convert', '-c', *TO_NEW, 'over', 'out'],
                       {'over': EITHER, 'out': FREE}, new=['out']),
    'convert -W': Case(chain(), ['convert', '-W', '-m', '16', *TO_NEW,
                                 'over', 'out'], {'out': FREE}, new=['out']),
    'convert -C': Case(chain(), ['convert', '-C', *TO_NEW, 'over', 'out'],
                       {'out': FREE}, new=['out']),
    'convert -B': Case(chain(), ['convert', *TO_NEW, '-B', 'top', '-F',
                                 'qcow2', 'over', 'out'],
                       {'out': FREE}, new=['out']),
    'convert -n': Case(
        chain() + single('cluster_size=1k'),
        ['convert', '-n', '-t', 'writeback', '-O', 'qcow2', 'over', 'a'],
        {'a': SECTORS, 'over': EITHER}),
    'convert to raw': Case(chain(), ['convert', '-t', 'writeback', '-O', 'raw',
                                     'over', 'out.raw'], {'out.raw': FREE}),
    'convert --bitmaps': Case(
        single('cluster_size=1k', *BITMAPS),
        ['convert', '--bitmaps', *TO_NEW, 'a', 'out'], {'out': FREE},
        new=['out'], info=['out']),
    'dd': Case(chain(), ['dd', '-O', 'qcow2', 'bs=4k', 'if=over', 'of=out'],
               {'out': FREE}, new=['out']),
    'resize': Case(single('cluster_size=1k'), ['resize', 'a', '1M'],
                   {'a': EITHER}, ['a']),
    'resize --preallocation=metadata': Case(
        single('cluster_size=1k'),
        ['resize', '--preallocation=metadata', 'a', '400k'], {'a': EITHER},
        ['a']),
    'resize --preallocation=full': Case(
        single('cluster_size=4k'),
        ['resize', '--preallocation=full', 'a', '400k'], {'a': EITHER}, ['a']),
    'resize over a longer backing file': Case(
        chain(size=64 << 10)[:5] +
        [fill('top', 'write -P 4 3k 20k', 'write -z -u 30k 10k')],
        ['resize', 'top', '112k'], {'top': EITHER}, ['top']),
    'resize --shrink': Case(single('cluster_size=1k'),
                            ['resize', '--shrink', 'a', '50k'],
                            {'a': FRONT}, ['a']),
    'amend compat=0.10': Case(
        single('cluster_size=1k,lazy_refcounts=on'),
        ['amend', '-o', 'compat=0.10', 'a'], {'a': EITHER}),
    'amend compat=1.1': Case(
        single('cluster_size=1k,compat=0.10'),
        ['amend', '-o', 'compat=1.1', 'a'], {'a': EITHER}, ['a']),
    'amend refcount_bits': Case(
        single('cluster_size=1k', *SNAPSHOTS),
        ['amend', '-o', 'refcount_bits=64', 'a'], SNAPPED, ['a']),
    'amend lazy_refcounts': Case(
        single('cluster_size=1k'),
        ['amend', '-o', 'lazy_refcounts=on', 'a'], {'a': EITHER}, ['a']),
    'snapshot -c': Case(single('cluster_size=1k', *SNAPSHOTS),
                        ['snapshot', '-c', 's2', 'a'], SNAPPED, ['a']),
    'snapshot -a': Case(single('cluster_size=1k', *SNAPSHOTS),
                        ['snapshot', '-a', 's0', 'a'], SNAPPED, ['a']),
    'snapshot -d': Case(single('cluster_size=1k', *SNAPSHOTS),
                        ['snapshot', '-d', 's1', 'a'],
                        {'a': EITHER, ('a', 's0'): EITHER}, ['a']),
    'bitmap --add': Case(single('cluster_size=1k', *BITMAPS),
                         ['bitmap', '--add', 'a', 'b2'], {'a': EITHER},
                         ['a']),
    'bitmap --merge': Case(single('cluster_size=1k', *BITMAPS),
                           ['bitmap', '--merge', 'b0', 'a', 'b1'],
                           {'a': EITHER}, ['a']),
    'bitmap --remove': Case(single('cluster_size=1k', *BITMAPS),
                            ['bitmap', '--remove', 'a', 'b0'], {'a': EITHER},
                            ['a']),
    'data file': Case(
        [create('a', 'cluster_size=4k,data_file=d'),
         fill('a', 'write -P 1 0 40k')] + chain(),
        ['convert', '-n', '-t', 'writeback', '-O', 'qcow2', 'over', 'a'],
        {'a': SECTORS}),
}


def run(argv, where, may_fail=False):
    done = subprocess.run(argv, cwd=where, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False)
    if done.returncode and not may_fail:
        raise AssertionError('%s: %d: %s' % (argv, done.returncode,
                                             done.stderr.decode()))
    return done


def do_setup(words, where):
    if words[0] == 'io':
        run([IO, '-d', 'unmap'] + [w for line in words[2:]
                                   for w in ('-c', line)] + [words[1]], where)
    else:
        run([IMG] + words, where)


def read_files(where):
    contents = {}
    for name in os.listdir(where):
        with open(os.path.join(where, name), 'rb') as f:
            contents[name] = f.read()
    return contents


def write_files(where, contents):
    for name in os.listdir(where):
        if name not in contents:
            os.unlink(os.path.join(where, name))
    for name, content in contents.items():
        with open(os.path.join(where, name), 'wb') as f:
            f.write(content)


def format_of(name):
    return 'raw' if name.endswith('.raw') else 'qcow2'


def look_at_disk(where, disk):
    """Its bytes, None if there is none."""
    name, snapshot = disk if isinstance(disk, tuple) else (disk, None)
    words = [IMG, 'convert', '-f', format_of(name), '-O', 'raw']
    if snapshot:
        words += ['-l', 'snapshot.name=' + snapshot]
    with tempfile.NamedTemporaryFile(dir=MEMORY) as out:
        done = run(words + [name, out.name], where, True)
        return out.read() if done.returncode == 0 else None


def look_at_header(where, name):
    """What it says that a command may change."""
    done = run([IMG, 'info', '--output=json', '-f', 'qcow2', name], where,
               True)
    if done.returncode:
        return None, None
    info = json.loads(done.stdout)
    data = info['format-specific']['data']
    return json.dumps([info.get('backing-filename'), info['virtual-size'],
                       data['compat'], data.get('refcount-bits'),
                       data.get('lazy-refcounts'),
                       [s['name'] for s in info.get('snapshots', [])]]), \
        json.dumps([[b['name'], b['granularity']]
                    for b in data.get('bitmaps', [])])


def look(case, where):
    seen = {disk: look_at_disk(where, disk) for disk in case.disks}
    for name in case.info:
        seen['header of ' + name], seen[BITMAPS_OF + name] = \
            look_at_header(where, name)
    return seen


def mixed(found, old, new):
    return len(found) == len(old) and all(
        found[i:i + 512] in (old[i:i + 512], new[i:i + 512])
        for i in range(0, len(found), 512))


class TestPowerCuts(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='firn-cuts-')
        self.addCleanup(shutil.rmtree, self.dir)
        self.work = os.path.join(self.dir, 'work')
        os.mkdir(self.work)
        # What is only read afterwards need not come to a disk.
        self.state = tempfile.mkdtemp(prefix='firn-cuts-', dir=MEMORY)
        self.addCleanup(shutil.rmtree, self.state)

    def check_images(self, case, where, clean):
        """Leaks at worst."""
        for name in sorted(os.listdir(where)):
            with open(os.path.join(where, name), 'rb') as f:
                if f.read(4) != b'QFI\xfb':
                    continue
            done = run([IMG, 'check', '--output=json', name], where, True)
            if done.returncode in (1, 63) and name in case.new and not clean:
                continue    # it was not made yet
            report = json.loads(done.stdout or b'{}')
            said = done.stderr.decode().splitlines()
            flags = all('COPIED' in s or 'eak' in s for s in said)
            if done.returncode in (0, 3) or (
                    done.returncode == 2 and flags and not clean):
                continue
            # Lazy refcounts: opened for writing it is repaired.
            run([IO, '-c', 'flush', name], where)
            done = run([IMG, 'check', name], where, True)
            self.assertIn(done.returncode, (0, 3), '%s: %s: %r %s' % (
                case.command, name, report, said))

    def judge(self, case, where, before, after, done):
        self.check_images(case, where, done)
        found = look(case, where)
        for key, value in found.items():
            may = FREE if str(key).split()[-1] in case.new else \
                case.disks.get(key, EITHER)
            old, new = before[key], after[key]
            if done:
                self.assertTrue(value == new, '%s is not durable' % (key,))
            elif str(key).startswith(BITMAPS_OF) and may != FREE:
                # Without the autoclear bit there are none.
                self.assertIn(value, (old, new, '[]'))
            elif may == EITHER:
                self.assertTrue(value in (old, new), '%s: %.300s, neither the '
                                'old one nor the new one' % (key, value))
            elif may == FRONT:
                self.assertEqual(value[:len(new)], new, key)
                self.assertIn(len(value), (len(old), len(new)))
            elif may == SECTORS:
                self.assertTrue(mixed(value, old, new), '%s has other '
                                'sectors' % (key,))

    def do_again(self, case, where, after):
        if case.command[0] in ('snapshot', 'bitmap') or \
                '--preallocation' in ' '.join(case.command):
            return  # it would be something else
        run([IMG] + case.command, where)
        for key, value in look(case, where).items():
            self.assertTrue(value == after[key], '%s is wrong when the '
                            'command was given again' % (key,))
        self.check_images(case, where, False)

    def record(self, case, fail_at=0):
        return power_cuts.record([IMG] + case.command, self.work, MODULE,
                                 os.path.join(self.dir, 'log'), fail_at)

    def fail_at(self, case, contents, before, after, n):
        """Did it come to that?"""
        write_files(self.work, contents)
        done, log = self.record(case, n)
        if not any(e.what in ('fail', 'lost') for e in log):
            return False
        with self.subTest(command=case.command, fails=n):
            self.assertIn(done.returncode, (0, 1), done.stdout)
            if done.returncode == 0:
                write_files(self.state, power_cuts.at_exit(contents, log))
                self.judge(case, self.state, before, after, True)
            else:
                self.judge(case, self.work, before, after, False)
        return True

    def fail_everywhere(self, rng, case, contents, before, after):
        n = 1
        while self.fail_at(case, contents, before, after, n):
            n += rng.randrange(1, 60) if STATES else 1

    def cut(self, name, case):
        work, state = self.work, self.state
        for words in case.setup:
            do_setup(words, state)
        contents = read_files(state)
        write_files(work, contents)
        before = look(case, work)
        done, log = self.record(case)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue(log)
        after = look(case, work)
        rng = random.Random('%s %s' % (SEED, name))
        states = list(power_cuts.crashes(contents, log, rng))
        if STATES and len(states) > STATES:
            states = rng.sample(states, STATES)
        states.append((len(log), 'done', power_cuts.at_exit(contents, log)))
        for k, what, files in states:
            with self.subTest(case=name, cut='%d of %d' % (k, len(log)),
                              state=what):
                write_files(state, files)
                self.judge(case, state, before, after, what == 'done')
                if rng.random() < 0.25:
                    self.do_again(case, state, after)
        self.fail_everywhere(rng, case, contents, before, after)
        return len(states)


def make_test(name, case):
    def test(self):
        print('%s: %d states' % (name, self.cut(name, case)))
    return test


for case_name in CASES:
    setattr(TestPowerCuts, 'test_' + ''.join(
        c if c.isalnum() else '_' for c in case_name),
        make_test(case_name, CASES[case_name]))


if __name__ == '__main__':
    unittest.main(verbosity=2)
