/* SPDX-License-Identifier: MIT */
/*
 * What the files of the qcow2 driver share.
 *
 * Locks, outermost first. Everything below names one of them.
 *   delete_lock  CoMutex: one snapshot is deleted at a time.
 *   map_lock  CoRwlock: shared by requests and by the deletion of a snapshot,
 *             exclusive for what else changes the whole map (snapshots,
 *             resize, dropping vmstate).
 *   lock      CoMutex: all metadata (K1).
 *
 * Rules. Files that act on one say its name there.
 *  (K1) s->lock guards all metadata. It is dropped across guest data I/O and
 *       copy-on-write, never within a metadata transition.
 *  (K2) A cache miss marks its entry loading, drops s->lock for the read, and
 *       wakes the entry's queue: misses on different tables overlap.
 *  (K3) What was looked up before s->lock was dropped is stale, unless it is
 *       pinned or covered by an entry of s->in_flight. No coroutine waits for
 *       a cache entry while it pins another one.
 *  (K4) What changes the whole map holds map_lock exclusively. Deleting a
 *       snapshot changes no mapping: it holds map_lock shared, so that guests
 *       go on and whole-map operations wait.
 *  (R1) A refcount increase is durable before an entry uses the cluster.
 *  (R2) Data is durable before the L2 entry that exposes it.
 *  (R3) A refcount drops only after removal of the reference is durable.
 *  (R4) A new table is durable before the pointer to it.
 *  (R5) A freed cluster is not written again before (R3) is satisfied; it
 *       waits in s->frees with its refcount until then.
 *  (R6) No durable COPIED flag on a cluster that two durable paths reach.
 *  (R7) First sign of corruption sets the corrupt bit, stops writes, says so.
 * After a power cut at any point: leaked clusters at worst.
 *
 * A function marked DROPS(s->lock) may release and retake it: entries fetched
 * before the call are stale after it.
 */
#ifndef FIRN_BLOCK_QCOW2_INT_H
#define FIRN_BLOCK_QCOW2_INT_H

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "block/block_int.h"
#include "util/aio-task.h"
#include "util/be.h"

#define QCOW2_MAGIC            0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MIN_EXTENDED_BITS 14 /* subclusters of 512 bytes */
#define QCOW2_SECTOR           512
#define QCOW2_MAX_L1_ENTRIES   (32u * 1024 * 1024 / 8)
#define QCOW2_MAX_REFTABLE     (8u * 1024 * 1024)
#define QCOW2_MAX_SNAPSHOTS    65536
#define QCOW2_MAX_SNAPTABLE    (64u * 1024 * 1024)
#define QCOW2_MAX_EXTRA        1024
#define QCOW2_MAX_BACKING      1023
#define QCOW2_MAX_BACKING_FMT  15
#define QCOW2_MAX_CHAIN        200
#define QCOW2_V2_LENGTH        72
#define QCOW2_V3_LENGTH        112
#define QCOW2_MAX_HOST_OFFSET  (1ULL << 56)
#define QCOW2_TALLY_BYTES      (64u * 1024 * 1024)

/* incompatible_features */
#define QCOW2_INC_DIRTY        (1ULL << 0)
#define QCOW2_INC_CORRUPT      (1ULL << 1)
#define QCOW2_INC_DATA_FILE    (1ULL << 2)
#define QCOW2_INC_COMPRESSION  (1ULL << 3)
#define QCOW2_INC_EXTENDED_L2  (1ULL << 4)
#define QCOW2_INC_KNOWN        ((1ULL << 5) - 1)
/* compatible_features */
#define QCOW2_COM_LAZY         (1ULL << 0)
/* autoclear_features */
#define QCOW2_AUT_BITMAPS      (1ULL << 0)
#define QCOW2_AUT_RAW          (1ULL << 1)

/* L1 and L2 entries */
#define QCOW2_OFFSET_MASK      0x00fffffffffffe00ULL
#define QCOW2_COPIED           (1ULL << 63)
#define QCOW2_COMPRESSED       (1ULL << 62)
#define QCOW2_ZERO             1ULL
/* Subclusters: all of them read as zeroes */
#define QCOW2_ALL_ZERO         0xffffffff00000000ULL
/* Refcount table entries */
#define QCOW2_REFBLOCK_MASK    0xfffffffffffffe00ULL

/* ---- header.c ---- */

typedef struct Qcow2Header {
    uint32_t version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_size;
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint32_t refcount_order;
    uint32_t header_length;
    uint8_t compression_type;
} Qcow2Header;

/* What else cluster 0 says; strings are NULL when absent. */
typedef struct Qcow2Extensions {
    char *backing_file;
    char *backing_format;
    char *data_file_name;
    uint64_t crypto_offset;
    uint64_t crypto_length;
    bool has_bitmaps;
    uint32_t nb_bitmaps;
    uint64_t bitmap_directory_offset;
    uint64_t bitmap_directory_size;
    GHashTable *feature_names; /* word << 8 | bit -> char * */
    GByteArray *unknown;       /* whole records as they are on disk */
} Qcow2Extensions;

/*
 * Decode and check the fixed fields from the first @len >= 112 bytes.
 * Returns 0; -EINVAL, -EFBIG, -ENOTSUP, *@ret untouched. Unknown feature bits
 * are not looked at: their names come from the extensions.
 */
int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret,
                        GError **errp);
/* The same, but what a repair can mend is let through: no refcount table, too
 * many snapshots. */
int qcow2_header_decode_damaged(const uint8_t *buf, size_t len,
                                Qcow2Header *ret, GError **errp);
/* Write the fixed fields over the first 72 or 112 bytes of @buf. A v3 field
 * that header_length does not cover is left alone. */
void qcow2_header_encode(const Qcow2Header *h, uint8_t *buf);

/* ---- extensions.c ---- */

/*
 * Decode extensions and backing file name from the first cluster, of which
 * @buf has all bytes up to @len. Returns 0 or -EINVAL, *@ret untouched.
 */
int qcow2_extensions_decode(const uint8_t *buf, size_t len,
                            const Qcow2Header *h, Qcow2Extensions *ret,
                            GError **errp);
