/* SPDX-License-Identifier: MIT */
/*
 * BlockBackend: the handle of a device or tool on a tree of nodes.
 *
 * It checks what a guest asks (bounds, writable), holds requests back while
 * the tree is drained, counts those that run, adds FUA in writethrough mode
 * and offers each request as a coroutine function and as a blocking one; the
 * callback form is in aio-cb.c. Everything else happens below, in io.c.
 */
#include "block/block_int.h"

/* --- Life --- */

int coroutine_fn blk_co_open(const char *filename, BdrvOptions *options,
                             unsigned flags, BlockBackend **ret,
                             GError **errp)
{
    BdrvOptions *given = bdrv_options_copy(options);
    BdrvChild *root;
    BlockBackend *blk;
    int err = bdrv_co_open_root(filename, options, flags, &root, errp);

    if (err < 0) {
        bdrv_options_free(given);
        return err;
    }
    blk = g_new0(BlockBackend, 1);
    blk->filename = g_strdup(filename);
    blk->options = given;
    blk->open_flags = flags;
    blk->root = root;
    blk->ctx = root->bs->ctx;
    blk->writethrough = flags & BDRV_O_WRITETHROUGH;
    co_queue_init(&blk->queued);
    co_queue_init(&blk->idle);
    root->bs->blk = blk;
    *ret = blk;
    return 0;
}

int coroutine_fn blk_co_close(BlockBackend *blk)
{
    BlockDriverState *bs;
    int ret;

    if (!blk) {
        return 0;
    }
    bs = blk->root->bs;
    assert(bs->quiesce_counter == 0);
    while (blk->in_flight > 0 || blk->nb_aio > 0) {
        co_queue_wait(&blk->idle, NULL);
    }
    /* What nodes do on their own account ends too. */
    bdrv_co_drained_begin(bs);
    bdrv_drained_end(bs);
    bs->blk = NULL;
    ret = bdrv_co_close_child(blk->root);
    bdrv_options_free(blk->options);
    g_free(blk->filename);
    g_free(blk);
    return ret;
}

BlockDriverState *blk_bs(BlockBackend *blk)
{
    return blk->root->bs;
}

AioContext *blk_get_aio_context(BlockBackend *blk)
{
    return blk->ctx;
}

bool blk_is_read_only(const BlockBackend *blk)
{
    return blk->root->bs->read_only;
}

unsigned blk_in_flight(const BlockBackend *blk)
{
    return blk->in_flight;
}

/* --- Queueing and counting --- */

int coroutine_fn blk_co_begin(BlockBackend *blk, const bool *cancelled)
{
    assert(aio_get_current() == blk->ctx);
    while (blk->root->bs->quiesce_counter > 0) {
        if (cancelled && *cancelled) {
            break;
        }
        co_queue_wait(&blk->queued, NULL);
    }
    if (cancelled && *cancelled) {
        return -ECANCELED;
    }
    blk->in_flight++;
    return 0;
}

void blk_end(BlockBackend *blk)
{
    assert(blk->in_flight > 0);
    if (--blk->in_flight == 0) {
        co_queue_restart_all(&blk->idle);
    }
}

void coroutine_fn blk_co_wait_idle(BlockBackend *blk)
{
    co_queue_wait(&blk->idle, NULL);
}

void blk_restart_queued(BlockBackend *blk)
{
    co_queue_restart_all(&blk->queued);
}

/* --- Requests --- */

static int check_bounds(BlockBackend *blk, uint64_t offset, uint64_t bytes)
{
    uint64_t total = blk->root->bs->total_bytes;

    return offset > total || bytes > total - offset ? -EIO : 0;
}

int coroutine_fn blk_co_do(const BlkRequest *req)
{
    BdrvChild *root = req->blk->root;
    unsigned flags = req->flags;
    int ret = check_bounds(req->blk, req->offset, req->bytes);

    if (ret < 0) {
        return ret;
    }
    if (req->blk->writethrough &&
        (req->op == BLK_OP_WRITE || req->op == BLK_OP_ZERO)) {
        flags |= BDRV_REQ_FUA;
    }
    switch (req->op) {
    case BLK_OP_READ:
        return bdrv_co_preadv(root, req->offset, req->bytes, req->qiov,
                              flags);
    case BLK_OP_WRITE:
        return bdrv_co_pwritev(root, req->offset, req->bytes, req->qiov,
                               flags);
    case BLK_OP_ZERO:
        return bdrv_co_pwrite_zeroes(root, req->offset, req->bytes, flags);
    case BLK_OP_DISCARD:
        return bdrv_co_pdiscard(root, req->offset, req->bytes);
    case BLK_OP_FLUSH:
        return bdrv_co_flush(root->bs);
    }
    g_assert_not_reached();
}

