/* SPDX-License-Identifier: MIT */
/*
 * What the files of check and repair share. They run with map_lock held
 * exclusively and s->lock held throughout, on an image whose metadata is all
 * on disk; only the L1 and the refcount table are taken from memory.
 *
 *   check.c          one pass, its order, its numbers; open and close of it
 *   check-counts.c   sparse counters, one per host cluster
 *   check-tables.c   tables of many owners that may overlap, each byte once
 *   check-refs.c     count every reference
 *   check-compare.c  compare with the stored refcounts; COPIED flags
 *   check-repair.c   mend entries, single refcounts, COPIED flags
 *   check-rebuild.c  a new refcount structure
 */
#ifndef FIRN_BLOCK_QCOW2_CHECK_INT_H
#define FIRN_BLOCK_QCOW2_CHECK_INT_H

#include "qcow2_int.h"

/* ---- check-counts.c ---- */

typedef struct Qcow2Counts Qcow2Counts;

/* NULL with *@errp set when that many are too many. */
Qcow2Counts *qcow2_counts_new(uint64_t nb_clusters, GError **errp);
void qcow2_counts_free(Qcow2Counts *c);
/* For tests: another limit on the memory of all counters. */
void qcow2_counts_limit(Qcow2Counts *c, uint64_t max_bytes);
uint64_t qcow2_counts_get(const Qcow2Counts *c, uint64_t cluster);
/* 0, -ENOMEM or -EFBIG (the counters together have grown too large). */
int qcow2_counts_add(Qcow2Counts *c, uint64_t cluster, uint64_t n);
/* A flag beside each counter. */
int qcow2_counts_set_flag(Qcow2Counts *c, uint64_t cluster);
bool qcow2_counts_flag(const Qcow2Counts *c, uint64_t cluster);
/* First cluster at or after @cluster whose counter may be above 0. */
uint64_t qcow2_counts_skip(const Qcow2Counts *c, uint64_t cluster);

/* ---- one pass ---- */

typedef struct Qcow2Check {
    Qcow2State *s;
    BdrvCheckResult *res;
    BdrvCheckReport *report;
    void *opaque;
    unsigned lines;         /* reported so far */

    uint64_t file_bytes;
    uint64_t nb_clusters;   /* that the file holds or begins to hold */
    Qcow2Counts *counts;    /* references; flag: the stored refcount is 1 */
    GHashTable *l2_tables;  /* Qcow2CheckL2 by offset */
    uint8_t *buf;           /* one cluster */
    uint64_t odd_tables;    /* read although nobody can use them */
    uint64_t highest;       /* cluster in use, + 1 */

    uint64_t too_low;       /* clusters with more references than counted */
    uint64_t copied_wrong;  /* of the corruptions, mere COPIED flags */
    bool bad_zeroes;        /* entries that read zero have a bad offset */
    bool snaptable_lost;    /* the snapshot table is not counted */
    bool rebuild;           /* refcounts cannot be mended one by one */
    bool blind;             /* a pointer is lost: what nothing seems to refer
                               to may be in use */
} Qcow2Check;

/* An L2 table and how many L1 entries, of all layers, refer to it. */
typedef struct Qcow2CheckL2 {
    uint64_t offset;        /* key, first */
    uint64_t paths;
    uint64_t active;        /* of these, in the active layer */
    bool flags_done;
    bool repaired;
} Qcow2CheckL2;

/* @n findings of one kind, described once. */
void qcow2_check_corruption(Qcow2Check *c, uint64_t n, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
void qcow2_check_leak(Qcow2Check *c, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
/* Something could not be read. */
void qcow2_check_failed(Qcow2Check *c, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* ---- check-tables.c ---- */

/* @nb_entries of 8 bytes at cluster-aligned @offset; from the image. */
typedef struct Qcow2CheckTable {
    uint64_t offset;
    uint64_t nb_entries;
} Qcow2CheckTable;

/* An entry that @paths tables have. */
typedef int coroutine_fn Qcow2CheckEntryFunc(Qcow2Check *c, uint64_t entry,
                                             uint64_t paths);

/*
 * Count the clusters of all @tables (Qcow2CheckTable), named @what in
 * findings, and call @fn for each entry that is not 0 and lies in the file.
 * However much they overlap, the file is read once. 0 or -errno.
 */
int coroutine_fn qcow2_check_tables(Qcow2Check *c, GArray *tables,
                                    const char *what,
                                    Qcow2CheckEntryFunc *fn)
    REQUIRES(c->s->lock);

/* ---- check-refs.c ---- */

/* Count @paths references to each cluster of a region. False: it lies past
 * the end of the file, a corruption, and is not counted. */
bool qcow2_check_region(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                        uint64_t paths, const char *what, int *ret_error);
/* Does an L2 entry read zero, whatever its host offset is? */
bool qcow2_check_reads_zero(const Qcow2State *s, Qcow2Entry e);
/* Can a cluster, or an L2 table, be at @offset? 0 is fine. */
bool qcow2_check_offset_ok(const Qcow2Check *c, uint64_t offset);
/* Count all there are. 0 or -errno: there is no memory for it. */
int coroutine_fn qcow2_check_refs(Qcow2Check *c) REQUIRES(c->s->lock);

/* ---- check-compare.c ---- */

/* Reads refcount block @index into @buf; false: there is none to read. */
bool coroutine_fn qcow2_check_load_block(Qcow2Check *c, uint64_t index,
                                         uint8_t *buf)
    REQUIRES(c->s->lock);
int coroutine_fn qcow2_check_compare(Qcow2Check *c) REQUIRES(c->s->lock);
int coroutine_fn qcow2_check_copied(Qcow2Check *c) REQUIRES(c->s->lock);

/* ---- check-repair.c, check-rebuild.c: after a pass of their own; durable
 * when they return 0 ---- */

int coroutine_fn qcow2_repair_zeroes(Qcow2Check *c) REQUIRES(c->s->lock);
int coroutine_fn qcow2_repair_counts(Qcow2Check *c, unsigned fix)
    REQUIRES(c->s->lock);
int coroutine_fn qcow2_repair_copied(Qcow2Check *c) REQUIRES(c->s->lock);
int coroutine_fn qcow2_repair_rebuild(Qcow2Check *c, unsigned fix)
    REQUIRES(c->s->lock);

#endif
