/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: what guests may do while one is deleted, counting in windows,
 * refusals before anything has changed, many of them, and opening one.
 * Requests to the image file are held, so each interleaving is the one drawn.
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

#define CS 4096u

typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    alarm(30);
    f->disk = fake_disk_new("q", 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    fake_release_all(f->disk);
    if (f->blk) {
        q_close(f->blk);
    }
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

static void open_image(Fixture *f, const char *create, const char *options)
{
    q_create("fake:q", create);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static void reopen(Fixture *f, const char *options, unsigned flags)
{
    q_close(f->blk);
    f->blk = q_open("fake:q", options, flags);
}

static void fill(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    assert_int_equal(blk_pwrite(f->blk, offset, bytes, buf), 0);
}

static void expect(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(f->blk, offset, bytes, buf), 0);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], value);
    }
}

/* The image on disk: no leaks, no wrong flags. */
static void expect_clean(Fixture *f)
{
    g_autofree uint8_t *image = NULL;
    Qcow2CheckResult r;

    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_flush(f->blk), 0); /* what the first one freed */
    image = g_malloc(f->disk->size);
    fake_disk_peek(f->disk, 0, image, f->disk->size);
    assert_int_equal(qcow2_checker_run(image, f->disk->size, &r), 0);
    if (r.corruptions || r.leaks || r.copied) {
        fail_msg("%" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", r.leaks, r.copied, r.corruptions,
                 r.first);
    }
}

/* ---- while a snapshot is deleted ---- */

typedef struct Op {
    QCall call;
    bool done;
    int ret;
    QEMUIOVector qiov;
} Op;

static void coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;

    op->ret = q_co_call(&op->call);
    g_clear_error(&op->call.error);
    op->done = true;
}

static void start_call(Fixture *f, Op *op, int what, const char *name)
{
    *op = (Op) { .call = { f->blk, what, .name = name } };
    test_spawn(op_entry, op);
    test_turns(20);
}

static void record(void *opaque, int ret)
{
    Op *op = opaque;

    op->done = true;
    op->ret = ret;
}

