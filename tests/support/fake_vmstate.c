/* SPDX-License-Identifier: MIT */
/* A block driver in memory with vmstate and snapshots; see the header. */
#include "fake_vmstate.h"

#include <string.h>

#define FAKE_DISK_BYTES (1024 * 1024)

typedef struct FakeHeld {
    CoQueue queue;
    bool released;
} FakeHeld;

static void fake_snapshot_free(void *opaque)
{
    FakeSnapshot *snap = opaque;

    bdrv_snapshot_info_free(snap->info);
    g_byte_array_unref(snap->vmstate);
    g_free(snap);
}

static int coroutine_fn fake_co_open(BlockDriverState *bs,
                                     BdrvOptions *options, unsigned flags,
                                     GError **errp)
{
    FakeVmstate *fake = bs->opaque;

    bs->total_bytes = FAKE_DISK_BYTES;
    bs->supported_write_flags = BDRV_REQ_FUA;
    fake->active = g_byte_array_new();
    fake->snapshots = g_ptr_array_new_with_free_func(fake_snapshot_free);
    fake->requests = g_array_new(FALSE, FALSE, sizeof(FakeRequest));
    fake->held = g_ptr_array_new();
    fake->ops = g_string_new(NULL);
    fake->error = -EIO;
    fake->next_id = 1;
    return 0;
}

static int coroutine_fn fake_co_close(BlockDriverState *bs)
{
    FakeVmstate *fake = bs->opaque;

    assert(fake->in_flight == 0 && fake->held->len == 0);
    g_byte_array_unref(fake->active);
    g_ptr_array_unref(fake->snapshots);
    g_array_unref(fake->requests);
    g_ptr_array_unref(fake->held);
    g_string_free(fake->ops, TRUE);
    return 0;
}

static int coroutine_fn fake_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    FakeVmstate *fake = bs->opaque;

    qemu_iovec_memset(qiov, 0, fake->disk, bytes);
    return 0;
}

static int coroutine_fn fake_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    FakeVmstate *fake = bs->opaque;

    qemu_iovec_to_buf(qiov, 0, &fake->disk, 1);
    return 0;
}

static int coroutine_fn fake_co_flush(BlockDriverState *bs)
{
    return 0;
}

/* --- vmstate --- */

static void coroutine_fn fake_hold(FakeVmstate *fake)
{
    FakeHeld held = { .released = !fake->hold };

    co_queue_init(&held.queue);
    if (fake->hold) {
        g_ptr_array_add(fake->held, &held);
    }
    while (!held.released) {
        co_queue_wait(&held.queue, NULL);
    }
}

void fake_release(FakeVmstate *fake, unsigned index)
{
    FakeHeld *held;

    assert(fake->held->len > 0);
    held = g_ptr_array_remove_index(fake->held, index % fake->held->len);
    held->released = true;
    co_queue_restart_all(&held->queue);
}

/* One vmstate request: log, hold, fail. Returns 0 or -errno. */
static int coroutine_fn fake_begin(FakeVmstate *fake, bool write,
                                   uint64_t pos, QEMUIOVector *qiov)
{
    FakeRequest r = { write, pos, qiov->size, qiov->iov[0].iov_base };
    bool fail = fake->fail_request > 0 && --fake->fail_request == 0;

    g_array_append_val(fake->requests, r);
    fake->in_flight++;
    fake->max_in_flight = MAX(fake->max_in_flight, fake->in_flight);
    fake_hold(fake);
    fake->in_flight--;
    return fail ? fake->error : 0;
}

static int coroutine_fn fake_co_save_vmstate(BlockDriverState *bs,
                                             uint64_t pos, QEMUIOVector *qiov)
{
    FakeVmstate *fake = bs->opaque;
    int ret = fake_begin(fake, true, pos, qiov);
    guint old = fake->active->len;

    if (ret == 0) {
        if (pos + qiov->size > old) {
            g_byte_array_set_size(fake->active, (guint)(pos + qiov->size));
            memset(fake->active->data + old, 0, fake->active->len - old);
        }
        qemu_iovec_to_buf(qiov, 0, fake->active->data + pos, qiov->size);
    }
    return ret;
}

