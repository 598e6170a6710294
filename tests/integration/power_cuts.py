# SPDX-License-Identifier: MIT
"""What a power cut may leave of the files of a command.

A command is run once, with record-calls.so below it, which keeps each write,
truncation and flush of each file in order. For a cut behind any of them, what
was flushed is there, and of what was not, file by file: all, nothing, any part
of it, with one write torn in sectors. So the order between two files is
tested: what one says of the other may come to the disk before the other does.
"""

import hashlib
import os
import subprocess

SECTOR = 512


class Entry:
    """One call that was recorded."""

    def __init__(self, what, name, offset, length, data):
        self.what = what
        self.name = name
        self.offset = offset
        self.length = length
        self.data = data

    def apply(self, content, sectors=None):
        """To a bytearray; of a write only these sectors, by number."""
        if self.what == 'truncate':
            grow = self.offset - len(content)
            content.extend(bytes(max(0, grow)))
            del content[self.offset:]
            return
        end = self.offset + self.length
        if self.what == 'hole':
            end = min(end, len(content))
        data = self.data if self.what == 'write' else \
            bytes(max(0, end - self.offset))
        content.extend(bytes(max(0, end - len(content))))
        if sectors is None:
            content[self.offset:end] = data
            return
        for n in sectors:
            at = n * SECTOR
            part = data[at:at + SECTOR]
            content[self.offset + at:self.offset + at + len(part)] = part


def read_log(path):
    """What record-calls.so wrote."""
    entries = []
    with open(path, 'rb') as f:
        while line := f.readline().decode():
            what, name, offset, length = line.split()
            data = b''
            if what == 'write':
                data = f.read(int(length))
                f.readline()
            entries.append(Entry(what, name, int(offset), int(length), data))
    return entries


def record(argv, where, module, path, fail_at=0):
    """Run it there, one call failing; its status and what it did."""
    env = dict(os.environ, FIRN_AIO='threads', LD_PRELOAD=module,
               FIRN_RECORD=path, FIRN_FAIL_AT=str(fail_at))
    if os.path.exists(path):
        os.unlink(path)
    done = subprocess.run(argv, cwd=where, env=env, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    entries = read_log(path) if os.path.exists(path) else []
    return done, entries


class Files:
    """The files at a cut: what is durable, and the rest in order."""

    def __init__(self, contents):
        self.durable = {n: bytearray(c) for n, c in contents.items()}
        self.pending = {n: [] for n in contents}

    def step(self, entry):
        """Behind this entry."""
        self.durable.setdefault(entry.name, bytearray())
        waiting = self.pending.setdefault(entry.name, [])
        if entry.what == 'fail':
            return
        if entry.what == 'lost':
            waiting.clear()
            return
        if entry.what != 'flush':
            waiting.append(entry)
            return
        for e in waiting:
            e.apply(self.durable[entry.name])
        waiting.clear()

    def choose(self, rng, name, mode):
        """Its content."""
        content = bytearray(self.durable[name])
        waiting = self.pending[name]
        torn = rng.randrange(len(waiting)) if waiting else None
        for i, e in enumerate(waiting):
            if mode == 'all':
                e.apply(content)
            elif mode == 'any' and i == torn and e.what == 'write':
                e.apply(content, [n for n in range(
                    (e.length + SECTOR - 1) // SECTOR) if rng.random() < 0.5])
            elif mode == 'any' and rng.random() < 0.5:
                e.apply(content)
        return bytes(content)

    def states(self, rng):
        """(what it is, {name: content}) of some crashes at this cut."""
        names = sorted(self.durable)
        modes = [dict.fromkeys(names, m) for m in ('all', 'none', 'any')]
        for name in names:
            if self.pending[name] and len(names) > 1:
                modes.append({n: 'none' if n == name else 'all'
                              for n in names})
                modes.append({n: 'all' if n == name else 'none'
                              for n in names})
        for mode in modes:
            yield ' '.join('%s:%s' % kv for kv in sorted(mode.items())), \
                {n: self.choose(rng, n, mode[n]) for n in names}


def crashes(contents, entries, rng):
    """(number of the cut, what it is, contents), each content once. The last
    cut is behind the end; there what was not flushed is lost."""
    files = Files(contents)
    seen = set()
    for k in range(len(entries) + 1):
        if k:
            files.step(entries[k - 1])
        for what, state in files.states(rng):
            key = hashlib.sha1(b''.join(
                n.encode() + hashlib.sha1(c).digest()
                for n, c in sorted(state.items()))).digest()
            if key not in seen:
                seen.add(key)
                yield k, what, state


def at_exit(contents, entries):
    """What is durable when the command has ended."""
    files = Files(contents)
    for e in entries:
        files.step(e)
    return {n: bytes(c) for n, c in files.durable.items()}
