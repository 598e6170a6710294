/* SPDX-License-Identifier: MIT */
/*
 * Maintenance of images as a BlockBackend's user asks for it: amend, measure,
 * change of the backing file, make empty. Each holds the tree exclusively and
 * hands over to the driver; filters above the format are passed by.
 *
 * Commit is commit.c; resizing is in block-backend.c.
 */
#include <string.h>

#include "block/block_int.h"
#include "block/dirty-bitmap_int.h"

int bdrv_prealloc_parse(const char *text, BdrvPrealloc *ret, GError **errp)
{
    static const char *const names[] = {
        [BDRV_PREALLOC_OFF] = "off",
        [BDRV_PREALLOC_METADATA] = "metadata",
        [BDRV_PREALLOC_FALLOC] = "falloc",
        [BDRV_PREALLOC_FULL] = "full",
        NULL,
    };

    for (size_t i = 0; names[i]; i++) {
        if (strcmp(text ? text : "off", names[i]) == 0) {
            *ret = (BdrvPrealloc)i;
            return 0;
        }
    }
    return bdrv_options_refuse("preallocation", text, names, errp);
}

/* --- Exclusively --- */

/* Hold the tree and find the format below filters. */
static BlockDriverState *coroutine_fn begin(BlockBackend *blk) NO_TSA
{
    BlockDriverState *bs = blk->root->bs;

    blk_co_begin(blk, NULL); /* wait for a drain to end */
    blk_end(blk);
    bdrv_co_exclusive_begin(bs);
    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

static void coroutine_fn end(BlockBackend *blk) NO_TSA
{
    bdrv_co_exclusive_end(blk->root->bs);
}

/* Can this be done with @bs at all? */
static int check_node(const BlockDriverState *bs, bool have, const char *what,
                      GError **errp)
{
    if (!have) {
        return set_error(errp, -ENOTSUP, "%s: format '%s' cannot %s",
                         bs->filename, bs->drv->format_name, what);
    }
    if (bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only", bs->filename);
    }
    return 0;
}

int coroutine_fn blk_co_amend(BlockBackend *blk, BdrvOptions *opts,
                              bool force, BdrvProgressFunc *progress,
                              void *opaque, GError **errp)
{
    g_autoptr(BdrvOptions) o = opts ? opts : bdrv_options_new();
    BlockDriverState *bs = begin(blk);
    int ret;

    ret = check_node(bs, bs->drv->co_amend, "be amended", errp);
    if (ret == 0) {
        ret = bs->drv->co_amend(bs, o, force, progress, opaque, errp);
    }
    end(blk);
    return ret;
}

int coroutine_fn blk_co_change_backing_file(BlockBackend *blk,
                                            const char *file,
                                            const char *fmt, GError **errp)
{
    BlockDriverState *bs = begin(blk);
    int ret;

    ret = check_node(bs, bs->drv->co_change_backing_file,
                     "have a backing file", errp);
    if (ret == 0 && fmt && !file) {
        ret = set_error(errp, -EINVAL, "a format without a backing file");
    }
    if (ret == 0) {
        ret = bs->drv->co_change_backing_file(bs, file, fmt, errp);
    }
    end(blk);
    return ret;
}

int coroutine_fn blk_co_make_empty(BlockBackend *blk, GError **errp)
{
    BlockDriverState *bs = begin(blk);
    int ret;

    ret = check_node(bs, bs->drv->co_make_empty, "be made empty", errp);
    if (ret == 0) {
        ret = bs->drv->co_make_empty(bs, errp);
        bdrv_bitmaps_track(bs, 0, bs->total_bytes);
    }
    end(blk);
    return ret;
}

/* What create takes for the file: it changes no size. */
static void drop_file_hints(BdrvOptions *o)
{
    g_free(bdrv_options_take(o, "nocow"));
    g_free(bdrv_options_take(o, "extent_size_hint"));
}

int coroutine_fn bdrv_co_measure(const char *format, BdrvOptions *opts,
                                 BlockBackend *src, BdrvMeasure *ret,
                                 GError **errp)
{
    g_autoptr(BdrvOptions) o = opts ? opts : bdrv_options_new();
    BlockDriver *drv = bdrv_find_format(format);
    BdrvMeasure m = { 0 };
    int r;

    if (!drv || !drv->co_measure) {
        return set_error(errp, -ENOTSUP, "format '%s' cannot be measured",
                         format);
    }
    drop_file_hints(o);
    if (src) {
        blk_co_begin(src, NULL);
    }
    r = drv->co_measure(o, src ? src->root->bs : NULL, &m, errp);
    if (src) {
        blk_end(src);
    }
    r = r < 0 ? r : bdrv_options_check_empty(o, errp);
    if (r == 0) {
        *ret = m;
    }
    return r;
}

/* --- Blocking forms --- */

typedef struct MaintArgs {
    BlockBackend *blk;
    BdrvOptions *opts;
    bool force;
    BdrvProgressFunc *progress;
    void *opaque;
    const char *text[2];
    BdrvMeasure *measure;
    GError **errp;
} MaintArgs;

static int coroutine_fn amend_entry(void *opaque)
{
    MaintArgs *a = opaque;

    return blk_co_amend(a->blk, a->opts, a->force, a->progress, a->opaque,
                        a->errp);
}

int no_coroutine_fn blk_amend(BlockBackend *blk, BdrvOptions *opts,
                              bool force, BdrvProgressFunc *progress,
                              void *opaque, GError **errp)
{
    MaintArgs a = { .blk = blk, .opts = opts, .force = force,
                    .progress = progress, .opaque = opaque, .errp = errp };

    return aio_run_blocking(blk->ctx, amend_entry, &a);
}

static int coroutine_fn measure_entry(void *opaque)
{
    MaintArgs *a = opaque;

    return bdrv_co_measure(a->text[0], a->opts, a->blk, a->measure, a->errp);
}

int no_coroutine_fn bdrv_measure(AioContext *ctx, const char *format,
                                 BdrvOptions *opts, BlockBackend *src,
                                 BdrvMeasure *ret, GError **errp)
{
    MaintArgs a = { .blk = src, .opts = opts, .text = { format },
                    .measure = ret, .errp = errp };

    return aio_run_blocking(ctx, measure_entry, &a);
}

static int coroutine_fn backing_entry(void *opaque)
{
    MaintArgs *a = opaque;

    return blk_co_change_backing_file(a->blk, a->text[0], a->text[1],
                                      a->errp);
}

int no_coroutine_fn blk_change_backing_file(BlockBackend *blk,
                                            const char *file,
                                            const char *fmt, GError **errp)
{
    MaintArgs a = { .blk = blk, .text = { file, fmt }, .errp = errp };

    return aio_run_blocking(blk->ctx, backing_entry, &a);
}

static int coroutine_fn empty_entry(void *opaque)
{
    MaintArgs *a = opaque;

    return blk_co_make_empty(a->blk, a->errp);
}

int no_coroutine_fn blk_make_empty(BlockBackend *blk, GError **errp)
{
    MaintArgs a = { .blk = blk, .errp = errp };

    return aio_run_blocking(blk->ctx, empty_entry, &a);
}
