/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps when things go wrong: power is cut after every write, the
 * n-th request fails for every n, and images whose directory or tables nobody
 * sane would write.
 *
 * The rule after a fault: a bitmap is inconsistent, or it has every sector
 * that differs from what the disk held when the bitmaps were stored last.
 */
#include "bitmap_fixture.h"

#define SECTORS 256     /* of the disk */
#define MODES   20      /* of a power cut */

typedef struct Config {
    const char *create;
    const char *what;
} Config;

static const Config configs[] = {
    { "size=128k,cluster_size=512", "no feature names" },
    { "size=128k,cluster_size=8k", "feature names" },
    { "size=128k,cluster_size=1k,refcount_bits=1", "narrow" },
};

/* ---- faults ---- */

/* In the base image: bitmap "old" with sectors 8..15, "off" with nothing,
 * "gone" with everything. */
static void make_base(const char *path, const Config *c)
{
    FakeDisk *d = b_disk(c->create);
    BlockBackend *blk = q_open("fake:b", NULL, RW);

    b_add(blk, "old", 512, 0);
    b_add(blk, "off", 1024, BDRV_BITMAP_DISABLED);
    b_add(blk, "gone", 512, BDRV_BITMAP_DISABLED);
    b_write(blk, 4096, 4096);
    assert_int_equal(blk_bitmap_set(blk, "gone", 512, 5120, NULL), 0);
    q_close(blk);
    b_check(d, false);
    assert_int_equal(fake_disk_save(d, path), 0);
    fake_disk_free(d);
}

/* Opening may fail; returns what it was. */
static int open_image(BlockBackend **ret)
{
    BdrvOptions *o = bdrv_options_new();

    bdrv_options_set(o, "driver", "qcow2");
    return blk_open(test_ctx, "fake:b", o, RW, ret, NULL);
}

/* A session that changes all there is. Stops at the first failure; returns
 * what it was. */
static int session(void)
{
    uint8_t buf[3000] = { 7 };
    BlockBackend *blk;
    int ret = open_image(&blk), ret2;

    if (ret < 0) {
        return ret;
    }
    ret = blk_pwrite(blk, 100 * 512, sizeof(buf), buf);
    ret = ret < 0 ? ret : blk_flush(blk);
    ret = ret < 0 ? ret : blk_bitmap_add(blk, "new", 512,
                                         BDRV_BITMAP_PERSISTENT, NULL);
    ret = ret < 0 ? ret : blk_bitmap_remove(blk, "gone", NULL);
    ret = ret < 0 ? ret : blk_bitmap_merge(blk, "off", blk, "old", NULL);
    ret = ret < 0 ? ret : blk_pwrite(blk, 200 * 512, 512, buf);
    ret2 = blk_close(blk);
    return ret < 0 ? ret : ret2;
}

static const BdrvBitmapInfo *lookup(GPtrArray *list, const char *name)
{
    for (guint i = 0; i < list->len; i++) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, i);

        if (!strcmp(info->name, name)) {
            return info;
        }
    }
    return NULL;
}

/* Sound "old" has what was in it, and every sector that is not as it was. */
static void expect_marks(BlockBackend *blk, const char *where)
{
    uint8_t disk[SECTORS * 512];

    assert_int_equal(blk_pread(blk, 0, sizeof(disk), disk), 0);
    for (unsigned i = 0; i < SECTORS; i++) {
        bool was = i >= 8 && i < 16;
        uint64_t offset, bytes;

        assert_int_equal(blk_bitmap_next_dirty(blk, "old", i * 512, &offset,
                                               &bytes, NULL), 0);
        if ((was || disk[i * 512]) && (!bytes || offset != i * 512)) {
            fail_msg("%s: sector %u is not marked", where, i);
        }
        if (was) {
            assert_int_equal(disk[i * 512], 0x5a);
        }
    }
}

