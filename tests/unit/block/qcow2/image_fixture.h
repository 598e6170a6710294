/* SPDX-License-Identifier: MIT */
/*
 * What tests of one image on a fake disk share: patterns through the node,
 * big-endian words on the disk, the independent checker, and power cuts after
 * a number of requests.
 */
#ifndef FIRN_TESTS_QCOW2_IMAGE_FIXTURE_H
#define FIRN_TESTS_QCOW2_IMAGE_FIXTURE_H

#include "qcow2_fixture.h"

/* ---- through the node ---- */

static inline void put(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                       int c)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, c, bytes);
    assert_int_equal(blk_pwrite(blk, offset, bytes, buf), 0);
}

/* Each byte of @buf is @c; it was read from @offset. */
static inline void all_are(const uint8_t *buf, uint64_t offset,
                           uint64_t bytes, int c)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (buf[i] != c) {
            fail_msg("byte %" PRIu64 " is %#x, not %#x", offset + i, buf[i],
                     c);
        }
    }
}

static inline void expect(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                          int c)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(blk, offset, bytes, buf), 0);
    all_are(buf, offset, bytes, c);
}

/* ---- on the disk ---- */

static inline uint64_t peek(FakeDisk *d, uint64_t offset)
{
    uint8_t p[8];

    fake_disk_peek(d, offset, p, sizeof(p));
    return be64_get(p);
}

static inline void poke(FakeDisk *d, uint64_t offset, uint64_t value)
{
    uint8_t p[8];

    be64_put(p, value);
    fake_disk_poke(d, offset, p, sizeof(p));
}

/* ---- power cuts ---- */

/* What the disk kept of the writes since the last flush. */
enum { KEPT, LOST, RANDOM, MODES = RANDOM + 6 };

#define CHANGES (FAKE_WRITE | FAKE_ZERO | FAKE_FLUSH)

/* Nothing succeeds any more after @n writes and flushes. */
static inline void cut_power_after(FakeDisk *d, uint64_t n)
{
    fake_log_clear(d);
    fake_fail_nth(d, CHANGES, n + 1, EIO, true);
}

/* Returns whether it was cut at all. */
static inline bool power_on(FakeDisk *d, uint64_t n, int mode)
{
    bool was_cut = fake_count(d, CHANGES) > n;

    fake_fail_nth(d, CHANGES, 0, EIO, false);
    if (mode < RANDOM) {
        fake_power_on(d, mode == LOST);
    } else {
        GRand *rand = g_rand_new_with_seed(n * MODES + mode);

        fake_crash(d, rand);
        g_rand_free(rand);
    }
    return was_cut;
}

#endif
