/* SPDX-License-Identifier: MIT */
/*
 * The locks of co-lock.h and AioTaskPool, contended by coroutines of two
 * AioContexts in two threads. What is checked are invariants, for any
 * schedule; run under TSan this also checks the memory orders.
 *
 * Each test fills a Crew: coroutines that are started on the two contexts in
 * turn, and both loops run until all of them have ended.
 */
#include "tests/support/test_main.h"

#include "util/aio-task.h"
#include "util/aio.h"
#include "util/co-lock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

enum { THREADS = 2, MAX_CREW = 16 };

typedef struct Loop {
    pthread_t thread;
    AioContext *ctx;
} Loop;

static Loop loops[THREADS];
static atomic_uint running;             /* coroutines that have not ended */
static unsigned rounds;                 /* of each coroutine */

typedef struct Member {
    CoroutineEntry *entry;
    unsigned index;
} Member;

static void coroutine_fn member_entry(void *opaque)
{
    Member *member = opaque;

    member->entry(&member->index);
    if (atomic_fetch_sub(&running, 1) == 1) {
        for (unsigned i = 0; i < THREADS; i++) {
            aio_notify(loops[i].ctx);
        }
    }
}

static void *loop_main(void *opaque)
{
    Loop *loop = opaque;

    while (atomic_load(&running) > 0) {
        aio_poll(loop->ctx, true);
    }
    return NULL;
}

/* Run @n coroutines, all of @entry(&index), on the two contexts in turn. */
static void run_crew(CoroutineEntry *entry, unsigned n)
{
    Member members[MAX_CREW];

    assert_true(n <= MAX_CREW);
    atomic_store(&running, n);
    for (unsigned i = 0; i < n; i++) {
        members[i] = (Member) { entry, i };
        aio_co_schedule(loops[i % THREADS].ctx,
                        co_create(member_entry, &members[i]));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&loops[i].thread, NULL, loop_main,
                                        &loops[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(loops[i].thread, NULL);
    }
}

/* Let everything else on this loop run. */
static void coroutine_fn step_back(void)
{
    aio_co_wake(co_self());
    co_yield();
}

static unsigned live_before;

static int setup(void **state)
{
    live_before = co_live_count();
    rounds = getenv("FIRN_TEST_ROUNDS") ?
             (unsigned)atoi(getenv("FIRN_TEST_ROUNDS")) : 3000;
    for (unsigned i = 0; i < THREADS; i++) {
        loops[i].ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
        assert_non_null(loops[i].ctx);
    }
    return 0;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < THREADS; i++) {
        aio_context_unref(loops[i].ctx);
    }
    assert_int_equal(co_live_count(), live_before);
    return 0;
}

/* -- CoMutex -------------------------------------------------------------- */

static CoMutex mutex;
static CoQueue not_empty;
static CoQueue not_full;
static uint64_t counter;                /* mutex */
static unsigned inside;                 /* mutex */

static void coroutine_fn count_up(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds; i++) {
        co_mutex_lock(&mutex);
        assert(inside++ == 0);
        if ((i + index) % 4 == 0) {
            step_back();                /* others pile up meanwhile */
        }
        counter++;
        inside--;
        co_mutex_unlock(&mutex);
        if (i % 16 == 0) {
            step_back();
        }
    }
}

static void test_mutex_excludes_between_threads(void **state)
{
    co_mutex_init(&mutex);
    counter = 0;
    run_crew(count_up, 6);

    assert_true(counter == 6 * (uint64_t)rounds);
    co_mutex_destroy(&mutex);
}

static void coroutine_fn try_up(void *opaque)
{
    for (unsigned i = 0; i < rounds;) {
        if (!co_mutex_trylock(&mutex)) {
            step_back();
            continue;
        }
        counter++;
        co_mutex_unlock(&mutex);
        i++;
    }
}

static void coroutine_fn lock_or_try(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    (index < 2 ? try_up : count_up)(opaque);
}

static void test_trylock_between_threads(void **state)
{
    co_mutex_init(&mutex);
    counter = 0;
    run_crew(lock_or_try, 4);

    assert_true(counter == 4 * (uint64_t)rounds);
    co_mutex_destroy(&mutex);
}

/*
 * The mutex lives in memory that its last holder frees: an unlock in the
 * other thread must not touch it any more (ASan, TSan and valgrind look).
 */
typedef struct Shared {
    CoMutex lock;
    unsigned users;                     /* lock */
} Shared;

static Shared *_Atomic shared[2];

static Shared *shared_get(unsigned slot)
{
    Shared *s, *fresh;

    s = atomic_load(&shared[slot]);
    if (s) {
        return s;
    }
    fresh = g_new0(Shared, 1);
    co_mutex_init(&fresh->lock);
    fresh->users = 2;
    if (atomic_compare_exchange_strong(&shared[slot], &s, fresh)) {
        return fresh;
    }
    g_free(fresh);
    return s;
}

