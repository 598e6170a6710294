/* SPDX-License-Identifier: MIT */
/*
 * Convert: a walker follows the allocation of the sources and starts a task
 * for each chunk; a task reads, looks for zeroes and writes.
 *
 * Data is cut at multiples of the chunk, which is a multiple of the target's
 * cluster size: a compressed cluster is written by one task, and none is
 * filled by copy-on-write. Tasks are numbered; unless any_order is set, one
 * starts to write only after its predecessor has, so that the target's
 * clusters come in the order of the disk while writes still overlap. Memory is
 * bounded by workers times the chunk; buffers are used again.
 *
 * The first error ends it: no task starts, those that wait for their turn or
 * are between two requests return, and the walker waits for all of them.
 *
 * With a backing file on the target, what the source has from its own is left
 * out, as far as the target's backing file reaches.
 */
#include "block/convert.h"

#include "block/block_int.h"
#include "util/aio-task.h"
#include "util/rate-limit.h"
#include "util/zero.h"

#include <stdlib.h>

#define DEFAULT_WORKERS 8
#define CHUNK           ((uint64_t)2 * 1024 * 1024)
#define ZERO_CHUNK      ((uint64_t)1024 * 1024 * 1024)
#define SECTOR          512

typedef struct Convert {
    const BlkConvertOptions *o;
    AioTaskPool *pool;
    uint64_t total;         /* bytes of all sources */
    uint64_t done;
    uint64_t next_task;     /* number of the next task to be started */
    uint64_t next_write;    /* number of the task that may start to write */
    CoQueue order;          /* until next_write moves */
    GQueue *buffers;        /* of CHUNK bytes that no task uses */
    RateLimit limit;
    bool offload;           /* until the host refuses */
    int error;              /* the first one, and */
    uint64_t failed_at;     /* its offset */
    const char *failed_what;
} Convert;

typedef enum Kind { KIND_DATA, KIND_ZERO, KIND_SKIP } Kind;

typedef struct Task {
    Convert *c;
    uint64_t number;
    uint64_t offset;        /* in the target */
    uint64_t bytes;
    Kind kind;
} Task;

static void progress(Convert *c, uint64_t bytes)
{
    c->done += bytes;
    if (c->o->progress) {
        c->o->progress(c->done, c->total, c->o->opaque);
    }
}

static int failed(Convert *c, const char *what, uint64_t offset, int err)
{
    if (!c->error) {
        c->error = err;
        c->failed_what = what;
        c->failed_at = offset;
    }
    return err;
}

uint64_t blk_convert_bytes(BlockBackend *const *sources, unsigned nb)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < nb && total <= BDRV_MAX_LENGTH; i++) {
        total = ROUND_UP(total, SECTOR) + blk_bs(sources[i])->total_bytes;
    }
    return total <= BDRV_MAX_LENGTH ? total : UINT64_MAX;
}

/* The source that has @offset, or zeroes behind its end up to a whole sector;
 * where it begins, and where the next one does. */
static BlockBackend *source_at(const Convert *c, uint64_t offset,
                               uint64_t *ret_start, uint64_t *ret_end)
{
    uint64_t start = 0;

    for (unsigned i = 0;; i++) {
        BlockBackend *blk = c->o->sources[i];
        uint64_t end = start + blk_bs(blk)->total_bytes;

        end = i + 1 < c->o->nb_sources ? ROUND_UP(end, SECTOR) : end;
        if (offset < end) {
            *ret_start = start;
            *ret_end = end;
            return blk;
        }
        start = end;
    }
}

/* ---- reading ---- */

static int coroutine_fn read_source(BlockBackend *blk, uint64_t offset,
                                    uint64_t bytes, uint8_t *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return blk_co_preadv(blk, offset, bytes, &qiov, 0);
}

/*
 * Sector by sector, zeroes for those that cannot be read; a run of them that
 * fail alike is told as one. @offset is that in the target. A dying disk may
 * take seconds for each: it is not for the end of the chunk that a stop, or
 * what failed elsewhere, waits. Returns 0, or -errno then.
 */
static int coroutine_fn salvage(Convert *c, BlockBackend *blk,
                                uint64_t offset, uint64_t start,
                                uint64_t bytes, uint8_t *buf)
{
    uint64_t at, bad = 0;
    int err = 0, end = 0;

    for (at = 0; at < bytes; at += SECTOR) {
        uint64_t n = MIN(SECTOR, bytes - at);
        int ret;

        end = c->error ? c->error : aio_check_stop();
        if (end < 0) {
            break;
        }
        ret = read_source(blk, offset + at - start, n, buf + at);
        if (ret < 0) {
            memset(buf + at, 0, n);
        }
        if (ret != err && err < 0 && c->o->unreadable) {
            c->o->unreadable(offset + bad, at - bad, err, c->o->opaque);
        }
        if (ret != err) {
            bad = at;
            err = ret;
        }
    }
    if (err < 0 && c->o->unreadable) {
        c->o->unreadable(offset + bad, MIN(at, bytes) - bad, err,
                         c->o->opaque);
    }
    return end;
}

