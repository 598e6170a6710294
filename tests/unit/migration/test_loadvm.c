/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a snapshot, both ways: a stream written by hand is what savevm
 * writes and what loadvm reads; anything else is refused, with a message that
 * says where, and the machine is as it was or stopped.
 */
#include "machine.h"
#include "migration/ram.h"

#include <json-glib/json-glib.h>

/* --- Streams written by hand --- */

static void put(GByteArray *b, const char *bytes, size_t n)
{
    g_byte_array_append(b, (const guint8 *)bytes, (guint)n);
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static void put_page(GByteArray *b, Machine *m, unsigned block, size_t page)
{
    g_byte_array_append(b, m->ram[block] + page * PAGE, PAGE);
}

static void put_envelope(GByteArray *b)
{
    PUT(b, "QEVM\0\0\0\3" "\x07" "\0\0\0\x07" "toy-1.0");
}

/* Blocks "low" of 3 pages and "high" of 2. */
static void put_ram_list(GByteArray *b)
{
    PUT(b, "\x01" "\0\0\0\0" "\3ram" "\0\0\0\0" "\0\0\0\4");
    PUT(b, "\0\0\0\0\0\0\x50\x04");
    PUT(b, "\3low" "\0\0\0\0\0\0\x30\0" "\4high" "\0\0\0\0\0\0\x20\0");
    PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
}

static void put_ram_pages(GByteArray *b, Machine *m)
{
    PUT(b, "\x02" "\0\0\0\0");
    PUT(b, "\0\0\0\0\0\0\0\x08" "\3low");
    put_page(b, m, 0, 0);
    PUT(b, "\0\0\0\0\0\0\x10\x22" "\0");
    PUT(b, "\0\0\0\0\0\0\x20\x28");
    put_page(b, m, 0, 2);
    PUT(b, "\0\0\0\0\0\0\0\x08" "\4high");
    put_page(b, m, 1, 0);
    PUT(b, "\0\0\0\0\0\0\x10\x22" "\0");
    PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
    PUT(b, "\x03" "\0\0\0\0" "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
}

/* machine_fill(1) */
static void put_devices(GByteArray *b)
{
    PUT(b, "\x04" "\0\0\0\1" "\6serial" "\0\0\0\0" "\0\0\0\3");
    PUT(b, "\x01" "\0\0\3\xe8" "\x7e\0\0\0\1");
    PUT(b, "\x04" "\0\0\0\2" "\6serial" "\0\0\0\1" "\0\0\0\3");
    PUT(b, "\x02" "\0\0\3\xe9");
    PUT(b, "\x05\x0a" "serial/irq" "\0\0\0\1" "\1" "\x7e\0\0\0\2");
}

static const char golden_json[] =
    "{'page_size':4096,'configuration':{'vmsd_name':'configuration',"
    "'version':1,'fields':[{'name':'len','type':'uint32','size':4},"
    "{'name':'name','type':'buffer','size':7}]},'devices':["
    "{'name':'serial','instance_id':0,'vmsd_name':'serial','version':3,"
    "'fields':[{'name':'reg','type':'uint8','size':1},"
    "{'name':'counter','type':'uint32','size':4}]},"
    "{'name':'serial','instance_id':1,'vmsd_name':'serial','version':3,"
    "'fields':[{'name':'reg','type':'uint8','size':1},"
    "{'name':'counter','type':'uint32','size':4}],"
    "'subsections':[{'vmsd_name':'serial/irq','version':1,"
    "'fields':[{'name':'irq','type':'bool','size':1}]}]}]}";

static void put_description(GByteArray *b)
{
    g_autofree char *json = g_strdelimit(g_strdup(golden_json), "'", '"');
    uint32_t len = GUINT32_TO_BE((uint32_t)strlen(json));

    PUT(b, "\0\x06");
    put(b, (const char *)&len, sizeof(len));
    put(b, json, strlen(json));
}

/* The machine must be machine_fill(1). */
static GByteArray *golden_stream(Machine *m)
{
    GByteArray *b = g_byte_array_new();

    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, m);
    put_devices(b);
    put_description(b);
    return b;
}

/* Load the bytes as snapshot "x" into a machine that was machine_fill(9). */
static int load_stream(Machine *m, const void *data, size_t bytes,
                       char **message)
{
    FakeVmstate *fake = m->fakes[0];
    int ret;

    g_ptr_array_set_size(fake->snapshots, 0);
    fake_add_snapshot(fake, "x", data, bytes);
    machine_fill(m, 9);
    m->running = true;
    ret = machine_load(m, "x", NULL, message);
    if (ret == 0) {
        assert_true(m->running);
    } else if (m->running) {
        assert_true(machine_is_filled(m, 9));
    }
    return ret;
}

/* Refused with @word in the message; the machine runs on if @intact. */
static void check_refused(Machine *m, GByteArray *b, bool intact,
                          const char *word)
{
    g_autofree char *message = NULL;

    assert_int_equal(load_stream(m, b->data, b->len, &message), -EINVAL);
    if (!strstr(message, word)) {
        fail_msg("'%s' does not say '%s'", message, word);
    }
    assert_int_equal(m->running, intact);
    assert_int_equal(!intact, strstr(message, "left stopped") != NULL);
    g_byte_array_unref(b);
}

/* --- Bytes --- */

static void test_save_writes_the_golden_stream(void **state)
{
    GByteArray *golden;
    FakeVmstate *fake;
    FakeSnapshot *snap;
    Machine m;

    machine_init_golden(&m, &fake);
    golden = golden_stream(&m);

    assert_int_equal(machine_save(&m, "one", NULL, NULL), 0);

    snap = fake_find_snapshot(fake, "one");
    assert_non_null(snap);
    assert_int_equal(snap->vmstate->len, golden->len);
    assert_memory_equal(snap->vmstate->data, golden->data, golden->len);
    assert_int_equal(snap->info->vm_state_size, golden->len);
    assert_int_equal(snap->info->vm_clock_nsec, 1234567);
    assert_true(snap->info->date_sec > 1600000000);
    assert_true(m.running);
    assert_int_equal(m.stops, 1);
    g_byte_array_unref(golden);
    machine_cleanup(&m);
}

static void test_load_reads_the_golden_stream(void **state)
{
    GByteArray *golden;
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    golden = golden_stream(&m);

    assert_int_equal(load_stream(&m, golden->data, golden->len, NULL), 0);

    assert_true(machine_is_filled(&m, 1));
    assert_int_equal(m.serial[0].loads, 1);
    assert_null(fake->selected);
    g_byte_array_unref(golden);
    machine_cleanup(&m);
}

static void test_the_description_is_json(void **state)
{
    JsonParser *parser = json_parser_new();
    GByteArray *golden;
    FakeVmstate *fake;
    GError *err = NULL;
    const char *json;
    Machine m;

    machine_init_golden(&m, &fake);
    golden = golden_stream(&m);
    assert_int_equal(machine_save(&m, "one", NULL, NULL), 0);
    json = (char *)golden->data + golden->len - (sizeof(golden_json) - 1);
    assert_true(json_parser_load_from_data(parser, json,
                                           sizeof(golden_json) - 1, &err));
    assert_null(err);
    g_object_unref(parser);
    g_byte_array_unref(golden);
    machine_cleanup(&m);
}

/* What other writers may do: rounds, repeats, gaps, other fill bytes. */
static void test_load_understands_other_writers(void **state)
{
    GByteArray *b = g_byte_array_new();
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    PUT(b, "QEVM\0\0\0\3" "\x07" "\0\0\0\x07" "toy-1.0");
    PUT(b, "\x05\x1e" "configuration/target-page-bits" "\0\0\0\1"
           "\0\0\0\x0c");
    PUT(b, "\x05\x1a" "configuration/capabilities" "\0\0\0\1" "\0\0\0\1"
           "\x0d" "validate-uuid");
    PUT(b, "\x05\x12" "configuration/uuid" "\0\0\0\1" "0123456789abcdef");
    PUT(b, "\x08" "\0\1" "\0\0");
    put_ram_list(b);
    PUT(b, "\x02" "\0\0\0\0");
    PUT(b, "\0\0\0\0\0\0\0\x80");
    PUT(b, "\0\0\0\0\0\0\x10\x02" "\4high" "\xaa");
    PUT(b, "\0\0\0\0\0\0\x20\x08" "\3low");
    put_page(b, &m, 0, 0);
    PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
    PUT(b, "\x03" "\0\0\0\0");
    PUT(b, "\0\0\0\0\0\0\x20\x28");
    put_page(b, &m, 0, 2);
    PUT(b, "\0\0\0\0\0\0\x02\0");
    PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
    put_devices(b);
    PUT(b, "\0");
    machine_fill(&m, 1);

    assert_int_equal(load_stream(&m, b->data, b->len, NULL), 0);

    for (unsigned i = 0; i < PAGE; i++) {
        assert_int_equal(m.ram[0][i], 0); /* never mentioned */
        assert_int_equal(m.ram[0][PAGE + i], 0);
        assert_int_equal(m.ram[0][2 * PAGE + i],
                         (uint8_t)((2 * PAGE + i) * 31 + 2 + 1));
        assert_int_equal(m.ram[1][i], 0);
        assert_int_equal(m.ram[1][PAGE + i], 0xaa);
    }
    g_byte_array_unref(b);
    machine_cleanup(&m);
}

static void test_old_device_version_loads(void **state)
{
    GByteArray *b = g_byte_array_new();
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, &m);
    PUT(b, "\x04" "\0\0\0\1" "\6serial" "\0\0\0\0" "\0\0\0\2");
    PUT(b, "\x55" "\x7e\0\0\0\1");
    PUT(b, "\x04" "\0\0\0\2" "\6serial" "\0\0\0\1" "\0\0\0\2");
    PUT(b, "\x66" "\x7e\0\0\0\2");
    PUT(b, "\0");
    assert_int_equal(load_stream(&m, b->data, b->len, NULL), 0);
    assert_int_equal(m.serial[0].reg, 0x55);
    assert_int_equal(m.serial[0].counter, 9000);
    assert_int_equal(m.serial[1].reg, 0x66);
    g_byte_array_unref(b);
    machine_cleanup(&m);
}

