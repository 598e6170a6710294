/* SPDX-License-Identifier: MIT */
/*
 * The snapshot table: as many as there may be, finding them, what is kept of
 * them, opening and applying one, and sharing them with QEMU.
 */
#include "snapshot_fixture.h"

/* ---- many ---- */

/* A v3 table entry without an L1 table; its length, a multiple of 8. */
static size_t put_entry(uint8_t *p, unsigned i)
{
    g_autofree char *id = g_strdup_printf("%u", i + 1);
    g_autofree char *name = g_strdup_printf("snap %u", i);
    size_t id_len = strlen(id), name_len = strlen(name);

    memset(p, 0, 80);
    be16_put(p + 12, id_len);
    be16_put(p + 14, name_len);
    be32_put(p + 36, 16);
    memcpy(p + 56, id, id_len);
    memcpy(p + 56 + id_len, name, name_len);
    return ROUND_UP(56 + id_len + name_len, 8);
}

/* Give the empty image in @f @n snapshots, by writing the table, two clusters
 * of refcounts and the header. */
static void poke_snapshots(Fixture *f, unsigned n)
{
    uint64_t at = ROUND_UP(f->disk->size, 65536);
    g_autofree uint8_t *table = g_malloc(80 * (size_t)n);
    uint8_t header[512], block[8];
    size_t bytes = 0;

    for (unsigned i = 0; i < n; i++) {
        bytes += put_entry(table + bytes, i);
    }
    fake_disk_poke(f->disk, at, table, bytes);
    fake_disk_peek(f->disk, 65536, block, 8);
    for (uint64_t c = at / 65536; c < DIV_ROUND_UP(at + bytes, 65536); c++) {
        uint8_t one[2] = { 0, 1 };

        fake_disk_poke(f->disk, be64_get(block) + c * 2, one, 2);
    }
    fake_disk_peek(f->disk, 0, header, 512);
    be32_put(header + 60, n);
    be64_put(header + 64, at);
    fake_disk_poke(f->disk, 0, header, 512);
}

static void test_there_may_be_65536_snapshots_and_no_more(void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    q_create("fake:q", "size=0");
    poke_snapshots(f, 65534);
    f->blk = q_open("fake:q", NULL, BDRV_O_RDWR);
    assert_int_equal(q_snap_create(f->blk, "new", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "last", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "one too many", 0), -EFBIG);
    s = q_state(f->blk);
    assert_int_equal(s->snapshots->len, 65536);
    assert_int_equal(qcow2_snapshot_find(s, "65535"), 65534);
    assert_int_equal(qcow2_snapshot_find(s, "last"), 65535);
    assert_int_equal(qcow2_snapshot_find(s, "snap 40000"), 40000);
    assert_int_equal(q_snap_delete(f->blk, "snap 7"), 0);
    assert_int_equal(q_snap_delete(f->blk, "last"), 0);
    assert_int_equal(q_snap_create(f->blk, "again", 0), 0);
    expect_clean(f);

    reopen(f, NULL, BDRV_O_RDWR);
    s = q_state(f->blk);
    assert_int_equal(s->snapshots->len, 65535);
    assert_int_equal(qcow2_snapshot_find(s, "snap 7"), -1);
    assert_int_equal(qcow2_snapshot_find(s, "snap 8"), 7);
    assert_int_equal(qcow2_snapshot_find(s, "65536"), 65534); /* "again" */
    assert_int_equal(qcow2_snapshot_find(s, "again"), 65534);
}

static void test_the_first_of_equal_names_is_found_and_ids_go_before_names(
    void **state)
{
    Fixture *f = *state;
    Qcow2State *s;

    open_image(f, "size=64k", NULL);
    s = q_state(f->blk);
    assert_int_equal(q_snap_create(f->blk, "x", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "x", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "2", 0), 0);
    assert_int_equal(qcow2_snapshot_find(s, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "2"), 1);
    assert_int_equal(qcow2_snapshot_find_both(s, NULL, "2"), 2);
    assert_int_equal(qcow2_snapshot_find_both(s, "2", "x"), 1);
    assert_int_equal(qcow2_snapshot_find_both(s, "1", "2"), -1);
    assert_int_equal(q_snap_delete(f->blk, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "x"), 0);
    assert_int_equal(qcow2_snapshot_find(s, "1"), -1);
    assert_int_equal(q_snap_delete(f->blk, "2"), 0); /* by name: id 3 */
    assert_int_equal(q_snap_create(f->blk, "y", 0), 0);
    assert_int_equal(qcow2_snapshot_find(s, "3"), 1); /* used again */
}

