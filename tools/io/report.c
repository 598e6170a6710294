/* SPDX-License-Identifier: MIT */
/*
 * The two lines, or one of numbers, that a request leaves behind. There is one
 * for each of many thousand requests, and with printf() it costs three times
 * what the request does: so it is put together here, from integers.
 */
#include "tools/io/io.h"

#include <math.h>
#include <string.h>

/* The first one is written out where it is used. */
static const char units[][5] = { "", " KiB", " MiB", " GiB", " TiB", " PiB",
                                 " EiB" };

/* Room for all that a report can say: no number has more than 40 digits. */
#define MAX_REPORT 320

/* "00" to "99": numbers are written two digits at a time. */
static char pairs[100][2];

static void make_pairs(void)
{
    for (int i = 0; i < 100; i++) {
        pairs[i][0] = (char)('0' + i / 10);
        pairs[i][1] = (char)('0' + i % 10);
    }
}

/* Each of these writes at @p and returns the end. */

static inline char *put(char *p, const char *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}

/* Of a literal the compiler knows the length. */
#define PUT(p, literal) put((p), (literal), sizeof(literal) - 1)

static inline char *put_pair(char *p, uint64_t n)
{
    return put(p, pairs[n], 2);
}

/* @n, which has no more, in @digits digits. */
static inline char *put_digits(char *p, uint64_t n, unsigned digits)
{
    char *end = p + digits;

    for (p = end; digits >= 2; digits -= 2) {
        p -= 2;
        put_pair(p, n % 100);
        n /= 100;
    }
    if (digits) {
        p[-1] = (char)('0' + n);
    }
    return end;
}

static inline unsigned count_digits(uint64_t n)
{
    /* The first numbers with one digit more; 0 has one too. */
    static const uint64_t next[] = {
        0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
        1000000000, 10000000000, 100000000000, 1000000000000, 10000000000000,
        100000000000000, 1000000000000000, 10000000000000000,
        100000000000000000, 1000000000000000000, 10000000000000000000u,
    };
    unsigned bits = 64 - (unsigned)__builtin_clzll(n | 1);
    unsigned digits = bits * 1233 / 4096; /* log10(2), exact enough for 64 */

    return digits + (n >= next[digits]);
}

static inline char *put_number(char *p, uint64_t n)
{
    return put_digits(p, n, count_digits(n));
}

/* As "%.*f". @shorten: no decimals when all are 0. */
static inline char *put_fixed(char *p, double value, unsigned decimals,
                              bool shorten)
{
    double scaled;
    uint64_t scale = 1, n;

    for (unsigned i = 0; i < decimals; i++) {
        scale *= 10;
    }
    scaled = value * (double)scale;
    if (scaled > 1e18) {
        return p + snprintf(p, 40, "%.*f", (int)decimals, value);
    }
    n = (uint64_t)llrint(scaled);
    p = put_number(p, n / scale);
    if (n % scale || !shorten) {
        p = PUT(p, ".");
        p = put_digits(p, n % scale, decimals);
    }
    return p;
}

static char *put_bytes(char *p, double bytes)
{
    int unit = 0;

    while (bytes >= 1024 && unit + 1 < (int)G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0) {
        p = put_fixed(p, bytes, 6, true);
        return PUT(p, " bytes");
    }
    p = put_fixed(p, bytes, 3, true);
    return put(p, units[unit], 4);
}

/*
 * Hundredths of seconds; hours and minutes when @full or from a second on. They
 * are rounded within the minute: the field has 01.00 below a second, and 60.00.
 */
static inline char *put_time(char *p, int64_t ns, bool full)
{
    uint64_t seconds = (uint64_t)ns / 1000000000;
    uint64_t minutes = seconds / 60;
    uint64_t cs = ((uint64_t)ns - minutes * 60000000000 + 5000000) / 10000000;

    full = full || seconds;
    if (full) {
        p = put_number(p, minutes / 60);
        p = PUT(p, ":");
        p = put_pair(p, minutes % 60);
        p = PUT(p, ":");
    }
    p = put_pair(p, cs / 100);
    p = PUT(p, ".");
    p = put_pair(p, cs % 100);
    return full ? p : PUT(p, " sec");
}

/* @rate: how many such requests a second would hold. */
static char *put_numbers(char *p, const IoReport *r, int64_t ns, double rate)
{
    p = put_number(p, r->bytes);
    p = PUT(p, ",1,");
    p = put_time(p, ns, true);
    p = PUT(p, ",");
    p = put_fixed(p, (double)r->bytes * rate, 3, false);
    p = PUT(p, ",");
    p = put_fixed(p, rate, 3, false);
    return PUT(p, "\n");
}

static char *put_lines(char *p, const IoReport *r, int64_t ns, double rate)
{
    p = put(p, r->op, strlen(r->op));
    p = PUT(p, " ");
    p = put_number(p, r->bytes);
    p = PUT(p, "/");
    p = put_number(p, r->bytes);
    p = PUT(p, " bytes at offset ");
    p = put_number(p, r->offset);
    p = PUT(p, "\n");
    p = put_bytes(p, (double)r->bytes);
    p = PUT(p, ", 1 ops; ");
    p = put_time(p, ns, false);
    p = PUT(p, " (");
    p = put_bytes(p, (double)r->bytes * rate);
    p = PUT(p, "/sec and ");
    p = put_fixed(p, rate, 4, false);
    return PUT(p, " ops/sec)\n");
}

/* Call before the others. */
static void prepare(void)
{
    if (!pairs[0][0]) {
        make_pairs();
    }
}

char *io_format_bytes(char out[IO_BYTES_TEXT], double bytes)
{
    char text[MAX_REPORT];

    prepare();
    *put_bytes(text, bytes) = '\0';
    g_strlcpy(out, text, IO_BYTES_TEXT);
    return out;
}

void io_report(const IoReport *r)
{
    char text[MAX_REPORT], *end;
    int64_t ns;

    if (r->quiet) {
        return;
    }
    ns = MAX(aio_now_ns() - r->start_ns, 1);
    prepare();
    end = (r->machine ? put_numbers : put_lines)(text, r, ns,
                                                 1e9 / (double)ns);
    io_put(text, (size_t)(end - text));
}

int io_failed(const char *what, int ret)
{
    io_print("%s failed: %s\n", what, g_strerror(-ret));
    return ret;
}
