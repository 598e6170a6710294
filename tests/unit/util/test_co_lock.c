/* SPDX-License-Identifier: MIT */
/*
 * CoMutex, CoQueue and CoRwlock in one thread without an AioContext: drawn
 * interleavings, one column per coroutine. test_co_threads.c has the same
 * locks between threads.
 *
 * Each coroutine is an Actor. It runs a script, one letter per action, and
 * writes its name and the letter into the trace when an action is done:
 *
 *   L lock   T trylock ('t' when it fails)   U unlock
 *   Q wait on the queue with the mutex, q without
 *   N wake one of the queue   A wake all of the queue
 *   R take shared   W take exclusively   X release   D downgrade   P upgrade
 *   . yield
 */
#include "tests/support/test_main.h"
#include "tests/support/expect_abort.h"

#include "util/co-lock.h"

typedef struct Actor {
    char name;
    const char *script;
    Coroutine *co;
    bool ended;
} Actor;

#define ACTOR(n, s) { .name = (n), .script = (s) }

static CoMutex mutex;
static CoQueue queue;
static CoRwlock rwlock;
static char trace[256];

static void note(char name, char action)
{
    size_t len = strlen(trace);

    snprintf(trace + len, sizeof(trace) - len, "%s%c%c", len ? " " : "",
             name, action);
}

/* Compare what happened since the last call. */
static void check_trace(const char *expected)
{
    assert_string_equal(trace, expected);
    trace[0] = '\0';
}

static NO_TSA bool coroutine_fn act_mutex(Actor *a, char action)
{
    switch (action) {
    case 'L':
        co_mutex_lock(&mutex);
        break;
    case 'T':
        if (!co_mutex_trylock(&mutex)) {
            note(a->name, 't');
            return true;
        }
        break;
    case 'U':
        co_mutex_unlock(&mutex);
        break;
    case 'Q':
        co_queue_wait(&queue, &mutex);
        co_mutex_assert_locked(&mutex);
        break;
    case 'q':
        co_queue_wait(&queue, NULL);
        break;
    case 'N':
        co_queue_next(&queue);
        break;
    case 'A':
        co_queue_restart_all(&queue);
        break;
    default:
        return false;
    }
    note(a->name, action);
    return true;
}

static void coroutine_fn act_rwlock(Actor *a, char action)
{
    switch (action) {
    case 'R':
        co_rwlock_rdlock(&rwlock);
        break;
    case 'W':
        co_rwlock_wrlock(&rwlock);
        break;
    case 'X':
        co_rwlock_unlock(&rwlock);
        break;
    case 'D':
        co_rwlock_downgrade(&rwlock);
        break;
    case 'P':
        co_rwlock_upgrade(&rwlock);
        break;
    default:
        abort();
    }
    note(a->name, action);
}

static void coroutine_fn actor_entry(void *opaque)
{
    Actor *a = opaque;

    for (const char *s = a->script; *s; s++) {
        if (*s == '.') {
            co_yield();
        } else if (!act_mutex(a, *s)) {
            act_rwlock(a, *s);
        }
    }
    a->ended = true;
}

/* Create @a and run it until it stops. */
static void begin(Actor *a)
{
    a->co = co_create(actor_entry, a);
    co_set_name(a->co, "actor");
    co_enter(a->co);
}

/* Let @a go on from the '.' at which it stands. */
static void go(Actor *a)
{
    co_enter(a->co);
}

static unsigned live_before;

static int setup(void **state)
{
    trace[0] = '\0';
    live_before = co_live_count();
    co_mutex_init(&mutex);
    co_queue_init(&queue);
    co_rwlock_init(&rwlock);
    return 0;
}

/* The end of each test: whatever happened, nothing is left behind. */
static void finish_test(void)
{
    assert_int_equal(co_live_count(), live_before);
    assert_true(co_queue_empty(&queue));
    co_mutex_destroy(&mutex);
    co_rwlock_destroy(&rwlock);
}

/* -- CoMutex -------------------------------------------------------------- */

static void test_mutex_is_taken_and_released(void **state)
{
    Actor a = ACTOR('a', "LULUTU");

    begin(&a);
    check_trace("aL aU aL aU aT aU");
    finish_test();
}

static void test_trylock_fails_while_held(void **state)
{
    Actor a = ACTOR('a', "L.U"), b = ACTOR('b', "T"), c = ACTOR('c', "TU");

    begin(&a);
    begin(&b);
    check_trace("aL bt");
    go(&a);
    begin(&c);
    check_trace("aU cT cU");
    finish_test();
}

/*
 *    a        b        c        d
 *    lock
 *             lock...
 *                      lock...
 *    unlock -> b has it
 *                               trylock fails: it was handed over
 *             unlock -> c has it
 *                      unlock
 */
