/* SPDX-License-Identifier: MIT */
/*
 * AioContext: life, the turn of the loop, wake-ups and coroutines.
 *
 * Everything that other threads may hand to a context goes over two stacks,
 * one of woken coroutines and one of scheduled bottom halves. Any thread
 * pushes with a compare-and-swap; the loop takes a whole stack with one
 * exchange, reverses it and appends it to a queue of its own. Since nobody
 * else ever pops, there is no ABA problem, and since the links are part of
 * Coroutine and AioBH, nothing is allocated.
 */
#include "aio-int.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "coroutine-int.h"
#include "util/error.h"

/* ---- the current context of a thread ---- */

static _Thread_local __attribute__((tls_model("initial-exec")))
AioContext *current_context;

/*
 * Coroutines move between threads, so a compiler must not keep the address of
 * a thread-local across a yield: all accesses are behind these functions. The
 * empty asm keeps the calls from being merged or inlined.
 */
__attribute__((noinline)) AioContext *aio_get_current(void)
{
    __asm__ volatile("");
    return current_context;
}

__attribute__((noinline)) void aio_set_current(AioContext *ctx)
{
    __asm__ volatile("");
    current_context = ctx;
}

/* A non-zero number that tells living threads apart. */
__attribute__((noinline)) static uintptr_t thread_token(void)
{
    __asm__ volatile("");
    return (uintptr_t)&current_context;
}

/* ---- life ---- */

static const AioBackendOps *backend_by_name(const char *name, GError **errp)
{
    if (strcmp(name, "io_uring") == 0) {
        return &aio_uring_ops;
    }
    if (strcmp(name, "threads") == 0) {
        return &aio_threads_ops;
    }
    set_error(errp, -EINVAL, "FIRN_AIO=%s: expected io_uring or threads",
              name);
    return NULL;
}

/* Choose a back end and start it in @ctx. */
static int backend_init(AioContext *ctx, AioBackend backend, GError **errp)
{
    const char *name = getenv("FIRN_AIO");

    if (backend == AIO_BACKEND_AUTO && name && *name) {
        ctx->ops = backend_by_name(name, errp);
        return ctx->ops ? ctx->ops->init(ctx, errp) : -EINVAL;
    }
    /*
     * Valgrind lets no other thread run while one waits in io_uring_enter,
     * which is a deadlock as soon as the other one is to end the wait.
     */
    if (backend == AIO_BACKEND_AUTO && RUNNING_ON_VALGRIND) {
        backend = AIO_BACKEND_THREADS;
    }
    if (backend != AIO_BACKEND_THREADS) {
        bool optional = backend == AIO_BACKEND_AUTO;
        int ret;

        ctx->ops = &aio_uring_ops;
        ret = ctx->ops->init(ctx, optional ? NULL : errp);
        if (ret == 0 || !optional) {
            return ret;
        }
    }
    ctx->ops = &aio_threads_ops;
    return ctx->ops->init(ctx, errp);
}

static void consume_notify(void *opaque)
{
    AioContext *ctx = opaque;
    uint64_t count;

    /* First read, then clear: see aio_notify. */
    if (read(ctx->event_fd, &count, sizeof(count)) < 0) {
        assert(errno == EAGAIN || errno == EINTR);
        return;
    }
    /* An exchange, to see all that wakers stored before they set it. */
    atomic_exchange(&ctx->notified, false);
}

AioContext *aio_context_new(AioBackend backend, GError **errp)
{
    AioContext *ctx = g_new0(AioContext, 1);

    ctx->timer_fd = -1;
    ctx->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ctx->event_fd < 0) {
        set_error(errp, -errno, "cannot create an eventfd: %s",
                  g_strerror(errno));
        g_free(ctx);
        return NULL;
    }
    if (backend_init(ctx, backend, errp) < 0) {
        close(ctx->event_fd);
        g_free(ctx);
        return NULL;
    }
    atomic_init(&ctx->refs, 1);
    ctx->timers = g_sequence_new(NULL);
    ctx->handlers = g_hash_table_new(g_direct_hash, g_direct_equal);
    ctx->zombies = g_hash_table_new(g_direct_hash, g_direct_equal);
    ctx->event_handler = aio_handler_add(ctx, ctx->event_fd, consume_notify,
                                         NULL, ctx, true);
    return ctx;
}

static void context_free(AioContext *ctx)
{
    GHashTableIter iter;
    gpointer zombie;

    /* A thread that woke us may still be on its way out of aio_notify. */
    while (atomic_load_explicit(&ctx->wakers, memory_order_acquire) > 0) {
        sched_yield();
    }
    assert(atomic_load(&ctx->driver) == 0);
    assert(!atomic_load(&ctx->woken) && !ctx->ready_head);
    assert(g_sequence_is_empty(ctx->timers));
    assert(g_hash_table_size(ctx->handlers) == 0 && !ctx->fired_head);

    aio_drop_bhs(ctx);
    ctx->ops->cleanup(ctx);
    g_hash_table_iter_init(&iter, ctx->zombies);
    while (g_hash_table_iter_next(&iter, &zombie, NULL)) {
        g_free(zombie);
    }
    g_hash_table_destroy(ctx->zombies);
    g_hash_table_destroy(ctx->handlers);
    g_sequence_free(ctx->timers);
    g_free(ctx->event_handler);
    g_free(ctx->timer_handler);
    close(ctx->event_fd);
    if (ctx->timer_fd >= 0) {
        close(ctx->timer_fd);
    }
    if (aio_get_current() == ctx) {
        aio_set_current(NULL);
    }
    g_free(ctx);
}