/* Open what is left, look at it, use it. @whole: nothing went wrong. */
static void survey(FakeDisk *d, const char *where, bool whole)
{
    BlockBackend *blk;
    g_autoptr(GPtrArray) list = NULL;
    const BdrvBitmapInfo *old;

    b_check(d, !whole);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    old = lookup(list, "old");
    if (whole && (!old || old->inconsistent || lookup(list, "gone") ||
                  !lookup(list, "new"))) {
        fail_msg("%s: bitmaps were not stored", where);
    }
    if (old && !old->inconsistent) {
        expect_marks(blk, where);
    }
    for (guint i = 0; i < list->len; i++) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, i);
        uint64_t n;

        /* All of one session: stored together or not at all. */
        assert_true(old);
        assert_int_equal(info->inconsistent, old->inconsistent);
        if (!info->inconsistent) {
            assert_int_equal(blk_bitmap_count(blk, info->name, &n, NULL), 0);
        }
        assert_int_equal(blk_bitmap_remove(blk, info->name, NULL), 0);
    }
    if (list->len) {
        assert_true(!lookup(list, "new") != !lookup(list, "gone"));
    }
    b_add(blk, "again", 512, 0);
    b_write(blk, 0, 512);
    q_close(blk);
    b_check(d, !whole);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "again", 0, 512);
    q_close(blk);
}

static FakeDisk *disk_from(const char *base)
{
    FakeDisk *d = fake_disk_new("b", 0);

    d->sync = true;
    assert_int_equal(fake_disk_load(d, base), 0);
    return d;
}

static unsigned count_requests(const char *base, FakeType types)
{
    FakeDisk *d = disk_from(base);
    unsigned n;

    assert_int_equal(session(), 0);
    n = fake_count(d, types);
    survey(d, "without a fault", true);
    fake_disk_free(d);
    return n;
}

static void crash(FakeDisk *d, unsigned after, unsigned mode)
{
    if (mode < 2) {
        fake_power_on(d, mode == 1);
    } else {
        GRand *rand = g_rand_new_with_seed(after * MODES + mode);

        fake_crash(d, rand);
        g_rand_free(rand);
    }
}

static void cut(const char *base, const Config *c, unsigned after,
                unsigned mode)
{
    g_autofree char *where = g_strdup_printf("%s, cut after write %u, mode "
                                             "%u", c->what, after, mode);
    FakeDisk *d = disk_from(base);

    fake_cut_power_after(d, after);
    (void)session();
    crash(d, after, mode);
    survey(d, where, false);
    fake_disk_free(d);
}

static void test_power_cut_leaves_whole_or_distrusted_bitmaps(void **state)
{
    unsigned states = 0;

    for (size_t k = 0; k < G_N_ELEMENTS(configs); k++) {
        g_autofree char *base = test_path("base.qcow2");
        unsigned n;

        make_base(base, &configs[k]);
        n = count_requests(base, FAKE_WRITE | FAKE_ZERO);
        for (unsigned i = 0; i < n; i++) {
            for (unsigned mode = 0; mode < MODES; mode++, states++) {
                cut(base, &configs[k], i, mode);
            }
        }
    }
    print_message("%u states after a power cut\n", states);
}

/* ---- the first bitmap comes, the last ones go ---- */

/* Open, write sector 100, and with @first a new bitmap, else remove all. */
static int short_session(bool first)
{
    static const char *const names[] = { "old", "off", "gone" };
    uint8_t buf[512] = { 7 };
    BlockBackend *blk;
    int ret = open_image(&blk), ret2;

    if (ret < 0) {
        return ret;
    }
    ret = first ? blk_bitmap_add(blk, "first", 512, BDRV_BITMAP_PERSISTENT,
                                 NULL) : 0;
    ret = ret < 0 ? ret : blk_pwrite(blk, 100 * 512, 512, buf);
    for (unsigned i = 0; i < 3 && !first && ret == 0; i++) {
        ret = blk_bitmap_remove(blk, names[i], NULL);
    }
    ret2 = blk_close(blk);
    return ret < 0 ? ret : ret2;
}

static void survey_short(FakeDisk *d, bool first)
{
    BlockBackend *blk;
    g_autoptr(GPtrArray) list = NULL;

    b_check(d, true);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_true(list->len == 0 || list->len == (first ? 1 : 3));
    if (list->len && first) {
        b_expect(blk, "first", 100 * 512, 512);
    } else if (list->len) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, 0);

        if (!info->inconsistent) {
            expect_marks(blk, "removing");
        }
    }
    q_close(blk);
    b_check(d, true);
}

static unsigned cut_short(const char *base, bool first)
{
    FakeDisk *d = disk_from(base);
    unsigned n;

    assert_int_equal(short_session(first), 0);
    n = fake_count(d, FAKE_WRITE | FAKE_ZERO);
    b_check(d, false);
    survey_short(d, first);
    fake_disk_free(d);
    for (unsigned i = 0; i < n * MODES; i++) {
        d = disk_from(base);
        fake_cut_power_after(d, i / MODES);
        (void)short_session(first);
        crash(d, i / MODES, i % MODES);
        survey_short(d, first);
        fake_disk_free(d);
    }
    return n * MODES;
}

