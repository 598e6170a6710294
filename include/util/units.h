/* SPDX-License-Identifier: MIT */
/* Byte counts as people write and read them. Units are powers of 1024. */
#ifndef FIRN_UTIL_UNITS_H
#define FIRN_UTIL_UNITS_H

#include <stdint.h>

/*
 * Parse a size: blanks and a "+", which strtod() takes too, digits, an optional
 * decimal fraction, an optional suffix b, k, M, G, T, P or E of either case,
 * and nothing else: "512", "512b", "64k", "1.5G", "1.k", "0x1000". A fraction
 * needs a suffix and must give whole bytes, but for what a double would lose:
 * the result is rounded down. Hexadecimal takes neither fraction nor suffix.
 * Locale-independent.
 *
 * Returns 0; -EINVAL for anything that is not a size (empty, "-1", "1 k",
 * junk); -ERANGE above UINT64_MAX. @ret is untouched on failure.
 */
int parse_size(const char *str, uint64_t *ret);

/*
 * "0 B", "512 B", "1 KiB", "1.5 GiB", "16 EiB": three significant digits at
 * most after rounding, no trailing zeroes. Free with g_free.
 */
char *format_size(uint64_t bytes);

#endif
