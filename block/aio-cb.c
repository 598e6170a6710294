/* SPDX-License-Identifier: MIT */
/*
 * The callback form of requests.
 *
 *   blk_aio_*() --> waiting ------> running ----> over -------> reported
 *                     |  blk_co_begin   I/O ends   |  bottom half calls cb
 *                     +----------------------------+
 *                       blk_aio_cancel_async(): -ECANCELED
 *
 * A request that runs belongs to the kernel or to a driver: cancelling it can
 * only wait. The callback runs from a bottom half and never in the request's
 * coroutine, so it may submit, poll or close without being inside a request.
 * It is no longer counted then: a callback may drain.
 */
#include "block/block_int.h"
#include "util/coroutine.h"
#include "util/plant.h"

struct BlockAIOCB {
    BlkRequest req;
    AioContext *ctx;
    BlockCompletionFunc *cb;
    void *opaque;
    int ret;
    unsigned refs;   /* the request, and each blk_aio_cancel() */
    bool cancelled;  /* asked to end early */
    bool started;    /* counted in blk->in_flight */
    bool reported;   /* the callback has run */
};

static void acb_unref(BlockAIOCB *acb)
{
    if (--acb->refs == 0) {
        g_free(acb);
    }
}

static void report(BlockAIOCB *acb, int ret)
{
    if (!acb->reported) {
        acb->cb(acb->opaque, ret);
    }
    acb->reported = true;
}

static void complete_bh(void *opaque)
{
    BlockAIOCB *acb = opaque;
    BlockBackend *blk = acb->req.blk;

    if (acb->started) {
        blk_end(blk);
    }
    if (--blk->nb_aio == 0) {
        co_queue_restart_all(&blk->idle);
    }
    report(acb, acb->ret); /* @blk may be closed now */
    acb_unref(acb);
}

static void coroutine_fn request_entry(void *opaque)
{
    BlockAIOCB *acb = opaque;

    acb->ret = blk_co_begin(acb->req.blk, &acb->cancelled);
    if (acb->ret == 0) {
        acb->started = true;
        acb->ret = blk_co_do(&acb->req);
    }
    if (PLANTED(S1_COMPLETION_IN_COROUTINE)) {
        complete_bh(acb);
    } else {
        aio_bh_schedule_oneshot(acb->ctx, complete_bh, acb);
    }
}

static BlockAIOCB *submit(BlkRequest req, BlockCompletionFunc *cb,
                          void *opaque)
{
    BlockAIOCB *acb = g_new0(BlockAIOCB, 1);
    Coroutine *co = co_create(request_entry, acb);

    acb->req = req;
    acb->ctx = req.blk->ctx;
    acb->cb = cb;
    acb->opaque = opaque;
    acb->refs = 1;
    req.blk->nb_aio++;
    co_set_name(co, "blk_aio");
    if (aio_get_current() == acb->ctx) {
        co_enter(co);
    } else {
        aio_co_schedule(acb->ctx, co);
    }
    return acb;
}

BlockAIOCB *blk_aio_preadv(BlockBackend *blk, uint64_t offset,
                           QEMUIOVector *qiov, unsigned flags,
                           BlockCompletionFunc *cb, void *opaque)
{
    return submit((BlkRequest) {
        blk, BLK_OP_READ, flags, offset, qiov->size, qiov }, cb, opaque);
}

BlockAIOCB *blk_aio_pwritev(BlockBackend *blk, uint64_t offset,
                            QEMUIOVector *qiov, unsigned flags,
                            BlockCompletionFunc *cb, void *opaque)
{
    return submit((BlkRequest) {
        blk, BLK_OP_WRITE, flags, offset, qiov->size, qiov }, cb, opaque);
}

BlockAIOCB *blk_aio_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                  uint64_t bytes, unsigned flags,
                                  BlockCompletionFunc *cb, void *opaque)
{
    return submit((BlkRequest) {
        blk, BLK_OP_ZERO, flags, offset, bytes, NULL }, cb, opaque);
}

BlockAIOCB *blk_aio_pdiscard(BlockBackend *blk, uint64_t offset,
                             uint64_t bytes, BlockCompletionFunc *cb,
                             void *opaque)
{
    return submit((BlkRequest) {
        blk, BLK_OP_DISCARD, 0, offset, bytes, NULL }, cb, opaque);
}

BlockAIOCB *blk_aio_flush(BlockBackend *blk, BlockCompletionFunc *cb,
                          void *opaque)
{
    return submit((BlkRequest) { blk, BLK_OP_FLUSH, 0, 0, 0, NULL }, cb,
                  opaque);
}

void blk_aio_cancel_async(BlockAIOCB *acb)
{
    if (acb->reported || acb->cancelled) {
        return;
    }
    acb->cancelled = true;
    if (PLANTED(S1_CANCEL_FREES_IN_FLIGHT)) {
        report(acb, -ECANCELED);
    }
    if (!acb->started) {
        blk_restart_queued(acb->req.blk);
    }
}

void no_coroutine_fn blk_aio_cancel(BlockAIOCB *acb)
{
    acb->refs++;
    blk_aio_cancel_async(acb);
    AIO_WAIT_WHILE(acb->ctx, !acb->reported);
    acb_unref(acb);
}
