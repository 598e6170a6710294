/* SPDX-License-Identifier: MIT */
/*
 * Read-ahead: a window of chunks in front of the reader, loaded in parallel.
 *
 * The window is armed by a run of reads, wherever it starts: by a read at
 * position 0, by the second of two reads that follow each other, by any peek.
 * It grows at next_pos while there are idle chunks, and never beyond the saved
 * size. A chunk that was consumed is refilled at once with what comes next. A
 * read outside of the window is a plain request.
 */
#include "vmstate_int.h"

/* --- The window --- */

static VmstateChunk *vms_find(BdrvVmstate *vms, uint64_t pos)
{
    for (unsigned i = 0; i < vms->nb_window; i++) {
        VmstateChunk *c = vms->window[i];

        if (pos >= c->pos && pos - c->pos < c->bytes) {
            return c;
        }
    }
    return NULL;
}

static void vms_remove(VmstateChunk *c)
{
    BdrvVmstate *vms = c->vms;
    unsigned i = 0;

    while (vms->window[i] != c) {
        i++;
        assert(i < vms->nb_window);
    }
    vms->nb_window--;
    memmove(&vms->window[i], &vms->window[i + 1],
            (vms->nb_window - i) * sizeof(vms->window[0]));
}

static int coroutine_fn vms_load_task(void *opaque)
{
    VmstateChunk *c = opaque;
    BdrvVmstate *vms = c->vms;
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, c->buf, c->bytes);
    ret = vms_request(vms, c->pos, &qiov);
    if (c->state == CHUNK_STALE) {
        vms->nb_stale--;
        vms_put_idle(c);
    } else {
        c->state = ret < 0 ? CHUNK_FAILED : CHUNK_READY;
        c->ret = ret;
        co_queue_restart_all(&vms->changed);
    }
    return ret;
}

/* How much the chunk at next_pos holds. */
static size_t vms_next_bytes(BdrvVmstate *vms)
{
    size_t room = vms->chunk_bytes - vms->next_pos % vms->chunk_bytes;

    if (PLANTED(S4_READ_PAST_END)) {
        return room;
    }
    return MIN(room, vms->size - vms->next_pos);
}

/* Start loading into every idle chunk. Returns whether one was started. */
static bool coroutine_fn vms_refill(BdrvVmstate *vms)
{
    bool started = false;

    while (vms->armed && vms->ret == 0 && vms->nb_idle > 0 &&
           vms->next_pos < vms->size) {
        VmstateChunk *c = vms_take_idle(vms);
        int ret;

        c->state = CHUNK_BUSY;
        c->pos = vms->next_pos;
        c->bytes = vms_next_bytes(vms);
        c->used = 0;
        vms->next_pos += c->bytes;
        vms->window[vms->nb_window++] = c;
        ret = aio_task_pool_start_unless_failed(vms->pool, vms_load_task, c);
        if (ret == 0) {
            started = true;
        } else if (c->state == CHUNK_STALE) {
            vms->nb_stale--;
            vms_put_idle(c);
        } else {
            c->state = CHUNK_FAILED;
            c->ret = vms_latch(vms, ret);
        }
    }
    return started;
}

static void vms_disarm(BdrvVmstate *vms)
{
    while (vms->nb_window > 0) {
        VmstateChunk *c = vms->window[--vms->nb_window];

        if (c->state == CHUNK_BUSY) {
            c->state = CHUNK_STALE;
            vms->nb_stale++;
        } else {
            vms_put_idle(c);
        }
    }
    vms->peeked = NULL;
    vms->armed = false;
}

static bool coroutine_fn vms_arm(BdrvVmstate *vms, uint64_t pos)
{
    vms_disarm(vms);
    vms->armed = true;
    vms->next_pos = pos;
    return vms_refill(vms);
}

