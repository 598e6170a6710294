/* SPDX-License-Identifier: MIT */
/* Images and their layout, opening and closing; see world.h. */
#include "tests/explore/world.h"

#include "block/check.h"
#include "block/vmstate.h"
#include "tests/explore/image.h"
#include "tests/support/helpers.h"
#include "tests/support/qcow2_checker.h"

#define STAMP_OLD 1     /* before the snapshot */
#define STAMP_NEW 2     /* after it */
#define NB_SLICES 3
#define DIRTY_CLUSTER 24    /* of slice 0, as the next */
#define EXTRA_CLUSTER 26
#define NB_EXTRA 6

typedef struct Prepared {
    DiskTemplate disk;
    uint64_t cells[NB_CELLS];
    uint64_t s1[NB_CELLS];
} Prepared;

/* One is prepared with private clusters, one without; see SETUP_SHARED. */
static Prepared prepared[NB_IMAGES][2];

static const struct {
    const char *name;
    unsigned cluster_bits;
    unsigned refcount_bits;
    bool scatter;   /* clusters of the window are in many refcount blocks */
    bool extended;
    unsigned l2_entry;      /* l2-cache-entry-size: bytes of a slice */
} image_info[NB_IMAGES] = {
    { "512", 9, 16, false, false, 512 },
    { "1k", 10, 16, false, false, 512 },
    { "sub", 14, 16, false, true, 4096 },
    { "refs", 9, 64, true, false, 512 },
};

/* ---- layout ---- */

const char *image_kind_name(ImageKind kind)
{
    return image_info[kind].name;
}

const char *setup_kind_name(SetupKind kind)
{
    static const char *const names[] = { "cold", "dirty", "shared" };

    return names[kind];
}

Layout image_layout(ImageKind kind)
{
    Layout l = { .cluster_size = 1u << image_info[kind].cluster_bits };

    l.cell_size = l.cluster_size / 2;
    l.slice_size = image_info[kind].l2_entry * l.cluster_size /
                   (image_info[kind].extended ? 16 : 8);
    l.disk_size = NB_SLICES * l.slice_size;
    return l;
}

uint64_t cell_offset(const Layout *l, unsigned cell)
{
    if (cell < 16) {
        return cell * l->cell_size;
    }
    return (cell - 14) / 2 * l->slice_size + cell % 2 * l->cell_size;
}

uint64_t cell_value(unsigned stamp, unsigned cell)
{
    return ((uint64_t)stamp << 8 | cell) * 0x0101010101ull + 1;
}

static uint64_t *fill(uint64_t *p, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(*p); i++) {
        *p++ = value;
    }
    return p;
}

void cells_fill(const Layout *l, void *buf, unsigned first, unsigned n,
                unsigned stamp)
{
    uint64_t *p = buf;

    for (unsigned c = first; c < first + n; c++) {
        p = fill(p, cell_value(stamp, c), l->cell_size);
    }
}

uint64_t cell_decode(const Layout *l, const void *buf)
{
    const uint64_t *p = buf;
    bool same = !memcmp(p, p + 1, l->cell_size - sizeof(*p));

    return same ? *p : CELL_TORN;
}

static const Prepared *prepared_for(const Scenario *sc)
{
    return &prepared[sc->image][sc->setup == SETUP_SHARED];
}

void cells_before(const Scenario *sc, uint64_t *cells)
{
    memcpy(cells, prepared_for(sc)->cells, sizeof(prepared[0][0].cells));
}

/* ---- preparing ---- */

typedef struct Prepare {
    Prepared *p;
    Layout layout;
    BlockBackend *blk;
    bool scatter;
    uint64_t filled;
    bool shared;
} Prepare;

static void coroutine_fn put_flags(Prepare *x, unsigned first, unsigned n,
                                   unsigned stamp, unsigned flags)
{
    const Layout *l = &x->layout;
    g_autofree void *buf = g_malloc(n * l->cell_size);
    QEMUIOVector qiov;
    int ret;

    cells_fill(l, buf, first, n, stamp);
    qemu_iovec_init_buf(&qiov, buf, n * l->cell_size);
    ret = blk_co_pwritev(x->blk, cell_offset(l, first), n * l->cell_size,
                         &qiov, flags);
    assert(ret == 0);
    for (unsigned c = first; c < first + n; c++) {
        x->p->cells[c] = cell_value(stamp, c);
    }
}

static void coroutine_fn put_cells(Prepare *x, unsigned first, unsigned n,
                                   unsigned stamp)
{
    put_flags(x, first, n, stamp, 0);
}

