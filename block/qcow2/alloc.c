/* SPDX-License-Identifier: MIT */
/*
 * Guest writes: allocation, linking, and the pieces of a request. A piece goes
 * through three steps, of which only the middle one is without s->lock (K1):
 *
 *   begin   look up; wait for requests in the way, then look up afresh (K3);
 *           enter s->in_flight; take host clusters
 *   data    copy-on-write and guest data, one request to the file (cow.c)
 *   finish  link the L2 entries (R2: they leave the cache behind a barrier),
 *           queue what they replaced (R3), leave s->in_flight, wake waiters
 *
 * A piece is a run of clusters of one kind:
 *
 *   IN_PLACE  every byte belongs to data of ours alone: the map stays
 *   REUSE     the clusters are ours and something in the way of the write is
 *             not data (a zero flag, subclusters): L2 bits change
 *   NEW       shared, compressed, or nothing: new clusters, old ones go
 *
 * Pieces of one request run beside each other: see qcow2_pieces_start().
 */
#include "qcow2_int.h"
#include "util/aio.h"
#include "util/plant.h"

#define LINK_UNLOCKED \
    (PLANTED(S1_LINK_UNLOCKED) || PLANTED(Q_LOCK_DROPPED_AT_LINK))

/* ---- begin ---- */

static Qcow2WriteKind kind_of(const Qcow2State *s, Qcow2Entry e,
                              uint32_t mask)
{
    if (!(e.desc & QCOW2_COPIED) || !qcow2_entry_has_host(s, e)) {
        return QCOW2_WRITE_NEW;
    }
    if (qcow2_has_subclusters(s)) {
        return (e.bitmap & mask) == mask ? QCOW2_WRITE_IN_PLACE
                                         : QCOW2_WRITE_REUSE;
    }
    return e.desc & QCOW2_ZERO ? QCOW2_WRITE_REUSE : QCOW2_WRITE_IN_PLACE;
}

/* How many of @max clusters from @start on are of the same kind. */
static uint64_t kind_run(Qcow2State *s, Qcow2Write *w, const uint8_t *slice,
                         unsigned index, uint64_t start, uint64_t max)
{
    uint64_t end = w->guest_offset + w->bytes;
    Qcow2Entry first = qcow2_entry_get(s, slice, index);
    uint64_t n = 1;

    w->kind = kind_of(s, first, qcow2_subcluster_mask(s, start,
                                                w->guest_offset, end));
    w->host_offset = first.desc & QCOW2_OFFSET_MASK;
    w->first = w->last = first;
    for (; n < max; n++) {
        Qcow2Entry e = qcow2_entry_get(s, slice, index + n);
        uint64_t cluster = start + (n << s->cluster_bits);
        uint32_t mask = qcow2_subcluster_mask(s, cluster, cluster, end);

        if (kind_of(s, e, mask) != w->kind ||
            (w->kind != QCOW2_WRITE_NEW &&
             !qcow2_entry_continues(s, first, e, n)) ||
            qcow2_entry_fault(s, e, cluster)) {
            break;
        }
        w->last = e;
    }
    return n;
}

/* Find out what kind of write it is, and how much of it. */
static int coroutine_fn write_look_up(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t start = qcow2_cluster_floor(s, w->guest_offset);
    uint64_t bytes = MIN(w->bytes, INT64_MAX);
    uint64_t n = MIN(DIV_ROUND_UP(w->guest_offset - start + bytes,
                                  s->cluster_size),
                     qcow2_slice_left(s, start));
    Qcow2CacheEntry *e;
    unsigned index;
    int ret;

    ret = qcow2_get_slice(s, &s->l1, start, &e, &index);
    if (ret < 0) {
        return ret;
    }
    w->kind = QCOW2_WRITE_NEW;
    w->first = w->last = (Qcow2Entry) { 0 };
    if (e) {
        n = kind_run(s, w, e->data, index, start, n);
        qcow2_cache_put(s, s->l2_cache, e);
    }
    w->bytes = MIN(w->bytes, start + (n << s->cluster_bits) -
                             w->guest_offset);
    return qcow2_check_entry(s, w->first, start);
}

/* Look up, wait for others, and enter s->in_flight. */
static int coroutine_fn write_claim(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t start = qcow2_cluster_floor(s, w->guest_offset);
    uint64_t wanted = w->bytes;
    Qcow2InFlight *other = NULL;
    uint64_t end;

    do {
        int ret = 0;

        if (!PLANTED(S1_STALE_MAPPING) || !other) {
            w->bytes = wanted;
            ret = write_look_up(s, w);
        }
        if (ret < 0) {
            return ret;
        }
        end = qcow2_cluster_ceil(s, w->guest_offset + w->bytes);
        other = qcow2_in_flight_clip(s, start, &end,
                                     w->kind != QCOW2_WRITE_IN_PLACE);
        if (PLANTED(S1_NO_DEPENDENCY_WAIT)) {
            other = NULL;
        }
        if (other) {
            co_queue_wait(&other->waiters, &s->lock); /* K3: look again */
        }
    } while (other);
    w->bytes = MIN(w->bytes, end - w->guest_offset);
    qcow2_in_flight_add(s, &w->range, start, end,
                        w->kind != QCOW2_WRITE_IN_PLACE);
    return 0;
}

