#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Random operations on random backing chains, by firn-img and by qemu-img.

From a seed come some images, most of them in chains, and a sequence of
operations (chain_ops.py): writes, rebase, commit, convert, resize, snapshots,
amend, bitmaps. Each is done twice, by firn's tools and by QEMU's, on equal
copies of all images. All images were found clean before it, so what is wrong
afterwards is of this operation and of this tool.

After each operation, for every image that could have changed: both checks find
no error and no leak in what firn left, and count alike; both tools read the
same from it, the disk and its internal snapshots; that is what the operation
has to make of the disk, or, where no rule says that, what QEMU makes of it.
`info` of both copies agrees on what matters. Where firn fails, QEMU fails too
and the disks read as before. What QEMU gets wrong is counted and printed, and
firn's result is taken. Otherwise either tool's result is what it goes on with.

With --stop, firn's command is first ended by SIGTERM or SIGKILL at a random
request or moment, on a third copy: no errors then, after SIGTERM no leaks
either; disks read as before, but for those that the command is to change; and
given again after a repair, it makes what it has to make.

    chain_fuzz.py --seed 17             one seed
    chain_fuzz.py --seconds 3600        as many as fit
    FIRN_CHAIN_VERBOSE=1                prints the command lines
    FIRN_CHAIN_KEEP=DIR                 copies of what was found are kept there
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import chain_ops
import quick_kdf  # noqa: F401
from chain_ops import ALLOW_DATA_FILE, Image, Images

BUILD = os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build'))
FIRN = {'img': os.environ.get('FIRN_IMG', BUILD + '/tools/img/firn-img'),
        'io': os.environ.get('FIRN_IO', BUILD + '/tools/io/firn-io')}
QEMU = {'img': 'qemu-img', 'io': 'qemu-io'}
SIGNAL_AT = os.environ.get('FIRN_SIGNAL_AT_MODULE',
                           BUILD + '/tests/support/signal-at.so')
VERBOSE = 'FIRN_CHAIN_VERBOSE' in os.environ
STEPS = 24
SECONDS = 300   # a hang takes longer than the slowest machine does


class Finding(Exception):
    """Something is wrong with what firn did."""


