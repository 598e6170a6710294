/* SPDX-License-Identifier: MIT */
/* write and writev: patterns, files, zeroes, compressed data, vmstate. */
#include "tools/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/vmstate.h"

typedef struct WriteArgs {
    IoReport report;
    bool vmstate;
    bool zero;
    bool has_pattern;
    uint8_t pattern;
    const char *file;     /* to fill the buffer from, or NULL */
    unsigned flags;       /* BDRV_REQ_* */
} WriteArgs;

/* Flags of both commands; those in @allowed only. */
static int parse_flags(WriteArgs *a, int argc, char **argv,
                       const char *allowed)
{
    int c;

    a->pattern = 0xcd;
    while ((c = getopt(argc, argv, allowed)) != -1) {
        switch (c) {
        case 'b':
            a->vmstate = true;
            break;
        case 'c':
            a->flags |= BDRV_REQ_WRITE_COMPRESSED;
            break;
        case 'C':
            a->report.machine = true;
            break;
        case 'f':
            a->flags |= BDRV_REQ_FUA;
            break;
        case 'n':
            a->flags |= BDRV_REQ_NO_FALLBACK;
            break;
        case 'p': /* what it once meant is always so */
            break;
        case 'P':
            a->has_pattern = true;
            if (!io_parse_pattern(optarg, &a->pattern)) {
                return -EINVAL;
            }
            break;
        case 'q':
            a->report.quiet = true;
            break;
        case 's':
            a->file = optarg;
            break;
        case 'u':
            a->flags |= BDRV_REQ_MAY_UNMAP;
            break;
        case 'z':
            a->zero = true;
            break;
        default:
            return io_bad_usage(argv[0]);
        }
    }
    return 0;
}

/* Flags that exclude or need one another. */
static int check_flags(const WriteArgs *a)
{
    bool compressed = a->flags & BDRV_REQ_WRITE_COMPRESSED;
    const char *wrong = NULL;

    if (a->vmstate && a->zero) {
        wrong = "-b and -z exclude one another";
    } else if (a->vmstate && compressed) {
        wrong = "-b and -c exclude one another";
    } else if ((a->flags & BDRV_REQ_FUA) && (a->vmstate || compressed)) {
        wrong = "-f goes neither with -b nor with -c";
    } else if (compressed && a->zero) {
        wrong = "-c and -z exclude one another";
    } else if (!a->zero && (a->flags & BDRV_REQ_NO_FALLBACK)) {
        wrong = "-n goes with -z only";
    } else if (!a->zero && (a->flags & BDRV_REQ_MAY_UNMAP)) {
        wrong = "-u goes with -z only";
    } else if (a->zero + a->has_pattern + (a->file != NULL) > 1) {
        wrong = "of -z, -P and -s only one can be given";
    }
    if (wrong) {
        printf("%s\n", wrong);
    }
    return wrong ? -EINVAL : 0;
}

static int do_write(const WriteArgs *a, uint8_t *buf)
{
    QEMUIOVector qiov;

    if (a->vmstate) {
        return blk_vmstate_pwrite(io.blk, a->report.offset, a->report.bytes,
                                  buf);
    }
    if (a->zero) {
        return blk_pwrite_zeroes(io.blk, a->report.offset, a->report.bytes,
                                 a->flags);
    }
    qemu_iovec_init_buf(&qiov, buf, a->report.bytes);
    return blk_pwritev(io.blk, a->report.offset, a->report.bytes, &qiov,
                       a->flags);
}

static int parse_range(WriteArgs *a, char **argv)
{
    /* Zeroes that are no data have no buffer, so any length will do. */
    bool any = a->flags & BDRV_REQ_NO_FALLBACK;

    if (!io_parse_number(argv[0], &a->report.offset) ||
        !(any ? io_parse_number : io_parse_length)(argv[1],
                                                   &a->report.bytes)) {
        return -EINVAL;
    }
    if ((a->vmstate || (a->flags & BDRV_REQ_WRITE_COMPRESSED)) &&
        (a->report.offset | a->report.bytes) % 512 != 0) {
        printf("offset and length have to be multiples of 512 with -b and "
               "-c\n");
        return -EINVAL;
    }
    return 0;
}

static int cmd_write(int argc, char **argv)
{
    WriteArgs a = { .report.op = "wrote" };
    uint8_t *buf = NULL;
    int ret = parse_flags(&a, argc, argv, "bcCfnpP:qs:uz");

    if (ret < 0) {
        return ret;
    }
    if (optind != argc - 2) {
        return io_bad_usage(argv[0]);
    }
    ret = check_flags(&a);
    if (ret == 0) {
        ret = parse_range(&a, argv + optind);
    }
    if (ret < 0) {
        return ret;
    }
    if (!a.zero) {
        buf = a.file ? io_buffer_from_file(a.report.bytes, a.file)
                     : io_buffer_new(a.report.bytes, a.pattern);
        if (!buf) {
            return -EINVAL;
        }
    }
    a.report.start_ns = aio_now_ns();
    ret = do_write(&a, buf);
    if (ret < 0) {
        io_failed("write", ret);
    } else {
        io_report(&a.report);
    }
    io_buffer_free(buf);
    return ret;
}

static int cmd_writev(int argc, char **argv)
{
    WriteArgs a = { .report.op = "wrote" };
    QEMUIOVector qiov;
    uint8_t *buf;
    int ret = parse_flags(&a, argc, argv, "CfP:q");

    if (ret < 0) {
        return ret;
    }
    if (optind > argc - 2) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(argv[optind], &a.report.offset)) {
        return -EINVAL;
    }
    buf = io_vector_new(&qiov, argc - optind - 1, argv + optind + 1,
                        a.pattern);
    if (!buf) {
        return -EINVAL;
    }
    a.report.bytes = qiov.size;
    a.report.start_ns = aio_now_ns();
    ret = blk_pwritev(io.blk, a.report.offset, qiov.size, &qiov, a.flags);
    if (ret < 0) {
        io_failed("writev", ret);
    } else {
        io_report(&a.report);
    }
    qemu_iovec_destroy(&qiov);
    io_buffer_free(buf);
    return ret;
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
