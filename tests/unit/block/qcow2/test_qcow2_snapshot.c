/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: what guests may do while one is deleted, counting in windows,
 * refusals before anything has changed. Requests to the image file are held,
 * so each interleaving is the one drawn.
 */
#include "snapshot_fixture.h"

/* ---- while a snapshot is deleted ---- */

static void start_call(Fixture *f, Op *op, int what, const char *name)
{
    *op = (Op) { .call = { f->blk, what, .name = name } };
    test_spawn(op_entry, op);
    test_turns(20);
}

/* Guest offset that is mapped by L1 entry @i. */
static uint64_t behind(Fixture *f, unsigned i)
{
    return i * qcow2_l1_coverage(q_state(f->blk));
}

/* Host offset of the L2 table of L1 entry @i. */
static uint64_t table_at(Fixture *f, unsigned i)
{
    return q_state(f->blk)->l1.entries[i] & QCOW2_OFFSET_MASK;
}

/*
 * Four L2 tables; snapshot "a"; then table 0 and one of its clusters are
 * copied by a write. Table 1 is shared.
 */
static void make_shared(Fixture *f, const char *options)
{
    open_image(f, "size=8M,cluster_size=4k", options);
    for (unsigned i = 0; i < 4; i++) {
        fill(f, behind(f, i), 3 * CS, 'a' + i);
    }
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    fill(f, 0, CS, 'n');
    assert_int_equal(blk_flush(f->blk), 0);
}

/*
 *   delete                      guest
 *   reads table 1 (held)
 *                               reads, writes in place, allocates, copies a
 *                               shared table, discards, flushes: all complete
 *   goes on, done
 */
static void test_guest_goes_on_while_a_delete_reads_its_tables(void **state)
{
    Fixture *f = *state;
    uint8_t buf[CS];
    Op del;

    make_shared(f, NULL);
    expect(f, behind(f, 1), CS, 'b');
    fake_hold(f->disk, FAKE_READ, table_at(f, 1), CS);
    start_call(f, &del, Q_SNAP_DELETE, "a");
    assert_int_equal(fake_nb_held(f->disk), 1);
    fake_hold_none(f->disk);

    fill(f, 0, CS, 'o');                     /* in place */
    fill(f, 7 * CS, CS, 'p');                /* a new cluster */
    fill(f, behind(f, 2) + CS, CS, 'q');     /* copies table 2 */
    assert_int_equal(blk_pdiscard(f->blk, behind(f, 2), CS), 0);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_pread(f->blk, 7 * CS, CS, buf), 0);
    assert_int_equal(buf[0], 'p');
    assert_false(del.done);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(del.done);

    assert_int_equal(del.ret, 0);
    expect(f, 0, CS, 'o');
    expect(f, CS, 2 * CS, 'a');
    expect(f, behind(f, 1), 3 * CS, 'b');
    expect(f, behind(f, 2), CS, 0);
    expect(f, behind(f, 2) + CS, CS, 'q');
    expect(f, behind(f, 2) + 2 * CS, CS, 'c');
    expect_clean(f);
}

/*
 * As above, at each other request that a delete makes: requests of the guest
 * that need none of what is held complete.
 */
static void test_guest_goes_on_at_every_step_of_a_delete(void **state)
{
    Fixture *f = *state;
    unsigned steps = 0, through = 0;
    bool more = true;

    for (unsigned step = 0; more; step++) {
        uint8_t buf[CS];
        Op del, w;
        int id;

        make_shared(f, NULL);
        expect(f, 0, CS, 'n');
        memset(buf, 'w', CS);
        fake_log_clear(f->disk);
        fake_hold(f->disk, FAKE_ANY, 0, 0);
        start_call(f, &del, Q_SNAP_DELETE, "a");
        for (unsigned i = 0; i < step && !del.done; i++) {
            id = fake_nth_held(f->disk, 0);
            assert_true(id >= 0);
            fake_release(f->disk, id);
            test_turns(20);
        }
        more = !del.done;
        fake_hold_none(f->disk);
        start_write(f, &w, 9 * CS, buf, CS);
        test_turns(40);
        through += more && w.done;
        steps += more;
        fake_release_all(f->disk);
        TEST_WAIT_UNTIL(del.done && w.done);
        assert_int_equal(del.ret, 0);
        assert_int_equal(w.ret, 0);
        expect(f, 0, CS, 'n');
        expect(f, 9 * CS, CS, 'w');
        expect(f, behind(f, 3), 3 * CS, 'd');
        expect_clean(f);
        q_close(f->blk);
        f->blk = NULL;
    }
    /* Those that wait: metadata is being written with s->lock held. */
    print_message("a write completed at %u of %u steps\n", through, steps);
    assert_true(through >= 4);
}

