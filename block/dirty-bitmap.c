/* SPDX-License-Identifier: MIT */
/*
 * Dirty bitmaps of a node, see include/block/dirty-bitmap.h.
 *
 * io.c calls bdrv_bitmaps_track() when a request that may have changed
 * something ends, before anybody is told of the end: a bitmap that is read
 * after a write was acknowledged has it. Marking needs no I/O even for a
 * bitmap whose contents are still in the image (BdrvDirtyBitmap.stored).
 *
 * The operations are one table. bs->bitmaps_lock is held for the whole of one,
 * loading included, so bitmaps do not go away under it; tracking and resize do
 * not take it, as they never yield and never remove one. A merge between two
 * disks copies the source first: no operation holds two locks or two disks.
 */
#include "block/dirty-bitmap_int.h"

#include <string.h>

/* --- One bitmap --- */

static BdrvDirtyBitmap *bitmap_new(BlockDriverState *bs, const char *name,
                                   unsigned granularity_bits,
                                   uint64_t disk_bytes)
{
    BdrvDirtyBitmap *bm = g_new0(BdrvDirtyBitmap, 1);

    bm->name = g_strdup(name);
    bm->granularity_bits = granularity_bits;
    bm->size = disk_bytes;
    bm->bits = sparse_bits_new(bdrv_bitmap_nb_bits(disk_bytes,
                                                   granularity_bits));
    if (!bs->dirty_bitmaps) {
        bs->dirty_bitmaps = g_ptr_array_new();
    }
    g_ptr_array_add(bs->dirty_bitmaps, bm);
    return bm;
}

static void bitmap_free(BdrvDirtyBitmap *bm)
{
    sparse_bits_free(bm->bits);
    g_free(bm->name);
    g_free(bm);
}

BdrvDirtyBitmap *bdrv_bitmap_new_persistent(BlockDriverState *bs,
                                            const char *name,
                                            unsigned granularity_bits,
                                            uint64_t disk_bytes, bool enabled,
                                            bool inconsistent)
{
    BdrvDirtyBitmap *bm = bitmap_new(bs, name, granularity_bits,
                                     inconsistent ? 0 : disk_bytes);

    bm->persistent = true;
    bm->enabled = enabled;
    bm->inconsistent = inconsistent;
    return bm;
}

void bdrv_bitmap_set_inconsistent(BdrvDirtyBitmap *bm)
{
    bm->inconsistent = true;
    bm->stored = false;
    bm->size = 0;
    sparse_bits_resize(bm->bits, 0);
}

void bdrv_bitmaps_free(BlockDriverState *bs)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        bitmap_free(g_ptr_array_index(bs->dirty_bitmaps, i));
    }
    g_clear_pointer(&bs->dirty_bitmaps, g_ptr_array_unref);
}

/* Mark every granule that has a byte of [@offset, + @bytes). */
static void mark(BdrvDirtyBitmap *bm, uint64_t offset, uint64_t bytes)
{
    uint64_t count = sparse_bits_count(bm->bits);
    uint64_t first, end;

    if (offset >= bm->size || bytes == 0) {
        return;
    }
    bytes = MIN(bytes, bm->size - offset);
    first = offset >> bm->granularity_bits;
    end = bdrv_bitmap_nb_bits(offset + bytes, bm->granularity_bits);
    sparse_bits_set(bm->bits, first, end - first);
    bm->changed |= sparse_bits_count(bm->bits) != count;
}

/* --- What requests do to the bitmaps of their node --- */

void bdrv_bitmaps_track(BlockDriverState *bs, uint64_t offset,
                        uint64_t bytes)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (bm->enabled && !bm->inconsistent) {
            mark(bm, offset, bytes);
        }
    }
}

int bdrv_bitmaps_check_consistent(BlockDriverState *bs, GError **errp)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (bm->inconsistent) {
            return set_error(errp, -EBUSY, "%s: bitmap '%s' is inconsistent; "
                             "remove it first", bs->filename, bm->name);
        }
    }
    return 0;
}

