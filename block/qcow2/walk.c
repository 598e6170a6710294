/* SPDX-License-Identifier: MIT */
/*
 * Whole-map passes: the refcounts of everything under an L1 table, and the
 * COPIED flags of the active layer.
 *
 * A refcount counts paths through L1 tables, so each L1 entry contributes its
 * L2 table and every cluster that table maps, also when the table is shared.
 *
 * Tables are read and written past the L2 cache, which is clean while these
 * run (map_lock is held exclusively, K4, and the callers have flushed); slices
 * of tables that change or go away are dropped from it.
 */
#include "qcow2_int.h"

/* @nb host clusters with one reference each. */
typedef int coroutine_fn RunFunc(Qcow2State *s, uint64_t host_offset,
                                 uint64_t nb, void *opaque);

typedef struct Run {
    uint64_t offset;
    uint64_t nb;
} Run;

/* ---- tables ---- */

/* 0 or -EIO (R7). */
static int coroutine_fn check_l2_offset(Qcow2State *s, uint64_t table)
    REQUIRES(s->lock)
{
    if (!IS_ALIGNED(table, s->cluster_size)) {
        return qcow2_corruption(s, "an L2 table is at unaligned host offset "
                                "%#" PRIx64, table);
    }
    return 0;
}

static int coroutine_fn read_l2(Qcow2State *s, uint64_t table, uint8_t *buf)
    REQUIRES(s->lock)
{
    int ret = check_l2_offset(s, table);

    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_L2_LOAD);
    return bdrv_co_pread(s->bs->file, table, s->cluster_size, buf, 0);
}

static int coroutine_fn write_l2(Qcow2State *s, uint64_t table,
                                 const uint8_t *buf)
    REQUIRES(s->lock)
{
    int ret = qcow2_check_overlap(s, QCOW2_OL_ACTIVE_L2, table,
                                  s->cluster_size);

    if (ret < 0) {
        return ret;
    }
    qcow2_cache_discard(s, s->l2_cache, table, s->cluster_size);
    BLKDBG_EVENT(s->bs->file, BLKDBG_L2_UPDATE);
    return bdrv_co_pwrite(s->bs->file, table, s->cluster_size, buf, 0);
}

/* Host clusters that @entry refers to; 0 or -EIO (R7). */
static int coroutine_fn entry_run(Qcow2State *s, uint64_t entry, Run *ret)
    REQUIRES(s->lock)
{
    uint64_t bytes;

    *ret = (Run) { 0 };
    if (qcow2_entry_type(entry) == QCOW2_CLUSTER_COMPRESSED) {
        qcow2_entry_compressed(s, entry, &ret->offset, &bytes);
        ret->nb = DIV_ROUND_UP((ret->offset & (s->cluster_size - 1)) + bytes,
                               s->cluster_size);
        ret->offset = ROUND_DOWN(ret->offset, s->cluster_size);
        return 0;
    }
    if (!(entry & QCOW2_OFFSET_MASK) || qcow2_has_data_file(s)) {
        return 0; /* nothing, or nothing that is counted */
    }
    ret->offset = entry & QCOW2_OFFSET_MASK;
    ret->nb = 1;
    if (!IS_ALIGNED(ret->offset, s->cluster_size)) {
        return qcow2_corruption(s, "a data cluster is at unaligned host "
                                "offset %#" PRIx64, ret->offset);
    }
    return 0;
}

/* ---- walking ---- */

/* All references of one L2 table, neighbours joined. */
static int coroutine_fn walk_l2(Qcow2State *s, const uint8_t *buf,
                                RunFunc *fn, void *opaque)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t n = 1ULL << s->l2_bits;
    Run run = { 0 }, next;
    int ret = 0;

    for (uint64_t i = 0; i < n && ret == 0; i++) {
        ret = entry_run(s, qcow2_entry_get(s, buf, i).desc, &next);
        if (ret < 0 || !next.nb) {
            continue;
        }
        if (run.nb &&
            run.offset + (run.nb << s->cluster_bits) == next.offset) {
            run.nb += next.nb;
            continue;
        }
        ret = run.nb ? fn(s, run.offset, run.nb, opaque) : 0;
        run = next;
    }
    if (ret == 0 && run.nb) {
        ret = fn(s, run.offset, run.nb, opaque);
    }
    return ret;
}

static int coroutine_fn walk(Qcow2State *s, const uint64_t *l1, uint32_t n,
                             RunFunc *fn, void *opaque)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n && ret == 0; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;

        if (!table) {
            continue;
        }
        ret = read_l2(s, table, buf);
        ret = ret < 0 ? ret : fn(s, table, 1, opaque);
        ret = ret < 0 ? ret : walk_l2(s, buf, fn, opaque);
    }
    free(buf);
    return ret;
}

