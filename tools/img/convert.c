/* SPDX-License-Identifier: MIT */
/* firn-img convert: which images; the copying is block/convert.c. */
#include "tools/img/common.h"

#include <sys/stat.h>

#include "block/convert.h"
#include "block/dirty-bitmap.h"

typedef struct ConvertCmd {
    ImgSource src;          /* filename: of each in turn */
    ImgSource target;
    const char *backing;
    const char *backing_format;
    const char *snapshot;
    GPtrArray *texts;       /* -o */
    BlkConvertOptions o;
    char **names;           /* of the sources */
    bool no_create;         /* -n */
    bool bitmaps;
    bool progress;
    bool quiet;
    bool help;
} ConvertCmd;

static void unreadable(uint64_t offset, uint64_t bytes, int err, void *opaque)
{
    img_warn("cannot read %" PRIu64 " bytes at offset %" PRIu64 ", zeroes "
             "instead: %s", bytes, offset, g_strerror(-err));
}

/* ---- opening ---- */

static int open_sources(ConvertCmd *p, uint64_t *ret_total)
{
    *ret_total = 0;
    for (unsigned i = 0; i < p->o.nb_sources; i++) {
        ImgSource src = p->src;
        int64_t size;

        src.filename = p->names[i];
        if (p->snapshot) {
            src.options = img_snapshot_options(p->snapshot);
            if (!src.options) {
                return 1;
            }
        }
        p->o.sources[i] = img_open(&src);
        if (!p->o.sources[i]) {
            return 1;
        }
        size = blk_getlength(p->o.sources[i]);
        if (size < 0) {
            return img_error("%s: cannot find its size: %s", p->names[i],
                             g_strerror(-size));
        }
        *ret_total += size;
    }
    return 0;
}

static int backing_length(ConvertCmd *p)
{
    g_autofree char *path = bdrv_combine_filename(p->target.filename,
                                                  p->backing);
    ImgSource src = { .filename = path, .format = p->backing_format };
    BlockBackend *blk = img_open(&src);
    int64_t size;

    if (!blk) {
        return 1;
    }
    size = blk_getlength(blk);
    p->o.backing_bytes = MAX(size, 0);
    return img_close(blk, path, size < 0);
}

static int create_target(const ConvertCmd *p, uint64_t size)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, size);
    BdrvOptions *o = NULL;
    GError *err = NULL;
    int ret;

    if (img_parse_create_options(p->target.format, p->texts, false, &o)) {
        return 1;
    }
    bdrv_options_set_default(o, "size", text);
    if (p->backing) {
        bdrv_options_set(o, "backing_file", p->backing);
    }
    if (p->backing_format) {
        bdrv_options_set(o, "backing_fmt", p->backing_format);
    }
    g_free(bdrv_options_take(o, "nocow"));
    g_free(bdrv_options_take(o, "extent_size_hint"));
    ret = blk_create(img_ctx, p->target.format, p->target.filename, o, &err);
    return ret < 0 ? img_fail(&err, ret) : 0;
}

/* ---- bitmaps ---- */

static int copy_bitmap(const ConvertCmd *p, const BdrvBitmapInfo *b)
{
    BlockBackend *to = p->o.target;
    GError *err = NULL;
    int ret;

    if (b->inconsistent) {
        return img_error("%s: bitmap '%s' is inconsistent; remove it, it has "
                         "no contents", p->names[0], b->name);
    }
    ret = blk_bitmap_add(to, b->name, b->granularity,
                         BDRV_BITMAP_PERSISTENT | BDRV_BITMAP_DISABLED, &err);
    ret = ret < 0 ? ret : blk_bitmap_merge(to, b->name, p->o.sources[0],
                                           b->name, &err);
    if (ret == 0 && b->enabled) {
        ret = blk_bitmap_enable(to, b->name, &err);
    }
    return ret < 0 ? img_fail(&err, ret) : 0;
}

static int copy_bitmaps(const ConvertCmd *p)
{
    g_autoptr(GPtrArray) list = NULL;
    GError *err = NULL;
    int ret = blk_bitmap_list(p->o.sources[0], &list, &err);

    if (ret < 0) {
        return img_fail(&err, ret);
    }
    for (guint i = 0; i < list->len; i++) {
        const BdrvBitmapInfo *b = g_ptr_array_index(list, i);

        if (b->persistent && copy_bitmap(p, b)) {
            return 1;
        }
    }
    return 0;
}

