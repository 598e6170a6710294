/* SPDX-License-Identifier: MIT */
/*
 * The request path below a BlockBackend.
 *
 * Whatever a caller asks, a driver sees only requests it can do: aligned in
 * offset, length and memory, not longer than max_transfer, starting before the
 * end of the node when they read. What does not fit goes through a bounce
 * buffer of at most BOUNCE_MAX bytes, piece by piece; an unaligned write reads,
 * modifies and writes whole blocks as a serialising request (drain.c).
 *
 * FUA and zeroes are emulated by a flush and by written zeroes where a driver
 * has nothing better. Flush skips the disk when nothing was written since the
 * last one. Guest bounds and queueing during a drain are in block-backend.c.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"
#include "block/dirty-bitmap_int.h"

#define BOUNCE_MAX ((uint64_t)1024 * 1024)
#define BOUNCE_ALIGN BDRV_MAX_MEM_ALIGNMENT

void *blk_try_memalign(size_t bytes)
{
    void *buf;

    /* Never 0 bytes, so that NULL always means failure. */
    if (bytes > SIZE_MAX - BOUNCE_ALIGN ||
        posix_memalign(&buf, BOUNCE_ALIGN, bytes ? bytes : 1) != 0) {
        return NULL;
    }
    return buf;
}

static int check_range(uint64_t offset, uint64_t bytes)
{
    if (offset > BDRV_MAX_LENGTH || bytes > BDRV_MAX_LENGTH - offset) {
        return -EIO;
    }
    return 0;
}

static bool range_is_aligned(const BlockDriverState *bs, uint64_t offset,
                             uint64_t bytes)
{
    return IS_ALIGNED(offset | bytes, bs->request_alignment);
}

static bool memory_is_aligned(const BlockDriverState *bs,
                              const QEMUIOVector *qiov)
{
    if (bs->mem_alignment == 1) {
        return true;
    }
    for (int i = 0; i < qiov->niov; i++) {
        if (!IS_ALIGNED((uintptr_t)qiov->iov[i].iov_base,
                        bs->mem_alignment) ||
            !IS_ALIGNED(qiov->iov[i].iov_len, bs->request_alignment)) {
            return false;
        }
    }
    return true;
}

/* Buffer for pieces of a request of @bytes at @offset. */
static uint8_t *bounce_alloc(const BlockDriverState *bs, uint64_t offset,
                             uint64_t bytes, uint64_t *ret_size)
{
    uint64_t align = bs->request_alignment;
    uint64_t span = ROUND_UP(offset + bytes, align) -
                    ROUND_DOWN(offset, align);
    uint64_t size = MIN(span, BOUNCE_MAX);

    *ret_size = size;
    return blk_try_memalign(size);
}

/* --- Calling a driver --- */

typedef int coroutine_fn DriverTransfer(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags);

static int coroutine_fn driver_call(BlockDriverState *bs, DriverTransfer *fn,
                                    uint64_t offset, uint64_t bytes,
                                    QEMUIOVector *qiov, unsigned flags)
{
    int ret;

    assert(range_is_aligned(bs, offset, bytes) && qiov->size == bytes);
    ret = fn(bs, offset, bytes, qiov, flags);
    assert(ret <= 0); /* 0 or -errno, no short transfers */
    return ret;
}

/* The first @bytes of @qiov in pieces of at most max_transfer. */
static int coroutine_fn driver_transfer(BlockDriverState *bs,
                                        DriverTransfer *fn, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    uint64_t max = bs->max_transfer ? bs->max_transfer : UINT64_MAX;
    uint64_t done = 0;
    int ret = 0;

    if (bytes == qiov->size && bytes <= max) {
        return driver_call(bs, fn, offset, bytes, qiov, flags);
    }
    while (done < bytes && ret == 0) {
        uint64_t n = MIN(bytes - done, max);
        QEMUIOVector piece;

        qemu_iovec_init_slice(&piece, qiov, done, n);
        ret = driver_call(bs, fn, offset + done, n, &piece, flags);
        qemu_iovec_destroy(&piece);
        done += n;
    }
    return ret;
}

/* --- Read --- */

