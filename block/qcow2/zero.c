/* SPDX-License-Identifier: MIT */
/*
 * Zero writes and discards: changes of the map without data.
 *
 *   entry before            KEEP             UNMAP, DISCARD
 *   unallocated, backing    zero, plain      zero, plain
 *   unallocated, none       as it is         as it is
 *   normal, COPIED          zero, prealloc.  zero, plain; cluster freed
 *   normal, shared          zero, plain; reference dropped (both)
 *   zero, preallocated      as it is         zero, plain; cluster freed
 *   compressed              zero, plain; references dropped (both)
 *
 * A version 2 image has no zero flag: entries become 0, which is right only
 * without a backing file. No L2 table is made or copied when nothing changes.
 * What is given up waits in s->frees (R3, R5). Each piece is an exclusive
 * entry of s->in_flight, so it waits for reads and writes of the clusters.
 */
#include "qcow2_int.h"

void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool punch)
{
    uint64_t offset, bytes, first;

    switch (qcow2_entry_type(entry)) {
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        qcow2_defer_free(s, entry & QCOW2_OFFSET_MASK, 1, punch);
        break;
    case QCOW2_CLUSTER_COMPRESSED:
        qcow2_entry_compressed(s, entry, &offset, &bytes);
        first = ROUND_DOWN(offset, s->cluster_size);
        qcow2_defer_free(s, first,
                         DIV_ROUND_UP(offset + bytes - first,
                                      s->cluster_size), punch);
        break;
    case QCOW2_CLUSTER_UNALLOCATED:
    case QCOW2_CLUSTER_ZERO_PLAIN:
        break;
    }
}

/* What becomes of @entry. */
static uint64_t zeroed(const Qcow2State *s, uint64_t entry,
                       Qcow2ZeroMode mode)
{
    uint64_t gone = s->hdr.version < 3 ? 0 : QCOW2_ZERO;

    switch (qcow2_entry_type(entry)) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return s->bs->backing ? gone : entry;
    case QCOW2_CLUSTER_ZERO_PLAIN:
        return entry;
    case QCOW2_CLUSTER_NORMAL:
        if (mode == QCOW2_ZERO_KEEP && (entry & QCOW2_COPIED) && gone) {
            return entry | QCOW2_ZERO;
        }
        return gone;
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (mode == QCOW2_ZERO_KEEP && (entry & QCOW2_COPIED)) {
            return entry;
        }
        return gone;
    case QCOW2_CLUSTER_COMPRESSED:
        break;
    }
    return gone;
}

/* Would any of @n entries change? *@ret_table: an L2 table is there. */
static int coroutine_fn needs_change(Qcow2State *s, uint64_t guest_offset,
                                     uint64_t n, Qcow2ZeroMode mode,
                                     bool *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int r;

    r = qcow2_get_slice(s, &s->l1, guest_offset, &e, &index);
    if (r < 0) {
        return r;
    }
    *ret = !e && s->bs->backing;
    if (e) {
        for (uint64_t i = 0; i < n && r == 0; i++) {
            uint64_t entry = qcow2_entry_get(s, e->data, index + i).desc;

            r = qcow2_check_entry(s, entry,
                                  guest_offset + (i << s->cluster_bits));
            *ret = *ret || zeroed(s, entry, mode) != entry;
        }
        qcow2_cache_put(s, s->l2_cache, e);
    }
    return r;
}

/* @n clusters of one slice, all ours. */
static int coroutine_fn zero_slice(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t n, Qcow2ZeroMode mode)
    REQUIRES(s->lock) DROPS(s->lock)
{
    bool punch = mode != QCOW2_ZERO_KEEP && s->punch_request;
    Qcow2CacheEntry *e;
    unsigned index;
    bool change;
    int ret;

    ret = needs_change(s, guest_offset, n, mode, &change);
    if (ret < 0 || !change) {
        return ret;
    }
    ret = qcow2_ensure_l2(s, guest_offset);
    ret = ret < 0 ? ret : qcow2_get_slice(s, &s->l1, guest_offset, &e,
                                          &index);
    if (ret < 0) {
        return ret;
    }
    assert(e);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t old = qcow2_entry_get(s, e->data, index + i).desc;
        uint64_t new = zeroed(s, old, mode);

        if (!(new & QCOW2_OFFSET_MASK)) {
            qcow2_free_entry(s, old, punch); /* R3 */
        }
        qcow2_entry_put(s, e->data, index + i, (Qcow2Entry) { .desc = new });
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    return 0;
}

int coroutine_fn qcow2_zero_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t nb_clusters, Qcow2ZeroMode mode)
{
    uint64_t end = guest_offset + (nb_clusters << s->cluster_bits);
    int ret = qcow2_check_writable(s);

    if (s->hdr.version < 3 && s->bs->backing) {
        return -ENOTSUP;
    }
    while (guest_offset < end && ret == 0) {
        uint64_t n = MIN((end - guest_offset) >> s->cluster_bits,
                         qcow2_slice_left(s, guest_offset));
        uint64_t stop = guest_offset + (n << s->cluster_bits);
        Qcow2InFlight range, *other;

        other = qcow2_in_flight_clip(s, guest_offset, &stop, true);
        if (other) {
            co_queue_wait(&other->waiters, &s->lock);
            continue;
        }
        qcow2_in_flight_add(s, &range, guest_offset, stop, true);
        ret = zero_slice(s, guest_offset,
                         (stop - guest_offset) >> s->cluster_bits, mode);
        qcow2_in_flight_remove(s, &range);
        guest_offset = stop;
        qcow2_relieve(s);
    }
    return ret;
}
