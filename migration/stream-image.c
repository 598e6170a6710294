/* SPDX-License-Identifier: MIT */
/*
 * Streams out of image files: runs the coroutines that tools do not know of
 * on a context of its own, and puts the vmstate pipeline behind the stream
 * walker's source.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/vmstate.h"
#include "migration/stream-image.h"
#include "util/error.h"

struct StreamImage {
    AioContext *ctx;
    BlockBackend *blk;
    BdrvVmstateOptions pipeline;
};

/* One call, carried into the coroutine and back. */
typedef struct ImageCall {
    StreamImage *image;
    const char *tag;
    const StreamWalkOps *ops;
    StreamTap *tap;
    void *opaque;
    uint64_t size;              /* of the stream */
    uint64_t tapped;            /* bytes that went to the tap */
    StreamWalkResult *result;
    GPtrArray *list;
    GError **errp;
} ImageCall;

static int open_flags(const StreamImageOptions *opts, unsigned *ret,
                      GError **errp)
{
    const char *cache = opts->cache ? opts->cache : "writeback";
    unsigned flags = 0;

    if (bdrv_parse_cache_mode(cache, &flags) < 0) {
        return set_error(errp, -EINVAL, "unknown cache mode '%s' (none, "
                         "directsync, writeback, writethrough and unsafe are "
                         "known)", cache);
    }
    flags |= BDRV_O_NO_BACKING;
    if (opts->force_share) {
        flags |= BDRV_O_FORCE_SHARE;
    }
    *ret = flags;
    return 0;
}

int no_coroutine_fn stream_image_open(const char *name,
                                      const StreamImageOptions *opts,
                                      StreamImage **ret, GError **errp)
{
    BdrvOptions *options = NULL;
    StreamImage *image;
    unsigned flags = 0;
    int r;

    r = open_flags(opts, &flags, errp);
    if (r == 0 && opts->image_opts) {
        r = bdrv_options_parse(&options, name, errp);
    }
    if (r < 0) {
        return r;
    }
    image = g_new0(StreamImage, 1);
    image->pipeline.workers = opts->workers;
    image->pipeline.chunk_bytes = opts->chunk_bytes;
    image->ctx = aio_context_new(AIO_BACKEND_AUTO, errp);
    if (!image->ctx) {
        bdrv_options_free(options);
        g_free(image);
        return -ENOSYS;
    }
    r = blk_open(image->ctx, opts->image_opts ? NULL : name, options, flags,
                 &image->blk, errp);
    if (r < 0) {
        stream_image_close(image);
        return r;
    }
    *ret = image;
    return 0;
}

void no_coroutine_fn stream_image_close(StreamImage *image)
{
    if (!image) {
        return;
    }
    blk_close(image->blk);
    aio_context_unref(image->ctx);
    g_free(image);
}

static int coroutine_fn co_list(void *opaque)
{
    ImageCall *call = opaque;

    return bdrv_co_snapshot_list(blk_bs(call->image->blk), &call->list,
                                 call->errp);
}

int no_coroutine_fn stream_image_list(StreamImage *image, GPtrArray **ret,
                                      GError **errp)
{
    ImageCall call = { .image = image, .errp = errp };
    int r = aio_run_blocking(image->ctx, co_list, &call);

    if (r == 0) {
        *ret = call.list;
    }
    return r;
}

static const BdrvSnapshotInfo *find_in(GPtrArray *list, const char *tag)
{
    const BdrvSnapshotInfo *info;
    unsigned i;

    for (i = 0; i < list->len; i++) {
        info = g_ptr_array_index(list, i);
        if (g_strcmp0(info->id, tag) == 0) {
            return info;
        }
    }
    for (i = 0; i < list->len; i++) {
        info = g_ptr_array_index(list, i);
        if (g_strcmp0(info->name, tag) == 0) {
            return info;
        }
    }
    return NULL;
}

static int not_found(GPtrArray *list, const char *tag, GError **errp)
{
    g_autoptr(GString) names = g_string_new(NULL);
    unsigned i;

    for (i = 0; i < list->len && i < 8; i++) {
        const BdrvSnapshotInfo *info = g_ptr_array_index(list, i);

        g_string_append_printf(names, "%s'%s'", i ? ", " : "", info->name);
    }
    if (list->len > 8) {
        g_string_append_printf(names, " and %u more", list->len - 8);
    }
    return set_error(errp, -ENOENT, "no snapshot has the id or name '%s'; %s"
                     "%s", tag, list->len ? "there are " : "the image has "
                     "none", names->str);
}

