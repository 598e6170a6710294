/* SPDX-License-Identifier: MIT */
/*
 * The vmstate streams of an image file, for tools: opening, listing, and
 * reading one from end to end through the vmstate pipeline. Nobody who uses
 * this sees a coroutine; every function here blocks until it is done.
 *
 * The image is opened read-only, without its backing file (vmstate is never
 * in one). Not safe between threads.
 */
#ifndef FIRN_MIGRATION_STREAM_IMAGE_H
#define FIRN_MIGRATION_STREAM_IMAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/snapshot.h"
#include "migration/stream-walk.h"
#include "util/compiler.h"

typedef struct StreamImage StreamImage;

typedef struct StreamImageOptions {
    bool image_opts;            /* the name is "key=value,..." instead */
    bool force_share;           /* take no locks */
    const char *cache;          /* cache mode; NULL: "writeback" */
    unsigned workers;           /* requests in flight, 1..64; 0: default */
    uint64_t chunk_bytes;       /* of a request; 0: default */
} StreamImageOptions;

/*
 * Gets every byte of the stream once and in order; @data is valid for the
 * call. Non-zero (a negative errno) ends the reading with it. Runs on a small
 * stack.
 */
typedef int StreamTap(void *opaque, const uint8_t *data, size_t bytes);

/*
 * Open @name. Returns 0 with *@ret, to be closed by the caller; -EINVAL for
 * bad options; or why it cannot be opened.
 */
int no_coroutine_fn stream_image_open(const char *name,
                                      const StreamImageOptions *opts,
                                      StreamImage **ret, GError **errp);

/* NULL: nothing. */
void no_coroutine_fn stream_image_close(StreamImage *image);

/* The snapshots, as bdrv_co_snapshot_list() gives them. */
int no_coroutine_fn stream_image_list(StreamImage *image, GPtrArray **ret,
                                      GError **errp);

/*
 * Find the snapshot by id, then by name. Returns 0 with a copy in *@ret;
 * -ENOENT, and the message names those there are; -ENODATA when it is a
 * snapshot of the disk only; or as for list.
 */
int no_coroutine_fn stream_image_find(StreamImage *image, const char *tag,
                                      BdrvSnapshotInfo **ret, GError **errp);

/*
 * stream_walk() over the vmstate of snapshot @id_or_name. @tap (may be NULL)
 * gets the bytes at the same time; all of them when the walk succeeds and
 * leaves no trailing bytes. Errors as of the walk and of the pipeline.
 */
int no_coroutine_fn stream_image_walk(StreamImage *image,
                                      const char *id_or_name,
                                      const StreamWalkOps *ops, StreamTap *tap,
                                      void *opaque, StreamWalkResult *ret,
                                      GError **errp);

/* Give the whole stream to @tap. 0, or -errno of reading or of @tap. */
int no_coroutine_fn stream_image_copy(StreamImage *image,
                                      const char *id_or_name, StreamTap *tap,
                                      void *opaque, GError **errp);

#endif
