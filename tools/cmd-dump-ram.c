/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate dump-ram: guest memory as files.
 *
 * Pages that follow each other are collected and written together. Zero pages
 * are left as holes; one that replaces an earlier page of other bytes is
 * written out (the last record of a page counts).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/elf-core.h"
#include "tools/tool-common.h"
#include "tools/writer.h"
#include "util/units.h"

typedef struct DumpBlock {
    char *name;
    uint64_t bytes;
    uint64_t base;              /* file offset of its first byte */
    OutFile *out;               /* NULL: not wanted */
    uint64_t hole_from;         /* file offset: nothing was put behind */
} DumpBlock;

typedef struct Dump {
    ToolSource source;
    GPtrArray *blocks;          /* DumpBlock, in stream order */
    DumpBlock *main;            /* the largest */
    bool planned;               /* files are open */
    bool configuration;         /* the section at hand is it */
    char *machine;
    char *error;                /* what stopped us, when not the image */
    ElfCpuReader cpus;
    Writer *writer;             /* its buffer collects pages */
    DumpBlock *to;              /* whose they are */
    uint64_t at;                /* file offset of the first */
    size_t used;                /* bytes in the buffer */
} Dump;

static void block_free(gpointer p)
{
    DumpBlock *block = p;

    g_free(block->name);
    out_file_free(block->out);
    g_free(block);
}

/* --- Which blocks go where --- */

/* FILE.BLOCK, with what could be trouble in a file name as '_'. */
static char *file_name(const char *out, const DumpBlock *block)
{
    char *name = g_strdup_printf("%s.%s", out, block->name);
    char *p;

    for (p = name + strlen(out) + 1; *p; p++) {
        if (!g_ascii_isalnum(*p) && *p != '-' && *p != '_' && *p != '.') {
            *p = '_';
        }
    }
    return name;
}

/* A file for @block; two names may become equal, the second gets a number. */
static char *unique_name(Dump *dump, const DumpBlock *block)
{
    g_autofree char *name = file_name(dump->source.args->out, block);
    unsigned i, same = 0;

    for (i = 0; i < dump->blocks->len; i++) {
        const DumpBlock *other = g_ptr_array_index(dump->blocks, i);
        g_autofree char *taken = NULL;

        if (other == block) {
            break;
        }
        taken = file_name(dump->source.args->out, other);
        same += other != dump->main && g_str_equal(taken, name);
    }
    return same ? g_strdup_printf("%s-%u", name, same)
                : g_steal_pointer(&name);
}

static int open_block(Dump *dump, DumpBlock *block, const char *path)
{
    uint64_t base = dump->source.args->elf ? ELF_CORE_DATA : 0;

    block->out = out_file_new(path, &dump->error);
    if (!block->out) {
        return -EIO;
    }
    block->base = base;
    if (block->bytes > INT64_MAX - base) {
        dump->error = g_strdup_printf("RAM block '%s' of %" PRIu64 " bytes is "
                                      "too large for a file", block->name,
                                      block->bytes);
        return -EFBIG;
    }
    return out_file_truncate(block->out, base + block->bytes);
}

static int no_such_block(Dump *dump)
{
    g_autoptr(GString) names = g_string_new(NULL);
    unsigned i;

    for (i = 0; i < dump->blocks->len; i++) {
        const DumpBlock *block = g_ptr_array_index(dump->blocks, i);

        g_string_append_printf(names, "%s'%s'", i ? ", " : "", block->name);
    }
    dump->error = g_strdup_printf("%s: no RAM block is named '%s'; there are "
                                  "%s", dump->source.args->image_name,
                                  dump->source.args->block, names->str);
    return -ENOENT;
}