AioContext *aio_context_ref(AioContext *ctx)
{
    unsigned old = atomic_fetch_add(&ctx->refs, 1);

    assert(old > 0);
    return ctx;
}

void aio_context_unref(AioContext *ctx)
{
    if (ctx && atomic_fetch_sub(&ctx->refs, 1) == 1) {
        context_free(ctx);
    }
}

AioBackend aio_context_backend(const AioContext *ctx)
{
    return ctx->ops->id;
}

int64_t aio_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* ---- wake-ups ---- */

/*
 * No wake-up is lost, and the eventfd is written only when the loop is about
 * to sleep or sleeps:
 *
 *      waker                               loop
 *   w1 publish work                     l1 notify_me += 1
 *   w2 notify_me > 0 ?                  l2 any work published ? do not sleep
 *   w3 exchange(notified, true)         l3 sleep until the eventfd is readable
 *   w4 if it was false, write eventfd   l4 notify_me -= 1
 *                                       l5 read eventfd
 *                                       l6 notified = false
 *                                       l7 take published work
 *
 * w1/w2 against l1/l2 is Dekker's pattern: each side writes its own word and
 * then reads the other's. It needs a full barrier between the two on both
 * sides, or each may read the old value and the loop sleeps on work. All four
 * are sequentially consistent atomics, which lie in one total order: either
 * w2 sees l1, or l2 sees w1. (w1 is the push to ctx->woken or ctx->bh_woken,
 * or for a bare aio_notify the exchange w3 itself.)
 *
 * notified spares further writes while one is on its way: true means that a
 * write was made or will be made and was not read yet. Hence l5 before l6: if
 * the flag went first, a waker could set it again and write, l5 would take
 * that write away as well, and with the flag left true nobody would ever
 * write again. A waker that finds the flag true in w3 between l5 and l6 does
 * not write, but its w1 is before l6 and so l7, or the next l2, sees it.
 *
 * A bare aio_notify publishes nothing that l2 could see, so it does not ask
 * notify_me: a call before the loop sleeps must not be lost either.
 */
static void notify_write(AioContext *ctx)
{
    const uint64_t one = 1;
    ssize_t ret;

    if (atomic_exchange(&ctx->notified, true)) {
        return;
    }
    do {
        ret = write(ctx->event_fd, &one, sizeof(one));
    } while (ret < 0 && errno == EINTR);
    /* EAGAIN: the counter is at its maximum, so the descriptor is readable. */
    assert(ret == sizeof(one) || errno == EAGAIN);
}

bool aio_wake_begin(AioContext *ctx)
{
    bool counted = aio_get_current() != ctx;

    if (counted) {
        atomic_fetch_add_explicit(&ctx->wakers, 1, memory_order_relaxed);
    }
    return counted;
}

/* The last access to @ctx. */
static void wake_leave(AioContext *ctx, bool counted)
{
    if (counted) {
        atomic_fetch_sub_explicit(&ctx->wakers, 1, memory_order_release);
    }
}

void aio_wake_end(AioContext *ctx, bool counted)
{
    if (atomic_load(&ctx->notify_me) > 0) {
        notify_write(ctx);
    }
    wake_leave(ctx, counted);
}

void aio_notify(AioContext *ctx)
{
    bool counted = aio_wake_begin(ctx);

    notify_write(ctx);
    wake_leave(ctx, counted);
}

/* ---- stopping ---- */

void aio_stop(AioContext *ctx)
{
    int saved_errno = errno; /* of what a signal has interrupted */

    atomic_store(&ctx->stop, true);
    aio_notify(ctx);
    errno = saved_errno;
}

bool aio_stopping(AioContext *ctx)
{
    return atomic_load_explicit(&ctx->stop, memory_order_relaxed);
}

int aio_check_stop(void)
{
    AioContext *ctx = aio_get_current();

    return ctx && aio_stopping(ctx) ? -ECANCELED : 0;
}

/* ---- woken coroutines ---- */

void aio_co_schedule(AioContext *ctx, Coroutine *co)
{
    bool counted = aio_wake_begin(ctx);
    Coroutine *top = atomic_load_explicit(&ctx->woken, memory_order_relaxed);

    if (atomic_exchange(&co->aio_scheduled, true)) {
        co_die(co, "is woken twice");
    }
    do {
        co->aio_next = top;
    } while (!atomic_compare_exchange_weak(&ctx->woken, &top, co));
    /* From here on @co may run, and may be gone. */
    aio_wake_end(ctx, counted);
}

void aio_co_wake(Coroutine *co)
{
    AioContext *ctx = co_home(co);

    assert(ctx);
    aio_co_schedule(ctx, co);
}

