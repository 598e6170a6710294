/* SPDX-License-Identifier: MIT */
/*
 * Where streams of compressed clusters go: one behind the other in host
 * clusters, each of which counts the streams that touch it.
 *
 * s->pack_next is the byte behind the last stream, always inside a cluster
 * that is in use; 0: there is none. A stream that does not fit into the rest
 * of it goes on in the next host cluster if that is free, else it begins in
 * one of its own. A host cluster whose count cannot go up is closed.
 *
 * The open cluster is ours only as long as a stream in it is referred to: when
 * its count drops to 0, refcount.c calls qcow2_pack_closed(). Requests take
 * turns (s->packing), so nothing else moves s->pack_next.
 */
#include "qcow2_int.h"

void qcow2_pack_closed(Qcow2State *s, uint64_t host_offset)
{
    if (s->pack_next &&
        qcow2_cluster_floor(s, s->pack_next) == host_offset) {
        s->pack_next = 0;
    }
}

/* Go on behind a stream that ends at @end. */
static void set_next(Qcow2State *s, uint64_t end) REQUIRES(s->lock)
{
    s->pack_next = IS_ALIGNED(end, s->cluster_size) ? 0 : end;
}

/* Place @bytes from the open cluster on; *@ret_offset 0: not there. *@fresh:
 * the cluster behind it, when we have counted it and not used it. */
static int coroutine_fn place_open(Qcow2State *s, uint64_t bytes,
                                   uint64_t *ret_offset, uint64_t *fresh)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t at = s->pack_next;
    uint64_t next = qcow2_cluster_ceil(s, at);
    bool ok = true;
    int ret = 0;

    if (at + bytes > next) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC_BYTES);
        ret = qcow2_alloc_at(s, next, &ok);
        if (ret < 0 || !ok) {
            return ret;
        }
        *fresh = next;
        qcow2_decoded_drop(s, next, s->cluster_size);
    }
    if (s->pack_next != at) {
        return 0; /* closed meanwhile */
    }
    ret = qcow2_count_open(s, &ok);
    if (ret == 0 && ok) {
        *ret_offset = at;
        *fresh = 0;
        set_next(s, at + bytes);
    }
    return ret;
}

static int coroutine_fn place_fresh(Qcow2State *s, uint64_t bytes,
                                    uint64_t fresh, uint64_t *ret_offset)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb;

    if (!fresh) {
        int ret;

        BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC_BYTES);
        ret = qcow2_alloc_run(s, 1, &fresh, &nb);
        if (ret < 0) {
            return ret;
        }
        qcow2_decoded_drop(s, fresh, s->cluster_size);
    }
    *ret_offset = fresh;
    set_next(s, fresh + bytes);
    return 0;
}

void coroutine_fn qcow2_pack_begin(Qcow2State *s)
{
    while (s->packing) {
        co_queue_wait(&s->packing_queue, &s->lock);
    }
    s->packing = true;
}

void coroutine_fn qcow2_pack_end(Qcow2State *s)
{
    s->packing = false;
    co_queue_next(&s->packing_queue);
}

int coroutine_fn qcow2_pack(Qcow2State *s, uint64_t bytes,
                            uint64_t *ret_offset)
{
    uint64_t offset = 0, fresh = 0;
    int ret = 0;

    assert(s->packing && bytes > 0 && bytes < s->cluster_size);
    if (s->pack_next) {
        ret = place_open(s, bytes, &offset, &fresh);
    }
    if (ret == 0 && !offset) {
        ret = place_fresh(s, bytes, fresh, &offset);
    } else if (ret < 0 && fresh) {
        qcow2_unalloc(s, fresh, 1);
    }
    if (ret < 0) {
        return ret;
    }
    if (offset + bytes > qcow2_compressed_limit(s)) {
        qcow2_unpack(s, offset, bytes);
        return -EFBIG;
    }
    *ret_offset = offset;
    return 0;
}

void coroutine_fn qcow2_unpack(Qcow2State *s, uint64_t offset,
                               uint64_t bytes)
{
    uint64_t first = qcow2_cluster_floor(s, offset);

    qcow2_unalloc(s, first,
                  (qcow2_cluster_ceil(s, offset + bytes) - first)
                  >> s->cluster_bits);
}
