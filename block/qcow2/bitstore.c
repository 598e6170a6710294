/* SPDX-License-Identifier: MIT */
/*
 * Storing persistent bitmaps when an image is closed.
 *
 * Everything goes into new clusters; until the header points at the new
 * directory, the old one, in which every bitmap is in_use, is what counts:
 *
 *   bits, tables, directory, refcounts | HEADER | old ones freed
 *
 * So (R1, R4) hold before the header and (R3) after it, and a power cut leaves
 * bitmaps that nobody trusts, or whole ones. A failure is undone.
 *
 * What did not change stays where it is: a table whose bitmap was not marked,
 * and of a bitmap that was never read, the clusters without new marks. One
 * table and two clusters of bits are in memory at a time.
 *
 * A bitmap whose table turns out to be damaged is kept as it is, in_use.
 */
#include "bitmap.h"

#include "util/zero.h"

typedef struct Store {
    Qcow2State *s;
    GArray *fresh;          /* Qcow2Free: taken; given back on failure */
    GArray *old;            /* Qcow2Free: free once the header is switched */
    GHashTable *kept;       /* Qcow2BitmapTable that stay as a whole */
    GByteArray *dir;
    uint32_t nb;
    uint8_t *buf;           /* one cluster each */
    uint8_t *buf2;
} Store;

static void add_range(Store *st, GArray *list, uint64_t offset, uint64_t nb)
{
    Qcow2Free f = { .host_offset = offset, .nb_clusters = nb };
    Qcow2Free *last = list->len ? &g_array_index(list, Qcow2Free,
                                                 list->len - 1) : NULL;

    if (last && last->host_offset +
        (last->nb_clusters << st->s->cluster_bits) == offset) {
        last->nb_clusters += nb;
    } else {
        g_array_append_val(list, f);
    }
}

/* Write @bytes into new clusters. */
static int coroutine_fn put(Qcow2State *s, Store *st, const void *buf,
                            uint64_t bytes, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t nb = DIV_ROUND_UP(bytes, s->cluster_size);
    int r = qcow2_alloc_contiguous(s, nb, ret);

    if (r < 0) {
        return r;
    }
    add_range(st, st->fresh, *ret, nb);
    r = qcow2_check_overlap(s, 0, *ret, bytes);
    return r < 0 ? r : bdrv_co_pwrite(s->bs->file, *ret, bytes, buf, 0);
}

/* ---- one bitmap ---- */

static bool all_ones(const uint8_t *buf, uint64_t bytes)
{
    return buf[0] == 0xff && !memcmp(buf, buf + 1, bytes - 1);
}

/*
 * Does @entry say what cluster @i of bits is to be? Not when there are marks
 * in memory, or when bits that were stored in it do not count any more.
 */
static bool can_keep(const Store *st, const BdrvDirtyBitmap *bm, uint64_t i)
{
    const Qcow2BitmapTable *t = bm->opaque;
    uint64_t n = st->s->cluster_size * 8, size = sparse_bits_size(bm->bits);
    uint64_t first = i * n, end = MIN(first + n, size);

    return first < end && sparse_bits_next(bm->bits, first, end, true) == end
           && (end == first + n ? end <= bm->stored_bits
                                : size == t->nb_bits &&
                                  size == bm->stored_bits);
}

/* Table entry for cluster @i of bits; @old: what it was, if that counts. */
static int coroutine_fn store_cluster(Qcow2State *s, Store *st,
                                      const BdrvDirtyBitmap *bm, uint64_t i,
                                      uint64_t old, uint64_t *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    uint64_t cs = s->cluster_size;
    int r;

    if (old && can_keep(st, bm, i)) {
        *ret = old;
        return 0;
    }
    sparse_bits_get_bytes(bm->bits, i * cs * 8, st->buf, cs);
    if (old) {
        r = qcow2_bitmap_data_read(s, old, i, bm->stored_bits, st->buf2);
        if (r < 0) {
            return r;
        }
        for (uint64_t k = 0; k < cs; k++) {
            st->buf[k] |= st->buf2[k];
        }
    }
    if (buffer_is_zero(st->buf, cs)) {
        *ret = 0;
        return 0;
    }
    if (all_ones(st->buf, cs)) {
        *ret = QCOW2_BITMAP_ALL_ONES;
        return 0;
    }
    return put(s, st, st->buf, cs, ret);
}

