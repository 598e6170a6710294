/* SPDX-License-Identifier: MIT */
/*
 * Comparing what was counted with what is stored: the refcount of each cluster
 * inside the file, and the COPIED flags of the active layer.
 */
#include "check_int.h"

/* ---- refcounts ---- */

bool coroutine_fn qcow2_check_load_block(Qcow2Check *c, uint64_t index,
                                         uint8_t *buf)
{
    const Qcow2State *s = c->s;
    uint64_t offset;
    int ret;

    if (index >= s->reftable.size) {
        return false;
    }
    offset = s->reftable.entries[index] & QCOW2_REFBLOCK_MASK;
    if (!offset || !IS_ALIGNED(offset, s->cluster_size) ||
        offset >= c->file_bytes) {
        return false;
    }
    ret = bdrv_co_pread(s->bs->file, offset, s->cluster_size, buf, 0);
    if (ret < 0) {
        qcow2_check_failed(c, "refcount block %" PRIu64 " cannot be read: "
                           "%s", index, g_strerror(-ret));
        c->blind = true;
        return false;
    }
    return true;
}

/* @stored is 0 without a block. */
static int compare_cluster(Qcow2Check *c, uint64_t cluster, uint64_t stored)
{
    uint64_t refs = qcow2_counts_get(c->counts, cluster);

    if (stored || refs) {
        c->highest = cluster + 1;
    }
    if (stored > refs) {
        qcow2_check_leak(c, "cluster %" PRIu64 " is leaked: refcount %"
                         PRIu64 ", references %" PRIu64, cluster, stored,
                         refs);
    } else if (stored < refs) {
        qcow2_check_corruption(c, 1, "cluster %" PRIu64 ": refcount %" PRIu64
                               " is below its %" PRIu64 " references",
                               cluster, stored, refs);
        c->too_low++;
    }
    return stored == 1 ? qcow2_counts_set_flag(c->counts, cluster) : 0;
}

int coroutine_fn qcow2_check_compare(Qcow2Check *c)
{
    const Qcow2State *s = c->s;
    uint64_t per_block = 1ULL << s->refblock_bits;
    int ret = 0;

    for (uint64_t i = 0; i < c->nb_clusters && ret == 0;
         i = ROUND_DOWN(i, per_block) + per_block) {
        uint64_t end = MIN(i + per_block, c->nb_clusters);
        bool stored;

        ret = aio_check_stop();
        if (ret < 0) {
            break;
        }
        stored = qcow2_check_load_block(c, i >> s->refblock_bits, c->buf);
        for (uint64_t k = i; k < end && ret == 0; k++) {
            if (!stored) {
                k = qcow2_counts_skip(c->counts, k);
                c->rebuild |= k < end && qcow2_counts_get(c->counts, k);
            }
            if (k < end) {
                ret = compare_cluster(c, k, !stored ? 0 :
                                      qcow2_refblock_get(c->buf,
                                                         s->refcount_order,
                                                         k - i));
            }
        }
    }
    return ret;
}

/* ---- COPIED ---- */

/* The stored refcount of a cluster behind the end of the file; 0 when there is
 * none. */
static uint64_t coroutine_fn refcount_behind(Qcow2Check *c, uint64_t cluster)
{
    const Qcow2State *s = c->s;
    uint64_t index = cluster >> s->refblock_bits;
    uint64_t bit = (cluster & ((1ULL << s->refblock_bits) - 1))
                   << s->refcount_order;
    uint64_t offset = ROUND_DOWN(bit / 8, 8);
    uint8_t buf[8];

    if (index >= s->reftable.size || !s->reftable.entries[index]) {
        return 0;
    }
    offset += s->reftable.entries[index] & QCOW2_REFBLOCK_MASK;
    if (offset >= c->file_bytes ||
        bdrv_co_pread(s->bs->file, offset, sizeof(buf), buf, 0) < 0) {
        return 0;
    }
    return qcow2_refblock_get(buf, s->refcount_order,
                              bit % 64 >> s->refcount_order);
}

/* Does the flag of @entry agree with the refcount at @offset? */
static bool coroutine_fn flag_agrees(Qcow2Check *c, uint64_t entry,
                                     uint64_t offset)
{
    uint64_t cluster = offset >> c->s->cluster_bits;
    bool single = cluster < c->nb_clusters
                  ? qcow2_counts_flag(c->counts, cluster)
                  : refcount_behind(c, cluster) == 1;

    return single == ((entry & QCOW2_COPIED) != 0);
}

/* The table in c->buf, which @active L1 entries refer to. */
static void coroutine_fn check_l2_flags(Qcow2Check *c, uint64_t active)
{
    const Qcow2State *s = c->s;
    bool external = s->data_file != s->bs->file;

    for (uint64_t i = 0; i < 1ULL << s->l2_bits; i++) {
        uint64_t desc = qcow2_entry_get(s, c->buf, i).desc;
        uint64_t offset = desc & QCOW2_OFFSET_MASK;

        if ((desc & QCOW2_COMPRESSED) || !offset) {
            continue;
        }
        if (external ? !(desc & QCOW2_COPIED)
                     : !flag_agrees(c, desc, offset)) {
            qcow2_check_corruption(c, active, "data cluster at %#" PRIx64
                                   ": its COPIED flag does not agree with "
                                   "its refcount", offset);
            c->copied_wrong += active;
        }
    }
}

int coroutine_fn qcow2_check_copied(Qcow2Check *c)
{
    const Qcow2State *s = c->s;

    for (uint32_t i = 0; i < s->l1.size; i++) {
        uint64_t entry = s->l1.entries[i];
        uint64_t offset = entry & QCOW2_OFFSET_MASK;
        Qcow2CheckL2 *l2;
        int err = aio_check_stop();

        if (err < 0) {
            return err;
        }
        if (!offset) {
            continue;
        }
        if (!flag_agrees(c, entry, offset)) {
            qcow2_check_corruption(c, 1, "L2 table at %#" PRIx64 ": its "
                                   "COPIED flag does not agree with its "
                                   "refcount", offset);
            c->copied_wrong++;
        }
        l2 = g_hash_table_lookup(c->l2_tables, &offset);
        if (l2->flags_done || offset >= c->file_bytes ||
            !IS_ALIGNED(offset, s->cluster_size)) {
            continue;
        }
        l2->flags_done = true;
        err = bdrv_co_pread(s->bs->file, offset, s->cluster_size, c->buf, 0);
        if (err < 0) {
            continue; /* reported when it was counted */
        }
        check_l2_flags(c, l2->active);
    }
    return 0;
}
