/* SPDX-License-Identifier: MIT */
/*
 * Changing what an image was created with. All options are taken and checked
 * before anything changes; then, each step whole and durable by itself:
 *
 *   passphrases | compat up | refcount width | names | flags | size |
 *   compat down
 *
 * Version 3 comes first and version 2 last, so that what needs version 3 is
 * never there without it. A power cut leaves the image after some of the
 * steps, as sound as before.
 */
#include "qcow2_int.h"

#include "block/dirty-bitmap_int.h"

typedef struct Amend {
    unsigned version;       /* wanted */
    unsigned order;         /* of refcounts */
    bool lazy;
    bool raw;               /* data_file_raw */
    uint64_t size;
    char *backing_file;     /* NULL: as it is, "": none */
    char *backing_format;
    char *data_file;        /* NULL: as it is, "": no name */
    Qcow2CryptoAmend *crypto;   /* NULL: the passphrases stay */
} Amend;

/* ---- options ---- */

/* What create knows and nobody can change. */
static int refuse_others(BdrvOptions *o, GError **errp)
{
    static const char *const fixed[] = {
        "cluster_size", "extended_l2", "compression_type", "preallocation",
        "encryption", "encrypt.format",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        if (bdrv_options_get(o, fixed[i])) {
            return set_error(errp, -ENOTSUP, "option %s is for creating "
                             "images and cannot be changed", fixed[i]);
        }
    }
    return 0;
}

static int take_version(const Qcow2State *s, BdrvOptions *o, Amend *a,
                        GError **errp)
{
    g_autofree char *v = bdrv_options_take(o, "compat");

    a->version = s->hdr.version;
    if (!v) {
        return 0;
    }
    if (!strcmp(v, "1.1") || !strcmp(v, "v3")) {
        a->version = 3;
    } else if (!strcmp(v, "0.10") || !strcmp(v, "v2")) {
        a->version = 2;
    } else {
        return bdrv_options_refuse("compat", v,
                                   NEAREST_LIST("0.10", "v2", "1.1", "v3"),
                                   errp);
    }
    return 0;
}

static int take_width(const Qcow2State *s, BdrvOptions *o, Amend *a,
                      GError **errp)
{
    uint64_t bits;
    int ret = bdrv_options_take_u64(o, "refcount_bits",
                                    1ULL << s->refcount_order, &bits, errp);

    if (ret < 0) {
        return ret;
    }
    if (!bits || bits > 64 || (bits & (bits - 1))) {
        return set_error(errp, -EINVAL, "refcount_bits must be a power of "
                         "two from 1 to 64");
    }
    a->order = g_bit_storage(bits) - 1;
    if (a->version < 3 && s->hdr.version < 3 && bits != 16) {
        return set_error(errp, -EINVAL, "refcount_bits other than 16 need "
                         "compat=1.1");
    }
    return 0;
}

static int take_flags(const Qcow2State *s, BdrvOptions *o, Amend *a,
                      GError **errp)
{
    bool raw = s->hdr.autoclear_features & QCOW2_AUT_RAW;
    bool lazy = s->hdr.compatible_features & QCOW2_COM_LAZY;
    bool given = bdrv_options_get(o, "lazy_refcounts");
    int ret;

    ret = bdrv_options_take_bool(o, "lazy_refcounts", lazy, &a->lazy, errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "data_file_raw", raw,
                                                 &a->raw, errp);
    if (ret < 0) {
        return ret;
    }
    if (given && a->lazy && a->version < 3) {
        return set_error(errp, -EINVAL, "lazy_refcounts needs compat=1.1");
    }
    if (a->raw && !raw) {
        return set_error(errp, -EINVAL, "data_file_raw cannot be switched on "
                         "for an image that exists");
    }
    return 0;
}

static int take_names(const Qcow2State *s, BdrvOptions *o, Amend *a,
                      GError **errp)
{
    a->backing_file = bdrv_options_take(o, "backing_file");
    a->backing_format = bdrv_options_take(o, "backing_fmt");
    a->data_file = bdrv_options_take(o, "data_file");
    if (a->data_file && !qcow2_has_data_file(s)) {
        return set_error(errp, -EINVAL, "data_file is for images that were "
                         "created with one");
    }
    if (a->backing_format && !a->backing_file) {
        if (!s->ext.backing_file) {
            return set_error(errp, -EINVAL, "backing_fmt needs a backing "
                             "file");
        }
        a->backing_file = g_strdup(s->ext.backing_file);
    }
    return 0;
}

