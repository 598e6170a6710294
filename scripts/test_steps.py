#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds firn in every way it must build and runs every test there is.

Each step has its own build directory (build/<step>) and its own log
(build/logs/<step>.log). What counts are tests, not steps: cmocka cases and
unittest methods are read from the output of each test program, any other
program is one test. The last line says `N passed, N failed, N skipped`; the
exit status is 1 when anything failed. Every skip is printed with its reason.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, 'build')
LOGS = os.path.join(BUILD, 'logs')
JOBS = str(max(2, os.cpu_count() or 2))
PROCESSES = '3' # some of them wait for the disk

UTIL = ('tests/unit/util/',)
MODULES = ('tests/unit/',)
UNIT = MODULES + ('tests/crash/', 'tests/explore/')
INTEGRATION = ('tests/integration/', 'examples/')
HOSTILE = ('tests/fuzz/',)
TOOLS = ('tests/integration/test_io_conformance.py',
         'tests/integration/test_io_session.py',
         'tests/integration/test_scenarios.py')
EVERYTHING = UNIT + INTEGRATION + HOSTILE

VALGRIND = ('valgrind -q --error-exitcode=9 --leak-check=full '
            '--errors-for-leak-kinds=definite --fair-sched=try '
            '--show-leak-kinds=definite')

# A command that runs what follows it with io_uring forbidden.
CAGE = ('/usr/bin/python3',
        os.path.join(ROOT, 'tests/integration/run_without_io_uring.py'))
TIMED_OUT = 124 # as timeout(1) has it
# Limits of time are there for what hangs; machines may be as slow as they are.
SLOWEST = 5


class StepFailed(Exception):
    """A command of a step failed; the log says how."""


