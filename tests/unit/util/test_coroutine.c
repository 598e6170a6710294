/* SPDX-License-Identifier: MIT */
/*
 * Coroutines by themselves: control flow, what a switch preserves, threads,
 * reuse of stacks, and the mistakes that abort.
 */
#include "tests/support/test_main.h"
#include "tests/support/expect_abort.h"

#include "util/co-lock.h"
#include "util/coroutine-int.h"
#include "util/coroutine.h"

#include <fenv.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* What ran, in order, as letters. */
static char trace[64];

static void note(char what)
{
    size_t len = strlen(trace);

    assert_true(len + 1 < sizeof(trace));
    trace[len] = what;
    trace[len + 1] = '\0';
}

static int reset_trace(void **state)
{
    trace[0] = '\0';
    return 0;
}

/* -- Control flow --------------------------------------------------------- */

static void coroutine_fn two_steps(void *opaque)
{
    const char *letters = opaque;

    note(letters[0]);
    co_yield();
    note(letters[1]);
}

/*
 *  main          A        B
 *  enter A       a
 *                yield
 *  enter B                b
 *                         yield
 *  enter A       c, end
 *  enter B                d, end
 */
static void test_enter_runs_until_yield_or_end(void **state)
{
    Coroutine *a = co_create(two_steps, "ac");
    Coroutine *b = co_create(two_steps, "bd");

    assert_string_equal(trace, "");
    co_enter(a);
    assert_string_equal(trace, "a");
    co_enter(b);
    assert_string_equal(trace, "ab");
    co_enter(a);
    assert_string_equal(trace, "abc");
    co_enter(b);
    assert_string_equal(trace, "abcd");
}

static void coroutine_fn outer(void *opaque)
{
    Coroutine *inner = co_create(two_steps, "bd");

    note('a');
    co_enter(inner);
    note('c');
    co_yield();
    co_enter(inner);
    note('e');
}

/* A coroutine enters another: each yield goes back to its own enterer. */
static void test_coroutines_nest(void **state)
{
    Coroutine *co = co_create(outer, NULL);

    co_enter(co);
    assert_string_equal(trace, "abc");
    co_enter(co);
    assert_string_equal(trace, "abcde");
}

static void coroutine_fn remember_self(void *opaque)
{
    Coroutine **ret_self = opaque;

    ret_self[0] = co_self();
    ret_self[1] = co_in_coroutine() ? co_self() : NULL;
    co_yield();
    ret_self[2] = co_self();
}

static void test_self_is_the_running_coroutine(void **state)
{
    Coroutine *seen[3] = { NULL };
    Coroutine *co = co_create(remember_self, seen);

    assert_null(co_self());
    assert_false(co_in_coroutine());
    co_enter(co);
    assert_null(co_self());
    co_enter(co);

    assert_ptr_equal(seen[0], co);
    assert_ptr_equal(seen[1], co);
    assert_ptr_equal(seen[2], co);
}

static void test_name_is_for_messages(void **state)
{
    Coroutine *co = co_create(two_steps, "ab");

    assert_string_equal(co_name(co), "unnamed");
    co_set_name(co, "reader");
    assert_string_equal(co_name(co), "reader");
    co_enter(co);
    co_enter(co);
}

static void test_home_is_null_without_a_context(void **state)
{
    Coroutine *co = co_create(two_steps, "ab");

    co_enter(co);
    assert_null(co_home(co));
    co_enter(co);
}

/* -- What a switch preserves ---------------------------------------------- */

/* More values than there are callee-saved registers, alive over a yield. */
static __attribute__((noinline))
uint64_t coroutine_fn mix(uint64_t seed, void (*pause)(void))
{
    uint64_t v[16];
    double d[10];
    double sum = 0;

    for (unsigned i = 0; i < 16; i++) {
        v[i] = seed * (2 * i + 1);
    }
    for (unsigned i = 0; i < 10; i++) {
        d[i] = (double)(seed % 1000) + i;
    }
    for (unsigned round = 0; round < 20; round++) {
        uint64_t a = v[0], b = v[1], c = v[2], e = v[3], f = v[4], g = v[5];
        double x = d[0], y = d[1], z = d[2], w = d[3];

        pause();
        v[round % 16] += a ^ (b + c) ^ (e - f) ^ g;
        d[round % 10] += x - y + z - w;
    }
    for (unsigned i = 0; i < 16; i++) {
        seed ^= v[i];
    }
    for (unsigned i = 0; i < 10; i++) {
        sum += d[i];
    }
    return seed + (uint64_t)(int64_t)sum;
}

static void no_pause(void)
{
}

static void coroutine_fn mix_entry(void *opaque)
{
    uint64_t *value = opaque;

    *value = mix(*value, co_yield);
}

static void test_registers_survive_a_switch(void **state)
{
    enum { N = 7 };
    uint64_t value[N];
    Coroutine *co[N];

    for (unsigned i = 0; i < N; i++) {
        value[i] = 1234567 * (i + 1);
        co[i] = co_create(mix_entry, &value[i]);
    }
    for (unsigned round = 0; round < 21; round++) {
        for (unsigned i = 0; i < N; i++) {
            co_enter(co[i]);
        }
    }
    for (unsigned i = 0; i < N; i++) {
        assert_true(value[i] == mix(1234567 * (i + 1), no_pause));
    }
}

