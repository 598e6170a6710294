/* SPDX-License-Identifier: MIT */
/*
 * The block layer as its users see it: a BlockBackend (what a device or a tool
 * holds) on top of a tree of BlockDriverState nodes.
 *
 * Home context. A BlockBackend and its tree belong to the AioContext they were
 * opened on. Every function here is called on the thread that runs that
 * context; only blk_aio_*() may be called there outside of aio_poll() as well.
 * Nothing in block/ is locked against other threads.
 *
 * Names. blk_co_*() are coroutine functions and may yield. The blocking
 * wrappers without _co_ run the context until the work is done; they must not
 * be called from a coroutine.
 *
 * Errors. 0 (or a count, where said) or a negative errno; *ret outputs are
 * touched only on success. Requests are never short.
 */
#ifndef FIRN_BLOCK_BLOCK_H
#define FIRN_BLOCK_BLOCK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/blkdebug-events.h"
#include "block/check.h"
#include "block/options.h"
#include "util/aio.h"
#include "util/compiler.h"
#include "util/iov.h"

typedef struct BlockBackend BlockBackend;
typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BlockDriver BlockDriver;
typedef struct BlockAIOCB BlockAIOCB;

/* Open flags. */
enum {
    BDRV_O_RDWR           = 1u << 0, /* else read-only */
    BDRV_O_NOCACHE        = 1u << 1, /* O_DIRECT */
    BDRV_O_NO_FLUSH       = 1u << 2, /* flushes do not reach the disk */
    BDRV_O_WRITETHROUGH   = 1u << 3, /* every write is FUA (BlockBackend) */
    BDRV_O_UNMAP          = 1u << 4, /* discards are passed down */
    BDRV_O_NO_BACKING     = 1u << 5, /* do not open the backing file */
    BDRV_O_FORCE_SHARE    = 1u << 6, /* no image locks; needs read-only */
    BDRV_O_CHECK          = 1u << 7, /* opened to be checked or repaired */
    BDRV_O_NO_SHARE_PROBE = 1u << 8, /* take locks, do not test for others' */
    BDRV_O_PROTOCOL       = 1u << 9, /* no format is probed on top */
    BDRV_O_BACKING_RDWR   = 1u << 10, /* so is the backing file: to commit */
    BDRV_O_DATA_FILE      = 1u << 11, /* the image may name its data file */
    BDRV_O_COPY_ON_READ   = 1u << 12, /* keep what backing files were read for */
    BDRV_O_DETECT_ZEROES  = 1u << 13, /* written zeroes are no data */
    BDRV_O_DETECT_UNMAP   = 1u << 14, /* nor need they space; with the former */
    BDRV_O_NO_IO          = 1u << 15, /* guest data is neither read nor written:
                                         needs no key, and no data file that
                                         the image names */
};

/* What a longer node gets behind its old end. */
typedef enum BdrvPrealloc {
    BDRV_PREALLOC_OFF,
    BDRV_PREALLOC_METADATA, /* tables only; formats that have some */
    BDRV_PREALLOC_FALLOC,   /* space, without writing it */
    BDRV_PREALLOC_FULL,     /* written zeroes */
} BdrvPrealloc;

/* Request flags. */
enum {
    BDRV_REQ_FUA         = 1u << 0, /* durable when it returns */
    BDRV_REQ_MAY_UNMAP   = 1u << 1, /* zeroes may give up the space */
    BDRV_REQ_NO_FALLBACK = 1u << 2, /* zeroes: -ENOTSUP rather than slow */
    /*
     * Writes: store whole clusters compressed where that saves space. The
     * last cluster of the disk may be short. -EINVAL: not whole clusters;
     * -EIO: one of them that would get smaller has a place in the file
     * already, see BDRV_REQ_REPLACE; -ENOTSUP: the node cannot.
     */
    BDRV_REQ_WRITE_COMPRESSED = 1u << 3,
    /*
     * Zeroes: stored even if that takes data (version 2 of qcow2) where the
     * node reads as zeroes for want of a backing file, because it is about to
     * get one. Nodes that never have one need not know the flag.
     */
    BDRV_REQ_EXPLICIT_ZERO = 1u << 4,
    /* With BDRV_REQ_WRITE_COMPRESSED: also where there is data, whose place
     * becomes free. */
    BDRV_REQ_REPLACE = 1u << 5,
};

