#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-io next to qemu-io: the same command line on equal images.

Compared: standard output (timings and the program's name masked), the exit
status, and what every image holds afterwards. SAME are lines whose output is a
result and must be equal; REFUSED are mistakes, told in words of our own, so
that there only the exit status, the images and that something was said count.
Differences that we want are in docs/compatibility.md and not in the tables.
"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

FIRN_IO = os.environ.get("FIRN_IO", "firn-io")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
SECONDS = 60

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
    # read
    q("read 0 64k"), q("read -P 0x41 0 64k"), q("read -P 65 0 64k"),
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
    # writev
    q("writev 0 512 512"), q("writev -P 3 0 1 2 3", "read -v 0 16"),
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
    # alloc, map
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
    # options of the program
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

STDIN = [
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
            shutil.copytree(cls.template, cls.places[name])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def restore(self):
        """Put back what the last line has changed; names of such images."""
        changed = set()
        for place in self.places.values():
            for name in os.listdir(self.template):
                source = os.path.join(self.template, name)
                target = os.path.join(place, name)
                with open(source, "rb") as a, open(target, "rb") as b:
                    same = a.read() == b.read()
                if not same:
                    changed.add(name)
                    shutil.copyfile(source, target)
        return changed

    def compare_images(self):
        for name in IMAGES:
            paths = [os.path.join(p, name) for p in self.places.values()]
            with open(paths[0], "rb") as a, open(paths[1], "rb") as b:
                if a.read() == b.read():
                    continue
            kind = "raw" if name.endswith("raw") else "qcow2"
            done = run(QEMU_IMG, ("compare", "-f", kind, "-F", kind, *paths),
                       self.dir)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            if kind == "qcow2":
                done = run(QEMU_IMG, ("check", "-f", kind, paths[1]),
                           self.dir)
                self.assertEqual(done.returncode, 0,
                                 done.stdout + done.stderr)

    def both(self, words, text=""):
        peer = run(QEMU_IO, words, self.places["qemu"], text)
        ours = run(FIRN_IO, words, self.places["firn"], text)
        try:
            self.assertEqual(ours.returncode, peer.returncode,
                             ours.stdout + ours.stderr + peer.stdout +
                             peer.stderr)
            self.compare_images()
        finally:
            self.restore()
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


if __name__ == "__main__":
    unittest.main()
