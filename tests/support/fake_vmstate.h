/* SPDX-License-Identifier: MIT */
/*
 * "fakevm": a BlockDriver in memory that carries vmstate and snapshots, for
 * tests of the pipeline and of savevm. It logs, holds requests until told in
 * whatever order, and fails what it is told to.
 */
#ifndef FIRN_TESTS_SUPPORT_FAKE_VMSTATE_H
#define FIRN_TESTS_SUPPORT_FAKE_VMSTATE_H

#include "block/block_int.h"

typedef struct FakeRequest {
    bool write;
    uint64_t pos;
    uint64_t bytes;
    const void *base;     /* of the first iovec */
} FakeRequest;

typedef struct FakeSnapshot {
    BdrvSnapshotInfo *info;
    GByteArray *vmstate;
    uint8_t disk;
} FakeSnapshot;

typedef struct FakeVmstate {
    GByteArray *active;      /* vmstate of the active layer */
    uint8_t disk;            /* stands for the disk's content */
    GPtrArray *snapshots;    /* FakeSnapshot */
    FakeSnapshot *selected;  /* NULL: the active layer */
    unsigned next_id;

    GArray *requests;        /* FakeRequest, in the order they came */
    unsigned in_flight;
    unsigned max_in_flight;
    bool hold;               /* requests wait for fake_release() */
    GPtrArray *held;         /* of those that wait */

    unsigned fail_request;   /* the so manieth request from now; 0: none */
    const char *fail_op;     /* "create", "delete", "goto", "list", "select",
                                "discard": fails */
    unsigned fail_op_after;  /* ... after so many that succeed */
    int error;               /* negative errno for both */
    GString *ops;            /* "create:a;" ... as they succeeded */
} FakeVmstate;

/* A new disk of 1 MiB on @ctx, under @wrapper ("raw") or alone (NULL). */
BlockBackend *fake_vmstate_open(AioContext *ctx, const char *wrapper);
/* Its state, through any filters. */
FakeVmstate *fake_vmstate(BlockBackend *blk);

/* Let the held request number @index of fake->held go on; any will do. */
void fake_release(FakeVmstate *fake, unsigned index);
/* Forget what was logged. */
void fake_reset_log(FakeVmstate *fake);
FakeRequest *fake_request(FakeVmstate *fake, unsigned index);

/* Give the disk a snapshot with this vmstate, newest in the list. */
void fake_add_snapshot(FakeVmstate *fake, const char *name, const void *data,
                       size_t bytes);
/* The newest one called @name, or NULL. */
FakeSnapshot *fake_find_snapshot(FakeVmstate *fake, const char *name);

#endif
