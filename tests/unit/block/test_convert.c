/* SPDX-License-Identifier: MIT */
/*
 * block/convert.c: what arrives is what a model says, whatever the options;
 * the order of writes; every request failing in turn; the end at the first
 * error.
 */
#include "tests/support/test_main.h"

#include <inttypes.h>

#include "block/convert.h"
#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

#define KIB   1024u
#define MIB   (1024u * 1024u)
#define CHUNK (2 * MIB)

typedef struct Fixture {
    FakeDisk *disks[3];
    FakeDisk *target_disk;
    BlockBackend *sources[3];
    BlkConvertOptions o;
    uint8_t *model;
    uint64_t bytes;
    int ret;
    bool done;
    GArray *unread;     /* offset, bytes, ... */
} Fixture;

/* Zeroes up to a whole sector follow the second. */
static const uint64_t sizes[] = { 5 * MIB + 1536, 3 * MIB - 100,
                                  4 * MIB + 512 };

/* Extents of data and of zeroes, none aligned to much. */
static void make_model(Fixture *f)
{
    GRand *rand = g_rand_new_with_seed(7);
    uint64_t at = 0;

    while (at < f->bytes) {
        uint64_t n = MIN(512u * g_rand_int_range(rand, 1, 900),
                         f->bytes - at);

        if (g_rand_boolean(rand)) {
            test_fill(f->model + at, n, (uint32_t)at);
        }
        at += n;
    }
    g_rand_free(rand);
}

static BlockBackend *open_disk(const char *name, const char *options,
                               unsigned flags)
{
    g_autofree char *filename = name ? g_strconcat("fake:", name, NULL)
                                     : NULL;
    BdrvOptions *o = NULL;
    BlockBackend *blk = NULL;
    GError *error = NULL;

    assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    if (blk_open(test_ctx, filename, o, flags, &blk, &error) < 0) {
        fail_msg("%s", error->message);
    }
    return blk;
}

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    uint64_t at = 0;

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < 3; i++) {
        f->bytes += ROUND_UP(sizes[i], 512);
    }
    f->model = g_malloc0(f->bytes);
    make_model(f);
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("source%u", i);

        f->disks[i] = fake_disk_new(name, sizes[i]);
        fake_disk_poke(f->disks[i], 0, f->model + at, sizes[i]);
        f->sources[i] = open_disk(name, "", 0);
        memset(f->model + at + sizes[i], 0, -sizes[i] % 512);
        at += ROUND_UP(sizes[i], 512);
    }
    f->target_disk = fake_disk_new("target", f->bytes);
    f->target_disk->zeroes = true;
    f->unread = g_array_new(false, false, sizeof(uint64_t));
    f->o = (BlkConvertOptions) {
        .sources = f->sources, .nb_sources = 3, .sparse_bytes = 4096,
        .target = open_disk("target", "", BDRV_O_RDWR), .opaque = f,
    };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    blk_close(f->o.target);
    fake_disk_free(f->target_disk);
    for (unsigned i = 0; i < 3; i++) {
        blk_close(f->sources[i]);
        fake_disk_free(f->disks[i]);
    }
    g_array_free(f->unread, true);
    g_free(f->model);
    g_free(f);
    return test_ctx_teardown(state);
}

/* Fill the target with what no source has. */
static void soil(Fixture *f)
{
    g_autofree uint8_t *junk = g_malloc(f->bytes);

    memset(junk, 0xee, f->bytes);
    fake_disk_poke(f->target_disk, 0, junk, f->bytes);
    fake_log_clear(f->target_disk);
}

static void clear(Fixture *f)
{
    g_autofree uint8_t *zeroes = g_malloc0(f->bytes);

    fake_disk_poke(f->target_disk, 0, zeroes, f->bytes);
    fake_log_clear(f->target_disk);
}

static void assert_target_is_model(Fixture *f)
{
    g_autofree uint8_t *is = g_malloc(f->bytes);

    fake_disk_peek(f->target_disk, 0, is, f->bytes);
    for (uint64_t i = 0; i < f->bytes; i++) {
        if (is[i] != f->model[i]) {
            fail_msg("byte %" PRIu64 " is %u, not %u", i, is[i], f->model[i]);
        }
    }
}

static void convert(Fixture *f)
{
    GError *error = NULL;

    if (blk_convert(&f->o, &error) < 0) {
        fail_msg("%s", error->message);
    }
}

/* In the background. */
static void coroutine_fn convert_entry(void *opaque)
{
    Fixture *f = opaque;

    f->ret = blk_co_convert(&f->o, NULL);
    f->done = true;
}

