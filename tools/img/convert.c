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
    const char *data_file;  /* that is created too, or NULL */
    const char *snapshot;
    GPtrArray *texts;       /* -o */
    BlkConvertOptions o;
    char **names;           /* of the sources */
    bool no_create;         /* -n */
    bool preallocated;      /* the new target */
    bool bitmaps;
    bool skip_broken;       /* bitmaps that are */
    bool sparse_given;      /* -S */
    bool progress;
    bool quiet;
    bool help;
    GArray *unread;         /* Range, of --salvage */
} ConvertCmd;

/* ---- what could not be read ---- */

typedef struct Range {
    uint64_t offset;
    uint64_t bytes;
    int err;
} Range;

enum { MAX_RANGES = 65536 };

static int by_offset(const void *a, const void *b)
{
    const Range *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Neighbours as one. */
static void tell_unread(ConvertCmd *p)
{
    g_array_sort(p->unread, by_offset);
    for (guint i = 0; i < p->unread->len && !p->quiet; i++) {
        Range r = g_array_index(p->unread, Range, i);

        while (i + 1 < p->unread->len) {
            const Range *next = &g_array_index(p->unread, Range, i + 1);

            if (next->offset != r.offset + r.bytes || next->err != r.err) {
                break;
            }
            r.bytes += next->bytes;
            i++;
        }
        img_warn("%s: cannot read %" PRIu64 " bytes at offset %" PRIu64
                 ", zeroes instead: %s", p->names[0], r.bytes, r.offset,
                 g_strerror(-r.err));
    }
    g_array_set_size(p->unread, 0);
}

static void unreadable(uint64_t offset, uint64_t bytes, int err, void *opaque)
{
    ConvertCmd *p = opaque;
    Range r = { offset, bytes, err };

    g_array_append_val(p->unread, r);
    if (p->unread->len == MAX_RANGES) {
        tell_unread(p);
    }
}

/* ---- opening ---- */

static int open_sources(ConvertCmd *p, uint64_t *ret_total)
{
    for (unsigned i = 0; i < p->o.nb_sources; i++) {
        ImgSource src = p->src;

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
    }
    *ret_total = blk_convert_bytes(p->o.sources, p->o.nb_sources);
    return *ret_total > BDRV_MAX_LENGTH
           ? img_error("%s: the sources have more than 2^63 bytes together, "
                       "which no image can have", p->target.filename) : 0;
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
    if (img_check_overwrite(p->target.filename, p->data_file, &src, blk)) {
        return img_close(blk, path, 1);
    }
    size = blk_getlength(blk);
    p->o.backing_bytes = MAX(size, 0);
    return img_close(blk, path, size < 0);
}

/* To open what is encrypted takes the key it was made with. */
static void keep_key(ConvertCmd *p, const BdrvOptions *o)
{
    const char *key = bdrv_options_get(o, "encrypt.key-secret");

    if (key) {
        p->target.options = bdrv_options_new();
        bdrv_options_set(p->target.options, "encrypt.key-secret", key);
    }
}

static int create_target(ConvertCmd *p, uint64_t size)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, size);
    BdrvOptions *o = NULL;

    if (img_parse_create_options(p->target.format, p->texts, NULL, &o)) {
        return 1;
    }
    bdrv_options_set(o, "size", text); /* whatever -o size= says */
    if (p->backing) {
        bdrv_options_set(o, "backing_file", p->backing);
    }
    if (p->backing_format) {
        bdrv_options_set(o, "backing_fmt", p->backing_format);
    }
    keep_key(p, o);
    return img_create_image(p->target.format, p->target.filename, o);
}

/* ---- bitmaps ---- */

