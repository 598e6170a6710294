/* SPDX-License-Identifier: MIT */
/*
 * firn-img rebase. The safe way compares, where the image itself holds
 * nothing, what the old and the new backing file show, and copies what differs
 * into the image before it names the new one. Stopped on the way, the image
 * still has its old backing file and reads as before.
 */
#include "tools/img/common.h"

#define CHUNK ((uint64_t)2 * 1024 * 1024)

typedef struct Rebase {
    ImgSource src;
    const char *backing;    /* NULL or "": none */
    const char *format;
    unsigned backing_flags;
    bool unsafe;
    bool progress;
    BlockBackend *blk;
    BlockBackend *old;      /* NULL: none */
    BlockBackend *new;      /* NULL: none */
    uint8_t *old_buf;
    uint8_t *new_buf;
} Rebase;

/* What @blk (NULL: zeroes) shows; zeroes behind its end. */
static int read_padded(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                       uint8_t *buf)
{
    int64_t size = blk ? blk_getlength(blk) : 0;
    uint64_t n;

    if (size < 0) {
        return size;
    }
    n = offset < (uint64_t)size ? MIN(bytes, size - offset) : 0;
    memset(buf + n, 0, bytes - n);
    return n ? blk_pread(blk, offset, n, buf) : 0;
}

/*
 * Write those runs of sectors that differ. Zeroes are written as data: a zero
 * write may be left out where the image reads as zeroes, which it will not any
 * more with the new backing file.
 */
static int copy_differences(const Rebase *p, uint64_t offset, uint64_t bytes)
{
    uint64_t start = 0, at = 0;
    int ret = 0;

    while (at < bytes && ret == 0) {
        uint64_t n = MIN(512, bytes - at);
        bool equal = !memcmp(p->old_buf + at, p->new_buf + at, n);

        at += n;
        if (equal) {
            start = at;
        } else if (at == bytes ||
                   !memcmp(p->old_buf + at, p->new_buf + at,
                           MIN(512, bytes - at))) {
            ret = blk_pwrite(p->blk, offset + start, at - start,
                             p->old_buf + start);
            start = at;
        }
    }
    return ret;
}

static int rebase_range(const Rebase *p, uint64_t offset, uint64_t bytes)
{
    int ret = read_padded(p->old, offset, bytes, p->old_buf);

    ret = ret < 0 ? ret : read_padded(p->new, offset, bytes, p->new_buf);
    return ret < 0 ? ret : copy_differences(p, offset, bytes);
}

static int copy(const Rebase *p)
{
    int64_t size = blk_getlength(p->blk);
    uint64_t at = 0;
    int ret = size < 0 ? (int)size : 0;

    img_when_stopped("'%s' has its old backing file and reads as before",
                     p->src.filename);
    while (ret == 0 && at < (uint64_t)size) {
        BlkExtent e;

        ret = aio_check_stop();
        ret = ret < 0 ? ret : blk_extent(p->blk, at, MIN(CHUNK, size - at), 0,
                                         &e);
        if (ret == 0 && !(e.flags & BDRV_BLOCK_ALLOCATED)) {
            ret = rebase_range(p, at, e.bytes);
        }
        at += ret == 0 ? e.bytes : 0;
        if (ret == 0) {
            img_progress(at, size, NULL);
        }
    }
    return ret < 0 ? img_error("%s: cannot rebase at offset %" PRIu64 ": %s",
                               p->src.filename, at, g_strerror(-ret)) : 0;
}

static BlockBackend *open_backing(const Rebase *p, const char *path,
                                  const char *format)
{
    ImgSource src = { .filename = path, .format = format,
                      .flags = p->backing_flags };

    return img_open(&src);
}

static int open_backings(Rebase *p)
{
    g_autoptr(BlkImageInfo) info = NULL;
    GError *err = NULL;
    int ret = blk_image_info(p->blk, &info, &err);

    if (ret < 0) {
        return img_fail(&err, ret);
    }
    if (info->backing_path) {
        p->old = open_backing(p, info->backing_path, info->backing_format);
        if (!p->old) {
            return 1;
        }
    }
    if (p->backing && *p->backing) {
        g_autofree char *path = bdrv_combine_filename(p->src.filename,
                                                      p->backing);

        p->new = open_backing(p, path, p->format);
        if (!p->new) {
            return 1;
        }
    }
    p->old_buf = blk_try_memalign(CHUNK);
    p->new_buf = blk_try_memalign(CHUNK);
    return p->old_buf && p->new_buf ? 0 : img_error("out of memory");
}

static int change(const Rebase *p)
{
    const char *file = p->backing && *p->backing ? p->backing : NULL;
    GError *err = NULL;
    int ret = blk_change_backing_file(p->blk, file, file ? p->format : NULL,
                                      &err);

    return ret < 0 ? img_fail(&err, ret) : 0;
}

static int rebase(Rebase *p)
{
    int status = 0;

    if (strcmp(bdrv_get_format_name(blk_bs(p->blk)), "qcow2")) {
        return img_error("%s: format %s has no backing files",
                         p->src.filename,
                         bdrv_get_format_name(blk_bs(p->blk)));
    }
    if (p->backing && *p->backing && !p->format) {
        return img_error("%s: the format of backing file '%s' is missing; "
                         "say -F qcow2 or -F raw", p->src.filename,
                         p->backing);
    }
    img_progress_start(p->progress);
    if (!p->unsafe) {
        status = open_backings(p) || copy(p);
    }
    img_progress_end(status == 0);
    return status ? status : change(p);
}

static int run(Rebase *p)
{
    int status;

    p->blk = img_open(&p->src);
    if (!p->blk) {
        return 1;
    }
    status = rebase(p);
    if (p->old) {
        status = img_close(p->old, "old backing file", status);
    }
    if (p->new) {
        status = img_close(p->new, p->backing, status);
    }
    free(p->old_buf);
    free(p->new_buf);
    return img_close(p->blk, p->src.filename, status);
}

int img_rebase(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Rebase p = { .src.flags = BDRV_O_RDWR };
    bool quiet = false;
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hf:F:b:upt:T:qUc", options)) != -1) {
        switch (c) {
        case '?': return 1;
        case 'f': p.src.format = optarg; break;
        case 'F': p.format = optarg; break;
        case 'b': p.backing = optarg; break;
        case 'u': p.unsafe = true; break;
        case 'p': p.progress = true; break;
        case 'q': quiet = true; break;
        case 'U': p.backing_flags |= BDRV_O_FORCE_SHARE; break;
        case 't': bad |= img_cache_mode(optarg, 't', &p.src.flags); break;
        case 'T': bad |= img_cache_mode(optarg, 'T', &p.backing_flags); break;
        case 'c':
            bad = img_error("rebase: -c is not supported");
            break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        }
    }
    if (bad) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("rebase: name one image");
    }
    if (!p.unsafe && !p.backing) {
        return img_error("rebase: say -b FILE (-b '' for none), or -u");
    }
    /* Without -u the old chain must be there; with it, it need not. */
    p.src.flags |= p.unsafe ? BDRV_O_NO_BACKING : 0;
    p.src.filename = argv[optind];
    p.progress = p.progress && !quiet;
    return run(&p);
}
