/* SPDX-License-Identifier: MIT */
/*
 * file: regular files and block devices of the host.
 *
 * Transfers go through the AioContext (io_uring or threads); with
 * BDRV_O_NOCACHE the file is opened with O_DIRECT and the alignment it wants is
 * found by trying. Zeroes and discards use fallocate. What the file system
 * cannot do is remembered and answered with -ENOTSUP; the layer above then
 * writes zeroes itself.
 *
 * A failed fdatasync is final: the kernel may have dropped the pages it could
 * not write and would report success next time, so the node fails every flush
 * from then on.
 *
 * Options: filename, locking=on|off|auto, aio=threads|native|io_uring (checked,
 * without effect: requests run on what the context has). New files are made by
 * file-create.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_int.h"
#include "block/file_int.h"
#include "util/high-fd.h"

#define MAX_ALIGN FILE_MAX_ALIGN
#define MAX_TRANSFER ((uint64_t)1 << 30)
#define PREALLOC_STEP (1024 * 1024)

typedef struct FileState {
    int fd;
    bool locked;
    bool kept;            /* the locks outlive this descriptor */
    bool direct;          /* O_DIRECT */
    bool is_device;
    bool flush_failed;    /* for good, see above */
    bool no_zero_range;   /* the file system does not know it */
    bool no_punch_hole;
    uint64_t data_start;  /* what was last seen to be data, and not punched */
    uint64_t data_end;    /* since */
    FileGrow grow;
} FileState;

/* --- Opening --- */

static int file_parse_filename(const char *filename, BdrvOptions *options,
                               GError **errp)
{
    const char *name = filename + strlen(FILE_PREFIX);
    /* Shown alone it must not be taken for another protocol's. */
    g_autofree char *path = g_strconcat(bdrv_has_protocol(name) ? "./" : "",
                                        name, NULL);

    bdrv_options_set_default(options, "filename", path);
    return 0;
}

static const char *open_remedy(int err, unsigned flags)
{
    switch (err) {
    case -EINVAL:
        return flags & BDRV_O_NOCACHE ?
            "; if its file system has no O_DIRECT, use another cache mode "
            "than none and directsync" : "";
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return flags & BDRV_O_RDWR ?
            "; check its permissions or open it read-only" :
            "; check its permissions";
    case -EMFILE:
        return "; raise the limit of open files (ulimit -n)";
    case -ENOENT:
        return "; check the path, or create it first";
    default:
        return "";
    }
}

/* O_NONBLOCK only so that opening a FIFO cannot hang. */
static int open_fd(const char *filename, unsigned flags, GError **errp)
{
    int mode = O_CLOEXEC | O_NONBLOCK;
    int fd;

    mode |= flags & BDRV_O_RDWR ? O_RDWR : O_RDONLY;
    mode |= flags & BDRV_O_NOCACHE ? O_DIRECT : 0;
    fd = high_fd(open(filename, mode));
    if (fd < 0) {
        int err = -errno;

        return set_error(errp, err, "cannot open '%s': %s%s", filename,
                         g_strerror(-err), open_remedy(err, flags));
    }
    if (fcntl(fd, F_SETFL, mode & O_DIRECT) < 0) {
        int err = -errno;

        close(fd);
        return set_error(errp, err, "cannot open '%s': %s", filename,
                         g_strerror(-err));
    }
    return fd;
}

int file_check_type(int fd, const char *filename, bool *ret_is_device,
                    GError **errp)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        int err = -errno;

        return set_error(errp, err, "cannot stat '%s': %s", filename,
                         g_strerror(-err));
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return set_error(errp, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
                         "'%s' is neither a regular file nor a block device",
                         filename);
    }
    *ret_is_device = S_ISBLK(st.st_mode);
    return 0;
}

typedef enum { LOCKING_ON, LOCKING_OFF, LOCKING_AUTO } Locking;

static int take_locking(BdrvOptions *options, Locking *ret, GError **errp)
{
    g_autofree char *text = bdrv_options_take(options, "locking");

    if (!text || strcmp(text, "auto") == 0) {
        *ret = LOCKING_AUTO;
    } else if (strcmp(text, "on") == 0) {
        *ret = LOCKING_ON;
    } else if (strcmp(text, "off") == 0) {
        *ret = LOCKING_OFF;
    } else {
        return bdrv_options_refuse("locking", text,
                                   NEAREST_LIST("on", "off", "auto"), errp);
    }
    return 0;
}

