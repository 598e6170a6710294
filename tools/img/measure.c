/* SPDX-License-Identifier: MIT */
/* firn-img measure */
#include "tools/img/common.h"

typedef struct Measure {
    ImgSource src;
    const char *target;
    const char *snapshot;
    const char *size;
    GPtrArray *texts;
    bool json;
} Measure;

static void print(const Measure *p, const BdrvMeasure *m)
{
    JsonObject *o;

    if (!p->json) {
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64
               "\n", m->required, m->fully_allocated);
        if (m->has_bitmaps) {
            printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
        }
        return;
    }
    o = json_object_new();
    if (m->has_bitmaps) {
        json_object_set_int_member(o, "bitmaps", m->bitmaps);
    }
    json_object_set_int_member(o, "required", m->required);
    json_object_set_int_member(o, "fully-allocated", m->fully_allocated);
    img_print_json_object(o);
}

static int measure(const Measure *p, BlockBackend *blk)
{
    BdrvOptions *o = NULL;
    GError *err = NULL;
    BdrvMeasure m;
    int ret;

    if (img_parse_create_options(p->target, p->texts, NULL, &o)) {
        return 1;
    }
    if (p->size) {
        bdrv_options_set(o, "size", p->size);
    } else {
        g_free(bdrv_options_take(o, "size")); /* the image's counts */
    }
    ret = bdrv_measure(img_ctx, p->target, o, blk, &m, &err);
    if (ret < 0) {
        return img_fail(&err, ret);
    }
    print(p, &m);
    return 0;
}

static int run(Measure *p)
{
    BlockBackend *blk;

    if (p->size) {
        return measure(p, NULL);
    }
    if (p->snapshot) {
        p->src.options = img_snapshot_options(p->snapshot);
        if (!p->src.options) {
            return 1;
        }
    }
    blk = img_open(&p->src);
    return blk ? img_close(blk, p->src.filename, measure(p, blk)) : 1;
}

/* Which words go together. */
static int check(const Measure *p)
{
    uint64_t bytes;

    if (img_check_format(p->target)) {
        return 1;
    }
    if (p->size && p->src.filename) {
        return img_error("measure: --size and an image exclude each other");
    }
    if (!p->src.filename &&
        (p->src.format || p->src.image_opts || p->snapshot)) {
        return img_error("measure: --image-opts, -f and -l need an image");
    }
    if (!p->size && !p->src.filename) {
        return img_error("measure: say --size, or name an image");
    }
    return p->size ? img_parse_size(p->size, "--size", &bytes) : 0;
}

int img_measure(int argc, char **argv)
{
    enum { OPT_SIZE = IMG_OPT_FIRST };
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "output", required_argument, NULL, IMG_OPT_OUTPUT },
        { "size", required_argument, NULL, OPT_SIZE },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Measure p = { .target = "raw", .texts = texts };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hf:l:o:O:U", options)) != -1) {
        switch (c) {
        case 'f': p.src.format = optarg; break;
        case 'l': p.snapshot = optarg; break;
        case 'o': g_ptr_array_add(texts, optarg); break;
        case 'O': p.target = optarg; break;
        case 'U': p.src.flags |= BDRV_O_FORCE_SHARE; break;
        case OPT_SIZE: p.size = optarg; break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        case IMG_OPT_OUTPUT: bad |= img_parse_output(optarg, &p.json); break;
        default:
            return 1;
        }
    }
    if (argc - optind > 1) {
        return img_error("measure: name one image at most");
    }
    p.src.filename = optind < argc ? argv[optind] : NULL;
    return bad || check(&p) ? 1 : run(&p);
}
