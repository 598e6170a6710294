/* SPDX-License-Identifier: MIT */
/*
 * Another width of refcounts: all blocks and the table are written anew.
 *
 *   new blocks and table behind everything | header: width and table in one
 *   sector | the old ones are freed
 *
 * Before anything is written all counts are looked at: one that does not fit
 * the new width refuses the change. The new blocks count the old structure
 * too, which goes once the header has switched (R3); a cut before that leaves
 * what was there, a cut after it leaks the old blocks.
 */
#include "qcow2_int.h"

typedef struct Recount {
    unsigned order;         /* new */
    unsigned block_bits;
    uint64_t max;
    uint64_t first;         /* cluster of the table; blocks follow */
    uint64_t table;         /* clusters */
    uint64_t blocks;
    uint64_t used;          /* no cluster from here on is in use now */
    uint8_t *needed;        /* per new block: something in it is counted */
    uint64_t nb_needed;     /* of those */
    uint64_t capacity;      /* bytes in needed */
} Recount;

/* ---- plan ---- */

/* Call for each cluster in use: note its block, check its count. */
static int note(Recount *r, uint64_t cluster, uint64_t refcount)
{
    uint64_t index = cluster >> r->block_bits;

    if (refcount > r->max) {
        return -ERANGE;
    }
    if (index >= QCOW2_MAX_REFTABLE / 8) {
        return -ENOSPC;
    }
    if (index >= r->capacity) {
        uint64_t n = MAX(index + 1, r->capacity * 2);
        uint8_t *p = g_try_realloc(r->needed, n);

        if (!p) {
            return -ENOMEM;
        }
        memset(p + r->capacity, 0, n - r->capacity);
        r->needed = p;
        r->capacity = n;
    }
    r->nb_needed += !r->needed[index];
    r->needed[index] = 1;
    r->used = MAX(r->used, cluster + 1);
    return 0;
}

static int coroutine_fn note_all(Qcow2State *s, Recount *r)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t n = 1ULL << s->refblock_bits;
    int ret = 0;

    for (uint32_t i = 0; i < s->reftable.size && ret == 0; i++) {
        ret = aio_check_stop();
        for (uint64_t k = 0; s->reftable.entries[i] && k < n && ret == 0;
             k++) {
            uint64_t cluster = ((uint64_t)i << s->refblock_bits) + k;
            uint64_t refcount = 0;

            ret = qcow2_get_refcount(s, qcow2_cluster_offset(s, cluster),
                                     &refcount);
            if (ret == 0 && refcount) {
                ret = note(r, cluster, refcount);
            }
        }
    }
    return ret;
}

/* The new structure behind all; it counts itself. */
static int place(const Qcow2State *s, Recount *r)
{
    uint64_t file = s->bs->file->bs->total_bytes;
    uint64_t before, end;
    int ret = 0;

    r->first = MAX(r->used, qcow2_cluster_ceil(s, file) >> s->cluster_bits);
    r->table = 1;
    r->blocks = r->nb_needed;
    do {
        before = r->table + r->blocks;
        end = r->first + before;
        for (uint64_t c = r->first; c < end && ret == 0;
             c = ((c >> r->block_bits) + 1) << r->block_bits) {
            ret = note(r, c, 1);
        }
        ret = ret < 0 ? ret : note(r, end - 1, 1);
        if (ret < 0) {
            return ret;
        }
        r->blocks = r->nb_needed;
        r->table = DIV_ROUND_UP(((end >> r->block_bits) + 1) * 8,
                                s->cluster_size);
    } while (r->table + r->blocks != before);
    if (r->table * s->cluster_size > QCOW2_MAX_REFTABLE ||
        end > QCOW2_MAX_HOST_OFFSET >> s->cluster_bits) {
        return -ENOSPC;
    }
    return 0;
}

/* ---- write ---- */

static int coroutine_fn fill_block(Qcow2State *s, const Recount *r,
                                   uint64_t index, uint8_t *buf)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t end = r->first + r->table + r->blocks;
    int ret = 0;

    memset(buf, 0, s->cluster_size);
    for (uint64_t k = 0; k < 1ULL << r->block_bits && ret == 0; k++) {
        uint64_t cluster = (index << r->block_bits) + k;
        uint64_t refcount = 1;

        if (cluster >= end) {
            break;
        }
        if (cluster < r->first) {
            ret = qcow2_get_refcount(s, qcow2_cluster_offset(s, cluster),
                                     &refcount);
        }
        qcow2_refblock_set(buf, r->order, k, ret < 0 ? 0 : refcount);
    }
    return ret;
}

