/* SPDX-License-Identifier: MIT */
/* The parts of the file driver beside file.c. */
#ifndef FIRN_BLOCK_FILE_INT_H
#define FIRN_BLOCK_FILE_INT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/options.h"
#include "util/co-lock.h"
#include "util/compiler.h"

#define FILE_PREFIX "file:"
#define FILE_MAX_ALIGN 4096

/* --- file.c --- */

/* -EISDIR or -EINVAL unless @fd is a regular file or a block device. */
int file_check_type(int fd, const char *filename, bool *ret_is_device,
                    GError **errp);
/* Write zeroes over [@from, @to) and flush. -ECANCELED when it is to stop. */
int coroutine_fn file_write_full(int fd, uint64_t from, uint64_t to);

/* --- file-create.c --- */

int coroutine_fn file_co_create(const char *filename, BdrvOptions *options,
                                GError **errp);
void coroutine_fn file_co_uncreate(const char *filename);

/* --- file-lock.c --- */

/*
 * Lock @fd for @writer or a reader, until file_unlock(). @probe: also look for
 * others whose use excludes this one.
 *
 * Returns 0; -EAGAIN when another opener excludes this one; -ENOTSUP when the
 * file system has no such locks; or what fcntl() said.
 */
int file_lock(int fd, bool writer, bool probe, const char *filename,
              GError **errp);
/* The same, and 0 without locks where the file system has none. */
int file_lock_auto(int fd, bool writer, bool probe, const char *filename,
                   GError **errp);
/*
 * Hold on to the locks of @fd when it is closed without file_unlock(), which
 * are made those of a @writer, or what they were and those, if @fd has locks of
 * a reader. Returns a descriptor that has them, or as file_lock(), nothing
 * changed.
 */
int file_lock_keep(int fd, bool was_writer, bool writer, const char *filename,
                   GError **errp);
/* Take that back: @fd is locked as it was, @kept is closed. */
void file_lock_unkeep(int fd, bool was_writer, int kept);
/*
 * Give the locks up, before the descriptor is closed: io_uring may hold on to
 * the open file for a moment longer, and a child process that is about to exec
 * has a duplicate.
 */
void file_unlock(int fd);

/* --- file-copy.c --- */

/* Copy inside the kernel. 0; -ENOTSUP, perhaps after a part; or -errno. */
int coroutine_fn file_copy(int from, uint64_t from_offset, int to,
                           uint64_t to_offset, uint64_t bytes);

/* --- file-hints.c: for a file that is empty --- */

void file_hint_nocow(int fd);
void file_hint_extent_size(int fd, uint32_t bytes);

/* --- file-grow.c --- */

typedef struct FileGrow {
    CoMutex lock;   /* held while space is allocated */
    uint64_t end;   /* of what was allocated ahead; 0: nothing was */
    bool enabled;   /* until the file system refuses */
} FileGrow;

void file_grow_init(FileGrow *g, bool enabled);
/*
 * A write of @bytes at @offset is due to a file of @length bytes: allocate
 * ahead if that is worth it. Failing to is no error.
 */
void coroutine_fn file_grow_for(FileGrow *g, int fd, uint64_t length,
                                uint64_t offset, uint64_t bytes);
/* Cut off what was allocated behind @length. Returns 0 or -errno. */
int coroutine_fn file_grow_trim(FileGrow *g, int fd, uint64_t length);

#endif
