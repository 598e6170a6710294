/* SPDX-License-Identifier: MIT */
/*
 * Refcounts: reading, changing, and finding free clusters.
 *
 * Allocation is first-fit. Per refcount block, s->first_free knows a slot
 * below which nothing is free, so full blocks are passed over without being
 * read. A run is chosen and counted without dropping the lock in between,
 * inside one pinned block; longer runs for tables are put together from such
 * pieces. What has been counted belongs to the caller alone.
 *
 * Blocks that are missing are made by reftable.c, without allocating.
 *
 * Increments may reach the disk early. Decrements are made only when removal
 * of the reference is durable (R3): what a request frees waits in s->frees
 * with its old refcount, so nobody can allocate and write it (R5).
 */
#include "qcow2_int.h"
#include "util/aio.h"
#include "util/plant.h"

/* ---- access to blocks ---- */

static uint64_t slots_per_block(const Qcow2State *s)
{
    return 1ULL << s->refblock_bits;
}

int coroutine_fn qcow2_get_refblock(Qcow2State *s, uint64_t index,
                                    Qcow2CacheEntry **ret)
{
    uint64_t offset = index < s->reftable.size ? s->reftable.entries[index]
                                               : 0;

    if (!offset) {
        return qcow2_corruption(s, "clusters from %" PRIu64 " on are in use "
                                "but no refcount block counts them",
                                index << s->refblock_bits);
    }
    if (!IS_ALIGNED(offset, s->cluster_size) ||
        offset >= QCOW2_MAX_HOST_OFFSET ||
        offset >= s->bs->file->bs->total_bytes) {
        return qcow2_corruption(s, "refcount block %" PRIu64 " is at "
                                "impossible offset %#" PRIx64, index, offset);
    }
    return qcow2_cache_get(s, s->refblock_cache, offset, ret);
}

int coroutine_fn qcow2_get_refcount(Qcow2State *s, uint64_t host_offset,
                                    uint64_t *ret)
{
    uint64_t cluster = host_offset >> s->cluster_bits;
    uint64_t index = cluster >> s->refblock_bits;
    uint64_t slot = cluster & (slots_per_block(s) - 1);
    Qcow2CacheEntry *e;
    int r;

    if (index >= s->reftable.size || !s->reftable.entries[index]) {
        *ret = 0;
        return 0;
    }
    r = qcow2_get_refblock(s, index, &e);
    if (r < 0) {
        return r;
    }
    *ret = qcow2_refblock_get(e->data, s->refcount_order, slot);
    qcow2_cache_put(s, s->refblock_cache, e);
    return 0;
}

/* ---- finding free clusters ---- */

static uint64_t count_free(const Qcow2State *s, const uint8_t *block,
                           uint64_t slot, uint64_t max)
{
    uint64_t n = 0;

    max = MIN(max, slots_per_block(s) - slot);
    while (n < max &&
           qcow2_refblock_get(block, s->refcount_order, slot + n) == 0) {
        n++;
    }
    return n;
}

/* The fault of S1_ALLOC_BEFORE_LOCK: others run between choice and count. */
static void coroutine_fn alloc_pause(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock)
{
    co_mutex_unlock(&s->lock);
    aio_co_wake(co_self());
    co_yield();
    co_mutex_lock(&s->lock);
}

/*
 * In block @index, find the first free run at or after *@slot (@exact: right
 * there), of up to @max clusters, and count it. *@ret_nb 0: none.
 */
static int coroutine_fn claim_in_block(Qcow2State *s, uint64_t index,
                                       uint64_t *slot, bool exact,
                                       uint64_t max, uint64_t *ret_nb)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t end = slots_per_block(s);
    uint64_t first, n = 0;
    Qcow2CacheEntry *e;
    int ret;

    BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_ALLOC);
    ret = qcow2_get_refblock(s, index, &e);
    if (ret < 0) {
        return ret;
    }
    first = exact ? *slot : MAX(*slot, s->first_free[index]);
    for (uint64_t i = first; i < end && !n; i++) {
        n = count_free(s, e->data, i, max);
        if (n || exact) {
            *slot = i;
            break;
        }
    }
    if (PLANTED(S1_ALLOC_BEFORE_LOCK)) {
        alloc_pause(s);
    }
    for (uint64_t i = 0; i < n; i++) {
        qcow2_refblock_set(e->data, s->refcount_order, *slot + i, 1);
    }
    if (n) {
        qcow2_cache_mark_dirty(s, s->refblock_cache, e);
    }
    if (!exact && first == s->first_free[index]) {
        s->first_free[index] = n ? *slot + n : end;
    }
    qcow2_cache_put(s, s->refblock_cache, e);
    *ret_nb = n;
    return 0;
}

