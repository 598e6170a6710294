/* SPDX-License-Identifier: MIT */
/*
 * What block drivers and the generic layer share: the node, its edges, the
 * driver table and the request functions below a BlockBackend.
 *
 * The tree. Each node has one owner: the BlockBackend or the parent node's
 * BdrvChild. bs->file is opened by the generic layer before a format driver's
 * co_open runs and closed after its co_close; other children a driver opens
 * with bdrv_co_open_child() and the layer closes after co_close.
 *
 * The layer checks every driver: results are 0 or -errno, requests are never
 * short, alignment and bounds are taken care of before a driver is called.
 */
#ifndef FIRN_BLOCK_BLOCK_INT_H
#define FIRN_BLOCK_BLOCK_INT_H

#include <assert.h>

#include "block/block.h"
#include "block/snapshot.h"
#include "util/co-lock.h"
#include "util/error.h"

/* What an edge is for; decides flags and default options of the child. */
typedef enum BdrvChildRole {
    BDRV_CHILD_ROOT,     /* of a BlockBackend: a format, probed */
    BDRV_CHILD_FILE,     /* the file a format lives in: a protocol */
    BDRV_CHILD_FILTERED, /* below a filter: a protocol unless named */
    BDRV_CHILD_TWIN,     /* beside the file: a format, as open as its parent */
    BDRV_CHILD_BACKING,  /* read-only, a format, probed unless named */
} BdrvChildRole;

struct BdrvChild {
    BlockDriverState *bs;     /* owned, never NULL */
    BlockDriverState *parent; /* NULL: a BlockBackend's or free-standing */
    BdrvChildRole role;
    char *name;               /* "file", "backing", ... */
    GList *link;              /* in parent->children */
};

/* --- Requests in flight on one node --- */

typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;

struct BlkImageInfo;

typedef enum BdrvRequestType {
    BDRV_TRACKED_READ,
    BDRV_TRACKED_WRITE,
    BDRV_TRACKED_DISCARD,
    BDRV_TRACKED_TRUNCATE,
} BdrvRequestType;

typedef struct BdrvTrackedRequest {
    BlockDriverState *bs;
    BdrvRequestType type;
    bool serialising;     /* waits for, and is waited for by, any overlap */
    uint64_t offset;      /* aligned range that overlap is decided on */
    uint64_t bytes;
    GList link;           /* in bs->tracked, oldest first */
    CoQueue waiters;      /* younger requests that overlap */
} BdrvTrackedRequest;

/* --- Nodes --- */

#define BDRV_MAX_REQUEST_ALIGNMENT (1024 * 1024)
#define BDRV_MAX_MEM_ALIGNMENT 4096

struct BlockDriverState {
    BlockDriver *drv;           /* const after open */
    AioContext *ctx;            /* home context, const */
    void *opaque;               /* drv->instance_size bytes, zeroed */
    char *filename;             /* for messages, const after open */
    BdrvOptions *given;         /* to the driver; const after open */
    unsigned open_flags;        /* BDRV_O_*, const after open */
    bool read_only;             /* const after open */
    bool probed;                /* @drv is what the contents look like */
    BdrvChild *parent_edge;     /* edge that owns this node, or NULL */
    BlockBackend *blk;          /* that owns this node, or NULL */

    BdrvChild *file;            /* NULL for protocol drivers */
    BdrvChild *backing;         /* set by the driver or NULL */
    GList *children;            /* every BdrvChild, file and backing too */

    /* Set by the driver in co_open; the defaults stand for "no limit". */
    uint64_t total_bytes;             /* kept up by the layer afterwards */
    uint32_t request_alignment;       /* of offset and bytes; default 1 */
    uint32_t mem_alignment;           /* of iov_base; default 1. If above 1,
                                         iov_len has request_alignment */
    uint32_t pwrite_zeroes_alignment; /* of zeroes; 0: request_alignment */
    uint32_t pdiscard_alignment;      /* of discards; 0: request_alignment */
    uint64_t max_transfer;            /* bytes of one request; 0: any */
    uint64_t max_pwrite_zeroes;       /* the same, of zeroes */
    uint64_t max_pdiscard;            /* and of discards */
    unsigned supported_write_flags;   /* BDRV_REQ_FUA or 0 */
    unsigned supported_zero_flags;    /* of FUA, MAY_UNMAP, NO_FALLBACK */
    bool growable;                    /* a write past the end extends it */

