/* SPDX-License-Identifier: MIT */
/*
 * A device's bytes, taken apart along its description: fields in order, then
 * subsections, each with a tag of its own; nested structures in place.
 *
 * One walk over the tree serves for checking and for telling. Zero-sized
 * fields cost no bytes, so visits are counted and bounded.
 */
#include "migration/stream-int.h"

typedef struct Fields {
    StreamWalk *w;
    const uint8_t *data;            /* of the device */
    uint64_t offset;                /* of data in the stream */
    uint64_t at;                    /* how far into data */
    bool emit;
} Fields;

static int walk_vmsd(Fields *f, const StreamVmsd *vmsd);

int stream_walk_value(StreamWalk *w, const StreamValue *value)
{
    return w->ops->value ? w->ops->value(w->opaque, value) : 0;
}

static int tell(Fields *f, const StreamValue *value)
{
    return f->emit ? stream_walk_value(f->w, value) : 0;
}

static int walk_leaf(Fields *f, const StreamDescField *field)
{
    StreamValue value = {
        .kind = STREAM_VALUE,
        .name = field->name,
        .type = field->type,
        .is_array = field->is_array && !field->nested,
        .count = field->is_array ? field->count : 1,
        .size = field->size,
        .index = field->index,
        .offset = f->offset + f->at,
        .data = f->data + f->at,
    };

    if (field->size == 0) {
        value.count = 1;
    }
    f->at += value.count * value.size;
    return tell(f, &value);
}

static int walk_element(Fields *f, const StreamDescField *field, int64_t index)
{
    StreamValue value = {
        .kind = STREAM_STRUCT_BEGIN,
        .name = field->name,
        .type = field->type,
        .count = 1,
        .size = field->size,
        .index = index,
        .offset = f->offset + f->at,
    };
    int ret;

    ret = tell(f, &value);
    if (ret == 0) {
        ret = walk_vmsd(f, field->nested);
    }
    if (ret == 0) {
        value.kind = STREAM_STRUCT_END;
        ret = tell(f, &value);
    }
    return ret;
}

static int walk_field(Fields *f, const StreamDescField *field)
{
    uint64_t i, count = field->size > 0 ? field->count : 1;
    int ret = 0;

    if (!field->nested || field->repeated) {
        return walk_leaf(f, field);
    }
    for (i = 0; ret == 0 && i < count; i++) {
        ret = walk_element(f, field,
                           field->is_array ? (int64_t)i : field->index);
    }
    return ret;
}

/* The tag: 0x05, u8 length, name, be32 version. */
static bool subsection_tag_fits(const uint8_t *p, const StreamVmsd *vmsd)
{
    size_t len = strlen(vmsd->name);

    return len <= UINT8_MAX && p[0] == 0x05 && p[1] == len &&
           memcmp(p + 2, vmsd->name, len) == 0 &&
           be32_get(p + 2 + len) == vmsd->version;
}

static int walk_subsection(Fields *f, const StreamVmsd *vmsd)
{
    StreamValue value = {
        .kind = STREAM_SUBSECTION_BEGIN,
        .name = vmsd->name,
        .type = "subsection",
        .count = 1,
        .index = -1,
        .version = vmsd->version,
        .offset = f->offset + f->at,
    };
    int ret;

    if (!subsection_tag_fits(f->data + f->at, vmsd)) {
        return -EINVAL;
    }
    f->at += 6 + strlen(vmsd->name);
    ret = tell(f, &value);
    if (ret == 0) {
        ret = walk_vmsd(f, vmsd);
    }
    if (ret == 0) {
        value.kind = STREAM_SUBSECTION_END;
        ret = tell(f, &value);
    }
    return ret;
}

static int walk_vmsd(Fields *f, const StreamVmsd *vmsd)
{
    unsigned i;
    int ret = 0;

    for (i = 0; ret == 0 && i < vmsd->fields->len; i++) {
        if (++f->w->visits > STREAM_MAX_VALUES) {
            return -E2BIG;
        }
        ret = walk_field(f, g_ptr_array_index(vmsd->fields, i));
    }
    for (i = 0; ret == 0 && i < vmsd->subsections->len; i++) {
        if (++f->w->visits > STREAM_MAX_VALUES) {
            return -E2BIG;
        }
        ret = walk_subsection(f, g_ptr_array_index(vmsd->subsections, i));
    }
    return ret;
}

int stream_fields_check(StreamWalk *w, const StreamVmsd *vmsd,
                        const uint8_t *data)
{
    Fields f = { .w = w, .data = data };

    return walk_vmsd(&f, vmsd);
}

int stream_fields_emit(StreamWalk *w, const StreamVmsd *vmsd,
                       const uint8_t *data, uint64_t offset)
{
    Fields f = { .w = w, .data = data, .offset = offset, .emit = true };

    return walk_vmsd(&f, vmsd);
}

/* --- Values --- */

char stream_value_class(const char *type, uint64_t size)
{
    if (size != 1 && size != 2 && size != 4 && size != 8) {
        return 'x';
    }
    if (g_str_has_suffix(type, " le")) {
        return g_str_has_prefix(type, "int") ? 'i' : 'u';
    }
    if (g_str_has_prefix(type, "uint")) {
        return 'u';
    }
    if (g_str_has_prefix(type, "int")) {
        return 'i';
    }
    if (g_str_equal(type, "bool") && size == 1) {
        return 'b';
    }
    return g_str_equal(type, "timer") && size == 8 ? 't' : 'x';
}

uint64_t stream_value_u64(const StreamValue *value, uint64_t index)
{
    const uint8_t *p = value->data + index * value->size;

    switch (value->size) {
    case 1:
        return *p;
    case 2:
        return be16_get(p);
    case 4:
        return be32_get(p);
    default:
        return be64_get(p);
    }
}

int64_t stream_value_i64(const StreamValue *value, uint64_t index)
{
    unsigned shift = 64 - 8 * (unsigned)value->size;

    return (int64_t)(stream_value_u64(value, index) << shift) >> shift;
}
