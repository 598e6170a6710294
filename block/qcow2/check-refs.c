/* SPDX-License-Identifier: MIT */
/*
 * Counting every reference there is, and looking at every entry on the way.
 *
 * A cluster is counted once per path through L1 tables. The paths to each L2
 * table are added up first, over the active layer and all snapshots; then each
 * table is read once and what it maps is counted with that number. So 65,536
 * snapshots of one disk cost one walk, and an image that names the same table
 * a million times costs no more than its size.
 *
 * Offsets that are impossible are findings, never followed. Once a pointer is
 * lost that way, c->blind says that clusters without references may not be
 * garbage.
 */
#include "check_int.h"

#define L1_RESERVED 0x7f000000000001ffULL
#define L2_RESERVED 0x3f000000000001feULL

/* ---- regions ---- */

bool qcow2_check_region(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                        uint64_t paths, const char *what, int *ret_error)
{
    uint64_t cs = c->s->cluster_size, first, last;

    if (!bytes) {
        return true;
    }
    if (offset > INT64_MAX || bytes > INT64_MAX - offset ||
        offset + bytes >= c->file_bytes + cs) {
        qcow2_check_corruption(c, paths, "%s at %#" PRIx64 ", %" PRIu64
                               " bytes, ends past the end of the file", what,
                               offset, bytes);
        return false;
    }
    first = offset >> c->s->cluster_bits;
    last = MIN((offset + bytes - 1) >> c->s->cluster_bits,
               c->nb_clusters - 1);
    for (uint64_t i = first; i <= last && *ret_error == 0; i++) {
        *ret_error = qcow2_counts_add(c->counts, i, paths);
    }
    return true;
}

/* ---- L2 tables ---- */

/* What the entries of one table add up to. */
typedef struct Layout {
    uint64_t allocated;
    uint64_t compressed;
    uint64_t fragmented;
    uint64_t next;          /* host offset that would be contiguous */
} Layout;

static void note_data(const Qcow2State *s, Layout *l, uint64_t offset)
{
    l->allocated++;
    l->fragmented += l->next && offset != l->next;
    l->next = offset + s->cluster_size;
}

/* @active entries of the active L1 table have the table. */
static void add_layout(Qcow2Check *c, const Layout *l, uint64_t active)
{
    c->res->allocated_clusters += l->allocated * active;
    c->res->compressed_clusters += l->compressed * active;
    c->res->fragmented_clusters += l->fragmented * active;
}

static int check_compressed(Qcow2Check *c, Qcow2Entry e, uint64_t paths,
                            Layout *l)
{
    const Qcow2State *s = c->s;
    uint64_t offset, bytes;
    int ret = 0;

    qcow2_entry_compressed(s, e.desc, &offset, &bytes);
    if (e.desc & QCOW2_COPIED) {
        qcow2_check_corruption(c, paths, "compressed cluster at %#" PRIx64
                               " is marked as writable in place", offset);
    }
    if (s->data_file != s->bs->file) {
        qcow2_check_corruption(c, paths, "compressed cluster at %#" PRIx64
                               " in an image with an external data file",
                               offset);
        return 0;
    }
    if (e.bitmap) {
        qcow2_check_corruption(c, paths, "compressed cluster at %#" PRIx64
                               " has subclusters", offset);
        return 0;
    }
    if (!qcow2_check_region(c, offset, bytes, paths, "compressed cluster",
                            &ret)) {
        c->blind = true;
    }
    l->allocated++;
    l->compressed++;
    l->fragmented++;
    return ret;
}

/* Is there an invalid pair in the bitmap? */
static bool bitmap_is_bad(uint64_t bitmap, bool has_storage)
{
    uint32_t alloc = bitmap, zero = bitmap >> 32;

    return (alloc & zero) || (alloc && !has_storage);
}

bool qcow2_check_reads_zero(const Qcow2State *s, Qcow2Entry e)
{
    return s->l2_entry_bits == 4 ? !(uint32_t)e.bitmap
                                 : (e.desc & QCOW2_ZERO) != 0;
}

