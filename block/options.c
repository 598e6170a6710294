/* SPDX-License-Identifier: MIT */
/*
 * String-keyed option sets, see include/block/options.h.
 *
 * A set also remembers every key that anybody asked for, and every "group." of
 * keys, so that a misspelt option can be answered with the name that was
 * probably meant.
 */
#include "block/options.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "util/error.h"
#include "util/nearest.h"
#include "util/units.h"

#define MAX_JSON_DEPTH 32

struct BdrvOptions {
    GHashTable *values; /* char * -> char * */
    GHashTable *asked;  /* set of char * */
};

BdrvOptions *bdrv_options_new(void)
{
    BdrvOptions *o = g_new0(BdrvOptions, 1);

    o->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                      g_free);
    o->asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return o;
}

void bdrv_options_free(BdrvOptions *o)
{
    if (!o) {
        return;
    }
    g_hash_table_destroy(o->values);
    g_hash_table_destroy(o->asked);
    g_free(o);
}

BdrvOptions *bdrv_options_copy(const BdrvOptions *o)
{
    BdrvOptions *copy = bdrv_options_new();
    GHashTableIter iter;
    void *key, *value;

    if (o) {
        g_hash_table_iter_init(&iter, o->values);
        while (g_hash_table_iter_next(&iter, &key, &value)) {
            bdrv_options_set(copy, key, value);
        }
    }
    return copy;
}

void bdrv_options_set(BdrvOptions *o, const char *key, const char *value)
{
    g_hash_table_replace(o->values, g_strdup(key), g_strdup(value));
}

void bdrv_options_set_default(BdrvOptions *o, const char *key,
                              const char *value)
{
    if (!g_hash_table_contains(o->values, key)) {
        bdrv_options_set(o, key, value);
    }
}

const char *bdrv_options_get(const BdrvOptions *o, const char *key)
{
    return o ? g_hash_table_lookup(o->values, key) : NULL;
}

GList *bdrv_options_keys(const BdrvOptions *o)
{
    return g_list_sort(g_hash_table_get_keys(o->values),
                       (GCompareFunc)strcmp);
}

static gboolean starts_with(void *key, void *value, void *prefix)
{
    return g_str_has_prefix(key, prefix);
}

bool bdrv_options_has_prefix(const BdrvOptions *o, const char *prefix)
{
    return o && g_hash_table_find(o->values, starts_with, (void *)prefix);
}

static gboolean contains(void *key, void *value, void *text)
{
    return strstr(key, text) != NULL;
}

bool bdrv_options_mentions(const BdrvOptions *o, const char *text)
{
    return o && g_hash_table_find(o->values, contains, (void *)text);
}

char *bdrv_options_take(BdrvOptions *o, const char *key)
{
    void *old_key, *value;

    g_hash_table_add(o->asked, g_strdup(key));
    if (!g_hash_table_steal_extended(o->values, key, &old_key, &value)) {
        return NULL;
    }
    g_free(old_key);
    return value;
}

int bdrv_options_take_size(BdrvOptions *o, const char *key, uint64_t dflt,
                           uint64_t *ret, GError **errp)
{
    g_autofree char *text = bdrv_options_take(o, key);
    uint64_t value;

    if (!text) {
        *ret = dflt;
        return 0;
    }
    if (parse_size(text, &value) < 0) {
        return set_error(errp, -EINVAL, "option %s: '%s' is not a size "
                         "(a number, then k, M, G, T, P or E)", key, text);
    }
    *ret = value;
    return 0;
}

int bdrv_options_take_u64(BdrvOptions *o, const char *key, uint64_t dflt,
                          uint64_t *ret, GError **errp)
{
    g_autofree char *text = bdrv_options_take(o, key);
    bool hex;
    uint64_t value;

    if (!text) {
        *ret = dflt;
        return 0;
    }
    hex = g_str_has_prefix(text, "0x");
    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0,
                                    UINT64_MAX, &value, NULL)) {
        return set_error(errp, -EINVAL, "option %s: '%s' is not a number",
                         key, text);
    }
    *ret = value;
    return 0;
}

