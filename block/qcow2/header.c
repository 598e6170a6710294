/* SPDX-License-Identifier: MIT */
/*
 * Bytes of the fixed fields of the qcow2 header: decode, check, encode. Pure
 * functions on buffers; whoever calls them does the I/O and decides what a
 * feature bit means for it (open.c). Extensions are extensions.c.
 *
 * The fixed fields lie in one sector, so any set of them is switched by one
 * sector write (writeback.c).
 */
#include "qcow2_int.h"

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
    h->header_length = QCOW2_V2_LENGTH;
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
    bool extended = h->incompatible_features & QCOW2_INC_EXTENDED_L2;
    unsigned shift = h->cluster_bits * 2 - (extended ? 4 : 3);
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

    if (bytes > QCOW2_MAX_REFTABLE) {
        return set_error(errp, -EFBIG, "refcount table of %u clusters is "
                         "beyond 8 MiB", h->refcount_table_clusters);
    }
    ret = check_table(h->refcount_table_offset, bytes, cs, "refcount table",
                      errp);
    if (ret < 0) {
        return ret;
    }
    return check_table(h->snapshots_offset, QCOW2_MAX_SNAPTABLE, cs,
                       "snapshot table", errp);
}

int qcow2_header_decode_damaged(const uint8_t *buf, size_t len,
                                Qcow2Header *ret, GError **errp)
{
    Qcow2Header h = { 0 };
    int r;

    if (len < QCOW2_V3_LENGTH || be32_get(buf) != QCOW2_MAGIC) {
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

int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret,
                        GError **errp)
{
    Qcow2Header h;
    int r = qcow2_header_decode_damaged(buf, len, &h, errp);

    if (r < 0) {
        return r;
    }
    if (!h.refcount_table_clusters || !h.refcount_table_offset) {
        return set_error(errp, -EINVAL, "image has no refcount table");
    }
    if (h.nb_snapshots > QCOW2_MAX_SNAPSHOTS) {
        return set_error(errp, -EFBIG, "%u snapshots are more than %u",
                         h.nb_snapshots, QCOW2_MAX_SNAPSHOTS);
    }
    if (h.nb_snapshots && !h.snapshots_offset) {
        return set_error(errp, -EINVAL,
                         "snapshot table overlaps the header");
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
