#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-io next to qemu-io: the same command line on equal images.

Compared: standard output (timings and the program's name masked), the exit
status, and what every image holds afterwards, its map and what a check finds.
SAME are lines whose output is a result and must be equal; REFUSED are mistakes,
and TOLD explanations, in words of our own, so that there only the exit status,
the images and that something was said count. Differences that we want are in
docs/compatibility.md; OURS are lines for them. That each command and flag that
firn-io tells of occurs in some line is a test of its own.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

FIRN_IO = os.environ.get("FIRN_IO", "firn-io")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
SECONDS = 300

IMAGES = {
    "q.qcow2": ("-f", "qcow2", "q.qcow2", "4M"),
    "base.qcow2": ("-f", "qcow2", "base.qcow2", "1M"),
    "top.qcow2": ("-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2",
                  "top.qcow2"),
    "old.qcow2": ("-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "1M"),
    "ext.qcow2": ("-f", "qcow2", "-o", "extended_l2=on,cluster_size=16k",
                  "ext.qcow2", "1M"),
    "tiny.qcow2": ("-f", "qcow2", "-o", "cluster_size=512", "tiny.qcow2",
                   "1M"),
    "odd.qcow2": ("-f", "qcow2", "odd.qcow2", "1000448"),
    "r.raw": ("-f", "raw", "r.raw", "1M"),
}
FILLED = {
    "base.qcow2": ("write -P 0x11 0 192k",),
    "top.qcow2": ("write -P 0x22 64k 64k", "write -z 512k 64k"),
    "q.qcow2": ("write -P 0x41 0 64k", "write -P 0x42 1M 128k",
                "write -c -P 0x43 2M 64k"),
    "r.raw": ("write -P 0x77 0 64k",),
    "ext.qcow2": ("write -P 0x55 4k 4k",),
}
DEBUG = ("--image-opts", "driver=qcow2,file.driver=blkdebug,"
         "file.image.filename=q.qcow2")


def debug(rule):
    """q.qcow2 on blkdebug with one inject-error rule."""
    return ("--image-opts", DEBUG[1] + "," + ",".join(
        "file.inject-error.0." + part for part in rule.split(",")))


def q(*commands, image="q.qcow2", options=()):
    words = []
    for command in commands:
        words += ["-c", command]
    return tuple(words) + tuple(options) + (image,)


def opts(options, *commands):
    words = []
    for command in commands:
        words += ["-c", command]
    return tuple(words) + tuple(options)


# --- Lines whose output is the same ---

SAME = [
    # what is answered before the words are looked at
    q("break nonsense A"), q("open -U"),
    # a key given twice: the last one counts
    opts(("--image-opts",
          "driver=raw,driver=qcow2,file.filename=q.qcow2"), "length"),
    opts((), "open -o driver=raw,driver=qcow2 q.qcow2", "length"),
    q("length", options=("--object", "secret,id=s,data=a,data=pass")),
    # options that nothing depends on
    opts(("--image-opts", "driver=raw,file.filename=r.raw,file.driver=file,"
          "file.aio-max-batch=4,file.drop-cache=off"), "length"),
    opts(("--image-opts", "driver=raw,file.driver=blkdebug,"
          "file.take-child-perms.0=write,file.take-child-perms.1=resize,"
          "file.unshare-child-perms.0=consistent-read,"
          "file.image.filename=r.raw"), "write 0 1k"),
    # -s of what has no file
    q("length", "write 0 1k", "read -P 0 1k 1k", image="driver=null-co,"
      "size=1M,read-zeroes=on", options=("-s", "--image-opts")),
    # -s with names that are no paths
    q("write -P 9 0 64k", "read -P 9 0 1k", "length", options=("-s",),
      image='json:{"driver":"qcow2","file.filename":"top.qcow2"}'),
    q("write -P 9 0 64k", "read -P 9 0 1k", "length", options=("-s",),
      image="blkdebug::top.qcow2"),
    q("length", options=("-s", "-f", "raw"), image="file:r.raw"),
    opts(DEBUG, "break none A", "read 0 512", "remove_break A"),
    # and whatever follows -i
    q("aio_write -i 0"), q("aio_read -i -x 1"), q("aio_write -z -i"),
    q("aio_read 0 1 2 -iP x"),
    # read
    q("read 1.k 512"), q("read 1. 1.b"), q("read 0 64k"),
    q("read -P 0x41 0 64k"), q("read -P 65 0 64k"),
    q("read -P 0101 0 64k"), q("read -P 0 0 64k"), q("read 0 0"),
    q("read -q 0 512"), q("read -C 0 512"), q("read -Cq 0 512"),
    q("read -v 0 40"), q("read -v 65530 16"), q("read -vq 0 16"),
    q("read -v 1M 1"), q("read -v 4194303 1"), q("read -p 0 512"),
    q("read -P 0x41 -s 10 -l 5 0 512"), q("read -P 0 -s 10 -l 5 0 512"),
    q("read -P 0x41 -s 10 0 512"), q("read -P 0x41 -l 10 0 512"),
    q("read -P 0x41 -s 512 0 512"), q("read -P 0x41 -l 0 0 512"),
    q("read -P 0x41 -s 10 -l 0 0 512"), q("read -P 0x42 -s 64k 960k 128k"),
    q("read 4M 0"), q("read 4M 512"), q("read 3M 2M"),
    q("read 0x10 0x200"), q("read 1k 1.5k"), q("read 1b 1B"),
    q("read 1K 1K"), q("read 3 5"), q("read -P 0x43 2M 64k"),
    q("r 0 512"), q("read   0   512"), q(" read 0 512 "), q("read 0 4M"),
    q("read -b 0 512"), q("read -bv 0 16384", "read -bq 512 512"),
    q("read 0 512", image="r.raw", options=("-f", "raw")),
    q("read -P 0x77 0 64k", "read -P 0 64k 1k", image="r.raw",
      options=("-f", "raw")),
    q("read -P 0x11 0 64k", "read -P 0x22 64k 64k", "read -P 0x11 128k 64k",
      "read -P 0 192k 832k", image="top.qcow2"),
    q("read -P 0 512k 64k", image="top.qcow2"),
    q("read -P 0x55 4k 4k", "read -P 0 0 4k", image="ext.qcow2"),
    q("read 999936 512", "read 999936 513", "read 1000448 0",
      image="odd.qcow2"),
    q("read +0 +512"), q("read 0.5k 512"), q("read -P +65 0 512"),
    q("read -- 0 512"), q("read 0 512 -q"), q("read -P 0x41 0 512 -q"),
    q("read -P0x41 0 512"), q("read -vC 0 16"), q("read -b -p 0 512"),
    q("read -P 0x41 -P 0 0 512"), q("read -l 4 -P 0x41 -s 1 0 512"),
    q("read -P 0x41 -s 512 -l 0 0 512"), q("read 9223372036854775807 1"),
    q("read 0 2147483136"), q("read -C 1M 128k", "readv -Cq 0 1"),
    q("read -v 1048570 20"), q("read -v 0 0"), q("read 4095k 1025"),
    q("readv -P 0x41 0 1k 1k -v"),
    # readv
    q("readv 0 512 512"), q("readv -P 0x41 0 512 1k 3"), q("readv -v 0 8 9"),
    q("readv -C 0 512"), q("readv -q 0 512"), q("readv -P 1 0 512 512"),
    q("readv 4M 512"), q("readv 1 1 1 1 1"), q("readv 0 0"),
    # write
    q("write 0 64k"), q("write -P 0x61 0 64k", "read -P 0x61 0 64k"),
    q("write -P 0 0 64k", "read -P 0 0 64k"), q("write -q 0 512"),
    q("write -C 0 512"), q("write -p 0 512"), q("w 0 512"),
    q("write -P 1 3 5", "read -v 0 16"), q("write 4M 512"),
    q("write 4M 0"), q("write 3M 2M"), q("write 0 0"), q("write -f 0 4k"),
    q("write -z 0 64k", "read -P 0 0 64k"), q("write -zu 0 64k", "map"),
    q("write -zn 0 64k"), q("write -zun 1M 64k", "read -P 0 1M 64k"),
    q("write -z 100 1000", "read -v 90 20"),
    q("write -z 4M 1"), q("write -zq 0 1k"), q("write -zC 0 1k"),
    q("write -zf 0 64k"), q("write -z 0 0"),
    q("write -c -P 0x33 64k 64k", "read -P 0x33 64k 64k"),
    q("write -c 64k 32k"), q("write -c 512 512"), q("write -c 4M 64k"),
    q("write -s pattern 0 1k", "read -v 0 48"),
    q("write -s pattern 100 7", "read -v 96 16"),
    q("write -s pattern -q 0 512"),
    q("write -b 0 64k", "read -bP 0xcd 0 64k"),
    q("write -b -P 7 512 512", "read -b -P 7 512 512", "length"),
    q("write -bP 1 0 512", "write -bP 2 64k 512", "read -bP 1 0 512"),
    q("write 0 64k", image="r.raw", options=("-f", "raw")),
    q("write -z 0 32k", "read -v 32760 16", image="r.raw",
      options=("-f", "raw")),
    q("write -c 0 64k", image="r.raw", options=("-f", "raw")),
    q("write -b 0 512", image="r.raw", options=("-f", "raw")),
    q("read -b 0 512", image="r.raw", options=("-f", "raw")),
    q("write -P 9 96k 64k", "map", image="top.qcow2"),
    q("write -P 9 1k 1k", "read -P 0x11 0 1k", "read -P 0x11 2k 62k",
      image="top.qcow2"),
    q("write -P 9 1k 1k", "map", "alloc 0 64k", image="ext.qcow2"),
    q("write -z 4k 1k", "map", image="ext.qcow2"),
    q("write -P 9 100 100", "map", image="tiny.qcow2"),
    q("write -P 9 0 1M", "map", image="tiny.qcow2"),
    q("write -z 0 64k", "read -P 0 0 64k", image="old.qcow2"),
    q("write -P 9 0 64k", image="old.qcow2", options=("-f", "qcow2")),
    q("write -P 0 -P 1 0 512", "read -P 1 0 512"), q("write -zn 0 3G"),
    q("write -z -u -n -f 0 4k", "map"), 
    q("write -zn 3M 64k", "map"), q("write -zu 3M 64k", "alloc 3M 64k"),
    q("write -z 1M 64k", "alloc 1M 64k"), q("write -zu 2M 64k", "map"),
    q("write -z 64k 64k", "map", image="top.qcow2"),
    q("write -zu 64k 64k", "map", image="top.qcow2"),
    q("write -z 1k 1k", "map", image="top.qcow2"),
    q("write -f -P 3 0 64k", "read -P 3 0 64k"), q("write -fq 0 1"),
    q("write -c -P 5 64k 64k", "write -P 6 64k 1k", "map"),
    q("write -c -P 5 64k 128k", "read -P 5 64k 128k"),
    q("write -c 999424 1024", image="odd.qcow2"),
    q("write -P 4 4M 512", "length"), q("write -cC 64k 64k"),
    q("write -bC 0 512"), q("write -bq -s pattern 0 512", "read -bv 0 512"),
    q("write -s pattern -C 0 64"), q("write -s pattern 65000 5000",
                                     "read -v 65528 32"),
    q("write -qP 0xff 0 1k", "read -P 255 0 1k", image="old.qcow2"),
    q("write -z 0 64k", "map", image="old.qcow2"),
    q("write -P 9 0 2k", "write -z 512 512", "map", image="tiny.qcow2"),
    # writev
    q("writev 0 512 512"), q("writev -P 8 65000 1000 2000", "map"),
    q("writev -Cfq -P 1 0 1"), q("writev 0 0"), q("writev 1M 64k 64k"), q("writev -P 3 0 1 2 3", "read -v 0 16"),
    q("writev -q 0 1k"), q("writev -C 0 1k"), q("writev -f 0 1k"),
    q("writev 4M 512"), q("writev -P 9 4194000 304"),
    # aio
    q("aio_read 0 64k", "aio_flush"), q("aio_read -v 0 16", "aio_flush"),
    q("aio_read -P 0x41 0 64k", "aio_flush"),
    q("aio_read -P 0x40 0 64k", "aio_flush"),
    q("aio_read -q 0 64k", "aio_flush"), q("aio_read -C 0 64k", "aio_flush"),
    q("aio_read 0 512 512 1k", "aio_flush"), q("aio_read 4M 1", "aio_flush"),
    q("aio_read -i 0 1"), q("aio_write -i 0 1"), q("aio_flush"),
    q("aio_write 0 64k", "aio_flush", "read -P 0xcd 0 64k"),
    q("aio_write -P 5 0 64k", "aio_flush", "read -P 5 0 64k"),
    q("aio_write -q 0 512", "aio_flush"), q("aio_write -f 0 1", "aio_flush"),
    q("aio_write -C 0 512", "aio_flush"), q("aio_write 0 512"),
    q("aio_write 4M 512", "aio_flush"), q("aio_write 0 1k", "close"),
    q("aio_write -zq 0 64k", "aio_flush", "read -P 0 0 64k"),
    q("aio_write -zuq 0 64k", "aio_flush", "map"),
    q("aio_write -z 0 3G", "aio_flush"),
    q("truncate 4G", "aio_write -z 0 3G", "aio_flush", "read -P 0 0 64k"),
    q("aio_write -zfq 3M 64k", "aio_flush", "map"),
    q("aio_write -zC 0 64k", "aio_flush"),
    q("aio_write -P 9 0 512 1k 3k", "aio_flush", "read -P 9 0 4608"),
    q("aio_read -C -v 0 16", "aio_flush"), q("aio_read -iP 0 0 1"),
    q("aio_read -vq 0 16", "aio_flush"), q("aio_read 0 0", "aio_flush"),
    q("aio_write -qP 1 0 64k", "aio_write -qP 2 1M 64k", "aio_flush",
      "read -P 1 0 64k", "read -P 2 1M 64k"),
    q("aio_write -q 0 512", "quit", "length"),
    q("aio_write 0 1M", "reopen -r", "read -P 0xcd 0 1M"),
    # alloc, map
    q("alloc 1"), q("alloc 3 5"), q("alloc 65535 2"), q("alloc 4095k 2k"),
    q("alloc 0"), q("alloc 0 4M"), q("alloc 64k"), q("alloc 512 1k"),
    q("alloc 4M"), q("alloc 8M"), q("alloc 0 0"), q("alloc 0 8M"), q("a 0"),
    q("alloc 65024 1024"), q("map"), q("map", image="top.qcow2"),
    q("map", image="odd.qcow2"), q("map", image="base.qcow2"),
    q("map", image="tiny.qcow2"), q("map", image="ext.qcow2"),
    q("alloc 0 1M", "alloc 512k", "alloc 600k", image="top.qcow2"),
    q("map", "alloc 0 1M", image="r.raw", options=("-f", "raw")),
    # discard, flush, truncate, length, info
    q("discard 0 64k", "read -P 0 0 64k", options=("-d", "unmap")),
    q("discard 0 64k", "alloc 0 64k", options=("-d", "unmap")),
    q("discard -q 0 64k"), q("discard -C 0 64k"), q("discard 1 1"),
    q("discard 0 0"), q("discard 4M 512"), q("d 0 64k"), q("flush"), q("f"),
    q("info"), q("i", image="old.qcow2"), q("info", image="ext.qcow2"),
    q("truncate 8M", "length", "read -P 0 4M 4M"), q("truncate 1M", "length"),
    q("truncate 64k", "truncate 4M", "read -P 0 64k 4032k"),
    q("truncate -m metadata 5M", "length"), q("truncate -m off 5M", "length"),
    q("truncate -m falloc 5M", "length"), q("truncate -m full 5M", "length"),
    q("t 4M"), q("length"), q("l"), q("length", image="odd.qcow2"),
    q("truncate 2M", "length", image="r.raw", options=("-f", "raw")),
    q("truncate 1536", "length", image="r.raw", options=("-f", "raw")),
    q("length", "info", image="r.raw", options=("-f", "raw")),
    q("discard 0 4M", "map"), q("discard 3M 2M"), q("discard 0 5M"),
    q("discard 64k 64k", "map", image="top.qcow2", options=("-d", "unmap")),
    q("discard 0 64k", "alloc 0 64k", options=("-d", "ignore")),
    q("discard 1M 64k", "read -P 0 1M 64k", options=("--discard", "on")),
    q("discard 0 64k", "read -P 0 0 64k", image="r.raw",
      options=("-f", "raw")),
    q("truncate 1.5M", "length"), q("truncate 0", "length"),
    q("truncate 512", "map"), q("truncate -m off 6M", "length", "info"),
    q("truncate 2M", "map", image="top.qcow2"),
    q("truncate 2M", "map", image="ext.qcow2"),
    q("truncate 1G", "length", image="old.qcow2"),
    q("info", image="top.qcow2"), q("info", image="tiny.qcow2"),
    # open, close, quit, reopen
    opts((), "open q.qcow2", "length"), opts((), "open -r q.qcow2", "length"),
    opts((), "open -o driver=qcow2 q.qcow2", "length", "close"),
    opts((), "open -o driver=raw,file.filename=r.raw", "length"),
    opts((), "open -n q.qcow2", "read -P 0x41 0 64k"),
    opts((), "open -s q.qcow2", "write -P 1 0 1k", "read -P 1 0 1k"),
    opts((), "open -t writethrough q.qcow2", "write 0 1k"),
    opts((), "open -d unmap q.qcow2", "discard 0 64k", "alloc 0 64k"),
    opts((), "open -rU q.qcow2", "length"),
    opts((), "open -C top.qcow2", "read 0 64k", "map"),
    q("close", "open base.qcow2", "read -P 0x11 0 1k"),
    q("quit", "length"), q("q", "length"), q("close"), q("c"),
    q("reopen -r", "read -P 0x41 0 1k"), q("reopen -r", "reopen -w",
                                           "write 0 1k"),
    q("reopen -c none", "read -P 0x41 0 1k"), q("reopen"),
    q("reopen -c writethrough", "write 0 1k"),
    q("reopen -o lazy-refcounts=on", "write 3M 64k"),
    q("quit now", "length"), q("sleep 1"), q(""), q("  ", "length"),
    q("quit -x"), q("quit 1 2", "length"), q("sleep 0"), q("sleep 0x1"),
    q("sigraise 08", "sigraise 65", "sigraise 0x0", "length"),
    q("sigraise 017"), q("sigraise 010", "length"),
    q("sigraise 0", "length"), q("sigraise 10", "sigraise 13", "length"),
    q("close", "open q.qcow2", "length"),
    q("reopen -w", "write 0 1"), q("reopen -c unsafe", "write 0 1"),
    q("reopen -c off", "length"), q("reopen -c writeback -c none", "length"),
    q("reopen -o driver=qcow2", "length"),
    q("reopen -o file.filename=q.qcow2", "length"),
    q("reopen -o backing.driver=qcow2,backing.file.filename=base.qcow2",
      "read -P 0x11 0 64k", image="top.qcow2"),
    opts(DEBUG, "reopen -o file.driver=blkdebug,file.image.driver=file,"
         "file.image.filename=q.qcow2", "read -P 0x41 0 64k"),
    q("reopen -o discard=unmap", "discard 0 64k", "map"),
    q("reopen -o detect-zeroes=on", "write -P 0 1M 64k", "read -P 0 1M 64k"),
    q("reopen -o read-only=off", "write 0 1", options=("-r",)),
    q("reopen -o read-only=on", "length", options=("-r",)),
    q("reopen -o lazy-refcounts=on", "reopen -o lazy-refcounts=off",
      "write 0 1"),
    q("reopen -r -c none", "read -P 0x41 0 1k"),
    q("reopen -o cache.direct=on", "length"),
    q("reopen -o auto-read-only=on", "length"),
    q("write -P 1 0 64k", "reopen -o lazy-refcounts=on", "read -P 1 0 64k",
      "write -P 2 64k 64k", "read -P 1 0 64k",
      "read -P 2 64k 64k", "map", options=("-s",)),
    q("reopen -o overlap-check=all", "read 0 512", "close", "length",
      options=("-s",)),
    opts((), "open -s q.qcow2", "write -P 1 0 64k", "reopen",
         "read -P 1 0 64k"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "auto-read-only=on,file.auto-read-only=off"), "write 0 1"),
    opts((), "open -o driver=qcow2,file.filename=q.qcow2", "length", "info"),
    opts((), "open -o file.filename=q.qcow2 -r", "length"),
    opts((), "open -s -r q.qcow2", "length"),
    opts((), "open -k -n q.qcow2", "length"),
    opts((), "open -r -o read-only=off q.qcow2", "write 0 1"),
    opts((), "open -C -s top.qcow2", "read 0 1", "map"),
    opts((), "open -o cache.direct=on,driver=qcow2 q.qcow2", "length"),
    opts((), "open -o driver=qcow2 -o lazy-refcounts=on q.qcow2", "length"),
    opts((), 'open json:{"driver":"qcow2","file.filename":"q.qcow2"}',
         "length"),
    opts((), "open -d ignore q.qcow2", "discard 0 64k", "alloc 0 64k"),
    opts((), "open -i threads q.qcow2", "read -P 0x41 0 64k"),
    opts((), "o q.qcow2", "length"), opts((), "open -t none q.qcow2",
                                          "write 0 1k"),
    # options of the program
    q("write 0 1", "map", "info", options=("-s",)),
    q("write -q 0 1", options=("-s", "-n")),
    q("read 0 1", "map", image="top.qcow2", options=("-s", "-C")),
    q("length", options=("-U", "-s")), q("write -P 1 0 64k", "read -P 1 0 1",
                                         options=("-U", "-s")),
    q("write 1 1", options=("-n",)), q("read -P 0x77 3 5", image="r.raw",
                                       options=("-n", "-f", "raw")),
    q("write 1 1", "read -P 0xcd 1 1", image="r.raw",
      options=("-n", "-m", "-f", "raw")),
    q("length", options=("-r", "-r")), q("length", options=("-t", "off")),
    q("length", options=("-d", "off")), q("length", options=("-d", "on")),
    q("length", options=("-i", "io_uring")),
    q("write -P 3 0 64k", "read -P 3 0 64k", options=("-i", "threads")),
    q("length", options=("-n", "-t", "unsafe")),
    ("--cmd", "length", "--snapshot", "q.qcow2"),
    ("--cmd", "length", "--misalign", "q.qcow2"),
    ("--cmd", "length", "--copy-on-read", "q.qcow2"),
    ("--cmd", "length", "--native-aio", "--nocache", "q.qcow2"),
    ("--cmd", "length", "--aio", "threads", "q.qcow2"),
    ("--cmd", "length", "--force-share", "--read-only", "q.qcow2"),
    ("--read", "--cmd", "length", "q.qcow2"),
    ("--trace", "enable=x", "-c", "length", "q.qcow2"),
    ("q.qcow2", "-c", "length"), ("-c", "length", "--", "q.qcow2"),
    ("-rc", "length", "q.qcow2"), ("-c", "", "q.qcow2"),
    opts(("--image-opts", "-r", "driver=qcow2,file.filename=q.qcow2,"
          "read-only=off"), "write 0 1"),
    opts(("--image-opts", "-r", "driver=qcow2,file.filename=q.qcow2,"
          "read-only=on"), "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "cache.direct=on"), "length"),
    q("read 0 512", options=("-r",)), q("length", options=("-U", "-r")),
    q("write -P 9 0 64k", "read -P 9 0 64k", "map", options=("-s",)),
    q("write -P 9 0 64k", "read -P 9 0 64k", options=("-n",)),
    q("write 0 512", options=("-m",)), q("read -P 0x41 1 7",
                                         options=("-m", "-n")),
    q("length", options=("-i", "threads")),
    q("length", options=("-i", "native", "-n")),
    q("length", options=("-k", "-n")), q("write 0 1k", options=("-t", "none")),
    q("write 0 1k", options=("-t", "unsafe")),
    q("write 0 1k", options=("-t", "directsync")),
    q("write 0 1k", options=("-t", "writeback")),
    q("write 0 1k", options=("-d", "ignore")),
    q("length", options=("--object", "secret,id=s,data=x")),
    q("read 0 64k", "map", image="top.qcow2", options=("-C",)),
    q("read -P 0x11 70000 0", "read 1k 1k", "map", image="top.qcow2",
      options=("-C",)),
    q("read 700k 1k", "map", image="top.qcow2", options=("-C",)),
    opts(("--image-opts", "driver=qcow2,file.driver=file,"
          "file.filename=q.qcow2"), "read -P 0x41 0 64k"),
    opts(("--image-opts", "file.filename=q.qcow2"), "length"),
    opts(("--image-opts", "driver=raw,file.filename=r.raw,offset=512,"
          "size=1k"), "length", "read -P 0x77 0 1k"),
    opts(("--image-opts", "driver=qcow2,file.filename=top.qcow2,"
          "backing.driver=null-co"), "length"),
    opts(('json:{"driver":"qcow2","file":{"driver":"file",'
          '"filename":"q.qcow2"}}',), "length"),
    opts(("--image-opts", "driver=null-co,size=1M,read-zeroes=on"),
         "length", "write 0 64k", "read -P 0 0 64k"),
    opts(("--image-opts", "driver=null-co,size=1M,read-zeroes=on"),
         "discard 0 64k", "flush", "read 1M 1"),
    opts(("null-co://", "-f", "raw"), "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "detect-zeroes=on"), "write -P 0 1M 64k", "alloc 1M 64k",
         "read -P 0 1M 64k"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,discard=unmap,"
          "detect-zeroes=unmap"), "write -P 0 1M 64k", "read -P 0 1M 64k"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "detect-zeroes=off"), "write -P 0 1M 64k", "alloc 1M 64k"),
    q("read -P 0x77 0 64k", "write -P 1 0 64k",
      image="blkverify:r.raw:same.qcow2", options=("-f", "raw")),
    q("read 0 1k", image="blkdebug::q.qcow2"),
    q("write 0 1k", "read 0 1k", image="blkdebug:rules:q.qcow2"),
    # breakpoints and injected errors
    opts(DEBUG, "break write_aio A", "aio_write 0 64k", "wait_break A",
         "resume A", "aio_flush"),
    opts(DEBUG, "break write_aio A", "aio_write -P 1 0 64k", "wait_break A",
         "write -P 2 1M 64k", "resume A", "aio_flush", "read -P 1 0 64k"),
    opts(DEBUG, "break read_aio A", "aio_read 0 64k", "wait_break A",
         "resume A", "aio_flush"),
    opts(DEBUG, "break write_aio A", "remove_break A", "write 0 1k"),
    opts(DEBUG, "break write_aio A", "reopen -r", "reopen -w",
         "aio_write -P 1 0 64k", "wait_break A", "resume A", "aio_flush"),
    opts(DEBUG, "break write_aio A", "aio_write 0 64k", "wait_break A",
         "remove_break A", "aio_flush"),
    opts(DEBUG, "break write_aio A", "aio_write 0 64k", "wait_break A",
         "resume A", "resume A", "aio_flush"),
    opts(DEBUG, "break write_aio A", "resume A"),
    opts(DEBUG, "break l2_load A", "aio_read 0 64k", "resume A", "aio_flush"),
    opts(DEBUG, "break foo A"), opts(DEBUG, "resume A"),
    opts(DEBUG, "remove_break A"), q("break write_aio A"), q("resume A"),
    q("remove_break A"),
    opts(debug("event=write_aio"), "write 0 64k", "read 0 64k"),
    opts(debug("event=write_aio,errno=28,once=on"), "write 0 64k",
         "write 0 64k"),
    opts(debug("event=read_aio"), "read 0 64k", "aio_read 0 64k",
         "aio_flush"),
    opts(debug("event=read_aio,once=on,immediately=on"), "read 0 64k",
         "read 0 64k"),
    opts(debug("event=l2_load"), "read 0 64k"),
    opts(debug("event=read_compressed"), "read 2M 64k", "read 0 1k"),
    opts(debug("event=write_aio,errno=5"), "writev 0 512 512",
         "aio_write 0 64k", "aio_flush"),
    opts(debug("event=none,iotype=discard"), "length"),
    # -c help is in our own words; that it works is in REFUSED
    ("--cmd", "length", "--read-only", "q.qcow2"),
    ("--cmd=length", "--cache=none", "--format=qcow2", "q.qcow2"),
    ("--nocache", "--discard=unmap", "-c", "discard 0 64k", "q.qcow2"),
    ("-T", "enable=x", "-c", "length", "q.qcow2"),
]

