/* SPDX-License-Identifier: MIT */
/*
 * The stream walker: streams built byte by byte, whole, cut, bent and in
 * windows of every size. Real QEMU streams are in
 * tests/integration/test_vmstate_tool.py.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "migration/stream-walk.h"

#define PAGE 4096

/* --- Building streams --- */

static void put(GByteArray *s, const void *data, size_t bytes)
{
    g_byte_array_append(s, data, (guint)bytes);
}

static void put8(GByteArray *s, uint8_t v)
{
    put(s, &v, 1);
}

static void put32(GByteArray *s, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    put(s, &v, 4);
}

static void put64(GByteArray *s, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    put(s, &v, 8);
}

static void put_name(GByteArray *s, const char *name)
{
    put8(s, (uint8_t)strlen(name));
    put(s, name, strlen(name));
}

static void put_footer(GByteArray *s, uint32_t id)
{
    put8(s, 0x7e);
    put32(s, id);
}

static void put_full_header(GByteArray *s, uint8_t type, uint32_t id,
                            const char *name, uint32_t instance,
                            uint32_t version)
{
    put8(s, type);
    put32(s, id);
    put_name(s, name);
    put32(s, instance);
    put32(s, version);
}

static void put_header(GByteArray *s)
{
    put(s, "QEVM", 4);
    put32(s, 3);
    put8(s, 0x07);
    put32(s, 4);
    put(s, "toy1", 4);
}

static void put_ram_start(GByteArray *s)
{
    put_full_header(s, 0x01, 2, "ram", 0, 4);
    put64(s, 5 * PAGE | 0x04);
    put_name(s, "main");
    put64(s, 4 * PAGE);
    put_name(s, "vga");
    put64(s, PAGE);
    put64(s, 0x10);
    put_footer(s, 2);
}

static void put_page(GByteArray *s, uint64_t record, const char *block,
                     uint8_t byte)
{
    uint8_t page[PAGE];

    memset(page, byte, sizeof(page));
    put64(s, record);
    if (block) {
        put_name(s, block);
    }
    put(s, page, sizeof(page));
}

static void put_ram_pages(GByteArray *s)
{
    put8(s, 0x02);
    put32(s, 2);
    put_page(s, 0x08, "main", 0xaa);
    put64(s, PAGE | 0x20 | 0x02);
    put8(s, 0);
    put64(s, 0x80);
    put64(s, 0x10);
    put_footer(s, 2);
    put8(s, 0x03);
    put32(s, 2);
    put_page(s, 0x08, "vga", 0xbb);
    put_page(s, 0x08, "main", 0xcc);
    put64(s, 0x10);
    put_footer(s, 2);
}

/* u32, u8[3], two structs {u16}, bool, and a subsection with an i64. */
static void put_device(GByteArray *s)
{
    put_full_header(s, 0x04, 7, "dev", 1, 2);
    put32(s, 0xdeadbeef);
    put(s, "\1\2\3", 3);
    put(s, "\x12\x34\x56\x78", 4);
    put8(s, 1);
    put8(s, 0x05);
    put_name(s, "dev/extra");
    put32(s, 1);
    put64(s, (uint64_t)-5);
    put_footer(s, 7);
}

static const char description[] =
    "{\"page_size\": 4096, \"devices\": [{\"name\": \"dev\", "
    "\"instance_id\": 1, \"vmsd_name\": \"dev\", \"version\": 2, \"fields\": ["
    "{\"name\": \"a\", \"type\": \"uint32\", \"size\": 4}, "
    "{\"name\": \"b\", \"array_len\": 3, \"type\": \"uint8\", \"size\": 1}, "
    "{\"name\": \"c\", \"array_len\": 2, \"type\": \"struct\", \"struct\": "
    "{\"vmsd_name\": \"cc\", \"version\": 1, \"fields\": "
    "[{\"name\": \"x\", \"type\": \"uint16\", \"size\": 2}]}, \"size\": 2}, "
    "{\"name\": \"d\", \"index\": 3, \"type\": \"bool\", \"size\": 1}], "
    "\"subsections\": [{\"vmsd_name\": \"dev/extra\", \"version\": 1, "
    "\"fields\": [{\"name\": \"e\", \"type\": \"int64\", \"size\": 8}]}]}]}";

