/* SPDX-License-Identifier: MIT */
/*
 * Bits in pages of 4 KiB, pages in blocks of 512, blocks in one array:
 *
 *   blocks[] --> block of 512 pointers --> page of 32768 bits
 *    NULL: 0      NULL: 0; ones_page: 1     1 <= count < all of them
 *
 * Each level is made when its first bit is set, and a page goes when its bits
 * have become alike. When memory runs out while a bit is set, everything is
 * given up for "all" (saturate()); the first clear tries to get out of that.
 *
 * In a page of its own, bits past the end of the row are 0. ones_page stands
 * for "every bit that exists".
 */
#include "util/sparse-bits.h"

#include <assert.h>
#include <string.h>

#include "util/compiler.h"

#define PAGE_SHIFT  15
#define PAGE_BITS   (1u << PAGE_SHIFT)
#define PAGE_WORDS  (PAGE_BITS / 64)
#define BLOCK_SHIFT 9
#define BLOCK_PAGES (1u << BLOCK_SHIFT)

typedef struct Page {
    uint32_t count;                 /* bits that are 1 */
    uint64_t words[PAGE_WORDS];     /* bit n is bit n % 64 of word n / 64 */
} Page;

struct SparseBits {
    uint64_t size;
    uint64_t count;
    bool all;           /* every bit is 1, blocks is NULL */
    uint64_t nb_blocks;
    Page ***blocks;     /* NULL: all bits are 0 (or 1, see all) */
};

static const Page zero_page;
static Page ones_page = {
    PAGE_BITS, { [0 ... PAGE_WORDS - 1] = UINT64_MAX }
}; /* never written */

static uint64_t blocks_for(uint64_t size)
{
    return DIV_ROUND_UP(size, 1ULL << (PAGE_SHIFT + BLOCK_SHIFT));
}

SparseBits *sparse_bits_new(uint64_t size)
{
    SparseBits *b = g_new0(SparseBits, 1);

    assert(size <= SPARSE_BITS_MAX);
    b->size = size;
    b->nb_blocks = blocks_for(size);
    return b;
}

/* ---- pages ---- */

static void page_free(Page *p)
{
    if (p != &ones_page) {
        g_free(p);
    }
}

static void block_free(Page **block)
{
    for (unsigned i = 0; block && i < BLOCK_PAGES; i++) {
        page_free(block[i]);
    }
    g_free(block);
}

static void blocks_free(SparseBits *b)
{
    for (uint64_t i = 0; b->blocks && i < b->nb_blocks; i++) {
        block_free(b->blocks[i]);
    }
    g_clear_pointer(&b->blocks, g_free);
}

void sparse_bits_free(SparseBits *b)
{
    if (b) {
        blocks_free(b);
        g_free(b);
    }
}

static uint64_t nb_pages(const SparseBits *b)
{
    return DIV_ROUND_UP(b->size, PAGE_BITS);
}

/* Bits that exist in page @i. */
static uint32_t page_size(const SparseBits *b, uint64_t i)
{
    return MIN(b->size - (i << PAGE_SHIFT), PAGE_BITS);
}

static const Page *page_view(const SparseBits *b, uint64_t i)
{
    Page **block = b->blocks ? b->blocks[i >> BLOCK_SHIFT] : NULL;
    const Page *p = block ? block[i & (BLOCK_PAGES - 1)] : NULL;

    return b->all ? &ones_page : p ? p : &zero_page;
}

static uint32_t page_count(const SparseBits *b, uint64_t i)
{
    const Page *p = page_view(b, i);

    return p == &ones_page ? page_size(b, i) : p->count;
}

/* Where the pointer to page @i is; NULL: no memory. */
static Page **page_slot(SparseBits *b, uint64_t i)
{
    uint64_t k = i >> BLOCK_SHIFT;

    if (!b->blocks) {
        b->blocks = g_try_new0(Page **, b->nb_blocks);
    }
    if (!b->blocks) {
        return NULL;
    }
    if (!b->blocks[k]) {
        b->blocks[k] = g_try_new0(Page *, BLOCK_PAGES);
    }
    return b->blocks[k] ? &b->blocks[k][i & (BLOCK_PAGES - 1)] : NULL;
}

static int fill_words(uint64_t *words, uint32_t lo, uint32_t hi, bool value)
{
    int delta = 0;

    while (lo < hi) {
        uint32_t n = MIN(64 - lo % 64, hi - lo);
        uint64_t mask = (n == 64 ? UINT64_MAX : (1ULL << n) - 1) << lo % 64;
        uint64_t *w = &words[lo / 64];

        delta -= __builtin_popcountll(*w);
        *w = value ? *w | mask : *w & ~mask;
        delta += __builtin_popcountll(*w);
        lo += n;
    }
    return delta;
}

/* Page @i as one that can be written; NULL: no memory. */
static Page *page_own(SparseBits *b, uint64_t i)
{
    Page **slot = page_slot(b, i);
    Page *p;

    if (!slot || (*slot && *slot != &ones_page)) {
        return slot ? *slot : NULL;
    }
    p = g_try_new0(Page, 1);
    if (p) {
        if (*slot) {
            p->count = fill_words(p->words, 0, page_size(b, i), true);
        }
        *slot = p;
    }
    return p;
}

