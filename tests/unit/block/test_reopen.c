/* SPDX-License-Identifier: MIT */
/*
 * block/reopen.c: what a tree keeps when it is opened anew: contents, locks
 * without a gap, the state of blkdebug; and that a failure leaves it alone.
 * Another process is played by a descriptor of its own, whose locks are its
 * own too.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "block/block_int.h"
#include "block/file_int.h"
#include "tests/support/helpers.h"

static char *path;
static BlockBackend *blk;

static int setup(void **state)
{
    BdrvOptions *o = bdrv_options_new();

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    path = test_path("i.qcow2");
    bdrv_options_set(o, "size", "1M");
    return blk_create(test_ctx, "qcow2", path, o, NULL);
}

static int teardown(void **state)
{
    blk_close(blk);
    blk = NULL;
    g_free(path);
    return test_ctx_teardown(state);
}

static void open_image(const char *driver, const char *more, unsigned flags)
{
    g_autofree char *text = g_strdup_printf("%s=%s%s", driver, path, more);
    g_autoptr(GError) error = NULL;
    BdrvOptions *o = NULL;

    assert_int_equal(bdrv_options_parse(&o, text, NULL), 0);
    bdrv_options_set(o, "driver", "qcow2");
    if (blk_open(test_ctx, NULL, o, flags, &blk, &error) < 0) {
        fail_msg("%s", error->message);
    }
}

static int reopen(const char *changes, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    BdrvOptions *o = NULL;
    int ret;

    assert_int_equal(bdrv_options_parse(&o, changes, NULL), 0);
    ret = blk_reopen(&blk, o, flags, &error);
    assert_int_equal(ret < 0, error != NULL);
    assert_non_null(blk);
    return ret;
}

static int put(int c)
{
    uint8_t buf[512];

    memset(buf, c, sizeof(buf));
    return blk_pwrite(blk, 0, sizeof(buf), buf);
}

static int get(void)
{
    uint8_t buf[512];
    int ret = blk_pread(blk, 0, sizeof(buf), buf);

    return ret < 0 ? ret : buf[511];
}

/* Could another process use the image now? */
static int other_opens(bool writer)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int ret = file_lock(fd, writer, true, path, NULL);

    file_unlock(fd);
    close(fd);
    return ret;
}

static void test_contents_and_mode_follow(void **state)
{
    open_image("file.filename", "", BDRV_O_RDWR);
    assert_int_equal(put('a'), 0);
    assert_int_equal(reopen("", 0), 0);
    assert_true(blk_is_read_only(blk));
    assert_int_equal(put('b'), -EROFS);
    assert_int_equal(get(), 'a');
    assert_int_equal(other_opens(false), 0); /* the writer's locks are gone */
    assert_int_equal(reopen("lazy-refcounts=on", BDRV_O_RDWR), 0);
    assert_int_equal(put('b'), 0);
    assert_int_equal(get(), 'b');
    assert_int_equal(other_opens(false), -EAGAIN);
}

static void test_another_reader_prevents_writing(void **state)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    open_image("file.filename", "", 0);
    assert_int_equal(file_lock(fd, false, true, path, NULL), 0);
    assert_int_equal(reopen("", BDRV_O_RDWR), -EAGAIN);
    assert_true(blk_is_read_only(blk));
    assert_int_equal(get(), 0);
    assert_int_equal(other_opens(false), 0);
    assert_int_equal(other_opens(true), -EAGAIN);
    file_unlock(fd);
    close(fd);
    assert_int_equal(reopen("", BDRV_O_RDWR), 0);
}

static void test_options_that_cannot_be_leave_all_as_it_was(void **state)
{
    open_image("file.filename", "", 0);
    assert_int_equal(reopen("lazy-refcounts=maybe", BDRV_O_RDWR), -EINVAL);
    assert_true(blk_is_read_only(blk));
    assert_int_equal(get(), 0);
    assert_int_equal(other_opens(false), 0); /* not a writer's locks */
    assert_int_equal(other_opens(true), -EAGAIN);
    assert_int_equal(reopen("encrypt.format=luks", 0), -EINVAL);
    assert_int_equal(get(), 0);
}

