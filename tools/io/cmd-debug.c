/* SPDX-License-Identifier: MIT */
/*
 * Breakpoints in the block layer, by way of a blkdebug node: stop a request
 * where it passes an event, wait for that, let it go on. Tags are remembered,
 * for commands that would wait for ever otherwise.
 *
 * A command that waits for its own request, which is stopped, can be ended by a
 * signal only: while any is stopped a timer looks for that.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

#include "block/blkdebug-events.h"
#include "util/nearest.h"

#define WATCH_NS (20 * 1000 * 1000)

static GPtrArray *breaks;    /* tags of breakpoints */
static GPtrArray *suspended; /* tags of requests that are stopped */
static AioTimer *watch;      /* armed while there are some */
static bool passing;         /* what stops goes on at once */

static void on_suspended(const char *tag, bool resumed)
{
    guint at;

    if (!resumed) {
        g_ptr_array_add(suspended, g_strdup(tag));
        aio_timer_mod(watch, aio_now_ns() + (passing ? 0 : WATCH_NS));
    } else if (g_ptr_array_find_with_equal_func(suspended, tag, g_str_equal,
                                                &at)) {
        g_ptr_array_remove_index(suspended, at);
    }
    io_print("blkdebug: %s request '%s'\n",
             resumed ? "Resuming" : "Suspended", tag);
}

static void resume_all(void)
{
    while (suspended->len) {
        g_autofree char *tag = g_strdup(g_ptr_array_index(suspended, 0));

        if (bdrv_debug_resume(blk_bs(io.blk), tag) < 0) {
            break;
        }
    }
}

static void on_watch(void *opaque)
{
    if (io.blk && aio_stopping(io.ctx)) {
        io_release_breaks();
    } else if (io.blk && passing) {
        resume_all();
    } else if (suspended->len) {
        aio_timer_mod(watch, aio_now_ns() + WATCH_NS);
    }
}

void io_watch_breaks(void)
{
    watch = aio_timer_new(io.ctx, on_watch, NULL);
    breaks = g_ptr_array_new_with_free_func(g_free);
    suspended = g_ptr_array_new_with_free_func(g_free);
    bdrv_debug_set_notify(on_suspended);
}

const char *io_suspended_tag(void)
{
    return suspended->len ? g_ptr_array_index(suspended, 0) : NULL;
}

void io_pass_breaks(bool on)
{
    passing = on;
    if (on) {
        resume_all();
    }
}

void io_release_breaks(void)
{
    for (guint i = 0; i < breaks->len; i++) {
        (void)bdrv_debug_remove_breakpoint(blk_bs(io.blk),
                                           g_ptr_array_index(breaks, i));
    }
    g_ptr_array_set_size(breaks, 0);
    resume_all(); /* those of rules that were given as options */
}

/* There is no breakpoint @tag: say so if another's name is near. */
static void offer_tag(const char *tag)
{
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, tag);
    for (guint i = 0; i < breaks->len; i++) {
        nearest_offer(&n, g_ptr_array_index(breaks, i));
    }
    hint = nearest_hint(&n, "", "");
    if (*hint && strcmp(tag, nearest_found(&n))) {
        io_error("there is no breakpoint '%s'%s", tag, hint);
    }
}

static int cmd_break(int argc, char **argv)
{
    int ret = bdrv_debug_breakpoint(blk_bs(io.blk), argv[1], argv[2]);
    g_autoptr(GError) error = NULL;

    if (ret < 0) {
        io_print("Could not set breakpoint: %s\n",
                 g_strerror(ret == -EINVAL ? ENOENT : -ret));
        if (blkdebug_event_parse(argv[1]) < 0) {
            (void)blkdebug_unknown_event(argv[1], &error);
            io_error("%s", error->message);
        }
    } else {
        g_ptr_array_add(breaks, g_strdup(argv[2]));
    }
    return ret;
}

static int cmd_remove_break(int argc, char **argv)
{
    int ret = bdrv_debug_remove_breakpoint(blk_bs(io.blk), argv[1]);

    if (ret < 0) {
        io_print("Could not remove breakpoint %s: %s\n", argv[1],
                 g_strerror(-ret));
        offer_tag(argv[1]);
    }
    return ret;
}

static int cmd_resume(int argc, char **argv)
{
    int ret = bdrv_debug_resume(blk_bs(io.blk), argv[1]);

    if (ret < 0) {
        io_print("Could not resume request: %s\n", g_strerror(-ret));
        offer_tag(argv[1]);
    }
    return ret;
}

static int cmd_wait_break(int argc, char **argv)
{
    BlockDriverState *bs = blk_bs(io.blk);

    AIO_WAIT_WHILE(io.ctx, !bdrv_debug_is_suspended(bs, argv[1]) &&
                           blk_in_flight(io.blk) > 0 &&
                           !aio_stopping(io.ctx));
    if (!bdrv_debug_is_suspended(bs, argv[1])) {
        io_error("wait_break: no request is running that could stop as '%s'",
                 argv[1]);
        return -ENOENT;
    }
    return aio_check_stop();
}

const IoCommand io_debug_commands[] = {
    { "break", NULL, cmd_break, 2, 2, true, false, "event tag",
      "stop the next request that passes event, under the name tag",
      "Needs a blkdebug driver below the image.\n"
      "Example: break write_aio A\n" },
    { "remove_break", NULL, cmd_remove_break, 1, 1, true, false, "tag",
      "take breakpoints back; what they have stopped goes on",
      "Example: remove_break A\n" },
    { "resume", NULL, cmd_resume, 1, 1, true, false, "tag",
      "let the request stopped under this name go on",
      "Example: resume A\n" },
    { "wait_break", NULL, cmd_wait_break, 1, 1, true, false, "tag",
      "wait until a request has stopped under this name",
      "Example: wait_break A\n" },
    { 0 },
};
