/* SPDX-License-Identifier: MIT */
/* Checksums in a thread of their own. */
#include <string.h>

#include "tools/hasher.h"

#define JOBS       4
#define JOB_BYTES  (1U << 20)
#define ZERO_BYTES (64U << 10)

/* Bytes of one checksum: data, then zeroes. */
typedef struct Job {
    Sha256 *sum;             /* NULL: the end */
    size_t used;
    uint64_t zeroes;
    uint8_t data[JOB_BYTES];
} Job;

struct Hasher {
    GThread *thread;
    GAsyncQueue *todo;
    GAsyncQueue *idle;
    Job *job;                   /* being filled; NULL: none */
    gboolean (*stop)(void);
};

static void hash_zeroes(Hasher *hasher, Job *job)
{
    static const uint8_t zeroes[ZERO_BYTES];

    while (job->zeroes > 0 && !hasher->stop()) {
        uint64_t n = MIN(job->zeroes, ZERO_BYTES);

        sha256_update(job->sum, zeroes, n);
        job->zeroes -= n;
    }
}

static gpointer worker(gpointer opaque)
{
    Hasher *hasher = opaque;
    Job *job;

    for (;;) {
        job = g_async_queue_pop(hasher->todo);
        if (!job->sum) {
            g_free(job);
            return NULL;
        }
        sha256_update(job->sum, job->data, job->used);
        hash_zeroes(hasher, job);
        g_async_queue_push(hasher->idle, job);
    }
}

Hasher *hasher_new(gboolean (*stop)(void))
{
    Hasher *hasher = g_new0(Hasher, 1);
    unsigned i;

    hasher->stop = stop;
    hasher->todo = g_async_queue_new_full(g_free);
    hasher->idle = g_async_queue_new_full(g_free);
    for (i = 0; i < JOBS; i++) {
        g_async_queue_push(hasher->idle, g_new(Job, 1));
    }
    hasher->thread = g_thread_new("hasher", worker, hasher);
    return hasher;
}

static void submit(Hasher *hasher)
{
    if (hasher->job) {
        g_async_queue_push(hasher->todo, hasher->job);
        hasher->job = NULL;
    }
}

/* A job that has room for data of @sum. */
static Job *job_for(Hasher *hasher, Sha256 *sum)
{
    Job *job = hasher->job;

    if (job && (job->sum != sum || job->used == JOB_BYTES)) {
        submit(hasher);
        job = NULL;
    }
    if (!job) {
        job = g_async_queue_pop(hasher->idle);
        job->sum = sum;
        job->used = 0;
        job->zeroes = 0;
        hasher->job = job;
    }
    return job;
}

void hasher_update(Hasher *hasher, Sha256 *sum, const uint8_t *data,
                   uint64_t bytes)
{
    Job *job;
    size_t n;

    if (!data) {
        job_for(hasher, sum)->zeroes += bytes;
        return;
    }
    while (bytes > 0) {
        if (hasher->job && hasher->job->zeroes > 0) {
            submit(hasher);
        }
        job = job_for(hasher, sum);
        n = MIN(bytes, JOB_BYTES - job->used);
        memcpy(job->data + job->used, data, n);
        job->used += n;
        data += n;
        bytes -= n;
    }
}

void hasher_free(Hasher *hasher)
{
    Job *end;

    if (!hasher) {
        return;
    }
    submit(hasher);
    end = g_new(Job, 1);
    end->sum = NULL;
    g_async_queue_push(hasher->todo, end);
    g_thread_join(hasher->thread);
    g_async_queue_unref(hasher->todo);
    g_async_queue_unref(hasher->idle);
    g_free(hasher);
}
