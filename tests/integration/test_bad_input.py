#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad input to firn-img and firn-io, and what it must come to.

Each line of the table is run by firn-img and, on a copy, by qemu-img: exit
status 1 from both (but where the line says another one), one line on standard
error that names what is wrong, nothing changed, no time and no memory used up.
Then come chains of images, images in use, media that cannot be written or are
full, and names of any bytes. Last, random changes of valid lines
(FIRN_BAD_INPUT_LINES=N for more of them): no crash, no hang, no other exit
status than the manual tells.
"""

import fcntl
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest

import img_conformance

BUILD = os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build'))
IMG = os.environ.get('FIRN_IMG', f'{BUILD}/tools/img/firn-img')
IO = os.environ.get('FIRN_IO', f'{BUILD}/tools/io/firn-io')
LINES = int(os.environ.get('FIRN_BAD_INPUT_LINES', '250'))
SEED = int(os.environ.get('FIRN_BAD_INPUT_SEED', '20261121'))
OFD_SETLK = 37
SECONDS = 300   # a hang takes longer than the slowest machine does
# Address space; sanitizers need more than there is.
MEMORY = 1 << 30
SANITIZED = 'FIRN_SANITIZED' in os.environ

FIXTURES = r"""
img() { qemu-img "$@" > /dev/null; }
img create -f qcow2 q 4M
qemu-io -c 'write -P 1 0 64k' q > /dev/null
img create -f qcow2 q2 4M
img create -f raw raw 4M
img create -f qcow2 -b q -F qcow2 top
img create -f qcow2 snap 4M; img snapshot -c s1 snap
img create -f qcow2 maps 4M; img bitmap --add maps b0
: > empty; printf x > one; head -c 4096 /dev/urandom > junk
printf 'QFI\373' > magic
printf 'conectix' > vpc; head -c 4096 /dev/zero >> vpc
mkdir dir; mkfifo fifo; ln -s q link; ln q hard; ln -s nowhere dangling
ln -s loop loop
img create -u -f qcow2 -b b.q -F qcow2 a.q 4M
img create -u -f qcow2 -b a.q -F qcow2 b.q 4M
img create -u -f qcow2 -b selX.q -F qcow2 self.q 4M
sed -i s/selX/self/ self.q
img create -u -f qcow2 -b gone -F qcow2 orphan 4M
img create -u -f qcow2 -b q -F qcow2 oddfmt 4M
sed -i s/qcow2/qcow3/ oddfmt
"""

# "status: words": another exit status than 1. "~ words": QEMU's tool is not
# asked, since it goes another way (or hangs, or changes the file).
TABLE = r"""
# --- options and words ---
~
~ nosuch
~ infp q
~ --nosuch
~ --trace
~ -T
info
info q q2
info --nosuch q
info --outptu=json q
info --output
info --output=xml q
info -f
info -Z q
info -f qcow2 --image-opts driver=qcow2,file.filename=q
info --object
info --object nosuch,id=a q
info --object secret q
info --object secret,id=a q
info --object secret,id=a,data=x,file=y q
info --object secret,id=a,data=x --object secret,id=a,data=y q
info --image-opts nosuch=1
info --image-opts driver=nosuch,file.filename=q
info --image-opts driver=qcow2
info --image-opts driver=qcow2,file.filename=q,nosuch=1
info --image-opts driver=qcow2,file.filename=
info --image-opts =,=,
info --image-opts ,
info 'json:{"driver":"qcow2"}'
info 'json:{"driver":"qcow2","file":"nosuch"}'
info 'json:{'
info 'json:[]'
info 'json:"q"'
info json:
info 'json:{"driver":"raw","file":{"driver":"file","filename":3}}'
info 'json:{"driver":"raw","file":{"driver":"file"}}'
info 'json:{"driver":"qcow2","driver":"raw","file.filename":"nosuch"}'
info nbd://localhost/x
info http://localhost:1/x
info ''
check
check q q2
check -r q
check -r some q
check --output=xml q
check -f nosuch q
check -T nosuch q
create
create -f qcow2
create -f qcow2 t
create -f nosuch t 1M
create -f vmdk-not t 1M
create t 1M 2M
create --image-opts t 1M
create -o size t 1M
create -f qcow2 -o nosuch=1 t 1M
create -f qcow2 -o cluster_size=3 t 1M
create -f qcow2 -o cluster_size=256 t 1M
create -f qcow2 -o cluster_size=4M t 1M
create -f qcow2 -o cluster_size=-1 t 1M
create -f qcow2 -o refcount_bits=3 t 1M
create -f qcow2 -o refcount_bits=128 t 1M
create -f qcow2 -o compat=2 t 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on t 1M
create -f qcow2 -o compat=0.10,refcount_bits=8 t 1M
create -f qcow2 -o compat=0.10,extended_l2=on t 1M
create -f qcow2 -o lazy_refcounts=maybe t 1M
create -f qcow2 -o preallocation=some t 1M
create -f qcow2 -o compression_type=lzma t 1M
create -f qcow2 -o data_file_raw=on t 1M
create -f qcow2 -o extended_l2=on,cluster_size=4k t 1M
create -f qcow2 -o encryption=on,encrypt.format=nosuch t 1M
create -f qcow2 -o encrypt.format=luks t 1M
create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=nosuch t 1M
create -f raw -o preallocation=metadata t 1M
create -f raw -b q t 1M
create -f qcow2 -b q t
create -f qcow2 -b nosuch -F qcow2 t
create -f qcow2 -b q -F nosuch t
create -f qcow2 -F qcow2 t
create -f qcow2 -b t -F qcow2 t
create -f qcow2 nosuch/t 1M
create -f qcow2 dir 1M
create -f raw dir 1M
create -f qcow2 '' 1M
create -f qcow2 loop 1M
convert
convert q
convert -O nosuch q t
convert -f nosuch q t
convert -O qcow2 nosuch t
convert -O qcow2 q nosuch/t
convert -O qcow2 q dir
convert -c -O raw q t
convert -S x q t
convert -S 1000 q t
convert -m 0 q t
convert -m 17 q t
convert -m x q t
convert -n -O qcow2 q nosuch
convert -l nosuch -O qcow2 snap t
convert -l snapshot.id=9 -O qcow2 snap t
convert -l s1 -O qcow2 q q2 t
convert -B nosuch -F qcow2 -O qcow2 top t
convert -B q -O raw top t
convert --target-is-zero q t
convert --target-image-opts q driver=qcow2,file.filename=t
convert --bitmaps -O raw maps t
convert --bitmaps -O qcow2 q t q2 t
convert -t nosuch q t
convert -T nosuch q t
convert -o nosuch=1 -O qcow2 q t
convert -c -o preallocation=full -O qcow2 q t
convert --image-opts -f qcow2 driver=qcow2,file.filename=q t
convert -r x q t
convert -C -S 4k q t
convert -C -c -O qcow2 q t
convert --salvage -C q t
snapshot
snapshot -l
snapshot -c
snapshot -c a -d b snap
snapshot -l -c a snap
snapshot -a nosuch snap
snapshot -d nosuch snap
snapshot -c x raw
snapshot -c x nosuch
map
map q q2
map nosuch
map --output=xml q
map -s x q
map -l x q
map -s -1 q
compare
compare q
2: compare q nosuch
2: compare nosuch q
2: compare -f nosuch q q2
compare q q2 raw
2: compare -T nosuch q q2
compare --object
2: compare --object nosuch,id=a q q
resize
resize q
resize q x
resize q +
resize q -
resize q 0
resize q -4M
resize q -1G
resize q 2M
resize --shrink q -8M
resize --preallocation=some q 8M
resize --preallocation=full --shrink q 2M
resize nosuch 1M
resize snap x1M
commit
commit q
commit nosuch
commit -b nosuch top
commit -t nosuch top
~ commit --image-opts driver=qcow2,file.filename=top,backing.driver=qcow2,backing.file.filename=q,backing.read-only=on
commit -r x top
commit raw
rebase
rebase top
rebase -b nosuch -F qcow2 top
rebase -b q -F nosuch top
rebase -b q2 raw
rebase -t nosuch -b q2 top
rebase -u -b q -F nosuch top
rebase -b '' nosuch
amend
amend q
amend -o nosuch=1 q
amend -o cluster_size=4k q
amend -o compat=nosuch q
amend -o refcount_bits=3 q
~ amend -o compat=0.10 maps
amend -o size=x q
~ amend -o size=+1M q
~ amend -o size=0 q
create -f qcow2 -o encryption=on t 1M
amend -o x raw
amend -o lazy_refcounts=on nosuch
measure
measure -O nosuch --size 1M
~ measure --size
measure --size x
measure --size 1M q
measure -O qcow2 -o nosuch=1 --size 1M
measure -O qcow2 -o cluster_size=3 --size 1M
measure -l s1 --size 1M
measure -f qcow2
measure nosuch
measure q q2
measure --output=xml q
bitmap
bitmap q
bitmap q b
bitmap --add q
bitmap --add maps b0
bitmap --remove maps nosuch
bitmap --clear maps nosuch
bitmap --merge nosuch maps b0
bitmap --merge maps b0
bitmap --add -g 3 q b
bitmap --add -g 4G q b
bitmap --add -g 1 q b
bitmap --remove -g 64k maps b0
bitmap --enable -b q maps b0
bitmap --enable -F qcow2 maps b0
bitmap --merge b0 -b nosuch -F qcow2 maps b0
bitmap --add raw b
bitmap --add --remove --nosuch maps b1
dd
dd if=q
dd of=t
dd if=q of=t nosuch=1
dd if=q of=t bs
dd if=q of=t bs=
dd if=q of=t bs=0
dd if=q of=t bs=x
dd if=q of=t bs=2G
dd if=q of=t count=x
dd if=q of=t skip=x
dd if=nosuch of=t
dd if=q of=nosuch/t
dd -O nosuch if=q of=t
bench
bench q q2
bench -c x q
bench -c -1 q
~ bench -d 0 q
bench -d 2147483648 q
bench -d x q
bench -s x q
bench -o x q
bench -o 8M -c 1 q
bench -S x q
bench -t nosuch q
bench -i nosuch q
bench --pattern 256 -w q
bench --pattern x -w q
bench --flush-interval 4 q
bench --flush-interval x -w q
bench nosuch
# --- files of the wrong kind ---
info nosuch
info dir
info dangling
info loop
~ info fifo
~ info /dev/full
~ info /dev/null
~ convert -O qcow2 fifo t
~ dd if=fifo of=t
~ create -f raw fifo 1M
~ create -f qcow2 fifo 1M
check nosuch
check dir
63: check raw
63: check empty
63: check one
info -f qcow2 empty
info -f qcow2 one
info -f qcow2 junk
info -f qcow2 magic
info -f qcow2 raw
63: check magic
map -f qcow2 raw
convert -f qcow2 raw t
resize -f qcow2 raw 8M
snapshot -l -f qcow2 junk
~ convert -O vmdk q t
~ info -f vmdk q
~ info -f vpc vpc
~ info -f luks q
~ create -f vdi t 1M
# --- chains ---
info --backing-chain a.q
info --backing-chain self.q
info --backing-chain orphan
~ convert -O qcow2 a.q t
~ convert -O qcow2 self.q t
convert -O qcow2 orphan t
~ map a.q
~ commit self.q
commit orphan
rebase -b q -F qcow2 orphan
convert oddfmt t
# --- the same file twice ---
convert -O qcow2 q q
convert -O qcow2 q link
convert -O qcow2 q hard
convert -O raw q ./q
convert -n -O qcow2 q q
convert -O qcow2 top q
dd if=q of=q
dd -O qcow2 if=q of=link
dd if=q of=hard
~ rebase -b top -F qcow2 top
~ rebase -u -b q -F qcow2 q
~ rebase -u -b top -F qcow2 q
~ rebase -u -b file:top -F qcow2 q
~ rebase -u -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top"}}' -F qcow2 q
~ create -u -f qcow2 -b top -F qcow2 q 4M
~ create -u -f qcow2 -b top -F qcow2 -o data_file=q t 4M
bitmap --merge b0 -b maps -F qcow2 maps nosuch
"""

SIZES = ['-1', '1x', '1.5.2', '9223372036854775808', '18446744073709551616',
         '18446744073709551615', '1e30', '', '9999999999999P', 'nan', 'inf',
         '1M ', '0x', '1MM', '--1', '8E', '16E', ' ', '1,5', '١']
# Where sizes go; @ is one.
SIZE_LINES = ['create -f raw t @', 'create -f qcow2 t @',
              'create -f qcow2 -o size=@ t', 'resize q @', 'resize q +@',
              'map -s @ q', 'measure --size @', 'convert -S @ q t',
              'dd if=q of=t bs=@', 'dd if=q of=t count=@',
              'bench -s @ q', 'bitmap --add -g @ q b',
              'create -f qcow2 -o cluster_size=@ t 1M']


def cases():
    """(words, expected status, whether QEMU is asked)"""
    for line in TABLE.splitlines():
        if not line or line.startswith('#'):
            continue
        status, ask = 1, not line.startswith('~')
        line = line[1:] if not ask else line
        match = re.match(r'(\d+): ', line)
        if match:
            status, line = int(match[1]), line[match.end():]
        yield shlex.split(line), status, ask
    for i, line in enumerate(SIZE_LINES):
        for k, size in enumerate(SIZES):
            yield ([size if w == '@' else w.replace('@', size)
                    for w in line.split()], 1, (i + k) % 5 == 0)


def limits():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(words, cwd, **kw):
    kw.setdefault('stdin', subprocess.DEVNULL)
    if 'input' in kw:
        del kw['stdin']
    return subprocess.run(words, cwd=cwd, capture_output=True, timeout=SECONDS,
                          preexec_fn=limits, **kw)


def tree(where):
    """What shows a change: of times of access nobody speaks."""
    found = {}
    for name in sorted(os.listdir(where)):
        st = os.lstat(os.path.join(where, name))
        found[name] = (st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns)
    return found


# firn-io and qemu-io: words, and whether the status is that of qemu-io.
IO_TABLE = r"""
-c
nosuch
q q2
--nosuch q
-Z q
-f nosuch q
-f qcow2 raw
-f qcow2 --image-opts driver=qcow2,file.filename=q
--image-opts driver=qcow2
--image-opts driver=qcow2,file.filename=q,nosuch=1
--object nosuch,id=a q
-t nosuch q
-d nosuch q
-i nosuch q
-r -c 'write 0 512' q
-c nosuch q
-c read q
-c 'read 0' q
-c 'read 0 0x' q
-c 'read x 512' q
-c 'read -1 512' q
-c 'read 0 -1' q
-c 'read 4M 512' q
-c 'read 9223372036854775807 512' q
-c 'read 9223372036854775808 512' q
-c 'read 18446744073709551616 512' q
-c 'read 0 9223372036854775807' q
-c 'read 0 4G' q
-c 'read -P 256 0 512' q
-c 'read -P x 0 512' q
-c 'read -P 0 -s 4 -l 4096 0 512' q
-c 'read -s 600 -P 1 0 512' q
-c 'read -Z 0 512' q
-c 'readv 0 512 x' q
-c 'readv 0' q
-c 'write' q
-c 'write -P 300 0 512' q
-c 'write -z -P 1 0 512' q
-c 'write -s nosuch 0 512' q
-c 'write -u 0 512' q
-c 'write 4M 512' raw
-c 'write 1e30 512' q
-c 'writev 0' q
-c 'aio_read' q
-c 'aio_read 0' q
-c 'aio_write 0 -1' q
-c 'discard 0' q
-c 'discard 8M 512' q
-c 'alloc 8M' q
-c 'alloc x' q
-c 'map 1' q
-c 'truncate' q
-c 'truncate x' q
-c 'truncate -1' q
-c 'truncate 9223372036854775808' q
-c 'sleep' q
-c 'sleep x' q
-c 'sigraise' q
-c 'break' q
-c 'break nosuch A' q
-c 'break write_aio A' q
-c 'resume A' q
-c 'remove_break A' q
-c 'reopen -Z' q
-c 'reopen -c nosuch' q
-c 'reopen -o nosuch=1' q
-c 'open nosuch'
-c 'open q' q
-c 'open -Z q'
-c 'help nosuch' q
-c 'read 0 512'
-c 'length'
"""

# How a message must look: one line of text, however odd the names.
MESSAGE = re.compile(rb'firn-(img|io): [^\x00-\x1f\x7f]+\n')
ODD_NAMES = [b'a\nb', b'a\xff\xfeb', b'a\x1b[31mb', b'\x01', b'a\rb', b'-',
             b'\xc2\x85', 'zeile\u2028ende'.encode(), b'n' * 300,
             b'd/' * 3000 + b'x', b'n' * 100000]


# Size and bitmaps of the image "maps".
MAPS = [4 << 20, {'flags': ['auto'], 'name': 'b0', 'granularity': 65536}]


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='firn-bad-')
        os.chmod(cls.dir, 0o755)
        cls.made = 0

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def fresh(self):
        type(self).made += 1
        where = os.path.join(self.dir, str(self.made))
        os.mkdir(where)
        subprocess.run(['bash', '-ec', FIXTURES], cwd=where, check=True,
                       capture_output=True, timeout=SECONDS)
        return where

    def one_line(self, r, words):
        self.assertRegex(r.stderr, MESSAGE, words)
        self.assertEqual(r.stderr.count(b'\n'), 1, (words, r.stderr[:500]))
        self.assertLess(len(r.stderr), 20000, words)

    def refused(self, where, words, status=1, **kw):
        """Run firn-img, which must refuse and change nothing."""
        before = tree(where)
        r = run([IMG] + words, where, **kw)
        self.assertEqual(r.returncode, status, (words, r.stderr[:500]))
        self.one_line(r, words)
        self.unchanged(where, before, words)
        return r

    def unchanged(self, where, before, words):
        after = tree(where)
        changed = {n for n in set(before) | set(after)
                   if before.get(n) != after.get(n)}
        # Whoever opens an image for writing marks its bitmaps and stores them
        # again, in another place of the file; qemu-img does so, too.
        self.assertEqual(changed - {'maps'}, set(), words)
        if changed:
            self.assertEqual(self.maps_say(where), (0, MAPS, 0, False), words)

    @staticmethod
    def maps_say(where):
        """What "maps" shows: check, bitmaps, and whether it reads zeroes."""
        check = run(['qemu-img', 'check', '-q', 'maps'], where)
        info = run(['qemu-img', 'info', '--output=json', 'maps'], where)
        read = run(['qemu-io', '-r', '-c', 'read -P 0 0 4M', 'maps'], where)
        about = json.loads(info.stdout or '{}')
        return (check.returncode, [about.get('virtual-size')] +
                about['format-specific']['data'].get('bitmaps', []),
                read.returncode, b'failed' in read.stdout)

    def test_changes_of_bitmaps_are_seen(self):
        for words in ('bitmap --remove maps b0', 'bitmap --disable maps b0',
                      'bitmap --add maps b1', 'resize maps 8M'):
            with self.subTest(words):
                where = self.fresh()
                before = tree(where)
                run(['qemu-img'] + words.split(), where)
                with self.assertRaises(AssertionError):
                    self.unchanged(where, before, words)

    # --- the tables ---

    def test_table(self):
        ours, theirs = self.fresh(), self.fresh()
        clean = tree(theirs)
        asked = 0
        for words, status, ask in cases():
            with self.subTest(words=words):
                self.refused(ours, words, status)
                if not ask:
                    continue
                asked += 1
                r = run(['qemu-img'] + words, theirs)
                self.assertEqual(r.returncode, status, r.stderr)
                if tree(theirs) != clean:
                    for name in set(os.listdir(theirs)) - set(clean):
                        os.remove(os.path.join(theirs, name))
        self.assertGreater(asked, 250)
        self.holds_content(ours)

    def holds_content(self, where):
        r = run(['qemu-io', '-c', 'read -P 1 0 64k', '-c',
                 'read -P 0 64k 4032k', 'q'], where)
        self.assertEqual(r.returncode, 0)
        self.assertNotIn(b'failed', r.stdout)

    def test_the_file_is_named_once(self):
        where = self.fresh()
        for words in ('resize q -8M', 'resize q +9223372036854775807',
                      'resize q 0', 'resize --shrink --preallocation=full q '
                      '1M', 'rebase -u -F raw -b ' + 'x' * 1024 + ' q',
                      'amend -o cluster_size=4k q', 'amend -o nosuch=1 q',
                      'bitmap --add maps b0', 'bitmap --remove maps nosuch'):
            with self.subTest(words[:50]):
                name = next(name.encode() for name in ('maps', 'q')
                            if name in words.split())
                r = self.refused(where, words.split())
                self.assertEqual(
                    len(re.findall(rb"(?<=[ '])%s(?=[ ':])" % name,
                                   r.stderr)), 1, r.stderr)
        for words in ('map orphan', 'create -f qcow2 -F raw -b gone t'):
            r = self.refused(where, words.split())
            self.assertEqual(r.stderr.count(b'gone'), 1, r.stderr)

    def test_table_of_io(self):
        ours, theirs = self.fresh(), self.fresh()
        before = tree(ours)
        for line in IO_TABLE.strip().splitlines():
            words = shlex.split(line)
            with self.subTest(line):
                r = run([IO] + words, ours)
                q = run(['qemu-io'] + words, theirs)
                self.assertEqual(r.returncode, q.returncode,
                                 (r.stdout, r.stderr, q.stdout, q.stderr))
                self.assertTrue(r.stdout + r.stderr)
                self.unchanged(ours, before, line)
        self.holds_content(ours)

    # --- names and texts ---

    def test_names_of_any_bytes_stay_in_one_line(self):
        where = self.fresh()
        for name in ODD_NAMES:
            for words in (['info', name], ['create', b'x/' + name, '1M'],
                          ['convert', 'q', b'x/' + name],
                          ['rebase', '-b', name, '-F', 'qcow2', 'top'],
                          ['info', '-f', name, 'q'], [name],
                          ['snapshot', '-a', name, 'snap'],
                          ['convert', '-l', name, 'snap', 't'],
                          ['bitmap', '--clear', 'q', name],
                          ['info', '--image-opts', name],
                          ['info', '--object', name, 'q'],
                          ['create', '-o', name, 't', '1M'],
                          ['create', 't', name], ['info', b'--' + name]):
                if name == b'-' and words[0] == b'-':
                    continue
                with self.subTest(words=[w[:40] for w in words]):
                    self.refused(where, words)
            r = run([IO, name], where)
            self.assertEqual(r.returncode, 1)
            self.one_line(r, name[:40])

    def test_long_and_deep_options(self):
        where = self.fresh()
        deep = b'json:' + b'{"a":' * 20000
        many = b','.join(b'a%d=b' % i for i in range(15000))
        for words in (['info', deep], ['info', deep + b'1' + b'}' * 20000],
                      ['info', b'json:' + b'[' * 100000],
                      ['info', '--image-opts', many],
                      ['create', '-f', 'qcow2', '-o', many, 't', '1M'],
                      ['info', b'json:{"driver":"raw","file":{"driver":"file",'
                       b'"filename":"' + b'n' * 100000 + b'"}}']):
            with self.subTest(words=[w[:40] for w in words]):
                self.refused(where, words)

    def test_lines_of_a_mebibyte(self):
        where = self.fresh()
        before = tree(where)
        million = b'n' * (1 << 20)
        for line in (b'open ' + million, million, b'read ' + million,
                     b'open json:' + b'{"a":' * 150000,
                     b'open -o ' + million + b'=1 q', b' ' * (1 << 20),
                     b'read 0 512 ' * 90000, b'"' * 100000):
            with self.subTest(line[:20]):
                r = run([IO], where, input=line + b'\nquit\n')
                self.assertIn(r.returncode, (0, 1), r.stderr[:300])
                self.unchanged(where, before, line[:20])

    def test_options_and_files_without_end(self):
        where = self.fresh()
        rules = b','.join(b'inject-error.%d.state=1' % i for i in range(35000))
        for line, why in (
                (b'open -o driver=blkdebug,image.driver=null-co,' + rules,
                 b'inject-error: unknown option'),
                (b'open json:' + b'["]",' * 150000, b'too deeply'),
                (b'open blkdebug:/dev/zero:q', b'more than the 1048576 bytes')):
            with self.subTest(line[:30]):
                r = run([IO], where, input=line + b'\n')
                self.assertEqual(r.returncode, 1, r.stderr[:300])
                self.assertIn(why, r.stderr)

    def test_more_requests_than_a_process_has_stacks_for(self):
        where = self.fresh()
        one = b'aio_write -q 0 512\n'
        many = b'multiwrite -q ' + b' ; '.join([b'0 512'] * 40000) + b'\n'
        for lines in (one * 40000 + b'aio_flush\n', many):
            r = run([IO, '-t', 'unsafe', 'q'], where, input=lines)
            self.assertEqual(r.returncode, 0, r.stderr[:300])
        r = run([IMG, 'bench', '-d', '40000', '-c', '40000', '-t', 'unsafe',
                 'q2'], where)
        self.assertEqual(r.returncode, 0, r.stderr[:300])
        r = run([IO, '-t', 'unsafe', '--image-opts', 'driver=qcow2,'
                 'file.driver=blkdebug,file.image.filename=q'], where,
                input=b'break write_aio A\n' + one * 5000 +
                b'resume A\naio_flush\n')
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"1024 requests are running, and 'A' is stopped",
                      r.stderr)

    # --- chains, images in use, media ---

    def test_chain_of_a_thousand_files(self):
        where = self.fresh()
        r = run(['qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-o',
                 'cluster_size=512', '-b', 'c0001', '-F', 'qcow2', 'c0000',
                 '1M'], where)
        self.assertEqual(r.returncode, 0)
        with open(os.path.join(where, 'c0000'), 'rb') as f:
            image = f.read()
        for i in range(1, 1000):
            with open(os.path.join(where, f'c{i:04d}'), 'wb') as f:
                f.write(image.replace(b'c0001', b'c%04d' % (i + 1)))
        for words in (['map', 'c0000'], ['convert', 'c0000', 't'],
                      ['commit', 'c0000'], ['compare', 'c0000', 'q'],
                      ['rebase', '-b', 'q', '-F', 'qcow2', 'c0000']):
            with self.subTest(words=words):
                self.refused(where, words,
                             2 if words[0] == 'compare' else 1)

    def test_images_in_use(self):
        where = self.fresh()
        with open(os.path.join(where, 'q'), 'r+b') as f:
            # As a writer does: see block/file-lock.c.
            for byte in (100, 101, 103, 201, 203):
                fcntl.fcntl(f, OFD_SETLK, struct.pack(
                    'hhqqi4x', fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
            for words in ('info q', 'check q', 'check -r all q', 'map q',
                          'convert q t', 'convert -n raw q',
                          'convert -O qcow2 raw q', 'snapshot -l q',
                          'snapshot -c s q', 'resize q 8M', 'commit top',
                          'rebase -b raw -F raw q', 'rebase -b q2 -F qcow2 '
                          'top', 'amend -o lazy_refcounts=on q',
                          'measure q', 'bitmap --add q b', 'dd if=q of=t',
                          'dd if=raw of=q', 'bench -c 1 q', 'bench -w -c 1 q',
                          'create -f qcow2 q 1M', 'create -f raw q 1M'):
                with self.subTest(words):
                    r = self.refused(where, words.split())
                    self.assertIn(b'lock', r.stderr)
            self.refused(where, 'compare q q2'.split(), 2)
            for words in ('info -U q', 'map -U q', 'check -U q',
                          'convert -U q t', 'compare -U q q', 'measure -U q',
                          'snapshot -U -l q', 'dd -U if=q of=t2'):
                with self.subTest(words):
                    r = run([IMG] + words.split(), where)
                    self.assertEqual(r.returncode, 0, r.stderr)

    WRITING = ('check -r all q', 'convert -n -O qcow2 raw q',
               'convert -O qcow2 raw q', 'snapshot -c s q', 'snapshot -a s1 '
               'snap', 'resize q 8M', 'commit top', 'rebase -b  top',
               'rebase -u -b  top', 'amend -o lazy_refcounts=on q',
               'bitmap --add q b', 'dd if=raw of=q', 'bench -w -c 1 q',
               'create -f qcow2 q 1M', 'create -f raw new 1M',
               'create -f qcow2 new 1M', 'convert q new')

    def cannot_be_written(self, where, **kw):
        for words in self.WRITING:
            with self.subTest(words):
                r = self.refused(where, words.split(' '), **kw)
                self.assertRegex(r.stderr, rb'[Pp]erm|Read-only|read-only')
        r = run([IMG, 'info', 'q'], where, **kw)
        self.assertEqual(r.returncode, 0, r.stderr)
        r = run([IO, '-c', 'write 0 512', 'q'], where, **kw)
        self.assertEqual(r.returncode, 1)
        r = run([IO, '-r', '-c', 'read -P 1 0 64k', 'q'], where, **kw)
        self.assertEqual((r.returncode, r.stderr), (0, b''))

    def test_files_without_permission(self):
        where = self.fresh()
        for name in os.listdir(where):
            path = os.path.join(where, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.path.isdir(path) else 0o444)
        os.chmod(where, 0o555)
        kw = {'user': 65534} if os.getuid() == 0 else {}
        self.cannot_be_written(where, **kw)
        os.chmod(where, 0o755)

    def in_mounts(self, script, where):
        """Run a script where it may mount; None where that is forbidden."""
        probe = subprocess.run(['unshare', '-m', 'mount', '-t', 'tmpfs',
                                'none', where], capture_output=True)
        if probe.returncode:
            return None
        return subprocess.run(['unshare', '-m', 'bash', '-c', script],
                              cwd=where, capture_output=True, timeout=SECONDS)

    def test_read_only_mount(self):
        where = self.fresh()
        lines = '\n'.join(f'"{IMG}" {w.replace("-b  ", "-b " + chr(39) * 2 + " ")}'
                          f' 2>&1 >/dev/null; echo "$?"' for w in self.WRITING)
        r = self.in_mounts(f'mount --bind -o ro . . 2>&1 && cd "$PWD" && '
                           f'{{ {lines}\n}}', where)
        if r is None:
            self.skipTest('mount is not permitted')
        out = r.stdout.decode().splitlines()
        self.assertEqual(len(out), 2 * len(self.WRITING), out)
        for words, text, status in zip(self.WRITING, out[::2], out[1::2]):
            self.assertEqual((words, status), (words, '1'), text)
            self.assertIn('ead-only', text)

    def test_limit_of_file_size(self):
        """As a full disk; what was to be created is not left half-made."""
        def limit():
            limits()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        for words in ('create -f raw -o preallocation=full t 8M',
                      'create -f qcow2 -o preallocation=full t 8M',
                      'create -f qcow2 -o preallocation=metadata t 8G',
                      'convert -O qcow2 -S 0 raw t', 'dd -O qcow2 if=raw of=t',
                      'resize --preallocation=full q 16M',
                      'rebase -b raw -F raw q', 'bench -w -c 64 -s 64k q2'):
            with self.subTest(words):
                where = self.fresh()
                r = subprocess.run([IMG] + words.split(' '), cwd=where,
                                   capture_output=True, timeout=SECONDS,
                                   preexec_fn=limit)
                if words.startswith('rebase'):
                    self.assertIn(r.returncode, (0, 1), r.stderr)
                else:
                    self.assertEqual(r.returncode, 1, r.stderr)
                    self.one_line(r, words)
                if words.startswith('create'):
                    self.assertFalse(os.path.exists(f'{where}/t'))
                for name in ('q', 'q2', 't'):
                    path = os.path.join(where, name)
                    if os.path.exists(path) and b'qcow2' in words.encode():
                        c = run(['qemu-img', 'check', name], where)
                        self.assertIn(c.returncode, (0, 63), c.stdout)

    def test_full_standard_output(self):
        where = self.fresh()
        for tool, words in ((IMG, ['info', 'q']), (IMG, ['map', 'q']),
                            (IMG, ['--help']), (IO, ['-c', 'map', 'q'])):
            with open('/dev/full', 'wb') as full:
                r = subprocess.run([tool] + words, cwd=where, stdout=full,
                                   stderr=subprocess.PIPE, timeout=SECONDS)
            self.assertEqual(r.returncode, 1, words)
            self.one_line(r, words)
            self.assertIn(b'cannot write standard output', r.stderr)

    def test_no_standard_files(self):
        """What is said then does not go into an image."""
        where = self.fresh()
        before = tree(where)
        for words in (['snapshot', '-a', 'nope', 'q'],
                      ['bitmap', '--remove', 'q', 'nope'],
                      ['resize', 'q', '-1E'], ['commit', 'q'],
                      ['convert', '-O', 'qcow2', '-n', 'raw', 'dir']):
            r = subprocess.run(['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh',
                                IMG] + words, cwd=where, timeout=SECONDS)
            self.assertEqual(r.returncode, 1, words)
            self.unchanged(where, before, words)

    # --- chance ---

    def test_random_changes_of_valid_lines(self):
        where = os.path.join(self.dir, 'fuzz')
        img_conformance.make_fixtures(where)
        fuzz = Fuzz(where)
        for i in range(LINES):
            fuzz.one(self, random.Random(SEED + i), SEED + i)


class Fuzz:
    """Valid command lines of the conformance test, with some mistakes."""
    PIECES = ['', '-1', '0', '1', '512', '64k', '1G', '8E', '9' * 30, 'nan',
              'q', 'nosuch', 'a.qcow2', 'raw.img', 'top.qcow2', 'dir', '-f',
              'raw', 'qcow2', '--', '-', '-o', '-n', '-U', '-p', '-q', '-c',
              '-b', '-B', '--image-opts', 'driver=qcow2', 'json:{}', 'json:{"',
              '=', ',', ',,', 'size=1', 'on', 'off', '\n', '\udcff', '%s%n',
              '--help', 'help', '/dev/null', '/dev/full', 'file:', ':', 'x' * 300]
    # What the manual tells; -h and help end with 0.
    KNOWN = {0, 1, 2, 3, 4, 63}

    def __init__(self, where):
        self.where = where
        self.work = where + '-work'
        self.lines = self.valid()

    @staticmethod
    def valid():
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                            'img_lines.txt')
        with open(path) as f:
            lines = [n for n in f.read().splitlines()
                     if n and n[0] not in '#[']
        steps = [s for n in lines for s in n.removeprefix('! ').split(' ; ')]
        return [shlex.split(s) for s in steps if not s.startswith('qemu-')]

    def mutate(self, rng):
        words = list(rng.choice(self.lines))
        for _ in range(rng.choice((1, 1, 2, 3))):
            i = rng.randrange(len(words)) if words else 0
            kind = rng.randrange(6)
            if kind == 0 and words:
                del words[i]
            elif kind == 1:
                words.insert(i, rng.choice(self.PIECES))
            elif kind == 2 and words:
                words[i] = rng.choice(self.PIECES)
            elif kind == 3 and words:
                j = rng.randrange(len(words))
                words[i], words[j] = words[j], words[i]
            elif kind == 4 and words and words[i]:
                at = rng.randrange(len(words[i]) + 1)
                words[i] = (words[i][:at] + rng.choice(self.PIECES) +
                            words[i][at + rng.randrange(2):])
            elif words:
                words.insert(i, rng.choice(rng.choice(self.lines)))
        return [w.replace('\0', '') for w in words]

    def one(self, test, rng, seed):
        words = self.mutate(rng)
        # Large targets are fine but slow: files have a limit.
        def limit():
            limits()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))

        if not os.path.exists(self.work):
            shutil.copytree(self.where, self.work, symlinks=True)
        before = tree(self.work)
        what = f'FIRN_BAD_INPUT_SEED={seed} FIRN_BAD_INPUT_LINES=1: {words}'
        try:
            r = subprocess.run([IMG] + words, cwd=self.work, timeout=SECONDS,
                               capture_output=True, stdin=subprocess.DEVNULL,
                               preexec_fn=limit)
        except subprocess.TimeoutExpired:
            test.fail(f'hangs: {what}')
        test.assertIn(r.returncode, self.KNOWN, (what, r.stderr[-3000:]))
        test.assertNotIn(b'Sanitizer', r.stderr, what)
        if r.returncode == 1 and '-q' not in words:
            test.assertTrue(r.stderr or r.stdout, what)
        if tree(self.work) != before:
            shutil.rmtree(self.work)


if __name__ == '__main__':
    unittest.main(verbosity=2)
