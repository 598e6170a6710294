/* SPDX-License-Identifier: MIT */
/*
 * Are holes in the image's file what a guest has not written? So they are
 * where clusters were allocated without being written (preallocation=metadata,
 * a copy that left out zeroes), and `map` tells of them. The rule is that of
 * qemu-img, whose output is to be the same: the file takes less room than what
 * its refcounts say, by a ninth and by two clusters. A file that has it all,
 * as most have, is not searched.
 */
#include "qcow2_int.h"

/* Refcounts that are looked at: a second's work, and 1 TiB. */
#define MAX_REFCOUNTS (UINT64_C(1) << 24)
/* Refcounts that are looked at while others wait for the lock. */
#define BATCH UINT64_C(4096)

/* Are @wanted clusters of the first @nb in use? A refcount that cannot be read
 * is 0. */
static bool coroutine_fn are_in_use(Qcow2State *s, uint64_t nb,
                                    uint64_t wanted)
    EXCLUDES(s->lock)
{
    uint64_t used = 0;

    nb = MIN(nb, MAX_REFCOUNTS);
    for (uint64_t i = 0; i < nb && used < wanted;) {
        co_mutex_lock(&s->lock);
        for (uint64_t end = MIN(nb, i + BATCH); i < end; i++) {
            uint64_t refcount;

            if (qcow2_get_refcount(s, i * s->cluster_size, &refcount) == 0) {
                used += refcount > 0;
            }
        }
        co_mutex_unlock(&s->lock);
    }
    return used >= wanted;
}

static bool coroutine_fn find_out(Qcow2State *s)
{
    const BlockDriverState *file = s->bs->file->bs;
    uint64_t nb_clusters = DIV_ROUND_UP(file->total_bytes, s->cluster_size);
    uint64_t there = bdrv_allocated_bytes(file) / s->cluster_size;
    uint64_t more = MAX(there + there / 9, there + 2);

    return nb_clusters >= more && are_in_use(s, nb_clusters, more);
}

bool coroutine_fn qcow2_holes_are_zeroes(Qcow2State *s)
{
    Qcow2Holes holes;

    co_mutex_lock(&s->lock);
    holes = s->holes;
    co_mutex_unlock(&s->lock);
    if (holes == QCOW2_HOLES_UNKNOWN) {
        holes = find_out(s) ? QCOW2_HOLES_ZERO : QCOW2_HOLES_ANY;
        co_mutex_lock(&s->lock);
        s->holes = holes;
        co_mutex_unlock(&s->lock);
    }
    return holes == QCOW2_HOLES_ZERO;
}
