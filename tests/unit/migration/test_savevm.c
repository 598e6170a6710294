/* SPDX-License-Identifier: MIT */
/*
 * savevm, loadvm, delvm and list over fake disks: RAM, all or nothing over
 * several disks, failures, cancel, progress.
 */
#include "machine.h"

/* --- RAM --- */

static void test_fresh_ram_is_not_touched_where_it_is_zero(void **state)
{
    SaveVMParams params = { .fresh_ram = true };
    unsigned char resident[64];
    FakeVmstate *fake;
    Machine a, b;

    machine_init(&a, 64, 1);
    fake = machine_add_fake(&a);
    memset(a.ram[0] + 5 * PAGE, 7, PAGE);
    assert_int_equal(machine_save(&a, "s", NULL, NULL), 0);
    machine_init(&b, 64, 1);
    machine_add_fake(&b);
    fake_add_snapshot(b.fakes[0], "s", fake_find_snapshot(fake, "s")
                      ->vmstate->data,
                      fake_find_snapshot(fake, "s")->vmstate->len);
    assert_int_equal(madvise(b.ram[0], 64 * PAGE, MADV_NOHUGEPAGE), 0);

    assert_int_equal(machine_load(&b, "s", &params, NULL), 0);

    assert_int_equal(mincore(b.ram[0], 64 * PAGE, resident), 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(resident[i] & 1, i == 5);
    }
    assert_memory_equal(a.ram[0], b.ram[0], 64 * PAGE);
    machine_cleanup(&b);
    machine_cleanup(&a);
}

/* Dense enough for pages to be faulted in ahead of the load. */
static void test_fresh_ram_that_is_full_comes_back(void **state)
{
    SaveVMParams params = { .fresh_ram = true };
    FakeSnapshot *snap;
    Machine a, b;

    machine_init(&a, 12000, 3000);
    machine_add_fake(&a);
    machine_fill(&a, 3);
    assert_int_equal(machine_save(&a, "s", NULL, NULL), 0);
    snap = fake_find_snapshot(a.fakes[0], "s");
    machine_init(&b, 12000, 3000);
    machine_add_fake(&b);
    fake_add_snapshot(b.fakes[0], "s", snap->vmstate->data,
                      snap->vmstate->len);
    assert_int_equal(machine_load(&b, "s", &params, NULL), 0);
    assert_true(machine_is_filled(&b, 3));
    machine_cleanup(&b);
    machine_cleanup(&a);
}

static void test_big_ram_comes_back_with_all_params(void **state)
{
    static const SaveVMParams all[] = {
        { 0 },
        { .workers = 1, .no_readahead = true },
        { .workers = 3, .chunk_bytes = 8192 },
        { .workers = 64, .chunk_bytes = 4096 },
        { .workers = 2, .chunk_bytes = 65536 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        FakeVmstate *fake;
        Machine m;

        machine_init(&m, 1500, 700);
        fake = machine_add_fake(&m);
        machine_fill(&m, 5);
        assert_int_equal(machine_save(&m, "s", &all[i], NULL), 0);
        assert_int_equal(fake->active->len, 0);
        machine_fill(&m, 6);
        assert_int_equal(machine_load(&m, "s",
                                      &all[G_N_ELEMENTS(all) - 1 - i], NULL),
                         0);
        assert_true(machine_is_filled(&m, 5));
        machine_cleanup(&m);
    }
}

/* --- Several disks --- */

static void machine_init_disks(Machine *m, unsigned nb_disks)
{
    machine_init(m, 3, 2);
    for (unsigned i = 0; i < nb_disks; i++) {
        machine_add_fake(m)->disk = (uint8_t)(10 + i);
    }
    machine_fill(m, 1);
}

static void test_all_disks_get_the_snapshot(void **state)
{
    Machine m;

    machine_init_disks(&m, 3);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    assert_true(fake_find_snapshot(m.fakes[0], "s")->info->vm_state_size > 0);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(fake_find_snapshot(m.fakes[i], "s")
                         ->info->vm_state_size, 0);
        assert_int_equal(m.fakes[i]->requests->len, 0);
    }
    machine_fill(&m, 2);
    for (unsigned i = 0; i < 3; i++) {
        m.fakes[i]->disk = 99;
    }

    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);

    assert_true(machine_is_filled(&m, 1));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(m.fakes[i]->disk, 10 + i);
    }
    machine_cleanup(&m);
}

