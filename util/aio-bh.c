/* SPDX-License-Identifier: MIT */
/*
 * Bottom halves.
 *
 * Their whole state is one atomic word, so that scheduling and deleting need
 * no lock. BH_LISTED says that the struct is on ctx->bh_woken or on the
 * loop's queue: whoever sets it pushes, and the loop clears it, together with
 * BH_SCHEDULED, when it has unlinked the struct and before it runs it. After
 * that another thread may push it again at once, and next belongs to it.
 *
 * Only the loop frees, when it finds BH_DELETED on a struct it has unlinked,
 * so a deleted bottom half needs to be listed too.
 */
#include "aio-int.h"

enum {
    BH_LISTED = 1 << 0,
    BH_SCHEDULED = 1 << 1,
    BH_DELETED = 1 << 2,
    BH_ONESHOT = 1 << 3,    /* nobody deletes it: freed when it runs */
};

struct AioBH {
    AioContext *ctx;
    AioBHFunc *fn;
    void *opaque;
    atomic_uint flags;
    AioBH *next;
};

static AioBH *bh_new(AioContext *ctx, AioBHFunc *fn, void *opaque,
                     unsigned flags)
{
    AioBH *bh = g_new(AioBH, 1);

    bh->ctx = ctx;
    bh->fn = fn;
    bh->opaque = opaque;
    bh->next = NULL;
    atomic_init(&bh->flags, flags);
    return bh;
}

/* Set @flags and see to it that the loop looks at @bh. */
static void bh_list(AioBH *bh, unsigned flags)
{
    AioContext *ctx = bh->ctx;
    bool counted = aio_wake_begin(ctx);
    unsigned old = atomic_fetch_or(&bh->flags, flags | BH_LISTED);
    AioBH *top;

    if (!(old & BH_LISTED)) {
        top = atomic_load_explicit(&ctx->bh_woken, memory_order_relaxed);
        do {
            bh->next = top;
        } while (!atomic_compare_exchange_weak(&ctx->bh_woken, &top, bh));
        /* From here on @bh may run, and may be gone. */
    }
    aio_wake_end(ctx, counted);
}

AioBH *aio_bh_new(AioContext *ctx, AioBHFunc *fn, void *opaque)
{
    return bh_new(ctx, fn, opaque, 0);
}

void aio_bh_schedule(AioBH *bh)
{
    bh_list(bh, BH_SCHEDULED);
}

void aio_bh_delete(AioBH *bh)
{
    if (bh) {
        bh_list(bh, BH_DELETED);
    }
}

void aio_bh_schedule_oneshot(AioContext *ctx, AioBHFunc *fn, void *opaque)
{
    bh_list(bh_new(ctx, fn, opaque, BH_ONESHOT), BH_SCHEDULED);
}

/* Append what other calls have pushed to the loop's queue, oldest first. */
static void collect_bhs(AioContext *ctx)
{
    AioBH *first = NULL;
    AioBH *last, *top;

    if (!atomic_load_explicit(&ctx->bh_woken, memory_order_relaxed)) {
        return;     /* the next has_work or collect_bhs sees it */
    }
    top = atomic_exchange(&ctx->bh_woken, NULL);
    last = top;
    while (top) {
        AioBH *next = top->next;

        top->next = first;
        first = top;
        top = next;
        ctx->nb_bhs++;
    }
    if (ctx->bh_tail) {
        ctx->bh_tail->next = first;
    } else {
        ctx->bh_head = first;
    }
    ctx->bh_tail = last;
}

static AioBH *pop_bh(AioContext *ctx)
{
    AioBH *bh = ctx->bh_head;

    if (bh) {
        ctx->bh_head = bh->next;
        if (!ctx->bh_head) {
            ctx->bh_tail = NULL;
        }
        ctx->nb_bhs--;
    }
    return bh;
}

/* Run or free an unlinked @bh. Returns whether its function was called. */
static bool run_bh(AioBH *bh)
{
    AioBHFunc *fn = bh->fn;
    void *opaque = bh->opaque;
    unsigned old = atomic_fetch_and(&bh->flags,
                                    ~(unsigned)(BH_LISTED | BH_SCHEDULED));
    bool run = (old & BH_SCHEDULED) && !(old & BH_DELETED);

    /* Before the call, which may delete it, poll and so free it elsewhere. */
    if (old & (BH_DELETED | BH_ONESHOT)) {
        g_free(bh);
    }
    if (run) {
        fn(opaque);
    }
    return run;
}

bool aio_run_bhs(AioContext *ctx)
{
    bool progress = false;
    unsigned n;
    AioBH *bh;

    collect_bhs(ctx);
    /* Only those of now: one that schedules itself must not hold the loop. */
    n = ctx->nb_bhs;
    while (n-- > 0 && (bh = pop_bh(ctx)) != NULL) {
        progress |= run_bh(bh);
    }
    return progress;
}

void aio_drop_bhs(AioContext *ctx)
{
    AioBH *bh;

    collect_bhs(ctx);
    while ((bh = pop_bh(ctx)) != NULL) {
        if (atomic_load(&bh->flags) & (BH_DELETED | BH_ONESHOT)) {
            g_free(bh);
        }
    }
}
