/* SPDX-License-Identifier: MIT */
/*
 * Persistent dirty bitmaps: the directory, what is done with it at open, and
 * reading contents. Writing is in bitstore.c.
 *
 *            open r/w, mark_in_use()              close, qcow2_bitmaps_store()
 *   sound ---------------------------> in_use --------------------------> sound
 *     | open r/o: nothing changes        | crash: contents are not trusted;
 *     |                                  | the next open finds it inconsistent
 *
 * in_use is set on every bitmap before anything else is written, because a
 * process that dies has not stored what it recorded. The directory is changed
 * in place under a cleared autoclear bit; mixtures of old and new flags would
 * be right as well, as nothing was written to the disk yet.
 *
 * Whoever writes without knowing bitmaps clears that bit. Then what is in the
 * image is worthless: a writer drops the extension, and the clusters are leaks
 * that a check finds.
 *
 * At open only the directory is read, through a window; each bitmap takes its
 * name and some hundred bytes. Bits come with the first question for them.
 * Tables must lie in the file without overlapping, so reading all of them takes
 * no longer than reading the file.
 *
 * A damaged directory makes the bitmaps of a read-only image unusable and
 * keeps it from being opened for writing: it could not be kept current.
 */
#include "bitmap.h"

#define WINDOW (256 * 1024)

/* ---- the directory, through a window ---- */

typedef struct Window {
    uint8_t *buf;
    uint64_t start;         /* holds [start, start + len) of the directory */
    uint64_t len;
    bool dirty;
} Window;

static int coroutine_fn window_write(Qcow2State *s, Window *w)
    REQUIRES(s->lock)
{
    uint64_t offset = s->ext.bitmap_directory_offset + w->start;
    int ret;

    if (!w->dirty) {
        return 0;
    }
    ret = qcow2_check_overlap(s, QCOW2_OL_BITMAP_DIRECTORY, offset, w->len);
    ret = ret < 0 ? ret : bdrv_co_pwrite(s->bs->file, offset, w->len, w->buf,
                                         0);
    w->dirty = ret < 0;
    return ret;
}

/* Have @n <= WINDOW bytes at @pos of the directory in the window. */
static int coroutine_fn window_get(Qcow2State *s, Window *w, uint64_t pos,
                                   uint64_t n, uint8_t **ret, GError **errp)
    REQUIRES(s->lock)
{
    uint64_t size = s->ext.bitmap_directory_size;
    int r = 0;

    if (pos > size || n > size - pos) {
        return set_error(errp, -EINVAL, "an entry of the bitmap directory "
                         "reaches past its end");
    }
    if (pos < w->start || pos + n > w->start + w->len) {
        r = window_write(s, w);
        w->len = 0;
        w->start = pos;
        r = r < 0 ? r : bdrv_co_pread(s->bs->file,
                                      s->ext.bitmap_directory_offset + pos,
                                      MIN(WINDOW, size - pos), w->buf, 0);
        if (r < 0) {
            return set_error(errp, r, "cannot read or write the bitmap "
                             "directory: %s", g_strerror(-r));
        }
        w->len = MIN(WINDOW, size - pos);
    }
    *ret = w->buf + (pos - w->start);
    return 0;
}

/* An entry; @p may be changed, then @w->dirty is to be set. */
typedef int EntryFunc(Qcow2State *s, uint8_t *p, Window *w, void *opaque,
                      GError **errp);

static int coroutine_fn walk_entries(Qcow2State *s, Window *w, EntryFunc *fn,
                                     void *opaque, GError **errp)
    REQUIRES(s->lock)
{
    uint64_t pos = 0;
    int ret = 0;

    for (uint32_t i = 0; i < s->ext.nb_bitmaps && ret == 0; i++) {
        uint64_t bytes;
        uint8_t *p = NULL;

        ret = window_get(s, w, pos, QCOW2_BITMAP_ENTRY, &p, errp);
        if (ret < 0) {
            break;
        }
        /* Extra data is refused, so an entry never outgrows the window. */
        bytes = qcow2_bitmap_entry_bytes(be16_get(p + 18));
        ret = window_get(s, w, pos, bytes, &p, errp);
        ret = ret < 0 ? ret : fn(s, p, w, opaque, errp);
        pos += bytes;
    }
    if (ret == 0 && pos != s->ext.bitmap_directory_size) {
        ret = set_error(errp, -EINVAL, "bitmap directory has %" PRIu64
                        " bytes for %u bitmaps that take %" PRIu64,
                        s->ext.bitmap_directory_size, s->ext.nb_bitmaps, pos);
    }
    return ret;
}

