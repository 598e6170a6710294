/* SPDX-License-Identifier: MIT */
/* block/blkdebug.c: rules, events, suspending. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    *state = f;
    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    f->disk = fake_disk_new("d", 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    blk_close(f->blk);
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

/* Open raw over blkdebug over the fake disk, with @rules. */
static int try_open(Fixture *f, const char *rules, GError **errp)
{
    BdrvOptions *o = NULL;
    g_autofree char *text = g_strconcat(
        "driver=raw,file.driver=blkdebug,file.image=fake:d",
        *rules ? "," : "", rules, NULL);

    assert_int_equal(bdrv_options_parse(&o, text, NULL), 0);
    return blk_open(test_ctx, NULL, o, BDRV_O_RDWR | BDRV_O_UNMAP, &f->blk,
                    errp);
}

static void open_with(Fixture *f, const char *rules)
{
    GError *error = NULL;

    if (try_open(f, rules, &error) < 0) {
        fail_msg("%s", error->message);
    }
}

static int do_read(Fixture *f, uint64_t offset)
{
    uint8_t buf[512];

    return blk_pread(f->blk, offset, sizeof(buf), buf);
}

static int do_write(Fixture *f, uint64_t offset)
{
    uint8_t buf[512] = "";

    return blk_pwrite(f->blk, offset, sizeof(buf), buf);
}

static void test_event_names_and_numbers_agree(void **state)
{
    assert_int_equal(blkdebug_event_parse("l2_load"), BLKDBG_L2_LOAD);
    assert_string_equal(blkdebug_event_name(BLKDBG_PWRITEV_DONE),
                        "pwritev_done");
    assert_int_equal(blkdebug_event_parse("nosuch"), -EINVAL);
    for (int i = 0; i < BLKDBG__MAX; i++) {
        assert_int_equal(blkdebug_event_parse(blkdebug_event_name(i)), i);
    }
}

static void test_without_rules_it_is_transparent(void **state)
{
    Fixture *f = *state;
    char buf[4];

    open_with(f, "");
    assert_int_equal(blk_getlength(f->blk), 1 << 20);
    assert_int_equal(blk_pwrite(f->blk, 3, 4, "data"), 0);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 4, 1, 0), 0);
    assert_int_equal(blk_pread(f->blk, 3, 4, buf), 0);
    assert_memory_equal(buf, "d\0ta", 4);
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_truncate(f->blk, 100, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(f->disk->size, 100);
}

static void test_event_arms_an_error(void **state)
{
    Fixture *f = *state;

    open_with(f, "file.inject-error.0.event=write_aio,"
                 "file.inject-error.0.errno=28,file.inject-error.0.once=on");
    assert_int_equal(do_read(f, 0), 0);
    assert_int_equal(do_write(f, 0), -ENOSPC);
    assert_int_equal(do_read(f, 0), 0);
    /* It was for once: the next write does not arm it again. */
    assert_int_equal(do_write(f, 0), 0);
}

static void test_error_without_once_stays(void **state)
{
    Fixture *f = *state;

    open_with(f, "file.inject-error.0.event=write_aio");
    assert_int_equal(do_write(f, 0), -EIO);
    assert_int_equal(do_read(f, 0), -EIO);
}

static void test_nth_request_of_a_type_fails(void **state)
{
    Fixture *f = *state;

    open_with(f, "file.inject-error.0.iotype=write,"
                 "file.inject-error.0.nth=3,file.inject-error.0.errno=5");
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(do_read(f, 0), 0);
        assert_int_equal(do_write(f, 0), i == 3 ? -EIO : 0);
    }
}

