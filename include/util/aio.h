/* SPDX-License-Identifier: MIT */
/*
 * AioContext: a thread's event loop. It carries file I/O of coroutines,
 * bottom halves, timers, file descriptor handlers and woken coroutines.
 *
 * One io_uring ring per context, or epoll plus the thread pool where io_uring
 * is not permitted; what a caller sees is the same on both.
 *
 * Threads. A context is driven (aio_poll, aio_run_blocking) by one thread at a
 * time; that is asserted. It may be handed over to another thread while
 * nobody drives it, also with requests in flight. Only these may be called
 * from any thread at any time: aio_notify, aio_stop, aio_bh_schedule,
 * aio_bh_schedule_oneshot, aio_co_schedule, aio_co_wake, aio_now_ns, and
 * aio_context_ref/unref. All others belong to the thread that drives the
 * context ("home thread" below).
 *
 * Order. Coroutines are entered in the order in which they were woken, and
 * bottom halves run in the order in which they were scheduled. Neither ever
 * runs inside the call that wakes or schedules it.
 */
#ifndef FIRN_UTIL_AIO_H
#define FIRN_UTIL_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "util/compiler.h"

typedef struct AioContext AioContext;
typedef struct AioBH AioBH;
typedef struct AioTimer AioTimer;
typedef struct Coroutine Coroutine;

typedef enum {
    AIO_BACKEND_AUTO,       /* FIRN_AIO decides, else what works here */
    AIO_BACKEND_IO_URING,
    AIO_BACKEND_THREADS,    /* epoll and the thread pool */
} AioBackend;

typedef void AioBHFunc(void *opaque);
typedef void AioTimerFunc(void *opaque);
typedef void AioFdFunc(void *opaque);

/* Flags of aio_co_preadv and aio_co_pwritev. */
enum {
    /* Write: the data is durable when the call returns (RWF_DSYNC). */
    AIO_DSYNC = 1 << 0,
    /*
     * The transfer is expected to copy from or to the page cache: requests of
     * AIO_ASYNC_MIN_BYTES or more are given to a kernel worker at once, so
     * that copies run in parallel instead of inside io_uring_enter. No effect
     * on smaller requests and on the threads back end. Do not set it for
     * files opened with O_DIRECT.
     */
    AIO_HINT_ASYNC = 1 << 1,
    /*
     * The transfer goes to the disk (O_DIRECT): while the disk has little to
     * do, it gets requests before the turn of the loop is over.
     */
    AIO_HINT_DIRECT = 1 << 2,
};

enum {
    AIO_ASYNC_MIN_BYTES = 128 * 1024,
    AIO_MAX_BUFFERS = 64,   /* registered buffers per context */
};

/* ---- life and loop ---- */

/*
 * Create a context with one reference. AIO_BACKEND_AUTO honours the
 * environment variable FIRN_AIO (io_uring or threads); without it io_uring is
 * taken if the kernel lets us (and not under valgrind, which cannot run other
 * threads meanwhile), otherwise threads, silently.
 *
 * Returns NULL and sets @errp when io_uring was asked for by name and is not
 * available, when FIRN_AIO has another value, or when descriptors run out.
 */
AioContext *aio_context_new(AioBackend backend, GError **errp);

/* Any thread. @ctx must not be NULL. Returns @ctx. */
AioContext *aio_context_ref(AioContext *ctx);

/*
 * Any thread; NULL is fine. The last reference frees the context. By then no
 * request, no timer and no fd handler may be left (asserted), nobody may
 * drive it and no other thread may start a call on it. Calls of other threads
 * that have already woken something are waited for, so that the owner may
 * free a context as soon as what it waited for has happened. Bottom halves
 * that are scheduled are dropped without running.
 */
void aio_context_unref(AioContext *ctx);

/* Which back end runs: AIO_BACKEND_IO_URING or AIO_BACKEND_THREADS. */
AioBackend aio_context_backend(const AioContext *ctx);

/*
 * The context that this thread drives at the moment (innermost), else the one
 * set with aio_set_current, else NULL.
 */
AioContext *aio_get_current(void);

/*
 * Attach @ctx to this thread, so that coroutines which the thread enters
 * outside aio_poll have a home. NULL detaches. No reference is taken: detach
 * before the last aio_context_unref.
 */
void aio_set_current(AioContext *ctx);

/*
 * One turn of the loop: submit what coroutines have prepared, wait if
 * @blocking and nothing is ready, collect completions, then run fd handlers,
 * bottom halves, expired timers and woken coroutines, one batch of each.
 *
 * May be nested in a bottom half, a timer or an fd handler; never called in a
 * coroutine (asserted). A blocking call may return early without progress
 * (aio_notify, a signal).
 *
 * Returns whether anything ran.
 */
bool no_coroutine_fn aio_poll(AioContext *ctx, bool blocking);

/* Drive @ctx until @cond is false. @cond is evaluated before each turn. */
#define AIO_WAIT_WHILE(ctx, cond)       \
    do {                                \
        while (cond) {                  \
            aio_poll((ctx), true);      \
        }                               \
    } while (0)

/*
 * A descriptor for a foreign loop (glib, libev, poll): it is readable when
 * aio_poll(ctx, false) has something to do. Watch it for input only, neither
 * read nor close it. Stays valid for the life of @ctx.
 *
 * The first call changes @ctx for good: everything prepared is submitted at
 * once and every wake-up is signalled, which costs a few more system calls.
 * On io_uring the watching poll or epoll_wait may fail with EINTR at any
 * time, as after a signal.
 */
int aio_context_fd(AioContext *ctx);

/*
 * Make a blocking aio_poll of @ctx return (or the next one, if none waits).
 * Any thread. Whatever the caller stored before is visible after the return.
 */
