/* SPDX-License-Identifier: MIT */
/*
 * The data step of a guest write: the guest's bytes, and in clusters that the
 * write makes data, what surrounds them.
 *
 *     range.start                                                range.end
 *       |      cow_start     guest data        cow_end              |
 *       |--------|== head ==|###########|== tail ==|----------------|
 *
 * What lies outside of [cow_start, cow_end) does not become data: subclusters
 * that keep their state. Head and tail are copied from what the guest saw
 * there, and go out in one request with its data, except when they are zeroes
 * and
 *   - the host clusters were never written (fresh): they read as zeroes, so
 *     only the guest's bytes are written; or
 *   - there are many: the file is asked to zero them without a transfer.
 *
 * Data that the host copies from another file comes between the two, as a
 * request of its own.
 *
 * The range is an exclusive entry of s->in_flight, so nothing here changes
 * while s->lock is dropped (K3).
 */
#include "qcow2_int.h"

/* Zeroes worth a request of their own. */
#define ZERO_REQUEST_MIN (128 * 1024)

#define ZERO_BYTES 65536
static uint8_t zero_bytes[ZERO_BYTES] __attribute__((aligned(4096)));

/* ---- plan ---- */

/* Where the data of the first cluster begins, whose entry was @e. */
static uint64_t cow_start(const Qcow2State *s, const Qcow2Write *w,
                          Qcow2Entry e)
{
    uint64_t in_cluster = w->guest_offset - w->range.start;
    unsigned sc = in_cluster >> s->subcluster_bits;
    uint32_t data = e.bitmap, below = data & ((1u << sc) - 1);

    if (e.desc & QCOW2_COMPRESSED) {
        return w->range.start;
    }
    if (w->kind == QCOW2_WRITE_REUSE) {
        return data >> sc & 1 ? w->guest_offset
               : w->range.start + ((uint64_t)sc << s->subcluster_bits);
    }
    sc = below ? (unsigned)__builtin_ctz(below) : sc;
    return w->range.start + ((uint64_t)sc << s->subcluster_bits);
}

/* Where the data of the last cluster, at @cluster, ends. */
static uint64_t cow_end(const Qcow2State *s, const Qcow2Write *w,
                        uint64_t cluster, Qcow2Entry e)
{
    uint64_t end = w->guest_offset + w->bytes;
    unsigned sc = (end - 1 - cluster) >> s->subcluster_bits;
    uint32_t data = e.bitmap, above = data >> sc >> 1;

    if (e.desc & QCOW2_COMPRESSED) {
        return w->range.end;
    }
    if (w->kind == QCOW2_WRITE_REUSE) {
        return data >> sc & 1 ? end
               : cluster + ((uint64_t)(sc + 1) << s->subcluster_bits);
    }
    sc += above ? 32 - (unsigned)__builtin_clz(above) : 0;
    return cluster + ((uint64_t)(sc + 1) << s->subcluster_bits);
}

/* Did the guest see only zeroes in [@lo, @hi) of @cluster, whose entry was
 * @e? */
static bool was_zero(const Qcow2State *s, Qcow2Entry e, uint64_t cluster,
                     uint64_t lo, uint64_t hi)
{
    uint32_t mask = qcow2_subcluster_mask(s, cluster, lo, hi);
    uint32_t data = e.bitmap, zero = e.bitmap >> 32;

    if (e.desc & QCOW2_COMPRESSED) {
        return false;
    }
    if (!qcow2_has_subclusters(s)) {
        zero = e.desc & QCOW2_ZERO;
        data = !zero && qcow2_entry_has_host(s, e);
    }
    return !(data & mask) && ((zero & mask) == mask ||
                              lo >= qcow2_backing_end(s));
}

/*
 * A range that was cut short ends with its last cluster, and then w->last,
 * which is not the entry of that one, is not needed.
 */
void qcow2_cow_plan(Qcow2State *s, Qcow2Write *w)
{
    uint64_t end = w->guest_offset + w->bytes;
    uint64_t last = w->range.end - s->cluster_size;

    w->cow_start = w->range.start;
    w->cow_end = w->range.end;
    if (w->guest_offset > w->range.start) {
        w->cow_start = cow_start(s, w, w->first);
        w->head_zero = was_zero(s, w->first, w->range.start, w->cow_start,
                                w->guest_offset);
    }
    if (end < w->range.end) {
        w->cow_end = cow_end(s, w, last, w->last);
        w->tail_zero = was_zero(s, w->last, last, end, w->cow_end);
    }
}

/* ---- data ---- */

/* What the guest saw in [@guest_offset, + @bytes). */
static int coroutine_fn cow_read(Qcow2State *s, uint64_t guest_offset,
                                 uint8_t *buf, uint64_t bytes)
    EXCLUDES(s->lock)
{
    while (bytes) {
        Qcow2Mapping m;
        QEMUIOVector qiov;
        int ret;

        co_mutex_lock(&s->lock);
        ret = qcow2_map(s, &s->l1, guest_offset, bytes, &m);
        co_mutex_unlock(&s->lock);
        if (ret < 0) {
            return ret;
        }
        qemu_iovec_init_buf(&qiov, buf, m.bytes);
        BLKDBG_EVENT(s->bs->file, BLKDBG_COW_READ);
        ret = qcow2_read_mapping(s, guest_offset, &m, &qiov, 0, m.bytes);
        if (ret < 0) {
            return ret;
        }
        guest_offset += m.bytes;
        buf += m.bytes;
        bytes -= m.bytes;
    }
    return 0;
}

