/* SPDX-License-Identifier: MIT */
/*
 * How large the caches are, and the timer that makes them smaller.
 *
 * Without options the L2 cache has room for all L2 tables, or 32 MiB if that
 * is less: 1 MiB covers 8 GiB with 64 KiB clusters. One that cannot hold them
 * all has entries of 4 KiB. Memory is taken as entries come into use; every
 * cache-clean-interval seconds those are dropped that are clean and were not
 * used since the last time.
 *
 * The timer only starts a coroutine, which takes s->lock like anybody else. A
 * drain waits for it; closing frees the timer under the lock, so that it finds
 * none when it comes last.
 */
#include "qcow2_int.h"
#include "util/aio.h"

#define L2_CACHE_MAX     (32u * 1024 * 1024)
#define L2_CACHE_ENTRIES 16 /* at least, unless a size was asked for */
#define CACHE_MIN_L2     2
#define CACHE_MIN_REF    4
#define CLEAN_INTERVAL   600 /* seconds */

/* ---- sizes ---- */

typedef struct CacheSizes {
    uint64_t l2, ref, total, entry, need;
} CacheSizes;

static int split_total(const Qcow2State *s, CacheSizes *c, GError **errp)
{
    uint64_t min_ref = CACHE_MIN_REF * s->cluster_size;

    if (c->l2 && c->ref) {
        return set_error(errp, -EINVAL, "cache-size, l2-cache-size and "
                         "refcount-cache-size cannot all be set");
    }
    if (c->l2 > c->total || c->ref > c->total) {
        return set_error(errp, -EINVAL, "%s is larger than cache-size",
                         c->l2 > c->total ? "l2-cache-size"
                                          : "refcount-cache-size");
    }
    if (c->l2) {
        c->ref = c->total - c->l2;
    } else if (c->ref) {
        c->l2 = c->total - c->ref;
    } else if (c->total >= c->need + min_ref) {
        c->l2 = c->need;
        c->ref = c->total - c->need;
    } else {
        c->ref = MIN(c->total, min_ref);
        c->l2 = c->total - c->ref;
    }
    return 0;
}

static void make_caches(Qcow2State *s, const CacheSizes *c, bool l2_given)
{
    uint64_t nb_l2 = c->l2 / c->entry, nb_ref = c->ref / s->cluster_size;
    uint64_t max_ref = QCOW2_MAX_REFTABLE / 8;

    nb_l2 = MAX(nb_l2, l2_given ? CACHE_MIN_L2 : L2_CACHE_ENTRIES);
    nb_l2 = MIN(nb_l2, c->need / c->entry + 1024); /* more is never used */
    nb_ref = MIN(MAX(nb_ref, CACHE_MIN_REF), max_ref);
    s->l2_slice_bits = g_bit_storage(c->entry) - 1 - s->l2_entry_bits;
    s->l2_cache = qcow2_cache_new(QCOW2_CACHE_L2, nb_l2, c->entry);
    s->refblock_cache = qcow2_cache_new(QCOW2_CACHE_REFBLOCK, nb_ref,
                                        s->cluster_size);
}

static int take_sizes(BdrvOptions *o, CacheSizes *c, GError **errp)
{
    int ret = bdrv_options_take_size(o, "cache-size", 0, &c->total, errp);

    ret = ret < 0 ? ret : bdrv_options_take_size(o, "l2-cache-size", 0,
                                                 &c->l2, errp);
    ret = ret < 0 ? ret : bdrv_options_take_size(o, "refcount-cache-size", 0,
                                                 &c->ref, errp);
    return ret < 0 ? ret : bdrv_options_take_size(o, "l2-cache-entry-size", 0,
                                                  &c->entry, errp);
}

static int open_caches(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    CacheSizes c = { 0 };
    bool given;
    int ret;

    c.need = ROUND_UP(DIV_ROUND_UP(s->hdr.size, s->cluster_size)
                      << s->l2_entry_bits, s->cluster_size);
    ret = take_sizes(o, &c, errp);
    given = c.total || c.l2;
    if (ret == 0 && c.total) {
        ret = split_total(s, &c, errp);
    }
    if (ret < 0) {
        return ret;
    }
    c.l2 = given ? c.l2 : MIN(L2_CACHE_MAX, c.need);
    c.ref = c.ref ? c.ref : CACHE_MIN_REF * s->cluster_size;
    if (!c.entry) {
        c.entry = c.l2 < c.need ? MIN(s->cluster_size, 4096)
                                : s->cluster_size;
    }
    if (c.entry < 512 || c.entry > s->cluster_size ||
        (c.entry & (c.entry - 1))) {
        return set_error(errp, -EINVAL, "l2-cache-entry-size must be a power "
                         "of two from 512 to the cluster size");
    }
    make_caches(s, &c, given);
    return 0;
}

/* ---- the timer ---- */

static void arm(Qcow2State *s)
{
    aio_timer_mod(s->clean_timer, aio_now_ns() + s->clean_interval_ns);
}

static void coroutine_fn clean_entry(void *opaque)
{
    Qcow2State *s = opaque;

    co_mutex_lock(&s->lock);
    if (s->clean_timer) {
        qcow2_cache_clean(s, s->l2_cache);
        qcow2_cache_clean(s, s->refblock_cache);
        arm(s);
    }
    bdrv_dec_in_flight(s->bs);
    co_mutex_unlock(&s->lock);
}

static void clean_timer(void *opaque)
{
    Qcow2State *s = opaque;
    Coroutine *co = co_create(clean_entry, s);

    co_set_name(co, "qcow2 cache cleaning");
    bdrv_inc_in_flight(s->bs);
    co_enter(co);
}

int qcow2_caches_open(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    uint64_t interval = 0;
    int ret = open_caches(s, o, errp);

    ret = ret < 0 ? ret : bdrv_options_take_u64(o, "cache-clean-interval",
                                                CLEAN_INTERVAL, &interval,
                                                errp);
    if (ret == 0 && interval > UINT32_MAX) {
        ret = set_error(errp, -EINVAL, "cache-clean-interval is too long");
    }
    if (ret == 0 && interval) {
        s->clean_interval_ns = interval * 1000000000LL;
        s->clean_timer = aio_timer_new(s->bs->ctx, clean_timer, s);
        arm(s);
    }
    return ret;
}

void coroutine_fn qcow2_caches_close(Qcow2State *s)
{
    co_mutex_lock(&s->lock);
    aio_timer_free(s->clean_timer);
    s->clean_timer = NULL;
    co_mutex_unlock(&s->lock);
    qcow2_cache_free(s->l2_cache);
    qcow2_cache_free(s->refblock_cache);
}