/* Aligned in every respect; zeroes past the end of the node. */
static int coroutine_fn read_aligned(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, QEMUIOVector *qiov)
{
    uint64_t end = ROUND_UP(bs->total_bytes, bs->request_alignment);
    uint64_t n = offset < end ? MIN(bytes, end - offset) : 0;
    int ret = 0;

    if (n > 0) {
        ret = driver_transfer(bs, bs->drv->co_preadv, offset, n, qiov, 0);
    }
    if (ret == 0 && n < bytes) {
        qemu_iovec_memset(qiov, n, 0, bytes - n);
    }
    return ret;
}

static int coroutine_fn read_buffer(BlockDriverState *bs, uint64_t offset,
                                    uint64_t bytes, uint8_t *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return read_aligned(bs, offset, bytes, &qiov);
}

static int coroutine_fn read_bounced(BlockDriverState *bs, uint64_t offset,
                                     uint64_t bytes, QEMUIOVector *qiov)
{
    uint64_t align = bs->request_alignment;
    uint64_t size, done = 0;
    uint8_t *buf = bounce_alloc(bs, offset, bytes, &size);
    int ret = buf ? 0 : -ENOMEM;

    while (done < bytes && ret == 0) {
        uint64_t pos = offset + done;
        uint64_t start = ROUND_DOWN(pos, align);
        uint64_t end = MIN(ROUND_UP(offset + bytes, align), start + size);
        uint64_t n = MIN(end, offset + bytes) - pos;

        ret = read_buffer(bs, start, end - start, buf);
        if (ret == 0) {
            qemu_iovec_from_buf(qiov, done, buf + (pos - start), n);
        }
        done += n;
    }
    free(buf);
    return ret;
}

int coroutine_fn bdrv_co_preadv(BdrvChild *child, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags)
{
    BlockDriverState *bs = child->bs;
    uint64_t align = bs->request_alignment;
    BdrvTrackedRequest req;
    uint64_t start;
    int ret = check_range(offset, bytes);

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    assert(qiov->size == bytes && bs->ctx == aio_get_current());
    if (bs->open_flags & BDRV_O_COPY_ON_READ) {
        ret = bdrv_co_copy_on_read(bs, offset, bytes);
        if (ret < 0) {
            return ret;
        }
    }
    start = ROUND_DOWN(offset, align);
    bdrv_co_tracked_begin(&req, bs, BDRV_TRACKED_READ, start,
                          ROUND_UP(offset + bytes, align) - start, false);
    if (range_is_aligned(bs, offset, bytes) && memory_is_aligned(bs, qiov)) {
        ret = read_aligned(bs, offset, bytes, qiov);
    } else {
        ret = read_bounced(bs, offset, bytes, qiov);
    }
    bdrv_co_tracked_end(&req);
    return ret;
}

int coroutine_fn bdrv_co_pread(BdrvChild *child, uint64_t offset,
                               uint64_t bytes, void *buf, unsigned flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_preadv(child, offset, bytes, &qiov, flags);
}

/* --- Write --- */

static int coroutine_fn write_aligned(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      unsigned flags)
{
    int ret;

    bdrv_co_debug_event(bs, BLKDBG_PWRITEV);
    ret = driver_transfer(bs, bs->drv->co_pwritev, offset, bytes, qiov,
                          flags & bs->supported_write_flags);
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_DONE);
    return ret;
}

/*
 * Fill @buf, which stands for the blocks [@start, @end), with what is in the
 * first and last block if [@pos, @pos + @n) covers these only in part.
 */
static int coroutine_fn rmw_read(BlockDriverState *bs, uint64_t start,
                                 uint64_t end, uint64_t pos, uint64_t n,
                                 uint8_t *buf)
{
    uint64_t align = bs->request_alignment;
    uint64_t last = end - align;
    bool head = pos > start;
    bool tail = pos + n < end;
    bool one = head && tail && last == start;
    int ret = 0;

    if (head) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_HEAD);
        if (one) {
            bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_TAIL);
        }
        ret = read_buffer(bs, start, align, buf);
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    }
    if (ret == 0 && tail && !one) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_TAIL);
        ret = read_buffer(bs, last, align, buf + (last - start));
    }
    if (ret == 0 && tail) {
        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    }
    return ret;
}

/* Any alignment; the caller's request is serialising if offset or length is
 * not aligned. */
