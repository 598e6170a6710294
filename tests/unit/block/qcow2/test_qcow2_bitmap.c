/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps: what is in the image when, and what a program that does
 * not close leaves. Power cuts and hostile images are in
 * test_qcow2_bitmap_faults.c.
 */
#include "bitmap_fixture.h"

/* ---- life ---- */

static void test_bitmaps_survive_closing(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = q_open("fake:b", NULL, RW);
    g_autoptr(GPtrArray) list = NULL;
    const BdrvBitmapInfo *info;

    b_add(blk, "on", 65536, 0);
    b_add(blk, "off", 512, BDRV_BITMAP_DISABLED);
    assert_int_equal(blk_bitmap_add(blk, "volatile", 0, 0, NULL), 0);
    b_write(blk, 3 << 20, 1);
    assert_int_equal(blk_bitmap_set(blk, "off", 5120, 512, NULL), 0);
    q_close(blk);
    b_check(d, false);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_int_equal(list->len, 2);
    info = g_ptr_array_index(list, 0);
    assert_string_equal(info->name, "on");
    assert_int_equal(info->granularity, 65536);
    assert_true(info->enabled && info->persistent && !info->inconsistent);
    info = g_ptr_array_index(list, 1);
    assert_string_equal(info->name, "off");
    assert_false(info->enabled || info->inconsistent);
    b_expect(blk, "on", 3 << 20, 65536);
    b_expect(blk, "off", 5120, 512);
    q_close(blk);
    b_check(d, false);
    fake_disk_free(d);
}

static void test_a_new_bitmap_has_the_bytes_of_the_vector(void **state)
{
    static const uint8_t entry[] = {
        0, 0, 0, 1, 0, 0, 0, 2, 1, 0x10, 0, 2, 0, 0, 0, 0,
        'b', '0', 0, 0, 0, 0, 0, 0,
    };
    FakeDisk *d = b_disk("size=1G");
    BlockBackend *blk = q_open("fake:b", NULL, RW);
    uint8_t dir[64], table[8], data[1200];
    Extension e;

    b_add(blk, "b0", 65536, 0);
    b_add(blk, "b1", 65536, 0);
    b_write(blk, 0, 512);
    b_write(blk, 512 << 20, 512);
    q_close(blk);

    e = b_extension(d);
    assert_int_equal(e.nb, 2);
    assert_int_equal(e.bytes, 64);
    fake_disk_peek(d, e.offset, dir, sizeof(dir));
    assert_memory_equal(dir + 8, entry, sizeof(entry));
    fake_disk_peek(d, be64_get(dir), table, sizeof(table));
    fake_disk_peek(d, be64_get(table), data, sizeof(data));
    for (unsigned i = 0; i < sizeof(data); i++) {
        assert_int_equal(data[i], i == 0 || i == 1024 ? 1 : 0);
    }
    assert_int_equal(b_autoclear(d), 1);
    fake_disk_free(d);
}

static void test_writes_of_the_next_session_are_added(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);

    for (unsigned i = 1; i < 5; i++) {
        b_write(blk, i * 8192, 1);
        q_close(blk);
        b_check(d, false);
        blk = q_open("fake:b", NULL, RW);
    }
    assert_int_equal(b_count(blk, "b"), 4 * 4096);
    for (unsigned i = 1; i < 5; i++) {
        b_expect_next(blk, "b", i * 8192 - 4096, i * 8192, 4096);
    }
    q_close(blk);
    fake_disk_free(d);
}

static void test_clear_disable_merge_and_remove_are_stored(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = q_open("fake:b", NULL, RW);

    for (unsigned i = 0; i < 4; i++) {
        static const char *const names[] = { "a", "b", "c", "d" };

        b_add(blk, names[i], 4096, 0);
    }
    b_write(blk, 0, 4096);
    q_close(blk);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_clear(blk, "a", NULL), 0);
    assert_int_equal(blk_bitmap_disable(blk, "b", NULL), 0);
    assert_int_equal(blk_bitmap_remove(blk, "c", NULL), 0);
    b_write(blk, 8192, 4096);
    assert_int_equal(blk_bitmap_merge(blk, "b", blk, "a", NULL), 0);
    assert_int_equal(blk_bitmap_reset(blk, "d", 0, 4096, NULL), 0);
    q_close(blk);
    b_check(d, false);

    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "a", 8192, 4096);
    b_expect_next(blk, "b", 0, 0, 4096);
    b_expect_next(blk, "b", 4096, 8192, 4096);
    b_expect(blk, "d", 8192, 4096);
    assert_int_equal(blk_bitmap_clear(blk, "c", NULL), -ENOENT);
    q_close(blk);
    fake_disk_free(d);
}

