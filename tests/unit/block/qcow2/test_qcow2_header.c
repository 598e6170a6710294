/* SPDX-License-Identifier: MIT */
/*
 * Bytes of header, extensions, refcounts, L2 entries and snapshot table, held
 * against the vectors of the format description (V1 to V8), and headers that
 * must be refused.
 */
#include "qcow2_fixture.h"

static uint8_t *from_hex(const char *hex, size_t *ret_len)
{
    uint8_t *buf = g_malloc0(strlen(hex) / 2 + 1);
    size_t n = 0;

    for (const char *p = hex; *p; p++) {
        if (g_ascii_isxdigit(*p)) {
            buf[n / 2] = buf[n / 2] << 4 | g_ascii_xdigit_value(*p);
            n++;
        }
    }
    *ret_len = n / 2;
    return buf;
}

static void assert_hex(const void *buf, const char *hex)
{
    size_t n;
    g_autofree uint8_t *want = from_hex(hex, &n);

    assert_memory_equal(buf, want, n);
}

static const char v1_header[] =
    "514649fb 00000003 0000000000000000 00000000 00000010 0000000004000000"
    "00000000 00000001 0000000000030000 0000000000010000 00000001 00000000"
    "0000000000000000 0000000000000000 0000000000000000 0000000000000000"
    "00000004 00000070 00 00000000000000";

static char *read_file(const char *path, gsize *ret_len)
{
    char *bytes;

    assert_true(g_file_get_contents(path, &bytes, ret_len, NULL));
    return bytes;
}

static void test_v1_default_create_has_the_known_bytes(void **state)
{
    g_autofree char *path = test_path("v1.qcow2");
    g_autofree char *bytes = NULL;
    gsize len;

    q_create(path, "size=64M");
    bytes = read_file(path, &len);

    assert_hex(bytes, v1_header);
    assert_hex(bytes + 0x70, "6803f857 00000180");
    assert_hex(bytes + 0x1f8, "00000000 00000000");
    assert_hex(bytes + 0x10000, "0000000000020000 0000000000000000");
    assert_hex(bytes + 0x20000, "0001 0001 0001 0001 0000");
    assert_in_range(len, 0x30008, 0x40000);
}

static void test_v2_overlay_header_has_the_known_bytes(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *path = test_path("v2.qcow2");
    g_autofree char *bytes = NULL;
    gsize len;

    assert_true(g_file_set_contents(base, "x", 1, NULL));
    q_create(path, "size=1M,cluster_size=4k,compression_type=zstd,"
             "backing_file=base.raw,backing_fmt=raw");
    bytes = read_file(path, &len);

    assert_hex(bytes + 8, "0000000000000088 00000008 0000000c");
    assert_hex(bytes + 72, "0000000000000008");
    assert_hex(bytes + 104, "01");
    assert_hex(bytes + 0x70, "e2792aca 00000003 7261770000000000");
    assert_hex(bytes + 0x80, "00000000 00000000");
    assert_memory_equal(bytes + 0x88, "base.raw", 8);
}

static void test_v3_v4_compressed_entries_are_taken_apart(void **state)
{
    Qcow2State s = { .cluster_bits = 16 };
    uint64_t offset, bytes;

    qcow2_entry_compressed(&s, 0x51c000000005009e, &offset, &bytes);
    assert_int_equal(offset, 0x5009e);
    assert_int_equal(bytes, 36706);
    qcow2_entry_compressed(&s, 0x4000000000050000, &offset, &bytes);
    assert_int_equal(offset, 0x50000);
    assert_int_equal(bytes, 512);
    s.cluster_bits = 12;
    qcow2_entry_compressed(&s, 0x5400000000005922, &offset, &bytes);
    assert_int_equal(offset, 0x5922);
    assert_int_equal(offset + bytes, 0x6400);
}

static void test_v7_refcounts_are_packed_as_known(void **state)
{
    static const struct {
        unsigned order;
        const char *hex;
    } one[] = {
        { 0, "ff1f" }, { 1, "55555501" }, { 2, "11111111111101" },
        { 3, "01010101010101010101010101" },
    };
    uint8_t block[512];

    for (size_t k = 0; k < G_N_ELEMENTS(one); k++) {
        memset(block, 0, sizeof(block));
        for (unsigned i = 0; i < 13; i++) {
            qcow2_refblock_set(block, one[k].order, i, 1);
        }
        assert_hex(block, one[k].hex);
    }
    for (unsigned order = 1; order <= 2; order++) {
        memset(block, 0, sizeof(block));
        for (unsigned i = 0; i < 15; i++) {
            qcow2_refblock_set(block, order, i, i >= 4 && i < 13 ? 2 : 1);
        }
        assert_hex(block, order == 1 ? "55aaaa16" : "1111222222221201");
    }
}