static int coroutine_fn check_run(Qcow2State *s, uint64_t host_offset,
                                  uint64_t nb, void *opaque) NO_TSA
{
    co_mutex_assert_locked(&s->lock);
    return qcow2_check_refcount(s, host_offset, nb, *(int *)opaque);
}

int coroutine_fn qcow2_walk_check(Qcow2State *s, const uint64_t *l1,
                                  uint32_t n, int addend)
{
    return walk(s, l1, n, check_run, &addend);
}

typedef struct Update {
    int addend;
    bool punch;
    uint64_t done;      /* runs */
    uint64_t limit;     /* stop after so many */
} Update;

static int coroutine_fn update_run(Qcow2State *s, uint64_t host_offset,
                                   uint64_t nb, void *opaque) NO_TSA
{
    Update *u = opaque;
    int ret;

    co_mutex_assert_locked(&s->lock);
    if (u->done == u->limit) {
        return -ECANCELED;
    }
    ret = qcow2_update_refcount(s, host_offset, nb, u->addend, u->punch);
    u->done += ret == 0;
    return ret;
}

int coroutine_fn qcow2_walk_update(Qcow2State *s, const uint64_t *l1,
                                   uint32_t n, int addend, bool punch)
{
    Update u = { .addend = addend, .punch = punch, .limit = UINT64_MAX };
    int ret = walk(s, l1, n, update_run, &u);

    if (ret < 0 && u.done && addend > 0) {
        Update undo = { .addend = -1, .limit = u.done };

        (void)walk(s, l1, n, update_run, &undo); /* else: leaks */
    }
    for (uint32_t i = 0; i < n && addend < 0; i++) {
        qcow2_cache_discard(s, s->l2_cache, l1[i] & QCOW2_OFFSET_MASK,
                            s->cluster_size);
    }
    return ret;
}

/* ---- COPIED ---- */

/* COPIED as it should be for what is at @offset. */
static int coroutine_fn wanted_flag(Qcow2State *s, uint64_t offset,
                                    bool clear, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t refcount = 0;
    int r = 0;

    if (!clear) {
        r = qcow2_get_refcount(s, offset, &refcount);
    }
    *ret = refcount == 1 ? QCOW2_COPIED : 0;
    return r;
}

/* Set the flags in @buf; *@ret_changed says whether there was need to. */
static int coroutine_fn flag_l2(Qcow2State *s, uint8_t *buf, bool clear,
                                bool *ret_changed)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t n = 1ULL << s->l2_bits;

    *ret_changed = false;
    for (uint64_t i = 0; i < n; i++) {
        Qcow2Entry e = qcow2_entry_get(s, buf, i);
        uint64_t flag = 0;
        int ret = 0;

        if (!(e.desc & QCOW2_COMPRESSED) && (e.desc & QCOW2_OFFSET_MASK)) {
            ret = wanted_flag(s, e.desc & QCOW2_OFFSET_MASK, clear, &flag);
        }
        if (ret < 0) {
            return ret;
        }
        if ((e.desc & QCOW2_COPIED) != flag) {
            e.desc = (e.desc & ~QCOW2_COPIED) | flag;
            qcow2_entry_put(s, buf, i, e);
            *ret_changed = true;
        }
    }
    return 0;
}

static int coroutine_fn flag_all(Qcow2State *s, bool clear)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < s->l1.size && ret == 0; i++) {
        uint64_t entry = s->l1.entries[i];
        uint64_t table = entry & QCOW2_OFFSET_MASK;
        uint64_t flag = 0;
        bool changed = false;

        if (!table) {
            continue;
        }
        ret = read_l2(s, table, buf);
        ret = ret < 0 ? ret : flag_l2(s, buf, clear, &changed);
        if (ret == 0 && changed) {
            ret = write_l2(s, table, buf);
        }
        ret = ret < 0 ? ret : wanted_flag(s, table, clear, &flag);
        if (ret == 0 && (entry & QCOW2_COPIED) != flag) {
            qcow2_table_set(&s->l1, i, (entry & ~QCOW2_COPIED) | flag);
        }
    }
    free(buf);
    return ret < 0 ? ret : qcow2_write_map(s);
}

int coroutine_fn qcow2_walk_clear_copied(Qcow2State *s)
{
    return flag_all(s, true);
}

int coroutine_fn qcow2_walk_set_copied(Qcow2State *s)
{
    int ret = flag_all(s, false);

    if (ret < 0 && !s->corrupt) {
        /* A fault that has passed should not leave flags behind. */
        (void)flag_all(s, false);
    }
    return ret;
}
