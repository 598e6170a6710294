/* SPDX-License-Identifier: MIT */
/*
 * Rewriting cluster 0: what is kept, what does not fit, and power cuts after
 * each write. A cut must leave what cluster 0 said before or what it says
 * afterwards; only the table of feature names may be missing.
 */
#include "qcow2_fixture.h"

typedef struct Rewriter {
    BlockBackend *blk;
    const char *backing_file;   /* "": none */
    const char *backing_format;
    const char *data_file;
    unsigned nb_bitmaps;        /* 0: none */
    bool lazy;
} Rewriter;

static void set_string(char **where, const char *value)
{
    if (value) {
        g_free(*where);
        *where = *value ? g_strdup(value) : NULL;
    }
}

static int coroutine_fn co_rewrite(void *opaque)
{
    Rewriter *r = opaque;
    Qcow2State *s = q_state(r->blk);
    int ret;

    co_mutex_lock(&s->lock);
    set_string(&s->ext.backing_file, r->backing_file);
    set_string(&s->ext.backing_format, r->backing_format);
    set_string(&s->ext.data_file_name, r->data_file);
    s->ext.has_bitmaps = r->nb_bitmaps != 0;
    s->ext.nb_bitmaps = r->nb_bitmaps;
    s->ext.bitmap_directory_size = 64;
    s->hdr.compatible_features = r->lazy ? QCOW2_COM_LAZY : 0;
    ret = qcow2_header_rewrite(s);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* What a reader would find, as one line; the names table aside. */
static char *describe(FakeDisk *d)
{
    g_autofree uint8_t *buf = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    Qcow2Extensions ext;
    Qcow2Header h;
    uint8_t first[512];

    fake_disk_peek(d, 0, first, sizeof(first));
    assert_int_equal(qcow2_header_decode(first, 512, &h, NULL), 0);
    buf = g_malloc(1ull << h.cluster_bits);
    fake_disk_peek(d, 0, buf, 1ull << h.cluster_bits);
    if (qcow2_extensions_decode(buf, 1ull << h.cluster_bits, &h, &ext,
                                NULL) < 0) {
        return g_strdup("broken");
    }
    g_string_printf(text, "v%u length %u com %" PRIx64 " file %s fmt %s data "
                    "%s bitmaps %u,%" PRIx64 " unknown %u ", h.version,
                    h.header_length, h.compatible_features,
                    ext.backing_file ? ext.backing_file : "-",
                    ext.backing_format ? ext.backing_format : "-",
                    ext.data_file_name ? ext.data_file_name : "-",
                    ext.nb_bitmaps, ext.bitmap_directory_size,
                    ext.unknown->len);
    for (guint i = 0; i < ext.unknown->len; i++) {
        g_string_append_printf(text, "%02x", ext.unknown->data[i]);
    }
    qcow2_extensions_cleanup(&ext);
    return g_strdup(text->str);
}

static unsigned count_names(FakeDisk *d)
{
    uint8_t first[512];
    g_autofree uint8_t *buf = NULL;
    Qcow2Extensions ext;
    Qcow2Header h;
    unsigned n;

    fake_disk_peek(d, 0, first, sizeof(first));
    assert_int_equal(qcow2_header_decode(first, 512, &h, NULL), 0);
    buf = g_malloc(1ull << h.cluster_bits);
    fake_disk_peek(d, 0, buf, 1ull << h.cluster_bits);
    assert_int_equal(qcow2_extensions_decode(buf, 1ull << h.cluster_bits, &h,
                                             &ext, NULL), 0);
    n = g_hash_table_size(ext.feature_names);
    qcow2_extensions_cleanup(&ext);
    return n;
}

static FakeDisk *new_image(const char *options, Rewriter *r)
{
    FakeDisk *d = fake_disk_new("h", 0);

    q_create("fake:h", options);
    r->blk = q_open("fake:h", "", BDRV_O_RDWR);
    return d;
}

/* An image with options, then what @before says, then what @after says; the
 * last with power cut after @n writes. *@ret_old: before that. */
static FakeDisk *two_rewrites(const char *options, Rewriter before,
                              Rewriter after, unsigned n, int *ret_after,
                              char **ret_old)
{
    FakeDisk *d = new_image(options, &before);

    q_check(run_coroutine(co_rewrite, &before), NULL);
    *ret_old = describe(d);
    after.blk = before.blk;
    fake_cut_power_after(d, n);
    *ret_after = run_coroutine(co_rewrite, &after);
    (void)blk_close(before.blk);
    return d;
}

static void cut_everywhere(const char *options, Rewriter before,
                           Rewriter after)
{
    g_autofree char *want = NULL;
    unsigned writes;
    int ret;

    for (unsigned n = 1000; n != 0; n = n == 1000 ? writes : n - 1) {
        for (unsigned mode = 0; mode < 4; mode++) {
            g_autoptr(GRand) rand = g_rand_new_with_seed(n);
            g_autofree char *old = NULL, *now = NULL;
            FakeDisk *d = two_rewrites(options, before, after,
                                       n == 1000 ? n : n - 1, &ret, &old);

            if (n == 1000) {
                assert_int_equal(ret, 0);
                writes = fake_count(d, FAKE_WRITE);
                g_free(want);
                want = describe(d);
                assert_int_equal(count_names(d), 8);
                assert_string_not_equal(want, old);
            } else {
                if (mode < 2) {
                    fake_power_on(d, mode);
                } else {
                    fake_crash(d, rand);
                }
                now = describe(d);
                if (strcmp(now, old)) {
                    assert_string_equal(now, want);
                }
            }
            fake_disk_free(d);
        }
    }
}

static void test_cuts_leave_old_or_new_when_a_name_comes(void **state)
{
    const Rewriter before = { .lazy = false };
    const Rewriter after = { .backing_file = "base.raw",
                             .backing_format = "raw", .lazy = true };

    cut_everywhere("size=1M", before, after);
}

static void test_cuts_leave_old_or_new_when_everything_moves(void **state)
{
    const Rewriter before = { .backing_file = "null-co:",
                              .backing_format = "null-co", .lazy = true };
    const Rewriter after = { .backing_file = "another-name-that-is-longer",
                             .backing_format = "qcow2", .nb_bitmaps = 3,
                             .data_file = "somewhere.raw" };

    cut_everywhere("size=1M", before, after);
}

static void test_cuts_leave_old_or_new_when_extensions_go(void **state)
{
    const Rewriter before = { .backing_file = "null-co:",
                              .backing_format = "null-co", .nb_bitmaps = 7 };
    const Rewriter after = { .backing_file = "", .backing_format = "",
                             .lazy = true };

    cut_everywhere("size=1M,cluster_size=8k", before, after);
}

static void test_a_flag_takes_one_sector_write(void **state)
{
    Rewriter r = { .lazy = true };
    FakeDisk *d = new_image("size=1M", &r);

    fake_log_clear(d);
    q_check(run_coroutine(co_rewrite, &r), NULL);
    assert_int_equal(fake_count(d, FAKE_WRITE), 1);
    q_close(r.blk);
    fake_disk_free(d);
}

/* An image whose header is longer than ours, with a record nobody knows. */
static FakeDisk *image_from_the_future(void)
{
    static const uint8_t record[] = {
        0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0,
        0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 48, 1, 9, 'n', 'e', 'w',
    };
    uint8_t fields[128], rest[1024] = { 0 };
    FakeDisk *d = fake_disk_new("h", 0);

    q_create("fake:h", "size=1M");
    fake_disk_peek(d, 0, fields, 112);
    be32_put(fields + 100, 128);
    memset(fields + 112, 0x5a, 16);
    memcpy(rest, record, sizeof(record));
    fake_disk_poke(d, 0, fields, sizeof(fields));
    fake_disk_poke(d, 128, rest, sizeof(rest));
    return d;
}

static void test_unknown_records_and_fields_are_kept(void **state)
{
    FakeDisk *d = image_from_the_future();
    Rewriter r = { .backing_file = "null-co:", .backing_format = "null-co" };
    g_autofree char *text = NULL;
    uint8_t bytes[16];

    r.blk = q_open("fake:h", "", BDRV_O_RDWR);
    q_check(run_coroutine(co_rewrite, &r), NULL);
    q_close(r.blk);

    text = describe(d);
    assert_non_null(strstr(text, "length 128"));
    assert_non_null(strstr(text, "file null-co:"));
    assert_non_null(strstr(text, "unknown 16 deadbeef0000000568656c6c6f"));
    fake_disk_peek(d, 112, bytes, 16);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(bytes[i], 0x5a);
    }
    assert_int_equal(count_names(d), 9);
    fake_disk_free(d);
}

