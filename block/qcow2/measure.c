/* SPDX-License-Identifier: MIT */
/*
 * How large an image file will be: the arithmetic of the format, and what
 * qemu-img measure prints for the same question.
 *
 *   fully allocated = header + L1 + L2 + refcounts + disk, in whole clusters
 *   required        = the same with only those clusters that hold data now
 *
 *   bitmaps         = what persistent bitmaps of the source would take besides
 *
 * A cluster of the target counts as data when any of its bytes in the source
 * is. With falloc or full preallocation, or when the target has a backing
 * file, of which nothing is known here, all clusters count.
 */
#include "bitmap.h"

uint64_t qcow2_refcount_clusters(uint64_t nb_clusters, unsigned cluster_bits,
                                 unsigned refcount_order, uint64_t *ret_table)
{
    uint64_t cs = 1ULL << cluster_bits;
    uint64_t per_block = cs * 8 >> refcount_order;
    uint64_t table = 0, blocks = 0, last;

    do {
        last = table + blocks;
        blocks = DIV_ROUND_UP(nb_clusters + table + blocks, per_block);
        table = DIV_ROUND_UP(blocks * 8, cs);
    } while (table + blocks != last);
    if (ret_table) {
        *ret_table = table;
    }
    return blocks;
}

/* Bytes of everything but the disk, of @bytes in whole clusters. */
static uint64_t metadata_bytes(const Qcow2Create *p, uint64_t bytes)
{
    uint64_t cs = 1ULL << p->h.cluster_bits;
    uint64_t entry = p->h.incompatible_features & QCOW2_INC_EXTENDED_L2
                     ? 16 : 8;
    uint64_t l2 = ROUND_UP(bytes / cs * entry, cs);
    uint64_t l1 = ROUND_UP(l2 / cs * 8, cs);
    uint64_t meta = cs + l2 + l1;
    uint64_t table, blocks;

    blocks = qcow2_refcount_clusters((meta + bytes) / cs, p->h.cluster_bits,
                                     p->h.refcount_order, &table);
    return meta + (blocks + table) * cs;
}

/* Bytes of the clusters of the target that @src has data for. */
static int coroutine_fn count_data(BlockDriverState *src, uint64_t cs,
                                   uint64_t *ret)
{
    uint64_t offset = 0, counted = 0, sum = 0;

    while (offset < src->total_bytes) {
        uint64_t n, end;
        int r = aio_check_stop();

        r = r < 0 ? r : bdrv_co_block_status_above(src, offset,
                                                   src->total_bytes - offset,
                                                   &n, NULL);
        if (r < 0) {
            return r;
        }
        end = offset + n;
        if (!(r & BDRV_BLOCK_ZERO) && (r & BDRV_BLOCK_DATA)) {
            uint64_t from = MAX(ROUND_DOWN(offset, cs), counted);

            counted = ROUND_UP(end, cs);
            sum += counted > from ? counted - from : 0;
        }
        offset = end;
    }
    *ret = sum;
    return 0;
}

static int take_measured_size(BdrvOptions *opts, const BlockDriverState *src,
                              uint64_t *ret, GError **errp)
{
    uint64_t size;
    int r = bdrv_options_take_size(opts, "size", src ? src->total_bytes : 0,
                                   &size, errp);

    if (r == 0 && size > BDRV_MAX_LENGTH - QCOW2_SECTOR) {
        r = set_error(errp, -EFBIG, "size is too large");
    }
    *ret = size;
    return r;
}

/* The disk of @p is of @size bytes. */
static int coroutine_fn measure(const Qcow2Create *p, uint64_t size,
                                BlockDriverState *src, BdrvMeasure *ret,
                                GError **errp)
{
    uint64_t cs = 1ULL << p->h.cluster_bits;
    uint64_t bytes, data = 0;
    int r = 0;

    if (qcow2_l1_entries(p, ROUND_UP(size, cs)) > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "size is too large for this cluster "
                         "size");
    }
    bytes = ROUND_UP(size, cs);
    if (p->ext.backing_file || p->prealloc == BDRV_PREALLOC_FALLOC ||
        p->prealloc == BDRV_PREALLOC_FULL) {
        data = src || !p->ext.backing_file ? bytes : 0;
    } else if (src) {
        r = count_data(src, cs, &data);
    }
    if (r < 0) {
        return set_error(errp, r, "cannot look at the source: %s",
                         g_strerror(-r));
    }
    ret->fully_allocated = metadata_bytes(p, bytes) + bytes +
                           ROUND_UP(qcow2_crypto_header_bytes(p->crypto), cs);
    ret->required = ret->fully_allocated - bytes + data;
    return 0;
}

/* Every bitmap, inconsistent or not, with all its clusters: what bits are set
 * may change. */
static void measure_bitmaps(const Qcow2Create *p, const BlockDriverState *src,
                            BdrvMeasure *ret)
{
    const Qcow2State *s = src ? src->opaque : NULL;
    uint64_t cs = 1ULL << p->h.cluster_bits;
    uint64_t directory = 0;

    if (!s || src->drv != &bdrv_qcow2 || s->hdr.version < 3 ||
        p->h.version < 3) {
        return;
    }
    ret->has_bitmaps = true;
    for (guint i = 0; src->dirty_bitmaps && i < src->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(src->dirty_bitmaps, i);
        uint64_t nb;

        if (!bm->persistent) {
            continue;
        }
        nb = DIV_ROUND_UP(bdrv_bitmap_nb_bits(src->total_bytes,
                                              bm->granularity_bits), cs * 8);
        ret->bitmaps += ROUND_UP(nb * 8, cs) + nb * cs;
        directory += qcow2_bitmap_entry_bytes(strlen(bm->name));
    }
    ret->bitmaps += ROUND_UP(directory, cs);
}

int coroutine_fn qcow2_co_measure(BdrvOptions *opts, BlockDriverState *src,
                                  BdrvMeasure *ret, GError **errp)
{
    Qcow2Create p = { 0 };
    uint64_t size;
    int r;

    r = qcow2_take_create_options(opts, &p, errp);
    r = r < 0 ? r : take_measured_size(opts, src, &size, errp);
    r = r < 0 ? r : measure(&p, size, src, ret, errp);
    if (r == 0) {
        measure_bitmaps(&p, src, ret);
    }
    qcow2_create_cleanup(&p);
    return r;
}
