/* SPDX-License-Identifier: MIT */
/*
 * Repairing images: what is mended, what is left alone, and power cuts at
 * every write of a repair. Comparison with qemu-img is in
 * tests/integration/test_qcow2_check_peers.py.
 */
#include "image_fixture.h"

#include "tests/support/qcow2_checker.h"

#define DISK    "fake:c"
#define CLUSTER 512
#define DATA    (64 * CLUSTER)
#define FIX_ALL (BDRV_FIX_LEAKS | BDRV_FIX_ERRORS)

static uint64_t l2_table(FakeDisk *d)
{
    return peek(d, peek(d, 40)) & QCOW2_OFFSET_MASK;
}

static uint64_t refblock(FakeDisk *d)
{
    return peek(d, peek(d, 48)) & QCOW2_REFBLOCK_MASK;
}

static void poke_refcount(FakeDisk *d, uint64_t cluster, uint16_t value)
{
    uint8_t p[2];

    be16_put(p, value);
    fake_disk_poke(d, refblock(d) + 2 * cluster, p, sizeof(p));
}

/* ---- damages ---- */

typedef void Damage(FakeDisk *d);

static void leak(FakeDisk *d)
{
    poke_refcount(d, 200, 1);
    poke_refcount(d, 201, 3);
}

static void count_zero(FakeDisk *d)
{
    poke_refcount(d, 6, 0);
    poke_refcount(d, 7, 0);
}

static void count_high(FakeDisk *d)
{
    poke_refcount(d, 8, 5);
}

static void lose_block(FakeDisk *d)
{
    poke(d, peek(d, 48), 0);
}

static void bend_block(FakeDisk *d)
{
    poke(d, peek(d, 48), refblock(d) + 8);
}

static void double_block(FakeDisk *d)
{
    poke(d, peek(d, 48) + 8, refblock(d));
}

static void block_past_end(FakeDisk *d)
{
    poke(d, peek(d, 48) + 8, 1ULL << 40);
}

static void no_table(FakeDisk *d)
{
    uint8_t zero[4] = { 0 };

    fake_disk_poke(d, 56, zero, sizeof(zero));
}

static void clear_copied(FakeDisk *d)
{
    poke(d, l2_table(d), peek(d, l2_table(d)) & ~QCOW2_COPIED);
    poke(d, peek(d, 40), peek(d, peek(d, 40)) & ~QCOW2_COPIED);
}

static void share_data(FakeDisk *d)
{
    poke(d, l2_table(d) + 8 * 63, peek(d, l2_table(d) + 8 * 2));
}

static void share_l2(FakeDisk *d)
{
    poke(d, peek(d, 40) + 16, peek(d, peek(d, 40)));
}

static void bend_zero(FakeDisk *d)
{
    poke(d, l2_table(d) + 8 * 60, 1ULL << 50 | QCOW2_ZERO | QCOW2_COPIED);
}

static void everything(FakeDisk *d)
{
    leak(d);
    count_zero(d);
    clear_copied(d);
    bend_zero(d);
    double_block(d);
}

typedef struct Case {
    const char *name;
    Damage *damage;
    bool other_data;    /* guest data is not what it was, by the damage */
} Case;

static const Case cases[] = {
    { "leak", leak, false },
    { "refcount 0", count_zero, false },
    { "refcount too high", count_high, false },
    { "no block", lose_block, false },
    { "unaligned block", bend_block, false },
    { "block twice", double_block, false },
    { "block past the end", block_past_end, false },
    { "no refcount table", no_table, false },
    { "COPIED clear", clear_copied, false },
    { "two entries, one cluster", share_data, true },
    { "two L1 entries, one L2 table", share_l2, true },
    { "impossible zero cluster", bend_zero, false },
    { "everything", everything, false },
};

/* ---- a world ---- */

/* Data at 0, the same again behind a snapshot, some of it compressed. */
static FakeDisk *new_image(void)
{
    FakeDisk *d = fake_disk_new("c", 0);
    g_autofree uint8_t *buf = g_malloc(DATA);
    BlockBackend *blk;

    test_fill(buf, DATA, 1);
    q_create(DISK, "size=256k,cluster_size=512");
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 56 * CLUSTER, buf), 0);
    assert_int_equal(q_snap_create(blk, "one", 0), 0);
    assert_int_equal(blk_pwrite(blk, 0, 16 * CLUSTER, buf), 0);
    assert_int_equal(blk_pwrite(blk, 128 << 10, 8 * CLUSTER, buf), 0);
    q_close(blk);
    assert_true(d->size < 220 * CLUSTER);
    poke(d, 220 * CLUSTER, 0);
    return d;
}

