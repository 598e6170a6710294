/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate verify: parses a whole stream and sums it up. A RAM block's
 * checksum is that of the file dump-ram would write; it is taken on the way,
 * which works as long as the pages come once and in order, as they do in a
 * snapshot of a stopped machine.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>

#include "tools/hasher.h"
#include "tools/tool-common.h"
#include "tools/tool-json.h"
#include "util/units.h"

#define MAX_MISSING (16ULL << 30)   /* bytes never mentioned, still hashed */
#define MAX_PAGE    65536

typedef struct VerifyBlock {
    char *name;
    uint64_t bytes;
    uint64_t next;              /* address behind the last page */
    bool no_sum;                /* pages came twice or out of order */
    Sha256 *sum;
} VerifyBlock;

typedef struct Verify {
    ToolSource source;
    StreamWalkResult result;
    GPtrArray *blocks;
    GPtrArray *notes;
    Hasher *stream_hasher;      /* NULL with --no-checksum */
    Hasher *ram_hasher;
    Sha256 *stream_sum;
    uint8_t *fill;              /* MAX_PAGE bytes of fill_value */
    uint8_t fill_value;
    uint64_t missing;           /* bytes without a page, of all blocks */
    double seconds;
} Verify;

static void block_free(gpointer p)
{
    VerifyBlock *block = p;

    g_free(block->name);
    sha256_free(block->sum);
    g_free(block);
}

static int on_ram_block(void *opaque, const StreamRamBlock *block)
{
    Verify *v = opaque;
    VerifyBlock *b = g_new0(VerifyBlock, 1);

    b->name = g_strdup(block->idstr);
    b->bytes = block->bytes;
    b->sum = sha256_new();
    g_ptr_array_add(v->blocks, b);
    return 0;
}

/* Zeroes from the last page to @addr, which is not before it. */
static void fill_gap(Verify *v, VerifyBlock *b, uint64_t addr)
{
    uint64_t gap = addr - b->next;

    b->next = addr;
    if (gap > MAX_MISSING - v->missing) {
        b->no_sum = true;
    } else if (gap > 0) {
        v->missing += gap;
        hasher_update(v->ram_hasher, b->sum, NULL, gap);
    }
}

static int on_ram_page(void *opaque, const StreamRamBlock *block,
                       uint64_t addr, const uint8_t *data, uint8_t fill,
                       uint32_t bytes)
{
    Verify *v = opaque;
    VerifyBlock *b = g_ptr_array_index(v->blocks, block->index);

    if (!v->ram_hasher || b->no_sum) {
        return 0;
    }
    if (addr < b->next) {
        b->no_sum = true;
        return 0;
    }
    fill_gap(v, b, addr);
    if (!data && fill != 0) {
        if (v->fill_value != fill) {
            memset(v->fill, fill, MAX_PAGE);
            v->fill_value = fill;
        }
        data = v->fill;
    }
    hasher_update(v->ram_hasher, b->sum, data, bytes);
    b->next = addr + bytes;
    return 0;
}

static int on_bytes(void *opaque, const uint8_t *data, size_t bytes)
{
    Verify *v = opaque;

    if (v->stream_hasher) {
        hasher_update(v->stream_hasher, v->stream_sum, data, bytes);
    }
    return 0;
}

static void on_note(void *opaque, const char *text)
{
    Verify *v = opaque;

    g_ptr_array_add(v->notes, tool_printable(text));
}

static int on_progress(void *opaque, uint64_t pos)
{
    Verify *v = opaque;

    return tool_progress(&v->source, pos);
}

static const StreamWalkOps verify_ops = {
    .ram_block = on_ram_block,
    .ram_page = on_ram_page,
    .note = on_note,
    .progress = on_progress,
};

/* --- The report --- */

static const char *block_sum(const Verify *v, const VerifyBlock *b)
{
    if (!v->stream_sum || b->no_sum) {
        return NULL;
    }
    return sha256_hex(b->sum);
}

static void print_sums(const Verify *v)
{
    unsigned i;

    if (!v->stream_sum) {
        return;
    }
    printf("  sha256 of the stream\n    %s\n"
           "  sha256 of each RAM block\n",
           sha256_hex(v->stream_sum));
    for (i = 0; i < v->blocks->len; i++) {
        const VerifyBlock *b = g_ptr_array_index(v->blocks, i);
        const char *sum = block_sum(v, b);

        printf("    %s  %s (%" PRIu64 " bytes)\n",
               sum ? sum : "(not taken: pages out of order, or too many "
               "missing; use dump-ram)", b->name, b->bytes);
    }
}

static void print_report(const Verify *v)
{
    const StreamWalkResult *r = &v->result;
    const BdrvSnapshotInfo *info = v->source.snapshot;
    g_autofree char *rate =
        format_size((uint64_t)((double)r->end / MAX(v->seconds, 1e-6)));
    g_autofree char *id = tool_printable(info->id);
    g_autofree char *name = tool_printable(info->name);
    unsigned i;

    printf("%s: snapshot %s '%s' is well-formed\n"
           "  stream   %" PRIu64 " bytes in %u sections\n"
           "  RAM      %" PRIu64 " bytes in %u blocks; %" PRIu64 " pages of "
           "data, %" PRIu64 " of one repeated byte\n"
           "  devices  %u, sizes %s\n", v->source.args->image_name, id, name,
           r->end, r->sections, r->ram_bytes, r->ram_blocks,
           r->pages, r->fill_pages, r->devices,
           r->guessed ? "partly guessed" : "as described");
    print_sums(v);
    printf("  checked: header; type, name, size and footer of every section; "
           "block and\n  address of every page; sizes, subsections and "
           "description of every device%s.\n  Not checked: what the values "
           "mean to the device.\n", r->guessed ? "\n  whose size was not "
           "guessed" : "");
    for (i = 0; i < v->notes->len; i++) {
        printf("  note: %s\n", (const char *)g_ptr_array_index(v->notes, i));
    }
    printf("  %.2f s, %s/s\n", v->seconds, rate);
}