/* A chunk may have parts of several sources. */
static int coroutine_fn read_chunk(Convert *c, uint64_t offset,
                                   uint64_t bytes, uint8_t *buf)
{
    while (bytes) {
        uint64_t start, end, n, there;
        BlockBackend *blk = source_at(c, offset, &start, &end);
        int ret;

        n = MIN(bytes, end - offset);
        there = start + blk_bs(blk)->total_bytes; /* end of what there is */
        there = offset < there ? MIN(n, there - offset) : 0;
        memset(buf + there, 0, n - there);
        ret = read_source(blk, offset - start, there, buf);
        if (ret < 0 && c->o->salvage) {
            ret = salvage(c, blk, offset, start, there, buf);
        }
        if (ret < 0) {
            return failed(c, "read", offset, ret);
        }
        offset += n;
        buf += n;
        bytes -= n;
    }
    return 0;
}

/* ---- writing ---- */

static int coroutine_fn write_zeroes(Convert *c, uint64_t offset,
                                     uint64_t bytes)
{
    int ret;

    if (c->o->target_is_zero) {
        return 0;
    }
    ret = blk_co_pwrite_zeroes(c->o->target, offset, bytes,
                               BDRV_REQ_MAY_UNMAP);
    return ret < 0 ? failed(c, "write zeroes", offset, ret) : 0;
}

static uint64_t coroutine_fn target_cluster(const Convert *c)
{
    BdrvInfo info = { 0 };

    (void)bdrv_co_get_info(blk_bs(c->o->target), &info);
    return info.cluster_size ? info.cluster_size : 65536;
}

static int coroutine_fn write_buffer(Convert *c, uint64_t offset,
                                     uint64_t bytes, uint8_t *buf,
                                     unsigned flags)
{
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    ret = blk_co_pwritev(c->o->target, offset, bytes, &qiov, flags);
    return ret < 0 ? failed(c, "write", offset, ret) : 0;
}

/* Of bytes up to @end: how many are no whole cluster, nor the rest of the disk,
 * because the target goes on there? */
static uint64_t coroutine_fn broken_cluster(const Convert *c, uint64_t end)
{
    return end == c->total && end < blk_bs(c->o->target)->total_bytes
           ? end % target_cluster(c) : 0;
}

static int coroutine_fn write_data(Convert *c, uint64_t offset,
                                   uint64_t bytes, uint8_t *buf)
{
    uint64_t whole;
    int ret = 0;

    if (!c->o->compressed) {
        return write_buffer(c, offset, bytes, buf, 0);
    }
    whole = bytes - MIN(bytes, broken_cluster(c, offset + bytes));
    if (whole) {
        ret = write_buffer(c, offset, whole, buf,
                           BDRV_REQ_WRITE_COMPRESSED | BDRV_REQ_REPLACE);
    }
    return ret < 0 || whole == bytes ? ret
           : write_buffer(c, offset + whole, bytes - whole, buf + whole, 0);
}

/* Bytes from the start of @buf that are all zeroes, or all of blocks that are
 * not. */
static uint64_t same_kind(const Convert *c, uint64_t offset, uint64_t bytes,
                          const uint8_t *buf, uint64_t block, bool *ret_zero)
{
    uint64_t n = 0;

    while (n < bytes) {
        uint64_t len = MIN(block - (offset + n) % block, bytes - n);
        bool zero = buffer_is_zero(buf + n, len);

        if (n && zero != *ret_zero) {
            break;
        }
        *ret_zero = zero;
        n += len;
    }
    return n;
}

static int coroutine_fn write_sparse(Convert *c, uint64_t offset,
                                     uint64_t bytes, uint8_t *buf,
                                     uint64_t block)
{
    int ret = 0;

    while (bytes && ret == 0 && !c->error) {
        bool zero = false;
        uint64_t n = same_kind(c, offset, bytes, buf, block, &zero);

        ret = zero ? write_zeroes(c, offset, n)
                   : write_data(c, offset, n, buf);
        offset += n;
        buf += n;
        bytes -= n;
    }
    return ret;
}

static int coroutine_fn write_chunk(Convert *c, const Task *t, uint8_t *buf)
{
    uint64_t block = c->o->sparse_bytes;

    if (c->o->compressed && block) {
        block = target_cluster(c);
    }
    return block ? write_sparse(c, t->offset, t->bytes, buf, block)
                 : write_data(c, t->offset, t->bytes, buf);
}

