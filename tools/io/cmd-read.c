/* SPDX-License-Identifier: MIT */
/* read and readv: from the disk or its vmstate, verified, dumped, reported. */
#include "tools/io/io.h"

#include <errno.h>
#include <unistd.h>

#include "block/vmstate.h"

typedef struct ReadArgs {
    IoReport report;
    bool vmstate;
    bool dump;
    bool verify;
    bool has_start, has_length;
    uint8_t pattern;
    uint64_t start;       /* of what is verified */
    uint64_t length;
} ReadArgs;

/* Flags of both commands; those in @allowed only. */
static int parse_flags(ReadArgs *a, int argc, char **argv,
                       const char *allowed)
{
    int c;

    while ((c = getopt(argc, argv, allowed)) != -1) {
        switch (c) {
        case 'b':
            a->vmstate = true;
            break;
        case 'C':
            a->report.machine = true;
            break;
        case 'l':
            a->has_length = true;
            if (!io_parse_number(optarg, &a->length)) {
                return -EINVAL;
            }
            break;
        case 'p': /* what it once meant is always so */
            break;
        case 'P':
            a->verify = true;
            if (!io_parse_pattern(optarg, &a->pattern)) {
                return -EINVAL;
            }
            break;
        case 'q':
            a->report.quiet = true;
            break;
        case 's':
            a->has_start = true;
            if (!io_parse_number(optarg, &a->start)) {
                return -EINVAL;
            }
            break;
        case 'v':
            a->dump = true;
            break;
        default:
            return io_bad_usage(argv[0]);
        }
    }
    return 0;
}

/* Which part of @bytes is compared with the pattern? */
static int set_verify_range(ReadArgs *a, uint64_t bytes)
{
    if (!a->has_length) {
        a->length = a->start <= bytes ? bytes - a->start : 0;
    }
    if (a->start > bytes || a->length > bytes - a->start) {
        printf("what is to be verified does not lie within what is read\n");
        return -EINVAL;
    }
    return 0;
}

static bool is_sector_aligned(const char *what, uint64_t value)
{
    if (value % 512 != 0) {
        printf("%s %" G_GUINT64_FORMAT " is no multiple of 512\n", what,
               value);
        return false;
    }
    return true;
}

/* What was read is in @buf: verify, dump and report it. */
static int finish(ReadArgs *a, const uint8_t *buf)
{
    int ret = 0;

    if (a->verify && !io_buffer_is(buf + a->start, a->pattern, a->length)) {
        printf("Pattern verification failed at offset %" G_GUINT64_FORMAT
               ", %" G_GUINT64_FORMAT " bytes\n",
               a->report.offset + a->start, a->length);
        ret = -EINVAL;
    }
    if (!a->report.quiet && a->dump) {
        io_buffer_dump(buf, a->report.offset, a->report.bytes);
    }
    return ret;
}

static int cmd_read(int argc, char **argv)
{
    ReadArgs a = { .report.op = "read" };
    uint8_t *buf;
    int ret = parse_flags(&a, argc, argv, "bCl:pP:qs:v");

    if (ret < 0) {
        return ret;
    }
    if (optind != argc - 2 || (!a.verify && (a.has_start || a.has_length))) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(argv[optind], &a.report.offset) ||
        !io_parse_length(argv[optind + 1], &a.report.bytes) ||
        set_verify_range(&a, a.report.bytes) < 0) {
        return -EINVAL;
    }
    if (a.vmstate && (!is_sector_aligned("offset", a.report.offset) ||
                      !is_sector_aligned("length", a.report.bytes))) {
        return -EINVAL;
    }
    buf = io_buffer_new(a.report.bytes, 0xab);
    a.report.start_ns = aio_now_ns();
    ret = a.vmstate ? blk_vmstate_pread(io.blk, a.report.offset,
                                        a.report.bytes, buf)
                    : blk_pread(io.blk, a.report.offset, a.report.bytes, buf);
    if (ret < 0) {
        io_failed("read", ret);
    } else {
        ret = finish(&a, buf);
        io_report(&a.report);
    }
    io_buffer_free(buf);
    return ret;
}

static int cmd_readv(int argc, char **argv)
{
    ReadArgs a = { .report.op = "read" };
    QEMUIOVector qiov;
    uint8_t *buf;
    int ret = parse_flags(&a, argc, argv, "CP:qv");

    if (ret < 0) {
        return ret;
    }
    if (optind > argc - 2) {
        return io_bad_usage(argv[0]);
    }
    if (!io_parse_number(argv[optind], &a.report.offset)) {
        return -EINVAL;
    }
    buf = io_vector_new(&qiov, argc - optind - 1, argv + optind + 1, 0xab);
    if (!buf) {
        return -EINVAL;
    }
    a.report.bytes = a.length = qiov.size;
    a.report.start_ns = aio_now_ns();
    ret = blk_preadv(io.blk, a.report.offset, qiov.size, &qiov, 0);
    if (ret < 0) {
        io_failed("readv", ret);
    } else {
        ret = finish(&a, buf);
        io_report(&a.report);
    }
    qemu_iovec_destroy(&qiov);
    io_buffer_free(buf);
    return ret;
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
