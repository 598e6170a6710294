/* SPDX-License-Identifier: MIT */
/*
 * The hash of a state, for pruning; see engine.h.
 *
 * Coroutines' stacks are not looked at. What a coroutine knows follows from
 * what it asked for and got, which track.c keeps, and from where it waits:
 * in a request, in one of the queues below, or in another queue, of which only
 * the order of arrival is known (op->last_run). The long form checks this by
 * comparing with what the same scenarios do without pruning.
 */
#include "tests/explore/state.h"

#include "util/co-lock-int.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    return disk_mix(h, &v, sizeof(v));
}

static uint64_t mix_co(uint64_t h, const void *co)
{
    return mix(h, track_history(co));
}

static uint64_t mix_waiters(uint64_t h, const CoWaiters *q)
{
    for (const CoWaiter *x = q->first; x; x = x->next) {
        h = mix_co(h, x->co);
    }
    return mix(h, 0);
}

/* ---- operations ---- */

/* Does it wait for something else than a request of its own? */
static bool is_queued(const Op *op)
{
    for (unsigned i = 0; i < disk_nb_held(); i++) {
        if (disk_held(i)->who == op->co) {
            return false;
        }
    }
    return op->started && !op->ended;
}

static uint64_t mix_op(uint64_t h, const World *w, const Op *op)
{
    bool queued = is_queued(op);

    h = mix(h, op->started | op->ended << 1);
    h = mix(h, op->children);
    if (op->ended) {
        h = mix(h, op->ret);
        h = disk_mix(h, op->seen, sizeof(op->seen));
    }
    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *other = &w->ops[i];

        h = mix(h, other->started && op->end_seq < other->start_seq);
        h = mix(h, queued && is_queued(other) &&
                   op->last_run < other->last_run);
    }
    return h;
}

/* The order in which requests came does not matter. */
static uint64_t mix_pending(uint64_t h)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < disk_nb_held(); i++) {
        const DiskRequest *r = disk_held(i);

        sum += mix_co(r->hash, r->who);
    }
    return mix(mix(h, sum), track_sum());
}

/* ---- the driver ---- */

typedef struct CacheHash {
    size_t entry_size;
    uint64_t h;
} CacheHash;

static void mix_entry(const Qcow2CacheEntry *e, void *opaque)
{
    CacheHash *x = opaque;

    x->h = mix(x->h, e->offset);
    x->h = mix(x->h, e->pins << 2 | e->loading << 1 | e->dirty);
    if (e->offset && !e->loading) {
        x->h = disk_mix(x->h, e->data, x->entry_size);
    }
    x->h = mix_waiters(x->h, &e->waiters.waiters);
}

static uint64_t mix_table(uint64_t h, const Qcow2Table *t)
{
    h = mix(h, t->offset);
    h = disk_mix(h, t->entries, t->size * sizeof(t->entries[0]));
    for (uint32_t i = t->dirty_lo; i < t->dirty_hi; i++) {
        h = mix(h, t->dirty[i] ? i + 1 : 0);
    }
    return h;
}

/* By member: what is in the padding is nobody's. */
static uint64_t mix_frees(uint64_t h, const GArray *frees)
{
    for (unsigned i = 0; i < frees->len; i++) {
        const Qcow2Free *f = &g_array_index(frees, Qcow2Free, i);

        h = mix(mix(mix(h, f->host_offset), f->nb_clusters), f->punch);
    }
    return mix(h, frees->len);
}

static uint64_t mix_driver(uint64_t h, const Qcow2State *s)
{
    CacheHash x = { 1u << s->l2_slice_bits << s->l2_entry_bits, h };

    qcow2_cache_inspect(s->l2_cache, mix_entry, &x);
    x.entry_size = s->cluster_size;
    qcow2_cache_inspect(s->refblock_cache, mix_entry, &x);
    h = mix_table(x.h, &s->l1);
    h = mix_table(h, &s->reftable);
    h = disk_mix(h, s->hdr_sector, sizeof(s->hdr_sector));
    h = mix(h, s->need_barrier | s->l1_growing << 1 | s->corrupt << 2);
    h = mix_frees(h, s->frees);
    h = disk_mix(h, s->first_free, s->reftable.size * sizeof(uint32_t));
    h = mix(h, s->first_free_block);
    h = mix(h, s->host_end);
    h = mix(mix(h, s->pack_next), s->packing);
    h = mix_waiters(h, &s->packing_queue.waiters);
    h = mix(h, s->snapshots->len);
    for (const GList *l = s->in_flight.head; l; l = l->next) {
        const Qcow2InFlight *r = l->data;

        h = mix(mix(mix(h, r->start), r->end), r->exclusive);
        h = mix_waiters(h, &r->waiters.waiters);
    }
    h = mix_co(h, s->lock.holder);
    h = mix_waiters(h, &s->lock.waiters);
    h = mix(h, s->map_lock.owners);
    return mix_waiters(h, &s->map_lock.waiters);
}

/* ---- the generic layer ---- */

static uint64_t mix_node(uint64_t h, const BlockDriverState *bs)
{
    h = mix(h, bs->in_flight);
    h = mix(h, bs->quiesce_counter);
    h = mix(h, bs->active_flush);
    h = mix(h, bs->write_gen - bs->flushed_gen);
    h = mix(h, bs->vmstate != NULL);
    h = mix_co(h, bs->exclusive_lock.holder);
    h = mix_waiters(h, &bs->exclusive_lock.waiters);
    h = mix_waiters(h, &bs->flush_queue.waiters);
    return mix_waiters(h, &bs->drain_waiters.waiters);
}

uint64_t state_hash(const World *w)
{
    const BlockDriverState *bs = blk_bs(w->blk);
    uint64_t h = disk_hash();

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        h = mix_op(h, w, &w->ops[i]);
    }
    h = mix_pending(h);
    h = mix_driver(h, bs->opaque);
    h = mix_node(h, bs);
    h = mix_node(h, bs->file->bs);
    h = mix(h, w->blk->in_flight);
    h = mix_waiters(h, &w->blk->queued.waiters);
    return mix_waiters(h, &w->blk->idle.waiters);
}
