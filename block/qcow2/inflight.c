/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight.
 *
 * An entry of s->in_flight is shared (the request uses the mapping: reads and
 * writes in place) or exclusive (it changes the mapping: allocating writes,
 * zero.c). Exclusive ones exclude all others on the same clusters, so nobody
 * reads or writes a host cluster after it was given up, and two writers of one
 * cluster never allocate it twice:
 *
 *        A: write [0, 4k)                 B: write [4k, 8k), same cluster
 *        begin: exclusive [0, 64k)
 *        data ...                         begin: meets A, waits on A->waiters
 *        finish: L2 linked, B woken
 *                                         begin again: finds A's cluster,
 *                                         COPIED, and writes in place
 *
 * A request whose clusters are not in one run has several pieces. They are
 * looked up, and enter the list, one after the other, and then run beside each
 * other. No piece waits for another one of its own request: two of them share
 * a cluster only when both just read.
 */
#include "qcow2_int.h"
#include "util/plant.h"
#include "util/queue.h"

/* Pieces of one request that run at a time. */
#define MAX_PIECES 8

Qcow2InFlight *qcow2_in_flight_clip(Qcow2State *s, uint64_t start,
                                    uint64_t *end, bool exclusive)
{
    if (PLANTED(Q_DEPENDENCY_NOT_AWAITED)) {
        return NULL;
    }
    if (!exclusive && !s->in_flight_exclusive) {
        return NULL; /* the common case of many readers */
    }
    for (GList *l = s->in_flight.head; l; l = l->next) {
        Qcow2InFlight *r = l->data;

        if ((!exclusive && !r->exclusive) || r->end <= start ||
            r->start >= *end) {
            continue;
        }
        if (r->start <= start) {
            return r;
        }
        *end = r->start;
    }
    return NULL;
}

void qcow2_in_flight_add(Qcow2State *s, Qcow2InFlight *r, uint64_t start,
                         uint64_t end, bool exclusive)
{
    *r = (Qcow2InFlight) { .start = start, .end = end,
                           .exclusive = exclusive };
    r->link.data = r;
    co_queue_init(&r->waiters);
    queue_push_tail_link(&s->in_flight, &r->link);
    s->in_flight_exclusive += exclusive;
}

void qcow2_in_flight_remove(Qcow2State *s, Qcow2InFlight *r)
{
    queue_unlink(&s->in_flight, &r->link);
    s->in_flight_exclusive -= r->exclusive;
    co_queue_restart_all(&r->waiters);
}

/* ---- pieces ---- */

int coroutine_fn qcow2_pieces_start(AioTaskPool **pool, AioTaskFunc *fn,
                                    void *opaque)
{
    if (!*pool) {
        *pool = aio_task_pool_new(MAX_PIECES);
    }
    /* Also behind a failure: @opaque is in flight and has to leave. */
    aio_task_pool_start(*pool, fn, opaque);
    return aio_task_pool_status(*pool);
}

int coroutine_fn qcow2_pieces_end(AioTaskPool *pool, int ret)
{
    int status;

    if (!pool) {
        return ret;
    }
    aio_task_pool_wait_all(pool);
    status = aio_task_pool_status(pool);
    aio_task_pool_free(pool);
    return status < 0 ? status : ret;
}
