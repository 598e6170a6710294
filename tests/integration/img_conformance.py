# SPDX-License-Identifier: MIT
"""Runs a command line through a tool of QEMU's and through ours.

Each command line gets two directories with equal images, made once by
qemu-img and qemu-io. Afterwards standard output (after masking), exit status
and every image that the command line made or changed are compared: content,
info, map and check, all asked from qemu-img. And firn-img must say of the
images of both sides what qemu-img says of them.

Host offsets are left out where images of two makers are compared: where a
cluster goes depends on the order in which requests end, and a table that is
made earlier moves all behind it. What is compared of each extent is its place
and length, the depth of the layer it comes from, and whether it is present,
zero and data. Where both tools look at one image, offsets count.

Whether a file has a hole depends on when the file system wrote it out. So a
hole inside a cluster with data is data, and raw files are compared in steps of
64 KiB, without the first of them: qemu-img create puts a block there.
"""

import difflib
import filecmp
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile

import quick_kdf  # noqa: F401

QEMU_IMG = 'qemu-img'
BUILD = os.environ.get('FIRN_BUILD_DIR', 'build')
FIRN_IMG = os.environ.get('FIRN_IMG',
                          os.path.join(BUILD, 'tools', 'img', 'firn-img'))
TIMEOUT = 300
OURS = re.compile(r'\+(--?[a-z])')

# What is the same in both directories; qemu-img makes it.
FIXTURES = r"""
qemu-img create -q -f raw raw.img 4M
qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -P 2 1M 128k' raw.img
qemu-img create -q -f qcow2 empty.qcow2 4M
qemu-img create -q -f qcow2 a.qcow2 4M
qemu-io -c 'write -P 3 0 256k' -c 'write -z 1M 64k' -c 'write -P 4 2M 100k' a.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 4M
qemu-io -c 'write -P 5 512k 256k' v2.qcow2
qemu-img create -q -f qcow2 comp.qcow2 4M
qemu-io -c 'write -c -P 6 0 64k' -c 'write -P 7 64k 64k' comp.qcow2
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
qemu-io -c 'write -P 8 64k 64k' -c 'write -z 192k 64k' -c 'write -P 9 3M 64k' over.qcow2
qemu-img create -q -f qcow2 -b over.qcow2 -F qcow2 top.qcow2 5M
qemu-io -c 'write -P 10 128k 64k' -c 'write -P 11 4M 64k' top.qcow2
qemu-img create -q -f qcow2 -b raw.img -F raw overraw.qcow2
qemu-io -c 'write -P 12 64k 64k' overraw.qcow2
qemu-img create -q -f qcow2 snap.qcow2 4M
qemu-io -c 'write -P 13 0 128k' snap.qcow2
qemu-img snapshot -c first snap.qcow2
qemu-io -c 'write -P 14 64k 128k' snap.qcow2
qemu-img snapshot -c second snap.qcow2
qemu-io -c 'write -P 15 1M 64k' snap.qcow2
qemu-img create -q -f qcow2 bm.qcow2 4M
qemu-img bitmap --add bm.qcow2 b0
qemu-img bitmap --add --disable -g 4k bm.qcow2 b1
qemu-io -c 'write -P 16 64k 64k' bm.qcow2
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on data.qcow2 4M
qemu-io -c 'write -P 17 0 64k' data.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=32k ext.qcow2 4M
qemu-io -c 'write -P 18 1k 3k' -c 'write -z 64k 8k' ext.qcow2
qemu-img create -q -f qcow2 -o preallocation=metadata meta.qcow2 4M
qemu-img create -q -f qcow2 leak.qcow2 4M
qemu-io -c 'write -P 19 0 64k' leak.qcow2
damage leak.qcow2 131084 0001
damage leak.qcow2 458751 00
qemu-img create -q -f qcow2 bad.qcow2 4M
qemu-io -c 'write -P 20 0 128k' bad.qcow2
damage bad.qcow2 131082 0000
qemu-img create -q -f qcow2 same.qcow2 4M
qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 1M 128k' same.qcow2
qemu-img create -q -f qcow2 long.qcow2 6M
qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 1M 128k' long.qcow2
qemu-img create -q -f qcow2 --object secret,id=s,data=abc -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 luks.qcow2 4M
qemu-io --object secret,id=s,data=abc --image-opts -c 'write -P 21 0 64k' driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2
mkdir sub
qemu-img create -q -f qcow2 -b ../a.qcow2 -F qcow2 sub/over.qcow2
"""