static void test_save_is_all_or_nothing(void **state)
{
    for (unsigned bad = 0; bad < 3; bad++) {
        g_autofree char *message = NULL;
        Machine m;

        machine_init_disks(&m, 3);
        m.fakes[bad]->fail_op = "create";
        m.fakes[bad]->error = -ENOSPC;

        assert_int_equal(machine_save(&m, "s", NULL, &message), -ENOSPC);

        assert_non_null(strstr(message, "disk"));
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(m.fakes[i]->snapshots->len, 0);
            assert_int_equal(m.fakes[i]->active->len, 0);
        }
        assert_true(m.running);
        assert_true(machine_is_filled(&m, 1));
        m.fakes[bad]->fail_op = NULL;
        assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
        machine_cleanup(&m);
    }
}

static void test_a_snapshot_that_cannot_be_undone_is_named(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    m.fakes[0]->fail_op = "delete";
    m.fakes[1]->fail_op = "create";
    assert_int_equal(machine_save(&m, "s", NULL, &message), -EIO);
    assert_non_null(strstr(message, "could not be removed from disk 'disk0'"));
    machine_cleanup(&m);
}

static void test_a_replaced_snapshot_goes_last(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    machine_fill(&m, 2);
    fake_reset_log(m.fakes[0]);
    fake_reset_log(m.fakes[1]);

    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    assert_string_equal(m.fakes[0]->ops->str, "discard:-;create:s;delete:1;");
    assert_string_equal(m.fakes[1]->ops->str, "create:s;delete:1;");

    /* A failure on the second disk leaves the old ones on both. */
    machine_fill(&m, 3);
    m.fakes[1]->fail_op = "create";
    assert_int_equal(machine_save(&m, "s", NULL, NULL), -EIO);
    m.fakes[1]->fail_op = NULL;
    assert_int_equal(m.fakes[0]->snapshots->len, 1);
    assert_int_equal(m.fakes[1]->snapshots->len, 1);
    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 2));

    /* Two of one name, as after a crash: the newer one counts. */
    machine_fill(&m, 4);
    m.fakes[0]->fail_op = "delete";
    assert_int_equal(machine_save(&m, "s", NULL, &message), -EIO);
    assert_non_null(strstr(message, "is complete"));
    m.fakes[0]->fail_op = NULL;
    machine_fill(&m, 5);
    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 4));
    assert_int_equal(machine_delete(&m, "s", NULL), 0);
    assert_int_equal(m.fakes[0]->snapshots->len, 0);
    machine_cleanup(&m);
}

/*
 * What a save of @seed that is killed between two creates leaves: a snapshot
 * on the first disk only.
 */
static void save_first_disk_only(Machine *m, unsigned seed)
{
    machine_fill(m, seed);
    m->fakes[0]->disk = (uint8_t)(10 * seed);
    m->fakes[0]->fail_op = "delete";
    m->fakes[1]->fail_op = "create";
    assert_int_equal(machine_save(m, "s", NULL, NULL), -EIO);
    m->fakes[0]->fail_op = NULL;
    m->fakes[1]->fail_op = NULL;
}

static unsigned count_listed(Machine *m)
{
    g_autoptr(GPtrArray) list = NULL;

    assert_int_equal(machine_list(m, &list), 0);
    return list->len;
}

static void test_load_takes_the_newest_complete_snapshot(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    save_first_disk_only(&m, 2);
    assert_int_equal(m.fakes[0]->snapshots->len, 2);
    assert_int_equal(count_listed(&m), 1);

    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_true(machine_is_filled(&m, 1));
    assert_int_equal(m.fakes[0]->disk, 10);
    assert_int_equal(m.fakes[1]->disk, 11);

    /* An id means that very one. */
    assert_int_equal(machine_load(&m, "2", NULL, &message), -EINVAL);
    assert_non_null(strstr(message, "snapshot '2' is of different saves on "
                           "disks 'disk0' and 'disk1'"));
    assert_true(m.running);
    assert_int_equal(machine_load(&m, "1", NULL, NULL), 0);

    /* The next save clears up. */
    machine_fill(&m, 3);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    assert_int_equal(m.fakes[0]->snapshots->len, 1);
    assert_int_equal(m.fakes[1]->snapshots->len, 1);
    machine_cleanup(&m);
}

static void test_parts_of_different_saves_are_not_loaded(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    save_first_disk_only(&m, 2);
    g_ptr_array_remove_index(m.fakes[0]->snapshots, 0);
    machine_fill(&m, 4);

    assert_int_equal(machine_load(&m, "s", NULL, &message), -EINVAL);

    assert_non_null(strstr(message, "snapshot 's' is of different saves on "
                           "disks 'disk0' and 'disk1'"));
    assert_true(m.running);
    assert_true(machine_is_filled(&m, 4));
    assert_int_equal(count_listed(&m), 0);
    assert_int_equal(machine_delete(&m, "s", NULL), 0);
    assert_int_equal(m.fakes[0]->snapshots->len, 0);
    assert_int_equal(m.fakes[1]->snapshots->len, 0);
    machine_cleanup(&m);
}

