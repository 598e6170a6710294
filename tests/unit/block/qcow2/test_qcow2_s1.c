/* SPDX-License-Identifier: MIT */
/*
 * The faults of S1 (and one of S4) that belong to the qcow2 driver, each with
 * the test that -Dplant=NAME makes fail (docs/testing.md). Requests to the
 * image file are held, so every interleaving below is the one drawn.
 */
#include "node_fixture.h"

#define CS 65536u

static void start_read(Fixture *f, Op *r, uint64_t offset, void *buf,
                       size_t bytes)
{
    *r = (Op) { 0 };
    qemu_iovec_init_buf(&r->qiov, buf, bytes);
    blk_aio_preadv(f->blk, offset, &r->qiov, 0, record, r);
    test_turns(20);
}

static void open_image(Fixture *f, const char *create, const char *options)
{
    q_create("fake:q", create);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR);
}

static void reopen(Fixture *f, const char *options)
{
    q_close(f->blk);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR);
}

static uint64_t host_of(Fixture *f, uint64_t guest_offset)
{
    uint64_t n, host = 0;

    assert_true(blk_block_status(f->blk, guest_offset, 512, &n, &host) &
                BDRV_BLOCK_OFFSET_VALID);
    return host;
}

/*
 *   A: write cluster 1          B: write cluster 2
 *   choose a host cluster
 *   count it                    choose a host cluster
 *   data (held)                 count it
 *                               data (held)
 *
 * With the fault, B chooses between "choose" and "count" of A.
 */
static void test_s1_two_allocating_writes_never_get_one_cluster(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *a = g_malloc(CS), *b = g_malloc(CS);
    Op ra, rb;

    open_image(f, "size=1M", NULL);
    memset(a, 'a', CS);
    memset(b, 'b', CS);
    assert_int_equal(blk_pwrite(f->blk, 0, CS, a), 0); /* tables loaded */
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);

    /* Both are submitted before either has run. */
    qemu_iovec_init_buf(&ra.qiov, a, CS);
    qemu_iovec_init_buf(&rb.qiov, b, CS);
    ra.done = rb.done = false;
    blk_aio_pwritev(f->blk, 1 * CS, &ra.qiov, 0, record, &ra);
    blk_aio_pwritev(f->blk, 2 * CS, &rb.qiov, 0, record, &rb);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 2);
    assert_int_not_equal(
        fake_request(f->disk, fake_nth_held(f->disk, 0))->offset,
        fake_request(f->disk, fake_nth_held(f->disk, 1))->offset);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(ra.done && rb.done);

    assert_int_not_equal(host_of(f, CS), host_of(f, 2 * CS));
    expect(f, CS, CS, 'a');
    expect(f, 2 * CS, CS, 'b');
}

/* ---- refcounts ---- */

typedef struct Refcount {
    Fixture *f;
    uint64_t cluster;
    int addend;         /* 0: read */
    uint64_t value;
    bool done;
    int ret;
} Refcount;

static void coroutine_fn refcount_entry(void *opaque)
{
    Refcount *r = opaque;
    Qcow2State *s = q_state(r->f->blk);
    uint64_t offset = qcow2_cluster_offset(s, r->cluster);

    co_mutex_lock(&s->lock);
    if (r->addend) {
        r->ret = qcow2_update_refcount(s, offset, 1, r->addend, false);
    } else {
        r->ret = qcow2_get_refcount(s, offset, &r->value);
    }
    co_mutex_unlock(&s->lock);
    r->done = true;
}

static void refcount(Refcount *r, Fixture *f, uint64_t cluster, int addend)
{
    *r = (Refcount) { .f = f, .cluster = cluster, .addend = addend };
    test_spawn(refcount_entry, r);
}

static void change_refcount(Fixture *f, uint64_t cluster, int addend)
{
    Refcount r;

    refcount(&r, f, cluster, addend);
    TEST_WAIT_UNTIL(r.done);
    assert_int_equal(r.ret, 0);
}

