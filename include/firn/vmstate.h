/* SPDX-License-Identifier: MIT */
/*
 * Description of a device's state: declarations of data only.
 *
 * A device declares one constant VMStateDescription. The table drives saving,
 * loading and the JSON description at the end of a stream, and with it what
 * external tools can show.
 *
 *     typedef struct Timer { uint32_t period; int64_t deadline; } Timer;
 *
 *     static const VMStateDescription vmstate_timer = {
 *         .name = "timer",
 *         .version_id = 2,
 *         .minimum_version_id = 1,
 *         .fields = (const VMStateField[]) {
 *             VMSTATE_UINT32(period, Timer),
 *             VMSTATE_TIMER_V(deadline, Timer, 2),
 *             VMSTATE_END_OF_LIST()
 *         },
 *     };
 *
 * Rules. The order and the kinds of the fields are the stream's format: a
 * field is added at the end, with a new version_id, or better in a
 * subsection. Old versions stay loadable from minimum_version_id on. The
 * table and everything it points to must outlive the registration.
 *
 * Loading runs over a device's bytes twice: first to check them, storing
 * nothing, then to store them. Therefore @field_exists must depend only on the
 * version and on what is fixed when the device is made, never on fields that
 * are being loaded; the element count of a variable array may come from a
 * field that is loaded earlier in the same structure.
 */
#ifndef FIRN_VMSTATE_H
#define FIRN_VMSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VMStateDescription VMStateDescription;

/* What one element of a field is, in memory and (in brackets) in the stream. */
typedef enum VMStateKind {
    VMS_END,     /* end of the list of fields */
    VMS_INT8,    /* int8_t [1 byte] */
    VMS_INT16,   /* int16_t [be16] */
    VMS_INT32,   /* int32_t [be32] */
    VMS_INT64,   /* int64_t [be64] */
    VMS_UINT8,   /* uint8_t [1 byte] */
    VMS_UINT16,  /* uint16_t [be16] */
    VMS_UINT32,  /* uint32_t [be32] */
    VMS_UINT64,  /* uint64_t [be64] */
    VMS_BOOL,    /* bool [1 byte, 0 or 1; anything else is refused] */
    VMS_TIMER,   /* int64_t, deadline in ns of the guest's clock, -1: off
                    [be64] */
    VMS_BUFFER,  /* @size bytes [the same bytes] */
    VMS_UNUSED,  /* nothing [@size bytes: zero when saved, ignored on load] */
    VMS_STRUCT,  /* the structure that @vmsd describes [its fields in place] */
} VMStateKind;

/* VMStateField.flags */
enum {
    VMS_F_POINTER = 1,   /* the field is a pointer (never NULL) to the data;
                            with VMS_F_VARRAY or num > 1 to the first element */
    VMS_F_VARRAY = 2,    /* as many elements (VMS_BUFFER: bytes) as the field
                            at @count_offset says, at most @num */
    VMS_F_ARRAY = 4,     /* an array of exactly @num elements */
};

typedef struct VMStateField {
    const char *name;      /* for messages and the JSON description */
    VMStateKind kind;
    unsigned flags;        /* VMS_F_... */
    size_t offset;         /* of the field in the structure */
    size_t size;           /* bytes of one element in memory; VMS_UNUSED: in
                              the stream; VMS_BUFFER with VMS_F_VARRAY: 1 */
    uint32_t num;          /* elements; VMS_F_VARRAY: the most there may be */
    size_t count_offset;   /* VMS_F_VARRAY: where the count is ... */
    VMStateKind count_kind;/* ... and what: VMS_UINT8, _UINT16, _UINT32 or
                              _INT32 */
    int version_id;        /* in streams from this version on; 0: in all */
    const VMStateDescription *vmsd; /* VMS_STRUCT */
    /* NULL, or whether the field is in a stream of @version_id. */
    bool (*field_exists)(void *opaque, int version_id);
} VMStateField;

struct VMStateDescription {
    const char *name;        /* at most 255 bytes */
    int version_id;          /* what a save writes */
    int minimum_version_id;  /* the oldest that load understands */

    /*
     * Hooks; each may be NULL. @opaque is the structure that is described. All
     * but @needed return 0 or a negative errno, which fails the operation.
     * pre_load and post_load run only once the whole stream has been checked.
     * None of them may call the library.
     */
    int (*pre_save)(void *opaque);
    int (*post_save)(void *opaque);
    int (*pre_load)(void *opaque);
    int (*post_load)(void *opaque, int version_id);
    /* Subsections only: whether to save it now; NULL: always. */
    bool (*needed)(void *opaque);

