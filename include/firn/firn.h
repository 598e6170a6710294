/* SPDX-License-Identifier: MIT */
/*
 * firn: machine snapshots in disk images, for programs that embed it.
 *
 * A context is an event loop: it has a thread of its own, or the caller's
 * loop drives it. Disks live on a context and are read and written with
 * blocking or asynchronous calls. A machine is a set of RAM blocks, devices
 * and disks whose whole state is saved into, and loaded from, internal
 * snapshots of those disks.
 *
 * Errors. A function that can fail returns 0 (or a count, where it says so)
 * or a negative errno; those with a GError **errp last also set a sentence
 * for people there, with domain firn_error_domain() and the positive errno as
 * its code. errp may be NULL. Results behind pointers that are named ret_...
 * are written on success only. The library never prints and never exits.
 *
 * Threads. Every function may be called from any thread unless it says
 * otherwise; an object that is being freed must not be used by anyone else.
 * "The context's thread" is the one that the context made for itself
 * (FIRN_CONTEXT_THREAD), or the one that called firn_context_new() and calls
 * firn_context_dispatch() (FIRN_CONTEXT_CALLER). Callbacks run there, except
 * where stated, and must not block: every other request waits for them.
 *
 * Blocking calls. "Blocks" below means: waits until the operation is over.
 * On the context's thread of a FIRN_CONTEXT_CALLER context the wait drives
 * the context, so callbacks of other requests run meanwhile. A blocking call
 * from within a callback of the same context would wait for itself: it is
 * refused with -EDEADLK and has done nothing. From any other thread the wait
 * is on a condition, and somebody must be driving the context.
 */
#ifndef FIRN_FIRN_H
#define FIRN_FIRN_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <firn/types.h>
#include <firn/vmstate.h>

G_BEGIN_DECLS

#define FIRN_API __attribute__((visibility("default")))

#define FIRN_VERSION_MAJOR 0
#define FIRN_VERSION_MINOR 1
#define FIRN_VERSION_MICRO 0

/* The version that is linked, "MAJOR.MINOR.MICRO"; a static string. */
FIRN_API const char *firn_version(void);

/* Is the linked library of version @major.@minor.@micro or later? */
FIRN_API bool firn_version_at_least(unsigned major, unsigned minor,
                                    unsigned micro);

/* Domain of every GError set by this library. Its codes are errno values. */
FIRN_API GQuark firn_error_domain(void);

/* ---- Contexts ---- */

typedef struct FirnContext FirnContext;

typedef enum {
    FIRN_CONTEXT_THREAD, /* runs on a thread that it makes and ends */
    FIRN_CONTEXT_CALLER, /* runs inside firn_context_dispatch() */
} FirnContextMode;

/*
 * Make a context. The environment variable FIRN_AIO=io_uring|threads chooses
 * how it does file I/O; without it io_uring is used where the kernel allows.
 * Threads of the library block all signals.
 *
 * Returns NULL with @errp set: no memory or descriptors (EMFILE, ENOMEM), a
 * mode that is neither of the two (EINVAL), or no thread (EAGAIN).
 */
FIRN_API FirnContext *firn_context_new(FirnContextMode mode, GError **errp);

/*
 * End the thread of @ctx, if it has one, and free it. Does nothing for NULL.
 *
 * Every disk and machine of @ctx must be closed and freed before (asserted).
 * Not from a callback of @ctx; a FIRN_CONTEXT_CALLER context is freed on its
 * own thread. May block until callbacks that are under way return.
 */
FIRN_API void firn_context_free(FirnContext *ctx);

/*
 * A descriptor that polls readable when firn_context_dispatch() has work to
 * do. For FIRN_CONTEXT_CALLER only; owned by @ctx: only poll it. The value
 * stays the same until firn_context_free(). Returns it, or -EINVAL when @ctx
 * has its own thread.
 */
FIRN_API int firn_context_fd(FirnContext *ctx);

