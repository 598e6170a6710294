/* SPDX-License-Identifier: MIT */
/*
 * What the parts of savevm share: savevm.c (what a machine consists of, one
 * operation at a time), savevm-disks.c (one snapshot on several disks),
 * savevm-save.c and loadvm.c (the stream).
 */
#ifndef FIRN_MIGRATION_SAVEVM_INT_H
#define FIRN_MIGRATION_SAVEVM_INT_H

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/vmstate.h"
#include "migration/ram.h"
#include "migration/savevm.h"
#include "migration/vmstate-desc.h"
#include "migration/vmstream.h"
#include "util/error.h"

/* The stream's envelope, VMSTATE.md. */
#define VM_MAGIC   0x5145564du
#define VM_VERSION 3u
enum {
    VM_EOF           = 0x00,
    VM_START         = 0x01,
    VM_PART          = 0x02,
    VM_END           = 0x03,
    VM_FULL          = 0x04,
    VM_DESCRIPTION   = 0x06,
    VM_CONFIGURATION = 0x07,
    VM_COMMAND       = 0x08,
    VM_FOOTER        = 0x7e,
};

typedef struct SaveVMDevice {
    char *idstr;
    uint32_t instance_id;
    const VMStateDescription *vmsd;
    void *opaque;
} SaveVMDevice;

typedef struct SaveVMDisk {
    BlockBackend *blk;
    char *name;
} SaveVMDisk;

struct SaveVMState {
    char *machine;
    const SaveVMOps *ops;
    void *opaque;
    GPtrArray *ram;      /* RamBlock */
    GPtrArray *devices;  /* SaveVMDevice */
    GPtrArray *disks;    /* SaveVMDisk */
    bool busy;           /* an operation runs */
    int cancelled;       /* atomic: it shall end */
    int unusable;        /* atomic: a load failed half-way, none succeeded
                            since */
};

/* --- One operation (savevm.c) --- */

typedef struct SaveVMOp {
    SaveVMState *s;
    SaveVMParams params;
    GPtrArray *disks;    /* SaveVMDisk of @s that take part, writable ones */
    SaveVMDisk *carrier; /* the one with the vmstate */
    const char *tag;
    bool was_running;
    VmStream *f;         /* while there is a stream */
    uint64_t total;      /* of progress: RAM bytes (save), stream (load) */
    int64_t start_ns;
    int64_t shown_ns;    /* last progress call */
    uint64_t shown_bytes;
    uint64_t pages;
} SaveVMOp;

/*
 * Claim @s and look at its disks. Returns 0; -EBUSY, -EINVAL (@tag, NULL: none
 * needed), -ENOTSUP (no disk, or one that cannot have snapshots).
 */
int coroutine_fn savevm_op_begin(SaveVMOp *op, SaveVMState *s,
                                 const char *tag, const SaveVMParams *params,
                                 GError **errp);
void savevm_op_end(SaveVMOp *op);

/* Stop the machine, flush if @flush, and drain the disks. */
int coroutine_fn savevm_op_quiesce(SaveVMOp *op, bool flush, GError **errp);
/* Undo: also lets the machine run if it did and @resume. */
void coroutine_fn savevm_op_release(SaveVMOp *op, bool resume);

/*
 * Look after progress: @done of op->total. Returns 0, or -ECANCELED when
 * somebody wants that.
 */
int savevm_op_step(SaveVMOp *op, uint64_t done);
bool savevm_op_cancelled(const SaveVMOp *op);
/* The last progress call, with everything done. */
void savevm_op_show_end(SaveVMOp *op, uint64_t bytes);

/* Add a sentence to the message in @errp. */
void savevm_add_message(GError **errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* --- One snapshot on all disks (savevm-disks.c) --- */

/* Where op->carrier is in op->disks. */
guint savevm_carrier_index(const SaveVMOp *op);
/*
 * Ids of the newest snapshot that op->tag means and one save made on every
 * disk, in the order of op->disks. A tag that is no name on the carrier may be
 * an id there: then of that snapshot. @ret_size: vmstate bytes.
 * Returns 0, -ENOENT naming the disks where it is missing, or -EINVAL when
 * what the disks have is from different saves.
 */
int coroutine_fn savevm_disks_find(SaveVMOp *op, GPtrArray **ret_ids,
                                   uint64_t *ret_size, GError **errp);
/* Create @op->tag on all, or on none; then remove what had that name. */
int coroutine_fn savevm_disks_create(SaveVMOp *op, uint64_t vm_state_size,
                                     GError **errp);
/* Apply @ids. The message says what was applied. */
int coroutine_fn savevm_disks_goto(SaveVMOp *op, const GPtrArray *ids,
                                   GError **errp);
int coroutine_fn savevm_disks_delete(SaveVMOp *op, GError **errp);
int coroutine_fn savevm_disks_list(SaveVMOp *op, GPtrArray **ret,
                                   GError **errp);

#endif
