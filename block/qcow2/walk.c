/* SPDX-License-Identifier: MIT */
/*
 * Whole-map passes: the refcounts of everything under an L1 table, and COPIED
 * flags.
 *
 * A refcount counts paths through L1 tables, so each L1 entry contributes its
 * L2 table and every cluster that table maps, also when the table is shared.
 *
 *   qcow2_walk_check()  reads the tables, several at a time and without
 *                       s->lock, into a tally, and compares it with the
 *                       refcounts;
 *   qcow2_walk_apply()  changes the refcounts, block by block.
 *
 * The tables are read past the L2 cache. So they are on disk as they are, and
 * stay so: those of a snapshot always, because a table that a snapshot shares
 * is never written in place; those of the active layer while map_lock is held
 * exclusively and after a flush (K4).
 *
 * COPIED is cleared (for a new snapshot) past the cache too, in what the walk
 * has read where memory allows that. It is set (after a delete) through the
 * cache, slice by slice under s->lock, while guests go on. That needs only the
 * list of clusters whose refcount became 1: a cluster that a standard entry of
 * the active layer refers to gets no second reference as long as map_lock is
 * held, even shared, because only snapshots add references to such clusters.
 */
#include "qcow2_int.h"

#include "util/aio-task.h"

#define WALK_TASKS 8
/* Tables that must be written again may be kept from one pass to the next. */
#define KEEP_BYTES (64u * 1024 * 1024)
/* Dirty bytes that qcow2_walk_set_copied() makes before it writes them. */
#define SET_BYTES  (4u * 1024 * 1024)

typedef struct WalkTable {
    uint64_t offset;
    bool copied;            /* some entry has the flag */
    uint8_t *data;          /* NULL: read it again */
} WalkTable;

typedef enum WalkWhat {
    WALK_ALL,
    WALK_DATA,              /* what the tables map */
    WALK_TABLES,
} WalkWhat;

struct Qcow2Walk {
    Qcow2State *s;
    Qcow2Tally *tally;
    WalkTable *tables;
    uint32_t nb_tables;
    uint32_t next;          /* table that the next task takes */
    uint64_t kept;          /* bytes in data */
    uint64_t dirty;         /* bytes of slices that got flags, unwritten */
    WalkWhat what;          /* is counted */
    bool keep;
    bool further;           /* further windows: counts are gone */
    bool failed;            /* tasks take no more tables */
    bool may_stop;          /* -ECANCELED is an answer now */
};

Qcow2Walk *qcow2_walk_new(const Qcow2State *s, const uint64_t *l1,
                          uint32_t n)
{
    Qcow2Walk *w = g_new0(Qcow2Walk, 1);

    w->s = (Qcow2State *)s;
    w->tally = qcow2_tally_new(s);
    w->tables = g_try_new0(WalkTable, (gsize)n + 1);
    if (!w->tally || !w->tables) {
        qcow2_walk_free(w);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;

        if (offset) {
            w->tables[w->nb_tables++].offset = offset;
        }
    }
    return w;
}

static void forget_tables(Qcow2Walk *w)
{
    for (uint32_t i = 0; i < w->nb_tables; i++) {
        free(w->tables[i].data);
        w->tables[i].data = NULL;
    }
    w->kept = 0;
}

void qcow2_walk_free(Qcow2Walk *w)
{
    if (!w) {
        return;
    }
    if (w->tables) {
        forget_tables(w);
    }
    qcow2_tally_free(w->tally);
    g_free(w->tables);
    g_free(w);
}

/* Run @fn in several tasks; each takes the next table until there is none. */
static int coroutine_fn run_tasks(Qcow2Walk *w, AioTaskFunc *fn)
    EXCLUDES(w->s->lock)
{
    AioTaskPool *pool = aio_task_pool_new(WALK_TASKS);
    int ret;

    w->next = 0;
    w->failed = false;
    for (unsigned i = 0; i < WALK_TASKS; i++) {
        aio_task_pool_start(pool, fn, w);
    }
    aio_task_pool_wait_all(pool);
    ret = aio_task_pool_status(pool);
    aio_task_pool_free(pool);
    return ret;
}

