/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate show for people: a line per section, below it one per field.
 * Long buffers and arrays are cut, unless --device asks for one device.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/show.h"
#include "util/units.h"

#define SHORT_BYTES    32
#define SHORT_ELEMENTS 32
#define LONG_BYTES     4096
#define LONG_ELEMENTS  4096

static void begin(Show *show)
{
    const BdrvSnapshotInfo *info = show->source.snapshot;
    g_autofree char *size = format_size(info->vm_state_size);
    g_autofree char *id = tool_printable(info->id);
    g_autofree char *name = tool_printable(info->name);

    printf("Snapshot %s '%s': %" PRIu64 " bytes (%s) of machine state\n\n"
           "%-12s %12s %-13s %4s %4s %4s %s\n", id, name,
           info->vm_state_size, size, "OFFSET", "BYTES", "TYPE", "ID", "INST",
           "VERS", "NAME");
}

static void section_begin(Show *show,
                          const StreamSection *section G_GNUC_UNUSED)
{
    g_string_truncate(show->text, 0);
}

static void section_end(Show *show, const StreamSection *s)
{
    const char *type = stream_section_type_name(s->type);

    printf("%#-12" PRIx64 " %12" PRIu64 " %-13s ", s->offset, s->bytes, type);
    if (s->type <= STREAM_FULL) {
        printf("%4" PRIu32 " %4" PRIu32 " %4" PRIu32 " %s%s\n", s->id,
               s->instance_id, s->version, s->idstr,
               s->guessed ? "  (size guessed)" : "");
    } else {
        printf("%4s %4s %4s %s\n", "-", "-", "-", s->idstr);
    }
    fputs(show->text->str, stdout);
    g_string_truncate(show->text, 0);
}

static void append_bytes(GString *out, const uint8_t *data, uint64_t bytes,
                         uint64_t limit)
{
    uint64_t i;

    for (i = 0; i < bytes && i < limit; i++) {
        g_string_append_printf(out, "%02x", data[i]);
    }
    if (i < bytes) {
        g_string_append(out, "...");
    }
    g_string_append_printf(out, " (%" PRIu64 " bytes)", bytes);
}

static void append_number(GString *out, const StreamValue *v, char class,
                          uint64_t i)
{
    uint64_t u = stream_value_u64(v, i);
    int64_t s = stream_value_i64(v, i);

    switch (class) {
    case 'b':
        g_string_append(out, u ? "true" : "false");
        break;
    case 't':
        if (s == -1) {
            g_string_append(out, "off");
        } else {
            g_string_append_printf(out, "%" PRId64 " ns", s);
        }
        break;
    case 'i':
        g_string_append_printf(out, "%" PRId64, s);
        break;
    default:
        g_string_append_printf(out, u < 10 || v->is_array ? "%#" PRIx64
                               : "%#" PRIx64 " (%" PRIu64 ")", u, u);
    }
}

static void append_value(Show *show, const StreamValue *v)
{
    const bool all = show->source.args->device;
    const uint64_t limit = all ? LONG_ELEMENTS : SHORT_ELEMENTS;
    char class = stream_value_class(v->type, v->size);
    uint64_t i;

    if (g_str_equal(v->type, "string")) {
        g_autofree char *text = g_strndup((const char *)v->data, v->size);
        g_autofree char *printable = tool_printable(text);

        g_string_append_printf(show->text, "'%s'", printable);
    } else if (class == 'x') {
        append_bytes(show->text, v->data, v->size * v->count,
                     all ? LONG_BYTES : SHORT_BYTES);
    } else {
        for (i = 0; i < v->count && i < limit; i++) {
            g_string_append(show->text, i ? " " : "");
            append_number(show->text, v, class, i);
        }
        if (i < v->count) {
            g_string_append_printf(show->text, " ... (%" PRIu64 " elements)",
                                   v->count);
        }
    }
}

static void append_name(GString *out, const StreamValue *v)
{
    g_autofree char *name = tool_printable(v->name);

    g_string_append(out, name);
    if (v->index >= 0) {
        g_string_append_printf(out, "[%" PRId64 "]", v->index);
    }
    if (v->is_array) {
        g_string_append_printf(out, "[0..%" PRIu64 "]", v->count - 1);
    }
}

static void value(Show *show, const StreamValue *v)
{
    if (v->kind == STREAM_STRUCT_END || v->kind == STREAM_SUBSECTION_END) {
        return;
    }
    g_string_append_printf(show->text, "%*s", 4 + 2 * (int)show->depth, "");
    if (v->kind == STREAM_SUBSECTION_BEGIN) {
        g_string_append(show->text, "subsection ");
    }
    append_name(show->text, v);
    if (v->kind == STREAM_VALUE) {
        g_string_append(show->text, " = ");
        append_value(show, v);
    } else if (v->kind == STREAM_SUBSECTION_BEGIN) {
        g_string_append_printf(show->text, " version %" PRIu32, v->version);
    }
    g_string_append_c(show->text, '\n');
}

static void print_ram(const Show *show)
{
    unsigned i;

    printf("\n%-32s %16s %12s %12s\n", "RAM BLOCK", "BYTES", "DATA PAGES",
           "FILL PAGES");
    for (i = 0; i < show->blocks->len; i++) {
        const ShowBlock *b = g_ptr_array_index(show->blocks, i);

        printf("%-32s %16" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", b->name,
               b->bytes, b->pages, b->fill_pages);
    }
}

static void end(Show *show)
{
    const StreamWalkResult *r = &show->result;
    unsigned i;

    if (!show->source.args->device) {
        print_ram(show);
        printf("\nmachine %s, page size %" PRIu32 ", %u sections, "
               "%u devices\n", show->machine ? show->machine : "unknown",
               r->page_size, r->sections, r->devices);
    }
    if (r->guessed > 0) {
        printf("note: sizes guessed for %u sections\n", r->guessed);
    }
    if (r->trailing_bytes > 0) {
        printf("note: %" PRIu64 " bytes follow the end of the stream\n",
               r->trailing_bytes);
    }
    for (i = 0; i < show->notes->len; i++) {
        printf("note: %s\n", (const char *)g_ptr_array_index(show->notes, i));
    }
}

const ShowPrinter show_human = {
    .begin = begin,
    .section_begin = section_begin,
    .value = value,
    .section_end = section_end,
    .end = end,
};
