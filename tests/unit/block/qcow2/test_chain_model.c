/* SPDX-License-Identifier: MIT */
/*
 * Rebase, commit and convert on random chains in memory, beside a model.
 *
 * A round makes, from its seed, a few images: raw or qcow2, of any cluster
 * size and length, with and without subclusters, most of them on top of one of
 * the others. They are filled at random with what the operations have to tell
 * apart: nothing, data, data that are zeroes or equal to those of another
 * image, zeroes with and without storage, compressed clusters, parts of
 * clusters, clusters shared with a snapshot. Then come operations, each
 * followed by reading all disks: each has to be what the model says, and the
 * independent checker to find nothing.
 *
 *   FIRN_CHAIN_MODEL_ROUNDS=N    of each kind
 *   FIRN_CHAIN_MODEL_SEED=N      of the first round; a failure names its own
 */
#include "maint_fixture.h"

#include "block/convert.h"

#define KIB        1024u
#define MAX_IMAGES 8
#define ROUNDS     250

typedef struct Image {
    FakeDisk *disk;
    char *filename;
    bool raw;
    bool version2;
    int backing;        /* index; -1: none */
    uint64_t cluster;
    uint64_t size;
    uint8_t *view;      /* what its disk shows */
    bool loose;         /* nothing says what it shows now */
} Image;

typedef struct Round {
    GRand *rand;
    unsigned seed;
    uint64_t max_size;
    Image images[MAX_IMAGES];
    unsigned nb;
    GString *story;
} Round;

static unsigned pick(Round *r, unsigned n)
{
    return g_rand_int_range(r->rand, 0, n);
}

static bool chance(Round *r, unsigned percent)
{
    return pick(r, 100) < percent;
}

/* Fails the test unless @ret is 0. */
static void expect(const Round *r, int ret, GError *error)
{
    if (ret < 0) {
        fail_msg("FIRN_CHAIN_MODEL_SEED=%u: %s:\n%s", r->seed,
                 error ? error->message : g_strerror(-ret), r->story->str);
    }
}

static const char *format_of(const Image *m)
{
    return m->raw ? "raw" : "qcow2";
}

static BlockBackend *open_image(const Image *m, const char *options,
                                unsigned flags)
{
    g_autofree char *text = g_strdup_printf("driver=%s%s%s", format_of(m),
                                            *options ? "," : "", options);

    return q_open(m->filename, text, flags);
}

/* ---- chains ---- */

static bool is_in_chain(const Round *r, int which, int top)
{
    while (top >= 0 && top != which) {
        top = r->images[top].backing;
    }
    return top == which;
}

static unsigned depth_of(const Round *r, int top)
{
    unsigned n = 0;

    while ((top = r->images[top].backing) >= 0) {
        n++;
    }
    return n;
}

static int below(const Round *r, int top, unsigned depth)
{
    while (depth--) {
        top = r->images[top].backing;
    }
    return top;
}

/* An image that @fits, or -1. */
static int find(Round *r, bool (*fits)(const Round *r, int which, int arg),
                int arg)
{
    unsigned start = pick(r, r->nb);

    for (unsigned i = 0; i < r->nb; i++) {
        int which = (start + i) % r->nb;

        if (fits(r, which, arg)) {
            return which;
        }
    }
    return -1;
}

/* What is behind @which changed, but not for @except and those above it. */
static void loosen_above(Round *r, int which, int except)
{
    for (unsigned i = 0; i < r->nb; i++) {
        r->images[i].loose |= (int)i != which && is_in_chain(r, which, i) &&
                              !(except >= 0 && is_in_chain(r, except, i));
    }
}

static void set_view(Image *m, uint64_t size, const Image *from)
{
    uint8_t *view = g_malloc0(size + 1);

    if (from) {
        memcpy(view, from->view, MIN(size, from->size));
    }
    g_free(m->view);
    m->view = view;
    m->size = size;
}

/* ---- making and filling ---- */

static uint64_t choose_size(Round *r)
{
    static const unsigned units[] = { 512, 512, 4096, 16384, 65536 };
    unsigned unit = units[pick(r, G_N_ELEMENTS(units))];

    return unit * (uint64_t)(1 + pick(r, r->max_size / unit));
}