static int take_size(const Qcow2State *s, BdrvOptions *o, Amend *a,
                     GError **errp)
{
    const char *text = bdrv_options_get(o, "size");

    if (text && strchr(text, '+')) {
        return set_error(errp, -EINVAL, "size=%s would be the new size, not "
                         "what is added; resize adds", text);
    }
    if (bdrv_options_take_size(o, "size", s->hdr.size, &a->size, errp) < 0) {
        return -EINVAL;
    }
    return a->size == 0 && s->hdr.size > 0
           ? set_error(errp, -EINVAL, "the new size must be more than 0") : 0;
}

static int take_all(const Qcow2State *s, BdrvOptions *o, bool force, Amend *a,
                    GError **errp)
{
    int ret = refuse_others(o, errp);

    ret = ret < 0 ? ret : take_version(s, o, a, errp);
    ret = ret < 0 ? ret : take_width(s, o, a, errp);
    ret = ret < 0 ? ret : take_flags(s, o, a, errp);
    ret = ret < 0 ? ret : take_names(s, o, a, errp);
    ret = ret < 0 ? ret : take_size(s, o, a, errp);
    ret = ret < 0 ? ret : qcow2_crypto_take_amend(s, o, force, &a->crypto,
                                                  errp);
    ret = ret < 0 ? ret : bdrv_options_check_empty(o, errp);
    if (ret == 0 && a->version < s->hdr.version) {
        ret = qcow2_check_downgrade(s, a->size, a->order, errp);
    }
    if (ret == 0 && a->size != s->hdr.size) {
        ret = qcow2_check_size(s, a->size, MAX(a->version, s->hdr.version),
                               errp);
        ret = ret < 0 ? ret : bdrv_bitmaps_check_resize(s->bs, a->size, errp);
    }
    return ret;
}

