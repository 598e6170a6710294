/* SPDX-License-Identifier: MIT */
/*
 * Extended L2 entries: what each operation makes of descriptor and bitmap, how
 * much of a cluster is written, runs, impossible entries.
 */
#include "image_fixture.h"

#define EXT_16K "size=1M,cluster_size=16k,extended_l2=on"

static FakeDisk *disk;

static BlockBackend *make(const char *create, const char *options)
{
    disk = fake_disk_new("x", 0);
    q_create("fake:x", create);
    return q_open("fake:x", options, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static void finish(BlockBackend *blk)
{
    q_close(blk);
    q_expect_sound(disk);
    fake_disk_free(disk);
}

/* Where entry @n of the first L2 table is in the file. */
static uint64_t entry_at(BlockBackend *blk, unsigned n)
{
    return (q_state(blk)->l1.entries[0] & QCOW2_OFFSET_MASK) + n * 16;
}

static Qcow2Entry entry(BlockBackend *blk, unsigned n)
{
    uint8_t bytes[16];

    assert_int_equal(blk_flush(blk), 0);
    fake_disk_peek(disk, entry_at(blk, n), bytes, sizeof(bytes));
    return (Qcow2Entry) { be64_get(bytes), be64_get(bytes + 8) };
}

/* The bitmap of cluster @n; its descriptor is an own cluster (@host) or 0. */
static void expect_entry(BlockBackend *blk, unsigned n, bool host,
                         uint64_t bitmap)
{
    Qcow2Entry e = entry(blk, n);

    if (e.bitmap != bitmap || host != (e.desc > QCOW2_COPIED) ||
        (!host && e.desc)) {
        fail_msg("cluster %u: %016" PRIx64 " %016" PRIx64, n, e.desc,
                 e.bitmap);
    }
}

/* Bytes of writes in the log since it was cleared. */
static uint64_t written(void)
{
    uint64_t n = 0;

    for (guint i = 0; i < disk->log->len; i++) {
        const FakeRequest *r = fake_request(disk, i);

        n += r->type == FAKE_WRITE ? r->bytes : 0;
    }
    return n;
}

static void test_entries_are_those_of_the_vectors(void **state)
{
    BlockBackend *blk = make(EXT_16K, NULL);

    put(blk, 512, 1024, 'a');
    assert_int_equal(blk_pwrite_zeroes(blk, 4096, 2048, 0), 0);
    expect_entry(blk, 0, true, 0x00000f0000000006);

    assert_int_equal(blk_pwrite_zeroes(blk, 0, 16384, BDRV_REQ_MAY_UNMAP),
                     0);
    expect_entry(blk, 0, false, 0xffffffff00000000);
    expect(blk, 0, 16384, 0);

    put(blk, 16384 + 8192, 512, 'b');
    expect_entry(blk, 1, true, 0x0000000000010000);
    assert_int_equal(blk_pdiscard(blk, 16384, 16384), 0);
    expect_entry(blk, 1, false, 0xffffffff00000000);
    finish(blk);
}

static void test_write_touches_only_its_subclusters(void **state)
{
    BlockBackend *blk = make("size=8M,extended_l2=on", NULL);

    put(blk, 0, 1, 'x'); /* makes the L2 table */
    fake_log_clear(disk);
    put(blk, 65536 + 4096, 4096, 'a');
    assert_int_equal(written(), 4096);
    expect_entry(blk, 1, true, 0xc);

    /* In place beside it; the map changes by one bit. */
    fake_log_clear(disk);
    put(blk, 65536 + 10240, 2048, 'b');
    assert_int_equal(written(), 2048);
    expect_entry(blk, 1, true, 0x2c);

    /* Both ends in the middle of subclusters that are not there. */
    put(blk, 65536 + 20480 - 5, 10, 'c');
    expect_entry(blk, 1, true, 0x62c);
    expect(blk, 65536, 4096, 0);
    expect(blk, 65536 + 4096, 4096, 'a');
    expect(blk, 65536 + 8192, 2048, 0);
    expect(blk, 65536 + 10240, 2048, 'b');
    expect(blk, 65536 + 20480 - 5, 10, 'c');
    expect(blk, 65536 + 20485, 2000, 0);
    finish(blk);
}

static void test_write_into_stale_space_zeroes_the_rest_of_a_subcluster(
    void **state)
{
    BlockBackend *blk = make(EXT_16K, NULL);

    put(blk, 0, 16384, 'o');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 16384, 0), 0);
    expect_entry(blk, 0, true, 0xffffffff00000000);
    put(blk, 600, 10, 'n');
    expect_entry(blk, 0, true, 0xfffffffd00000002);
    expect(blk, 512, 88, 0);
    expect(blk, 600, 10, 'n');
    expect(blk, 610, 1024, 0);
    finish(blk);
}