static uint64_t read_refcount(Fixture *f, uint64_t cluster)
{
    Refcount r;

    refcount(&r, f, cluster, 0);
    TEST_WAIT_UNTIL(r.done);
    assert_int_equal(r.ret, 0);
    return r.value;
}

/*
 * All four cache entries hold dirty blocks; blocks 0 and 1 are not cached.
 *
 *   A: refcount in block 0            B: refcount in block 1
 *   oldest entry is dirty: write it
 *   (keeps the lock)                  waits for the lock
 *   takes the entry, reads (held)
 *                                     takes the next entry, reads (held)
 *
 * With the fault B does not wait: it takes the same entry during A's write,
 * and what A reads ends up as block 1.
 */
static void test_s1_refcount_reads_never_share_a_cache_entry(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc0(400 * 512);
    unsigned per_block = 64;
    uint64_t slot = 40;
    Refcount a, b;

    open_image(f, "size=1M,cluster_size=512,refcount_bits=64",
               "refcount-cache-size=2k");
    assert_int_equal(blk_pwrite(f->blk, 0, 400 * 512, buf), 0);
    change_refcount(f, per_block + slot, +1);
    assert_int_equal(blk_flush(f->blk), 0);
    for (unsigned block = 2; block < 6; block++) {
        change_refcount(f, block * per_block + slot, +1);
    }
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);

    refcount(&a, f, slot, 0);
    refcount(&b, f, per_block + slot, 0);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 2);
    fake_release(f->disk, fake_nth_held(f->disk, 1));
    test_turns(20);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);

    assert_int_equal(a.value, 1);
    assert_int_equal(b.value, 2);
    assert_int_equal(read_refcount(f, slot), 1);
    assert_int_equal(read_refcount(f, per_block + slot), 2);
    for (unsigned block = 1; block < 6; block++) {
        change_refcount(f, block * per_block + slot, -1);
    }
}

/*
 *   A: write cluster 2            B: flush
 *   data (held)
 *                                 takes the lock, writes the L2 table (held)
 *   data is released
 *   link: waits for the lock
 *                                 table is released, B done
 *   links
 *
 * With the fault A's entry gets into the table on its way to the disk, with
 * no flush between A's data and the entry (R2).
 */
static void test_s1_linking_waits_for_the_lock(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc(CS);
    Op a, b = { 0 };
    uint64_t table, entry;
    int id;

    open_image(f, "size=1M", NULL);
    memset(buf, 'x', CS);
    assert_int_equal(blk_pwrite(f->blk, CS, CS, buf), 0);
    table = q_state(f->blk)->l1.entries[0] & QCOW2_OFFSET_MASK;
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, table, CS);
    fake_hold(f->disk, FAKE_WRITE, host_of(f, CS) + CS, CS);

    start_write(f, &a, 2 * CS, buf, CS);
    assert_int_equal(fake_nb_held(f->disk), 1);
    blk_aio_flush(f->blk, record, &b);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 2);
    fake_release(f->disk, fake_nth_held(f->disk, 0));
    test_turns(20);
    assert_false(a.done);
    id = fake_nth_held(f->disk, 0);
    fake_release(f->disk, id);
    TEST_WAIT_UNTIL(fake_request(f->disk, id)->done);

    fake_disk_peek(f->disk, table + 2 * 8, &entry, 8);
    assert_int_equal(entry, 0);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(a.ret, 0);
    assert_int_equal(b.ret, 0);
    expect(f, 2 * CS, CS, 'x');
}

/*
 *   A: write [0, 4k)              B: write [4k, 8k), same cluster
 *   data (held)                   finds A in flight, waits
 *   released, links, wakes B
 *                                 looks up afresh, writes in place
 */
