/* SPDX-License-Identifier: MIT */
/*
 * Cache of L2 slices and refcount blocks.
 *
 * It owns the buffers and knows which host table is in which. An entry is
 *
 *   empty --get()--> loading --read done--> valid --victim()--> empty
 *                       \--read failed, or discard()--> empty
 *
 * and, when valid, clean or dirty (mark_dirty(), write()). All of it is
 * guarded by s->lock. A miss drops the lock while it reads (K2); those who
 * want the same table meanwhile wait on the entry's queue with a pin, so that
 * it cannot be reused before they have run. Writes keep the lock: nobody can
 * change a buffer that is on its way to the disk.
 *
 * Order between the caches is in writeback.c: a dirty L2 slice leaves only
 * behind qcow2_barrier() (R1, R2). Refcount blocks may be written at any time,
 * because increments may be early and decrements are applied late (R3).
 */
#include "qcow2_int.h"
#include "util/aio-task.h"
#include "util/plant.h"
#include "util/queue.h"

/* Largest write that neighbouring dirty entries are merged into. */
#define MERGE_BYTES (1024 * 1024)
/* Such writes at a time. */
#define WRITE_TASKS 8

struct Qcow2Cache {
    Qcow2CacheKind kind;
    size_t entry_size;
    unsigned nb_entries;
    Qcow2CacheEntry *entries;
    GHashTable *by_offset;   /* &entry->offset -> entry */
    GQueue lru;              /* most recently used first */
    GQueue dirty;            /* Qcow2CacheEntry.dirty_link, any order */
    CoQueue room;            /* until an entry can be evicted */
    unsigned turn;           /* calls of qcow2_cache_clean() */
};

Qcow2Cache *qcow2_cache_new(Qcow2CacheKind kind, unsigned nb_entries,
                            size_t entry_size)
{
    Qcow2Cache *c = g_new0(Qcow2Cache, 1);

    c->kind = kind;
    c->entry_size = entry_size;
    c->nb_entries = nb_entries;
    c->entries = g_new0(Qcow2CacheEntry, nb_entries);
    c->by_offset = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_queue_init(&c->lru);
    g_queue_init(&c->dirty);
    co_queue_init(&c->room);
    for (unsigned i = 0; i < nb_entries; i++) {
        Qcow2CacheEntry *e = &c->entries[i];

        co_queue_init(&e->waiters);
        e->lru.data = e;
        e->dirty_link.data = e;
        queue_push_tail_link(&c->lru, &e->lru);
    }
    return c;
}

void qcow2_cache_free(Qcow2Cache *c)
{
    if (!c) {
        return;
    }
    for (unsigned i = 0; i < c->nb_entries; i++) {
        assert(!c->entries[i].pins && !c->entries[i].loading);
        free(c->entries[i].data);
    }
    g_hash_table_unref(c->by_offset);
    g_free(c->entries);
    g_free(c);
}

bool qcow2_cache_is_dirty(const Qcow2Cache *c)
{
    return c->dirty.length != 0;
}

unsigned qcow2_cache_busy(const Qcow2Cache *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->nb_entries; i++) {
        n += c->entries[i].pins || c->entries[i].loading;
    }
    return n;
}

void qcow2_cache_inspect(const Qcow2Cache *c,
                         void (*fn)(const Qcow2CacheEntry *e, void *opaque),
                         void *opaque)
{
    for (const GList *l = c->lru.head; l; l = l->next) {
        fn(l->data, opaque);
    }
}

static void set_clean(Qcow2Cache *c, Qcow2CacheEntry *e)
{
    if (e->dirty) {
        e->dirty = false;
        queue_unlink(&c->dirty, &e->dirty_link);
    }
}

static void forget(Qcow2Cache *c, Qcow2CacheEntry *e)
{
    set_clean(c, e);
    if (e->offset) {
        g_hash_table_remove(c->by_offset, &e->offset);
        e->offset = 0;
    }
}

static void unpin(Qcow2Cache *c, Qcow2CacheEntry *e)
{
    assert(e->pins > 0);
    if (--e->pins == 0) {
        co_queue_next(&c->room);
    }
}

