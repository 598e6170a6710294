/* SPDX-License-Identifier: MIT */
/*
 * The vmstate pipeline's state, shared by vmstate.c (life cycle),
 * vmstate-save.c (write-behind) and vmstate-load.c (read-ahead).
 *
 * Everything runs on the node's home context, so nothing changes between two
 * yields and there is no lock. After a yield everything may have changed:
 * functions that wait are loops that look at the state afresh.
 *
 * A chunk's life:
 *
 *   save   EMPTY --take--> FILLING --submit--> BUSY --write_task--> EMPTY
 *
 *   load   EMPTY --fill--> BUSY --load_task--> READY --release--> EMPTY
 *                           |          \-----> FAILED --disarm--> EMPTY
 *                         disarm
 *                           v
 *                         STALE --load_task--> EMPTY
 */
#ifndef FIRN_BLOCK_VMSTATE_INT_H
#define FIRN_BLOCK_VMSTATE_INT_H

#include <assert.h>
#include <inttypes.h>

#include "block/block_int.h"
#include "block/vmstate.h"
#include "util/aio-task.h"
#include "util/plant.h"

/* The node that carries vmstate for @bs: itself or a file below; or NULL. */
BlockDriverState *bdrv_vmstate_node(BlockDriverState *bs);

#define VMSTATE_ALIGN 4096
/* Save: cached bytes after which the disk is set to work on them. */
#define VMSTATE_WRITEBACK_BYTES (32 * 1024 * 1024)

typedef enum VmstateChunkState {
    CHUNK_EMPTY,
    CHUNK_FILLING, /* save: the current one */
    CHUNK_BUSY,    /* being written or loaded by a task */
    CHUNK_STALE,   /* load: being loaded, but no longer wanted */
    CHUNK_READY,   /* load: holds [pos, pos + bytes) */
    CHUNK_FAILED,  /* load: @ret says why */
} VmstateChunkState;

typedef struct BdrvVmstate BdrvVmstate;

typedef struct VmstateChunk {
    BdrvVmstate *vms;
    VmstateChunkState state;
    uint8_t *buf;    /* chunk_bytes, page aligned, const */
    uint64_t pos;    /* of buf[0] in the vmstate */
    size_t bytes;    /* save: most that goes in; load: what is loaded */
    size_t used;     /* save: bytes filled; load: bytes consumed */
    int ret;         /* CHUNK_FAILED */
} VmstateChunk;

struct BdrvVmstate {
    BlockDriverState *bs;   /* whose driver does the I/O */
    bool open;              /* calls are accepted: begun and not finalizing */
    bool saving;            /* else loading */
    bool plain;             /* no_readahead */
    unsigned nb_chunks;
    size_t chunk_bytes;
    uint8_t *memory;        /* nb_chunks * chunk_bytes, registered */
    VmstateChunk *chunks;
    VmstateChunk **idle;    /* stack of EMPTY chunks */
    unsigned nb_idle;
    AioTaskPool *pool;
    int ret;                /* first error */
    unsigned users;         /* calls inside the pipeline */
    CoQueue changed;        /* anything below or above has changed */

    /* save */
    VmstateChunk *current;  /* FILLING, or NULL */
    bool reserved;          /* @current is being filled by its reserver */
    uint64_t write_pos;     /* where the run of writes goes on */
    unsigned in_flight;     /* requests for bytes before write_pos */
    uint64_t unflushed;     /* bytes written since the last writeback */
    bool writing_back;      /* one is under way */

    /* load */
    uint64_t size;          /* nothing is read from here on */
    bool armed;             /* there is a window; it grows at next_pos */
    VmstateChunk **window;  /* BUSY, READY, FAILED, by rising pos */
    unsigned nb_window;
    unsigned nb_stale;
    uint64_t next_pos;
    uint64_t run_pos;       /* end of the last plain read */
    bool window_hit;        /* the window was of use since that read */
    VmstateChunk *peeked;   /* pinned: its memory was handed out */
    uint64_t peek_pos;
};

/* What a call does first and last; enter returns -EINVAL or 0. */
int vms_enter(BlockDriverState *bs, bool saving, BdrvVmstate **ret);
void vms_leave(BdrvVmstate *vms);

/* Remember the first error; returns @ret. */
int vms_latch(BdrvVmstate *vms, int ret);
void coroutine_fn vms_wait(BdrvVmstate *vms);
/* Let the loop submit what tasks have queued. */
void coroutine_fn vms_kick(void);

VmstateChunk *vms_take_idle(BdrvVmstate *vms);
void vms_put_idle(VmstateChunk *c);

/*
 * A transfer that goes past the buffers in pieces of up to a chunk, several at
 * once; waits for all of them. Returns 0 or the first error, latched.
 */
int coroutine_fn vms_direct(BdrvVmstate *vms, QEMUIOVector *qiov,
                            size_t qiov_offset, uint64_t pos, size_t bytes);
/* One request to the driver, counted in in_flight, its error latched. */
int coroutine_fn vms_request(BdrvVmstate *vms, uint64_t pos,
                             QEMUIOVector *qiov);

/* vmstate-save.c: hand what is left to the pool. Returns 0 or -errno. */
int coroutine_fn vms_save_tail(BdrvVmstate *vms);
/* vmstate-save.c: @bytes more have reached the file below. */
void vms_written(BdrvVmstate *vms, uint64_t bytes);

#endif