/*
 * Do what can be done now without waiting: submit and complete I/O, run
 * callbacks. Call it when the descriptor polls readable, on the thread that
 * made @ctx. Returns 1 when it did something, 0 when there was nothing to do,
 * -EINVAL when @ctx has its own thread, -EPERM on a thread other than the
 * one that made it, -EDEADLK from a callback of @ctx.
 */
FIRN_API int firn_context_dispatch(FirnContext *ctx);

/* How @ctx does file I/O: "io_uring" or "threads". A static string. */
FIRN_API const char *firn_context_backend(FirnContext *ctx);

/* ---- Disks ---- */

typedef struct FirnDisk FirnDisk;

enum {
    FIRN_DISK_RDWR = 1 << 0,       /* for writing too; default: reading */
    FIRN_DISK_NO_BACKING = 1 << 1, /* leave backing files closed */
    FIRN_DISK_UNMAP = 1 << 2,      /* discards free space in the image */
    FIRN_DISK_FORCE_SHARE = 1 << 3, /* read though another process writes */
};

/*
 * Open a disk image.
 *
 * @filename  a path, "json:{...}" or "protocol:..."; NULL when @options say
 *            where the image is ("driver=qcow2,file.filename=d.qcow2")
 * @options   "key=value,key=value" (a comma inside a value is written ",,"),
 *            or NULL. "cache=none|directsync|writeback|writethrough|unsafe"
 *            is understood for every driver; without "driver" the format is
 *            probed
 * @flags     FIRN_DISK_... bits
 *
 * Returns 0, or with @errp set: -EINVAL for a bad option or image, -ENOENT,
 * -EACCES and so on from the system, -EAGAIN when another process has the
 * image open in a conflicting way, -ENOTSUP for an image feature that is not
 * supported, -EDEADLK. Blocks. The disk holds on to @ctx.
 */
FIRN_API int firn_disk_open(FirnContext *ctx, const char *filename,
                            const char *options, unsigned flags,
                            FirnDisk **ret_disk, GError **errp);

/*
 * Wait for all requests of @disk and their callbacks, flush, close, free. It
 * must have been removed from machines by firn_machine_free() first
 * (asserted). @disk is gone in any case but -EDEADLK. Does nothing for NULL.
 *
 * Returns 0, or -errno of the last flush or of writing metadata back. Blocks.
 */
FIRN_API int firn_disk_close(FirnDisk *disk);

/*
 * Create an image. @format: "qcow2" or "raw". @options: create options as
 * above, "size=2G" first of all; sizes take k, M, G, T, P, E (powers of
 * 1024). An existing file is overwritten.
 *
 * Returns 0 or -errno as firn_disk_open(), with @errp set. Blocks.
 */
FIRN_API int firn_disk_create(FirnContext *ctx, const char *format,
                              const char *filename, const char *options,
                              GError **errp);

/* Bytes the guest sees, or -errno. Blocks. */
FIRN_API int64_t firn_disk_length(FirnDisk *disk);

/* Was @disk opened with FIRN_DISK_RDWR? */
FIRN_API bool firn_disk_is_writable(FirnDisk *disk);

/*
 * Read or write @bytes (0 to 1 GiB) at byte @offset; any alignment. All of
 * it is done or the call fails: -EIO past the end of the disk, -EINVAL for
 * @bytes over the limit, -EROFS for a write to a disk that is not writable,
 * -ENOSPC, -EIO and so on from the system, -EDEADLK. A failed write may have
 * written any part. Blocks.
 */
FIRN_API int firn_disk_pread(FirnDisk *disk, uint64_t offset, void *buf,
                             size_t bytes);
FIRN_API int firn_disk_pwrite(FirnDisk *disk, uint64_t offset,
                              const void *buf, size_t bytes);

/*
 * Make every write that has completed survive a power cut. Returns 0 or
 * -errno; after an error it is not known which writes are on disk. Blocks.
 */
