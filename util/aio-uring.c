/* SPDX-License-Identifier: MIT */
/*
 * io_uring back end. Everything the context waits for is in its ring: file
 * requests, and one-shot polls for fd handlers, the eventfd of aio_notify and
 * the timerfd of a foreign loop. So the ring's own descriptor is all that a
 * foreign loop has to watch.
 *
 * Requests only prepare SQEs; one io_uring_enter per turn of the loop submits
 * them all and waits. Requests to a disk (AIO_HINT_DIRECT) are the exception,
 * as some disks complete all they have at once and then are idle until the
 * next submission: see submit_early(). When the ring is full it is submitted at once, and what
 * still finds no room waits on a list: nothing is lost. More completions than
 * the CQ has room for are kept by the kernel (NODROP) and delivered by later
 * calls.
 *
 * The ring is set up without SINGLE_ISSUER and DEFER_TASKRUN. They bind it to
 * one thread for good, while a context may be handed from one thread to
 * another, with polls and requests in flight. When a thread ends, the kernel
 * cancels what that thread has submitted; nothing here cancels requests, so
 * -ECANCELED means just that, and the request or poll is submitted again.
 */
#include "aio-int.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <poll.h>

#include "util/error.h"

enum { RING_ENTRIES = 256 };

/* Most bytes that one read or write transfers; longer ones are short. */
static const size_t max_transfer = 0x7ffff000;

typedef struct AioUring {
    struct io_uring ring;
    AioSqe *waiting_head;       /* found no room in the ring */
    AioSqe *waiting_tail;
    unsigned in_flight;         /* requests taken and not done */
    bool has_rw;                /* READ and WRITE: one buffer, no iovec */
    bool has_fallocate;
    bool has_table;             /* the buffer table is registered */
    unsigned nb_buffers;        /* slots of buffers in use */
    struct iovec buffers[AIO_MAX_BUFFERS];  /* iov_base NULL: free slot */
} AioUring;

static AioUring *uring(AioContext *ctx)
{
    return ctx->backend_state;
}

/* ---- submitting ---- */

/* io_uring_enter failed with @ret, a negative errno. Can we go on? */
static bool is_transient(int ret)
{
    return ret == -EINTR || ret == -EAGAIN || ret == -EBUSY ||
           ret == -ETIME || ret == -ENOMEM;
}

static void submit_now(AioUring *u)
{
    int ret = io_uring_submit(&u->ring);

    /* What it could not submit now stays in the ring for the next time. */
    assert(ret >= 0 || is_transient(ret));
}

