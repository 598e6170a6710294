/* SPDX-License-Identifier: MIT */
/*
 * AioContext: bottom halves, wake-ups, coroutines and timers. The back end is
 * the one of FIRN_AIO.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "util/aio.h"
#include "util/coroutine.h"

#define MS INT64_C(1000000)

typedef struct Log {
    AioContext *ctx;
    int entries[32];
    int n;
} Log;

static void log_add(Log *log, int entry)
{
    assert_true(log->n < (int)G_N_ELEMENTS(log->entries));
    log->entries[log->n++] = entry;
}

static int setup(void **state)
{
    Log *log = g_new0(Log, 1);
    GError *err = NULL;

    log->ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
    assert_null(err);
    *state = log;
    return 0;
}

static int teardown(void **state)
{
    Log *log = *state;

    assert_int_equal(co_live_count(), 0);
    aio_context_unref(log->ctx);
    g_free(log);
    return 0;
}

static void set_true(void *opaque)
{
    *(bool *)opaque = true;
}

static void count_one(void *opaque)
{
    ++*(int *)opaque;
}

/* ---- bottom halves ---- */

typedef struct Entry {
    Log *log;
    int number;
} Entry;

static void log_entry(void *opaque)
{
    Entry *e = opaque;

    log_add(e->log, e->number);
}

static void test_bottom_halves_run_in_the_order_scheduled(void **state)
{
    Log *log = *state;
    Entry entries[5];
    AioBH *bhs[5];

    for (int i = 0; i < 5; i++) {
        entries[i] = (Entry) { log, i };
        bhs[i] = aio_bh_new(log->ctx, log_entry, &entries[i]);
    }
    aio_bh_schedule(bhs[3]);
    aio_bh_schedule(bhs[0]);
    aio_bh_schedule(bhs[4]);
    assert_int_equal(log->n, 0);

    assert_true(aio_poll(log->ctx, true));

    assert_int_equal(log->n, 3);
    assert_int_equal(log->entries[0], 3);
    assert_int_equal(log->entries[1], 0);
    assert_int_equal(log->entries[2], 4);
    assert_false(aio_poll(log->ctx, false));
    for (int i = 0; i < 5; i++) {
        aio_bh_delete(bhs[i]);
    }
}

static void test_bottom_half_scheduled_twice_runs_once(void **state)
{
    Log *log = *state;
    int count = 0;
    AioBH *bh = aio_bh_new(log->ctx, count_one, &count);

    aio_bh_schedule(bh);
    aio_bh_schedule(bh);
    assert_true(aio_poll(log->ctx, false));
    assert_false(aio_poll(log->ctx, false));
    assert_int_equal(count, 1);

    aio_bh_schedule(bh);
    assert_true(aio_poll(log->ctx, true));
    assert_int_equal(count, 2);
    aio_bh_delete(bh);
}

static void test_deleted_bottom_half_does_not_run(void **state)
{
    Log *log = *state;
    int count = 0;
    AioBH *bh = aio_bh_new(log->ctx, count_one, &count);

    aio_bh_schedule(bh);
    aio_bh_delete(bh);
    aio_bh_delete(NULL);
    assert_false(aio_poll(log->ctx, false));
    assert_int_equal(count, 0);
}

typedef struct SelfBH {
    AioContext *ctx;
    AioBH *bh;
    int count;
} SelfBH;

static void reschedule_self(void *opaque)
{
    SelfBH *self = opaque;

    self->count++;
    aio_bh_schedule(self->bh);
}

static void test_bottom_half_that_schedules_itself_runs_once_a_turn(
    void **state)
{
    Log *log = *state;
    SelfBH self = { .ctx = log->ctx };

    self.bh = aio_bh_new(log->ctx, reschedule_self, &self);
    aio_bh_schedule(self.bh);
    for (int i = 1; i <= 3; i++) {
        assert_true(aio_poll(log->ctx, true));
        assert_int_equal(self.count, i);
    }
    aio_bh_delete(self.bh);
}

/* Deletes itself, and lets a nested loop free the struct. */
static void delete_self_and_poll(void *opaque)
{
    SelfBH *self = opaque;

    self->count++;
    aio_bh_delete(self->bh);
    aio_poll(self->ctx, false);
}

