/* SPDX-License-Identifier: MIT */
/* Bitmaps: load, look into, merge, change, record writes, store at close. */
#include "qcow2-fuzz.h"

#include "block/dirty-bitmap.h"

#define MAX_TRIED 4

static void look(BlockBackend *blk, const char *name)
{
    uint64_t offset = 0, bytes = 1;

    (void)blk_bitmap_count(blk, name, &bytes, NULL);
    for (unsigned i = 0; i < 20 && bytes; i++) {
        if (blk_bitmap_next_dirty(blk, name, offset, &offset, &bytes,
                                  NULL) < 0) {
            break;
        }
        offset += bytes;
    }
}

static void change(BlockBackend *blk, const char *name, unsigned i)
{
    switch (i) {
    case 0:
        (void)blk_bitmap_merge(blk, "fuzz", blk, name, NULL);
        break;
    case 1:
        (void)blk_bitmap_clear(blk, name, NULL);
        break;
    case 2:
        (void)blk_bitmap_disable(blk, name, NULL);
        break;
    default:
        (void)blk_bitmap_remove(blk, name, NULL);
        break;
    }
}

static void use(BlockBackend *blk, bool write)
{
    g_autoptr(GPtrArray) list = NULL;

    if (blk_bitmap_list(blk, &list, NULL) < 0) {
        return;
    }
    if (write) {
        (void)blk_bitmap_add(blk, "fuzz", 512, BDRV_BITMAP_PERSISTENT, NULL);
    }
    for (unsigned i = 0; i < MIN(list->len, MAX_TRIED); i++) {
        BdrvBitmapInfo *info = g_ptr_array_index(list, i);

        look(blk, info->name);
        if (write) {
            change(blk, info->name, i);
        }
    }
}

void fuzz_image(void)
{
    for (unsigned write = 0; write < 2; write++) {
        BlockBackend *blk = fuzz_open("l2-cache-entry-size=512",
                                      write ? BDRV_O_RDWR : 0);

        if (!blk) {
            continue;
        }
        use(blk, write);
        if (write) {
            fuzz_write_some(blk);
        }
        (void)blk_close(blk);
    }
}
