/* SPDX-License-Identifier: MIT */
/*
 * What a machine consists of, and what frames each operation: one at a time,
 * the machine stopped and its disks drained meanwhile, progress, cancel.
 */
#include <sys/mman.h>

#include "savevm-int.h"

#define PROGRESS_NS    (50 * 1000 * 1000)
#define PROGRESS_BYTES (16 * 1024 * 1024)

/* --- Lists --- */

static void savevm_device_free(void *opaque)
{
    SaveVMDevice *dev = opaque;

    g_free(dev->idstr);
    g_free(dev);
}

static void savevm_disk_free(void *opaque)
{
    SaveVMDisk *disk = opaque;

    g_free(disk->name);
    g_free(disk);
}

static void savevm_ram_free(void *opaque)
{
    ram_block_free(opaque);
}

SaveVMState *savevm_new(const char *machine, const SaveVMOps *ops,
                        void *opaque)
{
    SaveVMState *s = g_new0(SaveVMState, 1);

    assert(machine[0] != '\0' && strlen(machine) <= UINT8_MAX);
    s->machine = g_strdup(machine);
    s->ops = ops;
    s->opaque = opaque;
    s->ram = g_ptr_array_new_with_free_func(savevm_ram_free);
    s->devices = g_ptr_array_new_with_free_func(savevm_device_free);
    s->disks = g_ptr_array_new_with_free_func(savevm_disk_free);
    return s;
}

void savevm_free(SaveVMState *s)
{
    if (s) {
        assert(!s->busy);
        g_ptr_array_unref(s->ram);
        g_ptr_array_unref(s->devices);
        g_ptr_array_unref(s->disks);
        g_free(s->machine);
        g_free(s);
    }
}

static int savevm_check_idstr(const char *what, const char *idstr,
                              GError **errp)
{
    size_t len = strlen(idstr);

    if (len < 1 || len > UINT8_MAX) {
        return set_error(errp, -EINVAL, "name of a %s has %zu bytes, not "
                         "1..255", what, len);
    }
    return 0;
}

int savevm_add_ram(SaveVMState *s, const char *idstr, void *host,
                   uint64_t bytes, GError **errp)
{
    int ret = savevm_check_idstr("RAM block", idstr, errp);

    assert(!s->busy);
    if (ret < 0) {
        return ret;
    }
    if (bytes == 0 || bytes > INT64_MAX / 2 ||
        !IS_ALIGNED(bytes, TARGET_PAGE_SIZE) ||
        !IS_ALIGNED((uintptr_t)host, TARGET_PAGE_SIZE)) {
        return set_error(errp, -EINVAL, "RAM block '%s' does not consist of "
                         "whole pages", idstr);
    }
    for (guint i = 0; i < s->ram->len; i++) {
        const RamBlock *block = s->ram->pdata[i];

        if (strcmp(block->idstr, idstr) == 0) {
            return set_error(errp, -EEXIST, "second RAM block '%s'", idstr);
        }
    }
    /* A load into fresh memory is page faults for the most part. */
    (void)madvise(host, bytes, MADV_HUGEPAGE);
    g_ptr_array_add(s->ram, ram_block_new(idstr, host, bytes));
    return 0;
}

static guint savevm_find_device(SaveVMState *s, const char *idstr,
                                uint32_t instance_id)
{
    guint i;

    for (i = 0; i < s->devices->len; i++) {
        const SaveVMDevice *dev = s->devices->pdata[i];

        if (dev->instance_id == instance_id &&
            strcmp(dev->idstr, idstr) == 0) {
            break;
        }
    }
    return i;
}

