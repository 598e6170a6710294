/* SPDX-License-Identifier: MIT */
/* How the tools use memory: they copy through buffers of some MiB. */
#ifndef FIRN_TOOLS_MEMORY_H
#define FIRN_TOOLS_MEMORY_H

/*
 * Keep what was freed for the next allocation. By default malloc() gives large
 * buffers back at once, and the kernel clears each page of the next one. To be
 * called first thing in main().
 */
void tool_keep_memory(void);

#endif
