/* SPDX-License-Identifier: MIT */
/*
 * What util/ shares about coroutines: the struct, and the parts that
 * coroutine.c is made of (stack memory, and one of the ways to switch).
 */
#ifndef FIRN_UTIL_COROUTINE_INT_H
#define FIRN_UTIL_COROUTINE_INT_H

#include "util/coroutine.h"

#include <stdatomic.h>

#if defined(__has_feature)
#define CO_HAS_FEATURE(x) __has_feature(x)
#else
#define CO_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CO_HAS_FEATURE(address_sanitizer)
#define CO_ASAN 1
#else
#define CO_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || CO_HAS_FEATURE(thread_sanitizer)
#define CO_TSAN 1
#else
#define CO_TSAN 0
#endif

#if CO_TSAN
#define CO_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define CO_NO_TSAN
#endif

/* Usable stack of a coroutine; instrumented frames are several times larger. */
#if CO_ASAN || CO_TSAN
#define CO_STACK_BYTES ((size_t)1 << 20)
#else
#define CO_STACK_BYTES ((size_t)256 << 10)
#endif

/* Ended coroutines that a thread keeps for reuse. */
#define CO_POOL_MAX 256

typedef enum CoState {
    CO_CREATED,
    CO_YIELDED,
    CO_RUNNING,
    CO_ENDED,
} CoState;

/*
 * Where a stopped stack goes on: its stack pointer (coroutine-asm.c), or the
 * address of a ucontext_t on it (coroutine-ucontext.c).
 */
typedef void *CoContext;

/* Something to do on the stack on which a switch arrives. */
typedef void CoAfter(Coroutine *co);

/*
 * Lives at the top of its own stack mapping, so that a coroutine costs no
 * allocation besides its stack.
 */
struct Coroutine {
    CoContext own;              /* where to go on, unless it is running */
    CoContext enterer;          /* where co_enter() goes on, while it is */
    CoroutineEntry *entry;
    void *opaque;
    AioContext *home;           /* set by co_enter */
    const char *name;
    atomic_uint state;          /* CoState */
    unsigned locks_held;        /* CoMutex and CoRwlock; by the coroutine */
    Coroutine *enterer_co;      /* who entered it, if a coroutine did */
    Coroutine *next;            /* in a thread's pool or wake list */

    /* Owned by aio.c. */
    Coroutine *aio_next;
    _Atomic bool aio_scheduled;

    /* Constant from the first creation on. */
    void *stack;                /* lowest usable byte, above the guard page */
    size_t stack_bytes;         /* from there up to this struct */
    unsigned valgrind_id;

    /* For the sanitizers. */
    CoAfter *asan_after;
    void *asan_fake_stack;
    const void *asan_enterer_stack;
    size_t asan_enterer_bytes;
    void *tsan_fiber;
    void *tsan_enterer_fiber;
};

/* -- coroutine.c ---------------------------------------------------------- */

/* First function on a coroutine's stack; does not return. */
_Noreturn void co_main(Coroutine *co);

/* Abort with "firn: coroutine 'NAME' (address) ..." on stderr. */
_Noreturn void co_die(const Coroutine *co, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/*
 * Put @co, which has yielded or is about to in this thread or on its home, on
 * the way to being entered. See co-lock.h about coroutines without a home.
 */
void co_wake(Coroutine *co);

/* -- coroutine-stack.c ---------------------------------------------------- */

/*
 * Map a stack with its guard page and the struct on top; all members but the
 * constant ones are zero. NULL when the system has no memory for it.
 */
Coroutine *co_stack_new(void);
void co_stack_free(Coroutine *co);

/* Make what an ended coroutine left on its stack usable again. */
void co_stack_reuse(Coroutine *co);

/* -- a switch backend ----------------------------------------------------- */

/* Arrange that the first switch to @co->own calls co_main(@co). */
void co_backend_init(Coroutine *co);

/*
 * Stop here, so that a switch to *@save goes on here, and go on at @load. Once
 * there, call @after(@co) before anything else, unless @after is NULL.
 */
void co_backend_switch(CoContext *save, CoContext load, CoAfter *after,
                       Coroutine *co);

#endif