static struct io_uring_sqe *get_sqe(AioUring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (!sqe) {
        submit_now(u);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

/* The slot of the registered buffer that @iov lies in, or -1. */
static int find_buffer(const AioUring *u, const struct iovec *iov)
{
    uintptr_t start = (uintptr_t)iov->iov_base;

    if (u->nb_buffers == 0) {
        return -1;
    }
    for (int i = 0; i < AIO_MAX_BUFFERS; i++) {
        uintptr_t base = (uintptr_t)u->buffers[i].iov_base;
        size_t len = u->buffers[i].iov_len;

        if (base && start >= base && start - base < len &&
            iov->iov_len <= len - (start - base)) {
            return i;
        }
    }
    return -1;
}

static void prep_transfer(AioUring *u, struct io_uring_sqe *sqe,
                          AioRequest *req)
{
    bool write = req->op == AIO_OP_WRITE;
    const struct iovec *iov = req->iov;
    unsigned len;
    int slot;

    if (req->niov != 1 || !u->has_rw) {
        io_uring_prep_rw(write ? IORING_OP_WRITEV : IORING_OP_READV, sqe,
                         req->fd, iov, (unsigned)req->niov, req->offset);
    } else {
        len = (unsigned)MIN(iov->iov_len, max_transfer);
        slot = req->no_fixed ? -1 : find_buffer(u, iov);
        if (slot >= 0) {
            io_uring_prep_rw(write ? IORING_OP_WRITE_FIXED
                                   : IORING_OP_READ_FIXED,
                             sqe, req->fd, iov->iov_base, len, req->offset);
            sqe->buf_index = (uint16_t)slot;
        } else {
            io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe,
                             req->fd, iov->iov_base, len, req->offset);
        }
    }
    if (write && req->flags & AIO_DSYNC) {
        sqe->rw_flags = RWF_DSYNC;
    }
    if (req->flags & AIO_HINT_ASYNC || req->force_async) {
        sqe->flags |= IOSQE_ASYNC;
    }
}

static void prep_request(AioUring *u, struct io_uring_sqe *sqe,
                         AioRequest *req)
{
    switch (req->op) {
    case AIO_OP_READ:
    case AIO_OP_WRITE:
        prep_transfer(u, sqe, req);
        break;
    case AIO_OP_FDATASYNC:
        io_uring_prep_fsync(sqe, req->fd, IORING_FSYNC_DATASYNC);
        break;
    case AIO_OP_FALLOCATE:
        io_uring_prep_fallocate(sqe, req->fd, req->mode, (off_t)req->offset,
                                (off_t)req->bytes);
        break;
    case AIO_OP_FTRUNCATE:
        g_assert_not_reached();     /* uring_submit refused it */
    }
    io_uring_sqe_set_data(sqe, &req->sqe);
}

/* Write an SQE for @s. Returns false when the ring has no room. */
static bool prep_sqe(AioUring *u, AioSqe *s)
{
    struct io_uring_sqe *sqe = get_sqe(u);
    AioHandler *h;

    if (!sqe) {
        return false;
    }
    switch (s->kind) {
    case AIO_SQE_REQUEST:
        prep_request(u, sqe, container_of(s, AioRequest, sqe));
        break;
    case AIO_SQE_POLL:
        h = container_of(s, AioHandler, poll);
        io_uring_prep_poll_add(sqe, h->fd, h->events);
        io_uring_sqe_set_data(sqe, s);
        break;
    case AIO_SQE_CANCEL:
        h = container_of(s, AioHandler, cancel);
        io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)&h->poll);
        /* The poll itself completes too, that one is waited for. */
        io_uring_sqe_set_data(sqe, NULL);
        break;
    }
    return true;
}

static void wait_for_room(AioUring *u, AioSqe *s)
{
    s->waiting = true;
    s->next = NULL;
    if (u->waiting_tail) {
        u->waiting_tail->next = s;
    } else {
        u->waiting_head = s;
    }
    u->waiting_tail = s;
}

static void queue_sqe(AioUring *u, AioSqe *s)
{
    if (u->waiting_head || !prep_sqe(u, s)) {
        wait_for_room(u, s);
    }
}

/* The handler of @s if nothing needs to be done for @s any more, else NULL. */
static AioHandler *obsolete_handler(AioSqe *s)
{
    AioHandler *h;

    if (s->kind == AIO_SQE_POLL) {
        h = container_of(s, AioHandler, poll);
        if (h->removed) {
            h->armed = false;
            return h;
        }
    } else if (s->kind == AIO_SQE_CANCEL) {
        h = container_of(s, AioHandler, cancel);
        return h->armed ? NULL : h;
    }
    return NULL;
}

static void issue_waiting(AioContext *ctx)
{
    AioUring *u = uring(ctx);
    AioSqe *s;

    while ((s = u->waiting_head) != NULL) {
        AioHandler *obsolete = obsolete_handler(s);

        if (!obsolete && !prep_sqe(u, s)) {
            return;
        }
        u->waiting_head = s->next;
        if (!u->waiting_head) {
            u->waiting_tail = NULL;
        }
        s->waiting = false;
        if (obsolete) {
            aio_handler_release(ctx, obsolete);
        }
    }
}

/*
 * Let the disk begin with what is prepared while more is being prepared, when
 * that is at least as much as it has already: 1, 2, 4, 8.. requests, which
 * costs few system calls and leaves the kernel neighbours to merge. A lone
 * request is submitted together with waiting for it, as ever.
 */
static void submit_early(AioUring *u)
{
    unsigned ready = io_uring_sq_ready(&u->ring);

    if (ready > 0 && !u->waiting_head && ready >= u->in_flight - ready) {
        submit_now(u);
    }
}

/* ---- completions ---- */

/*
 * Should the request be submitted again? -EAGAIN: first let a kernel worker
 * block for it; if it comes back with the same, aio-io.c takes over.
 */
static bool must_retry(AioRequest *req, int res)
{
    switch (res) {
    case -EINTR:
    case -ECANCELED:
        return true;
    case -EAGAIN:
        if (!req->force_async) {
            req->force_async = true;
            return true;
        }
        return false;
    case -EFAULT:
        /* Perhaps its buffer was unregistered before it was submitted. */
        if (!req->no_fixed) {
            req->no_fixed = true;
            return true;
        }
        return false;
    default:
        return false;
    }
}