static void test_short_header_grows(void **state)
{
    FakeDisk *d = fake_disk_new("h", 0);
    Rewriter r = { .lazy = true };
    uint8_t fields[112], zero[1024] = { 0 };
    g_autofree char *text = NULL;

    q_create("fake:h", "size=1M");
    fake_disk_peek(d, 0, fields, 112);
    be32_put(fields + 100, 104);
    fake_disk_poke(d, 0, fields, 104);
    fake_disk_poke(d, 104, zero, sizeof(zero));
    r.blk = q_open("fake:h", "", BDRV_O_RDWR);
    q_check(run_coroutine(co_rewrite, &r), NULL);
    q_close(r.blk);
    text = describe(d);
    assert_non_null(strstr(text, "length 112"));
    fake_disk_free(d);
}

static void test_what_does_not_fit_changes_nothing(void **state)
{
    g_autofree char *name = g_strnfill(450, 'x');
    Rewriter r = { .backing_file = name, .backing_format = "raw",
                   .lazy = true };
    FakeDisk *d = new_image("size=64k,cluster_size=512", &r);
    g_autofree char *old = describe(d), *now = NULL;
    Qcow2State *s = q_state(r.blk);

    assert_int_equal(run_coroutine(co_rewrite, &r), -ENOSPC);
    assert_int_equal(s->hdr.compatible_features, 0);
    now = describe(d);
    assert_string_equal(now, old);
    q_close(r.blk);
    fake_disk_free(d);
}

