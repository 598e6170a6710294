/* SPDX-License-Identifier: MIT */
/* Machines through the installed face: save, load, cancel, refuse. */
#include "face.h"

#define RAM_BYTES (4u << 20)

typedef struct Device {
    uint32_t number;
    int64_t deadline;
    uint8_t extra;          /* saved in a subsection, unless 0 */
} Device;

static bool extra_needed(void *opaque)
{
    Device *d = opaque;

    return d->extra != 0;
}

static const VMStateDescription vmstate_extra = {
    .name = "device/extra",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = extra_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(extra, Device),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_device = {
    .name = "device",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(number, Device),
        VMSTATE_TIMER(deadline, Device),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_extra,
        NULL
    },
};

/* A toy machine that logs what is asked of it. */
typedef struct Toy {
    Face *f;
    FirnMachine *m;
    FirnDisk *disk;
    FirnDisk *disk2;        /* NULL: none */
    uint8_t *ram;
    Device device;
    bool running;
    char log[64];           /* "s" stop, "c" cont */
    pthread_t stop_thread;
    int stop_ret;
    bool stop_writes;       /* stop does blocking I/O */
    int stop_write_ret;
} Toy;

static int toy_stop(void *opaque)
{
    Toy *t = opaque;
    char byte = 's';

    t->stop_thread = pthread_self();
    if (t->stop_writes) {
        t->stop_write_ret = firn_disk_pwrite(t->disk, 0, &byte, 1);
    }
    if (t->stop_ret == 0) {
        t->running = false;
    }
    strcat(t->log, "s");
    return t->stop_ret;
}

static void toy_cont(void *opaque)
{
    Toy *t = opaque;

    t->running = true;
    strcat(t->log, "c");
}

static bool toy_is_running(void *opaque)
{
    Toy *t = opaque;

    return t->running;
}

static uint64_t toy_clock_ns(void *opaque)
{
    return 5000000000;
}

static const FirnMachineOps toy_ops = {
    .stop = toy_stop,
    .cont = toy_cont,
    .is_running = toy_is_running,
    .clock_ns = toy_clock_ns,
};

static void must(int ret, GError **err)
{
    if (ret < 0) {
        fail_msg("%d: %s", ret, *err ? (*err)->message : "no message");
    }
}

static void toy_init(Toy *t, Face *f, bool two_disks)
{
    GError *err = NULL;

    *t = (Toy) { .f = f };
    t->ram = aligned_alloc(4096, RAM_BYTES);
    memset(t->ram, 0, RAM_BYTES);
    t->disk = face_disk(f, "qcow2", "toy.qcow2");
    t->m = firn_machine_new(f->ctx, "toy", &toy_ops, t, &err);
    assert_non_null(t->m);
    must(firn_machine_add_ram(t->m, "ram", t->ram, RAM_BYTES, &err), &err);
    must(firn_machine_add_device(t->m, "device", 0, &vmstate_device,
                                 &t->device, &err), &err);
    must(firn_machine_add_disk(t->m, "disk", t->disk, &err), &err);
    if (two_disks) {
        t->disk2 = face_disk(f, "qcow2", "second.qcow2");
        must(firn_machine_add_disk(t->m, "second", t->disk2, &err), &err);
    }
}

static void toy_cleanup(Toy *t)
{
    firn_machine_free(t->m);
    assert_int_equal(firn_disk_close(t->disk), 0);
    assert_int_equal(firn_disk_close(t->disk2), 0);
    free(t->ram);
}

/* Put everything into a state that @with names. */
static void scribble(Toy *t, char with)
{
    char sector[512];

    memset(t->ram, with, RAM_BYTES / 2);
    memset(sector, with, sizeof(sector));
    t->device = (Device) {
        .number = with, .deadline = -1, .extra = with == 'a' ? 7 : 0,
    };
    assert_int_equal(firn_disk_pwrite(t->disk, 4096, sector, 512), 0);
    if (t->disk2) {
        assert_int_equal(firn_disk_pwrite(t->disk2, 4096, sector, 512), 0);
    }
}

static void expect_sector(FirnDisk *disk, char with)
{
    char sector[512];

    assert_int_equal(firn_disk_pread(disk, 4096, sector, 512), 0);
    assert_int_equal(sector[0], with);
    assert_int_equal(sector[511], with);
}

