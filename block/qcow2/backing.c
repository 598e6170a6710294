/* SPDX-License-Identifier: MIT */
/*
 * Which backing file the header names. Only the name changes: what is open,
 * and what the guest reads now, stay as they are.
 */
#include "qcow2_int.h"

int qcow2_backing_error(GError **errp, int err, const char *name)
{
    g_autofree char *quoted = g_strdup_printf("'%s'", name);

    return errp && *errp && strstr((*errp)->message, quoted)
        ? prefix_error(errp, err, "backing file: ")
        : prefix_error(errp, err, "backing file %s: ", quoted);
}

static int check_names(const Qcow2State *s, const char *file, const char *fmt,
                       GError **errp)
{
    if (file && strlen(file) > QCOW2_MAX_BACKING) {
        return set_error(errp, -EINVAL, "backing file name is longer than %d",
                         QCOW2_MAX_BACKING);
    }
    if (fmt && strlen(fmt) > QCOW2_MAX_BACKING_FMT) {
        return set_error(errp, -EINVAL, "backing format name is longer than "
                         "%d", QCOW2_MAX_BACKING_FMT);
    }
    if (file && (s->hdr.autoclear_features & QCOW2_AUT_RAW)) {
        return set_error(errp, -EINVAL, "an image with data_file_raw cannot "
                         "have a backing file");
    }
    return 0;
}

int coroutine_fn qcow2_set_backing(Qcow2State *s, const char *file,
                                   const char *fmt, GError **errp)
{
    char *old_file = s->ext.backing_file, *old_fmt = s->ext.backing_format;
    int ret = check_names(s, file, fmt, errp);

    if (ret < 0) {
        return ret;
    }
    s->ext.backing_file = g_strdup(file);
    s->ext.backing_format = g_strdup(fmt);
    ret = qcow2_header_rewrite(s);
    if (ret < 0) {
        g_free(s->ext.backing_file);
        g_free(s->ext.backing_format);
        s->ext.backing_file = old_file;
        s->ext.backing_format = old_fmt;
        return set_error(errp, ret, "cannot change the backing file: %s",
                         ret == -ENOSPC ? "the name does not fit the header"
                                        : g_strerror(-ret));
    }
    g_free(old_file);
    g_free(old_fmt);
    return 0;
}

int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs,
                                              const char *file,
                                              const char *fmt, GError **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (file && !*file) {
        file = NULL;
    }
    if (!file) {
        fmt = NULL;
    }
    co_rwlock_wrlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = qcow2_set_backing(s, file, fmt, errp);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}
