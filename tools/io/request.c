/* SPDX-License-Identifier: MIT */
/*
 * What commands that read and write have in common, those that wait for their
 * request and those that do not: flags, offset and lengths, the buffer, and
 * what is told in the end. Commands say which flags they have and whether -P
 * is what to write or what to expect.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

#include "util/zero.h"

void io_request_init(IoRequest *r, const char *op, const char *name)
{
    memset(r, 0, offsetof(IoRequest, start));
    r->report.op = op;
    r->name = name;
}

static int apply_flag(IoRequest *r, int c, const char *arg)
{
    switch (c) {
    case 'b':
        r->vmstate = true;
        break;
    case 'c':
        r->flags |= BDRV_REQ_WRITE_COMPRESSED;
        break;
    case 'C':
        r->report.machine = true;
        break;
    case 'f':
        r->flags |= BDRV_REQ_FUA;
        break;
    case 'i':
        r->invalid = true;
        break;
    case 'l':
        r->length_arg = arg;
        break;
    case 'n':
        r->flags |= BDRV_REQ_NO_FALLBACK;
        break;
    case 'p': /* what it once meant is always so */
        break;
    case 'P':
        r->has_pattern = true;
        return io_parse_pattern(arg, &r->pattern) ? 0 : -EINVAL;
    case 'q':
        r->report.quiet = true;
        break;
    case 's':
        r->start_arg = arg;
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
        g_assert_not_reached();
    }
    return 0;
}

int io_request_flags(IoRequest *r, int argc, char **argv, const char *letters,
                     bool lengths)
{
    IoFlags f;
    int c;

    io_flags_init(&f, argc, argv, letters);
    while ((c = io_flags_next(&f)) > 0) {
        c = apply_flag(r, c, f.arg);
        if (c < 0) {
            break;
        }
        if (r->invalid) {
            return 0; /* whatever follows */
        }
    }
    r->words = f.words;
    r->nb_words = f.nb_words;
    if (c == 0 && (f.nb_words < 2 || (!lengths && f.nb_words > 2))) {
        c = io_bad_usage(argv[0]);
    }
    return c;
}

int io_request_range(IoRequest *r, bool any)
{
    bool ok = io_parse_number(r->words[0], &r->report.offset) &&
              (any ? io_parse_number : io_parse_length)(r->words[1],
                                                        &r->report.bytes);

    return ok ? 0 : -EINVAL;
}

int io_request_vector(IoRequest *r, int fill)
{
    int n = r->nb_words - 1;
    uint64_t one;
    g_autofree uint64_t *several = n > 1 ? g_new(uint64_t, n) : NULL;
    uint64_t *lengths = several ? several : &one;
    uint8_t *piece;

    if (!io_parse_number(r->words[0], &r->report.offset)) {
        return -EINVAL;
    }
    for (int i = 0; i < n; i++) {
        if (!io_parse_length(r->words[1 + i], &lengths[i])) {
            return -EINVAL;
        }
        r->report.bytes += lengths[i]; /* n times 2 GiB: no overflow */
    }
    if (r->report.bytes > IO_MAX_BYTES) {
        io_print("the lengths add up to more than one request can have, which "
                 "is %" G_GUINT64_FORMAT "\n", IO_MAX_BYTES);
        return -EINVAL;
    }
    r->buf = io_buffer_new(r->report.bytes);
    if (fill != IO_NO_FILL) {
        io_buffer_fill(r->buf, (uint8_t)fill, r->report.bytes);
    }
    piece = r->buf->data;
    if (n == 1) {
        qemu_iovec_init_buf(&r->qiov, piece, r->report.bytes);
        return 0;
    }
    qemu_iovec_init(&r->qiov, n);
    for (int i = 0; i < n; i++) {
        qemu_iovec_add(&r->qiov, piece, lengths[i]);
        piece += lengths[i];
    }
    return 0;
}

/* With -P, part or all of what is read is verified. */
static int set_verify_range(IoRequest *r)
{
    uint64_t bytes = r->report.bytes;

    r->verify = true;
    r->start = 0;
    if ((r->start_arg && !io_parse_number(r->start_arg, &r->start)) ||
        (r->length_arg && !io_parse_number(r->length_arg, &r->length))) {
        return -EINVAL;
    }
    if (!r->length_arg) {
        r->length = r->start <= bytes ? bytes - r->start : 0;
    }
    if (r->start > bytes || r->length > bytes - r->start) {
        io_print("what is to be verified does not lie within what is read\n");
        return -EINVAL;
    }
    return 0;
}

int io_request_read_args(IoRequest *r)
{
    int fill = IO_NO_FILL;
    int ret;

    /*
     * Bytes that are looked at must not be those of the request before, and
     * bytes that no driver has read must not be those that are expected.
     */
    if (r->has_pattern) {
        fill = r->pattern ^ 0xff;
    } else if (r->dump) {
        fill = IO_READ_FILL;
    }
    ret = io_request_vector(r, fill);
    if (ret < 0) {
        return ret;
    }
    io_buffer_spoil(r->buf);
    return r->has_pattern ? set_verify_range(r) : 0;
}

int io_request_check_aligned(const IoRequest *r)
{
    if ((r->report.offset | r->report.bytes) % 512 != 0) {
        io_print("offset and length have to be multiples of 512 with -b and "
                 "-c\n");
        return -EINVAL;
    }
    return 0;
}

void io_request_start(IoRequest *r)
{
    if (!r->report.quiet) {
        r->report.start_ns = aio_now_ns();
    }
}

int io_request_end(IoRequest *r, int ret)
{
    if (ret < 0) {
        return io_failed(r->name, ret);
    }
    ret = 0;
    if (r->verify &&
        !buffer_is_filled(r->buf->data + r->start, r->pattern, r->length)) {
        io_print("Pattern verification failed at offset %" G_GUINT64_FORMAT
                 ", %" G_GUINT64_FORMAT " bytes\n",
                 r->report.offset + r->start, r->length);
        ret = -EINVAL;
    }
    if (r->dump && !r->report.quiet) {
        io_buffer_dump(r->buf->data, r->report.offset, r->report.bytes);
    }
    io_report(&r->report);
    return ret;
}

void io_request_clear(IoRequest *r)
{
    if (r->buf) {
        qemu_iovec_destroy(&r->qiov);
        io_buffer_free(r->buf);
    }
}
