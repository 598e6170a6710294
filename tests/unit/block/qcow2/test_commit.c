/* SPDX-License-Identifier: MIT */
/*
 * Commit, make empty, and changing the backing file; with power cuts.
 */
#include "maint_fixture.h"

#include <sys/stat.h>

#define KIB 1024u

static void make_chain(const char *base_options, const char *top_options)
{
    BlockBackend *blk;

    q_create("fake:base", base_options);
    blk = q_open("fake:base", "", BDRV_O_RDWR);
    maint_put(blk, 0, blk_getlength(blk), 'b');
    q_close(blk);
    q_create("fake:top", top_options);
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 3 * KIB + 100, 9 * KIB, 't');
    q_check(blk_pwrite_zeroes(blk, 16 * KIB, 8 * KIB, 0), NULL);
    maint_put(blk, 40 * KIB, 41 * KIB, 'u');
    q_close(blk);
}

/* What the chain shows, whoever holds it. */
static void look(BlockBackend *blk, int ret, void *opaque)
{
    assert_true(maint_is(blk, 0, 3 * KIB + 100, 'b'));
    assert_true(maint_is(blk, 3 * KIB + 100, 9 * KIB, 't'));
    assert_true(maint_is(blk, 12 * KIB + 100, 16 * KIB, 'b'));
    assert_true(maint_is(blk, 16 * KIB, 24 * KIB, 0));
    assert_true(maint_is(blk, 24 * KIB, 40 * KIB, 'b'));
    assert_true(maint_is(blk, 40 * KIB, 41 * KIB, 'u'));
    if (blk_getlength(blk) > 48 * KIB) {
        assert_true(maint_is(blk, 48 * KIB, blk_getlength(blk), 0));
    }
}

static bool has_own_data(BlockBackend *blk)
{
    return q_state(blk)->l1.size && q_state(blk)->l1.entries[0];
}

static void test_base_gets_data_and_zeroes_and_top_is_empty(void **state)
{
    FakeDisk *base = fake_disk_new("base", 0), *top = fake_disk_new("top", 0);
    BlockBackend *blk;
    GError *error = NULL;

    make_chain("size=48k,cluster_size=512", "size=64k,cluster_size=1k,"
               "backing_file=fake:base,backing_fmt=qcow2");
    blk = q_open("fake:top", "", BDRV_O_RDWR | BDRV_O_BACKING_RDWR);
    q_check(blk_commit(blk, NULL, &error), error);
    assert_false(has_own_data(blk));
    look(blk, 0, NULL);
    q_close(blk);
    assert_true(top->size < 6 * KIB);
    maint_check(top, false, "top");
    maint_check(base, false, "base");
    blk = q_open("fake:base", "", 0);
    assert_int_equal(blk_getlength(blk), 64 * KIB); /* it has grown */
    look(blk, 0, NULL);
    q_close(blk);
    fake_disk_free(base);
    fake_disk_free(top);
}

static void test_only_what_the_top_holds_is_written(void **state)
{
    FakeDisk *base = fake_disk_new("base", 0), *top = fake_disk_new("top", 0);
    const BlkCommitOptions keep = { .workers = 1 };
    BlockBackend *blk;
    GError *error = NULL;
    uint64_t bytes = 0;

    assert_int_equal(blk_create(test_ctx, "raw", "fake:base",
                                q_options("size=1M"), NULL), 0);
    q_create("fake:top", "size=1M,cluster_size=4k,backing_file=fake:base,"
             "backing_fmt=raw");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 100 * KIB, 108 * KIB, 'x');
    q_close(blk);
    blk = q_open("fake:top", "", BDRV_O_RDWR | BDRV_O_BACKING_RDWR);
    fake_log_clear(base);
    q_check(blk_commit(blk, &keep, &error), error);
    assert_true(has_own_data(blk));
    for (guint i = 0; i < base->log->len; i++) {
        const FakeRequest *r = fake_request(base, i);

        bytes += r->type == FAKE_WRITE ? r->bytes : 0;
    }
    assert_int_equal(bytes, 8 * KIB);
    q_close(blk);
    fake_disk_free(base);
    fake_disk_free(top);
}

