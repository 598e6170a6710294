/* SPDX-License-Identifier: MIT */
/*
 * One crash state: the bytes by the independent checker, then the image opened
 * again, read, and (a share of the states) used and checked once more.
 */
#include "crash.h"

#include "block/dirty-bitmap.h"

#define OPEN_FLAGS (BDRV_O_RDWR | BDRV_O_UNMAP)

/* Refcounts may be too low until the next opening has repaired them. */
static bool is_dirty(const CrashWorld *w)
{
    const uint8_t *p = w->disk[0]->mem;

    return p[7] >= 3 && (p[79] & QCOW2_INC_DIRTY);
}

void crash_check_bytes(CrashWorld *w, const char *what,
                       Qcow2CheckResult *ret)
{
    if (qcow2_checker_run(w->disk[0]->mem, w->disk[0]->len, ret) < 0) {
        crash_fail(w, "%s: not a qcow2 image any more", what);
    }
    if (ret->corruptions && !is_dirty(w)) {
        crash_fail(w, "%s: %" PRIu64 " leaks, %" PRIu64 " flags, %" PRIu64
                   " corruptions: %s", what, ret->leaks, ret->copied,
                   ret->corruptions, ret->first);
    }
}

void crash_close(CrashWorld *w)
{
    int ret = blk_close(w->blk);

    w->blk = NULL;
    if (ret < 0) {
        crash_fail(w, "does not close: %s", g_strerror(-ret));
    }
}

/* Sectors of the open image, or 0 when its size is not one of the model's. */
static unsigned image_sectors(CrashWorld *w)
{
    int64_t bytes = blk_getlength(w->blk);

    for (unsigned i = 0; i < w->model->nb_sizes; i++) {
        if (bytes == (int64_t)w->model->sizes[i] * SECTOR_BYTES) {
            return w->model->sizes[i];
        }
    }
    return 0;
}

/* Which generation @p is of, for a message; -1: none. */
static int64_t generation(CrashWorld *w, const uint8_t *p, unsigned lba)
{
    for (uint32_t gen = 0; gen <= w->gen; gen++) {
        if (sector_is(p, lba, gen)) {
            return gen;
        }
    }
    return sector_is(p, lba, CRASH_BACKING) ? (int64_t)CRASH_BACKING : -1;
}

static void expect_disk(CrashWorld *w, const SectorSet *want, unsigned n,
                        const char *what)
{
    uint8_t buf[CRASH_SECTORS * SECTOR_BYTES];
    unsigned first, bad;
    int ret;

    n = MIN(n, CRASH_SECTORS);
    ret = blk_pread(w->blk, 0, n * SECTOR_BYTES, buf);
    if (ret < 0) {
        crash_fail(w, "%s: cannot be read: %s", what, g_strerror(-ret));
    }
    bad = crash_model_foreign(want, buf, n, &first);
    if (bad) {
        crash_fail(w, "%s: %u sectors are foreign, first %u (generation %"
                   PRId64 ", expected %u)", what, bad, first,
                   generation(w, buf + first * SECTOR_BYTES, first),
                   want[first].g[0].gen);
    }
}

/* Write all of the disk: nothing else may change by that. */
static void overwrite(CrashWorld *w)
{
    uint8_t buf[CRASH_SECTORS * SECTOR_BYTES];
    unsigned n = MIN(image_sectors(w), CRASH_SECTORS);
    int ret;

    memset(buf, 0xee, sizeof(buf));
    ret = blk_pwrite(w->blk, 0, n * SECTOR_BYTES, buf);
    if (ret < 0) {
        crash_fail(w, "cannot be written: %s", g_strerror(-ret));
    }
}

