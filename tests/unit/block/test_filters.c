/* SPDX-License-Identifier: MIT */
/*
 * Drivers between a format and its file, and disks without one: copy-on-read,
 * preallocate, blkverify, the limits of blkdebug, null; detect-zeroes; and
 * options that are accepted or refused by name.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

#define KIB 1024u

static FakeDisk *disk, *twin;
static BlockBackend *blk;

static int setup(void **state)
{
    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    disk = fake_disk_new("d", 256 * KIB);
    twin = fake_disk_new("t", 256 * KIB);
    disk->zeroes = twin->zeroes = true;
    blk = NULL;
    return 0;
}

static int teardown(void **state)
{
    blk_close(blk);
    fake_disk_free(disk);
    fake_disk_free(twin);
    return test_ctx_teardown(state);
}

static int try_open(const char *options, char *message, size_t size)
{
    g_autoptr(GError) error = NULL;
    BdrvOptions *o = NULL;
    int ret;

    assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    ret = blk_open(test_ctx, NULL, o, BDRV_O_RDWR | BDRV_O_UNMAP, &blk,
                   &error);
    g_strlcpy(message, error ? error->message : "", size);
    return ret;
}

static void open_with(const char *options)
{
    char message[300];

    if (try_open(options, message, sizeof(message)) < 0) {
        fail_msg("%s", message);
    }
}

static void open_fails(const char *options, const char *text)
{
    char message[300];

    assert_true(try_open(options, message, sizeof(message)) < 0);
    if (!strstr(message, text)) {
        fail_msg("'%s' is not in '%s'", text, message);
    }
}

static int fill(uint64_t offset, uint64_t bytes, int c)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, c, bytes);
    return blk_pwrite(blk, offset, bytes, buf);
}

static int first_byte(uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = blk_pread(blk, offset, bytes, buf);

    return ret < 0 ? ret : buf[0];
}

/* ---- null ---- */

static int status(uint64_t *ret_bytes)
{
    return blk_block_status(blk, 0, 64 * KIB, ret_bytes, NULL);
}

static void test_null_holds_nothing(void **state)
{
    static const char *const names[] = { "null-co", "null-aio" };
    uint64_t n;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *plain = g_strdup_printf("driver=%s,size=1M",
                                                 names[i]);
        g_autofree char *zero = g_strconcat(plain, ",read-zeroes=on", NULL);

        open_with(plain);
        assert_int_equal(blk_getlength(blk), 1024 * KIB);
        assert_int_equal(blk_is_allocated(blk, 0, 1024 * KIB, &n), 0);
        assert_int_equal(status(&n) & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), 0);
        assert_int_equal(blk_close(blk), 0);
        open_with(zero);
        assert_int_equal(blk_is_allocated(blk, 0, 1024 * KIB, &n), 1);
        assert_int_equal(first_byte(0, 512), 0);
        assert_int_equal(status(&n) & BDRV_BLOCK_ZERO, BDRV_BLOCK_ZERO);
        assert_int_equal(blk_close(blk), 0);
    }
    blk = NULL;
}

static void test_null_takes_the_time_it_was_told(void **state)
{
    int64_t start;

    open_with("driver=null-aio,size=1M,latency-ns=20000000");
    start = aio_now_ns();
    assert_int_equal(blk_flush(blk), 0);
    (void)first_byte(0, 512);
    assert_true(aio_now_ns() - start >= 20000000);
}

/* ---- copy-on-read ---- */

static void make_overlay(const char *path)
{
    BdrvOptions *o = NULL;

    assert_int_equal(bdrv_options_parse(
        &o, "size=256k,backing_file=fake:d,backing_fmt=raw", NULL), 0);
    assert_int_equal(blk_create(test_ctx, "qcow2", path, o, NULL), 0);
}

static void test_copy_on_read_driver_copies_what_is_read(void **state)
{
    g_autofree char *path = test_path("o.qcow2");
    g_autofree char *options = g_strdup_printf(
        "driver=copy-on-read,file.driver=qcow2,file.file.filename=%s", path);
    uint64_t n;

    fake_disk_poke(disk, 0, "B", 1);
    make_overlay(path);
    open_with(options);
    assert_int_equal(blk_is_allocated(blk, 0, 128 * KIB, &n), 0);
    assert_int_equal(first_byte(0, 512), 'B');
    assert_int_equal(blk_is_allocated(blk, 0, 256 * KIB, &n), 1);
    assert_int_equal(n, 64 * KIB);
    /* From here on the copy is read. */
    fake_disk_poke(disk, 0, "C", 1);
    assert_int_equal(first_byte(0, 512), 'B');
}

