/* SPDX-License-Identifier: MIT */
/*
 * AioTaskPool in one thread without an AioContext: tasks end when the test
 * says so, in every order that matters. test_co_threads.c has a pool that two
 * contexts share.
 *
 * The tests named test_s4_* are for the faults of that name (docs/testing.md).
 */
#include "tests/support/test_main.h"
#include "tests/support/expect_abort.h"

#include "util/aio-task.h"

#include <errno.h>

static AioTaskPool *pool;
static unsigned live_before;

/* A task that runs until finish(). */
typedef struct Task {
    int ret;
    Coroutine *co;              /* not NULL once started */
    bool ended;
} Task;

#define TASK(r) { .ret = (r) }

static int coroutine_fn task_run(void *opaque)
{
    Task *t = opaque;

    t->co = co_self();
    co_yield();
    t->ended = true;
    return t->ret;
}

static void finish(Task *t)
{
    assert_non_null(t->co);
    co_enter(t->co);
}

/* A coroutine that does one thing with the pool. */
typedef struct Caller {
    enum { START, START_UNLESS_FAILED, SLOT, SLOT_START, ONE, ALL } what;
    Task *task;
    int ret;
    bool slot_seen;
    bool done;
} Caller;

#define CALLER(w, t) { .what = (w), .task = (t) }

static void coroutine_fn caller_entry(void *opaque)
{
    Caller *c = opaque;

    switch (c->what) {
    case SLOT_START:
        aio_task_pool_wait_slot(pool);
        c->slot_seen = true;
        aio_task_pool_start(pool, task_run, c->task);
        break;
    case START:
        aio_task_pool_start(pool, task_run, c->task);
        break;
    case START_UNLESS_FAILED:
        c->ret = aio_task_pool_start_unless_failed(pool, task_run, c->task);
        break;
    case SLOT:
        aio_task_pool_wait_slot(pool);
        break;
    case ONE:
        aio_task_pool_wait_one(pool);
        break;
    case ALL:
        aio_task_pool_wait_all(pool);
        break;
    }
    c->done = true;
}

static void call(Caller *c)
{
    co_enter(co_create(caller_entry, c));
}

/* Start @t; a free slot is there. */
static void start(Task *t)
{
    Caller c = CALLER(START, t);

    call(&c);
    assert_true(c.done);
    assert_non_null(t->co);
}

/* With a plant built in, some of these hang. */
static int setup(void **state)
{
    live_before = co_live_count();
    pool = aio_task_pool_new(2);
    alarm(FIRN_TEST_HANG);
    return 0;
}

static int teardown(void **state)
{
    alarm(firn_test_timeout());
    return 0;
}

/* The end of each test that got that far: nothing is left. */
static void finish_test(void)
{
    assert_true(aio_task_pool_empty(pool));
    aio_task_pool_free(pool);
    assert_int_equal(co_live_count(), live_before);
}

/* -- Starting and the limit ----------------------------------------------- */

static void test_start_runs_the_task_until_it_yields(void **state)
{
    Task t = { 0 };

    start(&t);
    assert_int_equal(aio_task_pool_busy(pool), 1);
    assert_false(aio_task_pool_empty(pool));
    finish(&t);
    assert_true(t.ended);
    assert_true(aio_task_pool_empty(pool));
    finish_test();
}

static int coroutine_fn task_at_once(void *opaque)
{
    ++*(unsigned *)opaque;
    return 0;
}

static void coroutine_fn start_many(void *opaque)
{
    for (unsigned i = 0; i < 100; i++) {
        aio_task_pool_start(pool, task_at_once, opaque);
    }
    aio_task_pool_wait_all(pool);
}

static void test_tasks_that_never_yield_are_fine(void **state)
{
    unsigned count = 0;

    co_enter(co_create(start_many, &count));
    assert_int_equal(count, 100);
    finish_test();
}

static void test_start_waits_for_a_slot_in_order(void **state)
{
    Task t[4] = { { 0 } };
    Caller a = CALLER(START, &t[2]), b = CALLER(START, &t[3]);

    start(&t[0]);
    start(&t[1]);
    call(&a);
    call(&b);
    assert_null(t[2].co);
    finish(&t[1]);
    assert_non_null(t[2].co);
    assert_null(t[3].co);
    assert_int_equal(aio_task_pool_busy(pool), 2);
    finish(&t[0]);
    assert_non_null(t[3].co);
    finish(&t[2]);
    finish(&t[3]);
    assert_true(a.done && b.done);
    finish_test();
}

