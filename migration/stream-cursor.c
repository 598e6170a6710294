/* SPDX-License-Identifier: MIT */
/*
 * The cursor of the stream walker: hands out the next N bytes as one piece.
 *
 * Usually they lie in the window that the source gave, and nothing is copied.
 * What spans two windows is put together in a buffer that grows by what is
 * really there, never by what a length field claims.
 */
#include "migration/stream-int.h"

#define BOUNCE_MIN  4096
#define BOUNCE_KEEP (1 << 20)   /* a larger one is given back after use */

void stream_cursor_init(StreamCursor *c, const StreamSource *source)
{
    *c = (StreamCursor){ .source = source };
}

void stream_cursor_cleanup(StreamCursor *c)
{
    g_clear_pointer(&c->bounce, g_free);
    c->bounce_bytes = 0;
}

void stream_cursor_seek(StreamCursor *c, uint64_t pos)
{
    c->pos = pos;
    c->window = NULL;
    c->window_bytes = 0;
}

static int coroutine_fn refill(StreamCursor *c)
{
    const uint8_t *window = NULL;
    size_t bytes = 0;
    int ret;

    ret = c->source->peek(c->source->opaque, c->pos, &window, &bytes);
    if (ret < 0) {
        return ret;
    }
    assert(bytes > 0);
    c->window = window;
    c->window_bytes = MIN(bytes, stream_cursor_left(c));
    return 0;
}

static int reserve(StreamCursor *c, size_t bytes)
{
    size_t want = MAX(c->bounce_bytes, BOUNCE_MIN);
    uint8_t *grown;

    if (bytes <= c->bounce_bytes) {
        return 0;
    }
    while (want < bytes) {
        want *= 2;
    }
    grown = g_try_realloc(c->bounce, want);
    if (!grown) {
        return -ENOMEM;
    }
    c->bounce = grown;
    c->bounce_bytes = want;
    return 0;
}

static void consume(StreamCursor *c, size_t bytes)
{
    c->window += bytes;
    c->window_bytes -= bytes;
    c->pos += bytes;
}

static int coroutine_fn gather(StreamCursor *c, size_t bytes)
{
    size_t done = 0, n;
    int ret;

    if (c->bounce_bytes > BOUNCE_KEEP && bytes <= BOUNCE_KEEP) {
        stream_cursor_cleanup(c);
    }
    while (done < bytes) {
        if (c->window_bytes == 0) {
            ret = refill(c);
            if (ret < 0) {
                return ret;
            }
        }
        n = MIN(c->window_bytes, bytes - done);
        ret = reserve(c, done + n);
        if (ret < 0) {
            return ret;
        }
        memcpy(c->bounce + done, c->window, n);
        consume(c, n);
        done += n;
    }
    return 0;
}

int coroutine_fn stream_cursor_take(StreamCursor *c, size_t bytes,
                                    const uint8_t **ret)
{
    int r;

    if (bytes > stream_cursor_left(c)) {
        return -ENODATA;
    }
    if (c->window_bytes == 0 && bytes > 0) {
        r = refill(c);
        if (r < 0) {
            return r;
        }
    }
    if (bytes <= c->window_bytes) {
        *ret = c->window;
        consume(c, bytes);
        return 0;
    }
    r = gather(c, bytes);
    if (r == 0) {
        *ret = c->bounce;
    }
    return r;
}
