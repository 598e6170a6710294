/* SPDX-License-Identifier: MIT */
/*
 * Fuzz targets for words: what users and scripts write. The input is text up to
 * its first NUL, which a target takes line by line in the directory of jail.h.
 * The frame has libFuzzer's entry points and the mutator, which puts words that
 * mean something (words.c) where others were.
 */
#ifndef FIRN_TESTS_FUZZ_WORDS_FUZZ_H
#define FIRN_TESTS_FUZZ_WORDS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "util/aio.h"

/* Before the first line of an input. */
void fuzz_begin(AioContext *ctx);
/* One line, without its end; it may be changed. */
void fuzz_line(AioContext *ctx, char *line);
/* After the last line of an input. */
void fuzz_end(AioContext *ctx);

/* Whether @line has a number of more than @max after the word @word. */
bool fuzz_asks_for_more(const char *line, const char *word, uint64_t max);

/* Words to put in, @n of them. */
extern const char *const fuzz_words[];
extern const size_t fuzz_nb_words;

/* libFuzzer's interface, for the program that only replays. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max,
                               unsigned seed);

#endif
