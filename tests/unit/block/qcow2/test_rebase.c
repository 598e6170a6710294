/* SPDX-License-Identifier: MIT */
/*
 * Rebase: the disk reads the same before, after and in between; with power
 * cuts.
 */
#include "maint_fixture.h"

#define KIB 1024u
#define OLD "fake:old"
#define NEW "fake:new"

/* Which chain "fake:top" has, and which file it goes to. */
typedef struct Setup {
    const char *top;        /* options, without size and backing file */
    const char *old;        /* backing file, NULL: none */
    const char *new;        /* the same */
    bool compressed;
} Setup;

#define SIZE     (64 * KIB)
#define OLD_SIZE (40 * KIB + 512)

static FakeDisk *make_base(const char *name, uint64_t size, char byte)
{
    g_autofree char *filename = g_strdup_printf("fake:%s", name);
    g_autofree char *options = g_strdup_printf("size=%" PRIu64
                                               ",cluster_size=1k", size);
    FakeDisk *d = fake_disk_new(name, 0);
    BlockBackend *blk;

    d->sync = true;
    q_create(filename, options);
    blk = q_open(filename, "", BDRV_O_RDWR);
    maint_put(blk, 0, size, byte);
    maint_put(blk, 8 * KIB, 12 * KIB, '=');
    maint_put(blk, 40 * KIB, OLD_SIZE, '=');
    q_check(blk_pwrite_zeroes(blk, byte == 'o' ? 20 * KIB : 16 * KIB,
                              4 * KIB, 0), NULL);
    q_close(blk);
    return d;
}

static FakeDisk *make_top(const Setup *s)
{
    g_autofree char *options = g_strdup_printf(
        "size=%u,%s%s%s%s", SIZE, s->top, s->old ? ",backing_file=" : "",
        s->old ? s->old : "", s->old ? ",backing_fmt=qcow2" : "");
    FakeDisk *d = fake_disk_new("top", 0);
    BlockBackend *blk;

    d->sync = true;
    q_create("fake:top", options);
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 3 * KIB + 100, 5 * KIB, 't');
    maint_put(blk, 60 * KIB, 61 * KIB, 'u');
    q_close(blk);
    return d;
}

/* What the disk shows, whichever backing file it has. */
static void look(BlockBackend *blk, int ret, void *opaque)
{
    const Setup *s = opaque;
    uint8_t base = s->old ? 'o' : 0;

    assert_int_equal(blk_getlength(blk), SIZE);
    assert_true(maint_is(blk, 0, 3 * KIB + 100, base));
    assert_true(maint_is(blk, 3 * KIB + 100, 5 * KIB, 't'));
    assert_true(maint_is(blk, 5 * KIB, 8 * KIB, base));
    assert_true(maint_is(blk, 8 * KIB, 12 * KIB, s->old ? '=' : 0));
    assert_true(maint_is(blk, 12 * KIB, 20 * KIB, base));
    assert_true(maint_is(blk, 20 * KIB, 24 * KIB, 0));
    assert_true(maint_is(blk, 24 * KIB, 40 * KIB, base));
    assert_true(maint_is(blk, 40 * KIB, OLD_SIZE, s->old ? '=' : 0));
    assert_true(maint_is(blk, OLD_SIZE, 60 * KIB, 0));
    assert_true(maint_is(blk, 60 * KIB, 61 * KIB, 'u'));
    assert_true(maint_is(blk, 61 * KIB, SIZE, 0));
}

static int run_rebase(BlockBackend *blk, void *opaque)
{
    const Setup *s = opaque;
    BlkRebaseOptions o = {
        .file = s->new, .format = s->new ? "qcow2" : NULL,
        .compressed = s->compressed,
    };
    int ret;

    o.backing = s->new ? q_open(s->new, "", 0) : NULL;
    ret = blk_rebase(blk, &o, NULL);
    if (o.backing) {
        q_close(o.backing);
    }
    return ret;
}

static const Setup setups[] = {
    { .top = "cluster_size=1k", .old = NULL, .new = NEW },
    { .top = "cluster_size=4k", .old = NULL, .new = NEW },
    { .top = "cluster_size=1k,compat=0.10", .old = NULL, .new = NEW },
    { .top = "cluster_size=16k,extended_l2=on", .old = NULL, .new = NEW },
    { .top = "cluster_size=1k", .old = OLD, .new = NEW },
    { .top = "cluster_size=4k,compat=0.10", .old = OLD, .new = NEW },
    { .top = "cluster_size=16k,extended_l2=on", .old = OLD, .new = NEW },
    { .top = "cluster_size=4k", .old = OLD, .new = NULL },
    { .top = "cluster_size=4k", .old = OLD, .new = NEW,
      .compressed = true },
    { .top = "cluster_size=4k", .old = NULL, .new = NEW,
      .compressed = true },
    { .top = "cluster_size=16k,extended_l2=on", .old = OLD, .new = NEW,
      .compressed = true },
};

