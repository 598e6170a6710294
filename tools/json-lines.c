/* SPDX-License-Identifier: MIT */
#include "tools/json-lines.h"
#include "tools/one-line.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void dump_value(JsonNode *node, unsigned indent);

static void dump_member(const char *name, JsonNode *node, unsigned indent)
{
    bool nested = !JSON_NODE_HOLDS_VALUE(node);
    g_autofree char *text = g_strdelimit(g_strdup(name), "-", ' ');

    printf("%*s%s:%s", (int)indent * 4, "", text, nested ? "\n" : " ");
    dump_value(node, indent + 1);
    if (!nested) {
        putchar('\n');
    }
}

static void dump_value(JsonNode *node, unsigned indent)
{
    if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObject *o = json_node_get_object(node);
        g_autoptr(GList) names = json_object_get_members(o);

        for (GList *l = names; l; l = l->next) {
            dump_member(l->data, json_object_get_member(o, l->data), indent);
        }
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *a = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(a); i++) {
            g_autofree char *name = g_strdup_printf("[%u]", i);

            dump_member(name, json_array_get_element(a, i), indent);
        }
    } else if (json_node_get_value_type(node) == G_TYPE_STRING) {
        g_autofree char *text = one_line_if_seen(json_node_get_string(node));

        fputs(text, stdout);
    } else if (json_node_get_value_type(node) == G_TYPE_BOOLEAN) {
        fputs(json_node_get_boolean(node) ? "true" : "false", stdout);
    } else {
        printf("%" PRId64, json_node_get_int(node));
    }
}

void json_lines_print(JsonObject *object, unsigned indent)
{
    JsonNode *node = json_node_init_object(json_node_alloc(), object);

    dump_value(node, indent);
    json_node_unref(node);
}
