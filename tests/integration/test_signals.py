#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Signals in every subcommand of firn-img, and in firn-io.

A preloaded module sends a signal at the Nth request to a file, for N = 1, 3,
8, 19, ... (FIRN_SIGNALS_LONG=1: all N) until the command comes to its end
first. Each time: the process ends by that signal after one line; qemu-img
finds neither corruption nor a leak in any image; what was only read is
unchanged, what may not read differently does not; and the command, given
again, succeeds.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build'))
TOOLS = {
    'img': os.environ.get('FIRN_IMG', f'{BUILD}/tools/img/firn-img'),
    'io': os.environ.get('FIRN_IO', f'{BUILD}/tools/io/firn-io'),
}
MODULE = os.environ.get('FIRN_SIGNAL_AT_MODULE',
                        f'{BUILD}/tests/support/signal-at.so')
LONG = 'FIRN_SIGNALS_LONG' in os.environ
SECONDS = 300   # a hang takes longer than the slowest machine does

# Made once, copied for every run.
FIXTURES = r"""
img() { qemu-img "$@"; }
io() { qemu-io "$@" > /dev/null; }
img create -q -f raw raw 8M
io -f raw -c 'write -P 1 0 4M' -c 'write -P 2 5M 3M' raw
img create -q -f qcow2 -o cluster_size=4k src 16M
io -c 'write -P 3 0 2M' -c 'write -z 8M 1M' -c 'write -P 4 12M 1M' src
img create -q -f qcow2 base 8M
io -c 'write -P 5 0 4M' base
img create -q -f qcow2 base2 8M
io -c 'write -P 6 2M 3M' base2
img create -q -f qcow2 -b base -F qcow2 top
io -c 'write -P 7 1M 1M' -c 'write -z 3M 512k' -c 'write -P 8 5M 2M' top
cp src snaps
for i in 1 2 3; do
    img snapshot -c s$i snaps; io -c "write -P 1$i ${i}M 1M" snaps
done
cp snaps damaged
# A refcount block full of zeroes: corruption; some of fives: leaks.
python3 - <<'P'
import struct
f = open('damaged', 'r+b')
table, = struct.unpack('>Q', (f.seek(48), f.read(8))[1])
block, = struct.unpack('>Q', (f.seek(table), f.read(8))[1])
f.seek(block + 1024); f.write(b'\0' * 512)
f.seek(block + 2048); f.write(b'\0\5' * 128)
P
cp src maps
img bitmap --add -g 4k maps b0; io -c 'write -P 9 0 1M' maps
img bitmap --add maps b1
"""

# name: tool, words, images that may change, how these must read if stopped:
# 'same', 'any', 'leaky' (as before or as after, with leaks at worst, which
# the message tells of); 'new' is a target that is only to be consistent, 'gone' one
# that is there only when the command did all.
CASES = {
    'convert': ('img', 'convert -O qcow2 raw t', {'t': 'new'}),
    'convert to raw': ('img', 'convert -O raw src t', {'t': 'new'}),
    'convert -c': ('img', 'convert -c -O qcow2 raw t', {'t': 'new'}),
    'convert -W -m 16': ('img', 'convert -W -m 16 -O qcow2 src t',
                         {'t': 'new'}),
    'convert -n': ('img', 'convert -n -O qcow2 raw src', {'src': 'any'}),
    'convert with preallocation':
        ('img', 'convert -O qcow2 -o preallocation=full raw t', {'t': 'new'}),
    'dd': ('img', 'dd -O qcow2 bs=64k if=src of=t', {'t': 'new'}),
    'commit': ('img', 'commit -q top', {'top': 'same', 'base': 'any'}),
    'commit -d': ('img', 'commit -q -d top', {'top': 'same', 'base': 'any'}),
    'rebase': ('img', 'rebase -b base2 -F qcow2 top', {'top': 'same'}),
    'rebase to nothing': ('img', 'rebase -b  top', {'top': 'same'}),
    'compare': ('img', 'compare -q src src2', {}),
    'check': ('img', 'check snaps', {}),
    'check -r': ('img', 'check -r all damaged', {'damaged': 'broken'}),
    'amend the width of refcounts':
        ('img', 'amend -o refcount_bits=64 snaps', {'snaps': 'same'}),
    'amend to an old version':
        ('img', 'amend -o compat=0.10 src', {'src': 'same'}),
    'resize': ('img', 'resize -q --preallocation=full src 24M',
               {'src': 'same'}),
    'resize, metadata': ('img', 'resize -q --preallocation=metadata src 40M',
                         {'src': 'same'}),
    'resize raw': ('img', 'resize -q -f raw --preallocation=full raw 16M',
                   {'raw': 'same'}),
    'resize --shrink': ('img', 'resize -q --shrink src 2M',
                        {'src': 'leaky'}),
    'create': ('img', 'create -q -f qcow2 -o preallocation=full t 8M',
               {'t': 'gone'}),
    'create, metadata':
        ('img', 'create -q -f qcow2 -o preallocation=metadata t 1G',
         {'t': 'gone'}),
    'create raw': ('img', 'create -q -f raw -o preallocation=full t 8M',
                   {'t': 'gone'}),
    'map': ('img', 'map src', {}),
    'info': ('img', 'info --backing-chain top', {}),
    'measure': ('img', 'measure -O qcow2 src', {}),
    'bench': ('img', 'bench -c 200 -d 4 -s 8k -w -S 12k src', {'src': 'any'}),
    'snapshot -l': ('img', 'snapshot -l snaps', {}),
    'snapshot -c': ('img', 'snapshot -c new snaps', {'snaps': 'same'}),
    'snapshot -a': ('img', 'snapshot -a s1 snaps', {'snaps': 'leaky'}),
    'snapshot -d': ('img', 'snapshot -d s2 snaps', {'snaps': 'leaky'}),
    'bitmap --merge': ('img', 'bitmap --merge b0 maps b1', {'maps': 'same'}),
    'io': ('io', '-c;write -P 1 0 2M;-c;write -z 8M 4M;-c;write -c -P 3 9M '
                 '64k;-c;discard 0 1M;-c;aio_write -P 4 1M 4M;-c;flush;src',
           {'src': 'any'}),
}