static void touch(Qcow2Cache *c, Qcow2CacheEntry *e)
{
    e->used = c->turn;
    if (c->lru.head != &e->lru) {
        queue_unlink(&c->lru, &e->lru);
        g_queue_push_head_link(&c->lru, &e->lru);
    }
}

unsigned qcow2_cache_capacity(const Qcow2Cache *c)
{
    return c->nb_entries;
}

size_t qcow2_cache_bytes(const Qcow2Cache *c)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < c->nb_entries; i++) {
        bytes += c->entries[i].data ? c->entry_size : 0;
    }
    return bytes;
}

void qcow2_cache_clean(Qcow2State *s, Qcow2Cache *c)
{
    for (unsigned i = 0; i < c->nb_entries; i++) {
        Qcow2CacheEntry *e = &c->entries[i];

        if (!e->pins && !e->loading && !e->dirty && e->used != c->turn) {
            forget(c, e);
            g_clear_pointer(&e->data, free);
        }
    }
    c->turn++;
}

void qcow2_cache_foreach(Qcow2State *s, Qcow2Cache *c,
                         void (*fn)(Qcow2State *, Qcow2CacheEntry *))
{
    for (unsigned i = 0; i < c->nb_entries; i++) {
        if (c->entries[i].offset && !c->entries[i].loading) {
            fn(s, &c->entries[i]);
        }
    }
}

/* ---- writing ---- */

