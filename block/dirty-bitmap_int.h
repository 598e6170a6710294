/* SPDX-License-Identifier: MIT */
/*
 * A dirty bitmap as the block layer and the drivers that keep it see it.
 * Nothing here yields unless it says so.
 */
#ifndef FIRN_BLOCK_DIRTY_BITMAP_INT_H
#define FIRN_BLOCK_DIRTY_BITMAP_INT_H

#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "util/sparse-bits.h"

struct BdrvDirtyBitmap {
    char *name;
    unsigned granularity_bits;
    uint64_t size;          /* of the disk, bytes */
    SparseBits *bits;
    bool enabled;
    bool persistent;
    bool inconsistent;      /* bits are meaningless and all 0 */
    bool changed;           /* bits are not what the image has */

    /*
     * Until the driver has loaded it, a bitmap from an image is what is in
     * @bits or in the first @stored_bits bits in the image: marking needs no
     * I/O. A smaller disk lowers @stored_bits.
     */
    bool stored;
    uint64_t stored_bits;
    void *opaque;           /* the driver's; NULL: not in the image */
};

static inline uint64_t bdrv_bitmap_nb_bits(uint64_t disk_bytes,
                                           unsigned granularity_bits)
{
    return DIV_ROUND_UP(disk_bytes, 1ULL << granularity_bits);
}

/* --- For drivers --- */

/*
 * Add a persistent bitmap to the end of bs->dirty_bitmaps. The caller has made
 * sure that the name is new and that BDRV_BITMAP_MAX_BITS are enough, unless
 * @inconsistent. It starts without bits; set stored and opaque.
 */
BdrvDirtyBitmap *bdrv_bitmap_new_persistent(BlockDriverState *bs,
                                            const char *name,
                                            unsigned granularity_bits,
                                            uint64_t disk_bytes, bool enabled,
                                            bool inconsistent);
/* Contents turned out to be unusable. */
void bdrv_bitmap_set_inconsistent(BdrvDirtyBitmap *bm);

/* --- For the layer --- */

/* [@offset, + @bytes) of @bs may have changed. */
void bdrv_bitmaps_track(BlockDriverState *bs, uint64_t offset,
                        uint64_t bytes);
/* Can the disk become something else altogether? 0, or -EBUSY: a bitmap is
 * inconsistent. */
int bdrv_bitmaps_check_consistent(BlockDriverState *bs, GError **errp);
/* Can the disk become @size bytes? 0, -EBUSY as above, -EFBIG, or -ENOTSUP: a
 * disk of no bytes has nothing to store a bitmap in. */
int bdrv_bitmaps_check_resize(BlockDriverState *bs, uint64_t size,
                              GError **errp);
/* The disk is @size bytes now; what was added counts as written. */
void bdrv_bitmaps_resize(BlockDriverState *bs, uint64_t size);
void bdrv_bitmaps_free(BlockDriverState *bs);

#endif
