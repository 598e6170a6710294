/* SPDX-License-Identifier: MIT */
/*
 * firn-img rebase: which images, and the names the header gets; the copying is
 * block/rebase.c.
 */
#include "tools/img/common.h"


typedef struct Rebase {
    ImgSource src;
    const char *backing;    /* NULL or "": none */
    const char *format;
    unsigned backing_flags;
    bool unsafe;
    bool compressed;
    bool progress;
    bool quiet;
    BlockBackend *blk;
    BlockBackend *new;      /* NULL: none */
} Rebase;

/* The file that the image is to have, NULL for none. */
static const char *new_name(const Rebase *p)
{
    return p->backing && *p->backing ? p->backing : NULL;
}

/* Its path as it would find it. */
static char *new_path(const Rebase *p)
{
    return bdrv_combine_filename(bdrv_get_filename(blk_bs(p->blk)),
                                 p->backing);
}

static int open_new(Rebase *p)
{
    g_autofree char *path = NULL;
    ImgSource src = { .format = p->format, .flags = p->backing_flags };

    if (!new_name(p)) {
        return 0;
    }
    path = new_path(p);
    src.filename = path;
    p->new = img_open(&src);
    return p->new ? 0 : 1;
}

/* Snapshots inside the image share what is not in it with the backing file;
 * nothing is copied for them. */
static void warn_of_snapshots(const Rebase *p)
{
    g_autoptr(GPtrArray) list = NULL;

    if (blk_snapshot_list(p->blk, &list, NULL) == 0 && list->len) {
        img_warn("%s: internal snapshots (%u) will show the new backing file "
                 "where they hold no data", p->src.filename, list->len);
    }
}

static int copy_and_change(Rebase *p)
{
    const BlkRebaseOptions o = {
        .file = new_name(p),
        .format = new_name(p) ? p->format : NULL,
        .backing = p->new,
        .compressed = p->compressed,
        .progress = img_progress,
    };
    GError *err = NULL;
    int ret;

    img_when_stopped("'%s' has its old backing file and reads as before",
                     p->src.filename);
    ret = blk_rebase(p->blk, &o, &err);
    return ret < 0 ? img_fail_in(p->src.filename, &err, ret) : 0;
}

static int change(const Rebase *p)
{
    GError *err = NULL;
    int ret = blk_change_backing_file(p->blk, new_name(p),
                                      new_name(p) ? p->format : NULL, &err);

    return ret < 0 ? img_fail_in(p->src.filename, &err, ret) : 0;
}

/* No disk can be read through a backing file that is itself, or based on it. */
static bool leads_back(const Rebase *p)
{
    g_autofree char *path = new_path(p);
    const ImgSource src = { .filename = path, .format = p->format };

    return img_chain_has_file(&src, bdrv_get_filename(blk_bs(p->blk)));
}

static int rebase(Rebase *p)
{
    const char *format = bdrv_get_format_name(blk_bs(p->blk));
    int status;

    if (strcmp(format, "qcow2")) {
        return img_error("%s: format %s has no backing files",
                         p->src.filename, format);
    }
    if (new_name(p) && !p->format) {
        return img_error("%s: the format of backing file '%s' is missing; "
                         "say -F qcow2 or -F raw", p->src.filename,
                         p->backing);
    }
    if (new_name(p) && img_check_format(p->format)) {
        return 1;
    }
    if (new_name(p) && leads_back(p)) {
        return img_error("%s: its backing file would be itself, or '%s', "
                         "which is based on it; no disk can be read so",
                         p->src.filename, p->backing);
    }
    if (!p->quiet && !p->unsafe) {
        warn_of_snapshots(p);
    }
    img_progress_start(p->progress && !p->quiet);
    status = p->unsafe ? change(p) : open_new(p) || copy_and_change(p);
    img_progress_end(status == 0);
    return status;
}

static int run(Rebase *p)
{
    int status;

    p->blk = img_open(&p->src);
    if (!p->blk) {
        return 1;
    }
    status = rebase(p);
    if (p->new) {
        status = img_close(p->new, p->backing, status);
    }
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
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hf:F:b:upt:T:qUc", options)) != -1) {
        switch (c) {
        case '?': return 1;
        case 'f': p.src.format = optarg; break;
        case 'F': p.format = optarg; break;
        case 'b': p.backing = optarg; break;
        case 'u': p.unsafe = true; break;
        case 'p': p.progress = true; break;
        case 'q': p.quiet = true; break;
        case 'U': p.backing_flags |= BDRV_O_FORCE_SHARE; break;
        case 't': bad |= img_cache_mode(optarg, 't', &p.src.flags); break;
        case 'T': bad |= img_cache_mode(optarg, 'T', &p.backing_flags); break;
        case 'c': p.compressed = true; break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        }
    }
    if (bad) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("rebase: name one image");
    }
    if (p.unsafe && p.compressed) {
        return img_error("rebase: -u copies nothing that -c could compress");
    }
    if (!p.unsafe && !p.backing) {
        return img_error("rebase: say -b FILE (-b '' for none), or -u");
    }
    /* Without -u the old chain must be there; with it, it need not. */
    p.src.flags |= p.unsafe ? BDRV_O_NO_BACKING : 0;
    p.src.filename = argv[optind];
    return run(&p);
}
