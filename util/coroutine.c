/* SPDX-License-Identifier: MIT */
/*
 * Life of a coroutine: creation from the thread's pool, entering, yielding,
 * the end; the checks on them; and what ASan and TSan are told about it.
 *
 * How stacks are switched is a backend's (coroutine-asm.c with a .S file, or
 * coroutine-ucontext.c); where they come from is coroutine-stack.c's; loops
 * that enter what was scheduled are aio.c's.
 *
 * Thread-locals: a coroutine may be on another thread after each yield, and a
 * compiler may keep the address of a thread-local in a register across one.
 * They are in one struct whose address comes from a noinline function, and
 * nothing here keeps that address over a switch.
 *
 * A coroutine accounts for its own stop before it leaves its stack, and leaves
 * to its enterer's stack only what must be done there (CoAfter): so co_enter()
 * and co_yield() have nothing to do after the switch, and it costs no return
 * that the CPU predicts wrongly.
 *
 * This file and the backends call nothing from glib, so that
 * scripts/test-aarch64 can build them with a bare cross compiler.
 */
#include "util/coroutine-int.h"

#include "util/aio.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if CO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

typedef struct CoThread {
    Coroutine *current;         /* NULL outside of coroutines */
    Coroutine *pool;            /* ended ones, by ->next */
    unsigned pool_size;
    atomic_int live;            /* created minus ended here; see threads */
    bool registered;
    struct CoThread *next;      /* in threads; threads_lock */
    Coroutine *wake_first;      /* to be entered at the next yield or end */
    Coroutine *wake_last;
    bool entering_woken;
} CoThread;

static _Thread_local CoThread thread_state
    __attribute__((tls_model("initial-exec")));

/*
 * Threads that have created or ended coroutines. Each counts its own, which
 * spares an atomic operation per coroutine; co_live_count() adds them up.
 */
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static CoThread *threads;
static int live_of_gone_threads;        /* threads_lock */
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

static __attribute__((noinline)) CoThread *co_thread(void)
{
    CoThread *t = &thread_state;

    /* Opaque to the optimizer: not a constant it may compute once. */
    __asm__ volatile("" : "+r"(t));
    return t;
}

void co_die(const Coroutine *co, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "firn: coroutine '%s' (%p) ", co_name(co),
            (const void *)co);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

/* -- Threads -------------------------------------------------------------- */

/* Only @t's thread writes the counter. */
static void count_live(CoThread *t, int change)
{
    int live = atomic_load_explicit(&t->live, memory_order_relaxed);

    atomic_store_explicit(&t->live, live + change, memory_order_relaxed);
}

/* A thread exits: free its pool, keep its count. */
static void thread_exit(void *opaque)
{
    CoThread *t = opaque;
    CoThread **link = &threads;

    while (t->pool) {
        Coroutine *co = t->pool;

        t->pool = co->next;
        co_stack_free(co);
    }
    t->pool_size = 0;
    t->registered = false;

    pthread_mutex_lock(&threads_lock);
    live_of_gone_threads += atomic_exchange_explicit(&t->live, 0,
                                                     memory_order_relaxed);
    while (*link != t) {
        link = &(*link)->next;
    }
    *link = t->next;
    pthread_mutex_unlock(&threads_lock);
}

static void thread_make_key(void)
{
    if (pthread_key_create(&thread_key, thread_exit) != 0) {
        fputs("firn: no thread-specific key for coroutines\n", stderr);
        abort();
    }
}

/* Before a thread's first coroutine is created or ends. */
static __attribute__((noinline, cold)) void thread_register(CoThread *t)
{
    pthread_once(&thread_once, thread_make_key);
    if (pthread_setspecific(thread_key, t) != 0) {
        fputs("firn: no memory for a thread's coroutines\n", stderr);
        abort();
    }
    t->registered = true;
    pthread_mutex_lock(&threads_lock);
    t->next = threads;
    threads = t;
    pthread_mutex_unlock(&threads_lock);
}

unsigned co_live_count(void)
{
    int sum;

    pthread_mutex_lock(&threads_lock);
    sum = live_of_gone_threads;
    for (CoThread *t = threads; t; t = t->next) {
        sum += atomic_load_explicit(&t->live, memory_order_relaxed);
    }
    pthread_mutex_unlock(&threads_lock);
    return sum > 0 ? (unsigned)sum : 0;
}

/* -- The pool ------------------------------------------------------------- */

static void pool_put(CoThread *t, Coroutine *co)
{
    if (t->pool_size >= CO_POOL_MAX) {
        co_stack_free(co);
        return;
    }
    co->next = t->pool;
    t->pool = co;
    t->pool_size++;
}

static Coroutine *pool_get(CoThread *t)
{
    Coroutine *co = t->pool;

    if (co) {
        t->pool = co->next;
        t->pool_size--;
        co_stack_reuse(co);
    }
    return co;
}

/* -- Switching, with what the sanitizers are told ------------------------- */

/*
 * TSan keeps a shadow call stack per fiber: between telling it of a switch and
 * the switch itself no instrumented function may be entered or left.
 *
 * ASan's finish_switch must come before anything else on the new stack, and so
 * before what the backend would call there: that is passed in the struct.
 *
 * Without sanitizers both functions end in a jump to the backend, and the
 * switch returns straight to the caller of co_enter() or co_yield().
 */
CO_NO_TSAN static inline void switch_in(Coroutine *co)
{
#if CO_ASAN
    void *fake_stack;
    CoAfter *after;

    __sanitizer_start_switch_fiber(&fake_stack, co->stack, co->stack_bytes);
    co_backend_switch(&co->enterer, co->own, NULL, NULL);
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
    after = co->asan_after;
    if (after) {
        after(co);
    }
#else
#if CO_TSAN
    co->tsan_enterer_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->tsan_fiber, 0);
