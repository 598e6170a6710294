#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What is done with a file whose format nobody has told.

Formats that we have not are refused by name instead of being shown as a raw
disk, and nobody can make an image which is raw for want of anything better
look like one of another format: as with qemu-io, the write fails.
"""

import os
import subprocess
import tempfile
import unittest

import quick_kdf  # noqa: F401

TOOLS = {'firn-img': os.environ['FIRN_IMG'], 'firn-io': os.environ['FIRN_IO']}
# As qemu-img creates them; options that a format needs.
FORMATS = {'vmdk': [], 'vdi': [], 'vhdx': [], 'vpc': [], 'qed': [], 'qcow': [],
           'parallels': [],
           'luks': ['--object', 'secret,id=s,data=x', '-o',
                    'key-secret=s,iter-time=10']}
FLAT_VMDK = ['-o', 'subformat=monolithicFlat']
QCOW2 = b'QFI\xfb\0\0\0\3'


def bochs(kind, version):
    parts = ((b'Bochs Virtual HD Image', 32), (kind, 16), (b'Growing', 16))
    return b''.join(text.ljust(n, b'\0') for text, n in parts) + version


class ProbingTest(unittest.TestCase):

    def setUp(self):
        where = tempfile.TemporaryDirectory()
        self.addCleanup(where.cleanup)
        self.where = where.name
        self.write('disk', b'')
        os.truncate(self.path('disk'), 1 << 20)

    def path(self, name):
        return os.path.join(self.where, name)

    def write(self, name, content):
        with open(self.path(name), 'wb') as file:
            file.write(content)

    def read(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()

    def run_tool(self, tool, *words):
        done = subprocess.run([TOOLS.get(tool, tool), *words], cwd=self.where,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_other_formats_are_refused_by_name(self):
        images = [(name, name, more) for name, more in FORMATS.items()]
        for image, name, more in images + [('flat', 'vmdk', FLAT_VMDK)]:
            made = self.run_tool('qemu-img', 'create', '-q', '-f', name,
                                 *more, image, '1M')
            self.assertEqual(made[0], 0, made)
            before = self.read(image)
            for line in (['info', image], ['check', image],
                         ['convert', '-O', 'qcow2', image, 'copy'],
                         ['create', '-f', 'qcow2', '-b', image, '-F', name,
                          'copy'], ['resize', image, '+1M']):
                with self.subTest(line):
                    status, out, err = self.run_tool('firn-img', *line)
                    self.assertEqual((status, out), (1, ''))
                    self.assertRegex(err, r"^firn-img: .*\b%s\b.* not "
                                     r"supported.*\n$" % name)
            self.assertEqual(self.run_tool('firn-io', '-c', 'write 0 64k',
                                           image)[0], 1)
            self.assertEqual(self.read(image), before)
            self.assertFalse(os.path.exists(self.path('copy')))
            self.assertEqual(self.run_tool('firn-img', 'info', '-f', 'raw',
                                           image)[0], 0)

    def test_what_is_missing_a_piece_is_raw(self):
        cloop = (b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount '
                 b'-r -t iso9660 /dev/cloop $1\n')
        for name, content in (
                ('cloop', cloop), ('', cloop[:-1]), ('', cloop[:40]),
                ('parallels', b'WithoutFreeSpace\2\0\0\0'),
                ('', b'WithoutFreeSpace\3\0\0\0'),
                ('parallels', b'WithouFreSpacExt\2\0\0\0'),
                ('', b'WithouFreSpacExt\2\0\0\1'),
                ('bochs', bochs(b'Redolog', b'\0\0\1')),
                ('bochs', bochs(b'Redolog', b'\0\0\2')),
                ('', bochs(b'Redolog', b'\0\0\3')),
                ('', bochs(b'Undoable', b'\0\0\1')),
                ('', b'# Disk DescriptorFile\n')):
            with self.subTest(content=content):
                self.write('disk', content.ljust(4096, b'\0'))
                theirs = self.run_tool('qemu-img', 'info', 'disk')
                status, out, err = self.run_tool('firn-img', 'info', 'disk')
                self.assertEqual(status, theirs[0], err + theirs[2])
                self.assertIn(name or 'file format: raw\n', out + err)

    def test_a_backing_file_of_another_format_is_refused_by_name(self):
        self.run_tool('qemu-img', 'create', '-q', '-f', 'vdi', 'base', '1M')
        self.run_tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b',
                      'base', '-F', 'vdi', 'over', '1M')
        status, _, err = self.run_tool('firn-img', 'map', 'over')
        self.assertEqual(status, 1)
        self.assertIn('vdi', err)

    def both(self, commands, *options, image='disk'):
        """Status, output and what the disk then begins with, of both."""
        words = [word for command in commands for word in ('-c', command)]
        found = []
        for tool in 'qemu-io', 'firn-io':
            before = self.read(image)
            status, out, _ = self.run_tool(tool, *options, *words, image)
            lines = [line for line in out.splitlines() if ' ops; ' not in line]
            found.append((status, lines, self.read(image)[:1024]))
            self.write(image, before)
        self.assertEqual(*found)
        return found[1]

    def test_a_raw_disk_does_not_become_qcow2(self):
        self.write('header', QCOW2 + bytes(504))
        self.write('magic', QCOW2)
        for line in ('write -s header 0 512', 'write -s header 0 64k',
                     'write -s magic 0 8', 'writev -P 0x51 0 512',
                     'aio_write -f -P 7 0 4k'):
            with self.subTest(line):
                status, out, disk = self.both([line, 'aio_flush', 'length'])
                refused = '-s' in line
                self.assertEqual(status, refused)
                self.assertEqual('write failed: Operation not permitted' in
                                 out, refused)
                self.assertEqual(not any(disk), refused)
                self.assertIn('1 MiB', out)

    def test_nor_piece_by_piece(self):
        pieces = ['write -P 0x%02x %d 1' % (byte, i)
                  for i, byte in enumerate(QCOW2)]
        for order in pieces, pieces[::-1]:
            status, _, disk = self.both(order)
            self.assertEqual(status, 1)
            self.assertNotEqual(disk[:8], QCOW2)
        words = [word for piece in pieces for word in ('-c', 'aio_' + piece)]
        self.run_tool('firn-io', *words, '-c', 'aio_flush', 'disk')
        self.assertNotEqual(self.read('disk')[:8], QCOW2)

    def test_nor_by_zeroes(self):
        self.write('disk', QCOW2[:4] + b'\1\0\0\3'[::-1] + bytes(1 << 20))
        self.both(['write -z 0 64k', 'write -z 512 64k', 'write -P 5 0 64k'])
        self.write('disk', b'QED!' + bytes(1 << 20))
        status, out, disk = self.both(['write -z 3 1'])
        self.assertEqual((status, disk[:4]), (1, b'QED!'), out)

    def test_nor_a_vmdk_descriptor(self):
        for text, refused in (
                (b'version=1\nCID=1234\n', True), (b'version=3\r\n', True),
                (b'# x\n# Disk DescriptorFile\nversion=1\n', True),
                (b'#c\r\nversion=1\r\n', True),
                (b'  \n \r\n#\nversion=2\n', True),
                (b'#%s\nversion=1\n' % (b'x' * 500), True),
                (b'#%s\nversion=1\n' % (b'x' * 501), False),
                (b'#%s\nversion=1\r\n' % (b'x' * 500), False),
                (b'\nversion=1\n', False), (b' version=1\n', False),
                (b'version=4\n', False), (b'version=0\n', False),
                (b'version=1 \n', False), (b'version=1\r', False),
                (b'version=1\r\r\n', False), (b'version', False)):
            with self.subTest(text=text):
                self.write('text', text)
                status, _, disk = self.both([
                    'write -s text 0 %d' % len(text), 'length'])
                self.assertEqual((status, any(disk)), (refused, not refused))

    def test_nor_by_a_discard(self):
        self.write('disk', b'QED\1' + bytes(1 << 20))
        self.assertEqual(self.run_tool('firn-io', '-c', 'discard 3 1',
                                       'disk')[0], 1)
        self.assertEqual(self.read('disk')[:4], b'QED\1')
        self.both(['discard 0 64k', 'write -P 5 0 3'])
        self.both(['discard 512 64k'])

    def test_a_file_shorter_than_a_sector_ends_in_zeroes(self):
        self.write('short', b'QED')
        self.assertEqual(self.both(['length'], image='short')[0], 1)
        self.write('short', b'QE!')
        status, _, disk = self.both(['write -P 68 2 1'], image='short')
        self.assertEqual((status, disk), (1, b'QE!'))

    def test_what_is_raw_by_name_takes_everything(self):
        self.write('header', QCOW2 + bytes(504))
        status, _, disk = self.both(['write -s header 0 512'], '-f', 'raw')
        self.assertEqual((status, disk[:8]), (0, QCOW2))


if __name__ == '__main__':
    unittest.main(verbosity=2)