static void test_bottom_half_may_delete_itself_and_poll(void **state)
{
    Log *log = *state;
    SelfBH self = { .ctx = log->ctx };

    self.bh = aio_bh_new(log->ctx, delete_self_and_poll, &self);
    aio_bh_schedule(self.bh);
    assert_true(aio_poll(log->ctx, true));
    assert_false(aio_poll(log->ctx, false));
    assert_int_equal(self.count, 1);
}

typedef struct Nested {
    AioContext *ctx;
    bool inner_done;
    bool outer_done;
} Nested;

static void wait_for_inner(void *opaque)
{
    Nested *nested = opaque;

    aio_bh_schedule_oneshot(nested->ctx, set_true, &nested->inner_done);
    AIO_WAIT_WHILE(nested->ctx, !nested->inner_done);
    nested->outer_done = true;
}

static void test_loop_may_be_nested_in_a_bottom_half(void **state)
{
    Log *log = *state;
    Nested nested = { .ctx = log->ctx };
    int after = 0;

    aio_bh_schedule_oneshot(log->ctx, wait_for_inner, &nested);
    aio_bh_schedule_oneshot(log->ctx, count_one, &after);
    AIO_WAIT_WHILE(log->ctx, !nested.outer_done);
    assert_true(nested.inner_done);
    assert_int_equal(after, 1);
}

static void test_what_is_still_scheduled_is_dropped_with_the_context(
    void **state)
{
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    int count = 0;
    AioBH *bh = aio_bh_new(ctx, count_one, &count);

    aio_bh_schedule_oneshot(ctx, count_one, &count);
    aio_bh_schedule(bh);
    aio_bh_delete(bh);
    aio_context_unref(aio_context_ref(ctx));
    aio_context_unref(ctx);
    aio_context_unref(NULL);
    assert_int_equal(count, 0);
}

/* ---- wake-ups from other threads ---- */

static AioContext *context_of_signal;

static void stop_it(int sig)
{
    aio_stop(context_of_signal);
}

static int coroutine_fn wait_for_stop(void *opaque)
{
    int ret = aio_check_stop();

    while (ret == 0) {
        aio_co_sleep_ns(MS);
        ret = aio_check_stop();
    }
    return ret;
}

static void test_signal_handler_stops_what_runs(void **state)
{
    Log *log = *state;
    struct sigaction old, action = { .sa_handler = stop_it };

    context_of_signal = log->ctx;
    sigaction(SIGUSR2, &action, &old);
    assert_false(aio_stopping(log->ctx));
    assert_int_equal(aio_check_stop(), 0);

    raise(SIGUSR2);
    assert_true(aio_stopping(log->ctx));
    aio_poll(log->ctx, true); /* does not wait */
    assert_int_equal(aio_run_blocking(log->ctx, wait_for_stop, NULL),
                     -ECANCELED);
    sigaction(SIGUSR2, &old, NULL);
}

static void test_notify_before_the_loop_sleeps_is_not_lost(void **state)
{
    Log *log = *state;

    aio_notify(log->ctx);
    aio_notify(log->ctx);
    assert_false(aio_poll(log->ctx, true));
}

/*
 * Two loops that wake each other in turns: a single lost wake-up and both
 * sleep for ever.
 */
typedef struct Pong {
    AioContext *own;
    AioContext *other;
    struct Pong *peer;
    AioBH *bh;          /* in own: counts and wakes the peer */
    int count;
    int rounds;
} Pong;

static void pong_bh(void *opaque)
{
    Pong *pong = opaque;

    pong->count++;
    aio_bh_schedule(pong->peer->bh);
}

static void *pong_thread(void *opaque)
{
    Pong *pong = opaque;

    AIO_WAIT_WHILE(pong->own, pong->count < pong->rounds);
    return NULL;
}

static void test_no_wake_up_between_two_loops_is_lost(void **state)
{
    Log *log = *state;
    AioContext *second = aio_context_new(AIO_BACKEND_AUTO, NULL);
    Pong pongs[2] = {
        { log->ctx, second, &pongs[1], NULL, 0, 20000 },
        { second, log->ctx, &pongs[0], NULL, 0, 20000 },
    };
    pthread_t thread;

    for (int i = 0; i < 2; i++) {
        pongs[i].bh = aio_bh_new(pongs[i].own, pong_bh, &pongs[i]);
    }
    aio_bh_schedule(pongs[0].bh);
    pthread_create(&thread, NULL, pong_thread, &pongs[1]);
    pong_thread(&pongs[0]);
    pthread_join(thread, NULL);
    aio_bh_delete(pongs[0].bh);
    aio_bh_delete(pongs[1].bh);
    aio_context_unref(second);
}

