/* SPDX-License-Identifier: MIT */
/*
 * What the tests of persistent bitmaps share: an image on the fake disk "b",
 * and its bytes read, and forged, without the driver's code.
 */
#ifndef FIRN_TESTS_BITMAP_FIXTURE_H
#define FIRN_TESTS_BITMAP_FIXTURE_H

#include "qcow2_fixture.h"

#include <malloc.h>

#include "block/dirty-bitmap.h"
#include "tests/support/qcow2_checker.h"

#define RW (BDRV_O_RDWR | BDRV_O_UNMAP)

static inline FakeDisk *b_disk(const char *options)
{
    FakeDisk *d = fake_disk_new("b", 0);

    d->sync = true;
    q_create("fake:b", options);
    return d;
}

static inline void b_add(BlockBackend *blk, const char *name,
                         uint64_t granularity, unsigned flags)
{
    GError *error = NULL;

    q_check(blk_bitmap_add(blk, name, granularity,
                           flags | BDRV_BITMAP_PERSISTENT, &error), error);
}

/* The image, opened again with one empty bitmap in it. */
static inline BlockBackend *b_with_one(FakeDisk *d, const char *name,
                                       uint64_t granularity, unsigned flags)
{
    BlockBackend *blk = q_open("fake:b", NULL, RW);

    b_add(blk, name, granularity, flags);
    q_close(blk);
    fake_log_clear(d);
    return q_open("fake:b", NULL, RW);
}

static inline void b_write(BlockBackend *blk, uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, 0x5a, bytes);
    assert_int_equal(blk_pwrite(blk, offset, bytes, buf), 0);
}

/* The program is gone: what it wrote stays. */
static inline void b_kill(FakeDisk *d, BlockBackend *blk)
{
    fake_cut_power_after(d, 0);
    (void)blk_close(blk);
    fake_power_on(d, false);
}

static inline uint64_t b_count(BlockBackend *blk, const char *name)
{
    GError *error = NULL;
    uint64_t bytes = 0;

    q_check(blk_bitmap_count(blk, name, &bytes, &error), error);
    return bytes;
}

/* The next area at or after @from is [@offset, + @bytes). */
static inline void b_expect_next(BlockBackend *blk, const char *name,
                                 uint64_t from, uint64_t offset,
                                 uint64_t bytes)
{
    GError *error = NULL;
    uint64_t o, n;

    q_check(blk_bitmap_next_dirty(blk, name, from, &o, &n, &error), error);
    assert_int_equal(n, bytes);
    if (bytes) {
        assert_int_equal(o, offset);
    }
}

/* That area is all there is. */
static inline void b_expect(BlockBackend *blk, const char *name,
                            uint64_t offset, uint64_t bytes)
{
    b_expect_next(blk, name, 0, offset, bytes);
    b_expect_next(blk, name, offset + bytes, 0, 0);
}

/* The independent checker finds nothing, or leaks at worst. */
static inline void b_check(FakeDisk *d, bool leaks_ok)
{
    g_autofree uint8_t *image = g_malloc(d->size);
    Qcow2CheckResult r;

    fake_disk_peek(d, 0, image, d->size);
    assert_int_equal(qcow2_checker_run(image, d->size, &r), 0);
    if (r.corruptions || (!leaks_ok && (r.leaks || r.copied))) {
        fail_msg("%" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", r.leaks, r.copied, r.corruptions,
                 r.first);
    }
}

/* ---- bytes ---- */

typedef struct Extension {
    uint64_t at;        /* of its data; 0: there is none */
    uint32_t nb;
    uint64_t bytes;     /* of the directory */
    uint64_t offset;
} Extension;

static inline Extension b_extension(FakeDisk *d)
{
    Extension e = { 0 };
    uint8_t p[4096];
    uint64_t pos;

    fake_disk_peek(d, 0, p, sizeof(p));
    pos = be32_get(p + 100);
    while (pos + 32 < sizeof(p) && be32_get(p + pos)) {
        if (be32_get(p + pos) == 0x23852875) {
            e.at = pos + 8;
            e.nb = be32_get(p + e.at);
            e.bytes = be64_get(p + e.at + 8);
            e.offset = be64_get(p + e.at + 16);
        }
        pos += 8 + ROUND_UP(be32_get(p + pos + 4), 8);
    }
    return e;
}

/* Offset of directory entry number @index. */
static inline uint64_t b_entry(FakeDisk *d, unsigned index)
{
    uint64_t at = b_extension(d).offset;
    uint8_t len[2];

    while (index--) {
        fake_disk_peek(d, at + 18, len, 2);
        at += ROUND_UP(24u + be16_get(len), 8);
    }
    return at;
}

static inline uint32_t b_flags(FakeDisk *d, unsigned index)
{
    uint8_t p[4];

    fake_disk_peek(d, b_entry(d, index) + 12, p, 4);
    return be32_get(p);
}

static inline uint64_t b_table(FakeDisk *d, unsigned index)
{
    uint8_t p[8];

    fake_disk_peek(d, b_entry(d, index), p, 8);
    return be64_get(p);
}

/* The first @n entries of the table of bitmap number @index. */
static inline void b_entries(FakeDisk *d, unsigned index, uint64_t *ret,
                             unsigned n)
{
    fake_disk_peek(d, b_table(d, index), ret, n * 8);
    for (unsigned i = 0; i < n; i++) {
        ret[i] = be64_get(&ret[i]);
    }
}

static inline uint64_t b_autoclear(FakeDisk *d)
{
    uint8_t p[8];

    fake_disk_peek(d, 88, p, 8);
    return be64_get(p);
}

static inline void b_poke(FakeDisk *d, uint64_t at, uint64_t value,
                          unsigned bytes)
{
    uint8_t p[8];

    be64_put(p, value);
    fake_disk_poke(d, at, p + 8 - bytes, bytes);
}

static inline void b_set_autoclear(FakeDisk *d, uint64_t bits)
{
    b_poke(d, 88, bits, 8);
}

/*
 * Give an image of 512-byte clusters, without feature names and with room for
 * the extension, @nb bitmaps with names of @len bytes, each with a table of its
 * own, past what is in use. Nothing of it is counted.
 */
static inline void b_forge_many(FakeDisk *d, uint32_t nb, unsigned len)
{
    uint64_t entry = ROUND_UP(24u + len, 8);
    uint64_t dir = 1 << 20, tables = ROUND_UP(dir + nb * entry, 512);
    g_autofree uint8_t *p = g_malloc0(nb * entry);

    for (uint32_t i = 0; i < nb; i++) {
        uint8_t *e = p + i * entry;

        be64_put(e, tables + i * 512ULL);
        be32_put(e + 8, 1);
        e[16] = 1;
        e[17] = 16;
        be16_put(e + 18, len);
        memset(e + 24, 'n', len);
        g_snprintf((char *)e + 24, 9, "%08u", i);
        e[32] = 'n';
    }
    fake_disk_poke(d, dir, p, nb * entry);
    b_poke(d, tables + nb * 512ULL - 8, 0, 8);
    b_poke(d, 112, 0x2385287500000018, 8);
    b_poke(d, 120, (uint64_t)nb << 32, 8);
    b_poke(d, 128, nb * entry, 8);
    b_poke(d, 136, dir, 8);
    b_poke(d, 144, 0, 8);
    b_set_autoclear(d, 1);
}

#endif
