/* SPDX-License-Identifier: MIT */
/*
 * The vmstate area: guest data that lies behind the disk, from the first
 * offset whose L1 entry maps no byte of it. Saving writes there like a guest
 * would; the snapshot takes it over, and the active layer drops it.
 *
 * Loading goes through a view: the L1 table of the chosen snapshot, read-only,
 * with that snapshot's disk size and vmstate size. Its clusters have a
 * reference of the snapshot, so nothing but deleting it can change them, and
 * that marks the view gone and waits for the loads that use it.
 */
#include "qcow2_int.h"

uint64_t qcow2_vmstate_offset(const Qcow2State *s, uint64_t size)
{
    return qcow2_l1_entries_for(s, size) * qcow2_l1_coverage(s);
}

void qcow2_vmstate_view_reset(Qcow2State *s)
{
    qcow2_table_cleanup(&s->vm_view.l1);
    g_free(s->vm_view.id);
    s->vm_view = (Qcow2VmstateView) { 0 };
}

/* Is [@pos, + @bytes) behind @base an offset that an L1 table can reach? */
static bool reachable(const Qcow2State *s, uint64_t base, uint64_t pos,
                      uint64_t bytes)
{
    unsigned shift = s->cluster_bits + s->l2_bits;
    uint64_t limit = shift + 22 >= 63 ? INT64_MAX
                     : (uint64_t)QCOW2_MAX_L1_ENTRIES << shift;

    return base <= limit && pos <= limit - base && bytes <= limit - base - pos;
}

int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov)
{
    Qcow2State *s = bs->opaque;
    uint64_t base;
    int ret;

    if (bs->read_only) {
        return -EROFS;
    }
    if (qcow2_has_data_file(s)) {
        return -ENOTSUP; /* its data file ends with the disk */
    }
    co_rwlock_rdlock(&s->map_lock);
    BLKDBG_EVENT(bs->file, BLKDBG_VMSTATE_SAVE);
    base = qcow2_vmstate_offset(s, s->hdr.size);
    if (reachable(s, base, pos, qiov->size)) {
        ret = qcow2_crypto_write_any(s, base + pos, qiov->size, qiov);
    } else {
        ret = -EFBIG;
    }
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

/* Read through the L1 table of the chosen snapshot. */
static int coroutine_fn load_from_view(Qcow2State *s, uint64_t guest_offset,
                                       uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock)
{
    uint64_t done = 0;
    int ret;

    co_mutex_lock(&s->lock);
    ret = s->vm_view.gone ? -ENOENT : 0;
    s->vm_view.loads++;
    co_mutex_unlock(&s->lock);
    while (done < bytes && ret == 0) {
        Qcow2Mapping m;

        co_mutex_lock(&s->lock);
        ret = qcow2_map(s, &s->vm_view.l1, guest_offset + done, bytes - done,
                        &m);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            break;
        }
        if (m.type == QCOW2_CLUSTER_UNALLOCATED) {
            m.type = QCOW2_CLUSTER_ZERO_PLAIN; /* no backing file there */
        }
        ret = qcow2_read_mapping(s, guest_offset + done, &m, qiov, done,
                                 m.bytes);
        done += m.bytes;
    }
    co_mutex_lock(&s->lock);
    if (--s->vm_view.loads == 0) {
        co_queue_restart_all(&s->vm_loads_queue);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov)
{
    Qcow2State *s = bs->opaque;
    const Qcow2VmstateView *v = &s->vm_view;
    uint64_t base;
    int ret;

    co_rwlock_rdlock(&s->map_lock);
    BLKDBG_EVENT(bs->file, BLKDBG_VMSTATE_LOAD);
    base = v->selected ? v->base : qcow2_vmstate_offset(s, s->hdr.size);
    if (!reachable(s, base, pos, qiov->size) ||
        (v->selected && (pos > v->size || qiov->size > v->size - pos))) {
        ret = -EINVAL;
    } else if (v->selected) {
        ret = load_from_view(s, base + pos, qiov->size, qiov);
    } else {
        ret = qcow2_read_range(s, base + pos, qiov->size, qiov, 0);
    }
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static int coroutine_fn select_snapshot(Qcow2State *s, const char *snapshot,
                                        uint64_t *ret_size, GError **errp)
{
    Qcow2VmstateView v = { .selected = true };
    const Qcow2Snapshot *sn;
    int i = qcow2_snapshot_find(s, snapshot);
    int ret;

    if (i < 0) {
        return set_error(errp, -ENOENT, "there is no snapshot '%s'",
                         snapshot);
    }
    sn = g_ptr_array_index(s->snapshots, i);
    v.size = qcow2_snapshot_vm_size(sn);
    v.base = qcow2_vmstate_offset(s, qcow2_snapshot_disk_size(sn,
                                                              s->hdr.size));
    if (!reachable(s, v.base, 0, v.size)) {
        return set_error(errp, -EINVAL, "vmstate of snapshot '%s' is of "
                         "impossible size %" PRIu64, snapshot, v.size);
    }
    ret = qcow2_snapshot_load_l1(s, sn, &v.l1, errp);
    if (ret < 0) {
        return ret;
    }
    v.id = qcow2_snapshot_text(sn->id);
    qcow2_vmstate_view_reset(s);
    s->vm_view = v;
    *ret_size = v.size;
    return 0;
}

int coroutine_fn qcow2_co_vmstate_select(BlockDriverState *bs,
                                         const char *snapshot,
                                         uint64_t *ret_size, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    co_rwlock_wrlock(&s->map_lock);
    if (snapshot) {
        ret = select_snapshot(s, snapshot, ret_size, errp);
    } else {
        qcow2_vmstate_view_reset(s);
        *ret_size = 0;
    }
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

/* ---- dropping it ---- */

int coroutine_fn qcow2_drop_active_vmstate(Qcow2State *s)
{
    return qcow2_drop_l1(s, qcow2_l1_entries_for(s, s->hdr.size), false);
}

/*
 * Clear the L1 entries from @first on | lower what was under them. The
 * clusters are found through a copy of the entries.
 */
int coroutine_fn qcow2_drop_l1(Qcow2State *s, uint64_t first, bool may_stop)
{
    g_autofree uint64_t *old = NULL;
    uint32_t n, used = 0;
    int ret;

    if (first >= s->l1.size) {
        return 0;
    }
    ret = qcow2_sync_metadata(s);
    if (ret < 0) {
        return ret;
    }
    n = s->l1.size - first;
    old = g_try_new(uint64_t, n);
    if (!old) {
        return -ENOMEM;
    }
    memcpy(old, s->l1.entries + first, n * sizeof(uint64_t));
    for (uint32_t i = 0; i < n; i++) {
        if (old[i]) {
            qcow2_table_set(&s->l1, first + i, 0);
            qcow2_cache_discard(s, s->l2_cache, old[i] & QCOW2_OFFSET_MASK,
                                s->cluster_size);
            used++;
        }
    }
    if (!used) {
        return 0;
    }
    ret = qcow2_sync_metadata(s); /* R3 */
    ret = ret < 0 ? ret : qcow2_walk_drop(s, old, n, s->punch_snapshot,
                                          may_stop);
    return ret < 0 ? ret : qcow2_flush_metadata(s);
}

int coroutine_fn qcow2_co_vmstate_discard(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (bs->read_only) {
        return -EROFS;
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = qcow2_check_writable(s);
    ret = ret < 0 ? ret : qcow2_drop_active_vmstate(s);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
