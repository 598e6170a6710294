#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The same work done by firn and by QEMU, against a model.

From a seed come a backing chain of one to four images, with any create
options, and batches of operations on its top. Two chains are made, by either
program; each batch runs on one chain through firn and on the other through
QEMU, sometimes swapped, so that each program works on what the other left.
After a batch both programs read both chains, and everything must equal the
model byte for byte; both checks must be clean and count the same.

Only a discard leaves a choice: what was discarded reads as before or as zero.
The model then takes what it finds, once both programs find the same.

    differential.py --seed 17             one seed
    differential.py --seconds 3600        as many as fit

With FIRN_DIFF_VERBOSE in the environment it prints what it does.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import quick_kdf  # noqa: F401

KIB, MIB = 1 << 10, 1 << 20
SECRET = 'differential'
VERBOSE = 'FIRN_DIFF_VERBOSE' in os.environ


class Mismatch(Exception):
    """The two programs, or one and the model, disagree."""


class Refused(Exception):
    """QEMU cannot do it; there is nothing to compare any more."""


def run(argv, **kwargs):
    return subprocess.run(argv, stdin=kwargs.pop('stdin', subprocess.DEVNULL),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300, check=False, **kwargs)


# ---- images ----

class Image:
    """What one image of a chain was created with."""

    def __init__(self, rng, below, size):
        self.below = below
        self.size = size
        self.options = {}
        self.raw = below is None and rng.random() < 0.15
        self.version = 3
        if not self.raw:
            self._choose(rng)

    def _choose(self, rng):
        o = self.options
        if rng.random() < 0.2:
            o['compat'] = '0.10'
            self.version = 2
        self.cluster = 1 << rng.choice((9, 9, 10, 12, 12, 14, 16, 16, 18, 21))
        if self.version == 3:
            self._choose_v3(rng)
        o['cluster_size'] = str(self.cluster)
        # What QEMU 7.2 preallocates in an encrypted image reads as garbage.
        if self.below is None and 'data_file_raw' not in o and \
                not self.encrypted and rng.random() < 0.3:
            o['preallocation'] = rng.choice(('metadata', 'falloc', 'full'))

    def _choose_v3(self, rng):
        o = self.options
        if rng.random() < 0.4:
            o['refcount_bits'] = str(1 << rng.randrange(7))
        if rng.random() < 0.3:
            o['lazy_refcounts'] = 'on'
        if rng.random() < 0.3:
            o['compression_type'] = 'zstd'
        if rng.random() < 0.25:
            o['extended_l2'] = 'on'
            self.cluster = max(self.cluster, 16 * KIB)
        if rng.random() < 0.12:
            o['data_file'] = None       # named when the path is known
            if self.below is None and rng.random() < 0.5:
                o['data_file_raw'] = 'on'
        elif rng.random() < 0.06:
            o['encrypt.format'] = 'luks'
            o['encrypt.key-secret'] = 's0'
            o['encrypt.iter-time'] = '10'

    @property
    def format(self):
        return 'raw' if self.raw else 'qcow2'

    @property
    def encrypted(self):
        return 'encrypt.format' in self.options

    @property
    def external(self):
        return 'data_file' in self.options

    @property
    def snapshots_possible(self):
        bits = self.options.get('refcount_bits')
        return not self.raw and not self.external and \
            bits not in ('1', '2')

    @property
    def compression_possible(self):
        # Streams share host clusters, which 4 bits do not count for long.
        return not self.raw and not self.encrypted and \
            not self.external and self.options.get('refcount_bits') != '4'


def nested(image, what, option):
    """@option for each image of the chain that is @what."""
    text, prefix = '', ''
    while image:
        if getattr(image, what):
            text += ',' + prefix + option
        image, prefix = image.below, prefix + 'backing.'
    return text


# ---- the two programs ----

