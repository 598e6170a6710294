/* SPDX-License-Identifier: MIT */
/*
 * FirnMachine: savevm and loadvm for the outside.
 *
 * Wraps migration/'s SaveVMState. What is added here: one operation at a time
 * is claimed by any thread (`busy`), blocking and asynchronous forms, the
 * guest's stop and cont on a worker thread so that they may block, and a
 * cancel that neither misses an operation that is about to begin nor hits the
 * next one.
 *
 *   claim()  busy = true      any thread, before the operation is posted
 *   op_co()  the operation    context's thread
 *   release  busy = false     before the caller or `done` hears of the end
 */
#include "firn_int.h"

#include <errno.h>
#include <stdint.h>

#include "migration/savevm.h"
#include "util/coroutine.h"
#include "util/error.h"
#include "util/thread-pool.h"

struct FirnMachine {
    FirnContext *ctx;
    SaveVMState *s;
    FirnMachineOps ops;
    void *opaque;           /* of ops */
    GPtrArray *disks;       /* FirnDisk *; lock, or while busy */

    pthread_mutex_t lock;   /* never held across a call to migration/ */
    bool busy;              /* lock */
    bool cancelled;         /* lock: the operation that is under way */
};

typedef enum OpKind {
    OP_SAVE,
    OP_LOAD,
    OP_DELETE,
    OP_LIST,
} OpKind;

/* One operation; op_co() runs it. */
typedef struct Op {
    FirnMachine *machine;
    OpKind kind;
    char *tag;
    FirnVmstateParams user;  /* what the caller gave */
    FirnVmResult result;
    GPtrArray *infos;        /* OP_LIST: BdrvSnapshotInfo * */
    int64_t start_ns;

    /* asynchronous ones */
    FirnVmDoneFunc *done;
    void *opaque;
    int ret;
    GError *err;
} Op;

/* ---- One at a time ---- */

static int claim(FirnMachine *m, GError **errp)
{
    bool busy;

    pthread_mutex_lock(&m->lock);
    busy = m->busy;
    if (!busy) {
        m->busy = true;
        m->cancelled = false;
    }
    pthread_mutex_unlock(&m->lock);
    return busy ? set_error(errp, -EBUSY, "another operation on the machine "
                            "is under way") : 0;
}

static void release(FirnMachine *m)
{
    pthread_mutex_lock(&m->lock);
    g_assert(m->busy);
    m->busy = false;
    pthread_mutex_unlock(&m->lock);
}

static bool is_cancelled(FirnMachine *m)
{
    bool cancelled;

    pthread_mutex_lock(&m->lock);
    cancelled = m->cancelled;
    pthread_mutex_unlock(&m->lock);
    return cancelled;
}

void firn_machine_cancel(FirnMachine *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->busy) {
        m->cancelled = true;
        savevm_cancel(m->s);
    }
    pthread_mutex_unlock(&m->lock);
}

bool firn_machine_is_usable(FirnMachine *m)
{
    return savevm_is_usable(m->s);
}

/* ---- The guest, seen from migration/ ---- */

static int call_stop(void *opaque)
{
    FirnMachine *m = opaque;

    return m->ops.stop(m->opaque);
}

static int coroutine_fn machine_stop(void *opaque, GError **errp)
{
    int ret = thread_pool_co_run(call_stop, opaque);

    if (ret < 0) {
        return set_error(errp, ret, "cannot stop the guest: %s",
                         g_strerror(-ret));
    }
    return 0;
}

static int call_cont(void *opaque)
{
    FirnMachine *m = opaque;

    m->ops.cont(m->opaque);
    return 0;
}

static void coroutine_fn machine_cont(void *opaque)
{
    thread_pool_co_run(call_cont, opaque);
}

static bool machine_is_running(void *opaque)
{
    FirnMachine *m = opaque;

    return m->ops.is_running(m->opaque);
}

static uint64_t machine_clock_ns(void *opaque)
{
    FirnMachine *m = opaque;

    return m->ops.clock_ns(m->opaque);
}

static const SaveVMOps machine_savevm_ops = {
    .stop = machine_stop,
    .cont = machine_cont,
    .is_running = machine_is_running,
    .clock_ns = machine_clock_ns,
};

/* ---- Making and freeing ---- */