static void test_shared_cluster_is_copied_with_all_its_data(void **state)
{
    BlockBackend *blk = make(EXT_16K, NULL);
    Qcow2Entry before, after;

    put(blk, 1024, 512, 'a');
    put(blk, 8192, 512, 'b');
    assert_int_equal(blk_pwrite_zeroes(blk, 15872, 512, 0), 0);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    before = entry(blk, 0);
    put(blk, 4096, 512, 'c');
    after = entry(blk, 0);

    assert_int_not_equal(before.desc & QCOW2_OFFSET_MASK,
                         after.desc & QCOW2_OFFSET_MASK);
    assert_int_equal(after.bitmap & 0x10104, 0x10104);
    assert_int_equal(after.bitmap >> 32, 0x80000000);
    assert_int_equal(after.bitmap & 0xfffe0003, 0); /* outside: untouched */
    expect(blk, 1024, 512, 'a');
    expect(blk, 4096, 512, 'c');
    expect(blk, 8192, 512, 'b');
    assert_int_equal(q_snap_goto(blk, "s"), 0);
    expect(blk, 4096, 512, 0);
    expect(blk, 8192, 512, 'b');
    finish(blk);
}

static void test_subclusters_show_their_backing_file(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *opts = g_strdup_printf(
        "size=64k,cluster_size=16k,extended_l2=on,backing_file=%s,"
        "backing_fmt=raw", base);
    g_autofree char *text = g_strnfill(40000, 'B');
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, text, 40000, NULL));
    blk = make(opts, NULL);
    put(blk, 1000, 10, 'n');
    expect_entry(blk, 0, true, 0x2);
    expect(blk, 0, 1000, 'B');
    expect(blk, 1000, 10, 'n');
    expect(blk, 1010, 30000, 'B');
    /* Zero bits hide the backing file, one by one. */
    assert_int_equal(blk_pwrite_zeroes(blk, 2048, 512, 0), 0);
    expect_entry(blk, 0, true, 0x1000000002);
    assert_int_equal(blk_pwrite_zeroes(blk, 16384 + 512, 512, 0), 0);
    expect_entry(blk, 1, false, 0x200000000);
    expect(blk, 16384, 512, 'B');
    expect(blk, 16384 + 512, 512, 0);
    expect(blk, 16384 + 1024, 512, 'B');
    /* The backing file ends inside of a subcluster. */
    put(blk, 40010, 1, 'n');
    expect(blk, 39936, 64, 'B');
    expect(blk, 40000, 10, 0);
    expect(blk, 40010, 1, 'n');
    expect(blk, 40011, 25525, 0);
    finish(blk);
}

static void test_last_zero_bit_gives_the_cluster_up(void **state)
{
    BlockBackend *blk = make(EXT_16K, NULL);

    put(blk, 0, 16384, 'a');
    for (unsigned i = 0; i < 31; i++) {
        assert_int_equal(blk_pwrite_zeroes(blk, i * 512, 512,
                                           BDRV_REQ_MAY_UNMAP), 0);
    }
    expect_entry(blk, 0, true, 0x7fffffff80000000);
    assert_int_equal(blk_pwrite_zeroes(blk, 31 * 512, 512,
                                       BDRV_REQ_MAY_UNMAP), 0);
    expect_entry(blk, 0, false, 0xffffffff00000000);
    finish(blk);
}