/* R7, for those who do not hold the lock. */
static int coroutine_fn found(Qcow2State *s, const char *what,
                              uint64_t offset) EXCLUDES(s->lock)
{
    co_mutex_lock(&s->lock);
    (void)qcow2_corruption(s, "%s host offset %#" PRIx64, what, offset);
    co_mutex_unlock(&s->lock);
    return -EIO;
}

/* ---- counting ---- */

static int coroutine_fn count_failed(Qcow2State *s, int ret, uint64_t offset)
    EXCLUDES(s->lock)
{
    return ret == -ERANGE ? found(s, "no refcount block counts what is in use "
                                  "at", offset) : ret;
}

static int coroutine_fn count_compressed(Qcow2Walk *w, uint64_t desc)
    EXCLUDES(w->s->lock)
{
    Qcow2State *s = w->s;
    uint64_t offset, bytes, first;
    int ret;

    qcow2_entry_compressed(s, desc, &offset, &bytes);
    first = offset >> s->cluster_bits;
    ret = qcow2_tally_add(w->tally, first,
                          ((offset + bytes - 1) >> s->cluster_bits) - first +
                          1);
    return count_failed(s, ret, offset);
}

/* Count all that @data refers to; *@ret_copied: some entry has the flag. */
static int coroutine_fn count_table(Qcow2Walk *w, const uint8_t *data,
                                    bool *ret_copied)
    EXCLUDES(w->s->lock)
{
    Qcow2State *s = w->s;
    unsigned cluster_bits = s->cluster_bits, slot_bits = s->refblock_bits;
    uint64_t in_cluster = s->cluster_size - 1;
    uint64_t slots = (1ULL << slot_bits) - 1;
    uint64_t step = 1ULL << s->l2_entry_bits;
    uint64_t block = UINT64_MAX;
    uint32_t *counts = NULL;
    uint64_t flags = 0;
    int ret = 0;

    for (uint64_t i = 0; i < s->cluster_size && ret == 0; i += step) {
        uint64_t desc = be64_get(data + i);
        uint64_t offset = desc & QCOW2_OFFSET_MASK;

        if (!(desc & (QCOW2_OFFSET_MASK | QCOW2_COMPRESSED))) {
            continue;
        }
        flags |= desc;
        if (desc & QCOW2_COMPRESSED) {
            ret = count_compressed(w, desc);
            continue;
        }
        if (offset & in_cluster) {
            return found(s, "a data cluster is at unaligned", offset);
        }
        if (offset >> cluster_bits >> slot_bits != block) {
            block = offset >> cluster_bits >> slot_bits;
            ret = qcow2_tally_block(w->tally, block, &counts);
            if (ret < 0) {
                return count_failed(s, ret, offset);
            }
        }
        if (counts) {
            counts[(offset >> cluster_bits) & slots]++;
        }
    }
    *ret_copied = flags & QCOW2_COPIED;
    return ret;
}

static int coroutine_fn read_table(Qcow2State *s, uint64_t offset,
                                   uint8_t *buf) EXCLUDES(s->lock)
{
    if (!IS_ALIGNED(offset, s->cluster_size)) {
        return found(s, "an L2 table is at unaligned", offset);
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_L2_LOAD);
    return bdrv_co_pread(s->bs->file, offset, s->cluster_size, buf, 0);
}

