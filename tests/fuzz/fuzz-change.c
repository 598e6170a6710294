/* SPDX-License-Identifier: MIT */
/*
 * One change to a whole image: resize, amend, repair, snapshots, commit in
 * both directions, rebase, copies. Which one, the last four bytes of the input
 * decide; backing and data files are disks in memory, whatever names they have.
 *
 * When a check found nothing wrong before, none does afterwards, and the disk
 * shows what it showed, whether the change succeeded or not.
 */
#include "qcow2-fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/convert.h"
#include "block/snapshot.h"
#include "tests/support/fake_driver.h"
#include "util/be.h"

#define LOOKED_AT  (256 * 1024)     /* of a disk are compared */
#define MAX_COPIED (64 * 1024 * 1024)
#define GROWTH     (512 * 1024)
#define BASE_BYTES 40960
#define PADDING    (1024 * 1024)

#define INCOMPATIBLE_DIRTY     1u
#define INCOMPATIBLE_DATA_FILE 4u

typedef struct Change {
    FakeDisk *disk;
    uint32_t random;
    const char *base;       /* disk of its backing file, if it has one */
    bool has_backing;
    bool has_data_file;
    bool other_content;     /* what is seen is to change, or may */
} Change;

/* What a disk shows, up to where that is compared. */
typedef struct Picture {
    uint64_t length;
    size_t bytes;
    uint8_t *data;          /* NULL: cannot be read */
} Picture;

static void picture_clear(Picture *p)
{
    free(p->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Picture, picture_clear)

static BlockBackend *open_change(const Change *c, unsigned flags)
{
    g_autoptr(GString) o = g_string_new("l2-cache-entry-size=512");

    if (c->has_backing) {
        g_string_append_printf(o, ",backing.driver=raw,backing.file.driver="
                               "fake,backing.file.name=%s", c->base);
    }
    if (c->has_data_file) {
        g_string_append(o, ",data-file.driver=fake,data-file.name=data");
    }
    return fuzz_open_chain(o->str, flags);
}

static BlockBackend *open_other(AioContext *ctx, const char *options,
                                unsigned flags)
{
    BdrvOptions *o = NULL;
    BlockBackend *blk = NULL;

    if (bdrv_options_parse(&o, options, NULL) < 0) {
        abort();
    }
    return blk_open(ctx, NULL, o, flags, &blk, NULL) < 0 ? NULL : blk;
}

/* ---- before and after ---- */

static void take_picture(const Change *c, Picture *ret)
{
    BlockBackend *blk = open_change(c, 0);

    *ret = (Picture) { 0 };
    if (!blk) {
        return;
    }
    ret->length = (uint64_t)MAX(blk_getlength(blk), 0);
    ret->bytes = MIN(ret->length, LOOKED_AT);
    ret->data = blk_try_memalign(LOOKED_AT);
    if (blk_pread(blk, 0, ret->bytes, ret->data) < 0) {
        free(ret->data);
        ret->data = NULL;
    }
    (void)blk_close(blk);
}

static bool check(const Change *c, unsigned fix, BdrvCheckResult *r)
{
    BlockBackend *blk = open_change(c, BDRV_O_CHECK |
                                       (fix ? BDRV_O_RDWR : 0));
    int ret = -1;

    if (blk) {
        ret = blk_check(blk, r, fix, NULL, NULL, NULL);
        (void)blk_close(blk);
    }
    return ret == 0 && !r->check_errors && !r->corruptions;
}

static void G_GNUC_NORETURN complain(const char *change, int ret,
                                     const char *what)
{
    fprintf(stderr, "%s (%s): %s\n", change,
            ret < 0 ? g_strerror(-ret) : "success", what);
    abort();
}

static void compare(const char *change, int ret, const Picture *before,
                    const Picture *after)
{
    size_t both = MIN(before->bytes, after->bytes);

    if (!before->data) {
        return;
    }
    if (!after->data) {
        complain(change, ret, "the disk cannot be read any more");
    }
    if (ret < 0 && before->length != after->length) {
        complain(change, ret, "the disk has another length");
    }
    if (memcmp(before->data, after->data, both) != 0) {
        complain(change, ret, "the disk shows something else");
    }
    for (size_t i = both; i < after->bytes; i++) {
        if (after->data[i]) {
            complain(change, ret, "a longer disk has data behind its end");
        }
    }
}

/* ---- changes ---- */

static int grow(Change *c, BlockBackend *blk)
{
    uint64_t length = (uint64_t)MAX(blk_getlength(blk), 0);

    return blk_truncate(blk, length + c->random % GROWTH,
                        c->random >> 30, NULL);
}

static int shrink(Change *c, BlockBackend *blk)
{
    uint64_t length = (uint64_t)MAX(blk_getlength(blk), 0);

    return blk_truncate(blk, c->random % MAX(length, 1u), BDRV_PREALLOC_OFF,
                        NULL);
}

static int amend(Change *c, BlockBackend *blk)
{
    static const char *const options[] = {
        "compat=0.10", "compat=1.1", "lazy_refcounts=on",
        "lazy_refcounts=off", "refcount_bits=1", "refcount_bits=2",
        "refcount_bits=8", "refcount_bits=16", "refcount_bits=32",
        "refcount_bits=64", "data_file_raw=off", "data_file=other",
        "compat=1.1,refcount_bits=64,lazy_refcounts=on",
        "compat=0.10,refcount_bits=16,lazy_refcounts=off",
    };
    BdrvOptions *o = NULL;

    if (bdrv_options_parse(&o, options[c->random % G_N_ELEMENTS(options)],
                           NULL) < 0) {
        abort();
    }
    return blk_amend(blk, o, c->random >> 31, NULL, NULL, NULL);
}

static int snapshot(Change *c, BlockBackend *blk)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    int ret;

    info->name = g_strdup("fuzz");
    ret = blk_snapshot_create(blk, info, NULL);
    if (ret == 0 && c->random & 1) {
        ret = blk_snapshot_goto(blk, info->id, NULL);
    }
    if (ret == 0 && c->random & 2) {
        ret = blk_snapshot_delete(blk, info->id, NULL, NULL);
    }
    return ret;
}

