/* SPDX-License-Identifier: MIT */
/* firn-vmstate list: the snapshots of an image. */
#include <inttypes.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <time.h>

#include "tools/tool-common.h"
#include "tools/tool-json.h"
#include "util/units.h"

static void print_row(const BdrvSnapshotInfo *info)
{
    g_autofree char *size = format_size(info->vm_state_size);
    g_autofree char *id = tool_printable(info->id);
    g_autofree char *name = tool_printable(info->name);
    g_autofree char *clock = NULL;
    g_autofree char *icount = NULL;
    uint64_t seconds = info->vm_clock_nsec / 1000000000;
    time_t when = (time_t)info->date_sec;
    char date[32] = "?";
    struct tm tm;

    if (localtime_r(&when, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    clock = g_strdup_printf("%02" PRIu64 ":%02u:%02u.%03u", seconds / 3600,
                            (unsigned)(seconds / 60 % 60),
                            (unsigned)(seconds % 60),
                            (unsigned)(info->vm_clock_nsec / 1000000 % 1000));
    icount = info->icount == BDRV_SNAPSHOT_ICOUNT_NONE
        ? g_strdup("") : g_strdup_printf("%" PRIu64, info->icount);
    printf("%-9s %-16s %8s%20s%13s%11s\n", id, name, size, date, clock,
           icount);
}

static void print_table(const GPtrArray *list)
{
    unsigned i;

    if (list->len == 0) {
        return;
    }
    printf("Snapshot list:\n%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG",
           "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (i = 0; i < list->len; i++) {
        print_row(g_ptr_array_index(list, i));
    }
}

static void print_json(const GPtrArray *list)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    unsigned i;

    json_builder_begin_array(b);
    for (i = 0; i < list->len; i++) {
        tool_json_snapshot(b, g_ptr_array_index(list, i));
    }
    json_builder_end_array(b);
    tool_json_print(b);
}

static int run(const ToolArgs *args)
{
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GError) err = NULL;
    ToolSource source;
    int code = TOOL_FAILED, ret;

    if (tool_open(&source, args)) {
        ret = stream_image_list(source.image, &list, &err);
        if (ret < 0) {
            tool_image_error(&source, ret, err);
        } else {
            (args->json ? print_json : print_table)(list);
            code = TOOL_OK;
        }
    }
    tool_close(&source);
    return code;
}

const ToolCommand tool_list = {
    .name = "list",
    .options = "J",
    .synopsis = "IMAGE",
    .help = "Lists the internal snapshots of IMAGE, like qemu-img snapshot "
            "-l.\n",
    .example = "disk.qcow2",
    .run = run,
};
