/* SPDX-License-Identifier: MIT */
/*
 * Every event of blkdebug: what makes the driver pass it. A breakpoint stops
 * the operation there and it goes on when resumed; an error that the event
 * arms is what the operation, or the flush after it, returns.
 */
#include "image_fixture.h"

#define ERRNO ENOMEDIUM

typedef enum Op {
    OPEN, READ, WRITE, PART, COMPRESSED, ZERO, DISCARD, MANY, HUGE_WRITE,
    SAVE, LOAD, GROW, SHRINK, EMPTY, AMEND, SNAPSHOT,
} Op;

typedef enum Image {
    NEW, TINY, DATA, SMALL, SHARED, OVER, PACKED, STATE, RAW, TOP,
} Image;

static const struct Case {
    BlkdebugEvent event;
    Image image;
    Op op;
    /* No error comes of it: clusters only leak, or what follows goes to
     * another file. */
    bool quiet;
} cases[] = {
    { BLKDBG_L1_UPDATE, NEW, .op = WRITE },
    { BLKDBG_L1_GROW_ALLOC_TABLE, NEW, .op = GROW },
    { BLKDBG_L1_GROW_WRITE_TABLE, NEW, .op = GROW },
    { BLKDBG_L1_GROW_ACTIVATE_TABLE, NEW, .op = GROW },
    { BLKDBG_L1_SHRINK_WRITE_TABLE, SMALL, .op = SHRINK },
    { BLKDBG_L1_SHRINK_FREE_L2_CLUSTERS, SMALL, .op = SHRINK,
      .quiet = true },
    { BLKDBG_L2_LOAD, DATA, .op = READ },
    { BLKDBG_L2_UPDATE, NEW, .op = WRITE },
    { BLKDBG_L2_UPDATE_COMPRESSED, NEW, .op = COMPRESSED },
    { BLKDBG_L2_ALLOC_COW_READ, SHARED, .op = WRITE },
    { BLKDBG_L2_ALLOC_WRITE, NEW, .op = WRITE },
    { BLKDBG_READ_AIO, DATA, .op = READ },
    { BLKDBG_READ_BACKING_AIO, OVER, .op = READ, .quiet = true },
    { BLKDBG_READ_COMPRESSED, PACKED, .op = READ },
    { BLKDBG_WRITE_AIO, DATA, .op = PART },
    { BLKDBG_WRITE_COMPRESSED, NEW, .op = COMPRESSED },
    { BLKDBG_VMSTATE_LOAD, STATE, .op = LOAD },
    { BLKDBG_VMSTATE_SAVE, NEW, .op = SAVE },
    { BLKDBG_COW_READ, SHARED, .op = PART },
    { BLKDBG_COW_WRITE, SHARED, .op = PART },
    { BLKDBG_REFTABLE_LOAD, NEW, .op = OPEN },
    { BLKDBG_REFTABLE_GROW, TINY, .op = HUGE_WRITE },
    { BLKDBG_REFTABLE_UPDATE, SMALL, .op = SHRINK, .quiet = true },
    { BLKDBG_REFBLOCK_LOAD, NEW, .op = WRITE },
    { BLKDBG_REFBLOCK_UPDATE, NEW, .op = AMEND },
    { BLKDBG_REFBLOCK_UPDATE_PART, NEW, .op = WRITE },
    { BLKDBG_REFBLOCK_ALLOC, NEW, .op = WRITE },
    { BLKDBG_REFBLOCK_ALLOC_HOOKUP, TINY, .op = MANY },
    { BLKDBG_REFBLOCK_ALLOC_WRITE, TINY, .op = MANY },
    { BLKDBG_REFBLOCK_ALLOC_WRITE_BLOCKS, TINY, .op = HUGE_WRITE },
    { BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE, TINY, .op = HUGE_WRITE },
    { BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE, TINY, .op = HUGE_WRITE },
    { BLKDBG_CLUSTER_ALLOC, NEW, .op = WRITE },
    { BLKDBG_CLUSTER_ALLOC_BYTES, NEW, .op = COMPRESSED },
    { BLKDBG_CLUSTER_ALLOC_SPACE, NEW, .op = PART },
    { BLKDBG_CLUSTER_FREE, DATA, .op = DISCARD },
    { BLKDBG_SNAPSHOT_TABLE_WRITE, NEW, .op = SNAPSHOT },
    { BLKDBG_SNAPSHOT_TABLE_SWITCH, NEW, .op = SNAPSHOT },
    { BLKDBG_EMPTY_IMAGE_PREPARE, DATA, .op = EMPTY },
    { BLKDBG_FLUSH_TO_OS, DATA, .op = ZERO },
    { BLKDBG_FLUSH_TO_DISK, DATA, .op = WRITE },
    { BLKDBG_PWRITEV_RMW_HEAD, RAW, .op = PART },
    { BLKDBG_PWRITEV_RMW_AFTER_HEAD, RAW, .op = PART },
    { BLKDBG_PWRITEV_RMW_TAIL, RAW, .op = PART },
    { BLKDBG_PWRITEV_RMW_AFTER_TAIL, RAW, .op = PART },
    { BLKDBG_PWRITEV, DATA, .op = PART },
    { BLKDBG_PWRITEV_ZERO, RAW, .op = ZERO },
    { BLKDBG_PWRITEV_DONE, DATA, .op = PART },
    { BLKDBG_COR_WRITE, TOP, .op = READ },
};