/* Where @guest_offset is in the file. */
static uint64_t host_of(const Qcow2Write *w, uint64_t guest_offset)
{
    return w->host_offset + guest_offset - w->range.start;
}

/* Head or tail. */
typedef struct Part {
    uint64_t guest_offset;
    uint64_t bytes;         /* 0: nothing to write */
    bool zero;
} Part;

/* See to it, if that is cheap, that a part that is zero need not be written. */
static int coroutine_fn settle(Qcow2State *s, const Qcow2Write *w, Part *p)
    EXCLUDES(s->lock)
{
    int ret;

    if (!p->bytes || !p->zero || s->hdr.crypt_method) {
        return 0; /* zeroes are stored encrypted too */
    }
    if (w->fresh) {
        BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC_SPACE);
        p->bytes = 0;
        return 0;
    }
    if (p->bytes < ZERO_REQUEST_MIN) {
        return 0;
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_CLUSTER_ALLOC_SPACE);
    ret = qcow2_data_pwrite_zeroes(s, host_of(w, p->guest_offset), p->bytes,
                                   BDRV_REQ_NO_FALLBACK);
    if (ret == 0) {
        p->bytes = 0;
    }
    return ret == -ENOTSUP ? 0 : ret;
}

static void add_zeroes(QEMUIOVector *qiov, uint64_t bytes)
{
    while (bytes) {
        uint64_t n = MIN(bytes, sizeof(zero_bytes));

        qemu_iovec_add(qiov, zero_bytes, n);
        bytes -= n;
    }
}

/* Append @p, with what was read of it at @buf. */
static void add_part(QEMUIOVector *qiov, const Part *p, uint8_t *buf)
{
    if (p->zero) {
        add_zeroes(qiov, p->bytes);
    } else if (p->bytes) {
        qemu_iovec_add(qiov, buf, p->bytes);
    }
}

/* Guest data with the parts around it, as one write; without it, the one part
 * that is there. */
static int coroutine_fn write_merged(Qcow2State *s, Qcow2Write *w,
                                     const Part *head, const Part *tail)
    EXCLUDES(s->lock)
{
    uint64_t head_bytes = head->zero ? 0 : head->bytes;
    uint64_t tail_bytes = tail->zero ? 0 : tail->bytes;
    uint8_t *buf = blk_try_memalign(head_bytes + tail_bytes);
    uint64_t zeroes = DIV_ROUND_UP(head->bytes, ZERO_BYTES) +
                      DIV_ROUND_UP(tail->bytes, ZERO_BYTES);
    uint64_t start = head->bytes ? head->guest_offset
                     : w->qiov ? w->guest_offset : tail->guest_offset;
    QEMUIOVector all;
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = cow_read(s, head->guest_offset, buf, head_bytes);
    ret = ret < 0 ? ret : cow_read(s, tail->guest_offset, buf + head_bytes,
                                   tail_bytes);
    if (ret == 0) {
        qemu_iovec_init(&all, zeroes + (w->qiov ? w->qiov->niov : 1));
        add_part(&all, head, buf);
        if (w->qiov) {
            qemu_iovec_concat(&all, w->qiov, w->qiov_offset, w->bytes);
        }
        add_part(&all, tail, buf + head_bytes);
        BLKDBG_EVENT(s->bs->file, BLKDBG_WRITE_AIO);
        BLKDBG_EVENT(s->bs->file, BLKDBG_COW_WRITE);
        ret = qcow2_data_pwritev(s, host_of(w, start), all.size, &all, 0);
        qemu_iovec_destroy(&all);
    }
    free(buf);
    return ret;
}

/* The host copies what the guest writes, and we write what is around it. */
static int coroutine_fn copy_between(Qcow2State *s, Qcow2Write *w,
                                     const Part *head, const Part *tail)
    EXCLUDES(s->lock)
{
    static const Part none;
    int ret;

    BLKDBG_EVENT(s->bs->file, BLKDBG_WRITE_AIO);
    ret = bdrv_co_copy_range(w->from, w->from_offset, s->data_file,
                             host_of(w, w->guest_offset), w->bytes);
    if (ret == 0 && head->bytes) {
        ret = write_merged(s, w, head, &none);
    }
    if (ret == 0 && tail->bytes) {
        ret = write_merged(s, w, &none, tail);
    }
    return ret;
}

int coroutine_fn qcow2_cow_write(Qcow2State *s, Qcow2Write *w)
{
    uint64_t end = w->guest_offset + w->bytes;
    bool cow = w->kind != QCOW2_WRITE_IN_PLACE;
    Part head = { w->cow_start, cow ? w->guest_offset - w->cow_start : 0,
                  w->head_zero };
    Part tail = { end, cow ? w->cow_end - end : 0, w->tail_zero };
    int ret;

    ret = settle(s, w, &head);
    ret = ret < 0 ? ret : settle(s, w, &tail);
    if (ret < 0) {
        return ret;
    }
    if (w->from) {
        return copy_between(s, w, &head, &tail);
    }
    if (head.bytes || tail.bytes) {
        return write_merged(s, w, &head, &tail);
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_WRITE_AIO);
    return qcow2_data_pwritev(s, host_of(w, w->guest_offset), w->bytes,
                              w->qiov, w->qiov_offset);
}
