/* SPDX-License-Identifier: MIT */
/*
 * One range at a time is populated by a thread of the pool, up to
 * PREFAULT_AHEAD in front of the loader. A kernel without MADV_POPULATE_WRITE
 * (before 5.14), or memory that does not take it, ends the attempt; the loader
 * then faults for itself.
 */
#include "ram-prefault.h"

#include <errno.h>
#include <sys/mman.h>

#include "util/co-lock.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PREFAULT_STEP  (8 * 1024 * 1024)
#define PREFAULT_AHEAD (16 * 1024 * 1024)
#define PREFAULT_ALIGN (2 * 1024 * 1024) /* a huge page */

struct RamPrefault {
    uint8_t *from;      /* the range in work, or the last one */
    size_t bytes;
    bool busy;
    bool failed;
    CoQueue idle;
};

RamPrefault *ram_prefault_new(void)
{
    RamPrefault *p = g_new0(RamPrefault, 1);

    co_queue_init(&p->idle);
    return p;
}

void coroutine_fn ram_prefault_free(RamPrefault *p)
{
    if (p) {
        while (p->busy) {
            co_queue_wait(&p->idle, NULL);
        }
        g_free(p);
    }
}

static int ram_prefault_job(void *opaque)
{
    RamPrefault *p = opaque;

    return madvise(p->from, p->bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

static void coroutine_fn ram_prefault_entry(void *opaque)
{
    RamPrefault *p = opaque;

    p->failed = thread_pool_co_run(ram_prefault_job, p) < 0;
    p->busy = false;
    co_queue_restart_all(&p->idle);
}

void coroutine_fn ram_prefault_ahead(RamPrefault *p, uint8_t *at,
                                     uint8_t *end)
{
    uintptr_t start = ROUND_UP((uintptr_t)at, PREFAULT_ALIGN);
    uintptr_t last = (uintptr_t)p->from + p->bytes;
    uintptr_t limit = MIN(start + PREFAULT_AHEAD, (uintptr_t)end);

    if (p->busy || p->failed) {
        return;
    }
    if (last > start && last <= start + PREFAULT_AHEAD) {
        start = last; /* go on where the last one ended */
    }
    if (start >= limit) {
        return;
    }
    p->from = (uint8_t *)start;
    p->bytes = MIN(limit - start, PREFAULT_STEP);
    p->busy = true;
    co_enter(co_create(ram_prefault_entry, p));
}