/* The blocks are known: open the files. */
static int plan(Dump *dump)
{
    const ToolArgs *args = dump->source.args;
    unsigned i, wanted = 0;
    int ret = 0;

    dump->planned = true;
    if (!dump->main) {
        dump->error = g_strdup_printf("%s: the machine state holds no RAM",
                                      args->image_name);
        return -ENOENT;
    }
    for (i = 0; ret == 0 && i < dump->blocks->len; i++) {
        DumpBlock *block = g_ptr_array_index(dump->blocks, i);
        g_autofree char *other = NULL;
        bool only = args->block ? g_str_equal(args->block, block->name)
                                : block == dump->main;

        if (only) {
            ret = open_block(dump, block, args->out);
        } else if (!args->block && !args->elf) {
            other = unique_name(dump, block);
            ret = open_block(dump, block, other);
        }
        wanted += only;
    }
    return ret == 0 && wanted == 0 ? no_such_block(dump) : ret;
}

/* --- Pages --- */

static int flush_buffer(Dump *dump)
{
    size_t used = dump->used;

    dump->used = 0;
    return used ? writer_submit(dump->writer, dump->to->out, used, dump->at)
                : 0;
}

static int put_page(Dump *dump, DumpBlock *block, uint64_t offset,
                    const uint8_t *data, uint8_t fill, uint32_t bytes)
{
    uint8_t *buffer;
    int ret;

    if (dump->used > 0 &&
        (dump->to != block || dump->at + dump->used != offset ||
         dump->used + bytes > WRITER_BYTES)) {
        ret = flush_buffer(dump);
        if (ret < 0) {
            return ret;
        }
    }
    if (dump->used == 0) {
        dump->to = block;
        dump->at = offset;
    }
    buffer = writer_buffer(dump->writer) + dump->used;
    if (data) {
        memcpy(buffer, data, bytes);
    } else {
        memset(buffer, fill, bytes);
    }
    dump->used += bytes;
    block->hole_from = MAX(block->hole_from, offset + bytes);
    return 0;
}

static int on_ram_page(void *opaque, const StreamRamBlock *block,
                       uint64_t addr, const uint8_t *data, uint8_t fill,
                       uint32_t bytes)
{
    Dump *dump = opaque;
    DumpBlock *b = g_ptr_array_index(dump->blocks, block->index);
    uint64_t offset;
    int ret;

    if (!dump->planned) {
        ret = plan(dump);
        if (ret < 0) {
            return ret;
        }
    }
    offset = b->base + addr;
    if (!b->out || (!data && fill == 0 && offset >= b->hole_from)) {
        return 0;
    }
    return put_page(dump, b, offset, data, fill, bytes);
}

static int on_ram_block(void *opaque, const StreamRamBlock *block)
{
    Dump *dump = opaque;
    DumpBlock *b = g_new0(DumpBlock, 1);

    b->name = g_strdup(block->idstr);
    b->bytes = block->bytes;
    g_ptr_array_add(dump->blocks, b);
    if (!dump->main || b->bytes > dump->main->bytes) {
        dump->main = b;
    }
    return 0;
}

static int on_section_begin(void *opaque, const StreamSection *section)
{
    Dump *dump = opaque;

    dump->configuration = section->type == STREAM_CONFIGURATION;
    elf_cpu_section_begin(&dump->cpus, section);
    return 0;
}

static int on_section_end(void *opaque,
                          const StreamSection *section G_GNUC_UNUSED)
{
    Dump *dump = opaque;

    elf_cpu_section_end(&dump->cpus);
    return 0;
}

static int on_value(void *opaque, const StreamValue *value)
{
    Dump *dump = opaque;

    if (dump->configuration && !dump->machine &&
        value->kind == STREAM_VALUE && g_str_equal(value->name, "machine")) {
        dump->machine = g_strndup((const char *)value->data, value->size);
    }
    elf_cpu_value(&dump->cpus, value);
    return 0;
}

static int on_progress(void *opaque, uint64_t pos)
{
    Dump *dump = opaque;

    return tool_progress(&dump->source, pos);
}

static const StreamWalkOps dump_ops = {
    .section_begin = on_section_begin,
    .section_end = on_section_end,
    .value = on_value,
    .ram_block = on_ram_block,
    .ram_page = on_ram_page,
    .progress = on_progress,
};

/* --- The end --- */

