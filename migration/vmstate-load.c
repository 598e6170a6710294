/* SPDX-License-Identifier: MIT */
/*
 * Bytes become a structure; or are only checked. Both are one walk, with or
 * without storing, so that they cannot disagree.
 *
 * The check cannot read element counts from the structure, since nothing is
 * stored there: it remembers the numbers that a structure has had so far, in
 * its own fields and in its subsections.
 */
#include "vmstate-int.h"

#include <string.h>

typedef struct VmsLoader {
    VmStream *f;
    bool store;
    GError **errp;
} VmsLoader;

/* A number seen while checking, for the counts of later fields. */
typedef struct VmsNumber {
    size_t offset;
    uint64_t value;
} VmsNumber;

static int coroutine_fn vmstate_load_struct(VmsLoader *l,
                                            const VMStateDescription *vmsd,
                                            void *opaque,
                                            uint32_t version_id);
static int coroutine_fn vmstate_load_level(VmsLoader *l,
                                           const VMStateDescription *vmsd,
                                           void *opaque, uint32_t version_id,
                                           GArray *numbers);

static uint64_t coroutine_fn vmstate_read_scalar(VmStream *f, size_t bytes)
{
    switch (bytes) {
    case 1:
        return vmstream_get_u8(f);
    case 2:
        return vmstream_get_be16(f);
    case 4:
        return vmstream_get_be32(f);
    default:
        return vmstream_get_be64(f);
    }
}

static void vmstate_set_scalar(uint8_t *data, size_t bytes, uint64_t v)
{
    uint32_t u32 = (uint32_t)v;
    uint16_t u16 = (uint16_t)v;

    switch (bytes) {
    case 1:
        *data = (uint8_t)v;
        break;
    case 2:
        memcpy(data, &u16, sizeof(u16));
        break;
    case 4:
        memcpy(data, &u32, sizeof(u32));
        break;
    default:
        memcpy(data, &v, sizeof(v));
        break;
    }
}

/* The stream failed in @field. */
static int vmstate_stream_error(VmsLoader *l, const VMStateDescription *vmsd,
                                const VMStateField *field)
{
    int err = vmstream_error(l->f);
    const char *why = vmstream_left(l->f) == 0 || err == -EIO
                      ? "the stream ends or cannot be read"
                      : g_strerror(-err);

    return set_error(l->errp, err, "field '%s' of '%s', offset %" PRIu64
                     ": %s", field->name, vmsd->name, vmstream_pos(l->f),
                     why);
}

static int coroutine_fn vmstate_load_bool(VmsLoader *l,
                                          const VMStateDescription *vmsd,
                                          const VMStateField *field,
                                          uint8_t *data)
{
    uint64_t pos = vmstream_pos(l->f);
    uint8_t v = vmstream_get_u8(l->f);

    if (v > 1) {
        return set_error(l->errp, -EINVAL, "field '%s' of '%s', offset %"
                         PRIu64 ": %u is not a bool", field->name, vmsd->name,
                         pos, v);
    }
    if (l->store) {
        *(bool *)data = v;
    }
    return 0;
}

/* @numbers: where a check notes numbers; NULL when storing. */
static int coroutine_fn vmstate_load_element(VmsLoader *l,
                                             const VMStateDescription *vmsd,
                                             const VMStateField *field,
                                             uint8_t *data, size_t bytes,
                                             GArray *numbers)
{
    VmsNumber number = { .offset = field->offset };

    switch (field->kind) {
    case VMS_STRUCT:
        return vmstate_load_struct(l, field->vmsd, data,
                                   (uint32_t)field->vmsd->version_id);
    case VMS_BUFFER:
        if (l->store) {
            vmstream_get_buffer(l->f, data, bytes);
            return 0;
        }
        vmstream_skip(l->f, bytes);
        return 0;
    case VMS_UNUSED:
        vmstream_skip(l->f, bytes);
        return 0;
    case VMS_BOOL:
        return vmstate_load_bool(l, vmsd, field, data);
    default:
        bytes = vmstate_kind_size(field->kind);
        number.value = vmstate_read_scalar(l->f, bytes);
        if (l->store) {
            vmstate_set_scalar(data, bytes, number.value);
        } else if (numbers && vmstate_kind_is_count(field->kind) &&
                   field->flags == 0) {
            g_array_append_val(numbers, number);
        }
        return 0;
    }
}

