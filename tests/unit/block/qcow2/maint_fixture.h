/* SPDX-License-Identifier: MIT */
/*
 * Power cuts and failing requests under one operation on an image that was
 * prepared before. For every n the operation runs on a copy of the prepared
 * disk and power goes before its n-th request; what was not flushed is kept,
 * lost or torn at random. Then the independent checker looks at the image
 * (leaks at worst) and the test looks at its contents.
 */
#ifndef FIRN_TESTS_MAINT_FIXTURE_H
#define FIRN_TESTS_MAINT_FIXTURE_H

#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

typedef struct MaintCase {
    const char *disk;           /* name of the fake disk that is cut */
    const char *filename;       /* what is opened, "fake:..." */
    const char *open;
    unsigned flags;
    /* The operation; 0 or -errno. */
    int (*run)(BlockBackend *blk, void *opaque);
    /* Contents: @ret is what run returned, 0 if it was not cut. */
    void (*look)(BlockBackend *blk, int ret, void *opaque);
    void *opaque;
} MaintCase;

static inline void maint_check(FakeDisk *d, bool leaks_ok, const char *where)
{
    g_autofree uint8_t *image = g_malloc(d->size + 1);
    Qcow2CheckResult r;

    fake_disk_peek(d, 0, image, d->size);
    assert_int_equal(qcow2_checker_run(image, d->size, &r), 0);
    if (r.corruptions || (!leaks_ok && (r.leaks || r.copied))) {
        fail_msg("%s: %" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", where, r.leaks, r.copied, r.corruptions,
                 r.first);
    }
}

static inline void maint_look(const MaintCase *c, FakeDisk *d, int ret,
                              bool leaks_ok, const char *where)
{
    BlockBackend *blk;

    maint_check(d, leaks_ok, where);
    blk = q_open(c->filename, c->open, c->flags);
    c->look(blk, ret, c->opaque);
    q_close(blk);
    maint_check(d, leaks_ok, where);
}

/* Cut power before each request of the operation, flushes too; returns how
 * many there are. */
static inline unsigned maint_cut_everywhere(const MaintCase *c)
{
    FakeDisk *d = fake_disk_find(c->disk);
    g_autofree char *base = test_path("maint.base");

    assert_int_equal(fake_disk_save(d, base), 0);
    for (unsigned n = 1;; n++) {
        for (unsigned mode = 0; mode < 4; mode++) {
            g_autoptr(GRand) rand = g_rand_new_with_seed(n * 4 + mode);
            g_autofree char *where = g_strdup_printf("cut at %u, mode %u", n,
                                                     mode);
            BlockBackend *blk;
            bool whole;
            int ret;

            fake_log_clear(d);
            assert_int_equal(fake_disk_load(d, base), 0);
            blk = q_open(c->filename, c->open, c->flags);
            fake_fail_nth(d, FAKE_ANY, n, EIO, true);
            ret = c->run(blk, c->opaque);
            whole = d->fail_in > 1; /* it never came to that */
            if (whole) {
                fake_fail_nth(d, FAKE_ANY, 0, 0, false);
            }
            (void)blk_close(blk);
            fake_fail_nth(d, FAKE_ANY, 0, 0, false);
            if (whole) {
                assert_int_equal(ret, 0);
                maint_look(c, d, 0, false, "whole");
                return n;
            }
            if (mode < 2) {
                fake_power_on(d, mode);
            } else {
                fake_crash(d, rand);
            }
            maint_look(c, d, ret, true, where);
        }
        assert_true(n < 5000);
    }
}

/* Let each request of the operation fail once; go on with the same node. */
static inline void maint_fail_everywhere(const MaintCase *c)
{
    FakeDisk *d = fake_disk_find(c->disk);
    g_autofree char *base = test_path("maint.base");

    assert_int_equal(fake_disk_save(d, base), 0);
    for (unsigned n = 1;; n++) {
        g_autofree char *where = g_strdup_printf("request %u fails", n);
        BlockBackend *blk;
        bool done;
        int ret;

        fake_log_clear(d);
        assert_int_equal(fake_disk_load(d, base), 0);
        blk = q_open(c->filename, c->open, c->flags);
        fake_fail_nth(d, FAKE_ANY, n, EIO, false);
        ret = c->run(blk, c->opaque);
        done = d->fail_in != 0;
        fake_fail_nth(d, FAKE_ANY, 0, 0, false);
        if (!q_state(blk)->corrupt) {
            c->look(blk, ret, c->opaque);
        }
        (void)blk_close(blk);
        maint_look(c, d, ret, !done, where);
        if (done) {
            assert_int_equal(ret, 0);
            return;
        }
        assert_true(n < 5000);
    }
}

/* Whole disk holds @byte in [@from, @to). */
static inline bool maint_is(BlockBackend *blk, uint64_t from, uint64_t to,
                            uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(to - from + 1);

    q_check(blk_pread(blk, from, to - from, buf), NULL);
    for (uint64_t i = 0; i < to - from; i++) {
        if (buf[i] != byte) {
            return false;
        }
    }
    return true;
}

static inline void maint_put(BlockBackend *blk, uint64_t from, uint64_t to,
                             uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(to - from);

    memset(buf, byte, to - from);
    q_check(blk_pwrite(blk, from, to - from, buf), NULL);
}

#endif
