/* SPDX-License-Identifier: MIT */
/*
 * Checking images: what is found, and that hostile ones cost no more time and
 * memory than their size justifies. Comparison with qemu-img, damage by
 * damage, is in tests/integration/test_qcow2_check_peers.py.
 */
#include "image_fixture.h"

#include <malloc.h>

#include "block/qcow2/check_int.h"

#define DISK "fake:c"

static void poke32(FakeDisk *d, uint64_t offset, uint32_t value)
{
    uint8_t p[4];

    be32_put(p, value);
    fake_disk_poke(d, offset, p, sizeof(p));
}

/* An image with @create options and 16 clusters written from 0 on. */
static FakeDisk *new_image(const char *create, uint64_t cluster)
{
    FakeDisk *d = fake_disk_new("c", 0);
    g_autofree uint8_t *buf = g_malloc0(16 * cluster);
    BlockBackend *blk;

    q_create(DISK, create);
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 16 * cluster, buf), 0);
    q_close(blk);
    return d;
}

/* Lines that were reported. */
typedef struct Lines {
    unsigned n;
    char first[200];
    char last[200];
} Lines;

static void note_line(const char *text, void *opaque)
{
    Lines *l = opaque;

    if (!l->n++) {
        g_strlcpy(l->first, text, sizeof(l->first));
    }
    g_strlcpy(l->last, text, sizeof(l->last));
}

static BdrvCheckResult check_image(Lines *ret_lines)
{
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_CHECK);
    BdrvCheckResult r = { 0 };
    Lines lines = { 0 };
    GError *error = NULL;

    q_check(blk_check(blk, &r, 0, note_line, &lines, &error), error);
    q_close(blk);
    if (ret_lines) {
        *ret_lines = lines;
    }
    return r;
}

static void test_clean_image_has_no_findings(void **state)
{
    FakeDisk *d = new_image("size=8M,cluster_size=4k", 4096);
    Lines lines;
    BdrvCheckResult r = check_image(&lines);

    assert_int_equal(lines.n, 0);
    assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
    assert_int_equal(r.total_clusters, 2048);
    assert_int_equal(r.allocated_clusters, 16);
    assert_int_equal(r.fragmented_clusters, 0);
    assert_int_equal(r.image_end_offset, d->size);
    fake_disk_free(d);
}

static void test_each_finding_is_one_line(void **state)
{
    FakeDisk *d = new_image("size=8M,cluster_size=4k", 4096);
    uint64_t l2 = peek(d, peek(d, 40)) & QCOW2_OFFSET_MASK;
    BdrvCheckResult r;
    Lines lines;

    poke(d, l2, peek(d, l2 + 8));
    r = check_image(&lines);

    assert_int_equal(r.corruptions, 1);
    assert_int_equal(r.leaks, 1);
    assert_int_equal(lines.n, 2);
    assert_non_null(strstr(lines.first, "refcount 1"));
    fake_disk_free(d);
}

static void test_open_image_is_checked_with_what_it_has_in_caches(void **state)
{
    FakeDisk *d = new_image("size=8M,cluster_size=4k", 4096);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);
    g_autofree uint8_t *buf = g_malloc0(65536);
    BdrvCheckResult r;
    GError *error = NULL;

    assert_int_equal(blk_pwrite(blk, 4 << 20, 65536, buf), 0);
    q_check(blk_check(blk, &r, 0, NULL, NULL, &error), error);

    assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
    assert_int_equal(r.allocated_clusters, 32);
    q_close(blk);
    fake_disk_free(d);
}

static void test_format_without_check_says_so(void **state)
{
    FakeDisk *d = fake_disk_new("c", 4096);
    BdrvOptions *o = q_options("driver=raw");
    BlockBackend *blk = NULL;
    g_autoptr(GError) error = NULL;
    BdrvCheckResult r;

    assert_int_equal(blk_open(test_ctx, DISK, o, 0, &blk, NULL), 0);
    assert_int_equal(blk_check(blk, &r, 0, NULL, NULL, &error), -ENOTSUP);
    assert_non_null(error);
    q_close(blk);
    fake_disk_free(d);
}

static void test_repair_of_a_read_only_image_is_refused(void **state)
{
    FakeDisk *d = new_image("size=1M", 65536);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_CHECK);
    g_autoptr(GError) error = NULL;
    BdrvCheckResult r;

    assert_int_equal(blk_check(blk, &r, BDRV_FIX_LEAKS, NULL, NULL, &error),
                     -EROFS);
    assert_non_null(error);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- hostile images ---- */

/* Bytes that reads have asked for. */
static uint64_t bytes_read(const FakeDisk *d)
{
    uint64_t sum = 0;

    for (guint i = 0; i < d->log->len; i++) {
        const FakeRequest *r = g_ptr_array_index(d->log, i);

        sum += r->type == FAKE_READ ? r->bytes : 0;
    }
    return sum;
}

static void test_table_named_a_million_times_is_read_once(void **state)
{
    FakeDisk *d = new_image("size=1G,cluster_size=4k", 4096);
    uint64_t l1 = d->size, entry = peek(d, peek(d, 40));
    uint32_t n = 1 << 20;
    BdrvCheckResult r;

    for (uint32_t i = 0; i < n; i++) {
        poke(d, l1 + 8ULL * i, entry);
    }
    poke(d, 40, l1);
    poke32(d, 36, n);
    fake_log_clear(d);
    r = check_image(NULL);

    assert_true(r.corruptions >= 17);
    assert_int_equal(r.allocated_clusters, 16ULL * n);
    assert_true(bytes_read(d) < 4 * d->size);
    fake_disk_free(d);
}

