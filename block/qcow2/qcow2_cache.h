/* SPDX-License-Identifier: MIT */
/*
 * Caches, the order in which metadata reaches the disk, and the checks before
 * each write of it.
 */
#ifndef FIRN_BLOCK_QCOW2_CACHE_H
#define FIRN_BLOCK_QCOW2_CACHE_H

#include "qcow2_int.h"

/* ---- cache.c: see there for states ---- */

typedef enum Qcow2CacheKind {
    QCOW2_CACHE_L2,
    QCOW2_CACHE_REFBLOCK,
} Qcow2CacheKind;

struct Qcow2CacheEntry {
    GList lru;              /* in cache->lru, data is the entry */
    GList dirty_link;       /* in cache->dirty while dirty */
    unsigned used;          /* cache->turn of the last use */
    uint64_t offset;        /* host offset; 0: holds nothing */
    uint8_t *data;
    unsigned pins;
    bool loading;
    bool dirty;
    int error;              /* of the last load, for those who waited */
    CoQueue waiters;        /* until !loading */
};

/* @entry_size: power of two. Memory is allocated as entries come into use. */
Qcow2Cache *qcow2_cache_new(Qcow2CacheKind kind, unsigned nb_entries,
                            size_t entry_size);
/* Asserts that nothing is pinned or loading. NULL is allowed. */
void qcow2_cache_free(Qcow2Cache *c);
/*
 * Pin the entry for host @offset, reading it if needed. The lock is not
 * dropped after the entry was found, so what *@ret says is true until the next
 * call that drops it. Returns 0 or -errno.
 */
int coroutine_fn qcow2_cache_get(Qcow2State *s, Qcow2Cache *c,
                                 uint64_t offset, Qcow2CacheEntry **ret)
    REQUIRES(s->lock) DROPS(s->lock);
void qcow2_cache_put(Qcow2State *s, Qcow2Cache *c, Qcow2CacheEntry *e)
    REQUIRES(s->lock);
void qcow2_cache_mark_dirty(Qcow2State *s, Qcow2Cache *c, Qcow2CacheEntry *e)
    REQUIRES(s->lock);
/* Write all dirty entries; no barrier before, no flush after. */
int coroutine_fn qcow2_cache_write(Qcow2State *s, Qcow2Cache *c)
    REQUIRES(s->lock);
/* @data is at @offset in the file and is not cached: keep it, if there is room
 * for nothing. */
void qcow2_cache_offer(Qcow2State *s, Qcow2Cache *c, uint64_t offset,
                       const void *data)
    REQUIRES(s->lock);
/* Forget what is cached of host range; dirty contents are lost. */
void qcow2_cache_discard(Qcow2State *s, Qcow2Cache *c, uint64_t offset,
                         uint64_t bytes) REQUIRES(s->lock);
/* Call @fn for each entry that holds something. */
void qcow2_cache_foreach(Qcow2State *s, Qcow2Cache *c,
                         void (*fn)(Qcow2State *, Qcow2CacheEntry *))
    REQUIRES(s->lock);
/* Forget all, dirty contents too; nothing is pinned or loading. */
void qcow2_cache_discard_all(Qcow2Cache *c);
bool qcow2_cache_is_dirty(const Qcow2Cache *c);
/* Drop clean entries that nobody has used since the previous call. */
void qcow2_cache_clean(Qcow2State *s, Qcow2Cache *c) REQUIRES(s->lock);
/* Entries it may have; memory of the buffers that are there. */
unsigned qcow2_cache_capacity(const Qcow2Cache *c);
size_t qcow2_cache_bytes(const Qcow2Cache *c);
/* For tests: entries that are pinned or loading. */
unsigned qcow2_cache_busy(const Qcow2Cache *c);
/* For tests: @fn sees every entry, the most recently used one first. */
void qcow2_cache_inspect(const Qcow2Cache *c,
                         void (*fn)(const Qcow2CacheEntry *e, void *opaque),
                         void *opaque);

/* ---- cachesize.c ---- */

/* Take the options for the caches and make them; start the timer that drops
 * unused entries. 0 or -EINVAL. */
int qcow2_caches_open(Qcow2State *s, BdrvOptions *o, GError **errp);
void coroutine_fn qcow2_caches_close(Qcow2State *s) EXCLUDES(s->lock);

/* ---- writeback.c ---- */

int qcow2_table_init(Qcow2Table *t, uint64_t offset, uint32_t size);
void qcow2_table_cleanup(Qcow2Table *t);
/* Set an entry; it reaches the disk with the next qcow2_table_write(). */
void qcow2_table_set(Qcow2Table *t, uint32_t index, uint64_t value);
bool qcow2_table_is_dirty(const Qcow2Table *t);
int coroutine_fn qcow2_table_load(Qcow2State *s, Qcow2Table *t);
int coroutine_fn qcow2_table_write(Qcow2State *s, Qcow2Table *t,
                                   unsigned ignore, BlkdebugEvent event)
    REQUIRES(s->lock);