int bdrv_bitmaps_check_resize(BlockDriverState *bs, uint64_t size,
                              GError **errp)
{
    int ret = bdrv_bitmaps_check_consistent(bs, errp);

    if (ret < 0 || !bs->dirty_bitmaps) {
        return ret;
    }
    for (guint i = 0; i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (size == 0 && bm->persistent) {
            return set_error(errp, -ENOTSUP, "%s: a disk of no bytes cannot "
                             "keep bitmap '%s'; remove it first",
                             bs->filename, bm->name);
        }
        if (bdrv_bitmap_nb_bits(size, bm->granularity_bits) >
            BDRV_BITMAP_MAX_BITS) {
            return set_error(errp, -EFBIG, "%s: bitmap '%s' cannot cover %"
                             G_GUINT64_FORMAT " bytes with its granularity",
                             bs->filename, bm->name, size);
        }
    }
    return 0;
}

static void bitmap_resize(BdrvDirtyBitmap *bm, uint64_t size)
{
    uint64_t old = bm->size;
    uint64_t nb = bdrv_bitmap_nb_bits(size, bm->granularity_bits);

    if (bm->inconsistent || size == old) {
        return;
    }
    if (nb > BDRV_BITMAP_MAX_BITS) {
        bdrv_bitmap_set_inconsistent(bm);
        return;
    }
    sparse_bits_resize(bm->bits, nb);
    bm->size = size;
    bm->stored_bits = MIN(bm->stored_bits, nb);
    bm->changed = true;
    if (bm->enabled && size > old) {
        /* Not only for good measure: the disk may have been longer once. */
        mark(bm, old, size - old);
    }
}

void bdrv_bitmaps_resize(BlockDriverState *bs, uint64_t size)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        bitmap_resize(g_ptr_array_index(bs->dirty_bitmaps, i), size);
    }
}

/* --- Operations --- */

typedef enum BitmapOp {
    OP_ADD, OP_REMOVE, OP_CLEAR, OP_ENABLE, OP_DISABLE, OP_COPY, OP_MERGE,
    OP_SET, OP_RESET, OP_LIST, OP_COUNT, OP_NEXT,
} BitmapOp;

typedef struct BitmapCall {
    BitmapOp op;
    BlockBackend *blk;
    const char *name;
    GError **errp;
    uint64_t offset;        /* OP_ADD: granularity */
    uint64_t bytes;
    unsigned flags;
    BlockBackend *src;
    const char *src_name;
    uint64_t *ret_offset;
    uint64_t *ret_bytes;
    GPtrArray **ret_list;

    /* Of a merge: what OP_COPY found. */
    SparseBits *copy;
    unsigned copy_granularity_bits;
    uint64_t copy_size;
} BitmapCall;

typedef int coroutine_fn BitmapOpFunc(BlockDriverState *bs,
                                      BdrvDirtyBitmap *bm, BitmapCall *c);

static BdrvDirtyBitmap *find(const BlockDriverState *bs, const char *name)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (strcmp(bm->name, name) == 0) {
            return bm;
        }
    }
    return NULL;
}

static int coroutine_fn pick_granularity(BlockDriverState *bs,
                                         BitmapCall *c, unsigned *ret_bits)
{
    uint64_t g = c->offset;
    BdrvInfo info;

    if (g == 0) {
        g = bdrv_co_get_info(bs, &info) == 0 ? info.cluster_size : 0;
        g = g ? CLAMP(g, 4096, 65536) : 65536;
    }
    if (g < BDRV_BITMAP_MIN_GRANULARITY || g > BDRV_BITMAP_MAX_GRANULARITY ||
        (g & (g - 1))) {
        return set_error(c->errp, -EINVAL, "granularity %" G_GUINT64_FORMAT
                         " is not a power of two from 512 to 2 GiB", g);
    }
    if (DIV_ROUND_UP(bs->total_bytes, g) > BDRV_BITMAP_MAX_BITS) {
        return set_error(c->errp, -EFBIG, "a bitmap of granularity %"
                         G_GUINT64_FORMAT " cannot cover this disk; use a "
                         "larger one", g);
    }
    *ret_bits = __builtin_ctzll(g);
    return 0;
}

