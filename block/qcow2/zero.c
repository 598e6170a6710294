/* SPDX-License-Identifier: MIT */
/*
 * Zero writes and discards: changes of the map without data.
 *
 *   entry before            KEEP             UNMAP, DISCARD
 *   unallocated, backing    zero, plain      zero, plain
 *   unallocated, none       zero, plain      zero, plain; DISCARD: as it is
 *   normal                  zero, prealloc.  zero, plain; cluster freed
 *   zero, preallocated      as it is         zero, plain; cluster freed
 *   compressed              zero, plain; references dropped (both)
 *
 * A write of zeroes always makes the layer hold them, so that they stay when
 * it gets another backing file. With extended L2 entries the same is done with
 * the zero bits of subclusters, and UNMAP and DISCARD give the host cluster up
 * when the last of them has become zero. discard-no-unref makes them keep a
 * COPIED cluster like KEEP does. A version 2 image has no zero flag: entries
 * become 0, which is right only without a backing file.
 *
 * A part of a subcluster becomes zero by way of the whole of it, when that
 * holds no data and the rest reads as zeroes; else it is written as data.
 *
 * No L2 table is made or copied when nothing changes. What is given up waits
 * in s->frees (R3, R5). Each piece is an exclusive entry of s->in_flight, so it
 * waits for reads and writes of the clusters.
 *
 * An external data file has no refcounts. When it is raw it has to read as
 * zeroes itself, before the map says so. Else it is told of space that is not
 * needed any more, by zeroes that may unmap: a cut between that and the map
 * shows zeroes or the old bytes, never others. The same for clusters that
 * discard-no-unref keeps.
 */
#include "qcow2_int.h"
#include "util/plant.h"

void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool punch)
{
    uint64_t offset, bytes, first;

    switch (qcow2_entry_type(entry)) {
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (!qcow2_has_data_file(s)) {
            qcow2_defer_free(s, entry & QCOW2_OFFSET_MASK, 1, punch);
        }
        break;
    case QCOW2_CLUSTER_COMPRESSED:
        qcow2_entry_compressed(s, entry, &offset, &bytes);
        first = ROUND_DOWN(offset, s->cluster_size);
        qcow2_defer_free(s, first,
                         DIV_ROUND_UP(offset + bytes - first,
                                      s->cluster_size), punch);
        break;
    case QCOW2_CLUSTER_UNALLOCATED:
    case QCOW2_CLUSTER_ZERO_PLAIN:
        break;
    }
}

/* ---- entries ---- */

#define ALL_ZERO ((uint64_t)UINT32_MAX << 32)

/* Does @mode leave the host cluster of @e where it is? */
static bool keeps_host(const Qcow2State *s, Qcow2Entry e, Qcow2ZeroMode mode)
{
    return qcow2_entry_has_host(s, e) && s->hdr.version >= 3 &&
           (mode == QCOW2_ZERO_KEEP ||
            ((e.desc & QCOW2_COPIED) && s->discard_no_unref));
}

/* Does what holds no data stay so, because it reads as zeroes already? */
static bool leaves_empty(const Qcow2State *s, Qcow2ZeroMode mode)
{
    return !s->bs->backing && (mode == QCOW2_DISCARD || s->hdr.version < 3);
}

static Qcow2Entry zeroed_standard(const Qcow2State *s, Qcow2Entry e,
                                  Qcow2ZeroMode mode)
{
    Qcow2Entry gone = { .desc = s->hdr.version < 3 ? 0 : QCOW2_ZERO };

    switch (qcow2_subcluster_type(s, e, 0)) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return leaves_empty(s, mode) ? e : gone;
    case QCOW2_CLUSTER_ZERO_PLAIN:
        return e;
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (keeps_host(s, e, mode)) {
            e.desc |= QCOW2_ZERO;
            return e;
        }
        return gone;
    case QCOW2_CLUSTER_COMPRESSED:
        break;
    }
    return gone;
}

/* What becomes of @e when the subclusters in @mask become zero. */
static Qcow2Entry zeroed(const Qcow2State *s, Qcow2Entry e, uint32_t mask,
                         Qcow2ZeroMode mode)
{
    bool host = qcow2_entry_has_host(s, e);

    if (!qcow2_has_subclusters(s)) {
        return zeroed_standard(s, e, mode);
    }
    if (e.desc & QCOW2_COMPRESSED) {
        return (Qcow2Entry) { .bitmap = ALL_ZERO };
    }
    if (!host && leaves_empty(s, mode)) {
        return e;
    }
    e.bitmap = (e.bitmap & ~(uint64_t)mask) | (uint64_t)mask << 32;
    if (host && (e.bitmap & ALL_ZERO) == ALL_ZERO &&
        !keeps_host(s, e, mode)) {
        e.desc = 0;
    }
    return e;
}

