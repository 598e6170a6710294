/* SPDX-License-Identifier: MIT */
/*
 * A long row of bits, most of which are alike: parts that are all 0 or all 1
 * take no memory. Setting and clearing never fail; when there is no memory for
 * it, bits become or stay 1 that should be 0, never the other way round. This
 * is what a record of changed blocks needs.
 *
 * No function yields; the caller sees to it that one thread uses it at a time.
 */
#ifndef FIRN_UTIL_SPARSE_BITS_H
#define FIRN_UTIL_SPARSE_BITS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More bits than this a row never has. */
#define SPARSE_BITS_MAX (1ULL << 32)

typedef struct SparseBits SparseBits;

/* @size <= SPARSE_BITS_MAX bits, all 0. Takes a few bytes until one is set. */
SparseBits *sparse_bits_new(uint64_t size);
/* NULL: nothing. */
void sparse_bits_free(SparseBits *b);
/* NULL when there is no memory. */
SparseBits *sparse_bits_copy(const SparseBits *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SparseBits, sparse_bits_free)

uint64_t sparse_bits_size(const SparseBits *b);
/* How many are 1. */
uint64_t sparse_bits_count(const SparseBits *b);
/* Bytes of memory in use, roughly. */
uint64_t sparse_bits_memory(const SparseBits *b);

/* New bits are 0. */
void sparse_bits_resize(SparseBits *b, uint64_t size);

/* [@first, @first + @n) lies inside. */
void sparse_bits_set(SparseBits *b, uint64_t first, uint64_t n);
void sparse_bits_clear(SparseBits *b, uint64_t first, uint64_t n);
bool sparse_bits_test(const SparseBits *b, uint64_t index);
/* First bit in [@from, @end) that is @value; @end when there is none. @end may
 * be anything up to the size. */
uint64_t sparse_bits_next(const SparseBits *b, uint64_t from, uint64_t end,
                          bool value);

/*
 * Bits from @first on as bytes, lowest bit first. @first is a multiple of 64,
 * @bytes of 8. Past the end: or_bytes ignores them, get_bytes gives 0.
 */
void sparse_bits_or_bytes(SparseBits *b, uint64_t first, const uint8_t *buf,
                          size_t bytes);
void sparse_bits_get_bytes(const SparseBits *b, uint64_t first, uint8_t *buf,
                           size_t bytes);

#endif