static void expect_state(Toy *t, char with)
{
    for (unsigned i = 0; i < RAM_BYTES; i += 511) {
        assert_int_equal(t->ram[i], i < RAM_BYTES / 2 ? with : 0);
    }
    assert_int_equal(t->device.number, with);
    expect_sector(t->disk, with);
    if (t->disk2) {
        expect_sector(t->disk2, with);
    }
}

static unsigned nb_snapshots(Toy *t)
{
    g_autoptr(GPtrArray) infos = NULL;

    assert_int_equal(firn_machine_list_snapshots(t->m, &infos, NULL), 0);
    return infos->len;
}

/* ---- Save, load, delete, list ---- */

static void check_round_trip(Face *f, bool two_disks)
{
    FirnVmResult result = { 0 };
    GError *err = NULL;
    Toy t;

    toy_init(&t, f, two_disks);
    scribble(&t, 'a');
    must(firn_machine_savevm(t.m, "one", NULL, &result, &err), &err);
    assert_true(result.stream_bytes > RAM_BYTES / 2);
    scribble(&t, 'b');
    must(firn_machine_savevm(t.m, "two", NULL, NULL, &err), &err);
    scribble(&t, 'c');

    must(firn_machine_loadvm(t.m, "one", NULL, &result, &err), &err);
    expect_state(&t, 'a');
    assert_int_equal(t.device.extra, 7);
    assert_true(result.stream_bytes > RAM_BYTES / 2);
    must(firn_machine_loadvm(t.m, "two", NULL, NULL, &err), &err);
    expect_state(&t, 'b');

    assert_int_equal(nb_snapshots(&t), 2);
    must(firn_machine_delvm(t.m, "one", &err), &err);
    assert_int_equal(nb_snapshots(&t), 1);
    assert_int_equal(firn_machine_loadvm(t.m, "one", NULL, NULL, NULL),
                     -ENOENT);
    must(firn_machine_loadvm(t.m, "two", NULL, NULL, &err), &err);
    expect_state(&t, 'b');
    toy_cleanup(&t);
}

static void test_saved_machine_comes_back(void **state)
{
    check_round_trip(*state, false);
}

static void test_saved_machine_comes_back_with_two_disks(void **state)
{
    check_round_trip(*state, true);
}

static void test_list_tells_what_was_saved(void **state)
{
    g_autoptr(GPtrArray) infos = NULL;
    const FirnSnapshotInfo *info;
    FirnVmResult result = { 0 };
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    must(firn_machine_savevm(t.m, "named", NULL, &result, &err), &err);
    must(firn_disk_list_snapshots(t.disk, &infos, &err), &err);

    assert_int_equal(infos->len, 1);
    info = g_ptr_array_index(infos, 0);
    assert_string_equal(info->name, "named");
    assert_string_equal(info->id, "1");
    assert_int_equal(info->vm_clock_ns, 5000000000);
    assert_int_equal(info->disk_bytes, 16 << 20);
    assert_int_equal(info->vm_state_bytes, result.stream_bytes);
    assert_true(info->date_sec > 1700000000);
    toy_cleanup(&t);
}

static void test_snapshot_of_the_same_name_is_replaced(void **state)
{
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, true);
    scribble(&t, 'a');
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    scribble(&t, 'b');
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    scribble(&t, 'c');

    assert_int_equal(nb_snapshots(&t), 1);
    must(firn_machine_loadvm(t.m, "x", NULL, NULL, &err), &err);
    expect_state(&t, 'b');
    toy_cleanup(&t);
}

static void test_parameters_change_how_and_not_what(void **state)
{
    static const FirnVmstateParams params[] = {
        { .workers = 1, .no_readahead = true },
        { .workers = 64, .chunk_bytes = 4096 },
        { .workers = 3, .chunk_bytes = 8 << 20 },
    };
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    for (size_t i = 0; i < G_N_ELEMENTS(params); i++) {
        scribble(&t, 'a');
        must(firn_machine_savevm(t.m, "x", &params[i], NULL, &err), &err);
        scribble(&t, 'b');
        must(firn_machine_loadvm(t.m, "x", &params[i], NULL, &err), &err);
        expect_state(&t, 'a');
    }
    toy_cleanup(&t);
}

/* ---- Refusals ---- */

