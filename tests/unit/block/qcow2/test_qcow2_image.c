/* SPDX-License-Identifier: MIT */
/*
 * Whole images: create in every geometry, what other tools made, features that
 * must be refused by name, backing files, growing, corruption met in use.
 * qemu-img and qemu-io are the peers; without them their part is skipped.
 */
#include "qcow2_fixture.h"

#include "tests/support/qcow2_checker.h"

#define NEED(program)                       \
    do {                                    \
        if (!test_have_program(program)) {  \
            skip();                         \
        }                                   \
    } while (0)

/* Run a command that must succeed. */
static void G_GNUC_PRINTF(1, 2) sh(const char *fmt, ...)
{
    g_autofree char *cmd = NULL;
    g_autofree char *out = NULL;
    va_list ap;

    va_start(ap, fmt);
    cmd = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (test_run(&out, "%s", cmd) != 0) {
        fail_msg("%s: %s", cmd, out);
    }
}

static void expect(BlockBackend *blk, uint64_t offset, size_t bytes,
                   int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(blk, offset, bytes, buf), 0);
    for (size_t i = 0; i < bytes; i++) {
        if (buf[i] != value) {
            fail_msg("byte %zu is %02x, not %02x", (size_t)offset + i, buf[i],
                     value);
        }
    }
}

static void put(BlockBackend *blk, uint64_t offset, size_t bytes, int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, value, bytes);
    assert_int_equal(blk_pwrite(blk, offset, bytes, buf), 0);
}

/* Change bytes of a file. */
static void poke(const char *path, uint64_t offset, uint64_t value,
                 unsigned bytes)
{
    FILE *f = fopen(path, "r+");

    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    for (unsigned i = 0; i < bytes; i++) {
        fputc(value >> (8 * (bytes - 1 - i)) & 0xff, f);
    }
    assert_int_equal(fclose(f), 0);
}

static uint64_t peek(const char *path, uint64_t offset, unsigned bytes)
{
    g_autofree char *all = NULL;
    uint64_t v = 0;
    gsize n;

    assert_true(g_file_get_contents(path, &all, &n, NULL));
    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | (offset + i < n ? (uint8_t)all[offset + i] : 0);
    }
    return v;
}

/* ---- create ---- */

static void test_create_makes_clean_images_of_every_geometry(void **state)
{
    g_autofree char *path = test_path("create.qcow2");

    for (unsigned cb = 9; cb <= 21; cb++) {
        for (unsigned rb = 1; rb <= 64; rb *= 2) {
            g_autofree char *o = g_strdup_printf(
                "size=3M,cluster_size=%u,refcount_bits=%u", 1u << cb, rb);
            BlockBackend *blk;
            Qcow2CheckResult r;

            q_create(path, o);
            blk = q_open(path, NULL, BDRV_O_RDWR);
            assert_int_equal(blk_getlength(blk), 3 << 20);
            put(blk, 12345, 70000, 'a');
            put(blk, 2000000, 500, 'b');
            q_close(blk);
            assert_int_equal(qcow2_checker_run_file(path, &r), 0);
            assert_int_equal(r.corruptions + r.leaks + r.copied, 0);
            if (cb == 9 || cb == 16 || rb == 16) {
                q_qemu_check(path);
            }
            blk = q_open(path, NULL, 0);
            expect(blk, 0, 12345, 0);
            expect(blk, 12345, 70000, 'a');
            expect(blk, 2000000, 500, 'b');
            q_close(blk);
        }
    }
}

