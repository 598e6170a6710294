/* SPDX-License-Identifier: MIT */
/*
 * Write-behind: pieces are collected in the current chunk, full chunks are
 * written by tasks.
 *
 * Requests in flight never overlap: chunks end at multiples of the chunk size
 * and a run of writes only rises. A write elsewhere starts a new run, which
 * waits until nothing of the old one is in flight, so that it wins where both
 * wrote.
 */
#include "vmstate_int.h"

/* --- Writeback --- */

static void coroutine_fn vms_writeback_entry(void *opaque)
{
    BdrvVmstate *vms = opaque;

    vms_latch(vms, bdrv_co_flush(vms->bs->file->bs));
    vms->writing_back = false;
    co_queue_restart_all(&vms->changed);
}

/*
 * Writes to a cached file only reach memory. The snapshot that follows has to
 * wait until all is on the disk, so let the disk begin while we go on.
 */
void vms_written(BdrvVmstate *vms, uint64_t bytes)
{
    BlockDriverState *file = vms->bs->file ? vms->bs->file->bs : NULL;

    vms->unflushed += bytes;
    if (!file || vms->plain || vms->writing_back ||
        (file->open_flags & (BDRV_O_NOCACHE | BDRV_O_NO_FLUSH)) ||
        vms->unflushed < VMSTATE_WRITEBACK_BYTES) {
        return;
    }
    vms->unflushed = 0;
    vms->writing_back = true;
    aio_co_schedule(vms->bs->ctx, co_create(vms_writeback_entry, vms));
}

/* --- Chunks --- */

static int coroutine_fn vms_write_task(void *opaque)
{
    VmstateChunk *c = opaque;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, c->buf, c->used);
    ret = vms_request(c->vms, c->pos, &qiov);
    vms_put_idle(c);
    return ret;
}

/* Start writing the current chunk; there is none afterwards. */
static int coroutine_fn vms_submit(BdrvVmstate *vms)
{
    VmstateChunk *c = vms->current;
    int ret;

    vms->current = NULL;
    if (c->used == 0 || (vms->ret < 0 && !PLANTED(S4_TAIL_AFTER_FAILURE))) {
        vms_put_idle(c);
        return vms->ret;
    }
    c->state = CHUNK_BUSY;
    if (vms->plain) {
        return vms_write_task(c);
    }
    if (PLANTED(S4_TAIL_AFTER_FAILURE)) {
        aio_task_pool_start(vms->pool, vms_write_task, c);
        return 0;
    }
    vms->in_flight++; /* also while it waits for a slot */
    ret = aio_task_pool_start_unless_failed(vms->pool, vms_write_task, c);
    vms->in_flight--;
    if (ret < 0) {
        vms_put_idle(c);
        return vms_latch(vms, ret);
    }
    if (vms->open) {
        vms_kick();
    }
    return 0;
}

int coroutine_fn vms_save_tail(BdrvVmstate *vms)
{
    return vms->current ? vms_submit(vms) : 0;
}

/*
 * Make @pos the place where the run of writes goes on, with no reservation
 * by somebody else. Returns 0, or the latched error.
 */
static int coroutine_fn vms_run_at(BdrvVmstate *vms, uint64_t pos)
{
    for (;;) {
        if (vms->ret < 0) {
            return vms->ret;
        }
        if (vms->reserved) {
            vms_wait(vms);
        } else if (vms->write_pos == pos) {
            return 0;
        } else if (vms->current) {
            vms_submit(vms);
        } else if (vms->in_flight > 0) {
            vms_wait(vms);
        } else {
            vms->write_pos = pos;
        }
    }
}

/*
 * Get the current chunk with room at @pos. Nothing yields between the last
 * check and the return. Returns 0, or the latched error.
 */
static int coroutine_fn vms_chunk_at(BdrvVmstate *vms, uint64_t pos,
                                     VmstateChunk **ret)
{
    VmstateChunk *c;
    int err;

    for (;;) {
        err = vms_run_at(vms, pos);
        if (err < 0) {
            return err;
        }
        c = vms->current;
        if (c && c->used < c->bytes) {
            *ret = c;
            return 0;
        }
        if (c) {
            vms_submit(vms);
        } else if (vms->nb_idle == 0) {
            vms_wait(vms);
        } else {
            c = vms_take_idle(vms);
            c->state = CHUNK_FILLING;
            c->pos = pos;
            c->bytes = vms->chunk_bytes - pos % vms->chunk_bytes;
            c->used = 0;
            vms->current = c;
        }
    }
}