/* Name, date, its fraction and the clock each tell two saves apart. */
static void test_every_mark_of_a_save_counts(void **state)
{
    for (unsigned mark = 0; mark < 4; mark++) {
        BdrvSnapshotInfo *info;
        Machine m;

        machine_init_disks(&m, 2);
        assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
        info = fake_find_snapshot(m.fakes[1], "s")->info;
        info->date_sec += mark == 1;
        info->date_nsec += mark == 2;
        info->vm_clock_nsec += mark == 3;
        assert_int_equal(machine_load(&m, "s", NULL, NULL),
                         mark == 0 ? 0 : -EINVAL);
        machine_cleanup(&m);
    }
}

static void test_load_needs_the_snapshot_on_all_disks(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    fake_add_snapshot(m.fakes[0], "s", "x", 1);
    assert_int_equal(machine_load(&m, "s", NULL, &message), -ENOENT);
    assert_non_null(strstr(message, "'disk1'"));
    assert_true(m.running);
    assert_int_equal(m.stops, 0);
    g_clear_pointer(&message, g_free);

    fake_add_snapshot(m.fakes[1], "s", "", 0);
    g_ptr_array_set_size(m.fakes[0]->snapshots, 0);
    fake_add_snapshot(m.fakes[0], "s", "", 0);
    assert_int_equal(machine_load(&m, "s", NULL, &message), -EINVAL);
    assert_non_null(strstr(message, "no machine state"));
    assert_true(m.running);
    machine_cleanup(&m);
}

static void test_failure_of_a_disk_on_load_says_what_was_applied(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 3);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    m.fakes[2]->fail_op = "goto";
    assert_int_equal(machine_load(&m, "s", NULL, &message), -EIO);
    assert_non_null(strstr(message, "applied to: 'disk0' 'disk1'"));
    assert_non_null(strstr(message, "left stopped"));
    assert_false(m.running);
    machine_cleanup(&m);
}

static void test_delete_and_list(void **state)
{
    g_autofree char *message = NULL;
    GPtrArray *list;
    Machine m;

    machine_init_disks(&m, 2);
    assert_int_equal(machine_save(&m, "a", NULL, NULL), 0);
    assert_int_equal(machine_save(&m, "b", NULL, NULL), 0);
    assert_int_equal(machine_save(&m, "c", NULL, NULL), 0);
    fake_add_snapshot(m.fakes[0], "lonely", "x", 1);

    assert_int_equal(machine_list(&m, &list), 0);
    assert_int_equal(list->len, 3);
    assert_string_equal(((BdrvSnapshotInfo *)list->pdata[1])->name, "b");
    g_ptr_array_unref(list);

    assert_int_equal(machine_delete(&m, "b", NULL), 0);
    assert_null(fake_find_snapshot(m.fakes[0], "b"));
    assert_null(fake_find_snapshot(m.fakes[1], "b"));
    assert_int_equal(machine_delete(&m, "1", NULL), 0); /* an id */
    assert_null(fake_find_snapshot(m.fakes[1], "a"));
    assert_int_equal(machine_delete(&m, "b", &message), -ENOENT);
    g_clear_pointer(&message, g_free);
    m.fakes[1]->fail_op = "delete";
    assert_int_equal(machine_delete(&m, "c", &message), -EIO);
    assert_non_null(strstr(message, "may remain on disk 'disk1'"));
    m.fakes[1]->fail_op = NULL;
    machine_cleanup(&m);
}

/* --- Failures and cancel --- */

static void test_half_loaded_state_is_not_saved(void **state)
{
    g_autofree char *message = NULL;
    Machine m;

    machine_init_disks(&m, 2);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    assert_int_equal(machine_load(&m, "none", NULL, NULL), -ENOENT);
    assert_true(savevm_is_usable(m.state));
    m.fakes[1]->fail_op = "goto";
    assert_int_equal(machine_load(&m, "s", NULL, NULL), -EIO);
    m.fakes[1]->fail_op = NULL;
    assert_false(savevm_is_usable(m.state));

    assert_int_equal(machine_save(&m, "s", NULL, &message), -EINVAL);
    assert_non_null(strstr(message, "not usable since a load failed"));
    assert_int_equal(m.fakes[0]->snapshots->len, 1);
    assert_int_equal(machine_load(&m, "none", NULL, NULL), -ENOENT);
    assert_false(savevm_is_usable(m.state));

    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_true(savevm_is_usable(m.state));
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    machine_cleanup(&m);
}