int bdrv_options_take_bool(BdrvOptions *o, const char *key, bool dflt,
                           bool *ret, GError **errp)
{
    static const char *const yes[] = { "on", "true", "yes", NULL };
    static const char *const no[] = { "off", "false", "no", NULL };
    g_autofree char *text = bdrv_options_take(o, key);

    if (!text) {
        *ret = dflt;
    } else if (g_strv_contains(yes, text)) {
        *ret = true;
    } else if (g_strv_contains(no, text)) {
        *ret = false;
    } else {
        return bdrv_options_refuse(key, text, NEAREST_LIST("on", "off"),
                                   errp);
    }
    return 0;
}

BdrvOptions *bdrv_options_take_prefix(BdrvOptions *o, const char *prefix)
{
    BdrvOptions *taken = bdrv_options_new();
    size_t len = strlen(prefix);
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_add(o->asked, g_strdup(prefix));
    g_hash_table_iter_init(&iter, o->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (g_str_has_prefix(key, prefix) && ((char *)key)[len] != '\0') {
            bdrv_options_set(taken, (char *)key + len, value);
            g_hash_table_iter_remove(&iter);
        }
    }
    return taken;
}

/* The N of "N.rest", or @max; *@ret_rest is the rest. */
static unsigned leading_number(const char *key, unsigned max,
                               const char **ret_rest)
{
    unsigned n = 0;
    const char *p = key;

    for (; g_ascii_isdigit(*p) && n < max; p++) {
        n = n * 10 + (unsigned)(*p - '0');
    }
    *ret_rest = p + 1;
    return p == key || p[0] != '.' || p[1] == '\0' || n > max ||
           (*key == '0' && p - key > 1) ? max : n;
}

GPtrArray *bdrv_options_take_numbered(BdrvOptions *o, unsigned max)
{
    GPtrArray *taken =
        g_ptr_array_new_with_free_func((GDestroyNotify)bdrv_options_free);
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, o->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const char *rest;
        unsigned n = leading_number(key, max, &rest);

        if (n == max) {
            continue;
        }
        if (n >= taken->len) {
            g_ptr_array_set_size(taken, (gint)n + 1);
        }
        if (!taken->pdata[n]) {
            taken->pdata[n] = bdrv_options_new();
        }
        bdrv_options_set(taken->pdata[n], rest, value);
        g_hash_table_iter_remove(&iter);
    }
    return taken;
}

void bdrv_options_merge(BdrvOptions *dst, BdrvOptions *src)
{
    GHashTableIter iter;
    void *key, *value;

    if (!src) {
        return;
    }
    g_hash_table_iter_init(&iter, src->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        bdrv_options_set_default(dst, key, value);
    }
    bdrv_options_free(src);
}

void bdrv_options_add_prefix(BdrvOptions *dst, const char *prefix,
                             BdrvOptions *src)
{
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, src->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autofree char *full = g_strconcat(prefix, (char *)key, NULL);

        bdrv_options_set(dst, full, value);
    }
    bdrv_options_free(src);
}

unsigned bdrv_options_size(const BdrvOptions *o)
{
    return g_hash_table_size(o->values);
}

/* --- "key=value,key=value" --- */

/* Append to @value up to the next single comma; returns what follows it, or
 * NULL at the end. */
static const char *parse_value(const char *p, GString *value)
{
    while (*p) {
        if (*p == ',') {
            if (p[1] != ',') {
                return p + 1;
            }
            p++;
        }
        g_string_append_c(value, *p++);
    }
    return NULL;
}

int bdrv_options_parse(BdrvOptions **ret, const char *text, GError **errp)
{
    g_autoptr(BdrvOptions) o = bdrv_options_new();
    const char *p = *text ? text : NULL;

    while (p) {
        size_t key_len = strcspn(p, "=,");
        g_autofree char *key = g_strndup(p, key_len);
        g_autoptr(GString) value = g_string_new(NULL);

        if (key_len == 0 || p[key_len] != '=') {
            return set_error(errp, -EINVAL, "'%s' in options '%s' is not "
                             "key=value", key, text);
        }
        p = parse_value(p + key_len + 1, value);
        bdrv_options_set(o, key, value->str); /* the last one counts */
    }
    *ret = g_steal_pointer(&o);
    return 0;
}