/* ---- running ---- */

static int copy(ConvertCmd *p)
{
    GError *err = NULL;
    int ret;

    img_progress_start(p->progress);
    p->o.progress = img_progress;
    p->o.unreadable = p->quiet ? NULL : unreadable;
    ret = blk_convert(&p->o, &err);
    if (ret < 0) {
        img_fail(&err, ret);
    }
    img_progress_end(ret == 0);
    if (ret == 0 && p->bitmaps) {
        return copy_bitmaps(p);
    }
    return ret < 0;
}

/* A device keeps what was on it, and raw shows that. */
static bool is_zero_when_new(const ImgSource *target)
{
    const char *path = target->filename;
    struct stat st;

    if (g_str_has_prefix(path, "file:")) {
        path += strlen("file:");
    }
    return strcmp(target->format, "raw") ||
           (stat(path, &st) == 0 && S_ISREG(st.st_mode));
}

static int open_target(ConvertCmd *p)
{
    uint64_t total;

    if (open_sources(p, &total) || (p->backing && backing_length(p)) ||
        (!p->no_create && create_target(p, total))) {
        return 1;
    }
    img_when_stopped("'%s' is incomplete", p->target.filename);
    p->o.fresh = !p->no_create;
    if (!p->no_create && !p->backing) {
        p->o.target_is_zero = is_zero_when_new(&p->target);
    }
    p->o.target = img_open(&p->target);
    if (!p->o.target) {
        return 1;
    }
    if (p->o.compressed &&
        strcmp(bdrv_get_format_name(blk_bs(p->o.target)), "qcow2")) {
        return img_error("-c: format %s cannot hold compressed data",
                         bdrv_get_format_name(blk_bs(p->o.target)));
    }
    return 0;
}

static int run(ConvertCmd *p)
{
    int status;

    p->o.sources = g_new0(BlockBackend *, p->o.nb_sources);
    status = open_target(p) || copy(p);
    if (p->o.target) {
        status = img_close(p->o.target, p->target.filename, status);
    }
    for (unsigned i = 0; i < p->o.nb_sources; i++) {
        if (p->o.sources[i]) {
            status = img_close(p->o.sources[i], p->names[i], status);
        }
    }
    g_free(p->o.sources);
    return status;
}

/* ---- the command line ---- */

/* -o backing_file= and backing_fmt= say the same as -B and -F. */
static int take_backing(ConvertCmd *p)
{
    g_autoptr(BdrvOptions) o = NULL;
    const char *file, *fmt;

    if (img_parse_create_options(p->target.format, p->texts, false, &o)) {
        return 1;
    }
    file = bdrv_options_get(o, "backing_file");
    fmt = bdrv_options_get(o, "backing_fmt");
    p->backing = p->backing ? p->backing : g_intern_string(file);
    p->backing_format = p->backing_format ? p->backing_format
                                          : g_intern_string(fmt);
    if (p->o.compressed && bdrv_options_get(o, "preallocation") &&
        strcmp(bdrv_options_get(o, "preallocation"), "off")) {
        return img_error("convert: -c and preallocation exclude each other");
    }
    if (p->backing && !strcmp(p->target.format, "raw")) {
        return img_error("convert: format raw has no backing files");
    }
    if (p->backing && !p->backing_format) {
        return img_error("convert: the format of backing file '%s' is "
                         "missing; say -F", p->backing);
    }
    return 0;
}

/* Which words go together. */
static int check(ConvertCmd *p, bool target_is_zero)
{
    if (p->backing && p->o.nb_sources > 1) {
        return img_error("convert: -B is for one source");
    }
    if (p->snapshot && p->o.nb_sources > 1) {
        return img_error("convert: -l is for one source");
    }
    if (p->bitmaps && p->o.nb_sources > 1) {
        return img_error("convert: --bitmaps is for one source");
    }
    if (target_is_zero && !p->no_create) {
        return img_error("convert: --target-is-zero needs -n");
    }
    if (p->target.image_opts && !p->no_create) {
        return img_error("convert: --target-image-opts needs -n");
    }
    if (target_is_zero && p->backing) {
        return img_error("convert: --target-is-zero and -B exclude each "
                         "other");
    }
    if (p->texts->len && p->no_create) {
        img_warn("convert: with -n nothing is created, -o has no effect");
    }
    p->o.target_is_zero = target_is_zero;
    p->o.top_only = p->backing;
    return 0;
}

