/* SPDX-License-Identifier: MIT */
/* block/file.c and file-lock.c: real files, O_DIRECT, locks, and the field's
 * tools as peers. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block_int.h"
#include "tests/support/helpers.h"

#define FILE_BYTES (1 << 20)

typedef struct Fixture {
    char *path;
    BlockBackend *blk;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    *state = f;
    if (test_ctx_setup(state) < 0) {
        return -1;
    }
    *state = f;
    f->path = test_path("image");
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    blk_close(f->blk);
    g_free(f->path);
    g_free(f);
    return test_ctx_teardown(state);
}

static int create(Fixture *f, const char *options, GError **errp)
{
    BdrvOptions *o = NULL;

    assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    return blk_create(test_ctx, "raw", f->path, o, errp);
}

static void open_file(Fixture *f, unsigned flags)
{
    g_autoptr(GError) error = NULL;

    if (blk_open(test_ctx, f->path, NULL, flags, &f->blk, &error) < 0) {
        fail_msg("%s", error->message);
    }
}

static void close_file(Fixture *f)
{
    assert_int_equal(blk_close(f->blk), 0);
    f->blk = NULL;
}

/* Some file systems, such as tmpfs of old, have no O_DIRECT. */
static void skip_without_direct(Fixture *f)
{
    int fd = open(f->path, O_RDONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);

    if (fd < 0) {
        print_message("the file system has no O_DIRECT\n");
        skip();
    }
    close(fd);
}

static uint64_t allocated(Fixture *f)
{
    struct stat st;

    assert_int_equal(stat(f->path, &st), 0);
    return st.st_blocks * 512;
}

/* --- Contents --- */

static void write_and_read_back(Fixture *f, unsigned flags)
{
    const size_t bytes = 300001; /* above the limit for AIO_HINT_ASYNC */
    g_autofree uint8_t *buf = g_malloc(bytes);

    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, flags | BDRV_O_RDWR);
    test_fill(buf, bytes, 7);
    assert_int_equal(blk_pwrite(f->blk, 12345, bytes, buf), 0);
    assert_int_equal(blk_flush(f->blk), 0);
    close_file(f);

    open_file(f, flags);
    memset(buf, 0, bytes);
    assert_int_equal(blk_pread(f->blk, 12345, bytes, buf), 0);
    assert_true(test_matches(buf, bytes, 7));
    assert_int_equal(blk_pread(f->blk, 0, 12345, buf), 0);
    for (int i = 0; i < 12345; i++) {
        assert_int_equal(buf[i], 0);
    }
    assert_int_equal(blk_getlength(f->blk), FILE_BYTES);
    close_file(f);
}

static void test_write_and_read_back_cached(void **state)
{
    write_and_read_back(*state, 0);
}

static void test_write_and_read_back_direct(void **state)
{
    skip_without_direct(*state);
    write_and_read_back(*state, BDRV_O_NOCACHE);
}

static void test_write_and_read_back_writethrough(void **state)
{
    write_and_read_back(*state, BDRV_O_WRITETHROUGH);
}

static void test_write_and_read_back_directsync(void **state)
{
    skip_without_direct(*state);
    write_and_read_back(*state, BDRV_O_NOCACHE | BDRV_O_WRITETHROUGH);
}

static void test_direct_alignment_is_found(void **state)
{
    Fixture *f = *state;
    BlockDriverState *file;

    skip_without_direct(f);
    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, BDRV_O_NOCACHE);
    file = blk_bs(f->blk)->file->bs;
    assert_in_range(file->request_alignment, 512, 4096);
    assert_in_range(file->mem_alignment, 512, 4096);
    close_file(f);
    open_file(f, 0);
    assert_int_equal(blk_bs(f->blk)->file->bs->request_alignment, 1);
}