/* @bytes of @c were read. Returns whether a new chunk is on its way. */
static bool coroutine_fn vms_consume(VmstateChunk *c, size_t bytes)
{
    BdrvVmstate *vms = c->vms;

    vms->window_hit = true;
    c->used += bytes;
    if (c->used < c->bytes || c == vms->peeked) {
        return false;
    }
    vms_remove(c);
    vms_put_idle(c);
    return vms_refill(vms);
}

/* The next call has come: memory that was handed out is used up to @pos. */
static bool coroutine_fn vms_unpin(BdrvVmstate *vms, uint64_t pos)
{
    VmstateChunk *c = vms->peeked;
    uint64_t from = vms->peek_pos;
    uint64_t end;

    if (!c) {
        return false;
    }
    vms->peeked = NULL;
    end = c->pos + c->bytes;
    if (pos >= from && pos < end) {
        end = pos;
    }
    return vms_consume(c, end - from);
}

/*
 * @pos is where the window would grow but has not: no chunk was idle. Wait for
 * one that is stale; when there is none, all are held by positions that were
 * skipped, so start afresh.
 */
static void coroutine_fn vms_grow(BdrvVmstate *vms, uint64_t pos)
{
    if (vms->nb_idle > 0) {
        vms_refill(vms);
    } else if (vms->nb_stale > 0) {
        vms_wait(vms);
    } else {
        vms_arm(vms, pos);
    }
}

/* --- Reads --- */

/* Read the rest of @qiov from @done on without the window. */
static int coroutine_fn vms_read_past(BdrvVmstate *vms, QEMUIOVector *qiov,
                                      size_t done, uint64_t pos)
{
    size_t bytes = qiov->size - done;
    QEMUIOVector slice;
    int ret;

    vms->run_pos = pos + bytes;
    vms->window_hit = false;
    if (bytes >= vms->chunk_bytes && IS_ALIGNED(pos, VMSTATE_ALIGN) &&
        qemu_iovec_is_aligned(qiov, VMSTATE_ALIGN)) {
        return vms_direct(vms, qiov, done, pos, bytes);
    }
    qemu_iovec_init_slice(&slice, qiov, done, bytes);
    ret = vms_request(vms, pos, &slice);
    qemu_iovec_destroy(&slice);
    return ret;
}

/* Wait for @c to be loaded, for a reader at @pos. */
static void coroutine_fn vms_wait_loaded(VmstateChunk *c, uint64_t pos)
{
    if (PLANTED(S4_READERS_NOT_RECHECKED)) {
        while (c->state != CHUNK_READY || pos < c->pos ||
               pos - c->pos >= c->bytes) {
            vms_wait(c->vms); /* for bytes that never come again */
        }
        return;
    }
    vms_wait(c->vms);
}

static int coroutine_fn vms_read(BdrvVmstate *vms, QEMUIOVector *qiov,
                                 uint64_t pos)
{
    bool large = qiov->size >= vms->chunk_bytes &&
                 IS_ALIGNED(pos, VMSTATE_ALIGN) &&
                 qemu_iovec_is_aligned(qiov, VMSTATE_ALIGN);
    bool kick = vms_unpin(vms, pos);
    size_t done = 0;

    while (done < qiov->size && vms->ret == 0) {
        uint64_t at = pos + done;
        VmstateChunk *c = vms_find(vms, at);

        if (c && c->state == CHUNK_BUSY) {
            vms_wait_loaded(c, at);
        } else if (c && c->state == CHUNK_FAILED) {
            return c->ret;
        } else if (c) {
            size_t offset = at - c->pos;
            size_t bytes = MIN(qiov->size - done, c->bytes - offset);

            qemu_iovec_from_buf(qiov, done, c->buf + offset, bytes);
            done += bytes;
            kick = vms_consume(c, bytes) || kick;
        } else if (large && qiov->size - done >= vms->chunk_bytes) {
            vms_disarm(vms);
            return vms_read_past(vms, qiov, done, at);
        } else if (vms->armed && at == vms->next_pos) {
            vms_grow(vms, at);
        } else if (at == vms->run_pos && !vms->window_hit) {
            kick = vms_arm(vms, at) || kick;
        } else {
            return vms_read_past(vms, qiov, done, at);
        }
    }
    if (kick && vms->ret == 0) {
        vms_kick();
    }
    return done == qiov->size ? 0 : vms->ret;
}

