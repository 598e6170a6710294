/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing: what the header means for us.
 *
 * Order: decode the header and its extensions; refuse by name what this driver
 * cannot do (for a writer, also what it would damage); take the options; load
 * refcount table, L1 table and snapshot table, all of which have to lie inside
 * the file; open the backing file; for a writer, clear unknown autoclear bits
 * before any other write; then repair an image that is marked dirty. Nothing is
 * written before everything is known.
 */
#include "qcow2_int.h"

#include "util/nearest.h"

static bool wants_write(const Qcow2State *s)
{
    return !s->bs->read_only;
}

/* ---- features ---- */

static int refuse_unknown(const Qcow2State *s, uint64_t bits, GError **errp)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned bit = 0; bit < 64; bit++) {
        const char *name;

        if (!(bits & (1ULL << bit))) {
            continue;
        }
        name = g_hash_table_lookup(s->ext.feature_names,
                                   GUINT_TO_POINTER(bit));
        g_string_append(names, names->len ? ", " : "");
        if (name && *name && g_utf8_validate(name, -1, NULL)) {
            g_string_append(names, name);
        } else {
            g_string_append_printf(names, "incompatible bit %u", bit);
        }
    }
    return set_error(errp, -ENOTSUP, "image has features this driver does "
                     "not know: %s", names->str);
}

static int check_incompatible(Qcow2State *s, unsigned flags, GError **errp)
{
    uint64_t inc = s->hdr.incompatible_features;

    if (inc & ~QCOW2_INC_KNOWN) {
        return refuse_unknown(s, inc & ~QCOW2_INC_KNOWN, errp);
    }
    if ((s->hdr.autoclear_features & QCOW2_AUT_RAW) &&
        !(inc & QCOW2_INC_DATA_FILE)) {
        return set_error(errp, -EINVAL, "the image says that its data file "
                         "is raw, and has none");
    }
    if ((inc & QCOW2_INC_EXTENDED_L2) &&
        s->hdr.cluster_bits < QCOW2_MIN_EXTENDED_BITS) {
        return set_error(errp, -EINVAL, "extended L2 entries need clusters "
                         "of at least 16 KiB");
    }
    if (!qcow2_codec_has(s->hdr.compression_type)) {
        return set_error(errp, -ENOTSUP, "this build cannot read zstd "
                         "clusters");
    }
    if (!wants_write(s) || (flags & BDRV_O_CHECK)) {
        return 0;
    }
    if (inc & QCOW2_INC_CORRUPT) {
        return set_error(errp, -EACCES, "image is marked corrupt and can "
                         "only be opened read-only; repair it with "
                         "'firn-img check -r all'");
    }
    return 0;
}

/* Autoclear bits say "still true if you know me". Without the extension the
 * one for bitmaps means nothing. */
static int coroutine_fn clear_autoclear(Qcow2State *s, GError **errp)
{
    uint64_t known = QCOW2_AUT_RAW |
                     (s->ext.has_bitmaps ? QCOW2_AUT_BITMAPS : 0);
    Qcow2Header h = s->hdr;
    int ret;

    if (!(h.autoclear_features & ~known) || !wants_write(s)) {
        return 0;
    }
    h.autoclear_features &= known;
    co_mutex_lock(&s->lock);
    ret = qcow2_header_update(s, &h);
    co_mutex_unlock(&s->lock);
    return ret < 0 ? set_error(errp, ret, "cannot update the header: %s",
                               g_strerror(-ret)) : 0;
}

/* A writer must not build on refcounts that may be too low. */
static int coroutine_fn repair_dirty(Qcow2State *s, GError **errp)
{
    unsigned fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
    BdrvCheckResult r;
    int ret;

    if (!(s->hdr.incompatible_features & QCOW2_INC_DIRTY) ||
        !wants_write(s) || s->damaged_ok) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_check(s, &r, fix, NULL, NULL, errp);
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return prefix_error(errp, ret, "image was not closed cleanly and its "
                            "refcounts could not be repaired: ");
    }
    if (r.corruptions || r.check_errors) {
        return set_error(errp, -EACCES, "image was not closed cleanly and %"
                         PRIu64 " findings could not be repaired; look at it "
                         "with 'firn-img check'",
                         r.corruptions + r.check_errors);
    }
    return 0;
}

/* ---- header ---- */

