/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters: writing.
 *
 * A request is done in batches, each inside one L2 slice:
 *
 *   claim   wait for requests in the way, enter s->in_flight exclusively;
 *           see which clusters have a place already; have the L2 table
 *   encode  jobs of several clusters, in the thread pool, at the same time;
 *           without s->lock (K1)
 *   place   host bytes for the streams (pack.c), host clusters for what does
 *           not get smaller
 *   write   what lies side by side on the host as one request; without s->lock
 *   link    L2 entries; they leave the cache behind a barrier (R1, R2); the
 *           places that clusters had are given up behind that (R3)
 *
 * Data that does not get smaller replaces what there is, as any write does. A
 * stream does so only if asked to (BDRV_REQ_REPLACE): others may rely on the
 * refusal.
 *
 * Whatever fails before linking is undone: the clusters stay as they were.
 */
#include "qcow2_int.h"
#include "util/aio-task.h"
#include "util/thread-pool.h"

#define BATCH_CLUSTERS 128
#define BATCH_BYTES    ((uint64_t)4 * 1024 * 1024)
#define JOB_BYTES      ((uint64_t)64 * 1024)
#define MAX_JOBS       8
/* Less than this is not worth a thread. */
#define INLINE_BYTES   2048

/* One cluster of a batch. */
typedef struct Piece {
    const uint8_t *data;    /* stream, or the cluster as it is */
    uint64_t bytes;
    uint64_t host_offset;   /* 0: not placed */
    bool stream;
} Piece;

typedef struct Batch {
    const Qcow2State *s;
    Qcow2InFlight range;
    unsigned n;             /* clusters */
    bool taken[BATCH_CLUSTERS]; /* has a place in the file already */
    uint8_t *in;            /* @n clusters of guest data, zero-padded */
    uint8_t *out;           /* room for @n streams */
    Piece piece[BATCH_CLUSTERS];
} Batch;

/* ---- claim ---- */

static int coroutine_fn check_targets(Qcow2State *s, Batch *b)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int ret = qcow2_get_slice(s, &s->l1, b->range.start, &e, &index);

    memset(b->taken, 0, sizeof(b->taken));
    if (ret < 0 || !e) {
        return ret;
    }
    for (unsigned i = 0; i < b->n && ret == 0; i++) {
        Qcow2Entry entry = qcow2_entry_get(s, e->data, index + i);

        ret = qcow2_check_entry(s, entry,
                                b->range.start + ((uint64_t)i
                                                  << s->cluster_bits));
        b->taken[i] = entry.desc & (QCOW2_OFFSET_MASK | QCOW2_COMPRESSED);
    }
    qcow2_cache_put(s, s->l2_cache, e);
    return ret;
}

/* Make up to @max clusters from @start on ours. */
static int coroutine_fn batch_claim(Qcow2State *s, Batch *b, uint64_t start,
                                    uint64_t max)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2InFlight *other;
    uint64_t end;
    int ret;

    max = MIN(max, MIN(BATCH_CLUSTERS, qcow2_slice_left(s, start)));
    max = MIN(max, MAX(1, BATCH_BYTES >> s->cluster_bits));
    do {
        ret = qcow2_check_writable(s);
        if (ret < 0) {
            return ret;
        }
        end = start + (max << s->cluster_bits);
        other = qcow2_in_flight_clip(s, start, &end, true);
        if (other) {
            co_queue_wait(&other->waiters, &s->lock); /* K3: look again */
        }
    } while (other);
    qcow2_in_flight_add(s, &b->range, start, end, true);
    b->n = (end - start) >> s->cluster_bits;
    ret = check_targets(s, b);
    ret = ret < 0 ? ret : qcow2_ensure_l2(s, start);
    if (ret < 0) {
        qcow2_in_flight_remove(s, &b->range);
    }
    return ret;
}

/* ---- encode ---- */

/* Some clusters of a batch, for one thread. */
typedef struct EncodeJob {
    Batch *b;
    unsigned first;
    unsigned n;
} EncodeJob;