/* --- JSON --- */

static int add_unique(BdrvOptions *o, const char *key, const char *value,
                      GError **errp)
{
    if (bdrv_options_get(o, key)) {
        return set_error(errp, -EINVAL, "option %s is given twice", key);
    }
    bdrv_options_set(o, key, value);
    return 0;
}

static int flatten(BdrvOptions *o, const char *prefix, JsonNode *node,
                   unsigned depth, GError **errp);

static int flatten_value(BdrvOptions *o, const char *key, JsonNode *node,
                         GError **errp)
{
    GType type = json_node_get_value_type(node);
    g_autofree char *number = NULL;

    if (type == G_TYPE_STRING) {
        return add_unique(o, key, json_node_get_string(node), errp);
    }
    if (type == G_TYPE_BOOLEAN) {
        return add_unique(o, key, json_node_get_boolean(node) ? "on" : "off",
                          errp);
    }
    if (type == G_TYPE_INT64) {
        number = g_strdup_printf("%" G_GINT64_FORMAT,
                                 json_node_get_int(node));
        return add_unique(o, key, number, errp);
    }
    return set_error(errp, -EINVAL, "json option %s: only strings, whole "
                     "numbers and booleans have a meaning", key);
}

static int flatten_object(BdrvOptions *o, const char *prefix,
                          JsonObject *object, unsigned depth, GError **errp)
{
    g_autoptr(GList) members = json_object_get_members(object);

    for (GList *l = members; l; l = l->next) {
        const char *name = l->data;
        g_autofree char *key = g_strconcat(prefix, *prefix ? "." : "", name,
                                           NULL);
        int err;

        if (*name == '\0') {
            return set_error(errp, -EINVAL, "json options: empty key");
        }
        err = flatten(o, key, json_object_get_member(object, name),
                      depth + 1, errp);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

static int flatten_array(BdrvOptions *o, const char *prefix, JsonArray *array,
                         unsigned depth, GError **errp)
{
    for (unsigned i = 0; i < json_array_get_length(array); i++) {
        g_autofree char *key = g_strdup_printf("%s.%u", prefix, i);
        int err = flatten(o, key, json_array_get_element(array, i),
                          depth + 1, errp);

        if (err < 0) {
            return err;
        }
    }
    return 0;
}

static int flatten(BdrvOptions *o, const char *prefix, JsonNode *node,
                   unsigned depth, GError **errp)
{
    if (depth > MAX_JSON_DEPTH) {
        return set_error(errp, -EINVAL, "json options: nested too deeply");
    }
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        return flatten_object(o, prefix, json_node_get_object(node), depth,
                              errp);
    case JSON_NODE_ARRAY:
        return flatten_array(o, prefix, json_node_get_array(node), depth,
                             errp);
    case JSON_NODE_VALUE:
        return flatten_value(o, prefix, node, errp);
    default:
        if (strcmp(prefix, "backing") == 0 ||
            g_str_has_suffix(prefix, ".backing")) {
            return add_unique(o, prefix, "null", errp);
        }
        return set_error(errp, -EINVAL, "json option %s: null has no "
                         "meaning", prefix);
    }
}

/* Past the string that begins at @p; NULL where json-glib may disagree. */
static const char *skip_string(const char *p)
{
    char quote = *p++;

    for (; *p && *p != quote; p++) {
        /* It has no escapes in '...', and eats what follows a bad \u. */
        if (*p == '\\' && (quote == '\'' || *++p == 'u' || !*p)) {
            return NULL;
        }
    }
    return *p ? p : NULL;
}

/*
 * json-glib recurses without limit: refuse hostile depth before parsing.
 * Brackets in strings are none, lest a closing one there hides a level. Once
 * it is in doubt what is a string (comments have quotes, too), whatever opens
 * counts and nothing closes.
 */
static bool nesting_is_sane(const char *json)
{
    bool in_doubt = false;
    unsigned depth = 0;

    for (; *json; json++) {
        if (*json == '{' || *json == '[') {
            if (++depth > MAX_JSON_DEPTH) {
                return false;
            }
        } else if (in_doubt) {
            continue;
        } else if ((*json == '}' || *json == ']') && depth > 0) {
            depth--;
        } else if (*json == '"' || *json == '\'') {
            const char *end = skip_string(json);

            in_doubt = !end;
            json = end ? end : json;
        } else {
            in_doubt = *json == '/' || *json == '#';
        }
    }
    return true;
}

int bdrv_options_parse_json(BdrvOptions **ret, const char *json,
                            GError **errp)
{
    g_autoptr(BdrvOptions) o = bdrv_options_new();
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    JsonNode *root;
    int err;

    if (!nesting_is_sane(json)) {
        return set_error(errp, -EINVAL, "json options: nested too deeply");
    }
    if (!json_parser_load_from_data(parser, json, -1, &error)) {
        return set_error(errp, -EINVAL, "json options: %s", error->message);
    }
    root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        return set_error(errp, -EINVAL, "json options: not an object");
    }
    err = flatten(o, "", root, 0, errp);
    if (err < 0) {
        return err;
    }
    *ret = g_steal_pointer(&o);
    return 0;
}

