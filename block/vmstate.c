/* SPDX-License-Identifier: MIT */
/*
 * The vmstate pipeline: begin, finalize, and what saving and loading share.
 * See include/block/vmstate.h for the contract and vmstate_int.h for the
 * states. Where vmstate lives in an image is the driver's affair.
 */
#include <sys/mman.h>

#include "vmstate_int.h"

BlockDriverState *bdrv_vmstate_node(BlockDriverState *bs)
{
    while (bs && !bs->drv->co_save_vmstate) {
        if (PLANTED(S4_NO_HANDOVER)) {
            return NULL;
        }
        bs = bs->file ? bs->file->bs : NULL;
    }
    return bs;
}

bool bdrv_can_vmstate(BlockDriverState *bs)
{
    return bdrv_vmstate_node(bs) != NULL;
}

int vms_enter(BlockDriverState *bs, bool saving, BdrvVmstate **ret)
{
    BlockDriverState *target = bdrv_vmstate_node(bs);
    BdrvVmstate *vms = target ? target->vmstate : NULL;

    if (!vms || !vms->open || vms->saving != saving) {
        return -EINVAL;
    }
    vms->users++;
    *ret = vms;
    return 0;
}

void vms_leave(BdrvVmstate *vms)
{
    vms->users--;
    if (!vms->open) {
        co_queue_restart_all(&vms->changed);
    }
}

int vms_latch(BdrvVmstate *vms, int ret)
{
    if (ret < 0 && vms->ret == 0) {
        vms->ret = ret;
    }
    return ret;
}

void coroutine_fn vms_wait(BdrvVmstate *vms)
{
    co_queue_wait(&vms->changed, NULL);
}

void coroutine_fn vms_kick(void)
{
    aio_co_wake(co_self());
    co_yield();
}

VmstateChunk *vms_take_idle(BdrvVmstate *vms)
{
    VmstateChunk *c = vms->idle[--vms->nb_idle];

    assert(c->state == CHUNK_EMPTY);
    return c;
}

void vms_put_idle(VmstateChunk *c)
{
    BdrvVmstate *vms = c->vms;

    assert(vms->nb_idle < vms->nb_chunks);
    c->state = CHUNK_EMPTY;
    vms->idle[vms->nb_idle++] = c;
    co_queue_restart_all(&vms->changed);
}

int coroutine_fn vms_request(BdrvVmstate *vms, uint64_t pos,
                             QEMUIOVector *qiov)
{
    BlockDriver *drv = vms->bs->drv;
    int ret;

    vms->in_flight++;
    if (vms->saving) {
        ret = drv->co_save_vmstate(vms->bs, pos, qiov);
    } else {
        ret = drv->co_load_vmstate(vms->bs, pos, qiov);
    }
    vms->in_flight--;
    assert(ret <= 0); /* drivers: 0 or -errno */
    vms_latch(vms, ret);
    if (vms->saving && ret == 0) {
        vms_written(vms, qiov->size);
    }
    co_queue_restart_all(&vms->changed);
    return ret;
}

/* --- Transfers past the buffers --- */

typedef struct VmstateDirect {
    BdrvVmstate *vms;
    QEMUIOVector *qiov;
    size_t qiov_offset; /* of the next piece */
    uint64_t pos;       /* of the next piece */
    size_t left;
    unsigned pending;   /* pieces that have started and not ended */
    int ret;
} VmstateDirect;

static size_t vms_direct_piece(const VmstateDirect *d)
{
    size_t room = d->vms->chunk_bytes - d->pos % d->vms->chunk_bytes;

    return MIN(room, d->left);
}

static int coroutine_fn vms_direct_task(void *opaque)
{
    VmstateDirect *d = opaque;
    size_t bytes = vms_direct_piece(d);
    uint64_t pos = d->pos;
    QEMUIOVector slice;
    int ret;

    qemu_iovec_init_slice(&slice, d->qiov, d->qiov_offset, bytes);
    d->qiov_offset += bytes;
    d->pos += bytes;
    d->left -= bytes;
    d->pending++;

    ret = vms_request(d->vms, pos, &slice);

    qemu_iovec_destroy(&slice);
    if (ret < 0 && d->ret == 0) {
        d->ret = ret;
    }
    d->pending--;
    co_queue_restart_all(&d->vms->changed);
    return ret;
}