static int encode_job(void *opaque)
{
    EncodeJob *j = opaque;
    Batch *b = j->b;
    size_t cs = b->s->cluster_size;

    for (unsigned i = j->first; i < j->first + j->n; i++) {
        uint8_t *out = b->out + i * cs;
        ssize_t n = qcow2_codec_encode(b->s->hdr.compression_type,
                                       b->in + i * cs, cs, out, cs - 1);

        if (n < 0 && n != -ENOSPC) {
            return n;
        }
        b->piece[i] = (Piece) {
            .stream = n > 0,
            .data = n > 0 ? out : b->in + i * cs,
            .bytes = n > 0 ? (uint64_t)n : cs,
        };
    }
    return 0;
}

static int coroutine_fn encode_task(void *opaque)
{
    g_autofree EncodeJob *j = opaque;

    return thread_pool_co_run(encode_job, j);
}

static int coroutine_fn batch_encode(Batch *b)
{
    unsigned per_job = MAX(1, JOB_BYTES >> b->s->cluster_bits);
    EncodeJob whole = { b, 0, b->n };
    AioTaskPool *pool;
    int ret;

    if ((uint64_t)b->n << b->s->cluster_bits <= INLINE_BYTES) {
        return encode_job(&whole);
    }
    pool = aio_task_pool_new(MAX_JOBS);
    for (unsigned i = 0; i < b->n; i += per_job) {
        EncodeJob *j = g_new(EncodeJob, 1);

        *j = (EncodeJob) { b, i, MIN(per_job, b->n - i) };
        aio_task_pool_start(pool, encode_task, j);
    }
    aio_task_pool_wait_all(pool);
    ret = aio_task_pool_status(pool);
    aio_task_pool_free(pool);
    return ret;
}

/* ---- place ---- */

/* -EIO when a stream would come where something is. */
static int check_taken(const Batch *b)
{
    for (unsigned i = 0; i < b->n; i++) {
        if (b->taken[i] && b->piece[i].stream) {
            return -EIO;
        }
    }
    return 0;
}

static void coroutine_fn batch_unplace(Qcow2State *s, Batch *b)
    REQUIRES(s->lock) DROPS(s->lock)
{
    for (unsigned i = 0; i < b->n; i++) {
        Piece *p = &b->piece[i];

        if (p->host_offset) {
            qcow2_unpack(s, p->host_offset, p->bytes);
        }
    }
}

static int coroutine_fn batch_place(Qcow2State *s, Batch *b)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb;
    int ret = 0;

    qcow2_pack_begin(s);
    for (unsigned i = 0; i < b->n && ret == 0; i++) {
        Piece *p = &b->piece[i];
        uint64_t host = 0;

        if (p->stream) {
            ret = qcow2_pack(s, p->bytes, &host);
        } else {
            ret = qcow2_alloc_run(s, 1, &host, &nb);
        }
        p->host_offset = ret == 0 ? host : 0;
        ret = ret < 0 ? ret : qcow2_check_overlap(s, 0, host, p->bytes);
    }
    qcow2_pack_end(s);
    if (ret < 0) {
        batch_unplace(s, b);
    }
    return ret;
}

/* ---- write ---- */

static int coroutine_fn batch_write(Qcow2State *s, Batch *b)
    EXCLUDES(s->lock)
{
    QEMUIOVector qiov;
    unsigned i = 0;
    int ret = 0;

    qemu_iovec_init(&qiov, b->n);
    while (i < b->n && ret == 0) {
        uint64_t host = b->piece[i].host_offset;

        qemu_iovec_reset(&qiov);
        for (; i < b->n && b->piece[i].host_offset == host + qiov.size; i++) {
            /* A write does not change what its vector points to. */
            qemu_iovec_add(&qiov, (void *)b->piece[i].data,
                           b->piece[i].bytes);
        }
        BLKDBG_EVENT(s->bs->file, BLKDBG_WRITE_COMPRESSED);
        ret = bdrv_co_pwritev(s->bs->file, host, qiov.size, &qiov, 0);
    }
    qemu_iovec_destroy(&qiov);
    return ret;
}

