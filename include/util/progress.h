/* SPDX-License-Identifier: MIT */
/*
 * Progress of a long operation: how far, how fast, how much longer; and a
 * terminal line that shows it. Prints nothing and reads no clock: the caller
 * passes the time and does with the text what it likes. Not thread-safe.
 */
#ifndef FIRN_UTIL_PROGRESS_H
#define FIRN_UTIL_PROGRESS_H

#include <glib.h>
#include <stdint.h>

typedef struct Progress {
    uint64_t current;       /* bytes done */
    uint64_t total;         /* bytes in all; 0: not known */
    int64_t start_ns;
    int64_t last_ns;        /* time and value of the last rate sample */
    uint64_t last_current;
    double rate;            /* smoothed, bytes per second; 0: no sample yet */
} Progress;

/* Start at 0 of @total bytes (0: not known) at time @now_ns (aio_now_ns). */
void progress_init(Progress *p, uint64_t total, int64_t now_ns);

/* The amount of work turned out to be @total. */
void progress_set_total(Progress *p, uint64_t total);

/*
 * @current bytes are done at @now_ns. The rate is sampled every 100 ms at
 * most and smoothed over about two seconds. Going back restarts the sampling.
 */
void progress_update(Progress *p, uint64_t current, int64_t now_ns);

/* 0.0 to 1.0; 0 while the total is not known. More than the total is 1. */
double progress_fraction(const Progress *p);

/* Bytes per second: smoothed, or the mean since the start before a sample. */
uint64_t progress_rate(const Progress *p, int64_t now_ns);

/* Seconds left, rounded up; -1 if total or rate is not known. */
int64_t progress_eta_seconds(const Progress *p, int64_t now_ns);

/*
 * Append one line without newline, at most @width columns (20 or more):
 *  " 37% [#####      ] 761 MiB / 2 GiB  1.2 GiB/s  ETA 0:01"
 * The bar takes what the text leaves; where there is no room for ten columns
 * of bar it goes, then the ETA, then the rate. ASCII only.
 */
void progress_render(const Progress *p, int64_t now_ns, unsigned width,
                     GString *out);

#endif
