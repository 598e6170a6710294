/* SPDX-License-Identifier: MIT */
/*
 * Checking an image.
 *
 * A pass counts all references, compares them with the stored refcounts, and
 * looks at the COPIED flags. It reads the disk, never the caches; before it,
 * all metadata is made durable.
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

static int coroutine_fn check_pass(Qcow2Check *c, GError **errp)
    REQUIRES(c->s->lock)
{
    int ret = check_init(c, errp);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_check_refs(c);
    ret = ret < 0 ? ret : qcow2_check_compare(c);
    ret = ret < 0 ? ret : qcow2_check_copied(c);
    if (ret == -EFBIG || ret == -ENOMEM) {
        set_error(errp, ret, "the image refers to more clusters than there "
                  "is memory to count");
    }
    c->res->total_clusters = DIV_ROUND_UP(c->s->bs->total_bytes,
                                          c->s->cluster_size);
    c->res->image_end_offset = c->highest << c->s->cluster_bits;
    return ret;
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *ret,
                                unsigned fix, BdrvCheckReport *report,
                                void *opaque, GError **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Check c = {
        .s = s, .res = ret, .report = report, .opaque = opaque,
    };
    int r = 0;

    if (fix) {
        return set_error(errp, -ENOTSUP, "repair is not supported");
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    if (!bs->read_only && !s->corrupt) {
        r = qcow2_sync_metadata(s);
    }
    r = r < 0 ? r : check_pass(&c, errp);
    check_cleanup(&c);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return r;
}
