/* SPDX-License-Identifier: MIT */
/*
 * The io_uring back end when the kernel refuses, interrupts or cancels. This
 * program is linked with --wrap for the calls below, so that they fail when a
 * test says so.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>

#include "util/aio.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

static int refuse_submit;       /* errno of the next submissions, or 0 */
static int interrupt_waits;     /* so many waits end with EINTR */
static const int *fake_errors;  /* errnos of the next good completions */
static int nb_fake_errors;
static int nb_enters;           /* calls that enter the kernel, so far */
static int nb_writes;           /* of an eventfd, so far */

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr);

/* Overwrite the results of good completions. */
static void fake_completions(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(ring, head, cqe) {
        if (cqe->res > 0 && nb_fake_errors > 0) {
            cqe->res = -*fake_errors++;
            nb_fake_errors--;
        }
    }
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    nb_enters++;
    return refuse_submit ? -refuse_submit : __real_io_uring_submit(ring);
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned nr)
{
    int ret;

    if (interrupt_waits > 0) {
        interrupt_waits--;
        return -EINTR;
    }
    if (refuse_submit) {
        return -refuse_submit;
    }
    nb_enters++;
    ret = __real_io_uring_submit_and_wait(ring, nr);
    fake_completions(ring);
    return ret;
}

ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    nb_writes++;
    return __real_write(fd, buf, len);
}

typedef struct Fixture {
    AioContext *ctx;
    int fd;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    GError *err = NULL;

    f->ctx = aio_context_new(AIO_BACKEND_IO_URING, &err);
    assert_null(err);
    f->fd = memfd_create("firn", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->fd, 1 << 20), 0);
    aio_set_current(f->ctx);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    assert_int_equal(co_live_count(), 0);
    aio_context_unref(f->ctx);
    close(f->fd);
    g_free(f);
    return 0;
}

typedef struct Request {
    Fixture *f;
    char *buf;
    ssize_t ret;
    int *left;
    unsigned flags;
} Request;

static void coroutine_fn read_entry(void *opaque)
{
    Request *r = opaque;
    struct iovec iov = { r->buf, 4096 };

    r->ret = aio_co_preadv(r->f->fd, &iov, 1, 0, r->flags);
    --*r->left;
}

static void coroutine_fn ten_reads_entry(void *opaque)
{
    Request *r = opaque;
    struct iovec iov = { r->buf, 4096 };

    for (int i = 0; i < 10; i++) {
        assert_int_equal(aio_co_preadv(r->f->fd, &iov, 1, 0, 0), 4096);
    }
    --*r->left;
}

static void test_requests_of_one_turn_are_submitted_by_one_call(void **state)
{
    Fixture *f = *state;
    Request requests[50];
    char *buf = g_malloc0(4096);
    int left = 50;
    int turns = 1;

    assert_int_equal(pwrite(f->fd, buf, 4096, 0), 4096);
    aio_poll(f->ctx, false);    /* submits the poll of the eventfd */
    nb_enters = 0;
    nb_writes = 0;
    for (int i = 0; i < 50; i++) {
        requests[i] = (Request) { f, buf, 0, &left, 0 };
        co_enter(co_create(ten_reads_entry, &requests[i]));
    }
    assert_int_equal(nb_enters, 0);
    aio_poll(f->ctx, true);
    assert_int_equal(nb_enters, 1);     /* for 50 requests */
    AIO_WAIT_WHILE(f->ctx, left > 0 && ++turns);

    /* 10 turns, or more where the kernel's threads read: 110 were seen. */
    assert_in_range(turns, 10, 499);
    assert_true(nb_enters <= turns);
    /* A loop that is awake needs no eventfd to wake itself. */
    assert_int_equal(nb_writes, 0);
    g_free(buf);
}