static int write_elf(Dump *dump)
{
    ElfRegion regions[2];
    uint64_t notes = dump->main->base + dump->main->bytes;
    unsigned n;

    n = elf_core_layout(dump->machine ? dump->machine : "",
                        dump->main->bytes, dump->source.args->below_4g,
                        dump->main->base, regions);
    return elf_core_write(dump->main->out, regions, n, dump->cpus.cpus, notes);
}

static void report_block(const Dump *dump, const DumpBlock *block)
{
    g_autofree char *size = format_size(block->bytes);

    if (!dump->source.args->quiet) {
        fprintf(stderr, "%s: RAM block '%s', %" PRIu64 " bytes (%s)\n",
                block->out->path, block->name, block->bytes, size);
    }
}

static int finish(Dump *dump)
{
    unsigned i;
    int ret = flush_buffer(dump);

    if (ret == 0) {
        ret = writer_finish(dump->writer);
    }
    if (ret == 0 && dump->source.args->elf) {
        ret = write_elf(dump);
    }
    for (i = 0; ret == 0 && i < dump->blocks->len; i++) {
        DumpBlock *block = g_ptr_array_index(dump->blocks, i);

        ret = block->out ? out_file_commit(block->out) : 0;
    }
    return ret;
}

/* The sentence of whichever output failed, or NULL. */
static const char *output_error(const Dump *dump)
{
    unsigned i;

    for (i = 0; i < dump->blocks->len; i++) {
        const DumpBlock *block = g_ptr_array_index(dump->blocks, i);

        if (block->out && block->out->error) {
            return block->out->error;
        }
    }
    return dump->error;
}

static int dump_ram(Dump *dump)
{
    g_autoptr(GError) err = NULL;
    StreamWalkResult result;
    unsigned i;
    int ret;

    ret = stream_image_walk(dump->source.image, dump->source.snapshot->id,
                            &dump_ops, NULL, dump, &result, &err);
    if (ret == 0 && !dump->planned) {
        ret = plan(dump);
    }
    if (ret == 0) {
        ret = finish(dump);
    }
    writer_finish(dump->writer);
    if (ret < 0 && output_error(dump)) {
        tool_error("%s", output_error(dump));
        return TOOL_FAILED;
    }
    if (ret < 0) {
        tool_image_error(&dump->source, ret, err);
        return TOOL_FAILED;
    }
    for (i = 0; i < dump->blocks->len; i++) {
        const DumpBlock *block = g_ptr_array_index(dump->blocks, i);

        if (block->out) {
            report_block(dump, block);
        }
    }
    return TOOL_OK;
}

static bool args_make_sense(const ToolArgs *args)
{
    if (g_str_equal(args->out, "-")) {
        tool_error("dump-ram writes at many positions and needs a file, not "
                   "standard output");
        return false;
    }
    if (args->elf && args->block) {
        tool_error("--elf and --block exclude each other");
        return false;
    }
    if (args->below_4g && !args->elf) {
        tool_error("--below-4g is for --elf");
        return false;
    }
    return true;
}

static int run(const ToolArgs *args)
{
    Dump dump = { 0 };
    int code = TOOL_FAILED;

    if (!args_make_sense(args)) {
        return TOOL_USAGE;
    }
    dump.blocks = g_ptr_array_new_with_free_func(block_free);
    dump.cpus.cpus = g_array_new(FALSE, FALSE, sizeof(ElfCpu));
    dump.writer = writer_new();
    if (tool_open(&dump.source, args)) {
        code = dump_ram(&dump);
    }
    tool_close(&dump.source);
    writer_free(dump.writer);
    g_array_free(dump.cpus.cpus, TRUE);
    g_ptr_array_unref(dump.blocks);
    g_free(dump.machine);
    g_free(dump.error);
    return code;
}

const ToolCommand tool_dump_ram = {
    .name = "dump-ram",
    .options = "oBEG",
    .has_tag = true,
    .needs_out = true,
    .synopsis = "IMAGE TAG -o FILE",
    .help = "Writes guest memory as sparse raw files: the largest RAM block\n"
            "to FILE, every other one to FILE.NAME.\n",
    .example = "disk.qcow2 monday --elf -o guest.core",
    .run = run,
};
