#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The demonstration behind scripts/demo; takes the build directory.

1. firn-vmm boots a 1 GiB guest on a qcow2 disk. The guest writes and verifies
   memory and disk blocks from a seeded generator and counts its rounds.
2. It is saved, runs on, and is killed with SIGKILL.
3. A new process restores it: it must go on at the saved counter, with the
   nonce of that boot, and every block of RAM and disk must verify.
4. A real QEMU runs a small guest program and makes a snapshot; firn-vmstate
   lists, shows and verifies it and dumps the guest's memory, which must hold
   the bytes that the program wrote.

Ends with status 1 and a reason at the first thing that is not as it should.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'tests/integration'))

import qemu_fixtures                      # noqa: E402
from vmm_client import FirnVmm, VmmError  # noqa: E402

MEMORY = 1 << 30
QEMU_MEMORY_MIB = 512
TAG = 'demo'


class Demo:
    """Where things are, and the rows of the table at the end."""

    def __init__(self, build, where):
        self.vmm = os.path.join(build, 'vmm/firn-vmm')
        self.tool = os.path.join(build, 'tools/firn-vmstate')
        self.where = where
        self.disk = os.path.join(where, 'disk.qcow2')
        self.rows = []

    def row(self, what, nbytes, seconds):
        self.rows.append((what, nbytes, seconds))

    def start(self, *more):
        return FirnVmm(self.vmm, '--memory', str(MEMORY), '--disk', self.disk,
                       '--cache', 'none', *more)

    def table(self):
        print('\n%-44s %14s %9s %9s' % ('what', 'bytes', 'seconds', 'MB/s'))
        for what, nbytes, seconds in self.rows:
            print('%-44s %14d %9.2f %9.0f' % (
                what, nbytes, seconds, nbytes / seconds / 1e6))


def say(text):
    print('\n=== ' + text, flush=True)


def run(*argv, show=True, lines=None):
    """Run a command that must succeed; show it with its first lines.

    Paths are shown without their directories: all are in one.
    """
    if show:
        print('$ ' + ' '.join(map(os.path.basename, argv)), flush=True)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode('utf-8', 'replace')
    if done.returncode != 0:
        raise VmmError('%s: exit status %d: %s' % (argv[0], done.returncode,
                                                   text.strip()))
    if show:
        out = re.sub(r'/\S*/demo-\w+/', '', text).splitlines()
        print('\n'.join(out[:lines]))
        if lines and len(out) > lines:
            print('... (%d more lines)' % (len(out) - lines))
    return text


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def state_bytes(image, tag):
    return next(int(s['vm-state-size'])
                for s in qemu_fixtures.snapshot_table(image)
                if s['name'] == tag)


def verify_guest(demo, vm, what):
    """The monitor's verify: every RAM and disk block against its generator."""
    seconds = timed(lambda: print('\n'.join(vm.command('verify'))))
    demo.row(what, MEMORY, seconds)


def wait_unlocked(disk):
    """The kernel ends the I/O of a killed process, and with it its locks, a
    moment after the process is gone."""
    for _ in range(500):
        if subprocess.run(['qemu-img', 'info', disk], check=False,
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.02)
    raise VmmError('%s stays locked' % disk)


def save_and_kill(demo):
    """Returns (nonce, counter when saved, counter when killed)."""
    say('a guest with 1 GiB boots and works')
    with demo.start('--fill', '60') as vm:
        at, nonce, counter = vm.guest()
        at, _, counter = vm.guest(at + 1)
        print('guest: nonce %s counter %d' % (nonce, counter))

        say('it is saved, runs on, and is killed with SIGKILL')
        vm.command('stop')
        _, saved = vm.status()
        seconds = timed(lambda: vm.command('savevm ' + TAG))
        nbytes = state_bytes(demo.disk, TAG)
        demo.row('savevm, cache=none', nbytes, seconds)
        print('saved at counter %d: %d bytes in %.2f s' % (
            saved, nbytes, seconds))
        at = len(vm.lines)
        vm.command('cont')
        last = saved
        while last < saved + 3:
            at, _, last = vm.guest(at + 1)
        print('it ran on to counter %d' % last)
        vm.kill()
        print('pid %d was killed' % vm.pid)
    wait_unlocked(demo.disk)
    return nonce, saved, last