/*
 *   a                  b                   pool (2 slots, 2 tasks)
 *   wait_slot...
 *                      start...            a task ends: a is woken
 *   sees a slot, and wakes b, which has not run yet
 *   start: has the slot
 *                      runs: the slot it was woken for is taken
 *                      waits again
 *
 * The fault: b checked the limit before its wait, and does not do so after.
 */
static void test_s4_pool_over_limit_when_a_slot_is_gone_after_the_wait(
    void **state)
{
    Task t[4] = { { 0 } };
    Caller a = CALLER(SLOT_START, &t[2]), b = CALLER(START, &t[3]);

    start(&t[0]);
    start(&t[1]);
    call(&a);
    call(&b);
    finish(&t[0]);
    assert_true(a.slot_seen && a.done);
    assert_true(aio_task_pool_busy(pool) <= 2);
    assert_null(t[3].co);

    finish(&t[1]);
    assert_non_null(t[3].co);
    assert_true(aio_task_pool_busy(pool) <= 2);
    finish(&t[2]);
    finish(&t[3]);
    assert_true(b.done);
    finish_test();
}

/* Whoever was woken for a slot and does not take it wakes the next one. */
static void test_unused_wake_up_is_passed_on(void **state)
{
    Task t[3] = { { 0 } };
    Caller a = CALLER(SLOT, NULL), b = CALLER(SLOT, NULL);
    Caller c = CALLER(START, &t[2]);

    start(&t[0]);
    start(&t[1]);
    call(&a);
    call(&b);
    call(&c);
    finish(&t[0]);
    assert_true(a.done && b.done && c.done);
    assert_non_null(t[2].co);
    finish(&t[1]);
    finish(&t[2]);
    finish_test();
}

static void test_wait_slot_returns_at_once_when_there_is_one(void **state)
{
    Task t = { 0 };
    Caller a = CALLER(SLOT, NULL);

    start(&t);
    call(&a);
    assert_true(a.done);
    finish(&t);
    finish_test();
}

/* -- Errors --------------------------------------------------------------- */

static void test_first_error_is_latched(void **state)
{
    Task a = TASK(-EIO), b = TASK(-ENOSPC), c = TASK(17);

    start(&c);
    finish(&c);
    assert_int_equal(aio_task_pool_status(pool), 0);
    start(&a);
    start(&b);
    finish(&b);
    finish(&a);
    assert_int_equal(aio_task_pool_status(pool), -ENOSPC);
    finish_test();
}

static void test_start_unless_failed_starts_nothing_after_an_error(
    void **state)
{
    Task bad = TASK(-EIO), good = { 0 }, never = { 0 }, anyway = { 0 };
    Caller a = CALLER(START_UNLESS_FAILED, &good);
    Caller b = CALLER(START_UNLESS_FAILED, &never);

    call(&a);
    assert_true(a.done);
    assert_int_equal(a.ret, 0);
    assert_non_null(good.co);
    start(&bad);
    finish(&bad);
    call(&b);
    assert_true(b.done);
    assert_int_equal(b.ret, -EIO);
    assert_null(never.co);
    start(&anyway);
    finish(&anyway);
    finish(&good);
    finish_test();
}

/* The error comes while they wait: all get it, nobody is left waiting. */
static void test_error_during_the_wait_reaches_every_starter(void **state)
{
    Task t[2] = { TASK(-EIO), TASK(0) }, never = { 0 };
    Caller c[3];

    start(&t[0]);
    start(&t[1]);
    for (unsigned i = 0; i < 3; i++) {
        c[i] = (Caller)CALLER(START_UNLESS_FAILED, &never);
        call(&c[i]);
        assert_false(c[i].done);
    }
    finish(&t[0]);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(c[i].done);
        assert_int_equal(c[i].ret, -EIO);
    }
    assert_null(never.co);
    finish(&t[1]);
    finish_test();
}

/* -- Waiting for the end -------------------------------------------------- */

static void test_waits_return_at_once_when_nothing_runs(void **state)
{
    Caller one = CALLER(ONE, NULL), all = CALLER(ALL, NULL);

    call(&one);
    call(&all);
    assert_true(one.done && all.done);
    finish_test();
}

static void test_wait_one_returns_when_any_task_ends(void **state)
{
    Task t[2] = { { 0 } };
    Caller a = CALLER(ONE, NULL), b = CALLER(ONE, NULL);

    start(&t[0]);
    start(&t[1]);
    call(&a);
    call(&b);
    assert_false(a.done || b.done);
    finish(&t[1]);
    assert_true(a.done && b.done);
    finish(&t[0]);
    finish_test();
}