/* The bits of page @i may have become alike. */
static void page_settle(SparseBits *b, uint64_t i)
{
    Page **slot = page_slot(b, i); /* exists: the page was written */

    if ((*slot)->count == 0) {
        page_free(*slot);
        *slot = NULL;
    } else if ((*slot)->count == page_size(b, i)) {
        page_free(*slot);
        *slot = &ones_page;
    }
}

/* Bits [@lo, @hi) of page @i. Returns false when there is no memory. */
static bool page_fill(SparseBits *b, uint64_t i, uint32_t lo, uint32_t hi,
                      bool value)
{
    uint32_t size = page_size(b, i), old = page_count(b, i);
    Page **slot;
    Page *p;
    int delta;

    if (old == (value ? size : 0)) {
        return true;
    }
    if (lo == 0 && hi == size) {
        slot = page_slot(b, i);
        if (!slot) {
            return false;
        }
        page_free(*slot);
        *slot = value ? &ones_page : NULL;
        b->count = b->count - old + (value ? size : 0);
        return true;
    }
    p = page_own(b, i);
    if (!p) {
        return false;
    }
    delta = fill_words(p->words, lo, hi, value);
    p->count += delta;
    b->count += delta;
    page_settle(b, i);
    return true;
}

/* ---- without memory ---- */

static void saturate(SparseBits *b)
{
    blocks_free(b);
    b->all = true;
    b->count = b->size;
}

/* Returns whether it worked. */
static bool unsaturate(SparseBits *b)
{
    if (!b->all) {
        return true;
    }
    b->all = false;
    for (uint64_t i = 0; i < nb_pages(b); i++) {
        Page **slot = page_slot(b, i);

        if (!slot) {
            saturate(b);
            return false;
        }
        *slot = &ones_page;
    }
    return true;
}

/* ---- ranges ---- */

static void fill(SparseBits *b, uint64_t first, uint64_t n, bool value)
{
    uint64_t end = first + n;

    assert(first <= b->size && n <= b->size - first);
    while (first < end) {
        uint64_t i = first >> PAGE_SHIFT;
        uint32_t lo = first % PAGE_BITS;
        uint32_t hi = MIN(PAGE_BITS, lo + (end - first));

        if (!page_fill(b, i, lo, hi, value) && value) {
            saturate(b);
            return;
        }
        first += hi - lo;
    }
}

void sparse_bits_set(SparseBits *b, uint64_t first, uint64_t n)
{
    if (!b->all) {
        fill(b, first, n, true);
    }
}

void sparse_bits_clear(SparseBits *b, uint64_t first, uint64_t n)
{
    if (n == b->size) {
        blocks_free(b);
        b->all = false;
        b->count = 0;
    } else if (n && b->count && unsaturate(b)) {
        fill(b, first, n, false);
    }
}

bool sparse_bits_test(const SparseBits *b, uint64_t index)
{
    const Page *p = page_view(b, index >> PAGE_SHIFT);
    uint32_t at = index % PAGE_BITS;

    assert(index < b->size);
    return p->words[at / 64] >> at % 64 & 1;
}

/* First bit in [@lo, @hi) of @p that is @value, or @hi. */
static uint32_t page_next(const Page *p, uint32_t lo, uint32_t hi, bool value)
{
    while (lo < hi) {
        uint64_t w = p->words[lo / 64] ^ (value ? 0 : UINT64_MAX);

        w >>= lo % 64;
        if (w) {
            return MIN(lo + __builtin_ctzll(w), hi);
        }
        lo = (lo / 64 + 1) * 64;
    }
    return hi;
}

uint64_t sparse_bits_next(const SparseBits *b, uint64_t from, uint64_t end,
                          bool value)
{
    assert(end <= b->size);
    while (from < end) {
        const Page *p = page_view(b, from >> PAGE_SHIFT);
        uint64_t base = ROUND_DOWN(from, (uint64_t)PAGE_BITS);
        uint32_t hi = MIN(PAGE_BITS, end - base);
        uint32_t at = hi;

        if (p != (value ? &zero_page : &ones_page)) {
            at = page_next(p, from - base, hi, value);
        }
        if (at < hi) {
            return base + at;
        }
        from = base + hi;
    }
    return end;
}

uint64_t sparse_bits_size(const SparseBits *b)
{
    return b->size;
}

uint64_t sparse_bits_count(const SparseBits *b)
{
    return b->count;
}

uint64_t sparse_bits_memory(const SparseBits *b)
{
    uint64_t bytes = sizeof(*b);

    for (uint64_t k = 0; b->blocks && k < b->nb_blocks; k++) {
        bytes += sizeof(b->blocks[k]);
        for (unsigned i = 0; b->blocks[k] && i < BLOCK_PAGES; i++) {
            const Page *p = b->blocks[k][i];

            bytes += sizeof(p) + (p && p != &ones_page ? sizeof(*p) : 0);
        }
    }
    return bytes;
}

/* ---- the whole row ---- */

