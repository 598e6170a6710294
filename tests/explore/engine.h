/* SPDX-License-Identifier: MIT */
/*
 * Runs every schedule of a scenario, depth first.
 *
 * A schedule is a list of choices. Whenever nothing can run by itself, the
 * explorer chooses what happens next: one of the requests that are held is let
 * go, or one of the operations that have not started is started. Each schedule
 * begins with a fresh image and repeats the choices of the one before up to
 * the last place where another choice is left.
 *
 * Two prefixes that lead to the same state have the same futures, so the
 * second one is cut short ("pruned"). The state is a hash of the file, of all
 * that the driver keeps in memory, of each operation's requests and results so
 * far, of who waits and of the order in which they came.
 */
#ifndef FIRN_TESTS_EXPLORE_ENGINE_H
#define FIRN_TESTS_EXPLORE_ENGINE_H

#include "tests/explore/world.h"

typedef struct ExploreOptions {
    bool no_pruning;
    uint64_t max_schedules; /* of one scenario, 0: all */
    unsigned fail_at;       /* this request to end, from 1, fails; 0: none */
    const char *replay;     /* choices, "0.1.0"; each step is printed */
} ExploreOptions;

typedef struct ExploreCount {
    uint64_t scenarios;
    uint64_t schedules;     /* run to the end and checked */
    uint64_t pruned;
    uint64_t steps;
    uint64_t capped;        /* scenarios that were not finished */
    uint64_t failed;        /* schedules in which fail_at was reached */
    uint64_t outcomes;      /* different ends: file and results */
    uint64_t outcomes_hash; /* equal for equal sets of them */
} ExploreCount;

/* "512/cold/alloc,half", to be freed; and back. */
char *scenario_name(const Scenario *sc);
bool scenario_parse(const char *text, Scenario *ret);

/* Adds to *@count. False after a failure, which has been printed. */
bool explore(const Scenario *sc, const ExploreOptions *opts,
             ExploreCount *count);

#endif
