/* SPDX-License-Identifier: MIT */
/* The request path: block/io.c, drain.c (tracked requests), block-backend.c. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

#define DISK_BYTES (256 * 1024)

typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    *state = f;
    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    f->disk = fake_disk_new("d", DISK_BYTES);
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    blk_close(f->blk);
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

/* Not probed: writes to its start need nothing else. */
static void open_disk(Fixture *f, unsigned flags)
{
    BdrvOptions *options = bdrv_options_new();
    GError *error = NULL;

    bdrv_options_set(options, "driver", "raw");
    if (blk_open(test_ctx, "fake:d", options, flags | BDRV_O_RDWR, &f->blk,
                 &error) < 0) {
        fail_msg("%s", error->message);
    }
    fake_log_clear(f->disk);
}

static BdrvChild *file_of(Fixture *f)
{
    return blk_bs(f->blk)->file;
}

/* A request in a coroutine of its own. */
typedef struct Request {
    BlkRequest req;
    QEMUIOVector qiov;
    bool done;
    int ret;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;

    r->ret = blk_co_begin(r->req.blk, NULL);
    if (r->ret == 0) {
        r->ret = blk_co_do(&r->req);
        blk_end(r->req.blk);
    }
    r->done = true;
}

static void start(Request *r, Fixture *f, BlkOp op, uint64_t offset,
                  void *buf, uint64_t bytes)
{
    *r = (Request) { .req = {
        .blk = f->blk, .op = op, .offset = offset, .bytes = bytes } };
    qemu_iovec_init_buf(&r->qiov, buf, bytes);
    r->req.qiov = &r->qiov;
    test_spawn(request_entry, r);
}

/* --- Bounds --- */

static void test_guest_bounds_are_checked(void **state)
{
    static const uint64_t bad[][2] = {
        { DISK_BYTES, 1 }, { DISK_BYTES - 1, 2 }, { DISK_BYTES + 1, 0 },
        { UINT64_MAX, 1 }, { 1, UINT64_MAX }, { UINT64_MAX, UINT64_MAX },
        { INT64_MAX, 1 },
    };
    Fixture *f = *state;
    uint8_t buf[2];

    open_disk(f, BDRV_O_UNMAP);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_int_equal(blk_pread(f->blk, bad[i][0], bad[i][1], buf), -EIO);
        assert_int_equal(blk_pwrite(f->blk, bad[i][0], bad[i][1], buf), -EIO);
        assert_int_equal(blk_pwrite_zeroes(f->blk, bad[i][0], bad[i][1], 0),
                         -EIO);
        assert_int_equal(blk_pdiscard(f->blk, bad[i][0], bad[i][1]), -EIO);
    }
    assert_int_equal(blk_pread(f->blk, DISK_BYTES, 0, buf), 0);
    assert_int_equal(blk_pwrite(f->blk, 0, 0, buf), 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
    assert_int_equal(blk_pread(f->blk, DISK_BYTES - 2, 2, buf), 0);
}

typedef struct ChildArgs {
    BdrvChild *child;
    uint64_t offset;
    uint64_t bytes;
    void *buf;
} ChildArgs;

static int coroutine_fn child_read(void *opaque)
{
    ChildArgs *a = opaque;

    return bdrv_co_pread(a->child, a->offset, a->bytes, a->buf, 0);
}

static int coroutine_fn child_write(void *opaque)
{
    ChildArgs *a = opaque;

    return bdrv_co_pwrite(a->child, a->offset, a->bytes, a->buf, 0);
}

