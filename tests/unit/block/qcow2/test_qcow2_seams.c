/* SPDX-License-Identifier: MIT */
/*
 * Where two parts of the driver meet: space behind the end that a failed
 * rewrite of the tables has touched, tables of a hostile image that two
 * requests reach on two ways, refcounts that are too low while a snapshot is
 * being deleted.
 */
#include "snapshot_fixture.h"

static uint64_t peek64(Fixture *f, uint64_t offset)
{
    uint8_t be[8];

    fake_disk_peek(f->disk, offset, be, 8);
    return be64_get(be);
}

static void poke64(Fixture *f, uint64_t offset, uint64_t value)
{
    uint8_t be[8];

    be64_put(be, value);
    fake_disk_poke(f->disk, offset, be, 8);
}

/* ---- behind the end of the file ---- */

/* What takes the next clusters writes a part of each: the rest is zero. */
static void expect_zeroes_around_writes(Fixture *f)
{
    uint64_t size = blk_bs(f->blk)->total_bytes;

    for (uint64_t at = 64 * CS; at + CS <= size; at += CS) {
        fill(f, at + 1024, 512, 'p');
        expect(f, at, 1024, 0);
        expect(f, at + 1024, 512, 'p');
        expect(f, at + 1536, CS - 1536, 0);
    }
}

/*
 * The driver below takes 512 bytes at a time: the @n-th write of what @run does
 * fails, often in the middle of a table, of which the first part is there,
 * behind what is known as the end of the file.
 */
static void fail_each_write(void **state, int (*run)(Fixture *f))
{
    Fixture *f = *state;
    int ret = -EIO;

    for (unsigned n = 1; ret < 0; n++) {
        f->disk->max_transfer = 512;
        open_image(f, "size=384k,cluster_size=4k", NULL);
        fill(f, 0, 64 * CS, 'd');
        assert_int_equal(blk_flush(f->blk), 0);
        fake_fail_nth(f->disk, FAKE_WRITE, n, EIO, false);
        ret = run(f);
        fake_fail_nth(f->disk, FAKE_WRITE, 0, 0, false);
        if (!q_state(f->blk)->corrupt) {
            expect_zeroes_around_writes(f);
        }
        q_close(f->blk);
        f->blk = NULL;
        fake_disk_free(f->disk);
        f->disk = fake_disk_new("q", 0);
    }
}

static int run_amend(Fixture *f)
{
    return blk_amend(f->blk, q_options("refcount_bits=64"), false, NULL, NULL,
                     NULL);
}

static void test_a_failed_amend_leaves_nothing_to_be_seen(void **state)
{
    fail_each_write(state, run_amend);
}

static int run_empty(Fixture *f)
{
    return blk_make_empty(f->blk, NULL);
}

static void test_a_failed_make_empty_leaves_nothing_to_be_seen(void **state)
{
    fail_each_write(state, run_empty);
}

/* ---- two ways to one table ---- */

/*
 *   A: write 512 bytes, L1 entry 0     B: the same cluster by L1 entry 1
 *   data (held)
 *                                      data (held)
 *   linked
 *                                      finds what it had not seen: corrupt
 */
static void test_an_l2_table_with_two_ways_to_it_is_corruption(void **state)
{
    Fixture *f = *state;
    uint64_t l1, far = 16u << 20;
    uint8_t a[512], b[512];
    Op one, two;

    open_image(f, "size=32M,cluster_size=16k,extended_l2=on", NULL);
    fill(f, 5 * 16384, 512, 'x');
    q_close(f->blk);
    l1 = peek64(f, 40);
    poke64(f, l1 + 8, peek64(f, l1));
    f->blk = q_open("fake:q", NULL, BDRV_O_RDWR);
    expect(f, 5 * 16384, 512, 'x');
    expect(f, far + 5 * 16384, 512, 'x');

    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    start_write(f, &one, 0, a, sizeof(a));
    start_write(f, &two, far + 4096, b, sizeof(b));
    assert_int_equal(fake_nb_held(f->disk), 2);
    fake_hold_none(f->disk);
    fake_release(f->disk, fake_nth_held(f->disk, 0));
    TEST_WAIT_UNTIL(one.done);
    assert_int_equal(one.ret, 0);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(two.done);
    assert_int_equal(two.ret, -EIO);
    assert_true(q_state(f->blk)->corrupt);
    expect(f, 0, 512, 'a');
    (void)blk_close(f->blk);
    f->blk = NULL;
}

/* ---- refcounts that are too low ---- */

/* Host offset of the data cluster at @guest_offset. */
static uint64_t host_of(Fixture *f, uint64_t guest_offset)
{
    uint64_t n, host = 0;

    assert_true(blk_block_status(f->blk, guest_offset, 512, &n, &host) &
                BDRV_BLOCK_OFFSET_VALID);
    return host;
}

