/* SPDX-License-Identifier: MIT */
/*
 * The block layer for test scripts. Reads commands from stdin, one a line, and
 * answers each with lines of its own and then "ok", or "error: ERRNO TEXT".
 * Words are separated by blanks; quote as in a shell. "-" as an option string
 * means none. The exit status is 0 when every command was ok.
 *
 *   secret ID OPTIONS               for encrypt.key-secret=ID
 *   create FORMAT FILE OPTIONS
 *   measure FORMAT OPTIONS          of the open image if there is one
 *   open FILE OPTIONS [FLAG...]     ro unmap nobacking commit nocache check
 *   close
 *   write OFFSET BYTES PATTERN      PATTERN: a byte, repeated
 *   writec OFFSET BYTES PATTERN     compressed
 *   load OFFSET FILE [compressed]   what is in the file
 *   read OFFSET BYTES PATTERN       fails when a byte differs
 *   zero OFFSET BYTES [unmap]
 *   discard OFFSET BYTES
 *   flush | length | status | sum   sum: SHA-256 of the whole disk
 *   dump FILE                       the whole disk as raw bytes
 *   check [leaks|all]               numbers as qemu-img check --output=json
 *   resize SIZE [PREALLOCATION]
 *   amend OPTIONS [force]
 *   backing NAME|- FORMAT|-
 *   empty
 *   commit [keep]
 *   snapshot create|apply|delete NAME
 *   bitmap add NAME GRANULARITY [disabled]
 *   bitmap remove|clear|enable|disable|dump NAME    dump: OFFSET BYTES lines
 *   bitmap set|reset NAME OFFSET BYTES
 *   bitmap merge NAME SOURCE [FILE]                 of another image
 *   bitmap list                                     NAME GRANULARITY FLAG...
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "block/dirty-bitmap.h"
#include "block/secret.h"
#include "block/snapshot.h"
#include "util/units.h"

static AioContext *ctx;
static BlockBackend *blk;
static GError *error;

typedef int Command(char **arg, unsigned n);

static BdrvOptions *options(const char *text)
{
    BdrvOptions *o = NULL;

    if (!text || !strcmp(text, "-")) {
        return bdrv_options_new();
    }
    return bdrv_options_parse(&o, text, &error) < 0 ? NULL : o;
}

/* Argument @i as a size, 0 when it is none. */
static uint64_t number(char **arg, unsigned i)
{
    uint64_t v = 0;

    (void)parse_size(arg[i], &v);
    return v;
}

static int cmd_secret(char **arg, unsigned n)
{
    BdrvOptions *o = options(arg[1]);

    return o ? secret_add(arg[0], o, &error) : -EINVAL;
}

static int cmd_create(char **arg, unsigned n)
{
    BdrvOptions *o = options(arg[2]);

    return o ? blk_create(ctx, arg[0], arg[1], o, &error) : -EINVAL;
}

static int cmd_measure(char **arg, unsigned n)
{
    BdrvOptions *o = options(arg[1]);
    BdrvMeasure m;
    int ret = -EINVAL;

    if (o) {
        ret = bdrv_measure(ctx, arg[0], o, blk, &m, &error);
    }
    if (ret == 0) {
        printf("required %" G_GUINT64_FORMAT "\n"
               "fully-allocated %" G_GUINT64_FORMAT "\n", m.required,
               m.fully_allocated);
        if (m.has_bitmaps) {
            printf("bitmaps %" G_GUINT64_FORMAT "\n", m.bitmaps);
        }
    }
    return ret;
}

static int cmd_open(char **arg, unsigned n)
{
    BdrvOptions *o = options(n > 1 ? arg[1] : NULL);
    unsigned flags = BDRV_O_RDWR;

    if (blk || !o) {
        return -EINVAL;
    }
    for (unsigned i = 2; i < n; i++) {
        if (!strcmp(arg[i], "ro")) {
            flags &= ~BDRV_O_RDWR;
        } else if (!strcmp(arg[i], "unmap")) {
            flags |= BDRV_O_UNMAP;
        } else if (!strcmp(arg[i], "nobacking")) {
            flags |= BDRV_O_NO_BACKING;
        } else if (!strcmp(arg[i], "commit")) {
            flags |= BDRV_O_BACKING_RDWR;
        } else if (!strcmp(arg[i], "nocache")) {
            flags |= BDRV_O_NOCACHE;
        } else if (!strcmp(arg[i], "check")) {
            flags |= BDRV_O_CHECK;
        } else {
            return -EINVAL;
        }
    }
    return blk_open(ctx, arg[0], o, flags, &blk, &error);
}

