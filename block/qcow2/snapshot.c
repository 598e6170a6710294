/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots: create, apply ("goto"), delete, list.
 *
 * The moment that counts is one sector write of the header; everything before
 * it only adds references and everything after it only removes them ("|" is a
 * flush):
 *
 *   create  copy of L1, +1 on all paths, COPIED cleared in the active layer,
 *           new snapshot table | HEADER | old table freed; vmstate dropped
 *   apply   +1 on all paths, new L1 with COPIED clear | HEADER (size and L1) |
 *           -1 under the old L1
 *   delete  new snapshot table | HEADER | -1 under the snapshot's L1; COPIED
 *           set where one reference is left
 *
 * So (R1, R4) hold before it, (R3) after it, and (R6) because no COPIED flag
 * is durable when a second path becomes durable. Before the header is written
 * a failure is undone; later it leaves leaks. Asked to stop, all three do so
 * while they change refcounts, with the same outcome; what is to be done about
 * COPIED flags then, or was begun, is done, since a check counts flags that do
 * not go with their refcounts as errors.
 *
 * Refcounts that would overflow or are impossible are found by a scan before
 * anything is changed. Compressed clusters are counted like all others.
 *
 * Create and apply hold map_lock exclusively (K4). Delete changes nothing that
 * a guest can see and holds it shared, so guests go on all the time: the
 * snapshot's own tables are shared, so nobody writes them while they are
 * counted; behind the header they are ours alone; refcounts change block by
 * block and COPIED flags slice by slice under s->lock.
 *
 * Apply leaves the vmstate of the snapshot out of the active layer: it is read
 * through vmstate.c, and would only be copied by the next create.
 */
#include "qcow2_int.h"

#include "block/dirty-bitmap_int.h"
#include "util/plant.h"

int coroutine_fn qcow2_co_snapshot_list(BlockDriverState *bs,
                                        GPtrArray **ret)
{
    Qcow2State *s = bs->opaque;
    GPtrArray *list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)bdrv_snapshot_info_free);

    co_rwlock_rdlock(&s->map_lock);
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
        BdrvSnapshotInfo *info = bdrv_snapshot_info_new();

        info->id = qcow2_snapshot_text(sn->id);
        info->name = qcow2_snapshot_text(sn->name);
        info->vm_state_size = qcow2_snapshot_vm_size(sn);
        info->disk_size = qcow2_snapshot_disk_size(sn, s->hdr.size);
        info->date_sec = sn->date_sec;
        info->date_nsec = sn->date_nsec;
        info->vm_clock_nsec = sn->vm_clock_nsec;
        info->icount = qcow2_snapshot_icount(sn);
        g_ptr_array_add(list, info);
    }
    co_rwlock_unlock(&s->map_lock);
    *ret = list;
    return 0;
}

/* ---- pieces ---- */

int coroutine_fn qcow2_snapshot_load_l1(Qcow2State *s,
                                        const Qcow2Snapshot *sn,
                                        Qcow2Table *ret, GError **errp)
{
    int64_t file_bytes = bdrv_co_getlength(s->bs->file->bs);
    Qcow2Table t;
    int r;

    if (file_bytes < 0) {
        return set_error(errp, file_bytes, "cannot get the file length: %s",
                         g_strerror(-file_bytes));
    }
    if (sn->l1_size > QCOW2_MAX_L1_ENTRIES ||
        !IS_ALIGNED(sn->l1_table_offset, s->cluster_size) ||
        sn->l1_table_offset >= QCOW2_MAX_HOST_OFFSET ||
        (sn->l1_size && sn->l1_table_offset + (uint64_t)sn->l1_size * 8 >
         ROUND_UP((uint64_t)file_bytes, s->cluster_size))) {
        return set_error(errp, -EINVAL, "L1 table of the snapshot is "
                         "unaligned, too large or past the end of the file");
    }
    r = qcow2_table_init(&t, sn->l1_table_offset, sn->l1_size);
    if (r == 0) {
        r = qcow2_table_load(s, &t);
        if (r < 0) {
            qcow2_table_cleanup(&t);
        }
    }
    if (r < 0) {
        return set_error(errp, r, "cannot load the L1 table of the snapshot: "
                         "%s", g_strerror(-r));
    }
    *ret = t;
    return 0;
}