# --- Mistakes ---

REFUSED = [
    q("read 0 4kB"), q("read 0 1e3"), q("read 0 0x1.8"), q("read 0 1s"),
    q("read -n 0 1", "length"), q("write -Pz 0 1", "length"),
    q("read -P 256 0 1"), q("read -P -1 0 1"), q("read 0 2147483137"),
    q("read 0 2147483648"), q("read 9223372036854775808 1"),
    q("read 0 512;length"), q("length;"), q("# comment"), q("; length"),
    q('"length"'), q("'length'"), q("LENGTH"), q("chmod 0"), q("wait"),
    q("read -a 0"), q("read -h"), q("read --help"), q("readv 4k -1"),
    q("read -P 0x41 -s 513 0 512"), q("read -P 0x41 -l 513 0 512"),
    q("readv -p 0 1"), q("readv -s 0 -P 1 0 1"), q("write -zb 0 512"),
    q("write -cf 0 64k"), q("write -z 0 3G"), q("write -zu 0 2147483647"),
    q("write -b 1 512"), q("write -bP 3 0 1"), q("write -c 1 512"),
    q("write -c 0 513"), q("write -c 32k 64k"), q("writev -z 0 1"),
    q("writev -u 0 1"), q("writev -p 0 1"), q("aio_read -p 0 1"),
    q("aio_write -n 0 1"), q("aio_write -b 0 1"), q("aio_read -i"),
    q("discard -p 0 1"), q("discard 0 -1"), q("alloc -1"), q("alloc 0 -1"),
    q("truncate -1"), q("truncate -m"), q("length -x"), q("sleep 1k"),
    q("sleep 1 2"), q("sleep 1.5"), q("sigraise -1"), q("sigraise 99"),
    q("sigraise 1 2"), q("abort x"), q("break a"), q("break a b c"),
    q("resume a b"), q("help -x"), q("open -n"), q("open -o"),
    q("reopen -c"), q("reopen -r -r"), q("reopen -w -w"),
    q("reopen -o a=b -o c=d"), q("reopen -o foo"),
    q("reopen -o driver=raw", "length"),
    q("reopen -o file.filename=r.raw", "length"),
    q("reopen -o read-only=on", "write 0 1"),
    q("reopen -o read-only=maybe", "write 0 1"),
    q("reopen -r", "reopen -o read-only=on", "write 0 1"),
    # the nodes stay what they are, and so does what is read
    *(q("reopen -o " + change, "write -q -P 1 0 1k", "read -q -P 0x11 4k 60k",
        image="top.qcow2")
      for change in ("backing.driver=raw", "backing.file.filename=odd.qcow2",
                     "backing.filename=base.qcow2", "backing=",
                     "backing=null", "backing.backing=",
                     "backing.backing.driver=raw", "file=x",
                     "file.locking=off", "allow-data-file=on",
                     "copy-on-read=on", "force-share=off")),
    opts(DEBUG, "reopen -o file.image.filename=top.qcow2",
         "read -q -P 0x41 0 64k"),
    opts(DEBUG, "reopen -o file.image=x", "read -q -P 0x41 0 64k"),
    q("truncate -m full 1M", "length"), q("truncate -m metadata 1M", "length"),
    q("truncate -m falloc 1M", "length", image="r.raw", options=("-f", "raw")),
    opts(("--image-opts", "driver=raw,file.filename=r.raw,file.driver=file,"
          "file.aio-max-batch=x"), "length"),
    opts(("--image-opts", "driver=raw,file.filename=r.raw,file.driver=file,"
          "file.drop-cache=maybe"), "length"),
    opts(("--image-opts", "driver=raw,file.driver=blkdebug,"
          "file.take-child-perms.0=writes,file.image.filename=r.raw"),
         "length"),
    opts(("--image-opts", "driver=raw,file.driver=blkdebug,"
          "file.take-child-perms.1=write,file.image.filename=r.raw"),
         "length"),
    opts((), "open -w q.qcow2"), opts((), "open -n -m q.qcow2"),
    opts((), "open -k q.qcow2"), opts((), "open -i native q.qcow2"),
    opts((), "open -i foo q.qcow2"), opts((), "open -d foo q.qcow2"),
    opts((), "open -U q.qcow2"), opts((), "open -o x"),
    opts((), "open -o driver=foo q.qcow2"), opts((), "open -C -r top.qcow2"),
    opts((), "open -o read-only=on q.qcow2", "length"),
    opts((), "open -s -r q.qcow2", "write 0 1"),
    q("write 0 1", options=("-s", "-r")), q("write 0 1", options=(
        "-U", "-r", "-s")),
    q("read 0 1", image="top.qcow2", options=("-C", "-r")),
    q("length", options=("-t", "WRITEBACK")), q("length", image=""),
    q("length", options=("-f", "")), ("-x",), ("-c",), ("-f",),
    q("length", "length", image="q.qcow2", options=("r.raw",)),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "read-only=on"), "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,foo=bar"),
         "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "auto-read-only=maybe"), "length"),
    opts(("--image-opts", ""), "length"), ("--image-opts", "q.qcow2"),
    q("foo"), q("read"), q("read 0"), q("read 0 1 2"), q("read -x 0 1"),
    q("read a 1"), q("read 0 zz"), q("read -P 300 0 1"), q("read -P zz 0 1"),
    q("read 0 -1"), q("read 0 2G"), q("read 0 99999999999999999999"),
    q("read 1.5 1"), q("read -s 0 0 512"), q("read -l 1 0 512"),
    q("read -P 0 -s 600 0 512"), q("read -P 0 -s 500 -l 20 0 512"),
    q("read -b 0 1"), q("read -b 1 512"), q("readv 0"), q("readv 0 zz"),
    q("readv -x 0 1"), q("readv 0 1G 1G"), q("write"), q("write 0"),
    q("write 0 1 2"), q("write -bz 0 512"), q("read 8E 512"),
    q("write -fc 0 64k"), q("write -fb 0 512"), q("write -u 0 1"),
    q("write -n 0 1"), q("write -zP 1 0 1"), q("write -zs pattern 0 1"),
    q("write -P 1 -s pattern 0 1"), q("write -s nothing 0 1"),
    q("write -s empty 0 1"), q("write -c 0 1"),
    q("write 0 3G"), q("writev 0"), q("writev -P x 0 1"),
    q("aio_write 0"), q("aio_write -u 0 1"),
    q("aio_write -z 0 1 2"), q("aio_read 0"), q("aio_read -P zz 0 1"),
    q("alloc"), q("alloc zz"), q("alloc 0 zz"), q("alloc 0 1 2"),
    q("discard"), q("discard 0"), q("discard -z 0 1"), q("discard 0 3G"),
    q("truncate"), q("truncate zz"), q("truncate -m foo 1M"),
    q("truncate 513"), q("length x"), q("flush x"), q("aio_flush x"),
    q("close x"), q("map x"), q("info x"), q("sleep"),
    q("sleep zz"), q("sleep -1"), q("sigraise"), q("sigraise zz"),
    q("help foo"), q("help a b"), q("break write_aio"), q("resume"),
    q("wait_break"), q("remove_break"), q("open base.qcow2"),
    opts((), "read 0 1"), opts((), "length"), opts((), "open"),
    opts((), "open -x"), opts((), "open a b"), opts((), "open nothing"),
    opts((), "open -o foo=bar q.qcow2"), opts((), "open -t foo q.qcow2"),
    opts((), "open -o file.filename=q.qcow2 q.qcow2", "length"),
    opts((), "open -s -o file.filename=base.qcow2 top.qcow2", "length"),
    q("write -s r.raw 0 0"), q("write -s empty 0 0"), q("write -s . 0 0"),
    q("aio_write -x -i"), q("aio_write -iP"), q("aio_read -P z -i"),
    q("sigraise -0"), q("sigraise 66"), q("sigraise 9x"),
    q("close", "read 0 1"), q("reopen -r -w"), q("reopen -x"),
    q("reopen foo"), q("reopen -c foo"), q("reopen -o foo=bar"),
    q("reopen -r -o read-only=off"), q("reopen -c none -o cache.direct=on"),
    q("reopen -r", "write 0 1k"), q("write 0 1", options=("-r",)),
    q("discard 0 1", options=("-r",)), q("truncate 1M", options=("-r",)),
    q("aio_write 0 1", options=("-r",)), q("writev 0 1", options=("-r",)),
    q("length", options=("-i", "native")), q("length", options=("-k",)),
    q("length", options=("-i", "foo")), q("length", options=("-t", "foo")),
    q("length", options=("-d", "foo")), q("length", options=("-f", "foo")),
    q("length", options=("-f", "qcow2"), image="r.raw"),
    q("length", options=("-U",)), q("length", options=("--image-opts", "-f",
                                                       "qcow2")),
    q("length", options=("--object", "foo,id=x")), q("length", options=(
        "--object", "secret,data=x")), q("length", image="nothing"),
    q("length", image="nosuch:thing"), ("-Z", "q.qcow2"), ("a", "b"),
    q("length", image="."), opts(("--image-opts", "driver=raw"), "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "detect-zeroes=maybe"), "length"),
    opts(("--image-opts", "driver=qcow2,file.filename=q.qcow2,"
          "detect-zeroes=unmap"), "length"),
    opts(("--image-opts", "driver=throttle,file.filename=q.qcow2"),
         "length"),
    q("length", image="blkverify:r.raw"), q("length",
                                            image="blkdebug:nothing:q.qcow2"),
]

