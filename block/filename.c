/* SPDX-License-Identifier: MIT */
/*
 * What a filename can say: a plain path, PROTOCOL:rest, or "json:{...}". Also
 * relative names of backing files, and cache mode names.
 */
#include <string.h>

#include "block/block_int.h"

/*
 * A protocol prefix is made of letters, digits, '+', '-' and '.', and ends at
 * a ':' that comes before any '/'.
 */
static size_t protocol_length(const char *filename)
{
    size_t len = 0;

    while (g_ascii_isalnum(filename[len]) ||
           (filename[len] && strchr("+-.", filename[len]))) {
        len++;
    }
    return filename[len] == ':' ? len : 0;
}

bool bdrv_has_protocol(const char *filename)
{
    return protocol_length(filename) > 0;
}

char *bdrv_protocol_name(const char *filename)
{
    size_t len = protocol_length(filename);

    return len ? g_strndup(filename, len) : NULL;
}

char *bdrv_combine_filename(const char *base, const char *filename)
{
    const char *path = base;
    const char *slash;

    if (*filename == '/' || bdrv_has_protocol(filename)) {
        return g_strdup(filename);
    }
    if (g_str_has_prefix(path, "file:")) {
        path += strlen("file:");
    }
    slash = strrchr(path, '/');
    if (!slash) {
        /* A name that could be taken for a protocol cannot come here. */
        return g_strdup(filename);
    }
    return g_strdup_printf("%.*s%s", (int)(slash - base) + 1, base, filename);
}

int bdrv_parse_cache_mode(const char *mode, unsigned *flags)
{
    static const struct {
        const char *name;
        unsigned flags;
    } modes[] = {
        { "none", BDRV_O_NOCACHE },
        { "off", BDRV_O_NOCACHE }, /* its old name */
        { "directsync", BDRV_O_NOCACHE | BDRV_O_WRITETHROUGH },
        { "writeback", 0 },
        { "writethrough", BDRV_O_WRITETHROUGH },
        { "unsafe", BDRV_O_NO_FLUSH },
    };
    const unsigned all = BDRV_O_NOCACHE | BDRV_O_WRITETHROUGH |
                         BDRV_O_NO_FLUSH;

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(mode, modes[i].name) == 0) {
            *flags = (*flags & ~all) | modes[i].flags;
            return 0;
        }
    }
    return -EINVAL;
}
