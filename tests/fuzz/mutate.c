/* SPDX-License-Identifier: MIT */
/*
 * Where damage hurts most: the header, the tables it points to, and numbers
 * at the edges of their ranges. Knows as much of qcow2 as that takes.
 */
#include "mutate.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES 112

static const char *last_words;
static size_t last_words_length;
static struct sigaction before_us[NSIG];

uint64_t rng_next(Rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint64_t rng_below(Rng *rng, uint64_t limit)
{
    return rng_next(rng) % limit;
}

static uint64_t get_be(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static void put_be(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0; value >>= 8) {
        at[i] = (uint8_t)value;
    }
}

/* Where something else begins: loops, and one table on top of another. */
static uint64_t other_place(Rng *rng, const uint8_t *data, size_t bytes)
{
    static const unsigned pointers[] = { 8, 40, 48, 64 };
    unsigned bits = bytes >= HEADER_BYTES ? get_be(data + 20, 4) & 31 : 9;
    uint64_t flags = rng_below(rng, 2) ? (uint64_t)1 << 63 : 0;

    if (bytes < HEADER_BYTES || rng_below(rng, 2)) {
        return (rng_below(rng, bytes + 1) >> bits << bits) | flags;
    }
    return get_be(data + pointers[rng_below(rng, 4)], 8) | flags;
}

/* A number that code which forgot a check trips over. */
static uint64_t awkward_number(Rng *rng, uint64_t now, size_t bytes)
{
    switch (rng_below(rng, 12)) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return (uint64_t)1 << 63;
    case 3: return ((uint64_t)1 << 56) - 512;
    case 4: return now + 1;
    case 5: return now - 1;
    case 6: return now ^ ((uint64_t)1 << rng_below(rng, 64));
    case 7: return bytes;
    case 8: return rng_below(rng, bytes + 1) & ~(uint64_t)0xfff;
    case 9: return now | (uint64_t)3 << 62;
    case 10: return 0x7fffffff;
    default: return rng_next(rng);
    }
}

/* One piece of damage inside [@start, @start + @length). */
static void damage(uint8_t *data, size_t bytes, size_t start, size_t length,
                   Rng *rng)
{
    static const unsigned widths[] = { 1, 2, 4, 8 };
    unsigned width = widths[rng_below(rng, 4)];
    size_t at;

    if (start >= bytes || length < 8) {
        return;
    }
    length = length < bytes - start ? length : bytes - start;
    if (length < 8) {
        return;
    }
    at = start + rng_below(rng, length - width + 1);
    if (rng_below(rng, 2) == 0) {
        data[at] ^= (uint8_t)(1 << rng_below(rng, 8));
        return;
    }
    if (rng_below(rng, 4) != 0) {
        at -= (at - start) % width;
    }
    put_be(data + at, width == 8 && rng_below(rng, 3) == 0
                      ? other_place(rng, data, bytes)
                      : awkward_number(rng, get_be(data + at, width), bytes),
           width);
}

void mutate_truncate(uint8_t *data, size_t *bytes, Rng *rng)
{
    /* Half of the cuts fall into the first clusters. */
    size_t limit = rng_below(rng, 2) ? *bytes : 65536;

    *bytes = rng_below(rng, limit < *bytes ? limit : *bytes);
}

/* Where header extension @type has its data, or 0. */
static size_t extension_data(const uint8_t *data, size_t bytes, uint32_t type)
{
    size_t at = get_be(data + 100, 4);

    while (at < bytes && bytes - at >= 8) {
        uint64_t length = get_be(data + at + 4, 4);

        if (get_be(data + at, 4) == type) {
            return at + 8;
        }
        if (get_be(data + at, 4) == 0 || length > bytes - at) {
            return 0;
        }
        at += 8 + ((length + 7) & ~(uint64_t)7);
    }
    return 0;
}

/* Start of the table that the header names; a bitmap directory is one too. */
static uint64_t pick_table(const uint8_t *data, size_t bytes, Rng *rng)
{
    static const unsigned pointers[] = { 40, 48, 64 };
    unsigned i = (unsigned)rng_below(rng, 4);
    size_t bitmaps = 0;

    if (i == 3) {
        i = 0;
        bitmaps = extension_data(data, bytes, 0x23852875);
    }
    if (bitmaps && bytes - bitmaps >= 24) {
        return get_be(data + bitmaps + 16, 8);
    }
    return get_be(data + pointers[i], 8);
}