/* Unknown extra data, and a name that is no text, survive rewrites. */
static void test_what_is_not_known_of_a_snapshot_is_kept(void **state)
{
    static const uint8_t name[] = { 'n', 0, 0xff, 'm' };
    Fixture *f = *state;
    const Qcow2Snapshot *sn;
    uint8_t extra[100];
    gsize n;

    open_image(f, "size=64k", NULL);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    assert_int_equal(q_snap_create(f->blk, "b", 0), 0);
    {
        Qcow2Snapshot *a = g_ptr_array_index(q_state(f->blk)->snapshots, 0);

        test_fill(extra, sizeof(extra), 3);
        memcpy(extra, a->extra->data, 24);
        g_byte_array_append(a->extra, extra + 24, sizeof(extra) - 24);
        g_bytes_unref(a->name);
        a->name = g_bytes_new(name, sizeof(name));
        qcow2_snapindex_reset(q_state(f->blk));
    }
    assert_int_equal(q_snap_delete(f->blk, "b"), 0);
    reopen(f, NULL, BDRV_O_RDWR);
    assert_int_equal(q_snap_create(f->blk, "c", 0), 0);
    reopen(f, NULL, BDRV_O_RDWR);
    sn = g_ptr_array_index(q_state(f->blk)->snapshots, 0);
    assert_int_equal(sn->extra->len, sizeof(extra));
    assert_memory_equal(sn->extra->data, extra, sizeof(extra));
    assert_memory_equal(g_bytes_get_data(sn->name, &n), name, sizeof(name));
    assert_int_equal(n, sizeof(name));
    assert_int_equal(qcow2_snapshot_find(q_state(f->blk), "n"), 0);
}

/* ---- opening one ---- */