static void request_completed(AioContext *ctx, AioRequest *req, int res)
{
    if (must_retry(req, res)) {
        wait_for_room(uring(ctx), &req->sqe);
        return;
    }
    uring(ctx)->in_flight--;
    req->ret = res;
    req->done = true;
    aio_co_ready(ctx, req->co);
}

static void poll_completed(AioContext *ctx, AioHandler *h, int res)
{
    if (res == -ECANCELED && !h->removed) {
        wait_for_room(uring(ctx), &h->poll);
        return;
    }
    h->armed = false;
    if (!h->removed) {
        aio_handler_fired(ctx, h, res < 0 ? POLLERR : (uint32_t)res);
    }
    aio_handler_release(ctx, h);
}

static void reap(AioContext *ctx)
{
    AioUring *u = uring(ctx);
    struct io_uring_cqe *cqe;
    unsigned nb_cqes = 0;
    unsigned head;

    io_uring_for_each_cqe(&u->ring, head, cqe) {
        AioSqe *s = io_uring_cqe_get_data(cqe);

        nb_cqes++;
        if (!s) {
            continue;
        }
        if (s->kind == AIO_SQE_REQUEST) {
            request_completed(ctx, container_of(s, AioRequest, sqe),
                              cqe->res);
        } else {
            poll_completed(ctx, container_of(s, AioHandler, poll), cqe->res);
        }
    }
    io_uring_cq_advance(&u->ring, nb_cqes);
}

/* Completions that the kernel holds back until the next io_uring_enter. */
static bool has_overflow(AioUring *u)
{
    return io_uring_cq_has_overflow(&u->ring);
}