static void test_the_last_one_takes_the_extension_with_it(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);

    b_write(blk, 0, 1);
    q_close(blk);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_remove(blk, "b", NULL), 0);
    q_close(blk);
    assert_int_equal(b_extension(d).nb, 0);
    assert_int_equal(b_autoclear(d), 0);
    b_check(d, false);
    fake_disk_free(d);
}

static void test_merge_from_another_image(void **state)
{
    FakeDisk *d = b_disk("size=8M"), *other = fake_disk_new("o", 0);
    BlockBackend *blk = b_with_one(d, "b", 4096, 0), *src;

    q_create("fake:o", "size=8M,cluster_size=4k");
    src = q_open("fake:o", NULL, RW);
    b_add(src, "s", 512, 0);
    b_write(src, 4096 * 7, 1);
    q_close(src);
    src = q_open("fake:o", NULL, 0);
    assert_int_equal(blk_bitmap_merge(blk, "b", src, "s", NULL), 0);
    assert_int_equal(blk_bitmap_merge(src, "s", blk, "b", NULL), -EROFS);
    q_close(src);
    q_close(blk);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "b", 4096 * 7, 4096);
    q_close(blk);
    fake_disk_free(d);
    fake_disk_free(other);
}

/* ---- reading and recording at once ---- */

static int coroutine_fn count_entry(void *opaque)
{
    uint64_t *ret = opaque;

    return blk_co_bitmap_count((BlockBackend *)(uintptr_t)ret[1], "b", ret,
                               NULL);
}

static void coroutine_fn count_co(void *opaque)
{
    uint64_t *ret = opaque;

    ret[2] = count_entry(opaque) == 0;
}

static void test_writes_while_bits_are_read_are_kept(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);
    uint64_t ret[3] = { 0 }, bits;

    b_write(blk, 0, 1);
    b_write(blk, 1 << 20, 1);
    q_close(blk);
    b_entries(d, 0, &bits, 1);
    blk = q_open("fake:b", NULL, RW);
    b_write(blk, 8192, 1);

    ret[1] = (uintptr_t)blk;
    fake_hold(d, FAKE_READ, bits, 1);
    test_spawn(count_co, ret);
    TEST_WAIT_UNTIL(fake_nb_held(d) == 1);
    b_write(blk, 2 << 20, 1);
    assert_false(ret[2]);
    fake_release_all(d);
    TEST_WAIT_UNTIL(ret[2]);

    assert_int_equal(ret[0], 4 * 4096);
    q_close(blk);
    blk = q_open("fake:b", NULL, 0);
    assert_int_equal(b_count(blk, "b"), 4 * 4096);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- what is on disk while it is open ---- */

static void test_in_use_is_durable_before_anything_else(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    static const struct {
        FakeType type;
        uint64_t bytes;
    } steps[] = {
        { FAKE_WRITE, 512 }, { FAKE_FLUSH, 0 },
        { FAKE_WRITE, 64 }, { FAKE_FLUSH, 0 },
        { FAKE_WRITE, 512 }, { FAKE_FLUSH, 0 },
    };
    BlockBackend *blk = q_open("fake:b", NULL, RW);
    unsigned k = 0;

    b_add(blk, "a", 4096, 0);
    b_add(blk, "b", 4096, BDRV_BITMAP_DISABLED);
    q_close(blk);
    assert_int_equal(b_flags(d, 0), 2);
    assert_int_equal(b_flags(d, 1), 0);
    fake_log_clear(d);

    blk = q_open("fake:b", NULL, RW);
    for (guint i = 0; i < d->log->len; i++) {
        const FakeRequest *r = fake_request(d, i);

        if (r->type != FAKE_READ) {
            assert_true(k < G_N_ELEMENTS(steps));
            assert_int_equal(r->type, steps[k].type);
            assert_int_equal(r->bytes, steps[k].bytes);
            k++;
        }
    }
    assert_int_equal(k, G_N_ELEMENTS(steps));
    assert_int_equal(b_flags(d, 0), 3);
    assert_int_equal(b_flags(d, 1), 1);
    assert_int_equal(b_autoclear(d), 1);
    q_close(blk);
    assert_int_equal(b_flags(d, 0), 2);
    assert_int_equal(b_flags(d, 1), 0);
    fake_disk_free(d);
}

