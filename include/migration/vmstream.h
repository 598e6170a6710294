/* SPDX-License-Identifier: MIT */
/*
 * VmStream: one direction of a migration stream as a run of big-endian values
 * with a known position.
 *
 * It works in memory that its back end hands out: room in the vmstate
 * pipeline's current chunk when saving, a chunk that was read ahead when
 * loading. So a page of RAM is copied once, and values cost a compare and a
 * store.
 *
 * Errors latch: after the first one writes do nothing, reads give zeroes, and
 * vmstream_error() says what it was. Check it where the result matters; a loop
 * over untrusted counts checks it each time.
 *
 * Functions without a mark do not yield. A stream belongs to one coroutine.
 */
#ifndef FIRN_MIGRATION_VMSTREAM_H
#define FIRN_MIGRATION_VMSTREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "block/vmstate.h"
#include "util/compiler.h"

typedef struct VmStream VmStream;

/* What a stream runs on. @pos is where the window starts. */
typedef struct VmStreamOps {
    /* Save: room for at least one byte at @pos. 0 or -errno. */
    int coroutine_fn (*reserve)(void *opaque, uint64_t pos, uint8_t **ret,
                                size_t *ret_bytes);
    /* Save: the first @bytes of that room are used. */
    void (*commit)(void *opaque, size_t bytes);
    /* Load: at least one byte from @pos on, valid until the next call. */
    int coroutine_fn (*peek)(void *opaque, uint64_t pos, const uint8_t **ret,
                             size_t *ret_bytes);
} VmStreamOps;

/* Members are private; the struct is here for the inline functions. */
struct VmStream {
    uint8_t *at;         /* next byte */
    uint8_t *end;        /* of the window */
    uint8_t *start;      /* of the window */
    uint64_t start_pos;  /* position of @start */
    uint64_t size;       /* load: where the stream ends */
    int err;             /* first error */
    uint64_t err_pos;    /* where it happened */
    bool saving;
    uint8_t no_window[1]; /* where @start points without a window */
    const VmStreamOps *ops;
    void *opaque;
};

/*
 * A stream over @ops. @size: load: its length in bytes. Free it with
 * vmstream_free(), which does not finalize what is below.
 */
VmStream *vmstream_new_save(const VmStreamOps *ops, void *opaque);
VmStream *vmstream_new_load(const VmStreamOps *ops, void *opaque,
                            uint64_t size);
/* Over the pipeline of @bs, which has been begun and is finalized by the
 * caller after vmstream_free(). */
VmStream *vmstream_new_save_bdrv(BlockDriverState *bs);
VmStream *vmstream_new_load_bdrv(BlockDriverState *bs, uint64_t size);
/* Append to @array; read from @bytes. Both stay the caller's. */
VmStream *vmstream_new_save_memory(GByteArray *array);
VmStream *vmstream_new_load_memory(const void *data, uint64_t size);
/* Commits what was written. NULL: nothing. */
void vmstream_free(VmStream *f);

/* 0 or the first error. */
static inline int vmstream_error(const VmStream *f)
{
    return f->err;
}

/* Latch @err (negative errno) if there is no error yet; returns the first. */
int vmstream_set_error(VmStream *f, int err);

/* Bytes from the start of the stream to the next byte. */
static inline uint64_t vmstream_pos(const VmStream *f)
{
    return f->start_pos + (uint64_t)(f->at - f->start);
}

/* Load: bytes that are left. */
static inline uint64_t vmstream_left(const VmStream *f)
{
    return f->size - vmstream_pos(f);
}

/* Load: go on at @pos, at most the size. */
void vmstream_seek(VmStream *f, uint64_t pos);

/* --- Saving --- */

/* Any length, across windows. */
void coroutine_fn vmstream_put_buffer(VmStream *f, const void *buf,
                                      size_t bytes);
void coroutine_fn vmstream_put_zeroes(VmStream *f, size_t bytes);

static inline void coroutine_fn vmstream_put_u8(VmStream *f, uint8_t v)
{
    if (G_LIKELY(f->at < f->end)) {
        *f->at++ = v;
    } else {
        vmstream_put_buffer(f, &v, 1);
    }
}

#define VMSTREAM_DEFINE_PUT(bits)                                          \
    static inline void coroutine_fn                                        \
    vmstream_put_be##bits(VmStream *f, uint##bits##_t v)                   \
    {                                                                      \
        v = GUINT##bits##_TO_BE(v);                                        \
        if (G_LIKELY((size_t)(f->end - f->at) >= sizeof(v))) {             \
            memcpy(f->at, &v, sizeof(v));                                  \
            f->at += sizeof(v);                                            \
        } else {                                                           \
            vmstream_put_buffer(f, &v, sizeof(v));                         \
        }                                                                  \
    }
VMSTREAM_DEFINE_PUT(16)
VMSTREAM_DEFINE_PUT(32)
VMSTREAM_DEFINE_PUT(64)

/* u8 length and the bytes of @s, which has at most 255. */
void coroutine_fn vmstream_put_counted(VmStream *f, const char *s);

/* --- Loading --- */

/* Fills @buf, with zeroes after an error. Past the end: -EIO. */
void coroutine_fn vmstream_get_buffer(VmStream *f, void *buf, size_t bytes);
void coroutine_fn vmstream_skip(VmStream *f, uint64_t bytes);

static inline uint8_t coroutine_fn vmstream_get_u8(VmStream *f)
{
    uint8_t v;

    if (G_LIKELY(f->at < f->end)) {
        return *f->at++;
    }
    vmstream_get_buffer(f, &v, 1);
    return v;
}

#define VMSTREAM_DEFINE_GET(bits)                                          \
    static inline uint##bits##_t coroutine_fn                              \
    vmstream_get_be##bits(VmStream *f)                                     \
    {                                                                      \
        uint##bits##_t v;                                                  \
                                                                           \
        if (G_LIKELY((size_t)(f->end - f->at) >= sizeof(v))) {             \
            memcpy(&v, f->at, sizeof(v));                                  \
            f->at += sizeof(v);                                            \
        } else {                                                           \
            vmstream_get_buffer(f, &v, sizeof(v));                         \
        }                                                                  \
        return GUINT##bits##_FROM_BE(v);                                   \
    }
VMSTREAM_DEFINE_GET(16)
VMSTREAM_DEFINE_GET(32)
VMSTREAM_DEFINE_GET(64)

/* u8 length and that many bytes, with a NUL added; @ret has 256 bytes. */
void coroutine_fn vmstream_get_counted(VmStream *f, char *ret);

/*
 * The next @bytes (at most what is left) without moving on. Returns how many
 * were copied: fewer only at the end or after an error.
 */
size_t coroutine_fn vmstream_peek(VmStream *f, void *buf, size_t bytes);

/*
 * The bytes of the window from the next one on, to be parsed in place;
 * *@ret_bytes is 0 only at the end or after an error. vmstream_advance() says
 * how many were used.
 */
const uint8_t *coroutine_fn vmstream_window(VmStream *f, size_t *ret_bytes);

static inline void vmstream_advance(VmStream *f, size_t bytes)
{
    f->at += bytes;
}

#endif
