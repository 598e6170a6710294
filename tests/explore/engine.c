/* SPDX-License-Identifier: MIT */
/* See engine.h. */
#include "tests/explore/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/explore/state.h"
#include "tests/support/helpers.h"

#define MAX_CHOICES 400
#define MAX_TURNS 100000    /* of the loop in one step */

typedef struct Choice {
    uint8_t nb;
    uint8_t pick;
    uint64_t state;     /* hash of where it was made, 0: not known */
} Choice;

typedef enum Outcome { RUN_CHECKED, RUN_PRUNED, RUN_FAILED } Outcome;

typedef struct Engine {
    const Scenario *sc;
    const ExploreOptions *opts;
    World w;
    Choice path[MAX_CHOICES];
    unsigned known;     /* choices that are prescribed */
    unsigned depth;     /* choices made in this run */
    unsigned released;  /* requests in this run */
    uint64_t steps;
    GHashTable *seen;       /* hashes of states */
    GHashTable *outcomes;   /* hashes of what schedules ended in */
} Engine;

static Engine engine;

/* ---- names ---- */

char *scenario_name(const Scenario *sc)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "%s/%s/", image_kind_name(sc->image),
                           setup_kind_name(sc->setup));
    for (unsigned i = 0; i < sc->nb_ops; i++) {
        g_string_append_printf(s, "%s%s", i ? "," : "",
                               op_info[sc->kinds[i]].name);
    }
    return g_string_free(s, FALSE);
}

static int find_op(const char *name)
{
    for (int i = 0; i < NB_OPS; i++) {
        if (!strcmp(name, op_info[i].name)) {
            return i;
        }
    }
    return -1;
}

bool scenario_parse(const char *text, Scenario *ret)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 3);
    g_auto(GStrv) ops = NULL;

    *ret = (Scenario) { .image = NB_IMAGES, .setup = NB_SETUPS };
    if (g_strv_length(parts) != 3) {
        return false;
    }
    for (ImageKind i = 0; i < NB_IMAGES; i++) {
        ret->image = strcmp(parts[0], image_kind_name(i)) ? ret->image : i;
    }
    for (SetupKind i = 0; i < NB_SETUPS; i++) {
        ret->setup = strcmp(parts[1], setup_kind_name(i)) ? ret->setup : i;
    }
    ops = g_strsplit(parts[2], ",", MAX_OPS + 1);
    ret->nb_ops = g_strv_length(ops);
    if (ret->image == NB_IMAGES || ret->setup == NB_SETUPS ||
        ret->nb_ops > MAX_OPS) {
        return false;
    }
    for (unsigned i = 0; i < ret->nb_ops; i++) {
        int kind = find_op(ops[i]);

        if (kind < 0) {
            return false;
        }
        ret->kinds[i] = kind;
    }
    return true;
}

/* What makes the failure happen again. */
static void print_replay(const Engine *e)
{
    g_autofree char *name = scenario_name(e->sc);

    fprintf(stderr, "  again: FIRN_EXPLORE_SCENARIO=%s "
            "FIRN_EXPLORE_SCHEDULE=", name);
    for (unsigned i = 0; i < e->depth; i++) {
        fprintf(stderr, "%s%u", i ? "." : "", e->path[i].pick);
    }
    fprintf(stderr, "%s", e->depth ? "" : "-");
    if (e->opts->fail_at) {
        fprintf(stderr, " FIRN_EXPLORE_FAIL_AT=%u", e->opts->fail_at);
    }
    fprintf(stderr, "\n");
}

/* An assertion of the driver, or an alarm: say where. */
static void on_signal(int sig)
{
    fprintf(stderr, "explorer: signal %d\n", sig);
    print_replay(&engine);
    signal(sig, SIG_DFL);
    raise(sig);
}

/* ---- one step ---- */

static void coroutine_stuck(Engine *e, const char *what)
{
    fprintf(stderr, "explorer: %s\n", what);
    print_replay(e);
    abort(); /* there are coroutines that cannot be ended */
}

