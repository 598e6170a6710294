/* SPDX-License-Identifier: MIT */
/*
 * Lazy refcounts: the dirty bit stands for refcounts that are not on disk yet.
 */
#include "image_fixture.h"

#include "tests/support/qcow2_checker.h"

#define DISK    "fake:c"
#define CLUSTER 4096
#define LAZY    "size=8M,cluster_size=4k,lazy_refcounts=on"

static bool is_dirty(FakeDisk *d)
{
    return peek(d, 72) & QCOW2_INC_DIRTY;
}

static uint64_t refblock(FakeDisk *d)
{
    return peek(d, peek(d, 48)) & QCOW2_REFBLOCK_MASK;
}

static void write_at(BlockBackend *blk, unsigned cluster, uint32_t seed)
{
    uint8_t buf[CLUSTER];

    test_fill(buf, CLUSTER, seed);
    assert_int_equal(blk_pwrite(blk, (uint64_t)cluster * CLUSTER, CLUSTER,
                                buf), 0);
}

static bool has_at(BlockBackend *blk, unsigned cluster, uint32_t seed)
{
    uint8_t buf[CLUSTER];

    assert_int_equal(blk_pread(blk, (uint64_t)cluster * CLUSTER, CLUSTER,
                               buf), 0);
    return test_matches(buf, CLUSTER, seed);
}

static void assert_clean(FakeDisk *d)
{
    g_autofree uint8_t *bytes = g_malloc(d->size);
    Qcow2CheckResult r;

    assert_false(is_dirty(d));
    fake_disk_peek(d, 0, bytes, d->size);
    assert_int_equal(qcow2_checker_run(bytes, d->size, &r), 0);
    assert_int_equal(r.corruptions + r.leaks + r.copied, 0);
}

static FakeDisk *new_image(const char *create)
{
    FakeDisk *d = fake_disk_new("c", 0);

    q_create(DISK, create);
    return d;
}

static void test_dirty_bit_is_durable_before_the_first_l2_write(void **state)
{
    FakeDisk *d = new_image(LAZY);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);
    uint64_t l2;
    int header, flush, table;

    write_at(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    l2 = q_state(blk)->l1.entries[0] & QCOW2_OFFSET_MASK;
    fake_log_clear(d);
    write_at(blk, 1, 2);
    assert_int_equal(blk_flush(blk), 0);
    assert_true(is_dirty(d));
    assert_int_equal(fake_find(d, 0, FAKE_WRITE, 0, 512), -1);
    q_close(blk);
    assert_clean(d);

    fake_log_clear(d);
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    write_at(blk, 2, 3);
    assert_int_equal(blk_flush(blk), 0);
    header = fake_find(d, 0, FAKE_WRITE, 0, 512);
    table = fake_find(d, 0, FAKE_WRITE, l2, CLUSTER);
    assert_true(header >= 0 && table > header);
    flush = fake_find(d, header, FAKE_FLUSH, 0, 0);
    assert_in_range(flush, header, table);
    q_close(blk);
    fake_disk_free(d);
}

static void test_flush_writes_no_refcounts(void **state)
{
    FakeDisk *d = new_image(LAZY);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);

    write_at(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(d);
    for (unsigned i = 1; i < 20; i++) {
        write_at(blk, i, i);
        assert_int_equal(blk_flush(blk), 0);
    }
    assert_int_equal(fake_find(d, 0, FAKE_WRITE, refblock(d), CLUSTER), -1);
    q_close(blk);
    assert_true(fake_find(d, 0, FAKE_WRITE, refblock(d), CLUSTER) >= 0);
    assert_clean(d);
    fake_disk_free(d);
}

static void test_image_that_is_only_read_or_overwritten_stays_clean(void **s)
{
    FakeDisk *d = new_image(LAZY);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);

    write_at(blk, 0, 1);
    q_close(blk);
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    assert_true(has_at(blk, 0, 1));
    write_at(blk, 0, 2);
    assert_int_equal(blk_flush(blk), 0);
    assert_clean(d);
    q_close(blk);
    fake_disk_free(d);
}