void qcow2_extensions_cleanup(Qcow2Extensions *ext);

typedef struct Qcow2HeaderForm {
    bool feature_names;     /* have the table, where there is room for one */
    uint64_t name_offset;   /* of the backing file name; 0: right behind */
    const uint8_t *old;     /* bytes behind the fields come from here, up to
                               header_length; NULL: there are none */
} Qcow2HeaderForm;

/*
 * Make @buf all of cluster 0 that is in use: fixed fields, extensions, backing
 * file name. Sets h->header_length and the backing fields. *@ret_ext
 * (may be NULL): where the extensions end, from the start of the cluster.
 * Returns 0, or -ENOSPC when it does not fit a cluster.
 */
int qcow2_header_build(Qcow2Header *h, const Qcow2Extensions *ext,
                       const Qcow2HeaderForm *form, GByteArray *buf,
                       uint64_t *ret_ext, GError **errp);

/* ---- state ---- */

typedef struct Qcow2State Qcow2State;
typedef struct Qcow2Cache Qcow2Cache;
typedef struct Qcow2SnapIndex Qcow2SnapIndex;
typedef struct Qcow2InactiveL2 Qcow2InactiveL2;
typedef struct Qcow2DecodedCache Qcow2DecodedCache;
typedef struct Qcow2Crypto Qcow2Crypto;
typedef struct Qcow2CryptoCreate Qcow2CryptoCreate;

/* The L1 or the refcount table: fully in memory, written by sectors. */
typedef struct Qcow2Table {
    uint64_t *entries;  /* host byte order */
    uint32_t size;      /* entries */
    uint64_t offset;    /* in the file */
    uint8_t *dirty;     /* one byte per sector of 64 entries */
    uint32_t dirty_lo;  /* dirty sectors lie in [dirty_lo, dirty_hi) */
    uint32_t dirty_hi;
} Qcow2Table;

typedef struct Qcow2Snapshot {
    uint64_t l1_table_offset;
    uint32_t l1_size;
    GBytes *id;             /* bytes as on disk, no NUL at the end */
    GBytes *name;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;
    uint32_t vm_state_size32;
    GByteArray *extra;      /* extra data as on disk, unknown parts too */
} Qcow2Snapshot;

/* A contiguous host range that waits to be freed (R3, R5). */
typedef struct Qcow2Free {
    uint64_t host_offset;
    uint64_t nb_clusters;
    bool punch;             /* tell the host when it becomes free */
} Qcow2Free;

/* A guest range that a request is working on, in whole clusters. */
typedef struct Qcow2InFlight {
    GList link;             /* in s->in_flight */
    uint64_t start;
    uint64_t end;
    bool exclusive;         /* changes the mapping; else only uses it */
    CoQueue waiters;
} Qcow2InFlight;

/* Which table co_load_vmstate reads. */
typedef struct Qcow2VmstateView {
    bool selected;          /* a snapshot; else the active layer */
    bool gone;              /* that snapshot was deleted */
    char *id;
    Qcow2Table l1;
    uint64_t base;          /* guest offset of position 0 */
    uint64_t size;          /* bytes */
    unsigned loads;         /* that are reading through it */
} Qcow2VmstateView;

struct Qcow2State {
    /* const after open */
    BlockDriverState *bs;
    BdrvChild *data_file;       /* guest data; bs->file if not external */
    unsigned cluster_bits;
    uint64_t cluster_size;
    unsigned subcluster_bits;   /* a cluster without extended L2 entries */
    unsigned nb_subclusters;    /* per cluster: 1 or 32 */
    unsigned l2_entry_bits;     /* log2 of bytes per L2 entry */
    unsigned l2_bits;           /* log2 of entries per L2 table */
    unsigned l2_slice_bits;     /* log2 of entries per slice */
    unsigned refblock_bits;     /* log2 of refcounts per block */
    unsigned refcount_order;
    uint64_t refcount_max;
    bool punch_request;         /* pass-discard-* */
    bool punch_snapshot;
    bool punch_other;
    bool discard_no_unref;
    bool lazy_refcounts;
    unsigned overlap;           /* QCOW2_OL_*: what writes must not hit */
    Qcow2Extensions ext;
    unsigned backing_depth;     /* backing file edges above this node */
    bool damaged_ok;            /* opened to be checked (BDRV_O_CHECK) */
    bool shows_snapshot;        /* not the active layer; snapfind.c */
    size_t tally_bytes;         /* QCOW2_TALLY_BYTES; tests have less */

    Qcow2DecodedCache *decoded; /* compress.c */
    Qcow2Crypto *crypto;        /* NULL: not encrypted, or without the key */

    CoMutex delete_lock;
    CoRwlock map_lock;
    CoMutex lock;

    /* lock */
    Qcow2Header hdr;            /* as on disk */
    uint8_t hdr_sector[QCOW2_SECTOR]; /* sector 0 as on disk */
    bool corrupt;               /* R7: no more writes */
    char *corrupt_reason;
    Qcow2Table l1;
    Qcow2Table reftable;
    Qcow2Cache *l2_cache;
    Qcow2Cache *refblock_cache;
    AioTimer *clean_timer;      /* cachesize.c; NULL: off */
    int64_t clean_interval_ns;
    bool need_barrier;          /* R1, R2: flush before the next map write */
    bool l1_growing;
    CoQueue l1_growing_queue;

    uint32_t *first_free;       /* per block: no free slot below */
    uint32_t first_free_block;  /* no block below has a free slot */
    uint64_t host_end;          /* no host cluster from here on was ever taken
                                   since open */
    GArray *frees;              /* Qcow2Free, see R5 */
    uint64_t frees_clusters;

    uint64_t pack_next;         /* pack.c: the next stream; 0: none open */
    bool packing;
    CoQueue packing_queue;

    GQueue in_flight;           /* Qcow2InFlight.link, oldest first */
    unsigned in_flight_exclusive; /* how many of them are */

    uint8_t *filter;            /* overlap.c */
    unsigned filter_bits;
    uint64_t filter_count;
    Qcow2InactiveL2 *inactive_l2; /* overlap-inactive.c */