static int coroutine_fn write_blocks(Qcow2State *s, const Recount *r,
                                     Qcow2Table *t,
                                     BdrvProgressFunc *progress,
                                     void *opaque)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    uint64_t done = 0;
    int ret = buf ? 0 : -ENOMEM;

    qcow2_note_written(s, qcow2_cluster_offset(s, r->first + r->table +
                                                  r->blocks));
    for (uint64_t i = 0; i < r->capacity && ret == 0; i++) {
        uint64_t at = qcow2_cluster_offset(s, r->first + r->table + done);

        if (!r->needed[i]) {
            continue;
        }
        ret = aio_check_stop(); /* nothing refers to the new blocks yet */
        ret = ret < 0 ? ret : fill_block(s, r, i, buf);
        ret = ret < 0 ? ret : qcow2_check_overlap(s, 0, at, s->cluster_size);
        BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_UPDATE);
        ret = ret < 0 ? ret : bdrv_co_pwrite(s->bs->file, at,
                                             s->cluster_size, buf, 0);
        t->entries[i] = at;
        done++;
        if (progress) {
            progress(done, r->blocks, opaque);
        }
    }
    free(buf);
    return ret;
}

/* R4: everything is durable before the header points at it. */
static int coroutine_fn switch_header(Qcow2State *s, const Recount *r,
                                      const Qcow2Table *t)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    int ret = qcow2_table_write_new(s, t->offset, t->entries, t->size,
                                    BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE);

    ret = ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs);
    if (ret < 0) {
        return ret;
    }
    h.refcount_order = r->order;
    h.refcount_table_offset = t->offset;
    h.refcount_table_clusters = r->table;
    return qcow2_header_update(s, &h);
}

static void adopt(Qcow2State *s, const Recount *r, Qcow2Table *t,
                  uint32_t *first_free)
    REQUIRES(s->lock)
{
    Qcow2Table old = s->reftable;

    qcow2_cache_discard_all(s->refblock_cache);
    s->reftable = *t;
    s->refcount_order = r->order;
    s->refblock_bits = r->block_bits;
    s->refcount_max = r->max;
    g_free(s->first_free);
    s->first_free = first_free;
    s->first_free_block = 0;
    (void)qcow2_filter_rebuild(s); /* too old a filter only misses some */
    qcow2_defer_free(s, old.offset,
                     (uint64_t)old.size * 8 >> s->cluster_bits,
                     s->punch_other);
    for (uint32_t i = 0; i < old.size; i++) {
        if (old.entries[i]) {
            qcow2_defer_free(s, old.entries[i] & QCOW2_REFBLOCK_MASK, 1,
                             s->punch_other);
        }
    }
    qcow2_table_cleanup(&old);
}

static int coroutine_fn replace(Qcow2State *s, const Recount *r,
                                BdrvProgressFunc *progress, void *opaque)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Table t;
    uint32_t *first_free;
    int ret = qcow2_table_init(&t, qcow2_cluster_offset(s, r->first),
                               r->table * s->cluster_size / 8);

    if (ret < 0) {
        return ret;
    }
    first_free = g_try_new0(uint32_t, t.size);
    ret = first_free ? write_blocks(s, r, &t, progress, opaque) : -ENOMEM;
    ret = ret < 0 ? ret : switch_header(s, r, &t);
    if (ret < 0) {
        qcow2_table_cleanup(&t);
        g_free(first_free);
        return ret;
    }
    adopt(s, r, &t, first_free);
    return qcow2_sync_metadata(s);
}

int coroutine_fn qcow2_change_refcount_order(Qcow2State *s, unsigned order,
                                             BdrvProgressFunc *progress,
                                             void *opaque, GError **errp)
{
    Recount r = {
        .order = order,
        .block_bits = s->cluster_bits + 3 - order,
        .max = order == 6 ? UINT64_MAX : (1ULL << (1u << order)) - 1,
    };
    int ret = qcow2_sync_metadata(s);

    ret = ret < 0 ? ret : note_all(s, &r);
    ret = ret < 0 ? ret : place(s, &r);
    ret = ret < 0 ? ret : replace(s, &r, progress, opaque);
    g_free(r.needed);
    if (ret == -ERANGE) {
        return set_error(errp, -EINVAL, "some refcounts do not fit %u bits",
                         1u << order);
    }
    return ret < 0 ? set_error(errp, ret, "cannot change the refcount width: "
                               "%s", g_strerror(-ret)) : 0;
}