static void expect_refused(int ret, int want, GError **err)
{
    assert_int_equal(ret, want);
    assert_non_null(*err);
    assert_true(g_error_matches(*err, firn_error_domain(), -want));
    g_clear_error(err);
}

static void test_bad_registrations_are_refused(void **state)
{
    Face *f = *state;
    FirnMachineOps ops = toy_ops;
    FirnContext *other;
    GError *err = NULL;
    FirnDisk *foreign;
    Toy t;

    toy_init(&t, f, false);
    expect_refused(firn_machine_add_ram(t.m, "ram", t.ram, 4096, &err),
                   -EEXIST, &err);
    expect_refused(firn_machine_add_ram(t.m, "odd", t.ram, 4095, &err),
                   -EINVAL, &err);
    expect_refused(firn_machine_add_ram(t.m, "", t.ram, 4096, &err), -EINVAL,
                   &err);
    expect_refused(firn_machine_add_device(t.m, "device", 0, &vmstate_device,
                                           &t.device, &err), -EEXIST, &err);
    expect_refused(firn_machine_add_disk(t.m, "disk", t.disk, &err), -EEXIST,
                   &err);

    other = firn_context_new(FIRN_CONTEXT_THREAD, NULL);
    foreign = face_disk(&(Face) { .ctx = other, .dir = f->dir }, "raw", "o");
    expect_refused(firn_machine_add_disk(t.m, "o", foreign, &err), -EINVAL,
                   &err);
    assert_int_equal(firn_disk_close(foreign), 0);
    firn_context_free(other);

    ops.cont = NULL;
    assert_null(firn_machine_new(f->ctx, "toy", &ops, &t, NULL));
    assert_null(firn_machine_new(f->ctx, "", &toy_ops, &t, NULL));
    toy_cleanup(&t);
}

static void test_bad_operations_are_refused(void **state)
{
    FirnVmstateParams params = { .workers = 65 };
    g_autofree char *long_tag = g_strnfill(256, 'x');
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    t.running = true;
    expect_refused(firn_machine_savevm(t.m, "", NULL, NULL, &err), -EINVAL,
                   &err);
    expect_refused(firn_machine_savevm(t.m, long_tag, NULL, NULL, &err),
                   -EINVAL, &err);
    expect_refused(firn_machine_savevm(t.m, "x", &params, NULL, &err),
                   -EINVAL, &err);
    expect_refused(firn_machine_loadvm(t.m, "none", NULL, NULL, &err),
                   -ENOENT, &err);
    expect_refused(firn_machine_delvm(t.m, "none", &err), -ENOENT, &err);
    assert_true(t.running);
    assert_int_equal(nb_snapshots(&t), 0);
    toy_cleanup(&t);
}

static void test_machine_of_another_kind_is_not_loaded(void **state)
{
    Face *f = *state;
    GError *err = NULL;
    FirnMachine *other;
    Toy t;

    toy_init(&t, f, false);
    scribble(&t, 'a');
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    firn_machine_free(t.m);
    other = firn_machine_new(f->ctx, "another", &toy_ops, &t, &err);
    must(firn_machine_add_ram(other, "ram", t.ram, RAM_BYTES, &err), &err);
    must(firn_machine_add_device(other, "device", 0, &vmstate_device,
                                 &t.device, &err), &err);
    must(firn_machine_add_disk(other, "disk", t.disk, &err), &err);
    scribble(&t, 'b');

    expect_refused(firn_machine_loadvm(other, "x", NULL, NULL, &err), -EINVAL,
                   &err);
    expect_state(&t, 'b');
    t.m = other;
    toy_cleanup(&t);
}

static void test_guest_that_does_not_stop_is_not_saved(void **state)
{
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    t.running = true;
    t.stop_ret = -EIO;

    expect_refused(firn_machine_savevm(t.m, "x", NULL, NULL, &err), -EIO,
                   &err);
    t.stop_ret = 0;
    assert_int_equal(nb_snapshots(&t), 0);
    toy_cleanup(&t);
}

/* ---- The guest ---- */

static void test_running_guest_is_stopped_and_continued(void **state)
{
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    t.running = true;
    scribble(&t, 'a');
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    assert_string_equal(t.log, "sc");
    must(firn_machine_loadvm(t.m, "x", NULL, NULL, &err), &err);
    assert_string_equal(t.log, "scsc");
    assert_true(t.running);

    t.running = false;
    must(firn_machine_savevm(t.m, "y", NULL, NULL, &err), &err);
    assert_string_equal(t.log, "scsc");
    toy_cleanup(&t);
}

