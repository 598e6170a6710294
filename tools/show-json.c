/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate show --output=json. man/firn-vmstate.1.scd lists the members.
 * Numbers are numbers where they fit 63 bits and "0x..." strings otherwise;
 * bytes are strings of hexadecimal digits. Past a number of array elements in
 * all, arrays are written as bytes: a stream may claim very many.
 */
#include <string.h>

#include "tools/show.h"
#include "tools/tool-json.h"

#define MAX_ELEMENTS 65536

static void begin(Show *show)
{
    JsonBuilder *b = show->json;

    json_builder_begin_object(b);
    tool_json_string(b, "image", show->source.args->image_name);
    json_builder_set_member_name(b, "snapshot");
    tool_json_snapshot(b, show->source.snapshot);
    json_builder_set_member_name(b, "sections");
    json_builder_begin_array(b);
}

static void section_begin(Show *show, const StreamSection *s)
{
    JsonBuilder *b = show->json;

    json_builder_begin_object(b);
    tool_json_string(b, "type", stream_section_type_name(s->type));
    tool_json_string(b, "name", s->idstr);
    if (s->type <= STREAM_FULL) {
        tool_json_u64(b, "id", s->id);
        tool_json_u64(b, "instance-id", s->instance_id);
        tool_json_u64(b, "version", s->version);
    }
    tool_json_u64(b, "offset", s->offset);
    tool_json_bool(b, "described", s->described);
    tool_json_bool(b, "size-guessed", s->guessed);
    json_builder_set_member_name(b, "fields");
    json_builder_begin_array(b);
}

static void section_end(Show *show, const StreamSection *s)
{
    JsonBuilder *b = show->json;

    json_builder_end_array(b);
    tool_json_u64(b, "bytes", s->bytes);
    tool_json_u64(b, "data-bytes", s->data_bytes);
    json_builder_end_object(b);
}

static void add_bytes(JsonBuilder *b, const uint8_t *data, uint64_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    g_autoptr(GString) hex = g_string_sized_new(2 * bytes + 1);
    uint64_t i;

    for (i = 0; i < bytes; i++) {
        g_string_append_c(hex, digits[data[i] >> 4]);
        g_string_append_c(hex, digits[data[i] & 15]);
    }
    json_builder_add_string_value(b, hex->str);
}

static void add_number(JsonBuilder *b, const StreamValue *v, char class,
                       uint64_t i)
{
    switch (class) {
    case 'b':
        json_builder_add_boolean_value(b, stream_value_u64(v, i) != 0);
        break;
    case 'i':
    case 't':
        json_builder_add_int_value(b, stream_value_i64(v, i));
        break;
    default:
        tool_json_u64_value(b, stream_value_u64(v, i));
    }
}

static void add_value(Show *show, const StreamValue *v)
{
    JsonBuilder *b = show->json;
    char class = stream_value_class(v->type, v->size);
    uint64_t i;

    if (g_str_equal(v->type, "string")) {
        tool_json_text(b, "value", (const char *)v->data, v->size);
        return;
    }
    json_builder_set_member_name(b, "value");
    if (class == 'x' || v->count > MAX_ELEMENTS || v->count > show->budget) {
        add_bytes(b, v->data, v->size * v->count);
        return;
    }
    show->budget -= v->count;
    if (!v->is_array) {
        add_number(b, v, class, 0);
        return;
    }
    json_builder_begin_array(b);
    for (i = 0; i < v->count; i++) {
        add_number(b, v, class, i);
    }
    json_builder_end_array(b);
}

static void value(Show *show, const StreamValue *v)
{
    JsonBuilder *b = show->json;

    if (v->kind == STREAM_STRUCT_END || v->kind == STREAM_SUBSECTION_END) {
        json_builder_end_array(b);
        json_builder_end_object(b);
        return;
    }
    json_builder_begin_object(b);
    tool_json_string(b, "name", v->name);
    tool_json_string(b, "type", v->type);
    tool_json_u64(b, "offset", v->offset);
    if (v->index >= 0) {
        tool_json_u64(b, "index", (uint64_t)v->index);
    }
    if (v->kind == STREAM_VALUE) {
        tool_json_u64(b, "size", v->size);
        if (v->is_array) {
            tool_json_u64(b, "array-len", v->count);
        }
        add_value(show, v);
        json_builder_end_object(b);
        return;
    }
    if (v->kind == STREAM_SUBSECTION_BEGIN) {
        tool_json_u64(b, "version", v->version);
    }
    json_builder_set_member_name(b, "fields");
    json_builder_begin_array(b);
}

static void add_ram(Show *show)
{
    JsonBuilder *b = show->json;
    unsigned i;

    json_builder_set_member_name(b, "ram");
    json_builder_begin_object(b);
    tool_json_u64(b, "bytes", show->result.ram_bytes);
    tool_json_u64(b, "page-size", show->result.page_size);
    json_builder_set_member_name(b, "blocks");
    json_builder_begin_array(b);
    for (i = 0; i < show->blocks->len; i++) {
        const ShowBlock *block = g_ptr_array_index(show->blocks, i);

        json_builder_begin_object(b);
        tool_json_string(b, "name", block->name);
        tool_json_u64(b, "bytes", block->bytes);
        tool_json_u64(b, "data-pages", block->pages);
        tool_json_u64(b, "fill-pages", block->fill_pages);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void end(Show *show)
{
    JsonBuilder *b = show->json;
    unsigned i;

    json_builder_end_array(b);
    if (show->machine) {
        tool_json_string(b, "machine", show->machine);
    }
    add_ram(show);
    tool_json_bool(b, "has-description", show->result.has_description);
    tool_json_u64(b, "trailing-bytes", show->result.trailing_bytes);
    json_builder_set_member_name(b, "notes");
    json_builder_begin_array(b);
    for (i = 0; i < show->notes->len; i++) {
        json_builder_add_string_value(b, g_ptr_array_index(show->notes, i));
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    tool_json_print(b);
}

const ShowPrinter show_json = {
    .begin = begin,
    .section_begin = section_begin,
    .value = value,
    .section_end = section_end,
    .end = end,
};