static void test_each_iotype_is_told_apart(void **state)
{
    static const char *const types[] = { "read", "write", "zero", "discard",
                                         "flush", "block-status" };

    Fixture *f = *state;

    for (int t = 0; t < 6; t++) {
        g_autofree char *rules = g_strdup_printf(
            "file.inject-error.0.iotype=%s,"
            "file.inject-error.0.immediately=on", types[t]);
        uint64_t n;

        open_with(f, rules);
        assert_int_equal(do_read(f, 0), t == 0 ? -EIO : 0);
        assert_int_equal(do_write(f, 0), t == 1 ? -EIO : 0);
        assert_int_equal(blk_pwrite_zeroes(f->blk, 0, 512, 0),
                         t == 2 ? -EIO : 0);
        assert_int_equal(blk_pdiscard(f->blk, 0, 512), t == 3 ? -EIO : 0);
        assert_int_equal(blk_flush(f->blk), t == 4 ? -EIO : 0);
        assert_int_equal(blk_block_status(f->blk, 0, 512, &n, NULL) < 0,
                         t == 5);
        assert_int_equal(blk_close(f->blk), t == 4 ? -EIO : 0);
        f->blk = NULL;
    }
}

static void test_offset_and_sector_select_requests(void **state)
{
    Fixture *f = *state;

    open_with(f, "file.inject-error.0.sector=10,"
                 "file.inject-error.1.offset=64k,"
                 "file.inject-error.1.errno=28");
    assert_int_equal(do_read(f, 9 * 512), 0);
    assert_int_equal(do_read(f, 10 * 512), -EIO);
    assert_int_equal(do_write(f, 10 * 512 - 100), -EIO);
    assert_int_equal(do_read(f, 11 * 512), 0);
    assert_int_equal(do_read(f, 65536 - 512), 0);
    assert_int_equal(do_read(f, 65536), -ENOSPC);
}

static void test_states_order_rules(void **state)
{
    Fixture *f = *state;

    /* The second read after a write fails, once. */
    open_with(f, "file.set-state.0.event=write_aio,"
                 "file.set-state.0.new_state=2,"
                 "file.set-state.1.event=read_aio,file.set-state.1.state=2,"
                 "file.set-state.1.new_state=3,"
                 "file.inject-error.0.event=read_aio,"
                 "file.inject-error.0.state=3,file.inject-error.0.once=on,"
                 "file.set-state.2.event=read_aio,file.set-state.2.state=3,"
                 "file.set-state.2.new_state=1");
    assert_int_equal(do_read(f, 0), 0);
    assert_int_equal(do_write(f, 0), 0);
    assert_int_equal(do_read(f, 0), 0);
    assert_int_equal(do_read(f, 0), -EIO);
    assert_int_equal(do_read(f, 0), 0);
}

static void test_delay_takes_its_time(void **state)
{
    Fixture *f = *state;
    int64_t begin;

    open_with(f, "file.inject-error.0.iotype=read,"
                 "file.inject-error.0.errno=0,"
                 "file.inject-error.0.delay-ns=20000000");
    begin = aio_now_ns();
    assert_int_equal(do_read(f, 0), 0);
    assert_true(aio_now_ns() - begin >= 20000000);
}

/* --- Suspending --- */

static void count_done(void *opaque, int ret)
{
    assert_int_equal(ret, 0);
    ++*(int *)opaque;
}

static void test_breakpoint_suspends_until_resumed(void **state)
{
    Fixture *f = *state;
    BlockDriverState *bs;
    uint8_t buf[512] = "";
    QEMUIOVector qiov;
    int done = 0;

    open_with(f, "");
    bs = blk_bs(f->blk);
    qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
    assert_int_equal(bdrv_debug_breakpoint(bs, "write_aio", "A"), 0);
    assert_false(bdrv_debug_is_suspended(bs, "A"));
    assert_int_equal(bdrv_debug_resume(bs, "A"), -ENOENT);

    blk_aio_pwritev(f->blk, 0, &qiov, 0, count_done, &done);
    TEST_WAIT_UNTIL(bdrv_debug_is_suspended(bs, "A"));
    blk_aio_pwritev(f->blk, 512, &qiov, 0, count_done, &done);
    TEST_WAIT_UNTIL(done == 1); /* a breakpoint stops one request */
    test_turns(5);
    assert_int_equal(done, 1);
    assert_false(bdrv_debug_is_suspended(bs, "B"));

    assert_int_equal(bdrv_debug_resume(bs, "A"), 0);
    assert_false(bdrv_debug_is_suspended(bs, "A"));
    TEST_WAIT_UNTIL(done == 2);
    assert_int_equal(bdrv_debug_breakpoint(bs, "nosuch", "A"), -EINVAL);
}

