/* SPDX-License-Identifier: MIT */
/*
 * Power cuts: each configuration runs seeded workloads; each is cut after
 * every request, and what was not flushed is lost in part (crash.h).
 *
 *   FIRN_CRASH_STATES=N           about so many states; 12000 by default
 *   FIRN_CRASH_SEED=N             another first seed
 *   FIRN_CRASH_REPLAY=NAME:SEED   one workload of one configuration
 */
#include "crash.h"

#include "block/secret.h"

#define MIN_OPS 10      /* of one workload */
#define MAX_OPS 36
#define STATES_PER_CUT 3
#define LOOK_PEER_EVERY 101

/* Every way to change the size. */
#define CRASH_SHRINKS (CRASH_RESIZE | CRASH_SHRINK | CRASH_PREALLOC)

static CrashCounts counts;
static bool without_luks;

const CrashConfig crash_configs[] = {
    { "c1k", "cluster_size=1k", "pass-discard-other=on", 256, 2,
      CRASH_SNAP | CRASH_VM | CRASH_RESIZE | CRASH_SHRINK, 0, CRASH_ALONE },
    { "rb64", "cluster_size=512,refcount_bits=64",
      "l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=2k", 256,
      1, CRASH_SNAP | CRASH_VM | CRASH_SHRINKS, 0, CRASH_ALONE },
    { "v2", "cluster_size=4k,compat=0.10",
      "pass-discard-request=off,pass-discard-snapshot=off", 256, 8,
      CRASH_SNAP | CRASH_VM, 0, CRASH_ALONE },
    { "nounref", "cluster_size=2k", "discard-no-unref=on", 256, 4,
      CRASH_SNAP | CRASH_VM | CRASH_COMPRESS, 0, CRASH_ALONE },
    { "rb1", "cluster_size=1k,refcount_bits=1", "", 256, 2,
      CRASH_SNAP | CRASH_RESIZE, 0, CRASH_ALONE },
    { "rb2", "cluster_size=4k,refcount_bits=2", "", 256, 8,
      CRASH_SNAP | CRASH_VM, 0, CRASH_ALONE },
    { "rb4", "cluster_size=512,refcount_bits=4", "", 200, 1,
      CRASH_SNAP | CRASH_VM, 0, CRASH_ALONE },
    { "rb8", "cluster_size=2k,refcount_bits=8", "", 256, 4,
      CRASH_SNAP | CRASH_VM | CRASH_SHRINKS, 0, CRASH_ALONE },
    { "rb32", "cluster_size=1k,refcount_bits=32", "", 256, 2,
      CRASH_SNAP | CRASH_VM, 0, CRASH_ALONE },
    { "64k", "cluster_size=64k", "", CRASH_SECTORS, 128, CRASH_SNAP | CRASH_VM,
      0, CRASH_ALONE },
    { "backing", "cluster_size=4k,backing_file=rec:b,backing_fmt=raw", "",
      256, 8, CRASH_SNAP | CRASH_VM | CRASH_SHRINKS | CRASH_EMPTY, 0,
      CRASH_BELOW },
    { "zlib", "cluster_size=4k", "", CRASH_SECTORS, 8,
      CRASH_SNAP | CRASH_VM | CRASH_COMPRESS, 0, CRASH_ALONE },
    { "zstd", "cluster_size=2k,compression_type=zstd,refcount_bits=2", "",
      CRASH_SECTORS, 4, CRASH_SNAP | CRASH_COMPRESS, 0, CRASH_ALONE },
    { "extl2", "cluster_size=16k,extended_l2=on", "", CRASH_SECTORS, 32,
      CRASH_SNAP | CRASH_VM | CRASH_COMPRESS, 0, CRASH_ALONE },
    { "extl2below", "cluster_size=16k,extended_l2=on,backing_file=rec:b,"
      "backing_fmt=raw", "", 300, 32,
      CRASH_SNAP | CRASH_VM | CRASH_SHRINKS | CRASH_EMPTY, 0,
      CRASH_BELOW },
    { "bitmap", "cluster_size=1k", "", CRASH_SECTORS, 2,
      CRASH_SNAP | CRASH_VM | CRASH_BITMAP, 0, CRASH_ALONE },
    { "datafile", "cluster_size=1k,data_file=rec:d",
      "data-file=rec:d", 256, 2, CRASH_SHRINKS, 0, CRASH_DATA_FILE },
    { "dataraw", "cluster_size=2k,data_file=rec:d,data_file_raw=on",
      "data-file=rec:d", 256, 4, CRASH_SHRINKS | CRASH_RAW, 0,
      CRASH_DATA_FILE },
    { "dataextl2", "cluster_size=16k,data_file=rec:d,extended_l2=on",
      "data-file=rec:d", CRASH_SECTORS, 32, 0, 0, CRASH_DATA_FILE },
    { "luks", "cluster_size=4k,encrypt.format=luks,encrypt.key-secret=crash,"
      "encrypt.iter-time=1", "encrypt.key-secret=crash", 256, 8,
      CRASH_SNAP | CRASH_VM | CRASH_RESIZE | CRASH_SHRINK | CRASH_LUKS, 0,
      CRASH_ALONE },
    { "lazy", "cluster_size=1k,lazy_refcounts=on", "", 256, 2,
      CRASH_SNAP | CRASH_VM | CRASH_RESIZE | CRASH_SHRINK | CRASH_COMPRESS, 0,
      CRASH_ALONE },
    { "lazyextl2", "cluster_size=16k,lazy_refcounts=on,extended_l2=on,"
      "refcount_bits=4", "", CRASH_SECTORS, 32, CRASH_SNAP, 0, CRASH_ALONE },
    { "amend", "cluster_size=2k", "", 256, 4,
      CRASH_SNAP | CRASH_AMEND | CRASH_WEAK, 0, CRASH_ALONE },
    { "amendbelow", "cluster_size=1k,backing_file=rec:b,backing_fmt=raw", "",
      256, 2, CRASH_SNAP | CRASH_VM | CRASH_AMEND | CRASH_WEAK | CRASH_EMPTY,
      0, CRASH_BELOW },
    { "metadata", "cluster_size=1k,preallocation=metadata", "", 256, 2,
      CRASH_SNAP | CRASH_VM | CRASH_SHRINKS, 0, CRASH_ALONE },
    { "full", "cluster_size=4k,preallocation=full,refcount_bits=8", "", 256, 8,
      CRASH_SNAP | CRASH_SHRINKS, 0, CRASH_ALONE },
    { "commit", "cluster_size=2k,backing_file=rec:b,backing_fmt=raw", "",
      CRASH_SECTORS, 4, CRASH_COMMIT | CRASH_COMPRESS, 0, CRASH_BELOW },
    { "reftable", "cluster_size=512,refcount_bits=64", "", 6144, 1,
      CRASH_SNAP | CRASH_VM, 1660, CRASH_ALONE },
};
const unsigned crash_nb_configs = G_N_ELEMENTS(crash_configs);