    struct BdrvVmstate *vmstate;      /* owned by vmstate.c; NULL at close */

    /* Owned by dirty-bitmap.c. */
    GPtrArray *dirty_bitmaps;         /* BdrvDirtyBitmap; NULL: none */
    CoMutex bitmaps_lock;             /* operations, see there */
    char *bitmaps_unusable;           /* set by the driver: why the bitmaps in
                                         the image cannot be used, or NULL */

    /* Owned by io.c. */
    unsigned in_flight;
    CoQueue drain_waiters;            /* until in_flight is 0 */
    unsigned quiesce_counter;         /* of a root: nested drains */
    CoMutex exclusive_lock;           /* of a root */
    GQueue tracked;                   /* BdrvTrackedRequest.link */
    unsigned serialising_in_flight;
    uint64_t write_gen;               /* completed writes */
    uint64_t flushed_gen;             /* write_gen that is durable */
    uint64_t announced_gen;           /* ... that flush_to_disk announced */
    bool active_flush;
    CoQueue flush_queue;              /* until !active_flush */
};

/* --- Drivers --- */

struct BlockDriver {
    const char *format_name;
    const char *protocol_name;  /* "file" of file:path; NULL: a format */
    size_t instance_size;
    bool is_filter;             /* same data as bs->file; hands over */

    /* Returns 0 (not mine) .. 100 from the first @len bytes (<= 2048). */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    /* Protocols: turn PROTOCOL:rest into options. 0 or -EINVAL. */
    int (*parse_filename)(const char *filename, BdrvOptions *options,
                          GError **errp);

    /*
     * Options the driver knows are taken out of @options; those left over are
     * refused by the layer. On failure co_close is not called: undo.
     * bs->file is open for formats; a filter or protocol opens its own.
     */
    int coroutine_fn (*co_open)(BlockDriverState *bs, BdrvOptions *options,
                                unsigned flags, GError **errp);
    /* Write back what is held and free; everything is drained and flushed.
     * Children are closed by the layer afterwards. Returns 0 or -errno. */
    int coroutine_fn (*co_close)(BlockDriverState *bs);
    /* Takes options as co_open. The layer refuses what is left over, but only
     * afterwards: hand the rest to bdrv_co_create_file() (take_prefix with
     * ""), or check it, before a file is touched. */
    int coroutine_fn (*co_create)(const char *filename, BdrvOptions *options,
                                  GError **errp);
    /* Take back what co_create made. Optional. */
    void coroutine_fn (*co_uncreate)(const char *filename);