static unsigned sse_rounding(void)
{
#if defined(__x86_64__)
    return _MM_GET_ROUNDING_MODE();
#else
    return 0;
#endif
}

typedef struct Rounding {
    int x87[2];
    unsigned sse[2];
} Rounding;

static void coroutine_fn round_upward(void *opaque)
{
    Rounding *r = opaque;

    fesetround(FE_UPWARD);
    r->x87[0] = fegetround();
    r->sse[0] = sse_rounding();
    co_yield();
    r->x87[1] = fegetround();
    r->sse[1] = sse_rounding();
}

static void test_rounding_mode_belongs_to_the_coroutine(void **state)
{
    Rounding r;
    unsigned sse = sse_rounding();
    Coroutine *co = co_create(round_upward, &r);

    co_enter(co);
    assert_int_equal(fegetround(), FE_TONEAREST);
    assert_int_equal(sse_rounding(), sse);
    fesetround(FE_DOWNWARD);
    co_enter(co);
    assert_int_equal(fegetround(), FE_DOWNWARD);
    fesetround(FE_TONEAREST);

    assert_int_equal(r.x87[0], FE_UPWARD);
    assert_int_equal(r.x87[1], FE_UPWARD);
    assert_int_equal(r.sse[0], r.sse[1]);
}

static __attribute__((noinline)) unsigned use_stack(void)
{
    volatile uint8_t bytes[192 * 1024];
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof(bytes); i += 512) {
        bytes[i] = (uint8_t)(i / 512);
    }
    for (size_t i = 0; i < sizeof(bytes); i += 512) {
        sum += bytes[i];
    }
    return sum;
}

static void coroutine_fn use_stack_entry(void *opaque)
{
    *(unsigned *)opaque = use_stack();
}

static void test_most_of_256_kib_of_stack_is_usable(void **state)
{
    unsigned sum = 0;

    co_enter(co_create(use_stack_entry, &sum));
    assert_int_equal(sum, use_stack());
}

/* -- Life, stacks, threads ------------------------------------------------ */

static void test_live_count_follows_create_and_end(void **state)
{
    unsigned before = co_live_count();
    Coroutine *co = co_create(two_steps, "ab");

    assert_int_equal(co_live_count(), before + 1);
    co_enter(co);
    assert_int_equal(co_live_count(), before + 1);
    co_enter(co);
    assert_int_equal(co_live_count(), before);
}

static void test_stack_of_an_ended_coroutine_is_reused(void **state)
{
    Coroutine *first = co_create(two_steps, "ab");
    Coroutine *second;

    co_enter(first);
    co_enter(first);
    second = co_create(two_steps, "cd");

    assert_ptr_equal(first, second);
    co_enter(second);
    co_enter(second);
    assert_string_equal(trace, "abcd");
}

static void coroutine_fn count_twice(void *opaque)
{
    unsigned *count = opaque;

    ++*count;
    co_yield();
    ++*count;
}

/* More than the pool keeps. */
static void test_many_coroutines_live_at_once(void **state)
{
    enum { N = 3 * CO_POOL_MAX };
    Coroutine *co[N];
    unsigned count = 0, before = co_live_count();

    for (unsigned i = 0; i < N; i++) {
        co[i] = co_create(count_twice, &count);
        co_enter(co[i]);
    }
    assert_int_equal(co_live_count(), before + N);
    for (unsigned i = 0; i < N; i++) {
        co_enter(co[i]);
    }
    assert_int_equal(count, 2 * N);
    assert_int_equal(co_live_count(), before);
}

typedef struct Move {
    Coroutine *co;
    pthread_t seen[3];
    Coroutine *self[3];
} Move;

/*
 * pthread_self() is declared const, so a compiler takes its first value for
 * good: the very trap that thread-locals are in coroutines.
 */
static __attribute__((noinline)) pthread_t this_thread(void)
{
    __asm__ volatile("");
    return pthread_self();
}

static void coroutine_fn move_entry(void *opaque)
{
    Move *m = opaque;

    for (unsigned i = 0; i < 3; i++) {
        m->seen[i] = this_thread();
        m->self[i] = co_self();
        if (i < 2) {
            co_yield();
        }
    }
}

static void *enter_in_thread(void *opaque)
{
    Move *m = opaque;

    assert_null(co_self());
    co_enter(m->co);
    assert_null(co_self());
    return NULL;
}

/*
 *  main thread    thread 1      thread 2
 *  enter, yield
 *                 enter, yield
 *                               enter, end
 */