static uint64_t table_clusters(const Qcow2State *s, uint32_t entries)
{
    return DIV_ROUND_UP((uint64_t)entries * 8, s->cluster_size);
}

/* Take clusters for an L1 table of @n entries; 0 entries need none. */
static int coroutine_fn alloc_l1(Qcow2State *s, uint32_t n, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    *ret = 0;
    return n ? qcow2_alloc_contiguous(s, table_clusters(s, n), ret) : 0;
}

/* Write @buf as a snapshot table to new clusters and make it durable. */
static int coroutine_fn write_table(Qcow2State *s, const GByteArray *buf,
                                    uint64_t *ret_offset, uint64_t *ret_nb)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb = DIV_ROUND_UP(buf->len, s->cluster_size);
    uint64_t offset = 0;
    int ret;

    if (nb) {
        ret = qcow2_alloc_contiguous(s, nb, &offset);
        if (ret < 0) {
            return ret;
        }
        ret = qcow2_check_overlap(s, 0, offset, buf->len);
        BLKDBG_EVENT(s->bs->file, BLKDBG_SNAPSHOT_TABLE_WRITE);
        if (ret == 0 && !PLANTED(Q_SNAPSHOT_HEADER_FIRST)) {
            ret = bdrv_co_pwrite(s->bs->file, offset, buf->len, buf->data, 0);
        }
        s->need_barrier = true;
        ret = ret < 0 ? ret : qcow2_barrier(s); /* R1, R4 */
        if (ret < 0) {
            qcow2_unalloc(s, offset, nb);
            return ret;
        }
    }
    *ret_offset = offset;
    *ret_nb = nb;
    return 0;
}

/* Make @list the snapshot table on disk. Undone on failure. */
static int coroutine_fn store_table(Qcow2State *s, GPtrArray *list)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autoptr(GByteArray) buf = g_byte_array_new();
    Qcow2Header old = s->hdr, h;
    uint64_t offset, nb;
    int ret;

    ret = qcow2_snaptable_encode(list, s->hdr.size, buf);
    ret = ret < 0 ? ret : write_table(s, buf, &offset, &nb);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_SNAPSHOT_TABLE_SWITCH);
    h = s->hdr;
    h.nb_snapshots = list->len;
    h.snapshots_offset = offset;
    ret = qcow2_header_update(s, &h);
    if (ret == 0 && PLANTED(Q_SNAPSHOT_HEADER_FIRST) && nb) {
        ret = bdrv_co_pwrite(s->bs->file, offset, buf->len, buf->data, 0);
    }
    if (ret < 0) {
        if (nb && !s->corrupt) {
            qcow2_unalloc(s, offset, nb);
        }
        return ret;
    }
    if (old.nb_snapshots) {
        qcow2_defer_free(s, old.snapshots_offset,
                         DIV_ROUND_UP(s->snaptable_bytes, s->cluster_size),
                         s->punch_other); /* R3 */
    }
    s->snaptable_bytes = buf->len;
    /* Another table may come to lie at the same place one day. */
    g_clear_pointer(&s->inactive_l2, qcow2_inactive_l2_free);
    return 0;
}

int coroutine_fn qcow2_snapshot_rewrite_table(Qcow2State *s)
{
    return store_table(s, s->snapshots);
}

/* A new list with the same entries, not owning them. */
static GPtrArray *borrow_list(const Qcow2State *s)
{
    GPtrArray *list = g_ptr_array_sized_new(s->snapshots->len + 1);

    for (guint i = 0; i < s->snapshots->len; i++) {
        g_ptr_array_add(list, g_ptr_array_index(s->snapshots, i));
    }
    return list;
}

static int say(GError **errp, int ret, const char *what, const char *name,
               const Qcow2State *s)
{
    if (ret == -ERANGE) {
        return set_error(errp, ret, "cannot %s snapshot '%s': a refcount "
                         "would exceed %" PRIu64, what, name,
                         s->refcount_max);
    }
    return set_error(errp, ret, "cannot %s snapshot '%s': %s", what, name,
                     s->corrupt_reason ? s->corrupt_reason
                                       : g_strerror(-ret));
}