class Step:
    """One step: its log, its counts, and the commands it runs."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = 0
        self.skips = []
        self.failures = []
        self.path = os.path.join(LOGS, name + '.log')
        self.log = open(self.path, 'w', encoding='utf-8')

    def ok(self):
        self.passed += 1

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)

    def skip(self, what, reason):
        self.skips.append((what, reason))

    def check(self, good, what):
        if good:
            self.ok()
        else:
            self.fail(what)

    def run(self, argv, timeout=1800, env=None, may_fail=False, cwd=ROOT):
        """Run @argv into the log; returns (exit status, output)."""
        full_env = dict(os.environ, LC_ALL='C', **(env or {}))
        self.log.write('$ ' + ' '.join(argv) + '\n')
        self.log.flush()
        try:
            done = subprocess.run(argv, cwd=cwd, env=full_env, timeout=timeout,
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False)
            status, out = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            status, out = TIMED_OUT, (late.stdout or b'') + b'\n(timeout)\n'
        except FileNotFoundError:
            status, out = 127, b'(no such program)\n'
        text = out.decode('utf-8', 'replace')
        self.log.write(text + '[exit status %d]\n' % status)
        self.log.flush()
        if status != 0 and not may_fail:
            raise StepFailed('%s: exit status %d' % (argv[0], status))
        return status, text

    def tail(self, lines=40):
        self.log.flush()
        with open(self.path, encoding='utf-8') as log:
            return ''.join(log.readlines()[-lines:])


# --- building and running -------------------------------------------------

def build_dir(name):
    return os.path.join(BUILD, name)


def configure(step, name, options=(), cc=None, werror=True):
    """Set up build/@name once; later runs reconfigure by themselves.

    @werror is off where instrumentation makes gcc guess wrongly.
    """
    path = build_dir(name)
    if not os.path.exists(os.path.join(path, 'build.ninja')):
        env = {'CC': cc} if cc else None
        step.run(['meson', 'setup', path, ROOT,
                  '-Dwerror=' + str(werror).lower(), *options], env=env)
    return path


def build(step, name, options=(), cc=None, werror=True, only=None):
    """Build everything, or only the test programs below @only."""
    path = configure(step, name, options, cc, werror)
    targets = []
    if only:
        for test in introspect(step, path):
            target = os.path.relpath(test['cmd'][0], path)
            if target.startswith(only):
                targets.append(target)
    step.run(['ninja', '-C', path, '-j', JOBS, *sorted(set(targets))])
    return path


def introspect(step, path):
    _, text = step.run(['meson', 'introspect', '--tests', path])
    return json.loads(text[text.index('['):])


def tests_of(step, path, prefixes, uring, forced):
    """Names of the meson tests whose program or script is below @prefixes.

    Without @uring those that force the io_uring back end are left out. @forced
    names the back ends that a test may force: 'both', 'one' (io_uring where
    there is it, and both for what is below UTIL) or 'none'.
    """
    names = []
    tests = introspect(step, path)
    there = {test['name'] for test in tests}
    for test in tests:
        backend = test['env'].get('FIRN_AIO')
        if (not uring and backend == 'io_uring') or (
                forced == 'none' and backend):
            continue
        if (forced == 'one' and uring and backend == 'threads' and
                '/util/' not in test['cmd'][0] and
                test['name'].replace('threads', 'io_uring') in there -
                {test['name']}):
            continue
        where = [os.path.relpath(part, base)
                 for part in test['cmd'] if os.path.isabs(part)
                 for base in (path, ROOT)]
        if any(w.startswith(prefixes) for w in where):
            names.append(test['name'])
    return names


def why_skipped(stdout, name):
    """What the case said last before it skipped itself."""
    said = re.search(r'^\[ RUN      \] %s\n(.*?)^\[  SKIPPED \]' % name,
                     stdout, re.M | re.S)
    lines = said.group(1).strip().splitlines() if said else []
    return lines[-1] if lines else 'it gives no reason'


def count_cases(stdout, result):
    """Cases inside one test program: (passed, failed, [skipped names])."""
    passed = len(re.findall(r'^\[ +OK \] \S+$', stdout, re.M))
    failed = len(set(re.findall(r'^\[  FAILED  \] (\S+)$', stdout, re.M)))
    skipped = re.findall(r'^\[  SKIPPED \] ([A-Za-z_]\w*)$', stdout, re.M)
    skips = [(name, why_skipped(stdout, name))
             for name in dict.fromkeys(skipped)]
    ran = re.search(r'^Ran (\d+) tests? in', stdout, re.M)
    if ran:
        for name, reason in re.findall(
                r'^(\S+) \([^)]*\).* \.\.\. skipped (.*)$', stdout, re.M):
            skips.append((name, reason))
        bad = re.search(r'FAILED \((.*)\)', stdout)
        failed = sum(int(n) for n in re.findall(
            r'(?:failures|errors)=(\d+)', bad.group(1))) if bad else 0
        passed = int(ran.group(1)) - failed - len(skips)
    if result == 'OK' and passed + len(skips) == 0:
        passed = 1
    if result not in ('OK', 'SKIP') and failed == 0:
        failed = 1
    return passed, failed, skips


def count_results(step, log_path):
    """Add up meson's testlog: one JSON object per test program."""
    with open(log_path, encoding='utf-8') as log:
        for line in log:
            test = json.loads(line)
            name, result = test['name'], test['result']
            out = test.get('stdout', '') + '\n' + test.get('stderr', '')
            if result == 'SKIP':
                said = [x for x in out.splitlines() if x.strip()]
                step.skip(name, said[-1].strip() if said else 'no reason given')
                continue
            passed, failed, skips = count_cases(out, result)
            step.passed += passed
            for case, reason in skips:
                step.skip(name + ': ' + case, reason)
            if failed:
                step.failed += failed
                step.failures.append('%s: %s' % (name, result))


def meson_test(step, path, prefixes, env=None, before=(), wrapper=None,
               uring=True, forced='both'):
    """Run the tests below @prefixes in the build directory @path.

    @before: a command that runs meson. @uring: io_uring is not forbidden.
    """
    names = tests_of(step, path, prefixes, uring and io_uring_works(step),
                     forced)
    if not names:
        step.fail('no test was found below ' + ', '.join(prefixes))
        return
    argv = [*before, 'meson', 'test', '-C', path, '--no-rebuild',
            '--print-errorlogs', '--num-processes', PROCESSES,
            '--timeout-multiplier', str(SLOWEST), '--logbase', step.name]
    if wrapper:
        argv += ['--wrapper', wrapper]
    log = os.path.join(path, 'meson-logs', step.name + '.json')
    if wrapper:
        log = os.path.join(path, 'meson-logs', '%s-%s.json' % (
            step.name, os.path.basename(wrapper.split()[0])))
    if os.path.exists(log):
        os.remove(log)
    env = {'FIRN_TEST_TIMEOUT': str(300 * SLOWEST), **(env or {})}
    step.run([*argv, *names], env=env, may_fail=True, timeout=3600)
    if os.path.exists(log):
        count_results(step, log)
    else:
        step.fail('meson test left no log')