static void test_copy_on_read_keeps_what_was_written(void **state)
{
    g_autofree char *path = test_path("o.qcow2");
    g_autofree char *options = g_strdup_printf(
        "driver=qcow2,copy-on-read=on,file.filename=%s", path);

    make_overlay(path);
    open_with(options);
    assert_int_equal(fill(512, 512, 'w'), 0);
    assert_int_equal(first_byte(0, 128 * KIB), 0);
    assert_int_equal(first_byte(512, 512), 'w');
    assert_int_equal(fake_count(disk, FAKE_WRITE | FAKE_ZERO), 0);
}

static void test_a_filter_shows_the_chain_below_it(void **state)
{
    g_autofree char *path = test_path("o.qcow2");
    g_autofree char *options = g_strdup_printf(
        "driver=blkdebug,image.driver=qcow2,image.file.filename=%s", path);
    uint64_t n;

    make_overlay(path);
    open_with(options);
    /* The backing file has data: this is not zero for want of one. */
    assert_int_equal(status(&n) & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO),
                     BDRV_BLOCK_DATA);
}

/* ---- preallocate ---- */

#define PREALLOC "driver=raw,file.driver=preallocate,file.file.driver=file," \
                 "file.prealloc-size=1M,file.prealloc-align=64k,"            \
                 "file.file.filename="

static uint64_t file_length(const char *path)
{
    g_autofree char *text = NULL;
    size_t length;

    assert_true(g_file_get_contents(path, &text, &length, NULL));
    return length;
}

static void test_preallocate_grows_in_steps_and_cuts_off(void **state)
{
    g_autofree char *path = test_path("p.raw");
    g_autofree char *options = g_strconcat(PREALLOC, path, NULL);
    g_autofree char *text = NULL;
    size_t length;

    assert_true(g_file_set_contents(path, "", 0, NULL));
    open_with(options);
    assert_int_equal(blk_truncate(blk, 0, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(blk_truncate(blk, 10, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(fill(0, 10, 'p'), 0);
    assert_int_equal(file_length(path), 10);
    assert_int_equal(blk_close(blk), 0);

    /* Below a format that writes past the end. */
    g_clear_pointer(&options, g_free);
    options = g_strdup_printf(
        "driver=qcow2,file.driver=preallocate,file.file.driver=file,"
        "file.prealloc-size=1M,file.prealloc-align=64k,"
        "file.file.filename=%s", path);
    assert_int_equal(blk_create(test_ctx, "qcow2", path,
                                ({ BdrvOptions *o = bdrv_options_new();
                                   bdrv_options_set(o, "size", "1M"); o; }),
                                NULL), 0);
    open_with(options);
    assert_int_equal(fill(0, 64 * KIB, 'q'), 0);
    assert_int_equal(file_length(path) % (64 * KIB), 0);
    assert_true(file_length(path) >= 1024 * KIB);
    assert_int_equal(blk_close(blk), 0);
    blk = NULL;
    assert_true(file_length(path) < 1024 * KIB);
    assert_true(g_file_get_contents(path, &text, &length, NULL));
    assert_int_equal(text[length - 1], 'q');
}

static void test_preallocate_checks_its_options(void **state)
{
    open_fails("driver=preallocate,file.driver=fake,file.name=d,"
               "prealloc-align=1000", "prealloc-align");
    open_fails("driver=preallocate", "needs the option file.filename");
}

/* ---- blkverify ---- */

#define VERIFY "driver=blkverify,raw.driver=fake,raw.name=d," \
               "test.driver=raw,test.file.driver=fake,test.file.name=t"

static void test_blkverify_writes_both_and_tells_when_they_differ(void **st)
{
    open_with(VERIFY);
    assert_int_equal(fill(100, 1000, 'v'), 0);
    assert_int_equal(first_byte(100, 1000), 'v');
    assert_int_equal(blk_flush(blk), 0);
    assert_int_equal(fake_count(disk, FAKE_FLUSH), 1);
    assert_int_equal(fake_count(twin, FAKE_FLUSH), 1);

    fake_disk_poke(disk, 600, "x", 1);
    assert_int_equal(first_byte(100, 500), 'v');
    assert_int_equal(first_byte(100, 1000), -EIO);
}

static void test_blkverify_needs_both(void **state)
{
    open_fails("driver=blkverify,raw.driver=fake,raw.name=d", "test");
    open_fails("driver=blkverify,test.driver=fake,test.name=d", "raw");
}

/* ---- blkdebug: limits ---- */

#define DEBUG "driver=raw,file.driver=blkdebug,file.image=fake:d,"

static void test_blkdebug_splits_and_rounds_as_told(void **state)
{
    open_with(DEBUG "file.max-transfer=8k,file.opt-write-zero=16k,"
              "file.max-write-zero=32k,file.max-discard=64k,"
              "file.opt-discard=64k");
    assert_int_equal(fill(0, 64 * KIB, 'a'), 0);
    assert_int_equal(fake_count(disk, FAKE_WRITE), 8);
    fake_log_clear(disk);
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 64 * KIB, 0), 0);
    assert_int_equal(fake_count(disk, FAKE_ZERO), 2);
    fake_log_clear(disk);
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 4 * KIB, 0), 0);
    assert_int_equal(fake_count(disk, FAKE_ZERO), 0); /* as data */
    assert_int_equal(blk_pdiscard(blk, 4 * KIB, 200 * KIB), 0);
    assert_int_equal(fake_count(disk, FAKE_DISCARD), 2);
}

