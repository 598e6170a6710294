/* SPDX-License-Identifier: MIT */
/*
 * Copying disks: one or several, one behind the other, into another. Knows
 * nothing of files or command lines.
 */
#ifndef FIRN_BLOCK_CONVERT_H
#define FIRN_BLOCK_CONVERT_H

#include "block/block.h"

#define BLK_CONVERT_MAX_WORKERS 16

typedef struct BlkConvertOptions {
    BlockBackend **sources;     /* all on the same context as the target */
    unsigned nb_sources;
    BlockBackend *target;       /* at least as long as all sources */
    unsigned workers;           /* copies at a time; 0: a default */
    uint64_t sparse_bytes;      /* runs of zeroes as long as this, and aligned
                                   to it, are not written as data; 0: zeroes
                                   of the sources are data, too */
    bool compressed;            /* whole clusters, compressed */
    bool target_is_zero;        /* reads as zeroes now, not to be written */
    bool top_only;              /* one source: leave out what its backing file
                                   has, the target has the same one */
    uint64_t backing_bytes;     /* top_only: length of the target's */
    bool fresh;                 /* top_only: the target holds nothing itself */
    bool any_order;             /* writes need not start in order */
    bool offload;               /* let the host copy what is not zero, where
                                   it can: bytes are not looked at then */
    uint64_t bytes_per_second;  /* of data; 0: no limit */
    bool salvage;               /* what cannot be read becomes zeroes */
    /* Offsets are those of the target, in no order; a range may come in
       several parts. */
    void (*unreadable)(uint64_t offset, uint64_t bytes, int err,
                       void *opaque); /* with salvage; NULL: not told */
    BdrvProgressFunc *progress; /* NULL: none */
    void *opaque;
} BlkConvertOptions;

/* Length of what is copied: each source but the last takes whole sectors.
 * UINT64_MAX: more than any image can have. */
uint64_t blk_convert_bytes(BlockBackend *const *sources, unsigned nb);

/*
 * Copy and flush. Returns 0, -EFBIG (the target is too short), or the first
 * error; what was copied until then stays.
 */
int coroutine_fn blk_co_convert(const BlkConvertOptions *o, GError **errp);
int no_coroutine_fn blk_convert(const BlkConvertOptions *o, GError **errp);

#endif
