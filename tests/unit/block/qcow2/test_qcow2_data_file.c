/* SPDX-License-Identifier: MIT */
/*
 * External data files: who may name them, what lies where, what zero writes
 * and discards do to them, and which of both files is flushed first.
 */
#include "image_fixture.h"

#define CS   65536
#define SIZE (1 << 20)

static FakeDisk *image, *data;

static BlockBackend *make(const char *create, const char *options)
{
    g_autofree char *all = g_strdup_printf("size=1M,data_file=fake:d%s",
                                           create);
    g_autofree char *open = g_strdup_printf("allow-data-file=on%s", options);

    image = fake_disk_new("x", 0);
    data = fake_disk_new("d", 0);
    image->zeroes = data->zeroes = true;
    q_create("fake:x", all);
    return q_open("fake:x", open, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static void finish(BlockBackend *blk)
{
    q_close(blk);
    q_expect_sound(image);
    fake_disk_free(image);
    fake_disk_free(data);
}

static uint64_t l2_offset(BlockBackend *blk)
{
    return q_state(blk)->l1.entries[0] & QCOW2_OFFSET_MASK;
}

static uint64_t entry(BlockBackend *blk, unsigned n)
{
    uint8_t bytes[8];

    assert_int_equal(blk_flush(blk), 0);
    fake_disk_peek(image, l2_offset(blk) + n * 8, bytes, sizeof(bytes));
    return be64_get(bytes);
}

static void expect_data(uint64_t offset, uint64_t bytes, int c)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    fake_disk_peek(data, offset, buf, bytes);
    all_are(buf, offset, bytes, c);
}

static void test_image_may_name_its_data_file_only_when_allowed(void **state)
{
    BlockBackend *blk = make("", "");
    g_autofree char *over = test_path("over.qcow2");

    put(blk, 0, 100, 'a');
    q_close(blk);
    q_open_fails("fake:x", NULL, 0, -EACCES, "allow-data-file=on");
    q_open_fails("fake:x", "allow-data-file=off", BDRV_O_RDWR, -EACCES,
                 "data-file=NAME");

    blk = q_open("fake:x", "data-file=fake:d", 0);
    expect(blk, 0, 100, 'a');
    q_close(blk);
    blk = q_open("fake:x", "data-file.driver=fake,data-file.name=d", 0);
    expect(blk, 0, 100, 'a');
    q_close(blk);

    /* Permission is for one node. */
    q_create(over, "size=1M,backing_file=fake:x,backing_fmt=qcow2");
    q_open_fails(over, "allow-data-file=on", 0, -EACCES, "allow-data-file");
    blk = q_open(over, "backing.allow-data-file=on", 0);
    expect(blk, 0, 100, 'a');
    q_close(blk);
    fake_disk_free(image);
    fake_disk_free(data);
}

static void test_other_images_have_no_data_file(void **state)
{
    g_autofree char *path = test_path("a.qcow2");

    q_create(path, "size=1M");
    q_open_fails(path, "data-file=fake:d", 0, -EINVAL, "data-file");
    q_close(q_open(path, "allow-data-file=on", 0));
}

static void test_image_without_a_name_needs_the_option(void **state)
{
    uint8_t type[4];
    BlockBackend *blk = make("", "");
    uint64_t at = QCOW2_V3_LENGTH;

    q_close(blk);
    fake_disk_peek(image, at, type, 4);
    assert_int_equal(be32_get(type), 0x44415441);
    be32_put(type, 0x12345678); /* an extension nobody knows */
    fake_disk_poke(image, at, type, 4);
    q_open_fails("fake:x", "allow-data-file=on", 0, -EINVAL,
                 "data-file=NAME");
    blk = q_open("fake:x", "data-file=fake:d", BDRV_O_RDWR);
    put(blk, 0, 512, 'a');
    expect_data(0, 512, 'a');
    finish(blk);
}

static void test_guest_data_is_at_its_guest_offset(void **state)
{
    BlockBackend *blk = make("", "");
    uint64_t n, map;

    put(blk, 0, 512, 'a');
    put(blk, 5 * CS + 1000, 3 * CS, 'b');
    assert_int_equal(entry(blk, 0), QCOW2_COPIED);
    assert_int_equal(entry(blk, 6), QCOW2_COPIED | 6 * CS);
    expect_data(0, 512, 'a');
    expect_data(512, CS - 512, 0);
    expect_data(5 * CS + 1000, 3 * CS, 'b');
    expect(blk, 0, 512, 'a');
    expect(blk, 5 * CS + 1000, 3 * CS, 'b');
    assert_int_equal(blk_block_status(blk, 0, SIZE, &n, &map),
                     BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED |
                     BDRV_BLOCK_OFFSET_VALID);
    assert_int_equal(n, CS);
    assert_int_equal(map, 0);
    /* Stale bytes do not show up around a write. */
    assert_int_equal(blk_pdiscard(blk, 5 * CS, CS), 0);
    fake_disk_poke(data, 5 * CS, "stale", 5);
    expect(blk, 5 * CS, CS, 0);
    put(blk, 5 * CS + 100, 1, 'c');
    expect(blk, 5 * CS, 100, 0);
    assert_true(image->size < 10 * CS);
    finish(blk);
}

static void test_zero_writes_touch_only_the_map(void **state)
{
    BlockBackend *blk = make("", "");

    put(blk, 0, 2 * CS, 'a');
    fake_log_clear(data);
    assert_int_equal(blk_pwrite_zeroes(blk, 0, CS, 0), 0);
    assert_int_equal(fake_count(data, FAKE_WRITE | FAKE_ZERO), 0);
    assert_int_equal(entry(blk, 0), QCOW2_COPIED | QCOW2_ZERO);
    expect(blk, 0, CS, 0);
    expect_data(0, CS, 'a');

    /* A discard makes a plain zero entry, and the file may punch. */
    assert_int_equal(blk_pdiscard(blk, 0, 2 * CS), 0);
    assert_int_equal(entry(blk, 0), QCOW2_ZERO);
    assert_int_equal(entry(blk, 1), QCOW2_ZERO);
    expect_data(0, 2 * CS, 0);
    finish(blk);
}

static void test_discards_are_passed_on_only_when_asked(void **state)
{
    BlockBackend *blk = make("", ",pass-discard-request=off");

    put(blk, 0, CS, 'a');
    fake_log_clear(data);
    assert_int_equal(blk_pdiscard(blk, 0, CS), 0);
    assert_int_equal(fake_count(data, FAKE_WRITE | FAKE_ZERO | FAKE_DISCARD),
                     0);
    expect(blk, 0, CS, 0);
    finish(blk);
}

static void test_raw_data_file_always_equals_the_disk(void **state)
{
    GRand *rand = g_rand_new_with_seed(7);
    BlockBackend *blk = make(",data_file_raw=on", "");
    g_autofree uint8_t *model = g_malloc0(SIZE);
    g_autofree uint8_t *buf = g_malloc(SIZE);

    for (unsigned i = 0; i < 200; i++) {
        uint64_t from = g_rand_int_range(rand, 0, SIZE);
        uint64_t n = g_rand_int_range(rand, 1, 3 * CS);

        n = MIN(n, SIZE - from);
        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            assert_int_equal(blk_pwrite_zeroes(blk, from, n, i & 1
                                               ? BDRV_REQ_MAY_UNMAP : 0), 0);
            memset(model + from, 0, n);
            break;
        case 1:
            from = ROUND_DOWN(from, CS);
            n = MIN(ROUND_UP(n, CS), SIZE - from);
            assert_int_equal(blk_pdiscard(blk, from, n), 0);
            memset(model + from, 0, n);
            break;
        default:
            test_fill(model + from, n, i);
            assert_int_equal(blk_pwrite(blk, from, n, model + from), 0);
        }
        assert_int_equal(blk_pread(blk, 0, SIZE, buf), 0);
        assert_memory_equal(buf, model, SIZE);
        fake_disk_peek(data, 0, buf, SIZE);
        assert_memory_equal(buf, model, SIZE);
    }
    assert_int_equal(q_state(blk)->hdr.autoclear_features, QCOW2_AUT_RAW);
    g_rand_free(rand);
    finish(blk);
}

