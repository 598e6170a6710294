/* SPDX-License-Identifier: MIT */
/*
 * qcow2-check [-r leaks|all] [-q] FILE: the driver's check as a program, for
 * comparison with qemu-img check --output=json: the same keys, zero numbers
 * left out in the same way, the same exit status. Findings go to stderr.
 *
 * 0 clean, 1 the check did not come to its end, 2 corruptions, 3 leaks only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"

static void print_finding(const char *text, void *opaque)
{
    (void)opaque;
    fprintf(stderr, "%s\n", text);
}

static void print_number(const char *key, uint64_t value)
{
    if (value) {
        printf("    \"%s\": %" G_GUINT64_FORMAT ",\n", key, value);
    }
}

static void print_result(const char *file, const BdrvCheckResult *r)
{
    printf("{\n");
    print_number("image-end-offset", r->image_end_offset);
    print_number("corruptions", r->corruptions);
    print_number("leaks", r->leaks);
    print_number("corruptions-fixed", r->corruptions_fixed);
    print_number("leaks-fixed", r->leaks_fixed);
    print_number("total-clusters", r->total_clusters);
    print_number("allocated-clusters", r->allocated_clusters);
    print_number("fragmented-clusters", r->fragmented_clusters);
    print_number("compressed-clusters", r->compressed_clusters);
    printf("    \"check-errors\": %" G_GUINT64_FORMAT ",\n"
           "    \"filename\": \"%s\",\n    \"format\": \"qcow2\"\n}\n",
           r->check_errors, file);
}

static int status_of(const BdrvCheckResult *r)
{
    return r->check_errors ? 1 : r->corruptions ? 2 : r->leaks ? 3 : 0;
}

static int check(AioContext *ctx, const char *file, unsigned fix, bool quiet)
{
    BdrvOptions *options = bdrv_options_new();
    unsigned flags = BDRV_O_CHECK | BDRV_O_NO_BACKING |
                     (fix ? BDRV_O_RDWR : 0);
    g_autoptr(GError) error = NULL;
    BdrvCheckResult result;
    BlockBackend *blk;
    int ret;

    bdrv_options_set(options, "driver", "qcow2");
    bdrv_options_set(options, "allow-data-file", "on");
    ret = blk_open(ctx, file, options, flags, &blk, &error);
    if (ret == 0) {
        ret = blk_check(blk, &result, fix, quiet ? NULL : print_finding,
                        NULL, &error);
        if (blk_close(blk) < 0 && ret == 0) {
            fprintf(stderr, "qcow2-check: closing failed\n");
            return 1;
        }
    }
    if (ret < 0) {
        fprintf(stderr, "qcow2-check: %s\n", error->message);
        return 1;
    }
    print_result(file, &result);
    return status_of(&result);
}

int main(int argc, char **argv)
{
    AioContext *ctx;
    unsigned fix = 0;
    bool quiet = false;
    int option, status;

    while ((option = getopt(argc, argv, "r:q")) != -1) {
        if (option == 'q') {
            quiet = true;
        } else if (option == 'r' && strcmp(optarg, "leaks") == 0) {
            fix = BDRV_FIX_LEAKS;
        } else if (option == 'r' && strcmp(optarg, "all") == 0) {
            fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
        } else {
            return 1;
        }
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: qcow2-check [-r leaks|all] [-q] FILE\n");
        return 1;
    }
    ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    if (!ctx) {
        fprintf(stderr, "qcow2-check: no event loop\n");
        return 1;
    }
    aio_set_current(ctx);
    status = check(ctx, argv[optind], fix, quiet);
    aio_set_current(NULL);
    aio_context_unref(ctx);
    return status;
}
