/* SPDX-License-Identifier: MIT */
/*
 * savevm and loadvm on real qcow2 images, with qemu-img as the second opinion
 * after each step; and every I/O failing once, through blkdebug.
 */
#include "machine.h"

#include <glib/gstdio.h>
#include <sys/wait.h>

#define RAM_PAGES 600

static char *dir;

static char *image_path(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static void create_image(const char *name, const char *cluster_size)
{
    g_autofree char *path = image_path(name);
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    BdrvOptions *options = bdrv_options_new();

    bdrv_options_set(options, "size", "8M");
    bdrv_options_set(options, "cluster_size", cluster_size);
    assert_int_equal(blk_create(ctx, "qcow2", path, options, NULL), 0);
    aio_context_unref(ctx);
}

static void add_image(Machine *m, const char *filename)
{
    GError *err = NULL;
    BlockBackend *blk;

    if (blk_open(m->ctx, filename, NULL, BDRV_O_RDWR, &blk, &err) < 0) {
        fail_msg("%s", err->message);
    }
    machine_add_disk(m, blk);
}

static void machine_init_images(Machine *m, const char *one, const char *two)
{
    g_autofree char *a = image_path(one);
    g_autofree char *b = two ? image_path(two) : NULL;

    machine_init(m, RAM_PAGES, 2);
    add_image(m, a);
    if (b) {
        add_image(m, b);
    }
}

/* --- qemu-img --- */

static bool have_qemu_img(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");

    return path != NULL;
}

/* Run qemu-img; returns its exit status and what it printed. */
static int qemu_img(char **ret_out, const char *verb, const char *a,
                    const char *b, const char *c)
{
    const char *argv[] = { "qemu-img", verb, a, b, c, NULL };
    g_autofree char *errors = NULL;
    int status = 0;

    assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH,
                             NULL, NULL, ret_out, &errors, &status, NULL));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_image(const char *name)
{
    g_autofree char *path = image_path(name);
    g_autofree char *out = NULL;

    if (have_qemu_img() && qemu_img(&out, "check", "-q", path, NULL) != 0) {
        fail_msg("qemu-img check: %s", out);
    }
}

/* Exactly these snapshots, by name, in this order. */
static void check_listed(const char *name, const char *expect)
{
    g_autofree char *path = image_path(name);
    g_autofree char *out = NULL;
    g_autoptr(GString) names = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;

    if (!have_qemu_img()) {
        return;
    }
    assert_int_equal(qemu_img(&out, "snapshot", "-l", path, NULL), 0);
    lines = g_strsplit(out, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        char id[32], tag[64];

        if (i >= 2 && sscanf(lines[i], "%31s %63s", id, tag) == 2) {
            g_string_append_printf(names, "%s ", tag);
        }
    }
    assert_string_equal(names->str, expect);
}

/* --- Tests --- */

static void write_disk(Machine *m, unsigned disk, int byte)
{
    uint8_t buf[8192];

    memset(buf, byte, sizeof(buf));
    assert_int_equal(blk_pwrite(m->disks[disk], 65536 * 3, sizeof(buf), buf),
                     0);
}

static void check_disk(Machine *m, unsigned disk, int byte)
{
    uint8_t buf[8192];

    assert_int_equal(blk_pread(m->disks[disk], 65536 * 3, sizeof(buf), buf),
                     0);
    assert_int_equal(buf[0], byte);
    assert_int_equal(buf[8191], byte);
}

static void check_images(const char *expect)
{
    check_image("a.qcow2");
    check_image("b.qcow2");
    check_listed("a.qcow2", expect);
    check_listed("b.qcow2", expect);
}

static void step(unsigned seed, const char *save, const char *load,
                 const char *delete, unsigned loaded_seed)
{
    Machine m;

    machine_init_images(&m, "a.qcow2", "b.qcow2");
    if (save) {
        machine_fill(&m, seed);
        write_disk(&m, 0, (int)seed);
        write_disk(&m, 1, (int)seed + 100);
        assert_int_equal(machine_save(&m, save, NULL, NULL), 0);
    }
    if (load) {
        assert_int_equal(machine_load(&m, load, NULL, NULL), 0);
        assert_true(machine_is_filled(&m, loaded_seed));
        check_disk(&m, 0, (int)loaded_seed);
        check_disk(&m, 1, (int)loaded_seed + 100);
    }
    if (delete) {
        assert_int_equal(machine_delete(&m, delete, NULL), 0);
    }
    machine_cleanup(&m);
}

