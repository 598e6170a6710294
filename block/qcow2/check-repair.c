/* SPDX-License-Identifier: MIT */
/*
 * Repairing what a pass has found, one kind after the other. Each step starts
 * from a pass of its own, so that none builds on what another has changed.
 *
 * Order on disk. What was written before is flushed first: a reference that is
 * gone may not be gone durably (R3). Then
 *
 *   entries that read zero lose an impossible host offset |
 *   refcounts are raised (or all rebuilt, check-rebuild.c) |
 *   refcounts are lowered | COPIED flags | snapshot table | inc.0 and inc.1
 *
 * "|" is a flush. Cut off anywhere, the image has the damage that it had, or
 * part of it; inc.0 stays until nothing is left.
 *
 * What is not done: clusters are not freed while c->blind; tables whose
 * clusters are in use for something else are not written.
 */
#include "check_int.h"

/* ---- writing ---- */

/* Write those sectors of a cluster at @offset that differ from @old. */
static int coroutine_fn write_changes(Qcow2Check *c, uint64_t offset,
                                      const uint8_t *old, const uint8_t *new)
{
    uint64_t n = c->s->cluster_size, from = 0;
    int ret = 0;

    while (from < n && ret == 0) {
        uint64_t to = from;

        while (to < n && memcmp(old + to, new + to, QCOW2_SECTOR)) {
            to += QCOW2_SECTOR;
        }
        if (to > from) {
            ret = bdrv_co_pwrite(c->s->bs->file, offset + from, to - from,
                                 new + from, 0);
        }
        from = to + QCOW2_SECTOR;
    }
    return ret;
}

static int coroutine_fn flush(Qcow2Check *c)
{
    return bdrv_co_flush(c->s->bs->file->bs);
}

/* Is the table at @offset nothing else? */
static bool is_only(const Qcow2Check *c, uint64_t offset, uint64_t paths)
{
    return IS_ALIGNED(offset, c->s->cluster_size) &&
           offset < c->file_bytes &&
           qcow2_counts_get(c->counts, offset >> c->s->cluster_bits) == paths;
}

/* ---- L2 tables ---- */

/* Change the entries of the table in @buf. */
typedef void L2ChangeFunc(Qcow2Check *c, uint8_t *buf);

static int coroutine_fn change_l2(Qcow2Check *c, const Qcow2CheckL2 *l2,
                                  uint8_t *scratch, L2ChangeFunc *fn)
{
    uint64_t cs = c->s->cluster_size;
    int ret;

    if (!is_only(c, l2->offset, l2->paths)) {
        return 0;
    }
    ret = bdrv_co_pread(c->s->bs->file, l2->offset, cs, c->buf, 0);
    if (ret < 0) {
        return 0; /* reported by the pass */
    }
    memcpy(scratch, c->buf, cs);
    fn(c, scratch);
    return write_changes(c, l2->offset, c->buf, scratch);
}

/* An entry that reads zero needs no host cluster. */
static void drop_bad_offsets(Qcow2Check *c, uint8_t *buf)
{
    const Qcow2State *s = c->s;

    for (uint64_t i = 0; i < 1ULL << s->l2_bits; i++) {
        Qcow2Entry e = qcow2_entry_get(s, buf, i);

        if (!(e.desc & QCOW2_COMPRESSED) && qcow2_check_reads_zero(s, e) &&
            !qcow2_check_offset_ok(c, e.desc & QCOW2_OFFSET_MASK)) {
            e.desc &= ~(QCOW2_OFFSET_MASK | QCOW2_COPIED);
            qcow2_entry_put(s, buf, i, e);
        }
    }
}

int coroutine_fn qcow2_repair_zeroes(Qcow2Check *c)
{
    g_autofree uint8_t *scratch = g_try_malloc(c->s->cluster_size);
    GHashTableIter it;
    gpointer l2;
    int ret = scratch ? 0 : -ENOMEM;

    g_hash_table_iter_init(&it, c->l2_tables);
    while (ret == 0 && g_hash_table_iter_next(&it, &l2, NULL)) {
        ret = aio_check_stop();
        ret = ret < 0 ? ret : change_l2(c, l2, scratch, drop_bad_offsets);
    }
    return ret < 0 ? ret : flush(c);
}

/* ---- COPIED ---- */

/* What COPIED should be; R6. */
static uint64_t wanted_flag(const Qcow2Check *c, uint64_t offset)
{
    uint64_t cluster = offset >> c->s->cluster_bits;

    return qcow2_counts_get(c->counts, cluster) == 1 &&
           qcow2_counts_flag(c->counts, cluster) ? QCOW2_COPIED : 0;
}

