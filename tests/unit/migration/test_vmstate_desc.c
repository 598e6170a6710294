/* SPDX-License-Identifier: MIT */
/*
 * VMStateDescription against bytes written by hand: both ways, truncated at
 * every byte, old versions, hostile counts and names, and the JSON.
 */
#include "../../support/test_main.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>

#include "migration/vmstate-desc.h"
#include "util/coroutine.h"

/* --- A device with a bit of everything --- */

typedef struct Item {
    uint16_t id;
    uint8_t kind;
} Item;

typedef struct Extra {
    uint32_t a;
} Extra;

typedef struct Device {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    bool flag;
    uint8_t buffer[4];
    uint16_t words[3];
    uint32_t nb_bytes;
    uint8_t bytes[8];
    uint8_t nb_items;
    Item items[3];
    Item one;
    Item pair[2];
    Item *pointed;
    int64_t deadline;
    uint32_t since_v2;
    uint32_t maybe;
    bool has_maybe;
    bool needs_extra;
    uint32_t extra;
    int hooks;
    int fail_hook;
} Device;

static const VMStateDescription vmstate_item = {
    .name = "item",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(id, Item),
        VMSTATE_UINT8(kind, Item),
        VMSTATE_END_OF_LIST()
    },
};

static bool device_has_maybe(void *opaque, int version_id)
{
    return ((Device *)opaque)->has_maybe && version_id >= 2;
}

static bool device_needs_extra(void *opaque)
{
    return ((Device *)opaque)->needs_extra;
}

static int device_hook(void *opaque, int which)
{
    Device *d = opaque;

    d->hooks = d->hooks * 10 + which;
    return d->fail_hook == which ? -EPROTO : 0;
}

static int device_pre_save(void *opaque)
{
    return device_hook(opaque, 1);
}

static int device_post_save(void *opaque)
{
    return device_hook(opaque, 2);
}

static int device_pre_load(void *opaque)
{
    return device_hook(opaque, 3);
}

static int device_post_load(void *opaque, int version_id)
{
    return device_hook(opaque, 3 + version_id);
}

static const VMStateDescription vmstate_device_extra = {
    .name = "device/extra",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = device_needs_extra,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(extra, Device),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_device = {
    .name = "device",
    .version_id = 2,
    .minimum_version_id = 1,
    .pre_save = device_pre_save,
    .post_save = device_post_save,
    .pre_load = device_pre_load,
    .post_load = device_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(u8, Device),
        VMSTATE_UINT16(u16, Device),
        VMSTATE_UINT32(u32, Device),
        VMSTATE_UINT64(u64, Device),
        VMSTATE_INT8(i8, Device),
        VMSTATE_INT16(i16, Device),
        VMSTATE_INT32(i32, Device),
        VMSTATE_INT64(i64, Device),
        VMSTATE_BOOL(flag, Device),
        VMSTATE_BUFFER(buffer, Device),
        VMSTATE_UINT16_ARRAY(words, Device),
        VMSTATE_UNUSED(3),
        VMSTATE_UINT32(nb_bytes, Device),
        VMSTATE_VBUFFER_UINT32(bytes, Device, nb_bytes),
        VMSTATE_UINT8(nb_items, Device),
        { .name = "items", .kind = VMS_STRUCT, .flags = VMS_F_VARRAY,
          .offset = offsetof(Device, items), .size = sizeof(Item), .num = 3,
          .count_offset = offsetof(Device, nb_items),
          .count_kind = VMS_UINT8, .vmsd = &vmstate_item },
        VMSTATE_STRUCT(one, Device, vmstate_item, Item),
        VMSTATE_STRUCT_ARRAY(pair, Device, vmstate_item, Item),
        VMSTATE_STRUCT_POINTER(pointed, Device, vmstate_item, Item),
        VMSTATE_TIMER(deadline, Device),
        VMSTATE_UINT32_V(since_v2, Device, 2),
        VMSTATE_SINGLE_TEST(maybe, Device, VMS_UINT32, uint32_t, 0,
                            device_has_maybe),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_device_extra,
        NULL
    },
};

static Item pointed;

