/* SPDX-License-Identifier: MIT */
/*
 * blkverify: two images that have to be the same. Writes go to both; what is
 * read from the one that is tested must be what the raw one says, else the
 * read fails with -EIO.
 *
 * Options: raw.* and test.* (children), or x-raw and x-image with their names.
 * Filename: blkverify:RAW:IMAGE.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"

#define BLKVERIFY_PREFIX "blkverify:"

typedef struct BlkverifyState {
    BdrvChild *test;   /* bs->file is the raw image */
} BlkverifyState;

static int blkverify_parse_filename(const char *filename,
                                    BdrvOptions *options, GError **errp)
{
    const char *raw = filename + strlen(BLKVERIFY_PREFIX);
    const char *colon = strchr(raw, ':');
    g_autofree char *name = NULL;

    if (!colon) {
        return set_error(errp, -EINVAL, "'%s' is not blkverify:RAW:IMAGE",
                         filename);
    }
    name = g_strndup(raw, colon - raw);
    bdrv_options_set_default(options, "x-raw", name);
    bdrv_options_set_default(options, "x-image", colon + 1);
    return 0;
}

static int coroutine_fn open_one(BlockDriverState *bs, BdrvOptions *options,
                                 const char *key, const char *name,
                                 BdrvChildRole role, BdrvChild **ret,
                                 GError **errp)
{
    g_autofree char *filename = bdrv_options_take(options, key);
    g_autofree char *prefix = g_strconcat(name, ".", NULL);
    BdrvOptions *own = bdrv_options_take_prefix(options, prefix);

    if (!filename && bdrv_options_size(own) == 0) {
        bdrv_options_free(own);
        return bdrv_options_missing(options, "driver 'blkverify'", name,
                                    errp);
    }
    return bdrv_co_open_child(bs, filename, own, name, role, ret, errp);
}

static int coroutine_fn blkverify_co_open(BlockDriverState *bs,
                                          BdrvOptions *options,
                                          unsigned flags, GError **errp)
{
    BlkverifyState *s = bs->opaque;
    int ret = open_one(bs, options, "x-raw", "raw", BDRV_CHILD_FILTERED,
                       &bs->file, errp);

    if (ret == 0) {
        ret = open_one(bs, options, "x-image", "test", BDRV_CHILD_TWIN,
                       &s->test, errp);
    }
    bs->supported_write_flags = BDRV_REQ_FUA;
    return ret;
}

static int64_t coroutine_fn blkverify_co_getlength(BlockDriverState *bs)
{
    BlkverifyState *s = bs->opaque;

    return s->test->bs->total_bytes;
}

static int coroutine_fn blkverify_co_preadv(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            QEMUIOVector *qiov,
                                            unsigned flags)
{
    BlkverifyState *s = bs->opaque;
    uint8_t *want = blk_try_memalign(bytes), *have = blk_try_memalign(bytes);
    int ret = want && have ? 0 : -ENOMEM;

    if (ret == 0) {
        ret = bdrv_co_preadv(s->test, offset, bytes, qiov, flags);
    }
    if (ret == 0) {
        ret = bdrv_co_pread(bs->file, offset, bytes, want, flags);
    }
    if (ret == 0) {
        qemu_iovec_to_buf(qiov, 0, have, bytes);
        ret = memcmp(want, have, bytes) == 0 ? 0 : -EIO;
    }
    free(want);
    free(have);
    return ret;
}

static int coroutine_fn blkverify_co_pwritev(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             QEMUIOVector *qiov,
                                             unsigned flags)
{
    BlkverifyState *s = bs->opaque;
    int ret = bdrv_co_pwritev(s->test, offset, bytes, qiov, flags);

    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, bytes, qiov,
                                           flags);
}

/* The layer flushes bs->file itself. */
static int coroutine_fn blkverify_co_flush_to_os(BlockDriverState *bs)
{
    BlkverifyState *s = bs->opaque;

    return bdrv_co_flush(s->test->bs);
}

BlockDriver bdrv_blkverify = {
    .format_name = "blkverify",
    .protocol_name = "blkverify",
    .instance_size = sizeof(BlkverifyState),
    .parse_filename = blkverify_parse_filename,
    .co_open = blkverify_co_open,
    .co_getlength = blkverify_co_getlength,
    .co_preadv = blkverify_co_preadv,
    .co_pwritev = blkverify_co_pwritev,
    .co_flush_to_os = blkverify_co_flush_to_os,
};
