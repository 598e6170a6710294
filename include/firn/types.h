/* SPDX-License-Identifier: MIT */
/*
 * Types that the library's face shares with the layers below it: plain data,
 * no function of the library is declared here.
 */
#ifndef FIRN_TYPES_H
#define FIRN_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a save or a load has done so far. */
typedef struct FirnProgress {
    uint64_t bytes;       /* bytes of the vmstate stream written or read */
    uint64_t pages;       /* RAM pages written or read, zero pages too */
    uint64_t done;        /* save: RAM bytes saved; load: stream bytes read */
    uint64_t total;       /* what @done ends at */
    double elapsed_s;     /* seconds since the operation began */
    double bytes_per_s;   /* mean rate of @bytes */
    double eta_s;         /* seconds left by the mean rate; < 0: not known */
} FirnProgress;

/*
 * Called every 50 ms or 16 MiB of stream, whichever comes first, and once at
 * the end with @done == @total when the operation succeeds. Runs on the thread
 * that drives the operation and must not block; @progress is valid during the
 * call only. It may ask for cancellation.
 */
typedef void FirnProgressFn(const FirnProgress *progress, void *opaque);

/*
 * How a machine's state goes through the block layer. All zero means the
 * measured defaults; a NULL pointer in place of the struct does too.
 */
typedef struct FirnVmstateParams {
    unsigned workers;     /* requests in flight, 1..64; 0: 8 */
    uint64_t chunk_bytes; /* bytes in one of them, a multiple of 4096 up to
                             64 MiB; 0: max(1 MiB, cluster size) */
    bool no_readahead;    /* no write-behind and no read-ahead either: plain
                             requests of 32 KiB, one after the other */
    bool fresh_ram;       /* load: no page of the machine's RAM was written
                             since it was mapped, so that pages that are zero
                             in the snapshot need no look at all */
    FirnProgressFn *progress; /* NULL: nobody wants to know */
    void *opaque;             /* for @progress */
} FirnVmstateParams;

#ifdef __cplusplus
}
#endif

#endif
