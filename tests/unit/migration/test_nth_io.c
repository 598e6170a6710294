/* SPDX-License-Identifier: MIT */
/*
 * The Nth request to the disk fails, for every N, during savevm, loadvm and
 * delvm. Each time:
 *
 *   - the operation reports the error (a discard is advice: it may be lost),
 *   - no coroutine and no file descriptor is left, and under ASan no memory;
 *     the pipeline and the caches assert that they are idle when they go,
 *   - qemu-img calls the image clean, or leaky and then clean after
 *     `check -r leaks`; never corrupt,
 *   - the snapshot that was there before still loads, byte for byte.
 *
 * Once with a single failure, once with everything failing from the Nth on.
 */
#include "tests/support/test_main.h"

#include <string.h>

#include "migration/savevm.h"
#include "tests/support/fake_driver.h"
#include "tests/support/helpers.h"

#define RAM_BYTES  (768u * 1024)
#define DISK_BYTES (2u * 1024 * 1024)

typedef struct Device {
    uint32_t value;
} Device;

static const VMStateField device_fields[] = {
    VMSTATE_UINT32(value, Device),
    VMSTATE_END_OF_LIST(),
};

static const VMStateDescription device_vmsd = {
    .name = "device",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = device_fields,
};

typedef struct Machine {
    FakeDisk *disk;
    BlockBackend *blk;
    SaveVMState *save;
    uint8_t *ram;
    Device device;
    bool running;
} Machine;

static int coroutine_fn machine_stop(void *opaque, GError **errp)
{
    ((Machine *)opaque)->running = false;
    return 0;
}

static void coroutine_fn machine_cont(void *opaque)
{
    ((Machine *)opaque)->running = true;
}

static bool machine_is_running(void *opaque)
{
    return ((Machine *)opaque)->running;
}

static const SaveVMOps machine_ops = {
    .stop = machine_stop,
    .cont = machine_cont,
    .is_running = machine_is_running,
};

/* Small pieces, so that the state takes many requests. */
static const SaveVMParams params = {
    .workers = 3,
    .chunk_bytes = 64 * 1024,
};

/* What RAM, device and disk hold at time @seed. */
static void machine_live(Machine *m, uint32_t seed)
{
    g_autofree uint8_t *block = g_malloc(64 * 1024);

    test_fill(m->ram, RAM_BYTES / 2, seed);
    m->device.value = seed;
    test_fill(block, 64 * 1024, seed);
    for (uint64_t at = 0; at < DISK_BYTES; at += DISK_BYTES / 4) {
        assert_int_equal(blk_pwrite(m->blk, at, 64 * 1024, block), 0);
    }
}

static void machine_assert_at(Machine *m, uint32_t seed)
{
    g_autofree uint8_t *block = g_malloc(64 * 1024);

    assert_true(test_matches(m->ram, RAM_BYTES / 2, seed));
    for (uint64_t i = RAM_BYTES / 2; i < RAM_BYTES; i++) {
        assert_int_equal(m->ram[i], 0);
    }
    assert_int_equal(m->device.value, seed);
    for (uint64_t at = 0; at < DISK_BYTES; at += DISK_BYTES / 4) {
        assert_int_equal(blk_pread(m->blk, at, 64 * 1024, block), 0);
        assert_true(test_matches(block, 64 * 1024, seed));
    }
}

static int machine_open(Machine *m)
{
    GError *err = NULL;
    int ret = blk_open(test_ctx, "fake:nth", NULL, BDRV_O_RDWR, &m->blk,
                       &err);

    g_clear_error(&err);
    if (ret < 0) {
        return ret;
    }
    m->save = savevm_new("nth", &machine_ops, m);
    assert_int_equal(savevm_add_ram(m->save, "ram0", m->ram, RAM_BYTES, NULL),
                     0);
    assert_int_equal(savevm_add_device(m->save, "device", 0, &device_vmsd,
                                       &m->device, NULL), 0);
    assert_int_equal(savevm_add_disk(m->save, m->blk, "disk0", NULL), 0);
    m->running = true;
    return 0;
}

static int machine_close(Machine *m)
{
    savevm_free(m->save);
    m->save = NULL;
    return blk_close(m->blk);
}

typedef struct Op {
    Machine *m;
    const char *tag;
    int coroutine_fn (*fn)(SaveVMState *s, const char *tag, GError **errp);
} Op;

static int coroutine_fn do_save(SaveVMState *s, const char *tag,
                                GError **errp)
{
    return savevm_co_save(s, tag, &params, errp);
}

static int coroutine_fn do_load(SaveVMState *s, const char *tag,
                                GError **errp)
{
    return savevm_co_load(s, tag, &params, errp);
}

static int coroutine_fn op_entry(void *opaque)
{
    Op *op = opaque;
    GError *err = NULL;
    int ret = op->fn(op->m->save, op->tag, &err);

    /* The code and the sentence come together. */
    assert_true((ret < 0) == (err != NULL));
    g_clear_error(&err);
    return ret;
}

static int run_op(Machine *m, const char *tag,
                  int coroutine_fn (*fn)(SaveVMState *, const char *,
                                         GError **))
{
    Op op = { .m = m, .tag = tag, .fn = fn };

    return run_coroutine(op_entry, &op);
}