static Image *new_image(Round *r)
{
    static unsigned serial; /* a test that fails leaves its disks behind */
    Image *m = &r->images[r->nb];
    g_autofree char *name = g_strdup_printf("i%u.%u", r->nb, serial++);

    assert_true(++r->nb <= MAX_IMAGES);
    *m = (Image) { .backing = -1, .cluster = 512 };
    m->disk = fake_disk_new(name, 0);
    m->disk->sync = chance(r, 50);
    m->disk->zeroes = chance(r, 70);
    m->disk->copies = chance(r, 70);
    m->filename = g_strdup_printf("fake:%s", name);
    return m;
}

static void create_raw(Round *r, uint64_t size)
{
    Image *m = new_image(r);
    g_autofree char *text = g_strdup_printf("size=%" PRIu64, size);

    m->raw = true;
    assert_int_equal(blk_create(test_ctx, "raw", m->filename,
                                q_options(text), NULL), 0);
    set_view(m, size, NULL);
    g_string_append_printf(r->story, "%s raw %" PRIu64 "\n", m->filename,
                           size);
}

static void create_qcow2(Round *r, uint64_t size, int backing)
{
    static const char *const kinds[] = {
        "cluster_size=512", "cluster_size=4k", "cluster_size=4k,compat=0.10",
        "cluster_size=16k,extended_l2=on", "cluster_size=64k,extended_l2=on",
    };
    static const unsigned clusters[] = { 512, 4096, 4096, 16384, 65536 };
    Image *m = new_image(r);
    const Image *b = backing < 0 ? NULL : &r->images[backing];
    unsigned kind = pick(r, G_N_ELEMENTS(kinds));
    g_autofree char *text = g_strdup_printf(
        "size=%" PRIu64 ",%s%s%s%s%s", size, kinds[kind],
        b ? ",backing_file=" : "", b ? b->filename : "",
        b ? ",backing_fmt=" : "", b ? format_of(b) : "");

    m->backing = backing;
    m->cluster = clusters[kind];
    m->version2 = strstr(kinds[kind], "0.10");
    q_create(m->filename, text);
    set_view(m, size, b);
    g_string_append_printf(r->story, "%s %s\n", m->filename, text);
}

/* The same bytes here and there in several images. */
static void fill_bytes(Round *r, uint64_t offset, uint8_t *buf,
                       uint64_t bytes)
{
    unsigned kind = pick(r, 4);
    uint8_t byte = 'a' + pick(r, 3);

    for (uint64_t i = 0; i < bytes; i++) {
        uint64_t at = offset + i;

        buf[i] = kind == 0 ? 0 : kind == 1 ? byte : at / 512 * 7 + at + byte;
    }
}

/* A place where some disk ends, this one's too, or any other. */
static uint64_t choose_offset(Round *r, const Image *m)
{
    uint64_t offset = pick(r, m->size);

    if (chance(r, 40)) {
        offset = chance(r, 40) ? m->size - 1
                               : r->images[pick(r, r->nb)].size - pick(r, 2);
        offset -= chance(r, 30) ? MIN(m->cluster, offset) : 0;
        offset = MIN(offset, m->size - 1);
    }
    return offset;
}

static void choose_range(Round *r, const Image *m, bool clusters,
                         uint64_t *ret_offset, uint64_t *ret_bytes)
{
    uint64_t offset = choose_offset(r, m), bytes = 1 + pick(r, m->size / 4 + 1);
    unsigned unit = clusters || chance(r, 50) ? m->cluster
                  : chance(r, 80) ? 512 : 1;

    if (clusters || chance(r, 30)) {
        offset = ROUND_DOWN(offset, m->cluster);
    }
    if (chance(r, 50)) {
        bytes = unit;
    }
    offset = ROUND_DOWN(offset, unit);
    *ret_offset = offset;
    *ret_bytes = MIN(ROUND_UP(bytes, unit), m->size - offset);
}

