/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters: streams as bytes, images of other tools, what hostile
 * entries and streams do, writes and zeroes over compressed clusters.
 */
#include "qcow2_fixture.h"

#include "block/convert.h"
#include "tests/support/qcow2_checker.h"
#include "util/thread-pool.h"

/* ---- streams ---- */

static const uint8_t deflate_a[] = {
    0x73, 0x74, 0x1c, 0x05, 0x23, 0x19, 0x00, 0x00,
};
static const uint8_t zstd_a[] = {
    0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x01, 0x4d, 0x00, 0x00,
    0x10, 0x41, 0x41, 0x01, 0x00, 0xfb, 0x2a, 0xc0, 0x02,
};

/* Words of a small alphabet, then of a large one: compresses to about half. */
static void fill_text(uint8_t *buf, size_t bytes, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (size_t i = 0; i < bytes; i++) {
        buf[i] = i / 64 % 2 ? g_rand_int(rand) & 0xff
                            : (uint8_t)"etaoin s"[i * i % 8];
    }
}

static void test_known_streams_decode(void **state)
{
    uint8_t out[512], want[512];

    memset(want, 'A', sizeof(want));
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_DEFLATE, deflate_a,
                                        sizeof(deflate_a), out, 512), 0);
    assert_memory_equal(out, want, 512);
    memset(out, 0, sizeof(out));
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, zstd_a,
                                        sizeof(zstd_a), out, 512), 0);
    assert_memory_equal(out, want, 512);
}

static void test_a_stream_must_fill_the_cluster_exactly(void **state)
{
    uint8_t out[1024];

    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_DEFLATE, deflate_a,
                                        sizeof(deflate_a), out, 513), -EIO);
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, zstd_a,
                                        sizeof(zstd_a), out, 513), -EIO);
    /* Full before the end of the stream: enough for deflate, but the last
     * zstd frame must be complete. */
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_DEFLATE, deflate_a,
                                        sizeof(deflate_a), out, 511), 0);
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, zstd_a,
                                        sizeof(zstd_a), out, 511), -EIO);
}

static void test_zstd_frames_follow_each_other(void **state)
{
    uint8_t in[2 * sizeof(zstd_a) + 7] = { 0 }, out[1024], want[1024];

    memcpy(in, zstd_a, sizeof(zstd_a));
    memcpy(in + sizeof(zstd_a), zstd_a, sizeof(zstd_a));
    memset(in + 2 * sizeof(zstd_a), 0xee, 7); /* the neighbour */
    memset(want, 'A', sizeof(want));

    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, in, sizeof(in),
                                        out, 1024), 0);
    assert_memory_equal(out, want, 1024);
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, in, sizeof(in),
                                        out, 1025), -EIO);
}

/* Every truncation fails (but for the end mark alone); no bit flip reads or
 * writes outside the buffers (a sanitizer build sees that) or takes long. */
static void test_damaged_streams_are_refused_or_decode_to_something(void **s)
{
    static uint8_t plain[4096], in[4096], out[4096];

    fill_text(plain, sizeof(plain), 1);
    for (int codec = 0; codec < 2; codec++) {
        ssize_t n = qcow2_codec_encode(codec, plain, 4096, in, 4096);
        uint8_t *exact;

        assert_true(n > 100 && n < 4096);
        for (ssize_t i = 0; i < n - 2; i++) {
            exact = g_memdup2(in, i);
            assert_int_equal(qcow2_codec_decode(codec, exact, i, out, 4096),
                             -EIO);
            g_free(exact);
        }
        exact = g_memdup2(in, n);
        for (ssize_t bit = 0; bit < n * 8; bit++) {
            int ret;

            exact[bit / 8] ^= 1 << bit % 8;
            ret = qcow2_codec_decode(codec, exact, n, out, 4096);
            assert_true(ret == 0 || ret == -EIO);
            exact[bit / 8] ^= 1 << bit % 8;
        }
        assert_int_equal(qcow2_codec_decode(codec, exact, n, out, 4096), 0);
        assert_memory_equal(out, plain, 4096);
        g_free(exact);
    }
}

