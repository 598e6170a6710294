/* SPDX-License-Identifier: MIT */
/*
 * Check, then repair, then check again. A repair that says it found nothing
 * left must have left nothing: the second check is held to that.
 */
#include "qcow2-fuzz.h"

#include <stdio.h>
#include <stdlib.h>

/* Check with @fix; false when the check did not come to its end. */
static bool check(unsigned fix, BdrvCheckResult *r)
{
    BlockBackend *blk = fuzz_open("l2-cache-entry-size=512", BDRV_O_CHECK |
                                  (fix ? BDRV_O_RDWR : 0));
    int ret = -1;

    if (blk) {
        ret = blk_check(blk, r, fix, NULL, NULL, NULL);
        (void)blk_close(blk);
    }
    return ret == 0 && !r->check_errors;
}

void fuzz_image(void)
{
    BdrvCheckResult before, repaired, after;
    BlockBackend *blk;

    check(0, &before);
    if (check(BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &repaired) &&
        !repaired.corruptions && !repaired.leaks) {
        if (!check(0, &after) || after.corruptions || after.leaks) {
            fprintf(stderr, "after a repair: %" G_GUINT64_FORMAT
                    " corruptions, %" G_GUINT64_FORMAT " leaks\n",
                    after.corruptions, after.leaks);
            abort();
        }
    }
    blk = fuzz_open("l2-cache-entry-size=512", BDRV_O_RDWR);
    if (blk) {
        fuzz_write_some(blk);
        (void)blk_close(blk);
    }
}
