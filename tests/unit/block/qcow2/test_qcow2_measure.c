/* SPDX-License-Identifier: MIT */
/*
 * What measure says, held against qemu-img measure and against the files that
 * create makes.
 */
#include "qcow2_fixture.h"

#include <sys/stat.h>

static BdrvMeasure measure(const char *options, BlockBackend *src)
{
    BdrvMeasure m = { 0 };
    GError *error = NULL;

    q_check(bdrv_measure(test_ctx, "qcow2", q_options(options), src, &m,
                         &error), error);
    return m;
}

/* The number behind "@key": in JSON. */
static uint64_t json_number(const char *json, const char *key)
{
    g_autofree char *quoted = g_strdup_printf("\"%s\":", key);
    const char *p = strstr(json, quoted);

    return p ? g_ascii_strtoull(p + strlen(quoted), NULL, 10) : UINT64_MAX;
}

static void compare(const char *options, const char *source,
                    const BdrvMeasure *m)
{
    g_autofree char *out = NULL;
    int ret = test_run(&out, "qemu-img measure --output=json -O qcow2 "
                       "-o '%s' %s", options, source);

    if (ret != 0) {
        fail_msg("qemu-img measure -o %s %s: %s", options, source, out);
    }
    if (json_number(out, "required") != m->required ||
        json_number(out, "fully-allocated") != m->fully_allocated) {
        fail_msg("-o '%s' %s: %" PRIu64 " %" PRIu64 ", not %s", options,
                 source, m->required, m->fully_allocated, out);
    }
}

static const char *const variants[] = {
    "compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=4k",
    "cluster_size=2M", "extended_l2=on", "extended_l2=on,cluster_size=16k",
    "refcount_bits=1", "refcount_bits=64", "refcount_bits=64,cluster_size=512",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full",
    "compression_type=zstd", "lazy_refcounts=on",
};

static void test_sizes_are_those_of_qemu_img(void **state)
{
    static const char *const sizes[] = {
        "0", "512", "65536", "1000000", "1G", "17179869184", "100G",
    };

    if (!test_have_program("qemu-img")) {
        print_message("no qemu-img\n");
        skip();
    }
    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(sizes); k++) {
            g_autofree char *ours = g_strdup_printf("%s,size=%s", variants[i],
                                                    sizes[k]);
            g_autofree char *arg = g_strdup_printf("--size %s", sizes[k]);
            BdrvMeasure m = measure(ours, NULL);

            compare(variants[i], arg, &m);
            assert_false(m.has_bitmaps);
        }
        i += i % 2; /* half of them is enough with every size */
    }
}

static void test_sizes_of_a_copy_are_those_of_qemu_img(void **state)
{
    g_autofree char *path = test_path("src.qcow2");
    BlockBackend *blk;
    uint8_t buf[3000];

    if (!test_have_program("qemu-img")) {
        print_message("no qemu-img\n");
        skip();
    }
    q_create(path, "size=40M,cluster_size=4k");
    blk = q_open(path, "", BDRV_O_RDWR);
    test_fill(buf, sizeof(buf), 1);
    for (uint64_t at = 0; at < 30 << 20; at += 70001 * 3) {
        q_check(blk_pwrite(blk, at, sizeof(buf), buf), NULL);
    }
    q_check(blk_pwrite_zeroes(blk, 8192, 1 << 20, 0), NULL);
    q_close(blk);
    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
        BdrvMeasure m;

        blk = q_open(path, "", 0);
        m = measure(variants[i], blk);
        q_close(blk);
        compare(variants[i], path, &m);
    }
}

static void test_backing_file_of_the_target_counts_as_unknown(void **state)
{
    g_autofree char *path = test_path("src.raw");
    g_autofree char *options = NULL;
    BdrvMeasure m;
    BdrvOptions *o;
    BlockBackend *blk;

    assert_int_equal(blk_create(test_ctx, "raw", path,
                                q_options("size=1M"), NULL), 0);
    o = q_options("driver=raw");
    assert_int_equal(blk_open(test_ctx, path, o, 0, &blk, NULL), 0);
    options = g_strdup_printf("backing_file=%s,backing_fmt=raw", path);
    m = measure(options, blk);
    assert_int_equal(m.required, m.fully_allocated);
    m = measure("", blk);
    assert_true(m.required < m.fully_allocated);
    q_close(blk);
}

static void test_a_full_image_is_as_large_as_measured(void **state)
{
    static const char *const modes[] = { "metadata", "falloc", "full" };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = test_path("full.qcow2");
        g_autofree char *options = g_strdup_printf(
            "size=9M,cluster_size=4k,preallocation=%s", modes[i]);
        BdrvMeasure m = measure(options, NULL);
        struct stat st;

        q_create(path, options);
        assert_int_equal(stat(path, &st), 0);
        assert_true((uint64_t)st.st_size <= m.fully_allocated);
        assert_true((uint64_t)st.st_size > m.fully_allocated - 5 * 4096);
        if (i) {
            assert_true(st.st_blocks * 512 >= 9 << 20);
        } else {
            assert_true(st.st_blocks * 512 < 1 << 20);
        }
    }
}

static void test_impossible_questions_are_refused(void **state)
{
    static const char *const bad[] = {
        "size=1E", "size=1G,cluster_size=1000", "size=1G,nonsense=1",
        "size=200G,cluster_size=512",
    };
    BdrvMeasure m;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_true(bdrv_measure(test_ctx, "qcow2", q_options(bad[i]), NULL,
                                 &m, &error) < 0);
        assert_non_null(error);
    }
    assert_int_equal(bdrv_measure(test_ctx, "null-co", NULL, NULL, &m, NULL),
                     -ENOTSUP);
}

#define M_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    M_TEST(test_sizes_are_those_of_qemu_img),
    M_TEST(test_sizes_of_a_copy_are_those_of_qemu_img),
    M_TEST(test_backing_file_of_the_target_counts_as_unknown),
    M_TEST(test_a_full_image_is_as_large_as_measured),
    M_TEST(test_impossible_questions_are_refused),
};

FIRN_TEST_MAIN(tests)