static void test_file_reads_zero_past_its_end(void **state)
{
    Fixture *f = *state;
    uint8_t buf[64];
    ChildArgs a = { NULL, DISK_BYTES - 32, 64, buf };

    f->disk->align = 512;
    open_disk(f, 0);
    a.child = file_of(f);
    assert_int_equal(blk_pwrite(f->blk, DISK_BYTES - 32, 32,
                                "abcdefghijklmnopqrstuvwxyz012345"), 0);
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(run_coroutine(child_read, &a), 0);
    assert_memory_equal(buf, "abcdefghijklmnopqrstuvwxyz012345", 32);
    for (int i = 32; i < 64; i++) {
        assert_int_equal(buf[i], 0);
    }
    a.offset = DISK_BYTES + 12345;
    fake_log_clear(f->disk);
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(run_coroutine(child_read, &a), 0);
    assert_int_equal(buf[0] | buf[63], 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
}

static void test_file_grows_when_it_can(void **state)
{
    Fixture *f = *state;
    ChildArgs a = { NULL, DISK_BYTES + 100, 4, "grow" };
    char buf[8];

    open_disk(f, 0);
    a.child = file_of(f);
    assert_int_equal(run_coroutine(child_write, &a), 0);
    assert_int_equal(a.child->bs->total_bytes, DISK_BYTES + 104);
    fake_disk_peek(f->disk, DISK_BYTES + 100, buf, 4);
    assert_memory_equal(buf, "grow", 4);
    blk_close(f->blk);

    f->disk->fixed_size = true;
    open_disk(f, 0);
    a.child = file_of(f);
    a.offset = DISK_BYTES + 101;
    assert_int_equal(run_coroutine(child_write, &a), -ENOSPC);
    a.offset = UINT64_MAX - 1;
    assert_int_equal(run_coroutine(child_write, &a), -EIO);
}

static void test_read_only_is_not_written(void **state)
{
    Fixture *f = *state;

    assert_int_equal(blk_open(test_ctx, "fake:d", NULL, 0, &f->blk, NULL), 0);
    fake_log_clear(f->disk);
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), -EROFS);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 0, 1, 0), -EROFS);
    assert_int_equal(blk_pdiscard(f->blk, 0, 1), -EROFS);
    assert_int_equal(blk_truncate(f->blk, 1, BDRV_PREALLOC_OFF, NULL), -EROFS);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
}

/* --- Alignment --- */

/* What was written must be there, and nothing else changed. */
typedef struct Model {
    uint8_t bytes[DISK_BYTES];
} Model;

static void random_operation(Fixture *f, Model *m, GRand *rand)
{
    uint64_t offset = g_rand_int_range(rand, 0, DISK_BYTES);
    uint64_t max = g_rand_boolean(rand) ? 2000 : DISK_BYTES;
    uint64_t bytes = g_rand_int_range(
        rand, 0, MIN(DISK_BYTES - offset, max) + 1);
    /* Memory that is not aligned, in two parts. */
    size_t shift = g_rand_int_range(rand, 0, 600);
    size_t cut = bytes ? g_rand_int_range(rand, 0, bytes + 1) : 0;
    g_autofree uint8_t *buf = g_malloc(bytes + shift + 1);
    QEMUIOVector qiov;

    qemu_iovec_init(&qiov, 2);
    qemu_iovec_add(&qiov, buf + shift, cut);
    qemu_iovec_add(&qiov, buf + shift + cut, bytes - cut);
    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        memset(buf, 0xee, bytes + shift);
        assert_int_equal(blk_preadv(f->blk, offset, bytes, &qiov, 0), 0);
        assert_memory_equal(buf + shift, m->bytes + offset, bytes);
        break;
    case 1:
        assert_int_equal(blk_pwrite_zeroes(f->blk, offset, bytes, 0), 0);
        memset(m->bytes + offset, 0, bytes);
        break;
    default:
        test_fill(buf, bytes + shift, g_rand_int(rand));
        assert_int_equal(blk_pwritev(f->blk, offset, bytes, &qiov, 0), 0);
        memcpy(m->bytes + offset, buf + shift, bytes);
        break;
    }
    qemu_iovec_destroy(&qiov);
}

static void run_random(Fixture *f, uint32_t align, uint32_t mem_align,
                       uint64_t max_transfer, bool zeroes)
{
    g_autofree Model *m = g_new0(Model, 1);
    g_autofree uint8_t *now = g_malloc(DISK_BYTES);
    GRand *rand = g_rand_new_with_seed(align + mem_align);

    f->disk->align = align;
    f->disk->mem_align = mem_align;
    f->disk->max_transfer = max_transfer;
    f->disk->zeroes = zeroes;
    f->disk->sync = true;
    fake_disk_poke(f->disk, 0, m->bytes, DISK_BYTES);
    open_disk(f, 0);
    for (int i = 0; i < 500; i++) {
        random_operation(f, m, rand);
    }
    fake_disk_peek(f->disk, 0, now, DISK_BYTES);
    assert_memory_equal(now, m->bytes, DISK_BYTES);
    assert_int_equal(f->disk->size, DISK_BYTES);
    blk_close(f->blk);
    f->blk = NULL;
    g_rand_free(rand);
}

