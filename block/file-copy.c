/* SPDX-License-Identifier: MIT */
/*
 * Copying between files inside the kernel: copy_file_range(2) in a worker of
 * the thread pool. File systems that can share blocks copy nothing at all.
 */
#include <errno.h>
#include <unistd.h>

#include "block/file_int.h"
#include "util/thread-pool.h"

typedef struct Copy {
    int from, to;
    uint64_t from_offset, to_offset, bytes;
} Copy;

/* What another way of copying may get over. */
static bool is_refusal(int err)
{
    return err == EXDEV || err == EINVAL || err == EOPNOTSUPP ||
           err == ENOSYS || err == EPERM || err == EBADF ||
           err == ETXTBSY || err == EOVERFLOW;
}

static int run(void *opaque)
{
    Copy *c = opaque;

    while (c->bytes) {
        off_t from = c->from_offset, to = c->to_offset;
        ssize_t n = copy_file_range(c->from, &from, c->to, &to, c->bytes, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return is_refusal(errno) ? -ENOTSUP : -errno;
        }
        if (n == 0) {
            return -ENOTSUP; /* the end of the source: zeroes, if anything */
        }
        c->from_offset += n;
        c->to_offset += n;
        c->bytes -= n;
    }
    return 0;
}

int coroutine_fn file_copy(int from, uint64_t from_offset, int to,
                           uint64_t to_offset, uint64_t bytes)
{
    Copy c = { from, to, from_offset, to_offset, bytes };

    return thread_pool_co_run(run, &c);
}
