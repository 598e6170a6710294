/* SPDX-License-Identifier: MIT */
/* Progress: rate, time left and the line that shows them. */
#include "tests/support/test_main.h"

#include <glib.h>
#include <string.h>

#include "util/progress.h"

#define SECOND INT64_C(1000000000)
#define MiB (UINT64_C(1) << 20)
#define GiB (UINT64_C(1) << 30)

static void assert_line(const Progress *p, int64_t now_ns, unsigned width,
                        const char *expected)
{
    GString *out = g_string_new("x");

    progress_render(p, now_ns, width, out);
    assert_string_equal(out->str + 1, expected);
    assert_true(out->len - 1 <= width);
    g_string_free(out, TRUE);
}

static void test_steady_work_gives_its_rate_and_the_time_left(void **state)
{
    Progress p;

    progress_init(&p, 100 * MiB, 5 * SECOND);
    assert_int_equal(progress_rate(&p, 5 * SECOND), 0);
    assert_int_equal(progress_eta_seconds(&p, 5 * SECOND), -1);
    for (uint64_t i = 1; i <= 50; i++) {
        progress_update(&p, i * MiB, 5 * SECOND + (int64_t)i * SECOND / 5);
    }

    assert_true(progress_fraction(&p) == 0.5);
    assert_in_range(progress_rate(&p, 15 * SECOND), 5 * MiB - 9, 5 * MiB + 9);
    assert_int_equal(progress_eta_seconds(&p, 15 * SECOND), 10);
    progress_update(&p, 100 * MiB, 25 * SECOND);
    assert_int_equal(progress_eta_seconds(&p, 25 * SECOND), 0);
}

static void test_rate_follows_a_change_smoothly(void **state)
{
    Progress p;
    uint64_t after_one_s;

    progress_init(&p, GiB, 0);
    for (int i = 1; i <= 10; i++) {
        progress_update(&p, (uint64_t)i * 10 * MiB, i * SECOND);
    }
    progress_update(&p, 110 * MiB + 10 * MiB, 11 * SECOND);
    after_one_s = progress_rate(&p, 11 * SECOND);
    assert_in_range(after_one_s, 11 * MiB, 19 * MiB);
    for (int i = 1; i <= 20; i++) {
        progress_update(&p, (uint64_t)(120 + i * 20) * MiB,
                        (11 + i) * SECOND);
    }
    assert_in_range(progress_rate(&p, 31 * SECOND), 19 * MiB, 20 * MiB);
}

static void test_many_small_updates_are_one_sample(void **state)
{
    Progress p;

    progress_init(&p, GiB, 0);
    for (uint64_t i = 1; i <= 99; i++) {
        progress_update(&p, i * 1000, (int64_t)i * 1000000);
    }
    assert_true(p.rate == 0);
    assert_int_equal(p.current, 99000);
    progress_update(&p, 100000, SECOND / 10);
    assert_true(p.rate > 999999 && p.rate < 1000001);
}

static void test_going_back_restarts_the_rate(void **state)
{
    Progress p;

    progress_init(&p, GiB, 0);
    progress_update(&p, 100 * MiB, SECOND);
    progress_update(&p, 10 * MiB, 2 * SECOND);
    assert_true(p.rate == 0);
    progress_update(&p, 20 * MiB, 3 * SECOND);
    assert_int_equal(progress_rate(&p, 3 * SECOND), 10 * MiB);
}

static void test_unknown_total_has_neither_fraction_nor_eta(void **state)
{
    Progress p;

    progress_init(&p, 0, 0);
    progress_update(&p, 2 * MiB, SECOND);
    assert_true(progress_fraction(&p) == 0);
    assert_int_equal(progress_eta_seconds(&p, SECOND), -1);
    assert_line(&p, SECOND, 60, " 2 MiB  2 MiB/s");

    progress_set_total(&p, 4 * MiB);
    assert_true(progress_fraction(&p) == 0.5);
    assert_int_equal(progress_eta_seconds(&p, SECOND), 1);
}

static void test_line_gives_the_bar_what_the_text_leaves(void **state)
{
    Progress p;

    progress_init(&p, 2 * GiB, 0);
    progress_update(&p, 768 * MiB, SECOND);

    assert_line(&p, SECOND, 60,
        " 37% [######          ] 768 MiB / 2 GiB  768 MiB/s  ETA 0:02");
    assert_line(&p, SECOND, 45,
        " 37% 768 MiB / 2 GiB  768 MiB/s  ETA 0:02");
    assert_line(&p, SECOND, 35, " 37% 768 MiB / 2 GiB  768 MiB/s");
    assert_line(&p, SECOND, 25, " 37% 768 MiB / 2 GiB");
}

static void test_full_and_more_than_full_is_hundred_percent(void **state)
{
    Progress p;

    progress_init(&p, 10 * MiB, 0);
    progress_update(&p, 10 * MiB - 1, SECOND);
    assert_line(&p, SECOND, 20, " 99% 10 MiB / 10 MiB");
    progress_update(&p, 11 * MiB, 2 * SECOND);
    assert_line(&p, 2 * SECOND, 58,
        "100% [################] 11 MiB / 10 MiB  7 MiB/s  ETA 0:00");
}

static void test_line_never_exceeds_its_width(void **state)
{
    static const uint64_t totals[] = { 0, 1, 1023 * MiB, UINT64_MAX };
    Progress p;
    GString *out = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(totals); i++) {
        for (unsigned width = 20; width < 200; width++) {
            progress_init(&p, totals[i], 0);
            progress_update(&p, totals[i] / 3 + 1, SECOND * 100000);
            g_string_truncate(out, 0);
            progress_render(&p, SECOND * 100000, width, out);
            assert_true(out->len <= width);
            assert_int_equal(strlen(out->str), out->len);
        }
    }
    g_string_free(out, TRUE);
}

static void test_long_times_are_shown_in_hours(void **state)
{
    Progress p;

    progress_init(&p, 3724, 0);
    progress_update(&p, 1, SECOND);
    assert_int_equal(progress_eta_seconds(&p, SECOND), 3723);
    assert_line(&p, SECOND, 43, "  0% 1 B / 3.64 KiB  1 B/s  ETA 1:02:03");
    progress_set_total(&p, UINT64_C(1) << 62);
    assert_line(&p, SECOND, 43, "  0% 1 B / 4 EiB  1 B/s  ETA 9999h+");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_steady_work_gives_its_rate_and_the_time_left),
    cmocka_unit_test(test_rate_follows_a_change_smoothly),
    cmocka_unit_test(test_many_small_updates_are_one_sample),
    cmocka_unit_test(test_going_back_restarts_the_rate),
    cmocka_unit_test(test_unknown_total_has_neither_fraction_nor_eta),
    cmocka_unit_test(test_line_gives_the_bar_what_the_text_leaves),
    cmocka_unit_test(test_full_and_more_than_full_is_hundred_percent),
    cmocka_unit_test(test_line_never_exceeds_its_width),
    cmocka_unit_test(test_long_times_are_shown_in_hours),
};

FIRN_TEST_MAIN(tests)
