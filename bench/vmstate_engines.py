# SPDX-License-Identifier: MIT
"""What bench/vmstate times: QEMU, firn and fio, each behind the same calls.

An engine saves into a fresh image and loads from it. Times are taken in the
client around one blocking monitor command; only firn's load into fresh memory
is timed from the start of its process, which loads before anything else.
Memory is sampled from /proc while the command runs.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, 'scripts'),
                os.path.join(ROOT, 'tests/integration')]

import qemu_fixtures  # noqa: E402
import vmm_client     # noqa: E402

TAG = 'bench'
MIB = 1 << 20
CACHE = {'cached': 'writeback', 'none': 'none'}


def rss_bytes(pid):
    """Resident bytes by kind: RssAnon, RssFile, RssShmem of one process."""
    found = {}
    with open('/proc/%d/status' % pid, encoding='ascii') as status:
        for line in status:
            if line.startswith('Rss'):
                name, kib, _ = line.split()
                found[name.rstrip(':')] = int(kib) * 1024
    return found


def guest_rss(pid, size):
    """Resident bytes of the one anonymous mapping that has guest RAM."""
    best = 0
    with open('/proc/%d/smaps' % pid, encoding='utf-8') as smaps:
        bytes_mapped = 0
        for line in smaps:
            words = line.split()
            if words[0] == 'Size:':
                bytes_mapped = int(words[1]) * 1024
            elif words[0] == 'Rss:' and bytes_mapped >= size:
                best = max(best, int(words[1]) * 1024)
    return best


class PeakMemory:
    """Peak of a process's anonymous and file memory, sampled at 100 Hz.

    Guest RAM in a memfd or a shared file shows as RssShmem and is left out.
    Anonymous guest RAM is in here; the caller takes guest_rss() off, which it
    asks for at the end, when the guest's memory is at its largest.
    """

    def __init__(self, pid):
        self.pid = pid
        self.peak = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._sample)

    def _once(self):
        rss = rss_bytes(self.pid)
        self.peak = max(self.peak, rss.get('RssAnon', 0)
                        + rss.get('RssFile', 0))

    def _sample(self):
        while not self.stop.wait(0.01):
            self._once()

    def __enter__(self):
        self._once()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self._once()


class Result:
    """One timed command."""

    def __init__(self, seconds, nbytes, memory=None):
        self.seconds = seconds
        self.bytes = nbytes
        self.memory = memory

    def rate(self):
        return self.bytes / self.seconds


def timed(pid, action):
    with PeakMemory(pid) as memory:
        start = time.monotonic()
        action()
        seconds = time.monotonic() - start
    return seconds, memory.peak


def new_image(path):
    """An empty qcow2 with a 1 GiB disk; the state goes behind that."""
    if os.path.exists(path):
        os.remove(path)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '1G'],
                   check=True)


def state_bytes(image):
    """Size of the saved state, as the snapshot table has it."""
    return next(int(s['vm-state-size'])
                for s in qemu_fixtures.snapshot_table(image)
                if s['name'] == TAG)


class Qemu:
    """qemu-system-x86_64 whose guest never runs; RAM filled from outside."""

    name = 'QEMU'

    def __init__(self, size, fill, ram_dir='/dev/shm'):
        self.size = size
        self.ram = os.path.join(ram_dir, 'firn-bench-%d.ram' % os.getpid())
        self._fill(fill)

    def _fill(self, fill):
        noise = random.Random(1)
        with open(self.ram, 'wb') as ram:
            ram.truncate(self.size)
            # From 16 MiB up: what lies below is the firmware's.
            ram.seek(16 * MIB)
            for _ in range(fill // (4 * MIB)):
                ram.write(noise.randbytes(4 * MIB))

    def close(self):
        os.remove(self.ram)

    def _args(self, image, cache, memory):
        args = ['-S', '-m', str(self.size // MIB), '-drive',
                'if=virtio,format=qcow2,file=%s,cache=%s'
                % (image, CACHE[cache])]
        if memory == 'shared':
            return args + [
                '-object', 'memory-backend-file,id=pc.ram,share=on,'
                'prealloc=on,size=%d,mem-path=%s' % (self.size, self.ram),
                '-machine', 'pc,memory-backend=pc.ram']
        return args + ['-machine', 'pc']

    def save(self, image, cache):
        with qemu_fixtures.running(self._args(image, cache, 'shared')) as vm:
            seconds, peak = timed(vm.process.pid,
                                  lambda: vm.monitor('savevm ' + TAG))
            vm.quit()
        return Result(seconds, state_bytes(image), peak)

    def load(self, image, cache, memory):
        with qemu_fixtures.running(self._args(image, cache, memory)) as vm:
            seconds, peak = timed(vm.process.pid,
                                  lambda: vm.monitor('loadvm ' + TAG))
            if memory == 'anon':
                peak -= guest_rss(vm.process.pid, self.size)
            vm.quit()
        return Result(seconds, state_bytes(image), max(0, peak))


class Firn:
    """firn-vmm, its guest stopped; `plain` is one worker, no read-ahead."""

    def __init__(self, program, size, fill_percent, plain=False):
        self.name = 'firn, 1 worker' if plain else 'firn'
        self.program = program
        self.size = size
        self.fill_percent = fill_percent
        self.options = ['--workers', '1', '--no-readahead'] if plain else []

    def close(self):
        pass

    def _start(self, image, cache, *more):
        return vmm_client.FirnVmm(
            self.program, '--memory', str(self.size), '--disk', image,
            '--cache', CACHE[cache], *self.options, *more)

    def save(self, image, cache):
        with self._start(image, cache, '--fill',
                         str(self.fill_percent)) as vm:
            self._fill_and_stop(vm)
            seconds, peak = timed(vm.pid, lambda: vm.command('savevm ' + TAG))
            vm.quit()
        return Result(seconds, state_bytes(image), peak)

    def load(self, image, cache, memory):
        """Fresh memory: a new process with --loadvm, timed from its start."""
        if memory == 'shared':
            return self._load_again(image, cache)
        start = time.monotonic()
        with self._start(image, cache, '--memory-backend', 'anon', '--paused',
                         '--loadvm', TAG) as vm:
            with PeakMemory(vm.pid) as memory:
                vm.wait_loaded()
                seconds = time.monotonic() - start
            # Guest RAM is anonymous here: what is left of it at the end.
            beyond = memory.peak - guest_rss(vm.pid, self.size)
            vm.quit()
        return Result(seconds, state_bytes(image), max(0, beyond))

    def _load_again(self, image, cache):
        """Memory that is touched: the guest has filled it before."""
        with self._start(image, cache, '--fill',
                         str(self.fill_percent)) as vm:
            self._fill_and_stop(vm)
            seconds, peak = timed(vm.pid, lambda: vm.command('loadvm ' + TAG))
            vm.quit()
        return Result(seconds, state_bytes(image), peak)

    @staticmethod
    def _fill_and_stop(vm):
        vm.wait_for(lambda text: text.startswith('guest: ready'))
        vm.command('stop')


class Fio:
    """1 MiB requests at depth 8: what the storage gives to anybody."""

    name = 'fio'

    def __init__(self, engine, nbytes):
        self.engine = engine
        self.bytes = nbytes // MIB * MIB

    def close(self):
        pass

    def run(self, path, direction, cache):
        args = ['fio', '--name=limit', '--filename=' + path,
                '--rw=' + direction, '--bs=1M', '--iodepth=8',
                '--ioengine=' + self.engine, '--size=%d' % self.bytes,
                '--direct=%d' % (cache == 'none'), '--invalidate=0',
                '--fallocate=native', '--output-format=json']
        if direction == 'write':
            args.append('--end_fsync=1')
        out = subprocess.run(args, check=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout.decode()
        job = json.loads(out[out.index('{'):])['jobs'][0][direction]
        return Result(job['io_bytes'] / job['bw_bytes'], job['io_bytes'])


def warm(path):
    """Read a file into the page cache after what is dirty is on disk."""
    os.sync()
    with open(path, 'rb') as image:
        while image.read(8 * MIB):
            pass
