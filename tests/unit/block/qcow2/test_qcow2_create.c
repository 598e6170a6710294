/* SPDX-License-Identifier: MIT */
/*
 * Creating images: every option, and which go together.
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

static void create_fails(const char *options, int err, const char *text)
{
    g_autofree char *path = test_path("bad.qcow2");
    g_autoptr(GError) error = NULL;
    int ret = blk_create(test_ctx, "qcow2", path, q_options(options), &error);

    if (ret != err || !error || !strstr(error->message, text)) {
        fail_msg("%s: %d, %s", options, ret,
                 error ? error->message : "(none)");
    }
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_options_that_do_not_go_together_are_refused(void **state)
{
    static const struct {
        const char *options, *text;
    } bad[] = {
        { "compat=0.9", "compat" },
        { "cluster_size=1000", "cluster_size" },
        { "cluster_size=256", "cluster_size" },
        { "cluster_size=4M", "cluster_size" },
        { "refcount_bits=3", "refcount_bits" },
        { "refcount_bits=128", "refcount_bits" },
        { "refcount_bits=8,compat=0.10", "compat=1.1" },
        { "lazy_refcounts=on,compat=v2", "compat=1.1" },
        { "extended_l2=on,compat=v2", "compat=1.1" },
        { "extended_l2=on,cluster_size=8k", "16k" },
        { "compression_type=lzma", "zstd" },
        { "compression_type=zstd,compat=v2", "compat=1.1" },
        { "preallocation=some", "preallocation" },
        { "preallocation=full,backing_file=x,backing_fmt=raw",
          "extended_l2" },
        { "backing_fmt=raw", "backing_file" },
        { "backing_file=x,backing_fmt=0123456789abcdef", "longer" },
        { "data_file_raw=on", "data_file" },
        { "data_file=d,compat=0.10", "compat=1.1" },
        { "data_file=d,data_file_raw=on,backing_file=x", "exclude" },
        { "nonsense=on", "nonsense" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *options = g_strdup_printf("size=1M,%s",
                                                   bad[i].options);

        create_fails(options, -EINVAL, bad[i].text);
    }
    create_fails("cluster_size=64k", -EINVAL, "size is missing");
    create_fails("size=200G,cluster_size=512", -EFBIG, "too large");
}

static void test_preallocated_images_read_zero_and_are_sound(void **state)
{
    static const char *const variants[] = {
        "preallocation=metadata", "preallocation=falloc",
        "preallocation=full", "preallocation=metadata,cluster_size=512",
        "preallocation=full,cluster_size=2M",
        "preallocation=falloc,refcount_bits=1",
        "preallocation=metadata,compat=0.10",
        "preallocation=metadata,refcount_bits=64,cluster_size=1k",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
        g_autofree char *path = test_path("p.qcow2");
        g_autofree char *options = g_strdup_printf("size=5000192,%s",
                                                   variants[i]);
        g_autofree uint8_t *buf = g_malloc(5000192);
        BlockBackend *blk;
        Qcow2CheckResult r;
        uint64_t n, clusters;

        q_create(path, options);
        assert_int_equal(qcow2_checker_run_file(path, &r), 0);
        assert_int_equal(r.leaks + r.corruptions + r.copied, 0);
        q_qemu_check(path);
        blk = q_open(path, "", BDRV_O_RDWR);
        q_check(blk_pread(blk, 0, 5000192, buf), NULL);
        for (unsigned k = 0; k < 5000192; k++) {
            assert_int_equal(buf[k], 0);
        }
        /* Nothing is left to allocate. */
        clusters = q_state(blk)->bs->file->bs->total_bytes;
        memset(buf, 7, 5000192);
        q_check(blk_pwrite(blk, 0, 5000192, buf), NULL);
        q_check(blk_block_status(blk, 0, 5000192, &n, NULL) & BDRV_BLOCK_DATA
                ? 0 : -EIO, NULL);
        q_close(blk);
        blk = q_open(path, "", 0);
        assert_int_equal(q_state(blk)->bs->file->bs->total_bytes, clusters);
        q_close(blk);
        q_qemu_check(path);
    }
}

static void test_sizes_are_rounded_up_to_sectors(void **state)
{
    g_autofree char *path = test_path("s.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1000");
    blk = q_open(path, "", 0);
    assert_int_equal(blk_getlength(blk), 1024);
    q_close(blk);
    q_create(path, "size=0");
    blk = q_open(path, "", 0);
    assert_int_equal(blk_getlength(blk), 0);
    q_close(blk);
}

static void test_power_cuts_during_preallocation_leave_leaks_at_worst(
    void **state)
{
    for (unsigned n = 0; n < 400; n++) {
        FakeDisk *d = fake_disk_new("p", 0);
        g_autofree uint8_t *image = NULL;
        Qcow2CheckResult r;
        int ret;

        d->sync = true;
        fake_cut_power_after(d, n);
        ret = blk_create(test_ctx, "qcow2", "fake:p",
                         q_options("size=96k,cluster_size=512,"
                                   "preallocation=metadata"), NULL);
        fake_power_on(d, n % 2);
        image = g_malloc0(d->size + 4);
        fake_disk_peek(d, 0, image, d->size);
        if (qcow2_checker_run(image, d->size, &r) == 0) {
            if (r.corruptions) {
                fail_msg("cut after %u: %s", n, r.first);
            }
        } else {
            assert_int_not_equal(be32_get(image), QCOW2_MAGIC);
        }
        fake_disk_free(d);
        if (ret == 0) {
            assert_true(n > 5);
            return;
        }
    }
    fail_msg("never done");
}

#define C_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    C_TEST(test_options_that_do_not_go_together_are_refused),
    C_TEST(test_sizes_are_rounded_up_to_sectors),
    C_TEST(test_preallocated_images_read_zero_and_are_sound),
    C_TEST(test_power_cuts_during_preallocation_leave_leaks_at_worst),
};

FIRN_TEST_MAIN(tests)
