/* SPDX-License-Identifier: MIT */
/*
 * Power cuts and failing requests. A workload runs on a fake disk; power is
 * cut after its n-th write, for every n, and what was not flushed is kept,
 * lost, or kept and lost at random by sectors; or the n-th request fails, for
 * every n. Then the image is opened again:
 *
 *   - the checker finds leaks at worst (COPIED-only findings are tolerated:
 *     snapshot operations pass through such states);
 *   - each sector holds what was flushed or something written later to the
 *     same sector, never anything foreign;
 *   - snapshots that were acknowledged are there, whole, with their vmstate,
 *     and stay so when the active layer is overwritten.
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"
#include "tests/support/sector_set.h"

#define SECTORS  256        /* of the guest disk */
#define MAX_VM   6000
#define OPEN_FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP)

typedef enum SnapState { ABSENT, PRESENT, UNSURE } SnapState;

typedef struct Snap {
    SnapState state;
    SectorSet disk[SECTORS];
    uint64_t vm_size;
    uint32_t vm_seed;
} Snap;

typedef struct World {
    FakeDisk *disk;
    FakeDisk *from_disk;    /* what is copied; nothing happens to it */
    BlockBackend *blk;
    BlockBackend *from;
    SectorSet now[SECTORS];
    Snap snap[3];
    unsigned gen;
    char where[80];         /* for messages */
} World;

typedef struct Config {
    const char *create;
    const char *open;
    unsigned cluster;       /* sectors */
} Config;

static const Config configs[] = {
    { "size=128k,cluster_size=1k", "", 2 },
    { "size=128k,cluster_size=512,refcount_bits=64",
      "l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=2k", 1 },
    { "size=128k,cluster_size=4k,compat=0.10", "", 8 },
    { "size=128k,cluster_size=4k,refcount_bits=2", "", 8 },
};

/* ---- what sectors may hold ---- */

static void settle_all(World *w)
{
    for (unsigned i = 0; i < SECTORS; i++) {
        sector_set_flush(&w->now[i], UINT32_MAX);
    }
}

/* The write of generation @gen to these ended with @ret. */
static int outcome(World *w, unsigned lba, unsigned n, unsigned gen, int ret)
{
    for (unsigned i = lba; ret == 0 && i < lba + n; i++) {
        sector_set_end(&w->now[i], gen, 1);
    }
    return ret;
}

static void expect_disk(World *w, const SectorSet *want, const char *what)
{
    uint8_t buf[SECTORS * 512];

    assert_int_equal(blk_pread(w->blk, 0, sizeof(buf), buf), 0);
    for (unsigned i = 0; i < SECTORS; i++) {
        if (!sector_set_has(&want[i], buf + i * 512, i)) {
            fail_msg("%s: %s: sector %u is foreign", w->where, what, i);
        }
    }
}

/* ---- operations: 0 or -errno ---- */

/* New sectors in @buf. */
static unsigned make(World *w, unsigned lba, unsigned n, uint8_t *buf)
{
    unsigned gen = ++w->gen;

    for (unsigned i = 0; i < n; i++) {
        sector_fill(buf + i * 512, lba + i, gen);
        sector_set_begin(&w->now[lba + i], gen);
    }
    return gen;
}

static int do_write(World *w, unsigned lba, unsigned n)
{
    g_autofree uint8_t *buf = g_malloc(n * 512);
    unsigned gen = make(w, lba, n, buf);

    return outcome(w, lba, n, gen,
                   blk_pwrite(w->blk, lba * 512, n * 512, buf));
}

static int do_copy(World *w, unsigned lba, unsigned n)
{
    g_autofree uint8_t *buf = g_malloc(n * 512);
    unsigned gen = make(w, lba, n, buf);

    fake_disk_poke(w->from_disk, lba * 512, buf, n * 512);
    return outcome(w, lba, n, gen,
                   q_copy(w->blk, w->from, lba * 512, n * 512));
}

static int do_zero(World *w, unsigned lba, unsigned n, unsigned flags)
{
    for (unsigned i = 0; i < n; i++) {
        sector_set_begin(&w->now[lba + i], 0);
    }
    return outcome(w, lba, n, 0, blk_pwrite_zeroes(w->blk, lba * 512, n * 512,
                                                   flags));
}

