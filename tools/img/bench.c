/* SPDX-License-Identifier: MIT */
/* firn-img bench: equal requests, so many at a time, one behind the other. */
#include "tools/img/common.h"

#include "util/iov.h"

/* Each request has a stack, and a process has room for some 32,000. */
#define MAX_DEPTH 8192

typedef struct Bench {
    ImgSource src;
    BlockBackend *blk;
    uint64_t count;
    uint64_t depth;
    uint64_t bytes;         /* of a request */
    uint64_t step;
    uint64_t first;         /* offset of the first one */
    uint64_t offset;        /* of the next one */
    uint64_t size;          /* of the disk */
    uint64_t flush;         /* after so many requests; 0: never */
    uint64_t pattern;
    bool no_drain;
    bool native;            /* AIO */
    bool write;
    uint64_t started;
    uint64_t ended;
    uint64_t in_flight;     /* flushes, too */
    bool flushing;          /* new requests wait for it */
    int error;
    uint8_t *buf;
    QEMUIOVector qiov;
} Bench;

static void on_flush(void *opaque, int ret)
{
    Bench *b = opaque;

    b->in_flight--;
    b->flushing = false;
    b->error = b->error ? b->error : MIN(ret, 0);
}

static void on_request(void *opaque, int ret)
{
    Bench *b = opaque;

    b->in_flight--;
    b->ended++;
    b->error = b->error ? b->error : MIN(ret, 0);
    b->error = b->error ? b->error : aio_check_stop();
    if (b->flush && b->ended % b->flush == 0 && !b->error && b->no_drain) {
        b->in_flight++;
        blk_aio_flush(b->blk, on_flush, b);
    }
}

/* Without --no-drain a flush has the disk to itself. */
static bool must_flush(const Bench *b, uint64_t last)
{
    return b->flush && !b->no_drain && b->started - last >= b->flush;
}

static void start(Bench *b)
{
    b->in_flight++;
    b->started++;
    if (b->write) {
        blk_aio_pwritev(b->blk, b->offset, &b->qiov, 0, on_request, b);
    } else {
        blk_aio_preadv(b->blk, b->offset, &b->qiov, 0, on_request, b);
    }
    b->offset = b->size ? (b->offset + b->step) % b->size : 0;
    if (b->bytes > b->size - b->offset) {
        b->offset = 0; /* none crosses the end */
    }
}

static int loop(Bench *b)
{
    const uint64_t depth = MIN(b->depth, MAX_DEPTH);
    uint64_t flushed = 0;

    while (b->in_flight || (b->ended < b->count && !b->error)) {
        while (!b->error && !b->flushing && b->started < b->count &&
               b->in_flight < depth && !must_flush(b, flushed)) {
            start(b);
        }
        if (must_flush(b, flushed) && !b->in_flight && !b->error) {
            flushed = b->started;
            b->flushing = true;
            b->in_flight++;
            blk_aio_flush(b->blk, on_flush, b);
        }
        if (b->in_flight) {
            aio_poll(img_ctx, true);
        }
    }
    return b->error;
}

static int run(Bench *b)
{
    int64_t size = blk_getlength(b->blk), begin;
    int ret;

    if (size < 0) {
        return img_error("%s: cannot find its size: %s", b->src.filename,
                         g_strerror(-size));
    }
    b->size = size;
    b->first = b->offset;
    b->buf = blk_try_memalign(MAX(b->bytes, 1));
    if (!b->buf) {
        return img_error("no memory for requests of %" PRIu64 " bytes",
                         b->bytes);
    }
    memset(b->buf, (int)b->pattern, b->bytes);
    qemu_iovec_init_buf(&b->qiov, b->buf, b->bytes);
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %"
           PRIu64 " in parallel (starting at offset %" PRIu64 ", step size %"
           PRIu64 ")\n", b->count, b->write ? "write" : "read", b->bytes,
           b->depth, b->offset, b->step);
    if (b->flush) {
        printf("Sending flush every %" PRIu64 " requests\n", b->flush);
    }
    begin = g_get_monotonic_time();
    ret = loop(b);
    if (ret < 0 && (b->bytes > b->size || b->first > b->size - b->bytes)) {
        img_error("%s: a request of %" PRIu64 " bytes at offset %" PRIu64
                  " does not fit on the disk of %" PRIu64 " bytes",
                  b->src.filename, b->bytes, b->first, b->size);
    } else if (ret < 0) {
        img_error("%s: a request failed: %s", b->src.filename,
                  g_strerror(-ret));
    } else {
        printf("Run completed in %3.3f seconds.\n",
               (double)(g_get_monotonic_time() - begin) / G_USEC_PER_SEC);
    }
    free(b->buf);
    return ret < 0;
}