#endif
    co_backend_switch(&co->enterer, co->own, NULL, NULL);
#endif
}

/* On the coroutine's stack, after each switch to it. */
CO_NO_TSAN static inline void arrived(Coroutine *co)
{
#if CO_ASAN
    __sanitizer_finish_switch_fiber(co->asan_fake_stack,
                                    &co->asan_enterer_stack,
                                    &co->asan_enterer_bytes);
#endif
}

/* @after(@co) runs on the enterer's stack, if not NULL. */
CO_NO_TSAN static inline void switch_out(Coroutine *co, CoAfter *after,
                                         bool for_good)
{
#if CO_ASAN
    co->asan_after = after;
    after = NULL;
    __sanitizer_start_switch_fiber(for_good ? NULL : &co->asan_fake_stack,
                                   co->asan_enterer_stack,
                                   co->asan_enterer_bytes);
#endif
#if CO_TSAN
    __tsan_switch_to_fiber(co->tsan_enterer_fiber, 0);
#endif
    co_backend_switch(&co->own, co->enterer, after, co);
    arrived(co);
}

/* Enter what was woken by the coroutine that just stopped; see co_wake(). */
static void enter_woken(CoThread *t)
{
    if (t->entering_woken) {
        return;
    }
    t->entering_woken = true;
    while (t->wake_first) {
        Coroutine *co = t->wake_first;

        t->wake_first = co->next;
        co->next = NULL;
        co_enter(co);
    }
    t->entering_woken = false;
}

static void after_yield(Coroutine *co)
{
    enter_woken(co_thread());
}

static void after_end(Coroutine *co)
{
    CoThread *t = co_thread();

#if CO_TSAN
    __tsan_destroy_fiber(co->tsan_fiber);
#endif
    if (!t->registered) {
        thread_register(t);
    }
    count_live(t, -1);
    pool_put(t, co);
    if (t->wake_first) {
        enter_woken(t);
    }
}

/* The running coroutine @co is about to stop with @state. */
static void leave(CoThread *t, Coroutine *co, CoState state)
{
    t->current = co->enterer_co;
    atomic_store_explicit(&co->state, state, memory_order_release);
}

void co_main(Coroutine *co)
{
    arrived(co);
    co->entry(co->opaque);
    if (co->locks_held != 0) {
        co_die(co, "ended while it holds %u lock(s)", co->locks_held);
    }
    leave(co_thread(), co, CO_ENDED);
    switch_out(co, after_end, true);
    co_die(co, "went on after its end");
}

void coroutine_fn co_yield(void)
{
    CoThread *t = co_thread();
    Coroutine *co = t->current;

    if (!co) {
        fputs("firn: co_yield outside of a coroutine\n", stderr);
        abort();
    }
    leave(t, co, CO_YIELDED);
    switch_out(co, t->wake_first ? after_yield : NULL, false);
}

/* @co is not to be entered. Say why. */
static _Noreturn __attribute__((noinline, cold))
void co_refuse(Coroutine *co, unsigned state)
{
    co_die(co, state == CO_RUNNING ? "entered while it is running"
                                   : "entered after its end");
}

/* Acquire orders a caller that knows only by its state that @co yielded. */
void co_enter(Coroutine *co)
{
    CoThread *t = co_thread();
    unsigned state = atomic_load_explicit(&co->state, memory_order_acquire);

    if (state >= CO_RUNNING) {
        co_refuse(co, state);
    }
    atomic_store_explicit(&co->state, CO_RUNNING, memory_order_relaxed);
    co->home = aio_get_current();
    co->enterer_co = t->current;
    t->current = co;
    switch_in(co);
}

/* -- Life ----------------------------------------------------------------- */

static Coroutine *co_new(CoThread *t)
{
    Coroutine *co = pool_get(t);

    if (!co) {
        co = co_stack_new();
    }
    if (!co) {
        fprintf(stderr, "firn: no memory for the stack of a coroutine, "
                "%u are alive\n", co_live_count());
        abort();
    }
    return co;
}

Coroutine *co_create(CoroutineEntry *entry, void *opaque)
{
    CoThread *t = co_thread();
    Coroutine *co;

    if (!t->registered) {
        thread_register(t);
    }
    co = co_new(t);
    co->entry = entry;
    co->opaque = opaque;
    co->home = NULL;
    co->name = NULL;
    co->locks_held = 0;
    co->next = NULL;
    co->aio_next = NULL;
    atomic_store_explicit(&co->aio_scheduled, false, memory_order_relaxed);
    atomic_store_explicit(&co->state, CO_CREATED, memory_order_relaxed);
#if CO_ASAN
    co->asan_fake_stack = NULL;
    co->asan_after = NULL;
#endif
#if CO_TSAN
    co->tsan_fiber = __tsan_create_fiber(0);
#endif
    co_backend_init(co);
    count_live(t, 1);
    return co;
}

void co_wake(Coroutine *co)
{
    CoThread *t;

    if (co->home) {
        aio_co_wake(co);
        return;
    }
    t = co_thread();
    if (!t->current) {
        co_enter(co);
        return;
    }
    co->next = NULL;
    if (t->wake_first) {
        t->wake_last->next = co;
    } else {
        t->wake_first = co;
    }
    t->wake_last = co;
}

/* -- Accessors ------------------------------------------------------------ */

__attribute__((noinline)) Coroutine *co_self(void)
{
    return co_thread()->current;
}

bool co_in_coroutine(void)
{
    return co_self() != NULL;
}

AioContext *co_home(const Coroutine *co)
{
    return co->home;
}

const char *co_name(const Coroutine *co)
{
    return co->name ? co->name : "unnamed";
}

void co_set_name(Coroutine *co, const char *name)
{
    co->name = name;
}
