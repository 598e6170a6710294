#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Make one manual page: make-page.py SCDOC COMMON PAGE.scd OUTPUT

A page is written in scdoc(5). A line "%use NAME..." stands for pieces of
COMMON, where each begins with "%piece NAME". A backslash inside a literal block
stands for itself. scdoc begins every paragraph with .P, after a heading too;
mandoc's linter calls those useless, so they go.
"""

import re
import subprocess
import sys


def pieces(path):
    """{name: text} of the file of common pieces."""
    with open(path, encoding='utf-8') as file:
        parts = re.split(r'^%piece (\S+)\n', file.read(), flags=re.M)
    return {name: text.strip('\n')
            for name, text in zip(parts[1::2], parts[2::2])}


def expand(page, common):
    """The text of PAGE with the pieces it uses."""
    known = pieces(common)

    def use(match):
        return '\n\n'.join(known[name] for name in match[1].split())

    with open(page, encoding='utf-8') as file:
        return re.sub(r'^%use (.*)$', use, file.read(), flags=re.M)


def escape_literals(text):
    """TEXT with the backslashes of its literal blocks as scdoc wants them."""
    return re.sub(r'^```\n.*?^```$',
                  lambda block: block[0].replace('\\', '\\\\'), text,
                  flags=re.M | re.S)


def tidy(page):
    """Without paragraphs that hold nothing."""
    page = page.replace('.P\n.RE\n', '.RE\n.P\n')
    page = re.sub(r'^(\.(SH|SS|TH) .*\n)(\.P\n)+', r'\1', page, flags=re.M)
    return re.sub(r'^(\.P\n)+(?=\.(SH|SS|RS|P)\b|\Z)', '', page, flags=re.M)


def main():
    scdoc, common, page, output = sys.argv[1:]
    source = escape_literals(expand(page, common))
    done = subprocess.run([scdoc], input=source, text=True,
                          stdout=subprocess.PIPE, check=True)
    with open(output, 'w', encoding='utf-8') as file:
        file.write(tidy(done.stdout))


if __name__ == '__main__':
    main()
