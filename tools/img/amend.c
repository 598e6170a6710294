/* SPDX-License-Identifier: MIT */
/* firn-img amend */
#include "tools/img/common.h"

typedef struct Amend {
    ImgSource src;
    GPtrArray *texts;
    bool force;
    bool progress;
    bool help;
} Amend;

/* The backing file may be named, not changed. */
static int check_backing(const Amend *p, BlockBackend *blk,
                         const BdrvOptions *o)
{
    const char *file = bdrv_options_get(o, "backing_file");
    const char *format = bdrv_options_get(o, "backing_fmt");
    g_autoptr(BlkImageInfo) info = NULL;
    GError *err = NULL;
    int ret;

    if (!file && !format) {
        return 0;
    }
    ret = blk_image_info(blk, &info, &err);
    if (ret < 0) {
        return img_fail(&err, ret);
    }
    return g_strcmp0(file, info->backing_file) ||
           g_strcmp0(format, info->backing_format)
           ? img_error("%s: amend cannot change the backing file; rebase can",
                       p->src.filename) : 0;
}

static int amend(const Amend *p, BlockBackend *blk)
{
    const char *format = bdrv_get_format_name(blk_bs(blk));
    BdrvOptions *o = NULL;
    GError *err = NULL;
    int ret;

    if (!strcmp(format, "raw")) {
        return img_error("%s: images of format raw have nothing to amend",
                         p->src.filename);
    }
    if (p->help) {
        img_print_amend_help(format);
        return 0;
    }
    if (img_parse_create_options(format, p->texts, p->src.filename, &o)) {
        return 1;
    }
    if (check_backing(p, blk, o)) {
        bdrv_options_free(o);
        return 1;
    }
    img_progress_start(p->progress);
    img_when_stopped("'%s' reads as before; amend it again",
                     p->src.filename);
    if (bdrv_options_get(o, "size")) {
        img_when_stopped_late(IMG_MAY_LEAK);
    }
    ret = blk_amend(blk, o, p->force, img_progress, NULL, &err);
    img_progress_end(ret == 0);
    return ret < 0 ? img_fail_in(p->src.filename, &err, ret) : 0;
}

/* -o help without an image needs -f. */
static int help_without_image(const char *format)
{
    if (!format) {
        return img_error("amend: name one image");
    }
    if (img_check_format(format)) {
        return 1;
    }
    if (!strcmp(format, "raw")) {
        return img_error("images of format raw have nothing to amend");
    }
    img_print_amend_help(format);
    return 0;
}

int img_amend(int argc, char **argv)
{
    enum { OPT_FORCE = IMG_OPT_FIRST };
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force", no_argument, NULL, OPT_FORCE },
        { 0 },
    };
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Amend p = { .texts = texts, .src.flags = BDRV_O_RDWR };
    bool quiet = false;
    BlockBackend *blk;
    int c;

    while ((c = img_getopt(argc, argv, ":ho:f:t:pq", options)) != -1) {
        switch (c) {
        case 'f': p.src.format = optarg; break;
        case 'p': p.progress = true; break;
        case 'q': quiet = true; break;
        case OPT_FORCE: p.force = true; break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        case 'o':
            p.help = p.help || img_wants_help(optarg);
            g_ptr_array_add(texts, optarg);
            break;
        case 't':
            if (img_cache_mode(optarg, 't', &p.src.flags)) {
                return 1;
            }
            break;
        default:
            return 1;
        }
    }
    if (!texts->len) {
        return img_error("amend: -o OPTIONS is missing");
    }
    if (p.help && optind == argc) {
        return help_without_image(p.src.format);
    }
    if (optind != argc - 1) {
        return img_error("amend: name one image");
    }
    p.src.filename = argv[optind];
    p.progress = p.progress && !quiet;
    blk = img_open(&p.src);
    return blk ? img_close(blk, p.src.filename, amend(&p, blk)) : 1;
}
