/* SPDX-License-Identifier: MIT */
/*
 * A raw node on an overlay: it has no backing file, and yet what it does not
 * call allocated is data, which the overlay has from behind. Rebase and
 * convert must not take it for zeroes.
 */
#include "maint_fixture.h"

#include "block/convert.h"

#define KIB  1024u
#define SIZE (64 * KIB)

#define RAW_ON_OVERLAY \
    "driver=raw,file.driver=qcow2,file.file.driver=fake,file.file.name=mid"
#define BACKING_IS_RAW_ON_OVERLAY \
    "backing.driver=raw,backing.file.driver=qcow2," \
    "backing.file.file.driver=fake,backing.file.file.name=mid"

static FakeDisk *make(const char *name, const char *options)
{
    g_autofree char *filename = g_strconcat("fake:", name, NULL);
    g_autofree char *all = g_strconcat("size=64k,cluster_size=4k", options,
                                       NULL);
    FakeDisk *d = fake_disk_new(name, 0);

    d->sync = true;
    q_create(filename, all);
    return d;
}

static void put(const char *filename, uint64_t from, uint64_t to, char byte)
{
    BlockBackend *blk = q_open(filename, "", BDRV_O_RDWR);

    maint_put(blk, from, to, byte);
    q_close(blk);
}

typedef struct Disks {
    FakeDisk *base, *mid, *top;
} Disks;

/* "mid" has 'm' in its second cluster, 'b' elsewhere from "base". */
static Disks make_disks(void)
{
    Disks d = { .base = make("base", "") };

    put("fake:base", 0, SIZE, 'b');
    d.mid = make("mid", ",backing_file=fake:base,backing_fmt=qcow2");
    put("fake:mid", 4 * KIB, 8 * KIB, 'm');
    d.top = make("top", "");
    return d;
}

static void free_disks(Disks *d)
{
    fake_disk_free(d->base);
    fake_disk_free(d->mid);
    fake_disk_free(d->top);
}

static void expect_overlay(BlockBackend *blk)
{
    assert_true(maint_is(blk, 0, 4 * KIB, 'b'));
    assert_true(maint_is(blk, 4 * KIB, 8 * KIB, 'm'));
    assert_true(maint_is(blk, 8 * KIB, SIZE, 'b'));
}

static void test_rebase_keeps_what_raw_on_an_overlay_has_shown(void **state)
{
    const BlkRebaseOptions o = { 0 };
    Disks d = make_disks();
    GError *error = NULL;
    BlockBackend *blk;

    blk = q_open("fake:top", BACKING_IS_RAW_ON_OVERLAY, BDRV_O_RDWR);
    expect_overlay(blk);
    q_check(blk_rebase(blk, &o, &error), error);
    q_close(blk);
    blk = q_open("fake:top", "", 0);
    expect_overlay(blk);
    q_close(blk);
    free_disks(&d);
}

static void test_rebase_hides_what_raw_on_an_overlay_would_show(void **state)
{
    BlkRebaseOptions o = { .file = "fake:mid", .format = "raw" };
    Disks d = make_disks();
    GError *error = NULL;
    BlockBackend *blk = q_open("fake:top", "", BDRV_O_RDWR);

    assert_int_equal(blk_open(test_ctx, NULL, q_options(RAW_ON_OVERLAY), 0,
                              &o.backing, &error), 0);
    expect_overlay(o.backing);
    q_check(blk_rebase(blk, &o, &error), error);
    q_close(blk);
    q_close(o.backing);
    blk = q_open("fake:top", BACKING_IS_RAW_ON_OVERLAY, 0);
    assert_true(maint_is(blk, 0, SIZE, 0));
    q_close(blk);
    free_disks(&d);
}

static void test_convert_onto_a_backing_file_takes_it_for_data(void **state)
{
    Disks d = make_disks();
    BlockBackend *source = NULL;
    GError *error = NULL;
    BlkConvertOptions o = {
        .sources = &source, .nb_sources = 1, .sparse_bytes = 4 * KIB,
        .top_only = true, .backing_bytes = SIZE, .fresh = true,
    };

    assert_int_equal(blk_open(test_ctx, NULL, q_options(RAW_ON_OVERLAY), 0,
                              &source, &error), 0);
    o.target = q_open("fake:top", "", BDRV_O_RDWR);
    q_check(blk_convert(&o, &error), error);
    expect_overlay(o.target);
    q_close(o.target);
    q_close(source);
    free_disks(&d);
}

#define B_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    B_TEST(test_rebase_keeps_what_raw_on_an_overlay_has_shown),
    B_TEST(test_rebase_hides_what_raw_on_an_overlay_would_show),
    B_TEST(test_convert_onto_a_backing_file_takes_it_for_data),
};

FIRN_TEST_MAIN(tests)
