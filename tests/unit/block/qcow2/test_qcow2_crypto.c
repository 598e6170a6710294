/* SPDX-License-Identifier: MIT */
/*
 * Secrets, and encrypted images: made and opened here and by qemu-img, wrong
 * and missing passphrases, damaged headers, what reaches the file.
 */
#include "qcow2_fixture.h"

#include "block/qcow2/luks.h"
#include "block/secret.h"
#include "tests/support/qcow2_checker.h"

#define LUKS "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1"
#define KEY  "encrypt.key-secret=s"

static int add_secret(const char *id, const char *options)
{
    g_autoptr(GError) error = NULL;
    int ret = secret_add(id, q_options(options), &error);

    assert_int_equal(ret < 0, error != NULL);
    return ret;
}

/* The libraries keep descriptors of their own: have them open first. */
static int group_setup(void **state)
{
    const LuksParams params = { "aes", "xts-plain64", "sha256", 32, 1 };
    g_autoptr(GBytes) passphrase = g_bytes_new_static("x", 1);
    g_autoptr(GByteArray) header = g_byte_array_new();

    return luks_format(&params, passphrase, header, NULL);
}

static int setup(void **state)
{
    return test_ctx_setup(state) || add_secret("s", "data=abc") ||
           add_secret("other", "data=abd");
}

static int teardown(void **state)
{
    return secret_remove("s") | secret_remove("other") |
           test_ctx_teardown(state);
}

/* ---- secrets ---- */

static void expect_secret(const char *id, const char *want)
{
    g_autoptr(GBytes) b = NULL;
    gsize n;
    const void *data;

    assert_int_equal(secret_lookup(id, &b, NULL), 0);
    data = g_bytes_get_data(b, &n);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(data, want, n);
}

static void test_secrets_come_from_options_and_files(void **state)
{
    g_autofree char *path = test_path("secret");
    g_autofree char *file = g_strdup_printf("file=%s", path);
    g_autofree char *base64 = g_strdup_printf("file=%s,format=base64", path);
    g_autoptr(GError) error = NULL;
    GBytes *none = NULL;

    assert_true(g_file_set_contents(path, "cGFzcw==\n", -1, NULL));
    assert_int_equal(add_secret("a", "data=pass"), 0);
    assert_int_equal(add_secret("a", "data=again"), -EEXIST);
    assert_int_equal(add_secret("b", "data=cGFzcw==,format=base64"), 0);
    assert_int_equal(add_secret("c", file), 0);
    assert_int_equal(add_secret("d", base64), 0);
    expect_secret("a", "pass");
    expect_secret("b", "pass");
    expect_secret("c", "cGFzcw==\n");
    expect_secret("d", "pass");

    assert_int_equal(add_secret("e", ""), -EINVAL);
    assert_int_equal(add_secret("e", "data=a,file=b"), -EINVAL);
    assert_int_equal(add_secret("e", "data=a,format=hex"), -EINVAL);
    assert_int_equal(add_secret("e", "data=a,size=1"), -EINVAL);
    assert_int_equal(add_secret("e", "data=%%%,format=base64"), -EINVAL);
    assert_int_equal(add_secret("e", "data=abcde,format=base64"), -EINVAL);
    assert_int_equal(add_secret("e", "file=/nowhere/secret"), -ENOENT);
    assert_int_equal(secret_lookup("e", &none, &error), -ENOENT);
    assert_non_null(strstr(error->message, "'e'"));
    for (const char *id = "abcd"; *id; id++) {
        char one[2] = { *id };

        assert_int_equal(secret_remove(one), 0);
        assert_int_equal(secret_remove(one), -ENOENT);
    }
}

/* ---- images of ours ---- */

static void put(BlockBackend *blk, uint64_t offset, size_t bytes, uint32_t seed)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    test_fill(buf, bytes, seed);
    assert_int_equal(blk_pwrite(blk, offset, bytes, buf), 0);
}

