/* SPDX-License-Identifier: MIT */
/*
 * A protocol driver for the explorer, "held": one image in flat memory whose
 * requests, while disk_hold() is on, wait until the explorer lets each of them
 * go. A request takes effect when it is let go. Jobs for the thread pool wait
 * the same way (thread_pool_co_run() is wrapped by the linker), so the order
 * in which they end is chosen too and no second thread runs.
 *
 * It is apart from tests/support/fake_driver.h because an image must be put
 * back to its template thousands of times a second.
 */
#ifndef FIRN_TESTS_EXPLORE_DISK_H
#define FIRN_TESTS_EXPLORE_DISK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_FILENAME "held:disk"
#define DISK_MAX (4 * 1024 * 1024)
#define DISK_MAX_HELD 64

typedef enum DiskType {
    DISK_READ,
    DISK_WRITE,
    DISK_DISCARD,
    DISK_FLUSH,
    DISK_COMPUTE,       /* a job of the thread pool */
} DiskType;

typedef struct DiskRequest {
    DiskType type;
    uint64_t offset;
    uint64_t bytes;
    const void *who;    /* the coroutine */
    uint64_t hash;      /* of all of this, and of what is written */
    int error;          /* what it shall fail with, or 0 */
} DiskRequest;

/* An image to start from. */
typedef struct DiskTemplate {
    uint8_t *bytes;
    size_t size;
} DiskTemplate;

void disk_init(void);
/* Nothing may be held. */
void disk_reset(const DiskTemplate *t);
/* To be freed with disk_template_cleanup(). */
DiskTemplate disk_save(void);
void disk_template_cleanup(DiskTemplate *t);

const uint8_t *disk_bytes(void);
size_t disk_size(void);
/* Equal for equal contents and sizes. */
uint64_t disk_hash(void);

/* Since the reset, was the data of a write changed before it was let go? */
bool disk_data_changed(void);

/* From now on requests wait (@on), or run at once. */
void disk_hold(bool on);
unsigned disk_nb_held(void);
/* The @i-th request that waits, in order of arrival. */
const DiskRequest *disk_held(unsigned i);
/* Let it go; the coroutine runs with the next turn of the loop. Does nothing
 * and fails with @error (positive) unless that is 0. */
void disk_release(unsigned i, int error);

/* Mix @bytes bytes into @hash. */
uint64_t disk_mix(uint64_t hash, const void *buf, size_t bytes);

const char *disk_type_name(DiskType type);

#endif
