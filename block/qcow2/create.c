/* SPDX-License-Identifier: MIT */
/*
 * New images: header, refcount table, refcount blocks and an empty L1 table,
 * in this order from the start of the file. The header is written last, behind
 * a flush, so that a file with a qcow2 magic is a whole image (R4).
 */
#include "qcow2_int.h"

typedef struct CreatePlan {
    Qcow2Header h;
    Qcow2Extensions ext;
    uint64_t nb_blocks;
    uint64_t l1_clusters;
    uint64_t used;              /* clusters, all from the start */
} CreatePlan;

static int take_compat(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    g_autofree char *v = bdrv_options_take(o, "compat");

    if (!v || !strcmp(v, "1.1") || !strcmp(v, "v3")) {
        h->version = 3;
    } else if (!strcmp(v, "0.10") || !strcmp(v, "v2")) {
        h->version = 2;
    } else {
        return set_error(errp, -EINVAL,
                         "compat is 0.10, v2, 1.1 or v3, not '%s'", v);
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

static int take_features(BdrvOptions *o, Qcow2Header *h, GError **errp)
{
    g_autofree char *comp = bdrv_options_take(o, "compression_type");
    g_autofree char *prealloc = bdrv_options_take(o, "preallocation");
    bool lazy, ext_l2;
    int ret;

    ret = bdrv_options_take_bool(o, "lazy_refcounts", false, &lazy, errp);
    ret = ret < 0 ? ret : bdrv_options_take_bool(o, "extended_l2", false,
                                                 &ext_l2, errp);
    if (ret < 0) {
        return ret;
    }
    if (ext_l2) {
        return set_error(errp, -ENOTSUP, "extended_l2 is not supported");
    }
    if (prealloc && strcmp(prealloc, "off")) {
        return set_error(errp, -ENOTSUP, "preallocation=%s is not supported",
                         prealloc);
    }
    if (comp && !strcmp(comp, "zstd")) {
        h->incompatible_features |= QCOW2_INC_COMPRESSION;
        h->compression_type = 1;
    } else if (comp && strcmp(comp, "zlib") && strcmp(comp, "deflate")) {
        return set_error(errp, -EINVAL, "compression_type is zlib or zstd, "
                         "not '%s'", comp);
    }
    h->compatible_features = lazy ? QCOW2_COM_LAZY : 0;
    if (h->version < 3 && (lazy || h->compression_type)) {
        return set_error(errp, -EINVAL, "%s needs compat=1.1",
                         lazy ? "lazy_refcounts" : "compression_type=zstd");
    }
    return 0;
}

/* Length of the backing file as the new image will see it. */
static int coroutine_fn backing_size(const char *filename,
                                     const CreatePlan *p, uint64_t *ret,
                                     GError **errp)
{
    g_autofree char *path = bdrv_combine_filename(filename, p->ext.backing_file);
    BdrvOptions *o = bdrv_options_new();
    BlockBackend *blk;
    int64_t bytes;
    int r;

    if (p->ext.backing_format) {
        bdrv_options_set(o, "driver", p->ext.backing_format);
    }
    r = blk_co_open(path, o, 0, &blk, errp);
    if (r < 0) {
        return prefix_error(errp, r, "backing file '%s': ", path);
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

    p->ext.backing_file = bdrv_options_take(o, "backing_file");
    p->ext.backing_format = bdrv_options_take(o, "backing_fmt");
    if (p->ext.backing_format && !p->ext.backing_file) {
        return set_error(errp, -EINVAL, "backing_fmt needs backing_file");
    }
    if (p->ext.backing_format && strlen(p->ext.backing_format) > 15) {
        return set_error(errp, -EINVAL, "backing_fmt is longer than 15");
    }
    if (p->ext.backing_file && strlen(p->ext.backing_file) > QCOW2_MAX_BACKING) {
        return set_error(errp, -EINVAL, "backing_file is longer than %d",
                         QCOW2_MAX_BACKING);
    }
    ret = bdrv_options_take_size(o, "size", UINT64_MAX, &size, errp);
    if (ret == 0 && size == UINT64_MAX) {
        ret = p->ext.backing_file ? backing_size(filename, p, &size, errp)
              : set_error(errp, -EINVAL, "size is missing");
    }
    if (ret < 0) {
        return ret;
    }
    if (size > BDRV_MAX_LENGTH - QCOW2_SECTOR) {
        return set_error(errp, -EFBIG, "size is too large");
    }
    p->h.size = ROUND_UP(size, (uint64_t)QCOW2_SECTOR);
    return 0;
}

/* Place everything; the refcounts count themselves. */
static int plan_layout(CreatePlan *p, GError **errp)
{
    Qcow2Header *h = &p->h;
    uint64_t cs = 1ULL << h->cluster_bits;
    uint64_t coverage = cs * (cs / 8);
    uint64_t rpb = cs * 8 >> h->refcount_order;
    uint64_t l1_size = DIV_ROUND_UP(h->size, coverage);
    uint64_t table = 1, blocks = 1;

    if (l1_size > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "size is too large for this cluster "
                         "size");
    }
    p->l1_clusters = DIV_ROUND_UP(l1_size * 8, cs);
    for (;;) {
        uint64_t n = 1 + table + blocks + p->l1_clusters;
        uint64_t b = DIV_ROUND_UP(n, rpb);
        uint64_t t = DIV_ROUND_UP(b * 8, cs);

        p->used = n;
        if (b <= blocks && t <= table) {
            break;
        }
        blocks = MAX(b, blocks);
        table = MAX(t, table);
    }
    p->nb_blocks = blocks;
    h->refcount_table_offset = cs;
    h->refcount_table_clusters = table;
    h->l1_size = l1_size;
    h->l1_table_offset = l1_size ? (1 + table + blocks) * cs : 0;
    return 0;
}

static int coroutine_fn write_refcounts(BdrvChild *file, const CreatePlan *p)
{
    uint64_t cs = 1ULL << p->h.cluster_bits;
    uint64_t rpb = cs * 8 >> p->h.refcount_order;
    uint64_t table_bytes = p->h.refcount_table_clusters * cs;
    uint64_t first = p->h.refcount_table_offset + table_bytes;
    uint8_t *buf = blk_try_memalign(MAX(table_bytes, cs));
    int ret = 0;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, table_bytes);
    for (uint64_t i = 0; i < p->nb_blocks; i++) {
        be64_put(buf + i * 8, first + i * cs);
    }
    ret = bdrv_co_pwrite(file, p->h.refcount_table_offset, table_bytes, buf,
                         0);
    for (uint64_t i = 0; i < p->nb_blocks && ret == 0; i++) {
        uint64_t n = p->used > i * rpb ? MIN(p->used - i * rpb, rpb) : 0;

        memset(buf, 0, cs);
        for (uint64_t slot = 0; slot < n; slot++) {
            qcow2_refblock_set(buf, p->h.refcount_order, slot, 1);
        }
        ret = bdrv_co_pwrite(file, first + i * cs, cs, buf, 0);
    }
    free(buf);
    return ret;
}

static int coroutine_fn write_image(BdrvChild *file, CreatePlan *p,
                                    GError **errp)
{
    const Qcow2HeaderForm form = { .feature_names = true };
    g_autoptr(GByteArray) header = g_byte_array_new();
    int ret;

    ret = qcow2_header_build(&p->h, &p->ext, &form, header, NULL, errp);
    if (ret < 0) {
        return ret;
    }
    ret = write_refcounts(file, p);
    if (ret == 0 && p->h.l1_size) {
        uint64_t bytes = ROUND_UP((uint64_t)p->h.l1_size * 8,
                                  (uint64_t)QCOW2_SECTOR);

        ret = bdrv_co_pwrite_zeroes(file, p->h.l1_table_offset, bytes, 0);
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

    ret = bdrv_co_create_file(filename, bdrv_options_new(), errp);
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

int coroutine_fn qcow2_co_create(const char *filename, BdrvOptions *options,
                                 GError **errp)
{
    CreatePlan p = { 0 };
    int ret;

    ret = take_compat(options, &p.h, errp);
    ret = ret < 0 ? ret : take_geometry(options, &p.h, errp);
    ret = ret < 0 ? ret : take_features(options, &p.h, errp);
    ret = ret < 0 ? ret : take_size(filename, options, &p, errp);
    ret = ret < 0 ? ret : plan_layout(&p, errp);
    ret = ret < 0 ? ret : bdrv_options_check_empty(options, errp);
    ret = ret < 0 ? ret : create_file(filename, &p, errp);
    qcow2_extensions_cleanup(&p.ext);
    return ret;
}
