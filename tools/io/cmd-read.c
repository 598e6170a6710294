/* SPDX-License-Identifier: MIT */
/* read and readv: from the disk or its vmstate. */
#include "tools/io/io.h"

#include <errno.h>

#include "block/vmstate.h"

static int do_read(IoRequest *r)
{
    if (r->vmstate) {
        return blk_vmstate_pread(io.blk, r->report.offset, r->report.bytes,
                                 r->buf->data);
    }
    return blk_preadv(io.blk, r->report.offset, r->report.bytes, &r->qiov, 0);
}

static int run_read(IoRequest *r, int argc, char **argv, const char *letters,
                    bool lengths)
{
    int ret = io_request_flags(r, argc, argv, letters, lengths);

    if (ret == 0 && !r->has_pattern && (r->start_arg || r->length_arg)) {
        ret = io_bad_usage(argv[0]);
    }
    if (ret == 0) {
        ret = io_request_read_args(r);
    }
    if (ret == 0 && r->vmstate) {
        ret = io_request_check_aligned(r);
    }
    if (ret < 0) {
        return ret;
    }
    io_request_start(r);
    return io_request_end(r, do_read(r));
}

static int cmd_read(int argc, char **argv)
{
    g_auto(IoRequest) r;

    io_request_init(&r, "read", "read");
    return run_read(&r, argc, argv, "bCl:pP:qs:v", false);
}

static int cmd_readv(int argc, char **argv)
{
    g_auto(IoRequest) r;

    io_request_init(&r, "read", "readv");
    return run_read(&r, argc, argv, "CP:qv", true);
}

const IoCommand io_read_commands[] = {
    { "read", "r", cmd_read, 2, -1, true, false,
      "[-bCqv] [-P pattern [-s off] [-l len]] off len", "read from the disk",
      "  -b  read the vmstate instead of the disk\n"
      "  -C  one line of numbers: bytes,requests,time,bytes/s,requests/s\n"
      "  -P  check that every byte read is this pattern\n"
      "  -s  with -P: start the check that far into what was read\n"
      "  -l  with -P: check that many bytes only\n"
      "  -p  ignored\n"
      "  -q  no report\n"
      "  -v  hex dump of what was read\n"
      "Example: read -P 0xaa -v 64k 512\n" },
    { "readv", NULL, cmd_readv, 2, -1, true, false,
      "[-Cqv] [-P pattern] off len [len..]",
      "read from the disk into several buffers",
      "  -C, -P, -q, -v  as of read\n"
      "Example: readv -P 0 0 512 1k 4k\n" },
    { 0 },
};
