/* SPDX-License-Identifier: MIT */
/*
 * Single requests to the vmstate of the active layer, past the pipeline, for
 * tools that look at images. See include/block/vmstate.h.
 */
#include "vmstate_int.h"

typedef struct PlainArgs {
    BlockBackend *blk;
    uint64_t pos;
    QEMUIOVector *qiov;
} PlainArgs;

static int coroutine_fn write_entry(void *opaque)
{
    PlainArgs *a = opaque;
    BlockDriverState *bs = bdrv_vmstate_node(blk_bs(a->blk));
    int ret;

    if (!bs) {
        return -ENOTSUP;
    }
    if (bs->read_only || bs->vmstate) {
        return bs->read_only ? -EROFS : -EBUSY;
    }
    bdrv_inc_in_flight(bs);
    ret = bs->drv->co_save_vmstate(bs, a->pos, a->qiov);
    bdrv_dec_in_flight(bs);
    /* No write of the disk: what is below @bs knows that it was written. */
    return ret < 0 || !a->blk->writethrough ? ret
                                            : bdrv_co_flush(blk_bs(a->blk));
}

static int coroutine_fn read_entry(void *opaque)
{
    PlainArgs *a = opaque;
    BlockDriverState *bs = bdrv_vmstate_node(blk_bs(a->blk));
    uint64_t size;
    int ret;

    if (!bs) {
        return -ENOTSUP;
    }
    if (bs->vmstate) {
        return -EBUSY;
    }
    bdrv_inc_in_flight(bs);
    ret = bs->drv->co_vmstate_select(bs, NULL, &size, NULL);
    if (ret == 0) {
        ret = bs->drv->co_load_vmstate(bs, a->pos, a->qiov);
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

int no_coroutine_fn blk_vmstate_pwrite(BlockBackend *blk, uint64_t pos,
                                       size_t bytes, const void *buf)
{
    QEMUIOVector qiov;
    PlainArgs a = { blk, pos, &qiov };

    /* A write does not change what its vector points to. */
    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return aio_run_blocking(blk_get_aio_context(blk), write_entry, &a);
}

int no_coroutine_fn blk_vmstate_pread(BlockBackend *blk, uint64_t pos,
                                      size_t bytes, void *buf)
{
    QEMUIOVector qiov;
    PlainArgs a = { blk, pos, &qiov };

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return aio_run_blocking(blk_get_aio_context(blk), read_entry, &a);
}
