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
 */
#include "qcow2_int.h"

Qcow2InFlight *qcow2_in_flight_clip(Qcow2State *s, uint64_t start,
                                    uint64_t *end, bool exclusive)
{
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
    g_queue_push_tail_link(&s->in_flight, &r->link);
}

void qcow2_in_flight_remove(Qcow2State *s, Qcow2InFlight *r)
{
    g_queue_unlink(&s->in_flight, &r->link);
    co_queue_restart_all(&r->waiters);
}