/* Status at @offset: flags and length. */
static void expect_status(BlockBackend *blk, uint64_t offset, int flags,
                          uint64_t bytes)
{
    uint64_t n, map;
    int ret = blk_block_status(blk, offset, (1 << 20) - offset, &n, &map);

    assert_int_equal(ret, flags);
    assert_int_equal(n, bytes);
}

static void test_runs_go_on_over_subclusters_and_clusters(void **state)
{
    const int data = BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED |
                     BDRV_BLOCK_OFFSET_VALID;
    BlockBackend *blk = make(EXT_16K, NULL);

    put(blk, 15360, 16384 * 3, 'a'); /* four clusters */
    /* Empty subclusters beside data have a place as well. */
    expect_status(blk, 0, BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID, 15360);
    expect_status(blk, 15360, data, 16384 * 3);
    expect_status(blk, 20001, data, 15360 + 16384 * 3 - 20001);
    expect_status(blk, 15360 + 16384 * 3,
                  BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID, 1024);
    expect_status(blk, 16384 * 4, BDRV_BLOCK_ZERO, (1 << 20) - 16384 * 4);
    assert_int_equal(blk_pwrite_zeroes(blk, 16384, 512, 0), 0);
    expect_status(blk, 15360, data, 1024);
    expect_status(blk, 16384, BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED |
                              BDRV_BLOCK_OFFSET_VALID, 512);
    finish(blk);
}

