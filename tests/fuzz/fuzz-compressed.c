/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters: decode what the image says is there, in whole clusters
 * and in parts, write over it, and add new streams to the half-full last
 * cluster.
 */
#include "qcow2-fuzz.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CLUSTERS 16

static void write_compressed(BlockBackend *blk, uint64_t cluster)
{
    uint64_t length = MAX(blk_getlength(blk), 0);
    uint8_t *buf = blk_try_memalign(cluster);

    for (unsigned i = 0; buf && i < MAX_CLUSTERS; i++) {
        uint64_t offset = i * cluster;
        QEMUIOVector qiov;

        if (offset + cluster > length) {
            break;
        }
        memset(buf, (int)i, cluster);
        qemu_iovec_init_buf(&qiov, buf, cluster);
        (void)blk_pwritev(blk, offset, cluster, &qiov,
                          BDRV_REQ_WRITE_COMPRESSED);
    }
    free(buf);
}

void fuzz_image(void)
{
    BlockBackend *blk = fuzz_open("l2-cache-entry-size=512", BDRV_O_RDWR);

    if (!blk) {
        return;
    }
    fuzz_read_all(blk);
    write_compressed(blk, 512);
    write_compressed(blk, 4096);
    fuzz_write_some(blk);
    fuzz_read_all(blk);
    (void)blk_close(blk);
}