int coroutine_fn vms_direct(BdrvVmstate *vms, QEMUIOVector *qiov,
                            size_t qiov_offset, uint64_t pos, size_t bytes)
{
    VmstateDirect d = {
        .vms = vms, .qiov = qiov, .qiov_offset = qiov_offset, .pos = pos,
        .left = bytes,
    };
    int ret = 0;

    while (d.left > 0 && ret == 0) {
        ret = aio_task_pool_start_unless_failed(vms->pool, vms_direct_task,
                                                &d);
    }
    while (d.pending > 0) {
        vms_wait(vms);
    }
    return d.ret < 0 ? d.ret : vms_latch(vms, ret);
}

/* --- Begin --- */

static int vms_check_options(const BdrvVmstateOptions *opts, GError **errp)
{
    if (opts->workers > VMSTATE_MAX_WORKERS) {
        return set_error(errp, -EINVAL, "%u vmstate workers: not in 1..%d",
                         opts->workers, VMSTATE_MAX_WORKERS);
    }
    if (opts->chunk_bytes > VMSTATE_MAX_CHUNK ||
        !IS_ALIGNED(opts->chunk_bytes, VMSTATE_ALIGN)) {
        return set_error(errp, -EINVAL, "vmstate chunk size %" PRIu64
                         " is not a multiple of %d up to 64 MiB",
                         opts->chunk_bytes, VMSTATE_ALIGN);
    }
    return 0;
}

static size_t coroutine_fn vms_default_chunk(BlockDriverState *bs)
{
    BdrvInfo info = { 0 };

    if (bdrv_co_get_info(bs, &info) < 0) {
        info.cluster_size = 0;
    }
    return MIN(MAX(info.cluster_size, 1024 * 1024), VMSTATE_MAX_CHUNK);
}

static void vms_free(BdrvVmstate *vms)
{
    if (vms->memory) {
        aio_unregister_buffer(vms->bs->ctx, vms->memory);
        munmap(vms->memory, vms->nb_chunks * vms->chunk_bytes);
    }
    aio_task_pool_free(vms->pool);
    g_free(vms->window);
    g_free(vms->idle);
    g_free(vms->chunks);
    g_free(vms);
}

static BdrvVmstate *vms_new(BlockDriverState *bs,
                            const BdrvVmstateOptions *opts, size_t chunk)
{
    BdrvVmstate *vms = g_new0(BdrvVmstate, 1);
    unsigned workers = opts->workers ? opts->workers : VMSTATE_DEFAULT_WORKERS;
    unsigned n = opts->no_readahead ? 1 : workers;
    void *memory;

    vms->bs = bs;
    vms->plain = opts->no_readahead;
    vms->nb_chunks = n;
    vms->chunk_bytes = chunk;
    vms->pool = aio_task_pool_new(workers);
    vms->chunks = g_new0(VmstateChunk, n);
    vms->idle = g_new0(VmstateChunk *, n);
    vms->window = g_new0(VmstateChunk *, n);
    co_queue_init(&vms->changed);
    memory = mmap(NULL, n * chunk, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        vms_free(vms);
        return NULL;
    }
    madvise(memory, n * chunk, MADV_HUGEPAGE);
    vms->memory = memory;
    /* A ring that cannot pin the memory works as well without. */
    (void)aio_register_buffer(bs->ctx, memory, n * chunk);
    for (unsigned i = 0; i < n; i++) {
        vms->chunks[i].vms = vms;
        vms->chunks[i].buf = vms->memory + i * chunk;
        vms_put_idle(&vms->chunks[i]);
    }
    return vms;
}

/* Attach a pipeline that is not open yet to the node that carries it. */
static int coroutine_fn vms_attach(BlockDriverState *bs,
                                   const BdrvVmstateOptions *opts,
                                   BdrvVmstate **ret, GError **errp)
{
    static const BdrvVmstateOptions defaults;
    BlockDriverState *target = bdrv_vmstate_node(bs);
    size_t chunk;
    int err;

    opts = opts ? opts : &defaults;
    if (!target) {
        return set_error(errp, -ENOTSUP, "format '%s' cannot hold vmstate",
                         bdrv_get_format_name(bs));
    }
    err = vms_check_options(opts, errp);
    if (err < 0) {
        return err;
    }
    chunk = opts->chunk_bytes;
    if (chunk == 0) {
        chunk = opts->no_readahead ? VMSTATE_PLAIN_CHUNK
                                   : vms_default_chunk(target);
    }
    if (target->vmstate) {
        return set_error(errp, -EBUSY, "vmstate of '%s' is in use",
                         bdrv_get_filename(target));
    }
    target->vmstate = vms_new(target, opts, chunk);
    if (!target->vmstate) {
        return set_error(errp, -ENOMEM, "no memory for vmstate buffers");
    }
    *ret = target->vmstate;
    return 0;
}