/* A file that ends inside a block reads as zeroes up to the block's end. */
static void test_direct_read_across_an_odd_end(void **state)
{
    Fixture *f = *state;
    uint8_t buf[100];

    skip_without_direct(f);
    assert_int_equal(create(f, "size=70000", NULL), 0);
    open_file(f, BDRV_O_RDWR);
    test_fill(buf, 100, 1);
    assert_int_equal(blk_pwrite(f->blk, 69900, 100, buf), 0);
    close_file(f);

    open_file(f, BDRV_O_NOCACHE);
    assert_int_equal(blk_getlength(f->blk), 70000);
    memset(buf, 0, 100);
    assert_int_equal(blk_pread(f->blk, 69900, 100, buf), 0);
    assert_true(test_matches(buf, 100, 1));
    assert_int_equal(blk_pread(f->blk, 69901, 100, buf), -EIO);
}

typedef struct Parallel {
    uint8_t *buf;
    QEMUIOVector qiov;
    unsigned *left;
} Parallel;

static void parallel_done(void *opaque, int ret)
{
    Parallel *p = opaque;

    assert_int_equal(ret, 0);
    --*p->left;
}

static void run_parallel(Fixture *f, unsigned flags)
{
    enum { N = 64, BYTES = 160 * 1024 };
    Parallel p[N];
    unsigned left = N;

    assert_int_equal(create(f, "size=16M", NULL), 0);
    open_file(f, flags | BDRV_O_RDWR);
    for (int i = 0; i < N; i++) {
        p[i].buf = blk_try_memalign(BYTES);
        p[i].left = &left;
        test_fill(p[i].buf, BYTES, i);
        qemu_iovec_init_buf(&p[i].qiov, p[i].buf, BYTES);
        blk_aio_pwritev(f->blk, i * BYTES, &p[i].qiov, 0, parallel_done,
                        &p[i]);
    }
    TEST_WAIT_UNTIL(left == 0);
    left = N;
    for (int i = 0; i < N; i++) {
        memset(p[i].buf, 0, BYTES);
        blk_aio_preadv(f->blk, i * BYTES, &p[i].qiov, 0, parallel_done,
                       &p[i]);
    }
    TEST_WAIT_UNTIL(left == 0);
    for (int i = 0; i < N; i++) {
        assert_true(test_matches(p[i].buf, BYTES, i));
        free(p[i].buf);
    }
    close_file(f);
}

static void test_requests_in_parallel(void **state)
{
    run_parallel(*state, 0);
}

static void test_requests_in_parallel_direct(void **state)
{
    skip_without_direct(*state);
    run_parallel(*state, BDRV_O_NOCACHE);
}

/* --- Zeroes, discard, status, size --- */

static void fill_file(Fixture *f, unsigned flags)
{
    g_autofree uint8_t *buf = g_malloc(FILE_BYTES);

    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, flags | BDRV_O_RDWR);
    memset(buf, 0xaa, FILE_BYTES);
    assert_int_equal(blk_pwrite(f->blk, 0, FILE_BYTES, buf), 0);
    assert_int_equal(blk_flush(f->blk), 0);
}

static bool is_zero(Fixture *f, uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, bytes);
    assert_int_equal(blk_preadv(f->blk, offset, bytes, &qiov, 0), 0);
    return qemu_iovec_is_zero(&qiov, 0, bytes);
}

static void zero_with_and_without_unmap(Fixture *f, unsigned flags)
{
    fill_file(f, flags | BDRV_O_UNMAP);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 65536, 131072 + 7, 0), 0);
    assert_true(is_zero(f, 65536, 131072 + 7));
    assert_false(is_zero(f, 65535, 1));
    assert_false(is_zero(f, 65536 + 131072 + 7, 1));
    assert_true(allocated(f) >= FILE_BYTES);

    assert_int_equal(blk_pwrite_zeroes(f->blk, 524288, 262144,
                                       BDRV_REQ_MAY_UNMAP), 0);
    assert_true(is_zero(f, 524288, 262144));
    assert_false(is_zero(f, 524287, 1));
    assert_true(allocated(f) < FILE_BYTES);
}

