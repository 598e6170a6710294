/* SPDX-License-Identifier: MIT */
/*
 * Clock and timer; see timer.h. Version 1 of the state had no count of missed
 * ticks.
 */
#include "timer.h"

#include <errno.h>
#include <time.h>

static int64_t host_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* lock held */
static int64_t clock_locked(Timer *t)
{
    int64_t clock_ns = (int64_t)t->clock_ns;

    return t->running ? clock_ns + (host_ns() - t->started_ns) : clock_ns;
}

/* A stream may carry anything: keep what the arithmetic relies on. */
static int timer_post_load(void *opaque, int version_id)
{
    Timer *t = opaque;

    if (t->clock_ns > INT64_MAX / 2 || t->deadline_ns < -1
        || t->deadline_ns > INT64_MAX / 2
        || (t->deadline_ns >= 0 && t->period_ns < TIMER_MIN_PERIOD_NS)
        || t->period_ns > TIMER_MAX_PERIOD_NS) {
        t->clock_ns = t->period_ns = 0;
        t->deadline_ns = -1;
        return -EINVAL;
    }
    if (version_id < 2) {
        t->missed = 0;
    }
    return 0;
}

const VMStateDescription vmstate_timer = {
    .name = "timer",
    .version_id = 2,
    .minimum_version_id = 1,
    .post_load = timer_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(ticks, Timer),
        VMSTATE_UINT64(period_ns, Timer),
        VMSTATE_TIMER(deadline_ns, Timer),
        VMSTATE_UINT64(clock_ns, Timer),
        VMSTATE_UINT64_V(missed, Timer, 2),
        VMSTATE_END_OF_LIST()
    },
};

void timer_init(Timer *t)
{
    *t = (Timer) { .deadline_ns = -1 };
    pthread_mutex_init(&t->lock, NULL);
}

void timer_cleanup(Timer *t)
{
    pthread_mutex_destroy(&t->lock);
}

void timer_start(Timer *t)
{
    pthread_mutex_lock(&t->lock);
    if (!t->running) {
        t->running = true;
        t->started_ns = host_ns();
    }
    pthread_mutex_unlock(&t->lock);
}

void timer_stop(Timer *t)
{
    pthread_mutex_lock(&t->lock);
    t->clock_ns = (uint64_t)clock_locked(t);
    t->running = false;
    pthread_mutex_unlock(&t->lock);
}

uint64_t timer_clock_ns(Timer *t)
{
    int64_t clock_ns;

    pthread_mutex_lock(&t->lock);
    clock_ns = clock_locked(t);
    pthread_mutex_unlock(&t->lock);
    return (uint64_t)clock_ns;
}

void timer_program(Timer *t, uint64_t period_ns)
{
    pthread_mutex_lock(&t->lock);
    t->period_ns = period_ns;
    t->deadline_ns = clock_locked(t) + (int64_t)period_ns;
    pthread_mutex_unlock(&t->lock);
}

uint64_t timer_advance(Timer *t)
{
    int64_t late_ns, due;
    uint64_t ticks;

    pthread_mutex_lock(&t->lock);
    late_ns = clock_locked(t) - t->deadline_ns;
    if (t->deadline_ns >= 0 && late_ns >= 0) {
        due = late_ns / (int64_t)t->period_ns + 1;
        t->ticks++;
        t->missed += (uint64_t)due - 1;
        t->deadline_ns += due * (int64_t)t->period_ns;
    }
    ticks = t->ticks;
    pthread_mutex_unlock(&t->lock);
    return ticks;
}

int64_t timer_remaining_ns(Timer *t)
{
    int64_t remaining = -1;

    pthread_mutex_lock(&t->lock);
    if (t->deadline_ns >= 0) {
        remaining = t->deadline_ns - clock_locked(t);
        if (remaining < 0) {
            remaining = 0;
        }
    }
    pthread_mutex_unlock(&t->lock);
    return remaining;
}
