/* SPDX-License-Identifier: MIT */
/* The vmstate pipeline: write-behind, read-ahead, errors, interleavings. */
#include "vmstate_fixture.h"

static const BdrvVmstateOptions four = { .workers = 4, .chunk_bytes = CHUNK };

static void begin_save(Fixture *x, const BdrvVmstateOptions *opts)
{
    assert_int_equal(bdrv_co_vmstate_begin_save(x->bs, opts, NULL), 0);
}

static uint64_t begin_load(Fixture *x, const BdrvVmstateOptions *opts)
{
    uint64_t size = 0;

    assert_int_equal(bdrv_co_vmstate_begin_load(x->bs, "s", opts, &size,
                                                NULL), 0);
    return size;
}

/* Run @fn on a fresh fixture that has snapshot "s" of @bytes (0: none). */
static void run_case(int coroutine_fn (*fn)(void *), size_t bytes)
{
    Fixture x;

    fixture_open(&x, NULL);
    if (bytes > 0) {
        add_pattern_snapshot(&x, "s", bytes);
    }
    assert_int_equal(run_one(&x, fn), 0);
    assert_null(x.bs->vmstate);
    fixture_close(&x);
}

/* --- Saving --- */

static int coroutine_fn save_small_pieces(void *opaque)
{
    Fixture *x = opaque;
    uint64_t end = 10 * CHUNK + 77;
    int ret;

    begin_save(x, &four);
    for (uint64_t pos = 0; pos < end; pos += 333) {
        ret = write_pattern(x->bs, pos, MIN(333, end - pos));
        assert_int_equal(ret, 0);
    }
    ret = bdrv_co_finalize_vmstate(x->bs);

    assert_int_equal(x->fake->requests->len, 11);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(fake_request(x->fake, i)->bytes, CHUNK);
    }
    assert_int_equal(x->fake->active->len, end);
    check_pattern(x->fake->active->data, 0, end);
    return ret;
}

static void test_small_writes_become_chunks(void **state)
{
    run_case(save_small_pieces, 0);
}

static int coroutine_fn save_from_the_middle(void *opaque)
{
    Fixture *x = opaque;
    int ret;

    begin_save(x, &four);
    assert_int_equal(write_pattern(x->bs, 100, 2 * CHUNK), 0);
    assert_int_equal(write_pattern(x->bs, 5 * CHUNK + 10, 2 * CHUNK), 0);
    assert_int_equal(write_pattern(x->bs, 0, 100), 0);
    ret = bdrv_co_finalize_vmstate(x->bs);

    /* Chunks end where chunks end, wherever a run starts. */
    for (guint i = 0; i < x->fake->requests->len; i++) {
        FakeRequest *r = fake_request(x->fake, i);

        assert_int_equal(r->pos / CHUNK, (r->pos + r->bytes - 1) / CHUNK);
    }
    check_pattern(x->fake->active->data, 0, 100 + 2 * CHUNK);
    check_pattern(x->fake->active->data + 5 * CHUNK + 10, 5 * CHUNK + 10,
                  2 * CHUNK);
    return ret;
}

static void test_write_elsewhere_goes_on_from_there(void **state)
{
    run_case(save_from_the_middle, 0);
}

static int coroutine_fn save_large(void *opaque)
{
    Fixture *x = opaque;
    uint8_t *buf = blk_try_memalign(8 * CHUNK);
    int ret;

    fill_pattern(buf, CHUNK, 8 * CHUNK);
    begin_save(x, &four);
    assert_int_equal(write_pattern(x->bs, 0, CHUNK / 2), 0);
    assert_int_equal(write_pattern(x->bs, CHUNK / 2, CHUNK / 2), 0);
    assert_int_equal(write_at(x->bs, CHUNK, buf, 8 * CHUNK), 0);
    assert_int_equal(write_pattern(x->bs, 9 * CHUNK, 10), 0);
    ret = bdrv_co_finalize_vmstate(x->bs);

    assert_int_equal(x->fake->requests->len, 10);
    for (unsigned i = 0; i < 8; i++) {
        assert_ptr_equal(fake_request(x->fake, 1 + i)->base, buf + i * CHUNK);
    }
    check_pattern(x->fake->active->data, 0, 9 * CHUNK + 10);
    free(buf);
    return ret;
}

static void test_large_aligned_write_is_not_copied(void **state)
{
    run_case(save_large, 0);
}

