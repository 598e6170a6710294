/* SPDX-License-Identifier: MIT */
/* firn-vmstate extract: the stream as it is, byte for byte. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/tool-common.h"
#include "tools/writer.h"
#include "util/units.h"

typedef struct Extract {
    ToolSource source;
    OutFile *out;
    Writer *writer;
    uint64_t done;
} Extract;

static int write_piece(void *opaque, const uint8_t *data, size_t bytes)
{
    Extract *x = opaque;
    size_t n;
    int ret;

    for (; bytes > 0; data += n, bytes -= n) {
        n = MIN(bytes, WRITER_BYTES);
        memcpy(writer_buffer(x->writer), data, n);
        ret = writer_submit(x->writer, x->out, n, x->done);
        if (ret < 0) {
            return ret;
        }
        x->done += n;
    }
    return tool_progress(&x->source, x->done);
}

static void summary(Extract *x)
{
    g_autofree char *size = format_size(x->done);
    double seconds = tool_elapsed(&x->source);
    g_autofree char *rate =
        format_size((uint64_t)((double)x->done / MAX(seconds, 1e-6)));

    if (!x->source.args->quiet && x->out->fd < 0) {
        fprintf(stderr, "%s: %" PRIu64 " bytes (%s) in %.2f s, %s/s\n",
                x->out->path, x->done, size, seconds, rate);
    }
}

static int extract(Extract *x)
{
    g_autofree char *cannot = NULL;
    g_autoptr(GError) err = NULL;
    int ret;

    x->out = out_file_new(x->source.args->out, &cannot);
    if (!x->out) {
        tool_error("%s", cannot);
        return TOOL_FAILED;
    }
    ret = stream_image_copy(x->source.image, x->source.snapshot->id,
                            write_piece, x, &err);
    if (writer_finish(x->writer) == 0 && ret == 0) {
        ret = out_file_commit(x->out);
    }
    if (x->out->error) {
        tool_error("%s", x->out->error);
        return TOOL_FAILED;
    }
    if (ret < 0) {
        tool_image_error(&x->source, ret, err);
        return TOOL_FAILED;
    }
    return TOOL_OK;
}

static int run(const ToolArgs *args)
{
    Extract x = { .writer = writer_new() };
    int code = TOOL_FAILED;

    if (tool_open(&x.source, args)) {
        code = extract(&x);
    }
    tool_close(&x.source);
    if (code == TOOL_OK) {
        summary(&x);
    }
    writer_free(x.writer);
    out_file_free(x.out);
    return code;
}

const ToolCommand tool_extract = {
    .name = "extract",
    .options = "o",
    .has_tag = true,
    .needs_out = true,
    .synopsis = "IMAGE TAG -o FILE",
    .help = "Writes the machine state's migration stream, as it is.\n",
    .example = "disk.qcow2 monday -o monday.vmstate",
    .run = run,
};