enum {
    OPT_TARGET_OPTS = IMG_OPT_FIRST, OPT_SALVAGE, OPT_ZERO, OPT_BITMAPS
};

static int take_number(ConvertCmd *p, int c)
{
    uint64_t n = 0;
    int bad = 0;

    switch (c) {
    case 'S':
        bad = img_parse_size(optarg, "-S", &p->o.sparse_bytes);
        if (!bad && p->o.sparse_bytes % 512) {
            bad = img_error("-S '%s' is not a multiple of 512", optarg);
        }
        break;
    case 'm':
        bad = img_parse_number(optarg, "-m", 1, BLK_CONVERT_MAX_WORKERS, &n);
        p->o.workers = n;
        break;
    case 'r':
        bad = img_parse_size(optarg, "-r", &n);
        break;
    case 't':
        bad = img_cache_mode(optarg, 't', &p->target.flags);
        break;
    case 'T':
        bad = img_cache_mode(optarg, 'T', &p->src.flags);
        break;
    }
    return bad;
}

static int parse(int argc, char **argv, ConvertCmd *p, bool *zero)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "source-image-opts", no_argument, NULL, IMG_OPT_IMAGE_OPTS },
        { "target-image-opts", no_argument, NULL, OPT_TARGET_OPTS },
        { "salvage", no_argument, NULL, OPT_SALVAGE },
        { "target-is-zero", no_argument, NULL, OPT_ZERO },
        { "bitmaps", no_argument, NULL, OPT_BITMAPS },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:",
                           options)) != -1) {
        switch (c) {
        case '?': return 1;
        case 'f': p->src.format = optarg; break;
        case 'O': p->target.format = optarg; break;
        case 'B': p->backing = optarg; break;
        case 'F': p->backing_format = optarg; break;
        case 'C': break; /* the kernel decides how to copy */
        case 'c': p->o.compressed = true; break;
        case 'l': p->snapshot = optarg; break;
        case 'p': p->progress = true; break;
        case 'q': p->quiet = true; break;
        case 'n': p->no_create = true; break;
        case 'W': p->o.any_order = true; break;
        case 'U': p->src.flags |= BDRV_O_FORCE_SHARE; break;
        case IMG_OPT_IMAGE_OPTS: p->src.image_opts = true; break;
        case OPT_TARGET_OPTS: p->target.image_opts = true; break;
        case OPT_SALVAGE: p->o.salvage = true; break;
        case OPT_ZERO: *zero = true; break;
        case OPT_BITMAPS: p->bitmaps = true; break;
        case 'o':
            p->help = p->help || img_wants_help(optarg);
            g_ptr_array_add(p->texts, optarg);
            break;
        default:
            bad |= take_number(p, c);
        }
    }
    return bad;
}

int img_convert(int argc, char **argv)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    ConvertCmd p = {
        .target.flags = BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_NO_FLUSH,
        .texts = texts,
        .o.sparse_bytes = 4096,
    };
    const char *format;
    bool zero = false;

    if (parse(argc, argv, &p, &zero)) {
        return 1;
    }
    format = p.target.format ? p.target.format : "raw";
    if (p.target.image_opts && p.target.format) {
        return img_error("convert: -O and --target-image-opts exclude each "
                         "other");
    }
    if (p.help) {
        return img_print_create_help(format, argc > optind ? argv[argc - 1]
                                                           : NULL);
    }
    if (argc - optind < 2) {
        return img_error("convert: name a source and a target");
    }
    p.names = argv + optind;
    p.o.nb_sources = argc - optind - 1;
    p.target.filename = argv[argc - 1];
    if (!p.target.image_opts) {
        p.target.format = format;
        if (img_check_format(format) || take_backing(&p)) {
            return 1;
        }
    }
    p.progress = p.progress && !p.quiet;
    return check(&p, zero) ? 1 : run(&p);
}
