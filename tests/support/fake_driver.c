/* SPDX-License-Identifier: MIT */
/*
 * The fake block driver, see fake_driver.h.
 *
 * Contents are pages in a hash table, twice: as reads see them, and as they
 * were at the last flush. Writes since then are kept one by one, for crashes
 * that lose some of them. The length of the disk is always durable.
 */
#include "tests/support/fake_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "util/coroutine.h"

#define PAGE 4096
#define SECTOR 512
#define FAKE_PREFIX "fake:"

static GHashTable *disks; /* name -> FakeDisk */

/* --- Sparse memory --- */

typedef struct FakeStore {
    GHashTable *pages; /* uint64_t index -> PAGE bytes */
} FakeStore;

static FakeStore *store_new(void)
{
    FakeStore *s = g_new0(FakeStore, 1);

    s->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                     g_free);
    return s;
}

static void store_free(FakeStore *s)
{
    g_hash_table_destroy(s->pages);
    g_free(s);
}

static uint8_t *store_page(FakeStore *s, uint64_t index, bool create)
{
    uint8_t *page = g_hash_table_lookup(s->pages, &index);

    if (!page && create) {
        page = g_malloc0(PAGE);
        g_hash_table_insert(s->pages, g_memdup2(&index, sizeof(index)), page);
    }
    return page;
}

static void store_read(FakeStore *s, uint64_t offset, uint8_t *buf,
                       size_t bytes)
{
    while (bytes > 0) {
        size_t in_page = offset % PAGE;
        size_t n = MIN(bytes, PAGE - in_page);
        const uint8_t *page = store_page(s, offset / PAGE, false);

        if (page) {
            memcpy(buf, page + in_page, n);
        } else {
            memset(buf, 0, n);
        }
        offset += n;
        buf += n;
        bytes -= n;
    }
}

/* @buf NULL: zeroes. */
static void store_write(FakeStore *s, uint64_t offset, const uint8_t *buf,
                        uint64_t bytes)
{
    while (bytes > 0) {
        size_t in_page = offset % PAGE;
        size_t n = MIN(bytes, PAGE - in_page);
        uint8_t *page = store_page(s, offset / PAGE, buf != NULL);

        if (buf) {
            memcpy(page + in_page, buf, n);
            buf += n;
        } else if (page) {
            memset(page + in_page, 0, n);
        }
        offset += n;
        bytes -= n;
    }
}

static void store_copy(FakeStore *dst, FakeStore *src)
{
    GHashTableIter iter;
    void *index, *page;

    g_hash_table_remove_all(dst->pages);
    g_hash_table_iter_init(&iter, src->pages);
    while (g_hash_table_iter_next(&iter, &index, &page)) {
        store_write(dst, *(uint64_t *)index * PAGE, page, PAGE);
    }
}

/* Zero everything from @size on. */
static void store_cut(FakeStore *s, uint64_t size)
{
    GHashTableIter iter;
    void *index;

    g_hash_table_iter_init(&iter, s->pages);
    while (g_hash_table_iter_next(&iter, &index, NULL)) {
        if (*(uint64_t *)index * PAGE >= size) {
            g_hash_table_iter_remove(&iter);
        }
    }
    if (size % PAGE) {
        store_write(s, size, NULL, PAGE - size % PAGE);
    }
}

/* --- Writes that are not durable yet --- */

typedef struct PendingWrite {
    uint64_t offset;
    uint64_t bytes;
    uint8_t *data; /* NULL: zeroes */
    bool durable;  /* FUA */
} PendingWrite;

static void pending_free(void *opaque)
{
    PendingWrite *w = opaque;

    g_free(w->data);
    g_free(w);
}

static void pending_apply(FakeStore *s, const PendingWrite *w, uint64_t from,
                          uint64_t bytes)
{
    store_write(s, w->offset + from, w->data ? w->data + from : NULL, bytes);
}

/* A truncated disk does not get back what was beyond its end. */
static void pending_cut(FakeDisk *d, uint64_t size)
{
    for (guint i = 0; i < d->pending->len; i++) {
        PendingWrite *w = g_ptr_array_index(d->pending, i);

        if (w->offset + w->bytes > size) {
            w->bytes = w->offset < size ? size - w->offset : 0;
        }
    }
}

