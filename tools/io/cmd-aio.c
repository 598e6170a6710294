/* SPDX-License-Identifier: MIT */
/*
 * aio_read, aio_write, multiwrite and aio_flush. A request is an IoRequest
 * that lives until its callback has reported it; a failure or a mismatch then
 * is only told, since the command was over long ago. multiwrite starts all its
 * writes and waits for them.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct IoRequest {
    IoReport report;
    const char *name;     /* of the request, for failures */
    QEMUIOVector qiov;
    bool has_qiov;
    uint8_t *buf;
    bool verify, dump, zero, has_pattern, invalid;
    uint8_t pattern;
    unsigned flags;       /* BDRV_REQ_* */
} IoRequest;

static void request_free(IoRequest *r)
{
    if (r->has_qiov) {
        qemu_iovec_destroy(&r->qiov);
    }
    io_buffer_free(r->buf);
    g_free(r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IoRequest, request_free)

static void aio_done(void *opaque, int ret)
{
    IoRequest *r = opaque;

    io.aio--;
    if (ret < 0) {
        io_failed(r->name, ret);
    } else {
        if (r->verify && !io_buffer_is(r->buf, r->pattern, r->report.bytes)) {
            printf("Pattern verification failed at offset %" G_GUINT64_FORMAT
                   ", %" G_GUINT64_FORMAT " bytes\n", r->report.offset,
                   r->report.bytes);
        }
        if (!r->report.quiet && r->dump) {
            io_buffer_dump(r->buf, r->report.offset, r->report.bytes);
        }
        io_report(&r->report);
    }
    request_free(r);
}

static int parse_flags(IoRequest *r, int argc, char **argv,
                       const char *allowed)
{
    int c;

    while ((c = getopt(argc, argv, allowed)) != -1) {
        switch (c) {
        case 'C':
            r->report.machine = true;
            break;
        case 'f':
            r->flags |= BDRV_REQ_FUA;
            break;
        case 'i':
            r->invalid = true;
            break;
        case 'P':
            r->has_pattern = true;
            if (!io_parse_pattern(optarg, &r->pattern)) {
                return -EINVAL;
            }
            break;
        case 'q':
            r->report.quiet = true;
            break;
        case 'u':
            r->flags |= BDRV_REQ_MAY_UNMAP;
            break;
        case 'v':
            r->dump = true;
            break;
        case 'z':
            r->zero = true;
            break;
        default:
            return io_bad_usage(argv[0]);
        }
    }
    return optind > argc - 2 ? io_bad_usage(argv[0]) : 0;
}

/* Offset and lengths, and the buffer these are cut from. */
static int parse_range(IoRequest *r, int argc, char **argv, int fill)
{
    if (!io_parse_number(argv[optind], &r->report.offset)) {
        return -EINVAL;
    }
    r->buf = io_vector_new(&r->qiov, argc - optind - 1, argv + optind + 1,
                           fill);
    if (!r->buf) {
        return -EINVAL;
    }
    r->has_qiov = true;
    r->report.bytes = r->qiov.size;
    return 0;
}

static int cmd_aio_read(int argc, char **argv)
{
    g_autoptr(IoRequest) r = g_new0(IoRequest, 1);
    int ret = parse_flags(r, argc, argv, "CiP:qv");

    if (ret < 0) {
        return ret;
    }
    r->name = "readv";
    r->report.op = "read";
    r->verify = r->has_pattern;
    if (r->invalid) {
        printf("injecting invalid read request\n");
        return 0;
    }
    ret = parse_range(r, argc, argv, 0xab);
    if (ret == 0) {
        io.aio++;
        r->report.start_ns = aio_now_ns();
        blk_aio_preadv(io.blk, r->report.offset, &r->qiov, 0, aio_done, r);
        g_steal_pointer(&r);
    }
    return ret;
}

static int aio_write_zeroes(IoRequest *r, int argc, char **argv)
{
    if (argc - optind != 2) {
        printf("-z takes one length only\n");
        return -EINVAL;
    }
    if (!io_parse_number(argv[optind], &r->report.offset) ||
        !io_parse_length(argv[optind + 1], &r->report.bytes)) {
        return -EINVAL;
    }
    io.aio++;
    r->report.start_ns = aio_now_ns();
    blk_aio_pwrite_zeroes(io.blk, r->report.offset, r->report.bytes,
                          r->flags, aio_done, r);
    return 0;
}

static int cmd_aio_write(int argc, char **argv)
{
    g_autoptr(IoRequest) r = g_new0(IoRequest, 1);
    int ret;

    r->pattern = 0xcd;
    r->name = "aio_write";
    r->report.op = "wrote";
    ret = parse_flags(r, argc, argv, "CfiP:quz");
    if (ret < 0) {
        return ret;
    }
    if (r->invalid) {
        printf("injecting invalid write request\n");
        return 0;
    }
    if (r->zero && r->has_pattern) {
        printf("-z and -P exclude one another\n");
        return -EINVAL;
    }
    if (!r->zero && (r->flags & BDRV_REQ_MAY_UNMAP)) {
        printf("-u goes with -z only\n");
        return -EINVAL;
    }
    if (r->zero) {
        ret = aio_write_zeroes(r, argc, argv);
    } else {
        ret = parse_range(r, argc, argv, r->pattern);
        if (ret == 0) {
            io.aio++;
            r->report.start_ns = aio_now_ns();
            blk_aio_pwritev(io.blk, r->report.offset, &r->qiov, r->flags,
                            aio_done, r);
        }
    }
    if (ret == 0) {
        g_steal_pointer(&r);
    }
    return ret;
}

static int cmd_aio_flush(int argc, char **argv)
{
    AIO_WAIT_WHILE(io.ctx, blk_in_flight(io.blk) > 0 || io.aio > 0);
    return 0;
}

/* --- multiwrite --- */

typedef struct MultiWrite {
    GPtrArray *requests;  /* IoRequest */
    unsigned pending;
    int ret;              /* the first failure */
} MultiWrite;

static void multi_done(void *opaque, int ret)
{
    MultiWrite *m = opaque;

    m->pending--;
    if (ret < 0 && m->ret == 0) {
        m->ret = ret;
    }
}

/* Words argv[optind..argc) are writes with ";" between them. */
static int multi_parse(MultiWrite *m, int argc, char **argv, uint8_t pattern)
{
    while (optind < argc) {
        int end = optind, ret;
        IoRequest *r;

        while (end < argc && strcmp(argv[end], ";") != 0) {
            end++;
        }
        if (end - optind < 2) {
            return io_bad_usage(argv[0]);
        }
        r = g_new0(IoRequest, 1);
        g_ptr_array_add(m->requests, r);
        ret = parse_range(r, end, argv, pattern++);
        if (ret < 0) {
            return ret;
        }
        optind = end + 1;
    }
    return m->requests->len > 0 ? 0 : io_bad_usage(argv[0]);
}

static int cmd_multiwrite(int argc, char **argv)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)request_free);
    IoRequest flags = { .report.op = "wrote", .pattern = 0xcd };
    MultiWrite m = { .requests = list };
    int ret = parse_flags(&flags, argc, argv, "CP:q");

    if (ret == 0) {
        ret = multi_parse(&m, argc, argv, flags.pattern);
    }
    if (ret < 0) {
        return ret;
    }
    flags.report.start_ns = aio_now_ns();
    for (guint i = 0; i < list->len; i++) {
        IoRequest *r = g_ptr_array_index(list, i);

        flags.report.bytes += r->report.bytes;
        flags.report.offset = i ? flags.report.offset : r->report.offset;
        m.pending++;
        blk_aio_pwritev(io.blk, r->report.offset, &r->qiov, 0, multi_done,
                        &m);
    }
    AIO_WAIT_WHILE(io.ctx, m.pending > 0);
    if (m.ret < 0) {
        return io_failed("aio_multiwrite", m.ret);
    }
    io_report(&flags.report);
    return 0;
}