int bdrv_options_expand_json(BdrvOptions *o, const char **filename,
                             GError **errp)
{
    BdrvOptions *json;
    int ret;

    if (!*filename || !g_str_has_prefix(*filename, "json:")) {
        return 0;
    }
    ret = bdrv_options_parse_json(&json, *filename + strlen("json:"), errp);
    if (ret < 0) {
        return ret;
    }
    bdrv_options_merge(o, json);
    *filename = NULL;
    return 0;
}

/* --- Mistakes --- */

int bdrv_options_refuse(const char *key, const char *value,
                        const char *const *names, GError **errp)
{
    g_autofree char *refusal = nearest_refusal(value, names);

    return set_error(errp, -EINVAL, "option %s: %s", key, refusal);
}

/* Of "group.key". To be freed. */
static char *first_word(const char *key)
{
    return g_strndup(key, strcspn(key, "."));
}

int bdrv_options_missing(const BdrvOptions *o, const char *who,
                         const char *key, GError **errp)
{
    g_autofree char *group = first_word(key);
    GHashTableIter iter;
    void *given;

    g_hash_table_iter_init(&iter, o->values);
    while (g_hash_table_iter_next(&iter, &given, NULL)) {
        g_autofree char *start = first_word(given);
        Nearest n;

        nearest_init(&n, start);
        nearest_offer(&n, group);
        /* A word alone may well be another option, such as size for file. */
        if (nearest_found(&n) && (!strchr(key, '.') || strchr(given, '.') ||
                                  g_str_has_prefix(group, given))) {
            return set_error(errp, -EINVAL, "%s: unknown option '%s'; did "
                             "you mean '%s'?", who, (char *)given, key);
        }
    }
    return set_error(errp, -EINVAL, "%s needs the option %s", who, key);
}

/* "; did you mean 'NAME'?" of what @o was asked for, or "". */
static char *hint_for(const BdrvOptions *o, const char *unknown)
{
    g_autofree char *start = g_strndup(unknown, strcspn(unknown, ".") + 1);
    Nearest whole, group;
    GHashTableIter iter;
    void *key;

    nearest_init(&whole, unknown);
    nearest_init(&group, start);
    g_hash_table_iter_init(&iter, o->asked);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        nearest_offer(g_str_has_suffix(key, ".") ? &group : &whole, key);
    }
    if (!nearest_found(&whole) && g_str_has_suffix(start, ".") &&
        nearest_found(&group)) {
        return g_strdup_printf("; did you mean '%s%s'?",
                               nearest_found(&group),
                               unknown + strlen(start));
    }
    return nearest_hint(&whole, "", "");
}

int bdrv_options_check_empty(const BdrvOptions *o, GError **errp)
{
    g_autofree char *hint = NULL;
    const char *unknown = NULL;
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, o->values);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        if (!unknown || strcmp(key, unknown) < 0) {
            unknown = key;
        }
    }
    if (!unknown) {
        return 0;
    }
    hint = hint_for(o, unknown);
    return set_error(errp, -EINVAL, "unknown option '%s'%s", unknown, hint);
}
