/* SPDX-License-Identifier: MIT */
/*
 * Image locks: open file description locks on single bytes, in the scheme of
 * the field, so that firn, QEMU and qemu-img exclude one another.
 *
 * There is a byte for each thing an opener may do with the image, and one for
 * each thing it does not want others to do meanwhile:
 *
 *   byte 100 + n   "I do n"             n = 0  read, consistently
 *   byte 200 + n   "nobody else does n"     1  write
 *                                           3  resize
 *
 * Everybody takes shared locks on the bytes that apply, then asks whether an
 * exclusive lock on the opposite byte would meet somebody. The order matters:
 * of two that come at the same time at least one sees the other. (n = 2, write
 * without a change, and n = 4 are used by other programs and not by firn.)
 */
#include "block/file_int.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/compiler.h"
#include "util/error.h"

enum {
    PERM_READ = 1 << 0,
    PERM_WRITE = 1 << 1,
    PERM_RESIZE = 1 << 3,
    PERM_BITS = 4,

    PERM_BYTE = 100,
    UNSHARED_BYTE = 200,
};

static struct flock byte_lock(short type, int byte)
{
    return (struct flock) {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = byte,
        .l_len = 1,
    };
}

static int lock_bytes(int fd, int base, unsigned bits)
{
    for (int n = 0; n < PERM_BITS; n++) {
        struct flock fl = byte_lock(F_RDLCK, base + n);

        if ((bits & (1u << n)) && fcntl(fd, F_OFD_SETLK, &fl) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Returns 0, -EAGAIN when another opener holds one of the bytes, or -errno. */
static int probe_bytes(int fd, int base, unsigned bits)
{
    for (int n = 0; n < PERM_BITS; n++) {
        struct flock fl = byte_lock(F_WRLCK, base + n);

        if (!(bits & (1u << n))) {
            continue;
        }
        if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
            return -errno;
        }
        if (fl.l_type != F_UNLCK) {
            return -EAGAIN;
        }
    }
    return 0;
}

int file_lock(int fd, bool writer, bool probe, const char *filename,
              GError **errp)
{
    unsigned perm = writer ? PERM_READ | PERM_WRITE | PERM_RESIZE : PERM_READ;
    unsigned unshared = PERM_WRITE | PERM_RESIZE;
    int ret = lock_bytes(fd, PERM_BYTE, perm);

    if (ret == 0) {
        ret = lock_bytes(fd, UNSHARED_BYTE, unshared);
    }
    if (ret == 0 && probe) {
        ret = probe_bytes(fd, UNSHARED_BYTE, perm);
    }
    if (ret == 0 && probe) {
        ret = probe_bytes(fd, PERM_BYTE, unshared);
    }
    switch (ret) {
    case 0:
        return 0;
    case -EAGAIN:
    case -EACCES:
        return set_error(errp, -EAGAIN, "cannot lock '%s' for %s: another "
                         "process uses it, or this one uses it twice; stop it"
                         "%s", filename,
                         writer ? "writing" : "reading",
                         writer ? "" : " or say -U (force-share=on)");
    case -EINVAL:
    case -ENOLCK:
    case -EOPNOTSUPP:
        return set_error(errp, -ENOTSUP, "cannot lock '%s': its file system "
                         "has no open file description locks; "
                         "locking=off does without", filename);
    default:
        return set_error(errp, ret, "cannot lock '%s': %s", filename,
                         g_strerror(-ret));
    }
}

int file_lock_auto(int fd, bool writer, bool probe, const char *filename,
                   GError **errp)
{
    GError *error = NULL;
    int ret = file_lock(fd, writer, probe, filename, &error);

    if (ret == -ENOTSUP) {
        g_clear_error(&error);
        return 0;
    }
    if (error) {
        g_propagate_error(errp, error);
    }
    return ret;
}

/* What a writer has and a reader has not. */
static void unlock_writer(int fd)
{
    for (int n = 0; n < PERM_BITS; n++) {
        struct flock fl = byte_lock(F_UNLCK, PERM_BYTE + n);

        if (1u << n & (PERM_WRITE | PERM_RESIZE)) {
            (void)fcntl(fd, F_OFD_SETLK, &fl);
        }
    }
}

int file_lock_keep(int fd, bool was_writer, bool writer, const char *filename,
                   GError **errp)
{
    int ret = writer && !was_writer ? file_lock(fd, true, true, filename, errp)
                                    : 0;
    int kept = -1;

    if (ret == 0) {
        kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ret = kept < 0 ? set_error(errp, -errno, "cannot keep '%s' locked: "
                                   "%s", filename, g_strerror(errno)) : kept;
    }
    if (ret < 0 && !was_writer) {
        unlock_writer(fd);
    }
    return ret;
}

void file_lock_unkeep(int fd, bool was_writer, int kept)
{
    if (!was_writer) {
        unlock_writer(fd);
    }
    close(kept); /* the locks are those of the open file, which stays */
}

void file_unlock(int fd)
{
    struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

    (void)fcntl(fd, F_OFD_SETLK, &fl); /* -EINVAL: there never were any */
}