/* The guest's last request completes while stop waits for it. */
static void test_stop_may_wait_for_disk_requests(void **state)
{
    GError *err = NULL;
    char byte = 0;
    Toy t;

    toy_init(&t, *state, false);
    t.running = true;
    t.stop_writes = true;
    t.stop_write_ret = -1;
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);

    assert_int_equal(t.stop_write_ret, 0);
    assert_false(pthread_equal(t.stop_thread, pthread_self()));
    assert_int_equal(firn_disk_pread(t.disk, 0, &byte, 1), 0);
    assert_int_equal(byte, 's');
    toy_cleanup(&t);
}

/* ---- Asynchronous operations and cancel ---- */

static void seen_done(void *opaque, int ret, const FirnVmResult *result,
                      const GError *error)
{
    assert_true(ret == 0 ? result && !error : !result && error);
    seen_report(opaque, ret);
}

static void test_asynchronous_save_and_load(void **state)
{
    Face *f = *state;
    Seen seen = SEEN_INIT;
    GError *err = NULL;
    Toy t;

    toy_init(&t, f, false);
    scribble(&t, 'a');
    must(firn_machine_savevm_async(t.m, "x", NULL, seen_done, &seen, &err),
         &err);
    face_wait(f, &seen, 1);
    assert_int_equal(seen.ret, 0);
    scribble(&t, 'b');
    must(firn_machine_loadvm_async(t.m, "x", NULL, seen_done, &seen, &err),
         &err);
    face_wait(f, &seen, 2);
    assert_int_equal(seen.ret, 0);
    expect_state(&t, 'a');
    must(firn_machine_loadvm_async(t.m, "y", NULL, seen_done, &seen, &err),
         &err);
    face_wait(f, &seen, 3);
    assert_int_equal(seen.ret, -ENOENT);
    toy_cleanup(&t);
}

static void test_second_operation_is_busy(void **state)
{
    Face *f = *state;
    GPtrArray *infos = NULL;
    Seen seen = SEEN_INIT;
    GError *err = NULL;
    Toy t;

    toy_init(&t, f, false);
    must(firn_machine_savevm_async(t.m, "x", NULL, seen_done, &seen, &err),
         &err);
    expect_refused(firn_machine_savevm(t.m, "y", NULL, NULL, &err), -EBUSY,
                   &err);
    expect_refused(firn_machine_loadvm_async(t.m, "x", NULL, seen_done, &seen,
                                             &err), -EBUSY, &err);
    expect_refused(firn_machine_delvm(t.m, "x", &err), -EBUSY, &err);
    expect_refused(firn_machine_list_snapshots(t.m, &infos, &err), -EBUSY,
                   &err);
    expect_refused(firn_machine_add_ram(t.m, "r", t.ram, 4096, &err), -EBUSY,
                   &err);
    face_wait(f, &seen, 1);

    assert_int_equal(seen.ret, 0);
    assert_int_equal(nb_snapshots(&t), 1);
    toy_cleanup(&t);
}

static void test_cancel_before_the_operation_begins(void **state)
{
    Face *f = *state;
    Seen seen = SEEN_INIT;
    GError *err = NULL;
    Toy t;

    toy_init(&t, f, false);
    t.running = true;
    firn_machine_cancel(t.m); /* nothing is under way: harmless */
    must(firn_machine_savevm_async(t.m, "x", NULL, seen_done, &seen, &err),
         &err);
    firn_machine_cancel(t.m);
    face_wait(f, &seen, 1);

    assert_int_equal(seen.ret, -ECANCELED);
    assert_true(t.running);
    assert_int_equal(nb_snapshots(&t), 0);
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    toy_cleanup(&t);
}

typedef struct Watch {
    FirnMachine *cancel;    /* NULL: only look */
    unsigned calls;
    FirnProgress last;
} Watch;

static void watch_progress(const FirnProgress *progress, void *opaque)
{
    Watch *w = opaque;

    assert_true(progress->done <= progress->total);
    assert_true(progress->bytes >= w->last.bytes);
    w->calls++;
    w->last = *progress;
    if (w->cancel) {
        firn_machine_cancel(w->cancel);
    }
}