static void test_workers_are_bounded(void **state)
{
    FakeDisk *base = fake_disk_new("base", 0), *top = fake_disk_new("top", 0);
    const BlkCommitOptions o = { .workers = 3 };
    BlockBackend *blk;
    GError *error = NULL;

    assert_int_equal(blk_create(test_ctx, "raw", "fake:base",
                                q_options("size=16M"), NULL), 0);
    q_create("fake:top", "size=16M,backing_file=fake:base,backing_fmt=raw");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 0, 16 * KIB * KIB, 'x');
    q_close(blk);
    blk = q_open("fake:top", "", BDRV_O_RDWR | BDRV_O_BACKING_RDWR);
    base->max_in_flight = 0;
    q_check(blk_commit(blk, &o, &error), error);
    assert_true(base->max_in_flight <= 3);
    q_close(blk);
    fake_disk_free(base);
    fake_disk_free(top);
}

static void test_what_cannot_be_committed_is_refused(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *path = test_path("top.qcow2");
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, "x", 1, NULL));
    q_create(path, "size=1M");
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_int_equal(blk_commit(blk, NULL, NULL), -ENOTSUP);
    q_close(blk);
    q_create(path, "size=1M,backing_file=base.raw,backing_fmt=raw");
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_int_equal(blk_commit(blk, NULL, NULL), -EROFS);
    q_close(blk);
}

/* ---- power cuts ---- */

static int run_commit(BlockBackend *blk, void *opaque)
{
    return blk_commit(blk, NULL, NULL);
}

static void cut_commit(const char *which, bool snapshot)
{
    FakeDisk *base = fake_disk_new("base", 0), *top = fake_disk_new("top", 0);
    const MaintCase m = {
        .disk = which, .filename = "fake:top", .open = "",
        .flags = BDRV_O_RDWR | BDRV_O_BACKING_RDWR,
        .run = run_commit, .look = look,
    };

    base->sync = top->sync = true;
    make_chain("size=48k,cluster_size=512,refcount_bits=1",
               "size=64k,cluster_size=1k,backing_file=fake:base,"
               "backing_fmt=qcow2");
    if (snapshot) {
        BlockBackend *blk = q_open("fake:top", "", BDRV_O_RDWR);

        assert_int_equal(q_snap_create(blk, "s", 0), 0);
        maint_put(blk, 40 * KIB, 41 * KIB, 'u');
        q_close(blk);
    }
    assert_true(maint_cut_everywhere(&m) > 1);
    maint_fail_everywhere(&m);
    fake_disk_free(base);
    fake_disk_free(top);
}

static void test_cuts_of_the_top_lose_nothing(void **state)
{
    cut_commit("top", false);
    cut_commit("top", true);
}

static void test_cuts_of_the_base_lose_nothing(void **state)
{
    /* The base comes back as it was, or further; the top is whole. A top
     * that was emptied is another case: the base was durable by then. */
    FakeDisk *base = fake_disk_new("base", 0), *top = fake_disk_new("top", 0);
    g_autofree char *base_file = test_path("base.bin");
    g_autofree char *top_file = test_path("top.bin");
    int ret = -EIO;

    base->sync = top->sync = true;
    make_chain("size=48k,cluster_size=512",
               "size=64k,cluster_size=1k,backing_file=fake:base,"
               "backing_fmt=qcow2");
    assert_int_equal(fake_disk_save(base, base_file), 0);
    assert_int_equal(fake_disk_save(top, top_file), 0);
    for (unsigned n = 0; ret < 0; n++) {
        for (unsigned mode = 0; mode < 3; mode++) {
            g_autoptr(GRand) rand = g_rand_new_with_seed(n);
            BlockBackend *blk;

            assert_int_equal(fake_disk_load(base, base_file), 0);
            assert_int_equal(fake_disk_load(top, top_file), 0);
            blk = q_open("fake:top", "", BDRV_O_RDWR | BDRV_O_BACKING_RDWR);
            fake_cut_power_after(base, n);
            ret = blk_commit(blk, NULL, NULL);
            (void)blk_close(blk);
            if (mode < 2) {
                fake_power_on(base, mode);
            } else {
                fake_crash(base, rand);
            }
            maint_check(base, true, "base");
            blk = q_open("fake:top", "", BDRV_O_RDWR);
            look(blk, ret, NULL);
            q_close(blk);
        }
    }
    fake_disk_free(base);
    fake_disk_free(top);
}

