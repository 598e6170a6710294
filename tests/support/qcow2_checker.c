/* SPDX-License-Identifier: MIT */
/*
 * See qcow2_checker.h. Written from the description of the format alone; the
 * whole image is in memory and bytes past its end are zero.
 */
#include "tests/support/qcow2_checker.h"

#include <errno.h>
#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define OFFSET_BITS 0x00fffffffffffe00ull
#define FLAG_COPIED (1ull << 63)
#define FLAG_COMPRESSED (1ull << 62)

typedef struct Check {
    const uint8_t *p;
    size_t len;
    unsigned cb;            /* cluster_bits */
    unsigned version;
    unsigned rbits;         /* refcount width */
    unsigned es;            /* bytes of an L2 entry */
    bool data_file;         /* guest data is elsewhere */
    uint64_t cs;
    GHashTable *refs;       /* cluster number -> references */
    Qcow2CheckResult *r;
} Check;

static uint64_t be(const Check *c, uint64_t at, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        v = v << 8 | (at + i < c->len ? c->p[at + i] : 0);
    }
    return v;
}

static void G_GNUC_PRINTF(2, 3) corrupt(Check *c, const char *fmt, ...)
{
    if (!c->r->corruptions++) {
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(c->r->first, sizeof(c->r->first), fmt, ap);
        va_end(ap);
    }
}

/* ---- references ---- */

static uint64_t refs_of(const Check *c, uint64_t cluster)
{
    return (uintptr_t)g_hash_table_lookup(c->refs, (gpointer)cluster);
}

static void refer(Check *c, uint64_t offset, uint64_t bytes, const char *what)
{
    if (!bytes) {
        return;
    }
    if (offset > c->len || bytes > c->len + c->cs - offset) {
        corrupt(c, "%s at %#" G_GINT64_MODIFIER "x is outside the file",
                what, offset);
        return;
    }
    for (uint64_t k = offset >> c->cb; k <= (offset + bytes - 1) >> c->cb;
         k++) {
        g_hash_table_insert(c->refs, (gpointer)k,
                            (gpointer)(refs_of(c, k) + 1));
    }
}

static uint64_t refcount_of(const Check *c, uint64_t cluster)
{
    uint64_t table = be(c, 48, 8), entries = be(c, 56, 4) * c->cs / 8;
    uint64_t per_block = c->cs * 8 / c->rbits;
    uint64_t block, at = cluster % per_block;

    if (cluster / per_block >= entries) {
        return 0;
    }
    block = be(c, table + cluster / per_block * 8, 8) & ~511ull;
    if (!block) {
        return 0;
    }
    if (c->rbits >= 8) {
        return be(c, block + at * (c->rbits / 8), c->rbits / 8);
    }
    return be(c, block + at * c->rbits / 8, 1) >> (at * c->rbits % 8) &
           ((1u << c->rbits) - 1);
}

/* Extended L2 entries: each of 32 subclusters is data, zero or neither. */
static void check_subclusters(Check *c, uint64_t entry, uint64_t bitmap)
{
    uint32_t data = bitmap, zero = bitmap >> 32;
    bool host = (entry & OFFSET_BITS) ||
                (c->data_file && (entry & FLAG_COPIED));

    if (c->es != 16) {
        return;
    }
    if ((entry & 1) && !(entry & FLAG_COMPRESSED)) {
        corrupt(c, "reserved bit 0 is set");
    }
    if (data & zero) {
        corrupt(c, "a subcluster is both data and zero");
    }
    if ((entry & FLAG_COMPRESSED) ? bitmap != 0 : data && !host) {
        corrupt(c, "subclusters with data and no cluster");
    }
}

static void count_entry(Check *c, uint64_t entry, uint64_t bitmap,
                        uint64_t guest)
{
    uint64_t offset = entry & OFFSET_BITS;

    check_subclusters(c, entry, bitmap);
    if (c->data_file) {
        if (entry & FLAG_COMPRESSED) {
            corrupt(c, "compressed cluster with a data file");
        } else if ((offset || (entry & FLAG_COPIED)) && offset != guest) {
            corrupt(c, "offset in the data file is not the guest's");
        }
        return;
    }
    if (entry & FLAG_COMPRESSED) {
        unsigned x = 62 - (c->cb - 8);
        uint64_t from = entry & ((1ull << x) - 1);
        uint64_t sectors = (entry & (FLAG_COMPRESSED - 1)) >> x;

        refer(c, from, (sectors + 1) * 512 - from % 512, "compressed data");
        return;
    }
    if ((entry & 1) && c->version < 3) {
        corrupt(c, "zero flag in a version 2 image");
    }
    if (!offset) {
        return;
    }
    if (offset % c->cs) {
        corrupt(c, "data cluster at %#" G_GINT64_MODIFIER "x is unaligned",
                offset);
        return;
    }
    refer(c, offset, c->cs, "data cluster");
}

