/* SPDX-License-Identifier: MIT */
/*
 * What the explorer plays with: an image of a known layout, the operations
 * that meet on it, and what each of them did in one schedule.
 *
 * The disk is seen as cells of half a cluster. A cell holds one number over
 * and over, so that its contents are a number (or CELL_TORN). Of each image
 * these cells are watched; U is unallocated, P private, S shared with snapshot
 * "s1", Z a zero cluster with storage, C compressed:
 *
 *   slice 0: cells  0 1   2 3   4 5   6 7   8 9   10 11   12 13   14 15
 *                    U     P     S     Z     C      U       S       P
 *   slice 1: cells 16 17 (S)      slice 2: cells 18 19 (S)
 *
 * A slice is what one entry of the L2 cache holds; there are two entries.
 */
#ifndef FIRN_TESTS_EXPLORE_WORLD_H
#define FIRN_TESTS_EXPLORE_WORLD_H

#include "block/qcow2/qcow2_int.h"
#include "tests/explore/disk.h"
#include "tests/explore/track.h"

#define MAX_OPS 3
#define NB_CELLS 20
#define CELL_ZERO 0ull
#define CELL_TORN UINT64_MAX

/* ---- images ---- */

typedef enum ImageKind {
    IMAGE_512,
    IMAGE_1K,
    IMAGE_SUB,      /* 16k, subclusters of 512 bytes */
    IMAGE_REFS,     /* 512 bytes, and more refcount blocks than the cache of
                       them has entries */
    NB_IMAGES,
} ImageKind;

typedef enum SetupKind {
    SETUP_COLD,     /* nothing cached */
    SETUP_DIRTY,    /* both L2 entries in use, one of them dirty */
    SETUP_SHARED,   /* as cold, but the snapshot is the last thing that was
                       done: L2 tables are shared, too */
    NB_SETUPS,
} SetupKind;

typedef struct Layout {
    uint64_t cluster_size;
    uint64_t cell_size;
    uint64_t slice_size;    /* guest bytes */
    uint64_t disk_size;
} Layout;

const char *image_kind_name(ImageKind kind);
const char *setup_kind_name(SetupKind kind);
Layout image_layout(ImageKind kind);
uint64_t cell_offset(const Layout *l, unsigned cell);
/* The number that @stamp, which stands for a writer, puts into a cell. */
uint64_t cell_value(unsigned stamp, unsigned cell);
void cells_fill(const Layout *l, void *buf, unsigned first, unsigned n,
                unsigned stamp);
uint64_t cell_decode(const Layout *l, const void *buf);

/* ---- operations ---- */

typedef enum OpKind {
    OP_ALLOC,       /* write one half of an unallocated cluster */
    OP_HALF,        /* write the other half */
    OP_OVERLAP,     /* write over that, and two more clusters */
    OP_COW,         /* write half of a shared cluster */
    OP_COMPRESS,    /* write an unallocated cluster, compressed */
    OP_ZERO,
    OP_DISCARD,
    OP_READ,
    OP_MISS,        /* read what needs an L2 slice that is not cached */
    OP_FLUSH,
    OP_CREATE,      /* snapshot */
    OP_DELETE,      /* snapshot s1 */
    OP_RESIZE,
    OP_VMSAVE,
    NB_OPS,
} OpKind;

typedef struct World World;

struct Op {
    OpKind kind;
    unsigned index;
    World *world;
    Coroutine *co;
    bool started;
    bool ended;
    unsigned start_seq;     /* of one clock for all operations */
    unsigned end_seq;
    int ret;
    uint64_t seen[NB_CELLS];    /* of a read */
    uint64_t children;      /* what its coroutines that have ended did */
    unsigned last_run;      /* when it last went on, by the same clock */
    void *buf;
};

typedef struct OpInfo {
    const char *name;
    unsigned first, nb;     /* cells it reads or writes; nb 0: none */
    int coroutine_fn (*run)(Op *op);
    bool zeroes;            /* what it writes */
} OpInfo;

extern const OpInfo op_info[NB_OPS];

typedef struct Scenario {
    ImageKind image;
    SetupKind setup;
    unsigned nb_ops;
    OpKind kinds[MAX_OPS];
} Scenario;

struct World {
    const Scenario *scenario;
    Layout layout;
    BlockBackend *blk;
    Op ops[MAX_OPS];
    unsigned clock;
    bool failed;                        /* a request was made to fail */
    uint64_t final[NB_CELLS];           /* active layer on disk */
    uint64_t vmstate;                   /* its first cell, or CELL_ZERO */
    uint64_t created[MAX_OPS][NB_CELLS]; /* in snapshot opN */
    char *error;                        /* first thing that went wrong */
};

#define STAMP_OP 16         /* of operation 0 */
#define STAMP_VMSTATE 96

/* What the cells hold before the operations. */
void cells_before(const Scenario *sc, uint64_t *cells);

/* Prepare the images; free them. */
void world_prepare(void);
void world_cleanup(void);

/* Open a fresh image and do what the setup wants; from then on requests
 * wait. */
void world_open(World *w, const Scenario *sc);
void op_start(Op *op);
/* All operations have ended: look at everything and close. */
void world_close(World *w);
/* The same without looking. */
void world_abandon(World *w);
void G_GNUC_PRINTF(2, 3) world_fail(World *w, const char *fmt, ...);

/* ---- model.c ---- */

/* Are results and contents what some serial order gives? */
void model_check(World *w);
/* A request has failed: is there nothing that nobody has written? */
void model_check_failed(World *w);

#endif