void aio_notify(AioContext *ctx);

/*
 * Ask what runs on @ctx to end early, and wake it. For good; any thread, and
 * signal handlers too. Nothing is cut off: long operations look at
 * aio_check_stop() where all they have changed is whole, and no request fails
 * because of it, so that what is open can still be flushed and closed.
 */
void aio_stop(AioContext *ctx);
bool aio_stopping(AioContext *ctx);

/* 0, or -ECANCELED once the current context was asked to stop. */
int aio_check_stop(void);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t aio_now_ns(void);

/* ---- bottom halves ---- */

/* @fn(@opaque) runs in the loop of @ctx after each aio_bh_schedule. */
AioBH *aio_bh_new(AioContext *ctx, AioBHFunc *fn, void *opaque);

/*
 * Run @bh once, soon. Lock-free. Scheduling it again before it has started to
 * run has no effect; scheduling while it runs makes it run once more.
 */
void aio_bh_schedule(AioBH *bh);

/*
 * Delete @bh; NULL is fine. It will not start any more (when called in
 * another thread than the home thread it may be running just now). May be
 * called by its own function. Freed by the loop.
 */
void aio_bh_delete(AioBH *bh);

/* Run @fn(@opaque) once in the loop of @ctx. Lock-free but for malloc. */
void aio_bh_schedule_oneshot(AioContext *ctx, AioBHFunc *fn, void *opaque);

/* ---- coroutines ---- */

/*
 * Enter @co from the loop of @ctx, which becomes its home. @co must be about
 * to yield on the home thread of @ctx, or have yielded anywhere. At most one
 * wake-up may be pending per coroutine (asserted). Lock-free.
 */
void aio_co_schedule(AioContext *ctx, Coroutine *co);

/* aio_co_schedule on the home of @co. Never enters it directly. */
void aio_co_wake(Coroutine *co);

/* Yield for @ns nanoseconds or more; 0 or less goes once round the loop. */
void coroutine_fn aio_co_sleep_ns(int64_t ns);

/*
 * Run @fn(@opaque) in a new coroutine on @ctx and drive @ctx until it is
 * done. Not in a coroutine; any thread while nobody else drives @ctx. The
 * context is current for the time of the call. Returns what @fn returned.
 */
int no_coroutine_fn aio_run_blocking(AioContext *ctx,
                                     int coroutine_fn (*fn)(void *),
                                     void *opaque);

/* ---- timers (home thread) ---- */

/* A timer that is not armed; @fn(@opaque) runs each time it expires. */
AioTimer *aio_timer_new(AioContext *ctx, AioTimerFunc *fn, void *opaque);

/* Arm, or move, to @deadline_ns on CLOCK_MONOTONIC. The past is fine. */
void aio_timer_mod(AioTimer *t, int64_t deadline_ns);

/* Disarm; fine when it is not armed. */
void aio_timer_del(AioTimer *t);

/* Disarm and free; NULL is fine. May be called by its own function. */
void aio_timer_free(AioTimer *t);

/* ---- file descriptors (home thread) ---- */

/*
 * Call @on_read(@opaque) while @fd is readable (or has an error or hang-up)
 * and @on_write(@opaque) while it is writable; level-triggered. Replaces what
 * was set for @fd; both NULL removes, which must precede close(@fd). The
 * handler may replace or remove itself, and is not entered again while it
 * runs. @fd must be pollable, so not a regular file.
 */
void aio_set_fd_handler(AioContext *ctx, int fd, AioFdFunc *on_read,
                        AioFdFunc *on_write, void *opaque);

/* ---- file I/O, in a coroutine whose thread has a current context ---- */

/*
 * Read into @iov (@niov entries, of which at most IOV_MAX are used) at byte
 * @offset, up to INT64_MAX. @flags: AIO_HINT_*. @iov and its buffers
 * must stay until the call returns. Yields.
 *
 * Returns the bytes read, which may be fewer than asked for (0 at the end of
 * the file), or -errno. Interrupted and refused-for-now requests are repeated
 * here and not seen by the caller.
 */
ssize_t coroutine_fn aio_co_preadv(int fd, const struct iovec *iov, int niov,
                                   uint64_t offset, unsigned flags);

/* As aio_co_preadv, to write. @flags: AIO_DSYNC, AIO_HINT_*. */
ssize_t coroutine_fn aio_co_pwritev(int fd, const struct iovec *iov, int niov,
                                    uint64_t offset, unsigned flags);

/* fdatasync(2). Returns 0 or -errno. Yields. */
int coroutine_fn aio_co_fdatasync(int fd);

/* fallocate(2) with its @mode. Returns 0 or -errno. Yields. */
int coroutine_fn aio_co_fallocate(int fd, int mode, uint64_t offset,
                                  uint64_t bytes);

/* ftruncate(2), in the thread pool. Returns 0 or -errno. Yields. */
int coroutine_fn aio_co_ftruncate(int fd, uint64_t length);

/* ---- registered buffers (home thread) ---- */

/*
 * Register @buf, @len bytes, with the ring of @ctx: transfers with one iovec
 * inside it then need no page pinning per request. A failure is harmless,
 * since I/O works all the same.
 *
 * Returns 0; -ENOTSUP without io_uring, -EEXIST when @buf is registered,
 * -ENOSPC when the table is full, -EINVAL for no bytes, or what the kernel
 * said (-ENOMEM: RLIMIT_MEMLOCK).
 */
int aio_register_buffer(AioContext *ctx, void *buf, size_t len);

/*
 * Undo; call before the memory is freed. Requests that use it keep it pinned
 * until they are done. A @buf which is not registered is ignored.
 */
void aio_unregister_buffer(AioContext *ctx, void *buf);

#endif
