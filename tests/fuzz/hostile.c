/* SPDX-License-Identifier: MIT */
/*
 * Hostile input: truncated and bit-flipped images and streams.
 *
 * From a good image, made here or named in FIRN_HOSTILE_IMAGE, each round
 * makes a broken copy by a seeded generator and does everything with it that
 * the library can do: open, list, read, walk the stream, load, write, save,
 * delete. Anything may fail, with a negative errno and a sentence; nothing may
 * crash, hang (an alarm ends the round), or take much memory.
 *
 *   FIRN_HOSTILE_ROUNDS   rounds of each test, 1000 by default
 *   FIRN_HOSTILE_SEED     another sequence; a failure names seed and round
 *   FIRN_HOSTILE_IMAGE    start from this image, which has snapshots
 *
 * mutate.c breaks the bytes; this file is what is done with them.
 */
#include "mutate.h"
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <firn/firn.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "block/block.h"
#include "block/snapshot.h"
#include "block/vmstate.h"
#include "migration/stream-walk.h"
#include "util/aio.h"

#define RAM_BYTES    (256 * 1024)
#define DISK_BYTES   (1024 * 1024)
#define ROUND_LIMIT  60                 /* seconds */
#define MEMORY_LIMIT (1024 * 1024)      /* KiB of peak resident memory */

typedef struct ToyDevice {
    uint32_t control;
    uint8_t nb_bytes;
    uint8_t fifo[16];
    int64_t deadline;
    bool extended;
    uint16_t extra[4];
} ToyDevice;

typedef struct Env {
    char *dir;
    char *path;                 /* of the broken copy */
    uint8_t *image;             /* the good one */
    size_t bytes;
    uint64_t seed;
    unsigned rounds;
    unsigned refused;           /* rounds in which something failed */
    uint8_t *ram;               /* RAM_BYTES */
    ToyDevice device;
    FirnContext *ctx;
    AioContext *aio;
} Env;

static bool toy_extra_needed(void *opaque)
{
    return ((ToyDevice *)opaque)->extended;
}

static const VMStateDescription vmstate_toy_extra = {
    .name = "toy/extra",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = toy_extra_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16_ARRAY(extra, ToyDevice),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_toy = {
    .name = "toy",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(control, ToyDevice),
        VMSTATE_UINT8(nb_bytes, ToyDevice),
        VMSTATE_VARRAY(fifo, ToyDevice, nb_bytes, VMS_UINT8, VMS_UINT8,
                       uint8_t, 0),
        VMSTATE_TIMER(deadline, ToyDevice),
        VMSTATE_BOOL(extended, ToyDevice),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_toy_extra,
        NULL
    },
};

/* --- a machine that never runs --- */

static int toy_stop(void *opaque)
{
    return 0;
}

static void toy_cont(void *opaque)
{
}

static bool toy_is_running(void *opaque)
{
    return false;
}

static uint64_t toy_clock_ns(void *opaque)
{
    return 1;
}

static const FirnMachineOps toy_ops = {
    toy_stop, toy_cont, toy_is_running, toy_clock_ns
};

static FirnMachine *toy_machine(Env *env, FirnDisk *disk)
{
    FirnMachine *machine = firn_machine_new(env->ctx, "toy", &toy_ops, NULL,
                                            NULL);

    assert_non_null(machine);
    assert_int_equal(firn_machine_add_ram(machine, "ram0", env->ram, RAM_BYTES,
                                          NULL), 0);
    assert_int_equal(firn_machine_add_device(machine, "toy", 0, &vmstate_toy,
                                             &env->device, NULL), 0);
    assert_int_equal(firn_machine_add_disk(machine, "disk0", disk, NULL), 0);
    return machine;
}

/* Fill RAM with what a stream has: data, zero pages, repeated bytes. */
static void toy_fill(Env *env, uint64_t seed)
{
    Rng rng = { seed };

    for (size_t page = 0; page < RAM_BYTES / 4096; page++) {
        uint8_t *at = env->ram + page * 4096;

        memset(at, page % 3 == 1 ? 0x55 : 0, 4096);
        for (size_t i = 0; page % 3 == 0 && i < 4096; i += 8) {
            uint64_t word = rng_next(&rng);

            memcpy(at + i, &word, 8);
        }
    }
    env->device = (ToyDevice) {
        .control = 0x01020304, .nb_bytes = 5, .fifo = "hello",
        .deadline = -1, .extended = true, .extra = { 1, 2, 3, 4 },
    };
}

