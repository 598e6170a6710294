/* SPDX-License-Identifier: MIT */
/*
 * Generated workloads: what a guest and its host do to an image, chosen by a
 * seeded generator from what the configuration allows.
 */
#include "crash.h"

#include "block/dirty-bitmap.h"

#define OPEN_FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP)
#define BATCH 4     /* writes at once */

/* ---- worlds ---- */

static void fill_below(RecordDisk *d)
{
    g_autofree uint8_t *buf = g_malloc(CRASH_SECTORS * SECTOR_BYTES);

    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        sector_fill(buf + i * SECTOR_BYTES, i, CRASH_BACKING);
    }
    record_disk_set(d, buf, CRASH_SECTORS * SECTOR_BYTES);
}

static void add_disk(CrashWorld *w, const char *name)
{
    RecordDisk *d = record_disk_new(name);

    d->zeroes = w->seed % 2;
    w->disk[w->nb_disks++] = d;
}

CrashWorld *crash_world_new(const CrashConfig *c, uint32_t seed,
                            CrashCounts *counts)
{
    CrashWorld *w = g_new0(CrashWorld, 1);

    w->config = c;
    w->seed = seed;
    w->counts = counts;
    w->rand = g_rand_new_with_seed(seed);
    add_disk(w, "c");
    if (c->second == CRASH_BELOW) {
        add_disk(w, "b");
        fill_below(w->disk[1]);
    } else if (c->second == CRASH_DATA_FILE) {
        add_disk(w, "d");
    }
    w->ops = g_ptr_array_new_with_free_func(g_free);
    w->events = g_array_new(false, false, sizeof(CrashEvent));
    w->live = g_new(CrashModel, 1);
    w->model = g_new(CrashModel, 1);
    snprintf(w->where, sizeof(w->where), "FIRN_CRASH_REPLAY=%s:%u", c->name,
             seed);
    return w;
}

void crash_world_free(CrashWorld *w)
{
    for (unsigned i = 0; i < w->nb_disks; i++) {
        record_disk_free(w->disk[i]);
    }
    if (w->log) {
        record_log_free(w->log);
    }
    g_ptr_array_unref(w->ops);
    g_array_unref(w->events);
    g_rand_free(w->rand);
    g_free(w->live);
    g_free(w->model);
    g_free(w);
}

CrashMark crash_mark(CrashWorld *w)
{
    CrashMark m;

    for (unsigned i = 0; i < w->nb_disks; i++) {
        m.disk[i] = record_mark(w->disk[i]);
    }
    return m;
}

void crash_undo(CrashWorld *w, CrashMark m)
{
    for (unsigned i = 0; i < w->nb_disks; i++) {
        record_undo(w->disk[i], m.disk[i]);
    }
}

static void print_op(const CrashEvent *e)
{
    const CrashOp *op = e->op;

    print_message("  %4u %s %-16s lba %u n %u snap %u vm %u gen %u flags %#x"
                  " ret %d\n", e->pos, e->end ? "end  " : "begin",
                  crash_op_name(op->type), op->lba, op->n, op->snap,
                  op->vm_size, op->gen, op->flags, e->end ? op->ret : 0);
}

void crash_fail(CrashWorld *w, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    for (guint i = 0; i < w->events->len; i++) {
        print_op(&g_array_index(w->events, CrashEvent, i));
    }
    fail_msg("%s: %s", w->where, text);
    abort();
}

/* ---- running one operation ---- */

static void event(CrashWorld *w, CrashOp *op, bool end)
{
    CrashEvent e = { w->recording ? w->log->entries->len : 0, end, op };

    crash_model_event(w->live, &e);
    if (w->recording) {
        g_array_append_val(w->events, e);
    }
}

static int coroutine_fn co_write(CrashWorld *w, const CrashOp *op)
{
    g_autofree uint8_t *buf = g_malloc(op->n * SECTOR_BYTES);
    QEMUIOVector qiov;

    for (unsigned i = 0; i < op->n; i++) {
        sector_fill(buf + i * SECTOR_BYTES, op->lba + i, op->gen);
    }
    qemu_iovec_init_buf(&qiov, buf, op->n * SECTOR_BYTES);
    return blk_co_pwritev(w->blk, (uint64_t)op->lba * SECTOR_BYTES, qiov.size,
                          &qiov, op->flags);
}

