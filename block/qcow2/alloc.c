/* SPDX-License-Identifier: MIT */
/*
 * Guest writes: allocation, copy-on-write, linking.
 *
 * A piece of a request goes through three steps, of which only the middle one
 * is without s->lock (K1):
 *
 *   begin   look up; wait for requests in the way, then look up afresh (K3);
 *           enter s->in_flight; take host clusters
 *   data    copy-on-write and guest data, one request to the file
 *   finish  link the L2 entries (R2: they leave the cache behind a barrier),
 *           queue what they replaced (R3), leave s->in_flight, wake waiters
 */
#include "qcow2_int.h"
#include "util/aio.h"
#include "util/plant.h"

/* ---- begin ---- */

/* One piece of a guest write. */
typedef struct Qcow2Write {
    Qcow2InFlight range;    /* whole clusters around the bytes */
    Qcow2Mapping old;       /* as it was when the range became ours */
    uint64_t guest_offset;
    uint64_t bytes;
    uint64_t host_offset;   /* of range.start */
    bool link;              /* L2 entries change when the data is written */
    bool new_clusters;      /* host clusters are ours until linked */
} Qcow2Write;

static bool in_place(const Qcow2Mapping *m)
{
    return m->type == QCOW2_CLUSTER_NORMAL && m->copied;
}

/* Look up, wait for others, and enter s->in_flight. */
static int coroutine_fn write_claim(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t start = qcow2_cluster_floor(s, w->guest_offset);
    Qcow2InFlight *other = NULL;
    uint64_t end;

    do {
        int ret = 0;

        if (!PLANTED(S1_STALE_MAPPING) || !other) {
            ret = qcow2_map(s, &s->l1, w->guest_offset, w->bytes, &w->old);
        }
        if (ret < 0) {
            return ret;
        }
        end = qcow2_cluster_ceil(s, w->guest_offset + w->old.bytes);
        other = qcow2_in_flight_clip(s, start, &end, !in_place(&w->old));
        if (PLANTED(S1_NO_DEPENDENCY_WAIT)) {
            other = NULL;
        }
        if (other) {
            co_queue_wait(&other->waiters, &s->lock); /* K3: look again */
        }
    } while (other);
    w->link = !in_place(&w->old);
    w->bytes = MIN(w->old.bytes, end - w->guest_offset);
    qcow2_in_flight_add(s, &w->range, start, end, w->link);
    return 0;
}

/* For the fault of S1_LINK_UNLOCKED: have the slice cached. */
static int coroutine_fn link_prepare(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int ret = qcow2_get_slice(s, &s->l1, w->range.start, &e, &index);

    if (ret == 0) {
        qcow2_cache_put(s, s->l2_cache, e);
    }
    return ret;
}

/* Find out where the data goes; w->range is ours. */
static int coroutine_fn write_place(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2InFlight *r = &w->range;
    uint64_t nb = (r->end - r->start) >> s->cluster_bits;
    int ret;

    w->host_offset = w->old.host_offset - (w->guest_offset - r->start);
    if (w->link) {
        ret = qcow2_ensure_l2(s, w->guest_offset);
        if (ret < 0) {
            return ret;
        }
    }
    if (w->link && !(w->old.type == QCOW2_CLUSTER_ZERO_ALLOC &&
                     w->old.copied)) {
        ret = qcow2_alloc_run(s, nb, &w->host_offset, &nb);
        if (ret < 0) {
            return ret;
        }
        w->new_clusters = true;
        r->end = r->start + (nb << s->cluster_bits);
        w->bytes = MIN(w->bytes, r->end - w->guest_offset);
    }
    if (PLANTED(S1_LINK_UNLOCKED) && w->link) {
        ret = link_prepare(s, w);
        if (ret < 0) {
            return ret;
        }
    }
    return qcow2_check_overlap(s, 0, w->host_offset,
                               nb << s->cluster_bits);
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

/* ---- data ---- */

/* Old contents of [@guest_offset, + @bytes), in one cluster of our range. */
static int coroutine_fn cow_read(Qcow2State *s, const Qcow2Write *w,
                                 uint64_t guest_offset, uint8_t *buf,
                                 uint64_t bytes)
    EXCLUDES(s->lock)
{
    Qcow2Mapping m;
    QEMUIOVector qiov;
    int ret;

    if (!bytes) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_map(s, &s->l1, guest_offset, bytes, &m);
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    assert(m.bytes == bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    if (m.type == QCOW2_CLUSTER_NORMAL) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_COW_READ);
    }
    return qcow2_read_mapping(s, guest_offset, &m, &qiov, 0, bytes);
}