/* Block status, ORed. */
enum {
    BDRV_BLOCK_DATA         = 1 << 0, /* reads go to data somewhere */
    BDRV_BLOCK_ZERO         = 1 << 1, /* reads as zeroes */
    BDRV_BLOCK_ALLOCATED    = 1 << 2, /* this layer, not backing, decides */
    BDRV_BLOCK_OFFSET_VALID = 1 << 3, /* *ret_map is an offset in bs->file, or
                                         * in an external data file */
    BDRV_BLOCK_RECURSE      = 1 << 4, /* a hole in that file reads as zeroes */
};

/* No node is longer and no request ends later. */
#define BDRV_MAX_LENGTH ROUND_DOWN((uint64_t)INT64_MAX, 4096)

/* Static facts about an open node. */
typedef struct BdrvInfo {
    uint64_t cluster_size;    /* bytes, 0: none */
    uint64_t vm_state_offset; /* guest offset where vmstate starts, or 0 */
    bool is_dirty;            /* not closed cleanly */
} BdrvInfo;

/*
 * Set the cache bits of *@flags for "none", "directsync", "writeback",
 * "writethrough" or "unsafe", clearing the others; "off" is "none". Returns 0 or -EINVAL.
 */
/* Their names; NULL at the end. */
extern const char *const bdrv_cache_modes[];
int bdrv_parse_cache_mode(const char *mode, unsigned *flags);

/*
 * --- Opening and closing ---
 *
 * @filename: a path, PROTOCOL:rest, "json:{...}", or NULL when @options say it
 * all; what is in @options wins. @options (NULL: none) is consumed, also on
 * failure. Generic options of every node: driver, read-only, force-share,
 * cache.direct, cache.no-flush, discard=ignore|unmap, allow-data-file,
 * copy-on-read, detect-zeroes=off|on|unmap; the rest belongs to drivers,
 * "file.", "backing." and "data-file." prefix those of children. The format is
 * probed when no driver is named.
 *
 * Returns 0 with *@ret set; -ENOENT, -EACCES, -EAGAIN (locked), -EINVAL (an
 * option or the image is bad), -ENOTSUP (unknown driver, unsupported image),
 * or what the operating system said.
 */
int coroutine_fn blk_co_open(const char *filename, BdrvOptions *options,
                             unsigned flags, BlockBackend **ret,
                             GError **errp);
int no_coroutine_fn blk_open(AioContext *ctx, const char *filename,
                             BdrvOptions *options, unsigned flags,
                             BlockBackend **ret, GError **errp);

/*
 * Wait for all requests, flush, close and free (NULL: nothing). The backend is
 * gone whatever is returned: 0, or the first error of flush or close.
 */
int coroutine_fn blk_co_close(BlockBackend *blk);
int no_coroutine_fn blk_close(BlockBackend *blk);

/*
 * Open what *@blk is anew, with @flags and with @changes (consumed; NULL:
 * none) to its options. Locks are held all the time, and blkdebug goes on where
 * it was. The nodes stay the same: -EINVAL when @changes say another driver,
 * filename or child for one of them, or change how it is locked or shared.
 *
 * Returns 0, or what flush, close and open say. On failure *@blk is as it was,
 * or NULL, closed, when it could not be opened in the old way either.
 */
int coroutine_fn blk_co_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp);
int no_coroutine_fn blk_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp);
/* The flags it was opened with. */
unsigned blk_get_open_flags(const BlockBackend *blk);

/*
 * Create an image, truncating what is there. @create_opts (consumed) holds
 * "size" and what the format knows. Returns 0 or as for blk_co_open().
 */
int coroutine_fn blk_co_create(const char *format, const char *filename,
                               BdrvOptions *create_opts, GError **errp);
int no_coroutine_fn blk_create(AioContext *ctx, const char *format,
                               const char *filename, BdrvOptions *create_opts,
                               GError **errp);

/* The root node; owned by @blk. */
BlockDriverState *blk_bs(BlockBackend *blk);
AioContext *blk_get_aio_context(BlockBackend *blk);
bool blk_is_read_only(const BlockBackend *blk);
/* Requests that have been accepted and whose end was not yet reported. */
unsigned blk_in_flight(const BlockBackend *blk);

/*
 * --- Requests ---
 *
 * [@offset, @offset + @bytes) must lie within the disk: -EIO otherwise, also
 * when it overflows. Zero bytes succeed. @qiov->size equals @bytes and its
 * memory stays until return. Writing a read-only disk: -EROFS. While the tree
 * is drained a request waits for the end of the drain.
 */
int coroutine_fn blk_co_preadv(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, QEMUIOVector *qiov,
                               unsigned flags);
