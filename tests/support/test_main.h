/* SPDX-License-Identifier: MIT */
/*
 * The main() of every unit test: cmocka and what it wants included first, a
 * name filter, and an alarm so that a hang is a failure and not a wait.
 *
 *   FIRN_TEST_FILTER=glob    run only the tests whose name matches
 *   FIRN_TEST_TIMEOUT=secs   alarm for the whole run, 300 by default, 0 = none
 *
 * A test that may hang when its plant is built, and a child, have a shorter
 * alarm: FIRN_TEST_HANG.
 */
#ifndef FIRN_TESTS_SUPPORT_TEST_MAIN_H
#define FIRN_TESTS_SUPPORT_TEST_MAIN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Seconds: nothing short takes as long, on the slowest machine. */
#define FIRN_TEST_HANG 120

/* Seconds until the alarm that ends this run, 0 for none. */
static inline unsigned firn_test_timeout(void)
{
    const char *text = getenv("FIRN_TEST_TIMEOUT");

    return text ? (unsigned)strtoul(text, NULL, 10) : 300;
}

static inline void firn_test_begin(void)
{
    cmocka_set_test_filter(getenv("FIRN_TEST_FILTER"));
    alarm(firn_test_timeout());
}

/*
 * Define main() to run the array @tests of struct CMUnitTest between the
 * group functions @setup and @teardown (NULL: none). Exit status 0 or 1.
 */
#define FIRN_TEST_MAIN_FULL(tests, setup, teardown)                     \
    int main(void)                                                      \
    {                                                                   \
        firn_test_begin();                                              \
        return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;  \
    }

#define FIRN_TEST_MAIN(tests) FIRN_TEST_MAIN_FULL(tests, NULL, NULL)

#endif