/* How many calls submit @n requests before their turn ends? */
static int early_submissions(Fixture *f, int n)
{
    Request requests[32];
    g_autofree char *buf = g_malloc0(4096);
    int left = n, early;

    aio_poll(f->ctx, false);    /* submits the poll of the eventfd */
    nb_enters = 0;
    for (int i = 0; i < n; i++) {
        requests[i] = (Request) { f, buf, 0, &left, AIO_HINT_DIRECT };
        co_enter(co_create(read_entry, &requests[i]));
    }
    early = nb_enters;
    AIO_WAIT_WHILE(f->ctx, left > 0);
    return early;
}

static void test_disk_begins_while_requests_are_prepared(void **state)
{
    Fixture *f = *state;

    assert_int_equal(early_submissions(f, 1), 0);
    assert_int_equal(early_submissions(f, 2), 1);
    /* 1, 1, 2, 4, 8; the last 16 go with the wait. */
    assert_int_equal(early_submissions(f, 32), 5);
}

/* Three times what the ring holds. */
enum { NB_REQUESTS = 768 };

static void test_requests_beyond_a_full_ring_wait_for_room(void **state)
{
    Fixture *f = *state;
    Request *requests = g_new0(Request, NB_REQUESTS);
    char *buf = g_malloc(4096);
    int left = NB_REQUESTS;

    refuse_submit = EAGAIN;
    for (int i = 0; i < NB_REQUESTS; i++) {
        requests[i] = (Request) { f, buf, 0, &left, 0 };
        co_enter(co_create(read_entry, &requests[i]));
    }
    for (int i = 0; i < 5; i++) {
        aio_poll(f->ctx, i % 2);
    }
    assert_int_equal(left, NB_REQUESTS);

    refuse_submit = 0;
    AIO_WAIT_WHILE(f->ctx, left > 0);
    for (int i = 0; i < NB_REQUESTS; i++) {
        assert_int_equal(requests[i].ret, 4096);
    }
    g_free(buf);
    g_free(requests);
}

static void on_read(void *opaque)
{
    Request *r = opaque;

    assert_int_equal(read(r->f->fd, r->buf, 1), 1);
    --*r->left;
}