static int coroutine_fn op_add(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                               BitmapCall *c)
{
    bool persistent = c->flags & BDRV_BITMAP_PERSISTENT;
    size_t len = strlen(c->name);
    unsigned bits = 0;
    int ret;

    if (len < 1 || len > BDRV_BITMAP_MAX_NAME) {
        return set_error(c->errp, -EINVAL, "a bitmap name has 1 to %d bytes",
                         BDRV_BITMAP_MAX_NAME);
    }
    if (bm) {
        return set_error(c->errp, -EEXIST, "%s has a bitmap '%s' already",
                         bs->filename, c->name);
    }
    ret = pick_granularity(bs, c, &bits);
    if (ret < 0) {
        return ret;
    }
    if (persistent && bs->read_only) {
        return set_error(c->errp, -EROFS, "%s is open read-only",
                         bs->filename);
    }
    if (persistent && !bs->drv->bitmap_can_store) {
        return set_error(c->errp, -ENOTSUP, "%s: format '%s' cannot keep "
                         "bitmaps", bs->filename, bs->drv->format_name);
    }
    if (persistent) {
        ret = bs->drv->bitmap_can_store(bs, c->name, c->errp);
        if (ret < 0) {
            return ret;
        }
    }
    bm = bitmap_new(bs, c->name, bits, bs->total_bytes);
    bm->persistent = persistent;
    bm->enabled = !(c->flags & BDRV_BITMAP_DISABLED);
    bm->changed = true;
    return 0;
}

static int coroutine_fn op_remove(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                  BitmapCall *c)
{
    g_ptr_array_remove(bs->dirty_bitmaps, bm);
    bitmap_free(bm);
    return 0;
}

static int coroutine_fn op_clear(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                 BitmapCall *c)
{
    sparse_bits_clear(bm->bits, 0, sparse_bits_size(bm->bits));
    bm->stored = false;
    bm->changed = true;
    return 0;
}

static int coroutine_fn op_enable(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                  BitmapCall *c)
{
    bm->enabled = true;
    return 0;
}

static int coroutine_fn op_disable(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                   BitmapCall *c)
{
    bm->enabled = false;
    return 0;
}

static int coroutine_fn op_copy(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                BitmapCall *c)
{
    c->copy = sparse_bits_copy(bm->bits);
    c->copy_granularity_bits = bm->granularity_bits;
    c->copy_size = bm->size;
    return c->copy ? 0 : set_error(c->errp, -ENOMEM, "no memory for a copy "
                                   "of bitmap '%s'", bm->name);
}

static int coroutine_fn op_merge(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                 BitmapCall *c)
{
    uint64_t nb = sparse_bits_size(c->copy);
    uint64_t from, to = 0;

    if (c->copy_size != bm->size) {
        return set_error(c->errp, -EINVAL, "bitmap '%s' is for %"
                         G_GUINT64_FORMAT " bytes, '%s' for %"
                         G_GUINT64_FORMAT, bm->name, bm->size, c->src_name,
                         c->copy_size);
    }
    while ((from = sparse_bits_next(c->copy, to, nb, true)) < nb) {
        to = sparse_bits_next(c->copy, from, nb, false);
        mark(bm, from << c->copy_granularity_bits,
             (to - from) << c->copy_granularity_bits);
    }
    return 0;
}

static int check_range(const BdrvDirtyBitmap *bm, const BitmapCall *c)
{
    if (c->offset > bm->size || c->bytes > bm->size - c->offset) {
        return set_error(c->errp, -EINVAL, "the range is not within the "
                         "disk");
    }
    return 0;
}

static int coroutine_fn op_set(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                               BitmapCall *c)
{
    int ret = check_range(bm, c);

    if (ret == 0) {
        mark(bm, c->offset, c->bytes);
    }
    return ret;
}

static int coroutine_fn op_reset(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                 BitmapCall *c)
{
    uint64_t first, last, end = c->offset + c->bytes;
    int ret = check_range(bm, c);

    if (ret < 0) {
        return ret;
    }
    first = bdrv_bitmap_nb_bits(c->offset, bm->granularity_bits);
    last = end == bm->size ? sparse_bits_size(bm->bits)
                           : end >> bm->granularity_bits;
    if (first < last) {
        sparse_bits_clear(bm->bits, first, last - first);
        bm->changed = true;
    }
    return 0;
}

static int coroutine_fn op_list(BlockDriverState *bs, BdrvDirtyBitmap *unused,
                                BitmapCall *c)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)bdrv_bitmap_info_free);

    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);
        BdrvBitmapInfo *info = g_new0(BdrvBitmapInfo, 1);

        info->name = g_strdup(bm->name);
        info->granularity = 1ULL << bm->granularity_bits;
        info->persistent = bm->persistent;
        info->enabled = bm->enabled;
        info->inconsistent = bm->inconsistent;
        g_ptr_array_add(list, info);
    }
    *c->ret_list = list;
    return 0;
}