FIRN_API int firn_disk_flush(FirnDisk *disk);

/*
 * Say that the content of the range no longer matters (a hint; what it reads
 * as afterwards is not defined), or make it read as zeroes. Errors as for
 * firn_disk_pwrite(); ranges up to the whole disk. Blocks.
 */
FIRN_API int firn_disk_discard(FirnDisk *disk, uint64_t offset,
                               uint64_t bytes);
FIRN_API int firn_disk_write_zeroes(FirnDisk *disk, uint64_t offset,
                                    uint64_t bytes);

/* ---- Asynchronous requests ---- */

typedef struct FirnRequest FirnRequest;

/*
 * Called exactly once for every request that was accepted, on the context's
 * thread, never from within the call that submitted it. @ret: 0, or -errno
 * as of the blocking call of the same name, or -ECANCELED.
 */
typedef void FirnRequestFunc(void *opaque, int ret);

/*
 * Start a request. @iov is copied; the memory it points to must stay until
 * the callback. The sum of its lengths is at most 1 GiB. None of these
 * blocks; all may be called from callbacks too.
 *
 * @ret_request  NULL, or where to put a handle for firn_request_cancel(),
 *               to be given back with firn_request_unref()
 *
 * Returns 0: the request is accepted and @cb will be called. -EINVAL: @niov
 * is not 0..1024 or the sum is too large, and @cb will not be called.
 * Requests run in parallel and complete in any order.
 */
FIRN_API int firn_disk_preadv_async(FirnDisk *disk, uint64_t offset,
                                    const struct iovec *iov, int niov,
                                    FirnRequestFunc *cb, void *opaque,
                                    FirnRequest **ret_request);
FIRN_API int firn_disk_pwritev_async(FirnDisk *disk, uint64_t offset,
                                     const struct iovec *iov, int niov,
                                     FirnRequestFunc *cb, void *opaque,
                                     FirnRequest **ret_request);
FIRN_API int firn_disk_flush_async(FirnDisk *disk, FirnRequestFunc *cb,
                                   void *opaque, FirnRequest **ret_request);
FIRN_API int firn_disk_discard_async(FirnDisk *disk, uint64_t offset,
                                     uint64_t bytes, FirnRequestFunc *cb,
                                     void *opaque, FirnRequest **ret_request);
FIRN_API int firn_disk_write_zeroes_async(FirnDisk *disk, uint64_t offset,
                                          uint64_t bytes,
                                          FirnRequestFunc *cb, void *opaque,
                                          FirnRequest **ret_request);

/*
 * Ask that @req end early. One that has not begun is not begun; one that has
 * begun runs to its end, since the system may be using its memory. In both
 * cases the callback gets -ECANCELED, once the I/O is really over, unless it
 * was already on its way: a cancelled write may have happened. Does not
 * block; harmless at any time while the handle is held.
 */
FIRN_API void firn_request_cancel(FirnRequest *req);

/* Give a handle back; the request goes on. Does nothing for NULL. */
FIRN_API void firn_request_unref(FirnRequest *req);

/* ---- Snapshots ---- */

typedef struct FirnSnapshotInfo {
    char *id;               /* unique number in the image, as text */
    char *name;             /* the tag */
    uint64_t vm_state_bytes; /* size of the machine state; 0: disk only */
    uint64_t disk_bytes;    /* length of the disk then; 0: not recorded */
    int64_t date_sec;       /* when, seconds since 1970 */
    uint32_t date_nsec;     /* 0..999999999 */
    uint64_t vm_clock_ns;   /* the machine's clock then */
    uint64_t icount;        /* instructions executed; UINT64_MAX: unknown */
} FirnSnapshotInfo;

/*
 * The snapshots inside @disk, in the order of its snapshot table; any format
 * without them gives -ENOTSUP. On success *@ret_infos is an array of
 * FirnSnapshotInfo *, possibly empty, which g_ptr_array_unref() frees
 * together with its elements. Blocks.
 */
