/* SPDX-License-Identifier: MIT */
/*
 * Zero detection.
 *
 * The vector variants share one shape. One unaligned load covers the head and
 * one the tail; between them aligned blocks of several vectors are or-ed
 * together and tested once per block. Head, tail and blocks overlap, which
 * costs nothing and spares all scalar loops. Most pages that are not zero show
 * it in the head, so that is tested first. Buffers shorter than a vector go to
 * the plain loop.
 */
#include "util/zero.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ---- plain ---- */

static bool plain_is_zero(const void *buf, size_t len)
{
    const uint8_t *p = buf;
    uint64_t word;

    for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        if (word) {
            return false;
        }
    }
    for (; len > 0; p++, len--) {
        if (*p) {
            return false;
        }
    }
    return true;
}

static bool plain_supported(void)
{
    return true;
}

/*
 * Define NAME(buf, len) for vectors VEC of WIDTH bytes. LOADU and LOAD load
 * without and with alignment, OR combines, IS_ZERO tests one vector.
 */
#define DEFINE_IS_ZERO(NAME, TARGET, VEC, WIDTH, LOADU, LOAD, OR, IS_ZERO)  \
TARGET static bool NAME(const void *buf, size_t len)                        \
{                                                                           \
    const uint8_t *p = buf;                                                 \
    const uint8_t *tail;                                                    \
                                                                            \
    if (len < (WIDTH)) {                                                    \
        return plain_is_zero(buf, len);                                     \
    }                                                                       \
    tail = p + len - (WIDTH);                                               \
    if (!IS_ZERO(LOADU(p)) || !IS_ZERO(LOADU(tail))) {                      \
        return false;                                                       \
    }                                                                       \
    /* First aligned vector after @buf; @tail covers what follows it. */    \
    p = (const uint8_t *)(((uintptr_t)p + (WIDTH)) &                        \
                          ~(uintptr_t)((WIDTH) - 1));                       \
    for (; p < tail && (size_t)(tail - p) >= 4 * (WIDTH);                   \
         p += 4 * (WIDTH)) {                                                \
        VEC a = OR(LOAD(p), LOAD(p + (WIDTH)));                             \
        VEC b = OR(LOAD(p + 2 * (WIDTH)), LOAD(p + 3 * (WIDTH)));           \
                                                                            \
        if (!IS_ZERO(OR(a, b))) {                                           \
            return false;                                                   \
        }                                                                   \
    }                                                                       \
    for (; p < tail; p += (WIDTH)) {                                        \
        if (!IS_ZERO(LOAD(p))) {                                            \
            return false;                                                   \
        }                                                                   \
    }                                                                       \
    return true;                                                            \
}

/* ---- x86-64 ---- */

#if defined(__x86_64__)

#define SSE2_LOADU(p)   _mm_loadu_si128((const __m128i *)(const void *)(p))
#define SSE2_LOAD(p)    _mm_load_si128((const __m128i *)(const void *)(p))
#define SSE2_IS_ZERO(v) \
    (_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff)

DEFINE_IS_ZERO(sse2_is_zero, , __m128i, 16, SSE2_LOADU, SSE2_LOAD,
               _mm_or_si128, SSE2_IS_ZERO)

#define AVX2_LOADU(p)   _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define AVX2_LOAD(p)    _mm256_load_si256((const __m256i *)(const void *)(p))
#define AVX2_IS_ZERO(v) _mm256_testz_si256(v, v)

DEFINE_IS_ZERO(avx2_is_zero, __attribute__((target("avx2"))), __m256i, 32,
               AVX2_LOADU, AVX2_LOAD, _mm256_or_si256, AVX2_IS_ZERO)

#define AVX512_LOADU(p)   _mm512_loadu_si512(p)
#define AVX512_LOAD(p)    _mm512_load_si512(p)
#define AVX512_IS_ZERO(v) (_mm512_test_epi32_mask(v, v) == 0)

DEFINE_IS_ZERO(avx512_is_zero, __attribute__((target("avx512f"))), __m512i,
               64, AVX512_LOADU, AVX512_LOAD, _mm512_or_si512, AVX512_IS_ZERO)

static bool avx2_supported(void)
{
    return __builtin_cpu_supports("avx2");
}

static bool avx512_supported(void)
{
    return __builtin_cpu_supports("avx512f");
}

/* ---- aarch64 ---- */

#elif defined(__aarch64__)

#define NEON_LOAD(p)    vld1q_u32((const uint32_t *)(const void *)(p))
#define NEON_IS_ZERO(v) (vmaxvq_u32(v) == 0)

DEFINE_IS_ZERO(neon_is_zero, , uint32x4_t, 16, NEON_LOAD, NEON_LOAD,
               vorrq_u32, NEON_IS_ZERO)

#endif

/* ---- choice ---- */

static const ZeroVariant variants[] = {
#if defined(__x86_64__)
    { "avx512", avx512_is_zero, avx512_supported },
    { "avx2", avx2_is_zero, avx2_supported },
    { "sse2", sse2_is_zero, plain_supported },  /* part of x86-64 */
#elif defined(__aarch64__)
    { "neon", neon_is_zero, plain_supported },  /* part of aarch64 */
#endif
    { "plain", plain_is_zero, plain_supported },
    { NULL, NULL, NULL },
};

const ZeroVariant *buffer_is_zero_variants(void)
{
    return variants;
}

static bool choose_is_zero(const void *buf, size_t len);

/* Threads that choose at the same time store the same value. */
static bool (*_Atomic chosen)(const void *buf, size_t len) = choose_is_zero;

static bool choose_is_zero(const void *buf, size_t len)
{
    const ZeroVariant *v = variants;

    while (!v->supported()) {
        v++;
    }
    chosen = v->is_zero;
    return v->is_zero(buf, len);
}

bool buffer_is_zero(const void *buf, size_t len)
{
    return chosen(buf, len);
}
