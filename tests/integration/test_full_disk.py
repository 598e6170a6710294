#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Commands of firn-img and firn-io on a file system that is really full.

Each is run on a small tmpfs with nothing, 200 KiB or 1 MiB left: it either does
all or fails with status 1 and one line that says why; no image is damaged (at
worst clusters leak), what was only read is unchanged, what fails to be created
is not left behind by create; and the same command does it once there is space
again.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

BUILD = os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build'))
TOOLS = {
    'img': os.environ.get('FIRN_IMG', f'{BUILD}/tools/img/firn-img'),
    'io': os.environ.get('FIRN_IO', f'{BUILD}/tools/io/firn-io'),
}
SIZE = 64 << 20
SPARE = (0, 200 << 10, 1 << 20)

FIXTURES = r"""
img() { qemu-img create -q -f qcow2 "$@"; }
io() { qemu-io "$@" > /dev/null; }
img -o cluster_size=4k t 32M; io -c 'write -P 1 0 2M' t
img -b t -F qcow2 over 32M; io -c 'write -P 2 10M 3M' over
img base 32M; io -c 'write -P 5 0 2M' base
img -b base -F qcow2 over2 32M
img e 32M
cp t damaged
python3 - <<'P'
import struct
f = open('damaged', 'r+b')
table, = struct.unpack('>Q', (f.seek(48), f.read(8))[1])
f.seek(table); f.write(b'\0' * 8)    # what is found needs a new cluster
P
"""

# Tool, words (of io: commands), images that may change.
CASES = (
    ('io', ('write 8M 4M',), 't'),
    ('io', ('write 8M 2M', 'write 16M 2M', 'flush'), 't'),
    ('io', ('aio_write 8M 4M', 'aio_flush'), 't'),
    ('io', ('write -P 3 20M 3M',), 't'),
    ('img', 'create -q -f qcow2 -o preallocation=full n 8M', 'n'),
    ('img', 'create -q -f qcow2 -o preallocation=falloc n 8M', 'n'),
    ('img', 'create -q -f raw -o preallocation=full n 8M', 'n'),
    ('img', 'convert -O qcow2 t n', 'n'),
    ('img', 'convert -O raw -S 0 t n', 'n'),
    ('img', 'dd -O qcow2 if=t of=n', 'n'),
    ('img', 'snapshot -c s t', 't'),
    ('img', 'resize -q --preallocation=full t 40M', 't'),
    ('img', 'resize -q --preallocation=falloc t 40M', 't'),
    ('img', 'commit -q over', 'over t'),
    ('img', 'rebase -b  over2', 'over2'),
    ('img', 'amend -o refcount_bits=64 t', 't'),
    ('img', 'bitmap --add -g 512 t b', 't'),
    ('img', 'bench -q -w -c 64 -s 64k -d 4 -f qcow2 e', 'e'),
    ('img', 'check -q -r all damaged', 'damaged'),
)


def words_of(tool, words):
    if tool == 'io':
        return [w for command in words for w in ('-c', command)] + ['t']
    return words.split(' ')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


class FullDisk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        where = tempfile.TemporaryDirectory(prefix='firn-full-')
        cls.addClassCleanup(where.cleanup)
        cls.origin = os.path.join(where.name, 'origin')
        cls.disk = os.path.join(where.name, 'disk')
        os.mkdir(cls.origin)
        os.mkdir(cls.disk)
        subprocess.run(['bash', '-ec', FIXTURES], cwd=cls.origin, check=True,
                       timeout=60)
        cls.before = {n: read(os.path.join(cls.origin, n))
                      for n in os.listdir(cls.origin)}

    def shell(self, *words, **kw):
        return subprocess.run(words, cwd=self.disk, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=60, **kw)

    def fill(self, spare):
        """Leave @spare bytes; returns the file that takes up the rest."""
        left = os.statvfs(self.disk)
        left = left.f_bavail * left.f_frsize - spare
        path = os.path.join(self.disk, 'fill')
        with open(path, 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, left)
        return path

    def unharmed(self, changed, what, mended=False):
        for name, data in self.before.items():
            path = os.path.join(self.disk, name)
            if name not in changed:
                self.assertEqual(read(path), data, (name, what))
            elif name != 'damaged' or mended:
                r = self.shell('qemu-img', 'check', name)
                self.assertIn(r.returncode, (0, 3), (name, r.stdout, what))

    def failed_well(self, tool, words, r, what):
        # firn-io tells results on its output; requests that nobody waits for
        # do not count for its status.
        said = (r.stdout if tool == 'io' else r.stderr).decode()
        if not said.startswith('aio_write failed'):
            self.assertEqual(r.returncode, 1, what)
        self.assertIn('No space left on device', said.splitlines()[-1], what)
        if tool == 'img' and words[0] != 'check': # which tells its findings
            self.assertRegex(said, r'\Afirn-img: [^\n]+\n\Z', what)
        if words[0] == 'create':
            self.assertFalse(os.path.exists(os.path.join(self.disk, 'n')),
                             what)

    def one(self, tool, words, changed, spare):
        """Returns whether it failed for want of space."""
        subprocess.run(['cp', '-r', self.origin + '/.', self.disk],
                       check=True)
        fill = self.fill(spare)
        r = self.shell(TOOLS[tool], *words)
        what = (tool, words, spare, r.returncode, r.stdout[-200:],
                r.stderr[-200:])
        failed = r.returncode != 0 or b' failed: ' in r.stdout
        if failed:
            self.failed_well(tool, words, r, what)
        self.unharmed(changed, what)
        os.unlink(fill)
        if os.path.exists(os.path.join(self.disk, 'n')):
            os.unlink(os.path.join(self.disk, 'n'))
        if failed:
            r = self.shell(TOOLS[tool], *words)
            self.assertEqual(r.returncode, 0, (what, r.stderr))
            self.unharmed(changed, what, mended=True)
        return failed

    def each_size(self, tool, words, changed):
        failed = False
        for spare in SPARE:
            mount = subprocess.run(
                ['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'none',
                 self.disk], capture_output=True)
            if mount.returncode:
                self.skipTest('mount is not permitted')
            try:
                failed |= self.one(tool, words_of(tool, words),
                                   changed.split(), spare)
            finally:
                subprocess.run(['umount', self.disk], check=True)
        self.assertTrue(failed, 'there was space enough')


def add_tests():
    for i, (tool, words, changed) in enumerate(CASES):
        def test(self, tool=tool, words=words, changed=changed):
            self.each_size(tool, words, changed)
        name = re.sub(r'\W+', '_', words if tool == 'img' else words[0])
        setattr(FullDisk, f'test_{i + 1:02}_{tool}_{name}', test)


add_tests()

if __name__ == '__main__':
    # Mounts are of this process and its children only, where that is possible.
    if 'FIRN_UNSHARED' not in os.environ and not subprocess.run(
            ['unshare', '-m', 'true'], capture_output=True).returncode:
        os.execvpe('unshare', ['unshare', '-m', sys.executable, *sys.argv],
                   dict(os.environ, FIRN_UNSHARED='1'))
    unittest.main(verbosity=2)
