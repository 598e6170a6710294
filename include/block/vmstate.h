/* SPDX-License-Identifier: MIT */
/*
 * The vmstate pipeline: a machine's state as one long sequential stream,
 * written behind and read ahead in large parallel requests.
 *
 * A BlockDriverState has at most one pipeline at a time, for a save or for a
 * load. A format without vmstate support of its own hands over to bs->file;
 * the pipeline then belongs to the node below that has it. Positions count
 * from the start of the vmstate, not of the disk.
 *
 * All functions are called on the node's home context. Several coroutines may
 * do so at the same time. All may yield unless they say otherwise. The first
 * error is latched: from then on every call returns it, and finalize does.
 * Memory is bounded by workers x chunk and is allocated once.
 */
#ifndef FIRN_BLOCK_VMSTATE_H
#define FIRN_BLOCK_VMSTATE_H

#include "block/block.h"
#include "util/compiler.h"
#include "util/iov.h"

#define VMSTATE_DEFAULT_WORKERS 8
#define VMSTATE_MAX_WORKERS     64
#define VMSTATE_MAX_CHUNK       (64 * 1024 * 1024)
#define VMSTATE_PLAIN_CHUNK     (32 * 1024)

typedef struct BdrvVmstateOptions {
    unsigned workers;     /* requests in flight, 1..64; 0: 8 */
    uint64_t chunk_bytes; /* of one request: multiple of 4096, at most 64 MiB;
                             0: max(1 MiB, cluster size), 32 KiB for
                             no_readahead */
    bool no_readahead;    /* no write-behind, no read-ahead: each read or write
                             is a request of its own and is waited for;
                             _reserve and _peek use one of chunk_bytes */
} BdrvVmstateOptions;

/*
 * Whether @bs, or a file below that it hands over to, can carry vmstate.
 * Does not yield.
 */
bool bdrv_can_vmstate(BlockDriverState *bs);

/*
 * Start a save. Drops what an interrupted save left in the active layer.
 * @opts: NULL for the defaults.
 *
 * Returns 0; -ENOTSUP when the format cannot; -EBUSY when a pipeline is in
 * use; -EINVAL for bad options; -EROFS; -ENOMEM; or what the driver says.
 */
int coroutine_fn bdrv_co_vmstate_begin_save(BlockDriverState *bs,
                                            const BdrvVmstateOptions *opts,
                                            GError **errp);

/*
 * Start a load of @snapshot (id or name; NULL: the active layer's vmstate)
 * without applying it. @ret_size (may be NULL): bytes of vmstate there are;
 * nothing behind is ever read. The active layer's size is not known: 0 is
 * returned, there is no read-ahead and no end. Errors as for begin_save, and
 * -ENOENT.
 */
int coroutine_fn bdrv_co_vmstate_begin_load(BlockDriverState *bs,
                                            const char *snapshot,
                                            const BdrvVmstateOptions *opts,
                                            uint64_t *ret_size,
                                            GError **errp);

/*
 * Write @qiov at @pos. Small pieces that follow each other are collected; a
 * piece elsewhere first waits until everything before it is written. Pieces
 * of a chunk or more that are aligned go to the driver without a copy. Bytes
 * are on their way only; errors may show in a later call.
 *
 * Returns 0 or -errno. -EINVAL without a save in progress.
 */
int coroutine_fn bdrv_co_writev_vmstate(BlockDriverState *bs,
                                        QEMUIOVector *qiov, uint64_t pos);

/*
 * Read @qiov->size bytes at @pos, which must end at or before the saved size.
 * A run of reads is read ahead; any other read is a plain request.
 *
 * Returns 0 or -errno. -EINVAL without a load in progress or past the end.
 */
int coroutine_fn bdrv_co_readv_vmstate(BlockDriverState *bs,
                                       QEMUIOVector *qiov, uint64_t pos);

/*
 * End the save or load: writes the tail (unless something failed before),
 * waits for all requests and for calls in other coroutines, frees everything.
 * The pipeline is gone afterwards, after a failure too.
 *
 * Returns 0 or the first error; 0 when there is no pipeline.
 */
int coroutine_fn bdrv_co_finalize_vmstate(BlockDriverState *bs);

/*
 * Drop vmstate from the active layer (snapshots keep theirs). To be called
 * when a save is given up; needs no pipeline. 0 or -errno; a driver that has
 * nothing to do returns 0.
 */
int coroutine_fn bdrv_co_vmstate_discard(BlockDriverState *bs);

/*
 * Reading without a copy: *@ret points to *@ret_bytes (at least 1) bytes of
 * vmstate from @pos on. Valid until the next call on the pipeline, whoever
 * makes it, so there must be no second reader. Positions that follow each
 * other are fast; any other one starts a new run there.
 *
 * Returns 0, or -errno with the outputs untouched; -EINVAL at or past the end.
 */
int coroutine_fn bdrv_co_vmstate_peek(BlockDriverState *bs, uint64_t pos,
                                      const uint8_t **ret, size_t *ret_bytes);

/*
 * Writing without a copy: *@ret is room for *@ret_bytes (at least 1) bytes
 * that will be written at @pos. Fill it and say how much with
 * bdrv_vmstate_commit(); only then other writers go on. One reservation at a
 * time: a second one waits for the commit.
 *
 * Returns 0, or -errno with the outputs untouched.
 */
int coroutine_fn bdrv_co_vmstate_reserve(BlockDriverState *bs, uint64_t pos,
                                         uint8_t **ret, size_t *ret_bytes);

/*
 * End a reservation of which the first @bytes (0..reserved) are used. Does
 * nothing without one. Does not yield.
 */
void bdrv_vmstate_commit(BlockDriverState *bs, size_t bytes);

/*
 * Single requests to the vmstate of the active layer, outside any pipeline
 * (-EBUSY while there is one). -ENOTSUP, -EROFS, or what the driver says.
 */
int no_coroutine_fn blk_vmstate_pread(BlockBackend *blk, uint64_t pos,
                                      size_t bytes, void *buf);
int no_coroutine_fn blk_vmstate_pwrite(BlockBackend *blk, uint64_t pos,
                                       size_t bytes, const void *buf);

#endif
