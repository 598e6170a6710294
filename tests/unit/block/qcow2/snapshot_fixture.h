/* SPDX-License-Identifier: MIT */
/*
 * What the tests of snapshots share: an image on a fake disk, filled and looked
 * at by patterns, checked by the independent checker.
 */
#ifndef FIRN_TESTS_QCOW2_SNAPSHOT_FIXTURE_H
#define FIRN_TESTS_QCOW2_SNAPSHOT_FIXTURE_H

#include "node_fixture.h"

#define CS 4096u

static inline void open_image(Fixture *f, const char *create,
                              const char *options)
{
    q_create("fake:q", create);
    f->blk = q_open("fake:q", options, BDRV_O_RDWR | BDRV_O_UNMAP);
}

static inline void reopen(Fixture *f, const char *options, unsigned flags)
{
    q_close(f->blk);
    f->blk = q_open("fake:q", options, flags);
}

/* The image on disk: no leaks, no wrong flags. */
static inline void expect_clean(Fixture *f)
{
    assert_int_equal(blk_flush(f->blk), 0);
    assert_int_equal(blk_flush(f->blk), 0); /* what the first one freed */
    q_expect_sound(f->disk);
}

#endif
