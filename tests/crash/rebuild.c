/* SPDX-License-Identifier: MIT */
/*
 * Power cuts while damaged refcounts are repaired. The guest's data was there
 * before and is there at any cut: a second repair finds its way, and what it
 * leaves is clean and reads as before.
 */
#include "crash.h"

#include "util/be.h"

#define CHECK_FLAGS (BDRV_O_RDWR | BDRV_O_CHECK)

typedef enum Damage {
    ALL_ZERO,           /* every counter of every block */
    SOME_ZERO,
    NO_BLOCK,           /* the first entry of the refcount table is gone */
    UNALIGNED,          /* it points somewhere */
    RANDOM_BYTES,       /* in the first block */
} Damage;
#define DAMAGES (RANDOM_BYTES + 1)

static void damage(CrashWorld *w, Damage kind)
{
    RecordDisk *d = w->disk[0];
    uint8_t *entry = d->mem + be64_get(d->mem + 48);
    uint64_t block = be64_get(entry);
    unsigned n = w->config->cluster * SECTOR_BYTES;

    switch (kind) {
    case ALL_ZERO:
        memset(d->mem + block, 0, n);
        break;
    case SOME_ZERO:
        memset(d->mem + block + g_rand_int_range(w->rand, 0, 16), 0, 6);
        break;
    case NO_BLOCK:
        be64_put(entry, 0);
        break;
    case UNALIGNED:
        be64_put(entry, block + 512);
        break;
    case RANDOM_BYTES:
        for (unsigned i = 0; i < 20; i++) {
            d->mem[block + i] = g_rand_int_range(w->rand, 0, 256);
        }
        break;
    }
}

static void repair_it(CrashWorld *w, unsigned arg)
{
    crash_judge_repair(w);
}

/* What is there is repaired, then whole. */
static void judge(CrashWorld *w)
{
    CrashMark m = crash_mark(w);

    w->blk = crash_open(w, NULL, CHECK_FLAGS);
    crash_judge_repair(w);
    crash_close(w);
    w->blk = crash_open(w, NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
    crash_judge_guest(w, CRASH_LOOK_SNAPSHOTS | CRASH_LOOK_USE);
    crash_close(w);
    crash_undo(w, m);
    w->counts->rebuilt++;
}

static void try_cuts(CrashWorld *w, Damage kind)
{
    for (unsigned k = 0; k <= w->log->entries->len; k++) {
        record_seek(w->log, k);
        for (unsigned i = 0; i < 3 && (!i || w->log->loose->len); i++) {
            RecordMode mode = i ? (RecordMode)g_rand_int_range(w->rand, 1,
                                                               RECORD_MODES)
                                : RECORD_ALL_ENDED;
            CrashMark m = crash_mark(w);

            snprintf(w->where, sizeof(w->where), "rebuild %s:%u, damage %d, "
                     "cut %u of %u, state %u (%s)", w->config->name, w->seed,
                     kind, k, w->log->entries->len, i, record_mode_name(mode));
            record_build(w->log, mode, w->rand);
            judge(w);
            crash_undo(w, m);
        }
    }
}

void crash_try_rebuild(const CrashConfig *c, uint32_t seed,
                       CrashCounts *counts)
{
    for (Damage kind = 0; kind < DAMAGES; kind++) {
        CrashWorld *w = crash_world_new(c, seed + kind, counts);

        crash_prepare(w);
        damage(w, kind);
        crash_record_around(w, CHECK_FLAGS, repair_it, 0);
        try_cuts(w, kind);
        crash_world_free(w);
    }
}
