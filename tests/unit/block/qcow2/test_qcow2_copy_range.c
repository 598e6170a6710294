/* SPDX-License-Identifier: MIT */
/*
 * Copying into a qcow2 image by the host: what arrives is what a write would
 * have left, around it the guest sees what it saw before, and the source is
 * never read through us. What cannot be copied so is refused and leaves no
 * trace; what is in flight keeps others out of its clusters. Power cuts are in
 * test_qcow2_crash.c.
 */
#include "qcow2_fixture.h"

#define BYTES   ((uint64_t)512 * 1024)
#define SECTORS (BYTES / 512)

typedef struct Fixture {
    FakeDisk *base, *disk, *from_disk;
    BlockBackend *blk, *from;
    uint8_t *model, *source;
} Fixture;

static FakeDisk *disk_of(const char *name, uint64_t bytes)
{
    FakeDisk *d = fake_disk_new(name, bytes);

    d->copies = true;
    d->zeroes = true;
    return d;
}

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    f->model = g_malloc(BYTES);
    f->source = g_malloc(BYTES);
    test_fill(f->model, BYTES, 1);
    test_fill(f->source, BYTES, 2);
    f->base = disk_of("base", BYTES);
    f->from_disk = disk_of("from", BYTES);
    fake_disk_poke(f->base, 0, f->model, BYTES);
    fake_disk_poke(f->from_disk, 0, f->source, BYTES);
    f->disk = disk_of("disk", 0);
    f->from = q_open("fake:from", "driver=raw", 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    q_close(f->from);
    fake_disk_free(f->base);
    fake_disk_free(f->disk);
    fake_disk_free(f->from_disk);
    g_free(f->model);
    g_free(f->source);
    g_free(f);
    return test_ctx_teardown(state);
}

/* A new image over the base. */
static void start(Fixture *f, const char *options)
{
    g_autofree char *all = g_strconcat("size=512k", *options ? "," : "",
                                       options, NULL);

    q_create("fake:disk", all);
    f->blk = q_open("fake:disk", "backing.driver=raw,backing.file.driver="
                    "fake,backing.file.name=base", BDRV_O_RDWR);
    test_fill(f->model, BYTES, 1);
    fake_log_clear(f->from_disk);
}

static void expect_model(Fixture *f)
{
    g_autofree uint8_t *is = g_malloc(BYTES);

    assert_int_equal(blk_pread(f->blk, 0, BYTES, is), 0);
    assert_memory_equal(is, f->model, BYTES);
}

static void finish(Fixture *f)
{
    expect_model(f);
    q_close(f->blk);
    q_expect_sound(f->disk);
}

static const char *const images[] = {
    "", "cluster_size=512", "cluster_size=4k,compat=0.10",
    "cluster_size=16k,extended_l2=on", "cluster_size=256k",
};

static void test_a_copy_leaves_what_a_write_would(void **state)
{
    Fixture *f = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        GRand *rand = g_rand_new_with_seed(i);

        start(f, images[i]);
        for (unsigned k = 0; k < 60; k++) {
            uint64_t lba = g_rand_int_range(rand, 0, SECTORS);
            uint64_t n = g_rand_int_range(rand, 1, 1 + MIN(SECTORS - lba,
                                          k % 2 ? 12 : SECTORS));

            if (k % 7 == 6) {
                assert_int_equal(blk_pwrite_zeroes(f->blk, lba * 512, n * 512,
                                                   BDRV_REQ_MAY_UNMAP), 0);
                memset(f->model + lba * 512, 0, n * 512);
            } else {
                assert_int_equal(q_copy(f->blk, f->from, lba * 512, n * 512),
                                 0);
                memcpy(f->model + lba * 512, f->source + lba * 512, n * 512);
            }
            expect_model(f);
            if (k == 30) {
                assert_int_equal(q_snap_create(f->blk, "s", 0), 0);
            }
        }
        assert_int_equal(fake_count(f->from_disk, FAKE_READ), 0);
        finish(f);
        g_rand_free(rand);
    }
}

