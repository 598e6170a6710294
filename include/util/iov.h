/* SPDX-License-Identifier: MIT */
/*
 * QEMUIOVector: a list of buffers that together hold one transfer.
 *
 * It owns its array of iovecs, never the buffers. Three kinds:
 *   qemu_iovec_init            growing; add to it
 *   qemu_iovec_init_buf        one buffer, needs no allocation
 *   qemu_iovec_init_external   somebody else's array, fixed
 * qemu_iovec_destroy is right for all three. Not thread-safe.
 *
 * Offsets and lengths are bytes. A range that does not lie inside the vector
 * is a bug of the caller and asserted, except where a function says that it
 * stops at the end.
 */
#ifndef FIRN_UTIL_IOV_H
#define FIRN_UTIL_IOV_H

#include <stdbool.h>
#include <sys/uio.h>

#include "util/compiler.h"

typedef struct QEMUIOVector {
    struct iovec *iov;      /* niov entries */
    int niov;
    int nalloc;             /* room in iov; -1: the array is not ours */
    size_t size;            /* bytes in all entries */
    struct iovec local_iov; /* qemu_iovec_init_buf: iov points here */
} QEMUIOVector;

/* Empty vector with room for @hint entries (0 or more); it grows. */
void qemu_iovec_init(QEMUIOVector *q, int hint);

/*
 * One buffer of @len bytes. Points into @q itself, so do not copy the struct.
 * qemu_iovec_destroy is allowed and not needed.
 */
void qemu_iovec_init_buf(QEMUIOVector *q, void *buf, size_t len);

/* Wrap @iov with @niov entries, which stay the caller's. */
void qemu_iovec_init_external(QEMUIOVector *q, struct iovec *iov, int niov);

/* The bytes [@offset, @offset + @len) of @src; @src may go away after.  */
void qemu_iovec_init_slice(QEMUIOVector *q, const QEMUIOVector *src,
                           size_t offset, size_t len);

/* Append a buffer. @q from qemu_iovec_init or qemu_iovec_init_slice. */
void qemu_iovec_add(QEMUIOVector *q, void *base, size_t len);

/* Append the bytes [@offset, @offset + @bytes) of @src to @dst. */
void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src,
                       size_t offset, size_t bytes);

/* Empty again, room kept. @q from qemu_iovec_init or qemu_iovec_init_slice. */
void qemu_iovec_reset(QEMUIOVector *q);

/* Free what @q owns and clear it. */
void qemu_iovec_destroy(QEMUIOVector *q);

/*
 * Copy @bytes from @offset on into @buf, or from @buf; stop at the end of the
 * vector. @offset may be q->size at most. Returns the bytes copied.
 */
size_t qemu_iovec_to_buf(const QEMUIOVector *q, size_t offset, void *buf,
                         size_t bytes);
size_t qemu_iovec_from_buf(QEMUIOVector *q, size_t offset, const void *buf,
                           size_t bytes);

/* Set @bytes from @offset on to @c; stops at the end. Returns the count. */
size_t qemu_iovec_memset(QEMUIOVector *q, size_t offset, int c, size_t bytes);

/* Are all of [@offset, @offset + @bytes) zero? True for no bytes. */
bool qemu_iovec_is_zero(const QEMUIOVector *q, size_t offset, size_t bytes);

/* Are address and length of every entry multiples of @align (power of two)? */
bool qemu_iovec_is_aligned(const QEMUIOVector *q, size_t align);

#endif
