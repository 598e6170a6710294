/* SPDX-License-Identifier: MIT */
/*
 * A directory in which hostile words may name what they like: the target runs
 * in it, files outside of it cannot be opened nor removed, none grows beyond a
 * few MiB, and what has changed is put back after each input.
 *
 * Programs with it are linked with --wrap for the calls in jail.c: nothing of
 * ours opens files in any other way, and libFuzzer goes on as before between
 * jail_enter() and the jail_leave() before it.
 */
#ifndef FIRN_TESTS_FUZZ_JAIL_H
#define FIRN_TESTS_FUZZ_JAIL_H

#include "util/aio.h"

/* Make the directory and its images; standard output goes nowhere from now on,
 * and messages of stdio go there, too. @ctx is the current one. */
void jail_build(AioContext *ctx);
/* Files whose paths begin with @prefix, which is kept, may be used from inside:
 * what libFuzzer has found is written from there. */
void jail_allow(const char *prefix);
/* The target begins, in the directory. */
void jail_enter(void);
/* It is over. */
void jail_leave(void);

#endif