static void coroutine_fn use_and_free(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned slot = i % 2;
        Shared *s = shared_get(slot);
        bool last;

        co_mutex_lock(&s->lock);
        last = --s->users == 0;
        if (index == i % 3) {
            step_back();
        }
        if (last) {
            atomic_store(&shared[slot], NULL);
        }
        co_mutex_unlock(&s->lock);
        if (last) {
            co_mutex_destroy(&s->lock);
            g_free(s);
        } else {
            while (atomic_load(&shared[slot]) == s) {
                sched_yield();
                step_back();
            }
        }
    }
}

static void test_last_holder_may_free_the_mutex(void **state)
{
    run_crew(use_and_free, 2);
    assert_null(atomic_load(&shared[0]));
    assert_null(atomic_load(&shared[1]));
}

/* -- CoQueue: a bounded buffer -------------------------------------------- */

enum { BUFFER = 3 };

static unsigned buffered;               /* mutex */
static uint64_t consumed;               /* mutex */

static void coroutine_fn produce(void)
{
    co_mutex_lock(&mutex);
    while (buffered == BUFFER) {
        co_queue_wait(&not_full, &mutex);
    }
    assert(buffered < BUFFER);
    buffered++;
    co_queue_next(&not_empty);
    co_mutex_unlock(&mutex);
}

static void coroutine_fn consume(void)
{
    co_mutex_lock(&mutex);
    while (buffered == 0) {
        co_queue_wait(&not_empty, &mutex);
    }
    buffered--;
    consumed++;
    co_queue_next(&not_full);
    co_mutex_unlock(&mutex);
}

/* Indexes 0, 1 produce and 2, 3 consume: one of each per thread. */
static void coroutine_fn produce_or_consume(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds; i++) {
        (index < 2 ? produce : consume)();
    }
}

static void test_queue_loses_no_wake_up_between_threads(void **state)
{
    co_mutex_init(&mutex);
    co_queue_init(&not_empty);
    co_queue_init(&not_full);
    consumed = 0;
    run_crew(produce_or_consume, 4);

    assert_int_equal(buffered, 0);
    assert_true(consumed == 2 * (uint64_t)rounds);
    assert_true(co_queue_empty(&not_empty));
    assert_true(co_queue_empty(&not_full));
    co_mutex_destroy(&mutex);
}

/* All wait for the next generation; the last to come wakes all. */
static unsigned arrived, generation;    /* mutex */

static void coroutine_fn barrier(void *opaque)
{
    for (unsigned i = 0; i < rounds / 4; i++) {
        co_mutex_lock(&mutex);
        assert(generation == i);
        if (++arrived == 5) {
            arrived = 0;
            generation++;
            co_queue_restart_all(&not_empty);
        } else {
            while (generation == i) {
                co_queue_wait(&not_empty, &mutex);
            }
        }
        co_mutex_unlock(&mutex);
    }
}

static void test_restart_all_between_threads(void **state)
{
    co_mutex_init(&mutex);
    co_queue_init(&not_empty);
    arrived = generation = 0;
    run_crew(barrier, 5);

    assert_int_equal(generation, rounds / 4);
    co_mutex_destroy(&mutex);
}

/* -- CoRwlock ------------------------------------------------------------- */

static CoRwlock rwlock;
static uint64_t first, second;          /* rwlock; equal unless written */

static void coroutine_fn read_both(bool slowly)
{
    uint64_t seen;

    co_rwlock_rdlock(&rwlock);
    seen = first;
    if (slowly) {
        step_back();
    }
    assert(second == seen);
    co_rwlock_unlock(&rwlock);
}

static void coroutine_fn write_both(bool slowly, bool downgrade)
{
    uint64_t seen;

    co_rwlock_wrlock(&rwlock);
    seen = ++first;
    if (slowly) {
        step_back();
    }
    second++;
    if (downgrade) {
        co_rwlock_downgrade(&rwlock);
        assert(first == seen && second == seen);
    }
    co_rwlock_unlock(&rwlock);
}

static void coroutine_fn upgrade_and_write(void)
{
    co_rwlock_rdlock(&rwlock);
    assert(first == second);
    co_rwlock_upgrade(&rwlock);
    first++;
    second++;
    co_rwlock_unlock(&rwlock);
}

static void coroutine_fn read_and_write(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds; i++) {
        if (i % 5 == index % 5) {
            write_both(i % 2, i % 3 == 0);
        } else if (i % 7 == index) {
            upgrade_and_write();
        } else {
            read_both(i % 4 == 0);
        }
    }
}

static void test_rwlock_between_threads(void **state)
{
    co_rwlock_init(&rwlock);
    first = second = 0;
    run_crew(read_and_write, 6);

    assert_true(first == second);
    assert_true(first > 0);
    co_rwlock_destroy(&rwlock);
}

/* -- AioTaskPool ---------------------------------------------------------- */

static AioTaskPool *pool;
static atomic_uint tasks_running, tasks_most, tasks_ended;