def run(tools, argv, where):
    """A process that was killed may hold its locks for a moment longer."""
    program = [tools[argv[0]]] if argv[0] in tools else []
    if tools is QEMU:
        argv = [re.sub(r',[a-z.]*' + ALLOW_DATA_FILE, '', w) for w in argv]
    for _ in range(600):
        done = subprocess.run(program + argv[1:], cwd=where,
                              timeout=60 if tools is QEMU else SECONDS,
                              stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if not done.returncode or not re.search(rb'" lock|uses it',
                                                done.stderr):
            break
        time.sleep(0.1)
    return done


def run_all(tools, commands, where):
    """'' or what the first one that failed said."""
    for argv in commands:
        try:
            done = run(tools, argv, where)
        except subprocess.TimeoutExpired:
            if tools is FIRN:
                raise
            return 'hangs'  # amend -o refcount_bits= in QEMU 7.2
        said = done.stderr.decode('utf-8', 'replace')
        if done.returncode < 0:
            raise Finding('%s died: %d: %s' % (argv, done.returncode, said))
        if argv[0] == 'io':
            said += '\n'.join(line for line in done.stdout.decode()
                              .splitlines() if 'failed' in line)
            if said:
                return said
        if done.returncode:
            return said or 'exit status %d' % done.returncode
    return ''


def read_images(where, known=None):
    """What qemu-img says of each image there; `known` were read before."""
    images = Images()
    for name in sorted(os.listdir(where)):
        if re.fullmatch('i[0-9]+', name):
            state = file_state(os.path.join(where, name))
            if known and name in known and known[name].state == state:
                images[name] = known[name]
                continue
            fmt = 'raw'
            with open(os.path.join(where, name), 'rb') as f:
                if f.read(4) == b'QFI\xfb':
                    fmt = 'qcow2'
            done = run(QEMU, ['img', 'info', '--output=json', '-f', fmt,
                              name], where)
            if done.returncode:
                raise Finding('info: %s' % done.stderr.decode())
            images[name] = Image(name, json.loads(done.stdout), state)
    return images


def file_state(path):
    st = os.stat(path)
    return st.st_size, st.st_mtime_ns


def state_of(where, images, name):
    """Changes when its disk could have changed."""
    return tuple((f,) + file_state(os.path.join(where, f))
                 for f in images.files(name)
                 if os.path.exists(os.path.join(where, f)))


def read_file(where, name):
    with open(os.path.join(where, name), 'rb') as f:
        return f.read()


def read_disk(tools, where, images, name, snapshot=None):
    """Its bytes; zeroes up to a whole sector, which raw files lack."""
    if not images[name].qcow2:
        data = read_file(where, name)
        return data + bytes(-len(data) % 512)
    argv = ['img', 'convert', '-O', 'raw'] + images.spec(name) + ['out']
    if snapshot is not None:
        argv[2:2] = ['-l', 'snapshot.name=' + snapshot]
    done = run(tools, argv, where)
    if done.returncode:
        raise Finding('%s: %s' % (argv, done.stderr.decode()))
    data = read_file(where, 'out')
    os.unlink(os.path.join(where, 'out'))
    return data


def check(tools, where, images, name):
    argv = ['img', 'check', '--output=json'] + images.spec(name)
    done = run(tools, argv, where)
    if done.returncode not in (0, 2, 3):
        raise Finding('%s (%d): %s' % (argv, done.returncode,
                                       done.stderr.decode()))
    report = json.loads(done.stdout)
    return {key: report.get(key, 0) for key in (
        'corruptions', 'leaks', 'check-errors', 'total-clusters',
        'allocated-clusters', 'compressed-clusters', 'image-end-offset')}


def difference(a, b):
    if len(a) != len(b):
        return '%d bytes, not %d' % (len(a), len(b))
    at = next(i for i in range(len(a)) if a[i] != b[i])
    n = sum(x != y for x, y in zip(a, b))
    return '%d bytes differ, the first at %d: %d, not %d' % (
        n, at, a[at], b[at])


class Run:
    """One seed."""

    def __init__(self, seed, stop, where, faults, counts):
        self.rng = random.Random('%d %s' % (seed, stop))
        self.stop = stop
        self.faults = faults        # of QEMU, counted
        self.counts = counts        # of operations
        self.where = where
        self.dirs = {d: os.path.join(where, d) for d in (
            'now', 'before', 'qemu', 'stopped')}
        self.images = Images()
        self.views = {}
        self.snapshots = {}         # (image, snapshot): bytes
        self.said = []
        os.makedirs(self.dirs['now'])
        self.pattern = random.Random(seed).randbytes(200 * 1024 + 77)
        with open(os.path.join(self.dirs['now'], chain_ops.PATTERN_FILE),
                  'wb') as f:
            f.write(self.pattern)

    def tell(self, text):
        self.said.append(text)
        if VERBOSE:
            print(text, flush=True)

    def count(self, op, failed):
        self.counts[op.kind, 'refused' if failed else 'done'] += 1

    def fault(self, op, what):
        self.tell('    QEMU: ' + what)
        self.faults['%s: %s' % (op.kind, re.sub(r'[0-9]+', 'N',
                                                what))[:150]] += 1

    # ---- steps ----

    def run(self, end):
        below = None
        for i in range(self.rng.randrange(2, 5)):
            name = 'i%d' % i
            self.step(chain_ops.create(self.rng, self.images, self.views,
                                       name, below))
            below = name if self.rng.random() < 0.8 and \
                self.images.may_be_below(name) else None
        for name in list(self.images):
            self.step(chain_ops.fill(self.rng, self.images, self.views,
                                     self.pattern, name))
        for _ in range(STEPS):
            if time.monotonic() > end:
                return
            self.step(chain_ops.choose(self.rng, self.images, self.views,
                                       self.pattern))

    def step(self, op):
        if op is None:
            return
        for argv in op.commands:
            self.tell('  ' + ' '.join("'%s'" % w if ' ' in w or not w else w
                                      for w in argv))
        if op.removed:
            self.remove(op)
            return
        self.copy('now', 'before')
        self.copy('now', 'qemu')
        if op.shows:
            op.views[op.shows[0]] = self.snapshots[op.shows[1:]]
        if self.stop and op.kind != 'create' and self.rng.random() < 0.6:
            self.interrupt(op)
        failed = {'now': run_all(FIRN, op.commands, self.dirs['now']),
                  'qemu': run_all(QEMU, op.commands, self.dirs['qemu'])}
        self.count(op, failed['now'])
        self.judge(op, failed)

    def copy(self, source, target):
        """Files that have the same size and time are the same."""
        source, target = self.dirs[source], self.dirs[target]
        os.makedirs(target, exist_ok=True)
        wanted = os.listdir(source)
        for f in set(os.listdir(target)) - set(wanted):
            os.unlink(os.path.join(target, f))
        for f in wanted:
            a, b = os.path.join(source, f), os.path.join(target, f)
            if not os.path.exists(b) or file_state(a) != file_state(b):
                shutil.copy2(a, b)

    def remove(self, op):
        for name in op.removed:
            for f in (name, self.images[name].data_file):
                if f:
                    os.unlink(os.path.join(self.dirs['now'], f))
            self.forget(name)
        self.images = read_images(self.dirs['now'], self.images)

    def forget(self, name):
        del self.views[name]
        for key in [k for k in self.snapshots if k[0] == name]:
            del self.snapshots[key]

    # ---- judgement ----

    def judge(self, op, failed):
        for who, said in failed.items():
            if said:
                self.tell('    %s failed: %s' % (who, said.strip()))
        # firn has a compressed write go to clusters that are free, whatever the
        # data; QEMU stores what does not get smaller over others, too.
        over = op.kind == 'convert -n' and '-c' in op.commands[-1]
        if failed['now'] and not failed['qemu'] and not over:
            raise Finding('%s: firn refused what QEMU does: %s' % (
                op.kind, failed['now']))
        if failed['qemu'] and not failed['now']:
            self.fault(op, 'refused: ' + failed['qemu'].splitlines()[-1])
        if failed['now']:
            self.undo(op)
            return
        before = self.images
        self.images = read_images(self.dirs['now'], before)
        alone = bool(failed['qemu'])
        other = None if alone else read_images(self.dirs['qemu'],
                                                 before)
        if other:
            self.compare_infos(op, other)
        good = not alone and self.compare_all(op, before, other)
        if alone:
            self.compare_all(op, before, None)
        # What QEMU 7.2 cuts off inside a cluster shows when it grows again.
        if good and op.kind != 'resize' and self.rng.random() < 0.35:
            self.tell('  (with what QEMU made)')
            self.copy('qemu', 'now')
            self.images = other

    def undo(self, op):
        """It failed: disks read as before, what is new is not looked at."""
        now = self.dirs['now']
        images = read_images(now, self.images)
        for name in self.images:
            changed = state_of(now, images, name) != state_of(
                self.dirs['before'], self.images, name)
            if changed and op.kind not in ('write',):
                self.check_image(op, name, images)
                view = read_disk(QEMU, now, images, name)
                if view != self.views[name] and \
                        name not in op.half_done:
                    raise Finding('%s failed and changed %s: %s' % (
                        op.kind, name, difference(view, self.views[name])))
        self.copy('before', 'now')

    def compare_infos(self, op, other):
        """What firn made of the images is what QEMU made of them."""
        for name, image in self.images.items():
            if name not in other:
                raise Finding('%s: %s is not there with QEMU' % (op.kind,
                                                                 name))
            for key in ('format', 'sectors', 'backing', 'encrypted', 'version',
                        'cluster', 'refcount_bits', 'data_file', 'dirty',
                        'data_file_raw', 'subclusters', 'snapshots',
                        'bitmaps'):
                a, b = getattr(image, key), getattr(other[name], key)
                if key == 'bitmaps' and op.was_killed:
                    continue    # they are in use for ever
                if key == 'sectors' and op.shows and name == op.shows[0]:
                    continue    # QEMU: as long as the disk is now
                if a != b:
                    raise Finding('%s: %s: %s is %r, with QEMU %r' % (
                        op.kind, name, key, a, b))

    def compare_all(self, op, before, other):
        """Every image. Was QEMU right, too?"""
        good = other is not None
        views, snapshots = {}, {}
        # First those that have a rule: they tell whether QEMU was right.
        for name in sorted(self.images, key=lambda n: n in op.loose):
            image = self.images[name]
            if name in before and self.unchanged(name, before, other):
                views[name] = self.views[name]
                for s in image.snapshots:
                    snapshots[name, s] = self.snapshots[name, s]
                continue
            good &= self.check_both(op, name, before, other)
            trusted = other if good else None
            good &= self.compare_disk(op, name, trusted, views)
            for s in image.snapshots:
                good &= self.compare_snapshot(op, name, s, trusted, snapshots)
        self.views, self.snapshots = views, snapshots
        return good

    def check_both(self, op, name, before, other):
        """Unless its files are what they were."""
        image = self.images[name]
        if name not in before or image.state != before[name].state:
            self.check_image(op, name, self.images)
        if other and (name not in before or
                      other[name].state != before[name].state):
            return self.check_qemu(op, name, other)
        return other is not None

    def unchanged(self, name, before, other):
        was = state_of(self.dirs['before'], before, name)
        return was == state_of(self.dirs['now'], self.images, name) and (
            other is None or
            was == state_of(self.dirs['qemu'], other, name))

    def check_image(self, op, name, images, leaks=False, where='now'):
        """Both find nothing, and count alike."""
        if not images[name].qcow2:
            return
        mine = check(FIRN, self.dirs[where], images, name)
        peer = check(QEMU, self.dirs[where], images, name)
        for report in (mine, peer):
            if report['corruptions'] or report['check-errors'] or \
                    report['leaks'] and not leaks:
                raise Finding('%s: %s is not clean: firn %r, qemu-img %r' % (
                    op.kind, name, mine, peer))
        if mine != peer:
            raise Finding('%s: %s: firn-img check counts %r, qemu-img %r' % (
                op.kind, name, mine, peer))

    def check_qemu(self, op, name, other):
        if other is None or not other[name].qcow2:
            return other is not None
        report = check(FIRN, self.dirs['qemu'], other, name)
        bad = {k: v for k, v in report.items() if v and
               k in ('corruptions', 'leaks', 'check-errors')}
        if bad:
            self.fault(op, 'check finds %r' % bad)
        return not bad

    def read_peer(self, name, other, found, snapshot=None):
        """What QEMU made of it. Read by firn, whose reading has just been
        found right; but before anything is made of a difference, by QEMU."""
        if other is None:
            return None
        where = self.dirs['qemu']
        files = self.images.files(name)
        if files == other.files(name) and all(
                read_file(where, f) == read_file(self.dirs['now'], f)
                for f in files):
            return found
        peer = read_disk(FIRN, where, other, name, snapshot)
        if peer != found and snapshot is None:
            again = read_disk(QEMU, where, other, name)
            if again != peer:
                raise Finding('%s, written by QEMU: firn reads it otherwise: '
                              '%s' % (name, difference(peer, again)))
        return peer

    def compare_disk(self, op, name, other, views):
        found = self.read_both(op, name, None)
        peer = self.read_peer(name, other, found)
        expected = op.views.get(name, self.views.get(name))
        if name in op.loose:
            expected = peer
        if expected is not None:
            expected += bytes(-len(expected) % 512)
            expected = self.settle(op, name, expected, found)
            if found != expected:
                raise Finding('%s: %s is wrong: %s%s' % (
                    op.kind, name, difference(found, expected),
                    '; QEMU alike' if found == peer else ''))
        views[name] = found
        if peer is None:
            return False
        if found != peer and name not in op.doubtful:
            self.fault(op, 'wrong: %s' % difference(peer, found))
        return found == peer

    def settle(self, op, name, expected, found):
        """What was discarded reads as before or as zeroes."""
        if name not in op.doubtful or len(found) != len(expected):
            return expected
        expected = bytearray(expected)
        for start, end in op.doubtful[name]:
            old = self.views[name][start:end]
            for i in range(start, min(end, len(found), start + len(old))):
                if found[i] in (0, old[i - start]):
                    expected[i] = found[i]
        return bytes(expected)

    def compare_snapshot(self, op, name, s, other, snapshots):
        found = self.read_both(op, name, s)
        peer = self.read_peer(name, other, found, s)
        expected = self.snapshots.get((name, s), self.views.get(name))
        if name in op.loose_snapshots:
            expected = peer
        if expected is not None and found != expected:
            raise Finding('%s: snapshot %s of %s is wrong: %s%s' % (
                op.kind, s, name, difference(found, expected),
                '; QEMU alike' if found == peer else ''))
        snapshots[name, s] = found
        if peer is not None and found != peer:
            self.fault(op, 'snapshot is wrong')
        return found == peer

    def read_both(self, op, name, snapshot):
        found = read_disk(FIRN, self.dirs['now'], self.images, name, snapshot)
        peer = read_disk(QEMU, self.dirs['now'], self.images, name, snapshot)
        if snapshot is not None:
            # QEMU reads a snapshot as long as the disk is now, firn as long
            # as it was then.
            peer = peer[:len(found)] + found[len(peer):]
        if found != peer:
            raise Finding('%s: %s (%s): firn reads it otherwise: %s' % (
                op.kind, name, snapshot, difference(found, peer)))
        return found

    # ---- interrupted ----

    def interrupt(self, op):
        """In 'stopped'; 'now' goes on with that where it can."""
        self.copy('before', 'stopped')
        where = self.dirs['stopped']
        if run_all(FIRN, op.commands[:-1], where):
            return
        sig = self.rng.choice((signal.SIGTERM, signal.SIGKILL))
        if not self.stop_command(op.commands[-1], where, sig):
            return
        killed = sig == signal.SIGKILL
        for name in os.listdir(where):
            if killed and name not in self.images and \
                    re.fullmatch('i[0-9]+', name):
                os.unlink(os.path.join(where, name))    # half of a new image
        self.judge_interrupted(op, where, killed)
        self.counts[op.kind, 'interrupted'] += 1
        if op.repeatable:
            op.was_killed = killed
            self.copy('stopped', 'now')

    def stop_command(self, argv, where, sig):
        """Was it stopped?"""
        env = dict(os.environ)
        delay = None
        if self.rng.random() < 0.6:
            n = int(2 ** self.rng.uniform(0, 9))
            env.update(FIRN_AIO='threads', LD_PRELOAD=SIGNAL_AT,
                       FIRN_SIGNAL_AT='%d:%d' % (n, sig))
            self.tell('    stopped by %d at request %d' % (sig, n))
        else:
            delay = self.rng.uniform(0.001, 0.02)
            self.tell('    stopped by %d after %f s' % (sig, delay))
        process = subprocess.Popen([FIRN[argv[0]]] + argv[1:], cwd=where,
                                   env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        if delay is not None:
            time.sleep(delay)
            process.send_signal(sig)
        _, said = process.communicate(timeout=SECONDS)
        if process.returncode not in (0, 1, -sig):
            raise Finding('%s: exit status %d: %s' % (
                argv, process.returncode, said.decode()))
        return process.returncode == -sig

    def judge_interrupted(self, op, where, killed):
        images = read_images(where, self.images)
        for name in images:
            if name in self.images and state_of(where, images, name) == \
                    state_of(self.dirs['before'], self.images, name):
                continue
            if killed and (images[name].dirty or
                           op.kind.startswith('snapshot')):
                self.repair_expected(op, where, images, name)
            self.check_image(op, name, images, killed, 'stopped')
            if name in self.images:
                self.compare_interrupted(op, where, images, name)
            if killed and images[name].qcow2:
                self.repair(op, where, images, name, 'leaks')
                self.check_image(op, name, images, False, 'stopped')
                if name in self.images:
                    self.compare_interrupted(op, where, images, name)

    def compare_interrupted(self, op, where, images, name):
        for tools in (FIRN, QEMU):
            view = read_disk(tools, where, images, name)
            if name not in op.half_done and view != self.views[name]:
                raise Finding('%s was interrupted: %s changed: %s' % (
                    op.kind, name, difference(view, self.views[name])))
        for s in images[name].snapshots:
            if (name, s) in self.snapshots and \
                    name not in op.loose_snapshots:
                view = read_disk(FIRN, where, images, name, s)
                if view != self.snapshots[name, s]:
                    raise Finding('%s was interrupted: snapshot %s of %s '
                                  'changed' % (op.kind, s, name))

    def repair_expected(self, op, where, images, name):
        """A snapshot that is cut short may leave COPIED flags that are not
        set, which costs a copy; lazy refcounts are to be counted."""
        said = run(FIRN, ['img', 'check'] + images.spec(name),
                   where).stderr.decode()
        if images[name].dirty or all(
                'COPIED' in line or 'leak' in line.lower()
                for line in said.splitlines()):
            self.repair(op, where, images, name, 'all')

    def repair(self, op, where, images, name, what):
        done = run(FIRN, ['img', 'check', '-q', '-r', what] +
                   images.spec(name), where)
        if done.returncode:
            raise Finding('%s: repair of %s: %d: %s %s' % (
                op.kind, name, done.returncode, done.stdout.decode(),
                done.stderr.decode()))


def run_one(seed, stop, faults, counts, end=float('inf')):
    """Raises Finding, with everything that is needed to do it again. No step
    begins after @end."""
    where = tempfile.mkdtemp(prefix='firn-chain-',
                             dir=os.environ.get('FIRN_CHAIN_TMP'))
    one = Run(seed, stop, where, faults, counts)
    try:
        one.run(end)
    except (Finding, subprocess.TimeoutExpired, ValueError) as e:
        keep = os.environ.get('FIRN_CHAIN_KEEP')
        if keep:
            target = os.path.join(keep, '%d%s' % (seed, '-stop' * stop))
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(where, target)
        raise Finding('seed %d%s: %s\n%s' % (
            seed, ' --stop' * stop, e, '\n'.join(one.said))) from e
    finally:
        shutil.rmtree(where)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seed', type=int)
    parser.add_argument('--first', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=10)
    parser.add_argument('--stop', action='store_true')
    args = parser.parse_args()
    faults, counts = collections.Counter(), collections.Counter()
    if args.seed is not None:
        run_one(args.seed, args.stop, faults, counts)
        return
    end, seed, found = time.monotonic() + args.seconds, args.first, 0
    while time.monotonic() < end:
        try:
            run_one(seed, args.stop, faults, counts)
        except Finding as e:
            found += 1
            print('FOUND', e, flush=True)
        seed += 1
    print('%d seeds from %d on, %d findings' % (seed - args.first,
                                                args.first, found))
    for (kind, how), n in sorted(counts.items()):
        print('%6d  %s %s' % (n, kind, how))
    for what, n in faults.most_common():
        print('QEMU %5d  %s' % (n, what))
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
