/* SPDX-License-Identifier: MIT */
/* Facts about the fields of a VMStateDescription, and its own soundness. */
#include "vmstate-int.h"

#include <string.h>

static const struct {
    const char *name;
    size_t wire_size;
    size_t memory_size;
} vmstate_kinds[] = {
    [VMS_END]    = { "", 0, 0 },
    [VMS_INT8]   = { "int8", 1, sizeof(int8_t) },
    [VMS_INT16]  = { "int16", 2, sizeof(int16_t) },
    [VMS_INT32]  = { "int32", 4, sizeof(int32_t) },
    [VMS_INT64]  = { "int64", 8, sizeof(int64_t) },
    [VMS_UINT8]  = { "uint8", 1, sizeof(uint8_t) },
    [VMS_UINT16] = { "uint16", 2, sizeof(uint16_t) },
    [VMS_UINT32] = { "uint32", 4, sizeof(uint32_t) },
    [VMS_UINT64] = { "uint64", 8, sizeof(uint64_t) },
    [VMS_BOOL]   = { "bool", 1, sizeof(bool) },
    [VMS_TIMER]  = { "timer", 8, sizeof(int64_t) },
    [VMS_BUFFER] = { "buffer", 0, 0 },
    [VMS_UNUSED] = { "unused_buffer", 0, 0 },
    [VMS_STRUCT] = { "struct", 0, 0 },
};

size_t vmstate_kind_size(VMStateKind kind)
{
    return vmstate_kinds[kind].wire_size;
}

const char *vmstate_kind_name(VMStateKind kind)
{
    return vmstate_kinds[kind].name;
}

bool vmstate_kind_is_count(VMStateKind kind)
{
    return kind == VMS_UINT8 || kind == VMS_UINT16 || kind == VMS_UINT32 ||
           kind == VMS_INT32;
}

bool vmstate_field_present(const VMStateField *field, void *opaque,
                           uint32_t version_id)
{
    if (field->field_exists) {
        return field->field_exists(opaque, (int)version_id);
    }
    return (uint32_t)field->version_id <= version_id;
}

uint8_t *vmstate_field_data(const VMStateField *field, void *opaque)
{
    uint8_t *data = (uint8_t *)opaque + field->offset;

    if (field->flags & VMS_F_POINTER) {
        void *target;

        memcpy(&target, data, sizeof(target));
        assert(target);
        return target;
    }
    return data;
}

uint64_t vmstate_read_count(const VMStateField *field, const void *opaque)
{
    const void *at = (const uint8_t *)opaque + field->count_offset;
    uint32_t u32;
    uint16_t u16;

    switch (field->count_kind) {
    case VMS_UINT8:
        return *(const uint8_t *)at;
    case VMS_UINT16:
        memcpy(&u16, at, sizeof(u16));
        return u16;
    default: /* a negative int32_t becomes larger than any limit */
        memcpy(&u32, at, sizeof(u32));
        return u32;
    }
}

/* --- Is the table sound? --- */

static int vmstate_validate_level(const VMStateDescription *vmsd,
                                  unsigned depth, GError **errp);

static int vmstate_validate_field(const VMStateDescription *vmsd,
                                  const VMStateField *f, unsigned depth,
                                  GError **errp)
{
    const char *problem = NULL;

    if (!f->name || f->name[0] == '\0') {
        problem = "has no name";
    } else if ((unsigned)f->kind >= G_N_ELEMENTS(vmstate_kinds)) {
        problem = "has an unknown kind";
    } else if (vmstate_kinds[f->kind].memory_size > 0 &&
               vmstate_kinds[f->kind].memory_size != f->size) {
        problem = "has a size that its kind does not have";
    } else if (f->version_id < 0 || f->version_id > vmsd->version_id) {
        problem = "is of a version that the description does not have";
    } else if (f->num == 0) {
        problem = "has no elements";
    } else if (f->kind == VMS_UNUSED && f->flags != 0) {
        problem = "cannot be unused and an array or pointer";
    } else if ((f->flags & VMS_F_VARRAY) &&
               !vmstate_kind_is_count(f->count_kind)) {
        problem = "has a count that is not a number";
    } else if ((f->flags & VMS_F_VARRAY) && f->num > INT32_MAX) {
        problem = "may have too many elements";
    } else if (f->kind == VMS_BUFFER && (f->flags & VMS_F_VARRAY) &&
               f->size != 1) {
        problem = "is a variable buffer of other things than bytes";
    } else if (f->kind == VMS_STRUCT && !f->vmsd) {
        problem = "is a struct without description";
    }
    if (problem) {
        return set_error(errp, -EINVAL, "field '%s' of '%s' %s",
                         f->name ? f->name : "", vmsd->name, problem);
    }
    return f->kind == VMS_STRUCT
           ? vmstate_validate_level(f->vmsd, depth + 1, errp) : 0;
}

static int vmstate_validate_subsections(const VMStateDescription *vmsd,
                                        unsigned depth, GError **errp)
{
    const VMStateDescription *const *sub = vmsd->subsections;
    size_t len = strlen(vmsd->name);

    for (; sub && *sub; sub++) {
        int ret = vmstate_validate_level(*sub, depth + 1, errp);

        if (ret < 0) {
            return ret;
        }
        if (!g_str_has_prefix((*sub)->name, vmsd->name) ||
            (*sub)->name[len] != '/' || (*sub)->name[len + 1] == '\0') {
            return set_error(errp, -EINVAL, "subsection '%s' is not named "
                             "'%s/...'", (*sub)->name, vmsd->name);
        }
    }
    return 0;
}

static int vmstate_validate_level(const VMStateDescription *vmsd,
                                  unsigned depth, GError **errp)
{
    size_t len = vmsd->name ? strlen(vmsd->name) : 0;
    int ret;

    if (len < 1 || len > UINT8_MAX) {
        return set_error(errp, -EINVAL, "a description's name has %zu bytes",
                         len);
    }
    if (depth >= VMSTATE_MAX_DEPTH) {
        return set_error(errp, -EINVAL, "'%s' is nested too deeply",
                         vmsd->name);
    }
    if (vmsd->minimum_version_id < 0 ||
        vmsd->minimum_version_id > vmsd->version_id || !vmsd->fields) {
        return set_error(errp, -EINVAL, "'%s' has versions %d..%d or no "
                         "fields", vmsd->name, vmsd->minimum_version_id,
                         vmsd->version_id);
    }
    for (const VMStateField *f = vmsd->fields; f->kind != VMS_END; f++) {
        ret = vmstate_validate_field(vmsd, f, depth, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return vmstate_validate_subsections(vmsd, depth, errp);
}

int vmstate_validate(const VMStateDescription *vmsd, GError **errp)
{
    return vmstate_validate_level(vmsd, 0, errp);
}