/* ---- tasks ---- */

static void coroutine_fn wait_turn(Convert *c, const Task *t)
{
    while (!c->o->any_order && c->next_write < t->number) {
        co_queue_wait(&c->order, NULL);
    }
    c->next_write = MAX(c->next_write, t->number + 1);
    co_queue_restart_all(&c->order);
}

static uint8_t *get_buffer(Convert *c)
{
    uint8_t *buf = g_queue_pop_head(c->buffers);

    return buf ? buf : blk_try_memalign(CHUNK);
}

static int coroutine_fn copy(Convert *c, const Task *t)
{
    uint8_t *buf = get_buffer(c);
    int ret = buf ? 0 : failed(c, "get memory", t->offset, -ENOMEM);

    if (ret == 0 && !c->error) {
        ret = read_chunk(c, t->offset, t->bytes, buf);
    }
    wait_turn(c, t); /* on failure, too: others wait behind it */
    if (ret == 0 && !c->error) {
        ret = write_chunk(c, t, buf);
    }
    if (buf) {
        g_queue_push_head(c->buffers, buf);
    }
    return ret;
}

/* Without looking at the bytes. -ENOTSUP: not this way. */
static int coroutine_fn offload(Convert *c, const Task *t)
{
    uint64_t start, end;
    BlockBackend *blk = source_at(c, t->offset, &start, &end);
    int ret;

    if (!c->offload || t->offset + t->bytes >
                       start + blk_bs(blk)->total_bytes) {
        return -ENOTSUP;
    }
    wait_turn(c, t);
    ret = c->error ? c->error
                   : blk_co_copy_range(blk, t->offset - start, c->o->target,
                                       t->offset, t->bytes);
    /* What the host cannot do, or failed to do, is tried in the usual way. */
    c->offload = c->offload && ret == 0;
    return ret < 0 ? -ENOTSUP : 0;
}

static int coroutine_fn run_task(void *opaque)
{
    Task *t = opaque;
    Convert *c = t->c;
    int ret;

    if (t->kind == KIND_DATA) {
        rate_limit_take(&c->limit, t->bytes);
        ret = offload(c, t);
        ret = ret == -ENOTSUP ? copy(c, t) : ret;
    } else {
        wait_turn(c, t);
        ret = c->error ? 0 : write_zeroes(c, t->offset, t->bytes);
    }
    if (ret == 0 && !c->error) {
        progress(c, t->bytes);
    }
    g_free(t);
    return ret;
}

static int coroutine_fn start_task(Convert *c, uint64_t offset,
                                   uint64_t bytes, Kind kind)
{
    Task *t = g_new(Task, 1);
    int ret;

    *t = (Task) { c, c->next_task, offset, bytes, kind };
    ret = aio_task_pool_start_unless_failed(c->pool, run_task, t);
    if (ret < 0) {
        g_free(t);
        return ret;
    }
    c->next_task++;
    return 0;
}

/* ---- the walk ---- */

static Kind kind_of(const Convert *c, int status, uint64_t offset)
{
    if (!(status & BDRV_BLOCK_ZERO) || !c->o->sparse_bytes) {
        return KIND_DATA;
    }
    if (c->o->target_is_zero) {
        return KIND_SKIP;
    }
    /* A new target reads as zeroes behind the end of its backing file. */
    return c->o->top_only && c->o->fresh && offset >= c->o->backing_bytes
           ? KIND_SKIP : KIND_ZERO;
}

/* What the source itself has, its backing file left aside. As
 * bdrv_co_block_status(); 0 when the backing file decides. */
static int coroutine_fn status_of_top(BlockDriverState *bs, uint64_t offset,
                                      uint64_t *bytes)
{
    uint64_t map = 0, backing_end;
    BlockDriverState *behind;
    int ret;

    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    ret = bdrv_co_block_status(bs, offset, *bytes, bytes, &map);
    if (ret < 0 || (ret & BDRV_BLOCK_ALLOCATED)) {
        return ret < 0 ? ret : bdrv_co_find_holes(bs, ret, map, bytes);
    }
    behind = bdrv_behind(bs, &ret);
    if (!behind) {
        return ret & BDRV_BLOCK_ZERO ? ret : BDRV_BLOCK_DATA;
    }
    backing_end = behind->total_bytes;
    if (offset >= backing_end) {
        return BDRV_BLOCK_ZERO; /* nothing decides */
    }
    *bytes = MIN(*bytes, backing_end - offset);
    return 0;
}