static int delete_snapshot(Change *c, BlockBackend *blk)
{
    g_autoptr(GPtrArray) list = NULL;
    const BdrvSnapshotInfo *info;

    if (blk_snapshot_list(blk, &list, NULL) < 0 || list->len == 0) {
        return 0;
    }
    info = g_ptr_array_index(list, c->random % list->len);
    return blk_snapshot_delete(blk, info->id, NULL, NULL);
}

static int empty(Change *c, BlockBackend *blk)
{
    c->other_content = true;
    return blk_make_empty(blk, NULL);
}

static int rename_backing(Change *c, BlockBackend *blk)
{
    bool none = c->random & 1;

    c->other_content = none || !c->has_backing;
    return blk_change_backing_file(blk, none ? NULL : "another name of it",
                                   none ? NULL : "raw", NULL);
}

static bool is_small(BlockBackend *blk)
{
    return blk_getlength(blk) <= MAX_COPIED;
}

static int rebase(Change *c, BlockBackend *blk)
{
    BlockBackend *backing = NULL;
    BlkRebaseOptions o = { .compressed = c->random & 2 };
    int ret;

    if (!is_small(blk)) {
        return 0;
    }
    if (c->random & 1) {
        o.backing = backing = open_other(blk_get_aio_context(blk),
            "driver=raw,file.driver=fake,file.name=other", 0);
        o.file = "other";
        o.format = "raw";
    }
    ret = blk_rebase(blk, &o, NULL);
    if (backing) {
        (void)blk_close(backing);
    }
    c->base = ret == 0 ? "other" : "base";
    return ret;
}

static int commit(Change *c, BlockBackend *blk)
{
    const BlkCommitOptions o = { .drop = c->random & 1 };

    return c->has_backing && is_small(blk) ? blk_commit(blk, &o, NULL) : 0;
}