static void test_zeroes_keep_the_space_unless_told(void **state)
{
    zero_with_and_without_unmap(*state, 0);
}

static void test_zeroes_keep_the_space_unless_told_direct(void **state)
{
    skip_without_direct(*state);
    zero_with_and_without_unmap(*state, BDRV_O_NOCACHE);
}

static void test_discard_punches_a_hole(void **state)
{
    Fixture *f = *state;

    fill_file(f, BDRV_O_UNMAP);
    assert_int_equal(blk_pdiscard(f->blk, 262144, 262144), 0);
    assert_true(is_zero(f, 262144, 262144));
    assert_true(allocated(f) <= FILE_BYTES - 262144 + 65536);
    close_file(f);

    fill_file(f, 0);
    assert_int_equal(blk_pdiscard(f->blk, 262144, 262144), 0);
    assert_false(is_zero(f, 262144, 262144));
}

typedef struct ZeroArgs {
    BdrvChild *file;
    uint64_t offset;
    uint64_t bytes;
    unsigned flags;
} ZeroArgs;

static int coroutine_fn zero_file(void *opaque)
{
    ZeroArgs *a = opaque;

    return bdrv_co_pwrite_zeroes(a->file, a->offset, a->bytes, a->flags);
}

static void test_zeroes_past_the_end_extend_the_file(void **state)
{
    Fixture *f = *state;
    ZeroArgs a = { NULL, FILE_BYTES - 4096, 65536, BDRV_REQ_MAY_UNMAP };
    struct stat st;

    fill_file(f, BDRV_O_UNMAP);
    a.file = blk_bs(f->blk)->file;
    assert_int_equal(run_coroutine(zero_file, &a), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, FILE_BYTES - 4096 + 65536);
    assert_true(is_zero(f, FILE_BYTES - 4096, 4096));
    assert_false(is_zero(f, FILE_BYTES - 4097, 1));
}

static void test_block_status_shows_holes(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *buf = g_malloc0(65536);
    uint64_t n, map;
    int ret;

    memset(buf, 1, 65536);
    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, BDRV_O_RDWR);
    assert_int_equal(blk_pwrite(f->blk, 262144, 65536, buf), 0);
    assert_int_equal(blk_flush(f->blk), 0);

    /* A new file has its first block. */
    ret = blk_block_status(f->blk, 100, FILE_BYTES - 100, &n, &map);
    assert_true(ret & BDRV_BLOCK_DATA);
    assert_int_equal(n, 4096 - 100);
    ret = blk_block_status(f->blk, 4100, FILE_BYTES - 4100, &n, &map);
    assert_true(ret & BDRV_BLOCK_ZERO);
    assert_false(ret & BDRV_BLOCK_DATA);
    assert_int_equal(n, 262144 - 4100);
    ret = blk_block_status(f->blk, 262144, FILE_BYTES - 262144, &n, &map);
    assert_true(ret & BDRV_BLOCK_DATA);
    assert_true(ret & BDRV_BLOCK_OFFSET_VALID);
    assert_int_equal(n, 65536);
    assert_int_equal(map, 262144);
    ret = blk_block_status(f->blk, 327680, FILE_BYTES - 327680, &n, &map);
    assert_true(ret & BDRV_BLOCK_ZERO);
    assert_int_equal(n, FILE_BYTES - 327680);
}

