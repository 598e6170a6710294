/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the face share: a context in either mode, a directory
 * for images, and a counter that callbacks report to.
 */
#ifndef FIRN_TESTS_FACE_H
#define FIRN_TESTS_FACE_H

#include "tests/support/test_main.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include <firn/firn.h>

typedef struct Face {
    FirnContextMode mode;
    FirnContext *ctx;
    char *dir;
} Face;

/* What callbacks saw; a test waits for `calls`. */
typedef struct Seen {
    pthread_mutex_t lock;
    pthread_cond_t more;
    unsigned calls;
    int ret;                /* of the last */
} Seen;

#define SEEN_INIT \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER }

static inline void seen_report(Seen *seen, int ret)
{
    pthread_mutex_lock(&seen->lock);
    seen->ret = ret;
    seen->calls++;
    pthread_cond_broadcast(&seen->more);
    pthread_mutex_unlock(&seen->lock);
}

/* A FirnRequestFunc. */
static inline void seen_cb(void *opaque, int ret)
{
    seen_report(opaque, ret);
}

/* Wait on the descriptor of a caller-driven context, then dispatch. */
static inline void face_turn(Face *f)
{
    struct pollfd fd = { .fd = firn_context_fd(f->ctx), .events = POLLIN };
    int ret = poll(&fd, 1, 10000);

    assert_true(ret == 1 || (ret < 0 && errno == EINTR));
    assert_true(firn_context_dispatch(f->ctx) >= 0);
}

/* Wait until @seen has @calls calls. */
static inline void face_wait(Face *f, Seen *seen, unsigned calls)
{
    if (f->mode == FIRN_CONTEXT_CALLER) {
        while (seen->calls < calls) {
            face_turn(f);
        }
        return;
    }
    pthread_mutex_lock(&seen->lock);
    while (seen->calls < calls) {
        pthread_cond_wait(&seen->more, &seen->lock);
    }
    pthread_mutex_unlock(&seen->lock);
}

static inline int face_setup(void **state, FirnContextMode mode)
{
    Face *f = g_new0(Face, 1);
    GError *err = NULL;

    f->mode = mode;
    f->dir = g_dir_make_tmp("firn-face-XXXXXX", NULL);
    f->ctx = firn_context_new(mode, &err);
    assert_null(err);
    assert_non_null(f->ctx);
    *state = f;
    return 0;
}

static inline int setup_thread(void **state)
{
    return face_setup(state, FIRN_CONTEXT_THREAD);
}

static inline int setup_caller(void **state)
{
    return face_setup(state, FIRN_CONTEXT_CALLER);
}

static inline int face_teardown(void **state)
{
    Face *f = *state;
    const char *name;
    GDir *dir;

    firn_context_free(f->ctx);
    dir = g_dir_open(f->dir, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);

        unlink(path);
    }
    g_dir_close(dir);
    rmdir(f->dir);
    g_free(f->dir);
    g_free(f);
    return 0;
}

/*
 * Call first in main(). Returns 0 to go on, or the exit status of a skip: the
 * back end that FIRN_AIO asks for is not permitted here.
 */
static inline int face_begin(void)
{
    GError *err = NULL;
    FirnContext *ctx;

    firn_test_begin();
    ctx = firn_context_new(FIRN_CONTEXT_CALLER, &err);
    if (!ctx) {
        printf("skipped: %s\n", err->message);
        g_error_free(err);
        return 77;
    }
    firn_context_free(ctx);
    return 0;
}

/* A path in the test's directory; the caller frees it. */
static inline char *face_path(Face *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

/* Create an image of 16 MiB and open it for writing. */
static inline FirnDisk *face_disk(Face *f, const char *format,
                                  const char *name)
{
    g_autofree char *path = face_path(f, name);
    g_autofree char *driver = g_strdup_printf("driver=%s", format);
    FirnDisk *disk = NULL;
    GError *err = NULL;
    int ret;

    ret = firn_disk_create(f->ctx, format, path, "size=16M", &err);
    if (ret < 0) {
        fail_msg("create: %s", err->message);
    }
    ret = firn_disk_open(f->ctx, path, driver, FIRN_DISK_RDWR, &disk, &err);
    if (ret < 0) {
        fail_msg("open: %s", err->message);
    }
    return disk;
}

/* A test in both modes; its name tells which. */
#define TEST_BOTH(f)                                                     \
    { #f "_thread", f, setup_thread, face_teardown, NULL },              \
    { #f "_caller", f, setup_caller, face_teardown, NULL }
#define TEST_THREAD(f) { #f, f, setup_thread, face_teardown, NULL }
#define TEST_CALLER(f) { #f, f, setup_caller, face_teardown, NULL }

#endif