static void test_s1_overlapping_write_waits_for_the_allocation(void **state)
{
    Fixture *f = *state;
    uint8_t abuf[4096], bbuf[4096];
    Op a, b;

    open_image(f, "size=1M", NULL);
    memset(abuf, 'a', sizeof(abuf));
    memset(bbuf, 'b', sizeof(bbuf));
    assert_int_equal(blk_pwrite(f->blk, 8 * CS, 4096, abuf), 0);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);

    start_write(f, &a, 0, abuf, 4096);
    start_write(f, &b, 4096, bbuf, 4096);
    assert_int_equal(fake_nb_held(f->disk), 1);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);

    expect(f, 0, 4096, 'a');
    expect(f, 4096, 4096, 'b');
}

/* The same, and only the result counts: with the fault B still believes that
 * the cluster is unallocated, and A's half is lost. */
static void test_s1_waiter_looks_its_mapping_up_afresh(void **state)
{
    Fixture *f = *state;
    uint8_t abuf[4096], bbuf[4096];
    uint64_t host;
    Op a, b;

    open_image(f, "size=1M", NULL);
    memset(abuf, 'a', sizeof(abuf));
    memset(bbuf, 'b', sizeof(bbuf));
    assert_int_equal(blk_pwrite(f->blk, 8 * CS, 4096, abuf), 0);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);

    start_write(f, &a, 0, abuf, 4096);
    start_write(f, &b, 4096, bbuf, 4096);
    host = fake_request(f->disk, fake_nth_held(f->disk, 0))->offset;
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);

    assert_int_equal(host_of(f, 0), host);
    expect(f, 0, 4096, 'a');
    expect(f, 4096, 4096, 'b');
    expect(f, 8192, CS - 8192, 0);
}

/*
 *   A: read cluster 0             B: read cluster 1
 *   data (held)
 *                                 data (held): the lock is free
 */
static void test_s1_data_io_does_not_hold_the_lock(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc0(2 * CS);
    Op a, b;

    open_image(f, "size=1M", NULL);
    assert_int_equal(blk_pwrite(f->blk, 0, 2 * CS, buf), 0);
    fake_log_clear(f->disk);

    fake_hold(f->disk, FAKE_READ, 0, 0);
    start_read(f, &a, 0, buf, CS);
    start_read(f, &b, CS, buf + CS, CS);
    assert_int_equal(fake_nb_held(f->disk), 2);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);

    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    start_write(f, &a, 0, buf, CS);
    start_write(f, &b, CS, buf + CS, CS);
    assert_int_equal(fake_nb_held(f->disk), 2);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
}

/*
 *   A: read, L2 table 0           B: read, L2 table 1
 *   miss, reads it (held)
 *                                 miss, reads it (held): the lock is free
 */
static void test_s1_misses_on_different_tables_overlap(void **state)
{
    Fixture *f = *state;
    uint8_t buf[8192] = { 0 };
    uint64_t c = 4096 * 512; /* guest bytes of one L2 table */
    Op a, b;

    open_image(f, "size=8M,cluster_size=4k", NULL);
    assert_int_equal(blk_pwrite(f->blk, 0, 4096, buf), 0);
    assert_int_equal(blk_pwrite(f->blk, c, 4096, buf), 0);
    reopen(f, NULL);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);

    start_read(f, &a, 0, buf, 4096);
    start_read(f, &b, c, buf + 4096, 4096);
    assert_int_equal(fake_nb_held(f->disk), 2);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(a.ret, 0);
    assert_int_equal(b.ret, 0);
}

/* Two readers of one missing table: one read, both get it. */
static void test_misses_on_one_table_share_its_read(void **state)
{
    Fixture *f = *state;
    uint8_t buf[8192];
    Op a, b;

    open_image(f, "size=8M,cluster_size=4k", NULL);
    memset(buf, 'z', sizeof(buf));
    assert_int_equal(blk_pwrite(f->blk, 0, 8192, buf), 0);
    reopen(f, NULL);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);

    start_read(f, &a, 0, buf, 4096);
    start_read(f, &b, 4096, buf + 4096, 4096);
    assert_int_equal(fake_nb_held(f->disk), 1);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(fake_count(f->disk, FAKE_READ), 3);
    assert_int_equal(buf[0], 'z');
    assert_int_equal(buf[4096], 'z');
}