static const Device sample = {
    .u8 = 0x11, .u16 = 0x2233, .u32 = 0x44556677,
    .u64 = 0x8899aabbccddeeff, .i8 = -1, .i16 = -2, .i32 = -3, .i64 = -4,
    .flag = true, .buffer = "abcd", .words = { 1, 2, 0x304 },
    .nb_bytes = 5, .bytes = "hello", .nb_items = 2,
    .items = { { 0x0102, 3 }, { 0x0405, 6 } }, .one = { 0x0708, 9 },
    .pair = { { 10, 11 }, { 12, 13 } }, .deadline = -1,
    .since_v2 = 0xcafe, .extra = 0xdeadbeef,
};

/* What comes before version 2 added something. */
#define GOLDEN_V1                                                       \
    "\x11" "\x22\x33" "\x44\x55\x66\x77"                                \
    "\x88\x99\xaa\xbb\xcc\xdd\xee\xff"                                  \
    "\xff" "\xff\xfe" "\xff\xff\xff\xfd"                                \
    "\xff\xff\xff\xff\xff\xff\xff\xfc"                                  \
    "\x01" "abcd" "\x00\x01\x00\x02\x03\x04" "\x00\x00\x00"             \
    "\x00\x00\x00\x05" "hello"                                          \
    "\x02" "\x01\x02\x03" "\x04\x05\x06" "\x07\x08\x09"                 \
    "\x00\x0a\x0b" "\x00\x0c\x0d" "\x00\x0e\x0f"                        \
    "\xff\xff\xff\xff\xff\xff\xff\xff"
#define GOLDEN_V2 GOLDEN_V1 "\x00\x00\xca\xfe"
#define GOLDEN_MAYBE "\x00\x00\x00\x07"
#define GOLDEN_EXTRA \
    "\x05\x0c" "device/extra" "\x00\x00\x00\x01" "\xde\xad\xbe\xef"

enum { FLAG_AT = 30, NB_BYTES_AT = 44, NB_ITEMS_AT = 53 };

static void device_reset(Device *d)
{
    memset(d, 0, sizeof(*d));
    d->pointed = &pointed;
    memset(&pointed, 0, sizeof(pointed));
}

static void device_sample(Device *d)
{
    *d = sample;
    d->pointed = &pointed;
    pointed = (Item) { 14, 15 };
}

/* Is @d what the first version of the stream can carry of the sample? */
static void check_device(const Device *d, int hooks)
{
    Device expect;

    device_sample(&expect);
    assert_int_equal(d->u64, expect.u64);
    assert_int_equal(d->i8, -1);
    assert_int_equal(d->i16, -2);
    assert_int_equal(d->i32, -3);
    assert_int_equal(d->i64, -4);
    assert_true(d->flag);
    assert_memory_equal(d->buffer, "abcd", 4);
    assert_memory_equal(d->words, expect.words, sizeof(d->words));
    assert_int_equal(d->nb_bytes, 5);
    assert_memory_equal(d->bytes, "hello\0\0", 8);
    assert_int_equal(d->nb_items, 2);
    assert_int_equal(d->items[1].id, 0x0405);
    assert_int_equal(d->items[2].id, 0);
    assert_int_equal(d->one.kind, 9);
    assert_int_equal(d->pair[1].id, 12);
    assert_int_equal(pointed.id, 14);
    assert_int_equal(d->deadline, -1);
    assert_int_equal(d->hooks, hooks);
}

/* --- Running in a coroutine; these streams never wait --- */

typedef struct Job {
    Device *d;
    const void *data;
    size_t bytes;
    uint32_t version;
    bool check_only;
    GByteArray *out;
    VmDesc *desc;
    GError *err;
    uint64_t left;
    int ret;
} Job;

static void coroutine_fn load_entry(void *opaque)
{
    Job *j = opaque;
    VmStream *f = vmstream_new_load_memory(j->data, j->bytes);

    j->ret = (j->check_only ? vmstate_check : vmstate_load)(
        f, &vmstate_device, j->d, j->version, &j->err);
    j->left = vmstream_error(f) < 0 ? 0 : vmstream_left(f);
    vmstream_free(f);
}

static void coroutine_fn save_entry(void *opaque)
{
    Job *j = opaque;
    VmStream *f = vmstream_new_save_memory(j->out);

    j->ret = vmstate_save(f, &vmstate_device, j->d, j->desc, &j->err);
    vmstream_free(f);
}