# --- Explanations ---

TOLD = [
    q("help"), q("?"), q("help length"), q("? read"), q("close", "help open"),
    ("-h",), ("--help",), ("-V",), ("--version",),
]

# --- Lines for differences that we want, with the exit status of ours ---

OURS = [
    (0, q("multiwrite 0 4k ; 64k 4k", "read -P 0xcd 0 4k",
          "read -P 0xce 64k 4k")),
    (0, q("multiwrite -C 1M 1k 3k ; 0 64k", "read -P 0xcd 1M 4k")),
    (0, q("multiwrite -q -P 3 0 1", "read -P 3 0 1")),
    (1, q("multiwrite")), (1, q("multiwrite 0 4k ;")),
    (1, q("write -bc 0 512")), (1, q("write -cz 0 64k")),
    (1, q("aio_write -zP 1 0 1")), (1, q("truncate 512 512")),
    (1, q("read 0 0x1k")),
    (0, q("read\t0\t512")),
    (0, q("length", image="pattern", options=("-f", "raw"))),
]

STDIN = [
    "read 0 512\n\n  \nlength\n", "# x\nlength\n", "foo\nread 0 1\nbar\n",
    "read 0 512", "quit", "sleep 10\nquit\nlength\n",
    "close\nlength\nopen q.qcow2\nlength\n", "aio_read 0 512\n",
    "aio_write 0 512\nquit\n", "read 8M 1\n", "len\0gth\nlength\n",
    "\0\nlength\n",
    "read 0 512\nlength\n", "length", "", "\n\n", "foo\nlength\n",
    "read -P 1 0 1k\nread -P 0x41 0 1k\n", "quit\nlength\n",
    "write 0 1k\naio_write -P 1 1k 1k\naio_flush\nread -v 1020 8\n",
]

