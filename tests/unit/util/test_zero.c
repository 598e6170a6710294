/* SPDX-License-Identifier: MIT */
/* Zero detection: every variant of this CPU against a plain byte loop. */
#include "tests/support/test_main.h"

#include <string.h>
#include <sys/mman.h>

#include "util/compiler.h"
#include "util/zero.h"

enum { MAX_LEN = 700, MAX_SHIFT = 65 };

static void assert_variant(const ZeroVariant *v, const uint8_t *buf,
                           size_t len, bool expected)
{
    if (v->is_zero(buf, len) != expected ||
        v->is_filled(buf, 0, len) != expected) {
        fail_msg("%s: address %% 64 = %zu, length %zu, expected %d", v->name,
                 (size_t)((uintptr_t)buf % 64), len, expected);
    }
}

static void assert_filled(const ZeroVariant *v, const uint8_t *buf,
                          uint8_t byte, size_t len, bool expected)
{
    if (v->is_filled(buf, byte, len) != expected) {
        fail_msg("%s: address %% 64 = %zu, length %zu, byte %02x, expected %d",
                 v->name, (size_t)((uintptr_t)buf % 64), len, byte, expected);
    }
}

/* Surroundings are not zero, so that a read beyond the buffer shows. */
static void test_all_variants_agree_on_every_length_and_alignment(void **state)
{
    uint8_t *area = g_malloc(MAX_LEN + 2 * MAX_SHIFT);

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        if (!v->supported()) {
            print_message("%s: not on this CPU\n", v->name);
            continue;
        }
        for (size_t shift = 0; shift < MAX_SHIFT; shift++) {
            for (size_t len = 0; len <= MAX_LEN; len++) {
                memset(area, 0xff, MAX_LEN + 2 * MAX_SHIFT);
                memset(area + shift, 0, len);
                assert_variant(v, area + shift, len, true);
            }
        }
    }
    g_free(area);
}

static void test_all_variants_find_a_single_byte_at_every_position(void **state)
{
    static const size_t shifts[] = { 0, 1, 15, 16, 31, 33, 63 };
    uint8_t *area = g_malloc0(MAX_LEN + 2 * MAX_SHIFT);

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        if (!v->supported()) {
            continue;
        }
        for (size_t s = 0; s < G_N_ELEMENTS(shifts); s++) {
            uint8_t *buf = area + shifts[s];

            for (size_t len = 1; len <= MAX_LEN; len += 1 + len / 16) {
                for (size_t pos = 0; pos < len; pos++) {
                    buf[pos] = (uint8_t)(1u << (pos % 8));
                    assert_variant(v, buf, len, false);
                    buf[pos] = 0;
                }
            }
        }
    }
    g_free(area);
}

/* In each place the bit that differs is another one. */
static void test_all_variants_find_what_is_not_the_byte(void **state)
{
    static const uint8_t bytes[] = { 0x01, 0x5a, 0x80, 0xab, 0xff };
    uint8_t *area = g_malloc(MAX_LEN + 2 * MAX_SHIFT);

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        for (size_t shift = 0; v->supported() && shift < MAX_SHIFT; shift++) {
            uint8_t byte = bytes[shift % G_N_ELEMENTS(bytes)];
            uint8_t *buf = area + shift;

            for (size_t len = 0; len <= MAX_LEN; len += 1 + len / 16) {
                memset(area, (uint8_t)~byte, MAX_LEN + 2 * MAX_SHIFT);
                memset(buf, byte, len);
                assert_filled(v, buf, byte, len, true);
                assert_filled(v, buf, byte ^ 1, len, len == 0);
                for (size_t pos = 0; pos < len; pos++) {
                    buf[pos] ^= (uint8_t)(1u << (pos % 8));
                    assert_filled(v, buf, byte, len, false);
                    buf[pos] = byte;
                }
            }
        }
    }
    g_free(area);
}

static void test_large_buffers_up_to_the_last_byte(void **state)
{
    const size_t len = 1 << 20;
    uint8_t *buf = g_malloc0(len);

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        if (!v->supported()) {
            continue;
        }
        assert_variant(v, buf, len, true);
        buf[len - 1] = 0x80;
        assert_variant(v, buf, len, false);
        assert_variant(v, buf, len - 1, true);
        buf[len - 1] = 0;
    }
    g_free(buf);
}

static void test_no_variant_reads_beyond_the_buffer(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *middle = map + page;

    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(middle + page, page, PROT_NONE), 0);

    for (const ZeroVariant *v = buffer_is_zero_variants(); v->name; v++) {
        for (size_t len = 0; v->supported() && len <= page; len++) {
            assert_variant(v, middle, len, true);
            assert_variant(v, middle + page - len, len, true);
        }
    }
    munmap(map, 3 * page);
}

static void test_dispatched_function_is_right(void **state)
{
    uint8_t buf[4096] = { 0 };

    assert_true(buffer_is_zero(buf, sizeof(buf)));
    assert_true(buffer_is_zero(buf, 0));
    assert_true(buffer_is_zero(NULL, 0));
    assert_true(buffer_is_filled(NULL, 1, 0));
    buf[4095] = 1;
    assert_false(buffer_is_zero(buf, sizeof(buf)));
    assert_true(buffer_is_zero(buf, 4095));
    assert_true(buffer_is_filled(buf + 4095, 1, 1));
    assert_false(buffer_is_filled(buf + 4094, 1, 2));
}

static void test_plain_variant_is_last_and_always_supported(void **state)
{
    const ZeroVariant *v = buffer_is_zero_variants();

    while (v[1].name) {
        v++;
    }
    assert_string_equal(v->name, "plain");
    assert_true(v->supported());
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_all_variants_agree_on_every_length_and_alignment),
    cmocka_unit_test(test_all_variants_find_a_single_byte_at_every_position),
    cmocka_unit_test(test_all_variants_find_what_is_not_the_byte),
    cmocka_unit_test(test_large_buffers_up_to_the_last_byte),
    cmocka_unit_test(test_no_variant_reads_beyond_the_buffer),
    cmocka_unit_test(test_dispatched_function_is_right),
    cmocka_unit_test(test_plain_variant_is_last_and_always_supported),
};

FIRN_TEST_MAIN(tests)