static int coroutine_fn walk_directory(Qcow2State *s, EntryFunc *fn,
                                       void *opaque, GError **errp)
    REQUIRES(s->lock)
{
    Window w = { .buf = blk_try_memalign(WINDOW) };
    int ret;

    if (!w.buf) {
        return set_error(errp, -ENOMEM, "no memory for the bitmap directory");
    }
    ret = walk_entries(s, &w, fn, opaque, errp);
    if (ret == 0) {
        ret = window_write(s, &w);
        if (ret < 0) {
            set_error(errp, ret, "cannot write the bitmap directory: %s",
                      g_strerror(-ret));
        }
    }
    free(w.buf);
    return ret;
}

/* ---- loading the directory ---- */

/* First byte behind what the file holds. */
static uint64_t file_end(const Qcow2State *s)
{
    return ROUND_UP(s->bs->file->bs->total_bytes, s->cluster_size);
}

static int check_place(const Qcow2State *s, uint64_t offset, uint64_t bytes,
                       const char *what, GError **errp)
{
    if (!offset || !IS_ALIGNED(offset, s->cluster_size) ||
        offset > file_end(s) || bytes > file_end(s) - offset) {
        return set_error(errp, -EINVAL, "%s at offset %#" PRIx64 " is "
                         "unaligned or past the end of the file", what,
                         offset);
    }
    return 0;
}

/* @p has a whole entry. */
static int check_entry(const Qcow2State *s, const uint8_t *p, GError **errp)
{
    uint64_t entries = be32_get(p + 8);
    uint32_t flags = be32_get(p + 12);
    unsigned type = p[16], granularity_bits = p[17];
    uint16_t name_len = be16_get(p + 18);
    uint32_t extra = be32_get(p + 20);

    if (type != QCOW2_BITMAP_DIRTY || (flags & ~QCOW2_BITMAP_KNOWN) ||
        extra) {
        return set_error(errp, -EINVAL, "the bitmap directory has an entry "
                         "of type %u with flags %#x and %u bytes of extra "
                         "data, which is not known", type, flags, extra);
    }
    if (granularity_bits < 9 || granularity_bits > 31) {
        return set_error(errp, -EINVAL, "the bitmap directory has a "
                         "granularity of 2^%u bytes", granularity_bits);
    }
    if (name_len < 1 || name_len > BDRV_BITMAP_MAX_NAME ||
        memchr(p + QCOW2_BITMAP_ENTRY, 0, name_len)) {
        return set_error(errp, -EINVAL, "the bitmap directory has an "
                         "impossible name");
    }
    if (entries < 1 || entries > QCOW2_MAX_BITMAP_BYTES >> s->cluster_bits) {
        return set_error(errp, -EINVAL, "the bitmap directory has a table of "
                         "%" PRIu64 " entries", entries);
    }
    return check_place(s, be64_get(p), entries * 8, "a bitmap table", errp);
}

uint64_t qcow2_bitmap_table_entries(const Qcow2State *s, uint64_t nb_bits)
{
    return MAX(1, DIV_ROUND_UP(nb_bits, s->cluster_size * 8));
}

