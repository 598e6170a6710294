#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the source to its layers.

Includes point downwards: util <- block <- migration <- firn. vmm/ and
examples/ use the installed headers alone. Private headers stay in their own
directory. Every header compiles alone, C and, for the installed ones, C++.

Prints one line per breach and exits with 1 when there is one.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Layer -> what its files may name in #include "...": layers below and itself.
BELOW = {
    'util': ('util',),
    'block': ('util', 'block'),
    'migration': ('util', 'block', 'migration'),
    'firn': ('util', 'block', 'migration', 'firn'),
    'tools': ('util', 'block', 'migration', 'tools'),
    'vmm': ('vmm',),
    'examples': (),
}
# Installed headers that each layer may use; these two are pure declarations.
DATA_HEADERS = ('firn/vmstate.h', 'firn/types.h')
FACE_USERS = ('firn', 'tools', 'vmm', 'examples')

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)


def sources():
    """(layer, path relative to the root) of every C file and header."""
    for top in BELOW:
        for where in (top, os.path.join('include', top)):
            for base, _, names in os.walk(os.path.join(ROOT, where)):
                for name in sorted(names):
                    if name.endswith(('.c', '.h', '.S')):
                        path = os.path.join(base, name)
                        yield top, os.path.relpath(path, ROOT)


def layer_of(path, included):
    """The layer that #include "@included" in @path names, or None."""
    beside = os.path.join(os.path.dirname(path), included)
    if os.path.exists(os.path.join(ROOT, beside)):
        return beside.split(os.sep)[0]
    return included.split('/')[0] if '/' in included else None


def is_private_elsewhere(path, included):
    """A header beside another directory's .c files, included from here."""
    public = os.path.exists(os.path.join(ROOT, 'include', included))
    if public or not os.path.exists(os.path.join(ROOT, included)):
        return False
    return (os.path.dirname(included).split('/')[0]
            != os.path.dirname(path).split('/')[0])


def breaches(layer, path):
    """Sentences about the includes of @path that break a rule."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as source:
        text = source.read()
    for mark, included in INCLUDE.findall(text):
        if included.startswith('firn/'):
            public = os.path.exists(os.path.join(ROOT, 'include', included))
            allowed = layer in FACE_USERS or included in DATA_HEADERS
            if public and not allowed:
                yield '%s: %s/ must not include <%s>' % (
                    path, layer, included)
            if public and mark == '"' and layer in ('vmm', 'examples'):
                yield '%s: write <%s>' % (path, included)
            if public:
                continue
        if mark == '<':
            if included.split('/')[0] in ('util', 'block', 'migration'):
                yield '%s: write "%s"' % (path, included)
            continue
        target = layer_of(path, included)
        if target in BELOW and target not in BELOW[layer]:
            yield '%s: %s/ must not include "%s"' % (path, layer, included)
        elif is_private_elsewhere(path, included):
            yield '%s: "%s" is private to its directory' % (path, included)


def face_breaches(path):
    """The installed headers include each other, libc and glib alone."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as source:
        for mark, included in INCLUDE.findall(source.read()):
            if mark == '"':
                yield '%s: an installed header includes "%s"' % (
                    path, included)


def compile_alone(path, compiler, language, flags):
    """None, or what @compiler says about a file with only this #include."""
    name = path[len('include/'):] if path.startswith('include/') else path
    with tempfile.NamedTemporaryFile('w', suffix='.' + language) as probe:
        probe.write('#include "%s"\n' % name)
        probe.flush()
        done = subprocess.run(
            [*compiler, '-fsyntax-only', '-Wall', '-Werror', '-D_GNU_SOURCE',
             '-I' + ROOT, '-I' + os.path.join(ROOT, 'include'), *flags,
             probe.name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            check=False)
    if done.returncode == 0:
        return None
    first = [line for line in done.stderr.decode().splitlines()
             if 'error' in line]
    return first[0] if first else 'does not compile'


def header_breaches(header_paths):
    flags = subprocess.run(
        ['pkg-config', '--cflags', 'glib-2.0', 'json-glib-1.0', 'liburing'],
        stdout=subprocess.PIPE, check=True).stdout.decode().split()
    with tempfile.TemporaryDirectory() as made:
        # util/plant.h includes the header that meson makes.
        with open(os.path.join(ROOT, 'meson_options.txt'),
                  encoding='utf-8') as options:
            plants = re.findall(r"'(S\d_[A-Z0-9_]+)'", options.read())
        with open(os.path.join(made, 'firn-plant.h'), 'w',
                  encoding='utf-8') as plant_h:
            for plant in plants:
                plant_h.write('#define FIRN_PLANT_%s 0\n' % plant)
        flags.append('-I' + made)
        for path in header_paths:
            error = compile_alone(path, ['gcc', '-std=gnu17'], 'c', flags)
            if error:
                yield '%s: does not compile alone: %s' % (path, error)
            if path.startswith('include/firn/') and shutil.which('g++'):
                error = compile_alone(path, ['g++'], 'cc', flags)
                if error:
                    yield '%s: not C++: %s' % (path, error)


def main():
    found = []
    headers = []
    for layer, path in sources():
        found += breaches(layer, path)
        if path.startswith('include/firn/'):
            found += face_breaches(path)
        if path.endswith('.h'):
            headers.append(path)
    found += header_breaches(headers)
    for sentence in found:
        print(sentence)
    print('%d headers, %d breaches' % (len(headers), len(found)))
    return 1 if found or not headers else 0


if __name__ == '__main__':
    sys.exit(main())