static void put_description(GByteArray *s, const char *text)
{
    put8(s, 0x06);
    put32(s, (uint32_t)strlen(text));
    put(s, text, strlen(text));
}

/* A whole stream; @text NULL: without description. */
static GByteArray *build(const char *text)
{
    GByteArray *s = g_byte_array_new();

    put_header(s);
    put_ram_start(s);
    put_ram_pages(s);
    put_device(s);
    put8(s, 0);
    if (text) {
        put_description(s, text);
    }
    return s;
}

/* --- What the walk tells, as text --- */

static int log_begin(void *opaque, const StreamSection *s)
{
    g_string_append_printf(opaque, "%s %s%s%s\n",
                           stream_section_type_name(s->type), s->idstr,
                           s->described ? " described" : "",
                           s->guessed ? " guessed" : "");
    return 0;
}

static int log_end(void *opaque, const StreamSection *s)
{
    g_string_append_printf(opaque, "end %" PRIu64 " %" PRIu64 "\n", s->bytes,
                           s->data_bytes);
    return 0;
}

static int log_value(void *opaque, const StreamValue *v)
{
    static const char *const kinds[] = { "=", "{", "}", "sub{", "}sub" };
    uint64_t i;

    g_string_append_printf(opaque, " %s%s", kinds[v->kind], v->name);
    if (v->index >= 0) {
        g_string_append_printf(opaque, "[%" PRId64 "]", v->index);
    }
    for (i = 0; v->kind == STREAM_VALUE && i < v->count * v->size; i++) {
        g_string_append_printf(opaque, "%s%02x", i ? "" : " ", v->data[i]);
    }
    g_string_append_c(opaque, '\n');
    return 0;
}

static int log_block(void *opaque, const StreamRamBlock *b)
{
    g_string_append_printf(opaque, " block %u %s %" PRIu64 "\n", b->index,
                           b->idstr, b->bytes);
    return 0;
}

static int log_page(void *opaque, const StreamRamBlock *b, uint64_t addr,
                    const uint8_t *data, uint8_t fill, uint32_t bytes)
{
    g_string_append_printf(opaque, " page %s %" PRIx64 " %s %x\n", b->idstr,
                           addr, data ? "data" : "fill",
                           data ? data[bytes - 1] : fill);
    return 0;
}

static const StreamWalkOps log_ops = {
    .section_begin = log_begin,
    .section_end = log_end,
    .value = log_value,
    .ram_block = log_block,
    .ram_page = log_page,
};

/* Walk @s in windows of @window bytes; the log is freed by the caller. */
static int walk_log(GByteArray *s, size_t window, char **ret_log,
                    StreamWalkResult *result, GError **errp)
{
    GString *log = g_string_new(NULL);
    StreamMemory memory = { s->data, s->len, window };
    StreamSource source = stream_source_memory(&memory);
    int ret = stream_walk(&source, &log_ops, log, result, errp);

    *ret_log = g_string_free(log, FALSE);
    return ret;
}

/* Walk quietly; frees @s. Checks that an error and its message agree. */
static int walk(GByteArray *s, char **ret_message)
{
    static const StreamWalkOps none;
    g_autoptr(GError) err = NULL;
    StreamMemory memory = { s->data, s->len, 100 };
    StreamSource source = stream_source_memory(&memory);
    StreamWalkResult result;
    int ret = stream_walk(&source, &none, NULL, &result, &err);

    assert_int_equal(ret < 0, err != NULL);
    assert_int_equal(ret < 0 ? -ret : 0, err ? err->code : 0);
    if (ret_message) {
        *ret_message = g_strdup(err ? err->message : "");
    }
    g_byte_array_unref(s);
    return ret;
}