int coroutine_fn blk_co_pwritev(BlockBackend *blk, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags);
int coroutine_fn blk_co_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                      uint64_t bytes, unsigned flags);
/* Advisory: without BDRV_O_UNMAP or support below it does nothing. */
int coroutine_fn blk_co_pdiscard(BlockBackend *blk, uint64_t offset,
                                 uint64_t bytes);
/*
 * Let the host copy from one disk to another (copy_file_range). -ENOTSUP: what
 * is there is no plain data in files of one host, or the host does not do it;
 * a part may have been copied.
 */
int coroutine_fn blk_co_copy_range(BlockBackend *src, uint64_t src_offset,
                                   BlockBackend *dst, uint64_t dst_offset,
                                   uint64_t bytes);
/* All writes that have completed are durable when this returns 0. */
int coroutine_fn blk_co_flush(BlockBackend *blk);
/*
 * Change the length to @size bytes; excludes every other request. What is cut
 * off is gone and reads as zeroes when the node grows again; nobody is asked.
 * @prealloc is for growing; a mode that the node cannot do: -ENOTSUP.
 */
int coroutine_fn blk_co_truncate(BlockBackend *blk, uint64_t size,
                                 BdrvPrealloc prealloc, GError **errp);
int64_t coroutine_fn blk_co_getlength(BlockBackend *blk);

/*
 * How a read of [@offset, @offset + @bytes) would be served, backing files
 * included. Returns BDRV_BLOCK_* flags that hold for the first *@ret_bytes
 * (1..@bytes; 0 when @bytes is), or -errno. *@ret_map (may be NULL): where the
 * data is in the file below the node that holds it, with OFFSET_VALID.
 */
int coroutine_fn blk_co_block_status(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes,
                                     uint64_t *ret_map);

/*
 * Does the top node itself decide what [@offset, @offset + 1) reads as, its
 * backing file left aside? Returns 1 or 0, which holds for *@ret_bytes as
 * above, or -errno.
 */
int coroutine_fn blk_co_is_allocated(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes);

/* Blocking forms of the above. */
int no_coroutine_fn blk_pread(BlockBackend *blk, uint64_t offset,
                              uint64_t bytes, void *buf);
int no_coroutine_fn blk_pwrite(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, const void *buf);
int no_coroutine_fn blk_preadv(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, QEMUIOVector *qiov,
                               unsigned flags);
int no_coroutine_fn blk_pwritev(BlockBackend *blk, uint64_t offset,
                                uint64_t bytes, QEMUIOVector *qiov,
                                unsigned flags);
int no_coroutine_fn blk_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                      uint64_t bytes, unsigned flags);
int no_coroutine_fn blk_pdiscard(BlockBackend *blk, uint64_t offset,
                                 uint64_t bytes);
int no_coroutine_fn blk_flush(BlockBackend *blk);
int no_coroutine_fn blk_truncate(BlockBackend *blk, uint64_t size,
                                 BdrvPrealloc prealloc, GError **errp);
int64_t no_coroutine_fn blk_getlength(BlockBackend *blk);
int no_coroutine_fn blk_block_status(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes,
                                     uint64_t *ret_map);

int no_coroutine_fn blk_is_allocated(BlockBackend *blk, uint64_t offset,
                                     uint64_t bytes, uint64_t *ret_bytes);

/*
 * Memory for requests that never needs a bounce buffer: at least @bytes,
 * aligned for any O_DIRECT file. NULL when there is none. Free with free().
 */
void *blk_try_memalign(size_t bytes);

/*
 * --- Maintenance ---
 *
 * Each excludes every other request and is -ENOTSUP, by name, for formats that
 * have nothing of the kind. Blocking forms are below.
 */

/* "off", "metadata", "falloc", "full"; NULL is off. 0 or -EINVAL. */
int bdrv_prealloc_parse(const char *text, BdrvPrealloc *ret, GError **errp);

/* @done of @total units of work. */
typedef void BdrvProgressFunc(uint64_t done, uint64_t total, void *opaque);

/*
 * Change what an image was created with. @opts (consumed) holds options of
 * create; what the format cannot change is refused by name before anything
 * changes. @force: also when that loses something which other programs want
 * to keep. @progress may be NULL.
 *
 * The passphrases of a LUKS image, of which @blk was opened with one (names of
 * secrets are those of block/secret.h):
 *   encrypt.state=active    encrypt.new-secret is added to the first key slot
 *                           that is free, or to encrypt.keyslot (in use: only
 *                           with @force); trying it takes encrypt.iter-time
 *                           milliseconds (2000), and so does this call
 *   encrypt.state=inactive  encrypt.old-secret, in whatever slots it is, or
 *                           encrypt.keyslot is erased (all there are: only
 *                           with @force)
 * @blk goes on with the key it has, whatever becomes of its passphrase. Also
 * -EEXIST, -EBUSY: @force is missing; -ENOSPC: no slot is free; -ENOENT: there
 * is no such secret, or no slot has it; -EACCES: opened without a key.
 */
