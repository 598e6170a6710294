/* SPDX-License-Identifier: MIT */
/*
 * New images: header, refcount table, refcount blocks, an empty L1 table and a
 * LUKS header, in this order from the start of the file. The header is written
 * last, behind a flush, so that a file with a qcow2 magic is a whole image
 * (R4).
 *
 * An external data file is created before the image that names it. For
 * preallocation the new image is opened and filled by prealloc.c.
 *
 * A backing file is opened only when its size is asked for; whether it exists
 * and whether leaving out its format is wise is for whoever names it.
 */
#include "qcow2_int.h"

typedef struct CreatePlan {
    Qcow2Create o;
    uint64_t nb_blocks;
    uint64_t l1_clusters;
    uint64_t used;              /* clusters, all from the start */
    bool made_data_file;        /* to be removed if the rest fails */
    bool made_file;
    BdrvOptions *hints;         /* for the file system, or NULL */
} CreatePlan;

/* ---- options ---- */

static int take_compat(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    g_autofree char *v = bdrv_options_take(o, "compat");

    if (!v || !strcmp(v, "1.1") || !strcmp(v, "v3")) {
        h->version = 3;
    } else if (!strcmp(v, "0.10") || !strcmp(v, "v2")) {
        h->version = 2;
    } else {
        return bdrv_options_refuse("compat", v,
                                   NEAREST_LIST("0.10", "v2", "1.1", "v3"),
                                   errp);
    }
    return 0;
}

static int take_geometry(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    uint64_t cs, rb;
    int ret;

    ret = bdrv_options_take_size(o, "cluster_size", 65536, &cs, errp);
    ret = ret < 0 ? ret : bdrv_options_take_u64(o, "refcount_bits", 16, &rb,
                                                errp);
    if (ret < 0) {
        return ret;
    }
    if (cs < 512 || cs > 2 * 1024 * 1024 || (cs & (cs - 1))) {
        return set_error(errp, -EINVAL, "cluster_size must be a power of two "
                         "from 512 to 2M");
    }
    if (!rb || rb > 64 || (rb & (rb - 1))) {
        return set_error(errp, -EINVAL, "refcount_bits must be a power of "
                         "two from 1 to 64");
    }
    if (h->version < 3 && rb != 16) {
        return set_error(errp, -EINVAL, "refcount_bits other than 16 need "
                         "compat=1.1");
    }
    h->cluster_bits = g_bit_storage(cs) - 1;
    h->refcount_order = g_bit_storage(rb) - 1;
    return 0;
}

static int take_compression(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    g_autofree char *comp = bdrv_options_take(o, "compression_type");

    if (!comp || !strcmp(comp, "zlib") || !strcmp(comp, "deflate")) {
        return 0;
    }
    if (strcmp(comp, "zstd")) {
        return bdrv_options_refuse("compression_type", comp,
                                   NEAREST_LIST("zlib", "zstd"), errp);
    }
    if (h->version < 3) {
        return set_error(errp, -EINVAL,
                         "compression_type=zstd needs compat=1.1");
    }
    h->incompatible_features |= QCOW2_INC_COMPRESSION;
    h->compression_type = 1;
    return 0;
}

static int take_features(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    bool lazy, extended;
    int ret;

    ret = bdrv_options_take_bool(o, "lazy_refcounts", false, &lazy, errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "extended_l2", false,
                                                 &extended, errp);
    ret = ret < 0 ? ret : take_compression(o, h, errp);
    if (ret < 0) {
        return ret;
    }
    if (h->version < 3 && (lazy || extended)) {
        return set_error(errp, -EINVAL, "%s needs compat=1.1",
                         lazy ? "lazy_refcounts" : "extended_l2");
    }
    if (extended && h->cluster_bits < QCOW2_MIN_EXTENDED_BITS) {
        return set_error(errp, -EINVAL, "extended_l2 needs a cluster_size of "
                         "at least 16k");
    }
    h->compatible_features |= lazy ? QCOW2_COM_LAZY : 0;
    h->incompatible_features |= extended ? QCOW2_INC_EXTENDED_L2 : 0;
    return 0;
}

