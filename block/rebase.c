/* SPDX-License-Identifier: MIT */
/*
 * Rebase: give an image another backing file while the disk stays what it is.
 *
 *   copy what the new backing file would show otherwise | flush | the header
 *
 * Until the header is written, which is the last and one durable step, the
 * image has its old backing file; what was copied is what that one shows, and
 * changes nothing. After it everything that differs is in the image. So
 * whatever fails or stops on the way, the disk reads as before.
 *
 * Only what the image itself does not hold is looked at, and not where both
 * chains lead to the same bytes of one file, or to zeroes. Zeroes are written
 * with BDRV_REQ_EXPLICIT_ZERO: left out because the image reads as zeroes
 * without them they would be gone with the old backing file.
 *
 * A walker, the calling coroutine, starts one task for each chunk. With
 * compression the unit that is compared and written is the cluster, otherwise
 * the sector.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"
#include "util/aio-task.h"
#include "util/zero.h"

#define DEFAULT_WORKERS 8
#define MAX_WORKERS     16
#define SECTOR          512
#define CHUNK           ((uint64_t)2 * 1024 * 1024)

typedef struct Rebase {
    const BlkRebaseOptions *o;
    BdrvChild *top;
    BdrvChild *old;         /* NULL: none */
    BdrvChild *new;         /* NULL: none */
    uint64_t old_bytes;     /* length of the old one */
    uint64_t unit;          /* of comparing and writing */
    AioTaskPool *pool;
    uint64_t done;          /* bytes passed over or copied */
    uint64_t failed_at;     /* offset of the first error */
    bool failed;
    /* The last two nodes that were asked to be one file, and the answer. */
    const BlockDriverState *pair[2];
    bool pair_same;
} Rebase;

typedef struct RebaseTask {
    Rebase *r;
    uint64_t offset;
    uint64_t bytes;
    uint8_t *old;
    uint8_t *new;
} RebaseTask;

static void progress(Rebase *r, uint64_t bytes)
{
    r->done += bytes;
    if (r->o->progress) {
        r->o->progress(r->done, r->top->bs->total_bytes, r->o->opaque);
    }
}

static int failed(Rebase *r, uint64_t offset, int err)
{
    if (!r->failed) {
        r->failed = true;
        r->failed_at = offset;
    }
    return err;
}

/* ---- where bytes come from ---- */

/* What a read leads to: bytes of a node's file, or zeroes. */
typedef struct Origin {
    const BlockDriverState *bs; /* NULL: zeroes */
    bool mapped;                /* @map is valid */
    uint64_t map;
} Origin;

/* @child NULL: zeroes. Holds for the first *@bytes, which may shrink. */
static int coroutine_fn find_origin(const BdrvChild *child, uint64_t offset,
                                    uint64_t *bytes, Origin *ret)
{
    BlockDriverState *bs = child ? child->bs : NULL, *behind;

    *ret = (Origin) { 0 };
    while (bs) {
        int status;

        if (bs->drv->is_filter && bs->file) {
            bs = bs->file->bs;
            continue;
        }
        if (offset >= bs->total_bytes) {
            return 0;
        }
        *bytes = MIN(*bytes, bs->total_bytes - offset);
        status = bdrv_co_block_status(bs, offset, *bytes, bytes, &ret->map);
        if (status < 0 || (status & BDRV_BLOCK_ZERO)) {
            return MIN(status, 0);
        }
        if (status & BDRV_BLOCK_ALLOCATED) {
            ret->bs = bs;
            ret->mapped = status & BDRV_BLOCK_OFFSET_VALID;
            return 0;
        }
        behind = bdrv_behind(bs, &status);
        ret->bs = behind || (status & BDRV_BLOCK_ZERO) ? NULL : bs;
        bs = behind;
    }
    return 0;
}

/* The path of the one file that everything in @bs is in, or NULL. */
static char *only_path(const BlockDriverState *bs)
{
    for (GList *l = bs->children; l; l = l->next) {
        const BdrvChild *child = l->data;

        if (child->role != BDRV_CHILD_BACKING && child != bs->file) {
            return NULL; /* a data file */
        }
    }
    return bs->file && bs->file->bs->drv == &bdrv_file
           ? realpath(bs->file->bs->filename, NULL) : NULL;
}

static bool same_file(Rebase *r, const BlockDriverState *a,
                      const BlockDriverState *b)
{
    char *path[2];

    if (r->pair[0] != a || r->pair[1] != b) {
        path[0] = only_path(a);
        path[1] = only_path(b);
        r->pair[0] = a;
        r->pair[1] = b;
        r->pair_same = a->drv == b->drv && path[0] && path[1] &&
                       !strcmp(path[0], path[1]);
        free(path[0]);
        free(path[1]);
    }
    return r->pair_same;
}

/* The same bytes, whatever they are? */
static bool same_origin(Rebase *r, const Origin *a, const Origin *b)
{
    if (!a->bs || !b->bs) {
        return !a->bs && !b->bs;
    }
    return a->mapped && b->mapped && a->map == b->map &&
           same_file(r, a->bs, b->bs);
}

