/* SPDX-License-Identifier: MIT */
/*
 * Discards and zero writes: what becomes of entries and clusters, what the file
 * below is told, and that nothing is made to say what is so already.
 */
#include "image_fixture.h"

#define CS 4096

static FakeDisk *disk;

static BlockBackend *make(const char *create, const char *options)
{
    disk = fake_disk_new("x", 0);
    disk->zeroes = true;
    q_create("fake:x", create);
    return q_open("fake:x", options, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static void finish(BlockBackend *blk)
{
    q_close(blk);
    q_expect_sound(disk);
    fake_disk_free(disk);
}

static uint64_t entry(BlockBackend *blk, unsigned n)
{
    uint64_t l2 = q_state(blk)->l1.entries[0] & QCOW2_OFFSET_MASK;
    uint8_t bytes[8] = { 0 };

    assert_int_equal(blk_flush(blk), 0);
    if (l2) {
        fake_disk_peek(disk, l2 + n * 8, bytes, sizeof(bytes));
    }
    return be64_get(bytes);
}

typedef struct RefCall {
    Qcow2State *s;
    uint64_t host, ret;
} RefCall;

static int coroutine_fn co_refcount(void *opaque)
{
    RefCall *c = opaque;
    int ret;

    co_mutex_lock(&c->s->lock);
    ret = qcow2_get_refcount(c->s, c->host, &c->ret);
    co_mutex_unlock(&c->s->lock);
    return ret;
}

static uint64_t refcount(BlockBackend *blk, uint64_t host)
{
    RefCall c = { q_state(blk), host, 0 };

    assert_int_equal(run_coroutine(co_refcount, &c), 0);
    return c.ret;
}

static void test_nothing_is_made_for_what_reads_as_zero(void **state)
{
    BlockBackend *blk = make("size=8M,cluster_size=4k", NULL);
    unsigned writes;

    fake_log_clear(disk);
    assert_int_equal(blk_pdiscard(blk, 0, 4 << 20), 0);
    assert_int_equal(blk_flush(blk), 0);
    assert_int_equal(fake_count(disk, FAKE_WRITE | FAKE_ZERO), 0);

    /* Also not in a table that is there, nor in one of a snapshot. */
    put(blk, 0, CS, 'a');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 11 * CS, BDRV_REQ_MAY_UNMAP),
                     0);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    assert_int_equal(blk_pdiscard(blk, 0, 20 * CS), 0);
    assert_int_equal(blk_pwrite_zeroes(blk, 100, 10 * CS, 0), 0);
    assert_int_equal(blk_flush(blk), 0);
    writes = fake_count(disk, FAKE_WRITE | FAKE_ZERO);
    assert_int_equal(writes, 0);
    finish(blk);
}

static void test_written_zeroes_are_held_by_the_layer(void **state)
{
    BlockBackend *blk = make("size=8M,cluster_size=4k", NULL);

    assert_int_equal(blk_pwrite_zeroes(blk, 0, 2 * CS, 0), 0);
    assert_int_equal(blk_pwrite_zeroes(blk, 3 * CS, CS, BDRV_REQ_MAY_UNMAP),
                     0);
    assert_int_equal(entry(blk, 0), QCOW2_ZERO);
    assert_int_equal(entry(blk, 1), QCOW2_ZERO);
    assert_int_equal(entry(blk, 2), 0);
    assert_int_equal(entry(blk, 3), QCOW2_ZERO);
    finish(blk);
}

static void test_part_of_an_empty_cluster_makes_all_of_it_zero(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);

    put(blk, CS, CS, 'a');
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    /* Ends inside clusters 0 and 1: only the latter has something to lose. */
    assert_int_equal(blk_pwrite_zeroes(blk, 1000, CS, 0), 0);
    assert_int_equal(fake_count(disk, FAKE_WRITE), 1);
    assert_int_equal(entry(blk, 0), QCOW2_ZERO);
    expect(blk, 0, CS + 1000, 0);
    expect(blk, CS + 1000, CS - 1000, 'a');
    finish(blk);
}

static void test_part_over_a_backing_file_keeps_the_rest(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *opts = g_strdup_printf(
        "size=64k,cluster_size=4k,backing_file=%s,backing_fmt=raw", base);
    g_autofree char *text = g_strnfill(CS + 100, 'B');
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, text, CS + 100, NULL));
    blk = make(opts, NULL);
    /* All that the backing file has there is zeroed: no data is needed. */
    assert_int_equal(blk_pwrite_zeroes(blk, CS, 100, 0), 0);
    assert_int_equal(entry(blk, 1), QCOW2_ZERO);
    /* Here it has more. */
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 100, 0), 0);
    assert_int_not_equal(entry(blk, 0) & QCOW2_OFFSET_MASK, 0);
    expect(blk, 0, 100, 0);
    expect(blk, 100, CS - 100, 'B');
    expect(blk, CS, 2 * CS, 0);
    finish(blk);
}