bool qcow2_check_offset_ok(const Qcow2Check *c, uint64_t offset)
{
    return IS_ALIGNED(offset, c->s->cluster_size) &&
           offset >> c->s->cluster_bits < MAX(c->nb_clusters, 1);
}

/* A host offset that no cluster can have. */
static void note_lost(Qcow2Check *c, Qcow2Entry e)
{
    if (qcow2_check_reads_zero(c->s, e)) {
        c->bad_zeroes = true;
    } else {
        c->blind = true;
    }
}

static int check_standard(Qcow2Check *c, Qcow2Entry e, uint64_t paths,
                          Layout *l)
{
    const Qcow2State *s = c->s;
    bool extended = s->l2_entry_bits == 4;
    bool external = s->data_file != s->bs->file;
    uint64_t offset = e.desc & QCOW2_OFFSET_MASK;
    uint64_t reserved = L2_RESERVED | (extended ? QCOW2_ZERO : 0);
    bool has_storage = offset || (external && (e.desc & QCOW2_COPIED));
    int ret = 0;

    if (e.desc & reserved) {
        qcow2_check_corruption(c, paths, "L2 entry %#" PRIx64 " has reserved "
                               "bits", e.desc);
    }
    if (s->hdr.version < 3 && (e.desc & QCOW2_ZERO)) {
        qcow2_check_corruption(c, paths, "L2 entry %#" PRIx64 " has a zero "
                               "flag in a version 2 image", e.desc);
    }
    if (extended && bitmap_is_bad(e.bitmap, has_storage)) {
        qcow2_check_corruption(c, paths, "L2 entry %#" PRIx64 " has an "
                               "impossible subcluster bitmap %#" PRIx64,
                               e.desc, e.bitmap);
        c->blind |= !has_storage;
    }
    if (!has_storage) {
        return 0;
    }
    if (offset || extended || !(e.desc & QCOW2_ZERO)) {
        note_data(s, l, offset); /* as qemu-img counts a zero at offset 0 */
    }
    if (!IS_ALIGNED(offset, s->cluster_size)) {
        qcow2_check_corruption(c, paths, "data cluster at %#" PRIx64 " is "
                               "not aligned", offset);
        note_lost(c, e);
    }
    if (!external && !qcow2_check_region(c, offset, s->cluster_size, paths,
                                         "data cluster", &ret)) {
        note_lost(c, e);
    }
    return ret;
}

/* Is it worth the time to read the table? */
static bool can_read(Qcow2Check *c, uint64_t offset)
{
    if (offset >= c->file_bytes) {
        return false;
    }
    return IS_ALIGNED(offset, c->s->cluster_size) ||
           c->odd_tables++ < c->nb_clusters;
}

static int coroutine_fn check_l2(Qcow2Check *c, Qcow2CheckL2 *l2)
    REQUIRES(c->s->lock)
{
    const Qcow2State *s = c->s;
    Layout layout = { 0 };
    int ret = 0, err;

    if (!IS_ALIGNED(l2->offset, s->cluster_size)) {
        qcow2_check_corruption(c, l2->paths, "L2 table at %#" PRIx64 " is "
                               "not aligned", l2->offset);
        c->blind = true;
    }
    if (!qcow2_check_region(c, l2->offset, s->cluster_size, l2->paths,
                            "L2 table", &ret)) {
        c->blind = true;
    }
    if (ret < 0 || !can_read(c, l2->offset)) {
        return ret;
    }
    err = bdrv_co_pread(s->bs->file, l2->offset, s->cluster_size, c->buf, 0);
    if (err < 0) {
        qcow2_check_failed(c, "L2 table at %#" PRIx64 " cannot be read: %s",
                           l2->offset, g_strerror(-err));
        c->blind = true;
        return 0;
    }
    for (uint64_t i = 0; i < 1ULL << s->l2_bits && ret == 0; i++) {
        Qcow2Entry e = qcow2_entry_get(s, c->buf, i);

        if (!(e.desc | e.bitmap)) {
            continue;
        }
        ret = e.desc & QCOW2_COMPRESSED
              ? check_compressed(c, e, l2->paths, &layout)
              : check_standard(c, e, l2->paths, &layout);
    }
    add_layout(c, &layout, l2->active);
    return ret;
}

