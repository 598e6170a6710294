/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters: reading.
 *
 * A cluster is decoded as a whole, in the thread pool; who asks for a part of
 * it finds the rest in a small cache when he comes back. The cache is keyed by
 * the L2 entry, which names host bytes that cannot change while an entry in
 * some map refers to them (R5). They come to mean something else only when a
 * new stream is written there, and that drops what overlaps them.
 *
 *   empty or ready --claim_slot()--> decoding --read_part()--> ready
 *   any --qcow2_decoded_drop(), error--> its entry is 0: found by nobody
 *
 * Nothing here needs s->lock: callers hold an entry of s->in_flight or
 * map_lock, and the cache belongs to the thread of the node's AioContext.
 */
#include "qcow2_int.h"
#include "util/thread-pool.h"

#define CACHE_ENTRIES 8
#define CACHE_BYTES   (4u * 1024 * 1024)
/* Smaller clusters are decoded at once: a thread would take longer to wake. */
#define INLINE_BYTES  4096

typedef struct Decoded {
    uint64_t entry;         /* L2 entry; 0: empty */
    uint64_t used;          /* cache->tick of the last use */
    uint8_t *data;          /* s->cluster_size bytes, or NULL */
    bool decoding;
    CoQueue waiters;        /* until !decoding */
} Decoded;

struct Qcow2DecodedCache {
    unsigned n;
    uint64_t tick;
    Decoded slots[CACHE_ENTRIES];
};

/* ---- decoding ---- */

typedef struct DecodeJob {
    Qcow2Codec codec;
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
} DecodeJob;

static int decode_job(void *opaque)
{
    DecodeJob *j = opaque;

    return qcow2_codec_decode(j->codec, j->in, j->in_len, j->out, j->out_len);
}

/* The sectors that have these bytes. */
static int coroutine_fn read_stream(Qcow2State *s, uint64_t offset,
                                    uint64_t bytes, uint8_t **ret_buf)
{
    uint64_t start = ROUND_DOWN(offset, (uint64_t)QCOW2_SECTOR);
    uint64_t n = offset + bytes - start;
    uint8_t *buf = blk_try_memalign(n);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_READ_COMPRESSED);
    ret = bdrv_co_pread(s->bs->file, start, n, buf, 0);
    if (ret < 0) {
        free(buf);
        return ret;
    }
    *ret_buf = buf;
    return 0;
}

/* Decode the cluster of @entry to @out. */
static int coroutine_fn decode_cluster(Qcow2State *s, uint64_t entry,
                                       uint8_t *out)
{
    DecodeJob job = { .codec = s->hdr.compression_type, .out = out,
                      .out_len = s->cluster_size };
    uint64_t offset, bytes, end = s->bs->file->bs->total_bytes;
    uint8_t *buf;
    int ret;

    qcow2_entry_compressed(s, entry, &offset, &bytes);
    if (offset >= end) {
        return -EIO;
    }
    ret = read_stream(s, offset, bytes, &buf);
    if (ret < 0) {
        return ret;
    }
    job.in = buf + offset % QCOW2_SECTOR;
    /* The last sector of a file may be short. */
    job.in_len = MIN(bytes, end - offset);
    if (s->cluster_size <= INLINE_BYTES) {
        ret = decode_job(&job);
    } else {
        ret = thread_pool_co_run(decode_job, &job);
    }
    free(buf);
    return ret;
}

/* ---- cache ---- */

Qcow2DecodedCache *qcow2_decoded_new(const Qcow2State *s)
{
    Qcow2DecodedCache *c = g_new0(Qcow2DecodedCache, 1);

    c->n = MIN(CACHE_ENTRIES, CACHE_BYTES / s->cluster_size);
    for (unsigned i = 0; i < c->n; i++) {
        co_queue_init(&c->slots[i].waiters);
    }
    return c;
}

void qcow2_decoded_free(Qcow2DecodedCache *c)
{
    for (unsigned i = 0; c && i < c->n; i++) {
        assert(!c->slots[i].decoding);
        free(c->slots[i].data);
    }
    g_free(c);
}