static void test_progress_ends_at_its_total(void **state)
{
    Watch watch = { 0 };
    FirnVmstateParams params = {
        .progress = watch_progress, .opaque = &watch,
    };
    GError *err = NULL;
    Toy t;

    toy_init(&t, *state, false);
    scribble(&t, 'a');
    must(firn_machine_savevm(t.m, "x", &params, NULL, &err), &err);
    assert_true(watch.calls > 0);
    assert_int_equal(watch.last.done, watch.last.total);
    watch = (Watch) { 0 };
    must(firn_machine_loadvm(t.m, "x", &params, NULL, &err), &err);
    assert_true(watch.calls > 0);
    assert_int_equal(watch.last.done, watch.last.total);
    toy_cleanup(&t);
}

/* RAM of its own, large enough that progress is reported before the end. */
static void test_cancel_during_a_save_leaves_no_snapshot(void **state)
{
    const uint64_t bytes = 64u << 20;
    uint8_t *ram = aligned_alloc(4096, bytes);
    Watch watch = { 0 };
    FirnVmstateParams params = {
        .progress = watch_progress, .opaque = &watch,
    };
    GError *err = NULL;
    Toy t;

    memset(ram, 'r', bytes);
    toy_init(&t, *state, true);
    must(firn_machine_add_ram(t.m, "large", ram, bytes, &err), &err);
    t.running = true;
    scribble(&t, 'a');
    watch.cancel = t.m;
    expect_refused(firn_machine_savevm(t.m, "x", &params, NULL, &err),
                   -ECANCELED, &err);
    assert_true(t.running);
    assert_int_equal(nb_snapshots(&t), 0);

    /* The cancel is used up, and the disks are as good as before. */
    must(firn_machine_savevm(t.m, "x", NULL, NULL, &err), &err);
    scribble(&t, 'b');
    must(firn_machine_loadvm(t.m, "x", NULL, NULL, &err), &err);
    expect_state(&t, 'a');
    toy_cleanup(&t);
    free(ram);
}

typedef struct Next {
    Seen seen;
    FirnMachine *m;
    int blocking_ret;
} Next;

static void next_done(void *opaque, int ret, const FirnVmResult *result,
                      const GError *error)
{
    Next *n = opaque;

    n->blocking_ret = firn_machine_delvm(n->m, "x", NULL);
    assert_int_equal(firn_machine_loadvm_async(n->m, "x", NULL, seen_done,
                                               &n->seen, NULL), 0);
}

static void test_done_callback_starts_the_next_operation(void **state)
{
    Face *f = *state;
    Next next = { .seen = SEEN_INIT };
    GError *err = NULL;
    Toy t;

    toy_init(&t, f, false);
    scribble(&t, 'a');
    next.m = t.m;
    must(firn_machine_savevm_async(t.m, "x", NULL, next_done, &next, &err),
         &err);
    face_wait(f, &next.seen, 1);

    assert_int_equal(next.seen.ret, 0);
    assert_int_equal(next.blocking_ret, -EDEADLK);
    expect_state(&t, 'a');
    toy_cleanup(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_saved_machine_comes_back),
        TEST_BOTH(test_saved_machine_comes_back_with_two_disks),
        TEST_BOTH(test_list_tells_what_was_saved),
        TEST_BOTH(test_snapshot_of_the_same_name_is_replaced),
        TEST_BOTH(test_parameters_change_how_and_not_what),
        TEST_BOTH(test_bad_registrations_are_refused),
        TEST_BOTH(test_bad_operations_are_refused),
        TEST_BOTH(test_machine_of_another_kind_is_not_loaded),
        TEST_BOTH(test_guest_that_does_not_stop_is_not_saved),
        TEST_BOTH(test_running_guest_is_stopped_and_continued),
        TEST_BOTH(test_stop_may_wait_for_disk_requests),
        TEST_BOTH(test_asynchronous_save_and_load),
        TEST_CALLER(test_second_operation_is_busy),
        TEST_BOTH(test_cancel_before_the_operation_begins),
        TEST_BOTH(test_progress_ends_at_its_total),
        TEST_BOTH(test_cancel_during_a_save_leaves_no_snapshot),
        TEST_BOTH(test_done_callback_starts_the_next_operation),
    };

    int skip = face_begin();

    if (skip) {
        return skip;
    }
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