/* Version 2 has one type of compression. */
static int coroutine_fn check_compression(Qcow2State *s, const Amend *a,
                                          GError **errp)
{
    int ret;

    if (a->version >= s->hdr.version || !s->hdr.compression_type) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_check_uncompressed(s, errp);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* ---- steps ---- */

/* Version 3 wants sizes in the snapshot table. */
static int coroutine_fn upgrade(Qcow2State *s, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    bool complete = true;
    int ret = qcow2_sync_metadata(s);

    for (guint i = 0; i < s->snapshots->len; i++) {
        complete &= qcow2_snapshot_has_disk_size(
            g_ptr_array_index(s->snapshots, i));
    }
    if (ret == 0 && !complete) {
        ret = qcow2_snapshot_rewrite_table(s);
    }
    if (ret == 0) {
        s->hdr.version = 3;
        ret = qcow2_header_rewrite(s);
    }
    return ret < 0 ? set_error(errp, ret, "cannot change compat: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn downgrade(Qcow2State *s, BdrvProgressFunc *progress,
                                  void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret;

    s->discard_no_unref = false; /* it needs zero flags */
    ret = qcow2_drop_zero_flags(s, progress, opaque, errp);
    if (ret < 0) {
        return ret;
    }
    s->lazy_refcounts = false;
    ret = qcow2_mark_clean(s);
    if (ret < 0) {
        return set_error(errp, ret, "cannot change compat: %s",
                         g_strerror(-ret));
    }
    s->hdr.version = 2;
    s->hdr.incompatible_features = 0;
    s->hdr.compatible_features = 0;
    s->hdr.autoclear_features = 0;
    s->hdr.compression_type = 0;
    ret = qcow2_header_rewrite(s);
    return ret < 0 ? set_error(errp, ret, "cannot change compat: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn set_data_file(Qcow2State *s, const char *name,
                                      GError **errp)
    REQUIRES(s->lock)
{
    char *old = s->ext.data_file_name;
    int ret;

    s->ext.data_file_name = *name ? g_strdup(name) : NULL;
    ret = qcow2_header_rewrite(s);
    if (ret < 0) {
        g_free(s->ext.data_file_name);
        s->ext.data_file_name = old;
        return set_error(errp, ret, "cannot change data_file: %s",
                         g_strerror(-ret));
    }
    g_free(old);
    return 0;
}

static int coroutine_fn set_flags(Qcow2State *s, const Amend *a,
                                  GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    Qcow2Header h;
    int ret = a->lazy ? 0 : qcow2_mark_clean(s);

    h = s->hdr;
    if (a->lazy) {
        h.compatible_features |= QCOW2_COM_LAZY;
    } else {
        h.compatible_features &= ~QCOW2_COM_LAZY;
    }
    if (!a->raw) {
        h.autoclear_features &= ~QCOW2_AUT_RAW;
    }
    if (ret == 0 && (h.compatible_features != s->hdr.compatible_features ||
                     h.autoclear_features != s->hdr.autoclear_features)) {
        ret = qcow2_header_update(s, &h);
        s->lazy_refcounts = ret == 0 && a->lazy;
    }
    return ret < 0 ? set_error(errp, ret, "cannot change the header: %s",
                               g_strerror(-ret)) : 0;
}

static bool same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

/* A format that was not given is the old one if the file stays. */
static int coroutine_fn set_backing(Qcow2State *s, const Amend *a,
                                    GError **errp)
    REQUIRES(s->lock)
{
    bool stays = same(a->backing_file, s->ext.backing_file);
    const char *fmt = a->backing_format ? a->backing_format
                      : stays ? s->ext.backing_format : NULL;

    if (!a->backing_file || (stays && same(fmt, s->ext.backing_format))) {
        return 0;
    }
    return qcow2_set_backing(s, *a->backing_file ? a->backing_file : NULL,
                             *a->backing_file ? fmt : NULL, errp);
}

/* Everything between the changes of version; the size comes on its own. */
static int coroutine_fn change(Qcow2State *s, const Amend *a,
                               BdrvProgressFunc *progress, void *opaque,
                               GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = qcow2_check_writable(s);

    if (ret < 0) {
        return set_error(errp, ret, "the image is corrupt");
    }
    ret = qcow2_crypto_amend(s, a->crypto, errp);
    if (ret == 0 && a->version > s->hdr.version) {
        ret = upgrade(s, errp);
    }
    if (ret == 0 && a->order != s->refcount_order) {
        ret = qcow2_change_refcount_order(s, a->order, progress, opaque,
                                          errp);
    }
    ret = ret < 0 ? ret : set_backing(s, a, errp);
    if (ret == 0 && a->data_file &&
        !same(a->data_file, s->ext.data_file_name)) {
        ret = set_data_file(s, a->data_file, errp);
    }
    return ret < 0 || s->hdr.version < 3 ? ret : set_flags(s, a, errp);
}

static int coroutine_fn amend(Qcow2State *s, const Amend *a,
                              BdrvProgressFunc *progress, void *opaque,
                              GError **errp)
{
    int ret;

    co_mutex_lock(&s->lock);
    ret = change(s, a, progress, opaque, errp);
    co_mutex_unlock(&s->lock);
    if (ret == 0 && a->size != s->hdr.size) {
        ret = qcow2_resize(s, a->size, BDRV_PREALLOC_OFF, errp);
        bdrv_bitmaps_resize(s->bs, s->bs->total_bytes);
    }
    if (ret == 0 && a->version < s->hdr.version) {
        co_mutex_lock(&s->lock);
        ret = downgrade(s, progress, opaque, errp);
        co_mutex_unlock(&s->lock);
    }
    return ret;
}

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, BdrvOptions *opts,
                                bool force, BdrvProgressFunc *progress,
                                void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Amend a = { 0 };
    int ret;

    if (bs->vmstate) {
        return set_error(errp, -EBUSY, "machine state is being saved or "
                         "loaded");
    }
    co_rwlock_wrlock(&s->map_lock);
    ret = take_all(s, opts, force, &a, errp);
    ret = ret < 0 ? ret : check_compression(s, &a, errp);
    ret = ret < 0 ? ret : qcow2_crypto_prepare_amend(s, a.crypto, errp);
    ret = ret < 0 ? ret : amend(s, &a, progress, opaque, errp);
    co_rwlock_unlock(&s->map_lock);
    qcow2_crypto_amend_free(a.crypto);
    g_free(a.backing_file);
    g_free(a.backing_format);
    g_free(a.data_file);
    return ret;
}
