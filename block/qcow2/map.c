/* SPDX-License-Identifier: MIT */
/*
 * From guest offset to host offset: L1 and L2 lookup, new L2 tables, L1
 * growth.
 *
 * A lookup returns a plain mapping and forgets the tables it came from (K3).
 * Entries are checked on the way (R7). A run goes on over subclusters and
 * clusters as long as they are of one type and, with data, lie in a row.
 *
 * The active L1 table is changed in memory and written by the next
 * qcow2_write_map(). A new L2 table (zeroes, or a copy of one that a snapshot
 * shares) is written to its place at once and becomes durable by the barrier
 * that precedes that L1 write (R4). The copy keeps each path's reference to
 * the clusters under it, so only the old table's own refcount drops, later
 * (R3).
 */
#include "qcow2_int.h"

/* ---- slices ---- */

/* L1 entry of @guest_offset, 0 beyond the table. */
static uint64_t l1_entry(const Qcow2State *s, const Qcow2Table *l1,
                         uint64_t guest_offset)
{
    uint64_t i = guest_offset >> (s->cluster_bits + s->l2_bits);

    return i < l1->size ? l1->entries[i] : 0;
}

static uint64_t index_in_table(const Qcow2State *s, uint64_t guest_offset)
{
    return guest_offset >> s->cluster_bits & ((1ULL << s->l2_bits) - 1);
}

/* Where in its L2 table the slice for @guest_offset starts, in bytes. */
static uint64_t slice_in_table(const Qcow2State *s, uint64_t guest_offset)
{
    return index_in_table(s, guest_offset) >> s->l2_slice_bits
           << s->l2_slice_bits << s->l2_entry_bits;
}

int coroutine_fn qcow2_get_slice(Qcow2State *s, const Qcow2Table *l1,
                                 uint64_t guest_offset, Qcow2CacheEntry **ret,
                                 unsigned *ret_index)
{
    uint64_t slice = slice_in_table(s, guest_offset);

    for (;;) {
        uint64_t entry = l1_entry(s, l1, guest_offset);
        uint64_t table = entry & QCOW2_OFFSET_MASK;
        Qcow2CacheEntry *e;
        int r;

        if (!table) {
            *ret = NULL;
            return 0;
        }
        if (!IS_ALIGNED(table, s->cluster_size)) {
            return qcow2_corruption(s, "L2 table of guest offset %#" PRIx64
                                    " is at unaligned host offset %#" PRIx64,
                                    guest_offset, table);
        }
        r = qcow2_cache_get(s, s->l2_cache, table + slice, &e);
        if (r < 0) {
            return r;
        }
        if ((l1_entry(s, l1, guest_offset) & QCOW2_OFFSET_MASK) == table) {
            *ret = e;
            *ret_index = index_in_table(s, guest_offset) -
                         (slice >> s->l2_entry_bits);
            return 0;
        }
        qcow2_cache_put(s, s->l2_cache, e); /* K3: replaced meanwhile */
    }
}

/* ---- lookup ---- */

int coroutine_fn qcow2_map(Qcow2State *s, const Qcow2Table *l1,
                           uint64_t guest_offset, uint64_t bytes,
                           Qcow2Mapping *ret)
{
    uint64_t in_cluster = guest_offset & (s->cluster_size - 1);
    unsigned sc = in_cluster >> s->subcluster_bits;
    uint64_t max = DIV_ROUND_UP(in_cluster + MIN(bytes, INT64_MAX),
                                s->cluster_size);
    Qcow2Entry entry = { 0 };
    Qcow2CacheEntry *e;
    unsigned index;
    uint64_t run;
    int r;

    r = qcow2_get_slice(s, l1, guest_offset, &e, &index);
    if (r < 0) {
        return r;
    }
    max = MIN(max, qcow2_slice_left(s, guest_offset));
    run = max * s->nb_subclusters - sc;
    if (e) {
        entry = qcow2_entry_get(s, e->data, index);
        run = qcow2_entry_run(s, e->data, index, sc, max,
                              guest_offset - in_cluster);
        qcow2_cache_put(s, s->l2_cache, e);
    }
    r = qcow2_check_entry(s, entry, guest_offset);
    if (r < 0) {
        return r;
    }
    ret->entry = entry;
    ret->type = qcow2_subcluster_type(s, entry, sc);
    ret->copied = entry.desc & QCOW2_COPIED;
    ret->host_offset = (entry.desc & QCOW2_OFFSET_MASK) + in_cluster;
    ret->bytes = MIN(((sc + run) << s->subcluster_bits) - in_cluster, bytes);
    return 0;
}

/* ---- L1 growth ---- */

/* The part that must not be interleaved: write, switch, replace. */
static int coroutine_fn switch_l1(Qcow2State *s, uint64_t offset,
                                  uint32_t size)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    Qcow2Table t, old = s->l1;
    int ret;

    ret = qcow2_table_init(&t, offset, size);
    if (ret < 0) {
        return ret;
    }
    if (old.size) {
        memcpy(t.entries, old.entries, old.size * sizeof(uint64_t));
    }
    ret = qcow2_table_write_new(s, offset, t.entries, size,
                                BLKDBG_L1_GROW_WRITE_TABLE);
    s->need_barrier = true;
    ret = ret < 0 ? ret : qcow2_barrier(s); /* R1, R4 */
    if (ret == 0) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_L1_GROW_ACTIVATE_TABLE);
        h.l1_size = size;
        h.l1_table_offset = offset;
        ret = qcow2_header_update(s, &h);
    }
    if (ret < 0) {
        qcow2_table_cleanup(&t);
        return ret;
    }
    s->l1 = t;
    qcow2_defer_free(s, old.offset,
                     DIV_ROUND_UP((uint64_t)old.size * 8, s->cluster_size),
                     s->punch_other);
    qcow2_table_cleanup(&old);
    return 0;
}