/* Findings that are more than a leak or a COPIED flag: between two steps of a
 * repair a flag may be wrong that was right, which is harmless. */
static unsigned serious;

static void count_serious(const char *text, void *opaque)
{
    serious += !strstr(text, "COPIED flag") && !strstr(text, "leaked");
}

static BdrvCheckResult check_image(unsigned fix, int *ret)
{
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_CHECK |
                               (fix ? BDRV_O_RDWR : 0));
    BdrvCheckResult r = { 0 };
    g_autoptr(GError) error = NULL;

    serious = 0;
    *ret = blk_check(blk, &r, fix, count_serious, NULL, &error);
    blk_close(blk);
    return r;
}

static BdrvCheckResult check_ok(unsigned fix)
{
    int ret;
    BdrvCheckResult r = check_image(fix, &ret);

    assert_int_equal(ret, 0);
    return r;
}

static bool data_is_there(void)
{
    BlockBackend *blk = q_open(DISK, NULL, BDRV_O_CHECK);
    g_autofree uint8_t *buf = g_malloc(DATA);
    bool there;

    assert_int_equal(blk_pread(blk, 0, DATA, buf), 0);
    there = test_matches(buf, 56 * CLUSTER, 1);
    q_close(blk);
    return there;
}

/* The image as bytes, for the checker that shares no code with the driver. */
static Qcow2CheckResult independent(FakeDisk *d)
{
    g_autofree uint8_t *bytes = g_malloc(d->size);
    Qcow2CheckResult r;

    fake_disk_peek(d, 0, bytes, d->size);
    assert_int_equal(qcow2_checker_run(bytes, d->size, &r), 0);
    return r;
}

static void test_every_damage_is_mended(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        FakeDisk *d = new_image();
        BdrvCheckResult r;
        Qcow2CheckResult other;

        cases[i].damage(d);
        r = check_ok(0);
        if (!r.corruptions && !r.leaks) {
            fail_msg("%s: not found", cases[i].name);
        }
        r = check_ok(FIX_ALL);
        other = independent(d);
        if (r.corruptions || r.leaks || r.check_errors ||
            other.corruptions || other.leaks || other.copied) {
            fail_msg("%s: %u corruptions, %u leaks left; %s", cases[i].name,
                     (unsigned)r.corruptions, (unsigned)r.leaks, other.first);
        }
        assert_true(r.corruptions_fixed + r.leaks_fixed > 0);
        assert_true(data_is_there() || cases[i].other_data);
        fake_disk_free(d);
    }
}

/* ---- power cuts ---- */

static void try_cut(const Case *c, uint64_t n, int mode, bool *ret_more)
{
    FakeDisk *d = new_image();
    BdrvCheckResult end;
    unsigned before;
    int ret;

    c->damage(d);
    (void)check_ok(0);
    before = serious;
    cut_power_after(d, n);
    (void)check_image(FIX_ALL, &ret);
    *ret_more = power_on(d, n, mode);
    (void)check_ok(0);
    if (serious > before) {
        fail_msg("%s, cut after %u writes, mode %d: %u corruptions became "
                 "%u", c->name, (unsigned)n, mode, before, serious);
    }
    assert_true(data_is_there() || c->other_data);
    end = check_ok(FIX_ALL);
    if (end.corruptions || end.leaks) {
        fail_msg("%s, cut after %u writes, mode %d: not mended by the next "
                 "repair", c->name, (unsigned)n, mode);
    }
    assert_true(data_is_there() || c->other_data);
    fake_disk_free(d);
}

static void test_power_cut_at_every_write_of_a_repair(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (int mode = 0; mode < MODES; mode++) {
            bool more = true;

            for (uint64_t n = 0; more; n++) {
                try_cut(&cases[i], n, mode, &more);
            }
        }
    }
}

/* ---- what is left alone ---- */