/*
 * A sender that is wide awake and hits the receiver at a slightly different
 * moment of its way into sleep each time.
 */
typedef struct Target {
    AioContext *ctx;
    AioBH *bh;
    int count;
    int rounds;
    atomic_int acked;
} Target;

static void target_bh(void *opaque)
{
    Target *t = opaque;

    t->count++;
    atomic_store(&t->acked, t->count);
}

static void *sniper_thread(void *opaque)
{
    Target *t = opaque;

    for (int i = 0; i < t->rounds; i++) {
        for (int spins = 0; atomic_load(&t->acked) < i; spins++) {
            if (spins > 1000) {
                sched_yield();
            }
        }
        for (int delay = i % 500; delay > 0; delay--) {
            __asm__ volatile("");
        }
        aio_bh_schedule(t->bh);
    }
    return NULL;
}

static void test_no_wake_up_on_the_way_into_sleep_is_lost(void **state)
{
    Log *log = *state;
    Target targets[2];
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        targets[i] = (Target) { .ctx = log->ctx, .rounds = 30000 + i * 100 };
        targets[i].bh = aio_bh_new(log->ctx, target_bh, &targets[i]);
        pthread_create(&threads[i], NULL, sniper_thread, &targets[i]);
    }
    AIO_WAIT_WHILE(log->ctx, targets[0].count < targets[0].rounds ||
                             targets[1].count < targets[1].rounds);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        aio_bh_delete(targets[i].bh);
    }
}

enum { NB_SENDERS = 4, NB_SENT = 5000 };

typedef struct Receiver {
    AioContext *ctx;
    AioBH *shared;      /* scheduled by all senders */
    int shared_count;
    int count;
} Receiver;

static void *sender_thread(void *opaque)
{
    Receiver *r = opaque;

    for (int i = 0; i < NB_SENT; i++) {
        aio_bh_schedule_oneshot(r->ctx, count_one, &r->count);
        aio_bh_schedule(r->shared);
    }
    return NULL;
}

