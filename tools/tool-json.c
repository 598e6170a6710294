/* SPDX-License-Identifier: MIT */
/* JSON output that the subcommands share. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/tool-json.h"

void tool_json_string(JsonBuilder *b, const char *name, const char *value)
{
    tool_json_text(b, name, value, strlen(value));
}

void tool_json_text(JsonBuilder *b, const char *name, const char *value,
                    size_t bytes)
{
    g_autofree char *text = g_utf8_make_valid(value, (gssize)bytes);

    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, text);
}

void tool_json_bool(JsonBuilder *b, const char *name, bool value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}

void tool_json_u64_value(JsonBuilder *b, uint64_t value)
{
    char text[24];

    if (value <= INT64_MAX) {
        json_builder_add_int_value(b, (int64_t)value);
        return;
    }
    snprintf(text, sizeof(text), "%#" PRIx64, value);
    json_builder_add_string_value(b, text);
}

void tool_json_u64(JsonBuilder *b, const char *name, uint64_t value)
{
    json_builder_set_member_name(b, name);
    tool_json_u64_value(b, value);
}

void tool_json_snapshot(JsonBuilder *b, const BdrvSnapshotInfo *info)
{
    json_builder_begin_object(b);
    tool_json_string(b, "id", info->id);
    tool_json_string(b, "name", info->name);
    tool_json_u64(b, "vm-state-size", info->vm_state_size);
    tool_json_u64(b, "disk-size", info->disk_size);
    json_builder_set_member_name(b, "date-sec");
    json_builder_add_int_value(b, info->date_sec);
    tool_json_u64(b, "date-nsec", info->date_nsec);
    tool_json_u64(b, "vm-clock-sec", info->vm_clock_nsec / 1000000000);
    tool_json_u64(b, "vm-clock-nsec", info->vm_clock_nsec % 1000000000);
    if (info->icount != BDRV_SNAPSHOT_ICOUNT_NONE) {
        tool_json_u64(b, "icount", info->icount);
    }
    json_builder_end_object(b);
}

void tool_json_print(JsonBuilder *b)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autofree char *text = NULL;

    json_generator_set_pretty(generator, TRUE);
    json_generator_set_root(generator, root);
    text = json_generator_to_data(generator, NULL);
    puts(text);
}