static int lock_fd(int fd, const char *filename, unsigned flags,
                   Locking locking, GError **errp)
{
    bool writer = flags & BDRV_O_RDWR;
    bool probe = !(flags & BDRV_O_NO_SHARE_PROBE);

    if (locking == LOCKING_OFF || (flags & BDRV_O_FORCE_SHARE)) {
        return 0;
    }
    return locking == LOCKING_AUTO
        ? file_lock_auto(fd, writer, probe, filename, errp)
        : file_lock(fd, writer, probe, filename, errp);
}

/* Requests run on what the context has, whatever is asked for. */
static int check_aio_option(BdrvOptions *options, unsigned flags,
                            GError **errp)
{
    static const char *const known[] = { "threads", "native", "io_uring",
                                         NULL };
    g_autofree char *text = bdrv_options_take(options, "aio");

    if (!text) {
        return 0;
    }
    if (!g_strv_contains(known, text)) {
        return bdrv_options_refuse("aio", text, known, errp);
    }
    if (strcmp(text, "native") == 0 && !(flags & BDRV_O_NOCACHE)) {
        return set_error(errp, -EINVAL, "option aio: native needs "
                         "cache.direct=on");
    }
    return 0;
}

/* Of no effect: how requests are bundled and what the host caches is settled
 * without them. */
static int take_ignored(BdrvOptions *options, GError **errp)
{
    uint64_t batch;
    bool drop;
    int ret = bdrv_options_take_u64(options, "aio-max-batch", 0, &batch,
                                    errp);

    return ret < 0 ? ret : bdrv_options_take_bool(options, "drop-cache", true,
                                                  &drop, errp);
}

/*
 * Find by trying what O_DIRECT wants: the smallest length that reads, then the
 * smallest offset in memory. An empty file and file systems without limits
 * accept anything; 4096 is safe with all of them.
 */
static void probe_alignment(BlockDriverState *bs, int fd)
{
    static const uint32_t sizes[] = { 1, 512, 1024, 2048, MAX_ALIGN };
    uint8_t *buf = blk_try_memalign(2 * MAX_ALIGN);
    uint32_t request = MAX_ALIGN, memory = MAX_ALIGN;

    for (size_t i = 0; buf && i < G_N_ELEMENTS(sizes); i++) {
        if (pread(fd, buf, sizes[i], 0) >= 0) {
            request = sizes[i] == 1 ? MAX_ALIGN : sizes[i];
            break;
        }
    }
    for (size_t i = 0; buf && i < G_N_ELEMENTS(sizes); i++) {
        if (pread(fd, buf + sizes[i] % MAX_ALIGN, MAX_ALIGN, 0) >= 0) {
            memory = sizes[i] == 1 ? MAX_ALIGN : sizes[i];
            break;
        }
    }
    free(buf);
    bs->request_alignment = request;
    bs->mem_alignment = memory;
}

static void set_limits(BlockDriverState *bs, FileState *s)
{
    int sector;

    if (s->direct) {
        probe_alignment(bs, s->fd);
    }
    if (s->is_device && ioctl(s->fd, BLKSSZGET, &sector) == 0 &&
        sector > 0 && sector <= MAX_ALIGN) {
        bs->pwrite_zeroes_alignment = sector;
        bs->pdiscard_alignment = sector;
    }
    bs->growable = !s->is_device;
    bs->max_transfer = MAX_TRANSFER;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
}

static int coroutine_fn file_co_open(BlockDriverState *bs,
                                     BdrvOptions *options, unsigned flags,
                                     GError **errp)
{
    FileState *s = bs->opaque;
    g_autofree char *filename = bdrv_options_take(options, "filename");
    Locking locking = LOCKING_AUTO;
    int ret = take_locking(options, &locking, errp);

    if (ret == 0) {
        ret = check_aio_option(options, flags, errp);
    }
    ret = ret < 0 ? ret : take_ignored(options, errp);
    if (ret < 0) {
        return ret;
    }
    if (!filename || !*filename) {
        return bdrv_options_missing(options, "driver 'file'", "filename",
                                    errp);
    }
    s->fd = open_fd(filename, flags, errp);
    if (s->fd < 0) {
        return s->fd;
    }
    s->direct = flags & BDRV_O_NOCACHE;
    ret = file_check_type(s->fd, filename, &s->is_device, errp);
    if (ret == 0) {
        ret = lock_fd(s->fd, filename, flags, locking, errp);
    }
    if (ret < 0) {
        file_unlock(s->fd);
        close(s->fd);
        return ret;
    }
    s->locked = locking != LOCKING_OFF && !(flags & BDRV_O_FORCE_SHARE);
    set_limits(bs, s);
    file_grow_init(&s->grow, s->direct && !s->is_device);
    g_free(bs->filename);
    bs->filename = g_steal_pointer(&filename);
    return 0;
}