/* Append the list from @first to @last to the ready queue. */
static void append_ready(AioContext *ctx, Coroutine *first, Coroutine *last)
{
    if (ctx->ready_tail) {
        ctx->ready_tail->aio_next = first;
    } else {
        ctx->ready_head = first;
    }
    ctx->ready_tail = last;
}

/* Append what other calls have pushed to the ready queue, oldest first. */
static void collect_woken(AioContext *ctx)
{
    Coroutine *first = NULL;
    Coroutine *last, *top;

    if (!atomic_load_explicit(&ctx->woken, memory_order_relaxed)) {
        return;     /* the next has_work or collect_woken sees it */
    }
    top = atomic_exchange(&ctx->woken, NULL);
    last = top;
    while (top) {
        Coroutine *next = top->aio_next;

        top->aio_next = first;
        first = top;
        top = next;
        ctx->nb_ready++;
    }
    append_ready(ctx, first, last);
}

void aio_co_ready(AioContext *ctx, Coroutine *co)
{
    if (atomic_exchange(&co->aio_scheduled, true)) {
        co_die(co, "is woken twice");
    }
    collect_woken(ctx);     /* those were first */
    co->aio_next = NULL;
    append_ready(ctx, co, co);
    ctx->nb_ready++;
}

/*
 * Enter as many coroutines as are ready now. Those that they wake have to
 * wait for the next turn, so that I/O gets its share.
 */
static bool run_ready(AioContext *ctx)
{
    unsigned n;

    collect_woken(ctx);
    n = ctx->nb_ready;
    if (n == 0) {
        return false;
    }
    while (n-- > 0 && ctx->ready_head) {
        Coroutine *co = ctx->ready_head;

        ctx->ready_head = co->aio_next;
        if (!ctx->ready_head) {
            ctx->ready_tail = NULL;
        }
        ctx->nb_ready--;
        co->aio_next = NULL;
        atomic_store(&co->aio_scheduled, false);
        co_enter(co);
    }
    return true;
}

/* ---- the loop ---- */

void aio_assert_home(AioContext *ctx)
{
    uintptr_t driver = atomic_load_explicit(&ctx->driver,
                                            memory_order_relaxed);

    assert(driver == 0 || driver == thread_token());
}

/*
 * Become the thread that drives @ctx; nests. Returns the context that was
 * current before, for drive_end.
 */
static AioContext *drive_begin(AioContext *ctx)
{
    AioContext *previous = aio_get_current();
    uintptr_t driver = 0;

    assert(!co_in_coroutine());
    if (!atomic_compare_exchange_strong(&ctx->driver, &driver,
                                        thread_token())) {
        assert(driver == thread_token());   /* driven by another thread */
    }
    ctx->depth++;
    aio_set_current(ctx);
    return previous;
}

static void drive_end(AioContext *ctx, AioContext *previous)
{
    ctx->depth--;
    aio_foreign_update(ctx);
    aio_set_current(previous);
    if (ctx->depth == 0) {
        atomic_store(&ctx->driver, 0);
    }
}

static bool has_work(AioContext *ctx)
{
    return atomic_load(&ctx->woken) || atomic_load(&ctx->bh_woken) ||
           ctx->ready_head || ctx->bh_head || ctx->fired_head;
}

/* How long the back end may sleep. */
static int64_t wait_timeout_ns(AioContext *ctx)
{
    int64_t deadline_ns, now_ns;

    if (has_work(ctx)) {
        return 0;
    }
    deadline_ns = aio_timers_deadline(ctx);
    if (deadline_ns == INT64_MAX) {
        return -1;
    }
    now_ns = aio_now_ns();
    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
    AioContext *previous = drive_begin(ctx);
    bool progress;

    if (blocking) {
        /* l1 and l2 of aio_notify: announce first, then look for work. */
        atomic_fetch_add(&ctx->notify_me, 1);
        ctx->ops->wait(ctx, wait_timeout_ns(ctx));
        atomic_fetch_sub(&ctx->notify_me, 1);
    } else {
        ctx->ops->wait(ctx, 0);
    }
    /* The handlers first: the one of the eventfd is l5 and l6. */
    progress = aio_run_handlers(ctx);
    progress |= aio_run_bhs(ctx);
    progress |= aio_run_timers(ctx);
    progress |= run_ready(ctx);
    drive_end(ctx, previous);
    return progress;
}

typedef struct BlockingRun {
    int coroutine_fn (*fn)(void *opaque);
    void *opaque;
    int ret;
    bool done;
} BlockingRun;

static void coroutine_fn blocking_entry(void *opaque)
{
    BlockingRun *run = opaque;

    run->ret = run->fn(run->opaque);
    run->done = true;
}

int aio_run_blocking(AioContext *ctx, int coroutine_fn (*fn)(void *),
                     void *opaque)
{
    BlockingRun run = { .fn = fn, .opaque = opaque };
    AioContext *previous = drive_begin(ctx);

    co_enter(co_create(blocking_entry, &run));
    AIO_WAIT_WHILE(ctx, !run.done);
    drive_end(ctx, previous);
    return run.ret;
}
