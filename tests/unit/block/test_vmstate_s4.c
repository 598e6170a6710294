/* SPDX-License-Identifier: MIT */
/*
 * The faults that the review of vmstate write-behind and read-ahead found
 * (SEEDS.md S4): one test for each, which bears its name and fails in a build
 * with the plant of that name.
 */
#include "vmstate_fixture.h"

static const BdrvVmstateOptions four = { .workers = 4, .chunk_bytes = CHUNK };

static int coroutine_fn begin_save(Fixture *x)
{
    return bdrv_co_vmstate_begin_save(x->bs, &four, NULL);
}

/* --- S4_FINALIZE_SKIPS_CLEANUP --- */

static int coroutine_fn fail_then_save_again(void *opaque)
{
    Fixture *x = opaque;

    assert_int_equal(begin_save(x), 0);
    x->fake->fail_request = 2;
    write_pattern(x->bs, 0, 5 * CHUNK);
    assert_int_equal(bdrv_co_finalize_vmstate(x->bs), -EIO);

    assert_int_equal(begin_save(x), 0);
    assert_int_equal(write_pattern(x->bs, 0, 2 * CHUNK), 0);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_s4_finalize_skips_cleanup(void **state)
{
    Fixture x;

    fixture_open(&x, NULL);

    assert_int_equal(run_one(&x, fail_then_save_again), 0);

    assert_null(x.bs->vmstate);
    check_pattern(x.fake->active->data, 0, 2 * CHUNK);
    fixture_close(&x);
}

/* --- S4_TAIL_AFTER_FAILURE --- */

static int coroutine_fn save_with_tail(Actor *a)
{
    int ret;

    assert_int_equal(begin_save(a->x), 0);
    ret = write_pattern(a->x->bs, 0, 2 * CHUNK + 100);
    return ret < 0 ? ret : 0;
}

static int coroutine_fn finalize(Actor *a)
{
    return bdrv_co_finalize_vmstate(a->x->bs);
}

/*
 *   writer                  disk                 finalizer
 *   chunks 0 and 1, tail    holds 0 and 1
 *                           0 fails
 *                                                must not write the tail
 *                           1 is written
 *                                                -EIO
 */
static void test_s4_tail_after_failure(void **state)
{
    Fixture x;
    Actor writer = { .fn = save_with_tail, .x = &x };
    Actor finalizer = { .fn = finalize, .x = &x };

    fixture_open(&x, NULL);
    x.fake->hold = true;
    x.fake->fail_request = 1;
    actor_start(&writer);
    settle(&x);
    assert_true(writer.done);
    assert_int_equal(x.fake->held->len, 2);
    fake_release(x.fake, 0);
    settle(&x);

    actor_start(&finalizer);
    settle(&x);

    assert_int_equal(x.fake->requests->len, 2);
    assert_false(finalizer.done);
    x.fake->hold = false;
    while (x.fake->held->len > 0) {
        fake_release(x.fake, 0);
    }
    settle(&x);
    assert_true(finalizer.done);
    assert_int_equal(finalizer.ret, -EIO);
    assert_int_equal(x.fake->requests->len, 2);
    fixture_close(&x);
}

/* --- S4_FINALIZE_RETURNS_BYTES --- */

static int coroutine_fn save_some(void *opaque)
{
    Fixture *x = opaque;

    assert_int_equal(begin_save(x), 0);
    assert_int_equal(write_pattern(x->bs, 0, 3 * CHUNK + 5), 0);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_s4_finalize_returns_bytes(void **state)
{
    Fixture x;

    fixture_open(&x, NULL);

    assert_int_equal(run_one(&x, save_some), 0);

    assert_int_equal(x.fake->active->len, 3 * CHUNK + 5);
    fixture_close(&x);
}

/* --- S4_READERS_NOT_RECHECKED --- */

static int coroutine_fn begin_load(Actor *a)
{
    return bdrv_co_vmstate_begin_load(a->x->bs, "s", &four, NULL, NULL);
}

static int coroutine_fn read_range(Actor *a)
{
    return read_pattern(a->x->bs, a->pos, a->bytes);
}

/*
 *   first                second               disk
 *   read chunk 0         read chunk 0         loads chunk 0
 *   waits                waits                chunk 0 is there
 *   takes it; its memory
 *   now loads chunk 4
 *                        must look again: not
 *                        wait for chunk 0
 */
static void test_s4_readers_not_rechecked(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    Fixture x;
    Actor opener = { .fn = begin_load, .x = &x };
    Actor closer = { .fn = finalize, .x = &x };
    Actor readers[2] = {
        { .fn = read_range, .x = &x, .bytes = CHUNK },
        { .fn = read_range, .x = &x, .bytes = CHUNK },
    };

    fixture_open(&x, NULL);
    add_pattern_snapshot(&x, "s", 20 * CHUNK);
    actor_start(&opener);
    run_actors(&x, &opener, 1, rand);
    x.fake->hold = true;
    actor_start(&readers[0]);
    actor_start(&readers[1]);

    run_actors(&x, readers, 2, rand);

    assert_int_equal(readers[0].ret, 0);
    assert_int_equal(readers[1].ret, 0);
    actor_start(&closer);
    run_actors(&x, &closer, 1, rand);
    assert_int_equal(closer.ret, 0);
    fixture_close(&x);
}

/* --- S4_READ_PAST_END --- */

static int coroutine_fn load_to_the_end(void *opaque)
{
    Fixture *x = opaque;
    uint64_t size = 0;
    int ret;

    ret = bdrv_co_vmstate_begin_load(x->bs, "s", &four, &size, NULL);
    assert_int_equal(ret, 0);
    assert_int_equal(size, 6 * CHUNK + 1000);
    for (uint64_t pos = 0; pos < size; pos += 200) {
        assert_int_equal(read_pattern(x->bs, pos, MIN(200, size - pos)), 0);
    }
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_s4_read_past_end(void **state)
{
    Fixture x;

    fixture_open(&x, NULL);
    add_pattern_snapshot(&x, "s", 6 * CHUNK + 1000);

    assert_int_equal(run_one(&x, load_to_the_end), 0);

    for (guint i = 0; i < x.fake->requests->len; i++) {
        FakeRequest *r = fake_request(x.fake, i);

        assert_true(r->pos + r->bytes <= 6 * CHUNK + 1000);
    }
    fixture_close(&x);
}

/* --- S4_NO_HANDOVER --- */

static int coroutine_fn load_all(void *opaque)
{
    Fixture *x = opaque;
    int ret = bdrv_co_vmstate_begin_load(x->bs, "s", &four, NULL, NULL);

    assert_int_equal(ret, 0);
    assert_int_equal(read_pattern(x->bs, 0, 3 * CHUNK + 5), 0);
    return bdrv_co_finalize_vmstate(x->bs);
}

static void test_s4_no_handover(void **state)
{
    Fixture x;

    fixture_open(&x, "raw");
    assert_string_equal(bdrv_get_format_name(x.bs), "raw");
    assert_true(bdrv_can_vmstate(x.bs));

    assert_int_equal(run_one(&x, save_some), 0);

    check_pattern(x.fake->active->data, 0, 3 * CHUNK + 5);
    fake_add_snapshot(x.fake, "s", x.fake->active->data, x.fake->active->len);
    assert_int_equal(run_one(&x, load_all), 0);
    fixture_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s4_finalize_skips_cleanup),
        cmocka_unit_test(test_s4_tail_after_failure),
        cmocka_unit_test(test_s4_finalize_returns_bytes),
        cmocka_unit_test(test_s4_readers_not_rechecked),
        cmocka_unit_test(test_s4_read_past_end),
        cmocka_unit_test(test_s4_no_handover),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