static void check_snapshot(CrashWorld *w, unsigned i)
{
    const CrashSnap *sn = &w->model->snap[i];
    const char *name = crash_snap_name(i);
    uint8_t vm[CRASH_MAX_VM];
    uint64_t size;
    int ret = q_vm_select(w->blk, name, &size);

    if (ret == -ENOENT && sn->state != PRESENT) {
        return;
    }
    if (ret < 0 || sn->state == ABSENT || size != sn->vm_size) {
        crash_fail(w, "snapshot %s: state %d, vmstate of %" PRIu64
                   " bytes, %s", name, sn->state, size, g_strerror(-ret));
    }
    if (size && ((ret = q_vm_load(w->blk, 0, vm, size)) < 0 ||
                 !test_matches(vm, size, sn->vm_seed))) {
        crash_fail(w, "vmstate of %s: %s", name, g_strerror(-ret));
    }
    ret = q_snap_goto(w->blk, name);
    if (ret == -ERANGE) {
        return; /* leaks have used up a narrow refcount */
    }
    if (ret < 0) {
        crash_fail(w, "snapshot %s: %s", name, g_strerror(-ret));
    }
    if (blk_getlength(w->blk) != (int64_t)sn->size * SECTOR_BYTES) {
        crash_fail(w, "snapshot %s: size", name);
    }
    expect_disk(w, sn->disk, sn->size, name);
    w->counts->snapshots++;
}

static void judge_raw(CrashWorld *w)
{
    unsigned first, bad;

    bad = crash_model_foreign(w->model->now, w->disk[1]->mem,
                              MIN(w->model->sizes[0], CRASH_SECTORS), &first);
    if (bad) {
        crash_fail(w, "data file: %u sectors are foreign, first %u", bad,
                   first);
    }
}

void crash_judge_guest(CrashWorld *w, unsigned look)
{
    unsigned n = image_sectors(w);

    if (!n) {
        crash_fail(w, "foreign size %" PRId64, blk_getlength(w->blk));
    }
    expect_disk(w, w->model->now, n, "active layer");
    if (look & CRASH_LOOK_USE) {
        overwrite(w);
        w->counts->overwritten++;
    }
    for (unsigned i = 0; i < CRASH_SNAPSHOTS; i++) {
        if (look & CRASH_LOOK_SNAPSHOTS) {
            check_snapshot(w, i);
        }
    }
}

/* The driver's own check finds what the independent checker has found. */
static void judge_check(CrashWorld *w, const Qcow2CheckResult *r)
{
    BdrvCheckResult c;
    GError *error = NULL;

    if (blk_check(w->blk, &c, 0, NULL, NULL, &error) < 0) {
        crash_fail(w, "check: %s", error->message);
    }
    if (c.leaks != r->leaks || c.corruptions != r->copied || c.check_errors) {
        crash_fail(w, "check: %" PRIu64 " leaks, %" PRIu64 " corruptions, %"
                   PRIu64 " errors; expected %" PRIu64 " and %" PRIu64
                   " COPIED flags", c.leaks, c.corruptions, c.check_errors,
                   r->leaks, r->copied);
    }
    w->counts->checked++;
}

/* Snapshots that were acknowledged, read without a change to the image. */
static void judge_load(CrashWorld *w)
{
    for (unsigned i = 0; i < CRASH_SNAPSHOTS; i++) {
        const CrashSnap *sn = &w->model->snap[i];
        const char *name = crash_snap_name(i);

        if (sn->state == PRESENT) {
            w->blk = crash_open(w, name, 0);
            if (blk_getlength(w->blk) != (int64_t)sn->size * SECTOR_BYTES) {
                crash_fail(w, "snapshot %s, opened: size", name);
            }
            expect_disk(w, sn->disk, sn->size, name);
            crash_close(w);
            w->counts->snapshots++;
        }
    }
}

