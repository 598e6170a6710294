/* SPDX-License-Identifier: MIT */
/*
 * Checksums in a thread of their own, so that hashing and reading overlap. A
 * few buffers are in flight; a producer that is faster waits.
 */
#ifndef FIRN_TOOLS_HASHER_H
#define FIRN_TOOLS_HASHER_H

#include <glib.h>
#include <stdint.h>

#include "tools/sha256.h"

typedef struct Hasher Hasher;

/* @stop is asked, from the thread, whether to drop long runs of zeroes. */
Hasher *hasher_new(gboolean (*stop)(void));

/* Append a copy of @bytes at @data (NULL: zero bytes) to @sum. */
void hasher_update(Hasher *hasher, Sha256 *sum, const uint8_t *data,
                   uint64_t bytes);

/* Finish what was given and free. NULL: nothing. */
void hasher_free(Hasher *hasher);

#endif
