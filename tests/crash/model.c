/* SPDX-License-Identifier: MIT */
/* The guest's model, see model.h. */
#include "model.h"

#include <errno.h>
#include <string.h>

const char *crash_op_name(CrashOpType type)
{
    static const char *const names[CRASH_OPS] = {
        "write", "write compressed", "zero", "discard", "flush", "reopen",
        "snapshot create", "snapshot apply", "snapshot delete",
        "abandon vmstate", "resize", "repair", "amend", "commit",
        "make empty", "bitmap add", "bitmap remove", "bitmap clear",
    };

    return names[type];
}

const char *crash_snap_name(unsigned i)
{
    static const char *const names[CRASH_SNAPSHOTS] = {
        "zero", "one", "two",
    };

    return names[i];
}

void crash_model_init(CrashModel *m, unsigned sectors, uint32_t gen)
{
    memset(m, 0, sizeof(*m));
    m->clock = 1;
    m->backing = gen;
    m->sizes[0] = sectors;
    m->nb_sizes = 1;
    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        sector_set_only(&m->now[i], i < sectors ? gen : 0);
    }
}

static void flush_all(CrashModel *m, uint32_t began)
{
    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        sector_set_flush(&m->now[i], began);
    }
}

static void write_begin(CrashModel *m, const CrashOp *op)
{
    for (unsigned i = op->lba; i < op->lba + op->n; i++) {
        sector_set_begin(&m->now[i], op->gen);
        m->bitmap.may[i] = 1;
    }
}

static void write_end(CrashModel *m, const CrashOp *op)
{
    for (unsigned i = op->lba; i < op->lba + op->n; i++) {
        if (op->ret == 0 && !op->weak) {
            sector_set_end(&m->now[i], op->gen, m->clock);
        }
        m->bitmap.must[i] |= op->ret == 0 && !op->weak;
    }
}

/* ---- snapshots ---- */

static void create_begin(CrashModel *m, const CrashOp *op)
{
    CrashSnap *sn = &m->snap[op->snap];

    sn->state = UNSURE;
    sn->size = m->sizes[m->nb_sizes - 1];
    sn->vm_size = op->vm_size;
    sn->vm_seed = op->gen;
    memcpy(sn->disk, m->now, sizeof(sn->disk));
    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        sector_set_flush(&sn->disk[i], UINT32_MAX);
    }
}

static void create_end(CrashModel *m, const CrashOp *op)
{
    m->snap[op->snap].state = op->ret == 0 ? PRESENT
                              : op->ret == -ERANGE ? ABSENT : UNSURE;
    if (op->ret == 0) {
        flush_all(m, op->began);
    }
}

static void size_begin(CrashModel *m, unsigned size)
{
    g_assert(m->nb_sizes < G_N_ELEMENTS(m->sizes));
    m->sizes[m->nb_sizes++] = size;
}

static void size_end(CrashModel *m, bool done)
{
    if (done) {
        m->sizes[0] = m->sizes[m->nb_sizes - 1];
    }
    m->nb_sizes = 1;
}

static void goto_begin(CrashModel *m, const CrashOp *op)
{
    const CrashSnap *sn = &m->snap[op->snap];

    size_begin(m, sn->size);
    for (unsigned i = 0; i < CRASH_SECTORS; i++) {
        for (unsigned k = 0; k < sn->disk[i].nb; k++) {
            sector_set_begin(&m->now[i], sn->disk[i].g[k].gen);
        }
    }
    memset(m->bitmap.may, 1, sizeof(m->bitmap.may));
}

static void goto_end(CrashModel *m, const CrashOp *op)
{
    size_end(m, op->ret == 0);
    if (op->ret == 0) {
        memcpy(m->now, m->snap[op->snap].disk, sizeof(m->now));
    }
}

/* ---- resize ---- */

/* Half-way through a shrink the disk still has its old size and a tail that
 * reads as if it had never been written. */
static void resize_begin(CrashModel *m, const CrashOp *op)
{
    unsigned old = m->sizes[m->nb_sizes - 1];

    size_begin(m, op->n);
    for (unsigned i = op->n; i < old; i++) {
        sector_set_begin(&m->now[i], 0);
        if (m->backing) {
            sector_set_begin(&m->now[i], m->backing);
        }
    }
}

