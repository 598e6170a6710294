/* SPDX-License-Identifier: MIT */
/* The limit on bytes per second. */
#include "tests/support/test_main.h"

#include "util/aio.h"
#include "util/rate-limit.h"

#define SECOND INT64_C(1000000000)
#define MS     (SECOND / 1000)

static void test_each_taker_waits_for_what_was_taken_before(void **state)
{
    RateLimit l;

    rate_limit_init(&l, 1000);

    assert_int_equal(rate_limit_reserve(&l, 500, 7), 7);
    assert_int_equal(rate_limit_reserve(&l, 2000, 7), 7 + SECOND / 2);
    assert_int_equal(rate_limit_reserve(&l, 1, SECOND),
                     7 + 5 * (SECOND / 2));
}

static void test_idle_time_is_not_saved_up(void **state)
{
    RateLimit l;

    rate_limit_init(&l, 1000);

    assert_int_equal(rate_limit_reserve(&l, 1000, SECOND), SECOND);
    assert_int_equal(rate_limit_reserve(&l, 1000, 9 * SECOND), 9 * SECOND);
    assert_int_equal(rate_limit_reserve(&l, 1000, 9 * SECOND), 10 * SECOND);
}

static void test_no_limit_lets_everything_through(void **state)
{
    RateLimit l;

    rate_limit_init(&l, 0);

    assert_int_equal(rate_limit_reserve(&l, UINT64_MAX, 3), 3);
    assert_int_equal(rate_limit_reserve(&l, UINT64_MAX, 3), 3);
}

static void test_extreme_rates_do_not_overflow(void **state)
{
    RateLimit l;

    rate_limit_init(&l, 1);
    assert_int_equal(rate_limit_reserve(&l, UINT64_MAX, SECOND), SECOND);
    assert_true(rate_limit_reserve(&l, UINT64_MAX, SECOND) > SECOND);
    assert_true(rate_limit_reserve(&l, UINT64_MAX, SECOND) > SECOND);

    rate_limit_init(&l, UINT64_MAX);
    assert_int_equal(rate_limit_reserve(&l, UINT64_MAX, 0), 0);
    assert_in_range(rate_limit_reserve(&l, 1, 0), SECOND - 1, SECOND + 1);
}

static int coroutine_fn take_three(void *opaque)
{
    for (int i = 0; i < 3; i++) {
        rate_limit_take(opaque, 1000);
    }
    return 0;
}

static void test_taking_sleeps(void **state)
{
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    RateLimit l;
    int64_t start = aio_now_ns();

    rate_limit_init(&l, 100000);
    aio_run_blocking(ctx, take_three, &l);
    aio_context_unref(ctx);

    assert_true(aio_now_ns() - start >= 20 * MS);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_each_taker_waits_for_what_was_taken_before),
    cmocka_unit_test(test_idle_time_is_not_saved_up),
    cmocka_unit_test(test_no_limit_lets_everything_through),
    cmocka_unit_test(test_extreme_rates_do_not_overflow),
    cmocka_unit_test(test_taking_sleeps),
};

FIRN_TEST_MAIN(tests)
