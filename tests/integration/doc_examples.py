# SPDX-License-Identifier: MIT
"""The examples of manual pages and of the README, run as they are shown.

A literal block holds command lines that begin with "$ " (a backslash at the
end continues one) and below each what it prints. A command must end with
status 0. Where output is shown it must be equal after mask(); a line "..."
stands for any number of lines. All examples of a document run in one
directory, from the top to the bottom.
"""

import os
import re
import shutil
import subprocess
import tempfile

from tool_help import PROGRAMS

TIMEOUT = 300

# What differs from run to run or from machine to machine.
MASKS = [(re.compile(pattern), name) for pattern, name in [
    (r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', 'DATE'),
    (r'\d\d:\d\d:\d\d(\.\d{3})?', 'CLOCK'),
    (r'disk size: \S+ \S+', 'disk size: SIZE'),
    (r'"((date|vm-clock)-n?sec|actual-size|vm-state-size|stream-bytes|seconds)"'
     r' ?: [\d.e-]+', r'"\1": N'),
    (r'\d+\.\d+ seconds', 'T seconds'),
    (r'[\d.]+ sec \([^)]*\)', 'T sec'),
    (r',\d:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+', ',T'),
    (r'\d+ bytes in [\d.]+ s, \d+ MB/s', 'N bytes in T s'),
    (r'[\d.]+ s, [\d.]+ ([KMGT]i)?B/s', 'T s'),
    (r'\b[0-9a-f]{64}\b', 'SHA256'),
    (r'nonce [0-9a-f]{16}', 'nonce N'),
    (r'\b(ram|disk) \d+ blocks ok', r'\1 N blocks ok'),
    # Of streams: the guest was somewhere else.
    (r'\d+ bytes( \([\d.]+ [KM]iB\) of machine| in 7 sections)', r'N bytes\1'),
    (r'\([\d.]+ [KM]iB\) of machine', '(SIZE) of machine'),
    (r'[\d.]+ [KM]iB DATE', 'SIZE DATE'),
    (r'^0x[0-9a-f]+ +\d+ ', 'AT N '),
    # What a shell says about a process that a signal ended.
    (r'^bash: line \d+: +\d+ (\w+) .*', r'\1'),
]]


class Example:
    """One command line, where it is, and what it prints (None: not shown)."""

    def __init__(self, line, command):
        self.line = line            # of the document, from 0
        self.command = command
        self.expected = None
        self.first = self.end = line    # lines of the output


def blocks(lines, fence):
    """(first, end) of the lines inside each block that FENCE opens."""
    start = None
    for i, line in enumerate(lines):
        if start is None and line == fence:
            start = i + 1
        elif start is not None and line == '```':
            yield start, i
            start = None


def examples(text, fence='```'):
    """The examples of a document, in its order."""
    lines = text.split('\n')
    found = []
    for start, end in blocks(lines, fence):
        i = start
        while i < end and lines[i].startswith('$ '):
            example = Example(i, lines[i][2:])
            while lines[i].endswith('\\'):
                i += 1
                example.command += '\n' + lines[i]
            i += 1
            first = i
            while i < end and not lines[i].startswith('$ '):
                i += 1
            example.first, example.end = first, i
            if i > first:
                example.expected = lines[first:i]
            found.append(example)
    return found


def mask(line):
    """A line of output without what may differ."""
    for pattern, name in MASKS:
        line = pattern.sub(name, line)
    return ' '.join(line.split())


def visible(output):
    """The lines of OUTPUT as a terminal leaves them: progress is overwritten."""
    for line in output.rstrip('\n').split('\n'):
        parts = [part for part in line.split('\r') if part.strip()]
        yield parts[-1].rstrip() if parts else ''


def equal(expected, lines):
    """Whether LINES are what is EXPECTED, "..." being anything."""
    if not expected:
        return not lines
    if expected[0] == '...':
        return any(equal(expected[1:], lines[i:])
                   for i in range(len(lines) + 1))
    return bool(lines) and mask(expected[0]) == mask(lines[0]) \
        and equal(expected[1:], lines[1:])


class Runner:
    """A directory in which examples run, with our programs first in PATH."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='firn-examples-')
        programs = os.path.join(self.dir, 'bin')
        self.scratch = os.path.join(self.dir, 'scratch')
        os.mkdir(programs)
        os.mkdir(self.scratch)
        for name, variable in PROGRAMS.items():
            os.symlink(os.path.abspath(os.environ[variable]),
                       os.path.join(programs, name))
        self.env = dict(os.environ, TZ='UTC', LC_ALL='C', TERM='dumb',
                        PATH=programs + ':' + os.environ['PATH'])

    def close(self):
        shutil.rmtree(self.dir)

    def run(self, command):
        """(exit status, output) of a command line."""
        done = subprocess.run(['bash', '-o', 'pipefail', '-c', command],
                              cwd=self.scratch, env=self.env,
                              stdin=subprocess.DEVNULL, timeout=TIMEOUT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        return done.returncode, done.stdout.decode('utf-8', 'replace')

    def complaint(self, example, name):
        """What is wrong with an example, or None."""
        status, output = self.run(example.command)
        where = '%s:%d: $ %s\n' % (name, example.line + 1, example.command)
        if status:
            return '%sends with status %d:\n%s' % (where, status, output)
        if example.expected is None or equal(example.expected,
                                             list(visible(output))):
            return None
        return '%sshould print\n%s\nand prints\n%s' % (
            where, '\n'.join(example.expected), output)


def complaints(path, fence='```'):
    """Run all examples of the document PATH; what is wrong, as sentences."""
    with open(path, encoding='utf-8') as file:
        text = file.read()
    runner = Runner()
    try:
        said = [runner.complaint(example, os.path.basename(path))
                for example in examples(text, fence)]
    finally:
        runner.close()
    return [one for one in said if one]


def update(path, fence='```'):
    """Put what the examples of PATH print today where other output is shown.

    For authors; a line "?" below a command asks for its output.
    """
    with open(path, encoding='utf-8') as file:
        text = file.read()
    lines = text.split('\n')
    runner = Runner()
    news = []
    for example in examples(text, fence):
        status, output = runner.run(example.command)
        if status:
            print('%s:%d: status %d\n%s' % (path, example.line + 1, status,
                                            output))
        elif example.expected is not None and not equal(
                example.expected, list(visible(output))):
            news.append((example.first, example.end, list(visible(output))))
    runner.close()
    for first, end, output in reversed(news):
        lines[first:end] = output
    with open(path, 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines))
