/* SPDX-License-Identifier: MIT */
/*
 * Overlap checks and the corrupt bit (R7).
 *
 * Before a write to the image file its target is compared with where metadata
 * is known to be: header, active L1, refcount table, snapshot table, bitmap
 * directory, LUKS header ("constant"), and active L2 tables, refcount blocks and snapshots'
 * L1 tables ("cached"). The second kind may be millions of places, so a filter
 * with one bit per hashed cluster number comes first: a clear bit proves that
 * the cluster is not one of them; a set bit is looked into. Bits are never
 * cleared one by one, only by a rebuild. L2 tables of snapshots ("all") are in
 * overlap-inactive.c.
 *
 * s->overlap has the categories that are looked at; a writer leaves out those
 * that it writes on purpose.
 */
#include "qcow2_int.h"

#include <stdarg.h>

#define FILTER_MIN_BITS 16
#define FILTER_MAX_BITS 26
/* Far more than the 8 MiB of filter bits are good for. */
#define FILTER_MAX_CLUSTERS (1ULL << 26)

/* ---- options ---- */

#define CONSTANT (QCOW2_OL_MAIN_HEADER | QCOW2_OL_ACTIVE_L1 | \
                  QCOW2_OL_REFCOUNT_TABLE | QCOW2_OL_SNAPSHOT_TABLE | \
                  QCOW2_OL_BITMAP_DIRECTORY | QCOW2_OL_CRYPT_HEADER)
#define CACHED   (QCOW2_OL_ACTIVE_L2 | QCOW2_OL_REFCOUNT_BLOCK | \
                  QCOW2_OL_INACTIVE_L1)

static const struct {
    const char *name;
    unsigned categories;
} templates[] = {
    { "none", 0 },
    { "constant", CONSTANT },
    { "cached", CONSTANT | CACHED },
    { "all", CONSTANT | CACHED | QCOW2_OL_INACTIVE_L2 },
};

static const struct {
    const char *option;
    unsigned category;
} categories[] = {
    { "overlap-check.main-header", QCOW2_OL_MAIN_HEADER },
    { "overlap-check.active-l1", QCOW2_OL_ACTIVE_L1 },
    { "overlap-check.active-l2", QCOW2_OL_ACTIVE_L2 },
    { "overlap-check.refcount-table", QCOW2_OL_REFCOUNT_TABLE },
    { "overlap-check.refcount-block", QCOW2_OL_REFCOUNT_BLOCK },
    { "overlap-check.snapshot-table", QCOW2_OL_SNAPSHOT_TABLE },
    { "overlap-check.inactive-l1", QCOW2_OL_INACTIVE_L1 },
    { "overlap-check.inactive-l2", QCOW2_OL_INACTIVE_L2 },
    { "overlap-check.bitmap-directory", QCOW2_OL_BITMAP_DIRECTORY },
    { "overlap-check.crypt-header", QCOW2_OL_CRYPT_HEADER },
};

static int take_template(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    g_autofree char *plain = bdrv_options_take(o, "overlap-check");
    g_autofree char *dotted = bdrv_options_take(o, "overlap-check.template");
    const char *name = plain ? plain : dotted ? dotted : "cached";

    if (plain && dotted && strcmp(plain, dotted)) {
        return set_error(errp, -EINVAL, "overlap-check is '%s' but "
                         "overlap-check.template is '%s'", plain, dotted);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(templates); i++) {
        if (!strcmp(name, templates[i].name)) {
            s->overlap = templates[i].categories;
            return 0;
        }
    }
    return bdrv_options_refuse("overlap-check", name,
                               NEAREST_LIST("none", "constant", "cached",
                                            "all"), errp);
}

int qcow2_overlap_take_options(Qcow2State *s, BdrvOptions *o, GError **errp)
{
    int ret = take_template(s, o, errp);

    for (size_t i = 0; i < G_N_ELEMENTS(categories) && ret == 0; i++) {
        unsigned bit = categories[i].category;
        bool on;

        ret = bdrv_options_take_bool(o, categories[i].option,
                                     s->overlap & bit, &on, errp);
        if (ret == 0) {
            s->overlap = on ? s->overlap | bit : s->overlap & ~bit;
        }
    }
    return ret;
}

/* ---- the filter ---- */

static uint64_t filter_slot(const Qcow2State *s, uint64_t index)
{
    return (index * 0x9e3779b97f4a7c15ULL) >> (64 - s->filter_bits);
}

