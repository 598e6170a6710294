/* SPDX-License-Identifier: MIT */
/*
 * Bytes of the qcow2 header and its extensions: decode, check, encode. Pure
 * functions on buffers; whoever calls them does the I/O and decides what a
 * feature bit means for it (open.c).
 *
 * The fixed fields lie in one sector, so any set of them is switched by one
 * sector write (writeback.c). Extensions are never rewritten here: unknown
 * ones stay because nothing touches them.
 */
#include "qcow2_int.h"

enum {
    EXT_END            = 0,
    EXT_BACKING_FORMAT = 0xe2792acau,
    EXT_FEATURE_NAMES  = 0x6803f857u,
    EXT_BITMAPS        = 0x23852875u,
};

#define V2_LENGTH 72
#define V3_LENGTH 112

static void decode_fields(const uint8_t *p, Qcow2Header *h)
{
    h->version = be32_get(p + 4);
    h->backing_file_offset = be64_get(p + 8);
    h->backing_file_size = be32_get(p + 16);
    h->cluster_bits = be32_get(p + 20);
    h->size = be64_get(p + 24);
    h->crypt_method = be32_get(p + 32);
    h->l1_size = be32_get(p + 36);
    h->l1_table_offset = be64_get(p + 40);
    h->refcount_table_offset = be64_get(p + 48);
    h->refcount_table_clusters = be32_get(p + 56);
    h->nb_snapshots = be32_get(p + 60);
    h->snapshots_offset = be64_get(p + 64);
    h->refcount_order = 4;
    h->header_length = V2_LENGTH;
    if (h->version < 3) {
        return;
    }
    h->incompatible_features = be64_get(p + 72);
    h->compatible_features = be64_get(p + 80);
    h->autoclear_features = be64_get(p + 88);
    h->refcount_order = be32_get(p + 96);
    h->header_length = be32_get(p + 100);
    if (h->header_length > 104) {
        h->compression_type = p[104];
    }
}

static int check_v3(const Qcow2Header *h, GError **errp)
{
    bool flag = h->incompatible_features & QCOW2_INC_COMPRESSION;

    if (h->header_length < 104 || h->header_length % 8 ||
        h->header_length > (1u << h->cluster_bits)) {
        return set_error(errp, -EINVAL, "header_length %u is not a multiple "
                         "of 8 in 104..cluster size", h->header_length);
    }
    if (h->refcount_order > 6) {
        return set_error(errp, -EINVAL, "refcount_order %u is outside 0..6",
                         h->refcount_order);
    }
    if (flag != (h->compression_type != 0)) {
        return set_error(errp, -EINVAL, "compression_type %u does not agree "
                         "with the compression feature bit",
                         h->compression_type);
    }
    if (h->compression_type > 1) {
        return set_error(errp, -ENOTSUP, "compression_type %u is unknown",
                         h->compression_type);
    }
    return 0;
}

static int check_backing(const Qcow2Header *h, GError **errp)
{
    uint64_t cs = 1ULL << h->cluster_bits;

    if (!h->backing_file_offset) {
        return 0;
    }
    if (h->backing_file_offset > cs ||
        h->backing_file_size > cs - h->backing_file_offset ||
        h->backing_file_size > QCOW2_MAX_BACKING) {
        return set_error(errp, -EINVAL, "backing file name (%u bytes at "
                         "offset %" PRIu64 ") is outside the first cluster "
                         "or longer than %u", h->backing_file_size,
                         h->backing_file_offset, QCOW2_MAX_BACKING);
    }
    if (h->backing_file_size && h->backing_file_offset < h->header_length) {
        return set_error(errp, -EINVAL,
                         "backing file name overlaps the header");
    }
    return 0;
}

/* A table of @bytes at @offset: aligned, and its end is a valid offset. */
static int check_table(uint64_t offset, uint64_t bytes, uint64_t cs,
                       const char *what, GError **errp)
{
    if (!IS_ALIGNED(offset, cs) || offset > INT64_MAX - bytes) {
        return set_error(errp, -EINVAL, "%s at offset %" PRIu64 " is not "
                         "aligned to the cluster size or ends too far",
                         what, offset);
    }
    return 0;
}

static int check_l1(const Qcow2Header *h, GError **errp)
{
    unsigned shift = h->cluster_bits * 2 - 3;
    uint64_t cs = 1ULL << h->cluster_bits;
    uint64_t need = (h->size >> shift) + !!(h->size & ((1ULL << shift) - 1));

    if (need > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "disk size %" PRIu64 " needs an L1 "
                         "table beyond 32 MiB", h->size);
    }
    if (h->l1_size > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "L1 table of %u entries is beyond "
                         "32 MiB", h->l1_size);
    }
    if (h->l1_size < need) {
        return set_error(errp, -EINVAL, "L1 table of %u entries is too small "
                         "for a disk of %" PRIu64 " bytes", h->l1_size,
                         h->size);
    }
    if (h->l1_size && !h->l1_table_offset) {
        return set_error(errp, -EINVAL, "L1 table overlaps the header");
    }
    return check_table(h->l1_table_offset, (uint64_t)h->l1_size * 8, cs,
                       "L1 table", errp);
}