static int load_bytes(Device *d, const void *data, size_t bytes,
                      uint32_t version, GError **errp)
{
    Job check = { .d = d, .data = data, .bytes = bytes, .version = version,
                  .check_only = true };
    Job load = { .d = d, .data = data, .bytes = bytes, .version = version };
    Device before = *d;
    Item pointed_before = pointed;

    /* The check says the same and leaves the device alone. */
    co_enter(co_create(load_entry, &check));
    assert_memory_equal(&before, d, sizeof(before));
    assert_memory_equal(&pointed_before, &pointed, sizeof(pointed));
    co_enter(co_create(load_entry, &load));
    if (load.ret != -EPROTO) {
        assert_int_equal(check.ret, load.ret);
    }
    if (check.err && load.err && load.ret != -EPROTO) {
        assert_string_equal(check.err->message, load.err->message);
    }
    assert_int_equal(load.ret == 0, load.err == NULL);
    g_clear_error(&check.err);
    if (load.ret == 0) {
        assert_int_equal(check.left, load.left);
    }
    if (load.err) {
        g_propagate_error(errp, load.err);
    }
    return load.ret;
}

static void check_refused(const void *data, size_t bytes, uint32_t version,
                          const char *word)
{
    GError *err = NULL;
    Device d;

    device_reset(&d);
    assert_int_not_equal(load_bytes(&d, data, bytes, version, &err), 0);
    if (!strstr(err->message, word)) {
        fail_msg("'%s' does not say '%s'", err->message, word);
    }
    g_error_free(err);
}

/* --- Tests --- */

static void check_saved(Device *d, const void *golden, size_t bytes)
{
    Job j = { .d = d, .out = g_byte_array_new() };

    co_enter(co_create(save_entry, &j));
    assert_int_equal(j.ret, 0);
    assert_int_equal(j.out->len, bytes);
    assert_memory_equal(j.out->data, golden, bytes);
    assert_int_equal(d->hooks, 12);
    g_byte_array_unref(j.out);
}

static void test_save_writes_the_golden_bytes(void **state)
{
    static const char plain[] = GOLDEN_V2;
    static const char full[] = GOLDEN_V2 GOLDEN_MAYBE GOLDEN_EXTRA;
    Device d;

    device_sample(&d);
    check_saved(&d, plain, sizeof(plain) - 1);

    device_sample(&d);
    d.has_maybe = d.needs_extra = true;
    d.maybe = 7;
    check_saved(&d, full, sizeof(full) - 1);
}

static void test_load_reads_the_golden_bytes(void **state)
{
    static const char plain[] = GOLDEN_V2;
    static const char full[] = GOLDEN_V2 GOLDEN_MAYBE GOLDEN_EXTRA;
    Device d;

    device_reset(&d);
    assert_int_equal(load_bytes(&d, plain, sizeof(plain) - 1, 2, NULL), 0);
    check_device(&d, 35);
    assert_int_equal(d.since_v2, 0xcafe);

    device_reset(&d);
    d.has_maybe = true;
    assert_int_equal(load_bytes(&d, full, sizeof(full) - 1, 2, NULL), 0);
    assert_int_equal(d.maybe, 7);
    assert_int_equal(d.extra, 0xdeadbeef);
}

static void test_an_old_version_still_loads(void **state)
{
    static const char old[] = GOLDEN_V1;
    Device d;

    device_reset(&d);
    assert_int_equal(load_bytes(&d, old, sizeof(old) - 1, 1, NULL), 0);
    check_device(&d, 34);
    assert_int_equal(d.since_v2, 0);
}

static void test_versions_out_of_range_are_refused(void **state)
{
    static const char data[] = GOLDEN_V2;

    check_refused(data, sizeof(data) - 1, 0, "version 0");
    check_refused(data, sizeof(data) - 1, 3, "version 3");
    check_refused(data, sizeof(data) - 1, UINT32_MAX, "version");
}

static void test_truncation_anywhere_is_an_error(void **state)
{
    static const char full[] = GOLDEN_V2 GOLDEN_MAYBE GOLDEN_EXTRA;
    static const char fields[] = GOLDEN_V2 GOLDEN_MAYBE;

    for (size_t n = 0; n < sizeof(full) - 1; n++) {
        g_autofree char *copy = g_memdup2(full, n);
        GError *err = NULL;
        Device d;
        int ret;

        device_reset(&d);
        d.has_maybe = true;
        ret = load_bytes(&d, copy, n, 2, &err);
        if (n < sizeof(fields) - 1) {
            assert_int_equal(ret, -EIO);
            assert_non_null(strstr(err->message, "offset"));
        } else if (n >= sizeof(fields) - 1 + 14) {
            assert_int_equal(ret, -EIO);
        } /* else the fields are whole and bytes are left over */
        g_clear_error(&err);
    }
}