class Firn:
    """Drives firn through tests/support/qcow2-tool."""

    name = 'firn'

    def __init__(self, tool):
        self.tool = tool

    def _answer(self, lines):
        """Run commands. Returns for each whether it was done, and all
        output."""
        lines = ['secret s0 data=' + SECRET] + lines
        done = subprocess.run([self.tool], input='\n'.join(lines + ['']),
                              stdout=subprocess.PIPE, timeout=300,
                              stderr=subprocess.STDOUT, text=True,
                              check=False)
        said = [line for line in done.stdout.splitlines()
                if line == 'ok' or line.startswith('error:')]
        for line, answer in zip(lines, said):
            if answer != 'ok':
                raise Mismatch('firn: %s: %s' % (line, answer))
        if len(said) != len(lines):
            raise Mismatch('firn stopped (%d): %s' % (
                done.returncode, done.stdout[-500:]))
        return [answer == 'ok' for answer in said[1:]], done.stdout

    def script(self, lines):
        return self._answer(lines)[0]

    def create(self, path, image, options):
        self.script(['create %s %s %s' % (image.format, path, ','.join(
            '%s=%s' % pair for pair in options.items()) or '-')])

    @staticmethod
    def _open(path, image, *flags):
        options = 'driver=' + image.format + nested(
            image, 'encrypted', 'encrypt.key-secret=s0') + nested(
                image, 'external', 'allow-data-file=on')
        return ' '.join(('open', path, options, 'unmap') + flags)

    def io(self, path, image, ops):
        lines = [self._open(path, image)]
        for op in ops:
            lines.append({
                'write': 'write %d %d %d', 'compressed': 'writec %d %d %d',
                'zero': 'zero %d %d', 'unmap': 'zero %d %d unmap',
                'discard': 'discard %d %d', 'flush': 'flush',
            }[op[0]] % op[1:])
        return self.script(lines + ['close'])[1:-1]

    def resize(self, path, image, size):
        self.script([self._open(path, image), 'resize %d' % size, 'close'])

    def snapshot(self, path, image, what, name):
        self.script([self._open(path, image), 'snapshot %s %s' % (what, name),
                     'close'])

    def commit(self, path, image):
        self.script([self._open(path, image, 'commit'), 'commit', 'close'])

    def dump(self, path, image, out):
        self.script([self._open(path, image, 'ro'), 'dump ' + out, 'close'])

    def check(self, path, image):
        _, text = self._answer([self._open(path, image, 'ro', 'check'),
                                'check', 'close'])
        counts = {}
        for line in text.splitlines():
            key, _, value = line.partition(' ')
            if value.isdigit():
                counts[key] = int(value)
        return counts


class Qemu:
    """qemu-img and qemu-io."""

    name = 'QEMU'

    @staticmethod
    def _object(image):
        return ['--object', 'secret,id=s0,data=' + SECRET] \
            if nested(image, 'encrypted', '') else []

    @staticmethod
    def _opts(path, image):
        text = 'driver=%s,file.driver=file,file.filename=%s' % (image.format,
                                                                path)
        return text + nested(image, 'encrypted', 'encrypt.key-secret=s0')

    def _run(self, argv):
        done = run(argv)
        text = done.stdout.decode()
        if 'Failed to zero out new clusters: Operation not supp' in text:
            raise Refused   # part of a compressed cluster, subclusters
        if done.returncode:
            raise Mismatch('%s: %s' % (' '.join(argv), text))
        return text

    def create(self, path, image, options):
        options = dict(options)
        size = options.pop('size')
        argv = ['qemu-img', 'create', '-q', '-f', image.format,
                *self._object(image)]
        if options:
            argv += ['-o', ','.join('%s=%s' % pair
                                    for pair in options.items())]
        self._run([*argv, path, size])

    def io(self, path, image, ops):
        """Each compressed write begins a process: QEMU 7.2 goes on packing
        into a host cluster after that was freed and used for other data."""
        groups = [[]]
        for op in ops:
            if op[0] == 'compressed':
                groups.append([])
            groups[-1].append(op)
        done = []
        for group in filter(None, groups):
            done += self._io(path, image, group)
        return done

    def _io(self, path, image, ops):
        argv = ['qemu-io', '-d', 'unmap', *self._object(image)]
        for op in ops:
            form = {'write': 'write -P %d %d %d', 'zero': 'write -z %d %d',
                    'compressed': 'write -c -P %d %d %d',
                    'unmap': 'write -z -u %d %d', 'discard': 'discard %d %d',
                    'flush': 'flush'}[op[0]]
            argv += ['-c', form % (op[3:] + op[1:3])]
        done = run(argv + ['--image-opts', self._opts(path, image)])
        return self._results(done.stdout.decode(), ops)

    @staticmethod
    def _results(text, ops):
        """qemu-io answers each request but flush with a line."""
        said = iter([line for line in text.splitlines()
                     if 'failed' in line or ' bytes at offset' in line])
        done = []
        for op in ops:
            if op[0] == 'flush':
                done.append(True)
                continue
            line = next(said, 'nothing')
            done.append('bytes at offset' in line)
            if not done[-1]:
                raise Mismatch('QEMU: %r: %s' % (op, text))
        return done

    def resize(self, path, image, size):
        self._run(['qemu-img', 'resize', '-q', '--shrink',
                   *self._object(image), '--image-opts',
                   self._opts(path, image), str(size)])

    def snapshot(self, path, image, what, name):
        flag = {'create': '-c', 'apply': '-a', 'delete': '-d'}[what]
        self._run(['qemu-img', 'snapshot', '-q', flag, name,
                   *self._object(image), '--image-opts',
                   self._opts(path, image)])

    def commit(self, path, image):
        self._run(['qemu-img', 'commit', '-q', '-f', image.format, path])

    def dump(self, path, image, out):
        self._run(['qemu-img', 'convert', *self._object(image),
                   '--image-opts', self._opts(path, image), '-O', 'raw', out])

    def check(self, path, image):
        done = run(['qemu-img', 'check', '--output=json',
                    *self._object(image), '--image-opts',
                    self._opts(path, image)])
        return json.loads(done.stdout)