/* What was seen to be data is remembered, until it is none. */
static void test_block_status_notices_zeroes_and_discard(void **state)
{
    Fixture *f = *state;
    uint64_t n, map;

    fill_file(f, BDRV_O_UNMAP);
    assert_true(blk_block_status(f->blk, 0, FILE_BYTES, &n, &map) &
                BDRV_BLOCK_DATA);
    assert_int_equal(n, FILE_BYTES);
    assert_int_equal(blk_pdiscard(f->blk, 262144, 65536), 0);
    assert_true(blk_block_status(f->blk, 262144, 65536, &n, &map) &
                BDRV_BLOCK_ZERO);
    assert_true(blk_block_status(f->blk, 0, FILE_BYTES, &n, &map) &
                BDRV_BLOCK_DATA);
    assert_int_equal(n, 262144);
    assert_int_equal(blk_pwrite_zeroes(f->blk, 65536, 65536,
                                       BDRV_REQ_MAY_UNMAP), 0);
    assert_true(blk_block_status(f->blk, 65536, 65536, &n, &map) &
                BDRV_BLOCK_ZERO);
}

static void test_truncate(void **state)
{
    Fixture *f = *state;
    struct stat st;

    fill_file(f, 0);
    assert_int_equal(blk_truncate(f->blk, 1000, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(blk_truncate(f->blk, 5000, BDRV_PREALLOC_OFF, NULL), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, 5000);
    assert_false(is_zero(f, 999, 1));
    assert_true(is_zero(f, 1000, 4000));
}

/* --- Creating --- */

static void test_preallocation(void **state)
{
    static const char *const modes[] = { "off", "falloc", "full" };
    Fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        g_autofree char *options = g_strdup_printf(
            "size=3000000,preallocation=%s", modes[i]);

        assert_int_equal(create(f, options, NULL), 0);
        assert_int_equal(allocated(f) >= 3000000, i > 0);
        open_file(f, 0);
        assert_int_equal(blk_getlength(f->blk), 3000000);
        assert_true(is_zero(f, 0, 3000000));
        close_file(f);
    }
}

static void test_create_refuses_before_it_touches_the_file(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;

    assert_int_equal(create(f, "size=1M,prealocation=full", &error),
                     -EINVAL);
    assert_non_null(strstr(error->message, "did you mean 'preallocation'"));
    assert_int_equal(access(f->path, F_OK), -1);
    assert_int_equal(create(f, "size=8E", NULL), -EFBIG);
    assert_int_equal(create(f, "size=1M,preallocation=some", NULL), -EINVAL);
    assert_int_equal(access(f->path, F_OK), -1);

    /* In use: not emptied. */
    fill_file(f, 0);
    assert_int_equal(create(f, "size=5", NULL), -EAGAIN);
    assert_false(is_zero(f, 0, 4096));
}

/* --- Errors --- */

static void test_permission_error_has_a_remedy(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;

    if (geteuid() == 0) {
        print_message("root may write anything\n");
        skip();
    }
    assert_int_equal(create(f, "size=1M", NULL), 0);
    chmod(f->path, 0444);
    assert_int_equal(blk_open(test_ctx, f->path, NULL, BDRV_O_RDWR, &f->blk,
                              &error), -EACCES);
    assert_non_null(strstr(error->message, f->path));
    assert_non_null(strstr(error->message, "read-only"));
}

static void test_aio_option_is_one_of_the_known_names(void **state)
{
    Fixture *f = *state;
    BdrvOptions *o = NULL;
    g_autoptr(GError) error = NULL;

    assert_int_equal(create(f, "size=1M", NULL), 0);
    bdrv_options_parse(&o, "file.aio=posix", NULL);
    assert_int_equal(blk_open(test_ctx, f->path, o, 0, &f->blk, &error),
                     -EINVAL);
    assert_non_null(strstr(error->message, "posix"));
    bdrv_options_parse(&o, "file.aio=threads", NULL);
    assert_int_equal(blk_open(test_ctx, f->path, o, 0, &f->blk, NULL), 0);
}

/* Which descriptor of this process is the file at @path? */
static int find_fd(const char *path)
{
    for (int fd = 3; fd < 1024; fd++) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *target = g_file_read_link(link, NULL);

        if (target && strcmp(target, path) == 0) {
            return fd;
        }
    }
    fail_msg("%s is not open", path);
    return -1;
}