static void make_durable(FakeDisk *d)
{
    for (guint i = 0; i < d->pending->len; i++) {
        const PendingWrite *w = g_ptr_array_index(d->pending, i);

        pending_apply(d->durable, w, 0, w->bytes);
    }
    g_ptr_array_set_size(d->pending, 0);
}

/* A write takes effect; @data is consumed, NULL: zeroes. */
static void apply_write(FakeDisk *d, uint64_t offset, uint64_t bytes,
                        uint8_t *data, bool durable)
{
    PendingWrite *w = g_new0(PendingWrite, 1);

    *w = (PendingWrite) { offset, bytes, data, durable };
    store_write(d->now, offset, data, bytes);
    g_ptr_array_add(d->pending, w);
    d->size = MAX(d->size, offset + bytes);
}

/* --- Disks --- */

static BlockDriver bdrv_fake;

FakeDisk *fake_disk_new(const char *name, uint64_t size)
{
    FakeDisk *d = g_new0(FakeDisk, 1);

    if (!disks) {
        disks = g_hash_table_new(g_str_hash, g_str_equal);
        bdrv_register(&bdrv_fake);
    }
    assert(!g_hash_table_contains(disks, name));
    d->name = g_strdup(name);
    d->size = size;
    d->align = 1;
    d->mem_align = 1;
    d->log = g_ptr_array_new_with_free_func(g_free);
    d->now = store_new();
    d->durable = store_new();
    d->pending = g_ptr_array_new_with_free_func(pending_free);
    g_hash_table_insert(disks, d->name, d);
    return d;
}

void fake_disk_free(FakeDisk *d)
{
    if (!d) {
        return;
    }
    assert(d->in_flight == 0);
    fake_hold_none(d);
    g_hash_table_remove(disks, d->name);
    g_ptr_array_unref(d->log);
    g_ptr_array_unref(d->pending);
    store_free(d->now);
    store_free(d->durable);
    g_free(d->name);
    g_free(d);
}

FakeDisk *fake_disk_find(const char *name)
{
    return disks ? g_hash_table_lookup(disks, name) : NULL;
}

void fake_disk_peek(FakeDisk *d, uint64_t offset, void *buf, size_t bytes)
{
    store_read(d->now, offset, buf, bytes);
}

void fake_disk_poke(FakeDisk *d, uint64_t offset, const void *buf,
                    size_t bytes)
{
    make_durable(d);
    store_write(d->now, offset, buf, bytes);
    store_write(d->durable, offset, buf, bytes);
    d->size = MAX(d->size, offset + bytes);
}

int fake_disk_load(FakeDisk *d, const char *path)
{
    uint8_t buf[PAGE];
    uint64_t offset = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    g_ptr_array_set_size(d->pending, 0);
    g_hash_table_remove_all(d->now->pages);
    while ((n = pread(fd, buf, PAGE, offset)) > 0) {
        if (buf[0] || memcmp(buf, buf + 1, n - 1) != 0) {
            store_write(d->now, offset, buf, n);
        }
        offset += n;
    }
    n = n < 0 ? -errno : 0;
    close(fd);
    d->size = offset;
    store_copy(d->durable, d->now);
    return n;
}

int fake_disk_save(FakeDisk *d, const char *path)
{
    GHashTableIter iter;
    void *index, *page;
    int ret = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0) {
        return -errno;
    }
    g_hash_table_iter_init(&iter, d->now->pages);
    while (ret == 0 && g_hash_table_iter_next(&iter, &index, &page)) {
        uint64_t offset = *(uint64_t *)index * PAGE;

        if (pwrite(fd, page, PAGE, offset) != PAGE) {
            ret = errno ? -errno : -EIO;
        }
    }
    if (ret == 0 && ftruncate(fd, d->size) < 0) {
        ret = -errno;
    }
    close(fd);
    return ret;
}

/* --- Log --- */

static bool overlaps(const FakeRequest *r, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0 || r->type == FAKE_FLUSH) {
        return true;
    }
    return r->offset < offset + bytes && offset < r->offset + r->bytes;
}

void fake_log_clear(FakeDisk *d)
{
    assert(d->in_flight == 0);
    g_ptr_array_set_size(d->log, 0);
    d->nb_done = 0;
}

