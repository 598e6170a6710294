/* SPDX-License-Identifier: MIT */
/*
 * Tables of entries that have many owners: the L1 tables of snapshots, the
 * tables of bitmaps. In a hostile image thousands of them overlap, and reading
 * each from its start to its end would take for ever. So the tables become
 * edges on the line of file offsets; a sweep over the sorted edges knows how
 * many tables cover each stretch, and reads it once.
 */
#include "check_int.h"

#define WINDOW (64 * 1024)

typedef struct Edge {
    uint64_t pos;
    int64_t delta;          /* tables that begin, less those that end */
} Edge;

typedef int coroutine_fn StretchFunc(Qcow2Check *c, uint64_t start,
                                     uint64_t end, uint64_t paths,
                                     void *opaque);

static int by_position(gconstpointer a, gconstpointer b)
{
    uint64_t pa = ((const Edge *)a)->pos, pb = ((const Edge *)b)->pos;

    return (pa > pb) - (pa < pb);
}

static void add_edges(GArray *edges, uint64_t start, uint64_t end)
{
    Edge open = { start, 1 }, close = { end, -1 };

    if (start < end) {
        g_array_append_val(edges, open);
        g_array_append_val(edges, close);
    }
}

static int coroutine_fn sweep(Qcow2Check *c, GArray *edges, StretchFunc *fn,
                              void *opaque)
{
    uint64_t paths = 0, start = 0;
    int ret = 0;

    g_array_sort(edges, by_position);
    for (guint i = 0; i < edges->len && ret == 0; i++) {
        const Edge *e = &g_array_index(edges, Edge, i);

        if (paths && e->pos > start) {
            ret = fn(c, start, e->pos, paths, opaque);
        }
        start = e->pos;
        paths += e->delta;
    }
    return ret;
}

static int coroutine_fn count_stretch(Qcow2Check *c, uint64_t start,
                                      uint64_t end, uint64_t paths,
                                      void *opaque)
{
    int ret = 0;

    (void)qcow2_check_region(c, start, end - start, paths, opaque, &ret);
    return ret;
}

/* Hand every entry of a stretch to the caller's function. */
static int coroutine_fn read_stretch(Qcow2Check *c, uint64_t start,
                                     uint64_t end, uint64_t paths,
                                     void *opaque)
{
    Qcow2CheckEntryFunc **fn = opaque;
    g_autofree uint8_t *buf = g_try_malloc(WINDOW);
    int ret = buf ? 0 : -ENOMEM;

    while (start < end && ret == 0) {
        uint64_t n = MIN(end - start, WINDOW);
        int err = bdrv_co_pread(c->s->bs->file, start, n, buf, 0);

        if (err < 0) {
            qcow2_check_failed(c, "table at %#" PRIx64 " cannot be read: %s",
                               start, g_strerror(-err));
            c->blind = true;
        }
        for (uint64_t i = 0; err == 0 && i + 8 <= n && ret == 0; i += 8) {
            uint64_t entry = be64_get(buf + i);

            ret = entry ? (*fn)(c, entry, paths) : 0;
        }
        start += n;
    }
    return ret;
}

int coroutine_fn qcow2_check_tables(Qcow2Check *c, GArray *tables,
                                    const char *what,
                                    Qcow2CheckEntryFunc *fn)
{
    g_autoptr(GArray) clusters = g_array_new(false, false, sizeof(Edge));
    g_autoptr(GArray) entries = g_array_new(false, false, sizeof(Edge));
    const Qcow2State *s = c->s;
    int ret;

    for (guint i = 0; i < tables->len; i++) {
        const Qcow2CheckTable *t = &g_array_index(tables, Qcow2CheckTable, i);
        uint64_t end = t->offset + t->nb_entries * 8;

        if (end >= c->file_bytes + s->cluster_size) {
            qcow2_check_corruption(c, 1, "%s at %#" PRIx64 " ends past the "
                                   "end of the file", what, t->offset);
            c->blind = true;
        } else {
            add_edges(clusters, t->offset,
                      MIN(qcow2_cluster_ceil(s, end),
                          qcow2_cluster_ceil(s, c->file_bytes)));
        }
        add_edges(entries, t->offset,
                  MIN(end, ROUND_UP(c->file_bytes, 8)));
    }
    ret = sweep(c, clusters, count_stretch, (void *)what);
    return ret < 0 ? ret : sweep(c, entries, read_stretch, &fn);
}