/* A frame that says it needs a window of 2 GiB, and one of 128 TiB contents. */
static void test_zstd_claims_about_size_cost_nothing(void **state)
{
    static const uint8_t window[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8,
                                      0x4d, 0x00, 0x00, 0x10, 0x41, 0x41,
                                      0x01, 0x00, 0xfb, 0x2a, 0xc0, 0x02 };
    static const uint8_t contents[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0,
                                        0, 0, 0x80, 0, 0, 0x4d, 0, 0, 0x10,
                                        0x41, 0x41, 1, 0, 0xfb, 0x2a, 0xc0,
                                        2 };
    uint8_t out[512];
    int ret = qcow2_codec_decode(QCOW2_CODEC_ZSTD, window, sizeof(window),
                                 out, 512);

    assert_true(ret == 0 || ret == -EIO);
    assert_int_equal(qcow2_codec_decode(QCOW2_CODEC_ZSTD, contents,
                                        sizeof(contents), out, 512), -EIO);
}

/* ---- images of other tools ---- */

static void sh(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static void sh(const char *fmt, ...)
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

/* Every byte of @blk is that of @want, read in pieces of @piece. */
static void expect_all(BlockBackend *blk, const uint8_t *want, size_t bytes,
                       size_t piece)
{
    g_autofree uint8_t *buf = g_malloc(piece);

    for (size_t i = 0; i < bytes; i += piece) {
        size_t n = MIN(piece, bytes - i);

        assert_int_equal(blk_pread(blk, i, n, buf), 0);
        if (memcmp(buf, want + i, n) != 0) {
            fail_msg("bytes from %zu on are wrong", i);
        }
    }
}

static void test_images_of_qemu_img_are_read_and_overwritten(void **state)
{
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=4k,compression_type=zstd",
        "cluster_size=64k", "cluster_size=64k,compression_type=zstd",
        "cluster_size=2M", "compat=0.10,cluster_size=4k",
    };
    enum { BYTES = 4500480 };
    g_autofree uint8_t *want = g_malloc(BYTES);
    g_autofree char *raw = test_path("plain.raw");
    g_autofree char *path = test_path("c.qcow2");

    if (!test_have_program("qemu-img")) {
        print_message("qemu-img is not here\n");
        skip();
    }
    fill_text(want, BYTES, 2);
    memset(want + 300000, 0, 400000);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        BlockBackend *blk;
        Qcow2CheckResult r;

        assert_true(g_file_set_contents(raw, (char *)want, BYTES, NULL));
        sh("qemu-img convert -c -f raw -O qcow2 -o %s '%s' '%s'", options[i],
           raw, path);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        expect_all(blk, want, BYTES, 1 << 20);
        expect_all(blk, want, BYTES, 4096 - 512);

        memset(want + 70000, 'x', 5000);
        assert_int_equal(blk_pwrite(blk, 70000, 5000, want + 70000), 0);
        memset(want + (1 << 20), 0, 1 << 20);
        assert_int_equal(blk_pwrite_zeroes(blk, 1 << 20, 1 << 20, 0), 0);
        expect_all(blk, want, BYTES, 1 << 18);
        q_close(blk);
        assert_int_equal(qcow2_checker_run_file(path, &r), 0);
        assert_int_equal(r.corruptions + r.leaks + r.copied, 0);
        q_qemu_check(path);
        assert_true(g_file_set_contents(raw, (char *)want, BYTES, NULL));
        sh("qemu-img compare -f raw -F qcow2 '%s' '%s'", raw, path);
    }
}

/* ---- hostile images ---- */

enum { CS = 512, DISK = 1 << 20 };

/* An image in memory whose guest cluster 0 is 'A' in the first host cluster
 * behind the metadata: *@ret_l2 is the L2 table, *@ret_host that cluster. */