/* The clusters of table @t, whose entries are @entries, except those that are
 * in the first @n of @kept as well. */
static void retire(Store *st, const Qcow2BitmapTable *t,
                   const uint64_t *entries, const uint64_t *kept, uint64_t n)
{
    Qcow2State *s = st->s;

    for (uint32_t i = 0; i < t->size; i++) {
        uint64_t offset = entries[i] & QCOW2_OFFSET_MASK;

        if (offset && !(i < n && kept[i] == entries[i])) {
            add_range(st, st->old, offset, 1);
        }
    }
    add_range(st, st->old, t->offset,
              DIV_ROUND_UP(t->size * 8ULL, s->cluster_size));
}

/* A new table for @bm. -EINVAL: the old one is damaged. */
static int coroutine_fn store_table(Qcow2State *s, Store *st,
                                    BdrvDirtyBitmap *bm,
                                    Qcow2BitmapTable *ret)
    REQUIRES(s->lock) DROPS(s->lock)
{
    const Qcow2BitmapTable *t = bm->opaque;
    uint64_t n = qcow2_bitmap_table_entries(s, sparse_bits_size(bm->bits));
    g_autofree uint64_t *new = g_try_new0(uint64_t, n);
    g_autofree uint64_t *old = NULL;
    int r = new ? 0 : -ENOMEM;

    if (r == 0 && t) {
        r = qcow2_bitmap_table_read(s, t, &old, NULL);
        r = r == -EINVAL && !bm->stored ? 0 : r; /* its clusters leak */
    }
    for (uint64_t i = 0; i < n && r == 0; i++) {
        bool counts = bm->stored && i < t->size &&
                      i * s->cluster_size * 8 < bm->stored_bits;

        r = store_cluster(s, st, bm, i, counts ? old[i] : 0, &new[i]);
    }
    if (r < 0) {
        return r;
    }
    if (old) {
        retire(st, t, old, new, n);
    }
    if (t) {
        g_hash_table_add(st->kept, (gpointer)t); /* dealt with */
    }
    for (uint64_t i = 0; i < n; i++) {
        new[i] = GUINT64_TO_BE(new[i]);
    }
    ret->size = n;
    return put(s, st, new, n * 8, &ret->offset);
}

static void append_entry(Store *st, const BdrvDirtyBitmap *bm,
                         const Qcow2BitmapTable *t)
{
    static const uint8_t zero[8];
    uint16_t len = strlen(bm->name);
    uint8_t p[QCOW2_BITMAP_ENTRY] = { 0 };

    be64_put(p, t->offset);
    be32_put(p + 8, t->size);
    be32_put(p + 12, (bm->inconsistent ? QCOW2_BITMAP_IN_USE : 0) |
                     (bm->enabled ? QCOW2_BITMAP_AUTO : 0));
    p[16] = QCOW2_BITMAP_DIRTY;
    p[17] = bm->granularity_bits;
    be16_put(p + 18, len);
    g_byte_array_append(st->dir, p, sizeof(p));
    g_byte_array_append(st->dir, (const uint8_t *)bm->name, len);
    g_byte_array_append(st->dir, zero, ROUND_UP(len, 8) - len);
    st->nb++;
}

static int coroutine_fn store_bitmap(Qcow2State *s, Store *st,
                                     BdrvDirtyBitmap *bm)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2BitmapTable *t = bm->opaque, new;
    int ret;

    if (!bm->inconsistent && (!t || bm->changed)) {
        ret = store_table(s, st, bm, &new);
        if (ret == 0) {
            append_entry(st, bm, &new);
        }
        if (ret != -EINVAL) {
            return ret;
        }
        bdrv_bitmap_set_inconsistent(bm);
    }
    if (t) { /* else it was never in the image and is not worth it */
        g_hash_table_add(st->kept, t);
        append_entry(st, bm, t);
    }
    return 0;
}

