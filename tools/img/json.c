/* SPDX-License-Identifier: MIT */
/*
 * JSON laid out as scripts of this field have always seen it: one member a
 * line, four blanks a level, "[" and "]" on lines of their own even when there
 * is nothing between them, characters beyond ASCII escaped.
 */
#include "tools/img/common.h"

static void add_node(GString *out, JsonNode *node, unsigned level);

static void add_string(GString *out, const char *s)
{
    g_string_append_c(out, '"');
    for (; *s; s = g_utf8_next_char(s)) {
        gunichar c = g_utf8_get_char_validated(s, -1);
        const char *at = strchr("\"\\\b\f\n\r\t", (int)c);

        if (c < 0x80 && at) {
            g_string_append_c(out, '\\');
            g_string_append_c(out, "\"\\bfnrt"[at - "\"\\\b\f\n\r\t"]);
        } else if (c >= 0x20 && c < 0x7f) {
            g_string_append_c(out, c);
        } else if (c >= 0x110000) {
            g_string_append(out, "\\uFFFD");
        } else if (c >= 0x10000) {
            g_string_append_printf(out, "\\u%04X\\u%04X",
                                   0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        } else {
            g_string_append_printf(out, "\\u%04X", c);
        }
    }
    g_string_append_c(out, '"');
}

static void new_line(GString *out, unsigned level)
{
    g_string_append_printf(out, "\n%*s", (int)level * 4, "");
}

static void add_object(GString *out, JsonObject *o, unsigned level)
{
    g_autoptr(GList) names = json_object_get_members(o);

    g_string_append_c(out, '{');
    for (GList *l = names; l; l = l->next) {
        new_line(out, level + 1);
        add_string(out, l->data);
        g_string_append(out, ": ");
        add_node(out, json_object_get_member(o, l->data), level + 1);
        g_string_append(out, l->next ? "," : "");
    }
    new_line(out, level);
    g_string_append_c(out, '}');
}

static void add_array(GString *out, JsonArray *a, unsigned level)
{
    guint n = json_array_get_length(a);

    g_string_append_c(out, '[');
    for (guint i = 0; i < n; i++) {
        new_line(out, level + 1);
        add_node(out, json_array_get_element(a, i), level + 1);
        g_string_append(out, i + 1 < n ? "," : "");
    }
    new_line(out, level);
    g_string_append_c(out, ']');
}

static void add_node(GString *out, JsonNode *node, unsigned level)
{
    if (JSON_NODE_HOLDS_OBJECT(node)) {
        add_object(out, json_node_get_object(node), level);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        add_array(out, json_node_get_array(node), level);
    } else if (json_node_get_value_type(node) == G_TYPE_STRING) {
        add_string(out, json_node_get_string(node));
    } else if (json_node_get_value_type(node) == G_TYPE_BOOLEAN) {
        g_string_append(out, json_node_get_boolean(node) ? "true" : "false");
    } else {
        g_string_append_printf(out, "%" PRId64, json_node_get_int(node));
    }
}

void img_print_json(JsonNode *node)
{
    g_autoptr(GString) out = g_string_new(NULL);

    add_node(out, node, 0);
    puts(out->str);
    json_node_unref(node);
}

void img_print_json_object(JsonObject *o)
{
    img_print_json(json_node_init_object(json_node_alloc(), o));
    json_object_unref(o);
}