static int cmd_close(char **arg, unsigned n)
{
    int ret = blk_close(blk);

    blk = NULL;
    return ret;
}

static int write_pattern(char **arg, unsigned flags)
{
    uint64_t bytes = number(arg, 1);
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    memset(buf, (int)number(arg, 2), bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    return blk_pwritev(blk, number(arg, 0), bytes, &qiov, flags);
}

static int cmd_write(char **arg, unsigned n)
{
    return write_pattern(arg, 0);
}

static int cmd_writec(char **arg, unsigned n)
{
    return write_pattern(arg, BDRV_REQ_WRITE_COMPRESSED);
}

static int cmd_load(char **arg, unsigned n)
{
    g_autofree char *bytes = NULL;
    QEMUIOVector qiov;
    gsize len;

    if (!g_file_get_contents(arg[1], &bytes, &len, &error)) {
        return -EIO;
    }
    qemu_iovec_init_buf(&qiov, bytes, len);
    return blk_pwritev(blk, number(arg, 0), len, &qiov,
                       n > 2 ? BDRV_REQ_WRITE_COMPRESSED : 0);
}

static int cmd_read(char **arg, unsigned n)
{
    uint64_t bytes = number(arg, 1);
    uint8_t want = number(arg, 2);
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = blk_pread(blk, number(arg, 0), bytes, buf);

    for (uint64_t i = 0; i < bytes && ret == 0; i++) {
        if (buf[i] != want) {
            printf("byte %" G_GUINT64_FORMAT " is %02x\n",
                   number(arg, 0) + i, buf[i]);
            return -EIO;
        }
    }
    return ret;
}

static int cmd_zero(char **arg, unsigned n)
{
    return blk_pwrite_zeroes(blk, number(arg, 0), number(arg, 1),
                             n > 2 ? BDRV_REQ_MAY_UNMAP : 0);
}

static int cmd_discard(char **arg, unsigned n)
{
    return blk_pdiscard(blk, number(arg, 0), number(arg, 1));
}

static int cmd_flush(char **arg, unsigned n)
{
    return blk_flush(blk);
}

static int cmd_length(char **arg, unsigned n)
{
    printf("%" G_GINT64_FORMAT "\n", blk_getlength(blk));
    return 0;
}

static int cmd_status(char **arg, unsigned n)
{
    uint64_t end = blk_getlength(blk), bytes;

    for (uint64_t at = 0; at < end; at += bytes) {
        int ret = blk_block_status(blk, at, end - at, &bytes, NULL);

        if (ret < 0) {
            return ret;
        }
        printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "%s%s%s\n", at,
               bytes, ret & BDRV_BLOCK_DATA ? " data" : "",
               ret & BDRV_BLOCK_ZERO ? " zero" : "",
               ret & BDRV_BLOCK_ALLOCATED ? " allocated" : "");
    }
    return 0;
}

/* Give the whole disk to @fn, piece by piece. */
static int read_all(void (*fn)(const uint8_t *buf, size_t bytes, void *opaque),
                    void *opaque)
{
    uint64_t end = blk_getlength(blk);
    static uint8_t buf[1 << 20];
    int ret = 0;

    for (uint64_t at = 0; at < end && ret == 0; at += sizeof(buf)) {
        uint64_t bytes = MIN(end - at, sizeof(buf));

        ret = blk_pread(blk, at, bytes, buf);
        if (ret == 0) {
            fn(buf, bytes, opaque);
        }
    }
    return ret;
}

static void add_to_sum(const uint8_t *buf, size_t bytes, void *opaque)
{
    g_checksum_update(opaque, buf, bytes);
}

static int cmd_sum(char **arg, unsigned n)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    int ret = read_all(add_to_sum, sum);

    if (ret == 0) {
        printf("%s\n", g_checksum_get_string(sum));
    }
    return ret;
}

static void add_to_file(const uint8_t *buf, size_t bytes, void *opaque)
{
    fwrite(buf, 1, bytes, opaque); /* an error shows in fclose() */
}

