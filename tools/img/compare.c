/* SPDX-License-Identifier: MIT */
/* firn-img compare */
#include "tools/img/common.h"

#include <stdarg.h>

enum {
    COMPARE_EQUAL, COMPARE_DIFFERENT, COMPARE_NOT_OPEN, COMPARE_NO_STATUS,
    COMPARE_NOT_READ
};

#define CHUNK  ((uint64_t)2 * 1024 * 1024)
#define SECTOR 512

typedef struct Compare {
    ImgSource src[2];
    BlockBackend *blk[2];
    uint64_t size[2];
    uint8_t *buf[2];
    bool strict;
    bool quiet;
    bool progress;
} Compare;

static int different(const Compare *p, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static int different(const Compare *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!p->quiet) {
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
    if (!(ret->flags & BDRV_BLOCK_ALLOCATED)) {
        ret->flags |= BDRV_BLOCK_ZERO;
    }
    ret->flags &= BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA;
    return 0;
}

static int read_into(const Compare *p, int i, uint64_t offset, uint64_t bytes)
{
    int err = aio_check_stop();

    err = err < 0 ? err : blk_pread(p->blk[i], offset, bytes, p->buf[i]);
    if (err < 0) {
        img_error("%s: cannot read at offset %" PRIu64 ": %s",
                  p->src[i].filename, offset, g_strerror(-err));
        return COMPARE_NOT_READ;
    }
    return 0;
}

/* The first sector in which the buffers differ, as an offset from their start;
 * @bytes if none does. */
static uint64_t first_difference(const Compare *p, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += SECTOR) {
        if (memcmp(p->buf[0] + at, p->buf[1] + at, MIN(SECTOR, bytes - at))) {
            return at;
        }
    }
    return bytes;
}

/* @zero[i]: image i has zeroes there, its buffer holds them already. */
static int compare_data(const Compare *p, uint64_t offset, uint64_t bytes,
                        const bool zero[2])
{
    while (bytes) {
        uint64_t n = MIN(bytes, CHUNK), at;

        for (int i = 0; i < 2; i++) {
            int ret = zero[i] ? 0 : read_into(p, i, offset, n);

            if (ret) {
                return ret;
            }
            if (zero[i]) {
                memset(p->buf[i], 0, n);
            }
        }
        at = first_difference(p, n);
        if (at < n) {
            return different(p, "Content mismatch at offset %" PRIu64 "!",
                             offset + at);
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* What both have. */
static int compare_common(const Compare *p, uint64_t end, uint64_t total)
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
            return different(p, "Strict mode: Offset %" PRIu64
                             " block status mismatch!", at);
        }
        ret = zero[0] && zero[1] ? 0 : compare_data(p, at, bytes, zero);
        img_progress(at + bytes, total, NULL);
    }
    return ret;
}

/* What only the longer one has must be zeroes. */
static int compare_rest(const Compare *p, int longer, uint64_t offset)
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
            img_progress(offset + e.bytes, end, NULL);
        }
    }
    return ret;
}

static int compare(const Compare *p)
{
    uint64_t end = MIN(p->size[0], p->size[1]);
    uint64_t total = MAX(p->size[0], p->size[1]);
    int ret;

    if (p->strict && end != total) {
        return different(p, "Strict mode: Image size mismatch!");
    }
    ret = compare_common(p, end, total);
    if (ret == 0 && end != total) {
        if (!p->quiet) {
            puts("Warning: Image size mismatch!");
        }
        ret = compare_rest(p, p->size[1] > p->size[0], end);
    }
    if (ret == 0) {
        different(p, "Images are identical.");
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
        p->buf[i] = blk_try_memalign(CHUNK);
        p->size[i] = size;
        ret = size < 0 || !p->buf[i] ? COMPARE_NOT_OPEN : 0;
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
        free(p->buf[i]);
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
            return 1;
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