/* --- making the good image --- */

static void make_image(Env *env, const char *path)
{
    g_autofree uint8_t *data = g_malloc(DISK_BYTES / 2);
    FirnDisk *disk = NULL;
    FirnMachine *machine;

    assert_int_equal(firn_disk_create(env->ctx, "qcow2", path,
                                      "size=1M,cluster_size=4096", NULL), 0);
    assert_int_equal(firn_disk_open(env->ctx, path, "cache=unsafe",
                                    FIRN_DISK_RDWR, &disk, NULL), 0);
    machine = toy_machine(env, disk);
    for (unsigned i = 1; i <= 2; i++) {
        const char *tag = i == 1 ? "one" : "two";

        memset(data, (int)i, DISK_BYTES / 2);
        assert_int_equal(firn_disk_pwrite(disk, i * 65536, data,
                                          DISK_BYTES / 2), 0);
        toy_fill(env, i);
        assert_int_equal(firn_machine_savevm(machine, tag, NULL, NULL, NULL),
                         0);
    }
    firn_machine_free(machine);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void env_load_image(Env *env)
{
    const char *given = g_getenv("FIRN_HOSTILE_IMAGE");
    g_autofree char *made = g_build_filename(env->dir, "good.qcow2", NULL);
    gsize bytes = 0;

    if (!given) {
        make_image(env, made);
    }
    assert_true(g_file_get_contents(given ? given : made,
                                    (char **)&env->image, &bytes, NULL));
    env->bytes = bytes;
    g_unlink(made);
}

static uint64_t number_from_env(const char *name, uint64_t otherwise)
{
    const char *text = g_getenv(name);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

static int setup(void **state)
{
    /* What a broken table makes us write far out must not fill the disk. */
    struct rlimit limit = { 256 << 20, 256 << 20 };
    Env *env = g_new0(Env, 1);

    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_IGN);
    env->dir = g_dir_make_tmp("firn-hostile-XXXXXX", NULL);
    assert_non_null(env->dir);
    env->path = g_build_filename(env->dir, "broken.qcow2", NULL);
    env->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(env->ram != MAP_FAILED);
    env->seed = number_from_env("FIRN_HOSTILE_SEED", 20200601);
    env->rounds = (unsigned)number_from_env("FIRN_HOSTILE_ROUNDS", 1000);
    env->ctx = firn_context_new(FIRN_CONTEXT_THREAD, NULL);
    env->aio = aio_context_new(AIO_BACKEND_AUTO, NULL);
    assert_true(env->ctx && env->aio);
    env_load_image(env);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    Env *env = *state;

    g_unlink(env->path);
    g_rmdir(env->dir);
    firn_context_free(env->ctx);
    aio_context_unref(env->aio);
    munmap(env->ram, RAM_BYTES);
    g_free(env->image);
    g_free(env->path);
    g_free(env->dir);
    g_free(env);
    return 0;
}

/* --- what is done with a broken image --- */

/* An operation either succeeded or said why not. Returns whether it did. */
static bool result_is_sound(int ret, GError **err)
{
    bool failed = ret < 0;

    assert_true(ret <= 0);
    assert_true(failed == (*err != NULL));
    if (failed) {
        assert_true((*err)->message[0] != 0);
    }
    g_clear_error(err);
    return !failed;
}

typedef struct Walk {
    BlockBackend *blk;
    uint64_t bytes;
    bool sound;                 /* nothing was refused */
} Walk;

static int coroutine_fn walk_peek(void *opaque, uint64_t pos,
                                  const uint8_t **ret, size_t *ret_bytes)
{
    Walk *w = opaque;

    return bdrv_co_vmstate_peek(blk_bs(w->blk), pos, ret, ret_bytes);
}

static int coroutine_fn walk_read(void *opaque, uint64_t pos, void *buf,
                                  size_t bytes)
{
    Walk *w = opaque;
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    return bdrv_co_readv_vmstate(blk_bs(w->blk), &qiov, pos);
}

static const StreamWalkOps no_ops;

/* Walk the stream of one snapshot, as firn-vmstate verify does. */
static void coroutine_fn walk_snapshot(Walk *w, const char *tag)
{
    g_autoptr(GError) err = NULL;
    StreamWalkResult result;
    StreamSource source = {
        .peek = walk_peek, .read = walk_read, .opaque = w,
    };
    int ret;

    ret = bdrv_co_vmstate_begin_load(blk_bs(w->blk), tag, NULL, &source.size,
                                     &err);
    if (!result_is_sound(ret, &err)) {
        w->sound = false;
        return;
    }
    ret = stream_walk(&source, &no_ops, NULL, &result, &err);
    w->sound &= result_is_sound(ret, &err);
    assert_true(bdrv_co_finalize_vmstate(blk_bs(w->blk)) <= 0);
}

static int coroutine_fn walk_all(void *opaque)
{
    Walk *w = opaque;
    g_autoptr(GError) err = NULL;
    GPtrArray *list = NULL;
    int ret = bdrv_co_snapshot_list(blk_bs(w->blk), &list, &err);

    if (!result_is_sound(ret, &err)) {
        w->sound = false;
        return 0;
    }
    for (guint i = 0; i < MIN(list->len, 4); i++) {
        BdrvSnapshotInfo *info = g_ptr_array_index(list, i);

        walk_snapshot(w, info->id);
    }
    g_ptr_array_unref(list);
    return 0;
}

static bool walk_image(Env *env)
{
    g_autoptr(GError) err = NULL;
    Walk w = { .sound = true };
    int ret = blk_open(env->aio, env->path, NULL, 0, &w.blk, &err);

    if (!result_is_sound(ret, &err)) {
        return false;
    }
    aio_run_blocking(env->aio, walk_all, &w);
    assert_true(blk_close(w.blk) <= 0);
    return w.sound;
}

/* Returns whether everything succeeded. */
static bool load_each(FirnMachine *machine, FirnDisk *disk)
{
    g_autoptr(GError) err = NULL;
    GPtrArray *list = NULL;
    bool sound = true;
    int ret = firn_disk_list_snapshots(disk, &list, &err);

    if (!result_is_sound(ret, &err)) {
        return false;
    }
    for (guint i = 0; i < MIN(list->len, 4); i++) {
        FirnSnapshotInfo *info = g_ptr_array_index(list, i);

        ret = firn_machine_loadvm(machine, info->id, NULL, NULL, &err);
        sound &= result_is_sound(ret, &err);
    }
    g_ptr_array_unref(list);
    return sound;
}

static bool use_disk(Env *env, FirnDisk *disk, Rng *rng)
{
    g_autofree uint8_t *buf = g_malloc0(65536);
    g_autoptr(GError) err = NULL;
    FirnMachine *machine = toy_machine(env, disk);
    bool sound = load_each(machine, disk);
    int64_t length = firn_disk_length(disk);

    for (unsigned i = 0; i < 4 && length > 65536; i++) {
        uint64_t offset = rng_below(rng, (uint64_t)length - 65536);

        sound &= firn_disk_pread(disk, offset, buf, 65536) == 0;
        sound &= firn_disk_pwrite(disk, offset, buf, 1 + i * 5000) == 0;
    }
    toy_fill(env, 3);
    sound &= result_is_sound(firn_machine_savevm(machine, "three", NULL, NULL,
                                                 &err), &err);
    sound &= result_is_sound(firn_machine_delvm(machine, "one", &err), &err);
    firn_machine_free(machine);
    return sound;
}

static bool use_image(Env *env, Rng *rng)
{
    g_autoptr(GError) err = NULL;
    FirnDisk *disk = NULL;
    bool sound;
    int ret = firn_disk_open(env->ctx, env->path, "cache=unsafe",
                             FIRN_DISK_RDWR, &disk, &err);

    if (!result_is_sound(ret, &err)) {
        return false;
    }
    sound = use_disk(env, disk, rng);
    return firn_disk_close(disk) == 0 && sound;
}

static void round_begin(Env *env, const char *test, unsigned round)
{
    static char said[160];
    int length = g_snprintf(said, sizeof(said),
                            "%s: FIRN_HOSTILE_SEED=%" PRIu64 " round %u\n",
                            test, env->seed, round);

    /* Shown only if the round crashes or hangs; see on_fatal(). */
    mutate_set_last_words(said, (size_t)length);
    alarm(ROUND_LIMIT);
}

static void write_broken(Env *env, const uint8_t *data, size_t bytes)
{
    int fd = open(env->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    while (bytes > 0) {
        ssize_t done = write(fd, data, bytes);

        assert_true(done > 0);
        data += done;
        bytes -= (size_t)done;
    }
    close(fd);
}

static void run_rounds(Env *env, const char *name, MutateFunc *mutate)
{
    g_autofree uint8_t *copy = g_malloc(env->bytes);

    env->refused = 0;
    for (unsigned round = 0; round < env->rounds; round++) {
        Rng rng = { env->seed + round };
        size_t bytes = env->bytes;
        bool sound;

        round_begin(env, name, round);
        memcpy(copy, env->image, bytes);
        mutate(copy, &bytes, &rng);
        write_broken(env, copy, bytes);

        sound = walk_image(env);
        sound &= use_image(env, &rng);
        env->refused += !sound;
    }
    alarm(0);
    print_message("%u rounds, %u refused\n", env->rounds, env->refused);
}

static void test_the_good_image_is_accepted(void **state)
{
    Env *env = *state;

    write_broken(env, env->image, env->bytes);
    assert_true(walk_image(env));
    if (!g_getenv("FIRN_HOSTILE_IMAGE")) {
        Rng rng = { 1 };

        assert_true(use_image(env, &rng));
    }
}

/* Returns 0 or -errno; what is said about it was checked. */
static int walk_memory(StreamMemory *memory)
{
    g_autoptr(GError) err = NULL;
    StreamSource source = stream_source_memory(memory);
    StreamWalkResult result;
    int ret = stream_walk(&source, &no_ops, NULL, &result, &err);

    result_is_sound(ret, &err);
    return ret;
}

static void test_truncated_images_are_refused(void **state)
{
    Env *env = *state;

    run_rounds(env, __func__, mutate_truncate);
    assert_true(env->refused > env->rounds / 2);
}

static void test_bit_flipped_images_do_no_harm(void **state)
{
    Env *env = *state;

    run_rounds(env, __func__, mutate_image);
    assert_true(env->refused > env->rounds / 4);
}

static void test_broken_streams_in_images_do_no_harm(void **state)
{
    run_rounds(*state, __func__, mutate_stream_in_image);
}

/* The walker alone, over memory: many more rounds for the same time. */
static void test_broken_streams_in_memory_do_no_harm(void **state)
{
    Env *env = *state;
    size_t start, bytes;
    unsigned refused = 0;

    StreamMemory memory;

    assert_true(mutate_find_stream(env->image, env->bytes, &start, &bytes));
    memory = (StreamMemory) { .data = env->image + start, .bytes = bytes };
    assert_int_equal(walk_memory(&memory), 0);
    for (unsigned round = 0; round < 4 * env->rounds; round++) {
        g_autofree uint8_t *copy = g_memdup2(env->image + start, bytes);
        Rng rng = { env->seed + round };

        round_begin(env, __func__, round);
        memory = (StreamMemory) { .data = copy, .bytes = bytes };
        mutate_stream(copy, &memory.bytes, &rng);
        refused += walk_memory(&memory) < 0;
    }
    alarm(0);
    print_message("%u rounds, %u refused\n", 4 * env->rounds, refused);
    assert_true(refused > env->rounds);
}

static void test_memory_stayed_below_one_gib(void **state)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    print_message("peak resident memory %ld KiB\n", usage.ru_maxrss);
    assert_true(usage.ru_maxrss < MEMORY_LIMIT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_the_good_image_is_accepted),
    cmocka_unit_test(test_truncated_images_are_refused),
    cmocka_unit_test(test_bit_flipped_images_do_no_harm),
    cmocka_unit_test(test_broken_streams_in_images_do_no_harm),
    cmocka_unit_test(test_broken_streams_in_memory_do_no_harm),
    cmocka_unit_test(test_memory_stayed_below_one_gib),
};

FIRN_TEST_MAIN_FULL(tests, setup, teardown)
