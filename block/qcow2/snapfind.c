/* SPDX-License-Identifier: MIT */
/*
 * Finding snapshots, and opening an image as one of them was.
 *
 * An image may have 65,536, so ids and names are looked up in an index. It is
 * built by the first lookup, follows what is appended, and is dropped when a
 * snapshot goes: the positions of those behind it change. Texts need not be
 * unique; the first one in the table is found.
 */
#include "qcow2_int.h"

struct Qcow2SnapIndex {
    GHashTable *by_id;      /* text -> position + 1 */
    GHashTable *by_name;
    uint64_t max_id;        /* the largest number among the ids */
};

void qcow2_snapindex_reset(Qcow2State *s)
{
    if (s->snap_index) {
        g_hash_table_unref(s->snap_index->by_id);
        g_hash_table_unref(s->snap_index->by_name);
        g_clear_pointer(&s->snap_index, g_free);
    }
}

static void add_text(GHashTable *h, GBytes *bytes, guint i)
{
    char *text = qcow2_snapshot_text(bytes);

    if (g_hash_table_contains(h, text)) {
        g_free(text);
    } else {
        g_hash_table_insert(h, text, GUINT_TO_POINTER(i + 1));
    }
}

static void add_snapshot(Qcow2State *s, guint i)
{
    const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
    g_autofree char *id = qcow2_snapshot_text(sn->id);
    uint64_t n = g_ascii_strtoull(id, NULL, 10);

    add_text(s->snap_index->by_id, sn->id, i);
    add_text(s->snap_index->by_name, sn->name, i);
    if (n > s->snap_index->max_id && n < UINT64_MAX) {
        s->snap_index->max_id = n;
    }
}

void qcow2_snapindex_added(Qcow2State *s)
{
    if (s->snap_index) {
        add_snapshot(s, s->snapshots->len - 1);
    }
}

static const Qcow2SnapIndex *get_index(Qcow2State *s)
{
    if (!s->snap_index) {
        s->snap_index = g_new0(Qcow2SnapIndex, 1);
        s->snap_index->by_id = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                     g_free, NULL);
        s->snap_index->by_name = g_hash_table_new_full(
            g_str_hash, g_str_equal, g_free, NULL);
        for (guint i = 0; i < s->snapshots->len; i++) {
            add_snapshot(s, i);
        }
    }
    return s->snap_index;
}

static int find_text(GHashTable *h, const char *text)
{
    return (int)GPOINTER_TO_UINT(g_hash_table_lookup(h, text)) - 1;
}

static bool text_is(GBytes *bytes, const char *text)
{
    g_autofree char *t = qcow2_snapshot_text(bytes);

    return !strcmp(t, text);
}

int qcow2_snapshot_find(Qcow2State *s, const char *id_or_name)
{
    int i = find_text(get_index(s)->by_id, id_or_name);

    return i >= 0 ? i : find_text(get_index(s)->by_name, id_or_name);
}

int qcow2_snapshot_find_both(Qcow2State *s, const char *id, const char *name)
{
    if (!id || !name) {
        return id ? find_text(get_index(s)->by_id, id)
                  : find_text(get_index(s)->by_name, name);
    }
    for (guint i = 0; i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if (text_is(sn->id, id) && text_is(sn->name, name)) {
            return i;
        }
    }
    return -1;
}

char *qcow2_snapshot_next_id(Qcow2State *s)
{
    return g_strdup_printf("%" PRIu64, get_index(s)->max_id + 1);
}

/* ---- opening one ---- */

static int coroutine_fn show_snapshot(Qcow2State *s, int i, const char *name,
                                      GError **errp)
{
    const Qcow2Snapshot *sn;
    uint64_t disk_size;
    Qcow2Table l1;
    int ret;

    if (!s->bs->read_only) {
        return set_error(errp, -EROFS, "a snapshot can only be opened "
                         "read-only");
    }
    if (i < 0) {
        return set_error(errp, -ENOENT, "there is no snapshot '%s'", name);
    }
    sn = g_ptr_array_index(s->snapshots, i);
    disk_size = qcow2_snapshot_disk_size(sn, s->hdr.size);
    if (disk_size > BDRV_MAX_LENGTH ||
        qcow2_l1_entries_for(s, disk_size) > QCOW2_MAX_L1_ENTRIES) {
        return set_error(errp, -EFBIG, "disk size %" PRIu64 " of the "
                         "snapshot is too large", disk_size);
    }
    ret = qcow2_snapshot_load_l1(s, sn, &l1, errp);
    if (ret == 0) {
        qcow2_table_cleanup(&s->l1);
        s->l1 = l1;
        s->hdr.size = disk_size; /* nothing is ever written back */
        s->shows_snapshot = true;
    }
    return ret;
}

int coroutine_fn qcow2_snapshot_open(Qcow2State *s, BdrvOptions *options,
                                     GError **errp)
{
    g_autofree char *id = bdrv_options_take(options, "snapshot.id");
    g_autofree char *name = bdrv_options_take(options, "snapshot.name");
    g_autofree char *any = bdrv_options_take(options, "snapshot");

    if (any) {
        return show_snapshot(s, qcow2_snapshot_find(s, any), any, errp);
    }
    return id || name ? show_snapshot(s, qcow2_snapshot_find_both(s, id, name),
                                      name ? name : id, errp) : 0;
}
