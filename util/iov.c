/* SPDX-License-Identifier: MIT */
/*
 * QEMUIOVector. All functions that work on a byte range walk it with
 * iov_next(), which hands out the range piece by piece.
 */
#include "util/iov.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "util/zero.h"

void qemu_iovec_init(QEMUIOVector *q, int hint)
{
    assert(hint >= 0);
    q->iov = hint > 0 ? g_new(struct iovec, hint) : NULL;
    q->niov = 0;
    q->nalloc = hint;
    q->size = 0;
    q->local_iov = (struct iovec) { 0 };
}

void qemu_iovec_init_buf(QEMUIOVector *q, void *buf, size_t len)
{
    q->local_iov = (struct iovec) { .iov_base = buf, .iov_len = len };
    q->iov = &q->local_iov;
    q->niov = 1;
    q->nalloc = -1;
    q->size = len;
}

void qemu_iovec_init_external(QEMUIOVector *q, struct iovec *iov, int niov)
{
    assert(niov >= 0);
    q->iov = iov;
    q->niov = niov;
    q->nalloc = -1;
    q->size = 0;
    q->local_iov = (struct iovec) { 0 };
    for (int i = 0; i < niov; i++) {
        assert(iov[i].iov_len <= SIZE_MAX - q->size);
        q->size += iov[i].iov_len;
    }
}

void qemu_iovec_init_slice(QEMUIOVector *q, const QEMUIOVector *src,
                           size_t offset, size_t len)
{
    qemu_iovec_init(q, 0);
    qemu_iovec_concat(q, src, offset, len);
}

void qemu_iovec_add(QEMUIOVector *q, void *base, size_t len)
{
    assert(q->nalloc >= 0);
    assert(len <= SIZE_MAX - q->size);
    if (q->niov == q->nalloc) {
        assert(q->nalloc <= INT_MAX / 2 - 4);
        q->nalloc = q->nalloc * 2 + 4;
        q->iov = g_renew(struct iovec, q->iov, q->nalloc);
    }
    q->iov[q->niov++] = (struct iovec) { .iov_base = base, .iov_len = len };
    q->size += len;
}

void qemu_iovec_reset(QEMUIOVector *q)
{
    assert(q->nalloc >= 0);
    q->niov = 0;
    q->size = 0;
}

void qemu_iovec_destroy(QEMUIOVector *q)
{
    if (q->nalloc >= 0) {
        g_free(q->iov);
    }
    *q = (QEMUIOVector) { .nalloc = -1 };
}

/* ---- byte ranges ---- */

typedef struct IovCursor {
    const struct iovec *iov;
    size_t skip;        /* bytes of *iov that are behind us */
    size_t left;        /* bytes of the range that are before us */
} IovCursor;

/* Start at @offset, for @bytes or up to the end. */
static IovCursor iov_start(const QEMUIOVector *q, size_t offset, size_t bytes)
{
    IovCursor c = { .iov = q->iov, .skip = offset };

    assert(offset <= q->size);
    c.left = MIN(bytes, q->size - offset);
    while (c.left > 0 && c.skip >= c.iov->iov_len) {
        c.skip -= c.iov->iov_len;
        c.iov++;
    }
    return c;
}

/* The next piece. Returns false at the end of the range. */
static bool iov_next(IovCursor *c, uint8_t **ret_base, size_t *ret_len)
{
    if (c->left == 0) {
        return false;
    }
    while (c->iov->iov_len == 0) {
        c->iov++;
    }
    *ret_base = (uint8_t *)c->iov->iov_base + c->skip;
    *ret_len = MIN(c->left, c->iov->iov_len - c->skip);
    c->left -= *ret_len;
    c->skip = 0;
    c->iov++;
    return true;
}

void qemu_iovec_concat(QEMUIOVector *dst, const QEMUIOVector *src,
                       size_t offset, size_t bytes)
{
    IovCursor c = iov_start(src, offset, bytes);
    uint8_t *base;
    size_t len;

    assert(bytes <= src->size - offset);
    assert(dst != src);
    while (iov_next(&c, &base, &len)) {
        qemu_iovec_add(dst, base, len);
    }
}

size_t qemu_iovec_to_buf(const QEMUIOVector *q, size_t offset, void *buf,
                         size_t bytes)
{
    IovCursor c = iov_start(q, offset, bytes);
    uint8_t *base;
    size_t len;
    size_t done = 0;

    while (iov_next(&c, &base, &len)) {
        memcpy((uint8_t *)buf + done, base, len);
        done += len;
    }
    return done;
}

size_t qemu_iovec_from_buf(QEMUIOVector *q, size_t offset, const void *buf,
                           size_t bytes)
{
    IovCursor c = iov_start(q, offset, bytes);
    uint8_t *base;
    size_t len;
    size_t done = 0;

    while (iov_next(&c, &base, &len)) {
        memcpy(base, (const uint8_t *)buf + done, len);
        done += len;
    }
    return done;
}

size_t qemu_iovec_memset(QEMUIOVector *q, size_t offset, int c, size_t bytes)
{
    IovCursor cursor = iov_start(q, offset, bytes);
    uint8_t *base;
    size_t len;
    size_t done = 0;

    while (iov_next(&cursor, &base, &len)) {
        memset(base, c, len);
        done += len;
    }
    return done;
}

bool qemu_iovec_is_zero(const QEMUIOVector *q, size_t offset, size_t bytes)
{
    IovCursor c = iov_start(q, offset, bytes);
    uint8_t *base;
    size_t len;

    assert(bytes <= q->size - offset);
    while (iov_next(&c, &base, &len)) {
        if (!buffer_is_zero(base, len)) {
            return false;
        }
    }
    return true;
}

bool qemu_iovec_is_aligned(const QEMUIOVector *q, size_t align)
{
    uintptr_t bits = 0;

    assert(align > 0 && (align & (align - 1)) == 0);
    for (int i = 0; i < q->niov; i++) {
        bits |= (uintptr_t)q->iov[i].iov_base | q->iov[i].iov_len;
    }
    return IS_ALIGNED(bits, align);
}
