/* SPDX-License-Identifier: MIT */
/* firn-vmstate show: what is in a stream, section by section. */
#include <string.h>

#include "tools/show.h"

#define JSON_ELEMENTS (2U << 20)

static const ShowPrinter *printer(const Show *show)
{
    return show->source.args->json ? &show_json : &show_human;
}

static void block_free(gpointer p)
{
    ShowBlock *block = p;

    g_free(block->name);
    g_free(block);
}

static int on_section_begin(void *opaque, const StreamSection *section)
{
    Show *show = opaque;
    const char *device = show->source.args->device;

    show->configuration = section->type == STREAM_CONFIGURATION;
    show->selected = !device || g_str_equal(device, section->idstr);
    show->depth = 0;
    if (show->selected) {
        show->any = true;
        printer(show)->section_begin(show, section);
    }
    return 0;
}

static int on_section_end(void *opaque, const StreamSection *section)
{
    Show *show = opaque;

    if (show->selected) {
        printer(show)->section_end(show, section);
    }
    return 0;
}

static int on_value(void *opaque, const StreamValue *value)
{
    Show *show = opaque;
    bool closes = value->kind == STREAM_STRUCT_END ||
                  value->kind == STREAM_SUBSECTION_END;

    if (show->configuration && value->kind == STREAM_VALUE &&
        g_str_equal(value->name, "machine")) {
        g_free(show->machine);
        show->machine = g_strndup((const char *)value->data, value->size);
    }
    if (closes) {
        show->depth--;
    }
    if (show->selected && !show->source.args->no_fields) {
        printer(show)->value(show, value);
    }
    if (!closes && value->kind != STREAM_VALUE) {
        show->depth++;
    }
    return 0;
}

static int on_ram_block(void *opaque, const StreamRamBlock *block)
{
    Show *show = opaque;
    ShowBlock *copy = g_new0(ShowBlock, 1);

    copy->name = g_strdup(block->idstr);
    copy->bytes = block->bytes;
    g_ptr_array_add(show->blocks, copy);
    return 0;
}

static int on_ram_page(void *opaque, const StreamRamBlock *block,
                       uint64_t addr G_GNUC_UNUSED, const uint8_t *data,
                       uint8_t fill G_GNUC_UNUSED,
                       uint32_t bytes G_GNUC_UNUSED)
{
    Show *show = opaque;
    ShowBlock *b = g_ptr_array_index(show->blocks, block->index);

    if (data) {
        b->pages++;
    } else {
        b->fill_pages++;
    }
    return 0;
}

static void on_note(void *opaque, const char *text)
{
    Show *show = opaque;

    g_ptr_array_add(show->notes, tool_printable(text));
}

static int on_progress(void *opaque, uint64_t pos)
{
    Show *show = opaque;

    return tool_progress(&show->source, pos);
}

static const StreamWalkOps show_ops = {
    .section_begin = on_section_begin,
    .section_end = on_section_end,
    .value = on_value,
    .ram_block = on_ram_block,
    .ram_page = on_ram_page,
    .note = on_note,
    .progress = on_progress,
};

static int show_walk(Show *show)
{
    const char *device = show->source.args->device;
    g_autoptr(GError) err = NULL;
    int ret;

    printer(show)->begin(show);
    ret = stream_image_walk(show->source.image, show->source.snapshot->id,
                            &show_ops, NULL, show, &show->result, &err);
    if (ret < 0) {
        tool_image_error(&show->source, ret, err);
        return TOOL_FAILED;
    }
    if (device && !show->any) {
        tool_error("%s: no section is named '%s'; 'show --no-fields' lists "
                   "their names", show->source.args->image_name, device);
        return TOOL_FAILED;
    }
    printer(show)->end(show);
    return TOOL_OK;
}

static int run(const ToolArgs *args)
{
    Show show = { .budget = JSON_ELEMENTS };
    int code = TOOL_FAILED;

    show.blocks = g_ptr_array_new_with_free_func(block_free);
    show.notes = g_ptr_array_new_with_free_func(g_free);
    show.text = g_string_new(NULL);
    show.json = json_builder_new();
    if (tool_open(&show.source, args)) {
        code = show_walk(&show);
    }
    tool_close(&show.source);
    g_object_unref(show.json);
    g_string_free(show.text, TRUE);
    g_ptr_array_unref(show.notes);
    g_ptr_array_unref(show.blocks);
    g_free(show.machine);
    return code;
}

const ToolCommand tool_show = {
    .name = "show",
    .options = "JDF",
    .has_tag = true,
    .synopsis = "IMAGE TAG",
    .help = "Shows what a machine state consists of: sections with offset\n"
            "and size, RAM blocks, devices and the value of every field.\n",
    .example = "disk.qcow2 monday --device timer",
    .run = run,
};