# These go on to their end, which is near.
TO_THE_END = ('info', 'snapshot -l', 'bitmap --merge', 'io')


def words_of(tool, text):
    """io's commands have blanks, so ';' parts its words."""
    return text.split(';') if tool == 'io' else text.split(' ')


def fixtures(where):
    script = FIXTURES + '\ncp src src2\n'
    subprocess.run(['bash', '-ec', script], cwd=where, check=True,
                   timeout=SECONDS)


def state(path):
    st = os.stat(path)
    return st.st_ino, st.st_size, st.st_mtime_ns


def is_qcow2(path):
    with open(path, 'rb') as f:
        return f.read(4) == b'QFI\xfb'


def qemu(*words):
    return subprocess.run(words, capture_output=True, timeout=SECONDS)


class Signals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-signals-')
        cls.origin = os.path.join(cls.dir, 'origin')
        os.mkdir(cls.origin)
        fixtures(cls.origin)
        cls.state = {n: state(os.path.join(cls.origin, n))
                     for n in os.listdir(cls.origin)}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def fresh(self, may_change=()):
        """Copies of what may change, links to what may not."""
        work = tempfile.mkdtemp(dir=self.dir)
        for name in os.listdir(self.origin):
            (shutil.copy if name in may_change else os.link)(
                os.path.join(self.origin, name), os.path.join(work, name))
        return work

    def run_tool(self, work, tool, text, **env):
        return subprocess.run([TOOLS[tool]] + words_of(tool, text), cwd=work,
                              stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=SECONDS,
                              env=dict(os.environ, **env))

    # --- what must be true afterwards ---

    def reads_as_before(self, work, name):
        """The top of the chain is compared with itself in the origin."""
        fmt = 'qcow2' if is_qcow2(os.path.join(work, name)) else 'raw'
        r = qemu('qemu-img', 'compare', '-s', '-f', fmt, '-F', fmt,
                 os.path.join(self.origin, name), os.path.join(work, name))
        if r.returncode == 1 and b'Strict mode' in r.stdout:
            r = qemu('qemu-img', 'compare', '-f', fmt, '-F', fmt,
                     os.path.join(self.origin, name),
                     os.path.join(work, name))
            self.assertNotIn(b'size mismatch', r.stdout, name)
        self.assertEqual(r.returncode, 0, (name, r.stdout, r.stderr))

    def is_consistent(self, path, leaks_allowed=False):
        if os.path.exists(path) and is_qcow2(path):
            r = qemu('qemu-img', 'check', path)
            self.assertIn(r.returncode, (0, 3) if leaks_allowed else (0,),
                          (path, r.stdout, r.stderr))

    def check_images(self, work, may_change, finished, killed=False):
        for name in set(os.listdir(work)) | set(may_change):
            path = os.path.join(work, name)
            how = may_change.get(name)
            if how is None:
                self.assertEqual(state(path), self.state.get(name),
                                 f'{name} is new or was changed')
            elif how == 'gone' and not finished and not killed:
                self.assertFalse(os.path.exists(path), f'{name} is there')
            elif how != 'broken':
                self.is_consistent(path, killed or how == 'leaky')
            if how in ('same', 'leaky') and not finished:
                self.reads_as_before(work, name)

    def tell(self, command, r, sig):
        name = signal.Signals(sig).name
        lines = r.stderr.decode().splitlines()
        if command != 'check':  # which tells what it finds
            self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[-1], f'^firn-img: {command}: interrupted by '
                         f'{name}(;|,|$)')

    # --- runs ---

    def interrupt(self, name, sig, n):
        """Whether the signal came in time, and whether all was done."""
        tool, text, may_change = CASES[name]
        work = self.fresh(may_change)
        r = self.run_tool(work, tool, text, FIRN_AIO='threads',
                          LD_PRELOAD=MODULE, FIRN_SIGNAL_AT=f'{n}:{int(sig)}')
        stopped = r.returncode == -sig
        if not stopped:
            self.assertEqual(r.returncode, 0, r.stderr)
        elif tool == 'img' and sig != signal.SIGKILL:
            self.tell(text.split()[0], r, sig)
        finished = not stopped or b'all was done' in r.stderr
        self.check_images(work, may_change, finished, sig == signal.SIGKILL)
        if stopped and not finished and sig != signal.SIGKILL and n > 3:
            self.again(work, tool, text, may_change)
        shutil.rmtree(work)
        return stopped, finished

    def again(self, work, tool, text, may_change):
        r = self.run_tool(work, tool, text)
        self.assertEqual(r.returncode, 0, (r.stdout, r.stderr))
        for name in may_change:
            self.is_consistent(os.path.join(work, name))

    def sweep(self, name, sig):
        n, cut_short, stopped = 1, 0, True
        while stopped:
            stopped, finished = self.interrupt(name, sig, n)
            cut_short += not finished
            n = n + 1 if LONG else n * 2 + n // 2 + 1
        if name not in TO_THE_END:
            self.assertGreater(cut_short, 0, 'nothing was cut short')

    def test_second_signal_ends_at_once(self):
        work = self.fresh(['src'])
        p = subprocess.Popen([TOOLS['io'], '-c', 'sleep 60000', 'src'],
                             cwd=work, stdout=subprocess.PIPE)
        time.sleep(0.05)
        for _ in range(2):
            p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(SECONDS), -signal.SIGTERM)
        p.stdout.close()
        self.is_consistent(os.path.join(work, 'src'), True)

    def test_kill_leaves_leaks_at_worst(self):
        for name in ('convert', 'commit', 'rebase', 'snapshot -d', 'resize'):
            with self.subTest(name):
                self.sweep(name, signal.SIGKILL)

    def test_ignored_signals_stay_ignored(self):
        work = self.fresh()
        r = subprocess.run(
            ['sh', '-c', 'trap "" HUP; exec "$@"', '-', TOOLS['img'],
             'convert', '-O', 'qcow2', 'raw', 't'], cwd=work, timeout=SECONDS,
            capture_output=True,
            env=dict(os.environ, FIRN_AIO='threads', LD_PRELOAD=MODULE,
                     FIRN_SIGNAL_AT=f'3:{int(signal.SIGHUP)}'))
        self.assertEqual(r.returncode, 0, r.stderr)


