/* SPDX-License-Identifier: MIT */
/*
 * AioContext from inside: what the parts of the loop share.
 *
 *   aio.c          life, aio_poll, wake-ups, coroutines
 *   aio-bh.c       bottom halves
 *   aio-timer.c    timers
 *   aio-fd.c       fd handlers and the descriptor for foreign loops
 *   aio-io.c       file I/O of coroutines
 *   aio-uring.c    back end: a ring
 *   aio-threads.c  back end: epoll and the thread pool
 *
 * Members marked (any) are atomics that every thread uses; all others belong
 * to the home thread, the one that drives the context.
 */
#ifndef FIRN_UTIL_AIO_INT_H
#define FIRN_UTIL_AIO_INT_H

#include <stdatomic.h>

#include "util/aio.h"
#include "util/coroutine.h"

typedef struct AioRequest AioRequest;
typedef struct AioHandler AioHandler;
typedef struct AioBackendOps AioBackendOps;

/* ---- what the ring carries ---- */

typedef enum {
    AIO_SQE_REQUEST,
    AIO_SQE_POLL,
    AIO_SQE_CANCEL,     /* cancels the poll of the same AioHandler */
} AioSqeKind;

/* One thing for the ring; waits on a list while the ring has no room. */
typedef struct AioSqe {
    AioSqeKind kind;
    bool waiting;
    struct AioSqe *next;
} AioSqe;

/* ---- file requests; live on the stack of their coroutine ---- */

typedef enum {
    AIO_OP_READ,
    AIO_OP_WRITE,
    AIO_OP_FDATASYNC,
    AIO_OP_FALLOCATE,
    AIO_OP_FTRUNCATE,
} AioOp;

struct AioRequest {
    AioSqe sqe;
    AioOp op;
    int fd;
    const struct iovec *iov;
    int niov;
    int mode;           /* AIO_OP_FALLOCATE */
    unsigned flags;     /* AIO_DSYNC, AIO_HINT_* */
    uint64_t offset;
    uint64_t bytes;     /* AIO_OP_FALLOCATE, AIO_OP_FTRUNCATE */
    bool force_async;   /* refused once with -EAGAIN: let a worker block */
    bool no_fixed;      /* its registered buffer went away */
    bool done;
    ssize_t ret;        /* valid when done */
    Coroutine *co;
};

/* The plain system call, in whatever thread; stores req->ret. Returns 0. */
int aio_request_run(void *opaque);

/* ---- fd handlers ---- */

/*
 *          aio_handler_add          back end: aio_handler_fired
 *   (new) ----------------> armed ------------------------------> queued
 *                             ^                                      |
 *                             |  callbacks returned                  |
 *                             +------------------ running <----------+
 *                                                        aio_run_handlers
 *
 * aio_handler_remove sets removed in any state; the struct is freed when it
 * is in none of them.
 */
struct AioHandler {
    AioSqe poll;
    AioSqe cancel;
    int fd;
    uint32_t events;        /* POLLIN, POLLOUT: same values as epoll's */
    uint32_t revents;
    AioFdFunc *on_read;
    AioFdFunc *on_write;
    void *opaque;
    bool internal;          /* ours: never polls in its callback, no progress */
    bool armed;             /* the back end has a pointer to it */
    bool queued;            /* on ctx->fired */
    bool running;
    bool removed;
    AioHandler *fired_next;
};

AioHandler *aio_handler_add(AioContext *ctx, int fd, AioFdFunc *on_read,
                            AioFdFunc *on_write, void *opaque, bool internal);
void aio_handler_remove(AioContext *ctx, AioHandler *h);

/* Back end to loop: @h has @revents; it is no longer armed unless internal. */
void aio_handler_fired(AioContext *ctx, AioHandler *h, uint32_t revents);

/* Free @h if it is removed and nobody points to it any more. */
void aio_handler_release(AioContext *ctx, AioHandler *h);

/* ---- back ends ---- */

struct AioBackendOps {
    AioBackend id;

    /* Sets up ctx->backend_state. Returns 0 or -errno with @errp. */
    int (*init)(AioContext *ctx, GError **errp);
    void (*cleanup)(AioContext *ctx);