/* A lost pointer: what it pointed to must not become free. */
static void test_clusters_of_a_lost_pointer_are_kept(void **state)
{
    FakeDisk *d = new_image();
    uint64_t l1 = peek(d, 40), entry = peek(d, l1 + 8 * 4);
    BdrvCheckResult r;

    assert_true(entry & QCOW2_OFFSET_MASK);
    poke(d, l1 + 8 * 4, entry | 1ULL << 50);
    r = check_ok(FIX_ALL);
    assert_true(r.corruptions > 0);
    assert_int_equal(r.leaks, 9);
    assert_int_equal(r.leaks_fixed, 0);

    poke(d, l1 + 8 * 4, entry);
    r = check_ok(0);
    assert_int_equal(r.corruptions + r.leaks, 0);
    fake_disk_free(d);
}

static void test_rebuild_keeps_clusters_of_a_lost_pointer(void **state)
{
    FakeDisk *d = new_image();
    uint64_t l1 = peek(d, 40), entry = peek(d, l1 + 8 * 4);
    BdrvCheckResult r;

    poke(d, l1 + 8 * 4, entry | 1ULL << 50);
    bend_block(d);
    (void)check_ok(FIX_ALL);
    poke(d, l1 + 8 * 4, entry);
    r = check_ok(0);
    assert_int_equal(r.corruptions, 0);
    r = check_ok(FIX_ALL);
    assert_int_equal(r.corruptions + r.leaks, 0);
    assert_true(data_is_there());
    fake_disk_free(d);
}

static void test_repair_of_leaks_leaves_errors(void **state)
{
    FakeDisk *d = new_image();
    BdrvCheckResult r;

    leak(d);
    count_zero(d);
    r = check_ok(BDRV_FIX_LEAKS);
    assert_int_equal(r.leaks_fixed, 2);
    assert_int_equal(r.leaks, 0);
    assert_true(r.corruptions > 0);
    assert_int_equal(r.corruptions_fixed, 0);
    fake_disk_free(d);
}

/* ---- the snapshot table ---- */

static void poke32(FakeDisk *d, uint64_t offset, uint32_t value)
{
    uint8_t p[4];

    be32_put(p, value);
    fake_disk_poke(d, offset, p, sizeof(p));
}

/* A table of @n entries behind the end: the snapshot that is there, with
 * @extra bytes, then empty ones without any. */
static void move_snapshots(FakeDisk *d, uint32_t n, uint32_t extra)
{
    uint64_t at = ROUND_UP(d->size, CLUSTER), old = peek(d, 64), end;

    poke(d, at, peek(d, old));
    poke32(d, at + 8, peek(d, old + 8) >> 32);
    poke32(d, at + 12, 1 << 16 | 3);        /* lengths of id and name */
    poke32(d, at + 36, extra);
    poke(d, at + 40, 0);                    /* vmstate */
    poke(d, at + 48, 256 << 10);            /* disk */
    fake_disk_poke(d, at + 40 + extra, "1one", 4);
    end = at + ROUND_UP(44 + extra, 8) + 40ULL * (n - 1);
    poke(d, ROUND_UP(end, CLUSTER), 0);
    poke(d, 64, at);
    poke32(d, 60, n);
}

static void snapshot_table_is_mended(uint32_t n, uint32_t extra,
                                     uint32_t left, uint32_t left_extra)
{
    FakeDisk *d = new_image();
    const Qcow2Snapshot *sn;
    BdrvCheckResult r;
    BlockBackend *blk;

    move_snapshots(d, n, extra);
    q_open_fails(DISK, NULL, 0, -EFBIG, "more than");
    assert_true(check_ok(0).corruptions > 0);
    r = check_ok(FIX_ALL);
    assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);

    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    assert_int_equal(q_state(blk)->snapshots->len, left);
    sn = g_ptr_array_index(q_state(blk)->snapshots, 0);
    assert_int_equal(sn->extra->len, left_extra);
    assert_int_equal(q_snap_goto(blk, "one"), 0);
    q_close(blk);
    assert_true(data_is_there());
    fake_disk_free(d);
}

static void test_extra_data_beyond_the_limit_is_cut(void **state)
{
    snapshot_table_is_mended(1, 2000, 1, 1024);
}

static void test_snapshots_beyond_the_limit_are_dropped(void **state)
{
    snapshot_table_is_mended(65537, 24, 65536, 24);
}

/* ---- dirty and corrupt ---- */

static void mark(FakeDisk *d, uint64_t bits)
{
    poke(d, 72, peek(d, 72) | bits);
}

