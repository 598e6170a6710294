/* SPDX-License-Identifier: MIT */
/*
 * How much of the file a guest write touches: copy-on-write in one request,
 * nothing written where zeroes are already, pieces of a request side by side.
 */
#include "image_fixture.h"

#define CS 65536ull

static FakeDisk *disk;

static BlockBackend *make(const char *create)
{
    disk = fake_disk_new("x", 0);
    disk->zeroes = true;
    q_create("fake:x", create);
    return q_open("fake:x", NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static void finish(BlockBackend *blk)
{
    assert_int_equal(q_state(blk)->in_flight.length, 0);
    q_close(blk);
    q_expect_sound(disk);
    fake_disk_free(disk);
}

/* Expect these requests, one write of @bytes (0: none) and @zeroes, since the
 * log was cleared; clear it. */
static void expect_requests(uint64_t bytes, unsigned zeroes)
{
    unsigned writes = 0;

    for (guint i = 0; i < disk->log->len; i++) {
        const FakeRequest *r = fake_request(disk, i);

        if (r->type == FAKE_WRITE) {
            assert_int_equal(r->bytes, bytes);
            writes++;
        }
    }
    assert_int_equal(writes, bytes != 0);
    assert_int_equal(fake_count(disk, FAKE_ZERO), zeroes);
    fake_log_clear(disk);
}

static uint64_t host_of(BlockBackend *blk, uint64_t offset)
{
    uint64_t n, map = 0;

    assert_true(blk_block_status(blk, offset, 512, &n, &map) &
                BDRV_BLOCK_OFFSET_VALID);
    return map;
}

static void test_write_into_new_space_is_not_padded(void **state)
{
    BlockBackend *blk = make("size=8M");

    put(blk, 0, 512, 'x'); /* makes the L2 table */
    fake_log_clear(disk);
    put(blk, CS + 8192, 4096, 'a');
    expect_requests(4096, 0);
    expect(blk, CS, 8192, 0);
    expect(blk, CS + 8192, 4096, 'a');
    expect(blk, CS + 12288, CS - 12288, 0);

    /* The next one finds its cluster. */
    fake_log_clear(disk);
    put(blk, CS + 12288, 4096, 'b');
    expect_requests(4096, 0);

    /* Neither end of several clusters. */
    put(blk, 4 * CS + 512, 3 * CS, 'c');
    expect_requests(3 * CS, 0);
    expect(blk, 4 * CS, 512, 0);
    expect(blk, 4 * CS + 512, 3 * CS, 'c');
    expect(blk, 7 * CS + 512, CS - 512, 0);
    finish(blk);
}

static void test_used_space_is_zeroed_in_the_same_request(void **state)
{
    BlockBackend *blk = make("size=8M");
    uint64_t host;

    put(blk, 0, CS, 'o');
    host = host_of(blk, 0);
    put(blk, CS, 512, 'x');
    assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    put(blk, 5 * CS + 1000, 100, 'n');
    expect_requests(CS, 0);
    assert_int_equal(host_of(blk, 5 * CS), host); /* the one given up */
    expect(blk, 5 * CS, 1000, 0);
    expect(blk, 5 * CS + 1000, 100, 'n');
    expect(blk, 5 * CS + 1100, CS - 1100, 0);
    finish(blk);
}

static void test_many_zeroes_are_left_to_the_file(void **state)
{
    const uint64_t big = 2 << 20;
    BlockBackend *blk = make("size=8M,cluster_size=2M");

    put(blk, 0, big, 'o');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, big, 0), 0); /* kept */
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    put(blk, big / 2, 4096, 'n');
    expect_requests(4096, 2);
    expect(blk, 0, big / 2, 0);
    expect(blk, big / 2, 4096, 'n');
    expect(blk, big / 2 + 4096, big / 2 - 4096, 0);
    finish(blk);
}

static void test_file_that_cannot_zero_gets_one_write(void **state)
{
    const uint64_t big = 2 << 20;
    BlockBackend *blk = make("size=8M,cluster_size=2M");

    disk->zeroes = false;
    put(blk, 0, big, 'o');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, big, 0), 0);
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    put(blk, big / 2, 4096, 'n');
    expect(blk, 0, big / 2, 0);
    expect(blk, big / 2 + 4096, big / 2 - 4096, 0);
    finish(blk);
}

static void test_what_a_failed_write_left_does_not_show_up(void **state)
{
    BlockBackend *blk = make("size=8M");
    g_autofree uint8_t *junk = g_malloc(CS);
    uint64_t end;

    put(blk, 0, 512, 'x');
    end = ROUND_UP(disk->size, CS);
    memset(junk, 'j', CS);
    fake_fail_nth(disk, FAKE_WRITE, 1, EIO, false);
    assert_int_equal(blk_pwrite(blk, CS, 4096, junk), -EIO);
    fake_disk_poke(disk, end, junk, CS); /* it got that far */
    put(blk, 2 * CS + 512, 512, 'a');
    assert_int_equal(host_of(blk, 2 * CS), end);
    expect(blk, 2 * CS, 512, 0);
    expect(blk, 2 * CS + 1024, CS - 1024, 0);
    finish(blk);
}