/* Clusters of an external data file have no refcounts. */
static int check_data_file(const Qcow2State *s, GError **errp)
{
    return qcow2_has_data_file(s)
           ? set_error(errp, -ENOTSUP, "an image with an external data file "
                       "cannot have internal snapshots") : 0;
}

/* ---- delete ---- */

/* Nobody may read what the snapshot alone refers to from now on. */
static void coroutine_fn end_loads(Qcow2State *s, const Qcow2Snapshot *sn)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autofree char *id = qcow2_snapshot_text(sn->id);

    if (!s->vm_view.selected || g_strcmp0(s->vm_view.id, id)) {
        return;
    }
    s->vm_view.gone = true;
    while (s->vm_view.loads) {
        co_queue_wait(&s->vm_loads_queue, &s->lock);
    }
}

/* What is left to do when the snapshot is out of the table on disk. */
static int coroutine_fn drop_references(Qcow2State *s, Qcow2Walk *w,
                                        const Qcow2Table *l1, bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret, ret2;

    ret = qcow2_walk_apply(s, w, -1, s->punch_snapshot, may_stop);
    if (ret == 0 && l1->size) {
        ret = qcow2_update_refcount(s, l1->offset,
                                    table_clusters(s, l1->size), -1,
                                    s->punch_snapshot);
    }
    ret = ret == -ECANCELED ? 0 : ret; /* the rest leaks */
    ret2 = qcow2_walk_set_copied(s, w);
    ret = ret < 0 ? ret : ret2;
    ret2 = qcow2_flush_metadata(s);
    return ret < 0 ? ret : ret2;
}

/* Delete @sn, whose L1 table is @l1. @may_stop: not when asked to stop. */
static int coroutine_fn delete_snapshot(Qcow2State *s, Qcow2Snapshot *sn,
                                        const Qcow2Table *l1, bool may_stop,
                                        GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autofree char *name = qcow2_snapshot_text(sn->name);
    g_autoptr(GPtrArray) list = borrow_list(s);
    Qcow2Walk *w = qcow2_walk_new(s, l1->entries, l1->size);
    int ret = w ? 0 : -ENOMEM;

    g_ptr_array_remove(list, sn);
    ret = ret < 0 ? ret : qcow2_walk_check(s, w, -1, may_stop);
    if (ret == 0 && may_stop) {
        ret = aio_check_stop(); /* the last that changes nothing */
    }
    ret = ret < 0 ? ret : store_table(s, list);
    if (ret < 0) {
        say(errp, ret, "delete", name, s);
    } else {
        end_loads(s, sn);
        g_ptr_array_remove(s->snapshots, sn);
        qcow2_snapindex_reset(s);
        ret = drop_references(s, w, l1, may_stop);
        if (ret < 0) {
            say(errp, ret, "finish deleting", name, s);
        }
    }
    qcow2_walk_free(w);
    return ret;
}

static int coroutine_fn delete_at(Qcow2State *s, guint i, bool may_stop,
                                  GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
    Qcow2Table l1;
    int ret;

    ret = qcow2_snapshot_load_l1(s, sn, &l1, errp);
    if (ret == 0) {
        ret = delete_snapshot(s, sn, &l1, may_stop, errp);
        qcow2_table_cleanup(&l1);
    }
    return ret;
}

int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs,
                                          const char *id, const char *name,
                                          GError **errp)
{
    Qcow2State *s = bs->opaque;
    int i, ret;

    ret = check_data_file(s, errp);
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->delete_lock);
    co_rwlock_rdlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    i = qcow2_snapshot_find_both(s, id, name);
    if (i < 0) {
        ret = set_error(errp, -ENOENT, "there is no snapshot '%s'",
                        name ? name : id);
    } else {
        ret = delete_at(s, i, true, errp);
    }
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    co_mutex_unlock(&s->delete_lock);
    return ret;
}

/* ---- create ---- */

