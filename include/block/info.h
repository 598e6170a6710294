/* SPDX-License-Identifier: MIT */
/*
 * What there is to tell about an image, for tools that show it, and where each
 * part of a disk comes from. Blocking; not to be called from a coroutine.
 */
#ifndef FIRN_BLOCK_INFO_H
#define FIRN_BLOCK_INFO_H

#include <json-glib/json-glib.h>

#include "block/block.h"
#include "block/snapshot.h"

typedef struct BlkImageInfo {
    char *filename;
    char *format;
    uint64_t virtual_size;
    uint64_t actual_size;       /* bytes that the files take on their disks */
    uint64_t cluster_size;      /* 0: none */
    bool dirty;                 /* not closed cleanly */
    bool corrupt;
    bool encrypted;
    char *backing_file;         /* as the image says, or NULL */
    char *backing_path;         /* the same, relative to nothing but our own
                                   directory, or NULL */
    char *backing_format;       /* as the image says, or NULL */
    JsonObject *specific;       /* facts of this format; NULL: none. In the
                                   order in which to show them */
} BlkImageInfo;

/* Returns 0 with a new description in *@ret, or -errno. Backing files need not
 * be open. Filters hand over to what they filter. */
int no_coroutine_fn blk_image_info(BlockBackend *blk, BlkImageInfo **ret,
                                   GError **errp);
void blk_image_info_free(BlkImageInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlkImageInfo, blk_image_info_free)

typedef struct BlkExtent {
    uint64_t bytes;         /* of which the rest is true */
    uint64_t map;           /* with OFFSET_VALID: where in @filename */
    unsigned flags;         /* BDRV_BLOCK_* */
    unsigned depth;         /* backing files passed over to the one that
                               decides; the deepest when none does */
    const char *filename;   /* of the file with the data; owned by @blk's
                               nodes */
} BlkExtent;

/*
 * Where [@offset, @offset + @bytes) of the disk comes from, at most @max_depth
 * backing files deep (UINT_MAX: all). Without ALLOCATED nothing in those files
 * decides, and a format reads as zeroes (ZERO). Returns 0 or -errno; *@ret describes the first ret->bytes.
 */
int no_coroutine_fn blk_extent(BlockBackend *blk, uint64_t offset,
                               uint64_t bytes, unsigned max_depth,
                               BlkExtent *ret);

#endif
