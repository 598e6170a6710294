/* SPDX-License-Identifier: MIT */
/*
 * Reopening: another mode, cache or options for a tree that is open.
 *
 * The tree is flushed and closed as ever, which writes back what it holds
 * (dirty bitmaps too) and gives up its locks, and is opened anew. Options that
 * cannot work must not cost the image, so that the new tree is opened for a
 * rehearsal first, read-only and without locks, while the old one is still
 * there; and if the real thing fails after that, because somebody else has
 * taken the image meanwhile, it is opened as before.
 */
#include "block/block_int.h"

unsigned blk_get_open_flags(const BlockBackend *blk)
{
    return blk->open_flags;
}

static int coroutine_fn rehearse(const BlockBackend *blk,
                                 const BdrvOptions *options, GError **errp)
{
    BdrvOptions *o = bdrv_options_copy(options);
    BlockBackend *trial = NULL;
    unsigned flags = blk->open_flags & ~BDRV_O_RDWR;
    int ret;

    /* Whether the image can be locked is not what is asked here. */
    g_free(bdrv_options_take(o, "read-only"));
    bdrv_options_set(o, "read-only", "on");
    bdrv_options_set(o, "force-share", "on");
    ret = blk_co_open(blk->filename, o, flags, &trial, errp);
    if (ret == 0) {
        (void)blk_co_close(trial);
    }
    return ret;
}

int coroutine_fn blk_co_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp)
{
    g_autoptr(BdrvOptions) old = bdrv_options_copy((*blk)->options);
    g_autofree char *filename = g_strdup((*blk)->filename);
    unsigned old_flags = (*blk)->open_flags;
    BdrvOptions *now = changes ? changes : bdrv_options_new();
    BlockBackend *opened = NULL;
    int ret;

    bdrv_options_merge(now, bdrv_options_copy(old));
    ret = blk_co_flush(*blk);
    if (ret == 0) {
        ret = rehearse(*blk, now, errp);
    }
    if (ret < 0) {
        bdrv_options_free(now);
        return ret;
    }
    ret = blk_co_close(*blk);
    *blk = NULL;
    if (ret < 0) {
        bdrv_options_free(now);
        return set_error(errp, ret, "cannot close '%s': %s", filename,
                         g_strerror(-ret));
    }
    ret = blk_co_open(filename, now, flags, &opened, errp);
    if (ret < 0) {
        /* *@blk stays NULL when even that is not possible any more. */
        (void)blk_co_open(filename, g_steal_pointer(&old), old_flags,
                          &opened, NULL);
    }
    *blk = opened;
    return ret;
}

typedef struct ReopenArgs {
    BlockBackend **blk;
    BdrvOptions *changes;
    unsigned flags;
    GError **errp;
} ReopenArgs;

static int coroutine_fn reopen_entry(void *opaque)
{
    ReopenArgs *a = opaque;

    return blk_co_reopen(a->blk, a->changes, a->flags, a->errp);
}

int no_coroutine_fn blk_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp)
{
    ReopenArgs a = { blk, changes, flags, errp };

    return aio_run_blocking((*blk)->ctx, reopen_entry, &a);
}