static int vms_check_range(BdrvVmstate *vms, uint64_t pos, size_t bytes)
{
    return pos > vms->size || bytes > vms->size - pos ? -EINVAL : 0;
}

int coroutine_fn bdrv_co_readv_vmstate(BlockDriverState *bs,
                                       QEMUIOVector *qiov, uint64_t pos)
{
    BdrvVmstate *vms;
    int ret;

    ret = vms_enter(bs, false, &vms);
    if (ret < 0) {
        return ret;
    }
    ret = vms_check_range(vms, pos, qiov->size);
    if (ret == 0 && vms->ret < 0) {
        ret = vms->ret;
    } else if (ret == 0 && qiov->size > 0) {
        ret = vms->plain ? vms_request(vms, pos, qiov)
                         : vms_read(vms, qiov, pos);
    }
    vms_leave(vms);
    return ret;
}

/* --- Peeking --- */

static int coroutine_fn vms_peek(BdrvVmstate *vms, uint64_t pos,
                                 VmstateChunk **ret)
{
    bool kick = vms_unpin(vms, pos);

    while (vms->ret == 0) {
        VmstateChunk *c = vms_find(vms, pos);

        if (c && c->state == CHUNK_BUSY) {
            vms_wait_loaded(c, pos);
            kick = false; /* been round the loop */
        } else if (c && c->state == CHUNK_FAILED) {
            return c->ret;
        } else if (c && kick) {
            vms_kick();
            kick = false;
        } else if (c) {
            vms->peeked = c;
            vms->peek_pos = pos;
            *ret = c;
            return 0;
        } else if (vms->armed && pos == vms->next_pos) {
            vms_grow(vms, pos);
        } else {
            vms_arm(vms, pos);
        }
    }
    return vms->ret;
}

/* The stream buffer of plain mode: one chunk, loaded when it is asked for. */
static int coroutine_fn vms_peek_plain(BdrvVmstate *vms, uint64_t pos,
                                       VmstateChunk **ret)
{
    VmstateChunk *c = &vms->chunks[0];
    QEMUIOVector qiov;
    int err;

    while (c->state == CHUNK_BUSY) {
        vms_wait(vms);
    }
    if (c->state == CHUNK_READY && pos >= c->pos && pos - c->pos < c->bytes) {
        *ret = c;
        return 0;
    }
    c->state = CHUNK_BUSY;
    c->pos = pos;
    c->bytes = MIN(vms->chunk_bytes, vms->size - pos);
    qemu_iovec_init_buf(&qiov, c->buf, c->bytes);
    err = vms_request(vms, pos, &qiov);
    c->state = err < 0 ? CHUNK_EMPTY : CHUNK_READY;
    if (err < 0) {
        return err;
    }
    *ret = c;
    return 0;
}

int coroutine_fn bdrv_co_vmstate_peek(BlockDriverState *bs, uint64_t pos,
                                      const uint8_t **ret, size_t *ret_bytes)
{
    BdrvVmstate *vms;
    VmstateChunk *c = NULL;
    int err;

    err = vms_enter(bs, false, &vms);
    if (err < 0) {
        return err;
    }
    err = vms_check_range(vms, pos, 1);
    if (err == 0 && vms->ret < 0) {
        err = vms->ret;
    } else if (err == 0) {
        err = vms->plain ? vms_peek_plain(vms, pos, &c)
                         : vms_peek(vms, pos, &c);
    }
    if (err == 0) {
        *ret = c->buf + (pos - c->pos);
        *ret_bytes = c->pos + c->bytes - pos;
    }
    vms_leave(vms);
    return err;
}