static unsigned env_number(const char *name, unsigned fallback)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 10) : fallback;
}

static unsigned states_so_far(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < RECORD_MODES; i++) {
        n += counts.states[i];
    }
    return n;
}

static void try_state(CrashWorld *w, unsigned k, unsigned nth)
{
    uint32_t seed = w->seed * 2654435761u + k * 97 + nth;
    GRand *rand = g_rand_new_with_seed(seed);
    RecordMode mode = nth ? g_rand_int_range(rand, 1, RECORD_MODES)
                          : RECORD_ALL_ENDED;
    CrashMark m = crash_mark(w);
    unsigned n = states_so_far();
    unsigned look = 0;

    snprintf(w->where, sizeof(w->where), "FIRN_CRASH_REPLAY=%s:%u, cut %u of"
             " %u, state %u (%s, %u of %u loose)", w->config->name, w->seed,
             k, w->log->entries->len, nth, record_mode_name(mode),
             w->log->ended, w->log->loose->len);
    look |= n % 3 == 0 ? CRASH_LOOK_SNAPSHOTS : 0;
    look |= n % 9 == 1 ? CRASH_LOOK_LOAD : 0;
    look |= n % 6 == 0 ? CRASH_LOOK_USE : 0;
    look |= n % LOOK_PEER_EVERY == 0 ? CRASH_LOOK_PEER : 0;
    look |= n % 7 == 0 ? CRASH_LOOK_CHECK : 0;
    look |= n % 5 == 0 ? CRASH_LOOK_REPAIR : 0;
    record_build(w->log, mode, rand);
    crash_judge(w, look);
    crash_undo(w, m);
    counts.states[mode]++;
    g_rand_free(rand);
}

