/* SPDX-License-Identifier: MIT */
/*
 * Whole-map walks, snapshots, bitmaps and vmstate.
 */
#ifndef FIRN_BLOCK_QCOW2_SNAPSHOT_H
#define FIRN_BLOCK_QCOW2_SNAPSHOT_H

#include "qcow2_int.h"

/* ---- tally.c: references per host cluster, see there ---- */

typedef struct Qcow2Tally Qcow2Tally;

/* NULL: no memory. Starts with the window from block 0 on. */
Qcow2Tally *qcow2_tally_new(const Qcow2State *s);
/* NULL is allowed. */
void qcow2_tally_free(Qcow2Tally *t);
/* Forget the counts and start a window at block @first. */
void qcow2_tally_window(Qcow2Tally *t, uint32_t first);
/* The same for the next one that something was counted in, or false. */
bool qcow2_tally_next_window(Qcow2Tally *t);
/*
 * The counts of refcount block @index; *@ret is NULL outside the window.
 * Returns 0, -ERANGE (the refcount table has no such block) or -ENOMEM.
 */
int qcow2_tally_block(Qcow2Tally *t, uint64_t index, uint32_t **ret);
/* Count @nb clusters from @cluster on. Errors as above. */
int qcow2_tally_add(Qcow2Tally *t, uint64_t cluster, uint64_t nb);
/* Would the window fit? 0, -ERANGE (overflow), or -EIO (R7: some cluster has
 * more references than its refcount). */
int coroutine_fn qcow2_tally_check(Qcow2State *s, const Qcow2Tally *t,
                                   int addend)
    REQUIRES(s->lock) DROPS(s->lock);
/* Add @addend (+1 or -1) for each reference in the window, which has been
 * checked. A failed +1 is undone, a failed -1 leaks. @may_stop: -ECANCELED
 * between two blocks when asked to stop. */
int coroutine_fn qcow2_tally_apply(Qcow2State *s, Qcow2Tally *t, int addend,
                                   bool punch, bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock);
/* Clusters whose refcount a decrement made 1. */
uint64_t qcow2_tally_nb_ones(const Qcow2Tally *t);
bool qcow2_tally_is_one(const Qcow2Tally *t, uint64_t cluster);

/* ---- walk.c: everything below an L1 table, see there ---- */

typedef struct Qcow2Walk Qcow2Walk;

/* The L1 table is copied. NULL: no memory. */
Qcow2Walk *qcow2_walk_new(const Qcow2State *s, const uint64_t *l1,
                          uint32_t n);
/* NULL is allowed. */
void qcow2_walk_free(Qcow2Walk *w);
/* Read all tables and see if @addend fits. 0, -ERANGE (a refcount would
 * overflow), -EIO (R7: an entry is impossible or not counted) or, @may_stop,
 * -ECANCELED (asked to stop). */
int coroutine_fn qcow2_walk_check(Qcow2State *s, Qcow2Walk *w, int addend,
                                  bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock);
/* Add @addend for every path; a failed +1 is undone, a failed -1 leaks.
 * @may_stop: so does -ECANCELED, when asked to stop. */
int coroutine_fn qcow2_walk_apply(Qcow2State *s, Qcow2Walk *w, int addend,
                                  bool punch, bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock);
/* R6: clear COPIED in the tables, on disk and in the cache. Nobody else may
 * use them (K4). */
int coroutine_fn qcow2_walk_clear_copied(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock);
/* Set COPIED in the active layer on what a decrement made 1. Guests may go
 * on. */
int coroutine_fn qcow2_walk_set_copied(Qcow2State *s, Qcow2Walk *w)
    REQUIRES(s->lock) DROPS(s->lock);
/* -1 for every path under @l1, with nobody else around (K4). @may_stop:
 * -ECANCELED when asked to stop, the rest leaks. */
int coroutine_fn qcow2_walk_drop(Qcow2State *s, const uint64_t *l1,
                                 uint32_t n, bool punch, bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock);

/* ---- snaptable.c: bytes of the snapshot table ---- */

void qcow2_snapshot_free(Qcow2Snapshot *sn);
uint64_t qcow2_snapshot_vm_size(const Qcow2Snapshot *sn);
/* Falls back to @current when the entry has no disk size. */
uint64_t qcow2_snapshot_disk_size(const Qcow2Snapshot *sn, uint64_t current);
uint64_t qcow2_snapshot_icount(const Qcow2Snapshot *sn);
bool qcow2_snapshot_has_disk_size(const Qcow2Snapshot *sn);
/* Text up to a NUL; to be freed. */
char *qcow2_snapshot_text(GBytes *bytes);
/* Load s->snapshots as the header says. A table beyond the limits is refused,
 * or, with s->damaged_ok, cut: s->snaps_cut, s->snaps_clipped. */