static void test_option_wins_over_the_image(void **state)
{
    FakeDisk *d = new_image(LAZY);
    BlockBackend *blk = q_open(DISK, "lazy-refcounts=off", BDRV_O_RDWR);

    write_at(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    assert_clean(d);
    q_close(blk);
    fake_disk_free(d);

    d = new_image("size=8M,cluster_size=4k");
    blk = q_open(DISK, "lazy-refcounts=on", BDRV_O_RDWR);
    write_at(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    assert_true(is_dirty(d));
    q_close(blk);
    assert_clean(d);
    fake_disk_free(d);

    d = new_image("size=8M,cluster_size=4k,compat=0.10");
    q_open_fails(DISK, "lazy-refcounts=on", BDRV_O_RDWR, -EINVAL,
                 "version 3");
    fake_disk_free(d);
}


static int coroutine_fn mark_clean(void *opaque) NO_TSA
{
    Qcow2State *s = opaque;
    int ret;

    co_mutex_lock(&s->lock);
    s->lazy_refcounts = false;
    ret = qcow2_mark_clean(s);
    co_mutex_unlock(&s->lock);
    return ret;
}

static void test_switching_off_makes_the_image_clean(void **state)
{
    FakeDisk *d = new_image(LAZY);
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);

    write_at(blk, 0, 1);
    assert_int_equal(blk_flush(blk), 0);
    assert_true(is_dirty(d));
    assert_int_equal(run_coroutine(mark_clean, q_state(blk)), 0);
    assert_clean(d);
    write_at(blk, 1, 1);
    assert_int_equal(blk_flush(blk), 0);
    assert_clean(d);
    q_close(blk);
    fake_disk_free(d);
}

/* Allocating, overwriting, discarding, a snapshot; a flush after each. Returns
 * how many flushes returned 0. */
static unsigned workload(BlockBackend *blk)
{
    uint8_t buf[CLUSTER];
    unsigned flushed = 0;

    for (unsigned i = 0; i < 12; i++) {
        int ret;

        test_fill(buf, CLUSTER, i + 1);
        ret = blk_pwrite(blk, (i * 37 % 64) * (uint64_t)CLUSTER * 8, CLUSTER,
                         buf);
        if (i == 6 && ret == 0) {
            (void)q_snap_create(blk, "s", 0);
        }
        if (ret < 0 || blk_flush(blk) < 0) {
            break;
        }
        flushed++;
    }
    return flushed;
}

static void check_after_cut(FakeDisk *d, uint64_t n, int mode,
                            unsigned flushed)
{
    GError *error = NULL;
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);
    BdrvCheckResult r;

    for (unsigned i = 0; i < flushed; i++) {
        if (!has_at(blk, i * 37 % 64 * 8, i + 1)) {
            fail_msg("cut after %u writes, mode %d: write %u is gone",
                     (unsigned)n, mode, i);
        }
    }
    q_check(blk_check(blk, &r, 0, NULL, NULL, &error), error);
    if (r.corruptions) {
        fail_msg("cut after %u writes, mode %d: %u corruptions", (unsigned)n,
                 mode, (unsigned)r.corruptions);
    }
    q_close(blk);
}

static void test_power_cut_at_every_write(void **state)
{
    for (int mode = 0; mode < MODES; mode++) {
        bool more = true;

        for (uint64_t n = 0; more; n++) {
            FakeDisk *d = new_image(LAZY);
            BlockBackend *blk = q_open(DISK, NULL, BDRV_O_RDWR);
            unsigned flushed;

            cut_power_after(d, n);
            flushed = workload(blk);
            (void)blk_close(blk);
            more = power_on(d, n, mode);
            check_after_cut(d, n, mode, flushed);
            fake_disk_free(d);
        }
    }
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dirty_bit_is_durable_before_the_first_l2_write),
        TEST(test_flush_writes_no_refcounts),
        TEST(test_image_that_is_only_read_or_overwritten_stays_clean),
        TEST(test_option_wins_over_the_image),
        TEST(test_switching_off_makes_the_image_clean),
        TEST(test_power_cut_at_every_write),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
