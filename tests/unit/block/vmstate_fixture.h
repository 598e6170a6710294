/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the vmstate pipeline share: a context, a fake disk, and a
 * driver that lets several coroutines run against held requests in an order
 * drawn from a seed.
 */
#ifndef FIRN_TESTS_UNIT_BLOCK_VMSTATE_FIXTURE_H
#define FIRN_TESTS_UNIT_BLOCK_VMSTATE_FIXTURE_H

#include "../../support/fake_vmstate.h"
#include "../../support/test_main.h"
#include "block/vmstate.h"
#include "util/coroutine.h"

#include <string.h>

#define CHUNK 4096

typedef struct Fixture {
    AioContext *ctx;
    BlockBackend *blk;
    BlockDriverState *bs;
    FakeVmstate *fake;
    unsigned coroutines;     /* live before the test */
} Fixture;

static inline void fixture_open(Fixture *x, const char *wrapper)
{
    GError *err = NULL;

    x->coroutines = co_live_count();
    x->ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
    assert_null(err);
    x->blk = fake_vmstate_open(x->ctx, wrapper);
    x->bs = blk_bs(x->blk);
    x->fake = fake_vmstate(x->blk);
}

static inline void fixture_close(Fixture *x)
{
    assert_int_equal(blk_close(x->blk), 0);
    aio_context_unref(x->ctx);
    assert_int_equal(co_live_count(), x->coroutines);
}

/* The byte that belongs at @pos. */
static inline uint8_t pattern(uint64_t pos)
{
    return (uint8_t)(pos * 7 + (pos >> 8) * 13 + (pos >> 16) * 29);
}

static inline void fill_pattern(uint8_t *buf, uint64_t pos, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        buf[i] = pattern(pos + i);
    }
}

static inline void check_pattern(const uint8_t *buf, uint64_t pos,
                                 size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], pattern(pos + i));
    }
}

static inline void add_pattern_snapshot(Fixture *x, const char *name,
                                        size_t bytes)
{
    g_autofree uint8_t *data = g_malloc(bytes);

    fill_pattern(data, 0, bytes);
    fake_add_snapshot(x->fake, name, data, bytes);
}

static inline int coroutine_fn write_at(BlockDriverState *bs, uint64_t pos,
                                        const void *buf, size_t bytes)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return bdrv_co_writev_vmstate(bs, &qiov, pos);
}

static inline int coroutine_fn write_pattern(BlockDriverState *bs,
                                             uint64_t pos, size_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    fill_pattern(buf, pos, bytes);
    return write_at(bs, pos, buf, bytes);
}

static inline int coroutine_fn read_at(BlockDriverState *bs, uint64_t pos,
                                       void *buf, size_t bytes)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_readv_vmstate(bs, &qiov, pos);
}

static inline int coroutine_fn read_pattern(BlockDriverState *bs,
                                            uint64_t pos, size_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = read_at(bs, pos, buf, bytes);

    if (ret == 0) {
        check_pattern(buf, pos, bytes);
    }
    return ret;
}

/* A coroutine of a drawn interleaving. */
typedef struct Actor {
    int coroutine_fn (*fn)(struct Actor *a);
    Fixture *x;
    unsigned index;
    uint64_t pos;
    size_t bytes;
    unsigned seed;
    int ret;
    bool done;
} Actor;

static inline void coroutine_fn actor_entry(void *opaque)
{
    Actor *a = opaque;

    a->ret = a->fn(a);
    a->done = true;
}

static inline void actor_start(Actor *a)
{
    aio_co_schedule(a->x->ctx, co_create(actor_entry, a));
}

/* Turn the loop without blocking until nothing moves any more. */
static inline void settle(Fixture *x)
{
    for (unsigned idle = 0; idle < 4; idle++) {
        if (aio_poll(x->ctx, false)) {
            idle = 0;
        }
    }
}

/*
 * Release held requests, one at a time in an order drawn from @rand, until all
 * @n actors are done. Fails when nothing moves and somebody is not done.
 */
static inline void run_actors(Fixture *x, Actor *actors, unsigned n,
                              GRand *rand)
{
    for (;;) {
        bool done = true;

        settle(x);
        for (unsigned i = 0; i < n; i++) {
            done = done && actors[i].done;
        }
        if (x->fake->held->len > 0) {
            fake_release(x->fake, g_rand_int(rand));
        } else if (done) {
            return;
        } else {
            fail_msg("an actor waits for something that never comes");
        }
    }
}

/* Run one coroutine function to its end; requests must not be held. */
static inline int run_one(Fixture *x, int coroutine_fn (*fn)(void *))
{
    return aio_run_blocking(x->ctx, fn, x);
}

#endif