/* --- Hostile streams --- */

static void test_truncation_anywhere_is_an_error(void **state)
{
    GByteArray *golden;
    FakeVmstate *fake;
    size_t whole;
    Machine m;

    machine_init_golden(&m, &fake);
    golden = golden_stream(&m);
    /* Up to the end mark the stream may do without a description. */
    whole = golden->len - (sizeof(golden_json) - 1) - 5;
    for (size_t n = 1; n < golden->len; n++) {
        g_autofree char *message = NULL;
        int ret = load_stream(&m, golden->data, n, &message);

        assert_int_equal(ret == 0, n == whole);
        if (n < 22) {
            assert_true(m.running);
        }
        if (ret < 0) {
            assert_int_equal(m.running, !strstr(message, "left stopped"));
            assert_true(n > whole || strstr(message, "offset"));
        }
        /* Pages are all alike: look at some of their bytes only. */
        if (n > 150 && n + 800 < golden->len) {
            n += 37;
        }
    }
    g_byte_array_unref(golden);
    machine_cleanup(&m);
}

static void test_flipped_bits_never_crash(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);
    GByteArray *golden;
    FakeVmstate *fake;
    unsigned refused = 0;
    Machine m;

    machine_init_golden(&m, &fake);
    golden = golden_stream(&m);
    for (unsigned i = 0; i < 2000; i++) {
        g_autofree uint8_t *copy = g_memdup2(golden->data, golden->len);
        unsigned flips = (unsigned)g_rand_int_range(rand, 1, 6);

        while (flips--) {
            /* Mostly outside of pages. */
            gint32 at = g_rand_int_range(rand, 0, 140);

            if (g_rand_boolean(rand)) {
                at = (gint32)golden->len - 1 - g_rand_int_range(rand, 0, 700);
            } else if (g_rand_int_range(rand, 0, 4) == 0) {
                at = g_rand_int_range(rand, 0, (gint32)golden->len);
            }
            copy[at] ^= (uint8_t)(1 << g_rand_int_range(rand, 0, 8));
        }
        refused += load_stream(&m, copy, golden->len, NULL) < 0;
    }
    assert_true(refused > 500);
    g_byte_array_unref(golden);
    machine_cleanup(&m);
}