static FakeDisk *made_by_hand(const char *options, uint64_t *ret_l2,
                              uint64_t *ret_host)
{
    FakeDisk *d = fake_disk_new("c", 0);
    g_autofree char *o = g_strdup_printf("size=1M,cluster_size=512%s",
                                         options);
    uint8_t be[8], a[CS];
    BlockBackend *blk;

    memset(a, 'A', CS);
    q_create("fake:c", o);
    blk = q_open("fake:c", NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, CS, a), 0);
    q_close(blk);
    fake_disk_peek(d, 40, be, 8);
    fake_disk_peek(d, be64_get(be), be, 8);
    *ret_l2 = be64_get(be) & QCOW2_OFFSET_MASK;
    fake_disk_peek(d, *ret_l2, be, 8);
    *ret_host = be64_get(be) & QCOW2_OFFSET_MASK;
    return d;
}

static void poke_entry(FakeDisk *d, uint64_t at, uint64_t entry)
{
    uint8_t be[8];

    be64_put(be, entry);
    fake_disk_poke(d, at, be, 8);
}

/* V5: two streams in one sector, and their entries. */
static void test_two_streams_share_a_sector(void **state)
{
    uint64_t l2, host;
    FakeDisk *d = made_by_hand("", &l2, &host);
    uint8_t buf[CS], want[CS];
    BlockBackend *blk;

    fake_disk_poke(d, host, deflate_a, sizeof(deflate_a));
    poke_entry(d, l2, QCOW2_COMPRESSED | host);
    fake_disk_poke(d, host + sizeof(deflate_a), deflate_a,
                   sizeof(deflate_a));
    poke_entry(d, l2 + 8, QCOW2_COMPRESSED | (host + sizeof(deflate_a)));
    memset(want, 'A', CS);

    blk = q_open("fake:c", NULL, 0);
    assert_int_equal(blk_pread(blk, 0, CS, buf), 0);
    assert_memory_equal(buf, want, CS);
    assert_int_equal(blk_pread(blk, CS + 100, 100, buf), 0);
    assert_memory_equal(buf, want, 100);
    q_close(blk);
    fake_disk_free(d);
}

static void test_entries_that_lead_nowhere_are_an_error(void **state)
{
    uint64_t l2, host;
    FakeDisk *d = made_by_hand("", &l2, &host);
    const uint64_t bad[] = {
        d->size,                            /* at the end of the file */
        d->size - 3,                        /* a stream cut off by it */
        (1ULL << 56) - 1, 1ULL << 40,       /* far past it */
        0, 1,                               /* the header is no stream */
        host | 1ULL << 61,                  /* two sectors: no stream */
        (1ULL << 61) - 1,
    };
    uint8_t buf[CS];
    BlockBackend *blk;

    fake_disk_poke(d, d->size - 3, deflate_a, 3);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        poke_entry(d, l2, QCOW2_COMPRESSED | bad[i]);
        blk = q_open("fake:c", NULL, BDRV_O_RDWR);
        assert_int_equal(blk_pread(blk, 0, CS, buf), -EIO);
        assert_int_equal(blk_pread(blk, 1, 100, buf), -EIO);
        /* What is below a partial write cannot be had either. */
        assert_int_equal(blk_pwrite(blk, 1, 100, buf), -EIO);
        assert_int_equal(blk_pread(blk, CS, CS, buf), 0);
        q_close(blk);
    }
    fake_disk_free(d);
}

/* ---- the cache ---- */

