/* SPDX-License-Identifier: MIT */
/*
 * Checking and repairing an image. Included by block/block.h.
 */
#ifndef FIRN_BLOCK_CHECK_H
#define FIRN_BLOCK_CHECK_H

#include <glib.h>
#include <stdint.h>

#include "util/compiler.h"

struct BlockBackend;

/* What to repair, ORed. */
enum {
    BDRV_FIX_LEAKS  = 1u << 0, /* space that is counted but not used */
    BDRV_FIX_ERRORS = 1u << 1, /* whatever can be without losing data */
};

/*
 * What a check found. After a repair: what is left, and what was repaired.
 * The last four describe the active layer.
 */
typedef struct BdrvCheckResult {
    uint64_t corruptions;
    uint64_t leaks;             /* clusters */
    uint64_t check_errors;      /* what could not be looked at */
    uint64_t corruptions_fixed;
    uint64_t leaks_fixed;
    uint64_t image_end_offset;  /* end of the last cluster in use */
    uint64_t total_clusters;    /* of the disk */
    uint64_t allocated_clusters;
    uint64_t fragmented_clusters;
    uint64_t compressed_clusters;
} BdrvCheckResult;

/* One finding, a line without newline. */
typedef void BdrvCheckReport(const char *text, void *opaque);

/*
 * Check the image and, with @fix (BDRV_FIX_*), repair it. Every other request
 * waits meanwhile. A repair that is cut off by a power failure leaves what was
 * there before, or leaks. @report may be NULL.
 *
 * Returns 0 with *@ret filled in, whatever was found; -ENOTSUP for a format
 * that has nothing to check, -EROFS for a repair of a read-only image, -EFBIG
 * for an image whose counters would need too much memory, or -errno: the check
 * did not come to its end.
 */
int coroutine_fn blk_co_check(struct BlockBackend *blk, BdrvCheckResult *ret,
                              unsigned fix, BdrvCheckReport *report,
                              void *opaque, GError **errp);
int no_coroutine_fn blk_check(struct BlockBackend *blk, BdrvCheckResult *ret,
                              unsigned fix, BdrvCheckReport *report,
                              void *opaque, GError **errp);

#endif