def run(args, cwd):
    """(exit status, standard output, standard error) of @args."""
    env = dict(os.environ, TZ='UTC', LC_ALL='C')
    done = subprocess.run(args, cwd=cwd, env=env, timeout=TIMEOUT,
                          check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return (done.returncode, done.stdout.decode(errors='replace'),
            done.stderr.decode(errors='replace'))


def make_fixtures(where):
    os.makedirs(where)
    for line in FIXTURES.strip().splitlines():
        args = shlex.split(line)
        if args[0] == 'damage':
            with open(os.path.join(where, args[1]), 'r+b') as f:
                f.seek(int(args[2]))
                f.write(bytes.fromhex(args[3]))
            continue
        status, _, err = run(args, where)
        if status:
            raise RuntimeError('%s: %s' % (line, err))


MASKS = [
    (re.compile(r'disk size: .*'), 'disk size: -'),
    (re.compile(r'"actual-size": \d+'), '"actual-size": 0'),
    (re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d'), 'DATE'),
    (re.compile(r'"date-n?sec": \d+'), '"date": 0'),
    (re.compile(r'Run completed in [0-9.]+ seconds'), 'Run completed in T'),
    (re.compile(r'uuid"?: .*'), 'uuid: -'),
    (re.compile(r'("?(master.key.)?iters"?): \d+'), r'\1: 0'),
    # How often progress is shown in between depends on the engine.
    (re.compile(r'( +\([0-9.]+/100%\)\r)+'), '(progress)'),
]


def mask(text):
    for pattern, by in MASKS:
        text = pattern.sub(by, text)
    return text


def text_difference(one, two):
    return 'output:\n' + '\n'.join(difflib.unified_diff(
        one.splitlines(), two.splitlines(), 'qemu', 'firn', lineterm=''))


def files(where):
    """{name: (mtime, size)} of all below @where."""
    found = {}
    for base, _, names in os.walk(where):
        for name in names:
            path = os.path.join(base, name)
            st = os.stat(path)
            found[os.path.relpath(path, where)] = (st.st_mtime_ns, st.st_size)
    return found


def without(info, keys):
    return {k: v for k, v in info.items() if k not in keys}


class Description:
    """What qemu-img says about an image, without what may differ."""

    def __init__(self, where, name):
        self.where, self.name = where, name
        self.asked = {}
        self.encrypted = False
        self.parts = {'info': None, 'check': None, 'map': None}
        status, info = self.ask('info')
        if status:
            self.parts['info'] = status
            return
        self.format = info['format']
        self.parts['snapshots'] = [without(s, ('date-sec', 'date-nsec'))
                                   for s in info.get('snapshots', [])]
        info = without(info, ('actual-size', 'snapshots'))
        luks = info.get('format-specific', {}).get('data', {}).get('encrypt')
        for part in [luks, *luks['slots']] if luks and 'slots' in luks else []:
            for key in ('uuid', 'master-key-iters', 'iters'):
                part.pop(key, None)
        self.parts['info'] = info
        self.encrypted = info.get('encrypted')
        self.parts['length'] = (self.format == 'raw' and
                                os.stat(os.path.join(where, name)).st_size)
        if self.format == 'qcow2':
            status, found = self.ask('check')
            self.parts['check'] = [status] + [
                found.get(key, 0) for key in
                ('corruptions', 'leaks', 'allocated-clusters',
                 'compressed-clusters')]
        status, extents = self.ask('map')
        self.parts['map'] = merged(
            extents or [], False, self.format == 'raw')

    def ask(self, command):
        """(exit status, what is in its JSON, {} without any)."""
        status, text, _ = run(self.args(QEMU_IMG, command), self.where)
        self.asked[command] = (status, mask(text))
        try:
            return status, json.loads(text)
        except ValueError:
            return status, {}

    def args(self, program, command):
        return [program, command, '-U', '--output=json', self.name]

    def ours(self):
        """Where firn-img says something else about this image."""
        out = []
        if self.parts.get('length', 0) % 512:
            return out      # qemu-img rounds up, we tell the true length
        for command, (status, text) in self.asked.items():
            if command == 'check' and self.encrypted:
                continue    # qemu-img wants the key, firn-img does not
            found = run(self.args(FIRN_IMG, command), self.where)
            said = mask(found[1])
            if command == 'map' and status == 0 and said.startswith('['):
                text, said = [json.dumps(merged(json.loads(t), True))
                              for t in (text, said)]
            if (found[0], said) != (status, text):
                out.append('firn-img %s %s in %s: status %d, not %d (%s) %s' % (
                    command, self.name, os.path.basename(self.where), found[0],
                    status, found[2].strip(), text_difference(text, said)))
        return out


RAW_STEP = 65536


def merged(extents, offsets, raw=False):
    """The map: each extent [start, length, what it is], see above."""
    out = []
    for e in extents:
        start, end = e['start'], e['start'] + e['length']
        if raw and e['data']:
            start = start // RAW_STEP * RAW_STEP
            end = -(-end // RAW_STEP) * RAW_STEP
        zero = e['zero'] and not e['data']
        kind = [e['depth'], e['present'], zero, e['data']]
        if offsets and e['present'] and 'offset' in e:
            kind.append(e['offset'] - e['start'])
        if raw and (not e['data'] or end <= RAW_STEP):
            continue
        if out and out[-1][2] == kind and out[-1][1] >= start:
            out[-1][1] = end
        else:
            out.append([start, end, kind])
    return out


def content_differences(sides, name):
    paths = [os.path.join(s, name) for s in sides]
    compare = [QEMU_IMG, 'compare', '-U']
    status, text, err = run(compare + paths, sides[0])
    # An image that nobody can open has no content.
    if status and run(compare + [paths[0]] * 2, sides[0])[0] == 0:
        return ['%s: contents: %s %s' % (name, text, err)]
    return []


def image_differences(sides, name, strict=2):
    """
    How image @name differs in the two directories. @strict: 2 all, 1 contents
    and soundness, 0 soundness.
    """
    out = []
    paths = [os.path.join(s, name) for s in sides]
    if filecmp.cmp(*paths, shallow=False):
        return Description(sides[0], name).ours() if strict == 2 else out
    one, two = [Description(s, name) for s in sides]
    for key in one.parts if strict == 2 else ():
        if one.parts[key] != two.parts.get(key):
            out.append('%s: %s is %s, not %s' % (
                name, key, two.parts.get(key), one.parts[key]))
    if one.asked.get('check', [0])[0] != two.asked.get('check', [0])[0]:
        out.append('%s: check ends with %s, not %s' % (
            name, two.asked.get('check'), one.asked.get('check')))
    # Reading comes last: a page that was read is no hole any more.
    if strict == 2:
        out += one.ours() + two.ours()
    return out + (content_differences(sides, name) if strict else [])


class Side:
    """
    A command line that was run by one tool in its own directory. An option
    behind a "+" is for ours only.
    """

    def __init__(self, path, program, line):
        self.path = path
        self.before = files(path)
        self.out, self.err, self.statuses = '', '', []
        for part in line.split(' ; '):
            args = shlex.split(part)
            if args[0] in ('qemu-io', 'qemu-img'):
                run(args, path)
                continue
            if program == QEMU_IMG:
                args = [word for word in args if not OURS.match(word)]
            args = [OURS.sub(r'\1', word) for word in args]
            status, out, err = run([program] + args, path)
            self.out += mask(out)
            self.statuses.append(status)
            self.err += err
        self.after = files(path)

    def changed(self, name):
        return self.after[name] != self.before.get(name)


class Pair:
    """Runs command lines, each in two directories; thread-safe."""

    def __init__(self, where):
        self.where = where
        self.fixtures = os.path.join(where, 'fixtures')
        make_fixtures(self.fixtures)
        names = sorted(files(self.fixtures))
        self.needs = {name: self.chain(name) for name in names}

    def chain(self, name):
        """@name and the files it does not work without."""
        status, text, err = run([QEMU_IMG, 'info', '--backing-chain',
                                 '--output=json', name], self.fixtures)
        if status:
            raise RuntimeError(err)
        found = set()
        for layer in json.loads(text):
            spec = layer.get('format-specific', {}).get('data', {})
            found |= {os.path.normpath(layer['filename']),
                      spec.get('data-file', name)}
        return found

    def side(self, where, name, program, line):
        path = os.path.join(where, name)
        os.makedirs(os.path.join(path, 'sub'))
        wanted = set()
        for fixture, needs in self.needs.items():
            if os.path.basename(fixture) in line:
                wanted |= needs
        if wanted:
            subprocess.run(['cp', '-a', '--sparse=auto', '--parents',
                            *sorted(wanted), path], check=True,
                           cwd=self.fixtures)
        return Side(path, program, line)

    def compare(self, line):
        """
        (differences, would a tool that does nothing differ). In a line that
        starts with "! " output and structure differ on purpose
        (docs/compatibility.md): exit status and contents are compared. With
        "!! " the contents differ, too. Where it starts with "~ " the output is
        a text of each tool's own.
        """
        kind, line = re.match(r'(~|!!?|) ?(.*)', line).groups()
        with tempfile.TemporaryDirectory(dir=self.where) as where:
            one = self.side(where, 'qemu', QEMU_IMG, line)
            two = self.side(where, 'firn', FIRN_IMG, line)
            if kind == '~':
                one.out, two.out = bool(one.out), bool(two.out)
            found = self.differences(one, two, 2 - len(kind.strip('~')))
            # "true" in place of firn-img: no output, status 0, no file touched.
            seen = (one.out or any(one.statuses) or
                    any(one.changed(name) for name in one.after))
        return found, bool(seen)

    @staticmethod
    def differences(one, two, strict):
        """@strict: 2 all, 1 no output and structure, 0 no contents either."""
        out = []
        if one.statuses != two.statuses:
            out.append('exit status %s, not %s (%s)' % (
                two.statuses, one.statuses, two.err.strip()))
        if strict == 2 and one.out != two.out:
            out.append('%s\n(%s)' % (text_difference(str(one.out),
                                                    str(two.out)),
                                     two.err.strip()))
        # What fails may leave less behind, and nothing counts but what was
        # there before.
        failed = any(one.statuses)
        names = set(one.after)
        if failed:
            names &= set(one.before)
        if not names <= set(two.after) <= set(one.after):
            return out + ['files %s, not %s' % (sorted(two.after),
                                                sorted(one.after))]
        for name in sorted(names):
            if one.changed(name) or two.changed(name):
                out += image_differences((one.path, two.path), name, strict)
        return out
