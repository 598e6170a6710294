/* SPDX-License-Identifier: MIT */
/*
 * Turning an image into version 2, which has no zero flag: zero clusters
 * become unallocated where there is no backing file to show, else clusters
 * full of zeroes. Both read as before, so a power cut leaves a version 3 image
 * with fewer zero flags. The header is switched last, by amend.c.
 *
 * First the active layer, through the ordinary write path. A table that it
 * shares with a snapshot is copied by that. So what is left with zero flags
 * belongs to snapshots alone, and is changed in place: every snapshot that
 * shares such a table sees the same cluster, which therefore gets as many
 * references as the table has.
 *
 *   new clusters: refcounts, zeroes | table in place | old clusters lowered
 */
#include "qcow2_int.h"

#include "block/dirty-bitmap_int.h"

#define ZERO_CHUNK (1024 * 1024)

/* ---- active layer ---- */

static int coroutine_fn write_zeroes(Qcow2State *s, uint64_t offset,
                                     uint64_t bytes)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t max = MIN(bytes, ZERO_CHUNK);
    uint8_t *buf = blk_try_memalign(max);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, max);
    }
    co_mutex_unlock(&s->lock);
    for (uint64_t done = 0; done < bytes && ret == 0; done += max) {
        uint64_t n = MIN(bytes - done, max);
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, buf, n);
        ret = qcow2_write_range(s, offset + done, n, &qiov);
    }
    co_mutex_lock(&s->lock);
    free(buf);
    return ret;
}

static bool is_zero(Qcow2Entry e)
{
    Qcow2ClusterType type = qcow2_entry_type(e.desc);

    return type == QCOW2_CLUSTER_ZERO_PLAIN ||
           type == QCOW2_CLUSTER_ZERO_ALLOC;
}

/* Make the zero entries of one slice unallocated. */
static int coroutine_fn clear_slice(Qcow2State *s, uint64_t guest_offset,
                                    uint64_t n)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int ret = qcow2_own_slice(s, guest_offset, &e, &index);

    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);

        if (is_zero(old)) {
            qcow2_free_entry(s, old.desc, s->punch_other); /* R3 */
            qcow2_entry_put(s, e->data, index + i, (Qcow2Entry) { 0 });
        }
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    return 0;
}

/* First zero entry of the slice that @guest_offset begins, of @n; @n: none. */
static int coroutine_fn find_zero(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t n, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    uint64_t i = n;
    int r = qcow2_get_slice(s, &s->l1, guest_offset, &e, &index);

    if (r == 0 && e) {
        for (i = 0; i < n; i++) {
            if (is_zero(qcow2_entry_get(s, e->data, index + i))) {
                break;
            }
        }
        qcow2_cache_put(s, s->l2_cache, e);
    }
    *ret = i;
    return r;
}

static int coroutine_fn clear_active(Qcow2State *s, BdrvProgressFunc *progress,
                                     void *opaque)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t size = qcow2_cluster_ceil(s, s->hdr.size);
    uint64_t end = s->l1.size * qcow2_l1_coverage(s);
    int ret = 0;

    for (uint64_t at = 0; at < end && ret == 0;) {
        uint64_t n = qcow2_slice_left(s, at), i = n;

        ret = aio_check_stop();
        ret = ret < 0 ? ret : find_zero(s, at, n, &i);
        if (ret == 0 && i < n && s->ext.backing_file &&
            at + (i << s->cluster_bits) < size) {
            ret = write_zeroes(s, at + (i << s->cluster_bits),
                               s->cluster_size);
            n = i + 1;
        } else if (ret == 0 && i < n) {
            ret = clear_slice(s, at, n);
        }
        at += n << s->cluster_bits;
        qcow2_relieve(s);
        if (progress) {
            progress(MIN(at, end), end, opaque);
        }
    }
    return ret < 0 ? ret : qcow2_sync_metadata(s);
}

/* ---- snapshots ---- */

/* Encrypted zeroes are written as data. */
static int coroutine_fn write_zero_cluster(Qcow2State *s, uint64_t host)
    REQUIRES(s->lock) DROPS(s->lock)
{
    QEMUIOVector qiov;
    uint8_t *buf;
    int ret;

    if (!s->hdr.crypt_method) {
        return bdrv_co_pwrite_zeroes(s->bs->file, host, s->cluster_size, 0);
    }
    buf = blk_try_memalign(s->cluster_size);
    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, s->cluster_size);
    qemu_iovec_init_buf(&qiov, buf, s->cluster_size);
    co_mutex_unlock(&s->lock);
    ret = qcow2_data_pwritev(s, host, s->cluster_size, &qiov, 0);
    co_mutex_lock(&s->lock);
    free(buf);
    return ret;
}

