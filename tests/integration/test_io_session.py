#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""firn-io as it is used by hand and by programs that talk to it.

A terminal (a pty): editing, history, completion. A pipe: prompts, the order of
answers, lines of any kind. And what must not wait for ever: requests that are
stopped at a breakpoint when something waits for them. qemu-io takes part where
it has the same to say.
"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import termios
import threading
import time
import unittest

FIRN_IO = os.environ.get("FIRN_IO", "firn-io")
FIRN_IMG = os.environ.get("FIRN_IMG", "firn-img")
QEMU_IO = os.environ.get("QEMU_IO", "qemu-io")
SECONDS = 300
DEBUG = ("--image-opts", "driver=qcow2,file.driver=blkdebug,"
         "file.image.filename=q.qcow2")
TIMES = re.compile(r"ops; .*")


class Session(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="firn-io-")
        self.addCleanup(shutil.rmtree, self.dir)
        for name in ("q.qcow2", "other.qcow2"):
            subprocess.run((FIRN_IMG, "create", "-q", "-f", "qcow2", name,
                            "4M"), cwd=self.dir, timeout=SECONDS, check=True)

    def run_io(self, *words, text="", program=FIRN_IO, **more):
        """(exit status, standard output with times masked, errors)"""
        more.setdefault("stderr", subprocess.PIPE)
        done = subprocess.run((program, *words), cwd=self.dir, check=False,
                              input=text.encode(), timeout=SECONDS,
                              stdout=subprocess.PIPE, **more)
        out = TIMES.sub("ops; TIMES", done.stdout.decode(errors="replace"))
        errors = (done.stderr or b"").decode(errors="replace")
        return done.returncode, out, errors

    def run_commands(self, *commands, options=("q.qcow2",)):
        words = [w for c in commands for w in ("-c", c)]
        return self.run_io(*words, *options)


