/* SPDX-License-Identifier: MIT */
/*
 * Breakpoints in the block layer, by way of a blkdebug node: stop a request
 * where it passes an event, wait for that, let it go on.
 */
#include "tools/io/io.h"

#include <errno.h>

static int cmd_break(int argc, char **argv)
{
    int ret = bdrv_debug_breakpoint(blk_bs(io.blk), argv[1], argv[2]);

    if (ret < 0) {
        printf("Could not set breakpoint: %s\n",
               g_strerror(ret == -EINVAL ? ENOENT : -ret));
    }
    return ret;
}

static int cmd_remove_break(int argc, char **argv)
{
    int ret = bdrv_debug_remove_breakpoint(blk_bs(io.blk), argv[1]);

    if (ret < 0) {
        printf("Could not remove breakpoint %s: %s\n", argv[1],
               g_strerror(-ret));
    }
    return ret;
}

static int cmd_resume(int argc, char **argv)
{
    int ret = bdrv_debug_resume(blk_bs(io.blk), argv[1]);

    if (ret < 0) {
        printf("Could not resume request: %s\n", g_strerror(-ret));
    }
    return ret;
}

static int cmd_wait_break(int argc, char **argv)
{
    AIO_WAIT_WHILE(io.ctx, !bdrv_debug_is_suspended(blk_bs(io.blk), argv[1]));
    return 0;
}

const IoCommand io_debug_commands[] = {
    { "break", NULL, cmd_break, 2, 2, true, false, "event tag",
      "stop the next request that passes event, under the name tag",
      "Needs a blkdebug driver below the image.\n"
      "Example: break write_aio A\n" },
    { "remove_break", NULL, cmd_remove_break, 1, 1, true, false, "tag",
      "take breakpoints back; what they have stopped goes on", NULL },
    { "resume", NULL, cmd_resume, 1, 1, true, false, "tag",
      "let the request stopped under this name go on", NULL },
    { "wait_break", NULL, cmd_wait_break, 1, 1, true, false, "tag",
      "wait until a request has stopped under this name", NULL },
    { 0 },
};
