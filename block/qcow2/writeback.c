/* SPDX-License-Identifier: MIT */
/*
 * What reaches the disk in which order: L1 and refcount table (in memory,
 * written by sectors), the header sector, and the flush that puts caches and
 * tables in order.
 *
 *   refcount blocks | refcount table | L2 slices, L1 sectors | frees
 *
 * "|" is a flush, left out when nothing is on its left. Data counts as being
 * on the left of L2. Therefore:
 *  (R1) refcounts and (R2) data are durable before the map uses them,
 *       qcow2_barrier(), needed when s->need_barrier says so;
 *  (R4) new refcount blocks are durable before the table points at them. New
 *       L2 tables are written as zeroes (or copies) when they are made, so the
 *       same barrier makes them durable before L1 points at them;
 *  (R3) s->frees is applied behind the last flush, qcow2_flush_metadata().
 *
 * Lazy refcounts: instead of the refcounts the dirty bit is made durable, once,
 * before the map uses new clusters. From then on refcounts stay in the cache,
 * unless it has to evict them; a flush of the guest writes none. They catch up
 * when all is to be durable: at close, before snapshots, for a check. Whoever
 * finds the bit set at open counts everything anew (open.c). Therefore only
 * qcow2_mark_clean() may clear it.
 */
#include "qcow2_int.h"

#include "util/plant.h"

#define SECTOR_ENTRIES (QCOW2_SECTOR / 8)

/* Ranges or clusters that may wait to be freed before a flush is forced. */
#define MAX_FREES          1024
#define MAX_FREES_CLUSTERS 65536

/* ---- tables in memory ---- */

int qcow2_table_init(Qcow2Table *t, uint64_t offset, uint32_t size)
{
    uint32_t sectors = DIV_ROUND_UP(size, SECTOR_ENTRIES);

    *t = (Qcow2Table) { .offset = offset, .size = size };
    t->entries = g_try_malloc0((gsize)sectors * QCOW2_SECTOR + 1);
    t->dirty = g_try_malloc0((gsize)sectors + 1);
    if (!t->entries || !t->dirty) {
        qcow2_table_cleanup(t);
        return -ENOMEM;
    }
    return 0;
}

void qcow2_table_cleanup(Qcow2Table *t)
{
    g_free(t->entries);
    g_free(t->dirty);
    *t = (Qcow2Table) { 0 };
}

void qcow2_table_set(Qcow2Table *t, uint32_t index, uint64_t value)
{
    uint32_t sector = index / SECTOR_ENTRIES;

    assert(index < t->size);
    t->entries[index] = value;
    t->dirty[sector] = 1;
    if (t->dirty_lo >= t->dirty_hi) {
        t->dirty_lo = sector;
        t->dirty_hi = sector + 1;
    } else {
        t->dirty_lo = MIN(t->dirty_lo, sector);
        t->dirty_hi = MAX(t->dirty_hi, sector + 1);
    }
}

bool qcow2_table_is_dirty(const Qcow2Table *t)
{
    return t->dirty_lo < t->dirty_hi;
}

int coroutine_fn qcow2_table_load(Qcow2State *s, Qcow2Table *t)
{
    int ret;

    if (!t->size) {
        return 0;
    }
    ret = bdrv_co_pread(s->bs->file, t->offset, (uint64_t)t->size * 8,
                        t->entries, 0);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < t->size; i++) {
        t->entries[i] = GUINT64_FROM_BE(t->entries[i]);
    }
    return 0;
}

