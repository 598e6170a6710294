/* SPDX-License-Identifier: MIT */
/*
 * The JSON description at the end of a stream, as a tree of fields.
 *
 * json-glib parses it, but only after a pass over the text has bounded what
 * that can cost: nesting (the parser recurses, and runs on a coroutine's
 * stack), number of values (each is an allocation) and characters that are no
 * JSON (the parser knows comments and assignments that would hide the rest).
 *
 * What a tree does not say is how often a QTAILQ repeated: its elements share
 * one JSON object, so a field whose nested bytes do not add up to its size is
 * marked as repeated, and its bytes stay opaque.
 */
#include <json-glib/json-glib.h>

#include "migration/stream-int.h"

#define JSON_MAX_DEPTH  96
#define JSON_MAX_VALUES (1U << 20)
#define NAME_MAX_BYTES  1024


void stream_vmsd_free(StreamVmsd *vmsd)
{
    if (!vmsd) {
        return;
    }
    g_free(vmsd->name);
    g_ptr_array_unref(vmsd->fields);
    g_ptr_array_unref(vmsd->subsections);
    g_free(vmsd);
}

static void field_free(gpointer p)
{
    StreamDescField *field = p;

    g_free(field->name);
    g_free(field->type);
    stream_vmsd_free(field->nested);
    g_free(field);
}

static void vmsd_free_func(gpointer vmsd)
{
    stream_vmsd_free(vmsd);
}

static void queue_free(gpointer queue)
{
    g_queue_free_full(queue, vmsd_free_func);
}

void stream_desc_free(StreamDesc *desc)
{
    if (!desc) {
        return;
    }
    stream_vmsd_free(desc->configuration);
    g_hash_table_unref(desc->devices);
    g_free(desc);
}

/* --- The text, before the parser sees it --- */

typedef struct Scan {
    bool in_string;
    bool escaped;
    unsigned digits;        /* of a \u that are still to come, */
    unsigned code;          /* and what those before them say */
    unsigned depth;
    unsigned values;
} Scan;

/* json-glib skips a character, even a quote, behind \u with fewer digits, and
 * behind one half of a pair. No name in a stream needs a pair. */
static int scan_digit(Scan *s, unsigned char c)
{
    if (!g_ascii_isxdigit(c)) {
        return -EINVAL;
    }
    s->code = s->code << 4 | (unsigned)g_ascii_xdigit_value(c);
    return --s->digits == 0 && s->code >> 11 == 0xd800 >> 11 ? -EINVAL : 0;
}

static int scan_string(Scan *s, unsigned char c)
{
    if (s->digits > 0) {
        return scan_digit(s, c);
    }
    if (s->escaped) {
        s->escaped = false;
        s->digits = c == 'u' ? 4 : 0;
        s->code = 0;
    } else if (c == '\\') {
        s->escaped = true;
    } else if (c == '"') {
        s->in_string = false;
    }
    return c < 0x20 ? -EINVAL : 0;
}

static int scan_byte(Scan *s, unsigned char c)
{
    if (s->in_string) {
        return scan_string(s, c);
    }
    switch (c) {
    case '"':
        s->in_string = true;
        return 0;
    case '{':
    case '[':
        s->values++;
        return ++s->depth > JSON_MAX_DEPTH ? -E2BIG : 0;
    case '}':
    case ']':
        return s->depth-- == 0 ? -EINVAL : 0;
    case ',':
        return ++s->values > JSON_MAX_VALUES ? -E2BIG : 0;
    case ' ': case '\n': case '\r': case '\t':
    case ':': case '-': case '+': case '.':
        return 0;
    default:
        return g_ascii_isalnum(c) ? 0 : -EINVAL;
    }
}

static int scan_text(const char *text, size_t bytes, GError **errp)
{
    Scan scan = { 0 };
    size_t i;
    int ret;

    if (!g_utf8_validate_len(text, bytes, NULL)) {
        return set_error(errp, -EINVAL, "the description is not UTF-8 text");
    }
    for (i = 0; i < bytes; i++) {
        ret = scan_byte(&scan, (unsigned char)text[i]);
        if (ret < 0 || scan.values > JSON_MAX_VALUES) {
            return set_error(errp, -EINVAL, ret == -EINVAL
                             ? "the description is not JSON at its byte %zu"
                             : "the description is too deep or has too many "
                               "values at its byte %zu", i);
        }
    }
    return 0;
}

/* --- JSON members, with their types checked --- */

static JsonNode *member(JsonObject *o, const char *key, JsonNodeType type)
{
    JsonNode *node = json_object_get_member(o, key);

    return node && json_node_get_node_type(node) == type ? node : NULL;
}

/* Absent: @dflt. Returns false if it is there but no integer in 0..@max. */
static bool get_int(JsonObject *o, const char *key, int64_t dflt, int64_t max,
                    int64_t *ret)
{
    JsonNode *node = json_object_get_member(o, key);

    if (!node) {
        *ret = dflt;
        return true;
    }
    if (!JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_INT64) {
        return false;
    }
    *ret = json_node_get_int(node);
    return *ret >= 0 && *ret <= max;
}