static int coroutine_fn write_bounced(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      unsigned flags)
{
    uint64_t align = bs->request_alignment;
    uint64_t size, done = 0;
    uint8_t *buf = bounce_alloc(bs, offset, bytes, &size);
    int ret = buf ? 0 : -ENOMEM;

    while (done < bytes && ret == 0) {
        uint64_t pos = offset + done;
        uint64_t start = ROUND_DOWN(pos, align);
        uint64_t end = MIN(ROUND_UP(offset + bytes, align), start + size);
        uint64_t n = MIN(end, offset + bytes) - pos;
        QEMUIOVector piece;

        ret = rmw_read(bs, start, end, pos, n, buf);
        if (ret == 0) {
            qemu_iovec_to_buf(qiov, done, buf + (pos - start), n);
            qemu_iovec_init_buf(&piece, buf, end - start);
            ret = write_aligned(bs, start, end - start, &piece, flags);
        }
        done += n;
    }
    free(buf);
    return ret;
}

static int coroutine_fn write_compressed(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes,
                                         QEMUIOVector *qiov, unsigned flags)
{
    int ret = -ENOTSUP;

    if (bs->drv->co_pwritev_compressed) {
        flags &= BDRV_REQ_WRITE_COMPRESSED | BDRV_REQ_REPLACE;
        ret = bs->drv->co_pwritev_compressed(bs, offset, bytes, qiov, flags);
    }
    assert(ret <= 0);
    return ret;
}

static int coroutine_fn write_any(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  unsigned flags)
{
    if (flags & BDRV_REQ_WRITE_COMPRESSED) {
        return write_compressed(bs, offset, bytes, qiov, flags);
    }
    if (range_is_aligned(bs, offset, bytes) && memory_is_aligned(bs, qiov)) {
        return write_aligned(bs, offset, bytes, qiov, flags);
    }
    return write_bounced(bs, offset, bytes, qiov, flags);
}

int bdrv_check_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes)
{
    int ret = check_range(offset, bytes);

    if (ret < 0) {
        return ret;
    }
    assert(bs->ctx == aio_get_current());
    if (bs->read_only) {
        return -EROFS;
    }
    if (!bs->growable && offset + bytes > ROUND_UP(bs->total_bytes,
                                                   bs->request_alignment)) {
        return -ENOSPC;
    }
    return 0;
}

void coroutine_fn bdrv_co_write_begin(BdrvTrackedRequest *req,
                                      BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes)
{
    uint64_t align = bs->request_alignment;
    uint64_t start = ROUND_DOWN(offset, align);

    bdrv_co_tracked_begin(req, bs, BDRV_TRACKED_WRITE, start,
                          ROUND_UP(offset + bytes, align) - start,
                          !range_is_aligned(bs, offset, bytes));
}

void bdrv_co_write_end(BdrvTrackedRequest *req, int ret)
{
    BlockDriverState *bs = req->bs;

    bs->write_gen++;
    if (ret == 0 && req->offset + req->bytes > bs->total_bytes &&
        bs->growable) {
        bs->total_bytes = req->offset + req->bytes;
        bdrv_bitmaps_resize(bs, bs->total_bytes);
    }
    bdrv_bitmaps_track(bs, req->offset, req->bytes);
    bdrv_co_tracked_end(req);
}

static int coroutine_fn flush_node(BlockDriverState *bs, unsigned own);

/* Take FUA out of *@flags when the driver cannot do it; returns whether a
 * flush has to follow. */
static bool fua_needs_flush(const BlockDriverState *bs, unsigned supported,
                            unsigned *flags)
{
    if (bs->open_flags & BDRV_O_NO_FLUSH) {
        *flags &= ~BDRV_REQ_FUA;
    }
    if (!(*flags & BDRV_REQ_FUA) || (supported & BDRV_REQ_FUA)) {
        return false;
    }
    *flags &= ~BDRV_REQ_FUA;
    return true;
}

/* Are these zeroes that need not be written as data? */
static bool is_detected_zero(const BlockDriverState *bs,
                             const QEMUIOVector *qiov, unsigned flags)
{
    return (bs->open_flags & BDRV_O_DETECT_ZEROES) &&
           !(flags & BDRV_REQ_WRITE_COMPRESSED) &&
           qemu_iovec_is_zero(qiov, 0, qiov->size);
}