static bool same_entry(Qcow2Entry a, Qcow2Entry b)
{
    return a.desc == b.desc && a.bitmap == b.bitmap;
}

/* ---- one slice ---- */

/* What to do to [start, end), which is inside one slice and ours alone. */
typedef struct ZeroPiece {
    uint64_t start;
    uint64_t end;
    Qcow2ZeroMode mode;
    bool if_empty;  /* -ENOTSUP when there is data */
} ZeroPiece;

static uint64_t piece_clusters(const Qcow2State *s, const ZeroPiece *p)
{
    return (qcow2_cluster_ceil(s, p->end) - qcow2_cluster_floor(s, p->start))
           >> s->cluster_bits;
}

/* Subclusters of the @i-th cluster of @p. */
static uint32_t piece_mask(const Qcow2State *s, const ZeroPiece *p,
                           uint64_t i)
{
    return qcow2_subcluster_mask(s, qcow2_cluster_floor(s, p->start) +
                                    (i << s->cluster_bits), p->start, p->end);
}

/* Would any entry change? -ENOTSUP: only data could do it. */
static int coroutine_fn needs_change(Qcow2State *s, const ZeroPiece *p,
                                     bool *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t guest_offset = qcow2_cluster_floor(s, p->start);
    uint64_t n = piece_clusters(s, p);
    Qcow2CacheEntry *e;
    unsigned index;
    int r;

    r = qcow2_get_slice(s, &s->l1, p->start, &e, &index);
    if (r < 0) {
        return r;
    }
    *ret = !e && !leaves_empty(s, p->mode);
    for (uint64_t i = 0; e && i < n && r == 0; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);
        uint32_t mask = piece_mask(s, p, i);

        r = qcow2_check_entry(s, old, guest_offset + (i << s->cluster_bits));
        if (r == 0 && (old.desc & QCOW2_COMPRESSED) &&
            qcow2_has_subclusters(s) && mask != UINT32_MAX) {
            r = -ENOTSUP;
        }
        *ret = *ret || !same_entry(zeroed(s, old, mask, p->mode), old);
    }
    if (e) {
        qcow2_cache_put(s, s->l2_cache, e);
    }
    return r;
}

static int coroutine_fn zero_entries(Qcow2State *s, const ZeroPiece *p)
    REQUIRES(s->lock) DROPS(s->lock)
{
    bool punch = p->mode != QCOW2_ZERO_KEEP && s->punch_request;
    uint64_t n = piece_clusters(s, p);
    Qcow2CacheEntry *e;
    unsigned index;
    bool change;
    int ret;

    ret = needs_change(s, p, &change);
    if (ret < 0 || !change) {
        return ret;
    }
    ret = qcow2_own_slice(s, p->start, &e, &index);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < n; i++) {
        Qcow2Entry old = qcow2_entry_get(s, e->data, index + i);
        Qcow2Entry new = zeroed(s, old, piece_mask(s, p, i), p->mode);

        if (!qcow2_entry_has_host(s, new)) {
            qcow2_free_entry(s, old.desc, punch); /* R3 */
        }
        qcow2_entry_put(s, e->data, index + i, new);
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    return 0;
}

/* ---- telling the file ---- */

/* Zero guest range [@start, @end) of a data file; no vmstate is there. */
static int coroutine_fn zero_data_file(Qcow2State *s, uint64_t start,
                                       uint64_t end, unsigned flags)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = 0;

    end = MIN(end, s->hdr.size);
    if (start < end) {
        co_mutex_unlock(&s->lock);
        ret = qcow2_data_pwrite_zeroes(s, start, end - start, flags);
        co_mutex_lock(&s->lock);
    }
    return ret;
}

/* The host may have the space of kept clusters that read as zero; advice. */
static int coroutine_fn punch_kept(Qcow2State *s, const ZeroPiece *p)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t at = p->start;

    while (at < p->end) {
        Qcow2Mapping m;
        int ret = qcow2_map(s, &s->l1, at, p->end - at, &m);

        if (ret < 0) {
            return ret;
        }
        if (m.type == QCOW2_CLUSTER_ZERO_ALLOC && m.copied) {
            co_mutex_unlock(&s->lock);
            (void)qcow2_data_pwrite_zeroes(s, m.host_offset, m.bytes,
                                           BDRV_REQ_MAY_UNMAP |
                                           BDRV_REQ_NO_FALLBACK);
            co_mutex_lock(&s->lock);
        }
        at += m.bytes;
    }
    return 0;
}

