/* SPDX-License-Identifier: MIT */
/* File I/O of coroutines and registered buffers; the back end is FIRN_AIO. */
#include "tests/support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "util/aio.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

#define KiB 1024
#define MiB (1024 * 1024)

typedef struct Fixture {
    AioContext *ctx;
    int fd;             /* empty temporary file */
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    GError *err = NULL;
    char *path = NULL;

    f->ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
    assert_null(err);
    f->fd = g_file_open_tmp("firn-aio-XXXXXX", &path, &err);
    assert_null(err);
    unlink(path);
    g_free(path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    assert_int_equal(co_live_count(), 0);
    aio_context_unref(f->ctx);
    close(f->fd);
    g_free(f);
    return 0;
}

static void run(Fixture *f, int coroutine_fn (*fn)(void *))
{
    assert_int_equal(aio_run_blocking(f->ctx, fn, f), 0);
}

static ssize_t coroutine_fn co_write(int fd, void *buf, size_t len,
                                     uint64_t offset)
{
    struct iovec iov = { buf, len };

    return aio_co_pwritev(fd, &iov, 1, offset, 0);
}

static ssize_t coroutine_fn co_read(int fd, void *buf, size_t len,
                                    uint64_t offset)
{
    struct iovec iov = { buf, len };

    return aio_co_preadv(fd, &iov, 1, offset, 0);
}

/* ---- what the calls do ---- */

static int coroutine_fn co_vectors(void *opaque)
{
    Fixture *f = opaque;
    char a[] = "abc", b[] = "defgh", in[2][4];
    struct iovec out_iov[] = { { a, 3 }, { b, 5 } };
    struct iovec in_iov[] = { { in[0], 4 }, { in[1], 4 } };

    assert_int_equal(aio_co_pwritev(f->fd, out_iov, 2, 100, 0), 8);
    assert_int_equal(aio_co_preadv(f->fd, in_iov, 2, 100, 0), 8);
    assert_memory_equal(in, "abcdefgh", 8);
    return 0;
}

static void test_vectors_are_written_and_read_back(void **state)
{
    run(*state, co_vectors);
}

static int coroutine_fn co_short(void *opaque)
{
    Fixture *f = opaque;
    char buf[100] = { 1 };

    assert_int_equal(co_write(f->fd, buf, 60, 0), 60);
    assert_int_equal(co_read(f->fd, buf, 100, 0), 60);
    assert_int_equal(co_read(f->fd, buf, 100, 59), 1);
    assert_int_equal(co_read(f->fd, buf, 100, 60), 0);
    assert_int_equal(co_read(f->fd, buf, 0, 0), 0);
    return 0;
}

static void test_read_at_the_end_of_the_file_is_short(void **state)
{
    run(*state, co_short);
}

static int coroutine_fn co_errors(void *opaque)
{
    Fixture *f = opaque;
    int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char buf[8] = { 0 };

    assert_int_equal(co_read(-1, buf, 8, 0), -EBADF);
    assert_int_equal(co_write(read_only, buf, 8, 0), -EBADF);
    assert_int_equal(co_read(f->fd, buf, 8, UINT64_MAX), -EINVAL);
    assert_int_equal(co_write(f->fd, buf, 8, UINT64_C(1) << 63), -EINVAL);
    assert_int_equal(aio_co_fdatasync(-1), -EBADF);
    assert_int_equal(aio_co_fallocate(-1, 0, 0, 1), -EBADF);
    assert_int_equal(aio_co_fallocate(f->fd, 0, UINT64_MAX, 1), -EINVAL);
    assert_int_equal(aio_co_ftruncate(read_only, 1), -EINVAL);
    assert_int_equal(aio_co_ftruncate(f->fd, UINT64_MAX), -EINVAL);
    close(read_only);
    return 0;
}

static void test_errors_are_negative_errno(void **state)
{
    run(*state, co_errors);
}

static int coroutine_fn co_bad_address(void *opaque)
{
    Fixture *f = opaque;
    char buf[8] = { 0 };
    void *read_only = mmap(NULL, 4096, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_int_equal(co_write(f->fd, buf, 8, 0), 8);
    assert_int_equal(co_read(f->fd, read_only, 8, 0), -EFAULT);
    munmap(read_only, 4096);
    return 0;
}

static void test_bad_address_is_an_error_on_both_back_ends(void **state)
{
    run(*state, co_bad_address);
}

static int coroutine_fn co_many_vectors(void *opaque)
{
    Fixture *f = opaque;
    int niov = IOV_MAX + 10;
    struct iovec *iov = g_new(struct iovec, niov);
    char c = 'x';

    for (int i = 0; i < niov; i++) {
        iov[i] = (struct iovec) { &c, 1 };
    }
    assert_int_equal(aio_co_pwritev(f->fd, iov, niov, 0, 0), IOV_MAX);
    assert_int_equal(aio_co_preadv(f->fd, iov, niov, 0, 0), IOV_MAX);
    g_free(iov);
    return 0;
}

static void test_too_many_vectors_make_a_short_transfer(void **state)
{
    run(*state, co_many_vectors);
}

static int coroutine_fn co_durable(void *opaque)
{
    Fixture *f = opaque;
    char buf[4096] = "durable";
    struct iovec iov = { buf, sizeof(buf) };

    assert_int_equal(aio_co_pwritev(f->fd, &iov, 1, 0, AIO_DSYNC), 4096);
    assert_int_equal(aio_co_fdatasync(f->fd), 0);
    return 0;
}

static void test_durable_write_and_sync_succeed(void **state)
{
    run(*state, co_durable);
}

static int coroutine_fn co_space(void *opaque)
{
    Fixture *f = opaque;
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    char buf[8 * KiB], zeroes[8 * KiB] = { 0 };
    struct stat st;

    memset(buf, 7, sizeof(buf));
    assert_int_equal(co_write(f->fd, buf, sizeof(buf), 0), sizeof(buf));
    assert_int_equal(aio_co_fallocate(f->fd, punch, 0, 4 * KiB), 0);
    assert_int_equal(co_read(f->fd, buf, sizeof(buf), 0), sizeof(buf));
    assert_memory_equal(buf, zeroes, 4 * KiB);
    assert_int_equal(buf[4 * KiB], 7);

    assert_int_equal(aio_co_fallocate(f->fd, 0, 0, MiB), 0);
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(st.st_size, MiB);
    assert_int_equal(aio_co_ftruncate(f->fd, 100), 0);
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(st.st_size, 100);
    return 0;
}

static void test_space_is_allocated_punched_and_cut_off(void **state)
{
    run(*state, co_space);
}

static int coroutine_fn co_async(void *opaque)
{
    Fixture *f = opaque;
    uint8_t *out = g_malloc(MiB);
    uint8_t *in = g_malloc0(MiB);
    struct iovec iov[2] = { { out, 100 * KiB }, { out + 100 * KiB,
                                                  924 * KiB } };

    for (int i = 0; i < MiB; i++) {
        out[i] = (uint8_t)(i * 7 / 3);
    }
    assert_int_equal(aio_co_pwritev(f->fd, iov, 2, 5, AIO_HINT_ASYNC), MiB);
    iov[0] = (struct iovec) { in, MiB };
    assert_int_equal(aio_co_preadv(f->fd, iov, 1, 5, AIO_HINT_ASYNC), MiB);
    assert_memory_equal(in, out, MiB);
    iov[0].iov_len = 10;
    assert_int_equal(aio_co_preadv(f->fd, iov, 1, 5, AIO_HINT_ASYNC), 10);
    g_free(out);
    g_free(in);
    return 0;
}

static void test_large_transfers_with_the_async_hint_are_right(void **state)
{
    run(*state, co_async);
}

/* ---- many at once ---- */

enum { NB_BLOCKS = 3000, BLOCK = 512 };

typedef struct Block {
    Fixture *f;
    int number;
    int *left;
} Block;

static void coroutine_fn block_entry(void *opaque)
{
    Block *b = opaque;
    uint64_t offset = (uint64_t)b->number * BLOCK;
    uint8_t out[BLOCK], in[BLOCK];

    memset(out, b->number % 251, BLOCK);
    assert_int_equal(co_write(b->f->fd, out, BLOCK, offset), BLOCK);
    if (b->number % 100 == 0) {
        assert_int_equal(aio_co_fdatasync(b->f->fd), 0);
    }
    assert_int_equal(co_read(b->f->fd, in, BLOCK, offset), BLOCK);
    assert_memory_equal(in, out, BLOCK);
    --*b->left;
}

/* Many times what the ring holds: none may get lost. */
static void test_thousands_of_requests_at_once_all_complete(void **state)
{
    Fixture *f = *state;
    Block *blocks = g_new(Block, NB_BLOCKS);
    int left = NB_BLOCKS;

    for (int i = 0; i < NB_BLOCKS; i++) {
        blocks[i] = (Block) { f, i, &left };
        aio_co_schedule(f->ctx, co_create(block_entry, &blocks[i]));
    }
    AIO_WAIT_WHILE(f->ctx, left > 0);
    g_free(blocks);
}

static void *io_thread(void *opaque)
{
    Fixture f = { .fd = *(int *)opaque };
    Block blocks[200];
    int left = 200;

    f.ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    for (int i = 0; i < 200; i++) {
        blocks[i] = (Block) { &f, i, &left };
        aio_co_schedule(f.ctx, co_create(block_entry, &blocks[i]));
    }
    AIO_WAIT_WHILE(f.ctx, left > 0);
    aio_context_unref(f.ctx);
    return NULL;
}

/* All write the same bytes to the same places. */
static void test_contexts_of_several_threads_do_io_side_by_side(void **state)
{
    Fixture *f = *state;
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, io_thread, &f->fd);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- registered buffers ---- */

static int coroutine_fn co_use_buffers(void *opaque)
{
    Fixture *f = opaque;
    uint8_t *buf = g_malloc(64 * KiB);
    uint8_t *other = g_malloc0(64 * KiB);

    memset(buf, 0x5a, 64 * KiB);
    aio_register_buffer(f->ctx, buf, 64 * KiB);
    assert_int_equal(co_write(f->fd, buf, 64 * KiB, 0), 64 * KiB);
    assert_int_equal(co_write(f->fd, buf + 100, 1000, 64 * KiB), 1000);
    assert_int_equal(co_read(f->fd, other, 64 * KiB, 0), 64 * KiB);
    assert_memory_equal(buf, other, 64 * KiB);

    memset(buf, 0, 64 * KiB);
    assert_int_equal(co_read(f->fd, buf + 1, 64 * KiB - 1, 0), 64 * KiB - 1);
    assert_memory_equal(buf + 1, other, 64 * KiB - 1);

    aio_unregister_buffer(f->ctx, buf);
    assert_int_equal(co_read(f->fd, buf, 10, 0), 10);
    g_free(buf);
    g_free(other);
    return 0;
}

static void test_transfers_through_registered_buffers_are_right(void **state)
{
    run(*state, co_use_buffers);
}

static void test_buffer_table_says_what_it_refuses(void **state)
{
    Fixture *f = *state;
    uint8_t *buf = g_malloc((AIO_MAX_BUFFERS + 1) * 4 * KiB);

    if (aio_context_backend(f->ctx) == AIO_BACKEND_THREADS) {
        assert_int_equal(aio_register_buffer(f->ctx, buf, 100), -ENOTSUP);
    } else {
        for (int i = 0; i < AIO_MAX_BUFFERS; i++) {
            assert_int_equal(aio_register_buffer(f->ctx, buf + i * 4 * KiB,
                                                 4 * KiB), 0);
        }
        assert_int_equal(aio_register_buffer(f->ctx, buf, 10), -EEXIST);
        assert_int_equal(aio_register_buffer(f->ctx, buf + 1, 10), -ENOSPC);
        aio_unregister_buffer(f->ctx, buf + 8 * KiB);
        aio_unregister_buffer(f->ctx, buf + 8 * KiB);
        assert_int_equal(aio_register_buffer(f->ctx, buf + 1, 10), 0);
    }
    assert_int_equal(aio_register_buffer(f->ctx, buf, 0), -EINVAL);
    assert_int_equal(aio_register_buffer(f->ctx, NULL, 5), -EINVAL);
    aio_unregister_buffer(f->ctx, NULL);
    aio_unregister_buffer(f->ctx, f);
    for (int i = 0; i < AIO_MAX_BUFFERS; i++) {
        aio_unregister_buffer(f->ctx, buf + i * 4 * KiB);
    }
    aio_unregister_buffer(f->ctx, buf + 1);
    g_free(buf);
}

typedef struct Late {
    Fixture *f;
    uint8_t *buf;
    ssize_t ret;
} Late;

static void coroutine_fn late_entry(void *opaque)
{
    Late *late = opaque;

    late->ret = co_write(late->f->fd, late->buf, 4 * KiB, 0);
    late->buf = NULL;
}

/* The request is prepared for the slot when the buffer leaves it. */
static void test_buffer_may_be_unregistered_under_a_request(void **state)
{
    Fixture *f = *state;
    uint8_t *buf = g_malloc0(4 * KiB);
    Late late = { .f = f, .buf = buf };

    aio_register_buffer(f->ctx, buf, 4 * KiB);
    aio_set_current(f->ctx);
    co_enter(co_create(late_entry, &late));
    aio_unregister_buffer(f->ctx, buf);
    AIO_WAIT_WHILE(f->ctx, late.buf);
    assert_int_equal(late.ret, 4 * KiB);
    aio_set_current(NULL);
    g_free(buf);
}

/* As a user without privileges who may lock enough for a ring and no more. */
static void test_refused_registration_does_no_harm(void **state)
{
    Fixture *parent = *state;
    struct rlimit limit = { MiB, MiB };
    int status;
    pid_t pid;

    if (aio_context_backend(parent->ctx) == AIO_BACKEND_THREADS) {
        return;     /* refuses them all, and all other tests go on */
    }
    pid = fork();
    if (pid == 0) {
        Fixture *f = g_new0(Fixture, 1);
        uint8_t *buf = g_malloc0(4 * MiB);
        bool ok;

        alarm(FIRN_TEST_HANG);
        f->fd = memfd_create("firn", MFD_CLOEXEC);
        ok = setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
        ok &= getuid() != 0 || setuid(65534) == 0;
        f->ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
        ok &= aio_register_buffer(f->ctx, buf, 4 * MiB) < 0;
        ok &= aio_run_blocking(f->ctx, co_use_buffers, f) == 0;
        aio_context_unref(f->ctx);
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define IO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    IO_TEST(test_vectors_are_written_and_read_back),
    IO_TEST(test_read_at_the_end_of_the_file_is_short),
    IO_TEST(test_errors_are_negative_errno),
    IO_TEST(test_bad_address_is_an_error_on_both_back_ends),
    IO_TEST(test_too_many_vectors_make_a_short_transfer),
    IO_TEST(test_durable_write_and_sync_succeed),
    IO_TEST(test_space_is_allocated_punched_and_cut_off),
    IO_TEST(test_large_transfers_with_the_async_hint_are_right),
    IO_TEST(test_thousands_of_requests_at_once_all_complete),
    IO_TEST(test_contexts_of_several_threads_do_io_side_by_side),
    IO_TEST(test_transfers_through_registered_buffers_are_right),
    IO_TEST(test_buffer_table_says_what_it_refuses),
    IO_TEST(test_buffer_may_be_unregistered_under_a_request),
    IO_TEST(test_refused_registration_does_no_harm),
};

static int trim(void **state)
{
    thread_pool_trim();
    return 0;
}

FIRN_TEST_MAIN_FULL(tests, NULL, trim)