static int take_backing(BdrvOptions *o, Qcow2Extensions *ext, GError **errp)
{
    ext->backing_file = bdrv_options_take(o, "backing_file");
    ext->backing_format = bdrv_options_take(o, "backing_fmt");
    if (ext->backing_file && !*ext->backing_file) {
        g_clear_pointer(&ext->backing_file, g_free);
    }
    if (ext->backing_format && !ext->backing_file) {
        return set_error(errp, -EINVAL, "backing_fmt needs backing_file");
    }
    if (ext->backing_format &&
        strlen(ext->backing_format) > QCOW2_MAX_BACKING_FMT) {
        return set_error(errp, -EINVAL, "backing_fmt is longer than %d",
                         QCOW2_MAX_BACKING_FMT);
    }
    if (ext->backing_file && strlen(ext->backing_file) > QCOW2_MAX_BACKING) {
        return set_error(errp, -EINVAL, "backing_file is longer than %d",
                         QCOW2_MAX_BACKING);
    }
    return 0;
}

static int take_data_file(BdrvOptions *o, Qcow2Create *p, GError **errp)
{
    bool raw;
    int ret = bdrv_options_take_bool(o, "data_file_raw", false, &raw, errp);

    if (ret < 0) {
        return ret;
    }
    p->ext.data_file_name = bdrv_options_take(o, "data_file");
    if (raw && !p->ext.data_file_name) {
        return set_error(errp, -EINVAL, "data_file_raw needs data_file");
    }
    if (raw && p->ext.backing_file) {
        return set_error(errp, -EINVAL, "data_file_raw and backing_file "
                         "exclude each other");
    }
    if (!p->ext.data_file_name) {
        return 0;
    }
    if (p->h.version < 3) {
        return set_error(errp, -EINVAL, "data_file needs compat=1.1");
    }
    p->h.incompatible_features |= QCOW2_INC_DATA_FILE;
    if (raw) {
        p->h.autoclear_features |= QCOW2_AUT_RAW;
        p->prealloc = MAX(p->prealloc, BDRV_PREALLOC_METADATA);
    }
    return 0;
}

static int take_preallocation(BdrvOptions *o, Qcow2Create *p, GError **errp)
{
    g_autofree char *text = bdrv_options_take(o, "preallocation");
    int ret = bdrv_prealloc_parse(text, &p->prealloc, errp);

    if (ret == 0 && p->prealloc != BDRV_PREALLOC_OFF && p->ext.backing_file &&
        !(p->h.incompatible_features & QCOW2_INC_EXTENDED_L2)) {
        ret = set_error(errp, -EINVAL, "preallocation with a backing file "
                        "needs extended_l2=on");
    }
    return ret;
}

/* How AES was asked for before encrypt.format. */
static int refuse_encryption(BdrvOptions *o, GError **errp)
{
    bool on;
    int ret = bdrv_options_take_bool(o, "encryption", false, &on, errp);

    return ret == 0 && on
           ? set_error(errp, -ENOTSUP, "encryption=on (the legacy AES format) "
                       "is not supported; take encrypt.format=luks") : ret;
}

int qcow2_take_create_options(BdrvOptions *o, Qcow2Create *p, GError **errp)
{
    int ret;

    ret = take_compat(o, &p->h, errp);
    ret = ret < 0 ? ret : take_geometry(o, &p->h, errp);
    ret = ret < 0 ? ret : take_features(o, &p->h, errp);
    ret = ret < 0 ? ret : take_backing(o, &p->ext, errp);
    ret = ret < 0 ? ret : take_preallocation(o, p, errp);
    ret = ret < 0 ? ret : take_data_file(o, p, errp);
    ret = ret < 0 ? ret : refuse_encryption(o, errp);
    ret = ret < 0 ? ret : qcow2_crypto_take_create(o, &p->crypto, errp);
    p->h.crypt_method = p->crypto ? 2 : 0;
    return ret;
}

