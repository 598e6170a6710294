/* SPDX-License-Identifier: MIT */
/*
 * A tally: references counted per host cluster, beside the refcounts.
 *
 * What changes the refcounts of a whole map first counts what it will add or
 * take away, then compares with the stored refcounts, then changes them, each
 * refcount block once. So an overflow is found before anything changes, and no
 * cluster costs a lookup of its own.
 *
 * Counts cover a window of refcount blocks, so that memory is bounded
 * (s->tally_bytes, or one block's): with 64 KiB clusters and 16-bit refcounts
 * a window is 1 TiB of host space. Blocks
 * that were met beyond it are noted; the caller then counts once more for
 * each further window.
 *
 *   qcow2_tally_window(0)   count, check   next_window() ... until false
 *   qcow2_tally_window(0)   count, apply   next_window() ... until false
 *
 * (with a single window, the counts are still there for the second line).
 *
 * While a decrement is applied, clusters whose refcount became 1 are noted:
 * these are the ones whose COPIED flag may be set afterwards.
 */
#include "qcow2_int.h"

/* Slots that may be punched before others get s->lock. */
#define PUNCH_SLOTS 512

struct Qcow2Tally {
    unsigned slot_bits;     /* s->refblock_bits */
    uint32_t nb_blocks;     /* of the refcount table when it was made */
    uint32_t first, end;    /* the window */
    uint32_t span;          /* blocks per window */
    uint32_t **counts;      /* per block, NULL: nothing counted */
    uint8_t **ones;         /* per block: bits of refcounts that became 1 */
    uint64_t nb_ones;
    uint8_t *met;           /* per block: referred to at all */
};

Qcow2Tally *qcow2_tally_new(const Qcow2State *s)
{
    Qcow2Tally *t = g_new0(Qcow2Tally, 1);
    uint64_t block_bytes = sizeof(uint32_t) << s->refblock_bits;

    t->slot_bits = s->refblock_bits;
    t->nb_blocks = s->reftable.size;
    t->span = MAX(s->tally_bytes / block_bytes, 1);
    t->counts = g_try_new0(uint32_t *, t->nb_blocks);
    t->ones = g_try_new0(uint8_t *, t->nb_blocks);
    t->met = g_try_malloc0(t->nb_blocks);
    if (!t->counts || !t->ones || !t->met) {
        qcow2_tally_free(t);
        return NULL;
    }
    qcow2_tally_window(t, 0);
    return t;
}

static void clear_counts(Qcow2Tally *t)
{
    for (uint32_t i = t->first; i < t->end; i++) {
        g_clear_pointer(&t->counts[i], g_free);
    }
}

void qcow2_tally_free(Qcow2Tally *t)
{
    if (!t) {
        return;
    }
    if (t->counts) {
        clear_counts(t);
    }
    for (uint32_t i = 0; t->ones && i < t->nb_blocks; i++) {
        g_free(t->ones[i]);
    }
    g_free(t->counts);
    g_free(t->ones);
    g_free(t->met);
    g_free(t);
}

void qcow2_tally_window(Qcow2Tally *t, uint32_t first)
{
    clear_counts(t);
    t->first = first;
    t->end = MIN((uint64_t)first + t->span, t->nb_blocks);
}

bool qcow2_tally_next_window(Qcow2Tally *t)
{
    for (uint32_t i = t->end; i < t->nb_blocks; i++) {
        if (t->met[i]) {
            qcow2_tally_window(t, i);
            return true;
        }
    }
    return false;
}

int qcow2_tally_block(Qcow2Tally *t, uint64_t index, uint32_t **ret)
{
    if (index >= t->nb_blocks) {
        return -ERANGE;
    }
    t->met[index] = 1;
    if (index < t->first || index >= t->end) {
        *ret = NULL;
        return 0;
    }
    if (!t->counts[index]) {
        t->counts[index] = g_try_malloc0(sizeof(uint32_t) << t->slot_bits);
        if (!t->counts[index]) {
            return -ENOMEM;
        }
    }
    *ret = t->counts[index];
    return 0;
}

int qcow2_tally_add(Qcow2Tally *t, uint64_t cluster, uint64_t nb)
{
    for (uint64_t i = cluster; i < cluster + nb; i++) {
        uint32_t *counts;
        int ret = qcow2_tally_block(t, i >> t->slot_bits, &counts);

        if (ret < 0) {
            return ret;
        }
        if (counts) {
            counts[i & ((1ULL << t->slot_bits) - 1)]++;
        }
    }
    return 0;
}

