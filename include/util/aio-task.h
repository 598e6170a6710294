/* SPDX-License-Identifier: MIT */
/*
 * AioTaskPool: run up to max_busy tasks at a time, each in a coroutine of its
 * own, and remember the first error.
 *
 * Any number of coroutines may start tasks and wait, also from different
 * AioContexts. A task runs on the context of the coroutine that started it.
 * Waiters for a slot and waiters for the end of all tasks are two kinds; each
 * is woken for its own reason.
 */
#ifndef FIRN_UTIL_AIO_TASK_H
#define FIRN_UTIL_AIO_TASK_H

#include "util/coroutine.h"

typedef struct AioTaskPool AioTaskPool;

/* The body of a task. Returns 0 or a count, or -errno. */
typedef int coroutine_fn AioTaskFunc(void *opaque);

/* A pool that runs at most @max_busy >= 1 tasks at once. */
AioTaskPool *aio_task_pool_new(unsigned max_busy);

/*
 * Free @pool; NULL is allowed. Aborts with a message unless it is idle: no
 * task runs, and no coroutine is inside a function that waits on @pool.
 */
void aio_task_pool_free(AioTaskPool *pool);

/*
 * Wait for a free slot, then run @func(@opaque) in a new coroutine until it
 * first yields. Starts it even when an earlier task has failed. However many
 * callers wait, no more than max_busy tasks run.
 */
void coroutine_fn aio_task_pool_start(AioTaskPool *pool, AioTaskFunc *func,
                                      void *opaque);

/*
 * The same, but when a task has failed before the slot is taken, start nothing
 * and return that error. Returns 0 once the task has been started.
 */
int coroutine_fn aio_task_pool_start_unless_failed(AioTaskPool *pool,
                                                   AioTaskFunc *func,
                                                   void *opaque);

/*
 * Wait until a slot is free. It is not reserved: with several coroutines that
 * start tasks another one may have it first.
 */
void coroutine_fn aio_task_pool_wait_slot(AioTaskPool *pool);

/* Wait until one of the running tasks ends; return at once if none runs. */
void coroutine_fn aio_task_pool_wait_one(AioTaskPool *pool);

/* Wait until no task runs. */
void coroutine_fn aio_task_pool_wait_all(AioTaskPool *pool);

/* The first error that a task returned, or 0. Any thread. */
int aio_task_pool_status(AioTaskPool *pool);

/* True when no task runs. Any thread. */
bool aio_task_pool_empty(AioTaskPool *pool);

/* Number of tasks that run, 0..max_busy. Any thread. */
unsigned aio_task_pool_busy(AioTaskPool *pool);

#endif
