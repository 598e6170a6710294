/* SPDX-License-Identifier: MIT */
/*
 * An independent checker for qcow2 images: it shares no code with the driver.
 * It counts the references of every host cluster from header, active
 * layer, snapshots and bitmaps, and compares them with the stored refcounts.
 *
 * Three kinds of findings are kept apart:
 *   leaks        refcount > references: harmless
 *   copied       COPIED flag of the active layer does not agree with the
 *                refcount, but no two paths share the cluster: harmless
 *   corruptions  anything else
 */
#ifndef FIRN_TESTS_SUPPORT_QCOW2_CHECKER_H
#define FIRN_TESTS_SUPPORT_QCOW2_CHECKER_H

#include <stddef.h>
#include <stdint.h>

typedef struct Qcow2CheckResult {
    uint64_t leaks;
    uint64_t copied;
    uint64_t corruptions;
    char first[160];        /* text of the first corruption, or "" */
} Qcow2CheckResult;

/*
 * Check the image in @image. Returns 0 with *@ret filled in, or -EINVAL when
 * it is no qcow2 image or one that the checker does not know.
 */
int qcow2_checker_run(const uint8_t *image, size_t bytes,
                      Qcow2CheckResult *ret);

/* The same for a file; or -errno from reading it. */
int qcow2_checker_run_file(const char *path, Qcow2CheckResult *ret);

#endif
