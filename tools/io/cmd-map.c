/* SPDX-License-Identifier: MIT */
/* alloc and map: what the image itself holds, its backing file left aside. */
#include "tools/io/io.h"

#include <errno.h>

static int cmd_alloc(int argc, char **argv)
{
    uint64_t offset, count = 512, end, done = 0, allocated = 0;
    char where[IO_BYTES_TEXT];

    if (!io_parse_number(argv[1], &offset) ||
        (argc == 3 && !io_parse_number(argv[2], &count))) {
        return -EINVAL;
    }
    end = blk_getlength(io.blk);
    count = offset < end ? MIN(count, end - offset) : 0;
    while (done < count) {
        uint64_t bytes;
        int ret = blk_is_allocated(io.blk, offset + done, count - done,
                                   &bytes);

        if (ret < 0) {
            return io_failed("alloc", ret);
        }
        allocated += ret ? bytes : 0;
        done += bytes;
    }
    io_print("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT
             " bytes allocated at offset %s\n", allocated, count,
             io_format_bytes(where, (double)offset));
    return 0;
}

static void print_run(uint64_t offset, uint64_t bytes, bool allocated)
{
    char length[IO_BYTES_TEXT], where[IO_BYTES_TEXT];

    io_print("%s (0x%" G_GINT64_MODIFIER "x) bytes %s at offset %s "
             "(0x%" G_GINT64_MODIFIER "x)\n",
             io_format_bytes(length, (double)bytes), bytes,
             allocated ? "    allocated" : "not allocated",
             io_format_bytes(where, (double)offset), offset);
}

static int cmd_map(int argc, char **argv)
{
    uint64_t end = blk_getlength(io.blk), start = 0, at, bytes;
    int last = -1;

    for (at = 0; at < end; at += bytes) {
        int ret = blk_is_allocated(io.blk, at, end - at, &bytes);

        if (ret < 0) {
            return io_failed("map", ret);
        }
        if (last >= 0 && ret != last) {
            print_run(start, at - start, last);
            start = at;
        }
        last = ret;
    }
    if (last >= 0) {
        print_run(start, end - start, last);
    }
    return 0;
}

const IoCommand io_map_commands[] = {
    { "alloc", "a", cmd_alloc, 1, 2, true, false, "offset [count]",
      "how much from offset on the image holds itself",
      "count is 512 when it is not given.\n"
      "Example: alloc 0 1M\n" },
    { "map", NULL, cmd_map, 0, 0, true, false, "",
      "which parts of the disk the image holds itself", NULL },
    { 0 },
};
