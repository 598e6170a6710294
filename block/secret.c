/* SPDX-License-Identifier: MIT */
/*
 * See secret.h. A secret is kept as bytes of its own memory that is cleared
 * before it is freed; what it was read from is cleared as well.
 */
#include "block/secret_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/error.h"
#include "util/nearest.h"
#include "util/small-file.h"

#define MAX_SECRET (1024 * 1024)

typedef struct SecretBytes {
    size_t n;
    uint8_t data[];
} SecretBytes;

static GMutex lock;
static GHashTable *secrets; /* id -> GBytes */

static void wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

static void free_bytes(gpointer data)
{
    SecretBytes *b = data;

    wipe(b->data, b->n);
    g_free(b);
}

static GBytes *make_bytes(const void *data, size_t n)
{
    SecretBytes *b = g_malloc(sizeof(*b) + n);

    b->n = n;
    memcpy(b->data, data, n);
    return g_bytes_new_with_free_func(b->data, n, free_bytes, b);
}

/* Base64 of @text, which may have line ends, in place; @what it is. */
static int decode_base64(const char *what, char *text, size_t *n,
                         GError **errp)
{
    gint state = 0;
    guint save = 0;
    size_t used = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                               "qrstuvwxyz0123456789+/=\r\n");
    size_t out;

    if (used != *n) {
        return set_error(errp, -EINVAL, "%s is not base64", what);
    }
    out = g_base64_decode_step(text, used, (guchar *)text, &state, &save);
    if (state) {
        return set_error(errp, -EINVAL, "%s is not base64", what);
    }
    wipe(text + out, used - out);
    *n = out;
    return 0;
}

/* With what the bytes are encrypted; no keyid: they are not. */
typedef struct Lock {
    char *keyid;
    char *iv;               /* base64, then bytes */
    GBytes *key;
} Lock;

static void lock_clear(Lock *l)
{
    g_clear_pointer(&l->key, g_bytes_unref);
    g_clear_pointer(&l->keyid, g_free);
    g_clear_pointer(&l->iv, g_free);
}

static int find_key(Lock *l, GError **errp)
{
    size_t n = strlen(l->iv);
    int ret = secret_lookup(l->keyid, &l->key, errp);

    if (ret < 0) {
        return ret;
    }
    if (g_bytes_get_size(l->key) != SECRET_KEY_BYTES) {
        return set_error(errp, -EINVAL, "secret '%s' cannot be a key: it has "
                         "%zu bytes, not %d", l->keyid,
                         g_bytes_get_size(l->key), SECRET_KEY_BYTES);
    }
    ret = decode_base64("iv", l->iv, &n, errp);
    return ret < 0 || n == SECRET_IV_BYTES ? ret
           : set_error(errp, -EINVAL, "iv has %zu bytes, not %d", n,
                       SECRET_IV_BYTES);
}

static int take_bytes(BdrvOptions *opts, char **ret_data, size_t *ret_n,
                      GError **errp)
{
    g_autofree char *path = bdrv_options_take(opts, "file");
    g_autofree char *format = bdrv_options_take(opts, "format");
    char *data = bdrv_options_take(opts, "data");
    size_t n = data ? strlen(data) : 0;
    Lock l = {
        .keyid = bdrv_options_take(opts, "keyid"),
        .iv = bdrv_options_take(opts, "iv"),
    };
    int ret;

    ret = bdrv_options_check_empty(opts, errp);
    if (ret == 0 && !data == !path) {
        ret = set_error(errp, -EINVAL, "a secret has either data or file");
    }
    if (ret == 0 && !l.keyid != !l.iv) {
        ret = set_error(errp, -EINVAL, "a secret has both keyid and iv, or "
                        "neither");
    }
    if (ret == 0 && format && strcmp(format, "raw") &&
        strcmp(format, "base64")) {
        ret = bdrv_options_refuse("format", format,
                                  NEAREST_LIST("raw", "base64"), errp);
    }
    if (ret == 0 && l.keyid) {
        ret = find_key(&l, errp);
    }
    if (ret == 0 && path) {
        ret = read_small_file(path, "secret", MAX_SECRET, &data, &n, errp);
    }
    if (ret == 0 && format && !strcmp(format, "base64")) {
        ret = decode_base64("the secret", data, &n, errp);
    }
    if (ret == 0 && l.key) {
        ret = secret_decrypt(g_bytes_get_data(l.key, NULL),
                             (const uint8_t *)l.iv, data, &n, errp);
    }
    lock_clear(&l);
    if (ret < 0) {
        if (data) {
            wipe(data, n);
        }
        g_free(data);
        return ret;
    }
    *ret_data = data;
    *ret_n = n;
    return 0;
}

