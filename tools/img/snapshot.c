/* SPDX-License-Identifier: MIT */
/* firn-img snapshot, and the table of snapshots. */
#include "tools/img/common.h"
#include "tools/one-line.h"

BdrvOptions *img_snapshot_options(const char *text)
{
    BdrvOptions *o = NULL;
    GError *err = NULL;
    int ret;

    if (!g_str_has_prefix(text, "snapshot.")) {
        o = bdrv_options_new();
        bdrv_options_set(o, "snapshot", text);
        return o;
    }
    ret = bdrv_options_parse(&o, text, &err);
    if (ret < 0) {
        img_fail(&err, ret);
        return NULL;
    }
    return o;
}

void img_print_snapshots(const GPtrArray *list)
{
    if (!list->len) {
        return;
    }
    printf("Snapshot list:\n%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG",
           "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (guint i = 0; i < list->len; i++) {
        const BdrvSnapshotInfo *s = g_ptr_array_index(list, i);
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(
            s->date_sec);
        g_autofree char *when = date ? g_date_time_format(
            date, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
        g_autofree char *id = one_line_if_seen(s->id);
        g_autofree char *name = one_line_if_seen(s->name);
        g_autofree char *size = img_size_text(s->vm_state_size);
        g_autofree char *icount = s->icount == BDRV_SNAPSHOT_ICOUNT_NONE
            ? g_strdup("") : g_strdup_printf("%" PRIu64, s->icount);
        uint64_t ms = s->vm_clock_nsec / 1000000, sec = ms / 1000;
        g_autofree char *clock = g_strdup_printf(
            "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64,
            sec / 3600, sec / 60 % 60, sec % 60, ms % 1000);

        printf("%-9s %-16s %8s%20s%13s%11s\n", id, name, size, when, clock,
               icount);
    }
}

static int list(BlockBackend *blk, GError **errp)
{
    g_autoptr(GPtrArray) snapshots = NULL;
    int ret = blk_snapshot_list(blk, &snapshots, errp);

    /* A format without any has none to show. */
    if (ret == -ENOTSUP) {
        g_clear_error(errp);
        return 0;
    }
    if (ret == 0) {
        img_print_snapshots(snapshots);
    }
    return ret;
}

static int create(BlockBackend *blk, const char *name, GError **errp)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    int64_t now = g_get_real_time();

    info->name = g_strdup(name);
    info->date_sec = now / G_USEC_PER_SEC;
    info->date_nsec = now % G_USEC_PER_SEC * 1000;
    info->icount = 0;
    return blk_snapshot_create(blk, info, errp);
}

/* By name; where no snapshot has it, by id. */
static int delete(BlockBackend *blk, const char *name, GError **errp)
{
    int ret = blk_snapshot_delete(blk, NULL, name, errp);

    if (ret == -ENOENT) {
        g_clear_error(errp);
        ret = blk_snapshot_delete(blk, name, NULL, errp);
    }
    return ret;
}

static int run(int action, const char *name, const ImgSource *src)
{
    BlockBackend *blk = img_open(src);
    GError *err = NULL;
    int ret;

    if (!blk) {
        return 1;
    }
    img_when_stopped("'%s' is as before", src->filename);
    switch (action) {
    case 'a':
        img_when_stopped_late(IMG_MAY_LEAK);
        ret = blk_snapshot_goto(blk, name, &err);
        break;
    case 'c':
        ret = create(blk, name, &err);
        break;
    case 'd':
        img_when_stopped_late(IMG_MAY_LEAK);
        ret = delete(blk, name, &err);
        break;
    case 'l':
        ret = list(blk, &err);
        break;
    default:
        ret = 0;    /* opening it was all that was asked for */
    }
    if (ret < 0) {
        img_fail_in(src->filename, &err, ret);
    }
    return img_close(blk, src->filename, ret < 0);
}

int img_snapshot(int argc, char **argv)
{
    static const struct option options[] = {
        IMG_COMMON_OPTIONS,
        { "force-share", no_argument, NULL, 'U' },
        { 0 },
    };
    ImgSource src = { 0 };
    const char *name = NULL;
    bool share = false;
    int c, action = 0;

    while ((c = img_getopt(argc, argv, ":la:c:d:hqUf:", options)) != -1) {
        switch (c) {
        case 'l': case 'a': case 'c': case 'd':
            if (action) {
                return img_error("snapshot: -l, -a, -c and -d exclude each "
                                 "other");
            }
            action = c;
            name = optarg;
            break;
        case 'q':
            break;
        case 'U': share = true; break;
        case 'f': src.format = optarg; break;
        case IMG_OPT_IMAGE_OPTS: src.image_opts = true; break;
        default:
            return 1;
        }
    }
    if (optind != argc - 1) {
        return img_error("snapshot: name one image");
    }
    src.filename = argv[optind];
    src.flags = (action && action != 'l' ? BDRV_O_RDWR | BDRV_O_UNMAP : 0) |
                (share ? BDRV_O_FORCE_SHARE : 0);
    return run(action, name, &src);
}