static void test_create_refuses_bad_options(void **state)
{
    static const struct {
        const char *options;
        int err;
    } bad[] = {
        { "cluster_size=64k", -EINVAL },
        { "size=1M,cluster_size=256", -EINVAL },
        { "size=1M,cluster_size=3k", -EINVAL },
        { "size=1M,cluster_size=4M", -EINVAL },
        { "size=1M,refcount_bits=3", -EINVAL },
        { "size=1M,refcount_bits=128", -EINVAL },
        { "size=1M,compat=0.10,refcount_bits=8", -EINVAL },
        { "size=1M,compat=2.0", -EINVAL },
        { "size=1M,compat=v2,lazy_refcounts=on", -EINVAL },
        { "size=1M,extended_l2=on,compat=0.10", -EINVAL },
        { "size=1M,extended_l2=on,cluster_size=8k", -EINVAL },
        { "size=1M,compression_type=lzo", -EINVAL },
        { "size=1M,backing_fmt=raw", -EINVAL },
        { "size=1M,data_file_raw=on", -EINVAL },
        { "size=129G,cluster_size=512", -EFBIG },
    };
    g_autofree char *path = test_path("bad.qcow2");

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        int ret = blk_create(test_ctx, "qcow2", path,
                             q_options(bad[i].options), &error);

        if (ret != bad[i].err || !error) {
            fail_msg("%s: %d", bad[i].options, ret);
        }
        assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    }
}

static void test_huge_and_empty_disks_can_be_created(void **state)
{
    static const char *const options[] = {
        "size=0", "size=2P", "size=128G,cluster_size=512",
        "size=1T,cluster_size=2M,refcount_bits=1", "size=64G,compat=0.10",
    };
    g_autofree char *path = test_path("huge.qcow2");

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        BlockBackend *blk;
        uint64_t size;

        q_create(path, options[i]);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        size = blk_getlength(blk);
        if (size) {
            put(blk, size - 512, 512, 'e');
            expect(blk, size - 512, 512, 'e');
        }
        q_close(blk);
        q_qemu_check(path);
    }
}

/* ---- made by others ---- */

static void test_images_of_qemu_are_read_and_written(void **state)
{
    static const char *const options[] = {
        "cluster_size=64k", "cluster_size=512,refcount_bits=1",
        "cluster_size=2M", "compat=0.10,cluster_size=4k",
        "lazy_refcounts=on,cluster_size=4k", "preallocation=metadata",
    };
    g_autofree char *path = test_path("qemu.qcow2");

    NEED("qemu-io");
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        BlockBackend *blk;

        sh("qemu-img create -q -f qcow2 -o %s '%s' 8M", options[i], path);
        sh("qemu-io -f qcow2 -c 'write -P 0x11 0 300k' "
           "-c 'write -P 0x22 3M 1000k' -c 'write -z 64k 70k' "
           "-c 'write -zu 3100k 64k' '%s'", path);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        expect(blk, 0, 64 << 10, 0x11);
        expect(blk, 64 << 10, 70 << 10, 0);
        expect(blk, 134 << 10, 166 << 10, 0x11);
        expect(blk, 3 << 20, 28 << 10, 0x22);
        expect(blk, 3100 << 10, 64 << 10, 0);
        put(blk, 100 << 10, 60 << 10, 0x33);
        put(blk, 5 << 20, 1000, 0x44);
        assert_int_equal(blk_pwrite_zeroes(blk, 3 << 20, 2 << 20, 0), 0);
        q_close(blk);
        q_qemu_check(path);
        sh("qemu-io -f qcow2 -c 'read -P 0x11 0 64k' -c 'read -P 0 64k 36k' "
           "-c 'read -P 0x33 100k 60k' -c 'read -P 0 3M 2M' "
           "-c 'read -P 0x44 5M 1000' '%s'", path);
    }
}

