/* SPDX-License-Identifier: MIT */
/* firn-img map */
#include "tools/img/common.h"
#include "tools/one-line.h"

typedef struct Map {
    BlockBackend *blk;
    bool json;
    bool first;         /* nothing was printed yet */
} Map;

typedef struct Run {
    uint64_t start;
    BlkExtent e;
} Run;

/* Alignment for people who read columns. */
static void print_hex(uint64_t value)
{
    g_autofree char *text = value ? g_strdup_printf("0x%" PRIx64, value)
                                  : g_strdup("0");

    printf("%-16s", text);
}

static int print_human(const Run *r)
{
    g_autofree char *name = NULL;

    if (!(r->e.flags & BDRV_BLOCK_DATA) || (r->e.flags & BDRV_BLOCK_ZERO)) {
        return 0;
    }
    if (!(r->e.flags & BDRV_BLOCK_OFFSET_VALID)) {
        return img_error("map: there are compressed or encrypted clusters at "
                         "offset %" PRIu64 ", which the table cannot show; "
                         "use --output=json", r->start);
    }
    print_hex(r->start);
    print_hex(r->e.bytes);
    print_hex(r->e.map);
    name = one_line_if_seen(r->e.filename);
    puts(name);
    return 0;
}

static const char *word(bool on)
{
    return on ? "true" : "false";
}

static int print_json(Map *m, const Run *r)
{
    unsigned f = r->e.flags;

    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
           ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
           m->first ? "" : ",\n", r->start, r->e.bytes, r->e.depth,
           word(f & BDRV_BLOCK_ALLOCATED), word(f & BDRV_BLOCK_ZERO),
           word(f & BDRV_BLOCK_DATA));
    if (f & BDRV_BLOCK_OFFSET_VALID) {
        printf(", \"offset\": %" PRIu64, r->e.map);
    }
    putchar('}');
    m->first = false;
    return 0;
}

static int print_run(Map *m, const Run *r)
{
    return m->json ? print_json(m, r) : print_human(r);
}

/* Does @next go on where @r ends, with nothing different? */
static bool continues(const Run *r, const BlkExtent *next)
{
    return r->e.bytes && r->e.flags == next->flags &&
           r->e.depth == next->depth && r->e.filename == next->filename &&
           (!(next->flags & BDRV_BLOCK_OFFSET_VALID) ||
            r->e.map + r->e.bytes == next->map);
}

static int next_extent(Map *m, uint64_t offset, uint64_t bytes, BlkExtent *ret)
{
    int err = aio_check_stop();

    err = err < 0 ? err : blk_extent(m->blk, offset, bytes, UINT_MAX, ret);
    if (err < 0) {
        return img_error("%s: cannot tell what is at offset %" PRIu64 ": %s",
                         bdrv_get_filename(blk_bs(m->blk)), offset,
                         g_strerror(-err));
    }
    return 0;
}

static int map(Map *m, uint64_t start, uint64_t end)
{
    Run r = { .start = start };
    BlkExtent e;

    for (uint64_t at = start; at < end; at += e.bytes) {
        if (next_extent(m, at, end - at, &e)) {
            return 1;
        }
        if (continues(&r, &e)) {
            r.e.bytes += e.bytes;
            continue;
        }
        if (r.e.bytes && print_run(m, &r)) {
            return 1;
        }
        r = (Run) { at, e };
    }
    return r.e.bytes || m->json ? print_run(m, &r) : 0;
}

static int run(const ImgSource *src, bool json, uint64_t start, uint64_t max)
{
    Map m = { .json = json, .first = true };
    int64_t size;
    int status;

    m.blk = img_open(src);
    if (!m.blk) {
        return 1;
    }
    size = blk_getlength(m.blk);
    if (size < 0) {
        return img_close(m.blk, src->filename, img_error(
            "%s: cannot find its size: %s", src->filename,
            g_strerror(-size)));
    }
    if (json) {
        putchar('[');
    } else {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to",
               "File");
    }
    status = map(&m, start, start + MIN(max, (uint64_t)size -
                                             MIN(start, (uint64_t)size)));
    if (json && status == 0) {
        puts("]");
    }
    return img_close(m.blk, src->filename, status);
}

int img_map(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, IMG_OPT_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },
        { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' },
        { 0 },
    };
    ImgSource src = { 0 };
    uint64_t start = 0, max = UINT64_MAX;
    bool json = false;
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":f:s:l:hU", options)) != -1) {
        switch (c) {
        case 'f': src.format = optarg; break;
        case 'U': src.flags |= BDRV_O_FORCE_SHARE; break;
        case 's': bad |= img_parse_size(optarg, "start", &start); break;
        case 'l': bad |= img_parse_size(optarg, "length", &max); break;
        case IMG_OPT_IMAGE_OPTS: src.image_opts = true; break;
        case IMG_OPT_OUTPUT: bad |= img_parse_output(optarg, &json); break;
        default:
            return 1;
        }
    }
    if (bad) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("map: name one image");
    }
    src.filename = argv[optind];
    return run(&src, json, start, max);
}
