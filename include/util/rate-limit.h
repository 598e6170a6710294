/* SPDX-License-Identifier: MIT */
/*
 * A limit on bytes per second for long copies. Whoever is about to move some
 * bytes takes them first; several coroutines may share one limit. Not
 * thread-safe.
 */
#ifndef FIRN_UTIL_RATE_LIMIT_H
#define FIRN_UTIL_RATE_LIMIT_H

#include <stdint.h>

#include "util/compiler.h"

typedef struct RateLimit {
    uint64_t bytes_per_second;  /* 0: no limit */
    int64_t free_ns;            /* when all that was taken has been paid for */
} RateLimit;

void rate_limit_init(RateLimit *l, uint64_t bytes_per_second);

/*
 * Take @bytes at @now_ns (aio_now_ns). Returns the time from which on they may
 * be moved, @now_ns when that is at once: when what was taken before has been
 * paid for. Idle time is not saved up.
 */
int64_t rate_limit_reserve(RateLimit *l, uint64_t bytes, int64_t now_ns);

/* Take @bytes and sleep until they may be moved, or aio_stop() is called. */
void coroutine_fn rate_limit_take(RateLimit *l, uint64_t bytes);

#endif
