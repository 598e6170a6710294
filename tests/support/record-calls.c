/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: keeps what a tool does to its files, to be played back by
 * power_cuts.py. With FIRN_AIO=threads every request is one of the calls
 * below. They are done one after the other, and each that succeeded on a file
 * in the working directory is appended to the file FIRN_RECORD, as one line:
 *
 *   write NAME OFFSET BYTES      then the bytes and an empty line
 *   zero NAME OFFSET BYTES       the file may get longer
 *   hole NAME OFFSET BYTES       it does not
 *   truncate NAME BYTES 0
 *   flush NAME 0 0
 *
 * With FIRN_FAIL_AT=N the Nth call on such a file, reads too, does nothing and
 * fails with EIO; "fail NAME 0 0" is kept of it, "lost NAME 0 0" of a flush:
 * what it was for is not written again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
/* The next function of this name, with the type of this one. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t off);
ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t off,
                    int flags);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;

/* Its name in the working directory, or NULL. */
static const char *name_of(int fd, char buf[4096])
{
    char link[64], dir[4096];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, buf, 4095);
    if (n < 0 || !getcwd(dir, sizeof(dir))) {
        return NULL;
    }
    buf[n] = '\0';
    n = strlen(dir);
    return !strncmp(buf, dir, n) && buf[n] == '/' ? buf + n + 1 : NULL;
}

static void put(const char *what, const char *name, off64_t offset,
                off64_t bytes)
{
    if (!out) {
        out = fopen(getenv("FIRN_RECORD"), "ae");
    }
    if (!out || fprintf(out, "%s %s %lld %lld\n", what, name,
                        (long long)offset, (long long)bytes) < 0) {
        abort();
    }
}

static void put_done(void)
{
    if (fflush(out)) {
        abort();
    }
}

static void record(const char *what, int fd, off64_t offset, off64_t bytes)
{
    char buf[4096];
    const char *name = name_of(fd, buf);

    if (name) {
        put(what, name, offset, bytes);
        put_done();
    }
}

/* Shall this one fail? */
static bool fails(int fd, const char *what)
{
    static int count;
    const char *at = getenv("FIRN_FAIL_AT");
    char buf[4096];

    if (!at || !name_of(fd, buf) || ++count != atoi(at)) {
        return false;
    }
    record(what, fd, 0, 0);
    errno = EIO;
    return true;
}

static void record_iov(int fd, const struct iovec *iov, off64_t offset,
                       size_t bytes)
{
    char buf[4096];
    const char *name = name_of(fd, buf);

    if (!name) {
        return;
    }
    put("write", name, offset, bytes);
    for (; bytes; iov++) {
        size_t n = iov->iov_len < bytes ? iov->iov_len : bytes;

        fwrite(iov->iov_base, 1, n, out);
        bytes -= n;
    }
    fputs("\n", out);
    put_done();
}

PUBLIC ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t off)
{
    ssize_t ret;

    pthread_mutex_lock(&lock);
    ret = fails(fd, "fail") ? -1 : REAL(preadv64)(fd, iov, n, off);
    pthread_mutex_unlock(&lock);
    return ret;
}

PUBLIC ssize_t pwritev64v2(int fd, const struct iovec *iov, int n,
                           off64_t off, int flags)
{
    ssize_t ret;

    pthread_mutex_lock(&lock);
    ret = fails(fd, "fail") ? -1 : REAL(pwritev64v2)(fd, iov, n, off, flags);
    if (ret > 0) {
        record_iov(fd, iov, off, ret);
    }
    if (ret > 0 && (flags & (RWF_DSYNC | RWF_SYNC))) {
        record("flush", fd, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

/* What arrived is read back. */
PUBLIC ssize_t copy_file_range(int from, off64_t *from_off, int to,
                               off64_t *to_off, size_t bytes, unsigned flags)
{
    off64_t at = to_off ? *to_off : 0;
    ssize_t ret;

    pthread_mutex_lock(&lock);
    ret = fails(to, "fail") ? -1
        : REAL(copy_file_range)(from, from_off, to, to_off, bytes, flags);
    if (ret > 0) {
        struct iovec iov = { malloc(ret), ret };

        if (!to_off || !iov.iov_base ||
            pread64(to, iov.iov_base, ret, at) != ret) {
            abort();
        }
        record_iov(to, &iov, at, ret);
        free(iov.iov_base);
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

PUBLIC int fallocate64(int fd, int mode, off64_t off, off64_t bytes)
{
    int ret;

    pthread_mutex_lock(&lock);
    ret = fails(fd, "fail") ? -1 : REAL(fallocate64)(fd, mode, off, bytes);
    if (ret == 0 && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
        record(mode & FALLOC_FL_KEEP_SIZE ? "hole" : "zero", fd, off, bytes);
    } else if (ret == 0) {
        record("zero", fd, off + bytes, 0); /* only the length */
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

PUBLIC int ftruncate64(int fd, off64_t bytes)
{
    int ret;

    pthread_mutex_lock(&lock);
    ret = fails(fd, "fail") ? -1 : REAL(ftruncate64)(fd, bytes);
    if (ret == 0) {
        record("truncate", fd, bytes, 0);
    }
    pthread_mutex_unlock(&lock);
    return ret;
}

/* Only told: what the disk would have is found out from that. */
PUBLIC int fdatasync(int fd)
{
    int ret;

    pthread_mutex_lock(&lock);
    ret = fails(fd, "lost") ? -1 : 0;
    if (ret == 0) {
        record("flush", fd, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return ret;
}