static int coroutine_fn file_co_close(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int ret = file_grow_trim(&s->grow, s->fd, bs->total_bytes);

    if (!s->kept) {
        file_unlock(s->fd);
    }
    if (close(s->fd) < 0 && ret == 0) {
        ret = -errno;
    }
    return ret;
}

static int file_reopen_keep(BlockDriverState *bs, bool writer, void **ret,
                            GError **errp)
{
    FileState *s = bs->opaque;
    g_autoptr(GError) error = NULL;
    int kept;

    *ret = NULL;
    if (!s->locked) {
        return 0;
    }
    kept = file_lock_keep(s->fd, !bs->read_only, writer, bs->filename,
                          &error);
    if (kept == -ENOTSUP) {
        return 0; /* there were none */
    }
    if (kept < 0) {
        g_propagate_error(errp, g_steal_pointer(&error));
        return kept;
    }
    s->kept = true;
    *ret = GINT_TO_POINTER(kept);
    return 0;
}

static void file_reopen_unkeep(BlockDriverState *bs, void *kept)
{
    FileState *s = bs->opaque;

    s->kept = false;
    file_lock_unkeep(s->fd, !bs->read_only, GPOINTER_TO_INT(kept));
}

static void file_reopen_drop(void *kept)
{
    file_unlock(GPOINTER_TO_INT(kept));
    close(GPOINTER_TO_INT(kept));
}

static int64_t coroutine_fn file_co_getlength(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    struct stat st;

    if (s->is_device) {
        uint64_t bytes;

        return ioctl(s->fd, BLKGETSIZE64, &bytes) < 0 ? -errno :
                                                        (int64_t)bytes;
    }
    return fstat(s->fd, &st) < 0 ? -errno : st.st_size;
}

/* --- Transfers --- */

typedef ssize_t coroutine_fn Transfer(int fd, const struct iovec *iov,
                                      int niov, uint64_t offset,
                                      unsigned flags);

/*
 * Repeat @fn until @qiov is done or nothing more comes. Returns the bytes done
 * or -errno.
 */
static int64_t coroutine_fn transfer_all(FileState *s, Transfer *fn,
                                         uint64_t offset, QEMUIOVector *qiov,
                                         unsigned flags)
{
    size_t done = 0;

    while (done < qiov->size) {
        QEMUIOVector rest;
        ssize_t n;

        if (done == 0) {
            n = fn(s->fd, qiov->iov, qiov->niov, offset, flags);
        } else {
            qemu_iovec_init_slice(&rest, qiov, done, qiov->size - done);
            n = fn(s->fd, rest.iov, rest.niov, offset + done, flags);
            qemu_iovec_destroy(&rest);
        }
        if (n < 0) {
            return n;
        }
        done += n;
        /* O_DIRECT stops inside a block only at the end of the file; to go
         * on from there would not be aligned. */
        if (n == 0 || (s->direct && !IS_ALIGNED(done, 512))) {
            break;
        }
    }
    return done;
}

static unsigned hint(const FileState *s, uint64_t bytes)
{
    if (s->direct) {
        return AIO_HINT_DIRECT;
    }
    return bytes >= AIO_ASYNC_MIN_BYTES ? AIO_HINT_ASYNC : 0;
}

static int coroutine_fn file_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    FileState *s = bs->opaque;
    int64_t done = transfer_all(s, aio_co_preadv, offset, qiov,
                                hint(s, bytes));

    if (done < 0) {
        return done;
    }
    qemu_iovec_memset(qiov, done, 0, bytes - done); /* past the end */
    return 0;
}

static int coroutine_fn file_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    FileState *s = bs->opaque;
    unsigned aio_flags = hint(s, bytes);
    int64_t done;

    if (flags & BDRV_REQ_FUA) {
        aio_flags |= AIO_DSYNC;
    }
    file_grow_for(&s->grow, s->fd, bs->total_bytes, offset, bytes);
    done = transfer_all(s, aio_co_pwritev, offset, qiov, aio_flags);
    if (done < 0) {
        if (done == -EIO && (flags & BDRV_REQ_FUA)) {
            s->flush_failed = true; /* it may be another write's error */
        }
        return done;
    }
    /* A write that makes no progress has met the end of its device. */
    return (uint64_t)done == bytes ? 0 : -ENOSPC;
}