static int coroutine_fn fake_co_load_vmstate(BlockDriverState *bs,
                                             uint64_t pos, QEMUIOVector *qiov)
{
    FakeVmstate *fake = bs->opaque;
    GByteArray *from = fake->selected ? fake->selected->vmstate
                                      : fake->active;
    int ret = fake_begin(fake, false, pos, qiov);

    qemu_iovec_memset(qiov, 0, 0xee, qiov->size);
    if (ret == 0 && pos < from->len) {
        qemu_iovec_from_buf(qiov, 0, from->data + pos, from->len - pos);
    }
    return ret;
}

/* --- Snapshots --- */

static int fake_op(FakeVmstate *fake, const char *op, const char *what,
                   GError **errp)
{
    if (fake->fail_op && strcmp(fake->fail_op, op) == 0) {
        if (fake->fail_op_after == 0) {
            return set_error(errp, fake->error, "fake failure of %s", op);
        }
        fake->fail_op_after--;
    }
    g_string_append_printf(fake->ops, "%s:%s;", op, what);
    return 0;
}

static FakeSnapshot *fake_find(FakeVmstate *fake, const char *id,
                               const char *name)
{
    for (guint i = 0; i < fake->snapshots->len; i++) {
        FakeSnapshot *snap = fake->snapshots->pdata[i];

        if ((!id || strcmp(snap->info->id, id) == 0) &&
            (!name || strcmp(snap->info->name, name) == 0)) {
            return snap;
        }
    }
    return NULL;
}

static int coroutine_fn fake_co_vmstate_select(BlockDriverState *bs,
                                               const char *snapshot,
                                               uint64_t *ret_size,
                                               GError **errp)
{
    FakeVmstate *fake = bs->opaque;
    FakeSnapshot *snap = NULL;
    int ret;

    if (snapshot) {
        snap = fake_find(fake, snapshot, NULL);
        snap = snap ? snap : fake_find(fake, NULL, snapshot);
        if (!snap) {
            return set_error(errp, -ENOENT, "no snapshot '%s'", snapshot);
        }
    }
    ret = fake_op(fake, "select", snap ? snap->info->id : "-", errp);
    if (ret == 0) {
        fake->selected = snap;
        *ret_size = snap ? snap->info->vm_state_size : 0;
    }
    return ret;
}

static int coroutine_fn fake_co_vmstate_discard(BlockDriverState *bs)
{
    FakeVmstate *fake = bs->opaque;
    int ret = fake_op(fake, "discard", "-", NULL);

    if (ret == 0) {
        g_byte_array_set_size(fake->active, 0);
    }
    return ret;
}

static void fake_append(FakeVmstate *fake, BdrvSnapshotInfo *info,
                        const void *data, size_t bytes)
{
    FakeSnapshot *snap = g_new0(FakeSnapshot, 1);

    snap->info = info;
    snap->vmstate = g_byte_array_new();
    g_byte_array_append(snap->vmstate, data, (guint)bytes);
    snap->disk = fake->disk;
    g_ptr_array_add(fake->snapshots, snap);
}

static int coroutine_fn fake_co_snapshot_create(BlockDriverState *bs,
                                                BdrvSnapshotInfo *info,
                                                GError **errp)
{
    FakeVmstate *fake = bs->opaque;
    int ret = fake_op(fake, "create", info->name, errp);

    if (ret == 0) {
        info->id = g_strdup_printf("%u", fake->next_id++);
        fake_append(fake, bdrv_snapshot_info_copy(info), fake->active->data,
                    fake->active->len);
        g_byte_array_set_size(fake->active, 0);
    }
    return ret;
}

void fake_add_snapshot(FakeVmstate *fake, const char *name, const void *data,
                       size_t bytes)
{
    BdrvSnapshotInfo *info = bdrv_snapshot_info_new();

    info->id = g_strdup_printf("%u", fake->next_id++);
    info->name = g_strdup(name);
    info->vm_state_size = bytes;
    fake_append(fake, info, data, bytes);
}

