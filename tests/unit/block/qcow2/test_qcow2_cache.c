/* SPDX-License-Identifier: MIT */
/*
 * The metadata caches: sizes and their options, memory as it is used, the
 * timer that gives it back, and what a write-back looks like on disk.
 */
#include "node_fixture.h"

#define MB (1024u * 1024)

static void open_image(Fixture *f, const char *create, const char *options)
{
    if (f->blk) {
        q_close(f->blk);
    }
    q_create("fake:q", create);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR);
}

static void ignore(void *opaque, int ret)
{
}

static void touch_tables(Fixture *f, unsigned n)
{
    uint8_t byte = 'x';

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(blk_pwrite(f->blk, i *
                                    qcow2_l1_coverage(q_state(f->blk)), 1,
                                    &byte), 0);
    }
}

/* ---- sizes ---- */

static void expect_l2(Fixture *f, const char *create, const char *options,
                      unsigned entries, size_t entry_bytes)
{
    Qcow2State *s;

    open_image(f, create, options);
    s = q_state(f->blk);
    assert_int_equal(1u << (s->l2_slice_bits + s->l2_entry_bits),
                     entry_bytes);
    assert_int_equal(qcow2_cache_capacity(s->l2_cache), entries);
}

/* 1 MiB for 8 GiB; small images get room to spare, which costs nothing. */
static void test_l2_cache_holds_all_tables_up_to_32_mib(void **state)
{
    Fixture *f = *state;

    expect_l2(f, "size=64G", NULL, 8 * MB / 65536, 65536);
    expect_l2(f, "size=256G", NULL, 32 * MB / 65536, 65536);
    expect_l2(f, "size=257G", NULL, 32 * MB / 4096, 4096);
    expect_l2(f, "size=1T,cluster_size=2M", NULL, 16, 2 * MB);
    expect_l2(f, "size=128G,extended_l2=on", NULL, 32 * MB / 65536, 65536);
    expect_l2(f, "size=129G,extended_l2=on", NULL, 32 * MB / 4096, 4096);
    expect_l2(f, "size=8G,cluster_size=512", NULL, 32 * MB / 512, 512);
    expect_l2(f, "size=0", NULL, 16, 65536);
}

static void test_cache_options_split_what_they_are_given(void **state)
{
    Fixture *f = *state;

    expect_l2(f, "size=64G", "l2-cache-size=1M", 256, 4096);
    expect_l2(f, "size=64G", "l2-cache-size=1M,l2-cache-entry-size=64k", 16,
              65536);
    expect_l2(f, "size=64G", "l2-cache-size=1", 2, 4096);
    /* all that L2 needs, refcounts the rest; or refcounts their minimum */
    expect_l2(f, "size=64G", "cache-size=9M", 128, 65536);
    assert_int_equal(qcow2_cache_capacity(q_state(f->blk)->refblock_cache),
                     16);
    expect_l2(f, "size=64G", "cache-size=2M", (2 * MB - 4 * 65536) / 4096,
              4096);
    assert_int_equal(qcow2_cache_capacity(q_state(f->blk)->refblock_cache),
                     4);
    expect_l2(f, "size=64G", "cache-size=2M,refcount-cache-size=1M", 256,
              4096);
    assert_int_equal(qcow2_cache_capacity(q_state(f->blk)->refblock_cache),
                     16);
    expect_l2(f, "size=64G", "cache-size=2M,l2-cache-size=1M", 256, 4096);
    expect_l2(f, "size=64G", "refcount-cache-size=1", 128, 65536);
    assert_int_equal(qcow2_cache_capacity(q_state(f->blk)->refblock_cache),
                     4);
}

static void test_cache_options_that_contradict_are_refused(void **state)
{
    q_create("fake:q", "size=64G");
    q_open_fails("fake:q", "cache-size=2M,l2-cache-size=1M,"
                 "refcount-cache-size=1M", 0, -EINVAL, "all be set");
    q_open_fails("fake:q", "cache-size=1M,l2-cache-size=2M", 0, -EINVAL,
                 "l2-cache-size is larger");
    q_open_fails("fake:q", "cache-size=1M,refcount-cache-size=2M", 0,
                 -EINVAL, "refcount-cache-size is larger");
    q_open_fails("fake:q", "l2-cache-entry-size=256", 0, -EINVAL,
                 "power of two");
    q_open_fails("fake:q", "l2-cache-entry-size=5000", 0, -EINVAL,
                 "power of two");
    q_open_fails("fake:q", "l2-cache-entry-size=128k", 0, -EINVAL,
                 "power of two");
    q_open_fails("fake:q", "cache-clean-interval=4294967296", 0, -EINVAL,
                 "too long");
    q_open_fails("fake:q", "cache-clean-interval=x", 0, -EINVAL, "");
}

/* ---- memory ---- */

