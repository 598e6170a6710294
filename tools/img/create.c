/* SPDX-License-Identifier: MIT */
/* firn-img create */
#include "tools/img/common.h"
#include "tools/one-line.h"

typedef struct Create {
    const char *format;
    const char *backing;
    const char *backing_format;
    bool unchecked;         /* -u: do not look at the backing file */
    bool quiet;
    bool help;
    GPtrArray *texts;       /* of -o */
} Create;

static int parse(int argc, char **argv, Create *p)
{
    static const struct option options[] = { IMG_COMMON_OPTIONS, { 0 } };
    int c;

    while ((c = img_getopt(argc, argv, ":hF:b:f:o:qu", options)) != -1) {
        switch (c) {
        case 'F': p->backing_format = optarg; break;
        case 'b': p->backing = optarg; break;
        case 'f': p->format = optarg; break;
        case 'u': p->unchecked = true; break;
        case 'q': p->quiet = true; break;
        case 'o':
            p->help = p->help || img_wants_help(optarg);
            g_ptr_array_add(p->texts, optarg);
            break;
        case IMG_OPT_IMAGE_OPTS:
            return img_error("create: --image-opts is for images that exist; "
                             "name a file");
        default:
            return 1;
        }
    }
    return img_check_format(p->format);
}

/* -b and -F are options in other words, which count more. */
static void add_word(BdrvOptions *o, const char *key, const char *value)
{
    if (value) {
        bdrv_options_set(o, key, value);
    }
}

static int check_backing(const Create *p, const char *filename,
                         const BdrvOptions *o, const char *path)
{
    const char *format = bdrv_options_get(o, "backing_fmt");

    if (!*bdrv_options_get(o, "backing_file")) {
        return img_error("%s: the name of the backing file is empty",
                         filename);
    }
    if (!strcmp(p->format, "raw")) {
        return img_error("%s: format raw has no backing files", filename);
    }
    if (!format) {
        return img_error("%s: the format of backing file '%s' is missing; "
                         "say -F qcow2 or -F raw", filename,
                         bdrv_options_get(o, "backing_file"));
    }
    return img_check_format(format);
}

/* The backing file must open; its size is that of the image without one. It
 * may be in use: nothing is read, and an overlay of a disk that is written to
 * is what comes before a switch to it. */
static int use_backing(const Create *p, const char *filename, BdrvOptions *o)
{
    const char *backing = bdrv_options_get(o, "backing_file");
    const char *data_file = bdrv_options_get(o, "data_file");
    g_autofree char *path = NULL;
    ImgSource src = { .format = bdrv_options_get(o, "backing_fmt"),
                      .flags = BDRV_O_NO_IO | BDRV_O_FORCE_SHARE };
    bool need_size = !bdrv_options_get(o, "size");
    BlockBackend *blk;
    int64_t size;

    if (!backing) {
        return 0;
    }
    path = bdrv_combine_filename(filename, backing);
    src.filename = path;
    if (check_backing(p, filename, o, path)) {
        return 1;
    }
    if (p->unchecked) {
        return img_check_overwrite(filename, data_file, &src, NULL);
    }
    blk = img_open(&src);
    if (!blk) {
        return 1;
    }
    if (img_check_overwrite(filename, data_file, &src, blk)) {
        return img_close(blk, path, 1);
    }
    size = blk_getlength(blk);
    if (need_size && size >= 0) {
        g_autofree char *text = g_strdup_printf("%" PRId64, size);

        bdrv_options_set(o, "size", text);
    }
    return img_close(blk, path, size < 0);
}

static int set_size(const char *filename, const char *size, BdrvOptions *o)
{
    g_autofree char *text = NULL;
    uint64_t bytes;

    if (!size) {
        return 0;
    }
    if (bdrv_options_get(o, "size")) {
        return img_error("%s: the size is given twice, behind the name and "
                         "by -o size", filename);
    }
    if (img_parse_size(size, "size", &bytes)) {
        return 1;
    }
    text = g_strdup_printf("%" PRIu64, bytes);
    bdrv_options_set(o, "size", text);
    return 0;
}

static int create(const Create *p, const char *filename, BdrvOptions *o)
{
    g_autofree char *text = NULL, *seen = NULL;

    if (!bdrv_options_get(o, "size")) {
        bdrv_options_free(o);
        return img_error("%s: the size is missing", filename);
    }
    if (!p->quiet) {
        g_autofree char *all = img_describe_create(p->format, o);

        text = g_strdup_printf("Formatting '%s', fmt=%s%s", filename,
                               p->format, all);
        seen = one_line_if_seen(text);
        puts(seen);
        fflush(stdout);
    }
    img_when_stopped("'%s' was not created", filename);
    return img_create_image(p->format, filename, o);
}

static int run(const Create *p, const char *filename, const char *size)
{
    BdrvOptions *o = NULL;

    if (img_parse_create_options(p->format, p->texts, NULL, &o)) {
        return 1;
    }
    add_word(o, "backing_file", p->backing);
    add_word(o, "backing_fmt", p->backing_format);
    if (set_size(filename, size, o) || use_backing(p, filename, o)) {
        bdrv_options_free(o);
        return 1;
    }
    return create(p, filename, o);
}

int img_create(int argc, char **argv)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Create p = { .format = "raw", .texts = texts };
    int words;

    if (parse(argc, argv, &p)) {
        return 1;
    }
    words = argc - optind;
    if (p.help) {
        return img_print_create_help(p.format, words ? argv[optind] : NULL);
    }
    if (words < 1) {
        return img_error("create: the file name is missing");
    }
    if (words > 2) {
        return img_error("create: '%s' is one word too many",
                         argv[optind + 2]);
    }
    return run(&p, argv[optind], words > 1 ? argv[optind + 1] : NULL);
}
