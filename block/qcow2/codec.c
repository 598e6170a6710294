/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters as bytes: one cluster to a stream and back. No state, no
 * coroutines; any thread may call.
 *
 * Streams come from an image and are hostile. A decoder gets as much room as a
 * cluster has and fills it or fails; it keeps no window of its own, so what a
 * stream claims about its size costs nothing.
 *
 * Deflate goes through ISA-L where the build has it, else through zlib. Other
 * readers have a window of 4 KiB, so writers look back no further; readers
 * here take the full 32 KiB.
 */
#include "qcow2_int.h"

#ifdef CONFIG_ISAL
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif
#ifdef CONFIG_ZSTD
#include <zstd.h>
#endif

#define WRITE_WINDOW_BITS 12

/* ---- deflate ---- */

#ifdef CONFIG_ISAL

#define ISAL_LEVEL 3

static int inflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                           size_t out_len)
{
    struct inflate_state *z = g_try_new(struct inflate_state, 1);
    size_t left;

    if (!z) {
        return -ENOMEM;
    }
    isal_inflate_init(z);
    z->next_in = (uint8_t *)in; /* only read */
    z->avail_in = in_len;
    z->next_out = out;
    z->avail_out = out_len;
    /* What it returns does not matter: full is full, even where the stream
     * goes on. */
    (void)isal_inflate_stateless(z);
    left = z->avail_out;
    g_free(z);
    return left ? -EIO : 0;
}

static ssize_t deflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                               size_t out_len)
{
    struct isal_zstream *z = g_try_new(struct isal_zstream, 1);
    uint8_t *level_buf = g_try_malloc(ISAL_DEF_LVL3_DEFAULT);
    ssize_t ret = -ENOMEM;

    if (z && level_buf) {
        isal_deflate_stateless_init(z);
        z->hist_bits = WRITE_WINDOW_BITS;
        z->level = ISAL_LEVEL;
        z->level_buf = level_buf;
        z->level_buf_size = ISAL_DEF_LVL3_DEFAULT;
        z->end_of_stream = 1;
        z->next_in = (uint8_t *)in;
        z->avail_in = in_len;
        z->next_out = out;
        z->avail_out = out_len;
        ret = isal_deflate_stateless(z) == COMP_OK && !z->avail_in
              ? (ssize_t)z->total_out : -ENOSPC;
    }
    g_free(level_buf);
    g_free(z);
    return ret;
}

#else

static int inflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                           size_t out_len)
{
    z_stream z = { 0 };
    size_t left;

    if (inflateInit2(&z, -15) != Z_OK) {
        return -ENOMEM;
    }
    z.next_in = (uint8_t *)in; /* only read */
    z.avail_in = in_len;
    z.next_out = out;
    z.avail_out = out_len;
    /* What it returns does not matter: full is full, even where the stream
     * goes on. */
    (void)inflate(&z, Z_FINISH);
    left = z.avail_out;
    inflateEnd(&z);
    return left ? -EIO : 0;
}

static ssize_t deflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                               size_t out_len)
{
    z_stream z = { 0 };
    ssize_t ret;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                     -WRITE_WINDOW_BITS, MAX_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    z.next_in = (uint8_t *)in;
    z.avail_in = in_len;
    z.next_out = out;
    z.avail_out = out_len;
    ret = deflate(&z, Z_FINISH) == Z_STREAM_END ? (ssize_t)z.total_out
                                                : -ENOSPC;
    deflateEnd(&z);
    return ret;
}

#endif

/* ---- zstd ---- */

#ifdef CONFIG_ZSTD

/* Frame by frame, each straight into what is left of the cluster: a frame's
 * own idea of its window is never allocated. */
static int unzstd_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                          size_t out_len)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    size_t done = 0;
    int ret = ctx ? 0 : -ENOMEM;

    while (ret == 0 && done < out_len) {
        size_t frame = ZSTD_findFrameCompressedSize(in, in_len);
        size_t n;

        if (ZSTD_isError(frame) || !frame) {
            ret = -EIO;
            break;
        }
        n = ZSTD_decompressDCtx(ctx, out + done, out_len - done, in, frame);
        if (ZSTD_isError(n)) {
            ret = -EIO;
            break;
        }
        done += n;
        in += frame;
        in_len -= frame;
    }
    ZSTD_freeDCtx(ctx);
    return ret;
}

static ssize_t zstd_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                            size_t out_len)
{
    size_t n = ZSTD_compress(out, out_len, in, in_len, ZSTD_CLEVEL_DEFAULT);

    return ZSTD_isError(n) ? -ENOSPC : (ssize_t)n;
}

#else

static int unzstd_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                          size_t out_len)
{
    return -ENOTSUP;
}

static ssize_t zstd_cluster(const uint8_t *in, size_t in_len, uint8_t *out,
                            size_t out_len)
{
    return -ENOTSUP;
}

#endif

/* ---- both ---- */

bool qcow2_codec_has(Qcow2Codec codec)
{
#ifdef CONFIG_ZSTD
    return codec == QCOW2_CODEC_DEFLATE || codec == QCOW2_CODEC_ZSTD;
#else
    return codec == QCOW2_CODEC_DEFLATE;
#endif
}

int qcow2_codec_decode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                       uint8_t *out, size_t out_len)
{
    return codec == QCOW2_CODEC_ZSTD
           ? unzstd_cluster(in, in_len, out, out_len)
           : inflate_cluster(in, in_len, out, out_len);
}

ssize_t qcow2_codec_encode(Qcow2Codec codec, const uint8_t *in, size_t in_len,
                           uint8_t *out, size_t out_len)
{
    return codec == QCOW2_CODEC_ZSTD
           ? zstd_cluster(in, in_len, out, out_len)
           : deflate_cluster(in, in_len, out, out_len);
}