static void start(Fixture *f)
{
    f->done = false;
    fake_log_clear(f->target_disk);
    fake_log_clear(f->disks[0]);
    test_spawn(convert_entry, f);
}

/* ---- contents ---- */

static void test_the_copy_is_the_source_with_every_option(void **state)
{
    static const uint64_t sparse[] = { 0, 512, 4096, MIB };
    static const unsigned workers[] = { 0, 1, 3, 16 };
    Fixture *f = *state;

    for (unsigned i = 0; i < 32; i++) {
        f->o.sparse_bytes = sparse[i % 4];
        f->o.workers = workers[i / 4 % 4];
        f->o.any_order = i & 1;
        f->o.target_is_zero = i >= 16;
        f->o.offload = i & 4; /* which nothing here can do */
        if (f->o.target_is_zero) {
            clear(f);
        } else {
            soil(f);
        }

        convert(f);

        assert_target_is_model(f);
    }
}

static void test_zeroes_are_not_data(void **state)
{
    Fixture *f = *state;

    f->o.sparse_bytes = 512;
    soil(f);
    convert(f);

    for (unsigned i = 0; i < f->target_disk->log->len; i++) {
        const FakeRequest *r = fake_request(f->target_disk, i);
        uint64_t at = r->offset;

        for (; r->type == FAKE_WRITE && at < r->offset + r->bytes; at += 512) {
            bool zero = true;

            for (unsigned k = 0; k < 512; k++) {
                zero = zero && !f->model[at + k];
            }
            assert_false(zero);
        }
    }
}

static void test_a_target_of_zeroes_gets_no_zeroes(void **state)
{
    Fixture *f = *state;

    f->o.target_is_zero = true;
    clear(f);
    convert(f);

    assert_int_equal(fake_count(f->target_disk, FAKE_ZERO), 0);
    assert_target_is_model(f);
}

