/* SPDX-License-Identifier: MIT */
/*
 * AioContext: fd handlers, and driving a context from a foreign loop that
 * knows nothing but the descriptor of aio_context_fd.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "util/aio.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

#define MS INT64_C(1000000)

typedef struct Fixture {
    AioContext *ctx;
    int fds[2];         /* a socket pair */
    int reads;
    int writes;
    bool flag;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    GError *err = NULL;

    f->ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
    assert_null(err);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, f->fds), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    assert_int_equal(co_live_count(), 0);
    aio_context_unref(f->ctx);
    close(f->fds[0]);
    close(f->fds[1]);
    g_free(f);
    return 0;
}

static void send_byte(int fd)
{
    assert_int_equal(write(fd, "x", 1), 1);
}

static void read_byte(int fd)
{
    char c;

    assert_int_equal(read(fd, &c, 1), 1);
}

/* ---- handlers ---- */

static void on_read(void *opaque)
{
    Fixture *f = opaque;

    read_byte(f->fds[0]);
    f->reads++;
}

static void on_write(void *opaque)
{
    Fixture *f = opaque;

    f->writes++;
}

static void on_write_once(void *opaque)
{
    Fixture *f = opaque;

    f->writes++;
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_handler_runs_when_its_descriptor_becomes_readable(
    void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    assert_false(aio_poll(f->ctx, false));
    assert_int_equal(f->reads, 0);

    send_byte(f->fds[1]);
    AIO_WAIT_WHILE(f->ctx, f->reads < 1);
    assert_int_equal(f->reads, 1);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_handler_runs_again_while_there_is_data(void **state)
{
    Fixture *f = *state;

    for (int i = 0; i < 5; i++) {
        send_byte(f->fds[1]);
    }
    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    AIO_WAIT_WHILE(f->ctx, f->reads < 5);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_write_handler_may_remove_itself(void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], NULL, on_write_once, f);
    AIO_WAIT_WHILE(f->ctx, f->writes < 1);
    for (int i = 0; i < 5; i++) {
        aio_poll(f->ctx, false);
    }
    assert_int_equal(f->writes, 1);
}

static void test_replaced_handler_takes_over(void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], NULL, on_write, f);
    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    send_byte(f->fds[1]);
    AIO_WAIT_WHILE(f->ctx, f->reads < 1);
    assert_int_equal(f->writes, 0);

    aio_set_fd_handler(f->ctx, f->fds[0], on_read, on_write, f);
    send_byte(f->fds[1]);
    AIO_WAIT_WHILE(f->ctx, f->reads < 2 || f->writes < 1);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_removed_handler_does_not_run_any_more(void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    aio_poll(f->ctx, false);
    send_byte(f->fds[1]);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        aio_poll(f->ctx, false);
    }
    assert_int_equal(f->reads, 0);
}

static void test_descriptor_may_be_closed_and_its_number_reused(void **state)
{
    Fixture *f = *state;

    for (int i = 1; i <= 200; i++) {
        aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
        if (i % 3) {
            aio_poll(f->ctx, false);
        }
        if (i % 2) {
            send_byte(f->fds[1]);
        }
        aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
        close(f->fds[0]);
        close(f->fds[1]);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, f->fds), 0);
    }
    assert_int_equal(f->reads, 0);
    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    send_byte(f->fds[1]);
    AIO_WAIT_WHILE(f->ctx, f->reads < 1);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_removed_handler_lets_go_of_the_file_at_once(void **state)
{
    Fixture *f = *state;
    char c;

    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    aio_poll(f->ctx, false);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
    close(f->fds[0]);
    assert_int_equal(recv(f->fds[1], &c, 1, MSG_DONTWAIT), 0);
    f->fds[0] = dup(f->fds[1]);
}

static void on_hang_up(void *opaque)
{
    Fixture *f = opaque;
    char c;

    f->flag = read(f->fds[0], &c, 1) == 0;
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static void test_hang_up_is_readable(void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], on_hang_up, NULL, f);
    shutdown(f->fds[1], SHUT_RDWR);
    AIO_WAIT_WHILE(f->ctx, !f->flag);
}

static void set_flag(void *opaque)
{
    Fixture *f = opaque;

    f->flag = true;
}

/* Polls before it takes the byte, so its descriptor stays readable. */
static void on_read_nested(void *opaque)
{
    Fixture *f = opaque;

    assert_int_equal(f->reads, 0);
    f->reads++;
    aio_bh_schedule_oneshot(f->ctx, set_flag, f);
    AIO_WAIT_WHILE(f->ctx, !f->flag);
    aio_poll(f->ctx, false);
    read_byte(f->fds[0]);
}

