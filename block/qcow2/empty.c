/* SPDX-License-Identifier: MIT */
/*
 * Making the active layer empty, so that the backing file shows everywhere.
 *
 * Usually nothing but the active layer uses clusters. Then new tables, as of
 * an image just created, are written behind everything and one header sector
 * makes them current: whatever the image held, that takes the same few writes.
 * The file in front of them is free now, so the same is done once more at its
 * start, and the rest is cut off.
 *
 *   tables behind the end | header | tables at the start | header | cut
 *
 * After a cut in between the image is full, or empty and perhaps in a long
 * sparse file; never with a leak. With snapshots, bitmaps, encryption or an
 * external data file the L1 entries are cleared and what was under them freed.
 */
#include "qcow2_int.h"

/* Refcount table, its blocks and L1, one behind the other. */
typedef struct Fresh {
    uint64_t first;         /* cluster */
    uint64_t table;         /* clusters */
    uint64_t blocks;
    uint64_t l1;
    uint32_t l1_size;
} Fresh;

static uint64_t fresh_end(const Fresh *f)
{
    return f->first + f->table + f->blocks + f->l1;
}

/* Block 0 counts the header; the others what is at f->first. */
static uint64_t block_index(const Qcow2State *s, const Fresh *f, uint64_t i)
{
    uint64_t lo = f->first >> s->refblock_bits;

    return lo && i ? lo + i - 1 : i;
}

static int plan(const Qcow2State *s, uint64_t first, Fresh *f)
{
    uint64_t lo = first >> s->refblock_bits;
    uint64_t before;

    *f = (Fresh) { .first = first, .table = 1, .blocks = 1 };
    f->l1_size = qcow2_l1_entries_for(s, s->hdr.size);
    f->l1 = DIV_ROUND_UP((uint64_t)f->l1_size * 8, s->cluster_size);
    do {
        uint64_t hi = (fresh_end(f) - 1) >> s->refblock_bits;

        before = f->table + f->blocks;
        f->blocks = MAX(f->blocks, hi - lo + 1 + (lo > 0));
        f->table = MAX(f->table, DIV_ROUND_UP((hi + 1) * 8,
                                              s->cluster_size));
    } while (f->table + f->blocks != before);
    if (f->table * s->cluster_size > MAX(QCOW2_MAX_REFTABLE,
                                         s->cluster_size) ||
        fresh_end(f) > QCOW2_MAX_HOST_OFFSET >> s->cluster_bits) {
        return -ENOSPC;
    }
    return 0;
}

static int coroutine_fn write_block(Qcow2State *s, const Fresh *f, uint64_t i,
                                    uint8_t *buf)
    REQUIRES(s->lock)
{
    uint64_t offset = qcow2_cluster_offset(s, f->first + f->table + i);
    uint64_t base = block_index(s, f, i) << s->refblock_bits;
    int ret;

    memset(buf, 0, s->cluster_size);
    for (uint64_t slot = 0; slot < 1ULL << s->refblock_bits; slot++) {
        uint64_t c = base + slot;

        if (c == 0 || (c >= f->first && c < fresh_end(f))) {
            qcow2_refblock_set(buf, s->refcount_order, slot, 1);
        }
    }
    ret = qcow2_check_overlap(s, 0, offset, s->cluster_size);
    return ret < 0 ? ret : bdrv_co_pwrite(s->bs->file, offset,
                                          s->cluster_size, buf, 0);
}

/* Write it all where nothing is, and make it durable. @t is filled in. */
static int coroutine_fn write_fresh(Qcow2State *s, const Fresh *f,
                                    Qcow2Table *t)
    REQUIRES(s->lock)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    uint64_t l1 = qcow2_cluster_offset(s, f->first + f->table + f->blocks);
    int ret = buf ? 0 : -ENOMEM;

    qcow2_note_written(s, qcow2_cluster_offset(s, fresh_end(f)));
    for (uint64_t i = 0; i < f->blocks && ret == 0; i++) {
        t->entries[block_index(s, f, i)] =
            qcow2_cluster_offset(s, f->first + f->table + i);
        ret = write_block(s, f, i, buf);
    }
    free(buf);
    ret = ret < 0 ? ret :
          qcow2_table_write_new(s, t->offset, t->entries, t->size,
                                BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE);
    if (ret == 0 && f->l1) {
        ret = qcow2_check_overlap(s, 0, l1, f->l1 << s->cluster_bits);
        ret = ret < 0 ? ret : bdrv_co_pwrite_zeroes(s->bs->file, l1,
                                                    f->l1 << s->cluster_bits,
                                                    0);
    }
    return ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs); /* R4 */
}

