/* SPDX-License-Identifier: MIT */
/*
 * firn-img compare: a chunk of both images is read at once, and the next one
 * while this one is compared.
 */
#include "tools/img/common.h"

#include <stdarg.h>

#include "util/iov.h"
#include "util/zero.h"

enum {
    COMPARE_EQUAL, COMPARE_DIFFERENT, COMPARE_NOT_OPEN, COMPARE_NO_STATUS,
    COMPARE_NOT_READ
};

#define CHUNK  ((uint64_t)1024 * 1024)
#define SECTOR 512

/* A read of a chunk of one image. */
typedef struct Side {
    uint8_t *buf;
    QEMUIOVector qiov;
    bool pending;
    int ret;
} Side;

typedef struct Chunk {
    uint64_t offset;
    uint64_t bytes;
    Side side[2];
} Chunk;

typedef struct Compare {
    ImgSource src[2];
    BlockBackend *blk[2];
    uint64_t size[2];
    uint64_t total;         /* the longer of both */
    Chunk chunk[2];         /* this and the next, in turns */
    bool strict;
    bool quiet;
    bool progress;
} Compare;

/* Returns COMPARE_DIFFERENT, which most answers mean. */
static int answer(const Compare *p, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static int answer(const Compare *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!p->quiet) {
        img_progress_clear();
        vprintf(fmt, ap);
        putchar('\n');
    }
    va_end(ap);
    return COMPARE_DIFFERENT;
}

static int status_of(const Compare *p, int i, uint64_t offset, uint64_t bytes,
                     BlkExtent *ret)
{
    int err = aio_check_stop();

    err = err < 0 ? err : blk_extent(p->blk[i], offset, bytes, UINT_MAX, ret);
    if (err < 0) {
        img_error("%s: cannot tell what is at offset %" PRIu64 ": %s",
                  p->src[i].filename, offset, g_strerror(-err));
        return COMPARE_NO_STATUS;
    }
    ret->flags &= BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA;
    return 0;
}

static void on_read(void *opaque, int ret)
{
    Side *side = opaque;

    side->ret = ret;
    side->pending = false;
}

/* @zero[i]: image i has zeroes there and is not read. */
static void start_reading(Compare *p, Chunk *c, uint64_t offset,
                          uint64_t bytes, const bool zero[2])
{
    c->offset = offset;
    c->bytes = MIN(bytes, CHUNK);
    for (int i = 0; i < 2; i++) {
        Side *side = &c->side[i];

        side->ret = zero[i] ? 0 : aio_check_stop();
        if (!zero[i] && side->ret == 0) {
            side->pending = true;
            qemu_iovec_init_buf(&side->qiov, side->buf, c->bytes);
            blk_aio_preadv(p->blk[i], offset, &side->qiov, 0, on_read, side);
        }
    }
}

static void wait_for(const Chunk *c)
{
    AIO_WAIT_WHILE(img_ctx, c->side[0].pending || c->side[1].pending);
}

static bool equal(const Chunk *c, const bool zero[2], uint64_t at,
                  uint64_t bytes)
{
    if (zero[0] || zero[1]) {
        return buffer_is_zero(c->side[zero[0]].buf + at, bytes);
    }
    return !memcmp(c->side[0].buf + at, c->side[1].buf + at, bytes);
}

/* COMPARE_EQUAL and so on, for a chunk that was read. */
static int compare_chunk(const Compare *p, const Chunk *c,
                         const bool zero[2])
{
    uint64_t at = 0;

    for (int i = 0; i < 2; i++) {
        if (c->side[i].ret < 0) {
            img_error("%s: cannot read at offset %" PRIu64 ": %s",
                      p->src[i].filename, c->offset,
                      g_strerror(-c->side[i].ret));
            return COMPARE_NOT_READ;
        }
    }
    if (equal(c, zero, 0, c->bytes)) {
        return COMPARE_EQUAL;
    }
    while (equal(c, zero, at, MIN(SECTOR, c->bytes - at))) {
        at += SECTOR;
    }
    return answer(p, "Content mismatch at offset %" PRIu64 "!",
                  c->offset + at);
}

/* At most one image has zeroes there. */
static int compare_data(Compare *p, uint64_t offset, uint64_t bytes,
                        const bool zero[2])
{
    Chunk *now = &p->chunk[0], *next = &p->chunk[1];
    int ret = COMPARE_EQUAL;

    start_reading(p, now, offset, bytes, zero);
    while (bytes && ret == COMPARE_EQUAL) {
        Chunk *done = now;

        wait_for(done);
        offset += done->bytes;
        bytes -= done->bytes;
        if (bytes) {
            start_reading(p, next, offset, bytes, zero);
        }
        ret = compare_chunk(p, done, zero);
        if (ret == COMPARE_EQUAL) {
            img_progress(offset, p->total, NULL);
        }
        now = next;
        next = done;
    }
    wait_for(now);
    return ret;
}