static void coroutine_fn put_zeroes(Prepare *x, unsigned first, unsigned n)
{
    int ret = blk_co_pwrite_zeroes(x->blk, cell_offset(&x->layout, first),
                                   n * x->layout.cell_size, 0);

    assert(ret == 0);
    memset(x->p->cells + first, 0, n * sizeof(x->p->cells[0]));
}

/* Take as many host clusters as a refcount block counts; the snapshot frees
 * them again, because they are vmstate. */
static void coroutine_fn scatter(Prepare *x)
{
    size_t bytes = 60 * x->layout.cluster_size;
    g_autofree void *buf = g_malloc0(bytes);
    BlockDriverState *bs = blk_bs(x->blk);
    QEMUIOVector qiov;
    int ret;

    if (x->scatter) {
        qemu_iovec_init_buf(&qiov, buf, bytes);
        ret = bs->drv->co_save_vmstate(bs, x->filled, &qiov);
        assert(ret == 0);
        x->filled += 64 * x->layout.cluster_size;
    }
}

static void coroutine_fn take_snapshot(Prepare *x)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    int ret;

    info->name = g_strdup("s1");
    ret = bdrv_co_snapshot_create(blk_bs(x->blk), info, NULL);
    assert(ret == 0);
    memcpy(x->p->s1, x->p->cells, sizeof(x->p->s1));
}

/* One of the clusters that SETUP_DIRTY gives up; not watched. */
static void coroutine_fn put_extra(Prepare *x, unsigned i)
{
    g_autofree void *buf = g_malloc0(x->layout.cluster_size);
    QEMUIOVector qiov;
    int ret;

    qemu_iovec_init_buf(&qiov, buf, x->layout.cluster_size);
    ret = blk_co_pwritev(x->blk, (EXTRA_CLUSTER + i) * x->layout.cluster_size,
                         x->layout.cluster_size, &qiov, 0);
    assert(ret == 0);
}

static void coroutine_fn put_old(Prepare *x)
{
    put_cells(x, 2, 2, STAMP_OLD);
    put_cells(x, 6, 2, STAMP_OLD);
    put_cells(x, 14, 2, STAMP_OLD);
    put_flags(x, 8, 2, STAMP_OLD, BDRV_REQ_WRITE_COMPRESSED);
    for (unsigned i = 0; i < NB_EXTRA; i++) {
        scatter(x);
    }
    put_cells(x, 4, 2, STAMP_OLD);
    scatter(x);
    put_cells(x, 12, 2, STAMP_OLD);
    scatter(x);
    put_cells(x, 16, 2, STAMP_OLD);
    put_cells(x, 18, 2, STAMP_OLD);
}

/* Private clusters, each in a refcount block of its own. */
static void coroutine_fn put_new(Prepare *x)
{
    put_cells(x, 2, 2, STAMP_NEW);
    put_extra(x, 0);
    scatter(x);
    put_cells(x, 6, 2, STAMP_NEW);
    put_zeroes(x, 6, 2);
    put_extra(x, 1);
    scatter(x);
    put_cells(x, 14, 2, STAMP_NEW);
    for (unsigned i = 2; i < NB_EXTRA; i++) {
        put_extra(x, i);
        scatter(x);
    }
}

static int coroutine_fn prepare_contents(void *opaque)
{
    Prepare *x = opaque;
    int ret;

    put_old(x);
    if (!x->shared) {
        take_snapshot(x);
    }
    put_new(x);
    if (x->shared) {
        take_snapshot(x);
    }
    ret = bdrv_co_vmstate_discard(blk_bs(x->blk));
    assert(ret == 0);
    return 0;
}

/* The smallest caches there can be: two slices, four refcount blocks. */
static BlockBackend *open_image(ImageKind kind)
{
    unsigned entry = image_info[kind].l2_entry;
    char text[160];
    BdrvOptions *o = NULL;
    BlockBackend *blk = NULL;
    int ret;

    g_snprintf(text, sizeof(text), "driver=qcow2,l2-cache-size=%u,"
               "l2-cache-entry-size=%u,refcount-cache-size=1,"
               "cache-clean-interval=0", 2 * entry, entry);
    ret = bdrv_options_parse(&o, text, NULL);
    assert(ret == 0);
    ret = blk_open(test_ctx, DISK_FILENAME, o, BDRV_O_RDWR | BDRV_O_UNMAP,
                   &blk, NULL);
    assert(ret == 0);
    return blk;
}