static void test_parts_of_a_cluster_decode_once(void **state)
{
    uint64_t l2, host;
    FakeDisk *d = made_by_hand("", &l2, &host);
    uint8_t buf[CS];
    BlockBackend *blk;

    fake_disk_poke(d, host, deflate_a, sizeof(deflate_a));
    poke_entry(d, l2, QCOW2_COMPRESSED | host);
    blk = q_open("fake:c", NULL, 0);
    for (unsigned i = 0; i < 4; i++) {
        memset(buf, 0, CS);
        assert_int_equal(blk_pread(blk, i * 128, 128, buf), 0);
        assert_int_equal(buf[0] + buf[127], 2 * 'A');
        if (i == 0) {
            fake_log_clear(d);
        }
    }
    assert_int_equal(fake_count(d, FAKE_READ), 0);
    q_close(blk);
    fake_disk_free(d);
}

/* ---- writing ---- */

static int write_flags(BlockBackend *blk, uint64_t offset, size_t bytes,
                       const void *buf, unsigned flags)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, (void *)buf, bytes);
    return blk_pwritev(blk, offset, bytes, &qiov, flags);
}

static int write_compressed(BlockBackend *blk, uint64_t offset, size_t bytes,
                            const void *buf)
{
    return write_flags(blk, offset, bytes, buf, BDRV_REQ_WRITE_COMPRESSED);
}

static void expect_clean(const char *path)
{
    Qcow2CheckResult r;

    assert_int_equal(qcow2_checker_run_file(path, &r), 0);
    if (r.corruptions + r.leaks + r.copied) {
        fail_msg("%d leaks, %d copied, %d corruptions: %s", (int)r.leaks,
                 (int)r.copied, (int)r.corruptions, r.first);
    }
    q_qemu_check(path);
}

static void test_compressed_images_are_written_in_every_geometry(void **state)
{
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=512,refcount_bits=1",
        "cluster_size=1k,refcount_bits=2",
        "cluster_size=4k,compression_type=zstd", "cluster_size=64k",
        "cluster_size=64k,compression_type=zstd", "cluster_size=2M",
        "compat=0.10,cluster_size=4k", "cluster_size=64k,refcount_bits=64",
    };
    enum { BYTES = 4500480 }; /* not a multiple of most cluster sizes */
    g_autofree uint8_t *want = g_malloc(BYTES);
    g_autofree char *path = test_path("w.qcow2");
    g_autofree char *raw = test_path("w.raw");

    fill_text(want, BYTES, 3);
    test_fill(want + (1 << 20), 1 << 20, 4); /* does not compress */
    memset(want + 300000, 0, 400000);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *o = g_strdup_printf("size=%u,%s", BYTES, options[i]);
        BlockBackend *blk;

        q_create(path, o);
        blk = q_open(path, NULL, BDRV_O_RDWR);
        assert_int_equal(write_compressed(blk, 2 << 20, BYTES - (2 << 20),
                                          want + (2 << 20)), 0);
        assert_int_equal(write_compressed(blk, 0, 2 << 20, want), 0);
        expect_all(blk, want, BYTES, 1 << 20);
        q_close(blk);
        expect_clean(path);
        blk = q_open(path, NULL, 0);
        expect_all(blk, want, BYTES, 1 << 17);
        q_close(blk);
        if (test_have_program("qemu-img")) {
            assert_true(g_file_set_contents(raw, (char *)want, BYTES, NULL));
            sh("qemu-img compare -f raw -F qcow2 '%s' '%s'", raw, path);
        }
    }
}