/* One cluster; where there are data already it is refused. */
static void write_compressed(Round *r, Image *m, BlockBackend *blk,
                             uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    QEMUIOVector qiov;
    int ret;

    fill_bytes(r, offset, buf, bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    ret = blk_pwritev(blk, offset, bytes, &qiov, BDRV_REQ_WRITE_COMPRESSED);
    if (ret == 0) {
        memcpy(m->view + offset, buf, bytes);
    } else {
        assert_int_equal(ret, -EIO);
    }
}

static void write_once(Round *r, Image *m, BlockBackend *blk)
{
    unsigned kind = pick(r, 100);
    bool compress = !m->raw && kind < 15;
    uint64_t offset, bytes;

    choose_range(r, m, compress, &offset, &bytes);
    if (compress) {
        write_compressed(r, m, blk, offset, MIN(bytes, m->cluster));
    } else if (kind < 45) {
        memset(m->view + offset, 0, bytes);
        expect(r, blk_pwrite_zeroes(blk, offset, bytes, chance(r, 50)
                                  ? BDRV_REQ_MAY_UNMAP : 0), NULL);
    } else {
        if (kind < 90) { /* else what it shows already */
            fill_bytes(r, offset, m->view + offset, bytes);
        }
        expect(r, blk_pwrite(blk, offset, bytes, m->view + offset), NULL);
    }
}

static void take_snapshot(Round *r, BlockBackend *blk)
{
    g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_new();
    GError *error = NULL;

    info->name = g_strdup("s");
    expect(r, blk_snapshot_create(blk, info, &error), error);
}

static void fill(Round *r, Image *m)
{
    BlockBackend *blk = open_image(m, "", BDRV_O_RDWR | BDRV_O_UNMAP);
    unsigned n = pick(r, 8);

    while (n--) {
        write_once(r, m, blk);
    }
    if (!m->raw && chance(r, 15)) {
        take_snapshot(r, blk);
        write_once(r, m, blk);
    }
    q_close(blk);
}

static void make_images(Round *r)
{
    unsigned n = 3 + pick(r, 3);

    r->max_size = chance(r, 88) ? 192 * KIB : 5 * KIB * KIB;
    while (n--) {
        int backing = !r->nb || chance(r, 25) ? -1
                    : chance(r, 50) ? (int)r->nb - 1 : (int)pick(r, r->nb);

        if (backing < 0 && chance(r, 35)) {
            create_raw(r, choose_size(r) - (chance(r, 30) ? pick(r, 512) : 0));
        } else {
            create_qcow2(r, backing >= 0 && chance(r, 30)
                         ? ROUND_UP(r->images[backing].size, 512)
                         : choose_size(r), backing);
        }
        fill(r, &r->images[r->nb - 1]);
    }
}

/* ---- judging ---- */

static void judge_image(Round *r, Image *m, const char *when)
{
    BlockBackend *blk = open_image(m, "", 0);
    uint64_t size = blk_getlength(blk), at = 0;
    g_autofree uint8_t *buf = g_malloc0(size + 1);

    expect(r, blk_pread(blk, 0, size, buf), NULL);
    q_close(blk);
    if (!m->raw) {
        maint_check(m->disk, false, r->story->str);
    }
    if (m->loose) {
        g_free(m->view);
        m->view = g_steal_pointer(&buf);
        m->size = size;
        m->loose = false;
        return;
    }
    if (size == m->size && !memcmp(buf, m->view, size)) {
        return;
    }
    while (at < MIN(size, m->size) && buf[at] == m->view[at]) {
        at++;
    }
    fail_msg("FIRN_CHAIN_MODEL_SEED=%u, %s: %s has %" PRIu64 " bytes, not %"
             PRIu64 ", or another byte at %" PRIu64 ":\n%s", r->seed, when,
             m->filename, size, m->size, at, r->story->str);
}

static void judge(Round *r, const char *when)
{
    for (unsigned i = 0; i < r->nb; i++) {
        judge_image(r, &r->images[i], when);
    }
}

/* ---- rebase ---- */

static bool may_be_rebased(const Round *r, int which, int arg)
{
    return !r->images[which].raw;
}

static bool may_be_behind(const Round *r, int which, int top)
{
    return !is_in_chain(r, top, which);
}

static const char *const writer_options[] = {
    "", "", "detect-zeroes=on", "detect-zeroes=unmap",
};

static void op_rebase(Round *r)
{
    int top = find(r, may_be_rebased, 0);
    int new = top >= 0 && chance(r, 80) ? find(r, may_be_behind, top) : -1;
    Image *m = &r->images[MAX(top, 0)], *b = &r->images[MAX(new, 0)];
    BlkRebaseOptions o = { .compressed = chance(r, 30),
                           .workers = pick(r, 4) };
    GError *error = NULL;
    BlockBackend *blk;

    if (top < 0) {
        return;
    }
    if (new >= 0) {
        o.backing = open_image(b, "", 0);
        o.file = b->filename;
        o.format = format_of(b);
    }
    g_string_append_printf(r->story, "rebase %s on %s, -c %d\n", m->filename,
                           o.file ? o.file : "nothing", o.compressed);
    blk = open_image(m, writer_options[pick(r, 4)],
                     BDRV_O_RDWR | BDRV_O_UNMAP);
    expect(r, blk_rebase(blk, &o, &error), error);
    q_close(blk);
    if (o.backing) {
        q_close(o.backing);
    }
    m->backing = new;
}

/* ---- commit ---- */

static bool may_be_committed(const Round *r, int which, int arg)
{
    return r->images[which].backing >= 0;
}

/* As firn-img does with -b. */
static int commit_across(Round *r, const Image *m, Image *b, unsigned depth)
{
    GString *options = g_string_new(NULL);
    BlkCommitOptions o = { .workers = pick(r, 4) };
    BlockBackend *blk;
    int ret;

    for (unsigned i = 0; i < depth; i++) {
        g_string_append(options, i ? ".backing" : "backing");
    }
    g_string_append(options, "=null");
    o.base = open_image(b, "", BDRV_O_RDWR | BDRV_O_UNMAP);
    blk = open_image(m, options->str, BDRV_O_RDWR | BDRV_O_UNMAP);
    ret = blk_commit(blk, &o, NULL);
    q_close(blk);
    q_close(o.base);
    g_string_free(options, TRUE);
    return ret;
}

static int commit_one(Round *r, const Image *m)
{
    BlkCommitOptions o = { .drop = chance(r, 60), .workers = pick(r, 4) };
    BlockBackend *blk = open_image(m, "", BDRV_O_RDWR | BDRV_O_UNMAP |
                                          BDRV_O_BACKING_RDWR);
    int ret = blk_commit(blk, &o, NULL);

    q_close(blk);
    return ret;
}

static void op_commit(Round *r)
{
    int top = find(r, may_be_committed, 0), base;
    unsigned depth;
    Image *m, *b;
    int ret;

    if (top < 0) {
        return;
    }
    m = &r->images[top];
    depth = chance(r, 40) ? 1 : 1 + pick(r, depth_of(r, top));
    base = below(r, top, depth);
    b = &r->images[base];
    g_string_append_printf(r->story, "commit %s to %s\n", m->filename,
                           b->filename);
    ret = depth > 1 ? commit_across(r, m, b, depth) : commit_one(r, m);
    if (ret < 0) {
        /* It cannot hide a longer backing file, nor resize snapshots. */
        assert_int_equal(ret, -ENOTSUP);
        assert_true(b->version2 && b->size < m->size);
        return;
    }
    if (b->size < m->size) {
        set_view(b, m->size, m);
    } else {
        memcpy(b->view, m->view, m->size);
    }
    loosen_above(r, base, top);
}

/* ---- convert ---- */

static bool is_any(const Round *r, int which, int arg)
{
    return true;
}

static bool may_be_written(const Round *r, int which, int source)
{
    return !is_in_chain(r, which, source) &&
           r->images[which].size >= r->images[source].size;
}

/*
 * A disk that is like the backing file of @source as far as both reach, with
 * other bytes behind that: -B. Returns its index.
 */
static int make_other_base(Round *r, int source)
{
    int old = r->images[source].backing;
    const Image *b = &r->images[old];
    BlockBackend *blk;
    Image *m;

    if (chance(r, 50)) {
        return old;
    }
    create_raw(r, choose_size(r));
    m = &r->images[r->nb - 1];
    memset(m->view, 'z', m->size);
    memcpy(m->view, b->view, MIN(m->size, b->size));
    blk = open_image(m, "", BDRV_O_RDWR);
    expect(r, blk_pwrite(blk, 0, m->size, m->view), NULL);
    q_close(blk);
    return r->nb - 1;
}

/* Where the target hides its backing file it need not be empty. */
static void put_old_data(Image *m, uint64_t from)
{
    BlockBackend *blk;

    if (from < m->size) {
        blk = open_image(m, "", BDRV_O_RDWR);
        maint_put(blk, from, m->size, 'x');
        q_close(blk);
    }
}

/* What the words of a command line would be; the target, too. */
static int choose_convert(Round *r, int source, BlkConvertOptions *o)
{
    const Image *m = &r->images[source];
    int target = chance(r, 40) ? find(r, may_be_written, source) : -1;

    if (target >= 0) {
        o->compressed = false; /* that is for clusters without data */
        return target;
    }
    if (m->backing >= 0 && chance(r, 60)) {
        int base = make_other_base(r, source);

        o->top_only = true;
        o->backing_bytes = r->images[base].size;
        o->fresh = chance(r, 50);
        create_qcow2(r, ROUND_UP(m->size, 512), base);
    } else {
        o->target_is_zero = chance(r, 70);
        create_qcow2(r, ROUND_UP(m->size, 512) + 512 * pick(r, 100), -1);
    }
    set_view(&r->images[r->nb - 1], r->images[r->nb - 1].size, NULL);
    if (o->top_only && !o->fresh && !o->compressed) {
        put_old_data(&r->images[r->nb - 1], o->backing_bytes);
    }
    return r->nb - 1;
}

static void op_convert(Round *r)
{
    static const unsigned sparse[] = { 4096, 4096, 0, 512, 65536 };
    int source = find(r, is_any, 0), target;
    BlkConvertOptions o = {
        .workers = pick(r, 17), .any_order = chance(r, 50),
        .sparse_bytes = sparse[pick(r, G_N_ELEMENTS(sparse))],
        .compressed = chance(r, 30), .offload = chance(r, 40), .nb_sources = 1,
    };
    BlockBackend *from;
    GError *error = NULL;

    if (r->nb + 2 > MAX_IMAGES) {
        return;
    }
    target = choose_convert(r, source, &o);
    g_string_append_printf(
        r->story, "convert %s to %s, -c %d -W %d -m %u -S %" PRIu64 " -C %d "
        "zero %d, -B %d (%" PRIu64 ", fresh %d)\n",
        r->images[source].filename, r->images[target].filename, o.compressed,
        o.any_order, o.workers, o.sparse_bytes, o.offload, o.target_is_zero,
        o.top_only, o.backing_bytes, o.fresh);
    from = open_image(&r->images[source], "", 0);
    o.sources = &from;
    o.target = open_image(&r->images[target], writer_options[pick(r, 4)],
                          BDRV_O_RDWR | BDRV_O_UNMAP);
    expect(r, blk_convert(&o, &error), error);
    q_close(o.target);
    q_close(from);
    memcpy(r->images[target].view, r->images[source].view,
           r->images[source].size);
    loosen_above(r, target, -1);
}

/* ---- rounds ---- */

typedef void Operation(Round *r);

static void run_round(Operation *op, unsigned seed)
{
    static Operation *const any[] = { op_rebase, op_commit, op_convert };
    Round r = { .rand = g_rand_new_with_seed(seed), .seed = seed,
                .story = g_string_new(NULL) };

    make_images(&r);
    judge(&r, "filled");
    op(&r);
    judge(&r, "first operation");
    if (chance(&r, 30)) {
        any[pick(&r, 3)](&r);
        judge(&r, "second operation");
    }
    for (unsigned i = 0; i < r.nb; i++) {
        fake_disk_free(r.images[i].disk);
        g_free(r.images[i].filename);
        g_free(r.images[i].view);
    }
    g_string_free(r.story, TRUE);
    g_rand_free(r.rand);
}

static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);

    return text ? strtoul(text, NULL, 0) : otherwise;
}

static void run_rounds(Operation *op)
{
    unsigned n = number("FIRN_CHAIN_MODEL_ROUNDS", ROUNDS);
    unsigned first = number("FIRN_CHAIN_MODEL_SEED", 1);

    for (unsigned i = 0; i < n; i++) {
        run_round(op, first + i);
    }
}

static void test_rebase_keeps_every_disk(void **state)
{
    run_rounds(op_rebase);
}

static void test_commit_brings_all_to_the_base(void **state)
{
    run_rounds(op_commit);
}

static void test_convert_copies_every_byte(void **state)
{
    run_rounds(op_convert);
}

#define C_TEST(f) cmocka_unit_test_setup_teardown(f, test_ctx_setup, \
                                                  test_ctx_teardown)

static const struct CMUnitTest tests[] = {
    C_TEST(test_rebase_keeps_every_disk),
    C_TEST(test_commit_brings_all_to_the_base),
    C_TEST(test_convert_copies_every_byte),
};

FIRN_TEST_MAIN(tests)