static int coroutine_fn run_request(void *opaque)
{
    const BlkRequest *req = opaque;
    int ret = blk_co_begin(req->blk, NULL);

    if (ret == 0) {
        ret = blk_co_do(req);
        blk_end(req->blk);
    }
    return ret;
}

static int no_coroutine_fn run_blocking(BlkRequest req)
{
    return aio_run_blocking(req.blk->ctx, run_request, &req);
}

int coroutine_fn blk_co_preadv(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, QEMUIOVector *qiov,
                               unsigned flags)
{
    return run_request(&(BlkRequest) {
        blk, BLK_OP_READ, flags, offset, bytes, qiov });
}

int no_coroutine_fn blk_preadv(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, QEMUIOVector *qiov,
                               unsigned flags)
{
    return run_blocking((BlkRequest) {
        blk, BLK_OP_READ, flags, offset, bytes, qiov });
}

int no_coroutine_fn blk_pread(BlockBackend *blk, uint64_t offset,
                              uint64_t bytes, void *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return blk_preadv(blk, offset, bytes, &qiov, 0);
}

int coroutine_fn blk_co_pwritev(BlockBackend *blk, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags)
{
    return run_request(&(BlkRequest) {
        blk, BLK_OP_WRITE, flags, offset, bytes, qiov });
}

int no_coroutine_fn blk_pwritev(BlockBackend *blk, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags)
{
    return run_blocking((BlkRequest) {
        blk, BLK_OP_WRITE, flags, offset, bytes, qiov });
}

int no_coroutine_fn blk_pwrite(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, const void *buf)
{
    QEMUIOVector qiov;

    /* A write does not change what its vector points to. */
    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return blk_pwritev(blk, offset, bytes, &qiov, 0);
}

int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                      uint64_t bytes, unsigned flags)
{
    return run_request(&(BlkRequest) {
        blk, BLK_OP_ZERO, flags, offset, bytes, NULL });
}

int no_coroutine_fn blk_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                      uint64_t bytes, unsigned flags)
{
    return run_blocking((BlkRequest) {
        blk, BLK_OP_ZERO, flags, offset, bytes, NULL });
}

int coroutine_fn blk_co_pdiscard(BlockBackend *blk, uint64_t offset,
                                 uint64_t bytes)
{
    return run_request(&(BlkRequest) {
        blk, BLK_OP_DISCARD, 0, offset, bytes, NULL });
}

int no_coroutine_fn blk_pdiscard(BlockBackend *blk, uint64_t offset,
                                 uint64_t bytes)
{
    return run_blocking((BlkRequest) {
        blk, BLK_OP_DISCARD, 0, offset, bytes, NULL });
}

int coroutine_fn blk_co_flush(BlockBackend *blk)
{
    return run_request(&(BlkRequest) { blk, BLK_OP_FLUSH, 0, 0, 0, NULL });
}

int no_coroutine_fn blk_flush(BlockBackend *blk)
{
    return run_blocking((BlkRequest) { blk, BLK_OP_FLUSH, 0, 0, 0, NULL });
}

/* --- Length and block status --- */

int coroutine_fn blk_co_truncate(BlockBackend *blk, uint64_t size,
                                 BdrvPrealloc prealloc, GError **errp)
{
    BlockDriverState *bs = blk->root->bs;
    int ret;

    /* Like any request it waits for a drain to end; then it drains itself. */
    blk_co_begin(blk, NULL);
    blk_end(blk);
    bdrv_co_exclusive_begin(bs);
    ret = bdrv_co_truncate(blk->root, size, prealloc, errp);
    bdrv_co_exclusive_end(bs);
    return ret;
}

int64_t coroutine_fn blk_co_getlength(BlockBackend *blk)
{
    return bdrv_co_getlength(blk->root->bs);
}

int coroutine_fn blk_co_copy_range(BlockBackend *src, uint64_t src_offset,
                                   BlockBackend *dst, uint64_t dst_offset,
                                   uint64_t bytes)
{
    int ret = check_bounds(src, src_offset, bytes);

    ret = ret < 0 ? ret : check_bounds(dst, dst_offset, bytes);
    if (ret < 0) {
        return ret;
    }
    if (dst->writethrough) {
        return -ENOTSUP; /* nothing would make it durable */
    }
    blk_co_begin(src, NULL);
    blk_co_begin(dst, NULL);
    ret = bdrv_co_copy_range(src->root->bs, src_offset, dst->root,
                             dst_offset, bytes);
    blk_end(dst);
    blk_end(src);
    return ret;
}