static int coroutine_fn save_reserved(void *opaque)
{
    Fixture *x = opaque;
    uint64_t pos = 0;
    uint64_t end = 7 * CHUNK + 9;

    begin_save(x, &four);
    while (pos < end) {
        uint8_t *room;
        size_t bytes;

        assert_int_equal(bdrv_co_vmstate_reserve(x->bs, pos, &room, &bytes),
                         0);
        bytes = MIN(MIN(bytes, 1500), end - pos);
        fill_pattern(room, pos, bytes);
        bdrv_vmstate_commit(x->bs, bytes);
        pos += bytes;
    }
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), 0);
    assert_int_equal(x->fake->active->len, end);
    check_pattern(x->fake->active->data, 0, end);
    return 0;
}

static void test_reserved_room_is_written(void **state)
{
    run_case(save_reserved, 0);
}

static int coroutine_fn overwrite_actor(Actor *a)
{
    begin_save(a->x, &four);
    assert_int_equal(write_pattern(a->x->bs, 0, 4 * CHUNK), 0);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t buf[CHUNK + 600];

        memset(buf, 'a' + (int)i, sizeof(buf));
        assert_int_equal(write_at(a->x->bs, CHUNK - 300, buf, sizeof(buf)), 0);
    }
    return bdrv_co_finalize_vmstate(a->x->bs);
}

/* Whatever the disk finishes first, the later write wins. */
static void test_later_write_wins_in_any_order_of_completion(void **state)
{
    for (guint32 seed = 0; seed < 50; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        Fixture x;
        Actor a = { .fn = overwrite_actor, .x = &x };

        fixture_open(&x, NULL);
        x.fake->hold = true;
        actor_start(&a);
        run_actors(&x, &a, 1, rand);
        assert_int_equal(a.ret, 0);
        check_pattern(x.fake->active->data, 0, CHUNK - 300);
        for (unsigned i = 0; i < CHUNK + 600; i++) {
            assert_int_equal(x.fake->active->data[CHUNK - 300 + i], 'c');
        }
        check_pattern(x.fake->active->data + 2 * CHUNK + 300, 2 * CHUNK + 300,
                      2 * CHUNK - 300);
        fixture_close(&x);
    }
}

static int coroutine_fn writer_actor(Actor *a)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(a->seed);
    uint64_t pos = a->pos;
    uint64_t end = a->pos + a->bytes;
    uint8_t *large = blk_try_memalign(2 * CHUNK);
    int ret = 0;

    while (pos < end && ret == 0) {
        size_t bytes = (size_t)g_rand_int_range(rand, 1, 3000);

        if (IS_ALIGNED(pos, CHUNK) && end - pos >= 2 * CHUNK &&
            g_rand_boolean(rand)) {
            bytes = 2 * CHUNK;
            fill_pattern(large, pos, bytes);
            ret = write_at(a->x->bs, pos, large, bytes);
        } else {
            bytes = MIN(bytes, CHUNK - pos % CHUNK);
            ret = write_pattern(a->x->bs, pos, MIN(bytes, end - pos));
        }
        pos += MIN(bytes, end - pos);
    }
    free(large);
    return ret;
}

static int coroutine_fn begin_save_actor(Actor *a)
{
    begin_save(a->x, &four);
    return 0;
}

static int coroutine_fn begin_load_actor(Actor *a)
{
    begin_load(a->x, &four);
    return 0;
}

static int coroutine_fn finalize_actor(Actor *a)
{
    return bdrv_co_finalize_vmstate(a->x->bs);
}

static void run_single(Fixture *x, int coroutine_fn (*fn)(Actor *),
                       GRand *rand)
{
    Actor a = { .fn = fn, .x = x };

    actor_start(&a);
    run_actors(x, &a, 1, rand);
    assert_int_equal(a.ret, 0);
}

/*
 *   writer 0         writer 1         writer 2         disk
 *   [0, 9 chunks)    [9, 18)          [18, 27)         drawn order
 *   pieces of drawn sizes, some past the buffer
 */