static int coroutine_fn co_request(CrashWorld *w, const CrashOp *op)
{
    uint64_t offset = (uint64_t)op->lba * SECTOR_BYTES;
    uint64_t bytes = (uint64_t)op->n * SECTOR_BYTES;

    switch (op->type) {
    case OP_WRITE:
    case OP_WRITE_COMPRESSED:
        return co_write(w, op);
    case OP_ZERO:
        return blk_co_pwrite_zeroes(w->blk, offset, bytes, op->flags);
    case OP_DISCARD:
        return blk_co_pdiscard(w->blk, offset, bytes);
    case OP_FLUSH:
        return blk_co_flush(w->blk);
    default:
        g_assert_not_reached();
    }
}

/* Beside requests of the guest. */
static int coroutine_fn co_delete(CrashWorld *w, const CrashOp *op)
{
    GError *error = NULL;
    int ret = bdrv_co_snapshot_delete(blk_bs(w->blk), NULL,
                                      crash_snap_name(op->snap), &error);

    g_clear_error(&error);
    return ret;
}

typedef struct Running {
    CrashWorld *w;
    CrashOp *op;
    unsigned *left;
} Running;

static void coroutine_fn request_entry(void *opaque)
{
    Running r = *(Running *)opaque;

    event(r.w, r.op, false);
    r.op->ret = r.op->type == OP_SNAP_DELETE ? co_delete(r.w, r.op)
                                             : co_request(r.w, r.op);
    event(r.w, r.op, true);
    --*r.left;
}

/* All at once. */
static void run_requests(CrashWorld *w, CrashOp **ops, unsigned nb)
{
    unsigned left = nb;

    for (unsigned i = 0; i < nb; i++) {
        Running r = { w, ops[i], &left };

        test_spawn(request_entry, &r);
    }
    TEST_WAIT_UNTIL(left == 0);
}

static int save_vmstate(CrashWorld *w, const CrashOp *op)
{
    uint8_t vm[CRASH_MAX_VM];
    unsigned half = op->vm_size / 2;
    int ret;

    if (!op->vm_size) {
        return 0;
    }
    test_fill(vm, op->vm_size, op->gen);
    ret = q_vm_save(w->blk, 0, vm, half);
    return ret < 0 ? ret : q_vm_save(w->blk, half, vm + half,
                                     op->vm_size - half);
}

static int snap_create(CrashWorld *w, const CrashOp *op)
{
    int ret = save_vmstate(w, op);

    ret = ret < 0 ? ret : q_snap_create(w->blk, crash_snap_name(op->snap),
                                        op->vm_size);
    if (ret < 0 && op->vm_size) {
        (void)q_vm_discard(w->blk);
    }
    return ret;
}

BlockBackend *crash_open(CrashWorld *w, const char *snapshot, unsigned flags)
{
    BdrvOptions *o = q_options(w->config->open);
    BlockBackend *blk = NULL;
    GError *error = NULL;

    if (w->config->features & CRASH_COMMIT) {
        flags |= BDRV_O_BACKING_RDWR;
    }
    bdrv_options_set_default(o, "driver", "qcow2");
    if (snapshot) {
        bdrv_options_set(o, "snapshot.name", snapshot);
    }
    if (blk_open(test_ctx, "rec:c", o, flags, &blk, &error) < 0) {
        crash_fail(w, "does not open: %s", error->message);
    }
    return blk;
}

static int reopen(CrashWorld *w)
{
    int ret = blk_close(w->blk);

    w->blk = crash_open(w, NULL, OPEN_FLAGS);
    return ret;
}

static int repair(CrashWorld *w)
{
    BdrvCheckResult r;
    int ret = blk_check(w->blk, &r, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, NULL,
                        NULL, NULL);

    return ret < 0 ? ret : r.leaks || r.corruptions ? -EUCLEAN : 0;
}

