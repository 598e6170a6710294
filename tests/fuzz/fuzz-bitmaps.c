/* SPDX-License-Identifier: MIT */
/* The bitmap directory, tables and bits: read, change, store, read again. */
#include "qcow2-fuzz.h"

#include "block/dirty-bitmap.h"

#define MAX_TRIED 6

/* Ask for contents. */
static void look_at(BlockBackend *blk, const char *name)
{
    uint64_t offset = 0, bytes = 0;

    (void)blk_bitmap_count(blk, name, &bytes, NULL);
    for (unsigned i = 0; i < 20; i++) {
        if (blk_bitmap_next_dirty(blk, name, offset, &offset, &bytes,
                                  NULL) < 0 || !bytes) {
            return;
        }
        offset += bytes;
    }
}

/* Something else for each bitmap. */
static void change(BlockBackend *blk, const char *name, unsigned i)
{
    switch (i % 6) {
    case 0:
        look_at(blk, name);
        break;
    case 1:
        (void)blk_bitmap_reset(blk, name, 0, blk_getlength(blk), NULL);
        break;
    case 2:
        (void)blk_bitmap_merge(blk, "fuzz", blk, name, NULL);
        (void)blk_bitmap_disable(blk, name, NULL);
        break;
    case 3:
        (void)blk_bitmap_remove(blk, name, NULL);
        break;
    case 4:
        (void)blk_bitmap_set(blk, name, 4096, 512, NULL);
        (void)blk_bitmap_enable(blk, name, NULL);
        break;
    default:
        (void)blk_bitmap_clear(blk, name, NULL);
        break;
    }
}

static void visit(BlockBackend *blk,
                  void (*fn)(BlockBackend *b, const char *name, unsigned i))
{
    GPtrArray *list;

    if (blk_bitmap_list(blk, &list, NULL) < 0) {
        return;
    }
    for (unsigned i = 0; i < MIN(list->len, MAX_TRIED); i++) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, i);

        fn(blk, info->name, i);
    }
    g_ptr_array_unref(list);
}

static void look(BlockBackend *blk, const char *name, unsigned i)
{
    look_at(blk, name);
}

void fuzz_image(void)
{
    BlockBackend *blk = fuzz_open("l2-cache-entry-size=512", BDRV_O_RDWR);

    if (blk) {
        (void)blk_bitmap_add(blk, "fuzz", 0, BDRV_BITMAP_PERSISTENT, NULL);
        fuzz_write_some(blk);
        visit(blk, change);
        (void)blk_truncate(blk, blk_getlength(blk) / 1024 * 1024 + 2048,
                           BDRV_PREALLOC_OFF, NULL);
        (void)blk_close(blk);
    }
    blk = fuzz_open("", 0);
    if (blk) {
        visit(blk, look);
        (void)blk_close(blk);
    }
}
