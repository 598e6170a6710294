/* SPDX-License-Identifier: MIT */
/* See jail.h. What is in the directory is listed in images[] and texts[]. */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/block.h"
#include "block/secret.h"

#define MAX_FILE (16 * 1024 * 1024)

static const struct {
    const char *name;
    const char *format;
    const char *create;
} images[] = {
    { "b.qcow2", "qcow2", "size=64k,cluster_size=512" },
    { "q.qcow2", "qcow2", "size=128k,cluster_size=4k" },
    { "t.qcow2", "qcow2", "size=64k,cluster_size=1k,backing_file=b.qcow2,"
      "backing_fmt=qcow2" },
    { "e.qcow2", "qcow2", "size=128k,cluster_size=16k,extended_l2=on" },
    { "d.qcow2", "qcow2", "size=64k,cluster_size=512,data_file=d.raw" },
    { "o.qcow2", "qcow2", "size=64k,compat=0.10" },
    { "l.qcow2", "qcow2", "size=64k,cluster_size=512,encrypt.format=luks,"
      "encrypt.key-secret=jail,encrypt.iter-time=1" },
    { "r.raw", "raw", "size=64k" },
};

static const struct {
    const char *name;
    const char *text;
} texts[] = {
    { "rules", "[inject-error]\nevent = \"write_aio\"\nerrno = \"28\"\n"
      "once = \"on\"\n\n[set-state]\nevent = \"l2_update\"\n"
      "new_state = \"2\"\n\n[inject-error]\nstate = \"2\"\n"
      "event = \"flush_to_disk\"\nerrno = \"5\"\n" },
    { "secret", "abc" },
    { "empty", "" },
};

typedef struct Kept {
    char *text;
    gsize bytes;
    bool changed;           /* perhaps: it was open for writing */
} Kept;

static char *directory;     /* ends with a slash */
static GHashTable *kept;    /* name: what is to be in it */
static int outside = -1;    /* the working directory of others */
static bool inside;         /* the calls below are guarded */
static const char *allowed; /* what begins so may be used nevertheless */

/* ---- calls ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
void __wrap___assert_fail(const char *text, const char *file, unsigned line,
                          const char *function) G_GNUC_NORETURN;

static bool may_use(const char *path)
{
    if (!inside || (allowed && g_str_has_prefix(path, allowed))) {
        return true;
    }
    if (g_str_has_prefix(path, directory)) {
        path += strlen(directory);
    }
    if (*path == '/' || strstr(path, "..")) {
        errno = EACCES;
        return false;
    }
    return true;
}

static void note_change(const char *path)
{
    g_autofree char *name = g_path_get_basename(path);
    Kept *k = inside ? g_hash_table_lookup(kept, name) : NULL;

    if (k) {
        k->changed = true;
    }
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    int mode;

    va_start(ap, flags);
    mode = va_arg(ap, int);
    va_end(ap);
    if (!may_use(path)) {
        return -1;
    }
    if ((flags & O_ACCMODE) != O_RDONLY) {
        note_change(path);
    }
    return __real_open(path, flags, mode);
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (!may_use(path)) {
        return NULL;
    }
    if (*mode != 'r') {
        note_change(path);
    }
    return __real_fopen(path, mode);
}

int __wrap_unlink(const char *path)
{
    if (!may_use(path)) {
        return -1;
    }
    note_change(path);
    return __real_unlink(path);
}

/* That is to be seen, unlike all the messages. */
void __wrap___assert_fail(const char *text, const char *file, unsigned line,
                          const char *function)
{
    dprintf(STDERR_FILENO, "%s:%u: %s: %s\n", file, line, function, text);
    abort();
}

/* ---- the directory ---- */

static void must(bool ok, const char *what)
{
    if (!ok) {
        dprintf(STDERR_FILENO, "jail: %s: %s\n", what, g_strerror(errno));
        exit(1);
    }
}

