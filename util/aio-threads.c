/* SPDX-License-Identifier: MIT */
/*
 * Fallback back end, where io_uring is not permitted: epoll for descriptors
 * and the thread pool for all file I/O. A worker wakes the coroutine itself,
 * so there is nothing to collect but fd events.
 */
#include "aio-int.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "util/error.h"

/* Handlers pass their poll(2) events to epoll as they are. */
G_STATIC_ASSERT(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT);
G_STATIC_ASSERT(EPOLLERR == POLLERR && EPOLLHUP == POLLHUP);

enum { MAX_EVENTS = 64 };

static int epoll_fd(AioContext *ctx)
{
    return GPOINTER_TO_INT(ctx->backend_state);
}

static int timeout_ms(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return -1;
    }
    /* Up: a timer must have expired when epoll_wait returns. */
    return (int)MIN(DIV_ROUND_UP(timeout_ns, 1000000), INT_MAX);
}

static void threads_wait(AioContext *ctx, int64_t timeout_ns)
{
    struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(epoll_fd(ctx), events, MAX_EVENTS,
                       timeout_ms(timeout_ns));

    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++) {
        AioHandler *h = events[i].data.ptr;

        h->armed = h->internal;
        aio_handler_fired(ctx, h, events[i].events);
    }
}

static void threads_flush(AioContext *ctx)
{
}

static bool threads_submit(AioContext *ctx, AioRequest *req)
{
    return false;
}

/*
 * EPOLLONESHOT, because a handler must not fire again while its callback
 * polls. Internal ones never do that and are spared the system calls.
 */
static void threads_arm(AioContext *ctx, AioHandler *h)
{
    struct epoll_event event = {
        .events = h->events | (h->internal ? 0 : (uint32_t)EPOLLONESHOT),
        .data.ptr = h,
    };
    int ret = epoll_ctl(epoll_fd(ctx), EPOLL_CTL_MOD, h->fd, &event);

    if (ret < 0 && errno == ENOENT) {
        ret = epoll_ctl(epoll_fd(ctx), EPOLL_CTL_ADD, h->fd, &event);
    }
    assert(ret == 0);
    h->armed = true;
}

static void threads_disarm(AioContext *ctx, AioHandler *h)
{
    h->armed = false;
    if (epoll_ctl(epoll_fd(ctx), EPOLL_CTL_DEL, h->fd, NULL) < 0) {
        assert(!"epoll_ctl: closed before its handler was removed");
    }
}

static int threads_fd(AioContext *ctx)
{
    return epoll_fd(ctx);
}

static int threads_register_buffer(AioContext *ctx, void *buf, size_t len)
{
    return -ENOTSUP;
}

static void threads_unregister_buffer(AioContext *ctx, void *buf)
{
}

static int threads_init(AioContext *ctx, GError **errp)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        return set_error(errp, -errno, "cannot create an epoll: %s",
                         g_strerror(errno));
    }
    ctx->backend_state = GINT_TO_POINTER(fd);
    return 0;
}

static void threads_cleanup(AioContext *ctx)
{
    close(epoll_fd(ctx));
}

const AioBackendOps aio_threads_ops = {
    .id = AIO_BACKEND_THREADS,
    .init = threads_init,
    .cleanup = threads_cleanup,
    .wait = threads_wait,
    .flush = threads_flush,
    .submit = threads_submit,
    .arm = threads_arm,
    .disarm = threads_disarm,
    .fd = threads_fd,
    .register_buffer = threads_register_buffer,
    .unregister_buffer = threads_unregister_buffer,
};