/* *@buf, if any, is used, and taken when the table is kept. */
static int coroutine_fn count_one(Qcow2Walk *w, WalkTable *t, uint8_t **buf)
    EXCLUDES(w->s->lock)
{
    Qcow2State *s = w->s;
    int ret = 0;

    *buf = *buf ? *buf : blk_try_memalign(s->cluster_size);
    if (!*buf) {
        return -ENOMEM;
    }
    if (w->what != WALK_DATA) {
        ret = qcow2_tally_add(w->tally, t->offset >> s->cluster_bits, 1);
        ret = count_failed(s, ret, t->offset);
    }
    if (ret < 0 || w->what == WALK_TABLES) {
        return ret;
    }
    ret = read_table(s, t->offset, *buf);
    if (ret == 0 && !qcow2_has_data_file(s)) { /* else: not counted */
        ret = count_table(w, *buf, &t->copied);
    }
    if (ret == 0 && t->copied && w->keep && !t->data &&
        w->kept < KEEP_BYTES) {
        w->kept += s->cluster_size;
        t->data = *buf;
        *buf = NULL;
    }
    return ret;
}

static int coroutine_fn count_task(void *opaque)
{
    Qcow2Walk *w = opaque;
    uint8_t *buf = NULL;
    int ret = 0;

    while (ret == 0 && !w->failed && w->next < w->nb_tables) {
        ret = w->may_stop ? aio_check_stop() : 0;
        ret = ret < 0 ? ret : count_one(w, &w->tables[w->next++], &buf);
    }
    w->failed = w->failed || ret < 0;
    free(buf);
    return ret;
}

/* Count @what lies in the window. */
static int coroutine_fn count_window(Qcow2Walk *w, WalkWhat what)
    EXCLUDES(w->s->lock)
{
    w->what = what;
    return run_tasks(w, count_task);
}

/* A table for each L1 entry; more than the file can hold is a loop. */
static int coroutine_fn check_amount(Qcow2State *s, const Qcow2Walk *w)
    REQUIRES(s->lock)
{
    uint64_t end = ROUND_UP(s->bs->file->bs->total_bytes, s->cluster_size);

    if (w->nb_tables > end >> s->cluster_bits) {
        return qcow2_corruption(s, "an L1 table has more L2 tables than the "
                                "file has clusters");
    }
    return 0;
}

static int coroutine_fn check(Qcow2State *s, Qcow2Walk *w, int addend)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = check_amount(s, w);

    if (ret < 0) {
        return ret;
    }
    w->keep = addend > 0;
    do {
        co_mutex_unlock(&s->lock);
        ret = count_window(w, WALK_ALL);
        co_mutex_lock(&s->lock);
        ret = ret < 0 ? ret : qcow2_tally_check(s, w->tally, addend);
        if (ret < 0 || !qcow2_tally_next_window(w->tally)) {
            break;
        }
        w->further = true;
    } while (true);
    return ret;
}

int coroutine_fn qcow2_walk_check(Qcow2State *s, Qcow2Walk *w, int addend,
                                  bool may_stop)
{
    int ret;

    w->may_stop = may_stop;
    ret = check(s, w, addend);
    w->may_stop = false;
    return ret;
}

/* Do it window by window, for @what; stop behind @limit windows. */
static int coroutine_fn apply_windows(Qcow2State *s, Qcow2Walk *w,
                                      WalkWhat what, int addend, bool punch,
                                      unsigned limit, unsigned *ret_done)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = 0;

    *ret_done = 0;
    if (w->further) {
        qcow2_tally_window(w->tally, 0);
    }
    while (ret == 0 && *ret_done < limit) {
        if (w->further) {
            co_mutex_unlock(&s->lock);
            ret = count_window(w, what);
            co_mutex_lock(&s->lock);
        }
        ret = ret < 0 ? ret : qcow2_tally_apply(s, w->tally, addend, punch,
                                               w->may_stop);
        if (ret == 0) {
            ++*ret_done;
            if (!w->further || !qcow2_tally_next_window(w->tally)) {
                break;
            }
        }
    }
    return ret;
}

int coroutine_fn qcow2_walk_apply(Qcow2State *s, Qcow2Walk *w, int addend,
                                  bool punch, bool may_stop)
{
    /* The tables are read again for each window, so they go last. */
    bool data_first = w->further && addend < 0;
    unsigned done, undone;
    int ret;

    w->may_stop = may_stop;
    ret = apply_windows(s, w, data_first ? WALK_DATA : WALK_ALL, addend,
                        punch, UINT_MAX, &done);
    if (ret == 0 && data_first) {
        ret = apply_windows(s, w, WALK_TABLES, addend, punch, UINT_MAX,
                            &done);
    }
    w->may_stop = false;
    if (ret < 0 && addend > 0 && done && !s->corrupt) {
        (void)apply_windows(s, w, WALK_ALL, -addend, false, done, &undone);
    }
    return ret;
}