void bdrv_bitmap_info_free(BdrvBitmapInfo *info)
{
    g_free(info->name);
    g_free(info);
}

static int coroutine_fn op_count(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                 BitmapCall *c)
{
    *c->ret_bytes = sparse_bits_count(bm->bits) << bm->granularity_bits;
    return 0;
}

static int coroutine_fn op_next(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                BitmapCall *c)
{
    uint64_t nb = sparse_bits_size(bm->bits);
    uint64_t from, to, start;

    *c->ret_offset = bm->size;
    *c->ret_bytes = 0;
    if (c->offset >= bm->size) {
        return 0;
    }
    from = sparse_bits_next(bm->bits, c->offset >> bm->granularity_bits, nb,
                            true);
    if (from < nb) {
        to = sparse_bits_next(bm->bits, from, nb, false);
        start = MAX(from << bm->granularity_bits, c->offset);
        *c->ret_offset = start;
        *c->ret_bytes = MIN(to << bm->granularity_bits, bm->size) - start;
    }
    return 0;
}

/* What an operation needs. */
enum {
    NEED_BITMAP = 1 << 0,   /* it exists */
    NEED_SOUND  = 1 << 1,   /* and is not inconsistent */
    NEED_WRITE  = 1 << 2,   /* and may be changed */
    NEED_BITS   = 1 << 3,   /* and is in memory */
};

static const struct {
    BitmapOpFunc *fn;
    unsigned needs;
} ops[] = {
    [OP_ADD] = { op_add, 0 },
    [OP_REMOVE] = { op_remove, NEED_BITMAP | NEED_WRITE },
    [OP_CLEAR] = { op_clear, NEED_BITMAP | NEED_SOUND | NEED_WRITE },
    [OP_ENABLE] = { op_enable, NEED_BITMAP | NEED_SOUND | NEED_WRITE },
    [OP_DISABLE] = { op_disable, NEED_BITMAP | NEED_SOUND | NEED_WRITE },
    [OP_COPY] = { op_copy, NEED_BITMAP | NEED_SOUND | NEED_BITS },
    [OP_MERGE] = { op_merge, NEED_BITMAP | NEED_SOUND | NEED_WRITE },
    [OP_SET] = { op_set, NEED_BITMAP | NEED_SOUND | NEED_WRITE },
    [OP_RESET] = { op_reset, NEED_BITMAP | NEED_SOUND | NEED_WRITE |
                             NEED_BITS },
    [OP_LIST] = { op_list, 0 },
    [OP_COUNT] = { op_count, NEED_BITMAP | NEED_SOUND | NEED_BITS },
    [OP_NEXT] = { op_next, NEED_BITMAP | NEED_SOUND | NEED_BITS },
};

static int coroutine_fn meet_needs(BlockDriverState *bs, BdrvDirtyBitmap *bm,
                                   unsigned needs, BitmapCall *c)
{
    int ret = 0;

    if ((needs & NEED_BITMAP) && !bm) {
        return set_error(c->errp, -ENOENT, "'%s' has no bitmap '%s'",
                         bs->filename, c->name);
    }
    if ((needs & NEED_SOUND) && bm->inconsistent) {
        return set_error(c->errp, -EINVAL, "%s: bitmap '%s' is inconsistent; "
                         "it can only be removed", bs->filename, bm->name);
    }
    if ((needs & NEED_WRITE) && bm->persistent && bs->read_only) {
        return set_error(c->errp, -EROFS, "%s is open read-only",
                         bs->filename);
    }
    if ((needs & NEED_BITS) && bm->stored) {
        ret = bs->drv->co_bitmap_load(bs, bm, c->errp);
        if (ret < 0) {
            return prefix_error(c->errp, ret, "%s: bitmap '%s': ",
                                bs->filename, bm->name);
        }
        bm->stored = false;
    }
    return ret;
}

