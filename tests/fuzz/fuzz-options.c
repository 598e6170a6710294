/* SPDX-License-Identifier: MIT */
/*
 * Options and names. The first word of a line says what the rest is:
 *
 *   rules TEXT      put into the file of blkdebug rules; "|" ends a line
 *   opts LIST       open what --image-opts names
 *   name NAME       open what a file name says: json:, blkdebug:, null-co:...
 *   object SPEC     --object
 *   create FORMAT LIST, amend LIST, measure LIST
 *   size TEXT       a number with its unit
 *
 * What can be opened is read and written, reopened and closed.
 */
#include "words-fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/info.h"
#include "block/secret.h"
#include "util/units.h"

#define FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP | BDRV_O_DATA_FILE)

/* A refusal says why. */
static void check(int ret, GError **error)
{
    if ((ret < 0) != (*error != NULL)) {
        abort();
    }
    g_clear_error(error);
}

static BdrvOptions *parse(const char *text)
{
    GError *error = NULL;
    BdrvOptions *o = NULL;

    check(bdrv_options_parse(&o, text, &error), &error);
    return o;
}

static void use(BlockBackend *blk)
{
    static uint8_t data[8192];
    g_autoptr(BlkImageInfo) info = NULL;
    uint64_t bytes;

    (void)blk_image_info(blk, &info, NULL);
    (void)blk_pread(blk, 0, 4096, data);
    (void)blk_pwrite(blk, 512, 1024, data);
    (void)blk_pwrite_zeroes(blk, 4096, 4096, BDRV_REQ_MAY_UNMAP);
    (void)blk_pdiscard(blk, 0, 4096);
    (void)blk_block_status(blk, 0, 8192, &bytes, NULL);
    (void)blk_flush(blk);
    if (blk_reopen(&blk, NULL, blk_get_open_flags(blk) ^ BDRV_O_RDWR,
                   NULL) == 0) {
        (void)blk_pread(blk, 0, sizeof(data), data);
    }
    if (blk) {
        (void)blk_close(blk);
    }
}

/* Consumes @o. */
static void open_and_use(AioContext *ctx, const char *name, BdrvOptions *o)
{
    GError *error = NULL;
    BlockBackend *blk = NULL;
    int ret = blk_open(ctx, name, o, FLAGS, &blk, &error);

    check(ret, &error);
    if (blk) {
        use(blk);
    }
}

static void create(AioContext *ctx, char *rest)
{
    char *space = strchr(rest, ' ');
    GError *error = NULL;
    BdrvOptions *o;

    if (!space) {
        return;
    }
    *space = '\0';
    o = parse(space + 1);
    if (o) {
        check(blk_create(ctx, rest, "new", o, &error), &error);
        open_and_use(ctx, "new", NULL);
    }
}

static void amend(AioContext *ctx, const char *list)
{
    static const char *const images[][2] = {
        { "q.qcow2", "driver=qcow2" },
        { "l.qcow2", "encrypt.key-secret=jail" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        BdrvOptions *o = parse(list);
        BlockBackend *blk = NULL;
        GError *error = NULL;

        if (!o || blk_open(ctx, images[i][0], parse(images[i][1]), FLAGS,
                           &blk, NULL) < 0) {
            bdrv_options_free(o);
            continue;
        }
        check(blk_amend(blk, o, list[0] == 'c', NULL, NULL, &error), &error);
        (void)blk_close(blk);
    }
}

static void measure(AioContext *ctx, const char *list)
{
    BdrvOptions *o = parse(list);
    GError *error = NULL;
    BdrvMeasure m;

    if (o) {
        check(bdrv_measure(ctx, "qcow2", o, NULL, &m, &error), &error);
    }
}

static void write_rules(char *text)
{
    FILE *f = fopen("rules", "w");

    for (char *p = text; *p; p++) {
        *p = *p == '|' ? '\n' : *p;
    }
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

void fuzz_begin(AioContext *ctx)
{
}

void fuzz_line(AioContext *ctx, char *line)
{
    char *rest = strchr(line, ' ');
    BdrvOptions *o;
    GError *error = NULL;
    uint64_t n;

    if (!rest || fuzz_asks_for_more(line, "iter-time", 10) ||
        fuzz_asks_for_more(line, "latency-ns", 1000000) ||
        fuzz_asks_for_more(line, "delay-ns", 1000000) ||
        strstr(line, "suspend")) {
        return; /* that would take as long as they say */
    }
    *rest++ = '\0';
    if (!strcmp(line, "opts")) {
        o = parse(rest);
        if (o) {
            open_and_use(ctx, NULL, o);
        }
    } else if (!strcmp(line, "name")) {
        open_and_use(ctx, rest, NULL);
    } else if (!strcmp(line, "object")) {
        check(secret_add_object(rest, &error), &error);
    } else if (!strcmp(line, "create")) {
        create(ctx, rest);
    } else if (!strcmp(line, "amend")) {
        amend(ctx, rest);
    } else if (!strcmp(line, "measure")) {
        measure(ctx, rest);
    } else if (!strcmp(line, "size")) {
        (void)parse_size(rest, &n);
    } else if (!strcmp(line, "rules")) {
        write_rules(rest);
    }
}

void fuzz_end(AioContext *ctx)
{
    (void)secret_remove("s");
    (void)secret_remove("secret");
    (void)secret_remove("id");
    (void)secret_remove("data");
}