static void set_flags(Qcow2Check *c, uint8_t *buf)
{
    const Qcow2State *s = c->s;
    bool external = s->data_file != s->bs->file;

    for (uint64_t i = 0; i < 1ULL << s->l2_bits; i++) {
        Qcow2Entry e = qcow2_entry_get(s, buf, i);
        uint64_t offset = e.desc & QCOW2_OFFSET_MASK;

        if ((e.desc & QCOW2_COMPRESSED) || !offset ||
            (!external && !qcow2_check_offset_ok(c, offset))) {
            continue;
        }
        e.desc = (e.desc & ~QCOW2_COPIED) |
                 (external ? QCOW2_COPIED : wanted_flag(c, offset));
        qcow2_entry_put(s, buf, i, e);
    }
}

static bool l1_is_alone(const Qcow2Check *c)
{
    const Qcow2State *s = c->s;
    uint64_t end = s->l1.offset + (uint64_t)s->l1.size * 8;

    for (uint64_t o = s->l1.offset; o < end; o += s->cluster_size) {
        if (!is_only(c, o, 1)) {
            return false;
        }
    }
    return true;
}

int coroutine_fn qcow2_repair_copied(Qcow2Check *c)
{
    Qcow2State *s = c->s;
    g_autofree uint8_t *scratch = g_try_malloc(s->cluster_size);
    bool alone = l1_is_alone(c);
    int ret = scratch ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < s->l1.size && ret == 0; i++) {
        uint64_t entry = s->l1.entries[i];
        uint64_t offset = entry & QCOW2_OFFSET_MASK;
        Qcow2CheckL2 *l2 = g_hash_table_lookup(c->l2_tables, &offset);
        uint64_t wanted;

        if (!l2) {
            continue;
        }
        ret = aio_check_stop(); /* each table is right or as it was */
        if (ret == 0 && !l2->repaired) {
            l2->repaired = true;
            ret = change_l2(c, l2, scratch, set_flags);
        }
        wanted = (entry & ~QCOW2_COPIED) | wanted_flag(c, offset);
        if (alone && wanted != entry && qcow2_check_offset_ok(c, offset)) {
            qcow2_table_set(&s->l1, i, wanted);
        }
    }
    ret = ret < 0 ? ret : qcow2_table_write(c->s, &c->s->l1,
                                            QCOW2_OL_ACTIVE_L1,
                                            BLKDBG_L1_UPDATE);
    return ret < 0 ? ret : flush(c);
}

/* ---- refcounts ---- */

/* Bring the counters of one block nearer to the references. */
static void change_block(Qcow2Check *c, uint8_t *buf, uint64_t first,
                         bool raise)
{
    const Qcow2State *s = c->s;
    uint64_t end = MIN(first + (1ULL << s->refblock_bits), c->nb_clusters);

    for (uint64_t k = first; k < end; k++) {
        uint64_t refs = qcow2_counts_get(c->counts, k);
        uint64_t stored = qcow2_refblock_get(buf, s->refcount_order,
                                             k - first);

        refs = MIN(refs, s->refcount_max);
        if (raise ? refs > stored : refs < stored) {
            qcow2_refblock_set(buf, s->refcount_order, k - first, refs);
        }
    }
}

static int coroutine_fn change_counts(Qcow2Check *c, uint8_t *scratch,
                                      bool raise) REQUIRES(c->s->lock)
{
    const Qcow2State *s = c->s;
    int ret = 0;

    for (uint32_t i = 0; i < s->reftable.size && ret == 0; i++) {
        uint64_t offset = s->reftable.entries[i];
        uint64_t first = (uint64_t)i << s->refblock_bits;

        if (first >= c->nb_clusters) {
            break;
        }
        if (!offset || !is_only(c, offset, 1) ||
            !qcow2_check_load_block(c, i, c->buf)) {
            continue;
        }
        memcpy(scratch, c->buf, s->cluster_size);
        change_block(c, scratch, first, raise);
        ret = aio_check_stop();
        ret = ret < 0 ? ret : write_changes(c, offset, c->buf, scratch);
    }
    return ret < 0 ? ret : flush(c);
}

int coroutine_fn qcow2_repair_counts(Qcow2Check *c, unsigned fix)
{
    g_autofree uint8_t *scratch = g_try_malloc(c->s->cluster_size);
    int ret = scratch ? 0 : -ENOMEM;

    if (ret == 0 && (fix & BDRV_FIX_ERRORS)) {
        ret = change_counts(c, scratch, true); /* R1 */
    }
    if (ret == 0 && (fix & BDRV_FIX_LEAKS) && !c->blind) {
        ret = change_counts(c, scratch, false);
    }
    return ret;
}
