# SPDX-License-Identifier: MIT
"""LUKS images are made by QEMU's tools at once, and on a busy machine, too.

Importing this preloads tests/support/quick-kdf.c into whatever is started from
then on; only QEMU's tools call what it replaces.
"""

import os

MODULE = os.environ.get('FIRN_QUICK_KDF_MODULE', os.path.join(
    os.path.abspath(os.environ.get('FIRN_BUILD_DIR', 'build')),
    'tests/support/quick-kdf.so'))


def preload(module):
    if not os.path.exists(module):
        raise FileNotFoundError(
            '%s is not there: build it, or set FIRN_BUILD_DIR' % module)
    for name, word, by in (('LD_PRELOAD', module, ' '),
                           # else ASan wants to come first in tools of ours
                           ('ASAN_OPTIONS', 'verify_asan_link_order=0', ':')):
        words = os.environ.get(name, '')
        if word not in words:
            os.environ[name] = by.join(filter(None, (words, word)))


preload(MODULE)