static void test_mutex_is_handed_over_in_order(void **state)
{
    Actor a = ACTOR('a', "L.U"), b = ACTOR('b', "L.U"), c = ACTOR('c', "L.U");
    Actor d = ACTOR('d', "T");

    begin(&a);
    begin(&b);
    begin(&c);
    check_trace("aL");
    go(&a);
    check_trace("aU bL");
    begin(&d);
    check_trace("dt");
    go(&b);
    check_trace("bU cL");
    go(&c);
    check_trace("cU");
    finish_test();
}

/*
 * The releaser wants it back at once and goes to the end of the line; the
 * woken coroutine runs when the releaser stops, not inside its unlock.
 *
 *    a                b
 *    lock
 *                     lock...
 *    unlock -> b
 *    lock...
 *                     runs, unlock -> a
 *    runs, unlock
 */
static void test_releaser_cannot_overtake_a_waiter(void **state)
{
    Actor a = ACTOR('a', "L.ULU"), b = ACTOR('b', "LU");

    begin(&a);
    begin(&b);
    check_trace("aL");
    go(&a);
    check_trace("aU bL bU aL aU");
    finish_test();
}

static NO_TSA void coroutine_fn lock_twice(void *opaque)
{
    co_mutex_lock(&mutex);
    co_mutex_lock(&mutex);
}

static void die_locking_twice(void)
{
    co_enter(co_create(lock_twice, NULL));
}

static NO_TSA void coroutine_fn unlock_other(void *opaque)
{
    co_set_name(co_self(), "thief");
    co_mutex_unlock(&mutex);
}

static void die_unlocking_other(void)
{
    Actor a = ACTOR('a', "L.");

    begin(&a);
    co_enter(co_create(unlock_other, NULL));
}

static void coroutine_fn assert_other(void *opaque)
{
    co_mutex_assert_locked(&mutex);
}

static void die_asserting(void)
{
    co_enter(co_create(assert_other, NULL));
}

static void test_misuse_of_a_mutex_aborts(void **state)
{
    expect_abort(die_locking_twice, "that it holds already");
    expect_abort(die_unlocking_other, "'thief'");
    expect_abort(die_unlocking_other, "does not hold the CoMutex");
    expect_abort(die_asserting, "does not hold the CoMutex");
    finish_test();
}

static void die_destroying_a_held_mutex(void)
{
    Actor a = ACTOR('a', "L.");

    begin(&a);
    co_mutex_destroy(&mutex);
}

static void test_destroying_a_held_mutex_aborts(void **state)
{
    expect_abort(die_destroying_a_held_mutex, "co_mutex_destroy");
    finish_test();
}

/* -- CoQueue -------------------------------------------------------------- */

static void test_queue_wakes_in_order(void **state)
{
    Actor a = ACTOR('a', "q"), b = ACTOR('b', "q"), c = ACTOR('c', "q");

    assert_false(co_queue_next(&queue));
    begin(&a);
    begin(&b);
    begin(&c);
    check_trace("");
    assert_false(co_queue_empty(&queue));
    assert_true(co_queue_next(&queue));
    check_trace("aq");
    co_queue_restart_all(&queue);
    check_trace("bq cq");
    assert_true(co_queue_empty(&queue));
    assert_false(co_queue_next(&queue));
    finish_test();
}

/* A coroutine that waits again right after being woken is not woken twice. */
static void test_restart_all_wakes_those_that_wait_now(void **state)
{
    Actor a = ACTOR('a', "qq"), b = ACTOR('b', "qq");

    begin(&a);
    begin(&b);
    co_queue_restart_all(&queue);
    check_trace("aq bq");
    assert_false(co_queue_empty(&queue));
    co_queue_restart_all(&queue);
    check_trace("aq bq");
    finish_test();
}

/*
 *    a                 b
 *    lock
 *    wait, releases
 *                      lock
 *                      next: a is woken, its lock waits
 *                      unlock -> a
 *    has the mutex
 */
static void test_wait_releases_the_mutex_and_retakes_it(void **state)
{
    Actor a = ACTOR('a', "LQU"), b = ACTOR('b', "LN.U");

    begin(&a);
    check_trace("aL");
    begin(&b);
    check_trace("bL bN");
    go(&b);
    check_trace("bU aQ aU");
    finish_test();
}

/*
 *    a          b          c
 *    lock
 *    wait
 *               lock
 *               wait
 *                          lock, wake all, unlock
 *    first, unlock
 *               second
 */
static void test_woken_waiters_take_the_mutex_in_order(void **state)
{
    Actor a = ACTOR('a', "LQU"), b = ACTOR('b', "LQU"), c = ACTOR('c', "LAU");

    begin(&a);
    begin(&b);
    check_trace("aL bL");
    begin(&c);
    check_trace("cL cA cU aQ aU bQ bU");
    finish_test();
}

/* -- CoRwlock ------------------------------------------------------------- */

static void test_readers_share(void **state)
{
    Actor a = ACTOR('a', "R.X"), b = ACTOR('b', "R.X");

    begin(&a);
    begin(&b);
    check_trace("aR bR");
    go(&a);
    go(&b);
    check_trace("aX bX");
    finish_test();
}

