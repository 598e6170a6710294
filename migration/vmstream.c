/* SPDX-License-Identifier: MIT */
/*
 * VmStream: the parts that are not inline. A window is what the back end hands
 * out; it is given back when it is used up, and a new one fetched where the
 * old one ended.
 */
#include "migration/vmstream.h"

#include <assert.h>
#include <errno.h>

/* --- Windows --- */

/* Give the window back; the stream stands where it was, without one. */
static void vmstream_drop_window(VmStream *f)
{
    uint64_t pos = vmstream_pos(f);

    if (f->saving && f->start != f->no_window) {
        f->ops->commit(f->opaque, (size_t)(f->at - f->start));
    }
    f->start = f->at = f->end = f->no_window;
    f->start_pos = pos;
}

int vmstream_set_error(VmStream *f, int err)
{
    assert(err < 0);
    if (f->err == 0) {
        f->err = err;
        f->err_pos = vmstream_pos(f);
        f->end = f->at; /* sends the inline functions here */
    }
    return f->err;
}

/* Have at least one byte in the window. Returns false after an error. */
static bool coroutine_fn vmstream_next_window(VmStream *f)
{
    const uint8_t *data;
    uint8_t *room;
    size_t bytes;
    int ret;

    if (f->err < 0) {
        return false;
    }
    if (f->at < f->end) {
        return true;
    }
    vmstream_drop_window(f);
    if (f->saving) {
        ret = f->ops->reserve(f->opaque, f->start_pos, &room, &bytes);
    } else if (f->start_pos >= f->size) {
        ret = -EIO;
    } else {
        ret = f->ops->peek(f->opaque, f->start_pos, &data, &bytes);
        if (ret == 0) {
            room = (uint8_t *)data; /* never written to when loading */
            bytes = MIN(bytes, f->size - f->start_pos);
        }
    }
    if (ret < 0) {
        vmstream_set_error(f, ret);
        return false;
    }
    f->start = f->at = room;
    f->end = room + bytes;
    return true;
}

static VmStream *vmstream_new(const VmStreamOps *ops, void *opaque)
{
    VmStream *f = g_new0(VmStream, 1);

    f->ops = ops;
    f->opaque = opaque;
    f->start = f->at = f->end = f->no_window;
    return f;
}

VmStream *vmstream_new_save(const VmStreamOps *ops, void *opaque)
{
    VmStream *f = vmstream_new(ops, opaque);

    f->saving = true;
    return f;
}

VmStream *vmstream_new_load(const VmStreamOps *ops, void *opaque,
                            uint64_t size)
{
    VmStream *f = vmstream_new(ops, opaque);

    f->size = size;
    return f;
}

void vmstream_free(VmStream *f)
{
    if (f) {
        vmstream_drop_window(f);
        g_free(f);
    }
}

void vmstream_seek(VmStream *f, uint64_t pos)
{
    uint64_t window = (uint64_t)(f->end - f->start);

    assert(!f->saving && pos <= f->size);
    if (f->err < 0) {
        return;
    }
    if (pos >= f->start_pos && pos - f->start_pos <= window) {
        f->at = f->start + (pos - f->start_pos);
        return;
    }
    vmstream_drop_window(f);
    f->start_pos = pos;
}

/* --- Saving --- */

void coroutine_fn vmstream_put_buffer(VmStream *f, const void *buf,
                                      size_t bytes)
{
    const uint8_t *from = buf;

    while (bytes > 0 && vmstream_next_window(f)) {
        size_t n = MIN(bytes, (size_t)(f->end - f->at));

        memcpy(f->at, from, n);
        f->at += n;
        from += n;
        bytes -= n;
    }
}

void coroutine_fn vmstream_put_zeroes(VmStream *f, size_t bytes)
{
    while (bytes > 0 && vmstream_next_window(f)) {
        size_t n = MIN(bytes, (size_t)(f->end - f->at));

        memset(f->at, 0, n);
        f->at += n;
        bytes -= n;
    }
}

void coroutine_fn vmstream_put_counted(VmStream *f, const char *s)
{
    size_t len = strlen(s);

    assert(len <= UINT8_MAX);
    vmstream_put_u8(f, (uint8_t)len);
    vmstream_put_buffer(f, s, len);
}

/* --- Loading --- */

void coroutine_fn vmstream_get_buffer(VmStream *f, void *buf, size_t bytes)
{
    uint8_t *to = buf;

    if (bytes > vmstream_left(f)) {
        vmstream_set_error(f, -EIO);
    }
    while (bytes > 0 && vmstream_next_window(f)) {
        size_t n = MIN(bytes, (size_t)(f->end - f->at));

        memcpy(to, f->at, n);
        f->at += n;
        to += n;
        bytes -= n;
    }
    memset(to, 0, bytes);
}