/* ---- L1 tables ---- */

/* Note the L2 table that @paths L1 entries refer to, @active of them in the
 * active layer. */
static int note_l1_entry(Qcow2Check *c, uint64_t entry, uint64_t paths,
                         uint64_t active)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    Qcow2CheckL2 *l2;

    if (entry & L1_RESERVED) {
        qcow2_check_corruption(c, paths, "L1 entry %#" PRIx64 " has reserved "
                               "bits", entry);
    }
    if (!offset) {
        return 0;
    }
    l2 = g_hash_table_lookup(c->l2_tables, &offset);
    if (!l2) {
        l2 = g_try_new0(Qcow2CheckL2, 1);
        if (!l2) {
            return -ENOMEM;
        }
        l2->offset = offset;
        g_hash_table_add(c->l2_tables, l2);
    }
    l2->paths += paths;
    l2->active += active;
    return 0;
}

static int coroutine_fn note_inactive(Qcow2Check *c, uint64_t entry,
                                      uint64_t paths)
{
    return note_l1_entry(c, entry, paths, 0);
}

static int coroutine_fn note_snapshots(Qcow2Check *c) REQUIRES(c->s->lock)
{
    g_autoptr(GArray) tables = g_array_new(false, false,
                                           sizeof(Qcow2CheckTable));
    const Qcow2State *s = c->s;

    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
        Qcow2CheckTable t = { sn->l1_table_offset, sn->l1_size };
        const char *wrong = NULL;

        if (!IS_ALIGNED(t.offset, s->cluster_size)) {
            wrong = "is not aligned";
        } else if (t.nb_entries > QCOW2_MAX_L1_ENTRIES) {
            wrong = "is too large";
        } else if (t.offset > INT64_MAX - 8 * t.nb_entries) {
            wrong = "is at an impossible offset";
        }
        if (wrong) {
            qcow2_check_corruption(c, 1, "L1 table of snapshot %u at %#"
                                   PRIx64 " %s", i, t.offset, wrong);
            c->blind = true;
        } else if (t.nb_entries) {
            g_array_append_val(tables, t);
        }
    }
    if (s->snapshots->len && s->data_file != s->bs->file) {
        qcow2_check_corruption(c, 1, "snapshots in an image with an external "
                               "data file");
    }
    return qcow2_check_tables(c, tables, "L1 table of a snapshot",
                              note_inactive);
}

static int by_offset(gconstpointer a, gconstpointer b)
{
    uint64_t oa = (*(Qcow2CheckL2 *const *)a)->offset;
    uint64_t ob = (*(Qcow2CheckL2 *const *)b)->offset;

    return (oa > ob) - (oa < ob);
}

/* As they lie in the file. */
static int coroutine_fn walk_l2_tables(Qcow2Check *c) REQUIRES(c->s->lock)
{
    g_autoptr(GPtrArray) tables = g_ptr_array_new();
    GHashTableIter it;
    gpointer l2;
    int ret = 0;

    g_hash_table_iter_init(&it, c->l2_tables);
    while (g_hash_table_iter_next(&it, &l2, NULL)) {
        g_ptr_array_add(tables, l2);
    }
    g_ptr_array_sort(tables, by_offset);
    for (guint i = 0; i < tables->len && ret == 0; i++) {
        ret = aio_check_stop();
        ret = ret < 0 ? ret : check_l2(c, g_ptr_array_index(tables, i));
    }
    return ret;
}

