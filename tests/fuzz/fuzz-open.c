/* SPDX-License-Identifier: MIT */
/* Open, read everything, write here and there, close, and read again. */
#include "qcow2-fuzz.h"

void fuzz_image(void)
{
    static const char *const options[] = {
        "overlap-check=cached",
        "overlap-check=none,l2-cache-size=1k,l2-cache-entry-size=512",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        BlockBackend *blk = fuzz_open(options[i], i ? BDRV_O_RDWR : 0);

        if (!blk) {
            continue;
        }
        fuzz_read_all(blk);
        if (i) {
            fuzz_write_some(blk);
            fuzz_read_all(blk);
        }
        (void)blk_close(blk);
    }
}
