/* SPDX-License-Identifier: MIT */
/*
 * Places of streams: several in one host cluster, across two, no more than can
 * be counted; host clusters that a discard frees while they are being filled,
 * or that are used again; many writers at once; requests that fail.
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

enum { CS = 4096, CLUSTERS = 64 };
#define FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP)

static int write_compressed(BlockBackend *blk, unsigned cluster, unsigned n,
                            const void *buf)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, n * CS);
    return blk_pwritev(blk, (uint64_t)cluster * CS, n * CS, &qiov,
                       BDRV_REQ_WRITE_COMPRESSED);
}

/* A cluster whose stream has about @bytes; the same for the same arguments. */
static void fill(uint8_t *buf, unsigned bytes, uint32_t seed)
{
    memset(buf, seed, CS);
    test_fill(buf, bytes, seed);
}

static int put(BlockBackend *blk, unsigned cluster, unsigned bytes,
               uint32_t seed)
{
    uint8_t buf[CS];

    fill(buf, bytes, seed);
    return write_compressed(blk, cluster, 1, buf);
}

static void expect(BlockBackend *blk, unsigned cluster, unsigned bytes,
                   uint32_t seed)
{
    uint8_t buf[CS], want[CS];

    fill(want, bytes, seed);
    assert_int_equal(blk_pread(blk, (uint64_t)cluster * CS, CS, buf), 0);
    if (memcmp(buf, want, CS) != 0) {
        fail_msg("cluster %u is wrong", cluster);
    }
}

static uint64_t entry_of(FakeDisk *d, unsigned cluster)
{
    uint8_t be[8];

    fake_disk_peek(d, 40, be, 8);
    fake_disk_peek(d, be64_get(be), be, 8);
    fake_disk_peek(d, (be64_get(be) & QCOW2_OFFSET_MASK) + cluster * 8, be,
                   8);
    return be64_get(be);
}

static uint64_t host_of(FakeDisk *d, unsigned cluster)
{
    uint64_t entry = entry_of(d, cluster);

    assert_true(entry & QCOW2_COMPRESSED);
    return entry & ((1ULL << 58) - 1);
}

static void check(FakeDisk *d, bool leaks)
{
    g_autofree uint8_t *image = g_malloc(d->size);
    Qcow2CheckResult r;

    fake_disk_peek(d, 0, image, d->size);
    assert_int_equal(qcow2_checker_run(image, d->size, &r), 0);
    if (r.corruptions || r.copied || (r.leaks && !leaks)) {
        fail_msg("%d leaks, %d copied, %d corruptions: %s", (int)r.leaks,
                 (int)r.copied, (int)r.corruptions, r.first);
    }
}

static FakeDisk *make(const char *options, BlockBackend **ret)
{
    FakeDisk *d = fake_disk_new("p", 0);
    g_autofree char *o = g_strdup_printf("size=%u,cluster_size=4k%s",
                                         CLUSTERS * CS, options);

    q_create("fake:p", o);
    *ret = q_open("fake:p", NULL, FLAGS);
    return d;
}

/* ---- places ---- */

/* V4: the fourth stream of 1.3 KiB begins in one host cluster and ends in the
 * next. */
static void test_streams_follow_each_other_across_host_clusters(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make("", &blk);
    uint64_t first, last;

    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(put(blk, i, 1300, i), 0);
    }
    assert_int_equal(blk_flush(blk), 0);
    first = host_of(d, 0);
    assert_int_equal(first % CS, 0);
    for (unsigned i = 1; i < 8; i++) {
        last = host_of(d, i);
        assert_true(last - first > i * 1300 && last - first < i * 1500);
    }
    for (unsigned i = 0; i < 8; i++) {
        expect(blk, i, 1300, i);
    }
    q_close(blk);
    check(d, false);
    fake_disk_free(d);
}

static void test_no_more_streams_than_can_be_counted(void **state)
{
    static const struct {
        const char *options;
        unsigned max;
    } all[] = { { ",refcount_bits=1", 1 }, { ",refcount_bits=2", 3 } };

    for (size_t k = 0; k < G_N_ELEMENTS(all); k++) {
        BlockBackend *blk;
        FakeDisk *d = make(all[k].options, &blk);
        uint64_t base;

        for (unsigned i = 0; i < 12; i++) {
            assert_int_equal(put(blk, i, 20, i), 0);
        }
        assert_int_equal(blk_flush(blk), 0);
        base = host_of(d, 0);
        for (unsigned i = 0; i < 12; i++) {
            assert_int_equal((host_of(d, i) - base) / CS, i / all[k].max);
            expect(blk, i, 20, i);
        }
        q_close(blk);
        check(d, false);
        fake_disk_free(d);
    }
}