/* What both have. */
static int compare_common(Compare *p, uint64_t end)
{
    BlkExtent e[2];
    uint64_t bytes;
    int ret = 0;

    for (uint64_t at = 0; at < end && ret == 0; at += bytes) {
        bool zero[2];

        for (int i = 0; i < 2; i++) {
            ret = status_of(p, i, at, end - at, &e[i]);
            if (ret) {
                return ret;
            }
            zero[i] = e[i].flags & BDRV_BLOCK_ZERO;
        }
        bytes = MIN(e[0].bytes, e[1].bytes);
        if (p->strict && e[0].flags != e[1].flags) {
            return answer(p, "Strict mode: Offset %" PRIu64
                          " block status mismatch!", at);
        }
        ret = zero[0] && zero[1] ? 0 : compare_data(p, at, bytes, zero);
        if (ret == 0) {
            img_progress(at + bytes, p->total, NULL);
        }
    }
    return ret;
}

/* What only the longer one has must be zeroes. */
static int compare_rest(Compare *p, int longer, uint64_t offset)
{
    uint64_t end = p->size[longer];
    int ret = 0;
    BlkExtent e;

    for (; offset < end && ret == 0; offset += e.bytes) {
        bool zero[2] = { longer != 0, longer != 1 };

        ret = status_of(p, longer, offset, end - offset, &e);
        if (ret == 0 && !(e.flags & BDRV_BLOCK_ZERO)) {
            ret = compare_data(p, offset, e.bytes, zero);
        }
        if (ret == 0) {
            img_progress(offset + e.bytes, p->total, NULL);
        }
    }
    return ret;
}

static int compare(Compare *p)
{
    uint64_t end = MIN(p->size[0], p->size[1]);
    int ret;

    p->total = MAX(p->size[0], p->size[1]);
    if (p->strict && end != p->total) {
        return answer(p, "Strict mode: Image size mismatch!");
    }
    ret = compare_common(p, end);
    if (ret == 0 && end != p->total) {
        answer(p, "Warning: Image size mismatch!");
        ret = compare_rest(p, p->size[1] > p->size[0], end);
    }
    if (ret == 0) {
        answer(p, "Images are identical.");
    }
    return ret;
}

static int run(Compare *p)
{
    int ret = 0;

    for (int i = 0; i < 2 && ret == 0; i++) {
        int64_t size;

        p->blk[i] = img_open(&p->src[i]);
        size = p->blk[i] ? blk_getlength(p->blk[i]) : -EIO;
        p->size[i] = size;
        for (int k = 0; k < 2; k++) {
            p->chunk[k].side[i].buf = blk_try_memalign(CHUNK);
        }
        ret = size < 0 || !p->chunk[0].side[i].buf ||
              !p->chunk[1].side[i].buf ? COMPARE_NOT_OPEN : 0;
    }
    if (ret == 0) {
        img_progress_start(p->progress);
        ret = compare(p);
        img_progress_end(false);
    }
    for (int i = 0; i < 2; i++) {
        if (p->blk[i]) {
            ret = img_close(p->blk[i], p->src[i].filename, ret);
        }
        free(p->chunk[0].side[i].buf);
        free(p->chunk[1].side[i].buf);
    }
    return ret;
}

int img_compare(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Compare p = { 0 };
    unsigned flags = 0;
    bool image_opts = false;
    int c;

    while ((c = img_getopt(argc, argv, ":hf:F:T:pqsU", options)) != -1) {
        switch (c) {
        case 'f': p.src[0].format = optarg; break;
        case 'F': p.src[1].format = optarg; break;
        case 'p': p.progress = true; break;
        case 'q': p.quiet = true; break;
        case 's': p.strict = true; break;
        case 'U': flags |= BDRV_O_FORCE_SHARE; break;
        case IMG_OPT_IMAGE_OPTS: image_opts = true; break;
        case 'T':
            if (img_cache_mode(optarg, 'T', &flags)) {
                return COMPARE_NOT_OPEN;
            }
            break;
        default:
            return optopt == IMG_OPT_OBJECT ? COMPARE_NOT_OPEN : 1;
        }
    }
    if (optind != argc - 2) {
        return img_error("compare: name two images");
    }
    for (int i = 0; i < 2; i++) {
        p.src[i].filename = argv[optind + i];
        p.src[i].flags = flags;
        p.src[i].image_opts = image_opts;
    }
    p.progress = p.progress && !p.quiet;
    return run(&p);
}