static void test_zeroes_over_a_shared_cluster_keep_its_place(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);
    uint64_t host;

    put(blk, 0, CS, 'a');
    host = entry(blk, 0) & QCOW2_OFFSET_MASK;
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, 0), 0);
    assert_int_equal(entry(blk, 0), host | QCOW2_ZERO);
    assert_int_equal(refcount(blk, host), 2);
    put(blk, 0, CS / 2, 'b'); /* not into what the snapshot shows */
    expect(blk, CS / 2, CS / 2, 0);
    assert_int_equal(q_snap_goto(blk, "s"), 0);
    expect(blk, 0, CS, 'a');
    finish(blk);
}

static void test_no_fallback_is_honoured(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);

    put(blk, 0, CS, 'a');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 100, BDRV_REQ_NO_FALLBACK),
                     -ENOTSUP);
    expect(blk, 0, CS, 'a');
    assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, BDRV_REQ_NO_FALLBACK), 0);
    expect(blk, 0, CS, 0);
    finish(blk);
}

static void test_unmap_decides_what_happens_to_clusters(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);
    uint64_t host;

    put(blk, 0, CS, 'a');
    host = entry(blk, 0) & QCOW2_OFFSET_MASK;
    assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, 0), 0);
    assert_int_equal(entry(blk, 0), QCOW2_COPIED | host | QCOW2_ZERO);
    assert_int_equal(refcount(blk, host), 1);
    assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(entry(blk, 0), QCOW2_ZERO);
    assert_int_equal(refcount(blk, host), 0);
    finish(blk);
}

/* Is the host told of cluster @host when its guest cluster is discarded? */
static bool is_passed_on(const char *options, bool unmap)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);
    uint64_t host;
    bool told;

    put(blk, 0, CS, 'a');
    host = entry(blk, 0) & QCOW2_OFFSET_MASK;
    q_close(blk);
    blk = q_open("fake:x", options, BDRV_O_RDWR | (unmap ? BDRV_O_UNMAP : 0));
    fake_log_clear(disk);
    if (unmap) {
        assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    } else {
        assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, BDRV_REQ_MAY_UNMAP),
                         0);
    }
    assert_int_equal(blk_flush(blk), 0);
    told = fake_find(disk, 0, FAKE_DISCARD, host, CS) >= 0;
    finish(blk);
    return told;
}

static void test_pass_discard_request_follows_discard_unmap(void **state)
{
    assert_true(is_passed_on(NULL, true));
    assert_false(is_passed_on("pass-discard-request=off", true));
    assert_false(is_passed_on(NULL, false));
    assert_false(is_passed_on("pass-discard-request=off", false));
}

/* Was a discard sent to the file while a snapshot of 64 clusters was deleted? */
static bool delete_is_passed_on(const char *options)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", options);
    bool found;

    put(blk, 0, 64 * CS, 'a');
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    put(blk, 0, 64 * CS, 'b');
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    assert_int_equal(q_snap_delete(blk, "s"), 0);
    assert_int_equal(blk_flush(blk), 0);
    found = fake_find(disk, 0, FAKE_DISCARD, 0, 0) >= 0;
    expect(blk, 0, 64 * CS, 'b');
    finish(blk);
    return found;
}

static void test_pass_discard_snapshot_is_on_unless_switched_off(void **state)
{
    assert_true(delete_is_passed_on("pass-discard-request=off"));
    assert_false(delete_is_passed_on("pass-discard-snapshot=off"));
}

/* Refcounts of another width free the old blocks. */
static bool tables_are_passed_on(const char *options)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", options);
    bool found;

    put(blk, 0, 64 * CS, 'a');
    assert_int_equal(blk_flush(blk), 0);
    fake_log_clear(disk);
    assert_int_equal(blk_amend(blk, q_options("refcount_bits=32"), false,
                               NULL, NULL, NULL), 0);
    assert_int_equal(blk_flush(blk), 0);
    found = fake_find(disk, 0, FAKE_DISCARD, 0, 0) >= 0;
    expect(blk, 0, 64 * CS, 'a');
    finish(blk);
    return found;
}

static void test_pass_discard_other_is_off_unless_switched_on(void **state)
{
    assert_true(tables_are_passed_on("pass-discard-other=on"));
    assert_false(tables_are_passed_on(NULL));
}

