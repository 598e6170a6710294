/* SPDX-License-Identifier: MIT */
/* Contexts, disks and requests through the installed face. */
#include "face.h"

/* ---- Contexts ---- */

static void test_version_is_the_one_of_the_header(void **state)
{
    assert_string_equal(firn_version(), "0.1.0");
    assert_true(firn_version_at_least(0, 0, 9));
    assert_true(firn_version_at_least(0, 1, 0));
    assert_false(firn_version_at_least(0, 1, 1));
    assert_false(firn_version_at_least(1, 0, 0));
}

static void test_unknown_context_mode_is_refused(void **state)
{
    GError *err = NULL;

    assert_null(firn_context_new((FirnContextMode)7, &err));

    assert_non_null(err);
    assert_int_equal(err->code, EINVAL);
    g_error_free(err);
}

static void test_context_with_a_thread_is_not_driven(void **state)
{
    Face *f = *state;

    assert_int_equal(firn_context_fd(f->ctx), -EINVAL);
    assert_int_equal(firn_context_dispatch(f->ctx), -EINVAL);
}

static void *dispatch_thread(void *opaque)
{
    Face *f = opaque;

    return GINT_TO_POINTER(firn_context_dispatch(f->ctx));
}

static void test_dispatch_on_another_thread_is_refused(void **state)
{
    Face *f = *state;
    pthread_t thread;
    void *ret;

    assert_int_equal(pthread_create(&thread, NULL, dispatch_thread, f), 0);
    assert_int_equal(pthread_join(thread, &ret), 0);

    assert_int_equal(GPOINTER_TO_INT(ret), -EPERM);
}

static void test_idle_dispatch_does_nothing(void **state)
{
    Face *f = *state;

    while (firn_context_dispatch(f->ctx) == 1) {
        /* what the start left */
    }
    assert_int_equal(firn_context_dispatch(f->ctx), 0);
}

static void test_backend_has_a_name(void **state)
{
    Face *f = *state;
    const char *name = firn_context_backend(f->ctx);
    const char *want = g_getenv("FIRN_AIO");

    assert_true(!strcmp(name, "io_uring") || !strcmp(name, "threads"));
    if (want) {
        assert_string_equal(name, want);
    }
}

/* ---- Open ---- */

static void expect_open(Face *f, const char *filename, const char *options,
                        unsigned flags, int want)
{
    FirnDisk *disk = NULL;
    GError *err = NULL;
    int ret;

    ret = firn_disk_open(f->ctx, filename, options, flags, &disk, &err);

    assert_int_equal(ret, want);
    assert_null(disk);
    assert_non_null(err);
    assert_true(g_error_matches(err, firn_error_domain(), -want));
    assert_true(strlen(err->message) > 0);
    g_error_free(err);
    /* And without anybody to read the sentence. */
    assert_int_equal(firn_disk_open(f->ctx, filename, options, flags, &disk,
                                    NULL), want);
}

static void test_open_says_why_not(void **state)
{
    Face *f = *state;
    g_autofree char *path = face_path(f, "d.raw");
    g_autofree char *missing = face_path(f, "missing");

    firn_disk_close(face_disk(f, "raw", "d.raw"));

    expect_open(f, missing, NULL, 0, -ENOENT);
    expect_open(f, path, "cache=sometimes", 0, -EINVAL);
    expect_open(f, path, "no equals sign", 0, -EINVAL);
    expect_open(f, path, "driver=raw,colour=blue", 0, -EINVAL);
    expect_open(f, path, NULL, 1u << 20, -EINVAL);
    expect_open(f, path, "driver=qcow2", 0, -EINVAL);
}

static void test_create_says_why_not(void **state)
{
    Face *f = *state;
    g_autofree char *path = face_path(f, "d");
    GError *err = NULL;

    assert_true(firn_disk_create(f->ctx, "papyrus", path, "size=1M",
                                 &err) < 0);
    assert_non_null(err);
    g_clear_error(&err);
    assert_int_equal(firn_disk_create(f->ctx, "raw", path, "size=much",
                                      &err), -EINVAL);
    assert_non_null(err);
    g_clear_error(&err);
}