static void count_l1(Check *c, uint64_t table, uint64_t size,
                     const char *what)
{
    if (table % c->cs) {
        corrupt(c, "%s is unaligned", what);
        return;
    }
    refer(c, table, size * 8, what);
    for (uint64_t i = 0; i < size; i++) {
        uint64_t l2 = be(c, table + i * 8, 8) & OFFSET_BITS;

        if (!l2) {
            continue;
        }
        if (l2 % c->cs) {
            corrupt(c, "L2 table is unaligned");
            continue;
        }
        refer(c, l2, c->cs, "L2 table");
        for (uint64_t j = 0; j < c->cs / c->es; j++) {
            count_entry(c, be(c, l2 + j * c->es, 8),
                        c->es == 16 ? be(c, l2 + j * 16 + 8, 8) : 0,
                        (i * (c->cs / c->es) + j) * c->cs);
        }
    }
}

static void count_snapshots(Check *c)
{
    uint64_t start = be(c, 64, 8), at = start, n = be(c, 60, 4);

    if (n && c->data_file) {
        corrupt(c, "snapshots with a data file");
    }
    for (uint64_t i = 0; i < n; i++) {
        at = (at + 7) / 8 * 8;
        if (at + 40 > c->len) {
            corrupt(c, "snapshot table is outside the file");
            return;
        }
        count_l1(c, be(c, at, 8), be(c, at + 8, 4), "L1 of a snapshot");
        at += 40 + be(c, at + 36, 4) + be(c, at + 12, 2) +
              be(c, at + 14, 2);
    }
    if (n) {
        refer(c, start, at - start, "snapshot table");
    }
}

static void count_refcounts(Check *c)
{
    uint64_t table = be(c, 48, 8), bytes = be(c, 56, 4) * c->cs;

    refer(c, table, bytes, "refcount table");
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t block = be(c, table + i * 8, 8);

        if (block % c->cs) {
            corrupt(c, "refcount block is unaligned");
        } else if (block) {
            refer(c, block, c->cs, "refcount block");
        }
    }
}

/* Position of the data of header extension @type, or 0. */
static uint64_t find_extension(const Check *c, uint32_t type)
{
    uint64_t at = c->version >= 3 ? be(c, 100, 4) : 72;
    uint64_t end = be(c, 8, 8) ? be(c, 8, 8) : c->cs;

    while (at + 8 <= end && be(c, at, 4)) {
        if (be(c, at, 4) == type) {
            return at + 8;
        }
        at += 8 + (be(c, at + 4, 4) + 7) / 8 * 8;
    }
    return 0;
}

static void count_luks(Check *c)
{
    uint64_t ext = find_extension(c, 0x0537be77);

    if (ext) {
        refer(c, be(c, ext, 8), be(c, ext + 8, 8), "LUKS header");
    }
}

static void count_bitmap(Check *c, uint64_t entry)
{
    uint64_t table = be(c, entry, 8), n = be(c, entry + 8, 4);

    refer(c, table, n * 8, "bitmap table");
    for (uint64_t i = 0; i < n && table + i * 8 < c->len; i++) {
        uint64_t e = be(c, table + i * 8, 8);

        if ((e & ~OFFSET_BITS & ~1ull) || ((e & OFFSET_BITS) && (e & 1)) ||
            (e & OFFSET_BITS) % c->cs) {
            corrupt(c, "bitmap table entry is impossible");
        } else if (e & OFFSET_BITS) {
            refer(c, e & OFFSET_BITS, c->cs, "bitmap data");
        }
    }
}

/* Without the autoclear bit bitmaps are only leaks. */
static void count_bitmaps(Check *c)
{
    uint64_t ext = find_extension(c, 0x23852875);
    uint64_t dir, at, n;

    if (c->version < 3 || !ext || !(be(c, 88, 8) & 1)) {
        return;
    }
    n = be(c, ext, 4);
    at = dir = be(c, ext + 16, 8);
    refer(c, dir, be(c, ext + 8, 8), "bitmap directory");
    for (uint64_t i = 0; i < n && at < c->len; i++) {
        count_bitmap(c, at);
        at += (24 + be(c, at + 18, 2) + be(c, at + 20, 4) + 7) / 8 * 8;
    }
    if (at != dir + be(c, ext + 8, 8)) {
        corrupt(c, "bitmap directory has another size than its entries");
    }
}

