/* SPDX-License-Identifier: MIT */
/*
 * SHA-256, from libcrypto where the build found it (it uses the processor's
 * instructions: seven times as fast here), from glib otherwise.
 */
#ifndef FIRN_TOOLS_SHA256_H
#define FIRN_TOOLS_SHA256_H

#include <stddef.h>

#define SHA256_BYTES 32

typedef struct Sha256 Sha256;

Sha256 *sha256_new(void);

/* Append @bytes at @data. */
void sha256_update(Sha256 *sum, const void *data, size_t bytes);

/* The sum as 64 digits, valid as long as @sum; no update after it. */
const char *sha256_hex(Sha256 *sum);

/* NULL: nothing. */
void sha256_free(Sha256 *sum);

#endif
