/* SPDX-License-Identifier: MIT */
/*
 * Resizing: contents, preallocation, snapshots, what is refused, and power
 * cuts after each write.
 */
#include "maint_fixture.h"

#include <sys/stat.h>

#define KIB 1024u

static void resize(BlockBackend *blk, uint64_t size, BdrvPrealloc mode)
{
    GError *error = NULL;

    q_check(blk_truncate(blk, size, mode, &error), error);
}

static void test_cut_off_data_reads_as_zeroes_afterwards(void **state)
{
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=4k", "cluster_size=64k",
        "cluster_size=4k,compat=0.10", "cluster_size=1k,refcount_bits=1",
    };
    static const unsigned sizes[] = { 0, 512, 70 * KIB + 512, 400 * KIB };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(sizes); k++) {
            g_autofree char *path = test_path("r.qcow2");
            g_autofree char *create = g_strdup_printf("size=1M,%s",
                                                      options[i]);
            BlockBackend *blk;

            q_create(path, create);
            blk = q_open(path, "", BDRV_O_RDWR);
            maint_put(blk, 0, 1024 * KIB, 'a');
            resize(blk, sizes[k], BDRV_PREALLOC_OFF);
            assert_int_equal(blk_getlength(blk), sizes[k]);
            q_close(blk);
            q_qemu_check(path);
            blk = q_open(path, "", BDRV_O_RDWR);
            assert_true(maint_is(blk, 0, sizes[k], 'a'));
            resize(blk, 1024 * KIB, BDRV_PREALLOC_OFF);
            assert_true(maint_is(blk, 0, sizes[k], 'a'));
            assert_true(maint_is(blk, sizes[k], 1024 * KIB, 0));
            q_close(blk);
            q_qemu_check(path);
        }
    }
}

static void test_file_gets_shorter(void **state)
{
    g_autofree char *path = test_path("r.qcow2");
    BlockBackend *blk;
    struct stat st;

    q_create(path, "size=32M,cluster_size=4k");
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 32 * KIB * KIB, 'a');
    resize(blk, 64 * KIB, BDRV_PREALLOC_OFF);
    q_close(blk);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 512 * KIB);
    q_qemu_check(path);
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 64 * KIB, 'b');
    resize(blk, 8192 * KIB, BDRV_PREALLOC_OFF);
    maint_put(blk, 64 * KIB, 8192 * KIB, 'c');
    assert_true(maint_is(blk, 0, 64 * KIB, 'b'));
    q_close(blk);
    q_qemu_check(path);
}

static void test_new_area_is_preallocated(void **state)
{
    static const BdrvPrealloc modes[] = {
        BDRV_PREALLOC_METADATA, BDRV_PREALLOC_FALLOC, BDRV_PREALLOC_FULL,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = test_path("r.qcow2");
        BlockBackend *blk;
        struct stat st;
        uint64_t n;

        q_create(path, "size=100k,cluster_size=4k");
        blk = q_open(path, "", BDRV_O_RDWR);
        maint_put(blk, 0, 100 * KIB, 'a');
        /* Freed clusters with old bytes in them will be used again. */
        q_check(blk_pdiscard(blk, 20 * KIB, 60 * KIB), NULL);
        q_check(blk_pwrite_zeroes(blk, 20 * KIB, 60 * KIB,
                                  BDRV_REQ_MAY_UNMAP), NULL);
        q_check(blk_flush(blk), NULL);
        resize(blk, 4096 * KIB, modes[i]);
        assert_true(maint_is(blk, 80 * KIB, 100 * KIB, 'a'));
        assert_true(maint_is(blk, 100 * KIB, 4096 * KIB, 0));
        assert_true(blk_block_status(blk, 100 * KIB, 3996 * KIB, &n, NULL) &
                    BDRV_BLOCK_OFFSET_VALID);
        q_close(blk);
        q_qemu_check(path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_blocks * 512 > 3900 * KIB, i > 0);
    }
}

static void test_growing_over_a_longer_backing_file_shows_zeroes(void **state)
{
    for (int mode = BDRV_PREALLOC_OFF; mode <= BDRV_PREALLOC_METADATA;
         mode++) {
        g_autofree char *base = test_path("base.raw");
        g_autofree char *path = test_path("r.qcow2");
        g_autofree char *bytes = g_strnfill(300 * KIB, 'b');
        BlockBackend *blk;

        assert_true(g_file_set_contents(base, bytes, 300 * KIB, NULL));
        q_create(path, "size=200k,cluster_size=4k,backing_file=base.raw,"
                 "backing_fmt=raw");
        blk = q_open(path, "", BDRV_O_RDWR);
        maint_put(blk, 0, 200 * KIB, 'a');
        resize(blk, 50 * KIB, BDRV_PREALLOC_OFF);
        resize(blk, 280 * KIB, (BdrvPrealloc)mode);
        assert_true(maint_is(blk, 0, 50 * KIB, 'a'));
        assert_true(maint_is(blk, 50 * KIB, 280 * KIB, 0));
        q_close(blk);
        q_qemu_check(path);
    }
}

