/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots of a node. These are the generic entry points: they check
 * the request, find the node that has snapshots (a filter hands over to the
 * node below) and, for create and goto, take the node exclusively
 * (bdrv_co_exclusive_begin()), so a driver never sees a guest request during
 * one. While one is deleted, guest requests go on. Two such operations never
 * meet; each waits for the one before.
 *
 * The vmstate of a snapshot is what was saved (block/vmstate.h) since the
 * previous create or discard; finish it before bdrv_co_snapshot_create().
 */
#ifndef FIRN_BLOCK_SNAPSHOT_H
#define FIRN_BLOCK_SNAPSHOT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

#define BDRV_SNAPSHOT_ICOUNT_NONE UINT64_MAX

typedef struct BdrvSnapshotInfo {
    char *id;               /* decimal number, unique in the image */
    char *name;             /* the tag; need not be unique in the image */
    uint64_t vm_state_size; /* bytes, 0: disk only */
    uint64_t disk_size;     /* bytes the guest sees */
    int64_t date_sec;       /* since the epoch */
    uint32_t date_nsec;
    uint64_t vm_clock_nsec; /* guest time */
    uint64_t icount;        /* BDRV_SNAPSHOT_ICOUNT_NONE: unknown */
} BdrvSnapshotInfo;

/* Returns a zeroed one with icount unknown. */
BdrvSnapshotInfo *bdrv_snapshot_info_new(void);
BdrvSnapshotInfo *bdrv_snapshot_info_copy(const BdrvSnapshotInfo *info);
/* Frees @info (NULL: nothing) and its strings. */
void bdrv_snapshot_info_free(BdrvSnapshotInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BdrvSnapshotInfo, bdrv_snapshot_info_free)

/* Returns whether @bs, or the node a filter hands to, can take snapshots now
 * (its format has them and it is writable). */
bool bdrv_can_snapshot(const BlockDriverState *bs);

/*
 * Create a snapshot of the active layer. @info gives name, dates, clock and
 * vm_state_size; id (when NULL) and disk_size are filled in. Another snapshot
 * may have the same name: only the id tells them apart.
 * Returns 0; -EEXIST (the id is taken), -ENOTSUP (no snapshots in this format),
 * -EROFS, -EINVAL (no name), or an I/O error; then nothing changed.
 */
int coroutine_fn bdrv_co_snapshot_create(BlockDriverState *bs,
                                         BdrvSnapshotInfo *info,
                                         GError **errp);

/*
 * Make the active layer what snapshot @id_or_name holds. Ids are tried first.
 * Returns 0; -ENOENT, -ENOTSUP, -EROFS or an I/O error.
 */
int coroutine_fn bdrv_co_snapshot_goto(BlockDriverState *bs,
                                       const char *id_or_name, GError **errp);

/*
 * Delete the snapshot with this @id and this @name; either may be NULL, then
 * only the other counts. Returns 0; -ENOENT, -ENOTSUP, -EROFS, -EINVAL (both
 * NULL) or an I/O error.
 */
int coroutine_fn bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id,
                                         const char *name, GError **errp);

/*
 * List the snapshots in table order. Returns 0 with a new array of
 * BdrvSnapshotInfo (which frees its elements) in *@ret, or -ENOTSUP or an I/O
 * error, *@ret untouched.
 */
int coroutine_fn bdrv_co_snapshot_list(BlockDriverState *bs, GPtrArray **ret,
                                       GError **errp);

/*
 * Find a snapshot by id, then by name. Returns 0 with a copy in *@ret (which
 * may be NULL: only whether it is there), -ENOENT, or as for list.
 */
int coroutine_fn bdrv_co_snapshot_find(BlockDriverState *bs,
                                       const char *id_or_name,
                                       BdrvSnapshotInfo **ret);

/* Blocking forms, for the disk of a BlockBackend. */
int no_coroutine_fn blk_snapshot_create(BlockBackend *blk,
                                        BdrvSnapshotInfo *info,
                                        GError **errp);
int no_coroutine_fn blk_snapshot_goto(BlockBackend *blk,
                                      const char *id_or_name, GError **errp);
int no_coroutine_fn blk_snapshot_delete(BlockBackend *blk, const char *id,
                                        const char *name, GError **errp);
int no_coroutine_fn blk_snapshot_list(BlockBackend *blk, GPtrArray **ret,
                                      GError **errp);

#endif
