/* SPDX-License-Identifier: MIT */
/*
 * Command lines of firn-img without its name, one after another; words are
 * separated by blanks, and '...' is one word.
 */
#include "words-fuzz.h"

#include <string.h>

#include "block/secret.h"
#include "tools/img/common.h"

#define MAX_WORDS 64

void fuzz_begin(AioContext *ctx)
{
}

/* Ends the process, takes as long as it says, or the memory it says. */
static bool is_left_out(const char *line, char **words)
{
    bool copies = !strcmp(words[0], "convert") || !strcmp(words[0], "commit");

    for (char **p = words; *p; p++) {
        bool is_option = **p == '-' && strcmp(*p, "--shrink") != 0;

        if ((is_option && strchr(*p, 'h')) ||
            (is_option && copies && strchr(*p, 'r'))) {
            return true;
        }
    }
    return !strcmp(words[0], "bench") ||
           fuzz_asks_for_more(line, "iter-time", 10) ||
           fuzz_asks_for_more(line, "bs=", 4096 * 1024) ||
           fuzz_asks_for_more(line, "latency-ns", 1000000) ||
           fuzz_asks_for_more(line, "delay-ns", 1000000) ||
           strstr(line, "suspend");
}

/* In place. */
static int split(char *line, char **words)
{
    int n = 0;

    while (n < MAX_WORDS) {
        char end = ' ';

        line += strspn(line, " ");
        if (!*line) {
            break;
        }
        if (*line == '\'') {
            end = *line++;
        }
        words[n++] = line;
        line = strchr(line, end);
        if (!line) {
            break;
        }
        *line++ = '\0';
    }
    words[n] = NULL;
    return n;
}

void fuzz_line(AioContext *ctx, char *line)
{
    g_autofree char *whole = g_strdup(line);
    char *words[MAX_WORDS + 1];
    int n = split(line, words);

    if (n > 0 && !is_left_out(whole, words)) {
        (void)img_run_command(n, words);
    }
}

void fuzz_end(AioContext *ctx)
{
    (void)secret_remove("s");
    (void)secret_remove("n");
}
