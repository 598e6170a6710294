/* SPDX-License-Identifier: MIT */
/* Writing in a thread of its own. */
#include "tools/writer.h"

#define JOBS 4

typedef struct Job {
    OutFile *out;               /* NULL: the end */
    size_t bytes;
    uint64_t offset;
    uint8_t data[WRITER_BYTES];
} Job;

struct Writer {
    GThread *thread;            /* NULL once it has ended */
    GAsyncQueue *todo;
    GAsyncQueue *idle;
    Job *job;                   /* being filled, or NULL */
    gint status;                /* atomic: 0 or the first error */
};

static void run_job(Writer *writer, Job *job)
{
    int ret = 0;

    if (g_atomic_int_get(&writer->status) == 0) {
        ret = job->out->part
            ? out_file_pwrite(job->out, job->data, job->bytes, job->offset)
            : out_file_write(job->out, job->data, job->bytes);
    }
    if (ret < 0) {
        g_atomic_int_set(&writer->status, ret);
    }
    g_async_queue_push(writer->idle, job);
}

static gpointer worker(gpointer opaque)
{
    Writer *writer = opaque;
    Job *job;

    for (;;) {
        job = g_async_queue_pop(writer->todo);
        if (!job->out) {
            g_async_queue_push(writer->idle, job);
            return NULL;
        }
        run_job(writer, job);
    }
}

Writer *writer_new(void)
{
    Writer *writer = g_new0(Writer, 1);
    unsigned i;

    writer->todo = g_async_queue_new_full(g_free);
    writer->idle = g_async_queue_new_full(g_free);
    for (i = 0; i < JOBS; i++) {
        g_async_queue_push(writer->idle, g_new(Job, 1));
    }
    writer->thread = g_thread_new("writer", worker, writer);
    return writer;
}

uint8_t *writer_buffer(Writer *writer)
{
    if (!writer->job) {
        writer->job = g_async_queue_pop(writer->idle);
    }
    return writer->job->data;
}

int writer_submit(Writer *writer, OutFile *out, size_t bytes,
                  uint64_t offset)
{
    Job *job = g_steal_pointer(&writer->job);

    job->out = out;
    job->bytes = bytes;
    job->offset = offset;
    if (out->part) {
        g_async_queue_push(writer->todo, job);
    } else {
        run_job(writer, job);
    }
    return g_atomic_int_get(&writer->status);
}

int writer_finish(Writer *writer)
{
    if (writer->thread) {
        writer_buffer(writer);
        writer->job->out = NULL;
        g_async_queue_push(writer->todo, g_steal_pointer(&writer->job));
        g_thread_join(g_steal_pointer(&writer->thread));
    }
    return g_atomic_int_get(&writer->status);
}

void writer_free(Writer *writer)
{
    if (!writer) {
        return;
    }
    writer_finish(writer);
    g_async_queue_unref(writer->todo);
    g_async_queue_unref(writer->idle);
    g_free(writer);
}
