/* SPDX-License-Identifier: MIT */
/*
 * The configuration section: the machine type, then subsections without a
 * length. The usual ones are known here by name; the description of newer
 * writers tells the size of others.
 */
#include "migration/stream-int.h"

#define MACHINE_MAX      1024
#define CAPABILITIES_MAX 256

static int tell_text(StreamWalk *w, const char *name, const char *text,
                     uint64_t offset)
{
    StreamValue value = {
        .kind = STREAM_VALUE,
        .name = name,
        .type = "string",
        .count = 1,
        .size = strlen(text),
        .index = -1,
        .offset = offset,
        .data = (const uint8_t *)text,
    };

    return stream_walk_value(w, &value);
}

static int coroutine_fn take_value(StreamWalk *w, const char *name,
                                   const char *type, size_t bytes,
                                   GError **errp)
{
    StreamValue value = {
        .kind = STREAM_VALUE,
        .name = name,
        .type = type,
        .count = 1,
        .size = bytes,
        .index = -1,
        .offset = w->cursor.pos,
    };
    int ret;

    ret = stream_walk_take(w, bytes, &value.data, name, errp);
    return ret < 0 ? ret : stream_walk_value(w, &value);
}

static int coroutine_fn config_capability(StreamWalk *w, GError **errp)
{
    g_autofree char *name = NULL;
    uint64_t offset = w->cursor.pos;
    int ret;

    ret = stream_walk_name(w, &name, "a capability's name", errp);
    if (ret < 0) {
        return ret;
    }
    if (g_str_equal(name, "x-ignore-shared")) {
        w->ignore_shared = true;
    } else if (g_str_equal(name, "mapped-ram") ||
               g_str_equal(name, "multifd")) {
        return stream_walk_error(w, errp, -ENOTSUP, "the stream was written "
                                 "with capability '%s', whose RAM layout is "
                                 "not supported", name);
    }
    return tell_text(w, "capability", name, offset);
}

static int coroutine_fn config_capabilities(StreamWalk *w, GError **errp)
{
    const uint8_t *p;
    uint32_t i, n;
    int ret;

    ret = stream_walk_take(w, 4, &p, "the number of capabilities", errp);
    if (ret < 0) {
        return ret;
    }
    n = be32_get(p);
    if (n > CAPABILITIES_MAX) {
        return stream_walk_error(w, errp, -EINVAL, "%" G_GUINT32_FORMAT
                                 " capabilities are more than %d", n,
                                 CAPABILITIES_MAX);
    }
    for (i = 0; i < n; i++) {
        ret = config_capability(w, errp);
        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

/* A subsection that only the description knows; 1: it does not either. */
static int coroutine_fn config_described(StreamWalk *w, const char *name,
                                         GError **errp)
{
    const StreamVmsd *vmsd = w->desc ? w->desc->configuration : NULL;
    uint64_t offset = w->cursor.pos, bytes;
    const uint8_t *p;
    unsigned i;
    int ret;

    for (i = 0; vmsd && i < vmsd->subsections->len; i++) {
        const StreamVmsd *s = g_ptr_array_index(vmsd->subsections, i);

        bytes = stream_vmsd_bytes(s);
        if (!g_str_equal(s->name, name) || bytes > STREAM_DEVICE_MAX) {
            continue;
        }
        ret = stream_walk_take(w, bytes, &p, name, errp);
        if (ret == 0) {
            ret = stream_fields_check(w, s, p);
        }
        return ret == 0 ? stream_fields_emit(w, s, p, offset) : ret;
    }
    return 1;
}

/* The body of subsection @name, whose tag was read. */
static int coroutine_fn config_body(StreamWalk *w, const char *name,
                                    GError **errp)
{
    int ret;

    if (g_str_equal(name, "configuration/target-page-bits")) {
        return take_value(w, "target_page_bits", "uint32", 4, errp);
    }
    if (g_str_equal(name, "configuration/capabilities")) {
        return config_capabilities(w, errp);
    }
    if (g_str_equal(name, "configuration/uuid")) {
        return take_value(w, "uuid", "buffer", 16, errp);
    }
    ret = config_described(w, name, errp);
    return ret != 1 ? ret
        : stream_walk_error(w, errp, -ENOTSUP, "subsection '%s' of the "
                            "configuration is not known", name);
}

static int coroutine_fn config_subsection(StreamWalk *w, GError **errp)
{
    g_autofree char *name = NULL;
    StreamValue value = {
        .kind = STREAM_SUBSECTION_BEGIN, .type = "subsection", .count = 1,
        .index = -1, .offset = w->cursor.pos - 1,
    };
    const uint8_t *p;
    int ret;

    ret = stream_walk_name(w, &name, "a subsection's name", errp);
    if (ret == 0) {
        ret = stream_walk_take(w, 4, &p, "a subsection's version", errp);
    }
    if (ret < 0) {
        return ret;
    }
    value.name = name;
    value.version = be32_get(p);
    ret = stream_walk_value(w, &value);
    if (ret == 0) {
        ret = config_body(w, name, errp);
    }
    if (ret == 0) {
        value.kind = STREAM_SUBSECTION_END;
        ret = stream_walk_value(w, &value);
    }
    return ret;
}

static int coroutine_fn config_machine(StreamWalk *w, GError **errp)
{
    g_autofree char *name = NULL;
    uint64_t offset;
    const uint8_t *p;
    uint32_t len;
    int ret;

    ret = stream_walk_take(w, 4, &p, "the machine type's length", errp);
    if (ret < 0) {
        return ret;
    }
    len = be32_get(p);
    if (len == 0 || len > MACHINE_MAX) {
        return stream_walk_error(w, errp, -EINVAL, "the machine type's length "
                                 "%" G_GUINT32_FORMAT " is outside 1..%d",
                                 len, MACHINE_MAX);
    }
    offset = w->cursor.pos;
    ret = stream_walk_take(w, len, &p, "the machine type", errp);
    if (ret < 0) {
        return ret;
    }
    name = g_strndup((const char *)p, len);
    if (strlen(name) != len || !g_utf8_validate(name, -1, NULL)) {
        return stream_walk_error(w, errp, -EINVAL,
                                 "the machine type is no text");
    }
    return tell_text(w, "machine", name, offset);
}

int coroutine_fn stream_config_section(StreamWalk *w, GError **errp)
{
    const uint8_t *p;
    int ret;

    ret = config_machine(w, errp);
    while (ret == 0) {
        /* What follows is a subsection or the next section. */
        ret = stream_walk_take(w, 1, &p, "the section after the configuration",
                               errp);
        if (ret == 0 && *p != 0x05) {
            stream_cursor_unget(&w->cursor);
            break;
        }
        if (ret == 0) {
            ret = config_subsection(w, errp);
        }
    }
    return ret;
}