/* Shrink or lengthen the array of blocks; bits past the new size are 0. */
static bool resize_blocks(SparseBits *b, uint64_t n)
{
    Page ***blocks;

    if (!b->blocks || n == b->nb_blocks) {
        b->nb_blocks = n;
        return true;
    }
    blocks = g_try_new0(Page **, n + 1);
    if (!blocks) {
        return false;
    }
    memcpy(blocks, b->blocks, MIN(n, b->nb_blocks) * sizeof(*blocks));
    for (uint64_t k = n; k < b->nb_blocks; k++) {
        block_free(b->blocks[k]);
    }
    g_free(b->blocks);
    b->blocks = blocks;
    b->nb_blocks = n;
    return true;
}

void sparse_bits_resize(SparseBits *b, uint64_t size)
{
    bool ok = true;

    assert(size <= SPARSE_BITS_MAX);
    if (size < b->size) {
        sparse_bits_clear(b, size, b->size - size);
        ok = sparse_bits_next(b, size, b->size, true) == b->size;
    } else if (size > b->size && b->size % PAGE_BITS && unsaturate(b)) {
        /* "Every bit that exists" is about to mean more. */
        uint64_t i = b->size >> PAGE_SHIFT;

        ok = page_view(b, i) != &ones_page || page_own(b, i);
    } else if (size > b->size) {
        ok = unsaturate(b);
    }
    if (ok && !b->all && resize_blocks(b, blocks_for(size))) {
        b->size = size;
        if (size % PAGE_BITS && page_count(b, size >> PAGE_SHIFT)) {
            page_settle(b, size >> PAGE_SHIFT);
        }
        return;
    }
    blocks_free(b);
    b->size = size;
    b->nb_blocks = blocks_for(size);
    saturate(b);
}

SparseBits *sparse_bits_copy(const SparseBits *b)
{
    g_autoptr(SparseBits) copy = sparse_bits_new(b->size);

    copy->all = b->all;
    copy->count = b->count;
    for (uint64_t i = 0; b->count && !b->all && i < nb_pages(b); i++) {
        const Page *p = page_view(b, i);
        Page **slot;

        if (p == &zero_page) {
            continue;
        }
        slot = page_slot(copy, i);
        if (!slot) {
            return NULL;
        }
        *slot = &ones_page;
        if (p != &ones_page) {
            *slot = g_try_new(Page, 1);
            if (!*slot) {
                return NULL;
            }
            **slot = *p;
        }
    }
    return g_steal_pointer(&copy);
}

/* ---- bytes ---- */

/* Word number @w of the row as it may be: bits past the end are 0. */
static uint64_t word_mask(const SparseBits *b, uint64_t w)
{
    uint64_t left = b->size > w * 64 ? b->size - w * 64 : 0;

    return left >= 64 ? UINT64_MAX : (1ULL << left) - 1;
}

static uint64_t word_get(const uint8_t *buf)
{
    uint64_t w;

    memcpy(&w, buf, sizeof(w));
    return GUINT64_FROM_LE(w);
}

/* @words words at @buf into page @i from word @at on; false: no memory. */
static bool page_or(SparseBits *b, uint64_t i, uint32_t at,
                    const uint8_t *buf, uint32_t words)
{
    uint64_t base = (i << PAGE_SHIFT) / 64 + at;
    Page *p = NULL;

    if (page_count(b, i) == page_size(b, i)) {
        return true;
    }
    for (uint32_t k = 0; k < words; k++) {
        uint64_t add = word_get(buf + k * 8) & word_mask(b, base + k);

        if (!add) {
            continue;
        }
        p = p ? p : page_own(b, i);
        if (!p) {
            return false;
        }
        add &= ~p->words[at + k];
        p->words[at + k] |= add;
        p->count += __builtin_popcountll(add);
        b->count += __builtin_popcountll(add);
    }
    if (p) {
        page_settle(b, i);
    }
    return true;
}

void sparse_bits_or_bytes(SparseBits *b, uint64_t first, const uint8_t *buf,
                          size_t bytes)
{
    assert(first % 64 == 0 && bytes % 8 == 0);
    while (bytes && first < b->size && !b->all) {
        uint32_t at = first % PAGE_BITS / 64;
        uint32_t words = MIN(PAGE_WORDS - at, bytes / 8);

        if (!page_or(b, first >> PAGE_SHIFT, at, buf, words)) {
            saturate(b);
        }
        first += words * 64ULL;
        buf += words * 8;
        bytes -= words * 8;
    }
}

void sparse_bits_get_bytes(const SparseBits *b, uint64_t first, uint8_t *buf,
                           size_t bytes)
{
    assert(first % 64 == 0 && bytes % 8 == 0);
    for (size_t k = 0; k < bytes / 8; k++) {
        uint64_t at = first + k * 64;
        uint64_t w = 0;

        if (at < b->size) {
            w = page_view(b, at >> PAGE_SHIFT)->words[at % PAGE_BITS / 64];
            w = GUINT64_TO_LE(w & word_mask(b, at / 64));
        }
        memcpy(buf + k * 8, &w, sizeof(w));
    }
}
