/* SPDX-License-Identifier: MIT */
/* The two lines, or one of numbers, that a request leaves behind. */
#include "tools/io/io.h"

#include <string.h>

static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB",
                                     "EiB" };

/* Take zeroes after the point off @text when nothing else is there. */
static void drop_zero_fraction(char *text)
{
    char *point = strchr(text, '.');

    if (point && strspn(point + 1, "0") == strlen(point + 1)) {
        *point = '\0';
    }
}

char *io_format_bytes(double bytes)
{
    char number[64];
    int unit = -1;

    while (bytes >= 1024 && unit + 1 < (int)G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    snprintf(number, sizeof(number), unit < 0 ? "%f" : "%.3f", bytes);
    drop_zero_fraction(number);
    return g_strdup_printf("%s %s", number, unit < 0 ? "bytes" : units[unit]);
}

/* Hundredths of seconds; hours and minutes when @full or when needed. */
static char *format_time(int64_t ns, bool full)
{
    uint64_t cs = ((uint64_t)ns + 5000000) / 10000000;
    unsigned hundredths = cs % 100, seconds = cs / 100 % 60;
    unsigned minutes = cs / 6000 % 60, hours = cs / 360000;

    if (full || hours || minutes) {
        return g_strdup_printf("%u:%02u:%02u.%02u", hours, minutes, seconds,
                               hundredths);
    }
    return g_strdup_printf("%02u.%02u sec", seconds, hundredths);
}

void io_report(const IoReport *r)
{
    int64_t ns = MAX(aio_now_ns() - r->start_ns, 1);
    double seconds = (double)ns / 1e9;
    g_autofree char *time = format_time(ns, r->machine);
    g_autofree char *total = io_format_bytes((double)r->bytes);
    g_autofree char *rate = io_format_bytes((double)r->bytes / seconds);

    if (r->quiet) {
        return;
    }
    if (r->machine) {
        printf("%" G_GUINT64_FORMAT ",1,%s,%.3f,%.3f\n", r->bytes, time,
               (double)r->bytes / seconds, 1 / seconds);
        return;
    }
    printf("%s %" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " bytes at offset %"
           G_GUINT64_FORMAT "\n", r->op, r->bytes, r->bytes, r->offset);
    printf("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", total, time, rate,
           1 / seconds);
}

int io_failed(const char *what, int ret)
{
    printf("%s failed: %s\n", what, g_strerror(-ret));
    return ret;
}