/* ---- comparing with the refcounts ---- */

typedef struct Misfit {
    uint64_t slot;
    bool overflow;          /* else: more references than the refcount */
} Misfit;

/* Does @addend times each count fit? The order is a constant where it
 * matters: this is inlined. */
static inline __attribute__((always_inline)) bool
slots_fit(const uint8_t *block, unsigned order, const uint32_t *counts,
          uint64_t slot, uint64_t n, int addend, uint64_t max, Misfit *ret)
{
    for (uint64_t i = slot; i < slot + n; i++) {
        uint64_t v, c = counts[i];

        if (!c) {
            continue;
        }
        v = qcow2_refblock_get(block, order, i);
        if (v < c || (addend > 0 && c > max - v)) {
            *ret = (Misfit) { .slot = i, .overflow = v >= c };
            return false;
        }
    }
    return true;
}

static int coroutine_fn check_slots(Qcow2State *s, const Qcow2Tally *t,
                                    const uint8_t *block, uint32_t index,
                                    uint64_t slot, uint64_t n, int addend)
    REQUIRES(s->lock)
{
    const uint32_t *counts = t->counts[index];
    Misfit misfit = { 0 };
    bool fit;

    fit = s->refcount_order == 4
          ? slots_fit(block, 4, counts, slot, n, addend, 0xffff, &misfit)
          : slots_fit(block, s->refcount_order, counts, slot, n, addend,
                      s->refcount_max, &misfit);
    if (fit) {
        return 0;
    }
    if (misfit.overflow) {
        return -ERANGE;
    }
    return qcow2_corruption(s, "cluster %" PRIu64 " has more references than "
                            "its refcount",
                            ((uint64_t)index << t->slot_bits) + misfit.slot);
}

static int coroutine_fn check_block(Qcow2State *s, const Qcow2Tally *t,
                                    uint32_t index, int addend)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    int ret;

    ret = qcow2_get_refblock(s, index, &e);
    if (ret < 0) {
        return ret;
    }
    ret = check_slots(s, t, e->data, index, 0, 1ULL << t->slot_bits, addend);
    qcow2_cache_put(s, s->refblock_cache, e);
    return ret;
}

int coroutine_fn qcow2_tally_check(Qcow2State *s, const Qcow2Tally *t,
                                   int addend)
{
    int ret = 0;

    for (uint32_t i = t->first; i < t->end && ret == 0; i++) {
        if (t->counts[i]) {
            ret = check_block(s, t, i, addend);
        }
    }
    return ret;
}

/* ---- changing the refcounts ---- */

/* Add @addend times each count to the slots [@slot, @slot + @n). @ones may be
 * NULL. Returns the first slot that became free, or UINT64_MAX. */
static inline __attribute__((always_inline)) uint64_t
add_slots(uint8_t *block, unsigned order, const uint32_t *counts,
          uint64_t slot, uint64_t n, int addend, uint8_t *ones,
          uint64_t *nb_ones)
{
    uint64_t freed = UINT64_MAX;

    for (uint64_t i = slot; i < slot + n; i++) {
        uint64_t v, c = counts[i];

        if (!c) {
            continue;
        }
        v = qcow2_refblock_get(block, order, i);
        v = addend > 0 ? v + c : v - c;
        qcow2_refblock_set(block, order, i, v);
        if (v == 0) {
            freed = MIN(freed, i);
        } else if (v == 1 && ones) {
            ones[i / 8] |= 1u << (i % 8);
            (*nb_ones)++;
        }
    }
    return freed;
}

/* Tell the host about the clusters that have become free. Nobody takes them
 * while the lock is held. */
static void coroutine_fn punch_slots(Qcow2State *s, const Qcow2Tally *t,
                                     const uint8_t *block, uint32_t index,
                                     uint64_t slot, uint64_t n)
    REQUIRES(s->lock)
{
    const uint32_t *counts = t->counts[index];
    uint64_t run = 0;

    for (uint64_t i = slot; i <= slot + n; i++) {
        if (i < slot + n && counts[i] &&
            qcow2_refblock_get(block, s->refcount_order, i) == 0) {
            run++;
            continue;
        }
        if (run) {
            uint64_t first = ((uint64_t)index << t->slot_bits) + i - run;

            (void)bdrv_co_pdiscard(s->bs->file,
                                   qcow2_cluster_offset(s, first),
                                   run << s->cluster_bits); /* advice */
            run = 0;
        }
    }
}

