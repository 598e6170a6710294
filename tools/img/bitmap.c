/* SPDX-License-Identifier: MIT */
/* firn-img bitmap: the actions are done in the order in which they are given. */
#include "tools/img/common.h"

#include "block/dirty-bitmap.h"

enum {
    ACT_ADD = IMG_OPT_FIRST, ACT_REMOVE, ACT_CLEAR, ACT_ENABLE, ACT_DISABLE,
    ACT_MERGE
};

typedef struct Action {
    int kind;
    const char *source;     /* of a merge */
} Action;

typedef struct Bitmap {
    ImgSource src;
    ImgSource from;         /* -b; filename NULL: the image itself */
    const char *name;
    uint64_t granularity;
    GArray *actions;
    BlockBackend *blk;
    BlockBackend *from_blk;
} Bitmap;

static int do_action(const Bitmap *p, const Action *a, GError **errp)
{
    switch (a->kind) {
    case ACT_ADD:
        return blk_bitmap_add(p->blk, p->name, p->granularity,
                              BDRV_BITMAP_PERSISTENT, errp);
    case ACT_REMOVE:
        return blk_bitmap_remove(p->blk, p->name, errp);
    case ACT_CLEAR:
        return blk_bitmap_clear(p->blk, p->name, errp);
    case ACT_ENABLE:
        return blk_bitmap_enable(p->blk, p->name, errp);
    case ACT_DISABLE:
        return blk_bitmap_disable(p->blk, p->name, errp);
    default:
        return blk_bitmap_merge(p->blk, p->name,
                                p->from_blk ? p->from_blk : p->blk,
                                a->source, errp);
    }
}

static int do_actions(const Bitmap *p)
{
    GError *err = NULL;

    for (guint i = 0; i < p->actions->len; i++) {
        int ret = do_action(p, &g_array_index(p->actions, Action, i), &err);

        if (ret < 0) {
            return img_fail_in(p->src.filename, &err, ret);
        }
    }
    return 0;
}

static int run(Bitmap *p)
{
    int status = 1;

    p->blk = img_open(&p->src);
    if (!p->blk) {
        return 1;
    }
    if (p->from.filename) {
        p->from_blk = img_open(&p->from);
    }
    if (!p->from.filename || p->from_blk) {
        status = do_actions(p);
    }
    if (p->from_blk) {
        status = img_close(p->from_blk, p->from.filename, status);
    }
    return img_close(p->blk, p->src.filename, status);
}

static bool has_action(const Bitmap *p, int kind)
{
    for (guint i = 0; i < p->actions->len; i++) {
        if (g_array_index(p->actions, Action, i).kind == kind) {
            return true;
        }
    }
    return false;
}

/* Which words go together. */
static int check(const Bitmap *p)
{
    if (!p->actions->len) {
        return img_error("bitmap: say one of --add, --remove, --clear, "
                         "--enable, --disable and --merge");
    }
    if (p->granularity && !has_action(p, ACT_ADD)) {
        return img_error("bitmap: -g is for --add");
    }
    if (p->from.format && !p->from.filename) {
        return img_error("bitmap: -F needs -b");
    }
    if (p->from.filename && !has_action(p, ACT_MERGE)) {
        return img_error("bitmap: -b is for --merge");
    }
    return 0;
}

int img_bitmap(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "add", no_argument, NULL, ACT_ADD },
        { "remove", no_argument, NULL, ACT_REMOVE },
        { "clear", no_argument, NULL, ACT_CLEAR },
        { "enable", no_argument, NULL, ACT_ENABLE },
        { "disable", no_argument, NULL, ACT_DISABLE },
        { "merge", required_argument, NULL, ACT_MERGE },
        { "source-file", required_argument, NULL, 'b' },
        { "source-format", required_argument, NULL, 'F' },
        { "granularity", required_argument, NULL, 'g' },
        { 0 },
    };
    g_autoptr(GArray) actions = g_array_new(FALSE, FALSE, sizeof(Action));
    Bitmap p = { .src.flags = BDRV_O_RDWR, .actions = actions };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":b:f:F:g:h", options)) != -1) {
        Action a = { c, optarg };

        switch (c) {
        case 'b': p.from.filename = optarg; break;
        case 'f': p.src.format = optarg; break;
        case 'F': p.from.format = optarg; break;
        case 'g': bad |= img_parse_size(optarg, "-g", &p.granularity); break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        case '?':
            return 1;
        default:
            g_array_append_val(actions, a);
        }
    }
    if (optind != argc - 2) {
        return img_error("bitmap: name one image and one bitmap");
    }
    p.src.filename = argv[optind];
    p.name = argv[optind + 1];
    return bad || check(&p) ? 1 : run(&p);
}