static int check_tables(const Qcow2Header *h, GError **errp)
{
    uint64_t cs = 1ULL << h->cluster_bits;
    uint64_t bytes = h->refcount_table_clusters * cs;
    int ret;

    if (!h->refcount_table_clusters || !h->refcount_table_offset) {
        return set_error(errp, -EINVAL, "image has no refcount table");
    }
    if (bytes > QCOW2_MAX_REFTABLE) {
        return set_error(errp, -EFBIG, "refcount table of %u clusters is "
                         "beyond 8 MiB", h->refcount_table_clusters);
    }
    ret = check_table(h->refcount_table_offset, bytes, cs, "refcount table",
                      errp);
    if (ret < 0) {
        return ret;
    }
    if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS) {
        return set_error(errp, -EFBIG, "%u snapshots are more than %u",
                         h->nb_snapshots, QCOW2_MAX_SNAPSHOTS);
    }
    if (h->nb_snapshots && !h->snapshots_offset) {
        return set_error(errp, -EINVAL,
                         "snapshot table overlaps the header");
    }
    return check_table(h->snapshots_offset, QCOW2_MAX_SNAPTABLE, cs,
                       "snapshot table", errp);
}

int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret,
                        GError **errp)
{
    Qcow2Header h = { 0 };
    int r;

    if (len < V3_LENGTH || be32_get(buf) != QCOW2_MAGIC) {
        return set_error(errp, -EINVAL, "not a qcow2 image");
    }
    decode_fields(buf, &h);
    if (h.version < 2 || h.version > 3) {
        return set_error(errp, -ENOTSUP, "qcow2 version %u is not supported",
                         h.version);
    }
    if (h.cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
        h.cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        return set_error(errp, -EINVAL, "cluster_bits %u is outside 9..21",
                         h.cluster_bits);
    }
    if (h.crypt_method > 2) {
        return set_error(errp, -EINVAL, "crypt_method %u is unknown",
                         h.crypt_method);
    }
    r = h.version >= 3 ? check_v3(&h, errp) : 0;
    r = r < 0 ? r : check_backing(&h, errp);
    r = r < 0 ? r : check_l1(&h, errp);
    r = r < 0 ? r : check_tables(&h, errp);
    if (r < 0) {
        return r;
    }
    *ret = h;
    return 0;
}

void qcow2_header_encode(const Qcow2Header *h, uint8_t *p)
{
    be32_put(p, QCOW2_MAGIC);
    be32_put(p + 4, h->version);
    be64_put(p + 8, h->backing_file_offset);
    be32_put(p + 16, h->backing_file_size);
    be32_put(p + 20, h->cluster_bits);
    be64_put(p + 24, h->size);
    be32_put(p + 32, h->crypt_method);
    be32_put(p + 36, h->l1_size);
    be64_put(p + 40, h->l1_table_offset);
    be64_put(p + 48, h->refcount_table_offset);
    be32_put(p + 56, h->refcount_table_clusters);
    be32_put(p + 60, h->nb_snapshots);
    be64_put(p + 64, h->snapshots_offset);
    if (h->version < 3) {
        return;
    }
    be64_put(p + 72, h->incompatible_features);
    be64_put(p + 80, h->compatible_features);
    be64_put(p + 88, h->autoclear_features);
    be32_put(p + 96, h->refcount_order);
    be32_put(p + 100, h->header_length);
    if (h->header_length > 104) {
        p[104] = h->compression_type;
    }
}

/* ---- extensions ---- */

static void decode_feature_names(const uint8_t *p, uint32_t len,
                                 GHashTable *names)
{
    for (; len >= 48; p += 48, len -= 48) {
        gpointer key = GUINT_TO_POINTER((unsigned)p[0] << 8 | p[1]);

        g_hash_table_insert(names, key, g_strndup((const char *)p + 2, 46));
    }
}

static int decode_bitmaps(const uint8_t *p, uint32_t len,
                          const Qcow2Header *h, Qcow2Extensions *ext,
                          GError **errp)
{
    if (len != 24) {
        return set_error(errp, -EINVAL, "bitmaps extension has %u bytes, not "
                         "24", len);
    }
    if (h->version < 3) {
        return 0;
    }
    ext->has_bitmaps = true;
    ext->nb_bitmaps = be32_get(p);
    ext->bitmap_directory_size = be64_get(p + 8);
    ext->bitmap_directory_offset = be64_get(p + 16);
    if (ext->nb_bitmaps < 1 || ext->nb_bitmaps > 65535 ||
        ext->bitmap_directory_size > 1024 * 65535 ||
        !IS_ALIGNED(ext->bitmap_directory_offset, 1ULL << h->cluster_bits) ||
        ext->bitmap_directory_offset > INT64_MAX) {
        return set_error(errp, -EINVAL, "bitmaps extension is invalid");
    }
    return 0;
}