static int coroutine_fn file_co_copy_range(BlockDriverState *bs,
                                           uint64_t offset, uint64_t bytes,
                                           BlockDriverState *src,
                                           uint64_t src_offset)
{
    FileState *s = bs->opaque, *from = src->opaque;

    return src->drv != bs->drv || s->is_device || from->is_device
           ? -ENOTSUP
           : file_copy(from->fd, src_offset, s->fd, offset, bytes);
}

static int coroutine_fn file_co_flush_to_disk(BlockDriverState *bs)
{
    FileState *s = bs->opaque;
    int ret;

    if (s->flush_failed) {
        return -EIO;
    }
    ret = aio_co_fdatasync(s->fd);
    if (ret < 0) {
        s->flush_failed = true;
    }
    return ret;
}

/* --- Zeroes, discard, length --- */

static bool is_unsupported(int ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENOTTY;
}

static int coroutine_fn punch_hole(FileState *s, uint64_t offset,
                                   uint64_t bytes)
{
    int ret;

    if (s->no_punch_hole) {
        return -ENOTSUP;
    }
    ret = aio_co_fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           offset, bytes);
    s->data_end = 0;
    if (is_unsupported(ret)) {
        s->no_punch_hole = true;
        return -ENOTSUP;
    }
    return ret;
}

static int coroutine_fn zero_in_place(FileState *s, uint64_t offset,
                                      uint64_t bytes)
{
    int mode = FALLOC_FL_ZERO_RANGE |
               (s->is_device ? FALLOC_FL_KEEP_SIZE : 0);
    int ret;

    if (s->no_zero_range) {
        return -ENOTSUP;
    }
    ret = aio_co_fallocate(s->fd, mode, offset, bytes);
    s->data_end = 0;
    if (is_unsupported(ret)) {
        s->no_zero_range = true;
        return -ENOTSUP;
    }
    return ret;
}

static int coroutine_fn file_co_pwrite_zeroes(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              unsigned flags)
{
    FileState *s = bs->opaque;
    /* A hole past the end would leave the file short. */
    bool inside = offset + bytes <= bs->total_bytes;
    int ret = -ENOTSUP;

    if (inside && (flags & BDRV_REQ_MAY_UNMAP)) {
        ret = punch_hole(s, offset, bytes);
    }
    if (ret == -ENOTSUP) {
        ret = zero_in_place(s, offset, bytes);
    }
    if (ret == -ENOTSUP && inside && !s->is_device) {
        ret = punch_hole(s, offset, bytes);
        if (ret == 0) {
            /* The space must stay, or a later write could fail. */
            ret = aio_co_fallocate(s->fd, 0, offset, bytes);
            ret = is_unsupported(ret) ? 0 : ret;
        }
    }
    return ret;
}

static int coroutine_fn file_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    return punch_hole(bs->opaque, offset, bytes);
}

int coroutine_fn file_write_full(int fd, uint64_t from, uint64_t to)
{
    FileState s = { .fd = fd };
    uint8_t *buf = blk_try_memalign(PREALLOC_STEP);
    int ret = buf ? 0 : -ENOMEM;

    if (buf) {
        memset(buf, 0, PREALLOC_STEP);
    }
    for (uint64_t pos = from; pos < to && ret == 0; pos += PREALLOC_STEP) {
        uint64_t n = MIN(to - pos, PREALLOC_STEP);
        QEMUIOVector qiov;
        int64_t done;

        qemu_iovec_init_buf(&qiov, buf, n);
        done = transfer_all(&s, aio_co_pwritev, pos, &qiov, hint(&s, n));
        ret = done < 0 ? done : (uint64_t)done < n ? -ENOSPC
                                                   : aio_check_stop();
    }
    free(buf);
    return ret ? ret : aio_co_fdatasync(fd);
}

