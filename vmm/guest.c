/* SPDX-License-Identifier: MIT */
/*
 * The guest's thread: runs steps of the workload while the machine runs.
 *
 *   want_run  set by guest_cont, cleared by guest_stop or a guest that halts
 *   parked    set by the thread when it has seen want_run false: no step is
 *             under way, so no disk request is either
 */
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "error.h"
#include "workload.h"

struct Guest {
    Workload w;             /* the thread's, or anyone's while parked */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    bool want_run;          /* lock */
    bool parked;            /* lock */
    bool quit;              /* lock */
};

/* Wait for the next tick or for a request; lock held. */
static void wait_for_tick(Guest *g)
{
    int64_t ns = timer_remaining_ns(g->w.config.timer);
    struct timespec until;

    if (ns == 0) {
        return;
    }
    if (ns < 0) {
        pthread_cond_wait(&g->changed, &g->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    ns = MIN(ns, 1000000000) + until.tv_nsec;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(&g->changed, &g->lock, &until);
}

/* Wait until the machine runs. Returns false to quit. Lock held. */
static bool wait_until_running(Guest *g)
{
    while (!g->want_run && !g->quit) {
        if (!g->parked) {
            g->parked = true;
            pthread_cond_broadcast(&g->changed);
        }
        pthread_cond_wait(&g->changed, &g->lock);
    }
    if (g->quit) {
        return false;
    }
    if (g->parked && !workload_fits(&g->w)) {
        serial_write(g->w.config.serial, "guest: RAM does not hold a guest "
                     "that fits this machine, halted\n");
        serial_drain(g->w.config.serial);
        g->want_run = false;
        timer_stop(g->w.config.timer);
        return wait_until_running(g);
    }
    g->parked = false;
    return true;
}

static void *guest_thread(void *opaque)
{
    Guest *g = opaque;
    bool at_once;

    pthread_mutex_lock(&g->lock);
    while (wait_until_running(g)) {
        pthread_mutex_unlock(&g->lock);
        at_once = workload_step(&g->w);
        pthread_mutex_lock(&g->lock);
        if (!at_once && g->want_run && !g->quit) {
            wait_for_tick(g);
        }
    }
    g->parked = true;
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

Guest *guest_new(const GuestConfig *config, GError **errp)
{
    Guest *g = g_new0(Guest, 1);
    int ret;

    if (workload_init(&g->w, config, errp) < 0) {
        g_free(g);
        return NULL;
    }
    pthread_mutex_init(&g->lock, NULL);
    init_cond(&g->changed);
    g->parked = true;
    ret = pthread_create(&g->thread, NULL, guest_thread, g);
    if (ret) {
        vmm_error(errp, -ret, "cannot make the guest's thread: %s",
                  g_strerror(ret));
        pthread_cond_destroy(&g->changed);
        pthread_mutex_destroy(&g->lock);
        workload_cleanup(&g->w);
        g_free(g);
        return NULL;
    }
    return g;
}

void guest_free(Guest *g)
{
    if (!g) {
        return;
    }
    pthread_mutex_lock(&g->lock);
    g->quit = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    serial_drain(g->w.config.serial);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    workload_cleanup(&g->w);
    g_free(g);
}

void guest_boot(Guest *g)
{
    g_assert(g->parked);
    workload_boot(&g->w);
}

void guest_stop(Guest *g)
{
    pthread_mutex_lock(&g->lock);
    g->want_run = false;
    pthread_cond_broadcast(&g->changed);
    while (!g->parked) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    timer_stop(g->w.config.timer);
}

void guest_cont(Guest *g)
{
    timer_start(g->w.config.timer);
    pthread_mutex_lock(&g->lock);
    g->want_run = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

bool guest_is_running(Guest *g)
{
    bool running;

    pthread_mutex_lock(&g->lock);
    running = g->want_run;
    pthread_mutex_unlock(&g->lock);
    return running;
}

static int check_stopped_guest(Guest *g, GError **errp)
{
    g_assert(!guest_is_running(g));
    if (!workload_fits(&g->w)) {
        return vmm_error(errp, -EINVAL, "RAM does not hold a guest that fits "
                         "this machine");
    }
    return 0;
}

int guest_info(Guest *g, GuestInfo *ret, GError **errp)
{
    int err = check_stopped_guest(g, errp);

    if (err == 0) {
        *ret = (GuestInfo) {
            .nonce = g->w.state->nonce,
            .counter = g->w.state->counter,
        };
    }
    return err;
}

int guest_verify(Guest *g, GuestVerify *ret, GError **errp)
{
    int err = check_stopped_guest(g, errp);

    if (err == 0) {
        workload_verify(&g->w, ret);
    }
    return err;
}