/*
 *   A: delete              B: create            guest: write
 *   read (held)
 *                          waits for A
 *                                               completes
 *   goes on, done
 *                          done
 */
static void test_a_create_waits_for_a_delete_but_guests_do_not(void **state)
{
    Fixture *f = *state;
    Op del, create;

    make_shared(f, NULL);
    fake_hold(f->disk, FAKE_READ, table_at(f, 1), CS);
    start_call(f, &del, Q_SNAP_DELETE, "a");
    fake_hold_none(f->disk);
    start_call(f, &create, Q_SNAP_CREATE, "b");
    fill(f, 0, CS, 'o');
    assert_false(del.done || create.done);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(del.done && create.done);
    assert_int_equal(del.ret, 0);
    assert_int_equal(create.ret, 0);
    expect_clean(f);
    fill(f, 0, CS, 'p');
    assert_int_equal(q_snap_goto(f->blk, "b"), 0);
    expect(f, 0, CS, 'o');
    expect_clean(f);
}

/*
 *   delete                           load of the same snapshot's vmstate
 *                                    reads a cluster (held)
 *   header; waits for the load
 *                                    done, right bytes
 *   frees the cluster, done
 */
static void test_a_delete_waits_for_those_who_load_the_snapshot(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *vm = g_malloc(CS), *buf = g_malloc0(CS);
    uint64_t size;
    Op del, load;
    int id;

    open_image(f, "size=1M,cluster_size=4k", NULL);
    test_fill(vm, CS, 5);
    assert_int_equal(q_vm_save(f->blk, 0, vm, CS), 0);
    assert_int_equal(q_snap_create(f->blk, "a", CS), 0);
    assert_int_equal(q_vm_select(f->blk, "a", &size), 0);
    assert_int_equal(q_vm_load(f->blk, 0, buf, 512), 0); /* tables cached */
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_READ, 0, 0);
    load = (Op) { .call = { f->blk, Q_VM_LOAD, .buf = buf, .bytes = CS } };
    test_spawn(op_entry, &load);
    test_turns(20);
    assert_int_equal(fake_nb_held(f->disk), 1);
    id = fake_nth_held(f->disk, 0);
    fake_hold_none(f->disk);
    start_call(f, &del, Q_SNAP_DELETE, "a");
    test_turns(200);
    assert_false(del.done);
    assert_int_equal(fake_count(f->disk, FAKE_DISCARD), 0);
    fake_release(f->disk, id);
    TEST_WAIT_UNTIL(del.done && load.done);
    assert_int_equal(del.ret, 0);
    assert_int_equal(load.ret, 0);
    assert_memory_equal(buf, vm, CS);
    assert_true(fake_count(f->disk, FAKE_DISCARD) > 0);
    assert_int_equal(q_vm_load(f->blk, 0, buf, 512), -ENOENT);
    expect_clean(f);
}

static void coroutine_fn drain_entry(void *opaque)
{
    Op *op = opaque;
    BlockDriverState *bs = blk_bs(op->call.blk);

    bdrv_co_drained_begin(bs);
    op->done = true;
    bdrv_drained_end(bs);
}

/* So closing does, and a save. */
static void test_a_drain_waits_for_the_end_of_a_delete(void **state)
{
    Fixture *f = *state;
    Op del, drain = { 0 };

    make_shared(f, NULL);
    fake_hold(f->disk, FAKE_READ, table_at(f, 1), CS);
    start_call(f, &del, Q_SNAP_DELETE, "a");
    fake_hold_none(f->disk);
    drain.call.blk = f->blk;
    test_spawn(drain_entry, &drain);
    test_turns(40);
    assert_false(del.done || drain.done);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(drain.done);
    assert_true(del.done);
    assert_int_equal(del.ret, 0);
}

