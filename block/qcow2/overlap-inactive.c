/* SPDX-License-Identifier: MIT */
/*
 * The L2 tables of snapshots, for overlap-check=all: a set of their clusters,
 * read from the L1 tables on disk when it is first needed and again after the
 * snapshot table has changed. While nobody asks for this category there is no
 * set.
 *
 * Every change of the snapshot table on disk drops the set; the list in memory
 * follows a little later, and what was read in between knows another number of
 * entries. So both numbers say whether the set is that of today.
 */
#include "qcow2_int.h"

#define MAX_TABLES (1u << 21)
#define WINDOW     (64u * 1024)

struct Qcow2InactiveL2 {
    uint32_t nb_snapshots;      /* as of the time of reading */
    guint nb_loaded;
    GHashTable *clusters;
};

void qcow2_inactive_l2_free(Qcow2InactiveL2 *set)
{
    if (set) {
        g_hash_table_unref(set->clusters);
        g_free(set);
    }
}

static bool is_current(const Qcow2State *s)
{
    const Qcow2InactiveL2 *set = s->inactive_l2;

    return set && set->nb_snapshots == s->hdr.nb_snapshots &&
           set->nb_loaded == s->snapshots->len;
}

static gpointer key_of(const Qcow2State *s, uint64_t offset)
{
    return (gpointer)(uintptr_t)(offset >> s->cluster_bits);
}

/* Add the tables of @n L1 entries in @buf. */
static int add_tables(Qcow2State *s, Qcow2InactiveL2 *set,
                      const uint8_t *buf, uint64_t n, uint64_t file_bytes)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t offset = be64_get(buf + 8 * i) & QCOW2_OFFSET_MASK;

        if (offset && offset < file_bytes) {
            g_hash_table_add(set->clusters, key_of(s, offset));
        }
    }
    return g_hash_table_size(set->clusters) > MAX_TABLES ? -EFBIG : 0;
}

static int coroutine_fn read_l1(Qcow2State *s, Qcow2InactiveL2 *set,
                                const Qcow2Snapshot *sn, uint8_t *buf,
                                uint64_t file_bytes) REQUIRES(s->lock)
{
    uint64_t bytes = (uint64_t)sn->l1_size * 8;
    int ret = 0;

    for (uint64_t pos = 0; pos < bytes && ret == 0; pos += WINDOW) {
        uint64_t n = MIN(bytes - pos, WINDOW);

        ret = bdrv_co_pread(s->bs->file, sn->l1_table_offset + pos, n, buf,
                            0);
        ret = ret < 0 ? ret : add_tables(s, set, buf, n / 8, file_bytes);
    }
    return ret;
}

/* Tables that do not overlap are no larger than the file. */
static int coroutine_fn read_all(Qcow2State *s, Qcow2InactiveL2 *set)
    REQUIRES(s->lock)
{
    uint64_t file_bytes = s->bs->file->bs->total_bytes;
    uint64_t left = qcow2_cluster_ceil(s, file_bytes);
    uint8_t *buf = blk_try_memalign(WINDOW);
    int ret = buf ? 0 : -ENOMEM;

    for (guint i = 0; i < s->snapshots->len && ret == 0; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
        uint64_t bytes = (uint64_t)sn->l1_size * 8;

        if (sn->l1_table_offset >= file_bytes || bytes > left) {
            ret = qcow2_corruption(s, "L1 tables of snapshots overlap or lie "
                                   "past the end of the file");
        } else {
            left -= bytes;
            ret = read_l1(s, set, sn, buf, file_bytes);
        }
    }
    free(buf);
    return ret;
}

int coroutine_fn qcow2_inactive_l2_at(Qcow2State *s, uint64_t offset,
                                      bool *ret)
{
    Qcow2InactiveL2 *set;
    int r;

    if (!is_current(s)) {
        qcow2_inactive_l2_free(s->inactive_l2);
        s->inactive_l2 = NULL;
        set = g_new0(Qcow2InactiveL2, 1);
        set->clusters = g_hash_table_new(NULL, NULL);
        r = read_all(s, set);
        if (r < 0) {
            qcow2_inactive_l2_free(set);
            return r;
        }
        set->nb_snapshots = s->hdr.nb_snapshots;
        set->nb_loaded = s->snapshots->len;
        s->inactive_l2 = set;
    }
    *ret = g_hash_table_contains(s->inactive_l2->clusters,
                                 key_of(s, offset));
    return 0;
}
