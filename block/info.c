/* SPDX-License-Identifier: MIT */
/*
 * Describing images: what the generic layer knows, and what the driver adds.
 */
#include "block/info.h"

#include "block/block_int.h"

static BlockDriverState *described_node(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);

    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs;
}

uint64_t bdrv_allocated_bytes(const BlockDriverState *bs)
{
    uint64_t sum = 0;

    if (bs->drv->allocated_bytes) {
        return bs->drv->allocated_bytes(bs);
    }
    for (GList *l = bs->children; l; l = l->next) {
        const BdrvChild *child = l->data;

        if (child->role != BDRV_CHILD_BACKING) {
            sum += bdrv_allocated_bytes(child->bs);
        }
    }
    return sum;
}

typedef struct InfoArgs {
    BlockDriverState *bs;
    BlkImageInfo *info;
    GError **errp;
} InfoArgs;

static int coroutine_fn info_entry(void *opaque)
{
    InfoArgs *a = opaque;
    BlockDriverState *bs = a->bs;
    BlkImageInfo *info = a->info;
    BdrvInfo facts = { 0 };
    int ret = 0;

    info->filename = bdrv_full_name(bs);
    info->format = g_strdup(bs->drv->format_name);
    info->virtual_size = bs->total_bytes;
    info->actual_size = bdrv_allocated_bytes(bs);
    if (bdrv_co_get_info(bs, &facts) == 0) {
        info->cluster_size = facts.cluster_size;
        info->dirty = facts.is_dirty;
    }
    if (bs->drv->co_describe) {
        ret = bs->drv->co_describe(bs, info, a->errp);
    }
    if (ret == 0 && info->backing_file) {
        info->backing_path = bdrv_combine_filename(bs->filename,
                                                   info->backing_file);
    }
    return ret;
}

int no_coroutine_fn blk_image_info(BlockBackend *blk, BlkImageInfo **ret,
                                   GError **errp)
{
    g_autoptr(BlkImageInfo) info = g_new0(BlkImageInfo, 1);
    InfoArgs a = { described_node(blk), info, errp };
    int err = aio_run_blocking(blk->ctx, info_entry, &a);

    if (err == 0) {
        *ret = g_steal_pointer(&info);
    }
    return err;
}

void blk_image_info_free(BlkImageInfo *info)
{
    if (!info) {
        return;
    }
    g_free(info->filename);
    g_free(info->format);
    g_free(info->backing_file);
    g_free(info->backing_path);
    g_free(info->backing_format);
    g_clear_pointer(&info->specific, json_object_unref);
    g_free(info);
}

typedef struct ExtentArgs {
    BlockBackend *blk;
    uint64_t offset;
    uint64_t bytes;
    unsigned max_depth;
    BlkExtent *ret;
} ExtentArgs;

static int coroutine_fn extent_entry(void *opaque)
{
    ExtentArgs *a = opaque;
    BlockDriverState *bs = blk_bs(a->blk);
    BlkExtent e = { .bytes = a->bytes };
    const BdrvChild *data;
    int ret;

    for (;;) {
        while (bs->drv->is_filter && bs->file) {
            bs = bs->file->bs;
        }
        ret = bdrv_co_block_status(bs, a->offset, e.bytes, &e.bytes, &e.map);
        if (ret < 0) {
            return ret;
        }
        e.flags = ret;
        if ((ret & BDRV_BLOCK_ALLOCATED) || !bs->backing ||
            e.depth == a->max_depth) {
            break;
        }
        /* Behind the end of a shorter backing file this node decides. */
        if (a->offset >= bs->backing->bs->total_bytes) {
            break;
        }
        bs = bs->backing->bs;
        e.bytes = MIN(e.bytes, bs->total_bytes - a->offset);
        e.depth++;
    }
    data = bdrv_data_child(bs);
    e.filename = data == bs->file ? bs->filename : data->bs->filename;
    ret = bdrv_co_find_holes(bs, e.flags, e.map, &e.bytes);
    if (ret < 0) {
        return ret;
    }
    /* What no format decides reads as zeroes. */
    e.flags = ret & BDRV_BLOCK_ALLOCATED || !bs->drv->co_change_backing_file
              ? ret : ret | BDRV_BLOCK_ZERO;
    *a->ret = e;
    return 0;
}

int no_coroutine_fn blk_extent(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, unsigned max_depth,
                               BlkExtent *ret)
{
    ExtentArgs a = { blk, offset, bytes, max_depth, ret };

    return aio_run_blocking(blk->ctx, extent_entry, &a);
}