static const char *const amendments[] = {
    "lazy_refcounts=on", "lazy_refcounts=off", "refcount_bits=64",
    "refcount_bits=2", "refcount_bits=8", "refcount_bits=16", "compat=0.10",
    "compat=1.1",
};

static int run_special(CrashWorld *w, const CrashOp *op)
{
    int ret;

    switch (op->type) {
    case OP_REOPEN:
        return reopen(w);
    case OP_SNAP_CREATE:
        return snap_create(w, op);
    case OP_SNAP_GOTO:
        return q_snap_goto(w->blk, crash_snap_name(op->snap));
    case OP_VM_ABANDON:
        ret = save_vmstate(w, op);
        return ret < 0 ? ret : q_vm_discard(w->blk);
    case OP_RESIZE:
        return blk_truncate(w->blk, (uint64_t)op->n * SECTOR_BYTES,
                            (BdrvPrealloc)op->flags, NULL);
    case OP_REPAIR:
        return repair(w);
    case OP_AMEND:
        return blk_amend(w->blk, q_options(amendments[op->snap]), false, NULL,
                         NULL, NULL);
    case OP_COMMIT:
        return blk_commit(w->blk, &(BlkCommitOptions) { .drop = op->flags },
                          NULL);
    case OP_MAKE_EMPTY:
        return blk_make_empty(w->blk, NULL);
    case OP_BITMAP_ADD:
        return blk_bitmap_add(w->blk, CRASH_BITMAP_NAME,
                              CRASH_GRANULE * SECTOR_BYTES,
                              BDRV_BITMAP_PERSISTENT, NULL);
    case OP_BITMAP_REMOVE:
        return blk_bitmap_remove(w->blk, CRASH_BITMAP_NAME, NULL);
    case OP_BITMAP_CLEAR:
        return blk_bitmap_clear(w->blk, CRASH_BITMAP_NAME, NULL);
    default:
        g_assert_not_reached();
    }
}

static bool is_request(const CrashOp *op)
{
    return op->type == OP_WRITE || op->type == OP_WRITE_COMPRESSED ||
           op->type == OP_ZERO || op->type == OP_DISCARD ||
           op->type == OP_FLUSH || op->type == OP_SNAP_DELETE;
}

/* A narrow refcount has no room; what is allocated is compressed on request
 * only; not every image can be amended to everything. */
static bool refused(const CrashOp *op)
{
    switch (op->type) {
    case OP_WRITE_COMPRESSED:
        return op->ret == -EIO;
    case OP_SNAP_CREATE:
    case OP_SNAP_GOTO:
        return op->ret == -ERANGE;
    case OP_AMEND:
        return op->ret == -ENOTSUP || op->ret == -EINVAL ||
               op->ret == -ERANGE;
    default:
        return false;
    }
}

static void run(CrashWorld *w, CrashOp **ops, unsigned nb)
{
    if (is_request(ops[0])) {
        run_requests(w, ops, nb);
    } else {
        event(w, ops[0], false);
        ops[0]->ret = run_special(w, ops[0]);
        event(w, ops[0], true);
    }
    for (unsigned i = 0; i < nb; i++) {
        w->counts->ops[ops[i]->type] += w->recording;
        w->counts->refused[ops[i]->type] += w->recording && ops[i]->ret < 0;
        if (ops[i]->ret < 0 && !refused(ops[i])) {
            crash_fail(w, "%s: %s", crash_op_name(ops[i]->type),
                       g_strerror(-ops[i]->ret));
        }
    }
}

/* ---- choosing ---- */

static unsigned pick(CrashWorld *w, unsigned lo, unsigned hi)
{
    return lo < hi ? (unsigned)g_rand_int_range(w->rand, lo, hi) : lo;
}

static unsigned disk_sectors(const CrashWorld *w)
{
    return MIN(w->live->sizes[0], CRASH_SECTORS);
}

static CrashOp *op_new(CrashWorld *w, CrashOpType type)
{
    CrashOp *op = g_new0(CrashOp, 1);

    op->type = type;
    g_ptr_array_add(w->ops, op);
    return op;
}

static void run_one(CrashWorld *w, CrashOp *op)
{
    run(w, &op, 1);
}

