/* SPDX-License-Identifier: MIT */
/*
 * Flags among the words of a command, by the rules of getopt(): letters can
 * stand together behind one dash, an argument follows its letter at once or
 * as the next word, whatever that is, flags may come behind other words, and
 * nothing behind "--" is a flag. A dash alone is a word.
 *
 * getopt() itself would be a quarter of what "read -q" costs besides the
 * request: it is made for one command line in the life of a process.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

void io_flags_init(IoFlags *f, int argc, char **argv, const char *letters)
{
    f->argc = argc;
    f->argv = argv;
    f->letters = letters;
    f->rest = "";
    f->next = 1;
    f->words = argv + 1;
    f->nb_words = 0;
}

static bool begins_flags(const char *word)
{
    return word[0] == '-' && word[1];
}

/* Go on to letters behind a dash; words on the way are collected. */
static bool find_letters(IoFlags *f)
{
    bool only_words = false;

    for (; f->next < f->argc; f->next++) {
        char *word = f->argv[f->next];

        if (only_words || !begins_flags(word)) {
            f->words[f->nb_words++] = word; /* never past f->next */
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else {
            f->next++;
            f->rest = word + 1;
            return true;
        }
    }
    return false;
}

int io_flags_next(IoFlags *f)
{
    const char *found;
    char letter;

    if (!*f->rest && !find_letters(f)) {
        return 0;
    }
    letter = *f->rest++;
    found = strchr(f->letters, letter);
    if (!found || letter == ':') {
        return io_bad_flag(f->argv[0], letter, f->letters);
    }
    if (found[1] == ':') {
        f->arg = *f->rest ? f->rest :
                 f->next < f->argc ? f->argv[f->next++] : NULL;
        f->rest = "";
        if (!f->arg) {
            return io_bad_flag(f->argv[0], letter, f->letters);
        }
    }
    return letter;
}
