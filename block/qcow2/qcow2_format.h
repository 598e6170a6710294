/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a qcow2 file that are fixed by the format: limits, feature bits,
 * header and extensions. Knows nothing of an open image.
 */
#ifndef FIRN_BLOCK_QCOW2_FORMAT_H
#define FIRN_BLOCK_QCOW2_FORMAT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_MAGIC            0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MIN_EXTENDED_BITS 14 /* subclusters of 512 bytes */
#define QCOW2_SECTOR           512
#define QCOW2_MAX_L1_ENTRIES   (32u * 1024 * 1024 / 8)
#define QCOW2_MAX_REFTABLE     (8u * 1024 * 1024)
#define QCOW2_MAX_SNAPSHOTS    65536
#define QCOW2_MAX_SNAPTABLE    (64u * 1024 * 1024)
#define QCOW2_MAX_EXTRA        1024
#define QCOW2_MAX_BACKING      1023
#define QCOW2_MAX_BACKING_FMT  15
#define QCOW2_MAX_CHAIN        200
#define QCOW2_V2_LENGTH        72
#define QCOW2_V3_LENGTH        112
#define QCOW2_MAX_HOST_OFFSET  (1ULL << 56)
#define QCOW2_TALLY_BYTES      (64u * 1024 * 1024)

/* incompatible_features */
#define QCOW2_INC_DIRTY        (1ULL << 0)
#define QCOW2_INC_CORRUPT      (1ULL << 1)
#define QCOW2_INC_DATA_FILE    (1ULL << 2)
#define QCOW2_INC_COMPRESSION  (1ULL << 3)
#define QCOW2_INC_EXTENDED_L2  (1ULL << 4)
#define QCOW2_INC_KNOWN        ((1ULL << 5) - 1)
/* compatible_features */
#define QCOW2_COM_LAZY         (1ULL << 0)
/* autoclear_features */
#define QCOW2_AUT_BITMAPS      (1ULL << 0)
#define QCOW2_AUT_RAW          (1ULL << 1)

/* L1 and L2 entries */
#define QCOW2_OFFSET_MASK      0x00fffffffffffe00ULL
#define QCOW2_COPIED           (1ULL << 63)
#define QCOW2_COMPRESSED       (1ULL << 62)
#define QCOW2_ZERO             1ULL
/* Subclusters: all of them read as zeroes */
#define QCOW2_ALL_ZERO         0xffffffff00000000ULL
/* Refcount table entries */
#define QCOW2_REFBLOCK_MASK    0xfffffffffffffe00ULL

/* ---- header.c ---- */

typedef struct Qcow2Header {
    uint32_t version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_size;
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint32_t refcount_order;
    uint32_t header_length;
    uint8_t compression_type;
} Qcow2Header;

/* What else cluster 0 says; strings are NULL when absent. */
typedef struct Qcow2Extensions {
    char *backing_file;
    char *backing_format;
    char *data_file_name;
    uint64_t crypto_offset;
    uint64_t crypto_length;
    bool has_bitmaps;
    uint32_t nb_bitmaps;
    uint64_t bitmap_directory_offset;
    uint64_t bitmap_directory_size;
    GHashTable *feature_names; /* word << 8 | bit -> char * */
    GByteArray *unknown;       /* whole records as they are on disk */
} Qcow2Extensions;

/*
 * Decode and check the fixed fields from the first @len >= 112 bytes.
 * Returns 0; -EINVAL, -EFBIG, -ENOTSUP, *@ret untouched. Unknown feature bits
 * are not looked at: their names come from the extensions.
 */
int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret,
                        GError **errp);
/* The same, but what a repair can mend is let through: no refcount table, too
 * many snapshots. */
int qcow2_header_decode_damaged(const uint8_t *buf, size_t len,
                                Qcow2Header *ret, GError **errp);
/* Write the fixed fields over the first 72 or 112 bytes of @buf. A v3 field
 * that header_length does not cover is left alone. */
void qcow2_header_encode(const Qcow2Header *h, uint8_t *buf);

/* ---- extensions.c ---- */

/*
 * Decode extensions and backing file name from the first cluster, of which
 * @buf has all bytes up to @len. Returns 0 or -EINVAL, *@ret untouched.
 */
int qcow2_extensions_decode(const uint8_t *buf, size_t len,
                            const Qcow2Header *h, Qcow2Extensions *ret,
                            GError **errp);
void qcow2_extensions_cleanup(Qcow2Extensions *ext);

typedef struct Qcow2HeaderForm {
    bool feature_names;     /* have the table, where there is room for one */
    uint64_t name_offset;   /* of the backing file name; 0: right behind */
    const uint8_t *old;     /* bytes behind the fields come from here, up to
                               header_length; NULL: there are none */
} Qcow2HeaderForm;

/*
 * Make @buf all of cluster 0 that is in use: fixed fields, extensions, backing
 * file name. Sets h->header_length and the backing fields. *@ret_ext
 * (may be NULL): where the extensions end, from the start of the cluster.
 * Returns 0, or -ENOSPC when it does not fit a cluster.
 */
int qcow2_header_build(Qcow2Header *h, const Qcow2Extensions *ext,
                       const Qcow2HeaderForm *form, GByteArray *buf,
                       uint64_t *ret_ext, GError **errp);

#endif