static void start_write(Fixture *f, Op *op, uint64_t offset, void *buf,
                        size_t bytes)
{
    *op = (Op) { 0 };
    qemu_iovec_init_buf(&op->qiov, buf, bytes);
    blk_aio_pwritev(f->blk, offset, &op->qiov, 0, record, op);
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

/* ---- many ---- */

/* A v3 table entry without an L1 table; its length, a multiple of 8. */
static size_t put_entry(uint8_t *p, unsigned i)
{
    g_autofree char *id = g_strdup_printf("%u", i + 1);
    g_autofree char *name = g_strdup_printf("snap %u", i);
    size_t id_len = strlen(id), name_len = strlen(name);

    memset(p, 0, 80);
    be16_put(p + 12, id_len);
    be16_put(p + 14, name_len);
    be32_put(p + 36, 16);
    memcpy(p + 56, id, id_len);
    memcpy(p + 56 + id_len, name, name_len);
    return ROUND_UP(56 + id_len + name_len, 8);
}

/* Give the empty image in @f @n snapshots, by writing the table, two clusters
 * of refcounts and the header. */
static void poke_snapshots(Fixture *f, unsigned n)
{
    uint64_t at = ROUND_UP(f->disk->size, 65536);
    g_autofree uint8_t *table = g_malloc(80 * (size_t)n);
    uint8_t header[512], block[8];
    size_t bytes = 0;

    for (unsigned i = 0; i < n; i++) {
        bytes += put_entry(table + bytes, i);
    }
    fake_disk_poke(f->disk, at, table, bytes);
    fake_disk_peek(f->disk, 65536, block, 8);
    for (uint64_t c = at / 65536; c < DIV_ROUND_UP(at + bytes, 65536); c++) {
        uint8_t one[2] = { 0, 1 };

        fake_disk_poke(f->disk, be64_get(block) + c * 2, one, 2);
    }
    fake_disk_peek(f->disk, 0, header, 512);
    be32_put(header + 60, n);
    be64_put(header + 64, at);
    fake_disk_poke(f->disk, 0, header, 512);
}

static void test_there_may_be_65536_snapshots_and_no_more(void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    q_create("fake:q", "size=0");
    poke_snapshots(f, 65534);
    f->blk = q_open("fake:q", NULL, BDRV_O_RDWR);
    assert_int_equal(q_snap_create(f->blk, "new", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "last", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "one too many", 0), -EFBIG);
    s = q_state(f->blk);
    assert_int_equal(s->snapshots->len, 65536);
    assert_int_equal(qcow2_snapshot_find(s, "65535"), 65534);
    assert_int_equal(qcow2_snapshot_find(s, "last"), 65535);
    assert_int_equal(qcow2_snapshot_find(s, "snap 40000"), 40000);
    assert_int_equal(q_snap_delete(f->blk, "snap 7"), 0);
    assert_int_equal(q_snap_delete(f->blk, "last"), 0);
    assert_int_equal(q_snap_create(f->blk, "again", 0), 0);
    expect_clean(f);

    reopen(f, NULL, BDRV_O_RDWR);
    s = q_state(f->blk);
    assert_int_equal(s->snapshots->len, 65535);
    assert_int_equal(qcow2_snapshot_find(s, "snap 7"), -1);
    assert_int_equal(qcow2_snapshot_find(s, "snap 8"), 7);
    assert_int_equal(qcow2_snapshot_find(s, "65536"), 65534); /* "again" */
    assert_int_equal(qcow2_snapshot_find(s, "again"), 65534);
}

static void test_the_first_of_equal_names_is_found_and_ids_go_before_names(
    void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    open_image(f, "size=64k", NULL);
    s = q_state(f->blk);
    assert_int_equal(q_snap_create(f->blk, "x", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "x", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "2", 0), 0);
    assert_int_equal(qcow2_snapshot_find(s, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "2"), 1);
    assert_int_equal(qcow2_snapshot_find_both(s, NULL, "2"), 2);
    assert_int_equal(qcow2_snapshot_find_both(s, "2", "x"), 1);
    assert_int_equal(qcow2_snapshot_find_both(s, "1", "2"), -1);
    assert_int_equal(q_snap_delete(f->blk, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "1"), -1);
    assert_int_equal(q_snap_delete(f->blk, "2"), 0); /* by name: id 3 */
    assert_int_equal(q_snap_create(f->blk, "y", 0), 0);
    assert_int_equal(qcow2_snapshot_find(s, "3"), 1); /* used again */
}

/* Unknown extra data, and a name that is no text, survive rewrites. */
static void test_what_is_not_known_of_a_snapshot_is_kept(void **state)
{
    static const uint8_t name[] = { 'n', 0, 0xff, 'm' };
    Fixture *f = *state;
    const Qcow2Snapshot *sn;
    uint8_t extra[100];
    gsize n;

    open_image(f, "size=64k", NULL);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "b", 0), 0);
    {
        Qcow2Snapshot *a = g_ptr_array_index(q_state(f->blk)->snapshots, 0);

        test_fill(extra, sizeof(extra), 3);
        memcpy(extra, a->extra->data, 24);
        g_byte_array_append(a->extra, extra + 24, sizeof(extra) - 24);
        g_bytes_unref(a->name);
        a->name = g_bytes_new(name, sizeof(name));
        qcow2_snapindex_reset(q_state(f->blk));
    }
    assert_int_equal(q_snap_delete(f->blk, "b"), 0);
    reopen(f, NULL, BDRV_O_RDWR);
    assert_int_equal(q_snap_create(f->blk, "c", 0), 0);
    reopen(f, NULL, BDRV_O_RDWR);
    sn = g_ptr_array_index(q_state(f->blk)->snapshots, 0);
    assert_int_equal(sn->extra->len, sizeof(extra));
    assert_memory_equal(sn->extra->data, extra, sizeof(extra));
    assert_memory_equal(g_bytes_get_data(sn->name, &n), name, sizeof(name));
    assert_int_equal(n, sizeof(name));
    assert_int_equal(qcow2_snapshot_find(q_state(f->blk), "n"), 0);
}

/* ---- opening one ---- */

