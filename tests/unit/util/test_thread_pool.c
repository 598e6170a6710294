/* SPDX-License-Identifier: MIT */
/* The thread pool, used by coroutines of one and of several contexts. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "util/aio.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

static AioContext *new_context(void)
{
    GError *err = NULL;
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, &err);

    assert_null(err);
    return ctx;
}

typedef struct Job {
    pthread_t caller;
    bool elsewhere;
    bool signals_blocked;
} Job;

static int job_fn(void *opaque)
{
    Job *job = opaque;
    sigset_t mask;

    job->elsewhere = !pthread_equal(job->caller, pthread_self());
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    job->signals_blocked = sigismember(&mask, SIGINT) == 1;
    return -ENOSPC;
}

static int coroutine_fn one_job(void *opaque)
{
    Job *job = opaque;

    job->caller = pthread_self();
    return thread_pool_co_run(job_fn, job);
}

static void test_job_runs_in_a_worker_and_its_result_comes_back(void **state)
{
    AioContext *ctx = new_context();
    Job job = { 0 };

    assert_int_equal(aio_run_blocking(ctx, one_job, &job), -ENOSPC);
    assert_true(job.elsewhere);
    assert_true(job.signals_blocked);
    aio_context_unref(ctx);
}

/* ---- many ---- */

/*
 * Jobs that wait for each other: they end only if @want of them run at the
 * same time.
 */
typedef struct Meeting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int want;
    int present;
    int max_present;
    int left;
    AioContext *ctx;
} Meeting;

static int meet(void *opaque)
{
    Meeting *m = opaque;

    pthread_mutex_lock(&m->lock);
    m->present++;
    pthread_cond_broadcast(&m->cond);
    while (m->present < m->want) {
        pthread_cond_wait(&m->cond, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return 0;
}

static void coroutine_fn meet_entry(void *opaque)
{
    Meeting *m = opaque;

    thread_pool_co_run(meet, m);
    m->left++;
}

static void test_as_many_jobs_as_allowed_run_at_the_same_time(void **state)
{
    Meeting m = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
        .want = THREAD_POOL_MAX,
        .ctx = new_context(),
    };

    for (int i = 0; i < THREAD_POOL_MAX; i++) {
        aio_co_schedule(m.ctx, co_create(meet_entry, &m));
    }
    AIO_WAIT_WHILE(m.ctx, m.left < THREAD_POOL_MAX);
    assert_int_equal(thread_pool_nb_threads(), THREAD_POOL_MAX);
    aio_context_unref(m.ctx);
}

static int crowd(void *opaque)
{
    Meeting *m = opaque;

    pthread_mutex_lock(&m->lock);
    m->present++;
    m->max_present = MAX(m->max_present, m->present);
    pthread_mutex_unlock(&m->lock);
    sched_yield();
    pthread_mutex_lock(&m->lock);
    m->present--;
    pthread_mutex_unlock(&m->lock);
    return 0;
}

static void coroutine_fn crowd_entry(void *opaque)
{
    Meeting *m = opaque;

    thread_pool_co_run(crowd, m);
    m->left++;
}

static void test_more_jobs_than_workers_all_run_within_the_limit(void **state)
{
    Meeting m = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .ctx = new_context(),
    };

    for (int i = 0; i < 2000; i++) {
        aio_co_schedule(m.ctx, co_create(crowd_entry, &m));
    }
    AIO_WAIT_WHILE(m.ctx, m.left < 2000);
    assert_in_range(m.max_present, 1, THREAD_POOL_MAX);
    assert_in_range(thread_pool_nb_threads(), 1, THREAD_POOL_MAX);
    aio_context_unref(m.ctx);
}

/* ---- several contexts ---- */

static int increment(void *opaque)
{
    int *value = opaque;

    return ++*value;
}

static int coroutine_fn count_to_500(void *opaque)
{
    AioContext *home = opaque;
    int value = 0;

    for (int i = 1; i <= 500; i++) {
        assert_int_equal(thread_pool_co_run(increment, &value), i);
        assert_ptr_equal(aio_get_current(), home);
    }
    return value;
}

static void *context_thread(void *unused)
{
    AioContext *ctx = new_context();

    assert_int_equal(aio_run_blocking(ctx, count_to_500, ctx), 500);
    aio_context_unref(ctx);
    return NULL;
}

static void test_coroutines_of_several_threads_wake_up_at_home(void **state)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, context_thread, NULL);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void test_context_may_be_freed_as_soon_as_the_job_is_done(void **state)
{
    for (int i = 0; i < 200; i++) {
        AioContext *ctx = new_context();
        Job job = { 0 };

        assert_int_equal(aio_run_blocking(ctx, one_job, &job), -ENOSPC);
        aio_context_unref(ctx);
    }
}

/* ---- ends ---- */

static void test_trim_ends_all_workers_and_the_pool_goes_on(void **state)
{
    AioContext *ctx = new_context();
    Job job = { 0 };

    assert_int_equal(aio_run_blocking(ctx, one_job, &job), -ENOSPC);
    assert_true(thread_pool_nb_threads() > 0);
    thread_pool_trim();
    assert_int_equal(thread_pool_nb_threads(), 0);
    thread_pool_trim();

    job.elsewhere = false;
    assert_int_equal(aio_run_blocking(ctx, one_job, &job), -ENOSPC);
    assert_true(job.elsewhere);
    aio_context_unref(ctx);
}

static void test_child_of_a_fork_has_a_pool_of_its_own(void **state)
{
    AioContext *ctx = new_context();
    Job job = { 0 };
    int status;
    pid_t pid;

#ifdef __SANITIZE_THREAD__
    print_message("TSan allows no new threads after such a fork\n");
    skip();
#endif
    assert_int_equal(aio_run_blocking(ctx, one_job, &job), -ENOSPC);
    aio_context_unref(ctx);
    assert_true(thread_pool_nb_threads() > 0);

    pid = fork();
    if (pid == 0) {
        bool ok = thread_pool_nb_threads() == 0;

        alarm(FIRN_TEST_HANG);
        ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
        job.elsewhere = false;
        ok &= aio_run_blocking(ctx, one_job, &job) == -ENOSPC;
        aio_context_unref(ctx);
        ok &= job.elsewhere;
        /* Not exit: leak checkers see the stacks of the parent's workers. */
        execl("/bin/sh", "sh", "-c", ok ? "exit 0" : "exit 1", NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_job_runs_in_a_worker_and_its_result_comes_back),
    cmocka_unit_test(test_as_many_jobs_as_allowed_run_at_the_same_time),
    cmocka_unit_test(test_more_jobs_than_workers_all_run_within_the_limit),
    cmocka_unit_test(test_coroutines_of_several_threads_wake_up_at_home),
    cmocka_unit_test(test_context_may_be_freed_as_soon_as_the_job_is_done),
    cmocka_unit_test(test_trim_ends_all_workers_and_the_pool_goes_on),
    cmocka_unit_test(test_child_of_a_fork_has_a_pool_of_its_own),
};

static int trim(void **state)
{
    thread_pool_trim();
    return 0;
}

FIRN_TEST_MAIN_FULL(tests, NULL, trim)
