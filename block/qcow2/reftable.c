/* SPDX-License-Identifier: MIT */
/*
 * New refcount blocks and a larger refcount table.
 *
 * A block that does not exist describes clusters that are all free. So new
 * blocks, and a new table behind them, are placed at the start of the range of
 * the first one and count themselves and each other. That needs no allocation
 * and reads nothing, so the lock is never dropped: each function here is one
 * transition.
 *
 * Blocks are written at once, which also makes sure of their space. A table
 * entry for a new block goes out with writeback.c, behind the block (R4); a
 * new table is durable before the header points at it, and the old one is
 * freed after that (R3).
 */
#include "qcow2_int.h"

/* Blocks [index, index + nb_blocks), then the table if there is one. */
typedef struct TablePlan {
    uint64_t index;
    uint64_t nb_blocks;
    uint64_t table_clusters;
    uint64_t offset;            /* of the first block */
    uint64_t table_offset;
} TablePlan;

static uint64_t slots_per_block(const Qcow2State *s)
{
    return 1ULL << s->refblock_bits;
}

static int place(const Qcow2State *s, TablePlan *p)
{
    uint64_t limit = QCOW2_MAX_HOST_OFFSET >> s->cluster_bits;
    uint64_t first = p->index << s->refblock_bits;

    if (first + p->nb_blocks + p->table_clusters > limit) {
        return -ENOSPC;
    }
    p->offset = qcow2_cluster_offset(s, first);
    p->table_offset = qcow2_cluster_offset(s, first + p->nb_blocks);
    return 0;
}

/* Clusters of the new area that block @i of the plan counts. */
static uint64_t used_in_block(const Qcow2State *s, const TablePlan *p,
                              uint64_t i)
{
    uint64_t used = p->nb_blocks + p->table_clusters;
    uint64_t before = i << s->refblock_bits;

    return used > before ? MIN(used - before, slots_per_block(s)) : 0;
}

static int coroutine_fn write_blocks(Qcow2State *s, const TablePlan *p,
                                     BlkdebugEvent event)
    REQUIRES(s->lock)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    qcow2_note_written(s, p->offset +
                       qcow2_cluster_offset(s, p->nb_blocks +
                                               p->table_clusters));
    for (uint64_t i = 0; i < p->nb_blocks && ret == 0; i++) {
        uint64_t offset = p->offset + (i << s->cluster_bits);
        uint64_t n = used_in_block(s, p, i);

        memset(buf, 0, s->cluster_size);
        for (uint64_t slot = 0; slot < n; slot++) {
            qcow2_refblock_set(buf, s->refcount_order, slot, 1);
        }
        qcow2_cache_discard(s, s->refblock_cache, offset, s->cluster_size);
        ret = qcow2_check_overlap(s, 0, offset, s->cluster_size);
        if (ret == 0) {
            BLKDBG_EVENT(s->bs->file, event);
            ret = bdrv_co_pwrite(s->bs->file, offset, s->cluster_size, buf,
                                 0);
        }
    }
    free(buf);
    return ret;
}

/* The blocks of @p are in the table now. */
static void adopt_blocks(Qcow2State *s, const TablePlan *p) REQUIRES(s->lock)
{
    for (uint64_t i = 0; i < p->nb_blocks; i++) {
        s->first_free[p->index + i] = used_in_block(s, p, i);
        qcow2_filter_add(s, p->offset + (i << s->cluster_bits));
    }
}

int coroutine_fn qcow2_reftable_add_blocks(Qcow2State *s, uint64_t index,
                                           uint64_t nb)
{
    TablePlan p = { .index = index, .nb_blocks = nb };
    int ret;

    assert(index + nb <= s->reftable.size);
    if (index == 0) {
        return qcow2_corruption(s, "no refcount block counts the header");
    }
    ret = place(s, &p);
    BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_ALLOC);
    ret = ret < 0 ? ret : write_blocks(s, &p, BLKDBG_REFBLOCK_ALLOC_WRITE);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < nb; i++) {
        qcow2_table_set(&s->reftable, index + i,
                        p.offset + (i << s->cluster_bits));
    }
    s->need_barrier = true;
    adopt_blocks(s, &p);
    return 0;
}