    /*
     * 0 or -errno, never short. Aligned to request_alignment, memory to
     * mem_alignment, at most max_transfer; @qiov->size == @bytes > 0. A read
     * starts before the end of the node; what it asks for past the end reads
     * as zeroes. Flags are a subset of supported_write_flags.
     */
    int coroutine_fn (*co_preadv)(BlockDriverState *bs, uint64_t offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  unsigned flags);
    int coroutine_fn (*co_pwritev)(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes, QEMUIOVector *qiov,
                                   unsigned flags);
    /* @flags: BDRV_REQ_WRITE_COMPRESSED, BDRV_REQ_REPLACE; any alignment and
     * memory, never split. Absent: -ENOTSUP. */
    int coroutine_fn (*co_pwritev_compressed)(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              QEMUIOVector *qiov,
                                              unsigned flags);
    /* Copy from a file, which is open as protocol @src, without reading it.
     * -ENOTSUP: a part may have been copied, write it. */
    int coroutine_fn (*co_copy_range)(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, BlockDriverState *src,
                                      uint64_t src_offset);
    /* Aligned to pwrite_zeroes_alignment, or up to the end of the node.
     * -ENOTSUP: zeroes are written. */
    int coroutine_fn (*co_pwrite_zeroes)(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes,
                                         unsigned flags);
    /* Aligned to pdiscard_alignment, or up to the end of the node. -ENOTSUP
     * counts as done. */
    int coroutine_fn (*co_pdiscard)(BlockDriverState *bs, uint64_t offset,
                                    uint64_t bytes);
    /* Push what this node caches to the node below. */
    int coroutine_fn (*co_flush_to_os)(BlockDriverState *bs);
    /* Make what this node has on its own storage durable (protocols). */
    int coroutine_fn (*co_flush_to_disk)(BlockDriverState *bs);
    /* -ENOTSUP for a mode of preallocation that the driver has not. */
    int coroutine_fn (*co_truncate)(BlockDriverState *bs, uint64_t size,
                                    BdrvPrealloc prealloc, GError **errp);
    /* Called after co_open and co_truncate; absent: the driver sets
     * bs->total_bytes itself. Bytes or -errno. */
    int64_t coroutine_fn (*co_getlength)(BlockDriverState *bs);
    /* This layer only: no ALLOCATED flag means that backing decides (zeroes
     * without one). Aligned. As blk_co_block_status() otherwise. */
    int coroutine_fn (*co_block_status)(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, uint64_t *ret_bytes,
                                        uint64_t *ret_map);
    int coroutine_fn (*co_get_info)(BlockDriverState *bs, BdrvInfo *ret);
    /* Fill in what only the format knows, see info.h. */
    int coroutine_fn (*co_describe)(BlockDriverState *bs,
                                    struct BlkImageInfo *info,
                                    GError **errp);
    /* The file the image names for its data, open or not, relative to the
     * image; NULL: none. */
    const char *(*data_file_name)(const BlockDriverState *bs);
    /* Bytes that a protocol takes on its disk. Absent: what its children
     * take. */
    uint64_t (*allocated_bytes)(const BlockDriverState *bs);

    /*
     * What must outlive the node when it is closed to be opened anew, see
     * reopen.c. keep: all that a node which may (not) write needs to hold is
     * held from now on, close included, by *@ret; 0 (*@ret NULL: nothing), or
     * -errno, nothing changed. unkeep: the node holds it again itself, as
     * before. give: @bs, opened in its place, makes use of it. drop: free it.
     */
    int (*reopen_keep)(BlockDriverState *bs, bool writer, void **ret,
                       GError **errp);
    void (*reopen_unkeep)(BlockDriverState *bs, void *kept);
    void (*reopen_give)(BlockDriverState *bs, void *kept);
    void (*reopen_drop)(void *kept);

    /* Maintenance: as the blk_co_ functions, with the tree held exclusively.
     * co_amend and co_measure take the options they know. */
    int coroutine_fn (*co_amend)(BlockDriverState *bs, BdrvOptions *opts,
                                 bool force, BdrvProgressFunc *progress,
                                 void *opaque, GError **errp);
    int coroutine_fn (*co_measure)(BdrvOptions *opts, BlockDriverState *src,
                                   BdrvMeasure *ret, GError **errp);
    int coroutine_fn (*co_change_backing_file)(BlockDriverState *bs,
                                               const char *file,
                                               const char *fmt,
                                               GError **errp);
    int coroutine_fn (*co_make_empty)(BlockDriverState *bs, GError **errp);

    /* Called with the tree held exclusively, except list and delete (guests
     * go on during both). See snapshot.h. */
    int coroutine_fn (*co_snapshot_create)(BlockDriverState *bs,
                                           BdrvSnapshotInfo *info,
                                           GError **errp);
    int coroutine_fn (*co_snapshot_goto)(BlockDriverState *bs,
                                         const char *id_or_name,
                                         GError **errp);
    int coroutine_fn (*co_snapshot_delete)(BlockDriverState *bs,
                                           const char *id, const char *name,
                                           GError **errp);
    int coroutine_fn (*co_snapshot_list)(BlockDriverState *bs,
                                         GPtrArray **ret);

    /* @pos: byte in the vmstate area; the size is qiov->size. */
    int coroutine_fn (*co_save_vmstate)(BlockDriverState *bs, uint64_t pos,
                                        QEMUIOVector *qiov);
    int coroutine_fn (*co_load_vmstate)(BlockDriverState *bs, uint64_t pos,
                                        QEMUIOVector *qiov);
    /* Which snapshot co_load_vmstate reads (NULL: the active layer); its size
     * from the snapshot table, 0 for the active layer. */
    int coroutine_fn (*co_vmstate_select)(BlockDriverState *bs,
                                          const char *snapshot,
                                          uint64_t *ret_size, GError **errp);
    /* Drop vmstate from the active layer and free its clusters. */
    int coroutine_fn (*co_vmstate_discard)(BlockDriverState *bs);

