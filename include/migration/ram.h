/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM as page records of the "ram" section (VMSTATE.md).
 *
 * Saving goes through the blocks once, in order, in rounds. Loading stores
 * pages straight into RAM, after the block list was compared; pages that the
 * stream never mentions are zero in the end.
 */
#ifndef FIRN_MIGRATION_RAM_H
#define FIRN_MIGRATION_RAM_H

#include <glib.h>

#include "migration/vmstream.h"

#define TARGET_PAGE_SIZE    4096
#define RAM_SECTION_NAME    "ram"
#define RAM_SECTION_VERSION 4

typedef struct RamBlock {
    char *idstr;      /* 1..255 bytes */
    uint8_t *host;    /* page aligned */
    uint64_t bytes;   /* a multiple of the page size, > 0 */
} RamBlock;

RamBlock *ram_block_new(const char *idstr, void *host, uint64_t bytes);
void ram_block_free(RamBlock *block); /* NULL ok */

/*
 * Called now and then while pages go by, about every MiB. Anything but 0 ends
 * the operation with that error.
 */
typedef int RamStepFn(void *opaque, uint64_t pages);

/* --- Saving --- */

typedef struct RamSaver {
    const GPtrArray *blocks; /* RamBlock */
    RamStepFn *step;
    void *opaque;
    unsigned block;          /* where it goes on */
    uint64_t offset;
    uint64_t pages;          /* so far */
} RamSaver;

/* The body of START: block list. */
void coroutine_fn ram_save_setup(RamSaver *r, VmStream *f);
/*
 * The body of PART or END: up to @max_pages pages. Returns 1 when there is
 * more, 0 at the end, or -errno of stream or step.
 */
int coroutine_fn ram_save_round(RamSaver *r, VmStream *f, uint64_t max_pages);

/* --- Loading --- */

typedef struct RamLoader RamLoader;

/*
 * @blocks stays the caller's. @fresh: RAM is known to be zero, so what the
 * stream has as zero is not looked at.
 */
RamLoader *ram_loader_new(const GPtrArray *blocks, bool fresh,
                          RamStepFn *step, void *opaque);
/* NULL ok. May wait for a helping thread. */
void coroutine_fn ram_loader_free(RamLoader *l);
/* Was anything stored into RAM? */
bool ram_loader_touched(const RamLoader *l);

/* The body of a START, PART or END section, up to its EOS. 0 or -errno. */
int coroutine_fn ram_load_section(RamLoader *l, VmStream *f, GError **errp);
/* The stream was read through: clear the pages that it never mentioned. */
void ram_load_finish(RamLoader *l);

#endif