/* Make the bitmap of a directory entry. @opaque: set of names so far. */
static int load_entry(Qcow2State *s, uint8_t *p, Window *w, void *opaque,
                      GError **errp)
{
    GHashTable *names = opaque;
    g_autofree char *name = NULL;
    uint64_t disk = s->bs->total_bytes, nb_bits;
    uint32_t flags = be32_get(p + 12);
    Qcow2BitmapTable *t;
    BdrvDirtyBitmap *bm;
    bool trusted;
    int ret = check_entry(s, p, errp);

    if (ret < 0) {
        return ret;
    }
    name = g_strndup((char *)p + QCOW2_BITMAP_ENTRY, be16_get(p + 18));
    if (g_hash_table_contains(names, name)) {
        return set_error(errp, -EINVAL, "the bitmap directory has two "
                         "bitmaps of one name");
    }
    t = g_new(Qcow2BitmapTable, 1);
    t->offset = be64_get(p);
    t->size = be32_get(p + 8);
    g_ptr_array_add(s->bitmap_tables, t);

    /* A table for another size of disk says nothing about this one. */
    nb_bits = bdrv_bitmap_nb_bits(disk, p[17]);
    trusted = !(flags & QCOW2_BITMAP_IN_USE) &&
              qcow2_bitmap_table_entries(s, nb_bits) == t->size;
    bm = bdrv_bitmap_new_persistent(s->bs, name, p[17], disk,
                                    flags & QCOW2_BITMAP_AUTO, !trusted);
    bm->opaque = t;
    bm->stored = trusted;
    bm->stored_bits = t->nb_bits = trusted ? nb_bits : 0;
    g_hash_table_add(names, bm->name);
    s->bitmaps_fresh |= !(flags & QCOW2_BITMAP_IN_USE);
    return 0;
}

static int compare_tables(gconstpointer a, gconstpointer b)
{
    const Qcow2BitmapTable *x = *(const Qcow2BitmapTable *const *)a;
    const Qcow2BitmapTable *y = *(const Qcow2BitmapTable *const *)b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Tables that overlap would be read and freed twice. Sorts them. */
static int check_tables(Qcow2State *s, GError **errp)
{
    uint64_t dir = s->ext.bitmap_directory_offset;
    uint64_t dir_end = dir + s->ext.bitmap_directory_size;
    uint64_t end = 0;

    g_ptr_array_sort(s->bitmap_tables, compare_tables);
    for (guint i = 0; i < s->bitmap_tables->len; i++) {
        const Qcow2BitmapTable *t = g_ptr_array_index(s->bitmap_tables, i);
        uint64_t t_end = t->offset + t->size * 8ULL;

        if (t->offset < end || (t->offset < dir_end && dir < t_end)) {
            return set_error(errp, -EINVAL, "a bitmap table at offset %#"
                             PRIx64 " overlaps another one or the bitmap "
                             "directory", t->offset);
        }
        end = qcow2_cluster_ceil(s, t_end);
    }
    return 0;
}

static int coroutine_fn load_directory(Qcow2State *s, GError **errp)
    REQUIRES(s->lock)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    int ret;

    if (s->ext.bitmap_directory_size > QCOW2_MAX_BITMAP_DIR) {
        return set_error(errp, -EFBIG, "bitmap directory of %" PRIu64
                         " bytes is larger than %u",
                         s->ext.bitmap_directory_size, QCOW2_MAX_BITMAP_DIR);
    }
    ret = check_place(s, s->ext.bitmap_directory_offset,
                      s->ext.bitmap_directory_size, "the bitmap directory",
                      errp);
    ret = ret < 0 ? ret : walk_directory(s, load_entry, names, errp);
    return ret < 0 ? ret : check_tables(s, errp);
}

/* ---- opening for writing ---- */

static int set_in_use(Qcow2State *s, uint8_t *p, Window *w, void *opaque,
                      GError **errp)
{
    uint32_t flags = be32_get(p + 12);

    if (!(flags & QCOW2_BITMAP_IN_USE)) {
        be32_put(p + 12, flags | QCOW2_BITMAP_IN_USE);
        w->dirty = true;
    }
    return 0;
}

