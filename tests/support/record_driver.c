/* SPDX-License-Identifier: MIT */
/*
 * The recording driver, see record_driver.h.
 *
 * A disk is one flat piece of memory. Recording is one more use of the undo
 * journal: the disk is marked when it starts and goes back there when it
 * stops, so that the same memory is then moved from cut to cut.
 */
#include "tests/support/record_driver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "util/coroutine.h"

#define CAPACITY (64u << 20)
#define RECORD_PREFIX "rec:"
/* No request is in flight for longer than so many others take to end. */
#define WINDOW 256

static GHashTable *disks; /* name -> RecordDisk */
static BlockDriver bdrv_record;

/* ---- memory that can go back ---- */

typedef struct Undo {
    uint64_t offset;
    uint64_t bytes;     /* of old contents, at the end of undo_data */
    uint64_t len;       /* of the disk before */
} Undo;

static void keep_old(RecordDisk *d, uint64_t offset, uint64_t bytes)
{
    Undo u = { offset, bytes, d->len };

    if (d->undo) {
        g_array_append_val(d->undo, u);
        g_byte_array_append(d->undo_data, d->mem + offset, bytes);
    }
}

/* @buf NULL: zeroes. */
static void mem_write(RecordDisk *d, uint64_t offset, const uint8_t *buf,
                      uint64_t bytes)
{
    assert(bytes <= CAPACITY && offset <= CAPACITY - bytes);
    keep_old(d, offset, bytes);
    if (buf) {
        memcpy(d->mem + offset, buf, bytes);
    } else {
        memset(d->mem + offset, 0, bytes);
    }
    d->len = MAX(d->len, offset + bytes);
}

static void mem_truncate(RecordDisk *d, uint64_t len)
{
    uint64_t lost = d->len > len ? d->len - len : 0;

    assert(len <= CAPACITY);
    keep_old(d, len, lost);
    memset(d->mem + len, 0, lost);
    d->len = len;
}

RecordMark record_mark(RecordDisk *d)
{
    if (!d->undo) {
        d->undo = g_array_new(false, false, sizeof(Undo));
        d->undo_data = g_byte_array_new();
    }
    return (RecordMark) { d->undo->len, d->len };
}

void record_undo(RecordDisk *d, RecordMark m)
{
    while (d->undo->len > m.undo) {
        const Undo *u = &g_array_index(d->undo, Undo, d->undo->len - 1);

        memcpy(d->mem + u->offset,
               d->undo_data->data + d->undo_data->len - u->bytes, u->bytes);
        d->len = u->len;
        g_byte_array_set_size(d->undo_data, d->undo_data->len - u->bytes);
        g_array_set_size(d->undo, d->undo->len - 1);
    }
    assert(d->len == m.len);
}

static void forget_undo(RecordDisk *d)
{
    g_clear_pointer(&d->undo, g_array_unref);
    g_clear_pointer(&d->undo_data, g_byte_array_unref);
}

/* ---- disks ---- */