static void test_power_cut_while_the_extension_comes_or_goes(void **state)
{
    unsigned states = 0;

    for (size_t k = 0; k < G_N_ELEMENTS(configs); k++) {
        g_autofree char *base = test_path("base.qcow2");
        FakeDisk *d = b_disk(configs[k].create);

        assert_int_equal(fake_disk_save(d, base), 0);
        fake_disk_free(d);
        states += cut_short(base, true);
        make_base(base, &configs[k]);
        states += cut_short(base, false);
    }
    print_message("%u states after a power cut\n", states);
}

/* ---- failures ---- */

static void test_failing_request_leaves_whole_or_distrusted_bitmaps(
    void **state)
{
    for (size_t k = 0; k < G_N_ELEMENTS(configs); k++) {
        g_autofree char *base = test_path("base.qcow2");
        unsigned n;

        make_base(base, &configs[k]);
        n = count_requests(base, FAKE_ANY);
        for (unsigned i = 1; i <= n; i++) {
            for (int sticky = 0; sticky < 2; sticky++) {
                g_autofree char *where = g_strdup_printf(
                    "%s, request %u fails", configs[k].what, i);
                FakeDisk *d = disk_from(base);

                fake_fail_nth(d, FAKE_ANY, i, EIO, sticky);
                (void)session();
                fake_fail_nth(d, FAKE_ANY, 0, 0, false);
                survey(d, where, false);
                fake_disk_free(d);
            }
        }
    }
}

static void test_failed_store_is_reported_and_leaks_nothing(void **state)
{
    g_autofree char *base = test_path("base.qcow2");
    FakeDisk *d;
    BlockBackend *blk;
    unsigned failed = 0;

    make_base(base, &configs[0]);
    for (unsigned i = 1; i < 20; i++) {
        g_autoptr(GPtrArray) list = NULL;
        int ret;

        d = disk_from(base);
        blk = q_open("fake:b", NULL, RW);
        b_write(blk, 4096, 512);
        b_write(blk, 128 * 512, 512);
        assert_int_equal(blk_flush(blk), 0);
        fake_fail_nth(d, FAKE_WRITE, i, ENOSPC, false);
        ret = blk_close(blk);
        fake_fail_nth(d, FAKE_WRITE, 0, 0, false);
        failed += ret == -ENOSPC;

        blk = q_open("fake:b", NULL, 0);
        assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
        assert_int_equal(list->len, 3);
        if (ret == 0) {
            b_expect_next(blk, "old", 128 * 512, 128 * 512, 512);
        }
        q_close(blk);
        b_check(d, ret < 0 && i > 3); /* refcounts could not be written */
        fake_disk_free(d);
    }
    assert_true(failed >= 4);
}

/* ---- hostile directories ---- */

/* In the first directory entry, in the extension. */
enum { IN_DIR, IN_EXT };

typedef struct Damage {
    const char *what;
    int where;
    int at;             /* byte of it */
    uint64_t value;
    unsigned bytes;
    int err;
} Damage;


/* An image with two bitmaps: "one" with a mark, "two". */
static FakeDisk *two_bitmaps(void)
{
    FakeDisk *d = b_disk("size=8M,cluster_size=4k");
    BlockBackend *blk = q_open("fake:b", NULL, RW);

    b_add(blk, "one", 512, 0);
    b_add(blk, "two", 512, 0);
    b_write(blk, 0, 512);
    q_close(blk);
    return d;
}

static void expect_unusable(int err, const char *what)
{
    BlockBackend *blk;
    uint8_t byte;
    GPtrArray *list;

    q_open_fails("fake:b", NULL, RW, err, "bitmap");
    blk = q_open("fake:b", NULL, 0);
    if (blk_bitmap_list(blk, &list, NULL) != -EINVAL) {
        fail_msg("%s: bitmaps are used", what);
    }
    assert_int_equal(blk_pread(blk, 0, 1, &byte), 0);
    assert_int_equal(byte, 0x5a);
    q_close(blk);
    blk = q_open("fake:b", NULL, RW | BDRV_O_CHECK);
    q_close(blk);
}

