/* SPDX-License-Identifier: MIT */
/* Errors of the program, in the same form as the library's. */
#ifndef VMM_ERROR_H
#define VMM_ERROR_H

#include <glib.h>

/* Set @errp to the message with code -@err, a negative errno. Returns @err. */
int vmm_error(GError **errp, int err, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

#endif
