/* SPDX-License-Identifier: MIT */
#include "util/small-file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/error.h"

int read_small_file(const char *path, const char *what, size_t max,
                    char **ret, size_t *ret_n, GError **errp)
{
    FILE *f = fopen(path, "re");
    char *buf;
    size_t n;
    int err;

    if (!f) {
        return set_error(errp, -errno, "cannot open the %s in '%s': %s",
                         what, path, g_strerror(errno));
    }
    buf = g_malloc0(max + 1);
    errno = 0;
    n = fread(buf, 1, max + 1, f);
    err = ferror(f) ? (errno ? errno : EIO) : 0;
    fclose(f);
    if (!err && n <= max) {
        *ret = buf;
        *ret_n = n;
        return 0;
    }
    explicit_bzero(buf, max + 1);
    g_free(buf);
    return err ? set_error(errp, -err, "cannot read the %s in '%s': %s",
                           what, path, g_strerror(err))
               : set_error(errp, -EFBIG, "'%s' has more than the %zu bytes "
                           "that the %s may have", path, max, what);
}