int coroutine_fn qcow2_walk_drop(Qcow2State *s, const uint64_t *l1,
                                 uint32_t n, bool punch, bool may_stop)
{
    Qcow2Walk *w = qcow2_walk_new(s, l1, n);
    int ret = -ENOMEM;

    if (w) {
        w->may_stop = may_stop;
        ret = check(s, w, -1);
        ret = ret < 0 ? ret : qcow2_walk_apply(s, w, -1, punch, may_stop);
    }
    for (uint32_t i = 0; i < n; i++) {
        qcow2_cache_discard(s, s->l2_cache, l1[i] & QCOW2_OFFSET_MASK,
                            s->cluster_size);
    }
    qcow2_walk_free(w);
    return ret;
}

/* ---- COPIED, clearing ---- */

static void clear_flags(const Qcow2State *s, uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 1u << s->l2_entry_bits) {
        data[i] &= 0x7f; /* QCOW2_COPIED is the first bit of an entry */
    }
}

static void clear_cached(Qcow2State *s, Qcow2CacheEntry *e)
{
    clear_flags(s, e->data, (size_t)1 << (s->l2_slice_bits +
                                          s->l2_entry_bits));
}

static int coroutine_fn check_target(Qcow2State *s, uint64_t offset)
    EXCLUDES(s->lock)
{
    int ret;

    co_mutex_lock(&s->lock);
    /* Flags change in tables that snapshots share, too. */
    ret = qcow2_check_overlap(s, QCOW2_OL_ACTIVE_L2 | QCOW2_OL_INACTIVE_L2,
                              offset, s->cluster_size);
    co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn clear_one(Qcow2Walk *w, WalkTable *t)
    EXCLUDES(w->s->lock)
{
    Qcow2State *s = w->s;
    uint8_t *buf = t->data;
    int ret = 0;

    t->data = NULL;
    if (!buf) {
        buf = blk_try_memalign(s->cluster_size);
        ret = buf ? read_table(s, t->offset, buf) : -ENOMEM;
    }
    ret = ret < 0 ? ret : check_target(s, t->offset);
    if (ret == 0) {
        clear_flags(s, buf, s->cluster_size);
        BLKDBG_EVENT(s->bs->file, BLKDBG_L2_UPDATE);
        ret = bdrv_co_pwrite(s->bs->file, t->offset, s->cluster_size, buf, 0);
    }
    free(buf);
    return ret;
}

static int coroutine_fn clear_task(void *opaque)
{
    Qcow2Walk *w = opaque;
    int ret = 0;

    while (ret == 0 && !w->failed && w->next < w->nb_tables) {
        WalkTable *t = &w->tables[w->next++];

        if (t->copied) {
            ret = clear_one(w, t);
        }
    }
    w->failed = w->failed || ret < 0;
    return ret;
}

int coroutine_fn qcow2_walk_clear_copied(Qcow2State *s, Qcow2Walk *w)
{
    bool copied = false;
    int ret;

    for (uint32_t i = 0; i < w->nb_tables; i++) {
        copied = copied || w->tables[i].copied;
    }
    if (!copied) {
        return 0;
    }
    qcow2_cache_foreach(s, s->l2_cache, clear_cached);
    co_mutex_unlock(&s->lock);
    ret = run_tasks(w, clear_task);
    co_mutex_lock(&s->lock);
    forget_tables(w);
    return ret;
}

/* ---- COPIED, setting ---- */

/* Set the flag on entries of @data whose cluster has one reference now. */
static bool set_flags(const Qcow2State *s, const Qcow2Walk *w, uint8_t *data)
{
    uint64_t n = 1ULL << s->l2_slice_bits;
    bool changed = false;

    for (uint64_t i = 0; i < n; i++) {
        Qcow2Entry e = qcow2_entry_get(s, data, i);

        if ((e.desc & (QCOW2_COMPRESSED | QCOW2_COPIED)) ||
            !(e.desc & QCOW2_OFFSET_MASK) ||
            !qcow2_tally_is_one(w->tally, (e.desc & QCOW2_OFFSET_MASK) >>
                                          s->cluster_bits)) {
            continue;
        }
        e.desc |= QCOW2_COPIED;
        qcow2_entry_put(s, data, i, e);
        changed = true;
    }
    return changed;
}

/* All slices of the table that L1 entry @index has now. */
static int coroutine_fn set_slices(Qcow2State *s, Qcow2Walk *w,
                                   uint32_t index)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t start = index * qcow2_l1_coverage(s);
    uint64_t step = s->cluster_size << s->l2_slice_bits;

    for (uint64_t o = 0; o < qcow2_l1_coverage(s); o += step) {
        Qcow2CacheEntry *e;
        unsigned first;
        int ret = qcow2_get_slice(s, &s->l1, start + o, &e, &first);

        if (ret < 0 || !e) {
            return ret;
        }
        if (set_flags(s, w, e->data)) {
            qcow2_cache_mark_dirty(s, s->l2_cache, e);
            w->dirty += 1ULL << s->l2_slice_bits << s->l2_entry_bits;
        }
        qcow2_cache_put(s, s->l2_cache, e);
    }
    return 0;
}