/* ---- any order ---- */

#define CLUSTERS 512        /* of 512 bytes; 64 in each L2 table */
#define GUESTS   6

/* A guest's request for clusters of its own. */
typedef struct Guest {
    BlockBackend *blk;
    unsigned what;
    unsigned first, n;      /* clusters */
    int value;
    uint8_t buf[8 * 512];
    bool done;
    int ret;
} Guest;

static void coroutine_fn guest_entry(void *opaque)
{
    Guest *g = opaque;
    uint64_t offset = g->first * 512, bytes = g->n * 512;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, g->buf, bytes);
    switch (g->what) {
    case 0:
        g->ret = blk_co_preadv(g->blk, offset, bytes, &qiov, 0);
        break;
    case 1:
        g->ret = blk_co_pdiscard(g->blk, offset, bytes);
        break;
    case 2:
        g->ret = blk_co_pwrite_zeroes(g->blk, offset, bytes,
                                      BDRV_REQ_MAY_UNMAP);
        break;
    case 3:
        g->ret = blk_co_flush(g->blk);
        break;
    default:
        g->ret = blk_co_pwritev(g->blk, offset, bytes, &qiov, 0);
        break;
    }
    g->done = true;
}

static void start_guest(Fixture *f, Guest *g, GRand *rand, unsigned i,
                        uint8_t *model)
{
    unsigned slot = CLUSTERS / GUESTS;

    *g = (Guest) { .blk = f->blk, .what = g_rand_int_range(rand, 0, 9) };
    g->n = g_rand_int_range(rand, 1, 9);
    g->first = i * slot + g_rand_int_range(rand, 0, slot - 8);
    g->value = g_rand_int_range(rand, 1, 256);
    memset(g->buf, g->value, sizeof(g->buf));
    if (g->what != 0 && g->what != 3) {
        memset(model + g->first, g->what < 3 ? 0 : g->value, g->n);
    }
    test_spawn(guest_entry, g);
}

static void scatter(Fixture *f, GRand *rand, uint8_t *model, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        unsigned n = g_rand_int_range(rand, 1, 40);
        unsigned first = g_rand_int_range(rand, 0, CLUSTERS - n);
        int value = g_rand_int_range(rand, 1, 256);

        fill(f, first * 512, n * 512, value);
        memset(model + first, value, n);
    }
}

static void expect_model(Fixture *f, const uint8_t *model)
{
    for (unsigned i = 0; i < CLUSTERS; i++) {
        expect(f, i * 512, 512, model[i]);
    }
}

static bool all_done(const Guest *g)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        if (!g[i].done) {
            return false;
        }
    }
    return true;
}

/* Let what is held go, one at a time in any order, until all is done. */
static void finish_in_any_order(Fixture *f, GRand *rand, const Op *del,
                                const Guest *g)
{
    while (!del->done || !all_done(g)) {
        unsigned n = fake_nb_held(f->disk);

        if (n) {
            fake_release(f->disk, fake_nth_held(f->disk,
                                                g_rand_int_range(rand, 0, n)));
        }
        test_turns(3);
    }
    fake_hold_none(f->disk);
}