# ---- a chain on disk, and what it should hold ----

class Chain:
    """Images in one directory and the bytes that each layer shows."""

    def __init__(self, where, images, creator):
        self.where = where
        self.images = list(images)
        self.views = []
        self.touched = []       # per layer: clusters written ever
        self.snapshots = {}
        os.makedirs(where)
        for i, image in enumerate(self.images):
            self._create(i, image, creator(i))

    def path(self, i=None):
        return os.path.join(self.where, 'i%d' % (len(self.images) - 1
                                                 if i is None else i))

    @property
    def top(self):
        return self.images[-1]

    @property
    def view(self):
        return self.views[-1]

    def _create(self, i, image, program):
        options = dict(image.options)
        options['size'] = str(image.size)
        if 'data_file' in options:
            options['data_file'] = self.path(i) + '.data'
        below = b''
        if i:
            options['backing_file'] = 'i%d' % (i - 1)
            options['backing_fmt'] = self.images[i - 1].format
            below = bytes(self.views[i - 1][:image.size])
        program.create(self.path(i), image, options)
        self.touched.append(set())
        self.views.append(bytearray(below + bytes(image.size - len(below))))

    def do_io(self, program, ops):
        done = program.io(self.path(), self.top, ops)
        doubtful = []
        for op, good in zip(ops, done):
            if not good:
                raise Mismatch('%s: refused %r' % (program.name, op))
            if op[0] in ('write', 'compressed'):
                self.view[op[1]:op[1] + op[2]] = bytes([op[3]]) * op[2]
            elif op[0] in ('zero', 'unmap'):
                self.view[op[1]:op[1] + op[2]] = bytes(op[2])
            doubtful = self._doubt(doubtful, op)
        return doubtful

    @staticmethod
    def _doubt(doubtful, op):
        """Ranges that may, or may not, have become another byte since."""
        if op[0] == 'flush':
            return doubtful
        start, end = op[1], op[1] + op[2]
        if op[0] == 'discard':
            return doubtful + [(start, end, 0)]
        kept = []
        for a, b, byte in doubtful:
            kept += [(x, y, byte) for x, y in ((a, min(b, start)),
                                               (max(a, end), b)) if x < y]
        return kept

    def resize(self, program, size):
        program.resize(self.path(), self.top, size)
        view = self.views[-1]
        self.views[-1] = bytearray(view[:size] + bytes(max(0, size
                                                           - len(view))))

    def snapshot(self, program, what, name):
        program.snapshot(self.path(), self.top, what, name)
        if what == 'create':
            self.snapshots[name] = bytes(self.view)
        elif what == 'apply':
            self.views[-1] = bytearray(self.snapshots[name])
        else:
            del self.snapshots[name]

    def commit(self, program):
        for name in list(self.snapshots):
            self.snapshot(program, 'delete', name)
        program.commit(self.path(), self.top)
        self.touched[-2] = None
        below, top = self.views[-2], self.views[-1]
        self.views[-2] = top + below[len(top):]

    def drop_top(self):
        """Go on with the image below, which has everything."""
        self.images.pop()
        self.views.pop()
        self.touched.pop()

    def verify(self, programs, doubtful):
        found = []
        for program in programs:
            out = os.path.join(self.where, 'out.' + program.name)
            program.dump(self.path(), self.top, out)
            with open(out, 'rb') as data:
                found.append(data.read())
        self._compare(programs, found, doubtful)
        if not self.top.raw:
            self._compare_checks(programs)

    def _compare(self, programs, found, doubtful):
        if found[0] != found[1]:
            raise Mismatch('%s: firn and QEMU read different bytes at %d' % (
                self.where, first_difference(*found)))
        if len(found[0]) != len(self.view):
            raise Mismatch('%s: %d bytes long, not %d' % (
                self.where, len(found[0]), len(self.view)))
        for start, end, byte in doubtful:
            for i in [start, *range((start | 511) + 1, end, 512)]:
                part = found[0][i:min((i | 511) + 1, end)]
                if part == bytes([byte]) * len(part):
                    self.view[i:i + len(part)] = part
        if found[0] != bytes(self.view):
            raise Mismatch('%s: both read other bytes than were written, at '
                           '%d' % (self.where,
                                   first_difference(found[0], self.view)))

    def _compare_checks(self, programs):
        keys = ('corruptions', 'leaks', 'check-errors', 'total-clusters',
                'allocated-clusters', 'fragmented-clusters',
                'compressed-clusters')
        said = [program.check(self.path(), self.top) for program in programs]
        counts = [{key: one.get(key, 0) for key in keys} for one in said]
        if counts[0] != counts[1]:
            raise Mismatch('%s: checks disagree: firn %r, QEMU %r' % (
                self.where, *counts))
        if counts[0]['corruptions'] or counts[0]['leaks']:
            raise Mismatch('%s: not clean: %r' % (self.where, counts[0]))