static void try_workload(const CrashConfig *c, uint32_t seed)
{
    CrashWorld *w;
    unsigned n;

    /* Opening one takes 10 ms: not in every round of a long run. */
    if ((c->features & CRASH_LUKS) && (without_luks || seed % 8 != 1)) {
        return;
    }
    w = crash_world_new(c, seed, &counts);
    crash_prepare(w);
    /* What was not flushed may be in a raw data file and not in the image. */
    if (seed % 3 == 2 && !(c->features & CRASH_RAW)) {
        crash_record(w, MIN_OPS);
        crash_wreck(w);
    }
    crash_record(w, MIN_OPS + seed * 7 % (MAX_OPS - MIN_OPS));
    n = w->log->entries->len;
    for (unsigned k = 0; k <= n; k++) {
        record_seek(w->log, k);
        crash_follow(w, k);
        w->closed = k == n;
        for (unsigned i = 0; i < STATES_PER_CUT; i++) {
            if (i && !w->log->loose->len) {
                break;
            }
            try_state(w, k, i);
        }
    }
    crash_world_free(w);
}

static void print_counts(void)
{
    print_message("crash: %u workloads, %u states\n", counts.workloads,
                  states_so_far());
    for (unsigned i = 0; i < CRASH_OPS; i++) {
        if (counts.ops[i]) {
            print_message("  %6u %s, %u refused\n", counts.ops[i],
                          crash_op_name(i), counts.refused[i]);
        }
    }
    print_message("  requests: %u writes, %u zeroes, %u discards, "
                  "%u truncates, %u flushes\n",
                  counts.requests[RECORD_WRITE], counts.requests[RECORD_ZERO],
                  counts.requests[RECORD_DISCARD],
                  counts.requests[RECORD_TRUNCATE],
                  counts.requests[RECORD_FLUSH]);
    for (unsigned i = 0; i < RECORD_MODES; i++) {
        print_message("  %6u states: %s\n", counts.states[i],
                      record_mode_name(i));
    }
    print_message("  %u with leaks, %u dirty, %u used again, %u snapshots "
                  "looked at, %u bitmaps, %u checked by the driver, %u "
                  "repaired, %u judged by qemu-img\n",
                  counts.leaky, counts.dirty, counts.overwritten,
                  counts.snapshots, counts.bitmaps, counts.checked,
                  counts.repaired, counts.peer);
}

static void replay(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);

    for (unsigned i = 0; i < crash_nb_configs; i++) {
        if (!strcmp(parts[0], crash_configs[i].name) && parts[1]) {
            try_workload(&crash_configs[i],
                         (uint32_t)strtoul(parts[1], NULL, 10));
            return;
        }
    }
    fail_msg("there is no configuration '%s'", parts[0]);
}

static void test_power_cut_anywhere_leaves_old_or_new(void **state)
{
    unsigned goal = env_number("FIRN_CRASH_STATES", 12000);
    unsigned seed = env_number("FIRN_CRASH_SEED", 1);
    const char *one = getenv("FIRN_CRASH_REPLAY");

    if (one) {
        replay(one);
    }
    for (unsigned i = 0; !one && (i < crash_nb_configs ||
                                  states_so_far() < goal); i++) {
        try_workload(&crash_configs[i % crash_nb_configs],
                     seed + i / crash_nb_configs);
    }
    print_counts();
}

static void test_power_cut_during_repair_leaves_something_to_repair(
    void **state)
{
    unsigned seed = env_number("FIRN_CRASH_SEED", 1);
    unsigned goal = env_number("FIRN_CRASH_STATES", 12000) / 10;

    for (unsigned i = 0; i == 0 || counts.rebuilt < goal; i++) {
        const CrashConfig *c = &crash_configs[i % crash_nb_configs];

        if (!(c->features & CRASH_LUKS)) {
            crash_try_rebuild(c, seed + i, &counts);
        }
    }
    print_message("crash: %u states of cut repairs\n", counts.rebuilt);
}

/* The libraries keep descriptors of their own, which the teardown of a test
 * would miss: have them open first. */
static int have_luks(void **state)
{
    static const char key[] = "encrypt.format=luks,encrypt.key-secret=crash,"
                              "encrypt.iter-time=1,size=4k";
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    RecordDisk *d = record_disk_new("luks");
    int ret = secret_add("crash", q_options("data=abc"), NULL);

    ret = ret < 0 ? ret : blk_create(ctx, "qcow2", "rec:luks", q_options(key),
                                     NULL);
    aio_context_unref(ctx);
    record_disk_free(d);
    without_luks = ret == -ENOTSUP;
    return ret == 0 || without_luks ? 0 : -1;
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, test_ctx_setup, test_ctx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_power_cut_anywhere_leaves_old_or_new),
        TEST(test_power_cut_during_repair_leaves_something_to_repair),
    };

    firn_test_begin();
    return cmocka_run_group_tests(tests, have_luks, NULL) ? 1 : 0;
}
