/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: sends the process a signal when it comes to its Nth request
 * to a file, FIRN_SIGNAL_AT=N:SIGNAL. With FIRN_AIO=threads every request is
 * one of the calls below, so a test can interrupt a tool at each of them.
 * From then on each request adds a byte to the file FIRN_SIGNAL_COUNT, if any.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int count;

static void note(void)
{
    const char *path = getenv("FIRN_SIGNAL_COUNT");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;

    if (fd >= 0 && write(fd, ".", 1) == 1) {
        close(fd);
    }
}

static void request(void)
{
    const char *text = getenv("FIRN_SIGNAL_AT");
    int at, sig, now;

    if (!text || sscanf(text, "%d:%d", &at, &sig) != 2) {
        return;
    }
    now = atomic_fetch_add(&count, 1) + 1;
    if (now >= at) {
        note();
    }
    if (now == at) {
        kill(getpid(), sig);
        usleep(1000); /* the main thread gets it, before the request is done */
    }
}

#define WRAP(ret, name, params, args)                       \
    __attribute__((visibility("default"))) ret name params; \
    ret name params                                         \
    {                                                       \
        ret (*real) params = (ret (*) params)dlsym(RTLD_NEXT, #name); \
                                                            \
        request();                                          \
        return real args;                                   \
    }

WRAP(ssize_t, preadv64, (int fd, const struct iovec *iov, int n, off64_t off),
     (fd, iov, n, off))
WRAP(ssize_t, pwritev64v2,
     (int fd, const struct iovec *iov, int n, off64_t off, int flags),
     (fd, iov, n, off, flags))
WRAP(int, fallocate64, (int fd, int mode, off64_t off, off64_t bytes),
     (fd, mode, off, bytes))
WRAP(int, ftruncate64, (int fd, off64_t bytes), (fd, bytes))
WRAP(int, fdatasync, (int fd), (fd))