int coroutine_fn bdrv_co_pwritev(BdrvChild *child, uint64_t offset,
                                 uint64_t bytes, QEMUIOVector *qiov,
                                 unsigned flags)
{
    BlockDriverState *bs = child->bs;
    bool flush = fua_needs_flush(bs, bs->supported_write_flags, &flags);
    BdrvTrackedRequest req;
    int ret = bdrv_check_write(bs, offset, bytes);

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    assert(qiov->size == bytes);
    if (is_detected_zero(bs, qiov, flags)) {
        return bdrv_co_pwrite_zeroes(
            child, offset, bytes, (flush ? BDRV_REQ_FUA : 0) | flags |
            (bs->open_flags & BDRV_O_DETECT_UNMAP ? BDRV_REQ_MAY_UNMAP : 0));
    }
    bdrv_co_write_begin(&req, bs, offset, bytes);
    ret = write_any(bs, offset, bytes, qiov, flags);
    bdrv_co_write_end(&req, ret);
    if (ret == 0 && flush) {
        ret = flush_node(bs, 1);
    }
    return ret;
}

int coroutine_fn bdrv_co_pwrite(BdrvChild *child, uint64_t offset,
                                uint64_t bytes, const void *buf,
                                unsigned flags)
{
    QEMUIOVector qiov;

    /* A write does not change what its vector points to. */
    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return bdrv_co_pwritev(child, offset, bytes, &qiov, flags);
}

/* --- Zeroes --- */

/* Write zeroes as data. */
static int coroutine_fn write_zero_data(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, unsigned flags)
{
    uint64_t size = MIN(bytes, BOUNCE_MAX);
    uint64_t align = bs->request_alignment;
    uint8_t *buf;
    int ret = 0;

    if (bytes == 0) {
        return 0;
    }
    buf = blk_try_memalign(size);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, size);
    while (bytes > 0 && ret == 0) {
        uint64_t n = MIN(bytes, size);
        QEMUIOVector qiov;

        if (n < bytes && !IS_ALIGNED(offset + n, align)) {
            n -= (offset + n) % align; /* end this piece on a block */
        }
        qemu_iovec_init_buf(&qiov, buf, n);
        ret = write_any(bs, offset, n, &qiov, flags);
        offset += n;
        bytes -= n;
    }
    free(buf);
    return ret;
}

/* The part a driver can zero itself, or -ENOTSUP. */
static int coroutine_fn driver_zero(BlockDriverState *bs, uint64_t offset,
                                    uint64_t bytes, unsigned flags)
{
    uint64_t max = bs->max_pwrite_zeroes ? bs->max_pwrite_zeroes : UINT64_MAX;
    int ret = 0;

    if (!bs->drv->co_pwrite_zeroes) {
        return -ENOTSUP;
    }
    while (bytes > 0 && ret == 0) {
        uint64_t n = MIN(bytes, max);

        bdrv_co_debug_event(bs, BLKDBG_PWRITEV_ZERO);
        ret = bs->drv->co_pwrite_zeroes(bs, offset, n,
                                        flags & bs->supported_zero_flags);
        assert(ret <= 0);
        offset += n;
        bytes -= n;
    }
    return ret;
}

static int coroutine_fn zero_range(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes, unsigned flags)
{
    uint64_t align = MAX(bs->pwrite_zeroes_alignment, bs->request_alignment);
    uint64_t end = offset + bytes;
    uint64_t middle = MIN(ROUND_UP(offset, align), end);
    uint64_t tail = MAX(ROUND_DOWN(end, align), middle);
    int ret;

    if (end == bs->total_bytes && IS_ALIGNED(end, bs->request_alignment)) {
        tail = end; /* a last unit that the node ends in is whole */
    }
    if (flags & BDRV_REQ_NO_FALLBACK) {
        if (middle > offset || tail < end) {
            return -ENOTSUP;
        }
        return driver_zero(bs, offset, bytes, flags);
    }
    ret = write_zero_data(bs, offset, middle - offset, flags);
    if (ret < 0) {
        return ret;
    }
    ret = driver_zero(bs, middle, tail - middle, flags);
    if (ret == -ENOTSUP) {
        ret = write_zero_data(bs, middle, tail - middle, flags);
    }
    if (ret < 0) {
        return ret;
    }
    return write_zero_data(bs, tail, end - tail, flags);
}