static void test_failed_write_is_put_back(void **state)
{
    for (unsigned n = 1; n < 20; n++) {
        Rewriter r = { .backing_file = "null-co:",
                       .backing_format = "null-co", .nb_bitmaps = 2 };
        FakeDisk *d = new_image("size=1M", &r);
        g_autofree char *old = describe(d), *now = NULL;
        int ret;

        fake_fail_nth(d, FAKE_WRITE | FAKE_FLUSH, n, EIO, false);
        ret = run_coroutine(co_rewrite, &r);
        fake_fail_nth(d, FAKE_ANY, 0, 0, false);
        q_close(r.blk);
        now = describe(d);
        fake_disk_free(d);
        if (ret == 0) {
            assert_true(n > 3);
            return;
        }
        assert_string_equal(now, old);
    }
    fail_msg("never done");
}

/* Change @before to @after with flushes failing from the @n-th on, 0: none.
 * *@ret_old and *@ret_now: what it was and what it is. */
static int rewrite_with_bad_flush(Rewriter before, Rewriter after, unsigned n,
                                  char **ret_old, char **ret_now)
{
    FakeDisk *d = new_image("size=1M", &before);
    int ret;

    q_check(run_coroutine(co_rewrite, &before), NULL);
    *ret_old = describe(d);
    after.blk = before.blk;
    if (n) {
        fake_fail_nth(d, FAKE_FLUSH, n, EIO, true);
    }
    ret = run_coroutine(co_rewrite, &after);
    *ret_now = describe(d);
    (void)blk_close(before.blk);
    fake_disk_free(d);
    return ret;
}

/* As with a file: once a flush has failed, all of them do. */
static void test_bad_flushes_leave_old_or_new(void **state)
{
    static const Rewriter after[] = {
        { .backing_file = "base.raw", .backing_format = "raw" },
        { .backing_file = "another-name-that-is-longer",
          .backing_format = "qcow2", .data_file = "somewhere.raw" },
        { .backing_file = "", .backing_format = "", .lazy = true },
    };
    const Rewriter before = { .backing_file = "null-co:", .nb_bitmaps = 3,
                              .backing_format = "null-co" };

    for (size_t i = 0; i < G_N_ELEMENTS(after); i++) {
        g_autofree char *first = NULL, *want = NULL;
        int ret = rewrite_with_bad_flush(before, after[i], 0, &first, &want);

        assert_int_equal(ret, 0);
        assert_string_not_equal(first, want);
        for (unsigned n = 1, failed = 0; failed + 1 == n; n++) {
            g_autofree char *old = NULL, *now = NULL;

            ret = rewrite_with_bad_flush(before, after[i], n, &old, &now);
            failed += ret < 0;
            if (strcmp(now, old)) {
                assert_string_equal(now, want);
            }
            assert_true(ret < 0 || n > 1);
        }
    }
}

#define HDR_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                    test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    HDR_TEST(test_a_flag_takes_one_sector_write),
    HDR_TEST(test_unknown_records_and_fields_are_kept),
    HDR_TEST(test_short_header_grows),
    HDR_TEST(test_what_does_not_fit_changes_nothing),
    HDR_TEST(test_failed_write_is_put_back),
    HDR_TEST(test_bad_flushes_leave_old_or_new),
    HDR_TEST(test_cuts_leave_old_or_new_when_a_name_comes),
    HDR_TEST(test_cuts_leave_old_or_new_when_everything_moves),
    HDR_TEST(test_cuts_leave_old_or_new_when_extensions_go),
};

FIRN_TEST_MAIN(tests)