static void test_failing_any_request_leaves_a_clean_state(void **state)
{
    SaveVMParams params = { .workers = 3, .chunk_bytes = 4096 };

    for (unsigned n = 1; n <= 9; n++) {
        FakeVmstate *fake;
        int ret;
        Machine m;

        machine_init_golden(&m, &fake);
        fake->fail_request = n;
        fake->error = -ENOSPC;
        ret = machine_save(&m, "s", &params, NULL);
        assert_int_equal(ret, n <= 4 ? -ENOSPC : 0);
        assert_true(m.running);
        assert_int_equal(fake->snapshots->len, ret == 0);
        assert_int_equal(fake->active->len, 0);
        fake->fail_request = 0;
        assert_int_equal(machine_save(&m, "s", &params, NULL), 0);
        machine_fill(&m, 9);
        fake->fail_request = n;
        ret = machine_load(&m, "s", &params, NULL);
        assert_true(ret == 0 || ret == -ENOSPC);
        assert_true(n > 4 || ret < 0);
        if (m.running && ret < 0) {
            assert_true(machine_is_filled(&m, 9));
        }
        fake->fail_request = 0;
        m.running = true;
        assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
        assert_true(machine_is_filled(&m, 1));
        machine_cleanup(&m);
    }
}

typedef struct Watch {
    Machine *m;
    unsigned calls;
    unsigned cancel_at;
    FirnProgress last;
} Watch;

static void watch_progress(const FirnProgress *p, void *opaque)
{
    Watch *w = opaque;

    assert_true(p->done <= p->total);
    assert_true(p->done >= w->last.done || w->calls == 0);
    w->last = *p;
    if (++w->calls == w->cancel_at) {
        savevm_cancel(w->m->state);
    }
}

static void test_progress_ends_at_its_total(void **state)
{
    Machine m;
    Watch w = { .m = &m };
    SaveVMParams params = { .progress = watch_progress, .opaque = &w };

    machine_init(&m, 20000, 1);
    machine_add_fake(&m);
    memset(m.ram[0], 1, m.ram_bytes[0]);
    assert_int_equal(machine_save(&m, "s", &params, NULL), 0);
    assert_true(w.calls >= 5); /* 80 MB: one for each 16 MiB */
    assert_int_equal(w.last.done, w.last.total);
    assert_int_equal(w.last.total, 20001 * PAGE);
    assert_int_equal(w.last.pages, 20001);
    assert_true(w.last.bytes > 20000 * PAGE);

    memset(&w, 0, sizeof(w));
    assert_int_equal(machine_load(&m, "s", &params, NULL), 0);
    assert_true(w.calls >= 5);
    assert_int_equal(w.last.done, w.last.total);
    assert_int_equal(w.last.bytes, w.last.total);
    machine_cleanup(&m);
}

static void test_cancel_ends_save_and_load(void **state)
{
    g_autofree char *message = NULL;
    FakeVmstate *fake;
    Machine m;
    Watch w = { .m = &m, .cancel_at = 2 };
    SaveVMParams params = { .progress = watch_progress, .opaque = &w };

    machine_init(&m, 20000, 1);
    fake = machine_add_fake(&m);
    memset(m.ram[0], 1, m.ram_bytes[0]);
    assert_int_equal(machine_save(&m, "s", &params, &message), -ECANCELED);
    assert_non_null(strstr(message, "cancelled"));
    assert_int_equal(fake->snapshots->len, 0);
    assert_int_equal(fake->active->len, 0);
    assert_true(m.running);
    g_clear_pointer(&message, g_free);

    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    w = (Watch) { .m = &m, .cancel_at = 2 };
    assert_int_equal(machine_load(&m, "s", &params, &message), -ECANCELED);
    assert_non_null(strstr(message, "left stopped"));
    assert_false(m.running);
    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    machine_cleanup(&m);
}

static int coroutine_fn save_while_busy(void *opaque)
{
    Machine *m = opaque;
    GError *err = NULL;
    int ret = savevm_co_save(m->state, "second", NULL, &err);

    assert_non_null(err);
    g_error_free(err);
    return ret;
}

static int coroutine_fn first_save(void *opaque)
{
    return savevm_co_save(((Machine *)opaque)->state, "first", NULL, NULL);
}

typedef struct Started {
    int coroutine_fn (*fn)(void *);
    Machine *m;
    int ret;
    bool done;
} Started;

