/* SPDX-License-Identifier: MIT */
/*
 * Output files of the tools. A regular file is written as FILE.part-PID and
 * renamed when it is complete, so that no failure, signal or kill leaves a
 * half-written FILE or loses the one that was there. Devices and pipes are
 * written in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/tool-common.h"
#include "util/high-fd.h"

static int failed(OutFile *out, const char *what)
{
    int err = errno;

    if (!out->error) {
        out->error = g_strdup_printf("%s: %s: %s%s", out->path, what,
                                     g_strerror(err), err == ENOSPC
                                     ? " (nothing was kept; choose a file "
                                       "on a larger disk)" : "");
    }
    return -err;
}

static int open_part(OutFile *out)
{
    struct stat st;

    if (stat(out->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        return high_fd(open(out->path, O_WRONLY | O_CLOEXEC));
    }
    out->part = g_strdup_printf("%s.part-%d", out->path, (int)getpid());
    return high_fd(open(out->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                        0666));
}

OutFile *out_file_new(const char *path, char **ret_error)
{
    OutFile *out = g_new0(OutFile, 1);

    out->path = g_strdup(path);
    if (g_str_equal(path, "-")) {
        out->fd = STDOUT_FILENO;
        if (isatty(out->fd)) {
            *ret_error = g_strdup("standard output is a terminal; redirect "
                                  "it or name a file");
            out_file_free(out);
            return NULL;
        }
        return out;
    }
    out->fd = open_part(out);
    if (out->fd < 0) {
        failed(out, "cannot create it");
        *ret_error = g_strdup(out->error);
        g_clear_pointer(&out->part, g_free);
        out_file_free(out);
        return NULL;
    }
    return out;
}

int out_file_write(OutFile *out, const void *data, size_t bytes)
{
    const char *p = data;

    while (bytes > 0) {
        ssize_t n = write(out->fd, p, bytes);

        if (n < 0) {
            if (errno == EINTR && !tool_interrupted()) {
                continue;
            }
            return failed(out, "writing");
        }
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int out_file_pwrite(OutFile *out, const void *data, size_t bytes,
                    uint64_t offset)
{
    const char *p = data;

    while (bytes > 0) {
        ssize_t n = pwrite(out->fd, p, bytes, (off_t)offset);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return failed(out, "writing");
        }
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

int out_file_truncate(OutFile *out, uint64_t bytes)
{
    if (bytes > INT64_MAX) {
        errno = EFBIG;
        return failed(out, "setting its length");
    }
    return ftruncate(out->fd, (off_t)bytes) < 0
        ? failed(out, "setting its length") : 0;
}

int out_file_commit(OutFile *out)
{
    int fd = out->fd;

    out->fd = -1;
    if (fd != STDOUT_FILENO && close(fd) < 0) {
        return failed(out, "closing");
    }
    if (out->part && rename(out->part, out->path) < 0) {
        return failed(out, "renaming it into place");
    }
    g_clear_pointer(&out->part, g_free);
    return 0;
}

void out_file_free(OutFile *out)
{
    if (!out) {
        return;
    }
    if (out->fd >= 0 && out->fd != STDOUT_FILENO) {
        close(out->fd);
    }
    if (out->part) {
        unlink(out->part);
    }
    g_free(out->part);
    g_free(out->path);
    g_free(out->error);
    g_free(out);
}
