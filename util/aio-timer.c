/* SPDX-License-Identifier: MIT */
/*
 * Timers: a sequence sorted by deadline, and among equal deadlines by the
 * order of arming. The loop asks for the earliest deadline before it sleeps;
 * a foreign loop gets it as a timerfd.
 */
#include "aio-int.h"

#include <assert.h>
#include <sys/timerfd.h>

struct AioTimer {
    AioContext *ctx;
    AioTimerFunc *fn;
    void *opaque;
    int64_t deadline_ns;
    uint64_t seq;           /* when it was armed */
    GSequenceIter *iter;    /* NULL: not armed */
};

static void timer_init(AioTimer *t, AioContext *ctx, AioTimerFunc *fn,
                       void *opaque)
{
    *t = (AioTimer) { .ctx = ctx, .fn = fn, .opaque = opaque };
}

AioTimer *aio_timer_new(AioContext *ctx, AioTimerFunc *fn, void *opaque)
{
    AioTimer *t = g_new(AioTimer, 1);

    timer_init(t, ctx, fn, opaque);
    return t;
}

static int compare_timers(gconstpointer a, gconstpointer b, gpointer unused)
{
    const AioTimer *ta = a;
    const AioTimer *tb = b;

    if (ta->deadline_ns != tb->deadline_ns) {
        return ta->deadline_ns < tb->deadline_ns ? -1 : 1;
    }
    return ta->seq < tb->seq ? -1 : ta->seq > tb->seq;
}

void aio_timer_del(AioTimer *t)
{
    if (t->iter) {
        aio_assert_home(t->ctx);
        g_sequence_remove(t->iter);
        t->iter = NULL;
    }
}

void aio_timer_mod(AioTimer *t, int64_t deadline_ns)
{
    AioContext *ctx = t->ctx;

    aio_assert_home(ctx);
    aio_timer_del(t);
    t->deadline_ns = deadline_ns;
    t->seq = ctx->timer_seq++;
    t->iter = g_sequence_insert_sorted(ctx->timers, t, compare_timers, NULL);
    aio_foreign_update(ctx);
}

void aio_timer_free(AioTimer *t)
{
    if (t) {
        aio_timer_del(t);
        g_free(t);
    }
}

static AioTimer *first_timer(AioContext *ctx)
{
    GSequenceIter *iter = g_sequence_get_begin_iter(ctx->timers);

    return g_sequence_iter_is_end(iter) ? NULL : g_sequence_get(iter);
}

int64_t aio_timers_deadline(AioContext *ctx)
{
    AioTimer *t = first_timer(ctx);

    return t ? t->deadline_ns : INT64_MAX;
}

bool aio_run_timers(AioContext *ctx)
{
    bool progress = false;
    uint64_t seq_end = ctx->timer_seq;
    AioTimer *t = first_timer(ctx);
    int64_t now_ns;

    if (!t) {
        return false;
    }
    now_ns = aio_now_ns();
    /*
     * Timers armed meanwhile have to wait for the next turn: one that arms
     * itself for the past must not hold the loop.
     */
    while (t && t->deadline_ns <= now_ns && t->seq < seq_end) {
        aio_timer_del(t);
        t->fn(t->opaque);
        progress = true;
        /* Anything may have changed, @t may be freed. */
        t = first_timer(ctx);
    }
    return progress;
}

/* ---- for foreign loops ---- */

void aio_foreign_arm_timer(AioContext *ctx)
{
    int64_t deadline_ns = aio_timers_deadline(ctx);
    struct itimerspec spec = { 0 };

    if (deadline_ns == ctx->timer_fd_deadline) {
        return;
    }
    ctx->timer_fd_deadline = deadline_ns;
    if (deadline_ns != INT64_MAX) {
        /* All zeroes would disarm it. */
        deadline_ns = MAX(deadline_ns, 1);
        spec.it_value.tv_sec = deadline_ns / 1000000000;
        spec.it_value.tv_nsec = deadline_ns % 1000000000;
    }
    if (timerfd_settime(ctx->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0) {
        assert(!"timerfd_settime");
    }
}

/* ---- sleeping coroutines ---- */

static void wake_sleeper(void *opaque)
{
    aio_co_wake(opaque);
}

void coroutine_fn aio_co_sleep_ns(int64_t ns)
{
    AioContext *ctx = aio_get_current();
    int64_t now_ns = aio_now_ns();
    AioTimer t;

    assert(ctx && co_in_coroutine());
    if (ns <= 0) {
        aio_co_schedule(ctx, co_self());
        co_yield();
        return;
    }
    timer_init(&t, ctx, wake_sleeper, co_self());
    aio_timer_mod(&t, ns < INT64_MAX - now_ns ? now_ns + ns : INT64_MAX - 1);
    co_yield();
    assert(!t.iter);    /* nobody else may wake a sleeper */
}