/* For the faults of S1_LINK_UNLOCKED and Q_STALE_L2_SLICE: have the slice
 * cached, but do not keep it there. */
static int coroutine_fn link_prepare(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_get_slice(s, &s->l1, w->range.start, &w->stale,
                              &w->stale_index);

    if (ret == 0) {
        qcow2_cache_put(s, s->l2_cache, w->stale);
    }
    return ret;
}

/* Take clusters for a write of the kind NEW; the range may become shorter. */
static int coroutine_fn write_allocate(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2InFlight *r = &w->range;
    uint64_t nb = (r->end - r->start) >> s->cluster_bits;
    int ret;

    if (qcow2_has_data_file(s)) {
        w->host_offset = r->start;
        return 0;
    }
    ret = qcow2_alloc_data(s, nb, &w->host_offset, &nb, &w->fresh);
    if (ret < 0) {
        return ret;
    }
    w->new_clusters = true;
    r->end = r->start + (nb << s->cluster_bits);
    w->bytes = MIN(w->bytes, r->end - w->guest_offset);
    return 0;
}

/* Find out where the data goes; w->range is ours. */
static int coroutine_fn write_place(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    bool link = w->kind != QCOW2_WRITE_IN_PLACE;
    int ret = 0;

    if (link) {
        ret = qcow2_ensure_l2(s, w->guest_offset);
    }
    if (ret == 0 && w->kind == QCOW2_WRITE_NEW) {
        ret = write_allocate(s, w);
    }
    if (ret == 0 && link) {
        qcow2_cow_plan(s, w);
    }
    if ((LINK_UNLOCKED || PLANTED(Q_STALE_L2_SLICE)) && ret == 0 && link) {
        ret = link_prepare(s, w);
    }
    if (ret < 0 || qcow2_has_data_file(s)) {
        return ret;
    }
    return qcow2_check_overlap(s, 0, w->host_offset,
                               w->range.end - w->range.start);
}

/* The range is done; @ret says how. */
static int coroutine_fn write_leave(Qcow2State *s, Qcow2Write *w, int ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    if (ret < 0 && w->new_clusters) {
        qcow2_unalloc(s, w->host_offset,
                      (w->range.end - w->range.start) >> s->cluster_bits);
    }
    qcow2_in_flight_remove(s, &w->range);
    return ret;
}

static int coroutine_fn write_begin(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_check_writable(s);

    ret = ret < 0 ? ret : write_claim(s, w);
    if (ret < 0) {
        return ret;
    }
    ret = write_place(s, w);
    return ret < 0 ? write_leave(s, w, ret) : 0;
}

/* ---- finish ---- */

/* What the entry @old of @cluster becomes. */
static Qcow2Entry linked(const Qcow2State *s, const Qcow2Write *w,
                         uint64_t cluster, Qcow2Entry old)
{
    uint32_t mask = qcow2_subcluster_mask(s, cluster, w->cow_start,
                                          w->cow_end);
    Qcow2Entry e = {
        .desc = (w->host_offset + (cluster - w->range.start)) | QCOW2_COPIED,
    };

    if (qcow2_has_subclusters(s)) {
        e.bitmap = (old.bitmap & ~((uint64_t)mask << 32)) | mask;
    }
    return e;
}

/* R7: no entry has data that its new cluster does not have. It came there by
 * another L1 entry, else s->in_flight had kept it out. */
static int coroutine_fn check_lost(Qcow2State *s, const Qcow2Write *w,
                                   const uint8_t *slice, unsigned index,
                                   uint64_t nb)
    REQUIRES(s->lock)
{
    if (!qcow2_has_subclusters(s) || w->kind != QCOW2_WRITE_NEW) {
        return 0;
    }
    for (uint64_t i = 0; i < nb; i++) {
        uint64_t cluster = w->range.start + (i << s->cluster_bits);
        uint32_t mask = qcow2_subcluster_mask(s, cluster, w->cow_start,
                                              w->cow_end);

        if (qcow2_entry_get(s, slice, index + i).bitmap & UINT32_MAX & ~mask) {
            return qcow2_corruption(s, "the cluster at guest offset %#" PRIx64
                                    " is written by another L1 entry too",
                                    cluster);
        }
    }
    return 0;
}

/* Pin the slice that the write changes. */
static int coroutine_fn link_slice(Qcow2State *s, Qcow2Write *w,
                                   Qcow2CacheEntry **ret, unsigned *ret_index)
    REQUIRES(s->lock) DROPS(s->lock)
{
    if (PLANTED(Q_STALE_L2_SLICE)) {
        *ret = w->stale; /* what it was before the data was written */
        *ret_index = w->stale_index;
        w->stale->pins++;
        return 0;
    }
    return qcow2_get_slice(s, &s->l1, w->range.start, ret, ret_index);
}