/* All snapshots' L1 tables overlap; a walk of each would read 32 GiB. */
static void test_overlapping_snapshot_tables_are_read_once(void **state)
{
    FakeDisk *d = new_image("size=1M,cluster_size=4k", 4096);
    uint32_t n = 1000, l1_size = 4 << 20;
    uint64_t table = d->size, l1 = table + (64 << 10);
    BdrvCheckResult r;

    poke(d, 64, table);
    poke32(d, 60, n);
    for (uint32_t i = 0; i < n; i++) {
        poke(d, table + 56 * i, l1 + 4096 * i);
        poke32(d, table + 56 * i + 8, l1_size);
        poke32(d, table + 56 * i + 36, 16);
    }
    poke(d, l1 + 4096ULL * n + 8ULL * l1_size, 0);
    poke(d, l1 + 4096ULL * n, peek(d, peek(d, 40)));
    fake_log_clear(d);
    r = check_image(NULL);

    assert_true(r.corruptions > 0);
    assert_true(bytes_read(d) < 3 * d->size);
    fake_disk_free(d);
}

/* 0 where a sanitizer has its own allocator. */
static uint64_t memory_in_use(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* @n bytes of numbers that are not 0, at the end of the disk. */
static uint64_t append_table(FakeDisk *d, uint64_t n)
{
    uint64_t at = ROUND_UP(d->size, 65536);
    g_autofree uint8_t *buf = g_malloc(n);

    for (uint64_t i = 0; i < n; i += 8) {
        be64_put(buf + i, (i + 8) << 16);
    }
    fake_disk_poke(d, at, buf, n);
    return at;
}

static void test_largest_tables_open_within_64_mib(void **state)
{
    FakeDisk *d = new_image("size=1G", 65536);
    uint64_t before;
    BlockBackend *blk;

    poke(d, 40, append_table(d, 32 << 20));
    poke32(d, 36, 4 << 20);
    poke(d, 48, append_table(d, 8 << 20));
    poke32(d, 56, 128);
    before = memory_in_use();
    blk = q_open(DISK, "l2-cache-size=1M,refcount-cache-size=256k", 0);
    assert_in_range(memory_in_use() - before, 0, 66 << 20);
    q_close(blk);
    fake_disk_free(d);
}

/* @n entries with @extra bytes each. */
static void put_snapshots(FakeDisk *d, uint32_t n, uint32_t extra)
{
    uint64_t at = ROUND_UP(d->size, 65536);

    for (uint32_t i = 0; i < n; i++) {
        poke32(d, at + (40 + extra) * (uint64_t)i + 36, extra);
    }
    poke(d, at + (40 + extra) * (uint64_t)n, 0);
    poke(d, 64, at);
    poke32(d, 60, n);
}

static void test_snapshot_table_is_bounded_in_memory(void **state)
{
    FakeDisk *d = new_image("size=1G", 65536);
    uint64_t before;
    BlockBackend *blk;

    put_snapshots(d, 65536, 24);
    before = memory_in_use();
    blk = q_open(DISK, "l2-cache-size=1M", 0);
    assert_int_equal(q_state(blk)->snapshots->len, 65536);
    assert_in_range(memory_in_use() - before, 0, 64 << 20);
    q_close(blk);

    put_snapshots(d, 65536, 976);
    q_open_fails(DISK, NULL, 0, -EFBIG, "64 MiB");
    q_close(q_open(DISK, NULL, BDRV_O_CHECK));
    fake_disk_free(d);
}

static void test_counters_of_a_sparse_file_take_no_memory(void **state)
{
    GError *error = NULL;
    Qcow2Counts *c = qcow2_counts_new(1ULL << 30, &error);

    assert_non_null(c);
    assert_int_equal(qcow2_counts_skip(c, 0), 1ULL << 30);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(qcow2_counts_add(c, 5000, 65535), 0);
        assert_int_equal(qcow2_counts_get(c, 5000), 65535 * (i + 1));
    }
    assert_int_equal(qcow2_counts_add(c, 5000, UINT64_MAX), 0);
    assert_true(qcow2_counts_get(c, 5000) == UINT64_MAX);
    assert_int_equal(qcow2_counts_get(c, 4999), 0);
    assert_int_equal(qcow2_counts_set_flag(c, 4998), 0);
    assert_true(qcow2_counts_flag(c, 4998));
    assert_false(qcow2_counts_flag(c, 4999));
    assert_in_range(qcow2_counts_skip(c, 0), 1, 5000);
    qcow2_counts_free(c);

    assert_null(qcow2_counts_new(1ULL << 31, &error));
    assert_non_null(error);
    g_clear_error(&error);
}

static void test_counters_have_a_limit(void **state)
{
    Qcow2Counts *c = qcow2_counts_new((1ULL << 31) - 1, NULL);
    int ret = 0;

    qcow2_counts_limit(c, 1 << 20);
    for (uint64_t i = 0; i < 1ULL << 20 && ret == 0; i += 1024) {
        ret = qcow2_counts_add(c, i, 1);
    }
    assert_int_equal(ret, -EFBIG);
    qcow2_counts_free(c);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_clean_image_has_no_findings),
        TEST(test_each_finding_is_one_line),
        TEST(test_open_image_is_checked_with_what_it_has_in_caches),
        TEST(test_format_without_check_says_so),
        TEST(test_repair_of_a_read_only_image_is_refused),
        TEST(test_table_named_a_million_times_is_read_once),
        TEST(test_overlapping_snapshot_tables_are_read_once),
        TEST(test_largest_tables_open_within_64_mib),
        TEST(test_snapshot_table_is_bounded_in_memory),
        TEST(test_counters_of_a_sparse_file_take_no_memory),
        TEST(test_counters_have_a_limit),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