static void test_writers_share_the_pipeline(void **state)
{
    for (guint32 seed = 0; seed < 60; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        Fixture x;
        Actor actors[3];

        fixture_open(&x, NULL);
        run_single(&x, begin_save_actor, rand);
        x.fake->hold = true;
        for (unsigned i = 0; i < 3; i++) {
            actors[i] = (Actor) {
                .fn = writer_actor, .x = &x, .pos = i * 9 * CHUNK,
                .bytes = 9 * CHUNK, .seed = seed * 3 + i,
            };
            actor_start(&actors[i]);
        }

        run_actors(&x, actors, 3, rand);
        run_single(&x, finalize_actor, rand);

        assert_in_range(x.fake->max_in_flight, 1, 4);
        assert_int_equal(x.fake->active->len, 27 * CHUNK);
        check_pattern(x.fake->active->data, 0, 27 * CHUNK);
        fixture_close(&x);
    }
}

/* --- Loading --- */

static int coroutine_fn load_small_pieces(void *opaque)
{
    Fixture *x = opaque;
    uint64_t size = begin_load(x, &four);
    int ret;

    assert_int_equal(size, 9 * CHUNK + 50);
    for (uint64_t pos = 0; pos < size; pos += 111) {
        ret = read_pattern(x->bs, pos, MIN(111, size - pos));
        assert_int_equal(ret, 0);
    }
    assert_int_equal(read_pattern(x->bs, size - 1, 2), -EINVAL);
    assert_int_equal(read_pattern(x->bs, UINT64_MAX, 2), -EINVAL);
    ret = bdrv_co_finalize_vmstate(x->bs);
    assert_int_equal(x->fake->requests->len, 10);
    return ret;
}

static void test_small_reads_come_from_chunks(void **state)
{
    run_case(load_small_pieces, 9 * CHUNK + 50);
}

static int coroutine_fn first_byte_actor(Actor *a)
{
    return read_pattern(a->x->bs, 0, 1);
}

static int coroutine_fn first_chunk_actor(Actor *a)
{
    return read_pattern(a->x->bs, 1, CHUNK - 1);
}

static void test_window_is_loaded_ahead_and_refilled_at_once(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    Fixture x;
    Actor a = { .fn = first_byte_actor, .x = &x };
    Actor b = { .fn = first_chunk_actor, .x = &x };

    fixture_open(&x, NULL);
    add_pattern_snapshot(&x, "s", 20 * CHUNK);
    run_single(&x, begin_load_actor, rand);
    x.fake->hold = true;
    actor_start(&a);
    settle(&x);
    assert_int_equal(x.fake->in_flight, 4);

    fake_release(x.fake, 0);
    settle(&x);
    assert_true(a.done);
    assert_int_equal(x.fake->in_flight, 3);
    actor_start(&b);
    settle(&x);

    assert_true(b.done);
    assert_int_equal(x.fake->in_flight, 4);
    assert_int_equal(fake_request(x.fake, 4)->pos, 4 * CHUNK);
    run_single(&x, finalize_actor, rand);
    fixture_close(&x);
}

