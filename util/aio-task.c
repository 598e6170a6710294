/* SPDX-License-Identifier: MIT */
/*
 * AioTaskPool: a counter of running tasks, and queues of coroutines that wait
 * for it to change.
 *
 *   slot   waits for busy < max_busy. One is woken when a task ends. Whoever
 *          leaves this wait while there is still a free slot wakes the next
 *          one, so a wake-up that its receiver did not use is passed on.
 *   one    waits for any task to end. All are woken when a task ends.
 *   idle   waits for busy == 0. All are woken when the last task ends.
 *
 * Between a wake-up and the moment at which the woken coroutine runs, another
 * one may take the slot: every wait checks its condition again.
 *
 * The last thing a task does with the pool is to unlock it, so a waiter may
 * free the pool as soon as it has seen what it waited for.
 */
#include "util/aio-task.h"
#include "util/co-lock.h"
#include "util/coroutine-int.h"
#include "util/plant.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct AioTaskPool {
    unsigned max_busy;          /* const */

    CoMutex lock;               /* guards what follows */
    atomic_uint busy;           /* tasks that run; written under lock */
    atomic_int status;          /* first error; written under lock */
    unsigned waiting;           /* coroutines between wait_begin and _end */
    uint64_t ended;             /* tasks that have ended, ever */
    CoQueue slot;
    CoQueue one;
    CoQueue idle;
};

/* What a task needs to start; on the stack of the one that starts it. */
typedef struct AioTask {
    AioTaskPool *pool;
    AioTaskFunc *func;
    void *opaque;
} AioTask;

AioTaskPool *aio_task_pool_new(unsigned max_busy)
{
    AioTaskPool *pool = g_new0(AioTaskPool, 1);

    assert(max_busy > 0);
    pool->max_busy = max_busy;
    co_mutex_init(&pool->lock);
    atomic_init(&pool->busy, 0);
    atomic_init(&pool->status, 0);
    co_queue_init(&pool->slot);
    co_queue_init(&pool->one);
    co_queue_init(&pool->idle);
    return pool;
}

/* The queues may be empty while coroutines woken from them have yet to run. */
static bool pool_is_idle(AioTaskPool *pool)
{
    if (PLANTED(S4_EMPTY_CHECK_NEVER_FAILS)) {
        return pool->max_busy > 0;     /* true of every pool */
    }
    return aio_task_pool_busy(pool) == 0 && pool->waiting == 0;
}

void aio_task_pool_free(AioTaskPool *pool)
{
    if (!pool) {
        return;
    }
    if (!pool_is_idle(pool)) {
        fprintf(stderr, "firn: task pool %p freed with %u task(s) running "
                "and %u coroutine(s) waiting\n", (void *)pool,
                aio_task_pool_busy(pool), pool->waiting);
        abort();
    }
    co_mutex_destroy(&pool->lock);
    g_free(pool);
}

/* -- The end of a task ---------------------------------------------------- */

static void coroutine_fn wake_waiters(AioTaskPool *pool) REQUIRES(pool->lock)
{
    if (PLANTED(S4_ONE_KIND_OF_WAITER)) {
        co_queue_next(&pool->slot);
        return;
    }
    co_queue_next(&pool->slot);
    co_queue_restart_all(&pool->one);
    if (aio_task_pool_busy(pool) == 0) {
        co_queue_restart_all(&pool->idle);
    }
}

