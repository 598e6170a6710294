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
    return best ? best : bdrv_raw.format_name;
}
