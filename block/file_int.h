/* SPDX-License-Identifier: MIT */
/* Image locks of the file driver (file-lock.c). */
#ifndef FIRN_BLOCK_FILE_INT_H
#define FIRN_BLOCK_FILE_INT_H

#include <glib.h>
#include <stdbool.h>

/*
 * Lock @fd for @writer or a reader; it is unlocked when its last duplicate is
 * closed. @probe: also look for others whose use excludes this one.
 *
 * Returns 0; -EAGAIN when another opener excludes this one; -ENOTSUP when the
 * file system has no such locks; or what fcntl() said.
 */
int file_lock(int fd, bool writer, bool probe, const char *filename,
              GError **errp);

#endif
