/* SPDX-License-Identifier: MIT */
/*
 * Hints for the file system that a new, empty file lives on: no copy-on-write
 * (btrfs), space in large pieces (xfs). Both are wishes: one that is not
 * granted changes nothing else.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "block/file_int.h"

void file_hint_nocow(int fd)
{
    int flags;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

void file_hint_extent_size(int fd, uint32_t bytes)
{
    struct fsxattr attr;

    if (bytes && ioctl(fd, FS_IOC_FSGETXATTR, &attr) == 0) {
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = bytes;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &attr);
    }
}
