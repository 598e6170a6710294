/* SPDX-License-Identifier: MIT */
/*
 * Amend: versions both ways, refcount widths, flags, names, what is refused,
 * and power cuts before each request.
 */
#include "maint_fixture.h"

#define KIB 1024u

static void amend(BlockBackend *blk, const char *options)
{
    GError *error = NULL;

    q_check(blk_amend(blk, q_options(options), false, NULL, NULL, &error),
            error);
}

static void amend_fails(BlockBackend *blk, const char *options, int err,
                        const char *text)
{
    g_autoptr(GError) error = NULL;
    int ret = blk_amend(blk, q_options(options), false, NULL, NULL, &error);

    if (ret != err || !error || !strstr(error->message, text)) {
        fail_msg("%s: %d, %s", options, ret,
                 error ? error->message : "(none)");
    }
}

/* 200 KiB: data, zeroes with and without clusters, nothing. */
static void fill(BlockBackend *blk)
{
    maint_put(blk, 0, 100 * KIB, 'a');
    q_check(blk_pwrite_zeroes(blk, 20 * KIB, 20 * KIB, 0), NULL);
    q_check(blk_pwrite_zeroes(blk, 60 * KIB, 12 * KIB, BDRV_REQ_MAY_UNMAP),
            NULL);
    q_check(blk_pwrite_zeroes(blk, 120 * KIB, 8 * KIB, 0), NULL);
}

static void look_filled(BlockBackend *blk, uint8_t below)
{
    assert_true(maint_is(blk, 0, 20 * KIB, 'a'));
    assert_true(maint_is(blk, 20 * KIB, 40 * KIB, 0));
    assert_true(maint_is(blk, 40 * KIB, 60 * KIB, 'a'));
    assert_true(maint_is(blk, 60 * KIB, 72 * KIB, 0));
    assert_true(maint_is(blk, 72 * KIB, 100 * KIB, 'a'));
    assert_true(maint_is(blk, 100 * KIB, 120 * KIB, below));
    assert_true(maint_is(blk, 120 * KIB, 128 * KIB, 0));
    assert_true(maint_is(blk, 128 * KIB, 200 * KIB, below));
}

static void test_versions_change_both_ways(void **state)
{
    for (int backing = 0; backing < 2; backing++) {
        g_autofree char *base = test_path("base.raw");
        g_autofree char *path = test_path("a.qcow2");
        g_autofree char *bytes = g_strnfill(200 * KIB, 'b');
        g_autofree char *options = g_strdup_printf(
            "size=200k,cluster_size=4k%s",
            backing ? ",backing_file=base.raw,backing_fmt=raw" : "");
        uint8_t below = backing ? 'b' : 0;
        BlockBackend *blk;

        assert_true(g_file_set_contents(base, bytes, 200 * KIB, NULL));
        q_create(path, options);
        blk = q_open(path, "", BDRV_O_RDWR);
        fill(blk);
        assert_int_equal(q_snap_create(blk, "s", 0), 0);
        maint_put(blk, 60 * KIB, 61 * KIB, 'n');
        assert_int_equal(q_snap_create(blk, "t", 0), 0);
        amend(blk, "compat=0.10");
        assert_int_equal(q_state(blk)->hdr.version, 2);
        assert_true(maint_is(blk, 60 * KIB, 61 * KIB, 'n'));
        q_close(blk);
        q_qemu_check(path);
        blk = q_open(path, "", BDRV_O_RDWR);
        assert_int_equal(q_snap_goto(blk, "s"), 0);
        look_filled(blk, below);
        assert_int_equal(q_snap_delete(blk, "t"), 0);
        amend(blk, "compat=1.1");
        look_filled(blk, below);
        q_close(blk);
        q_qemu_check(path);
        blk = q_open(path, "", BDRV_O_RDWR);
        assert_int_equal(q_state(blk)->hdr.version, 3);
        look_filled(blk, below);
        q_close(blk);
    }
}