static void test_discard_no_unref_keeps_the_cluster(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k",
                             "discard-no-unref=on");
    uint64_t host, size;

    put(blk, 0, 4 * CS, 'a');
    host = entry(blk, 1) & QCOW2_OFFSET_MASK;
    size = disk->size;
    fake_log_clear(disk);
    assert_int_equal(blk_pdiscard(blk, CS, 2 * CS), 0);
    assert_int_equal(entry(blk, 1), QCOW2_COPIED | host | QCOW2_ZERO);
    assert_int_equal(entry(blk, 2), QCOW2_COPIED | (host + CS) | QCOW2_ZERO);
    assert_int_equal(refcount(blk, host), 1);
    expect(blk, CS, 2 * CS, 0);
    expect(blk, 0, CS, 'a');
    assert_true(fake_find(disk, 0, FAKE_ZERO, host, 2 * CS) >= 0);
    put(blk, CS + 10, 10, 'b'); /* into the same place */
    assert_int_equal(entry(blk, 1), QCOW2_COPIED | host);
    expect(blk, CS, 10, 0);
    assert_int_equal(disk->size, size);

    /* Not what a snapshot has. */
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_pdiscard(blk, CS, CS), 0);
    assert_int_equal(entry(blk, 1), QCOW2_ZERO);
    finish(blk);
}

static void test_version_2_discards_only_without_a_backing_file(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *opts = g_strdup_printf(
        "size=64k,cluster_size=4k,compat=0.10,backing_file=%s,"
        "backing_fmt=raw", base);
    g_autofree char *text = g_strnfill(65536, 'B');
    BlockBackend *blk = make("size=1M,cluster_size=4k,compat=0.10", NULL);

    put(blk, 0, 2 * CS, 'a');
    assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    assert_int_equal(entry(blk, 0), 0);
    expect(blk, 0, CS, 0);
    finish(blk);

    assert_true(g_file_set_contents(base, text, 65536, NULL));
    blk = make(opts, NULL);
    put(blk, 0, CS, 'a');
    assert_int_equal(blk_pdiscard(blk, 0, 2 * CS), 0);
    expect(blk, 0, CS, 'a');
    expect(blk, CS, CS, 'B');
    /* A zero write has to be data. */
    assert_int_equal(blk_pwrite_zeroes(blk, 0, 2 * CS, 0), 0);
    expect(blk, 0, 2 * CS, 0);
    assert_int_equal(entry(blk, 1) & QCOW2_ZERO, 0);
    finish(blk);
}

static void test_no_unref_needs_version_3(void **state)
{
    q_close(make("size=1M,compat=0.10", NULL));
    q_open_fails("fake:x", "discard-no-unref=on", BDRV_O_RDWR, -EINVAL,
                 "discard-no-unref");
    fake_disk_free(disk);
}

static void test_short_last_cluster_is_a_whole_one(void **state)
{
    BlockBackend *blk = make("size=10240,cluster_size=4k", NULL);

    put(blk, 0, 10240, 'a');
    assert_int_equal(blk_pdiscard(blk, 2 * CS, 2047), 0); /* a byte short */
    expect(blk, 0, 10240, 'a');
    assert_int_equal(blk_pdiscard(blk, 2 * CS, 2048), 0);
    assert_int_equal(entry(blk, 2), QCOW2_ZERO);
    put(blk, 2 * CS, 2048, 'a');
    assert_int_equal(blk_pwrite_zeroes(blk, 2 * CS, 2048,
                                       BDRV_REQ_MAY_UNMAP |
                                       BDRV_REQ_NO_FALLBACK), 0);
    assert_int_equal(entry(blk, 2), QCOW2_ZERO);
    expect(blk, 0, 2 * CS, 'a');
    finish(blk);
}

static void test_discard_covers_whole_clusters_only(void **state)
{
    BlockBackend *blk = make("size=1M,cluster_size=4k", NULL);

    put(blk, 0, 4 * CS, 'a');
    assert_int_equal(blk_pdiscard(blk, 100, 3 * CS), 0);
    expect(blk, 0, CS, 'a');
    expect(blk, CS, 2 * CS, 0);
    expect(blk, 3 * CS, CS, 'a');
    assert_int_equal(blk_pdiscard(blk, 10, 3000), 0);
    expect(blk, 0, CS, 'a');
    finish(blk);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_ctx_setup, \
                                                 test_ctx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_is_made_for_what_reads_as_zero),
        TEST(test_written_zeroes_are_held_by_the_layer),
        TEST(test_part_of_an_empty_cluster_makes_all_of_it_zero),
        TEST(test_part_over_a_backing_file_keeps_the_rest),
        TEST(test_zeroes_over_a_shared_cluster_keep_its_place),
        TEST(test_no_fallback_is_honoured),
        TEST(test_unmap_decides_what_happens_to_clusters),
        TEST(test_pass_discard_request_follows_discard_unmap),
        TEST(test_pass_discard_snapshot_is_on_unless_switched_off),
        TEST(test_pass_discard_other_is_off_unless_switched_on),
        TEST(test_discard_no_unref_keeps_the_cluster),
        TEST(test_version_2_discards_only_without_a_backing_file),
        TEST(test_no_unref_needs_version_3),
        TEST(test_short_last_cluster_is_a_whole_one),
        TEST(test_discard_covers_whole_clusters_only),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