static Qcow2Snapshot *new_snapshot(const Qcow2State *s,
                                   const BdrvSnapshotInfo *info)
{
    Qcow2Snapshot *sn = g_new0(Qcow2Snapshot, 1);
    uint64_t vm_size = info->vm_state_size;

    sn->l1_size = s->l1.size;
    sn->id = g_bytes_new(info->id, strlen(info->id));
    sn->name = g_bytes_new(info->name, strlen(info->name));
    sn->date_sec = info->date_sec;
    sn->date_nsec = info->date_nsec;
    sn->vm_clock_nsec = info->vm_clock_nsec;
    sn->vm_state_size32 = vm_size <= UINT32_MAX ? vm_size : 0;
    sn->extra = g_byte_array_new();
    g_byte_array_set_size(sn->extra, 24);
    be64_put(sn->extra->data, vm_size);
    be64_put(sn->extra->data + 8, s->hdr.size);
    be64_put(sn->extra->data + 16, info->icount);
    return sn;
}

/* Copy the L1 table, COPIED clear, for the snapshot. The caller flushes. */
static int coroutine_fn copy_l1(Qcow2State *s, Qcow2Snapshot *sn)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autofree uint64_t *copy = g_try_new(uint64_t, s->l1.size + 1);
    uint64_t offset;
    int ret;

    if (!copy) {
        return -ENOMEM;
    }
    ret = alloc_l1(s, s->l1.size, &offset);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < s->l1.size; i++) {
        copy[i] = s->l1.entries[i] & QCOW2_OFFSET_MASK;
    }
    ret = qcow2_table_write_new(s, offset, copy, s->l1.size,
                                BLKDBG_L1_UPDATE);
    if (ret < 0) {
        qcow2_unalloc(s, offset, table_clusters(s, s->l1.size));
        return ret;
    }
    sn->l1_table_offset = offset;
    return 0;
}

/* R6: no COPIED flag in the active layer, before the next flush. */
static int coroutine_fn clear_active_copied(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_walk_clear_copied(s, w);

    for (uint32_t i = 0; i < s->l1.size && ret == 0; i++) {
        if (s->l1.entries[i] & QCOW2_COPIED) {
            qcow2_table_set(&s->l1, i, s->l1.entries[i] & ~QCOW2_COPIED);
        }
    }
    /* Flags only: nothing that a barrier would have to wait for. */
    return ret < 0 ? ret : qcow2_table_write(s, &s->l1, QCOW2_OL_ACTIVE_L1,
                                             BLKDBG_L1_UPDATE);
}

/* Everything up to the header. Undone on failure. */
static int coroutine_fn create_store(Qcow2State *s, Qcow2Snapshot *sn,
                                     Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autoptr(GPtrArray) list = borrow_list(s);
    int ret;

    g_ptr_array_add(list, sn);
    ret = copy_l1(s, sn);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_walk_apply(s, w, 1, false, true);
    if (ret == 0) {
        ret = clear_active_copied(s, w);
        ret = ret < 0 ? ret : store_table(s, list); /* R1, R6 */
        if (ret < 0 && !s->corrupt) {
            (void)qcow2_walk_apply(s, w, -1, false, false);
            (void)qcow2_walk_set_copied(s, w);
            (void)qcow2_sync_metadata(s);
        }
    }
    if (ret < 0 && !s->corrupt) {
        qcow2_unalloc(s, sn->l1_table_offset, table_clusters(s, sn->l1_size));
    }
    return ret;
}

static int coroutine_fn create_counted(Qcow2State *s,
                                       const BdrvSnapshotInfo *info,
                                       Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Snapshot *sn;
    int ret;

    ret = qcow2_walk_check(s, w, 1, true);
    if (ret < 0) {
        return ret;
    }
    sn = new_snapshot(s, info);
    ret = create_store(s, sn, w);
    if (ret < 0) {
        qcow2_snapshot_free(sn);
        return ret;
    }
    g_ptr_array_add(s->snapshots, sn);
    qcow2_snapindex_added(s);
    for (uint64_t o = 0; o < (uint64_t)sn->l1_size * 8; o += s->cluster_size) {
        qcow2_filter_add(s, sn->l1_table_offset + o);
    }
    if (!PLANTED(S4_VMSTATE_LEFT_ACTIVE)) {
        ret = qcow2_drop_active_vmstate(s);
    }
    ret = ret < 0 ? ret : qcow2_flush_metadata(s);
    if (ret < 0 && !s->corrupt) {
        (void)delete_at(s, s->snapshots->len - 1, false, NULL);
    }
    return ret;
}