static void test_damaged_directory_keeps_writers_out_only(void **state)
{
    static const Damage all[] = {
        { "table at 0", IN_DIR, 0, 0, 8, -EINVAL },
        { "table unaligned", IN_DIR, 0, 0x10200, 8, -EINVAL },
        { "table past the end", IN_DIR, 0, 1ull << 40, 8, -EINVAL },
        { "table far away", IN_DIR, 0, 0xfffffffffffff000, 8, -EINVAL },
        { "table without entries", IN_DIR, 8, 0, 4, -EINVAL },
        { "table too large", IN_DIR, 8, 0x20001, 4, -EINVAL },
        { "table of 2^32 - 1 entries", IN_DIR, 8, 0xffffffff, 4, -EINVAL },
        { "unknown flag", IN_DIR, 12, 6, 4, -EINVAL },
        { "unknown type", IN_DIR, 16, 2, 1, -EINVAL },
        { "small granularity", IN_DIR, 17, 8, 1, -EINVAL },
        { "huge granularity", IN_DIR, 17, 32, 1, -EINVAL },
        { "no name", IN_DIR, 18, 0, 2, -EINVAL },
        { "name too long", IN_DIR, 18, 1024, 2, -EINVAL },
        { "name past the end", IN_DIR, 18, 60, 2, -EINVAL },
        { "extra data", IN_DIR, 20, 8, 4, -EINVAL },
        { "extra data of 4 GiB", IN_DIR, 20, 0xffffffff, 4, -EINVAL },
        { "NUL in a name", IN_DIR, 24, 0, 1, -EINVAL },
        { "one name twice", IN_DIR, 24, 0x74776f, 3, -EINVAL },
        { "directory at 0", IN_EXT, 16, 0, 8, -EINVAL },
        { "directory past the end", IN_EXT, 16, 1ull << 40, 8, -EINVAL },
        { "directory too small", IN_EXT, 8, 8, 8, -EINVAL },
        { "directory too large", IN_EXT, 8, 72, 8, -EINVAL },
        { "directory of 60 MiB", IN_EXT, 8, 60 << 20, 8, -EFBIG },
        { "three bitmaps", IN_EXT, 0, 3, 4, -EINVAL },
        { "one bitmap", IN_EXT, 0, 1, 4, -EINVAL },
        { "65535 bitmaps", IN_EXT, 0, 65535, 4, -EINVAL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        FakeDisk *d = two_bitmaps();
        uint64_t at = all[i].where == IN_EXT ? b_extension(d).at
                                             : b_entry(d, 0);

        b_poke(d, at + all[i].at, all[i].value, all[i].bytes);
        expect_unusable(all[i].err, all[i].what);
        fake_disk_free(d);
    }
}

static void test_tables_that_overlap_are_damage(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        FakeDisk *d = two_bitmaps();
        uint64_t at[] = { b_table(d, 0), b_extension(d).offset,
                          b_table(d, 0) - 4096 };

        b_poke(d, b_entry(d, 1), at[i], 8);
        if (i == 2) {
            b_poke(d, b_entry(d, 1) + 8, 1024, 4);
        }
        expect_unusable(-EINVAL, "overlap");
        fake_disk_free(d);
    }
}

/* R7: in_use would be set on top of the L1 table. */
static void test_directory_on_top_of_the_l1_table_is_not_written(
    void **state)
{
    FakeDisk *d = two_bitmaps();
    BlockBackend *blk = q_open("fake:b", NULL, 0);
    uint64_t l1 = q_state(blk)->hdr.l1_table_offset;
    g_autofree uint8_t *dir = g_malloc(64);

    q_close(blk);
    fake_disk_peek(d, b_extension(d).offset, dir, 64);
    fake_disk_poke(d, l1, dir, 64);
    b_poke(d, b_extension(d).at + 16, l1, 8);
    q_open_fails("fake:b", NULL, RW, -EIO, "bitmap directory");
    fake_disk_peek(d, l1, dir, 64);
    assert_int_equal(be32_get(dir + 12), 2);
    fake_disk_free(d);
}

/* ---- hostile tables ---- */

static void test_damaged_table_makes_one_bitmap_inconsistent(void **state)
{
    static const uint64_t entries[] = {
        1ull << 63, 1ull << 56, 2, 256, 0x10000 | 1, 0x10200, 1ull << 50,
        0x00fffffffffff000,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
        FakeDisk *d = two_bitmaps();
        g_autoptr(GError) error = NULL;
        BlockBackend *blk;
        uint64_t n;

        b_poke(d, b_table(d, 0), entries[i], 8);
        blk = q_open("fake:b", NULL, RW);
        assert_int_equal(blk_bitmap_count(blk, "one", &n, &error), -EINVAL);
        assert_non_null(strstr(error->message, "damaged"));
        b_write(blk, 8192, 512);
        b_expect_next(blk, "two", 0, 0, 512);
        q_close(blk);
        assert_int_equal(b_flags(d, 0), 3);
        assert_int_equal(b_flags(d, 1), 2);

        blk = q_open("fake:b", NULL, RW);
        assert_int_equal(blk_bitmap_count(blk, "one", &n, NULL), -EINVAL);
        assert_int_equal(blk_bitmap_remove(blk, "one", NULL), 0);
        b_expect_next(blk, "two", 512, 8192, 512);
        q_close(blk);
        b_check(d, true);
        fake_disk_free(d);
    }
}