/*
 * Clusters [@first, + @nb) are taken. Returns whether they read as zeroes: they
 * lie behind the end of the file and behind all that was taken before. (The
 * length alone does not tell: a write that failed may have left something.)
 */
static bool note_taken(Qcow2State *s, uint64_t first, uint64_t nb)
    REQUIRES(s->lock)
{
    uint64_t offset = qcow2_cluster_offset(s, first);
    bool fresh = offset >= s->host_end &&
                 offset >= s->bs->file->bs->total_bytes;

    s->host_end = MAX(s->host_end, offset + qcow2_cluster_offset(s, nb));
    return fresh;
}

/*
 * Count a free run of up to @max clusters that starts at or after cluster
 * @from (@exact: at @from, or *@ret_nb is 0).
 */
static int coroutine_fn claim(Qcow2State *s, uint64_t from, bool exact,
                              uint64_t max, uint64_t *ret_first,
                              uint64_t *ret_nb, bool *ret_fresh)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_check_writable(s);

    while (ret == 0) {
        uint64_t index = from >> s->refblock_bits;
        uint64_t slot = from & (slots_per_block(s) - 1);

        if (from >= QCOW2_MAX_HOST_OFFSET >> s->cluster_bits) {
            return -ENOSPC;
        }
        if (index >= s->reftable.size) {
            ret = qcow2_reftable_grow(s, index, 0);
            continue;
        }
        if (!s->reftable.entries[index]) {
            ret = qcow2_reftable_add_blocks(s, index, 1);
            continue;
        }
        if (exact || s->first_free[index] < slots_per_block(s)) {
            ret = claim_in_block(s, index, &slot, exact, max, ret_nb);
            if (ret < 0 || *ret_nb || exact) {
                *ret_first = (index << s->refblock_bits) + slot;
                if (ret == 0 && *ret_nb) {
                    *ret_fresh = note_taken(s, *ret_first, *ret_nb);
                }
                return ret;
            }
        }
        from = (index + 1) << s->refblock_bits;
    }
    return ret;
}

/* First cluster that may be free. */
static uint64_t first_candidate(Qcow2State *s) REQUIRES(s->lock)
{
    while (s->first_free_block < s->reftable.size &&
           s->reftable.entries[s->first_free_block] &&
           s->first_free[s->first_free_block] >= slots_per_block(s)) {
        s->first_free_block++;
    }
    return (uint64_t)s->first_free_block << s->refblock_bits;
}

int coroutine_fn qcow2_alloc_data(Qcow2State *s, uint64_t max,
                                  uint64_t *ret_offset, uint64_t *ret_nb,
                                  bool *ret_fresh)
{
    uint64_t first, n;
    int ret;

    BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC);
    ret = claim(s, first_candidate(s), false, max, &first, &n, ret_fresh);
    if (ret < 0) {
        return ret;
    }
    if (first == 0) {
        return qcow2_corruption(s, "the header's cluster counts as free");
    }
    s->need_barrier = true;
    *ret_offset = qcow2_cluster_offset(s, first);
    *ret_nb = n;
    return 0;
}

int coroutine_fn qcow2_alloc_run(Qcow2State *s, uint64_t max,
                                 uint64_t *ret_offset, uint64_t *ret_nb)
{
    bool fresh;

    return qcow2_alloc_data(s, max, ret_offset, ret_nb, &fresh);
}

