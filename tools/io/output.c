/* SPDX-License-Identifier: MIT */
/*
 * Standard output. All that commands print is gathered here and written when
 * the buffer is full, when more commands have to be read, before anything
 * goes to standard error after a prompt, and in the end. With stdio the two
 * calls for a prompt and a report would cost more than putting them together.
 *
 * With -c the blocks are those of stdio, so that output and errors that go to
 * one pipe are mixed there as in other programs; on a terminal, and where
 * stdbuf(1) has asked for it, a line goes out when it ends.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <glib/gprintf.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "tools/one-line.h"

#define LARGE (64u << 10) /* of commands from standard input */
#define SMALL (4u << 10)

static struct {
    char data[LARGE];
    size_t used;
    size_t room;          /* SMALL or LARGE */
    bool by_lines;
    int error;            /* errno of what was not written first, or 0 */
} out = { .room = SMALL };

static void flush_at_exit(void)
{
    io_flush_output();
}

void io_start_output(void)
{
    out.room = io.prompts ? LARGE : SMALL;
    out.by_lines = isatty(STDOUT_FILENO) || __flbf(stdout) ||
                   __fbufsize(stdout) == 1;
    atexit(flush_at_exit);
}

bool io_flush_output(void)
{
    size_t done = 0;

    while (done < out.used) {
        ssize_t n = write(STDOUT_FILENO, out.data + done, out.used - done);

        if (n < 0 && errno != EINTR) {
            out.error = out.error ? out.error : errno;
            break;
        }
        done += n < 0 ? 0 : (size_t)n;
    }
    out.used = 0;
    return !out.error;
}

bool io_end_output(void)
{
    bool ok = io_flush_output();

    if (!ok && out.error != EPIPE) { /* nobody wants to know then */
        io_error("cannot write standard output: %s", g_strerror(out.error));
    }
    return ok;
}

void io_sync_output(void)
{
    if (io.prompts) {
        io_flush_output();
    }
}

/* What does not fit, or has to be seen at once. */
static void put_slowly(const char *text, size_t bytes)
{
    bool ends_line = memchr(text, '\n', bytes);

    while (bytes > 0) {
        size_t n = MIN(bytes, out.room - out.used);

        memcpy(out.data + out.used, text, n);
        out.used += n;
        text += n;
        bytes -= n;
        if (out.used == out.room) {
            io_flush_output();
        }
    }
    if (out.by_lines && ends_line) {
        io_flush_output();
    }
}

void io_put(const char *text, size_t bytes)
{
    if (out.by_lines || bytes >= out.room - out.used) {
        put_slowly(text, bytes);
        return;
    }
    memcpy(out.data + out.used, text, bytes);
    out.used += bytes;
}

void io_print(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;
    int bytes;

    va_start(ap, format);
    bytes = g_vasprintf(&text, format, ap);
    va_end(ap);
    io_put(text, (size_t)bytes);
}

void io_error(const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;
    va_list ap;

    io_sync_output();
    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    line = one_line(text);
    fprintf(stderr, "%s: %s\n", io.program, line);
}