int savevm_add_device(SaveVMState *s, const char *idstr, uint32_t instance_id,
                      const VMStateDescription *vmsd, void *opaque,
                      GError **errp)
{
    SaveVMDevice *dev;
    int ret = savevm_check_idstr("device", idstr, errp);

    assert(!s->busy);
    if (ret == 0) {
        ret = vmstate_validate(vmsd, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (strcmp(idstr, RAM_SECTION_NAME) == 0 ||
        savevm_find_device(s, idstr, instance_id) < s->devices->len) {
        return set_error(errp, -EEXIST, "second device '%s' instance %"
                         PRIu32, idstr, instance_id);
    }
    dev = g_new0(SaveVMDevice, 1);
    dev->idstr = g_strdup(idstr);
    dev->instance_id = instance_id;
    dev->vmsd = vmsd;
    dev->opaque = opaque;
    g_ptr_array_add(s->devices, dev);
    return 0;
}

void savevm_remove_device(SaveVMState *s, const char *idstr,
                          uint32_t instance_id)
{
    guint i = savevm_find_device(s, idstr, instance_id);

    assert(!s->busy);
    if (i < s->devices->len) {
        g_ptr_array_remove_index(s->devices, i);
    }
}

int savevm_add_disk(SaveVMState *s, BlockBackend *blk, const char *name,
                    GError **errp)
{
    SaveVMDisk *disk;

    assert(!s->busy);
    for (guint i = 0; i < s->disks->len; i++) {
        disk = s->disks->pdata[i];
        if (disk->blk == blk || strcmp(disk->name, name) == 0) {
            return set_error(errp, -EEXIST, "second disk '%s'", name);
        }
    }
    disk = g_new0(SaveVMDisk, 1);
    disk->blk = blk;
    disk->name = g_strdup(name);
    g_ptr_array_add(s->disks, disk);
    return 0;
}

void savevm_remove_disk(SaveVMState *s, BlockBackend *blk)
{
    assert(!s->busy);
    for (guint i = 0; i < s->disks->len; i++) {
        if (((SaveVMDisk *)s->disks->pdata[i])->blk == blk) {
            g_ptr_array_remove_index(s->disks, i);
            return;
        }
    }
}

void savevm_cancel(SaveVMState *s)
{
    __atomic_store_n(&s->cancelled, 1, __ATOMIC_RELAXED);
}

bool savevm_is_usable(const SaveVMState *s)
{
    return !__atomic_load_n(&s->unusable, __ATOMIC_RELAXED);
}

/* --- The frame of an operation --- */

void savevm_add_message(GError **errp, const char *fmt, ...)
{
    va_list ap;

    if (errp && *errp) {
        g_autofree char *old = (*errp)->message;

        va_start(ap, fmt);
        g_autofree char *more = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        (*errp)->message = g_strconcat(old, more, NULL);
    }
}

static int savevm_pick_disks(SaveVMOp *op, GError **errp)
{
    for (guint i = 0; i < op->s->disks->len; i++) {
        SaveVMDisk *disk = op->s->disks->pdata[i];
        BlockDriverState *bs = blk_bs(disk->blk);

        if (blk_is_read_only(disk->blk)) {
            continue;
        }
        if (!bdrv_can_snapshot(bs)) {
            return set_error(errp, -ENOTSUP, "disk '%s' is writable and its "
                             "format '%s' has no snapshots", disk->name,
                             bdrv_get_format_name(bs));
        }
        g_ptr_array_add(op->disks, disk);
        if (!op->carrier && bdrv_can_vmstate(bs)) {
            op->carrier = disk;
        }
    }
    if (!op->carrier) {
        return set_error(errp, -ENOTSUP, "no disk can hold the machine's "
                         "state");
    }
    return 0;
}

int coroutine_fn savevm_op_begin(SaveVMOp *op, SaveVMState *s,
                                 const char *tag, const SaveVMParams *params,
                                 GError **errp)
{
    int ret = 0;

    memset(op, 0, sizeof(*op));
    if (s->busy) {
        return set_error(errp, -EBUSY, "another snapshot operation runs");
    }
    if (tag) {
        ret = savevm_check_idstr("snapshot", tag, errp);
    }
    if (ret < 0) {
        return ret;
    }
    s->busy = true;
    __atomic_store_n(&s->cancelled, 0, __ATOMIC_RELAXED);
    op->s = s;
    op->tag = tag;
    op->params = params ? *params : (SaveVMParams) { 0 };
    op->disks = g_ptr_array_new();
    op->start_ns = aio_now_ns();
    op->shown_ns = op->start_ns;
    ret = savevm_pick_disks(op, errp);
    if (ret < 0) {
        savevm_op_end(op);
    }
    return ret;
}

void savevm_op_end(SaveVMOp *op)
{
    g_ptr_array_unref(op->disks);
    op->s->busy = false;
}

static int coroutine_fn savevm_flush(SaveVMOp *op, GError **errp)
{
    for (guint i = 0; i < op->disks->len; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];
        int ret = blk_co_flush(disk->blk);

        if (ret < 0) {
            return set_error(errp, ret, "cannot flush disk '%s': %s",
                             disk->name, g_strerror(-ret));
        }
    }
    return 0;
}

static void coroutine_fn savevm_cont(SaveVMOp *op)
{
    if (op->was_running) {
        op->s->ops->cont(op->s->opaque);
    }
}

int coroutine_fn savevm_op_quiesce(SaveVMOp *op, bool flush, GError **errp)
{
    SaveVMState *s = op->s;
    int ret = 0;

    op->was_running = s->ops->is_running(s->opaque);
    if (op->was_running) {
        ret = s->ops->stop(s->opaque, errp);
        if (ret < 0) {
            return set_error(errp, ret, "cannot stop the machine: %s",
                             g_strerror(-ret));
        }
    }
    if (flush) {
        ret = savevm_flush(op, errp);
        if (ret < 0) {
            savevm_cont(op);
            return ret;
        }
    }
    for (guint i = 0; i < op->disks->len; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];

        bdrv_co_drained_begin(blk_bs(disk->blk));
    }
    return 0;
}

