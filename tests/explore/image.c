/* SPDX-License-Identifier: MIT */
/* See image.h. Bytes past the end of the image are zero. */
#include "tests/explore/image.h"

#include <glib.h>
#include <string.h>
#include <zlib.h>

#define HOST_OFFSET 0x00fffffffffffe00ull

static uint64_t be(const Image *m, uint64_t at, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        v = v << 8 | (at + i < m->size ? m->bytes[at + i] : 0);
    }
    return v;
}

Image image_open(const uint8_t *bytes, size_t size)
{
    Image m = { .bytes = bytes, .size = size };

    m.cluster_bits = be(&m, 20, 4);
    m.extended = be(&m, 72, 8) >> 4 & 1;
    m.l2_bits = m.cluster_bits - (m.extended ? 4 : 3);
    m.disk_size = be(&m, 24, 8);
    m.l1_size = be(&m, 36, 4);
    m.l1_offset = be(&m, 40, 8);
    return m;
}

unsigned image_nb_snapshots(const Image *m)
{
    return be(m, 60, 4);
}

bool image_select(Image *m, const char *name)
{
    uint64_t at = be(m, 64, 8);

    for (unsigned i = 0; i < image_nb_snapshots(m); i++) {
        uint64_t extra = be(m, at + 36, 4), id = be(m, at + 12, 2);
        uint64_t len = be(m, at + 14, 2), text = at + 40 + extra + id;

        if (len == strlen(name) && text + len <= m->size &&
            !memcmp(m->bytes + text, name, len)) {
            m->l1_offset = be(m, at, 8);
            m->l1_size = be(m, at + 8, 4);
            m->disk_size = extra >= 16 ? be(m, at + 48, 8) : m->disk_size;
            return true;
        }
        at = (text + len + 7) / 8 * 8;
    }
    return false;
}

uint64_t image_vmstate_offset(const Image *m)
{
    uint64_t coverage = 1ull << (m->cluster_bits + m->l2_bits);

    return (m->disk_size + coverage - 1) / coverage * coverage;
}

static bool read_compressed(const Image *m, uint64_t entry, uint64_t in_cluster,
                            void *buf, size_t bytes)
{
    unsigned x = 70 - m->cluster_bits;
    uint64_t from = entry & ((1ull << x) - 1);
    uint64_t sectors = (entry & ((1ull << 62) - 1)) >> x;
    size_t cluster = (size_t)1 << m->cluster_bits;
    g_autofree uint8_t *out = g_malloc(cluster);
    z_stream z = { 0 };
    int ret;

    if (from >= m->size || inflateInit2(&z, -15) != Z_OK) {
        return false;
    }
    z.next_in = (uint8_t *)m->bytes + from;
    z.avail_in = MIN((sectors + 1) * 512 - from % 512, m->size - from);
    z.next_out = out;
    z.avail_out = cluster;
    ret = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (z.avail_out || (ret != Z_STREAM_END && ret != Z_BUF_ERROR)) {
        return false;
    }
    memcpy(buf, out + in_cluster, bytes);
    return true;
}

bool image_read(const Image *m, uint64_t guest_offset, void *buf,
                size_t bytes)
{
    uint64_t cluster = guest_offset >> m->cluster_bits;
    uint64_t in_cluster = guest_offset & ((1ull << m->cluster_bits) - 1);
    uint64_t l1 = cluster >> m->l2_bits;
    uint64_t l2 = cluster & ((1ull << m->l2_bits) - 1);
    uint64_t table, entry, bitmap = 0, host;
    unsigned sub = in_cluster >> (m->cluster_bits - 5);
    bool zero;

    memset(buf, 0, bytes);
    table = l1 < m->l1_size ? be(m, m->l1_offset + l1 * 8, 8) : 0;
    if (!(table & HOST_OFFSET)) {
        return true;
    }
    table = (table & HOST_OFFSET) + (l2 << (m->extended ? 4 : 3));
    entry = be(m, table, 8);
    if (entry >> 62 & 1) {
        return read_compressed(m, entry, in_cluster, buf, bytes);
    }
    host = entry & HOST_OFFSET;
    if (m->extended) {
        bitmap = be(m, table + 8, 8);
        zero = !(bitmap >> sub & 1);
    } else {
        zero = entry & 1;
    }
    if (zero || !host) {
        return true;
    }
    host += in_cluster;
    if (host < m->size) {
        memcpy(buf, m->bytes + host, MIN(bytes, m->size - host));
    }
    return true;
}