/* Write sectors [@lo, @hi) of @t. */
static int coroutine_fn write_sectors(Qcow2State *s, Qcow2Table *t,
                                      uint32_t lo, uint32_t hi,
                                      unsigned ignore)
    REQUIRES(s->lock)
{
    uint32_t n = (hi - lo) * SECTOR_ENTRIES;
    uint64_t offset = t->offset + (uint64_t)lo * QCOW2_SECTOR;
    g_autofree uint64_t *buf = g_try_new(uint64_t, n);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = lo * SECTOR_ENTRIES + i;

        buf[i] = index < t->size ? GUINT64_TO_BE(t->entries[index]) : 0;
    }
    ret = qcow2_check_overlap(s, ignore, offset, (uint64_t)n * 8);
    if (ret < 0) {
        return ret;
    }
    return bdrv_co_pwrite(s->bs->file, offset, (uint64_t)n * 8, buf, 0);
}

int coroutine_fn qcow2_table_write(Qcow2State *s, Qcow2Table *t,
                                   unsigned ignore, BlkdebugEvent event)
{
    uint32_t lo = t->dirty_lo;

    while (lo < t->dirty_hi) {
        uint32_t hi = lo;
        int ret;

        if (!t->dirty[lo]) {
            lo++;
            continue;
        }
        while (hi < t->dirty_hi && t->dirty[hi]) {
            hi++;
        }
        BLKDBG_EVENT(s->bs->file, event);
        ret = write_sectors(s, t, lo, hi, ignore);
        if (ret < 0) {
            return ret;
        }
        memset(t->dirty + lo, 0, hi - lo);
        lo = hi;
    }
    t->dirty_lo = t->dirty_hi = 0;
    return 0;
}

int coroutine_fn qcow2_table_write_new(Qcow2State *s, uint64_t offset,
                                       const uint64_t *entries, uint32_t n,
                                       BlkdebugEvent event)
{
    uint64_t bytes = ROUND_UP((uint64_t)n * 8, (uint64_t)QCOW2_SECTOR);
    g_autofree uint64_t *buf = NULL;
    int ret;

    if (!n) {
        return 0;
    }
    buf = g_try_malloc0(bytes);
    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        buf[i] = GUINT64_TO_BE(entries[i]);
    }
    ret = qcow2_check_overlap(s, 0, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(s->bs->file, event);
    return bdrv_co_pwrite(s->bs->file, offset, bytes, buf, 0);
}

/* ---- header ---- */

static int coroutine_fn write_header_sector(Qcow2State *s,
                                            const uint8_t *sector)
    REQUIRES(s->lock)
{
    int ret = bdrv_co_pwrite(s->bs->file, 0, QCOW2_SECTOR, sector, 0);

    return ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs);
}

int coroutine_fn qcow2_header_update(Qcow2State *s, const Qcow2Header *h)
{
    uint8_t sector[QCOW2_SECTOR];
    int ret;

    ret = qcow2_check_writable(s);
    if (ret < 0) {
        return ret;
    }
    memcpy(sector, s->hdr_sector, sizeof(sector));
    qcow2_header_encode(h, sector);
    ret = write_header_sector(s, sector);
    if (ret < 0) {
        /* Old or new may be on disk now: make it old. */
        if (write_header_sector(s, s->hdr_sector) < 0) {
            s->corrupt = true;
            g_free(s->corrupt_reason);
            s->corrupt_reason = g_strdup("the header could not be written");
        }
        return ret;
    }
    memcpy(s->hdr_sector, sector, sizeof(sector));
    s->hdr = *h;
    return 0;
}

/* ---- order ---- */

int coroutine_fn qcow2_write_refcounts(Qcow2State *s)
{
    int ret;

    ret = qcow2_cache_write(s, s->refblock_cache);
    if (ret < 0 || !qcow2_table_is_dirty(&s->reftable)) {
        return ret;
    }
    ret = bdrv_co_flush(s->bs->file->bs); /* R4 */
    if (ret < 0) {
        return ret;
    }
    return qcow2_table_write(s, &s->reftable, QCOW2_OL_REFCOUNT_TABLE,
                             BLKDBG_REFBLOCK_ALLOC_HOOKUP);
}