/* A host cluster that is half full is freed, and taken by a normal write. The
 * next stream must not go where it would have gone. */
static void test_a_freed_host_cluster_is_not_filled_further(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make("", &blk);
    uint8_t buf[CS];
    uint64_t host;

    assert_int_equal(put(blk, 0, 1000, 1), 0);
    assert_int_equal(blk_flush(blk), 0);
    host = host_of(d, 0);
    assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    assert_int_equal(blk_flush(blk), 0);
    test_fill(buf, CS, 7);
    assert_int_equal(blk_pwrite(blk, 5 * CS, CS, buf), 0);
    assert_int_equal(put(blk, 1, 1000, 2), 0);
    assert_int_equal(blk_flush(blk), 0);
    assert_int_equal(entry_of(d, 5) & QCOW2_OFFSET_MASK, host);
    assert_true(host_of(d, 1) / CS != host / CS);
    q_close(blk);
    check(d, false);
    blk = q_open("fake:p", NULL, 0);
    assert_int_equal(blk_pread(blk, 5 * CS, CS, buf), 0);
    assert_true(test_matches(buf, CS, 7));
    expect(blk, 1, 1000, 2);
    q_close(blk);
    fake_disk_free(d);
}

/* The same L2 entry comes back with another stream behind it. */
static void test_the_cache_forgets_streams_that_were_replaced(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make("", &blk);
    uint8_t buf[CS], byte;
    uint64_t entry;

    memset(buf, 'A', CS);
    assert_int_equal(write_compressed(blk, 0, 1, buf), 0);
    assert_int_equal(blk_flush(blk), 0);
    entry = entry_of(d, 0);
    assert_int_equal(blk_pread(blk, 10, 1, &byte), 0); /* cached */
    assert_int_equal(byte, 'A');
    assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    assert_int_equal(blk_flush(blk), 0);
    memset(buf, 'B', CS);
    assert_int_equal(write_compressed(blk, 0, 1, buf), 0);
    assert_int_equal(blk_flush(blk), 0);
    assert_true(entry_of(d, 0) == entry);
    assert_int_equal(blk_pread(blk, 10, 1, &byte), 0);
    assert_int_equal(byte, 'B');
    q_close(blk);
    fake_disk_free(d);
}

/* ---- at the same time ---- */

typedef struct Writer {
    BlockBackend *blk;
    unsigned cluster;
    unsigned bytes;
    enum { COMPRESSED, NORMAL, DISCARD, READ } what;
    unsigned *running;
    int ret;
} Writer;

static void coroutine_fn writer(void *opaque)
{
    Writer *w = opaque;
    uint8_t buf[CS];
    QEMUIOVector qiov;
    uint64_t offset = (uint64_t)w->cluster * CS;

    qemu_iovec_init_buf(&qiov, buf, CS);
    fill(buf, w->bytes, w->cluster);
    switch (w->what) {
    case COMPRESSED:
    case NORMAL:
        w->ret = blk_co_pwritev(w->blk, offset, CS, &qiov,
                                w->what == COMPRESSED
                                ? BDRV_REQ_WRITE_COMPRESSED : 0);
        break;
    case DISCARD:
        w->ret = blk_co_pdiscard(w->blk, offset, CS);
        break;
    case READ:
        w->ret = blk_co_preadv(w->blk, offset, CS, &qiov, 0);
        break;
    }
    --*w->running;
}

static void test_many_writers_place_streams_at_once(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make(",refcount_bits=4", &blk);
    Writer w[CLUSTERS];
    unsigned running = CLUSTERS;

    for (unsigned i = 0; i < CLUSTERS; i++) {
        w[i] = (Writer) { blk, i, i % 5 * 1000, i % 3 == 2, &running, 1 };
        test_spawn(writer, &w[i]);
    }
    TEST_WAIT_UNTIL(running == 0);
    for (unsigned i = 0; i < CLUSTERS; i++) {
        assert_int_equal(w[i].ret, 0);
        expect(blk, i, i % 5 * 1000, i);
    }
    q_close(blk);
    check(d, false);
    fake_disk_free(d);
}