static void test_snapshots_of_qemu_are_applied_and_deleted(void **state)
{
    g_autofree char *path = test_path("snap.qcow2");
    g_autofree char *out = NULL;
    BlockBackend *blk;

    NEED("qemu-io");
    sh("qemu-img create -q -f qcow2 -o cluster_size=4k '%s' 4M", path);
    for (int i = 1; i <= 3; i++) {
        sh("qemu-io -f qcow2 -c 'write -P %d 0 1M' '%s'", i, path);
        sh("qemu-img snapshot -c s%d '%s'", i, path);
    }
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 100000, 9);
    assert_int_equal(q_snap_delete(blk, "s2"), 0);
    q_qemu_check(path);
    assert_int_equal(q_snap_goto(blk, "s1"), 0);
    expect(blk, 0, 1 << 20, 1);
    q_qemu_check(path);
    assert_int_equal(q_snap_goto(blk, "3"), 0);
    expect(blk, 0, 1 << 20, 3);
    assert_int_equal(q_snap_create(blk, "ours", 0), 0);
    assert_int_equal(q_snap_goto(blk, "nobody"), -ENOENT);
    assert_int_equal(q_snap_create(blk, "ours", 0), 0); /* names may repeat */
    assert_int_equal(q_snap_delete(blk, "ours"), 0);
    q_close(blk);
    q_qemu_check(path);
    assert_int_equal(test_run(&out, "qemu-img snapshot -l '%s'", path), 0);
    assert_non_null(strstr(out, "ours"));
    assert_null(strstr(out, "s2"));
    sh("qemu-img snapshot -a s1 '%s'", path);
    sh("qemu-img snapshot -d s3 '%s'", path);
    q_qemu_check(path);
}

static void test_compressed_clusters_are_counted_by_snapshots(void **state)
{
    g_autofree char *raw = test_path("c.raw");
    g_autofree char *path = test_path("c.qcow2");
    g_autofree uint8_t *buf = g_malloc(1 << 20);
    BlockBackend *blk;

    NEED("qemu-img");
    memset(buf, 'c', 1 << 20);
    assert_true(g_file_set_contents(raw, (char *)buf, 1 << 20, NULL));
    for (int zstd = 0; zstd < 2; zstd++) {
        sh("qemu-img convert -c -O qcow2 -o compression_type=%s '%s' '%s'",
           zstd ? "zstd" : "zlib", raw, path);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        expect(blk, 0, 65536, 'c');
        assert_int_equal(q_snap_create(blk, "s", 0), 0);
        q_qemu_check(path);
        assert_int_equal(blk_pwrite_zeroes(blk, 0, 65536, 0), 0);
        expect(blk, 0, 65536, 0);
        put(blk, 100000, 512, 'x'); /* copies what the snapshot keeps */
        assert_int_equal(q_snap_goto(blk, "s"), 0);
        expect(blk, 0, 1 << 20, 'c');
        assert_int_equal(q_snap_delete(blk, "s"), 0);
        q_close(blk);
        q_qemu_check(path);
        sh("qemu-img compare -f raw -F qcow2 '%s' '%s'", raw, path);
    }
}

/* ---- refused by name ---- */

static void test_unknown_feature_is_named_from_the_table(void **state)
{
    g_autofree char *path = test_path("u.qcow2");

    q_create(path, "size=1M");
    poke(path, 72, 1ull << 40, 8);
    q_open_fails(path, NULL, 0, -ENOTSUP, "incompatible bit 40");
    poke(path, 0x78 + 1, 40, 1); /* the entry of the dirty bit */
    q_open_fails(path, NULL, 0, -ENOTSUP, "dirty bit");
}

static void test_autoclear_bits_are_cleared_by_writers_only(void **state)
{
    g_autofree char *path = test_path("ac.qcow2");

    q_create(path, "size=1M");
    poke(path, 88, 0xf0, 8);
    poke(path, 80, 0xff00, 8);
    q_close(q_open(path, NULL, 0));
    assert_int_equal(peek(path, 88, 8), 0xf0);
    q_close(q_open(path, NULL, BDRV_O_RDWR));
    assert_int_equal(peek(path, 88, 8), 0);
    assert_int_equal(peek(path, 80, 8), 0xff00);
}

static void test_corrupt_images_are_not_written(void **state)
{
    g_autofree char *path = test_path("dc.qcow2");

    q_create(path, "size=1M");
    poke(path, 72, QCOW2_INC_CORRUPT, 8);
    q_open_fails(path, NULL, BDRV_O_RDWR, -EACCES, "firn-img check -r all");
    q_close(q_open(path, NULL, 0));
}