static void test_a_refused_copy_leaves_no_trace(void **state)
{
    Fixture *f = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        start(f, images[i]);
        f->disk->copies = false;
        assert_int_equal(q_copy(f->blk, f->from, 1536, 100 * 512), -ENOTSUP);
        expect_model(f);
        assert_int_equal(q_copy(f->blk, f->from, BYTES - 512, 1024), -EIO);
        f->disk->copies = true;
        finish(f);
    }
}

/* The new clusters were written to; nothing may show them as zeroes. */
static void test_a_failed_copy_leaves_no_trace(void **state)
{
    Fixture *f = *state;

    for (unsigned n = 1; n <= 3; n++) {
        start(f, "cluster_size=4k");
        fake_fail_nth(f->disk, FAKE_WRITE, n, EIO, false);
        assert_int_equal(q_copy(f->blk, f->from, 1536, 1024), -EIO);
        fake_fail_nth(f->disk, FAKE_WRITE, 0, 0, false);
        expect_model(f);
        assert_int_equal(blk_pwrite(f->blk, 8192, 512, f->source), 0);
        memcpy(f->model + 8192, f->source, 512);
        finish(f);
    }
}

static void test_what_no_file_holds_is_not_copied(void **state)
{
    Fixture *f = *state;
    BlockBackend *sparse;
    FakeDisk *d = disk_of("sparse", 0);

    q_create("fake:sparse", "size=512k");
    sparse = q_open("fake:sparse", "", BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(sparse, 65536, 65536, f->source), 0);
    start(f, "");
    assert_int_equal(q_copy(f->blk, sparse, 0, 512), -ENOTSUP);
    assert_int_equal(q_copy(f->blk, sparse, 65536, 4096), 0);
    memcpy(f->model + 65536, f->source, 4096);
    finish(f);
    q_close(sparse);
    fake_disk_free(d);
}

typedef struct Job {
    Fixture *f;
    uint64_t offset, bytes;
    bool copy, done;
    int ret;
} Job;

static void coroutine_fn job_entry(void *opaque)
{
    Job *j = opaque;
    QEMUIOVector qiov;

    if (j->copy) {
        j->ret = blk_co_copy_range(j->f->from, j->offset, j->f->blk,
                                   j->offset, j->bytes);
    } else {
        qemu_iovec_init_buf(&qiov, j->f->source, j->bytes);
        j->ret = blk_co_pwritev(j->f->blk, j->offset, j->bytes, &qiov, 0);
    }
    j->done = true;
}

/* Both allocate the same cluster:
 *
 *      copy [0, 1k)                  write [2k, 3k)
 *      begin, copying: held          begin: waits
 *      let go, linked
 *                                    in place
 */
static void test_a_write_waits_for_the_copy_into_its_cluster(void **state)
{
    Fixture *f = *state;
    Job copy = { .f = f, .bytes = 1024, .copy = true };
    Job write = { .f = f, .offset = 2048, .bytes = 1024 };

    start(f, "");
    fake_log_clear(f->disk);
    fake_hold(f->disk, FAKE_WRITE, 0, 0);
    test_spawn(job_entry, &copy);
    TEST_WAIT_UNTIL(fake_nb_held(f->disk) == 1);
    test_spawn(job_entry, &write);
    while (aio_poll(test_ctx, false)) {
    }

    assert_int_equal(fake_nb_held(f->disk), 1);
    assert_false(write.done);

    fake_release_all(f->disk);
    TEST_WAIT_UNTIL(copy.done && write.done);
    assert_int_equal(copy.ret, 0);
    assert_int_equal(write.ret, 0);
    memcpy(f->model, f->source, 1024);
    memcpy(f->model + 2048, f->source, 1024);
    finish(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_copy_leaves_what_a_write_would),
        TEST(test_a_refused_copy_leaves_no_trace),
        TEST(test_a_failed_copy_leaves_no_trace),
        TEST(test_what_no_file_holds_is_not_copied),
        TEST(test_a_write_waits_for_the_copy_into_its_cluster),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