/* ---- one chunk ---- */

/* What @child (NULL: zeroes) shows. */
static int coroutine_fn read_backing(const RebaseTask *t, BdrvChild *child,
                                     uint8_t *buf)
{
    uint64_t total = child ? child->bs->total_bytes : 0;
    uint64_t n = total > t->offset ? MIN(total - t->offset, t->bytes) : 0;

    memset(buf + n, 0, t->bytes - n);
    return child ? bdrv_co_pread(child, t->offset, t->bytes, buf, 0) : 0;
}

typedef enum Kind { KIND_EQUAL, KIND_ZERO, KIND_DATA, KIND_STREAM } Kind;

/* Bytes of the unit at @at of the chunk, and what is to be done with it. */
static Kind look_at_unit(const RebaseTask *t, uint64_t at, uint64_t *ret_bytes)
{
    const Rebase *r = t->r;
    uint64_t offset = t->offset + at;
    uint64_t n = MIN(ROUND_UP(offset + 1, r->unit) - offset, t->bytes - at);
    bool whole = n == r->unit || offset + n == r->top->bs->total_bytes;

    *ret_bytes = n;
    if (!memcmp(t->old + at, t->new + at, n)) {
        return KIND_EQUAL;
    }
    if (offset >= r->old_bytes ||
        (r->o->compressed && buffer_is_zero(t->old + at, n))) {
        return KIND_ZERO;
    }
    return r->o->compressed && whole && IS_ALIGNED(offset, r->unit)
           ? KIND_STREAM : KIND_DATA;
}

static int coroutine_fn write_run(const RebaseTask *t, uint64_t at,
                                  uint64_t bytes, Kind kind)
{
    BdrvChild *top = t->r->top;
    uint64_t offset = t->offset + at;

    switch (kind) {
    case KIND_ZERO:
        return bdrv_co_pwrite_zeroes(top, offset, bytes,
                                     BDRV_REQ_EXPLICIT_ZERO);
    case KIND_STREAM:
        return bdrv_co_pwrite(top, offset, bytes, t->old + at,
                              BDRV_REQ_WRITE_COMPRESSED);
    case KIND_DATA:
        /* With a backing file no node leaves zeroes out. */
        return bdrv_co_pwrite(top, offset, bytes, t->old + at, 0);
    case KIND_EQUAL:
        break;
    }
    return 0;
}

static int coroutine_fn copy_differences(const RebaseTask *t)
{
    Kind run = KIND_EQUAL;
    uint64_t start = 0, n;
    int ret = 0;

    if (!memcmp(t->old, t->new, t->bytes)) {
        return 0;
    }
    for (uint64_t at = 0; at < t->bytes && ret == 0; at += n) {
        Kind kind = look_at_unit(t, at, &n);

        if (kind != run) {
            ret = write_run(t, start, at - start, run);
            start = at;
            run = kind;
        }
    }
    return ret < 0 ? ret : write_run(t, start, t->bytes - start, run);
}

static int coroutine_fn run_task(void *opaque)
{
    RebaseTask *t = opaque;
    int ret = -ENOMEM;

    t->old = blk_try_memalign(t->bytes);
    t->new = blk_try_memalign(t->bytes);
    if (t->old && t->new) {
        ret = read_backing(t, t->r->old, t->old);
        ret = ret < 0 ? ret : read_backing(t, t->r->new, t->new);
        ret = ret < 0 ? ret : copy_differences(t);
    }
    if (ret == 0) {
        progress(t->r, t->bytes);
    } else {
        failed(t->r, t->offset, ret);
    }
    free(t->old);
    free(t->new);
    g_free(t);
    return ret;
}

/* ---- the walk ---- */

static int coroutine_fn start_task(Rebase *r, uint64_t offset, uint64_t bytes)
{
    RebaseTask *t = g_new0(RebaseTask, 1);
    int ret;

    t->r = r;
    t->offset = offset;
    t->bytes = bytes;
    ret = aio_task_pool_start_unless_failed(r->pool, run_task, t);
    if (ret < 0) {
        g_free(t);
    }
    return ret;
}

/*
 * The image does not hold [@offset, + @bytes). Has any of it to be compared?
 * True for the first *@ret_bytes; no unit is cut in two without need.
 */
static int coroutine_fn look(Rebase *r, uint64_t offset, uint64_t bytes,
                             bool *ret_compare, uint64_t *ret_bytes)
{
    uint64_t limit = MIN(bytes, CHUNK - offset % CHUNK), n = limit, end;
    Origin old, new;
    int ret;

    ret = find_origin(r->old, offset, &n, &old);
    ret = ret < 0 ? ret : find_origin(r->new, offset, &n, &new);
    if (ret < 0) {
        return ret;
    }
    *ret_compare = !same_origin(r, &old, &new);
    end = ROUND_DOWN(offset + n, r->unit);
    if (n < limit && (*ret_compare || end <= offset)) {
        *ret_compare = true;
        end = ROUND_UP(offset + n, r->unit);
    }
    *ret_bytes = n < limit ? MIN(end - offset, limit) : limit;
    return 0;
}

