/* SPDX-License-Identifier: MIT */
/*
 * What only qcow2 can tell about an image, for people and scripts. Names and
 * order are those that tools of this field show; see include/block/info.h.
 */
#include "block/dirty-bitmap_int.h"
#include "block/info.h"
#include "qcow2_int.h"

static JsonArray *describe_bitmaps(const BlockDriverState *bs)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; bs->dirty_bitmaps && i < bs->dirty_bitmaps->len; i++) {
        const BdrvDirtyBitmap *bm = g_ptr_array_index(bs->dirty_bitmaps, i);
        JsonObject *o = json_object_new();
        JsonArray *flags = json_array_new();

        if (bm->inconsistent) {
            json_array_add_string_element(flags, "in-use");
        }
        if (bm->enabled) {
            json_array_add_string_element(flags, "auto");
        }
        json_object_set_array_member(o, "flags", flags);
        json_object_set_string_member(o, "name", bm->name);
        json_object_set_int_member(o, "granularity",
                                   1LL << bm->granularity_bits);
        json_array_add_object_element(list, o);
    }
    return list;
}

/* @crypto: the part on encryption, consumed; NULL: not encrypted. */
static JsonObject *describe(const Qcow2State *s, JsonObject *crypto)
{
    const Qcow2Header *h = &s->hdr;
    const Qcow2Extensions *ext = &s->ext;
    JsonObject *o = json_object_new();
    bool v3 = h->version >= 3;

    json_object_set_string_member(o, "compat", v3 ? "1.1" : "0.10");
    json_object_set_string_member(o, "compression-type",
                                  h->compression_type ? "zstd" : "zlib");
    if (v3) {
        json_object_set_boolean_member(o, "lazy-refcounts",
                                       h->compatible_features &
                                       QCOW2_COM_LAZY);
    }
    if (ext->has_bitmaps) {
        json_object_set_array_member(o, "bitmaps", describe_bitmaps(s->bs));
    }
    json_object_set_int_member(o, "refcount-bits", 1 << s->refcount_order);
    if (qcow2_has_data_file(s) && ext->data_file_name) {
        json_object_set_string_member(o, "data-file", ext->data_file_name);
    }
    if (crypto) {
        json_object_set_object_member(o, "encrypt", crypto);
    }
    if (qcow2_has_data_file(s)) {
        json_object_set_boolean_member(o, "data-file-raw",
                                       h->autoclear_features &
                                       QCOW2_AUT_RAW);
    }
    if (v3) {
        json_object_set_boolean_member(o, "corrupt",
                                       h->incompatible_features &
                                       QCOW2_INC_CORRUPT);
        json_object_set_boolean_member(o, "extended-l2",
                                       h->incompatible_features &
                                       QCOW2_INC_EXTENDED_L2);
    }
    return o;
}

int coroutine_fn qcow2_co_describe(BlockDriverState *bs,
                                   struct BlkImageInfo *info, GError **errp)
{
    Qcow2State *s = bs->opaque;
    JsonObject *crypto = NULL;
    int ret = 0;

    if (s->hdr.crypt_method) {
        ret = qcow2_crypto_describe(s, &crypto, errp);
    }
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    info->specific = describe(s, crypto);
    info->encrypted = s->hdr.crypt_method != 0;
    info->corrupt = s->hdr.incompatible_features & QCOW2_INC_CORRUPT;
    info->backing_file = g_strdup(s->ext.backing_file);
    info->backing_format = g_strdup(s->ext.backing_format);
    co_mutex_unlock(&s->lock);
    return 0;
}
