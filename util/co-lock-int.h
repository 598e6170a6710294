/* SPDX-License-Identifier: MIT */
/* What co-mutex.c, co-queue.c and co-rwlock.c share: waiters and the spin. */
#ifndef FIRN_UTIL_CO_LOCK_INT_H
#define FIRN_UTIL_CO_LOCK_INT_H

#include "util/co-lock.h"
#include "util/coroutine-int.h"

#include <sched.h>

/*
 * On the stack of the coroutine that waits. Whoever takes a waiter off its
 * list reads @next first and calls co_wake(w->co) last: the coroutine may go
 * on at once in another thread, and the waiter is gone then.
 */
struct CoWaiter {
    Coroutine *co;
    CoWaiter *next;
    int kind;                   /* the lock's own */
};

static inline void co_waiters_init(CoWaiters *list)
{
    list->first = NULL;
    list->tail = &list->first;
}

static inline void co_waiters_append(CoWaiters *list, CoWaiter *w)
{
    w->next = NULL;
    *list->tail = w;
    list->tail = &w->next;
}

/* Take the first waiter off the list; NULL when there is none. */
static inline CoWaiter *co_waiters_pop(CoWaiters *list)
{
    CoWaiter *w = list->first;

    if (w) {
        list->first = w->next;
        if (!list->first) {
            list->tail = &list->first;
        }
    }
    return w;
}

/* Wake a chain of waiters that are off their list, in order. */
static inline void co_waiters_wake_chain(CoWaiter *w)
{
    while (w) {
        CoWaiter *next = w->next;

        co_wake(w->co);
        w = next;
    }
}

static inline void co_spin_init(CoSpin *spin)
{
    atomic_init(&spin->taken, false);
}

/* Held for a few instructions: long spinning means its holder is preempted. */
static inline void co_spin_lock(CoSpin *spin)
{
    unsigned tries = 0;

    while (atomic_exchange_explicit(&spin->taken, true,
                                    memory_order_acquire)) {
        if (++tries % 64 == 0) {
            sched_yield();
        }
    }
}

static inline void co_spin_unlock(CoSpin *spin)
{
    atomic_store_explicit(&spin->taken, false, memory_order_release);
}

#endif