/* The last number at the count's place, as memory would have it. */
static uint64_t vmstate_load_count(const VMStateField *field, void *opaque,
                                   const GArray *numbers)
{
    for (guint i = numbers ? numbers->len : 0; i > 0; i--) {
        const VmsNumber *n = &g_array_index(numbers, VmsNumber, i - 1);

        if (n->offset == field->count_offset) {
            return n->value;
        }
    }
    return vmstate_read_count(field, opaque);
}

static int coroutine_fn vmstate_load_field(VmsLoader *l,
                                           const VMStateDescription *vmsd,
                                           const VMStateField *field,
                                           void *opaque, GArray *numbers)
{
    uint64_t pos = vmstream_pos(l->f);
    uint64_t count = field->num;
    size_t bytes = field->size;
    uint8_t *data = field->kind == VMS_UNUSED
                    ? NULL : vmstate_field_data(field, opaque);
    int ret = 0;

    if (field->flags & VMS_F_VARRAY) {
        count = vmstate_load_count(field, opaque, numbers);
        if (count > field->num) {
            return set_error(l->errp, -EINVAL, "field '%s' of '%s', offset %"
                             PRIu64 ": %" PRIu64 " elements, more than %"
                             PRIu32, field->name, vmsd->name, pos, count,
                             field->num);
        }
        if (field->kind == VMS_BUFFER) {
            bytes = count;
            count = 1;
        }
    }
    for (uint64_t i = 0; i < count && ret == 0; i++) {
        ret = vmstate_load_element(l, vmsd, field,
                                   data ? data + i * field->size : NULL,
                                   bytes, numbers);
        if (ret == 0 && vmstream_error(l->f) < 0) {
            ret = vmstate_stream_error(l, vmsd, field);
        }
    }
    return ret;
}

/* --- Subsections --- */

/*
 * Is a subsection of @vmsd next? Its name goes to @ret (256 bytes). One of
 * another name belongs to an outer level, or to nobody.
 */
static bool coroutine_fn vmstate_peek_subsection(
    VmsLoader *l, const VMStateDescription *vmsd, char *ret)
{
    size_t prefix = strlen(vmsd->name);
    uint8_t buf[2 + UINT8_MAX];
    size_t got;

    got = vmstream_peek(l->f, buf, 1);
    if (got < 1 || buf[0] != VMSTATE_SUBSECTION) {
        return false;
    }
    got = vmstream_peek(l->f, buf, sizeof(buf));
    if (got < 2 || got < 2u + buf[1] || buf[1] <= prefix ||
        memcmp(buf + 2, vmsd->name, prefix) != 0 || buf[2 + prefix] != '/' ||
        memchr(buf + 2, '\0', buf[1])) {
        return false;
    }
    memcpy(ret, buf + 2, buf[1]);
    ret[buf[1]] = '\0';
    return true;
}

static const VMStateDescription *vmstate_find_subsection(
    const VMStateDescription *vmsd, const char *name)
{
    const VMStateDescription *const *sub = vmsd->subsections;

    for (; sub && *sub; sub++) {
        if (strcmp((*sub)->name, name) == 0) {
            return *sub;
        }
    }
    return NULL;
}

