/* SPDX-License-Identifier: MIT */
/*
 * What the operations of one schedule may have read and left behind.
 *
 * Every order of the operations that respects real time (what had ended before
 * another one started comes first) is played on a plain array of cells. Each
 * cell is an object of its own, since a request of several clusters is done in
 * pieces: it must agree with one of the orders, but different cells may agree
 * with different ones. A snapshot is of one moment: the set of operations
 * before it must be the same for all cells.
 */
#include "tests/explore/world.h"

#include <errno.h>

#define NB_ORDERS 6

/* ---- errors ---- */

static bool before(const Op *a, const Op *b)
{
    return a->end_seq < b->start_seq;
}

/* Is there an operation of @kind beside @op that it may have met? */
static bool met(const World *w, const Op *op, OpKind kind)
{
    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *other = &w->ops[i];

        if (other != op && other->kind == kind && !before(other, op) &&
            !before(op, other)) {
            return true;
        }
    }
    return false;
}

static bool deleted_by_another(const World *w, const Op *op)
{
    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *other = &w->ops[i];

        if (other != op && other->kind == OP_DELETE && other->ret == 0 &&
            !before(op, other)) {
            return true;
        }
    }
    return false;
}

/* Has @op met, or come after, something that may have allocated a cluster
 * that it writes? */
static bool allocated_by_another(const World *w, const Op *op)
{
    const OpInfo *info = &op_info[op->kind];

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const OpInfo *other = &op_info[w->ops[i].kind];

        if (&w->ops[i] != op && !before(op, &w->ops[i]) && other->nb &&
            other->first < info->first + info->nb) {
            return true;
        }
    }
    return false;
}

static bool error_is_expected(const World *w, const Op *op)
{
    switch (op->kind) {
    case OP_CREATE:
    case OP_RESIZE:
    case OP_VMSAVE:
        return op->ret == -EBUSY && met(w, op, OP_VMSAVE);
    case OP_DELETE:
        return op->ret == -ENOENT && deleted_by_another(w, op);
    case OP_COMPRESS:
        return op->ret == -EIO && allocated_by_another(w, op);
    default:
        return false;
    }
}

/* ---- one order ---- */

typedef struct Play {
    uint64_t cells[NB_CELLS];
    uint64_t vmstate;
    bool resized;
    uint32_t agree;         /* bit per cell */
    bool vmstate_agrees;
    unsigned key;           /* which operations precede each snapshot */
} Play;

static void compare(Play *p, const uint64_t *seen, unsigned first,
                    unsigned nb)
{
    for (unsigned c = first; c < first + nb; c++) {
        if (seen[c] != p->cells[c]) {
            p->agree &= ~(1u << c);
        }
    }
}

static void play_op(Play *p, const World *w, const Op *op, unsigned done)
{
    const OpInfo *info = &op_info[op->kind];

    if (op->ret < 0) {
        return;
    }
    switch (op->kind) {
    case OP_READ:
    case OP_MISS:
        compare(p, op->seen, info->first, info->nb);
        break;
    case OP_CREATE:
        compare(p, w->created[op->index], 0, NB_CELLS);
        p->key |= done << (op->index * MAX_OPS);
        p->vmstate = CELL_ZERO;
        break;
    case OP_RESIZE:
        p->vmstate = p->resized ? p->vmstate : CELL_ZERO;
        p->resized = true; /* a second one finds that size */
        break;
    case OP_VMSAVE:
        p->vmstate = cell_value(STAMP_VMSTATE + op->index, 0);
        break;
    default:
        for (unsigned c = info->first; c < info->first + info->nb; c++) {
            p->cells[c] = info->zeroes ? CELL_ZERO
                          : cell_value(STAMP_OP + op->index, c);
        }
        break;
    }
}

/* False: @order contradicts real time. */
static bool play(const World *w, const uint8_t *order, Play *p)
{
    unsigned n = w->scenario->nb_ops, done = 0;

    *p = (Play) { .agree = (1u << NB_CELLS) - 1 };
    cells_before(w->scenario, p->cells);
    for (unsigned i = 0; i < n; i++) {
        const Op *op = &w->ops[order[i]];

        for (unsigned k = i + 1; k < n; k++) {
            if (before(&w->ops[order[k]], op)) {
                return false;
            }
        }
        play_op(p, w, op, done);
        done |= 1u << op->index;
    }
    compare(p, w->final, 0, NB_CELLS);
    p->vmstate_agrees = p->vmstate == w->vmstate;
    return true;
}

/* ---- all of them ---- */

void model_check(World *w)
{
    static const uint8_t orders[NB_ORDERS][MAX_OPS] = {
        { 0, 1, 2 }, { 1, 0, 2 }, { 0, 2, 1 },
        { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
    };
    static const unsigned nb_orders[MAX_OPS + 1] = { 1, 1, 2, 6 };
    unsigned n = nb_orders[w->scenario->nb_ops];
    uint32_t all = (1u << NB_CELLS) - 1, best = 0;
    Play plays[NB_ORDERS];
    bool vmstate = false, possible[NB_ORDERS];

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *op = &w->ops[i];

        if (op->ret < 0 && !error_is_expected(w, op)) {
            world_fail(w, "%s (operation %u) failed: %s",
                       op_info[op->kind].name, i, g_strerror(-op->ret));
            return;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        possible[i] = play(w, orders[i], &plays[i]);
        vmstate = vmstate || (possible[i] && plays[i].vmstate_agrees);
    }
    for (unsigned i = 0; i < n && best != all; i++) {
        uint32_t agree = 0;

        for (unsigned k = 0; k < n && possible[i]; k++) {
            if (possible[k] && plays[k].key == plays[i].key) {
                agree |= plays[k].agree;
            }
        }
        best = agree == all || __builtin_popcount(agree) >
               __builtin_popcount(best) ? agree : best;
    }
    if (best != all) {
        unsigned c = __builtin_ctz(~best);

        world_fail(w, "cell %u (%#" PRIx64 " at the end) is not what any "
                   "serial order gives", c, w->final[c]);
    } else if (!vmstate) {
        world_fail(w, "vmstate %#" PRIx64 " is not what any serial order "
                   "gives", w->vmstate);
    }
}

static bool may_hold(const World *w, unsigned c, uint64_t value)
{
    uint64_t cells[NB_CELLS];

    cells_before(w->scenario, cells);
    if (value == cells[c]) {
        return true;
    }
    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const OpInfo *info = &op_info[w->ops[i].kind];

        if (c >= info->first && c < info->first + info->nb &&
            value == (info->zeroes ? CELL_ZERO
                      : cell_value(STAMP_OP + i, c))) {
            return true;
        }
    }
    return false;
}

void model_check_failed(World *w)
{
    for (unsigned c = 0; c < NB_CELLS; c++) {
        if (!may_hold(w, c, w->final[c])) {
            world_fail(w, "cell %u holds %#" PRIx64 ", which nobody wrote", c,
                       w->final[c]);
        }
    }
}
