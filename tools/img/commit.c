/* SPDX-License-Identifier: MIT */
/*
 * firn-img commit. With -b, what the image and the files between it and the
 * base hold goes into the base. The base can be open only once, for writing;
 * so the image is opened with a chain that ends before it.
 */
#include "tools/img/common.h"

typedef struct Commit {
    ImgSource src;
    const char *base;
    uint64_t rate;      /* -r; 0: no limit */
    bool keep;          /* -d */
    bool progress;
    bool quiet;
} Commit;

/* @base NULL: into the backing file of @blk. */
static int copy(const Commit *p, BlockBackend *blk, BlockBackend *base)
{
    const BlkCommitOptions o = {
        .drop = !p->keep, .base = base, .bytes_per_second = p->rate,
        .progress = img_progress,
    };
    GError *err = NULL;
    int ret;

    img_when_stopped("'%s' reads as before; commit it again to finish",
                     p->src.filename);
    ret = blk_commit(blk, &o, &err);
    return ret < 0 ? img_fail(&err, ret) : 0;
}

static int commit_one(const Commit *p)
{
    ImgSource src = p->src;
    BlockBackend *blk;

    src.flags |= BDRV_O_BACKING_RDWR;
    blk = img_open(&src);
    return blk ? img_close(blk, src.filename, copy(p, blk, NULL)) : 1;
}

/* "backing.backing.": of the node that many files down. */
static char *backing_prefix(unsigned depth)
{
    GString *s = g_string_new(NULL);

    while (depth--) {
        g_string_append(s, "backing.");
    }
    return g_string_free(s, FALSE);
}

/* The base is @depth files down. */
static int commit_across(const Commit *p, unsigned depth,
                         const ImgSource *base_src)
{
    g_autofree char *prefix = backing_prefix(depth - 1);
    g_autofree char *key = g_strconcat(prefix, "backing", NULL);
    ImgSource src = p->src;
    BlockBackend *base = img_open(base_src), *blk;
    int status = 1;

    if (!base) {
        return 1;
    }
    src.options = bdrv_options_new();
    bdrv_options_set(src.options, key, "null");
    blk = img_open(&src);
    if (blk) {
        status = img_close(blk, src.filename, copy(p, blk, base));
    }
    return img_close(base, base_src->filename, status);
}

static bool same_path(const char *a, const char *b)
{
    g_autofree char *one = realpath(a, NULL), *two = realpath(b, NULL);

    return !strcmp(a, b) || (one && two && !strcmp(one, two));
}

/* Is @base, seen from where the image is, the backing file of @info? */
static bool is_base(const BlkImageInfo *info, const char *base)
{
    g_autofree char *path = bdrv_combine_filename(info->filename, base);

    return *base && (same_path(info->backing_path, path) ||
                     !strcmp(info->backing_file, base));
}

static int look(const ImgSource *src, BlkImageInfo **ret)
{
    ImgSource s = *src;
    GError *err = NULL;
    BlockBackend *blk;
    int r;

    s.flags = BDRV_O_NO_BACKING;
    blk = img_open(&s);
    if (!blk) {
        return 1;
    }
    r = blk_image_info(blk, ret, &err);
    if (r < 0) {
        img_fail(&err, r);
    }
    return img_close(blk, s.filename, r < 0);
}

/*
 * How many files away the base is: 1 for the backing file; 0 after a message.
 * *@ret says what it is.
 */
static unsigned find_base(const Commit *p, ImgSource *ret)
{
    g_autoptr(BlkImageInfo) info = NULL;
    ImgSource src = p->src;

    for (unsigned depth = 1; depth < 200; depth++) {
        BlkImageInfo *next = NULL;

        if (look(&src, &next)) {
            return 0;
        }
        blk_image_info_free(info);
        info = next;
        if (!info->backing_path) {
            break;
        }
        src = (ImgSource) { .filename = info->backing_path,
                            .format = info->backing_format };
        if (is_base(info, p->base)) {
            *ret = src;
            ret->flags = p->src.flags;
            ret->filename = g_intern_string(src.filename);
            ret->format = g_intern_string(src.format);
            return depth;
        }
    }
    img_error("%s: '%s' is not in its backing chain", p->src.filename,
              p->base);
    return 0;
}

static int run(const Commit *p)
{
    ImgSource base = { 0 };
    unsigned depth = p->base ? find_base(p, &base) : 1;
    int status;

    if (!depth) {
        return 1;
    }
    img_progress_start(p->progress);
    status = depth == 1 ? commit_one(p) : commit_across(p, depth, &base);
    img_progress_end(status == 0);
    if (status == 0 && !p->quiet) {
        puts("Image committed.");
    }
    return status;
}

int img_commit(int argc, char **argv)
{
    static const struct option options[] = { IMG_COMMON_OPTIONS, { 0 } };
    Commit p = { .src.flags = BDRV_O_RDWR | BDRV_O_UNMAP };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":f:ht:b:dpqr:", options)) != -1) {
        switch (c) {
        case 'f': p.src.format = optarg; break;
        case 't': bad |= img_cache_mode(optarg, 't', &p.src.flags); break;
        case 'b': p.base = optarg; p.keep = true; break;
        case 'd': p.keep = true; break;
        case 'p': p.progress = true; break;
        case 'q': p.quiet = true; break;
        case 'r': bad |= img_parse_size(optarg, "-r", &p.rate); break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        default:
            return 1;
        }
    }
    if (bad) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("commit: name one image");
    }
    p.src.filename = argv[optind];
    p.progress = p.progress && !p.quiet;
    return run(&p);
}