/* Guest data with what surrounds it in its clusters, as one write. */
static int coroutine_fn write_merged(Qcow2State *s, Qcow2Write *w,
                                     QEMUIOVector *qiov, size_t qiov_offset)
    EXCLUDES(s->lock)
{
    uint64_t start = w->range.start, end = w->range.end;
    uint64_t tail_start = w->guest_offset + w->bytes;
    uint64_t head = w->guest_offset - start, tail = end - tail_start;
    uint8_t *buf = blk_try_memalign(head + tail);
    QEMUIOVector all;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = cow_read(s, w, start, buf, head);
    ret = ret < 0 ? ret : cow_read(s, w, tail_start, buf + head, tail);
    if (ret == 0) {
        qemu_iovec_init(&all, qiov->niov + 2);
        if (head) {
            qemu_iovec_add(&all, buf, head);
        }
        qemu_iovec_concat(&all, qiov, qiov_offset, w->bytes);
        if (tail) {
            qemu_iovec_add(&all, buf + head, tail);
        }
        BLKDBG_EVENT(s->bs->file, BLKDBG_COW_WRITE);
        ret = qcow2_data_pwritev(s, w->host_offset, end - start, &all, 0);
        qemu_iovec_destroy(&all);
    }
    free(buf);
    return ret;
}

static int coroutine_fn write_data(Qcow2State *s, Qcow2Write *w,
                                   QEMUIOVector *qiov, size_t qiov_offset)
    EXCLUDES(s->lock)
{
    uint64_t head = w->guest_offset - w->range.start;

    if (w->link && w->bytes != w->range.end - w->range.start) {
        return write_merged(s, w, qiov, qiov_offset);
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_WRITE_AIO);
    return qcow2_data_pwritev(s, w->host_offset + head, w->bytes, qiov,
                              qiov_offset);
}

/* ---- finish ---- */

/* Put the host clusters into the map. Nothing of ours is lost on failure. */
static int coroutine_fn write_link(Qcow2State *s, Qcow2Write *w)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb = (w->range.end - w->range.start) >> s->cluster_bits;
    Qcow2CacheEntry *e;
    unsigned index;
    int ret;

    ret = qcow2_get_slice(s, &s->l1, w->range.start, &e, &index);
    if (ret < 0) {
        return ret;
    }
    assert(e); /* qcow2_ensure_l2() made it */
    for (uint64_t i = 0; i < nb; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);
        uint64_t host = w->host_offset + (i << s->cluster_bits);

        if ((old.desc & QCOW2_COMPRESSED) ||
            host != (old.desc & QCOW2_OFFSET_MASK)) {
            qcow2_free_entry(s, old.desc, false); /* R3 */
        }
        qcow2_entry_put(s, e->data, index + i,
                        (Qcow2Entry) { .desc = host | QCOW2_COPIED });
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    s->need_barrier = true; /* R1, R2 */
    return 0;
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
    if (ret == 0 && w->link && !PLANTED(S1_LINK_UNLOCKED)) {
        ret = write_link(s, w);
    }
    ret = write_leave(s, w, ret);
    qcow2_relieve(s);
    return ret;
}

int coroutine_fn qcow2_write_range(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t bytes, QEMUIOVector *qiov)
{
    uint64_t done = 0;
    int ret = 0;

    co_mutex_lock(&s->lock);
    while (done < bytes && ret == 0) {
        Qcow2Write w = { .guest_offset = guest_offset + done,
                         .bytes = bytes - done };

        ret = write_begin(s, &w);
        if (ret < 0) {
            break;
        }
        if (!PLANTED(S1_LOCK_ACROSS_DATA)) {
            co_mutex_unlock(&s->lock);
        }
        ret = write_data(s, &w, qiov, done);
        if (PLANTED(S1_LINK_UNLOCKED) && ret == 0 && w.link) {
            ret = link_unlocked(s, &w);
        }
        if (!PLANTED(S1_LOCK_ACROSS_DATA)) {
            co_mutex_lock(&s->lock);
        }
        ret = write_finish(s, &w, ret);
        done += w.bytes;
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