/* A range of metadata, chosen by following the header's pointers. */
static void pick_metadata(const uint8_t *data, size_t bytes, Rng *rng,
                          size_t *ret_start, size_t *ret_length)
{
    unsigned cluster_bits = (unsigned)get_be(data + 20, 4) & 31;
    size_t cluster = (size_t)1 << cluster_bits;
    uint64_t start;

    *ret_start = 0;
    *ret_length = HEADER_BYTES;
    if (rng_below(rng, 4) == 0) {
        return;
    }
    start = pick_table(data, bytes, rng);
    *ret_length = 512;
    if (start < bytes && bytes - start > 40 && rng_below(rng, 2)) {
        /* Down one level: an L2 table, a refcount block. */
        size_t entry = start + 8 * rng_below(rng, 4);
        uint64_t below = entry + 8 <= bytes
                         ? get_be(data + entry, 8) & 0x00fffffffffffe00 : 0;

        if (below != 0 && below < bytes) {
            start = below;
            *ret_length = cluster;
        }
    }
    *ret_start = start < bytes ? (size_t)start : 0;
}

void mutate_image(uint8_t *data, size_t *bytes, Rng *rng)
{
    unsigned count = 1 + (unsigned)rng_below(rng, 8);

    for (unsigned i = 0; i < count && *bytes > HEADER_BYTES; i++) {
        size_t start = 0, length = *bytes;

        if (rng_below(rng, 8) != 0) {
            pick_metadata(data, *bytes, rng, &start, &length);
        }
        damage(data, *bytes, start, length, rng);
    }
    /* Mostly keep it a qcow2: a broken magic ends each test at once. */
    if (*bytes >= 4 && rng_below(rng, 32) != 0) {
        put_be(data, 0x514649fb, 4);
    }
}

void mutate_stream(uint8_t *data, size_t *bytes, Rng *rng)
{
    unsigned count = 1 + (unsigned)rng_below(rng, 4);

    for (unsigned i = 0; i < count; i++) {
        /* The envelope is at both ends, pages are in the middle. */
        size_t edge = *bytes < 2048 ? *bytes : 2048;
        size_t start = 0, length = edge;

        switch (rng_below(rng, 3)) {
        case 0:
            start = *bytes - edge;
            break;
        case 1:
            length = *bytes;
            break;
        default:
            break;
        }
        damage(data, *bytes, start, length, rng);
    }
    if (rng_below(rng, 4) == 0 && *bytes > 0) {
        *bytes = rng_below(rng, *bytes);
    }
}

/* vmstate bytes of the first snapshot of a qcow2 image; 0: none. */
static uint64_t first_vmstate_bytes(const uint8_t *image, size_t bytes)
{
    uint64_t at = get_be(image + 64, 8);

    if (get_be(image + 60, 4) == 0 || at > bytes || bytes - at < 48) {
        return 0;
    }
    return get_be(image + at + 36, 4) >= 8 ? get_be(image + at + 40, 8)
                                           : get_be(image + at + 32, 4);
}

bool mutate_find_stream(const uint8_t *image, size_t bytes, size_t *ret_start,
                        size_t *ret_bytes)
{
    static const uint8_t magic[] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };
    uint64_t length = first_vmstate_bytes(image, bytes);

    for (size_t at = 512; length > 0 && at + length <= bytes; at += 512) {
        if (memcmp(image + at, magic, sizeof(magic)) == 0) {
            *ret_start = at;
            *ret_bytes = length;
            return true;
        }
    }
    return false;
}

void mutate_stream_in_image(uint8_t *data, size_t *bytes, Rng *rng)
{
    size_t start, length;

    if (mutate_find_stream(data, *bytes, &start, &length)) {
        /* Its own length is in the snapshot table, so it is not cut here. */
        mutate_stream(data + start, &length, rng);
    }
}

/* Say the words, then let whoever handled the signal before us have it. */
static void on_fatal(int number)
{
    ssize_t ignored = write(STDERR_FILENO, last_words, last_words_length);

    (void)ignored;
    sigaction(number, &before_us[number], NULL);
    if (number == SIGABRT || number == SIGALRM) {
        raise(number);
    }
    /* Otherwise the instruction faults again, with the old handler. */
}

void mutate_set_last_words(const char *words, size_t length)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGFPE };
    const struct sigaction ours = { .sa_handler = on_fatal };
    struct sigaction now;

    last_words = words;
    last_words_length = length;
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        sigaction(fatal[i], NULL, &now);
        if (now.sa_handler != on_fatal) {
            before_us[fatal[i]] = now;
            sigaction(fatal[i], &ours, NULL);
        }
    }
}