static void test_flipped_bits_never_crash(void **state)
{
    static const char full[] = GOLDEN_V2 GOLDEN_MAYBE GOLDEN_EXTRA;
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);

    for (unsigned i = 0; i < 5000; i++) {
        g_autofree char *copy = g_memdup2(full, sizeof(full) - 1);
        unsigned flips = (unsigned)g_rand_int_range(rand, 1, 8);
        GError *err = NULL;
        Device d;

        while (flips--) {
            copy[g_rand_int_range(rand, 0, sizeof(full) - 1)] ^=
                (char)(1 << g_rand_int_range(rand, 0, 8));
        }
        device_reset(&d);
        d.has_maybe = true;
        load_bytes(&d, copy, sizeof(full) - 1, 2, &err);
        g_clear_error(&err);
    }
}

static void test_hostile_values_are_refused_by_name(void **state)
{
    char data[] = GOLDEN_V2 GOLDEN_EXTRA;
    size_t n = sizeof(data) - 1;

    data[FLAG_AT] = 2;
    check_refused(data, n, 2, "'flag' of 'device', offset 30: 2 is not");
    data[FLAG_AT] = 1;
    data[NB_BYTES_AT + 3] = 9;
    check_refused(data, n, 2, "'bytes' of 'device', offset 48: 9 elements");
    data[NB_BYTES_AT] = (char)0xff;
    check_refused(data, n, 2, "'bytes'");
    data[NB_BYTES_AT] = 0;
    data[NB_BYTES_AT + 3] = 5;
    data[NB_ITEMS_AT] = 4;
    check_refused(data, n, 2, "'items'");
    data[NB_ITEMS_AT] = 2;
    data[n - 9] = 'X';
    check_refused(data, n, 2, "unknown subsection 'device/extrX'");
    data[n - 9] = 'a';
    data[n - 5] = 2;
    check_refused(data, n, 2, "version 2 of 'device/extra'");
}

static void test_failing_hooks_fail_the_operation(void **state)
{
    static const char data[] = GOLDEN_V2;
    GError *err = NULL;
    Device d;

    for (int hook = 1; hook <= 2; hook++) {
        Job j = { .d = &d, .out = g_byte_array_new() };

        device_sample(&d);
        d.fail_hook = hook;
        co_enter(co_create(save_entry, &j));
        assert_int_equal(j.ret, -EPROTO);
        assert_non_null(strstr(j.err->message, "_save of 'device'"));
        g_error_free(j.err);
        g_byte_array_unref(j.out);
    }
    device_reset(&d);
    d.fail_hook = 3;
    assert_int_equal(load_bytes(&d, data, sizeof(data) - 1, 2, &err), -EPROTO);
    assert_int_equal(d.u8, 0);
    g_clear_error(&err);
    device_reset(&d);
    d.fail_hook = 5;
    assert_int_equal(load_bytes(&d, data, sizeof(data) - 1, 2, &err), -EPROTO);
    assert_non_null(strstr(err->message, "post_load"));
    g_clear_error(&err);
}

static void test_save_refuses_a_count_above_its_limit(void **state)
{
    Device d;
    Job j = { .d = &d, .out = g_byte_array_new() };

    device_sample(&d);
    d.nb_items = 4;
    co_enter(co_create(save_entry, &j));
    assert_int_equal(j.ret, -EINVAL);
    assert_non_null(strstr(j.err->message, "'items'"));
    g_error_free(j.err);
    g_byte_array_unref(j.out);
}