static int by_offset(const void *a, const void *b)
{
    const Qcow2CacheEntry *x = *(Qcow2CacheEntry *const *)a;
    const Qcow2CacheEntry *y = *(Qcow2CacheEntry *const *)b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* @n entries that follow each other in the file. */
typedef struct WriteRun {
    Qcow2State *s;
    Qcow2Cache *c;
    Qcow2CacheEntry **entries;
    unsigned n;
} WriteRun;

/* The one who waits for it holds the lock. */
static int coroutine_fn write_run(void *opaque)
{
    WriteRun *r = opaque;
    Qcow2Cache *c = r->c;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init(&qiov, r->n);
    for (unsigned i = 0; i < r->n; i++) {
        qemu_iovec_add(&qiov, r->entries[i]->data, c->entry_size);
    }
    BLKDBG_EVENT(r->s->bs->file, c->kind == QCOW2_CACHE_L2
                                 ? BLKDBG_L2_UPDATE
                                 : BLKDBG_REFBLOCK_UPDATE_PART);
    ret = bdrv_co_pwritev(r->s->bs->file, r->entries[0]->offset, qiov.size,
                          &qiov, 0);
    qemu_iovec_destroy(&qiov);
    for (unsigned i = 0; i < r->n && ret == 0; i++) {
        set_clean(c, r->entries[i]);
    }
    return ret;
}

/* Several runs at a time; the order within one write-back is free. */
static int coroutine_fn write_runs(Qcow2State *s, Qcow2Cache *c,
                                   WriteRun *runs, unsigned nb)
    REQUIRES(s->lock)
{
    unsigned ignore = c->kind == QCOW2_CACHE_L2 ? QCOW2_OL_ACTIVE_L2
                                                : QCOW2_OL_REFCOUNT_BLOCK;
    AioTaskPool *pool = nb > 1 ? aio_task_pool_new(WRITE_TASKS) : NULL;
    int ret = 0;

    for (unsigned i = 0; i < nb && ret == 0; i++) {
        ret = qcow2_check_overlap(s, ignore, runs[i].entries[0]->offset,
                                  (uint64_t)runs[i].n * c->entry_size);
        if (ret == 0 && pool) {
            ret = aio_task_pool_start_unless_failed(pool, write_run,
                                                    &runs[i]);
        } else if (ret == 0) {
            ret = write_run(&runs[i]);
        }
    }
    if (pool) {
        aio_task_pool_wait_all(pool);
        ret = ret < 0 ? ret : aio_task_pool_status(pool);
        aio_task_pool_free(pool);
    }
    return ret;
}

/* All dirty entries, by offset; to be freed. */
static Qcow2CacheEntry **list_dirty(Qcow2Cache *c)
{
    Qcow2CacheEntry **dirty = g_new(Qcow2CacheEntry *, c->dirty.length);
    unsigned n = 0;

    for (GList *l = c->dirty.head; l; l = l->next) {
        dirty[n++] = l->data;
    }
    assert(n == c->dirty.length);
    qsort(dirty, n, sizeof(*dirty), by_offset);
    return dirty;
}

int coroutine_fn qcow2_cache_write(Qcow2State *s, Qcow2Cache *c)
{
    unsigned max = MAX(MERGE_BYTES / c->entry_size, 1);
    unsigned n = c->dirty.length, nb_runs = 0;
    g_autofree Qcow2CacheEntry **dirty = NULL;
    g_autofree WriteRun *runs = NULL;
    int ret;

    if (!n) {
        return 0;
    }
    ret = qcow2_check_writable(s);
    if (ret < 0) {
        return ret;
    }
    dirty = list_dirty(c);
    runs = g_new(WriteRun, n);
    for (unsigned i = 0, k; i < n; i += k) {
        for (k = 1; i + k < n && k < max; k++) {
            if (dirty[i + k]->offset !=
                dirty[i]->offset + (uint64_t)k * c->entry_size) {
                break;
            }
        }
        runs[nb_runs++] = (WriteRun) { s, c, dirty + i, k };
    }
    return write_runs(s, c, runs, nb_runs);
}

/* ---- finding room ---- */

/* The entry to evict next. When nothing may be written any more (R7), reads go
 * on in the clean ones. */
static Qcow2CacheEntry *oldest_idle(Qcow2State *s, Qcow2Cache *c)
    REQUIRES(s->lock)
{
    Qcow2CacheEntry *dirty = NULL;

    for (GList *l = c->lru.tail; l; l = l->prev) {
        Qcow2CacheEntry *e = l->data;

        if (e->pins || e->loading) {
            continue;
        }
        if (!e->dirty || qcow2_check_writable(s) == 0) {
            return e;
        }
        dirty = dirty ? dirty : e;
    }
    return dirty;
}

/* Write back what stands in the way of a new entry. */
static int coroutine_fn make_clean(Qcow2State *s, Qcow2Cache *c)
    REQUIRES(s->lock)
{
    int ret = c->kind == QCOW2_CACHE_L2 ? qcow2_map_barrier(s) : 0; /* R1, R2 */

    return ret < 0 ? ret : qcow2_cache_write(s, c);
}

/* The fault of S1_REFCOUNT_UNLOCKED: room for a refcount block is made without
 * the lock, so another request can take the same entry meanwhile. */
static int coroutine_fn make_clean_unlocked(Qcow2State *s, Qcow2Cache *c)
    NO_TSA
{
    int ret;

    co_mutex_unlock(&s->lock);
    ret = qcow2_cache_write(s, c);
    co_mutex_lock(&s->lock);
    return ret;
}

/*
 * Take an entry out of use. Dirty ones are written first, all of them, so that
 * one barrier serves many. Returns 0 with an empty entry and the lock held all
 * the time, -EAGAIN after waiting for one, or -errno.
 */
static int coroutine_fn victim(Qcow2State *s, Qcow2Cache *c,
                               Qcow2CacheEntry **ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e = oldest_idle(s, c);
    int r;

    if (!e) {
        co_queue_wait(&c->room, &s->lock);
        return -EAGAIN;
    }
    if (e->dirty) {
        if ((PLANTED(S1_REFCOUNT_UNLOCKED) ||
             PLANTED(Q_REFCOUNT_READ_UNLOCKED)) &&
            c->kind == QCOW2_CACHE_REFBLOCK) {
            r = make_clean_unlocked(s, c);
        } else {
            r = make_clean(s, c);
        }
        if (r < 0) {
            co_queue_next(&c->room); /* somebody else may be luckier */
            return r;
        }
    }
    forget(c, e);
    if (!e->data) {
        e->data = blk_try_memalign(c->entry_size);
        if (!e->data) {
            co_queue_next(&c->room);
            return -ENOMEM;
        }
    }
    *ret = e;
    return 0;
}

static void adopt(Qcow2Cache *c, Qcow2CacheEntry *e, uint64_t offset)
{
    e->offset = offset;
    e->error = 0;
    e->pins++;
    g_hash_table_insert(c->by_offset, &e->offset, e);
    touch(c, e);
}

/* ---- getting ---- */

/* Read @e, which is ours and empty. Drops the lock for the read (K2). */
static int coroutine_fn load(Qcow2State *s, Qcow2Cache *c,
                             Qcow2CacheEntry *e, uint64_t offset)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret;

    adopt(c, e, offset);
    e->loading = true;
    if (!PLANTED(S1_MISSES_SERIALIZE)) {
        co_mutex_unlock(&s->lock);
    }
    BLKDBG_EVENT(s->bs->file, c->kind == QCOW2_CACHE_L2
                              ? BLKDBG_L2_LOAD : BLKDBG_REFBLOCK_LOAD);
    ret = bdrv_co_pread(s->bs->file, offset, c->entry_size, e->data, 0);
    if (!PLANTED(S1_MISSES_SERIALIZE)) {
        co_mutex_lock(&s->lock);
    }
    e->loading = false;
    if (ret < 0) {
        forget(c, e);
    } else if (e->offset != offset) {
        ret = -EAGAIN; /* discarded meanwhile: the bytes may be old */
    }
    e->error = ret;
    co_queue_restart_all(&e->waiters);
    if (ret < 0) {
        unpin(c, e);
    }
    return ret;
}