    GPtrArray *bitmap_tables;   /* Qcow2BitmapTable: as on disk at open */
    bool bitmaps_fresh;         /* some were not in_use at open */

    GPtrArray *snapshots;       /* Qcow2Snapshot */
    Qcow2SnapIndex *snap_index; /* snapfind.c; NULL: to be built */
    uint64_t snaptable_bytes;
    uint32_t snaps_cut;         /* entries beyond the limits, not loaded */
    uint32_t snaps_clipped;     /* loaded without all of their extra data */
    Qcow2VmstateView vm_view;   /* map_lock; gone and loads: lock */
    CoQueue vm_loads_queue;     /* until vm_view.loads is 0 */
};

/* Host offset of cluster number @index, and back. */
static inline uint64_t qcow2_cluster_offset(const Qcow2State *s,
                                            uint64_t index)
{
    return index << s->cluster_bits;
}

/* Start of the cluster that has @offset; start of the first one behind it. */
static inline uint64_t qcow2_cluster_floor(const Qcow2State *s,
                                           uint64_t offset)
{
    return ROUND_DOWN(offset, s->cluster_size);
}

static inline uint64_t qcow2_cluster_ceil(const Qcow2State *s,
                                          uint64_t offset)
{
    return ROUND_UP(offset, s->cluster_size);
}

/* Do clusters have subclusters with states of their own? */
static inline bool qcow2_has_subclusters(const Qcow2State *s)
{
    return s->nb_subclusters > 1;
}

static inline bool qcow2_has_data_file(const Qcow2State *s)
{
    return s->hdr.incompatible_features & QCOW2_INC_DATA_FILE;
}

/* Must the data file read like the disk, without us? */
static inline bool qcow2_data_file_is_raw(const Qcow2State *s)
{
    return qcow2_has_data_file(s) &&
           (s->hdr.autoclear_features & QCOW2_AUT_RAW);
}

/* End of what a backing file shows through this layer. */
static inline uint64_t qcow2_backing_end(const Qcow2State *s)
{
    return s->bs->backing ? MIN(s->hdr.size,
                                s->bs->backing->bs->total_bytes) : 0;
}

/* Guest bytes behind one L1 entry. */
static inline uint64_t qcow2_l1_coverage(const Qcow2State *s)
{
    return 1ULL << (s->cluster_bits + s->l2_bits);
}

/* L1 entries that a disk of @size bytes needs. */
static inline uint64_t qcow2_l1_entries_for(const Qcow2State *s,
                                            uint64_t size)
{
    return DIV_ROUND_UP(size, qcow2_l1_coverage(s));
}

/* ---- open.c ---- */

int coroutine_fn qcow2_co_open(BlockDriverState *bs, BdrvOptions *options,
                               unsigned flags, GError **errp);
int coroutine_fn qcow2_co_close(BlockDriverState *bs);

/* ---- cache.c: see there for states ---- */

typedef enum Qcow2CacheKind {
    QCOW2_CACHE_L2,
    QCOW2_CACHE_REFBLOCK,
} Qcow2CacheKind;

typedef struct Qcow2CacheEntry {
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
} Qcow2CacheEntry;

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
void qcow2_table_clean(Qcow2Table *t);
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

/* ---- refcount.c ---- */

/* Counter number @slot of a block, and setting it. Here so that a loop over a
 * block knows the width. */
static inline uint64_t qcow2_refblock_get(const uint8_t *block,
                                          unsigned order, uint64_t slot)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned bits = 1u << order;
        unsigned shift = (slot << order) % 8;

        return (block[(slot << order) / 8] >> shift) & ((1u << bits) - 1);
    }
    case 3:
        return block[slot];
    case 4:
        return be16_get(block + slot * 2);
    case 5:
        return be32_get(block + slot * 4);
    default:
        return be64_get(block + slot * 8);
    }
}

static inline void qcow2_refblock_set(uint8_t *block, unsigned order,
                                      uint64_t slot, uint64_t value)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned shift = (slot << order) % 8;
        unsigned mask = ((1u << (1u << order)) - 1) << shift;
        uint8_t *p = &block[(slot << order) / 8];

        *p = (*p & ~mask) | (value << shift);
        break;
    }
    case 3:
        block[slot] = value;
        break;
    case 4:
        be16_put(block + slot * 2, value);
        break;
    case 5:
        be32_put(block + slot * 4, value);
        break;
    default:
        be64_put(block + slot * 8, value);
        break;
    }
}

