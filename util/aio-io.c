/* SPDX-License-Identifier: MIT */
/*
 * File I/O of coroutines: builds the request on the coroutine's stack, hands
 * it to the back end, and runs in the thread pool what the back end does not
 * do. Checks the limits here, so that both back ends agree about them.
 */
#include "aio-int.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "util/thread-pool.h"

/* ---- in a worker ---- */

static ssize_t request_syscall(const AioRequest *req)
{
    switch (req->op) {
    case AIO_OP_READ:
        return preadv(req->fd, req->iov, req->niov, (off_t)req->offset);
    case AIO_OP_WRITE:
        return pwritev2(req->fd, req->iov, req->niov, (off_t)req->offset,
                        req->flags & AIO_DSYNC ? RWF_DSYNC : 0);
    case AIO_OP_FDATASYNC:
        return fdatasync(req->fd);
    case AIO_OP_FALLOCATE:
        return fallocate(req->fd, req->mode, (off_t)req->offset,
                         (off_t)req->bytes);
    case AIO_OP_FTRUNCATE:
        return ftruncate(req->fd, (off_t)req->bytes);
    }
    g_assert_not_reached();
}

int aio_request_run(void *opaque)
{
    AioRequest *req = opaque;
    ssize_t ret;

    do {
        ret = request_syscall(req);
    } while (ret < 0 && errno == EINTR);
    req->ret = ret < 0 ? -errno : ret;
    req->done = true;
    return 0;
}

/* ---- in the coroutine ---- */

static ssize_t coroutine_fn request_co_run(AioRequest *req)
{
    AioContext *ctx = aio_get_current();

    assert(ctx && co_in_coroutine());
    req->co = co_self();
    if (ctx->ops->submit(ctx, req)) {
        aio_foreign_update(ctx);
        co_yield();
        assert(req->done);  /* nobody else may wake it */
        if (req->ret != -EAGAIN) {
            return req->ret;
        }
        /* The ring could not do it without blocking: a worker can. */
    }
    thread_pool_co_run(aio_request_run, req);
    return req->ret;
}

static size_t iov_bytes(const struct iovec *iov, int niov)
{
    size_t bytes = 0;

    for (int i = 0; i < niov && bytes < AIO_ASYNC_MIN_BYTES; i++) {
        bytes += MIN(iov[i].iov_len, AIO_ASYNC_MIN_BYTES);
    }
    return bytes;
}

static ssize_t coroutine_fn co_transfer(AioOp op, int fd,
                                        const struct iovec *iov, int niov,
                                        uint64_t offset, unsigned flags)
{
    AioRequest req = {
        .op = op, .fd = fd, .iov = iov, .niov = MIN(niov, IOV_MAX),
        .offset = offset, .flags = flags,
    };

    /* Beyond is the kernel's "current position", or nonsense. */
    if (offset > INT64_MAX || niov < 0) {
        return -EINVAL;
    }
    if (flags & AIO_HINT_ASYNC &&
        iov_bytes(iov, req.niov) < AIO_ASYNC_MIN_BYTES) {
        req.flags &= ~(unsigned)AIO_HINT_ASYNC;
    }
    return request_co_run(&req);
}

ssize_t coroutine_fn aio_co_preadv(int fd, const struct iovec *iov, int niov,
                                   uint64_t offset, unsigned flags)
{
    return co_transfer(AIO_OP_READ, fd, iov, niov, offset, flags);
}

ssize_t coroutine_fn aio_co_pwritev(int fd, const struct iovec *iov, int niov,
                                    uint64_t offset, unsigned flags)
{
    return co_transfer(AIO_OP_WRITE, fd, iov, niov, offset, flags);
}

int coroutine_fn aio_co_fdatasync(int fd)
{
    AioRequest req = { .op = AIO_OP_FDATASYNC, .fd = fd };

    return (int)request_co_run(&req);
}

int coroutine_fn aio_co_fallocate(int fd, int mode, uint64_t offset,
                                  uint64_t bytes)
{
    AioRequest req = {
        .op = AIO_OP_FALLOCATE, .fd = fd, .mode = mode, .offset = offset,
        .bytes = bytes,
    };

    if (offset > INT64_MAX || bytes > INT64_MAX) {
        return -EINVAL;
    }
    return (int)request_co_run(&req);
}

int coroutine_fn aio_co_ftruncate(int fd, uint64_t length)
{
    AioRequest req = { .op = AIO_OP_FTRUNCATE, .fd = fd, .bytes = length };

    if (length > INT64_MAX) {
        return -EINVAL;
    }
    return (int)request_co_run(&req);
}

/* ---- registered buffers ---- */

int aio_register_buffer(AioContext *ctx, void *buf, size_t len)
{
    aio_assert_home(ctx);
    if (!buf || len == 0) {
        return -EINVAL;
    }
    return ctx->ops->register_buffer(ctx, buf, len);
}

void aio_unregister_buffer(AioContext *ctx, void *buf)
{
    aio_assert_home(ctx);
    ctx->ops->unregister_buffer(ctx, buf);
}
