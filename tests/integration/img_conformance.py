# SPDX-License-Identifier: MIT
"""Runs a command line through a tool of QEMU's and through ours.

Each command line gets two directories with equal images, made once by
qemu-img and qemu-io. Afterwards standard output (after masking), exit status
and every image that the command line made or changed are compared: content,
info, map and check, all asked from qemu-img.
"""

import json
import os
import re
import shutil
import subprocess

QEMU_IMG = 'qemu-img'
BUILD = os.environ.get('FIRN_BUILD_DIR', 'build')
FIRN_IMG = os.environ.get('FIRN_IMG',
                          os.path.join(BUILD, 'tools', 'img', 'firn-img'))
TIMEOUT = 60

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
qemu-img create -q -f qcow2 bad.qcow2 4M
qemu-io -c 'write -P 20 0 128k' bad.qcow2
damage bad.qcow2 131082 0000
qemu-img create -q -f qcow2 same.qcow2 4M
qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 1M 128k' same.qcow2
qemu-img create -q -f qcow2 long.qcow2 6M
qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 1M 128k' long.qcow2
mkdir sub
qemu-img create -q -f qcow2 -b ../a.qcow2 -F qcow2 sub/over.qcow2
"""


def run(args, cwd, tool=None):
    """(exit status, standard output, standard error) of @args."""
    env = dict(os.environ, TZ='UTC', LC_ALL='C')
    done = subprocess.run(args, cwd=cwd, env=env, timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    return (done.returncode, done.stdout.decode(errors='replace'),
            done.stderr.decode(errors='replace'))


def words(line):
    import shlex
    return shlex.split(line)


def make_fixtures(where):
    os.makedirs(where)
    for line in FIXTURES.strip().splitlines():
        args = words(line)
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


def files(where):
    found = {}
    for base, _, names in os.walk(where):
        for name in names:
            path = os.path.join(base, name)
            st = os.stat(path)
            found[os.path.relpath(path, where)] = (st.st_mtime_ns, st.st_size)
    return found


def without(info, keys):
    return {k: v for k, v in info.items() if k not in keys}


def describe(where, name):
    """What qemu-img says about an image, without what may differ."""
    out = {}
    status, text, _ = run([QEMU_IMG, 'info', '--output=json', name], where)
    if status:
        return {'info': status}
    info = json.loads(text)
    out['info'] = without(info, ('actual-size', 'snapshots'))
    spec = out['info'].get('format-specific', {}).get('data', {})
    spec.pop('encrypt', None)
    out['snapshots'] = [without(s, ('date-sec', 'date-nsec'))
                        for s in info.get('snapshots', [])]
    if info['format'] != 'qcow2':
        return out
    status, text, _ = run([QEMU_IMG, 'check', '--output=json', name], where)
    found = json.loads(text) if text.startswith('{') else {}
    out['check'] = [status, found.get('corruptions', 0),
                    found.get('leaks', 0), found.get('allocated-clusters'),
                    found.get('compressed-clusters')]
    status, text, _ = run([QEMU_IMG, 'map', '--output=json', name], where)
    extents = json.loads(text) if status == 0 else []
    out['map'] = merged(extents)
    return out


def merged(extents):
    """The map without host offsets, which are free to differ."""
    out = []
    for e in extents:
        # A hole of the file inside a cluster with data comes and goes.
        zero = e['zero'] and not e['data']
        kind = (e['depth'], e['present'], zero, e['data'])
        if out and out[-1][2] == kind:
            out[-1][1] += e['length']
        else:
            out.append([e['start'], e['length'], kind])
    return out


class Pair:
    """One command line in two directories."""

    def __init__(self, fixtures, where):
        self.fixtures = fixtures
        self.where = where

    def side(self, name):
        path = os.path.join(self.where, name, 'd')
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
        os.makedirs(os.path.dirname(path))
        subprocess.run(['cp', '-a', '--sparse=auto', self.fixtures, path],
                       check=True)
        return path

    def compare(self, line):
        """
        A list of differences, empty when the two agree. A line that starts
        with "! " differs on purpose (docs/compatibility.md): only exit
        statuses are compared.
        """
        wanted = line.startswith('! ')
        line = line[2:] if wanted else line
        sides, results, before = [], [], []
        for name, program in (('qemu', QEMU_IMG), ('firn', FIRN_IMG)):
            path = self.side(name)
            before.append(files(path))
            text, statuses, errors = '', [], ''
            for part in line.split(' ; '):
                args = words(part)
                if args[0] == 'qemu-io' or args[0] == 'qemu-img':
                    run(args, path)
                    continue
                status, out, err = run([program] + args, path)
                text += mask(out)
                statuses.append(status)
                errors += err
            sides.append(path)
            results.append((statuses, text, errors))
        if wanted:
            return [] if results[0][0] == results[1][0] else [
                'exit status %s, not %s (%s)' % (
                    results[1][0], results[0][0], results[1][2].strip())]
        return self.differences(sides, results, before)

    def differences(self, sides, results, before):
        out = []
        if results[0][0] != results[1][0]:
            out.append('exit status %s, not %s (%s)' % (
                results[1][0], results[0][0], results[1][2].strip()))
        if results[0][1] != results[1][1]:
            out.append('output\n%s\nnot\n%s\n(%s)' % (
                results[1][1], results[0][1], results[1][2].strip()))
        if any(results[0][0]):
            return out
        after = [files(s) for s in sides]
        if after[0].keys() != after[1].keys():
            out.append('files %s, not %s' % (sorted(after[1]),
                                             sorted(after[0])))
            return out
        for name in after[0]:
            if all(after[i][name] == before[i].get(name) for i in (0, 1)):
                continue
            out += self.image_differences(sides, name)
        return out

    @staticmethod
    def image_differences(sides, name):
        out = []
        a, b = [describe(s, name) for s in sides]
        for key in a:
            if a[key] != b.get(key):
                out.append('%s: %s is %s, not %s' % (name, key, b.get(key),
                                                     a[key]))
        paths = [os.path.join(s, name) for s in sides]
        compare = [QEMU_IMG, 'compare', '-U']
        status, text, err = run(compare + paths, sides[0])
        # An image that nobody can open has no content.
        if status and run(compare + [paths[0]] * 2, sides[0])[0] == 0:
            out.append('%s: contents: %s %s' % (name, text, err))
        return out
