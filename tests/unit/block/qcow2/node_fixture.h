/* SPDX-License-Identifier: MIT */
/*
 * What tests of interleavings share: a fake disk whose requests can be held,
 * a node above it, and operations on the node that are under way while the
 * test goes on.
 */
#ifndef FIRN_TESTS_QCOW2_NODE_FIXTURE_H
#define FIRN_TESTS_QCOW2_NODE_FIXTURE_H

#include "qcow2_fixture.h"

typedef struct Fixture {
    FakeDisk *disk;
    BlockBackend *blk;
} Fixture;

static inline int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    alarm(FIRN_TEST_HANG);
    f->disk = fake_disk_new("q", 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    Fixture *f = *state;

    fake_release_all(f->disk);
    if (f->blk) {
        q_close(f->blk);
    }
    fake_disk_free(f->disk);
    g_free(f);
    return test_ctx_teardown(state);
}

/* One call (@call) or request (@qiov) and what became of it. */
typedef struct Op {
    QCall call;
    bool done;
    int ret;
    QEMUIOVector qiov;
} Op;

static inline void coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;

    op->ret = q_co_call(&op->call);
    g_clear_error(&op->call.error);
    op->done = true;
}

static inline void record(void *opaque, int ret)
{
    Op *op = opaque;

    op->done = true;
    op->ret = ret;
}

static inline void start_write(Fixture *f, Op *op, uint64_t offset, void *buf,
                               size_t bytes)
{
    *op = (Op) { 0 };
    qemu_iovec_init_buf(&op->qiov, buf, bytes);
    blk_aio_pwritev(f->blk, offset, &op->qiov, 0, record, op);
    test_turns(20);
}

static inline void fill(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    assert_int_equal(blk_pwrite(f->blk, offset, bytes, buf), 0);
}

static inline void expect(Fixture *f, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(f->blk, offset, bytes, buf), 0);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], value);
    }
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
