/* SPDX-License-Identifier: MIT */
/*
 * raw: the bytes of the file are the bytes of the disk. Options "offset" and
 * "size" show a part of the file. Alignment, growth and fallbacks are left to
 * the node below.
 *
 * An image that is raw only because it looks like nothing else must go on to
 * look so: a guest could write the header of another format, with a backing
 * file of its choice, and have that opened the next time. Such writes fail with
 * EPERM.
 */
#include "block/block_int.h"

#include <string.h>

#define COPY_BYTES 4096     /* of a write to the head; sectors of any disk */

typedef struct RawState {
    uint64_t offset;
    uint64_t size;  /* UINT64_MAX: up to the end of the file */
    CoMutex head_lock; /* from the check of what the head will be, to there */
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
    co_mutex_init(&s->head_lock);
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

/* Is anything from @offset of the file on what must not look otherwise? */
static bool is_guarded(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    return bs->probed && offset < BDRV_PROBE_BYTES && bytes > 0;
}

/* Would the file still be raw with @bytes of @data (NULL: zeroes) at @offset?
 * Returns 0, -EPERM, or what reading the rest of its head returned. */
static int coroutine_fn check_head(BlockDriverState *bs, RawState *s,
                                   uint64_t offset, uint64_t bytes,
                                   const uint8_t *data)
    REQUIRES(s->head_lock)
{
    uint64_t n = MIN(bytes, BDRV_PROBE_BYTES - offset);
    uint64_t there = MIN(bs->file->bs->total_bytes, BDRV_PROBE_BYTES);
    uint8_t head[BDRV_PROBE_BYTES] = { 0 };
    int ret = 0;

    if (n < BDRV_PROBE_BYTES) {
        ret = bdrv_co_pread(bs->file, 0, there, head, 0);
    }
    if (ret < 0) {
        return ret;
    }
    if (data) {
        memcpy(head + offset, data, n);
    } else {
        memset(head + offset, 0, n);
    }
    return strcmp(bdrv_probe(head, BDRV_PROBE_BYTES, bs->filename),
                  bdrv_raw.format_name) ? -EPERM : 0;
}

/* What is checked is what is written: the guest may change its memory. */
static int coroutine_fn write_head(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes, QEMUIOVector *qiov,
                                   unsigned flags)
{
    RawState *s = bs->opaque;
    size_t n = MIN(bytes, COPY_BYTES);
    uint8_t *copy = blk_try_memalign(n);
    QEMUIOVector all;
    int ret;

    if (!copy) {
        return -ENOMEM;
    }
    qemu_iovec_to_buf(qiov, 0, copy, n);
    qemu_iovec_init(&all, qiov->niov + 1);
    qemu_iovec_add(&all, copy, n);
    qemu_iovec_concat(&all, qiov, n, bytes - n);

    co_mutex_lock(&s->head_lock);
    ret = check_head(bs, s, offset, n, copy);
    if (ret == 0) {
        ret = bdrv_co_pwritev(bs->file, offset, bytes, &all, flags);
    }
    co_mutex_unlock(&s->head_lock);

    qemu_iovec_destroy(&all);
    free(copy);
    return ret;
}

static int coroutine_fn raw_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    RawState *s = bs->opaque;

    BLKDBG_EVENT(bs->file, BLKDBG_WRITE_AIO);
    if (is_guarded(bs, offset + s->offset, bytes)) {
        return write_head(bs, offset + s->offset, bytes, qiov, flags);
    }
    return bdrv_co_pwritev(bs->file, offset + s->offset, bytes, qiov, flags);
}

static int coroutine_fn raw_co_copy_range(BlockDriverState *bs,
                                          uint64_t offset, uint64_t bytes,
                                          BlockDriverState *src,
                                          uint64_t src_offset)
{
    RawState *s = bs->opaque;

    if (is_guarded(bs, offset + s->offset, bytes)) {
        return -ENOTSUP;    /* it is read and written, then */
    }
    return bdrv_co_copy_range(src, src_offset, bs->file, offset + s->offset,
                              bytes);
}

/* Zeroes to the head, or a discard, which may make zeroes of it. */
static int coroutine_fn clear_head(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes, bool discard,
                                   unsigned flags)
{
    RawState *s = bs->opaque;
    int ret;

    co_mutex_lock(&s->head_lock);
    ret = check_head(bs, s, offset, bytes, NULL);
    if (ret == 0 && discard) {
        ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    } else if (ret == 0) {
        ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    }
    co_mutex_unlock(&s->head_lock);
    return ret;
}

static int coroutine_fn raw_co_pwrite_zeroes(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             unsigned flags)
{
    RawState *s = bs->opaque;

    if (is_guarded(bs, offset + s->offset, bytes)) {
        return clear_head(bs, offset + s->offset, bytes, false, flags);
    }
    return bdrv_co_pwrite_zeroes(bs->file, offset + s->offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes)
{
    RawState *s = bs->opaque;

    if (is_guarded(bs, offset + s->offset, bytes)) {
        return clear_head(bs, offset + s->offset, bytes, true, 0);
    }
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
