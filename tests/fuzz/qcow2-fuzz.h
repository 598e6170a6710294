/* SPDX-License-Identifier: MIT */
/*
 * One fuzz target: bytes are taken for a qcow2 image on a memory disk. The
 * frame has libFuzzer's entry points; a target says what is done with it.
 */
#ifndef FIRN_TESTS_FUZZ_QCOW2_FUZZ_H
#define FIRN_TESTS_FUZZ_QCOW2_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "block/block.h"

/* The program's one target. Anything may fail; what must not happen is a
 * crash, a hang, much memory, or an abort by the target's own assertions. */
void fuzz_image(void);

/* The image once more, as the last call left it. NULL: cannot be opened. Never
 * opens a file that the image names. */
BlockBackend *fuzz_open(const char *options, unsigned flags);

/* The same with its backing file, which @options must name if it has one. */
BlockBackend *fuzz_open_chain(const char *options, unsigned flags);

/* Read what there is: data by block status, its ends, and a bit of the
 * rest. Bounded, whatever size the image claims. */
void fuzz_read_all(BlockBackend *blk);

/* A few small writes, zero writes, discards and flushes all over the disk. */
void fuzz_write_some(BlockBackend *blk);

/* libFuzzer's interface, for the program that only replays. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max,
                               unsigned seed);

#endif