static int coroutine_fn create_locked(Qcow2State *s,
                                      const BdrvSnapshotInfo *info)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Walk *w;
    int ret;

    ret = qcow2_flush_metadata(s); /* the walk reads what is on disk */
    if (ret == 0 && !info->vm_state_size) {
        ret = qcow2_drop_active_vmstate(s); /* of a save that failed */
    }
    if (ret < 0) {
        return ret;
    }
    w = qcow2_walk_new(s, s->l1.entries, s->l1.size);
    ret = w ? create_counted(s, info, w) : -ENOMEM;
    qcow2_walk_free(w);
    return ret;
}

static int check_create(Qcow2State *s, BdrvSnapshotInfo *info, GError **errp)
{
    if (s->snapshots->len >= QCOW2_MAX_SNAPSHOTS) {
        return set_error(errp, -EFBIG, "the image has %u snapshots already",
                         s->snapshots->len);
    }
    if (!info->name || strlen(info->name) > 255) {
        return set_error(errp, -EINVAL, "a snapshot name has up to 255 "
                         "bytes");
    }
    if (info->id && (strlen(info->id) > 255 ||
                     qcow2_snapshot_find_both(s, info->id, NULL) >= 0)) {
        return set_error(errp, -EEXIST, "snapshot id '%s' is taken",
                         info->id);
    }
    return 0;
}

int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs,
                                          BdrvSnapshotInfo *info,
                                          GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    ret = check_data_file(s, errp);
    if (ret < 0) {
        return ret;
    }
    if (bs->vmstate) {
        return set_error(errp, -EBUSY, "machine state is being saved or "
                         "loaded");
    }
    /*
     * What was saved goes to disk before refcounts do: a process that is
     * killed while this takes its time leaves nothing that leaks.
     */
    ret = bdrv_co_flush(bs->file->bs);
    if (ret < 0) {
        return say(errp, ret, "create", info->name, s);
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = check_create(s, info, errp);
    if (ret == 0) {
        if (!info->id) {
            info->id = qcow2_snapshot_next_id(s);
        }
        info->disk_size = s->hdr.size;
        ret = create_locked(s, info);
        if (ret < 0) {
            say(errp, ret, "create", info->name, s);
        }
    }
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

/* ---- apply ---- */

/* The L1 table that the active layer will have: no vmstate, no COPIED. */
static int coroutine_fn prepare_l1(Qcow2State *s, const Qcow2Snapshot *sn,
                                   uint64_t disk_size, Qcow2Table *ret,
                                   GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t n = qcow2_l1_entries_for(s, disk_size);
    Qcow2Table old, t;
    int r;

    if (n > QCOW2_MAX_L1_ENTRIES || disk_size > BDRV_MAX_LENGTH) {
        return set_error(errp, -EFBIG, "disk size %" PRIu64 " of the "
                         "snapshot is too large", disk_size);
    }
    r = qcow2_snapshot_load_l1(s, sn, &old, errp);
    if (r < 0) {
        return r;
    }
    r = qcow2_table_init(&t, 0, n);
    if (r == 0) {
        for (uint32_t i = 0; i < MIN(n, old.size); i++) {
            t.entries[i] = old.entries[i] & QCOW2_OFFSET_MASK; /* R6 */
        }
        *ret = t;
    } else {
        set_error(errp, r, "no memory for an L1 table");
    }
    qcow2_table_cleanup(&old);
    return r;
}

/* References, then table and header. */
static int coroutine_fn switch_l1(Qcow2State *s, Qcow2Walk *w, Qcow2Table *t,
                                  uint64_t disk_size)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Header h;
    int ret;

    ret = qcow2_walk_apply(s, w, 1, false, true);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_walk_clear_copied(s, w); /* R6; a snapshot has none */
    ret = ret < 0 ? ret : qcow2_table_write_new(s, t->offset, t->entries,
                                                t->size, BLKDBG_L1_UPDATE);
    s->need_barrier = true;
    ret = ret < 0 ? ret : qcow2_barrier(s); /* R1, R4 */
    h = s->hdr;
    h.size = disk_size;
    h.l1_size = t->size;
    h.l1_table_offset = t->offset;
    ret = ret < 0 ? ret : qcow2_header_update(s, &h);
    if (ret < 0 && !s->corrupt) {
        (void)qcow2_walk_apply(s, w, -1, false, false);
    }
    return ret;
}

