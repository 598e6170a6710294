/* SPDX-License-Identifier: MIT */
/*
 * Bytes of the snapshot table. Entries are kept with their extra data as it
 * was, so that what this driver does not know survives a rewrite; ids and
 * names are kept as bytes for the same reason. Only loading does I/O.
 */
#include "qcow2_int.h"

#define ENTRY_BYTES 40
#define EXTRA_BYTES 24 /* what we write: vmstate size, disk size, icount */
#define WINDOW      (256 * 1024)
#define ENTRY_COST  512 /* of an entry in memory, without its bytes */
/* What all tables of an image may take in memory, the overlap filter's and
 * the allocator's share included. */
#define OPEN_BYTES  (64u * 1024 * 1024)

void qcow2_snapshot_free(Qcow2Snapshot *sn)
{
    if (!sn) {
        return;
    }
    g_clear_pointer(&sn->id, g_bytes_unref);
    g_clear_pointer(&sn->name, g_bytes_unref);
    g_clear_pointer(&sn->extra, g_byte_array_unref);
    g_free(sn);
}

uint64_t qcow2_snapshot_vm_size(const Qcow2Snapshot *sn)
{
    return sn->extra->len >= 8 ? be64_get(sn->extra->data)
                               : sn->vm_state_size32;
}

bool qcow2_snapshot_has_disk_size(const Qcow2Snapshot *sn)
{
    return sn->extra->len >= 16;
}

uint64_t qcow2_snapshot_disk_size(const Qcow2Snapshot *sn, uint64_t current)
{
    return sn->extra->len >= 16 ? be64_get(sn->extra->data + 8) : current;
}

uint64_t qcow2_snapshot_icount(const Qcow2Snapshot *sn)
{
    return sn->extra->len >= 24 ? be64_get(sn->extra->data + 16)
                                : UINT64_MAX;
}

char *qcow2_snapshot_text(GBytes *bytes)
{
    gsize n;
    const char *p = g_bytes_get_data(bytes, &n);

    return n ? g_strndup(p, n) : g_strdup("");
}

/* ---- loading ---- */

/* Reads the table front to back through a window. */
typedef struct TableReader {
    Qcow2State *s;
    uint8_t *window;
    uint64_t start;         /* window holds [start, start + len) */
    uint64_t len;
} TableReader;

/* Copy @n bytes at @pos of the table; -EFBIG past its limit. */
static int coroutine_fn read_bytes(TableReader *r, uint64_t pos, uint64_t n,
                                   void *buf)
{
    if (pos + n > QCOW2_MAX_SNAPTABLE) {
        return -EFBIG;
    }
    while (n) {
        uint64_t k;

        if (pos < r->start || pos >= r->start + r->len) {
            int ret = bdrv_co_pread(r->s->bs->file,
                                    r->s->hdr.snapshots_offset + pos, WINDOW,
                                    r->window, 0);
            if (ret < 0) {
                return ret;
            }
            r->start = pos;
            r->len = WINDOW;
        }
        k = MIN(n, r->start + r->len - pos);
        memcpy(buf, r->window + (pos - r->start), k);
        buf = (uint8_t *)buf + k;
        pos += k;
        n -= k;
    }
    return 0;
}

static int coroutine_fn load_bytes(TableReader *r, uint64_t pos, uint64_t n,
                                   GBytes **ret)
{
    g_autofree uint8_t *buf = g_malloc(n + 1); /* n <= 65535 */
    int err = read_bytes(r, pos, n, buf);

    if (err == 0) {
        *ret = g_bytes_new(buf, n);
    }
    return err;
}

static int coroutine_fn load_entry(TableReader *r, uint64_t *pos,
                                   Qcow2Snapshot *sn, GError **errp)
{
    uint8_t p[ENTRY_BYTES];
    uint32_t extra;
    uint16_t id_len, name_len;
    int ret;

    ret = read_bytes(r, *pos, ENTRY_BYTES, p);
    if (ret < 0) {
        return ret;
    }
    sn->l1_table_offset = be64_get(p);
    sn->l1_size = be32_get(p + 8);
    id_len = be16_get(p + 12);
    name_len = be16_get(p + 14);
    sn->date_sec = be32_get(p + 16);
    sn->date_nsec = be32_get(p + 20);
    sn->vm_clock_nsec = be64_get(p + 24);
    sn->vm_state_size32 = be32_get(p + 32);
    extra = be32_get(p + 36);
    if (extra > QCOW2_MAX_EXTRA && !r->s->damaged_ok) {
        return set_error(errp, -EFBIG, "snapshot table entry has %u bytes of "
                         "extra data, more than %d", extra, QCOW2_MAX_EXTRA);
    }
    *pos += ENTRY_BYTES;
    sn->extra = g_byte_array_new();
    g_byte_array_set_size(sn->extra, MIN(extra, QCOW2_MAX_EXTRA));
    ret = extra ? read_bytes(r, *pos, sn->extra->len, sn->extra->data) : 0;
    *pos += extra;
    ret = ret < 0 ? ret : load_bytes(r, *pos, id_len, &sn->id);
    *pos += id_len;
    ret = ret < 0 ? ret : load_bytes(r, *pos, name_len, &sn->name);
    *pos += name_len;
    r->s->snaps_clipped += ret == 0 && extra > QCOW2_MAX_EXTRA;
    return ret;
}