/* Run @test with every chain; the bases stay as they are. */
static void with_each_setup(void (*test)(const Setup *s, FakeDisk *top))
{
    FakeDisk *old = make_base("old", OLD_SIZE, 'o');
    FakeDisk *new = make_base("new", 80 * KIB, 'n');

    for (size_t i = 0; i < G_N_ELEMENTS(setups); i++) {
        FakeDisk *top = make_top(&setups[i]);

        test(&setups[i], top);
        fake_disk_free(top);
    }
    fake_disk_free(old);
    fake_disk_free(new);
}

static void rebase_once(const Setup *s, FakeDisk *top)
{
    BlockBackend *blk = q_open("fake:top", "", BDRV_O_RDWR);

    assert_int_equal(run_rebase(blk, (void *)s), 0);
    look(blk, 0, (void *)s); /* the old one is open still */
    q_close(blk);
    maint_check(top, false, "rebased");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    look(blk, 0, (void *)s);
    assert_true(!q_state(blk)->bs->backing == !s->new);
    q_close(blk);
}

static void test_the_disk_stays_what_it_is(void **state)
{
    with_each_setup(rebase_once);
}

static void cut_rebase(const Setup *s, FakeDisk *top)
{
    const MaintCase m = {
        .disk = "top", .filename = "fake:top", .open = "",
        .flags = BDRV_O_RDWR, .run = run_rebase, .look = look,
        .opaque = (void *)s,
    };

    assert_true(maint_cut_everywhere(&m) > 1);
    maint_fail_everywhere(&m);
}

static void test_cuts_and_errors_leave_the_disk_what_it_is(void **state)
{
    with_each_setup(cut_rebase);
}

/* Bytes in clusters of @blk itself that have data. */
static uint64_t own_data(BlockBackend *blk, int flags)
{
    uint64_t at = 0, sum = 0, n;

    while (at < SIZE) {
        uint64_t map;
        int ret = blk_block_status(blk, at, SIZE - at, &n, &map);

        assert_true(ret >= 0);
        assert_true(n > 0);
        sum += (ret & flags) == flags ? n : 0;
        at += n;
    }
    return sum;
}

static void test_zeroes_become_zero_clusters(void **state)
{
    const Setup s = { .top = "cluster_size=1k", .old = NULL, .new = NEW };
    FakeDisk *new = make_base("new", 80 * KIB, 'n'), *top = make_top(&s);
    BlockBackend *blk = q_open("fake:top", "", BDRV_O_RDWR);

    assert_int_equal(run_rebase(blk, (void *)&s), 0);
    q_close(blk);
    blk = q_open("fake:top", "", BDRV_O_NO_BACKING);
    /* What was written before, and nothing else. */
    assert_int_equal(own_data(blk, BDRV_BLOCK_DATA), 3 * KIB);
    assert_int_equal(own_data(blk, BDRV_BLOCK_ALLOCATED), SIZE - 4 * KIB);
    q_close(blk);
    fake_disk_free(new);
    fake_disk_free(top);
}

static void test_zeroes_are_stored_where_there_were_no_tables(void **state)
{
    const Setup s = { .new = NEW };
    FakeDisk *new = make_base("new", 80 * KIB, 'n');
    FakeDisk *top = fake_disk_new("top", 0);
    BlockBackend *blk;

    q_create("fake:top", "size=64k,cluster_size=1k");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    assert_int_equal(run_rebase(blk, (void *)&s), 0);
    q_close(blk);
    blk = q_open("fake:top", "", 0);
    assert_true(maint_is(blk, 0, SIZE, 0));
    q_close(blk);
    fake_disk_free(new);
    fake_disk_free(top);
}

/* A short last cluster is whole for compression only from its start on. */
static void test_the_rest_of_a_short_last_cluster_is_copied(void **state)
{
    const Setup s = { .new = NEW, .compressed = true };
    FakeDisk *old = make_base("old", OLD_SIZE, 'o');
    FakeDisk *new = make_base("new", OLD_SIZE, 'n');
    FakeDisk *top = fake_disk_new("top", 0);
    BlockBackend *blk;

    q_create("fake:top", "size=40k,cluster_size=16k,extended_l2=on,"
             "backing_file=" OLD ",backing_fmt=qcow2");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    maint_put(blk, 32 * KIB, 32 * KIB + 512, 't');
    assert_int_equal(run_rebase(blk, (void *)&s), 0);
    q_close(blk);
    maint_check(top, false, "rebased");
    blk = q_open("fake:top", "", 0);
    assert_true(maint_is(blk, 24 * KIB, 32 * KIB, 'o'));
    assert_true(maint_is(blk, 32 * KIB, 32 * KIB + 512, 't'));
    assert_true(maint_is(blk, 32 * KIB + 512, 40 * KIB, 'o'));
    q_close(blk);
    fake_disk_free(old);
    fake_disk_free(new);
    fake_disk_free(top);
}