static void test_cut_off_images_are_refused(void **state)
{
    g_autofree char *path = test_path("cut.qcow2");

    q_create(path, "size=1M");
    assert_int_equal(truncate(path, 0x20000), 0);
    q_open_fails(path, NULL, 0, -EINVAL, "past the end");
    assert_int_equal(truncate(path, 112), 0);
    q_open_fails(path, NULL, 0, -EINVAL, "past the end");
    assert_int_equal(truncate(path, 80), 0);
    q_open_fails(path, NULL, 0, -EINVAL, "header_length 0");
    assert_int_equal(truncate(path, 0), 0);
    q_open_fails(path, NULL, 0, -EINVAL, "");
}

/* ---- corruption met in use ---- */

static uint64_t l2_of(const char *path, unsigned l1_index)
{
    return peek(path, peek(path, 40, 8) + l1_index * 8, 8) &
           QCOW2_OFFSET_MASK;
}

static void test_write_over_metadata_marks_the_image_corrupt(void **state)
{
    static const uint64_t targets[] = { 0, 0x10000, 0x20000, 0x30000 };
    g_autofree char *path = test_path("ov.qcow2");
    uint8_t buf[512] = { 0 };

    for (size_t i = 1; i < G_N_ELEMENTS(targets); i++) {
        BlockBackend *blk;

        q_create(path, "size=1M");
        blk = q_open(path, NULL, BDRV_O_RDWR);
        put(blk, 0, 512, 1);
        q_close(blk);
        poke(path, l2_of(path, 0), targets[i] | QCOW2_COPIED, 8);

        blk = q_open(path, NULL, BDRV_O_RDWR);
        assert_int_equal(blk_pwrite(blk, 0, 512, buf), -EIO);
        assert_int_equal(peek(path, 72, 8), QCOW2_INC_CORRUPT);
        assert_int_equal(blk_pwrite(blk, 65536, 512, buf), -EIO);
        assert_int_equal(blk_pread(blk, 65536, 512, buf), 0);
        (void)blk_close(blk);
        q_open_fails(path, NULL, BDRV_O_RDWR, -EACCES, "corrupt");
        q_close(q_open(path, NULL, 0));
    }
}

static void test_l2_and_refblock_overlaps_are_found(void **state)
{
    g_autofree char *path = test_path("ov2.qcow2");
    uint8_t buf[512] = { 0 };
    BlockBackend *blk;

    q_create(path, "size=1G");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 512, 1);
    put(blk, 600 << 20, 512, 2);
    q_close(blk);
    poke(path, l2_of(path, 0), l2_of(path, 1) | QCOW2_COPIED, 8);
    blk = q_open(path, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 512, buf), -EIO);
    assert_non_null(strstr(q_state(blk)->corrupt_reason, "L2 table"));
    (void)blk_close(blk);
}

static void test_impossible_entries_are_errors(void **state)
{
    g_autofree char *path = test_path("imp.qcow2");
    uint8_t buf[512];
    BlockBackend *blk;
    uint64_t l2;

    q_create(path, "size=1M");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 512, 1);
    q_close(blk);
    l2 = l2_of(path, 0);

    poke(path, l2, QCOW2_COPIED | 0x50200, 8);
    blk = q_open(path, NULL, 0);
    assert_int_equal(blk_pread(blk, 0, 512, buf), -EIO);
    (void)blk_close(blk);
    assert_int_equal(peek(path, 72, 8), 0);
    blk = q_open(path, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pread(blk, 0, 512, buf), -EIO);
    (void)blk_close(blk);
    assert_int_equal(peek(path, 72, 8), QCOW2_INC_CORRUPT);

    q_create(path, "size=1M,compat=0.10");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 512, 1);
    q_close(blk);
    poke(path, l2_of(path, 0), 1, 8);
    blk = q_open(path, NULL, 0);
    assert_int_equal(blk_pread(blk, 0, 512, buf), -EIO);
    (void)blk_close(blk);

    q_create(path, "size=1M");
    poke(path, peek(path, 40, 8), 0x50200, 8);
    blk = q_open(path, NULL, 0);
    assert_int_equal(blk_pread(blk, 0, 512, buf), -EIO);
    (void)blk_close(blk);
}