static void test_wrong_host_offset_is_corruption(void **state)
{
    BlockBackend *blk = make("", "");
    uint8_t bytes[8], buf[512];

    put(blk, 3 * CS, 512, 'a');
    assert_int_equal(blk_flush(blk), 0);
    be64_put(bytes, QCOW2_COPIED | 4 * CS);
    fake_disk_poke(image, l2_offset(blk) + 3 * 8, bytes, 8);
    q_close(blk);
    blk = q_open("fake:x", "allow-data-file=on", BDRV_O_RDWR);
    assert_int_equal(blk_pread(blk, 3 * CS, 512, buf), -EIO);
    assert_int_equal(blk_close(blk), -EIO);
    q_open_fails("fake:x", "allow-data-file=on", BDRV_O_RDWR, -EACCES,
                 "corrupt");
    fake_disk_free(image);
    fake_disk_free(data);
}

static void flush_done(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

static void test_data_is_durable_before_the_map_shows_it(void **state)
{
    BlockBackend *blk = make("", "");
    int ret = 1;

    put(blk, 0, 512, 'a');
    assert_int_equal(blk_flush(blk), 0);
    put(blk, CS, 512, 'b');
    fake_log_clear(image);
    fake_hold(data, FAKE_FLUSH, 0, 0);
    blk_aio_flush(blk, flush_done, &ret);
    TEST_WAIT_UNTIL(fake_nb_held(data) == 1);
    test_turns(20);
    assert_int_equal(fake_find(image, 0, FAKE_WRITE, l2_offset(blk), CS), -1);
    fake_release_all(data);
    TEST_WAIT_UNTIL(ret <= 0);
    assert_int_equal(ret, 0);
    assert_true(fake_find(image, 0, FAKE_WRITE, l2_offset(blk), CS) >= 0);
    finish(blk);
}

static void test_what_needs_refcounts_is_refused(void **state)
{
    BlockBackend *blk = make("", "");
    uint8_t buf[CS] = { 0 };
    QEMUIOVector qiov;

    assert_int_equal(q_snap_create(blk, "s", 0), -ENOTSUP);
    assert_int_equal(q_vm_save(blk, 0, buf, 512), -ENOTSUP);
    qemu_iovec_init_buf(&qiov, buf, CS);
    assert_int_equal(blk_pwritev(blk, 0, CS, &qiov,
                                 BDRV_REQ_WRITE_COMPRESSED), -ENOTSUP);
    finish(blk);
}

static void test_raw_bit_needs_a_data_file(void **state)
{
    uint8_t aut[8];

    image = fake_disk_new("x", 0);
    q_create("fake:x", "size=1M");
    be64_put(aut, QCOW2_AUT_RAW);
    fake_disk_poke(image, 88, aut, 8);
    q_open_fails("fake:x", NULL, 0, -EINVAL, "raw");
    fake_disk_free(image);
}

/* Ours for QEMU and the other way round. */
static void test_peers_share_data_files(void **state)
{
    static const char *const options[] = {
        "", ",data_file_raw=on", ",extended_l2=on",
        ",extended_l2=on,data_file_raw=on",
    };
    g_autofree char *path = test_path("p.qcow2");
    g_autofree char *raw = test_path("p.data");

    for (size_t i = 0; i < 2 * G_N_ELEMENTS(options) &&
                       test_have_program("qemu-img"); i++) {
        const char *opt = options[i / 2];
        g_autofree char *out = NULL;
        g_autofree char *all = g_strdup_printf("size=1M,data_file=%s%s", raw,
                                               opt);
        BlockBackend *blk;
        bool raw_bit = strstr(opt, "raw");

        if (i & 1) {
            q_create(path, all);
        } else {
            assert_int_equal(test_run(&out, "qemu-img create -q -f qcow2 -o "
                                      "data_file=%s%s %s 1M", raw, opt, path),
                             0);
        }
        blk = q_open(path, "allow-data-file=on", BDRV_O_RDWR | BDRV_O_UNMAP);
        put(blk, 1000, 100000, 'a');
        assert_int_equal(blk_pwrite_zeroes(blk, 20000, 30000, 0), 0);
        assert_int_equal(blk_pdiscard(blk, CS * 4, CS), 0);
        q_close(blk);
        q_qemu_check(path);
        g_clear_pointer(&out, g_free);
        if (test_run(&out, "qemu-io -f qcow2 -c 'read -P 97 1000 19000' "
                     "-c 'read -P 0 20000 30000' -c 'read -P 97 50000 51000' "
                     "-c 'write -P 98 300000 70000' -c 'write -z 310000 9000' "
                     "-c 'write -z -u 524288 131072' %s", path) != 0 ||
            strstr(out, "fail")) {
            fail_msg("%s", out);
        }
        blk = q_open(path, "allow-data-file=on", 0);
        expect(blk, 300000, 10000, 'b');
        expect(blk, 310000, 9000, 0);
        expect(blk, 319000, 51000, 'b');
        expect(blk, 50000, 51000, 'a');
        q_close(blk);
        if (raw_bit) {
            g_autofree char *cmp = NULL;

            assert_int_equal(test_run(&cmp, "qemu-img compare -f raw -F "
                                      "qcow2 %s %s", raw, path), 0);
        }
        unlink(path);
        unlink(raw);
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_ctx_setup, \
                                                 test_ctx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_image_may_name_its_data_file_only_when_allowed),
        TEST(test_other_images_have_no_data_file),
        TEST(test_image_without_a_name_needs_the_option),
        TEST(test_guest_data_is_at_its_guest_offset),
        TEST(test_zero_writes_touch_only_the_map),
        TEST(test_discards_are_passed_on_only_when_asked),
        TEST(test_raw_data_file_always_equals_the_disk),
        TEST(test_wrong_host_offset_is_corruption),
        TEST(test_data_is_durable_before_the_map_shows_it),
        TEST(test_what_needs_refcounts_is_refused),
        TEST(test_raw_bit_needs_a_data_file),
        TEST(test_peers_share_data_files),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
