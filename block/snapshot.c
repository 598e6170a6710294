/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots: the generic entry points, see include/block/snapshot.h.
 * What a snapshot is on disk belongs to the format drivers.
 */
#include "block/snapshot.h"

#include <string.h>

#include "block/block_int.h"
#include "block/dirty-bitmap_int.h"

BdrvSnapshotInfo *bdrv_snapshot_info_new(void)
{
    BdrvSnapshotInfo *info = g_new0(BdrvSnapshotInfo, 1);

    info->icount = BDRV_SNAPSHOT_ICOUNT_NONE;
    return info;
}

BdrvSnapshotInfo *bdrv_snapshot_info_copy(const BdrvSnapshotInfo *info)
{
    BdrvSnapshotInfo *copy = g_memdup2(info, sizeof(*info));

    copy->id = g_strdup(info->id);
    copy->name = g_strdup(info->name);
    return copy;
}

void bdrv_snapshot_info_free(BdrvSnapshotInfo *info)
{
    if (!info) {
        return;
    }
    g_free(info->id);
    g_free(info->name);
    g_free(info);
}

/* The node that answers for @bs: filters hand over to what they filter. */
static BlockDriverState *snapshot_node(const BlockDriverState *bs)
{
    while (bs->drv->is_filter && !bs->drv->co_snapshot_create && bs->file) {
        bs = bs->file->bs;
    }
    return (BlockDriverState *)bs;
}

bool bdrv_can_snapshot(const BlockDriverState *bs)
{
    bs = snapshot_node(bs);
    return bs->drv->co_snapshot_create && !bs->read_only;
}

static int not_supported(const BlockDriverState *bs, GError **errp)
{
    return set_error(errp, -ENOTSUP, "%s: format '%s' has no internal "
                     "snapshots; qcow2 has", bs->filename,
                     bs->drv->format_name);
}

static int check_writable(const BlockDriverState *bs, GError **errp)
{
    if (bs->read_only) {
        return set_error(errp, -EROFS, "%s is open read-only", bs->filename);
    }
    return 0;
}

/* Make sure that a failure has a sentence; passes @ret on. */
static int explain(const BlockDriverState *bs, const char *what, int ret,
                   GError **errp)
{
    assert(ret <= 0);
    if (ret < 0 && errp && !*errp) {
        set_error(errp, ret, "%s: cannot %s: %s", bs->filename, what,
                  g_strerror(-ret));
    }
    return ret;
}

static const BdrvSnapshotInfo *find_by_name(const GPtrArray *list,
                                            const char *name)
{
    for (guint i = 0; i < list->len; i++) {
        const BdrvSnapshotInfo *info = g_ptr_array_index(list, i);

        if (strcmp(info->name, name) == 0) {
            return info;
        }
    }
    return NULL;
}

static const BdrvSnapshotInfo *find_by_id_or_name(const GPtrArray *list,
                                                  const char *id_or_name)
{
    for (guint i = 0; i < list->len; i++) {
        const BdrvSnapshotInfo *info = g_ptr_array_index(list, i);

        if (strcmp(info->id, id_or_name) == 0) {
            return info;
        }
    }
    return find_by_name(list, id_or_name);
}

int coroutine_fn bdrv_co_snapshot_create(BlockDriverState *bs,
                                         BdrvSnapshotInfo *info,
                                         GError **errp)
{
    int ret;

    bs = snapshot_node(bs);
    if (!bs->drv->co_snapshot_create) {
        return not_supported(bs, errp);
    }
    ret = check_writable(bs, errp);
    if (ret < 0) {
        return ret;
    }
    if (!info->name || !*info->name) {
        return set_error(errp, -EINVAL, "a snapshot needs a name");
    }
    bdrv_co_exclusive_begin(bs);
    info->disk_size = bs->total_bytes;
    ret = bs->drv->co_snapshot_create(bs, info, errp);
    explain(bs, "create the snapshot", ret, errp);
    bdrv_co_exclusive_end(bs);
    return ret;
}

/* A snapshot may have been taken when the disk had another size. Filters above
 * @bs have the same. */
static int coroutine_fn refresh_lengths(BlockDriverState *bs)
{
    int ret = 0;

    while (bs && ret == 0) {
        ret = bdrv_co_refresh_length(bs);
        bs = bs->parent_edge ? bs->parent_edge->parent : NULL;
    }
    return ret;
}

