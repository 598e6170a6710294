/* SPDX-License-Identifier: MIT */
/*
 * The two lines, or one of numbers, that a request leaves behind. There is one
 * for each of many thousand requests, and with printf() it costs three times
 * what the request does: so it is put together here, from integers.
 */
#include "tools/io/io.h"

#include <math.h>
#include <string.h>

static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB",
                                     "EiB" };

/* Room for all that a report can say: no number has more than 40 digits. */
typedef struct Text {
    char s[320];
    size_t n;
} Text;

static void put(Text *t, const char *s)
{
    size_t n = strlen(s);

    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
}

/* @n in at least @digits digits. */
static void put_number(Text *t, uint64_t n, int digits)
{
    char reversed[24];
    int i = 0;

    do {
        reversed[i++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0 || i < digits);
    while (i > 0) {
        t->s[t->n++] = reversed[--i];
    }
    t->s[t->n] = '\0';
}

/* As "%.*f". @shorten: no decimals when all are 0. */
static void put_fixed(Text *t, double value, int decimals, bool shorten)
{
    double scaled;
    uint64_t scale = 1, n;

    for (int i = 0; i < decimals; i++) {
        scale *= 10;
    }
    scaled = value * (double)scale;
    if (scaled > 1e18) {
        t->n += (size_t)snprintf(t->s + t->n, 40, "%.*f", decimals, value);
        return;
    }
    n = (uint64_t)llrint(scaled);
    put_number(t, n / scale, 1);
    if (n % scale || !shorten) {
        put(t, ".");
        put_number(t, n % scale, decimals);
    }
}

static void put_bytes(Text *t, double bytes)
{
    int unit = -1;

    while (bytes >= 1024 && unit + 1 < (int)G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    put_fixed(t, bytes, unit < 0 ? 6 : 3, true);
    put(t, " ");
    put(t, unit < 0 ? "bytes" : units[unit]);
}

char *io_format_bytes(char out[IO_BYTES_TEXT], double bytes)
{
    Text t = { .n = 0 };

    put_bytes(&t, bytes);
    g_strlcpy(out, t.s, IO_BYTES_TEXT);
    return out;
}

/* Hundredths of seconds; hours and minutes when @full or when needed. */
static void put_time(Text *t, int64_t ns, bool full)
{
    uint64_t cs = ((uint64_t)ns + 5000000) / 10000000;
    uint64_t minutes = cs / 6000 % 60, hours = cs / 360000;

    full = full || minutes || hours;
    if (full) {
        put_number(t, hours, 1);
        put(t, ":");
        put_number(t, minutes, 2);
        put(t, ":");
    }
    put_number(t, cs / 100 % 60, 2);
    put(t, ".");
    put_number(t, cs % 100, 2);
    put(t, full ? "" : " sec");
}

static void put_numbers(Text *t, const IoReport *r, int64_t ns, double seconds)
{
    put_number(t, r->bytes, 1);
    put(t, ",1,");
    put_time(t, ns, true);
    put(t, ",");
    put_fixed(t, (double)r->bytes / seconds, 3, false);
    put(t, ",");
    put_fixed(t, 1 / seconds, 3, false);
    put(t, "\n");
}

static void put_lines(Text *t, const IoReport *r, int64_t ns, double seconds)
{
    put(t, r->op);
    put(t, " ");
    put_number(t, r->bytes, 1);
    put(t, "/");
    put_number(t, r->bytes, 1);
    put(t, " bytes at offset ");
    put_number(t, r->offset, 1);
    put(t, "\n");
    put_bytes(t, (double)r->bytes);
    put(t, ", 1 ops; ");
    put_time(t, ns, false);
    put(t, " (");
    put_bytes(t, (double)r->bytes / seconds);
    put(t, "/sec and ");
    put_fixed(t, 1 / seconds, 4, false);
    put(t, " ops/sec)\n");
}

void io_report(const IoReport *r)
{
    Text t;
    int64_t ns;

    if (r->quiet) {
        return;
    }
    t.n = 0;
    ns = MAX(aio_now_ns() - r->start_ns, 1);
    (r->machine ? put_numbers : put_lines)(&t, r, ns, (double)ns / 1e9);
    fwrite(t.s, 1, t.n, stdout);
}

int io_failed(const char *what, int ret)
{
    printf("%s failed: %s\n", what, g_strerror(-ret));
    return ret;
}