static void expect(BlockBackend *blk, uint64_t offset, size_t bytes,
                   uint32_t seed)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(blk, offset, bytes, buf), 0);
    if (!test_matches(buf, bytes, seed)) {
        fail_msg("bytes from %d on are wrong", (int)offset);
    }
}

static void expect_byte(BlockBackend *blk, uint64_t offset, size_t bytes,
                        int value)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(blk_pread(blk, offset, bytes, buf), 0);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], value);
    }
}

static void expect_clean(const char *path)
{
    Qcow2CheckResult r;

    assert_int_equal(qcow2_checker_run_file(path, &r), 0);
    if (r.corruptions + r.leaks + r.copied) {
        fail_msg("%d leaks, %d copied, %d corruptions: %s", (int)r.leaks,
                 (int)r.copied, (int)r.corruptions, r.first);
    }
}

static void test_encrypted_images_keep_what_was_written(void **state)
{
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=4k,refcount_bits=1",
        "cluster_size=64k", "cluster_size=2M", "compat=0.10",
        "cluster_size=64k,encrypt.cipher-alg=aes-128",
        "cluster_size=64k,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv",
        ("cluster_size=64k,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain,"
         "encrypt.hash-alg=sha512"),
    };
    g_autofree char *path = test_path("e.qcow2");

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *o = g_strdup_printf("size=8M,%s," LUKS, options[i]);
        BlockBackend *blk;

        q_create(path, o);
        expect_clean(path);
        blk = q_open(path, KEY, BDRV_O_RDWR);
        expect_byte(blk, 0, 8 << 20, 0);
        put(blk, 12345, 70001, 1);          /* parts of sectors */
        put(blk, 1 << 20, 3 << 20, 2);
        assert_int_equal(blk_pwrite_zeroes(blk, 2 << 20, 1 << 20, 0), 0);
        put(blk, (2 << 20) + 512, 512, 3);  /* in a cluster of zeroes */
        q_close(blk);
        expect_clean(path);

        blk = q_open(path, KEY, 0);
        expect(blk, 12345, 70001, 1);
        expect_byte(blk, 0, 12345, 0);
        expect(blk, 1 << 20, 1 << 20, 2);
        expect(blk, (2 << 20) + 512, 512, 3);
        expect_byte(blk, 2 << 20, 512, 0);
        expect_byte(blk, (2 << 20) + 1024, (1 << 20) - 1024, 0);
        q_close(blk);
    }
}

static void test_nothing_readable_reaches_the_file(void **state)
{
    FakeDisk *d = fake_disk_new("e", 0);
    g_autofree uint8_t *file = NULL;
    uint8_t buf[4096], copy[4096];
    BlockBackend *blk;

    memset(buf, 'S', sizeof(buf));
    memset(copy, 'S', sizeof(copy));
    q_create("fake:e", "size=1M," LUKS);
    blk = q_open("fake:e", KEY, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 4096, buf), 0);
    assert_int_equal(blk_pwrite(blk, 8192, 100, buf), 0);
    assert_int_equal(blk_pwrite(blk, 0, 4096, buf), 0); /* in place */
    assert_memory_equal(buf, copy, sizeof(buf)); /* nor the guest's memory */
    q_close(blk);

    file = g_malloc(d->size);
    fake_disk_peek(d, 0, file, d->size);
    assert_null(memmem(file, d->size, "SSSSSSSS", 8));
    fake_disk_free(d);
}

/* The same guest bytes twice: host offset decides how they look. */
static void test_equal_sectors_look_different(void **state)
{
    FakeDisk *d = fake_disk_new("e", 0);
    uint8_t a[512], b[512], buf[1024] = { 0 };
    BlockBackend *blk;
    uint64_t end;

    q_create("fake:e", "size=1M,cluster_size=512," LUKS);
    blk = q_open("fake:e", KEY, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(blk, 0, 1024, buf), 0);
    q_close(blk);
    end = ROUND_UP(d->size, 512);
    fake_disk_peek(d, end - 1024, a, 512);
    fake_disk_peek(d, end - 512, b, 512);
    assert_memory_not_equal(a, b, 512);
    fake_disk_free(d);
}

