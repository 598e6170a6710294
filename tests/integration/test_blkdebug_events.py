#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each event of blkdebug is passed by the same commands in qemu-io and firn-io.

A breakpoint is set on the event, then commands run; a tool that passes the
event says so on its standard output and stops there, and is killed. Events
that only opening passes, or a run of firn-img, are caught by an error that is
injected at them. Then an error is injected at each event while each of many
commands runs: the same commands fail in both (each fifth pair of event and
commands; FIRN_EVENTS_EVERY=1 for all of them).
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

IO = os.environ["FIRN_IO"]
IMG = os.environ["FIRN_IMG"]
SECONDS = 300
EVERY = int(os.environ.get("FIRN_EVENTS_EVERY", "5"))

# event: (image, commands)
PASSED = {
    "l1_update": ("new", ("write 0 64k", "flush")),
    "l1_grow_alloc_table": ("new", ("truncate 16G",)),
    "l1_grow_write_table": ("new", ("truncate 16G",)),
    "l1_grow_activate_table": ("new", ("write -b 0 64k",)),
    "l1_shrink_write_table": ("small", ("truncate 64k",)),
    "l1_shrink_free_l2_clusters": ("small", ("truncate 64k",)),
    "l2_load": ("data", ("read 0 64k",)),
    "l2_update": ("new", ("write 0 64k", "flush")),
    "l2_update_compressed": ("new", ("write -c 0 64k",)),
    "l2_alloc_cow_read": ("snap", ("write 0 64k",)),
    "l2_alloc_write": ("new", ("write 0 64k", "flush")),
    "read_aio": ("data", ("read 0 64k",)),
    "read_backing_aio": ("over", ("read 0 64k",)),
    "read_compressed": ("comp", ("read 0 64k",)),
    "write_aio": ("data", ("write 4k 4k",)),
    "write_compressed": ("new", ("write -c 0 64k",)),
    "vmstate_load": ("vm", ("read -b 0 64k",)),
    "vmstate_save": ("new", ("write -b 0 64k",)),
    "cow_read": ("over", ("write 4k 4k",)),
    "cow_write": ("snap", ("write 4k 4k",)),
    "reftable_grow": ("tiny", ("write 0 9M",)),
    "refblock_load": ("new", ("write 0 64k",)),
    "refblock_update_part": ("new", ("write 0 64k", "flush")),
    "refblock_alloc": ("new", ("write 0 64k",)),
    "refblock_alloc_hookup": ("tiny", ("write 0 400k", "flush")),
    "refblock_alloc_write": ("tiny", ("write 0 400k", "flush")),
    "refblock_alloc_write_blocks": ("tiny", ("write 0 9M",)),
    "refblock_alloc_write_table": ("tiny", ("write 0 9M",)),
    "refblock_alloc_switch_table": ("tiny", ("write 0 9M",)),
    "cluster_alloc": ("new", ("write 0 64k",)),
    "cluster_alloc_bytes": ("new", ("write -c 0 64k",)),
    "cluster_alloc_space": ("new", ("write 4k 4k",)),
    "cluster_free": ("data", ("discard 0 64k", "flush")),
    "flush_to_os": ("data", ("write 0 4k", "flush")),
    "flush_to_disk": ("data", ("write 0 4k", "flush")),
    "pwritev": ("data", ("write 0 4k",)),
    "pwritev_done": ("data", ("write 0 4k",)),
    "pwritev_zero": ("raw", ("write -z 0 64k",)),
    "pwritev_rmw_head": ("raw", ("write 100 8000",)),
    "pwritev_rmw_after_head": ("raw", ("write 100 8000",)),
    "pwritev_rmw_tail": ("raw", ("write 100 200",)),
    "pwritev_rmw_after_tail": ("raw", ("write 100 200",)),
    "cor_write": ("cor", ("read 0 64k",)),
}

# What must not be passed, in either tool: the image has nothing of the kind.
NOT_PASSED = [
    ("l2_load", "new", ("write 0 128k", "flush")),
    ("pwritev_zero", "data", ("write -z 0 64k", "flush")),
    ("read_aio", "over", ("read 0 64k",)),
    ("cow_read", "data", ("write 4k 4k",)),
    ("l2_alloc_write", "data", ("write 0 64k", "flush")),
    ("pwritev", "data", ("read 0 64k",)),
    ("cor_write", "over", ("read 0 64k",)),
    # Something must have been written, and a write with FUA, as all are
    # without -t writeback, counts from the next flush on.
    ("flush_to_disk", "new", ("flush",)),
    ("flush_to_disk", "new", ("write 0 64k", "remove_break A")),
    ("flush_to_disk", "new", ("write -b 0 64k", "flush")),
    ("flush_to_os", "new", ("read 0 64k", "remove_break A")),
]

