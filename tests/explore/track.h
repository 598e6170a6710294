/* SPDX-License-Identifier: MIT */
/*
 * Which operation each coroutine works for. co_create() is wrapped by the
 * linker: a coroutine belongs to the operation whose coroutine creates it, and
 * is forgotten when it ends. Each one has a history: a hash of the requests it
 * made and of what they gave.
 */
#ifndef FIRN_TESTS_EXPLORE_TRACK_H
#define FIRN_TESTS_EXPLORE_TRACK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Op Op;

/* Forget all; coroutines created from now on are watched, or not. */
void track_reset(bool on);
/* The next coroutine that is created is @op's own. */
void track_next(Op *op);
/* NULL: nobody's. */
Op *track_op(const void *co);
bool track_is_own(const void *co);
uint64_t track_history(const void *co);
void track_add(const void *co, uint64_t what);
/* Of all coroutines that live, in no order. */
uint64_t track_sum(void);

#endif
