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

/* Where the options of a filter have what is filtered, or NULL. */
static const char *filtered(const char *driver)
{
    static const char *const prefixes[][2] = {
        { "copy-on-read", "file." },
        { "blkdebug", "image." },
        { "blkverify", "test." },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (!g_strcmp0(driver, prefixes[i][0])) {
            return prefixes[i][1];
        }
    }
    return NULL;
}

/* "backing.": what the options of the file behind the image start with. Those
 * of filters in front of the image come first. */
static GString *backing_prefix(const BdrvOptions *o)
{
    GString *s = g_string_new(NULL);
    const char *more;

    do {
        g_autofree char *key = g_strconcat(s->str, "driver", NULL);

        more = filtered(bdrv_options_get(o, key));
        g_string_append(s, more ? more : "backing.");
    } while (more);
    return s;
}

/* Open the image with a chain that ends before the file @depth files down. */
static BlockBackend *open_above(const Commit *p, unsigned depth)
{
    ImgSource src = p->src;
    GString *key;

    if (img_expand_source(&src)) {
        return NULL;
    }
    key = backing_prefix(src.options);
    while (--depth) {
        g_string_append(key, "backing.");
    }
    bdrv_options_free(bdrv_options_take_prefix(src.options, key->str));
    g_string_truncate(key, key->len - 1);
    bdrv_options_set(src.options, key->str, "null");
    g_string_free(key, TRUE);
    return img_open(&src);
}

/* The base is @depth files down. */
static int commit_across(const Commit *p, unsigned depth,
                         const ImgSource *base_src)
{
    BlockBackend *base = img_open(base_src), *blk;
    int status = 1;

    if (!base) {
        return 1;
    }
    blk = open_above(p, depth);
    if (blk) {
        status = img_close(blk, p->src.filename, copy(p, blk, base));
    }
    return img_close(base, p->base, status);
}

/* ---- which file is the base ---- */

/* A walk down the chain. */
typedef struct Layer {
    ImgSource src;      /* options: all that the command line says of it */
    BlkImageInfo *above;
    bool renamed;       /* by the command line, not named by the header */
} Layer;

static bool same_path(const char *a, const char *b)
{
    g_autofree char *one = realpath(a, NULL), *two = realpath(b, NULL);

    return !strcmp(a, b) || (one && two && !strcmp(one, two));
}

/* Is it called @base, seen from where the image above it is? */
static bool is_base(const Layer *l, const char *base)
{
    g_autofree char *path = bdrv_combine_filename(l->above->filename, base);
    const char *name = l->src.filename;

    name = name ? name : bdrv_options_get(l->src.options, "file.filename");
    name = name ? name : bdrv_options_get(l->src.options, "filename");
    return *base && ((name && same_path(name, path)) ||
                     (!l->renamed && !strcmp(l->above->backing_file, base)));
}

/* Open the layer alone; its options become those of what is behind it. */
static int look(ImgSource *src, BlkImageInfo **ret)
{
    ImgSource alone = *src;
    GString *prefix = backing_prefix(src->options);
    GError *err = NULL;
    g_autofree char *name = NULL;
    BlockBackend *blk;
    int r;

    src->options = bdrv_options_take_prefix(alone.options, prefix->str);
    g_string_free(prefix, TRUE);
    alone.flags = BDRV_O_NO_BACKING;
    blk = img_open(&alone);
    if (!blk) {
        return 1;
    }
    name = g_strdup(bdrv_get_filename(blk_bs(blk)));
    r = blk_image_info(blk, ret, &err);
    if (r < 0) {
        img_fail(&err, r);
    }
    return img_close(blk, name, r < 0);
}

/* On to the file behind. Returns 1, 0 at the end of the chain, or -1 after a
 * message. */
static int go_down(Layer *l)
{
    g_autofree char *none = bdrv_options_take(l->src.options, "backing");
    BlkImageInfo *info = NULL;
    BdrvOptions *o;

    if (look(&l->src, &info)) {
        return -1;
    }
    blk_image_info_free(l->above);
    l->above = info;
    o = l->src.options;
    l->renamed = bdrv_options_has_prefix(o, "file") ||
                 bdrv_options_get(o, "filename");
    l->src.filename = l->renamed ? NULL : g_intern_string(info->backing_path);
    if (none || (!l->renamed && !info->backing_path)) {
        return 0;
    }
    if (!l->renamed && info->backing_format) {
        bdrv_options_set_default(o, "driver", info->backing_format);
    }
    return img_expand_source(&l->src) ? -1 : 1;
}

/*
 * How many files away the base is: 1 for the backing file; 0 after a message.
 * *@ret says what it is.
 */
static unsigned find_base(const Commit *p, ImgSource *ret)
{
    Layer l = { .src = p->src };
    unsigned depth = 0;
    int r = img_expand_source(&l.src) ? -1 : 1;

    while (r > 0 && ++depth < 200) {
        r = go_down(&l);
        if (r > 0 && is_base(&l, p->base)) {
            *ret = l.src;
            ret->flags = p->src.flags;
            blk_image_info_free(l.above);
            return depth;
        }
    }
    if (r >= 0) {
        img_error("%s: '%s' is not in its backing chain", p->src.filename,
                  p->base);
    }
    bdrv_options_free(l.src.options);
    blk_image_info_free(l.above);
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
    if (depth > 1) {
        status = commit_across(p, depth, &base);
    } else {
        bdrv_options_free(base.options);
        status = commit_one(p);
    }
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