static void test_a_snapshot_opens_read_only_with_its_own_size(void **state)
{
    static const char *const by[] = {
        "snapshot.id=1", "snapshot.name=a", "snapshot.id=1,snapshot.name=a",
    };
    Fixture *f = *state;

    open_image(f, "size=64k,cluster_size=4k", NULL);
    fill(f, 0, CS, 'a');
    fill(f, 60 * 1024, CS, 'e');
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    assert_int_equal(blk_truncate(f->blk, 8 * 1024 * 1024,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    fill(f, 0, CS, 'b');
    fill(f, 7 * 1024 * 1024, CS, 'c');
    assert_int_equal(q_snap_create(f->blk, "big", 0), 0);
    fill(f, 0, CS, 'd');
    q_close(f->blk);
    for (unsigned i = 0; i < G_N_ELEMENTS(by); i++) {
        fake_log_clear(f->disk);
        f->blk = q_open("fake:q", by[i], 0);
        assert_int_equal(blk_getlength(f->blk), 64 * 1024);
        expect(f, 0, CS, 'a');
        expect(f, CS, CS, 0);
        expect(f, 60 * 1024, CS, 'e');
        q_close(f->blk);
        assert_int_equal(fake_count(f->disk, FAKE_WRITE | FAKE_ZERO |
                                             FAKE_DISCARD), 0);
    }
    f->blk = q_open("fake:q", "snapshot.name=big", 0);
    assert_int_equal(blk_getlength(f->blk), 8 * 1024 * 1024);
    expect(f, 0, CS, 'b');
    expect(f, 7 * 1024 * 1024, CS, 'c');
    reopen(f, NULL, BDRV_O_RDWR);
    expect(f, 0, CS, 'd');
    expect_clean(f);
}

static void test_opening_a_snapshot_is_refused_with_a_reason(void **state)
{
    Fixture *f = *state;

    open_image(f, "size=64k", NULL);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    q_close(f->blk);
    f->blk = NULL;
    q_open_fails("fake:q", "snapshot.name=a", BDRV_O_RDWR, -EROFS,
                 "read-only");
    q_open_fails("fake:q", "snapshot.name=1", 0, -ENOENT, "'1'");
    q_open_fails("fake:q", "snapshot.id=a", 0, -ENOENT, "'a'");
    q_open_fails("fake:q", "snapshot.id=1,snapshot.name=b", 0, -ENOENT,
                 "'b'");
}

/* The disk had another size: version 3 takes it back, version 2 cannot say
 * so. */
static void test_apply_brings_the_size_back_where_it_can(void **state)
{
    Fixture *f = *state;

    open_image(f, "size=64k,cluster_size=4k", NULL);
    fill(f, 0, CS, 'a');
    assert_int_equal(q_snap_create(f->blk, "small", 0), 0);
    assert_int_equal(blk_truncate(f->blk, 8 * 1024 * 1024,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    fill(f, 5 * 1024 * 1024, CS, 'b');
    assert_int_equal(q_snap_create(f->blk, "large", 0), 0);
    assert_int_equal(q_snap_goto(f->blk, "small"), 0);
    assert_int_equal(blk_getlength(f->blk), 64 * 1024);
    expect_clean(f);
    fill(f, 0, CS, 'c');
    assert_int_equal(q_snap_goto(f->blk, "large"), 0);
    assert_int_equal(blk_getlength(f->blk), 8 * 1024 * 1024);
    expect(f, 0, CS, 'a');
    expect(f, 5 * 1024 * 1024, CS, 'b');
    expect_clean(f);
    q_close(f->blk);

    open_image(f, "size=64k,cluster_size=4k,compat=0.10", NULL);
    assert_int_equal(q_snap_create(f->blk, "v2", 0), 0);
    {
        Qcow2Snapshot *sn = g_ptr_array_index(q_state(f->blk)->snapshots, 0);

        be64_put(sn->extra->data + 8, 32 * 1024);
    }
    assert_int_equal(q_snap_goto(f->blk, "v2"), -ENOTSUP);
    expect_clean(f);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_guest_goes_on_while_a_delete_reads_its_tables),
        T(test_guest_goes_on_at_every_step_of_a_delete),
        T(test_a_create_waits_for_a_delete_but_guests_do_not),
        T(test_a_delete_waits_for_those_who_load_the_snapshot),
        T(test_a_refcount_overflow_is_found_before_anything_changes),
        T(test_counts_in_windows_give_the_same_as_all_at_once),
        T(test_a_create_that_fails_in_a_window_is_undone),
        T(test_a_create_flushes_twice_and_reads_each_table_once),
        T(test_there_may_be_65536_snapshots_and_no_more),
        T(test_the_first_of_equal_names_is_found_and_ids_go_before_names),
        T(test_what_is_not_known_of_a_snapshot_is_kept),
        T(test_a_snapshot_opens_read_only_with_its_own_size),
        T(test_opening_a_snapshot_is_refused_with_a_reason),
        T(test_apply_brings_the_size_back_where_it_can),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