/* Freeing what an unaligned entry points into would free somebody else's. */
static void test_discard_and_zero_refuse_impossible_entries(void **state)
{
    g_autofree char *path = test_path("disc.qcow2");

    for (int zero = 0; zero < 2; zero++) {
        BlockBackend *blk;
        uint64_t data;

        q_create(path, "size=1M");
        blk = q_open(path, NULL, BDRV_O_RDWR);
        put(blk, 0, 65536, 1);
        put(blk, 65536, 65536, 2);
        q_close(blk);
        data = peek(path, l2_of(path, 0) + 8, 8);
        poke(path, l2_of(path, 0), data + 512, 8);

        blk = q_open(path, NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
        assert_int_equal(zero ? blk_pwrite_zeroes(blk, 0, 65536,
                                                  BDRV_REQ_MAY_UNMAP)
                              : blk_pdiscard(blk, 0, 65536), -EIO);
        (void)blk_close(blk);
        assert_int_equal(peek(path, 72, 8), QCOW2_INC_CORRUPT);
        blk = q_open(path, NULL, 0);
        expect(blk, 65536, 65536, 2);
        q_close(blk);
    }
}

/* A refcount block that was cut off must not count as "all is free". */
static void test_refcount_block_behind_the_end_is_an_error(void **state)
{
    g_autofree char *path = test_path("cut.qcow2");
    BlockBackend *blk;
    uint8_t buf[512] = { 0 };

    q_create(path, "size=1M");
    poke(path, peek(path, 48, 8), 1u << 30, 8);
    blk = q_open(path, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 512, buf), -EIO);
    (void)blk_close(blk);
    assert_int_equal(peek(path, 72, 8), QCOW2_INC_CORRUPT);
}

/* ---- backing files ---- */

static void test_overlay_shows_and_copies_its_backing_file(void **state)
{
    g_autofree char *base = test_path("base.qcow2");
    g_autofree char *path = test_path("over.qcow2");
    BlockBackend *blk;

    q_create(base, "size=1M");
    blk = q_open(base, NULL, BDRV_O_RDWR);
    put(blk, 0, 1 << 20, 'B');
    q_close(blk);
    q_create(path, "size=2M,backing_file=base.qcow2,backing_fmt=qcow2");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    expect(blk, 0, 1 << 20, 'B');
    expect(blk, 1 << 20, 1 << 20, 0);
    put(blk, 70000, 1000, 'o');
    put(blk, (1 << 20) - 100, 300, 'p');
    expect(blk, 65536, 70000 - 65536, 'B');
    expect(blk, 70000, 1000, 'o');
    expect(blk, 71000, 60000, 'B');
    expect(blk, (1 << 20) - 100, 300, 'p');
    expect(blk, (1 << 20) + 200, 65536, 0);
    assert_int_equal(blk_pwrite_zeroes(blk, 131072, 65536, 0), 0);
    expect(blk, 131072, 65536, 0);
    expect(blk, 196608, 65536, 'B');
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, "backing=null", 0);
    expect(blk, 0, 65536, 0);
    expect(blk, 70000, 1000, 'o');
    q_close(blk);
    blk = q_open(path, NULL, BDRV_O_NO_BACKING);
    expect(blk, 0, 65536, 0);
    q_close(blk);
    if (test_have_program("qemu-io")) {
        sh("qemu-io -f qcow2 -c 'read -P 0x42 0 64k' -c 'read -P 0 128k 64k' "
           "-c 'read -P 0x42 192k 64k' '%s'", path);
    }
}