/* @lba and @n in whole clusters of 8 sectors, the largest used here. */
static int do_discard(World *w, unsigned lba, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        sector_set_begin(&w->now[lba + i], 0);
    }
    return outcome(w, lba, n, 0, blk_pdiscard(w->blk, lba * 512, n * 512));
}

static int do_flush(World *w)
{
    int ret = blk_flush(w->blk);

    if (ret == 0) {
        settle_all(w);
    }
    return ret;
}

static const char *snap_name(unsigned i)
{
    static const char *const names[] = { "zero", "one", "two" };

    return names[i];
}

static int do_create(World *w, unsigned i, uint64_t vm_size)
{
    Snap *sn = &w->snap[i];
    uint8_t vm[MAX_VM];
    int ret = 0;

    sn->vm_size = vm_size;
    sn->vm_seed = ++w->gen;
    test_fill(vm, vm_size, sn->vm_seed);
    if (vm_size) {
        ret = q_vm_save(w->blk, 0, vm, vm_size / 2);
        ret = ret < 0 ? ret : q_vm_save(w->blk, vm_size / 2, vm + vm_size / 2,
                                        vm_size - vm_size / 2);
        if (ret < 0) {
            (void)q_vm_discard(w->blk);
            return ret;
        }
    }
    memcpy(sn->disk, w->now, sizeof(sn->disk));
    for (unsigned k = 0; k < SECTORS; k++) {
        sector_set_flush(&sn->disk[k], UINT32_MAX);
    }
    sn->state = UNSURE;
    ret = q_snap_create(w->blk, snap_name(i), vm_size);
    if (ret == 0) {
        sn->state = PRESENT;
        settle_all(w);
    }
    return ret;
}

static int do_goto(World *w, unsigned i)
{
    Snap *sn = &w->snap[i];
    int ret;

    if (sn->state == ABSENT) {
        return 0;
    }
    ret = q_snap_goto(w->blk, snap_name(i));
    for (unsigned k = 0; k < SECTORS && ret != -ERANGE; k++) {
        if (ret == 0) {
            w->now[k] = sn->disk[k];
        }
        for (unsigned g = 0; g < sn->disk[k].nb && ret < 0; g++) {
            sector_set_begin(&w->now[k], sn->disk[k].g[g].gen);
        }
    }
    return ret;
}

static int do_delete(World *w, unsigned i)
{
    int ret;

    if (w->snap[i].state == ABSENT) {
        return 0;
    }
    w->snap[i].state = UNSURE;
    ret = q_snap_delete(w->blk, snap_name(i));
    if (ret == 0) {
        w->snap[i].state = ABSENT;
    }
    return ret;
}

static int do_abandon(World *w)
{
    uint8_t vm[3000] = { 1 };
    int ret = q_vm_save(w->blk, 1000, vm, sizeof(vm));
    int ret2 = q_vm_discard(w->blk);

    return ret < 0 ? ret : ret2;
}

static int step(World *w, unsigned i)
{
    switch (i) {
    case 0: return do_write(w, 0, 40);
    case 1: return do_write(w, 3, 2);
    case 2: return do_write(w, 100, 5);
    case 3: return do_flush(w);
    case 4: return do_create(w, 0, 0);
    case 5: return do_write(w, 1, 12);
    case 6: return do_write(w, 200, 3);
    case 7: return do_create(w, 1, MAX_VM);
    case 8: return do_zero(w, 8, 16, BDRV_REQ_MAY_UNMAP);
    case 9: return do_discard(w, 96, 16);
    case 10: return do_flush(w);
    case 11: return do_write(w, 120, 60);
    case 12: return do_zero(w, 150, 3, 0);
    case 13: return do_goto(w, 0);
    case 14: return do_write(w, 20, 8);
    case 15: return do_abandon(w);
    case 16: return do_create(w, 2, 700);
    case 17: return do_delete(w, 1);
    case 18: return do_write(w, 0, 30);
    case 19: return do_flush(w);
    case 20: return do_discard(w, 0, 32);
    case 21: return do_write(w, 64, 32);
    case 22: return do_goto(w, 2);
    case 23: return do_delete(w, 0);
    case 24: return do_flush(w);
    case 25: return do_write(w, 240, 16);
    case 26: return do_copy(w, 3, 21);
    case 27: return do_copy(w, 130, 9);
    case 28: return do_flush(w);
    case 29: return do_copy(w, 2, 5);
    case 30: return do_write(w, 128, 4);
    default: return 1;
    }
}

