/* SPDX-License-Identifier: MIT */
/*
 * Secrets that are given encrypted by another one, as libvirt does so that no
 * passphrase stands on a command line: AES-256 in CBC mode, padded as PKCS #7
 * says.
 */
#include "block/secret_int.h"

#include <errno.h>
#include <string.h>

#include "util/error.h"

#ifdef CONFIG_LUKS
#include <openssl/evp.h>

int secret_decrypt(const uint8_t *key, const uint8_t *iv, char *data,
                   size_t *n, GError **errp)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    g_autofree uint8_t *out = g_malloc(*n + 16);
    int len = 0, rest = 0;
    bool ok;

    ok = ctx && EVP_DecryptInit_ex(ctx, EVP_aes_256_cbc(), NULL, key,
                                   iv) == 1 &&
         EVP_DecryptUpdate(ctx, out, &len, (uint8_t *)data, *n) == 1 &&
         EVP_DecryptFinal_ex(ctx, out + len, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (ok) {
        memcpy(data, out, len + rest);
        explicit_bzero(data + len + rest, *n - (size_t)(len + rest));
        *n = len + rest;
    }
    explicit_bzero(out, len + rest);
    return ok ? 0 : set_error(errp, -EINVAL, "the secret was not encrypted "
                              "with that key and iv");
}
#else
int secret_decrypt(const uint8_t *key, const uint8_t *iv, char *data,
                   size_t *n, GError **errp)
{
    return set_error(errp, -ENOTSUP, "this build cannot decrypt secrets");
}
#endif
