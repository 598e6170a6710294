/* SPDX-License-Identifier: MIT */
/* One helper sets both halves of an error; see include/util/error.h. */
#include "util/error.h"

G_DEFINE_QUARK(firn-error, firn_error)

int set_error(GError **errp, int err, const char *fmt, ...)
{
    va_list ap;

    g_assert(err < 0);
    if (errp && !*errp) {
        va_start(ap, fmt);
        *errp = g_error_new_valist(FIRN_ERROR, -err, fmt, ap);
        va_end(ap);
    }
    return err;
}

int prefix_error(GError **errp, int err, const char *fmt, ...)
{
    va_list ap;

    g_assert(err < 0);
    if (errp && *errp) {
        va_start(ap, fmt);
        g_autofree char *prefix = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        g_prefix_error(errp, "%s", prefix);
    }
    return err;
}