static int coroutine_fn load_elsewhere(void *opaque)
{
    Fixture *x = opaque;

    begin_load(x, &four);
    assert_int_equal(read_pattern(x->bs, 0, 100), 0);
    assert_int_equal(x->fake->requests->len, 4);

    assert_int_equal(read_pattern(x->bs, 10 * CHUNK, 100), 0);
    assert_int_equal(x->fake->requests->len, 5);
    assert_int_equal(fake_request(x->fake, 4)->bytes, 100);
    /* The reader that left comes back to its window. */
    assert_int_equal(read_pattern(x->bs, 100, 100), 0);
    assert_int_equal(x->fake->requests->len, 5);
    /* A second run gets the window once it is a run. */
    assert_int_equal(read_pattern(x->bs, 12 * CHUNK + 5, 100), 0);
    assert_int_equal(x->fake->requests->len, 6);
    assert_int_equal(read_pattern(x->bs, 12 * CHUNK + 105, 100), 0);
    assert_int_equal(fake_request(x->fake, 6)->pos, 12 * CHUNK + 105);
    assert_int_equal(fake_request(x->fake, 7)->pos, 13 * CHUNK);
    assert_int_equal(x->fake->requests->len, 10);
    assert_int_equal(read_pattern(x->bs, 12 * CHUNK + 205, 3 * CHUNK), 0);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_read_elsewhere_is_plain_and_a_run_rearms(void **state)
{
    run_case(load_elsewhere, 20 * CHUNK);
}

static int coroutine_fn load_large(void *opaque)
{
    Fixture *x = opaque;
    uint8_t *buf = blk_try_memalign(8 * CHUNK);

    begin_load(x, &four);
    assert_int_equal(read_at(x->bs, 0, buf, 8 * CHUNK), 0);
    check_pattern(buf, 0, 8 * CHUNK);
    assert_int_equal(x->fake->requests->len, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_ptr_equal(fake_request(x->fake, i)->base, buf + i * CHUNK);
    }
    assert_int_equal(read_pattern(x->bs, 8 * CHUNK, 10), 0);
    assert_int_equal(x->fake->requests->len, 12);
    free(buf);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_large_aligned_read_is_not_copied(void **state)
{
    run_case(load_large, 20 * CHUNK);
}

static int coroutine_fn load_peeking(void *opaque)
{
    Fixture *x = opaque;
    uint64_t size = begin_load(x, &four);
    const uint8_t *data;
    uint64_t pos = 0;
    size_t bytes;

    while (pos < size) {
        assert_int_equal(bdrv_co_vmstate_peek(x->bs, pos, &data, &bytes), 0);
        check_pattern(data, pos, bytes);
        pos += pos % 3 ? bytes : (bytes + 1) / 2;
    }
    assert_int_equal(x->fake->requests->len, 13);
    assert_int_equal(bdrv_co_vmstate_peek(x->bs, size, &data, &bytes),
                     -EINVAL);
    /* Back to where a device's state began. */
    assert_int_equal(bdrv_co_vmstate_peek(x->bs, 3 * CHUNK + 5, &data,
                                          &bytes), 0);
    check_pattern(data, 3 * CHUNK + 5, bytes);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_peek_shows_the_whole_stream(void **state)
{
    run_case(load_peeking, 12 * CHUNK + 3);
}

static int coroutine_fn reader_actor(Actor *a)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(a->seed);
    uint8_t *large = blk_try_memalign(4 * CHUNK);
    uint64_t pos = a->pos;
    uint64_t end = a->pos + a->bytes;
    int ret = 0;

    while (pos < end && ret == 0) {
        size_t bytes = (size_t)g_rand_int_range(rand, 1, 5000);

        bytes = MIN(bytes, end - pos);
        if (IS_ALIGNED(pos, CHUNK) && end - pos >= 4 * CHUNK &&
            g_rand_boolean(rand)) {
            bytes = 4 * CHUNK;
            ret = read_at(a->x->bs, pos, large, bytes);
            check_pattern(large, pos, bytes);
        } else {
            ret = read_pattern(a->x->bs, pos, bytes);
        }
        pos += bytes;
        if (g_rand_int_range(rand, 0, 8) == 0) {
            pos += (uint64_t)g_rand_int_range(rand, 0, 3 * CHUNK);
        }
    }
    free(large);
    return ret;
}

/*
 *   reader 0         reader 1         reader 2          disk
 *   from 0           from 0           from 11 chunks    drawn order
 *   pieces of drawn sizes, with gaps; some past the buffer
 */
static void test_readers_share_the_pipeline(void **state)
{
    for (guint32 seed = 0; seed < 100; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        Fixture x;
        Actor actors[3];

        fixture_open(&x, NULL);
        add_pattern_snapshot(&x, "s", 33 * CHUNK + 17);
        run_single(&x, begin_load_actor, rand);
        x.fake->hold = true;
        for (unsigned i = 0; i < 3; i++) {
            actors[i] = (Actor) {
                .fn = reader_actor, .x = &x, .pos = i / 2 * 11 * CHUNK,
                .bytes = 22 * CHUNK, .seed = seed * 3 + i,
            };
            actor_start(&actors[i]);
        }

        run_actors(&x, actors, 3, rand);
        run_single(&x, finalize_actor, rand);

        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(actors[i].ret, 0);
        }
        assert_in_range(x.fake->max_in_flight, 1, 4 + 3); /* plain ones too */
        fixture_close(&x);
    }
}

/* --- Errors --- */

static int coroutine_fn save_actor(Actor *a)
{
    begin_save(a->x, &four);
    for (uint64_t pos = 0; pos < 8 * CHUNK + 9; pos += 1000) {
        if (write_pattern(a->x->bs, pos, 1000) < 0) {
            break;
        }
    }
    return bdrv_co_finalize_vmstate(a->x->bs);
}

static int coroutine_fn load_actor(Actor *a)
{
    int ret = 0;

    begin_load(a->x, &four);
    for (uint64_t pos = 0; pos < 8 * CHUNK && ret == 0; pos += 1024) {
        ret = read_pattern(a->x->bs, pos, 1024);
    }
    assert_int_equal(bdrv_co_finalize_vmstate(a->x->bs), -EIO);
    return -EIO;
}

static void fail_nth(int coroutine_fn (*fn)(Actor *), unsigned requests)
{
    for (unsigned n = 1; n <= requests; n++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(n);
        Fixture x;
        Actor a = { .fn = fn, .x = &x };

        fixture_open(&x, NULL);
        add_pattern_snapshot(&x, "s", 8 * CHUNK);
        x.fake->hold = true;
        x.fake->fail_request = n;
        actor_start(&a);
        run_actors(&x, &a, 1, rand);
        assert_int_equal(a.ret, -EIO);
        assert_null(x.bs->vmstate);
        fixture_close(&x);
    }
}

static void test_any_failed_write_is_reported_and_nothing_leaks(void **state)
{
    fail_nth(save_actor, 9);
}

static void test_any_failed_read_is_reported_and_nothing_leaks(void **state)
{
    fail_nth(load_actor, 8);
}

static int coroutine_fn latch(void *opaque)
{
    Fixture *x = opaque;
    uint8_t *room;
    size_t bytes;

    begin_save(x, &four);
    x->fake->fail_request = 1;
    x->fake->error = -ENOSPC;
    write_pattern(x->bs, 0, 4 * CHUNK);
    while (write_pattern(x->bs, 8 * CHUNK, 1) == 0) {
        aio_co_sleep_ns(0);
    }
    assert_int_equal(write_pattern(x->bs, 0, 1), -ENOSPC);
    assert_int_equal(bdrv_co_vmstate_reserve(x->bs, 0, &room, &bytes),
                     -ENOSPC);
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), -ENOSPC);
    return 0;
}