#define REFUSED(ret) ((ret) == -ERANGE || (ret) == -ENOENT)

/* Run all steps; stop at the first failure unless @go_on. */
static void run_workload(World *w, bool go_on)
{
    for (unsigned i = 0;; i++) {
        int ret = step(w, i);

        if (ret == 1 || (ret < 0 && !go_on && !REFUSED(ret))) {
            return;
        }
        if (REFUSED(ret) && i == 16) {
            w->snap[2].state = ABSENT; /* refcount_bits=2: two snapshots */
        }
    }
}

/* ---- afterwards ---- */

static void check_image(World *w, bool leaks_ok, const char *what)
{
    g_autofree uint8_t *image = g_malloc(w->disk->size);
    Qcow2CheckResult r;

    fake_disk_peek(w->disk, 0, image, w->disk->size);
    assert_int_equal(qcow2_checker_run(image, w->disk->size, &r), 0);
    if (r.corruptions || (!leaks_ok && (r.leaks || r.copied))) {
        fail_msg("%s: %s: %" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", w->where, what, r.leaks, r.copied,
                 r.corruptions, r.first);
    }
}

static void check_snapshot(World *w, unsigned i)
{
    Snap *sn = &w->snap[i];
    uint8_t vm[MAX_VM];
    uint64_t size;
    int ret = q_vm_select(w->blk, snap_name(i), &size);

    if (ret == -ENOENT && sn->state != PRESENT) {
        return;
    }
    assert_int_equal(ret, 0);
    assert_int_not_equal(sn->state, ABSENT);
    assert_int_equal(size, sn->vm_size);
    if (size) {
        assert_int_equal(q_vm_load(w->blk, 0, vm, size), 0);
        assert_true(test_matches(vm, size, sn->vm_seed));
    }
    ret = q_snap_goto(w->blk, snap_name(i));
    if (ret == -ERANGE) {
        return; /* leaks have used up a narrow refcount */
    }
    assert_int_equal(ret, 0);
    expect_disk(w, sn->disk, snap_name(i));
}

/* Open what is left, look at it, and use it. */
static void survey(World *w, const Config *c)
{
    uint8_t buf[SECTORS * 512];

    check_image(w, true, "after the fault");
    w->blk = q_open("fake:c", c->open, OPEN_FLAGS);
    expect_disk(w, w->now, "active layer");
    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(blk_pwrite(w->blk, 0, sizeof(buf), buf), 0);
    for (unsigned i = 0; i < 3; i++) {
        check_snapshot(w, i);
    }
    assert_int_equal(blk_pwrite(w->blk, 0, sizeof(buf), buf), 0);
    q_close(w->blk);
    w->blk = NULL;
    check_image(w, true, "after use");
}

static void reset(World *w, const Config *c, const char *base)
{
    memset(w->now, 0, sizeof(w->now));
    memset(w->snap, 0, sizeof(w->snap));
    w->gen = 0;
    for (unsigned i = 0; i < SECTORS; i++) {
        sector_set_only(&w->now[i], 0);
    }
    fake_log_clear(w->disk);
    assert_int_equal(fake_disk_load(w->disk, base), 0);
    w->blk = q_open("fake:c", c->open, OPEN_FLAGS);
    fake_log_clear(w->disk);
}

static World *world_new(const Config *c, const char *base)
{
    World *w = g_new0(World, 1);

    w->disk = fake_disk_new("c", 0);
    w->disk->sync = true;
    w->disk->copies = true;
    w->from_disk = fake_disk_new("from", SECTORS * 512);
    w->from_disk->sync = true;
    w->from = q_open("fake:from", "driver=raw", 0);
    q_create("fake:c", c->create);
    assert_int_equal(fake_disk_save(w->disk, base), 0);
    return w;
}

static void world_free(World *w)
{
    q_close(w->from);
    fake_disk_free(w->from_disk);
    fake_disk_free(w->disk);
    g_free(w);
}

/* Without a fault: the number of requests of @types; the image is clean. */
static unsigned dry_run(World *w, const Config *c, const char *base,
                        FakeType types)
{
    unsigned n;

    reset(w, c, base);
    run_workload(w, false);
    n = fake_count(w->disk, types);
    q_close(w->blk);
    check_image(w, false, "without a fault");
    survey(w, c);
    check_image(w, false, "without a fault, used");
    return n;
}