def missing(step, program, what):
    """True, with a skip on record, when @program is not installed."""
    if shutil.which(program):
        return False
    step.skip(what, program + ' is not installed')
    return True


# --- the steps ------------------------------------------------------------

def step_gcc(step):
    """gcc, warnings are errors; every suite, on io_uring where there is it"""
    path = build(step, 'gcc', cc='gcc')
    if io_uring_works(step):
        meson_test(step, path, EVERYTHING, env={'FIRN_AIO': 'io_uring'})
        return
    step.skip('every suite on io_uring', 'this kernel or container does not '
              'permit io_uring; the suites run on threads')
    meson_test(step, path, EVERYTHING)


def io_uring_works(step):
    probe = ('import ctypes,sys;l=ctypes.CDLL(None,use_errno=True);'
             'b=ctypes.create_string_buffer(256);'
             'sys.exit(l.syscall(425,1,b)<0)')
    status, _ = step.run(['/usr/bin/python3', '-c', probe], may_fail=True)
    return status == 0


# What has no end of its own was run in full by step gcc.
SHORTER = {'FIRN_HOSTILE_ROUNDS': '100', 'FIRN_DIFF_SECONDS': '10'}

SAMPLE = {'FIRN_EXPLORE_EVERY': '8', 'FIRN_CRASH_STATES': '3000',
          'FIRN_CRASH_SAVEVM_STATES': '100'}

# Unit tests of what depends on the back end run on both of them in step gcc;
# this step runs all the others, with no word to them of which back end to take.

def step_threads(step):
    """the same on epoll and the thread pool: seccomp forbids io_uring"""
    path = build(step, 'gcc', cc='gcc')
    meson_test(step, path, EVERYTHING, before=CAGE, uring=False, forced='none',
               env=SHORTER)


def step_clang(step):
    """clang, -Wthread-safety, warnings are errors; unit tests"""
    if missing(step, 'clang', 'the clang build'):
        return
    path = build(step, 'clang', cc='clang')
    step.ok()
    meson_test(step, path, UNIT, env=SAMPLE, forced='one')


def step_asan(step):
    """unit and hostile-input tests and the tools under ASan and UBSan"""
    # With -O2 and all of -g gcc takes twice the time.
    path = build(step, 'asan', cc='gcc', werror=False, options=(
        '-Db_sanitize=address,undefined', '-Dbench=false',
        '-Doptimization=1', '-Dc_args=-g1'))
    env = {'ASAN_OPTIONS': 'detect_stack_use_after_return=0:'
                           'allocator_may_return_null=1:abort_on_error=1:'
                           'verify_asan_link_order=0', # stdbuf preloads
           'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1',
           **SHORTER, **SAMPLE}
    meson_test(step, path, UNIT + HOSTILE + TOOLS, env=env, forced='one')


