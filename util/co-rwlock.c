/* SPDX-License-Identifier: MIT */
/*
 * CoRwlock: readers share, writers do not, and all are served in the order in
 * which they came.
 *
 * Everything is done under the spin lock. Who releases the lock gives it to
 * those at the head of the line: one writer, or all readers up to the first
 * writer. They own it before they are woken.
 */
#include "util/co-lock-int.h"

#include <assert.h>

enum { READER, WRITER };

void co_rwlock_init(CoRwlock *lock)
{
    co_spin_init(&lock->spin);
    lock->owners = 0;
    co_waiters_init(&lock->waiters);
}

void co_rwlock_destroy(CoRwlock *lock)
{
    assert(lock->owners == 0);
    assert(!lock->waiters.first);
}

/* Account for an owner of @kind if it may have the lock now. With the spin. */
static bool take_if_allowed(CoRwlock *lock, int kind)
{
    if (kind == READER) {
        if (lock->owners < 0) {
            return false;
        }
        lock->owners++;
        return true;
    }
    if (lock->owners != 0) {
        return false;
    }
    lock->owners = -1;
    return true;
}

/*
 * Give the lock to the head of the line, as far as allowed. With the spin.
 * Returns the chain of those to wake once the spin is dropped.
 */
static CoWaiter *grant(CoRwlock *lock)
{
    CoWaiters granted;

    co_waiters_init(&granted);
    while (lock->waiters.first &&
           take_if_allowed(lock, lock->waiters.first->kind)) {
        co_waiters_append(&granted, co_waiters_pop(&lock->waiters));
    }
    return granted.first;
}

/* Wait in line, having the spin, which is dropped. Returns as an owner. */
static void coroutine_fn wait_in_line(CoRwlock *lock, Coroutine *self,
                                      int kind)
{
    CoWaiter w = { .co = self, .kind = kind };
    CoWaiter *granted;

    co_waiters_append(&lock->waiters, &w);
    granted = grant(lock);
    co_spin_unlock(&lock->spin);
    co_waiters_wake_chain(granted);
    co_yield();
}

static void coroutine_fn take(CoRwlock *lock, int kind)
{
    Coroutine *self = co_self();

    assert(self);
    co_spin_lock(&lock->spin);
    if (!lock->waiters.first && take_if_allowed(lock, kind)) {
        co_spin_unlock(&lock->spin);
    } else {
        wait_in_line(lock, self, kind);
    }
    self->locks_held++;
}

void coroutine_fn co_rwlock_rdlock(CoRwlock *lock)
{
    take(lock, READER);
}

void coroutine_fn co_rwlock_wrlock(CoRwlock *lock)
{
    take(lock, WRITER);
}

void coroutine_fn co_rwlock_unlock(CoRwlock *lock)
{
    Coroutine *self = co_self();
    CoWaiter *granted;

    assert(self && self->locks_held > 0);
    self->locks_held--;
    co_spin_lock(&lock->spin);
    assert(lock->owners != 0);
    if (lock->owners > 0) {
        lock->owners--;
    } else {
        lock->owners = 0;
    }
    granted = grant(lock);
    co_spin_unlock(&lock->spin);
    co_waiters_wake_chain(granted);
}

void coroutine_fn co_rwlock_downgrade(CoRwlock *lock)
{
    CoWaiter *granted;

    co_spin_lock(&lock->spin);
    assert(lock->owners == -1);
    lock->owners = 1;
    granted = grant(lock);
    co_spin_unlock(&lock->spin);
    co_waiters_wake_chain(granted);
}

void coroutine_fn co_rwlock_upgrade(CoRwlock *lock)
{
    co_spin_lock(&lock->spin);
    assert(lock->owners > 0);
    if (lock->owners == 1 && !lock->waiters.first) {
        lock->owners = -1;
        co_spin_unlock(&lock->spin);
        return;
    }
    lock->owners--;
    wait_in_line(lock, co_self(), WRITER);
}