int coroutine_fn blk_co_amend(BlockBackend *blk, BdrvOptions *opts,
                              bool force, BdrvProgressFunc *progress,
                              void *opaque, GError **errp);
int no_coroutine_fn blk_amend(BlockBackend *blk, BdrvOptions *opts,
                              bool force, BdrvProgressFunc *progress,
                              void *opaque, GError **errp);

typedef struct BdrvMeasure {
    uint64_t required;        /* bytes for what holds data now */
    uint64_t fully_allocated; /* bytes once all was written */
    uint64_t bitmaps;         /* more bytes, with the bitmaps of the source */
    bool has_bitmaps;         /* source and target can have some */
} BdrvMeasure;

/*
 * How large a file of @format would be, for a disk of option "size" or a copy
 * of @src (NULL: none). @opts (consumed; NULL: none) as for creating it.
 */
int coroutine_fn bdrv_co_measure(const char *format, BdrvOptions *opts,
                                 BlockBackend *src, BdrvMeasure *ret,
                                 GError **errp);
int no_coroutine_fn bdrv_measure(AioContext *ctx, const char *format,
                                 BdrvOptions *opts, BlockBackend *src,
                                 BdrvMeasure *ret, GError **errp);

/*
 * Make the image say that its backing file is @file (NULL: none) of format
 * @fmt (NULL: says nothing). Neither contents nor the node that is open as
 * backing file now change.
 */
int coroutine_fn blk_co_change_backing_file(BlockBackend *blk,
                                            const char *file,
                                            const char *fmt, GError **errp);
int no_coroutine_fn blk_change_backing_file(BlockBackend *blk,
                                            const char *file,
                                            const char *fmt, GError **errp);

/* Drop what the top node holds, so that its backing file shows everywhere. */
int coroutine_fn blk_co_make_empty(BlockBackend *blk, GError **errp);
int no_coroutine_fn blk_make_empty(BlockBackend *blk, GError **errp);

typedef struct BlkRebaseOptions {
    BlockBackend *backing;  /* the new backing file, open; NULL: none */
    const char *file;       /* what the image is to call it, */
    const char *format;     /* and its format; NULL: none */
    bool compressed;        /* store what has to be copied compressed */
    unsigned workers;       /* copies at a time; 0: a default */
    BdrvProgressFunc *progress; /* in bytes; NULL: none */
    void *opaque;
} BlkRebaseOptions;

/*
 * Give the image another backing file without changing what the disk shows:
 * what that needs is copied from the present one, which must be open if there
 * is one, into the top node first. On failure the image has its old backing
 * file and reads as before; when it succeeds the node has still the old one
 * open.
 */
int coroutine_fn blk_co_rebase(BlockBackend *blk, const BlkRebaseOptions *o,
                               GError **errp);
int no_coroutine_fn blk_rebase(BlockBackend *blk, const BlkRebaseOptions *o,
                               GError **errp);

typedef struct BlkCommitOptions {
    bool drop;              /* make the top node empty afterwards */
    BlockBackend *base;     /* NULL: the backing file. Else a file further
                               down, open for writing, and the top was opened
                               without it; for disks that stay, not drop */
    unsigned workers;       /* copies at a time; 0: a default */
    uint64_t bytes_per_second; /* of data; 0: no limit */
    BdrvProgressFunc *progress; /* in bytes; NULL: none */
    void *opaque;
} BlkCommitOptions;

/*
 * Copy what the top node of @blk holds into its backing file, which must have
 * been opened for writing (BDRV_O_BACKING_RDWR) and grows when it is shorter;
 * or what the whole chain of @blk holds into o->base, which is behind it.
 * @options NULL: defaults, with drop. On failure the disk reads as before.
 */
int coroutine_fn blk_co_commit(BlockBackend *blk,
                               const BlkCommitOptions *options,
                               GError **errp);
int no_coroutine_fn blk_commit(BlockBackend *blk,
                               const BlkCommitOptions *options,
                               GError **errp);

/*
 * --- Callbacks ---
 *
 * Submit and return. @cb runs exactly once, from a bottom half of the backend's
 * AioContext, never inside the submitting call nor in a coroutine; the handle
 * is invalid when it returns. @ret of @cb: as of the coroutine function.
 */
