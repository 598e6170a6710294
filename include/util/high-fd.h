/* SPDX-License-Identifier: MIT */
/* Files that are no standard input, output or error. */
#ifndef FIRN_UTIL_HIGH_FD_H
#define FIRN_UTIL_HIGH_FD_H

/*
 * What open() has returned, which may be -1, or a duplicate of it with a number
 * above those three: a process that was started without them would write its
 * messages into the file. -1 with errno when there is none; @fd is closed then.
 */
int high_fd(int fd);

#endif