/* A range within [@lo, @hi), sometimes whole clusters. */
static void pick_range(CrashWorld *w, CrashOp *op, unsigned lo, unsigned hi)
{
    unsigned c = w->config->cluster;
    unsigned most = pick(w, 0, 3) ? 2 * c + 4 : 12 * c;

    op->n = pick(w, 1, MAX(2, MIN(hi - lo, most)));
    op->lba = pick(w, lo, hi - op->n + 1);
    if (!pick(w, 0, 3) && hi - lo >= 2 * c) {
        op->lba = MAX(ROUND_DOWN(op->lba, c), ROUND_UP(lo, c));
        op->n = MIN(ROUND_UP(op->n, c), hi - op->lba);
    }
}

/* Whole clusters only; half of them take the place of what is there. */
static void pick_compressed(CrashWorld *w, CrashOp *op, unsigned lo,
                            unsigned hi)
{
    unsigned c = w->config->cluster;
    unsigned first = DIV_ROUND_UP(lo, c), end = hi / c;

    if (first >= end) {
        return;
    }
    op->type = OP_WRITE_COMPRESSED;
    op->flags = BDRV_REQ_WRITE_COMPRESSED |
                (pick(w, 0, 2) ? BDRV_REQ_REPLACE : 0);
    op->n = MIN(end - first, op->n / c + 1) * c;
    op->lba = pick(w, first, end - op->n / c + 1) * c;
}

static void pick_request(CrashWorld *w, CrashOp *op, unsigned lo, unsigned hi)
{
    unsigned c = w->config->cluster;
    unsigned kind = pick(w, 0, 10);

    pick_range(w, op, lo, hi);
    op->type = kind < 6 ? OP_WRITE : kind < 8 ? OP_ZERO : OP_DISCARD;
    if (op->type == OP_WRITE) {
        op->gen = ++w->gen;
        if ((w->config->features & CRASH_COMPRESS) && pick(w, 0, 2)) {
            pick_compressed(w, op, lo, hi);
        }
    } else if (op->type == OP_ZERO) {
        op->flags = pick(w, 0, 2) ? BDRV_REQ_MAY_UNMAP : 0;
    } else {
        op->weak = (w->config->features & CRASH_WEAK) ||
                   op->lba % c || op->n % c;
    }
}

/* Some at once; @first (NULL: none) is one of them. */
static void do_requests(CrashWorld *w, CrashOp *first)
{
    CrashOp *ops[BATCH] = { first };
    unsigned nb = pick(w, 0, 3) ? 1 : pick(w, 2, BATCH + 1);
    unsigned slice = disk_sectors(w) / nb;

    for (unsigned i = first != NULL; i < nb; i++) {
        ops[i] = op_new(w, OP_WRITE);
        if (i && !pick(w, 0, 4)) {
            ops[i]->type = OP_FLUSH;
        } else {
            pick_request(w, ops[i], i * slice, (i + 1) * slice);
        }
    }
    run(w, ops, nb);
}

static void do_flush(CrashWorld *w)
{
    run_one(w, op_new(w, pick(w, 0, 3) ? OP_FLUSH : OP_REOPEN));
}

static void do_snapshot(CrashWorld *w)
{
    unsigned i = pick(w, 0, CRASH_SNAPSHOTS);
    CrashOp *op;

    if (w->live->snap[i].state == ABSENT && pick(w, 0, 2)) {
        i = pick(w, 0, CRASH_SNAPSHOTS); /* rather one that is there */
    }

    if (w->live->snap[i].state == PRESENT) {
        bool apply = !(w->config->features & CRASH_BITMAP) && pick(w, 0, 2);

        op = op_new(w, apply ? OP_SNAP_GOTO : OP_SNAP_DELETE);
        op->snap = i;
        if (!apply) {
            do_requests(w, op);
            return;
        }
        run_one(w, op_new(w, OP_FLUSH)); /* keeps the sets small */
    } else {
        op = op_new(w, OP_SNAP_CREATE);
        op->snap = i;
        op->gen = ++w->gen;
        if ((w->config->features & CRASH_VM) && pick(w, 0, 2)) {
            op->vm_size = pick(w, 2, CRASH_MAX_VM);
        }
    }
    run_one(w, op);
}