static void test_blkdebug_refuses_limits_that_cannot_be(void **state)
{
    open_fails(DEBUG "file.align=4k,file.max-transfer=1000", "max-transfer");
    open_fails(DEBUG "file.opt-write-zero=1000", "opt-write-zero");
    open_fails(DEBUG "file.opt-discard=64k,file.max-discard=32k",
               "max-discard");
}

/* ---- detect-zeroes ---- */

static unsigned zero_requests(const char *how)
{
    g_autofree char *options = g_strdup_printf(
        "driver=raw,file.driver=fake,file.name=d,detect-zeroes=%s", how);
    unsigned n;

    open_with(options);
    fake_log_clear(disk);
    assert_int_equal(fill(0, 4 * KIB, 0), 0);
    assert_int_equal(fill(8 * KIB, 4 * KIB, 1), 0);
    n = fake_count(disk, FAKE_ZERO);
    assert_int_equal(fake_count(disk, FAKE_WRITE), 2 - n);
    assert_int_equal(blk_close(blk), 0);
    blk = NULL;
    return n;
}

static void test_detect_zeroes_makes_zeroes_of_data(void **state)
{
    assert_int_equal(zero_requests("off"), 0);
    assert_int_equal(zero_requests("on"), 1);
    assert_int_equal(zero_requests("unmap,discard=unmap"), 1);
    open_fails("driver=raw,file.driver=fake,file.name=d,detect-zeroes=unmap,"
               "discard=ignore", "discard=unmap");
}

/* ---- options ---- */

static void test_options_are_accepted_or_named(void **state)
{
    g_autofree char *path = test_path("f");
    g_autofree char *file = g_strconcat("driver=raw,file.driver=file,"
                                        "file.filename=", path, NULL);
    static const char *const good[] = {
        "file.aio=threads", "file.aio=io_uring", "auto-read-only=on",
        "node-name=n", "file.locking=off",
    };
    g_autofree char *bad = NULL;

    assert_true(g_file_set_contents(path, "x", 1, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *all = g_strconcat(file, ",", good[i], NULL);

        open_with(all);
        assert_int_equal(blk_close(blk), 0);
        blk = NULL;
    }
    bad = g_strconcat(file, ",file.aio=native", NULL);
    open_fails(bad, "cache.direct=on");
    open_fails("driver=throttle,throttle-group=g,file.driver=null-co",
               "throttle");
    open_fails("driver=null-co,read-zeros=on", "read-zeroes");
}

static void test_json_null_means_no_backing_file_only(void **state)
{
    BdrvOptions *o = NULL;

    assert_int_equal(bdrv_options_parse_json(
        &o, "{\"backing\":{\"backing\":null}}", NULL), 0);
    assert_string_equal(bdrv_options_get(o, "backing.backing"), "null");
    bdrv_options_free(o);
    assert_int_equal(bdrv_options_parse_json(&o, "{\"filename\":null}", NULL),
                     -EINVAL);
}

#define FILTER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static const struct CMUnitTest tests[] = {
    FILTER_TEST(test_null_holds_nothing),
    FILTER_TEST(test_null_takes_the_time_it_was_told),
    FILTER_TEST(test_copy_on_read_driver_copies_what_is_read),
    FILTER_TEST(test_copy_on_read_keeps_what_was_written),
    FILTER_TEST(test_a_filter_shows_the_chain_below_it),
    FILTER_TEST(test_preallocate_grows_in_steps_and_cuts_off),
    FILTER_TEST(test_preallocate_checks_its_options),
    FILTER_TEST(test_blkverify_writes_both_and_tells_when_they_differ),
    FILTER_TEST(test_blkverify_needs_both),
    FILTER_TEST(test_blkdebug_splits_and_rounds_as_told),
    FILTER_TEST(test_blkdebug_refuses_limits_that_cannot_be),
    FILTER_TEST(test_detect_zeroes_makes_zeroes_of_data),
    FILTER_TEST(test_options_are_accepted_or_named),
    FILTER_TEST(test_json_null_means_no_backing_file_only),
};

FIRN_TEST_MAIN(tests)
