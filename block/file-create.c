/* SPDX-License-Identifier: MIT */
/*
 * Files are made here: opened or created, locked before they are emptied (an
 * image that somebody uses stays as it is), given their size and space. What
 * fails leaves no new file behind.
 *
 * Options: size, preallocation=off|falloc|full, nocow=on|off,
 * extent_size_hint=BYTES.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_int.h"
#include "block/file_int.h"
#include "util/high-fd.h"

#define EXTENT_SIZE_HINT (1024 * 1024)
#define SECTOR 512

static int take_prealloc(BdrvOptions *options, BdrvPrealloc *ret,
                         GError **errp)
{
    g_autofree char *text = bdrv_options_take(options, "preallocation");
    int r = bdrv_prealloc_parse(text, ret, errp);

    if (r == 0 && *ret == BDRV_PREALLOC_METADATA) {
        r = bdrv_options_refuse("preallocation", text,
                                NEAREST_LIST("off", "falloc", "full"), errp);
    }
    return r;
}

typedef struct FileCreate {
    uint64_t size;
    BdrvPrealloc prealloc;
    bool nocow;
    uint32_t extent_size_hint;
} FileCreate;

static int take_create_options(BdrvOptions *options, FileCreate *ret,
                               GError **errp)
{
    uint64_t hint;
    int r = bdrv_options_take_size(options, "size", 0, &ret->size, errp);

    r = r < 0 ? r : take_prealloc(options, &ret->prealloc, errp);
    r = r < 0 ? r : bdrv_options_take_bool(options, "nocow", false,
                                           &ret->nocow, errp);
    r = r < 0 ? r : bdrv_options_take_size(options, "extent_size_hint",
                                           EXTENT_SIZE_HINT, &hint, errp);
    r = r < 0 ? r : bdrv_options_check_empty(options, errp);
    if (r < 0) {
        return r;
    }
    if (hint > UINT32_MAX) {
        return set_error(errp, -EINVAL, "extent_size_hint %" G_GUINT64_FORMAT
                         " is larger than 4 GiB", hint);
    }
    if (ret->size > BDRV_MAX_LENGTH) {
        return set_error(errp, -EFBIG, "a file cannot have %" G_GUINT64_FORMAT
                         " bytes", ret->size);
    }
    ret->extent_size_hint = hint;
    return 0;
}

/*
 * Give a sparse file its first block: who opens it with O_DIRECT finds out by
 * reading there what alignment the file system wants, which some answer only
 * for blocks that exist. It is no error if that fails.
 */
static void coroutine_fn allocate_first_block(int fd, uint64_t size)
{
    uint64_t bytes = size < FILE_MAX_ALIGN ? MIN(size, SECTOR) : FILE_MAX_ALIGN;
    uint8_t *buf = blk_try_memalign(FILE_MAX_ALIGN);
    struct iovec iov = { buf, bytes };

    if (buf) {
        memset(buf, 0, bytes);
        (void)aio_co_pwritev(fd, &iov, 1, 0, 0);
    }
    free(buf);
}

/* Empty the file behind @fd and make it what @o says. */
static int coroutine_fn fill_new_file(int fd, const FileCreate *o)
{
    int ret = aio_co_ftruncate(fd, 0);

    if (ret == 0) {
        file_hint_extent_size(fd, o->extent_size_hint);
        if (o->nocow) {
            file_hint_nocow(fd);
        }
        ret = aio_co_ftruncate(fd, o->size);
    }
    if (ret < 0 || o->size == 0) {
        return ret;
    }
    switch (o->prealloc) {
    case BDRV_PREALLOC_FALLOC:
        return aio_co_fallocate(fd, 0, 0, o->size);
    case BDRV_PREALLOC_FULL:
        return file_write_full(fd, 0, o->size);
    default:
        allocate_first_block(fd, o->size);
        return 0;
    }
}

/* Creates @filename, or opens what is there, which *@ret_new tells. */
static int open_for_create(const char *filename, bool *ret_new,
                           GError **errp)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC;
    int fd = high_fd(open(filename, flags | O_EXCL, 0644));
    bool new = fd >= 0;

    if (fd < 0 && errno == EEXIST) {
        fd = high_fd(open(filename, O_RDWR | O_CLOEXEC));
    }
    if (fd < 0) {
        int err = -errno;

        return set_error(errp, err, "cannot create '%s': %s", filename,
                         g_strerror(-err));
    }
    *ret_new = new;
    return fd;
}

/* A device has its size; what it began with is no longer to be recognised. */
static int use_device(int fd, const char *filename, uint64_t size,
                      GError **errp)
{
    static const uint8_t zeroes[512];
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < 0) {
        return set_error(errp, -errno, "cannot find the size of '%s': %s",
                         filename, g_strerror(errno));
    }
    if (size > (uint64_t)end) {
        return set_error(errp, -ENOSPC, "'%s' is a device of %" G_GINT64_FORMAT
                         " bytes, which cannot have %" G_GUINT64_FORMAT,
                         filename, (gint64)end, size);
    }
    if (end >= (off_t)sizeof(zeroes) &&
        pwrite(fd, zeroes, sizeof(zeroes), 0) < 0) {
        return set_error(errp, -errno, "cannot write to '%s': %s", filename,
                         g_strerror(errno));
    }
    return 0;
}

/* The locks are taken before the file is emptied: somebody may use it. */
static int coroutine_fn create_locked(int fd, const char *filename,
                                      const FileCreate *o, GError **errp)
{
    bool is_device;
    int ret = file_check_type(fd, filename, &is_device, errp);

    if (ret == 0) {
        ret = file_lock_auto(fd, true, true, filename, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (is_device) {
        return use_device(fd, filename, o->size, errp);
    }
    ret = fill_new_file(fd, o);
    if (ret < 0) {
        set_error(errp, ret, "cannot create '%s' with %" G_GUINT64_FORMAT
                  " bytes: %s", filename, o->size, g_strerror(-ret));
    }
    return ret;
}

static const char *path_of(const char *filename)
{
    return g_str_has_prefix(filename, FILE_PREFIX)
        ? filename + strlen(FILE_PREFIX) : filename;
}

void coroutine_fn file_co_uncreate(const char *filename)
{
    const char *path = path_of(filename);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        unlink(path);
    }
}

int coroutine_fn file_co_create(const char *filename, BdrvOptions *options,
                                GError **errp)
{
    FileCreate o = { 0 };
    bool new = false;
    int fd, ret = take_create_options(options, &o, errp);

    if (ret < 0) {
        return ret;
    }
    filename = path_of(filename);
    fd = open_for_create(filename, &new, errp);
    if (fd < 0) {
        return fd;
    }
    ret = create_locked(fd, filename, &o, errp);
    if (ret < 0 && new) {
        unlink(filename);
    }
    file_unlock(fd);
    close(fd);
    return ret;
}