static void crash(World *w, unsigned mode, uint32_t seed)
{
    if (mode < 2) {
        fake_power_on(w->disk, mode == 1);
    } else {
        GRand *rand = g_rand_new_with_seed(seed);

        fake_crash(w->disk, rand);
        g_rand_free(rand);
    }
}

static void test_power_cut_after_every_write_leaves_leaks_at_worst(
    void **state)
{
    for (size_t k = 0; k < G_N_ELEMENTS(configs); k++) {
        const Config *c = &configs[k];
        g_autofree char *base = test_path("base.qcow2");
        World *w = world_new(c, base);
        unsigned n = dry_run(w, c, base, FAKE_WRITE | FAKE_ZERO);

        for (unsigned i = 0; i < n; i++) {
            for (unsigned mode = 0; mode < 5; mode++) {
                reset(w, c, base);
                snprintf(w->where, sizeof(w->where), "%s, cut after write %u,"
                         " mode %u", c->create, i, mode);
                fake_cut_power_after(w->disk, i);
                run_workload(w, false);
                (void)blk_close(w->blk);
                w->blk = NULL;
                crash(w, mode, i * 10 + mode);
                survey(w, c);
            }
        }
        world_free(w);
    }
}

static void test_failing_nth_request_leaves_leaks_at_worst(void **state)
{
    for (size_t k = 0; k < G_N_ELEMENTS(configs); k++) {
        const Config *c = &configs[k];
        g_autofree char *base = test_path("base.qcow2");
        World *w = world_new(c, base);
        unsigned n = dry_run(w, c, base, FAKE_ANY);

        for (unsigned i = 1; i <= n; i++) {
            reset(w, c, base);
            snprintf(w->where, sizeof(w->where), "%s, request %u fails",
                     c->create, i);
            fake_fail_nth(w->disk, FAKE_ANY, i, EIO, false);
            run_workload(w, true);
            fake_fail_nth(w->disk, FAKE_ANY, 0, 0, false);
            assert_int_equal(qcow2_cache_busy(q_state(w->blk)->l2_cache), 0);
            assert_int_equal(
                qcow2_cache_busy(q_state(w->blk)->refblock_cache), 0);
            assert_int_equal(q_state(w->blk)->in_flight.length, 0);
            if (q_state(w->blk)->corrupt) {
                fail_msg("%s: %s", w->where, q_state(w->blk)->corrupt_reason);
            }
            assert_int_equal(blk_close(w->blk), 0);
            w->blk = NULL;
            survey(w, c);
        }
        world_free(w);
    }
}

/* The disk stays away: everything fails, nothing hangs, nothing is foreign. */
static void test_all_requests_failing_from_the_nth_on(void **state)
{
    const Config *c = &configs[0];
    g_autofree char *base = test_path("base.qcow2");
    World *w = world_new(c, base);
    unsigned n = dry_run(w, c, base, FAKE_ANY);

    for (unsigned i = 1; i <= n; i++) {
        reset(w, c, base);
        snprintf(w->where, sizeof(w->where), "all fail from %u on", i);
        fake_fail_nth(w->disk, FAKE_ANY, i, EIO, true);
        run_workload(w, true);
        (void)blk_close(w->blk);
        w->blk = NULL;
        fake_fail_nth(w->disk, FAKE_ANY, 0, 0, false);
        survey(w, c);
    }
    world_free(w);
}

/* ---- growing tables ---- */

#define GROW_START (1900u << 10)
#define GROW_END   (2300u << 10)
#define GROW_STEP  (25u << 10)

/* Write up to GROW_END and a far piece of vmstate; refcount table, refcount
 * blocks and the L1 table grow. Returns how many bytes were flushed. */
static uint64_t grow_workload(World *w)
{
    g_autofree uint8_t *buf = g_malloc(GROW_STEP);
    uint64_t flushed = GROW_START;

    for (uint64_t o = GROW_START; o < GROW_END; o += GROW_STEP) {
        test_fill(buf, GROW_STEP, o);
        if (blk_pwrite(w->blk, o, GROW_STEP, buf) < 0) {
            return flushed;
        }
        if (o / GROW_STEP % 4 == 0) {
            if (blk_flush(w->blk) < 0) {
                return flushed;
            }
            flushed = o + GROW_STEP;
        }
    }
    if (q_vm_save(w->blk, 150 << 20, buf, 1000) < 0 ||
        blk_flush(w->blk) < 0) {
        return flushed;
    }
    return GROW_END;
}

