/* SPDX-License-Identifier: MIT */
/*
 * Death tests: run a function in a child process and look at how it ended and
 * what it said on stderr. Include "tests/support/test_main.h" first.
 */
#ifndef FIRN_TESTS_SUPPORT_EXPECT_ABORT_H
#define FIRN_TESTS_SUPPORT_EXPECT_ABORT_H

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Run @fn in a child. Returns its wait status; what it
 * wrote to stderr, cut to @size - 1 bytes, is in @text.
 */
static inline int run_in_child(void (*fn)(void), char *text, size_t size)
{
    int fds[2], status;
    size_t used = 0;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit no_core = { 0, 0 };

        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        alarm(FIRN_TEST_HANG);
        fn();
        _exit(0);
    }
    close(fds[1]);
    while (used < size - 1 &&
           (n = read(fds[0], text + used, size - 1 - used)) > 0) {
        used += (size_t)n;
    }
    text[used] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Fail the test unless @fn aborts and says @needle on stderr. */
static inline void expect_abort(void (*fn)(void), const char *needle)
{
    char text[4096];
    int status = run_in_child(fn, text, sizeof(text));

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        fail_msg("expected an abort, got status 0x%x: %s", status, text);
    }
    if (!strstr(text, needle)) {
        fail_msg("aborted without saying '%s': %s", needle, text);
    }
}

#endif