static void report_blocks_json(const Verify *v, JsonBuilder *b)
{
    unsigned i;

    json_builder_set_member_name(b, "ram-blocks");
    json_builder_begin_array(b);
    for (i = 0; i < v->blocks->len; i++) {
        const VerifyBlock *block = g_ptr_array_index(v->blocks, i);
        const char *sum = block_sum(v, block);

        json_builder_begin_object(b);
        tool_json_string(b, "name", block->name);
        tool_json_u64(b, "bytes", block->bytes);
        if (sum) {
            tool_json_string(b, "sha256", sum);
        }
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void print_json(const Verify *v)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    const StreamWalkResult *r = &v->result;
    unsigned i;

    json_builder_begin_object(b);
    tool_json_string(b, "image", v->source.args->image_name);
    json_builder_set_member_name(b, "snapshot");
    tool_json_snapshot(b, v->source.snapshot);
    tool_json_u64(b, "stream-bytes", r->end);
    tool_json_u64(b, "sections", r->sections);
    tool_json_u64(b, "devices", r->devices);
    tool_json_u64(b, "sizes-guessed", r->guessed);
    tool_json_u64(b, "ram-bytes", r->ram_bytes);
    tool_json_u64(b, "data-pages", r->pages);
    tool_json_u64(b, "fill-pages", r->fill_pages);
    if (v->stream_sum) {
        tool_json_string(b, "sha256",
                         sha256_hex(v->stream_sum));
    }
    report_blocks_json(v, b);
    json_builder_set_member_name(b, "notes");
    json_builder_begin_array(b);
    for (i = 0; i < v->notes->len; i++) {
        json_builder_add_string_value(b, g_ptr_array_index(v->notes, i));
    }
    json_builder_end_array(b);
    json_builder_set_member_name(b, "seconds");
    json_builder_add_double_value(b, v->seconds);
    json_builder_end_object(b);
    tool_json_print(b);
}

/* --- The run --- */

/* Returns -EINTR when the user does not want to wait for it. */
static int finish_sums(Verify *v, int ret)
{
    unsigned i;

    for (i = 0; ret == 0 && v->ram_hasher && i < v->blocks->len; i++) {
        VerifyBlock *b = g_ptr_array_index(v->blocks, i);

        if (!b->no_sum) {
            fill_gap(v, b, b->bytes);
        }
    }
    hasher_free(v->ram_hasher);
    hasher_free(v->stream_hasher);
    v->ram_hasher = v->stream_hasher = NULL;
    return ret == 0 && tool_interrupted() ? -EINTR : ret;
}

static int verify(Verify *v)
{
    const ToolArgs *args = v->source.args;
    g_autoptr(GError) err = NULL;
    int ret;

    if (!args->no_checksum) {
        v->stream_sum = sha256_new();
        v->stream_hasher = hasher_new(tool_interrupted);
        v->ram_hasher = hasher_new(tool_interrupted);
    }
    ret = stream_image_walk(v->source.image, v->source.snapshot->id,
                            &verify_ops, on_bytes, v, &v->result, &err);
    if (ret == 0 && v->result.trailing_bytes > 0) {
        ret = -EINVAL;
        g_set_error(&err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "the stream ends "
                    "at offset %#" PRIx64 ", but %" PRIu64 " bytes follow",
                    v->result.end, v->result.trailing_bytes);
    }
    ret = finish_sums(v, ret);
    v->seconds = tool_elapsed(&v->source);
    if (ret < 0) {
        tool_image_error(&v->source, ret, err);
        return TOOL_FAILED;
    }
    return TOOL_OK;
}

static int run(const ToolArgs *args)
{
    Verify v = { 0 };
    int code = TOOL_FAILED;

    v.blocks = g_ptr_array_new_with_free_func(block_free);
    v.notes = g_ptr_array_new_with_free_func(g_free);
    v.fill = g_malloc0(MAX_PAGE);
    if (tool_open(&v.source, args)) {
        code = verify(&v);
    }
    if (code == TOOL_OK && args->json) {
        print_json(&v);
    } else if (code == TOOL_OK && !args->quiet) {
        print_report(&v);
    }
    tool_close(&v.source);
    g_clear_pointer(&v.stream_sum, sha256_free);
    g_ptr_array_unref(v.blocks);
    g_ptr_array_unref(v.notes);
    g_free(v.fill);
    return code;
}

const ToolCommand tool_verify = {
    .name = "verify",
    .options = "JN",
    .has_tag = true,
    .synopsis = "IMAGE TAG",
    .help = "Parses the whole machine state and prints sizes and checksums.\n"
            "A RAM block's checksum is that of the file dump-ram writes.\n",
    .example = "disk.qcow2 monday",
    .run = run,
};