/* The golden stream with @n bytes at @at replaced. */
static GByteArray *damaged(Machine *m, size_t at, const char *bytes, size_t n)
{
    GByteArray *b;

    machine_fill(m, 1);
    b = golden_stream(m);
    memcpy(b->data + at, bytes, n);
    return b;
}
#define DAMAGED(m, at, literal) \
    damaged(m, at, literal, sizeof(literal) - 1)

enum { /* offsets in the golden stream */
    AT_MACHINE = 13, AT_RAM_TYPE = 20, AT_RAM_VERSION = 33, AT_TOTAL = 37,
    AT_LOW_NAME = 46, AT_LOW_BYTES = 49, AT_START_FOOTER = 78,
    AT_PART_ID = 84, AT_FIRST_RECORD = 88, AT_FIRST_NAME = 97,
};

static void test_what_the_machine_is_not_is_refused_untouched(void **state)
{
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    check_refused(&m, DAMAGED(&m, 0, "X"), true, "not a vmstate stream");
    check_refused(&m, DAMAGED(&m, 7, "\2"), true, "version 2");
    check_refused(&m, DAMAGED(&m, 8, "\1"), true, "no configuration");
    check_refused(&m, DAMAGED(&m, 9, "\1"), true, "name has 16777223 bytes");
    check_refused(&m, DAMAGED(&m, AT_MACHINE, "boy"), true,
                  "a machine 'boy-1.0', this one is 'toy-1.0'");
    check_refused(&m, DAMAGED(&m, AT_RAM_TYPE, "\x09"), true,
                  "unknown section type 0x09 at offset 20");
    check_refused(&m, DAMAGED(&m, AT_RAM_VERSION + 3, "\5"), true,
                  "section 0 ('ram' instance 0) at offset 20");
    check_refused(&m, DAMAGED(&m, AT_TOTAL + 6, "\x40"), true, "'high'");
    check_refused(&m, DAMAGED(&m, AT_LOW_NAME, "LOW"), true,
                  "RAM block 'LOW' at offset 45 is unknown");
    check_refused(&m, DAMAGED(&m, AT_LOW_BYTES + 6, "\x20"), true,
                  "'low' at offset 45 has 8192 bytes, not 12288");
    check_refused(&m, DAMAGED(&m, AT_START_FOOTER, "\x7d"), true,
                  "no footer at offset 78");
    check_refused(&m, DAMAGED(&m, AT_START_FOOTER + 4, "\1"), true,
                  "no footer");
    check_refused(&m, DAMAGED(&m, AT_PART_ID + 3, "\7"), true,
                  "never had a START");
    check_refused(&m, DAMAGED(&m, AT_FIRST_RECORD + 7, "\x48"), true,
                  "XBZRLE");
    check_refused(&m, DAMAGED(&m, AT_FIRST_RECORD + 6, "\1\0"), true,
                  "compressed page");
    check_refused(&m, DAMAGED(&m, AT_FIRST_RECORD, "\xff"), true,
                  "belongs to no RAM block");
    check_refused(&m, DAMAGED(&m, AT_FIRST_NAME, "LOW"), true,
                  "belongs to no RAM block ('LOW' + 0x0)");
    machine_cleanup(&m);
}

