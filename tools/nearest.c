/* SPDX-License-Identifier: MIT */
#include "tools/nearest.h"

#include <glib.h>
#include <string.h>

#define TOO_FAR 4
#define MAX_NAME 31

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
    *n = (Nearest) { .wanted = wanted, .distance = TOO_FAR };
}

void nearest_offer(Nearest *n, const char *name)
{
    unsigned distance;

    if (strlen(n->wanted) > MAX_NAME) {
        return;
    }
    distance = edit_distance(n->wanted, name);
    /* Not something else altogether: a letter at least is the same. */
    if (distance < n->distance && distance < strlen(name)) {
        n->distance = distance;
        n->found = name;
    }
}

const char *nearest_found(const Nearest *n)
{
    return n->found;
}
