/* SPDX-License-Identifier: MIT */
/*
 * Checking an image: the generic entry points, see include/block/check.h.
 * What there is to check belongs to the format drivers.
 */
#include "block/check.h"

#include <errno.h>

#include "block/block_int.h"

/* Filters hand over to what they filter. */
static BlockDriverState *check_node(BlockDriverState *bs)
{
    while (bs->drv->is_filter && !bs->drv->co_check && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

int coroutine_fn blk_co_check(BlockBackend *blk, BdrvCheckResult *ret,
                              unsigned fix, BdrvCheckReport *report,
                              void *opaque, GError **errp)
{
    BlockDriverState *bs = check_node(blk_bs(blk));
    BdrvCheckResult result = { 0 };
    int r;

    if (!bs->drv->co_check) {
        return set_error(errp, -ENOTSUP, "%s: images of format '%s' cannot "
                         "be checked", bs->filename, bs->drv->format_name);
    }
    if (fix && bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only and cannot be "
                         "repaired", bs->filename);
    }
    /* Like any request it waits for a drain to end; then it drains itself. */
    blk_co_begin(blk, NULL);
    blk_end(blk);
    bdrv_co_exclusive_begin(bs);
    r = bs->drv->co_check(bs, &result, fix, report, opaque, errp);
    bdrv_co_exclusive_end(bs);
    if (r < 0) {
        if (errp && !*errp) {
            set_error(errp, r, "%s: the check did not come to its end: %s",
                      bs->filename, g_strerror(-r));
        }
        return r;
    }
    *ret = result;
    return 0;
}

typedef struct CheckArgs {
    BlockBackend *blk;
    BdrvCheckResult *ret;
    unsigned fix;
    BdrvCheckReport *report;
    void *opaque;
    GError **errp;
} CheckArgs;

static int coroutine_fn check_entry(void *opaque)
{
    CheckArgs *a = opaque;

    return blk_co_check(a->blk, a->ret, a->fix, a->report, a->opaque,
                        a->errp);
}

int no_coroutine_fn blk_check(BlockBackend *blk, BdrvCheckResult *ret,
                              unsigned fix, BdrvCheckReport *report,
                              void *opaque, GError **errp)
{
    CheckArgs a = { blk, ret, fix, report, opaque, errp };

    return aio_run_blocking(blk_get_aio_context(blk), check_entry, &a);
}
