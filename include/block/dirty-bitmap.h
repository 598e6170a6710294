/* SPDX-License-Identifier: MIT */
/*
 * Dirty bitmaps: which parts of a disk have been written since a bitmap was
 * made or cleared. A disk may have many, told apart by name; each has a
 * granularity, the bytes that one bit stands for (a power of two from 512 to
 * 2 GiB).
 *
 * An enabled bitmap records every write, zero write and discard of its disk,
 * failed ones too (they may have happened), and what a resize adds; a disabled
 * one is left alone. vmstate is not recorded. Where memory is short, or the
 * disk is turned into a snapshot, too much is marked, never too little.
 *
 * A persistent bitmap lives in the image (qcow2 version 3). What happens to it
 * while the image is open reaches the image when that is closed, all at once;
 * after a crash it is "inconsistent": it records nothing, has no contents and
 * can only be removed. As long as there is one, the disk cannot be resized or
 * reverted to a snapshot.
 *
 * The disk of a BlockBackend means its root node, or what the filters there
 * are on top of. Functions without _co_ are blocking forms. They wait while
 * the tree is drained, may do I/O (contents are read when somebody asks for
 * them) and serialise among themselves; requests go on meanwhile.
 *
 * Errors, besides those said below: -ENOENT (no such bitmap), -EINVAL
 * (inconsistent), -EROFS (a change of a persistent bitmap of a read-only
 * image), -EIO or what else reading the image gave; nothing has changed then.
 */
#ifndef FIRN_BLOCK_DIRTY_BITMAP_H
#define FIRN_BLOCK_DIRTY_BITMAP_H

#include "block/block.h"

#define BDRV_BITMAP_MAX_NAME        1023
#define BDRV_BITMAP_MIN_GRANULARITY 512
#define BDRV_BITMAP_MAX_GRANULARITY (1ULL << 31)
/* Bits of one bitmap. */
#define BDRV_BITMAP_MAX_BITS        (1ULL << 32)

/* Flags of blk_co_bitmap_add(). */
enum {
    BDRV_BITMAP_PERSISTENT = 1u << 0,
    BDRV_BITMAP_DISABLED   = 1u << 1,
};

typedef struct BdrvBitmapInfo {
    char *name;
    uint64_t granularity;   /* bytes */
    bool persistent;
    bool enabled;           /* flag "auto" of the image */
    bool inconsistent;      /* flag "in-use" of an image */
} BdrvBitmapInfo;

void bdrv_bitmap_info_free(BdrvBitmapInfo *info);

/*
 * Make an empty bitmap. @granularity 0: the cluster size of the image, but
 * from 4 KiB to 64 KiB. -EEXIST; -EINVAL (granularity, or a name that is not
 * 1 to 1023 bytes long); -EFBIG (more than BDRV_BITMAP_MAX_BITS bits, or more
 * bitmaps than an image holds); -ENOTSUP (the format keeps no bitmaps).
 */
int coroutine_fn blk_co_bitmap_add(BlockBackend *blk, const char *name,
                                   uint64_t granularity, unsigned flags,
                                   GError **errp);
/* Inconsistent ones too. */
int coroutine_fn blk_co_bitmap_remove(BlockBackend *blk, const char *name,
                                      GError **errp);
int coroutine_fn blk_co_bitmap_clear(BlockBackend *blk, const char *name,
                                     GError **errp);
int coroutine_fn blk_co_bitmap_enable(BlockBackend *blk, const char *name,
                                      GError **errp);
int coroutine_fn blk_co_bitmap_disable(BlockBackend *blk, const char *name,
                                       GError **errp);
/*
 * Mark in @name what is marked in bitmap @src_name of @src, which may be the
 * same disk or another one of the same size (else -EINVAL). Granularities may
 * differ.
 */
int coroutine_fn blk_co_bitmap_merge(BlockBackend *blk, const char *name,
                                     BlockBackend *src, const char *src_name,
                                     GError **errp);
/* Mark [@offset, @offset + @bytes), which lies within the disk (-EINVAL). */
int coroutine_fn blk_co_bitmap_set(BlockBackend *blk, const char *name,
                                   uint64_t offset, uint64_t bytes,
                                   GError **errp);
/* Unmark what lies wholly within that range, for one who has copied it. */
int coroutine_fn blk_co_bitmap_reset(BlockBackend *blk, const char *name,
                                     uint64_t offset, uint64_t bytes,
                                     GError **errp);

/* A new array of BdrvBitmapInfo, which frees its elements, in *@ret.
 * Inconsistent ones too. */
int coroutine_fn blk_co_bitmap_list(BlockBackend *blk, GPtrArray **ret,
                                    GError **errp);
/* Bytes that are marked, in whole granules even at the end of the disk. */
int coroutine_fn blk_co_bitmap_count(BlockBackend *blk, const char *name,
                                     uint64_t *ret_bytes, GError **errp);
/*
 * The first marked area in [@offset, end of disk), cut to that: *@ret_bytes
 * from *@ret_offset on. *@ret_bytes 0: there is none.
 */
int coroutine_fn blk_co_bitmap_next_dirty(BlockBackend *blk, const char *name,
                                          uint64_t offset,
                                          uint64_t *ret_offset,
                                          uint64_t *ret_bytes,
                                          GError **errp);

int no_coroutine_fn blk_bitmap_add(BlockBackend *blk, const char *name,
                                   uint64_t granularity, unsigned flags,
                                   GError **errp);
int no_coroutine_fn blk_bitmap_remove(BlockBackend *blk, const char *name,
                                      GError **errp);
int no_coroutine_fn blk_bitmap_clear(BlockBackend *blk, const char *name,
                                     GError **errp);
int no_coroutine_fn blk_bitmap_enable(BlockBackend *blk, const char *name,
                                      GError **errp);
int no_coroutine_fn blk_bitmap_disable(BlockBackend *blk, const char *name,
                                       GError **errp);
/* Both backends are on the same context. */
int no_coroutine_fn blk_bitmap_merge(BlockBackend *blk, const char *name,
                                     BlockBackend *src, const char *src_name,
                                     GError **errp);
int no_coroutine_fn blk_bitmap_set(BlockBackend *blk, const char *name,
                                   uint64_t offset, uint64_t bytes,
                                   GError **errp);
int no_coroutine_fn blk_bitmap_reset(BlockBackend *blk, const char *name,
                                     uint64_t offset, uint64_t bytes,
                                     GError **errp);
int no_coroutine_fn blk_bitmap_list(BlockBackend *blk, GPtrArray **ret,
                                    GError **errp);
int no_coroutine_fn blk_bitmap_count(BlockBackend *blk, const char *name,
                                     uint64_t *ret_bytes, GError **errp);
int no_coroutine_fn blk_bitmap_next_dirty(BlockBackend *blk,
                                          const char *name, uint64_t offset,
                                          uint64_t *ret_offset,
                                          uint64_t *ret_bytes,
                                          GError **errp);

#endif
