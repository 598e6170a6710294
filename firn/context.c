/* SPDX-License-Identifier: MIT */
/*
 * FirnContext: whose thread runs an AioContext, and how others reach it.
 *
 * Everything in the layers below belongs to the thread that polls the
 * AioContext. A public function therefore never touches them itself: it
 * posts a bottom half that starts a coroutine (firn_run, firn_post), and
 * blocking ones wait for it, by polling where the caller is that thread and
 * on a condition where it is not.
 *
 *   caller thread                 context's thread
 *   firn_run: post run_bh   --->  run_bh: enters run_entry
 *   wait for done                 run_entry: fn(), done = true
 *                           <---  signal
 */
#include "firn_int.h"

#include <errno.h>
#include <signal.h>

#include "util/coroutine.h"
#include "util/error.h"

const char *firn_version(void)
{
    return G_STRINGIFY(FIRN_VERSION_MAJOR) "."
           G_STRINGIFY(FIRN_VERSION_MINOR) "."
           G_STRINGIFY(FIRN_VERSION_MICRO);
}

/* A number that orders versions. */
static uint64_t version_number(uint64_t major, uint64_t minor, uint64_t micro)
{
    return major << 40 | MIN(minor, 0xfffff) << 20 | MIN(micro, 0xfffff);
}

bool firn_version_at_least(unsigned major, unsigned minor, unsigned micro)
{
    return version_number(major, minor, micro)
           <= version_number(FIRN_VERSION_MAJOR, FIRN_VERSION_MINOR,
                             FIRN_VERSION_MICRO);
}

GQuark firn_error_domain(void)
{
    return FIRN_ERROR;
}

static bool on_owner_thread(FirnContext *ctx)
{
    return pthread_equal(pthread_self(), ctx->owner);
}

/* ---- Getting onto the thread ---- */

void firn_post(FirnContext *ctx, AioBHFunc *fn, void *opaque)
{
    aio_bh_schedule_oneshot(ctx->aio, fn, opaque);
}

/* On the stack of firn_run(). */
typedef struct Run {
    FirnCoFunc *fn;
    void *opaque;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;              /* lock */
    int ret;                /* lock */
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *run = opaque;
    int ret = run->fn(run->opaque);

    pthread_mutex_lock(&run->lock);
    run->ret = ret;
    run->done = true;
    pthread_cond_signal(&run->over);
    pthread_mutex_unlock(&run->lock);
    /* *run is gone: the waiter may have returned. */
}

static void run_bh(void *opaque)
{
    co_enter(co_create(run_entry, opaque));
}

int no_coroutine_fn firn_run(FirnContext *ctx, FirnCoFunc *fn, void *opaque,
                             GError **errp)
{
    Run run = {
        .fn = fn,
        .opaque = opaque,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .over = PTHREAD_COND_INITIALIZER,
    };
    bool owner = on_owner_thread(ctx);

    if (owner && ctx->dispatching > 0) {
        return set_error(errp, -EDEADLK, "a blocking call from a callback of "
                         "the same context would never return");
    }
    firn_post(ctx, run_bh, &run);
    if (owner) {
        /* Only this thread sets done: reading it needs no lock. */
        ctx->dispatching++;
        while (!run.done) {
            aio_poll(ctx->aio, true);
        }
        ctx->dispatching--;
    } else {
        pthread_mutex_lock(&run.lock);
        while (!run.done) {
            pthread_cond_wait(&run.over, &run.lock);
        }
        pthread_mutex_unlock(&run.lock);
    }
    pthread_cond_destroy(&run.over);
    pthread_mutex_destroy(&run.lock);
    return run.ret;
}

/* ---- The thread of FIRN_CONTEXT_THREAD ---- */

/* On the stack of context_start_thread() until the thread has reported. */
typedef struct Startup {
    FirnContext *ctx;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    bool done;              /* lock */
    int ret;                /* lock */
    GError *err;            /* lock */
} Startup;

static void startup_report(Startup *up, int ret, GError *err)
{
    pthread_mutex_lock(&up->lock);
    up->ret = ret;
    up->err = err;
    up->done = true;
    pthread_cond_signal(&up->ready);
    pthread_mutex_unlock(&up->lock);
}

