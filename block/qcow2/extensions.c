/* SPDX-License-Identifier: MIT */
/*
 * Bytes of cluster 0 behind the fixed fields: header extensions and the
 * backing file name. Decode, check, build; pure functions on buffers.
 *
 * Extensions that are not known here are kept as whole records and put back
 * as they were. A table of feature names is made afresh: ours, and what the
 * old one said about bits that are not ours.
 */
#include "qcow2_int.h"

enum {
    EXT_END            = 0,
    EXT_BACKING_FORMAT = 0xe2792acau,
    EXT_FEATURE_NAMES  = 0x6803f857u,
    EXT_BITMAPS        = 0x23852875u,
    EXT_CRYPTO         = 0x0537be77u,
    EXT_DATA_FILE      = 0x44415441u,
};

#define NAME_BYTES        46
#define NAME_ENTRY        48
#define NAMES_MIN_CLUSTER 8192 /* smaller ones have no room to waste */

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

/* ---- decode ---- */

static void decode_feature_names(const uint8_t *p, uint32_t len,
                                 GHashTable *names)
{
    for (; len >= NAME_ENTRY; p += NAME_ENTRY, len -= NAME_ENTRY) {
        gpointer key = GUINT_TO_POINTER((unsigned)p[0] << 8 | p[1]);

        g_hash_table_insert(names, key,
                            g_strndup((const char *)p + 2, NAME_BYTES));
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

static int decode_crypto(const uint8_t *p, uint32_t len,
                         const Qcow2Header *h, Qcow2Extensions *ext,
                         GError **errp)
{
    if (len != 16 || h->crypt_method != 2) {
        return set_error(errp, -EINVAL, "LUKS header extension has %u bytes, "
                         "not 16, or the image is not LUKS encrypted", len);
    }
    ext->crypto_offset = be64_get(p);
    ext->crypto_length = be64_get(p + 8);
    if (!IS_ALIGNED(ext->crypto_offset, 1ULL << h->cluster_bits) ||
        ext->crypto_offset >= QCOW2_MAX_HOST_OFFSET ||
        ext->crypto_length > QCOW2_MAX_HOST_OFFSET) {
        return set_error(errp, -EINVAL, "LUKS header extension is invalid");
    }
    return 0;
}

static void decode_string(const uint8_t *p, uint32_t len, char **ret)
{
    g_free(*ret);
    *ret = g_strndup((const char *)p, len);
}

static int decode_one(uint32_t type, uint32_t len, const uint8_t *p,
                      const Qcow2Header *h, Qcow2Extensions *ext,
                      GError **errp)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        if (len > QCOW2_MAX_BACKING_FMT) {
            return set_error(errp, -EINVAL, "backing format name of %u "
                             "bytes is longer than %d", len,
                             QCOW2_MAX_BACKING_FMT);
        }
        decode_string(p, len, &ext->backing_format);
        return 0;
    case EXT_DATA_FILE:
        decode_string(p, len, &ext->data_file_name);
        return 0;
    case EXT_FEATURE_NAMES:
        decode_feature_names(p, len, ext->feature_names);
        return 0;
    case EXT_BITMAPS:
        return decode_bitmaps(p, len, h, ext, errp);
    case EXT_CRYPTO:
        return decode_crypto(p, len, h, ext, errp);
    default:
        return 0;
    }
}

static bool is_known(uint32_t type)
{
    return type == EXT_BACKING_FORMAT || type == EXT_FEATURE_NAMES ||
           type == EXT_BITMAPS || type == EXT_CRYPTO || type == EXT_DATA_FILE;
}

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

static int decode_all(const uint8_t *buf, uint64_t end, const Qcow2Header *h,
                      Qcow2Extensions *ext, GError **errp)
{
    uint64_t pos = h->header_length;
    int r = 0;

    while (r >= 0 && pos + 8 <= end) {
        uint32_t type = be32_get(buf + pos);
        uint32_t bytes = be32_get(buf + pos + 4);

        pos += 8;
        if (type == EXT_END) {
            break;
        }
        if (bytes > end - pos) {
            return set_error(errp, -EINVAL, "header extension %08x reaches "
                             "past the end of the header", type);
        }
        r = decode_one(type, bytes, buf + pos, h, ext, errp);
        if (!is_known(type)) {
            append_ext(ext->unknown, type, buf + pos, bytes);
        }
        pos += ROUND_UP((uint64_t)bytes, 8);
    }
    return r;
}

int qcow2_extensions_decode(const uint8_t *buf, size_t len,
                            const Qcow2Header *h, Qcow2Extensions *ret,
                            GError **errp)
{
    Qcow2Extensions ext = { 0 };
    uint64_t end = 1ULL << h->cluster_bits;
    int r;

    if (h->backing_file_offset) {
        end = MIN(end, h->backing_file_offset);
    }
    end = MIN(end, len);
    ext.feature_names = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    ext.unknown = g_byte_array_new();
    r = decode_all(buf, end, h, &ext, errp);
    if (r < 0) {
        qcow2_extensions_cleanup(&ext);
        return r;
    }
    if (h->backing_file_offset && h->backing_file_size &&
        h->backing_file_offset + h->backing_file_size <= len) {
        decode_string(buf + h->backing_file_offset, h->backing_file_size,
                      &ext.backing_file);
    }
    *ret = ext;
    return 0;
}

