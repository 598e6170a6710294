/* SPDX-License-Identifier: MIT */
/*
 * null-co and null-aio, which are one: a disk without storage, to measure
 * everything above it. Writes are lost; reads leave the buffer alone, or zero
 * it with "read-zeroes". Options: "size" (default 1 GiB) and "latency-ns" of
 * each request.
 */
#include <string.h>

#include "block/block_int.h"


typedef struct NullState {
    uint64_t size;
    uint64_t latency_ns;
    bool read_zeroes;
} NullState;

static int null_parse_filename(const char *filename, BdrvOptions *options,
                               GError **errp)
{
    if (!g_str_has_suffix(filename, "://")) {
        return set_error(errp, -EINVAL, "'%s': nothing may follow '://'",
                         filename);
    }
    return 0;
}

static int coroutine_fn null_co_open(BlockDriverState *bs,
                                     BdrvOptions *options, unsigned flags,
                                     GError **errp)
{
    NullState *s = bs->opaque;
    int ret = bdrv_options_take_size(options, "size", 1u << 30, &s->size,
                                     errp);

    if (ret == 0) {
        ret = bdrv_options_take_u64(options, "latency-ns", 0, &s->latency_ns,
                                    errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_bool(options, "read-zeroes", false,
                                     &s->read_zeroes, errp);
    }
    bs->total_bytes = s->size;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP |
                               BDRV_REQ_NO_FALLBACK;
    return ret;
}

static int coroutine_fn null_wait(BlockDriverState *bs)
{
    NullState *s = bs->opaque;

    if (s->latency_ns) {
        aio_co_sleep_ns(MIN(s->latency_ns, INT64_MAX));
    }
    return 0;
}

static int coroutine_fn null_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    NullState *s = bs->opaque;

    if (s->read_zeroes) {
        qemu_iovec_memset(qiov, 0, 0, bytes);
    }
    return null_wait(bs);
}

static int coroutine_fn null_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    return null_wait(bs);
}

static int coroutine_fn null_co_pwrite_zeroes(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              unsigned flags)
{
    return null_wait(bs);
}

static int coroutine_fn null_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    return null_wait(bs);
}

static int coroutine_fn null_co_flush(BlockDriverState *bs)
{
    return null_wait(bs);
}

static int coroutine_fn null_co_block_status(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             uint64_t *ret_bytes,
                                             uint64_t *ret_map)
{
    NullState *s = bs->opaque;

    *ret_bytes = bytes;
    *ret_map = offset;
    return !s->read_zeroes ? 0 : BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO |
                              BDRV_BLOCK_OFFSET_VALID;
}

#define NULL_DRIVER(name)                           \
    {                                               \
        .format_name = name,                        \
        .protocol_name = name,                      \
        .instance_size = sizeof(NullState),         \
        .parse_filename = null_parse_filename,      \
        .co_open = null_co_open,                    \
        .co_preadv = null_co_preadv,                \
        .co_pwritev = null_co_pwritev,              \
        .co_pwrite_zeroes = null_co_pwrite_zeroes,  \
        .co_pdiscard = null_co_pdiscard,            \
        .co_flush_to_disk = null_co_flush,          \
        .co_block_status = null_co_block_status,    \
    }

BlockDriver bdrv_null_co = NULL_DRIVER("null-co");
BlockDriver bdrv_null_aio = NULL_DRIVER("null-aio");
