/* SPDX-License-Identifier: MIT */
/* One disk request, for its blocking and its asynchronous form. */
#ifndef FIRN_REQUEST_H
#define FIRN_REQUEST_H

#include "firn_int.h"

#define REQUEST_MAX_BYTES (UINT64_C(1) << 30)
#define REQUEST_MAX_IOV 1024

typedef enum RequestType {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_FLUSH,
    REQUEST_DISCARD,
    REQUEST_ZEROES,
} RequestType;

typedef struct RequestArgs {
    FirnDisk *disk;
    RequestType type;
    uint64_t offset;
    uint64_t bytes;         /* for reads and writes the sum over iov */
    struct iovec *iov;      /* reads and writes */
    int niov;
} RequestArgs;

static inline bool request_has_buffer(RequestType type)
{
    return type == REQUEST_READ || type == REQUEST_WRITE;
}

/*
 * Carry out @opaque, a RequestArgs. Returns 0 or -errno. On the context's
 * thread.
 */
int coroutine_fn request_args_co(void *opaque);

#endif