/* Put the host clusters into the map. Nothing of ours is lost on failure. */
static int coroutine_fn write_link(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb = (w->range.end - w->range.start) >> s->cluster_bits;
    Qcow2CacheEntry *e;
    unsigned index;
    int ret;

    ret = link_slice(s, w, &e, &index);
    if (ret < 0) {
        return ret;
    }
    assert(e); /* qcow2_ensure_l2() made it */
    ret = check_lost(s, w, e->data, index, nb);
    for (uint64_t i = 0; i < nb && ret == 0; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);

        if (w->kind == QCOW2_WRITE_NEW) {
            qcow2_free_entry(s, old.desc, false); /* R3 */
        }
        qcow2_entry_put(s, e->data, index + i,
                        linked(s, w, w->range.start + (i << s->cluster_bits),
                               old));
    }
    if (ret == 0) {
        qcow2_cache_mark_dirty(s, s->l2_cache, e);
        s->need_barrier = true; /* R1, R2 */
    }
    qcow2_cache_put(s, s->l2_cache, e);
    return ret;
}

/* The fault of S1_LINK_UNLOCKED: the second half runs beside the lock. (What
 * would drop the lock has been done by link_prepare().) */
static int coroutine_fn link_unlocked(Qcow2State *s, Qcow2Write *w) NO_TSA
{
    return write_link(s, w);
}

static int coroutine_fn write_finish(Qcow2State *s, Qcow2Write *w, int ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    if (ret == 0 && w->kind != QCOW2_WRITE_IN_PLACE &&
        !LINK_UNLOCKED) {
        ret = write_link(s, w);
    }
    ret = write_leave(s, w, ret);
    qcow2_relieve(s);
    return ret;
}

/* ---- pieces ---- */

/* The second and third step of a piece that has begun. */
static int coroutine_fn write_piece(Qcow2State *s, Qcow2Write *w)
    EXCLUDES(s->lock)
{
    int ret;

    if (PLANTED(S1_LOCK_ACROSS_DATA)) {
        co_mutex_lock(&s->lock);
    }
    ret = qcow2_cow_write(s, w);
    if (LINK_UNLOCKED && ret == 0 &&
        w->kind != QCOW2_WRITE_IN_PLACE) {
        ret = link_unlocked(s, w);
    }
    if (!PLANTED(S1_LOCK_ACROSS_DATA)) {
        co_mutex_lock(&s->lock);
    }
    ret = write_finish(s, w, ret);
    co_mutex_unlock(&s->lock);
    return ret;
}

typedef struct WriteTask {
    Qcow2State *s;
    Qcow2Write w;
    bool heap;              /* to be freed at the end */
} WriteTask;

static int coroutine_fn write_task(void *opaque) NO_TSA
{
    WriteTask *t = opaque;
    int ret = write_piece(t->s, &t->w);

    if (t->heap) {
        g_free(t);
    }
    return ret;
}

/* The rest of @all behind its first @done bytes. */
static Qcow2Write write_rest(const Qcow2Write *all, uint64_t done)
{
    Qcow2Write w = *all;

    w.guest_offset += done;
    w.bytes -= done;
    w.qiov_offset += done;
    w.from_offset += done;
    return w;
}

/*
 * One piece is the common case and stays on our stack. Of several, all but the
 * last one are tasks.
 */
static int coroutine_fn write_pieces(Qcow2State *s, const Qcow2Write *all)
    EXCLUDES(s->lock)
{
    WriteTask first, *t = &first;
    AioTaskPool *pool = NULL;
    uint64_t done = 0, bytes = all->bytes;
    int ret = 0;

    while (done < bytes && ret == 0) {
        if (done) {
            t = g_new(WriteTask, 1);
        }
        t->s = s;
        t->heap = done != 0;
        t->w = write_rest(all, done);
        co_mutex_lock(&s->lock);
        ret = write_begin(s, &t->w);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            if (t->heap) {
                g_free(t);
            }
            break;
        }
        done += t->w.bytes;
        if (done == bytes) {
            ret = write_task(t);
        } else {
            ret = qcow2_pieces_start(&pool, write_task, t);
        }
    }
    return qcow2_pieces_end(pool, ret);
}

int coroutine_fn qcow2_write_range(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t bytes, QEMUIOVector *qiov)
{
    Qcow2Write w = { .guest_offset = guest_offset, .bytes = bytes,
                     .qiov = qiov };

    return write_pieces(s, &w);
}

int coroutine_fn qcow2_copy_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, BlockDriverState *from,
                                  uint64_t from_offset)
{
    Qcow2Write w = { .guest_offset = guest_offset, .bytes = bytes,
                     .from = from, .from_offset = from_offset };

    return write_pieces(s, &w);
}