/* Run all that can run without a request ending. */
static void settle(Engine *e)
{
    for (unsigned i = 0; aio_poll(test_ctx, false); i++) {
        if (i == MAX_TURNS) {
            coroutine_stuck(e, "the loop does not come to rest");
        }
    }
}

/* Operations that may start now: of equal ones only the first. */
static unsigned startable(const World *w, unsigned *ret)
{
    unsigned n = 0, kinds = 0;

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *op = &w->ops[i];

        if (!op->started && !(kinds >> op->kind & 1)) {
            kinds |= 1u << op->kind;
            ret[n++] = i;
        }
    }
    return n;
}

static bool all_ended(const World *w)
{
    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        if (!w->ops[i].ended) {
            return false;
        }
    }
    return true;
}

static void print_step(Engine *e, unsigned pick, const unsigned *start)
{
    unsigned held = disk_nb_held();

    if (pick < held) {
        const DiskRequest *r = disk_held(pick);
        const Op *op = track_op(r->who);

        printf("%4u: %s%s %s %#" PRIx64 " + %" PRIu64 "\n", e->depth,
               op ? op_info[op->kind].name : "?",
               track_is_own(r->who) ? "" : "'s helper",
               disk_type_name(r->type), r->offset, r->bytes);
    } else {
        const Op *op = &e->w.ops[start[pick - held]];

        printf("%4u: %s starts\n", e->depth, op_info[op->kind].name);
    }
}

/* Let a request go, and write it and its result into its coroutine's
 * history. */
static void let_go(Engine *e, unsigned i)
{
    World *w = &e->w;
    const DiskRequest *r = disk_held(i);
    bool fail = ++e->released == e->opts->fail_at && r->type != DISK_COMPUTE;
    Op *op = track_op(r->who);

    track_add(r->who, r->hash);
    if (fail) {
        w->failed = true;
        track_add(r->who, 1);
    } else if (r->type == DISK_READ) {
        track_add(r->who, disk_mix(0, disk_bytes() + r->offset, r->bytes));
    }
    if (op && track_is_own(r->who)) {
        op->last_run = w->clock++;
    }
    disk_release(i, fail ? EIO : 0);
}

static void step(Engine *e, unsigned pick, const unsigned *start)
{
    unsigned held = disk_nb_held();

    e->steps++;
    if (e->opts->replay) {
        print_step(e, pick, start);
    }
    if (pick < held) {
        let_go(e, pick);
    } else {
        op_start(&e->w.ops[start[pick - held]]);
    }
    settle(e);
}

/* ---- one schedule ---- */

/* The same choices led here before. If the hash is another one now, it depends
 * on more than the state (addresses, bytes nobody has set), and pruning finds
 * nothing again. */
static void check_repeatable(Engine *e, const Choice *c)
{
    if (c->state && state_hash(&e->w) != c->state) {
        coroutine_stuck(e, "the same choices led to another state");
    }
}

/* Which of @nb things comes next; @nb if this state was met before. */
static unsigned choose(Engine *e, unsigned nb)
{
    uint64_t state = 0;

    if (nb == 1) {
        return 0;
    }
    if (e->depth < e->known) {
        Choice *c = &e->path[e->depth++];

        assert(e->opts->replay ? c->pick < nb : c->nb == nb);
        if (e->depth == e->known) {
            check_repeatable(e, c);
        }
        return c->pick;
    }
    if (!e->opts->no_pruning && !e->opts->replay) {
        state = state_hash(&e->w);
        if (!g_hash_table_add(e->seen, (gpointer)state)) {
            return nb;
        }
    }
    if (e->depth == MAX_CHOICES) {
        coroutine_stuck(e, "too many choices in one schedule");
    }
    e->path[e->depth++] = (Choice) { .nb = nb, .state = state };
    e->known = e->depth;
    return 0;
}

/* Go on until everything has ended, or, when that is all in vain, to a known
 * state and from there somehow to the end. */