static void vms_fill(BdrvVmstate *vms, VmstateChunk *c, size_t bytes)
{
    c->used += bytes;
    vms->write_pos += bytes;
    assert(c->used <= c->bytes);
    assert(vms->write_pos == c->pos + c->used);
}

/*
 * Take the bytes [@pos, @pos + @bytes) for a write past the buffer: what was
 * accepted before them is on its way. Returns 0, or the latched error.
 */
static int coroutine_fn vms_claim(BdrvVmstate *vms, uint64_t pos,
                                  uint64_t bytes)
{
    for (;;) {
        int ret = vms_run_at(vms, pos);

        if (ret < 0) {
            return ret;
        }
        if (!vms->current) {
            vms->write_pos = pos + bytes;
            return 0;
        }
        vms_submit(vms);
    }
}

static int coroutine_fn vms_write(BdrvVmstate *vms, QEMUIOVector *qiov,
                                  uint64_t pos)
{
    bool aligned = qiov->size >= vms->chunk_bytes &&
                   qemu_iovec_is_aligned(qiov, VMSTATE_ALIGN);
    size_t done = 0;

    while (done < qiov->size) {
        size_t bytes = qiov->size - done;
        VmstateChunk *c;
        int ret;

        if (aligned && bytes >= vms->chunk_bytes &&
            (pos + done) % vms->chunk_bytes == 0) {
            bytes -= bytes % vms->chunk_bytes;
            ret = vms_claim(vms, pos + done, bytes);
            if (ret == 0) {
                ret = vms_direct(vms, qiov, done, pos + done, bytes);
            }
        } else {
            ret = vms_chunk_at(vms, pos + done, &c);
            if (ret == 0) {
                bytes = MIN(bytes, c->bytes - c->used);
                qemu_iovec_to_buf(qiov, done, c->buf + c->used, bytes);
                vms_fill(vms, c, bytes);
                ret = c->used == c->bytes ? vms_submit(vms) : 0;
            }
        }
        if (ret < 0) {
            return ret;
        }
        done += bytes;
    }
    return 0;
}

int coroutine_fn bdrv_co_writev_vmstate(BlockDriverState *bs,
                                        QEMUIOVector *qiov, uint64_t pos)
{
    BdrvVmstate *vms;
    int ret;

    ret = vms_enter(bs, true, &vms);
    if (ret < 0) {
        return ret;
    }
    if (pos > INT64_MAX || qiov->size > INT64_MAX - pos) {
        ret = -EFBIG;
    } else if (vms->plain) {
        ret = vms_claim(vms, pos, qiov->size);
        if (ret == 0) {
            ret = vms_request(vms, pos, qiov);
        }
    } else {
        ret = vms_write(vms, qiov, pos);
    }
    vms_leave(vms);
    return ret;
}

int coroutine_fn bdrv_co_vmstate_reserve(BlockDriverState *bs, uint64_t pos,
                                         uint8_t **ret, size_t *ret_bytes)
{
    BdrvVmstate *vms;
    VmstateChunk *c;
    int err;

    err = vms_enter(bs, true, &vms);
    if (err < 0) {
        return err;
    }
    err = pos > INT64_MAX - VMSTATE_MAX_CHUNK ? -EFBIG
                                              : vms_chunk_at(vms, pos, &c);
    if (err == 0) {
        vms->reserved = true;
        *ret = c->buf + c->used;
        *ret_bytes = c->bytes - c->used;
    }
    vms_leave(vms);
    return err;
}

void bdrv_vmstate_commit(BlockDriverState *bs, size_t bytes)
{
    BdrvVmstate *vms;

    if (vms_enter(bs, true, &vms) < 0) {
        return;
    }
    if (vms->reserved) {
        vms->reserved = false;
        vms_fill(vms, vms->current, bytes);
        co_queue_restart_all(&vms->changed);
    }
    vms_leave(vms);
}
