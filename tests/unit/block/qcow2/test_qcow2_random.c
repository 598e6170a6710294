/* SPDX-License-Identifier: MIT */
/*
 * Seeded sequences of everything a guest and a snapshot can do, next to a
 * model in memory; after each batch qemu-img finds nothing wrong and what the
 * model holds is what qemu-img and we read.
 */
#include "qcow2_fixture.h"

#define MAX_SNAPSHOTS 3
#define MAX_VM        (96 * 1024)

typedef struct Model {
    uint64_t size;
    uint8_t *disk;
    uint8_t *vm;                /* of the active layer, being saved */
    struct {
        char *name;
        uint8_t *disk;
        uint8_t *vm;
        uint64_t vm_size;
    } snap[MAX_SNAPSHOTS];
    GRand *rand;
    unsigned names;
} Model;

static Model *model_new(uint64_t size, uint32_t seed)
{
    Model *m = g_new0(Model, 1);

    m->size = size;
    m->disk = g_malloc0(size);
    m->vm = g_malloc0(MAX_VM);
    m->rand = g_rand_new_with_seed(seed);
    return m;
}

static void model_free(Model *m)
{
    for (int i = 0; i < MAX_SNAPSHOTS; i++) {
        g_free(m->snap[i].name);
        g_free(m->snap[i].disk);
        g_free(m->snap[i].vm);
    }
    g_free(m->disk);
    g_free(m->vm);
    g_rand_free(m->rand);
    g_free(m);
}

static uint32_t draw(Model *m, uint32_t n)
{
    return g_rand_int_range(m->rand, 0, n);
}

/* A range of up to @max bytes, sector-aligned or not. */
static void draw_range(Model *m, uint64_t max, uint64_t *ret_offset,
                       uint64_t *ret_bytes)
{
    uint64_t offset = draw(m, m->size), bytes = 1 + draw(m, max);

    if (draw(m, 2)) {
        offset = ROUND_DOWN(offset, 512ull);
        bytes = ROUND_UP(bytes, 512ull);
    }
    *ret_offset = offset;
    *ret_bytes = MIN(bytes, m->size - offset);
}

static void do_write(Model *m, BlockBackend *blk)
{
    uint64_t offset, bytes;

    draw_range(m, 70000, &offset, &bytes);
    test_fill(m->disk + offset, bytes, g_rand_int(m->rand));
    assert_int_equal(blk_pwrite(blk, offset, bytes, m->disk + offset), 0);
}

static void do_zero(Model *m, BlockBackend *blk)
{
    uint64_t offset, bytes;

    draw_range(m, 200000, &offset, &bytes);
    memset(m->disk + offset, 0, bytes);
    assert_int_equal(blk_pwrite_zeroes(blk, offset, bytes, draw(m, 2)
                                       ? BDRV_REQ_MAY_UNMAP : 0), 0);
}

/* Only whole clusters lose their contents; read back which. */
static void do_discard(Model *m, BlockBackend *blk)
{
    uint64_t offset, bytes;

    draw_range(m, 200000, &offset, &bytes);
    assert_int_equal(blk_pdiscard(blk, offset, bytes), 0);
    if (bytes) {
        g_autofree uint8_t *now = g_malloc(bytes);

        assert_int_equal(blk_pread(blk, offset, bytes, now), 0);
        for (uint64_t i = 0; i < bytes; i++) {
            assert_true(now[i] == m->disk[offset + i] || now[i] == 0);
        }
        memcpy(m->disk + offset, now, bytes);
    }
}

static void do_snapshot(Model *m, BlockBackend *blk)
{
    unsigned i = draw(m, MAX_SNAPSHOTS);
    uint64_t vm = draw(m, 2) ? 1 + draw(m, MAX_VM) : 0;

    if (m->snap[i].name) {
        assert_int_equal(q_snap_delete(blk, m->snap[i].name), 0);
        g_clear_pointer(&m->snap[i].name, g_free);
        g_clear_pointer(&m->snap[i].disk, g_free);
        g_clear_pointer(&m->snap[i].vm, g_free);
        return;
    }
    for (uint64_t pos = 0; pos < vm;) {
        uint64_t n = 1 + draw(m, 50000);

        n = MIN(n, vm - pos);
        test_fill(m->vm + pos, n, g_rand_int(m->rand));
        assert_int_equal(q_vm_save(blk, pos, m->vm + pos, n), 0);
        pos += n;
    }
    m->snap[i].name = g_strdup_printf("s%u", m->names++);
    m->snap[i].disk = g_memdup2(m->disk, m->size);
    m->snap[i].vm = g_memdup2(m->vm, MAX_VM);
    m->snap[i].vm_size = vm;
    assert_int_equal(q_snap_create(blk, m->snap[i].name, vm), 0);
}

static void do_goto(Model *m, BlockBackend *blk)
{
    unsigned i = draw(m, MAX_SNAPSHOTS);

    if (m->snap[i].name) {
        assert_int_equal(q_snap_goto(blk, m->snap[i].name), 0);
        memcpy(m->disk, m->snap[i].disk, m->size);
    }
}