static int coroutine_fn set_autoclear(Qcow2State *s, bool on, GError **errp)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    int ret;

    h.autoclear_features &= ~QCOW2_AUT_BITMAPS;
    h.autoclear_features |= on ? QCOW2_AUT_BITMAPS : 0;
    ret = qcow2_header_update(s, &h);
    return ret < 0 ? set_error(errp, ret, "cannot update the header: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn mark_in_use(Qcow2State *s, GError **errp)
    REQUIRES(s->lock)
{
    int ret;

    if (!s->bitmaps_fresh) {
        return 0;
    }
    ret = set_autoclear(s, false, errp);
    if (ret < 0) {
        return ret;
    }
    ret = walk_directory(s, set_in_use, NULL, errp);
    if (ret == 0) {
        ret = bdrv_co_flush(s->bs->file->bs);
        ret = ret < 0 ? set_error(errp, ret, "cannot flush the bitmap "
                                  "directory: %s", g_strerror(-ret)) : 0;
    }
    if (ret < 0) {
        (void)set_autoclear(s, true, NULL); /* any mixture is right */
        return ret;
    }
    return set_autoclear(s, true, errp);
}

int coroutine_fn qcow2_bitmaps_switch(Qcow2State *s, uint32_t nb,
                                      uint64_t offset, uint64_t bytes)
{
    const Qcow2Extensions old = s->ext;
    int ret;

    s->ext.has_bitmaps = nb > 0;
    s->ext.nb_bitmaps = nb;
    s->ext.bitmap_directory_offset = offset;
    s->ext.bitmap_directory_size = bytes;
    s->hdr.autoclear_features &= ~QCOW2_AUT_BITMAPS;
    s->hdr.autoclear_features |= nb > 0 ? QCOW2_AUT_BITMAPS : 0;
    ret = qcow2_header_rewrite(s); /* on failure the old header is back */
    if (ret < 0) {
        s->ext.has_bitmaps = old.has_bitmaps;
        s->ext.nb_bitmaps = old.nb_bitmaps;
        s->ext.bitmap_directory_offset = old.bitmap_directory_offset;
        s->ext.bitmap_directory_size = old.bitmap_directory_size;
    }
    return ret;
}

static int coroutine_fn open_locked(Qcow2State *s, GError **errp)
    REQUIRES(s->lock)
{
    BlockDriverState *bs = s->bs;
    g_autoptr(GError) error = NULL;
    int ret;

    if (!(s->hdr.autoclear_features & QCOW2_AUT_BITMAPS)) {
        if (bs->read_only) {
            return 0;
        }
        ret = qcow2_bitmaps_switch(s, 0, 0, 0);
        return ret < 0 ? set_error(errp, ret, "cannot drop outdated bitmaps "
                                   "from the header: %s", g_strerror(-ret))
                       : 0;
    }
    ret = load_directory(s, &error);
    if (ret < 0 && bs->read_only) {
        bdrv_bitmaps_free(bs);
        bs->bitmaps_unusable = g_strdup(error->message);
        return 0;
    }
    if (ret < 0) {
        return set_error(errp, ret, "%s", error->message);
    }
    return bs->read_only ? 0 : mark_in_use(s, errp);
}

int coroutine_fn qcow2_bitmaps_open(Qcow2State *s, unsigned flags,
                                    GError **errp)
{
    int ret;

    s->bitmap_tables = g_ptr_array_new_with_free_func(g_free);
    if (flags & BDRV_O_CHECK) {
        /* A check neither trusts the directory nor changes the disk. */
        s->bs->bitmaps_unusable = g_strdup("the image is open for a check");
        return 0;
    }
    if (!s->ext.has_bitmaps) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = open_locked(s, errp);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* ---- contents ---- */

static int check_table_entry(const Qcow2State *s, uint64_t e)
{
    uint64_t offset = e & QCOW2_OFFSET_MASK;

    if ((e & ~(QCOW2_OFFSET_MASK | QCOW2_BITMAP_ALL_ONES)) ||
        (offset && (e & QCOW2_BITMAP_ALL_ONES))) {
        return -EINVAL;
    }
    return check_place(s, offset ? offset : s->cluster_size,
                       offset ? s->cluster_size : 0, "", NULL);
}

int coroutine_fn qcow2_bitmap_table_read(Qcow2State *s,
                                         const Qcow2BitmapTable *t,
                                         uint64_t **ret, GError **errp)
{
    g_autofree uint64_t *entries = g_try_new(uint64_t, t->size);
    uint64_t nb_data = 0;
    int r;

    if (!entries) {
        return set_error(errp, -ENOMEM, "no memory for its table");
    }
    r = bdrv_co_pread(s->bs->file, t->offset, t->size * 8ULL, entries, 0);
    if (r < 0) {
        return set_error(errp, r, "cannot read its table: %s",
                         g_strerror(-r));
    }
    for (uint32_t i = 0; i < t->size && r == 0; i++) {
        entries[i] = GUINT64_FROM_BE(entries[i]);
        nb_data += (entries[i] & QCOW2_OFFSET_MASK) != 0;
        r = check_table_entry(s, entries[i]);
    }
    /* More data than there is file: some of it is named over and over. */
    if (r < 0 || nb_data > file_end(s) >> s->cluster_bits) {
        return set_error(errp, -EINVAL, "its table is damaged");
    }
    *ret = g_steal_pointer(&entries);
    return 0;
}

int coroutine_fn qcow2_bitmap_data_read(Qcow2State *s, uint64_t entry,
                                        uint64_t index, uint64_t nb_bits,
                                        uint8_t *buf)
{
    uint64_t cs = s->cluster_size, first = index * cs * 8;
    uint64_t n = nb_bits > first ? MIN(nb_bits - first, cs * 8) : 0;
    int ret = 0;

    if (entry & QCOW2_OFFSET_MASK) {
        ret = bdrv_co_pread(s->bs->file, entry & QCOW2_OFFSET_MASK, cs, buf,
                            0);
    } else {
        memset(buf, entry & QCOW2_BITMAP_ALL_ONES ? 0xff : 0, cs);
    }
    if (n < cs * 8) {
        buf[n / 8] &= (1u << n % 8) - 1;
        memset(buf + n / 8 + 1, 0, cs - n / 8 - 1);
    }
    return ret;
}

int coroutine_fn qcow2_co_bitmap_load(BlockDriverState *bs,
                                      BdrvDirtyBitmap *bm, GError **errp)
{
    Qcow2State *s = bs->opaque;
    const Qcow2BitmapTable *t = bm->opaque;
    g_autofree uint64_t *entries = NULL;
    uint64_t per_cluster = s->cluster_size * 8;
    uint8_t *buf = blk_try_memalign(s->cluster_size);
    int ret;

    if (!buf) {
        return set_error(errp, -ENOMEM, "no memory");
    }
    ret = qcow2_bitmap_table_read(s, t, &entries, errp);
    for (uint64_t i = 0; ret == 0 && i < t->size &&
         i * per_cluster < bm->stored_bits; i++) {
        uint64_t first = i * per_cluster;

        if (entries[i] == QCOW2_BITMAP_ALL_ONES) {
            sparse_bits_set(bm->bits, first,
                            MIN(per_cluster, bm->stored_bits - first));
        } else if (entries[i]) {
            ret = qcow2_bitmap_data_read(s, entries[i], i, bm->stored_bits,
                                         buf);
            if (ret < 0) {
                set_error(errp, ret, "cannot read it: %s", g_strerror(-ret));
                break;
            }
            sparse_bits_or_bytes(bm->bits, first, buf, s->cluster_size);
        }
    }
    free(buf);
    return ret;
}

/* ---- new ones ---- */

int qcow2_bitmap_can_store(BlockDriverState *bs, const char *name,
                           GError **errp)
{
    Qcow2State *s = bs->opaque;
    g_autoptr(GByteArray) header = g_byte_array_new();
    const Qcow2HeaderForm form = { .old = NULL, .feature_names = true };
    uint64_t bytes = qcow2_bitmap_entry_bytes(strlen(name));
    Qcow2Extensions ext = s->ext;
    Qcow2Header h = s->hdr;
    uint32_t nb = 1;

    if (h.version < 3) {
        return set_error(errp, -ENOTSUP, "a version 2 image cannot keep "
                         "bitmaps");
    }
    if (h.size == 0) { /* other programs open no image that has one then */
        return set_error(errp, -ENOTSUP, "a disk of no bytes cannot keep "
                         "bitmaps");
    }
    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);

        if (bm->persistent) {
            nb++;
            bytes += qcow2_bitmap_entry_bytes(strlen(bm->name));
        }
    }
    if (nb > QCOW2_MAX_BITMAPS || bytes > QCOW2_MAX_BITMAP_DIR) {
        return set_error(errp, -EFBIG, "the image has too many bitmaps "
                         "already");
    }
    ext.has_bitmaps = true;
    return qcow2_header_build(&h, &ext, &form, header, NULL, errp);
}
