/* SPDX-License-Identifier: MIT */
/*
 * Writing in a thread of its own, so that reading the image and writing a file
 * overlap. A few buffers are in flight; whoever fills them faster waits.
 * Pipes and devices are written at once, by the caller, where a signal can
 * interrupt the writing.
 */
#ifndef FIRN_TOOLS_WRITER_H
#define FIRN_TOOLS_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "tools/tool-common.h"

#define WRITER_BYTES (1U << 20)     /* of one buffer */

typedef struct Writer Writer;

Writer *writer_new(void);

/* The buffer to fill next; the same until it is submitted. */
uint8_t *writer_buffer(Writer *writer);

/*
 * Write the first @bytes of the buffer to @out at @offset (a pipe: next).
 * Returns 0, or the first error of any write so far; out->error says which.
 */
int writer_submit(Writer *writer, OutFile *out, size_t bytes,
                  uint64_t offset);

/* Wait for everything. Returns 0 or the first error; call it once. */
int writer_finish(Writer *writer);

/* writer_finish() if that was not done, and free. NULL: nothing. */
void writer_free(Writer *writer);

#endif