static void remove_directory(void)
{
    g_autoptr(GDir) d = g_dir_open(directory, 0, NULL);
    const char *name;

    inside = false;
    while (d && (name = g_dir_read_name(d)) != NULL) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        (void)__real_unlink(path);
    }
    (void)rmdir(directory);
}

static BdrvOptions *options_of(const char *text)
{
    BdrvOptions *o = NULL;

    must(bdrv_options_parse(&o, text, NULL) == 0, text);
    return o;
}

static void make_image(AioContext *ctx, size_t i)
{
    static uint8_t data[20000];
    BlockBackend *blk = NULL;
    g_autoptr(GError) error = NULL;
    bool is_luks = strstr(images[i].create, "luks") != NULL;
    g_autofree char *open = g_strconcat("allow-data-file=on,driver=",
        images[i].format, is_luks ? ",encrypt.key-secret=jail" : "", NULL);
    int ret = blk_create(ctx, images[i].format, images[i].name,
                         options_of(images[i].create), &error);

    if (ret == -ENOTSUP && is_luks) {
        return; /* built without */
    }
    memset(data, 0x41, sizeof(data));
    ret = ret < 0 ? ret : blk_open(ctx, images[i].name, options_of(open),
                                   BDRV_O_RDWR, &blk, &error);
    must(ret == 0, error ? error->message : images[i].name);
    must(blk_pwrite(blk, 512 * i, sizeof(data), data) == 0, "write");
    must(blk_close(blk) == 0, "close");
}

/* What is in the directory now is what is to be in it. */
static void keep_all(void)
{
    g_autoptr(GDir) d = g_dir_open(".", 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d)) != NULL) {
        Kept *k = g_new0(Kept, 1);

        must(g_file_get_contents(name, &k->text, &k->bytes, NULL), name);
        g_hash_table_insert(kept, g_strdup(name), k);
    }
}

/* In memory, where there is a place for that: flushes take far longer than
 * all the rest. */
static char *make_directory(void)
{
    char name[] = "/dev/shm/firn-fuzz-XXXXXX";

    return mkdtemp(name) ? g_strdup(name)
                         : g_dir_make_tmp("firn-fuzz-XXXXXX", NULL);
}

void jail_build(AioContext *ctx)
{
    const struct rlimit limit = { MAX_FILE, MAX_FILE };
    int null = __real_open("/dev/null", O_WRONLY | O_CLOEXEC);
    g_autofree char *name = make_directory();

    must(name, "no temporary directory");
    g_setenv("TMPDIR", name, TRUE); /* that of firn-io -s */
    directory = g_strconcat(name, "/", NULL);
    atexit(remove_directory);
    outside = __real_open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    kept = g_hash_table_new(g_str_hash, g_str_equal);
    must(outside >= 0 && null >= 0 && chdir(directory) == 0, directory);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        must(g_file_set_contents(texts[i].name, texts[i].text, -1, NULL),
             texts[i].name);
    }
    (void)secret_add("jail", options_of("data=abc"), NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        make_image(ctx, i);
    }
    keep_all();
    must(fchdir(outside) == 0, "fchdir");
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    dup2(null, STDOUT_FILENO);
    stderr = fdopen(null, "w");
}

void jail_allow(const char *prefix)
{
    allowed = prefix;
}

void jail_enter(void)
{
    must(chdir(directory) == 0, "chdir");
    inside = true;
}

void jail_leave(void)
{
    g_autoptr(GDir) d = g_dir_open(".", 0, NULL);
    GHashTableIter iter;
    const char *name;
    void *key, *value;

    inside = false;
    while (d && (name = g_dir_read_name(d)) != NULL) {
        if (!g_hash_table_contains(kept, name)) {
            must(__real_unlink(name) == 0, name);
        }
    }
    g_hash_table_iter_init(&iter, kept);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        Kept *k = value;

        if (k->changed) {
            FILE *f = __real_fopen(key, "we");

            must(f && fwrite(k->text, 1, k->bytes, f) == k->bytes &&
                 fclose(f) == 0, key);
        }
        k->changed = false;
    }
    must(fchdir(outside) == 0, "fchdir");
}
