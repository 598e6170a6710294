/* SPDX-License-Identifier: MIT */
/* Commands on the image as a whole: discard, flush, truncate, length, info. */
#include "tools/io/io.h"

#include <errno.h>
#include <unistd.h>

#include "block/info.h"
#include "tools/json-lines.h"

static int cmd_discard(int argc, char **argv)
{
    IoReport r = { .op = "discard" };
    int c, ret;

    while ((c = getopt(argc, argv, "Cq")) != -1) {
        switch (c) {
        case 'C':
            r.machine = true;
            break;
        case 'q':
            r.quiet = true;
            break;
        default:
            return io_bad_usage(argv[0]);
        }
    }
    if (optind != argc - 2) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(argv[optind], &r.offset) ||
        !io_parse_length(argv[optind + 1], &r.bytes)) {
        return -EINVAL;
    }
    r.start_ns = aio_now_ns();
    ret = blk_pdiscard(io.blk, r.offset, r.bytes);
    if (ret < 0) {
        return io_failed("discard", ret);
    }
    io_report(&r);
    return 0;
}

static int cmd_flush(int argc, char **argv)
{
    int ret = blk_flush(io.blk);

    return ret < 0 ? io_failed("flush", ret) : 0;
}

static int cmd_truncate(int argc, char **argv)
{
    BdrvPrealloc prealloc = BDRV_PREALLOC_OFF;
    GError *error = NULL;
    uint64_t size;
    int c, ret;

    while ((c = getopt(argc, argv, "m:")) != -1) {
        if (c != 'm') {
            return io_bad_usage(argv[0]);
        }
        ret = bdrv_prealloc_parse(optarg, &prealloc, &error);
        if (ret < 0) {
            io_error("%s", error->message);
            g_error_free(error);
            return ret;
        }
    }
    if (optind != argc - 1) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(argv[optind], &size)) {
        return -EINVAL;
    }
    ret = blk_truncate(io.blk, size, prealloc, &error);
    if (ret < 0) {
        io_error("%s", error ? error->message : g_strerror(-ret));
        g_clear_error(&error);
    }
    return ret;
}

static int cmd_length(int argc, char **argv)
{
    int64_t bytes = blk_getlength(io.blk);
    g_autofree char *text = NULL;

    if (bytes < 0) {
        return io_failed("length", (int)bytes);
    }
    text = io_format_bytes((double)bytes);
    printf("%s\n", text);
    return 0;
}

static int coroutine_fn info_entry(void *opaque)
{
    return bdrv_co_get_info(blk_bs(io.blk), opaque);
}

static int cmd_info(int argc, char **argv)
{
    g_autoptr(BlkImageInfo) image = NULL;
    BdrvInfo info = { 0 };
    g_autofree char *cluster = NULL, *vmstate = NULL;

    printf("format name: %s\n", bdrv_get_format_name(blk_bs(io.blk)));
    if (aio_run_blocking(io.ctx, info_entry, &info) < 0) {
        info = (BdrvInfo) { 0 };
    }
    cluster = io_format_bytes((double)info.cluster_size);
    vmstate = io_format_bytes((double)info.vm_state_offset);
    printf("cluster size: %s\nvm state offset: %s\n", cluster, vmstate);
    if (blk_image_info(io.blk, &image, NULL) == 0 && image->specific) {
        printf("Format specific information:\n");
        json_lines_print(image->specific, 1);
    }
    return 0;
}

const IoCommand io_image_commands[] = {
    { "discard", "d", cmd_discard, 2, -1, true, true, "[-Cq] off len",
      "tell the disk that a range is not needed any more",
      "It is passed on unless the image was opened with -d ignore.\n"
      "  -C  one line of numbers: bytes,requests,time,bytes/s,requests/s\n"
      "  -q  no report\n"
      "Example: discard 64k 64k\n" },
    { "flush", "f", cmd_flush, 0, 0, true, false, "",
      "make all that was written durable", NULL },
    { "truncate", "t", cmd_truncate, 1, 3, true, true,
      "[-m prealloc] size", "change the size of the disk",
      "  -m  off, metadata, falloc or full: what a longer disk gets\n"
      "Example: truncate -m falloc 2G\n" },
    { "length", "l", cmd_length, 0, 0, true, false, "",
      "the size of the disk", NULL },
    { "info", "i", cmd_info, 0, 0, true, false, "",
      "what kind of image it is", NULL },
    { 0 },
};