static int decode_one(uint32_t type, uint32_t len, const uint8_t *p,
                      const Qcow2Header *h, Qcow2Extensions *ext,
                      GError **errp)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        if (len > 15) {
            return set_error(errp, -EINVAL, "backing format name of %u "
                             "bytes is longer than 15", len);
        }
        g_free(ext->backing_format);
        ext->backing_format = g_strndup((const char *)p, len);
        return 0;
    case EXT_FEATURE_NAMES:
        decode_feature_names(p, len, ext->feature_names);
        return 0;
    case EXT_BITMAPS:
        return decode_bitmaps(p, len, h, ext, errp);
    default:
        return 0;
    }
}

int qcow2_extensions_decode(const uint8_t *buf, size_t len,
                            const Qcow2Header *h, Qcow2Extensions *ret,
                            GError **errp)
{
    Qcow2Extensions ext = { 0 };
    uint64_t pos = h->header_length;
    uint64_t end = 1ULL << h->cluster_bits;
    int r = 0;

    if (h->backing_file_offset) {
        end = MIN(end, h->backing_file_offset);
    }
    end = MIN(end, len);
    ext.feature_names = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    while (r >= 0 && pos + 8 <= end) {
        uint32_t type = be32_get(buf + pos);
        uint32_t bytes = be32_get(buf + pos + 4);

        pos += 8;
        if (type == EXT_END) {
            break;
        }
        if (bytes > end - pos) {
            r = set_error(errp, -EINVAL, "header extension %08x reaches past "
                          "the end of the header", type);
            break;
        }
        r = decode_one(type, bytes, buf + pos, h, &ext, errp);
        pos += ROUND_UP((uint64_t)bytes, 8);
    }
    if (r < 0) {
        qcow2_extensions_cleanup(&ext);
        return r;
    }
    *ret = ext;
    return 0;
}

void qcow2_extensions_cleanup(Qcow2Extensions *ext)
{
    g_clear_pointer(&ext->backing_format, g_free);
    g_clear_pointer(&ext->feature_names, g_hash_table_unref);
}

/* ---- new images ---- */

static void append_ext(GByteArray *buf, uint32_t type, const void *data,
                       uint32_t len)
{
    static const uint8_t zero[8];
    uint8_t head[8];

    be32_put(head, type);
    be32_put(head + 4, len);
    g_byte_array_append(buf, head, 8);
    if (len) {
        g_byte_array_append(buf, data, len);
    }
    g_byte_array_append(buf, zero, ROUND_UP(len, 8u) - len);
}

static void append_feature_names(GByteArray *buf)
{
    static const struct {
        uint8_t word;
        uint8_t bit;
        const char *name;
    } features[] = {
        { 0, 0, "dirty bit" },
        { 0, 1, "corrupt bit" },
        { 0, 2, "external data file" },
        { 0, 3, "compression type" },
        { 0, 4, "extended L2 entries" },
        { 1, 0, "lazy refcounts" },
        { 2, 0, "bitmaps" },
        { 2, 1, "raw external data" },
    };
    uint8_t table[G_N_ELEMENTS(features)][48] = { { 0 } };

    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        table[i][0] = features[i].word;
        table[i][1] = features[i].bit;
        g_strlcpy((char *)table[i] + 2, features[i].name, 46);
    }
    append_ext(buf, EXT_FEATURE_NAMES, table, sizeof(table));
}

int qcow2_header_build(Qcow2Header *h, const char *backing_file,
                       const char *backing_format, GByteArray *buf,
                       GError **errp)
{
    uint64_t cs = 1ULL << h->cluster_bits;
    guint start = buf->len;

    h->header_length = h->version >= 3 ? V3_LENGTH : V2_LENGTH;
    g_byte_array_set_size(buf, start + h->header_length);
    memset(buf->data + start, 0, h->header_length);
    if (backing_format) {
        append_ext(buf, EXT_BACKING_FORMAT, backing_format,
                   strlen(backing_format));
    }
    if (h->version >= 3 && cs > 4096) {
        append_feature_names(buf);
    }
    append_ext(buf, EXT_END, NULL, 0);
    if (backing_file) {
        h->backing_file_offset = buf->len - start;
        h->backing_file_size = strlen(backing_file);
        g_byte_array_append(buf, (const uint8_t *)backing_file,
                            h->backing_file_size);
    }
    if (buf->len - start > cs) {
        return set_error(errp, -ENOSPC, "header with backing file name does "
                         "not fit a cluster of %" PRIu64 " bytes", cs);
    }
    qcow2_header_encode(h, buf->data + start);
    return 0;
}