static void test_json_describes_the_bytes(void **state)
{
    static const char expect[] =
        "{'page_size':4096,'devices':[{'name':'dev','instance_id':3,"
        "'vmsd_name':'device','version':2,'fields':["
        "{'name':'u8','type':'uint8','size':1},"
        "{'name':'u16','type':'uint16','size':2},"
        "{'name':'u32','type':'uint32','size':4},"
        "{'name':'u64','type':'uint64','size':8},"
        "{'name':'i8','type':'int8','size':1},"
        "{'name':'i16','type':'int16','size':2},"
        "{'name':'i32','type':'int32','size':4},"
        "{'name':'i64','type':'int64','size':8},"
        "{'name':'flag','type':'bool','size':1},"
        "{'name':'buffer','type':'buffer','size':4},"
        "{'name':'words','array_len':3,'type':'uint16','size':2},"
        "{'name':'unused','type':'unused_buffer','size':3},"
        "{'name':'nb_bytes','type':'uint32','size':4},"
        "{'name':'bytes','type':'buffer','size':5},"
        "{'name':'nb_items','type':'uint8','size':1},"
        "{'name':'items','array_len':2,'type':'struct','struct':{"
        "'vmsd_name':'item','version':1,'fields':["
        "{'name':'id','type':'uint16','size':2},"
        "{'name':'kind','type':'uint8','size':1}]},'size':3},"
        "{'name':'one','type':'struct','struct':{"
        "'vmsd_name':'item','version':1,'fields':["
        "{'name':'id','type':'uint16','size':2},"
        "{'name':'kind','type':'uint8','size':1}]},'size':3},"
        "{'name':'pair','array_len':2,'type':'struct','struct':{"
        "'vmsd_name':'item','version':1,'fields':["
        "{'name':'id','type':'uint16','size':2},"
        "{'name':'kind','type':'uint8','size':1}]},'size':3},"
        "{'name':'pointed','type':'struct','struct':{"
        "'vmsd_name':'item','version':1,'fields':["
        "{'name':'id','type':'uint16','size':2},"
        "{'name':'kind','type':'uint8','size':1}]},'size':3},"
        "{'name':'deadline','type':'timer','size':8},"
        "{'name':'since_v2','type':'uint32','size':4}],"
        "'subsections':[{'vmsd_name':'device/extra','version':1,'fields':["
        "{'name':'extra','type':'uint32','size':4}]}]}]}";
    g_autofree char *wanted = g_strdelimit(g_strdup(expect), "'", '"');
    g_autofree char *text = NULL;
    JsonParser *parser = json_parser_new();
    Device d;
    Job j = { .d = &d, .out = g_byte_array_new(), .desc = vmdesc_new(4096) };
    size_t len;

    device_sample(&d);
    d.needs_extra = true;
    vmdesc_begin_device(j.desc, "dev", 3);
    co_enter(co_create(save_entry, &j));
    vmdesc_end_device(j.desc);
    text = vmdesc_to_text(j.desc, &len);

    assert_int_equal(j.ret, 0);
    assert_int_equal(len, strlen(text));
    assert_true(json_parser_load_from_data(parser, text, -1, NULL));
    assert_string_equal(text, wanted);
    g_object_unref(parser);
    vmdesc_free(j.desc);
    g_byte_array_unref(j.out);
}

/* Elements that can differ are listed one by one. */
static bool item_even(void *opaque, int version_id)
{
    return ((Item *)opaque)->id % 2 == 0;
}

static const VMStateDescription vmstate_uneven = {
    .name = "uneven",
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(id, Item),
        VMSTATE_SINGLE_TEST(kind, Item, VMS_UINT8, uint8_t, 0, item_even),
        VMSTATE_END_OF_LIST()
    },
};

typedef struct Uneven {
    Item items[2];
} Uneven;

static const VMStateDescription vmstate_unevens = {
    .name = "unevens",
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_ARRAY(items, Uneven, vmstate_uneven, Item),
        VMSTATE_END_OF_LIST()
    },
};

static void coroutine_fn uneven_entry(void *opaque)
{
    Uneven u = { { { 2, 3 }, { 5, 6 } } };
    Job *j = opaque;
    VmStream *f = vmstream_new_save_memory(j->out);

    vmdesc_begin_device(j->desc, "u", 0);
    j->ret = vmstate_save(f, &vmstate_unevens, &u, j->desc, NULL);
    vmdesc_end_device(j->desc);
    vmstream_free(f);
}