static void test_refcounts_of_every_width_keep_their_value(void **state)
{
    for (unsigned order = 0; order <= 6; order++) {
        uint64_t max = order == 6 ? UINT64_MAX
                       : (1ull << (1u << order)) - 1;
        uint8_t block[512] = { 0 };
        unsigned n = 512 * 8 >> order;

        for (unsigned i = 0; i < n; i++) {
            qcow2_refblock_set(block, order, i, (i * 7) & max);
        }
        qcow2_refblock_set(block, order, 3, max);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(qcow2_refblock_get(block, order, i),
                             i == 3 ? max : (i * 7) & max);
        }
    }
}

static Qcow2Snapshot *v8_snapshot(void)
{
    Qcow2Snapshot *sn = g_new0(Qcow2Snapshot, 1);

    sn->l1_table_offset = 0x90000;
    sn->l1_size = 2;
    sn->id = g_bytes_new("1", 1);
    sn->name = g_bytes_new("snap1", 5);
    sn->date_sec = 0x6b018fe0;
    sn->date_nsec = 0x1d694c00;
    sn->vm_state_size32 = 765;
    sn->extra = g_byte_array_new();
    g_byte_array_set_size(sn->extra, 24);
    be64_put(sn->extra->data, 765);
    be64_put(sn->extra->data + 8, 100 << 20);
    be64_put(sn->extra->data + 16, UINT64_MAX);
    return sn;
}

static void test_v8_snapshot_entry_has_the_known_bytes(void **state)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qcow2_snapshot_free);
    g_autoptr(GByteArray) buf = g_byte_array_new();

    g_ptr_array_add(list, v8_snapshot());
    assert_int_equal(qcow2_snaptable_encode(list, 0, buf), 0);

    assert_int_equal(buf->len, 70);
    assert_hex(buf->data,
        "0000000000090000 00000002 0001 0005 6b018fe0 1d694c00"
        "0000000000000000 000002fd 00000018 00000000000002fd"
        "0000000006400000 ffffffffffffffff 31 736e617031");
}

static void test_short_extra_data_is_completed_and_long_kept(void **state)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qcow2_snapshot_free);
    g_autoptr(GByteArray) buf = g_byte_array_new();
    Qcow2Snapshot *none = v8_snapshot(), *more = v8_snapshot();

    g_byte_array_set_size(none->extra, 0);
    g_byte_array_append(more->extra, (const uint8_t *)"unknown!", 8);
    g_ptr_array_add(list, none);
    g_ptr_array_add(list, more);
    assert_int_equal(qcow2_snaptable_encode(list, 4096, buf), 0);

    assert_int_equal(be32_get(buf->data + 36), 24);
    assert_int_equal(be64_get(buf->data + 40), 765);
    assert_int_equal(be64_get(buf->data + 48), 4096);
    assert_int_equal(be32_get(buf->data + 72 + 36), 32);
    assert_memory_equal(buf->data + 72 + 64, "unknown!", 8);
}

