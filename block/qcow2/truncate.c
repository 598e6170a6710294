/* SPDX-License-Identifier: MIT */
/*
 * Changing the size of the disk. The header's size is what makes an area
 * visible or not; a cut before it is written leaves the old disk.
 *
 *   grow     L1 growth | preallocation, or zeroes where something would shine
 *            through | header
 *   shrink   zeroes to the end of the last cluster; L2 entries of the tail, L1
 *            entries of the tail | their clusters are freed | header | file cut
 *            behind the last cluster in use. Asked to stop: not begun, or the
 *            rest of what was to be freed leaks
 *
 * Three things could shine through: what the active layer maps behind the
 * disk (vmstate, or a tail that another program left), which is dropped
 * first; the unspecified rest of a short last cluster; and a backing file that
 * is longer than the disk was. A cut while shrinking leaves the old size with
 * some of the tail gone already, where the backing file shows again.
 *
 * Snapshots have sizes of their own from version 3 on and stay what they are.
 */
#include "qcow2_int.h"

#define ZERO_CHUNK (1024 * 1024)

/* Write zeroes as data over [@offset, @end). map_lock is held exclusively. */
static int coroutine_fn write_zeroes(Qcow2State *s, uint64_t offset,
                                     uint64_t end)
    EXCLUDES(s->lock)
{
    uint64_t max = MIN(end - offset, ZERO_CHUNK);
    uint8_t *buf = blk_try_memalign(max);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, max);
    }
    while (offset < end && ret == 0) {
        uint64_t n = MIN(end - offset, max);
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, buf, n);
        ret = qcow2_write_range(s, offset, n, &qiov);
        offset += n;
    }
    free(buf);
    return ret;
}

/* The rest of the last cluster, from @offset to @end inside it. For the old
 * disk it reads as zeroes where the backing file, of @backing bytes, would be
 * seen by the new one. */
static int coroutine_fn clear_tail(Qcow2State *s, uint64_t offset,
                                   uint64_t end, uint64_t backing)
    EXCLUDES(s->lock)
{
    uint64_t pos = offset;
    bool zero = true;
    int ret = 0;

    co_mutex_lock(&s->lock);
    while (pos < end && zero && ret == 0) {
        Qcow2Mapping m;

        ret = qcow2_map(s, &s->l1, pos, end - pos, &m);
        if (ret == 0) {
            zero = m.type == QCOW2_CLUSTER_ZERO_PLAIN ||
                   m.type == QCOW2_CLUSTER_ZERO_ALLOC ||
                   (m.type == QCOW2_CLUSTER_UNALLOCATED && pos >= backing);
            pos += m.bytes;
        }
    }
    co_mutex_unlock(&s->lock);
    return ret < 0 || zero ? ret : write_zeroes(s, offset, end);
}

/* Make [@from, @to) read as zeroes, whatever is below. */
static int coroutine_fn clear_area(Qcow2State *s, uint64_t from, uint64_t to)
    EXCLUDES(s->lock)
{
    uint64_t first = ROUND_UP(from, s->cluster_size);
    int64_t backing = 0;
    int ret = 0;

    if (s->bs->backing) {
        backing = bdrv_co_getlength(s->bs->backing->bs);
        if (backing < 0) {
            return backing;
        }
    }
    if (from < first) {
        ret = clear_tail(s, from, MIN(first, to), backing);
    }
    to = MIN(to, (uint64_t)backing);
    if (ret < 0 || first >= to) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_zero_range(s, first, DIV_ROUND_UP(to - first,
                                                  s->cluster_size),
                           QCOW2_ZERO_UNMAP);
    co_mutex_unlock(&s->lock);
    return ret == -ENOTSUP ? write_zeroes(s, first, to) : ret;
}

static int coroutine_fn set_size(Qcow2State *s, uint64_t size)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Header h;
    int ret = qcow2_sync_metadata(s);

    if (ret < 0) {
        return ret;
    }
    h = s->hdr;
    h.size = size;
    return qcow2_header_update(s, &h);
}

/*
 * A raw data file is as long as the disk, another one as long at least. What a
 * disk that becomes smaller gives up is cut off.
 */
static int coroutine_fn resize_data_file(Qcow2State *s, uint64_t size,
                                         bool smaller)
{
    uint64_t bytes;

    if (!qcow2_has_data_file(s)) {
        return 0;
    }
    bytes = s->data_file->bs->total_bytes;
    if (!qcow2_data_file_is_raw(s) &&
        (smaller ? bytes <= size : bytes >= size)) {
        return 0;
    }
    return bdrv_co_truncate(s->data_file, size, BDRV_PREALLOC_OFF, NULL);
}

/* ---- growing ---- */

