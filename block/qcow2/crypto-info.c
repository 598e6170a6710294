/* SPDX-License-Identifier: MIT */
/*
 * What the header of an encrypted image tells without its key. Needs neither
 * of the libraries that crypto.c does.
 */
#include "qcow2_int.h"

#include "block/info.h"
#include "luks.h"

static void add_text(JsonObject *o, const char *name, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    json_object_set_string_member(o, name, valid);
}

/* "xts-plain64", "cbc-essiv:sha256" */
static void add_mode(JsonObject *o, const char *mode)
{
    g_auto(GStrv) words = g_strsplit_set(mode, "-:", 3);
    guint n = g_strv_length(words);

    add_text(o, "cipher-mode", words[0] ? words[0] : "");
    add_text(o, "ivgen-alg", n > 1 ? words[1] : "");
    if (n > 2) {
        add_text(o, "ivgen-hash-alg", words[2]);
    }
}

static JsonObject *describe_slot(const uint8_t *h, unsigned i)
{
    const uint8_t *slot = h + luks_slot_at(i);
    JsonObject *o = json_object_new();
    bool active = luks_slot_is_active(h, i);

    json_object_set_boolean_member(o, "active", active);
    if (active) {
        json_object_set_int_member(o, "iters", be32_get(slot + LUKS_ITER_AT));
    }
    json_object_set_int_member(
        o, "key-offset",
        (gint64)be32_get(slot + LUKS_MATERIAL_AT) * LUKS_SECTOR);
    if (active) {
        json_object_set_int_member(o, "stripes",
                                   be32_get(slot + LUKS_STRIPES_AT));
    }
    return o;
}

/* Members in the order in which to show them. */
static JsonObject *describe_luks(const uint8_t *h)
{
    static const char *const order[] = {
        "ivgen-alg", "hash-alg", "cipher-alg", "uuid", "ivgen-hash-alg",
        "format", "cipher-mode",
    };
    g_autofree char *cipher = g_strndup((const char *)h + LUKS_CIPHER_AT, 32);
    g_autofree char *mode = g_strndup((const char *)h + LUKS_MODE_AT, 32);
    g_autofree char *hash = g_strndup((const char *)h + LUKS_HASH_AT, 32);
    g_autofree char *uuid = g_strndup((const char *)h + LUKS_UUID_AT, 40);
    g_autofree char *alg = g_strdup_printf(
        "%s-%" G_GUINT64_FORMAT, cipher,
        (uint64_t)be32_get(h + LUKS_KEY_BYTES_AT) * 8 /
        (g_str_has_prefix(mode, "xts-") ? 2 : 1));
    JsonObject *found = json_object_new(), *o = json_object_new();
    JsonArray *slots = json_array_new();

    add_mode(found, mode);
    add_text(found, "hash-alg", hash);
    add_text(found, "cipher-alg", alg);
    add_text(found, "uuid", uuid);
    add_text(found, "format", "luks");
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        if (json_object_has_member(found, order[i])) {
            json_object_set_member(o, order[i],
                                   json_object_dup_member(found, order[i]));
        }
    }
    json_object_unref(found);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        json_array_add_object_element(slots, describe_slot(h, i));
    }
    json_object_set_array_member(o, "slots", slots);
    json_object_set_int_member(
        o, "payload-offset",
        (gint64)be32_get(h + LUKS_PAYLOAD_AT) * LUKS_SECTOR);
    json_object_set_int_member(o, "master-key-iters",
                               be32_get(h + LUKS_DIGEST_ITER_AT));
    return o;
}

int coroutine_fn qcow2_crypto_describe(Qcow2State *s, JsonObject **ret,
                                       GError **errp)
{
    uint8_t header[LUKS_PHDR_BYTES];
    int r;

    if (s->hdr.crypt_method != 2) {
        *ret = json_object_new();
        json_object_set_string_member(*ret, "format", "aes");
        return 0;
    }
    if (s->ext.crypto_length < sizeof(header)) {
        return set_error(errp, -EINVAL, "%s: a LUKS header of %"
                         G_GUINT64_FORMAT " bytes is impossible",
                         s->bs->filename, s->ext.crypto_length);
    }
    r = bdrv_co_pread(s->bs->file, s->ext.crypto_offset, sizeof(header),
                      header, 0);
    if (r < 0) {
        return set_error(errp, r, "%s: cannot read the LUKS header: %s",
                         s->bs->filename, g_strerror(-r));
    }
    *ret = describe_luks(header);
    return 0;
}