unsigned fake_count(const FakeDisk *d, FakeType types)
{
    unsigned count = 0;

    for (guint i = 0; i < d->log->len; i++) {
        count += (fake_request(d, i)->type & types) != 0;
    }
    return count;
}

const FakeRequest *fake_request(const FakeDisk *d, unsigned id)
{
    assert(id < d->log->len);
    return g_ptr_array_index(d->log, id);
}

int fake_find(const FakeDisk *d, unsigned from, FakeType types,
              uint64_t offset, uint64_t bytes)
{
    for (guint i = from; i < d->log->len; i++) {
        const FakeRequest *r = fake_request(d, i);

        if ((r->type & types) && overlaps(r, offset, bytes)) {
            return i;
        }
    }
    return -1;
}

/* --- Holding --- */

typedef struct Hold {
    FakeType types;
    uint64_t offset;
    uint64_t bytes;
} Hold;

typedef struct Held {
    unsigned id;
    Coroutine *co;
} Held;

void fake_hold(FakeDisk *d, FakeType types, uint64_t offset, uint64_t bytes)
{
    Hold *h = g_new(Hold, 1);

    *h = (Hold) { types, offset, bytes };
    d->holds = g_list_append(d->holds, h);
}

void fake_hold_none(FakeDisk *d)
{
    g_list_free_full(g_steal_pointer(&d->holds), g_free);
}

static bool is_to_be_held(const FakeDisk *d, const FakeRequest *r)
{
    for (GList *l = d->holds; l; l = l->next) {
        const Hold *h = l->data;

        if ((h->types & r->type) && overlaps(r, h->offset, h->bytes)) {
            return true;
        }
    }
    return false;
}

static void release(FakeDisk *d, GList *link)
{
    Held *held = link->data;
    FakeRequest *r = g_ptr_array_index(d->log, held->id);

    r->held = false;
    d->held = g_list_delete_link(d->held, link);
    aio_co_wake(held->co);
}

void fake_release(FakeDisk *d, unsigned id)
{
    for (GList *l = d->held; l; l = l->next) {
        const Held *held = l->data;

        if (held->id == id) {
            release(d, l);
            return;
        }
    }
    g_error("fake: request %u is not held", id);
}

void fake_release_all(FakeDisk *d)
{
    fake_hold_none(d);
    while (d->held) {
        release(d, d->held);
    }
}

unsigned fake_nb_held(const FakeDisk *d)
{
    return g_list_length(d->held);
}

int fake_nth_held(const FakeDisk *d, unsigned n)
{
    const Held *held = g_list_nth_data(d->held, n);

    return held ? (int)held->id : -1;
}

/* --- Failing --- */

void fake_fail_nth(FakeDisk *d, FakeType types, uint64_t n, int err,
                   bool sticky)
{
    d->fail_types = types;
    d->fail_in = n;
    d->fail_errno = err;
    d->fail_sticky = sticky;
}

static int check_failure(FakeDisk *d, const FakeRequest *r)
{
    if (d->powered_off) {
        return -EIO;
    }
    if (d->fail_in > 0 && (r->type & d->fail_types)) {
        if (d->fail_in == 1) {
            d->fail_in = d->fail_sticky ? 1 : 0;
            return -d->fail_errno;
        }
        d->fail_in--;
    }
    if (d->cut_armed && (r->type & (FAKE_WRITE | FAKE_ZERO))) {
        if (d->cut_after == 0) {
            d->powered_off = true;
            return -EIO;
        }
        d->cut_after--;
    }
    return 0;
}

void fake_cut_power_after(FakeDisk *d, uint64_t n)
{
    d->cut_armed = true;
    d->cut_after = n;
}

void fake_power_on(FakeDisk *d, bool lose)
{
    d->powered_off = false;
    d->cut_armed = false;
    if (lose) {
        for (guint i = 0; i < d->pending->len; i++) {
            const PendingWrite *w = g_ptr_array_index(d->pending, i);

            if (w->durable) {
                pending_apply(d->durable, w, 0, w->bytes);
            }
        }
        store_copy(d->now, d->durable);
    } else {
        store_copy(d->durable, d->now);
    }
    g_ptr_array_set_size(d->pending, 0);
}

