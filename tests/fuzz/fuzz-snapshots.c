/* SPDX-License-Identifier: MIT */
/* The snapshot table: list, load vmstate, create, apply and delete. */
#include "qcow2-fuzz.h"

#include "block/snapshot.h"
#include "block/vmstate.h"
#include "util/aio.h"

#define MAX_TRIED 4

/* Load its state and apply it. */
static void coroutine_fn use(BlockDriverState *bs, const char *id)
{
    const BdrvVmstateOptions plain = { .no_readahead = true };
    uint8_t buf[600];
    QEMUIOVector qiov;
    uint64_t size;

    if (bdrv_co_vmstate_begin_load(bs, id, &plain, &size, NULL) == 0) {
        if (size) {
            qemu_iovec_init_buf(&qiov, buf, MIN(size, sizeof(buf)));
            (void)bdrv_co_readv_vmstate(bs, &qiov, 0);
        }
        (void)bdrv_co_finalize_vmstate(bs);
    }
    (void)bdrv_co_snapshot_goto(bs, id, NULL);
}

static int coroutine_fn snapshots(void *opaque)
{
    BlockDriverState *bs = blk_bs(opaque);
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

    info->name = g_strdup("fuzz");
    (void)bdrv_co_snapshot_create(bs, info, NULL);
    if (bdrv_co_snapshot_list(bs, &list, NULL) < 0) {
        return 0;
    }
    for (unsigned i = 0; i < MIN(list->len, MAX_TRIED); i++) {
        BdrvSnapshotInfo *sn = g_ptr_array_index(list, i);

        use(bs, sn->id);
        (void)bdrv_co_snapshot_delete(bs, sn->id, NULL, NULL);
    }
    return 0;
}

void fuzz_image(void)
{
    BlockBackend *blk = fuzz_open("l2-cache-entry-size=512", BDRV_O_RDWR);

    if (!blk) {
        return;
    }
    aio_run_blocking(blk_get_aio_context(blk), snapshots, blk);
    fuzz_write_some(blk);
    (void)blk_close(blk);
}