    /* Could a new persistent bitmap @name be stored? 0 or -errno. */
    int (*bitmap_can_store)(BlockDriverState *bs, const char *name,
                            GError **errp);
    /* Add what is in the image to @bm->bits; @bm->stored is set. */
    int coroutine_fn (*co_bitmap_load)(BlockDriverState *bs,
                                       BdrvDirtyBitmap *bm, GError **errp);

    /* Called with the tree held exclusively. See check.h. */
    int coroutine_fn (*co_check)(BlockDriverState *bs, BdrvCheckResult *ret,
                                 unsigned fix, BdrvCheckReport *report,
                                 void *opaque, GError **errp);

    /* May yield: a suspended request stays here. */
    void coroutine_fn (*debug_event)(BlockDriverState *bs,
                                     BlkdebugEvent event);
    int (*debug_breakpoint)(BlockDriverState *bs, BlkdebugEvent event,
                            const char *tag);
    int (*debug_resume)(BlockDriverState *bs, const char *tag);
    int (*debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    bool (*debug_is_suspended)(BlockDriverState *bs, const char *tag);
};

extern BlockDriver bdrv_file, bdrv_raw, bdrv_null_co, bdrv_blkdebug,
                   bdrv_blkverify, bdrv_copy_on_read, bdrv_null_aio,
                   bdrv_preallocate,
                   bdrv_qcow2;

/*
 * Make one more driver known by name, for tests; twice the same is fine. Call
 * before any other thread opens an image.
 */
void bdrv_register(BlockDriver *drv);
/* The @i-th driver, NULL after the last one. */
BlockDriver *bdrv_nth_driver(size_t i);
/* Formats are told apart by this much, zeroes behind the end of a shorter file:
 * the driver "raw" guards just that against guests. */
#define BDRV_PROBE_BYTES 512
/* The name of the format that a file with these first bytes is of, "raw" if
 * they are not known; there need not be a driver of that name. */
const char *bdrv_probe(const uint8_t *buf, size_t len, const char *filename);
/* As bdrv_find_format(), with a sentence when there is none of that name. */
BlockDriver *bdrv_find_named_driver(const char *name, GError **errp);

/* --- Children --- */

/*
 * Open a child of @parent called @name. @filename may be NULL when @options
 * (consumed) say it all. Flags follow from the parent's and @role. The edge is
 * added to parent->children; the caller stores it in parent->file or ->backing
 * where it belongs. Returns 0 or -errno, *@ret untouched.
 */
int coroutine_fn bdrv_co_open_child(BlockDriverState *parent,
                                    const char *filename,
                                    BdrvOptions *options, const char *name,
                                    BdrvChildRole role, BdrvChild **ret,
                                    GError **errp);

/*
 * A child that a driver wants to close before its parent is; clears
 * parent->file or ->backing when it was that. NULL: nothing. Returns the error
 * of flush or close.
 */
int coroutine_fn bdrv_co_close_child(BdrvChild *child);

/*
 * For co_create: a protocol node without a parent, to be closed by
 * bdrv_co_close_child(). bdrv_co_create_file() makes or truncates the file
 * first; @options as there (consumed).
 */
int coroutine_fn bdrv_co_create_file(const char *filename,
                                     BdrvOptions *options, GError **errp);
/* Remove a file that bdrv_co_create_file() made, since the rest failed. What
 * is no regular file stays. */
void coroutine_fn bdrv_co_uncreate_file(const char *filename);
int coroutine_fn bdrv_co_open_file(const char *filename, BdrvOptions *options,
                                   unsigned flags, BdrvChild **ret,
                                   GError **errp);

/* Used by the BlockBackend. */
int coroutine_fn bdrv_co_open_root(const char *filename, BdrvOptions *options,
                                   unsigned flags, BdrvChild **ret,
                                   GError **errp);
BlockDriver *bdrv_find_format(const char *name);
BlockDriver *bdrv_find_protocol(const char *filename, GError **errp);

/* filename.c: does @filename start with a protocol prefix? */
bool bdrv_has_protocol(const char *filename);
/* Returns the name that opens the same disk, which may be "json:{...}". */
char *bdrv_full_name(const BlockDriverState *bs);
/* That prefix without the ':', to be freed, or NULL. */
char *bdrv_protocol_name(const char *filename);

/* --- Requests below a BlockBackend --- */

/*
 * As the blk_co_ functions, but no bounds of a guest: reading past the end of
 * a node gives zeroes, writing past it extends a growable node and is -ENOSPC
 * on others. They are counted and tracked, and are not held back by a drain.
 */
int coroutine_fn bdrv_co_preadv(BdrvChild *child, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags);
int coroutine_fn bdrv_co_pwritev(BdrvChild *child, uint64_t offset,
                                 uint64_t bytes, QEMUIOVector *qiov,
                                 unsigned flags);
int coroutine_fn bdrv_co_pread(BdrvChild *child, uint64_t offset,
                               uint64_t bytes, void *buf, unsigned flags);
int coroutine_fn bdrv_co_pwrite(BdrvChild *child, uint64_t offset,
                                uint64_t bytes, const void *buf,
                                unsigned flags);
int coroutine_fn bdrv_co_pwrite_zeroes(BdrvChild *child, uint64_t offset,
                                       uint64_t bytes, unsigned flags);
int coroutine_fn bdrv_co_pdiscard(BdrvChild *child, uint64_t offset,
                                  uint64_t bytes);
int coroutine_fn bdrv_co_flush(BlockDriverState *bs);
int coroutine_fn bdrv_co_truncate(BdrvChild *child, uint64_t size,
                                  BdrvPrealloc prealloc, GError **errp);
int64_t coroutine_fn bdrv_co_getlength(BlockDriverState *bs);
/* This node only; blk_co_block_status() follows backing. */
int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes, uint64_t *ret_bytes,
                                      uint64_t *ret_map);
