/* SPDX-License-Identifier: MIT */
/*
 * The thread pool: one queue, one mutex, workers that come and go.
 *
 * A job lives on the stack of the coroutine that waits for it. When it is
 * done its worker wakes that coroutine and touches the job no more, since the
 * coroutine may be gone by then.
 *
 * After fork() the child has none of the workers, so it starts with an empty
 * pool of its own.
 */
#include "util/thread-pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "util/aio.h"
#include "util/coroutine.h"

enum { IDLE_SECONDS = 5 };

typedef struct Job {
    int (*fn)(void *opaque);
    void *opaque;
    int ret;
    Coroutine *co;
    struct Job *next;
} Job;

static struct {
    pthread_mutex_t lock;       /* of all members */
    pthread_cond_t work;        /* a job was queued, or trimming started */
    pthread_cond_t ended;       /* a worker has ended */
    Job *head;
    Job *tail;
    unsigned nb_queued;
    unsigned nb_idle;           /* workers waiting for work */
    unsigned nb_threads;
    bool trimming;
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
};

static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

/* ---- start and fork ---- */

static void init_conds(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.work, &attr);
    pthread_cond_init(&pool.ended, &attr);
    pthread_condattr_destroy(&attr);
}

static void before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&pool.lock);
}

static void after_fork_in_child(void)
{
    pool.head = NULL;
    pool.tail = NULL;
    pool.nb_queued = 0;
    pool.nb_idle = 0;
    pool.nb_threads = 0;
    pool.trimming = false;
    init_conds();
    pthread_mutex_unlock(&pool.lock);
}

static void init_pool(void)
{
    init_conds();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- workers ---- */

/* The next job, or NULL when this worker should end. Called locked. */
static Job *wait_for_job(void)
{
    struct timespec deadline;
    Job *job;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += IDLE_SECONDS;
    pool.nb_idle++;
    while (!pool.head && !pool.trimming && err != ETIMEDOUT) {
        err = pthread_cond_timedwait(&pool.work, &pool.lock, &deadline);
    }
    pool.nb_idle--;

    job = pool.head;
    if (job) {
        pool.head = job->next;
        if (!pool.head) {
            pool.tail = NULL;
        }
        pool.nb_queued--;
    }
    return job;
}

static void *worker(void *unused)
{
    Job *job;

    pthread_mutex_lock(&pool.lock);
    while ((job = wait_for_job()) != NULL) {
        pthread_mutex_unlock(&pool.lock);
        job->ret = job->fn(job->opaque);
        aio_co_wake(job->co);   /* @job may be gone now */
        pthread_mutex_lock(&pool.lock);
    }
    pool.nb_threads--;
    pthread_cond_broadcast(&pool.ended);
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* Called locked. Returns whether there is one worker more. */
static bool start_worker(void)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    int err;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads of the program. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&thread, &attr, worker, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (err) {
        return false;
    }
    pool.nb_threads++;
    return true;
}

/* Returns false, with @job not queued, if there is nobody to run it. */
static bool queue_job(Job *job)
{
    bool ok = true;

    pthread_once(&pool_once, init_pool);
    pthread_mutex_lock(&pool.lock);
    if (pool.nb_queued >= pool.nb_idle && pool.nb_threads < THREAD_POOL_MAX) {
        ok = start_worker() || pool.nb_threads > 0;
    }
    if (ok) {
        job->next = NULL;
        if (pool.tail) {
            pool.tail->next = job;
        } else {
            pool.head = job;
        }
        pool.tail = job;
        pool.nb_queued++;
        pthread_cond_signal(&pool.work);
    }
    pthread_mutex_unlock(&pool.lock);
    return ok;
}

/* ---- interface ---- */

int coroutine_fn thread_pool_co_run(int (*fn)(void *), void *opaque)
{
    Job job = { .fn = fn, .opaque = opaque, .co = co_self() };

    assert(job.co && co_home(job.co));
    if (!queue_job(&job)) {
        return fn(opaque);
    }
    co_yield();
    return job.ret;
}

unsigned thread_pool_nb_threads(void)
{
    unsigned n;

    pthread_mutex_lock(&pool.lock);
    n = pool.nb_threads;
    pthread_mutex_unlock(&pool.lock);
    return n;
}

void thread_pool_trim(void)
{
    pthread_once(&pool_once, init_pool);
    pthread_mutex_lock(&pool.lock);
    pool.trimming = true;
    pthread_cond_broadcast(&pool.work);
    while (pool.nb_threads > 0) {
        pthread_cond_wait(&pool.ended, &pool.lock);
    }
    pool.trimming = false;
    pthread_mutex_unlock(&pool.lock);
}