/* What is at @offset, for *@ret_bytes. */
static int coroutine_fn look(Convert *c, uint64_t offset, Kind *ret_kind,
                             uint64_t *ret_bytes)
{
    uint64_t start, end, bytes;
    BlockDriverState *bs = blk_bs(source_at(c, offset, &start, &end));
    bool top = c->o->top_only && offset < c->o->backing_bytes;
    int ret;

    bytes = end - offset;
    if (top) {
        bytes = MIN(bytes, c->o->backing_bytes - offset);
        ret = status_of_top(bs, offset, &bytes);
    } else {
        ret = bdrv_co_block_status_above(bs, offset - start, bytes, &bytes,
                                         NULL);
    }
    if (ret < 0 && c->o->salvage) {
        ret = BDRV_BLOCK_DATA;
        top = false;
        bytes = MIN(bytes, CHUNK);
    }
    if (ret < 0) {
        return failed(c, "get the allocation", offset, ret);
    }
    *ret_kind = top && ret == 0 ? KIND_SKIP : kind_of(c, ret, offset);
    *ret_bytes = bytes;
    return 0;
}

/* Compressed clusters are written whole, whatever a part of them is. */
static uint64_t widen(const Convert *c, uint64_t offset, uint64_t bytes,
                      uint64_t cluster, Kind *kind)
{
    uint64_t end = offset + bytes;

    if (end == c->total) {
        return bytes;
    }
    if (*kind == KIND_DATA || ROUND_DOWN(end, cluster) == offset ||
        end < offset + cluster) {
        *kind = KIND_DATA;
        return MIN(ROUND_UP(end, cluster), c->total) - offset;
    }
    return ROUND_DOWN(end, cluster) - offset;
}

static int coroutine_fn walk(Convert *c)
{
    uint64_t offset = 0, cluster = c->o->compressed ? target_cluster(c) : 1;
    int ret = 0;

    while (offset < c->total && ret == 0 && !c->error) {
        uint64_t bytes = 0, max;
        Kind kind = KIND_SKIP;

        ret = aio_check_stop();
        ret = ret < 0 ? ret : look(c, offset, &kind, &bytes);
        if (ret < 0) {
            break;
        }
        bytes = widen(c, offset, bytes, cluster, &kind);
        max = kind == KIND_DATA ? CHUNK : ZERO_CHUNK;
        bytes = kind == KIND_SKIP ? bytes : MIN(bytes, max - offset % max);
        if (kind == KIND_SKIP) {
            progress(c, bytes);
        } else {
            ret = start_task(c, offset, bytes, kind);
        }
        offset += bytes;
    }
    aio_task_pool_wait_all(c->pool);
    return c->error ? c->error : ret;
}

static void cleanup(Convert *c)
{
    aio_task_pool_free(c->pool);
    g_queue_free_full(c->buffers, free);
}

int coroutine_fn blk_co_convert(const BlkConvertOptions *o, GError **errp)
{
    Convert c = { .o = o };
    BlockDriverState *target = blk_bs(o->target);
    int ret;

    c.total = blk_convert_bytes(o->sources, o->nb_sources);
    if (c.total > target->total_bytes) {
        return set_error(errp, -EFBIG, "%s has %" G_GUINT64_FORMAT
                         " bytes, the sources have %" G_GUINT64_FORMAT,
                         target->filename, target->total_bytes, c.total);
    }
    co_queue_init(&c.order);
    rate_limit_init(&c.limit, o->bytes_per_second);
    c.offload = o->offload && !o->compressed && !o->salvage;
    c.buffers = g_queue_new();
    c.pool = aio_task_pool_new(o->workers
                               ? MIN(o->workers, BLK_CONVERT_MAX_WORKERS)
                               : DEFAULT_WORKERS);
    ret = walk(&c);
    cleanup(&c);
    if (ret == 0) {
        ret = blk_co_flush(o->target);
        ret = ret < 0 ? failed(&c, "flush", c.total, ret) : 0;
    }
    return ret < 0 ? set_error(errp, ret, "cannot %s at offset %"
                               G_GUINT64_FORMAT " for '%s': %s",
                               c.failed_what ? c.failed_what : "copy",
                               c.failed_at, target->filename,
                               g_strerror(-ret)) : 0;
}

typedef struct ConvertArgs {
    const BlkConvertOptions *o;
    GError **errp;
} ConvertArgs;

static int coroutine_fn convert_entry(void *opaque)
{
    const ConvertArgs *a = opaque;

    return blk_co_convert(a->o, a->errp);
}

int no_coroutine_fn blk_convert(const BlkConvertOptions *o, GError **errp)
{
    ConvertArgs a = { o, errp };

    return aio_run_blocking(o->target->ctx, convert_entry, &a);
}
