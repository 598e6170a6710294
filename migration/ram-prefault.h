/* SPDX-License-Identifier: MIT */
/*
 * Page faults ahead of a load, in another thread. Most of what loading into
 * fresh RAM costs is the kernel finding and clearing pages; where page after
 * page is stored, a worker has that done for what comes next.
 */
#ifndef FIRN_MIGRATION_RAM_PREFAULT_H
#define FIRN_MIGRATION_RAM_PREFAULT_H

#include <stdint.h>

#include "util/compiler.h"

typedef struct RamPrefault RamPrefault;

RamPrefault *ram_prefault_new(void);
/* Waits for the worker. NULL: nothing. */
void coroutine_fn ram_prefault_free(RamPrefault *p);

/*
 * Pages were stored without a gap up to @at; the block ends at @end. Starts
 * work on what follows if none is under way. Content never changes. Does not
 * wait.
 */
void coroutine_fn ram_prefault_ahead(RamPrefault *p, uint8_t *at,
                                     uint8_t *end);

#endif