static void expect_grown(World *w, uint64_t flushed)
{
    g_autofree uint8_t *buf = g_malloc(GROW_STEP);

    for (uint64_t o = GROW_START; o < flushed; o += GROW_STEP) {
        assert_int_equal(blk_pread(w->blk, o, GROW_STEP, buf), 0);
        if (!test_matches(buf, GROW_STEP, o)) {
            fail_msg("%s: flushed data at %" PRIu64 " is lost", w->where, o);
        }
    }
}

static unsigned grow_run(World *w, const Config *c, const char *base, int cut,
                         unsigned mode)
{
    uint64_t flushed;
    unsigned n;

    fake_log_clear(w->disk);
    assert_int_equal(fake_disk_load(w->disk, base), 0);
    w->blk = q_open("fake:c", c->open, OPEN_FLAGS);
    fake_log_clear(w->disk);
    if (cut >= 0) {
        fake_cut_power_after(w->disk, cut);
    }
    flushed = grow_workload(w);
    n = fake_count(w->disk, FAKE_WRITE | FAKE_ZERO);
    (void)blk_close(w->blk);
    crash(w, mode, cut);
    snprintf(w->where, sizeof(w->where), "%s, cut after %d, mode %u",
             c->create, cut, mode);
    check_image(w, cut >= 0, "growing");
    w->blk = q_open("fake:c", c->open, OPEN_FLAGS);
    expect_grown(w, flushed);
    q_close(w->blk);
    check_image(w, cut >= 0, "growing, used");
    return n;
}

static void test_power_cut_while_tables_grow(void **state)
{
    static const Config c = {
        "size=3M,cluster_size=512,refcount_bits=64", "", 1,
    };
    g_autofree char *base = test_path("base.qcow2");
    g_autofree uint8_t *buf = g_malloc0(GROW_START);
    World *w = world_new(&c, base);
    uint64_t table;
    unsigned n;

    w->blk = q_open("fake:c", NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(w->blk, 0, GROW_START - 300000, buf), 0);
    table = q_state(w->blk)->hdr.refcount_table_offset;
    q_close(w->blk);
    assert_int_equal(fake_disk_save(w->disk, base), 0);
    n = grow_run(w, &c, base, -1, 0);
    w->blk = q_open("fake:c", NULL, 0);
    assert_int_not_equal(q_state(w->blk)->hdr.refcount_table_offset, table);
    assert_true(q_state(w->blk)->l1.size > 4000);
    q_close(w->blk);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned mode = 0; mode < 3; mode++) {
            grow_run(w, &c, base, i, mode);
        }
    }
    world_free(w);
}

/* A process that is killed has all its writes kept: what a save has written by
 * then is not referred to and not counted. */
static void test_killed_save_leaves_not_even_a_leak(void **state)
{
    static const char *const creates[] = {
        "size=1M", "size=1G", "size=1G,compat=0.10", "size=1M,cluster_size=4k",
    };
    uint32_t bytes = 1 << 20;

    for (size_t k = 0; k < G_N_ELEMENTS(creates); k++) {
        g_autofree char *base = test_path("base.qcow2");
        g_autofree uint8_t *buf = g_malloc(bytes);
        Config c = { .create = creates[k] };
        World *w = world_new(&c, base);

        w->blk = q_open("fake:c", NULL, BDRV_O_RDWR);
        test_fill(buf, bytes, 1);
        for (unsigned saves = 0; saves < 2; saves++) {
            for (unsigned i = 0; i < 12; i++) {
                assert_int_equal(q_vm_save(w->blk, i * (uint64_t)bytes, buf,
                                           bytes), 0);
                snprintf(w->where, sizeof(w->where), "%s, killed at %u",
                         c.create, i);
                check_image(w, false, "a save");
            }
            assert_int_equal(q_snap_create(w->blk, snap_name(saves), bytes),
                             0);
            check_image(w, false, "saved");
        }
        q_close(w->blk);
        world_free(w);
    }
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_power_cut_after_every_write_leaves_leaks_at_worst),
        TEST(test_failing_nth_request_leaves_leaks_at_worst),
        TEST(test_all_requests_failing_from_the_nth_on),
        TEST(test_power_cut_while_tables_grow),
        TEST(test_killed_save_leaves_not_even_a_leak),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