static void test_compressed_writes_are_refused_where_they_cannot_be(void **s)
{
    FakeDisk *d = fake_disk_new("c", 0);
    uint8_t buf[4096] = { 1 };
    BlockBackend *blk;
    GError *error = NULL;

    q_create("fake:c", "size=10k,cluster_size=4k");
    blk = q_open("fake:c", NULL, BDRV_O_RDWR);
    assert_int_equal(write_compressed(blk, 512, 4096, buf), -EINVAL);
    assert_int_equal(write_compressed(blk, 0, 2048, buf), -EINVAL);
    assert_int_equal(write_compressed(blk, 4096, 4096, buf), 0);
    assert_int_equal(write_compressed(blk, 4096, 4096, buf), -EIO);
    assert_int_equal(blk_pwrite(blk, 0, 1, buf), 0);
    assert_int_equal(write_compressed(blk, 0, 4096, buf), -EIO);
    assert_int_equal(write_compressed(blk, 8192, 4096, buf), -EIO); /* size */
    assert_int_equal(write_compressed(blk, 8192, 2048, buf), 0);
    /* A plain zero entry has no data. */
    assert_int_equal(blk_pwrite_zeroes(blk, 4096, 4096, BDRV_REQ_MAY_UNMAP),
                     0);
    assert_int_equal(write_compressed(blk, 4096, 4096, buf), 0);
    q_close(blk);

    q_check(blk_open(test_ctx, "fake:c", q_options("driver=raw"),
                     BDRV_O_RDWR, &blk, &error), error);
    assert_int_equal(write_compressed(blk, 0, 4096, buf), -ENOTSUP);
    q_close(blk);
    fake_disk_free(d);
}

/* Two clusters with data, one compressed, one that a snapshot has too. */
static BlockBackend *open_taken(const char *path, const uint8_t *old)
{
    BlockBackend *blk;

    q_create(path, "size=64k,cluster_size=4k");
    blk = q_open(path, NULL, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 4096, old), 0);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    assert_int_equal(blk_pwrite(blk, 4096, 8192, old), 0);
    assert_int_equal(write_compressed(blk, 12288, 4096, old), 0);
    return blk;
}

static void test_streams_replace_data_when_asked_to(void **state)
{
    enum { BYTES = 4 * 4096 };
    g_autofree char *path = test_path("taken.qcow2");
    g_autofree uint8_t *want = g_malloc(BYTES), *old = g_malloc0(BYTES);
    BlockBackend *blk;

    memset(old, 5, 8192);
    fill_text(want, BYTES, 3);
    blk = open_taken(path, old);
    assert_int_equal(write_compressed(blk, 0, BYTES, want), -EIO);
    assert_int_equal(write_flags(blk, 0, BYTES, want,
                                 BDRV_REQ_WRITE_COMPRESSED |
                                 BDRV_REQ_REPLACE), 0);
    expect_all(blk, want, BYTES, BYTES);
    q_close(blk);
    expect_clean(path);
    blk = q_open(path, "snapshot.name=s", 0);
    memset(old + 4096, 0, BYTES - 4096);
    expect_all(blk, old, BYTES, BYTES);
    q_close(blk);
}

static void test_what_does_not_get_smaller_replaces_data_at_once(void **state)
{
    enum { BYTES = 4 * 4096 };
    g_autofree char *path = test_path("taken.qcow2");
    g_autofree uint8_t *want = g_malloc(BYTES), *old = g_malloc0(BYTES);
    BlockBackend *blk = open_taken(path, old);

    test_fill(want, BYTES, 4);
    assert_int_equal(write_compressed(blk, 0, BYTES, want), 0);
    expect_all(blk, want, BYTES, BYTES);
    q_close(blk);
    expect_clean(path);
}

static void test_filters_pass_compressed_writes_on(void **state)
{
    FakeDisk *d = fake_disk_new("c", 0);
    static uint8_t buf[65536];
    BlockBackend *blk;
    GError *error = NULL;
    uint64_t before;

    q_create("fake:c", "size=1M");
    before = d->size;
    q_check(blk_open(test_ctx, NULL,
                     q_options("driver=blkdebug,image.driver=qcow2,"
                               "image.file.driver=fake,image.file.name=c"),
                     BDRV_O_RDWR, &blk, &error), error);
    assert_int_equal(write_compressed(blk, 0, 65536, buf), 0);
    q_close(blk);
    assert_true(d->size - before < 2 * 65536 + 512); /* an L2 table */
    fake_disk_free(d);
}

