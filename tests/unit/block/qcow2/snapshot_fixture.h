/* SPDX-License-Identifier: MIT */
/*
 * What the tests of snapshots share: an image on a fake disk, filled and looked
 * at by patterns, checked by the independent checker.
 */
#ifndef FIRN_TESTS_QCOW2_SNAPSHOT_FIXTURE_H
#define FIRN_TESTS_QCOW2_SNAPSHOT_FIXTURE_H

#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

#define CS 4096u

typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
} Fixture;

static inline int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    alarm(30);
    f->disk = fake_disk_new("q", 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    Fixture *f = *state;

    fake_release_all(f->disk);
    if (f->blk) {
        q_close(f->blk);
    }
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

static inline void open_image(Fixture *f, const char *create,
                              const char *options)
{
    q_create("fake:q", create);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static inline void reopen(Fixture *f, const char *options, unsigned flags)
{
    q_close(f->blk);
    f->blk = q_open("fake:q", options, flags);
}

static inline void fill(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    assert_int_equal(blk_pwrite(f->blk, offset, bytes, buf), 0);
}

static inline void expect(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(f->blk, offset, bytes, buf), 0);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], value);
    }
}

/* The image on disk: no leaks, no wrong flags. */
static inline void expect_clean(Fixture *f)
{
    g_autofree uint8_t *image = NULL;
    Qcow2CheckResult r;

    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_flush(f->blk), 0); /* what the first one freed */
    image = g_malloc(f->disk->size);
    fake_disk_peek(f->disk, 0, image, f->disk->size);
    assert_int_equal(qcow2_checker_run(image, f->disk->size, &r), 0);
    if (r.corruptions || r.leaks || r.copied) {
        fail_msg("%" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", r.leaks, r.copied, r.corruptions,
                 r.first);
    }
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