/* From an overlay, which is sound, into this image. */
static int commit_into(Change *c, BlockBackend *blk)
{
    FakeDisk *top = fake_disk_new("top", 0);
    AioContext *ctx = blk_get_aio_context(blk);
    const BlkCommitOptions o = { .drop = c->random & 1 };
    g_autofree char *options = NULL;
    BdrvOptions *create = bdrv_options_new();
    bool small = is_small(blk);
    int ret;

    options = g_strdup_printf("%" G_GINT64_FORMAT, blk_getlength(blk));
    bdrv_options_set(create, "size", options);
    (void)blk_close(blk);
    top->sync = true;
    ret = blk_create(ctx, "qcow2", "fake:top", create, NULL);
    g_free(options);
    options = g_strconcat("driver=qcow2,file.driver=fake,file.name=top,"
        "backing.driver=qcow2,backing.file.driver=fake,"
        "backing.file.name=fuzz",
        c->has_data_file ? ",backing.data-file.driver=fake,"
                           "backing.data-file.name=data" : "",
        c->has_backing ? ",backing.backing.driver=raw,"
                         "backing.backing.file.driver=fake,"
                         "backing.backing.file.name=base" : "", NULL);
    blk = ret == 0 && small ? open_other(ctx, options, BDRV_O_RDWR |
                                         BDRV_O_BACKING_RDWR) : NULL;
    if (blk) {
        fuzz_write_some(blk);
        c->other_content = true;
        ret = blk_commit(blk, &o, NULL);
        (void)blk_close(blk);
    }
    fake_disk_free(top);
    return ret;
}

/* To a new image, which then has to show the same. */
static int copy_from(Change *c, BlockBackend *blk)
{
    FakeDisk *target = fake_disk_new("target", 0);
    AioContext *ctx = blk_get_aio_context(blk);
    BlkConvertOptions o = {
        .sources = &blk, .nb_sources = 1, .sparse_bytes = 4096,
        .compressed = (c->random & 3) == 1, .offload = (c->random & 3) == 2,
        .any_order = c->random & 4, .target_is_zero = true,
        .salvage = c->random & 8,
    };
    g_autofree char *size = NULL;
    BdrvOptions *create = bdrv_options_new();
    int ret;

    size = g_strdup_printf("%" G_GINT64_FORMAT, blk_getlength(blk));
    target->sync = target->zeroes = target->copies = true;
    bdrv_options_set(create, "size", size);
    ret = blk_create(ctx, "qcow2", "fake:target", create, NULL);
    o.target = ret == 0 && is_small(blk) ? open_other(ctx,
        "driver=qcow2,file.driver=fake,file.name=target", BDRV_O_RDWR) : NULL;
    if (o.target) {
        ret = blk_convert(&o, NULL);
        (void)blk_close(o.target);
    }
    fake_disk_free(target);
    return ret;
}

/* Something else into this image, as convert -n does. */
static int copy_into(Change *c, BlockBackend *blk)
{
    BlockBackend *src = open_other(blk_get_aio_context(blk),
        "driver=raw,file.driver=fake,file.name=other", 0);
    const BlkConvertOptions o = {
        .sources = &src, .nb_sources = 1, .target = blk,
        .sparse_bytes = 4096, .compressed = (c->random & 3) == 1,
        .offload = (c->random & 3) == 2, .any_order = c->random & 4,
    };
    int ret = blk_convert(&o, NULL);

    c->other_content = true;
    (void)blk_close(src);
    return ret;
}

static int measure(Change *c, BlockBackend *blk)
{
    BdrvMeasure m;

    return is_small(blk)
           ? bdrv_measure(blk_get_aio_context(blk),
                          c->random & 1 ? "qcow2" : "raw", NULL, blk, &m, NULL)
           : 0;
}

static int write_some(Change *c, BlockBackend *blk)
{
    c->other_content = true;
    fuzz_write_some(blk);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(Change *c, BlockBackend *blk);
    unsigned flags;
    bool closes;            /* @blk, itself */
} changes[] = {
    { "grow", grow, BDRV_O_RDWR, false },
    { "shrink", shrink, BDRV_O_RDWR | BDRV_O_UNMAP, false },
    { "amend", amend, BDRV_O_RDWR, false },
    { "snapshot", snapshot, BDRV_O_RDWR, false },
    { "delete snapshot", delete_snapshot, BDRV_O_RDWR | BDRV_O_UNMAP, false },
    { "empty", empty, BDRV_O_RDWR, false },
    { "rename backing", rename_backing, BDRV_O_RDWR, false },
    { "rebase", rebase, BDRV_O_RDWR, false },
    { "commit", commit, BDRV_O_RDWR | BDRV_O_BACKING_RDWR, false },
    { "commit into", commit_into, BDRV_O_RDWR, true },
    { "copy from", copy_from, 0, false },
    { "copy into", copy_into, BDRV_O_RDWR, false },
    { "measure", measure, 0, false },
    { "write", write_some, BDRV_O_RDWR | BDRV_O_DETECT_ZEROES, false },
};