static void test_suspend_rule_and_partial_write_events(void **state)
{
    Fixture *f = *state;
    BlockDriverState *bs;
    QEMUIOVector qiov;
    int done = 0;

    open_with(f, "file.align=512,file.suspend.0.event=pwritev_rmw_after_head,"
                 "file.suspend.0.tag=T");
    bs = blk_bs(f->blk);
    qemu_iovec_init_buf(&qiov, "x", 1);
    blk_aio_pwritev(f->blk, 5, &qiov, 0, count_done, &done);
    TEST_WAIT_UNTIL(bdrv_debug_is_suspended(bs, "T"));
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 0);
    assert_int_equal(bdrv_debug_resume(bs, "T"), 0);
    TEST_WAIT_UNTIL(done == 1);
    assert_int_equal(fake_count(f->disk, FAKE_WRITE), 1);
}

static void test_no_blkdebug_is_said(void **state)
{
    Fixture *f = *state;

    assert_int_equal(blk_open(test_ctx, "fake:d", NULL, 0, &f->blk, NULL), 0);
    assert_int_equal(bdrv_debug_breakpoint(blk_bs(f->blk), "write_aio", "A"),
                     -ENOTSUP);
    assert_int_equal(bdrv_debug_resume(blk_bs(f->blk), "A"), -ENOTSUP);
}

/* --- Configuration --- */

static void test_config_file(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = test_path("rules");
    g_autofree char *name = g_strdup_printf("blkdebug:%s:fake:d", path);

    assert_true(g_file_set_contents(path,
        "# two rules of one kind\n"
        "[inject-error]\n"
        "iotype = \"write\"\n"
        "nth = \"1\"\n"
        "errno=\"28\"\n"
        "\n"
        "[inject-error]\n"
        "  iotype = flush\n"
        "  once = on\n", -1, NULL));
    assert_int_equal(blk_open(test_ctx, name, NULL, BDRV_O_RDWR, &f->blk,
                              NULL), 0);
    assert_int_equal(do_write(f, 0), -ENOSPC);
    assert_int_equal(do_write(f, 0), 0);
    assert_int_equal(blk_flush(f->blk), -EIO);
    assert_int_equal(blk_flush(f->blk), 0);
}

static void test_bad_rules_are_refused(void **state)
{
    static const char *const bad[][2] = {
        { "file.inject-error.0.event=nosuch", "nosuch" },
        { "file.inject-error.0.iotype=nosuch", "nosuch" },
        { "file.inject-error.0.evnet=l2_load", "did you mean 'event'" },
        { "file.inject-error.x.event=l2_load", "x.event" },
        { "file.inject-error.0.errno=99999", "errno" },
        { "file.inject-error.0.offset=1,file.inject-error.0.sector=1",
          "sector" },
        { "file.set-state.0.new_state=2", "event" },
        { "file.suspend.0.event=l2_load", "tag" },
        { "file.align=3", "align" },
        { "file.align=0", "align" },
        { "file.config=/nonexistent", "/nonexistent" },
    };
    Fixture *f = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_true(try_open(f, bad[i][0], &error) < 0);
        if (!strstr(error->message, bad[i][1])) {
            fail_msg("%s: %s", bad[i][0], error->message);
        }
    }
}

#define DBG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_event_names_and_numbers_agree),
    DBG_TEST(test_without_rules_it_is_transparent),
    DBG_TEST(test_event_arms_an_error),
    DBG_TEST(test_error_without_once_stays),
    DBG_TEST(test_nth_request_of_a_type_fails),
    DBG_TEST(test_each_iotype_is_told_apart),
    DBG_TEST(test_offset_and_sector_select_requests),
    DBG_TEST(test_states_order_rules),
    DBG_TEST(test_delay_takes_its_time),
    DBG_TEST(test_breakpoint_suspends_until_resumed),
    DBG_TEST(test_suspend_rule_and_partial_write_events),
    DBG_TEST(test_no_blkdebug_is_said),
    DBG_TEST(test_config_file),
    DBG_TEST(test_bad_rules_are_refused),
};

FIRN_TEST_MAIN(tests)