/* The walk of @s fails with @code and says @text. Frees @s. */
static void expect(GByteArray *s, int code, const char *text)
{
    g_autofree char *message = NULL;
    int ret = walk(s, &message);

    if (ret != code || !strstr(message, text)) {
        fail_msg("%d '%s', not %d '...%s...'", ret, message, code, text);
    }
}

/* --- Well-formed streams --- */

static void test_stream_is_told_section_by_section(void **state)
{
    g_autoptr(GByteArray) s = build(description);
    g_autofree char *log = NULL;
    StreamWalkResult r;
    size_t json = strlen(description);
    g_autofree char *expected = g_strdup_printf(
        "CONFIGURATION configuration\n =machine 746f7931\nend 9 8\n"
        "START ram\n block 0 main 16384\n block 1 vga 4096\nend 63 41\n"
        "PART ram\n page main 0 data aa\n page main 1000 fill 0\n"
        "end 4144 4134\n"
        "END ram\n page vga 0 data bb\n page main 0 data cc\n"
        "end 8235 8225\n"
        "FULL dev described\n =a deadbeef\n =b 010203\n {c[0]\n =x 1234\n"
        " }c[0]\n {c[1]\n =x 5678\n }c[1]\n =d[3] 01\n sub{dev/extra\n"
        " =e fffffffffffffffb\n }subdev/extra\nend 57 35\n"
        "DESCRIPTION description\nend %zu %zu\n", json + 5, json);

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);

    assert_string_equal(log, expected);
    assert_int_equal(r.sections, 6);
    assert_int_equal(r.devices, 1);
    assert_int_equal(r.guessed, 0);
    assert_int_equal(r.pages, 3);
    assert_int_equal(r.fill_pages, 1);
    assert_int_equal(r.ram_bytes, 5 * PAGE);
    assert_int_equal(r.end, s->len);
    assert_int_equal(r.trailing_bytes, 0);
}

static void test_window_size_makes_no_difference(void **state)
{
    static const size_t windows[] = { 1, 2, 3, 7, 64, 1000, 4096, 4104 };
    g_autoptr(GByteArray) s = build(description);
    g_autofree char *whole = NULL;
    StreamWalkResult r;
    unsigned i;

    assert_int_equal(walk_log(s, 0, &whole, &r, NULL), 0);

    for (i = 0; i < G_N_ELEMENTS(windows); i++) {
        g_autofree char *log = NULL;

        assert_int_equal(walk_log(s, windows[i], &log, &r, NULL), 0);
        assert_string_equal(log, whole);
    }
}

static void test_sizes_are_guessed_without_description(void **state)
{
    g_autoptr(GByteArray) s = build(NULL);
    g_autofree char *log = NULL;
    StreamWalkResult r;

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);

    assert_int_equal(r.guessed, 1);
    assert_false(r.has_description);
    assert_non_null(strstr(log, "FULL dev guessed\n =data deadbeef010203"));
    assert_int_equal(r.trailing_bytes, 0);
}

static void test_description_that_does_not_fit_is_not_followed(void **state)
{
    /* One byte longer; the subsection's name; a device nobody described. */
    static const char *const wrong[][2] = {
        { "\"size\": 4}", "\"size\": 5}" },
        { "dev/extra", "dev/extro" },
        { "\"instance_id\": 1", "\"instance_id\": 2" },
        { "\"array_len\": 3", "\"array_len\": 9000000000000000000" },
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GString) text = g_string_new(description);
        g_autoptr(GByteArray) s = NULL;
        g_autofree char *log = NULL;
        StreamWalkResult r;

        g_string_replace(text, wrong[i][0], wrong[i][1], 1);
        s = build(text->str);
        assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
        assert_int_equal(r.guessed, 1);
        assert_true(r.has_description);
        assert_int_equal(r.end, s->len);
    }
}

/* What json-glib reads on as values behind the string @start. */
static void check_escape_hides_nothing(const char *start)
{
    g_autofree char *brackets = g_strnfill(200000, '[');
    g_autofree char *text = g_strconcat("{\"a\": [\"", start, "\",\",",
                                        brackets, "\"]}", NULL);
    g_autoptr(GByteArray) s = build(text);
    g_autofree char *log = NULL;
    StreamWalkResult r;

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
    assert_int_equal(r.guessed, 1);
}