static void vms_detach(BdrvVmstate *vms)
{
    vms->bs->vmstate = NULL;
    vms_free(vms);
}

int coroutine_fn bdrv_co_vmstate_begin_save(BlockDriverState *bs,
                                            const BdrvVmstateOptions *opts,
                                            GError **errp)
{
    BdrvVmstate *vms;
    int ret;

    if (bdrv_is_read_only(bs)) {
        return set_error(errp, -EROFS, "'%s' is read-only",
                         bdrv_get_filename(bs));
    }
    ret = vms_attach(bs, opts, &vms, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_vmstate_discard(bs);
    if (ret < 0) {
        vms_detach(vms);
        return set_error(errp, ret, "cannot drop old vmstate of '%s': %s",
                         bdrv_get_filename(bs), g_strerror(-ret));
    }
    vms->saving = true;
    vms->open = true;
    return 0;
}

int coroutine_fn bdrv_co_vmstate_begin_load(BlockDriverState *bs,
                                            const char *snapshot,
                                            const BdrvVmstateOptions *opts,
                                            uint64_t *ret_size, GError **errp)
{
    BdrvVmstate *vms;
    uint64_t size = 0;
    int ret;

    ret = vms_attach(bs, opts, &vms, errp);
    if (ret < 0) {
        return ret;
    }
    if (vms->bs->drv->co_vmstate_select) {
        ret = vms->bs->drv->co_vmstate_select(vms->bs, snapshot, &size, errp);
    } else if (snapshot) {
        ret = set_error(errp, -ENOTSUP, "format '%s' has no snapshots",
                        bdrv_get_format_name(vms->bs));
    }
    if (ret < 0) {
        vms_detach(vms);
        return ret;
    }
    vms->size = snapshot ? size : INT64_MAX;
    vms->plain = vms->plain || !snapshot; /* no end: no reading ahead */
    vms->open = true;
    if (ret_size) {
        *ret_size = size;
    }
    return 0;
}

/* --- End --- */

int coroutine_fn bdrv_co_finalize_vmstate(BlockDriverState *bs)
{
    BlockDriverState *target = bdrv_vmstate_node(bs);
    BdrvVmstate *vms = target ? target->vmstate : NULL;
    uint64_t end, size;
    int ret;

    if (!vms) {
        return 0;
    }
    if (!vms->open) {
        return -EBUSY; /* somebody else begins or ends it */
    }
    vms->open = false;
    vms->reserved = false;
    if (PLANTED(S4_FINALIZE_SKIPS_CLEANUP) && vms->ret < 0) {
        return vms->ret;
    }
    co_queue_restart_all(&vms->changed);
    while (vms->users > 0) {
        vms_wait(vms);
    }
    end = vms->write_pos;
    if (vms->saving) {
        vms_latch(vms, vms_save_tail(vms));
    }
    aio_task_pool_wait_all(vms->pool);
    while (vms->writing_back) {
        vms_wait(vms);
    }
    vms_latch(vms, aio_task_pool_status(vms->pool));
    if (!vms->saving && target->drv->co_vmstate_select) {
        /* Nothing is selected any more; there is nothing to fail. */
        (void)target->drv->co_vmstate_select(target, NULL, &size, NULL);
    }
    ret = vms->ret;
    vms_detach(vms);
    if (PLANTED(S4_FINALIZE_RETURNS_BYTES) && ret == 0) {
        return (int)end;
    }
    return ret;
}

int coroutine_fn bdrv_co_vmstate_discard(BlockDriverState *bs)
{
    BlockDriverState *target = bdrv_vmstate_node(bs);

    if (!target || !target->drv->co_vmstate_discard) {
        return 0;
    }
    return target->drv->co_vmstate_discard(target);
}