static void test_bottom_halves_of_many_threads_all_run(void **state)
{
    Log *log = *state;
    Receiver r = { .ctx = log->ctx };
    pthread_t threads[NB_SENDERS];

    r.shared = aio_bh_new(log->ctx, count_one, &r.shared_count);
    for (int i = 0; i < NB_SENDERS; i++) {
        pthread_create(&threads[i], NULL, sender_thread, &r);
    }
    AIO_WAIT_WHILE(log->ctx, r.count < NB_SENDERS * NB_SENT);
    for (int i = 0; i < NB_SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    aio_poll(log->ctx, false);
    assert_int_equal(r.count, NB_SENDERS * NB_SENT);
    assert_in_range(r.shared_count, 1, NB_SENDERS * NB_SENT);
    aio_bh_delete(r.shared);
}

typedef struct OneShotWaker {
    AioContext *ctx;
    bool done;
} OneShotWaker;

static void *one_shot_waker(void *opaque)
{
    OneShotWaker *w = opaque;

    aio_bh_schedule_oneshot(w->ctx, set_true, &w->done);
    return NULL;
}

/* The waker may still be inside aio_bh_schedule_oneshot then. */
static void test_context_may_be_freed_once_what_it_waited_for_is_done(
    void **state)
{
    for (int i = 0; i < 300; i++) {
        OneShotWaker w = {
            .ctx = aio_context_new(AIO_BACKEND_AUTO, NULL),
        };
        pthread_t thread;

        pthread_create(&thread, NULL, one_shot_waker, &w);
        AIO_WAIT_WHILE(w.ctx, !w.done);
        aio_context_unref(w.ctx);
        pthread_join(thread, NULL);
    }
}

/* ---- coroutines ---- */

typedef struct Sleeper {
    Log *log;
    int number;
    Coroutine *co;
} Sleeper;

static void coroutine_fn sleeper_entry(void *opaque)
{
    Sleeper *s = opaque;

    co_yield();
    log_add(s->log, s->number);
}

static void test_coroutines_are_entered_in_the_order_woken(void **state)
{
    static const int order[] = { 2, 0, 3, 1 };
    Log *log = *state;
    Sleeper sleepers[4];

    aio_set_current(log->ctx);
    for (int i = 0; i < 4; i++) {
        sleepers[i] = (Sleeper) { log, i, NULL };
        sleepers[i].co = co_create(sleeper_entry, &sleepers[i]);
        co_enter(sleepers[i].co);
    }
    for (int i = 0; i < 4; i++) {
        aio_co_wake(sleepers[order[i]].co);
    }
    assert_int_equal(log->n, 0);

    assert_true(aio_poll(log->ctx, true));

    for (int i = 0; i < 4; i++) {
        assert_int_equal(log->entries[i], order[i]);
    }
    aio_set_current(NULL);
}

static void coroutine_fn wake_self_entry(void *opaque)
{
    Log *log = opaque;

    log_add(log, 1);
    aio_co_wake(co_self());
    log_add(log, 2);
    co_yield();
    log_add(log, 3);
}

static void test_waking_oneself_before_the_yield_is_fine(void **state)
{
    Log *log = *state;

    aio_set_current(log->ctx);
    co_enter(co_create(wake_self_entry, log));
    assert_int_equal(log->n, 2);
    assert_true(aio_poll(log->ctx, true));
    assert_int_equal(log->n, 3);
    aio_set_current(NULL);
}

static void coroutine_fn again_entry(void *opaque)
{
    Log *log = opaque;

    for (int i = 0; i < 3; i++) {
        log_add(log, i);
        aio_co_sleep_ns(0);
    }
}

static void test_coroutine_that_wakes_itself_runs_once_a_turn(void **state)
{
    Log *log = *state;

    aio_co_schedule(log->ctx, co_create(again_entry, log));
    for (int i = 1; i <= 3; i++) {
        assert_true(aio_poll(log->ctx, true));
        assert_int_equal(log->n, i);
    }
    assert_true(aio_poll(log->ctx, true));
    assert_false(aio_poll(log->ctx, false));
}

/* A coroutine that another thread's loop goes on with, there and back. */
typedef struct Traveller {
    AioContext *here;
    AioContext *there;
    AioContext *seen[3];
    atomic_bool there_done;
    bool done;
} Traveller;

typedef struct Move {
    AioContext *to;
    Coroutine *co;
} Move;

static void do_move(void *opaque)
{
    Move *move = opaque;

    aio_co_schedule(move->to, move->co);
}

/* From a bottom half, because only then it has yielded. */
static void coroutine_fn move_to(AioContext *ctx)
{
    Move move = { ctx, co_self() };

    aio_bh_schedule_oneshot(aio_get_current(), do_move, &move);
    co_yield();
}

static void coroutine_fn traveller_entry(void *opaque)
{
    Traveller *t = opaque;

    for (int i = 0; i < 100; i++) {
        t->seen[0] = co_home(co_self());
        move_to(t->there);
        t->seen[1] = co_home(co_self());
        assert_ptr_equal(aio_get_current(), t->there);
        move_to(t->here);
        t->seen[2] = co_home(co_self());
        assert_ptr_equal(aio_get_current(), t->here);
    }
    t->done = true;
    atomic_store(&t->there_done, true);
    aio_notify(t->there);
}

static void *there_thread(void *opaque)
{
    Traveller *t = opaque;

    AIO_WAIT_WHILE(t->there, !atomic_load(&t->there_done));
    return NULL;
}

static void test_coroutine_moves_between_loops_of_two_threads(void **state)
{
    Log *log = *state;
    Traveller t = { .here = log->ctx };
    pthread_t thread;

    t.there = aio_context_new(AIO_BACKEND_AUTO, NULL);
    pthread_create(&thread, NULL, there_thread, &t);
    aio_co_schedule(t.here, co_create(traveller_entry, &t));
    AIO_WAIT_WHILE(t.here, !t.done);
    pthread_join(thread, NULL);

    assert_ptr_equal(t.seen[0], t.here);
    assert_ptr_equal(t.seen[1], t.there);
    assert_ptr_equal(t.seen[2], t.here);
    aio_context_unref(t.there);
}

/* ---- running and the current context ---- */

static int coroutine_fn sleep_and_return(void *opaque)
{
    Log *log = opaque;

    assert_ptr_equal(aio_get_current(), log->ctx);
    assert_ptr_equal(co_home(co_self()), log->ctx);
    aio_co_sleep_ns(MS);
    return -42;
}

static int coroutine_fn return_at_once(void *opaque)
{
    return 7;
}

static void run_blocking_bh(void *opaque)
{
    Log *log = opaque;

    log_add(log, aio_run_blocking(log->ctx, sleep_and_return, log));
}

static void test_blocking_run_returns_what_the_coroutine_returns(void **state)
{
    Log *log = *state;

    assert_int_equal(aio_run_blocking(log->ctx, sleep_and_return, log), -42);
    assert_int_equal(aio_run_blocking(log->ctx, return_at_once, NULL), 7);
    assert_null(aio_get_current());

    aio_bh_schedule_oneshot(log->ctx, run_blocking_bh, log);
    AIO_WAIT_WHILE(log->ctx, log->n == 0);
    assert_int_equal(log->entries[0], -42);
}

typedef struct Current {
    AioContext *outer;
    AioContext *inner;
    bool inner_ok;
    bool outer_ok;
} Current;

static void check_inner(void *opaque)
{
    Current *c = opaque;

    c->inner_ok = aio_get_current() == c->inner;
}

static void check_outer(void *opaque)
{
    Current *c = opaque;

    aio_bh_schedule_oneshot(c->inner, check_inner, c);
    AIO_WAIT_WHILE(c->inner, !c->inner_ok);
    c->outer_ok = aio_get_current() == c->outer;
}

static void test_current_context_is_the_innermost_one_driven(void **state)
{
    Log *log = *state;
    Current c = { .outer = log->ctx };

    c.inner = aio_context_new(AIO_BACKEND_AUTO, NULL);
    aio_set_current(c.inner);
    aio_bh_schedule_oneshot(c.outer, check_outer, &c);
    AIO_WAIT_WHILE(c.outer, !c.outer_ok);
    assert_ptr_equal(aio_get_current(), c.inner);
    aio_context_unref(c.inner);
    assert_null(aio_get_current());
}

/* ---- timers ---- */

static void test_timers_run_in_the_order_of_their_deadlines(void **state)
{
    Log *log = *state;
    int64_t now_ns = aio_now_ns();
    static const int ms[] = { 3, 1, 2, 1 };
    static const int order[] = { 1, 3, 2, 0 };
    Entry entries[4];
    AioTimer *timers[4];

    for (int i = 0; i < 4; i++) {
        entries[i] = (Entry) { log, i };
        timers[i] = aio_timer_new(log->ctx, log_entry, &entries[i]);
        aio_timer_mod(timers[i], now_ns + ms[i] * MS);
    }
    AIO_WAIT_WHILE(log->ctx, log->n < 4);

    for (int i = 0; i < 4; i++) {
        assert_int_equal(log->entries[i], order[i]);
        aio_timer_free(timers[i]);
    }
}

static void test_timer_is_never_early(void **state)
{
    Log *log = *state;
    bool done = false;
    AioTimer *timer = aio_timer_new(log->ctx, set_true, &done);

    for (int64_t ns = 1; ns < 20 * MS; ns *= 7) {
        int64_t deadline_ns = aio_now_ns() + ns;

        done = false;
        aio_timer_mod(timer, deadline_ns);
        AIO_WAIT_WHILE(log->ctx, !done);
        assert_true(aio_now_ns() >= deadline_ns);
    }
    aio_timer_free(timer);
}

static void test_deleted_or_moved_timer_does_not_run_at_its_old_time(
    void **state)
{
    Log *log = *state;
    int64_t now_ns = aio_now_ns();
    int deleted = 0;
    int moved = 0;
    bool done = false;
    AioTimer *del = aio_timer_new(log->ctx, count_one, &deleted);
    AioTimer *mod = aio_timer_new(log->ctx, count_one, &moved);
    AioTimer *last = aio_timer_new(log->ctx, set_true, &done);

    aio_timer_mod(del, now_ns + MS);
    aio_timer_mod(mod, now_ns + MS);
    aio_timer_mod(mod, now_ns + 3600 * 1000 * MS);
    aio_timer_mod(last, now_ns + 2 * MS);
    aio_timer_del(del);
    aio_timer_del(del);
    AIO_WAIT_WHILE(log->ctx, !done);

    assert_int_equal(deleted, 0);
    assert_int_equal(moved, 0);
    aio_timer_free(del);
    aio_timer_free(mod);
    aio_timer_free(last);
    aio_timer_free(NULL);
}

typedef struct SelfTimer {
    AioTimer *timer;
    int count;
} SelfTimer;

static void rearm_in_the_past(void *opaque)
{
    SelfTimer *self = opaque;

    self->count++;
    aio_timer_mod(self->timer, 0);
}

static void test_timer_that_arms_itself_for_the_past_runs_once_a_turn(
    void **state)
{
    Log *log = *state;
    SelfTimer self = { 0 };

    self.timer = aio_timer_new(log->ctx, rearm_in_the_past, &self);
    aio_timer_mod(self.timer, INT64_MIN);
    for (int i = 1; i <= 3; i++) {
        assert_true(aio_poll(log->ctx, true));
        assert_int_equal(self.count, i);
    }
    aio_timer_free(self.timer);
}

static void free_self(void *opaque)
{
    SelfTimer *self = opaque;

    self->count++;
    aio_timer_free(self->timer);
}

static void test_timer_may_free_itself(void **state)
{
    Log *log = *state;
    SelfTimer self = { 0 };

    self.timer = aio_timer_new(log->ctx, free_self, &self);
    aio_timer_mod(self.timer, 1);
    assert_true(aio_poll(log->ctx, true));
    assert_int_equal(self.count, 1);
}

static int coroutine_fn sleep_three_ms(void *opaque)
{
    int64_t start_ns = aio_now_ns();

    aio_co_sleep_ns(3 * MS);
    return aio_now_ns() - start_ns >= 3 * MS ? 0 : -1;
}

static void test_sleeping_coroutine_sleeps_long_enough(void **state)
{
    Log *log = *state;

    assert_int_equal(aio_run_blocking(log->ctx, sleep_three_ms, NULL), 0);
}

#define AIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    AIO_TEST(test_bottom_halves_run_in_the_order_scheduled),
    AIO_TEST(test_bottom_half_scheduled_twice_runs_once),
    AIO_TEST(test_deleted_bottom_half_does_not_run),
    AIO_TEST(test_bottom_half_that_schedules_itself_runs_once_a_turn),
    AIO_TEST(test_bottom_half_may_delete_itself_and_poll),
    AIO_TEST(test_loop_may_be_nested_in_a_bottom_half),
    AIO_TEST(test_what_is_still_scheduled_is_dropped_with_the_context),
    AIO_TEST(test_signal_handler_stops_what_runs),
    AIO_TEST(test_notify_before_the_loop_sleeps_is_not_lost),
    AIO_TEST(test_no_wake_up_between_two_loops_is_lost),
    AIO_TEST(test_no_wake_up_on_the_way_into_sleep_is_lost),
    AIO_TEST(test_bottom_halves_of_many_threads_all_run),
    AIO_TEST(test_context_may_be_freed_once_what_it_waited_for_is_done),
    AIO_TEST(test_coroutines_are_entered_in_the_order_woken),
    AIO_TEST(test_waking_oneself_before_the_yield_is_fine),
    AIO_TEST(test_coroutine_that_wakes_itself_runs_once_a_turn),
    AIO_TEST(test_coroutine_moves_between_loops_of_two_threads),
    AIO_TEST(test_blocking_run_returns_what_the_coroutine_returns),
    AIO_TEST(test_current_context_is_the_innermost_one_driven),
    AIO_TEST(test_timers_run_in_the_order_of_their_deadlines),
    AIO_TEST(test_timer_is_never_early),
    AIO_TEST(test_deleted_or_moved_timer_does_not_run_at_its_old_time),
    AIO_TEST(test_timer_that_arms_itself_for_the_past_runs_once_a_turn),
    AIO_TEST(test_timer_may_free_itself),
    AIO_TEST(test_sleeping_coroutine_sleeps_long_enough),
};

FIRN_TEST_MAIN(tests)