static int coroutine_fn count_layers(Qcow2Check *c) REQUIRES(c->s->lock)
{
    const Qcow2State *s = c->s;
    int ret = 0;

    if (!qcow2_check_region(c, s->l1.offset, (uint64_t)s->l1.size * 8, 1,
                            "L1 table", &ret)) {
        c->blind = true;
    }
    for (uint32_t i = 0; i < s->l1.size && ret == 0; i++) {
        ret = s->l1.entries[i] ? note_l1_entry(c, s->l1.entries[i], 1, 1)
                               : 0;
    }
    ret = ret < 0 ? ret : note_snapshots(c);
    return ret < 0 ? ret : walk_l2_tables(c);
}

/* ---- bitmaps ---- */

/* An entry of a bitmap table. */
static int coroutine_fn note_bitmap_data(Qcow2Check *c, uint64_t entry,
                                         uint64_t paths)
{
    const Qcow2State *s = c->s;
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    uint64_t reserved = ~QCOW2_OFFSET_MASK & ~(offset ? 0 : 1ULL);
    int ret = 0;

    if ((entry & reserved) || !IS_ALIGNED(offset, s->cluster_size)) {
        qcow2_check_corruption(c, paths, "bitmap table entry %#" PRIx64
                               " is impossible", entry);
        c->blind = true;
        return 0;
    }
    if (offset && !qcow2_check_region(c, offset, s->cluster_size, paths,
                                      "bitmap data", &ret)) {
        c->blind = true;
    }
    return ret;
}

/* Tables of the directory in @p; false: an entry is impossible. */
static bool decode_directory(const Qcow2State *s, const uint8_t *p,
                             uint64_t bytes, GArray *tables)
{
    uint64_t pos = 0, max = (512ULL << 20) >> s->cluster_bits;

    for (uint32_t i = 0; i < s->ext.nb_bitmaps; i++) {
        Qcow2CheckTable t;
        uint64_t length;

        if (bytes - pos < 24) {
            return false;
        }
        t.offset = be64_get(p + pos);
        t.nb_entries = be32_get(p + pos + 8);
        length = ROUND_UP(24ULL + be32_get(p + pos + 20) +
                          be16_get(p + pos + 18), 8);
        if (!t.offset || !IS_ALIGNED(t.offset, s->cluster_size) ||
            t.offset > INT64_MAX / 2 || t.nb_entries > MAX(max, 1) ||
            length > bytes - pos) {
            return false;
        }
        g_array_append_val(tables, t);
        pos += length;
    }
    return pos == bytes;
}

static int coroutine_fn count_bitmaps(Qcow2Check *c) REQUIRES(c->s->lock)
{
    g_autoptr(GArray) tables = g_array_new(false, false,
                                           sizeof(Qcow2CheckTable));
    const Qcow2State *s = c->s;
    uint64_t offset = s->ext.bitmap_directory_offset;
    uint64_t bytes = s->ext.bitmap_directory_size;
    g_autofree uint8_t *dir = NULL;
    int ret = 0, err;

    if (!s->ext.has_bitmaps ||
        !(s->hdr.autoclear_features & QCOW2_AUT_BITMAPS)) {
        return 0;
    }
    if (bytes > 1024 * 65535 || !qcow2_check_region(c, offset, bytes, 1,
                                                    "bitmap directory",
                                                    &ret)) {
        c->blind = true;
        return ret;
    }
    dir = g_try_malloc(bytes + 1);
    if (ret < 0 || !dir) {
        return ret < 0 ? ret : -ENOMEM;
    }
    err = bdrv_co_pread(s->bs->file, offset, bytes, dir, 0);
    if (err < 0) {
        qcow2_check_failed(c, "bitmap directory cannot be read: %s",
                           g_strerror(-err));
        c->blind = true;
        return 0;
    }
    if (!decode_directory(s, dir, bytes, tables)) {
        qcow2_check_corruption(c, 1, "bitmap directory is impossible");
        c->blind = true;
    }
    return qcow2_check_tables(c, tables, "bitmap table", note_bitmap_data);
}

/* ---- refcount blocks ---- */