/* One io_uring_enter, if there is a reason for it. */
static int enter(AioUring *u, int64_t timeout_ns)
{
    struct __kernel_timespec ts;
    struct io_uring_cqe *cqe;

    if (timeout_ns < 0) {
        return io_uring_submit_and_wait(&u->ring, 1);
    }
    if (timeout_ns == 0) {
        if (has_overflow(u)) {
            return io_uring_submit_and_get_events(&u->ring);
        }
        return io_uring_sq_ready(&u->ring) ? io_uring_submit(&u->ring) : 0;
    }
    ts.tv_sec = timeout_ns / 1000000000;
    ts.tv_nsec = timeout_ns % 1000000000;
    return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

static void uring_wait(AioContext *ctx, int64_t timeout_ns)
{
    AioUring *u = uring(ctx);
    int ret;

    issue_waiting(ctx);
    if (u->waiting_head || io_uring_cq_ready(&u->ring) > 0) {
        timeout_ns = 0;
    }
    ret = enter(u, timeout_ns);
    assert(ret >= 0 || is_transient(ret));
    reap(ctx);
}

static void uring_flush(AioContext *ctx)
{
    AioUring *u = uring(ctx);

    issue_waiting(ctx);
    if (io_uring_sq_ready(&u->ring) > 0) {
        submit_now(u);
    }
}

static bool uring_submit(AioContext *ctx, AioRequest *req)
{
    AioUring *u = uring(ctx);

    aio_assert_home(ctx);
    if (req->op == AIO_OP_FTRUNCATE ||
        (req->op == AIO_OP_FALLOCATE && !u->has_fallocate)) {
        return false;
    }
    req->sqe.kind = AIO_SQE_REQUEST;
    if (req->flags & AIO_HINT_DIRECT) {
        submit_early(u);
    }
    u->in_flight++;
    queue_sqe(u, &req->sqe);
    return true;
}

/* ---- fd handlers ---- */

static void uring_arm(AioContext *ctx, AioHandler *h)
{
    h->armed = true;
    queue_sqe(uring(ctx), &h->poll);
}

static void uring_disarm(AioContext *ctx, AioHandler *h)
{
    if (!h->poll.waiting) {
        queue_sqe(uring(ctx), &h->cancel);
        /* The caller will close the descriptor: let go of its file now. */
        submit_now(uring(ctx));
    }
}

static int uring_fd(AioContext *ctx)
{
    return uring(ctx)->ring.ring_fd;
}

/* ---- registered buffers ---- */

static int update_slot(AioUring *u, int slot, void *buf, size_t len)
{
    struct iovec iov = { .iov_base = buf, .iov_len = len };
    __u64 tag = 0;
    int ret;

    ret = io_uring_register_buffers_update_tag(&u->ring, (unsigned)slot,
                                               &iov, &tag, 1);
    return ret < 0 ? ret : 0;
}

static int find_slot(const AioUring *u, const void *base)
{
    for (int i = 0; i < AIO_MAX_BUFFERS; i++) {
        if (u->buffers[i].iov_base == base) {
            return i;
        }
    }
    return -1;
}

static int uring_register_buffer(AioContext *ctx, void *buf, size_t len)
{
    AioUring *u = uring(ctx);
    int slot = find_slot(u, NULL);
    int ret;

    if (find_slot(u, buf) >= 0) {
        return -EEXIST;
    }
    if (slot < 0) {
        return -ENOSPC;
    }
    if (!u->has_table) {
        ret = io_uring_register_buffers_sparse(&u->ring, AIO_MAX_BUFFERS);
        if (ret < 0) {
            return ret;
        }
        u->has_table = true;
    }
    ret = update_slot(u, slot, buf, len);
    if (ret < 0) {
        return ret;
    }
    u->buffers[slot] = (struct iovec) { .iov_base = buf, .iov_len = len };
    u->nb_buffers++;
    return 0;
}

static void uring_unregister_buffer(AioContext *ctx, void *buf)
{
    AioUring *u = uring(ctx);
    int slot = buf ? find_slot(u, buf) : -1;

    if (slot >= 0) {
        /* SQEs that name the slot; see must_retry for what stays behind. */
        uring_flush(ctx);
        u->buffers[slot].iov_base = NULL;
        u->nb_buffers--;
        update_slot(u, slot, NULL, 0);
    }
}

/* ---- life ---- */

/*
 * What the back end needs from the kernel; only setting up a ring is not
 * enough, as a seccomp filter may forbid the other system calls.
 */
static int probe(AioUring *u)
{
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
    struct io_uring_probe *p;
    int ret;

    if ((u->ring.features & needed) != needed) {
        return -ENOSYS;
    }
    p = io_uring_get_probe_ring(&u->ring);
    if (!p) {
        return -EPERM;
    }
    ret = io_uring_opcode_supported(p, IORING_OP_READV) &&
          io_uring_opcode_supported(p, IORING_OP_WRITEV) &&
          io_uring_opcode_supported(p, IORING_OP_FSYNC) &&
          io_uring_opcode_supported(p, IORING_OP_POLL_ADD) &&
          io_uring_opcode_supported(p, IORING_OP_POLL_REMOVE) ? 0 : -ENOSYS;
    u->has_rw = io_uring_opcode_supported(p, IORING_OP_READ) &&
                io_uring_opcode_supported(p, IORING_OP_WRITE);
    u->has_fallocate = io_uring_opcode_supported(p, IORING_OP_FALLOCATE);
    io_uring_free_probe(p);
    return ret < 0 ? ret : io_uring_get_events(&u->ring);
}

static int uring_init(AioContext *ctx, GError **errp)
{
    AioUring *u = g_new0(AioUring, 1);
    int ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);

    if (ret < 0) {
        g_free(u);
        return set_error(errp, ret, "io_uring is not available: %s",
                         g_strerror(-ret));
    }
    ret = probe(u);
    if (ret < 0) {
        io_uring_queue_exit(&u->ring);
        g_free(u);
        return set_error(errp, ret, "io_uring is not usable here: %s",
                         g_strerror(-ret));
    }
    ctx->backend_state = u;
    return 0;
}

static void uring_cleanup(AioContext *ctx)
{
    AioUring *u = uring(ctx);

    assert(u->in_flight == 0);
    io_uring_queue_exit(&u->ring);
    g_free(u);
}

const AioBackendOps aio_uring_ops = {
    .id = AIO_BACKEND_IO_URING,
    .init = uring_init,
    .cleanup = uring_cleanup,
    .wait = uring_wait,
    .flush = uring_flush,
    .submit = uring_submit,
    .arm = uring_arm,
    .disarm = uring_disarm,
    .fd = uring_fd,
    .register_buffer = uring_register_buffer,
    .unregister_buffer = uring_unregister_buffer,
};