/* One step of the walk, over *@ret_bytes from @offset on. */
static int coroutine_fn step(Rebase *r, uint64_t offset, uint64_t *ret_bytes)
{
    BlockDriverState *bs = r->top->bs;
    bool compare = false;
    int ret = aio_check_stop();

    if (ret == 0) {
        ret = bdrv_co_block_status(bs, offset, bs->total_bytes - offset,
                                   ret_bytes, NULL);
    }
    if (ret >= 0 && !(ret & BDRV_BLOCK_ALLOCATED)) {
        ret = look(r, offset, *ret_bytes, &compare, ret_bytes);
    }
    if (ret < 0) {
        return failed(r, offset, ret);
    }
    if (compare) {
        return start_task(r, offset, *ret_bytes);
    }
    progress(r, *ret_bytes);
    return 0;
}

static int coroutine_fn copy(Rebase *r)
{
    uint64_t offset = 0, n = 0;
    int ret = 0, status;

    r->pool = aio_task_pool_new(r->o->workers ? MIN(r->o->workers,
                                                    MAX_WORKERS)
                                              : DEFAULT_WORKERS);
    while (offset < r->top->bs->total_bytes && ret == 0) {
        ret = step(r, offset, &n);
        offset += n;
    }
    aio_task_pool_wait_all(r->pool);
    status = aio_task_pool_status(r->pool);
    aio_task_pool_free(r->pool);
    ret = ret < 0 ? ret : status;
    if (ret == 0) {
        ret = bdrv_co_flush(r->top->bs);
        ret = ret < 0 ? failed(r, offset, ret) : 0;
    }
    return ret;
}

/* ---- all of it ---- */

/* Locks prevent that, unless sharing is forced. */
static bool would_be_behind_itself(Rebase *r)
{
    BlockDriverState *bs = r->new ? r->new->bs : NULL;
    int ignored = 0;

    while (bs && !same_file(r, r->top->bs, bs)) {
        bs = bs->drv->is_filter && bs->file ? bs->file->bs
                                            : bdrv_behind(bs, &ignored);
    }
    return bs;
}

static int check(Rebase *r, GError **errp)
{
    const BlockDriverState *bs = r->top->bs;

    if (!bs->drv->co_change_backing_file) {
        return set_error(errp, -ENOTSUP, "%s: format '%s' has no backing "
                         "files", bs->filename, bs->drv->format_name);
    }
    if (bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only", bs->filename);
    }
    if (would_be_behind_itself(r)) {
        return set_error(errp, -ELOOP, "%s is in the backing chain of '%s'; "
                         "no disk could be read then", bs->filename,
                         r->new->bs->filename);
    }
    return 0;
}

static int coroutine_fn rebase(Rebase *r, GError **errp)
{
    BlockDriverState *bs = r->top->bs;
    BdrvInfo info = { 0 };
    int ret = check(r, errp);

    if (ret < 0) {
        return ret;
    }
    (void)bdrv_co_get_info(bs, &info);
    r->old = bs->backing;
    r->old_bytes = r->old ? r->old->bs->total_bytes : 0;
    r->unit = r->o->compressed && info.cluster_size ? info.cluster_size
                                                    : SECTOR;
    ret = copy(r);
    if (ret < 0) {
        return set_error(errp, ret, "%s: cannot rebase at offset %"
                         G_GUINT64_FORMAT ": %s", bs->filename, r->failed_at,
                         g_strerror(-ret));
    }
    return bs->drv->co_change_backing_file(bs, r->o->file, r->o->format,
                                           errp);
}

int coroutine_fn blk_co_rebase(BlockBackend *blk, const BlkRebaseOptions *o,
                               GError **errp)
{
    Rebase r = { .o = o, .top = blk->root,
                 .new = o->backing ? o->backing->root : NULL };
    int ret;

    blk_co_begin(blk, NULL); /* wait for a drain to end */
    blk_end(blk);
    bdrv_co_exclusive_begin(blk->root->bs);
    while (r.top->bs->drv->is_filter && r.top->bs->file) {
        r.top = r.top->bs->file;
    }
    ret = rebase(&r, errp);
    bdrv_co_exclusive_end(blk->root->bs);
    return ret;
}

typedef struct RebaseArgs {
    BlockBackend *blk;
    const BlkRebaseOptions *o;
    GError **errp;
} RebaseArgs;

static int coroutine_fn rebase_entry(void *opaque)
{
    RebaseArgs *a = opaque;

    return blk_co_rebase(a->blk, a->o, a->errp);
}

int no_coroutine_fn blk_rebase(BlockBackend *blk, const BlkRebaseOptions *o,
                               GError **errp)
{
    RebaseArgs a = { blk, o, errp };

    return aio_run_blocking(blk->ctx, rebase_entry, &a);
}