/* A pipe in the place of the file makes fdatasync fail; then the file is back,
 * but what the kernel did with the pages nobody knows. */
static void test_failed_flush_is_never_followed_by_success(void **state)
{
    Fixture *f = *state;
    int fd, saved, fds[2];

    fill_file(f, 0);
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), 0);
    fd = find_fd(f->path);
    saved = dup(fd);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[0], fd);
    assert_true(blk_flush(f->blk) < 0);
    dup2(saved, fd);
    close(saved);
    close(fds[0]);
    close(fds[1]);

    assert_int_equal(blk_flush(f->blk), -EIO);
    assert_int_equal(blk_pwrite(f->blk, 0, 1, "x"), 0);
    assert_int_equal(blk_flush(f->blk), -EIO);
    assert_int_equal(blk_close(f->blk), -EIO);
    f->blk = NULL;
}

/* --- Locks --- */

static int second_open(Fixture *f, unsigned flags, const char *options)
{
    BlockBackend *blk = NULL;
    BdrvOptions *o = NULL;
    int ret;

    assert_int_equal(bdrv_options_parse(&o, options, NULL), 0);
    ret = blk_open(test_ctx, f->path, o, flags, &blk, NULL);
    blk_close(blk);
    return ret;
}

static void test_locks_between_two_openers(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = NULL;

    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, BDRV_O_RDWR);
    assert_int_equal(second_open(f, BDRV_O_RDWR, ""), -EAGAIN);
    assert_int_equal(second_open(f, 0, ""), -EAGAIN);
    assert_int_equal(second_open(f, BDRV_O_FORCE_SHARE, ""), 0);
    assert_int_equal(second_open(f, 0, "force-share=on"), 0);
    assert_int_equal(second_open(f, BDRV_O_RDWR, "file.locking=off"), 0);
    assert_int_equal(second_open(f, BDRV_O_RDWR | BDRV_O_NO_SHARE_PROBE, ""),
                     0);
    assert_int_equal(blk_open(test_ctx, f->path, NULL, 0, &blk, &error),
                     -EAGAIN);
    assert_non_null(strstr(error->message, "force-share"));
    assert_non_null(strstr(error->message, f->path));
    close_file(f);

    open_file(f, 0);
    assert_int_equal(second_open(f, 0, ""), 0);
    assert_int_equal(second_open(f, BDRV_O_RDWR, ""), -EAGAIN);
    close_file(f);
    assert_int_equal(second_open(f, BDRV_O_RDWR, ""), 0);
}

