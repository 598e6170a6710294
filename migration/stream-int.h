/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the stream walker share: the cursor over the source, the
 * description tree and the state of a walk. Private to migration/stream-*.c.
 */
#ifndef FIRN_MIGRATION_STREAM_INT_H
#define FIRN_MIGRATION_STREAM_INT_H

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "migration/stream-walk.h"
#include "util/be.h"
#include "util/error.h"

#define STREAM_MAX_VALUES   (1U << 22) /* visits of fields in one walk */
#define STREAM_MAX_SECTIONS (1U << 20)
#define STREAM_MAX_BLOCKS   4096
#define STREAM_MAX_DEPTH    24         /* nested structs and subsections */

/* stream-cursor.c: ascending reads with contiguous results. */
typedef struct StreamCursor {
    const StreamSource *source;
    uint64_t pos;                   /* next byte to take */
    const uint8_t *window;          /* bytes at pos, from the last peek */
    size_t window_bytes;
    uint8_t *bounce;                /* for what spans windows */
    size_t bounce_bytes;
} StreamCursor;

void stream_cursor_init(StreamCursor *c, const StreamSource *source);
void stream_cursor_cleanup(StreamCursor *c);

/* Continue at @pos. */
void stream_cursor_seek(StreamCursor *c, uint64_t pos);

/* Give back the one byte that the last take of one byte took. */
static inline void stream_cursor_unget(StreamCursor *c)
{
    c->window--;
    c->window_bytes++;
    c->pos--;
}

static inline uint64_t stream_cursor_left(const StreamCursor *c)
{
    return c->source->size - c->pos;
}

/*
 * Take @bytes (at most STREAM_DEVICE_MAX plus a little) as one piece, valid
 * until the next call. Returns 0, -ENODATA when the stream ends before (and
 * takes nothing), -ENOMEM, or the source's error.
 */
int coroutine_fn stream_cursor_take(StreamCursor *c, size_t bytes,
                                    const uint8_t **ret);

/* stream-desc.c: the description as a tree. */
typedef struct StreamVmsd {
    char *name;
    uint32_t version;
    GPtrArray *fields;              /* StreamDescField */
    GPtrArray *subsections;         /* StreamVmsd */
} StreamVmsd;

typedef struct StreamDescField {
    char *name;
    char *type;
    uint64_t size;                  /* one element */
    bool is_array;
    uint64_t count;                 /* array_len, or 1 */
    int64_t index;                  /* -1: none */
    StreamVmsd *nested;             /* NULL: a leaf */
    bool repeated;                  /* nested bytes do not fill size: opaque */
} StreamDescField;

typedef struct StreamDesc {
    uint32_t page_size;
    StreamVmsd *configuration;      /* NULL when not described */
    GHashTable *devices;            /* "INSTANCE/NAME" -> GQueue of
                                       StreamVmsd, in stream order */
} StreamDesc;

/*
 * Parse @bytes of JSON at @text. Returns 0 or -EINVAL; the caller frees *@ret
 * with stream_desc_free(), which accepts NULL.
 */
int stream_desc_parse(const char *text, size_t bytes, StreamDesc **ret,
                      GError **errp);
void stream_desc_free(StreamDesc *desc);

/*
 * Take the device's description out of @desc, or NULL: there is none, or all
 * were taken. The caller frees it with stream_vmsd_free().
 */
StreamVmsd *stream_desc_take(StreamDesc *desc, const char *name,
                             uint32_t instance_id);
void stream_vmsd_free(StreamVmsd *vmsd);

/* Bytes of fields and subsections in the stream; UINT64_MAX: out of bounds. */
uint64_t stream_vmsd_bytes(const StreamVmsd *vmsd);

/* State of one walk. */
typedef struct StreamIterable {
    uint32_t id;
    char *idstr;
    uint32_t instance_id;
    uint32_t version;
    bool ended;
} StreamIterable;

typedef struct StreamWalk {
    StreamCursor cursor;
    const StreamWalkOps *ops;
    void *opaque;
    StreamWalkResult *result;
    StreamDesc *desc;               /* NULL: none or unusable */
    uint64_t desc_offset;           /* of its 0x06; 0: none */
    uint64_t desc_bytes;            /* of the JSON text */
    GHashTable *iterables;          /* id -> StreamIterable */
    GPtrArray *blocks;              /* StreamRamBlock */
    GHashTable *block_names;        /* idstr -> StreamRamBlock */
    StreamRamBlock *last_block;     /* for CONTINUE */
    StreamSection section;          /* the one being parsed */
    bool ignore_shared;             /* capability: block list has addresses */
    unsigned visits;                /* of fields, STREAM_MAX_VALUES at most */
    unsigned misfits;               /* devices the description got wrong */
    uint64_t progress_pos;
} StreamWalk;

/*
 * Set @errp to a sentence about the section and offset at hand; returns @err.
 * -ENODATA, as the cursor has it, becomes -EINVAL "stream ends".
 */
int stream_walk_error(StreamWalk *w, GError **errp, int err, const char *fmt,
                      ...) G_GNUC_PRINTF(4, 5);

/* stream_cursor_take() with a message that names @what is missing. */
int coroutine_fn stream_walk_take(StreamWalk *w, size_t bytes,
                                  const uint8_t **ret, const char *what,
                                  GError **errp);

/* A u8-counted name of printable characters: *@ret has to be freed. */
int coroutine_fn stream_walk_name(StreamWalk *w, char **ret, const char *what,
                                  GError **errp);

/* stream-fields.c */

/*
 * Check that @data, of stream_vmsd_bytes(@vmsd) bytes, has the tags of the
 * described subsections in the right places. 0; -EINVAL when not; -E2BIG when
 * the walk has seen more fields than it may.
 */
int stream_fields_check(StreamWalk *w, const StreamVmsd *vmsd,
                        const uint8_t *data);

/*
 * Send the values of @data, which passed the check and is at @offset in the
 * stream. Returns 0, -E2BIG as above, or what the callback returned.
 */
int stream_fields_emit(StreamWalk *w, const StreamVmsd *vmsd,
                       const uint8_t *data, uint64_t offset);

/* Send one value. Returns 0 or what the callback returned. */
int stream_walk_value(StreamWalk *w, const StreamValue *value);

/* stream-ram.c: the body of a START, PART or END section of "ram". */
int coroutine_fn stream_ram_section(StreamWalk *w, GError **errp);
void stream_ram_block_free(gpointer block);

/* stream-config.c: the configuration section after its type byte. */
int coroutine_fn stream_config_section(StreamWalk *w, GError **errp);

#endif
