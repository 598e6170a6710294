/* SPDX-License-Identifier: MIT */
/*
 * A LUKS header as bytes: to a volume key and back, and its key slots. What
 * takes a passphrase blocks, a second or longer (they are slow on purpose); any
 * thread may call.
 */
#ifndef FIRN_BLOCK_QCOW2_LUKS_H
#define FIRN_BLOCK_QCOW2_LUKS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/be.h"

#define LUKS_MAX_KEY    64
/* Longer headers than any known one are refused. */
#define LUKS_MAX_HEADER (16u * 1024 * 1024)

/* ---- layout of version 1: byte offsets, big-endian numbers ---- */

#define LUKS_CIPHER_AT      8
#define LUKS_MODE_AT        40
#define LUKS_HASH_AT        72
#define LUKS_PAYLOAD_AT     104     /* in sectors */
#define LUKS_KEY_BYTES_AT   108
#define LUKS_DIGEST_ITER_AT 164
#define LUKS_UUID_AT        168
#define LUKS_SLOTS_AT       208
#define LUKS_SLOTS          8
#define LUKS_SLOT_BYTES     48
#define LUKS_PHDR_BYTES     592     /* key material is behind that */
#define LUKS_SECTOR         512

/* In a slot. A state is in one sector, the salt of a slot may be in two. */
#define LUKS_STATE_AT       0
#define LUKS_ITER_AT        4
#define LUKS_SALT_AT        8
#define LUKS_MATERIAL_AT    40      /* in sectors */
#define LUKS_STRIPES_AT     44
#define LUKS_SLOT_ACTIVE    0x00ac71f3u
#define LUKS_SLOT_INACTIVE  0x0000deadu

/* Where slot @i is in a header. */
static inline uint32_t luks_slot_at(unsigned i)
{
    return LUKS_SLOTS_AT + i * LUKS_SLOT_BYTES;
}

static inline bool luks_slot_is_active(const uint8_t *header, unsigned i)
{
    return be32_get(header + luks_slot_at(i)) == LUKS_SLOT_ACTIVE;
}

/* Where the key material of a slot is in a header. */
typedef struct LuksMaterial {
    uint64_t at;
    uint64_t bytes;
} LuksMaterial;

/* ---- the work ---- */

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
    uint64_t iter_time_ms;  /* that trying one passphrase takes, about */
} LuksParams;

/*
 * Returns 0; -EACCES: the passphrase is not one of this header; -EINVAL: it is
 * no header, or one that would take too long to try; -ENOTSUP: this build
 * cannot.
 */
int luks_open(const uint8_t *header, size_t bytes, GBytes *passphrase,
              LuksKey *ret, GError **errp);
/*
 * Where key material is, that of unused slots too. Returns 0, or -EINVAL: some
 * is not in the header, or shared.
 */
int luks_find_material(const uint8_t *header, size_t bytes,
                       LuksMaterial ret[LUKS_SLOTS], GError **errp);
/*
 * Which of the slots in @candidates (bits; active ones) does the passphrase
 * open? Returns 0 when it could be told, or -EINVAL.
 */
int luks_match_slots(const uint8_t *header, size_t bytes, unsigned candidates,
                     GBytes *passphrase, unsigned *ret, GError **errp);
/*
 * Give slot @slot of @header, which has the volume key @key, a passphrase that
 * takes @iter_time_ms to try; what the slot had is lost. Returns 0; -EINVAL:
 * the header is damaged, or would take too long to try.
 */
int luks_set_slot(uint8_t *header, size_t bytes, const LuksKey *key,
                  unsigned slot, GBytes *passphrase, uint64_t iter_time_ms,
                  GError **errp);
/* Length of a header for a key of @key_bytes. */
uint64_t luks_header_bytes(size_t key_bytes);
/* Appends a header with a new volume key and one passphrase to @ret. */
int luks_format(const LuksParams *params, GBytes *passphrase, GByteArray *ret,
                GError **errp);

#endif