/* Wait until somebody else's load of @e is over; @e is pinned on success. */
static int coroutine_fn join(Qcow2State *s, Qcow2Cache *c,
                             Qcow2CacheEntry *e)
    REQUIRES(s->lock) DROPS(s->lock)
{
    e->pins++; /* the entry stays ours to look at */
    while (e->loading) {
        co_queue_wait(&e->waiters, &s->lock);
    }
    if (e->error < 0) {
        int ret = e->error;

        unpin(c, e);
        return ret;
    }
    return 0;
}

int coroutine_fn qcow2_cache_get(Qcow2State *s, Qcow2Cache *c,
                                 uint64_t offset, Qcow2CacheEntry **ret)
{
    Qcow2CacheEntry *e;
    int r;

    do {
        e = g_hash_table_lookup(c->by_offset, &offset);
        if (!e) {
            r = victim(s, c, &e);
            r = r < 0 ? r : load(s, c, e, offset);
        } else if (e->loading) {
            r = join(s, c, e);
            if (r == 0 && e->offset != offset) {
                unpin(c, e);
                r = -EAGAIN;
            }
        } else {
            e->pins++;
            touch(c, e);
            r = 0;
        }
    } while (r == -EAGAIN);
    if (r < 0) {
        return r;
    }
    *ret = e;
    return 0;
}

void qcow2_cache_offer(Qcow2State *s, Qcow2Cache *c, uint64_t offset,
                       const void *data)
{
    Qcow2CacheEntry *e = oldest_idle(s, c);

    if (!e || e->dirty) {
        return;
    }
    forget(c, e);
    e->data = e->data ? e->data : blk_try_memalign(c->entry_size);
    if (e->data) {
        memcpy(e->data, data, c->entry_size);
        adopt(c, e, offset);
        unpin(c, e);
    }
}

void qcow2_cache_put(Qcow2State *s, Qcow2Cache *c, Qcow2CacheEntry *e)
{
    unpin(c, e);
}

void qcow2_cache_mark_dirty(Qcow2State *s, Qcow2Cache *c, Qcow2CacheEntry *e)
{
    assert(e->pins > 0 && e->offset && !e->loading);
    if (!e->dirty) {
        e->dirty = true;
        queue_push_tail_link(&c->dirty, &e->dirty_link);
    }
}

void qcow2_cache_discard(Qcow2State *s, Qcow2Cache *c, uint64_t offset,
                         uint64_t bytes)
{
    for (uint64_t o = offset; o < offset + bytes; o += c->entry_size) {
        Qcow2CacheEntry *e = g_hash_table_lookup(c->by_offset, &o);

        if (e) {
            forget(c, e); /* a load in progress notices: see load() */
        }
    }
}

void qcow2_cache_discard_all(Qcow2Cache *c)
{
    for (GList *l = c->lru.head; l; l = l->next) {
        Qcow2CacheEntry *e = l->data;

        assert(!e->pins && !e->loading);
        forget(c, e);
    }
}