static void test_memory_is_taken_as_entries_come_into_use(void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    open_image(f, "size=256G", NULL);
    s = q_state(f->blk);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 0);
    touch_tables(f, 3);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 3 * 65536);
}

static void coroutine_fn clean_entry(void *opaque)
{
    Qcow2State *s = opaque;

    co_mutex_lock(&s->lock);
    qcow2_cache_clean(s, s->l2_cache);
    co_mutex_unlock(&s->lock);
}

/* Unused since the last time, clean and not in use: only these. */
static void test_cleaning_drops_what_was_not_used(void **state)
{
    Fixture *f = *state;
    uint64_t step;
    Qcow2State *s;
    uint8_t byte;
    QEMUIOVector qiov;

    open_image(f, "size=4G", NULL);
    s = q_state(f->blk);
    step = qcow2_l1_coverage(s);
    touch_tables(f, 4);
    test_spawn(clean_entry, s);
    test_spawn(clean_entry, s);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 4 * 65536); /* dirty */
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_pread(f->blk, 0, 1, &byte), 0);
    assert_int_equal(blk_pread(f->blk, 2 * step, 1, &byte), 0);
    test_spawn(clean_entry, s);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 2 * 65536);
    assert_int_equal(blk_pread(f->blk, 2 * step, 1, &byte), 0);
    test_spawn(clean_entry, s);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 65536);

    /* A table that is being read is in use. */
    fake_hold(f->disk, FAKE_READ, s->l1.entries[1] & QCOW2_OFFSET_MASK,
              65536);
    qemu_iovec_init_buf(&qiov, &byte, 1);
    blk_aio_preadv(f->blk, step, &qiov, 0, ignore, NULL);
    test_turns(20);
    assert_int_equal(fake_nb_held(f->disk), 1);
    test_spawn(clean_entry, s);
    test_spawn(clean_entry, s);
    fake_release_all(f->disk);
    byte = 0;
    assert_int_equal(blk_pread(f->blk, step, 1, &byte), 0);
    assert_int_equal(byte, 'x');
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 65536);
}

static void test_the_timer_cleans_and_is_gone_after_close(void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    open_image(f, "size=4G", "cache-clean-interval=0");
    assert_null(q_state(f->blk)->clean_timer);
    open_image(f, "size=4G", NULL);
    s = q_state(f->blk);
    assert_non_null(s->clean_timer);
    assert_true(s->clean_interval_ns == 600 * 1000000000ll);
    open_image(f, "size=4G", "cache-clean-interval=1");
    s = q_state(f->blk);
    touch_tables(f, 2);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 2 * 65536);
    s->clean_interval_ns = 1000; /* after the first second */
    TEST_WAIT_UNTIL(qcow2_cache_bytes(s->l2_cache) == 0);
    assert_int_equal(qcow2_cache_bytes(s->refblock_cache), 0);
    q_close(f->blk);
    f->blk = NULL;
    test_turns(50);
}

/* The timer fires while a flush writes with s->lock held. */
static void test_a_timer_that_fires_during_a_flush_waits(void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    open_image(f, "size=4G", "cache-clean-interval=1");
    s = q_state(f->blk);
    s->clean_interval_ns = 1000;
    touch_tables(f, 2);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    blk_aio_flush(f->blk, ignore, NULL);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) > 0);
    TEST_WAIT_UNTIL(blk_bs(f->blk)->in_flight > 1); /* the timer's */
    assert_int_equal(qcow2_cache_bytes(s->l2_cache), 2 * 65536);
    fake_release_all(f->disk);
    assert_int_equal(blk_flush(f->blk), 0);
}

/* ---- writing ---- */

/* Neighbours are merged, separate runs are in flight together. */
static void test_write_back_keeps_several_writes_in_flight(void **state)
{
    Fixture *f = *state;

    open_image(f, "size=8M,cluster_size=4k", NULL);
    touch_tables(f, 4);
    assert_int_equal(blk_flush(f->blk), 0);
    touch_tables(f, 4);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t byte = 'y';

        assert_int_equal(blk_pwrite(f->blk, i * 2 * MB + 8192, 1, &byte), 0);
    }
    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    blk_aio_flush(f->blk, ignore, NULL);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1); /* the refcount block */
    fake_release(f->disk, fake_nth_held(f->disk, 0));
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 4);
    fake_release_all(f->disk);
    assert_int_equal(blk_flush(f->blk), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_l2_cache_holds_all_tables_up_to_32_mib),
        T(test_cache_options_split_what_they_are_given),
        T(test_cache_options_that_contradict_are_refused),
        T(test_memory_is_taken_as_entries_come_into_use),
        T(test_cleaning_drops_what_was_not_used),
        T(test_the_timer_cleans_and_is_gone_after_close),
        T(test_a_timer_that_fires_during_a_flush_waits),
        T(test_write_back_keeps_several_writes_in_flight),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