static void test_v2_overlay_zeroes_by_writing(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *path = test_path("over2.qcow2");
    g_autofree char *bytes = g_malloc(1 << 20);
    BlockBackend *blk;

    memset(bytes, 'R', 1 << 20);
    assert_true(g_file_set_contents(base, bytes, 1 << 20, NULL));
    q_create(path, "compat=0.10,backing_file=base.raw,backing_fmt=raw");
    blk = q_open(path, NULL, BDRV_O_RDWR | BDRV_O_UNMAP);
    assert_int_equal(blk_getlength(blk), 1 << 20);
    assert_int_equal(blk_pwrite_zeroes(blk, 65536, 65536, 0), 0);
    assert_int_equal(blk_pdiscard(blk, 131072, 65536), 0);
    expect(blk, 0, 65536, 'R');
    expect(blk, 65536, 65536, 0);
    expect(blk, 131072, 65536, 'R');
    q_close(blk);
    q_qemu_check(path);
}

static void test_loops_and_long_chains_are_refused(void **state)
{
    g_autofree char *a = test_path("a.qcow2");
    g_autofree char *b = test_path("b.qcow2");

    q_create(a, "size=1M");
    q_create(b, "size=1M,backing_file=a.qcow2,backing_fmt=qcow2");
    q_create(a, "size=1M,backing_file=b.qcow2,backing_fmt=qcow2");
    q_open_fails(a, NULL, 0, -ELOOP, "loop");

    q_create(a, "size=1M");
    q_create(b, "size=1M,backing_file=gone.qcow2,backing_fmt=qcow2");
    q_open_fails(b, NULL, 0, -ENOENT, "gone.qcow2");
}

static void test_chain_of_199_files_is_read_and_of_202_refused(void **state)
{
    g_autofree char *first = test_path("l0.qcow2");
    BlockBackend *blk;

    q_create(first, "size=64k,cluster_size=4k");
    blk = q_open(first, NULL, BDRV_O_RDWR);
    put(blk, 0, 4096, 'f');
    q_close(blk);
    for (unsigned i = 1; i <= 201; i++) {
        g_autofree char *name = g_strdup_printf("l%u.qcow2", i);
        g_autofree char *path = test_path(name);
        g_autofree char *o = g_strdup_printf(
            "size=64k,cluster_size=4k,backing_file=l%u.qcow2,"
            "backing_fmt=qcow2", i - 1);

        q_create(path, o);
        if (i == 198) {
            blk = q_open(path, NULL, BDRV_O_RDWR);
            put(blk, 1000, 1000, 'g');
            expect(blk, 0, 1000, 'f');
            expect(blk, 1000, 1000, 'g');
            expect(blk, 2000, 2096, 'f');
            expect(blk, 4096, 60 << 10, 0);
            q_close(blk);
        } else if (i == 201) {
            q_open_fails(path, NULL, 0, -ELOOP, "");
        }
    }
}

/* ---- growing ---- */

static void test_growing_shows_zeroes_only(void **state)
{
    g_autofree char *base = test_path("gbase.raw");
    g_autofree char *path = test_path("grow.qcow2");
    g_autofree char *bytes = g_malloc(1 << 20);
    uint8_t vm[5000];

    memset(bytes, 'R', 1 << 20);
    assert_true(g_file_set_contents(base, bytes, 1 << 20, NULL));
    for (int v2 = 0; v2 < 2; v2++) {
        g_autofree char *o = g_strdup_printf(
            "size=100k,cluster_size=4k,compat=%s,backing_file=gbase.raw,"
            "backing_fmt=raw", v2 ? "0.10" : "1.1");
        BlockBackend *blk;
        GError *error = NULL;

        q_create(path, o);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        memset(vm, 'v', sizeof(vm));
        put(blk, 90000, 100, 'x');
        assert_int_equal(q_vm_save(blk, 0, vm, sizeof(vm)), 0);
        q_check(blk_truncate(blk, 5 << 20, BDRV_PREALLOC_OFF, &error), error);
        assert_int_equal(blk_getlength(blk), 5 << 20);
        expect(blk, 0, 90000, 'R');
        expect(blk, 90000, 100, 'x');
        expect(blk, 100 << 10, (5 << 20) - (100 << 10), 0);
        put(blk, 4 << 20, 1000, 'y');
        assert_int_equal(blk_truncate(blk, (6 << 20) + 1, BDRV_PREALLOC_OFF,
                                      NULL), -EINVAL);
        q_close(blk);
        q_qemu_check(path);
        blk = q_open(path, NULL, 0);
        assert_int_equal(blk_getlength(blk), 5 << 20);
        expect(blk, 4 << 20, 1000, 'y');
        q_close(blk);
    }
}