static void test_refcounts_take_every_width(void **state)
{
    static const unsigned bits[] = { 1, 64, 2, 32, 4, 8, 16 };
    g_autofree char *path = test_path("a.qcow2");
    BlockBackend *blk;

    q_create(path, "size=2M,cluster_size=512");
    blk = q_open(path, "", BDRV_O_RDWR);
    fill(blk);
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        g_autofree char *o = g_strdup_printf("refcount_bits=%u", bits[i]);

        amend(blk, o);
        look_filled(blk, 0);
        maint_put(blk, 300 * KIB, 400 * KIB, (uint8_t)(i + 1));
        q_close(blk);
        q_qemu_check(path);
        blk = q_open(path, "", BDRV_O_RDWR);
        assert_int_equal(1 << q_state(blk)->refcount_order, bits[i]);
        look_filled(blk, 0);
        assert_true(maint_is(blk, 300 * KIB, 400 * KIB, (uint8_t)(i + 1)));
    }
    q_close(blk);
}

static void test_narrow_refcounts_must_hold_what_is_counted(void **state)
{
    g_autofree char *path = test_path("a.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=4k");
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 64 * KIB, 'a');
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    amend_fails(blk, "refcount_bits=1", -EINVAL, "do not fit 1 bit");
    amend(blk, "refcount_bits=2");
    assert_int_equal(q_snap_create(blk, "t", 0), 0);
    assert_int_equal(q_snap_create(blk, "u", 0), -ERANGE);
    amend(blk, "refcount_bits=8");
    assert_int_equal(q_snap_create(blk, "u", 0), 0);
    q_close(blk);
    q_qemu_check(path);
}

static void test_flags_size_and_backing_file_change(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *path = test_path("a.qcow2");
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, "b", 1, NULL));
    q_create(path, "size=1M");
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 64 * KIB, 'a');
    amend(blk, "lazy_refcounts=on,size=3M");
    assert_int_equal(blk_getlength(blk), 3 << 20);
    maint_put(blk, 64 * KIB, 300 * KIB, 'l');
    amend(blk, "lazy_refcounts=off,size=2M");
    assert_int_equal(q_state(blk)->hdr.compatible_features, 0);
    assert_int_equal(q_state(blk)->hdr.incompatible_features, 0);
    amend(blk, "backing_file=base.raw,backing_fmt=raw");
    amend(blk, "backing_file=base.raw");
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_non_null(q_state(blk)->bs->backing);
    assert_string_equal(q_state(blk)->ext.backing_format, "raw");
    assert_true(maint_is(blk, 0, 64 * KIB, 'a'));
    amend(blk, "backing_file=");
    assert_null(q_state(blk)->ext.backing_file);
    q_close(blk);
}

static void test_what_cannot_change_is_refused_by_name(void **state)
{
    static const struct {
        const char *options;
        int err;
        const char *text;
    } bad[] = {
        { "cluster_size=4k", -ENOTSUP, "cluster_size" },
        { "extended_l2=on", -ENOTSUP, "extended_l2" },
        { "compression_type=zstd", -ENOTSUP, "compression_type" },
        { "preallocation=full", -ENOTSUP, "preallocation" },
        { "data_file=x", -EINVAL, "data_file" },
        { "data_file_raw=on", -EINVAL, "data_file_raw" },
        { "refcount_bits=3", -EINVAL, "refcount_bits" },
        { "compat=0.9", -EINVAL, "compat" },
        { "compat=0.10,refcount_bits=8", -ENOTSUP, "refcount_bits=16" },
        { "compat=0.10,lazy_refcounts=on", -EINVAL, "lazy_refcounts" },
        { "backing_fmt=raw", -EINVAL, "backing_fmt" },
        { "nonsense=1", -EINVAL, "nonsense" },
        { "lazy_refcounts=on,size=1000", -EINVAL, "multiple of 512" },
        { "lazy_refcounts=on,size=6P", -EFBIG, "too large" },
        { "lazy_refcounts=on,nonsense=1", -EINVAL, "nonsense" },
    };
    g_autofree char *path = test_path("a.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M");
    blk = q_open(path, "", BDRV_O_RDWR);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        amend_fails(blk, bad[i].options, bad[i].err, bad[i].text);
    }
    assert_int_equal(q_state(blk)->hdr.compatible_features, 0);
    q_close(blk);
    q_create(path, "size=1M,extended_l2=on");
    blk = q_open(path, "", BDRV_O_RDWR);
    amend_fails(blk, "compat=0.10", -ENOTSUP, "extended L2");
    q_close(blk);
    q_create(path, "size=1M,refcount_bits=32");
    blk = q_open(path, "", BDRV_O_RDWR);
    amend_fails(blk, "compat=0.10", -ENOTSUP, "refcount_bits=16");
    q_close(blk);
}