int coroutine_fn qcow2_snaptable_load(Qcow2State *s, GError **errp);
/* Append the bytes of all entries to @buf. -EFBIG beyond 64 MiB. */
int qcow2_snaptable_encode(GPtrArray *snapshots, uint64_t disk_size,
                           GByteArray *buf);

/* ---- snapshot.c ---- */

int coroutine_fn qcow2_co_snapshot_create(BlockDriverState *bs,
                                          BdrvSnapshotInfo *info,
                                          GError **errp);
int coroutine_fn qcow2_co_snapshot_goto(BlockDriverState *bs,
                                        const char *id_or_name,
                                        GError **errp);
int coroutine_fn qcow2_co_snapshot_delete(BlockDriverState *bs,
                                          const char *id, const char *name,
                                          GError **errp);
int coroutine_fn qcow2_co_snapshot_list(BlockDriverState *bs,
                                        GPtrArray **ret);
/* Write the table of s->snapshots anew, after a repair. */
int coroutine_fn qcow2_snapshot_rewrite_table(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Load the L1 table of a snapshot. */
int coroutine_fn qcow2_snapshot_load_l1(Qcow2State *s,
                                        const Qcow2Snapshot *sn,
                                        Qcow2Table *ret, GError **errp);

/* ---- bitmap.c, bitstore.c ---- */

/*
 * Load the bitmap directory; for a writer, mark all bitmaps in_use. Before
 * anything else is written. -EINVAL, -EFBIG or an I/O error.
 */
int coroutine_fn qcow2_bitmaps_open(Qcow2State *s, unsigned flags,
                                    GError **errp) EXCLUDES(s->lock);
/* At close: make persistent bitmaps what they are in memory. On failure they
 * stay in_use on disk. */
int coroutine_fn qcow2_bitmaps_store(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
int qcow2_bitmap_can_store(BlockDriverState *bs, const char *name,
                           GError **errp);
int coroutine_fn qcow2_co_bitmap_load(BlockDriverState *bs,
                                      BdrvDirtyBitmap *bm, GError **errp);

/* ---- snapfind.c; position in s->snapshots, or -1 ---- */

/* By id, then by name. */
int qcow2_snapshot_find(Qcow2State *s, const char *id_or_name);
/* By those that are not NULL. */
int qcow2_snapshot_find_both(Qcow2State *s, const char *id, const char *name);
/* One more than the largest number among the ids; to be freed. */
char *qcow2_snapshot_next_id(Qcow2State *s);
/* One was appended; one is gone, or all are. */
void qcow2_snapindex_added(Qcow2State *s);
void qcow2_snapindex_reset(Qcow2State *s);
/* Take the options snapshot.id and snapshot.name, or snapshot (either): the
 * node shows that
 * snapshot's disk, read-only. 0, -ENOENT, -EROFS, ... */
int coroutine_fn qcow2_snapshot_open(Qcow2State *s, BdrvOptions *options,
                                     GError **errp);

/* ---- vmstate.c ---- */

/* Guest offset of the vmstate of a disk of @size bytes. */
uint64_t qcow2_vmstate_offset(const Qcow2State *s, uint64_t size);
int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov);
int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, uint64_t pos,
                                       QEMUIOVector *qiov);
int coroutine_fn qcow2_co_vmstate_select(BlockDriverState *bs,
                                         const char *snapshot,
                                         uint64_t *ret_size, GError **errp);
int coroutine_fn qcow2_co_vmstate_discard(BlockDriverState *bs);
/* Drop what the active L1 table maps behind the disk. map_lock exclusive. */
int coroutine_fn qcow2_drop_active_vmstate(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock);
/* Drop what the active L1 table maps from entry @first on. map_lock exclusive.
 * Nothing is freed before the entries are durably gone (R3). @may_stop:
 * -ECANCELED when asked to stop; they are gone, and what was below leaks. */
int coroutine_fn qcow2_drop_l1(Qcow2State *s, uint64_t first, bool may_stop)
    REQUIRES(s->lock) DROPS(s->lock);
void qcow2_vmstate_view_reset(Qcow2State *s);

#endif