static void test_far_vmstate_grows_l1_and_refcount_tables(void **state)
{
    static const char *const options[] = {
        "size=1M,cluster_size=512,refcount_bits=64",
        "size=1M,cluster_size=512,refcount_bits=16,compat=0.10",
        "size=1M,cluster_size=1k,refcount_bits=1",
    };
    g_autofree char *path = test_path("far.qcow2");
    g_autofree uint8_t *buf = g_malloc(5000000);

    test_fill(buf, 5000000, 3);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        BlockBackend *blk;
        uint64_t size, far = 700ull << 20;
        uint8_t back[4096];

        q_create(path, options[i]);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        put(blk, 0, 1 << 20, 'd');
        assert_int_equal(q_vm_save(blk, 0, buf, 5000000), 0);
        assert_int_equal(q_vm_save(blk, far, buf, 4096), 0);
        assert_int_equal(blk_flush(blk), 0);
        q_qemu_check(path);
        if (i < 2) {
            assert_int_equal(q_snap_create(blk, "far", far + 4096), 0);
            q_qemu_check(path);
            assert_int_equal(q_vm_select(blk, "far", &size), 0);
            assert_int_equal(size, far + 4096);
            assert_int_equal(q_vm_load(blk, far, back, 4096), 0);
            assert_memory_equal(back, buf, 4096);
            assert_int_equal(q_vm_load(blk, 4990000, back, 4096), 0);
            assert_memory_equal(back, buf + 4990000, 4096);
            assert_int_equal(q_snap_delete(blk, "far"), 0);
            assert_int_equal(q_vm_load(blk, 0, back, 512), -ENOENT);
        } else {
            assert_int_equal(q_snap_create(blk, "far", 1), -ERANGE);
            assert_int_equal(q_vm_discard(blk), 0);
        }
        expect(blk, 0, 1 << 20, 'd');
        q_close(blk);
        q_qemu_check(path);
    }
}

static void test_vmstate_beyond_4_gib_fits_version_2(void **state)
{
    g_autofree char *path = test_path("big.qcow2");
    uint64_t size, vm = (5ull << 30) + 17;
    uint8_t buf[17], back[17];
    BlockBackend *blk;

    q_create(path, "size=1M,compat=0.10");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    test_fill(buf, sizeof(buf), 1);
    assert_int_equal(q_vm_save(blk, vm - 17, buf, 17), 0);
    assert_int_equal(q_snap_create(blk, "big", vm), 0);
    q_close(blk);
    q_qemu_check(path);
    blk = q_open(path, NULL, 0);
    assert_int_equal(q_vm_select(blk, "big", &size), 0);
    assert_int_equal(size, vm);
    assert_int_equal(q_vm_load(blk, vm - 17, back, 17), 0);
    assert_memory_equal(back, buf, 17);
    q_close(blk);
}

static void test_ids_follow_the_largest_one(void **state)
{
    g_autofree char *path = test_path("ids.qcow2");
    BlockBackend *blk;
    QCall c = { .what = Q_SNAP_LIST };

    q_create(path, "size=1M");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    assert_int_equal(q_snap_create(blk, "a", 0), 0);
    assert_int_equal(q_snap_create(blk, "b", 0), 0);
    assert_int_equal(q_snap_delete(blk, "a"), 0);
    assert_int_equal(q_snap_create(blk, "c", 0), 0);
    assert_int_equal(q_snap_create(blk, "1", 0), 0);
    c.blk = blk;
    assert_int_equal(q_run(&c), 0);
    assert_int_equal(c.list->len, 3);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const want[] = { "2b", "3c", "41" };
        BdrvSnapshotInfo *info = g_ptr_array_index(c.list, i);
        g_autofree char *got = g_strconcat(info->id, info->name, NULL);

        assert_string_equal(got, want[i]);
        assert_int_equal(info->disk_size, 1 << 20);
        assert_int_equal(info->date_sec, 1700000000);
    }
    g_ptr_array_unref(c.list);
    q_close(blk);
    q_qemu_check(path);
}