/* ---- across several files ---- */

/*
 * base 48 KiB 'b' | mid 20 KiB: 'm' in [4, 6) | top 64 KiB: 't' in [8, 9)
 * The disk has zeroes behind 20 KiB, where mid hides the base.
 */
static void make_long_chain(void)
{
    BlockBackend *blk;

    q_create("fake:base", "size=48k,cluster_size=512");
    blk = q_open("fake:base", "", BDRV_O_RDWR);
    maint_put(blk, 0, 48 * KIB, 'b');
    q_close(blk);
    q_create("fake:mid", "size=20k,cluster_size=1k,backing_file=fake:base,"
             "backing_fmt=qcow2");
    blk = q_open("fake:mid", "", BDRV_O_RDWR);
    maint_put(blk, 4 * KIB, 6 * KIB, 'm');
    q_close(blk);
    q_create("fake:top", "size=64k,cluster_size=1k,backing_file=fake:mid,"
             "backing_fmt=qcow2");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 8 * KIB, 9 * KIB, 't');
    q_close(blk);
}

static void look_long(BlockBackend *blk)
{
    assert_int_equal(blk_getlength(blk), 64 * KIB);
    assert_true(maint_is(blk, 0, 4 * KIB, 'b'));
    assert_true(maint_is(blk, 4 * KIB, 6 * KIB, 'm'));
    assert_true(maint_is(blk, 6 * KIB, 8 * KIB, 'b'));
    assert_true(maint_is(blk, 8 * KIB, 9 * KIB, 't'));
    assert_true(maint_is(blk, 9 * KIB, 20 * KIB, 'b'));
    assert_true(maint_is(blk, 20 * KIB, 64 * KIB, 0));
}

static int commit_across(void)
{
    BlkCommitOptions o = { 0 };
    BlockBackend *blk;
    int ret;

    o.base = q_open("fake:base", "", BDRV_O_RDWR);
    blk = q_open("fake:top", "backing.backing=null", BDRV_O_RDWR);
    ret = blk_commit(blk, &o, NULL);
    q_close(blk);
    (void)blk_close(o.base);
    return ret;
}

static void test_what_all_files_above_the_base_hold_goes_into_it(void **state)
{
    FakeDisk *disks[] = { fake_disk_new("base", 0), fake_disk_new("mid", 0),
                          fake_disk_new("top", 0) };
    g_autofree char *base_file = test_path("base.bin");
    BlockBackend *blk;
    int ret = -EIO;

    disks[0]->sync = true;
    make_long_chain();
    assert_int_equal(fake_disk_save(disks[0], base_file), 0);
    for (unsigned n = 0; ret < 0; n++) {
        assert_int_equal(fake_disk_load(disks[0], base_file), 0);
        fake_cut_power_after(disks[0], n);
        ret = commit_across();
        fake_power_on(disks[0], n % 2);
        maint_check(disks[0], true, "base");
        blk = q_open("fake:top", "", BDRV_O_RDWR);
        look_long(blk); /* the top reads as before, wherever it stops */
        q_close(blk);
    }
    blk = q_open("fake:base", "", 0);
    look_long(blk);
    q_close(blk);
    for (size_t i = 0; i < G_N_ELEMENTS(disks); i++) {
        fake_disk_free(disks[i]);
    }
}

/* ---- make empty ---- */

static int run_empty(BlockBackend *blk, void *opaque)
{
    return blk_make_empty(blk, NULL);
}

/* All of it, or nothing and zeroes. */
static void look_emptied(BlockBackend *blk, int ret, void *opaque)
{
    uint64_t size = blk_getlength(blk);

    assert_int_equal(size, *(uint64_t *)opaque);
    assert_true(maint_is(blk, 0, size, 0) ||
                (ret < 0 && maint_is(blk, 0, size, 'e')));
    maint_put(blk, size / 2, size / 2 + 512, 'n');
    assert_true(maint_is(blk, size / 2, size / 2 + 512, 'n'));
    q_check(blk_pwrite_zeroes(blk, size / 2, 512, 0), NULL);
}