static int coroutine_fn load_header(Qcow2State *s, unsigned flags,
                                    GError **errp)
{
    uint8_t *buf;
    uint64_t cs;
    int ret;

    ret = bdrv_co_pread(s->bs->file, 0, QCOW2_SECTOR, s->hdr_sector, 0);
    if (ret < 0) {
        return set_error(errp, ret, "cannot read the header: %s",
                         g_strerror(-ret));
    }
    ret = s->damaged_ok
          ? qcow2_header_decode_damaged(s->hdr_sector, QCOW2_SECTOR, &s->hdr,
                                        errp)
          : qcow2_header_decode(s->hdr_sector, QCOW2_SECTOR, &s->hdr, errp);
    if (ret < 0) {
        return ret;
    }
    cs = 1ULL << s->hdr.cluster_bits;
    buf = blk_try_memalign(cs);
    if (!buf) {
        return set_error(errp, -ENOMEM, "no memory for the header");
    }
    ret = bdrv_co_pread(s->bs->file, 0, cs, buf, 0);
    if (ret < 0) {
        set_error(errp, ret, "cannot read the header: %s", g_strerror(-ret));
    } else {
        ret = qcow2_extensions_decode(buf, cs, &s->hdr, &s->ext, errp);
    }
    free(buf);
    return ret < 0 ? ret : check_incompatible(s, flags, errp);
}

static void set_geometry(Qcow2State *s)
{
    const Qcow2Header *h = &s->hdr;
    bool extended = h->incompatible_features & QCOW2_INC_EXTENDED_L2;

    s->cluster_bits = h->cluster_bits;
    s->cluster_size = 1ULL << h->cluster_bits;
    s->l2_entry_bits = extended ? 4 : 3;
    s->subcluster_bits = h->cluster_bits - (extended ? 5 : 0);
    s->nb_subclusters = extended ? 32 : 1;
    s->l2_bits = h->cluster_bits - s->l2_entry_bits;
    s->refcount_order = h->refcount_order;
    s->refblock_bits = h->cluster_bits + 3 - h->refcount_order;
    s->refcount_max = h->refcount_order == 6 ? UINT64_MAX
                      : (1ULL << (1u << h->refcount_order)) - 1;
}

/* ---- options ---- */

static int take_lazy(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    bool given = s->hdr.compatible_features & QCOW2_COM_LAZY, lazy;
    int ret = bdrv_options_take_bool(o, "lazy-refcounts", given, &lazy, errp);

    if (ret == 0 && lazy && s->hdr.version < 3) {
        ret = set_error(errp, -EINVAL,
                        "lazy-refcounts needs a version 3 image");
    }
    /* A check works on refcounts that are on disk. */
    s->lazy_refcounts = ret == 0 && lazy && !s->damaged_ok;
    return ret;
}

static int take_options(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    bool unmap = s->bs->open_flags & BDRV_O_UNMAP;
    int ret;

    ret = qcow2_caches_open(s, o, errp);
    ret = ret < 0 ? ret : qcow2_overlap_take_options(s, o, errp);
    ret = ret < 0 ? ret : take_lazy(s, o, errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "pass-discard-request",
                                                 unmap, &s->punch_request,
                                                 errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "pass-discard-snapshot",
                                                 true, &s->punch_snapshot,
                                                 errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "pass-discard-other",
                                                 false, &s->punch_other,
                                                 errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "discard-no-unref", false,
                                                 &s->discard_no_unref, errp);
    if (ret == 0 && s->discard_no_unref && s->hdr.version < 3) {
        ret = set_error(errp, -EINVAL,
                        "discard-no-unref needs a version 3 image");
    }
    return ret;
}

/* ---- tables ---- */

/* R7: a table that the file does not hold was cut off or never there. A check
 * reads zeroes instead and reports it. */
static int check_inside(const Qcow2State *s, uint64_t file_bytes,
                        uint64_t offset, uint64_t bytes, const char *what,
                        GError **errp)
{
    if (bytes && !s->damaged_ok &&
        offset + bytes > ROUND_UP(file_bytes, s->cluster_size)) {
        return set_error(errp, -EINVAL, "%s lies past the end of the file",
                         what);
    }
    return 0;
}

