# SPDX-License-Identifier: MIT
"""Starts firn-vmm and talks to its monitor over pipes.

Used by scripts/demo and bench/vmstate. Everything that firn-vmm prints is
read by one thread and kept, so that no pipe fills up and a reply can be
waited for with a limit.
"""

import os
import re
import subprocess
import threading
import time

GUEST = re.compile(r'guest: nonce (\S+) counter (\d+)')
PROMPT = '(firn) '


class VmmError(Exception):
    """firn-vmm refused a command, or ended."""


class FirnVmm:
    """One firn-vmm process; its guest is the native one."""

    def __init__(self, program, *args, env=None):
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        self.process = subprocess.Popen(
            [program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=dict(os.environ, **(env or {})))
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for raw in self.process.stdout:
            line = raw.decode('utf-8', 'replace').rstrip('\n')
            while line.startswith(PROMPT):
                line = line[len(PROMPT):]
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, wanted, start=0, timeout=120):
        """First line from number @start on for which wanted(line) is true.

        Returns (its number, the line). Raises VmmError when the process ends
        or the time is over.
        """
        deadline = time.monotonic() + timeout
        at = start
        with self.changed:
            while True:
                while at < len(self.lines):
                    if wanted(self.lines[at]):
                        return at, self.lines[at]
                    at += 1
                if self.ended or not self.changed.wait(
                        max(0, deadline - time.monotonic())):
                    why = 'ended' if self.ended else 'no answer'
                    raise VmmError('firn-vmm: %s; it last said: %s' % (
                        why, ' | '.join(self.lines[-5:])))

    def command(self, line, timeout=300):
        """Run a monitor command; returns its output lines before `ok`."""
        with self.changed:
            start = len(self.lines)
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()
        end, last = self.wait_for(
            lambda text: text == 'ok' or text.startswith('error: '), start,
            timeout)
        if last != 'ok':
            raise VmmError('%s: %s' % (line, last))
        return [text for text in self.lines[start:end]
                if not text.startswith('guest: ')]

    def wait_loaded(self, timeout=300):
        """Until --loadvm has done its work; a failure ends the process."""
        self.wait_for(lambda text: text.startswith('loadvm '), 0, timeout)

    def guest(self, start=0, timeout=120):
        """Next (line number, nonce, counter) that the guest reports."""
        at, line = self.wait_for(GUEST.search, start, timeout)
        nonce, counter = GUEST.search(line).groups()
        return at, nonce, int(counter)

    def status(self):
        """(nonce, counter) of the guest as it is now, by `info status`."""
        with self.changed:
            start = len(self.lines)
        self.command('info status')
        _, nonce, counter = self.guest(start, 1)
        return nonce, counter

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """SIGKILL, for this pid alone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()

    def quit(self):
        """Ask it to end; returns its exit status."""
        self.process.stdin.write(b'quit\n')
        self.process.stdin.flush()
        status = self.process.wait(60)
        self.reader.join()
        self.process.stdin.close()
        return status