/* Snapshot "first" at time 1, "second" at time 2, now it is time 3. */
static void make_base(Machine *m, const char *path)
{
    BdrvOptions *opts = bdrv_options_new();

    m->disk = fake_disk_new("nth", 0);
    bdrv_options_set(opts, "size", "2M");
    bdrv_options_set(opts, "cluster_size", "4k");
    assert_int_equal(blk_create(test_ctx, "qcow2", "fake:nth", opts, NULL),
                     0);
    assert_int_equal(machine_open(m), 0);
    machine_live(m, 1);
    assert_int_equal(run_op(m, "first", do_save), 0);
    machine_live(m, 2);
    assert_int_equal(run_op(m, "second", do_save), 0);
    machine_live(m, 3);
    assert_int_equal(machine_close(m), 0);
    assert_int_equal(fake_disk_save(m->disk, path), 0);
    assert_int_equal(test_run(NULL, "qemu-img check -q %s", path), 0);
}

/*
 * COPIED flags are hints that a crash may leave behind (docs/qcow2.md); all
 * else that qemu-img counts as corruption is one.
 */
static bool only_copied_findings(const char *output)
{
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);

    for (char **l = lines; *l; l++) {
        if (strstr(*l, "ERROR") && !strstr(*l, "OFLAG_COPIED")) {
            return false;
        }
    }
    return true;
}

static void assert_repairable(const char *path, uint64_t n)
{
    g_autofree char *output = NULL;
    int status = test_run(&output, "qemu-img check %s", path);

    if (status != 0 && status != 3 &&
        !(status == 2 && only_copied_findings(output))) {
        fail_msg("request %" G_GUINT64_FORMAT " failed, then: exit %d\n%s", n,
                 status, output);
    }
    if (status != 0) {
        test_run(NULL, "qemu-img check -q -r leaks %s", path);
        assert_int_equal(test_run(NULL, "qemu-img check -q %s", path), 0);
    }
}

/* After the failure: power is back on what is there. */
static void assert_first_loads(Machine *m, const char *path)
{
    assert_int_equal(fake_disk_load(m->disk, path), 0);
    assert_int_equal(machine_open(m), 0);
    memset(m->ram, 0xee, RAM_BYTES);
    assert_int_equal(run_op(m, "first", do_load), 0);
    machine_assert_at(m, 1);
    assert_true(m->running);
    assert_int_equal(machine_close(m), 0);
}

/* The request that was made to fail, or NULL when there were fewer. */
static const FakeRequest *failed_request(FakeDisk *d)
{
    for (unsigned i = 0; i < d->log->len; i++) {
        if (fake_request(d, i)->ret == -EIO) {
            return fake_request(d, i);
        }
    }
    return NULL;
}

/* Returns whether request @n came to pass. */
static bool fail_one(Machine *m, const char *base, const char *path,
                     const char *tag,
                     int coroutine_fn (*fn)(SaveVMState *, const char *,
                                            GError **),
                     uint64_t n, bool sticky)
{
    unsigned coroutines = co_live_count();
    unsigned fds = test_count_fds();
    const FakeRequest *failed;
    bool discard;
    int ret;

    assert_int_equal(fake_disk_load(m->disk, base), 0);
    assert_int_equal(machine_open(m), 0);
    fake_log_clear(m->disk);
    fake_fail_nth(m->disk, FAKE_ANY, n, EIO, sticky);
    ret = run_op(m, tag, fn);
    failed = failed_request(m->disk);
    discard = failed && failed->type == FAKE_DISCARD;
    if (fn != do_load) {
        assert_true(m->running); /* it goes on, whatever happened */
    }
    if (failed && !discard) {
        assert_true(ret < 0);
    } else if (!failed) {
        assert_int_equal(ret, 0);
    }
    if (!sticky) {
        fake_fail_nth(m->disk, FAKE_ANY, 0, 0, false);
    }
    machine_close(m);
    fake_fail_nth(m->disk, FAKE_ANY, 0, 0, false);

    assert_int_equal(co_live_count(), coroutines);
    assert_int_equal(test_count_fds(), fds);
    assert_int_equal(fake_disk_save(m->disk, path), 0);
    assert_repairable(path, n);
    assert_first_loads(m, path);
    return failed != NULL;
}

static void fail_every(const char *tag,
                       int coroutine_fn (*fn)(SaveVMState *, const char *,
                                              GError **))
{
    g_autofree char *base = test_path("base.qcow2");
    g_autofree char *path = test_path("after.qcow2");
    Machine m = { .ram = blk_try_memalign(RAM_BYTES) };

    if (!test_have_program("qemu-img")) {
        print_message("qemu-img is not installed\n");
        skip();
    }
    memset(m.ram, 0, RAM_BYTES);
    make_base(&m, base);
    for (int sticky = 0; sticky < 2; sticky++) {
        uint64_t n = 1;

        while (fail_one(&m, base, path, tag, fn, n, sticky)) {
            n++;
        }
        print_message("%" G_GUINT64_FORMAT " requests, each failed%s\n",
                      n - 1, sticky ? " with all after it" : "");
        assert_true(n > 10);
    }
    fake_disk_free(m.disk);
    free(m.ram);
}

static void test_savevm_survives_failure_of_every_request(void **state)
{
    fail_every("third", do_save);
}

static void test_savevm_over_old_tag_survives_failure_of_every_request(
    void **state)
{
    fail_every("second", do_save);
}

static void test_loadvm_survives_failure_of_every_request(void **state)
{
    fail_every("second", do_load);
}

static void test_delvm_survives_failure_of_every_request(void **state)
{
    fail_every("second", savevm_co_delete);
}

#define NTH_TEST(name) \
    cmocka_unit_test_setup_teardown(name, test_ctx_setup, test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    NTH_TEST(test_savevm_survives_failure_of_every_request),
    NTH_TEST(test_savevm_over_old_tag_survives_failure_of_every_request),
    NTH_TEST(test_loadvm_survives_failure_of_every_request),
    NTH_TEST(test_delvm_survives_failure_of_every_request),
};

FIRN_TEST_MAIN(tests)