static void test_snapshots_and_vmstate_are_encrypted(void **state)
{
    g_autofree char *path = test_path("e.qcow2");
    uint8_t state_in[1000], state_out[1000] = { 0 };
    g_autofree char *all = NULL;
    BlockBackend *blk;
    uint64_t size;
    gsize n;

    q_create(path, "size=1M,cluster_size=4k," LUKS);
    blk = q_open(path, KEY, BDRV_O_RDWR);
    put(blk, 0, 20000, 1);
    memset(state_in, 'V', sizeof(state_in));
    assert_int_equal(q_vm_save(blk, 0, state_in, 700), 0);
    assert_int_equal(q_vm_save(blk, 700, state_in + 700, 300), 0);
    assert_int_equal(q_snap_create(blk, "one", 1000), 0);
    put(blk, 4096, 4096, 2);
    assert_int_equal(q_vm_select(blk, "one", &size), 0);
    assert_int_equal(size, 1000);
    assert_int_equal(q_vm_load(blk, 3, state_out, 997), 0);
    assert_memory_equal(state_out, state_in, 997);
    assert_int_equal(q_vm_select(blk, NULL, &size), 0);
    assert_int_equal(q_snap_goto(blk, "one"), 0);
    expect(blk, 0, 20000, 1);
    q_close(blk);
    expect_clean(path);
    assert_true(g_file_get_contents(path, &all, &n, NULL));
    assert_null(memmem(all, n, "VVVVVVVV", 8));
}

/* Zeroes that version 2 has to store, also for a snapshot, are encrypted. */
static void test_encrypted_images_change_versions(void **state)
{
    g_autofree char *base = test_path("base.raw");
    g_autofree char *path = test_path("e.qcow2");
    g_autofree char *bytes = g_strnfill(65536, 'b');
    uint8_t buf[4096];
    BlockBackend *blk;

    assert_true(g_file_set_contents(base, bytes, 65536, NULL));
    q_create(path, "size=64k,cluster_size=4k,backing_file=base.raw,"
             "backing_fmt=raw," LUKS);
    blk = q_open(path, KEY, BDRV_O_RDWR);
    put(blk, 0, 20000, 1);
    q_check(blk_pwrite_zeroes(blk, 4096, 4096, 0), NULL);
    q_check(blk_pwrite_zeroes(blk, 32768, 4096, BDRV_REQ_MAY_UNMAP), NULL);
    assert_int_equal(q_snap_create(blk, "s", 0), 0);
    put(blk, 0, 40000, 2);
    q_check(blk_pwrite_zeroes(blk, 40960, 4096, 0), NULL);
    q_check(blk_amend(blk, q_options("compat=0.10"), false, NULL, NULL, NULL),
            NULL);
    q_close(blk);
    expect_clean(path);
    blk = q_open(path, KEY, BDRV_O_RDWR);
    assert_int_equal(q_state(blk)->hdr.version, 2);
    expect(blk, 0, 40000, 2);
    for (unsigned at = 4096; at < 65536; at += 4096) {
        q_check(blk_pread(blk, at, 4096, buf), NULL);
        if (at >= 40960) {
            assert_int_equal(buf[0], at == 40960 ? 0 : 'b');
            assert_memory_equal(buf, buf + 1, 4095);
        }
    }
    assert_int_equal(q_snap_goto(blk, "s"), 0);
    for (unsigned at = 4096; at <= 32768; at += 32768 - 4096) {
        q_check(blk_pread(blk, at, 4096, buf), NULL);
        assert_int_equal(buf[0], 0);
        assert_memory_equal(buf, buf + 1, 4095);
    }
    expect(blk, 0, 4096, 1);
    q_close(blk);
    expect_clean(path);
}

