/* SPDX-License-Identifier: MIT */
/*
 * FirnDisk: open, close, create, and the blocking calls.
 *
 * Each call packs its arguments and runs one coroutine on the context's
 * thread (firn_run). Asynchronous requests are in request.c; the bytes are
 * the block layer's business.
 */
#include "firn_int.h"

#include <errno.h>
#include <string.h>

#include "block/options.h"
#include "block/snapshot.h"
#include "request.h"
#include "util/error.h"

/* ---- Open, close, create ---- */

typedef struct OpenArgs {
    FirnDisk *disk;
    const char *filename;
    BdrvOptions *options;   /* NULL once consumed */
    unsigned flags;
    GError **errp;
} OpenArgs;

static int coroutine_fn open_co(void *opaque)
{
    OpenArgs *a = opaque;

    co_queue_init(&a->disk->idle);
    return blk_co_open(a->filename, g_steal_pointer(&a->options), a->flags,
                       &a->disk->blk, a->errp);
}

static unsigned bdrv_flags(unsigned flags)
{
    return (flags & FIRN_DISK_RDWR ? BDRV_O_RDWR : 0)
           | (flags & FIRN_DISK_NO_BACKING ? BDRV_O_NO_BACKING : 0)
           | (flags & FIRN_DISK_UNMAP ? BDRV_O_UNMAP : 0)
           | (flags & FIRN_DISK_FORCE_SHARE ? BDRV_O_FORCE_SHARE : 0);
}

/* As bdrv_options_parse(); NULL and "" are the empty set. */
static int parse_option_text(const char *text, BdrvOptions **ret_options,
                             GError **errp)
{
    if (text && *text) {
        return bdrv_options_parse(ret_options, text, errp);
    }
    *ret_options = bdrv_options_new();
    return 0;
}

/* Parse @text and take "cache" out of it into @flags. */
static int parse_options(const char *text, unsigned *flags,
                         BdrvOptions **ret_options, GError **errp)
{
    g_autofree char *cache = NULL;
    BdrvOptions *options;
    int ret;

    ret = parse_option_text(text, &options, errp);
    if (ret < 0) {
        return ret;
    }
    cache = bdrv_options_take(options, "cache");
    if (cache && bdrv_parse_cache_mode(cache, flags) < 0) {
        bdrv_options_free(options);
        return set_error(errp, -EINVAL, "cache mode '%s' is none of none, "
                         "directsync, writeback, writethrough, unsafe",
                         cache);
    }
    *ret_options = options;
    return 0;
}

int firn_disk_open(FirnContext *ctx, const char *filename,
                   const char *options, unsigned flags, FirnDisk **ret_disk,
                   GError **errp)
{
    OpenArgs a = {
        .filename = filename,
        .flags = bdrv_flags(flags),
        .errp = errp,
    };
    FirnDisk *disk;
    int ret;

    if (flags & ~(FIRN_DISK_RDWR | FIRN_DISK_NO_BACKING | FIRN_DISK_UNMAP
                  | FIRN_DISK_FORCE_SHARE)) {
        return set_error(errp, -EINVAL, "unknown disk flags 0x%x", flags);
    }
    ret = parse_options(options, &a.flags, &a.options, errp);
    if (ret < 0) {
        return ret;
    }
    disk = g_new0(FirnDisk, 1);
    disk->ctx = ctx;
    disk->writable = flags & FIRN_DISK_RDWR;
    a.disk = disk;
    ret = firn_run(ctx, open_co, &a, errp);
    if (ret < 0) {
        bdrv_options_free(a.options);
        g_free(disk);
        return ret;
    }
    g_atomic_int_inc(&ctx->users);
    *ret_disk = disk;
    return 0;
}

static int coroutine_fn close_co(void *opaque)
{
    FirnDisk *disk = opaque;

    while (g_atomic_int_get(&disk->in_flight) > 0) {
        co_queue_wait(&disk->idle, NULL);
    }
    disk->closed = true;
    return blk_co_close(disk->blk);
}

int firn_disk_close(FirnDisk *disk)
{
    FirnContext *ctx;
    int ret;

    if (!disk) {
        return 0;
    }
    g_assert(g_atomic_int_get(&disk->users) == 0);
    ctx = disk->ctx;
    ret = firn_run(ctx, close_co, disk, NULL);
    if (!disk->closed) {
        return ret;
    }
    g_free(disk);
    g_atomic_int_add(&ctx->users, -1);
    return ret;
}

typedef struct CreateArgs {
    const char *format;
    const char *filename;
    BdrvOptions *options;   /* NULL once consumed */
    GError **errp;
} CreateArgs;