static void test_errors_latch(void **state)
{
    run_case(latch, 0);
}

/* --- Life cycle --- */

static void check_options(Fixture *x, BdrvVmstateOptions opts, int expect)
{
    assert_int_equal(bdrv_co_vmstate_begin_save(x->bs, &opts, NULL), expect);
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), 0);
}

static int coroutine_fn misuse(void *opaque)
{
    Fixture *x = opaque;
    GError *err = NULL;
    uint8_t byte = 0;

    check_options(x, (BdrvVmstateOptions) { .workers = 65 }, -EINVAL);
    check_options(x, (BdrvVmstateOptions) { .workers = 64 }, 0);
    check_options(x, (BdrvVmstateOptions) { .chunk_bytes = 4095 }, -EINVAL);
    check_options(x, (BdrvVmstateOptions) { .chunk_bytes = 65 << 20 },
                  -EINVAL);
    assert_int_equal(write_at(x->bs, 0, &byte, 1), -EINVAL);
    assert_int_equal(read_at(x->bs, 0, &byte, 1), -EINVAL);
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), 0);
    assert_int_equal(bdrv_co_vmstate_begin_load(x->bs, "nope", NULL, NULL,
                                                &err), -ENOENT);
    assert_non_null(strstr(err->message, "nope"));
    g_clear_error(&err);

    begin_load(x, NULL);
    assert_int_equal(bdrv_co_vmstate_begin_save(x->bs, NULL, NULL), -EBUSY);
    assert_int_equal(write_at(x->bs, 0, &byte, 1), -EINVAL);
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), 0);
    assert_null(x->fake->selected);

    g_byte_array_append(x->fake->active, (const guint8 *)"stale", 5);
    begin_save(x, NULL);
    assert_int_equal(x->fake->active->len, 0);
    assert_int_equal(read_at(x->bs, 0, &byte, 1), -EINVAL);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_misuse_is_refused(void **state)
{
    run_case(misuse, 100);
}