static void test_broken_escapes_do_not_hide_depth(void **state)
{
    check_escape_hides_nothing("\\u1");
    check_escape_hides_nothing("\\u123");
    check_escape_hides_nothing("\\ud800");
    check_escape_hides_nothing("\\udfff");
}

static void test_hostile_description_is_refused_and_sizes_guessed(void **state)
{
    g_autoptr(GString) deep = g_string_new("{\"page_size\": 1, \"a\": ");
    g_autoptr(GString) wide = g_string_new("{\"a\": [0");
    const char *texts[] = {
        "{}", "{\"devices\": 3}", "{\"devices\": [1]}",
        "{\"devices\": [{}]}", "{/*\"*/ \"devices\": []}",
        "{\"devices\": [{\"name\": \"dev\", \"fields\": [{\"name\": \"a\", "
        "\"type\": \"b\", \"size\": -1}]}]}",
        "{\"devices\": [{\"name\": \"dev\", \"fields\": [{\"name\": \"a\", "
        "\"type\": \"b\", \"size\": 1e9}]}]}",
        "{\"devices\": \xff\xff}", "{]}", "{\"\1\":0}", NULL, NULL,
    };
    unsigned i;

    for (i = 0; i < 200000; i++) {
        g_string_append_c(deep, '[');
    }
    for (i = 0; i < 1100000; i++) {
        g_string_append(wide, ",0");
    }
    g_string_append(deep, "}");
    g_string_append(wide, "]}");
    texts[G_N_ELEMENTS(texts) - 2] = deep->str;
    texts[G_N_ELEMENTS(texts) - 1] = wide->str;

    for (i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GByteArray) s = build(texts[i]);
        g_autofree char *log = NULL;
        StreamWalkResult r;

        assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
        assert_int_equal(r.guessed, 1);
    }
}

static void test_repeated_fields_stay_opaque(void **state)
{
    /* A list's elements share one object: its members are one element's. */
    g_autoptr(GString) text = g_string_new(description);
    g_autoptr(GByteArray) s = NULL;
    g_autofree char *log = NULL;
    StreamWalkResult r;

    g_string_replace(text, "\"name\": \"b\", \"array_len\": 3, "
                     "\"type\": \"uint8\", \"size\": 1",
                     "\"name\": \"b\", \"type\": \"QTAILQ\", \"vmsd_name\": "
                     "\"q\", \"version\": 1, \"fields\": [{\"name\": \"i\", "
                     "\"type\": \"uint8\", \"size\": 1}], \"size\": 3", 1);
    s = build(text->str);

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);

    assert_int_equal(r.guessed, 0);
    assert_non_null(strstr(log, "=b 010203\n"));
}

static void test_configuration_subsections_are_known_by_name(void **state)
{
    GByteArray *s = g_byte_array_new();
    g_autofree char *log = NULL;
    StreamWalkResult r;

    put_header(s);
    put8(s, 0x05);
    put_name(s, "configuration/target-page-bits");
    put32(s, 1);
    put32(s, 12);
    put8(s, 0x05);
    put_name(s, "configuration/capabilities");
    put32(s, 1);
    put32(s, 1);
    put_name(s, "x-ignore-shared");
    put_full_header(s, 0x01, 2, "ram", 0, 4);
    put64(s, PAGE | 0x04);
    put_name(s, "main");
    put64(s, PAGE);
    put64(s, 0x123000);         /* the address that ignore-shared adds */
    put64(s, 0x10);
    put_footer(s, 2);
    put8(s, 0x03);
    put32(s, 2);
    put64(s, 0x10);
    put_footer(s, 2);
    put8(s, 0);

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
    g_byte_array_unref(s);

    assert_int_equal(r.ram_bytes, PAGE);
    assert_non_null(strstr(log, "=target_page_bits 0000000c\n"));
    assert_non_null(strstr(log, "=capability 782d69676e6f7265"));

    s = g_byte_array_new();
    put_header(s);
    put8(s, 0x05);
    put_name(s, "configuration/unheard-of");
    put32(s, 1);
    expect(s, -ENOTSUP, "configuration/unheard-of");
}