void qcow2_extensions_cleanup(Qcow2Extensions *ext)
{
    g_clear_pointer(&ext->backing_file, g_free);
    g_clear_pointer(&ext->backing_format, g_free);
    g_clear_pointer(&ext->data_file_name, g_free);
    g_clear_pointer(&ext->feature_names, g_hash_table_unref);
    g_clear_pointer(&ext->unknown, g_byte_array_unref);
}

/* ---- build ---- */

static void append_name(GByteArray *table, unsigned word, unsigned bit,
                        const char *name)
{
    uint8_t entry[NAME_ENTRY] = { word, bit };
    size_t len = MIN(strlen(name), NAME_BYTES);

    memcpy(entry + 2, name, len);
    g_byte_array_append(table, entry, sizeof(entry));
}

static bool is_our_feature(unsigned key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        if (key == ((unsigned)features[i].word << 8 | features[i].bit)) {
            return true;
        }
    }
    return false;
}

static int compare_keys(gconstpointer a, gconstpointer b)
{
    return GPOINTER_TO_INT(a) - GPOINTER_TO_INT(b);
}

static void append_feature_names(GByteArray *buf, GHashTable *old)
{
    g_autoptr(GByteArray) table = g_byte_array_new();
    g_autoptr(GList) keys = old ? g_hash_table_get_keys(old) : NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        append_name(table, features[i].word, features[i].bit,
                    features[i].name);
    }
    keys = g_list_sort(keys, compare_keys);
    for (GList *l = keys; l; l = l->next) {
        unsigned key = GPOINTER_TO_UINT(l->data);

        if (!is_our_feature(key)) {
            append_name(table, key >> 8, key & 0xff,
                        g_hash_table_lookup(old, l->data));
        }
    }
    append_ext(buf, EXT_FEATURE_NAMES, table->data, table->len);
}

static void append_extensions(GByteArray *buf, const Qcow2Header *h,
                              const Qcow2Extensions *ext, bool names)
{
    uint8_t data[24] = { 0 };

    if (ext->backing_file && ext->backing_format) {
        append_ext(buf, EXT_BACKING_FORMAT, ext->backing_format,
                   strlen(ext->backing_format));
    }
    if (ext->data_file_name) {
        append_ext(buf, EXT_DATA_FILE, ext->data_file_name,
                   strlen(ext->data_file_name));
    }
    if (h->crypt_method == 2) {
        be64_put(data, ext->crypto_offset);
        be64_put(data + 8, ext->crypto_length);
        append_ext(buf, EXT_CRYPTO, data, 16);
    }
    if (names && h->version >= 3 &&
        1ULL << h->cluster_bits >= NAMES_MIN_CLUSTER) {
        append_feature_names(buf, ext->feature_names);
    }
    if (ext->has_bitmaps && h->version >= 3) {
        be32_put(data, ext->nb_bitmaps);
        be32_put(data + 4, 0);
        be64_put(data + 8, ext->bitmap_directory_size);
        be64_put(data + 16, ext->bitmap_directory_offset);
        append_ext(buf, EXT_BITMAPS, data, 24);
    }
    if (ext->unknown && ext->unknown->len) {
        g_byte_array_append(buf, ext->unknown->data, ext->unknown->len);
    }
    append_ext(buf, EXT_END, NULL, 0);
}

int qcow2_header_build(Qcow2Header *h, const Qcow2Extensions *ext,
                       const Qcow2HeaderForm *form, GByteArray *buf,
                       uint64_t *ret_ext, GError **errp)
{
    uint64_t cs = 1ULL << h->cluster_bits;
    uint64_t length = h->version < 3 ? QCOW2_V2_LENGTH
                      : MAX(h->header_length, QCOW2_V3_LENGTH);
    uint64_t end;

    g_byte_array_set_size(buf, length);
    memset(buf->data, 0, length);
    if (form->old && length > QCOW2_V3_LENGTH) {
        memcpy(buf->data + QCOW2_V3_LENGTH, form->old + QCOW2_V3_LENGTH,
               length - QCOW2_V3_LENGTH);
    }
    append_extensions(buf, h, ext, form->feature_names);
    end = buf->len;
    h->header_length = length;
    h->backing_file_offset = h->backing_file_size = 0;
    if (ext->backing_file) {
        uint64_t offset = MAX(form->name_offset, end);

        h->backing_file_size = strlen(ext->backing_file);
        h->backing_file_offset = offset;
        g_byte_array_set_size(buf, offset + h->backing_file_size);
        memset(buf->data + end, 0, offset - end);
        memcpy(buf->data + offset, ext->backing_file, h->backing_file_size);
    }
    if (buf->len > cs) {
        return set_error(errp, -ENOSPC, "header with its extensions and "
                         "names does not fit a cluster of %" PRIu64 " bytes",
                         cs);
    }
    qcow2_header_encode(h, buf->data);
    if (ret_ext) {
        *ret_ext = end;
    }
    return 0;
}