static void test_coroutine_moves_between_threads(void **state)
{
    Move m;
    pthread_t thread[2];
    unsigned before = co_live_count();

    m.co = co_create(move_entry, &m);
    co_enter(m.co);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, enter_in_thread,
                                        &m), 0);
        pthread_join(thread[i], NULL);
    }

    assert_true(pthread_equal(m.seen[0], pthread_self()));
    assert_true(pthread_equal(m.seen[1], thread[0]));
    assert_true(pthread_equal(m.seen[2], thread[1]));
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_equal(m.self[i], m.co);
    }
    assert_int_equal(co_live_count(), before);
}

static void *churn(void *opaque)
{
    unsigned *count = opaque;

    for (unsigned i = 0; i < 2000; i++) {
        Coroutine *co[3];

        for (unsigned j = 0; j < 3; j++) {
            co[j] = co_create(count_twice, count);
            co_enter(co[j]);
        }
        for (unsigned j = 0; j < 3; j++) {
            co_enter(co[j]);
        }
    }
    return NULL;
}

static void test_threads_do_not_share_pools(void **state)
{
    enum { N = 4 };
    pthread_t thread[N];
    unsigned count[N] = { 0 };
    unsigned before = co_live_count();

    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, churn, &count[i]),
                         0);
    }
    for (unsigned i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(count[i], 2 * 3 * 2000);
    }
    assert_int_equal(co_live_count(), before);
}

/* -- Mistakes ------------------------------------------------------------- */

static void coroutine_fn enter_self(void *opaque)
{
    co_set_name(co_self(), "snake");
    co_enter(co_self());
}

static void die_entering_self(void)
{
    co_enter(co_create(enter_self, NULL));
}

static void coroutine_fn enter_given(void *opaque)
{
    co_enter(opaque);
}

static void coroutine_fn enter_child_that_enters_us(void *opaque)
{
    co_set_name(co_self(), "parent");
    co_enter(co_create(enter_given, co_self()));
}

static void die_entering_enterer(void)
{
    co_enter(co_create(enter_child_that_enters_us, NULL));
}

static void test_entering_a_running_coroutine_aborts(void **state)
{
    expect_abort(die_entering_self,
                 "coroutine 'snake' (0x");
    expect_abort(die_entering_self, "entered while it is running");
    expect_abort(die_entering_enterer, "coroutine 'parent' (0x");
}

static void die_entering_ended(void)
{
    Coroutine *co = co_create(two_steps, "ab");

    co_set_name(co, "ghost");
    for (unsigned i = 0; i < 3; i++) {
        co_enter(co);
    }
}

static void test_entering_an_ended_coroutine_aborts(void **state)
{
    expect_abort(die_entering_ended, "entered after its end");
}

static NO_TSA void coroutine_fn end_with_mutex(void *opaque)
{
    CoMutex *m = opaque;

    co_set_name(co_self(), "careless");
    co_mutex_lock(m);
}

static void die_ending_with_mutex(void)
{
    CoMutex m;

    co_mutex_init(&m);
    co_enter(co_create(end_with_mutex, &m));
}

static void test_ending_with_a_mutex_held_aborts(void **state)
{
    expect_abort(die_ending_with_mutex, "coroutine 'careless' (0x");
    expect_abort(die_ending_with_mutex, "ended while it holds 1 lock");
}

static void test_yielding_outside_of_a_coroutine_aborts(void **state)
{
    expect_abort(co_yield, "co_yield outside of a coroutine");
}

static __attribute__((noinline)) unsigned recurse(unsigned depth)
{
    volatile uint8_t frame[1024];

    frame[0] = (uint8_t)depth;
    return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

static void coroutine_fn overflow(void *opaque)
{
    *(unsigned *)opaque = recurse(100000);
}

static void die_of_overflow(void)
{
    unsigned sum;

    co_enter(co_create(overflow, &sum));
}

static void test_stack_overflow_hits_the_guard_page(void **state)
{
    char text[4096];
    int status = run_in_child(die_of_overflow, text, sizeof(text));

    /* A sanitizer reports it and exits with an error of its own. */
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    } else {
        assert_int_not_equal(WEXITSTATUS(status), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, reset_trace)

static const struct CMUnitTest tests[] = {
    TEST(test_enter_runs_until_yield_or_end),
    TEST(test_coroutines_nest),
    TEST(test_self_is_the_running_coroutine),
    TEST(test_name_is_for_messages),
    TEST(test_home_is_null_without_a_context),
    TEST(test_registers_survive_a_switch),
    TEST(test_rounding_mode_belongs_to_the_coroutine),
    TEST(test_most_of_256_kib_of_stack_is_usable),
    TEST(test_live_count_follows_create_and_end),
    TEST(test_stack_of_an_ended_coroutine_is_reused),
    TEST(test_many_coroutines_live_at_once),
    TEST(test_coroutine_moves_between_threads),
    TEST(test_threads_do_not_share_pools),
    TEST(test_entering_a_running_coroutine_aborts),
    TEST(test_entering_an_ended_coroutine_aborts),
    TEST(test_ending_with_a_mutex_held_aborts),
    TEST(test_yielding_outside_of_a_coroutine_aborts),
    TEST(test_stack_overflow_hits_the_guard_page),
};

FIRN_TEST_MAIN(tests)