int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, uint64_t offset,
                                       uint64_t bytes, unsigned flags)
{
    BlockDriverState *bs = child->bs;
    unsigned supported = bs->supported_write_flags & bs->supported_zero_flags;
    bool flush = fua_needs_flush(bs, supported, &flags);
    BdrvTrackedRequest req;
    int ret = bdrv_check_write(bs, offset, bytes);

    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (!(bs->open_flags & BDRV_O_UNMAP)) {
        flags &= ~BDRV_REQ_MAY_UNMAP;
    }
    bdrv_co_write_begin(&req, bs, offset, bytes);
    ret = zero_range(bs, offset, bytes, flags);
    bdrv_co_write_end(&req, ret);
    if (ret == 0 && flush) {
        ret = flush_node(bs, 1);
    }
    return ret;
}

/* --- Discard --- */

static int coroutine_fn driver_discard(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes)
{
    uint64_t max = bs->max_pdiscard ? bs->max_pdiscard : UINT64_MAX;
    int ret = 0;

    for (uint64_t done = 0; done < bytes && ret == 0; done += max) {
        ret = bs->drv->co_pdiscard(bs, offset + done, MIN(bytes - done, max));
        assert(ret <= 0);
        if (max >= bytes - done) {
            break;
        }
    }
    return ret;
}

int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, uint64_t offset,
                                  uint64_t bytes)
{
    BlockDriverState *bs = child->bs;
    uint64_t align = MAX(bs->pdiscard_alignment, bs->request_alignment);
    BdrvTrackedRequest req;
    uint64_t start, end;
    int ret = check_range(offset, bytes);

    if (ret < 0) {
        return ret;
    }
    if (bs->read_only) {
        return -EROFS;
    }
    start = ROUND_UP(offset, align);
    end = MIN(offset + bytes, bs->total_bytes);
    if (end < bs->total_bytes || !IS_ALIGNED(end, bs->request_alignment)) {
        end = ROUND_DOWN(end, align); /* the last unit may be a short one */
    }
    if (start >= end || !bs->drv->co_pdiscard ||
        !(bs->open_flags & BDRV_O_UNMAP)) {
        return 0;
    }
    bdrv_co_tracked_begin(&req, bs, BDRV_TRACKED_DISCARD, start, end - start,
                          false);
    ret = driver_discard(bs, start, end - start);
    bs->write_gen++;
    bdrv_bitmaps_track(bs, start, end - start);
    bdrv_co_tracked_end(&req);
    return ret == -ENOTSUP ? 0 : ret;
}

/* --- Flush --- */

/* What was written before generation @gen becomes durable on this node. */
static int coroutine_fn flush_to_disk(BlockDriverState *bs, uint64_t gen)
{
    uint64_t current = bs->write_gen;
    int ret;

    if (bs->flushed_gen >= gen) {
        return 0;
    }
    ret = bs->drv->co_flush_to_disk ? bs->drv->co_flush_to_disk(bs) : 0;
    assert(ret <= 0);
    if (ret == 0) {
        bs->flushed_gen = current;
    }
    return ret;
}

static int coroutine_fn flush_children(BlockDriverState *bs)
{
    int ret = 0;

    for (GList *l = bs->children; l && ret == 0; l = l->next) {
        BdrvChild *child = l->data;

        if (child->role != BDRV_CHILD_BACKING) {
            ret = bdrv_co_flush(child->bs);
        }
    }
    return ret;
}

/*
 * Write back and flush @bs and what is below it, all that was written until
 * now. Of that, @own writes are those that this flush ends (FUA): for the
 * events they count from the next flush on, as scripts of the field expect.
 */
static int coroutine_fn flush_node(BlockDriverState *bs, unsigned own)
{
    uint64_t gen = bs->write_gen;
    bool to_disk = !(bs->open_flags & BDRV_O_NO_FLUSH);
    int ret = 0;

    assert(bs->ctx == aio_get_current());
    if (bs->read_only) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    while (bs->active_flush) {
        co_queue_wait(&bs->flush_queue, NULL);
    }
    bs->active_flush = true;

    BLKDBG_EVENT(bs->file, BLKDBG_FLUSH_TO_OS);
    if (bs->drv->co_flush_to_os) {
        ret = bs->drv->co_flush_to_os(bs);
        assert(ret <= 0);
    }
    if (ret == 0 && to_disk) {
        if (bs->announced_gen < gen - own) {
            BLKDBG_EVENT(bs->file, BLKDBG_FLUSH_TO_DISK);
        }
        ret = flush_to_disk(bs, gen);
    }
    if (ret == 0) {
        ret = flush_children(bs);
    }
    if (ret == 0) {
        bs->announced_gen = gen - own;
    }

    bs->active_flush = false;
    co_queue_next(&bs->flush_queue);
    bdrv_dec_in_flight(bs);
    return ret;
}