static void test_reading_changes_nothing_and_reads_no_bits(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 512, 0);
    uint64_t table;

    b_write(blk, 0, 1);
    q_close(blk);
    table = b_table(d, 0);
    fake_log_clear(d);
    blk = q_open("fake:b", NULL, 0);
    assert_int_equal(fake_find(d, 0, FAKE_READ, table, 8), -1);
    b_expect(blk, "b", 0, 512);
    assert_int_equal(blk_bitmap_clear(blk, "b", NULL), -EROFS);
    assert_int_equal(blk_bitmap_remove(blk, "b", NULL), -EROFS);
    assert_int_equal(blk_bitmap_enable(blk, "b", NULL), -EROFS);
    assert_int_equal(blk_bitmap_add(blk, "c", 0, BDRV_BITMAP_PERSISTENT,
                                    NULL), -EROFS);
    q_close(blk);
    assert_int_equal(fake_count(d, FAKE_WRITE | FAKE_ZERO), 0);
    fake_disk_free(d);
}

static void test_killed_program_leaves_inconsistent_bitmaps(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t n;

    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    b_write(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    b_kill(d, blk);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_true(((BdrvBitmapInfo *)list->pdata[0])->inconsistent);
    assert_int_equal(blk_bitmap_count(blk, "b", &n, NULL), -EINVAL);
    assert_int_equal(blk_bitmap_clear(blk, "b", NULL), -EINVAL);
    assert_int_equal(blk_bitmap_enable(blk, "b", NULL), -EINVAL);
    assert_int_equal(blk_bitmap_merge(blk, "b", blk, "b", NULL), -EINVAL);
    assert_int_equal(blk_truncate(blk, 16 << 20, BDRV_PREALLOC_OFF, &error),
                     -EBUSY);
    assert_non_null(strstr(error->message, "'b' is inconsistent"));
    assert_int_equal(q_snap_goto(blk, "s"), -EBUSY);
    b_write(blk, 8192, 1);
    q_close(blk);
    assert_int_equal(b_flags(d, 0) & 1, 1);
    b_check(d, true);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_remove(blk, "b", NULL), 0);
    assert_int_equal(blk_truncate(blk, 16 << 20, BDRV_PREALLOC_OFF, NULL),
                     0);
    q_close(blk);
    assert_int_equal(b_extension(d).nb, 0);
    fake_disk_free(d);
}

/* ---- autoclear bit ---- */

static void test_bitmaps_of_a_writer_that_did_not_know_are_dropped(
    void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);
    g_autoptr(GPtrArray) list = NULL;

    b_write(blk, 0, 1);
    q_close(blk);
    b_set_autoclear(d, 0);

    blk = q_open("fake:b", NULL, 0);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_int_equal(list->len, 0);
    q_close(blk);
    assert_int_equal(b_extension(d).nb, 1);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(b_extension(d).nb, 0);
    b_add(blk, "b", 4096, 0);
    b_expect(blk, "b", 0, 0);
    q_close(blk);
    b_check(d, true);
    fake_disk_free(d);
}

static void test_autoclear_bit_without_bitmaps_is_cleared(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk;

    b_set_autoclear(d, 1);
    blk = q_open("fake:b", NULL, 0);
    q_close(blk);
    assert_int_equal(b_autoclear(d), 1);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(b_autoclear(d), 0);
    q_close(blk);
    b_check(d, false);
    fake_disk_free(d);
}

static void test_a_check_leaves_bitmaps_alone(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);
    g_autoptr(GPtrArray) list = NULL;

    b_write(blk, 0, 1);
    q_close(blk);
    blk = q_open("fake:b", NULL, RW | BDRV_O_CHECK);
    assert_int_equal(b_flags(d, 0), 2);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), -EINVAL);
    q_close(blk);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "b", 0, 4096);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- sizes ---- */