    /*
     * Submit, wait for up to @timeout_ns (0: do not, negative: for ever) and
     * collect: wake coroutines of finished requests, aio_handler_fired. Runs
     * no callbacks. May return early.
     */
    void (*wait)(AioContext *ctx, int64_t timeout_ns);

    /* Submit what is prepared, do not wait. */
    void (*flush)(AioContext *ctx);

    /*
     * Take @req, to wake its coroutine when it is done. Returns false when
     * the back end does not know the operation: run it in the thread pool.
     */
    bool (*submit)(AioContext *ctx, AioRequest *req);

    /* Watch @h->fd for @h->events, once (if internal: at least once). */
    void (*arm)(AioContext *ctx, AioHandler *h);
    /* Stop; @h->armed may stay true until the next wait. */
    void (*disarm)(AioContext *ctx, AioHandler *h);

    /* What a foreign loop polls. */
    int (*fd)(AioContext *ctx);

    int (*register_buffer)(AioContext *ctx, void *buf, size_t len);
    void (*unregister_buffer)(AioContext *ctx, void *buf);
};

extern const AioBackendOps aio_uring_ops;
extern const AioBackendOps aio_threads_ops;

/* ---- the context ---- */

struct AioContext {
    const AioBackendOps *ops;
    void *backend_state;

    atomic_uint refs;           /* (any) */
    atomic_uint wakers;         /* (any) calls inside aio_wake_begin/end */
    atomic_uintptr_t driver;    /* (any) token of the driving thread, or 0 */
    atomic_bool stop;           /* (any) see aio_stop */
    unsigned depth;             /* nested drives */

    /* The notify protocol, see aio_notify. */
    int event_fd;
    AioHandler *event_handler;
    atomic_uint notify_me;      /* (any) */
    atomic_bool notified;       /* (any) */

    /* Woken coroutines: a stack that any thread pushes to ... */
    _Atomic(Coroutine *) woken; /* (any) */
    Coroutine *ready_head;      /* ... and the queue it is emptied into */
    Coroutine *ready_tail;
    unsigned nb_ready;

    /* Scheduled bottom halves, in the same way. */
    _Atomic(AioBH *) bh_woken;  /* (any) */
    AioBH *bh_head;
    AioBH *bh_tail;
    unsigned nb_bhs;

    GSequence *timers;          /* AioTimer, earliest first */
    uint64_t timer_seq;

    GHashTable *handlers;       /* fd to AioHandler, without internal ones */
    GHashTable *zombies;        /* set of removed AioHandlers still armed */
    AioHandler *fired_head;
    AioHandler *fired_tail;

    /* A foreign loop watches, see aio_context_fd. */
    bool foreign;
    int timer_fd;
    AioHandler *timer_handler;
    int64_t timer_fd_deadline;  /* INT64_MAX: not set */
};

/* Asserts that no other thread drives @ctx. */
void aio_assert_home(AioContext *ctx);

/*
 * Brackets every use of @ctx that makes something of it visible to its loop:
 * the last aio_context_unref waits until nobody is inside. Returns whether the
 * bracket was needed, to be passed to aio_wake_end.
 */
bool aio_wake_begin(AioContext *ctx);
void aio_wake_end(AioContext *ctx, bool counted);

/*
 * aio_co_schedule for ops->wait: this turn of the loop will enter @co anyhow,
 * so nothing is signalled.
 */
void aio_co_ready(AioContext *ctx, Coroutine *co);

/* After work was prepared outside the loop: let a foreign loop see it. */
void aio_foreign_update(AioContext *ctx);

/* Each runs one batch. Returns whether anything ran. */
bool aio_run_bhs(AioContext *ctx);
bool aio_run_timers(AioContext *ctx);
bool aio_run_handlers(AioContext *ctx);

/* Free what is scheduled; the context goes. */
void aio_drop_bhs(AioContext *ctx);

/* Earliest deadline, INT64_MAX without timers. */
int64_t aio_timers_deadline(AioContext *ctx);

/* Set the timerfd of a foreign loop to the earliest deadline. */
void aio_foreign_arm_timer(AioContext *ctx);

#endif