/* 0, or -ENOTSUP: there is data in @p, which is inside one subcluster. */
static int coroutine_fn check_empty(Qcow2State *s, const ZeroPiece *p)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Mapping m;
    int ret = qcow2_map(s, &s->l1, p->start, p->end - p->start, &m);

    if (ret == 0 && (m.type == QCOW2_CLUSTER_NORMAL ||
                     m.type == QCOW2_CLUSTER_COMPRESSED)) {
        ret = -ENOTSUP;
    }
    return ret;
}

static int coroutine_fn zero_piece(Qcow2State *s, const ZeroPiece *p)
    REQUIRES(s->lock) DROPS(s->lock)
{
    unsigned unmap = p->mode == QCOW2_ZERO_KEEP ? 0 : BDRV_REQ_MAY_UNMAP;
    int ret = p->if_empty ? check_empty(s, p) : 0;

    if (ret == 0 && qcow2_data_file_is_raw(s)) {
        ret = zero_data_file(s, p->start, p->end, unmap);
    }
    ret = ret < 0 ? ret : zero_entries(s, p);
    if (ret < 0 || !unmap || !s->punch_request) {
        return ret;
    }
    if (qcow2_has_data_file(s) && !qcow2_data_file_is_raw(s)) {
        (void)zero_data_file(s, p->start, p->end,
                             unmap | BDRV_REQ_NO_FALLBACK); /* advice */
    } else if (s->discard_no_unref && !s->hdr.crypt_method) {
        ret = punch_kept(s, p);
    }
    return ret;
}

/* All of @p, which need not be inside one slice nor ours alone. */
static int coroutine_fn zero_pieces(Qcow2State *s, ZeroPiece p)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t end = p.end;
    int ret = qcow2_check_writable(s);

    if (s->hdr.version < 3 && s->bs->backing) {
        return -ENOTSUP;
    }
    while (p.start < end && ret == 0) {
        uint64_t start = qcow2_cluster_floor(s, p.start);
        uint64_t left = qcow2_slice_left(s, start);
        uint64_t stop = MIN(qcow2_cluster_ceil(s, end),
                            start + (left << s->cluster_bits));
        Qcow2InFlight range, *other;

        other = qcow2_in_flight_clip(s, start, &stop, true);
        if (other && !PLANTED(Q_DISCARD_IGNORES_IN_FLIGHT)) {
            co_queue_wait(&other->waiters, &s->lock);
            continue;
        }
        qcow2_in_flight_add(s, &range, start, stop, true);
        p.end = MIN(stop, end);
        ret = zero_piece(s, &p);
        qcow2_in_flight_remove(s, &range);
        p.start = p.end;
        qcow2_relieve(s);
    }
    return ret;
}

int coroutine_fn qcow2_zero_bytes(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t bytes, Qcow2ZeroMode mode)
{
    return zero_pieces(s, (ZeroPiece) {
        .start = guest_offset,
        .end = guest_offset + bytes,
        .mode = mode,
    });
}

int coroutine_fn qcow2_zero_range(Qcow2State *s, uint64_t guest_offset,
                                  uint64_t nb_clusters, Qcow2ZeroMode mode)
{
    return qcow2_zero_bytes(s, guest_offset, nb_clusters << s->cluster_bits,
                            mode);
}

/* ---- requests ---- */

/*
 * Do readers see only zeroes in [@start, @end) of the disk, by what the maps
 * say? Data is not looked at.
 */
static int coroutine_fn reads_zero(Qcow2State *s, uint64_t start,
                                   uint64_t end, bool *ret)
    EXCLUDES(s->lock)
{
    *ret = true;
    end = MIN(end, s->bs->total_bytes);
    while (start < end && *ret) {
        Qcow2Mapping m;
        int r;

        co_mutex_lock(&s->lock);
        r = qcow2_map(s, &s->l1, start, end - start, &m);
        co_mutex_unlock(&s->lock);
        if (r == 0 && m.type == QCOW2_CLUSTER_UNALLOCATED && s->bs->backing) {
            r = bdrv_co_block_status_above(s->bs->backing->bs, start, m.bytes,
                                           &m.bytes, NULL);
            *ret = r & BDRV_BLOCK_ZERO;
        } else {
            *ret = m.type != QCOW2_CLUSTER_NORMAL &&
                   m.type != QCOW2_CLUSTER_COMPRESSED;
        }
        if (r < 0) {
            return r;
        }
        start += m.bytes;
    }
    return 0;
}