static int cmd_dump(char **arg, unsigned n)
{
    FILE *out = fopen(arg[0], "w");
    int ret;

    if (!out) {
        return -errno;
    }
    ret = read_all(add_to_file, out);
    if (ferror(out) | fclose(out)) {
        ret = -EIO;
    }
    return ret;
}

static int cmd_check(char **arg, unsigned n)
{
    unsigned fix = n == 0 ? 0 : !strcmp(arg[0], "leaks") ? BDRV_FIX_LEAKS
                   : BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
    BdrvCheckResult r;
    int ret = blk_check(blk, &r, fix, NULL, NULL, &error);

    if (ret < 0) {
        return ret;
    }
    printf("corruptions %" G_GUINT64_FORMAT "\n"
           "leaks %" G_GUINT64_FORMAT "\n"
           "check-errors %" G_GUINT64_FORMAT "\n"
           "total-clusters %" G_GUINT64_FORMAT "\n"
           "allocated-clusters %" G_GUINT64_FORMAT "\n"
           "fragmented-clusters %" G_GUINT64_FORMAT "\n"
           "compressed-clusters %" G_GUINT64_FORMAT "\n",
           r.corruptions, r.leaks, r.check_errors, r.total_clusters,
           r.allocated_clusters, r.fragmented_clusters,
           r.compressed_clusters);
    return 0;
}

static int cmd_resize(char **arg, unsigned n)
{
    BdrvPrealloc mode;
    int ret = bdrv_prealloc_parse(n > 1 ? arg[1] : NULL, &mode, &error);

    return ret < 0 ? ret : blk_truncate(blk, number(arg, 0), mode, &error);
}

static int cmd_amend(char **arg, unsigned n)
{
    BdrvOptions *o = options(arg[0]);

    return o ? blk_amend(blk, o, n > 1, NULL, NULL, &error) : -EINVAL;
}

static int cmd_backing(char **arg, unsigned n)
{
    return blk_change_backing_file(blk, strcmp(arg[0], "-") ? arg[0] : NULL,
                                   strcmp(arg[1], "-") ? arg[1] : NULL,
                                   &error);
}

static int cmd_empty(char **arg, unsigned n)
{
    return blk_make_empty(blk, &error);
}

static int cmd_commit(char **arg, unsigned n)
{
    const BlkCommitOptions o = { .drop = n == 0 };

    return blk_commit(blk, &o, &error);
}

static int coroutine_fn snapshot_entry(void *opaque)
{
    char **arg = opaque;
    BlockDriverState *bs = blk_bs(blk);

    if (!strcmp(arg[0], "create")) {
        g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();

        info->name = g_strdup(arg[1]);
        info->date_sec = 1700000000;
        return bdrv_co_snapshot_create(bs, info, &error);
    }
    if (!strcmp(arg[0], "apply")) {
        return bdrv_co_snapshot_goto(bs, arg[1], &error);
    }
    return bdrv_co_snapshot_delete(bs, NULL, arg[1], &error);
}

static int cmd_snapshot(char **arg, unsigned n)
{
    return aio_run_blocking(ctx, snapshot_entry, arg);
}

static int list_bitmaps(void)
{
    g_autoptr(GPtrArray) list = NULL;
    int ret = blk_bitmap_list(blk, &list, &error);

    for (guint i = 0; ret == 0 && i < list->len; i++) {
        const BdrvBitmapInfo *info = g_ptr_array_index(list, i);

        printf("%s %" G_GUINT64_FORMAT "%s%s\n", info->name,
               info->granularity, info->enabled ? " auto" : "",
               info->inconsistent ? " in-use" : "");
    }
    return ret;
}

static int dump_bitmap(const char *name)
{
    uint64_t offset = 0, bytes;
    int ret;

    for (;; offset += bytes) {
        ret = blk_bitmap_next_dirty(blk, name, offset, &offset, &bytes,
                                    &error);
        if (ret < 0 || !bytes) {
            return ret;
        }
        printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", offset,
               bytes);
    }
}

/* arg: NAME SOURCE [FILE] */
static int merge_bitmap(char **arg, unsigned n)
{
    BlockBackend *src = NULL;
    int ret = 0;

    if (n > 2) {
        ret = blk_open(ctx, arg[2], bdrv_options_new(), 0, &src, &error);
    }
    if (ret == 0) {
        ret = blk_bitmap_merge(blk, arg[0], src ? src : blk, arg[1], &error);
    }
    (void)blk_close(src);
    return ret;
}