static void test_random_requests_at_any_alignment(void **state)
{
    Fixture *f = *state;

    run_random(f, 1, 1, 0, false);
    run_random(f, 1, 512, 0, true);
    run_random(f, 512, 512, 0, true);
    run_random(f, 512, 1, 4096, false);
    run_random(f, 4096, 512, 65536, true);
    run_random(f, 65536, 4096, 65536, false);
}

static void test_bounce_buffer_is_bounded(void **state)
{
    const size_t bytes = 5 * 1024 * 1024;
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc(bytes + 1);
    g_autofree uint8_t *back = g_malloc(bytes);

    f->disk->align = 512;
    f->disk->mem_align = 512;
    fake_disk_poke(f->disk, 8 << 20, "", 1);
    open_disk(f, 0);
    test_fill(buf + 1, bytes, 3);
    assert_int_equal(blk_pwrite(f->blk, 777, bytes, buf + 1), 0);
    for (guint i = 0; i < f->disk->log->len; i++) {
        assert_true(fake_request(f->disk, i)->bytes <= 1024 * 1024);
    }
    fake_disk_peek(f->disk, 777, back, bytes);
    assert_true(test_matches(back, bytes, 3));
    memset(buf, 0, bytes + 1);
    assert_int_equal(blk_pread(f->blk, 777, bytes, buf + 1), 0);
    assert_true(test_matches(buf + 1, bytes, 3));
}

static void test_aligned_requests_pass_untouched(void **state)
{
    Fixture *f = *state;
    void *buf = blk_try_memalign(8192);

    memset(buf, 1, 8192);
    f->disk->align = 4096;
    f->disk->mem_align = 4096;
    open_disk(f, 0);
    assert_int_equal(blk_pwrite(f->blk, 4096, 8192, buf), 0);
    assert_int_equal(blk_pread(f->blk, 8192, 4096, buf), 0);
    assert_int_equal(f->disk->log->len, 2);
    free(buf);
}

/* --- Serialising --- */

/*
 *   writer A (bytes 0..9)        writer B (bytes 100..109), same block
 *   -----------------------------------------------------------------
 *   reads block, held
 *                                waits for A
 *   modifies, writes
 *                                reads the block with A's bytes
 *                                modifies, writes
 */
static void test_two_partial_writes_to_a_block_both_survive(void **state)
{
    Fixture *f = *state;
    Request a, b;
    char buf[110];

    f->disk->align = 512;
    open_disk(f, 0);
    fake_hold(f->disk, FAKE_READ, 0, 512);
    start(&a, f, BLK_OP_WRITE, 0, "aaaaaaaaaa", 10);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    start(&b, f, BLK_OP_WRITE, 100, "bbbbbbbbbb", 10);
    test_turns(10);
    assert_int_equal(fake_nb_held(f->disk), 1);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 1);

    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(a.ret | b.ret, 0);
    fake_disk_peek(f->disk, 0, buf, sizeof(buf));
    assert_memory_equal(buf, "aaaaaaaaaa", 10);
    assert_memory_equal(buf + 100, "bbbbbbbbbb", 10);
}

static void test_aligned_write_waits_for_partial_write(void **state)
{
    Fixture *f = *state;
    g_autofree char *block = g_strnfill(512, 'B');
    Request a, b, c;
    char buf[512];

    f->disk->align = 512;
    open_disk(f, 0);
    fake_hold(f->disk, FAKE_READ, 0, 512);
    start(&a, f, BLK_OP_WRITE, 0, "aaaaaaaaaa", 10);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    start(&b, f, BLK_OP_WRITE, 0, block, 512);
    start(&c, f, BLK_OP_WRITE, 512, block, 512);
    TEST_WAIT_UNTIL(c.done); /* another block: nobody waits */
    assert_false(b.done);

    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    fake_disk_peek(f->disk, 0, buf, 512);
    assert_memory_equal(buf, block, 512);
}