static void test_repair_clears_the_marks_only_when_nothing_is_left(void **s)
{
    FakeDisk *d = new_image();

    mark(d, QCOW2_INC_DIRTY | QCOW2_INC_CORRUPT);
    count_zero(d);
    (void)check_ok(BDRV_FIX_LEAKS);
    assert_int_equal(peek(d, 72), 3);
    (void)check_ok(FIX_ALL);
    assert_int_equal(peek(d, 72), 0);
    fake_disk_free(d);
}

static void test_corrupt_image_opens_read_only_or_for_repair(void **state)
{
    FakeDisk *d = new_image();

    mark(d, QCOW2_INC_CORRUPT);
    q_open_fails(DISK, NULL, BDRV_O_RDWR, -EACCES, "check -r all");
    assert_true(data_is_there());
    (void)check_ok(FIX_ALL);
    q_close(q_open(DISK, NULL, BDRV_O_RDWR));
    fake_disk_free(d);
}

static void test_dirty_image_is_repaired_when_a_writer_opens_it(void **state)
{
    FakeDisk *d = new_image();
    Qcow2CheckResult r;

    mark(d, QCOW2_INC_DIRTY);
    count_zero(d);
    assert_true(data_is_there());
    assert_int_equal(peek(d, 72), QCOW2_INC_DIRTY);
    q_close(q_open(DISK, NULL, BDRV_O_RDWR));

    assert_int_equal(peek(d, 72), 0);
    r = independent(d);
    assert_int_equal(r.corruptions + r.leaks + r.copied, 0);
    fake_disk_free(d);
}

static void test_dirty_image_that_cannot_be_repaired_stays_dirty(void **state)
{
    FakeDisk *d = new_image();

    mark(d, QCOW2_INC_DIRTY);
    poke(d, peek(d, 40), 1ULL << 50 | QCOW2_COPIED);
    q_open_fails(DISK, NULL, BDRV_O_RDWR, -EACCES, "not closed cleanly");
    assert_int_equal(peek(d, 72), QCOW2_INC_DIRTY);
    fake_disk_free(d);
}

static void test_unknown_bits_are_refused_by_their_name(void **state)
{
    FakeDisk *d = new_image();
    uint8_t name[56] = { 0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 48, 0, 40, 'w',
                         'o', 'b', 'b', 'l', 'e', ' ', 'b', 'i', 't' };

    fake_disk_poke(d, 112, name, sizeof(name));
    mark(d, 1ULL << 40);
    q_open_fails(DISK, NULL, 0, -ENOTSUP, "wobble bit");
    q_open_fails(DISK, NULL, BDRV_O_CHECK, -ENOTSUP, "wobble bit");
    mark(d, 1ULL << 41);
    q_open_fails(DISK, NULL, 0, -ENOTSUP, "incompatible bit 41");
    fake_disk_free(d);
}

static void test_unknown_autoclear_bits_go_before_any_other_write(void **s)
{
    FakeDisk *d = new_image();
    BlockBackend *blk;

    poke(d, 88, 1ULL << 33);
    mark(d, QCOW2_INC_DIRTY);
    count_zero(d);
    q_close(q_open(DISK, NULL, 0));
    assert_int_equal(peek(d, 88), 1ULL << 33);

    fake_log_clear(d);
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    assert_int_equal(peek(d, 88), 0);
    assert_int_equal(fake_request(d, fake_find(d, 0, FAKE_WRITE, 0, 0))
                     ->offset, 0);
    q_close(blk);
    fake_disk_free(d);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_damage_is_mended),
        TEST(test_power_cut_at_every_write_of_a_repair),
        TEST(test_clusters_of_a_lost_pointer_are_kept),
        TEST(test_rebuild_keeps_clusters_of_a_lost_pointer),
        TEST(test_repair_of_leaks_leaves_errors),
        TEST(test_extra_data_beyond_the_limit_is_cut),
        TEST(test_snapshots_beyond_the_limit_are_dropped),
        TEST(test_repair_clears_the_marks_only_when_nothing_is_left),
        TEST(test_corrupt_image_opens_read_only_or_for_repair),
        TEST(test_dirty_image_is_repaired_when_a_writer_opens_it),
        TEST(test_dirty_image_that_cannot_be_repaired_stays_dirty),
        TEST(test_unknown_bits_are_refused_by_their_name),
        TEST(test_unknown_autoclear_bits_go_before_any_other_write),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