static void test_save_load_delete_over_processes(void **state)
{
    static const char *const sizes[] = { "4k", "64k", "2M" };

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        create_image("a.qcow2", sizes[i]);
        create_image("b.qcow2", "64k");

        step(1, "one", NULL, NULL, 0);
        check_images("one ");
        step(2, "two", NULL, NULL, 0);
        step(3, "three", NULL, NULL, 0);
        check_images("one two three ");
        step(0, NULL, "one", NULL, 1);
        check_images("one two three ");
        step(0, NULL, NULL, "two", 0);
        check_images("one three ");
        step(0, NULL, "three", NULL, 3);
        step(4, "one", NULL, NULL, 0);
        check_images("three one ");
        step(0, NULL, "one", NULL, 4);
        step(0, NULL, "three", NULL, 3);
        step(0, NULL, NULL, "three", 0);
        step(0, NULL, NULL, "one", 0);
        check_images("");
    }
}

static void test_params_do_not_change_the_bytes(void **state)
{
    static const SaveVMParams plain = { .workers = 1, .no_readahead = true };
    static const SaveVMParams odd = { .workers = 5, .chunk_bytes = 12288 };
    Machine m;

    create_image("a.qcow2", "64k");
    machine_init_images(&m, "a.qcow2", NULL);
    machine_fill(&m, 1);
    assert_int_equal(machine_save(&m, "plain", &plain, NULL), 0);
    machine_fill(&m, 2);
    assert_int_equal(machine_save(&m, "odd", &odd, NULL), 0);
    machine_fill(&m, 3);
    assert_int_equal(machine_load(&m, "plain", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 1));
    assert_int_equal(machine_load(&m, "odd", &plain, NULL), 0);
    assert_true(machine_is_filled(&m, 2));
    assert_int_equal(machine_load(&m, "plain", &odd, NULL), 0);
    assert_true(machine_is_filled(&m, 1));
    machine_cleanup(&m);
    check_image("a.qcow2");
}

/* More than the pipeline writes before it sets the disk to work. */
static void test_a_large_save_is_flushed_on_the_way(void **state)
{
    static const char *const flush_fails[] = {
        "file.inject-error.0.iotype", "flush",
        "file.inject-error.0.errno", "28",
        "file.inject-error.0.once", "on",
    };
    g_autofree char *path = image_path("a.qcow2");
    BdrvOptions *options = bdrv_options_new();
    BlockBackend *blk;
    Machine m;

    create_image("a.qcow2", "64k");
    machine_init(&m, 20000, 2);
    bdrv_options_set(options, "driver", "qcow2");
    bdrv_options_set(options, "file.driver", "blkdebug");
    bdrv_options_set(options, "file.image.filename", path);
    for (unsigned i = 0; i < G_N_ELEMENTS(flush_fails); i += 2) {
        bdrv_options_set(options, flush_fails[i], flush_fails[i + 1]);
    }
    assert_int_equal(blk_open(m.ctx, NULL, options, BDRV_O_RDWR, &blk, NULL),
                     0);
    machine_add_disk(&m, blk);
    machine_fill(&m, 1);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), -ENOSPC);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    machine_fill(&m, 2);
    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 1));
    machine_cleanup(&m);
    check_image("a.qcow2");
    check_listed("a.qcow2", "s ");
}

/* --- Every I/O fails once --- */

typedef enum FailWhat { FAIL_SAVE, FAIL_LOAD, FAIL_DELETE } FailWhat;

static int run_op(Machine *m, FailWhat what)
{
    switch (what) {
    case FAIL_SAVE:
        machine_fill(m, 2);
        return machine_save(m, "new", NULL, NULL);
    case FAIL_LOAD:
        return machine_load(m, "old", NULL, NULL);
    default:
        return machine_delete(m, "gone", NULL);
    }
}

