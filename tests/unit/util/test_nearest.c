/* SPDX-License-Identifier: MIT */
/* Names that were meant, and what is said about options. */
#include "tests/support/test_main.h"

#include <glib.h>
#include <string.h>

#include "util/nearest.h"

static const char *nearest(const char *wanted)
{
    Nearest n;

    nearest_init(&n, wanted);
    nearest_offer(&n, "resize");
    nearest_offer(&n, "convert");
    nearest_offer(&n, "rebase");
    nearest_offer(&n, "dd");
    return nearest_found(&n);
}

static void test_the_nearest_name_is_found(void **state)
{
    assert_string_equal(nearest("convrt"), "convert");
    assert_string_equal(nearest("rsize"), "resize");
    assert_string_equal(nearest("ddd"), "dd");
    assert_string_equal(nearest("convert"), "convert");
}

static void test_what_begins_so_comes_first(void **state)
{
    assert_string_equal(nearest("conv"), "convert");
    assert_string_equal(nearest("re"), "rebase");
}

static void test_the_first_in_the_alphabet_wins(void **state)
{
    assert_string_equal(nearest("rease"), "rebase");
    assert_string_equal(nearest("resase"), "rebase");
}

static void test_what_is_far_is_not_offered(void **state)
{
    g_autofree char *longer = g_strnfill(1 << 20, 'r');

    assert_null(nearest("frobnicate"));
    assert_null(nearest("xx"));
    assert_null(nearest(""));
    assert_null(nearest(longer));
}

static char *mistake(const char *word)
{
    static const struct option options[] = {
        { "quiet", no_argument, NULL, 'q' },
        { "force-share", no_argument, NULL, 256 },
        { "target-is-zero", no_argument, NULL, 257 },
        { "target-image-opts", no_argument, NULL, 258 },
        { "output", required_argument, NULL, 259 },
        { 0 },
    };
    g_autofree char *copy = g_strdup(word);
    char *argv[] = { (char *)"x", copy, NULL };
    const char *letters = ":hqUf:";
    int c;

    optind = 0;
    opterr = 0;
    do {
        c = getopt_long(2, argv, letters, options, NULL);
        assert_int_not_equal(c, -1);
    } while (c != '?' && c != ':');
    return nearest_option_mistake(c, argv, letters, options);
}

static void test_mistakes_in_options_are_explained(void **state)
{
    static const struct { const char *word, *text; } cases[] = {
        { "--target-is-zeroo", "there is no option '--target-is-zeroo'; did "
          "you mean '--target-is-zero'?" },
        { "--krobnicate=7", "there is no option '--krobnicate'; --help lists "
          "them" },
        { "--target", "option '--target' can be one of --target-is-zero, "
          "--target-image-opts" },
        { "--quiet=1", "option '--quiet' takes no argument" },
        { "--force-share=", "option '--force-share' takes no argument" },
        { "--output", "option '--output' needs an argument" },
        { "-f", "option '-f' needs an argument" },
        { "-u", "there is no option '-u'; did you mean '-U'?" },
        { "-qx", "there is no option '-x'; --help lists them" },
        { "-F", "there is no option '-F'; did you mean '-f'?" },
        { "--frmt", "there is no option '--frmt'; did you mean '-f'?" },
        { "--qu1t3x", "there is no option '--qu1t3x'; --help lists them" },
        { "-7", "there is no option '-7'; --help lists them" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = mistake(cases[i].word);

        assert_string_equal(text, cases[i].text);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_the_nearest_name_is_found),
    cmocka_unit_test(test_what_begins_so_comes_first),
    cmocka_unit_test(test_the_first_in_the_alphabet_wins),
    cmocka_unit_test(test_what_is_far_is_not_offered),
    cmocka_unit_test(test_mistakes_in_options_are_explained),
};

FIRN_TEST_MAIN(tests)