void fake_crash(FakeDisk *d, GRand *rand)
{
    for (guint i = 0; i < d->pending->len; i++) {
        const PendingWrite *w = g_ptr_array_index(d->pending, i);

        for (uint64_t from = 0; from < w->bytes; ) {
            uint64_t to_boundary = SECTOR - (w->offset + from) % SECTOR;
            uint64_t n = MIN(w->bytes - from, to_boundary);

            if (w->durable || g_rand_boolean(rand)) {
                pending_apply(d->durable, w, from, n);
            }
            from += n;
        }
    }
    g_ptr_array_set_size(d->pending, 0);
    d->powered_off = false;
    d->cut_armed = false;
    store_copy(d->now, d->durable);
}

/* --- The driver --- */

typedef struct FakeState {
    FakeDisk *disk;
} FakeState;

/* Log a request and wait while it is held. Returns its id. */
static unsigned coroutine_fn request_begin(FakeDisk *d, FakeType type,
                                           uint64_t offset, uint64_t bytes,
                                           unsigned flags)
{
    FakeRequest *r = g_new0(FakeRequest, 1);
    unsigned id = d->log->len;

    *r = (FakeRequest) {
        .type = type, .offset = offset, .bytes = bytes, .flags = flags };
    g_ptr_array_add(d->log, r);
    d->in_flight++;
    d->max_in_flight = MAX(d->max_in_flight, d->in_flight);
    if (is_to_be_held(d, r)) {
        Held held = { id, co_self() };

        r->held = true;
        d->held = g_list_append(d->held, &held);
        co_yield();
    } else if (!d->sync) {
        aio_co_sleep_ns(0);
    }
    return id;
}

static int request_end(FakeDisk *d, unsigned id, int ret)
{
    FakeRequest *r = g_ptr_array_index(d->log, id);

    r->done = true;
    r->done_seq = d->nb_done++;
    r->ret = ret;
    d->in_flight--;
    return ret;
}

static int fake_parse_filename(const char *filename, BdrvOptions *options,
                               GError **errp)
{
    bdrv_options_set_default(options, "name", filename + strlen(FAKE_PREFIX));
    return 0;
}

static int coroutine_fn fake_co_open(BlockDriverState *bs,
                                     BdrvOptions *options, unsigned flags,
                                     GError **errp)
{
    FakeState *s = bs->opaque;
    g_autofree char *name = bdrv_options_take(options, "name");

    s->disk = name ? fake_disk_find(name) : NULL;
    if (!s->disk) {
        return set_error(errp, -ENOENT, "there is no fake disk '%s'",
                         name ? name : "");
    }
    bs->request_alignment = s->disk->align;
    bs->mem_alignment = s->disk->mem_align;
    bs->max_transfer = s->disk->max_transfer;
    bs->growable = !s->disk->fixed_size;
    bs->supported_write_flags = s->disk->fua ? BDRV_REQ_FUA : 0;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK |
                               bs->supported_write_flags;
    return 0;
}

