/* SPDX-License-Identifier: MIT */
/*
 * Copy on read: before a node with this option is read, what it does not hold
 * itself is copied into it from its backing file.
 *
 * Whole clusters are copied, as a serialising request: a guest's write to the
 * same cluster comes before, and is then what the layer holds, or after.
 *
 * The driver copy-on-read is a filter that opens its child with the option.
 */
#include <stdlib.h>

#include "block/block_int.h"
#include "util/zero.h"

#define COPY_MAX ((uint64_t)1024 * 1024)

/* Copy [@start, @end), aligned, which the node does not hold. */
static int coroutine_fn copy_piece(BlockDriverState *bs, uint64_t start,
                                   uint64_t end, uint8_t *buf)
{
    uint64_t bytes = end - start;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    ret = bs->drv->co_preadv(bs, start, bytes, &qiov, 0);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs, BLKDBG_COR_WRITE);
    ret = -ENOTSUP;
    if (bs->drv->co_pwrite_zeroes && buffer_is_zero(buf, bytes)) {
        ret = bs->drv->co_pwrite_zeroes(bs, start, bytes, 0);
    }
    return ret == -ENOTSUP ? bs->drv->co_pwritev(bs, start, bytes, &qiov, 0)
                           : ret;
}

/* Copy what is missing of [@start, @end), which is at most COPY_MAX. */
static int coroutine_fn copy_missing(BlockDriverState *bs, uint64_t start,
                                     uint64_t end, uint8_t *buf)
{
    uint64_t align = bs->request_alignment;
    BdrvTrackedRequest req;
    uint64_t bytes;
    int ret = 0;

    bdrv_co_tracked_begin(&req, bs, BDRV_TRACKED_WRITE, start, end - start,
                          true);
    for (uint64_t at = start; at < end && ret >= 0; at += bytes) {
        ret = bdrv_co_block_status(bs, at, end - at, &bytes, NULL);
        if (ret >= 0 && !(ret & BDRV_BLOCK_ALLOCATED)) {
            bytes = ROUND_UP(bytes, align); /* the end of the disk */
            ret = copy_piece(bs, at, at + bytes, buf);
        }
    }
    bs->write_gen++;
    bdrv_co_tracked_end(&req);
    return MIN(ret, 0);
}

int coroutine_fn bdrv_co_copy_on_read(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes)
{
    BdrvInfo info = { 0 };
    uint64_t align = bs->request_alignment;
    uint64_t at, end, n, disk_end;
    uint8_t *buf = NULL;
    int ret = 0;

    if (bs->read_only || offset >= bs->total_bytes || !bs->drv->co_pwritev) {
        return 0;
    }
    if (bdrv_co_get_info(bs, &info) == 0) {
        align = MAX(align, MIN(info.cluster_size, COPY_MAX));
    }
    disk_end = ROUND_UP(bs->total_bytes, bs->request_alignment);
    end = MIN(offset + bytes, bs->total_bytes);
    for (at = offset; at < end && ret >= 0; at += n) {
        ret = bdrv_co_block_status(bs, at, end - at, &n, NULL);
        if (ret >= 0 && !(ret & BDRV_BLOCK_ALLOCATED)) {
            uint64_t start = ROUND_DOWN(at, align);
            uint64_t stop = MIN(ROUND_UP(at + n, align), start + COPY_MAX);

            buf = buf ? buf : blk_try_memalign(COPY_MAX);
            stop = MIN(stop, disk_end);
            n = stop - at;
            ret = buf ? copy_missing(bs, start, stop, buf) : -ENOMEM;
        }
    }
    free(buf);
    return MIN(ret, 0);
}

static int coroutine_fn cor_co_open(BlockDriverState *bs,
                                    BdrvOptions *options, unsigned flags,
                                    GError **errp)
{
    BdrvOptions *forced = bdrv_options_new();

    bdrv_options_set(forced, "copy-on-read", "on");
    return bdrv_filter_co_open(bs, options, forced, errp);
}

BlockDriver bdrv_copy_on_read = {
    .format_name = "copy-on-read",
    .protocol_name = "copy-on-read",
    .is_filter = true,
    .co_open = cor_co_open,
    .co_getlength = bdrv_filter_co_getlength,
    .co_preadv = bdrv_filter_co_preadv,
    .co_pwritev = bdrv_filter_co_pwritev,
    .co_pwritev_compressed = bdrv_filter_co_pwritev_compressed,
    .co_pwrite_zeroes = bdrv_filter_co_pwrite_zeroes,
    .co_pdiscard = bdrv_filter_co_pdiscard,
    .co_truncate = bdrv_filter_co_truncate,
    .co_block_status = bdrv_filter_co_block_status,
};