int coroutine_fn qcow2_grow_l1(Qcow2State *s, uint64_t min_size)
{
    uint64_t size = MAX(min_size, s->l1.size + s->l1.size / 2);
    uint64_t nb, offset;
    int ret;

    if (min_size > QCOW2_MAX_L1_ENTRIES) {
        return -EFBIG;
    }
    while (s->l1_growing) {
        co_queue_wait(&s->l1_growing_queue, &s->lock);
    }
    if (min_size <= s->l1.size) {
        return 0;
    }
    nb = DIV_ROUND_UP(size * 8, s->cluster_size);
    /* All that fits: growing again would flush in the middle of a save. */
    size = MIN(nb * s->cluster_size / 8, QCOW2_MAX_L1_ENTRIES);
    nb = DIV_ROUND_UP(size * 8, s->cluster_size);
    s->l1_growing = true;
    BLKDBG_EVENT(s->bs->file, BLKDBG_L1_GROW_ALLOC_TABLE);
    ret = qcow2_alloc_contiguous(s, nb, &offset);
    if (ret == 0) {
        ret = switch_l1(s, offset, size);
        if (ret < 0 && !s->corrupt) {
            qcow2_unalloc(s, offset, nb);
        }
    }
    s->l1_growing = false;
    co_queue_restart_all(&s->l1_growing_queue);
    if (ret == 0) {
        /* Free the old table now: a save starts with this, and whoever is
         * killed during a save shall not even leave a leak. */
        (void)qcow2_flush_metadata(s);
    }
    return ret;
}

/* ---- L2 tables ---- */

/* Fill the new table at @offset with zeroes or the contents of @old, and cache
 * the slice for @guest_offset. */
static int coroutine_fn write_new_l2(Qcow2State *s, uint64_t offset,
                                     uint64_t old, uint64_t guest_offset)
    REQUIRES(s->lock)
{
    uint64_t slice = slice_in_table(s, guest_offset);
    uint8_t *buf;
    int ret;

    ret = qcow2_check_overlap(s, 0, offset, s->cluster_size);
    if (ret < 0) {
        return ret;
    }
    buf = blk_try_memalign(s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, s->cluster_size);
    if (old) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_L2_ALLOC_COW_READ);
        ret = bdrv_co_pread(s->bs->file, old, s->cluster_size, buf, 0);
    }
    if (ret == 0) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_L2_ALLOC_WRITE);
        ret = bdrv_co_pwrite(s->bs->file, offset, s->cluster_size, buf, 0);
    }
    qcow2_cache_discard(s, s->l2_cache, offset, s->cluster_size);
    if (ret == 0) {
        qcow2_cache_offer(s, s->l2_cache, offset + slice, buf + slice);
    }
    free(buf);
    return ret;
}

int coroutine_fn qcow2_ensure_l2(Qcow2State *s, uint64_t guest_offset)
{
    uint64_t i = guest_offset >> (s->cluster_bits + s->l2_bits);
    uint64_t entry, old, offset, n;
    int ret;

    if (i >= s->l1.size) {
        ret = qcow2_grow_l1(s, i + 1);
        if (ret < 0) {
            return ret;
        }
    }
    entry = s->l1.entries[i];
    old = entry & QCOW2_OFFSET_MASK;
    if (old && (entry & QCOW2_COPIED)) {
        return 0;
    }
    if (!IS_ALIGNED(old, s->cluster_size)) {
        return qcow2_corruption(s, "L2 table of guest offset %#" PRIx64
                                " is at unaligned host offset %#" PRIx64,
                                guest_offset, old);
    }
    ret = qcow2_alloc_run(s, 1, &offset, &n);
    if (ret < 0) {
        return ret;
    }
    if (s->l1.entries[i] != entry) { /* K3: somebody was faster */
        qcow2_unalloc(s, offset, 1);
        return 0;
    }
    ret = write_new_l2(s, offset, old, guest_offset);
    if (ret < 0) {
        qcow2_unalloc(s, offset, 1);
        return ret;
    }
    qcow2_table_set(&s->l1, i, offset | QCOW2_COPIED);
    s->need_barrier = true; /* R1, R4 */
    qcow2_filter_add(s, offset);
    if (old) {
        qcow2_cache_discard(s, s->l2_cache, old, s->cluster_size);
        qcow2_defer_free(s, old, 1, s->punch_other); /* R3 */
    }
    return 0;
}

int coroutine_fn qcow2_own_slice(Qcow2State *s, uint64_t guest_offset,
                                 Qcow2CacheEntry **ret, unsigned *ret_index)
{
    int err = qcow2_ensure_l2(s, guest_offset);

    if (err < 0) {
        return err;
    }
    err = qcow2_get_slice(s, &s->l1, guest_offset, ret, ret_index);
    assert(err < 0 || *ret); /* the table is there */
    return err;
}