static int coroutine_fn pool_task(void *opaque)
{
    unsigned now = atomic_fetch_add(&tasks_running, 1) + 1;
    unsigned most = atomic_load(&tasks_most);

    while (now > most &&
           !atomic_compare_exchange_weak(&tasks_most, &most, now)) {
        continue;
    }
    for (uintptr_t i = (uintptr_t)opaque % 3; i > 0; i--) {
        step_back();
    }
    atomic_fetch_sub(&tasks_running, 1);
    atomic_fetch_add(&tasks_ended, 1);
    return 0;
}

static void coroutine_fn start_tasks(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds / 4; i++) {
        aio_task_pool_start(pool, pool_task, (void *)(uintptr_t)i);
        if (i % 32 == index) {
            aio_task_pool_wait_slot(pool);
        } else if (i % 32 == index + 8) {
            aio_task_pool_wait_one(pool);
        } else if (i % 32 == index + 16) {
            aio_task_pool_wait_all(pool);
        }
    }
    aio_task_pool_wait_all(pool);
}

static void run_pool(unsigned max_busy)
{
    pool = aio_task_pool_new(max_busy);
    atomic_store(&tasks_most, 0);
    atomic_store(&tasks_ended, 0);
    run_crew(start_tasks, 6);

    assert_int_equal(atomic_load(&tasks_ended), 6 * (rounds / 4));
    assert_true(atomic_load(&tasks_most) <= max_busy);
    assert_int_equal(aio_task_pool_status(pool), 0);
    aio_task_pool_free(pool);
}

static void test_s4_pool_over_limit_with_callers_in_two_threads(void **state)
{
    alarm(FIRN_TEST_HANG);
    run_pool(3);
    alarm(firn_test_timeout());
}

static void test_s4_one_kind_of_waiter_hangs_no_thread(void **state)
{
    alarm(FIRN_TEST_HANG);
    run_pool(1);
    alarm(firn_test_timeout());
}

/* Who waited for the end frees the pool while the last task is unlocking. */
static AioTaskPool *_Atomic handed;

static int coroutine_fn short_task(void *opaque)
{
    step_back();
    return -EIO;
}

static void coroutine_fn start_or_free(void *opaque)
{
    unsigned index = *(unsigned *)opaque;

    for (unsigned i = 0; i < rounds / 4; i++) {
        if (index == 0) {
            AioTaskPool *p = aio_task_pool_new(1);

            aio_task_pool_start(p, short_task, NULL);
            atomic_store(&handed, p);
            while (atomic_load(&handed)) {
                sched_yield();
                step_back();
            }
        } else {
            AioTaskPool *p;

            while (!(p = atomic_load(&handed))) {
                sched_yield();
                step_back();
            }
            aio_task_pool_wait_all(p);
            assert(aio_task_pool_status(p) == -EIO);
            aio_task_pool_free(p);
            atomic_store(&handed, NULL);
        }
    }
}

static void test_waiter_in_another_thread_may_free_the_pool(void **state)
{
    run_crew(start_or_free, 2);
}

/* -- Moving --------------------------------------------------------------- */

static void move_now(void *opaque)
{
    Coroutine *co = opaque;
    AioContext *there = loops[co_home(co) == loops[0].ctx].ctx;

    aio_co_schedule(there, co);
}

/* The bottom half runs after the yield, and so may send @co elsewhere. */
static void coroutine_fn wander(void *opaque)
{
    co_mutex_lock(&mutex);
    for (unsigned i = 0; i < rounds / 8; i++) {
        AioContext *here = co_home(co_self());

        assert(aio_get_current() == here);
        aio_bh_schedule_oneshot(here, move_now, co_self());
        co_yield();
        assert(co_home(co_self()) != here);
        assert(aio_get_current() != here);
        counter++;
        if (i % 8 == 7) {
            co_mutex_unlock(&mutex);
            co_mutex_lock(&mutex);
        }
    }
    co_mutex_unlock(&mutex);
}

/* A CoMutex belongs to the coroutine and moves with it. */
static void test_coroutines_move_between_contexts(void **state)
{
    co_mutex_init(&mutex);
    counter = 0;
    run_crew(wander, 4);

    assert_true(counter == 4 * (uint64_t)(rounds / 8));
    co_mutex_destroy(&mutex);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_mutex_excludes_between_threads),
    TEST(test_trylock_between_threads),
    TEST(test_last_holder_may_free_the_mutex),
    TEST(test_queue_loses_no_wake_up_between_threads),
    TEST(test_restart_all_between_threads),
    TEST(test_rwlock_between_threads),
    TEST(test_s4_pool_over_limit_with_callers_in_two_threads),
    TEST(test_s4_one_kind_of_waiter_hangs_no_thread),
    TEST(test_waiter_in_another_thread_may_free_the_pool),
    TEST(test_coroutines_move_between_contexts),
};

FIRN_TEST_MAIN(tests)
