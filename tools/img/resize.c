/* SPDX-License-Identifier: MIT */
/* firn-img resize */
#include "tools/img/common.h"

typedef struct Resize {
    ImgSource src;
    BdrvPrealloc prealloc;
    bool shrink;
    bool quiet;
} Resize;

/* "+1G" and "-1G" are relative to @now. */
static int new_size(const char *name, const char *text, uint64_t now,
                    uint64_t *ret)
{
    bool grow = *text == '+', cut = *text == '-';
    uint64_t n;

    if (img_parse_size(text + (grow || cut), "size", &n)) {
        return 1;
    }
    if (cut && n >= now) {
        return img_error("%s: cannot take %s from a disk of %" PRIu64
                         " bytes", name, text + 1, now);
    }
    *ret = grow ? now + n : cut ? now - n : n;
    if (*ret > INT64_MAX) {
        return img_error("%s: size %s is too large", name, text);
    }
    return *ret ? 0
                : img_error("%s: the new size must be more than 0", name);
}

static int resize(const Resize *p, BlockBackend *blk, const char *text)
{
    int64_t now = blk_getlength(blk);
    GError *err = NULL;
    uint64_t size = 0;
    int ret;

    if (now < 0) {
        return img_error("%s: cannot find its size: %s", p->src.filename,
                         g_strerror(-now));
    }
    if (new_size(p->src.filename, text, now, &size)) {
        return 1;
    }
    if (size <= (uint64_t)now && p->prealloc != BDRV_PREALLOC_OFF) {
        return img_error("%s: --preallocation is for growing images only",
                         p->src.filename);
    }
    if (size < (uint64_t)now && !p->shrink) {
        return img_error("%s: shrinking from %" PRIi64 " to %" PRIu64
                         " bytes loses what is behind the new end; say "
                         "--shrink if nothing there is needed",
                         p->src.filename, now, size);
    }
    img_when_stopped("'%s' has its old size", p->src.filename);
    if (size < (uint64_t)now) {
        img_when_stopped_late(IMG_MAY_LEAK);
    }
    ret = blk_truncate(blk, size, p->prealloc, &err);
    if (ret < 0) {
        return img_fail_in(p->src.filename, &err, ret);
    }
    if (!p->quiet) {
        puts("Image resized.");
    }
    return 0;
}

int img_resize(int argc, char **argv)
{
    enum { OPT_PREALLOC = IMG_OPT_FIRST, OPT_SHRINK };
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "preallocation", required_argument, NULL, OPT_PREALLOC },
        { "shrink", no_argument, NULL, OPT_SHRINK },
        { 0 },
    };
    Resize p = { .src.flags = BDRV_O_RDWR };
    const char *size = argc > 1 ? argv[--argc] : NULL;
    GError *err = NULL;
    BlockBackend *blk;
    int c;

    /* The size may start with '-': it is no option. */
    if (size && (!strcmp(size, "--help") || !strcmp(size, "-h"))) {
        argc++;
    }
    while ((c = img_getopt(argc, argv, ":f:hq", options)) != -1) {
        switch (c) {
        case 'f': p.src.format = optarg; break;
        case 'q': p.quiet = true; break;
        case OPT_SHRINK: p.shrink = true; break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        case OPT_PREALLOC:
            if (bdrv_prealloc_parse(optarg, &p.prealloc, &err) < 0) {
                return img_fail(&err, -EINVAL);
            }
            break;
        default:
            return 1;
        }
    }
    if (optind != argc - 1) {
        return img_error("resize: name one image and its new size");
    }
    p.src.filename = argv[optind];
    blk = img_open(&p.src);
    return blk ? img_close(blk, p.src.filename, resize(&p, blk, size)) : 1;
}