static void do_abandon(CrashWorld *w)
{
    CrashOp *op = op_new(w, OP_VM_ABANDON);

    op->vm_size = pick(w, 2, CRASH_MAX_VM);
    op->gen = ++w->gen;
    run_one(w, op);
}

static void do_resize(CrashWorld *w)
{
    unsigned f = w->config->features;
    unsigned from = f & CRASH_SHRINK ? 1 : w->live->sizes[0];
    CrashOp *op;

    if (f & CRASH_SHRINK) {
        run_one(w, op_new(w, OP_FLUSH)); /* keeps the sets small */
    }
    op = op_new(w, OP_RESIZE);
    op->n = pick(w, from, CRASH_SECTORS + 1);
    if ((f & CRASH_PREALLOC) && op->n >= w->live->sizes[0]) {
        op->flags = pick(w, 0, 4);
    }
    run_one(w, op);
}

static const struct {
    unsigned feature;
    CrashOpType type;
} maintenance[] = {
    { CRASH_COMMIT, OP_COMMIT },
    { CRASH_EMPTY, OP_MAKE_EMPTY },
    { CRASH_AMEND, OP_AMEND },
    { ~0u, OP_REPAIR }, /* for every image */
};

static void maintain(CrashWorld *w, CrashOpType type)
{
    CrashOp *op = op_new(w, type);

    op->snap = pick(w, 0, G_N_ELEMENTS(amendments));
    op->flags = pick(w, 0, 2);
    run_one(w, op);
}

/* Everything that only this configuration has, once. */
static void do_specialty(CrashWorld *w)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(maintenance) - 1; i++) {
        if (w->config->features & maintenance[i].feature) {
            maintain(w, maintenance[i].type);
        }
    }
}

static void do_maintenance(CrashWorld *w)
{
    unsigned i = pick(w, 0, G_N_ELEMENTS(maintenance));

    if (w->config->features & maintenance[i].feature ||
        maintenance[i].type == OP_REPAIR) {
        maintain(w, maintenance[i].type);
    } else {
        do_requests(w, NULL);
    }
}

static void do_bitmap(CrashWorld *w)
{
    const CrashBitmap *b = &w->live->bitmap;

    if (!b->present) {
        run_one(w, op_new(w, OP_BITMAP_ADD));
    } else if (b->bad || pick(w, 0, 3) == 0) {
        run_one(w, op_new(w, OP_BITMAP_REMOVE));
    } else if (pick(w, 0, 2)) {
        run_one(w, op_new(w, OP_BITMAP_CLEAR));
    } else {
        run_one(w, op_new(w, OP_REOPEN)); /* stores it */
    }
}

static void step(CrashWorld *w)
{
    unsigned f = w->config->features;
    unsigned kind = pick(w, 0, 100);

    if (kind < 15) {
        do_flush(w);
    } else if (kind < 33 && (f & CRASH_SNAP)) {
        do_snapshot(w);
    } else if (kind < 36 && (f & CRASH_VM)) {
        do_abandon(w);
    } else if (kind < 44 && (f & CRASH_RESIZE)) {
        do_resize(w);
    } else if (kind < 54 && (f & CRASH_BITMAP)) {
        do_bitmap(w);
    } else if (kind < 58) {
        do_maintenance(w);
    } else {
        do_requests(w, NULL);
    }
}

/* The sets of what a sector may hold stay small: a flush now and then. */
static void steps(CrashWorld *w, unsigned nb)
{
    for (unsigned i = 1; i <= nb; i++) {
        step(w);
        if (i == nb / 2) {
            do_specialty(w);
        }
        if (i % 8 == 0) {
            run_one(w, op_new(w, OP_FLUSH));
        }
    }
}

/* ---- the whole ---- */

static void write_filler(CrashWorld *w)
{
    uint64_t bytes = (uint64_t)w->config->filler << 10;
    g_autofree uint8_t *buf = g_malloc(bytes + 1);

    memset(buf, 0x55, bytes + 1);
    if (bytes) {
        q_check(blk_pwrite(w->blk, CRASH_SECTORS * SECTOR_BYTES, bytes, buf),
                NULL);
    }
}