/* A cluster of zeroes with @refcount references, written but not durable. */
static int coroutine_fn new_zeroes(Qcow2State *s, uint64_t refcount,
                                   uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t n;
    int r = qcow2_alloc_run(s, 1, ret, &n);

    for (uint64_t i = 1; i < refcount && r == 0; i++) {
        r = qcow2_update_refcount(s, *ret, 1, 1, false);
    }
    return r < 0 ? r : write_zero_cluster(s, *ret);
}

/* Change the zero entries in @buf, the table of guest offset @base. *@old gets
 * the clusters to be lowered. */
static int coroutine_fn clear_entries(Qcow2State *s, uint8_t *buf,
                                      uint64_t base, uint64_t size,
                                      uint64_t refcount, GArray *old)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = 0;

    for (uint64_t i = 0; i < 1ULL << s->l2_bits && ret == 0; i++) {
        Qcow2Entry e = qcow2_entry_get(s, buf, i);
        uint64_t host = 0;

        if (!is_zero(e)) {
            continue;
        }
        if (e.desc & QCOW2_OFFSET_MASK) {
            uint64_t was = e.desc & QCOW2_OFFSET_MASK;

            g_array_append_val(old, was);
        }
        if (s->ext.backing_file && base + (i << s->cluster_bits) < size) {
            ret = new_zeroes(s, refcount, &host);
        }
        qcow2_entry_put(s, buf, i, (Qcow2Entry) { .desc = host });
    }
    return ret;
}

static int coroutine_fn replace_table(Qcow2State *s, uint64_t table,
                                      const uint8_t *buf)
    REQUIRES(s->lock)
{
    int ret;

    s->need_barrier = true;
    ret = qcow2_barrier(s); /* R1, R2 */
    ret = ret < 0 ? ret : qcow2_check_overlap(s, QCOW2_OL_ACTIVE_L2, table,
                                              s->cluster_size);
    if (ret < 0) {
        return ret;
    }
    qcow2_cache_discard(s, s->l2_cache, table, s->cluster_size);
    ret = bdrv_co_pwrite(s->bs->file, table, s->cluster_size, buf, 0);
    return ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs); /* R3 */
}

/* One L2 table of a snapshot whose disk has @size bytes. */
static int coroutine_fn clear_table(Qcow2State *s, uint64_t table,
                                    uint64_t base, uint64_t size,
                                    uint8_t *buf)
    REQUIRES(s->lock) DROPS(s->lock)
{
    g_autoptr(GArray) old = g_array_new(false, false, sizeof(uint64_t));
    bool any = false;
    uint64_t refcount;
    int ret;

    if (!IS_ALIGNED(table, s->cluster_size)) {
        return qcow2_corruption(s, "an L2 table is at unaligned host offset "
                                "%#" PRIx64, table);
    }
    ret = bdrv_co_pread(s->bs->file, table, s->cluster_size, buf, 0);
    for (uint64_t i = 0; i < 1ULL << s->l2_bits && ret == 0; i++) {
        any = any || is_zero(qcow2_entry_get(s, buf, i));
    }
    if (ret < 0 || !any) {
        return ret;
    }
    ret = qcow2_get_refcount(s, table, &refcount);
    ret = ret < 0 ? ret : clear_entries(s, buf, base, size, refcount, old);
    ret = ret < 0 ? ret : replace_table(s, table, buf);
    for (guint i = 0; i < old->len && ret == 0; i++) {
        for (uint64_t k = 0; k < refcount && ret == 0; k++) {
            ret = qcow2_update_refcount(s, g_array_index(old, uint64_t, i),
                                        1, -1, s->punch_other);
        }
    }
    return ret;
}

static int coroutine_fn clear_snapshot(Qcow2State *s, const Qcow2Snapshot *sn,
                                       GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t size = qcow2_snapshot_disk_size(sn, s->hdr.size);
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    Qcow2Table l1 = { 0 };
    int ret = -ENOMEM;

    if (buf) {
        ret = qcow2_snapshot_load_l1(s, sn, &l1, errp);
    }
    for (uint32_t i = 0; ret == 0 && i < l1.size; i++) {
        uint64_t table = l1.entries[i] & QCOW2_OFFSET_MASK;

        ret = aio_check_stop();
        if (ret == 0 && table) {
            ret = clear_table(s, table, i * qcow2_l1_coverage(s), size, buf);
        }
    }
    qcow2_table_cleanup(&l1);
    free(buf);
    return ret;
}