/* ---- link ---- */

static Qcow2Entry piece_entry(const Qcow2State *s, const Piece *p)
{
    uint64_t last = p->host_offset + p->bytes - 1;
    uint64_t sectors = last / QCOW2_SECTOR - p->host_offset / QCOW2_SECTOR;

    if (!p->stream) {
        return (Qcow2Entry) { .desc = p->host_offset | QCOW2_COPIED,
                              .bitmap = UINT32_MAX };
    }
    return (Qcow2Entry) { .desc = QCOW2_COMPRESSED | p->host_offset |
                                  sectors << (70 - s->cluster_bits) };
}

static int coroutine_fn batch_link(Qcow2State *s, Batch *b)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int ret;

    BLKDBG_EVENT(s->bs->file, BLKDBG_L2_UPDATE_COMPRESSED);
    ret = qcow2_get_slice(s, &s->l1, b->range.start, &e, &index);
    if (ret < 0) {
        return ret;
    }
    assert(e); /* qcow2_ensure_l2() made it */
    for (unsigned i = 0; i < b->n; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);

        qcow2_free_entry(s, old.desc, false); /* R3 */
        qcow2_entry_put(s, e->data, index + i, piece_entry(s, &b->piece[i]));
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    s->need_barrier = true; /* R1, R2 */
    return 0;
}

/* ---- all of it ---- */

/* What a batch that was claimed does. */
static int coroutine_fn batch_run(Qcow2State *s, Batch *b,
                                  QEMUIOVector *qiov, uint64_t done,
                                  uint64_t bytes, bool replace)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t room = (uint64_t)b->n << s->cluster_bits;
    uint64_t n = MIN(room, bytes);
    int ret = -ENOMEM;

    co_mutex_unlock(&s->lock);
    b->in = blk_try_memalign(room);
    b->out = blk_try_memalign(room);
    if (b->in && b->out) {
        qemu_iovec_to_buf(qiov, done, b->in, n);
        memset(b->in + n, 0, room - n);
        ret = batch_encode(b);
    }
    if (ret == 0 && !replace) {
        ret = check_taken(b);
    }
    co_mutex_lock(&s->lock);
    ret = ret < 0 ? ret : batch_place(s, b);
    if (ret < 0) {
        return ret;
    }
    co_mutex_unlock(&s->lock);
    ret = batch_write(s, b);
    co_mutex_lock(&s->lock);
    ret = ret < 0 ? ret : batch_link(s, b);
    if (ret < 0) {
        batch_unplace(s, b);
    }
    return ret;
}

static int check_request(const Qcow2State *s, uint64_t guest_offset,
                         uint64_t bytes)
{
    if (s->data_file != s->bs->file || s->hdr.crypt_method) {
        return -ENOTSUP; /* a stream would be readable without the key */
    }
    if (!IS_ALIGNED(guest_offset, s->cluster_size) ||
        (!IS_ALIGNED(bytes, s->cluster_size) &&
         guest_offset + bytes != s->bs->total_bytes)) {
        return -EINVAL;
    }
    return 0;
}

int coroutine_fn qcow2_write_compressed(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        bool replace)
{
    g_autofree Batch *b = g_new0(Batch, 1);
    uint64_t done = 0;
    int ret = check_request(s, guest_offset, bytes);

    b->s = s;
    co_mutex_lock(&s->lock);
    while (done < bytes && ret == 0) {
        ret = batch_claim(s, b, guest_offset + done,
                          DIV_ROUND_UP(bytes - done, s->cluster_size));
        if (ret < 0) {
            break;
        }
        ret = batch_run(s, b, qiov, done, bytes - done, replace);
        free(b->in);
        free(b->out);
        qcow2_in_flight_remove(s, &b->range);
        qcow2_relieve(s);
        done += (uint64_t)b->n << s->cluster_bits;
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
