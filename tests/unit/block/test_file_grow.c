/* SPDX-License-Identifier: MIT */
/* The file driver allocates ahead of O_DIRECT writes, and gives it back. */
#include "tests/support/test_main.h"

#include <string.h>
#include <sys/stat.h>

#include "block/block.h"
#include "tests/support/helpers.h"

#define WRITE_BYTES (1024 * 1024)

static off_t length_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static BlockBackend *open_new_image(const char *path, unsigned flags)
{
    BdrvOptions *opts = bdrv_options_new();
    BlockBackend *blk = NULL;

    bdrv_options_set(opts, "size", "64M");
    assert_int_equal(blk_create(test_ctx, "qcow2", path, opts, NULL), 0);
    assert_int_equal(blk_open(test_ctx, path, NULL, BDRV_O_RDWR | flags,
                              &blk, NULL), 0);
    return blk;
}

static void write_and_close(BlockBackend *blk, const char *path,
                            off_t *ret_while_open)
{
    uint8_t *buf = blk_try_memalign(WRITE_BYTES);

    test_fill(buf, WRITE_BYTES, 5);
    assert_int_equal(blk_pwrite(blk, 0, WRITE_BYTES, buf), 0);
    assert_int_equal(blk_pwrite(blk, WRITE_BYTES, WRITE_BYTES, buf), 0);
    *ret_while_open = length_of(path);
    memset(buf, 0, WRITE_BYTES);
    assert_int_equal(blk_pread(blk, WRITE_BYTES, WRITE_BYTES, buf), 0);
    assert_true(test_matches(buf, WRITE_BYTES, 5));
    assert_int_equal(blk_close(blk), 0);
    free(buf);
}

static void test_direct_writes_allocate_ahead_until_close(void **state)
{
    g_autofree char *path = test_path("direct.qcow2");
    BlockBackend *blk = open_new_image(path, BDRV_O_NOCACHE);
    off_t open_length;

    write_and_close(blk, path, &open_length);

    assert_true(open_length >= 4 * WRITE_BYTES);
    assert_true(length_of(path) < 3 * WRITE_BYTES);
    if (test_have_program("qemu-img")) {
        assert_int_equal(test_run(NULL, "qemu-img check -q %s", path), 0);
    }
}

static void test_buffered_writes_do_not_allocate_ahead(void **state)
{
    g_autofree char *path = test_path("buffered.qcow2");
    BlockBackend *blk = open_new_image(path, 0);
    off_t open_length;

    write_and_close(blk, path, &open_length);

    assert_true(open_length < 3 * WRITE_BYTES);
    assert_true(length_of(path) < 3 * WRITE_BYTES);
}

#define GROW_TEST(name) \
    cmocka_unit_test_setup_teardown(name, test_ctx_setup, test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    GROW_TEST(test_direct_writes_allocate_ahead_until_close),
    GROW_TEST(test_buffered_writes_do_not_allocate_ahead),
};

FIRN_TEST_MAIN(tests)