static FakeDisk *disk, *base;
static BlockBackend *blk;
static unsigned hits;

/* ---- operations ---- */

static int write_bytes(uint64_t offset, uint64_t bytes, unsigned flags)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    memset(buf, 'w', bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    return blk_pwritev(blk, offset, bytes, &qiov, flags);
}

static int read_bytes(uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    return blk_pread(blk, 0, bytes, buf);
}

static int change(Op op)
{
    switch (op) {
    case GROW:
        return blk_truncate(blk, 1 << 30, BDRV_PREALLOC_OFF, NULL);
    case SHRINK:
        return blk_truncate(blk, 65536, BDRV_PREALLOC_OFF, NULL);
    case EMPTY:
        return blk_make_empty(blk, NULL);
    case AMEND:
        return blk_amend(blk, q_options("refcount_bits=1"), false, NULL, NULL,
                         NULL);
    default:
        return q_snap_create(blk, "t", 0);
    }
}

static int do_op(Op op)
{
    uint8_t state[1024] = "state";

    switch (op) {
    case OPEN:
        return 0;
    case READ:
        return read_bytes(4096);
    case WRITE:
        return write_bytes(0, 4096, 0);
    case PART:
        return write_bytes(100, 200, 0);
    case COMPRESSED:
        return write_bytes(0, 4096, BDRV_REQ_WRITE_COMPRESSED);
    case ZERO:
        return blk_pwrite_zeroes(blk, 0, 4096, 0);
    case DISCARD:
        return blk_pdiscard(blk, 0, 4096);
    case MANY:
        return write_bytes(0, 400 << 10, 0);
    case HUGE_WRITE:
        return write_bytes(0, 9 << 20, 0);
    case SAVE:
        return q_vm_save(blk, 0, state, sizeof(state));
    case LOAD:
        return q_vm_load(blk, 0, state, sizeof(state));
    default:
        return change(op);
    }
}

static int op_and_flush(Op op)
{
    int ret = do_op(op), ret2 = blk_flush(blk);

    return ret < 0 ? ret : ret2;
}

/* ---- images ---- */

static const char *create_options(Image image)
{
    return image == SMALL || image == TINY ? "size=16M,cluster_size=512" :
           image == OVER || image == TOP
           ? "size=64k,cluster_size=4k,backing_file=fake:base,backing_fmt=raw"
           : "size=16M,cluster_size=4k";
}