static void test_impossible_bitmaps_are_corruption(void **state)
{
    static const struct {
        uint64_t clear_desc, bitmap;
    } bad[] = {
        { 0, 0x0000000100000001 },              /* data and zero */
        { 0, 0x8000000080000001 },
        { UINT64_MAX, 0x0000000000000001 },     /* data without a cluster */
        { UINT64_MAX, 0x0000000100000001 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        BlockBackend *blk = make(EXT_16K, NULL);
        uint8_t bytes[16], buf[512] = { 0 };
        Qcow2Entry e;

        put(blk, 0, 512, 'a');
        e = entry(blk, 0);
        be64_put(bytes, e.desc & ~bad[i].clear_desc);
        be64_put(bytes + 8, bad[i].bitmap);
        fake_disk_poke(disk, entry_at(blk, 0), bytes, 16);
        q_close(blk);

        blk = q_open("fake:x", NULL, BDRV_O_RDWR);
        /* Whatever subcluster is asked for. */
        assert_int_equal(blk_pread(blk, 10 * 512, 512, buf), -EIO);
        assert_int_equal(blk_pwrite(blk, 65536, 512, buf), -EIO);
        assert_int_equal(blk_close(blk), -EIO);
        q_open_fails("fake:x", NULL, BDRV_O_RDWR, -EACCES, "corrupt");
        fake_disk_free(disk);
    }
}

static void test_small_clusters_cannot_have_subclusters(void **state)
{
    uint8_t inc[8];

    disk = fake_disk_new("x", 0);
    q_create("fake:x", "size=1M,cluster_size=8k");
    be64_put(inc, QCOW2_INC_EXTENDED_L2);
    fake_disk_poke(disk, 72, inc, 8);
    q_open_fails("fake:x", NULL, 0, -EINVAL, "16 KiB");
    fake_disk_free(disk);
}

static void test_nothing_is_made_for_what_reads_as_zero(void **state)
{
    BlockBackend *blk = make(EXT_16K, NULL);

    put(blk, 0, 512, 'a');
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    assert_int_equal(blk_pdiscard(blk, 16384, 1 << 19), 0);
    assert_int_equal(blk_flush(blk), 0);
    assert_int_equal(fake_count(disk, FAKE_WRITE | FAKE_ZERO), 0);
    assert_int_equal(blk_pwrite_zeroes(blk, 16384 + 100, 1000, 0), 0);
    expect_entry(blk, 1, false, 0x0000000700000000);
    finish(blk);
}

/* Images of both, written by both, checked by QEMU. */
static void test_peers_share_images_with_subclusters(void **state)
{
    static const char *const sizes[] = { "16k", "64k", "2M" };
    g_autofree char *path = test_path("p.qcow2");
    g_autofree char *base = test_path("base.raw");
    g_autofree char *text = g_strnfill(700000, 'B');

    assert_true(g_file_set_contents(base, text, 700000, NULL));
    for (unsigned i = 0; i < 12 && test_have_program("qemu-img"); i++) {
        g_autofree char *out = NULL;
        g_autofree char *back = i % 2 ? g_strdup_printf(
            ",backing_file=%s,backing_fmt=raw", base) : g_strdup("");
        g_autofree char *opts = g_strdup_printf(
            "extended_l2=on,cluster_size=%s%s", sizes[i % 3], back);
        g_autofree char *ours = g_strdup_printf("size=8M,%s", opts);
        int below = i % 2 ? 'B' : 0;
        BlockBackend *blk;

        if (i < 6) {
            q_create(path, ours);
        } else if (test_run(&out, "qemu-img create -q -f qcow2 -o %s %s 8M",
                            opts, path) != 0) {
            fail_msg("%s", out);
        }
        blk = q_open(path, NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
        put(blk, 3000, 3000, 'a');
        assert_int_equal(blk_pwrite_zeroes(blk, 65536, 65536, 0), 0);
        put(blk, 70000, 100, 'b');
        q_close(blk);
        q_qemu_check(path);
        g_clear_pointer(&out, g_free);
        if (test_run(&out, "qemu-io -f qcow2 -c 'read -P %d 0 3000' "
                     "-c 'read -P 97 3000 3000' -c 'read -P 0 65536 4464' "
                     "-c 'read -P 98 70000 100' -c 'read -P %d 140000 5000' "
                     "-c 'write -P 99 3500 500' -c 'write -z 131072 4096' "
                     "-c 'write -z -u 3145728 2097152' "
                     "-c 'write -P 100 600000 200000' "
                     "-c 'write -c -P 101 6291456 2097152' %s", below, below,
                     path) != 0 || strstr(out, "fail")) {
            fail_msg("%s", out);
        }
        blk = q_open(path, NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
        expect(blk, 3000, 500, 'a');
        expect(blk, 3500, 500, 'c');
        expect(blk, 4000, 2000, 'a');
        expect(blk, 131072, 4096, 0);
        expect(blk, 590000, 10000, below);
        expect(blk, 600000, 200000, 'd');
        expect(blk, 6291456, 2097152, 'e');
        put(blk, 6291456 + 5000, 1000, 'f'); /* over a compressed one */
        expect(blk, 6291456, 5000, 'e');
        expect(blk, 6291456 + 5000, 1000, 'f');
        expect(blk, 6291456 + 6000, 100000, 'e');
        q_close(blk);
        q_qemu_check(path);
        unlink(path);
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_ctx_setup, \
                                                 test_ctx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_entries_are_those_of_the_vectors),
        TEST(test_write_touches_only_its_subclusters),
        TEST(test_write_into_stale_space_zeroes_the_rest_of_a_subcluster),
        TEST(test_shared_cluster_is_copied_with_all_its_data),
        TEST(test_subclusters_show_their_backing_file),
        TEST(test_last_zero_bit_gives_the_cluster_up),
        TEST(test_runs_go_on_over_subclusters_and_clusters),
        TEST(test_impossible_bitmaps_are_corruption),
        TEST(test_small_clusters_cannot_have_subclusters),
        TEST(test_nothing_is_made_for_what_reads_as_zero),
        TEST(test_peers_share_images_with_subclusters),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
