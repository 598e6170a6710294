/* SPDX-License-Identifier: MIT */
/*
 * The stream walker: envelope and sections. What is inside of them is taken
 * apart by stream-config.c, stream-ram.c and stream-fields.c; the description
 * that says how is stream-desc.c's.
 *
 *     magic, version, [configuration], sections, 0x00, [description]
 *
 * A FULL section is taken with its footer in one piece, as long as its
 * description says. If the footer is not there the description does not fit,
 * and the section is read again, up to the first footer with its id that
 * something plausible follows. The same happens without a description, and to
 * iterable sections other than RAM.
 */
#include "migration/stream-int.h"

#define QEVM_MAGIC    0x5145564dU
#define QEVM_VERSION  3
#define SECTION_EOF   0x00
#define FOOTER        0x7e
#define FOOTER_BYTES  5
#define TAIL_BYTES    (256U << 10)  /* first look for the description */
#define GUESS_STEP    (64U << 10)
#define MAX_MISFITS   16            /* then the description is dropped */
#define PAGE_DEFAULT  4096
#define PROGRESS_STEP (1U << 20)

const char *stream_section_type_name(StreamSectionType type)
{
    switch (type) {
    case STREAM_START:
        return "START";
    case STREAM_PART:
        return "PART";
    case STREAM_END:
        return "END";
    case STREAM_FULL:
        return "FULL";
    case STREAM_DESCRIPTION:
        return "DESCRIPTION";
    case STREAM_CONFIGURATION:
        return "CONFIGURATION";
    case STREAM_COMMAND:
        return "COMMAND";
    }
    return "?";
}

int stream_walk_error(StreamWalk *w, GError **errp, int err, const char *fmt,
                      ...)
{
    g_autofree char *text = NULL;
    const StreamSection *s = &w->section;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!s->idstr) {
        return set_error(errp, err, "offset %#" PRIx64 ": %s", w->cursor.pos,
                         text);
    }
    return set_error(errp, err, "%s section '%s' (id %" PRIu32 ", instance %"
                     PRIu32 ") at offset %#" PRIx64 ": %s, at offset %#"
                     PRIx64, stream_section_type_name(s->type), s->idstr,
                     s->id, s->instance_id, s->offset, text, w->cursor.pos);
}

int coroutine_fn stream_walk_take(StreamWalk *w, size_t bytes,
                                  const uint8_t **ret, const char *what,
                                  GError **errp)
{
    int r = stream_cursor_take(&w->cursor, bytes, ret);

    if (r == -ENODATA) {
        return stream_walk_error(w, errp, -EINVAL, "the stream ends inside %s",
                                 what);
    }
    if (r < 0) {
        return stream_walk_error(w, errp, r, "reading %s: %s", what,
                                 g_strerror(-r));
    }
    if (w->cursor.pos - w->progress_pos >= PROGRESS_STEP) {
        w->progress_pos = w->cursor.pos;
        if (w->ops->progress) {
            return w->ops->progress(w->opaque, w->cursor.pos);
        }
    }
    return 0;
}

/* Names are text without control characters: they get printed. */
static bool is_name(const uint8_t *p, size_t bytes)
{
    size_t i;

    for (i = 0; i < bytes; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f) {
            return false;
        }
    }
    return bytes > 0;
}

int coroutine_fn stream_walk_name(StreamWalk *w, char **ret, const char *what,
                                  GError **errp)
{
    const uint8_t *p;
    size_t bytes;
    int r;

    r = stream_walk_take(w, 1, &p, what, errp);
    if (r < 0) {
        return r;
    }
    bytes = *p;
    r = stream_walk_take(w, bytes, &p, what, errp);
    if (r < 0) {
        return r;
    }
    if (!is_name(p, bytes) ||
        !g_utf8_validate_len((const char *)p, bytes, NULL)) {
        return stream_walk_error(w, errp, -EINVAL,
                                 "%s is empty or not printable", what);
    }
    *ret = g_strndup((const char *)p, bytes);
    return 0;
}

static void G_GNUC_PRINTF(2, 3) note(StreamWalk *w, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (w->ops->note) {
        w->ops->note(w->opaque, text);
    }
}