static void test_bad_devices_leave_the_machine_stopped(void **state)
{
    FakeVmstate *fake;
    size_t devices;
    Machine m;

    machine_init_golden(&m, &fake);
    GByteArray *b = g_byte_array_new();
    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, &m);
    devices = b->len;
    g_byte_array_unref(b);

    check_refused(&m, DAMAGED(&m, devices + 6, "SERIAL"), false,
                  "section 1 ('SERIAL' instance 0)");
    check_refused(&m, DAMAGED(&m, devices + 12, "\0\0\0\7"), false,
                  "('serial' instance 7)");
    check_refused(&m, DAMAGED(&m, devices + 16, "\0\0\0\4"), false,
                  "version 4 of 'serial'");
    check_refused(&m, DAMAGED(&m, devices + 16, "\0\0\0\1"), false,
                  "version 1 of 'serial'");
    check_refused(&m, DAMAGED(&m, devices + 16, "\0\0\0\2"), false,
                  "more or less state than expected");
    check_refused(&m, DAMAGED(&m, devices + 64, "X"), false,
                  "unknown subsection 'serial/Xrq'");
    check_refused(&m, DAMAGED(&m, devices + 57, "X"), false,
                  "unknown subsection 'Xerial/irq'");
    assert_int_equal(m.serial[0].loads, 0);

    m.serial[1].fail_post_load = -EINVAL;
    check_refused(&m, DAMAGED(&m, 0, "Q"), false,
                  "section 2 ('serial' instance 1): post_load");
    machine_cleanup(&m);
}

