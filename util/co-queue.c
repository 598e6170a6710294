/* SPDX-License-Identifier: MIT */
/*
 * CoQueue: coroutines that wait until somebody says that a condition may have
 * changed. The condition and the CoMutex that guards it are the caller's.
 *
 * The list has a spin lock of its own, so that it stays whole even where the
 * callers are on several threads and use no CoMutex.
 */
#include "util/co-lock-int.h"

#include <assert.h>

void co_queue_init(CoQueue *q)
{
    co_spin_init(&q->spin);
    co_waiters_init(&q->waiters);
}

NO_TSA void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m)
{
    CoWaiter w = { .co = co_self() };

    assert(w.co);
    if (m) {
        co_mutex_assert_locked(m);
    }
    co_spin_lock(&q->spin);
    co_waiters_append(&q->waiters, &w);
    co_spin_unlock(&q->spin);

    /* Listed before m is released: whoever changes the condition sees us. */
    if (m) {
        co_mutex_unlock(m);
    }
    co_yield();
    if (m) {
        co_mutex_lock(m);
    }
}

bool co_queue_next(CoQueue *q)
{
    CoWaiter *w;

    co_spin_lock(&q->spin);
    w = co_waiters_pop(&q->waiters);
    co_spin_unlock(&q->spin);
    if (!w) {
        return false;
    }
    co_wake(w->co);
    return true;
}

void co_queue_restart_all(CoQueue *q)
{
    CoWaiter *chain;

    co_spin_lock(&q->spin);
    chain = q->waiters.first;
    co_waiters_init(&q->waiters);
    co_spin_unlock(&q->spin);
    co_waiters_wake_chain(chain);
}

bool co_queue_empty(CoQueue *q)
{
    bool empty;

    co_spin_lock(&q->spin);
    empty = !q->waiters.first;
    co_spin_unlock(&q->spin);
    return empty;
}
