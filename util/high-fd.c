/* SPDX-License-Identifier: MIT */
#include "util/high-fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int high_fd(int fd)
{
    int high, err;

    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    err = errno;
    close(fd);
    errno = err;
    return high;
}
