/* SPDX-License-Identifier: MIT */
/*
 * The guest's clock and a periodic timer on it.
 *
 * The clock counts nanoseconds while the machine runs. Its value and the
 * timer's deadline on it are device state, so that after a load the guest
 * sees neither the time it was saved for nor a jump.
 */
#ifndef VMM_TIMER_H
#define VMM_TIMER_H

#include <pthread.h>

#include <firn/vmstate.h>

#define TIMER_MIN_PERIOD_NS INT64_C(100000)
#define TIMER_MAX_PERIOD_NS INT64_C(10000000000)

typedef struct Timer {
    pthread_mutex_t lock;   /* guards all below */

    /* Device state. */
    uint64_t ticks;         /* that the guest has seen */
    uint64_t missed;        /* ticks that came too late to be seen */
    uint64_t period_ns;     /* 0: never programmed */
    int64_t deadline_ns;    /* of the next tick, on the clock; -1: off */
    uint64_t clock_ns;      /* the clock when it was last stopped */

    bool running;
    int64_t started_ns;     /* host's monotonic time of the last start */
} Timer;

extern const VMStateDescription vmstate_timer;

void timer_init(Timer *t);
void timer_cleanup(Timer *t);

/* Let the clock run, or hold it. Any thread. */
void timer_start(Timer *t);
void timer_stop(Timer *t);

/* The clock. Any thread. */
uint64_t timer_clock_ns(Timer *t);

/* The guest asks for a tick every @period_ns from now on. */
void timer_program(Timer *t, uint64_t period_ns);

/* Count the ticks that are due; returns the number of ticks seen so far. */
uint64_t timer_advance(Timer *t);

/* Nanoseconds until the next tick, 0 when due; -1 when there is none. */
int64_t timer_remaining_ns(Timer *t);

#endif