static void test_overlapping_partial_writes_never_deadlock(void **state)
{
    enum { N = 64 };
    Fixture *f = *state;
    GRand *rand = g_rand_new_with_seed(5);
    Request r[N];
    char bytes[3000];

    memset(bytes, 'x', sizeof(bytes));
    f->disk->align = 512;
    open_disk(f, 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            start(&r[i], f, i % 3 ? BLK_OP_WRITE : BLK_OP_READ,
                  g_rand_int_range(rand, 0, 4000), bytes,
                  g_rand_int_range(rand, 1, 3000));
        }
        for (int i = 0; i < N; i++) {
            TEST_WAIT_UNTIL(r[i].done);
            assert_int_equal(r[i].ret, 0);
        }
    }
    assert_int_equal(file_of(f)->bs->in_flight, 0);
    assert_int_equal(file_of(f)->bs->serialising_in_flight, 0);
    g_rand_free(rand);
}

/* --- Flush and FUA --- */

static void test_flush_reaches_the_file_once_per_write(void **state)
{
    Fixture *f = *state;

    open_disk(f, 0);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 1); /* not known clean */
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 1);
    blk_pwrite(f->blk, 0, 1, "x");
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 2);
}

static void test_failed_flush_is_tried_again(void **state)
{
    Fixture *f = *state;

    open_disk(f, 0);
    fake_fail_nth(f->disk, FAKE_FLUSH, 1, ENOSPC, false);
    assert_int_equal(blk_flush(f->blk), -ENOSPC);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 2);
}

/*
 *   flush A              writer            flush B
 *   ---------------------------------------------------
 *   disk flush, held
 *                        write, done
 *                                          waits for A
 *   done
 *                                          disk flush: A's may have missed
 *                                          the write
 */
static void test_flush_does_not_trust_one_that_began_before(void **state)
{
    Fixture *f = *state;
    Request a, b;

    open_disk(f, 0);
    fake_hold(f->disk, FAKE_FLUSH, 0, 0);
    start(&a, f, BLK_OP_FLUSH, 0, NULL, 0);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), 0);
    start(&b, f, BLK_OP_FLUSH, 0, NULL, 0);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(a.ret | b.ret, 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 2);
}

static int write_fua(Fixture *f)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, "x", 1);
    return blk_pwritev(f->blk, 0, 1, &qiov, BDRV_REQ_FUA);
}

static void test_fua_is_emulated_by_a_flush(void **state)
{
    Fixture *f = *state;

    open_disk(f, 0);
    assert_int_equal(write_fua(f), 0);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 1);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 1);
    assert_int_equal(fake_request(f->disk, 0)->flags, 0);
    fake_fail_nth(f->disk, FAKE_FLUSH, 1, EIO, false);
    assert_int_equal(write_fua(f), -EIO);
}

static void test_fua_is_passed_to_a_driver_that_has_it(void **state)
{
    Fixture *f = *state;

    f->disk->fua = true;
    open_disk(f, 0);
    assert_int_equal(write_fua(f), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 0);
    assert_int_equal(fake_request(f->disk, 0)->flags, BDRV_REQ_FUA);
}

static void test_writethrough_makes_every_write_durable(void **state)
{
    Fixture *f = *state;

    open_disk(f, BDRV_O_WRITETHROUGH);
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 1);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 0, 1, 0), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 2);
}

static void test_no_flush_keeps_flushes_away(void **state)
{
    Fixture *f = *state;

    f->disk->fua = true;
    open_disk(f, BDRV_O_NO_FLUSH);
    assert_int_equal(write_fua(f), 0);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(fake_count(f->disk, FAKE_FLUSH), 0);
    assert_int_equal(fake_request(f->disk, 0)->flags, 0);
}

/* --- Zeroes and discard --- */

