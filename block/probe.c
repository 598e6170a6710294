/* SPDX-License-Identifier: MIT */
/*
 * What the first bytes of a file say about its format. The formats of others
 * are known by name: a file of theirs that is taken for a raw disk shows its
 * headers and tables as if a guest had written them, and a copy of that is
 * worth nothing.
 */
#include <string.h>

#include "block/block_int.h"

#define AT(offset, text) { offset, text, sizeof(text) - 1 }
#define BOCHS(version) { "bochs", { \
    AT(0, "Bochs Virtual HD Image\0"), AT(32, "Redolog\0"), \
    AT(48, "Growing\0"), AT(64, version) } }

/* Each of these has all of its pieces, as QEMU asks of it: what it opens as
 * raw is raw here. */
static const struct {
    const char *format;
    struct {
        size_t offset;
        const char *bytes;
        size_t len;
    } pieces[4];
} others[] = {
    BOCHS("\0\0\1\0"),
    BOCHS("\0\0\2\0"),
    { "cloop", { AT(0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && "
                 "mount -r -t iso9660 /dev/cloop $1\n") } },
    { "luks", { AT(0, "LUKS\xba\xbe\0\1") } }, /* of version 1 */
    { "parallels", { AT(0, "WithoutFreeSpace\2\0\0\0") } },
    { "parallels", { AT(0, "WithouFreSpacExt\2\0\0\0") } },
    { "qcow", { AT(0, "QFI\xfb\0\0\0\1") } },
    { "qed", { AT(0, "QED\0") } },
    { "vdi", { AT(64, "\x7f\x10\xda\xbe") } },
    { "vhdx", { AT(0, "vhdxfile") } },
    { "vmdk", { AT(0, "COWD") } },
    { "vmdk", { AT(0, "KDMV") } },
    { "vpc", { AT(0, "conectix") } },
};

static bool is_other(size_t i, const uint8_t *buf, size_t len)
{
    for (size_t j = 0; j < G_N_ELEMENTS(others[i].pieces); j++) {
        size_t offset = others[i].pieces[j].offset;
        size_t n = others[i].pieces[j].len;

        if (offset + n > len ||
            memcmp(buf + offset, others[i].pieces[j].bytes, n)) {
            return false;
        }
    }
    return true;
}

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
        if (is_other(i, buf, len)) {
            best = others[i].format;
        }
    }
    if (!best && is_vmdk_text((const char *)buf, (const char *)buf + len)) {
        best = "vmdk";
    }
    return best ? best : bdrv_raw.format_name;
}