static int coroutine_fn load_table(Qcow2State *s, Qcow2Table *t,
                                   uint64_t file_bytes, uint64_t offset,
                                   uint64_t size, const char *what,
                                   GError **errp)
{
    int ret;

    ret = check_inside(s, file_bytes, offset, size * 8, what, errp);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_table_init(t, offset, size);
    ret = ret < 0 ? ret : qcow2_table_load(s, t);
    return ret < 0 ? set_error(errp, ret, "cannot load the %s: %s", what,
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn load_tables(Qcow2State *s, GError **errp)
{
    const Qcow2Header *h = &s->hdr;
    int64_t file_bytes = bdrv_co_getlength(s->bs->file->bs);
    int ret;

    if (file_bytes < 0) {
        return set_error(errp, file_bytes, "cannot get the file length: %s",
                         g_strerror(-file_bytes));
    }
    BLKDBG_EVENT(s->bs->file, BLKDBG_REFTABLE_LOAD);
    ret = load_table(s, &s->reftable, file_bytes, h->refcount_table_offset,
                     h->refcount_table_clusters * s->cluster_size / 8,
                     "refcount table", errp);
    ret = ret < 0 ? ret : load_table(s, &s->l1, file_bytes,
                                     h->l1_table_offset, h->l1_size,
                                     "L1 table", errp);
    ret = ret < 0 ? ret : check_inside(s, file_bytes, h->snapshots_offset,
                                       (uint64_t)h->nb_snapshots * 40,
                                       "snapshot table", errp);
    ret = ret < 0 ? ret : qcow2_snaptable_load(s, errp);
    if (ret < 0) {
        return ret;
    }
    s->first_free = g_try_new0(uint32_t, s->reftable.size + 1);
    if (!s->first_free) {
        return set_error(errp, -ENOMEM, "no memory for refcounts");
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_filter_rebuild(s);
    co_mutex_unlock(&s->lock);
    return ret < 0 ? set_error(errp, ret, "no memory for overlap checks") : 0;
}

/* ---- backing file ---- */

/* The same file further up makes the chain endless. */
static int check_chain(BlockDriverState *bs, unsigned *ret_depth,
                       GError **errp)
{
    g_autofree char *mine = realpath(bs->filename ? bs->filename : "", NULL);
    unsigned depth = 0;

    for (BdrvChild *edge = bs->parent_edge; edge && edge->parent;
         edge = edge->parent->parent_edge) {
        const char *name = edge->parent->filename;
        g_autofree char *theirs = realpath(name ? name : "", NULL);

        if (edge->role != BDRV_CHILD_BACKING) {
            continue;
        }
        if (mine && theirs && !strcmp(mine, theirs)) {
            return set_error(errp, -ELOOP, "backing chain is an infinite "
                             "loop through '%s'", bs->filename);
        }
        if (++depth > QCOW2_MAX_CHAIN) {
            return set_error(errp, -ELOOP, "backing chain is longer than %d "
                             "files", QCOW2_MAX_CHAIN);
        }
    }
    *ret_depth = depth;
    return 0;
}

/* The "backing" option: absent, or "no backing file". */
static int take_backing_option(BdrvOptions *options, bool *ret_none,
                               GError **errp)
{
    g_autofree char *v = bdrv_options_take(options, "backing");

    if (v && *v && strcmp(v, "null")) {
        g_autofree char *hint = NULL;
        Nearest n;

        nearest_init(&n, v);
        nearest_offer(&n, "null");
        hint = nearest_hint(&n, "", "; use backing.* options");
        return set_error(errp, -ENOTSUP, "backing='%s': a node cannot be "
                         "named here%s", v, hint);
    }
    *ret_none = v != NULL;
    return 0;
}

static int coroutine_fn open_backing(Qcow2State *s, BdrvOptions *options,
                                     unsigned flags, GError **errp)
{
    BdrvOptions *sub = NULL;
    const char *name = s->ext.backing_file ? s->ext.backing_file : "";
    g_autofree char *path = NULL;
    bool none = false, located;
    int ret;

    ret = take_backing_option(options, &none, errp);
    if (ret < 0 || none || (flags & BDRV_O_NO_BACKING)) {
        return ret;
    }
    sub = bdrv_options_take_prefix(options, "backing.");
    located = bdrv_options_has_prefix(sub, "file") ||
              bdrv_options_get(sub, "filename") ||
              (!*name && bdrv_options_get(sub, "driver"));
    if (!*name && !located) {
        ret = bdrv_options_check_empty(sub, errp);
        bdrv_options_free(sub);
        return ret;
    }
    ret = check_chain(s->bs, &s->backing_depth, errp);
    if (ret < 0) {
        bdrv_options_free(sub);
        return ret;
    }
    if (s->ext.backing_format && *s->ext.backing_format && !located) {
        bdrv_options_set_default(sub, "driver", s->ext.backing_format);
    }
    if (!located) {
        path = bdrv_combine_filename(s->bs->filename, name);
    }
    ret = bdrv_co_open_child(s->bs, path, sub, "backing",
                             BDRV_CHILD_BACKING, &s->bs->backing, errp);
    return ret < 0 ? qcow2_backing_error(errp, ret, path ? path : name) : 0;
}

/* ---- open, close ---- */

static void coroutine_fn free_state(Qcow2State *s)
{
    qcow2_caches_close(s);
    qcow2_decoded_free(s->decoded);
    qcow2_crypto_free(s->crypto);
    qcow2_table_cleanup(&s->l1);
    qcow2_table_cleanup(&s->reftable);
    qcow2_vmstate_view_reset(s);
    qcow2_extensions_cleanup(&s->ext);
    qcow2_snapindex_reset(s);
    g_ptr_array_unref(s->snapshots);
    g_clear_pointer(&s->bitmap_tables, g_ptr_array_unref);
    g_array_unref(s->frees);
    g_free(s->first_free);
    g_free(s->filter);
    qcow2_inactive_l2_free(s->inactive_l2);
    g_free(s->corrupt_reason);
    co_mutex_destroy(&s->lock);
    co_rwlock_destroy(&s->map_lock);
    co_mutex_destroy(&s->delete_lock);
}

int coroutine_fn qcow2_co_open(BlockDriverState *bs, BdrvOptions *options,
                               unsigned flags, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    s->bs = bs;
    s->data_file = bs->file;
    s->tally_bytes = QCOW2_TALLY_BYTES;
    s->damaged_ok = flags & BDRV_O_CHECK;
    co_mutex_init(&s->delete_lock);
    co_rwlock_init(&s->map_lock);
    co_mutex_init(&s->lock);
    co_queue_init(&s->l1_growing_queue);
    co_queue_init(&s->packing_queue);
    co_queue_init(&s->vm_loads_queue);
    g_queue_init(&s->in_flight);
    s->frees = g_array_new(false, false, sizeof(Qcow2Free));
    s->snapshots = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qcow2_snapshot_free);
    ret = load_header(s, flags, errp);
    if (ret == 0) {
        set_geometry(s);
        s->decoded = qcow2_decoded_new(s);
        ret = take_options(s, options, errp);
    }
    ret = ret < 0 ? ret : load_tables(s, errp);
    ret = ret < 0 ? ret : qcow2_snapshot_open(s, options, errp);
    ret = ret < 0 ? ret : qcow2_open_data_file(s, options, flags, errp);
    ret = ret < 0 ? ret : qcow2_crypto_open(s, options, flags, errp);
    ret = ret < 0 ? ret : open_backing(s, options, flags, errp);
    bs->total_bytes = ROUND_DOWN(s->hdr.size, (uint64_t)QCOW2_SECTOR);
    ret = ret < 0 ? ret : clear_autoclear(s, errp);
    ret = ret < 0 ? ret : repair_dirty(s, errp);
    if (ret == 0 && !s->shows_snapshot) { /* they are the active layer's */
        ret = qcow2_bitmaps_open(s, flags, errp);
    }
    if (ret < 0) {
        free_state(s);
        return ret;
    }
    bs->request_alignment = s->hdr.crypt_method ? QCOW2_SECTOR : 1;
    bs->pdiscard_alignment = s->cluster_size;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK |
                               BDRV_REQ_EXPLICIT_ZERO;
    return 0;
}

int coroutine_fn qcow2_co_close(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    if (!bs->read_only && !s->corrupt) {
        int ret2;

        co_mutex_lock(&s->lock);
        ret = qcow2_bitmaps_store(s);
        /* Who repairs says itself whether the image is clean now. */
        ret2 = s->corrupt ? 0 : s->damaged_ok ? qcow2_sync_metadata(s)
                                              : qcow2_mark_clean(s);
        ret = ret < 0 ? ret : ret2;
        co_mutex_unlock(&s->lock);
    }
    free_state(s);
    return ret;
}
