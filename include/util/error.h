/* SPDX-License-Identifier: MIT */
/*
 * Errors: a negative errno for programs and a GError for people, set together
 * so that the two cannot disagree.
 */
#ifndef FIRN_UTIL_ERROR_H
#define FIRN_UTIL_ERROR_H

#include <glib.h>

/* Domain of every GError of this library; its code is a positive errno. */
#define FIRN_ERROR firn_error_quark()
GQuark firn_error_quark(void);

/*
 * Set @errp (NULL: nobody wants the sentence) to the printf-style message with
 * code -@err. @err: a negative errno. Returns @err.
 */
int set_error(GError **errp, int err, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/*
 * Put the printf-style text, which ends in ": " by convention, before the
 * message that is already in @errp. Returns @err.
 */
int prefix_error(GError **errp, int err, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

#endif
