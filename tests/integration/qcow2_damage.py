# SPDX-License-Identifier: MIT
"""A catalogue of damaged qcow2 images, made from images that QEMU wrote.

    for name, make in CATALOGUE.items(): make(path)

Every function writes one image. Offsets are read from the image itself by the
small Image class here, which knows nothing of firn.
"""

import subprocess

QEMU_IMG = "qemu-img"
QEMU_IO = "qemu-io"

MASK = 0x00fffffffffffe00
COPIED = 1 << 63
COMPRESSED = 1 << 62


def create(path, size="8M", options="cluster_size=4k", extra=()):
    subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", "-o", options,
                    *extra, path, size], check=True)


def qemu_io(path, *commands):
    args = [QEMU_IO, "-f", "qcow2"]
    for command in commands:
        args += ["-c", command]
    subprocess.run([*args, path], check=True, stdout=subprocess.DEVNULL)


def snapshot(path, *args):
    subprocess.run([QEMU_IMG, "snapshot", *args, path], check=True)


class Image:
    """Big-endian numbers in a file, and where the tables are."""

    def __init__(self, path):
        self.file = open(path, "r+b")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def get(self, offset, nbytes=8):
        self.file.seek(offset)
        return int.from_bytes(self.file.read(nbytes), "big")

    def put(self, offset, value, nbytes=8):
        self.file.seek(offset)
        self.file.write(value.to_bytes(nbytes, "big"))

    def change(self, offset, function, nbytes=8):
        self.put(offset, function(self.get(offset, nbytes)), nbytes)

    @property
    def l1(self):
        return self.get(40)

    def l2(self, index=0):
        return self.get(self.l1 + 8 * index) & MASK

    @property
    def reftable(self):
        return self.get(48)

    @property
    def refblock(self):
        return self.get(self.reftable) & ~511

    @property
    def snapshots(self):
        return self.get(64)


def plain(path, options="cluster_size=4k"):
    """64 KiB at 0 and at 4 MiB: L1 entries 0 and 2 of four."""
    create(path, options=options)
    qemu_io(path, "write -P 1 0 64k", "write -P 2 4M 64k")


def mixed(path):
    create(path)
    qemu_io(path, "write -c -P 1 0 4k", "write -P 2 4k 8k",
            "write -c -P 3 16k 4k", "write -z 32k 8k", "write -P 4 64k 12k",
            "write -z 64k 4k", "discard 68k 4k", "write -P 5 2M 100k")


def with_snapshot(path, options="cluster_size=4k"):
    plain(path, options)
    snapshot(path, "-c", "one")
    qemu_io(path, "write -P 3 8k 16k")
    snapshot(path, "-c", "two")
    qemu_io(path, "write -P 4 6M 16k")


def with_bitmap(path):
    create(path, options="cluster_size=4k")
    subprocess.run([QEMU_IMG, "bitmap", "--add", "-g", "512", path, "b0"],
                   check=True)
    qemu_io(path, "write -P 1 0 64k")
    subprocess.run([QEMU_IMG, "bitmap", "--add", path, "b1"], check=True)


def with_data_file(path):
    create(path, options=f"cluster_size=4k,data_file={path}.data")
    qemu_io(path, "write -P 1 0 64k", "write -z 16k 8k", "discard 32k 4k",
            "write -P 2 4M 64k")


def damaged(base, function, **keywords):
    """An image of @base that @function(Image) has been at."""
    def make(path):
        base(path, **keywords)
        with Image(path) as image:
            function(image)
    return make


def change_l2(function, index=0):
    return lambda i: i.change(i.l2() + 8 * index, function)


def change_l1(function):
    return lambda i: i.change(i.l1, function)


def set_refcount(cluster, value):
    return lambda i: i.put(i.refblock + 2 * cluster, value, 2)


def two_l1_entries(image):
    image.put(image.l1 + 8, image.get(image.l1))


def two_l2_entries(image):
    image.put(image.l2(), image.get(image.l2() + 8))


def l2_as_data(image):
    image.put(image.l2(), image.l2() | COPIED)


def l2_is_l1(image):
    """A loop: the L1 table's own cluster as its L2 table."""
    image.put(image.l1, image.l1 | COPIED)


def l2_is_itself(image):
    image.put(image.l2(), image.l2())


def block_twice(image):
    image.put(image.reftable + 8, image.get(image.reftable))


def truncated(image):
    image.file.truncate(0x12000)


def grown(image):
    """A sparse file far longer than what is in use."""
    image.file.truncate(256 << 30)


def snapshot_l1(offset_function=None, size=None):
    def function(image):
        if offset_function:
            image.change(image.snapshots, offset_function)
        if size is not None:
            image.put(image.snapshots + 8, size, 4)
    return function


def short_extra(image):
    """Turn the first entry's extra data into part of a longer name."""
    image.put(image.snapshots + 36, 8, 4)
    image.put(image.snapshots + 14, image.get(image.snapshots + 14, 2) + 16,
              2)


def bitmap_directory(image):
    """Behind the extension's header, which QEMU writes before the end."""
    at = 112
    while image.get(at, 4) != 0x23852875:
        at += 8 + (image.get(at + 4, 4) + 7 & ~7)
    return image.get(at + 8 + 16)


