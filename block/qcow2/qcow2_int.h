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
#include "qcow2_format.h"
#include "util/aio-task.h"
#include "util/be.h"

/* ---- state ---- */

typedef struct Qcow2State Qcow2State;
typedef struct Qcow2Cache Qcow2Cache;
typedef struct Qcow2CacheEntry Qcow2CacheEntry;
typedef struct Qcow2SnapIndex Qcow2SnapIndex;
typedef struct Qcow2InactiveL2 Qcow2InactiveL2;
typedef struct Qcow2DecodedCache Qcow2DecodedCache;
typedef struct Qcow2Crypto Qcow2Crypto;
typedef struct Qcow2CryptoAmend Qcow2CryptoAmend;
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

typedef enum Qcow2Holes {
    QCOW2_HOLES_UNKNOWN,
    QCOW2_HOLES_ANY,        /* of no meaning */
    QCOW2_HOLES_ZERO,       /* what nobody has written */
} Qcow2Holes;

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
    Qcow2Holes holes;           /* in the file; holes.c */
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

/* ---- describe.c ---- */

int coroutine_fn qcow2_co_describe(BlockDriverState *bs,
                                   struct BlkImageInfo *info, GError **errp);

#include "qcow2_cache.h"
#include "qcow2_refcount.h"
#include "qcow2_map.h"
#include "qcow2_snapshot.h"
#include "qcow2_maint.h"

#endif