int coroutine_fn qcow2_alloc_contiguous(Qcow2State *s, uint64_t nb,
                                        uint64_t *ret_offset)
{
    uint64_t from = first_candidate(s);
    uint64_t start = 0, got = 0;
    int ret = 0;

    BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC);
    while (got < nb) {
        if (!got && nb > slots_per_block(s) / 2) {
            /* No new block may get in the way of so long a run. */
            ret = qcow2_reftable_reserve(s, nb, &from);
            if (ret < 0) {
                return ret;
            }
        }
        uint64_t first, n;
        bool fresh;

        ret = claim(s, got ? start + got : from, got != 0, nb - got, &first,
                    &n, &fresh);
        if (ret == 0 && n) {
            start = got ? start : first;
            got += n;
        }
        if (ret < 0 || !n ||
            (got < nb && (start + got) & (slots_per_block(s) - 1))) {
            /* Too short: something in use follows. */
            if (got) {
                qcow2_unalloc(s, qcow2_cluster_offset(s, start), got);
            }
            if (ret < 0) {
                return ret;
            }
            from = start + got + 1;
            got = 0;
        }
    }
    if (start == 0) {
        return qcow2_corruption(s, "the header's cluster counts as free");
    }
    s->need_barrier = true;
    *ret_offset = qcow2_cluster_offset(s, start);
    return 0;
}

int coroutine_fn qcow2_alloc_at(Qcow2State *s, uint64_t offset, bool *ret)
{
    uint64_t first, n;
    bool fresh;
    int r = claim(s, offset >> s->cluster_bits, true, 1, &first, &n, &fresh);

    if (r < 0) {
        return r;
    }
    *ret = n > 0;
    s->need_barrier = true;
    return 0;
}

void coroutine_fn qcow2_unalloc(Qcow2State *s, uint64_t offset, uint64_t nb)
{
    (void)qcow2_update_refcount(s, offset, nb, -1, false); /* else: leaks */
}

/* ---- changing refcounts ---- */

/* Tell the host about those of @n clusters whose last reference goes. */
static void coroutine_fn punch_dying(Qcow2State *s, const uint8_t *block,
                                     uint64_t index, uint64_t slot,
                                     uint64_t n)
    REQUIRES(s->lock)
{
    uint64_t run = 0;

    for (uint64_t i = slot; i <= slot + n; i++) {
        if (i < slot + n &&
            qcow2_refblock_get(block, s->refcount_order, i) == 1) {
            run++;
            continue;
        }
        if (run) {
            uint64_t first = (index << s->refblock_bits) + i - run;

            (void)bdrv_co_pdiscard(s->bs->file,
                                   qcow2_cluster_offset(s, first),
                                   run << s->cluster_bits); /* advice */
            run = 0;
        }
    }
}

/* Check that @addend fits for @n slots, all of which are in use. */
static int coroutine_fn check_slots(Qcow2State *s, const uint8_t *block,
                                    uint64_t index, uint64_t slot,
                                    uint64_t n, int addend)
    REQUIRES(s->lock)
{
    for (uint64_t i = slot; i < slot + n; i++) {
        uint64_t v = qcow2_refblock_get(block, s->refcount_order, i);

        if (v == 0) {
            return qcow2_corruption(s, "cluster %" PRIu64 " is in use but "
                                    "its refcount is 0",
                                    (index << s->refblock_bits) + i);
        }
        if (addend > 0 && v == s->refcount_max) {
            return -ERANGE;
        }
    }
    return 0;
}

static void add_slots(Qcow2State *s, uint8_t *block, uint64_t index,
                      uint64_t slot, uint64_t n, int addend)
    REQUIRES(s->lock)
{
    for (uint64_t i = slot; i < slot + n; i++) {
        uint64_t v = qcow2_refblock_get(block, s->refcount_order, i);

        v += addend;
        qcow2_refblock_set(block, s->refcount_order, i, v);
        if (v == 0) {
            qcow2_pack_closed(s, qcow2_cluster_offset(
                s, (index << s->refblock_bits) + i));
            s->first_free[index] = MIN(s->first_free[index], i);
            s->first_free_block = MIN(s->first_free_block, index);
        }
    }
}