def bitmap_table(image):
    return image.get(bitmap_directory(image))


EXT = dict(options="cluster_size=16k,extended_l2=on")

# Damage that both programs see alike.
CATALOGUE = {
    "clean": plain,
    "clean mixed": mixed,
    "clean with snapshots": with_snapshot,
    "clean 512": lambda p: plain(p, "cluster_size=512"),
    "clean 2M": lambda p: plain(p, "cluster_size=2M"),
    "clean v2": lambda p: with_snapshot(p, "cluster_size=4k,compat=0.10"),
    "clean refcount_bits=64": lambda p: with_snapshot(
        p, "cluster_size=4k,refcount_bits=64"),
    "clean refcount_bits=2": lambda p: plain(
        p, "cluster_size=4k,refcount_bits=2"),
    "clean extended": lambda p: plain(p, **EXT),
    "clean bitmaps": with_bitmap,
    "clean data file": with_data_file,
    "clean, file longer": damaged(plain, grown),
    "L2 table reserved bits": damaged(
        plain, change_l1(lambda e: e | 1 << 57 | 2)),
    "L2 table unaligned": damaged(plain, change_l1(lambda e: e + 512)),
    "L2 table past the end": damaged(
        plain, change_l1(lambda e: COPIED | 1 << 30)),
    "L2 entry reserved bits": damaged(
        plain, change_l2(lambda e: e | 1 << 57 | 4)),
    "data unaligned": damaged(plain, change_l2(lambda e: e + 512)),
    "zero cluster unaligned": damaged(
        plain, change_l2(lambda e: (e + 512) | 1)),
    "data past the end": damaged(
        plain, change_l2(lambda e: COPIED | 1 << 30)),
    "compressed and COPIED": damaged(mixed, change_l2(lambda e: e | COPIED)),
    "compressed past the end": damaged(
        mixed, change_l2(lambda e: e | 1 << 40)),
    "two L1 entries, one L2 table": damaged(plain, two_l1_entries),
    "two L2 entries, one cluster": damaged(plain, two_l2_entries),
    "an L2 table as data": damaged(plain, l2_as_data),
    "an L2 table that maps itself": damaged(plain, l2_is_itself),
    "L1 table as L2 table": damaged(plain, l2_is_l1),
    "header as data": damaged(
        plain, change_l2(lambda e: COMPRESSED)),
    "COPIED clear": damaged(plain, change_l2(lambda e: e & ~COPIED)),
    "COPIED clear in L1": damaged(plain, change_l1(lambda e: e & ~COPIED)),
    "COPIED set on shared": damaged(
        with_snapshot, change_l2(lambda e: e | COPIED, 8)),
    "COPIED set on shared L2": damaged(
        with_snapshot, lambda i: i.change(i.l1 + 16, lambda e: e | COPIED)),
    "leak": damaged(plain, set_refcount(100, 1)),
    "refcount too high": damaged(plain, set_refcount(5, 3)),
    "refcount too low": damaged(with_snapshot, set_refcount(5, 1)),
    "refcount 0 in use": damaged(plain, set_refcount(5, 0)),
    "block twice": damaged(plain, block_twice),
    "block reserved bits": damaged(
        plain, lambda i: i.change(i.reftable, lambda e: e | 1)),
    "block past the end": damaged(
        plain, lambda i: i.put(i.reftable + 8, 1 << 30)),
    "no block": damaged(plain, lambda i: i.put(i.reftable, 0)),
    "file cut short": damaged(plain, truncated),
    "snapshot L1 unaligned": damaged(
        with_snapshot, snapshot_l1(lambda o: o + 512)),
    "snapshot L1 too large": damaged(
        with_snapshot, snapshot_l1(size=(4 << 20) + 1)),
    "snapshot L1 past the end": damaged(
        with_snapshot, snapshot_l1(lambda o: o + (1 << 30))),
    "snapshot with short extra data": damaged(with_snapshot, short_extra),
    "bad subclusters": damaged(
        plain, lambda i: i.put(i.l2() + 8, 1 << 32 | 1), **EXT),
    "subclusters without storage": damaged(
        plain, lambda i: (i.put(i.l2(), 0), i.put(i.l2() + 8, 1)), **EXT),
    "data file, COPIED clear": damaged(
        with_data_file, change_l2(lambda e: e & ~COPIED, 2)),
    "data file, compressed": damaged(
        with_data_file, change_l2(lambda e: COMPRESSED | 0x5000, 2)),
    "data file, unaligned": damaged(
        with_data_file, change_l2(lambda e: e + 512, 2)),
    "data file, other offset": damaged(
        with_data_file, change_l2(lambda e: e + 4096, 2)),
    "bitmap table entry reserved bits": damaged(
        with_bitmap, lambda i: i.put(bitmap_table(i), 1 << 60)),
    "bitmap data past the end": damaged(
        with_bitmap, lambda i: i.put(bitmap_table(i), 1 << 40)),
    "bitmap table unaligned": damaged(
        with_bitmap, lambda i: i.change(bitmap_directory(i),
                                        lambda o: o + 8)),
    "bitmaps not current": damaged(
        with_bitmap, lambda i: i.put(88, 0)),
}