/* ---- what stands in the way ---- */

static int check_snapshots(const Qcow2State *s, uint64_t size, GError **errp)
{
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (qcow2_snapshot_vm_size(sn) > UINT32_MAX) {
            return set_error(errp, -ENOTSUP, "a snapshot has more than 4 GiB "
                             "of vmstate, which compat=0.10 cannot have");
        }
        if (qcow2_snapshot_disk_size(sn, s->hdr.size) != size) {
            return set_error(errp, -ENOTSUP, "a snapshot has another disk "
                             "size, which compat=0.10 cannot have");
        }
    }
    return 0;
}

static bool has_bitmaps(const Qcow2State *s)
{
    const GPtrArray *all = s->bs->dirty_bitmaps;
    bool any = s->ext.has_bitmaps;

    for (guint i = 0; all && i < all->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(all, i);

        any = any || bm->persistent;
    }
    return any;
}

int qcow2_check_downgrade(const Qcow2State *s, uint64_t size, unsigned order,
                          GError **errp)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } features[] = {
        { QCOW2_INC_DATA_FILE, "an external data file" },
        { QCOW2_INC_EXTENDED_L2, "extended L2 entries" },
    };

    if (order != 4) {
        return set_error(errp, -ENOTSUP, "compat=0.10 needs refcount_bits=16");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        if (s->hdr.incompatible_features & features[i].bit) {
            return set_error(errp, -ENOTSUP, "the image has %s, which "
                             "compat=0.10 cannot have", features[i].name);
        }
    }
    if (has_bitmaps(s)) {
        return set_error(errp, -ENOTSUP, "the image has persistent bitmaps, "
                         "which compat=0.10 cannot have");
    }
    return check_snapshots(s, size, errp);
}

/* -ENOTSUP: an L2 table of @l1 that is not in @seen has a compressed entry. */
static int coroutine_fn find_compressed(Qcow2State *s, const Qcow2Table *l1,
                                        GHashTable *seen, uint8_t *buf)
    REQUIRES(s->lock)
{
    int ret = 0;

    for (uint32_t i = 0; i < l1->size && ret == 0; i++) {
        uint64_t table = l1->entries[i] & QCOW2_OFFSET_MASK;

        if (!table || !g_hash_table_add(seen, GSIZE_TO_POINTER(table))) {
            continue;
        }
        ret = aio_check_stop();
        ret = ret < 0 ? ret : bdrv_co_pread(s->bs->file, table,
                                            s->cluster_size, buf, 0);
        for (uint64_t k = 0; k < 1ULL << s->l2_bits && ret == 0; k++) {
            Qcow2Entry e = qcow2_entry_get(s, buf, k);

            if (qcow2_entry_type(e.desc) == QCOW2_CLUSTER_COMPRESSED) {
                ret = -ENOTSUP;
            }
        }
    }
    return ret;
}

int coroutine_fn qcow2_check_uncompressed(Qcow2State *s, GError **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret = buf ? qcow2_sync_metadata(s) : -ENOMEM;

    ret = ret < 0 ? ret : find_compressed(s, &s->l1, seen, buf);
    for (guint i = 0; ret == 0 && i < s->snapshots->len; i++) {
        Qcow2Table l1 = { 0 };

        ret = qcow2_snapshot_load_l1(s, g_ptr_array_index(s->snapshots, i),
                                     &l1, errp);
        ret = ret < 0 ? ret : find_compressed(s, &l1, seen, buf);
        qcow2_table_cleanup(&l1);
    }
    free(buf);
    if (ret == -ENOTSUP) {
        return set_error(errp, ret, "the image has clusters compressed with "
                         "zstd, which compat=0.10 cannot have");
    }
    if (ret < 0 && errp && !*errp) {
        set_error(errp, ret, "cannot look for compressed clusters: %s",
                  g_strerror(-ret));
    }
    return ret;
}

int coroutine_fn qcow2_drop_zero_flags(Qcow2State *s,
                                       BdrvProgressFunc *progress,
                                       void *opaque, GError **errp)
{
    int ret = clear_active(s, progress, opaque);

    for (guint i = 0; ret == 0 && i < s->snapshots->len; i++) {
        ret = clear_snapshot(s, g_ptr_array_index(s->snapshots, i), errp);
    }
    ret = ret < 0 ? ret : qcow2_sync_metadata(s);
    if (ret < 0 && errp && !*errp) {
        set_error(errp, ret, "cannot turn zero clusters into others: %s",
                  g_strerror(-ret));
    }
    return ret;
}