static void delete_in_any_order(Fixture *f, uint32_t seed)
{
    static Guest g[GUESTS];
    GRand *rand = g_rand_new_with_seed(seed);
    uint8_t now[CLUSTERS] = { 0 }, then[CLUSTERS];
    bool other = g_rand_boolean(rand);
    Op del;

    open_image(f, "size=256k,cluster_size=512", seed % 2 ?
               "l2-cache-size=1k,l2-cache-entry-size=512,"
               "refcount-cache-size=2k" : NULL);
    scatter(f, rand, now, 8);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    scatter(f, rand, now, 3);
    memcpy(then, now, sizeof(now));
    if (other) {
        assert_int_equal(q_snap_create(f->blk, "b", 0), 0);
        scatter(f, rand, now, 2);
    }
    fake_hold(f->disk, FAKE_ANY, 0, 0);
    start_call(f, &del, Q_SNAP_DELETE, "a");
    for (unsigned i = 0; i < GUESTS; i++) {
        start_guest(f, &g[i], rand, i, now);
    }
    finish_in_any_order(f, rand, &del, g);
    assert_int_equal(del.ret, 0);
    for (unsigned i = 0; i < GUESTS; i++) {
        assert_int_equal(g[i].ret, 0);
    }
    expect_model(f, now);
    expect_clean(f);
    assert_int_equal(qcow2_cache_busy(q_state(f->blk)->l2_cache), 0);
    if (other) {
        assert_int_equal(q_snap_goto(f->blk, "b"), 0);
        expect_model(f, then);
        expect_clean(f);
    }
    q_close(f->blk);
    f->blk = NULL;
    g_rand_free(rand);
}

static void test_guests_and_a_delete_in_any_order_of_completion(void **state)
{
    for (uint32_t seed = 0; seed < 150; seed++) {
        delete_in_any_order(*state, seed);
    }
}

/* ---- counting ---- */

static void test_a_refcount_overflow_is_found_before_anything_changes(
    void **state)
{
    static const unsigned widths[] = { 1, 2, 4, 8 };
    Fixture *f = *state;

    for (unsigned i = 0; i < G_N_ELEMENTS(widths); i++) {
        g_autofree char *create = g_strdup_printf(
            "size=1M,cluster_size=4k,refcount_bits=%u", widths[i]);
        unsigned max = (1u << widths[i]) - 1;

        open_image(f, create, NULL);
        fill(f, 0, 3 * CS, 'a');
        for (unsigned k = 1; k < max; k++) {
            assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
        }
        expect_clean(f);
        fake_log_clear(f->disk);
        assert_int_equal(q_snap_create(f->blk, "over", 0), -ERANGE);
        assert_int_equal(fake_count(f->disk, FAKE_WRITE | FAKE_ZERO |
                                             FAKE_DISCARD), 0);
        expect_clean(f);
        fill(f, 0, CS, 'b');
        if (max > 1) { /* that cluster has room again: the next one not */
            assert_int_equal(q_snap_create(f->blk, "over", 0), -ERANGE);
            assert_int_equal(q_snap_delete(f->blk, "s"), 0);
            assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
        }
        expect_clean(f);
        q_close(f->blk);
        f->blk = NULL;
    }
}

typedef struct SetCount {
    Qcow2State *s;
    uint64_t guest_offset;
    uint64_t value;
    int ret;
} SetCount;

static void coroutine_fn set_count_entry(void *opaque)
{
    SetCount *c = opaque;
    Qcow2State *s = c->s;
    Qcow2CacheEntry *e;
    Qcow2Mapping m;
    uint64_t slots = (1ULL << s->refblock_bits) - 1;

    co_mutex_lock(&s->lock);
    assert_int_equal(qcow2_map(s, &s->l1, c->guest_offset, 1, &m), 0);
    assert_int_equal(qcow2_get_refblock(s, 0, &e), 0);
    qcow2_refblock_set(e->data, s->refcount_order,
                       (m.host_offset >> s->cluster_bits) & slots, c->value);
    qcow2_cache_mark_dirty(s, s->refblock_cache, e);
    qcow2_cache_put(s, s->refblock_cache, e);
    co_mutex_unlock(&s->lock);
    c->ret = 0;
}

static void set_count(Fixture *f, uint64_t guest_offset, uint64_t value)
{
    SetCount c = { q_state(f->blk), guest_offset, value, -1 };

    test_spawn(set_count_entry, &c);
    TEST_WAIT_UNTIL(c.ret == 0);
    assert_int_equal(blk_flush(f->blk), 0);
}