static int coroutine_fn plain(void *opaque)
{
    static const BdrvVmstateOptions opts = {
        .workers = 1, .no_readahead = true,
    };
    Fixture *x = opaque;
    const uint8_t *data;
    uint64_t pos = 0;
    uint8_t *room;
    size_t bytes;

    begin_save(x, &opts);
    assert_int_equal(write_pattern(x->bs, 0, 10), 0);
    assert_int_equal(x->fake->requests->len, 1);
    for (pos = 10; pos < 70000; pos += bytes) {
        assert_int_equal(bdrv_co_vmstate_reserve(x->bs, pos, &room, &bytes),
                         0);
        bytes = MIN(bytes, 5000);
        fill_pattern(room, pos, bytes);
        bdrv_vmstate_commit(x->bs, bytes);
    }
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), 0);
    assert_int_equal(x->fake->requests->len, 4);
    assert_int_equal(fake_request(x->fake, 2)->bytes, VMSTATE_PLAIN_CHUNK);
    assert_int_equal(x->fake->max_in_flight, 1);
    check_pattern(x->fake->active->data, 0, pos);

    fake_reset_log(x->fake);
    assert_int_equal(begin_load(x, &opts), 100000);
    assert_int_equal(read_pattern(x->bs, 5, 10), 0);
    assert_int_equal(x->fake->requests->len, 1);
    for (pos = 0; pos < 100000; pos += bytes) {
        assert_int_equal(bdrv_co_vmstate_peek(x->bs, pos, &data, &bytes), 0);
        check_pattern(data, pos, bytes);
    }
    assert_int_equal(x->fake->requests->len, 5);
    assert_int_equal(fake_request(x->fake, 1)->bytes, VMSTATE_PLAIN_CHUNK);
    assert_int_equal(x->fake->max_in_flight, 1);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_without_readahead_pieces_are_plain_requests(void **state)
{
    run_case(plain, 100000);
}

static int coroutine_fn big_write_actor(Actor *a)
{
    return write_pattern(a->x->bs, 0, 20 * CHUNK);
}

static int coroutine_fn reserve_actor(Actor *a)
{
    uint8_t *room;
    size_t bytes;

    return bdrv_co_vmstate_reserve(a->x->bs, a->pos, &room, &bytes);
}

static void test_finalize_waits_for_calls_in_other_coroutines(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    Fixture x;
    Actor actors[3] = {
        { .fn = big_write_actor, .x = &x },
        { .fn = finalize_actor, .x = &x },
        { .fn = finalize_actor, .x = &x },
    };

    fixture_open(&x, NULL);
    run_single(&x, begin_save_actor, rand);
    x.fake->hold = true;
    actor_start(&actors[0]);
    settle(&x);
    actor_start(&actors[1]);
    actor_start(&actors[2]);
    run_actors(&x, actors, 3, rand);

    assert_int_equal(actors[0].ret, 0);
    assert_int_equal(actors[1].ret, 0);
    assert_int_equal(actors[2].ret, -EBUSY);
    check_pattern(x.fake->active->data, 0, 20 * CHUNK);
    fixture_close(&x);
}

static void test_finalize_drops_a_reservation(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    Fixture x;
    Actor waiter = { .fn = reserve_actor, .x = &x, .pos = 5 };
    Actor closer = { .fn = finalize_actor, .x = &x };

    fixture_open(&x, NULL);
    run_single(&x, begin_save_actor, rand);
    run_single(&x, reserve_actor, rand);
    actor_start(&waiter);
    settle(&x);
    assert_false(waiter.done);
    actor_start(&closer);
    run_actors(&x, &closer, 1, rand);

    assert_true(waiter.done);
    assert_int_equal(closer.ret, 0);
    fixture_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_writes_become_chunks),
        cmocka_unit_test(test_write_elsewhere_goes_on_from_there),
        cmocka_unit_test(test_large_aligned_write_is_not_copied),
        cmocka_unit_test(test_reserved_room_is_written),
        cmocka_unit_test(test_later_write_wins_in_any_order_of_completion),
        cmocka_unit_test(test_writers_share_the_pipeline),
        cmocka_unit_test(test_small_reads_come_from_chunks),
        cmocka_unit_test(test_window_is_loaded_ahead_and_refilled_at_once),
        cmocka_unit_test(test_read_elsewhere_is_plain_and_a_run_rearms),
        cmocka_unit_test(test_large_aligned_read_is_not_copied),
        cmocka_unit_test(test_peek_shows_the_whole_stream),
        cmocka_unit_test(test_readers_share_the_pipeline),
        cmocka_unit_test(test_any_failed_write_is_reported_and_nothing_leaks),
        cmocka_unit_test(test_any_failed_read_is_reported_and_nothing_leaks),
        cmocka_unit_test(test_errors_latch),
        cmocka_unit_test(test_misuse_is_refused),
        cmocka_unit_test(test_without_readahead_pieces_are_plain_requests),
        cmocka_unit_test(test_finalize_waits_for_calls_in_other_coroutines),
        cmocka_unit_test(test_finalize_drops_a_reservation),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
