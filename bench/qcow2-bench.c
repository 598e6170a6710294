/* SPDX-License-Identifier: MIT */
/*
 * The firn side of bench/qcow2: one command on one image, with the time that
 * its own phase took.
 *
 *   io        the requests that `qemu-img bench` makes: @count of @size bytes,
 *             @depth at a time, each @step behind the one before, round and
 *             round the disk
 *   snapshot  create or delete one; with --io guest reads and writes go on
 *             meanwhile, and how many is printed
 *   open      open the image several times at once, which makes both the time
 *             and the memory of one open image measurable
 *
 * Prints one line of JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/snapshot.h"
#include "util/aio.h"
#include "util/coroutine.h"
#include "util/units.h"

#define MAX_DEPTH  1024
#define MAX_IMAGES 256

typedef struct Bench {
    const char *image;      /* options */
    uint64_t count;
    uint64_t size;
    uint64_t step;          /* 0: @size */
    uint64_t offset;
    unsigned depth;
    unsigned images;        /* open: how many */
    unsigned flags;         /* BDRV_O_* */
    bool write;
    bool guest_io;
    bool calls;             /* how requests are made: see usage() */
    bool waves;
    uint64_t flush_interval;
    const char *name;       /* of the snapshot */

    AioContext *ctx;
    BlockBackend *blk;
    uint64_t disk;          /* bytes */
    uint64_t issued;
    uint64_t done;
    unsigned running;       /* coroutines */
    bool stop;
    int ret;
} Bench;

static int fail(const char *what, int ret, GError *error)
{
    fprintf(stderr, "qcow2-bench: %s: %s\n", what,
            error ? error->message : g_strerror(-ret));
    g_clear_error(&error);
    return 1;
}

static int open_image(Bench *b, BlockBackend **ret)
{
    BdrvOptions *o = NULL;
    GError *error = NULL;
    int r;

    if (strchr(b->image, '=')) {
        r = bdrv_options_parse(&o, b->image, &error);
    } else {
        o = bdrv_options_new();
        bdrv_options_set(o, "driver", "qcow2");
        bdrv_options_set(o, "file.filename", b->image);
        r = 0;
    }
    if (r == 0) {
        r = blk_open(b->ctx, NULL, o, b->flags, ret, &error);
    }
    return r < 0 ? fail(b->image, r, error) : 0;
}

/* ---- requests ---- */

/* Offset of the next request; false when there is none. */
static bool next_offset(Bench *b, uint64_t *ret)
{
    if (b->stop || b->ret < 0 || b->issued == b->count) {
        return false;
    }
    b->issued++;
    if (b->offset + b->size > b->disk) {
        b->offset = 0;
    }
    *ret = b->offset;
    b->offset = (b->offset + b->step) % b->disk;
    return true;
}

static void *make_buffer(const Bench *b, QEMUIOVector *qiov)
{
    void *buf = blk_try_memalign(b->size);

    memset(buf, 0x5a, b->size);
    qemu_iovec_init_buf(qiov, buf, b->size);
    return buf;
}

static void coroutine_fn worker(void *opaque)
{
    Bench *b = opaque;
    QEMUIOVector qiov;
    void *buf = make_buffer(b, &qiov);
    uint64_t offset;

    while (next_offset(b, &offset)) {
        int ret = b->write ? blk_co_pwritev(b->blk, offset, b->size, &qiov, 0)
                           : blk_co_preadv(b->blk, offset, b->size, &qiov, 0);

        b->done++;
        if (ret == 0 && b->flush_interval &&
            b->done % b->flush_interval == 0) {
            ret = blk_co_flush(b->blk);
        }
        b->ret = b->ret < 0 ? b->ret : ret;
    }
    free(buf);
    b->running--;
}

static void start_workers(Bench *b)
{
    b->running = b->depth;
    for (unsigned i = 0; i < b->depth; i++) {
        aio_co_schedule(b->ctx, co_create(worker, b));
    }
}

/* One request after the other, with the blocking calls. */
static void run_calls(Bench *b)
{
    QEMUIOVector qiov;
    void *buf = make_buffer(b, &qiov);
    uint64_t offset;

    while (next_offset(b, &offset)) {
        b->ret = b->write ? blk_pwritev(b->blk, offset, b->size, &qiov, 0)
                          : blk_preadv(b->blk, offset, b->size, &qiov, 0);
        b->done++;
    }
    free(buf);
}