TIMES = re.compile(r"ops; .* ops/sec\)")
NUMBERS = re.compile(r"^(\d+),1,\d.*$", re.M)


def mask(text):
    text = TIMES.sub("ops; TIMES", text)
    text = NUMBERS.sub(r"\1,1,TIMES", text)
    return text.replace("qemu-io> ", "> ").replace("firn-io> ", "> ")


def run(program, words, where, text=""):
    return subprocess.run((program, *words), cwd=where, input=text, text=True,
                          timeout=SECONDS, check=False, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def make_images(where):
    for words in IMAGES.values():
        subprocess.run((QEMU_IMG, "create", "-q", *words), cwd=where,
                       timeout=SECONDS, check=True)
    for name, commands in FILLED.items():
        words = [w for c in commands for w in ("-c", c)]
        if name.endswith("raw"):
            words += ["-f", "raw"]
        done = run(QEMU_IO, (*words, name), where)
        assert done.returncode == 0, done.stderr
    subprocess.run((QEMU_IMG, "convert", "-f", "raw", "-O", "qcow2", "r.raw",
                    "same.qcow2"), cwd=where, timeout=SECONDS, check=True)
    files = {"pattern": bytes(range(48, 112)), "empty": b"",
             "rules": b'[inject-error]\nevent = "write_aio"\nerrno = "5"\n'
                      b'once = "on"\n'}
    for name, data in files.items():
        with open(os.path.join(where, name), "wb") as f:
            f.write(data)


@unittest.skipUnless(shutil.which(QEMU_IO) and shutil.which(QEMU_IMG),
                     "no qemu-io to compare with")
class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="firn-io-")
        cls.template = os.path.join(cls.dir, "template")
        os.mkdir(cls.template)
        make_images(cls.template)
        cls.places = {}
        for name in ("qemu", "firn"):
            cls.places[name] = os.path.join(cls.dir, name)
            os.mkdir(cls.places[name])
            for file in os.listdir(cls.template):
                open(os.path.join(cls.places[name], file), "wb").close()
        cls.stamps = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @staticmethod
    def stamp(path):
        status = os.stat(path)
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size

    def restore(self):
        """Put back what the last line has written to."""
        for place in self.places.values():
            for name in os.listdir(self.template):
                target = os.path.join(place, name)
                if self.stamps.get(target) != self.stamp(target):
                    shutil.copyfile(os.path.join(self.template, name), target)
                    self.stamps[target] = self.stamp(target)

    @staticmethod
    def facts(path, kind):
        """What qemu-img tells of an image: its map and check."""
        words = [QEMU_IMG, "map", "--output=json", "-f", kind, path]
        done = subprocess.run(words, capture_output=True, timeout=SECONDS,
                              check=True)
        runs = []  # holes in the file and where it lies cut runs, too
        for run_ in json.loads(done.stdout):
            what = run_["depth"], run_["present"]
            if not runs or runs[-1][1] != what:
                runs.append((run_["start"], what))
        check = {}
        if kind == "qcow2":
            words[1:3] = ["check", "--output=json"]
            done = subprocess.run(words, capture_output=True, timeout=SECONDS,
                                  check=False)
            found = json.loads(done.stdout)
            check = {k: v for k, v in found.items()
                     if k not in ("filename", "image-end-offset",
                                  "fragmented-clusters")}
            check["status"] = done.returncode
        return runs, check

    def compare_images(self):
        for name in IMAGES:
            paths = [os.path.join(p, name) for p in self.places.values()]
            if all(self.stamps.get(p) == self.stamp(p) for p in paths):
                continue
            with open(paths[0], "rb") as a, open(paths[1], "rb") as b:
                if a.read() == b.read():
                    continue
            kind = "raw" if name.endswith("raw") else "qcow2"
            done = run(QEMU_IMG, ("compare", "-f", kind, "-F", kind, *paths),
                       self.dir)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            theirs, ours = (self.facts(p, kind) for p in paths)
            self.assertEqual(ours, theirs)

    def both(self, words, text=""):
        self.restore()
        peer = run(QEMU_IO, words, self.places["qemu"], text)
        ours = run(FIRN_IO, words, self.places["firn"], text)
        self.assertEqual(ours.returncode, peer.returncode,
                         ours.stdout + ours.stderr + peer.stdout +
                         peer.stderr)
        self.compare_images()
        return ours, peer

    def test_results_are_the_same(self):
        for words in SAME:
            with self.subTest(line=words):
                ours, peer = self.both(words)
                self.assertEqual(mask(ours.stdout), mask(peer.stdout),
                                 ours.stderr)

    def test_mistakes_end_the_same(self):
        for words in REFUSED:
            with self.subTest(line=words):
                ours, _ = self.both(words)
                self.assertTrue(ours.stdout + ours.stderr)

    def test_explanations_are_given(self):
        for words in TOLD:
            with self.subTest(line=words):
                ours, _ = self.both(words)
                self.assertTrue(ours.stdout)

    def test_what_differs_does_as_it_is_told(self):
        for status, words in OURS:
            with self.subTest(line=words):
                self.restore()
                done = run(FIRN_IO, words, self.places["firn"])
                self.assertEqual(done.returncode, status,
                                 done.stdout + done.stderr)
                self.assertTrue(done.stdout + done.stderr)

    def test_standard_input_is_read_the_same(self):
        for text in STDIN:
            with self.subTest(text=text):
                ours, peer = self.both(("q.qcow2",), text)
                self.assertEqual(mask(ours.stdout), mask(peer.stdout))

    def test_signals_end_the_same(self):
        for number in (6, 9, 15):
            with self.subTest(signal=number):
                self.both(q("write 0 64k", f"sigraise {number}"))
        self.both(q("abort"))


