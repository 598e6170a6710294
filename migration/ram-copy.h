/* SPDX-License-Identifier: MIT */
/*
 * Copying a page into guest RAM. A load fills far more RAM than any cache
 * holds and nobody reads it soon, so stores go past the cache where the CPU
 * has such: half the time of memcpy, which first reads what it overwrites.
 */
#ifndef FIRN_MIGRATION_RAM_COPY_H
#define FIRN_MIGRATION_RAM_COPY_H

#include "migration/ram.h"

#ifdef __SSE2__
#include <emmintrin.h>

/* @page is page aligned, @from is not. ram_copy_fence() ends a batch. */
static inline void ram_copy_page(uint8_t *page, const uint8_t *from)
{
    __m128i *to = (__m128i *)(void *)page;
    const __m128i *at = (const __m128i *)(const void *)from;

    for (unsigned i = 0; i < TARGET_PAGE_SIZE / sizeof(*to); i += 4) {
        __m128i a = _mm_loadu_si128(at + i);
        __m128i b = _mm_loadu_si128(at + i + 1);
        __m128i c = _mm_loadu_si128(at + i + 2);
        __m128i d = _mm_loadu_si128(at + i + 3);

        _mm_stream_si128(to + i, a);
        _mm_stream_si128(to + i + 1, b);
        _mm_stream_si128(to + i + 2, c);
        _mm_stream_si128(to + i + 3, d);
    }
}

static inline void ram_copy_fence(void)
{
    _mm_sfence();
}

#else

static inline void ram_copy_page(uint8_t *page, const uint8_t *from)
{
    memcpy(page, from, TARGET_PAGE_SIZE);
}

static inline void ram_copy_fence(void)
{
}

#endif

#endif
