/* SPDX-License-Identifier: MIT */
/*
 * CoMutex: a FIFO lock for coroutines that hands itself over.
 *
 * state   FREE       nobody holds it, nobody waits
 *         HELD       held, nobody waits
 *         CONTENDED  held, and unlock has to look at the waiters
 *
 * FREE <-> HELD is one compare-and-swap without the spin lock. All else is
 * done under the spin lock, which guards the list:
 *
 *   lock     CONTENDED is set before the waiter is appended, so an unlock
 *            that comes in between fails its fast path and waits for the spin.
 *   unlock   takes the first waiter off and makes it the holder while the
 *            state stays taken: nobody can slip in between, and no wake-up is
 *            lost, because the woken coroutine owns the lock already.
 *
 * An unlock touches nothing after the compare-and-swap, or after it dropped
 * the spin lock but for waking the new holder: that one may free the mutex.
 */
#include "util/co-lock-int.h"

#include <assert.h>

enum { FREE, HELD, CONTENDED };

void co_mutex_init(CoMutex *m)
{
    atomic_init(&m->state, FREE);
    atomic_init(&m->holder, NULL);
    co_spin_init(&m->spin);
    co_waiters_init(&m->waiters);
}

void co_mutex_destroy(CoMutex *m)
{
    assert(atomic_load_explicit(&m->state, memory_order_acquire) == FREE);
    assert(!m->waiters.first);
}

static void set_holder(CoMutex *m, Coroutine *co)
{
    atomic_store_explicit(&m->holder, co, memory_order_relaxed);
}

static bool take_if_free(CoMutex *m)
{
    unsigned expected = FREE;

    return atomic_compare_exchange_strong_explicit(
        &m->state, &expected, HELD, memory_order_acquire,
        memory_order_relaxed);
}

/* Wait in line. Returns as the holder. */
static __attribute__((noinline))
void coroutine_fn lock_slow(CoMutex *m, Coroutine *self)
{
    CoWaiter w = { .co = self };

    if (atomic_load_explicit(&m->holder, memory_order_relaxed) == self) {
        co_die(self, "locks a CoMutex (%p) that it holds already", (void *)m);
    }
    co_spin_lock(&m->spin);
    if (atomic_exchange_explicit(&m->state, CONTENDED,
                                 memory_order_acquire) == FREE) {
        /* Released in between; with the spin held nobody has queued since. */
        atomic_store_explicit(&m->state, HELD, memory_order_relaxed);
        set_holder(m, self);
        co_spin_unlock(&m->spin);
        return;
    }
    co_waiters_append(&m->waiters, &w);
    co_spin_unlock(&m->spin);
    co_yield();
    assert(atomic_load_explicit(&m->holder, memory_order_relaxed) == self);
}

NO_TSA void coroutine_fn co_mutex_lock(CoMutex *m)
{
    Coroutine *self = co_self();

    assert(self);
    if (take_if_free(m)) {
        set_holder(m, self);
    } else {
        lock_slow(m, self);
    }
    self->locks_held++;
}

NO_TSA bool coroutine_fn co_mutex_trylock(CoMutex *m)
{
    Coroutine *self = co_self();

    assert(self);
    if (!take_if_free(m)) {
        return false;
    }
    set_holder(m, self);
    self->locks_held++;
    return true;
}

/* Give it to the first waiter, which is there or about to be appended. */
static __attribute__((noinline)) void unlock_slow(CoMutex *m)
{
    CoWaiter *w;
    Coroutine *next;

    co_spin_lock(&m->spin);
    w = co_waiters_pop(&m->waiters);
    assert(w);
    next = w->co;
    set_holder(m, next);
    if (!m->waiters.first) {
        atomic_store_explicit(&m->state, HELD, memory_order_relaxed);
    }
    co_spin_unlock(&m->spin);
    co_wake(next);
}

/* Abort unless the running coroutine, which is returned, holds @m. */
static inline Coroutine *check_holder(CoMutex *m)
{
    Coroutine *self = co_self();

    assert(self);
    if (atomic_load_explicit(&m->holder, memory_order_relaxed) != self) {
        co_die(self, "does not hold the CoMutex (%p) that it uses",
               (void *)m);
    }
    return self;
}

NO_TSA void coroutine_fn co_mutex_unlock(CoMutex *m)
{
    Coroutine *self = check_holder(m);
    unsigned expected = HELD;

    set_holder(m, NULL);
    self->locks_held--;
    if (!atomic_compare_exchange_strong_explicit(
            &m->state, &expected, FREE, memory_order_release,
            memory_order_relaxed)) {
        unlock_slow(m);
    }
}

NO_TSA void coroutine_fn co_mutex_assert_locked(CoMutex *m)
{
    check_holder(m);
}
