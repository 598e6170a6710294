/* SPDX-License-Identifier: MIT */
/*
 * The faults of S1 that belong to the generic block layer, each with the test
 * that -Dplant=NAME makes fail (docs/testing.md).
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

/* What a callback has seen. */
typedef struct Seen {
    FakeDisk *disk;
    unsigned calls;
    int ret;
    bool in_coroutine;
    bool in_submit;
    bool submitting;
    unsigned in_flight; /* on the disk, when it ran */
} Seen;

/* Somebody who drains. */
typedef struct Drainer {
    BlockDriverState *bs;
    FakeDisk *disk;
    bool drained;
    unsigned in_flight; /* when begin returned */
} Drainer;

/* What requests use is here and not on the stack of the test: with a plant a
 * test fails, and ends, while they are under way. */
typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
    Seen seen[2];
    Drainer drainer;
    uint8_t buf[512];
    QEMUIOVector qiov;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    alarm(FIRN_TEST_HANG);
    f->disk = fake_disk_new("d", 1 << 20);
    f->seen[0].disk = f->seen[1].disk = f->drainer.disk = f->disk;
    qemu_iovec_init_buf(&f->qiov, f->buf, sizeof(f->buf));
    *state = f;
    return blk_open(test_ctx, "fake:d", NULL, BDRV_O_RDWR, &f->blk, NULL);
}

static int teardown(void **state)
{
    Fixture *f = *state;

    fake_release_all(f->disk);
    while (blk_bs(f->blk)->quiesce_counter > 0) {
        bdrv_drained_end(blk_bs(f->blk));
    }
    blk_close(f->blk);
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

static void record(void *opaque, int ret)
{
    Seen *s = opaque;

    s->calls++;
    s->ret = ret;
    s->in_coroutine = co_in_coroutine();
    s->in_submit = s->submitting;
    s->in_flight = s->disk->in_flight;
}

/* --- Completion --- */

static void check_completion(Fixture *f, bool sync)
{
    Seen *seen = &f->seen[0];

    seen->submitting = true;
    f->disk->sync = sync;
    blk_aio_pwritev(f->blk, 0, &f->qiov, 0, record, seen);
    seen->submitting = false;

    TEST_WAIT_UNTIL(seen->calls > 0);
    test_turns(3);
    assert_int_equal(seen->calls, 1);
    assert_int_equal(seen->ret, 0);
    assert_false(seen->in_coroutine);
    assert_false(seen->in_submit);
    assert_int_equal(seen->in_flight, 0);
}

static void test_s1_completion_in_coroutine(void **state)
{
    check_completion(*state, false);
}

static void test_s1_completion_in_coroutine_of_request_without_io(void **state)
{
    check_completion(*state, true);
}

/* A callback may use the disk with blocking calls: it is outside a request. */
static void write_again(void *opaque, int ret)
{
    Fixture *f = opaque;

    record(&f->seen[0], ret);
    if (f->seen[0].in_coroutine) {
        return; /* the test fails; blocking calls would abort here */
    }
    f->seen[0].ret = blk_pwrite(f->blk, 512, 4, "next");
    bdrv_drained_begin(blk_bs(f->blk));
    bdrv_drained_end(blk_bs(f->blk));
}

static void test_s1_completion_in_coroutine_would_hang_blocking_calls(
    void **state)
{
    Fixture *f = *state;

    blk_aio_flush(f->blk, write_again, f);
    TEST_WAIT_UNTIL(f->seen[0].calls > 0);
    assert_false(f->seen[0].in_coroutine);
    assert_int_equal(f->seen[0].ret, 0);
}

/* --- Cancel --- */

/*
 *   test                                disk
 *   ------------------------------------------------------
 *   blk_aio_pwritev                     write arrives, held
 *   blk_aio_cancel starts, polls
 *     bottom half: fake_release
 *                                       data is copied, done
 *     callback
 *   blk_aio_cancel returns, buffer may go
 */
static void release_held(void *opaque)
{
    fake_release_all(opaque);
}

static void test_s1_cancel_frees_in_flight(void **state)
{
    Fixture *f = *state;
    Seen *seen = &f->seen[0];
    BlockAIOCB *acb;
    uint8_t now[512];

    test_fill(f->buf, 512, 1);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    acb = blk_aio_pwritev(f->blk, 0, &f->qiov, 0, record, seen);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);

    aio_bh_schedule_oneshot(test_ctx, release_held, f->disk);
    blk_aio_cancel(acb);

    assert_int_equal(seen->calls, 1);
    assert_int_equal(seen->in_flight, 0);
    assert_int_equal(f->disk->in_flight, 0);
    fake_disk_peek(f->disk, 0, now, 512);
    assert_true(test_matches(now, 512, 1));
}

static void test_s1_cancel_async_reports_after_the_io(void **state)
{
    Fixture *f = *state;
    Seen *seen = &f->seen[0];
    BlockAIOCB *acb;

    fake_hold(f->disk, FAKE_READ, 0, 0);
    acb = blk_aio_preadv(f->blk, 0, &f->qiov, 0, record, seen);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);

    blk_aio_cancel_async(acb);
    blk_aio_cancel_async(acb);
    test_turns(10);
    assert_int_equal(seen->calls, 0);

    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(seen->calls > 0);
    test_turns(3);
    assert_int_equal(seen->calls, 1);
    assert_int_equal(seen->in_flight, 0);
}

