/* SPDX-License-Identifier: MIT */
/* Block contents; see pattern.h. */
#include "pattern.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t pattern_random(uint64_t *state)
{
    *state += GOLDEN;
    return mix(*state);
}

uint64_t pattern_key(uint64_t seed, PatternKind kind, unsigned unit,
                     uint64_t index, uint32_t generation)
{
    uint64_t key = mix(seed + GOLDEN);

    key = mix(key ^ ((uint64_t)kind << 32 | unit));
    key = mix(key ^ index);
    return mix(key ^ generation);
}

void pattern_fill(void *buf, size_t bytes, uint64_t key)
{
    uint64_t *words = buf;

    for (size_t i = 0; i < bytes / 8; i++) {
        words[i] = mix(key + i * GOLDEN);
    }
}

bool pattern_matches(const void *buf, size_t bytes, uint64_t key)
{
    const uint64_t *words = buf;
    uint64_t diff = 0;

    for (size_t i = 0; i < bytes / 8; i++) {
        diff |= words[i] ^ mix(key + i * GOLDEN);
    }
    return diff == 0;
}

bool pattern_is_zero(const void *buf, size_t bytes)
{
    const uint64_t *words = buf;
    uint64_t any = 0;

    for (size_t i = 0; i < bytes / 8; i++) {
        any |= words[i];
    }
    return any == 0;
}

uint32_t pattern_hash(const void *buf, size_t bytes)
{
    const uint64_t *words = buf;
    uint64_t hash = bytes;

    for (size_t i = 0; i < bytes / 8; i++) {
        hash = (hash ^ words[i]) * GOLDEN;
        hash ^= hash >> 29;
    }
    return (uint32_t)mix(hash);
}