static bool name_is_valid(const char *name)
{
    size_t len = name ? strlen(name) : 0;

    return len >= 1 && len <= 255;
}

FirnMachine *firn_machine_new(FirnContext *ctx, const char *name,
                              const FirnMachineOps *ops, void *opaque,
                              GError **errp)
{
    FirnMachine *m;

    if (!name_is_valid(name)) {
        set_error(errp, -EINVAL, "a machine name has 1 to 255 bytes");
        return NULL;
    }
    if (!ops->stop || !ops->cont || !ops->is_running || !ops->clock_ns) {
        set_error(errp, -EINVAL, "machine %s: an op is missing", name);
        return NULL;
    }
    m = g_new0(FirnMachine, 1);
    m->ctx = ctx;
    m->ops = *ops;
    m->opaque = opaque;
    m->disks = g_ptr_array_new();
    pthread_mutex_init(&m->lock, NULL);
    m->s = savevm_new(name, &machine_savevm_ops, m);
    g_atomic_int_inc(&ctx->users);
    return m;
}

void firn_machine_free(FirnMachine *m)
{
    if (!m) {
        return;
    }
    g_assert(!m->busy);
    savevm_free(m->s);
    for (guint i = 0; i < m->disks->len; i++) {
        FirnDisk *disk = g_ptr_array_index(m->disks, i);

        g_atomic_int_add(&disk->users, -1);
    }
    g_ptr_array_unref(m->disks);
    pthread_mutex_destroy(&m->lock);
    g_atomic_int_add(&m->ctx->users, -1);
    g_free(m);
}

int firn_machine_add_ram(FirnMachine *m, const char *idstr, void *host,
                         uint64_t bytes, GError **errp)
{
    int ret = claim(m, errp);

    if (ret == 0) {
        ret = savevm_add_ram(m->s, idstr, host, bytes, errp);
        release(m);
    }
    return ret;
}

int firn_machine_add_device(FirnMachine *m, const char *idstr,
                            uint32_t instance_id,
                            const VMStateDescription *vmsd, void *state,
                            GError **errp)
{
    int ret = claim(m, errp);

    if (ret == 0) {
        ret = savevm_add_device(m->s, idstr, instance_id, vmsd, state, errp);
        release(m);
    }
    return ret;
}

int firn_machine_add_disk(FirnMachine *m, const char *name, FirnDisk *disk,
                          GError **errp)
{
    int ret;

    if (disk->ctx != m->ctx) {
        return set_error(errp, -EINVAL, "disk %s is on another context",
                         name);
    }
    ret = claim(m, errp);
    if (ret < 0) {
        return ret;
    }
    ret = savevm_add_disk(m->s, disk->blk, name, errp);
    if (ret == 0) {
        g_atomic_int_inc(&disk->users);
        g_ptr_array_add(m->disks, disk);
    }
    release(m);
    return ret;
}

/* ---- Operations ---- */

/* On the context's thread: note the size, tell the caller, pass a cancel on. */
static void op_progress(const FirnProgress *progress, void *opaque)
{
    Op *op = opaque;

    op->result.stream_bytes = progress->bytes;
    if (op->user.progress) {
        op->user.progress(progress, op->user.opaque);
    }
    if (is_cancelled(op->machine)) {
        savevm_cancel(op->machine->s);
    }
}

static int coroutine_fn op_run(Op *op, GError **errp)
{
    SaveVMState *s = op->machine->s;
    FirnVmstateParams params = op->user;

    params.progress = op_progress;
    params.opaque = op;
    switch (op->kind) {
    case OP_SAVE:
        return savevm_co_save(s, op->tag, &params, errp);
    case OP_LOAD:
        return savevm_co_load(s, op->tag, &params, errp);
    case OP_DELETE:
        return savevm_co_delete(s, op->tag, errp);
    case OP_LIST:
        return savevm_co_list(s, &op->infos, errp);
    }
    g_assert_not_reached();
}

/* Runs the Op @opaque; its message goes to op->err. */
static int coroutine_fn op_co(void *opaque)
{
    Op *op = opaque;

    if (is_cancelled(op->machine)) {
        op->ret = set_error(&op->err, -ECANCELED, "cancelled");
    } else {
        op->ret = op_run(op, &op->err);
    }
    op->result.elapsed_ns = aio_now_ns() - op->start_ns;
    return op->ret;
}

