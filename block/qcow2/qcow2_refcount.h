/* SPDX-License-Identifier: MIT */
/*
 * Refcounts: reading, changing, allocation, the refcount table.
 */
#ifndef FIRN_BLOCK_QCOW2_REFCOUNT_H
#define FIRN_BLOCK_QCOW2_REFCOUNT_H

#include "qcow2_int.h"

/* ---- refcount.c ---- */

/* Counter number @slot of a block, and setting it. Here so that a loop over a
 * block knows the width. */
static inline uint64_t qcow2_refblock_get(const uint8_t *block,
                                          unsigned order, uint64_t slot)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned bits = 1u << order;
        unsigned shift = (slot << order) % 8;

        return (block[(slot << order) / 8] >> shift) & ((1u << bits) - 1);
    }
    case 3:
        return block[slot];
    case 4:
        return be16_get(block + slot * 2);
    case 5:
        return be32_get(block + slot * 4);
    default:
        return be64_get(block + slot * 8);
    }
}

static inline void qcow2_refblock_set(uint8_t *block, unsigned order,
                                      uint64_t slot, uint64_t value)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned shift = (slot << order) % 8;
        unsigned mask = ((1u << (1u << order)) - 1) << shift;
        uint8_t *p = &block[(slot << order) / 8];

        *p = (*p & ~mask) | (value << shift);
        break;
    }
    case 3:
        block[slot] = value;
        break;
    case 4:
        be16_put(block + slot * 2, value);
        break;
    case 5:
        be32_put(block + slot * 4, value);
        break;
    default:
        be64_put(block + slot * 8, value);
        break;
    }
}

/* Pin refcount block @index. R7: -EIO when there is none, or none there. */
int coroutine_fn qcow2_get_refblock(Qcow2State *s, uint64_t index,
                                    Qcow2CacheEntry **ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Refcount of the cluster at @host_offset; 0 beyond the table. */
int coroutine_fn qcow2_get_refcount(Qcow2State *s, uint64_t host_offset,
                                    uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/*
 * Take up to @max contiguous free clusters, at least one, and count them.
 * Nothing refers to them yet: undo with qcow2_unalloc().
 * Returns 0, -ENOSPC (host offsets exhausted) or an I/O error.
 */
int coroutine_fn qcow2_alloc_run(Qcow2State *s, uint64_t max,
                                 uint64_t *ret_offset, uint64_t *ret_nb)
    REQUIRES(s->lock) DROPS(s->lock);
/* The same for data: *@ret_fresh says that they were never written and read
 * as zeroes. */
int coroutine_fn qcow2_alloc_data(Qcow2State *s, uint64_t max,
                                  uint64_t *ret_offset, uint64_t *ret_nb,
                                  bool *ret_fresh)
    REQUIRES(s->lock) DROPS(s->lock);
/* Exactly @nb contiguous clusters, for tables. */
int coroutine_fn qcow2_alloc_contiguous(Qcow2State *s, uint64_t nb,
                                        uint64_t *ret_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* The cluster at @offset, if it is free; *@ret says whether it was. */
int coroutine_fn qcow2_alloc_at(Qcow2State *s, uint64_t offset, bool *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* One more reference to the cluster of s->pack_next. *@ret false: it is closed
 * by now, or has as many as can be counted. */
int coroutine_fn qcow2_count_open(Qcow2State *s, bool *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Something may be written up to host offset @end, also when that fails. Before
 * writing to clusters that were not taken. */
static inline void qcow2_note_written(Qcow2State *s, uint64_t end)
    REQUIRES(s->lock)
{
    s->host_end = MAX(s->host_end, end);
}
/* Give back what was never exposed; leaks it when that fails. */
void coroutine_fn qcow2_unalloc(Qcow2State *s, uint64_t offset, uint64_t nb)
    REQUIRES(s->lock) DROPS(s->lock);
/*
 * Add @addend (+1 or -1) for each of @nb clusters. -1 only when (R3) is
 * satisfied. @punch: tell the host about clusters that become free.
 * Returns 0; -ERANGE when a refcount would exceed its maximum; -EIO when one
 * is 0 already (R7) or no block counts it. A failed +1 is undone, as far as
 * that works; a failed -1 leaves the rest as leaks.
 */
int coroutine_fn qcow2_update_refcount(Qcow2State *s, uint64_t offset,
                                       uint64_t nb, int addend, bool punch)
    REQUIRES(s->lock) DROPS(s->lock);
/* R3, R5: lower the refcounts once the map on disk has no reference left. */
void qcow2_defer_free(Qcow2State *s, uint64_t offset, uint64_t nb,
                      bool punch) REQUIRES(s->lock);
/* Lower what waited; the caller has made removal durable. */
int coroutine_fn qcow2_apply_frees(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- reftable.c; the lock is kept all the time ---- */

/*
 * Make blocks @index .. @index + @nb - 1, none of which exists, at the start
 * of the range that block @index counts. The table reaches that far.
 */
int coroutine_fn qcow2_reftable_add_blocks(Qcow2State *s, uint64_t index,
                                           uint64_t nb) REQUIRES(s->lock);
/* Grow the table, which ends before @index, to have that entry and @more. */
int coroutine_fn qcow2_reftable_grow(Qcow2State *s, uint64_t index,
                                     uint64_t more) REQUIRES(s->lock);
/* Make blocks behind all that exist, for @nb_clusters contiguous free
 * clusters from *@ret_first on. */
int coroutine_fn qcow2_reftable_reserve(Qcow2State *s, uint64_t nb_clusters,
                                        uint64_t *ret_first)
    REQUIRES(s->lock);

#endif