static void test_the_largest_refcount_of_each_width_is_the_limit(void **state)
{
    Fixture *f = *state;

    for (unsigned order = 0; order <= 6; order++) {
        g_autofree char *create = g_strdup_printf(
            "size=64k,cluster_size=4k,refcount_bits=%u", 1u << order);
        uint64_t max;

        open_image(f, create, NULL);
        max = q_state(f->blk)->refcount_max;
        assert_true(max == UINT64_MAX >> (64 - (1u << order)));
        fill(f, 0, 2 * CS, 'a');
        set_count(f, CS, max);
        fake_log_clear(f->disk);
        assert_int_equal(q_snap_create(f->blk, "s", 0), -ERANGE);
        assert_int_equal(fake_count(f->disk, FAKE_WRITE), 0);
        if (max > 1) {
            set_count(f, CS, max - 1);
            assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
            assert_int_equal(q_snap_create(f->blk, "t", 0), -ERANGE);
            assert_int_equal(q_snap_delete(f->blk, "s"), 0);
            set_count(f, CS, 1);
        }
        fill(f, CS, CS, 'b');
        q_close(f->blk);
        f->blk = NULL;
    }
}

/* Someone else's refcounts may be too low: that is found, too, in time. */
static void test_a_delete_that_would_go_below_zero_changes_nothing(
    void **state)
{
    Fixture *f = *state;

    open_image(f, "size=64k,cluster_size=4k", NULL);
    fill(f, 0, 2 * CS, 'a');
    assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
    set_count(f, CS, 0);
    fake_log_clear(f->disk);
    assert_int_equal(q_snap_delete(f->blk, "s"), -EIO);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 1); /* corrupt bit */
    assert_int_equal(q_state(f->blk)->snapshots->len, 1);
    assert_true(q_state(f->blk)->corrupt);
    expect(f, 0, 2 * CS, 'a');
    (void)blk_close(f->blk);
    f->blk = NULL;
}

static void coroutine_fn grow_entry(void *opaque)
{
    SetCount *c = opaque;
    Qcow2State *s = c->s;

    co_mutex_lock(&s->lock);
    c->ret = qcow2_reftable_grow(s, c->value, 0);
    co_mutex_unlock(&s->lock);
}

/* An image whose table is larger could not be opened again. */
static void test_the_refcount_table_never_outgrows_8_mib(void **state)
{
    Fixture *f = *state;
    SetCount c = { .value = QCOW2_MAX_REFTABLE / 8 - 1 };

    open_image(f, "size=64k,cluster_size=512,refcount_bits=64", NULL);
    c.s = q_state(f->blk);
    fake_log_clear(f->disk);
    c.ret = 1;
    test_spawn(grow_entry, &c); /* room for the block that counts the table? */
    TEST_WAIT_UNTIL(c.ret <= 0);
    assert_int_equal(c.ret, -ENOSPC);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 0);
    fill(f, 0, CS, 'a');
    expect_clean(f);
}

/* With 512-byte clusters and 64-bit refcounts, a block counts 64 clusters. */
static void test_counts_in_windows_give_the_same_as_all_at_once(void **state)
{
    Fixture *f = *state;

    for (unsigned blocks = 1; blocks <= 5; blocks += 2) {
        open_image(f, "size=256k,cluster_size=512,refcount_bits=64", NULL);
        q_state(f->blk)->tally_bytes = blocks * 64 * 4;
        fill(f, 0, 200 * 512, 'a');
        assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
        expect_clean(f);
        fill(f, 50 * 512, 300 * 512, 'b');
        assert_int_equal(q_snap_create(f->blk, "b", 0), 0);
        expect_clean(f);
        fill(f, 60 * 512, 10 * 512, 'c');
        assert_int_equal(q_snap_delete(f->blk, "a"), 0);
        expect_clean(f);
        expect(f, 60 * 512, 10 * 512, 'c');
        assert_int_equal(q_snap_goto(f->blk, "b"), 0);
        expect_clean(f);
        expect(f, 0, 50 * 512, 'a');
        expect(f, 50 * 512, 300 * 512, 'b');
        assert_int_equal(q_snap_delete(f->blk, "b"), 0);
        expect_clean(f);
        q_close(f->blk);
        f->blk = NULL;
    }
}

