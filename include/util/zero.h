/* SPDX-License-Identifier: MIT */
/*
 * Zero detection, with the widest vectors the CPU has. The variant is chosen
 * once, at the first call. All of them stop at the first byte that is not
 * zero (or not the one that is looked for), and accept any address and length.
 */
#ifndef FIRN_UTIL_ZERO_H
#define FIRN_UTIL_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Are all @len bytes at @buf zero? True for no bytes. Any thread. */
bool buffer_is_zero(const void *buf, size_t len);
/* Are they all @byte? */
bool buffer_is_filled(const void *buf, uint8_t byte, size_t len);

/* For tests and benchmarks: the variants one by one. */
typedef struct ZeroVariant {
    const char *name;           /* "avx512", "avx2", "sse2", "neon", "plain" */
    bool (*is_zero)(const void *buf, size_t len);
    bool (*is_filled)(const void *buf, uint8_t byte, size_t len);
    bool (*supported)(void);    /* may they be called on this CPU? */
} ZeroVariant;

/*
 * Every variant of this build, best first; the last one is "plain" and always
 * supported. The list ends with a NULL name. The functions above use the first
 * supported one.
 */
const ZeroVariant *buffer_is_zero_variants(void);

#endif