def step_fuzz(step):
    """libFuzzer targets under ASan and UBSan, a minute in all"""
    if missing(step, 'clang', 'the fuzz targets'):
        return
    path = configure(step, 'fuzz', cc='clang', werror=False, options=(
        '-Dfuzz=true', '-Db_sanitize=address,undefined', '-Db_lundef=false',
        '-Dbench=false'))
    status, text = step.run(['ninja', '-C', path, '-t', 'targets', 'all'])
    targets = sorted(set(re.findall(r'^tests/fuzz/(fuzz-(?!seeds)[a-z-]+):',
                                    text, re.M)))
    step.run(['ninja', '-C', path, '-j', JOBS, 'tests/fuzz/seeds',
              *('tests/fuzz/' + name for name in targets)])
    seconds = int(os.environ.get('FIRN_FUZZ_SECONDS', '60'))

    def fuzz(name):
        corpus = os.path.join(path, 'corpus', name)
        os.makedirs(corpus, exist_ok=True)
        words = os.path.join('tests/fuzz/seeds', name[len('fuzz-'):])
        images = os.path.join(path, 'tests/fuzz/seeds')
        return step.run(
            [os.path.join(path, 'tests/fuzz', name), '-max_len=131072',
             '-rss_limit_mb=1024', '-timeout=60', '-print_final_stats=1',
             '-max_total_time=%d' % max(1, seconds // len(targets)),
             '-artifact_prefix=' + path + '/' + name + '-',
             '-entropic=0', corpus, # it takes as long as the target
             words if os.path.isdir(words) else images, 'tests/fuzz/kept'],
            timeout=seconds + 900, may_fail=True)[0]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, status in zip(targets, pool.map(fuzz, targets)):
            step.check(status == 0, name + ': an input is kept in build/fuzz/')


def step_tsan(step):
    """coroutines, locks and event loops under TSan"""
    path = build(step, 'tsan', cc='gcc', werror=False, only=UTIL, options=(
        '-Db_sanitize=thread', '-Dbench=false'))
    # TSan of gcc 12 and clang 14 cannot cope with 32 bits of mmap entropy.
    still = ('setarch', '-R')
    status, _ = step.run([*still, 'true'], may_fail=True)
    meson_test(step, path, UTIL, before=still if status == 0 else (),
               env={'TSAN_OPTIONS': 'halt_on_error=1'})


def step_valgrind(step):
    """util's tests under valgrind, on epoll and the thread pool"""
    if missing(step, 'valgrind', 'util under valgrind'):
        return
    path = build(step, 'gcc', cc='gcc', only=UTIL)
    # valgrind 3.19 keeps its one lock during io_uring_enter, so that a second
    # thread never runs and what the first waits for never comes.
    meson_test(step, path, UTIL, before=CAGE, wrapper=VALGRIND, uring=False)


def step_ucontext(step):
    """unit tests with ucontext coroutines"""
    path = build(step, 'ucontext', cc='gcc', only=MODULES, options=(
        '-Dcoroutine=ucontext', '-Dbench=false'))
    meson_test(step, path, MODULES, forced='one')


def step_aarch64(step):
    """aarch64: cross-compiled, unit tests under qemu-user"""
    if missing(step, 'aarch64-linux-gnu-gcc', 'the aarch64 build'):
        return
    status, text = step.run(['scripts/test-aarch64'], may_fail=True)
    if status == 77:
        step.skip('aarch64', text.strip().splitlines()[-1])
        return
    passed, failed, skips = count_cases(text, 'OK' if status == 0 else 'FAIL')
    step.passed += passed
    for case, reason in skips:
        step.skip('aarch64: ' + case, reason)
    if failed:
        step.failed += failed
        step.failures.append('scripts/test-aarch64')


def read_plants():
    """Rows of tests/plants.txt: (plant, test program, name filter)."""
    rows = []
    with open(os.path.join(ROOT, 'tests/plants.txt'), encoding='utf-8') as f:
        for line in f:
            words = line.split('#')[0].split()
            if words:
                rows.append(tuple(words))
    return rows


def test_program(name):
    """Path of a program of tests/plants.txt in the build directory."""
    return os.path.normpath(os.path.join('tests/unit', name))


def run_filtered(step, path, program, pattern):
    """Run the cases of @program that match; (exit status, cases run)."""
    status, text = step.run([os.path.join(path, test_program(program))],
                            env={'FIRN_TEST_FILTER': pattern}, timeout=300,
                            may_fail=True)
    return status, len(set(re.findall(r'^\[ RUN +\] (\S+)$', text, re.M)))


def step_plants(step):
    """each planted fault is built and its test fails"""
    rows = read_plants()
    known = subprocess.run(
        ['sed', '-n', r"s/^ *.\([SQ][0-9]*_[A-Z0-9_]*\).,$/\1/p",
         'meson_options.txt'], cwd=ROOT, check=True,
        stdout=subprocess.PIPE).stdout.decode().split()
    for plant in sorted(set(known) - {row[0] for row in rows}):
        step.fail(plant + ' has no test in tests/plants.txt')
    targets = sorted({test_program(row[1]) for row in rows})
    # Without a named compiler meson takes ccache: of the files with a plant
    # only one differs from what was compiled for the plant before.
    path = configure(step, 'plants', werror=False,
                     options=('-Dbench=false', '-Doptimization=1'))
    header = os.path.join(path, 'firn-plant.h')
    step.run(['meson', 'configure', path, '-Dplant=none'])
    step.run(['ninja', '-C', path, 'build.ninja'])
    with open(header, encoding='utf-8') as f:
        no_plant = f.read()
    for plant in ['none', *dict.fromkeys(row[0] for row in rows)]:
        with open(header, 'w', encoding='utf-8') as f: # as -Dplant= does
            f.write(re.sub(r'(FIRN_PLANT_%s) 0' % plant, r'\1 1', no_plant))
        mine = [r for r in rows if r[0] == plant]
        if plant == 'none': # what several plants share runs once
            mine = [(plant, *r) for r in dict.fromkeys(r[1:] for r in rows)]
        wanted = sorted({test_program(r[1]) for r in mine}) or targets
        step.run(['ninja', '-C', path, '-j', JOBS, *wanted])
        for name, program, pattern in mine:
            status, cases = run_filtered(step, path, program, pattern)
            if plant == 'none':
                step.check(status == 0 and cases >= 1,
                           '%s %s: must run and pass without the plant '
                           '(status %d, %d cases)'
                           % (program, pattern, status, cases))
            else:
                step.check(status not in (0, TIMED_OUT) and cases >= 1,
                           '%s: %s %s did not notice it'
                           % (name, program, pattern))
    with open(header, 'w', encoding='utf-8') as f:
        f.write(no_plant)


def step_layers(step):
    """includes point downwards; every header compiles alone"""
    status, _ = step.run(['/usr/bin/python3', 'tests/check_layers.py'],
                         may_fail=True)
    step.check(status == 0, 'tests/check_layers.py')


STEPS = {
    'layers': step_layers, 'gcc': step_gcc, 'threads': step_threads,
    'clang': step_clang, 'asan': step_asan, 'fuzz': step_fuzz,
    'tsan': step_tsan, 'valgrind': step_valgrind, 'ucontext': step_ucontext,
    'aarch64': step_aarch64, 'plants': step_plants,
}
QUICK = ('layers', 'gcc')


def run_step(name):
    step = Step(name)
    start = time.monotonic()
    print('%-9s %s ...' % (name, STEPS[name].__doc__), flush=True)
    try:
        STEPS[name](step)
    except StepFailed as reason:
        step.fail(str(reason))
    print('%-9s %d passed, %d failed, %d skipped (%.0f s)' % (
        '', step.passed, step.failed, len(step.skips),
        time.monotonic() - start), flush=True)
    for what, reason in step.skips:
        print('          skipped: %s: %s' % (what, reason))
    for what in step.failures:
        print('          FAILED: ' + what)
    if step.failed:
        print('--- end of %s' % os.path.relpath(step.path, ROOT))
        print(step.tail())
        print('---', flush=True)
    step.log.close()
    return step


def main():
    parser = argparse.ArgumentParser(
        prog='scripts/test', description='Build firn and run its tests.')
    parser.add_argument('--quick', action='store_true',
                        help='gcc and io_uring only')
    parser.add_argument('--list', action='store_true', help='name the steps')
    parser.add_argument('-k', metavar='STEP', action='append',
                        choices=list(STEPS), help='run this step (repeat)')
    args = parser.parse_args()
    if args.list:
        for name, function in STEPS.items():
            print('%-9s %s' % (name, function.__doc__))
        return 0
    os.makedirs(LOGS, exist_ok=True)
    names = args.k or (QUICK if args.quick else list(STEPS))
    done = [run_step(name) for name in names]
    failed = sum(step.failed for step in done)
    print('%d passed, %d failed, %d skipped' % (
        sum(step.passed for step in done), failed,
        sum(len(step.skips) for step in done)))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