typedef void BlockCompletionFunc(void *opaque, int ret);

BlockAIOCB *blk_aio_preadv(BlockBackend *blk, uint64_t offset,
                           QEMUIOVector *qiov, unsigned flags,
                           BlockCompletionFunc *cb, void *opaque);
BlockAIOCB *blk_aio_pwritev(BlockBackend *blk, uint64_t offset,
                            QEMUIOVector *qiov, unsigned flags,
                            BlockCompletionFunc *cb, void *opaque);
BlockAIOCB *blk_aio_pwrite_zeroes(BlockBackend *blk, uint64_t offset,
                                  uint64_t bytes, unsigned flags,
                                  BlockCompletionFunc *cb, void *opaque);
BlockAIOCB *blk_aio_pdiscard(BlockBackend *blk, uint64_t offset,
                             uint64_t bytes, BlockCompletionFunc *cb,
                             void *opaque);
BlockAIOCB *blk_aio_flush(BlockBackend *blk, BlockCompletionFunc *cb,
                          void *opaque);

/*
 * Ask for an early end. A request that still waits for a drain to end gets
 * -ECANCELED; one that has started runs to its end, because the kernel owns
 * its memory until then, and reports -ECANCELED if the I/O was cut short or
 * its true result. The callback always runs after the I/O is over.
 * blk_aio_cancel() returns after the callback has run.
 */
void no_coroutine_fn blk_aio_cancel(BlockAIOCB *acb);
void blk_aio_cancel_async(BlockAIOCB *acb);

/*
 * --- Drain ---
 *
 * Between begin and end no request of a BlockBackend is in flight anywhere in
 * the tree @bs is part of; new ones wait. Nests. Begin waits for what is in
 * flight, so it must not be called from inside a request. What is issued
 * directly at a node (vmstate, snapshots) is not held back.
 */
void coroutine_fn bdrv_co_drained_begin(BlockDriverState *bs);
void no_coroutine_fn bdrv_drained_begin(BlockDriverState *bs);
/* Does not yield or poll. */
void bdrv_drained_end(BlockDriverState *bs);

/*
 * Drained, and against any other exclusive operation on the tree: for changes
 * of the whole map (snapshots, resize, check). Does not nest.
 */
void coroutine_fn bdrv_co_exclusive_begin(BlockDriverState *bs) NO_TSA;
void coroutine_fn bdrv_co_exclusive_end(BlockDriverState *bs) NO_TSA;
/*
 * Against exclusive operations and others of this kind, but guest requests go
 * on. A drain waits for the end.
 */
void coroutine_fn bdrv_co_serial_begin(BlockDriverState *bs) NO_TSA;
void coroutine_fn bdrv_co_serial_end(BlockDriverState *bs) NO_TSA;

/* --- Nodes --- */

/* @filename taken relative to the directory of @base, as an image's backing
 * file is; absolute paths, protocols and json: stay. To be freed. */
char *bdrv_combine_filename(const char *base, const char *filename);
/* Two names (with or without "file:") of one file or device? */
bool bdrv_is_same_file(const char *a, const char *b);
/* Does the tree of @bs consist of that file too: an image or a backing file, or a
 * data file, open or not? */
bool bdrv_has_file(const BlockDriverState *bs, const char *filename);

/* "qcow2", "file", ... */
const char *bdrv_get_format_name(const BlockDriverState *bs);
/* What it was opened from, for messages. */
const char *bdrv_get_filename(const BlockDriverState *bs);
bool bdrv_is_read_only(const BlockDriverState *bs);
/* Returns 0, or -ENOTSUP: the driver has nothing to tell. */
int coroutine_fn bdrv_co_get_info(BlockDriverState *bs, BdrvInfo *ret);

/*
 * --- blkdebug, for tests ---
 *
 * Found on the first node from @bs downwards that has the facility; -ENOTSUP
 * when there is none. The next request that passes @event stops there under
 * the name @tag until it is resumed. resume: -ENOENT if nothing is stopped
 * under @tag.
 */
int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event,
                          const char *tag);
int bdrv_debug_resume(BlockDriverState *bs, const char *tag);
/* Takes the breakpoints called @tag back, and resumes what has stopped at one.
 * -ENOENT: every one of that name has been passed, or there was none. */
int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag);
/* @fn (NULL: nobody) hears of each request that stops or is resumed. */
typedef void BdrvDebugNotify(const char *tag, bool resumed);
void bdrv_debug_set_notify(BdrvDebugNotify *fn);
bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag);

#endif
