/* SPDX-License-Identifier: MIT */
/*
 * What is in flight on a node: counting, tracking, draining.
 *
 * Tracked requests. Each request below a BlockBackend is on bs->tracked, oldest
 * first, for as long as it runs. A request that has to read, modify and write a
 * block, or that moves the end of the node, is serialising: it does not run
 * together with any other that overlaps and of which one writes. The younger of
 * the two waits for the older one, never the other way round, so waits cannot
 * form a circle. After each wait the list is looked at again.
 *
 * Drain. The root's quiesce_counter keeps new BlockBackend requests in the
 * backend's queue; what runs already finishes, and with it what it started on
 * nodes further down, which is why lower nodes are not held back.
 *
 *     bdrv_co_drained_begin             bdrv_drained_end (last one)
 *   ------------------------> quiesced --------------------------> queued
 *     then waits until every            requests go on
 *     node and the backend are idle
 *
 * Request rules that need I/O are in io.c, the backend's queue in
 * block-backend.c.
 */
#include "block/block_int.h"
#include "util/plant.h"
#include "util/queue.h"

BlockDriverState *bdrv_root(BlockDriverState *bs)
{
    while (bs->parent_edge && bs->parent_edge->parent) {
        bs = bs->parent_edge->parent;
    }
    return bs;
}

void bdrv_inc_in_flight(BlockDriverState *bs)
{
    bs->in_flight++;
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    assert(bs->in_flight > 0);
    if (--bs->in_flight == 0) {
        co_queue_restart_all(&bs->drain_waiters);
    }
}

/* --- Tracked requests --- */

static bool requests_conflict(const BdrvTrackedRequest *a,
                              const BdrvTrackedRequest *b)
{
    if (!a->serialising && !b->serialising) {
        return false;
    }
    if (a->type == BDRV_TRACKED_READ && b->type == BDRV_TRACKED_READ) {
        return false;
    }
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static BdrvTrackedRequest *find_older_conflict(BdrvTrackedRequest *req)
{
    for (GList *l = req->link.prev; l; l = l->prev) {
        if (requests_conflict(req, l->data)) {
            return l->data;
        }
    }
    return NULL;
}

void coroutine_fn bdrv_co_tracked_begin(BdrvTrackedRequest *req,
                                        BlockDriverState *bs,
                                        BdrvRequestType type,
                                        uint64_t offset, uint64_t bytes,
                                        bool serialising)
{
    BdrvTrackedRequest *other;

    *req = (BdrvTrackedRequest) {
        .bs = bs,
        .type = type,
        .serialising = serialising,
        .offset = offset,
        .bytes = bytes,
        .link.data = req,
    };
    co_queue_init(&req->waiters);
    bdrv_inc_in_flight(bs);
    bs->serialising_in_flight += serialising;
    queue_push_tail_link(&bs->tracked, &req->link);

    while (bs->serialising_in_flight > 0 &&
           (other = find_older_conflict(req)) != NULL) {
        co_queue_wait(&other->waiters, NULL);
    }
}

void bdrv_co_tracked_end(BdrvTrackedRequest *req)
{
    BlockDriverState *bs = req->bs;

    queue_unlink(&bs->tracked, &req->link);
    bs->serialising_in_flight -= req->serialising;
    co_queue_restart_all(&req->waiters);
    bdrv_dec_in_flight(bs);
}

/* --- Drain --- */

static BlockDriverState *find_busy(BlockDriverState *bs)
{
    if (bs->in_flight > 0) {
        return bs;
    }
    for (GList *l = bs->children; l; l = l->next) {
        BdrvChild *child = l->data;
        BlockDriverState *busy = find_busy(child->bs);

        if (busy) {
            return busy;
        }
    }
    return NULL;
}

/* Wait until nothing is in flight at @root, below it, or in its backend. */
static void coroutine_fn wait_until_idle(BlockDriverState *root)
{
    BlockDriverState *busy;

    for (;;) {
        if (root->blk && blk_in_flight(root->blk) > 0) {
            blk_co_wait_idle(root->blk);
        } else if ((busy = find_busy(root)) != NULL) {
            co_queue_wait(&busy->drain_waiters, NULL);
        } else {
            return;
        }
    }
}

void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs)
{
    BlockDriverState *root = bdrv_root(bs);

    assert(aio_get_current() == root->ctx);
    root->quiesce_counter++;
    if (!PLANTED(S1_DRAIN_IGNORES_IN_FLIGHT)) {
        wait_until_idle(root);
    }
}

static int coroutine_fn drained_begin_entry(void *opaque)
{
    bdrv_co_drained_begin(opaque);
    return 0;
}

void no_coroutine_fn bdrv_drained_begin(BlockDriverState *bs)
{
    aio_run_blocking(bs->ctx, drained_begin_entry, bs);
}

void bdrv_drained_end(BlockDriverState *bs)
{
    BlockDriverState *root = bdrv_root(bs);

    assert(root->quiesce_counter > 0);
    if (--root->quiesce_counter == 0 && root->blk) {
        blk_restart_queued(root->blk);
    }
}

void coroutine_fn bdrv_co_exclusive_begin(BlockDriverState *bs) NO_TSA
{
    co_mutex_lock(&bdrv_root(bs)->exclusive_lock);
    bdrv_co_drained_begin(bs);
}

void coroutine_fn bdrv_co_exclusive_end(BlockDriverState *bs) NO_TSA
{
    bdrv_drained_end(bs);
    co_mutex_unlock(&bdrv_root(bs)->exclusive_lock);
}

void coroutine_fn bdrv_co_serial_begin(BlockDriverState *bs) NO_TSA
{
    co_mutex_lock(&bdrv_root(bs)->exclusive_lock);
    bdrv_inc_in_flight(bs); /* a drain waits */
}

void coroutine_fn bdrv_co_serial_end(BlockDriverState *bs) NO_TSA
{
    bdrv_dec_in_flight(bs);
    co_mutex_unlock(&bdrv_root(bs)->exclusive_lock);
}
