/* SPDX-License-Identifier: MIT */
#ifndef FIRN_TESTS_EXPLORE_STATE_H
#define FIRN_TESTS_EXPLORE_STATE_H

#include "tests/explore/world.h"

/* Equal for states that have the same futures; see state.c. Nothing may be
 * about to run. */
uint64_t state_hash(const World *w);

#endif
