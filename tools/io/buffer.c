/* SPDX-License-Identifier: MIT */
/*
 * Numbers as arguments, and the memory of requests: filled with a pattern or
 * from a file, compared, dumped. With -m it is misaligned on purpose; the
 * pointer handed out then lies MISALIGN bytes into the allocation. The buffer
 * of the last request is kept for the next one, whose pages are there then.
 */
#include "tools/io/io.h"

#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "util/units.h"

#define MISALIGN 16
#define MAX_SPARE (16u << 20)

bool io_parse_number(const char *text, uint64_t *ret)
{
    bool has_plus = text[0] == '+' && isdigit((unsigned char)text[1]);
    uint64_t value;
    int err = parse_size(text + has_plus, &value);

    if (err == 0 && value > INT64_MAX) {
        err = -ERANGE;
    }
    if (err < 0) {
        printf("Parsing error: '%s' is %s\n", text,
               err == -ERANGE ? "more than a disk can hold" :
               "no size (digits, then nothing or one of b k M G T P E)");
        return false;
    }
    *ret = value;
    return true;
}

bool io_parse_length(const char *text, uint64_t *ret)
{
    uint64_t value;

    if (!io_parse_number(text, &value)) {
        return false;
    }
    if (value > IO_MAX_BYTES) {
        printf("length %s is more than one request can have, which is %"
               G_GUINT64_FORMAT "\n", text, IO_MAX_BYTES);
        return false;
    }
    *ret = value;
    return true;
}

bool io_parse_pattern(const char *text, uint8_t *ret)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 0);
    if (end == text || *end || errno || value < 0 || value > 255) {
        printf("'%s' is no pattern: a number from 0 to 255\n", text);
        return false;
    }
    *ret = (uint8_t)value;
    return true;
}

static void *spare;

uint8_t *io_buffer_new(uint64_t bytes, int fill)
{
    uint8_t *buf = g_steal_pointer(&spare);

    if (!buf || malloc_usable_size(buf) < bytes + MISALIGN) {
        free(buf);
        buf = blk_try_memalign(bytes + MISALIGN);
    }
    if (!buf) {
        io_error("no memory for %" G_GUINT64_FORMAT " bytes", bytes);
        exit(EXIT_FAILURE);
    }
    buf += io.misalign ? MISALIGN : 0;
    if (fill != IO_NO_FILL) {
        memset(buf, fill, bytes);
    }
    return buf;
}

void io_buffer_free(uint8_t *buf)
{
    if (!buf) {
        return;
    }
    buf -= io.misalign ? MISALIGN : 0;
    if (!spare && malloc_usable_size(buf) <= MAX_SPARE) {
        spare = buf;
    } else {
        free(buf);
    }
}

bool io_buffer_load(uint8_t *buf, uint64_t bytes, const char *path)
{
    FILE *f = fopen(path, "r");
    const char *wrong = NULL;
    size_t n;

    if (!f) {
        io_error("%s: %s", path, g_strerror(errno));
        return false;
    }
    n = fread(buf, 1, bytes, f);
    if (ferror(f)) {
        wrong = g_strerror(errno);
    } else if (n == 0 && bytes > 0) {
        wrong = "there is nothing in it";
    }
    fclose(f);
    if (wrong) {
        io_error("%s: %s", path, wrong);
        return false;
    }
    for (uint64_t done = n; done < bytes; done += n) {
        memcpy(buf + done, buf, MIN(n, bytes - done));
    }
    return true;
}

void io_buffer_dump(const uint8_t *buf, uint64_t offset, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i += 16) {
        uint64_t n = MIN(bytes - i, 16);

        printf("%08" G_GINT64_MODIFIER "x:  ", offset + i);
        for (uint64_t j = i; j < i + n; j++) {
            printf("%02x ", buf[j]);
        }
        putchar(' ');
        for (uint64_t j = i; j < i + n; j++) {
            putchar(g_ascii_isalnum(buf[j]) ? buf[j] : '.');
        }
        putchar('\n');
    }
}

bool io_buffer_is(const uint8_t *buf, uint8_t pattern, uint64_t bytes)
{
    return bytes == 0 ||
           (buf[0] == pattern && memcmp(buf, buf + 1, bytes - 1) == 0);
}
