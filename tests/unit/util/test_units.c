/* SPDX-License-Identifier: MIT */
/* Sizes from and to text. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <glib.h>

#include "util/units.h"

#define KiB UINT64_C(1024)
#define MiB (KiB * KiB)
#define GiB (MiB * KiB)

typedef struct SizeCase {
    const char *text;
    uint64_t bytes;
} SizeCase;

static void test_sizes_are_parsed(void **state)
{
    static const SizeCase cases[] = {
        { "0", 0 }, { "1", 1 }, { "00512", 512 }, { "512", 512 },
        { "4096b", 4096 }, { "4096B", 4096 },
        { "64k", 64 * KiB }, { "64K", 64 * KiB }, { "3m", 3 * MiB },
        { "2G", 2 * GiB }, { "2g", 2 * GiB }, { "1T", KiB * GiB },
        { "1P", MiB * GiB }, { "15E", 15 * GiB * GiB },
        { "1.5G", GiB + GiB / 2 }, { "0.5k", 512 }, { "1.25M", 1310720 },
        { "0.1k", 102 }, { "0.999999999999999999999999999999k", 1023 },
        { "1.0M", MiB }, { "15.5E", UINT64_C(31) << 59 },
        { "+1", 1 }, { " 1k", KiB }, { "\t +0x10", 16 }, { "+0.5k", 512 },
        { "1.k", KiB }, { "7.", 7 }, { "7.b", 7 },
        { "0x1000", 4096 }, { "0XfF", 255 }, { "0x1b", 27 },
        { "18446744073709551615", UINT64_MAX },
        { "0xffffffffffffffff", UINT64_MAX },
        { "18014398509481983k", UINT64_MAX - 1023 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t bytes = 42;

        if (parse_size(cases[i].text, &bytes) != 0 ||
            bytes != cases[i].bytes) {
            fail_msg("'%s': %" G_GUINT64_FORMAT, cases[i].text, bytes);
        }
    }
}

static void assert_refused(const char *text, int err)
{
    uint64_t bytes = 42;
    int ret = parse_size(text, &bytes);

    if (ret != err || bytes != 42) {
        fail_msg("'%s': returned %d, expected %d", text, ret, err);
    }
}

static void test_what_is_not_a_size_is_invalid(void **state)
{
    static const char *const cases[] = {
        "", " ", "+", "-1", "++1", "+ 1", "+-1", "1 ", "1 k", "k", ".", ".5k",
        ".k", "1.5", "1.5b", "1kk", "1kB", "1KiB", "1x", "abc", "0x", "0xg",
        "0x10k", "0x1.8", "1e3", "1,5k", "1..5k", "1..", "0x1.", "1.5.5k",
        "nan", "inf", "99999999999999999999z", "1\n", "1Z",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_refused(cases[i], -EINVAL);
    }
}

static void test_what_does_not_fit_is_out_of_range(void **state)
{
    static const char *const cases[] = {
        "18446744073709551616", "99999999999999999999999", "16E", "16384P",
        "18014398509481984k", "0x10000000000000000", "20000000000000000000b",
        "100000000000000000000.5k",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_refused(cases[i], -ERANGE);
    }
}

static void test_sizes_are_formatted(void **state)
{
    static const SizeCase cases[] = {
        { "0 B", 0 }, { "1 B", 1 }, { "512 B", 512 }, { "1023 B", 1023 },
        { "1 KiB", 1024 }, { "1.5 KiB", 1536 }, { "64 KiB", 65536 },
        { "1 MiB", MiB - 1 }, { "1 MiB", MiB }, { "1023 KiB", 1023 * KiB },
        { "1000 KiB", 1000 * KiB }, { "999 KiB", 999 * KiB },
        { "761 MiB", 761 * MiB }, { "1.5 GiB", GiB + GiB / 2 },
        { "2 GiB", 2 * GiB }, { "1.25 GiB", GiB + GiB / 4 },
        { "12.3 TiB", UINT64_C(13524066906317) },
        { "1 EiB", GiB * GiB }, { "16 EiB", UINT64_MAX },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *text = format_size(cases[i].bytes);

        assert_string_equal(text, cases[i].text);
        g_free(text);
    }
}

static void test_whole_units_survive_a_round_trip(void **state)
{
    for (int shift = 0; shift <= 60; shift += 10) {
        char *text = format_size(UINT64_C(3) << shift);
        uint64_t bytes;

        /* "3 KiB" to "3K" */
        text[1] = text[2];
        text[2] = '\0';
        assert_int_equal(parse_size(text, &bytes), 0);
        assert_int_equal(bytes, UINT64_C(3) << shift);
        g_free(text);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_sizes_are_parsed),
    cmocka_unit_test(test_what_is_not_a_size_is_invalid),
    cmocka_unit_test(test_what_does_not_fit_is_out_of_range),
    cmocka_unit_test(test_sizes_are_formatted),
    cmocka_unit_test(test_whole_units_survive_a_round_trip),
};

FIRN_TEST_MAIN(tests)
