/* SPDX-License-Identifier: MIT */
/*
 * Reading a migration stream of any QEMU-family VMM without being that VMM:
 * for firn-vmstate, which shows, checks and unpacks what is in a snapshot.
 *
 * The bytes are those of VMSTATE.md. A device's state carries neither length
 * nor tags, so the JSON description that closes the stream is looked for
 * first, from the end; it gives the size, name and type of every field. Where
 * it is missing or does not fit, the section's footer is searched for, and the
 * section says that its size was guessed.
 *
 * Every byte is hostile: lengths are checked before they are used, nesting and
 * counts are bounded, and memory is at most STREAM_DEVICE_MAX for one section
 * plus what STREAM_JSON_MAX of description needs.
 */
#ifndef FIRN_MIGRATION_STREAM_WALK_H
#define FIRN_MIGRATION_STREAM_WALK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/compiler.h"

#define STREAM_DEVICE_MAX (256ULL << 20) /* bytes of one device section */
#define STREAM_JSON_MAX   (64ULL << 20)  /* bytes of the description */

/* Where the bytes come from. */
typedef struct StreamSource {
    /*
     * Point *@ret at *@ret_bytes (at least 1) bytes that start at @pos, which
     * is below @size; they stay valid until the next call of either function.
     * Called for ascending positions that touch each other, except after a
     * size had to be guessed. Returns 0 or -errno. May yield.
     */
    int coroutine_fn (*peek)(void *opaque, uint64_t pos, const uint8_t **ret,
                             size_t *ret_bytes);
    /* Copy @bytes from @pos, anywhere below @size. 0 or -errno; may yield. */
    int coroutine_fn (*read)(void *opaque, uint64_t pos, void *buf,
                             size_t bytes);
    void *opaque;
    uint64_t size;                  /* of the stream, in bytes */
} StreamSource;

/* The section's first byte in the stream. */
typedef enum StreamSectionType {
    STREAM_START = 1,
    STREAM_PART = 2,
    STREAM_END = 3,
    STREAM_FULL = 4,
    STREAM_DESCRIPTION = 6,
    STREAM_CONFIGURATION = 7,
    STREAM_COMMAND = 8,
} StreamSectionType;

typedef struct StreamSection {
    StreamSectionType type;
    uint32_t id;                    /* START, PART, END, FULL */
    const char *idstr;              /* also of PART and END; never NULL */
    uint32_t instance_id;
    uint32_t version;
    uint64_t offset;                /* of the type byte */
    uint64_t bytes;                 /* with header and footer; in section_end */
    uint64_t data_bytes;            /* without them; in section_end */
    bool described;                 /* fields come from the description */
    bool guessed;                   /* size found by searching the footer */
} StreamSection;

typedef struct StreamRamBlock {
    char *idstr;
    uint64_t bytes;                 /* used length */
    unsigned index;                 /* order in the stream, from 0 */
} StreamRamBlock;

typedef enum StreamValueKind {
    STREAM_VALUE,                   /* one field: data is set */
    STREAM_STRUCT_BEGIN,            /* a nested description opens */
    STREAM_STRUCT_END,
    STREAM_SUBSECTION_BEGIN,        /* name and version are set */
    STREAM_SUBSECTION_END,
} StreamValueKind;

/* A field with its bytes, as they are in the stream. */
typedef struct StreamValue {
    StreamValueKind kind;
    const char *name;
    const char *type;               /* VMState type: "uint32", "buffer", ... */
    bool is_array;                  /* count elements of size bytes each */
    uint64_t count;                 /* 1 when it is no array */
    uint64_t size;                  /* bytes of one element */
    int64_t index;                  /* -1, or which element of an array */
    uint32_t version;               /* of a subsection */
    uint64_t offset;                /* in the stream */
    const uint8_t *data;            /* count * size bytes; STREAM_VALUE only */
} StreamValue;

/*
 * What the walk tells as it goes; any may be NULL. A non-zero return (a
 * negative errno) ends the walk with it. They run in the walk's coroutine, on
 * a small stack (keep large buffers off it), and pointers are valid for the
 * length of the call.
 */
typedef struct StreamWalkOps {
    int (*section_begin)(void *opaque, const StreamSection *section);
    int (*section_end)(void *opaque, const StreamSection *section);
    int (*value)(void *opaque, const StreamValue *value);
    /* All blocks come before the first page. @block lives until the end. */
    int (*ram_block)(void *opaque, const StreamRamBlock *block);
    /* @data is NULL for a page whose bytes all are @fill. */
    int (*ram_page)(void *opaque, const StreamRamBlock *block, uint64_t addr,
                    const uint8_t *data, uint8_t fill, uint32_t bytes);
    /* Something a person should know that does not end the walk. */
    void (*note)(void *opaque, const char *text);
    /* The walk is at @pos; called about once per window of the source. */
    int (*progress)(void *opaque, uint64_t pos);
} StreamWalkOps;

typedef struct StreamWalkResult {
    uint32_t page_size;             /* of RAM records */
    uint64_t ram_bytes;             /* sum of the RAM blocks */
    unsigned ram_blocks;
    uint64_t pages;                 /* page records, with data */
    uint64_t fill_pages;            /* page records of one repeated byte */
    unsigned sections;              /* of any type */
    unsigned devices;               /* FULL sections */
    unsigned guessed;               /* sections whose size was guessed */
    bool has_description;
    uint64_t end;                   /* first byte after what was parsed */
    uint64_t trailing_bytes;        /* from there to the source's size */
} StreamWalkResult;

/*
 * Parse the whole stream of @source and tell @ops. @ret is filled as far as
 * the walk came, on failure too.
 *
 * Returns 0; -EINVAL for a stream that is malformed, truncated or beyond the
 * bounds above; -ENOTSUP for a feature that no snapshot has (compressed pages,
 * XBZRLE, unknown commands); an error of the source or of a callback. The
 * message names section, device and offset. May yield.
 */
int coroutine_fn stream_walk(const StreamSource *source,
                             const StreamWalkOps *ops, void *opaque,
                             StreamWalkResult *ret, GError **errp);

/*
 * A source over @bytes of memory at @data, which must outlive it. Its
 * functions never yield, so stream_walk() on it needs no coroutine.
 */
typedef struct StreamMemory {
    const uint8_t *data;
    size_t bytes;
    size_t window;                  /* 0, or the most one peek returns */
} StreamMemory;
StreamSource stream_source_memory(StreamMemory *memory);

/* "START", "FULL", ...; "?" for no section type. */
const char *stream_section_type_name(StreamSectionType type);

/*
 * The numeric class of a VMState type, from its name: 'u' unsigned, 'i'
 * signed, 'b' bool, 't' timer (nanoseconds, -1 is off), 'x' raw bytes.
 * @size: bytes of the element; sizes other than 1, 2, 4, 8 are always 'x'.
 */
char stream_value_class(const char *type, uint64_t size);

/* Element @index of @value as a big-endian integer; its class is not 'x'. */
uint64_t stream_value_u64(const StreamValue *value, uint64_t index);

/* The same, sign-extended from its size. */
int64_t stream_value_i64(const StreamValue *value, uint64_t index);

#endif