/*
 * One cluster of the snapshot and of the active layer is counted once only.
 *
 *   delete "s"                          guest
 *   looks at all refcounts
 *   table, header
 *   lowers them, waits for a block
 *                                       discards the cluster; flush: count 0
 *   finds the count below its own: corrupt, and nothing wraps round
 */
static void test_a_count_that_falls_during_a_delete_is_corruption(
    void **state)
{
    Fixture *f = *state;
    uint64_t victim = 900 * 512, host, table, block, index;
    Op del = { 0 };
    uint8_t be[2];

    open_image(f, "size=512k,cluster_size=512", "refcount-cache-size=2k");
    fill(f, 0, 512 * 1024, 'd');
    assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
    host = host_of(f, victim);
    q_close(f->blk);
    table = peek64(f, 48);
    index = host / 512 / 256;
    assert_true(index >= 3);
    block = peek64(f, table + index * 8);
    be16_put(be, 1);
    fake_disk_poke(f->disk, block + host / 512 % 256 * 2, be, 2);
    f->blk = q_open("fake:q", "refcount-cache-size=2k",
                    BDRV_O_RDWR | BDRV_O_UNMAP);
    fill(f, victim + 512, 512, 'e'); /* copies the L2 table */
    assert_int_equal(blk_flush(f->blk), 0);

    fake_hold(f->disk, FAKE_WRITE, 0, 512);
    del.call = (QCall) { f->blk, Q_SNAP_DELETE, .name = "s" };
    test_spawn(op_entry, &del);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    fake_hold_none(f->disk);
    fake_hold(f->disk, FAKE_READ, peek64(f, table), 512);
    fake_release(f->disk, fake_nth_held(f->disk, 0));
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    assert_int_equal(blk_pdiscard(f->blk, victim, 512), 0);
    assert_int_equal(blk_flush(f->blk), 0);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(del.done);
    assert_int_equal(del.ret, -EIO);
    assert_true(q_state(f->blk)->corrupt);
    (void)blk_close(f->blk);
    f->blk = NULL;
    fake_disk_peek(f->disk, block + host / 512 % 256 * 2, be, 2);
    assert_true(be16_get(be) <= 1);
}

/* ---- tables of snapshots that are gone ---- */

typedef struct Look {
    Qcow2State *s;
    uint64_t offset;
    bool is_table;
} Look;

static int coroutine_fn look_entry(void *opaque)
{
    Look *l = opaque;
    int ret;

    co_mutex_lock(&l->s->lock);
    ret = qcow2_inactive_l2_at(l->s, l->offset, &l->is_table);
    co_mutex_unlock(&l->s->lock);
    return ret;
}

static bool is_inactive_l2(Qcow2State *s, uint64_t offset)
{
    Look l = { .s = s, .offset = offset };

    assert_int_equal(run_coroutine(look_entry, &l), 0);
    return l.is_table;
}

/*
 * The only snapshot goes, its L2 tables too, and another one gets its table
 * where that of the first one was.
 */
static void test_a_new_snapshot_is_not_taken_for_the_one_before(void **state)
{
    Fixture *f = *state;
    uint64_t tables[2], place;
    Qcow2State *s;

    open_image(f, "size=4M,cluster_size=4k", "overlap-check=all");
    s = q_state(f->blk);
    fill(f, 0, CS, 'a');
    fill(f, 2 * 1024 * 1024, CS, 'b');
    for (int i = 0; i < 2; i++) {
        tables[i] = s->l1.entries[i] & QCOW2_OFFSET_MASK;
    }
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    place = s->hdr.snapshots_offset;
    assert_true(is_inactive_l2(s, tables[0])); /* as any write asks */
    assert_true(is_inactive_l2(s, tables[1]));
    assert_int_equal(q_snap_delete(f->blk, "a"), 0);
    assert_int_equal(blk_truncate(f->blk, 0, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(blk_truncate(f->blk, 4u << 20, BDRV_PREALLOC_OFF, NULL),
                     0);
    fill(f, 0, 3 * CS, 'c');
    assert_int_equal(q_snap_create(f->blk, "b", 0), 0);
    assert_int_equal(s->hdr.snapshots_offset, place);
    for (int i = 0; i < 2; i++) {
        bool is_table = (s->l1.entries[0] & QCOW2_OFFSET_MASK) == tables[i];

        assert_int_equal(is_inactive_l2(s, tables[i]), is_table);
    }
    expect_clean(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_failed_amend_leaves_nothing_to_be_seen),
        T(test_a_failed_make_empty_leaves_nothing_to_be_seen),
        T(test_an_l2_table_with_two_ways_to_it_is_corruption),
        T(test_a_count_that_falls_during_a_delete_is_corruption),
        T(test_a_new_snapshot_is_not_taken_for_the_one_before),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