static void test_configuration_is_described_by_newer_writers(void **state)
{
    static const char text[] =
        "{\"configuration\": {\"vmsd_name\": \"configuration\", "
        "\"version\": 1, \"fields\": [{\"name\": \"len\", \"type\": "
        "\"uint32\", \"size\": 4}, {\"name\": \"name\", \"type\": "
        "\"buffer\", \"size\": 4}], \"subsections\": [{\"vmsd_name\": "
        "\"configuration/new\", \"version\": 1, \"fields\": [{\"name\": "
        "\"n\", \"type\": \"uint16\", \"size\": 2}]}]}, "
        "\"page_size\": 4096, \"devices\": []}";
    GByteArray *s = g_byte_array_new();
    g_autofree char *log = NULL;
    StreamWalkResult r;

    put_header(s);
    put8(s, 0x05);
    put_name(s, "configuration/new");
    put32(s, 1);
    put(s, "\x12\x34", 2);
    put8(s, 0);
    put_description(s, text);

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
    g_byte_array_unref(s);

    assert_non_null(strstr(log, " sub{configuration/new\n =n 1234\n"));
}

static void test_commands_are_skipped_or_refused(void **state)
{
    GByteArray *s = g_byte_array_new();

    put_header(s);
    put(s, "\x08\0\1\0\0", 5);
    put(s, "\x08\0\2\0\4abcd", 9);
    put8(s, 0);
    assert_int_equal(walk(s, NULL), 0);

    s = g_byte_array_new();
    put_header(s);
    put(s, "\x08\0\x63\0\0", 5);
    expect(s, -ENOTSUP, "command 99");
}

static void test_values_are_classed_by_type_and_size(void **state)
{
    StreamValue v = { .size = 2, .count = 2,
                      .data = (const uint8_t *)"\x01\x02\xff\xfe" };

    assert_int_equal(stream_value_class("uint32", 4), 'u');
    assert_int_equal(stream_value_class("uint8 equal", 1), 'u');
    assert_int_equal(stream_value_class("int32 le", 4), 'i');
    assert_int_equal(stream_value_class("int64", 8), 'i');
    assert_int_equal(stream_value_class("bool", 1), 'b');
    assert_int_equal(stream_value_class("timer", 8), 't');
    assert_int_equal(stream_value_class("buffer", 8), 'x');
    assert_int_equal(stream_value_class("uint32", 3), 'x');
    assert_int_equal(stream_value_u64(&v, 0), 0x0102);
    assert_int_equal(stream_value_u64(&v, 1), 0xfffe);
    assert_int_equal(stream_value_i64(&v, 1), -2);
}

/* --- Malformed streams --- */

static GByteArray *head(void)
{
    GByteArray *s = g_byte_array_new();

    put_header(s);
    return s;
}

static GByteArray *ram_head(void)
{
    GByteArray *s = head();

    put_ram_start(s);
    put8(s, 0x02);
    put32(s, 2);
    return s;
}

static void test_envelope_errors_name_what_is_wrong(void **state)
{
    GByteArray *s = g_byte_array_new();

    expect(s, -EINVAL, "ends inside the header");

    s = g_byte_array_new();
    put(s, "QEVN\0\0\0\3", 8);
    expect(s, -EINVAL, "does not start with QEVM");

    s = g_byte_array_new();
    put(s, "QEVM\0\0\0\2", 8);
    expect(s, -ENOTSUP, "version 2");

    s = head();
    put8(s, 0x42);
    expect(s, -EINVAL, "unknown type 0x42");

    s = head();
    put8(s, 0x02);
    put32(s, 9);
    expect(s, -EINVAL, "had no START");

    s = head();
    put_ram_start(s);
    put_ram_pages(s);
    put8(s, 0x02);
    put32(s, 2);
    expect(s, -EINVAL, "has ended");

    s = head();
    put_ram_start(s);
    put_ram_start(s);
    expect(s, -EINVAL, "second START");

    s = head();
    put_ram_start(s);
    put8(s, 0);
    expect(s, -EINVAL, "'ram' had no END");

    s = head();
    put_full_header(s, 0x04, 7, "dev\x1b[2J", 0, 1);
    expect(s, -EINVAL, "not printable");

    s = head();
    put_full_header(s, 0x04, 7, "dev", 3, 1);
    put32(s, 0);
    expect(s, -EINVAL, "FULL section 'dev' (id 7, instance 3) at offset 0x11");
}