/* A save that is given up. */
static void do_abandon(Model *m, BlockBackend *blk)
{
    test_fill(m->vm, 5000, 1);
    assert_int_equal(q_vm_save(blk, draw(m, 40000), m->vm, 5000), 0);
    assert_int_equal(q_vm_discard(blk), 0);
}

static void do_check_vm(Model *m, BlockBackend *blk)
{
    unsigned i = draw(m, MAX_SNAPSHOTS);
    g_autofree uint8_t *buf = g_malloc(MAX_VM);
    uint64_t size;

    if (!m->snap[i].name) {
        return;
    }
    assert_int_equal(q_vm_select(blk, m->snap[i].name, &size), 0);
    assert_int_equal(size, m->snap[i].vm_size);
    if (size) {
        assert_int_equal(q_vm_load(blk, 0, buf, size), 0);
        assert_memory_equal(buf, m->snap[i].vm, size);
    }
    assert_int_equal(q_vm_load(blk, size, buf, 1), -EINVAL);
    assert_int_equal(q_vm_select(blk, NULL, &size), 0);
}

static void step(Model *m, BlockBackend *blk)
{
    static void (*const ops[])(Model *, BlockBackend *) = {
        do_write, do_write, do_write, do_write, do_zero, do_discard,
        do_snapshot, do_goto, do_check_vm, do_abandon,
    };

    ops[draw(m, G_N_ELEMENTS(ops))](m, blk);
}

static void check_disk(Model *m, BlockBackend *blk)
{
    g_autofree uint8_t *buf = g_malloc(m->size);

    assert_int_equal(blk_pread(blk, 0, m->size, buf), 0);
    for (uint64_t i = 0; i < m->size; i++) {
        if (buf[i] != m->disk[i]) {
            fail_msg("byte %" PRIu64 " differs", i);
        }
    }
}

/* What qemu-img reads, of the disk and of each snapshot. */
static void check_with_qemu(Model *m, const char *path)
{
    g_autofree char *raw = g_strdup_printf("%s.raw", path);

    if (!test_have_program("qemu-img")) {
        return;
    }
    for (int i = -1; i < MAX_SNAPSHOTS; i++) {
        g_autofree char *out = NULL;
        g_autofree char *bytes = NULL;
        g_autofree char *opt = NULL;
        gsize n;

        if (i >= 0 && !m->snap[i].name) {
            continue;
        }
        opt = i < 0 ? g_strdup("")
              : g_strdup_printf("-l snapshot.name=%s", m->snap[i].name);
        if (test_run(&out, "qemu-img convert %s -f qcow2 -O raw '%s' '%s'",
                     opt, path, raw) != 0) {
            fail_msg("%s", out);
        }
        assert_true(g_file_get_contents(raw, &bytes, &n, NULL));
        assert_int_equal(n, m->size);
        assert_memory_equal(bytes, i < 0 ? m->disk : m->snap[i].disk, n);
    }
}

static void run_sequence(const char *create, const char *open_options,
                         uint64_t size, uint32_t seed, unsigned batches,
                         unsigned steps)
{
    g_autofree char *path = test_path("random.qcow2");
    Model *m = model_new(size, seed);
    BlockBackend *blk;

    q_create(path, create);
    for (unsigned b = 0; b < batches; b++) {
        blk = q_open(path, open_options, BDRV_O_RDWR | BDRV_O_UNMAP);
        for (unsigned i = 0; i < steps; i++) {
            step(m, blk);
            if (draw(m, 20) == 0) {
                assert_int_equal(blk_flush(blk), 0);
                q_qemu_check(path);
            }
        }
        check_disk(m, blk);
        assert_int_equal(qcow2_cache_busy(q_state(blk)->l2_cache), 0);
        q_close(blk);
        q_qemu_check(path);
        check_with_qemu(m, path);
        blk = q_open(path, open_options, 0);
        check_disk(m, blk);
        q_close(blk);
    }
    model_free(m);
}

static void test_random_sequences_agree_with_the_model(void **state)
{
    static const struct {
        const char *create;
        const char *open;
        uint64_t size;
    } sets[] = {
        { "size=4M", "", 4 << 20 },
        { "size=4M,cluster_size=4k", "l2-cache-size=8k,"
          "l2-cache-entry-size=512", 4 << 20 },
        { "size=1000k,cluster_size=512", "l2-cache-size=1k,"
          "l2-cache-entry-size=512", 1000 << 10 },
        { "size=2M,cluster_size=512,refcount_bits=64", "", 2 << 20 },
        { "size=2M,cluster_size=1k,refcount_bits=4", "", 2 << 20 },
        { "size=6M,cluster_size=2M,refcount_bits=32", "", 6 << 20 },
        { "size=2M,cluster_size=8k,compat=0.10", "", 2 << 20 },
        { "size=2M,cluster_size=16k,extended_l2=on", "l2-cache-size=1k,"
          "l2-cache-entry-size=512", 2 << 20 },
        { "size=4100k,extended_l2=on", "discard-no-unref=on", 4100 << 10 },
    };
    const char *env = g_getenv("FIRN_TEST_SEED");
    uint32_t seed = env ? atoi(env) : 1;

    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
        run_sequence(sets[i].create, sets[i].open, sets[i].size, seed + i, 3,
                     60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_random_sequences_agree_with_the_model, test_ctx_setup,
            test_ctx_teardown),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