static int coroutine_fn create_co(void *opaque)
{
    CreateArgs *a = opaque;

    return blk_co_create(a->format, a->filename,
                         g_steal_pointer(&a->options), a->errp);
}

int firn_disk_create(FirnContext *ctx, const char *format,
                     const char *filename, const char *options,
                     GError **errp)
{
    CreateArgs a = { .format = format, .filename = filename, .errp = errp };
    int ret;

    ret = parse_option_text(options, &a.options, errp);
    if (ret < 0) {
        return ret;
    }
    ret = firn_run(ctx, create_co, &a, errp);
    bdrv_options_free(a.options);
    return ret;
}

/* ---- Blocking I/O ---- */

typedef struct LengthArgs {
    FirnDisk *disk;
    int64_t length;
} LengthArgs;

static int coroutine_fn length_co(void *opaque)
{
    LengthArgs *a = opaque;

    a->length = blk_co_getlength(a->disk->blk);
    return a->length < 0 ? (int)a->length : 0;
}

int64_t firn_disk_length(FirnDisk *disk)
{
    LengthArgs a = { .disk = disk };
    int ret = firn_run(disk->ctx, length_co, &a, NULL);

    return ret < 0 ? ret : a.length;
}

bool firn_disk_is_writable(FirnDisk *disk)
{
    return disk->writable;
}

/* Do @type now, in the caller's time. @buf is not written to by a write. */
static int blocking_io(FirnDisk *disk, RequestType type, uint64_t offset,
                       void *buf, uint64_t bytes)
{
    struct iovec iov = { .iov_base = buf, .iov_len = bytes };
    RequestArgs a = {
        .disk = disk,
        .type = type,
        .offset = offset,
        .bytes = bytes,
        .iov = &iov,
        .niov = 1,
    };

    if (request_has_buffer(type) && bytes > REQUEST_MAX_BYTES) {
        return -EINVAL;
    }
    return firn_run(disk->ctx, request_args_co, &a, NULL);
}

int firn_disk_pread(FirnDisk *disk, uint64_t offset, void *buf, size_t bytes)
{
    return blocking_io(disk, REQUEST_READ, offset, buf, bytes);
}

int firn_disk_pwrite(FirnDisk *disk, uint64_t offset, const void *buf,
                     size_t bytes)
{
    return blocking_io(disk, REQUEST_WRITE, offset, (void *)buf, bytes);
}

int firn_disk_flush(FirnDisk *disk)
{
    return blocking_io(disk, REQUEST_FLUSH, 0, NULL, 0);
}

int firn_disk_discard(FirnDisk *disk, uint64_t offset, uint64_t bytes)
{
    return blocking_io(disk, REQUEST_DISCARD, offset, NULL, bytes);
}

int firn_disk_write_zeroes(FirnDisk *disk, uint64_t offset, uint64_t bytes)
{
    return blocking_io(disk, REQUEST_ZEROES, offset, NULL, bytes);
}

/* ---- Snapshots ---- */

static void snapshot_info_free(void *opaque)
{
    FirnSnapshotInfo *info = opaque;

    g_free(info->id);
    g_free(info->name);
    g_free(info);
}

GPtrArray *firn_snapshot_infos_new(const GPtrArray *bdrv_infos)
{
    GPtrArray *infos = g_ptr_array_new_with_free_func(snapshot_info_free);

    for (guint i = 0; i < bdrv_infos->len; i++) {
        const BdrvSnapshotInfo *from = g_ptr_array_index(bdrv_infos, i);
        FirnSnapshotInfo *info = g_new(FirnSnapshotInfo, 1);

        *info = (FirnSnapshotInfo) {
            .id = g_strdup(from->id),
            .name = g_strdup(from->name),
            .vm_state_bytes = from->vm_state_size,
            .disk_bytes = from->disk_size,
            .date_sec = from->date_sec,
            .date_nsec = from->date_nsec,
            .vm_clock_ns = from->vm_clock_nsec,
            .icount = from->icount,
        };
        g_ptr_array_add(infos, info);
    }
    return infos;
}

typedef struct ListArgs {
    FirnDisk *disk;
    GPtrArray *infos;
    GError **errp;
} ListArgs;

static int coroutine_fn list_co(void *opaque)
{
    ListArgs *a = opaque;

    return bdrv_co_snapshot_list(blk_bs(a->disk->blk), &a->infos, a->errp);
}

int firn_disk_list_snapshots(FirnDisk *disk, GPtrArray **ret_infos,
                             GError **errp)
{
    ListArgs a = { .disk = disk, .errp = errp };
    int ret = firn_run(disk->ctx, list_co, &a, errp);

    if (ret < 0) {
        return ret;
    }
    *ret_infos = firn_snapshot_infos_new(a.infos);
    g_ptr_array_unref(a.infos);
    return 0;
}
