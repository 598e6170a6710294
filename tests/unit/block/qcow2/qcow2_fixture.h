/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the qcow2 driver share: blocking forms of the calls that
 * a node has only as coroutines, and images made in one line.
 */
#ifndef FIRN_TESTS_QCOW2_FIXTURE_H
#define FIRN_TESTS_QCOW2_FIXTURE_H

#include "tests/support/test_main.h"

#include <errno.h>
#include <string.h>

#include "block/qcow2/qcow2_int.h"
#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"
#include "tests/support/qcow2_checker.h"

static inline Qcow2State *q_state(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

/* Options from "a=b,c=d"; NULL or "": none. */
static inline BdrvOptions *q_options(const char *text)
{
    BdrvOptions *o = NULL;

    if (text && *text) {
        assert_int_equal(bdrv_options_parse(&o, text, NULL), 0);
    } else {
        o = bdrv_options_new();
    }
    return o;
}

/* Fails the test, with the message, unless @ret is 0. */
static inline void q_check(int ret, GError *error)
{
    if (ret < 0) {
        fail_msg("%s", error ? error->message : g_strerror(-ret));
    }
}

static inline void q_create(const char *filename, const char *options)
{
    GError *error = NULL;

    q_check(blk_create(test_ctx, "qcow2", filename, q_options(options),
                       &error), error);
}

static inline BlockBackend *q_open(const char *filename, const char *options,
                                   unsigned flags)
{
    BdrvOptions *o = q_options(options);
    BlockBackend *blk = NULL;
    GError *error = NULL;

    bdrv_options_set_default(o, "driver", "qcow2");
    q_check(blk_open(test_ctx, filename, o, flags, &blk, &error), error);
    return blk;
}

/* Opening must fail with @err and a message that has @text in it. */
static inline void q_open_fails(const char *filename, const char *options,
                                unsigned flags, int err, const char *text)
{
    BdrvOptions *o = q_options(options);
    BlockBackend *blk = NULL;
    g_autoptr(GError) error = NULL;
    char message[400];
    int ret;

    bdrv_options_set_default(o, "driver", "qcow2");
    ret = blk_open(test_ctx, filename, o, flags, &blk, &error);
    assert_int_equal(ret, err);
    g_strlcpy(message, error ? error->message : "(none)", sizeof(message));
    if (!strstr(message, text)) {
        fail_msg("'%s' is not in '%s'", text, message);
    }
}

static inline void q_close(BlockBackend *blk)
{
    assert_int_equal(blk_close(blk), 0);
}

/* One call on a node, to be run in a coroutine. */
typedef struct QCall {
    BlockBackend *blk;
    enum {
        Q_SNAP_CREATE, Q_SNAP_GOTO, Q_SNAP_DELETE, Q_SNAP_LIST,
        Q_VM_SAVE, Q_VM_LOAD, Q_VM_SELECT, Q_VM_DISCARD, Q_COPY,
    } what;
    const char *name;
    BlockBackend *from;
    uint64_t pos, bytes;
    void *buf;
    GPtrArray *list;
    GError *error;
} QCall;

static inline int coroutine_fn q_co_create(QCall *c)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

    info->name = g_strdup(c->name);
    info->vm_state_size = c->bytes;
    info->date_sec = 1700000000;
    return bdrv_co_snapshot_create(blk_bs(c->blk), info, &c->error);
}

