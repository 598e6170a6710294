/* SPDX-License-Identifier: MIT */
/*
 * Commit: copy what an overlay holds into its backing file, then make the
 * overlay empty. Across several files, what they all hold goes into the base,
 * and the overlay stays: files in between show other contents than before.
 *
 *   grow the base | copy data, write zeroes | flush the base | empty the top
 *
 * The overlay hides the base until it is emptied, and everything is durable in
 * the base by then. So whatever fails or stops on the way, the disk reads as
 * before and the commit can be done again. Only what the top node itself holds
 * is copied: a zero cluster stays one, an unallocated one is passed over.
 *
 * A walker, the calling coroutine, follows the allocation map and starts one
 * task for each chunk. Memory is bounded by workers times the chunk.
 */
#include "block/block_int.h"
#include "util/aio-task.h"
#include "util/rate-limit.h"

#define DEFAULT_WORKERS 8
#define MAX_WORKERS     16
#define CHUNK           ((uint64_t)1024 * 1024)
#define ZERO_CHUNK      ((uint64_t)1024 * 1024 * 1024)

typedef struct Commit {
    BdrvChild *top;
    BdrvChild *base;
    bool across;        /* what is behind the top is not the base: it counts */
    AioTaskPool *pool;
    const BlkCommitOptions *o;
    RateLimit limit;
    uint64_t done;      /* bytes passed over or copied */
} Commit;

typedef struct CommitTask {
    Commit *c;
    uint64_t offset;
    uint64_t bytes;
    bool zero;
} CommitTask;

static void progress(Commit *c, uint64_t bytes)
{
    c->done += bytes;
    if (c->o->progress) {
        c->o->progress(c->done, c->top->bs->total_bytes, c->o->opaque);
    }
}

static int coroutine_fn copy_chunk(const CommitTask *t)
{
    uint8_t *buf = blk_try_memalign(t->bytes);
    int ret = -ENOMEM;

    if (buf) {
        rate_limit_take(&t->c->limit, t->bytes);
        ret = bdrv_co_pread(t->c->top, t->offset, t->bytes, buf, 0);
        ret = ret < 0 ? ret : bdrv_co_pwrite(t->c->base, t->offset, t->bytes,
                                             buf, 0);
    }
    free(buf);
    return ret;
}

static int coroutine_fn run_task(void *opaque)
{
    CommitTask *t = opaque;
    int ret;

    if (t->zero) {
        ret = bdrv_co_pwrite_zeroes(t->c->base, t->offset, t->bytes,
                                    BDRV_REQ_MAY_UNMAP);
    } else {
        ret = copy_chunk(t);
    }
    if (ret == 0) {
        progress(t->c, t->bytes);
    }
    g_free(t);
    return ret;
}

/* Start tasks for [@offset, + @bytes), all of one kind. */
static int coroutine_fn start_tasks(Commit *c, uint64_t offset,
                                    uint64_t bytes, bool zero)
{
    uint64_t max = zero ? ZERO_CHUNK : CHUNK;
    int ret = 0;

    while (bytes && ret == 0) {
        uint64_t n = MIN(bytes, max - offset % max);
        CommitTask *t = g_new(CommitTask, 1);

        *t = (CommitTask) { c, offset, n, zero };
        ret = aio_check_stop();
        ret = ret < 0 ? ret : aio_task_pool_start_unless_failed(c->pool,
                                                                run_task, t);
        if (ret < 0) {
            g_free(t);
        }
        offset += n;
        bytes -= n;
    }
    return ret;
}

/* Is there anything for the base? BDRV_BLOCK_* for *@bytes, which shrink. */
static int coroutine_fn status_above_base(const Commit *c, uint64_t offset,
                                          uint64_t *bytes)
{
    BlockDriverState *bs = c->top->bs;
    int status = 0;

    do {
        /* A shorter file has zeroes behind its end, and hides the base. */
        if (offset >= bs->total_bytes) {
            return BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO;
        }
        *bytes = MIN(*bytes, bs->total_bytes - offset);
        status = bdrv_co_block_status(bs, offset, *bytes, bytes, NULL);
        bs = bs->backing ? bs->backing->bs : NULL;
    } while (c->across && bs && status >= 0 &&
             !(status & BDRV_BLOCK_ALLOCATED));
    return status;
}