/* Leaks and flags are gone afterwards, and nothing else is. */
void crash_judge_repair(CrashWorld *w)
{
    BdrvCheckResult c;
    Qcow2CheckResult r;
    GError *error = NULL;

    if (blk_check(w->blk, &c, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, NULL, NULL,
                  &error) < 0) {
        crash_fail(w, "repair: %s", error->message);
    }
    crash_check_bytes(w, "after repair", &r);
    if (c.leaks || c.corruptions || c.check_errors || r.leaks || r.copied) {
        crash_fail(w, "repair left %" PRIu64 " leaks and %" PRIu64
                   " flags, and counts %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                   r.leaks, r.copied, c.leaks, c.corruptions, c.check_errors);
    }
    w->counts->repaired++;
}

/* A writer that does not know bitmaps was here, or a change of them was cut:
 * opening drops them all. */
static bool bitmaps_dropped(const CrashWorld *w)
{
    const uint8_t *p = w->disk[0]->mem;

    return p[7] < 3 || !(p[95] & QCOW2_AUT_BITMAPS);
}

/* What qemu-img reads from the copy is old or new, too. */
static void peer_reads(CrashWorld *w, const char *path)
{
    g_autofree char *raw = test_path("state.raw");
    g_autofree char *out = NULL;
    g_autofree char *bytes = NULL;
    unsigned first, bad;
    gsize len;

    if (test_run(&out, "qemu-img convert -f qcow2 -O raw '%s' '%s'", path,
                 raw) != 0) {
        crash_fail(w, "qemu-img convert: %s", out);
    }
    if (!g_file_get_contents(raw, &bytes, &len, NULL)) {
        fail_msg("%s cannot be read", raw);
    }
    bad = crash_model_foreign(w->model->now, (uint8_t *)bytes,
                              MIN(len / SECTOR_BYTES, CRASH_SECTORS), &first);
    if (bad) {
        crash_fail(w, "qemu-img reads %u foreign sectors, first %u", bad,
                   first);
    }
}

/* A copy for qemu-img, which takes COPIED-only findings for corruption. */
static void judge_peer(CrashWorld *w, const Qcow2CheckResult *r)
{
    g_autofree char *path = test_path("state.qcow2");
    g_autofree char *out = NULL;
    int ret;

    if (!test_have_program("qemu-img") || r->copied || is_dirty(w) ||
        w->nb_disks > 1 || (w->config->features & CRASH_LUKS)) {
        return;
    }
    if (!g_file_set_contents(path, (char *)w->disk[0]->mem, w->disk[0]->len,
                             NULL)) {
        fail_msg("%s cannot be written", path);
    }
    ret = test_run(&out, "qemu-img check -q -f qcow2 '%s'", path);
    if (ret != 0 && ret != 3) {
        crash_fail(w, "qemu-img check: %d\n%s", ret, out);
    }
    peer_reads(w, path);
    w->counts->peer++;
}

void crash_judge(CrashWorld *w, unsigned look)
{
    CrashMark m = crash_mark(w);
    bool dirty = is_dirty(w), dropped = bitmaps_dropped(w);
    Qcow2CheckResult r;

    crash_check_bytes(w, "after the cut", &r);
    w->counts->dirty += dirty;
    w->counts->leaky += r.leaks != 0;
    if (look & CRASH_LOOK_PEER) {
        judge_peer(w, &r);
    }
    if (w->config->features & CRASH_RAW) {
        judge_raw(w);
    }
    if (look & CRASH_LOOK_LOAD) {
        judge_load(w);
    }
    w->blk = crash_open(w, NULL, OPEN_FLAGS);
    if ((look & CRASH_LOOK_CHECK) && !dirty) {
        judge_check(w, &r);
    }
    if (look & CRASH_LOOK_REPAIR) {
        crash_judge_repair(w);
    }
    if (w->config->features & CRASH_BITMAP) {
        crash_judge_bitmap(w, dropped);
        /* It stands in the way of applying snapshots. */
        (void)blk_bitmap_remove(w->blk, CRASH_BITMAP_NAME, NULL);
    }
    crash_judge_guest(w, look);
    crash_close(w);
    if (look || dirty) {
        crash_check_bytes(w, "after use", &r);
    }
    if (is_dirty(w)) {
        crash_fail(w, "still dirty after use");
    }
    crash_undo(w, m);
}