int coroutine_fn blk_co_block_status(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes,
                                     uint64_t *ret_map)
{
    int ret = check_bounds(blk, offset, bytes);

    if (ret < 0) {
        return ret;
    }
    blk_co_begin(blk, NULL);
    ret = bdrv_co_block_status_above(blk->root->bs, offset, bytes, ret_bytes,
                                     ret_map);
    blk_end(blk);
    return ret;
}

int coroutine_fn blk_co_is_allocated(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes)
{
    int ret = check_bounds(blk, offset, bytes);

    if (ret < 0) {
        return ret;
    }
    blk_co_begin(blk, NULL);
    ret = bdrv_co_block_status(blk->root->bs, offset, bytes, ret_bytes, NULL);
    blk_end(blk);
    return ret < 0 ? ret : (ret & BDRV_BLOCK_ALLOCATED) != 0;
}

/* --- Blocking forms of what is not a BlkRequest --- */

typedef struct OpenArgs {
    const char *format;
    const char *filename;
    BdrvOptions *options;
    unsigned flags;
    BlockBackend **ret;
    GError **errp;
} OpenArgs;

static int coroutine_fn open_entry(void *opaque)
{
    OpenArgs *a = opaque;

    return blk_co_open(a->filename, a->options, a->flags, a->ret, a->errp);
}

int no_coroutine_fn blk_open(AioContext *ctx, const char *filename,
                             BdrvOptions *options, unsigned flags,
                             BlockBackend **ret, GError **errp)
{
    OpenArgs a = { NULL, filename, options, flags, ret, errp };

    return aio_run_blocking(ctx, open_entry, &a);
}

static int coroutine_fn create_entry(void *opaque)
{
    OpenArgs *a = opaque;

    return blk_co_create(a->format, a->filename, a->options, a->errp);
}

int no_coroutine_fn blk_create(AioContext *ctx, const char *format,
                               const char *filename, BdrvOptions *create_opts,
                               GError **errp)
{
    OpenArgs a = { format, filename, create_opts, 0, NULL, errp };

    return aio_run_blocking(ctx, create_entry, &a);
}

static int coroutine_fn close_entry(void *opaque)
{
    return blk_co_close(opaque);
}

int no_coroutine_fn blk_close(BlockBackend *blk)
{
    return blk ? aio_run_blocking(blk->ctx, close_entry, blk) : 0;
}

typedef struct LengthArgs {
    BlockBackend *blk;
    uint64_t size;
    BdrvPrealloc prealloc;
    GError **errp;
} LengthArgs;

static int coroutine_fn truncate_entry(void *opaque)
{
    LengthArgs *a = opaque;

    return blk_co_truncate(a->blk, a->size, a->prealloc, a->errp);
}

int no_coroutine_fn blk_truncate(BlockBackend *blk, uint64_t size,
                                 BdrvPrealloc prealloc, GError **errp)
{
    LengthArgs a = { blk, size, prealloc, errp };

    return aio_run_blocking(blk->ctx, truncate_entry, &a);
}

int64_t no_coroutine_fn blk_getlength(BlockBackend *blk)
{
    return blk->root->bs->total_bytes;
}

typedef struct StatusArgs {
    BlockBackend *blk;
    uint64_t offset;
    uint64_t bytes;
    uint64_t *ret_bytes;
    uint64_t *ret_map;
} StatusArgs;

static int coroutine_fn status_entry(void *opaque)
{
    StatusArgs *a = opaque;

    return blk_co_block_status(a->blk, a->offset, a->bytes, a->ret_bytes,
                               a->ret_map);
}

int no_coroutine_fn blk_block_status(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes,
                                     uint64_t *ret_map)
{
    StatusArgs a = { blk, offset, bytes, ret_bytes, ret_map };

    return aio_run_blocking(blk->ctx, status_entry, &a);
}

static int coroutine_fn allocated_entry(void *opaque)
{
    StatusArgs *a = opaque;

    return blk_co_is_allocated(a->blk, a->offset, a->bytes, a->ret_bytes);
}

int no_coroutine_fn blk_is_allocated(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes)
{
    StatusArgs a = { blk, offset, bytes, ret_bytes, NULL };

    return aio_run_blocking(blk->ctx, allocated_entry, &a);
}
