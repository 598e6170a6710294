/* SPDX-License-Identifier: MIT */
/*
 * Checking an image, and the order of a repair.
 *
 * A pass counts all references, compares them with the stored refcounts, and
 * looks at the COPIED flags. It reads the disk, never the caches; before it,
 * all metadata is made durable. A repair is steps of check-repair.c, each
 * behind a pass of its own, and a last pass that says what is left. Only when
 * nothing is left are the dirty and the corrupt bit cleared.
 */
#include "check_int.h"

#include <stdarg.h>

#define MAX_LINES 10000

/* ---- findings ---- */

static void G_GNUC_PRINTF(2, 0) say(Qcow2Check *c, const char *fmt,
                                    va_list ap)
{
    g_autofree char *text = NULL;

    if (!c->report || c->lines > MAX_LINES) {
        return;
    }
    if (c->lines++ == MAX_LINES) {
        c->report("further findings are counted but not listed", c->opaque);
        return;
    }
    text = g_strdup_vprintf(fmt, ap);
    c->report(text, c->opaque);
}

void qcow2_check_corruption(Qcow2Check *c, uint64_t n, const char *fmt, ...)
{
    va_list ap;

    c->res->corruptions += n;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
}

void qcow2_check_leak(Qcow2Check *c, const char *fmt, ...)
{
    va_list ap;

    c->res->leaks++;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
}

void qcow2_check_failed(Qcow2Check *c, const char *fmt, ...)
{
    va_list ap;

    c->res->check_errors++;
    va_start(ap, fmt);
    say(c, fmt, ap);
    va_end(ap);
}

/* ---- one pass ---- */

static void check_cleanup(Qcow2Check *c)
{
    qcow2_counts_free(c->counts);
    g_clear_pointer(&c->l2_tables, g_hash_table_unref);
    free(c->buf);
}

static int coroutine_fn check_init(Qcow2Check *c, GError **errp)
{
    Qcow2State *s = c->s;
    int64_t bytes = bdrv_co_getlength(s->bs->file->bs);

    *c->res = (BdrvCheckResult) { 0 };
    if (bytes < 0) {
        return set_error(errp, bytes, "cannot get the file length: %s",
                         g_strerror(-bytes));
    }
    c->file_bytes = bytes;
    c->nb_clusters = DIV_ROUND_UP(c->file_bytes, s->cluster_size);
    c->buf = blk_try_memalign(s->cluster_size);
    if (!c->buf) {
        return set_error(errp, -ENOMEM, "no memory to check the image");
    }
    c->counts = qcow2_counts_new(c->nb_clusters, errp);
    if (!c->counts) {
        return c->nb_clusters >> 31 ? -EFBIG : -ENOMEM;
    }
    c->l2_tables = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                         NULL);
    return 0;
}

/* c->s is @s; clang cannot know. */
static int coroutine_fn check_pass(Qcow2State *s, Qcow2Check *c,
                                   GError **errp) REQUIRES(s->lock) NO_TSA
{
    int ret = check_init(c, errp);

    co_mutex_assert_locked(&s->lock);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_check_refs(c);
    ret = ret < 0 ? ret : qcow2_check_compare(c);
    ret = ret < 0 ? ret : qcow2_check_copied(c);
    if (ret < 0) {
        return set_error(errp, ret, "the image refers to more clusters than "
                         "there is memory to count");
    }
    c->res->total_clusters = DIV_ROUND_UP(ROUND_DOWN(c->s->hdr.size,
                                                     QCOW2_SECTOR),
                                          c->s->cluster_size);
    c->res->image_end_offset = c->highest << c->s->cluster_bits;
    return 0;
}

/* ---- repair ---- */

typedef enum Step {
    STEP_ZEROES,
    STEP_REBUILD,
    STEP_COUNTS,
    STEP_COPIED,
    STEP_SNAPSHOTS,
} Step;

/* The driver's view of the refcounts, anew. What a repair that failed left
 * dirty is lost, as in a power cut: leaks at worst. */
static int refresh(Qcow2State *s) REQUIRES(s->lock)
{
    qcow2_cache_discard_all(s->l2_cache);
    qcow2_cache_discard_all(s->refblock_cache);
    memset(s->first_free, 0, s->reftable.size * sizeof(*s->first_free));
    s->first_free_block = 0;
    s->pack_next = 0;
    return qcow2_filter_rebuild(s);
}

/* What the last pass has found allows flags to be touched. */
static bool may_set_copied(const Qcow2Check *c, unsigned fix)
{
    if (c->too_low || c->rebuild || !c->copied_wrong) {
        return false;
    }
    return (fix & BDRV_FIX_ERRORS) ||
           c->res->corruptions == c->copied_wrong;
}

static bool snapshots_need_rewrite(const Qcow2Check *c)
{
    const Qcow2State *s = c->s;
    bool short_extra = false;

    for (guint i = 0; i < s->snapshots->len && s->hdr.version >= 3; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        short_extra |= !qcow2_snapshot_has_disk_size(sn);
    }
    return (short_extra || s->snaps_cut || s->snaps_clipped) &&
           !c->snaptable_lost && !c->too_low && !c->rebuild;
}