void crash_prepare(CrashWorld *w)
{
    const CrashConfig *c = w->config;
    g_autofree char *create = g_strdup_printf("%s,size=%" PRIu64, c->create,
                                              (uint64_t)c->sectors *
                                              SECTOR_BYTES);

    q_create("rec:c", create);
    crash_model_init(w->live, c->sectors,
                     c->second == CRASH_BELOW ? CRASH_BACKING : 0);
    w->blk = crash_open(w, NULL, OPEN_FLAGS);
    write_filler(w);
    steps(w, pick(w, 0, 10));
    run_one(w, op_new(w, OP_FLUSH));
    q_close(w->blk);
    w->blk = NULL;
}

/* What was acknowledged, and what was going on. */
void crash_follow(CrashWorld *w, unsigned k)
{
    while (w->next_event < w->events->len) {
        const CrashEvent *e = &g_array_index(w->events, CrashEvent,
                                             w->next_event);

        if (e->pos > k) {
            return;
        }
        crash_model_event(w->model, e);
        w->next_event++;
    }
}

/* The model knows what may be there; look which it is. */
static void resolve(CrashWorld *w, CrashModel *m)
{
    uint8_t buf[CRASH_SECTORS * SECTOR_BYTES];
    uint64_t size;

    w->blk = crash_open(w, NULL, 0);
    m->sizes[0] = blk_getlength(w->blk) / SECTOR_BYTES;
    m->nb_sizes = 1;
    q_check(blk_pread(w->blk, 0, MIN(m->sizes[0], CRASH_SECTORS) *
                      SECTOR_BYTES, buf), NULL);
    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        if (i >= m->sizes[0]) {
            sector_set_only(&m->now[i], 0);
        } else if (!sector_set_resolve(&m->now[i], buf + i * SECTOR_BYTES,
                                       i)) {
            crash_fail(w, "wreck: sector %u is foreign", i);
        }
    }
    for (unsigned i = 0; i < CRASH_SNAPSHOTS; i++) {
        if (m->snap[i].state == UNSURE) {
            m->snap[i].state = q_vm_select(w->blk, crash_snap_name(i), &size)
                               == 0 ? PRESENT : ABSENT;
        }
    }
    if (w->config->features & CRASH_BITMAP) {
        m->bitmap.present = crash_find_bitmap(w, &m->bitmap.bad);
        m->bitmap.state = m->bitmap.present ? PRESENT : ABSENT;
    }
    q_close(w->blk);
    w->blk = NULL;
}

void crash_wreck(CrashWorld *w)
{
    unsigned k = pick(w, 0, w->log->entries->len + 1);

    record_seek(w->log, k);
    crash_follow(w, k);
    record_build(w->log, pick(w, 0, RECORD_MODES), w->rand);
    resolve(w, w->model);
    *w->live = *w->model;
    record_log_free(w->log);
    w->log = NULL;
    g_array_set_size(w->events, 0);
    w->next_event = 0;
}

void crash_record_around(CrashWorld *w, unsigned open_flags,
                         void (*run_all)(CrashWorld *w, unsigned arg),
                         unsigned arg)
{
    CrashOp *close = op_new(w, OP_REOPEN);

    *w->model = *w->live;
    w->log = record_start(w->disk, w->nb_disks);
    w->recording = true;
    w->blk = crash_open(w, NULL, open_flags);
    run_all(w, arg);
    event(w, close, false);
    close->ret = blk_close(w->blk);
    event(w, close, true);
    w->blk = NULL;
    w->recording = false;
    record_stop(w->log);
    w->counts->workloads++;
    for (guint i = 0; i < w->log->entries->len; i++) {
        const RecordEntry *e = g_ptr_array_index(w->log->entries, i);

        w->counts->requests[e->type]++;
    }
}

void crash_record(CrashWorld *w, unsigned nb_ops)
{
    crash_record_around(w, OPEN_FLAGS, steps, nb_ops);
}