static Outcome run_choices(Engine *e)
{
    unsigned start[MAX_OPS];
    Outcome ret = RUN_CHECKED;

    for (;;) {
        unsigned nb = startable(&e->w, start) + disk_nb_held();
        unsigned pick = 0;

        if (!nb) {
            break;
        }
        if (ret == RUN_CHECKED) {
            pick = choose(e, nb);
        }
        if (pick == nb) {
            ret = RUN_PRUNED;
            pick = 0;
        }
        step(e, pick, start);
    }
    if (!all_ended(&e->w)) {
        coroutine_stuck(e, "nothing is held, but an operation still waits");
    }
    return ret;
}

/* What somebody outside could tell of this schedule. */
static uint64_t outcome_hash(const World *w)
{
    uint64_t h = disk_hash();

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *op = &w->ops[i];

        h = disk_mix(h, &op->ret, sizeof(op->ret));
        h = disk_mix(h, op->seen, sizeof(op->seen));
    }
    return h;
}

static Outcome run_schedule(Engine *e)
{
    unsigned live = co_live_count();
    World *w = &e->w;
    Outcome ret;

    e->depth = 0;
    e->released = 0;
    world_open(w, e->sc);
    ret = run_choices(e);
    if (ret == RUN_PRUNED) {
        world_abandon(w);
    } else {
        world_close(w);
        g_hash_table_add(e->outcomes, (gpointer)outcome_hash(w));
    }
    if (co_live_count() != live) {
        world_fail(w, "%d coroutines are left", (int)(co_live_count() - live));
    }
    if (w->error) {
        fprintf(stderr, "explorer: %s\n", w->error);
        print_replay(e);
        g_free(w->error);
        return RUN_FAILED;
    }
    return ret;
}

static void count_outcomes(Engine *e, ExploreCount *count)
{
    GHashTableIter iter;
    gpointer hash;

    g_hash_table_iter_init(&iter, e->outcomes);
    while (g_hash_table_iter_next(&iter, &hash, NULL)) {
        count->outcomes++;
        count->outcomes_hash += (uintptr_t)hash;
    }
    g_hash_table_unref(e->outcomes);
    g_hash_table_unref(e->seen);
}

/* ---- all schedules ---- */

/* Turn to the next one; false: that was the last. */
static bool next_schedule(Engine *e)
{
    e->known = e->depth;
    while (e->known > 0) {
        Choice *c = &e->path[e->known - 1];

        if (++c->pick < c->nb) {
            return true;
        }
        e->known--;
    }
    return false;
}

static void prescribe(Engine *e, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ".", MAX_CHOICES);

    for (unsigned i = 0; parts[i]; i++) {
        e->path[e->known++].pick = strtoul(parts[i], NULL, 10);
    }
}

static void watch_signals(bool on)
{
    static const int signals[] = { SIGABRT, SIGSEGV, SIGALRM };

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        signal(signals[i], on ? on_signal : SIG_DFL);
    }
}

bool explore(const Scenario *sc, const ExploreOptions *opts,
             ExploreCount *count)
{
    Engine *e = &engine;
    uint64_t max = opts->replay ? 1 : opts->max_schedules;
    uint64_t done = 0;
    bool ok = true, more = true;

    *e = (Engine) { .sc = sc, .opts = opts,
                    .seen = g_hash_table_new(NULL, NULL),
                    .outcomes = g_hash_table_new(NULL, NULL) };
    if (opts->replay) {
        prescribe(e, opts->replay);
    }
    watch_signals(true);
    while (ok && more && (!max || done < max)) {
        Outcome outcome = run_schedule(e);

        ok = outcome != RUN_FAILED;
        count->schedules += outcome != RUN_PRUNED;
        count->pruned += outcome == RUN_PRUNED;
        count->failed += e->w.failed;
        more = next_schedule(e);
        done++;
    }
    watch_signals(false);
    count_outcomes(e, count);
    count->capped += ok && more && !opts->replay;
    count->steps += e->steps;
    count->scenarios++;
    return ok;
}