/* Returns NULL if it is absent, no string or longer than a name may be. */
static const char *get_name(JsonObject *o, const char *key)
{
    JsonNode *node = member(o, key, JSON_NODE_VALUE);
    const char *text;

    if (!node || json_node_get_value_type(node) != G_TYPE_STRING) {
        return NULL;
    }
    text = json_node_get_string(node);
    return text && strlen(text) <= NAME_MAX_BYTES ? text : NULL;
}

static JsonArray *get_array(JsonObject *o, const char *key)
{
    JsonNode *node = member(o, key, JSON_NODE_ARRAY);

    return node ? json_node_get_array(node) : NULL;
}

/* Element @i as an object, or NULL. */
static JsonObject *get_element(JsonArray *array, unsigned i)
{
    JsonNode *node = json_array_get_element(array, i);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* --- The tree --- */

static StreamVmsd *build_vmsd(JsonObject *o, unsigned depth, GError **errp);

/*
 * A nested description is either under "struct" or, where a type of its own
 * wrote it ("tmp", lists), among the field's members.
 */
static int build_nested(JsonObject *o, StreamDescField *field, unsigned depth,
                        GError **errp)
{
    JsonNode *node = member(o, "struct", JSON_NODE_OBJECT);
    JsonObject *inner = node ? json_node_get_object(node) : o;

    if (!node && !get_array(o, "fields")) {
        return 0;
    }
    field->nested = build_vmsd(inner, depth + 1, errp);
    if (!field->nested) {
        return -EINVAL;
    }
    field->repeated = stream_vmsd_bytes(field->nested) != field->size;
    return 0;
}

static StreamDescField *build_field(JsonObject *o, unsigned depth,
                                    GError **errp)
{
    StreamDescField *field;
    const char *name = get_name(o, "name"), *type = get_name(o, "type");
    int64_t size, count, index;

    if (!name || !type || !get_int(o, "size", 0, STREAM_DEVICE_MAX, &size) ||
        !get_int(o, "array_len", 1, INT64_MAX, &count) ||
        !get_int(o, "index", -1, INT64_MAX, &index)) {
        set_error(errp, -EINVAL, "field '%s' of the description has no proper "
                  "name, type, size, array_len or index", name ? name : "?");
        return NULL;
    }
    field = g_new0(StreamDescField, 1);
    field->name = g_strdup(name);
    field->type = g_strdup(type);
    field->size = (uint64_t)size;
    field->is_array = json_object_has_member(o, "array_len");
    field->count = (uint64_t)count;
    field->index = json_object_has_member(o, "index") ? index : -1;
    if (build_nested(o, field, depth, errp) < 0) {
        field_free(field);
        return NULL;
    }
    return field;
}

static int build_fields(JsonObject *o, StreamVmsd *vmsd, unsigned depth,
                        GError **errp)
{
    JsonArray *array = get_array(o, "fields");
    unsigned i, n = array ? json_array_get_length(array) : 0;

    for (i = 0; i < n; i++) {
        JsonObject *element = get_element(array, i);
        StreamDescField *field;

        if (!element) {
            return set_error(errp, -EINVAL, "field %u of '%s' in the "
                             "description is no object", i, vmsd->name);
        }
        field = build_field(element, depth, errp);
        if (!field) {
            return -EINVAL;
        }
        g_ptr_array_add(vmsd->fields, field);
    }
    return 0;
}

static int build_subsections(JsonObject *o, StreamVmsd *vmsd, unsigned depth,
                             GError **errp)
{
    JsonArray *array = get_array(o, "subsections");
    unsigned i, n = array ? json_array_get_length(array) : 0;

    for (i = 0; i < n; i++) {
        JsonObject *element = get_element(array, i);
        StreamVmsd *subsection;

        if (!element) {
            return set_error(errp, -EINVAL, "subsection %u of '%s' in the "
                             "description is no object", i, vmsd->name);
        }
        subsection = build_vmsd(element, depth + 1, errp);
        if (!subsection) {
            return -EINVAL;
        }
        g_ptr_array_add(vmsd->subsections, subsection);
    }
    return 0;
}

static StreamVmsd *build_vmsd(JsonObject *o, unsigned depth, GError **errp)
{
    StreamVmsd *vmsd;
    const char *name = get_name(o, "vmsd_name");
    int64_t version;

    if (depth > STREAM_MAX_DEPTH) {
        set_error(errp, -EINVAL, "the description nests deeper than %u",
                  STREAM_MAX_DEPTH);
        return NULL;
    }
    if (!get_int(o, "version", 0, UINT32_MAX, &version)) {
        set_error(errp, -EINVAL, "'%s' has no proper version in the "
                  "description", name ? name : "?");
        return NULL;
    }
    vmsd = g_new0(StreamVmsd, 1);
    vmsd->name = g_strdup(name ? name : "");
    vmsd->version = (uint32_t)version;
    vmsd->fields = g_ptr_array_new_with_free_func(field_free);
    vmsd->subsections = g_ptr_array_new_with_free_func(vmsd_free_func);
    if (build_fields(o, vmsd, depth, errp) < 0 ||
        build_subsections(o, vmsd, depth, errp) < 0) {
        stream_vmsd_free(vmsd);
        return NULL;
    }
    return vmsd;
}

static char *device_key(const char *name, uint32_t instance_id)
{
    return g_strdup_printf("%" PRIu32 "/%s", instance_id, name);
}

/* Names are not unique (the two channels of an ISA disk controller). */
static void add_device(StreamDesc *desc, char *key, StreamVmsd *vmsd)
{
    GQueue *same = g_hash_table_lookup(desc->devices, key);

    if (same) {
        g_free(key);
    } else {
        same = g_queue_new();
        g_hash_table_insert(desc->devices, key, same);
    }
    g_queue_push_tail(same, vmsd);
}

static int build_device(JsonObject *o, StreamDesc *desc, GError **errp)
{
    const char *name = get_name(o, "name");
    StreamVmsd *vmsd;
    int64_t instance;

    if (!name || !get_int(o, "instance_id", 0, UINT32_MAX, &instance)) {
        return set_error(errp, -EINVAL, "a device of the description has no "
                         "proper name or instance_id");
    }
    vmsd = build_vmsd(o, 0, errp);
    if (!vmsd) {
        return prefix_error(errp, -EINVAL, "device '%s': ", name);
    }
    add_device(desc, device_key(name, (uint32_t)instance), vmsd);
    return 0;
}

static int build_desc(JsonObject *root, StreamDesc *desc, GError **errp)
{
    JsonArray *devices = get_array(root, "devices");
    JsonNode *configuration = member(root, "configuration", JSON_NODE_OBJECT);
    unsigned i, n = devices ? json_array_get_length(devices) : 0;
    int64_t page_size;
    int ret;

    if (!devices || !get_int(root, "page_size", 0, 65536, &page_size)) {
        return set_error(errp, -EINVAL, "the description has no proper "
                         "devices or page_size");
    }
    desc->page_size = (uint32_t)page_size;
    if (configuration) {
        desc->configuration =
            build_vmsd(json_node_get_object(configuration), 0, errp);
        if (!desc->configuration) {
            return -EINVAL;
        }
    }
    for (i = 0; i < n; i++) {
        JsonObject *element = get_element(devices, i);

        if (!element) {
            return set_error(errp, -EINVAL,
                             "device %u of the description is no object", i);
        }
        ret = build_device(element, desc, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int stream_desc_parse(const char *text, size_t bytes, StreamDesc **ret,
                      GError **errp)
{
    g_autoptr(JsonParser) parser = NULL;
    g_autoptr(GError) parse_error = NULL;
    JsonNode *root;
    StreamDesc *desc;
    int r;

    r = scan_text(text, bytes, errp);
    if (r < 0) {
        return r;
    }
    parser = json_parser_new_immutable();
    if (!json_parser_load_from_data(parser, text, (gssize)bytes,
                                    &parse_error)) {
        return set_error(errp, -EINVAL, "the description is not JSON: %s",
                         parse_error->message);
    }
    root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        return set_error(errp, -EINVAL, "the description is no JSON object");
    }
    desc = g_new0(StreamDesc, 1);
    desc->devices = g_hash_table_new_full(g_str_hash, g_str_equal,
                                          g_free, queue_free);
    r = build_desc(json_node_get_object(root), desc, errp);
    if (r < 0) {
        stream_desc_free(desc);
        return r;
    }
    *ret = desc;
    return 0;
}

/* --- Questions to the tree --- */

StreamVmsd *stream_desc_take(StreamDesc *desc, const char *name,
                             uint32_t instance_id)
{
    g_autofree char *key = device_key(name, instance_id);
    GQueue *same = g_hash_table_lookup(desc->devices, key);

    return same ? g_queue_pop_head(same) : NULL;
}

uint64_t stream_vmsd_bytes(const StreamVmsd *vmsd)
{
    uint64_t total = 0, n;
    unsigned i;

    for (i = 0; i < vmsd->fields->len; i++) {
        const StreamDescField *f = g_ptr_array_index(vmsd->fields, i);

        if (f->size > 0 && f->count > STREAM_DEVICE_MAX / f->size) {
            return UINT64_MAX;
        }
        total += f->size * (f->size > 0 ? f->count : 0);
        if (total > STREAM_DEVICE_MAX) {
            return UINT64_MAX;
        }
    }
    for (i = 0; i < vmsd->subsections->len; i++) {
        const StreamVmsd *s = g_ptr_array_index(vmsd->subsections, i);

        n = stream_vmsd_bytes(s);
        total += n > STREAM_DEVICE_MAX ? 0 : n + 6 + strlen(s->name);
        if (n > STREAM_DEVICE_MAX || total > STREAM_DEVICE_MAX) {
            return UINT64_MAX;
        }
    }
    return total;
}