static void test_handler_is_not_entered_again_while_it_polls(void **state)
{
    Fixture *f = *state;

    aio_set_fd_handler(f->ctx, f->fds[0], on_read_nested, NULL, f);
    send_byte(f->fds[1]);
    AIO_WAIT_WHILE(f->ctx, !f->flag);
    assert_false(aio_poll(f->ctx, false));
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

enum { MANY = 400 };

typedef struct Many {
    int fds[2];
    int reads;
} Many;

static void on_read_many(void *opaque)
{
    Many *m = opaque;

    read_byte(m->fds[0]);
    m->reads++;
}

static void test_more_handlers_than_the_ring_has_entries(void **state)
{
    Fixture *f = *state;
    Many *many = g_new0(Many, MANY);
    int total = 0;

    for (int i = 0; i < MANY; i++) {
        assert_int_equal(pipe(many[i].fds), 0);
        aio_set_fd_handler(f->ctx, many[i].fds[0], on_read_many, NULL,
                           &many[i]);
    }
    aio_poll(f->ctx, false);
    for (int i = 0; i < MANY; i++) {
        send_byte(many[i].fds[1]);
        send_byte(many[i].fds[1]);
    }
    while (total < 2 * MANY) {
        aio_poll(f->ctx, true);
        total = 0;
        for (int i = 0; i < MANY; i++) {
            total += many[i].reads;
        }
    }
    for (int i = 0; i < MANY; i++) {
        aio_set_fd_handler(f->ctx, many[i].fds[0], NULL, NULL, NULL);
        close(many[i].fds[0]);
        close(many[i].fds[1]);
        assert_int_equal(many[i].reads, 2);
    }
    g_free(many);
}

/* ---- foreign loops ---- */

/* Polls the descriptor and nothing else, then runs what there is. */
static void foreign_turn(AioContext *ctx)
{
    struct pollfd pfd = { .fd = aio_context_fd(ctx), .events = POLLIN };
    int ret;

    do {
        ret = poll(&pfd, 1, -1);
    } while (ret < 0 && errno == EINTR);
    assert_int_equal(ret, 1);
    aio_poll(ctx, false);
}

#define FOREIGN_WAIT_WHILE(ctx, cond)   \
    do {                                \
        while (cond) {                  \
            foreign_turn(ctx);          \
        }                               \
    } while (0)

/* Nothing to do: the descriptor comes to rest. */
static void assert_comes_to_rest(AioContext *ctx)
{
    struct pollfd pfd = { .fd = aio_context_fd(ctx), .events = POLLIN };

    for (int i = 0; i < 10 && poll(&pfd, 1, 0) != 0; i++) {
        aio_poll(ctx, false);
    }
    assert_int_equal(poll(&pfd, 1, 0), 0);
}

static void test_foreign_loop_sees_bottom_halves(void **state)
{
    Fixture *f = *state;

    aio_bh_schedule_oneshot(f->ctx, set_flag, f);
    FOREIGN_WAIT_WHILE(f->ctx, !f->flag);
    assert_comes_to_rest(f->ctx);

    f->flag = false;
    aio_bh_schedule_oneshot(f->ctx, set_flag, f);
    FOREIGN_WAIT_WHILE(f->ctx, !f->flag);
    assert_comes_to_rest(f->ctx);
}

static void test_foreign_loop_sees_timers(void **state)
{
    Fixture *f = *state;
    AioTimer *timer = aio_timer_new(f->ctx, set_flag, f);

    aio_timer_mod(timer, aio_now_ns() + MS);
    FOREIGN_WAIT_WHILE(f->ctx, !f->flag);
    assert_comes_to_rest(f->ctx);

    f->flag = false;
    aio_timer_mod(timer, aio_now_ns() + 3600 * 1000 * MS);
    aio_timer_mod(timer, aio_now_ns() + MS);
    FOREIGN_WAIT_WHILE(f->ctx, !f->flag);
    aio_timer_free(timer);
    assert_comes_to_rest(f->ctx);
}

static void test_foreign_loop_sees_fd_handlers(void **state)
{
    Fixture *f = *state;

    assert_comes_to_rest(f->ctx);
    aio_set_fd_handler(f->ctx, f->fds[0], on_read, NULL, f);
    assert_comes_to_rest(f->ctx);
    send_byte(f->fds[1]);
    send_byte(f->fds[1]);
    FOREIGN_WAIT_WHILE(f->ctx, f->reads < 2);
    assert_comes_to_rest(f->ctx);
    aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
}

static int temp_file(void)
{
    char *path = NULL;
    int fd = g_file_open_tmp("firn-aio-XXXXXX", &path, NULL);

    assert_true(fd >= 0);
    unlink(path);
    g_free(path);
    return fd;
}

static void coroutine_fn file_entry(void *opaque)
{
    Fixture *f = opaque;
    char out[4096] = "foreign";
    char in[4096];
    int fd = temp_file();

    for (int i = 0; i < 20; i++) {
        struct iovec iov = { out, sizeof(out) };

        assert_int_equal(aio_co_pwritev(fd, &iov, 1, 0, 0), sizeof(out));
        assert_int_equal(aio_co_fdatasync(fd), 0);
        aio_co_sleep_ns(MS / 10);
        iov.iov_base = in;
        assert_int_equal(aio_co_preadv(fd, &iov, 1, 0, 0), sizeof(in));
        assert_memory_equal(in, out, sizeof(in));
        assert_int_equal(aio_co_ftruncate(fd, 0), 0);
        aio_co_sleep_ns(0);
    }
    close(fd);
    f->flag = true;
}

/* Entered outside aio_poll, so its first request is prepared there. */
static void test_foreign_loop_sees_file_io(void **state)
{
    Fixture *f = *state;

    assert_comes_to_rest(f->ctx);
    aio_set_current(f->ctx);
    co_enter(co_create(file_entry, f));
    FOREIGN_WAIT_WHILE(f->ctx, !f->flag);
    assert_comes_to_rest(f->ctx);
    aio_set_current(NULL);
}

enum { NB_WAKES = 20000, NB_WAKERS = 2 };

typedef struct ForeignWaker {
    AioBH *bh;
    int count;
    atomic_int acked;
} ForeignWaker;

static void ack(void *opaque)
{
    ForeignWaker *w = opaque;

    w->count++;
    atomic_store(&w->acked, w->count);
}

static void *foreign_waker(void *opaque)
{
    ForeignWaker *w = opaque;

    for (int i = 0; i < NB_WAKES; i++) {
        aio_bh_schedule(w->bh);
        for (int spins = 0; atomic_load(&w->acked) <= i; spins++) {
            if (spins > 1000) {
                sched_yield();
            }
        }
    }
    return NULL;
}

/* One waker may write while the loop reads the eventfd for the other. */
static void test_foreign_loop_loses_no_wake_up_of_other_threads(void **state)
{
    Fixture *f = *state;
    ForeignWaker w[NB_WAKERS] = { 0 };
    pthread_t threads[NB_WAKERS];

    aio_context_fd(f->ctx);
    for (int i = 0; i < NB_WAKERS; i++) {
        w[i].bh = aio_bh_new(f->ctx, ack, &w[i]);
        pthread_create(&threads[i], NULL, foreign_waker, &w[i]);
    }
    FOREIGN_WAIT_WHILE(f->ctx, w[0].count < NB_WAKES ||
                               w[1].count < NB_WAKES);
    for (int i = 0; i < NB_WAKERS; i++) {
        pthread_join(threads[i], NULL);
        aio_bh_delete(w[i].bh);
    }
}

/* ---- handing a context over ---- */

typedef struct Handover {
    Fixture *f;
    int fd;
    bool done;
    ssize_t nb_read;
    char buf[1 << 20];
} Handover;

static void coroutine_fn handover_entry(void *opaque)
{
    Handover *h = opaque;
    struct iovec iov = { h->buf, sizeof(h->buf) };

    h->nb_read = aio_co_preadv(h->fd, &iov, 1, 0, AIO_HINT_ASYNC);
    aio_co_sleep_ns(MS);
    h->done = true;
}

/* Leaves a handler, a timer and a read in flight behind. */
static void *first_owner(void *opaque)
{
    Handover *h = opaque;

    aio_set_current(h->f->ctx);
    aio_set_fd_handler(h->f->ctx, h->f->fds[0], on_read, NULL, h->f);
    co_enter(co_create(handover_entry, h));
    aio_poll(h->f->ctx, false);
    aio_set_current(NULL);
    return NULL;
}

static void test_context_outlives_the_thread_that_submitted(void **state)
{
    Fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        Handover *h = g_new0(Handover, 1);
        pthread_t thread;

        h->f = f;
        h->fd = temp_file();
        assert_int_equal(ftruncate(h->fd, sizeof(h->buf)), 0);
        f->reads = 0;
        pthread_create(&thread, NULL, first_owner, h);
        pthread_join(thread, NULL);
        AIO_WAIT_WHILE(f->ctx, !h->done);
        assert_int_equal(h->nb_read, sizeof(h->buf));
        send_byte(f->fds[1]);
        AIO_WAIT_WHILE(f->ctx, f->reads == 0);
        aio_set_fd_handler(f->ctx, f->fds[0], NULL, NULL, NULL);
        close(h->fd);
        g_free(h);
    }
}

