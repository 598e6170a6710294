/* SPDX-License-Identifier: MIT */
/* Commands on the image as a whole: discard, flush, truncate, length, info. */
#include "tools/io/io.h"

#include <errno.h>

#include "block/info.h"
#include "tools/json-lines.h"

static int cmd_discard(int argc, char **argv)
{
    g_auto(IoRequest) r;
    int ret;

    io_request_init(&r, "discard", "discard");
    ret = io_request_flags(&r, argc, argv, "Cq", false);
    if (ret == 0) {
        ret = io_request_range(&r, false);
    }
    if (ret < 0) {
        return ret;
    }
    io_request_start(&r);
    return io_request_end(&r, blk_pdiscard(io.blk, r.report.offset,
                                           r.report.bytes));
}

static int cmd_flush(int argc, char **argv)
{
    int ret = blk_flush(io.blk);

    if (ret < 0) {
        io_error("flush failed: %s", g_strerror(-ret));
    }
    return ret;
}

static int cmd_truncate(int argc, char **argv)
{
    BdrvPrealloc prealloc = BDRV_PREALLOC_OFF;
    GError *error = NULL;
    uint64_t size;
    IoFlags f;
    int c, ret;

    io_flags_init(&f, argc, argv, "m:");
    while ((c = io_flags_next(&f)) > 0) {
        ret = bdrv_prealloc_parse(f.arg, &prealloc, &error);
        if (ret < 0) {
            io_error("%s", error->message);
            g_error_free(error);
            return ret;
        }
    }
    if (c < 0) {
        return c;
    }
    if (f.nb_words != 1) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(f.words[0], &size)) {
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
    char text[IO_BYTES_TEXT];

    if (bytes < 0) {
        return io_failed("length", (int)bytes);
    }
    io_print("%s\n", io_format_bytes(text, (double)bytes));
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
    char cluster[IO_BYTES_TEXT], vmstate[IO_BYTES_TEXT];

    io_print("format name: %s\n", bdrv_get_format_name(blk_bs(io.blk)));
    if (aio_run_blocking(io.ctx, info_entry, &info) < 0) {
        info = (BdrvInfo) { 0 };
    }
    io_print("cluster size: %s\nvm state offset: %s\n",
             io_format_bytes(cluster, (double)info.cluster_size),
             io_format_bytes(vmstate, (double)info.vm_state_offset));
    if (blk_image_info(io.blk, &image, NULL) == 0 && image->specific) {
        io_print("Format specific information:\n");
        io_flush_output();
        json_lines_print(image->specific, 1);
        fflush(stdout); /* it does not come to us */
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