static void test_stored_bits_follow_a_resize(void **state)
{
    static const uint64_t sizes[] = { 9 << 20, 6 << 20, 48 << 20, 4 << 20 };
    FakeDisk *d = b_disk("size=8M,cluster_size=512");
    BlockBackend *blk = b_with_one(d, "b", 512, BDRV_BITMAP_DISABLED);
    uint64_t end = 8 << 20;

    assert_int_equal(blk_bitmap_set(blk, "b", 512, 512, NULL), 0);
    assert_int_equal(blk_bitmap_set(blk, "b", 5 << 20, 3 << 20, NULL), 0);
    q_close(blk);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        blk = q_open("fake:b", NULL, RW);
        assert_int_equal(blk_truncate(blk, sizes[i], BDRV_PREALLOC_OFF, NULL),
                         0);
        end = MIN(end, sizes[i]);
        q_close(blk);
        b_check(d, false);
        blk = q_open("fake:b", NULL, 0);
        b_expect_next(blk, "b", 0, 512, 512);
        if (end > 5 << 20) {
            b_expect_next(blk, "b", 1024, 5 << 20, end - (5 << 20));
            b_expect_next(blk, "b", end, 0, 0);
        } else {
            b_expect_next(blk, "b", 1024, 0, 0);
        }
        q_close(blk);
    }
    fake_disk_free(d);
}

static void test_area_that_came_back_is_not_read_from_the_image(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 512, BDRV_BITMAP_DISABLED);

    assert_int_equal(blk_bitmap_set(blk, "b", 0, 8 << 20, NULL), 0);
    q_close(blk);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_truncate(blk, 1 << 20, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(blk_truncate(blk, 8 << 20, BDRV_PREALLOC_OFF, NULL), 0);
    b_expect(blk, "b", 0, 1 << 20);
    q_close(blk);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "b", 0, 1 << 20);
    q_close(blk);
    fake_disk_free(d);
}

static void test_only_clusters_with_new_marks_are_rewritten(void **state)
{
    /* 512-byte clusters of bits, each for 2 MiB of the disk. */
    FakeDisk *d = b_disk("size=64M,cluster_size=512");
    BlockBackend *blk = b_with_one(d, "b", 512, 0);
    uint64_t old[32], new[32];

    for (unsigned i = 0; i < 32; i += 2) {
        assert_int_equal(blk_bitmap_set(blk, "b", (uint64_t)i << 21, 512,
                                        NULL), 0);
    }
    assert_int_equal(blk_bitmap_set(blk, "b", 1 << 21, 1 << 21, NULL), 0);
    q_close(blk);
    b_entries(d, 0, old, 32);
    assert_int_equal(old[1], 1); /* all ones */
    assert_int_equal(old[3], 0);

    blk = q_open("fake:b", NULL, RW);
    b_write(blk, (4 << 21) + 1024, 1);
    q_close(blk);
    b_check(d, false);
    b_entries(d, 0, new, 32);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(old[i] == new[i], i != 4);
    }
    blk = q_open("fake:b", NULL, 0);
    b_expect_next(blk, "b", 4 << 21, 4 << 21, 512);
    b_expect_next(blk, "b", (4 << 21) + 512, (4 << 21) + 1024, 512);
    b_expect_next(blk, "b", 1 << 21, 1 << 21, (1 << 21) + 512);
    q_close(blk);
    fake_disk_free(d);
}

static void test_an_image_that_is_made_empty_is_marked(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);

    b_write(blk, 0, 1 << 20);
    assert_int_equal(blk_bitmap_clear(blk, "b", NULL), 0);
    assert_int_equal(blk_make_empty(blk, NULL), 0);
    b_expect(blk, "b", 0, 8 << 20);
    q_close(blk);
    b_check(d, false);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "b", 0, 8 << 20);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- snapshots ---- */

