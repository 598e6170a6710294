/* SPDX-License-Identifier: MIT */
/*
 * A whole new refcount table with its blocks, where the old one cannot be
 * mended: entries that point nowhere, blocks that are something else as well.
 *
 * The new structure is one run of clusters, blocks then table, behind the end
 * of the file; if that is out of reach, or the file cannot grow, in a hole. It
 * is durable before one header sector switches to it (R4); until then the old
 * one is untouched, and afterwards its clusters are leaks.
 *
 * While pointers are lost (c->blind) no cluster becomes free: what the old
 * counters said is kept where it can be read, and where it cannot, everything
 * counts as in use.
 */
#include "check_int.h"

/* Blocks that may be filled up because nobody knows what they said. */
#define MAX_UNKNOWN 1024

typedef struct Plan {
    bool keep;              /* never lower than what was stored */
    GArray *base;           /* uint64_t block indices that are needed anyway */
    GArray *blocks;         /* all, with those for the new clusters */
    uint64_t start;         /* first new cluster */
    uint64_t nb;            /* new clusters */
    uint64_t table_size;    /* entries, whole clusters of them */
} Plan;

static uint64_t per_block(const Qcow2State *s)
{
    return 1ULL << s->refblock_bits;
}

/* ---- which blocks ---- */

static bool is_known(const Qcow2Check *c, uint64_t index)
{
    const Qcow2State *s = c->s;
    uint64_t offset;

    if (index >= s->reftable.size || !s->reftable.entries[index]) {
        return true; /* all 0 */
    }
    offset = s->reftable.entries[index];
    return IS_ALIGNED(offset, s->cluster_size) && offset < c->file_bytes &&
           qcow2_counts_get(c->counts, offset >> s->cluster_bits) == 1;
}

static bool has_references(const Qcow2Check *c, uint64_t index)
{
    uint64_t i = index << c->s->refblock_bits;
    uint64_t end = MIN(i + per_block(c->s), c->nb_clusters);

    for (i = qcow2_counts_skip(c->counts, i); i < end; i++) {
        i = qcow2_counts_skip(c->counts, i);
        if (i < end && qcow2_counts_get(c->counts, i)) {
            return true;
        }
    }
    return false;
}

static int find_base(Qcow2Check *c, Plan *p)
{
    const Qcow2State *s = c->s;
    uint64_t n = DIV_ROUND_UP(c->nb_clusters, per_block(s)), unknown = 0;

    for (uint64_t i = 0; i < n; i++) {
        bool stored = p->keep && i < s->reftable.size &&
                      s->reftable.entries[i];

        unknown += stored && !is_known(c, i);
        if (unknown > MAX_UNKNOWN) {
            return -EFBIG;
        }
        if (stored || has_references(c, i)) {
            g_array_append_val(p->base, i);
        }
    }
    return 0;
}

/* p->base and the blocks for [p->start, + @nb), in order. */
static void add_own_blocks(const Qcow2State *s, Plan *p, uint64_t nb)
{
    uint64_t own = p->start >> s->refblock_bits;
    uint64_t last = (p->start + nb - 1) >> s->refblock_bits;

    g_array_set_size(p->blocks, 0);
    for (guint i = 0; i < p->base->len || own <= last;) {
        uint64_t next = i < p->base->len
                        ? g_array_index(p->base, uint64_t, i) : UINT64_MAX;

        if (own <= last && own <= next) {
            i += own == next;
            g_array_append_val(p->blocks, own);
            own++;
        } else {
            g_array_append_val(p->blocks, next);
            i++;
        }
    }
}

/* ---- where ---- */

/* Fixed point of "the new clusters count themselves". */
static int plan_at(const Qcow2State *s, Plan *p, uint64_t start)
{
    uint64_t nb = 1, entries, table;

    p->start = start;
    for (;;) {
        add_own_blocks(s, p, nb);
        entries = 1 + g_array_index(p->blocks, uint64_t, p->blocks->len - 1);
        table = DIV_ROUND_UP(entries * 8, s->cluster_size);
        if (table * s->cluster_size > QCOW2_MAX_REFTABLE ||
            start + nb > QCOW2_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -ENOSPC;
        }
        if (p->blocks->len + table <= nb) {
            p->nb = nb;
            p->table_size = table * s->cluster_size / 8;
            return 0;
        }
        nb = p->blocks->len + table;
    }
}

/* A run of clusters without references that is long enough. */
static int plan_in_hole(Qcow2Check *c, Plan *p)
{
    uint64_t run = 0;

    if (p->keep) {
        return -ENOSPC; /* it may hold what a lost pointer pointed to */
    }
    for (uint64_t k = 1; k < c->nb_clusters; k++) {
        run = qcow2_counts_get(c->counts, k) ? 0 : run + 1;
        if (run > p->base->len && plan_at(c->s, p, k + 1 - run) == 0 &&
            p->nb <= run) {
            return 0;
        }
    }
    return -ENOSPC;
}

