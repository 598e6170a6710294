/* SPDX-License-Identifier: MIT */
/*
 * In place of crypto.c in a build without libcryptsetup or libcrypto:
 * encrypted images can be checked, and nothing else.
 */
#include "qcow2_int.h"

void qcow2_crypto_free(Qcow2Crypto *c)
{
    assert(!c);
}

int coroutine_fn qcow2_crypto_preadv(Qcow2State *s, uint64_t host_offset,
                                     uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset)
{
    return -EACCES;
}

int coroutine_fn qcow2_crypto_pwritev(Qcow2State *s, uint64_t host_offset,
                                      uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
{
    return -EACCES;
}

int coroutine_fn qcow2_crypto_write_any(Qcow2State *s, uint64_t guest_offset,
                                        uint64_t bytes, QEMUIOVector *qiov)
{
    return qcow2_write_range(s, guest_offset, bytes, qiov);
}

int coroutine_fn qcow2_crypto_open(Qcow2State *s, BdrvOptions *options,
                                   unsigned flags, GError **errp)
{
    if (!s->hdr.crypt_method || (flags & (BDRV_O_CHECK | BDRV_O_NO_IO))) {
        return 0;
    }
    return set_error(errp, -ENOTSUP, "this build cannot open encrypted "
                     "images (%s)", s->hdr.crypt_method == 1 ? "AES"
                                                             : "LUKS");
}

int qcow2_crypto_take_create(BdrvOptions *o, Qcow2CryptoCreate **ret,
                             GError **errp)
{
    *ret = NULL;
    return bdrv_options_get(o, "encrypt.format")
           ? set_error(errp, -ENOTSUP,
                       "this build cannot create encrypted images") : 0;
}

void qcow2_crypto_create_free(Qcow2CryptoCreate *c)
{
    assert(!c);
}

const char *qcow2_crypto_secret(const Qcow2CryptoCreate *c)
{
    return NULL;
}

uint64_t qcow2_crypto_header_bytes(const Qcow2CryptoCreate *c)
{
    return 0;
}

int coroutine_fn qcow2_crypto_format(Qcow2CryptoCreate *c,
                                     const GByteArray **ret, GError **errp)
{
    g_assert_not_reached();
}

int qcow2_crypto_take_amend(const Qcow2State *s, BdrvOptions *o, bool force,
                            Qcow2CryptoAmend **ret, GError **errp)
{
    *ret = NULL;
    return bdrv_options_mentions(o, "encrypt.")
           ? set_error(errp, -ENOTSUP,
                       "this build cannot change passphrases") : 0;
}

void qcow2_crypto_amend_free(Qcow2CryptoAmend *a)
{
    assert(!a);
}

int coroutine_fn qcow2_crypto_prepare_amend(Qcow2State *s,
                                            Qcow2CryptoAmend *a,
                                            GError **errp)
{
    return 0;
}

int coroutine_fn qcow2_crypto_amend(Qcow2State *s, Qcow2CryptoAmend *a,
                                    GError **errp)
{
    return 0;
}
