/* SPDX-License-Identifier: MIT */
/*
 * Overlap checks: each category alone, the templates, and that work that is
 * right never trips over them.
 */
#include "image_fixture.h"

#define DISK    "fake:c"
#define CLUSTER 4096

static void write_at(BlockBackend *blk, unsigned cluster, uint32_t seed)
{
    uint8_t buf[CLUSTER];

    test_fill(buf, CLUSTER, seed);
    assert_int_equal(blk_pwrite(blk, (uint64_t)cluster * CLUSTER, CLUSTER,
                                buf), 0);
}

/* One cluster of data, a snapshot, and the cluster written again. */
static FakeDisk *new_image(void)
{
    FakeDisk *d = fake_disk_new("c", 0);
    BlockBackend *blk;

    q_create(DISK, "size=8M,cluster_size=4k");
    blk = q_open(DISK, NULL, BDRV_O_RDWR);
    write_at(blk, 0, 1);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    write_at(blk, 0, 2);
    q_close(blk);
    return d;
}

/* Where each category is, in the order of the bits. */
typedef struct Places {
    uint64_t at[10];
} Places;

static const char *const names[] = {
    "active-l1", "active-l2", "refcount-table", "refcount-block",
    "bitmap-directory", "main-header", "snapshot-table", "inactive-l1",
    "inactive-l2", "crypt-header",
};

static Places find_places(FakeDisk *d)
{
    uint64_t l1 = peek(d, 40), table = peek(d, 64);
    uint64_t old_l1 = peek(d, table);
    Places p = { {
        l1, peek(d, l1) & QCOW2_OFFSET_MASK, peek(d, 48), peek(d, peek(d, 48)),
        1 << 20, 0, table, old_l1, peek(d, old_l1) & QCOW2_OFFSET_MASK,
        2 << 20,
    } };

    assert_true(p.at[1] && p.at[8] && p.at[1] != p.at[8]);
    return p;
}

typedef struct Probe {
    Qcow2State *s;
    unsigned ignore;
    uint64_t offset;
} Probe;

static int coroutine_fn probe(void *opaque) NO_TSA
{
    Probe *p = opaque;
    int ret;

    co_mutex_lock(&p->s->lock);
    /* A directory and a LUKS header that nothing will store. */
    p->s->ext.has_bitmaps = true;
    p->s->ext.bitmap_directory_offset = 1 << 20;
    p->s->ext.bitmap_directory_size = 64;
    p->s->ext.crypto_offset = 2 << 20;
    p->s->ext.crypto_length = 64;
    ret = qcow2_check_overlap(p->s, p->ignore, p->offset, 512);
    p->s->ext.has_bitmaps = false;
    p->s->ext.crypto_length = 0;
    co_mutex_unlock(&p->s->lock);
    return ret;
}

/* Which categories stop a write, as bits. */
static unsigned stopped(const char *options, unsigned ignore)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        FakeDisk *d = new_image();
        Places places = find_places(d);
        BlockBackend *blk = q_open(DISK, options, BDRV_O_RDWR);
        Probe p = { q_state(blk), ignore, places.at[i] + 1024 };
        int ret = run_coroutine(probe, &p);

        assert_true(ret == 0 || ret == -EIO);
        mask |= ret < 0 ? 1u << i : 0;
        assert_int_equal(peek(d, 72), ret < 0 ? QCOW2_INC_CORRUPT : 0);
        (void)blk_close(blk);
        fake_disk_free(d);
    }
    return mask;
}

static void test_each_category_stops_what_it_names_and_nothing_else(void **s)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *on = g_strdup_printf(
            "overlap-check=none,overlap-check.%s=on", names[i]);
        g_autofree char *off = g_strdup_printf(
            "overlap-check.template=all,overlap-check.%s=off", names[i]);

        assert_int_equal(stopped(on, 0), 1u << i);
        assert_int_equal(stopped(off, 0), 0x3ff & ~(1u << i));
    }
}

