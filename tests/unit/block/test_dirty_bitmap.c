/* SPDX-License-Identifier: MIT */
/*
 * Dirty bitmaps of a node on a fake disk: what is recorded, what the
 * operations do to it, what is refused. Persistent ones are in
 * qcow2/test_qcow2_bitmap.c.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

#define MIB (1024ULL * 1024)
#define G   4096ULL         /* granularity of most bitmaps here */

typedef struct Disk {
    FakeDisk *fake;
    BlockBackend *blk;
} Disk;

static BlockBackend *open_disk(const char *filename, const char *options)
{
    BdrvOptions *o = NULL;
    BlockBackend *blk = NULL;

    assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    assert_int_equal(blk_open(test_ctx, filename, o,
                              BDRV_O_RDWR | BDRV_O_UNMAP, &blk, NULL), 0);
    return blk;
}

static Disk disk_new(const char *name, uint64_t bytes)
{
    g_autofree char *filename = g_strdup_printf("fake:%s", name);
    Disk d = { .fake = fake_disk_new(name, bytes) };

    d.fake->sync = true;
    d.blk = open_disk(filename, "driver=raw");
    return d;
}

static void disk_free(Disk d)
{
    assert_int_equal(blk_close(d.blk), 0);
    fake_disk_free(d.fake);
}

static void add(BlockBackend *blk, const char *name, unsigned flags)
{
    assert_int_equal(blk_bitmap_add(blk, name, G, flags, NULL), 0);
}

static uint64_t count(BlockBackend *blk, const char *name)
{
    uint64_t bytes = UINT64_MAX;

    assert_int_equal(blk_bitmap_count(blk, name, &bytes, NULL), 0);
    return bytes;
}

/* The next area at or after @from is [@offset, + @bytes). */
static void expect_next(BlockBackend *blk, const char *name, uint64_t from,
                        uint64_t offset, uint64_t bytes)
{
    uint64_t o, n;

    assert_int_equal(blk_bitmap_next_dirty(blk, name, from, &o, &n, NULL), 0);
    assert_int_equal(n, bytes);
    if (bytes) {
        assert_int_equal(o, offset);
    }
}

static void write_at(BlockBackend *blk, uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc0(bytes);

    assert_int_equal(blk_pwrite(blk, offset, bytes, buf), 0);
}

/* ---- recording ---- */

static void test_writes_zero_writes_and_discards_are_recorded(void **state)
{
    Disk d = disk_new("a", MIB);

    add(d.blk, "b", 0);
    expect_next(d.blk, "b", 0, 0, 0);

    write_at(d.blk, 2 * G + 100, 1);
    assert_int_equal(blk_pwrite_zeroes(d.blk, 10 * G, G + 1, 0), 0);
    assert_int_equal(blk_pdiscard(d.blk, 20 * G, 3 * G), 0);

    expect_next(d.blk, "b", 0, 2 * G, G);
    expect_next(d.blk, "b", 2 * G + 100, 2 * G + 100, G - 100);
    expect_next(d.blk, "b", 3 * G, 10 * G, 2 * G);
    expect_next(d.blk, "b", 12 * G, 20 * G, 3 * G);
    expect_next(d.blk, "b", 23 * G, 0, 0);
    expect_next(d.blk, "b", 2 * MIB, 0, 0);
    assert_int_equal(count(d.blk, "b"), 6 * G);
    disk_free(d);
}

static void test_failed_write_is_recorded(void **state)
{
    Disk d = disk_new("a", MIB);
    uint8_t buf[512] = { 0 };

    add(d.blk, "b", 0);
    fake_fail_nth(d.fake, FAKE_WRITE, 1, EIO, false);
    assert_int_equal(blk_pwrite(d.blk, 5 * G, 512, buf), -EIO);

    expect_next(d.blk, "b", 0, 5 * G, G);
    disk_free(d);
}

static void test_reads_are_not_recorded(void **state)
{
    Disk d = disk_new("a", MIB);
    uint8_t buf[512];

    add(d.blk, "b", 0);
    assert_int_equal(blk_pread(d.blk, 0, 512, buf), 0);
    assert_int_equal(blk_flush(d.blk), 0);
    assert_int_equal(blk_pwrite(d.blk, MIB, 1, buf), -EIO);
    assert_int_equal(count(d.blk, "b"), 0);
    disk_free(d);
}

static void test_disabled_bitmap_records_nothing(void **state)
{
    Disk d = disk_new("a", MIB);

    add(d.blk, "b", BDRV_BITMAP_DISABLED);
    write_at(d.blk, 0, 1);
    assert_int_equal(count(d.blk, "b"), 0);
    assert_int_equal(blk_bitmap_enable(d.blk, "b", NULL), 0);
    write_at(d.blk, G, 1);
    assert_int_equal(blk_bitmap_disable(d.blk, "b", NULL), 0);
    write_at(d.blk, 2 * G, 1);
    assert_int_equal(count(d.blk, "b"), G);
    expect_next(d.blk, "b", 0, G, G);
    disk_free(d);
}