class Terminal:
    """firn-io on a pty."""

    def __init__(self, where, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(where)
            os.environ.update(TERM="xterm", HOME=where, COLUMNS="80")
            os.execvp(FIRN_IO, (FIRN_IO, *words))

    def expect(self, pattern):
        """Wait for something new that matches; what came until then."""
        end = time.monotonic() + SECONDS
        new = ""
        while not re.search(pattern, new):
            left = end - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {new!r}")
            try:
                data = os.read(self.fd, 4096)
            except OSError:  # how a pty ends
                data = b""
            if not data:
                raise AssertionError(f"ended without {pattern!r}: {new!r}")
            new += data.decode(errors="replace")
        return new

    def send(self, keys):
        """Type, once the program has taken over the terminal."""
        end = time.monotonic() + SECONDS
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if time.monotonic() > end:
                raise AssertionError("the terminal is left as it was")
            time.sleep(0.002)
        os.write(self.fd, keys.encode())

    def end(self):
        """Exit status."""
        killer = threading.Timer(SECONDS, os.kill, (self.pid, signal.SIGKILL))
        killer.start()
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:  # how a pty ends
            pass
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        killer.cancel()
        return os.waitstatus_to_exitcode(status)


class TerminalTest(Session):
    PROMPT = "firn-io> $"

    def setUp(self):
        super().setUp()
        done = subprocess.run(("ldd", shutil.which(FIRN_IO) or FIRN_IO),
                              capture_output=True, text=True, check=False)
        if not re.search("libedit|libreadline", done.stdout):
            self.skipTest("firn-io was built without editing of lines")

    def start(self, *words):
        terminal = Terminal(self.dir, *words)
        terminal.expect(self.PROMPT)
        return terminal

    def test_arrow_up_repeats_a_line(self):
        t = self.start("q.qcow2")
        t.send("length\r")
        t.expect(r"4 MiB\s+" + self.PROMPT)
        t.send("\x1b[A\r")
        t.expect(r"length[^>]*4 MiB\s+" + self.PROMPT)
        t.send("quit\r")
        self.assertEqual(t.end(), 0)

    def test_a_line_can_be_edited(self):
        t = self.start("q.qcow2")
        t.send("lenth\x02\x02g\r")  # two to the left, and what was missing
        t.expect(r"4 MiB\s+" + self.PROMPT)
        t.send("\x04")
        self.assertEqual(t.end(), 0)

    def test_tab_completes_commands(self):
        t = self.start("q.qcow2")
        t.send("len\t\r")
        t.expect(r"4 MiB\s+" + self.PROMPT)
        t.send("help remo\t\r")
        t.expect(r"remove_break tag -- ")
        t.send("\x04")
        self.assertEqual(t.end(), 0)

    def test_tab_completes_files_for_open(self):
        t = self.start()
        t.send("open -r oth\t\r")
        t.expect(r"er.qcow2[^>]*" + self.PROMPT)
        t.send("length\r")
        t.expect(r"4 MiB\s+" + self.PROMPT)
        t.send("alloc oth\t\r")  # a number is wanted there
        t.expect("'oth' is no size[^>]*" + self.PROMPT)
        t.send("\x04")
        self.assertEqual(t.end(), 1)

    def test_ctrl_d_quits_and_the_status_tells_of_failures(self):
        t = self.start("q.qcow2")
        t.send("\x04")
        self.assertEqual(t.end(), 0)
        t = self.start("q.qcow2")
        t.send("nonsense\r")
        t.expect("there is no command 'nonsense'[^>]*" + self.PROMPT)
        t.send("\x04")
        self.assertEqual(t.end(), 1)

    def test_history_is_kept_in_a_file(self):
        t = self.start("q.qcow2")
        t.send("alloc 0\r")
        t.expect("bytes allocated[^>]*" + self.PROMPT)
        t.send("\x04")
        self.assertEqual(t.end(), 0)
        with open(os.path.join(self.dir, ".firn-io_history"),
                  encoding="utf-8") as f:
            self.assertIn("alloc", f.read())
        t = self.start("q.qcow2")
        t.send("\x1b[A\r")
        t.expect("bytes allocated[^>]*" + self.PROMPT)
        t.send("\x04")
        self.assertEqual(t.end(), 0)


class PipeTest(Session):
    def test_no_terminal_codes_and_no_history_without_a_terminal(self):
        _, out, _ = self.run_io("q.qcow2", text="length\n",
                                env={**os.environ, "HOME": self.dir,
                                     "TERM": "xterm"})
        self.assertEqual(out, "firn-io> 4 MiB\nfirn-io> ")
        self.assertFalse(os.path.exists(os.path.join(self.dir,
                                                     ".firn-io_history")))

    def test_an_answer_comes_before_the_next_line_is_sent(self):
        with subprocess.Popen((FIRN_IO, "q.qcow2"), cwd=self.dir,
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as p:
            killer = threading.Timer(SECONDS, p.kill)
            killer.start()
            for _ in range(3):
                p.stdin.write(b"length\n")
                p.stdin.flush()
                self.assertEqual(p.stdout.readline(), b"firn-io> 4 MiB\n")
            p.stdin.close()
            self.assertEqual(p.wait(), 0)
            killer.cancel()

    @unittest.skipUnless(shutil.which(QEMU_IO), "no qemu-io")
    def test_errors_come_where_qemu_io_has_them(self):
        text = ("foo\nread 0 1\nread -x 0 1\nbar\nclose\nlength\nread\n"
                "open q.qcow2\nread 9M 1\nopen nothing\nlength\n")
        seen = []
        for program in (FIRN_IO, QEMU_IO):
            _, out, _ = self.run_io("q.qcow2", text=text, program=program,
                                    stderr=subprocess.STDOUT)
            out = re.sub(r"(firn|qemu)-io> ", "> ", out)
            out = re.sub(r"^((> )*)(read \[|read: |command |there is |no file|"
                         r"length: |read has |bad arg|(firn|qemu)-io: |"
                         r"read: no image).*$", r"\1E", out, flags=re.M)
            seen.append(out)
        self.assertEqual(*seen)
        self.assertEqual(seen[0].count("E\n"), 7)

    def test_what_was_printed_is_there_after_a_crash(self):
        for command, status in (("abort", -6), ("sigraise 9", -9)):
            got, out, _ = self.run_io("q.qcow2", text=f"length\n{command}\n")
            self.assertEqual((got, out), (status, "firn-io> 4 MiB\nfirn-io> "))

    def test_the_image_of_snapshot_mode_is_gone_after_a_crash(self):
        where = os.path.join(self.dir, "tmp")
        os.mkdir(where)
        status, out, errors = self.run_io(
            "-s", "-c", "write -q -P 7 0 1M", "-c", "reopen -r", "-c",
            "read -P 7 0 1M", "-c", "sigraise 9", "q.qcow2",
            env=dict(os.environ, TMPDIR=where))
        self.assertEqual((status, errors), (-9, ""))
        self.assertEqual(out, "read 1048576/1048576 bytes at offset 0\n"
                         "1 MiB, 1 ops; TIMES\n")
        self.assertEqual(os.listdir(where), [])

    def test_lines_may_be_long_but_not_endless(self):
        _, out, _ = self.run_io("q.qcow2",
                                text="length" + " " * 500000 + "\nlength\n")
        self.assertEqual(out, "firn-io> 4 MiB\n" * 2 + "firn-io> ")
        pieces = "1 " * 400000
        status, out, _ = self.run_io("q.qcow2", text=f"readv 0 {pieces}\n")
        self.assertEqual(status, 0)
        self.assertIn("read 400000/400000 bytes at offset 0", out)
        for end in ("\nlength\n", "\nlength", ""):
            status, out, errors = self.run_io(
                "q.qcow2", text="length" + " " * (3 << 20) + end)
            self.assertEqual(status, 1)
            self.assertIn("a line is longer than 1048576 bytes", errors)
            self.assertEqual(out.count("4 MiB"), int(end != ""))

    @unittest.skipUnless(shutil.which(QEMU_IO), "no qemu-io")
    def test_a_buffer_that_is_kept_has_what_each_write_wants(self):
        with open(os.path.join(self.dir, "text"), "wb") as f:
            f.write(b"\x11")
        writes = ["write", "write", "write -P 1", "write -P 2", "write -P 2",
                  "write", "read", "write", "write -s text", "write",
                  "write -P 1", "read -P 1 0 512\nwrite -P 1", "write -c",
                  "aio_write -P 3", "aio_write -P 4", "aio_write -P 4",
                  "aio_flush\naio_read",
                  "aio_flush\naio_write -P 4", "aio_flush\nwrite",
                  "write -P 5", "write -P 5", "write -P 5"]
        for options in ((), ("-m",), ("-m", "-t", "none")):
            text, expect, pattern = "write -z 0 4M\nwrite -P 1 0 512\n", [], 0
            for i, words in enumerate(writes):
                # Longer and shorter ones: what is filled differs.
                size = 65536 >> (i * 7 % 3 if "-c" not in words else 0)
                at = (i + 1) * 65536
                text += f"{words} {at} {size}\n"
                found = re.search("write.*-P ([0-9])$", words)
                pattern = (int(found[1]) if found else
                           0x11 if "text" in words else
                           0 if "read" in words else 0xcd)
                expect += ["-c", f"read -P {pattern} {at} {size}"]
            status, out, _ = self.run_io(*options, "q.qcow2",
                                         text=text + "aio_flush\n")
            self.assertEqual((status, out.count(" ops; ")), (0, 25))
            _, out, _ = self.run_io(*expect, "q.qcow2", program=QEMU_IO)
            self.assertEqual(out.count("read "), len(writes))
            self.assertNotIn("failed", out)

    def test_what_nothing_has_read_is_no_pattern(self):
        # null-co leaves the buffer as it is; 0xab is what qemu-io puts there.
        for pattern in (0, 0xab, 0x54, 0xcd, 0xff):
            for command in ("read", "readv", "aio_read"):
                _, out, _ = self.run_io(
                    "--image-opts", "driver=null-co,size=1M",
                    text=f"{command} -P {pattern} 0 4k\naio_flush\n")
                self.assertIn("Pattern verification failed", out)

    @unittest.skipUnless(shutil.which(QEMU_IO), "no qemu-io")
    def test_flags_are_found_anywhere_in_a_long_session(self):
        lines = ["write -P 9 0 1k", "write 0 1k -P 8 -q", "read -P 8 0 1k",
                 "read 0 -P 8 1k", "read -qP 8 0 1k", "read -q -- 0 1k",
                 "read 0 1k", "read -- 0 1k", "writev 0 -P 8 512 512",
                 "readv 0 512 -C 512", "read -x 0 1", "read -P 8 0 1k",
                 "read 0 1k", "aio_read 0 -q 512 512", "discard 0 1k -q",
                 "read -P 0 0 1k", "read 0 -P", "read 0 1k", "read -5 1",
                 "read -qP0 0 1k", "read -CqP9 0 1k", "read - 0 1k",
                 "read 0 1k --", "read 0 -- 1k", "read 0 -- -q 1k",
                 "truncate 4M -m off", "truncate -moff 4M"]
        # More than is read at a time, so that lines come to lie elsewhere.
        text = "\n".join(lines * 20 + ["read 0 -q 1k"] * 15000) + "\n"
        seen = []
        for program in (FIRN_IO, QEMU_IO):
            status, out, _ = self.run_io("q.qcow2", text=text,
                                         program=program)
            out = re.sub(r"(firn|qemu)-io> ", "> ", out)
            out = re.sub(r"^(> )?(readv? \[|readv? -|1024,).*$", r"\1E", out,
                         flags=re.M)
            self.assertEqual(status, 1)
            seen.append(re.sub(r"^(readv?).* -- .*$", r"\1", out, flags=re.M))
        self.assertTrue(seen[0] == seen[1])  # a diff of it takes minutes

    def test_a_dash_alone_is_no_flag(self):
        _, out, _ = self.run_commands("read 0 -")
        self.assertIn("'-' is no size", out)

    def test_output_of_any_length_is_whole(self):
        _, out, _ = self.run_io("q.qcow2", text="read -v 0 64k\nlength\n")
        self.assertEqual(out.count("\n"), 4096 + 3)
        self.assertTrue(out.endswith("4 MiB\nfirn-io> "))
        _, out, _ = self.run_commands("read -v 0 64k", "length")
        self.assertEqual(out.count("\n"), 4096 + 3)
        with open("/dev/full", "wb") as full:
            status = subprocess.run((FIRN_IO, "-c", "length", "q.qcow2"),
                                    cwd=self.dir, stdout=full, check=False,
                                    timeout=SECONDS).returncode
        self.assertEqual(status, 1)

    def test_any_bytes_are_lines(self):
        noise = bytes(range(256)) * 40
        done = subprocess.run((FIRN_IO, "q.qcow2"), cwd=self.dir, input=noise,
                              timeout=SECONDS, capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"there is no command", done.stderr)
        status, out, _ = self.run_io("q.qcow2", text="length\0 x\nlength")
        self.assertEqual((status, out.count("4 MiB")), (0, 2))

    def test_a_long_name_is_not_repeated_in_full(self):
        status, _, errors = self.run_io("q.qcow2", text="x" * (1 << 20))
        self.assertEqual(status, 1)
        self.assertLess(len(errors), 200)


class BreakTest(Session):
    """qemu-io waits for ever in each of these."""

    STOP = ("break write_aio A", "aio_write -P 7 0 64k", "wait_break A")

    def check_written(self):
        self.assertEqual(self.run_commands("read -P 7 0 64k")[0], 0)

    def test_what_is_stopped_goes_on_at_the_end(self):
        for last in ((), ("quit",), ("close",), ("reopen -r",),
                     ("close", "open other.qcow2", "length")):
            with self.subTest(last=last):
                status, out, _ = self.run_commands(*self.STOP, *last,
                                                   options=DEBUG)
                self.assertEqual(status, 0)
                self.assertIn("wrote 65536/65536 bytes at offset 0", out)
                self.check_written()

    def test_a_breakpoint_nobody_has_met_does_not_stop_the_end(self):
        commands = ("write -q 0 64k", "break l2_update A",
                    "break flush_to_disk B", "break write_aio C")
        status, _, errors = self.run_commands(*commands, options=DEBUG)
        self.assertEqual((status, errors), (0, ""))

    def test_aio_flush_does_not_wait_for_what_is_stopped(self):
        status, out, errors = self.run_commands(
            *self.STOP, "aio_flush", "resume A", "aio_flush", options=DEBUG)
        self.assertEqual(status, 1)
        self.assertIn("'resume A' first", errors)
        self.assertIn("wrote 65536/65536", out)

    def test_from_a_second_on_the_time_has_hours_and_minutes(self):
        report = (r"512 bytes, 1 ops; (\S+(?: sec)?) "
                  r"\([0-9.]+ bytes/sec and [0-9.]+ ops/sec\)")
        for program in (FIRN_IO, QEMU_IO):
            r = subprocess.run(
                (program, "-c", "break write_aio A", "-c", "aio_write 0 512",
                 "-c", "sleep 1150", "-c", "resume A", "-c", "aio_flush",
                 *DEBUG), cwd=self.dir, capture_output=True,
                text=True, timeout=SECONDS, check=True)
            time_told = re.search(report, r.stdout).group(1)
            self.assertRegex(time_told, r"^0:00:0[1-9]\.[0-9]{2}$", program)

    def test_wait_break_ends_when_nothing_can_stop_any_more(self):
        for options in (DEBUG, ("q.qcow2",)):
            status, _, errors = self.run_commands("wait_break A",
                                                  options=options)
            self.assertEqual(status, 1)
            self.assertIn("no request is running", errors)
        status, _, errors = self.run_commands(
            "break read_aio A", "aio_write -q 0 64k", "wait_break A",
            options=DEBUG)
        self.assertEqual(status, 1)

    def test_two_writes_end_in_the_order_of_resume(self):
        for pause in (100, 1000, 10000):  # for the disk, which may be busy
            commands = ("break write_aio A", "aio_write -P 1 0 64k",
                        "wait_break A", "break write_aio B",
                        "aio_write -P 2 1M 64k", "wait_break B", "resume B",
                        f"sleep {pause}", "resume A", "aio_flush")
            status, out, _ = self.run_commands(*commands, options=DEBUG)
            self.assertEqual(status, 0)
            if out.index("offset 1048576") < out.index("offset 0"):
                return
        self.fail(out)


class MultiwriteTest(Session):
    def test_all_ranges_are_written_with_patterns_of_their_own(self):
        status, out, _ = self.run_commands(
            "multiwrite -P 5 0 4k ; 1M 512 512 ; 3M 64k",
            "read -P 5 0 4k", "read -P 6 1M 1k", "read -P 7 3M 64k")
        self.assertEqual(status, 0)
        self.assertIn("wrote 70656/70656 bytes at offset 0", out)

    def test_writes_run_at_the_same_time(self):
        # One after the other they take four delays, on any machine; how much
        # longer than one they take together depends on what else it does.
        for delay in (0.3, 1, 5, 20):
            slow = ",".join(f"file.inject-error.{i}.{part}" for i in range(4)
                            for part in ("event=write_aio", "errno=0",
                                         f"delay-ns={int(delay * 1e9)}",
                                         "once=on"))
            begin = time.monotonic()
            status, _, errors = self.run_commands(
                "multiwrite -q 0 64k ; 1M 64k ; 2M 64k ; 3M 64k",
                options=(DEBUG[0], DEBUG[1] + "," + slow))
            taken = time.monotonic() - begin
            self.assertEqual((status, errors), (0, ""))
            self.assertGreater(taken, delay)
            if taken < 4 * delay:
                return
        self.fail(f"four writes took {taken} s, {delay} s each")

    def test_a_failure_is_told_and_the_others_are_done(self):
        status, out, errors = self.run_commands(
            "multiwrite -P 5 0 4k ; 8M 4k ; 1M 4k", "read -P 5 0 4k",
            "read -P 7 1M 4k")
        self.assertEqual(status, 1)
        self.assertIn("aio_multiwrite failed: Input/output error", out)
        self.assertIn("4096 bytes at offset 8388608 were not written", errors)
        self.assertIn("1 of 3 writes failed", errors)
        self.assertNotIn("verification failed", out)

    def test_mistakes_write_nothing(self):
        for line in ("multiwrite -P 5 0 4k ; 1M", "multiwrite 0 4k ; zz 1",
                     "multiwrite 0 4k ;", "multiwrite ; 0 4k",
                     "multiwrite 0 4k ; ; 1M 4k"):
            status, _, _ = self.run_commands(line)
            self.assertEqual(status, 1, line)
            self.assertEqual(self.run_commands("read -P 0 0 4M")[0], 0, line)


if __name__ == "__main__":
    unittest.main()
