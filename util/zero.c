/* SPDX-License-Identifier: MIT */
/*
 * Zero detection, and that of any other byte: what is tested then is the
 * difference from it.
 *
 * The vector variants share one shape. One unaligned load covers the head and
 * one the tail; between them aligned blocks of several vectors are or-ed
 * together and tested once per block. Head, tail and blocks overlap, which
 * costs nothing and spares all scalar loops. Most pages that are not zero show
 * it in the head, so that is tested first. Buffers shorter than a vector go to
 * the plain loop.
 */
#include "util/zero.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ---- plain ---- */

static bool plain_is_filled(const void *buf, uint8_t byte, size_t len)
{
    const uint8_t *p = buf;
    uint64_t all = UINT64_C(0x0101010101010101) * byte;
    uint64_t word;

    for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        if (word != all) {
            return false;
        }
    }
    for (; len > 0; p++, len--) {
        if (*p != byte) {
            return false;
        }
    }
    return true;
}

static bool plain_is_zero(const void *buf, size_t len)
{
    return plain_is_filled(buf, 0, len);
}

static bool plain_supported(void)
{
    return true;
}

/*
 * Define NAME_is_filled and NAME_is_zero for vectors VEC of WIDTH bytes. LOADU
 * and LOAD load without and with alignment, SET repeats a byte, IS_ZERO tests
 * one vector. With the constant 0 for the byte the compiler leaves out
 * the ^.
 */
#define DEFINE_VARIANT(NAME, TARGET, VEC, WIDTH, LOADU, LOAD, SET, IS_ZERO) \
TARGET static inline __attribute__((always_inline))                         \
bool NAME##_test(const void *buf, uint8_t byte, size_t len)                 \
{                                                                           \
    const uint8_t *p = buf;                                                 \
    const uint8_t *tail;                                                    \
    VEC all;                                                                \
                                                                            \
    if (len < (WIDTH)) {                                                    \
        return plain_is_filled(buf, byte, len);                             \
    }                                                                       \
    all = SET(byte);                                                        \
    tail = p + len - (WIDTH);                                               \
    if (!IS_ZERO(LOADU(p) ^ all) || !IS_ZERO(LOADU(tail) ^ all)) {          \
        return false;                                                       \
    }                                                                       \
    /* First aligned vector after @buf; @tail covers what follows it. */    \
    p = (const uint8_t *)(((uintptr_t)p + (WIDTH)) &                        \
                          ~(uintptr_t)((WIDTH) - 1));                       \
    for (; p < tail && (size_t)(tail - p) >= 4 * (WIDTH);                   \
         p += 4 * (WIDTH)) {                                                \
        VEC a = (LOAD(p) ^ all) | (LOAD(p + (WIDTH)) ^ all);                \
        VEC b = (LOAD(p + 2 * (WIDTH)) ^ all) |                             \
                (LOAD(p + 3 * (WIDTH)) ^ all);                              \
                                                                            \
        if (!IS_ZERO(a | b)) {                                              \
            return false;                                                   \
        }                                                                   \
    }                                                                       \
    for (; p < tail; p += (WIDTH)) {                                        \
        if (!IS_ZERO(LOAD(p) ^ all)) {                                      \
            return false;                                                   \
        }                                                                   \
    }                                                                       \
    return true;                                                            \
}                                                                           \
                                                                            \
TARGET static bool NAME##_is_filled(const void *buf, uint8_t byte,          \
                                    size_t len)                             \
{                                                                           \
    return NAME##_test(buf, byte, len);                                     \
}                                                                           \
                                                                            \
TARGET static bool NAME##_is_zero(const void *buf, size_t len)              \
{                                                                           \
    return NAME##_test(buf, 0, len);                                        \
}

/* ---- x86-64 ---- */

#if defined(__x86_64__)

#define SSE2_LOADU(p)   _mm_loadu_si128((const __m128i *)(const void *)(p))
#define SSE2_LOAD(p)    _mm_load_si128((const __m128i *)(const void *)(p))
#define SSE2_IS_ZERO(v) \
    (_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff)

#define SSE2_SET(byte)  _mm_set1_epi8((char)(byte))

DEFINE_VARIANT(sse2, , __m128i, 16, SSE2_LOADU, SSE2_LOAD, SSE2_SET,
               SSE2_IS_ZERO)

#define AVX2_LOADU(p)   _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define AVX2_LOAD(p)    _mm256_load_si256((const __m256i *)(const void *)(p))
#define AVX2_IS_ZERO(v) _mm256_testz_si256(v, v)

#define AVX2_SET(byte)  _mm256_set1_epi8((char)(byte))

DEFINE_VARIANT(avx2, __attribute__((target("avx2"))), __m256i, 32,
               AVX2_LOADU, AVX2_LOAD, AVX2_SET, AVX2_IS_ZERO)

#define AVX512_LOADU(p)   _mm512_loadu_si512(p)
#define AVX512_LOAD(p)    _mm512_load_si512(p)
#define AVX512_IS_ZERO(v) (_mm512_test_epi32_mask(v, v) == 0)

#define AVX512_SET(byte)  _mm512_set1_epi8((char)(byte))

DEFINE_VARIANT(avx512, __attribute__((target("avx512f"))), __m512i, 64,
               AVX512_LOADU, AVX512_LOAD, AVX512_SET, AVX512_IS_ZERO)

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
#define NEON_SET(byte)  vreinterpretq_u32_u8(vdupq_n_u8(byte))
#define NEON_IS_ZERO(v) (vmaxvq_u32(v) == 0)

DEFINE_VARIANT(neon, , uint32x4_t, 16, NEON_LOAD, NEON_LOAD, NEON_SET,
               NEON_IS_ZERO)

#endif

/* ---- choice ---- */

static const ZeroVariant variants[] = {
#if defined(__x86_64__)
    { "avx512", avx512_is_zero, avx512_is_filled, avx512_supported },
    { "avx2", avx2_is_zero, avx2_is_filled, avx2_supported },
    /* Part of x86-64. */
    { "sse2", sse2_is_zero, sse2_is_filled, plain_supported },
#elif defined(__aarch64__)
    /* Part of aarch64. */
    { "neon", neon_is_zero, neon_is_filled, plain_supported },
#endif
    { "plain", plain_is_zero, plain_is_filled, plain_supported },
    { NULL, NULL, NULL, NULL },
};

const ZeroVariant *buffer_is_zero_variants(void)
{
    return variants;
}

static const ZeroVariant *choose(void)
{
    const ZeroVariant *v = variants;

    while (!v->supported()) {
        v++;
    }
    return v;
}

/* NULL before the first call. Threads that choose at the same time store the
 * same value. */
static _Atomic(const ZeroVariant *) chosen;

static inline const ZeroVariant *best(void)
{
    const ZeroVariant *v = atomic_load_explicit(&chosen,
                                                memory_order_relaxed);

    if (!v) {
        v = choose();
        atomic_store_explicit(&chosen, v, memory_order_relaxed);
    }
    return v;
}

bool buffer_is_zero(const void *buf, size_t len)
{
    return best()->is_zero(buf, len);
}

bool buffer_is_filled(const void *buf, uint8_t byte, size_t len)
{
    return best()->is_filled(buf, byte, len);
}
