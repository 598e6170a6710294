# SPDX-License-Identifier: MIT
"""What chain_fuzz.py does to images: random creation and random operations.

An operation is a few command lines, for either pair of tools, and what they
make of each disk. A disk that is not mentioned has to stay as it is. For some
there is no rule (an unsafe rebase shows whatever it shows): these are `loose`,
and have to be what QEMU makes of them.
"""

KIB, MIB = 1 << 10, 1 << 20
MAX_DISK = 6 * MIB
MAX_IMAGES = 7
SECRET = 'secret,id=s0,data=chains'
PATTERN_FILE = 'pattern'    # in every directory of images
ALLOW_DATA_FILE = 'allow-data-file=on'


class Op:
    """Command lines, and what they do to the disks."""

    def __init__(self, kind, *commands):
        self.kind = kind
        self.commands = list(commands)
        self.views = {}         # name: bytes that it shows afterwards
        self.loose = set()      # names that show what they do with QEMU
        self.loose_snapshots = set()    # of these images
        self.doubtful = {}      # name: ranges that may read as zeroes
        self.removed = set()
        self.shows = None       # (name, image, snapshot): what name shows
        self.half_done = set()  # may show anything when it is interrupted
        self.was_killed = False
        self.repeatable = False     # and then the same words do the rest


class Image:
    """What `info` tells of it."""

    def __init__(self, name, info, state):
        self.name = name
        self.format = info['format']
        self.state = state      # size and time of its file
        # QEMU rounds what it tells of a raw file up to sectors.
        self.size = info['virtual-size'] if self.qcow2 else state[0]
        self.sectors = (self.size + 511) // 512
        self.backing = info.get('backing-filename')
        self.encrypted = info.get('encrypted', False)
        self.dirty = info.get('dirty-flag', False)
        data = info.get('format-specific', {}).get('data', {})
        self.version = 2 if data.get('compat') == '0.10' else 3
        self.cluster = info.get('cluster-size', 512)
        self.refcount_bits = data.get('refcount-bits', 16)
        self.data_file = data.get('data-file')
        self.data_file_raw = data.get('data-file-raw', False)
        self.subclusters = data.get('extended-l2', False)
        self.snapshots = [s['name'] for s in info.get('snapshots', [])]
        self.bitmaps = [(b['name'], b['granularity'], sorted(b['flags']))
                        for b in data.get('bitmaps', [])]

    @property
    def qcow2(self):
        return self.format == 'qcow2'


class Images(dict):
    """By name. Chains are followed by name, too."""

    def chain(self, name):
        found = []
        while name and name not in found:
            found.append(name)
            name = self[name].backing
        return found

    def above(self, name):
        """All that show something of it, without itself."""
        return {n for n in self if n != name and name in self.chain(n)}

    def may_be_below(self, name):
        """Is it of use as a backing file, named by nothing but its name?"""
        return not any(self[n].data_file for n in self.chain(name)[1:])

    def files(self, name):
        """Everything that has bytes of its disk."""
        return [f for n in self.chain(name)
                for f in (n, self[n].data_file) if f]

    def secret(self, name):
        return ['--object', SECRET] if any(
            self[n].encrypted for n in self.chain(name)) else []

    def keyed(self, name):
        """Does it take more than its name to open it?"""
        return bool(self.secret(name)) or not self.may_be_below(name)

    def spec(self, name, chain=True):
        """Words that name it, with the keys of its chain. firn takes the word
        of the first image alone for what its data file is, unless it is told
        to trust the others; chain_fuzz.py keeps that from QEMU."""
        if not self.keyed(name):
            return ['-f', self[name].format, name]
        words = 'driver=%s,file.filename=%s' % (self[name].format, name)
        prefix = ''
        for n in self.chain(name) if chain else [name]:
            if self[n].encrypted:
                words += ',%sencrypt.key-secret=s0' % prefix
            if self[n].data_file and prefix:
                words += ',%s%s' % (prefix, ALLOW_DATA_FILE)
            prefix += 'backing.'
        return self.secret(name) + ['--image-opts', words]

    def spec_without_format(self, name):
        """For commands that have no -f."""
        spec = self.spec(name)
        return spec if '--image-opts' in spec else [name]


# ---- creation ----

