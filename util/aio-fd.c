/* SPDX-License-Identifier: MIT */
/*
 * File descriptor handlers, and the descriptor for foreign loops.
 *
 * A handler is armed in the back end for one event; when it fires it is
 * queued, its callbacks run, and it is armed again. That gives level-triggered
 * handlers that are never entered twice, even if a callback polls. Changing a
 * handler is removing it and adding a new one, so a struct never changes its
 * meaning while the kernel holds a pointer to it.
 */
#include "aio-int.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { POLL_TROUBLE = POLLERR | POLLHUP | POLLNVAL };

/* ---- handlers ---- */

AioHandler *aio_handler_add(AioContext *ctx, int fd, AioFdFunc *on_read,
                            AioFdFunc *on_write, void *opaque, bool internal)
{
    AioHandler *h = g_new0(AioHandler, 1);

    h->poll.kind = AIO_SQE_POLL;
    h->cancel.kind = AIO_SQE_CANCEL;
    h->fd = fd;
    h->events = (on_read ? POLLIN : 0) | (on_write ? POLLOUT : 0);
    h->on_read = on_read;
    h->on_write = on_write;
    h->opaque = opaque;
    h->internal = internal;
    ctx->ops->arm(ctx, h);
    return h;
}

void aio_handler_remove(AioContext *ctx, AioHandler *h)
{
    h->removed = true;
    g_hash_table_add(ctx->zombies, h);
    if (h->armed) {
        ctx->ops->disarm(ctx, h);
    }
    aio_handler_release(ctx, h);
}

void aio_handler_release(AioContext *ctx, AioHandler *h)
{
    if (h->removed && !h->armed && !h->queued && !h->running &&
        !h->cancel.waiting) {
        g_hash_table_remove(ctx->zombies, h);
        g_free(h);
    }
}

void aio_handler_fired(AioContext *ctx, AioHandler *h, uint32_t revents)
{
    h->revents |= revents;
    if (h->queued) {
        return;
    }
    h->queued = true;
    h->fired_next = NULL;
    if (ctx->fired_tail) {
        ctx->fired_tail->fired_next = h;
    } else {
        ctx->fired_head = h;
    }
    ctx->fired_tail = h;
}

static AioHandler *pop_fired(AioContext *ctx)
{
    AioHandler *h = ctx->fired_head;

    if (h) {
        ctx->fired_head = h->fired_next;
        if (!ctx->fired_head) {
            ctx->fired_tail = NULL;
        }
        h->queued = false;
    }
    return h;
}

static void run_handler(AioContext *ctx, AioHandler *h)
{
    uint32_t revents = h->revents;

    h->revents = 0;
    h->running = true;
    if (h->on_read && !h->removed && revents & (POLLIN | POLL_TROUBLE)) {
        h->on_read(h->opaque);
    }
    /* The first callback may have removed it. */
    if (h->on_write && !h->removed && revents & (POLLOUT | POLL_TROUBLE)) {
        h->on_write(h->opaque);
    }
    h->running = false;
    if (!h->removed && !h->armed) {
        ctx->ops->arm(ctx, h);
    }
}

bool aio_run_handlers(AioContext *ctx)
{
    bool progress = false;
    AioHandler *h;

    /* Ends: only ops->wait adds to the list. */
    while ((h = pop_fired(ctx)) != NULL) {
        progress |= !h->internal && !h->removed;
        run_handler(ctx, h);
        aio_handler_release(ctx, h);
    }
    return progress;
}

void aio_set_fd_handler(AioContext *ctx, int fd, AioFdFunc *on_read,
                        AioFdFunc *on_write, void *opaque)
{
    AioHandler *old = g_hash_table_lookup(ctx->handlers, GINT_TO_POINTER(fd));

    aio_assert_home(ctx);
    assert(fd >= 0);
    if (old) {
        g_hash_table_remove(ctx->handlers, GINT_TO_POINTER(fd));
        aio_handler_remove(ctx, old);
    }
    if (on_read || on_write) {
        g_hash_table_insert(ctx->handlers, GINT_TO_POINTER(fd),
                            aio_handler_add(ctx, fd, on_read, on_write,
                                            opaque, false));
    }
    aio_foreign_update(ctx);
}

/* ---- foreign loops ---- */

static void consume_timer_fd(void *opaque)
{
    AioContext *ctx = opaque;
    uint64_t count;

    /* aio_run_timers does the work; aio_foreign_arm_timer sets it again. */
    if (read(ctx->timer_fd, &count, sizeof(count)) < 0) {
        assert(errno == EAGAIN || errno == EINTR);
    } else {
        ctx->timer_fd_deadline = INT64_MAX;
    }
}

void aio_foreign_update(AioContext *ctx)
{
    if (ctx->foreign && ctx->depth == 0) {
        aio_foreign_arm_timer(ctx);
        ctx->ops->flush(ctx);
    }
}

int aio_context_fd(AioContext *ctx)
{
    aio_assert_home(ctx);
    if (!ctx->foreign) {
        ctx->foreign = true;
        ctx->timer_fd = timerfd_create(CLOCK_MONOTONIC,
                                       TFD_NONBLOCK | TFD_CLOEXEC);
        assert(ctx->timer_fd >= 0);
        ctx->timer_fd_deadline = INT64_MAX;
        ctx->timer_handler = aio_handler_add(ctx, ctx->timer_fd,
                                             consume_timer_fd, NULL, ctx,
                                             true);
        /*
         * The loop sleeps where we cannot see it, so from now on every
         * wake-up is written to the eventfd, and so are those made before.
         */
        atomic_fetch_add(&ctx->notify_me, 1);
        aio_notify(ctx);
        aio_foreign_arm_timer(ctx);
        ctx->ops->flush(ctx);
    }
    return ctx->ops->fd(ctx);
}