int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            uint64_t *ret_bytes,
                                            uint64_t *ret_map);
/*
 * @bs does not hold what *@status was said of: the node that is to be asked
 * next, or NULL. Then *@status has ZERO, unless only a read tells: what a
 * driver that has no backing files is put on may have one.
 */
BlockDriverState *bdrv_behind(BlockDriverState *bs, int *status);
/* The child that @bs has its data in. */
BdrvChild *bdrv_data_child(BlockDriverState *bs);
/* What all files of an image take on their disks, but for its backing files. */
uint64_t bdrv_allocated_bytes(const BlockDriverState *bs);
/*
 * @flags, @map and *@bytes are what bdrv_co_block_status() said of @bs; look
 * whether the start of that is a hole in the file below. Returns @flags, with
 * ZERO then, for *@bytes that may have become fewer; or -errno.
 */
int coroutine_fn bdrv_co_find_holes(BlockDriverState *bs, int flags,
                                    uint64_t map, uint64_t *bytes);

/*
 * Let the host copy @bytes from one node into another. -ENOTSUP: the nodes or
 * the host cannot, read and write instead; nothing or a part was copied.
 */
int coroutine_fn bdrv_co_copy_range(BlockDriverState *src,
                                    uint64_t src_offset, BdrvChild *dst,
                                    uint64_t dst_offset, uint64_t bytes);

/* Count a piece of work that a drain has to wait for. */
void bdrv_inc_in_flight(BlockDriverState *bs);
void bdrv_dec_in_flight(BlockDriverState *bs);

/* The topmost node of the tree @bs is in. */
BlockDriverState *bdrv_root(BlockDriverState *bs);

/* --- The BlockBackend, private to block-backend.c and aio-cb.c --- */

struct BlockBackend {
    BdrvChild *root;
    AioContext *ctx;
    char *filename;       /* this, options and flags: as given to open, */
    BdrvOptions *options; /* for blk_co_reopen() */
    unsigned open_flags;
    bool writethrough;    /* every write is FUA */
    unsigned in_flight;   /* started, end not yet reported */
    unsigned nb_aio;      /* BlockAIOCBs whose callback has not begun */
    CoQueue queued;       /* requests that wait for a drain to end */
    CoQueue idle;         /* until in_flight or nb_aio is 0 */
};

