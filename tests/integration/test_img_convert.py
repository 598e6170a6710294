#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-img convert, create and progress where lines beside qemu-img do not
reach: devices, full disks, media that cannot be read, what the kernel is asked
for, signals and terminals.
"""

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
BUILD = os.environ.get('FIRN_BUILD_DIR', 'build')
IMG = os.environ.get('FIRN_IMG', os.path.join(BUILD, 'tools/img/firn-img'))
MIB = 1 << 20
TIMEOUT = 300


def run(*args, timeout=TIMEOUT):
    """(exit status, standard output, standard error)"""
    done = subprocess.run(args, stdin=subprocess.DEVNULL, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    return (done.returncode, done.stdout.decode(errors='replace'),
            done.stderr.decode(errors='replace'))


class ConvertTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='firn-convert-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.cwd = os.getcwd()
        os.chdir(self.dir)
        self.addCleanup(os.chdir, self.cwd)

    def img(self, *args, status=0):
        done = run(IMG, *args)
        self.assertEqual(done[0], status, done)
        return done

    def make(self, name, size, extents):
        """A raw file with @extents (offset, bytes) of data in it."""
        with open(name, 'wb') as f:
            f.truncate(size)
            for offset, count in extents:
                f.seek(offset)
                f.write(bytes((offset // 512 + i) % 251 + 1
                              for i in range(count // 512)) * 512)

    def content(self, name):
        with open(name, 'rb') as f:
            return f.read()

    # ---- what cannot be read ----

    def test_salvage_makes_zeroes_and_warns_once_for_a_range(self):
        self.make('a.raw', 8 * MIB, [(0, 5 * MIB)])
        rules = ','.join(
            'file.inject-error.%d.event=read_aio,file.inject-error.%d.sector=%d'
            % (i, i, sector) for i, sector in enumerate(
                [4094, 4095, 4096, 4097, 9000]))
        source = ('driver=raw,file.driver=blkdebug,'
                  'file.image.filename=a.raw,' + rules)
        _, out, err = self.img('convert', '--image-opts', '--salvage', '-O',
                               'qcow2', source, 'b.qcow2')
        lines = err.splitlines()
        self.assertEqual(out, '')
        self.assertEqual(len(lines), 2, err)
        self.assertIn('2048 bytes at offset %d' % (4094 * 512), lines[0])
        self.assertIn('512 bytes at offset %d' % (9000 * 512), lines[1])
        want = bytearray(self.content('a.raw'))
        want[4094 * 512:4098 * 512] = bytes(2048)
        want[9000 * 512:9001 * 512] = bytes(512)
        self.img('convert', '-O', 'raw', 'b.qcow2', 'c.raw')
        self.assertEqual(self.content('c.raw'), bytes(want))

        self.assertEqual(self.img('convert', '-q', '--image-opts', '--salvage',
                                  source, 'd.raw')[2], '')
        self.assertEqual(self.content('d.raw'), bytes(want))
        err = self.img('convert', '--image-opts', source, 'e.raw', status=1)[2]
        self.assertIn('cannot read at offset', err)

    # ---- targets ----

    @unittest.skipUnless(os.geteuid() == 0, 'needs root, to mount')
    def test_a_full_disk_is_an_error_that_says_so(self):
        os.mkdir('small')
        if run('mount', '-t', 'tmpfs', '-o', 'size=2m', 'none', 'small')[0]:
            self.skipTest('mounting is not allowed')
        self.addCleanup(run, 'umount', os.path.join(self.dir, 'small'))
        self.make('a.raw', 8 * MIB, [(0, 6 * MIB)])
        for options in (['-O', 'raw'], ['-O', 'qcow2'], ['-W', '-O', 'qcow2'],
                        ['-C', '-O', 'raw'], ['-t', 'writethrough'],
                        ['-O', 'raw', '-o', 'preallocation=full']):
            with self.subTest(options):
                err = self.img('convert', *options, 'a.raw', 'small/b',
                               status=1)[2]
                self.assertIn('No space left', err)
                self.assertEqual(len(err.splitlines()), 1, err)
                if os.path.exists('small/b'):
                    os.unlink('small/b')

    def loop(self, size):
        """A block device of @size bytes that is full of rubbish."""
        with open('backing', 'wb') as f:
            f.write(b'\xee' * size)
        status, out, err = run('losetup', '--show', '-f', 'backing')
        if status:
            self.skipTest('no loop device: ' + err.strip())
        self.addCleanup(run, 'losetup', '-d', out.strip())
        return out.strip()

    @unittest.skipUnless(os.geteuid() == 0, 'needs root, for loop devices')
    def test_a_device_holds_the_disk_and_no_rubbish(self):
        self.make('a.raw', 8 * MIB, [(MIB, MIB), (5 * MIB, 4096)])
        device = self.loop(8 * MIB)
        for options in (['-O', 'raw'], ['-n', '-O', 'raw'],
                        ['-n', '-W', '-m', '16', '-t', 'none', '-O', 'raw'],
                        ['-O', 'qcow2'],
                        ['-O', 'qcow2', '-o', 'preallocation=metadata',
                         '-o', 'cluster_size=4k']):
            with self.subTest(options):
                with open(device, 'wb') as f:
                    f.write(b'\xee' * 8 * MIB)
                source = 'a.raw'
                if 'qcow2' in options:
                    self.make('s.raw', 4 * MIB, [(MIB, MIB), (3 * MIB, 4096)])
                    source = 's.raw'
                self.img('convert', '-f', 'raw', *options, source, device)
                fmt = options[options.index('-O') + 1]
                status, out, err = run(IMG, 'compare', '-f', 'raw', '-F', fmt,
                                       source, device)
                self.assertEqual(status, 0, out + err)

    def test_direct_targets_end_where_the_source_does(self):
        for size in (4 * MIB + 512, 4 * MIB + 4096 + 1536, 2 * MIB - 512):
            self.make('a.raw', size, [(0, MIB), (size - 1024, 1024)])
            for fmt in ('raw', 'qcow2'):
                with self.subTest((size, fmt)):
                    self.img('convert', '-f', 'raw', '-t', 'none', '-T',
                             'none', '-O', fmt, 'a.raw', 'b.' + fmt)
                    self.img('compare', '-s' if fmt == 'raw' else '-q', '-f',
                             'raw', '-F', fmt, 'a.raw', 'b.' + fmt)
            self.assertEqual(os.path.getsize('b.raw'), size)

    @unittest.skipUnless(os.geteuid() == 0, 'needs root, for loop devices')
    def test_a_device_is_created_within_its_size(self):
        device = self.loop(8 * MIB)
        self.img('create', '-q', '-f', 'qcow2', device, '64M')
        status, _, err = run(IMG, 'create', '-f', 'raw', device, '9M')
        self.assertEqual(status, 1)
        self.assertIn('8388608', err)
        self.assertIn('qcow2', self.img('info', device)[1])
        self.img('create', '-q', '-f', 'raw', device, '4M')
        self.assertIn('format: raw', self.img('info', device)[1])

    def contents(self):
        return {name: self.content(name) for name in os.listdir('.')}

    def test_compressing_replaces_what_the_target_holds(self):
        """qemu-img fails, having copied half of it."""
        self.make('old.raw', 4 * MIB, [(0, 4 * MIB)])
        self.make('a.raw', 4 * MIB, [(MIB, MIB), (3 * MIB, 65536)])
        self.img('convert', '-f', 'raw', '-O', 'qcow2', 'old.raw', 'b.qcow2')
        full = os.path.getsize('b.qcow2')
        self.img('convert', '-n', '-c', '-f', 'raw', '-O', 'qcow2', 'a.raw',
                 'b.qcow2')
        self.img('compare', '-f', 'raw', 'a.raw', 'b.qcow2')
        out = self.img('check', 'b.qcow2')[1]
        self.assertIn('17/64 = 26.56% allocated', out)
        self.assertIn('100.00% compressed', out)
        self.assertLess(os.path.getsize('b.qcow2'), full + 2 * 65536)

        self.img('snapshot', '-c', 's', 'b.qcow2')
        self.img('convert', '-n', '-c', '-f', 'raw', '-O', 'qcow2', 'old.raw',
                 'b.qcow2')
        self.img('compare', '-f', 'raw', 'old.raw', 'b.qcow2')
        self.img('convert', '-l', 's', '-O', 'raw', 'b.qcow2', 's.raw')
        self.assertEqual(self.content('s.raw'), self.content('a.raw'))
        self.img('check', 'b.qcow2')

    # ---- what would destroy what it is based on ----

    def test_no_file_of_the_backing_chain_is_emptied(self):
        self.img('create', '-q', '-f', 'qcow2', 'base', '1M')
        for over, under in (('mid', 'base'), ('top', 'mid')):
            self.img('create', '-q', '-f', 'qcow2', '-b', under, '-F',
                     'qcow2', over)
        self.img('create', '-q', '-f', 'qcow2', 'src', '1M')
        os.symlink('base', 'link')
        os.link('mid', 'twin')
        self.img('create', '-q', '-f', 'qcow2', '-o', 'data_file=bytes',
                 'apart', '1M')
        self.img('create', '-q', '-f', 'qcow2', '-b', 'apart', '-F', 'qcow2',
                 'onapart')
        nested = 'json:{"driver":"qcow2","file":{"driver":"file",' \
                 '"filename":"mid"}}'
        create = ('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b')
        convert = ('convert', '-O', 'qcow2', 'src', '-F', 'qcow2', '-B')
        lines = [words + (backing, target)
                 for words in (create, convert)
                 for backing, target in (
                     ('top', 'top'), ('file:top', 'top'), ('top', 'file:top'),
                     ('top', 'mid'), ('top', 'base'), ('top', 'link'),
                     ('top', 'twin'), (nested, 'base'), ('top', 'file:base'),
                     ('apart', 'bytes'))]
        lines += [create + ('onapart', './bytes')]
        lines += [words + ('top', '-o', 'data_file=' + name, 'new')
                  for words in (create, convert)
                  for name in ('top', 'base', 'link')]
        lines += [('create', '-q', '-f', 'qcow2', '-o', 'data_file=' + data,
                   name, '1M') for data, name in (
                       ('base', 'base'), ('./base', 'base'), ('./new', 'new'))]
        before = self.contents()
        for line in lines:
            with self.subTest(line):
                status, _, err = run(IMG, *line)
                self.assertEqual(status, 1, err)
                self.assertRegex(err, 'would be lost|cannot be its own')
                self.assertTrue(before == self.contents(), 'files changed')
        self.img(*create, 'top', '-u', 'base2', '1M')
        self.img(*convert, 'top', 'other')

    def test_what_is_read_without_locks_is_not_emptied(self):
        self.make('base', MIB, [(0, MIB)])
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
                 'top')
        self.img('create', '-q', '-f', 'qcow2', '-o', 'data_file=bytes',
                 'apart', '1M')
        os.symlink('base', 'link')
        before = self.contents()
        for line in (('convert', '-U', '-O', 'raw', 'top', 'base'),
                     ('convert', '-U', '-O', 'raw', 'top', 'link'),
                     ('convert', '-U', '-O', 'qcow2', 'top', 'file:top'),
                     ('convert', '-U', '-O', 'raw', 'apart', 'bytes'),
                     ('convert', '-U', '-O', 'raw', 'apart', 'top', 'base'),
                     ('convert', '-U', '-O', 'qcow2', '-o', 'data_file=base',
                      'top', 'new'),
                     ('dd', '-U', 'if=top', 'of=top'),
                     ('dd', '-U', 'if=top', 'of=./base')):
            with self.subTest(line):
                status, _, err = run(IMG, *line)
                self.assertEqual(status, 1)
                self.assertIn('would be lost', err)
                self.assertTrue(before == self.contents(), 'files changed')

    # ---- several sources ----

    def test_the_next_source_begins_at_a_sector(self):
        for name, size in (('a', 1000), ('b', 2001), ('c', 512)):
            with open(name, 'wb') as f:
                f.write(os.urandom(size))
        parts = [self.content(n) for n in ('a', 'b', 'c', 'a')]
        want = b''.join(p + bytes(-len(p) % 512) for p in parts)
        for words in ((), ('-c',), ('-C',), ('-S', '0'), ('-W', '-m', '16')):
            with self.subTest(words):
                self.img('convert', *words, '-f', 'raw', '-O', 'qcow2', 'a',
                         'b', 'c', 'a', 'all')
                self.img('convert', '-O', 'raw', 'all', 'all.raw')
                self.assertTrue(self.content('all.raw') == want)

    def test_sources_that_are_too_long_together_are_refused(self):
        huge = 'driver=raw,file.driver=null-co,file.size=%d' % (
            (1 << 63) - 4096)
        for n in range(2, 6):
            status, _, err = run(IMG, 'convert', '-O', 'raw', '--image-opts',
                                 *[huge] * n, 'out')
            self.assertEqual(status, 1)
            self.assertIn('2^63', err)
            self.assertFalse(os.path.exists('out'))

    def test_compressed_data_is_not_put_into_encrypted_images(self):
        self.make('a.raw', MIB, [(0, MIB)])
        key = ('--object', 'secret,id=s,data=abc')
        new = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'
        self.img('create', '-q', *key, '-f', 'qcow2', '-o', new, 'luks', '1M')
        before = self.contents()
        for line in (('-O', 'qcow2', '-o', new, 'a.raw', 'new'),
                     ('-n', '--target-image-opts', 'a.raw', 'driver=qcow2,'
                      'file.filename=luks,encrypt.key-secret=s')):
            with self.subTest(line):
                err = self.img('convert', '-c', *key, *line, status=1)[2]
                self.assertIn('compressed data cannot be encrypted', err)
                self.assertTrue(before == self.contents(), 'files changed')

    # ---- what the kernel is asked for ----

    def calls(self, which, *args):
        """What strace shows of the system calls @which of firn-img."""
        if not shutil.which('strace'):
            self.skipTest('strace is not installed')
        status, _, err = run('strace', '-f', '-o', 'trace', '-e',
                             'trace=' + which, IMG, *args)
        if status and 'ptrace' in err.lower():
            self.skipTest('tracing is not allowed')
        self.assertEqual(status, 0, err)
        with open('trace', encoding='utf-8') as f:
            return f.read()

    def test_offloading_leaves_the_copying_to_the_kernel(self):
        self.make('a.raw', 8 * MIB, [(MIB, 3 * MIB), (6 * MIB, 4096)])
        self.img('convert', '-O', 'qcow2', 'a.raw', 'a.qcow2')
        for source in ('a.raw', 'a.qcow2'):
            with self.subTest(source):
                said = self.calls('copy_file_range', 'convert', '-C', source,
                                  'b.raw')
                self.assertIn('copy_file_range', said)
                self.assertEqual(self.content('b.raw'), self.content('a.raw'))
                for options in ('cluster_size=64k', 'cluster_size=512',
                                'extended_l2=on', 'data_file=b.data'):
                    said = self.calls('copy_file_range', 'convert', '-C',
                                      '-O', 'qcow2', '-o', options, source,
                                      'b.qcow2')
                    self.assertRegex(said, r'copy_file_range.* = [1-9]')
                    self.img('compare', 'a.raw', 'b.qcow2')
                    self.img('check', '-q', 'b.qcow2')
        self.assertNotIn('copy_file_range', self.calls(
            'copy_file_range', 'convert', 'a.raw', 'c.raw'))
        self.img('convert', '-c', '-O', 'qcow2', 'a.raw', 'c.qcow2')
        self.img('convert', '-C', 'c.qcow2', 'd.raw')
        self.assertEqual(self.content('d.raw'), self.content('a.raw'))

    def test_hints_are_given_to_the_file_system(self):
        said = self.calls('ioctl', 'create', '-f', 'qcow2', '-o',
                          'nocow=on,extent_size_hint=64k', 'a', '1M')
        self.assertIn('FS_IOC_GETFLAGS', said)
        self.assertRegex(said, r'FS_IOC_FS[GS]ETXATTR')
        said = self.calls('ioctl', 'create', '-f', 'raw', '-o',
                          'nocow=off,extent_size_hint=0', 'b', '1M')
        self.assertNotIn('FS_IOC_GETFLAGS', said)
        self.assertNotIn('ETXATTR', said)

    # ---- rate and progress ----

    def test_a_rate_is_kept(self):
        self.make('a.raw', 8 * MIB, [(0, 8 * MIB)])
        begin = time.monotonic()
        self.img('convert', '-r', '16M', 'a.raw', 'b.raw')
        self.assertGreater(time.monotonic() - begin, 0.3)

    def test_progress_is_printed_as_scripts_expect_it(self):
        self.make('a.raw', 8 * MIB, [(0, 8 * MIB)])
        out = self.img('convert', '-p', 'a.raw', 'b.raw')[1]
        self.assertRegex(out, r'^(    \(\d+\.\d\d/100%\)\r)+\n$')
        self.assertTrue(out.startswith('    (0.00/100%)\r'), out)
        self.assertTrue(out.endswith('    (100.00/100%)\r\n'), out)
        self.assertEqual(self.img('convert', '-p', '-q', 'a.raw', 'b.raw')[1],
                         '')

    def start(self, *args, **how):
        child = subprocess.Popen([IMG] + list(args), **how)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def test_sigusr1_shows_progress_once(self):
        self.make('a.raw', 16 * MIB, [(0, 16 * MIB)])
        for rate in ('16M', '4M', '1M'):    # if it ends before we look
            child = self.start('convert', '-r', rate, 'a.raw', 'b.raw',
                               stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while child.poll() is None and (
                    not os.path.exists('b.raw') or
                    not os.stat('b.raw').st_blocks > 8):
                time.sleep(0.01)
            child.send_signal(signal.SIGUSR1)
            out, err = child.communicate(timeout=TIMEOUT)
            self.assertEqual((child.returncode, out), (0, b''))
            if err:
                break
            os.remove('b.raw')
        self.assertRegex(err, rb'^    \(\d+\.\d\d/100%\)\n$')

    def test_sigusr1_ends_no_command(self):
        # Not even while it starts, or where there is no progress to show.
        self.img('create', '-q', '-f', 'qcow2', 'a.qcow2', '64M')
        child = self.start('bench', '-q', '-c', '20000', '-d', '1', 'a.qcow2',
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
        caught = 0
        while not caught & 1 << signal.SIGUSR1 - 1:
            self.assertIsNone(child.poll(), 'it does not catch SIGUSR1')
            with open('/proc/%d/status' % child.pid, encoding='ascii') as f:
                caught = int(f.read().split('SigCgt:')[1].split()[0], 16)
        child.send_signal(signal.SIGUSR1)
        self.assertEqual(child.communicate(timeout=TIMEOUT)[1], b'')
        self.assertEqual(child.returncode, 0)

    # ---- terminals ----

    def on_terminal(self, *args, columns=80, status=0):
        """What firn-img writes to a terminal, and what is seen there."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ,
                    struct.pack('HHHH', 24, columns, 0, 0))
        child = self.start(*args, stdin=subprocess.DEVNULL, stdout=slave,
                           stderr=slave)
        os.close(slave)
        text = b''
        try:
            while True:
                piece = os.read(master, 4096)
                if not piece:
                    break
                text += piece
        except OSError:     # the other end is closed
            pass
        os.close(master)
        self.assertEqual(child.wait(TIMEOUT), status, text)
        text = text.decode()
        lines = []
        for line in text.split('\n'):
            seen = ''
            for part in line.split('\r'):
                self.assertLess(len(part), columns, 'is wrapped')
                seen = part + seen[len(part):]
            lines.append(seen.rstrip())
        return text, lines

    def test_a_terminal_gets_rate_and_time_left_too(self):
        self.make('a.raw', 8 * MIB, [(0, 8 * MIB)])
        text, lines = self.on_terminal('convert', '-p', '-r', '8M', 'a.raw',
                                       'b.raw')
        self.assertRegex(text, r'\(\d+\.\d\d/100%\)  [\d.e+]+ [KMG]iB/s  '
                               r'ETA \d+:\d\d')
        self.assertEqual(lines, ['    (100.00/100%)', ''])

    def test_a_narrow_terminal_gets_what_fits(self):
        self.make('a.raw', 8 * MIB, [(0, 8 * MIB)])
        for columns, seen in (32, 'iB/s'), (20, '%'):
            text, lines = self.on_terminal('convert', '-p', '-r', '16M',
                                           'a.raw', 'b.raw', columns=columns)
            self.assertIn(seen, text)
            self.assertEqual(lines, ['    (100.00/100%)', ''])

    def test_an_answer_takes_the_place_of_progress(self):
        self.make('a.raw', 64 * MIB, [(0, 64 * MIB)])
        shutil.copy('a.raw', 'b.raw')
        with open('b.raw', 'r+b') as f:
            f.seek(48 * MIB)
            f.write(b'x')
        text, lines = self.on_terminal('compare', '-p', 'a.raw', 'b.raw',
                                       status=1)
        self.assertIn('iB/s', text)
        self.assertEqual(lines, ['Content mismatch at offset %d!' % (48 * MIB),
                                 '', ''])

    def test_names_cannot_control_a_terminal(self):
        bad = 'a\x1b]0;x\x07\n\udcff'
        shown = r'a\x1b]0;x\x07\n\xff'
        self.make('base', MIB, [(0, MIB)])
        os.rename('base', bad)
        self.img('create', '-q', '-f', 'qcow2', '-b', bad, '-F', 'raw',
                 'over.qcow2')
        self.img('snapshot', '-c', bad, 'over.qcow2')
        self.img('bitmap', '--add', 'over.qcow2', 'b\x1bm')
        for words, times in [(('info', 'over.qcow2'), 2),
                             (('info', '-f', 'raw', bad), 1),
                             (('snapshot', '-l', 'over.qcow2'), 1),
                             (('map', 'over.qcow2'), 1),
                             (('create', '-f', 'qcow2', '-u', '-b', bad, '-F',
                               'raw', bad + '2', '1M'), 2)]:
            with self.subTest(words):
                text, _ = self.on_terminal(*words, columns=999)
                self.assertEqual(text.count(shown), times, text)
                self.assertRegex(text, r'^[^\x00-\x09\x0b\x0c\x0e-\x1f]+$')
                # Programs get the very name.
                done = subprocess.run([IMG, *words], stdin=subprocess.DEVNULL,
                                      capture_output=True, timeout=TIMEOUT,
                                      check=True)
                self.assertEqual(done.stdout.count(os.fsencode(bad)), times)


if __name__ == '__main__':
    unittest.main()
