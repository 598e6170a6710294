/* SPDX-License-Identifier: MIT */
#include "util/nearest.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define TOO_FAR 4
#define MAX_NAME 63
/* Names that begin with what is wanted come before all others. */
#define NO_PREFIX (MAX_NAME + 1)

/* Single-character edits that turn @a into @b. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[MAX_NAME + 1], above_left, above, i, j;
    size_t la = strlen(a), lb = MIN(strlen(b), MAX_NAME);

    for (j = 0; j <= lb; j++) {
        row[j] = j;
    }
    for (i = 1; i <= la; i++) {
        above_left = row[0];
        row[0] = i;
        for (j = 1; j <= lb; j++) {
            above = row[j];
            row[j] = MIN(MIN(row[j], row[j - 1]) + 1,
                         above_left + (a[i - 1] != b[j - 1]));
            above_left = above;
        }
    }
    return row[lb];
}

void nearest_init(Nearest *n, const char *wanted)
{
    *n = (Nearest) { .wanted = wanted, .distance = NO_PREFIX + TOO_FAR };
}

void nearest_offer(Nearest *n, const char *name)
{
    unsigned distance, edits;

    if (strlen(n->wanted) > MAX_NAME) {
        return;
    }
    distance = edits = edit_distance(n->wanted, name);
    if (!*n->wanted || !g_str_has_prefix(name, n->wanted)) {
        distance += NO_PREFIX;
    }
    if (n->found && distance == n->distance && strcmp(name, n->found) < 0) {
        n->found = name;
    }
    /* Not something else altogether: a letter at least is the same. */
    if (distance < n->distance && edits < strlen(name)) {
        n->distance = distance;
        n->found = name;
    }
}

const char *nearest_found(const Nearest *n)
{
    return n->found;
}

char *nearest_hint(const Nearest *n, const char *prefix,
                   const char *otherwise)
{
    return n->found ? g_strdup_printf("; did you mean '%s%s'?", prefix,
                                      n->found)
                    : g_strdup(otherwise);
}

char *nearest_refusal(const char *value, const char *const *names)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, value);
    for (size_t i = 0; names[i]; i++) {
        const char *glue = i == 0 ? "" : names[i + 1] ? ", " : " and ";

        g_string_append_printf(out, "%s%s", glue, names[i]);
        nearest_offer(&n, names[i]);
    }
    hint = nearest_hint(&n, "", "");
    return g_strdup_printf("'%s' is %s %s%s", value,
                           names[0] && names[1] ? "none of" : "not", out->str,
                           hint);
}

/* ---- getopt_long() ---- */

static const char lists_them[] = "; --help lists them";

char *nearest_letter_mistake(char letter, const char *letters,
                             const char *otherwise)
{
    char other = g_ascii_islower(letter) ? g_ascii_toupper(letter)
                                         : g_ascii_tolower(letter);

    if (letter != ':' && strchr(letters, letter)) {
        return g_strdup_printf("option '-%c' needs an argument", letter);
    }
    if (g_ascii_isalpha(letter) && strchr(letters, other)) {
        return g_strdup_printf("there is no option '-%c'; did you mean "
                               "'-%c'?", letter, other);
    }
    return g_strdup_printf("there is no option '-%c'%s", letter, otherwise);
}

/* Options without a long name have the letter that their name starts with. */
static bool is_only_letter(char letter, const char *letters,
                           const struct option *options)
{
    if (!g_ascii_isalpha(letter) || !strchr(letters, letter)) {
        return false;
    }
    for (; options->name; options++) {
        if (options->val == letter) {
            return false;
        }
    }
    return true;
}

/* @given, without its dashes, is no option or the start of several. */
static char *long_mistake(const char *given, const char *letters,
                          const struct option *all)
{
    const struct option *options = all;
    g_autoptr(GString) starts = g_string_new(NULL);
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, given);
    for (; options->name; options++) {
        nearest_offer(&n, options->name);
        if (*given && g_str_has_prefix(options->name, given)) {
            g_string_append_printf(starts, "%s--%s", starts->len ? ", " : "",
                                   options->name);
        }
    }
    if (starts->len) {
        return g_strdup_printf("option '--%s' can be one of %s", given,
                               starts->str);
    }
    if (!nearest_found(&n) && is_only_letter(*given, letters, all)) {
        return g_strdup_printf("there is no option '--%s'; did you mean "
                               "'-%c'?", given, *given);
    }
    hint = nearest_hint(&n, "--", lists_them);
    return g_strdup_printf("there is no option '--%s'%s", given, hint);
}

static bool is_name_of(const char *given, const struct option *options)
{
    for (; options->name; options++) {
        if (!strcmp(given, options->name)) {
            return true;
        }
    }
    return false;
}

char *nearest_option_mistake(int c, char *const *argv, const char *letters,
                             const struct option *options)
{
    const char *word = argv[MAX(optind - 1, 1)];
    g_autofree char *given = NULL;

    if (g_str_has_prefix(word, "--")) {
        given = g_strndup(word + 2, strcspn(word + 2, "="));
    }
    if (c == ':') {
        return g_strdup_printf("option '%s' needs an argument", word);
    }
    if (given && strchr(word, '=') && is_name_of(given, options)) {
        return g_strdup_printf("option '--%s' takes no argument", given);
    }
    if (optopt > 0 && optopt < 256) {
        return nearest_letter_mistake((char)optopt, letters, lists_them);
    }
    return given ? long_mistake(given, letters, options)
                 : g_strdup_printf("option '%s' is not understood", word);
}