class Coverage(unittest.TestCase):
    """What firn-io says that it has, against the lines above."""

    def setUp(self):
        self.used = collections.defaultdict(set)
        lines = SAME + REFUSED + TOLD + [words for _, words in OURS]
        commands = [f"{name} 1" for name in ("abort", "sigraise")]
        for words in lines:
            commands += [words[i + 1] for i, word in enumerate(words[:-1])
                         if word in ("-c", "--cmd")]
            self.used[""] |= {re.sub("=.*", "", w) for w in words}
        for text in STDIN:
            commands += text.split("\n")
        for command in commands:
            name, *words = command.split() or [""]
            self.used[name] |= {letter for w in words if w[:1] == "-"
                                for letter in w[1:]}

    def test_every_command_and_flag_occurs(self):
        told = run(FIRN_IO, ("-c", "help"), None).stdout
        commands = re.findall(r"^(\w+)(.*) -- ", told, re.M)
        self.assertGreater(len(commands), 24)
        for name, arguments in commands:
            self.assertIn(name, self.used)
            flags = set("".join(re.findall(r"-(\w+)", arguments)))
            with self.subTest(command=name):
                self.assertFalse(flags - self.used[name])

    def test_every_option_occurs(self):
        told = run(FIRN_IO, ("--help",), None).stdout
        options = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)", told, re.M)
        self.assertGreater(len(options), 15)
        for names in options:
            for name in filter(None, names):
                with self.subTest(option=name):
                    self.assertIn(name, self.used[""])


if __name__ == "__main__":
    unittest.main()