/* ---- all of them ---- */

/* Tables of bitmaps that were removed. A damaged one is leaked. */
static int coroutine_fn retire_removed(Qcow2State *s, Store *st)
    REQUIRES(s->lock) DROPS(s->lock)
{

    for (guint i = 0; i < s->bitmap_tables->len; i++) {
        Qcow2BitmapTable *t = g_ptr_array_index(s->bitmap_tables, i);
        g_autofree uint64_t *entries = NULL;
        int ret;

        if (g_hash_table_contains(st->kept, t)) {
            continue;
        }
        ret = qcow2_bitmap_table_read(s, t, &entries, NULL);
        if (ret == 0) {
            retire(st, t, entries, NULL, 0);
        } else if (ret != -EINVAL) {
            return ret;
        }
    }
    return 0;
}

static int coroutine_fn store_all(Qcow2State *s, Store *st)
    REQUIRES(s->lock) DROPS(s->lock)
{
    GPtrArray *list = s->bs->dirty_bitmaps;
    uint64_t offset = 0;
    int ret = 0;

    for (guint i = 0; list && i < list->len && ret == 0; i++) {
        BdrvDirtyBitmap *bm = g_ptr_array_index(list, i);

        ret = bm->persistent ? store_bitmap(s, st, bm) : 0;
    }
    ret = ret < 0 ? ret : retire_removed(s, st);
    if (ret == 0 && s->ext.has_bitmaps) {
        add_range(st, st->old, s->ext.bitmap_directory_offset,
                  DIV_ROUND_UP(s->ext.bitmap_directory_size,
                               s->cluster_size));
    }
    if (ret == 0 && st->nb) {
        ret = put(s, st, st->dir->data, st->dir->len, &offset);
        s->need_barrier = true;
        ret = ret < 0 ? ret : qcow2_barrier(s); /* R1, R4 */
    }
    return ret < 0 ? ret : qcow2_bitmaps_switch(s, st->nb, offset,
                                                st->dir->len);
}

static bool has_persistent(const BlockDriverState *bs)
{
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (bm->persistent) {
            return true;
        }
    }
    return false;
}

int coroutine_fn qcow2_bitmaps_store(Qcow2State *s)
{
    Store st = { .s = s };
    int ret = -ENOMEM;

    if (s->bs->bitmaps_unusable ||
        (!s->bitmap_tables->len && !has_persistent(s->bs))) {
        return 0;
    }
    st.fresh = g_array_new(false, false, sizeof(Qcow2Free));
    st.old = g_array_new(false, false, sizeof(Qcow2Free));
    st.kept = g_hash_table_new(NULL, NULL);
    st.dir = g_byte_array_new();
    st.buf = blk_try_memalign(s->cluster_size);
    st.buf2 = blk_try_memalign(s->cluster_size);
    if (st.buf && st.buf2) {
        ret = store_all(s, &st);
    }
    for (guint i = 0; ret < 0 && !s->corrupt && i < st.fresh->len; i++) {
        const Qcow2Free *f = &g_array_index(st.fresh, Qcow2Free, i);

        qcow2_unalloc(s, f->host_offset, f->nb_clusters);
    }
    for (guint i = 0; ret == 0 && i < st.old->len; i++) {
        const Qcow2Free *f = &g_array_index(st.old, Qcow2Free, i);

        qcow2_defer_free(s, f->host_offset, f->nb_clusters,
                         s->punch_other); /* R3 */
    }
    g_array_unref(st.fresh);
    g_array_unref(st.old);
    g_hash_table_unref(st.kept);
    g_byte_array_unref(st.dir);
    free(st.buf);
    free(st.buf2);
    return ret;
}
