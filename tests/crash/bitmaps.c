/* SPDX-License-Identifier: MIT */
/* A persistent bitmap after a power cut: in use, or right. */
#include "crash.h"

#include "block/dirty-bitmap.h"

bool crash_find_bitmap(CrashWorld *w, bool *ret_inconsistent)
{
    g_autoptr(GPtrArray) list = NULL;
    bool found = false;

    q_check(blk_bitmap_list(w->blk, &list, NULL), NULL);
    for (guint i = 0; i < list->len; i++) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, i);

        if (!strcmp(info->name, CRASH_BITMAP_NAME)) {
            found = true;
            *ret_inconsistent = info->inconsistent;
        }
    }
    return found;
}

static void load_bits(CrashWorld *w, uint8_t *bits)
{
    uint64_t start, bytes, pos = 0;
    uint64_t end = CRASH_SECTORS * SECTOR_BYTES;

    while (pos < end) {
        q_check(blk_bitmap_next_dirty(w->blk, CRASH_BITMAP_NAME, pos, &start,
                                      &bytes, NULL), NULL);
        if (!bytes) {
            return;
        }
        pos = start + bytes;
        for (uint64_t o = start; o < MIN(pos, end); o += SECTOR_BYTES) {
            bits[o / SECTOR_BYTES] = 1;
        }
    }
}

static bool any(const uint8_t *sectors, unsigned granule)
{
    return memchr(sectors + granule * CRASH_GRANULE, 1, CRASH_GRANULE) != NULL;
}

void crash_judge_bitmap(CrashWorld *w, bool dropped)
{
    const CrashBitmap *b = &w->model->bitmap;
    uint8_t bits[CRASH_SECTORS] = { 0 };
    bool inconsistent = false;
    bool found = crash_find_bitmap(w, &inconsistent);

    if (found ? b->state == ABSENT : b->state == PRESENT && !dropped) {
        crash_fail(w, "the bitmap is %sthere", found ? "" : "not ");
    }
    if (w->closed && b->state == PRESENT && !b->bad &&
        (!found || inconsistent)) {
        crash_fail(w, "a clean close has not stored the bitmap");
    }
    if (!found || inconsistent) {
        return;
    }
    load_bits(w, bits);
    for (unsigned i = 0; i < CRASH_SECTORS / CRASH_GRANULE; i++) {
        bool is = any(bits, i);

        if (is ? !any(b->may, i) : any(b->must, i)) {
            crash_fail(w, "granule %u of the bitmap is %d", i, is);
        }
    }
    w->counts->bitmaps++;
}
