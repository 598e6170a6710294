/* SPDX-License-Identifier: MIT */
/*
 * Secrets by name: passphrases that options refer to (encrypt.key-secret=ID),
 * so that they are in no file name and no message. One list per process; any
 * thread. The bytes are wiped when the last reference goes.
 */
#ifndef FIRN_BLOCK_SECRET_H
#define FIRN_BLOCK_SECRET_H

#include <glib.h>

#include "block/options.h"

/*
 * Add a secret. @opts (consumed) are "data", or "file" whose bytes are taken
 * as they are, and "format", which is raw (the default) or base64. With
 * "keyid", the name of a secret of 32 bytes, and "iv", 16 bytes in base64, they
 * are encrypted (AES-256, CBC).
 * Returns 0, -EEXIST, -EINVAL, or why the file cannot be read.
 */
int secret_add(const char *id, BdrvOptions *opts, GError **errp);
/*
 * The same for what users write behind --object: "secret,id=ID,data=...", also
 * with "qom-type=secret", or a JSON object. Also -EINVAL for other objects.
 */
int secret_add_object(const char *text, GError **errp);
/* Returns 0 or -ENOENT. */
int secret_remove(const char *id);
/* *@ret: the bytes, to be unreferenced. Returns 0 or -ENOENT. */
int secret_lookup(const char *id, GBytes **ret, GError **errp);

#endif