static void test_every_cache_mode_opens(void **state)
{
    static const char *const modes[] = {
        "none", "directsync", "writeback", "writethrough", "unsafe",
    };
    Face *f = *state;
    g_autofree char *path = face_path(f, "d.qcow2");
    char text[] = "cached";
    char back[sizeof(text)];

    firn_disk_close(face_disk(f, "qcow2", "d.qcow2"));
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *options = g_strdup_printf("cache=%s", modes[i]);
        FirnDisk *disk;
        GError *err = NULL;
        int ret = firn_disk_open(f->ctx, path, options, FIRN_DISK_RDWR, &disk,
                                 &err);

        if (err) {
            fail_msg("%s: %s", modes[i], err->message);
        }
        assert_int_equal(ret, 0);
        assert_int_equal(firn_disk_pwrite(disk, 7 * i, text, sizeof(text)),
                         0);
        assert_int_equal(firn_disk_pread(disk, 7 * i, back, sizeof(back)), 0);
        assert_string_equal(back, text);
        assert_int_equal(firn_disk_close(disk), 0);
    }
}

/* ---- Blocking I/O ---- */

static void check_blocking_io(Face *f, const char *format)
{
    FirnDisk *disk = face_disk(f, format, "d");
    char out[3000], in[3000];

    memset(out, 'x', sizeof(out));
    assert_int_equal(firn_disk_length(disk), 16 << 20);
    assert_true(firn_disk_is_writable(disk));

    assert_int_equal(firn_disk_pwrite(disk, 12345, out, sizeof(out)), 0);
    assert_int_equal(firn_disk_pread(disk, 12345, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(firn_disk_write_zeroes(disk, 12345, 1000), 0);
    assert_int_equal(firn_disk_pread(disk, 12345, in, sizeof(in)), 0);
    memset(out, 0, 1000);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(firn_disk_flush(disk), 0);
    assert_int_equal(firn_disk_discard(disk, 1 << 20, 1 << 20), 0);
    assert_int_equal(firn_disk_pread(disk, 0, NULL, 0), 0);

    assert_int_equal(firn_disk_pread(disk, (16 << 20) - 1, in, 2), -EIO);
    assert_int_equal(firn_disk_pwrite(disk, UINT64_MAX, in, 2), -EIO);
    assert_int_equal(firn_disk_pread(disk, 0, in, (UINT64_C(1) << 30) + 1),
                     -EINVAL);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_what_is_written_is_read(void **state)
{
    check_blocking_io(*state, "raw");
    check_blocking_io(*state, "qcow2");
}

static void test_disk_opened_for_reading_is_not_written(void **state)
{
    Face *f = *state;
    g_autofree char *path = face_path(f, "d.qcow2");
    FirnDisk *disk;
    char byte = 'x';

    firn_disk_close(face_disk(f, "qcow2", "d.qcow2"));
    assert_int_equal(firn_disk_open(f->ctx, path, NULL, 0, &disk, NULL), 0);

    assert_false(firn_disk_is_writable(disk));
    assert_int_equal(firn_disk_pwrite(disk, 0, &byte, 1), -EROFS);
    assert_int_equal(firn_disk_pread(disk, 0, &byte, 1), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_raw_disk_has_no_snapshots(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "raw", "d");
    GPtrArray *infos = NULL;
    GError *err = NULL;

    assert_int_equal(firn_disk_list_snapshots(disk, &infos, &err), -ENOTSUP);
    assert_null(infos);
    assert_non_null(err);
    g_clear_error(&err);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_closing_nothing_is_fine(void **state)
{
    assert_int_equal(firn_disk_close(NULL), 0);
    firn_context_free(NULL);
    firn_machine_free(NULL);
    firn_request_unref(NULL);
}

/* ---- Asynchronous requests ---- */

static void test_requests_complete_by_callback(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "qcow2", "d");
    Seen seen = SEEN_INIT;
    char out[2][600], in[1200];
    struct iovec iov[] = { { out[0], 600 }, { out[1], 600 } };
    struct iovec back = { in, 1200 };

    memset(out[0], 'a', 600);
    memset(out[1], 'b', 600);

    assert_int_equal(firn_disk_pwritev_async(disk, 100, iov, 2, seen_cb,
                                             &seen, NULL), 0);
    face_wait(f, &seen, 1);
    assert_int_equal(seen.ret, 0);
    assert_int_equal(firn_disk_preadv_async(disk, 100, &back, 1, seen_cb,
                                            &seen, NULL), 0);
    face_wait(f, &seen, 2);
    assert_int_equal(seen.ret, 0);
    assert_memory_equal(in, out, 1200);
    assert_int_equal(firn_disk_write_zeroes_async(disk, 100, 600, seen_cb,
                                                  &seen, NULL), 0);
    face_wait(f, &seen, 3);
    assert_int_equal(firn_disk_discard_async(disk, 8 << 20, 65536, seen_cb,
                                             &seen, NULL), 0);
    assert_int_equal(firn_disk_flush_async(disk, seen_cb, &seen, NULL), 0);
    face_wait(f, &seen, 5);
    assert_int_equal(seen.ret, 0);
    assert_int_equal(firn_disk_pread(disk, 100, in, 1200), 0);
    assert_int_equal(in[0], 0);
    assert_int_equal(in[600], 'b');
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_error_of_a_request_reaches_its_callback(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "raw", "d");
    Seen seen = SEEN_INIT;
    char byte;
    struct iovec iov = { &byte, 1 };

    assert_int_equal(firn_disk_preadv_async(disk, 16 << 20, &iov, 1, seen_cb,
                                            &seen, NULL), 0);
    face_wait(f, &seen, 1);

    assert_int_equal(seen.ret, -EIO);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_bad_vector_is_refused_without_a_callback(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "raw", "d");
    Seen seen = SEEN_INIT;
    struct iovec iov[] = {
        { NULL, 1 << 30 }, { NULL, SIZE_MAX },
    };

    assert_int_equal(firn_disk_preadv_async(disk, 0, iov, 2, seen_cb, &seen,
                                            NULL), -EINVAL);
    assert_int_equal(firn_disk_preadv_async(disk, 0, iov, -1, seen_cb, &seen,
                                            NULL), -EINVAL);
    assert_int_equal(firn_disk_preadv_async(disk, 0, iov, 1025, seen_cb,
                                            &seen, NULL), -EINVAL);
    assert_int_equal(firn_disk_close(disk), 0);
    assert_int_equal(seen.calls, 0);
}

static void test_callback_never_runs_inside_submit(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "raw", "d");
    Seen seen = SEEN_INIT;

    assert_int_equal(firn_disk_flush_async(disk, seen_cb, &seen, NULL), 0);
    assert_int_equal(seen.calls, 0);
    face_wait(f, &seen, 1);

    assert_int_equal(firn_disk_close(disk), 0);
}

/*
 *   test                       request
 *   submit
 *   cancel                     not begun
 *   dispatch                   ends with -ECANCELED, nothing is written
 */
static void test_cancelled_request_that_has_not_begun_never_does(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "raw", "d");
    FirnRequest *req = NULL;
    Seen seen = SEEN_INIT;
    char byte = 'x';
    struct iovec iov = { &byte, 1 };

    assert_int_equal(firn_disk_pwritev_async(disk, 0, &iov, 1, seen_cb, &seen,
                                             &req), 0);
    firn_request_cancel(req);
    face_wait(f, &seen, 1);

    assert_int_equal(seen.ret, -ECANCELED);
    firn_request_cancel(req); /* over: harmless */
    firn_request_unref(req);
    assert_int_equal(firn_disk_pread(disk, 0, &byte, 1), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_cancelled_request_is_over_when_its_callback_runs(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "qcow2", "d");
    FirnRequest *req[32];
    Seen seen = SEEN_INIT;
    char *buf = g_malloc0(1 << 20);
    struct iovec iov = { buf, 1 << 20 };

    for (unsigned i = 0; i < G_N_ELEMENTS(req); i++) {
        assert_int_equal(firn_disk_pwritev_async(disk, i << 18, &iov, 1,
                                                 seen_cb, &seen, &req[i]), 0);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(req); i++) {
        firn_request_cancel(req[i]);
        firn_request_unref(req[i]);
    }
    face_wait(f, &seen, G_N_ELEMENTS(req));
    g_free(buf); /* the sanitizer would see a request that still runs */

    assert_int_equal(seen.calls, G_N_ELEMENTS(req));
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_close_waits_for_requests_and_callbacks(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "qcow2", "d");
    Seen seen = SEEN_INIT;
    char *buf = g_malloc0(1 << 20);
    struct iovec iov = { buf, 1 << 20 };

    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(firn_disk_pwritev_async(disk, i << 20, &iov, 1,
                                                 seen_cb, &seen, NULL), 0);
    }
    assert_int_equal(firn_disk_close(disk), 0);

    assert_int_equal(seen.calls, 8);
    g_free(buf);
}

typedef struct Refusal {
    Seen seen;
    FirnContext *ctx;
    FirnDisk *disk;
    int read_ret;
    int close_ret;
    int64_t length;
    int dispatch_ret;
} Refusal;

static void block_in_callback(void *opaque, int ret)
{
    Refusal *r = opaque;
    char byte;

    r->read_ret = firn_disk_pread(r->disk, 0, &byte, 1);
    r->close_ret = firn_disk_close(r->disk);
    r->length = firn_disk_length(r->disk);
    r->dispatch_ret = firn_context_dispatch(r->ctx);
    seen_report(&r->seen, ret);
}

static void test_blocking_call_from_a_callback_is_refused(void **state)
{
    Face *f = *state;
    Refusal r = { .seen = SEEN_INIT, .ctx = f->ctx };

    r.disk = face_disk(f, "raw", "d");
    assert_int_equal(firn_disk_flush_async(r.disk, block_in_callback, &r,
                                           NULL), 0);
    face_wait(f, &r.seen, 1);

    assert_int_equal(r.read_ret, -EDEADLK);
    assert_int_equal(r.close_ret, -EDEADLK);
    assert_int_equal(r.length, -EDEADLK);
    assert_int_equal(r.dispatch_ret, f->mode == FIRN_CONTEXT_CALLER
                                     ? -EDEADLK : -EINVAL);
    assert_int_equal(firn_disk_close(r.disk), 0);
}

/* A callback that submits the next request, `left` times. */
typedef struct Chain {
    Seen seen;
    FirnDisk *disk;
    unsigned left;
} Chain;

static void chain_cb(void *opaque, int ret)
{
    Chain *c = opaque;

    if (c->left-- > 0) {
        firn_disk_flush_async(c->disk, chain_cb, c, NULL);
    } else {
        seen_report(&c->seen, ret);
    }
}

static void test_callback_submits_the_next_request(void **state)
{
    Face *f = *state;
    Chain c = { .seen = SEEN_INIT, .left = 50 };

    c.disk = face_disk(f, "raw", "d");
    assert_int_equal(firn_disk_flush_async(c.disk, chain_cb, &c, NULL), 0);
    face_wait(f, &c.seen, 1);

    assert_int_equal(c.seen.ret, 0);
    assert_int_equal(firn_disk_close(c.disk), 0);
}

/* ---- Several threads ---- */

enum { NB_THREADS = 4, ROUNDS = 100 };

typedef struct Client {
    FirnDisk *disk;
    unsigned nr;
    bool good;
    Seen *over;
} Client;

/* Writes and reads back its own part of the disk. */
static void *client_thread(void *opaque)
{
    Client *c = opaque;
    char out[512], in[512];

    c->good = true;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t offset = (c->nr * ROUNDS + i) * sizeof(out);

        memset(out, (int)(c->nr * ROUNDS + i), sizeof(out));
        c->good = c->good
                  && !firn_disk_pwrite(c->disk, offset, out, sizeof(out))
                  && !firn_disk_pread(c->disk, offset, in, sizeof(in))
                  && !memcmp(in, out, sizeof(in));
    }
    seen_report(c->over, 0);
    return NULL;
}

static void test_threads_share_a_disk(void **state)
{
    Face *f = *state;
    FirnDisk *disk = face_disk(f, "qcow2", "d");
    pthread_t threads[NB_THREADS];
    Client clients[NB_THREADS];
    Seen over = SEEN_INIT;
    bool all_over;

    for (unsigned i = 0; i < NB_THREADS; i++) {
        clients[i] = (Client) { .disk = disk, .nr = i, .over = &over };
        assert_int_equal(pthread_create(&threads[i], NULL, client_thread,
                                        &clients[i]), 0);
    }
    if (f->mode == FIRN_CONTEXT_CALLER) {
        do {
            struct pollfd fd = {
                .fd = firn_context_fd(f->ctx), .events = POLLIN,
            };

            poll(&fd, 1, 20);
            firn_context_dispatch(f->ctx);
            pthread_mutex_lock(&over.lock);
            all_over = over.calls == NB_THREADS;
            pthread_mutex_unlock(&over.lock);
        } while (!all_over);
    }
    for (unsigned i = 0; i < NB_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(clients[i].good);
    }
    assert_int_equal(firn_disk_close(disk), 0);
}

static void test_two_contexts_work_side_by_side(void **state)
{
    Face *f = *state;
    Face other = { .mode = FIRN_CONTEXT_CALLER, .dir = f->dir };
    FirnDisk *a, *b;
    char byte = 'q';

    other.ctx = firn_context_new(FIRN_CONTEXT_CALLER, NULL);
    assert_non_null(other.ctx);
    a = face_disk(f, "qcow2", "a");
    b = face_disk(&other, "qcow2", "b");

    assert_int_equal(firn_disk_pwrite(a, 0, &byte, 1), 0);
    assert_int_equal(firn_disk_pwrite(b, 0, &byte, 1), 0);
    byte = 0;
    assert_int_equal(firn_disk_pread(a, 0, &byte, 1), 0);
    assert_int_equal(byte, 'q');
    assert_int_equal(firn_disk_close(b), 0);
    assert_int_equal(firn_disk_close(a), 0);
    firn_context_free(other.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_is_the_one_of_the_header),
        cmocka_unit_test(test_unknown_context_mode_is_refused),
        TEST_THREAD(test_context_with_a_thread_is_not_driven),
        TEST_CALLER(test_dispatch_on_another_thread_is_refused),
        TEST_CALLER(test_idle_dispatch_does_nothing),
        TEST_BOTH(test_backend_has_a_name),
        TEST_BOTH(test_open_says_why_not),
        TEST_BOTH(test_create_says_why_not),
        TEST_BOTH(test_every_cache_mode_opens),
        TEST_BOTH(test_what_is_written_is_read),
        TEST_BOTH(test_disk_opened_for_reading_is_not_written),
        TEST_BOTH(test_raw_disk_has_no_snapshots),
        cmocka_unit_test(test_closing_nothing_is_fine),
        TEST_BOTH(test_requests_complete_by_callback),
        TEST_BOTH(test_error_of_a_request_reaches_its_callback),
        TEST_BOTH(test_bad_vector_is_refused_without_a_callback),
        TEST_CALLER(test_callback_never_runs_inside_submit),
        TEST_CALLER(test_cancelled_request_that_has_not_begun_never_does),
        TEST_BOTH(test_cancelled_request_is_over_when_its_callback_runs),
        TEST_BOTH(test_close_waits_for_requests_and_callbacks),
        TEST_BOTH(test_blocking_call_from_a_callback_is_refused),
        TEST_BOTH(test_callback_submits_the_next_request),
        TEST_BOTH(test_threads_share_a_disk),
        TEST_BOTH(test_two_contexts_work_side_by_side),
    };

    int skip = face_begin();

    if (skip) {
        return skip;
    }
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
