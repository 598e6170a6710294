/* SPDX-License-Identifier: MIT */
/* What the two files of secrets share. */
#ifndef FIRN_BLOCK_SECRET_INT_H
#define FIRN_BLOCK_SECRET_INT_H

#include "block/secret.h"

#define SECRET_KEY_BYTES 32
#define SECRET_IV_BYTES  16

/* Decrypt *@n bytes at @data in place; *@n shrinks. Returns 0, -EINVAL (wrong
 * padding, so another key), or -ENOTSUP. */
int secret_decrypt(const uint8_t *key, const uint8_t *iv, char *data,
                   size_t *n, GError **errp);

#endif