/* --- The description, found from the end --- */

/*
 * In @buf, the last @bytes of the stream: where the 0x06 of the description
 * is. The text holds no control characters and the length's first byte is one,
 * so the last of them in @buf is in the length. Returns the offset in @buf, -1
 * when there is no description, -2 when more of the stream has to be seen.
 */
static ssize_t find_description(const uint8_t *buf, size_t bytes)
{
    size_t end = bytes, last, i;

    while (end > 0 && buf[end - 1] == 0) {
        end--;              /* a writer may have rounded the size up */
    }
    if (end == 0 || buf[end - 1] != '}') {
        return -1;
    }
    for (last = end; last > 0; last--) {
        uint8_t c = buf[last - 1];

        if (c < 0x20 && c != '\n' && c != '\r' && c != '\t') {
            break;
        }
    }
    if (last <= 4) {
        return -2;
    }
    for (i = last - 5; i < last && i + 6 <= end; i++) {
        if (buf[i] == STREAM_DESCRIPTION && buf[i + 5] == '{' &&
            be32_get(buf + i + 1) == end - i - 5) {
            return (ssize_t)i;
        }
    }
    return -1;
}

static void use_description(StreamWalk *w, const uint8_t *buf, uint64_t offset)
{
    g_autoptr(GError) err = NULL;
    uint32_t page_size;

    w->desc_offset = offset;
    w->desc_bytes = be32_get(buf + 1);
    w->result->has_description = true;
    if (stream_desc_parse((const char *)buf + 5, w->desc_bytes, &w->desc,
                          &err) < 0) {
        note(w, "%s; sizes of devices are guessed", err->message);
        return;
    }
    page_size = w->desc->page_size;
    if (page_size >= 1024 && (page_size & (page_size - 1)) == 0) {
        w->result->page_size = page_size;
    } else if (page_size != 0) {
        note(w, "the description's page size %" PRIu32 " is not possible, %u "
             "is taken", page_size, PAGE_DEFAULT);
    }
}

static int coroutine_fn locate_description(StreamWalk *w, GError **errp)
{
    const StreamSource *source = w->cursor.source;
    uint64_t limit = MIN(source->size, STREAM_JSON_MAX + 16);
    uint64_t bytes = MIN(limit, TAIL_BYTES);
    ssize_t at;
    int ret;

    for (;;) {
        g_autofree uint8_t *buf = g_try_malloc(bytes + 1);

        if (!buf) {
            return set_error(errp, -ENOMEM, "no memory for the description");
        }
        ret = source->read(source->opaque, source->size - bytes, buf, bytes);
        if (ret < 0) {
            return set_error(errp, ret, "reading the end of the stream: %s",
                             g_strerror(-ret));
        }
        at = find_description(buf, bytes);
        if (at >= 0) {
            use_description(w, buf + at, source->size - bytes + (size_t)at);
        }
        if (at != -2 || bytes == limit) {
            break;
        }
        bytes = MIN(limit, bytes * 8);
    }
    if (at < 0) {
        note(w, "no description at the end of the stream; sizes of devices "
             "are guessed");
    }
    return 0;
}

/* --- Sections --- */

static int section_begin(StreamWalk *w)
{
    return w->ops->section_begin
        ? w->ops->section_begin(w->opaque, &w->section) : 0;
}

/* Everything up to the cursor is the section, @data_bytes its inside. */
static int section_end(StreamWalk *w, uint64_t data_bytes)
{
    w->section.bytes = w->cursor.pos - w->section.offset;
    w->section.data_bytes = data_bytes;
    if (w->section.guessed) {
        w->result->guessed++;
    }
    return w->ops->section_end
        ? w->ops->section_end(w->opaque, &w->section) : 0;
}

static bool is_footer(const uint8_t *p, uint32_t id)
{
    return p[0] == FOOTER && be32_get(p + 1) == id;
}

static int coroutine_fn take_footer(StreamWalk *w, GError **errp)
{
    const uint8_t *p;
    int ret = stream_walk_take(w, FOOTER_BYTES, &p, "the footer", errp);

    if (ret == 0 && !is_footer(p, w->section.id)) {
        ret = stream_walk_error(w, errp, -EINVAL, "no footer (0x7e and the "
                                "section's id) where it should end");
    }
    return ret;
}

