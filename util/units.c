/* SPDX-License-Identifier: MIT */
/*
 * Sizes from and to text. Fractions are kept as decimal digits, not as
 * floating point, so that "0.1G" is the same on every machine.
 */
#include "util/units.h"

#include <errno.h>
#include <glib.h>
#include <stdbool.h>

/* So many digits, decimal or not, are less than 2^64: no check on the way. */
#define SAFE_DIGITS 16

static const char suffixes[] = "bkmgtpe";

/* Shift of the suffix @c, or -1 if it is none. */
static int suffix_shift(char c)
{
    for (int i = 0; suffixes[i]; i++) {
        if (g_ascii_tolower(c) == suffixes[i]) {
            return i * 10;
        }
    }
    return -1;
}

/* What @c stands for, @base or more when it is no digit. */
static inline unsigned digit_of(char c, unsigned base)
{
    unsigned digit = (unsigned)c - '0';

    if (base == 16 && digit > 9) {
        digit = ((unsigned)c | 0x20) - 'a';
        digit = digit < 6 ? digit + 10 : base;
    }
    return digit;
}

/*
 * Digits of @base from *@str on, at least one. Advances *@str.
 * Returns 0, -EINVAL or -ERANGE.
 */
static inline int parse_digits(const char **str, unsigned base, uint64_t *ret)
{
    const char *start = *str;
    size_t n = 0;
    uint64_t value = 0;
    bool overflow = false;
    unsigned digit;

    while (n < SAFE_DIGITS && (digit = digit_of(start[n], base)) < base) {
        value = value * base + digit;
        n++;
    }
    while (n >= SAFE_DIGITS && (digit = digit_of(start[n], base)) < base) {
        overflow |= __builtin_mul_overflow(value, base, &value);
        overflow |= __builtin_add_overflow(value, digit, &value);
        n++;
    }
    if (n == 0) {
        return -EINVAL;
    }
    *str = start + n;
    *ret = value;
    /* Junk after a number that is too large is junk all the same. */
    return overflow ? -ERANGE : 0;
}

/*
 * The digits after the point, as a part of 2^64 rounded down: the number is
 * 0.d1d2d3..., so from the last digit to the first, x = (x + d) / 10.
 */
static uint64_t fraction_of(const char *digits, const char *end)
{
    unsigned __int128 x = 0;

    while (end > digits) {
        unsigned digit = (unsigned)(*--end - '0');

        x = (((unsigned __int128)digit << 64) + x) / 10;
    }
    return (uint64_t)x;
}

static int parse_hex(const char *p, uint64_t *ret)
{
    uint64_t value;
    int err = parse_digits(&p, 16, &value);

    if (err == -EINVAL || *p) {
        return -EINVAL;
    }
    if (err == 0) {
        *ret = value;
    }
    return err;
}

/* What follows the digits of @whole, whose parsing gave @err. */
static int parse_rest(const char *p, uint64_t whole, int err, uint64_t *ret)
{
    const char *fraction = NULL;
    const char *fraction_end = NULL;
    int shift = 0;

    if (*p == '.') {
        fraction = ++p;
        while (g_ascii_isdigit(*p)) {
            p++;
        }
        fraction_end = p;
    }
    if (*p) {
        shift = suffix_shift(*p++);
    }
    if (shift < 0 || *p || (fraction != fraction_end && shift == 0)) {
        return -EINVAL;
    }
    if (err < 0 || whole > UINT64_MAX >> shift) {
        return -ERANGE;
    }
    whole <<= shift;
    if (fraction != fraction_end) { /* so @shift is not 0 */
        /* Less than 1 << shift, whose bits are zero in @whole. */
        whole |= fraction_of(fraction, fraction_end) >> (64 - shift);
    }
    *ret = whole;
    return 0;
}

int parse_size(const char *str, uint64_t *ret)
{
    const char *p = str;
    uint64_t whole;
    int err;

    while (g_ascii_isspace(*p)) {
        p++;
    }
    p += *p == '+';
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        return parse_hex(p + 2, ret);
    }
    err = parse_digits(&p, 10, &whole);
    if (err == -EINVAL) {
        return err;
    }
    if (err < 0 || *p) {
        return parse_rest(p, whole, err, ret);
    }
    *ret = whole;
    return 0;
}

char *format_size(uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    double value = (double)bytes;
    int unit = -1;

    /* 1023.5 would be shown as 1024 of the smaller unit. */
    while (value >= 1023.5 && units[unit + 1]) {
        value /= 1024;
        unit++;
    }
    if (unit < 0) {
        return g_strdup_printf("%u B", (unsigned)bytes);
    }
    /* %g has no exponent up to the precision; four digits reach 1023. */
    if (value >= 999.5) {
        g_ascii_formatd(number, sizeof(number), "%.0f", value);
    } else {
        g_ascii_formatd(number, sizeof(number), "%.3g", value);
    }
    return g_strdup_printf("%s %ciB", number, units[unit]);
}
