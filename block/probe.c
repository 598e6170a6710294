/* SPDX-License-Identifier: MIT */
/*
 * What the first bytes of a file say about its format. The formats of others
 * are known by name: a file of theirs that is taken for a raw disk shows its
 * headers and tables as if a guest had written them, and a copy of that is
 * worth nothing.
 */
#include <string.h>

#include "block/block_int.h"

#define BYTES(text) text, sizeof(text) - 1

static const struct {
    const char *format;
    size_t offset;
    const char *bytes;
    size_t len;
} others[] = {
    { "bochs", 0, BYTES("Bochs Virtual HD Image") },
    { "cloop", 0, BYTES("#!/bin/sh\n#V2.0 Format\nmodprobe cloop") },
    { "luks", 0, BYTES("LUKS\xba\xbe\0\1") }, /* of version 1 */
    { "parallels", 0, BYTES("WithoutFreeSpace") },
    { "parallels", 0, BYTES("WithouFreSpacExt") },
    { "qcow", 0, BYTES("QFI\xfb\0\0\0\1") },
    { "qed", 0, BYTES("QED\0") },
    { "vdi", 64, BYTES("\x7f\x10\xda\xbe") },
    { "vhdx", 0, BYTES("vhdxfile") },
    { "vmdk", 0, BYTES("COWD") },
    { "vmdk", 0, BYTES("KDMV") },
    { "vmdk", 0, BYTES("# Disk DescriptorFile") },
    { "vpc", 0, BYTES("conectix") },
};

/* Behind the spaces that @p begins with, and the line's end; NULL: more than
 * those are on the line. */
static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && *p == ' ') {
        p++;
    }
    p += end - p > 1 && *p == '\r';
    return p < end && *p == '\n' ? p + 1 : NULL;
}

/* A VMDK descriptor is text: comments and blank lines, then its version. This
 * takes what QEMU takes: a guest could write more than VMware does. */
static bool is_vmdk_text(const char *p, const char *end)
{
    while (p && p < end && (*p == '#' || *p == ' ')) {
        if (*p == ' ') {
            p = skip_blank(p, end);
        } else {
            p = memchr(p, '\n', end - p);
            p = p ? p + 1 : NULL;
        }
    }
    if (!p || end - p < 10 || memcmp(p, "version=", 8) || p[8] < '1' ||
        p[8] > '3') {
        return false;
    }
    return p[9] == '\n' || (end - p > 10 && p[9] == '\r' && p[10] == '\n');
}

const char *bdrv_probe(const uint8_t *buf, size_t len, const char *filename)
{
    const char *best = NULL;
    int best_score = 0;
    BlockDriver *drv;

    for (size_t i = 0; (drv = bdrv_nth_driver(i)) != NULL; i++) {
        int score = drv->probe ? drv->probe(buf, len, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = drv->format_name;
        }
    }
    for (size_t i = 0; !best && i < G_N_ELEMENTS(others); i++) {
        if (len >= others[i].offset + others[i].len &&
            !memcmp(buf + others[i].offset, others[i].bytes, others[i].len)) {
            best = others[i].format;
        }
    }
    if (!best && is_vmdk_text((const char *)buf, (const char *)buf + len)) {
        best = "vmdk";
    }
    return best ? best : bdrv_raw.format_name;
}