static void test_encrypted_disks_refuse_what_would_leak(void **state)
{
    g_autofree char *path = test_path("e.qcow2");
    uint8_t buf[65536] = { 0 };
    QEMUIOVector qiov;
    BlockBackend *blk;

    q_create(path, "size=1M," LUKS);
    blk = q_open(path, KEY, BDRV_O_RDWR);
    qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
    assert_int_equal(blk_pwritev(blk, 0, sizeof(buf), &qiov,
                                 BDRV_REQ_WRITE_COMPRESSED), -ENOTSUP);
    q_close(blk);
}

/* ---- keys ---- */

static void test_without_the_passphrase_nothing_opens(void **state)
{
    g_autofree char *path = test_path("e.qcow2");
    g_autofree char *plain = test_path("p.qcow2");
    uint8_t buf[512];
    BlockBackend *blk;

    q_create(path, "size=1M," LUKS);
    q_create(plain, "size=1M");
    q_open_fails(path, NULL, 0, -EACCES, "encrypt.key-secret");
    q_open_fails(path, "encrypt.key-secret=other", 0, -EACCES,
                 "passphrase does not open");
    q_open_fails(path, "encrypt.key-secret=none", 0, -ENOENT, "'none'");
    q_open_fails(path, "encrypt.format=aes," KEY, 0, -EINVAL, "luks");
    q_open_fails(plain, KEY, 0, -EINVAL, "not encrypted");

    blk = q_open(path, NULL, BDRV_O_CHECK);
    assert_int_equal(blk_pread(blk, 0, 512, buf), 0); /* not allocated */
    q_close(blk);
    blk = q_open(path, KEY, BDRV_O_RDWR);
    put(blk, 0, 512, 1);
    q_close(blk);
    blk = q_open(path, NULL, BDRV_O_CHECK | BDRV_O_RDWR);
    assert_int_equal(blk_pread(blk, 0, 512, buf), -EACCES);
    assert_int_equal(blk_pwrite(blk, 0, 512, buf), -EACCES);
    q_close(blk);
}

/* Others may have stored a size that is no multiple of 512. */
static void test_an_odd_size_can_be_grown(void **state)
{
    FakeDisk *d = fake_disk_new("e", 0);
    uint8_t be[8], buf[2048];
    BlockBackend *blk;

    q_create("fake:e", "size=64k," LUKS);
    blk = q_open("fake:e", KEY, BDRV_O_RDWR);
    put(blk, 0, 4096, 1);
    q_close(blk);
    be64_put(be, 1000);
    fake_disk_poke(d, 24, be, 8);
    blk = q_open("fake:e", KEY, BDRV_O_RDWR);
    assert_int_equal(blk_truncate(blk, 65536, BDRV_PREALLOC_OFF, NULL), 0);
    expect(blk, 0, 512, 1);
    assert_int_equal(blk_pread(blk, 512, sizeof(buf), buf), 0);
    for (size_t i = 0; i < sizeof(buf); i++) {
        assert_int_equal(buf[i], 0);
    }
    q_close(blk);
    fake_disk_free(d);
}

static void test_create_refuses_bad_encryption(void **state)
{
    static const struct {
        const char *options;
        int err;
    } bad[] = {
        { "encrypt.format=luks", -EINVAL },
        { "encrypt.format=aes,encrypt.key-secret=s", -ENOTSUP },
        { "encrypt.format=rot13", -EINVAL },
        { "encrypt.format=luks,encrypt.key-secret=none", -ENOENT },
        { "encrypt.key-secret=s", -EINVAL },
        { LUKS ",encrypt.cipher-alg=aes", -EINVAL },
        { LUKS ",encrypt.cipher-alg=serpent-256", -EINVAL },
        { LUKS ",encrypt.cipher-alg=aes-192", -EINVAL },
        { LUKS ",encrypt.cipher-alg=aes-192,encrypt.cipher-mode=cbc", -EINVAL },
        { LUKS ",encrypt.hash-alg=md5", -EINVAL },
        { LUKS ",encrypt.cipher-mode=ctr", -EINVAL },
        { LUKS ",encrypt.ivgen-alg=random", -EINVAL },
        { LUKS ",encrypt.ivgen-hash-alg=sha256", -EINVAL },
        { LUKS ",encrypt.hash-alg=crc32", -EINVAL },
        { "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100001",
          -EINVAL },
    };
    g_autofree char *path = test_path("bad.qcow2");

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *o = g_strdup_printf("size=1M,%s", bad[i].options);
        g_autoptr(GError) error = NULL;
        int ret = blk_create(test_ctx, "qcow2", path, q_options(o), &error);

        if (ret != bad[i].err || !error) {
            fail_msg("%s: %d", bad[i].options, ret);
        }
    }
}