def first_difference(a, b):
    for i in range(0, min(len(a), len(b)), 512):
        if a[i:i + 512] != b[i:i + 512]:
            return i
    return min(len(a), len(b))


# ---- operations ----

class Generator:
    """Operations from a seed."""

    def __init__(self, rng):
        self.rng = rng
        self.nb_names = 0

    def images(self):
        rng = self.rng
        depth = rng.choice((1, 1, 2, 2, 3, 4))
        size = rng.choice((64 * KIB, 300 * KIB, MIB, 3 * MIB + 512))
        images = []
        for _ in range(depth):
            images.append(Image(rng, images[-1] if images else None,
                                self.size(size)))
        return images

    def size(self, about):
        return max(512, int(about * self.rng.uniform(0.5, 1.5)) // 512 * 512)

    def range(self, image, size, align=1):
        """A piece of the disk, often at an edge of clusters."""
        rng = self.rng
        unit = getattr(image, 'cluster', 4096)
        if align > 1 or rng.random() < 0.3:
            first = rng.randrange(-(-size // unit))
            n = rng.choice((1, 1, 2, 5))
            return first * unit, min(n * unit, size - first * unit)
        start = rng.randrange(size // 512) * 512
        n = rng.choice((512, 1024, 4096, 4096, 20480, unit))
        if rng.random() < 0.2:
            start += rng.randrange(512)
            n += rng.randrange(512)
        return start, min(n, size - start)

    def io(self, chain):
        rng = self.rng
        image, size = chain.top, len(chain.view)
        kinds = ['write'] * 6 + ['zero', 'unmap', 'discard', 'flush']
        if image.compression_possible:
            kinds += ['compressed'] * 2
        ops = []
        for _ in range(rng.randrange(4, 16)):
            kind = rng.choice(kinds)
            if kind == 'flush':
                ops.append((kind,))
                continue
            start, n = self.range(image, size,
                                  2 if kind == 'compressed' else 1)
            if n <= 0:
                continue
            if not self.touch(chain, kind, start, n):
                continue
            ops.append((kind, start, n) + ((rng.randrange(1, 256),)
                                           if kind in ('write', 'compressed')
                                           else ()))
        return ops

    @staticmethod
    def commit_possible(chain):
        """QEMU 7.2 cannot grow a version 2 image that has a backing file."""
        image = chain.top
        if len(chain.images) < 2 or nested(image, 'encrypted', '') or \
                nested(image, 'external', ''):
            return False
        return image.below.version == 3 or not image.below.below or \
            len(chain.views[-2]) >= len(chain.view)

    def new_size(self, image, now):
        """Shrinking ends with a cluster: QEMU 7.2 leaves what is behind the
        end inside one, and shows it when the image grows again."""
        size = self.size(now)
        unit = getattr(image, 'cluster', 512)
        if image.version == 2 and image.below:
            size = min(size, now)       # and cannot grow these
        if size < now:
            size = size // unit * unit or now
        return size

    @staticmethod
    def touch(chain, kind, start, n):
        """False for a compressed write that would be refused: QEMU 7.2 puts
        the stream after a refused one on top of other data."""
        cluster = getattr(chain.top, 'cluster', 65536)
        mine = set(range(start // cluster, (start + n - 1) // cluster + 1))
        touched = chain.touched[-1]
        if kind == 'compressed' and (
                touched is None or mine & touched or
                'preallocation' in chain.top.options):
            return False
        if touched is not None:
            touched |= mine
        return True

    def change(self, chain):
        """Something other than I/O, or None."""
        rng = self.rng
        kinds = ['resize']
        image = chain.top
        if image.snapshots_possible:
            kinds += ['create'] * 2 + ['apply', 'delete'] * bool(
                chain.snapshots)
        if self.commit_possible(chain):
            kinds += ['commit']
        kind = rng.choice(kinds)
        if kind == 'resize':
            if image.version == 2 and chain.snapshots or \
                    'data_file_raw' in image.options:
                return None
            now = len(chain.view)
            size = self.new_size(image, now)
            self.touch(chain, kind, min(size, now), abs(size - now) + 1)
            return kind, size
        if kind == 'commit':
            return kind, rng.random() < 0.5
        if kind == 'create':
            self.nb_names += 1
            return kind, 's%d' % self.nb_names
        return kind, rng.choice(sorted(chain.snapshots))


def apply_change(chain, program, change):
    kind, what = change
    if kind == 'resize':
        chain.resize(program, what)
    elif kind == 'commit':
        chain.commit(program)
        if what:
            chain.drop_top()
    elif kind == 'apply' and chain.top.version == 2 and \
            len(chain.snapshots[what]) != len(chain.view):
        return
    else:
        chain.snapshot(program, kind, what)


def say(*words):
    if VERBOSE:
        print(*words, flush=True)


def run_seed(seed, programs, where, batches=6):
    """One seed; Mismatch says what went wrong."""
    rng = random.Random(seed)
    gen = Generator(rng)
    images = gen.images()
    say([(image.format, image.size, image.options) for image in images])
    chains = [Chain(os.path.join(where, name), images,
                    lambda _: rng.choice(programs)) for name in 'fq']
    for _ in range(batches):
        actors = programs if rng.random() < 0.7 else programs[::-1]
        ops = gen.io(chains[0])
        say([actor.name for actor in actors], ops)
        doubtful = [chain.do_io(actor, ops)
                    for chain, actor in zip(chains, actors)]
        for chain, doubt in zip(chains, doubtful):
            chain.verify(programs, doubt)
        change = gen.change(chains[0]) if rng.random() < 0.6 else None
        say(change)
        if change:
            for chain, actor in zip(chains, actors):
                apply_change(chain, actor, change)
                chain.verify(programs, [])


def run_one(seed, programs, keep=False):
    where = tempfile.mkdtemp(prefix='firn-diff-')
    try:
        run_seed(seed, programs, where)
    except Refused:
        pass
    except Mismatch as reason:
        if keep:
            sys.stderr.write('kept: %s\n' % where)
            where = None
        raise Mismatch('seed %d: %s' % (seed, reason)) from reason
    finally:
        if where:
            shutil.rmtree(where)


def main():
    parser = argparse.ArgumentParser(prog='differential.py')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=0,
                        help='go on with further seeds for so long')
    parser.add_argument('--keep', action='store_true',
                        help='keep the images of a failure')
    parser.add_argument('--tool', default=os.environ.get('FIRN_QCOW2_TOOL'))
    args = parser.parse_args()
    programs = [Firn(args.tool), Qemu()]
    end = time.monotonic() + args.seconds
    seed, failed = args.seed, 0
    while True:
        try:
            run_one(seed, programs, args.keep)
        except Mismatch as reason:
            failed += 1
            print(reason, flush=True)
        seed += 1
        if time.monotonic() >= end:
            break
    print('%d seeds from %d on, %d failed' % (seed - args.seed, args.seed,
                                              failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