static int coroutine_fn fake_co_snapshot_goto(BlockDriverState *bs,
                                              const char *id_or_name,
                                              GError **errp)
{
    FakeVmstate *fake = bs->opaque;
    FakeSnapshot *snap = fake_find(fake, id_or_name, NULL);
    int ret;

    snap = snap ? snap : fake_find(fake, NULL, id_or_name);
    if (!snap) {
        return set_error(errp, -ENOENT, "no snapshot '%s'", id_or_name);
    }
    ret = fake_op(fake, "goto", snap->info->id, errp);
    if (ret == 0) {
        fake->disk = snap->disk;
    }
    return ret;
}

static int coroutine_fn fake_co_snapshot_delete(BlockDriverState *bs,
                                                const char *id,
                                                const char *name,
                                                GError **errp)
{
    FakeVmstate *fake = bs->opaque;
    FakeSnapshot *snap = fake_find(fake, id, name);
    int ret;

    if (!snap) {
        return set_error(errp, -ENOENT, "no such snapshot");
    }
    ret = fake_op(fake, "delete", snap->info->id, errp);
    if (ret == 0) {
        g_ptr_array_remove(fake->snapshots, snap);
    }
    return ret;
}

static void fake_info_free(void *info)
{
    bdrv_snapshot_info_free(info);
}

static int coroutine_fn fake_co_snapshot_list(BlockDriverState *bs,
                                              GPtrArray **ret)
{
    FakeVmstate *fake = bs->opaque;
    int err = 0;

    if (fake->fail_op && strcmp(fake->fail_op, "list") == 0) {
        err = fake_op(fake, "list", "", NULL);
    }
    if (err == 0) {
        *ret = g_ptr_array_new_with_free_func(fake_info_free);
        for (guint i = 0; i < fake->snapshots->len; i++) {
            FakeSnapshot *snap = fake->snapshots->pdata[i];

            g_ptr_array_add(*ret, bdrv_snapshot_info_copy(snap->info));
        }
    }
    return err;
}

static BlockDriver bdrv_fakevm = {
    .format_name = "fakevm",
    .protocol_name = "fakevm",
    .instance_size = sizeof(FakeVmstate),
    .co_open = fake_co_open,
    .co_close = fake_co_close,
    .co_preadv = fake_co_preadv,
    .co_pwritev = fake_co_pwritev,
    .co_flush_to_disk = fake_co_flush,
    .co_save_vmstate = fake_co_save_vmstate,
    .co_load_vmstate = fake_co_load_vmstate,
    .co_vmstate_select = fake_co_vmstate_select,
    .co_vmstate_discard = fake_co_vmstate_discard,
    .co_snapshot_create = fake_co_snapshot_create,
    .co_snapshot_goto = fake_co_snapshot_goto,
    .co_snapshot_delete = fake_co_snapshot_delete,
    .co_snapshot_list = fake_co_snapshot_list,
};

/* --- For tests --- */

BlockBackend *fake_vmstate_open(AioContext *ctx, const char *wrapper)
{
    BdrvOptions *options = bdrv_options_new();
    BlockBackend *blk = NULL;
    GError *err = NULL;

    bdrv_register(&bdrv_fakevm);
    if (wrapper) {
        bdrv_options_set(options, "driver", wrapper);
        bdrv_options_set(options, "file.driver", "fakevm");
    } else {
        bdrv_options_set(options, "driver", "fakevm");
    }
    if (blk_open(ctx, NULL, options, BDRV_O_RDWR, &blk, &err) < 0) {
        g_error("%s", err->message);
    }
    return blk;
}

FakeVmstate *fake_vmstate(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    while (bs->drv != &bdrv_fakevm) {
        bs = bs->file->bs;
    }
    return bs->opaque;
}

void fake_reset_log(FakeVmstate *fake)
{
    g_array_set_size(fake->requests, 0);
    g_string_truncate(fake->ops, 0);
    fake->max_in_flight = 0;
}

FakeRequest *fake_request(FakeVmstate *fake, unsigned index)
{
    assert(index < fake->requests->len);
    return &g_array_index(fake->requests, FakeRequest, index);
}

FakeSnapshot *fake_find_snapshot(FakeVmstate *fake, const char *name)
{
    FakeSnapshot *found = NULL;

    for (guint i = 0; i < fake->snapshots->len; i++) {
        FakeSnapshot *snap = fake->snapshots->pdata[i];

        if (strcmp(snap->info->name, name) == 0) {
            found = snap;
        }
    }
    return found;
}