static int coroutine_fn rewrite_snapshots(Qcow2State *s)
    REQUIRES(s->lock) DROPS(s->lock)
{
    int ret = refresh(s);

    ret = ret < 0 ? ret : qcow2_snapshot_rewrite_table(s);
    ret = ret < 0 ? ret : qcow2_sync_metadata(s);
    if (ret == 0) {
        qcow2_snapindex_reset(s);
        g_ptr_array_set_size(s->snapshots, 0);
        s->snaps_cut = s->snaps_clipped = 0;
        ret = qcow2_snaptable_load(s, NULL);
        if (ret < 0 && !s->corrupt) {
            s->corrupt = true; /* a table without them must not be stored */
            s->corrupt_reason = g_strdup("the snapshot table was lost");
        }
    }
    return ret;
}

static int coroutine_fn repair_step(Qcow2State *s, Qcow2Check *c, Step step,
                                    unsigned fix)
    REQUIRES(s->lock) DROPS(s->lock) NO_TSA
{
    bool errors = fix & BDRV_FIX_ERRORS;

    co_mutex_assert_locked(&s->lock);

    switch (step) {
    case STEP_ZEROES:
        return errors && c->bad_zeroes ? qcow2_repair_zeroes(c) : 0;
    case STEP_REBUILD:
        return errors && c->rebuild ? qcow2_repair_rebuild(c, fix) : 0;
    case STEP_COUNTS:
        return c->rebuild ? 0 : qcow2_repair_counts(c, fix);
    case STEP_COPIED:
        return may_set_copied(c, fix) ? qcow2_repair_copied(c) : 0;
    case STEP_SNAPSHOTS:
        return errors && snapshots_need_rewrite(c) ? rewrite_snapshots(s) : 0;
    }
    return 0;
}

/* A pass, then @step on what it has found. */
static int coroutine_fn pass_and_repair(Qcow2State *s, Step step,
                                        unsigned fix, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    BdrvCheckResult found;
    Qcow2Check c = { .s = s, .res = &found };
    int ret = check_pass(s, &c, errp);

    if (ret == 0) {
        ret = repair_step(s, &c, step, fix);
        if (ret < 0) {
            set_error(errp, ret, "the repair failed: %s", g_strerror(-ret));
        }
    }
    check_cleanup(&c);
    return ret;
}

static int coroutine_fn repair(Qcow2State *s, unsigned fix, GError **errp)
    REQUIRES(s->lock) DROPS(s->lock)
{
    /* A rewritten snapshot table, like a rebuild, leaves its old clusters. */
    static const Step steps[] = {
        STEP_ZEROES, STEP_REBUILD, STEP_COUNTS, STEP_COPIED, STEP_SNAPSHOTS,
        STEP_COUNTS,
    };
    int ret;

    ret = bdrv_co_flush(s->bs->file->bs); /* R3: what we read is durable */
    if (ret < 0) {
        return set_error(errp, ret, "cannot flush: %s", g_strerror(-ret));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(steps) && ret == 0; i++) {
        ret = pass_and_repair(s, steps[i], fix, errp);
    }
    return ret;
}

/* ---- all ---- */

static bool is_clean(const BdrvCheckResult *r)
{
    return !r->corruptions && !r->check_errors;
}

static int coroutine_fn clear_marks(Qcow2State *s, GError **errp)
    REQUIRES(s->lock)
{
    Qcow2Header h = s->hdr;
    int ret = 0;

    h.incompatible_features &= ~(QCOW2_INC_DIRTY | QCOW2_INC_CORRUPT);
    if (h.incompatible_features != s->hdr.incompatible_features) {
        ret = bdrv_co_flush(s->bs->file->bs);
        ret = ret < 0 ? ret : qcow2_header_update(s, &h);
    }
    return ret < 0 ? set_error(errp, ret, "cannot update the header: %s",
                               g_strerror(-ret)) : 0;
}

static uint64_t less(uint64_t before, uint64_t after)
{
    return before > after ? before - after : 0;
}

int coroutine_fn qcow2_check(Qcow2State *s, BdrvCheckResult *ret,
                             unsigned fix, BdrvCheckReport *report,
                             void *opaque, GError **errp)
{
    BdrvCheckResult found, left;
    Qcow2Check first = {
        .s = s, .res = &found, .report = report, .opaque = opaque,
    };
    Qcow2Check last = { .s = s, .res = &left };
    int r;

    r = check_pass(s, &first, errp);
    check_cleanup(&first);
    left = found;
    if (r == 0 && fix && (!is_clean(&found) || found.leaks)) {
        r = repair(s, fix, errp);
        r = r < 0 ? r : check_pass(s, &last, errp);
        check_cleanup(&last);
        if (refresh(s) < 0 && r == 0) {
            r = set_error(errp, -ENOMEM, "no memory for overlap checks");
        }
    }
    if (r == 0 && fix && is_clean(&left)) {
        r = clear_marks(s, errp);
    }
    if (r < 0) {
        return r;
    }
    /* A COPIED flag that is right again as a leak is gone was not mended. */
    if (fix & BDRV_FIX_ERRORS) {
        left.corruptions_fixed = less(found.corruptions, left.corruptions);
    }
    left.leaks_fixed = less(found.leaks, left.leaks);
    *ret = left;
    return 0;
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *ret,
                                unsigned fix, BdrvCheckReport *report,
                                void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int r = 0;

    if (s->shows_snapshot) {
        return set_error(errp, -ENOTSUP, "an image is checked, not one of "
                         "its snapshots");
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    if (fix && s->corrupt) {
        r = set_error(errp, -EIO, "writes to the image were stopped (%s); "
                      "open it again to repair it", s->corrupt_reason);
    } else if (!bs->read_only && !s->corrupt) {
        r = qcow2_sync_metadata(s);
    }
    r = r < 0 ? r : qcow2_check(s, ret, fix, report, opaque, errp);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return r;
}