FIRN_API int firn_disk_list_snapshots(FirnDisk *disk, GPtrArray **ret_infos,
                                      GError **errp);

/* ---- Machines ---- */

typedef struct FirnMachine FirnMachine;

/* What a machine asks of the program that owns it. */
typedef struct FirnMachineOps {
    /*
     * Stop the guest, which runs: return when no virtual processor does and
     * no disk request of the guest is under way. Returns 0, or -errno, which
     * fails the operation. Called on a helper thread, so it may block and
     * wait for requests to complete.
     */
    int (*stop)(void *opaque);
    /* Start the guest again. Called as stop. */
    void (*cont)(void *opaque);
    /* Does the guest run? On any thread; must not block. */
    bool (*is_running)(void *opaque);
    /* The machine's clock in ns, kept in the snapshot. As is_running. */
    uint64_t (*clock_ns)(void *opaque);
} FirnMachineOps;

/*
 * Make a machine. @name is its type, 1 to 255 bytes: a snapshot of one type
 * is refused by a machine of another. @ops is copied; every member is needed.
 *
 * Returns NULL with @errp set to EINVAL for a bad name or missing op. The
 * machine holds on to @ctx.
 */
FIRN_API FirnMachine *firn_machine_new(FirnContext *ctx, const char *name,
                                       const FirnMachineOps *ops,
                                       void *opaque, GError **errp);

/*
 * Free @machine. RAM, devices and disks stay the caller's. No operation of
 * it may be under way (asserted). Does nothing for NULL.
 */
FIRN_API void firn_machine_free(FirnMachine *machine);

/*
 * Register guest RAM. @idstr: 1 to 255 bytes, unique in the machine. @host:
 * page-aligned memory that stays until firn_machine_free(). @bytes: above 0,
 * a multiple of 4096.
 *
 * Returns 0, -EINVAL, -EEXIST for an idstr that is taken, or -EBUSY while an
 * operation is under way; with @errp set.
 */
FIRN_API int firn_machine_add_ram(FirnMachine *machine, const char *idstr,
                                  void *host, uint64_t bytes, GError **errp);

/*
 * Register a device. @idstr and @instance_id identify it in the stream.
 * @vmsd describes the fields of @state (firn/vmstate.h); both stay until
 * firn_machine_free(). Its hooks run on the context's thread while the guest
 * is stopped, and must not block.
 *
 * Returns as firn_machine_add_ram().
 */
FIRN_API int firn_machine_add_device(FirnMachine *machine, const char *idstr,
                                     uint32_t instance_id,
                                     const VMStateDescription *vmsd,
                                     void *state, GError **errp);

/*
 * Register a disk of the same context under @name, which messages use. Every
 * writable disk gets a snapshot; the first that can hold machine state
 * carries it. The caller closes the disk after firn_machine_free().
 *
 * Returns as firn_machine_add_ram(); -EINVAL for a disk of another context.
 */
FIRN_API int firn_machine_add_disk(FirnMachine *machine, const char *name,
                                   FirnDisk *disk, GError **errp);

/* What an operation that succeeded moved. */
typedef struct FirnVmResult {
    uint64_t stream_bytes; /* size of the machine state */
    uint64_t elapsed_ns;   /* from the call to its end, stop and all */
} FirnVmResult;

/*
 * Save the machine into a new snapshot @tag (1 to 255 bytes) of every disk
 * that is writable; one of that name is replaced. The guest is stopped
 * meanwhile and runs on afterwards if it ran before, after an error too. All
 * or nothing: after an error no disk has the new snapshot and all still have
 * the old one; or, when only removing the snapshot it replaces failed, the
 * message says that the new one is complete.
 *
 * @params      how (firn/types.h); NULL: the defaults. Its progress function
 *              runs on the context's thread
 * @ret_result  may be NULL
 *
 * Returns 0, or with @errp set: -EINVAL for a bad tag or parameter, or while
 * firn_machine_is_usable() is false, -EBUSY when an operation of @machine is
 * under way, -ENOTSUP when a disk cannot hold snapshots or none can hold
 * machine state, -ECANCELED, -EDEADLK, or an error of the disks. Blocks.
 */