/* May what is at @p, @bytes long, follow a section? */
static bool plausible_next(StreamWalk *w, const uint8_t *p, size_t bytes)
{
    if (bytes == 0) {
        return false;
    }
    switch (p[0]) {
    case SECTION_EOF:
        return bytes == 1 || p[1] == STREAM_DESCRIPTION || p[1] == 0;
    case STREAM_START:
    case STREAM_FULL:
        return bytes >= 7 && is_name(p + 6, MIN((size_t)p[5], bytes - 6));
    case STREAM_PART:
    case STREAM_END:
        return bytes >= 5 &&
               g_hash_table_contains(w->iterables,
                                     GUINT_TO_POINTER(be32_get(p + 1)));
    default:
        return p[0] == STREAM_COMMAND;
    }
}

/* Search @buf from @from on for the footer; -1: not (yet) there. */
static ssize_t find_footer(StreamWalk *w, const GByteArray *buf, size_t from,
                           bool all)
{
    const uint8_t *p = buf->data;
    /* Look at the next section's header too, as far as there is more. */
    size_t ahead = all ? 0 : FOOTER_BYTES + 32;

    for (; from + FOOTER_BYTES + ahead <= buf->len; from++) {
        if (p[from] == FOOTER && is_footer(p + from, w->section.id) &&
            plausible_next(w, p + from + FOOTER_BYTES,
                           buf->len - from - FOOTER_BYTES)) {
            return (ssize_t)from;
        }
    }
    return -1;
}

static int tell_guessed(StreamWalk *w, const GByteArray *buf, size_t bytes,
                        uint64_t offset)
{
    StreamValue value = {
        .kind = STREAM_VALUE, .name = "data", .type = "buffer", .count = 1,
        .size = bytes, .index = -1, .offset = offset, .data = buf->data,
    };
    int ret;

    w->section.guessed = true;
    ret = section_begin(w);
    if (ret == 0) {
        ret = stream_walk_value(w, &value);
    }
    return ret == 0 ? section_end(w, bytes) : ret;
}

static int coroutine_fn guess_body(StreamWalk *w, GError **errp)
{
    g_autoptr(GByteArray) buf = g_byte_array_new();
    const uint64_t offset = w->cursor.pos;
    ssize_t at = -1;
    size_t from = 0, n;
    const uint8_t *p;
    int ret;

    while (at < 0) {
        n = MIN(stream_cursor_left(&w->cursor), GUESS_STEP);
        if (n == 0 || buf->len + n > STREAM_DEVICE_MAX) {
            stream_cursor_seek(&w->cursor, offset);
            return stream_walk_error(w, errp, -EINVAL, "no footer (0x7e and "
                                     "the section's id) ends its data");
        }
        ret = stream_walk_take(w, n, &p, "a section", errp);
        if (ret < 0) {
            return ret;
        }
        g_byte_array_append(buf, p, (guint)n);
        at = find_footer(w, buf, from, stream_cursor_left(&w->cursor) == 0);
        from = buf->len > 64 ? buf->len - 64 : 0;
    }
    stream_cursor_seek(&w->cursor, offset + (size_t)at + FOOTER_BYTES);
    return tell_guessed(w, buf, (size_t)at, offset);
}

/*
 * Take a device as its description says. Returns 0; 1 when it does not fit
 * (nothing was told, the cursor is back at the start); or an error.
 */
static int coroutine_fn described_body(StreamWalk *w, const StreamVmsd *vmsd,
                                       GError **errp)
{
    const uint64_t offset = w->cursor.pos;
    const uint64_t bytes = stream_vmsd_bytes(vmsd);
    const uint8_t *p;
    int ret;

    if (bytes > STREAM_DEVICE_MAX ||
        stream_cursor_left(&w->cursor) < bytes + FOOTER_BYTES) {
        return 1;
    }
    ret = stream_walk_take(w, bytes + FOOTER_BYTES, &p, "a device", errp);
    if (ret != 0) {
        return ret;
    }
    ret = is_footer(p + bytes, w->section.id)
        ? stream_fields_check(w, vmsd, p) : -EINVAL;
    if (ret == -EINVAL) {
        stream_cursor_seek(&w->cursor, offset);
        return 1;
    }
    w->section.described = true;
    if (ret == 0) {
        ret = section_begin(w);
    }
    if (ret == 0) {
        ret = stream_fields_emit(w, vmsd, p, offset);
    }
    if (ret == -E2BIG) {
        return stream_walk_error(w, errp, -EINVAL, "the description has more "
                                 "than %u fields", STREAM_MAX_VALUES);
    }
    return ret == 0 ? section_end(w, bytes) : ret;
}