int coroutine_fn bdrv_co_flush(BlockDriverState *bs)
{
    return flush_node(bs, 0);
}

/* --- Length --- */

int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs)
{
    int64_t len;

    if (!bs->drv->co_getlength) {
        return 0;
    }
    len = bs->drv->co_getlength(bs);
    if (len < 0) {
        return len;
    }
    if ((uint64_t)len > BDRV_MAX_LENGTH) {
        return -EFBIG;
    }
    bs->total_bytes = len;
    return 0;
}

int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs)
{
    return bs->total_bytes;
}

int coroutine_fn bdrv_co_truncate(BdrvChild *child, uint64_t size,
                                  BdrvPrealloc prealloc, GError **errp)
{
    BlockDriverState *bs = child->bs;
    BdrvTrackedRequest req;
    uint64_t start;
    int ret = bdrv_bitmaps_check_resize(bs, size, errp);

    if (ret < 0) {
        return ret;
    }
    if (size > BDRV_MAX_LENGTH) {
        return set_error(errp, -EFBIG, "%s: %" G_GUINT64_FORMAT " bytes are "
                         "more than any image can have", bs->filename, size);
    }
    if (bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only", bs->filename);
    }
    if (!bs->drv->co_truncate) {
        return set_error(errp, -ENOTSUP, "%s: driver '%s' cannot change the "
                         "size", bs->filename, bs->drv->format_name);
    }
    if (prealloc != BDRV_PREALLOC_OFF && size < bs->total_bytes) {
        return set_error(errp, -EINVAL, "%s: what gets smaller has nothing to "
                         "preallocate", bs->filename);
    }
    start = ROUND_DOWN(MIN(size, bs->total_bytes), bs->request_alignment);
    bdrv_co_tracked_begin(&req, bs, BDRV_TRACKED_TRUNCATE, start,
                          BDRV_MAX_LENGTH - start + 1, true);
    ret = bs->drv->co_truncate(bs, size, prealloc, errp);
    assert(ret <= 0);
    bs->write_gen++;
    if (ret < 0) {
        /* What was to be cut off may be gone. */
        bdrv_bitmaps_track(bs, start, BDRV_MAX_LENGTH - start);
    } else {
        bs->total_bytes = size;
        ret = bdrv_co_refresh_length(bs);
        bdrv_bitmaps_resize(bs, bs->total_bytes);
        if (ret < 0) {
            set_error(errp, ret, "%s: cannot read the new size: %s",
                      bs->filename, g_strerror(-ret));
        }
    }
    bdrv_co_tracked_end(&req);
    return ret;
}

/* --- Block status --- */

int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, uint64_t *ret_bytes,
                                      uint64_t *ret_map)
{
    uint64_t align = bs->request_alignment;
    uint64_t start = ROUND_DOWN(offset, align);
    uint64_t n = 0, map = 0;
    int ret = check_range(offset, bytes);

    if (ret < 0) {
        return ret;
    }
    if (bytes == 0 || offset >= bs->total_bytes) {
        *ret_bytes = bytes;
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    }
    bytes = MIN(bytes, bs->total_bytes - offset);
    if (!bs->drv->co_block_status) {
        *ret_bytes = bytes;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    }
    bdrv_inc_in_flight(bs);
    ret = bs->drv->co_block_status(bs, start,
                                   ROUND_UP(offset + bytes, align) - start,
                                   &n, &map);
    bdrv_dec_in_flight(bs);
    if (ret < 0) {
        return ret;
    }
    assert(n > offset - start); /* progress */
    *ret_bytes = MIN(n - (offset - start), bytes);
    if (ret_map) {
        *ret_map = map + (offset - start);
    }
    return ret;
}