static void resize_end(CrashModel *m, const CrashOp *op)
{
    size_end(m, op->ret == 0);
    for (unsigned i = op->n; i < CRASH_SECTORS && op->ret == 0; i++) {
        sector_set_only(&m->now[i], 0);
    }
}

static void make_empty_begin(CrashModel *m)
{
    for (unsigned i = 0; i < m->sizes[0]; i++) {
        sector_set_begin(&m->now[i], m->backing);
    }
}

static void make_empty_end(CrashModel *m, const CrashOp *op)
{
    for (unsigned i = 0; i < m->sizes[0] && op->ret == 0; i++) {
        sector_set_end(&m->now[i], m->backing, m->clock);
    }
}

/* What began before a bitmap was made or cleared may be in it or not; writes
 * do not run at the same time as that. */
static void bitmap_begin(CrashModel *m, const CrashOp *op)
{
    memset(m->bitmap.must, 0, sizeof(m->bitmap.must));
    if (op->type != OP_BITMAP_CLEAR) {
        m->bitmap.state = UNSURE;
    }
}

static void bitmap_end(CrashModel *m, const CrashOp *op)
{
    if (op->type != OP_BITMAP_REMOVE && op->ret == 0) {
        memset(m->bitmap.may, 0, sizeof(m->bitmap.may));
    }
    m->bitmap.present = op->type != OP_BITMAP_REMOVE;
    m->bitmap.bad = false;
}

/* A close stores what is in memory. */
static void bitmap_stored(CrashModel *m)
{
    m->bitmap.state = m->bitmap.present ? PRESENT : ABSENT;
}

/* ---- events ---- */

static void op_begin(CrashModel *m, CrashOp *op)
{
    op->began = m->clock;
    switch (op->type) {
    case OP_WRITE:
    case OP_WRITE_COMPRESSED:
    case OP_ZERO:
    case OP_DISCARD:
        write_begin(m, op);
        break;
    case OP_SNAP_CREATE:
        create_begin(m, op);
        break;
    case OP_SNAP_GOTO:
        goto_begin(m, op);
        break;
    case OP_SNAP_DELETE:
        m->snap[op->snap].state = UNSURE;
        break;
    case OP_RESIZE:
        resize_begin(m, op);
        break;
    case OP_MAKE_EMPTY:
        make_empty_begin(m);
        break;
    case OP_BITMAP_ADD:
    case OP_BITMAP_REMOVE:
    case OP_BITMAP_CLEAR:
        bitmap_begin(m, op);
        break;
    default:
        break;
    }
}

static void op_end(CrashModel *m, const CrashOp *op)
{
    switch (op->type) {
    case OP_WRITE:
    case OP_WRITE_COMPRESSED:
    case OP_ZERO:
    case OP_DISCARD:
        write_end(m, op);
        break;
    case OP_FLUSH:
    case OP_REOPEN:
        if (op->ret == 0) {
            flush_all(m, op->began);
        }
        if (op->ret == 0 && op->type == OP_REOPEN) {
            bitmap_stored(m);
        }
        break;
    case OP_SNAP_CREATE:
        create_end(m, op);
        break;
    case OP_SNAP_GOTO:
        goto_end(m, op);
        break;
    case OP_SNAP_DELETE:
        m->snap[op->snap].state = op->ret == 0 ? ABSENT : UNSURE;
        break;
    case OP_RESIZE:
        resize_end(m, op);
        break;
    case OP_MAKE_EMPTY:
        make_empty_end(m, op);
        break;
    case OP_BITMAP_ADD:
    case OP_BITMAP_REMOVE:
    case OP_BITMAP_CLEAR:
        bitmap_end(m, op);
        break;
    default:
        break;
    }
}

void crash_model_event(CrashModel *m, const CrashEvent *e)
{
    m->clock++;
    if (e->end) {
        op_end(m, e->op);
    } else {
        op_begin(m, e->op);
    }
}

unsigned crash_model_foreign(const SectorSet *want, const uint8_t *buf,
                             unsigned n, unsigned *ret_first)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < n; i++) {
        if (!sector_set_has(&want[i], buf + i * SECTOR_BYTES, i)) {
            *ret_first = bad++ ? *ret_first : i;
        }
    }
    return bad;
}