def restore(demo, nonce, saved, killed_at):
    say('a new process restores it')
    run('qemu-img', 'check', demo.disk)
    run('qemu-img', 'snapshot', '-l', demo.disk)
    with demo.start('--paused') as vm:
        seconds = timed(lambda: vm.command('loadvm ' + TAG))
        demo.row('loadvm, cache=none, fresh process',
                 state_bytes(demo.disk, TAG), seconds)
        now_nonce, now = vm.status()
        if (now_nonce, now) != (nonce, saved):
            raise VmmError('expected nonce %s counter %d, not %s and %d' % (
                nonce, saved, now_nonce, now))
        print('pid %d: nonce %s counter %d, as saved (killed at %d)' % (
            vm.pid, now_nonce, now, killed_at))
        verify_guest(demo, vm, 'verify of restored RAM and disk')

        say('and it goes on')
        at = len(vm.lines)
        vm.command('cont')
        for _ in range(2):
            at, now_nonce, now = vm.guest(at + 1)
            print(vm.lines[at])
        if now_nonce != nonce or now <= saved:
            raise VmmError('the guest did not go on')
        vm.command('stop')
        verify_guest(demo, vm, 'verify after it ran on')
        if vm.quit() != 0:
            raise VmmError('firn-vmm did not end well')
    run('qemu-img', 'check', demo.disk)


def qemu_part(demo):
    say('a snapshot that a real QEMU makes')
    image = os.path.join(demo.where, 'qemu.qcow2')
    seconds = timed(lambda: qemu_fixtures.make_snapshot(
        image, QEMU_MEMORY_MIB))
    print('qemu-system-x86_64 -accel tcg ran a guest program and saved it '
          '(%.1f s with start and end)' % seconds)
    tag = qemu_fixtures.TAG
    run(demo.tool, 'list', image)
    run(demo.tool, 'show', image, tag, lines=30)
    seconds = timed(lambda: run(demo.tool, 'verify', image, tag))
    demo.row('firn-vmstate verify: RAM in QEMU\'s snapshot',
             QEMU_MEMORY_MIB << 20, seconds)
    ram = os.path.join(demo.where, 'ram')
    seconds = timed(lambda: run(demo.tool, 'dump-ram', '-q', image, tag, '-o',
                                ram))
    demo.row('firn-vmstate dump-ram of the same, sparse',
             QEMU_MEMORY_MIB << 20, seconds)
    check_dump(demo.where)


def check_dump(where):
    """The file that holds pc.ram must have what the guest program wrote."""
    ranges = qemu_fixtures.default_ranges(QEMU_MEMORY_MIB)
    for name in sorted(os.listdir(where)):
        path = os.path.join(where, name)
        if (not name.startswith('ram')
                or os.path.getsize(path) != QEMU_MEMORY_MIB << 20):
            continue
        with open(path, 'rb') as dump:
            for address, nbytes, seed in ranges:
                dump.seek(address)
                if dump.read(nbytes) != qemu_fixtures.expected_words(seed,
                                                                     nbytes):
                    raise VmmError('%s: wrong bytes at %#x' % (name, address))
                print('%s: %d bytes at %#x are what the guest program wrote'
                      % (name, nbytes, address))
        return
    raise VmmError('no dump of %d MiB' % QEMU_MEMORY_MIB)


def main():
    build = os.path.abspath(sys.argv[1])
    where = tempfile.mkdtemp(prefix='demo-', dir=build)
    demo = Demo(build, where)
    try:
        run('qemu-img', 'create', '-q', '-f', 'qcow2', demo.disk, '1G')
        nonce, saved, killed_at = save_and_kill(demo)
        restore(demo, nonce, saved, killed_at)
        qemu_part(demo)
        demo.table()
    except (VmmError, RuntimeError) as reason:
        print('demo: FAILED: %s' % reason)
        return 1
    finally:
        shutil.rmtree(where)
    print('\ndemo: all of it worked')
    return 0


if __name__ == '__main__':
    sys.exit(main())