static void test_ram_errors_name_section_and_block(void **state)
{
    GByteArray *s;

    s = ram_head();
    put_page(s, 0x28, NULL, 1);
    expect(s, -EINVAL, "continues");

    s = ram_head();
    put_page(s, 0x08, "nobody", 1);
    expect(s, -EINVAL, "'nobody'");

    s = ram_head();
    put_page(s, 4 * PAGE | 0x08, "main", 1);
    expect(s, -EINVAL, "outside RAM block 'main'");

    s = ram_head();
    put64(s, 0x100);
    expect(s, -ENOTSUP, "compressed");

    s = ram_head();
    put64(s, 0x40);
    expect(s, -ENOTSUP, "XBZRLE");

    s = ram_head();
    put64(s, 0x01);
    expect(s, -EINVAL, "flags 0x1");

    s = ram_head();
    put64(s, 0x0a);
    expect(s, -EINVAL, "flags 0xa");

    s = ram_head();
    put64(s, PAGE | 0x04);
    expect(s, -EINVAL, "second list");

    s = ram_head();
    put64(s, 0x10);
    put_footer(s, 3);
    expect(s, -EINVAL, "footer");

    s = head();
    put_full_header(s, 0x01, 2, "ram", 0, 5);
    expect(s, -ENOTSUP, "version 5");
}

static void test_block_list_is_bounded(void **state)
{
    GByteArray *s = head();
    unsigned i;

    put_full_header(s, 0x01, 2, "ram", 0, 4);
    put64(s, PAGE | 0x04);
    put_name(s, "main");
    put64(s, 2 * PAGE);
    expect(s, -EINVAL, "left of the total");

    s = head();
    put_full_header(s, 0x01, 2, "ram", 0, 4);
    put64(s, PAGE | 0x04);
    for (i = 0; i < 5000; i++) {
        g_autofree char *name = g_strdup_printf("b%u", i);

        put_name(s, name);
        put64(s, 0);
    }
    expect(s, -EINVAL, "too many");
}

static void test_sections_cannot_multiply_fields(void **state)
{
    /* 2^40 visits of fields that hold no bytes. */
    static const char text[] =
        "{\"page_size\": 4096, \"devices\": [{\"name\": \"dev\", "
        "\"instance_id\": 1, \"vmsd_name\": \"dev\", \"version\": 2, "
        "\"fields\": [{\"name\": \"a\", \"array_len\": 35, \"type\": "
        "\"struct\", \"struct\": {\"vmsd_name\": \"x\", \"version\": 1, "
        "\"fields\": [{\"name\": \"b\", \"type\": \"uint8\", \"size\": 1}, "
        "{\"name\": \"z\", \"array_len\": 9000000000000000000, \"type\": "
        "\"uint8\", \"size\": 0}]}, \"size\": 1}]}]}";
    g_autoptr(GByteArray) s = build(text);
    g_autofree char *log = NULL;
    StreamWalkResult r;

    assert_int_equal(walk_log(s, 0, &log, &r, NULL), 0);
    assert_int_equal(r.guessed, 0);
}

static int stop_walk(void *opaque, const StreamRamBlock *block)
{
    return -ECANCELED;
}

static void test_callback_ends_the_walk_with_its_error(void **state)
{
    static const StreamWalkOps ops = { .ram_block = stop_walk };
    g_autoptr(GByteArray) s = build(description);
    g_autoptr(GError) err = NULL;
    StreamMemory memory = { s->data, s->len, 0 };
    StreamSource source = stream_source_memory(&memory);
    StreamWalkResult r;

    assert_int_equal(stream_walk(&source, &ops, NULL, &r, &err), -ECANCELED);
    assert_non_null(err);
    assert_int_equal(r.ram_blocks, 1);
}