    const VMStateField *fields; /* ends with VMSTATE_END_OF_LIST() */
    /*
     * NULL, or a list that ends with NULL. A subsection's name is its parent's
     * name, '/' and more; it describes the parent's structure.
     */
    const VMStateDescription *const *subsections;
};

/*
 * Field macros. @f: member name, @s: structure type, @v: first version that
 * has the field, @t: a field_exists function (NULL: always).
 *
 * The compiler complains when the member has another type than the macro says.
 */
#define VMS_CHECK_TYPE(type, expr) \
    (0 * sizeof((const type **)0 == (const __typeof__(expr) **)0))
#define VMS_TYPED(s, f, type) \
    (offsetof(s, f) + VMS_CHECK_TYPE(type, ((s *)0)->f))
#define VMS_TYPED_ARRAY(s, f, type) \
    (offsetof(s, f) + VMS_CHECK_TYPE(type, ((s *)0)->f[0]))
#define VMS_ARRAY_LEN(s, f) \
    (sizeof(((s *)0)->f) / sizeof(((s *)0)->f[0]))

#define VMSTATE_SINGLE_TEST(f, s, k, type, v, t)                        \
    { .name = #f, .kind = (k), .offset = VMS_TYPED(s, f, type),         \
      .size = sizeof(type), .num = 1, .version_id = (v),                \
      .field_exists = (t) }
#define VMSTATE_ARRAY_TEST(f, s, k, type, v, t)                         \
    { .name = #f, .kind = (k), .flags = VMS_F_ARRAY,                    \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = VMS_ARRAY_LEN(s, f), .version_id = (v),                    \
      .field_exists = (t) }
/* The count is member @c, of kind @ck; the array @f has room for all. */
#define VMSTATE_VARRAY(f, s, c, ck, k, type, v)                         \
    { .name = #f, .kind = (k), .flags = VMS_F_VARRAY,                   \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = VMS_ARRAY_LEN(s, f), .count_offset = offsetof(s, c),       \
      .count_kind = (ck), .version_id = (v) }
/* As VMSTATE_VARRAY, but @f points to room for @max elements. */
#define VMSTATE_VARRAY_POINTER(f, s, max, c, ck, k, type, v)            \
    { .name = #f, .kind = (k), .flags = VMS_F_VARRAY | VMS_F_POINTER,   \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = (max), .count_offset = offsetof(s, c),                     \
      .count_kind = (ck), .version_id = (v) }

#define VMSTATE_INT8_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_INT8, int8_t, v, NULL)
#define VMSTATE_INT16_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_INT16, int16_t, v, NULL)
#define VMSTATE_INT32_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_INT32, int32_t, v, NULL)
#define VMSTATE_INT64_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_INT64, int64_t, v, NULL)
#define VMSTATE_UINT8_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_UINT8, uint8_t, v, NULL)
#define VMSTATE_UINT16_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_UINT16, uint16_t, v, NULL)
#define VMSTATE_UINT32_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_UINT32, uint32_t, v, NULL)
#define VMSTATE_UINT64_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_UINT64, uint64_t, v, NULL)
#define VMSTATE_BOOL_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_BOOL, bool, v, NULL)
#define VMSTATE_TIMER_V(f, s, v) \
    VMSTATE_SINGLE_TEST(f, s, VMS_TIMER, int64_t, v, NULL)

#define VMSTATE_INT8(f, s)   VMSTATE_INT8_V(f, s, 0)
#define VMSTATE_INT16(f, s)  VMSTATE_INT16_V(f, s, 0)
#define VMSTATE_INT32(f, s)  VMSTATE_INT32_V(f, s, 0)
#define VMSTATE_INT64(f, s)  VMSTATE_INT64_V(f, s, 0)
#define VMSTATE_UINT8(f, s)  VMSTATE_UINT8_V(f, s, 0)
#define VMSTATE_UINT16(f, s) VMSTATE_UINT16_V(f, s, 0)
#define VMSTATE_UINT32(f, s) VMSTATE_UINT32_V(f, s, 0)
#define VMSTATE_UINT64(f, s) VMSTATE_UINT64_V(f, s, 0)
#define VMSTATE_BOOL(f, s)   VMSTATE_BOOL_V(f, s, 0)
#define VMSTATE_TIMER(f, s)  VMSTATE_TIMER_V(f, s, 0)

