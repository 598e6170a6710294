/* SPDX-License-Identifier: MIT */
/*
 * What the native guest does in a step, and where in guest RAM it keeps its
 * state. guest.c decides when steps run.
 */
#ifndef VMM_WORKLOAD_H
#define VMM_WORKLOAD_H

#include "guest.h"
#include "pvqueue.h"

/*
 * Guest RAM:
 *
 *   address      what
 *   0            one page, never written
 *   4096         GuestState
 *   +            generation of every RAM block (uint32_t)
 *   +            DiskEntry of every block of disk 0, disk 1, ...
 *   +            buffers of the disk queue
 *   64 KiB up    RAM blocks, to the end
 *
 * The addresses follow from the sizes of RAM and disks, never from RAM.
 */
enum {
    GUEST_STATE_ADDR = 4096,
    RAM_BLOCK_BYTES = 64 * 1024,
    DISK_BLOCK_BYTES = 16 * 1024,
    DISK_MAX_BLOCKS = 16384,
    NB_BUFFERS = 16,            /* of DISK_BLOCK_BYTES */
};

#define GUEST_MAGIC UINT64_C(0x6669726e67737431) /* "firngst1" */

typedef enum GuestPhase {
    PHASE_SCAN,                 /* note what the disks hold */
    PHASE_FILL,                 /* fill RAM */
    PHASE_RUN,                  /* write and verify */
} GuestPhase;

typedef struct GuestState {
    uint64_t magic;
    uint64_t memory_bytes;
    uint64_t nb_disks;
    uint64_t disk_bytes[GUEST_MAX_DISKS];
    uint64_t seed;
    uint64_t nonce;             /* random, chosen at boot */
    uint64_t counter;           /* steps in PHASE_RUN */
    uint64_t random;            /* state of the generator of choices */
    uint64_t phase;             /* GuestPhase */
    uint64_t scan_disk;         /* PHASE_SCAN: next block */
    uint64_t scan_block;
    uint64_t fill_blocks;       /* PHASE_FILL: up to here */
    uint64_t filled;            /* next block */
    uint64_t ram_verified;      /* blocks, since boot */
    uint64_t disk_verified;
    uint64_t errors;
    uint64_t last_report;       /* tick of the last line */
} GuestState;

/* A disk block that the guest has not written holds what it held at boot. */
typedef struct DiskEntry {
    uint32_t generation;        /* 0: not written, DISK_UNKNOWN: failed */
    uint32_t boot_hash;         /* of the content at boot */
} DiskEntry;

#define DISK_UNKNOWN UINT32_MAX

typedef struct WorkloadDisk {
    FirnDisk *disk;
    uint64_t bytes;
    uint64_t nb_blocks;
    uint64_t stride;            /* bytes from one block to the next */
    DiskEntry *entries;         /* guest RAM */
} WorkloadDisk;

typedef struct Workload {
    GuestConfig config;
    GuestState *state;          /* guest RAM, as the next three */
    uint32_t *ram_generations;
    uint8_t *buffers;
    uint8_t *blocks;
    uint64_t nb_blocks;         /* of RAM */
    WorkloadDisk disks[GUEST_MAX_DISKS];
    PvQueue queue;
} Workload;

/* Lay out RAM. Returns 0 or -errno with @errp set. */
int workload_init(Workload *w, const GuestConfig *config, GError **errp);
void workload_cleanup(Workload *w);

/* Write the state of a guest that was just switched on. */
void workload_boot(Workload *w);

/* Does RAM hold a guest that fits this machine? */
bool workload_fits(const Workload *w);

/*
 * One step; no disk request is in flight before and after. Returns true when
 * the next should follow at once, false to wait for the next tick.
 */
bool workload_step(Workload *w);

/* See guest_verify(). */
void workload_verify(Workload *w, GuestVerify *ret);

#endif
