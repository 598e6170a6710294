/* SPDX-License-Identifier: MIT */
/*
 * Check and repair, resize, amend, make empty, create, measure.
 */
#ifndef FIRN_BLOCK_QCOW2_MAINT_H
#define FIRN_BLOCK_QCOW2_MAINT_H

#include "qcow2_int.h"

/* ---- check.c: see there ---- */

/* As blk_co_check(), for co_open too. Nothing is cached that is not on
 * disk. */
int coroutine_fn qcow2_check(Qcow2State *s, BdrvCheckResult *ret,
                             unsigned fix, BdrvCheckReport *report,
                             void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *ret,
                                unsigned fix, BdrvCheckReport *report,
                                void *opaque, GError **errp);

/* ---- truncate.c ---- */

int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, uint64_t size,
                                   BdrvPrealloc prealloc, GError **errp);
/* Can the disk be @size bytes, in an image of that version? */
int qcow2_check_size(const Qcow2State *s, uint64_t size, unsigned version,
                     GError **errp);
/* co_truncate with map_lock held exclusively. */
int coroutine_fn qcow2_resize(Qcow2State *s, uint64_t size,
                              BdrvPrealloc prealloc, GError **errp)
    EXCLUDES(s->lock);

/* ---- amend.c, recount.c, downgrade.c; map_lock held exclusively ---- */

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, BdrvOptions *opts,
                                bool force, BdrvProgressFunc *progress,
                                void *opaque, GError **errp);
/* Write all refcounts anew, 2^@order bits wide. -EINVAL: some do not fit. */
int coroutine_fn qcow2_change_refcount_order(Qcow2State *s, unsigned order,
                                             BdrvProgressFunc *progress,
                                             void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);
/* Can the image become version 2, when its disk and refcounts are so wide? */
int qcow2_check_downgrade(const Qcow2State *s, uint64_t size, unsigned order,
                          GError **errp);
/* -ENOTSUP with a sentence: some layer has compressed clusters. */
int coroutine_fn qcow2_check_uncompressed(Qcow2State *s, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);
/* Turn zero clusters of all layers into what version 2 knows. */
int coroutine_fn qcow2_drop_zero_flags(Qcow2State *s,
                                       BdrvProgressFunc *progress,
                                       void *opaque, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- shrink.c; map_lock held exclusively ---- */

/* Make everything from @guest_offset, at the start of a cluster, to the end of
 * its L1 entry unallocated. */
int coroutine_fn qcow2_drop_tail(Qcow2State *s, uint64_t guest_offset)
    REQUIRES(s->lock) DROPS(s->lock);
/* Give up refcount blocks at the end that count nothing, and cut the file
 * behind the last cluster in use. What cannot be done stays. */
void coroutine_fn qcow2_trim_file(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- empty.c, backing.c ---- */

/* Say that an error is about backing file @name, which is named once. */
int qcow2_backing_error(GError **errp, int err, const char *name);

/* Name another backing file in the header; NULL: none. */
int coroutine_fn qcow2_set_backing(Qcow2State *s, const char *file,
                                   const char *fmt, GError **errp)
    REQUIRES(s->lock);

int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs, GError **errp);
int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs,
                                              const char *file,
                                              const char *fmt,
                                              GError **errp);

/* ---- holes.c ---- */

/*
 * Are holes in the file what was preallocated and nobody has written? Found
 * out once. Takes and releases s->lock, and yields.
 */
bool coroutine_fn qcow2_holes_are_zeroes(Qcow2State *s) EXCLUDES(s->lock);

/* ---- prealloc.c ---- */

/* Give guest clusters of [@from, @to) that have nothing host clusters, durably.
 * map_lock is held exclusively; the L1 table grows if it has to. */
int coroutine_fn qcow2_preallocate(Qcow2State *s, uint64_t from, uint64_t to,
                                   BdrvPrealloc mode)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- create.c, measure.c ---- */

/* What an image is to be, from the options of create; size apart. */
typedef struct Qcow2Create {
    Qcow2Header h;          /* geometry and feature bits */
    Qcow2Extensions ext;    /* backing and data file */
    BdrvPrealloc prealloc;
    Qcow2CryptoCreate *crypto;  /* NULL: not encrypted */
} Qcow2Create;

/* Take the options out of @o and check that they go together. 0 or -EINVAL;
 * qcow2_create_cleanup() in any case. */
int qcow2_take_create_options(BdrvOptions *o, Qcow2Create *p, GError **errp);
void qcow2_create_cleanup(Qcow2Create *p);
/* L1 entries for a disk of @bytes. */
uint64_t qcow2_l1_entries(const Qcow2Create *p, uint64_t bytes);
int coroutine_fn qcow2_co_create(const char *filename, BdrvOptions *options,
                                 GError **errp);
/* Refcount blocks for @nb_clusters clusters, themselves and their table of
 * *@ret_table (may be NULL) clusters. */
uint64_t qcow2_refcount_clusters(uint64_t nb_clusters, unsigned cluster_bits,
                                 unsigned refcount_order, uint64_t *ret_table);
int coroutine_fn qcow2_co_measure(BdrvOptions *opts, BlockDriverState *src,
                                  BdrvMeasure *ret, GError **errp);

#endif
