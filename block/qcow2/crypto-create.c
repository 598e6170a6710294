/* SPDX-License-Identifier: MIT */
/*
 * Creating encrypted images: options as other tools name them, and the header
 * that becomes of them. The header's length follows from the key's, so a
 * layout can be planned before the slow part.
 */
#include "qcow2_int.h"

#include "block/secret.h"
#include "luks.h"
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

static char *take_name(BdrvOptions *o, const char *key, const char *dflt)
{
    char *v = bdrv_options_take(o, key);

    return v ? v : g_strdup(dflt);
}

/* "aes-256" and "xts" and "plain64" as LUKS names them. */
static int take_cipher(Qcow2CryptoCreate *c, BdrvOptions *o, GError **errp)
{
    g_autofree char *alg = take_name(o, "encrypt.cipher-alg", "aes-256");
    g_autofree char *mode = take_name(o, "encrypt.cipher-mode", "xts");
    g_autofree char *ivgen = take_name(o, "encrypt.ivgen-alg", "plain64");
    g_autofree char *ivhash = bdrv_options_take(o, "encrypt.ivgen-hash-alg");
    const char *dash = strrchr(alg, '-');
    bool xts = !strcmp(mode, "xts"), essiv = !strcmp(ivgen, "essiv");
    guint64 bits;

    if (!dash || !g_ascii_string_to_unsigned(dash + 1, 10, 1, 256, &bits,
                                             NULL)) {
        return set_error(errp, -EINVAL, "encrypt.cipher-alg is aes-128 or "
                         "aes-256, not '%s'", alg);
    }
    if (ivhash && !essiv) {
        return set_error(errp, -EINVAL,
                         "encrypt.ivgen-hash-alg needs ivgen-alg=essiv");
    }
    c->cipher = g_strndup(alg, dash - alg);
    c->mode = g_strdup_printf("%s-%s%s%s", mode, ivgen, essiv ? ":" : "",
                              !essiv ? "" : ivhash ? ivhash : "sha256");
    c->params.key_bytes = bits / 8 * (xts ? 2 : 1);
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
    ret = ret < 0 ? ret : secret_lookup(c->secret_id, &c->passphrase, errp);
    c->hash = take_name(o, "encrypt.hash-alg", "sha256");
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
    if (strcmp(format, "luks")) {
        return set_error(errp, -ENOTSUP, "encrypt.format is luks, not '%s'",
                         format);
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
