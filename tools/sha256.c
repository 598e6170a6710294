/* SPDX-License-Identifier: MIT */
/* SHA-256 by libcrypto or by glib. */
#include <glib.h>
#include <stdint.h>

#include "tools/sha256.h"

#ifdef HAVE_LIBCRYPTO

#include <openssl/evp.h>

struct Sha256 {
    EVP_MD_CTX *ctx;
    char hex[2 * SHA256_BYTES + 1];     /* empty until asked for */
};

Sha256 *sha256_new(void)
{
    Sha256 *sum = g_new0(Sha256, 1);

    sum->ctx = EVP_MD_CTX_new();
    if (!sum->ctx || EVP_DigestInit_ex(sum->ctx, EVP_sha256(), NULL) != 1) {
        g_error("libcrypto has no SHA-256");
    }
    return sum;
}

void sha256_update(Sha256 *sum, const void *data, size_t bytes)
{
    EVP_DigestUpdate(sum->ctx, data, bytes);
}

const char *sha256_hex(Sha256 *sum)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE] = { 0 };
    unsigned i;

    if (!sum->hex[0]) {
        EVP_DigestFinal_ex(sum->ctx, raw, NULL);
        for (i = 0; i < SHA256_BYTES; i++) {
            sum->hex[2 * i] = digits[raw[i] >> 4];
            sum->hex[2 * i + 1] = digits[raw[i] & 15];
        }
    }
    return sum->hex;
}

void sha256_free(Sha256 *sum)
{
    if (sum) {
        EVP_MD_CTX_free(sum->ctx);
        g_free(sum);
    }
}

#else

struct Sha256 {
    GChecksum *checksum;
};

Sha256 *sha256_new(void)
{
    Sha256 *sum = g_new0(Sha256, 1);

    sum->checksum = g_checksum_new(G_CHECKSUM_SHA256);
    return sum;
}

void sha256_update(Sha256 *sum, const void *data, size_t bytes)
{
    g_checksum_update(sum->checksum, data, (gssize)bytes);
}

const char *sha256_hex(Sha256 *sum)
{
    return g_checksum_get_string(sum->checksum);
}

void sha256_free(Sha256 *sum)
{
    if (sum) {
        g_checksum_free(sum->checksum);
        g_free(sum);
    }
}

#endif