int secret_add(const char *id, BdrvOptions *opts, GError **errp)
{
    char *data;
    size_t n;
    int ret = take_bytes(opts, &data, &n, errp);

    bdrv_options_free(opts);
    if (ret < 0) {
        return ret;
    }
    g_mutex_lock(&lock);
    if (!secrets) {
        secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        (GDestroyNotify)g_bytes_unref);
    }
    if (g_hash_table_contains(secrets, id)) {
        ret = set_error(errp, -EEXIST, "there is a secret '%s' already", id);
    } else {
        g_hash_table_insert(secrets, g_strdup(id), make_bytes(data, n));
    }
    g_mutex_unlock(&lock);
    wipe(data, n);
    g_free(data);
    return ret;
}

/* A name as QEMU wants it. */
static bool is_identifier(const char *id)
{
    if (!g_ascii_isalpha(*id)) {
        return false;
    }
    while (g_ascii_isalnum(*id) || (*id && strchr("-._", *id))) {
        id++;
    }
    return !*id;
}

int secret_add_object(const char *text, GError **errp)
{
    g_autoptr(BdrvOptions) opts = NULL;
    g_autofree char *type = NULL;
    g_autofree char *id = NULL;
    size_t len = strcspn(text, ",");
    int ret = 0;

    if (!*text) {
        return set_error(errp, -EINVAL, "--object says nothing; it is "
                         "secret,id=NAME,data=TEXT or "
                         "secret,id=NAME,file=PATH");
    }
    if (*text == '{') {
        ret = bdrv_options_parse_json(&opts, text, errp);
    } else if (memchr(text, '=', len)) {
        ret = bdrv_options_parse(&opts, text, errp);
    } else {
        type = g_strndup(text, len);
        if (!strcmp(type, "secret")) {
            ret = bdrv_options_parse(&opts, text + len + !!text[len], errp);
        }
    }
    if (ret < 0) {
        return ret;
    }
    if (!type) {
        type = bdrv_options_take(opts, "qom-type");
    }
    if (!type) {
        return bdrv_options_missing(opts, "--object", "qom-type", errp);
    }
    if (strcmp(type, "secret")) {
        return bdrv_options_refuse("--object", type, NEAREST_LIST("secret"),
                                   errp);
    }
    id = bdrv_options_take(opts, "id");
    if (!id) {
        return bdrv_options_missing(opts, "--object secret", "id", errp);
    }
    if (!is_identifier(id)) {
        return set_error(errp, -EINVAL, "--object secret: id '%s' is not a "
                         "name: a letter, then letters, digits, '-', '.' and "
                         "'_'", id);
    }
    ret = secret_add(id, g_steal_pointer(&opts), errp);
    return ret < 0 ? prefix_error(errp, ret, "--object secret: ") : 0;
}

int secret_remove(const char *id)
{
    bool gone;

    g_mutex_lock(&lock);
    gone = secrets && g_hash_table_remove(secrets, id);
    g_mutex_unlock(&lock);
    return gone ? 0 : -ENOENT;
}

int secret_lookup(const char *id, GBytes **ret, GError **errp)
{
    GBytes *b;

    g_mutex_lock(&lock);
    b = secrets ? g_hash_table_lookup(secrets, id) : NULL;
    if (b) {
        g_bytes_ref(b);
    }
    g_mutex_unlock(&lock);
    if (!b) {
        return set_error(errp, -ENOENT, "there is no secret '%s'", id);
    }
    *ret = b;
    return 0;
}
