#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a command with io_uring forbidden: every io_uring system call fails
with EPERM, as it does in many containers.

    run_without_io_uring.py COMMAND [ARGUMENT]...

The filter is inherited by everything the command starts.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7fff0000
SECCOMP_RET_ERRNO = 0x00050000
EPERM = 1

BPF_LD_W_ABS = 0x20
BPF_JGE_K = 0x35
BPF_JGT_K = 0x25
BPF_RET_K = 0x06

# io_uring_setup, _enter, _register: the same numbers on every architecture
# that has them, so the filter needs no look at the architecture.
FIRST, LAST = 425, 427


class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_char_p)]


def forbid_io_uring():
    code = b''.join(struct.pack('=HBBI', *op) for op in (
        (BPF_LD_W_ABS, 0, 0, 0),              # the system call's number
        (BPF_JGE_K, 0, 2, FIRST),             # below: allow
        (BPF_JGT_K, 1, 0, LAST),              # above: allow
        (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | EPERM),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW)))
    program = Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                 (PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
                  ctypes.byref(program), 0, 0)):
        if libc.prctl(*call) != 0:
            err = ctypes.get_errno()
            sys.exit('run_without_io_uring: prctl: ' + os.strerror(err))


def main():
    if len(sys.argv) < 2:
        sys.exit('usage: run_without_io_uring.py COMMAND [ARGUMENT]...')
    forbid_io_uring()
    os.execvp(sys.argv[1], sys.argv[1:])


main()