int no_coroutine_fn stream_image_find(StreamImage *image, const char *tag,
                                      BdrvSnapshotInfo **ret, GError **errp)
{
    g_autoptr(GPtrArray) list = NULL;
    const BdrvSnapshotInfo *info;
    int r = stream_image_list(image, &list, errp);

    if (r < 0) {
        return r;
    }
    info = find_in(list, tag);
    if (!info) {
        return not_found(list, tag, errp);
    }
    if (info->vm_state_size == 0) {
        return set_error(errp, -ENODATA, "snapshot '%s' is of the disk only, "
                         "it holds no machine state", tag);
    }
    *ret = bdrv_snapshot_info_copy(info);
    return 0;
}

/* --- The pipeline as a source --- */

static int coroutine_fn image_peek(void *opaque, uint64_t pos,
                                   const uint8_t **ret, size_t *ret_bytes)
{
    ImageCall *call = opaque;
    const uint8_t *data;
    uint64_t seen;
    size_t bytes;
    int r;

    r = bdrv_co_vmstate_peek(blk_bs(call->image->blk), pos, &data, &bytes);
    if (r < 0) {
        return r;
    }
    if (call->tap && call->tapped >= pos && call->tapped - pos < bytes) {
        seen = call->tapped - pos;
        r = call->tap(call->opaque, data + seen, bytes - seen);
        if (r < 0) {
            return r;
        }
        call->tapped = pos + bytes;
    }
    *ret = data;
    *ret_bytes = bytes;
    return 0;
}

static int coroutine_fn image_read(void *opaque, uint64_t pos, void *buf,
                                   size_t bytes)
{
    ImageCall *call = opaque;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_readv_vmstate(blk_bs(call->image->blk), &qiov, pos);
}

/* Run @body between begin and finalize of a load. */
static int coroutine_fn with_load(ImageCall *call,
                                  int coroutine_fn (*body)(ImageCall *))
{
    BlockDriverState *bs = blk_bs(call->image->blk);
    int ret, end;

    ret = bdrv_co_vmstate_begin_load(bs, call->tag, &call->image->pipeline,
                                     &call->size, call->errp);
    if (ret < 0) {
        return ret;
    }
    ret = body(call);
    end = bdrv_co_finalize_vmstate(bs);
    if (ret == 0 && end < 0) {
        ret = set_error(call->errp, end, "reading the snapshot: %s",
                        g_strerror(-end));
    }
    return ret;
}

static int coroutine_fn walk_body(ImageCall *call)
{
    StreamSource source = {
        .peek = image_peek,
        .read = image_read,
        .opaque = call,
        .size = call->size,
    };

    return stream_walk(&source, call->ops, call->opaque, call->result,
                       call->errp);
}

static int coroutine_fn co_walk(void *opaque)
{
    return with_load(opaque, walk_body);
}

int no_coroutine_fn stream_image_walk(StreamImage *image,
                                      const char *id_or_name,
                                      const StreamWalkOps *ops, StreamTap *tap,
                                      void *opaque, StreamWalkResult *ret,
                                      GError **errp)
{
    ImageCall call = {
        .image = image, .tag = id_or_name, .ops = ops, .tap = tap,
        .opaque = opaque, .result = ret, .errp = errp,
    };

    *ret = (StreamWalkResult){ 0 };
    return aio_run_blocking(image->ctx, co_walk, &call);
}

static int coroutine_fn copy_body(ImageCall *call)
{
    const uint8_t *data;
    size_t bytes;
    uint64_t pos;
    int ret;

    for (pos = 0; pos < call->size; pos += bytes) {
        ret = image_peek(call, pos, &data, &bytes);
        if (ret < 0) {
            return set_error(call->errp, ret, "offset %#" PRIx64 " of the "
                             "stream: %s", pos, g_strerror(-ret));
        }
    }
    return 0;
}

static int coroutine_fn co_copy(void *opaque)
{
    return with_load(opaque, copy_body);
}

int no_coroutine_fn stream_image_copy(StreamImage *image,
                                      const char *id_or_name, StreamTap *tap,
                                      void *opaque, GError **errp)
{
    ImageCall call = {
        .image = image, .tag = id_or_name, .tap = tap, .opaque = opaque,
        .errp = errp,
    };

    return aio_run_blocking(image->ctx, co_copy, &call);
}