static void wave_done(void *opaque, int ret)
{
    Bench *b = opaque;

    b->done++;
    b->running--;
    b->ret = b->ret < 0 ? b->ret : ret;
}

/* @depth requests with callbacks; when all are done, as many again. */
static void run_waves(Bench *b)
{
    g_autofree QEMUIOVector *qiov = g_new(QEMUIOVector, b->depth);
    g_autofree void **bufs = g_new(void *, b->depth);
    uint64_t offset;
    bool more = true;

    for (unsigned i = 0; i < b->depth; i++) {
        bufs[i] = make_buffer(b, &qiov[i]);
    }
    while (more) {
        for (unsigned i = 0; i < b->depth && (more = next_offset(b, &offset));
             i++) {
            b->running++;
            if (b->write) {
                blk_aio_pwritev(b->blk, offset, &qiov[i], 0, wave_done, b);
            } else {
                blk_aio_preadv(b->blk, offset, &qiov[i], 0, wave_done, b);
            }
        }
        AIO_WAIT_WHILE(b->ctx, b->running > 0);
    }
    for (unsigned i = 0; i < b->depth; i++) {
        free(bufs[i]);
    }
}

static int bench_io(Bench *b)
{
    int64_t start, end;
    int ret;

    if (open_image(b, &b->blk)) {
        return 1;
    }
    b->disk = blk_getlength(b->blk);
    start = aio_now_ns();
    if (b->calls) {
        run_calls(b);
    } else if (b->waves) {
        run_waves(b);
    } else {
        start_workers(b);
        AIO_WAIT_WHILE(b->ctx, b->running > 0);
    }
    end = aio_now_ns();
    ret = blk_close(b->blk);
    ret = b->ret < 0 ? b->ret : ret;
    if (ret < 0) {
        return fail("request", ret, NULL);
    }
    printf("{\"seconds\": %.6f, \"closed\": %.6f, \"requests\": %" PRIu64
           "}\n", (end - start) / 1e9, (aio_now_ns() - start) / 1e9, b->done);
    return 0;
}

/* ---- snapshots ---- */

typedef struct SnapshotJob {
    Bench *b;
    bool create;
    bool done;
    int ret;
    GError *error;
} SnapshotJob;

static void coroutine_fn snapshot_entry(void *opaque)
{
    SnapshotJob *j = opaque;
    BlockDriverState *bs = blk_bs(j->b->blk);

    if (j->create) {
        g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

        info->name = g_strdup(j->b->name);
        info->date_sec = g_get_real_time() / 1000000;
        j->ret = bdrv_co_snapshot_create(bs, info, &j->error);
    } else {
        j->ret = bdrv_co_snapshot_delete(bs, NULL, j->b->name, &j->error);
    }
    j->done = true;
}

static int bench_snapshot(Bench *b, bool create)
{
    SnapshotJob j = { .b = b, .create = create };
    int64_t start = aio_now_ns(), begun, end;
    uint64_t meanwhile = 0;

    b->flags |= BDRV_O_RDWR;
    if (open_image(b, &b->blk)) {
        return 1;
    }
    b->disk = blk_getlength(b->blk);
    begun = aio_now_ns();
    if (b->guest_io) {
        start_workers(b);
    }
    aio_co_schedule(b->ctx, co_create(snapshot_entry, &j));
    while (!j.done) {
        aio_poll(b->ctx, true);
    }
    end = aio_now_ns();
    meanwhile = b->done;
    b->stop = true;
    while (b->running) {
        aio_poll(b->ctx, true);
    }
    if (j.ret < 0) {
        return fail("snapshot", j.ret, j.error);
    }
    if (blk_close(b->blk) < 0) {
        return fail("close", -EIO, NULL);
    }
    printf("{\"seconds\": %.6f, \"closed\": %.6f, \"guest_requests\": %"
           PRIu64 "}\n", (end - begun) / 1e9,
           (aio_now_ns() - start) / 1e9, meanwhile);
    return 0;
}

/* ---- open ---- */

