/* SPDX-License-Identifier: MIT */
/*
 * Locks that stop a coroutine and not its thread: CoMutex, CoQueue, CoRwlock.
 *
 * All of them may be shared by coroutines on different AioContexts in
 * different threads. A waiting coroutine is woken through aio_co_wake(), so it
 * goes on from the loop of its home context and never inside the call that
 * woke it. Waiters are served in the order in which they came.
 *
 * A coroutine without a home (its thread has no current AioContext, as in a
 * unit test) is entered directly when it is woken outside of coroutines, and
 * when it is woken by a coroutine, as soon as that one yields or ends. Such
 * coroutines share locks within their own thread only.
 *
 * Types are here so that they can be embedded; their members are private.
 */
#ifndef FIRN_UTIL_CO_LOCK_H
#define FIRN_UTIL_CO_LOCK_H

#include "util/coroutine.h"

#include <stdatomic.h>

/* A coroutine that waits; lives on its stack. */
typedef struct CoWaiter CoWaiter;

/* FIFO of waiters. */
typedef struct CoWaiters {
    CoWaiter *first;
    CoWaiter **tail;            /* where the next one is linked */
} CoWaiters;

/* Guards waiter lists for a few instructions; never held over a yield. */
typedef struct CoSpin {
    atomic_bool taken;
} CoSpin;

/* -- CoMutex ------------------------------------------------------------- */

typedef struct CAPABILITY("CoMutex") CoMutex {
    atomic_uint state;              /* see co-mutex.c */
    CoSpin spin;                    /* guards waiters */
    _Atomic(Coroutine *) holder;    /* NULL: free, or being handed over */
    CoWaiters waiters;
} CoMutex;

void co_mutex_init(CoMutex *m);

/* Asserts that nobody holds @m or waits for it. */
void co_mutex_destroy(CoMutex *m);

/*
 * Take @m, waiting in line until it is free. Not recursive: aborts with a
 * message when the caller holds it already. Uncontended: one atomic operation.
 */
void coroutine_fn co_mutex_lock(CoMutex *m) ACQUIRE(m);

/* Take @m if it is free; never waits. Returns whether it was taken. */
bool coroutine_fn co_mutex_trylock(CoMutex *m) TRY_ACQUIRE(true, m);

/*
 * Give @m back; the first waiter, if any, owns it from this moment. Aborts
 * with a message when the caller does not hold it. Does not yield. Once
 * another coroutine owns @m, it may free it: unlock does not touch it again.
 */
void coroutine_fn co_mutex_unlock(CoMutex *m) RELEASE(m);

/* Abort unless the running coroutine holds @m. */
void coroutine_fn co_mutex_assert_locked(CoMutex *m) ASSERT_HELD(m);

/* -- CoQueue ------------------------------------------------------------- */

/*
 * Coroutines that wait for a condition. Wakers and waiters hold the CoMutex
 * that guards the condition, or all run in one thread. Waiters check the
 * condition again after each wait, in a loop: others may run in between.
 */
typedef struct CoQueue {
    CoSpin spin;                    /* guards waiters */
    CoWaiters waiters;
} CoQueue;

void co_queue_init(CoQueue *q);

/*
 * Wait at the end of @q until woken. @m, when not NULL, is held by the caller;
 * it is released while waiting and held again on return.
 */
void coroutine_fn co_queue_wait(CoQueue *q, CoMutex *m) DROPS(m);

/* Wake the first waiter. Returns false if there was none. Never yields. */
bool co_queue_next(CoQueue *q);

/* Wake all that wait now, in order. Never yields. */
void co_queue_restart_all(CoQueue *q);

/* True when nobody waits. */
bool co_queue_empty(CoQueue *q);

/* -- CoRwlock ------------------------------------------------------------ */

/*
 * Many readers or one writer, in the order in which they came: a reader that
 * comes after a waiting writer waits behind it. Not recursive. The coroutine
 * that takes it is the one that releases it.
 */
typedef struct CoRwlock {
    CoSpin spin;                    /* guards the rest */
    int owners;                     /* > 0: readers; -1: a writer; 0: free */
    CoWaiters waiters;
} CoRwlock;

void co_rwlock_init(CoRwlock *lock);

/* Asserts that nobody holds @lock or waits for it. */
void co_rwlock_destroy(CoRwlock *lock);

/* Take @lock shared; may yield. */
void coroutine_fn co_rwlock_rdlock(CoRwlock *lock);

/* Take @lock exclusively; may yield. */
void coroutine_fn co_rwlock_wrlock(CoRwlock *lock);

/* Release @lock, however it is held. Does not yield. */
void coroutine_fn co_rwlock_unlock(CoRwlock *lock);

/*
 * From writer to reader without letting a writer in between. Readers that
 * wait at the head of the line are let in. Does not yield.
 */
void coroutine_fn co_rwlock_downgrade(CoRwlock *lock);

/*
 * From reader to writer. When others hold @lock or wait for it, it is released
 * and taken again at the end of the line: what was read under it is stale.
 * May yield.
 */
void coroutine_fn co_rwlock_upgrade(CoRwlock *lock);

#endif