static void test_clusters_of_a_request_are_worked_on_in_parallel(void **state)
{
    enum { BYTES = 1 << 20 };
    FakeDisk *d = fake_disk_new("c", 0);
    g_autofree uint8_t *want = g_malloc(BYTES);
    g_autofree uint8_t *buf = g_malloc(BYTES);
    BlockBackend *blk;

    fill_text(want, BYTES, 9);
    q_create("fake:c", "size=1M,cluster_size=64k");
    blk = q_open("fake:c", NULL, BDRV_O_RDWR);
    thread_pool_trim();
    assert_int_equal(write_compressed(blk, 0, BYTES, want), 0);
    assert_true(thread_pool_nb_threads() > 1);
    thread_pool_trim();
    assert_int_equal(blk_pread(blk, 0, BYTES, buf), 0);
    assert_true(thread_pool_nb_threads() > 1);
    assert_memory_equal(buf, want, BYTES);
    q_close(blk);
    fake_disk_free(d);
}

static void test_compressing_may_end_inside_a_longer_target(void **state)
{
    enum { SOURCE = 2 * 65536 + 1001, TARGET = 4 * 65536 };
    FakeDisk *s = fake_disk_new("s", SOURCE), *t = fake_disk_new("t", 0);
    g_autofree uint8_t *buf = g_malloc(TARGET), *want = g_malloc(TARGET);
    BlockBackend *source = NULL;
    BlkConvertOptions o = {
        .sources = &source, .nb_sources = 1, .sparse_bytes = 4096,
        .compressed = true,
    };
    GError *error = NULL;

    s->sync = t->sync = true;
    memset(want, 9, TARGET);
    memset(want, 6, SOURCE);
    q_create("fake:t", "size=256k");
    o.target = q_open("fake:t", "", BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(o.target, SOURCE, TARGET - SOURCE,
                                want + SOURCE), 0);
    assert_int_equal(blk_open(test_ctx, "fake:s", q_options("driver=raw"),
                              BDRV_O_RDWR, &source, &error), 0);
    assert_int_equal(blk_pwrite(source, 0, SOURCE, want), 0);
    q_check(blk_convert(&o, &error), error);
    assert_int_equal(blk_pread(o.target, 0, TARGET, buf), 0);
    assert_memory_equal(buf, want, TARGET);
    q_close(o.target);
    q_close(source);
    fake_disk_free(s);
    fake_disk_free(t);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_known_streams_decode),
    cmocka_unit_test(test_a_stream_must_fill_the_cluster_exactly),
    cmocka_unit_test(test_zstd_frames_follow_each_other),
    cmocka_unit_test(test_damaged_streams_are_refused_or_decode_to_something),
    cmocka_unit_test(test_zstd_claims_about_size_cost_nothing),
    cmocka_unit_test_setup_teardown(
        test_images_of_qemu_img_are_read_and_overwritten, test_ctx_setup,
        test_ctx_teardown),
    cmocka_unit_test_setup_teardown(test_two_streams_share_a_sector,
                                    test_ctx_setup, test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_entries_that_lead_nowhere_are_an_error, test_ctx_setup,
        test_ctx_teardown),
    cmocka_unit_test_setup_teardown(test_parts_of_a_cluster_decode_once,
                                    test_ctx_setup, test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_compressed_images_are_written_in_every_geometry, test_ctx_setup,
        test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_compressed_writes_are_refused_where_they_cannot_be,
        test_ctx_setup, test_ctx_teardown),
    cmocka_unit_test_setup_teardown(test_streams_replace_data_when_asked_to,
                                    test_ctx_setup, test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_what_does_not_get_smaller_replaces_data_at_once, test_ctx_setup,
        test_ctx_teardown),
    cmocka_unit_test_setup_teardown(test_filters_pass_compressed_writes_on,
                                    test_ctx_setup, test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_clusters_of_a_request_are_worked_on_in_parallel, test_ctx_setup,
        test_ctx_teardown),
    cmocka_unit_test_setup_teardown(
        test_compressing_may_end_inside_a_longer_target, test_ctx_setup,
        test_ctx_teardown),
};

FIRN_TEST_MAIN(tests)