static void test_copy_and_data_are_one_request(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *opts = g_strdup_printf(
        "size=1M,backing_file=%s,backing_fmt=raw", base);
    g_autofree char *text = g_strnfill(CS + 1000, 'B');
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, text, CS + 1000, NULL));
    blk = make(opts);
    put(blk, 8 * CS, 1, 'x');
    fake_log_clear(disk);
    put(blk, 4096, 4096, 'a');
    expect_requests(CS, 0);
    expect(blk, 0, 4096, 'B');
    expect(blk, 4096, 4096, 'a');
    expect(blk, 8192, CS - 8192, 'B');

    /* The head has something, the tail is behind the backing file. */
    fake_log_clear(disk);
    put(blk, CS + 2000, 500, 'a');
    expect_requests(2500, 0);
    expect(blk, CS, 1000, 'B');
    expect(blk, CS + 1000, 1000, 0);
    expect(blk, CS + 2500, CS - 2500, 0);

    fake_log_clear(disk);
    put(blk, 3 * CS + 2000, 500, 'a');
    expect_requests(500, 0);
    finish(blk);
}

static void test_short_file_is_good_for_qemu(void **state)
{
    g_autofree char *path = test_path("s.qcow2");
    BlockBackend *blk;

    q_create(path, "size=64M");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 4096, 'a');
    put(blk, 10 * CS + 512, 512, 'b');
    q_close(blk);
    q_qemu_check(path);
}

/* ---- pieces ---- */

static void aio_done(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

/* Clusters 0, 2, 4, ... then 1, 3, ...: no two neighbours are contiguous. */
static BlockBackend *make_fragmented(unsigned n)
{
    BlockBackend *blk = make("size=8M");

    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = k; i < n; i += 2) {
            put(blk, i * CS, CS, 'a' + i);
        }
    }
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    return blk;
}

static void test_pieces_of_a_read_overlap(void **state)
{
    BlockBackend *blk = make_fragmented(20);
    g_autofree uint8_t *buf = g_malloc(20 * CS);
    QEMUIOVector qiov;
    int ret = 1;

    qemu_iovec_init_buf(&qiov, buf, 20 * CS);
    fake_hold(disk, FAKE_READ, 0, 0);
    blk_aio_preadv(blk, 0, &qiov, 0, aio_done, &ret);
    test_turns(20);
    assert_int_equal(fake_nb_held(disk), 8);
    fake_release_all(disk);
    TEST_WAIT_UNTIL(ret <= 0);
    assert_int_equal(ret, 0);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(buf[i * CS], 'a' + i);
        assert_int_equal(buf[i * CS + CS - 1], 'a' + i);
    }
    finish(blk);
}

static void test_pieces_of_a_write_overlap(void **state)
{
    BlockBackend *blk = make_fragmented(6);
    g_autofree uint8_t *buf = g_malloc(8 * CS);
    QEMUIOVector qiov;
    int ret = 1;

    memset(buf, 'w', 8 * CS);
    qemu_iovec_init_buf(&qiov, buf, 8 * CS);
    fake_hold(disk, FAKE_WRITE, 0, 0);
    blk_aio_pwritev(blk, 0, &qiov, 0, aio_done, &ret);
    test_turns(20);
    assert_int_equal(fake_nb_held(disk), 7); /* six, and two new clusters */
    fake_release_all(disk);
    TEST_WAIT_UNTIL(ret <= 0);
    assert_int_equal(ret, 0);
    expect(blk, 0, 8 * CS, 'w');
    finish(blk);
}

static void test_error_of_one_piece_is_the_error_of_the_request(void **state)
{
    for (unsigned n = 1; n <= 7; n++) {
        BlockBackend *blk = make_fragmented(6);
        g_autofree uint8_t *buf = g_malloc(8 * CS);

        memset(buf, 'w', 8 * CS);
        fake_fail_nth(disk, FAKE_WRITE, n, EIO, false);
        assert_int_equal(blk_pwrite(blk, 0, 8 * CS, buf), -EIO);
        fake_fail_nth(disk, FAKE_READ, MIN(n, 6), EIO, false);
        assert_int_equal(blk_pread(blk, 0, 8 * CS, buf), -EIO);
        fake_fail_nth(disk, FAKE_READ, 0, 0, false);
        finish(blk);
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_ctx_setup, \
                                                 test_ctx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_write_into_new_space_is_not_padded),
        TEST(test_used_space_is_zeroed_in_the_same_request),
        TEST(test_many_zeroes_are_left_to_the_file),
        TEST(test_file_that_cannot_zero_gets_one_write),
        TEST(test_what_a_failed_write_left_does_not_show_up),
        TEST(test_copy_and_data_are_one_request),
        TEST(test_short_file_is_good_for_qemu),
        TEST(test_pieces_of_a_read_overlap),
        TEST(test_pieces_of_a_write_overlap),
        TEST(test_error_of_one_piece_is_the_error_of_the_request),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
