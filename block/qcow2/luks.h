/* SPDX-License-Identifier: MIT */
/*
 * A LUKS header as bytes: to a volume key and back. Everything here blocks, a
 * second or longer (passphrases are slow on purpose); any thread may call.
 */
#ifndef FIRN_BLOCK_QCOW2_LUKS_H
#define FIRN_BLOCK_QCOW2_LUKS_H

#include <glib.h>
#include <stdint.h>

#define LUKS_MAX_KEY    64
/* Longer headers than any known one are refused. */
#define LUKS_MAX_HEADER (16u * 1024 * 1024)

/* What a header says about sectors. */
typedef struct LuksKey {
    char cipher[32];        /* "aes" */
    char mode[64];          /* "xts-plain64" */
    uint8_t key[LUKS_MAX_KEY];
    size_t key_bytes;
} LuksKey;

/* How a new header shall be. */
typedef struct LuksParams {
    const char *cipher;     /* as above */
    const char *mode;
    const char *hash;       /* "sha256" */
    size_t key_bytes;
    uint64_t iter_time_ms;  /* that trying one passphrase takes */
} LuksParams;

/*
 * Returns 0; -EACCES: the passphrase is not one of this header; -EINVAL: it is
 * no header, or one that would take too long to try; -ENOTSUP: this build
 * cannot.
 */
int luks_open(const uint8_t *header, size_t bytes, GBytes *passphrase,
              LuksKey *ret, GError **errp);
/* Length of a header for a key of @key_bytes. */
uint64_t luks_header_bytes(size_t key_bytes);
/* Appends a header with a new volume key and one passphrase to @ret. */
int luks_format(const LuksParams *params, GBytes *passphrase, GByteArray *ret,
                GError **errp);

#endif