static void test_clearing_helps_against_a_damaged_table(void **state)
{
    FakeDisk *d = two_bitmaps();
    BlockBackend *blk;

    b_poke(d, b_table(d, 0), 1ull << 60, 8);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_clear(blk, "one", NULL), 0);
    b_write(blk, 4096, 1);
    q_close(blk);
    blk = q_open("fake:b", NULL, 0);
    b_expect(blk, "one", 4096, 512);
    q_close(blk);
    b_check(d, true);
    fake_disk_free(d);
}

/* Reading it would take far longer than reading the file. */
static void test_table_that_names_one_cluster_many_times_is_damaged(
    void **state)
{
    FakeDisk *d = b_disk("size=8G,cluster_size=4k");
    BlockBackend *blk = q_open("fake:b", NULL, RW);
    uint64_t n, table;

    b_add(blk, "b", 512, 0); /* 512 clusters of bits */
    b_write(blk, 0, 1);
    q_close(blk);
    table = b_table(d, 0);
    for (unsigned i = 1; i < 512; i++) {
        b_poke(d, table + i * 8, 0x1000, 8);
    }
    blk = q_open("fake:b", NULL, 0);
    assert_int_equal(blk_bitmap_count(blk, "b", &n, NULL), -EINVAL);
    q_close(blk);
    fake_disk_free(d);
}

static void test_table_for_another_disk_size_is_not_trusted(void **state)
{
    FakeDisk *d = two_bitmaps();
    g_autoptr(GPtrArray) list = NULL;
    BlockBackend *blk;

    b_poke(d, b_entry(d, 0) + 8, 2, 4);
    blk = q_open("fake:b", NULL, RW);
    assert_int_equal(blk_bitmap_list(blk, &list, NULL), 0);
    assert_true(((BdrvBitmapInfo *)list->pdata[0])->inconsistent);
    assert_false(((BdrvBitmapInfo *)list->pdata[1])->inconsistent);
    q_close(blk);
    assert_int_equal(b_flags(d, 0), 3);
    fake_disk_free(d);
}

static void test_bits_past_the_end_and_ones_entries(void **state)
{
    FakeDisk *d = b_disk("size=8M,cluster_size=512");
    BlockBackend *blk = q_open("fake:b", NULL, RW);
    uint64_t table;

    /* 512 bytes for 2 MiB each: the last of 5 clusters ends in the middle. */
    assert_int_equal(blk_truncate(blk, (9 << 20), BDRV_PREALLOC_OFF, NULL),
                     0);
    b_add(blk, "b", 512, BDRV_BITMAP_DISABLED);
    q_close(blk);
    table = b_table(d, 0);
    b_poke(d, table + 8, 1, 8);
    b_poke(d, table + 32, 1, 8);
    blk = q_open("fake:b", NULL, RW);
    b_expect_next(blk, "b", 0, 2 << 20, 2 << 20);
    b_expect_next(blk, "b", 4 << 20, 8 << 20, 1 << 20);
    assert_int_equal(b_count(blk, "b"), 3 << 20);
    q_close(blk);
    b_check(d, false);
    fake_disk_free(d);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_power_cut_leaves_whole_or_distrusted_bitmaps),
        TEST(test_power_cut_while_the_extension_comes_or_goes),
        TEST(test_failing_request_leaves_whole_or_distrusted_bitmaps),
        TEST(test_failed_store_is_reported_and_leaks_nothing),
        TEST(test_damaged_directory_keeps_writers_out_only),
        TEST(test_tables_that_overlap_are_damage),
        TEST(test_directory_on_top_of_the_l1_table_is_not_written),
        TEST(test_damaged_table_makes_one_bitmap_inconsistent),
        TEST(test_clearing_helps_against_a_damaged_table),
        TEST(test_table_that_names_one_cluster_many_times_is_damaged),
        TEST(test_table_for_another_disk_size_is_not_trusted),
        TEST(test_bits_past_the_end_and_ones_entries),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
