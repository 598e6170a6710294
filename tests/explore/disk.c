/* SPDX-License-Identifier: MIT */
/* The explorer's block driver, see disk.h. */
#include "tests/explore/disk.h"

#include <errno.h>
#include <string.h>

#include "block/block_int.h"
#include "util/coroutine.h"
#include "util/thread-pool.h"

#define SECTOR 512

typedef struct Waiter {
    DiskRequest req;
    Coroutine *co;
} Waiter;

static struct {
    uint8_t bytes[DISK_MAX];
    size_t size;
    uint64_t sector_hash[DISK_MAX / SECTOR];
    uint64_t hash;                      /* of all sectors */
    const DiskTemplate *from;           /* what it was reset to */
    bool changed[DISK_MAX / SECTOR];    /* since then */
    unsigned changes[DISK_MAX / SECTOR];
    unsigned nb_changes;
    bool hold;
    bool data_changed;
    Waiter *held[DISK_MAX_HELD];
    unsigned nb_held;
} disk;

/* ---- contents ---- */

uint64_t disk_mix(uint64_t hash, const void *buf, size_t bytes)
{
    const uint8_t *p = buf;
    uint64_t w;

    for (; bytes >= sizeof(w); bytes -= sizeof(w), p += sizeof(w)) {
        memcpy(&w, p, sizeof(w));
        hash = (hash ^ w) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    if (bytes) {
        w = 0;
        memcpy(&w, p, bytes);
        hash = (hash ^ w ^ bytes) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    return hash;
}

static bool is_zero(const uint8_t *p, size_t bytes)
{
    return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

static void hash_sectors(uint64_t offset, uint64_t bytes)
{
    for (size_t i = offset / SECTOR;
         i < DIV_ROUND_UP(offset + bytes, (uint64_t)SECTOR); i++) {
        const uint8_t *p = disk.bytes + i * SECTOR;

        if (!disk.changed[i]) {
            disk.changed[i] = true;
            disk.changes[disk.nb_changes++] = i;
        }
        disk.hash -= disk.sector_hash[i];
        disk.sector_hash[i] = is_zero(p, SECTOR) ? 0
                              : disk_mix(i + 1, p, SECTOR);
        disk.hash += disk.sector_hash[i];
    }
}

/* @buf NULL: zeroes. */
static int store(uint64_t offset, const QEMUIOVector *qiov, uint64_t bytes)
{
    if (offset + bytes > DISK_MAX) {
        return -ENOSPC;
    }
    if (qiov) {
        qemu_iovec_to_buf(qiov, 0, disk.bytes + offset, bytes);
    } else {
        memset(disk.bytes + offset, 0, bytes);
    }
    hash_sectors(offset, bytes);
    disk.size = MAX(disk.size, offset + bytes);
    return 0;
}

/* Put sector @i back to what the template has there. */
static void restore_sector(const DiskTemplate *t, size_t i)
{
    size_t start = i * SECTOR;
    size_t n = t && start < t->size ? MIN(SECTOR, t->size - start) : 0;

    memset(disk.bytes + start, 0, SECTOR);
    if (n) {
        memcpy(disk.bytes + start, t->bytes + start, n);
    }
}

void disk_reset(const DiskTemplate *t)
{
    assert(!disk.nb_held);
    if (t && t == disk.from) {
        for (unsigned k = 0; k < disk.nb_changes; k++) {
            restore_sector(t, disk.changes[k]);
        }
    } else {
        for (size_t i = 0; i < DISK_MAX / SECTOR; i++) {
            restore_sector(t, i);
        }
        hash_sectors(0, DISK_MAX);
    }
    for (unsigned k = 0; k < disk.nb_changes; k++) {
        size_t i = disk.changes[k];

        hash_sectors(i * SECTOR, 1);
        disk.changed[i] = false;
    }
    disk.nb_changes = 0;
    disk.data_changed = false;
    disk.from = t;
    disk.size = t ? t->size : 0;
}

DiskTemplate disk_save(void)
{
    return (DiskTemplate) { g_memdup2(disk.bytes, disk.size), disk.size };
}

void disk_template_cleanup(DiskTemplate *t)
{
    disk.from = disk.from == t ? NULL : disk.from;
    g_free(t->bytes);
    *t = (DiskTemplate) { 0 };
}

const uint8_t *disk_bytes(void)
{
    return disk.bytes;
}

size_t disk_size(void)
{
    return disk.size;
}

uint64_t disk_hash(void)
{
    return disk_mix(disk.hash, &disk.size, sizeof(disk.size));
}

bool disk_data_changed(void)
{
    return disk.data_changed;
}

/* ---- holding ---- */

void disk_hold(bool on)
{
    disk.hold = on;
}

unsigned disk_nb_held(void)
{
    return disk.nb_held;
}

const DiskRequest *disk_held(unsigned i)
{
    assert(i < disk.nb_held);
    return &disk.held[i]->req;
}

void disk_release(unsigned i, int error)
{
    Waiter *w = disk.held[i];

    disk.nb_held--;
    memmove(&disk.held[i], &disk.held[i + 1],
            (disk.nb_held - i) * sizeof(disk.held[0]));
    w->req.error = error;
    aio_co_wake(w->co);
}

static uint64_t hash_request(const DiskRequest *r, const QEMUIOVector *qiov)
{
    uint64_t h = disk_mix(r->type + 1, &r->offset, sizeof(r->offset));

    h = disk_mix(h, &r->bytes, sizeof(r->bytes));
    for (int i = 0; qiov && i < qiov->niov; i++) {
        h = disk_mix(h, qiov->iov[i].iov_base, qiov->iov[i].iov_len);
    }
    return h;
}

/* Wait to be let go. Returns 0 or the error that was chosen. */
static int coroutine_fn held(DiskType type, uint64_t offset, uint64_t bytes,
                             const QEMUIOVector *data)
{
    Waiter w = { { type, offset, bytes, co_self(), 0, 0 }, co_self() };

    if (!disk.hold) {
        return 0;
    }
    assert(disk.nb_held < DISK_MAX_HELD);
    w.req.hash = hash_request(&w.req, data);
    disk.held[disk.nb_held++] = &w;
    co_yield();
    if (data && hash_request(&w.req, data) != w.req.hash) {
        disk.data_changed = true;
    }
    return -w.req.error;
}

const char *disk_type_name(DiskType type)
{
    static const char *const names[] = {
        "read", "write", "discard", "flush", "compute",
    };

    return names[type];
}

/* ---- the thread pool, without threads ---- */

int coroutine_fn __wrap_thread_pool_co_run(int (*fn)(void *), void *opaque);

int coroutine_fn __wrap_thread_pool_co_run(int (*fn)(void *), void *opaque)
{
    int ret = held(DISK_COMPUTE, 0, 0, NULL);

    (void)ret; /* computing does not fail */
    return fn(opaque);
}

/* ---- the driver ---- */

static int coroutine_fn held_co_open(BlockDriverState *bs,
                                     BdrvOptions *options, unsigned flags,
                                     GError **errp)
{
    bs->request_alignment = 1;
    bs->growable = true;
    return 0;
}

static int held_parse_filename(const char *filename, BdrvOptions *options,
                               GError **errp)
{
    return 0;
}

static int coroutine_fn held_co_create(const char *filename,
                                       BdrvOptions *options, GError **errp)
{
    uint64_t size;
    int ret = bdrv_options_take_size(options, "size", 0, &size, errp);

    if (ret == 0) {
        disk_reset(NULL);
        disk.size = size;
    }
    return ret;
}

static int64_t coroutine_fn held_co_getlength(BlockDriverState *bs)
{
    return disk.size;
}

static int coroutine_fn held_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    int ret = held(DISK_READ, offset, bytes, NULL);

    if (ret == 0 && offset + bytes > DISK_MAX) {
        ret = -EIO;
    }
    if (ret == 0) {
        qemu_iovec_from_buf(qiov, 0, disk.bytes + offset, bytes);
    }
    return ret;
}

static int coroutine_fn held_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    int ret = held(DISK_WRITE, offset, bytes, qiov);

    return ret < 0 ? ret : store(offset, qiov, bytes);
}

static int coroutine_fn held_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    int ret = held(DISK_DISCARD, offset, bytes, NULL);

    return ret < 0 ? ret : store(offset, NULL, bytes);
}

static int coroutine_fn held_co_flush_to_disk(BlockDriverState *bs)
{
    return held(DISK_FLUSH, 0, 0, NULL);
}

static int coroutine_fn held_co_truncate(BlockDriverState *bs, uint64_t size,
                                         BdrvPrealloc prealloc,
                                         GError **errp)
{
    if (size > DISK_MAX) {
        return -ENOSPC;
    }
    if (size < disk.size) {
        memset(disk.bytes + size, 0, disk.size - size);
        hash_sectors(size, disk.size - size);
    }
    disk.size = size;
    return 0;
}

static BlockDriver bdrv_held = {
    .format_name = "held",
    .protocol_name = "held",
    .instance_size = 1,
    .parse_filename = held_parse_filename,
    .co_open = held_co_open,
    .co_create = held_co_create,
    .co_getlength = held_co_getlength,
    .co_preadv = held_co_preadv,
    .co_pwritev = held_co_pwritev,
    .co_pdiscard = held_co_pdiscard,
    .co_flush_to_disk = held_co_flush_to_disk,
    .co_truncate = held_co_truncate,
};

void disk_init(void)
{
    bdrv_register(&bdrv_held);
}