/* The slices of the table of L1 entry @index, then that entry. */
static int coroutine_fn set_table(Qcow2State *s, Qcow2Walk *w,
                                  uint32_t index)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t table, entry;
    int ret;

    do {
        table = s->l1.entries[index] & QCOW2_OFFSET_MASK;
        ret = set_slices(s, w, index);
        if (ret < 0) {
            return ret;
        }
        entry = s->l1.entries[index];
        /* K3: a guest's write may have copied the table from disk, where the
         * flags are not yet. */
    } while ((entry & QCOW2_OFFSET_MASK) != table);
    if ((entry & QCOW2_OFFSET_MASK) && !(entry & QCOW2_COPIED) &&
        qcow2_tally_is_one(w->tally, (entry & QCOW2_OFFSET_MASK) >>
                                     s->cluster_bits)) {
        qcow2_table_set(&s->l1, index, entry | QCOW2_COPIED);
    }
    return 0;
}

static int coroutine_fn set_task(void *opaque)
{
    Qcow2Walk *w = opaque;
    Qcow2State *s = w->s;
    int ret = 0;

    co_mutex_lock(&s->lock);
    while (ret == 0 && !w->failed && w->next < s->l1.size) {
        uint32_t i = w->next++;

        if (!(s->l1.entries[i] & QCOW2_OFFSET_MASK)) {
            continue;
        }
        ret = set_table(s, w, i);
        if (ret == 0 && w->dirty >= SET_BYTES) {
            w->dirty = 0;
            ret = qcow2_write_map(s);
        }
        /* Guests that wait for the lock have their turn. */
        co_mutex_unlock(&s->lock);
        co_mutex_lock(&s->lock);
    }
    w->failed = w->failed || ret < 0;
    co_mutex_unlock(&s->lock);
    return ret;
}

static int coroutine_fn set_all(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret;

    co_mutex_unlock(&s->lock);
    ret = run_tasks(w, set_task);
    co_mutex_lock(&s->lock);
    return ret < 0 ? ret : qcow2_write_map(s);
}

int coroutine_fn qcow2_walk_set_copied(Qcow2State *s, Qcow2Walk *w)
{
    int ret;

    if (!qcow2_tally_nb_ones(w->tally)) {
        return 0;
    }
    ret = set_all(s, w);
    if (ret < 0 && !s->corrupt) {
        /* A fault that has passed should not leave flags behind. */
        (void)set_all(s, w);
    }
    return ret;
}
