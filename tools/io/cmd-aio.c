/* SPDX-License-Identifier: MIT */
/*
 * aio_read, aio_write, multiwrite and aio_flush. A request lives until its
 * callback has reported it; a failure or a mismatch then is only told, since
 * the command was over long ago. multiwrite starts all its writes, or as many
 * as can run at a time, and waits for them.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

/* So many requests run at a time: each has a stack, and a process has room for
 * some 32,000. */
#define MAX_AT_ONCE 1024

static GPtrArray *spare; /* requests without contents */

static IoRequest *request_new(const char *op, const char *name)
{
    IoRequest *r;

    if (!spare) {
        spare = g_ptr_array_new();
    }
    r = spare->len > 0 ? g_ptr_array_steal_index_fast(spare, spare->len - 1)
                       : g_new(IoRequest, 1);
    io_request_init(r, op, name);
    return r;
}

static void request_free(IoRequest *r)
{
    io_request_clear(r);
    g_ptr_array_add(spare, r);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IoRequest, request_free)

static void aio_done(void *opaque, int ret)
{
    g_autoptr(IoRequest) r = opaque;

    io.aio--;
    io_request_end(r, ret);
}

/* Wait until one more can run. */
static int make_room(const char *name)
{
    AIO_WAIT_WHILE(io.ctx, io.aio >= MAX_AT_ONCE && !io_suspended_tag() &&
                           !aio_stopping(io.ctx));
    if (io.aio >= MAX_AT_ONCE && io_suspended_tag()) {
        io_error("%s: %u requests are running, and '%s' is stopped at a "
                 "breakpoint; 'resume %s' first", name, io.aio,
                 io_suspended_tag(), io_suspended_tag());
        return -EBUSY;
    }
    return aio_check_stop();
}

static void start_aio(IoRequest *r)
{
    io.aio++;
    io_request_start(r);
}

static int cmd_aio_read(int argc, char **argv)
{
    g_autoptr(IoRequest) r = request_new("read", "readv");
    int ret = io_request_flags(r, argc, argv, "CiP:qv", true);

    if (ret < 0) {
        return ret;
    }
    if (r->invalid) {
        io_print("injecting invalid read request\n");
        return 0;
    }
    ret = io_request_read_args(r);
    ret = ret < 0 ? ret : make_room(argv[0]);
    if (ret < 0) {
        return ret;
    }
    start_aio(r);
    blk_aio_preadv(io.blk, r->report.offset, &r->qiov, 0, aio_done, r);
    g_steal_pointer(&r);
    return 0;
}

static int aio_write_args(IoRequest *r)
{
    const char *wrong = NULL;

    if (r->zero && r->has_pattern) {
        wrong = "-z and -P exclude one another";
    } else if (!r->zero && (r->flags & BDRV_REQ_MAY_UNMAP)) {
        wrong = "-u goes with -z only";
    } else if (r->zero && r->nb_words != 2) {
        wrong = "-z takes one length only";
    }
    if (wrong) {
        io_print("%s\n", wrong);
        return -EINVAL;
    }
    return r->zero ? io_request_range(r, true)
                   : io_request_vector(r, r->pattern);
}

static int cmd_aio_write(int argc, char **argv)
{
    g_autoptr(IoRequest) r = request_new("wrote", "aio_write");
    int ret;

    r->pattern = IO_WRITE_PATTERN;
    ret = io_request_flags(r, argc, argv, "CfiP:quz", true);
    if (ret < 0) {
        return ret;
    }
    if (r->invalid) {
        io_print("injecting invalid write request\n");
        return 0;
    }
    ret = aio_write_args(r);
    ret = ret < 0 ? ret : make_room(argv[0]);
    if (ret < 0) {
        return ret;
    }
    start_aio(r);
    if (r->zero) {
        blk_aio_pwrite_zeroes(io.blk, r->report.offset, r->report.bytes,
                              r->flags, aio_done, r);
    } else {
        blk_aio_pwritev(io.blk, r->report.offset, &r->qiov, r->flags,
                        aio_done, r);
    }
    g_steal_pointer(&r);
    return 0;
}