static int coroutine_fn update_in_block(Qcow2State *s, uint64_t index,
                                        uint64_t slot, uint64_t n,
                                        int addend, bool punch)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    int ret;

    BLKDBG_EVENT(s->bs->file, BLKDBG_REFBLOCK_ALLOC);
    ret = qcow2_get_refblock(s, index, &e);
    if (ret < 0) {
        return ret;
    }
    ret = check_slots(s, e->data, index, slot, n, addend);
    if (ret == 0) {
        if (punch && addend < 0) {
            punch_dying(s, e->data, index, slot, n);
        }
        add_slots(s, e->data, index, slot, n, addend);
        qcow2_cache_mark_dirty(s, s->refblock_cache, e);
    }
    qcow2_cache_put(s, s->refblock_cache, e);
    return ret;
}

/* Block by block; *@ret_done clusters were done when it fails. */
static int coroutine_fn update_range(Qcow2State *s, uint64_t offset,
                                     uint64_t nb, int addend,
                                     bool punch, uint64_t *ret_done)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t first = offset >> s->cluster_bits;
    int ret = 0;

    *ret_done = 0;
    while (*ret_done < nb && ret == 0) {
        uint64_t c = first + *ret_done;
        uint64_t slot = c & (slots_per_block(s) - 1);
        uint64_t n = MIN(nb - *ret_done, slots_per_block(s) - slot);

        ret = update_in_block(s, c >> s->refblock_bits, slot, n, addend,
                              punch);
        *ret_done += ret == 0 ? n : 0;
    }
    return ret;
}

int coroutine_fn qcow2_update_refcount(Qcow2State *s, uint64_t offset,
                                       uint64_t nb, int addend, bool punch)
{
    uint64_t done, undone;
    int ret;

    ret = update_range(s, offset, nb, addend, punch, &done);
    if (addend > 0) {
        s->need_barrier = true; /* R1 */
        if (ret < 0 && done && !s->corrupt) {
            (void)update_range(s, offset, done, -1, false, &undone);
        }
    }
    return ret;
}

int coroutine_fn qcow2_count_open(Qcow2State *s, bool *ret)
{
    uint64_t at = s->pack_next;
    uint64_t cluster = at >> s->cluster_bits;
    uint64_t slot = cluster & (slots_per_block(s) - 1);
    Qcow2CacheEntry *e;
    uint64_t v = 0;
    int r;

    *ret = false;
    r = qcow2_get_refblock(s, cluster >> s->refblock_bits, &e);
    if (r < 0) {
        return r;
    }
    if (s->pack_next == at) { /* not freed while the block was loading */
        v = qcow2_refblock_get(e->data, s->refcount_order, slot);
        *ret = v > 0 && v < s->refcount_max;
    }
    if (*ret) {
        qcow2_refblock_set(e->data, s->refcount_order, slot, v + 1);
        qcow2_cache_mark_dirty(s, s->refblock_cache, e);
        s->need_barrier = true; /* R1 */
    }
    qcow2_cache_put(s, s->refblock_cache, e);
    return 0;
}

/* ---- R3, R5 ---- */

void qcow2_defer_free(Qcow2State *s, uint64_t offset, uint64_t nb,
                      bool punch)
{
    Qcow2Free f = { offset, nb, punch };

    if (!nb) {
        return;
    }
    s->frees_clusters += nb;
    if (s->frees->len) {
        Qcow2Free *last = &g_array_index(s->frees, Qcow2Free,
                                         s->frees->len - 1);

        if (last->punch == punch &&
            last->host_offset + (last->nb_clusters << s->cluster_bits) ==
            offset) {
            last->nb_clusters += nb;
            return;
        }
    }
    g_array_append_val(s->frees, f);
}

int coroutine_fn qcow2_apply_frees(Qcow2State *s)
{
    GArray *now = s->frees;
    int ret = 0;

    /* Others may add to the new list while the lock is dropped; what they
     * add is not durable yet. */
    s->frees = g_array_new(false, false, sizeof(Qcow2Free));
    s->frees_clusters = 0;
    for (guint i = 0; i < now->len; i++) {
        Qcow2Free *f = &g_array_index(now, Qcow2Free, i);
        uint64_t done = 0;

        if (ret == 0) {
            BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_FREE);
            ret = update_range(s, f->host_offset, f->nb_clusters, -1,
                               f->punch, &done);
        }
        if (ret < 0 && !s->corrupt) {
            qcow2_defer_free(s, f->host_offset + (done << s->cluster_bits),
                             f->nb_clusters - done, f->punch);
        }
    }
    g_array_unref(now);
    return ret;
}