static int make_plan(Qcow2Check *c, Plan *p)
{
    int ret = find_base(c, p);

    if (ret == 0) {
        ret = c->s->bs->file->bs->growable
              ? plan_at(c->s, p, MAX(c->nb_clusters, 1)) : -ENOSPC;
    }
    return ret == -ENOSPC ? plan_in_hole(c, p) : ret;
}

/* ---- writing ---- */

/* Contents of block @index. */
static void coroutine_fn fill_block(Qcow2Check *c, const Plan *p,
                                    uint64_t index, uint8_t *buf)
    REQUIRES(c->s->lock)
{
    const Qcow2State *s = c->s;
    uint64_t first = index << s->refblock_bits;
    bool known = is_known(c, index);
    bool loaded = p->keep && known && qcow2_check_load_block(c, index, c->buf);

    memset(buf, 0, s->cluster_size);
    for (uint64_t i = 0; i < per_block(s); i++) {
        uint64_t k = first + i;
        uint64_t n = qcow2_counts_get(c->counts, k);

        if (k >= p->start && k < p->start + p->nb) {
            n = 1;
        } else if (loaded && k < c->nb_clusters) {
            n = MAX(n, qcow2_refblock_get(c->buf, s->refcount_order, i));
        } else if (p->keep && !known && k < c->nb_clusters) {
            n = MAX(n, 1);
        }
        if (n) {
            qcow2_refblock_set(buf, s->refcount_order, i,
                               MIN(n, s->refcount_max));
        }
    }
}

static int coroutine_fn write_structure(Qcow2Check *c, const Plan *p,
                                        Qcow2Table *t) REQUIRES(c->s->lock)
{
    const Qcow2State *s = c->s;
    uint64_t bytes = p->table_size * 8;
    g_autofree uint8_t *buf = g_try_malloc0(MAX(bytes, s->cluster_size));
    uint64_t offset = qcow2_cluster_offset(s, p->start);
    int ret = buf ? 0 : -ENOMEM;

    qcow2_note_written(c->s, qcow2_cluster_offset(s, p->start + p->nb));
    for (guint i = 0; i < p->blocks->len && ret == 0; i++) {
        uint64_t index = g_array_index(p->blocks, uint64_t, i);

        ret = aio_check_stop(); /* the old ones are still in use */
        if (ret < 0) {
            break;
        }
        fill_block(c, p, index, buf);
        BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_UPDATE);
        ret = bdrv_co_pwrite(s->bs->file, offset, s->cluster_size, buf, 0);
        t->entries[index] = offset;
        offset += s->cluster_size;
    }
    if (ret < 0) {
        return ret;
    }
    t->offset = offset;
    for (uint32_t i = 0; i < t->size; i++) {
        be64_put(buf + 8ULL * i, t->entries[i]);
    }
    ret = bdrv_co_pwrite(s->bs->file, offset, bytes, buf, 0);
    return ret < 0 ? ret : bdrv_co_flush(s->bs->file->bs); /* R4 */
}

static int coroutine_fn switch_structure(Qcow2State *s, Qcow2Table *t)
    REQUIRES(s->lock)
{
    uint32_t *first_free = g_try_new0(uint32_t, t->size);
    Qcow2Header h = s->hdr;
    int ret = first_free ? 0 : -ENOMEM;

    h.refcount_table_offset = t->offset;
    h.refcount_table_clusters = (uint64_t)t->size * 8 >> s->cluster_bits;
    ret = ret < 0 ? ret : qcow2_header_update(s, &h);
    if (ret < 0) {
        g_free(first_free);
        return ret;
    }
    g_free(s->first_free);
    s->first_free = first_free;
    qcow2_table_cleanup(&s->reftable);
    s->reftable = *t;
    return 0;
}

int coroutine_fn qcow2_repair_rebuild(Qcow2Check *c, unsigned fix)
{
    Plan p = {
        .keep = c->blind || !(fix & BDRV_FIX_LEAKS),
        .base = g_array_new(false, false, sizeof(uint64_t)),
        .blocks = g_array_new(false, false, sizeof(uint64_t)),
    };
    Qcow2Table t = { 0 };
    int ret;

    ret = make_plan(c, &p);
    ret = ret < 0 ? ret : qcow2_table_init(&t, 0, p.table_size);
    ret = ret < 0 ? ret : write_structure(c, &p, &t);
    ret = ret < 0 ? ret : switch_structure(c->s, &t);
    if (ret < 0) {
        qcow2_table_cleanup(&t);
    }
    g_array_unref(p.base);
    g_array_unref(p.blocks);
    return ret;
}