static void test_zeroes_fall_back_to_data(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc(DISK_BYTES);

    test_fill(buf, DISK_BYTES, 1);
    fake_disk_poke(f->disk, 0, buf, DISK_BYTES);
    f->disk->align = 512;
    open_disk(f, 0);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 100, 10000,
                                       BDRV_REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 0);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 100, 10000, 0), 0);
    memset(buf + 100, 0, 10000);
    blk_close(f->blk);
    f->blk = NULL;
    {
        g_autofree uint8_t *now = g_malloc(DISK_BYTES);

        fake_disk_peek(f->disk, 0, now, DISK_BYTES);
        assert_memory_equal(now, buf, DISK_BYTES);
    }
}

static void test_zeroes_use_the_driver_in_the_middle(void **state)
{
    Fixture *f = *state;
    int id;

    f->disk->align = 512;
    f->disk->zeroes = true;
    open_disk(f, BDRV_O_UNMAP);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 100, 10000,
                                       BDRV_REQ_MAY_UNMAP), 0);
    id = fake_find(f->disk, 0, FAKE_ZERO, 0, 0);
    assert_true(id >= 0);
    assert_int_equal(fake_request(f->disk, id)->offset, 512);
    assert_int_equal(fake_request(f->disk, id)->bytes, 9216);
    assert_int_equal(fake_request(f->disk, id)->flags, BDRV_REQ_MAY_UNMAP);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 2);
}