static void test_wait_all_returns_when_the_last_task_ends(void **state)
{
    Task t[2] = { { 0 } };
    Caller a = CALLER(ALL, NULL), b = CALLER(ALL, NULL);

    start(&t[0]);
    start(&t[1]);
    call(&a);
    call(&b);
    finish(&t[0]);
    assert_false(a.done || b.done);
    finish(&t[1]);
    assert_true(a.done && b.done);
    finish_test();
}

/*
 *   all        s1, s2 (start)     pool (2 slots, 2 tasks)
 *   wait...
 *              wait...
 *                                 a task ends: s1 must be woken, not all
 *              s1 starts
 *                                 a task ends: s2 must be woken
 *              s2 starts
 *                                 both end: all must be woken
 *
 * The fault: one queue for both kinds, and one wake-up per event.
 */
static void test_s4_one_kind_of_waiter_loses_no_slot_waiter(void **state)
{
    Task t[4] = { { 0 } };
    Caller all = CALLER(ALL, NULL);
    Caller s1 = CALLER(START, &t[2]), s2 = CALLER(START, &t[3]);

    start(&t[0]);
    start(&t[1]);
    call(&all);
    call(&s1);
    call(&s2);
    finish(&t[0]);
    assert_true(s1.done);
    finish(&t[1]);
    assert_true(s2.done);
    finish(&t[2]);
    assert_false(all.done);
    finish(&t[3]);
    assert_true(all.done);
    finish_test();
}

/* The same between waiters that come in the other order. */
static void test_s4_one_kind_of_waiter_loses_no_all_done_waiter(void **state)
{
    Task t[2] = { { 0 } };
    Caller slot = CALLER(SLOT, NULL), one = CALLER(ONE, NULL);
    Caller all1 = CALLER(ALL, NULL), all2 = CALLER(ALL, NULL);

    start(&t[0]);
    start(&t[1]);
    call(&slot);
    call(&all1);
    call(&all2);
    call(&one);
    finish(&t[0]);
    assert_true(slot.done && one.done);
    assert_false(all1.done || all2.done);
    finish(&t[1]);
    assert_true(all1.done && all2.done);
    finish_test();
}

/* -- Freeing -------------------------------------------------------------- */

static void test_free_accepts_null(void **state)
{
    aio_task_pool_free(NULL);
    finish_test();
}

static void die_freeing_a_busy_pool(void)
{
    Task t = { 0 };

    start(&t);
    aio_task_pool_free(pool);
}

static void coroutine_fn wait_all_and_free(void *opaque)
{
    aio_task_pool_wait_all(pool);
    aio_task_pool_free(pool);
}

/* Both waiters are off their queue; the second one has yet to run. */
static void die_freeing_a_pool_with_waiters(void)
{
    Task t = { 0 };
    Caller second = CALLER(ALL, NULL);

    start(&t);
    co_enter(co_create(wait_all_and_free, NULL));
    call(&second);
    finish(&t);
}

static void test_s4_empty_check_never_fails_is_not_true_of_tasks(void **state)
{
    expect_abort(die_freeing_a_busy_pool, "freed with 1 task(s) running");
    finish_test();
}

static void test_s4_empty_check_never_fails_is_not_true_of_waiters(
    void **state)
{
    expect_abort(die_freeing_a_pool_with_waiters,
                 "0 task(s) running and 1 coroutine(s) waiting");
    finish_test();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_start_runs_the_task_until_it_yields),
    TEST(test_tasks_that_never_yield_are_fine),
    TEST(test_start_waits_for_a_slot_in_order),
    TEST(test_s4_pool_over_limit_when_a_slot_is_gone_after_the_wait),
    TEST(test_unused_wake_up_is_passed_on),
    TEST(test_wait_slot_returns_at_once_when_there_is_one),
    TEST(test_first_error_is_latched),
    TEST(test_start_unless_failed_starts_nothing_after_an_error),
    TEST(test_error_during_the_wait_reaches_every_starter),
    TEST(test_waits_return_at_once_when_nothing_runs),
    TEST(test_wait_one_returns_when_any_task_ends),
    TEST(test_wait_all_returns_when_the_last_task_ends),
    TEST(test_s4_one_kind_of_waiter_loses_no_slot_waiter),
    TEST(test_s4_one_kind_of_waiter_loses_no_all_done_waiter),
    TEST(test_free_accepts_null),
    TEST(test_s4_empty_check_never_fails_is_not_true_of_tasks),
    TEST(test_s4_empty_check_never_fails_is_not_true_of_waiters),
};

FIRN_TEST_MAIN(tests)