/* "serial/irq" as C sees it, but not as long as it claims to be. */
static void test_a_subsection_name_with_a_nul_is_refused(void **state)
{
    GByteArray *b = g_byte_array_new();
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, &m);
    PUT(b, "\x04" "\0\0\0\1" "\6serial" "\0\0\0\0" "\0\0\0\3");
    PUT(b, "\x01" "\0\0\3\xe8");
    PUT(b, "\x05\x0b" "serial/irq\0" "\0\0\1" "\1" "\x7e\0\0\0\1");
    check_refused(&m, b, false, "unknown subsection 'serial/irq'");
    machine_cleanup(&m);
}

/* A device that breaks the rules: what it stores changes what it reads. */
static bool unruly_wants_more(void *opaque, int version_id)
{
    return ((Serial *)opaque)->reg != 0;
}

static const VMStateDescription vmstate_unruly = {
    .name = "unruly",
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(reg, Serial),
        VMSTATE_SINGLE_TEST(counter, Serial, VMS_UINT32, uint32_t, 0,
                            unruly_wants_more),
        VMSTATE_END_OF_LIST()
    },
};

static void test_a_device_that_stores_another_size_is_refused(void **state)
{
    GByteArray *b = g_byte_array_new();
    Serial unruly = { .reg = 0 };
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    assert_int_equal(savevm_add_device(m.state, "unruly", 0, &vmstate_unruly,
                                       &unruly, NULL), 0);
    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, &m);
    put_devices(b);
    PUT(b, "\x04" "\0\0\0\3" "\6unruly" "\0\0\0\0" "\0\0\0\0");
    PUT(b, "\x01" "\x7e\0\0\0\3" "\0");
    check_refused(&m, b, false, "section 3 ('unruly' instance 0): its state "
                  "was of another size when checked");
    machine_cleanup(&m);
}

/* --- RAM records without a page --- */

static void put_idle_records(GByteArray *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        put(b, i % 2 ? "\0\0\0\0\0\0\0\x80" : "\0\0\0\0\0\0\2\0", 8);
    }
}

static void test_endless_records_without_a_page_are_refused(void **state)
{
    for (unsigned count = 65536; count <= 65537; count++) {
        GByteArray *b = g_byte_array_new();
        FakeVmstate *fake;
        Machine m;

        machine_init_golden(&m, &fake);
        put_envelope(b);
        put_ram_list(b);
        PUT(b, "\x02" "\0\0\0\0");
        put_idle_records(b, count);
        PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
        PUT(b, "\0");
        check_refused(&m, b, true, count == 65536
                      ? "not all of it" : "more than 65536 RAM records "
                      "without a page before offset 524384");
        machine_cleanup(&m);
    }
}

