/* SPDX-License-Identifier: MIT */
/*
 * What a filename can say: a plain path, PROTOCOL:rest, or "json:{...}". Also
 * relative names of backing files, which names mean the same file, and cache
 * mode names.
 */
#include <string.h>
#include <sys/stat.h>

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

static const char *skip_file_prefix(const char *filename)
{
    return filename + (g_str_has_prefix(filename, "file:") ? strlen("file:")
                                                           : 0);
}

char *bdrv_combine_filename(const char *base, const char *filename)
{
    const char *path = skip_file_prefix(base);
    const char *slash;

    if (*filename == '/' || bdrv_has_protocol(filename)) {
        return g_strdup(filename);
    }
    slash = strrchr(path, '/');
    if (!slash) {
        /* A name that could be taken for a protocol cannot come here. */
        return g_strdup(filename);
    }
    return g_strdup_printf("%.*s%s", (int)(slash - base) + 1, base, filename);
}

bool bdrv_is_same_file(const char *a, const char *b)
{
    struct stat x, y;

    a = skip_file_prefix(a);
    b = skip_file_prefix(b);
    if (strcmp(a, b) == 0) {
        return true;
    }
    if (stat(a, &x) < 0 || stat(b, &y) < 0) {
        return false;
    }
    return S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode)
           ? x.st_rdev == y.st_rdev
           : x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The data file too, which is not open where only metadata is asked for. */
static bool names_file(const BlockDriverState *bs, const char *filename)
{
    const char *name = bs->drv->data_file_name ? bs->drv->data_file_name(bs)
                                               : NULL;
    g_autofree char *path = name && bs->filename
                            ? bdrv_combine_filename(bs->filename, name) : NULL;

    return (path && bdrv_is_same_file(path, filename)) ||
           (bs->drv->protocol_name && bs->filename &&
            bdrv_is_same_file(bs->filename, filename));
}

bool bdrv_has_file(const BlockDriverState *bs, const char *filename)
{
    if (names_file(bs, filename)) {
        return true;
    }
    for (GList *l = bs->children; l; l = l->next) {
        const BdrvChild *child = l->data;

        if (bdrv_has_file(child->bs, filename)) {
            return true;
        }
    }
    return false;
}

const char *const bdrv_cache_modes[] = {
    "none", "directsync", "writeback", "writethrough", "unsafe",
    "off", /* the old name of none */
    NULL
};

int bdrv_parse_cache_mode(const char *mode, unsigned *flags)
{
    static const unsigned bits[] = { /* as named above */
        BDRV_O_NOCACHE, BDRV_O_NOCACHE | BDRV_O_WRITETHROUGH, 0,
        BDRV_O_WRITETHROUGH, BDRV_O_NO_FLUSH, BDRV_O_NOCACHE,
    };
    const unsigned all = BDRV_O_NOCACHE | BDRV_O_WRITETHROUGH |
                         BDRV_O_NO_FLUSH;

    for (size_t i = 0; bdrv_cache_modes[i]; i++) {
        if (strcmp(mode, bdrv_cache_modes[i]) == 0) {
            *flags = (*flags & ~all) | bits[i];
            return 0;
        }
    }
    return -EINVAL;
}