/* ---- all of it ---- */

/* Repair; then nothing is left for a second repair. */
static void repair(Change *c)
{
    BdrvCheckResult first, second;

    if (check(c, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &first) && !first.leaks &&
        (!check(c, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &second) ||
         second.corruptions_fixed || second.leaks_fixed || second.leaks)) {
        complain("repair", 0, "a second one finds something");
    }
}

static void look_at_header(Change *c)
{
    uint8_t h[80] = { 0 };

    fake_disk_peek(c->disk, 0, h, MIN(sizeof(h), c->disk->size));
    c->has_backing = be64_get(h + 8) != 0;
    if (be32_get(h + 4) >= 3) {
        c->has_data_file = be64_get(h + 72) & INCOMPATIBLE_DATA_FILE;
        if (c->random >> 28 == 7) {
            h[79] |= INCOMPATIBLE_DIRTY;
            fake_disk_poke(c->disk, 79, h + 79, 1);
        }
    }
}

/* A check does not look behind the end of the file. Where counters of clusters
 * there are wrong, a longer file would show leaks that are none of ours. */
static uint64_t pad(const Change *c)
{
    static const uint8_t zero;

    if (c->random >> 27 & 1) {
        fake_disk_poke(c->disk, c->disk->size + PADDING - 1, &zero, 1);
        return c->disk->size;
    }
    return 0;
}

static void change(Change *c, unsigned i)
{
    g_auto(Picture) before = { 0 }, after = { 0 };
    BdrvCheckResult r;
    uint64_t looked_at = pad(c);
    bool was_sound = check(c, 0, &r);
    uint64_t leaks = r.leaks;
    BlockBackend *blk;
    int ret;

    if (was_sound) {
        take_picture(c, &before);
    }
    blk = open_change(c, changes[i].flags);
    if (!blk) {
        return;
    }
    ret = changes[i].run(c, blk);
    if (!changes[i].closes && blk_close(blk) < 0 && was_sound) {
        complain(changes[i].name, ret, "cannot be closed");
    }
    if (!was_sound) {
        return;
    }
    look_at_header(c); /* it may have lost its backing file */
    if (!check(c, 0, &r)) {
        complain(changes[i].name, ret, "a check finds damage");
    }
    if (ret == 0 && r.leaks > leaks && c->disk->size <= looked_at) {
        complain(changes[i].name, ret, "a check finds leaks");
    }
    if (!c->other_content) {
        take_picture(c, &after);
        compare(changes[i].name, ret, &before, &after);
    }
}

static FakeDisk *side_disk(const char *name, uint64_t bytes, uint8_t first)
{
    FakeDisk *d = fake_disk_new(name, bytes);
    g_autofree uint8_t *data = g_malloc(bytes);

    for (uint64_t i = 0; i < bytes; i++) {
        data[i] = i / 4096 % 2 ? 0 : (uint8_t)(first + i / 512);
    }
    fake_disk_poke(d, 0, data, bytes);
    d->sync = d->zeroes = d->copies = true;
    return d;
}

void fuzz_image(void)
{
    FakeDisk *sides[] = {
        side_disk("base", BASE_BYTES, 1), side_disk("other", 20480, 33),
        side_disk("data", 65536, 65),
    };
    Change c = { .disk = fake_disk_find("fuzz"), .base = "base" };
    uint8_t tail[4];
    unsigned i;

    if (c.disk->size > sizeof(tail)) {
        fake_disk_peek(c.disk, c.disk->size - sizeof(tail), tail,
                       sizeof(tail));
        i = tail[0] % (G_N_ELEMENTS(changes) + 1);
        c.random = be32_get(tail) * 2654435761u;
        c.disk->copies = true;
        look_at_header(&c);
        if (i < G_N_ELEMENTS(changes)) {
            change(&c, i);
        } else {
            repair(&c);
        }
    }
    for (i = 0; i < G_N_ELEMENTS(sides); i++) {
        fake_disk_free(sides[i]);
    }
}