int coroutine_fn bdrv_co_snapshot_goto(BlockDriverState *bs,
                                       const char *id_or_name, GError **errp)
{
    int ret, lengths;

    bs = snapshot_node(bs);
    if (!bs->drv->co_snapshot_goto) {
        return not_supported(bs, errp);
    }
    ret = check_writable(bs, errp);
    ret = ret < 0 ? ret : bdrv_bitmaps_check_consistent(bs, errp);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_exclusive_begin(bs);
    ret = bs->drv->co_snapshot_goto(bs, id_or_name, errp);
    /* It may have been applied and have failed after that. */
    lengths = refresh_lengths(bs);
    if (ret != -ENOENT) {
        bdrv_bitmaps_resize(bs, bs->total_bytes);
        bdrv_bitmaps_track(bs, 0, bs->total_bytes);
    }
    ret = ret < 0 ? ret : lengths;
    explain(bs, "go to the snapshot", ret, errp);
    bdrv_co_exclusive_end(bs);
    return ret;
}

int coroutine_fn bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id,
                                         const char *name, GError **errp)
{
    int ret;

    bs = snapshot_node(bs);
    if (!bs->drv->co_snapshot_delete) {
        return not_supported(bs, errp);
    }
    ret = check_writable(bs, errp);
    if (ret < 0) {
        return ret;
    }
    if (!id && !name) {
        return set_error(errp, -EINVAL, "no snapshot is named");
    }
    bdrv_co_serial_begin(bs);
    ret = bs->drv->co_snapshot_delete(bs, id, name, errp);
    explain(bs, "delete the snapshot", ret, errp);
    bdrv_co_serial_end(bs);
    return ret;
}

int coroutine_fn bdrv_co_snapshot_list(BlockDriverState *bs, GPtrArray **ret,
                                       GError **errp)
{
    int err;

    bs = snapshot_node(bs);
    if (!bs->drv->co_snapshot_list) {
        return not_supported(bs, errp);
    }
    bdrv_inc_in_flight(bs);
    err = bs->drv->co_snapshot_list(bs, ret);
    explain(bs, "list the snapshots", err, errp);
    bdrv_dec_in_flight(bs);
    return err;
}

int coroutine_fn bdrv_co_snapshot_find(BlockDriverState *bs,
                                       const char *id_or_name,
                                       BdrvSnapshotInfo **ret)
{
    g_autoptr(GPtrArray) list = NULL;
    const BdrvSnapshotInfo *info;
    int err = bdrv_co_snapshot_list(bs, &list, NULL);

    if (err < 0) {
        return err;
    }
    info = find_by_id_or_name(list, id_or_name);
    if (!info) {
        return -ENOENT;
    }
    if (ret) {
        *ret = bdrv_snapshot_info_copy(info);
    }
    return 0;
}

/* ---- blocking forms ---- */

typedef struct SnapshotArgs {
    BlockBackend *blk;
    BdrvSnapshotInfo *info;
    const char *id;
    const char *name;
    GPtrArray **ret;
    GError **errp;
} SnapshotArgs;

static int coroutine_fn create_entry(void *opaque)
{
    SnapshotArgs *a = opaque;

    return bdrv_co_snapshot_create(blk_bs(a->blk), a->info, a->errp);
}

int no_coroutine_fn blk_snapshot_create(BlockBackend *blk,
                                        BdrvSnapshotInfo *info,
                                        GError **errp)
{
    SnapshotArgs a = { .blk = blk, .info = info, .errp = errp };

    return aio_run_blocking(blk->ctx, create_entry, &a);
}

static int coroutine_fn goto_entry(void *opaque)
{
    SnapshotArgs *a = opaque;

    return bdrv_co_snapshot_goto(blk_bs(a->blk), a->name, a->errp);
}

int no_coroutine_fn blk_snapshot_goto(BlockBackend *blk,
                                      const char *id_or_name, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .name = id_or_name, .errp = errp };

    return aio_run_blocking(blk->ctx, goto_entry, &a);
}

static int coroutine_fn delete_entry(void *opaque)
{
    SnapshotArgs *a = opaque;

    return bdrv_co_snapshot_delete(blk_bs(a->blk), a->id, a->name, a->errp);
}

int no_coroutine_fn blk_snapshot_delete(BlockBackend *blk, const char *id,
                                        const char *name, GError **errp)
{
    SnapshotArgs a = { .blk = blk, .id = id, .name = name, .errp = errp };

    return aio_run_blocking(blk->ctx, delete_entry, &a);
}

static int coroutine_fn list_entry(void *opaque)
{
    SnapshotArgs *a = opaque;

    return bdrv_co_snapshot_list(blk_bs(a->blk), a->ret, a->errp);
}

int no_coroutine_fn blk_snapshot_list(BlockBackend *blk, GPtrArray **ret,
                                      GError **errp)
{
    SnapshotArgs a = { .blk = blk, .ret = ret, .errp = errp };

    return aio_run_blocking(blk->ctx, list_entry, &a);
}
