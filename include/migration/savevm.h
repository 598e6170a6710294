/* SPDX-License-Identifier: MIT */
/*
 * savevm, loadvm, delvm and list: a machine's state and its disks as one
 * snapshot, on one or several disks, all or nothing.
 *
 * A SaveVMState lists what a machine consists of (RAM blocks, devices, disks)
 * and knows through SaveVMOps how to stop and continue it. It knows nothing of
 * VMMs. The vmstate goes to the first writable disk whose format supports it;
 * every other disk gets a snapshot of the same name.
 *
 * The lists are built before the first operation and change only while none
 * runs. One operation at a time: a second one returns -EBUSY. The coroutines
 * run on the disks' AioContext. Errors carry a sentence for people.
 */
#ifndef FIRN_MIGRATION_SAVEVM_H
#define FIRN_MIGRATION_SAVEVM_H

#include <firn/types.h>
#include <firn/vmstate.h>

#include "block/block.h"
#include "block/snapshot.h"
#include "util/compiler.h"

typedef struct SaveVMState SaveVMState;
typedef FirnVmstateParams SaveVMParams;

/* All are called from a coroutine of the disks' AioContext and may yield. */
typedef struct SaveVMOps {
    /* Stop the machine: on return nothing changes RAM or device state, and no
     * new disk request is made. Called only when it runs. 0 or -errno. */
    int coroutine_fn (*stop)(void *opaque, GError **errp);
    /* Let it run again after stop. */
    void coroutine_fn (*cont)(void *opaque);
    bool (*is_running)(void *opaque);
    /* The guest's clock in ns, for the snapshot's table entry; may be NULL. */
    uint64_t (*clock_ns)(void *opaque);
} SaveVMOps;

/* @machine: machine type, compared on load; 1..255 bytes. @ops stays owned by
 * the caller and must outlive the state. */
SaveVMState *savevm_new(const char *machine, const SaveVMOps *ops,
                        void *opaque);
/* NULL ok. No operation may be running. Disks stay open. */
void savevm_free(SaveVMState *s);

/*
 * Add guest RAM: @bytes (a multiple of 4096, > 0) at @host (4096-aligned),
 * under the unique name @idstr (1..255 bytes), in the order of the stream.
 * The kernel is asked for huge pages there, as VMMs do for guest RAM.
 * Returns 0, -EINVAL or -EEXIST.
 */
int savevm_add_ram(SaveVMState *s, const char *idstr, void *host,
                   uint64_t bytes, GError **errp);

/*
 * Add a device; (@idstr, @instance_id) is unique, "ram" is taken. @vmsd is
 * checked: names, versions, fields.
 * Returns 0, -EINVAL or -EEXIST.
 */
int savevm_add_device(SaveVMState *s, const char *idstr,
                      uint32_t instance_id, const VMStateDescription *vmsd,
                      void *opaque, GError **errp);

/* Forget the device; ok if it is not there. */
void savevm_remove_device(SaveVMState *s, const char *idstr,
                          uint32_t instance_id);

/* Add a disk under a unique @name (for messages). @blk stays the caller's and
 * must outlive the state. Read-only disks are left out of snapshots.
 * Returns 0 or -EEXIST. */
int savevm_add_disk(SaveVMState *s, BlockBackend *blk, const char *name,
                    GError **errp);
/* Forget the disk; ok if it is not there. */
void savevm_remove_disk(SaveVMState *s, BlockBackend *blk);

/*
 * Save the machine under @tag (1..255 bytes). A snapshot of that name is
 * replaced: the new one is complete on all disks before the old one goes. The
 * machine is stopped meanwhile and runs on afterwards if it ran before.
 *
 * On failure no disk has a new snapshot and the old one is still there. (The
 * one exception: when only the old one could not be deleted; the message says
 * so, the new one is complete and is what a load takes.)
 * @params: NULL for defaults. Returns 0, -ECANCELED, -EBUSY, -EINVAL (also
 * while savevm_is_usable() is false) or -errno.
 */
int coroutine_fn savevm_co_save(SaveVMState *s, const char *tag,
                                const SaveVMParams *params, GError **errp);

/*
 * Bring the machine back to snapshot @tag (name, or id on the disk with the
 * vmstate). Of several with that name it is the newest that one save made on
 * all disks: name, date and clock are the same there.
 *
 * What cannot be loaded is refused before anything changes, as far as it can
 * be told: missing snapshots, envelope, machine type, RAM blocks; the machine
 * then goes on as before. A failure later leaves it stopped, and the message
 * says so. The disks change last, after the stream was read without error.
 * Afterwards the machine runs if it ran before.
 *
 * Returns 0, -ENOENT, -EINVAL (a bad stream; what the disks have under the
 * name is from different saves), -ECANCELED, -EBUSY or -errno.
 */
int coroutine_fn savevm_co_load(SaveVMState *s, const char *tag,
                                const SaveVMParams *params, GError **errp);

/* Is the machine's state its own? Not after a load that failed with something
 * stored, until one succeeds. From any thread. */
bool savevm_is_usable(const SaveVMState *s);

/*
 * Delete snapshot @tag (name, or id on the disk with the vmstate) from all
 * disks: everything of that name, whether its parts belong together or not.
 * Returns 0, -ENOENT when no disk has it, or the first -errno; the message
 * says on which disks it remains.
 */
int coroutine_fn savevm_co_delete(SaveVMState *s, const char *tag,
                                  GError **errp);

/*
 * *@ret: new array of BdrvSnapshotInfo (freed with the array) of the
 * snapshots that one save made on every disk, as the disk with the vmstate
 * lists them.
 */
int coroutine_fn savevm_co_list(SaveVMState *s, GPtrArray **ret,
                                GError **errp);

/*
 * Ask the running operation, if there is one, to end with -ECANCELED. From
 * any thread; does not wait. An operation that is past its last point of
 * return succeeds regardless.
 */
void savevm_cancel(SaveVMState *s);

#endif