void qcow2_filter_add(Qcow2State *s, uint64_t offset)
{
    uint64_t slot = filter_slot(s, offset >> s->cluster_bits);

    s->filter[slot / 8] |= 1u << (slot % 8);
    s->filter_count++;
    if (s->filter_count > (1ULL << s->filter_bits) / 8 &&
        s->filter_bits < FILTER_MAX_BITS) {
        (void)qcow2_filter_rebuild(s); /* a full filter is only slow */
    }
}

static bool filter_hit(const Qcow2State *s, uint64_t offset)
{
    uint64_t slot = filter_slot(s, offset >> s->cluster_bits);

    return s->filter[slot / 8] & (1u << (slot % 8));
}

/* Note @bytes at @offset; both come from the image and may be anything. */
static void filter_set_range(Qcow2State *s, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> s->cluster_bits;
    uint64_t n = DIV_ROUND_UP(bytes, s->cluster_size);

    if (offset >= QCOW2_MAX_HOST_OFFSET) {
        return; /* nothing is ever written there */
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t slot = filter_slot(s, first + i);

        s->filter[slot / 8] |= 1u << (slot % 8);
    }
    s->filter_count += n;
}

/* A table that the file does not hold is never loaded, nor protected. */
static bool l1_in_file(const Qcow2State *s, const Qcow2Snapshot *sn)
{
    uint64_t end = ROUND_UP(s->bs->file->bs->total_bytes, s->cluster_size);

    return sn->l1_size <= QCOW2_MAX_L1_ENTRIES && sn->l1_table_offset <= end &&
           (uint64_t)sn->l1_size * 8 <= end - sn->l1_table_offset;
}

static uint64_t used_entries(const Qcow2Table *t)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < t->size; i++) {
        n += t->entries[i] != 0;
    }
    return n;
}

/* How many clusters the filter has to know now, at most. */
static uint64_t filter_need(const Qcow2State *s)
{
    uint64_t n = used_entries(&s->l1) + used_entries(&s->reftable);

    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (l1_in_file(s, sn)) {
            n += DIV_ROUND_UP((uint64_t)sn->l1_size * 8, s->cluster_size) + 1;
        }
    }
    return n;
}

int qcow2_filter_rebuild(Qcow2State *s)
{
    unsigned bits = FILTER_MIN_BITS;
    uint64_t need = filter_need(s);
    uint8_t *mem;

    while (bits < FILTER_MAX_BITS && (1ULL << bits) < need * 16) {
        bits++;
    }
    mem = g_try_malloc0((1ULL << bits) / 8);
    if (!mem) {
        return -ENOMEM;
    }
    g_free(s->filter);
    s->filter = mem;
    s->filter_bits = bits;
    s->filter_count = 0;
    if (need > FILTER_MAX_CLUSTERS) {
        memset(s->filter, 0xff, (1ULL << bits) / 8); /* look at everything */
        return 0;
    }
    for (uint32_t i = 0; i < s->l1.size; i++) {
        if (s->l1.entries[i] & QCOW2_OFFSET_MASK) {
            filter_set_range(s, s->l1.entries[i] & QCOW2_OFFSET_MASK, 1);
        }
    }
    for (uint32_t i = 0; i < s->reftable.size; i++) {
        if (s->reftable.entries[i]) {
            filter_set_range(s, s->reftable.entries[i] & QCOW2_REFBLOCK_MASK,
                             1);
        }
    }
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (l1_in_file(s, sn)) {
            filter_set_range(s, sn->l1_table_offset,
                             (uint64_t)sn->l1_size * 8);
        }
    }
    return 0;
}

/* ---- checks ---- */

static bool meets(const Qcow2State *s, uint64_t offset, uint64_t bytes,
                  uint64_t table, uint64_t table_bytes)
{
    uint64_t mask = s->cluster_size - 1;
    uint64_t end = (offset + bytes + mask) & ~mask;
    uint64_t table_end = (table + table_bytes + mask) & ~mask;

    return table_bytes && (offset & ~mask) < table_end &&
           (table & ~mask) < end;
}

