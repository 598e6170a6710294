/* SPDX-License-Identifier: MIT */
/*
 * What a guest knows of its disk: the operations of a workload with their
 * places in the log of requests, and what may be found after a power cut at
 * any of those places.
 *
 * An operation that ended before the cut was acknowledged; one that began has
 * happened, or not, or half (a write: any of its sectors). The model follows
 * the events up to the cut; crash_model_disk() and its like say what is right.
 */
#ifndef FIRN_TESTS_CRASH_MODEL_H
#define FIRN_TESTS_CRASH_MODEL_H

#include <glib.h>

#include "tests/support/sector_set.h"

#define CRASH_SECTORS   512         /* the largest guest disk */
#define CRASH_SNAPSHOTS 3
#define CRASH_MAX_VM    8192
#define CRASH_BACKING   UINT32_MAX  /* generation of the backing file */

typedef enum CrashOpType {
    OP_WRITE,
    OP_WRITE_COMPRESSED,
    OP_ZERO,
    OP_DISCARD,
    OP_FLUSH,
    OP_REOPEN,
    OP_SNAP_CREATE,
    OP_SNAP_GOTO,
    OP_SNAP_DELETE,
    OP_VM_ABANDON,
    OP_RESIZE,
    OP_REPAIR,
    OP_AMEND,
    OP_COMMIT,
    OP_MAKE_EMPTY,
    OP_BITMAP_ADD,
    OP_BITMAP_REMOVE,
    OP_BITMAP_CLEAR,
} CrashOpType;
#define CRASH_OPS (OP_BITMAP_CLEAR + 1)

const char *crash_op_name(CrashOpType type);

typedef struct CrashOp {
    CrashOpType type;
    unsigned lba;           /* range, in sectors; RESIZE: n is the new size */
    unsigned n;
    unsigned flags;         /* BDRV_REQ_*, or a preallocation mode */
    uint32_t gen;           /* of what is written, or of the vmstate */
    unsigned snap;          /* index; AMEND: which amendment */
    unsigned vm_size;
    bool weak;              /* a discard that may do nothing */
    uint32_t began;         /* model's clock */
    int ret;
} CrashOp;

typedef struct CrashEvent {
    unsigned pos;           /* length of the log then */
    bool end;
    CrashOp *op;
} CrashEvent;

typedef enum CrashState { ABSENT, PRESENT, UNSURE } CrashState;

typedef struct CrashSnap {
    CrashState state;
    unsigned size;          /* sectors */
    unsigned vm_size;
    uint32_t vm_seed;
    SectorSet disk[CRASH_SECTORS];
} CrashSnap;

/* Kept in memory from its adding or removing to the next close. */
typedef struct CrashBitmap {
    CrashState state;
    bool present;           /* in memory */
    bool bad;               /* left by a crash: can only be removed */
    uint8_t must[CRASH_SECTORS];    /* sectors that were written */
    uint8_t may[CRASH_SECTORS];     /* or may have been */
} CrashBitmap;

typedef struct CrashModel {
    uint32_t clock;
    uint32_t backing;       /* generation below: CRASH_BACKING or 0 */
    unsigned sizes[4];      /* any of these, in sectors; the last is newest */
    unsigned nb_sizes;
    SectorSet now[CRASH_SECTORS];
    CrashSnap snap[CRASH_SNAPSHOTS];
    CrashBitmap bitmap;
} CrashModel;

/* A disk of @sectors that holds generation @gen; everything else is zero. */
void crash_model_init(CrashModel *m, unsigned sectors, uint32_t gen);
void crash_model_event(CrashModel *m, const CrashEvent *e);
const char *crash_snap_name(unsigned i);
/* How many of @n sectors in @buf are not what @want allows; *@ret_first is the
 * first one. */
unsigned crash_model_foreign(const SectorSet *want, const uint8_t *buf,
                             unsigned n, unsigned *ret_first);

#endif