static int check_tag(const char *tag, GError **errp)
{
    if (!name_is_valid(tag)) {
        return set_error(errp, -EINVAL, "a snapshot tag has 1 to 255 bytes");
    }
    return 0;
}

static int no_coroutine_fn op_blocking(Op *op, GError **errp)
{
    int ret = claim(op->machine, errp);

    if (ret < 0) {
        return ret;
    }
    op->start_ns = aio_now_ns();
    ret = firn_run(op->machine->ctx, op_co, op, errp);
    release(op->machine);
    if (op->err) {
        g_propagate_error(errp, op->err);
    }
    return ret;
}

static int blocking_with_params(FirnMachine *m, OpKind kind, const char *tag,
                                const FirnVmstateParams *params,
                                FirnVmResult *ret_result, GError **errp)
{
    Op op = { .machine = m, .kind = kind, .tag = (char *)tag };
    int ret = check_tag(tag, errp);

    if (ret < 0) {
        return ret;
    }
    if (params) {
        op.user = *params;
    }
    ret = op_blocking(&op, errp);
    if (ret == 0 && ret_result) {
        *ret_result = op.result;
    }
    return ret;
}

int firn_machine_savevm(FirnMachine *m, const char *tag,
                        const FirnVmstateParams *params,
                        FirnVmResult *ret_result, GError **errp)
{
    return blocking_with_params(m, OP_SAVE, tag, params, ret_result, errp);
}

int firn_machine_loadvm(FirnMachine *m, const char *tag,
                        const FirnVmstateParams *params,
                        FirnVmResult *ret_result, GError **errp)
{
    return blocking_with_params(m, OP_LOAD, tag, params, ret_result, errp);
}

int firn_machine_delvm(FirnMachine *m, const char *tag, GError **errp)
{
    return blocking_with_params(m, OP_DELETE, tag, NULL, NULL, errp);
}

int firn_machine_list_snapshots(FirnMachine *m, GPtrArray **ret_infos,
                                GError **errp)
{
    Op op = { .machine = m, .kind = OP_LIST };
    int ret = op_blocking(&op, errp);

    if (ret == 0) {
        *ret_infos = firn_snapshot_infos_new(op.infos);
        g_ptr_array_unref(op.infos);
    }
    return ret;
}

/* ---- Asynchronous ones ---- */

static void op_complete_bh(void *opaque)
{
    Op *op = opaque;

    release(op->machine);
    op->done(op->opaque, op->ret, op->ret == 0 ? &op->result : NULL, op->err);
    g_clear_error(&op->err);
    g_free(op->tag);
    g_free(op);
}

static void coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;

    op_co(op);
    firn_post(op->machine->ctx, op_complete_bh, op);
}

static void op_start_bh(void *opaque)
{
    co_enter(co_create(op_entry, opaque));
}

static int op_async(FirnMachine *m, OpKind kind, const char *tag,
                    const FirnVmstateParams *params, FirnVmDoneFunc *done,
                    void *opaque, GError **errp)
{
    Op *op;
    int ret = check_tag(tag, errp);

    if (ret < 0) {
        return ret;
    }
    ret = claim(m, errp);
    if (ret < 0) {
        return ret;
    }
    op = g_new0(Op, 1);
    op->machine = m;
    op->kind = kind;
    op->tag = g_strdup(tag);
    if (params) {
        op->user = *params;
    }
    op->done = done;
    op->opaque = opaque;
    op->start_ns = aio_now_ns();
    firn_post(m->ctx, op_start_bh, op);
    return 0;
}

int firn_machine_savevm_async(FirnMachine *m, const char *tag,
                              const FirnVmstateParams *params,
                              FirnVmDoneFunc *done, void *opaque,
                              GError **errp)
{
    return op_async(m, OP_SAVE, tag, params, done, opaque, errp);
}

int firn_machine_loadvm_async(FirnMachine *m, const char *tag,
                              const FirnVmstateParams *params,
                              FirnVmDoneFunc *done, void *opaque,
                              GError **errp)
{
    return op_async(m, OP_LOAD, tag, params, done, opaque, errp);
}