def choose_size(rng, cluster):
    size = rng.choice((rng.randrange(1, 40) * 64 * KIB, 2 * MIB,
                       rng.randrange(1, 4 * MIB), rng.randrange(1, 64) * KIB,
                       cluster * rng.randrange(1, 40)))
    return max(512, min(size, MAX_DISK) // 512 * 512)


def create_options(rng, name, backing):
    """-o words of a random qcow2 image."""
    o = {'cluster_size': 1 << rng.choice((9, 10, 12, 12, 14, 16, 16, 16, 18,
                                          21))}
    if rng.random() < 0.25:
        o['compat'] = '0.10'
    else:
        for chance, key, values in (
                (0.3, 'refcount_bits', [1 << n for n in range(7)]),
                (0.25, 'lazy_refcounts', ['on']),
                (0.3, 'compression_type', ['zstd']),
                (0.25, 'extended_l2', ['on'])):
            if rng.random() < chance:
                o[key] = rng.choice(values)
        if 'extended_l2' in o:
            o['cluster_size'] = max(o['cluster_size'], 16 * KIB)
        if rng.random() < 0.1:
            o['data_file'] = name + '.data'
            if not backing and rng.random() < 0.5:
                o['data_file_raw'] = 'on'
        elif rng.random() < 0.06:
            o.update({'encrypt.format': 'luks', 'encrypt.key-secret': 's0',
                      'encrypt.iter-time': 10})
    if not backing and 'encrypt.format' not in o and \
            'data_file_raw' not in o and rng.random() < 0.2:
        o['preallocation'] = rng.choice(('metadata', 'falloc', 'full'))
    return o


def words_of(options):
    words = ['--object', SECRET] if 'encrypt.format' in options else []
    return words + ['-o', ','.join('%s=%s' % kv for kv in options.items())]


def create(rng, images, views, name, backing):
    """One more image, based on @backing or nothing."""
    if not backing and rng.random() < 0.25:
        size = choose_size(rng, 512)
        op = Op('create', ['img', 'create', '-q', '-f', 'raw', name,
                           str(size)])
        op.views[name] = bytes(size)
        if rng.random() < 0.2:  # a disk that ends inside a sector
            size -= rng.randrange(1, 512)
            op.commands.append(['sh', 'truncate', '-s', str(size), name])
        return op
    o = create_options(rng, name, backing)
    size = choose_size(rng, o['cluster_size'])
    words = ['img', 'create', '-q', '-f', 'qcow2'] + words_of(o)
    below = b''
    if backing:
        # -u: the keys of an encrypted chain are not needed to name it.
        words += ['-u', '-b', backing, '-F', images[backing].format]
        if rng.random() < 0.5:
            size = images[backing].size // 512 * 512 or 512
        below = views[backing]
    op = Op('create', words + [name, str(size)])
    op.views[name] = below[:size] + bytes(max(0, size - len(below)))
    return op


# ---- guest writes ----

def choose_range(rng, size, cluster):
    kind = rng.randrange(5)
    if kind == 0:               # any bytes
        start = rng.randrange(size)
        length = rng.randrange(1, min(size - start, 300 * KIB) + 1)
    elif kind == 1:             # clusters
        start = rng.randrange(size) // cluster * cluster
        length = min(cluster * rng.randrange(1, 6), size - start)
    elif kind == 2:             # some sectors
        start = rng.randrange(size) // 512 * 512
        length = min(512 * rng.randrange(1, 16), size - start)
    elif kind == 3:             # subclusters of 32 in a cluster
        unit = max(512, cluster // 32)
        start = rng.randrange(size) // unit * unit
        length = min(unit * rng.randrange(1, 40), size - start)
    else:                       # a lot
        start = rng.randrange(size) // 4096 * 4096
        length = min(rng.randrange(1, 2 * MIB), size - start)
    return start, length


def compressible(image):
    # Streams share host clusters, which few bits do not count.
    return image.qcow2 and not image.encrypted and not image.data_file and \
        image.refcount_bits >= 16


class Writes:
    """A batch of writes to one image, by a process or several."""

    def __init__(self, rng, image, view, pattern):
        self.rng = rng
        self.image = image
        self.view = bytearray(view)
        self.pattern = pattern
        self.doubtful = []
        self.groups = [[]]

    def add(self):
        image, rng = self.image, self.rng
        start, length = choose_range(rng, image.size, image.cluster)
        kind = rng.choice(('write', 'write', 'write', 'source', 'zero',
                           'unmap', 'discard', 'compressed', 'flush'))
        if kind == 'compressed' and not compressible(image):
            kind = 'write'
        if kind in ('zero', 'unmap', 'discard') and rng.random() < 0.9:
            length = min(length, 100 * KIB)     # data are to be left
        if kind == 'flush':
            self.groups[-1].append('flush')
            return
        if kind == 'compressed':
            start = start // image.cluster * image.cluster
            length = min(image.cluster * rng.randrange(1, 4),
                         len(self.view) - start)
            # QEMU 7.2 goes on packing into a host cluster that was freed:
            # each compressed write has a process of its own.
            self.groups.append([])
        byte = rng.randrange(1, 256)
        self.groups[-1].append({
            'write': 'write -P %d %%d %%d' % byte,
            'compressed': 'write -c -P %d %%d %%d' % byte,
            'source': 'write -s %s %%d %%d' % PATTERN_FILE,
            'zero': 'write -z %d %d', 'unmap': 'write -z -u %d %d',
            'discard': 'discard %d %d'}[kind] % (start, length))
        if kind == 'discard':
            self.doubtful.append((start, start + length))
        elif kind == 'source':
            self.show(start, self.pattern_for(length))
        else:
            self.show(start, bytes([0 if kind in ('zero', 'unmap')
                                    else byte]) * length)

    def pattern_for(self, length):
        return (self.pattern * (length // len(self.pattern) + 1))[:length]

    def add_data(self, length):
        """Data that differ everywhere, in what the disk begins with."""
        self.groups[-1].append('write -s %s 0 %d' % (PATTERN_FILE, length))
        self.show(0, self.pattern_for(length))

    def show(self, start, data):
        self.settle(start, start + len(data))
        self.view[start:start + len(data)] = data

    def settle(self, start, end):
        """It was written: an earlier discard leaves no doubt."""
        self.doubtful = [(x, y) for a, b in self.doubtful
                         for x, y in ((a, min(b, start)), (max(a, end), b))
                         if x < y]

    def op(self, images):
        name = self.image.name
        words = ['-d', 'unmap'] if self.rng.random() < 0.7 else []
        op = Op('write')
        for group in filter(None, self.groups):
            op.commands.append(['io', *words, *images.spec(name)])
            at = len(op.commands[-1]) - 1
            for line in group:
                op.commands[-1][at:at] = ['-c', line]
                at += 2
        op.views[name] = bytes(self.view)
        op.loose = images.above(name)
        op.loose_snapshots = set(op.loose)
        op.half_done = op.loose | {name}
        if self.doubtful:
            op.doubtful = {n: self.doubtful for n in op.half_done}
        return op


def fill(rng, images, views, pattern, name):
    """The first data of an image."""
    batch = Writes(rng, images[name], views[name], pattern)
    if rng.random() < 0.7:
        batch.add_data(rng.randrange(1, images[name].size + 1))
    for _ in range(rng.randrange(1, 11)):
        batch.add()
    return batch.op(images)


def write_to(rng, images, views, pattern, name):
    if not views[name]:
        return None
    batch = Writes(rng, images[name], views[name], pattern)
    for _ in range(rng.randrange(1, 8)):
        batch.add()
    return batch.op(images)


def write(rng, images, views, pattern):
    name = rng.choice(sorted(images))
    if rng.random() < 0.4:
        name = max(images, key=lambda n: len(images.chain(n)))
    return write_to(rng, images, views, pattern, name)


# ---- operations on chains ----

def rebase(rng, images, views, _):
    """Another backing file, or none; the disk stays as it is."""
    name = rng.choice(sorted(n for n in images if images[n].qcow2) or [None])
    if not name:
        return None
    bases = sorted(n for n in images if n != name and
                   n not in images.above(name) and not images.secret(n) and
                   images.may_be_below(n) and len(images.chain(n)) < 5)
    base = rng.choice(bases + [''])
    words = ['img', 'rebase'] + (['-q'] if rng.random() < 0.3 else [])
    unsafe = rng.random() < 0.15
    if unsafe:
        words.append('-u')
    words += ['-b', base] + (['-F', images[base].format] if base else [])
    if rng.random() < 0.2:
        words += rng.choice((['-t', 'writethrough'], ['-t', 'unsafe'],
                             ['-T', 'writeback'], ['-p']))
    op = Op('rebase -u' if unsafe else 'rebase',
            words + images.spec(name, not unsafe))
    op.loose_snapshots = {name} | images.above(name)
    if unsafe:
        op.loose = op.half_done = {name} | images.above(name)
    op.repeatable = True
    return op


def commit(rng, images, views, _):
    name = rng.choice(sorted(n for n in images if images[n].backing)
                      or [None])
    if not name:
        return None
    base = images[name].backing
    words = ['img', 'commit'] + (['-q'] if rng.random() < 0.5 else [])
    if rng.random() < 0.4 and not images.keyed(name):
        base = rng.choice(images.chain(name)[1:])
        words += ['-b', base]
    if rng.random() < 0.3:
        words.append('-d')
    if rng.random() < 0.15:
        words += ['-r', '200M']
    op = Op('commit', words + images.spec(name))
    view = views[name]
    op.views[base] = view + views[base][len(view):]
    op.loose = images.above(base) - {name} - images.above(name)
    op.loose_snapshots = images.above(base)
    op.half_done = op.loose | {base}
    op.repeatable = True
    return op


def convert_flags(rng, compressed_possible):
    words = []
    compressed = compressed_possible and rng.random() < 0.35
    if compressed:
        words.append('-c')
    elif rng.random() < 0.2:
        words.append('-C')
    if '-C' not in words and rng.random() < 0.3:
        words += ['-S', rng.choice(('0', '4k', '64k', '512'))]
    if rng.random() < 0.3:
        words += ['-m', str(rng.randrange(1, 17))]
    if rng.random() < 0.3:
        words.append('-W')
    return words


def convert(rng, images, views, _):
    """To a new image, of the whole disk, of a snapshot, or of two disks."""
    name = rng.choice(sorted(images))
    image = images[name]
    target = free_name(images)
    words = ['img', 'convert']
    op = Op('convert')
    view = views[name]
    raw = rng.random() < 0.2
    options = {} if raw else create_options(rng, target, True)
    words += convert_flags(rng, not raw and compressible_options(options))
    words += ['-O', 'raw' if raw else 'qcow2']
    source = images.spec(name)
    keyed = images.keyed(name)
    if image.snapshots and rng.random() < 0.5:
        op.shows = target, name, rng.choice(image.snapshots)
        words += ['-l', 'snapshot.name=' + op.shows[2]]
    elif image.backing and not raw and not keyed and rng.random() < 0.4:
        words += ['-B', image.backing, '-F', images[image.backing].format]
    elif image.qcow2 and not keyed and rng.random() < 0.15:
        other = rng.choice(sorted(n for n in images if images[n].qcow2 and
                                  not images.keyed(n)))
        source = source + [other]
        view = view + views[other]
    if image.bitmaps and not raw and '-l' not in words and \
            len(source) == 3 and rng.random() < 0.6:
        words.append('--bitmaps')
    if not raw:
        words += words_of(options)
    op.commands.append(words + source + [target])
    op.views[target] = view
    op.half_done = {target}
    op.repeatable = True
    return op


def compressible_options(options):
    return 'data_file' not in options and 'encrypt.format' not in options \
        and options.get('refcount_bits', 16) >= 16


def convert_over(rng, images, views, _):
    """Onto an image that is there, or a new one said to be zero."""
    plain = [n for n in sorted(images) if not images.keyed(n)]
    if not plain:
        return None
    # QEMU takes zeroes up to a whole sector for a part of a raw disk.
    name = rng.choice([n for n in plain if images[n].qcow2 or
                       images[n].size % 512 == 0] or [None])
    if not name:
        return None
    if rng.random() < 0.3:
        return convert_zero(rng, images, views, name)
    targets = [n for n in plain if n not in images.chain(name) and
               name not in images.chain(n) and
               len(views[n]) >= len(views[name])]
    if not targets:
        return None
    target = rng.choice(targets)
    words = ['img', 'convert', '-n'] + \
        convert_flags(rng, compressible(images[target])) + \
        ['-f', images[name].format, '-O', images[target].format]
    op = Op('convert -n', words + [name, target])
    view = views[name]
    op.views[target] = view + views[target][len(view):]
    op.loose = images.above(target)
    op.loose_snapshots = set(op.loose)
    op.half_done = op.loose | {target}
    op.repeatable = '-c' not in words   # which writes to free clusters only
    return op


def convert_zero(rng, images, views, name):
    target = free_name(images)
    options = create_options(rng, target, None)
    options.pop('encrypt.format', None)
    options.pop('encrypt.key-secret', None)
    options.pop('encrypt.iter-time', None)
    size = len(views[name]) + rng.choice((0, 0, 512, 70 * KIB))
    size = (size + 511) // 512 * 512
    op = Op('convert --target-is-zero',
            ['img', 'create', '-q', '-f', 'qcow2'] + words_of(options) +
            [target, str(size)],
            ['img', 'convert', '-n', '--target-is-zero'] +
            convert_flags(rng, compressible_options(options)) +
            ['-f', images[name].format, '-O', 'qcow2', name, target])
    op.views[target] = views[name] + bytes(size - len(views[name]))
    op.half_done = {target}
    op.repeatable = True
    return op


def resize(rng, images, views, _):
    name = rng.choice(sorted(images))
    old = len(views[name])
    size = choose_size(rng, images[name].cluster)
    if size < old // 2 and rng.random() < 0.7:
        size = rng.randrange(old // 2, old) // 512 * 512 or 512
    words = ['img', 'resize', '-q']
    if size < old:
        words.append('--shrink')
    elif rng.random() < 0.3:
        words.append('--preallocation=' + rng.choice(('metadata', 'falloc',
                                                      'full')))
    op = Op('resize', words + images.spec(name) + [str(size)])
    view = views[name]
    op.views[name] = view[:size] + bytes(max(0, size - old))
    op.loose = images.above(name)
    op.loose_snapshots = set(op.loose)
    op.half_done = op.loose | {name}
    op.repeatable = len(words) == 3 or '--shrink' in words
    return op


def snapshot(rng, images, views, _):
    names = sorted(n for n in images if images[n].qcow2 and
                   not images[n].data_file)
    if not names:
        return None
    image = images[rng.choice(names)]
    words = ['img', 'snapshot', '-q']
    if image.snapshots and rng.random() < 0.5:
        which = rng.choice(image.snapshots)
        if rng.random() < 0.5:
            return Op('snapshot -d', words + ['-d', which] +
                      images.spec_without_format(image.name))
        op = Op('snapshot -a', words + ['-a', which] +
                images.spec_without_format(image.name))
        op.shows = image.name, image.name, which
        op.loose = images.above(image.name)
        op.loose_snapshots = images.above(image.name)
        op.half_done = op.loose | {image.name}
        return op
    if len(image.snapshots) > 3:
        return None
    free = [s for s in ('s0', 's1', 's2', 's3', 's4')
            if s not in image.snapshots]
    return Op('snapshot -c', words + ['-c', free[0]] +
              images.spec_without_format(image.name))


def amend(rng, images, _, __):
    names = sorted(n for n in images if images[n].qcow2)
    if not names:
        return None
    image = images[rng.choice(names)]
    what = rng.choice(('lazy_refcounts=on', 'lazy_refcounts=off',
                       'compat=1.1', 'compat=0.10',
                       'refcount_bits=%d' % (1 << rng.randrange(3, 7))))
    if what == 'compat=0.10' and image.bitmaps:
        return None     # QEMU 7.2 loses them, and their clusters
    op = Op('amend', ['img', 'amend', '-q', '-o', what] +
            images.spec(image.name))
    op.repeatable = True
    return op


def bitmap(rng, images, _, __):
    names = sorted(n for n in images if images[n].qcow2 and
                   images[n].version == 3 and not images.keyed(n))
    if not names:
        return None
    image = images[rng.choice(names)]
    have = [b[0] for b in image.bitmaps]
    if have and rng.random() < 0.6:
        words = [rng.choice(('--remove', '--clear', '--disable', '--enable')),
                 image.name, rng.choice(have)]
    else:
        free = [b for b in ('b0', 'b1', 'b2') if b not in have]
        if not free:
            return None
        words = ['--add', '-g', str(512 << rng.randrange(9)), image.name,
                 free[0]]
    return Op('bitmap', ['img', 'bitmap', '-f', 'qcow2'] + words)


def remove(rng, images, _, __):
    """So that others have room."""
    names = sorted(n for n in images if not images.above(n))
    if len(images) < MAX_IMAGES - 1 or not names:
        return None
    name = rng.choice(names)
    op = Op('remove')
    op.removed = {name}
    return op


def another(rng, images, views, _):
    if len(images) >= MAX_IMAGES:
        return None
    bases = sorted(n for n in images if len(images.chain(n)) < 4 and
                   images.may_be_below(n))
    return create(rng, images, views, free_name(images),
                  rng.choice(bases + [None]))


def free_name(images):
    n = 0
    while 'i%d' % n in images:
        n += 1
    return 'i%d' % n


KINDS = ((write, 10), (rebase, 9), (commit, 7), (convert, 5),
         (convert_over, 6), (resize, 4), (snapshot, 5), (amend, 3),
         (bitmap, 2), (remove, 4), (another, 1))


def choose(rng, images, views, pattern):
    """The next operation."""
    kinds, weights = zip(*KINDS)
    op = None
    while op is None:
        kind = rng.choices(kinds, weights)[0]
        op = kind(rng, images, views, pattern)
        if op and op.kind.startswith('convert') and \
                len(images) >= MAX_IMAGES and op.kind != 'convert -n':
            op = None
    return op