static int64_t rss_bytes(void)
{
    g_autofree char *text = NULL;
    long long pages = 0;

    if (g_file_get_contents("/proc/self/statm", &text, NULL, NULL)) {
        sscanf(text, "%*s %lld", &pages);
    }
    return pages * sysconf(_SC_PAGESIZE);
}

static int bench_open(Bench *b)
{
    BlockBackend *blk[MAX_IMAGES];
    int64_t start, opened, before;

    if (open_image(b, &blk[0])) { /* what only the first one costs */
        return 1;
    }
    before = rss_bytes();
    start = aio_now_ns();
    for (unsigned i = 1; i < b->images; i++) {
        if (open_image(b, &blk[i])) {
            return 1;
        }
    }
    opened = aio_now_ns() - start;
    printf("{\"seconds\": %.9f, \"bytes\": %" PRId64 "}\n",
           opened / 1e9 / (b->images - 1),
           (rss_bytes() - before) / (b->images - 1));
    for (unsigned i = 0; i < b->images; i++) {
        blk_close(blk[i]);
    }
    return 0;
}

/* ---- command line ---- */

static void usage(FILE *out)
{
    fputs("usage: qcow2-bench io|create|delete|open [options] IMAGE\n"
          "  -c COUNT  requests (75000)    -d DEPTH  at a time (64)\n"
          "  -s SIZE   of each (4k)        -S STEP   to the next (SIZE)\n"
          "  -o OFFSET of the first (0)    -w        write\n"
          "  -t CACHE  none, writeback...  -f N      flush after each N\n"
          "  -n NAME   of the snapshot     -i N      images to open (17)\n"
          "  -k        make requests with blocking calls, one at a time\n"
          "  -a        with callbacks, and wait for DEPTH of them each time;\n"
          "            neither: in DEPTH coroutines\n"
          "  --io      guest requests while a snapshot is made or deleted\n",
          out);
}

static bool take(char c, const char *arg, Bench *b)
{
    uint64_t n = 0;

    if (strchr("csSodfi", c) && parse_size(arg, &n) < 0) {
        return false;
    }
    switch (c) {
    case 'c':
        b->count = n;
        return true;
    case 's':
        b->size = n;
        return n > 0 && n <= 64 * 1024 * 1024;
    case 'S':
        b->step = n;
        return true;
    case 'o':
        b->offset = n;
        return true;
    case 'd':
        b->depth = n;
        return n > 0 && n <= MAX_DEPTH;
    case 'f':
        b->flush_interval = n;
        return true;
    case 'i':
        b->images = n;
        return n > 1 && n <= MAX_IMAGES;
    case 'n':
        b->name = arg;
        return true;
    case 't':
        return bdrv_parse_cache_mode(arg, &b->flags) == 0;
    case 'w':
        b->write = true;
        b->flags |= BDRV_O_RDWR;
        return true;
    case 'k':
        b->calls = true;
        return true;
    case 'a':
        b->waves = true;
        return true;
    case 'g':
        b->guest_io = true;
        return true;
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "io", no_argument, NULL, 'g' },
        { NULL, 0, NULL, 0 },
    };
    Bench b = { .count = 75000, .size = 4096, .depth = 64, .images = 17,
                .name = "bench" };
    GError *error = NULL;
    const char *command;
    int c, status = 2;

    while ((c = getopt_long(argc, argv, "c:d:s:S:o:wt:f:n:i:ka", longs,
                            NULL)) != -1) {
        if (!take(c, optarg, &b)) {
            usage(stderr);
            return 2;
        }
    }
    if (optind + 2 != argc) {
        usage(stderr);
        return 2;
    }
    command = argv[optind];
    b.image = argv[optind + 1];
    b.step = b.step ? b.step : b.size;
    b.ctx = aio_context_new(AIO_BACKEND_AUTO, &error);
    if (!b.ctx) {
        return fail("event loop", -EIO, error);
    }
    aio_set_current(b.ctx);
    if (!strcmp(command, "io")) {
        status = bench_io(&b);
    } else if (!strcmp(command, "create") || !strcmp(command, "delete")) {
        b.count = b.guest_io ? UINT64_MAX : 0;
        status = bench_snapshot(&b, *command == 'c');
    } else if (!strcmp(command, "open")) {
        status = bench_open(&b);
    } else {
        usage(stderr);
    }
    aio_set_current(NULL);
    aio_context_unref(b.ctx);
    return status;
}
