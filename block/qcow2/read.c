/* SPDX-License-Identifier: MIT */
/*
 * Guest reads. Each piece is looked up, kept from changing by a shared entry
 * of s->in_flight, and read without s->lock (K1), beside the other pieces.
 */
#include "qcow2_int.h"
#include "util/plant.h"

#define LEVELS_PER_STACK 32

/* One read of a backing file that goes on with a fresh stack. */
typedef struct BackingRead {
    Qcow2State *s;
    uint64_t guest_offset;
    QEMUIOVector *qiov;
    Coroutine *waiter;
    bool done;
    int ret;
} BackingRead;

static void coroutine_fn backing_read_entry(void *opaque)
{
    BackingRead *r = opaque;

    r->ret = bdrv_co_preadv(r->s->bs->backing, r->guest_offset,
                            r->qiov->size, r->qiov, 0);
    r->done = true;
    if (r->waiter) {
        aio_co_wake(r->waiter);
    }
}

/* Each level of a backing chain takes a piece of the stack: every so often a
 * new one is begun. */
static int coroutine_fn backing_preadv(Qcow2State *s, uint64_t guest_offset,
                                       QEMUIOVector *qiov)
    EXCLUDES(s->lock)
{
    BackingRead r = { .s = s, .guest_offset = guest_offset, .qiov = qiov };

    if (s->backing_depth % LEVELS_PER_STACK != LEVELS_PER_STACK - 1) {
        return bdrv_co_preadv(s->bs->backing, guest_offset, qiov->size, qiov,
                              0);
    }
    co_enter(co_create(backing_read_entry, &r));
    if (!r.done) {
        r.waiter = co_self();
        co_yield();
    }
    return r.ret;
}

/* What is below this layer, which ends with the disk: vmstate is never there
 * nor is a longer backing file. */
static int coroutine_fn read_backing(Qcow2State *s, uint64_t guest_offset,
                                     QEMUIOVector *qiov, size_t qiov_offset,
                                     uint64_t bytes)
    EXCLUDES(s->lock)
{
    uint64_t size = s->hdr.size;
    uint64_t n = guest_offset < size ? MIN(bytes, size - guest_offset) : 0;
    QEMUIOVector part;
    int ret;

    if (!s->bs->backing) {
        n = 0;
    }
    if (n < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + n, 0, bytes - n);
    }
    if (!n) {
        return 0;
    }
    qemu_iovec_init_slice(&part, qiov, qiov_offset, n);
    BLKDBG_EVENT(s->bs->file, BLKDBG_READ_BACKING_AIO);
    ret = backing_preadv(s, guest_offset, &part);
    qemu_iovec_destroy(&part);
    return ret;
}

int coroutine_fn qcow2_read_mapping(Qcow2State *s, uint64_t guest_offset,
                                    const Qcow2Mapping *m,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    uint64_t bytes)
{
    switch (m->type) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return read_backing(s, guest_offset, qiov, qiov_offset, bytes);
    case QCOW2_CLUSTER_ZERO_PLAIN:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        qemu_iovec_memset(qiov, qiov_offset, 0, bytes);
        return 0;
    case QCOW2_CLUSTER_COMPRESSED:
        return qcow2_read_compressed(s, m, guest_offset, bytes, qiov,
                                     qiov_offset);
    case QCOW2_CLUSTER_NORMAL:
        break;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_READ_AIO);
    return qcow2_data_preadv(s, m->host_offset, bytes, qiov, qiov_offset);
}

/* Look up a piece and keep its mapping from changing. */
static int coroutine_fn read_begin(Qcow2State *s, uint64_t guest_offset,
                                   uint64_t bytes, Qcow2Mapping *m,
                                   Qcow2InFlight *range)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t start = qcow2_cluster_floor(s, guest_offset);
    Qcow2InFlight *other;
    uint64_t end;

    do {
        int ret = qcow2_map(s, &s->l1, guest_offset, bytes, m);

        if (ret < 0) {
            return ret;
        }
        end = qcow2_cluster_ceil(s, guest_offset + m->bytes);
        other = qcow2_in_flight_clip(s, start, &end, false);
        if (other) {
            co_queue_wait(&other->waiters, &s->lock); /* K3: look again */
        }
    } while (other);
    m->bytes = MIN(m->bytes, end - guest_offset);
    qcow2_in_flight_add(s, range, start, end, false);
    return 0;
}

/* One piece of a read. */
typedef struct ReadTask {
    Qcow2State *s;
    Qcow2InFlight range;
    Qcow2Mapping m;
    uint64_t guest_offset;
    QEMUIOVector *qiov;
    size_t qiov_offset;
    bool heap;              /* to be freed at the end */
} ReadTask;

static int coroutine_fn read_task(void *opaque) NO_TSA
{
    ReadTask *t = opaque;
    Qcow2State *s = t->s;
    int ret;

    if (PLANTED(S1_LOCK_ACROSS_DATA)) {
        co_mutex_lock(&s->lock);
    }
    ret = qcow2_read_mapping(s, t->guest_offset, &t->m, t->qiov,
                             t->qiov_offset, t->m.bytes);
    if (!PLANTED(S1_LOCK_ACROSS_DATA)) {
        co_mutex_lock(&s->lock);
    }
    qcow2_in_flight_remove(s, &t->range);
    co_mutex_unlock(&s->lock);
    if (t->heap) {
        g_free(t);
    }
    return ret;
}

/*
 * One piece is the common case and stays on our stack. Of several, all but the
 * last one are tasks.
 */
int coroutine_fn qcow2_read_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, QEMUIOVector *qiov,
                                  size_t qiov_offset)
{
    ReadTask first, *t = &first;
    AioTaskPool *pool = NULL;
    uint64_t done = 0;
    int ret = 0;

    while (done < bytes && ret == 0) {
        if (done) {
            t = g_new(ReadTask, 1);
        }
        t->s = s;
        t->heap = done != 0;
        t->guest_offset = guest_offset + done;
        t->qiov = qiov;
        t->qiov_offset = qiov_offset + done;
        co_mutex_lock(&s->lock);
        ret = read_begin(s, t->guest_offset, bytes - done, &t->m, &t->range);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            if (t->heap) {
                g_free(t);
            }
            break;
        }
        done += t->m.bytes;
        if (done == bytes) {
            ret = read_task(t);
        } else {
            ret = qcow2_pieces_start(&pool, read_task, t);
        }
    }
    return qcow2_pieces_end(pool, ret);
}