static void put_compressed(BlockBackend *blk, uint64_t from, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    memset(buf, 'z', bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    q_check(blk_pwritev(blk, from, bytes, &qiov, BDRV_REQ_WRITE_COMPRESSED),
            NULL);
}

/* zstd is of version 3, and so are its clusters, but an image without any can
 * go back. One may be left in a snapshot alone. */
static void test_zstd_goes_when_no_cluster_needs_it(void **state)
{
    g_autofree char *path = test_path("a.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=4k,compression_type=zstd");
    blk = q_open(path, "", BDRV_O_RDWR);
    fill(blk);
    put_compressed(blk, 512 * KIB, 8 * KIB);
    amend_fails(blk, "compat=0.10", -ENOTSUP, "zstd");
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    maint_put(blk, 512 * KIB, 520 * KIB, 'n');
    amend_fails(blk, "compat=0.10", -ENOTSUP, "zstd");
    assert_int_equal(q_snap_delete(blk, "s"), 0);
    amend(blk, "compat=0.10");
    put_compressed(blk, 600 * KIB, 8 * KIB);
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, "", BDRV_O_RDWR);
    assert_int_equal(q_state(blk)->hdr.version, 2);
    look_filled(blk, 0);
    assert_true(maint_is(blk, 512 * KIB, 520 * KIB, 'n'));
    assert_true(maint_is(blk, 600 * KIB, 608 * KIB, 'z'));
    q_close(blk);
}

static void count_progress(uint64_t done, uint64_t total, void *opaque)
{
    uint64_t *last = opaque;

    assert_true(done >= *last && done <= total);
    *last = done;
}

static void test_progress_is_told(void **state)
{
    g_autofree char *path = test_path("a.qcow2");
    uint64_t last = 0;
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=512");
    blk = q_open(path, "", BDRV_O_RDWR);
    maint_put(blk, 0, 500 * KIB, 'a');
    assert_int_equal(blk_amend(blk, q_options("refcount_bits=64"), false,
                               count_progress, &last, NULL), 0);
    assert_true(last > 10);
    q_close(blk);
}

/* ---- power cuts ---- */

static int run_amend(BlockBackend *blk, void *opaque)
{
    return blk_amend(blk, q_options(opaque), false, NULL, NULL, NULL);
}

static void look_amended(BlockBackend *blk, int ret, void *opaque)
{
    look_filled(blk, 0);
}

static void cut_amend(const char *create, const char *options, bool snapshot)
{
    FakeDisk *d = fake_disk_new("a", 0);
    g_autofree char *o = g_strdup(options);
    const MaintCase m = {
        .disk = "a", .filename = "fake:a", .open = "", .flags = BDRV_O_RDWR,
        .run = run_amend, .look = look_amended, .opaque = o,
    };
    BlockBackend *blk;

    d->sync = true;
    q_create("fake:a", create);
    blk = q_open("fake:a", "", BDRV_O_RDWR);
    fill(blk);
    if (snapshot) {
        assert_int_equal(q_snap_create(blk, "s", 0), 0);
        maint_put(blk, 0, 3 * KIB, 'a');
    }
    q_close(blk);
    assert_true(maint_cut_everywhere(&m) > 2);
    maint_fail_everywhere(&m);
    fake_disk_free(d);
}

static void test_cuts_while_versions_change(void **state)
{
    cut_amend("size=200k,cluster_size=1k", "compat=0.10", true);
    cut_amend("size=200k,cluster_size=2k,compression_type=zstd",
              "compat=0.10", false);
    cut_amend("size=200k,cluster_size=4k,compat=0.10", "compat=1.1", true);
}

static void test_cuts_while_refcounts_are_rewritten(void **state)
{
    cut_amend("size=200k,cluster_size=512", "refcount_bits=64", true);
    cut_amend("size=200k,cluster_size=1k", "refcount_bits=1", false);
}

#define A_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    A_TEST(test_versions_change_both_ways),
    A_TEST(test_refcounts_take_every_width),
    A_TEST(test_narrow_refcounts_must_hold_what_is_counted),
    A_TEST(test_flags_size_and_backing_file_change),
    A_TEST(test_what_cannot_change_is_refused_by_name),
    A_TEST(test_zstd_goes_when_no_cluster_needs_it),
    A_TEST(test_progress_is_told),
    A_TEST(test_cuts_while_versions_change),
    A_TEST(test_cuts_while_refcounts_are_rewritten),
};

FIRN_TEST_MAIN(tests)