/* Is entry @index of the refcount table that of a block? */
static int check_block(Qcow2Check *c, uint32_t index)
{
    const Qcow2State *s = c->s;
    uint64_t entry = s->reftable.entries[index];
    uint64_t offset = entry & QCOW2_REFBLOCK_MASK;
    const char *wrong = NULL;
    int ret = 0;

    if (entry & ~QCOW2_REFBLOCK_MASK) {
        wrong = "has reserved bits";
    } else if (!IS_ALIGNED(offset, s->cluster_size)) {
        wrong = "is not aligned";
    } else if (offset && offset >> s->cluster_bits >= c->nb_clusters) {
        wrong = "lies past the end of the file";
    }
    if (!wrong && offset) {
        ret = qcow2_counts_add(c->counts, offset >> s->cluster_bits, 1);
        if (ret == 0 &&
            qcow2_counts_get(c->counts, offset >> s->cluster_bits) != 1) {
            wrong = "is in use for something else";
        }
    }
    if (wrong) {
        qcow2_check_corruption(c, 1, "refcount block %u at %#" PRIx64 " %s",
                               index, entry, wrong);
        c->rebuild = true;
    }
    return ret;
}

/* Does nothing else claim the refcount table's clusters? */
static bool reftable_is_alone(const Qcow2Check *c)
{
    const Qcow2State *s = c->s;
    uint64_t end = s->reftable.offset + (uint64_t)s->reftable.size * 8;

    for (uint64_t o = s->reftable.offset; o < end; o += s->cluster_size) {
        if (qcow2_counts_get(c->counts, o >> s->cluster_bits) != 1) {
            return false;
        }
    }
    return s->reftable.size > 0;
}

/* ---- all ---- */

static void check_snapshot_table(Qcow2Check *c)
{
    const Qcow2State *s = c->s;

    if (s->snaps_cut) {
        qcow2_check_corruption(c, s->snaps_cut, "%u entries of the snapshot "
                               "table are beyond what it may hold",
                               s->snaps_cut);
        c->blind = true;
    }
    if (s->snaps_clipped) {
        qcow2_check_corruption(c, s->snaps_clipped, "%u entries of the "
                               "snapshot table have more than %d bytes of "
                               "extra data", s->snaps_clipped,
                               QCOW2_MAX_EXTRA);
    }
    for (guint i = 0; i < s->snapshots->len && s->hdr.version >= 3; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (!qcow2_snapshot_has_disk_size(sn)) {
            qcow2_check_corruption(c, 1, "snapshot %u does not say its disk "
                                   "size", i);
        }
    }
}

int coroutine_fn qcow2_check_refs(Qcow2Check *c)
{
    const Qcow2State *s = c->s;
    int ret = 0;

    check_snapshot_table(c);
    (void)qcow2_check_region(c, 0, s->cluster_size, 1, "header", &ret);
    ret = ret < 0 ? ret : count_layers(c);
    if (ret == 0 && s->snapshots->len &&
        !qcow2_check_region(c, s->hdr.snapshots_offset, s->snaptable_bytes, 1,
                            "snapshot table", &ret)) {
        c->blind = c->snaptable_lost = true;
    }
    if (ret == 0 && !qcow2_check_region(c, s->reftable.offset,
                                        (uint64_t)s->reftable.size * 8, 1,
                                        "refcount table", &ret)) {
        c->rebuild = true;
    }
    if (ret == 0 && s->hdr.crypt_method == 2) {
        (void)qcow2_check_region(c, s->ext.crypto_offset,
                                 s->ext.crypto_length, 1, "LUKS header",
                                 &ret);
    }
    ret = ret < 0 ? ret : count_bitmaps(c);
    for (uint32_t i = 0; i < s->reftable.size && ret == 0; i++) {
        ret = aio_check_stop();
        ret = ret == 0 && s->reftable.entries[i] ? check_block(c, i) : ret;
    }
    c->rebuild |= !reftable_is_alone(c);
    return ret;
}