static int cmd_bitmap(char **arg, unsigned n)
{
    static const struct {
        const char *verb;
        int (*fn)(BlockBackend *b, const char *name, GError **errp);
    } simple[] = {
        { "remove", blk_bitmap_remove }, { "clear", blk_bitmap_clear },
        { "enable", blk_bitmap_enable }, { "disable", blk_bitmap_disable },
    };

    if (!strcmp(arg[0], "list")) {
        return list_bitmaps();
    }
    for (size_t i = 0; n == 2 && i < G_N_ELEMENTS(simple); i++) {
        if (!strcmp(arg[0], simple[i].verb)) {
            return simple[i].fn(blk, arg[1], &error);
        }
    }
    if (n == 2 && !strcmp(arg[0], "dump")) {
        return dump_bitmap(arg[1]);
    }
    if (n > 2 && !strcmp(arg[0], "add")) {
        return blk_bitmap_add(blk, arg[1], number(arg, 2),
                              BDRV_BITMAP_PERSISTENT |
                              (n > 3 ? BDRV_BITMAP_DISABLED : 0), &error);
    }
    if (n > 2 && !strcmp(arg[0], "merge")) {
        return merge_bitmap(arg + 1, n - 1);
    }
    if (n == 4 && !strcmp(arg[0], "set")) {
        return blk_bitmap_set(blk, arg[1], number(arg, 2), number(arg, 3),
                              &error);
    }
    if (n == 4 && !strcmp(arg[0], "reset")) {
        return blk_bitmap_reset(blk, arg[1], number(arg, 2), number(arg, 3),
                                &error);
    }
    return -EINVAL;
}

static const struct {
    const char *name;
    unsigned args;      /* at least */
    bool image;         /* one must be open */
    Command *fn;
} commands[] = {
    { "secret", 2, false, cmd_secret },
    { "create", 3, false, cmd_create },
    { "measure", 2, false, cmd_measure },
    { "open", 1, false, cmd_open },
    { "close", 0, true, cmd_close },
    { "write", 3, true, cmd_write },
    { "writec", 3, true, cmd_writec },
    { "load", 2, true, cmd_load },
    { "read", 3, true, cmd_read },
    { "zero", 2, true, cmd_zero },
    { "discard", 2, true, cmd_discard },
    { "flush", 0, true, cmd_flush },
    { "length", 0, true, cmd_length },
    { "status", 0, true, cmd_status },
    { "sum", 0, true, cmd_sum },
    { "dump", 1, true, cmd_dump },
    { "check", 0, true, cmd_check },
    { "resize", 1, true, cmd_resize },
    { "amend", 1, true, cmd_amend },
    { "backing", 2, true, cmd_backing },
    { "empty", 0, true, cmd_empty },
    { "commit", 0, true, cmd_commit },
    { "snapshot", 2, true, cmd_snapshot },
    { "bitmap", 1, true, cmd_bitmap },
};

static int run_line(const char *line)
{
    g_auto(GStrv) words = NULL;
    int nb;

    if (!g_shell_parse_argv(line, &nb, &words, &error)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(words[0], commands[i].name) &&
            (unsigned)nb > commands[i].args && (blk || !commands[i].image)) {
            return commands[i].fn(words + 1, nb - 1);
        }
    }
    return -EINVAL;
}

int main(void)
{
    char line[8192];
    int status = 0, ret;

    ctx = aio_context_new(AIO_BACKEND_AUTO, &error);
    if (!ctx) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    aio_set_current(ctx);
    while (fgets(line, sizeof(line), stdin)) {
        g_strstrip(line);
        if (!*line || *line == '#') {
            continue;
        }
        ret = run_line(line);
        if (ret < 0) {
            printf("error: %s %s\n", g_strerror(-ret),
                   error ? error->message : "");
            status = 1;
        } else {
            printf("ok\n");
        }
        g_clear_error(&error);
        fflush(stdout);
    }
    if (blk && blk_close(blk) < 0) {
        status = 1;
    }
    aio_set_current(NULL);
    aio_context_unref(ctx);
    return status;
}
