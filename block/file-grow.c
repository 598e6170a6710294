/* SPDX-License-Identifier: MIT */
/*
 * Growing ahead: O_DIRECT writes that extend a file one by one are slow, since
 * file systems take such a write alone, and again for each block they add to
 * the file. So space behind the end is allocated in large steps before it is
 * written, and what was not used is cut off when the file is closed.
 *
 *     length           end
 *   ...data|  allocated  |
 *          `--> writes    `--> moved by file_grow_for()
 *
 * Nobody above sees the allocated tail: the block layer keeps the length. A
 * process that is killed leaves the tail behind. Formats do not mind; raw
 * images have a fixed length and are never written behind it.
 */
#include "block/file_int.h"

#include <errno.h>

#include "util/aio.h"

#define GROW_MIN_STEP ((uint64_t)4 << 20)
#define GROW_MAX_STEP ((uint64_t)256 << 20)

void file_grow_init(FileGrow *g, bool enabled)
{
    co_mutex_init(&g->lock);
    g->end = 0;
    g->enabled = enabled;
}

/*
 * Allocate from @from to a step behind @end, for a write at @offset. Part of
 * it may be there after a failure, so it counts as allocated: trim cuts it
 * off.
 */
static void coroutine_fn grow(FileGrow *g, int fd, uint64_t from,
                              uint64_t offset, uint64_t end)
{
    uint64_t step = CLAMP(end, GROW_MIN_STEP, GROW_MAX_STEP);

    if (end > INT64_MAX - 2 * GROW_MAX_STEP) {
        return;
    }
    if (offset > from && offset - from > GROW_MAX_STEP) {
        from = offset; /* a gap stays one */
        step = GROW_MIN_STEP;
    }
    end = ROUND_UP(end + step, GROW_MIN_STEP);
    if (aio_co_fallocate(fd, 0, from, end - from) < 0) {
        g->enabled = false; /* no room for a step, or not supported */
    }
    g->end = end;
}

void coroutine_fn file_grow_for(FileGrow *g, int fd, uint64_t length,
                                uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;

    /* A write that begins inside only completes the last block. */
    if (!g->enabled || offset < length || end <= length || end <= g->end) {
        return;
    }
    co_mutex_lock(&g->lock);
    if (g->enabled && end > g->end) {
        grow(g, fd, MAX(length, g->end), offset, end);
    }
    co_mutex_unlock(&g->lock);
}

int coroutine_fn file_grow_trim(FileGrow *g, int fd, uint64_t length)
{
    uint64_t end = g->end;

    g->end = 0;
    return end > length ? aio_co_ftruncate(fd, length) : 0;
}