static int coroutine_fn device_body(StreamWalk *w, GError **errp)
{
    StreamVmsd *vmsd;
    int ret = 1;

    w->result->devices++;
    vmsd = w->desc ? stream_desc_take(w->desc, w->section.idstr,
                                      w->section.instance_id) : NULL;
    if (vmsd) {
        ret = described_body(w, vmsd, errp);
        stream_vmsd_free(vmsd);
        if (ret == 1) {
            note(w, "device '%s' (instance %" PRIu32 ") at offset %#" PRIx64
                 " is not what the description says; its size is guessed",
                 w->section.idstr, w->section.instance_id, w->section.offset);
            if (++w->misfits == MAX_MISFITS) {
                g_clear_pointer(&w->desc, stream_desc_free);
            }
        }
    }
    return ret == 1 ? guess_body(w, errp) : ret;
}

static int coroutine_fn iterable_body(StreamWalk *w, GError **errp)
{
    uint64_t offset = w->cursor.pos;
    int ret;

    if (!g_str_equal(w->section.idstr, "ram")) {
        return guess_body(w, errp);
    }
    ret = section_begin(w);
    if (ret == 0) {
        ret = stream_ram_section(w, errp);
    }
    if (ret == 0) {
        ret = take_footer(w, errp);
    }
    return ret == 0
        ? section_end(w, w->cursor.pos - offset - FOOTER_BYTES) : ret;
}

static void iterable_free(gpointer p)
{
    StreamIterable *it = p;

    g_free(it->idstr);
    g_free(it);
}

/* Remember a START's header under its id. */
static int add_iterable(StreamWalk *w, char **idstr, GError **errp)
{
    StreamIterable *it;

    if (g_hash_table_contains(w->iterables,
                              GUINT_TO_POINTER(w->section.id))) {
        return stream_walk_error(w, errp, -EINVAL,
                                 "a second START with this id");
    }
    it = g_new0(StreamIterable, 1);
    it->idstr = g_steal_pointer(idstr);
    it->instance_id = w->section.instance_id;
    it->version = w->section.version;
    g_hash_table_insert(w->iterables, GUINT_TO_POINTER(w->section.id), it);
    return 0;
}

/* START and FULL: id, name, instance, version. */
static int coroutine_fn full_header(StreamWalk *w, char **idstr,
                                    GError **errp)
{
    const uint8_t *p;
    int ret;

    ret = stream_walk_take(w, 4, &p, "a section's id", errp);
    if (ret < 0) {
        return ret;
    }
    w->section.id = be32_get(p);
    ret = stream_walk_name(w, idstr, "a section's name", errp);
    if (ret == 0) {
        ret = stream_walk_take(w, 8, &p, "a section's version", errp);
    }
    if (ret == 0) {
        w->section.idstr = *idstr;
        w->section.instance_id = be32_get(p);
        w->section.version = be32_get(p + 4);
    }
    return ret;
}

static int coroutine_fn full_section(StreamWalk *w, GError **errp)
{
    g_autofree char *idstr = NULL;
    int ret = full_header(w, &idstr, errp);

    if (ret == 0 && w->section.type == STREAM_START) {
        ret = add_iterable(w, &idstr, errp);
    }
    if (ret == 0) {
        ret = w->section.type == STREAM_START ? iterable_body(w, errp)
                                              : device_body(w, errp);
    }
    w->section.idstr = NULL;
    return ret;
}