/* Up to the header; undone on failure. */
static int coroutine_fn adopt_l1(Qcow2State *s, Qcow2Table *t,
                                 uint64_t disk_size)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Walk *w = qcow2_walk_new(s, t->entries, t->size);
    int ret = w ? 0 : -ENOMEM;

    ret = ret < 0 ? ret : qcow2_walk_check(s, w, 1, true);
    ret = ret < 0 ? ret : alloc_l1(s, t->size, &t->offset);
    if (ret == 0) {
        ret = switch_l1(s, w, t, disk_size);
        if (ret < 0 && !s->corrupt) {
            qcow2_unalloc(s, t->offset, table_clusters(s, t->size));
            (void)qcow2_sync_metadata(s);
        }
    }
    qcow2_walk_free(w);
    return ret;
}

/* Every cluster of the new active layer has the snapshot's reference too, so
 * COPIED is right: clear. Asked to stop, what was there leaks. */
static int coroutine_fn drop_old_l1(Qcow2State *s, const Qcow2Table *old)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_walk_drop(s, old->entries, old->size, s->punch_snapshot,
                              true);

    if (ret == 0 && old->size) {
        ret = qcow2_update_refcount(s, old->offset,
                                    table_clusters(s, old->size), -1,
                                    s->punch_other);
    }
    return ret == -ECANCELED ? 0 : ret;
}

static int coroutine_fn apply(Qcow2State *s, const Qcow2Snapshot *sn,
                              const char *name, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t disk_size = qcow2_snapshot_disk_size(sn, s->hdr.size);
    Qcow2Table t, old;
    int ret, ret2;

    if (s->hdr.version < 3 && disk_size != s->hdr.size) {
        return set_error(errp, -ENOTSUP, "cannot apply snapshot '%s': its "
                         "disk size differs, which version 2 images cannot "
                         "express", name);
    }
    ret = bdrv_bitmaps_check_resize(s->bs, disk_size, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_sync_metadata(s);
    if (ret < 0) {
        return say(errp, ret, "apply", name, s);
    }
    ret = prepare_l1(s, sn, disk_size, &t, errp);
    if (ret < 0) {
        return ret;
    }
    ret = adopt_l1(s, &t, disk_size);
    if (ret < 0) {
        qcow2_table_cleanup(&t);
        return say(errp, ret, "apply", name, s);
    }
    old = s->l1;
    s->l1 = t;
    s->bs->total_bytes = ROUND_DOWN(disk_size, (uint64_t)QCOW2_SECTOR);
    ret = qcow2_filter_rebuild(s);
    ret2 = drop_old_l1(s, &old);
    ret = ret < 0 ? ret : ret2;
    ret2 = qcow2_sync_metadata(s);
    ret = ret < 0 ? ret : ret2;
    qcow2_table_cleanup(&old);
    return ret < 0 ? say(errp, ret, "finish applying", name, s) : 0;
}

int coroutine_fn qcow2_co_snapshot_goto(BlockDriverState *bs,
                                        const char *id_or_name,
                                        GError **errp)
{
    Qcow2State *s = bs->opaque;
    int i, ret;

    ret = check_data_file(s, errp);
    if (ret < 0) {
        return ret;
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    i = qcow2_snapshot_find(s, id_or_name);
    if (i < 0) {
        ret = set_error(errp, -ENOENT, "there is no snapshot '%s'",
                        id_or_name);
    } else {
        ret = apply(s, g_ptr_array_index(s->snapshots, i), id_or_name, errp);
    }
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
