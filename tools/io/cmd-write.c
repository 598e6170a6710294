/* SPDX-License-Identifier: MIT */
/* write and writev: patterns, files, zeroes, compressed data, vmstate. */
#include "tools/io/io.h"

#include <errno.h>

#include "block/vmstate.h"

/* Flags that exclude or need one another. */
static int check_flags(const IoRequest *r)
{
    bool compressed = r->flags & BDRV_REQ_WRITE_COMPRESSED;
    const char *wrong = NULL;

    if (r->vmstate && r->zero) {
        wrong = "-b and -z exclude one another";
    } else if (r->vmstate && compressed) {
        wrong = "-b and -c exclude one another";
    } else if ((r->flags & BDRV_REQ_FUA) && (r->vmstate || compressed)) {
        wrong = "-f goes neither with -b nor with -c";
    } else if (compressed && r->zero) {
        wrong = "-c and -z exclude one another";
    } else if (!r->zero && (r->flags & BDRV_REQ_NO_FALLBACK)) {
        wrong = "-n goes with -z only";
    } else if (!r->zero && (r->flags & BDRV_REQ_MAY_UNMAP)) {
        wrong = "-u goes with -z only";
    } else if (r->zero + r->has_pattern + (r->start_arg != NULL) > 1) {
        wrong = "of -z, -P and -s only one can be given";
    }
    if (wrong) {
        io_print("%s\n", wrong);
    }
    return wrong ? -EINVAL : 0;
}

static int do_write(IoRequest *r)
{
    if (r->vmstate) {
        return blk_vmstate_pwrite(io.blk, r->report.offset, r->report.bytes,
                                  r->buf->data);
    }
    if (r->zero) {
        return blk_pwrite_zeroes(io.blk, r->report.offset, r->report.bytes,
                                 r->flags);
    }
    return blk_pwritev(io.blk, r->report.offset, r->report.bytes, &r->qiov,
                       r->flags);
}

/* Offset, length and what is to be written. */
static int write_args(IoRequest *r)
{
    int ret;

    if (r->zero) {
        /* Zeroes that are no data have no buffer, so any length will do. */
        return io_request_range(r, r->flags & BDRV_REQ_NO_FALLBACK);
    }
    ret = io_request_vector(r, r->start_arg ? IO_NO_FILL : r->pattern);
    if (ret == 0 && (r->vmstate || (r->flags & BDRV_REQ_WRITE_COMPRESSED))) {
        ret = io_request_check_aligned(r);
    }
    if (ret == 0 && r->start_arg &&
        !io_buffer_load(r->buf, r->report.bytes, r->start_arg)) {
        ret = -EINVAL;
    }
    return ret;
}

static int run_write(IoRequest *r, int argc, char **argv, const char *letters,
                     bool lengths)
{
    int ret;

    r->pattern = IO_WRITE_PATTERN;
    ret = io_request_flags(r, argc, argv, letters, lengths);
    if (ret == 0) {
        ret = check_flags(r);
    }
    if (ret == 0) {
        ret = write_args(r);
    }
    if (ret < 0) {
        return ret;
    }
    io_request_start(r);
    return io_request_end(r, do_write(r));
}

static int cmd_write(int argc, char **argv)
{
    g_auto(IoRequest) r;

    io_request_init(&r, "wrote", "write");
    return run_write(&r, argc, argv, "bcCfnpP:qs:uz", false);
}

static int cmd_writev(int argc, char **argv)
{
    g_auto(IoRequest) r;

    io_request_init(&r, "wrote", "writev");
    return run_write(&r, argc, argv, "CfP:q", true);
}

const IoCommand io_write_commands[] = {
    { "write", "w", cmd_write, 2, -1, true, true,
      "[-bcCfnquz] [-P pattern | -s file] off len", "write to the disk",
      "Bytes are 0xcd unless said otherwise.\n"
      "  -b  write the vmstate instead of the disk\n"
      "  -c  compressed: whole clusters\n"
      "  -C  one line of numbers: bytes,requests,time,bytes/s,requests/s\n"
      "  -f  durable when it returns (FUA)\n"
      "  -n  with -z: fail rather than write zeroes as data\n"
      "  -P  write this byte\n"
      "  -p  ignored\n"
      "  -q  no report\n"
      "  -s  write what is in this file, repeated\n"
      "  -u  with -z: the space may be given up\n"
      "  -z  write zeroes\n"
      "Example: write -P 0xaa 64k 4k\n" },
    { "writev", NULL, cmd_writev, 2, -1, true, true,
      "[-Cfq] [-P pattern] off len [len..]",
      "write to the disk from several buffers",
      "  -C, -f, -P, -q  as of write\n"
      "Example: writev -P 7 0 512 1k 4k\n" },
    { 0 },
};