/* --- Hostile bytes by the thousand --- */

static int fail_peek(void *opaque, uint64_t pos, const uint8_t **ret,
                     size_t *ret_bytes)
{
    uint64_t *left = opaque;
    static const uint8_t byte = 'Q';

    if ((*left)-- == 0) {
        return -EIO;
    }
    *ret = &byte;
    *ret_bytes = 1;
    return 0;
}

static int fail_read(void *opaque, uint64_t pos, void *buf, size_t bytes)
{
    memset(buf, 0, bytes);
    return 0;
}

static void test_source_errors_come_back(void **state)
{
    static const StreamWalkOps none;
    g_autoptr(GError) err = NULL;
    uint64_t left = 3;
    StreamSource source = { fail_peek, fail_read, &left, UINT64_MAX / 2 };
    StreamWalkResult r;

    assert_int_equal(stream_walk(&source, &none, NULL, &r, &err), -EIO);
    assert_non_null(strstr(err->message, "the header"));
}

static void test_truncation_at_every_byte_is_an_error(void **state)
{
    g_autoptr(GByteArray) s = build(description);
    size_t end = s->len - strlen(description) - 5, n;

    for (n = 0; n < s->len; n++) {
        GByteArray *cut = g_byte_array_new();
        int ret;

        put(cut, s->data, n);
        ret = walk(cut, NULL);
        /* Behind the end byte only the description is missing. */
        assert_int_equal(ret, n < end ? -EINVAL : 0);
    }
}

static void test_bit_flips_never_crash(void **state)
{
    g_autoptr(GByteArray) s = build(description);
    g_autoptr(GRand) rand = g_rand_new_with_seed(2026);
    size_t json = s->len - strlen(description) - 60;
    unsigned round, flips, refused = 0;
    struct rusage usage;

    for (round = 0; round < 6000; round++) {
        GByteArray *bent = g_byte_array_new();

        put(bent, s->data, s->len);
        for (flips = 1 + (unsigned)g_rand_int_range(rand, 0, 8); flips > 0;
             flips--) {
            size_t from = round % 3 == 0 ? json : 0;
            size_t to = round % 3 == 1 ? 120 : s->len;
            size_t at = (size_t)g_rand_int_range(rand, (gint32)from,
                                                 (gint32)to);

            bent->data[at] ^= (uint8_t)(1 << g_rand_int_range(rand, 0, 8));
        }
        refused += walk(bent, NULL) < 0;
    }

    assert_true(refused > 1000);
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_is_told_section_by_section),
        cmocka_unit_test(test_window_size_makes_no_difference),
        cmocka_unit_test(test_sizes_are_guessed_without_description),
        cmocka_unit_test(test_description_that_does_not_fit_is_not_followed),
        cmocka_unit_test(test_broken_escapes_do_not_hide_depth),
        cmocka_unit_test(
            test_hostile_description_is_refused_and_sizes_guessed),
        cmocka_unit_test(test_repeated_fields_stay_opaque),
        cmocka_unit_test(test_configuration_subsections_are_known_by_name),
        cmocka_unit_test(test_configuration_is_described_by_newer_writers),
        cmocka_unit_test(test_commands_are_skipped_or_refused),
        cmocka_unit_test(test_values_are_classed_by_type_and_size),
        cmocka_unit_test(test_envelope_errors_name_what_is_wrong),
        cmocka_unit_test(test_ram_errors_name_section_and_block),
        cmocka_unit_test(test_block_list_is_bounded),
        cmocka_unit_test(test_sections_cannot_multiply_fields),
        cmocka_unit_test(test_callback_ends_the_walk_with_its_error),
        cmocka_unit_test(test_source_errors_come_back),
        cmocka_unit_test(test_truncation_at_every_byte_is_an_error),
        cmocka_unit_test(test_bit_flips_never_crash),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