static void coroutine_fn started_entry(void *opaque)
{
    Started *s = opaque;

    s->ret = s->fn(s->m);
    s->done = true;
}

static void test_a_second_operation_is_refused(void **state)
{
    FakeVmstate *fake;
    Machine m;
    Started first = { .fn = first_save, .m = &m };

    machine_init_golden(&m, &fake);
    fake->hold = true;
    aio_co_schedule(m.ctx, co_create(started_entry, &first));
    while (fake->held->len == 0) {
        aio_poll(m.ctx, false);
    }
    assert_int_equal(aio_run_blocking(m.ctx, save_while_busy, &m), -EBUSY);
    fake->hold = false;
    fake_release(fake, 0);
    AIO_WAIT_WHILE(m.ctx, !first.done);
    assert_int_equal(first.ret, 0);
    assert_int_equal(fake->snapshots->len, 1);
    machine_cleanup(&m);
}

static void test_a_machine_that_does_not_stop_is_not_saved(void **state)
{
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    m.fail_stop = -EBUSY;
    assert_int_equal(machine_save(&m, "s", NULL, NULL), -EBUSY);
    assert_int_equal(fake->snapshots->len, 0);
    m.fail_stop = 0;
    m.running = false;
    assert_int_equal(machine_save(&m, "s", NULL, NULL), 0);
    assert_false(m.running);
    assert_int_equal(machine_load(&m, "s", NULL, NULL), 0);
    assert_false(m.running);
    machine_cleanup(&m);
}

static void test_misuse_is_refused(void **state)
{
    g_autofree char *longest = g_strnfill(255, 'x');
    g_autofree char *too_long = g_strnfill(256, 'x');
    FakeVmstate *fake;
    Machine m;

    machine_init_golden(&m, &fake);
    assert_int_equal(savevm_add_ram(m.state, "low", m.ram[0], PAGE, NULL),
                     -EEXIST);
    assert_int_equal(savevm_add_ram(m.state, "odd", m.ram[0], 100, NULL),
                     -EINVAL);
    assert_int_equal(savevm_add_ram(m.state, "", m.ram[0], PAGE, NULL),
                     -EINVAL);
    assert_int_equal(savevm_add_device(m.state, "serial", 0, &vmstate_serial,
                                       &m.serial[0], NULL), -EEXIST);
    assert_int_equal(savevm_add_device(m.state, "ram", 0, &vmstate_serial,
                                       &m.serial[0], NULL), -EEXIST);
    assert_int_equal(savevm_add_disk(m.state, m.disks[0], "again", NULL),
                     -EEXIST);
    assert_int_equal(machine_save(&m, "", NULL, NULL), -EINVAL);
    assert_int_equal(machine_save(&m, too_long, NULL, NULL), -EINVAL);
    assert_int_equal(machine_save(&m, longest, NULL, NULL), 0);
    savevm_remove_disk(m.state, m.disks[0]);
    assert_int_equal(machine_save(&m, "s", NULL, NULL), -ENOTSUP);
    savevm_remove_device(m.state, "serial", 1);
    savevm_remove_device(m.state, "serial", 1);
    machine_cleanup(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh_ram_is_not_touched_where_it_is_zero),
        cmocka_unit_test(test_fresh_ram_that_is_full_comes_back),
        cmocka_unit_test(test_big_ram_comes_back_with_all_params),
        cmocka_unit_test(test_all_disks_get_the_snapshot),
        cmocka_unit_test(test_save_is_all_or_nothing),
        cmocka_unit_test(test_a_snapshot_that_cannot_be_undone_is_named),
        cmocka_unit_test(test_a_replaced_snapshot_goes_last),
        cmocka_unit_test(test_load_takes_the_newest_complete_snapshot),
        cmocka_unit_test(test_parts_of_different_saves_are_not_loaded),
        cmocka_unit_test(test_every_mark_of_a_save_counts),
        cmocka_unit_test(test_load_needs_the_snapshot_on_all_disks),
        cmocka_unit_test(test_failure_of_a_disk_on_load_says_what_was_applied),
        cmocka_unit_test(test_delete_and_list),
        cmocka_unit_test(test_half_loaded_state_is_not_saved),
        cmocka_unit_test(test_failing_any_request_leaves_a_clean_state),
        cmocka_unit_test(test_progress_ends_at_its_total),
        cmocka_unit_test(test_cancel_ends_save_and_load),
        cmocka_unit_test(test_a_second_operation_is_refused),
        cmocka_unit_test(test_a_machine_that_does_not_stop_is_not_saved),
        cmocka_unit_test(test_misuse_is_refused),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