static void test_a_shorter_target_is_refused(void **state)
{
    Fixture *f = *state;
    GError *error = NULL;

    assert_int_equal(blk_truncate(f->o.target, f->bytes - 512,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    fake_log_clear(f->target_disk);
    assert_int_equal(blk_convert(&f->o, &error), -EFBIG);
    g_clear_error(&error);
    assert_int_equal(fake_count(f->target_disk, FAKE_WRITE), 0);
}

/* ---- order ---- */

/* Requests of the target in the log, but those below @offset. */
static unsigned writes_from(Fixture *f, uint64_t offset)
{
    unsigned n = 0;

    for (unsigned i = 0; i < f->target_disk->log->len; i++) {
        const FakeRequest *r = fake_request(f->target_disk, i);

        n += (r->type & (FAKE_WRITE | FAKE_ZERO)) && r->offset >= offset;
    }
    return n;
}

/*
 *  source:  chunk 0 held     chunk 1 read      chunk 2 read ...
 *  target:                   nothing (order) or all of them (any order)
 */
static void order(Fixture *f, bool any)
{
    f->o.any_order = any;
    f->o.workers = 3;
    f->o.nb_sources = 1;
    soil(f);
    fake_hold(f->disks[0], FAKE_READ, 0, CHUNK);
    start(f);
    TEST_WAIT_UNTIL(fake_nb_held(f->disks[0]) == 1);
    test_turns(100);

    if (any) {
        assert_true(writes_from(f, CHUNK) > 0);
    } else {
        assert_int_equal(writes_from(f, 0), 0);
    }
    fake_release_all(f->disks[0]);
    TEST_WAIT_UNTIL(f->done);
    assert_int_equal(f->ret, 0);
    if (!any) {
        uint64_t chunk = 0;

        /* The first write of a chunk comes after the first of the one
         * before. */
        for (unsigned i = 0; i < f->target_disk->log->len; i++) {
            const FakeRequest *r = fake_request(f->target_disk, i);

            if (r->type != FAKE_FLUSH) {
                assert_true(r->offset / CHUNK <= chunk + 1);
                chunk = MAX(chunk, r->offset / CHUNK);
            }
        }
    }
}

static void test_writes_wait_for_their_turn(void **state)
{
    order(*state, false);
}

static void test_writes_in_any_order_do_not_wait(void **state)
{
    order(*state, true);
}

/* ---- failures ---- */

static void fail_each(Fixture *f, FakeDisk *d, FakeType type,
                      const char *what)
{
    unsigned n;

    for (n = 1;; n++) {
        g_autoptr(GError) error = NULL;
        int ret;

        soil(f);
        fake_log_clear(d);
        f->o.any_order = n & 1;
        fake_fail_nth(d, type, n, ENOSPC, n & 2);
        ret = blk_convert(&f->o, &error);
        fake_fail_nth(d, type, 0, 0, false);

        assert_int_equal(d->in_flight, 0);
        if (fake_count(d, type) < n) {
            assert_int_equal(ret, 0);
            break;
        }
        assert_int_equal(ret, -ENOSPC);
        assert_non_null(strstr(error->message, what));
        assert_non_null(strstr(error->message, "fake:target"));
    }
    assert_true(n > 1);
    assert_target_is_model(f);
}

static void test_each_read_that_fails_is_an_error(void **state)
{
    Fixture *f = *state;

    fail_each(f, f->disks[1], FAKE_READ, "cannot read at offset ");
}

static void test_each_write_that_fails_is_an_error(void **state)
{
    fail_each(*state, ((Fixture *)*state)->target_disk, FAKE_WRITE,
              "cannot write at offset ");
}

static void test_each_zeroing_that_fails_is_an_error(void **state)
{
    fail_each(*state, ((Fixture *)*state)->target_disk, FAKE_ZERO,
              "cannot write zeroes at offset ");
}

static void test_a_flush_that_fails_at_the_end_is_an_error(void **state)
{
    fail_each(*state, ((Fixture *)*state)->target_disk, FAKE_FLUSH,
              "cannot flush");
}

/*
 *  worker   1          2          3          4
 *           write held write held write held write held
 *           fails
 *                      ends       ends       ends, and nothing else starts
 */
static void test_the_first_error_stops_all_workers(void **state)
{
    Fixture *f = *state;
    unsigned reads, writes;

    f->o.workers = 4;
    f->o.any_order = true;
    soil(f);
    fake_hold(f->target_disk, FAKE_WRITE | FAKE_ZERO, 0, 0);
    start(f);
    TEST_WAIT_UNTIL(fake_nb_held(f->target_disk) == 4);
    fake_fail_nth(f->target_disk, FAKE_ANY, 1, EIO, false);
    fake_release(f->target_disk, fake_nth_held(f->target_disk, 0));
    test_turns(20);
    reads = fake_count(f->disks[0], FAKE_READ) +
            fake_count(f->disks[1], FAKE_READ);
    writes = fake_count(f->target_disk, FAKE_ANY);
    assert_false(f->done); /* it waits for the other three */

    fake_release_all(f->target_disk);
    TEST_WAIT_UNTIL(f->done);

    assert_int_equal(f->ret, -EIO);
    assert_int_equal(fake_count(f->target_disk, FAKE_ANY), writes);
    assert_int_equal(fake_count(f->disks[0], FAKE_READ) +
                     fake_count(f->disks[1], FAKE_READ), reads);
}

/* Those that wait for their turn behind it go home, too. */
static void test_an_error_ends_those_that_wait_for_their_turn(void **state)
{
    Fixture *f = *state;

    f->o.workers = 3;
    f->o.sparse_bytes = 0;
    soil(f);
    fake_hold(f->disks[0], FAKE_READ, 0, CHUNK);
    start(f);
    TEST_WAIT_UNTIL(fake_nb_held(f->disks[0]) == 1);
    test_turns(100);
    fake_fail_nth(f->disks[0], FAKE_READ, 1, EIO, false);
    fake_release_all(f->disks[0]);
    TEST_WAIT_UNTIL(f->done);

    assert_int_equal(f->ret, -EIO);
    assert_int_equal(fake_count(f->target_disk, FAKE_ANY), 0);
}

static void test_a_stop_ends_it_with_what_is_in_flight_done(void **state)
{
    Fixture *f = *state;
    unsigned writes;

    f->o.workers = 2;
    soil(f);
    fake_hold(f->target_disk, FAKE_WRITE | FAKE_ZERO, 0, 0);
    start(f);
    TEST_WAIT_UNTIL(fake_nb_held(f->target_disk) > 0);
    writes = fake_count(f->target_disk, FAKE_ANY);
    aio_stop(test_ctx);
    test_turns(20);
    assert_false(f->done);

    fake_release_all(f->target_disk);
    TEST_WAIT_UNTIL(f->done);

    assert_int_equal(f->ret, -ECANCELED);
    assert_true(fake_count(f->target_disk, FAKE_ANY) > writes);
    /* Nor has anything begun but what had waited for a slot. */
    assert_int_equal(writes_from(f, 3 * CHUNK), 0);
    assert_int_equal(fake_count(f->target_disk, FAKE_FLUSH), 0);
}

/* ---- salvage ---- */

static void unreadable(uint64_t offset, uint64_t bytes, int err, void *opaque)
{
    Fixture *f = opaque;

    assert_int_equal(err, -EIO);
    g_array_append_val(f->unread, offset);
    g_array_append_val(f->unread, bytes);
}

static void test_salvage_reads_again_and_keeps_what_it_gets(void **state)
{
    Fixture *f = *state;

    f->o.salvage = true;
    f->o.unreadable = unreadable;
    soil(f);
    fake_fail_nth(f->disks[0], FAKE_READ, 1, EIO, false);
    convert(f);

    assert_int_equal(f->unread->len, 0);
    assert_target_is_model(f);
}

static void test_salvage_tells_of_one_run_once(void **state)
{
    Fixture *f = *state;
    const uint64_t bad = 4096 + 512;

    blk_close(f->sources[0]);
    f->sources[0] = open_disk(NULL, "driver=raw,file.driver=blkdebug,"
        "file.image=fake:source0,"
        "file.inject-error.0.event=read_aio,file.inject-error.0.sector=9,"
        "file.inject-error.1.event=read_aio,file.inject-error.1.sector=10,"
        "file.inject-error.2.event=read_aio,file.inject-error.2.sector=99", 0);
    f->o.salvage = true;
    f->o.unreadable = unreadable;
    soil(f);
    convert(f);

    assert_int_equal(f->unread->len, 4);
    assert_int_equal(g_array_index(f->unread, uint64_t, 0), bad);
    assert_int_equal(g_array_index(f->unread, uint64_t, 1), 1024);
    assert_int_equal(g_array_index(f->unread, uint64_t, 2), 99 * 512);
    assert_int_equal(g_array_index(f->unread, uint64_t, 3), 512);
    memset(f->model + bad, 0, 1024);
    memset(f->model + 99 * 512, 0, 512);
    assert_target_is_model(f);
}

static void test_salvage_ends_in_the_middle_of_a_chunk(void **state)
{
    Fixture *f = *state;

    f->o.salvage = true;
    f->o.unreadable = unreadable;
    f->o.workers = 1;
    f->o.nb_sources = 1;
    f->o.sparse_bytes = 0;
    fake_fail_nth(f->disks[0], FAKE_READ, 1, EIO, true);
    fake_hold(f->disks[0], FAKE_READ, 10 * 512, 512);
    start(f);
    /* That of the chunk, and that of a sector. */
    TEST_WAIT_UNTIL(fake_nb_held(f->disks[0]) == 1);
    fake_release(f->disks[0], fake_nth_held(f->disks[0], 0));
    TEST_WAIT_UNTIL(fake_nb_held(f->disks[0]) == 1);
    aio_stop(test_ctx);
    fake_release_all(f->disks[0]);
    TEST_WAIT_UNTIL(f->done);

    assert_int_equal(f->ret, -ECANCELED);
    assert_int_equal(fake_count(f->disks[0], FAKE_READ), 12);
    assert_int_equal(f->unread->len, 2);
    assert_int_equal(g_array_index(f->unread, uint64_t, 1), 11 * 512);
    assert_int_equal(fake_count(f->target_disk, FAKE_WRITE), 0);
}

/* ---- rate ---- */

static void test_a_rate_is_kept(void **state)
{
    Fixture *f = *state;
    int64_t begin = aio_now_ns();

    /* Six chunks, of which the first is free. */
    f->o.bytes_per_second = 100 * MIB;
    convert(f);

    assert_true(aio_now_ns() - begin >= 80 * 1000 * 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_the_copy_is_the_source_with_every_option),
    TEST(test_zeroes_are_not_data),
    TEST(test_a_target_of_zeroes_gets_no_zeroes),
    TEST(test_a_shorter_target_is_refused),
    TEST(test_writes_wait_for_their_turn),
    TEST(test_writes_in_any_order_do_not_wait),
    TEST(test_each_read_that_fails_is_an_error),
    TEST(test_each_write_that_fails_is_an_error),
    TEST(test_each_zeroing_that_fails_is_an_error),
    TEST(test_a_flush_that_fails_at_the_end_is_an_error),
    TEST(test_the_first_error_stops_all_workers),
    TEST(test_an_error_ends_those_that_wait_for_their_turn),
    TEST(test_a_stop_ends_it_with_what_is_in_flight_done),
    TEST(test_salvage_reads_again_and_keeps_what_it_gets),
    TEST(test_salvage_tells_of_one_run_once),
    TEST(test_salvage_ends_in_the_middle_of_a_chunk),
    TEST(test_a_rate_is_kept),
};

FIRN_TEST_MAIN(tests)