/* A child between fork and exec has duplicates of all descriptors. */
static void test_locks_go_with_close_whoever_has_a_duplicate(void **state)
{
    Fixture *f = *state;
    pid_t pid;

    assert_int_equal(create(f, "size=1M", NULL), 0);
    open_file(f, BDRV_O_RDWR);
    pid = fork();
    if (pid == 0) {
        alarm(FIRN_TEST_HANG); /* not for ever when the test fails */
        pause();
        _exit(0);
    }
    assert_true(pid > 0);

    close_file(f);
    open_file(f, BDRV_O_RDWR);

    close_file(f);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/*
 * QEMU shares raw images freely, qcow2 images it locks in full: the peers use
 * a qcow2 image, of which the file driver sees the bytes.
 */
static void create_for_qemu(Fixture *f)
{
    if (!test_have_program("qemu-img") || !test_have_program("qemu-io")) {
        print_message("qemu-img or qemu-io is not installed\n");
        skip();
    }
    assert_int_equal(test_run(NULL, "qemu-img create -f qcow2 %s 1M",
                              f->path), 0);
}

static void open_bytes(Fixture *f, unsigned flags)
{
    BdrvOptions *o = bdrv_options_new();

    bdrv_options_set(o, "driver", "raw");
    assert_int_equal(blk_open(test_ctx, f->path, o, flags, &f->blk, NULL),
                     0);
}

static void test_qemu_respects_our_lock(void **state)
{
    Fixture *f = *state;
    g_autofree char *output = NULL;

    create_for_qemu(f);
    assert_int_equal(test_run(NULL, "qemu-img info %s", f->path), 0);
    open_bytes(f, BDRV_O_RDWR);
    assert_int_not_equal(test_run(&output, "qemu-img info %s", f->path), 0);
    assert_non_null(strstr(output, "lock"));
    assert_int_equal(test_run(NULL, "qemu-img info -U %s", f->path), 0);
    close_file(f);

    open_bytes(f, 0);
    assert_int_equal(test_run(NULL, "qemu-img info %s", f->path), 0);
    assert_int_not_equal(test_run(NULL, "qemu-io -c 'write 0 512' %s",
                                  f->path), 0);
    assert_int_equal(test_run(NULL, "qemu-io -r -c 'read 0 512' %s",
                              f->path), 0);
}

/* qemu-io holds the image while it waits for its next command. */
static void hold_with_qemu_io(Fixture *f, bool read_only)
{
    g_autofree char *line = g_strdup_printf("qemu-io %s %s",
                                            read_only ? "-r" : "", f->path);
    g_auto(GStrv) argv = NULL;
    int in, out, rw, ro, shared;
    char c = 0;

    g_shell_parse_argv(line, NULL, &argv, NULL);
    assert_true(g_spawn_async_with_pipes(
        NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &in, &out,
        NULL, NULL));
    /* An answer says that it is open. */
    assert_int_equal(write(in, "length\n", 7), 7);
    while (c != 'M' && read(out, &c, 1) == 1) {
    }

    rw = second_open(f, BDRV_O_RDWR, "driver=raw");
    ro = second_open(f, 0, "driver=raw");
    shared = second_open(f, BDRV_O_FORCE_SHARE, "driver=raw");

    assert_int_equal(write(in, "quit\n", 5), 5);
    close(in);
    while (read(out, &c, 1) == 1) {
    }
    close(out);
    assert_int_equal(rw, -EAGAIN);
    assert_int_equal(ro, read_only ? 0 : -EAGAIN);
    assert_int_equal(shared, 0);
}

static void test_we_respect_the_lock_of_qemu(void **state)
{
    Fixture *f = *state;

    create_for_qemu(f);
    hold_with_qemu_io(f, false);
    hold_with_qemu_io(f, true);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
    FILE_TEST(test_write_and_read_back_cached),
    FILE_TEST(test_write_and_read_back_direct),
    FILE_TEST(test_write_and_read_back_writethrough),
    FILE_TEST(test_write_and_read_back_directsync),
    FILE_TEST(test_direct_alignment_is_found),
    FILE_TEST(test_direct_read_across_an_odd_end),
    FILE_TEST(test_requests_in_parallel),
    FILE_TEST(test_requests_in_parallel_direct),
    FILE_TEST(test_zeroes_keep_the_space_unless_told),
    FILE_TEST(test_zeroes_keep_the_space_unless_told_direct),
    FILE_TEST(test_discard_punches_a_hole),
    FILE_TEST(test_zeroes_past_the_end_extend_the_file),
    FILE_TEST(test_block_status_shows_holes),
    FILE_TEST(test_block_status_notices_zeroes_and_discard),
    FILE_TEST(test_truncate),
    FILE_TEST(test_preallocation),
    FILE_TEST(test_create_refuses_before_it_touches_the_file),
    FILE_TEST(test_permission_error_has_a_remedy),
    FILE_TEST(test_aio_option_is_one_of_the_known_names),
    FILE_TEST(test_failed_flush_is_never_followed_by_success),
    FILE_TEST(test_locks_between_two_openers),
    FILE_TEST(test_locks_go_with_close_whoever_has_a_duplicate),
    FILE_TEST(test_qemu_respects_our_lock),
    FILE_TEST(test_we_respect_the_lock_of_qemu),
};

FIRN_TEST_MAIN(tests)
