/* SPDX-License-Identifier: MIT */
/*
 * Copy offloading: bytes go from one file to another without passing through
 * this process. Source and target may be any formats that keep them as they are
 * in their files (not compressed, not encrypted). A filter on either side has
 * something to do with the bytes, so nothing passes it by.
 *
 * The source is found first, down to its file; the target's drivers then hand
 * the copying down as they do with a write, so that a format allocates, orders
 * and links as for any other.
 */
#include "block/block_int.h"

typedef struct Place {
    BlockDriverState *bs;   /* a protocol */
    uint64_t offset;
    uint64_t bytes;
} Place;

/* Where the start of [@offset, @offset + @bytes) is. 0 or -errno. */
static int coroutine_fn locate(BlockDriverState *bs, uint64_t offset,
                               uint64_t bytes, Place *ret)
{
    const int mapped = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;

    while (!bs->drv->protocol_name) {
        uint64_t map = 0;
        int status;

        if (bs->drv->is_filter || (bs->open_flags & BDRV_O_COPY_ON_READ)) {
            return -ENOTSUP;
        }
        status = bdrv_co_block_status(bs, offset, bytes, &bytes, &map);
        if (status < 0) {
            return status;
        }
        if (!(status & BDRV_BLOCK_ALLOCATED) && bs->backing) {
            bs = bs->backing->bs;
            continue;
        }
        if ((status & mapped) != mapped || !bdrv_data_child(bs)) {
            return -ENOTSUP;
        }
        bs = bdrv_data_child(bs)->bs;
        offset = map;
    }
    if (offset >= bs->total_bytes) {
        return -ENOTSUP;
    }
    *ret = (Place) { bs, offset, MIN(bytes, bs->total_bytes - offset) };
    return 0;
}

/* From a protocol. */
static int coroutine_fn copy_from(const Place *from, BdrvChild *dst,
                                  uint64_t offset)
{
    BlockDriverState *bs = dst->bs;
    BdrvTrackedRequest req;
    int ret = bdrv_check_write(bs, offset, from->bytes);

    if (ret < 0) {
        return ret;
    }
    if (!bs->drv->co_copy_range || (bs->open_flags & BDRV_O_DETECT_ZEROES)) {
        return -ENOTSUP;
    }
    bdrv_inc_in_flight(from->bs);
    bdrv_co_write_begin(&req, bs, offset, from->bytes);
    ret = bs->drv->co_copy_range(bs, offset, from->bytes, from->bs,
                                 from->offset);
    bdrv_co_write_end(&req, ret);
    bdrv_dec_in_flight(from->bs);
    return ret;
}

int coroutine_fn bdrv_co_copy_range(BlockDriverState *src,
                                    uint64_t src_offset, BdrvChild *dst,
                                    uint64_t dst_offset, uint64_t bytes)
{
    while (bytes) {
        Place place;
        int ret = locate(src, src_offset, bytes, &place);

        ret = ret < 0 ? ret : copy_from(&place, dst, dst_offset);
        if (ret < 0) {
            return ret;
        }
        src_offset += place.bytes;
        dst_offset += place.bytes;
        bytes -= place.bytes;
    }
    return 0;
}