static inline int coroutine_fn q_co_call(void *opaque)
{
    QCall *c = opaque;
    BlockDriverState *bs = blk_bs(c->blk);
    QEMUIOVector qiov;

    switch (c->what) {
    case Q_SNAP_CREATE:
        return q_co_create(c);
    case Q_SNAP_GOTO:
        return bdrv_co_snapshot_goto(bs, c->name, &c->error);
    case Q_SNAP_DELETE:
        return bdrv_co_snapshot_delete(bs, NULL, c->name, &c->error);
    case Q_SNAP_LIST:
        return bdrv_co_snapshot_list(bs, &c->list, &c->error);
    case Q_VM_SAVE:
        qemu_iovec_init_buf(&qiov, c->buf, c->bytes);
        return bs->drv->co_save_vmstate(bs, c->pos, &qiov);
    case Q_VM_LOAD:
        qemu_iovec_init_buf(&qiov, c->buf, c->bytes);
        return bs->drv->co_load_vmstate(bs, c->pos, &qiov);
    case Q_VM_SELECT:
        return bs->drv->co_vmstate_select(bs, c->name, &c->pos, &c->error);
    case Q_VM_DISCARD:
        return bs->drv->co_vmstate_discard(bs);
    case Q_COPY:
        return blk_co_copy_range(c->from, c->pos, c->blk, c->pos, c->bytes);
    }
    return -EINVAL;
}

static inline int q_run(QCall *c)
{
    int ret = run_coroutine(q_co_call, c);
    bool explains = c->what <= Q_SNAP_LIST || c->what == Q_VM_SELECT;

    assert_int_equal(ret < 0 && explains, c->error != NULL);
    g_clear_error(&c->error);
    return ret;
}

static inline int q_snap_create(BlockBackend *blk, const char *name,
                                uint64_t vm_size)
{
    QCall c = { blk, Q_SNAP_CREATE, .name = name, .bytes = vm_size };

    return q_run(&c);
}

static inline int q_snap_goto(BlockBackend *blk, const char *name)
{
    QCall c = { blk, Q_SNAP_GOTO, .name = name };

    return q_run(&c);
}

static inline int q_snap_delete(BlockBackend *blk, const char *name)
{
    QCall c = { blk, Q_SNAP_DELETE, .name = name };

    return q_run(&c);
}

static inline int q_vm_save(BlockBackend *blk, uint64_t pos, void *buf,
                            uint64_t bytes)
{
    QCall c = { blk, Q_VM_SAVE, .pos = pos, .buf = buf, .bytes = bytes };

    return q_run(&c);
}

static inline int q_vm_load(BlockBackend *blk, uint64_t pos, void *buf,
                            uint64_t bytes)
{
    QCall c = { blk, Q_VM_LOAD, .pos = pos, .buf = buf, .bytes = bytes };

    return q_run(&c);
}

static inline int q_vm_select(BlockBackend *blk, const char *name,
                              uint64_t *ret_size)
{
    QCall c = { blk, Q_VM_SELECT, .name = name };
    int ret = q_run(&c);

    *ret_size = c.pos;
    return ret;
}

static inline int q_vm_discard(BlockBackend *blk)
{
    QCall c = { .blk = blk, .what = Q_VM_DISCARD };

    return q_run(&c);
}

/* Copy what @from has at the same offset. */
static inline int q_copy(BlockBackend *blk, BlockBackend *from,
                         uint64_t offset, uint64_t bytes)
{
    QCall c = { blk, Q_COPY, .from = from, .pos = offset, .bytes = bytes };

    return q_run(&c);
}

/* The image on @d has no corruption, no leak and no wrong flag. */
static inline void q_expect_sound(FakeDisk *d)
{
    g_autofree uint8_t *image = g_malloc(d->size + 1);
    Qcow2CheckResult r;

    fake_disk_peek(d, 0, image, d->size);
    assert_int_equal(qcow2_checker_run(image, d->size, &r), 0);
    if (r.corruptions || r.leaks || r.copied) {
        fail_msg("%" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                 " corruptions: %s", r.leaks, r.copied, r.corruptions,
                 r.first);
    }
}

/* Fails the test, with what it says, unless qemu-img finds nothing. */
static inline void q_qemu_check(const char *path)
{
    g_autofree char *out = NULL;
    int ret;

    if (!test_have_program("qemu-img")) {
        return;
    }
    ret = test_run(&out, "qemu-img check -U -f qcow2 '%s'", path);
    if (ret != 0) {
        fail_msg("qemu-img check %s: %d\n%s", path, ret, out);
    }
}

#endif