void qcow2_create_cleanup(Qcow2Create *p)
{
    qcow2_extensions_cleanup(&p->ext);
    qcow2_crypto_create_free(p->crypto);
}

uint64_t qcow2_l1_entries(const Qcow2Create *p, uint64_t bytes)
{
    bool extended = p->h.incompatible_features & QCOW2_INC_EXTENDED_L2;

    return DIV_ROUND_UP(bytes, 1ULL << (p->h.cluster_bits * 2 - 3 -
                                        extended));
}

/* ---- size ---- */

/* Length of the backing file as the new image will see it. */
static int coroutine_fn backing_size(const char *filename,
                                     const CreatePlan *p, uint64_t *ret,
                                     GError **errp)
{
    g_autofree char *path = bdrv_combine_filename(filename,
                                                  p->o.ext.backing_file);
    BdrvOptions *o = bdrv_options_new();
    BlockBackend *blk;
    int64_t bytes;
    int r;

    if (p->o.ext.backing_format) {
        bdrv_options_set(o, "driver", p->o.ext.backing_format);
    }
    r = blk_co_open(path, o, 0, &blk, errp);
    if (r < 0) {
        return qcow2_backing_error(errp, r, path);
    }
    bytes = blk_co_getlength(blk);
    blk_co_close(blk);
    if (bytes < 0) {
        return set_error(errp, bytes, "cannot get the size of '%s': %s",
                         path, g_strerror(-bytes));
    }
    *ret = bytes;
    return 0;
}

static int coroutine_fn take_size(const char *filename, BdrvOptions *o,
                                  CreatePlan *p, GError **errp)
{
    uint64_t size;
    int ret;

    ret = bdrv_options_take_size(o, "size", UINT64_MAX, &size, errp);
    if (ret == 0 && size == UINT64_MAX) {
        ret = p->o.ext.backing_file ? backing_size(filename, p, &size, errp)
              : set_error(errp, -EINVAL, "size is missing");
    }
    if (ret < 0) {
        return ret;
    }
    if (size > BDRV_MAX_LENGTH - QCOW2_SECTOR) {
        return set_error(errp, -EFBIG, "size is too large");
    }
    p->o.h.size = ROUND_UP(size, (uint64_t)QCOW2_SECTOR);
    return 0;
}

/* ---- layout ---- */

/* Place everything; the refcounts count themselves. */
static int plan_layout(CreatePlan *p, GError **errp)
{
    Qcow2Header *h = &p->o.h;
    uint64_t cs = 1ULL << h->cluster_bits;
    uint64_t l1_size = qcow2_l1_entries(&p->o, h->size);
    uint64_t luks = qcow2_crypto_header_bytes(p->o.crypto);
    uint64_t luks_clusters = DIV_ROUND_UP(luks, cs);
    uint64_t table;

    if (l1_size > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "size is too large for this cluster "
                         "size");
    }
    p->l1_clusters = DIV_ROUND_UP(l1_size * 8, cs);
    p->nb_blocks = qcow2_refcount_clusters(1 + p->l1_clusters + luks_clusters,
                                           h->cluster_bits,
                                           h->refcount_order, &table);
    p->used = 1 + table + p->nb_blocks + p->l1_clusters;
    p->o.ext.crypto_offset = luks ? p->used * cs : 0;
    p->o.ext.crypto_length = luks;
    p->used += luks_clusters;
    h->refcount_table_offset = cs;
    h->refcount_table_clusters = table;
    h->l1_size = l1_size;
    h->l1_table_offset = l1_size ? (1 + table + p->nb_blocks) * cs : 0;
    return 0;
}