/* They are added, and some removed, while nothing can be submitted. */
static void test_handlers_beyond_a_full_ring_wait_for_room(void **state)
{
    Fixture *f = *state;
    enum { NB = 300 };
    int (*pipes)[2] = g_malloc(NB * sizeof(*pipes));
    Fixture *ends = g_new0(Fixture, NB);
    Request *requests = g_new0(Request, NB);
    char c;
    int left = NB / 2;

    for (int i = 0; i < NB; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
        ends[i].fd = pipes[i][0];
        requests[i] = (Request) { &ends[i], &c, 0, &left, 0 };
    }
    refuse_submit = EBUSY;
    for (int i = 0; i < NB; i++) {
        aio_set_fd_handler(f->ctx, pipes[i][0], on_read, NULL, &requests[i]);
    }
    for (int i = 0; i < NB; i += 2) {
        aio_set_fd_handler(f->ctx, pipes[i][0], NULL, NULL, NULL);
    }
    aio_poll(f->ctx, false);
    assert_int_equal(left, NB / 2);

    refuse_submit = 0;
    AIO_WAIT_WHILE(f->ctx, left > 0);
    for (int i = 0; i < NB; i++) {
        aio_set_fd_handler(f->ctx, pipes[i][0], NULL, NULL, NULL);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    for (int i = 0; i < 5; i++) {
        aio_poll(f->ctx, false);
    }
    assert_int_equal(left, 0);
    g_free(pipes);
    g_free(ends);
    g_free(requests);
}

static void test_interrupted_wait_is_no_progress_and_no_loss(void **state)
{
    Fixture *f = *state;
    char *buf = g_malloc(4096);
    int left = 1;
    Request r = { f, buf, 0, &left, 0 };

    interrupt_waits = 1;
    co_enter(co_create(read_entry, &r));
    assert_false(aio_poll(f->ctx, true));
    assert_int_equal(left, 1);

    AIO_WAIT_WHILE(f->ctx, left > 0);
    assert_int_equal(r.ret, 4096);
    g_free(buf);
}

/* Its SQE names a slot that is empty when it is submitted at last. */
static void test_request_whose_registered_buffer_is_gone_goes_without(
    void **state)
{
    Fixture *f = *state;
    char *buf = g_malloc(4096);
    int left = 1;
    Request r = { f, buf, 0, &left, 0 };

    assert_int_equal(aio_register_buffer(f->ctx, buf, 4096), 0);
    refuse_submit = EAGAIN;
    co_enter(co_create(read_entry, &r));
    aio_unregister_buffer(f->ctx, buf);
    refuse_submit = 0;

    AIO_WAIT_WHILE(f->ctx, left > 0);
    assert_int_equal(r.ret, 4096);
    g_free(buf);
}

static void assert_read_survives(Fixture *f, const int *errors, int nb_errors)
{
    char *buf = g_malloc(4096);
    int left = 1;
    Request r = { f, buf, 0, &left, 0 };

    fake_errors = errors;
    nb_fake_errors = nb_errors;
    co_enter(co_create(read_entry, &r));
    AIO_WAIT_WHILE(f->ctx, left > 0);

    assert_int_equal(nb_fake_errors, 0);
    assert_int_equal(r.ret, 4096);
    g_free(buf);
}

static void test_interrupted_and_cancelled_requests_are_repeated(void **state)
{
    static const int errors[] = { EINTR, ECANCELED, EAGAIN, EINTR, EFAULT };

    assert_read_survives(*state, errors, G_N_ELEMENTS(errors));
    assert_int_equal(thread_pool_nb_threads(), 0);
}

static void test_request_refused_twice_ends_in_the_thread_pool(void **state)
{
    static const int errors[] = { EAGAIN, EAGAIN };

    assert_read_survives(*state, errors, G_N_ELEMENTS(errors));
    assert_int_equal(thread_pool_nb_threads(), 1);
    thread_pool_trim();
}

static void on_read_count(void *opaque)
{
    ++*(int *)opaque;
}

static void test_cancelled_poll_is_armed_again_and_runs_no_handler(
    void **state)
{
    static const int cancelled[] = { ECANCELED };
    Fixture *f = *state;
    int fds[2];
    int reads = 0;

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    aio_set_fd_handler(f->ctx, fds[0], on_read_count, NULL, &reads);
    fake_errors = cancelled;
    nb_fake_errors = 1;
    assert_false(aio_poll(f->ctx, true));
    assert_int_equal(nb_fake_errors, 0);
    assert_int_equal(reads, 0);

    AIO_WAIT_WHILE(f->ctx, reads == 0);
    aio_set_fd_handler(f->ctx, fds[0], NULL, NULL, NULL);
    close(fds[0]);
    close(fds[1]);
}

#define URING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    URING_TEST(test_requests_of_one_turn_are_submitted_by_one_call),
    URING_TEST(test_disk_begins_while_requests_are_prepared),
    URING_TEST(test_requests_beyond_a_full_ring_wait_for_room),
    URING_TEST(test_handlers_beyond_a_full_ring_wait_for_room),
    URING_TEST(test_interrupted_wait_is_no_progress_and_no_loss),
    URING_TEST(test_request_whose_registered_buffer_is_gone_goes_without),
    URING_TEST(test_interrupted_and_cancelled_requests_are_repeated),
    URING_TEST(test_request_refused_twice_ends_in_the_thread_pool),
    URING_TEST(test_cancelled_poll_is_armed_again_and_runs_no_handler),
};

/* Where there is no io_uring, there is nothing to test: a skip, said aloud. */
int main(void)
{
    GError *err = NULL;
    AioContext *ctx = aio_context_new(AIO_BACKEND_IO_URING, &err);

    if (!ctx) {
        printf("%s\n", err->message);
        g_error_free(err);
        return 77;
    }
    aio_context_unref(ctx);
    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