FIRN_API int firn_machine_savevm(FirnMachine *machine, const char *tag,
                                 const FirnVmstateParams *params,
                                 FirnVmResult *ret_result, GError **errp);

/*
 * Bring the machine back to snapshot @tag (a name, or an id on the disk that
 * carries machine state). What cannot fit is refused before anything changes,
 * and the guest goes on as before; a failure later leaves it stopped, the
 * message says so and firn_machine_is_usable() is false. After success it runs
 * if it ran before.
 *
 * One save must have made the snapshot on all writable disks: name, date and
 * clock are the same there, as firn and QEMU's savevm write them. Of several
 * such the newest is taken. Snapshots that qemu-img made disk by disk differ
 * and are refused.
 *
 * Returns as firn_machine_savevm(); -ENOENT when a disk has no such
 * snapshot; -EINVAL also for a stream that does not fit this machine, and
 * when what the disks have under the name is from different saves.
 */
FIRN_API int firn_machine_loadvm(FirnMachine *machine, const char *tag,
                                 const FirnVmstateParams *params,
                                 FirnVmResult *ret_result, GError **errp);

/*
 * Whether the machine's state is one that a guest can run from: not after a
 * firn_machine_loadvm() that failed half-way, until one succeeds. Ask before
 * starting the guest. Any thread; does not block; while an operation is under
 * way it may be either.
 */
FIRN_API bool firn_machine_is_usable(FirnMachine *machine);

/*
 * Delete snapshot @tag from every disk that has it, whatever save it is from.
 * Returns 0, -ENOENT when none has it, -EBUSY, -EDEADLK, or an error of the
 * disks. Blocks.
 */
FIRN_API int firn_machine_delvm(FirnMachine *machine, const char *tag,
                                GError **errp);

/*
 * Called on the context's thread when an asynchronous operation ends, exactly
 * once. @result is set when @ret is 0, @error when it is a negative errno;
 * both are the library's. The next operation may be started from here.
 */
typedef void FirnVmDoneFunc(void *opaque, int ret, const FirnVmResult *result,
                            const GError *error);

/*
 * Start what the blocking calls of the same name do. Neither blocks; both may
 * be called from callbacks. @tag and @params are copied. Returns 0: @done
 * will be called; or -EBUSY or -EINVAL with @errp set: it will not.
 */
FIRN_API int firn_machine_savevm_async(FirnMachine *machine, const char *tag,
                                       const FirnVmstateParams *params,
                                       FirnVmDoneFunc *done, void *opaque,
                                       GError **errp);
FIRN_API int firn_machine_loadvm_async(FirnMachine *machine, const char *tag,
                                       const FirnVmstateParams *params,
                                       FirnVmDoneFunc *done, void *opaque,
                                       GError **errp);

/*
 * Ask the operation that is under way, if any, to end early: it fails with
 * -ECANCELED unless it had got past the point where it could. Any thread,
 * callbacks too; does not block; a later operation is not affected.
 */
FIRN_API void firn_machine_cancel(FirnMachine *machine);

/*
 * The snapshots of the disk that carries machine state which every other
 * writable disk has from the same save. Those without machine state
 * (vm_state_bytes 0) are listed too but cannot be loaded. Result, errors and
 * blocking as firn_disk_list_snapshots(); -EBUSY while an operation is under
 * way.
 */
FIRN_API int firn_machine_list_snapshots(FirnMachine *machine,
                                         GPtrArray **ret_infos,
                                         GError **errp);

G_END_DECLS

#endif
