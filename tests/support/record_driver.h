/* SPDX-License-Identifier: MIT */
/*
 * A protocol driver for power-cut tests, "rec", backed by memory. Open
 * "rec:NAME", or driver=rec,name=NAME. While a RecordLog records, every write,
 * zero, discard, truncate and flush of all disks is kept in order, with its
 * data. Afterwards the log is played: the disks hold what is durable at one
 * cut, a crash state is built on top of that, looked at (opened, read, written)
 * and taken back. Both cost only what they touch.
 *
 * A cut @k lies before the end of log entry @k: entries [0, k) have ended,
 * those that were issued by then are in flight. What a flush covers, which are
 * the entries that had ended when it was issued, is durable once it has ended;
 * of everything else any part may be on disk, in units of sectors. Where two
 * writes overlap the later one wins, if it is there. That contains every
 * reordering: whole writes in another order, cut short, are a subset.
 *
 *   recorded --> record_seek(k) --> record_build(...) --> use --> record_undo()
 *                    ^                                               |
 *                    +-------------- the next state -----------------+
 */
#ifndef FIRN_TESTS_SUPPORT_RECORD_DRIVER_H
#define FIRN_TESTS_SUPPORT_RECORD_DRIVER_H

#include "block/block_int.h"

#define RECORD_SECTOR 512

typedef enum RecordType {
    RECORD_WRITE,
    RECORD_ZERO,
    RECORD_DISCARD,
    RECORD_TRUNCATE,        /* to .offset bytes */
    RECORD_FLUSH,
} RecordType;
#define RECORD_TYPES (RECORD_FLUSH + 1)

typedef struct RecordDisk {
    char *name;
    uint8_t *mem;           /* zero beyond len */
    uint64_t len;
    bool zeroes;            /* supports co_pwrite_zeroes; set before open */
    struct RecordLog *log;  /* NULL: nothing is kept */
    GArray *undo;
    GByteArray *undo_data;
    unsigned durable;       /* log entries of this disk below are in mem */
} RecordDisk;

typedef struct RecordEntry {
    RecordDisk *disk;
    RecordType type;
    uint64_t offset;
    uint64_t bytes;
    uint8_t *data;          /* RECORD_WRITE */
    unsigned issued;        /* length of the log when it was issued */
} RecordEntry;

typedef struct RecordLog {
    GPtrArray *entries;     /* RecordEntry, in order of their ends */
    GPtrArray *disks;
    unsigned at;            /* the cut that the disks stand at */
    GPtrArray *loose;       /* entries that may or may not be on disk there */
    unsigned ended;         /* that many of them have ended */
} RecordLog;

/* Which of the loose entries a crash state has. */
typedef enum RecordMode {
    RECORD_ALL_ENDED,       /* power fails and nothing that ended is lost */
    RECORD_NONE,            /* only what was flushed */
    RECORD_SUBSET,          /* each entry is there or not */
    RECORD_TORN,            /* a subset; sectors of one entry there or not */
    RECORD_SECTORS,         /* each sector is there or not */
    RECORD_ALL_BUT_ONE,     /* also those in flight */
    RECORD_ONLY_ONE,
} RecordMode;
#define RECORD_MODES (RECORD_ONLY_ONE + 1)

const char *record_mode_name(RecordMode mode);

/* Make an empty disk and register the driver. */
RecordDisk *record_disk_new(const char *name);
void record_disk_free(RecordDisk *d);
/* Replace the contents; nothing may be marked. */
void record_disk_set(RecordDisk *d, const void *bytes, uint64_t len);

/* From now on each write to @d can be taken back: a place to go back to. */
typedef struct RecordMark {
    guint undo;
    uint64_t len;
} RecordMark;
RecordMark record_mark(RecordDisk *d);
/* Back to @m; marks that are younger are gone. */
void record_undo(RecordDisk *d, RecordMark m);

/* Start to record what is sent to @disks. */
RecordLog *record_start(RecordDisk *const *disks, unsigned nb);
/* The disks are back at what they held at the start; seek goes forward. */
void record_stop(RecordLog *log);
void record_log_free(RecordLog *log);

/* Go to cut @k, not before the present one. */
void record_seek(RecordLog *log, unsigned k);
/* Add to the disks, which are marked, what @mode and @rand say. */
void record_build(RecordLog *log, RecordMode mode, GRand *rand);

#endif