/* Returns what of the categories @look is at [@offset, + @bytes), or NULL. */
static const char *constant_at(const Qcow2State *s, unsigned look,
                               uint64_t offset, uint64_t bytes)
{
    if ((look & QCOW2_OL_MAIN_HEADER) && meets(s, offset, bytes, 0, 1)) {
        return "the header";
    }
    if ((look & QCOW2_OL_ACTIVE_L1) &&
        meets(s, offset, bytes, s->l1.offset, (uint64_t)s->l1.size * 8)) {
        return "the active L1 table";
    }
    if ((look & QCOW2_OL_REFCOUNT_TABLE) &&
        meets(s, offset, bytes, s->reftable.offset,
              (uint64_t)s->reftable.size * 8)) {
        return "the refcount table";
    }
    if ((look & QCOW2_OL_SNAPSHOT_TABLE) && s->hdr.nb_snapshots &&
        meets(s, offset, bytes, s->hdr.snapshots_offset,
              s->snaptable_bytes)) {
        return "the snapshot table";
    }
    if ((look & QCOW2_OL_BITMAP_DIRECTORY) && s->ext.has_bitmaps &&
        meets(s, offset, bytes, s->ext.bitmap_directory_offset,
              s->ext.bitmap_directory_size)) {
        return "the bitmap directory";
    }
    if ((look & QCOW2_OL_CRYPT_HEADER) &&
        meets(s, offset, bytes, s->ext.crypto_offset,
              s->ext.crypto_length)) {
        return "the LUKS header";
    }
    return NULL;
}

/* The slow part: is cluster @offset really one of the many? */
static const char *cached_at(const Qcow2State *s, unsigned look,
                             uint64_t offset)
{
    for (uint32_t i = 0; (look & QCOW2_OL_ACTIVE_L2) && i < s->l1.size; i++) {
        if ((s->l1.entries[i] & QCOW2_OFFSET_MASK) == offset) {
            return "an active L2 table";
        }
    }
    for (uint32_t i = 0; (look & QCOW2_OL_REFCOUNT_BLOCK) &&
                         i < s->reftable.size; i++) {
        if (s->reftable.entries[i] == offset) {
            return "a refcount block";
        }
    }
    for (guint i = 0; (look & QCOW2_OL_INACTIVE_L1) &&
                      i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (sn->l1_table_offset < QCOW2_MAX_HOST_OFFSET &&
            meets(s, offset, 1, sn->l1_table_offset,
                  (uint64_t)sn->l1_size * 8)) {
            return "the L1 table of a snapshot";
        }
    }
    return NULL;
}

/* What is in cluster @offset; 0 or -errno. */
static int coroutine_fn cluster_at(Qcow2State *s, unsigned look,
                                   uint64_t offset, const char **ret_what)
    REQUIRES(s->lock)
{
    bool inactive = false;
    int ret = 0;

    if ((look & CACHED) && filter_hit(s, offset)) {
        *ret_what = cached_at(s, look, offset);
    }
    if (!*ret_what && (look & QCOW2_OL_INACTIVE_L2) && s->snapshots->len) {
        ret = qcow2_inactive_l2_at(s, offset, &inactive);
    }
    if (inactive) {
        *ret_what = "an L2 table of a snapshot";
    }
    return ret;
}

int coroutine_fn qcow2_check_overlap(Qcow2State *s, unsigned ignore,
                                     uint64_t offset, uint64_t bytes)
{
    uint64_t first = ROUND_DOWN(offset, s->cluster_size);
    unsigned look = s->overlap & ~ignore;
    const char *what = NULL;
    int ret = 0;

    if (offset >= QCOW2_MAX_HOST_OFFSET ||
        bytes > QCOW2_MAX_HOST_OFFSET - offset) {
        return qcow2_corruption(s, "write to impossible host offset %#"
                                PRIx64, offset);
    }
    what = look & CONSTANT ? constant_at(s, look, offset, bytes) : NULL;
    for (uint64_t o = first; (look & ~CONSTANT) && !what && ret == 0 &&
                             o < offset + bytes; o += s->cluster_size) {
        ret = cluster_at(s, look, o, &what);
    }
    if (what) {
        return qcow2_corruption(s, "write to host offset %#" PRIx64
                                " (%" PRIu64 " bytes) would overwrite %s",
                                offset, bytes, what);
    }
    return ret;
}

/* ---- R7 ---- */

int coroutine_fn qcow2_corruption(Qcow2State *s, const char *fmt, ...)
{
    Qcow2Header h = s->hdr;
    va_list ap;

    if (s->corrupt) {
        return -EIO;
    }
    va_start(ap, fmt);
    s->corrupt_reason = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!s->bs->read_only && h.version >= 3 &&
        !(h.incompatible_features & QCOW2_INC_CORRUPT)) {
        h.incompatible_features |= QCOW2_INC_CORRUPT;
        (void)qcow2_header_update(s, &h); /* the image is lost already */
    }
    s->corrupt = true;
    return -EIO;
}

int qcow2_check_writable(Qcow2State *s)
{
    return s->corrupt ? -EIO : 0;
}
