/* SPDX-License-Identifier: MIT */
/*
 * Host clusters for a guest range that has none yet.
 *
 *   metadata  tables and refcounts; the clusters are holes
 *   falloc    and the file system has reserved them
 *   full      and zeroes were written
 *
 * An entry that is linked here says "data", so its cluster has to read as
 * zeroes whatever was there before: what lies inside the file is zeroed first,
 * and is durable with the refcounts before L2 (R1, R2). Where zero bytes are
 * not zeroes for the guest (encryption) the entry gets the zero flag. With
 * subclusters nothing is marked as data: the space is there and the backing
 * file, or zeroes, show through.
 *
 * With an external data file the host offset is the guest offset, and it is
 * that file that gets its space.
 */
#include "qcow2_int.h"

#define WRITE_CHUNK (2u * 1024 * 1024)

static int coroutine_fn write_full(BdrvChild *file, uint64_t offset,
                                   uint64_t bytes)
{
    uint64_t max = MIN(bytes, WRITE_CHUNK);
    uint8_t *buf = blk_try_memalign(max);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, max);
    }
    for (uint64_t done = 0; done < bytes && ret == 0; done += max) {
        ret = bdrv_co_pwrite(file, offset + done, MIN(max, bytes - done),
                             buf, 0);
    }
    free(buf);
    return ret;
}

/* Make host bytes read as zeroes, which @fresh ones do, and be there as @mode
 * asks. A region that ends past the file would be corrupt, so the file gets
 * its length. */
static int coroutine_fn clear_host(Qcow2State *s, uint64_t offset,
                                   uint64_t bytes, BdrvPrealloc mode,
                                   bool fresh)
    EXCLUDES(s->lock)
{
    BdrvChild *file = s->data_file;
    int ret = 0;

    if (mode == BDRV_PREALLOC_FULL) {
        return write_full(file, offset, bytes);
    }
    if (offset + bytes > file->bs->total_bytes) {
        ret = bdrv_co_truncate(file, offset + bytes, BDRV_PREALLOC_OFF, NULL);
    }
    if (ret < 0) {
        return ret;
    }
    if (mode == BDRV_PREALLOC_FALLOC) {
        return bdrv_co_pwrite_zeroes(file, offset, bytes, 0);
    }
    return fresh ? 0 : bdrv_co_pwrite_zeroes(file, offset, bytes,
                                             BDRV_REQ_MAY_UNMAP);
}

/* The entry for a preallocated cluster at @host. */
static Qcow2Entry new_entry(const Qcow2State *s, uint64_t host)
{
    Qcow2Entry e = { .desc = host | QCOW2_COPIED };

    if (s->l2_entry_bits == 4) {
        e.bitmap = s->bs->backing ? QCOW2_ALL_ZERO : 0;
    } else if (s->hdr.crypt_method) {
        e.desc |= QCOW2_ZERO;
    }
    return e;
}

static bool is_free(Qcow2Entry e)
{
    return !e.bitmap && !(e.desc & ~QCOW2_COPIED);
}

/* Find the first entry from @guest_offset on, of @n in its slice, without
 * anything, and how many follow. *@ret_nb 0: none. */
static int coroutine_fn find_gap(Qcow2State *s, uint64_t guest_offset,
                                 uint64_t n, uint64_t *ret_first,
                                 uint64_t *ret_nb)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    uint64_t first = 0, nb = 0;
    int ret = qcow2_get_slice(s, &s->l1, guest_offset, &e, &index);

    if (ret < 0) {
        return ret;
    }
    assert(e); /* qcow2_ensure_l2() made it */
    while (first < n && !is_free(qcow2_entry_get(s, e->data, index + first))) {
        first++;
    }
    while (first + nb < n &&
           is_free(qcow2_entry_get(s, e->data, index + first + nb))) {
        nb++;
    }
    qcow2_cache_put(s, s->l2_cache, e);
    *ret_first = guest_offset + (first << s->cluster_bits);
    *ret_nb = nb;
    return 0;
}

static int coroutine_fn link_run(Qcow2State *s, uint64_t guest_offset,
                                 uint64_t host, uint64_t nb)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2CacheEntry *e;
    unsigned index;
    int ret = qcow2_get_slice(s, &s->l1, guest_offset, &e, &index);

    if (ret < 0) {
        return ret;
    }
    assert(e);
    for (uint64_t i = 0; i < nb; i++) {
        qcow2_entry_put(s, e->data, index + i,
                        new_entry(s, host + (i << s->cluster_bits)));
    }
    qcow2_cache_mark_dirty(s, s->l2_cache, e);
    qcow2_cache_put(s, s->l2_cache, e);
    s->need_barrier = true; /* R1, R2 */
    return 0;
}

/* Up to *@nb clusters of one slice, none of which has a host cluster. */
static int coroutine_fn fill_run(Qcow2State *s, uint64_t guest_offset,
                                 uint64_t *nb, BdrvPrealloc mode)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t host = guest_offset;
    bool own = !qcow2_has_data_file(s), fresh = false;
    int ret = 0;

    if (own) {
        ret = qcow2_alloc_data(s, *nb, &host, nb, &fresh);
        if (ret < 0) {
            return ret;
        }
    }
    co_mutex_unlock(&s->lock);
    ret = clear_host(s, host, *nb << s->cluster_bits, mode, fresh);
    co_mutex_lock(&s->lock);
    ret = ret < 0 ? ret : link_run(s, guest_offset, host, *nb);
    if (ret < 0 && own) {
        qcow2_unalloc(s, host, *nb);
    }
    return ret;
}

static int coroutine_fn fill_range(Qcow2State *s, uint64_t from, uint64_t end,
                                   BdrvPrealloc mode)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = 0;

    while (from < end && ret == 0) {
        uint64_t n = MIN((end - from) >> s->cluster_bits,
                         qcow2_slice_left(s, from));
        uint64_t next = from + (n << s->cluster_bits);
        uint64_t first, nb;

        ret = aio_check_stop();
        ret = ret < 0 ? ret : qcow2_ensure_l2(s, from);
        ret = ret < 0 ? ret : find_gap(s, from, n, &first, &nb);
        if (ret == 0 && nb) {
            ret = fill_run(s, first, &nb, mode);
            next = first + (nb << s->cluster_bits);
        }
        from = next;
        qcow2_relieve(s);
    }
    return ret;
}

int coroutine_fn qcow2_preallocate(Qcow2State *s, uint64_t from, uint64_t to,
                                   BdrvPrealloc mode)
{
    uint64_t start = qcow2_cluster_ceil(s, from);
    uint64_t end = qcow2_cluster_ceil(s, to);
    int ret = 0;

    if (start < end) {
        ret = fill_range(s, start, end, mode);
    }
    return ret < 0 ? ret : qcow2_sync_metadata(s);
}
