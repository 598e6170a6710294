# SPDX-License-Identifier: MIT
"""What the tools say about themselves: subcommands, and the options of each.

An option is a tuple of its spellings, as ('-f', '--format').
"""

import os
import re
import subprocess

PROGRAMS = {'firn-img': 'FIRN_IMG', 'firn-io': 'FIRN_IO',
            'firn-vmm': 'FIRN_VMM', 'firn-vmstate': 'FIRN_VMSTATE'}


def run(name, *argv, **kwargs):
    return subprocess.run([os.environ[PROGRAMS[name]], *argv], text=True,
                          capture_output=True, timeout=300, check=False,
                          stdin=subprocess.DEVNULL, **kwargs)


def help_text(name, command=None):
    """What --help says, or in firn-io the help about a command."""
    if command is None:
        done = run(name, '--help')
    elif name == 'firn-io':
        done = run(name, '-c', 'help ' + command)
    else:
        done = run(name, command, '--help')
    if done.returncode or done.stderr:
        raise AssertionError('%s %s --help: status %d, %s' % (
            name, command, done.returncode, done.stderr))
    return done.stdout


def commands(name):
    """The subcommands; firn-vmm has none."""
    if name == 'firn-io':
        text = run(name, '-c', 'help').stdout
        return re.findall(r'^(\w+).* -- ', text, re.M)
    if name == 'firn-vmm':
        return []
    return re.findall(r'^  ([a-z][a-z-]+)  ', help_text(name), re.M)


def options(text):
    """{option: its text} of a help text.

    "-C, -q  as of read" are two options, "-f, --format NAME  which" is one.
    """
    found = {}
    for line in re.finditer(r'^ +(-.*?)(?: {2,}|\n {10,}|$)(.*)', text, re.M):
        words = re.findall(r'(?<![\w-])--?[\w-]+', line[1])
        if len([word for word in words if len(word) == 2]) > 1:
            found.update({(word,): line[2] for word in words})
        else:
            found[tuple(words)] = line[2]
    return found
