/* SPDX-License-Identifier: MIT */
/*
 * Numbers as arguments, and the memory of requests: filled with a pattern or
 * from a file, compared, dumped. With -m it is misaligned on purpose; the
 * pointer handed out then lies MISALIGN bytes into the allocation.
 *
 * Buffers are kept for further requests: their pages are there then, and the
 * pattern too, which writes leave alone.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/units.h"

#define MISALIGN 16
#define MAX_SPARE (64u << 20)

/* What parse_size() has said of @text, if not that it is fine. */
static bool bad_number(const char *text, int err)
{
    io_print("Parsing error: '%s' is %s\n", text,
             err == -EINVAL ?
             "no size (digits, then nothing or one of b k M G T P E)" :
             "more than a disk can hold");
    return false;
}

bool io_parse_number(const char *text, uint64_t *ret)
{
    int err = parse_size(text, ret);

    return (err == 0 && *ret <= INT64_MAX) || bad_number(text, err);
}

bool io_parse_length(const char *text, uint64_t *ret)
{
    if (!io_parse_number(text, ret)) {
        return false;
    }
    if (*ret > IO_MAX_BYTES) {
        io_print("length %s is more than one request can have, which is %"
                 G_GUINT64_FORMAT "\n", text, IO_MAX_BYTES);
        return false;
    }
    return true;
}

bool io_parse_pattern(const char *text, uint8_t *ret)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 0);
    if (end == text || *end || errno || value < 0 || value > 255) {
        io_print("'%s' is no pattern: a number from 0 to 255\n", text);
        return false;
    }
    *ret = (uint8_t)value;
    return true;
}

static IoBuffer *spare;
static uint64_t spare_bytes;

static void destroy(IoBuffer *buf)
{
    if (buf) {
        free(buf->memory);
        g_free(buf);
    }
}

IoBuffer *io_buffer_new(uint64_t bytes)
{
    IoBuffer *buf = spare;

    if (buf) {
        spare = buf->next;
        spare_bytes -= buf->size;
        if (buf->size >= bytes) {
            return buf;
        }
    }
    destroy(buf);
    buf = g_new0(IoBuffer, 1);
    buf->memory = blk_try_memalign(bytes + MISALIGN);
    if (!buf->memory) {
        io_error("no memory for %" G_GUINT64_FORMAT " bytes", bytes);
        exit(EXIT_FAILURE);
    }
    buf->size = bytes;
    buf->data = (uint8_t *)buf->memory + (io.misalign ? MISALIGN : 0);
    return buf;
}

void io_buffer_free(IoBuffer *buf)
{
    if (!buf || buf->size > MAX_SPARE - spare_bytes) {
        destroy(buf);
        return;
    }
    spare_bytes += buf->size;
    buf->next = spare;
    spare = buf;
}

void io_buffer_fill(IoBuffer *buf, uint8_t fill, uint64_t bytes)
{
    if (buf->fill != fill) {
        buf->fill = fill;
        buf->filled = 0;
    }
    if (buf->filled < bytes) {
        memset(buf->data + buf->filled, fill, bytes - buf->filled);
        buf->filled = bytes;
    }
}

void io_buffer_spoil(IoBuffer *buf)
{
    buf->filled = 0;
}

bool io_buffer_load(IoBuffer *buf, uint64_t bytes, const char *path)
{
    FILE *f = fopen(path, "r");
    const char *wrong = NULL;
    size_t n;

    if (!f) {
        io_error("%s: %s", path, g_strerror(errno));
        return false;
    }
    io_buffer_spoil(buf);
    n = fread(buf->data, 1, bytes, f);
    if (ferror(f)) {
        wrong = g_strerror(errno);
    } else if (n == 0) {
        wrong = bytes > 0 ? "there is nothing in it"
                          : "a length of 0 takes nothing from it";
    }
    fclose(f);
    if (wrong) {
        io_error("%s: %s", path, wrong);
        return false;
    }
    for (uint64_t done = n; done < bytes; done += n) {
        memcpy(buf->data + done, buf->data, MIN(n, bytes - done));
    }
    return true;
}

void io_buffer_dump(const uint8_t *buf, uint64_t offset, uint64_t bytes)
{
    static const char digits[] = "0123456789abcdef";

    for (uint64_t i = 0; i < bytes; i += 16) {
        uint64_t n = MIN(bytes - i, 16);
        char hex[16 * 3 + 1], text[16 + 1];

        for (uint64_t j = 0; j < n; j++) {
            uint8_t byte = buf[i + j];

            hex[j * 3] = digits[byte >> 4];
            hex[j * 3 + 1] = digits[byte & 15];
            hex[j * 3 + 2] = ' ';
            text[j] = g_ascii_isalnum(byte) ? (char)byte : '.';
        }
        hex[n * 3] = text[n] = '\0';
        io_print("%08" G_GINT64_MODIFIER "x:  %s %s\n", offset + i, hex,
                 text);
    }
}