/* A create that fails in the second window leaves no count behind. */
static void test_a_create_that_fails_in_a_window_is_undone(void **state)
{
    Fixture *f = *state;
    int ret = -EIO;

    for (unsigned n = 1; ret < 0 && n < 400; n++) {
        open_image(f, "size=256k,cluster_size=512,refcount_bits=64",
                   "refcount-cache-size=2k");
        q_state(f->blk)->tally_bytes = 64 * 4;
        fill(f, 0, 300 * 512, 'a');
        assert_int_equal(blk_flush(f->blk), 0);
        fake_fail_nth(f->disk, FAKE_READ | FAKE_WRITE, n, EIO, false);
        ret = q_snap_create(f->blk, "a", 0);
        fake_fail_nth(f->disk, 0, 0, 0, false);
        if (!q_state(f->blk)->corrupt) {
            if (ret < 0) {
                assert_int_equal(q_snap_delete(f->blk, "a"), -ENOENT);
            }
            expect_clean(f);
            fill(f, 0, CS, 'b');
        }
        (void)blk_close(f->blk);
        f->blk = NULL;
    }
    assert_int_equal(ret, 0);
}

/* What is written at a create: each table once, and no more flushes. */
static void test_a_create_flushes_twice_and_reads_each_table_once(
    void **state)
{
    Fixture *f = *state;
    unsigned flushes = 0;

    open_image(f, "size=8M,cluster_size=4k", NULL);
    for (unsigned i = 0; i < 4; i++) {
        fill(f, behind(f, i), 3 * CS, 'a' + i);
    }
    assert_int_equal(blk_flush(f->blk), 0);
    reopen(f, NULL, BDRV_O_RDWR);
    fake_log_clear(f->disk);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    for (int id = fake_find(f->disk, 0, FAKE_WRITE, 0, 0);
         (id = fake_find(f->disk, id + 1, FAKE_FLUSH, 0, 0)) >= 0;) {
        flushes++;
    }
    assert_int_equal(flushes, 2);
    for (unsigned i = 0; i < 4; i++) {
        int first = fake_find(f->disk, 0, FAKE_READ, table_at(f, i), CS);

        assert_true(first >= 0);
        assert_int_equal(fake_find(f->disk, first + 1, FAKE_READ,
                                   table_at(f, i), CS), -1);
    }
    expect_clean(f);
}

/*
 *   create "b"                          somebody
 *   writes the header (held)
 *                                       asks it to stop
 *   fails to free the old table,
 *   takes "b" out again all the same
 */
static void
test_a_create_that_fails_late_is_undone_though_to_stop(void **state)
{
    Fixture *f = *state;
    Op create;

    make_shared(f, NULL);
    fake_hold(f->disk, FAKE_WRITE, 0, 512);
    start_call(f, &create, Q_SNAP_CREATE, "b");
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    aio_stop(test_ctx);
    fake_hold_none(f->disk);
    fake_fail_nth(f->disk, FAKE_WRITE, 2, EIO, false);
    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(create.done);

    assert_int_equal(create.ret, -EIO);
    assert_int_equal(q_state(f->blk)->snapshots->len, 1);
    expect_clean(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_guest_goes_on_while_a_delete_reads_its_tables),
        T(test_guest_goes_on_at_every_step_of_a_delete),
        T(test_a_create_waits_for_a_delete_but_guests_do_not),
        T(test_a_delete_waits_for_those_who_load_the_snapshot),
        T(test_a_drain_waits_for_the_end_of_a_delete),
        T(test_guests_and_a_delete_in_any_order_of_completion),
        T(test_a_refcount_overflow_is_found_before_anything_changes),
        T(test_the_largest_refcount_of_each_width_is_the_limit),
        T(test_a_delete_that_would_go_below_zero_changes_nothing),
        T(test_the_refcount_table_never_outgrows_8_mib),
        T(test_counts_in_windows_give_the_same_as_all_at_once),
        T(test_a_create_that_fails_in_a_window_is_undone),
        T(test_a_create_flushes_twice_and_reads_each_table_once),
        T(test_a_create_that_fails_late_is_undone_though_to_stop),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