static void test_filter_shows_the_bitmaps_of_what_it_filters(void **state)
{
    FakeDisk *fake = fake_disk_new("a", MIB);
    BlockBackend *blk = open_disk(NULL, "driver=blkdebug,image.driver=raw,"
                                        "image.file.driver=fake,"
                                        "image.file.name=a");

    add(blk, "b", 0);
    write_at(blk, 0, 1);
    assert_int_equal(count(blk, "b"), G);
    assert_null(blk_bs(blk)->dirty_bitmaps);
    assert_int_equal(blk_close(blk), 0);
    fake_disk_free(fake);
}

/* ---- resize ---- */

static void test_grown_area_is_marked_where_it_is_recorded(void **state)
{
    Disk d = disk_new("a", MIB);

    add(d.blk, "on", 0);
    add(d.blk, "off", BDRV_BITMAP_DISABLED);
    assert_int_equal(blk_truncate(d.blk, MIB + G + 512,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    expect_next(d.blk, "on", 0, MIB, G + 512);
    assert_int_equal(count(d.blk, "off"), 0);

    assert_int_equal(blk_bitmap_clear(d.blk, "on", NULL), 0);
    assert_int_equal(blk_truncate(d.blk, MIB + G + 1024,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    expect_next(d.blk, "on", 0, MIB + G, 1024);
    disk_free(d);
}

static void test_area_that_was_cut_off_and_came_back_is_marked(void **state)
{
    Disk d = disk_new("a", MIB);

    add(d.blk, "b", 0);
    assert_int_equal(blk_truncate(d.blk, MIB / 2,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(count(d.blk, "b"), 0);
    assert_int_equal(blk_truncate(d.blk, MIB,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    expect_next(d.blk, "b", 0, MIB / 2, MIB / 2);
    disk_free(d);
}

static void test_growth_beyond_what_a_bitmap_covers_is_refused(void **state)
{
    Disk d = disk_new("a", MIB);
    g_autoptr(GError) error = NULL;

    assert_int_equal(blk_bitmap_add(d.blk, "b", 512, 0, NULL), 0);
    assert_int_equal(blk_truncate(d.blk, (512ULL << 32) + 512,
                                  BDRV_PREALLOC_OFF, &error),
                     -EFBIG);
    assert_non_null(strstr(error->message, "'b'"));
    assert_int_equal(blk_getlength(d.blk), MIB);
    disk_free(d);
}

/* ---- operations ---- */

static void test_reset_unmarks_whole_granules_only(void **state)
{
    Disk d = disk_new("a", 8 * G + 512);

    add(d.blk, "b", BDRV_BITMAP_DISABLED);
    assert_int_equal(blk_bitmap_set(d.blk, "b", 0, 8 * G + 512, NULL), 0);
    assert_int_equal(count(d.blk, "b"), 9 * G);
    assert_int_equal(blk_bitmap_reset(d.blk, "b", 1, 3 * G, NULL), 0);
    expect_next(d.blk, "b", 0, 0, G);
    expect_next(d.blk, "b", G, 3 * G, 5 * G + 512);
    assert_int_equal(blk_bitmap_reset(d.blk, "b", 8 * G, 512, NULL), 0);
    expect_next(d.blk, "b", G, 3 * G, 5 * G);
    assert_int_equal(blk_bitmap_reset(d.blk, "b", G + 1, 2, NULL), 0);
    assert_int_equal(count(d.blk, "b"), 6 * G);
    assert_int_equal(blk_bitmap_set(d.blk, "b", 8 * G, G, NULL), -EINVAL);
    assert_int_equal(blk_bitmap_reset(d.blk, "b", 1, UINT64_MAX, NULL),
                     -EINVAL);
    disk_free(d);
}

static void test_merge_between_granularities_and_disks(void **state)
{
    Disk d = disk_new("a", MIB), e = disk_new("e", MIB);

    assert_int_equal(blk_bitmap_add(d.blk, "fine", 512, 0, NULL), 0);
    assert_int_equal(blk_bitmap_add(e.blk, "coarse", 64 * 1024, 0, NULL), 0);
    write_at(d.blk, 512 * 3, 512);
    write_at(e.blk, 70000, 1);

    assert_int_equal(blk_bitmap_merge(e.blk, "coarse", d.blk, "fine", NULL),
                     0);
    expect_next(e.blk, "coarse", 0, 0, 128 * 1024);
    assert_int_equal(blk_bitmap_merge(d.blk, "fine", e.blk, "coarse", NULL),
                     0);
    expect_next(d.blk, "fine", 0, 0, 128 * 1024);
    assert_int_equal(blk_bitmap_merge(d.blk, "fine", d.blk, "fine", NULL),
                     0);
    assert_int_equal(count(d.blk, "fine"), 128 * 1024);
    disk_free(d);
    disk_free(e);
}

static void test_merge_of_other_size_or_nothing_is_refused(void **state)
{
    Disk d = disk_new("a", MIB), e = disk_new("e", MIB + 512);

    add(d.blk, "b", 0);
    add(e.blk, "b", 0);
    write_at(e.blk, 0, 1);
    assert_int_equal(blk_bitmap_merge(d.blk, "b", e.blk, "b", NULL),
                     -EINVAL);
    assert_int_equal(blk_bitmap_merge(d.blk, "b", e.blk, "x", NULL),
                     -ENOENT);
    assert_int_equal(blk_bitmap_merge(d.blk, "x", d.blk, "b", NULL),
                     -ENOENT);
    assert_int_equal(count(d.blk, "b"), 0);
    disk_free(d);
    disk_free(e);
}

static void test_list_names_every_bitmap_in_order(void **state)
{
    Disk d = disk_new("a", MIB);
    g_autoptr(GPtrArray) list = NULL;
    const BdrvBitmapInfo *info;

    add(d.blk, "one", 0);
    assert_int_equal(blk_bitmap_add(d.blk, "two", 0, BDRV_BITMAP_DISABLED,
                                    NULL), 0);
    add(d.blk, "three", 0);
    assert_int_equal(blk_bitmap_remove(d.blk, "one", NULL), 0);
    assert_int_equal(blk_bitmap_list(d.blk, &list, NULL), 0);
    assert_int_equal(list->len, 2);
    info = g_ptr_array_index(list, 0);
    assert_string_equal(info->name, "two");
    assert_int_equal(info->granularity, 65536);
    assert_false(info->enabled || info->persistent || info->inconsistent);
    info = g_ptr_array_index(list, 1);
    assert_string_equal(info->name, "three");
    assert_true(info->enabled);
    disk_free(d);
}

static void test_impossible_bitmaps_are_refused(void **state)
{
    Disk d = disk_new("a", MIB);
    g_autofree char *longest = g_strnfill(1023, 'x');
    g_autofree char *longer = g_strnfill(1024, 'x');
    static const uint64_t bad[] = { 1, 256, 513, 4097, 1ULL << 32 };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_int_equal(blk_bitmap_add(d.blk, "b", bad[i], 0, NULL),
                         -EINVAL);
    }
    assert_int_equal(blk_bitmap_add(d.blk, "", G, 0, NULL), -EINVAL);
    assert_int_equal(blk_bitmap_add(d.blk, longer, G, 0, NULL), -EINVAL);
    assert_int_equal(blk_bitmap_add(d.blk, longest, 1ULL << 31, 0, NULL), 0);
    assert_int_equal(blk_bitmap_add(d.blk, longest, G, 0, NULL), -EEXIST);
    assert_int_equal(blk_bitmap_add(d.blk, "p", G, BDRV_BITMAP_PERSISTENT,
                                    NULL), -ENOTSUP);
    assert_int_equal(blk_bitmap_remove(d.blk, "p", NULL), -ENOENT);
    disk_free(d);
}

/* ---- order ---- */

static void done(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

/* A reader of the bitmap must not miss a write that was acknowledged. */
static void test_bit_is_there_when_the_write_is_reported(void **state)
{
    Disk d = disk_new("a", MIB);
    uint8_t buf[512] = { 0 };
    QEMUIOVector qiov;
    int ret = 1;

    add(d.blk, "b", 0);
    qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
    fake_hold(d.fake, FAKE_WRITE, 0, 0);
    blk_aio_pwritev(d.blk, 0, &qiov, 0, done, &ret);
    TEST_WAIT_UNTIL(fake_nb_held(d.fake) == 1);
    assert_int_equal(count(d.blk, "b"), 0);
    fake_release_all(d.fake);
    TEST_WAIT_UNTIL(ret != 1);
    assert_int_equal(ret, 0);
    assert_int_equal(count(d.blk, "b"), G);
    disk_free(d);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_writes_zero_writes_and_discards_are_recorded),
        TEST(test_failed_write_is_recorded),
        TEST(test_reads_are_not_recorded),
        TEST(test_disabled_bitmap_records_nothing),
        TEST(test_filter_shows_the_bitmaps_of_what_it_filters),
        TEST(test_grown_area_is_marked_where_it_is_recorded),
        TEST(test_area_that_was_cut_off_and_came_back_is_marked),
        TEST(test_growth_beyond_what_a_bitmap_covers_is_refused),
        TEST(test_reset_unmarks_whole_granules_only),
        TEST(test_merge_between_granularities_and_disks),
        TEST(test_merge_of_other_size_or_nothing_is_refused),
        TEST(test_list_names_every_bitmap_in_order),
        TEST(test_impossible_bitmaps_are_refused),
        TEST(test_bit_is_there_when_the_write_is_reported),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
