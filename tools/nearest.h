/* SPDX-License-Identifier: MIT */
/*
 * The name somebody may have meant: offer all names there are, and take the
 * one with the fewest single-character edits.
 */
#ifndef FIRN_TOOLS_NEAREST_H
#define FIRN_TOOLS_NEAREST_H

typedef struct Nearest {
    const char *wanted;
    const char *found;
    unsigned distance;
} Nearest;

void nearest_init(Nearest *n, const char *wanted);
void nearest_offer(Nearest *n, const char *name);
/* NULL when nothing is near. */
const char *nearest_found(const Nearest *n);

#endif