static int coroutine_fn write_refcounts(BdrvChild *file, const CreatePlan *p)
{
    uint64_t cs = 1ULL << p->o.h.cluster_bits;
    uint64_t rpb = cs * 8 >> p->o.h.refcount_order;
    uint64_t table_bytes = p->o.h.refcount_table_clusters * cs;
    uint64_t first = p->o.h.refcount_table_offset + table_bytes;
    uint8_t *buf = blk_try_memalign(MAX(table_bytes, cs));
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, table_bytes);
    for (uint64_t i = 0; i < p->nb_blocks; i++) {
        be64_put(buf + i * 8, first + i * cs);
    }
    ret = bdrv_co_pwrite(file, p->o.h.refcount_table_offset, table_bytes, buf,
                         0);
    for (uint64_t i = 0; i < p->nb_blocks && ret == 0; i++) {
        uint64_t n = p->used > i * rpb ? MIN(p->used - i * rpb, rpb) : 0;

        memset(buf, 0, cs);
        for (uint64_t slot = 0; slot < n; slot++) {
            qcow2_refblock_set(buf, p->o.h.refcount_order, slot, 1);
        }
        ret = bdrv_co_pwrite(file, first + i * cs, cs, buf, 0);
    }
    free(buf);
    return ret;
}

static int coroutine_fn write_luks(BdrvChild *file, const CreatePlan *p,
                                   GError **errp)
{
    const GByteArray *luks;
    int ret;

    if (!p->o.crypto) {
        return 0;
    }
    ret = qcow2_crypto_format(p->o.crypto, &luks, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_pwrite(file, p->o.ext.crypto_offset, luks->len, luks->data,
                         0);
    return ret < 0 ? set_error(errp, ret, "cannot write the LUKS header: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn write_image(BdrvChild *file, CreatePlan *p,
                                    GError **errp)
{
    const Qcow2HeaderForm form = { .feature_names = true };
    g_autoptr(GByteArray) header = g_byte_array_new();
    int ret;

    ret = qcow2_header_build(&p->o.h, &p->o.ext, &form, header, NULL, errp);
    ret = ret < 0 ? ret : write_luks(file, p, errp);
    if (ret < 0) {
        return ret;
    }
    ret = write_refcounts(file, p);
    if (ret == 0 && p->o.h.l1_size) {
        uint64_t bytes = ROUND_UP((uint64_t)p->o.h.l1_size * 8,
                                  (uint64_t)QCOW2_SECTOR);

        ret = bdrv_co_pwrite_zeroes(file, p->o.h.l1_table_offset, bytes, 0);
    }
    ret = ret < 0 ? ret : bdrv_co_flush(file->bs); /* R4 */
    ret = ret < 0 ? ret : bdrv_co_pwrite(file, 0, header->len, header->data,
                                         0);
    ret = ret < 0 ? ret : bdrv_co_flush(file->bs);
    return ret < 0 ? set_error(errp, ret, "cannot write the image: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn create_file(const char *filename, CreatePlan *p,
                                    GError **errp)
{
    BdrvChild *file;
    int ret, ret2;

    ret = bdrv_co_create_file(filename, g_steal_pointer(&p->hints), errp);
    p->made_file = ret == 0;
    ret = ret < 0 ? ret : bdrv_co_open_file(filename, bdrv_options_new(),
                                            BDRV_O_RDWR, &file, errp);
    if (ret < 0) {
        return ret;
    }
    ret = write_image(file, p, errp);
    ret2 = bdrv_co_close_child(file);
    if (ret == 0 && ret2 < 0) {
        ret = set_error(errp, ret2, "cannot close the image: %s",
                        g_strerror(-ret2));
    }
    return ret;
}

/* ---- preallocation ---- */

static int coroutine_fn fill_image(BlockDriverState *bs, BdrvPrealloc mode,
                                   GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = qcow2_preallocate(s, 0, s->hdr.size, mode);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret < 0 ? set_error(errp, ret, "cannot preallocate: %s",
                               g_strerror(-ret)) : 0;
}

static int coroutine_fn preallocate(const char *filename, const CreatePlan *p,
                                    GError **errp)
{
    BdrvOptions *options;
    BdrvChild *image;
    int ret, ret2;

    if (p->o.prealloc == BDRV_PREALLOC_OFF) {
        return 0;
    }
    options = bdrv_options_new();
    bdrv_options_set(options, "driver", "qcow2");
    if (p->o.ext.data_file_name) {
        bdrv_options_set(options, "data-file",
                         p->o.ext.data_file_name);
    }
    if (p->o.crypto) {
        bdrv_options_set(options, "encrypt.key-secret",
                         qcow2_crypto_secret(p->o.crypto));
    }
    ret = bdrv_co_open_root(filename, options,
                            BDRV_O_RDWR | BDRV_O_NO_BACKING, &image, errp);
    if (ret < 0) {
        return ret;
    }
    ret = fill_image(image->bs, p->o.prealloc, errp);
    ret2 = bdrv_co_close_child(image);
    if (ret == 0 && ret2 < 0) {
        ret = set_error(errp, ret2, "cannot close the image: %s",
                        g_strerror(-ret2));
    }
    return ret;
}

static int check_data_file(const char *filename, const CreatePlan *p,
                           GError **errp)
{
    return bdrv_is_same_file(filename, p->o.ext.data_file_name)
           ? set_error(errp, -EINVAL, "%s: an image cannot be its own data "
                       "file", filename) : 0;
}

/* The data file is as long as the disk. */
static int coroutine_fn create_data_file(const char *filename, CreatePlan *p,
                                         GError **errp)
{
    g_autofree char *size = NULL;
    BdrvOptions *options;
    int ret;

    if (!p->o.ext.data_file_name) {
        return 0;
    }
    ret = check_data_file(filename, p, errp);
    if (ret < 0) {
        return ret;
    }
    options = bdrv_options_new();
    size = g_strdup_printf("%" PRIu64, p->o.h.size);
    bdrv_options_set(options, "size", size);
    ret = bdrv_co_create_file(p->o.ext.data_file_name, options, errp);
    p->made_data_file = ret == 0;
    if (ret < 0) {
        return prefix_error(errp, ret, "data file '%s': ",
                            p->o.ext.data_file_name);
    }
    return check_data_file(filename, p, errp); /* now that there is one */
}

static void coroutine_fn remove_files(const char *filename,
                                      const CreatePlan *p)
{
    if (p->made_file) {
        bdrv_co_uncreate_file(filename);
    }
    if (p->made_data_file) {
        bdrv_co_uncreate_file(p->o.ext.data_file_name);
    }
}

/* What is for the file alone. */
static BdrvOptions *take_hints(BdrvOptions *options)
{
    static const char *const names[] = { "nocow", "extent_size_hint" };
    BdrvOptions *hints = bdrv_options_new();

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = bdrv_options_take(options, names[i]);

        if (value) {
            bdrv_options_set(hints, names[i], value);
        }
    }
    return hints;
}

int coroutine_fn qcow2_co_create(const char *filename, BdrvOptions *options,
                                 GError **errp)
{
    CreatePlan p = { .hints = take_hints(options) };
    int ret;

    ret = qcow2_take_create_options(options, &p.o, errp);
    ret = ret < 0 ? ret : take_size(filename, options, &p, errp);
    ret = ret < 0 ? ret : plan_layout(&p, errp);
    ret = ret < 0 ? ret : bdrv_options_check_empty(options, errp);
    ret = ret < 0 ? ret : create_data_file(filename, &p, errp);
    ret = ret < 0 ? ret : create_file(filename, &p, errp);
    ret = ret < 0 ? ret : preallocate(filename, &p, errp);
    if (ret < 0) {
        remove_files(filename, &p);
    }
    qcow2_create_cleanup(&p.o);
    bdrv_options_free(p.hints);
    return ret;
}