/* The cluster that compressed streams go to is no exception. */
static void close_pack(Qcow2State *s, const Qcow2Tally *t,
                       const uint8_t *block, uint32_t index)
    REQUIRES(s->lock)
{
    uint64_t cluster = s->pack_next >> s->cluster_bits;
    uint64_t slot = cluster & ((1ULL << t->slot_bits) - 1);

    if (s->pack_next && cluster >> t->slot_bits == index &&
        qcow2_refblock_get(block, s->refcount_order, slot) == 0) {
        qcow2_pack_closed(s, qcow2_cluster_offset(s, cluster));
    }
}

/* One piece of a block, in one go under the lock. */
static int coroutine_fn apply_piece(Qcow2State *s, Qcow2Tally *t,
                                    uint32_t index, uint64_t slot, uint64_t n,
                                    int addend, bool punch)
    REQUIRES(s->lock) DROPS(s->lock)
{
    const uint32_t *counts = t->counts[index];
    uint8_t *ones = t->ones[index];
    Qcow2CacheEntry *e;
    uint64_t freed;
    int ret;

    ret = qcow2_get_refblock(s, index, &e);
    if (ret < 0) {
        return ret;
    }
    /* Guests may have lowered a count that was too low since the check. */
    ret = addend < 0 ? check_slots(s, t, e->data, index, slot, n, addend) : 0;
    if (ret < 0) {
        qcow2_cache_put(s, s->refblock_cache, e);
        return ret;
    }
    freed = s->refcount_order == 4
            ? add_slots(e->data, 4, counts, slot, n, addend, ones,
                        &t->nb_ones)
            : add_slots(e->data, s->refcount_order, counts, slot, n, addend,
                        ones, &t->nb_ones);
    if (freed != UINT64_MAX) {
        close_pack(s, t, e->data, index);
        s->first_free[index] = MIN(s->first_free[index], freed);
        s->first_free_block = MIN(s->first_free_block, index);
    }
    qcow2_cache_mark_dirty(s, s->refblock_cache, e);
    if (punch && freed != UINT64_MAX) {
        punch_slots(s, t, e->data, index, slot, n);
    }
    qcow2_cache_put(s, s->refblock_cache, e);
    return 0;
}

static int coroutine_fn apply_block(Qcow2State *s, Qcow2Tally *t,
                                    uint32_t index, int addend, bool punch)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t slots = 1ULL << t->slot_bits;
    uint64_t step = punch ? MIN(slots, PUNCH_SLOTS) : slots;
    int ret = 0;

    if (addend < 0 && !t->ones[index]) {
        t->ones[index] = g_try_malloc0(DIV_ROUND_UP(slots, 8));
        if (!t->ones[index]) {
            return -ENOMEM;
        }
    }
    for (uint64_t slot = 0; slot < slots && ret == 0; slot += step) {
        ret = apply_piece(s, t, index, slot, step, addend, punch);
        /* Guests that wait for the lock have their turn. */
        co_mutex_unlock(&s->lock);
        co_mutex_lock(&s->lock);
    }
    return ret;
}

int coroutine_fn qcow2_tally_apply(Qcow2State *s, Qcow2Tally *t, int addend,
                                   bool punch, bool may_stop)
{
    uint32_t i;
    int ret = 0;

    punch = punch && addend < 0;
    if (addend > 0) {
        s->need_barrier = true; /* R1 */
    }
    for (i = t->first; i < t->end && ret == 0; i++) {
        ret = may_stop ? aio_check_stop() : 0;
        if (ret == 0 && t->counts[i]) {
            ret = apply_block(s, t, i, addend, punch);
        }
    }
    if (ret < 0 && addend > 0 && !s->corrupt) {
        for (uint32_t k = t->first; k + 1 < i; k++) {
            if (t->counts[k]) {
                (void)apply_block(s, t, k, -addend, false); /* else: leaks */
            }
        }
    }
    return ret;
}

/* ---- what became 1 ---- */

uint64_t qcow2_tally_nb_ones(const Qcow2Tally *t)
{
    return t->nb_ones;
}

bool qcow2_tally_is_one(const Qcow2Tally *t, uint64_t cluster)
{
    uint64_t index = cluster >> t->slot_bits;
    uint64_t slot = cluster & ((1ULL << t->slot_bits) - 1);

    return index < t->nb_blocks && t->ones[index] &&
           t->ones[index][slot / 8] & (1u << (slot % 8));
}
