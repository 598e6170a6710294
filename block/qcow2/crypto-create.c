/* SPDX-License-Identifier: MIT */
/*
 * Creating encrypted images: options as other tools name them, and the header
 * that becomes of them. The header's length follows from the key's, so a
 * layout can be planned before the slow part.
 */
#include "qcow2_int.h"

#include "block/secret.h"
#include "luks.h"
#include "util/nearest.h"
#include "util/thread-pool.h"

#define ITER_TIME_MS 2000

struct Qcow2CryptoCreate {
    char *secret_id;
    char *cipher;
    char *mode;
    char *hash;
    LuksParams params;          /* points to the above */
    GBytes *passphrase;
    GByteArray *header;
    GError *error;
};

void qcow2_crypto_create_free(Qcow2CryptoCreate *c)
{
    if (c) {
        g_free(c->secret_id);
        g_free(c->cipher);
        g_free(c->mode);
        g_free(c->hash);
        g_clear_pointer(&c->passphrase, g_bytes_unref);
        g_byte_array_unref(c->header);
        g_free(c);
    }
}

/* ---- options ---- */

static const char *const hashes[] = {
    "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", NULL
};

/* One of @names, *@ret unless that is given: a default or NULL. */
static int take_name(BdrvOptions *o, const char *key,
                     const char *const *names, char **ret, GError **errp)
{
    char *v = bdrv_options_take(o, key);

    if (!v) {
        return 0;
    }
    g_free(*ret);
    *ret = v;
    return g_strv_contains(names, v) ? 0
           : bdrv_options_refuse(key, v, names, errp);
}

/* "aes-256" and "xts" and "plain64" as LUKS names them. */
static int take_cipher(Qcow2CryptoCreate *c, BdrvOptions *o, GError **errp)
{
    g_autofree char *alg = g_strdup("aes-256");
    g_autofree char *mode = g_strdup("xts");
    g_autofree char *ivgen = g_strdup("plain64");
    g_autofree char *ivhash = NULL;
    bool essiv;
    int ret = take_name(o, "encrypt.cipher-alg",
                        NEAREST_LIST("aes-128", "aes-256"), &alg, errp);

    ret = ret < 0 ? ret : take_name(o, "encrypt.cipher-mode",
                                    NEAREST_LIST("xts", "cbc"), &mode, errp);
    ret = ret < 0 ? ret : take_name(o, "encrypt.ivgen-alg",
                                    NEAREST_LIST("plain", "plain64", "essiv"),
                                    &ivgen, errp);
    ret = ret < 0 ? ret : take_name(o, "encrypt.ivgen-hash-alg", hashes,
                                    &ivhash, errp);
    if (ret < 0) {
        return ret;
    }
    essiv = !strcmp(ivgen, "essiv");
    if (ivhash && !essiv) {
        return set_error(errp, -EINVAL,
                         "encrypt.ivgen-hash-alg needs ivgen-alg=essiv");
    }
    c->cipher = g_strdup("aes");
    c->mode = g_strdup_printf("%s-%s%s%s", mode, ivgen, essiv ? ":" : "",
                              !essiv ? "" : ivhash ? ivhash : "sha256");
    c->params.key_bytes = strtoul(alg + strlen("aes-"), NULL, 10) / 8 *
                          (strcmp(mode, "xts") ? 1 : 2);
    return 0;
}

static int take_create_options(Qcow2CryptoCreate *c, BdrvOptions *o,
                               GError **errp)
{
    int ret;

    c->secret_id = bdrv_options_take(o, "encrypt.key-secret");
    if (!c->secret_id) {
        return set_error(errp, -EINVAL, "encrypt.format=luks needs "
                         "encrypt.key-secret");
    }
    ret = take_cipher(c, o, errp);
    ret = ret < 0 ? ret : bdrv_options_take_u64(o, "encrypt.iter-time",
                                                ITER_TIME_MS,
                                                &c->params.iter_time_ms,
                                                errp);
    c->hash = g_strdup("sha256");
    ret = ret < 0 ? ret : take_name(o, "encrypt.hash-alg", hashes, &c->hash,
                                    errp);
    ret = ret < 0 ? ret : secret_lookup(c->secret_id, &c->passphrase, errp);
    c->params.cipher = c->cipher;
    c->params.mode = c->mode;
    c->params.hash = c->hash;
    return ret < 0 ? ret : qcow2_crypto_can_do(c->cipher, c->mode,
                                               c->params.key_bytes, errp);
}

int qcow2_crypto_take_create(BdrvOptions *o, Qcow2CryptoCreate **ret,
                             GError **errp)
{
    g_autofree char *format = bdrv_options_take(o, "encrypt.format");
    Qcow2CryptoCreate *c;
    int r;

    *ret = NULL;
    if (!format) {
        return 0;
    }
    if (!strcmp(format, "aes")) {
        return set_error(errp, -ENOTSUP, "encrypt.format=aes (the legacy "
                         "format) is not supported; take luks");
    }
    if (strcmp(format, "luks")) {
        return bdrv_options_refuse("encrypt.format", format,
                                   NEAREST_LIST("luks"), errp);
    }
    c = g_new0(Qcow2CryptoCreate, 1);
    c->header = g_byte_array_new();
    r = take_create_options(c, o, errp);
    if (r < 0) {
        qcow2_crypto_create_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

/* ---- header ---- */

const char *qcow2_crypto_secret(const Qcow2CryptoCreate *c)
{
    return c ? c->secret_id : NULL;
}

uint64_t qcow2_crypto_header_bytes(const Qcow2CryptoCreate *c)
{
    return c ? luks_header_bytes(c->params.key_bytes) : 0;
}

static int format_job(void *opaque)
{
    Qcow2CryptoCreate *c = opaque;

    return luks_format(&c->params, c->passphrase, c->header, &c->error);
}

int coroutine_fn qcow2_crypto_format(Qcow2CryptoCreate *c,
                                     const GByteArray **ret, GError **errp)
{
    int r = thread_pool_co_run(format_job, c);

    if (r < 0) {
        g_propagate_error(errp, c->error);
        return r;
    }
    *ret = c->header;
    return 0;
}
