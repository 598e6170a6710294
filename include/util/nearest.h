/* SPDX-License-Identifier: MIT */
/*
 * The name somebody may have meant: offer all names there are, and take the
 * one with the fewest single-character edits, the first in the alphabet of
 * those. And what to say about a mistake that getopt_long() has found.
 */
#ifndef FIRN_UTIL_NEAREST_H
#define FIRN_UTIL_NEAREST_H

#include <getopt.h>

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
 * The sentence about the word for which getopt_long() has just returned @c,
 * which is '?' or ':', given the same @argv, @letters and @options; opterr is
 * 0. To be freed.
 */
char *nearest_option_mistake(int c, char *const *argv, const char *letters,
                             const struct option *options);

#endif
