/* SPDX-License-Identifier: MIT */
/* See track.h. */
#include "tests/explore/track.h"

#include "tests/explore/world.h"
#include "util/coroutine.h"

#define MAX_TRACKED 128

typedef struct Tracked {
    Coroutine *co;          /* NULL: this one is free */
    CoroutineEntry *entry;
    void *opaque;
    Op *op;
    bool own;
    uint64_t history;
} Tracked;

static Tracked tracked[MAX_TRACKED];
static bool tracking;
static Op *next_op;

Coroutine *__real_co_create(CoroutineEntry *entry, void *opaque);
Coroutine *__wrap_co_create(CoroutineEntry *entry, void *opaque);

static Tracked *find(const void *co)
{
    for (unsigned i = 0; co && i < MAX_TRACKED; i++) {
        if (tracked[i].co == co) {
            return &tracked[i];
        }
    }
    return NULL;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    return disk_mix(h, &v, sizeof(v));
}

/* What a coroutine has learnt is from its end on known to its operation. */
static void coroutine_fn entry_and_end(void *opaque)
{
    Tracked *t = opaque;

    t->entry(t->opaque);
    if (t->op && !t->own) {
        t->op->children += mix(1, t->history);
    }
    t->co = NULL;
}

Coroutine *__wrap_co_create(CoroutineEntry *entry, void *opaque)
{
    const Tracked *parent = find(co_self());
    Tracked *t = tracked;

    if (!tracking) {
        return __real_co_create(entry, opaque);
    }
    while (t->co) {
        t++;
        assert(t < tracked + MAX_TRACKED);
    }
    *t = (Tracked) { .entry = entry, .opaque = opaque, .own = next_op,
                     .op = next_op ? next_op : parent ? parent->op : NULL };
    next_op = NULL;
    t->co = __real_co_create(entry_and_end, t);
    return t->co;
}

void track_reset(bool on)
{
    for (unsigned i = 0; i < MAX_TRACKED; i++) {
        assert(!tracked[i].co);
    }
    tracking = on;
}

void track_next(Op *op)
{
    next_op = op;
}

Op *track_op(const void *co)
{
    const Tracked *t = find(co);

    return t ? t->op : NULL;
}

bool track_is_own(const void *co)
{
    const Tracked *t = find(co);

    return t && t->own;
}

/* Two helpers of one operation that did the same are alike. */
uint64_t track_history(const void *co)
{
    const Tracked *t = find(co);

    return !t ? co != NULL
           : mix(t->history, t->op ? t->op->index * 2 + 2 + t->own : 1);
}

void track_add(const void *co, uint64_t what)
{
    Tracked *t = find(co);

    if (t) {
        t->history = mix(t->history, what);
    }
}

uint64_t track_sum(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MAX_TRACKED; i++) {
        if (tracked[i].co) {
            sum += mix(2, track_history(tracked[i].co));
        }
    }
    return sum;
}