static void test_disk_size_follows_the_applied_snapshot(void **state)
{
    g_autofree char *path = test_path("sz.qcow2");
    BlockBackend *blk;

    q_create(path, "size=1M,cluster_size=4k");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    put(blk, 0, 1 << 20, 's');
    assert_int_equal(q_snap_create(blk, "small", 0), 0);
    assert_int_equal(blk_truncate(blk, 9 << 20, BDRV_PREALLOC_OFF, NULL), 0);
    put(blk, 8 << 20, 1 << 20, 'l');
    assert_int_equal(q_snap_create(blk, "large", 0), 0);
    assert_int_equal(q_snap_goto(blk, "small"), 0);
    assert_int_equal(blk_getlength(blk), 1 << 20);
    expect(blk, 0, 1 << 20, 's');
    q_qemu_check(path);
    assert_int_equal(q_snap_goto(blk, "large"), 0);
    assert_int_equal(blk_getlength(blk), 9 << 20);
    expect(blk, 8 << 20, 1 << 20, 'l');
    q_close(blk);
    q_qemu_check(path);
}

static void test_cache_options_are_checked(void **state)
{
    static const char *const bad[] = {
        "cache-size=1M,l2-cache-size=512k,refcount-cache-size=256k",
        "cache-size=1M,l2-cache-size=2M", "l2-cache-entry-size=1000",
        "l2-cache-entry-size=128k", "l2-cache-entry-size=256",
        "overlap-check=some", "nonsense=1",
    };
    g_autofree char *path = test_path("opt.qcow2");

    q_create(path, "size=1G");
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        q_open_fails(path, bad[i], 0, -EINVAL, "");
    }
    q_close(q_open(path, "cache-size=1M", 0));
    q_close(q_open(path, "cache-size=100k,overlap-check=none", 0));
    q_close(q_open(path, "l2-cache-size=8k,cache-clean-interval=0", 0));
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_makes_clean_images_of_every_geometry),
        TEST(test_create_refuses_bad_options),
        TEST(test_huge_and_empty_disks_can_be_created),
        TEST(test_images_of_qemu_are_read_and_written),
        TEST(test_snapshots_of_qemu_are_applied_and_deleted),
        TEST(test_compressed_clusters_are_counted_by_snapshots),
        TEST(test_unknown_feature_is_named_from_the_table),
        TEST(test_autoclear_bits_are_cleared_by_writers_only),
        TEST(test_corrupt_images_are_not_written),
        TEST(test_cut_off_images_are_refused),
        TEST(test_write_over_metadata_marks_the_image_corrupt),
        TEST(test_l2_and_refblock_overlaps_are_found),
        TEST(test_impossible_entries_are_errors),
        TEST(test_discard_and_zero_refuse_impossible_entries),
        TEST(test_refcount_block_behind_the_end_is_an_error),
        TEST(test_overlay_shows_and_copies_its_backing_file),
        TEST(test_v2_overlay_zeroes_by_writing),
        TEST(test_loops_and_long_chains_are_refused),
        TEST(test_chain_of_199_files_is_read_and_of_202_refused),
        TEST(test_growing_shows_zeroes_only),
        TEST(test_far_vmstate_grows_l1_and_refcount_tables),
        TEST(test_vmstate_beyond_4_gib_fits_version_2),
        TEST(test_ids_follow_the_largest_one),
        TEST(test_disk_size_follows_the_applied_snapshot),
        TEST(test_cache_options_are_checked),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