/* The disk ends inside a cluster that it does not have itself. */
static void test_growing_hides_the_backing_file_behind_the_old_end(
    void **state)
{
    for (int mode = BDRV_PREALLOC_OFF; mode <= BDRV_PREALLOC_METADATA;
         mode++) {
        g_autofree char *base = test_path("base.raw");
        g_autofree char *path = test_path("r.qcow2");
        g_autofree char *bytes = g_strnfill(300 * KIB, 'b');
        BlockBackend *blk;

        assert_true(g_file_set_contents(base, bytes, 300 * KIB, NULL));
        q_create(path, "size=50k,cluster_size=4k,backing_file=base.raw,"
                 "backing_fmt=raw");
        blk = q_open(path, "", BDRV_O_RDWR);
        resize(blk, 280 * KIB, (BdrvPrealloc)mode);
        assert_true(maint_is(blk, 0, 50 * KIB, 'b'));
        assert_true(maint_is(blk, 50 * KIB, 280 * KIB, 0));
        q_close(blk);
        q_qemu_check(path);
    }
}

static void test_snapshots_keep_what_is_cut_off(void **state)
{
    g_autofree char *path = test_path("r.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=4k");
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 1024 * KIB, 'a');
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    resize(blk, 100 * KIB, BDRV_PREALLOC_OFF);
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 100 * KIB, 'b');
    resize(blk, 2048 * KIB, BDRV_PREALLOC_OFF);
    assert_true(maint_is(blk, 100 * KIB, 2048 * KIB, 0));
    assert_int_equal(q_snap_goto(blk, "s"), 0);
    assert_int_equal(blk_getlength(blk), 1024 * KIB);
    assert_true(maint_is(blk, 0, 1024 * KIB, 'a'));
    q_close(blk);
    q_qemu_check(path);
}

static void test_impossible_sizes_are_refused(void **state)
{
    g_autofree char *path = test_path("r.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=512");
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_int_equal(blk_truncate(blk, 1000, BDRV_PREALLOC_OFF, NULL),
                     -EINVAL);
    assert_int_equal(blk_truncate(blk, 200ull << 30, BDRV_PREALLOC_OFF,
                                  NULL), -EFBIG);
    q_close(blk);
    q_create(path, "size=1M,compat=0.10");
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_truncate(blk, 512, BDRV_PREALLOC_OFF, NULL),
                     -ENOTSUP);
    assert_int_equal(blk_getlength(blk), 1 << 20);
    q_close(blk);
}

/* ---- power cuts ---- */

typedef struct Cut {
    uint64_t from, to;
    BdrvPrealloc mode;
} Cut;

static int run_resize(BlockBackend *blk, void *opaque)
{
    const Cut *c = opaque;

    return blk_truncate(blk, c->to, c->mode, NULL);
}

/* The kept part is there; the rest is old or, from the back, zeroes. */
static void look_resized(BlockBackend *blk, int ret, void *opaque)
{
    const Cut *c = opaque;
    uint64_t size = blk_getlength(blk), keep = MIN(c->from, c->to);

    assert_true(size == c->to || (ret < 0 && size == c->from));
    assert_true(maint_is(blk, 0, keep, 'a'));
    if (c->to > c->from && size > keep) {
        assert_true(maint_is(blk, keep, size, 0));
    }
    for (uint64_t at = keep; at < size; at += 512) {
        assert_true(maint_is(blk, at, at + 512, 'a') ||
                    maint_is(blk, at, at + 512, 0));
    }
}

static void cut_resize(const char *create, Cut c, bool snapshot)
{
    FakeDisk *d = fake_disk_new("r", 0);
    const MaintCase m = {
        .disk = "r", .filename = "fake:r", .open = "", .flags = BDRV_O_RDWR,
        .run = run_resize, .look = look_resized, .opaque = &c,
    };
    BlockBackend *blk;

    d->sync = true;
    q_create("fake:r", create);
    blk = q_open("fake:r", "", BDRV_O_RDWR);
    if (snapshot) {
        maint_put(blk, 0, c.from / 2, 's');
        assert_int_equal(q_snap_create(blk, "s", 0), 0);
    }
    maint_put(blk, 0, c.from, 'a');
    q_close(blk);
    assert_true(maint_cut_everywhere(&m) > 1);
    maint_fail_everywhere(&m);
    fake_disk_free(d);
}

static void test_cuts_while_shrinking_leave_leaks_at_worst(void **state)
{
    cut_resize("size=128k,cluster_size=512",
               (Cut) { 128 * KIB, 20 * KIB, BDRV_PREALLOC_OFF }, false);
    cut_resize("size=96k,cluster_size=1k",
               (Cut) { 96 * KIB, 10 * KIB + 512, BDRV_PREALLOC_OFF }, true);
}

static void test_cuts_while_growing_leave_leaks_at_worst(void **state)
{
    cut_resize("size=20k,cluster_size=512",
               (Cut) { 20 * KIB, 90 * KIB, BDRV_PREALLOC_METADATA }, false);
    cut_resize("size=10752,cluster_size=1k",
               (Cut) { 10 * KIB + 512, 96 * KIB, BDRV_PREALLOC_FULL }, true);
}

#define R_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    R_TEST(test_cut_off_data_reads_as_zeroes_afterwards),
    R_TEST(test_file_gets_shorter),
    R_TEST(test_new_area_is_preallocated),
    R_TEST(test_growing_over_a_longer_backing_file_shows_zeroes),
    R_TEST(test_growing_hides_the_backing_file_behind_the_old_end),
    R_TEST(test_snapshots_keep_what_is_cut_off),
    R_TEST(test_impossible_sizes_are_refused),
    R_TEST(test_cuts_while_shrinking_leave_leaks_at_worst),
    R_TEST(test_cuts_while_growing_leave_leaks_at_worst),
};

FIRN_TEST_MAIN(tests)