/* PART and END: an id that had START. */
static int coroutine_fn part_section(StreamWalk *w, GError **errp)
{
    StreamIterable *it;
    const uint8_t *p;
    uint32_t id;
    int ret;

    ret = stream_walk_take(w, 4, &p, "a section's id", errp);
    if (ret < 0) {
        return ret;
    }
    id = be32_get(p);
    it = g_hash_table_lookup(w->iterables, GUINT_TO_POINTER(id));
    if (!it || it->ended) {
        return stream_walk_error(w, errp, -EINVAL, "a section with id %" PRIu32
                                 ", which %s", id, it ? "has ended"
                                 : "had no START");
    }
    w->section.id = id;
    w->section.idstr = it->idstr;
    w->section.instance_id = it->instance_id;
    w->section.version = it->version;
    it->ended = w->section.type == STREAM_END;
    ret = iterable_body(w, errp);
    w->section.idstr = NULL;
    return ret;
}

/* Commands are for migration between hosts; the harmless ones are skipped. */
static int coroutine_fn command_section(StreamWalk *w, GError **errp)
{
    const unsigned max_command = 11, packaged = 8;
    unsigned command, bytes;
    const uint8_t *p;
    int ret;

    ret = stream_walk_take(w, 4, &p, "a command", errp);
    if (ret < 0) {
        return ret;
    }
    command = be16_get(p);
    bytes = be16_get(p + 2);
    if (command == 0 || command > max_command || command == packaged) {
        return stream_walk_error(w, errp, -ENOTSUP, "command %u, which no "
                                 "snapshot has", command);
    }
    ret = stream_walk_take(w, bytes, &p, "a command", errp);
    if (ret == 0) {
        w->section.idstr = "command";
        w->section.id = command;
        ret = section_begin(w);
    }
    if (ret == 0) {
        ret = section_end(w, bytes);
    }
    w->section.idstr = NULL;
    return ret;
}

static int coroutine_fn configuration_section(StreamWalk *w, GError **errp)
{
    uint64_t offset = w->cursor.pos;
    int ret;

    if (w->result->sections != 1) {
        return stream_walk_error(w, errp, -EINVAL,
                                 "a configuration among the sections");
    }
    w->section.idstr = "configuration";
    ret = section_begin(w);
    if (ret == 0) {
        ret = stream_config_section(w, errp);
    }
    if (ret == 0) {
        ret = section_end(w, w->cursor.pos - offset);
    }
    w->section.idstr = NULL;
    return ret;
}

static int coroutine_fn one_section(StreamWalk *w, uint8_t type, GError **errp)
{
    w->section = (StreamSection){
        .type = type, .offset = w->cursor.pos - 1,
    };
    if (++w->result->sections > STREAM_MAX_SECTIONS) {
        return stream_walk_error(w, errp, -EINVAL, "more than %u sections",
                                 STREAM_MAX_SECTIONS);
    }
    switch (type) {
    case STREAM_START:
    case STREAM_FULL:
        return full_section(w, errp);
    case STREAM_PART:
    case STREAM_END:
        return part_section(w, errp);
    case STREAM_CONFIGURATION:
        return configuration_section(w, errp);
    case STREAM_COMMAND:
        return command_section(w, errp);
    default:
        return stream_walk_error(w, errp, -EINVAL, "a section of unknown type "
                                 "%#x, or the one before is longer than its "
                                 "description says", type);
    }
}

/* Go past @bytes: not needed, but they go by whoever sums them up. */
static int coroutine_fn skip(StreamWalk *w, uint64_t bytes, GError **errp)
{
    const uint8_t *p;
    uint64_t n;
    int ret = 0;

    for (; ret == 0 && bytes > 0; bytes -= n) {
        n = MIN(bytes, GUESS_STEP);
        ret = stream_walk_take(w, n, &p, "the description", errp);
    }
    return ret;
}

/* After the end byte: the description, as it was found from the end. */
static int coroutine_fn final_section(StreamWalk *w, GError **errp)
{
    int ret;

    if (!w->result->has_description) {
        return 0;
    }
    if (w->cursor.pos != w->desc_offset) {
        note(w, "the sections end at offset %#" PRIx64 " but the description "
             "is at %#" PRIx64, w->cursor.pos, w->desc_offset);
        return 0;
    }
    w->section = (StreamSection){
        .type = STREAM_DESCRIPTION, .offset = w->desc_offset,
        .idstr = "description",
    };
    w->result->sections++;
    ret = section_begin(w);
    if (ret == 0) {
        ret = skip(w, 5 + w->desc_bytes, errp);
    }
    if (ret == 0) {
        ret = section_end(w, w->desc_bytes);
    }
    w->section.idstr = NULL;
    return ret;
}

