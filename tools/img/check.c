/* SPDX-License-Identifier: MIT */
/* firn-img check */
#include "tools/img/common.h"
#include "tools/one-line.h"

enum { CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_NOTHING = 63 };

typedef struct Check {
    ImgSource src;
    unsigned fix;
    bool quiet;
    bool json;
} Check;

static void report(const char *text, void *opaque)
{
    g_autofree char *line = one_line(text);

    fprintf(stderr, "%s\n", line);
}

static void print_human(const BdrvCheckResult *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        puts("No errors were found on the image.");
    }
    if (r->corruptions) {
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may "
               "corrupt it.\n", r->corruptions);
    }
    if (r->leaks) {
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    }
    if (r->check_errors) {
        printf("\n%" PRIu64 " internal errors have occurred during the "
               "check.\n", r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters) {
        double allocated = r->allocated_clusters;

        printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% "
               "fragmented, %0.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               allocated * 100 / r->total_clusters,
               r->fragmented_clusters * 100 / allocated,
               r->compressed_clusters * 100 / allocated);
    }
    if (r->image_end_offset) {
        printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
    }
}

static void add(JsonObject *o, const char *name, uint64_t value)
{
    if (value) {
        json_object_set_int_member(o, name, value);
    }
}

static void print_json(const BdrvCheckResult *r, const char *filename,
                       const char *format)
{
    JsonObject *o = json_object_new();

    add(o, "image-end-offset", r->image_end_offset);
    add(o, "compressed-clusters", r->compressed_clusters);
    add(o, "total-clusters", r->total_clusters);
    add(o, "corruptions", r->corruptions);
    add(o, "corruptions-fixed", r->corruptions_fixed);
    json_object_set_int_member(o, "check-errors", r->check_errors);
    add(o, "leaks", r->leaks);
    add(o, "leaks-fixed", r->leaks_fixed);
    add(o, "allocated-clusters", r->allocated_clusters);
    json_object_set_string_member(o, "filename", filename);
    json_object_set_string_member(o, "format", format);
    add(o, "fragmented-clusters", r->fragmented_clusters);
    img_print_json_object(o);
}

/* A repair is followed by a second look. */
static int check(const Check *p, BlockBackend *blk, BdrvCheckResult *r,
                 GError **errp)
{
    uint64_t corruptions, leaks;
    int ret = blk_check(blk, r, p->fix, report, NULL, errp);

    if (ret < 0 || (!r->corruptions_fixed && !r->leaks_fixed)) {
        return ret;
    }
    corruptions = r->corruptions_fixed;
    leaks = r->leaks_fixed;
    if (!p->json && !p->quiet) {
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRIu64 " leaked clusters\n"
               "    %" PRIu64 " corruptions\n\n"
               "Double checking the fixed image now...\n", leaks,
               corruptions);
        fflush(stdout);
    }
    ret = blk_check(blk, r, 0, report, NULL, errp);
    r->corruptions_fixed = corruptions;
    r->leaks_fixed = leaks;
    return ret;
}

static int run(const Check *p)
{
    BlockBackend *blk = img_open(&p->src);
    BdrvCheckResult r = { 0 };
    GError *err = NULL;
    int ret, status = 0;

    if (!blk) {
        return 1;
    }
    if (p->fix) {
        img_when_stopped("what was repaired of '%s' so far stays",
                         p->src.filename);
    }
    ret = check(p, blk, &r, &err);
    if (ret < 0) {
        img_fail(&err, ret);
        status = ret == -ENOTSUP ? CHECK_NOTHING : 1;
    } else if (p->quiet) {
        ;
    } else if (p->json) {
        print_json(&r, p->src.filename,
                   bdrv_get_format_name(blk_bs(blk)));
    } else {
        print_human(&r);
    }
    if (status == 0) {
        status = r.check_errors ? 1 : r.corruptions ? CHECK_CORRUPT :
                 r.leaks ? CHECK_LEAKS : 0;
    }
    return img_close(blk, p->src.filename, status);
}

static int parse_repair(const char *text, unsigned *fix)
{
    if (!strcmp(text, "leaks")) {
        *fix = BDRV_FIX_LEAKS;
    } else if (!strcmp(text, "all")) {
        *fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
    } else {
        return img_refuse("-r", text, NEAREST_LIST("leaks", "all"));
    }
    return 0;
}

int img_check(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "format", required_argument, NULL, 'f' },
        { "repair", required_argument, NULL, 'r' },
        { "output", required_argument, NULL, IMG_OPT_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    Check p = { .src.flags = BDRV_O_CHECK };
    int c, bad = 0;

    while ((c = img_getopt(argc, argv, ":hf:r:T:qU", options)) != -1) {
        switch (c) {
        case 'f': p.src.format = optarg; break;
        case 'r': bad |= parse_repair(optarg, &p.fix); break;
        case 'T': bad |= img_cache_mode(optarg, 'T', &p.src.flags); break;
        case 'q': p.quiet = true; break;
        case 'U': p.src.flags |= BDRV_O_FORCE_SHARE; break;
        case IMG_OPT_IMAGE_OPTS: p.src.image_opts = true; break;
        case IMG_OPT_OUTPUT: bad |= img_parse_output(optarg, &p.json); break;
        default:
            return 1;
        }
    }
    if (bad) {
        return 1;
    }
    if (optind != argc - 1) {
        return img_error("check: name one image");
    }
    p.src.filename = argv[optind];
    p.src.flags |= p.fix ? BDRV_O_RDWR : 0;
    return run(&p);
}
