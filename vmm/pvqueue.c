/* SPDX-License-Identifier: MIT */
/* The guest's disk queue on firn's asynchronous requests; see pvqueue.h. */
#include "pvqueue.h"

void pvqueue_init(PvQueue *q)
{
    q->in_flight = 0;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->idle, NULL);
}

void pvqueue_cleanup(PvQueue *q)
{
    g_assert(q->in_flight == 0);
    pthread_cond_destroy(&q->idle);
    pthread_mutex_destroy(&q->lock);
}

/* On the context's thread. */
static void request_done(void *opaque, int ret)
{
    PvRequest *req = opaque;
    PvQueue *q = req->queue;

    pthread_mutex_lock(&q->lock);
    req->ret = ret;
    q->in_flight--;
    if (q->in_flight == 0) {
        pthread_cond_signal(&q->idle);
    }
    pthread_mutex_unlock(&q->lock);
}

void pvqueue_submit(PvQueue *q, PvRequest *req)
{
    struct iovec iov = { .iov_base = req->buf, .iov_len = req->bytes };
    int ret = 0;

    req->queue = q;
    pthread_mutex_lock(&q->lock);
    q->in_flight++;
    pthread_mutex_unlock(&q->lock);
    switch (req->type) {
    case PV_READ:
        ret = firn_disk_preadv_async(req->disk, req->offset, &iov, 1,
                                     request_done, req, NULL);
        break;
    case PV_WRITE:
        ret = firn_disk_pwritev_async(req->disk, req->offset, &iov, 1,
                                      request_done, req, NULL);
        break;
    case PV_FLUSH:
        ret = firn_disk_flush_async(req->disk, request_done, req, NULL);
        break;
    }
    if (ret < 0) {
        request_done(req, ret);
    }
}

void pvqueue_wait(PvQueue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->in_flight > 0) {
        pthread_cond_wait(&q->idle, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
}