/* The disk says so already; nothing that was known before is true. */
static int adopt(Qcow2State *s, const Fresh *f, Qcow2Table *reftable,
                 Qcow2Table *l1, uint32_t *first_free)
    REQUIRES(s->lock)
{
    qcow2_cache_discard_all(s->l2_cache);
    qcow2_cache_discard_all(s->refblock_cache);
    qcow2_decoded_drop(s, 0, QCOW2_MAX_HOST_OFFSET);
    s->pack_next = 0;
    qcow2_table_cleanup(&s->reftable);
    qcow2_table_cleanup(&s->l1);
    s->reftable = *reftable;
    s->l1 = *l1;
    g_free(s->first_free);
    s->first_free = first_free;
    s->first_free_block = 0;
    g_array_set_size(s->frees, 0);
    s->frees_clusters = 0;
    return qcow2_filter_rebuild(s);
}

/* Replace all tables by fresh ones at cluster @first, where nothing is. */
static int coroutine_fn start_afresh(Qcow2State *s, const Fresh *f)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    Qcow2Table reftable, l1;
    uint32_t *first_free;
    int ret;

    h.refcount_table_offset = qcow2_cluster_offset(s, f->first);
    h.refcount_table_clusters = f->table;
    h.l1_size = f->l1_size;
    h.l1_table_offset = f->l1 ? qcow2_cluster_offset(s, f->first + f->table +
                                                     f->blocks) : 0;
    ret = qcow2_table_init(&reftable, h.refcount_table_offset,
                           f->table * s->cluster_size / 8);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_init(&l1, h.l1_table_offset, h.l1_size);
    if (ret < 0) {
        qcow2_table_cleanup(&reftable);
        return ret;
    }
    first_free = g_try_new0(uint32_t, reftable.size);
    ret = first_free ? write_fresh(s, f, &reftable) : -ENOMEM;
    ret = ret < 0 ? ret : qcow2_header_update(s, &h);
    if (ret < 0) {
        qcow2_table_cleanup(&reftable);
        qcow2_table_cleanup(&l1);
        g_free(first_free);
        return ret;
    }
    return adopt(s, f, &reftable, &l1, first_free);
}

/* -ENOSPC: cannot be done like this, nothing has changed. */
static int coroutine_fn empty_fast(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock)
{
    BdrvChild *file = s->bs->file;
    uint64_t clusters = qcow2_cluster_ceil(s, file->bs->total_bytes) >>
                        s->cluster_bits;
    Fresh low, high;
    int ret;

    BLKDBG_EVENT(file, BLKDBG_EMPTY_IMAGE_PREPARE);
    ret = plan(s, 1, &low);
    ret = ret < 0 ? ret : plan(s, MAX(clusters, fresh_end(&low)), &high);
    ret = ret < 0 ? ret : qcow2_sync_metadata(s);
    ret = ret < 0 ? ret : start_afresh(s, &high);
    if (ret < 0) {
        return ret;
    }
    ret = start_afresh(s, &low);
    if (ret == 0) {
        (void)bdrv_co_truncate(file, qcow2_cluster_offset(s, fresh_end(&low)),
                               BDRV_PREALLOC_OFF, NULL);
    }
    return ret == -ENOSPC ? -EIO : ret;
}

static int coroutine_fn make_empty(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_check_writable(s);

    if (ret < 0) {
        return ret;
    }
    ret = -ENOSPC;
    if (!s->hdr.nb_snapshots && !s->ext.has_bitmaps && !s->hdr.crypt_method &&
        !qcow2_has_data_file(s)) {
        ret = empty_fast(s);
    }
    if (ret == -ENOSPC) {
        ret = qcow2_drop_l1(s, 0, false);
        if (ret == 0) {
            qcow2_trim_file(s);
        }
    }
    return ret;
}

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (bs->vmstate) {
        return set_error(errp, -EBUSY, "machine state is being saved or "
                         "loaded");
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = make_empty(s);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret < 0 ? set_error(errp, ret, "%s: cannot make it empty: %s",
                               bs->filename, g_strerror(-ret)) : 0;
}