const IoCommand io_aio_commands[] = {
    { "aio_read", NULL, cmd_aio_read, 2, -1, true, false,
      "[-Ciqv] [-P pattern] off len [len..]", "start to read from the disk",
      "The report comes when the read is over; aio_flush waits for that.\n"
      "  -C, -P, -q, -v  as of read\n"
      "  -i  pretend to start a request that is invalid\n"
      "Example: aio_read -P 0 0 64k\n" },
    { "aio_write", NULL, cmd_aio_write, 2, -1, true, true,
      "[-Cfiquz] [-P pattern] off len [len..]", "start to write to the disk",
      "The report comes when the write is over; aio_flush waits for that.\n"
      "  -C, -f, -P, -q, -u, -z  as of write\n"
      "  -i  pretend to start a request that is invalid\n"
      "Example: aio_write -P 1 0 64k\n" },
    { "aio_flush", NULL, cmd_aio_flush, 0, 0, true, false, "",
      "wait for all that aio_read and aio_write have started", NULL },
    { "multiwrite", NULL, cmd_multiwrite, 2, -1, true, true,
      "[-Cq] [-P pattern] off len [len..] [; off len [len..]..]",
      "write several ranges at the same time",
      "The first write has the pattern, each further one the next byte.\n"
      "  -C, -P, -q  as of write\n"
      "Example: multiwrite 0 4k ; 64k 4k\n" },
    { 0 },
};
