/* SPDX-License-Identifier: MIT */
/* Guest RAM. */
#ifndef VMM_RAM_H
#define VMM_RAM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Ram {
    uint8_t *host;          /* page-aligned, zero at first */
    uint64_t bytes;
    int memfd;              /* -1: anonymous private memory */
} Ram;

/*
 * Map @bytes of zeroed memory: a memfd, shared, as a machine whose devices
 * live in other processes needs it, or @anon private memory. Returns 0 or
 * -errno with @errp set.
 */
int ram_init(Ram *ram, uint64_t bytes, bool anon, GError **errp);

/* Unmap; a zeroed Ram is fine. */
void ram_cleanup(Ram *ram);

#endif