/* Discards free host clusters while streams are placed in them. */
static void test_writers_and_discards_race(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make("", &blk);
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);

    for (unsigned round = 0; round < 60; round++) {
        Writer w[24];
        unsigned running = G_N_ELEMENTS(w);

        for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
            w[i] = (Writer) { blk, g_rand_int_range(rand, 0, CLUSTERS),
                              g_rand_int_range(rand, 0, CS + 1),
                              g_rand_int_range(rand, 0, 4), &running, 1 };
            test_spawn(writer, &w[i]);
            if (i % 8 == 7) {
                assert_int_equal(blk_flush(blk), 0);
            }
        }
        TEST_WAIT_UNTIL(running == 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
            /* A compressed write may meet data. */
            assert_true(w[i].ret == 0 ||
                        (w[i].what == COMPRESSED && w[i].ret == -EIO));
        }
    }
    q_close(blk);
    check(d, false);
    fake_disk_free(d);
}

/* A cluster is written by two at once: one of them meets the other's data. */
static void test_one_of_two_compressed_writes_of_a_cluster_fails(void **state)
{
    BlockBackend *blk;
    FakeDisk *d = make("", &blk);
    unsigned running = 2;
    Writer w[2] = { { blk, 3, 100, COMPRESSED, &running, 1 },
                    { blk, 3, 100, COMPRESSED, &running, 1 } };

    test_spawn(writer, &w[0]);
    test_spawn(writer, &w[1]);
    TEST_WAIT_UNTIL(running == 0);
    assert_int_equal(w[0].ret, 0);
    assert_int_equal(w[1].ret, -EIO);
    expect(blk, 3, 100, 3);
    q_close(blk);
    check(d, false);
    fake_disk_free(d);
}

/* ---- order and failures ---- */

/* R1, R2: when the L2 entry is written, the stream and its count are durable:
 * lose everything behind any write. */
static void test_power_cuts_never_show_half_a_stream(void **state)
{
    for (unsigned n = 0; n < 20; n++) {
        BlockBackend *blk;
        FakeDisk *d = make("", &blk);
        uint8_t buf[CS], a[CS], b[CS];

        fill(a, 1500, 1);
        fill(b, 1500, 2);
        assert_int_equal(put(blk, 0, 1500, 1), 0);
        assert_int_equal(blk_flush(blk), 0);
        fake_cut_power_after(d, n);
        (void)put(blk, 1, 1500, 2);
        (void)blk_flush(blk);
        (void)blk_close(blk);
        fake_power_on(d, n % 2);
        check(d, true);
        blk = q_open("fake:p", NULL, 0);
        expect(blk, 0, 1500, 1);
        assert_int_equal(blk_pread(blk, CS, CS, buf), 0);
        assert_true(memcmp(buf, b, CS) == 0 ||
                    (buf[0] == 0 && memcmp(buf, buf + 1, CS - 1) == 0));
        q_close(blk);
        fake_disk_free(d);
    }
}

static void test_failed_requests_leave_leaks_at_worst(void **state)
{
    for (unsigned n = 1; n < 30; n++) {
        for (unsigned sticky = 0; sticky < 2; sticky++) {
            BlockBackend *blk;
            FakeDisk *d = make("", &blk);
            uint8_t three[3 * CS], buf[3 * CS];
            int ret;

            assert_int_equal(put(blk, 0, 1500, 1), 0);
            fill(three, 2000, 2);
            test_fill(three + CS, CS, 3); /* not smaller */
            fill(three + 2 * CS, 2000, 4);
            fake_fail_nth(d, FAKE_ANY, n, EIO, sticky);
            ret = write_compressed(blk, 1, 3, three);
            fake_fail_nth(d, FAKE_ANY, 0, EIO, false);
            if (ret < 0) {
                /* As it was; and it works now. */
                assert_int_equal(blk_pread(blk, CS, 3 * CS, buf), 0);
                assert_true(buf[0] == 0 && !memcmp(buf, buf + 1, 3 * CS - 1));
                assert_int_equal(write_compressed(blk, 1, 3, three), 0);
            }
            assert_int_equal(blk_pread(blk, CS, 3 * CS, buf), 0);
            assert_memory_equal(buf, three, 3 * CS);
            expect(blk, 0, 1500, 1);
            (void)blk_close(blk);
            check(d, true);
            fake_disk_free(d);
        }
    }
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_streams_follow_each_other_across_host_clusters),
    TEST(test_no_more_streams_than_can_be_counted),
    TEST(test_a_freed_host_cluster_is_not_filled_further),
    TEST(test_the_cache_forgets_streams_that_were_replaced),
    TEST(test_many_writers_place_streams_at_once),
    TEST(test_writers_and_discards_race),
    TEST(test_one_of_two_compressed_writes_of_a_cluster_fails),
    TEST(test_power_cuts_never_show_half_a_stream),
    TEST(test_failed_requests_leave_leaks_at_worst),
};

FIRN_TEST_MAIN(tests)
