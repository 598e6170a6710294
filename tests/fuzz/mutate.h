/* SPDX-License-Identifier: MIT */
/*
 * Breaking the bytes of images and streams, repeatably: the same generator
 * state gives the same damage.
 */
#ifndef FIRN_TESTS_FUZZ_MUTATE_H
#define FIRN_TESTS_FUZZ_MUTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Rng {
    uint64_t state;
} Rng;

uint64_t rng_next(Rng *rng);
/* 0..@limit - 1; @limit is above 0. */
uint64_t rng_below(Rng *rng, uint64_t limit);

/* Breaks @data in place; may shorten *@bytes. */
typedef void MutateFunc(uint8_t *data, size_t *bytes, Rng *rng);

/* Cuts the file anywhere. */
MutateFunc mutate_truncate;
/* Flips bits and plants awkward numbers, mostly in the metadata. */
MutateFunc mutate_image;
/* The same to a bare stream; one in four is cut too. */
MutateFunc mutate_stream;
/* The same to the first stream inside a qcow2 image, where it lies. */
MutateFunc mutate_stream_in_image;

/*
 * Find the first snapshot's stream in a good qcow2 image: by its magic at a
 * sector boundary, its length from the snapshot table. It is taken to be in
 * one piece, as a new image has it. False when there is none.
 */
bool mutate_find_stream(const uint8_t *image, size_t bytes, size_t *ret_start,
                        size_t *ret_bytes);

/*
 * @words (@length bytes, which stay) are written to stderr when the process
 * ends by a signal, to name the round that did it.
 */
void mutate_set_last_words(const char *words, size_t length);

#endif
