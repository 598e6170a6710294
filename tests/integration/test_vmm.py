#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""firn-vmm from the outside: saved, killed, restored, and its images checked
by qemu-img after each step.

Environment: FIRN_VMM (path of firn-vmm), or FIRN_BUILD_DIR (build directory).
FIRN_VMM_DIR: where the images go (default: a new directory in /var/tmp, since
O_DIRECT does not work on every /tmp).
"""

import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

BUILD = os.environ.get('FIRN_BUILD_DIR', 'build')
VMM = os.environ.get('FIRN_VMM', os.path.join(BUILD, 'vmm', 'firn-vmm'))
TIMEOUT = 300

QEMU_IMG = shutil.which('qemu-img')
STATE = re.compile(r'^guest: nonce (\w+) counter (\d+)$')
VERIFY = re.compile(r'verify: ram (\d+) blocks ok, disk (\d+) blocks ok, '
                    r'(\d+) bad')


def wait_unlocked(path):
    """The kernel ends the I/O of a killed process, and with it its locks, a
    moment after the process is gone."""
    end = time.monotonic() + TIMEOUT
    while b' lock' in subprocess.run([QEMU_IMG, 'info', path], check=False,
                                     capture_output=True).stderr:
        if time.monotonic() > end:
            raise AssertionError('%s stays locked' % path)
        time.sleep(0.02)


class Vmm:
    """A running firn-vmm; stdout is split into answers and guest lines."""

    def __init__(self, disks, *options, env=None):
        argv = [VMM]
        self.disks = disks
        for disk in disks:
            argv += ['--disk', disk]
        self.proc = subprocess.Popen(
            argv + list(options), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, **(env or {})))
        self.answers = queue.Queue()
        self.guest_lines = []
        self.news = threading.Condition()
        self.stderr = ''
        self.readers = [threading.Thread(target=self.read_stdout),
                        threading.Thread(target=self.read_stderr)]
        for reader in self.readers:
            reader.start()

    def read_stdout(self):
        for line in self.proc.stdout:
            line = line.rstrip('\n')
            if line.startswith('guest: '): # also one of info status
                with self.news:
                    self.guest_lines.append(line)
                    self.news.notify_all()
            else:
                self.answers.put(line)
        self.answers.put(None)

    def read_stderr(self):
        self.stderr = self.proc.stderr.read()

    def send(self, command):
        self.proc.stdin.write(command + '\n')
        self.proc.stdin.flush()

    def answer(self):
        """Lines of the next answer, the last one 'ok' or 'error: ...'."""
        lines = []
        while True:
            line = self.answers.get(timeout=TIMEOUT)
            if line is None:
                raise EOFError('firn-vmm is gone: %r' % self.stderr)
            lines.append(line)
            if line == 'ok' or line.startswith('error: '):
                return lines

    def ask(self, command):
        self.send(command)
        return self.answer()

    def do(self, command):
        lines = self.ask(command)
        if lines[-1] != 'ok':
            raise AssertionError('%s: %s' % (command, lines))
        return lines[:-1]

    def wait_for(self, text, count=1):
        """Wait for COUNT new guest lines with TEXT in them; the last."""
        end = time.monotonic() + TIMEOUT
        with self.news:
            seen = len(self.guest_lines)
            while True:
                hits = [l for l in self.guest_lines[seen:] if text in l]
                if len(hits) >= count:
                    return hits[-1]
                if not self.news.wait(end - time.monotonic()):
                    raise AssertionError('no %r in %r' % (text,
                                                          self.guest_lines))

    def wait_ready(self):
        end = time.monotonic() + TIMEOUT
        with self.news:
            while not any('ready' in l for l in self.guest_lines):
                if not self.news.wait(end - time.monotonic()):
                    raise AssertionError('the guest is not ready')

    def state(self):
        """(nonce, counter) of the guest."""
        self.do('info status')
        with self.news:
            match = [m for m in map(STATE.match, self.guest_lines) if m][-1]
        return match.group(1), int(match.group(2))

    def end(self):
        self.proc.stdin.close()
        return self.reap()

    def kill(self):
        self.proc.kill()
        code = self.reap()
        for disk in self.disks:
            wait_unlocked(disk)
        return code

    def reap(self):
        code = self.proc.wait(timeout=TIMEOUT)
        for reader in self.readers:
            reader.join()
        for pipe in (self.proc.stdin, self.proc.stdout, self.proc.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        return code


@unittest.skipUnless(QEMU_IMG, 'qemu-img is not installed')
class VmmTest(unittest.TestCase):

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='firn-vmm-',
                                    dir=os.environ.get('FIRN_VMM_DIR',
                                                       '/var/tmp'))
        self.vmms = []
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.addCleanup(self.end_all)

    def end_all(self):
        for vmm in self.vmms:
            if vmm.proc.poll() is None:
                vmm.kill()

    def vmm(self, disks, *options, env=None):
        if isinstance(disks, str):
            disks = [disks]
        vmm = Vmm(disks, *options, env=env)
        self.vmms.append(vmm)
        return vmm

    def image(self, name='d.qcow2', size='64M', where=None, options=()):
        path = os.path.join(where or self.dir, name)
        subprocess.run([QEMU_IMG, 'create', '-q', '-f', 'qcow2', *options,
                        path, size], check=True)
        return path

    def check(self, path, leaks_allowed=False):
        """qemu-img check: clean, or leaks only, which are then repaired."""
        done = subprocess.run([QEMU_IMG, 'check', path],
                              capture_output=True, text=True)
        if done.returncode == 3 and leaks_allowed:
            subprocess.run([QEMU_IMG, 'check', '-q', '-r', 'leaks', path],
                           check=True, capture_output=True)
            done = subprocess.run([QEMU_IMG, 'check', path],
                                  capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def listed(self, path):
        """{tag: size column} of qemu-img snapshot -l."""
        text = subprocess.run([QEMU_IMG, 'snapshot', '-l', path], check=True,
                              capture_output=True, text=True).stdout
        rows = [line.split() for line in text.splitlines()[2:]]
        return {row[1]: row[2] + ' ' + row[3] for row in rows}

    def expect_listed(self, path, tags, carries=True):
        rows = self.listed(path)
        self.assertEqual(sorted(rows), sorted(tags))
        for size in rows.values():
            if carries:
                self.assertRegex(size, r'^[1-9][0-9.]* [KMG]iB$')
            else:
                self.assertEqual(size, '0 B')

    def text_of(self, path):
        if not os.path.exists(path):
            return ''
        with open(path) as file:
            return file.read()

    def verify(self, vmm):
        match = VERIFY.search('\n'.join(vmm.do('verify')))
        self.assertIsNotNone(match)
        ram, disk, bad = map(int, match.groups())
        self.assertEqual(bad, 0)
        self.assertGreater(ram, 0)
        self.assertGreater(disk, 0)

    def expect_restored(self, vmm, saved):
        """The guest goes on at SAVED (nonce, counter), and is whole."""
        nonce, counter = vmm.state()
        self.assertEqual(nonce, saved[0])
        self.assertGreaterEqual(counter, saved[1])
        self.assertLess(counter, saved[1] + 100 * TIMEOUT)
        self.verify(vmm)

    # ---- Save, kill, restore ----

    def round_trip(self, disks, *options, env=None):
        vmm = self.vmm(disks, '--memory', '64M', '--fill', '60', *options,
                       env=env)
        vmm.wait_ready()
        vmm.wait_for('counter')
        vmm.do('stop')
        saved = vmm.state()
        status = vmm.do('info status')
        line = vmm.do('savevm a')[0]
        self.assertRegex(line,
                         r'^savevm a: \d+ bytes in [\d.]+ s, \d+ MB/s$')
        vmm.do('cont')
        vmm.wait_for('counter', 2)
        self.assertGreater(vmm.state()[1], saved[1])
        vmm.kill()
        for i, disk in enumerate(disks):
            self.check(disk, leaks_allowed=True)
            self.expect_listed(disk, ['a'], carries=i == 0)

        vmm = self.vmm(disks, '--memory', '64M', '--loadvm', 'a', '--paused',
                       *options, env=env)
        self.assertEqual(vmm.state(), saved)
        self.assertEqual(vmm.do('info status'), status) # the clock too
        self.verify(vmm)
        vmm.do('cont')
        vmm.wait_for('counter')
        self.expect_restored(vmm, saved)
        self.assertEqual(vmm.end(), 0)
        for disk in disks:
            self.check(disk)

        vmm = self.vmm(disks, '--memory', '64M', '--paused', *options,
                       env=env)
        vmm.do('delvm a')
        self.assertEqual(vmm.end(), 0)
        for disk in disks:
            self.check(disk)
            self.expect_listed(disk, [])

    def test_killed_machine_comes_back(self):
        self.round_trip([self.image()])

    def test_killed_machine_comes_back_without_io_uring(self):
        self.round_trip([self.image()], env={'FIRN_AIO': 'threads'})

    def test_killed_machine_comes_back_with_cache_none(self):
        self.round_trip([self.image()], '--cache', 'none')

    def test_killed_machine_comes_back_one_request_at_a_time(self):
        self.round_trip([self.image()], '--workers', '1', '--no-readahead')

    def test_killed_machine_comes_back_with_anonymous_memory(self):
        self.round_trip([self.image()], '--memory-backend', 'anon')

    def test_killed_machine_comes_back_with_three_disks(self):
        self.round_trip([self.image('a.qcow2'),
                         self.image('b.qcow2', '100M',
                                    options=['-o', 'cluster_size=4k']),
                         self.image('c.qcow2', '33M',
                                    options=['-o', 'compat=0.10'])])

    def test_killed_machine_comes_back_with_two_megabyte_clusters(self):
        self.round_trip([self.image(options=['-o', 'cluster_size=2M'])])

    def test_what_the_serial_port_holds_is_saved(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '256M', '--fill', '90', '--paused')
        vmm.send('cont\nstop\nsavevm early')
        for _ in range(3):
            self.assertEqual(vmm.answer()[-1], 'ok')
        self.assertEqual(vmm.guest_lines, [])
        nonce, _ = vmm.state()
        vmm.kill()
        self.check(disk, leaks_allowed=True)

        vmm = self.vmm(disk, '--memory', '256M', '--loadvm', 'early')
        vmm.wait_ready()
        self.assertEqual(vmm.guest_lines[0],
                         'guest: boot nonce %s seed 1' % nonce)
        self.verify(vmm)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)

    # ---- Several snapshots ----

    def test_middle_one_of_three_is_deleted(self):
        disk = self.image()
        saved = {}
        vmm = self.vmm(disk, '--memory', '64M', '--fill', '40')
        vmm.wait_ready()
        for tag in 'one', 'two', 'three':
            vmm.wait_for('counter')
            vmm.do('stop')
            saved[tag] = vmm.state()
            vmm.do('savevm ' + tag)
            vmm.do('cont')
        self.assertEqual(vmm.end(), 0)
        self.check(disk)
        self.expect_listed(disk, ['one', 'two', 'three'])

        vmm = self.vmm(disk, '--memory', '64M', '--paused')
        vmm.do('delvm two')
        self.assertEqual(vmm.end(), 0)
        self.check(disk)
        self.expect_listed(disk, ['one', 'three'])

        vmm = self.vmm(disk, '--memory', '64M', '--loadvm', 'one')
        self.expect_restored(vmm, saved['one'])
        vmm.do('loadvm three')
        self.expect_restored(vmm, saved['three'])
        self.assertRegex(vmm.ask('loadvm two')[-1], '^error: loadvm: .*two')
        self.assertEqual(vmm.end(), 0)
        self.check(disk)

    def test_running_machine_is_saved_and_loaded_again_and_again(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '32M', '--fill', '50')
        vmm.wait_ready()
        for _ in range(5):
            vmm.do('savevm x')
            saved = vmm.state()
            time.sleep(0.1)
            vmm.do('loadvm x')
            nonce, counter = vmm.state()
            self.assertEqual(nonce, saved[0])
            self.verify(vmm)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)
        self.expect_listed(disk, ['x'])

    def test_info_snapshots_reads_like_qemu_img(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '32M')
        vmm.wait_ready()
        self.assertEqual(vmm.do('info snapshots'), ['There is no snapshot.'])
        vmm.do('savevm first')
        vmm.do('savevm a_tag_that_is_longer_than_its_column')
        ours = vmm.do('info snapshots')
        self.assertEqual(vmm.end(), 0)
        theirs = subprocess.run([QEMU_IMG, 'snapshot', '-l', disk],
                                check=True, capture_output=True,
                                text=True).stdout.splitlines()
        self.assertEqual([l.rstrip() for l in ours],
                         [l.rstrip() for l in theirs])

    # ---- Failures ----

    def test_sigkill_during_a_save_harms_nothing(self):
        disk = self.image()
        options = ['--memory', '256M', '--fill', '90', '--cache', 'none']
        vmm = self.vmm(disk, *options)
        vmm.wait_ready()
        vmm.do('stop')
        saved = vmm.state()
        vmm.do('savevm before')
        self.assertEqual(vmm.end(), 0)
        killed_early = 0
        for delay in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2):
            vmm = self.vmm(disk, *options, '--loadvm', 'before')
            vmm.wait_for('counter')
            vmm.send('savevm killed')
            time.sleep(delay)
            vmm.kill()
            self.check(disk, leaks_allowed=True)
            tags = self.listed(disk)
            self.assertIn('before', tags)
            self.assertLessEqual(set(tags), {'before', 'killed'})
            killed_early += 'killed' not in tags
            if 'killed' in tags: # the kill came after the end
                vmm = self.vmm(disk, *options, '--loadvm', 'killed')
                self.expect_restored(vmm, saved)
                vmm.do('delvm killed')
                self.assertEqual(vmm.end(), 0)
        self.assertGreater(killed_early, 0)
        vmm = self.vmm(disk, *options, '--loadvm', 'before')
        self.expect_restored(vmm, saved)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)
        self.expect_listed(disk, ['before'])

    def test_enospc_during_a_save_harms_nothing(self):
        mount = os.path.join(self.dir, 'tmpfs')
        os.mkdir(mount)
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=100M',
                               'tmpfs', mount], capture_output=True)
        if done.returncode:
            self.skipTest('cannot mount a tmpfs here')
        self.addCleanup(subprocess.run, ['umount', '-l', mount])
        disk = self.image(where=mount, size='16M')
        vmm = self.vmm(disk, '--memory', '64M', '--fill', '90')
        vmm.wait_ready()
        vmm.do('stop')
        saved = vmm.state()
        vmm.do('savevm fits')
        vmm.do('cont')
        vmm.wait_for('counter')
        answer = vmm.ask('savevm does_not')[-1]
        self.assertRegex(answer, '^error: savevm: .*No space left on device')
        vmm.wait_for('errors 0') # the guest goes on
        self.verify(vmm)
        self.assertEqual(vmm.end(), 0)
        self.check(disk, leaks_allowed=True)
        self.expect_listed(disk, ['fits'])

        vmm = self.vmm(disk, '--memory', '64M', '--loadvm', 'fits')
        self.expect_restored(vmm, saved)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)

    def test_sigint_cancels_a_save(self):
        for _ in range(5):      # if we look when all is saved, which quits
            disk = self.image()
            vmm = self.vmm(disk, '--memory', '512M', '--fill', '95', '--cache',
                           'none', '--no-readahead', '--workers', '1')
            vmm.wait_ready()
            vmm.send('savevm x')
            # It has begun: more than the guest can have written.
            while os.stat(disk).st_blocks * 512 < 96 << 20:
                time.sleep(0.005)
            vmm.proc.send_signal(signal.SIGINT)
            answer = vmm.answer()[-1]
            if answer != 'ok':
                break
            vmm.reap()
        self.assertRegex(answer, '^error: savevm: .*[Cc]ancel')
        vmm.wait_for('counter') # it runs on
        self.assertEqual(vmm.end(), 0)
        self.check(disk)
        self.expect_listed(disk, [])

    def test_sigterm_ends_the_program_cleanly(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '32M')
        vmm.wait_ready()
        vmm.proc.send_signal(signal.SIGTERM)
        self.assertEqual(vmm.reap(), 0)
        self.check(disk)

    def test_snapshot_of_another_machine_is_refused(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '32M')
        vmm.wait_ready()
        vmm.do('savevm x')
        self.assertEqual(vmm.end(), 0)

        vmm = self.vmm(disk, '--memory', '64M', '--loadvm', 'x')
        self.assertEqual(vmm.reap(), 1)
        self.assertRegex(vmm.stderr, '^firn-vmm: loadvm: .*ram')
        vmm = self.vmm(disk, '--memory', '64M')
        vmm.wait_ready()
        vmm.do('stop')
        before = vmm.state()
        self.assertRegex(vmm.ask('loadvm x')[-1], '^error: loadvm: .*ram')
        self.assertEqual(vmm.state(), before)
        vmm.do('cont')
        self.verify(vmm)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)

    def test_restored_disk_is_the_one_that_was_saved(self):
        disk = self.image()
        vmm = self.vmm(disk, '--memory', '32M')
        vmm.wait_ready()
        vmm.wait_for('counter', 2)
        vmm.do('savevm x')
        self.assertEqual(vmm.end(), 0)
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 64M',
                        disk], check=True, capture_output=True)
        vmm = self.vmm(disk, '--memory', '32M', '--loadvm', 'x')
        self.verify(vmm)
        self.assertEqual(vmm.end(), 0)
        self.check(disk)

    def test_changed_byte_on_a_disk_shows(self):
        raw = os.path.join(self.dir, 'd.raw')
        with open(raw, 'wb') as file:
            file.truncate(16 << 20)
        vmm = self.vmm(raw, '--memory', '32M')
        vmm.wait_ready()
        vmm.do('stop')
        self.verify(vmm)
        with open(raw, 'r+b') as file:
            file.seek(5 << 20)
            file.write(b'x')
        match = VERIFY.search('\n'.join(vmm.do('verify')))
        self.assertEqual(match.group(3), '1')
        self.assertEqual(vmm.end(), 0)

    def test_machine_without_a_place_for_its_state_is_not_saved(self):
        raw = os.path.join(self.dir, 'd.raw')
        with open(raw, 'wb') as file:
            file.truncate(16 << 20)
        vmm = self.vmm(raw, '--memory', '32M')
        vmm.wait_ready()
        self.assertRegex(vmm.ask('savevm x')[-1], '^error: savevm: .')
        vmm.wait_for('counter') # it runs on
        self.assertEqual(vmm.end(), 0)

    # ---- The command line and the monitor ----

    def run_to_end(self, *argv):
        return subprocess.run([VMM, *argv], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=TIMEOUT)

    def test_bad_usage_exits_2(self):
        disk = self.image()
        for argv in ([], ['--disk'], ['--disk', disk, '--memory', '3M'],
                     ['--disk', disk, '--memory', '1G5'],
                     ['--disk', disk, '--workers', '65'],
                     ['--disk', disk, '--chunk', '1000'],
                     ['--disk', disk, '--fill', '101'],
                     ['--disk', disk, '--memory-backend', 'paper'],
                     ['--disk', disk, '--colour'], ['--disk', disk, 'x']):
            done = self.run_to_end(*argv)
            self.assertEqual(done.returncode, 2, argv)
            self.assertTrue(done.stderr, argv)
            self.assertEqual(done.stdout, '', argv)

    def test_machine_that_cannot_be_made_exits_1(self):
        disk = self.image()
        missing = os.path.join(self.dir, 'missing')
        for argv, text in (
                (['--disk', missing], 'missing'),
                (['--disk', disk, '--cache', 'sometimes'], 'sometimes'),
                (['--disk', disk, '--loadvm', 'none'], 'none'),
                (['--disk', disk, '--disk', disk], 'd.qcow2')):
            done = self.run_to_end(*argv)
            self.assertEqual(done.returncode, 1, argv)
            self.assertRegex(done.stderr, '^firn-vmm: .*' + text)

    def test_help_and_version(self):
        self.assertIn('--loadvm', self.run_to_end('--help').stdout)
        self.assertRegex(self.run_to_end('--version').stdout,
                         r'^firn-vmm \d+\.\d+\.\d+\n$')

    def test_monitor_answers_every_line(self):
        vmm = self.vmm(self.image(), '--memory', '32M', '--paused')
        self.assertRegex(vmm.ask('dance')[-1], '^error: .*dance')
        self.assertRegex(vmm.ask('savevm')[-1], '^error: savevm: ')
        self.assertRegex(vmm.ask('stop now')[-1], '^error: stop: ')
        self.assertRegex(vmm.ask('info weather')[-1], '^error: info: ')
        self.assertRegex(vmm.ask('loadvm none')[-1], '^error: loadvm: ')
        self.assertRegex(vmm.ask('delvm none')[-1], '^error: delvm: ')
        self.assertRegex(vmm.ask('verify')[-1], '^error: verify: ')
        self.assertIn('savevm TAG', '\n'.join(vmm.do('help')))
        self.assertRegex(vmm.do('info status')[0], '^status: stopped')
        vmm.do('  cont  ')
        self.assertRegex(vmm.do('info status')[0], '^status: running')
        vmm.do('stop')
        self.assertRegex(vmm.do('info status')[0], '^status: stopped')
        self.assertEqual(vmm.ask('quit'), ['ok'])
        self.assertEqual(vmm.reap(), 0)

    def test_serial_output_goes_to_a_file(self):
        log = os.path.join(self.dir, 'serial.log')
        vmm = self.vmm(self.image(), '--memory', '32M', '--serial', log)
        end = time.monotonic() + TIMEOUT
        while 'counter' not in self.text_of(log):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(vmm.end(), 0)
        self.assertEqual(vmm.guest_lines, [])


if __name__ == '__main__':
    unittest.main(verbosity=2)
