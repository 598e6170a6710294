/* SPDX-License-Identifier: MIT */
/*
 * Block contents that can be told from their position: 64-bit words from a
 * counter-based generator (the finalizer of splitmix64).
 */
#ifndef VMM_PATTERN_H
#define VMM_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a block is, for pattern_key(). */
typedef enum PatternKind { PATTERN_RAM = 0, PATTERN_DISK = 1 } PatternKind;

/* The next number of a generator whose state is *@state. */
uint64_t pattern_random(uint64_t *state);

/* The key of version @generation (not 0) of block @index of @kind + unit. */
uint64_t pattern_key(uint64_t seed, PatternKind kind, unsigned unit,
                     uint64_t index, uint32_t generation);

/* Fill @bytes (a multiple of 8, 8-aligned) with the block of @key. */
void pattern_fill(void *buf, size_t bytes, uint64_t key);

/* Is this the block of @key? All zero? */
bool pattern_matches(const void *buf, size_t bytes, uint64_t key);
bool pattern_is_zero(const void *buf, size_t bytes);

/* A 32-bit hash of any content. */
uint32_t pattern_hash(const void *buf, size_t bytes);

#endif
