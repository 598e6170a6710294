/* SPDX-License-Identifier: MIT */
/*
 * The limit is a queue: each taker gets the time behind what the one before
 * it has to pay, so any number of them together keep the rate.
 */
#include "util/rate-limit.h"

#include "util/aio.h"

#define NS_PER_SECOND 1e9
#define MAX_SLEEP_NS  ((int64_t)50 * 1000 * 1000)

/* Some rates are slower than any deadline can say. */
#define MAX_COST_NS   ((double)(INT64_MAX / 4))

void rate_limit_init(RateLimit *l, uint64_t bytes_per_second)
{
    *l = (RateLimit) { .bytes_per_second = bytes_per_second };
}

int64_t rate_limit_reserve(RateLimit *l, uint64_t bytes, int64_t now_ns)
{
    int64_t start = MAX(l->free_ns, now_ns);
    double cost;

    if (!l->bytes_per_second) {
        return now_ns;
    }
    cost = (double)bytes * NS_PER_SECOND / (double)l->bytes_per_second;
    if ((double)start + cost > MAX_COST_NS) {
        l->free_ns = INT64_MAX / 4;
    } else {
        l->free_ns = start + (int64_t)cost;
    }
    return start;
}

void coroutine_fn rate_limit_take(RateLimit *l, uint64_t bytes)
{
    int64_t now = aio_now_ns(), start = rate_limit_reserve(l, bytes, now);

    /* In slices: who asks us to stop is not to wait for all of it. */
    while (start > now && !aio_check_stop()) {
        aio_co_sleep_ns(MIN(start - now, MAX_SLEEP_NS));
        now = aio_now_ns();
    }
}