void coroutine_fn savevm_op_release(SaveVMOp *op, bool resume)
{
    for (guint i = op->disks->len; i > 0; i--) {
        SaveVMDisk *disk = op->disks->pdata[i - 1];

        bdrv_drained_end(blk_bs(disk->blk));
    }
    if (resume) {
        savevm_cont(op);
    }
}

bool savevm_op_cancelled(const SaveVMOp *op)
{
    return __atomic_load_n(&op->s->cancelled, __ATOMIC_RELAXED);
}

static void savevm_op_show(SaveVMOp *op, int64_t now, uint64_t bytes,
                           uint64_t done)
{
    double elapsed = (double)(now - op->start_ns) / 1e9;
    FirnProgress p = {
        .bytes = bytes, .pages = op->pages, .done = done, .total = op->total,
        .elapsed_s = elapsed, .eta_s = -1,
    };

    if (elapsed > 0) {
        p.bytes_per_s = (double)bytes / elapsed;
    }
    if (done > 0 && done <= op->total) {
        p.eta_s = elapsed / (double)done * (double)(op->total - done);
    }
    op->shown_ns = now;
    op->shown_bytes = bytes;
    op->params.progress(&p, op->params.opaque);
}

int savevm_op_step(SaveVMOp *op, uint64_t done)
{
    uint64_t bytes = vmstream_pos(op->f);
    int64_t now;

    if (op->params.progress) {
        now = aio_now_ns();
        if (now - op->shown_ns >= PROGRESS_NS ||
            bytes - op->shown_bytes >= PROGRESS_BYTES) {
            savevm_op_show(op, now, bytes, done);
        }
    }
    return savevm_op_cancelled(op) ? -ECANCELED : 0;
}

void savevm_op_show_end(SaveVMOp *op, uint64_t bytes)
{
    if (op->params.progress) {
        savevm_op_show(op, aio_now_ns(), bytes, op->total);
    }
}

/* --- delvm and list --- */

int coroutine_fn savevm_co_delete(SaveVMState *s, const char *tag,
                                  GError **errp)
{
    SaveVMOp op;
    int ret = savevm_op_begin(&op, s, tag, NULL, errp);

    if (ret == 0) {
        ret = savevm_disks_delete(&op, errp);
        savevm_op_end(&op);
    }
    return ret;
}

int coroutine_fn savevm_co_list(SaveVMState *s, GPtrArray **ret,
                                GError **errp)
{
    SaveVMOp op;
    int err = savevm_op_begin(&op, s, NULL, NULL, errp);

    if (err == 0) {
        err = savevm_disks_list(&op, ret, errp);
        savevm_op_end(&op);
    }
    return err;
}
