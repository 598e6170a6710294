/* SPDX-License-Identifier: MIT */
/*
 * What the files of the face share: the objects behind the opaque types and
 * the two ways of getting work onto a context's thread.
 */
#ifndef FIRN_FIRN_INT_H
#define FIRN_FIRN_INT_H

#include <pthread.h>

#include <firn/firn.h>

#include "block/block.h"
#include "util/aio.h"
#include "util/co-lock.h"
#include "util/compiler.h"

struct FirnContext {
    FirnContextMode mode;   /* const */
    AioContext *aio;        /* const after firn_context_new() */
    pthread_t owner;        /* const: the context's thread */
    gint users;             /* atomic: open disks and machines */
    unsigned dispatching;   /* owner only: callbacks may be on the stack */
    bool stop;              /* owner only: THREAD mode, leave the loop */
};

struct FirnDisk {
    FirnContext *ctx;       /* const */
    BlockBackend *blk;      /* const after open */
    bool writable;          /* const after open */
    bool closed;            /* written by the context's thread in close */
    gint in_flight;         /* atomic: accepted requests without callback */
    gint users;             /* atomic: machines that use the disk */
    CoQueue idle;           /* context's thread: wait for in_flight == 0 */
};

/*
 * Run @fn(@opaque) in a coroutine on the thread of @ctx and wait for it.
 * Returns what it returned, or -EDEADLK from a callback of @ctx (then @errp
 * is set and @fn was not called). Blocks.
 */
typedef int coroutine_fn FirnCoFunc(void *opaque);
int no_coroutine_fn firn_run(FirnContext *ctx, FirnCoFunc *fn, void *opaque,
                             GError **errp);

/* Run @fn(@opaque) soon on the thread of @ctx, outside coroutines. */
void firn_post(FirnContext *ctx, AioBHFunc *fn, void *opaque);

/* A FirnSnapshotInfo * array as the public functions return it. */
GPtrArray *firn_snapshot_infos_new(const GPtrArray *bdrv_infos);

#endif
