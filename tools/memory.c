/* SPDX-License-Identifier: MIT */
#include "tools/memory.h"

#include <malloc.h>

/* The most that malloc() takes for it, and more than a tool has in use. */
#define LARGEST_KEPT (32 * 1024 * 1024)
#define MOST_KEPT    (256 * 1024 * 1024)

void tool_keep_memory(void)
{
    /* Refused, they make the tools slower and no worse. */
    (void)mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT);
    (void)mallopt(M_TRIM_THRESHOLD, MOST_KEPT);
}