/* Leaks may remain after a failure, and must be all that does. */
static void repair_and_check(const char *name)
{
    g_autofree char *path = image_path(name);
    g_autofree char *out = NULL;
    int status;

    if (!have_qemu_img()) {
        return;
    }
    status = qemu_img(&out, "check", "-r", "leaks", path);
    if (status != 0) {
        fail_msg("qemu-img check -r leaks: %d %s", status, out);
    }
    check_image(name);
}

/* One image with the snapshots "old" and "gone". */
static void prepare_images(void)
{
    Machine m;

    create_image("a.qcow2", "64k");
    create_image("b.qcow2", "64k");
    machine_init_images(&m, "a.qcow2", "b.qcow2");
    machine_fill(&m, 1);
    assert_int_equal(machine_save(&m, "old", NULL, NULL), 0);
    assert_int_equal(machine_save(&m, "gone", NULL, NULL), 0);
    machine_cleanup(&m);
}

/* Open @name such that its @nth request to the file fails. */
static int add_failing(Machine *m, const char *name, unsigned nth)
{
    g_autofree char *path = image_path(name);
    g_autofree char *n = g_strdup_printf("%u", nth);
    BdrvOptions *options = bdrv_options_new();
    BlockBackend *blk;
    int ret;

    bdrv_options_set(options, "driver", "qcow2");
    bdrv_options_set(options, "file.driver", "blkdebug");
    bdrv_options_set(options, "file.image.filename", path);
    bdrv_options_set(options, "file.inject-error.0.errno", "5");
    bdrv_options_set(options, "file.inject-error.0.nth", n);
    bdrv_options_set(options, "file.inject-error.0.once", "on");
    ret = blk_open(m->ctx, NULL, options, BDRV_O_RDWR, &blk, NULL);
    if (ret == 0) {
        machine_add_disk(m, blk);
    }
    return ret;
}

static void check_old_loads(void)
{
    Machine m;

    machine_init_images(&m, "a.qcow2", "b.qcow2");
    assert_int_equal(machine_load(&m, "old", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 1));
    machine_cleanup(&m);
}

/* Returns whether anything failed. */
static bool fail_nth(FailWhat what, bool second, unsigned nth)
{
    g_autofree char *other = image_path(second ? "a.qcow2" : "b.qcow2");
    Machine m;
    int ret, err;

    prepare_images();
    machine_init(&m, RAM_PAGES, 2);
    if (second) {
        add_image(&m, other);
    }
    ret = add_failing(&m, second ? "b.qcow2" : "a.qcow2", nth);
    if (ret == 0) {
        if (!second) {
            add_image(&m, other);
        }
        machine_fill(&m, 9);
        ret = run_op(&m, what);
    }
    err = machine_close(&m);
    repair_and_check("a.qcow2");
    repair_and_check("b.qcow2");
    check_old_loads();
    return ret < 0 || err < 0;
}

static void fail_each(FailWhat what, bool second)
{
    unsigned clean = 0;
    unsigned failed = 0;

    /* Some failures are harmless, so a few clean runs are not the end. */
    for (unsigned nth = 1; clean < 12; nth++) {
        if (fail_nth(what, second, nth)) {
            clean = 0;
            failed++;
        } else {
            clean++;
        }
    }
    assert_true(failed > 4);
}

static void test_failing_any_io_of_save(void **state)
{
    fail_each(FAIL_SAVE, false);
    fail_each(FAIL_SAVE, true);
}

static void test_failing_any_io_of_load(void **state)
{
    fail_each(FAIL_LOAD, false);
    fail_each(FAIL_LOAD, true);
}

static void test_failing_any_io_of_delete(void **state)
{
    fail_each(FAIL_DELETE, false);
    fail_each(FAIL_DELETE, true);
}

static int setup(void **state)
{
    dir = g_dir_make_tmp("firn-savevm-XXXXXX", NULL);
    return dir ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = { "a.qcow2", "b.qcow2" };

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = image_path(names[i]);

        g_unlink(path);
    }
    g_rmdir(dir);
    g_free(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_load_delete_over_processes),
        cmocka_unit_test(test_params_do_not_change_the_bytes),
        cmocka_unit_test(test_a_large_save_is_flushed_on_the_way),
        cmocka_unit_test(test_failing_any_io_of_save),
        cmocka_unit_test(test_failing_any_io_of_load),
        cmocka_unit_test(test_failing_any_io_of_delete),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