static void test_discard_shrinks_to_whole_blocks(void **state)
{
    Fixture *f = *state;

    f->disk->align = 512;
    open_disk(f, BDRV_O_UNMAP);
    assert_int_equal(blk_pdiscard(f->blk, 1, 510), 0);
    assert_int_equal(blk_pdiscard(f->blk, 511, 512), 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
    assert_int_equal(blk_pdiscard(f->blk, 100, 2000), 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 1);
    assert_int_equal(fake_request(f->disk, 0)->offset, 512);
    assert_int_equal(fake_request(f->disk, 0)->bytes, 1536);
}

static void test_discard_is_ignored_unless_asked_for(void **state)
{
    Fixture *f = *state;

    open_disk(f, 0);
    assert_int_equal(blk_pdiscard(f->blk, 0, 4096), 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
}

/* --- Truncate, status, errors --- */

static void test_truncate_waits_for_requests_and_holds_new_ones(void **state)
{
    Fixture *f = *state;
    Request a, b;
    uint8_t buf[512] = "";

    open_disk(f, 0);
    fake_hold(f->disk, FAKE_WRITE, 0, 512);
    start(&a, f, BLK_OP_WRITE, 0, buf, 512);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    fake_release_all(f->disk);
    assert_int_equal(blk_truncate(f->blk, 1024, BDRV_PREALLOC_OFF, NULL), 0);
    assert_true(a.done);
    assert_int_equal(f->disk->size, 1024);
    assert_int_equal(blk_getlength(f->blk), 1024);
    start(&b, f, BLK_OP_READ, 1024, buf, 1);
    TEST_WAIT_UNTIL(b.done);
    assert_int_equal(b.ret, -EIO);
    assert_int_equal(blk_truncate(f->blk, 4096, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(blk_pread(f->blk, 1024, 1, buf), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(blk_truncate(f->blk, UINT64_MAX, BDRV_PREALLOC_OFF, NULL),
                     -EFBIG);
    assert_int_equal(blk_getlength(f->blk), 4096);
}

static void test_block_status_without_support_is_data(void **state)
{
    Fixture *f = *state;
    uint64_t n, map;

    open_disk(f, 0);
    assert_int_equal(blk_block_status(f->blk, 10, 1000, &n, &map),
                     BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED |
                     BDRV_BLOCK_OFFSET_VALID);
    assert_int_equal(n, 1000);
    assert_int_equal(map, 10);
    assert_int_equal(blk_block_status(f->blk, DISK_BYTES, 1, &n, NULL),
                     -EIO);
    assert_true(blk_block_status(f->blk, 0, 0, &n, NULL) >= 0);
    assert_int_equal(n, 0);
}

static void test_every_nth_failure_comes_back(void **state)
{
    Fixture *f = *state;
    uint8_t buf[3000] = "";
    uint64_t n;

    f->disk->align = 512;
    open_disk(f, 0);
    for (n = 1; ; n++) {
        int ret;

        fake_fail_nth(f->disk, FAKE_ANY, n, ENOMEDIUM, false);
        ret = blk_pwrite(f->blk, 100, sizeof(buf), buf);
        ret = ret ? ret : blk_flush(f->blk);
        ret = ret ? ret : blk_pread(f->blk, 3, sizeof(buf), buf);
        if (ret == 0) {
            break;
        }
        assert_int_equal(ret, -ENOMEDIUM);
        assert_int_equal(file_of(f)->bs->in_flight, 0);
    }
    assert_int_equal(n, 6); /* head, tail, write, flush, read; then none */
}

static void test_null_has_no_storage(void **state)
{
    Fixture *f = *state;
    BdrvOptions *o = NULL;
    uint8_t buf[16] = "0123456789abcde";

    bdrv_options_parse(&o, "driver=null-co,size=1M,read-zeroes=on,"
                       "latency-ns=1000", NULL);
    assert_int_equal(blk_open(test_ctx, NULL, o, BDRV_O_RDWR, &f->blk, NULL),
                     0);
    assert_int_equal(blk_getlength(f->blk), 1 << 20);
    assert_int_equal(blk_pwrite(f->blk, 0, 16, buf), 0);
    assert_int_equal(blk_pread(f->blk, 0, 16, buf), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_pread(f->blk, 1 << 20, 1, buf), -EIO);
}

static int coroutine_fn snapshot_everything(void *opaque)
{
    BlockDriverState *bs = opaque;
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    g_autoptr(GError) error = NULL;
    GPtrArray *list = NULL;

    info->name = g_strdup("tag");
    assert_int_equal(bdrv_co_snapshot_create(bs, info, &error), -ENOTSUP);
    assert_non_null(strstr(error->message, "qcow2"));
    assert_int_equal(bdrv_co_snapshot_goto(bs, "tag", NULL), -ENOTSUP);
    assert_int_equal(bdrv_co_snapshot_delete(bs, NULL, "tag", NULL),
                     -ENOTSUP);
    assert_int_equal(bdrv_co_snapshot_list(bs, &list, NULL), -ENOTSUP);
    assert_int_equal(bdrv_co_snapshot_find(bs, "tag", NULL), -ENOTSUP);
    assert_null(list);
    return 0;
}

static void test_snapshots_are_refused_by_formats_without(void **state)
{
    Fixture *f = *state;

    open_disk(f, 0);
    assert_false(bdrv_can_snapshot(blk_bs(f->blk)));
    run_coroutine(snapshot_everything, blk_bs(f->blk));
}

#define IO_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    IO_TEST(test_guest_bounds_are_checked),
    IO_TEST(test_file_reads_zero_past_its_end),
    IO_TEST(test_file_grows_when_it_can),
    IO_TEST(test_read_only_is_not_written),
    IO_TEST(test_random_requests_at_any_alignment),
    IO_TEST(test_bounce_buffer_is_bounded),
    IO_TEST(test_aligned_requests_pass_untouched),
    IO_TEST(test_two_partial_writes_to_a_block_both_survive),
    IO_TEST(test_aligned_write_waits_for_partial_write),
    IO_TEST(test_overlapping_partial_writes_never_deadlock),
    IO_TEST(test_flush_reaches_the_file_once_per_write),
    IO_TEST(test_failed_flush_is_tried_again),
    IO_TEST(test_flush_does_not_trust_one_that_began_before),
    IO_TEST(test_fua_is_emulated_by_a_flush),
    IO_TEST(test_fua_is_passed_to_a_driver_that_has_it),
    IO_TEST(test_writethrough_makes_every_write_durable),
    IO_TEST(test_no_flush_keeps_flushes_away),
    IO_TEST(test_zeroes_fall_back_to_data),
    IO_TEST(test_zeroes_use_the_driver_in_the_middle),
    IO_TEST(test_discard_shrinks_to_whole_blocks),
    IO_TEST(test_discard_is_ignored_unless_asked_for),
    IO_TEST(test_truncate_waits_for_requests_and_holds_new_ones),
    IO_TEST(test_block_status_without_support_is_data),
    IO_TEST(test_every_nth_failure_comes_back),
    IO_TEST(test_null_has_no_storage),
    IO_TEST(test_snapshots_are_refused_by_formats_without),
};

FIRN_TEST_MAIN(tests)