/* @bs or what the filters there are on top of. */
static BlockDriverState *bitmap_node(BlockDriverState *bs)
{
    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

static int coroutine_fn do_call(BitmapCall *c) NO_TSA
{
    BlockDriverState *bs;
    BdrvDirtyBitmap *bm;
    int ret;

    blk_co_begin(c->blk, NULL);
    bs = bitmap_node(blk_bs(c->blk));
    co_mutex_lock(&bs->bitmaps_lock);
    if (bs->bitmaps_unusable) {
        ret = set_error(c->errp, -EINVAL, "%s: %s", bs->filename,
                        bs->bitmaps_unusable);
    } else {
        bm = c->name ? find(bs, c->name) : NULL;
        ret = meet_needs(bs, bm, ops[c->op].needs, c);
        ret = ret < 0 ? ret : ops[c->op].fn(bs, bm, c);
    }
    co_mutex_unlock(&bs->bitmaps_lock);
    blk_end(c->blk);
    return ret;
}

static int coroutine_fn run_call(void *opaque)
{
    BitmapCall *c = opaque;
    int ret;

    if (c->src) {
        BitmapCall copy = {
            .op = OP_COPY, .blk = c->src, .name = c->src_name,
            .errp = c->errp,
        };

        ret = do_call(&copy);
        if (ret < 0) {
            return ret;
        }
        c->copy = copy.copy;
        c->copy_granularity_bits = copy.copy_granularity_bits;
        c->copy_size = copy.copy_size;
    }
    ret = do_call(c);
    sparse_bits_free(c->copy);
    return ret;
}

static int no_coroutine_fn run_blocking(BitmapCall c)
{
    return aio_run_blocking(blk_get_aio_context(c.blk), run_call, &c);
}

/*
 * Each operation twice, from one list of parameters: blk_co_bitmap_NAME() and
 * the blocking blk_bitmap_NAME().
 */
#define BITMAP_OPERATION(verb, params, ...)                 \
    int coroutine_fn blk_co_bitmap_##verb params            \
    {                                                       \
        BitmapCall c = { __VA_ARGS__ };                     \
                                                            \
        return run_call(&c);                                \
    }                                                       \
                                                            \
    int no_coroutine_fn blk_bitmap_##verb params            \
    {                                                       \
        return run_blocking((BitmapCall) { __VA_ARGS__ });  \
    }

BITMAP_OPERATION(add,
    (BlockBackend *blk, const char *name, uint64_t granularity,
     unsigned flags, GError **errp),
    .op = OP_ADD, .blk = blk, .name = name, .errp = errp,
    .offset = granularity, .flags = flags)
BITMAP_OPERATION(remove,
    (BlockBackend *blk, const char *name, GError **errp),
    .op = OP_REMOVE, .blk = blk, .name = name, .errp = errp)
BITMAP_OPERATION(clear,
    (BlockBackend *blk, const char *name, GError **errp),
    .op = OP_CLEAR, .blk = blk, .name = name, .errp = errp)
BITMAP_OPERATION(enable,
    (BlockBackend *blk, const char *name, GError **errp),
    .op = OP_ENABLE, .blk = blk, .name = name, .errp = errp)
BITMAP_OPERATION(disable,
    (BlockBackend *blk, const char *name, GError **errp),
    .op = OP_DISABLE, .blk = blk, .name = name, .errp = errp)
BITMAP_OPERATION(merge,
    (BlockBackend *blk, const char *name, BlockBackend *src,
     const char *src_name, GError **errp),
    .op = OP_MERGE, .blk = blk, .name = name, .errp = errp, .src = src,
    .src_name = src_name)
BITMAP_OPERATION(set,
    (BlockBackend *blk, const char *name, uint64_t offset, uint64_t bytes,
     GError **errp),
    .op = OP_SET, .blk = blk, .name = name, .errp = errp,
    .offset = offset, .bytes = bytes)
BITMAP_OPERATION(reset,
    (BlockBackend *blk, const char *name, uint64_t offset, uint64_t bytes,
     GError **errp),
    .op = OP_RESET, .blk = blk, .name = name, .errp = errp,
    .offset = offset, .bytes = bytes)
BITMAP_OPERATION(list,
    (BlockBackend *blk, GPtrArray **ret, GError **errp),
    .op = OP_LIST, .blk = blk, .name = NULL, .errp = errp, .ret_list = ret)
BITMAP_OPERATION(count,
    (BlockBackend *blk, const char *name, uint64_t *ret_bytes, GError **errp),
    .op = OP_COUNT, .blk = blk, .name = name, .errp = errp,
    .ret_bytes = ret_bytes)
BITMAP_OPERATION(next_dirty,
    (BlockBackend *blk, const char *name, uint64_t offset,
     uint64_t *ret_offset, uint64_t *ret_bytes, GError **errp),
    .op = OP_NEXT, .blk = blk, .name = name, .errp = errp,
    .offset = offset, .ret_offset = ret_offset, .ret_bytes = ret_bytes)
