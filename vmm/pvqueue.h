/* SPDX-License-Identifier: MIT */
/*
 * The guest's disk queue: a paravirtual device reduced to its core. The guest
 * submits requests on buffers in its RAM, they run in parallel, and it waits
 * until all are complete. It keeps no state between batches, so it has none
 * to save: a machine is stopped only where its queues are empty.
 */
#ifndef VMM_PVQUEUE_H
#define VMM_PVQUEUE_H

#include <pthread.h>
#include <stdbool.h>

#include <firn/firn.h>

typedef struct PvQueue {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned in_flight;     /* lock */
} PvQueue;

typedef enum PvType { PV_READ, PV_WRITE, PV_FLUSH } PvType;

typedef struct PvRequest {
    PvType type;
    FirnDisk *disk;
    uint64_t offset;
    void *buf;              /* guest RAM */
    size_t bytes;
    int ret;                /* 0 or -errno, once complete */
    PvQueue *queue;         /* the queue's */
} PvRequest;

void pvqueue_init(PvQueue *q);
/* The queue must be empty. */
void pvqueue_cleanup(PvQueue *q);

/* Start @req, which must stay until pvqueue_wait(). Guest's thread. */
void pvqueue_submit(PvQueue *q, PvRequest *req);

/* Wait until all that was submitted is complete. */
void pvqueue_wait(PvQueue *q);

#endif