static bool is_busy(void)
{
    return blk_in_flight(io.blk) > 0 || io.aio > 0;
}

static int cmd_aio_flush(int argc, char **argv)
{
    const char *tag;

    AIO_WAIT_WHILE(io.ctx, is_busy() && !io_suspended_tag() &&
                           !aio_stopping(io.ctx));
    tag = io_suspended_tag();
    if (tag) {
        io_error("aio_flush: request '%s' is stopped at a breakpoint, which "
                 "nothing would end; 'resume %s' first", tag, tag);
        return -EBUSY;
    }
    return aio_check_stop();
}

/* --- multiwrite --- */

typedef struct MultiWrite {
    IoRequest all;        /* its flags, and what is reported for all */
    unsigned pending;
    unsigned failed;
    int ret;              /* the first failure */
} MultiWrite;

typedef struct OneWrite {
    IoRequest r;
    MultiWrite *m;
} OneWrite;

static void one_free(void *opaque)
{
    OneWrite *w = opaque;

    io_request_clear(&w->r);
    g_free(w);
}

static void one_done(void *opaque, int ret)
{
    OneWrite *w = opaque;

    w->m->pending--;
    if (ret < 0) {
        w->m->failed++;
        w->m->ret = w->m->ret ? w->m->ret : ret;
        io_error("multiwrite: %" G_GUINT64_FORMAT " bytes at offset %"
                 G_GUINT64_FORMAT " were not written: %s", w->r.report.bytes,
                 w->r.report.offset, g_strerror(-ret));
    }
}

/* The words of @m->all are writes with ";" between them. */
static int multi_parse(MultiWrite *m, GPtrArray *writes, const char *name)
{
    uint8_t pattern = m->all.pattern;
    char **words = m->all.words;
    int left = m->all.nb_words;

    while (left > 0) {
        int n = 0, ret;
        OneWrite *w;

        while (n < left && strcmp(words[n], ";") != 0) {
            n++;
        }
        if (n < 2) {
            return io_bad_usage(name);
        }
        w = g_new0(OneWrite, 1);
        w->m = m;
        g_ptr_array_add(writes, w);
        w->r.words = words;
        w->r.nb_words = n;
        ret = io_request_vector(&w->r, pattern++);
        if (ret < 0) {
            return ret;
        }
        m->all.report.bytes += w->r.report.bytes;
        words += n + 1;
        left -= n + 1;
    }
    /* A ";" in the end would have something follow it. */
    return left < 0 ? 0 : io_bad_usage(name);
}

static int cmd_multiwrite(int argc, char **argv)
{
    g_autoptr(GPtrArray) writes = g_ptr_array_new_with_free_func(one_free);
    MultiWrite m = { 0 };
    int ret;

    io_request_init(&m.all, "wrote", "aio_multiwrite");
    m.all.pattern = IO_WRITE_PATTERN;
    ret = io_request_flags(&m.all, argc, argv, "CP:q", true);
    if (ret == 0) {
        ret = multi_parse(&m, writes, argv[0]);
    }
    if (ret < 0) {
        return ret;
    }
    m.all.report.offset = ((OneWrite *)writes->pdata[0])->r.report.offset;
    m.pending = writes->len;
    io_request_start(&m.all);
    for (guint i = 0; i < writes->len; i++) {
        OneWrite *w = g_ptr_array_index(writes, i);

        AIO_WAIT_WHILE(io.ctx, i - (writes->len - m.pending) >= MAX_AT_ONCE);
        blk_aio_pwritev(io.blk, w->r.report.offset, &w->r.qiov, 0, one_done,
                        w);
    }
    AIO_WAIT_WHILE(io.ctx, m.pending > 0);
    if (m.failed) {
        io_error("multiwrite: %u of %u writes failed, the others were done",
                 m.failed, writes->len);
    }
    return io_request_end(&m.all, m.ret);
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