/* ---- hostile headers ---- */

/* Byte offsets in the LUKS header. */
enum { KEY_BYTES = 108, DIGEST_ITER = 164, SLOT0_ITER = 212 };

static void test_damaged_luks_headers_are_refused(void **state)
{
    static const struct {
        unsigned at;
        uint32_t value;
    } bad[] = {
        { 0, 0 }, { 4, 0xffffffff },        /* magic, version */
        { 8, 0x78787878 },                  /* cipher name */
        { 72, 0x78787878 },                 /* hash name */
        { KEY_BYTES, 0 }, { KEY_BYTES, 0xffffffff }, { KEY_BYTES, 65 },
        { DIGEST_ITER, 0xffffffff }, { SLOT0_ITER, 0xffffffff },
        { SLOT0_ITER + 36, 0xffffffff },    /* key material offset */
        { SLOT0_ITER + 40, 0xffffffff },    /* stripes */
        { SLOT0_ITER - 4, 0 },              /* not active */
    };
    FakeDisk *d = fake_disk_new("e", 0);
    uint8_t be[8], old[4];
    uint64_t at;

    q_create("fake:e", "size=1M,encrypt.cipher-alg=aes-128," LUKS);
    /* The extension is the first one. */
    fake_disk_peek(d, 112, be, 4);
    assert_int_equal(be32_get(be), 0x0537be77);
    fake_disk_peek(d, 120, be, 8);
    at = be64_get(be);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        BlockBackend *blk = NULL;
        g_autoptr(GError) error = NULL;
        int ret;

        fake_disk_peek(d, at + bad[i].at, old, 4);
        be32_put(be, bad[i].value);
        fake_disk_poke(d, at + bad[i].at, be, 4);
        ret = blk_open(test_ctx, "fake:e", q_options("driver=qcow2," KEY), 0,
                       &blk, &error);
        if (ret >= 0 || !error) {
            fail_msg("%u: opens", bad[i].at);
        }
        fake_disk_poke(d, at + bad[i].at, old, 4);
    }
    /* The pointer to it. */
    be64_put(be, 1ULL << 40);
    fake_disk_poke(d, 128, be, 8);
    q_open_fails("fake:e", KEY, 0, -EINVAL, "LUKS header");
    be64_put(be, 100);
    fake_disk_poke(d, 128, be, 8);
    q_open_fails("fake:e", KEY, 0, -EINVAL, "LUKS header");
    be32_put(be, 1);
    fake_disk_poke(d, 32, be, 4);
    fake_disk_poke(d, 112, "\xff\xff\xff\xff", 4); /* unknown extension */
    q_open_fails("fake:e", KEY, 0, -ENOTSUP, "AES");
    fake_disk_free(d);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_secrets_come_from_options_and_files),
    TEST(test_encrypted_images_keep_what_was_written),
    TEST(test_nothing_readable_reaches_the_file),
    TEST(test_equal_sectors_look_different),
    TEST(test_snapshots_and_vmstate_are_encrypted),
    TEST(test_encrypted_images_change_versions),
    TEST(test_encrypted_disks_refuse_what_would_leak),
    TEST(test_without_the_passphrase_nothing_opens),
    TEST(test_an_odd_size_can_be_grown),
    TEST(test_create_refuses_bad_encryption),
    TEST(test_damaged_luks_headers_are_refused),
};

FIRN_TEST_MAIN_FULL(tests, group_setup, NULL)
