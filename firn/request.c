/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous disk requests.
 *
 *   any thread        context's thread
 *   submit     --->   start_bh: cancelled before it began? complete()
 *                     else request_entry (coroutine): the I/O
 *                     complete_bh ---> complete(): callback, in_flight - 1
 *
 * The callback runs from a bottom half, never inside the request's
 * coroutine, so that it may do anything a callback may. A request holds one
 * reference to itself until its callback has returned; the handle that the
 * caller asked for is the other.
 */
#include "request.h"

#include <errno.h>

#include "util/coroutine.h"
#include "util/iov.h"

struct FirnRequest {
    gatomicrefcount refs;
    RequestArgs args;
    FirnRequestFunc *cb;
    void *opaque;
    gint cancelled;         /* atomic */
    int ret;                /* context's thread */
    struct iovec iov[];     /* args.iov */
};

int coroutine_fn request_args_co(void *opaque)
{
    RequestArgs *a = opaque;
    BlockBackend *blk = a->disk->blk;
    QEMUIOVector qiov;

    switch (a->type) {
    case REQUEST_READ:
        qemu_iovec_init_external(&qiov, a->iov, a->niov);
        return blk_co_preadv(blk, a->offset, a->bytes, &qiov, 0);
    case REQUEST_WRITE:
        qemu_iovec_init_external(&qiov, a->iov, a->niov);
        return blk_co_pwritev(blk, a->offset, a->bytes, &qiov, 0);
    case REQUEST_FLUSH:
        return blk_co_flush(blk);
    case REQUEST_DISCARD:
        return blk_co_pdiscard(blk, a->offset, a->bytes);
    case REQUEST_ZEROES:
        return blk_co_pwrite_zeroes(blk, a->offset, a->bytes,
                                    BDRV_REQ_MAY_UNMAP);
    }
    g_assert_not_reached();
}

void firn_request_unref(FirnRequest *req)
{
    if (req && g_atomic_ref_count_dec(&req->refs)) {
        g_free(req);
    }
}

void firn_request_cancel(FirnRequest *req)
{
    g_atomic_int_set(&req->cancelled, 1);
}

static void complete(FirnRequest *req)
{
    FirnDisk *disk = req->args.disk;
    bool cancelled = g_atomic_int_get(&req->cancelled);

    req->cb(req->opaque, cancelled ? -ECANCELED : req->ret);
    firn_request_unref(req);
    if (g_atomic_int_dec_and_test(&disk->in_flight)) {
        co_queue_restart_all(&disk->idle);
    }
}

static void complete_bh(void *opaque)
{
    complete(opaque);
}

static void coroutine_fn request_entry(void *opaque)
{
    FirnRequest *req = opaque;

    req->ret = request_args_co(&req->args);
    firn_post(req->args.disk->ctx, complete_bh, req);
}

static void start_bh(void *opaque)
{
    FirnRequest *req = opaque;

    if (g_atomic_int_get(&req->cancelled)) {
        complete(req);
        return;
    }
    co_enter(co_create(request_entry, req));
}

static int submit(const RequestArgs *args, const struct iovec *iov,
                  FirnRequestFunc *cb, void *opaque,
                  FirnRequest **ret_request)
{
    size_t niov = args->niov;
    FirnRequest *req;

    req = g_malloc0(sizeof(*req) + niov * sizeof(req->iov[0]));
    g_atomic_ref_count_init(&req->refs);
    req->args = *args;
    req->args.iov = req->iov;
    for (size_t i = 0; i < niov; i++) {
        req->iov[i] = iov[i];
    }
    req->cb = cb;
    req->opaque = opaque;
    if (ret_request) {
        g_atomic_ref_count_inc(&req->refs);
        *ret_request = req;
    }
    g_atomic_int_inc(&args->disk->in_flight);
    firn_post(args->disk->ctx, start_bh, req);
    return 0;
}

static int submit_vector(FirnDisk *disk, RequestType type, uint64_t offset,
                         const struct iovec *iov, int niov,
                         FirnRequestFunc *cb, void *opaque,
                         FirnRequest **ret_request)
{
    RequestArgs args = {
        .disk = disk,
        .type = type,
        .offset = offset,
        .niov = niov,
    };

    if (niov < 0 || niov > REQUEST_MAX_IOV) {
        return -EINVAL;
    }
    for (int i = 0; i < niov; i++) {
        if (iov[i].iov_len > REQUEST_MAX_BYTES - args.bytes) {
            return -EINVAL;
        }
        args.bytes += iov[i].iov_len;
    }
    return submit(&args, iov, cb, opaque, ret_request);
}

int firn_disk_preadv_async(FirnDisk *disk, uint64_t offset,
                           const struct iovec *iov, int niov,
                           FirnRequestFunc *cb, void *opaque,
                           FirnRequest **ret_request)
{
    return submit_vector(disk, REQUEST_READ, offset, iov, niov, cb, opaque,
                         ret_request);
}

int firn_disk_pwritev_async(FirnDisk *disk, uint64_t offset,
                            const struct iovec *iov, int niov,
                            FirnRequestFunc *cb, void *opaque,
                            FirnRequest **ret_request)
{
    return submit_vector(disk, REQUEST_WRITE, offset, iov, niov, cb, opaque,
                         ret_request);
}

int firn_disk_flush_async(FirnDisk *disk, FirnRequestFunc *cb, void *opaque,
                          FirnRequest **ret_request)
{
    RequestArgs args = { .disk = disk, .type = REQUEST_FLUSH };

    return submit(&args, NULL, cb, opaque, ret_request);
}

int firn_disk_discard_async(FirnDisk *disk, uint64_t offset, uint64_t bytes,
                            FirnRequestFunc *cb, void *opaque,
                            FirnRequest **ret_request)
{
    RequestArgs args = {
        .disk = disk,
        .type = REQUEST_DISCARD,
        .offset = offset,
        .bytes = bytes,
    };

    return submit(&args, NULL, cb, opaque, ret_request);
}

int firn_disk_write_zeroes_async(FirnDisk *disk, uint64_t offset,
                                 uint64_t bytes, FirnRequestFunc *cb,
                                 void *opaque, FirnRequest **ret_request)
{
    RequestArgs args = {
        .disk = disk,
        .type = REQUEST_ZEROES,
        .offset = offset,
        .bytes = bytes,
    };

    return submit(&args, NULL, cb, opaque, ret_request);
}
