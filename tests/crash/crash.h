/* SPDX-License-Identifier: MIT */
/*
 * Power cuts under generated workloads. One run:
 *
 *   prepare  make an image and use it a little        crash_prepare()
 *   record   a seeded workload, every request kept    crash_record()
 *   judge    each crash state of each cut             crash_judge()
 *
 * Everything follows from the configuration and the seed, except the order in
 * which threads compress; so a failure names both, and the cut.
 */
#ifndef FIRN_TESTS_CRASH_CRASH_H
#define FIRN_TESTS_CRASH_CRASH_H

#include "tests/unit/block/qcow2/qcow2_fixture.h"

#include "model.h"
#include "tests/support/qcow2_checker.h"
#include "tests/support/record_driver.h"

/* What a workload may do. */
enum {
    CRASH_SNAP      = 1 << 0,
    CRASH_VM        = 1 << 1,   /* snapshots with vmstate */
    CRASH_RESIZE    = 1 << 2,
    CRASH_WEAK      = 1 << 3,   /* discards may do nothing */
    CRASH_COMPRESS  = 1 << 4,
    CRASH_SHRINK    = 1 << 5,
    CRASH_PREALLOC  = 1 << 6,   /* growing allocates, in all ways */
    CRASH_COMMIT    = 1 << 7,   /* neither with snapshots nor with resizing */
    CRASH_EMPTY     = 1 << 8,
    CRASH_AMEND     = 1 << 9,
    CRASH_RAW       = 1 << 10,  /* the second disk alone is the guest's disk */
    CRASH_LUKS      = 1 << 12,
    CRASH_BITMAP    = 1 << 11,  /* neither applying snapshots nor resizing */
};

typedef struct CrashConfig {
    const char *name;
    const char *create;         /* options of "rec:c" */
    const char *open;
    unsigned sectors;           /* of the guest disk */
    unsigned cluster;           /* sectors */
    unsigned features;
    unsigned filler;            /* KiB written behind CRASH_SECTORS before */
    enum {
        CRASH_ALONE,
        CRASH_BELOW,            /* "rec:b" is its backing file */
        CRASH_DATA_FILE,        /* "rec:d" has the guest's data */
    } second;
} CrashConfig;

extern const CrashConfig crash_configs[];
extern const unsigned crash_nb_configs;

typedef struct CrashCounts {
    unsigned workloads;
    unsigned ops[CRASH_OPS];
    unsigned refused[CRASH_OPS];    /* of these, as they should be */
    unsigned requests[RECORD_TYPES];
    unsigned states[RECORD_MODES];
    unsigned snapshots;         /* looked at whole, with their vmstate */
    unsigned overwritten;       /* used after the cut, and checked again */
    unsigned leaky;
    unsigned dirty;
    unsigned checked;           /* by the driver's own check */
    unsigned repaired;
    unsigned rebuilt;           /* cut while all refcounts were made anew */
    unsigned bitmaps;           /* found consistent, and right */
    unsigned peer;              /* judged by qemu-img too */
} CrashCounts;

#define CRASH_DISKS 2

typedef struct CrashWorld {
    const CrashConfig *config;
    uint32_t seed;
    GRand *rand;                /* of the workload */
    RecordDisk *disk[CRASH_DISKS];  /* the image first */
    unsigned nb_disks;
    BlockBackend *blk;
    RecordLog *log;
    GPtrArray *ops;             /* CrashOp */
    GArray *events;             /* CrashEvent, while recording */
    bool recording;
    uint32_t gen;
    CrashModel *live;           /* while the workload runs */
    CrashModel *model;          /* at the cut */
    guint next_event;
    CrashCounts *counts;
    bool closed;                /* the cut lies behind the last close */
    char where[240];            /* for messages */
} CrashWorld;

CrashWorld *crash_world_new(const CrashConfig *c, uint32_t seed,
                            CrashCounts *counts);
void crash_world_free(CrashWorld *w);
void crash_prepare(CrashWorld *w);
void crash_record(CrashWorld *w, unsigned nb_ops);
/* The same around whatever @run does with w->blk. */
void crash_record_around(CrashWorld *w, unsigned open_flags,
                         void (*run)(CrashWorld *w, unsigned arg),
                         unsigned arg);
/* Instead of playing what was recorded: the disks and the model are at a crash
 * state of it, as the generator says, and can be recorded again. */
void crash_wreck(CrashWorld *w);
/* Make w->model that of cut @k, not before the present one. */
void crash_follow(CrashWorld *w, unsigned k);
/* @snapshot: NULL, or the name of the one to open. */
BlockBackend *crash_open(CrashWorld *w, const char *snapshot, unsigned flags);

/* Every disk of the world: places to go back to. */
typedef struct CrashMark {
    RecordMark disk[CRASH_DISKS];
} CrashMark;
CrashMark crash_mark(CrashWorld *w);
void crash_undo(CrashWorld *w, CrashMark m);

/* Print the workload, then fail the test. */
void crash_fail(CrashWorld *w, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;

#define CRASH_BITMAP_NAME "dirty"
#define CRASH_GRANULE     4     /* sectors */
/* Is it there? *@ret_inconsistent: and worthless? */
bool crash_find_bitmap(CrashWorld *w, bool *ret_inconsistent);
/* Of the open image, against w->model. @dropped: opening it has done that. */
void crash_judge_bitmap(CrashWorld *w, bool dropped);

/* How closely a state is looked at. */
enum {
    CRASH_LOOK_SNAPSHOTS = 1 << 0,
    CRASH_LOOK_USE       = 1 << 1,
    CRASH_LOOK_PEER      = 1 << 2,
    CRASH_LOOK_CHECK     = 1 << 3,
    CRASH_LOOK_REPAIR    = 1 << 4,
    CRASH_LOOK_LOAD      = 1 << 5,  /* snapshots opened, not applied */
};
/* The crash state that the disks hold, against w->model. */
void crash_judge(CrashWorld *w, unsigned look);
/* Its parts. */
void crash_check_bytes(CrashWorld *w, const char *what,
                       Qcow2CheckResult *ret);
void crash_judge_repair(CrashWorld *w);
void crash_judge_guest(CrashWorld *w, unsigned look);
void crash_close(CrashWorld *w);

/* rebuild.c: repairs of damaged refcounts are cut. */
void crash_try_rebuild(const CrashConfig *c, uint32_t seed,
                       CrashCounts *counts);

#endif
