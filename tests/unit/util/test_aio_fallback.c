/* SPDX-License-Identifier: MIT */
/*
 * Which back end a context gets: by name, by FIRN_AIO, and where a seccomp
 * filter, as containers have it, forbids some or all io_uring calls.
 *
 * Each case runs in a child process, for its environment and its filter.
 */
#include "tests/support/test_main.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "util/aio.h"

/* Let every system call pass but @nr, which fails with @err. */
static bool forbid(long nr, int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { .len = G_N_ELEMENTS(code), .filter = code };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static int coroutine_fn co_write_and_read(void *opaque)
{
    int fd = memfd_create("firn", MFD_CLOEXEC);
    char out[] = "fall back", in[sizeof(out)] = "";
    struct iovec iov = { out, sizeof(out) };

    if (aio_co_pwritev(fd, &iov, 1, 7, 0) != sizeof(out) ||
        aio_co_fdatasync(fd) != 0) {
        return -EIO;
    }
    iov.iov_base = in;
    if (aio_co_preadv(fd, &iov, 1, 7, 0) != sizeof(out)) {
        return -EIO;
    }
    aio_co_sleep_ns(1000000);
    close(fd);
    return strcmp(in, out);
}

/* Does AIO_BACKEND_AUTO give @expected, and does it work? */
static bool auto_gives(AioBackend expected)
{
    GError *err = NULL;
    AioContext *ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
    bool ok;

    if (!ctx || err) {
        return false;
    }
    ok = aio_context_backend(ctx) == expected &&
         aio_run_blocking(ctx, co_write_and_read, NULL) == 0;
    aio_context_unref(ctx);
    return ok;
}

/* Is @backend refused with a message that contains @text? */
static bool refused(AioBackend backend, const char *text)
{
    GError *err = NULL;
    AioContext *ctx = aio_context_new(backend, &err);
    bool ok = !ctx && err && strstr(err->message, text);

    g_clear_error(&err);
    aio_context_unref(ctx);
    return ok && !aio_context_new(backend, NULL);
}

static void assert_in_child(bool (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        alarm(FIRN_TEST_HANG);
        unsetenv("FIRN_AIO");
        _exit(fn() ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- forbidden ---- */

static bool no_setup(void)
{
    return forbid(SYS_io_uring_setup, EPERM) &&
           auto_gives(AIO_BACKEND_THREADS);
}

static bool no_setup_at_all(void)
{
    return forbid(SYS_io_uring_setup, ENOSYS) &&
           auto_gives(AIO_BACKEND_THREADS);
}

static bool no_enter(void)
{
    return forbid(SYS_io_uring_enter, EPERM) &&
           auto_gives(AIO_BACKEND_THREADS);
}

static bool no_register(void)
{
    return forbid(SYS_io_uring_register, EPERM) &&
           auto_gives(AIO_BACKEND_THREADS);
}

static void test_forbidden_io_uring_setup_falls_back_to_threads(void **state)
{
    assert_in_child(no_setup);
}

static void test_kernel_without_io_uring_falls_back_to_threads(void **state)
{
    assert_in_child(no_setup_at_all);
}

static void test_forbidden_io_uring_enter_falls_back_to_threads(void **state)
{
    assert_in_child(no_enter);
}

static void test_forbidden_io_uring_register_falls_back_to_threads(
    void **state)
{
    assert_in_child(no_register);
}

static bool named_without_setup(void)
{
    bool ok = forbid(SYS_io_uring_setup, EPERM) &&
              refused(AIO_BACKEND_IO_URING, "io_uring is not available");

    setenv("FIRN_AIO", "io_uring", 1);
    return ok && refused(AIO_BACKEND_AUTO, "io_uring is not available");
}

static bool named_without_enter(void)
{
    /* "not usable", or "not available" where setup is forbidden anyway. */
    return forbid(SYS_io_uring_enter, EPERM) &&
           refused(AIO_BACKEND_IO_URING, "io_uring is not ");
}

static void test_io_uring_by_name_where_it_is_forbidden_is_an_error(
    void **state)
{
    assert_in_child(named_without_setup);
    assert_in_child(named_without_enter);
}

/* ---- by name ---- */

static bool env_threads(void)
{
    setenv("FIRN_AIO", "threads", 1);
    return auto_gives(AIO_BACKEND_THREADS);
}

static bool env_empty(void)
{
    bool ok;

    setenv("FIRN_AIO", "", 1);
    ok = auto_gives(AIO_BACKEND_IO_URING) || auto_gives(AIO_BACKEND_THREADS);
    setenv("FIRN_AIO", "epoll", 1);
    return ok && refused(AIO_BACKEND_AUTO, "FIRN_AIO=epoll");
}

static void test_environment_chooses_the_back_end(void **state)
{
    assert_in_child(env_threads);
    assert_in_child(env_empty);
}

static bool by_name_beats_env(void)
{
    AioContext *ctx;
    bool ok;

    setenv("FIRN_AIO", "io_uring", 1);
    ctx = aio_context_new(AIO_BACKEND_THREADS, NULL);
    ok = ctx && aio_context_backend(ctx) == AIO_BACKEND_THREADS;
    aio_context_unref(ctx);
    return ok;
}

static void test_back_end_named_by_the_caller_beats_the_environment(
    void **state)
{
    assert_in_child(by_name_beats_env);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_forbidden_io_uring_setup_falls_back_to_threads),
    cmocka_unit_test(test_kernel_without_io_uring_falls_back_to_threads),
    cmocka_unit_test(test_forbidden_io_uring_enter_falls_back_to_threads),
    cmocka_unit_test(test_forbidden_io_uring_register_falls_back_to_threads),
    cmocka_unit_test(test_io_uring_by_name_where_it_is_forbidden_is_an_error),
    cmocka_unit_test(test_environment_chooses_the_back_end),
    cmocka_unit_test(test_back_end_named_by_the_caller_beats_the_environment),
};

FIRN_TEST_MAIN(tests)