RecordDisk *record_disk_new(const char *name)
{
    RecordDisk *d = g_new0(RecordDisk, 1);

    if (!disks) {
        disks = g_hash_table_new(g_str_hash, g_str_equal);
        bdrv_register(&bdrv_record);
    }
    assert(!g_hash_table_contains(disks, name));
    d->name = g_strdup(name);
    d->mem = mmap(NULL, CAPACITY, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(d->mem != MAP_FAILED);
    g_hash_table_insert(disks, d->name, d);
    return d;
}

void record_disk_free(RecordDisk *d)
{
    if (!d) {
        return;
    }
    assert(!d->log);
    g_hash_table_remove(disks, d->name);
    forget_undo(d);
    munmap(d->mem, CAPACITY);
    g_free(d->name);
    g_free(d);
}

void record_disk_set(RecordDisk *d, const void *bytes, uint64_t len)
{
    forget_undo(d);
    mem_truncate(d, 0);
    if (len) {
        mem_write(d, 0, bytes, len);
    }
}

/* ---- the log ---- */

static void entry_free(void *opaque)
{
    RecordEntry *e = opaque;

    g_free(e->data);
    g_free(e);
}

RecordLog *record_start(RecordDisk *const *list, unsigned nb)
{
    RecordLog *log = g_new0(RecordLog, 1);

    log->entries = g_ptr_array_new_with_free_func(entry_free);
    log->disks = g_ptr_array_new();
    log->loose = g_ptr_array_new();
    for (unsigned i = 0; i < nb; i++) {
        assert(!list[i]->log);
        forget_undo(list[i]);
        record_mark(list[i]);
        list[i]->log = log;
        list[i]->durable = 0;
        g_ptr_array_add(log->disks, list[i]);
    }
    return log;
}

void record_stop(RecordLog *log)
{
    for (guint i = 0; i < log->disks->len; i++) {
        RecordDisk *d = g_ptr_array_index(log->disks, i);

        assert(d->log == log);
        d->log = NULL;
        if (d->undo->len) {
            uint64_t len = g_array_index(d->undo, Undo, 0).len;

            record_undo(d, (RecordMark) { 0, len });
        }
        forget_undo(d);
    }
    record_seek(log, 0);
}

void record_log_free(RecordLog *log)
{
    g_ptr_array_unref(log->entries);
    g_ptr_array_unref(log->disks);
    g_ptr_array_unref(log->loose);
    g_free(log);
}

/* ---- playing it ---- */

/* Sectors [@from, @to) of the entry, counted from the one it starts in. */
static void apply_sectors(const RecordEntry *e, uint64_t from, uint64_t to)
{
    uint64_t base = ROUND_DOWN(e->offset, RECORD_SECTOR);
    uint64_t start = MAX(e->offset, base + from * RECORD_SECTOR);
    uint64_t end = MIN(e->offset + e->bytes, base + to * RECORD_SECTOR);

    if (start < end) {
        mem_write(e->disk, start, e->data ? e->data + (start - e->offset)
                                          : NULL, end - start);
    }
}

static void apply(const RecordEntry *e)
{
    if (e->type == RECORD_TRUNCATE) {
        mem_truncate(e->disk, e->offset);
    } else {
        apply_sectors(e, 0, UINT32_MAX);
    }
}

/* The entry has ended, and what it covers is durable if it is a flush. */
static void pass(RecordLog *log, const RecordEntry *flush)
{
    if (flush->type != RECORD_FLUSH) {
        return;
    }
    for (unsigned i = flush->disk->durable; i < flush->issued; i++) {
        const RecordEntry *e = g_ptr_array_index(log->entries, i);

        if (e->disk == flush->disk && e->type != RECORD_FLUSH) {
            apply(e);
        }
    }
    flush->disk->durable = MAX(flush->disk->durable, flush->issued);
}

void record_seek(RecordLog *log, unsigned k)
{
    unsigned from = log->entries->len;

    assert(log->at <= k && k <= log->entries->len);
    while (log->at < k) {
        pass(log, g_ptr_array_index(log->entries, log->at++));
    }
    for (guint i = 0; i < log->disks->len; i++) {
        RecordDisk *d = g_ptr_array_index(log->disks, i);

        from = MIN(from, d->durable);
    }
    g_ptr_array_set_size(log->loose, 0);
    log->ended = 0;
    for (unsigned i = from; i < log->entries->len && i < k + WINDOW; i++) {
        RecordEntry *e = g_ptr_array_index(log->entries, i);

        if (e->type != RECORD_FLUSH && i >= e->disk->durable &&
            (i < k || e->issued <= k)) {
            g_ptr_array_add(log->loose, e);
            log->ended += i < k;
        }
    }
}

static void apply_torn(const RecordEntry *e, GRand *rand)
{
    uint64_t n = e->bytes / RECORD_SECTOR + 2;

    if (e->type == RECORD_TRUNCATE) {
        if (g_rand_boolean(rand)) {
            apply(e);
        }
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        if (g_rand_boolean(rand)) {
            apply_sectors(e, i, i + 1);
        }
    }
}

void record_build(RecordLog *log, RecordMode mode, GRand *rand)
{
    guint n = log->loose->len;
    guint one = n && mode >= RECORD_TORN ? g_rand_int_range(rand, 0, n) : 0;

    for (guint i = 0; i < n; i++) {
        const RecordEntry *e = g_ptr_array_index(log->loose, i);

        switch (mode) {
        case RECORD_ALL_ENDED:
            if (i < log->ended) {
                apply(e);
            }
            break;
        case RECORD_NONE:
            break;
        case RECORD_SUBSET:
        case RECORD_TORN:
            if (mode == RECORD_TORN && i == one) {
                apply_torn(e, rand);
            } else if (g_rand_boolean(rand)) {
                apply(e);
            }
            break;
        case RECORD_SECTORS:
            apply_torn(e, rand);
            break;
        case RECORD_ALL_BUT_ONE:
        case RECORD_ONLY_ONE:
            if ((i == one) == (mode == RECORD_ONLY_ONE)) {
                apply(e);
            }
            break;
        }
    }
}

const char *record_mode_name(RecordMode mode)
{
    static const char *const names[] = {
        "all ended", "flushed only", "subset", "torn", "sectors",
        "all but one", "only one",
    };

    return names[mode];
}

/* ---- the driver ---- */

typedef struct RecordState {
    RecordDisk *disk;
} RecordState;

/* One request: goes once round the loop, so that others can get between. */
static int coroutine_fn request(BlockDriverState *bs, RecordType type,
                                uint64_t offset, uint64_t bytes,
                                uint8_t *data)
{
    RecordState *s = bs->opaque;
    RecordDisk *d = s->disk;
    RecordEntry *e = g_new(RecordEntry, 1);

    *e = (RecordEntry) { d, type, offset, bytes, data, 0 };
    if (offset > CAPACITY || bytes > CAPACITY - offset) {
        entry_free(e);
        return -ENOSPC;
    }
    if (d->log) {
        e->issued = d->log->entries->len;
        aio_co_sleep_ns(0);
    }
    if (type != RECORD_FLUSH) {
        apply(e);
    }
    if (d->log) {
        g_ptr_array_add(d->log->entries, e);
    } else {
        entry_free(e);
    }
    return 0;
}

static int record_parse_filename(const char *filename, BdrvOptions *options,
                                 GError **errp)
{
    bdrv_options_set_default(options, "name",
                             filename + strlen(RECORD_PREFIX));
    return 0;
}

static int coroutine_fn record_co_open(BlockDriverState *bs,
                                       BdrvOptions *options, unsigned flags,
                                       GError **errp)
{
    RecordState *s = bs->opaque;
    g_autofree char *name = bdrv_options_take(options, "name");

    s->disk = name && disks ? g_hash_table_lookup(disks, name) : NULL;
    if (!s->disk) {
        return set_error(errp, -ENOENT, "there is no recording disk '%s'",
                         name ? name : "");
    }
    bs->growable = true;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    return 0;
}

/* "Creating" empties a disk that is there. */
static int coroutine_fn record_co_create(const char *filename,
                                         BdrvOptions *options, GError **errp)
{
    RecordDisk *d = g_hash_table_lookup(disks,
                                        filename + strlen(RECORD_PREFIX));
    uint64_t size;
    int ret = bdrv_options_take_size(options, "size", 0, &size, errp);

    if (ret == 0) {
        ret = bdrv_options_check_empty(options, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (!d || d->log) {
        return set_error(errp, -EBUSY, "'%s' cannot be made", filename);
    }
    record_disk_set(d, NULL, 0);
    d->len = size;
    return 0;
}

static int64_t coroutine_fn record_co_getlength(BlockDriverState *bs)
{
    RecordState *s = bs->opaque;

    return s->disk->len;
}

static int coroutine_fn record_co_preadv(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes,
                                         QEMUIOVector *qiov, unsigned flags)
{
    RecordState *s = bs->opaque;

    if (s->disk->log) {
        aio_co_sleep_ns(0);
    }
    if (offset > CAPACITY || bytes > CAPACITY - offset) {
        return -EIO;
    }
    qemu_iovec_from_buf(qiov, 0, s->disk->mem + offset, bytes);
    return 0;
}

static int coroutine_fn record_co_pwritev(BlockDriverState *bs,
                                          uint64_t offset, uint64_t bytes,
                                          QEMUIOVector *qiov, unsigned flags)
{
    uint8_t *data = g_malloc(bytes);

    qemu_iovec_to_buf(qiov, 0, data, bytes);
    return request(bs, RECORD_WRITE, offset, bytes, data);
}

static int coroutine_fn record_co_pwrite_zeroes(BlockDriverState *bs,
                                                uint64_t offset,
                                                uint64_t bytes,
                                                unsigned flags)
{
    RecordState *s = bs->opaque;

    return s->disk->zeroes ? request(bs, RECORD_ZERO, offset, bytes, NULL)
                           : -ENOTSUP;
}

static int coroutine_fn record_co_pdiscard(BlockDriverState *bs,
                                           uint64_t offset, uint64_t bytes)
{
    return request(bs, RECORD_DISCARD, offset, bytes, NULL);
}

static int coroutine_fn record_co_flush_to_disk(BlockDriverState *bs)
{
    return request(bs, RECORD_FLUSH, 0, 0, NULL);
}

/* Full preallocation and none look alike. */
static int coroutine_fn record_co_truncate(BlockDriverState *bs,
                                           uint64_t size,
                                           BdrvPrealloc prealloc,
                                           GError **errp)
{
    return request(bs, RECORD_TRUNCATE, size, 0, NULL);
}

static BlockDriver bdrv_record = {
    .format_name = "rec",
    .protocol_name = "rec",
    .instance_size = sizeof(RecordState),
    .parse_filename = record_parse_filename,
    .co_open = record_co_open,
    .co_create = record_co_create,
    .co_getlength = record_co_getlength,
    .co_preadv = record_co_preadv,
    .co_pwritev = record_co_pwritev,
    .co_pwrite_zeroes = record_co_pwrite_zeroes,
    .co_pdiscard = record_co_pdiscard,
    .co_flush_to_disk = record_co_flush_to_disk,
    .co_truncate = record_co_truncate,
};