# words, image, shares of its requests at which a signal comes, and the share
# that may follow it: what is written is flushed, what is half done is ended.
LONG_CASES = {
    'snapshot -a': ('snapshot -a s1', 'snap', (5, 30, 60, 90), 30),
    'snapshot -c': ('snapshot -c s2', 'all', (5, 20, 35, 60), 15),
    'snapshot -d': ('snapshot -d s1', 'snap', (5, 20, 40), 10),
    'resize --shrink': ('resize -q --shrink IMAGE 1M', 'all', (10, 50, 90),
                        20),
    'amend the width of refcounts':
        ('amend -o refcount_bits=64', 'all', (10, 50), 10),
    'amend to an old version': ('amend -o compat=0.10', 'all', (10, 60), 5),
    'check': ('check', 'snap', (10, 50, 90), 5),
    'check -r': ('check -q -r all', 'damaged', (5, 20, 35, 50, 70, 90), 10),
}


class LongOnes(unittest.TestCase):
    """Thousands of tables: what runs long ends soon after a signal, counted
    in requests."""

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-signals-')
        subprocess.run(['bash', '-ec', r"""
qemu-img create -q -f qcow2 -o cluster_size=512,preallocation=metadata all 16M
cp all snap; qemu-img snapshot -c s1 snap
qemu-io -c 'write -P 1 0 4M' -c 'write -P 2 10M 2M' snap > /dev/null
cp all damaged; python3 - <<'P'
import struct
f = open('damaged', 'r+b')
table, = struct.unpack('>Q', (f.seek(48), f.read(8))[1])
n, = struct.unpack('>I', (f.seek(56), f.read(4))[1])
f.seek(table)
for block in struct.unpack(f'>{n * 64}Q', f.read(n * 512))[9::7]:
    if block:
        f.seek(block); f.write(b'\0' * 64 + b'\0\5' * 16)
P
"""], cwd=cls.dir, check=True, timeout=SECONDS)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def requests(self, words, image, at):
        """Requests from the one at which @at is sent on."""
        shutil.copy(self.path(image), self.path('t'))
        with open(self.path('count'), 'wb'):
            pass
        words = ([w.replace('IMAGE', 't') for w in words.split()] +
                 ([] if 'IMAGE' in words else ['t']))
        r = subprocess.run([TOOLS['img']] + words, cwd=self.dir,
                           timeout=SECONDS, capture_output=True,
                           env=dict(os.environ, FIRN_AIO='threads',
                                    LD_PRELOAD=MODULE, FIRN_SIGNAL_AT=at,
                                    FIRN_SIGNAL_COUNT=self.path('count')))
        return os.path.getsize(self.path('count')), r

    def same(self, image):
        return qemu('qemu-img', 'compare', self.path(image),
                    self.path('t')).returncode == 0

    def sound(self, name, image, r):
        check = qemu('qemu-img', 'check', self.path('t')).returncode
        if name == 'check -r':
            return
        self.assertIn(check, (0, 3), (name, r.stderr))
        if check == 3:
            self.assertTrue(b'check -r leaks' in r.stderr or
                            b'again' in r.stderr, r.stderr)
        if b'when all was done' not in r.stderr:
            self.assertTrue(self.same(image), (name, r.stderr))

    def stops_soon(self, name):
        words, image, shares, rest = LONG_CASES[name]
        total, r = self.requests(words, image, '1:0')
        self.assertIn(r.returncode, (0, 3), r.stderr)
        for share in shares:
            at = total * share // 100
            after, r = self.requests(words, image,
                                     f'{at}:{int(signal.SIGINT)}')
            self.assertEqual(r.returncode, -signal.SIGINT, (name, share))
            self.assertLess(after, total * rest / 100,
                            f'{name} at {share} % of {total}: {r.stderr}')
            self.sound(name, image, r)


