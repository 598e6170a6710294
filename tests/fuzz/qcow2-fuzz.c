/* SPDX-License-Identifier: MIT */
/*
 * The frame of the fuzz targets: a memory disk with the input's bytes, a
 * mutator that knows where the tables of an image are (mutate.c), and the
 * reading and writing that several targets do.
 */
#include "qcow2-fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "mutate.h"
#include "tests/support/fake_driver.h"
#include "util/aio.h"

#define CHUNK      65536
#define MAX_STATUS 300      /* pieces of a disk that are looked at */
#define MAX_READ   (4 * 1024 * 1024)

static AioContext *ctx;
static uint8_t *chunk;

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t max)
    __attribute__((weak));

static void set_up(void)
{
    ctx = aio_context_new(AIO_BACKEND_THREADS, NULL);
    chunk = blk_try_memalign(CHUNK);
    if (!ctx || !chunk) {
        abort();
    }
    aio_set_current(ctx);
}

BlockBackend *fuzz_open_chain(const char *options, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = NULL;
    BdrvOptions *o = NULL;

    if (bdrv_options_parse(&o, options, NULL) < 0) {
        abort();
    }
    bdrv_options_set(o, "driver", "qcow2");
    bdrv_options_set(o, "file.driver", "fake");
    bdrv_options_set(o, "file.name", "fuzz");
    if (blk_open(ctx, NULL, o, flags, &blk, &error) < 0) {
        if (!error) {
            abort(); /* a refusal says why */
        }
        return NULL;
    }
    return blk;
}

BlockBackend *fuzz_open(const char *options, unsigned flags)
{
    return fuzz_open_chain(options, flags | BDRV_O_NO_BACKING);
}

void fuzz_read_all(BlockBackend *blk)
{
    uint64_t length = MAX(blk_getlength(blk), 0);
    uint64_t offset = 0, read = 0;

    if (!length) {
        return;
    }
    for (unsigned i = 0; i < MAX_STATUS && offset < length; i++) {
        uint64_t n, map;
        int status = blk_block_status(blk, offset, length - offset, &n, &map);

        if (status < 0) {
            n = MIN(512u, length - offset);
        }
        if (status < 0 || (status & BDRV_BLOCK_DATA && read < MAX_READ)) {
            uint64_t part = MIN(n, CHUNK);

            (void)blk_pread(blk, offset, part, chunk);
            read += part;
            n = part;
        }
        offset += n;
    }
    (void)blk_pread(blk, length - MIN(length, CHUNK), MIN(length, CHUNK),
                    chunk);
}

void fuzz_write_some(BlockBackend *blk)
{
    uint64_t length = MAX(blk_getlength(blk), 0);
    Rng rng = { .state = length };

    for (unsigned i = 0; i < 12 && length >= 512; i++) {
        uint64_t offset = rng_below(&rng, i < 8 ? MIN(length, 65536)
                                               : length);
        uint64_t n = 1 + rng_below(&rng, MIN(length - offset, 5000));

        switch (i % 4) {
        case 0:
        case 1:
            (void)blk_pwrite(blk, offset, n, chunk);
            break;
        case 2:
            (void)blk_pwrite_zeroes(blk, offset, n, BDRV_REQ_MAY_UNMAP);
            break;
        default:
            (void)blk_pdiscard(blk, offset, n);
            (void)blk_flush(blk);
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    FakeDisk *disk;

    if (!ctx) {
        set_up();
    }
    disk = fake_disk_new("fuzz", bytes);
    disk->sync = true;
    disk->zeroes = true;
    if (bytes) {
        fake_disk_poke(disk, 0, data, bytes);
    }
    fuzz_image();
    fake_disk_free(disk);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max,
                               unsigned seed)
{
    Rng rng = { .state = seed };

    if (rng_below(&rng, 8) == 0 && LLVMFuzzerMutate) {
        return LLVMFuzzerMutate(data, bytes, max);
    }
    if (rng_below(&rng, 4) == 0 && bytes >= sizeof(uint32_t)) {
        uint32_t choice = (uint32_t)rng_next(&rng); /* see fuzz-change.c */

        memcpy(data + bytes - sizeof(choice), &choice, sizeof(choice));
    }
    mutate_image(data, &bytes, &rng);
    return bytes;
}