/* Write @n entries as a whole new table; the caller flushes. */
int coroutine_fn qcow2_table_write_new(Qcow2State *s, uint64_t offset,
                                       const uint64_t *entries, uint32_t n,
                                       BlkdebugEvent event)
    REQUIRES(s->lock);
/*
 * Replace the fixed header fields, all in one sector, and make that durable.
 * Everything it points at must be durable already (R4). On failure the old
 * sector is put back; when that fails too, writes stop.
 */
int coroutine_fn qcow2_header_update(Qcow2State *s, const Qcow2Header *h)
    REQUIRES(s->lock);
/*
 * Make cluster 0 say what s->hdr and s->ext say, durably; see hdrwrite.c for
 * what a power cut can leave. Everything they point at must be durable already
 * (R4). Unknown extensions and header bytes stay. Returns 0; -ENOSPC when it
 * does not fit cluster 0, or -errno: then the disk is as it was and s->hdr
 * again as on disk (s->ext is the caller's to put back).
 */
int coroutine_fn qcow2_header_rewrite(Qcow2State *s) REQUIRES(s->lock);
/* Write refcount blocks, then (R4) the table sectors that point at new ones. */
int coroutine_fn qcow2_write_refcounts(Qcow2State *s) REQUIRES(s->lock);
/* R1, R2: make data and refcounts durable if the map waits for that. */
int coroutine_fn qcow2_barrier(Qcow2State *s) REQUIRES(s->lock);
/* The same where only the map follows: with lazy refcounts the dirty bit
 * stands for them. */
int coroutine_fn qcow2_map_barrier(Qcow2State *s) REQUIRES(s->lock);
/* Are refcounts on disk allowed to be too low? */
bool qcow2_may_lag(const Qcow2State *s) REQUIRES(s->lock);
/* Write refcounts | L2, L1. */
int coroutine_fn qcow2_write_map(Qcow2State *s) REQUIRES(s->lock);
/* All metadata; applies s->frees once their removal is durable. */
int coroutine_fn qcow2_flush_metadata(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Flush when too much waits to be freed; an error stays for the next one. */
void coroutine_fn qcow2_relieve(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* As qcow2_flush_metadata(), but when it returns 0 all is durable, lazy
 * refcounts too, and nothing waits. */
int coroutine_fn qcow2_sync_metadata(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Make all durable and clear the dirty bit: at close, and when lazy refcounts
 * are switched off. */
int coroutine_fn qcow2_mark_clean(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- overlap.c ---- */

/* Categories that a writer leaves out because it writes them on purpose. */
enum {
    QCOW2_OL_ACTIVE_L1      = 1 << 0,
    QCOW2_OL_ACTIVE_L2      = 1 << 1,
    QCOW2_OL_REFCOUNT_TABLE = 1 << 2,
    QCOW2_OL_REFCOUNT_BLOCK = 1 << 3,
    QCOW2_OL_BITMAP_DIRECTORY = 1 << 4,
    QCOW2_OL_MAIN_HEADER    = 1 << 5,
    QCOW2_OL_SNAPSHOT_TABLE = 1 << 6,
    QCOW2_OL_INACTIVE_L1    = 1 << 7,
    QCOW2_OL_INACTIVE_L2    = 1 << 8,
    QCOW2_OL_CRYPT_HEADER   = 1 << 9,
};

/* Take overlap-check and overlap-check.* and set s->overlap. */
int qcow2_overlap_take_options(Qcow2State *s, BdrvOptions *o, GError **errp);
/* overlap-inactive.c: is an L2 table of a snapshot at @offset? 0 or -errno. */
int coroutine_fn qcow2_inactive_l2_at(Qcow2State *s, uint64_t offset,
                                      bool *ret) REQUIRES(s->lock);
void qcow2_inactive_l2_free(Qcow2InactiveL2 *set);
/* Note that cluster at @offset holds metadata. */
void qcow2_filter_add(Qcow2State *s, uint64_t offset) REQUIRES(s->lock);
/* Collect it all again; after open and after the tables were replaced. */
int qcow2_filter_rebuild(Qcow2State *s) REQUIRES(s->lock);
/* 0, or -EIO and the image is marked corrupt (R7). */
int coroutine_fn qcow2_check_overlap(Qcow2State *s, unsigned ignore,
                                     uint64_t offset, uint64_t bytes)
    REQUIRES(s->lock);
/* R7: set the corrupt bit, remember why, stop writes. Returns -EIO. */
int coroutine_fn qcow2_corruption(Qcow2State *s, const char *fmt, ...)
    REQUIRES(s->lock) G_GNUC_PRINTF(2, 3);
/* 0, or -EIO when writes were stopped. */
int qcow2_check_writable(Qcow2State *s) REQUIRES(s->lock);

#endif