void coroutine_fn vmstream_skip(VmStream *f, uint64_t bytes)
{
    if (bytes > vmstream_left(f)) {
        vmstream_set_error(f, -EIO);
    } else {
        vmstream_seek(f, vmstream_pos(f) + bytes);
    }
}

void coroutine_fn vmstream_get_counted(VmStream *f, char *ret)
{
    uint8_t len = vmstream_get_u8(f);

    vmstream_get_buffer(f, ret, len);
    ret[f->err < 0 ? 0 : len] = '\0';
}

size_t coroutine_fn vmstream_peek(VmStream *f, void *buf, size_t bytes)
{
    uint64_t pos = vmstream_pos(f);

    bytes = MIN(bytes, vmstream_left(f));
    if (f->err < 0 || bytes == 0 || !vmstream_next_window(f)) {
        return 0;
    }
    if ((size_t)(f->end - f->at) >= bytes) {
        memcpy(buf, f->at, bytes);
        return bytes;
    }
    vmstream_get_buffer(f, buf, bytes);
    if (f->err < 0) {
        return 0;
    }
    vmstream_seek(f, pos);
    return bytes;
}

const uint8_t *coroutine_fn vmstream_window(VmStream *f, size_t *ret_bytes)
{
    if (f->err < 0 || vmstream_left(f) == 0 || !vmstream_next_window(f)) {
        *ret_bytes = 0;
        return f->at;
    }
    *ret_bytes = (size_t)(f->end - f->at);
    return f->at;
}

/* --- Over the vmstate pipeline --- */

static int coroutine_fn vmstream_bdrv_reserve(void *opaque, uint64_t pos,
                                              uint8_t **ret, size_t *ret_bytes)
{
    return bdrv_co_vmstate_reserve(opaque, pos, ret, ret_bytes);
}

static void vmstream_bdrv_commit(void *opaque, size_t bytes)
{
    bdrv_vmstate_commit(opaque, bytes);
}

static int coroutine_fn vmstream_bdrv_peek(void *opaque, uint64_t pos,
                                           const uint8_t **ret,
                                           size_t *ret_bytes)
{
    return bdrv_co_vmstate_peek(opaque, pos, ret, ret_bytes);
}

static const VmStreamOps vmstream_bdrv_ops = {
    .reserve = vmstream_bdrv_reserve,
    .commit = vmstream_bdrv_commit,
    .peek = vmstream_bdrv_peek,
};

VmStream *vmstream_new_save_bdrv(BlockDriverState *bs)
{
    return vmstream_new_save(&vmstream_bdrv_ops, bs);
}

VmStream *vmstream_new_load_bdrv(BlockDriverState *bs, uint64_t size)
{
    return vmstream_new_load(&vmstream_bdrv_ops, bs, size);
}

/* --- Over memory --- */

enum { VMSTREAM_MEMORY_WINDOW = 4096 };

static int coroutine_fn vmstream_memory_reserve(void *opaque, uint64_t pos,
                                                uint8_t **ret,
                                                size_t *ret_bytes)
{
    GByteArray *array = opaque;

    assert(pos == array->len);
    g_byte_array_set_size(array, array->len + VMSTREAM_MEMORY_WINDOW);
    *ret = array->data + pos;
    *ret_bytes = VMSTREAM_MEMORY_WINDOW;
    return 0;
}

static void vmstream_memory_commit(void *opaque, size_t bytes)
{
    GByteArray *array = opaque;

    g_byte_array_set_size(array,
                          array->len - VMSTREAM_MEMORY_WINDOW + (guint)bytes);
}

static int coroutine_fn vmstream_memory_peek(void *opaque, uint64_t pos,
                                             const uint8_t **ret,
                                             size_t *ret_bytes)
{
    *ret = (const uint8_t *)opaque + pos;
    *ret_bytes = SIZE_MAX; /* the stream knows its end */
    return 0;
}

static const VmStreamOps vmstream_memory_ops = {
    .reserve = vmstream_memory_reserve,
    .commit = vmstream_memory_commit,
    .peek = vmstream_memory_peek,
};

VmStream *vmstream_new_save_memory(GByteArray *array)
{
    return vmstream_new_save(&vmstream_memory_ops, array);
}

VmStream *vmstream_new_load_memory(const void *data, uint64_t size)
{
    return vmstream_new_load(&vmstream_memory_ops, (void *)data, size);
}