static void test_templates(void **state)
{
    unsigned constant = QCOW2_OL_MAIN_HEADER | QCOW2_OL_ACTIVE_L1 |
                        QCOW2_OL_REFCOUNT_TABLE | QCOW2_OL_SNAPSHOT_TABLE |
                        QCOW2_OL_BITMAP_DIRECTORY | QCOW2_OL_CRYPT_HEADER;
    unsigned cached = constant | QCOW2_OL_ACTIVE_L2 |
                      QCOW2_OL_REFCOUNT_BLOCK | QCOW2_OL_INACTIVE_L1;

    assert_int_equal(stopped("overlap-check=none", 0), 0);
    assert_int_equal(stopped("overlap-check=constant", 0), constant);
    assert_int_equal(stopped("overlap-check=cached", 0), cached);
    assert_int_equal(stopped(NULL, 0), cached);
    assert_int_equal(stopped("overlap-check.template=all", 0), 0x3ff);
}

static void test_writer_leaves_out_what_it_writes(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        assert_int_equal(stopped("overlap-check=all", 1u << i),
                         0x3ff & ~(1u << i));
    }
}

static void test_bad_options_are_refused(void **state)
{
    FakeDisk *d = new_image();

    q_open_fails(DISK, "overlap-check=some", 0, -EINVAL, "overlap-check");
    q_open_fails(DISK, "overlap-check=all,overlap-check.template=none", 0,
                 -EINVAL, "template");
    q_open_fails(DISK, "overlap-check.active-l3=on", 0, -EINVAL, "active-l3");
    q_close(q_open(DISK, "overlap-check=all,overlap-check.template=all", 0));
    fake_disk_free(d);
}

/* The guest's cluster is said to be where a snapshot's L2 table is. */
static void test_guest_write_onto_a_snapshots_l2_table(void **state)
{
    FakeDisk *d = new_image();
    Places p = find_places(d);
    uint64_t before = peek(d, p.at[8]);
    uint8_t buf[CLUSTER] = { 0 };
    BlockBackend *blk;

    poke(d, p.at[1], p.at[8] | QCOW2_COPIED);
    blk = q_open(DISK, "overlap-check=all", BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, CLUSTER, buf), -EIO);
    (void)blk_close(blk);
    assert_int_equal(peek(d, p.at[8]), before);
    assert_int_equal(peek(d, 72), QCOW2_INC_CORRUPT);
    fake_disk_free(d);
}

/* Clusters of deleted snapshots' tables are used again. */
static void test_work_that_is_right_never_trips(void **state)
{
    FakeDisk *d = new_image();
    BlockBackend *blk = q_open(DISK, "overlap-check=all", BDRV_O_RDWR);
    BdrvCheckResult r;

    for (unsigned i = 0; i < 40; i++) {
        char name[8];

        snprintf(name, sizeof(name), "s%u", i % 5);
        if (i >= 5) {
            assert_int_equal(q_snap_delete(blk, name), 0);
        }
        assert_int_equal(q_snap_create(blk, name, 0), 0);
        for (unsigned k = 0; k < 20; k++) {
            write_at(blk, (i * 131 + k * 97) % 2048, i * k);
        }
        assert_int_equal(blk_flush(blk), 0);
        if (i % 7 == 0) {
            assert_int_equal(q_snap_goto(blk, name), 0);
        }
    }
    assert_int_equal(blk_check(blk, &r, 0, NULL, NULL, NULL), 0);
    assert_int_equal(r.corruptions + r.leaks, 0);
    q_close(blk);
    fake_disk_free(d);
}

/* An L1 table is claimed by many snapshots: what to protect is nonsense. */
static void test_overlapping_snapshot_tables_are_corruption(void **state)
{
    FakeDisk *d = new_image();
    uint8_t buf[CLUSTER] = { 0 }, size[4];
    BlockBackend *blk;

    be32_put(size, 4 << 20);
    fake_disk_poke(d, peek(d, 64) + 8, size, sizeof(size));
    blk = q_open(DISK, "overlap-check=all", BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 4 << 20, CLUSTER, buf), -EIO);
    (void)blk_close(blk);
    fake_disk_free(d);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_category_stops_what_it_names_and_nothing_else),
        TEST(test_templates),
        TEST(test_writer_leaves_out_what_it_writes),
        TEST(test_bad_options_are_refused),
        TEST(test_guest_write_onto_a_snapshots_l2_table),
        TEST(test_work_that_is_right_never_trips),
        TEST(test_overlapping_snapshot_tables_are_corruption),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
