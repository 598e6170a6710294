/* SPDX-License-Identifier: MIT */
/* Generations of sectors, see sector_set.h. */
#include "tests/support/sector_set.h"

#include <assert.h>
#include <string.h>

#define WORDS (SECTOR_BYTES / 8)

/* Every fourth generation cannot be compressed. */
static unsigned period(uint32_t gen)
{
    return gen % 4 ? 4 : WORDS;
}

static uint64_t word(uint64_t key, unsigned i)
{
    uint64_t v = (key + i) * 0x9e3779b97f4a7c15ull;

    return v ^ v >> 29;
}

void sector_fill(uint8_t *p, uint64_t lba, uint32_t gen)
{
    uint64_t key = ((uint64_t)gen << 32 | (uint32_t)lba) * WORDS;

    if (!gen) {
        memset(p, 0, SECTOR_BYTES);
        return;
    }
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t v = word(key, i % period(gen));

        memcpy(p + i * 8, &v, 8);
    }
}

bool sector_is(const uint8_t *p, uint64_t lba, uint32_t gen)
{
    uint8_t want[SECTOR_BYTES];
    uint64_t first = word(((uint64_t)gen << 32 | (uint32_t)lba) * WORDS, 0);

    if (gen && memcmp(p, &first, 8) != 0) {
        return false;
    }
    sector_fill(want, lba, gen);
    return !memcmp(p, want, SECTOR_BYTES);
}

void sector_set_only(SectorSet *s, uint32_t gen)
{
    s->nb = 1;
    s->g[0].gen = gen;
    s->g[0].ended = 1;
}

void sector_set_begin(SectorSet *s, uint32_t gen)
{
    assert(s->nb < SECTOR_SET_GENS);
    s->g[s->nb].gen = gen;
    s->g[s->nb++].ended = 0;
}

void sector_set_end(SectorSet *s, uint32_t gen, uint32_t now)
{
    for (unsigned i = s->nb; i-- > 0; ) {
        if (s->g[i].gen == gen && !s->g[i].ended) {
            s->g[i].ended = now;
            return;
        }
    }
}

void sector_set_flush(SectorSet *s, uint32_t began)
{
    unsigned sure = 0;

    for (unsigned i = 0; i < s->nb; i++) {
        if (s->g[i].ended && s->g[i].ended < began) {
            sure = i;
        }
    }
    s->nb -= sure;
    memmove(s->g, s->g + sure, s->nb * sizeof(s->g[0]));
}

/* Index of the youngest generation that @p is, or -1. */
static int find(const SectorSet *s, const uint8_t *p, uint64_t lba)
{
    int i = (int)s->nb - 1;

    while (i >= 0 && !sector_is(p, lba, s->g[i].gen)) {
        i--;
    }
    return i;
}

bool sector_set_has(const SectorSet *s, const uint8_t *p, uint64_t lba)
{
    return find(s, p, lba) >= 0;
}

bool sector_set_resolve(SectorSet *s, const uint8_t *p, uint64_t lba)
{
    int i = find(s, p, lba);

    if (i >= 0) {
        sector_set_only(s, s->g[i].gen);
    }
    return i >= 0;
}
