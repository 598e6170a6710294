/* SPDX-License-Identifier: MIT */
/*
 * What most tests of block/ and above need: a context that is driven by hand,
 * a temporary directory, patterns, leak checks, other programs.
 *
 * Use test_ctx_setup and test_ctx_teardown as the setup and teardown of a
 * cmocka test (or group); teardown fails the test when a coroutine or a file
 * descriptor is left over.
 */
#ifndef FIRN_TESTS_SUPPORT_HELPERS_H
#define FIRN_TESTS_SUPPORT_HELPERS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/aio.h"
#include "util/coroutine.h"

/* The context of the running test, current on this thread. */
extern AioContext *test_ctx;

/* cmocka fixtures; 0 or -1. The back end is the one FIRN_AIO names. */
int test_ctx_setup(void **state);
int test_ctx_teardown(void **state);

/* Run @fn(@opaque) in a coroutine on test_ctx to its end; what it returned. */
int no_coroutine_fn run_coroutine(int coroutine_fn (*fn)(void *),
                                  void *opaque);

/* Start a coroutine on test_ctx; it has run up to its first yield. */
void test_spawn(CoroutineEntry *fn, void *opaque);

/*
 * Drive test_ctx until @cond holds, then go on; at most about ten seconds, the
 * test is aborted then.
 */
#define TEST_WAIT_UNTIL(cond)                                   \
    do {                                                        \
        int64_t test_deadline = aio_now_ns() + 10000000000ll;   \
        while (!(cond)) {                                       \
            test_poll_or_abort(test_deadline, #cond);           \
        }                                                       \
    } while (0)
void no_coroutine_fn test_poll_or_abort(int64_t deadline_ns,
                                        const char *what);

/* Run everything that can run without waiting for a disk: @turns loop turns
 * that do not block. */
void no_coroutine_fn test_turns(unsigned turns);

/* Path of @name in a directory that test_ctx_teardown removes. g_free() it. */
char *test_path(const char *name);

/* Deterministic bytes: the same for the same @seed and position. */
void test_fill(void *buf, size_t bytes, uint32_t seed);
bool test_matches(const void *buf, size_t bytes, uint32_t seed);

/* Open descriptors of this process. */
unsigned test_count_fds(void);

/* Is the program in PATH? */
bool test_have_program(const char *name);

/*
 * Run a command line (split like a shell does, without a shell). Returns its
 * exit status, or -1. *@ret_output (may be NULL): stdout and stderr, to be
 * freed.
 */
int test_run(char **ret_output, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#endif