/* Give [@from, @to) behind the old end its space. */
static int coroutine_fn preallocate(FileState *s, uint32_t align,
                                    uint64_t from, uint64_t to,
                                    BdrvPrealloc prealloc)
{
    int ret;

    if (prealloc == BDRV_PREALLOC_OFF || from >= to) {
        return 0;
    }
    ret = aio_co_fallocate(s->fd, 0, from, to - from);
    if (ret < 0 && prealloc == BDRV_PREALLOC_FULL && is_unsupported(ret)) {
        ret = 0; /* writing does it as well */
    }
    if (ret == 0 && prealloc == BDRV_PREALLOC_FULL) {
        ret = file_write_full(s->fd, ROUND_UP(from, align),
                              ROUND_DOWN(to, align));
    }
    return ret;
}

static int coroutine_fn file_co_truncate(BlockDriverState *bs, uint64_t size,
                                         BdrvPrealloc prealloc, GError **errp)
{
    FileState *s = bs->opaque;
    uint64_t old = bs->total_bytes;
    int ret;

    if (prealloc == BDRV_PREALLOC_METADATA) {
        return set_error(errp, -ENOTSUP, "'%s' has no metadata to "
                         "preallocate", bs->filename);
    }

    if (s->is_device) {
        if (size == bs->total_bytes) {
            return 0;
        }
        return set_error(errp, -ENOTSUP, "'%s' is a block device and keeps "
                         "its size", bs->filename);
    }
    ret = aio_co_ftruncate(s->fd, size);
    if (ret == 0) {
        s->grow.end = 0;
        s->data_end = 0;
        ret = preallocate(s, bs->request_alignment, old, size, prealloc);
        if (ret < 0) {
            (void)aio_co_ftruncate(s->fd, old);
        }
    }
    if (ret < 0) {
        set_error(errp, ret, "cannot resize '%s': %s", bs->filename,
                  g_strerror(-ret));
    }
    return ret;
}

/* --- Block status --- */

/*
 * How long [@offset, ...) stays what it is: data or a hole. Whoever asks for
 * each cluster of an image is most often inside the data seen last.
 */
static bool file_is_hole(FileState *s, uint64_t offset, uint64_t *ret_bytes)
{
    off_t data, hole;

    if (offset >= s->data_start && offset < s->data_end) {
        *ret_bytes = s->data_end - offset;
        return false;
    }
    data = lseek(s->fd, offset, SEEK_DATA);
    if (data < 0) {
        *ret_bytes = UINT64_MAX; /* a hole up to the end, or no SEEK_DATA */
        return errno == ENXIO;
    }
    if ((uint64_t)data > offset) {
        *ret_bytes = data - offset;
        return true;
    }
    hole = lseek(s->fd, offset, SEEK_HOLE);
    if (hole <= (off_t)offset) {
        *ret_bytes = UINT64_MAX;
        return false;
    }
    s->data_start = offset;
    s->data_end = hole;
    *ret_bytes = hole - offset;
    return false;
}

static int coroutine_fn file_co_block_status(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes,
                                             uint64_t *ret_bytes,
                                             uint64_t *ret_map)
{
    FileState *s = bs->opaque;
    uint64_t align = bs->request_alignment;
    int ret = BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    uint64_t n = UINT64_MAX;
    bool hole = !s->is_device && file_is_hole(s, offset, &n);

    if (hole && n < align) {
        hole = false; /* the block holds data as well */
    }
    if (n >= bytes) {
        n = bytes;
    } else {
        n = hole ? ROUND_DOWN(n, align) : MIN(ROUND_UP(n, align), bytes);
    }
    *ret_bytes = n;
    *ret_map = offset;
    return ret | (hole ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA);
}

static uint64_t file_allocated_bytes(const BlockDriverState *bs)
{
    const FileState *s = bs->opaque;
    struct stat st;

    return fstat(s->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

BlockDriver bdrv_file = {
    .format_name = "file",
    .protocol_name = "file",
    .instance_size = sizeof(FileState),
    .parse_filename = file_parse_filename,
    .co_open = file_co_open,
    .co_close = file_co_close,
    .reopen_keep = file_reopen_keep,
    .reopen_unkeep = file_reopen_unkeep,
    .reopen_drop = file_reopen_drop,
    .co_create = file_co_create,
    .co_uncreate = file_co_uncreate,
    .allocated_bytes = file_allocated_bytes,
    .co_getlength = file_co_getlength,
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
    .co_pwrite_zeroes = file_co_pwrite_zeroes,
    .co_pdiscard = file_co_pdiscard,
    .co_copy_range = file_co_copy_range,
    .co_flush_to_disk = file_co_flush_to_disk,
    .co_truncate = file_co_truncate,
    .co_block_status = file_co_block_status,
};
