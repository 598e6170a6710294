/* SPDX-License-Identifier: MIT */
/*
 * Lines of firn-io. q.qcow2 is open on a blkdebug node when they begin; they
 * may close it, and open others. What stops at a breakpoint in a line that
 * waits for it goes on after a while, since nobody sends a signal here.
 */
#include "words-fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "block/secret.h"
#include "tools/io/io.h"
#include "util/units.h"

#define PATIENCE_NS (5 * 1000 * 1000)
#define MAX_BYTES   (4 * 1024 * 1024)   /* of a request */

static AioTimer *impatience;

static void on_impatience(void *opaque)
{
    if (io.blk && io_suspended_tag()) {
        io_release_breaks();
    }
    aio_timer_mod(impatience, aio_now_ns() + PATIENCE_NS);
}

static void start(AioContext *ctx)
{
    io = (IoSession) { .ctx = ctx, .program = "firn-io" };
    io_start_output();
    io_watch_breaks();
    impatience = aio_timer_new(ctx, on_impatience, NULL);
}

void fuzz_begin(AioContext *ctx)
{
    IoOpen o = { .flags = IO_OPEN_FLAGS };

    if (!impatience) {
        start(ctx);
    }
    if (io_open_image(NULL, io_parse_options(
                      "driver=qcow2,file.driver=blkdebug,"
                      "file.image.filename=q.qcow2"), &o) < 0) {
        abort();
    }
}

/* Ends the process, waits for long, or takes the memory that it asks for. */
static bool is_left_out(const char *line)
{
    static const char *const words[] = { "abort", "sigraise" };
    g_auto(GStrv) parts = g_strsplit_set(line, " \t", -1);
    bool transfers = strstr(line, "read") || strstr(line, "write") ||
                     strchr("rw", line[strspn(line, " \t")]);
    uint64_t n;

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strstr(line, words[i])) {
            return true;
        }
    }
    for (char **p = parts; *p && transfers; p++) {
        if (parse_size(*p + (**p == '+'), &n) == 0 && n > MAX_BYTES &&
            n <= IO_MAX_BYTES) {
            return true;
        }
    }
    for (char **p = parts; *p; p++) {
        if (!strcmp(*p, "sleep") && p[1] && strtoul(p[1], NULL, 0) > 5) {
            return true;
        }
    }
    return fuzz_asks_for_more(line, "latency-ns", 1000000) ||
           fuzz_asks_for_more(line, "delay-ns", 1000000);
}

void fuzz_line(AioContext *ctx, char *line)
{
    if (io.quit || is_left_out(line)) {
        return;
    }
    aio_timer_mod(impatience, aio_now_ns() + PATIENCE_NS);
    (void)io_run_line(line);
}

void fuzz_end(AioContext *ctx)
{
    aio_timer_mod(impatience, aio_now_ns() + PATIENCE_NS);
    (void)io_close_image();
    aio_timer_del(impatience);
    (void)io_flush_output();
    io.quit = io.failed = false;
}
