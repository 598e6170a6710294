/* SPDX-License-Identifier: MIT */
/*
 * firn-img commit. With -b the files between the image and the base are
 * committed one into the next, from the base's side upwards; they keep what
 * they hold, so that every disk of the chain reads as before but the base.
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

static int commit_one(const Commit *p)
{
    BlkCommitOptions o = { .drop = !p->keep, .bytes_per_second = p->rate,
                           .progress = img_progress };
    BlockBackend *blk = img_open(&p->src);
    GError *err = NULL;
    int ret;

    if (!blk) {
        return 1;
    }
    img_when_stopped("'%s' reads as before; commit it again to finish",
                     p->src.filename);
    ret = blk_commit(blk, &o, &err);
    if (ret < 0) {
        img_fail(&err, ret);
    }
    return img_close(blk, p->src.filename, ret < 0);
}

/* Is @base what @info calls its backing file? */
static bool is_base(const BlkImageInfo *info, const char *base)
{
    g_autofree char *path = info->backing_path
        ? bdrv_combine_filename(info->filename, base) : NULL;

    return path && (!strcmp(info->backing_path, path) ||
                    !strcmp(info->backing_path, base) ||
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

/* How many files away the base is: 1 for the backing file; 0 after a
 * message. */
static unsigned find_base(const Commit *p)
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
        if (!p->base || is_base(info, p->base)) {
            return depth;
        }
        src = (ImgSource) { .filename = info->backing_path,
                            .format = info->backing_format };
    }
    if (p->base) {
        img_error("%s: '%s' is not in its backing chain", p->src.filename,
                  p->base);
    } else {
        img_error("%s has no backing file to commit to", p->src.filename);
    }
    return 0;
}

static int run(const Commit *p)
{
    unsigned depth = find_base(p);
    int status;

    if (!depth) {
        return 1;
    }
    if (depth > 1) {
        return img_error("%s: '%s' is %u files down; commit the files in "
                         "between one after the other", p->src.filename,
                         p->base, depth);
    }
    img_progress_start(p->progress);
    status = commit_one(p);
    img_progress_end(status == 0);
    if (status == 0 && !p->quiet) {
        puts("Image committed.");
    }
    return status;
}

int img_commit(int argc, char **argv)
{
    static const struct option options[] = { IMG_COMMON_OPTIONS, { 0 } };
    Commit p = { .src.flags = BDRV_O_RDWR | BDRV_O_BACKING_RDWR |
                              BDRV_O_UNMAP };
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
