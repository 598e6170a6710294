/* SPDX-License-Identifier: MIT */
/* See words-fuzz.h. */
#include "words-fuzz.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "jail.h"
#include "mutate.h"
#include "util/units.h"

#define SEPARATORS " \t\n,=.:;{}[]\"'"
#define MOST_LINES 24       /* of an input are run */
#define MOST_TIMES 40       /* that a piece is repeated */

static AioContext *ctx;

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t max)
    __attribute__((weak));

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char option[] = "-artifact_prefix=";

    for (int i = 1; i < *argc; i++) {
        if (g_str_has_prefix((*argv)[i], option)) {
            jail_allow((*argv)[i] + strlen(option));
        }
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    g_autofree char *text = g_strndup((const char *)data, bytes);
    char *line = text, *end;

    if (!ctx) {
        ctx = aio_context_new(AIO_BACKEND_THREADS, NULL);
        if (!ctx) {
            abort();
        }
        aio_set_current(ctx);
        jail_build(ctx);
    }
    jail_enter();
    fuzz_begin(ctx);
    for (unsigned i = 0; line && i < MOST_LINES; i++) {
        end = strchr(line, '\n');
        if (end) {
            *end++ = '\0';
        }
        fuzz_line(ctx, line);
        line = end;
    }
    fuzz_end(ctx);
    jail_leave();
    return 0;
}

bool fuzz_asks_for_more(const char *line, const char *word, uint64_t max)
{
    const char *p = strstr(line, word);

    while (p) {
        uint64_t n = 0;
        const char *number = p + strlen(word);
        g_autofree char *text = NULL;

        number += strspn(number, " \t=\":");
        text = g_strndup(number, strcspn(number, SEPARATORS));
        if (parse_size(text, &n) == -ERANGE || n > max) {
            return true;
        }
        p = strstr(p + 1, word);
    }
    return false;
}

/* ---- mutation ---- */

/* A word, or what is between two, at *@ret_start. */
static size_t pick_piece(const GString *s, Rng *rng, size_t *ret_start)
{
    size_t at = rng_below(rng, s->len + 1), end;

    while (at > 0 && !strchr(SEPARATORS, s->str[at - 1])) {
        at--;
    }
    end = at + strcspn(s->str + at, SEPARATORS);
    if (rng_below(rng, 4) == 0) { /* several words */
        end += rng_below(rng, s->len - end + 1);
    }
    *ret_start = at;
    return end - at;
}

/* The line that a random place is in, its end included. */
static size_t pick_line(const GString *s, Rng *rng, size_t *ret_start)
{
    size_t at = rng_below(rng, s->len + 1), end;

    while (at > 0 && s->str[at - 1] != '\n') {
        at--;
    }
    end = at + strcspn(s->str + at, "\n");
    *ret_start = at;
    return end - at + (end < s->len);
}

static const char *pick_number(Rng *rng)
{
    static const char *const numbers[] = {
        "0", "1", "511", "512", "4096", "65535", "65536", "131072", "64k",
        "1k", "-1", "+1", "0x10", "1.5k", "2147483647", "2147483648",
        "4294967295", "4294967296", "9223372036854775807",
        "9223372036854775808", "18446744073709551615",
        "18446744073709551616", "7E", "8E", "16E", "1T", "0.0000001", "1e3",
    };

    return numbers[rng_below(rng, G_N_ELEMENTS(numbers))];
}

static void replace(GString *s, size_t at, size_t n, const char *by)
{
    g_string_erase(s, (gssize)at, (gssize)n);
    g_string_insert(s, (gssize)at, by);
}

static void mutate_once(GString *s, size_t max, Rng *rng)
{
    g_autofree char *copy = NULL;
    size_t at, n = pick_piece(s, rng, &at), to;
    const char *word = fuzz_words[rng_below(rng, fuzz_nb_words)];

    switch (rng_below(rng, 9)) {
    case 0:
    case 1:
        replace(s, at, n, word);
        break;
    case 2:
        replace(s, at, n, pick_number(rng));
        break;
    case 3:
        g_string_insert_c(s, (gssize)at,
                          SEPARATORS[rng_below(rng, strlen(SEPARATORS))]);
        g_string_insert(s, (gssize)at, word);
        break;
    case 4:
        g_string_erase(s, (gssize)at, (gssize)n);
        break;
    case 5: /* again and again */
        copy = g_strndup(s->str + at, n + (at + n < s->len));
        for (size_t i = rng_below(rng, MOST_TIMES); i > 0 && s->len < max;
             i--) {
            g_string_insert(s, (gssize)at, copy);
        }
        break;
    case 6: /* a line elsewhere */
    case 7:
        n = pick_line(s, rng, &at);
        copy = g_strndup(s->str + at, n);
        (void)pick_line(s, rng, &to);
        g_string_insert(s, (gssize)to, copy);
        break;
    default: /* without a line */
        n = pick_line(s, rng, &at);
        g_string_erase(s, (gssize)at, (gssize)n);
        break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max,
                               unsigned seed)
{
    Rng rng = { .state = seed };
    g_autoptr(GString) s = NULL;

    if (rng_below(&rng, 8) == 0 && LLVMFuzzerMutate) {
        return LLVMFuzzerMutate(data, bytes, max);
    }
    s = g_string_new_len((const char *)data, (gssize)strnlen(
                         (const char *)data, bytes));
    for (size_t i = 1 + rng_below(&rng, 5); i > 0; i--) {
        mutate_once(s, max, &rng);
    }
    bytes = MIN(s->len, max);
    memcpy(data, s->str, bytes);
    return bytes;
}
