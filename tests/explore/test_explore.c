/* SPDX-License-Identifier: MIT */
/*
 * Interleavings of operations on a qcow2 image: every pair of them in every
 * order in which their requests can end, a sample of triples, and pairs of
 * which one request fails. engine.h says how, world.h on what.
 *
 *   FIRN_EXPLORE_LONG=1          all triples, failures on all images
 *   FIRN_EXPLORE_SEED=n          another sample
 *   FIRN_EXPLORE_VERBOSE=1       a line for each scenario
 *   FIRN_EXPLORE_SCENARIO=name   this one only, as a failure printed it, with
 *   FIRN_EXPLORE_SCHEDULE=...    these choices, printed step by step, and
 *   FIRN_EXPLORE_FAIL_AT=n       the n-th request to end fails
 */
#include "tests/support/test_main.h"

#include <malloc.h>
#include <string.h>

#include "tests/explore/engine.h"
#include "tests/support/helpers.h"

#define NB_TRIPLES 250          /* in the sample */
#define MAX_SCHEDULES 200000    /* of one scenario */
#define MAX_FAILING 100         /* of one pair and one request that fails */
#define MAX_UNPRUNED 2000       /* beyond this pruning is not checked */

static bool is_long(void)
{
    return getenv("FIRN_EXPLORE_LONG") != NULL;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- running and reporting ---- */

static void run(const Scenario *sc, ExploreOptions opts, ExploreCount *all)
{
    int64_t start = aio_now_ns();
    ExploreCount c = *all;
    g_autofree char *name = scenario_name(sc);

    opts.max_schedules = opts.fail_at ? MAX_FAILING : MAX_SCHEDULES;
    assert_true(explore(sc, &opts, all));
    if (all->capped != c.capped && !opts.fail_at) {
        printf("%s: not finished after %d schedules\n", name, MAX_SCHEDULES);
    }
    if (getenv("FIRN_EXPLORE_VERBOSE")) {
        printf("%-32s %6" PRIu64 " schedules %6" PRIu64 " pruned %8" PRIu64
               " steps %7.3f s\n", name, all->schedules - c.schedules,
               all->pruned - c.pruned, all->steps - c.steps,
               (aio_now_ns() - start) / 1e9);
    }
}

static void report(const char *what, const ExploreCount *c, int64_t start)
{
    printf("%s: %" PRIu64 " scenarios, %" PRIu64 " schedules run, %" PRIu64
           " pruned, %" PRIu64 " steps, %" PRIu64 " capped, %.1f s\n", what,
           c->scenarios, c->schedules, c->pruned, c->steps, c->capped,
           (aio_now_ns() - start) / 1e9);
    fflush(stdout);
}

typedef void PairFunc(const Scenario *sc, ExploreCount *all);

static bool has_op(const Scenario *sc, OpKind kind)
{
    for (unsigned i = 0; i < sc->nb_ops; i++) {
        if (sc->kinds[i] == kind) {
            return true;
        }
    }
    return false;
}

/* A delete has many requests at a time. Beside two other operations, or with
 * many refcount blocks, that is for the long form. */
static bool is_for_long_form(const Scenario *sc)
{
    return (sc->image == IMAGE_REFS && sc->setup != SETUP_DIRTY) ||
           ((sc->image == IMAGE_REFS || sc->nb_ops > 2) &&
            has_op(sc, OP_DELETE));
}

/* Under a sanitizer every Nth pair has to do. */
static bool is_in_sample(void)
{
    static uint64_t nth;

    return nth++ % MAX(env_number("FIRN_EXPLORE_EVERY", 1), 1) == 0;
}

static void each_pair(ImageKind image, SetupKind setup, PairFunc *fn,
                      ExploreCount *all)
{
    for (OpKind a = 0; a < NB_OPS; a++) {
        for (OpKind b = a; b < NB_OPS; b++) {
            Scenario sc = { image, setup, 2, { a, b } };

            if ((is_long() || !is_for_long_form(&sc)) && is_in_sample()) {
                fn(&sc, all);
            }
        }
    }
}

/* ---- pairs ---- */

static void run_pair(const Scenario *sc, ExploreCount *all)
{
    run(sc, (ExploreOptions) { 0 }, all);
}

static void run_pairs(ImageKind image)
{
    for (SetupKind setup = 0; setup < NB_SETUPS; setup++) {
        int64_t start = aio_now_ns();
        ExploreCount all = { 0 };
        g_autofree char *what = g_strdup_printf("pairs of %s/%s",
                                                image_kind_name(image),
                                                setup_kind_name(setup));

        each_pair(image, setup, run_pair, &all);
        if (all.scenarios) {
            report(what, &all, start);
        }
        assert_int_equal(all.capped, 0);
    }
}

static void test_pairs_on_512_byte_clusters(void **state)
{
    run_pairs(IMAGE_512);
}

static void test_pairs_on_1k_clusters(void **state)
{
    run_pairs(IMAGE_1K);
}

static void test_pairs_on_subclusters(void **state)
{
    run_pairs(IMAGE_SUB);
}

static void test_pairs_on_many_refcount_blocks(void **state)
{
    run_pairs(IMAGE_REFS);
}

/* ---- triples ---- */

static void test_triples(void **state)
{
    uint64_t seed = env_number("FIRN_EXPLORE_SEED", 20261121), nb = 0;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    uint64_t total = (uint64_t)IMAGE_REFS * NB_SETUPS * NB_OPS *
                     (NB_OPS + 1) * (NB_OPS + 2) / 6;
    int64_t start = aio_now_ns();
    ExploreCount all = { 0 };

    for (ImageKind image = 0; image < IMAGE_REFS; image++) {
        for (unsigned i = 0; i < NB_SETUPS * NB_OPS * NB_OPS * NB_OPS; i++) {
            Scenario sc = { image, i % NB_SETUPS, 3, {
                i / NB_SETUPS % NB_OPS, i / NB_SETUPS / NB_OPS % NB_OPS,
                i / NB_SETUPS / NB_OPS / NB_OPS } };

            if (sc.kinds[0] > sc.kinds[1] || sc.kinds[1] > sc.kinds[2]) {
                continue;
            }
            if (is_long() ||
                (g_rand_double(rand) < (double)NB_TRIPLES / total &&
                 !is_for_long_form(&sc) && is_in_sample())) {
                run(&sc, (ExploreOptions) { 0 }, &all);
                nb++;
            }
        }
    }
    printf("%" PRIu64 " of %" PRIu64 " triples, seed %" PRIu64 "\n", nb,
           total, seed);
    report("triples", &all, start);
}

/* ---- pairs with a request that fails ---- */

static void run_failing(const Scenario *sc, ExploreCount *all)
{
    uint64_t failed;
    unsigned n = 0;

    do {
        failed = all->failed;
        run(sc, (ExploreOptions) { .fail_at = ++n }, all);
    } while (all->failed != failed);
}

static void test_pairs_of_which_one_request_fails(void **state)
{
    int64_t start = aio_now_ns();
    ExploreCount all = { 0 };

    for (ImageKind image = 0; image < IMAGE_REFS; image++) {
        for (SetupKind setup = 0; setup < NB_SETUPS; setup++) {
            if (is_long() || (image == IMAGE_1K && setup != SETUP_COLD)) {
                each_pair(image, setup, run_failing, &all);
            }
        }
    }
    printf("%" PRIu64 " schedules had the failure\n", all.failed);
    report("pairs with a failure", &all, start);
}

/* ---- pruning ---- */

static void compare_pruned(const Scenario *sc, ExploreCount *all)
{
    ExploreOptions opts = { .no_pruning = true,
                            .max_schedules = is_long() ? MAX_SCHEDULES
                                                       : MAX_UNPRUNED };
    ExploreCount full = { 0 }, pruned = { 0 };
    g_autofree char *name = scenario_name(sc);

    assert_true(explore(sc, &opts, &full));
    if (full.capped) {
        return;
    }
    run(sc, (ExploreOptions) { 0 }, &pruned);
    if (full.outcomes != pruned.outcomes ||
        full.outcomes_hash != pruned.outcomes_hash) {
        fail_msg("%s: %" PRIu64 " outcomes, %" PRIu64 " with pruning", name,
                 full.outcomes, pruned.outcomes);
    }
    all->scenarios++;
    all->schedules += full.schedules;
    all->steps += full.steps;
}

static void test_pruning_loses_no_outcome(void **state)
{
    int64_t start = aio_now_ns();
    ExploreCount all = { 0 };

    for (ImageKind image = 0; image < IMAGE_REFS; image++) {
        for (SetupKind setup = 0; setup < NB_SETUPS; setup++) {
            if (is_long() || (image != IMAGE_SUB && setup == SETUP_DIRTY)) {
                each_pair(image, setup, compare_pruned, &all);
            }
        }
    }
    report("pairs without pruning", &all, start);
}

/* ---- one scenario by name ---- */

static void test_named_scenario(void **state)
{
    const char *name = getenv("FIRN_EXPLORE_SCENARIO");
    ExploreOptions opts = { .replay = getenv("FIRN_EXPLORE_SCHEDULE"),
                            .fail_at = env_number("FIRN_EXPLORE_FAIL_AT", 0) };
    int64_t start = aio_now_ns();
    ExploreCount all = { 0 };
    Scenario sc;

    if (!scenario_parse(name, &sc)) {
        fail_msg("'%s' is not IMAGE/SETUP/OP,OP", name);
    }
    assert_true(explore(&sc, &opts, &all));
    report(name, &all, start);
}

/* ---- main ---- */

static int setup(void **state)
{
    int ret = test_ctx_setup(state);

    if (ret == 0) {
        world_prepare();
    }
    return ret;
}

static int teardown(void **state)
{
    world_cleanup();
    return test_ctx_teardown(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_on_512_byte_clusters),
        cmocka_unit_test(test_pairs_on_1k_clusters),
        cmocka_unit_test(test_pairs_on_subclusters),
        cmocka_unit_test(test_pairs_on_many_refcount_blocks),
        cmocka_unit_test(test_triples),
        cmocka_unit_test(test_pairs_of_which_one_request_fails),
        cmocka_unit_test(test_pruning_loses_no_outcome),
    };
    static const struct CMUnitTest one[] = {
        cmocka_unit_test(test_named_scenario),
    };

    firn_test_begin();
    /* Images are opened thousands of times: no page faults for each. */
    mallopt(M_MMAP_THRESHOLD, 64 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
    if (getenv("FIRN_EXPLORE_SCENARIO")) {
        return cmocka_run_group_tests(one, setup, teardown) ? 1 : 0;
    }
    return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
