# SPDX-License-Identifier: MIT
"""What the benchmarks share: sizes, spreads, the machine, publishing."""

import os
import platform
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_size(text):
    units = {'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30}
    if text[-1].lower() in units:
        return int(text[:-1]) * units[text[-1].lower()]
    return int(text)


def spread(values, form='%.2f'):
    """median (min..max)"""
    return (form + ' (' + form + '..' + form + ')') % (
        statistics.median(values), min(values), max(values))


def verdict(values, target):
    if target is None:
        return 'no target'
    reached = statistics.median(values) >= target
    return '%s %g' % ('reaches' if reached else 'misses', target)


def machine():
    """One sentence about where this ran."""
    cpu = 'unknown CPU'
    with open('/proc/cpuinfo', encoding='utf-8') as info:
        for line in info:
            if line.startswith('model name'):
                cpu = line.split(':', 1)[1].strip()
                break
    qemu = subprocess.run(['qemu-img', '--version'], check=True,
                          stdout=subprocess.PIPE).stdout.decode().split('\n')
    return '%d x %s, %.0f GiB RAM, Linux %s, %s' % (
        os.cpu_count(), cpu,
        os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30,
        platform.release(), qemu[0])


def file_system(where):
    out = subprocess.run(['df', '--output=source,fstype', where], check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    return ' '.join(out.splitlines()[1].split())


def drop_caches():
    """True when the page cache is now cold; needs root."""
    os.sync()
    try:
        with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as knob:
            knob.write('3\n')
    except OSError:
        return False
    return True


def build_program(build, program):
    """Bring it up to date: an old one would be measured otherwise."""
    if not os.path.exists(os.path.join(build, 'build.ninja')):
        subprocess.run(['meson', 'setup', build, ROOT, '-Dbuildtype=release'],
                       check=True, stdout=subprocess.DEVNULL)
    else: # perhaps set up without
        subprocess.run(['meson', 'configure', build, '-Dbench=true'],
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['ninja', '-C', build, program], check=True,
                   stdout=subprocess.DEVNULL)
    return os.path.join(build, program)


def publish_section(name, text, page='docs/performance.md'):
    """Put @text between the markers of bench/@name in the page."""
    begin = '<!-- bench/%s: begin -->' % name
    end = '<!-- bench/%s: end -->' % name
    page = os.path.join(ROOT, page)
    with open(page, encoding='utf-8') as old:
        head, rest = old.read().split(begin, 1)
    tail = rest.split(end, 1)[1]
    with open(page, 'w', encoding='utf-8') as new:
        new.write('%s%s\n%s\n%s%s' % (head, begin, text, end, tail))
