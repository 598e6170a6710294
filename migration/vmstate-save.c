/* SPDX-License-Identifier: MIT */
/* A structure becomes bytes and a description of them. */
#include "vmstate-int.h"

#include <string.h>

typedef struct VmsSaver {
    VmStream *f;
    VmDesc *desc;   /* NULL: off, also for the later elements of an array */
    GError **errp;
} VmsSaver;

static int coroutine_fn vmstate_save_level(VmsSaver *s,
                                           const VMStateDescription *vmsd,
                                           void *opaque);

/* Load @v, of @bytes, as an unsigned number whatever its sign. */
static uint64_t vmstate_get_scalar(const uint8_t *data, size_t bytes)
{
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;

    switch (bytes) {
    case 1:
        return *data;
    case 2:
        memcpy(&u16, data, sizeof(u16));
        return u16;
    case 4:
        memcpy(&u32, data, sizeof(u32));
        return u32;
    default:
        memcpy(&u64, data, sizeof(u64));
        return u64;
    }
}

static void coroutine_fn vmstate_save_scalar(VmStream *f, const uint8_t *data,
                                             size_t bytes)
{
    uint64_t v = vmstate_get_scalar(data, bytes);

    switch (bytes) {
    case 1:
        vmstream_put_u8(f, (uint8_t)v);
        break;
    case 2:
        vmstream_put_be16(f, (uint16_t)v);
        break;
    case 4:
        vmstream_put_be32(f, (uint32_t)v);
        break;
    default:
        vmstream_put_be64(f, v);
        break;
    }
}

static int coroutine_fn vmstate_save_element(VmsSaver *s,
                                             const VMStateField *field,
                                             uint8_t *data, size_t bytes)
{
    switch (field->kind) {
    case VMS_STRUCT:
        return vmstate_save_level(s, field->vmsd, data);
    case VMS_BUFFER:
        vmstream_put_buffer(s->f, data, bytes);
        break;
    case VMS_UNUSED:
        vmstream_put_zeroes(s->f, bytes);
        break;
    case VMS_BOOL:
        vmstream_put_u8(s->f, *(bool *)data);
        break;
    default:
        vmstate_save_scalar(s->f, data, vmstate_kind_size(field->kind));
        break;
    }
    return vmstream_error(s->f);
}

/*
 * Whether one element's description stands for all. Not if elements can
 * differ: fields that depend on the state, subsections, arrays within whose
 * length does.
 */
static bool vmstate_is_uniform(const VMStateField *field)
{
    if (field->field_exists) {
        return false;
    }
    if (field->kind != VMS_STRUCT) {
        return true;
    }
    if (field->vmsd->subsections) {
        return false;
    }
    for (const VMStateField *f = field->vmsd->fields; f->kind != VMS_END;
         f++) {
        if ((f->flags & VMS_F_VARRAY) || !vmstate_is_uniform(f)) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn vmstate_save_elements(VmsSaver *s,
                                              const VMStateField *field,
                                              void *opaque, uint32_t count,
                                              size_t bytes)
{
    const char *type = vmstate_kind_name(field->kind);
    bool uniform = vmstate_is_uniform(field);
    VmDesc *desc = s->desc;
    uint8_t *data = field->kind == VMS_UNUSED
                    ? NULL : vmstate_field_data(field, opaque);
    int ret = 0;

    for (uint32_t i = 0; i < count && ret == 0; i++) {
        uint64_t start = vmstream_pos(s->f);

        vmdesc_begin_field(s->desc, field->name, type, uniform ? count : 0,
                           !uniform && count > 1 ? (int64_t)i : -1);
        ret = vmstate_save_element(s, field,
                                   data ? data + i * field->size : NULL,
                                   bytes);
        vmdesc_end_field(s->desc, type, vmstream_pos(s->f) - start);
        if (uniform) {
            s->desc = NULL;
        }
    }
    s->desc = desc;
    return ret;
}

static int coroutine_fn vmstate_save_field(VmsSaver *s,
                                           const VMStateDescription *vmsd,
                                           const VMStateField *field,
                                           void *opaque)
{
    uint64_t count = field->num;
    size_t bytes = field->size;

    if (field->flags & VMS_F_VARRAY) {
        count = vmstate_read_count(field, opaque);
        if (count > field->num) {
            return set_error(s->errp, -EINVAL, "field '%s' of '%s' has %"
                             PRIu64 " elements, more than %" PRIu32,
                             field->name, vmsd->name, count, field->num);
        }
        if (field->kind == VMS_BUFFER) {
            bytes = count;
            count = 1;
        }
    }
    return vmstate_save_elements(s, field, opaque, (uint32_t)count, bytes);
}

static int coroutine_fn vmstate_save_subsections(
    VmsSaver *s, const VMStateDescription *vmsd, void *opaque)
{
    const VMStateDescription *const *sub = vmsd->subsections;
    int ret = 0;

    for (; sub && *sub && ret == 0; sub++) {
        if ((*sub)->needed && !(*sub)->needed(opaque)) {
            continue;
        }
        vmstream_put_u8(s->f, VMSTATE_SUBSECTION);
        vmstream_put_counted(s->f, (*sub)->name);
        vmstream_put_be32(s->f, (uint32_t)(*sub)->version_id);
        vmdesc_begin_subsection(s->desc);
        ret = vmstate_save_level(s, *sub, opaque);
        vmdesc_end_subsection(s->desc);
    }
    return ret;
}

static int vmstate_hook(VmsSaver *s, const VMStateDescription *vmsd,
                        const char *name, int (*hook)(void *), void *opaque)
{
    int ret = hook ? hook(opaque) : 0;

    if (ret < 0) {
        return set_error(s->errp, ret, "%s of '%s' failed: %s", name,
                         vmsd->name, g_strerror(-ret));
    }
    return 0;
}

static int coroutine_fn vmstate_save_level(VmsSaver *s,
                                           const VMStateDescription *vmsd,
                                           void *opaque)
{
    int ret = vmstate_hook(s, vmsd, "pre_save", vmsd->pre_save, opaque);
    int err;

    if (ret < 0) {
        return ret;
    }
    vmdesc_begin_vmsd(s->desc, vmsd->name, vmsd->version_id);
    for (const VMStateField *f = vmsd->fields; f->kind != VMS_END; f++) {
        if (ret == 0 && vmstate_field_present(f, opaque,
                                              (uint32_t)vmsd->version_id)) {
            ret = vmstate_save_field(s, vmsd, f, opaque);
        }
    }
    vmdesc_end_fields(s->desc);
    if (ret == 0) {
        ret = vmstate_save_subsections(s, vmsd, opaque);
    }
    vmdesc_end_vmsd(s->desc);
    err = vmstate_hook(s, vmsd, "post_save", vmsd->post_save, opaque);
    return ret < 0 ? ret : err;
}

int coroutine_fn vmstate_save(VmStream *f, const VMStateDescription *vmsd,
                              void *opaque, VmDesc *desc, GError **errp)
{
    VmsSaver s = { .f = f, .desc = desc, .errp = errp };
    int ret = vmstate_save_level(&s, vmsd, opaque);

    if (ret < 0) {
        return set_error(errp, ret, "'%s' cannot be written: %s", vmsd->name,
                         g_strerror(-ret));
    }
    return 0;
}
