/* SPDX-License-Identifier: MIT */
/* Test helpers, see helpers.h. */
#include "tests/support/helpers.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>


AioContext *test_ctx;

static char *tmp_dir;
static unsigned fds_before;
static unsigned coroutines_before;

/* --- Context --- */

int test_ctx_setup(void **state)
{
    GError *error = NULL;

    fds_before = test_count_fds();
    coroutines_before = co_live_count();
    test_ctx = aio_context_new(AIO_BACKEND_AUTO, &error);
    if (!test_ctx) {
        fprintf(stderr, "aio_context_new: %s\n", error->message);
        g_error_free(error);
        return -1;
    }
    aio_set_current(test_ctx);
    return 0;
}

static void remove_tmp_dir(void)
{
    GDir *dir;
    const char *name;

    if (!tmp_dir) {
        return;
    }
    dir = g_dir_open(tmp_dir, 0, NULL);
    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(tmp_dir, name, NULL);

        unlink(path);
    }
    if (dir) {
        g_dir_close(dir);
    }
    rmdir(tmp_dir);
    g_clear_pointer(&tmp_dir, g_free);
}

int test_ctx_teardown(void **state)
{
    unsigned coroutines, fds;

    aio_set_current(NULL);
    aio_context_unref(test_ctx);
    test_ctx = NULL;
    remove_tmp_dir();
    coroutines = co_live_count();
    fds = test_count_fds();
    if (coroutines != coroutines_before || fds != fds_before) {
        fprintf(stderr, "left over: %d coroutines, %d descriptors\n",
                (int)(coroutines - coroutines_before),
                (int)(fds - fds_before));
        return -1;
    }
    return 0;
}

int no_coroutine_fn run_coroutine(int coroutine_fn (*fn)(void *),
                                  void *opaque)
{
    return aio_run_blocking(test_ctx, fn, opaque);
}

void test_spawn(CoroutineEntry *fn, void *opaque)
{
    co_enter(co_create(fn, opaque));
}

static void wake_up(void *opaque)
{
}

void no_coroutine_fn test_poll_or_abort(int64_t deadline_ns,
                                        const char *what)
{
    AioTimer *timer = aio_timer_new(test_ctx, wake_up, NULL);

    aio_timer_mod(timer, deadline_ns);
    aio_poll(test_ctx, true);
    aio_timer_free(timer);
    if (aio_now_ns() > deadline_ns) {
        fprintf(stderr, "timed out waiting for: %s\n", what);
        abort();
    }
}

void no_coroutine_fn test_turns(unsigned turns)
{
    while (turns--) {
        aio_poll(test_ctx, false);
    }
}

/* --- Files, patterns --- */

char *test_path(const char *name)
{
    if (!tmp_dir) {
        GError *error = NULL;

        tmp_dir = g_dir_make_tmp("firn-test-XXXXXX", &error);
        if (!tmp_dir) {
            fprintf(stderr, "%s\n", error->message);
            abort();
        }
    }
    return g_build_filename(tmp_dir, name, NULL);
}

static uint8_t pattern(size_t pos, uint32_t seed)
{
    uint32_t x = (uint32_t)(pos / 4) * 2654435761u + seed * 40503u + 1;

    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return x >> (pos % 4 * 8);
}

void test_fill(void *buf, size_t bytes, uint32_t seed)
{
    uint8_t *p = buf;

    for (size_t i = 0; i < bytes; i++) {
        p[i] = pattern(i, seed);
    }
}

bool test_matches(const void *buf, size_t bytes, uint32_t seed)
{
    const uint8_t *p = buf;

    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != pattern(i, seed)) {
            fprintf(stderr, "byte %zu is %02x, not %02x\n", i, p[i],
                    pattern(i, seed));
            return false;
        }
    }
    return true;
}

unsigned test_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (dir && readdir(dir)) {
        count++;
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

/* --- Other programs --- */

bool test_have_program(const char *name)
{
    g_autofree char *path = g_find_program_in_path(name);

    return path != NULL;
}

int test_run(char **ret_output, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_auto(GStrv) argv = NULL;
    int status;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!g_shell_parse_argv(line, NULL, &argv, NULL) ||
        !g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                      &err, &status, NULL)) {
        return -1;
    }
    if (ret_output) {
        *ret_output = g_strconcat(out, err, NULL);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