void qcow2_decoded_drop(Qcow2State *s, uint64_t offset, uint64_t bytes)
{
    Qcow2DecodedCache *c = s->decoded;

    for (unsigned i = 0; i < c->n; i++) {
        Decoded *d = &c->slots[i];
        uint64_t start, n;

        if (!d->entry) {
            continue;
        }
        qcow2_entry_compressed(s, d->entry, &start, &n);
        if (start < offset + bytes && offset < start + n) {
            d->entry = 0; /* one that is being decoded too */
        }
    }
}

static Decoded *find_decoded(Qcow2DecodedCache *c, uint64_t entry)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->slots[i].entry == entry) {
            return &c->slots[i];
        }
    }
    return NULL;
}

/* The least recently used slot, with memory, or NULL. */
static Decoded *claim_slot(Qcow2State *s, uint64_t entry)
{
    Qcow2DecodedCache *c = s->decoded;
    Decoded *best = NULL;

    for (unsigned i = 0; i < c->n; i++) {
        Decoded *d = &c->slots[i];

        if (!d->decoding && (!best || d->used < best->used)) {
            best = d;
        }
    }
    if (best && !best->data) {
        best->data = blk_try_memalign(s->cluster_size);
    }
    if (!best || !best->data) {
        return NULL;
    }
    best->entry = entry;
    best->decoding = true;
    return best;
}

/* Copy from the cache, which others are decoding into if need be. Returns
 * whether it was there. */
static bool coroutine_fn copy_decoded(Qcow2State *s, uint64_t entry,
                                      uint64_t from, uint64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset)
{
    Decoded *d;

    while ((d = find_decoded(s->decoded, entry)) && d->decoding) {
        co_queue_wait(&d->waiters, NULL);
    }
    if (!d) {
        return false;
    }
    d->used = ++s->decoded->tick;
    qemu_iovec_from_buf(qiov, qiov_offset, d->data + from, bytes);
    return true;
}

/* ---- reading ---- */

/* Part of a cluster: into the cache, for those who want the other parts. */
static int coroutine_fn read_part(Qcow2State *s, uint64_t entry,
                                  uint64_t from, uint64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset)
{
    Decoded *d = claim_slot(s, entry);
    int ret = d ? 0 : -ENOMEM;

    if (!d) {
        return ret;
    }
    ret = decode_cluster(s, entry, d->data);
    d->decoding = false;
    if (ret < 0) {
        d->entry = 0;
    } else {
        d->used = ++s->decoded->tick;
        qemu_iovec_from_buf(qiov, qiov_offset, d->data + from, bytes);
    }
    co_queue_restart_all(&d->waiters);
    return ret;
}

/* Past the cache, when all of the cluster is wanted or all slots are busy. */
static int coroutine_fn read_apart(Qcow2State *s, uint64_t entry,
                                   uint64_t from, uint64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset)
{
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = decode_cluster(s, entry, buf);
    if (ret == 0) {
        qemu_iovec_from_buf(qiov, qiov_offset, buf + from, bytes);
    }
    free(buf);
    return ret;
}

int coroutine_fn qcow2_read_compressed(Qcow2State *s, const Qcow2Mapping *m,
                                       uint64_t guest_offset, uint64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset)
{
    uint64_t entry = m->entry.desc & ~QCOW2_COPIED;
    uint64_t from = guest_offset & (s->cluster_size - 1);

    assert(m->type == QCOW2_CLUSTER_COMPRESSED &&
           bytes <= s->cluster_size - from);
    if (copy_decoded(s, entry, from, bytes, qiov, qiov_offset)) {
        return 0;
    }
    if (bytes < s->cluster_size) {
        int ret = read_part(s, entry, from, bytes, qiov, qiov_offset);

        if (ret != -ENOMEM) {
            return ret;
        }
    }
    return read_apart(s, entry, from, bytes, qiov, qiov_offset);
}
