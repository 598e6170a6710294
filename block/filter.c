/* SPDX-License-Identifier: MIT */
/*
 * What filters without an opinion of their own do: open the child that is
 * called "file", and hand every request to it.
 */
#include "block/block_int.h"

void bdrv_filter_take_over(BlockDriverState *bs)
{
    /* Relative backing file names are relative to the image. */
    g_free(bs->filename);
    bs->filename = g_strdup(bs->file->bs->filename);
    bs->growable = bs->file->bs->growable;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP |
                               BDRV_REQ_NO_FALLBACK;
}

int coroutine_fn bdrv_filter_co_open(BlockDriverState *bs,
                                     BdrvOptions *options,
                                     BdrvOptions *forced, GError **errp)
{
    BdrvOptions *own = bdrv_options_take_prefix(options, "file.");
    int ret;

    if (bdrv_options_size(own) == 0) {
        g_autofree char *who = g_strdup_printf("driver '%s'",
                                               bs->drv->format_name);

        bdrv_options_free(own);
        bdrv_options_free(forced);
        return bdrv_options_missing(options, who, "file.filename", errp);
    }
    bdrv_options_merge(own, forced);
    ret = bdrv_co_open_child(bs, NULL, own, "file", BDRV_CHILD_FILTERED,
                             &bs->file, errp);
    if (ret < 0) {
        return ret;
    }
    bdrv_filter_take_over(bs);
    return 0;
}

int64_t coroutine_fn bdrv_filter_co_getlength(BlockDriverState *bs)
{
    return bs->file->bs->total_bytes;
}

int coroutine_fn bdrv_filter_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    return bdrv_co_preadv(bs->file, offset, bytes, qiov, flags);
}

int coroutine_fn bdrv_filter_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    return bdrv_co_pwritev(bs->file, offset, bytes, qiov, flags);
}

int coroutine_fn bdrv_filter_co_pwritev_compressed(BlockDriverState *bs,
                                                   uint64_t offset,
                                                   uint64_t bytes,
                                                   QEMUIOVector *qiov,
                                                   unsigned flags)
{
    return bdrv_co_pwritev(bs->file, offset, bytes, qiov, flags);
}

int coroutine_fn bdrv_filter_co_pwrite_zeroes(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              unsigned flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

int coroutine_fn bdrv_filter_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

int coroutine_fn bdrv_filter_co_truncate(BlockDriverState *bs, uint64_t size,
                                         BdrvPrealloc prealloc,
                                         GError **errp)
{
    return bdrv_co_truncate(bs->file, size, prealloc, errp);
}

int coroutine_fn bdrv_filter_co_block_status(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             uint64_t *ret_bytes,
                                             uint64_t *ret_map)
{
    int ret = bdrv_co_block_status(bs->file->bs, offset, bytes, ret_bytes,
                                   ret_map);

    if (ret >= 0) {
        *ret_map = offset;
        ret |= BDRV_BLOCK_OFFSET_VALID;
    }
    return ret;
}
