/* SPDX-License-Identifier: MIT */
/*
 * Reads guest data out of the bytes of a qcow2 image, without the driver: what
 * the explorer compares with its model. Standard and extended L2 entries,
 * deflate; no backing file.
 */
#ifndef FIRN_TESTS_EXPLORE_IMAGE_H
#define FIRN_TESTS_EXPLORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Image {
    const uint8_t *bytes;
    size_t size;
    unsigned cluster_bits;
    unsigned l2_bits;
    bool extended;
    uint64_t disk_size;
    uint64_t l1_offset;     /* of the layer that is read */
    uint64_t l1_size;
} Image;

/* The active layer. */
Image image_open(const uint8_t *bytes, size_t size);
unsigned image_nb_snapshots(const Image *m);
/* Turn to the snapshot called @name; false: there is none. */
bool image_select(Image *m, const char *name);
/* Guest offset of the vmstate of a disk of disk_size bytes. */
uint64_t image_vmstate_offset(const Image *m);
/* @bytes within one cluster, or one subcluster where there are any. False: an
 * entry makes no sense. */
bool image_read(const Image *m, uint64_t guest_offset, void *buf,
                size_t bytes);

#endif