static void *context_thread(void *opaque)
{
    Startup *up = opaque;
    FirnContext *ctx = up->ctx;
    GError *err = NULL;

    /* The ring must be made by the thread that will submit to it. */
    ctx->aio = aio_context_new(AIO_BACKEND_AUTO, &err);
    if (!ctx->aio) {
        startup_report(up, err ? -err->code : -ENOMEM, err);
        return NULL;
    }
    ctx->owner = pthread_self();
    ctx->dispatching = 1;
    aio_set_current(ctx->aio);
    startup_report(up, 0, NULL);

    while (!ctx->stop) {
        aio_poll(ctx->aio, true);
    }
    while (aio_poll(ctx->aio, false)) {
        /* what was posted before the stop */
    }
    aio_set_current(NULL);
    aio_context_unref(ctx->aio);
    return NULL;
}

static int context_start_thread(FirnContext *ctx, GError **errp)
{
    Startup up = {
        .ctx = ctx,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .ready = PTHREAD_COND_INITIALIZER,
    };
    pthread_t thread;
    sigset_t all, before;
    int ret;

    /* The program's signals are for its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = pthread_create(&thread, NULL, context_thread, &up);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret) {
        ret = set_error(errp, -ret, "cannot make a thread: %s",
                        g_strerror(ret));
        goto out;
    }
    pthread_mutex_lock(&up.lock);
    while (!up.done) {
        pthread_cond_wait(&up.ready, &up.lock);
    }
    pthread_mutex_unlock(&up.lock);
    ret = up.ret;
    if (ret < 0) {
        pthread_join(thread, NULL);
        g_propagate_error(errp, up.err);
    }
out:
    pthread_cond_destroy(&up.ready);
    pthread_mutex_destroy(&up.lock);
    return ret;
}

static void stop_bh(void *opaque)
{
    FirnContext *ctx = opaque;

    ctx->stop = true;
}

/* ---- Public functions ---- */

FirnContext *firn_context_new(FirnContextMode mode, GError **errp)
{
    FirnContext *ctx;

    if (mode != FIRN_CONTEXT_THREAD && mode != FIRN_CONTEXT_CALLER) {
        set_error(errp, -EINVAL, "no context mode %d", (int)mode);
        return NULL;
    }
    ctx = g_new0(FirnContext, 1);
    ctx->mode = mode;
    if (mode == FIRN_CONTEXT_THREAD) {
        if (context_start_thread(ctx, errp) < 0) {
            g_free(ctx);
            return NULL;
        }
        return ctx;
    }
    ctx->owner = pthread_self();
    ctx->aio = aio_context_new(AIO_BACKEND_AUTO, errp);
    if (!ctx->aio) {
        g_free(ctx);
        return NULL;
    }
    return ctx;
}

void firn_context_free(FirnContext *ctx)
{
    if (!ctx) {
        return;
    }
    g_assert(g_atomic_int_get(&ctx->users) == 0);
    if (ctx->mode == FIRN_CONTEXT_THREAD) {
        g_assert(!on_owner_thread(ctx));
        firn_post(ctx, stop_bh, ctx);
        pthread_join(ctx->owner, NULL);
    } else {
        g_assert(on_owner_thread(ctx) && ctx->dispatching == 0);
        ctx->dispatching++;
        while (aio_poll(ctx->aio, false)) {
            /* callbacks of requests whose disk is closed already */
        }
        aio_context_unref(ctx->aio);
    }
    g_free(ctx);
}

int firn_context_fd(FirnContext *ctx)
{
    if (ctx->mode != FIRN_CONTEXT_CALLER) {
        return -EINVAL;
    }
    return aio_context_fd(ctx->aio);
}

int firn_context_dispatch(FirnContext *ctx)
{
    bool progress;

    if (ctx->mode != FIRN_CONTEXT_CALLER) {
        return -EINVAL;
    }
    if (!on_owner_thread(ctx)) {
        return -EPERM;
    }
    if (ctx->dispatching > 0) {
        return -EDEADLK;
    }
    ctx->dispatching++;
    progress = aio_poll(ctx->aio, false);
    ctx->dispatching--;
    return progress;
}

const char *firn_context_backend(FirnContext *ctx)
{
    return aio_context_backend(ctx->aio) == AIO_BACKEND_IO_URING
           ? "io_uring" : "threads";
}