static void test_the_nodes_stay_what_they_are(void **state)
{
    static const char *const other[] = {
        "driver=raw", "filename=/dev/null", "file.driver=blkdebug",
        "file.filename=/dev/null", "file=", "file.locking=on", "backing=",
        "backing.driver=qcow2", "data-file.filename=/dev/null",
        "allow-data-file=on",
    };
    g_autofree char *same = g_strdup_printf(
        "driver=qcow2,file.driver=file,file.filename=%s,file.locking=auto",
        path);

    open_image("file.filename", ",file.locking=auto", BDRV_O_RDWR);
    assert_int_equal(put('a'), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(other); i++) {
        assert_int_equal(reopen(other[i], BDRV_O_RDWR), -EINVAL);
        assert_int_equal(get(), 'a');
        assert_int_equal(other_opens(false), -EAGAIN);
    }
    assert_int_equal(reopen(same, BDRV_O_RDWR), 0);
    assert_int_equal(get(), 'a');
}

typedef struct Intruder {
    GThread *thread;
    gint stop, successes, attempts;
} Intruder;

static void *intrude(void *opaque)
{
    Intruder *i = opaque;

    while (!g_atomic_int_get(&i->stop)) {
        if (other_opens(true) == 0) {
            g_atomic_int_inc(&i->successes);
        }
        g_atomic_int_inc(&i->attempts);
    }
    return NULL;
}

static void test_nobody_comes_in_between(void **state)
{
    Intruder i = { 0 };

    open_image("file.filename", "", BDRV_O_RDWR);
    i.thread = g_thread_new("intruder", intrude, &i);
    for (unsigned n = 0; n < 200; n++) {
        /* An attempt holds locks itself for a moment: -EAGAIN is possible
         * when they become a writer's. */
        int ret = reopen("", n % 2 ? BDRV_O_RDWR : 0);

        assert_true(ret == 0 || ret == -EAGAIN);
    }
    g_atomic_int_set(&i.stop, 1);
    g_thread_join(i.thread);
    assert_true(i.attempts > 0);
    assert_int_equal(i.successes, 0);
}

static void test_blkdebug_goes_on_where_it_was(void **state)
{
    open_image("file.driver=blkdebug,file.image",
               ",file.inject-error.0.event=write_aio,"
               "file.inject-error.0.once=on,file.inject-error.0.errno=28,"
               "file.set-state.0.event=read_aio,file.set-state.0.new_state=2,"
               "file.inject-error.1.event=read_aio,"
               "file.inject-error.1.state=2", BDRV_O_RDWR);
    assert_int_equal(put('a'), -ENOSPC);
    assert_int_equal(put('a'), 0);
    assert_int_equal(get(), 'a'); /* now in state 2 */
    assert_int_equal(reopen("", BDRV_O_RDWR), 0);
    assert_int_equal(put('b'), 0); /* it was for once */
    assert_int_equal(bdrv_debug_breakpoint(blk_bs(blk), "flush_to_os", "A"),
                     0);
    assert_int_equal(bdrv_debug_remove_breakpoint(blk_bs(blk), "A"), 0);
    assert_int_equal(get(), -EIO);
}

#define REOPEN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static const struct CMUnitTest tests[] = {
    REOPEN_TEST(test_contents_and_mode_follow),
    REOPEN_TEST(test_another_reader_prevents_writing),
    REOPEN_TEST(test_options_that_cannot_be_leave_all_as_it_was),
    REOPEN_TEST(test_the_nodes_stay_what_they_are),
    REOPEN_TEST(test_nobody_comes_in_between),
    REOPEN_TEST(test_blkdebug_goes_on_where_it_was),
};

FIRN_TEST_MAIN(tests)
