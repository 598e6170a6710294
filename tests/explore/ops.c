/* SPDX-License-Identifier: MIT */
/* The operations that the explorer lets meet; see world.h. */
#include "tests/explore/world.h"

#include "block/snapshot.h"
#include "block/vmstate.h"
#include "util/coroutine.h"

#define VMSTATE_BYTES 1024

static uint64_t op_offset(const Op *op)
{
    return cell_offset(&op->world->layout, op_info[op->kind].first);
}

static uint64_t op_bytes(const Op *op)
{
    return op_info[op->kind].nb * op->world->layout.cell_size;
}

static int coroutine_fn write_flags(Op *op, unsigned flags)
{
    const OpInfo *info = &op_info[op->kind];
    QEMUIOVector qiov;

    cells_fill(&op->world->layout, op->buf, info->first, info->nb,
               STAMP_OP + op->index);
    qemu_iovec_init_buf(&qiov, op->buf, op_bytes(op));
    return blk_co_pwritev(op->world->blk, op_offset(op), op_bytes(op), &qiov,
                          flags);
}

static int coroutine_fn run_write(Op *op)
{
    return write_flags(op, 0);
}

static int coroutine_fn run_compress(Op *op)
{
    return write_flags(op, BDRV_REQ_WRITE_COMPRESSED);
}

static int coroutine_fn run_zero(Op *op)
{
    return blk_co_pwrite_zeroes(op->world->blk, op_offset(op), op_bytes(op),
                                0);
}

static int coroutine_fn run_discard(Op *op)
{
    return blk_co_pdiscard(op->world->blk, op_offset(op), op_bytes(op));
}

static int coroutine_fn run_read(Op *op)
{
    const OpInfo *info = &op_info[op->kind];
    const Layout *l = &op->world->layout;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, op->buf, op_bytes(op));
    ret = blk_co_preadv(op->world->blk, op_offset(op), op_bytes(op), &qiov,
                        0);
    /* What a failed one leaves in the buffer is of an earlier schedule. */
    for (unsigned c = 0; ret == 0 && c < info->nb; c++) {
        op->seen[info->first + c] =
            cell_decode(l, (uint8_t *)op->buf + c * l->cell_size);
    }
    return ret;
}

static int coroutine_fn run_flush(Op *op)
{
    return blk_co_flush(op->world->blk);
}

static int coroutine_fn run_create(Op *op)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

    info->name = g_strdup_printf("op%u", op->index);
    return bdrv_co_snapshot_create(blk_bs(op->world->blk), info, NULL);
}

static int coroutine_fn run_delete(Op *op)
{
    return bdrv_co_snapshot_delete(blk_bs(op->world->blk), NULL, "s1", NULL);
}

static int coroutine_fn run_resize(Op *op)
{
    const Layout *l = &op->world->layout;

    return blk_co_truncate(op->world->blk, l->disk_size + l->slice_size,
                           BDRV_PREALLOC_OFF, NULL);
}

static int coroutine_fn run_vmsave(Op *op)
{
    BlockDriverState *bs = blk_bs(op->world->blk);
    BdrvVmstateOptions opts = { .workers = 2, .chunk_bytes = 4096 };
    Layout one_cell = { .cell_size = VMSTATE_BYTES };
    QEMUIOVector qiov;
    int ret, ret2;

    ret = bdrv_co_vmstate_begin_save(bs, &opts, NULL);
    if (ret < 0) {
        return ret;
    }
    cells_fill(&one_cell, op->buf, 0, 1, STAMP_VMSTATE + op->index);
    qemu_iovec_init_buf(&qiov, op->buf, VMSTATE_BYTES);
    ret = bdrv_co_writev_vmstate(bs, &qiov, 0);
    ret2 = bdrv_co_finalize_vmstate(bs);
    return ret < 0 ? ret : ret2;
}

const OpInfo op_info[NB_OPS] = {
    [OP_ALLOC]   = { "alloc", 0, 1, run_write, false },
    [OP_HALF]    = { "half", 1, 1, run_write, false },
    [OP_OVERLAP] = { "overlap", 1, 4, run_write, false },
    [OP_COW]     = { "cow", 4, 1, run_write, false },
    [OP_COMPRESS] = { "compress", 0, 2, run_compress, false },
    [OP_ZERO]    = { "zero", 0, 6, run_zero, true },
    [OP_DISCARD] = { "discard", 0, 16, run_discard, true },
    [OP_READ]    = { "read", 0, 6, run_read, false },
    [OP_MISS]    = { "miss", 18, 2, run_read, false },
    [OP_FLUSH]   = { "flush", 0, 0, run_flush, false },
    [OP_CREATE]  = { "create", 0, 0, run_create, false },
    [OP_DELETE]  = { "delete", 0, 0, run_delete, false },
    [OP_RESIZE]  = { "resize", 0, 0, run_resize, false },
    [OP_VMSAVE]  = { "vmsave", 0, 0, run_vmsave, false },
};

static void coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;

    op->ret = op_info[op->kind].run(op);
    op->ended = true;
    op->end_seq = op->world->clock++;
}

void op_start(Op *op)
{
    op->started = true;
    op->start_seq = op->last_run = op->world->clock++;
    op->end_seq = UINT_MAX;
    track_next(op);
    op->co = co_create(op_entry, op);
    co_set_name(op->co, op_info[op->kind].name);
    co_enter(op->co);
}