/* What the tables take that are as large as the image says. */
static uint64_t tables_cost(const Qcow2State *s)
{
    return s->l1.size * (sizeof(uint64_t) + 2ULL) +
           s->reftable.size * (sizeof(uint64_t) + sizeof(uint32_t) + 2ULL);
}

static uint64_t entry_cost(const Qcow2Snapshot *sn)
{
    return ENTRY_COST + sn->extra->len + g_bytes_get_size(sn->id) +
           g_bytes_get_size(sn->name);
}

int coroutine_fn qcow2_snaptable_load(Qcow2State *s, GError **errp)
{
    uint64_t cost = tables_cost(s);
    uint32_t n = MIN(s->hdr.nb_snapshots, QCOW2_MAX_SNAPSHOTS);
    TableReader r = { .s = s };
    uint64_t pos = 0, end = 0;
    int ret = 0;

    if (!s->hdr.nb_snapshots) {
        return 0;
    }
    r.window = blk_try_memalign(WINDOW);
    if (!r.window) {
        return set_error(errp, -ENOMEM, "no memory for the snapshot table");
    }
    for (uint32_t i = 0; i < n && ret == 0; i++) {
        Qcow2Snapshot *sn = g_new0(Qcow2Snapshot, 1);

        pos = ROUND_UP(pos, 8);
        ret = load_entry(&r, &pos, sn, errp);
        if (ret == 0) {
            g_ptr_array_add(s->snapshots, sn);
            end = pos;
            cost += entry_cost(sn);
        } else {
            qcow2_snapshot_free(sn);
        }
        if (ret == 0 && cost > OPEN_BYTES && !s->damaged_ok) {
            free(r.window);
            return set_error(errp, -EFBIG, "the image's tables would take "
                             "more than %u MiB of memory", OPEN_BYTES >> 20);
        }
    }
    free(r.window);
    s->snaptable_bytes = end;
    s->snaps_cut = s->hdr.nb_snapshots - s->snapshots->len;
    if (ret == -EFBIG && s->damaged_ok) {
        ret = 0;
    }
    return ret < 0 ? set_error(errp, ret, "cannot load the snapshot table: "
                               "%s", g_strerror(-ret)) : 0;
}

/* ---- encoding ---- */

static void append_entry(const Qcow2Snapshot *sn, uint64_t disk_size,
                         GByteArray *buf)
{
    static const uint8_t zero[8];
    uint8_t p[ENTRY_BYTES] = { 0 }, known[EXTRA_BYTES];
    gsize id_len, name_len;
    const void *id = g_bytes_get_data(sn->id, &id_len);
    const void *name = g_bytes_get_data(sn->name, &name_len);
    bool short_extra = sn->extra->len < 16;

    g_byte_array_append(buf, zero, ROUND_UP(buf->len, 8u) - buf->len);
    be64_put(p, sn->l1_table_offset);
    be32_put(p + 8, sn->l1_size);
    be16_put(p + 12, id_len);
    be16_put(p + 14, name_len);
    be32_put(p + 16, sn->date_sec);
    be32_put(p + 20, sn->date_nsec);
    be64_put(p + 24, sn->vm_clock_nsec);
    be32_put(p + 32, sn->vm_state_size32);
    be32_put(p + 36, short_extra ? EXTRA_BYTES : sn->extra->len);
    g_byte_array_append(buf, p, sizeof(p));
    if (short_extra) {
        be64_put(known, qcow2_snapshot_vm_size(sn));
        be64_put(known + 8, qcow2_snapshot_disk_size(sn, disk_size));
        be64_put(known + 16, UINT64_MAX);
        g_byte_array_append(buf, known, sizeof(known));
    } else {
        g_byte_array_append(buf, sn->extra->data, sn->extra->len);
    }
    g_byte_array_append(buf, id_len ? id : zero, id_len);
    g_byte_array_append(buf, name_len ? name : zero, name_len);
}

int qcow2_snaptable_encode(GPtrArray *snapshots, uint64_t disk_size,
                           GByteArray *buf)
{
    for (guint i = 0; i < snapshots->len; i++) {
        append_entry(g_ptr_array_index(snapshots, i), disk_size, buf);
        if (buf->len > QCOW2_MAX_SNAPTABLE) {
            return -EFBIG;
        }
    }
    return 0;
}
