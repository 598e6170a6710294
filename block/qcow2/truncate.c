/* SPDX-License-Identifier: MIT */
/*
 * Growing the disk: L1 growth | zeroes where something would shine through |
 * header. The header's size is what makes the new area visible, so it goes
 * last; a cut before that leaves the old disk.
 *
 * Three things could shine through: vmstate left in the active layer, which is
 * dropped first; the unspecified rest of a short last cluster; and a backing
 * file that is longer than the disk was.
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

/* The rest of the last cluster, from @offset to @end inside it. */
static int coroutine_fn clear_tail(Qcow2State *s, uint64_t offset,
                                   uint64_t end, uint64_t backing_bytes)
    EXCLUDES(s->lock)
{
    Qcow2Mapping m;
    int ret;

    co_mutex_lock(&s->lock);
    ret = qcow2_map(s, &s->l1, offset, end - offset, &m);
    co_mutex_unlock(&s->lock);
    if (ret < 0 || m.type == QCOW2_CLUSTER_ZERO_PLAIN ||
        m.type == QCOW2_CLUSTER_ZERO_ALLOC ||
        (m.type == QCOW2_CLUSTER_UNALLOCATED && backing_bytes <= offset)) {
        return ret;
    }
    return write_zeroes(s, offset, end);
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

static int coroutine_fn prepare(Qcow2State *s, uint64_t size)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_check_writable(s);

    ret = ret < 0 ? ret : qcow2_drop_active_vmstate(s);
    return ret < 0 ? ret : qcow2_grow_l1(s, qcow2_l1_entries_for(s, size));
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

static int check_size(const Qcow2State *s, uint64_t size, GError **errp)
{
    if (!IS_ALIGNED(size, QCOW2_SECTOR)) {
        return set_error(errp, -EINVAL, "size %" PRIu64 " is not a multiple "
                         "of 512", size);
    }
    if (size < s->hdr.size) {
        return set_error(errp, -ENOTSUP,
                         "shrinking a qcow2 image is not supported");
    }
    if (s->hdr.version < 3 && s->hdr.nb_snapshots) {
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

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, uint64_t size,
                                   BdrvPrealloc prealloc, GError **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t old;
    int ret;

    if (bs->vmstate) {
        return set_error(errp, -EBUSY, "machine state is being saved or "
                         "loaded"); /* its place depends on the size */
    }
    co_rwlock_wrlock(&s->map_lock);
    old = s->hdr.size;
    ret = check_size(s, size, errp);
    if (ret == 0 && size > old) {
        co_mutex_lock(&s->lock);
        ret = prepare(s, size);
        co_mutex_unlock(&s->lock);
        ret = ret < 0 ? ret : clear_area(s, old, size);
        co_mutex_lock(&s->lock);
        ret = ret < 0 ? ret : set_size(s, size);
        co_mutex_unlock(&s->lock);
        if (ret == 0) {
            bs->total_bytes = size;
        } else {
            set_error(errp, ret, "cannot resize: %s", g_strerror(-ret));
        }
    }
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