static void test_several_chunks_are_in_flight_but_no_more_than_asked_for(
    void **state)
{
    FakeDisk *new = fake_disk_new("new", 0), *top = fake_disk_new("top", 0);
    BlkRebaseOptions o = { .file = NEW, .format = "raw",
                           .workers = 3 };
    BlockBackend *blk;
    GError *error = NULL;

    assert_int_equal(blk_create(test_ctx, "raw", NEW,
                                q_options("size=24M"), NULL), 0);
    assert_int_equal(blk_open(test_ctx, NEW,
                              q_options("driver=raw"), BDRV_O_RDWR,
                              &o.backing, &error), 0);
    maint_put(o.backing, 0, 24 * KIB * KIB, 'n');
    q_create("fake:top", "size=24M");
    blk = q_open("fake:top", "", BDRV_O_RDWR);
    new->max_in_flight = 0;
    q_check(blk_rebase(blk, &o, &error), error);
    assert_in_range(new->max_in_flight, 2, 3);
    q_close(blk);
    q_close(o.backing);
    fake_disk_free(new);
    fake_disk_free(top);
}

static void test_what_both_chains_share_is_not_read(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *link = test_path("link.raw");
    g_autofree char *mid = test_path("mid.qcow2");
    g_autofree char *top = test_path("top.qcow2");
    g_autofree char *bytes = g_strnfill(64 * KIB, 'b');
    g_autofree char *mid_options = g_strdup_printf(
        "size=64k,cluster_size=4k,backing_file=%s,backing_fmt=raw", base);
    /* What the middle has to get from below it cannot read. */
    g_autofree char *options = g_strdup_printf(
        "backing.driver=qcow2,backing.file.driver=blkdebug,"
        "backing.file.inject-error.0.event=read_backing_aio,"
        "backing.file.image.driver=file,backing.file.image.filename=%s", mid);
    BlkRebaseOptions o = { .file = "link.raw", .format = "raw" };
    GError *error = NULL;
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, bytes, 64 * KIB, NULL));
    assert_int_equal(symlink("base.raw", link), 0);
    q_create(mid, mid_options);
    blk = q_open(mid, "", BDRV_O_RDWR);
    maint_put(blk, 4 * KIB, 8 * KIB, 'm');
    q_close(blk);
    q_create(top, "size=64k,cluster_size=4k");
    assert_int_equal(blk_open(test_ctx, link, q_options("driver=raw"), 0,
                              &o.backing, &error), 0);
    blk = q_open(top, options, BDRV_O_RDWR);
    q_check(blk_rebase(blk, &o, &error), error);
    q_close(blk);
    q_close(o.backing);
    blk = q_open(top, "", 0);
    assert_true(maint_is(blk, 0, 4 * KIB, 'b'));
    assert_true(maint_is(blk, 4 * KIB, 8 * KIB, 'm'));
    assert_true(maint_is(blk, 8 * KIB, 64 * KIB, 'b'));
    q_close(blk);
}

static void test_an_image_does_not_get_behind_itself(void **state)
{
    g_autofree char *top = test_path("top.qcow2");
    g_autofree char *over = test_path("over.qcow2");
    g_autofree char *options = g_strdup_printf(
        "size=64k,backing_file=%s,backing_fmt=qcow2", top);
    BlkRebaseOptions o = { .file = "over.qcow2", .format = "qcow2" };
    g_autoptr(GError) error = NULL;
    BlockBackend *blk;

    q_create(top, "size=64k");
    q_create(over, options);
    o.backing = q_open(over, "", BDRV_O_FORCE_SHARE);
    blk = q_open(top, "", BDRV_O_RDWR);
    assert_int_equal(blk_rebase(blk, &o, &error), -ELOOP);
    assert_non_null(error);
    q_close(blk);
    q_close(o.backing);
    blk = q_open(top, "", 0);
    assert_null(q_state(blk)->bs->backing);
    q_close(blk);
}

#define R_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    R_TEST(test_the_disk_stays_what_it_is),
    R_TEST(test_cuts_and_errors_leave_the_disk_what_it_is),
    R_TEST(test_zeroes_become_zero_clusters),
    R_TEST(test_zeroes_are_stored_where_there_were_no_tables),
    R_TEST(test_the_rest_of_a_short_last_cluster_is_copied),
    R_TEST(test_several_chunks_are_in_flight_but_no_more_than_asked_for),
    R_TEST(test_what_both_chains_share_is_not_read),
    R_TEST(test_an_image_does_not_get_behind_itself),
};

FIRN_TEST_MAIN(tests)