/* A failed load is an error for all who waited, and is tried again later. */
static void test_failed_table_read_reaches_all_waiters(void **state)
{
    Fixture *f = *state;
    uint8_t buf[8192] = { 0 };
    Op a, b;

    open_image(f, "size=8M,cluster_size=4k", NULL);
    assert_int_equal(blk_pwrite(f->blk, 0, 8192, buf), 0);
    reopen(f, NULL);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);
    fake_fail_nth(f->disk, FAKE_READ, 1, EIO, false);

    start_read(f, &a, 0, buf, 4096);
    start_read(f, &b, 4096, buf + 4096, 4096);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(a.ret, -EIO);
    assert_int_equal(b.ret, -EIO);
    assert_int_equal(blk_pread(f->blk, 0, 4096, buf), 0);
    assert_int_equal(qcow2_cache_busy(q_state(f->blk)->l2_cache), 0);
}

/*
 *   A: read cluster 0             B: discard cluster 0, flush, write elsewhere
 *   data (held)                   waits for A
 *   released                      goes on
 *
 * So A never reads what somebody else wrote into a cluster it had looked up.
 */
static void test_discard_waits_for_reads_of_the_cluster(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc(CS);
    Op a, b = { 0 };

    open_image(f, "size=1M", NULL);
    reopen(f, "pass-discard-request=on");
    memset(buf, 'd', CS);
    assert_int_equal(blk_pwrite(f->blk, 0, CS, buf), 0);
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);

    start_read(f, &a, 0, buf, CS);
    blk_aio_pwrite_zeroes(f->blk, 0, CS, BDRV_REQ_MAY_UNMAP, record, &b);
    test_turns(20);
    assert_false(b.done);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(a.done && b.done);
    assert_int_equal(buf[0], 'd');
    expect(f, 0, CS, 0);
}

/* A snapshot takes the vmstate over: the active layer has no part in it, so
 * the next save does not copy on write. */
static void test_s4_vmstate_is_not_left_in_the_active_layer(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc(4 * CS);
    Qcow2State *s;
    uint64_t first;

    open_image(f, "size=1M", NULL);
    s = q_state(f->blk);
    test_fill(buf, 4 * CS, 1);
    assert_int_equal(blk_pwrite(f->blk, 0, CS, buf), 0);
    assert_int_equal(q_vm_save(f->blk, 0, buf, 4 * CS), 0);
    assert_int_equal(q_snap_create(f->blk, "one", 4 * CS), 0);

    first = qcow2_l1_entries_for(s, s->hdr.size);
    for (uint64_t i = first; i < s->l1.size; i++) {
        assert_int_equal(s->l1.entries[i], 0);
    }
    assert_int_equal(q_vm_save(f->blk, 100, buf, 1000), 0);
    assert_int_equal(q_vm_discard(f->blk), 0);
    assert_int_equal(q_vm_select(f->blk, "one", &first), 0);
    assert_int_equal(first, 4 * CS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_s1_two_allocating_writes_never_get_one_cluster),
        T(test_s1_refcount_reads_never_share_a_cache_entry),
        T(test_s1_linking_waits_for_the_lock),
        T(test_s1_overlapping_write_waits_for_the_allocation),
        T(test_s1_waiter_looks_its_mapping_up_afresh),
        T(test_s1_data_io_does_not_hold_the_lock),
        T(test_s1_misses_on_different_tables_overlap),
        T(test_misses_on_one_table_share_its_read),
        T(test_failed_table_read_reaches_all_waiters),
        T(test_discard_waits_for_reads_of_the_cluster),
        T(test_s4_vmstate_is_not_left_in_the_active_layer),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
