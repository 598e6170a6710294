/* SPDX-License-Identifier: MIT */
#include "tools/one-line.h"

#include <glib.h>
#include <string.h>
#include <unistd.h>

/* More than the longest path that exists, so that none of those is cut. */
#define MAX_TEXT 8192
#define MAX_PART 1024

static void append(GString *out, const char *text, size_t bytes)
{
    const char *end = text + bytes;

    while (text < end) {
        gunichar c = g_utf8_get_char_validated(text, end - text);
        const char *next;

        if (c == '\n') {
            g_string_append(out, "\\n");
        } else if ((gint32)c < 0 || g_unichar_iscntrl(c) || c == 0x2028 ||
                   c == 0x2029) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*text);
        } else {
            next = g_utf8_next_char(text);
            g_string_append_len(out, text, next - text);
            text = next;
            continue;
        }
        text++;
    }
}

char *one_line(const char *text)
{
    size_t bytes = strlen(text);
    GString *out = g_string_sized_new(MIN(bytes, MAX_TEXT));

    if (bytes <= MAX_TEXT) {
        append(out, text, bytes);
    } else {
        append(out, text, MAX_PART);
        g_string_append_printf(out, "[%zu bytes]", bytes - 2 * MAX_PART);
        append(out, text + bytes - MAX_PART, MAX_PART);
    }
    return g_string_free(out, FALSE);
}

char *one_line_if_seen(const char *text)
{
    return isatty(STDOUT_FILENO) ? one_line(text) : g_strdup(text);
}