# What runs with an error injected at each event.
IO_WITH_ERROR = [
    ("new", ("write 0 64k", "write 64k 64k")),
    ("new", ("write -z 0 64k", "flush")),
    ("new", ("write -c 0 64k", "flush")),
    ("new", ("write -b 0 64k", "flush")),
    ("new", ("flush",)),
    ("new", ("truncate 65M", "flush")),
    ("new", ("truncate 16G",)),
    ("data", ("read 0 64k",)),
    ("data", ("write 4k 4k", "flush")),
    ("data", ("discard 0 64k", "flush")),
    ("snap", ("write 4k 4k", "flush")),
    ("over", ("write 4k 4k", "flush")),
    ("comp", ("read 0 64k",)),
    ("vm", ("read -b 0 64k",)),
    ("raw", ("write 100 8000", "flush")),
    ("raw", ("write -z 0 64k", "flush")),
    ("cor", ("read 0 64k",)),
]
IMG_WITH_ERROR = [
    ("data", ("snapshot", "-c", "new")),
    ("snap", ("snapshot", "-a", "s")),
    ("snap", ("snapshot", "-d", "s")),
    ("over", ("commit",)),
    ("small", ("resize", "--shrink", "-1M")),
]

# Where an error is told by one tool only, or by another command: the rows
# "blkdebug, an error at an event" of docs/compatibility.md.
ACCEPTED = {
    ("new", "write -c 0 64k"): {"flush_to_os", "flush_to_disk"},
    ("raw", "write 100 8000"): {"flush_to_os", "flush_to_disk",
                                "pwritev_done"},
    ("raw", "write -z 0 64k"): {"flush_to_os", "flush_to_disk",
                                "pwritev_done"},
    ("data", "snapshot"): {"l1_update", "flush_to_os"},
    ("snap", "snapshot"): {"l1_update", "cluster_alloc", "flush_to_os"},
    ("over", "commit"): {"l1_update", "refblock_load", "refblock_alloc",
                         "refblock_update_part", "cluster_alloc",
                         "refblock_alloc_write_table", "flush_to_os"},
}

OPTIONS = {
    "raw": "driver=raw,file.driver=blkdebug,file.align=4096,"
           "file.image.filename=raw",
    "cor": "driver=blkdebug,image.driver=qcow2,image.file.filename=over",
}


def run(*args, cwd):
    return subprocess.run(args, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=SECONDS, text=True, check=False)


def make_images(d):
    def q(*args):
        result = run(*args, cwd=d)
        assert result.returncode == 0, (args, result.stdout)

    create = ("qemu-img", "create", "-q", "-f", "qcow2")
    q(*create, "new", "64M")
    q(*create, "-o", "cluster_size=512", "tiny", "16M")
    q(*create, "-o", "cluster_size=512", "small", "4M")
    q("qemu-io", "-c", "write 0 1M", "small")
    q(*create, "data", "64M")
    q("qemu-io", "-c", "write 0 1M", "data")
    shutil.copy(d + "/data", d + "/snap")
    q("qemu-img", "snapshot", "-c", "s", "snap")
    q(*create, "-b", "data", "-F", "qcow2", "over")
    q(*create, "comp", "64M")
    q("qemu-io", "-c", "write -c 0 64k", "comp")
    q(*create, "vm", "64M")
    q("qemu-io", "-c", "write -b 0 64k", "vm")
    q("qemu-img", "create", "-q", "-f", "raw", "raw", "1M")


