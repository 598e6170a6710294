/* SPDX-License-Identifier: MIT */
/*
 * Power cuts while a machine with two disks is saved, saved over, loaded or
 * deleted. After each cut the snapshot in question is whole on both disks (RAM,
 * devices, disk contents) or is not there, and the older one is whole.
 *
 *   FIRN_CRASH_SAVEVM_STATES=N   about so many for each; 300 by default
 */
#include "tests/unit/migration/machine.h"

#include "block/qcow2/qcow2_int.h"
#include "tests/support/qcow2_checker.h"
#include "tests/support/record_driver.h"

#define DISKS     2
#define RAM_PAGES 24
#define DISK_SIZE 65536

static const char *const filenames[DISKS] = { "rec:a", "rec:b" };

/* What runs while requests are kept. */
typedef struct Scene {
    const char *what;
    int (*run)(Machine *m);
    const char *tag;        /* of the snapshot in question */
    unsigned before;        /* seed it has before, 0: it is not there */
    unsigned after;
} Scene;

typedef struct Stage {
    RecordDisk *disk[DISKS];
    RecordLog *log;
    const Scene *scene;
    unsigned acked;         /* length of the log when the scene had ended */
    char where[160];
} Stage;

static unsigned nb_states;

static void start(Machine *m)
{
    machine_init(m, RAM_PAGES, 2);
    for (unsigned i = 0; i < DISKS; i++) {
        BdrvOptions *o = bdrv_options_new();
        BlockBackend *blk;
        GError *error = NULL;

        bdrv_options_set(o, "driver", "qcow2");
        if (blk_open(m->ctx, filenames[i], o, BDRV_O_RDWR, &blk, &error)) {
            fail_msg("%s", error->message);
        }
        machine_add_disk(m, blk);
    }
}

static void fill(Machine *m, unsigned seed)
{
    uint8_t buf[DISK_SIZE];

    machine_fill(m, seed);
    for (unsigned i = 0; i < DISKS; i++) {
        memset(buf, (int)(seed * 16 + i), sizeof(buf));
        assert_int_equal(blk_pwrite(m->disks[i], 0, sizeof(buf), buf), 0);
    }
}

static bool is_filled(Machine *m, unsigned seed)
{
    uint8_t buf[DISK_SIZE];

    for (unsigned i = 0; i < DISKS; i++) {
        assert_int_equal(blk_pread(m->disks[i], 0, sizeof(buf), buf), 0);
        if (buf[0] != seed * 16 + i ||
            memcmp(buf, buf + 1, sizeof(buf) - 1) != 0) {
            return false;
        }
    }
    return machine_is_filled(m, seed);
}

/* ---- scenes ---- */

static int save_new(Machine *m)
{
    fill(m, 3);
    return machine_save(m, "new", NULL, NULL);
}

static int save_over(Machine *m)
{
    fill(m, 3);
    return machine_save(m, "gone", NULL, NULL);
}

static int load_gone(Machine *m)
{
    return machine_load(m, "gone", NULL, NULL);
}

static int delete_gone(Machine *m)
{
    return machine_delete(m, "gone", NULL);
}

static const Scene scenes[] = {
    { "save", save_new, "new", 0, 3 },
    { "save over", save_over, "gone", 2, 3 },
    { "load", load_gone, "gone", 2, 2 },
    { "delete", delete_gone, "gone", 2, 0 },
};

/* Images with the snapshots "old" and "gone". */
static void prepare(Stage *st)
{
    Machine m;

    for (unsigned i = 0; i < DISKS; i++) {
        BdrvOptions *o = bdrv_options_new();
        AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);

        st->disk[i] = record_disk_new(filenames[i] + 4);
        bdrv_options_set(o, "size", "256k");
        bdrv_options_set(o, "cluster_size", i ? "4k" : "2k");
        assert_int_equal(blk_create(ctx, "qcow2", filenames[i], o, NULL), 0);
        aio_context_unref(ctx);
    }
    start(&m);
    fill(&m, 1);
    assert_int_equal(machine_save(&m, "old", NULL, NULL), 0);
    fill(&m, 2);
    assert_int_equal(machine_save(&m, "gone", NULL, NULL), 0);
    machine_cleanup(&m);
}