typedef enum BlkOp {
    BLK_OP_READ,
    BLK_OP_WRITE,
    BLK_OP_ZERO,
    BLK_OP_DISCARD,
    BLK_OP_FLUSH,
} BlkOp;

/* One request, however it was asked for. */
typedef struct BlkRequest {
    BlockBackend *blk;
    BlkOp op;
    unsigned flags;
    uint64_t offset;
    uint64_t bytes;
    QEMUIOVector *qiov;
} BlkRequest;

/* Wait for drains to end and count a request; -ECANCELED, not counted, once
 * *@cancelled (NULL: never) is set. */
int coroutine_fn blk_co_begin(BlockBackend *blk, const bool *cancelled);
void blk_end(BlockBackend *blk);
/* Check and do a request that has begun. */
int coroutine_fn blk_co_do(const BlkRequest *req);

/* block-backend.c, for drain.c: wait until blk_in_flight() may be 0 (check
 * again); let the requests go on that a drain held back. */
void coroutine_fn blk_co_wait_idle(BlockBackend *blk);
void blk_restart_queued(BlockBackend *blk);

/* drain.c, for io.c: put a request on the list, counted, and wait for older
 * ones it conflicts with; take it off and wake those that wait for it. */
void coroutine_fn bdrv_co_tracked_begin(BdrvTrackedRequest *req,
                                        BlockDriverState *bs,
                                        BdrvRequestType type,
                                        uint64_t offset, uint64_t bytes,
                                        bool serialising);
void bdrv_co_tracked_end(BdrvTrackedRequest *req);

/* io.c, for copy-range.c: may the node be changed in this range, and can it
 * grow to its end? Begin a write, which conflicts in whole blocks; end it: a
 * failed one may have changed something too, it counts for flush and for dirty
 * bitmaps. */
int bdrv_check_write(BlockDriverState *bs, uint64_t offset, uint64_t bytes);
void coroutine_fn bdrv_co_write_begin(BdrvTrackedRequest *req,
                                      BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes);
void bdrv_co_write_end(BdrvTrackedRequest *req, int ret);

/*
 * filter.c: what filters without an opinion do. Open takes the options
 * "file.*", to which @forced (consumed; NULL: none) are added.
 */
int coroutine_fn bdrv_filter_co_open(BlockDriverState *bs,
                                     BdrvOptions *options,
                                     BdrvOptions *forced, GError **errp);
/* The name of the open child, and what it can do. */
void bdrv_filter_take_over(BlockDriverState *bs);
int64_t coroutine_fn bdrv_filter_co_getlength(BlockDriverState *bs);
int coroutine_fn bdrv_filter_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags);
int coroutine_fn bdrv_filter_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags);
int coroutine_fn bdrv_filter_co_pwritev_compressed(BlockDriverState *bs,
                                                   uint64_t offset,
                                                   uint64_t bytes,
                                                   QEMUIOVector *qiov,
                                                   unsigned flags);
int coroutine_fn bdrv_filter_co_pwrite_zeroes(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              unsigned flags);
int coroutine_fn bdrv_filter_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes);
int coroutine_fn bdrv_filter_co_truncate(BlockDriverState *bs, uint64_t size,
                                         BdrvPrealloc prealloc,
                                         GError **errp);
int coroutine_fn bdrv_filter_co_block_status(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             uint64_t *ret_bytes,
                                             uint64_t *ret_map);

/* copy-on-read.c, for io.c: make the node hold this range itself. 0 or
 * -errno. */
int coroutine_fn bdrv_co_copy_on_read(BlockDriverState *bs, uint64_t offset,
                                      uint64_t bytes);

/* io.c, for block.c: ask the driver for bs->total_bytes. 0 or -errno. */
int coroutine_fn bdrv_co_refresh_length(BlockDriverState *bs);

/* --- blkdebug --- */

void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs,
                                      BlkdebugEvent event);

/* Announce that @child is about to be used for @event (BLKDBG_...). */
#define BLKDBG_EVENT(child, event)                        \
    do {                                                  \
        if ((child) != NULL) {                            \
            bdrv_co_debug_event((child)->bs, (event));    \
        }                                                 \
    } while (0)

#endif