static int check_unfinished(StreamWalk *w, GError **errp)
{
    StreamIterable *it;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, w->iterables);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&it)) {
        if (!it->ended) {
            return stream_walk_error(w, errp, -EINVAL, "the sections end, but "
                                     "'%s' had no END", it->idstr);
        }
    }
    return 0;
}

static int coroutine_fn walk_sections(StreamWalk *w, GError **errp)
{
    const uint8_t *p;
    uint8_t type;
    int ret;

    ret = stream_walk_take(w, 8, &p, "the header", errp);
    if (ret < 0) {
        return ret;
    }
    if (be32_get(p) != QEVM_MAGIC) {
        return set_error(errp, -EINVAL, "offset 0: no migration stream (it "
                         "does not start with QEVM)");
    }
    if (be32_get(p + 4) != QEVM_VERSION) {
        return set_error(errp, -ENOTSUP, "offset 4: stream version %" PRIu32
                         " is not supported (%d is)", be32_get(p + 4),
                         QEVM_VERSION);
    }
    for (;;) {
        ret = stream_walk_take(w, 1, &p, "the sections (no end byte)", errp);
        if (ret != 0) {
            return ret;
        }
        type = *p;
        if (type == SECTION_EOF) {
            break;
        }
        ret = one_section(w, type, errp);
        if (ret != 0) {
            return ret;
        }
    }
    ret = check_unfinished(w, errp);
    return ret == 0 ? final_section(w, errp) : ret;
}

int coroutine_fn stream_walk(const StreamSource *source,
                             const StreamWalkOps *ops, void *opaque,
                             StreamWalkResult *result, GError **errp)
{
    g_autoptr(GError) err = NULL;
    StreamWalk w = { .ops = ops, .opaque = opaque, .result = result };
    int ret;

    *result = (StreamWalkResult){ .page_size = PAGE_DEFAULT };
    stream_cursor_init(&w.cursor, source);
    w.iterables = g_hash_table_new_full(NULL, NULL, NULL, iterable_free);
    w.blocks = g_ptr_array_new_with_free_func(stream_ram_block_free);
    w.block_names = g_hash_table_new(g_str_hash, g_str_equal);
    ret = locate_description(&w, &err);
    if (ret == 0) {
        ret = walk_sections(&w, &err);
    }
    result->end = w.cursor.pos;
    result->trailing_bytes = source->size - w.cursor.pos;
    if (ret < 0 && !err) {
        set_error(&err, ret, "stopped at offset %#" PRIx64 ": %s",
                  w.cursor.pos, g_strerror(-ret));
    }
    if (ret < 0) {
        g_propagate_error(errp, g_steal_pointer(&err));
    }
    g_hash_table_unref(w.block_names);
    g_ptr_array_unref(w.blocks);
    g_hash_table_unref(w.iterables);
    stream_desc_free(w.desc);
    stream_cursor_cleanup(&w.cursor);
    return ret;
}

/* --- A source in memory --- */

static int memory_peek(void *opaque, uint64_t pos, const uint8_t **ret,
                       size_t *ret_bytes)
{
    const StreamMemory *m = opaque;
    size_t left = m->bytes - (size_t)pos;

    *ret = m->data + pos;
    *ret_bytes = m->window ? MIN(m->window, left) : left;
    return 0;
}

static int memory_read(void *opaque, uint64_t pos, void *buf, size_t bytes)
{
    const StreamMemory *m = opaque;

    if (bytes > 0) {
        memcpy(buf, m->data + pos, bytes);
    }
    return 0;
}

StreamSource stream_source_memory(StreamMemory *memory)
{
    return (StreamSource){
        .peek = memory_peek,
        .read = memory_read,
        .opaque = memory,
        .size = memory->bytes,
    };
}
