/* SPDX-License-Identifier: MIT */
/*
 * The seed corpus: small images, one for each thing that an image can have.
 *
 *   fuzz-seeds DIR
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/dirty-bitmap.h"
#include "block/snapshot.h"
#include "block/vmstate.h"
#include "tests/support/fake_driver.h"
#include "util/aio.h"

static AioContext *ctx;
static uint8_t data[16384];

static void must(int ret, const char *what, GError *error)
{
    if (ret < 0) {
        fprintf(stderr, "fuzz-seeds: %s: %s\n", what,
                error ? error->message : g_strerror(-ret));
        exit(1);
    }
}

static BdrvOptions *options_of(const char *text)
{
    GError *error = NULL;
    BdrvOptions *o = NULL;

    must(bdrv_options_parse(&o, text, &error), text, error);
    return o;
}

static int coroutine_fn snapshot_with_state(void *opaque)
{
    BlockDriverState *bs = blk_bs(opaque);
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, data, 700);
    ret = bdrv_co_vmstate_begin_save(bs, NULL, NULL);
    ret = ret < 0 ? ret : bdrv_co_writev_vmstate(bs, &qiov, 0);
    ret = ret < 0 ? ret : bdrv_co_finalize_vmstate(bs);
    info->name = g_strdup("state");
    info->vm_state_size = 700;
    return ret < 0 ? ret : bdrv_co_snapshot_create(bs, info, NULL);
}

static int coroutine_fn snapshot_plain(void *opaque)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

    info->name = g_strdup("plain");
    return bdrv_co_snapshot_create(blk_bs(opaque), info, NULL);
}

static void write_compressed(BlockBackend *blk, uint64_t offset)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, data, sizeof(data));
    must(blk_pwritev(blk, offset, sizeof(data), &qiov,
                     BDRV_REQ_WRITE_COMPRESSED),
         "compress", NULL);
}

/* What is done to a new image, a letter each. */
static void perform(BlockBackend *blk, char step)
{
    switch (step) {
    case 'w':
        must(blk_pwrite(blk, 0, 6000, data), "write", NULL);
        must(blk_pwrite(blk, 20480, 700, data), "write", NULL);
        break;
    case 'z':
        must(blk_pwrite_zeroes(blk, 4096, 4096, 0), "zero", NULL);
        break;
    case 'u':
        must(blk_pwrite_zeroes(blk, 0, 4096, BDRV_REQ_MAY_UNMAP), "unmap",
             NULL);
        break;
    case 's':
        must(aio_run_blocking(ctx, snapshot_plain, blk), "snapshot", NULL);
        break;
    case 'v':
        must(aio_run_blocking(ctx, snapshot_with_state, blk), "state", NULL);
        break;
    case 'c':
        write_compressed(blk, 32768);
        break;
    case 'b':
        must(blk_bitmap_add(blk, "fine", 512, BDRV_BITMAP_PERSISTENT, NULL),
             "bitmap", NULL);
        must(blk_bitmap_add(blk, "coarse", 4096, BDRV_BITMAP_PERSISTENT |
                            BDRV_BITMAP_DISABLED, NULL), "bitmap", NULL);
        break;
    default:
        abort();
    }
}

typedef struct Seed {
    const char *name;
    const char *create;
    const char *steps;
} Seed;

static const Seed seeds[] = {
    { "empty", "size=64k,cluster_size=512", "" },
    { "plain", "size=64k,cluster_size=512", "wz" },
    { "old", "size=64k,cluster_size=1k,compat=0.10", "ws" },
    { "narrow", "size=64k,cluster_size=512,refcount_bits=1", "wzu" },
    { "wide", "size=64k,cluster_size=512,refcount_bits=64", "wszw" },
    { "snapshots", "size=64k,cluster_size=512", "wszwvsw" },
    { "lazy", "size=64k,cluster_size=1k,lazy_refcounts=on", "ws" },
    { "deflate", "size=64k,cluster_size=512", "cws" },
    { "deflate-4k", "size=64k,cluster_size=4k", "wc" },
    { "zstd", "size=64k,cluster_size=4k,compression_type=zstd", "cw" },
    { "bitmaps", "size=64k,cluster_size=512", "wbwz" },
    { "subclusters", "size=256k,cluster_size=16k,extended_l2=on", "wzcs" },
    { "large", "size=1T,cluster_size=64k", "w" },
    { "overlay", "size=64k,cluster_size=512,backing_file=fake:side,"
      "backing_fmt=raw", "wzcs" },
    { "overlay-4k", "size=48k,cluster_size=4k,backing_file=fake:side,"
      "backing_fmt=raw", "wz" },
    { "data-file", "size=64k,cluster_size=512,data_file=fake:side", "wz" },
    { "data-file-raw", "size=64k,cluster_size=512,data_file=fake:side,"
      "data_file_raw=on", "w" },
};

static void make(const char *dir, const Seed *seed)
{
    g_autofree char *path = g_build_filename(dir, seed->name, NULL);
    GError *error = NULL;
    BlockBackend *blk = NULL;

    must(blk_create(ctx, "qcow2", path, options_of(seed->create), &error),
         seed->name, error);
    must(blk_open(ctx, path, options_of("driver=qcow2"), BDRV_O_RDWR |
                  BDRV_O_DATA_FILE, &blk, &error), seed->name, error);
    for (const char *step = seed->steps; *step; step++) {
        perform(blk, *step);
    }
    must(blk_close(blk), seed->name, NULL);
}

int main(int argc, char **argv)
{
    FakeDisk *side; /* backing and data file of who has one */

    if (argc != 2 || g_mkdir_with_parents(argv[1], 0777) < 0) {
        fputs("usage: fuzz-seeds DIR\n", stderr);
        return 2;
    }
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i % 251);
    }
    side = fake_disk_new("side", 0);
    ctx = aio_context_new(AIO_BACKEND_THREADS, NULL);
    aio_set_current(ctx);
    for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++) {
        make(argv[1], &seeds[i]);
    }
    fake_disk_free(side);
    aio_set_current(NULL);
    aio_context_unref(ctx);
    return 0;
}