static void test_a_snapshot_opens_read_only_with_its_own_size(void **state)
{
    static const char *const by[] = {
        "snapshot.id=1", "snapshot.name=a", "snapshot.id=1,snapshot.name=a",
    };
    Fixture *f = *state;

    open_image(f, "size=64k,cluster_size=4k", NULL);
    fill(f, 0, CS, 'a');
    fill(f, 60 * 1024, CS, 'e');
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    assert_int_equal(blk_truncate(f->blk, 8 * 1024 * 1024,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    fill(f, 0, CS, 'b');
    fill(f, 7 * 1024 * 1024, CS, 'c');
    assert_int_equal(q_snap_create(f->blk, "big", 0), 0);
    fill(f, 0, CS, 'd');
    q_close(f->blk);
    for (unsigned i = 0; i < G_N_ELEMENTS(by); i++) {
        fake_log_clear(f->disk);
        f->blk = q_open("fake:q", by[i], 0);
        assert_int_equal(blk_getlength(f->blk), 64 * 1024);
        expect(f, 0, CS, 'a');
        expect(f, CS, CS, 0);
        expect(f, 60 * 1024, CS, 'e');
        q_close(f->blk);
        assert_int_equal(fake_count(f->disk, FAKE_WRITE | FAKE_ZERO |
                                             FAKE_DISCARD), 0);
    }
    f->blk = q_open("fake:q", "snapshot.name=big", 0);
    assert_int_equal(blk_getlength(f->blk), 8 * 1024 * 1024);
    expect(f, 0, CS, 'b');
    expect(f, 7 * 1024 * 1024, CS, 'c');
    reopen(f, NULL, BDRV_O_RDWR);
    expect(f, 0, CS, 'd');
    expect_clean(f);
}

static void test_opening_a_snapshot_is_refused_with_a_reason(void **state)
{
    Fixture *f = *state;

    open_image(f, "size=64k", NULL);
    assert_int_equal(q_snap_create(f->blk, "a", 0), 0);
    q_close(f->blk);
    f->blk = NULL;
    q_open_fails("fake:q", "snapshot.name=a", BDRV_O_RDWR, -EROFS,
                 "read-only");
    q_open_fails("fake:q", "snapshot.name=1", 0, -ENOENT, "'1'");
    q_open_fails("fake:q", "snapshot.id=a", 0, -ENOENT, "'a'");
    q_open_fails("fake:q", "snapshot.id=1,snapshot.name=b", 0, -ENOENT,
                 "'b'");
}

/* The disk had another size: version 3 takes it back, version 2 cannot say
 * so. */
static void test_apply_brings_the_size_back_where_it_can(void **state)
{
    Fixture *f = *state;

    open_image(f, "size=64k,cluster_size=4k", NULL);
    fill(f, 0, CS, 'a');
    assert_int_equal(q_snap_create(f->blk, "small", 0), 0);
    assert_int_equal(blk_truncate(f->blk, 8 * 1024 * 1024,
                                  BDRV_PREALLOC_OFF, NULL), 0);
    fill(f, 5 * 1024 * 1024, CS, 'b');
    assert_int_equal(q_snap_create(f->blk, "large", 0), 0);
    assert_int_equal(q_snap_goto(f->blk, "small"), 0);
    assert_int_equal(blk_getlength(f->blk), 64 * 1024);
    expect_clean(f);
    fill(f, 0, CS, 'c');
    assert_int_equal(q_snap_goto(f->blk, "large"), 0);
    assert_int_equal(blk_getlength(f->blk), 8 * 1024 * 1024);
    expect(f, 0, CS, 'a');
    expect(f, 5 * 1024 * 1024, CS, 'b');
    expect_clean(f);
    q_close(f->blk);

    open_image(f, "size=64k,cluster_size=4k,compat=0.10", NULL);
    assert_int_equal(q_snap_create(f->blk, "v2", 0), 0);
    {
        Qcow2Snapshot *sn = g_ptr_array_index(q_state(f->blk)->snapshots, 0);

        be64_put(sn->extra->data + 8, 32 * 1024);
    }
    assert_int_equal(q_snap_goto(f->blk, "v2"), -ENOTSUP);
    expect_clean(f);
}

/* ---- data files, peers ---- */

static void test_images_with_a_data_file_have_neither_snapshots_nor_vmstate(
    void **state)
{
    Fixture *f = *state;
    FakeDisk *data = fake_disk_new("d", 0);
    uint8_t byte = 1;

    q_create("fake:q", "size=1M,data_file=fake:d");
    f->blk = q_open("fake:q", "allow-data-file=on", BDRV_O_RDWR);
    assert_int_equal(q_snap_create(f->blk, "a", 0), -ENOTSUP);
    assert_int_equal(q_snap_goto(f->blk, "a"), -ENOTSUP);
    assert_int_equal(q_snap_delete(f->blk, "a"), -ENOTSUP);
    assert_int_equal(q_vm_save(f->blk, 0, &byte, 1), -ENOTSUP);
    q_close(f->blk);
    f->blk = NULL;
    fake_disk_free(data);
}

/* Snapshots of each kind of image, taken and deleted by both. */
static void test_snapshots_are_shared_with_qemu_img(void **state)
{
    static const char *const options[] = {
        "size=1M,cluster_size=4k", "size=1M,compat=0.10",
        "size=1M,extended_l2=on", "size=1M,refcount_bits=64",
        "size=1M,cluster_size=512,refcount_bits=4",
    };
    Fixture *f = *state;

    if (!test_have_program("qemu-img")) {
        print_message("no qemu-img\n");
        skip();
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *path = test_path("peer.qcow2");
        g_autofree char *raw = test_path("peer.raw");
        g_autofree char *out = NULL;
        char buf[3] = "";

        q_create(path, options[i]);
        f->blk = q_open(path, NULL, BDRV_O_RDWR);
        fill(f, 0, 3 * CS, 'a');
        assert_int_equal(q_snap_create(f->blk, "mine", 0), 0);
        fill(f, CS, CS, 'b');
        q_close(f->blk);
        q_qemu_check(path);
        assert_int_equal(test_run(NULL, "qemu-img snapshot -c theirs '%s'",
                                  path), 0);
        assert_int_equal(test_run(NULL, "qemu-img convert -O raw -l "
                                  "snapshot.name=mine '%s' '%s'", path, raw),
                         0);
        assert_int_equal(test_run(&out, "od -An -c -j 4096 -N 1 '%s'", raw),
                         0);
        assert_non_null(strchr(out, 'a'));

        f->blk = q_open(path, "snapshot.name=theirs", 0);
        assert_int_equal(blk_pread(f->blk, CS, 2, buf), 0);
        assert_string_equal(buf, "bb");
        q_close(f->blk);
        f->blk = q_open(path, NULL, BDRV_O_RDWR);
        fill(f, 0, CS, 'c');
        assert_int_equal(q_snap_delete(f->blk, "mine"), 0);
        assert_int_equal(q_snap_goto(f->blk, "theirs"), 0);
        expect(f, 0, CS, 'a');
        expect(f, CS, CS, 'b');
        q_close(f->blk);
        f->blk = NULL;
        q_qemu_check(path);
        assert_int_equal(test_run(NULL, "qemu-img snapshot -d theirs '%s'",
                                  path), 0);
        q_qemu_check(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_there_may_be_65536_snapshots_and_no_more),
        T(test_the_first_of_equal_names_is_found_and_ids_go_before_names),
        T(test_what_is_not_known_of_a_snapshot_is_kept),
        T(test_a_snapshot_opens_read_only_with_its_own_size),
        T(test_opening_a_snapshot_is_refused_with_a_reason),
        T(test_apply_brings_the_size_back_where_it_can),
        T(test_images_with_a_data_file_have_neither_snapshots_nor_vmstate),
        T(test_snapshots_are_shared_with_qemu_img),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