static void check_disk(World *w)
{
    Qcow2CheckResult r;

    if (qcow2_checker_run(disk_bytes(), disk_size(), &r) < 0) {
        world_fail(w, "the image is no longer one");
    } else if (r.corruptions || (!w->failed && (r.leaks || r.copied))) {
        world_fail(w, "%" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64
                   " wrong COPIED flags: %s", r.corruptions, r.leaks,
                   r.copied, r.first);
    }
}

static void prepare_image(ImageKind kind, bool shared)
{
    Prepare x = { .p = &prepared[kind][shared], .layout = image_layout(kind),
                  .scatter = image_info[kind].scatter, .shared = shared };
    g_autofree char *text = g_strdup_printf(
        "size=%" PRIu64 ",cluster_size=%" PRIu64 ",refcount_bits=%u,"
        "extended_l2=%s", x.layout.disk_size, x.layout.cluster_size,
        image_info[kind].refcount_bits,
        image_info[kind].extended ? "on" : "off");
    BdrvOptions *o = NULL;
    World w = { 0 };
    int ret;

    ret = bdrv_options_parse(&o, text, NULL);
    assert(ret == 0);
    ret = blk_create(test_ctx, "qcow2", DISK_FILENAME, o, NULL);
    assert(ret == 0);
    x.blk = open_image(kind);
    run_coroutine(prepare_contents, &x);
    ret = blk_close(x.blk);
    assert(ret == 0);
    check_disk(&w);
    if (w.error) {
        g_error("image %s as prepared: %s", image_kind_name(kind), w.error);
    }
    x.p->disk = disk_save();
}

void world_prepare(void)
{
    disk_init();
    for (ImageKind kind = 0; kind < NB_IMAGES; kind++) {
        prepare_image(kind, false);
        prepare_image(kind, true);
    }
}

void world_cleanup(void)
{
    for (ImageKind kind = 0; kind < NB_IMAGES; kind++) {
        disk_template_cleanup(&prepared[kind][0].disk);
        disk_template_cleanup(&prepared[kind][1].disk);
    }
}

/* ---- one schedule ---- */

static void *op_buffer(unsigned index)
{
    static uint8_t buffers[MAX_OPS][NB_CELLS * 8192]
        __attribute__((aligned(4096)));

    return buffers[index];
}

/* Have one dirty and one clean slice in the cache, and no third; and clusters
 * of several refcount blocks waiting to be freed. */
static void dirty_caches(World *w)
{
    uint64_t cluster = w->layout.cluster_size, value[64] = { 0 };
    int ret;

    ret = blk_pwrite(w->blk, DIRTY_CLUSTER * cluster, sizeof(value), value);
    assert(ret == 0);
    ret = blk_pdiscard(w->blk, EXTRA_CLUSTER * cluster, NB_EXTRA * cluster);
    assert(ret == 0);
    ret = blk_pread(w->blk, w->layout.slice_size, sizeof(value), value);
    assert(ret == 0);
}

void world_open(World *w, const Scenario *sc)
{
    *w = (World) { .scenario = sc, .layout = image_layout(sc->image) };
    disk_hold(false);
    disk_reset(&prepared_for(sc)->disk);
    w->blk = open_image(sc->image);
    for (unsigned i = 0; i < sc->nb_ops; i++) {
        w->ops[i] = (Op) { .kind = sc->kinds[i], .index = i, .world = w,
                           .buf = op_buffer(i) };
    }
    if (sc->setup == SETUP_DIRTY) {
        dirty_caches(w);
    }
    track_reset(true);
    disk_hold(true);
}