/* Nothing is mapped behind the old disk, and L1 reaches over the new one. */
static int coroutine_fn prepare(Qcow2State *s, uint64_t old, uint64_t size)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_drop_active_vmstate(s);

    ret = ret < 0 ? ret : qcow2_drop_tail(s, qcow2_cluster_ceil(s, old));
    return ret < 0 ? ret : qcow2_grow_l1(s, qcow2_l1_entries_for(s, size));
}

static int coroutine_fn grow(Qcow2State *s, uint64_t old, uint64_t size,
                             BdrvPrealloc prealloc)
    EXCLUDES(s->lock)
{
    uint64_t end = size;
    int ret;

    if (qcow2_data_file_is_raw(s) && prealloc == BDRV_PREALLOC_OFF) {
        prealloc = BDRV_PREALLOC_METADATA; /* all entries are to be there */
    }
    if (prealloc != BDRV_PREALLOC_OFF) {
        /* What is preallocated hides the backing file. */
        end = MIN(size, qcow2_cluster_ceil(s, old));
    }
    co_mutex_lock(&s->lock);
    ret = prepare(s, old, size);
    co_mutex_unlock(&s->lock);
    ret = ret < 0 ? ret : resize_data_file(s, size, false);
    ret = ret < 0 ? ret : clear_area(s, old, end);
    if (ret == 0 && qcow2_has_data_file(s)) {
        ret = bdrv_co_flush(s->data_file->bs); /* R2: the size exposes it */
    }
    co_mutex_lock(&s->lock);
    if (ret == 0 && prealloc != BDRV_PREALLOC_OFF) {
        ret = qcow2_preallocate(s, old, size, prealloc);
        if (ret < 0) {
            /* Full or stopped: give back what the disk does not reach. */
            (void)qcow2_drop_tail(s, qcow2_cluster_ceil(s, old));
            qcow2_trim_file(s);
        }
    }
    ret = ret < 0 ? ret : set_size(s, size);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* ---- shrinking ---- */

static int coroutine_fn shrink(Qcow2State *s, uint64_t size)
    EXCLUDES(s->lock)
{
    uint64_t end = MIN(qcow2_cluster_ceil(s, size), s->hdr.size);
    int ret = aio_check_stop();

    if (ret == 0 && size < end) {
        /* Growing does this too, but other programs do not. */
        ret = clear_tail(s, size, end, 0);
    }
    co_mutex_lock(&s->lock);
    ret = ret < 0 ? ret : qcow2_drop_tail(s, qcow2_cluster_ceil(s, size));
    if (ret == 0) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_L1_SHRINK_WRITE_TABLE);
        ret = qcow2_drop_l1(s, qcow2_l1_entries_for(s, size), true);
        ret = ret == -ECANCELED ? 0 : ret; /* the entries are gone */
    }
    ret = ret < 0 ? ret : set_size(s, size);
    if (ret == 0) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_L1_SHRINK_FREE_L2_CLUSTERS);
        if (!aio_check_stop()) {
            qcow2_trim_file(s);
        }
    }
    co_mutex_unlock(&s->lock);
    if (ret == 0) {
        /* A data file that stays longer does no harm. */
        (void)resize_data_file(s, size, true);
    }
    return ret;
}

int qcow2_check_size(const Qcow2State *s, uint64_t size, unsigned version,
                     GError **errp)
{
    if (!IS_ALIGNED(size, QCOW2_SECTOR)) {
        return set_error(errp, -EINVAL, "size %" PRIu64 " is not a multiple "
                         "of 512", size);
    }
    if (version < 3 && s->hdr.nb_snapshots) {
        return set_error(errp, -ENOTSUP, "a version 2 image with snapshots "
                         "cannot be resized");
    }
    if (size > BDRV_MAX_LENGTH ||
        qcow2_l1_entries_for(s, size) > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "size %" PRIu64 " is too large for "
                         "this cluster size", size);
    }
    return 0;
}

int coroutine_fn qcow2_resize(Qcow2State *s, uint64_t size,
                              BdrvPrealloc prealloc, GError **errp)
{
    /* Others may have stored a size of which we show whole sectors. */
    uint64_t old = ROUND_DOWN(s->hdr.size, (uint64_t)QCOW2_SECTOR);
    int ret = qcow2_check_size(s, size, s->hdr.version, errp);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_check_writable(s);
    co_mutex_unlock(&s->lock);
    if (ret == 0 && size > old) {
        ret = grow(s, old, size, prealloc);
    } else if (ret == 0 && size < old) {
        ret = shrink(s, size);
    }
    if (ret < 0) {
        return set_error(errp, ret, "cannot resize: %s", g_strerror(-ret));
    }
    s->bs->total_bytes = size;
    return 0;
}

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, uint64_t size,
                                   BdrvPrealloc prealloc, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (bs->vmstate) {
        return set_error(errp, -EBUSY, "machine state is being saved or "
                         "loaded"); /* its place depends on the size */
    }
    co_rwlock_wrlock(&s->map_lock);
    ret = qcow2_resize(s, size, prealloc, errp);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
