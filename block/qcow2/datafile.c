/* SPDX-License-Identifier: MIT */
/*
 * The external data file: guest data lies at its guest offset in a file of its
 * own, the child "data-file"; the image holds metadata alone.
 *
 * Which file that is, the user says (data-file=NAME, data-file.*), or the
 * header does, but only for an image of which the user has said that it may
 * (allow-data-file=on): else a stranger's image could name any file that the
 * one who opens it can read and write. The permission is for one node; backing
 * files do not inherit it.
 *
 * A name in the header is relative to the working directory, as elsewhere in
 * the field.
 */
#include "qcow2_int.h"

static bool user_named_it(BdrvOptions *sub)
{
    return bdrv_options_get(sub, "filename") ||
           bdrv_options_get(sub, "driver") ||
           bdrv_options_has_prefix(sub, "file");
}

/* Is the header's word enough? */
static int may_use_header(const Qcow2State *s, unsigned flags, GError **errp)
{
    const char *name = s->ext.data_file_name;

    if (!name || !*name) {
        return set_error(errp, -EINVAL, "the image has an external data file "
                         "and does not say which; use data-file=NAME");
    }
    if (!(flags & BDRV_O_DATA_FILE)) {
        return set_error(errp, -EACCES, "the image names '%s' as its data "
                         "file; if you trust it say allow-data-file=on, or "
                         "name the file with data-file=NAME", name);
    }
    return 0;
}

/* @name: of the option data-file, or NULL; @sub (consumed): data-file.* */
static int coroutine_fn open_named(Qcow2State *s, const char *name,
                                   BdrvOptions *sub, unsigned flags,
                                   GError **errp)
{
    int ret = 0;

    if (!name && !user_named_it(sub) && (flags & BDRV_O_NO_IO)) {
        bdrv_options_free(sub);
        return 0;
    }
    if (!name && !user_named_it(sub)) {
        ret = may_use_header(s, flags, errp);
        name = s->ext.data_file_name;
    }
    if (ret < 0) {
        bdrv_options_free(sub);
        return ret;
    }
    ret = bdrv_co_open_child(s->bs, name, sub, "data-file", BDRV_CHILD_FILE,
                             &s->data_file, errp);
    return ret < 0 ? prefix_error(errp, ret, "data file: ") : 0;
}

int coroutine_fn qcow2_open_data_file(Qcow2State *s, BdrvOptions *options,
                                      unsigned flags, GError **errp)
{
    g_autofree char *name = bdrv_options_take(options, "data-file");
    BdrvOptions *sub = bdrv_options_take_prefix(options, "data-file.");
    int ret;

    if (qcow2_has_data_file(s)) {
        return open_named(s, name, sub, flags, errp);
    }
    if (name || user_named_it(sub)) {
        ret = set_error(errp, -EINVAL, "data-file is for images with an "
                        "external data file, which this one has not");
    } else {
        ret = bdrv_options_check_empty(sub, errp);
    }
    bdrv_options_free(sub);
    return ret;
}
