/* SPDX-License-Identifier: MIT */
/*
 * What a sector of a guest disk may hold after a power cut: a set of
 * generations, oldest first. Each write of a sector has a generation, and its
 * bytes follow from that and the sector number; 0 is zeroes.
 *
 *   write begins -> sector_set_begin: old or new
 *   write ended  -> sector_set_end:   still old or new, but it can be flushed
 *   flush ended  -> sector_set_flush: nothing older than the youngest write
 *                                     that had ended when the flush began
 */
#ifndef FIRN_TESTS_SUPPORT_SECTOR_SET_H
#define FIRN_TESTS_SUPPORT_SECTOR_SET_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR_BYTES    512
#define SECTOR_SET_GENS 64

typedef struct SectorSet {
    unsigned nb;
    struct {
        uint32_t gen;
        uint32_t ended;     /* when, 0: not (yet) */
    } g[SECTOR_SET_GENS];
} SectorSet;

/* The bytes of sector @lba in generation @gen. */
void sector_fill(uint8_t *p, uint64_t lba, uint32_t gen);
bool sector_is(const uint8_t *p, uint64_t lba, uint32_t gen);

/* Exactly @gen, durable. */
void sector_set_only(SectorSet *s, uint32_t gen);
void sector_set_begin(SectorSet *s, uint32_t gen);
/* The last write of @gen ended well at time @now > 0. */
void sector_set_end(SectorSet *s, uint32_t gen, uint32_t now);
/* A flush that began at @began ended well. UINT32_MAX: all is durable. */
void sector_set_flush(SectorSet *s, uint32_t began);
/* May the sector hold @p? */
bool sector_set_has(const SectorSet *s, const uint8_t *p, uint64_t lba);
/* The sector holds @p: from now on that, durable. False: it may not. */
bool sector_set_resolve(SectorSet *s, const uint8_t *p, uint64_t lba);

#endif