static void record(Stage *st)
{
    Machine m;

    st->log = record_start(st->disk, DISKS);
    start(&m);
    assert_int_equal(st->scene->run(&m), 0);
    st->acked = st->log->entries->len;
    machine_cleanup(&m);
    record_stop(st->log);
}

/* ---- afterwards ---- */

static void check_bytes(Stage *st)
{
    for (unsigned i = 0; i < DISKS; i++) {
        Qcow2CheckResult r;

        assert_int_equal(qcow2_checker_run(st->disk[i]->mem, st->disk[i]->len,
                                           &r), 0);
        if (r.corruptions) {
            fail_msg("%s: %s: %s", st->where, filenames[i], r.first);
        }
    }
}

/* Load @tag: 0, or the seed of what it has. */
static unsigned loaded(Stage *st, Machine *m, const char *tag)
{
    g_autofree char *message = NULL;
    int ret = machine_load(m, tag, NULL, &message);

    for (unsigned seed = 1; ret == 0 && seed <= 3; seed++) {
        if (is_filled(m, seed)) {
            return seed;
        }
    }
    if (ret != -ENOENT) {
        fail_msg("%s: %s: %s", st->where, tag,
                 message ? message : "is of several saves");
    }
    return 0;
}

static void judge(Stage *st, unsigned k)
{
    const Scene *sc = st->scene;
    unsigned seed;
    Machine m;

    check_bytes(st);
    start(&m);
    seed = loaded(st, &m, "old");
    if (seed != 1) {
        fail_msg("%s: the older snapshot has %u", st->where, seed);
    }
    seed = loaded(st, &m, sc->tag);
    if (seed != sc->after && (k >= st->acked || seed != sc->before)) {
        fail_msg("%s: the snapshot has %u", st->where, seed);
    }
    machine_cleanup(&m);
    check_bytes(st);
}

static void try_state(Stage *st, unsigned k, unsigned nth)
{
    GRand *rand = g_rand_new_with_seed(k * 97 + nth);
    RecordMode mode = nth ? g_rand_int_range(rand, 1, RECORD_MODES)
                          : RECORD_ALL_ENDED;
    RecordMark m[DISKS];

    for (unsigned i = 0; i < DISKS; i++) {
        m[i] = record_mark(st->disk[i]);
    }
    snprintf(st->where, sizeof(st->where), "%s, cut %u of %u, state %u (%s)",
             st->scene->what, k, st->log->entries->len, nth,
             record_mode_name(mode));
    record_build(st->log, mode, rand);
    judge(st, k);
    for (unsigned i = 0; i < DISKS; i++) {
        record_undo(st->disk[i], m[i]);
    }
    g_rand_free(rand);
    nb_states++;
}

static void play(const Scene *scene)
{
    const char *text = getenv("FIRN_CRASH_SAVEVM_STATES");
    unsigned goal = text ? (unsigned)strtoul(text, NULL, 10) : 300;
    Stage st = { .scene = scene };
    unsigned n, each;

    prepare(&st);
    record(&st);
    n = st.log->entries->len;
    each = MAX(goal / (n + 1), 2);
    for (unsigned k = 0; k <= n; k++) {
        record_seek(st.log, k);
        for (unsigned i = 0; i < each && (!i || st.log->loose->len); i++) {
            try_state(&st, k, i);
        }
    }
    record_log_free(st.log);
    for (unsigned i = 0; i < DISKS; i++) {
        record_disk_free(st.disk[i]);
    }
    print_message("%s: %u requests, %u states so far\n", scene->what, n,
                  nb_states);
}

static void test_cut_save_leaves_a_whole_snapshot_or_none(void **state)
{
    play(&scenes[0]);
}

static void test_cut_save_over_a_snapshot_leaves_the_old_or_the_new(
    void **state)
{
    play(&scenes[1]);
}

static void test_cut_load_leaves_all_snapshots_whole(void **state)
{
    play(&scenes[2]);
}

static void test_cut_delete_leaves_a_whole_snapshot_or_none(void **state)
{
    play(&scenes[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_save_leaves_a_whole_snapshot_or_none),
        cmocka_unit_test(
            test_cut_save_over_a_snapshot_leaves_the_old_or_the_new),
        cmocka_unit_test(test_cut_load_leaves_all_snapshots_whole),
        cmocka_unit_test(test_cut_delete_leaves_a_whole_snapshot_or_none),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