static int coroutine_fn walk(Commit *c)
{
    uint64_t offset = 0, end = c->top->bs->total_bytes;
    int ret = 0;

    while (offset < end && ret == 0) {
        uint64_t n = end - offset;
        int status = status_above_base(c, offset, &n);

        if (status < 0) {
            ret = status;
        } else if (status & BDRV_BLOCK_ALLOCATED) {
            ret = start_tasks(c, offset, n, status & BDRV_BLOCK_ZERO);
        } else {
            progress(c, n);
        }
        offset += n;
    }
    aio_task_pool_wait_all(c->pool);
    return ret < 0 ? ret : aio_task_pool_status(c->pool);
}

static int coroutine_fn copy(BdrvChild *top, BdrvChild *base,
                             const BlkCommitOptions *o, GError **errp)
{
    Commit c = { .top = top, .base = base, .across = o->base, .o = o };
    unsigned workers = o->workers ? MIN(o->workers, MAX_WORKERS)
                                  : DEFAULT_WORKERS;
    int ret;

    rate_limit_init(&c.limit, o->bytes_per_second);
    c.pool = aio_task_pool_new(workers);
    ret = walk(&c);
    aio_task_pool_free(c.pool);
    ret = ret < 0 ? ret : bdrv_co_flush(base->bs);
    return ret < 0 ? set_error(errp, ret, "cannot commit to '%s': %s",
                               base->bs->filename, g_strerror(-ret)) : 0;
}

/* @bs: the format node. */
static int coroutine_fn check(const BlockDriverState *bs,
                              const BlkCommitOptions *o, GError **errp)
{
    const BdrvChild *base = o->base ? o->base->root : bs->backing;

    if (!base) {
        return set_error(errp, -ENOTSUP, "%s has no backing file to commit "
                         "to", bs->filename);
    }
    if (base->bs->read_only) {
        return set_error(errp, -EROFS, "backing file '%s' is not open for "
                         "writing; is read-only=on among its options?",
                         base->bs->filename);
    }
    if (o->drop && bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only", bs->filename);
    }
    if (o->drop && (o->base || !bs->drv->co_make_empty)) {
        return set_error(errp, -ENOTSUP, "%s: format '%s' cannot be made "
                         "empty", bs->filename, bs->drv->format_name);
    }
    return 0;
}

static int coroutine_fn commit(BdrvChild *top, const BlkCommitOptions *o,
                               GError **errp)
{
    BlockDriverState *bs = top->bs;
    int ret = check(bs, o, errp);
    BdrvChild *base;

    if (ret < 0) {
        return ret;
    }
    base = o->base ? o->base->root : bs->backing;
    if (base->bs->total_bytes < bs->total_bytes) {
        ret = bdrv_co_truncate(base, bs->total_bytes, BDRV_PREALLOC_OFF,
                               errp);
    }
    ret = ret < 0 ? ret : copy(top, base, o, errp);
    if (ret == 0 && o->drop) {
        ret = bs->drv->co_make_empty(bs, errp);
    }
    return ret;
}

int coroutine_fn blk_co_commit(BlockBackend *blk,
                               const BlkCommitOptions *options,
                               GError **errp)
{
    static const BlkCommitOptions dflt = { .drop = true };
    BdrvChild *top = blk->root;
    int ret;

    blk_co_begin(blk, NULL); /* wait for a drain to end */
    blk_end(blk);
    bdrv_co_exclusive_begin(blk->root->bs);
    while (top->bs->drv->is_filter && top->bs->file) {
        top = top->bs->file;
    }
    if (options && options->base) {
        bdrv_co_exclusive_begin(options->base->root->bs);
    }
    ret = commit(top, options ? options : &dflt, errp);
    if (options && options->base) {
        bdrv_co_exclusive_end(options->base->root->bs);
    }
    bdrv_co_exclusive_end(blk->root->bs);
    return ret;
}

typedef struct CommitArgs {
    BlockBackend *blk;
    const BlkCommitOptions *options;
    GError **errp;
} CommitArgs;

static int coroutine_fn commit_entry(void *opaque)
{
    CommitArgs *a = opaque;

    return blk_co_commit(a->blk, a->options, a->errp);
}

int no_coroutine_fn blk_commit(BlockBackend *blk,
                               const BlkCommitOptions *options,
                               GError **errp)
{
    CommitArgs a = { blk, options, errp };

    return aio_run_blocking(blk->ctx, commit_entry, &a);
}