static void test_cuts_leave_the_image_full_or_empty(void **state)
{
    static const struct {
        const char *options;
        uint64_t size;
    } images[] = {
        { "size=64k,cluster_size=512", 64 * KIB },
        { "size=300k,cluster_size=512,refcount_bits=64", 300 * KIB },
        { "size=256k,cluster_size=4k,compat=0.10", 256 * KIB },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        FakeDisk *d = fake_disk_new("e", 0);
        uint64_t size = images[i].size;
        const MaintCase m = {
            .disk = "e", .filename = "fake:e", .open = "",
            .flags = BDRV_O_RDWR, .run = run_empty, .look = look_emptied,
            .opaque = &size,
        };
        BlockBackend *blk;

        d->sync = true;
        q_create("fake:e", images[i].options);
        blk = q_open("fake:e", "", BDRV_O_RDWR);
        maint_put(blk, 0, size, 'e');
        q_close(blk);
        assert_true(maint_cut_everywhere(&m) > 1);
        fake_disk_free(d);
    }
}

static void test_emptying_takes_as_long_for_any_contents(void **state)
{
    unsigned writes[2];

    for (int full = 0; full < 2; full++) {
        FakeDisk *d = fake_disk_new("e", 0);
        BlockBackend *blk;
        GError *error = NULL;

        q_create("fake:e", "size=16M,cluster_size=4k");
        blk = q_open("fake:e", "", BDRV_O_RDWR);
        maint_put(blk, 0, full ? 16 * KIB * KIB : 512, 'e');
        q_check(blk_flush(blk), NULL);
        fake_log_clear(d);
        q_check(blk_make_empty(blk, &error), error);
        writes[full] = fake_count(d, FAKE_WRITE | FAKE_ZERO);
        assert_true(maint_is(blk, 0, 16 * KIB * KIB, 0));
        maint_put(blk, 1000, 70 * KIB, 'n');
        q_close(blk);
        maint_check(d, false, "emptied and used");
        assert_true(d->size < 200 * KIB);
        fake_disk_free(d);
    }
    assert_in_range(writes[1], 1, writes[0] + 4);
}

/* ---- backing file ---- */

static void test_backing_file_can_be_changed_and_dropped(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *other = test_path("other.raw");
    g_autofree char *path = test_path("top.qcow2");
    g_autofree char *bytes = g_strnfill(64 * KIB, 'b');
    g_autofree char *long_name = g_strnfill(1100, 'n');
    BlockBackend *blk;
    GError *error = NULL;

    assert_true(g_file_set_contents(base, bytes, 64 * KIB, NULL));
    memset(bytes, 'o', 64 * KIB);
    assert_true(g_file_set_contents(other, bytes, 64 * KIB, NULL));
    q_create(path, "size=64k,backing_file=base.raw,backing_fmt=raw");
    blk = q_open(path, "", BDRV_O_RDWR);
    q_check(blk_change_backing_file(blk, "other.raw", "raw", &error), error);
    assert_true(maint_is(blk, 0, 64 * KIB, 'b')); /* the open one stays */
    assert_int_equal(blk_change_backing_file(blk, long_name, "raw", NULL),
                     -EINVAL);
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_true(maint_is(blk, 0, 64 * KIB, 'o'));
    q_check(blk_change_backing_file(blk, NULL, NULL, &error), error);
    q_close(blk);
    blk = q_open(path, "", 0);
    assert_true(maint_is(blk, 0, 64 * KIB, 0));
    q_close(blk);
    q_qemu_check(path);
}

#define C_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    C_TEST(test_base_gets_data_and_zeroes_and_top_is_empty),
    C_TEST(test_only_what_the_top_holds_is_written),
    C_TEST(test_workers_are_bounded),
    C_TEST(test_what_cannot_be_committed_is_refused),
    C_TEST(test_cuts_of_the_top_lose_nothing),
    C_TEST(test_cuts_of_the_base_lose_nothing),
    C_TEST(test_what_all_files_above_the_base_hold_goes_into_it),
    C_TEST(test_cuts_leave_the_image_full_or_empty),
    C_TEST(test_emptying_takes_as_long_for_any_contents),
    C_TEST(test_backing_file_can_be_changed_and_dropped),
};

FIRN_TEST_MAIN(tests)