typedef struct Idle {
    GByteArray *bytes;
    unsigned steps;
    unsigned cancel_at;
    int ret;
} Idle;

static int idle_step(void *opaque, uint64_t pages)
{
    Idle *idle = opaque;

    return ++idle->steps == idle->cancel_at ? -ECANCELED : 0;
}

static void coroutine_fn idle_entry(void *opaque)
{
    g_autoptr(GPtrArray) blocks = g_ptr_array_new();
    Idle *idle = opaque;
    RamLoader *l = ram_loader_new(blocks, false, idle_step, idle);
    VmStream *f = vmstream_new_load_memory(idle->bytes->data,
                                           idle->bytes->len);

    idle->ret = ram_load_section(l, f, NULL);
    ram_loader_free(l);
    vmstream_free(f);
}

static void test_records_without_a_page_can_be_cancelled(void **state)
{
    Idle idle = { .bytes = g_byte_array_new(), .cancel_at = 3 };

    PUT(idle.bytes, "\0\0\0\0\0\0\0\x04"); /* no blocks */
    put_idle_records(idle.bytes, 1000);
    PUT(idle.bytes, "\0\0\0\0\0\0\0\x10");
    co_enter(co_create(idle_entry, &idle));
    assert_int_equal(idle.ret, -ECANCELED);
    assert_int_equal(idle.steps, 3);
    idle.cancel_at = 0;
    co_enter(co_create(idle_entry, &idle));
    assert_int_equal(idle.ret, 0);
    g_byte_array_unref(idle.bytes);
}

static void test_missing_and_trailing_parts_are_refused(void **state)
{
    GByteArray *b;
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    b = golden_stream(&m);
    PUT(b, "x");
    check_refused(&m, b, false, "does not end where the stream does");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\0");
    check_refused(&m, b, true, "the stream has no RAM");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\x01" "\0\0\0\0" "\3ram" "\0\0\0\0" "\0\0\0\4");
    PUT(b, "\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\0");
    check_refused(&m, b, true, "no list of RAM blocks");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\0" "x");
    check_refused(&m, b, true, "bytes behind the end");

    b = g_byte_array_new();
    machine_fill(&m, 1);
    put_envelope(b);
    put_ram_list(b);
    put_ram_pages(b, &m);
    put_devices(b);
    put_devices(b);
    check_refused(&m, b, false, "comes twice");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\x08" "\0\7" "\0\0");
    check_refused(&m, b, true, "unknown command 7");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\x05\x1e" "configuration/target-page-bits" "\0\0\0\1"
           "\0\0\0\x0d");
    check_refused(&m, b, true, "2^13");

    b = g_byte_array_new();
    put_envelope(b);
    PUT(b, "\x05\x1a" "configuration/capabilities" "\0\0\0\1" "\0\0\0\1"
           "\x0f" "x-ignore-shared");
    check_refused(&m, b, true, "x-ignore-shared");
    machine_cleanup(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_writes_the_golden_stream),
        cmocka_unit_test(test_load_reads_the_golden_stream),
        cmocka_unit_test(test_the_description_is_json),
        cmocka_unit_test(test_load_understands_other_writers),
        cmocka_unit_test(test_old_device_version_loads),
        cmocka_unit_test(test_truncation_anywhere_is_an_error),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_what_the_machine_is_not_is_refused_untouched),
        cmocka_unit_test(test_bad_devices_leave_the_machine_stopped),
        cmocka_unit_test(test_a_subsection_name_with_a_nul_is_refused),
        cmocka_unit_test(test_a_device_that_stores_another_size_is_refused),
        cmocka_unit_test(test_endless_records_without_a_page_are_refused),
        cmocka_unit_test(test_records_without_a_page_can_be_cancelled),
        cmocka_unit_test(test_missing_and_trailing_parts_are_refused),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