static int copy_bitmap(const ConvertCmd *p, const BdrvBitmapInfo *b)
{
    BlockBackend *to = p->o.target;
    GError *err = NULL;
    int ret;

    if (b->inconsistent) {
        img_warn("%s: bitmap '%s' is inconsistent and is left out",
                 p->names[0], b->name);
        return 0;
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

/* Both sides must be of a format that has any: asked before a file is made. */
static int check_bitmaps(const ConvertCmd *p)
{
    const char *source = bdrv_get_format_name(blk_bs(p->o.sources[0]));
    const char *target = p->target.image_opts ? "qcow2" : p->target.format;
    g_autoptr(GPtrArray) list = NULL;
    GError *err = NULL;
    int ret;

    if (strcmp(source, "qcow2") || strcmp(target, "qcow2")) {
        return img_error("--bitmaps: format %s has none",
                         strcmp(source, "qcow2") ? source : target);
    }
    ret = blk_bitmap_list(p->o.sources[0], &list, &err);
    if (ret < 0) {
        return img_fail(&err, ret);
    }
    for (guint i = 0; i < list->len; i++) {
        const BdrvBitmapInfo *b = g_ptr_array_index(list, i);

        if (b->inconsistent && !p->skip_broken) {
            return img_error("%s: bitmap '%s' is inconsistent; remove it, it "
                             "has no contents, or say --skip-broken-bitmaps",
                             p->names[0], b->name);
        }
    }
    return 0;
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
    p->o.unreadable = unreadable;
    p->o.opaque = p;
    ret = blk_convert(&p->o, &err);
    tell_unread(p);
    if (ret < 0) {
        img_fail(&err, ret);
    }
    img_progress_end(ret == 0);
    if (ret == 0 && p->bitmaps) {
        return copy_bitmaps(p);
    }
    return ret < 0;
}

/* A device keeps what was on it, and raw shows that, as clusters do that were
 * allocated ahead of time. */
static bool is_zero_when_new(const ConvertCmd *p)
{
    const char *path = p->target.filename;
    struct stat st;

    if (g_str_has_prefix(path, "file:")) {
        path += strlen("file:");
    }
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        return true;
    }
    return strcmp(p->target.format, "raw") && !p->preallocated;
}

static int check_compression(const ConvertCmd *p, const char *format,
                             bool encrypted)
{
    if (p->o.compressed && strcmp(format, "qcow2")) {
        return img_error("-c: format %s cannot hold compressed data", format);
    }
    return p->o.compressed && encrypted
           ? img_error("-c: compressed data cannot be encrypted; leave out -c")
           : 0;
}

static int check_target(const ConvertCmd *p)
{
    g_autoptr(BlkImageInfo) info = NULL;
    GError *err = NULL;
    int ret = blk_image_info(p->o.target, &info, &err);

    return ret < 0 ? img_fail(&err, ret)
                   : check_compression(p, bdrv_get_format_name(
                         blk_bs(p->o.target)), info->encrypted);
}

static int open_target(ConvertCmd *p)
{
    uint64_t total;

    if (open_sources(p, &total) || (p->bitmaps && check_bitmaps(p)) ||
        (p->backing && backing_length(p)) ||
        (!p->no_create && (img_check_sources(p->target.filename, p->data_file,
                                             p->o.sources, p->o.nb_sources) ||
                           create_target(p, total)))) {
        return 1;
    }
    img_when_stopped("'%s' is incomplete", p->target.filename);
    p->o.fresh = !p->no_create;
    if (!p->no_create && !p->backing) {
        p->o.target_is_zero = is_zero_when_new(p);
    }
    p->o.target = img_open(&p->target);
    if (!p->o.target) {
        return 1;
    }
    return p->o.compressed ? check_target(p) : 0;
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
    const char *file, *fmt, *prealloc;

    if (img_parse_create_options(p->target.format, p->texts, NULL, &o)) {
        return 1;
    }
    file = bdrv_options_get(o, "backing_file");
    fmt = bdrv_options_get(o, "backing_fmt");
    p->backing = p->backing ? p->backing : g_intern_string(file);
    p->backing_format = p->backing_format ? p->backing_format
                                          : g_intern_string(fmt);
    p->data_file = g_intern_string(bdrv_options_get(o, "data_file"));
    prealloc = bdrv_options_get(o, "preallocation");
    p->preallocated = prealloc && strcmp(prealloc, "off");
    if (p->o.compressed && p->preallocated) {
        return img_error("convert: -c and preallocation exclude each other");
    }
    if (!p->no_create &&
        check_compression(p, p->target.format,
                          bdrv_options_get(o, "encrypt.format"))) {
        return 1;
    }
    if (p->backing && !strcmp(p->target.format, "raw")) {
        return img_error("convert: format raw has no backing files");
    }
    if (p->backing && !p->backing_format && !p->no_create) {
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
    if (!p->no_create && !g_strcmp0(p->target.format, "raw") &&
        (p->o.compressed || p->bitmaps)) {
        return img_error("convert: format raw cannot hold %s; say -O qcow2",
                         p->bitmaps ? "bitmaps" : "compressed data");
    }
    if (target_is_zero && !p->no_create) {
        return img_error("convert: --target-is-zero needs -n");
    }
    if (p->target.image_opts && !p->no_create) {
        return img_error("convert: --target-image-opts needs -n");
    }
    if (p->o.offload && (p->o.compressed || p->sparse_given ||
                         p->o.salvage)) {
        return img_error("convert: -C copies without looking at the data, "
                         "which -c, -S and --salvage need");
    }
    if (p->skip_broken && !p->bitmaps) {
        return img_error("convert: --skip-broken-bitmaps is for --bitmaps");
    }
    if (target_is_zero && p->backing) {
        return img_error("convert: --target-is-zero and -B exclude each "
                         "other");
    }
    if (p->texts->len && p->no_create) {
        return img_error("convert: with -n nothing is created, -o has no "
                         "effect");
    }
    p->o.target_is_zero = target_is_zero;
    p->o.top_only = p->backing;
    return 0;
}

enum {
    OPT_TARGET_OPTS = IMG_OPT_FIRST, OPT_SALVAGE, OPT_ZERO, OPT_BITMAPS,
    OPT_SKIP_BROKEN
};

#define MAX_SPARSE ((uint64_t)16 * 1024 * 1024)

static int take_number(ConvertCmd *p, int c)
{
    uint64_t n = 0;
    int bad = 0;

    switch (c) {
    case 'S':
        bad = img_parse_size(optarg, "-S", &p->o.sparse_bytes);
        p->sparse_given = true;
        if (!bad && (p->o.sparse_bytes % 512 ||
                     p->o.sparse_bytes > MAX_SPARSE)) {
            bad = img_error("-S '%s' is not a multiple of 512 up to 16M",
                            optarg);
        }
        break;
    case 'm':
        bad = img_parse_number(optarg, "-m", 1, BLK_CONVERT_MAX_WORKERS, &n);
        p->o.workers = n;
        break;
    case 'r':
        bad = img_parse_size(optarg, "-r", &p->o.bytes_per_second);
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
        { "target-image-opts", no_argument, NULL, OPT_TARGET_OPTS },
        { "salvage", no_argument, NULL, OPT_SALVAGE },
        { "target-is-zero", no_argument, NULL, OPT_ZERO },
        { "bitmaps", no_argument, NULL, OPT_BITMAPS },
        { "skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN },
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
        case 'C': p->o.offload = true; break;
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
        case OPT_SKIP_BROKEN: p->skip_broken = true; break;
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
    g_autoptr(GArray) unread = g_array_new(false, false, sizeof(Range));
    ConvertCmd p = {
        .target.flags = BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_NO_FLUSH,
        .texts = texts,
        .unread = unread,
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
