/* SPDX-License-Identifier: MIT */
/*
 * raw: the bytes of the file are the bytes of the disk. Options "offset" and
 * "size" show a part of the file. Alignment, growth and fallbacks are left to
 * the node below.
 */
#include "block/block_int.h"

typedef struct RawState {
    uint64_t offset;
    uint64_t size;  /* UINT64_MAX: up to the end of the file */
} RawState;

static int coroutine_fn raw_co_open(BlockDriverState *bs,
                                    BdrvOptions *options, unsigned flags,
                                    GError **errp)
{
    RawState *s = bs->opaque;
    uint64_t file_size = bs->file->bs->total_bytes;
    int ret = bdrv_options_take_size(options, "offset", 0, &s->offset, errp);

    if (ret == 0) {
        ret = bdrv_options_take_size(options, "size", UINT64_MAX, &s->size,
                                     errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (s->offset > file_size ||
        (s->size != UINT64_MAX && s->size > file_size - s->offset)) {
        return set_error(errp, -EINVAL, "offset and size do not lie inside "
                         "the file of %" G_GUINT64_FORMAT " bytes",
                         file_size);
    }
    bs->growable = bs->file->bs->growable && s->size == UINT64_MAX;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP |
                               BDRV_REQ_NO_FALLBACK;
    return 0;
}

static int64_t coroutine_fn raw_co_getlength(BlockDriverState *bs)
{
    RawState *s = bs->opaque;

    if (s->size != UINT64_MAX) {
        return s->size;
    }
    return bs->file->bs->total_bytes - s->offset;
}

static int coroutine_fn raw_co_preadv(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      unsigned flags)
{
    RawState *s = bs->opaque;

    BLKDBG_EVENT(bs->file, BLKDBG_READ_AIO);
    return bdrv_co_preadv(bs->file, offset + s->offset, bytes, qiov, flags);
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    RawState *s = bs->opaque;

    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
    return bdrv_co_pwritev(bs->file, offset + s->offset, bytes, qiov, flags);
}

static int coroutine_fn raw_co_copy_range(BlockDriverState *bs,
                                          uint64_t offset, uint64_t bytes,
                                          BlockDriverState *src,
                                          uint64_t src_offset)
{
    RawState *s = bs->opaque;

    return bdrv_co_copy_range(src, src_offset, bs->file, offset + s->offset,
                              bytes);
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             unsigned flags)
{
    RawState *s = bs->opaque;

    return bdrv_co_pwrite_zeroes(bs->file, offset + s->offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes)
{
    RawState *s = bs->opaque;

    return bdrv_co_pdiscard(bs->file, offset + s->offset, bytes);
}

static int coroutine_fn raw_co_truncate(BlockDriverState *bs, uint64_t size,
                                        BdrvPrealloc prealloc, GError **errp)
{
    RawState *s = bs->opaque;

    if (s->size != UINT64_MAX) {
        return set_error(errp, -ENOTSUP, "%s: opened with a fixed size",
                         bs->filename);
    }
    if (size > BDRV_MAX_LENGTH - s->offset) {
        return set_error(errp, -EFBIG, "%s: too large", bs->filename);
    }
    return bdrv_co_truncate(bs->file, size + s->offset, prealloc, errp);
}

static int coroutine_fn raw_co_block_status(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            uint64_t *ret_bytes,
                                            uint64_t *ret_map)
{
    RawState *s = bs->opaque;
    int ret = bdrv_co_block_status(bs->file->bs, offset + s->offset, bytes,
                                   ret_bytes, ret_map);

    if (ret >= 0 && (ret & BDRV_BLOCK_ALLOCATED)) {
        *ret_map = offset + s->offset;
        ret |= BDRV_BLOCK_OFFSET_VALID;
    }
    return ret;
}

static int coroutine_fn raw_co_create(const char *filename,
                                      BdrvOptions *options, GError **errp)
{
    return bdrv_co_create_file(filename,
                               bdrv_options_take_prefix(options, ""), errp);
}

/* A raw image is the disk and nothing else. */
static int coroutine_fn raw_co_measure(BdrvOptions *opts,
                                       BlockDriverState *src,
                                       BdrvMeasure *ret, GError **errp)
{
    g_autofree char *text = NULL;
    BdrvPrealloc prealloc;
    uint64_t size;
    int r = bdrv_options_take_size(opts, "size", src ? src->total_bytes : 0,
                                   &size, errp);

    /* Space that is allocated ahead of time would be needed anyway. */
    text = bdrv_options_take(opts, "preallocation");
    r = r < 0 ? r : bdrv_prealloc_parse(text, &prealloc, errp);
    if (r == 0) {
        ret->required = ret->fully_allocated = ROUND_UP(size, 512);
    }
    return r;
}

BlockDriver bdrv_raw = {
    .format_name = "raw",
    .instance_size = sizeof(RawState),
    .co_open = raw_co_open,
    .co_create = raw_co_create,
    .co_measure = raw_co_measure,
    .co_getlength = raw_co_getlength,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_copy_range = raw_co_copy_range,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_pdiscard = raw_co_pdiscard,
    .co_truncate = raw_co_truncate,
    .co_block_status = raw_co_block_status,
};