/* Fixed point of "the new area counts itself". */
static int plan_table(const Qcow2State *s, uint64_t index, uint64_t more,
                      TablePlan *p)
{
    uint64_t wish = s->reftable.size + s->reftable.size / 2;
    uint64_t max = MAX(QCOW2_MAX_REFTABLE / s->cluster_size, 1);
    uint64_t blocks = 1;

    *p = (TablePlan) { .index = index };
    do {
        uint64_t need;

        p->nb_blocks = blocks;
        need = index + blocks + more;
        if (need > max * s->cluster_size / 8) {
            return -ENOSPC;
        }
        p->table_clusters = MIN(max, DIV_ROUND_UP(MAX(need, wish) * 8,
                                                  s->cluster_size));
        blocks = DIV_ROUND_UP(p->nb_blocks + p->table_clusters,
                              slots_per_block(s));
    } while (blocks > p->nb_blocks);
    return place(s, p);
}

/* R4: blocks and table are durable before the header points at them. */
static int coroutine_fn switch_table(Qcow2State *s, const TablePlan *p,
                                     const Qcow2Table *t)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    int ret;

    ret = qcow2_cache_write(s, s->refblock_cache);
    ret = ret < 0 ? ret :
          write_blocks(s, p, BLKDBG_REFBLOCK_ALLOC_WRITE_BLOCKS);
    ret = ret < 0 ? ret :
          qcow2_table_write_new(s, t->offset, t->entries, t->size,
                                BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE);
    ret = ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs);
    if (ret < 0) {
        return ret;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE);
    h.refcount_table_offset = t->offset;
    h.refcount_table_clusters = p->table_clusters;
    return qcow2_header_update(s, &h);
}

int coroutine_fn qcow2_reftable_grow(Qcow2State *s, uint64_t index,
                                     uint64_t more)
{
    Qcow2Table t, old = s->reftable;
    uint32_t *first_free;
    TablePlan p;
    int ret;

    ret = plan_table(s, index, more, &p);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_init(&t, p.table_offset,
                           p.table_clusters * s->cluster_size / 8);
    if (ret < 0) {
        return ret;
    }
    memcpy(t.entries, old.entries, old.size * sizeof(uint64_t));
    for (uint64_t i = 0; i < p.nb_blocks; i++) {
        t.entries[index + i] = p.offset + (i << s->cluster_bits);
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_REFTABLE_GROW);
    first_free = g_try_renew(uint32_t, s->first_free, t.size);
    if (first_free) {
        s->first_free = first_free;
        ret = switch_table(s, &p, &t);
    } else {
        ret = -ENOMEM;
    }
    if (ret < 0) {
        qcow2_table_cleanup(&t);
        return ret;
    }
    memset(s->first_free + old.size, 0,
           (t.size - old.size) * sizeof(uint32_t));
    s->reftable = t;
    adopt_blocks(s, &p);
    qcow2_defer_free(s, old.offset,
                     (uint64_t)old.size * 8 >> s->cluster_bits,
                     s->punch_other);
    qcow2_table_cleanup(&old);
    return 0;
}

int coroutine_fn qcow2_reftable_reserve(Qcow2State *s, uint64_t nb_clusters,
                                        uint64_t *ret_first)
{
    uint64_t nb = 1, index;
    int ret;

    while (nb < DIV_ROUND_UP(nb_clusters + nb, slots_per_block(s))) {
        nb = DIV_ROUND_UP(nb_clusters + nb, slots_per_block(s));
    }
    for (;;) {
        index = s->reftable.size;
        while (index && !s->reftable.entries[index - 1]) {
            index--;
        }
        if (index + nb <= s->reftable.size) {
            break;
        }
        ret = qcow2_reftable_grow(s, index, nb);
        if (ret < 0) {
            return ret;
        }
    }
    ret = qcow2_reftable_add_blocks(s, index, nb);
    if (ret < 0) {
        return ret;
    }
    *ret_first = (index << s->refblock_bits) + nb;
    return 0;
}