#define VMSTATE_UINT8_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_UINT8, uint8_t, 0, NULL)
#define VMSTATE_UINT16_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_UINT16, uint16_t, 0, NULL)
#define VMSTATE_UINT32_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_UINT32, uint32_t, 0, NULL)
#define VMSTATE_UINT64_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_UINT64, uint64_t, 0, NULL)
#define VMSTATE_INT32_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_INT32, int32_t, 0, NULL)
#define VMSTATE_INT64_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_INT64, int64_t, 0, NULL)
#define VMSTATE_BOOL_ARRAY(f, s) \
    VMSTATE_ARRAY_TEST(f, s, VMS_BOOL, bool, 0, NULL)

/* An array of bytes as one piece. */
#define VMSTATE_BUFFER_V(f, s, v)                                       \
    { .name = #f, .kind = VMS_BUFFER, .offset = offsetof(s, f),         \
      .size = sizeof(((s *)0)->f), .num = 1, .version_id = (v) }
#define VMSTATE_BUFFER(f, s) VMSTATE_BUFFER_V(f, s, 0)
/* The first (uint32_t) @c bytes of the byte array @f. */
#define VMSTATE_VBUFFER_UINT32(f, s, c)                                 \
    { .name = #f, .kind = VMS_BUFFER, .flags = VMS_F_VARRAY,            \
      .offset = VMS_TYPED_ARRAY(s, f, uint8_t), .size = 1,              \
      .num = sizeof(((s *)0)->f),                                       \
      .count_offset = VMS_TYPED(s, c, uint32_t),                        \
      .count_kind = VMS_UINT32 }
/* As above, but @f points to room for @max bytes. */
#define VMSTATE_VBUFFER_POINTER_UINT32(f, s, max, c)                    \
    { .name = #f, .kind = VMS_BUFFER,                                   \
      .flags = VMS_F_VARRAY | VMS_F_POINTER,                            \
      .offset = VMS_TYPED_ARRAY(s, f, uint8_t), .size = 1,              \
      .num = (max), .count_offset = VMS_TYPED(s, c, uint32_t),          \
      .count_kind = VMS_UINT32 }

#define VMSTATE_UNUSED_V(bytes, v)                                      \
    { .name = "unused", .kind = VMS_UNUSED, .size = (bytes), .num = 1,  \
      .version_id = (v) }
#define VMSTATE_UNUSED(bytes) VMSTATE_UNUSED_V(bytes, 0)

/* A structure within the structure; @d: its VMStateDescription. */
#define VMSTATE_STRUCT_TEST(f, s, d, type, v, t)                        \
    { .name = #f, .kind = VMS_STRUCT, .offset = VMS_TYPED(s, f, type),         \
      .size = sizeof(type), .num = 1, .version_id = (v), .vmsd = &(d),  \
      .field_exists = (t) }
#define VMSTATE_STRUCT_V(f, s, d, type, v) \
    VMSTATE_STRUCT_TEST(f, s, d, type, v, NULL)
#define VMSTATE_STRUCT(f, s, d, type) VMSTATE_STRUCT_V(f, s, d, type, 0)
/* A structure that member @f points to. */
#define VMSTATE_STRUCT_POINTER(f, s, d, type)                           \
    { .name = #f, .kind = VMS_STRUCT, .flags = VMS_F_POINTER,           \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = 1, .vmsd = &(d) }
#define VMSTATE_STRUCT_ARRAY(f, s, d, type)                             \
    { .name = #f, .kind = VMS_STRUCT, .flags = VMS_F_ARRAY,             \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = VMS_ARRAY_LEN(s, f), .vmsd = &(d) }
#define VMSTATE_STRUCT_VARRAY_UINT32(f, s, c, d, type)                  \
    { .name = #f, .kind = VMS_STRUCT, .flags = VMS_F_VARRAY,            \
      .offset = VMS_TYPED_ARRAY(s, f, type), .size = sizeof(type),      \
      .num = VMS_ARRAY_LEN(s, f),                                       \
      .count_offset = VMS_TYPED(s, c, uint32_t),                        \
      .count_kind = VMS_UINT32, .vmsd = &(d) }

#define VMSTATE_END_OF_LIST() { .name = NULL, .kind = VMS_END }

#ifdef __cplusplus
}
#endif

#endif
