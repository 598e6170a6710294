/* SPDX-License-Identifier: MIT */
/*
 * Block status across nodes: down the chain of backing files, and from a
 * mapped extent into the file that holds it. Space that a format has
 * preallocated and nobody has written is a hole there, and reads as zeroes.
 */
#include <string.h>

#include "block/block_int.h"

BdrvChild *bdrv_data_child(BlockDriverState *bs)
{
    for (GList *l = bs->children; l; l = l->next) {
        BdrvChild *child = l->data;

        if (!strcmp(child->name, "data-file")) {
            return child;
        }
    }
    return bs->file;
}

int coroutine_fn bdrv_co_find_holes(BlockDriverState *bs, int flags,
                                    uint64_t map, uint64_t *bytes)
{
    const BdrvChild *child = bdrv_data_child(bs);
    uint64_t n;
    int ret;

    if (!(flags & BDRV_BLOCK_RECURSE)) {
        return flags;
    }
    flags &= ~BDRV_BLOCK_RECURSE;
    if (map >= child->bs->total_bytes) {
        return flags | BDRV_BLOCK_ZERO; /* behind the end of the file */
    }
    n = MIN(*bytes, child->bs->total_bytes - map);
    ret = bdrv_co_block_status(child->bs, map, n, &n, NULL);
    if (ret < 0) {
        return ret;
    }
    *bytes = n;
    return flags | (ret & BDRV_BLOCK_ZERO);
}

BlockDriverState *bdrv_behind(BlockDriverState *bs, int *status)
{
    while (bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    if (bs->backing) {
        return bs->backing->bs;
    }
    *status |= bs->drv->co_change_backing_file ? BDRV_BLOCK_ZERO : 0;
    return NULL;
}

int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            uint64_t *ret_bytes,
                                            uint64_t *ret_map)
{
    BlockDriverState *behind;
    uint64_t map = 0;
    int ret;

    for (;;) {
        ret = bdrv_co_block_status(bs, offset, bytes, &bytes, &map);
        if (ret < 0) {
            return ret;
        }
        if (ret & BDRV_BLOCK_ALLOCATED) {
            break;
        }
        behind = bdrv_behind(bs, &ret);
        if (!behind) {
            break;
        }
        bs = behind;
    }
    ret = bdrv_co_find_holes(bs, ret, map, &bytes);
    if (ret < 0) {
        return ret;
    }
    *ret_bytes = bytes;
    if (ret_map) {
        *ret_map = map;
    }
    return ret;
}