static void test_json_lists_elements_that_differ_with_their_index(void **state)
{
    Job j = { .out = g_byte_array_new(), .desc = vmdesc_new(4096) };
    g_autofree char *text = NULL;
    size_t len;

    co_enter(co_create(uneven_entry, &j));
    text = vmdesc_to_text(j.desc, &len);

    assert_int_equal(j.ret, 0);
    assert_int_equal(j.out->len, 5);
    assert_memory_equal(j.out->data, "\x00\x02\x03\x00\x05", 5);
    assert_non_null(strstr(text, "\"name\":\"items\",\"index\":0"));
    assert_non_null(strstr(text, "\"name\":\"items\",\"index\":1"));
    assert_null(strstr(text, "array_len"));
    vmdesc_free(j.desc);
    g_byte_array_unref(j.out);
}

/* --- An array in a subsection, counted by a field of its parent --- */

typedef struct Queue {
    uint8_t nb_slots;
    uint8_t slots[4];
} Queue;

static const VMStateDescription vmstate_queue_slots = {
    .name = "queue/slots",
    .fields = (const VMStateField[]) {
        { .name = "slots", .kind = VMS_UINT8, .flags = VMS_F_VARRAY,
          .offset = offsetof(Queue, slots), .size = 1, .num = 4,
          .count_offset = offsetof(Queue, nb_slots),
          .count_kind = VMS_UINT8 },
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_queue = {
    .name = "queue",
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(nb_slots, Queue),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_queue_slots,
        NULL
    },
};

typedef struct QueueJob {
    Queue q;
    uint64_t check_left;
    uint64_t left;
    int check_ret;
    int ret;
} QueueJob;

static void coroutine_fn queue_entry(void *opaque)
{
    static const char data[] =
        "\x03" "\x05\x0b" "queue/slots" "\0\0\0\0" "abc";
    QueueJob *j = opaque;
    VmStream *f = vmstream_new_load_memory(data, sizeof(data) - 1);

    j->check_ret = vmstate_check(f, &vmstate_queue, &j->q, 0, NULL);
    j->check_left = vmstream_left(f);
    vmstream_seek(f, 0);
    j->ret = vmstate_load(f, &vmstate_queue, &j->q, 0, NULL);
    j->left = vmstream_left(f);
    vmstream_free(f);
}

static void test_a_subsection_is_checked_with_the_saved_count(void **state)
{
    for (uint8_t now = 0; now <= 4; now++) {
        QueueJob j = { .q.nb_slots = now };

        co_enter(co_create(queue_entry, &j));
        assert_int_equal(j.check_ret, 0);
        assert_int_equal(j.check_left, 0);
        assert_int_equal(j.ret, 0);
        assert_int_equal(j.left, 0);
        assert_int_equal(j.q.nb_slots, 3);
        assert_memory_equal(j.q.slots, "abc", 4);
    }
}

static void test_unsound_descriptions_are_refused(void **state)
{
    static const VMStateField none[] = { VMSTATE_END_OF_LIST() };
    static const VMStateField sized[] = {
        { .name = "x", .kind = VMS_UINT32, .size = 2, .num = 1 },
        VMSTATE_END_OF_LIST()
    };
    static const VMStateDescription stray = {
        .name = "other/sub", .fields = none,
    };
    static const VMStateDescription *const strays[] = { &stray, NULL };
    static const VMStateDescription bad[] = {
        { .name = "", .fields = none },
        { .name = "no fields" },
        { .name = "versions", .minimum_version_id = 1, .fields = none },
        { .name = "sizes", .fields = sized },
        { .name = "device", .fields = none, .subsections = strays },
    };

    assert_int_equal(vmstate_validate(&vmstate_device, NULL), 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        GError *err = NULL;

        assert_int_equal(vmstate_validate(&bad[i], &err), -EINVAL);
        assert_non_null(err);
        g_error_free(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_writes_the_golden_bytes),
        cmocka_unit_test(test_load_reads_the_golden_bytes),
        cmocka_unit_test(test_an_old_version_still_loads),
        cmocka_unit_test(test_versions_out_of_range_are_refused),
        cmocka_unit_test(test_truncation_anywhere_is_an_error),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_hostile_values_are_refused_by_name),
        cmocka_unit_test(test_failing_hooks_fail_the_operation),
        cmocka_unit_test(test_save_refuses_a_count_above_its_limit),
        cmocka_unit_test(test_json_describes_the_bytes),
        cmocka_unit_test(
            test_json_lists_elements_that_differ_with_their_index),
        cmocka_unit_test(test_a_subsection_is_checked_with_the_saved_count),
        cmocka_unit_test(test_unsound_descriptions_are_refused),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