static void test_going_to_a_snapshot_marks_the_whole_disk(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "on", 4096, 0);

    b_add(blk, "off", 4096, BDRV_BITMAP_DISABLED);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_truncate(blk, 16 << 20, BDRV_PREALLOC_OFF, NULL),
                     0);
    assert_int_equal(blk_bitmap_clear(blk, "on", NULL), 0);
    assert_int_equal(q_snap_goto(blk, "none"), -ENOENT);
    b_expect(blk, "on", 0, 0);
    assert_int_equal(q_snap_goto(blk, "s"), 0);
    b_expect(blk, "on", 0, 8 << 20);
    b_expect(blk, "off", 0, 0);
    q_close(blk);
    b_check(d, false);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "on", 0, 8 << 20);
    q_close(blk);
    fake_disk_free(d);
}

static void test_vmstate_is_not_recorded(void **state)
{
    FakeDisk *d = b_disk("size=8M");
    BlockBackend *blk = b_with_one(d, "b", 4096, 0);
    uint8_t vm[5000] = { 1 };

    assert_int_equal(q_vm_save(blk, 0, vm, sizeof(vm)), 0);
    assert_int_equal(q_snap_create(blk, "s", sizeof(vm)), 0);
    assert_int_equal(q_snap_delete(blk, "s"), 0);
    b_expect(blk, "b", 0, 0);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- limits ---- */

static void test_images_that_cannot_keep_bitmaps_say_so(void **state)
{
    g_autofree char *name = g_strnfill(380, 'x');
    g_autofree char *options =
        g_strdup_printf("size=1M,cluster_size=512,backing_file=%s", name);
    FakeDisk *d = b_disk("size=8M,compat=0.10");
    BlockBackend *blk = q_open("fake:b", NULL, RW);

    assert_int_equal(blk_bitmap_add(blk, "b", 0, BDRV_BITMAP_PERSISTENT,
                                    NULL), -ENOTSUP);
    assert_int_equal(blk_bitmap_add(blk, "b", 0, 0, NULL), 0);
    q_close(blk);

    fake_disk_free(d);
    d = b_disk(options);
    blk = q_open("fake:b", NULL, RW | BDRV_O_NO_BACKING);
    assert_int_equal(blk_bitmap_add(blk, "b", 0, BDRV_BITMAP_PERSISTENT,
                                    NULL), -ENOSPC);
    q_close(blk);
    fake_disk_free(d);
}

/* Every bitmap with its name and table, none read. */
static void test_the_most_bitmaps_an_image_can_have(void **state)
{
    FakeDisk *d = b_disk("size=1M,cluster_size=512");
    BlockBackend *blk;
    g_autoptr(GPtrArray) list = NULL;
    size_t before, after;

    b_forge_many(d, 65535, 500);
    before = mallinfo2().uordblks;
    blk = q_open("fake:b", NULL, 0);
    after = mallinfo2().uordblks;
    assert_true(after - before < 64 << 20);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_int_equal(list->len, 65535);
    q_close(blk);

    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_add(blk, "one more", 0,
                                    BDRV_BITMAP_PERSISTENT, NULL), -EFBIG);
    b_kill(d, blk);
    assert_int_equal(b_flags(d, 65534), 1);
    fake_disk_free(d);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bitmaps_survive_closing),
        TEST(test_a_new_bitmap_has_the_bytes_of_the_vector),
        TEST(test_writes_of_the_next_session_are_added),
        TEST(test_clear_disable_merge_and_remove_are_stored),
        TEST(test_the_last_one_takes_the_extension_with_it),
        TEST(test_merge_from_another_image),
        TEST(test_writes_while_bits_are_read_are_kept),
        TEST(test_in_use_is_durable_before_anything_else),
        TEST(test_reading_changes_nothing_and_reads_no_bits),
        TEST(test_killed_program_leaves_inconsistent_bitmaps),
        TEST(test_bitmaps_of_a_writer_that_did_not_know_are_dropped),
        TEST(test_autoclear_bit_without_bitmaps_is_cleared),
        TEST(test_a_check_leaves_bitmaps_alone),
        TEST(test_stored_bits_follow_a_resize),
        TEST(test_area_that_came_back_is_not_read_from_the_image),
        TEST(test_only_clusters_with_new_marks_are_rewritten),
        TEST(test_an_image_that_is_made_empty_is_marked),
        TEST(test_going_to_a_snapshot_marks_the_whole_disk),
        TEST(test_vmstate_is_not_recorded),
        TEST(test_images_that_cannot_keep_bitmaps_say_so),
        TEST(test_the_most_bitmaps_an_image_can_have),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
