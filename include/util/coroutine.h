/* SPDX-License-Identifier: MIT */
/*
 * Coroutines: functions with a stack of their own that stop where they wait
 * and go on later, so that asynchronous code reads as straight lines.
 *
 * They are asymmetric: co_enter() runs a coroutine until it calls co_yield()
 * or its entry function returns, then co_enter() returns. A coroutine may
 * enter others. Between two yields it runs on one thread; after a yield it
 * may be on another one, so keep no thread-local across a yield.
 *
 *                   co_enter              co_enter
 *    co_create                 co_yield
 *   ----------> created ---> running ---> yielded ---> running ...
 *                               |
 *                               | entry returns
 *                               v
 *                             ended (memory goes to the thread's pool)
 *
 * Stacks are 256 KiB with a guard page below. An ended coroutine's stack is
 * kept in a pool of the thread it ended on and is reused by co_create().
 */
#ifndef FIRN_UTIL_COROUTINE_H
#define FIRN_UTIL_COROUTINE_H

#include "util/compiler.h"

#include <stdbool.h>

typedef struct AioContext AioContext;
typedef struct Coroutine Coroutine;
typedef void coroutine_fn CoroutineEntry(void *opaque);

/*
 * Make a coroutine that will run @entry(@opaque). It does not run until it is
 * entered, and must be entered: there is no other way to free it.
 *
 * Never NULL: aborts when the system has no memory for a stack.
 */
Coroutine *co_create(CoroutineEntry *entry, void *opaque);

/*
 * Run @co on this thread until it yields or ends. @co is gone after it ends.
 *
 * Aborts with a message that names @co when it is running already (here, on
 * another thread, or as one of the callers of the running coroutine), when it
 * has ended, and when it ends while it holds a CoMutex or CoRwlock.
 *
 * Callable from a coroutine or outside of one. The caller guarantees that no
 * other thread enters @co at the same time; schedule it with aio_co_wake() or
 * aio_co_schedule() when it may still be on its way to co_yield().
 */
void co_enter(Coroutine *co);

/* Stop the running coroutine; whoever entered it goes on. */
void coroutine_fn co_yield(void);

/* The running coroutine; NULL outside of coroutines. */
Coroutine *co_self(void);

/* True in a coroutine. */
bool co_in_coroutine(void);

/*
 * The AioContext that was current on the thread which last entered @co: the
 * place where aio_co_wake() puts it. NULL when there was none.
 */
AioContext *co_home(const Coroutine *co);

/*
 * A name for messages and debuggers, "unnamed" at first. @name is not copied:
 * it must live as long as @co, as a string literal does.
 */
const char *co_name(const Coroutine *co);
void co_set_name(Coroutine *co, const char *name);

/*
 * Coroutines created and not yet ended, in the whole process; any thread. A
 * test compares it before and after to find coroutines that never ended.
 */
unsigned co_live_count(void);

#endif
