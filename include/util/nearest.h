/* SPDX-License-Identifier: MIT */
/*
 * The name somebody may have meant: offer all names there are, and take the
 * one that begins with it or has the fewest single-character edits, the first
 * in the alphabet of those. And what to say about a mistake that
 * getopt_long() has found.
 */
#ifndef FIRN_UTIL_NEAREST_H
#define FIRN_UTIL_NEAREST_H

#include <getopt.h>
#include <stddef.h>

typedef struct Nearest {
    const char *wanted;
    const char *found;
    unsigned distance;
} Nearest;

void nearest_init(Nearest *n, const char *wanted);
void nearest_offer(Nearest *n, const char *name);
/* NULL when nothing is near. */
const char *nearest_found(const Nearest *n);
/*
 * What follows "there is no ...": "; did you mean 'NAME'?" with @prefix before
 * the name, or when nothing is near @otherwise. To be freed.
 */
char *nearest_hint(const Nearest *n, const char *prefix,
                   const char *otherwise);

/*
 * "'VALUE' is none of A, B and C", then "; did you mean 'A'?" when one is
 * near. @names end with NULL. To be freed.
 */
char *nearest_refusal(const char *value, const char *const *names);
#define NEAREST_LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * "there is no option '-x'", and which letter of @letters may be meant or
 * @otherwise; or "option '-x' needs an argument". To be freed.
 */
char *nearest_letter_mistake(char letter, const char *letters,
                             const char *otherwise);

/*
 * The sentence about the word for which getopt_long() has just returned @c,
 * which is '?' or ':', given the same @argv, @letters and @options; opterr is
 * 0. To be freed.
 */
char *nearest_option_mistake(int c, char *const *argv, const char *letters,
                             const struct option *options);

#endif
