/* SPDX-License-Identifier: MIT */
/* Guest RAM: a shared memfd, or private anonymous memory to compare with. */
#include "ram.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"

static int open_memfd(uint64_t bytes)
{
    int fd = memfd_create("firn-vmm-ram", MFD_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)bytes) < 0) {
        int err = errno;

        close(fd);
        return -err;
    }
    return fd;
}

int ram_init(Ram *ram, uint64_t bytes, bool anon, GError **errp)
{
    int flags = anon ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    int fd = -1;
    void *host;

    if (!anon) {
        fd = open_memfd(bytes);
        if (fd < 0) {
            return vmm_error(errp, fd, "cannot make a memfd of %" PRIu64
                             " bytes: %s", bytes, g_strerror(-fd));
        }
    }
    host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE,
                fd, 0);
    if (host == MAP_FAILED) {
        int err = errno;

        if (fd >= 0) {
            close(fd);
        }
        return vmm_error(errp, -err, "cannot map %" PRIu64 " bytes of guest "
                         "RAM: %s", bytes, g_strerror(err));
    }
    /* Fewer faults where the system allows huge pages; a hint only. */
    madvise(host, bytes, MADV_HUGEPAGE);
    *ram = (Ram) { .host = host, .bytes = bytes, .memfd = fd };
    return 0;
}

void ram_cleanup(Ram *ram)
{
    if (!ram->host) {
        return;
    }
    munmap(ram->host, ram->bytes);
    if (ram->memfd >= 0) {
        close(ram->memfd);
    }
    *ram = (Ram) { .memfd = -1 };
}