def options(image):
    return OPTIONS.get(image, "driver=qcow2,discard=unmap,file.driver="
                       "blkdebug,file.image.filename=" + image)


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        memory = "/dev/shm" # thousands of runs that flush
        cls.images = tempfile.mkdtemp(
            dir=memory if os.access(memory, os.W_OK) else None)
        cls.addClassCleanup(shutil.rmtree, cls.images)
        make_images(cls.images)

    def directory(self):
        """A fresh directory with the images."""
        d = tempfile.mkdtemp(dir=self.images)
        self.addCleanup(shutil.rmtree, d, True)
        for name in os.listdir(self.images):
            if os.path.isfile(os.path.join(self.images, name)):
                shutil.copy(os.path.join(self.images, name), d)
        return d

    def passes(self, tool, event, image, commands):
        args = ["stdbuf", "-oL", tool, "--image-opts"]
        if image == "cor":
            args.append("-C")
        for c in (f"break {event} A",) + commands:
            args += ["-c", c]
        child = subprocess.Popen(args + [options(image)],
                                 cwd=self.directory(), text=True,
                                 stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        alarm = threading.Timer(SECONDS, child.kill)
        alarm.start()
        text = ""
        for line in child.stdout:
            text += line
            if "Suspended request 'A'" in line:
                break
        if "Suspended" in text:
            child.kill()
        child.stdout.close()
        status = child.wait()
        alarm.cancel()
        if "Suspended" in text:
            return True
        self.assertEqual(status, 0, f"{tool} {commands}: {text}")
        return False

    def test_each_event_is_passed_by_the_same_commands(self):
        for event, (image, commands) in PASSED.items():
            for tool in ("qemu-io", IO):
                with self.subTest(event=event, tool=tool):
                    self.assertTrue(self.passes(tool, event, image, commands))

    def test_an_event_is_not_passed_where_its_name_does_not_fit(self):
        for event, image, commands in NOT_PASSED:
            for tool in ("qemu-io", IO):
                with self.subTest(event=event, tool=tool):
                    self.assertFalse(self.passes(tool, event, image,
                                                 commands))

    def with_error(self, tool, event, image, arguments):
        """The exit status and what became of each command of qemu-io."""
        key = ",inject-error.0." if image == "cor" else \
            ",file.inject-error.0."
        result = run(tool, *arguments, options(image) + key + "event=" +
                     event + key + "errno=28", cwd=self.directory())
        return result.returncode, re.findall(
            r"^(wrote|read|discard|[a-z]+ failed)\b", result.stdout, re.M)

    def test_an_error_at_an_event_is_told_by_the_same_commands(self):
        lines = []
        for image, commands in IO_WITH_ERROR:
            arguments = ["--image-opts"] + ["-C"] * (image == "cor")
            for c in commands:
                arguments += ["-c", c]
            lines.append(("qemu-io", IO, image, commands, arguments))
        for image, (command, *rest) in IMG_WITH_ERROR:
            lines.append(("qemu-img", IMG, image, (command, *rest),
                          [command, "--image-opts", *rest]))
        pairs = [(line, event) for line in lines for event in sorted(
            set(PASSED) - ACCEPTED.get((line[2], line[3][0]), set()))]
        for i, (line, event) in enumerate(pairs):
            theirs, ours, image, words, arguments = line
            if i % EVERY and event != "flush_to_disk":
                continue
            with self.subTest(event=event, image=image, words=words):
                self.assertEqual(
                    *(self.with_error(t, event, image, arguments)
                      for t in (theirs, ours)))

    def test_an_error_at_reftable_load_fails_open(self):
        for tool in ("qemu-io", IO):
            result = run(tool, "--image-opts", "-c", "length",
                         options("new") + ",file.inject-error.0.event="
                         "reftable_load,file.inject-error.0.errno=28",
                         cwd=self.directory())
            self.assertEqual(result.returncode, 1)
            self.assertIn("No space left", result.stdout)

    def test_an_error_at_empty_image_prepare_loses_nothing(self):
        for tool in ("qemu-img", IMG):
            d = self.directory()
            run("qemu-io", "-c", "write -P 7 0 64k", "over", cwd=d)
            result = run(tool, "commit", "--image-opts", options("over") +
                         ",file.inject-error.0.event=empty_image_prepare,"
                         "file.inject-error.0.errno=28", cwd=d)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn("No space left", result.stdout)
            for name in ("data", "over"):
                result = run("qemu-io", "-c", "read -P 7 0 64k", name, cwd=d)
                self.assertNotIn("verification failed", result.stdout)
                self.assertIn("read 65536/65536", result.stdout)

    def test_events_that_only_ours_passes(self):
        """A refcount block written as a whole; a smaller refcount table."""
        d = self.directory()
        result = run(IMG, "amend", "-o", "refcount_bits=1", "--image-opts",
                     options("new") + ",file.inject-error.0.event="
                     "refblock_update,file.inject-error.0.errno=28", cwd=d)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stdout)
        self.assertTrue(self.passes(IO, "reftable_update", "small",
                                    ("truncate 64k",)))

    def test_names_are_those_of_the_field(self):
        names = set(PASSED) | {"reftable_load", "empty_image_prepare",
                               "refblock_update", "reftable_update", "none"}
        self.assertEqual(len(names), 48)
        for name in sorted(names) + ["nonsense"]:
            statuses = [run(tool, "--image-opts", "-c", "length",
                            options("new") +
                            f",file.inject-error.0.event={name},"
                            "file.inject-error.0.iotype=discard",
                            cwd=self.images).returncode
                        for tool in ("qemu-io", IO)]
            self.assertEqual(statuses, [int(name == "nonsense")] * 2, name)


if __name__ == "__main__":
    if not shutil.which("qemu-io") or not shutil.which("qemu-img"):
        print("qemu-img and qemu-io are not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
