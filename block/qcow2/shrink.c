/* SPDX-License-Identifier: MIT */
/*
 * Making an image smaller: guest clusters at the end become unallocated, and
 * the file ends behind the last host cluster in use.
 *
 * A refcount block that counts nothing, or itself alone, is given up by
 * clearing its table entry: with the entry goes the count of a block that
 * counts itself. The entry is durably gone before the refcount of a block that
 * another one counts is lowered (R3), and before the file is cut.
 */
#include "qcow2_int.h"

/* ---- guest clusters ---- */

/* The entries of one slice from @guest_offset to its end. */
static int coroutine_fn drop_slice(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t n)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    bool any = false;
    unsigned index;
    int ret;

    ret = qcow2_get_slice(s, &s->l1, guest_offset, &e, &index);
    if (ret < 0 || !e) {
        return ret;
    }
    for (uint64_t i = 0; i < n && !any; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);

        any = old.desc || old.bitmap;
    }
    qcow2_cache_put(s, s->l2_cache, e);
    if (!any) {
        return 0;
    }
    ret = qcow2_own_slice(s, guest_offset, &e, &index);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);

        qcow2_free_entry(s, old.desc, s->punch_other); /* R3 */
        qcow2_entry_put(s, e->data, index + i, (Qcow2Entry) { 0 });
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    return 0;
}

int coroutine_fn qcow2_drop_tail(Qcow2State *s, uint64_t guest_offset)
{
    uint64_t end = ROUND_UP(guest_offset, qcow2_l1_coverage(s));
    int ret = 0;

    while (guest_offset < end && ret == 0) {
        uint64_t n = qcow2_slice_left(s, guest_offset);

        ret = drop_slice(s, guest_offset, n);
        guest_offset += n << s->cluster_bits;
        qcow2_relieve(s);
    }
    return ret;
}

/* ---- host clusters ---- */

/* Highest slot of block @index in use, other than the block's own cluster.
 * *@ret_none: there is none. */
static int coroutine_fn last_in_block(Qcow2State *s, uint64_t index,
                                      uint64_t *ret_slot, bool *ret_none)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t slot = 1ULL << s->refblock_bits;
    uint64_t first = index << s->refblock_bits;
    uint64_t own = s->reftable.entries[index] >> s->cluster_bits;
    uint64_t refcount = 0;
    int ret = 0;

    while (slot && !refcount) {
        slot--;
        ret = qcow2_get_refcount(s, qcow2_cluster_offset(s, first + slot),
                                 &refcount);
        if (ret < 0) {
            return ret;
        }
        if (first + slot == own && refcount == 1) {
            refcount = 0;
        }
    }
    *ret_slot = slot;
    *ret_none = !refcount;
    return 0;
}

static int coroutine_fn drop_block(Qcow2State *s, uint64_t index)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t block = s->reftable.entries[index];
    bool own = block >> s->cluster_bits >> s->refblock_bits == index;
    int ret;

    qcow2_table_set(&s->reftable, index, 0);
    ret = qcow2_table_write(s, &s->reftable, QCOW2_OL_REFCOUNT_TABLE,
                            BLKDBG_REFTABLE_UPDATE);
    ret = ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs); /* R3 */
    if (ret < 0) {
        qcow2_table_set(&s->reftable, index, block); /* valid either way */
        return ret;
    }
    qcow2_cache_discard(s, s->refblock_cache, block, s->cluster_size);
    s->first_free[index] = 0;
    s->first_free_block = MIN(s->first_free_block, index);
    return own ? 0 : qcow2_update_refcount(s, block, 1, -1, false);
}

/* Where the last cluster in use ends. */
static int coroutine_fn find_end(Qcow2State *s, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t index = s->reftable.size, slot = 0, own_end = 0;
    bool none = true;
    int r = 0;

    while (index && none && r == 0) {
        index--;
        if (s->reftable.entries[index]) {
            r = last_in_block(s, index, &slot, &none);
        }
        if (r == 0 && none && index && s->reftable.entries[index]) {
            r = drop_block(s, index);
        }
    }
    if (r < 0) {
        return r;
    }
    /* The block's own cluster may be the last one. */
    own_end = s->reftable.entries[index] + s->cluster_size;
    *ret = qcow2_cluster_offset(s, (index << s->refblock_bits) + slot + 1);
    if (s->reftable.entries[index] >> s->cluster_bits >> s->refblock_bits ==
        index) {
        *ret = MAX(*ret, own_end);
    }
    return 0;
}

void coroutine_fn qcow2_trim_file(Qcow2State *s)
{
    BdrvChild *file = s->bs->file;
    uint64_t end;
    int ret = qcow2_sync_metadata(s);

    ret = ret < 0 ? ret : find_end(s, &end);
    ret = ret < 0 ? ret : qcow2_sync_metadata(s);
    if (ret == 0 && end < file->bs->total_bytes) {
        (void)bdrv_co_truncate(file, end, BDRV_PREALLOC_OFF, NULL);
    }
}