static int coroutine_fn write_zero_data(Qcow2State *s, uint64_t offset,
                                        uint64_t bytes)
    EXCLUDES(s->lock)
{
    QEMUIOVector qiov;
    uint8_t *buf = blk_try_memalign(bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    ret = qcow2_write_range(s, offset, bytes, &qiov);
    free(buf);
    return ret;
}

static Qcow2ZeroMode zero_mode(unsigned flags)
{
    return flags & BDRV_REQ_MAY_UNMAP ? QCOW2_ZERO_UNMAP : QCOW2_ZERO_KEEP;
}

static int coroutine_fn zero_part(Qcow2State *s, uint64_t offset,
                                  uint64_t bytes, unsigned flags)
    EXCLUDES(s->lock)
{
    uint64_t unit = 1ULL << s->subcluster_bits;
    ZeroPiece whole = {
        .start = ROUND_DOWN(offset, unit),
        .end = ROUND_DOWN(offset, unit) + unit,
        .mode = zero_mode(flags),
        .if_empty = true,
    };
    bool head, tail = false;
    int ret = reads_zero(s, whole.start, offset, &head);

    if (ret == 0 && head) {
        ret = reads_zero(s, offset + bytes, whole.end, &tail);
    }
    if (ret == 0 && tail) {
        co_mutex_lock(&s->lock);
        ret = zero_pieces(s, whole);
        co_mutex_unlock(&s->lock);
    } else if (ret == 0) {
        ret = -ENOTSUP;
    }
    return ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)
           ? write_zero_data(s, offset, bytes) : ret;
}

/* [@offset, + @bytes) of the disk, in which whole units are [@lo, @hi). A last
 * cluster that the disk ends in is a whole one. */
static void whole_units(const Qcow2State *s, uint64_t unit, uint64_t offset,
                        uint64_t bytes, uint64_t *ret_lo, uint64_t *ret_hi)
{
    uint64_t end = offset + bytes;

    *ret_lo = ROUND_UP(offset, unit);
    *ret_hi = end == s->bs->total_bytes ? qcow2_cluster_ceil(s, end)
                                        : ROUND_DOWN(end, unit);
}

static int coroutine_fn zero_request(Qcow2State *s, uint64_t offset,
                                     uint64_t bytes, unsigned flags)
    EXCLUDES(s->lock)
{
    uint64_t end = offset + bytes, lo, hi;
    int ret = 0;

    if (s->hdr.version < 3 && (flags & BDRV_REQ_EXPLICIT_ZERO)) {
        return -ENOTSUP;
    }
    whole_units(s, 1ULL << s->subcluster_bits, offset, bytes, &lo, &hi);
    if (lo >= hi) {
        uint64_t split = MIN(lo, end);

        ret = zero_part(s, offset, split - offset, flags);
        return ret < 0 || split == end ? ret
               : zero_part(s, split, end - split, flags);
    }
    if (offset < lo) {
        ret = zero_part(s, offset, lo - offset, flags);
    }
    if (ret == 0) {
        co_mutex_lock(&s->lock);
        ret = qcow2_zero_bytes(s, lo, hi - lo, zero_mode(flags));
        co_mutex_unlock(&s->lock);
    }
    if (ret == 0 && hi < end) {
        ret = zero_part(s, hi, end - hi, flags);
    }
    return ret;
}

int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs,
                                        uint64_t offset, uint64_t bytes,
                                        unsigned flags)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_rwlock_rdlock(&s->map_lock);
    ret = zero_request(s, offset, bytes, flags);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, uint64_t offset,
                                   uint64_t bytes)
{
    Qcow2State *s = bs->opaque;
    uint64_t lo, hi;
    int ret = 0;

    co_rwlock_rdlock(&s->map_lock);
    whole_units(s, s->cluster_size, offset, bytes, &lo, &hi);
    if (lo < hi) {
        co_mutex_lock(&s->lock);
        ret = qcow2_zero_bytes(s, lo, hi - lo, QCOW2_DISCARD);
        co_mutex_unlock(&s->lock);
    }
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
