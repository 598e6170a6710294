/* SPDX-License-Identifier: MIT */
/* Files that are read as a whole: secrets and configurations. */
#ifndef FIRN_UTIL_SMALL_FILE_H
#define FIRN_UTIL_SMALL_FILE_H

#include <glib.h>
#include <stddef.h>

/*
 * Read @path, which may be a device without an end, into *@ret, with a 0 behind
 * the *@ret_n bytes; to be freed. Messages call it @what. Returns 0, -EFBIG for
 * more than @max bytes, or what the operating system said; then nothing of it
 * is left in memory.
 */
int read_small_file(const char *path, const char *what, size_t max,
                    char **ret, size_t *ret_n, GError **errp);

#endif