static void coroutine_fn task_done(AioTaskPool *pool, int ret)
    EXCLUDES(pool->lock)
{
    co_mutex_lock(&pool->lock);
    if (ret < 0 && aio_task_pool_status(pool) == 0) {
        atomic_store_explicit(&pool->status, ret, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_relaxed);
    pool->ended++;
    wake_waiters(pool);
    co_mutex_unlock(&pool->lock);
}

/* The starter's stack, and with it @opaque, is valid until the first yield. */
static void coroutine_fn task_entry(void *opaque)
{
    AioTask task = *(AioTask *)opaque;

    task_done(task.pool, task.func(task.opaque));
}

/* -- Waiting -------------------------------------------------------------- */

static void coroutine_fn pool_wait(AioTaskPool *pool, CoQueue *q)
    REQUIRES(pool->lock) DROPS(pool->lock)
{
    pool->waiting++;
    if (PLANTED(S4_ONE_KIND_OF_WAITER)) {
        q = &pool->slot;
    }
    co_queue_wait(q, &pool->lock);
    pool->waiting--;
}

static bool pool_is_full(AioTaskPool *pool)
{
    return aio_task_pool_busy(pool) >= pool->max_busy;
}

static void coroutine_fn wait_slot_locked(AioTaskPool *pool)
    REQUIRES(pool->lock) DROPS(pool->lock)
{
    if (PLANTED(S4_POOL_OVER_LIMIT)) {
        if (pool_is_full(pool)) {
            pool_wait(pool, &pool->slot);
        }
        return;
    }
    while (pool_is_full(pool)) {
        pool_wait(pool, &pool->slot);
    }
}

/* The caller is past its wait for a slot: the next one may be due as well. */
static void pass_on_slot(AioTaskPool *pool) REQUIRES(pool->lock)
{
    if (!pool_is_full(pool)) {
        co_queue_next(&pool->slot);
    }
}

void coroutine_fn aio_task_pool_wait_slot(AioTaskPool *pool)
{
    co_mutex_lock(&pool->lock);
    wait_slot_locked(pool);
    pass_on_slot(pool);
    co_mutex_unlock(&pool->lock);
}

void coroutine_fn aio_task_pool_wait_one(AioTaskPool *pool)
{
    uint64_t ended;

    co_mutex_lock(&pool->lock);
    ended = pool->ended;
    while (!aio_task_pool_empty(pool) && pool->ended == ended) {
        pool_wait(pool, &pool->one);
    }
    co_mutex_unlock(&pool->lock);
}

void coroutine_fn aio_task_pool_wait_all(AioTaskPool *pool)
{
    co_mutex_lock(&pool->lock);
    while (!aio_task_pool_empty(pool)) {
        pool_wait(pool, &pool->idle);
    }
    co_mutex_unlock(&pool->lock);
}

/* -- Starting ------------------------------------------------------------- */

/* Take a slot; with @unless_failed only if no task has failed before that. */
static int coroutine_fn take_slot(AioTaskPool *pool, bool unless_failed)
    EXCLUDES(pool->lock)
{
    int ret = 0;

    co_mutex_lock(&pool->lock);
    wait_slot_locked(pool);
    if (unless_failed) {
        ret = aio_task_pool_status(pool);
    }
    if (ret == 0) {
        atomic_fetch_add_explicit(&pool->busy, 1, memory_order_relaxed);
    }
    pass_on_slot(pool);
    co_mutex_unlock(&pool->lock);
    return ret;
}

static void start_task(AioTaskPool *pool, AioTaskFunc *func, void *opaque)
{
    AioTask task = { .pool = pool, .func = func, .opaque = opaque };
    Coroutine *co = co_create(task_entry, &task);

    co_set_name(co, "task");
    co_enter(co);
}

void coroutine_fn aio_task_pool_start(AioTaskPool *pool, AioTaskFunc *func,
                                      void *opaque)
{
    take_slot(pool, false);
    start_task(pool, func, opaque);
}

int coroutine_fn aio_task_pool_start_unless_failed(AioTaskPool *pool,
                                                   AioTaskFunc *func,
                                                   void *opaque)
{
    int ret = take_slot(pool, true);

    if (ret == 0) {
        start_task(pool, func, opaque);
    }
    return ret;
}

/* -- State ---------------------------------------------------------------- */

int aio_task_pool_status(AioTaskPool *pool)
{
    return atomic_load_explicit(&pool->status, memory_order_relaxed);
}

bool aio_task_pool_empty(AioTaskPool *pool)
{
    return aio_task_pool_busy(pool) == 0;
}

unsigned aio_task_pool_busy(AioTaskPool *pool)
{
    return atomic_load_explicit(&pool->busy, memory_order_relaxed);
}