static void fill(Image image)
{
    blk = q_open("fake:x", NULL, BDRV_O_RDWR);
    assert_int_equal(do_op(image == PACKED ? COMPRESSED :
                           image == STATE ? SAVE : WRITE), 0);
    if (image == SHARED) {
        assert_int_equal(q_snap_create(blk, "s", 0), 0);
    }
    if (image == SMALL) {
        assert_int_equal(do_op(MANY), 0);
    }
    q_close(blk);
}

static void make_image(Image image)
{
    base = fake_disk_new("base", 65536);
    disk = fake_disk_new("x", image == RAW ? 65536 : 0);
    base->zeroes = disk->zeroes = true;
    if (image != RAW) {
        q_create("fake:x", create_options(image));
    }
    if (image != RAW && image != NEW && image != TINY && image != OVER &&
        image != TOP) {
        fill(image);
    }
}

static void free_image(void)
{
    fake_disk_free(disk);
    fake_disk_free(base);
}

/* Open with blkdebug below, and @rules, which are of inject-error.0. */
static int try_open(Image image, const char *rules)
{
    const char *const top = "driver=blkdebug,copy-on-read=on,"
                            "image.driver=qcow2,image.file.driver=fake,"
                            "image.file.name=x";
    const char *const raw = "driver=raw,file.driver=blkdebug,file.align=512,"
                            "file.image=fake:x";
    const char *const below = "driver=qcow2,file.driver=blkdebug,"
                              "file.image=fake:x";
    g_autofree char *rule = g_strdup_printf(
        "%sinject-error.0.", image == TOP ? "" : "file.");
    g_auto(GStrv) parts = g_strsplit(rules, ",", 0);
    g_autoptr(GString) text = g_string_new(image == TOP ? top :
                                           image == RAW ? raw : below);

    for (char **p = parts; *p; p++) {
        g_string_append_printf(text, ",%s%s", rule, *p);
    }
    return blk_open(test_ctx, NULL, q_options(text->str),
                    BDRV_O_RDWR | BDRV_O_UNMAP, &blk, NULL);
}

/* ---- tests ---- */

static void resume_at_once(const char *tag, bool resumed)
{
    if (!resumed) {
        hits++;
        assert_int_equal(bdrv_debug_resume(blk_bs(blk), tag), 0);
    }
}

static void test_each_event_stops_its_operation_once(void **state)
{
    bdrv_debug_set_notify(resume_at_once);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct Case *c = &cases[i];

        if (c->op == OPEN) {
            continue;
        }
        make_image(c->image);
        assert_int_equal(try_open(c->image, ""), 0);
        assert_int_equal(bdrv_debug_breakpoint(
            blk_bs(blk), blkdebug_event_name(c->event), "A"), 0);
        hits = 0;
        if (op_and_flush(c->op) < 0 || hits != 1) {
            fail_msg("%s: %u hits", blkdebug_event_name(c->event), hits);
        }
        q_close(blk);
        free_image();
    }
    bdrv_debug_set_notify(NULL);
}

static void test_an_error_armed_by_each_event_is_returned(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct Case *c = &cases[i];
        const char *name = blkdebug_event_name(c->event);
        g_autofree char *rules = g_strdup_printf(
            "event=%s,errno=%d,once=on", name, ERRNO);
        int ret;

        make_image(c->image);
        ret = try_open(c->image, rules);
        if (ret == 0) {
            ret = op_and_flush(c->op);
            blk_close(blk);
        }
        if (ret != (c->quiet ? 0 : -ERRNO)) {
            fail_msg("%s: %d", name, ret);
        }
        free_image();
    }
}

static void test_the_table_has_every_event(void **state)
{
    for (int event = BLKDBG_NONE + 1; event < BLKDBG__MAX; event++) {
        bool found = false;

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            found = found || (int)cases[i].event == event;
        }
        if (!found) {
            fail_msg("%s", blkdebug_event_name(event));
        }
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                 test_ctx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_the_table_has_every_event),
        TEST(test_each_event_stops_its_operation_once),
        TEST(test_an_error_armed_by_each_event_is_returned),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
