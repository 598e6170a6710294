/* SPDX-License-Identifier: MIT */
/*
 * The name under which info shows an image: its file's name where opening that
 * gives the same disk, "blkdebug:CONFIG:NAME" and the like where a protocol
 * says all there is, and else "json:{...}" with the options that change what
 * is read. Backing files have no part in it.
 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "block/block_int.h"

/* Options that make another disk, in the order in which they are shown. */
static const char *const before_driver[] = {
    "offset", "encrypt.key-secret", "read-zeroes",
};
static const char *const after_driver[] = {
    "size", "align", "inject-error.", "max-", "opt-", "set-state.",
};

static bool is_driver(const BlockDriverState *bs, const char *name)
{
    return !strcmp(bs->drv->format_name, name);
}

static BlockDriverState *child(const BlockDriverState *bs, const char *name)
{
    for (GList *l = bs->children; l; l = l->next) {
        BdrvChild *c = l->data;

        if (!strcmp(c->name, name)) {
            return c->bs;
        }
    }
    return NULL;
}

static bool matches(const char *key, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(list[i]);

        /* What ends as a prefix does stands for all that begin so. */
        if (strchr(".-", list[i][len - 1]) ? !strncmp(key, list[i], len)
                                           : !strcmp(key, list[i])) {
            return true;
        }
    }
    return false;
}

/* Whether an option of @bs itself, not of a child, makes another disk. */
static bool is_changed(const BlockDriverState *bs)
{
    g_autoptr(GList) keys = bdrv_options_keys(bs->given);

    for (GList *l = keys; l; l = l->next) {
        if (matches(l->data, before_driver, G_N_ELEMENTS(before_driver)) ||
            matches(l->data, after_driver, G_N_ELEMENTS(after_driver))) {
            return true;
        }
    }
    return false;
}

/* --- Names that say all --- */

static char *plain_name(const BlockDriverState *bs);

static char *blkverify_name(const BlockDriverState *bs)
{
    g_autofree char *raw = plain_name(child(bs, "raw"));
    g_autofree char *test = plain_name(child(bs, "test"));

    return raw && test ? g_strdup_printf("blkverify:%s:%s", raw, test) : NULL;
}

static char *blkdebug_name(const BlockDriverState *bs)
{
    g_autofree char *image = plain_name(child(bs, "image"));
    const char *config = bdrv_options_get(bs->given, "config");

    return image ? g_strdup_printf("blkdebug:%s:%s", config ? config : "",
                                   image) : NULL;
}

/* NULL: there is none. */
static char *plain_name(const BlockDriverState *bs)
{
    if (!bs || is_changed(bs)) {
        return NULL;
    }
    if (is_driver(bs, "blkdebug")) {
        return blkdebug_name(bs);
    }
    if (is_driver(bs, "blkverify")) {
        return blkverify_name(bs);
    }
    if (g_str_has_prefix(bs->drv->format_name, "null-")) {
        return g_strdup_printf("%s://", bs->drv->format_name);
    }
    if (bs->drv->protocol_name) {
        return g_strdup(bs->filename);
    }
    /* A format on another one is never found by probing. */
    return !bs->drv->is_filter && bs->file->bs->drv->protocol_name
           ? plain_name(bs->file->bs) : NULL;
}

/* --- json: --- */

/* QEMU's spacing, which JsonGenerator does not have. */
static void append_text(GString *out, const char *key, const char *value)
{
    JsonNode *node = json_node_init_string(json_node_alloc(), value);
    g_autofree char *text = json_to_string(node, false);

    g_string_append_printf(out, "%s\"%s\": %s",
                           out->str[out->len - 1] == '{' ? "" : ", ", key,
                           text);
    json_node_unref(node);
}

static void append_options(GString *out, const BlockDriverState *bs,
                           const char *const *list, size_t n)
{
    g_autoptr(GList) keys = bdrv_options_keys(bs->given);

    for (GList *l = keys; l; l = l->next) {
        if (matches(l->data, list, n)) {
            append_text(out, l->data, bdrv_options_get(bs->given, l->data));
        }
    }
}

static void append_node(GString *out, const BlockDriverState *bs);

static void append_child(GString *out, const BdrvChild *c)
{
    g_string_append_printf(out, "%s\"%s\": ",
                           out->str[out->len - 1] == '{' ? "" : ", ",
                           c->name);
    append_node(out, c->bs);
}

static void append_node(GString *out, const BlockDriverState *bs)
{
    bool debug = is_driver(bs, "blkdebug");
    const char *config = bdrv_options_get(bs->given, "config");

    g_string_append_c(out, '{');
    append_options(out, bs, before_driver, G_N_ELEMENTS(before_driver));
    if (debug) {
        append_child(out, bs->file);
    }
    append_text(out, "driver", bs->drv->format_name);
    if (config) {
        append_text(out, "config", config);
    }
    append_options(out, bs, after_driver, G_N_ELEMENTS(after_driver));
    if (is_driver(bs, "file")) {
        append_text(out, "filename", bs->filename);
    }
    for (GList *l = bs->children; l; l = l->next) {
        const BdrvChild *c = l->data;

        if (c->role != BDRV_CHILD_BACKING && !debug) {
            append_child(out, c);
        }
    }
    g_string_append_c(out, '}');
}

char *bdrv_full_name(const BlockDriverState *bs)
{
    char *name = plain_name(bs);
    GString *out;

    if (name) {
        return name;
    }
    out = g_string_new("json:");
    append_node(out, bs);
    return g_string_free(out, FALSE);
}
