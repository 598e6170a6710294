/* SPDX-License-Identifier: MIT */
/*
 * preallocate: a filter between a format and its file that makes the file grow
 * in large steps. A write past the end of the file first extends it by
 * prealloc-size bytes more than it needs, to a multiple of prealloc-align;
 * nothing above sees that. Closing, and a change of the length, cut off what
 * was not used; whoever is killed leaves zeroes behind the data.
 *
 * A file that cannot be extended so is written as if the filter were not
 * there.
 */
#include "block/block_int.h"

#define DEFAULT_ALIGN ((uint64_t)1 << 20)
#define DEFAULT_SIZE  ((uint64_t)128 << 20)

typedef struct PreallocState {
    uint64_t align;
    uint64_t size;
    uint64_t data_end;  /* length as those above see it */
    CoMutex lock;       /* held while the file grows */
} PreallocState;

static int coroutine_fn prealloc_co_open(BlockDriverState *bs,
                                         BdrvOptions *options, unsigned flags,
                                         GError **errp)
{
    PreallocState *s = bs->opaque;
    int ret = bdrv_options_take_size(options, "prealloc-align", DEFAULT_ALIGN,
                                     &s->align, errp);

    if (ret == 0) {
        ret = bdrv_options_take_size(options, "prealloc-size", DEFAULT_SIZE,
                                     &s->size, errp);
    }
    if (ret == 0 && (s->align == 0 || !IS_ALIGNED(s->align, 512) ||
                     s->align > BDRV_MAX_LENGTH ||
                     s->size > BDRV_MAX_LENGTH)) {
        ret = set_error(errp, -EINVAL, "option prealloc-align: not a "
                        "multiple of 512, or prealloc-size is too large");
    }
    if (ret == 0) {
        ret = bdrv_filter_co_open(bs, options, NULL, errp);
    }
    if (ret == 0) {
        s->data_end = bs->file->bs->total_bytes;
        co_mutex_init(&s->lock);
    }
    return ret;
}

/* The file as long as what is in it. */
static int coroutine_fn cut_off(BlockDriverState *bs)
{
    PreallocState *s = bs->opaque;

    return bs->read_only || bs->file->bs->total_bytes <= s->data_end ? 0
           : bdrv_co_truncate(bs->file, s->data_end, BDRV_PREALLOC_OFF, NULL);
}

static int coroutine_fn prealloc_co_close(BlockDriverState *bs)
{
    PreallocState *s = bs->opaque;
    int ret = cut_off(bs);

    co_mutex_destroy(&s->lock);
    return ret;
}

static int64_t coroutine_fn prealloc_co_getlength(BlockDriverState *bs)
{
    PreallocState *s = bs->opaque;

    return s->data_end;
}

/* Make room for a write that ends at @end. */
static void coroutine_fn grow_for(BlockDriverState *bs, uint64_t end)
{
    PreallocState *s = bs->opaque;

    co_mutex_lock(&s->lock);
    if (end > bs->file->bs->total_bytes && s->size &&
        end < BDRV_MAX_LENGTH - s->size - s->align) {
        uint64_t to = end + s->size + s->align - 1;

        /* Advice: if it fails, the write grows the file itself. */
        (void)bdrv_co_truncate(bs->file, to - to % s->align,
                               BDRV_PREALLOC_FALLOC, NULL);
    }
    co_mutex_unlock(&s->lock);
}

static void note_end(BlockDriverState *bs, uint64_t end, int ret)
{
    PreallocState *s = bs->opaque;

    if (ret == 0) {
        s->data_end = MAX(s->data_end, end);
    }
}

static int coroutine_fn prealloc_co_pwritev(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            QEMUIOVector *qiov,
                                            unsigned flags)
{
    int ret;

    grow_for(bs, offset + bytes);
    ret = bdrv_filter_co_pwritev(bs, offset, bytes, qiov, flags);
    note_end(bs, offset + bytes, ret);
    return ret;
}

static int coroutine_fn prealloc_co_pwrite_zeroes(BlockDriverState *bs,
                                                  uint64_t offset,
                                                  uint64_t bytes,
                                                  unsigned flags)
{
    int ret;

    grow_for(bs, offset + bytes);
    ret = bdrv_filter_co_pwrite_zeroes(bs, offset, bytes, flags);
    note_end(bs, offset + bytes, ret);
    return ret;
}

static int coroutine_fn prealloc_co_truncate(BlockDriverState *bs,
                                             uint64_t size,
                                             BdrvPrealloc prealloc,
                                             GError **errp)
{
    PreallocState *s = bs->opaque;
    int ret = cut_off(bs);

    if (ret < 0) {
        return set_error(errp, ret, "cannot cut off what was preallocated of "
                         "'%s': %s", bs->filename, g_strerror(-ret));
    }
    ret = bdrv_filter_co_truncate(bs, size, prealloc, errp);
    s->data_end = ret == 0 ? size : s->data_end;
    return ret;
}

BlockDriver bdrv_preallocate = {
    .format_name = "preallocate",
    .protocol_name = "preallocate",
    .instance_size = sizeof(PreallocState),
    .is_filter = true,
    .co_open = prealloc_co_open,
    .co_close = prealloc_co_close,
    .co_getlength = prealloc_co_getlength,
    .co_preadv = bdrv_filter_co_preadv,
    .co_pwritev = prealloc_co_pwritev,
    .co_pwrite_zeroes = prealloc_co_pwrite_zeroes,
    .co_pdiscard = bdrv_filter_co_pdiscard,
    .co_truncate = prealloc_co_truncate,
    .co_block_status = bdrv_filter_co_block_status,
};