static void test_s1_cancel_of_queued_request_never_reaches_the_disk(
    void **state)
{
    Fixture *f = *state;
    Seen *first = &f->seen[0], *second = &f->seen[1];
    BlockAIOCB *acb;

    fake_log_clear(f->disk);
    bdrv_drained_begin(blk_bs(f->blk));
    acb = blk_aio_pwritev(f->blk, 0, &f->qiov, 0, record, first);
    blk_aio_pwritev(f->blk, 512, &f->qiov, 0, record, second);

    blk_aio_cancel(acb);

    assert_int_equal(first->calls, 1);
    assert_int_equal(first->ret, -ECANCELED);
    assert_int_equal(second->calls, 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 0);
    bdrv_drained_end(blk_bs(f->blk));
    TEST_WAIT_UNTIL(second->calls > 0);
    assert_int_equal(second->ret, 0);
    assert_int_equal(fake_count(f->disk, FAKE_ANY), 1);
}

/* --- Drain --- */

static void coroutine_fn drain_entry(void *opaque)
{
    Drainer *d = opaque;

    bdrv_co_drained_begin(d->bs);
    d->drained = true;
    d->in_flight = d->disk->in_flight;
}

/*
 *   writer A            drainer             writer B
 *   ------------------------------------------------------
 *   write, held
 *                       drained_begin
 *                         waits for A
 *                                           write: queued
 *   released, done
 *                       begin returns
 *                       drained_end
 *                                           write reaches the disk
 */
static void test_s1_drain_ignores_in_flight(void **state)
{
    Fixture *f = *state;
    Seen *a = &f->seen[0], *b = &f->seen[1];
    Drainer *d = &f->drainer;

    d->bs = blk_bs(f->blk);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, 0, 512);
    blk_aio_pwritev(f->blk, 0, &f->qiov, 0, record, a);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);

    test_spawn(drain_entry, d);
    blk_aio_pwritev(f->blk, 4096, &f->qiov, 0, record, b);
    test_turns(10);
    assert_false(d->drained);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 1);

    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(d->drained);
    assert_int_equal(d->in_flight, 0);
    test_turns(10);
    assert_int_equal(a->calls, 1);
    assert_int_equal(b->calls, 0);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 1);

    bdrv_drained_end(blk_bs(f->blk));
    TEST_WAIT_UNTIL(b->calls > 0);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 2);
}

static void test_s1_drain_ignores_in_flight_on_lower_node(void **state)
{
    Fixture *f = *state;
    BlockDriverState *lower = blk_bs(f->blk)->file->bs;
    Drainer *d = &f->drainer;

    d->bs = blk_bs(f->blk);
    bdrv_inc_in_flight(lower);
    test_spawn(drain_entry, d);
    test_turns(10);
    bdrv_dec_in_flight(lower);
    assert_false(d->drained);

    TEST_WAIT_UNTIL(d->drained);
    bdrv_drained_end(lower); /* any node of the tree stands for the tree */
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), 0);
}

static void test_drains_nest(void **state)
{
    Fixture *f = *state;
    Seen *seen = &f->seen[0];

    bdrv_drained_begin(blk_bs(f->blk));
    bdrv_drained_begin(blk_bs(f->blk)->file->bs);
    blk_aio_flush(f->blk, record, seen);
    bdrv_drained_end(blk_bs(f->blk));
    test_turns(10);
    assert_int_equal(seen->calls, 0);

    bdrv_drained_end(blk_bs(f->blk));
    TEST_WAIT_UNTIL(seen->calls > 0);
}

/* --- Exclusive --- */

typedef struct Excluder {
    BlockDriverState *bs;
    unsigned *running;
    unsigned *max;
    bool done;
} Excluder;

static void coroutine_fn exclusive_entry(void *opaque)
{
    Excluder *e = opaque;

    bdrv_co_exclusive_begin(e->bs);
    ++*e->running;
    *e->max = MAX(*e->max, *e->running);
    aio_co_sleep_ns(0);
    --*e->running;
    bdrv_co_exclusive_end(e->bs);
    e->done = true;
}

static void test_exclusive_operations_do_not_meet(void **state)
{
    Fixture *f = *state;
    unsigned running = 0, max = 0;
    Excluder e[4];

    for (int i = 0; i < 4; i++) {
        e[i] = (Excluder) { blk_bs(f->blk), &running, &max, false };
        test_spawn(exclusive_entry, &e[i]);
    }
    for (int i = 0; i < 4; i++) {
        TEST_WAIT_UNTIL(e[i].done);
    }
    assert_int_equal(max, 1);
}

#define S1_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    S1_TEST(test_s1_completion_in_coroutine),
    S1_TEST(test_s1_completion_in_coroutine_of_request_without_io),
    S1_TEST(test_s1_completion_in_coroutine_would_hang_blocking_calls),
    S1_TEST(test_s1_cancel_frees_in_flight),
    S1_TEST(test_s1_cancel_async_reports_after_the_io),
    S1_TEST(test_s1_cancel_of_queued_request_never_reaches_the_disk),
    S1_TEST(test_s1_drain_ignores_in_flight),
    S1_TEST(test_s1_drain_ignores_in_flight_on_lower_node),
    S1_TEST(test_drains_nest),
    S1_TEST(test_exclusive_operations_do_not_meet),
};

FIRN_TEST_MAIN(tests)
