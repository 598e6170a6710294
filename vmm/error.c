/* SPDX-License-Identifier: MIT */
/* See error.h. */
#include "error.h"

int vmm_error(GError **errp, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (errp) {
        *errp = g_error_new_valist(g_quark_from_static_string("firn-vmm"),
                                   -err, fmt, ap);
    }
    va_end(ap);
    return err;
}