static int coroutine_fn vmstate_load_subsections(
    VmsLoader *l, const VMStateDescription *vmsd, void *opaque,
    GArray *numbers)
{
    char name[256];

    while (vmstate_peek_subsection(l, vmsd, name)) {
        uint64_t pos = vmstream_pos(l->f);
        const VMStateDescription *sub = vmstate_find_subsection(vmsd, name);
        uint32_t version_id;
        int ret;

        if (!sub) {
            return set_error(l->errp, -EINVAL, "unknown subsection '%s' at "
                             "offset %" PRIu64, name, pos);
        }
        vmstream_skip(l->f, 2 + strlen(name));
        version_id = vmstream_get_be32(l->f);
        if (vmstream_error(l->f) < 0) {
            return set_error(l->errp, vmstream_error(l->f), "subsection '%s' "
                             "at offset %" PRIu64 " is cut off", name, pos);
        }
        ret = vmstate_load_level(l, sub, opaque, version_id, numbers);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* --- Levels --- */

static int vmstate_check_version(VmsLoader *l, const VMStateDescription *vmsd,
                                 uint32_t version_id)
{
    if (version_id > (uint32_t)vmsd->version_id ||
        version_id < (uint32_t)vmsd->minimum_version_id) {
        return set_error(l->errp, -EINVAL, "version %" PRIu32 " of '%s' at "
                         "offset %" PRIu64 " is not in %d..%d", version_id,
                         vmsd->name, vmstream_pos(l->f),
                         vmsd->minimum_version_id, vmsd->version_id);
    }
    return 0;
}

static int vmstate_load_hook_error(VmsLoader *l, const char *name,
                                   const VMStateDescription *vmsd, int ret)
{
    return set_error(l->errp, ret, "%s of '%s' failed at offset %" PRIu64
                     ": %s", name, vmsd->name, vmstream_pos(l->f),
                     g_strerror(-ret));
}

/* Does it, or a subsection, have arrays whose count is in the structure? */
static bool vmstate_has_varray(const VMStateDescription *vmsd)
{
    const VMStateDescription *const *sub = vmsd->subsections;

    for (const VMStateField *f = vmsd->fields; f->kind != VMS_END; f++) {
        if (f->flags & VMS_F_VARRAY) {
            return true;
        }
    }
    for (; sub && *sub; sub++) {
        if (vmstate_has_varray(*sub)) {
            return true;
        }
    }
    return false;
}

/* @numbers: of the structure @opaque; NULL when storing or not needed. */
static int coroutine_fn vmstate_load_level(VmsLoader *l,
                                           const VMStateDescription *vmsd,
                                           void *opaque, uint32_t version_id,
                                           GArray *numbers)
{
    int ret = vmstate_check_version(l, vmsd, version_id);

    if (ret == 0 && l->store && vmsd->pre_load) {
        ret = vmsd->pre_load(opaque);
        if (ret < 0) {
            return vmstate_load_hook_error(l, "pre_load", vmsd, ret);
        }
    }
    for (const VMStateField *f = vmsd->fields; f->kind != VMS_END; f++) {
        if (ret == 0 && vmstate_field_present(f, opaque, version_id)) {
            ret = vmstate_load_field(l, vmsd, f, opaque, numbers);
        }
    }
    if (ret == 0) {
        ret = vmstate_load_subsections(l, vmsd, opaque, numbers);
    }
    if (ret == 0 && l->store && vmsd->post_load) {
        ret = vmsd->post_load(opaque, (int)version_id);
        if (ret < 0) {
            return vmstate_load_hook_error(l, "post_load", vmsd, ret);
        }
    }
    return ret;
}

static int coroutine_fn vmstate_load_struct(VmsLoader *l,
                                            const VMStateDescription *vmsd,
                                            void *opaque, uint32_t version_id)
{
    g_autoptr(GArray) numbers = NULL;

    if (!l->store && vmstate_has_varray(vmsd)) {
        numbers = g_array_new(FALSE, FALSE, sizeof(VmsNumber));
    }
    return vmstate_load_level(l, vmsd, opaque, version_id, numbers);
}

int coroutine_fn vmstate_load(VmStream *f, const VMStateDescription *vmsd,
                              void *opaque, uint32_t version_id,
                              GError **errp)
{
    VmsLoader l = { .f = f, .store = true, .errp = errp };

    return vmstate_load_struct(&l, vmsd, opaque, version_id);
}

int coroutine_fn vmstate_check(VmStream *f, const VMStateDescription *vmsd,
                               void *opaque, uint32_t version_id,
                               GError **errp)
{
    VmsLoader l = { .f = f, .store = false, .errp = errp };

    return vmstate_load_struct(&l, vmsd, opaque, version_id);
}