#define AIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    AIO_TEST(test_handler_runs_when_its_descriptor_becomes_readable),
    AIO_TEST(test_handler_runs_again_while_there_is_data),
    AIO_TEST(test_write_handler_may_remove_itself),
    AIO_TEST(test_replaced_handler_takes_over),
    AIO_TEST(test_removed_handler_does_not_run_any_more),
    AIO_TEST(test_descriptor_may_be_closed_and_its_number_reused),
    AIO_TEST(test_removed_handler_lets_go_of_the_file_at_once),
    AIO_TEST(test_hang_up_is_readable),
    AIO_TEST(test_handler_is_not_entered_again_while_it_polls),
    AIO_TEST(test_more_handlers_than_the_ring_has_entries),
    AIO_TEST(test_foreign_loop_sees_bottom_halves),
    AIO_TEST(test_foreign_loop_sees_timers),
    AIO_TEST(test_foreign_loop_sees_fd_handlers),
    AIO_TEST(test_foreign_loop_sees_file_io),
    AIO_TEST(test_foreign_loop_loses_no_wake_up_of_other_threads),
    AIO_TEST(test_context_outlives_the_thread_that_submitted),
};

static int trim(void **state)
{
    thread_pool_trim();
    return 0;
}

FIRN_TEST_MAIN_FULL(tests, NULL, trim)