class Live(Signals):
    """With the back end that is taken by default, at moments of chance."""

    test_kill_leaves_leaks_at_worst = None
    test_second_signal_ends_at_once = None
    test_ignored_signals_stay_ignored = None

    def start(self, work, tool, words, **kw):
        return subprocess.Popen([TOOLS[tool]] + words, cwd=work,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **kw)

    def ends_by(self, p, sig):
        out, err = p.communicate(timeout=SECONDS)
        self.assertEqual(p.returncode, -sig, (out, err))
        return out, err

    def test_long_commands_end_soon(self):
        moments = random.Random(20261121)
        for name in ('convert', 'convert -c', 'commit', 'rebase', 'bench'):
            tool, text, may_change = CASES[name]
            for sig in (signal.SIGINT, signal.SIGTERM):
                work = self.fresh(may_change)
                p = self.start(work, tool, words_of(tool, text))
                time.sleep(moments.uniform(0.005, 0.03))
                p.send_signal(sig)
                _, err = p.communicate(timeout=SECONDS)
                self.assertIn(p.returncode, (0, -sig), err)
                self.check_images(work, may_change, p.returncode == 0 or
                                  b'all was done' in err)

    def test_limited_rate_does_not_hold_up_the_end(self):
        work = self.fresh(['top', 'base'])
        p = self.start(work, 'img', 'commit -p -r 1k top'.split())
        self.assertTrue(p.stdout.read(1))   # it has begun
        time.sleep(0.05)
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        _, err = self.ends_by(p, signal.SIGINT)
        self.assertLess(time.monotonic() - start, 60)  # 64k of the rate
        self.assertIn(b'interrupted by SIGINT', err)
        self.check_images(work, {'top': 'same', 'base': 'any'}, False)

    def test_waits_of_io_are_interrupted(self):
        for sig, commands in (
                (signal.SIGINT, ['write -P 1 0 64k', 'sleep 60000']),
                (signal.SIGHUP, ['break write_aio A', 'write 0 64k']),
                (signal.SIGINT, ['break pwritev A', 'write -c 0 4k',
                                 'write 4k 4k', 'sleep 60000']),
                (signal.SIGTERM, ['break read_aio A', 'read 0 4k']),
                (signal.SIGTERM, ['break flush_to_disk A', 'write 0 4k',
                                  'flush']),
                (signal.SIGINT, ['break write_aio A',
                                 'multiwrite 0 4k ; 1M 4k']),
                (signal.SIGTERM, ['break write_aio A', 'aio_write 0 64k',
                                  'wait_break A', 'sleep 60000'])):
            work = self.fresh(['src'])
            words = [w for c in commands for w in ('-c', c)]
            p = self.start(work, 'io', words + ['blkdebug::src'])
            time.sleep(0.1)
            p.send_signal(sig)
            self.ends_by(p, sig)
            self.is_consistent(os.path.join(work, 'src'))

    def test_prompt_of_io_closes_its_image(self):
        work = self.fresh(['maps'])
        p = self.start(work, 'io', ['maps'], stdin=subprocess.PIPE)
        p.stdin.write(b'write -P 1 3M 64k\n')
        p.stdin.flush()
        while b'wrote' not in p.stdout.readline():
            pass
        p.send_signal(signal.SIGTERM)
        p.wait(SECONDS)
        self.ends_by(p, signal.SIGTERM)
        self.is_consistent(os.path.join(work, 'maps'))
        # The bitmaps were stored, so they are not inconsistent.
        r = qemu('qemu-img', 'info', os.path.join(work, 'maps'))
        self.assertNotIn(b'in-use', r.stdout)

    def test_reader_of_output_may_go(self):
        work = self.fresh()
        for words in ('map --output=json src', 'info src'):
            p = subprocess.Popen(
                f'"{TOOLS["img"]}" {words} | head -c 1 >/dev/null; '
                'exit ${PIPESTATUS[0]}', shell=True, cwd=work,
                executable='/bin/bash', stderr=subprocess.PIPE)
            _, err = p.communicate(timeout=SECONDS)
            self.assertEqual((p.returncode, err), (0, b''), words)

    def test_image_is_closed_though_nobody_reads(self):
        work = self.fresh(['maps'])
        p = subprocess.Popen(
            f'"{TOOLS["io"]}" -c "write 3M 64k" -c length maps | true; '
            'exit ${PIPESTATUS[0]}', shell=True, cwd=work,
            executable='/bin/bash', stderr=subprocess.PIPE)
        p.communicate(timeout=SECONDS)
        self.assertIn(p.returncode, (0, 1))
        r = qemu('qemu-img', 'info', os.path.join(work, 'maps'))
        self.assertNotIn(b'in-use', r.stdout)

    def test_sigraise_is_a_crash(self):
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL):
            work = self.fresh(['maps'])
            p = self.start(work, 'io', ['-c', 'write 3M 64k', '-c',
                                        f'sigraise {int(number)}', 'maps'])
            out, _ = self.ends_by(p, number)
            self.assertIn(b'wrote', out)
            r = qemu('qemu-img', 'info', os.path.join(work, 'maps'))
            self.assertIn(b'in-use', r.stdout)


def add_sweeps():
    for name in LONG_CASES:
        def stops_soon(self, name=name):
            self.stops_soon(name)
        word = ''.join(c if c.isalnum() else '_' for c in name)
        setattr(LongOnes, f'test_{word}_ends_soon', stops_soon)
    for name in CASES:
        def test(self, name=name):
            self.sweep(name, signal.SIGTERM)
        word = ''.join(c if c.isalnum() else '_' for c in name)
        setattr(Signals, f'test_{word}_is_interrupted_anywhere', test)
        setattr(Live, f'test_{word}_is_interrupted_anywhere', None)


add_sweeps()

if __name__ == '__main__':
    # nohup and shells that start something in the background ignore some.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
    unittest.main(verbosity=2)