static void test_writer_excludes_all(void **state)
{
    Actor a = ACTOR('a', "W.X"), b = ACTOR('b', "R.X"), c = ACTOR('c', "W.X");

    begin(&a);
    begin(&b);
    begin(&c);
    check_trace("aW");
    go(&a);
    check_trace("aX bR");
    go(&b);
    check_trace("bX cW");
    go(&c);
    check_trace("cX");
    finish_test();
}

/*
 *    a (reads)   b          c          d
 *    shared
 *                excl...
 *                           shared... behind b
 *                                      shared... behind b
 *    release
 *                has it
 *                release
 *                           has it     has it
 */
static void test_reader_waits_behind_a_waiting_writer(void **state)
{
    Actor a = ACTOR('a', "R.X"), b = ACTOR('b', "W.X");
    Actor c = ACTOR('c', "R.X"), d = ACTOR('d', "R.X");

    begin(&a);
    begin(&b);
    begin(&c);
    begin(&d);
    check_trace("aR");
    go(&a);
    check_trace("aX bW");
    go(&b);
    check_trace("bX cR dR");
    go(&c);
    go(&d);
    check_trace("cX dX");
    finish_test();
}

/*
 *    a          b          c          d
 *    excl
 *               shared...
 *                          excl...
 *                                     shared... behind c
 *    downgrade
 *               has it too
 *    release
 *               release
 *                          has it
 */
static void test_downgrade_lets_in_the_readers_at_the_head(void **state)
{
    Actor a = ACTOR('a', "WD.X"), b = ACTOR('b', "R.X");
    Actor c = ACTOR('c', "W.X"), d = ACTOR('d', "RX");
    Actor first = ACTOR('f', "W.X");

    begin(&first);
    begin(&a);
    begin(&b);
    begin(&c);
    begin(&d);
    check_trace("fW");
    go(&first);
    check_trace("fX aW aD bR");
    go(&a);
    check_trace("aX");
    go(&b);
    check_trace("bX cW");
    go(&c);
    check_trace("cX dR dX");
    finish_test();
}

static void test_upgrade_of_the_only_reader_is_immediate(void **state)
{
    Actor a = ACTOR('a', "RP.X"), b = ACTOR('b', "RX");

    begin(&a);
    check_trace("aR aP");
    begin(&b);
    check_trace("");
    go(&a);
    check_trace("aX bR bX");
    finish_test();
}

/*
 *    a             b           c
 *    shared
 *                  shared
 *                              excl...
 *    upgrade...: behind c
 *                  release
 *                              has it
 *                              release
 *    exclusive
 */
static void test_upgrade_waits_in_line(void **state)
{
    Actor a = ACTOR('a', "R.P.X"), b = ACTOR('b', "R.X"), c = ACTOR('c', "W.X");

    begin(&a);
    begin(&b);
    begin(&c);
    check_trace("aR bR");
    go(&a);
    check_trace("");
    go(&b);
    check_trace("bX cW");
    go(&c);
    check_trace("cX aP");
    go(&a);
    check_trace("aX");
    finish_test();
}

/* Two readers that both want to write: one after the other, no deadlock. */
static void test_two_upgrades_do_not_deadlock(void **state)
{
    Actor a = ACTOR('a', "R.PX"), b = ACTOR('b', "R.PX");

    begin(&a);
    begin(&b);
    go(&a);
    check_trace("aR bR");
    go(&b);
    check_trace("aP aX bP bX");
    finish_test();
}

static void die_ending_with_rwlock(void)
{
    Actor a = ACTOR('a', "R");

    begin(&a);
}

static void test_ending_with_a_rwlock_held_aborts(void **state)
{
    expect_abort(die_ending_with_rwlock, "'actor'");
    expect_abort(die_ending_with_rwlock, "ended while it holds 1 lock");
    finish_test();
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

static const struct CMUnitTest tests[] = {
    TEST(test_mutex_is_taken_and_released),
    TEST(test_trylock_fails_while_held),
    TEST(test_mutex_is_handed_over_in_order),
    TEST(test_releaser_cannot_overtake_a_waiter),
    TEST(test_misuse_of_a_mutex_aborts),
    TEST(test_destroying_a_held_mutex_aborts),
    TEST(test_queue_wakes_in_order),
    TEST(test_restart_all_wakes_those_that_wait_now),
    TEST(test_wait_releases_the_mutex_and_retakes_it),
    TEST(test_woken_waiters_take_the_mutex_in_order),
    TEST(test_readers_share),
    TEST(test_writer_excludes_all),
    TEST(test_reader_waits_behind_a_waiting_writer),
    TEST(test_downgrade_lets_in_the_readers_at_the_head),
    TEST(test_upgrade_of_the_only_reader_is_immediate),
    TEST(test_upgrade_waits_in_line),
    TEST(test_two_upgrades_do_not_deadlock),
    TEST(test_ending_with_a_rwlock_held_aborts),
};

FIRN_TEST_MAIN(tests)