/* One field of the V1 header changed. */
static void test_bad_headers_are_refused(void **state)
{
    static const struct {
        unsigned offset;
        unsigned bytes;
        uint64_t value;
        int err;
        const char *text;
    } bad[] = {
        { 0, 4, 0x514649fa, -EINVAL, "not a qcow2 image" },
        { 4, 4, 1, -ENOTSUP, "version 1" },
        { 4, 4, 4, -ENOTSUP, "version 4" },
        { 8, 8, 65537, -EINVAL, "backing file name" },
        { 16, 4, 0, 0, "" },
        { 20, 4, 8, -EINVAL, "cluster_bits 8" },
        { 20, 4, 22, -EINVAL, "cluster_bits 22" },
        { 24, 8, UINT64_MAX, -EFBIG, "disk size" },
        { 24, 8, 513ull << 20, -EINVAL, "too small" },
        { 32, 4, 3, -EINVAL, "crypt_method 3" },
        { 36, 4, 0, -EINVAL, "too small" },
        { 36, 4, 4194305, -EFBIG, "beyond 32 MiB" },
        { 40, 8, 0, -EINVAL, "overlaps the header" },
        { 40, 8, 0x30200, -EINVAL, "not aligned" },
        { 40, 8, 0xffffffffffff0000, -EINVAL, "ends too far" },
        { 48, 8, 0, -EINVAL, "no refcount table" },
        { 48, 8, 0x10001, -EINVAL, "not aligned" },
        { 56, 4, 0, -EINVAL, "no refcount table" },
        { 56, 4, 129, -EFBIG, "beyond 8 MiB" },
        { 60, 4, 65537, -EFBIG, "65537 snapshots" },
        { 60, 4, 1, -EINVAL, "overlaps the header" },
        { 64, 8, 512, -EINVAL, "not aligned" },
        { 96, 4, 7, -EINVAL, "refcount_order 7" },
        { 100, 4, 96, -EINVAL, "header_length 96" },
        { 100, 4, 108, -EINVAL, "header_length 108" },
        { 100, 4, 65544, -EINVAL, "header_length 65544" },
        { 104, 1, 1, -EINVAL, "compression_type" },
        { 72, 8, 8, -EINVAL, "compression_type" },
    };
    size_t n;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree uint8_t *buf = from_hex(v1_header, &n);
        g_autoptr(GError) error = NULL;
        Qcow2Header h;

        for (unsigned k = 0; k < bad[i].bytes; k++) {
            buf[bad[i].offset + k] = bad[i].value >>
                                     (8 * (bad[i].bytes - 1 - k));
        }
        if (qcow2_header_decode(buf, n, &h, &error) != bad[i].err) {
            fail_msg("field at %u, '%s'", bad[i].offset, bad[i].text);
        }
        if (bad[i].err && !strstr(error->message, bad[i].text)) {
            fail_msg("'%s' is not in '%s'", bad[i].text, error->message);
        }
    }
}

static void test_header_survives_decode_and_encode(void **state)
{
    size_t n;
    g_autofree uint8_t *buf = from_hex(v1_header, &n);
    uint8_t again[112] = { 0 };
    Qcow2Header h;

    assert_int_equal(qcow2_header_decode(buf, n, &h, NULL), 0);
    qcow2_header_encode(&h, again);
    assert_memory_equal(again, buf, n);
}

static void test_extension_past_the_end_is_refused(void **state)
{
    Qcow2Header h = { .version = 3, .cluster_bits = 9, .header_length = 104 };
    uint8_t buf[512] = { 0 };
    Qcow2Extensions ext;

    be32_put(buf + 104, 0xe2792aca);
    be32_put(buf + 108, 15);
    memcpy(buf + 112, "qcow2qcow2qcow2", 15);
    assert_int_equal(qcow2_extensions_decode(buf, 512, &h, &ext, NULL), 0);
    assert_string_equal(ext.backing_format, "qcow2qcow2qcow2");
    qcow2_extensions_cleanup(&ext);

    be32_put(buf + 108, 16);
    assert_int_equal(qcow2_extensions_decode(buf, 512, &h, &ext, NULL),
                     -EINVAL);
    be32_put(buf + 104, 0x12345678);
    be32_put(buf + 108, 401);
    assert_int_equal(qcow2_extensions_decode(buf, 512, &h, &ext, NULL),
                     -EINVAL);
    be32_put(buf + 108, 400);
    assert_int_equal(qcow2_extensions_decode(buf, 512, &h, &ext, NULL), 0);
    qcow2_extensions_cleanup(&ext);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_v1_default_create_has_the_known_bytes),
        TEST(test_v2_overlay_header_has_the_known_bytes),
        TEST(test_v3_v4_compressed_entries_are_taken_apart),
        TEST(test_v7_refcounts_are_packed_as_known),
        TEST(test_refcounts_of_every_width_keep_their_value),
        TEST(test_v8_snapshot_entry_has_the_known_bytes),
        TEST(test_short_extra_data_is_completed_and_long_kept),
        TEST(test_bad_headers_are_refused),
        TEST(test_header_survives_decode_and_encode),
        TEST(test_extension_past_the_end_is_refused),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