/* ---- comparing ---- */

static void compare(Check *c)
{
    uint64_t clusters = (c->len + c->cs - 1) / c->cs;

    for (uint64_t k = 0; k < clusters; k++) {
        uint64_t want = refs_of(c, k), is = refcount_of(c, k);

        if (is > want) {
            c->r->leaks++;
        } else if (is < want) {
            corrupt(c, "cluster %" G_GUINT64_FORMAT " has refcount %"
                    G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " references",
                    k, is, want);
        }
    }
}

/* Is COPIED what the refcount says, and if not, is that dangerous? */
static void compare_flag(Check *c, uint64_t entry, const char *what)
{
    uint64_t k = (entry & OFFSET_BITS) >> c->cb;
    bool flag = entry & FLAG_COPIED;

    if (flag && refs_of(c, k) > 1) {
        corrupt(c, "COPIED on %s in cluster %" G_GUINT64_FORMAT
                ", which is shared", what, k);
    } else if (flag != (refcount_of(c, k) == 1)) {
        c->r->copied++;
    }
}

static void compare_flags(Check *c)
{
    uint64_t table = be(c, 40, 8), size = be(c, 36, 4);

    for (uint64_t i = 0; i < size; i++) {
        uint64_t entry = be(c, table + i * 8, 8);
        uint64_t l2 = entry & OFFSET_BITS;

        if (!l2 || l2 % c->cs) {
            continue;
        }
        compare_flag(c, entry, "an L2 table");
        for (uint64_t j = 0; j < c->cs / c->es; j++) {
            uint64_t e = be(c, l2 + j * c->es, 8);

            if ((e & FLAG_COMPRESSED) && (e & FLAG_COPIED)) {
                corrupt(c, "COPIED on a compressed cluster");
            } else if (c->data_file) {
                c->r->copied += (e & OFFSET_BITS) && !(e & FLAG_COPIED);
            } else if (!(e & FLAG_COMPRESSED) && (e & OFFSET_BITS)) {
                compare_flag(c, e, "a data cluster");
            }
        }
    }
}

int qcow2_checker_run(const uint8_t *image, size_t bytes,
                      Qcow2CheckResult *ret)
{
    Check c = { .p = image, .len = bytes, .r = ret };
    uint64_t need;

    if (bytes < 72 || memcmp(image, "QFI\xfb", 4) != 0) {
        return -EINVAL;
    }
    memset(ret, 0, sizeof(*ret));
    c.version = be(&c, 4, 4);
    c.cb = be(&c, 20, 4);
    c.rbits = c.version >= 3 ? 1u << be(&c, 96, 4) : 16;
    if (c.version < 2 || c.version > 3 || c.cb < 9 || c.cb > 21 ||
        c.rbits > 64 || (c.version >= 3 && (be(&c, 72, 8) & ~31ull))) {
        return -EINVAL;
    }
    c.cs = 1ull << c.cb;
    c.es = c.version >= 3 && (be(&c, 72, 8) & 16) ? 16 : 8;
    c.data_file = c.version >= 3 && (be(&c, 72, 8) & 4);
    c.refs = g_hash_table_new(NULL, NULL);
    need = (be(&c, 24, 8) + c.cs * c.cs / c.es - 1) / (c.cs * c.cs / c.es);
    if (be(&c, 36, 4) < need) {
        corrupt(&c, "L1 table is too small for the disk");
    }
    refer(&c, 0, c.cs, "header");
    count_l1(&c, be(&c, 40, 8), be(&c, 36, 4), "active L1");
    count_snapshots(&c);
    count_refcounts(&c);
    count_luks(&c);
    count_bitmaps(&c);
    compare(&c);
    compare_flags(&c);
    g_hash_table_unref(c.refs);
    return 0;
}

int qcow2_checker_run_file(const char *path, Qcow2CheckResult *ret)
{
    g_autofree char *bytes = NULL;
    GError *error = NULL;
    gsize n;

    if (!g_file_get_contents(path, &bytes, &n, &error)) {
        g_error_free(error);
        return -EIO;
    }
    return qcow2_checker_run((const uint8_t *)bytes, n, ret);
}