/* Pin refcount block @index. R7: -EIO when there is none, or none there. */
int coroutine_fn qcow2_get_refblock(Qcow2State *s, uint64_t index,
                                    Qcow2CacheEntry **ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Refcount of the cluster at @host_offset; 0 beyond the table. */
int coroutine_fn qcow2_get_refcount(Qcow2State *s, uint64_t host_offset,
                                    uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/*
 * Take up to @max contiguous free clusters, at least one, and count them.
 * Nothing refers to them yet: undo with qcow2_unalloc().
 * Returns 0, -ENOSPC (host offsets exhausted) or an I/O error.
 */
int coroutine_fn qcow2_alloc_run(Qcow2State *s, uint64_t max,
                                 uint64_t *ret_offset, uint64_t *ret_nb)
    REQUIRES(s->lock) DROPS(s->lock);
/* The same for data: *@ret_fresh says that they were never written and read
 * as zeroes. */
int coroutine_fn qcow2_alloc_data(Qcow2State *s, uint64_t max,
                                  uint64_t *ret_offset, uint64_t *ret_nb,
                                  bool *ret_fresh)
    REQUIRES(s->lock) DROPS(s->lock);
/* Exactly @nb contiguous clusters, for tables. */
int coroutine_fn qcow2_alloc_contiguous(Qcow2State *s, uint64_t nb,
                                        uint64_t *ret_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* The cluster at @offset, if it is free; *@ret says whether it was. */
int coroutine_fn qcow2_alloc_at(Qcow2State *s, uint64_t offset, bool *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* One more reference to the cluster of s->pack_next. *@ret false: it is closed
 * by now, or has as many as can be counted. */
int coroutine_fn qcow2_count_open(Qcow2State *s, bool *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Give back what was never exposed; leaks it when that fails. */
void coroutine_fn qcow2_unalloc(Qcow2State *s, uint64_t offset, uint64_t nb)
    REQUIRES(s->lock) DROPS(s->lock);
/*
 * Add @addend (+1 or -1) for each of @nb clusters. -1 only when (R3) is
 * satisfied. @punch: tell the host about clusters that become free.
 * Returns 0; -ERANGE when a refcount would exceed its maximum; -EIO when one
 * is 0 already (R7) or no block counts it. A failed +1 is undone, as far as
 * that works; a failed -1 leaves the rest as leaks.
 */
int coroutine_fn qcow2_update_refcount(Qcow2State *s, uint64_t offset,
                                       uint64_t nb, int addend, bool punch)
    REQUIRES(s->lock) DROPS(s->lock);
/* R3, R5: lower the refcounts once the map on disk has no reference left. */
void qcow2_defer_free(Qcow2State *s, uint64_t offset, uint64_t nb,
                      bool punch) REQUIRES(s->lock);
/* Lower what waited; the caller has made removal durable. */
int coroutine_fn qcow2_apply_frees(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- reftable.c; the lock is kept all the time ---- */

/*
 * Make blocks @index .. @index + @nb - 1, none of which exists, at the start
 * of the range that block @index counts. The table reaches that far.
 */
int coroutine_fn qcow2_reftable_add_blocks(Qcow2State *s, uint64_t index,
                                           uint64_t nb) REQUIRES(s->lock);
/* Grow the table, which ends before @index, to have that entry and @more. */
int coroutine_fn qcow2_reftable_grow(Qcow2State *s, uint64_t index,
                                     uint64_t more) REQUIRES(s->lock);
/* Make blocks behind all that exist, for @nb_clusters contiguous free
 * clusters from *@ret_first on. */
int coroutine_fn qcow2_reftable_reserve(Qcow2State *s, uint64_t nb_clusters,
                                        uint64_t *ret_first)
    REQUIRES(s->lock);

/* ---- L2 entries ---- */

typedef enum Qcow2ClusterType {
    QCOW2_CLUSTER_UNALLOCATED,  /* backing decides */
    QCOW2_CLUSTER_ZERO_PLAIN,
    QCOW2_CLUSTER_ZERO_ALLOC,   /* reads zero, has a host cluster */
    QCOW2_CLUSTER_NORMAL,
    QCOW2_CLUSTER_COMPRESSED,
} Qcow2ClusterType;

/* An L2 entry. */
typedef struct Qcow2Entry {
    uint64_t desc;
    uint64_t bitmap;        /* of subclusters; 0 without extended L2 */
} Qcow2Entry;

/* Entry number @index of the table, or slice, in @table. */
static inline Qcow2Entry qcow2_entry_get(const Qcow2State *s,
                                         const uint8_t *table,
                                         uint64_t index)
{
    const uint8_t *p = table + (index << s->l2_entry_bits);

    return (Qcow2Entry) {
        .desc = be64_get(p),
        .bitmap = s->l2_entry_bits == 4 ? be64_get(p + 8) : 0,
    };
}

static inline void qcow2_entry_put(const Qcow2State *s, uint8_t *table,
                                   uint64_t index, Qcow2Entry e)
{
    uint8_t *p = table + (index << s->l2_entry_bits);

    be64_put(p, e.desc);
    if (s->l2_entry_bits == 4) {
        be64_put(p + 8, e.bitmap);
    }
}

/* Stale once s->lock drops, unless covered by s->in_flight (K3). */
typedef struct Qcow2Mapping {
    Qcow2ClusterType type;
    uint64_t host_offset;   /* of the byte asked for; NORMAL, ZERO_ALLOC */
    uint64_t bytes;         /* same type, same copied, contiguous on host */
    bool copied;
    Qcow2Entry entry;       /* the first one; COMPRESSED is decoded from it */
} Qcow2Mapping;

/* ---- entry.c ---- */

/* Type of a descriptor, subclusters and data file left aside. */
Qcow2ClusterType qcow2_entry_type(uint64_t entry);
/* Has @e a host cluster of its own (which compressed ones have not)? */
bool qcow2_entry_has_host(const Qcow2State *s, Qcow2Entry e);
/* Type of subcluster @sc, which is 0 without extended L2 entries. */
Qcow2ClusterType qcow2_subcluster_type(const Qcow2State *s, Qcow2Entry e,
                                       unsigned sc);
/* The subclusters of the cluster at @cluster that [@lo, @hi) touches. */
uint32_t qcow2_subcluster_mask(const Qcow2State *s, uint64_t cluster,
                               uint64_t lo, uint64_t hi);
/* Why no driver writes @e for @guest_offset, or NULL. */
const char *qcow2_entry_fault(const Qcow2State *s, Qcow2Entry e,
                              uint64_t guest_offset);
/* R7: 0, or -EIO for an entry that no driver writes. */
int coroutine_fn qcow2_check_entry(Qcow2State *s, Qcow2Entry e,
                                   uint64_t guest_offset) REQUIRES(s->lock);
/* Host bytes of a compressed entry: the stream ends with them or before. */
void qcow2_entry_compressed(const Qcow2State *s, uint64_t entry,
                            uint64_t *ret_offset, uint64_t *ret_bytes);
/* Subclusters of @e from @sc on that are of the same type. */
unsigned qcow2_subcluster_run(const Qcow2State *s, Qcow2Entry e, unsigned sc);
/* Is the host cluster of @e the @n-th behind that of @first, COPIED alike? */
bool qcow2_entry_continues(const Qcow2State *s, Qcow2Entry first,
                           Qcow2Entry e, uint64_t n);
/*
 * Subclusters from @sc of entry @index on, in up to @max entries, that are of
 * one type and contiguous on the host; stops before a faulty entry.
 * @guest_offset is that of the first cluster.
 */
uint64_t qcow2_entry_run(const Qcow2State *s, const uint8_t *slice,
                         uint64_t index, unsigned sc, uint64_t max,
                         uint64_t guest_offset);

/* ---- map.c ---- */

/*
 * Map up to @bytes > 0 from @guest_offset through @l1 (&s->l1 or a
 * snapshot's). Does not drop the lock after having looked.
 */
int coroutine_fn qcow2_map(Qcow2State *s, const Qcow2Table *l1,
                           uint64_t guest_offset, uint64_t bytes,
                           Qcow2Mapping *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Do readers of the active layer see only zeroes in [@start, @end)? */
int coroutine_fn qcow2_reads_zero(Qcow2State *s, uint64_t start, uint64_t end,
                                  bool *ret)
    REQUIRES(s->lock) DROPS(s->lock);
/* Pin the slice of the active map that has @guest_offset; *@ret_index is its
 * entry there. *@ret NULL: there is no L2 table. */
int coroutine_fn qcow2_get_slice(Qcow2State *s, const Qcow2Table *l1,
                                 uint64_t guest_offset, Qcow2CacheEntry **ret,
                                 unsigned *ret_index)
    REQUIRES(s->lock) DROPS(s->lock);
/* Make sure that the L2 table for @guest_offset exists and is ours alone. */
int coroutine_fn qcow2_ensure_l2(Qcow2State *s, uint64_t guest_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* Grow the active L1 table to at least @min_size entries. */
int coroutine_fn qcow2_grow_l1(Qcow2State *s, uint64_t min_size)
    REQUIRES(s->lock) DROPS(s->lock);
/* Clusters from @guest_offset on that lie in the same L2 slice. */
static inline uint64_t qcow2_slice_left(const Qcow2State *s,
                                        uint64_t guest_offset)
{
    uint64_t n = 1ULL << s->l2_slice_bits;

    return n - ((guest_offset >> s->cluster_bits) & (n - 1));
}

/* ---- inflight.c ---- */

/*
 * Cut [@start, *@end) to what no entry of s->in_flight stands against. Returns
 * NULL, or, when nothing is left, the entry to wait for; then look everything
 * up afresh.
 */
Qcow2InFlight *qcow2_in_flight_clip(Qcow2State *s, uint64_t start,
                                    uint64_t *end, bool exclusive)
    REQUIRES(s->lock);
void qcow2_in_flight_add(Qcow2State *s, Qcow2InFlight *r, uint64_t start,
                         uint64_t end, bool exclusive) REQUIRES(s->lock);
/* Takes @r off the list and wakes those that wait for it. */
void qcow2_in_flight_remove(Qcow2State *s, Qcow2InFlight *r)
    REQUIRES(s->lock);
/*
 * Run @fn(@opaque), which does a piece of a request, beside the others of it;
 * waits while too many run. *@pool is made when it is NULL. Returns 0, or the
 * error of a piece that has ended: start no more.
 */
int coroutine_fn qcow2_pieces_start(AioTaskPool **pool, AioTaskFunc *fn,
                                    void *opaque);
/* Wait for all pieces, also when @ret is an error; the first error. */
int coroutine_fn qcow2_pieces_end(AioTaskPool *pool, int ret);

/* ---- datafile.c ---- */

/* Take the options about it, and open the one that the image needs, if any. */
int coroutine_fn qcow2_open_data_file(Qcow2State *s, BdrvOptions *options,
                                      unsigned flags, GError **errp);

/* ---- data.c: host offsets, in s->data_file ---- */

int coroutine_fn qcow2_data_preadv(Qcow2State *s, uint64_t host_offset,
                                   uint64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
    EXCLUDES(s->lock);
int coroutine_fn qcow2_data_pwritev(Qcow2State *s, uint64_t host_offset,
                                    uint64_t bytes, QEMUIOVector *qiov,
                                    size_t qiov_offset)
    EXCLUDES(s->lock);

/* ---- crypto.c: guest data of encrypted images ---- */

/* Take the encrypt.* options and get the key. */
int coroutine_fn qcow2_crypto_open(Qcow2State *s, BdrvOptions *options,
                                   unsigned flags, GError **errp);
/* NULL: nothing. */
void qcow2_crypto_free(Qcow2Crypto *c);
/* As qcow2_data_preadv() and qcow2_data_pwritev(), which call them; what is
 * written is whole sectors. -EACCES without the key. */
int coroutine_fn qcow2_crypto_preadv(Qcow2State *s, uint64_t host_offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
    EXCLUDES(s->lock);
int coroutine_fn qcow2_crypto_pwritev(Qcow2State *s, uint64_t host_offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
    EXCLUDES(s->lock);
/* qcow2_write_range() that may begin and end inside of sectors. */
int coroutine_fn qcow2_crypto_write_any(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock);
/* -ENOTSUP: not a cipher of this driver. */
int qcow2_crypto_can_do(const char *cipher, const char *mode,
                        size_t key_bytes, GError **errp);

/* ---- crypto-create.c ---- */

/* Take the encrypt.* options; *@ret NULL: not to be encrypted. */
int qcow2_crypto_take_create(BdrvOptions *o, Qcow2CryptoCreate **ret,
                             GError **errp);
void qcow2_crypto_create_free(Qcow2CryptoCreate *c);
/* encrypt.key-secret to open it with. NULL allowed here and below. */
const char *qcow2_crypto_secret(const Qcow2CryptoCreate *c);
uint64_t qcow2_crypto_header_bytes(const Qcow2CryptoCreate *c);
/* Make the header, which takes as long as encrypt.iter-time says; *@ret is
 * owned by @c. */
int coroutine_fn qcow2_crypto_format(Qcow2CryptoCreate *c,
                                     const GByteArray **ret, GError **errp);

/* ---- codec.c: streams as bytes; any thread ---- */

/* As compression_type in the header. */
typedef enum Qcow2Codec {
    QCOW2_CODEC_DEFLATE,
    QCOW2_CODEC_ZSTD,
} Qcow2Codec;

/* Is it in this build? */
bool qcow2_codec_has(Qcow2Codec codec);
/* Exactly @out_len bytes from a stream that has them or more. Returns 0, -EIO
 * for one that has not, -ENOMEM, -ENOTSUP. */
int qcow2_codec_decode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                       uint8_t *out, size_t out_len);
/* Returns the length of the stream, -ENOSPC when it is longer than @out_len,
 * -ENOMEM, -ENOTSUP. */
ssize_t qcow2_codec_encode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                           uint8_t *out, size_t out_len);

/* ---- compress.c ---- */

/* Guest bytes inside one compressed cluster that nothing can change
 * meanwhile. -EIO: no stream of a cluster is there. */
int coroutine_fn qcow2_read_compressed(Qcow2State *s, const Qcow2Mapping *m,
                                       uint64_t guest_offset, uint64_t bytes,
                                       QEMUIOVector *qiov,
                                       size_t qiov_offset)
    EXCLUDES(s->lock);
Qcow2DecodedCache *qcow2_decoded_new(const Qcow2State *s);
/* Nobody reads. NULL: nothing. */
void qcow2_decoded_free(Qcow2DecodedCache *c);
/* New streams come to these host bytes. */
void qcow2_decoded_drop(Qcow2State *s, uint64_t offset, uint64_t bytes);
/* Give the memory back. */
void qcow2_decoded_shrink(Qcow2State *s);

/* ---- pack.c: places for streams ---- */

/* Host bytes of streams end here or before. */
static inline uint64_t qcow2_compressed_limit(const Qcow2State *s)
{
    return MIN(QCOW2_MAX_HOST_OFFSET, 1ULL << (70 - s->cluster_bits));
}

/* Only one request places streams at a time. */
void coroutine_fn qcow2_pack_begin(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
void coroutine_fn qcow2_pack_end(Qcow2State *s) REQUIRES(s->lock);
/* Take and count host bytes for a stream of @bytes. Nothing refers to them
 * yet: undo with qcow2_unpack(). */
int coroutine_fn qcow2_pack(Qcow2State *s, uint64_t bytes,
                            uint64_t *ret_offset)
    REQUIRES(s->lock) DROPS(s->lock);
void coroutine_fn qcow2_unpack(Qcow2State *s, uint64_t offset,
                               uint64_t bytes)
    REQUIRES(s->lock) DROPS(s->lock);
/* The cluster at @host_offset has become free. */
void qcow2_pack_closed(Qcow2State *s, uint64_t host_offset)
    REQUIRES(s->lock);

/* ---- compress-write.c ---- */

/* BDRV_REQ_WRITE_COMPRESSED; whole clusters, or up to the end of the disk. */
int coroutine_fn qcow2_write_compressed(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock);

/* Zeroes; flags as of bdrv_co_pwrite_zeroes(). Not with encryption. */
int coroutine_fn qcow2_data_pwrite_zeroes(Qcow2State *s, uint64_t host_offset,
                                          uint64_t bytes, unsigned flags)
    EXCLUDES(s->lock);

/* ---- alloc.c, cow.c: see there ---- */

typedef enum Qcow2WriteKind {
    QCOW2_WRITE_IN_PLACE,   /* the map stays as it is */
    QCOW2_WRITE_REUSE,      /* into host clusters that are ours */
    QCOW2_WRITE_NEW,        /* into new ones */
} Qcow2WriteKind;

/* One piece of a guest write. */
typedef struct Qcow2Write {
    Qcow2InFlight range;    /* whole clusters around the bytes */
    Qcow2WriteKind kind;
    uint64_t guest_offset;
    uint64_t bytes;
    QEMUIOVector *qiov;     /* its data is at qiov_offset */
    size_t qiov_offset;
    Qcow2Entry first;       /* of the range, as looked up */
    Qcow2Entry last;
    uint64_t host_offset;   /* of range.start */
    uint64_t cow_start;     /* guest offsets: what becomes data */
    uint64_t cow_end;
    bool head_zero;         /* [cow_start, guest_offset) was zeroes */
    bool tail_zero;
    bool new_clusters;      /* host clusters are ours until linked */
    bool fresh;             /* and were never written: they read as zeroes */
    Qcow2CacheEntry *stale; /* for planted faults only */
    unsigned stale_index;
} Qcow2Write;

/* Decide on cow_start, cow_end and what is zero; not for IN_PLACE. */
void qcow2_cow_plan(Qcow2State *s, Qcow2Write *w) REQUIRES(s->lock);
/* The data step. */
int coroutine_fn qcow2_cow_write(Qcow2State *s, Qcow2Write *w)
    EXCLUDES(s->lock);

/* ---- read.c, alloc.c ---- */

/* Read [@guest_offset, + @qiov->size) of the active layer, any alignment. */
int coroutine_fn qcow2_read_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset)
    EXCLUDES(s->lock);
/* Write it all. Grows the L1 table when it has to. */
int coroutine_fn qcow2_write_range(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t bytes, QEMUIOVector *qiov)
    EXCLUDES(s->lock);
/* Guest data of one mapping that nothing can change meanwhile. */
int coroutine_fn qcow2_read_mapping(Qcow2State *s, uint64_t guest_offset,
                                    const Qcow2Mapping *m,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    uint64_t bytes)
    EXCLUDES(s->lock);

/* ---- zero.c ---- */

typedef enum Qcow2ZeroMode {
    QCOW2_ZERO_KEEP,        /* zero flag, host clusters stay */
    QCOW2_ZERO_UNMAP,       /* zero flag, host clusters go */
    QCOW2_DISCARD,          /* reads as zero, host clusters go */
} Qcow2ZeroMode;

/* Queue the host clusters of an L2 entry that is no longer in the map. */
void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool punch)
    REQUIRES(s->lock);
/* Whole clusters only. -ENOTSUP: v2 image with a backing file. */
int coroutine_fn qcow2_zero_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t nb_clusters, Qcow2ZeroMode mode)
    REQUIRES(s->lock) DROPS(s->lock);
/* Whole subclusters; -ENOTSUP also for parts of a compressed cluster. What is
 * behind the end of the disk may change with it. */
int coroutine_fn qcow2_zero_bytes(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, Qcow2ZeroMode mode)
    REQUIRES(s->lock) DROPS(s->lock);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs,
                                        uint64_t offset, uint64_t bytes,
                                        unsigned flags);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes);

/* ---- tally.c: references per host cluster, see there ---- */

typedef struct Qcow2Tally Qcow2Tally;

/* NULL: no memory. Starts with the window from block 0 on. */
Qcow2Tally *qcow2_tally_new(const Qcow2State *s);
/* NULL is allowed. */
void qcow2_tally_free(Qcow2Tally *t);
/* Forget the counts and start a window at block @first. */
void qcow2_tally_window(Qcow2Tally *t, uint32_t first);
/* The same for the next one that something was counted in, or false. */
bool qcow2_tally_next_window(Qcow2Tally *t);
/*
 * The counts of refcount block @index; *@ret is NULL outside the window.
 * Returns 0, -ERANGE (the refcount table has no such block) or -ENOMEM.
 */
int qcow2_tally_block(Qcow2Tally *t, uint64_t index, uint32_t **ret);
/* Count @nb clusters from @cluster on. Errors as above. */
int qcow2_tally_add(Qcow2Tally *t, uint64_t cluster, uint64_t nb);
/* Would the window fit? 0, -ERANGE (overflow), or -EIO (R7: some cluster has
 * more references than its refcount). */
int coroutine_fn qcow2_tally_check(Qcow2State *s, const Qcow2Tally *t,
                                   int addend)
    REQUIRES(s->lock) DROPS(s->lock);
/* Add @addend (+1 or -1) for each reference in the window, which has been
 * checked. A failed +1 is undone, a failed -1 leaks. */
int coroutine_fn qcow2_tally_apply(Qcow2State *s, Qcow2Tally *t, int addend,
                                   bool punch)
    REQUIRES(s->lock) DROPS(s->lock);
/* Clusters whose refcount a decrement made 1. */
uint64_t qcow2_tally_nb_ones(const Qcow2Tally *t);
bool qcow2_tally_is_one(const Qcow2Tally *t, uint64_t cluster);

/* ---- walk.c: everything below an L1 table, see there ---- */

typedef struct Qcow2Walk Qcow2Walk;

/* The L1 table is copied. NULL: no memory. */
Qcow2Walk *qcow2_walk_new(const Qcow2State *s, const uint64_t *l1,
                          uint32_t n);
/* NULL is allowed. */
void qcow2_walk_free(Qcow2Walk *w);
/* Read all tables and see if @addend fits. 0, -ERANGE (a refcount would
 * overflow) or -EIO (R7: an entry is impossible or not counted). */
int coroutine_fn qcow2_walk_check(Qcow2State *s, Qcow2Walk *w, int addend)
    REQUIRES(s->lock) DROPS(s->lock);
/* Add @addend for every path; a failed +1 is undone, a failed -1 leaks. */
int coroutine_fn qcow2_walk_apply(Qcow2State *s, Qcow2Walk *w, int addend,
                                  bool punch)
    REQUIRES(s->lock) DROPS(s->lock);
/* R6: clear COPIED in the tables, on disk and in the cache. Nobody else may
 * use them (K4). */
int coroutine_fn qcow2_walk_clear_copied(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock);
/* Set COPIED in the active layer on what a decrement made 1. Guests may go
 * on. */
int coroutine_fn qcow2_walk_set_copied(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock);
/* -1 for every path under @l1, with nobody else around (K4). */
int coroutine_fn qcow2_walk_drop(Qcow2State *s, const uint64_t *l1,
                                 uint32_t n, bool punch)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- snaptable.c: bytes of the snapshot table ---- */

void qcow2_snapshot_free(Qcow2Snapshot *sn);
uint64_t qcow2_snapshot_vm_size(const Qcow2Snapshot *sn);
/* Falls back to @current when the entry has no disk size. */
uint64_t qcow2_snapshot_disk_size(const Qcow2Snapshot *sn, uint64_t current);
uint64_t qcow2_snapshot_icount(const Qcow2Snapshot *sn);
bool qcow2_snapshot_has_disk_size(const Qcow2Snapshot *sn);
/* Text up to a NUL; to be freed. */
char *qcow2_snapshot_text(GBytes *bytes);
/* Load s->snapshots as the header says. A table beyond the limits is refused,
 * or, with s->damaged_ok, cut: s->snaps_cut, s->snaps_clipped. */
int coroutine_fn qcow2_snaptable_load(Qcow2State *s, GError **errp);
/* Append the bytes of all entries to @buf. -EFBIG beyond 64 MiB. */
int qcow2_snaptable_encode(GPtrArray *snapshots, uint64_t disk_size,
                           GByteArray *buf);

/* ---- snapshot.c ---- */

int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs,
                                          BdrvSnapshotInfo *info,
                                          GError **errp);
int coroutine_fn qcow2_co_snapshot_goto(BlockDriverState *bs,
                                        const char *id_or_name,
                                        GError **errp);
int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs,
                                          const char *id, const char *name,
                                          GError **errp);
int coroutine_fn qcow2_co_snapshot_list(BlockDriverState *bs,
                                        GPtrArray **ret);
/* Write the table of s->snapshots anew, after a repair. */
int coroutine_fn qcow2_snapshot_rewrite_table(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Load the L1 table of a snapshot. */
int coroutine_fn qcow2_snapshot_load_l1(Qcow2State *s,
                                        const Qcow2Snapshot *sn,
                                        Qcow2Table *ret, GError **errp);

/* ---- bitmap.c, bitstore.c ---- */

/*
 * Load the bitmap directory; for a writer, mark all bitmaps in_use. Before
 * anything else is written. -EINVAL, -EFBIG or an I/O error.
 */
int coroutine_fn qcow2_bitmaps_open(Qcow2State *s, unsigned flags,
                                    GError **errp) EXCLUDES(s->lock);
/* At close: make persistent bitmaps what they are in memory. On failure they
 * stay in_use on disk. */
int coroutine_fn qcow2_bitmaps_store(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
int qcow2_bitmap_can_store(BlockDriverState *bs, const char *name,
                           GError **errp);
int coroutine_fn qcow2_co_bitmap_load(BlockDriverState *bs,
                                      BdrvDirtyBitmap *bm, GError **errp);

/* ---- snapfind.c; position in s->snapshots, or -1 ---- */

/* By id, then by name. */
int qcow2_snapshot_find(Qcow2State *s, const char *id_or_name);
/* By those that are not NULL. */
int qcow2_snapshot_find_both(Qcow2State *s, const char *id, const char *name);
/* One more than the largest number among the ids; to be freed. */
char *qcow2_snapshot_next_id(Qcow2State *s);
/* One was appended; one is gone, or all are. */
void qcow2_snapindex_added(Qcow2State *s);
void qcow2_snapindex_reset(Qcow2State *s);
/* Take the options snapshot.id and snapshot.name: the node shows that
 * snapshot's disk, read-only. 0, -ENOENT, -EROFS, ... */
int coroutine_fn qcow2_snapshot_open(Qcow2State *s, BdrvOptions *options,
                                     GError **errp);

/* ---- vmstate.c ---- */

/* Guest offset of the vmstate of a disk of @size bytes. */
uint64_t qcow2_vmstate_offset(const Qcow2State *s, uint64_t size);
int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov);
int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov);
int coroutine_fn qcow2_co_vmstate_select(BlockDriverState *bs,
                                         const char *snapshot,
                                         uint64_t *ret_size, GError **errp);
int coroutine_fn qcow2_co_vmstate_discard(BlockDriverState *bs);
/* Drop what the active L1 table maps behind the disk. map_lock exclusive. */
int coroutine_fn qcow2_drop_active_vmstate(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Drop what the active L1 table maps from entry @first on. map_lock exclusive.
 * Nothing is freed before the entries are durably gone (R3). */
int coroutine_fn qcow2_drop_l1(Qcow2State *s, uint64_t first)
    REQUIRES(s->lock) DROPS(s->lock);
void qcow2_vmstate_view_reset(Qcow2State *s);

/* ---- check.c: see there ---- */

/* As blk_co_check(), for co_open too. Nothing is cached that is not on
 * disk. */
int coroutine_fn qcow2_check(Qcow2State *s, BdrvCheckResult *ret,
                             unsigned fix, BdrvCheckReport *report,
                             void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *ret,
                                unsigned fix, BdrvCheckReport *report,
                                void *opaque, GError **errp);

/* ---- truncate.c ---- */

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, uint64_t size,
                                   BdrvPrealloc prealloc, GError **errp);
/* Can the disk be @size bytes, in an image of that version? */
int qcow2_check_size(const Qcow2State *s, uint64_t size, unsigned version,
                     GError **errp);
/* co_truncate with map_lock held exclusively. */
int coroutine_fn qcow2_resize(Qcow2State *s, uint64_t size,
                              BdrvPrealloc prealloc, GError **errp)
    EXCLUDES(s->lock);

/* ---- amend.c, recount.c, downgrade.c; map_lock held exclusively ---- */

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, BdrvOptions *opts,
                                bool force, BdrvProgressFunc *progress,
                                void *opaque, GError **errp);
/* Write all refcounts anew, 2^@order bits wide. -EINVAL: some do not fit. */
int coroutine_fn qcow2_change_refcount_order(Qcow2State *s, unsigned order,
                                             BdrvProgressFunc *progress,
                                             void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);
/* Can the image become version 2, when its disk and refcounts are so wide? */
int qcow2_check_downgrade(const Qcow2State *s, uint64_t size, unsigned order,
                          GError **errp);
/* Turn zero clusters of all layers into what version 2 knows. */
int coroutine_fn qcow2_drop_zero_flags(Qcow2State *s,
                                       BdrvProgressFunc *progress,
                                       void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- shrink.c; map_lock held exclusively ---- */

/* Make everything from @guest_offset, at the start of a cluster, to the end of
 * its L1 entry unallocated. */
int coroutine_fn qcow2_drop_tail(Qcow2State *s, uint64_t guest_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* Give up refcount blocks at the end that count nothing, and cut the file
 * behind the last cluster in use. What cannot be done stays. */
void coroutine_fn qcow2_trim_file(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- empty.c, backing.c ---- */

/* Name another backing file in the header; NULL: none. */
int coroutine_fn qcow2_set_backing(Qcow2State *s, const char *file,
                                   const char *fmt, GError **errp)
    REQUIRES(s->lock);

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs, GError **errp);
int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs,
                                              const char *file,
                                              const char *fmt,
                                              GError **errp);

/* ---- prealloc.c ---- */

/* Give guest clusters of [@from, @to) that have nothing host clusters, durably.
 * map_lock is held exclusively; the L1 table grows if it has to. */
int coroutine_fn qcow2_preallocate(Qcow2State *s, uint64_t from, uint64_t to,
                                   BdrvPrealloc mode)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- create.c, measure.c ---- */

/* What an image is to be, from the options of create; size apart. */
typedef struct Qcow2Create {
    Qcow2Header h;          /* geometry and feature bits */
    Qcow2Extensions ext;    /* backing and data file */
    BdrvPrealloc prealloc;
    Qcow2CryptoCreate *crypto;  /* NULL: not encrypted */
} Qcow2Create;

/* Take the options out of @o and check that they go together. 0 or -EINVAL;
 * qcow2_create_cleanup() in any case. */
int qcow2_take_create_options(BdrvOptions *o, Qcow2Create *p, GError **errp);
void qcow2_create_cleanup(Qcow2Create *p);
/* L1 entries for a disk of @bytes. */
uint64_t qcow2_l1_entries(const Qcow2Create *p, uint64_t bytes);
int coroutine_fn qcow2_co_create(const char *filename, BdrvOptions *options,
                                 GError **errp);
/* Refcount blocks for @nb_clusters clusters, themselves and their table of
 * *@ret_table (may be NULL) clusters. */
uint64_t qcow2_refcount_clusters(uint64_t nb_clusters, unsigned cluster_bits,
                                 unsigned refcount_order, uint64_t *ret_table);
int coroutine_fn qcow2_co_measure(BdrvOptions *opts, BlockDriverState *src,
                                  BdrvMeasure *ret, GError **errp);

#endif