void world_fail(World *w, const char *fmt, ...)
{
    va_list ap;

    if (w->error) {
        return;
    }
    va_start(ap, fmt);
    w->error = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

/* ---- what is left at the end ---- */

static void check_idle(World *w)
{
    const Qcow2State *s = blk_bs(w->blk)->opaque;
    unsigned l2 = qcow2_cache_busy(s->l2_cache);
    unsigned refs = qcow2_cache_busy(s->refblock_cache);

    if (l2 || refs) {
        world_fail(w, "%u L2 slices and %u refcount blocks are pinned or "
                   "loading", l2, refs);
    } else if (s->in_flight.length) {
        world_fail(w, "%u ranges are still in flight", s->in_flight.length);
    } else if (blk_in_flight(w->blk) || blk_bs(w->blk)->in_flight) {
        world_fail(w, "requests are still counted");
    } else if (disk_data_changed()) {
        world_fail(w, "a buffer was changed while it was being written");
    } else if (s->corrupt) {
        world_fail(w, "marked corrupt: %s", s->corrupt_reason);
    }
}

/* What the driver itself finds. */
static void check_driver(World *w)
{
    BdrvCheckResult r = { 0 };
    int ret = blk_check(w->blk, &r, 0, NULL, NULL, NULL);

    if (ret < 0 || r.check_errors) {
        world_fail(w, "blk_check: %s", ret < 0 ? g_strerror(-ret) : "errors");
    } else if ((r.corruptions || r.leaks) && !w->failed) {
        world_fail(w, "blk_check: %" PRIu64 " corruptions, %" PRIu64 " leaks",
                   r.corruptions, r.leaks);
    }
}

/* What the driver says is in the cells. */
static void read_cells(World *w, uint64_t *cells)
{
    const Layout *l = &w->layout;
    static const unsigned first[] = { 0, 16, 18, NB_CELLS };
    uint8_t *buf = op_buffer(0);

    for (unsigned i = 0; i < 3; i++) {
        unsigned n = first[i + 1] - first[i];
        int ret = blk_pread(w->blk, cell_offset(l, first[i]),
                            n * l->cell_size, buf);

        if (ret < 0) {
            world_fail(w, "reading in the end: %s", g_strerror(-ret));
        }
        for (unsigned c = 0; c < n; c++) {
            cells[first[i] + c] = cell_decode(l, buf + c * l->cell_size);
        }
    }
}

static void decode_cells(World *w, const Image *m, uint64_t *cells)
{
    const Layout *l = &w->layout;
    size_t piece = m->extended ? l->cluster_size / 32 : l->cell_size;
    uint8_t *buf = op_buffer(0);

    for (unsigned c = 0; c < NB_CELLS; c++) {
        for (size_t o = 0; o < l->cell_size; o += piece) {
            if (!image_read(m, cell_offset(l, c) + o, buf + o, piece)) {
                world_fail(w, "cell %u cannot be read from the image", c);
            }
        }
        cells[c] = cell_decode(l, buf);
    }
}

static void decode_snapshots(World *w, const Image *active)
{
    uint64_t cells[NB_CELLS];
    unsigned expect = 1;
    Image m = *active;

    for (unsigned i = 0; i < w->scenario->nb_ops; i++) {
        const Op *op = &w->ops[i];

        if (op->kind == OP_DELETE && op->ret == 0) {
            expect--;
        } else if (op->kind == OP_CREATE && op->ret == 0) {
            char name[] = { 'o', 'p', '0' + i, 0 };

            expect++;
            m = *active;
            if (!image_select(&m, name) && !w->failed) {
                world_fail(w, "snapshot %s is missing", name);
            }
            decode_cells(w, &m, w->created[i]);
        }
    }
    if (image_nb_snapshots(active) != expect && !w->failed) {
        world_fail(w, "there are %u snapshots, not %u",
                   image_nb_snapshots(active), expect);
    }
    m = *active;
    if (image_select(&m, "s1")) {
        decode_cells(w, &m, cells);
        if (memcmp(cells, prepared_for(w->scenario)->s1, sizeof(cells))) {
            world_fail(w, "snapshot s1 has changed");
        }
    }
}

static void decode_vmstate(World *w, const Image *m)
{
    uint8_t buf[512];

    if (!image_read(m, image_vmstate_offset(m), buf, sizeof(buf))) {
        world_fail(w, "vmstate cannot be read from the image");
    }
    w->vmstate = cell_decode(&(Layout) { .cell_size = sizeof(buf) }, buf);
}

void world_abandon(World *w)
{
    int ret;

    disk_hold(false);
    track_reset(false);
    ret = blk_close(w->blk);
    (void)ret; /* the same state was closed and looked at before */
}

void world_close(World *w)
{
    uint64_t live[NB_CELLS];
    Image m;
    int ret;

    disk_hold(false);
    track_reset(false);
    check_idle(w);
    read_cells(w, live);
    check_driver(w);
    ret = blk_close(w->blk);
    if (ret < 0) {
        world_fail(w, "closing: %s", g_strerror(-ret));
    }
    check_disk(w);
    m = image_open(disk_bytes(), disk_size());
    decode_cells(w, &m, w->final);
    if (memcmp(live, w->final, sizeof(live))) {
        world_fail(w, "the image is not what the driver read before closing");
    }
    decode_snapshots(w, &m);
    decode_vmstate(w, &m);
    if (w->failed) {
        model_check_failed(w);
    } else {
        model_check(w);
    }
}