/* "Creating" empties a disk that is there. */
static int coroutine_fn fake_co_create(const char *filename,
                                       BdrvOptions *options, GError **errp)
{
    FakeDisk *d = fake_disk_find(filename + strlen(FAKE_PREFIX));
    uint64_t size;
    int ret = bdrv_options_take_size(options, "size", 0, &size, errp);

    if (ret == 0) {
        ret = bdrv_options_check_empty(options, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (!d) {
        return set_error(errp, -ENOENT, "there is no '%s'", filename);
    }
    if (check_failure(d, &(FakeRequest) { .type = FAKE_WRITE }) < 0) {
        return set_error(errp, -EIO, "'%s' is off", filename);
    }
    g_ptr_array_set_size(d->pending, 0);
    store_cut(d->now, 0);
    store_cut(d->durable, 0);
    d->size = size;
    return 0;
}

static int64_t coroutine_fn fake_co_getlength(BlockDriverState *bs)
{
    FakeState *s = bs->opaque;

    return s->disk->size;
}

static void check_alignment(const FakeDisk *d, uint64_t offset,
                            const QEMUIOVector *qiov)
{
    assert(IS_ALIGNED(offset | qiov->size, d->align));
    for (int i = 0; i < qiov->niov && d->mem_align > 1; i++) {
        assert(IS_ALIGNED((uintptr_t)qiov->iov[i].iov_base, d->mem_align));
        assert(IS_ALIGNED(qiov->iov[i].iov_len, d->align));
    }
}

static int coroutine_fn fake_co_preadv(BlockDriverState *bs, uint64_t offset,
                                       uint64_t bytes, QEMUIOVector *qiov,
                                       unsigned flags)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;
    unsigned id = request_begin(d, FAKE_READ, offset, bytes, flags);
    int ret = check_failure(d, fake_request(d, id));

    check_alignment(d, offset, qiov);
    if (ret == 0) {
        g_autofree uint8_t *buf = g_malloc(bytes);

        store_read(d->now, offset, buf, bytes);
        qemu_iovec_from_buf(qiov, 0, buf, bytes);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_pwritev(BlockDriverState *bs, uint64_t offset,
                                        uint64_t bytes, QEMUIOVector *qiov,
                                        unsigned flags)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;
    unsigned id = request_begin(d, FAKE_WRITE, offset, bytes, flags);
    int ret = check_failure(d, fake_request(d, id));

    check_alignment(d, offset, qiov);
    if (ret == 0) {
        uint8_t *buf = g_malloc(bytes);

        qemu_iovec_to_buf(qiov, 0, buf, bytes);
        apply_write(d, offset, bytes, buf, flags & BDRV_REQ_FUA);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_copy_range(BlockDriverState *bs,
                                           uint64_t offset, uint64_t bytes,
                                           BlockDriverState *src,
                                           uint64_t src_offset)
{
    FakeState *s = bs->opaque, *from = src->opaque;
    FakeDisk *d = s->disk;
    unsigned id;
    int ret;

    if (!d->copies || src->drv != bs->drv) {
        return -ENOTSUP;
    }
    id = request_begin(d, FAKE_WRITE, offset, bytes, 0);
    ret = check_failure(d, fake_request(d, id));
    if (ret == 0) {
        uint8_t *buf = g_malloc(bytes);

        store_read(from->disk->now, src_offset, buf, bytes);
        apply_write(d, offset, bytes, buf, false);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_pwrite_zeroes(BlockDriverState *bs,
                                              uint64_t offset, uint64_t bytes,
                                              unsigned flags)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;
    unsigned id;
    int ret;

    if (!d->zeroes) {
        return -ENOTSUP;
    }
    id = request_begin(d, FAKE_ZERO, offset, bytes, flags);
    ret = check_failure(d, fake_request(d, id));
    if (ret == 0) {
        apply_write(d, offset, bytes, NULL, flags & BDRV_REQ_FUA);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_pdiscard(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;
    unsigned id = request_begin(d, FAKE_DISCARD, offset, bytes, 0);
    int ret = check_failure(d, fake_request(d, id));

    if (ret == 0) {
        apply_write(d, offset, bytes, NULL, false);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_flush_to_disk(BlockDriverState *bs)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;
    unsigned id = request_begin(d, FAKE_FLUSH, 0, 0, 0);
    int ret = check_failure(d, fake_request(d, id));

    if (ret == 0) {
        make_durable(d);
    }
    return request_end(d, id, ret);
}

static int coroutine_fn fake_co_truncate(BlockDriverState *bs, uint64_t size,
                                         BdrvPrealloc prealloc, GError **errp)
{
    FakeState *s = bs->opaque;
    FakeDisk *d = s->disk;

    if (d->powered_off) {
        return -EIO;
    }
    if (d->fixed_size) {
        return -ENOTSUP;
    }
    if (size < d->size) {
        store_cut(d->now, size);
        store_cut(d->durable, size);
        pending_cut(d, size);
    }
    d->size = size;
    return 0;
}

static BlockDriver bdrv_fake = {
    .format_name = "fake",
    .protocol_name = "fake",
    .instance_size = sizeof(FakeState),
    .parse_filename = fake_parse_filename,
    .co_open = fake_co_open,
    .co_create = fake_co_create,
    .co_getlength = fake_co_getlength,
    .co_preadv = fake_co_preadv,
    .co_pwritev = fake_co_pwritev,
    .co_copy_range = fake_co_copy_range,
    .co_pwrite_zeroes = fake_co_pwrite_zeroes,
    .co_pdiscard = fake_co_pdiscard,
    .co_flush_to_disk = fake_co_flush_to_disk,
    .co_truncate = fake_co_truncate,
};