int coroutine_fn qcow2_barrier(Qcow2State *s)
{
    int ret;

    if (!s->need_barrier || PLANTED(Q_REFCOUNT_AFTER_L2)) {
        return 0;
    }
    ret = qcow2_write_refcounts(s); /* R1 */
    if (ret == 0 && s->data_file != s->bs->file) {
        ret = bdrv_co_flush(s->data_file->bs); /* R2 */
    }
    if (ret < 0) {
        return ret;
    }
    if (!PLANTED(Q_NO_FLUSH_BEFORE_L2)) {
        ret = bdrv_co_flush(s->bs->file->bs); /* R1, R2, R4 */
    }
    if (ret < 0) {
        return ret;
    }
    s->need_barrier = false;
    return 0;
}

bool qcow2_may_lag(const Qcow2State *s)
{
    return s->lazy_refcounts &&
           (s->hdr.incompatible_features & QCOW2_INC_DIRTY);
}

int coroutine_fn qcow2_map_barrier(Qcow2State *s)
{
    Qcow2Header h = s->hdr;
    int ret = 0;

    if (!s->need_barrier || !s->lazy_refcounts) {
        return qcow2_barrier(s);
    }
    if (!qcow2_may_lag(s)) {
        h.incompatible_features |= QCOW2_INC_DIRTY;
        ret = qcow2_header_update(s, &h);
    }
    if (ret == 0 && s->data_file != s->bs->file) {
        ret = bdrv_co_flush(s->data_file->bs); /* R2 */
    }
    ret = ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs); /* R2, R4 */
    if (ret == 0) {
        s->need_barrier = false;
    }
    return ret;
}

int coroutine_fn qcow2_write_map(Qcow2State *s)
{
    int ret;

    ret = qcow2_check_writable(s);
    if (ret < 0) {
        return ret;
    }
    if (!qcow2_cache_is_dirty(s->l2_cache) && !qcow2_table_is_dirty(&s->l1)) {
        return 0;
    }
    ret = qcow2_map_barrier(s);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_cache_write(s, s->l2_cache);
    if (ret < 0) {
        return ret;
    }
    return qcow2_table_write(s, &s->l1, QCOW2_OL_ACTIVE_L1,
                             BLKDBG_L1_UPDATE);
}

/* All but refcounts; what waits is freed. */
static int coroutine_fn flush_map(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret;

    if (PLANTED(Q_FREE_BEFORE_UNLINK)) {
        (void)qcow2_apply_frees(s);
    }
    ret = qcow2_write_map(s);
    if (ret < 0) {
        return ret;
    }
    if (s->frees->len) {
        ret = bdrv_co_flush(s->bs->file->bs); /* R3 */
        if (ret < 0) {
            return ret;
        }
        ret = qcow2_apply_frees(s);
    }
    return ret;
}

int coroutine_fn qcow2_flush_metadata(Qcow2State *s)
{
    int ret = flush_map(s);

    return ret < 0 || qcow2_may_lag(s) ? ret : qcow2_write_refcounts(s);
}

void coroutine_fn qcow2_relieve(Qcow2State *s)
{
    if (s->frees->len > MAX_FREES || s->frees_clusters > MAX_FREES_CLUSTERS) {
        (void)qcow2_flush_metadata(s); /* the next flush reports it */
    }
}

int coroutine_fn qcow2_sync_metadata(Qcow2State *s)
{
    int ret;

    do {
        ret = flush_map(s);
        ret = ret < 0 ? ret : qcow2_write_refcounts(s);
        ret = ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs);
    } while (ret == 0 && s->frees->len);
    return ret;
}

int coroutine_fn qcow2_mark_clean(Qcow2State *s)
{
    int ret = qcow2_sync_metadata(s);
    Qcow2Header h = s->hdr;

    if (ret == 0 && (h.incompatible_features & QCOW2_INC_DIRTY)) {
        h.incompatible_features &= ~QCOW2_INC_DIRTY;
        ret = qcow2_header_update(s, &h);
    }
    return ret;
}