enum { OPT_FLUSH = IMG_OPT_FIRST, OPT_PATTERN, OPT_NO_DRAIN };

static int take_number(Bench *b, int c)
{
    switch (c) {
    case 'c':
        return img_parse_number(optarg, "-c", 0, INT32_MAX, &b->count);
    case 'd':
        return img_parse_number(optarg, "-d", 1, INT32_MAX, &b->depth);
    case 'o':
        return img_parse_size(optarg, "-o", &b->offset);
    case 's':
        return img_parse_size(optarg, "-s", &b->bytes);
    case 'S':
        return img_parse_size(optarg, "-S", &b->step);
    case 't':
        return img_cache_mode(optarg, 't', &b->src.flags);
    case OPT_FLUSH:
        return img_parse_number(optarg, "--flush-interval", 0, INT32_MAX,
                                &b->flush);
    default:
        return img_parse_number(optarg, "--pattern", 0, 255, &b->pattern);
    }
}

/* What was native AIO is the best there is here: io_uring if it is permitted. */
static int use_aio(Bench *b, const char *name)
{
    b->native = !strcmp(name, "native");

    if (b->native) {
        return img_use_backend(AIO_BACKEND_AUTO);
    }
    if (!strcmp(name, "threads")) {
        return img_use_backend(AIO_BACKEND_THREADS);
    }
    if (!strcmp(name, "io_uring")) {
        return img_use_backend(AIO_BACKEND_IO_URING);
    }
    return img_refuse("-i", name,
                      NEAREST_LIST("native", "threads", "io_uring"));
}

/* Which words go together. */
static int check(Bench *b)
{
    if (!b->write && b->flush) {
        return img_error("bench: --flush-interval is for -w");
    }
    if (b->flush && b->flush < b->depth) {
        return img_error("bench: the flush interval is below the depth");
    }
    if (b->bytes > INT32_MAX || b->step > INT32_MAX) {
        return img_error("bench: -s and -S are at most 2147483647");
    }
    if (b->native && !(b->src.flags & BDRV_O_NOCACHE)) {
        return img_error("bench: native AIO is for files without cache; say "
                         "-t none or -t directsync, too");
    }
    b->step = b->step ? b->step : b->bytes;
    b->src.flags |= b->write ? BDRV_O_RDWR : 0;
    return 0;
}

int img_bench(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "flush-interval", required_argument, NULL, OPT_FLUSH },
        { "pattern", required_argument, NULL, OPT_PATTERN },
        { "no-drain", no_argument, NULL, OPT_NO_DRAIN },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Bench b = { .count = 75000, .depth = 64, .bytes = 4096 };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hc:d:f:ni:o:qs:S:t:wU", options))
           != -1) {
        switch (c) {
        case '?': return 1;
        case 'f': b.src.format = optarg; break;
        case 'n': bad |= use_aio(&b, "native"); break;
        case 'i': bad |= use_aio(&b, optarg); break;
        case 'q': break;
        case 'w': b.write = true; break;
        case 'U': b.src.flags |= BDRV_O_FORCE_SHARE; break;
        case OPT_NO_DRAIN: b.no_drain = true; break;
        case IMG_OPT_IMAGE_OPTS: b.src.image_opts = true; break;
        default:
            bad |= take_number(&b, c);
        }
    }
    if (bad || check(&b)) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("bench: name one image");
    }
    b.src.filename = argv[optind];
    b.blk = img_open(&b.src);
    return b.blk ? img_close(b.blk, b.src.filename, run(&b)) : 1;
}
