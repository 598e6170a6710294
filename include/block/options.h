/* SPDX-License-Identifier: MIT */
/*
 * BdrvOptions: the string-keyed set of options a node is opened or created
 * with. Keys are dotted ("file.cache.direct"), values are strings; a nested
 * JSON object is flattened to dotted keys, an array to numbered ones.
 *
 * Whoever understands a key takes it out; what is left when everybody has had
 * a turn is an option nobody knows, and bdrv_options_check_empty() names it.
 * Not safe between threads.
 */
#ifndef FIRN_BLOCK_OPTIONS_H
#define FIRN_BLOCK_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/nearest.h"

typedef struct BdrvOptions BdrvOptions;

/* Returns an empty set. */
BdrvOptions *bdrv_options_new(void);

/* NULL is allowed. */
void bdrv_options_free(BdrvOptions *o);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BdrvOptions, bdrv_options_free)

/* Returns a copy; @o may be NULL (empty). */
BdrvOptions *bdrv_options_copy(const BdrvOptions *o);

/*
 * Parse "key=value,key=value"; ",," in a value stands for one comma.
 * Returns 0 with a new set in *@ret, or -EINVAL (no '=', empty or repeated
 * key), *@ret untouched.
 */
int bdrv_options_parse(BdrvOptions **ret, const char *text, GError **errp);

/*
 * Parse a JSON object, nested ones flattened. Booleans become "on" and "off".
 * Returns 0 with a new set in *@ret, or -EINVAL, *@ret untouched.
 */
int bdrv_options_parse_json(BdrvOptions **ret, const char *json,
                            GError **errp);

/*
 * A *@filename that is "json:{...}" becomes options, of which those that @o has
 * already win, and NULL. Returns 0 (for other names and NULL, too), or -EINVAL
 * with both untouched.
 */
int bdrv_options_expand_json(BdrvOptions *o, const char **filename,
                             GError **errp);

/* Set @key to a copy of @value, replacing what was there. */
void bdrv_options_set(BdrvOptions *o, const char *key, const char *value);

/* As bdrv_options_set(), only when @key is not there yet. */
void bdrv_options_set_default(BdrvOptions *o, const char *key,
                              const char *value);

/* Returns the value, owned by @o, or NULL. @o may be NULL. */
const char *bdrv_options_get(const BdrvOptions *o, const char *key);

/* Returns the keys in order, owned by @o; the list is to be freed. */
GList *bdrv_options_keys(const BdrvOptions *o);

/* Returns whether a key starts with @prefix ("file."). @o may be NULL. */
bool bdrv_options_has_prefix(const BdrvOptions *o, const char *prefix);

/* Remove @key; returns its value, to be freed by g_free(), or NULL. */
char *bdrv_options_take(BdrvOptions *o, const char *key);

/*
 * Remove @key and convert it: a size with an optional k, M, G, T, P or E; a
 * decimal or 0x number; "on", "off", "true", "false", "yes" or "no". An absent
 * key gives @dflt.
 * Return 0 with *@ret set, or -EINVAL with *@ret untouched.
 */
int bdrv_options_take_size(BdrvOptions *o, const char *key, uint64_t dflt,
                           uint64_t *ret, GError **errp);
int bdrv_options_take_u64(BdrvOptions *o, const char *key, uint64_t dflt,
                          uint64_t *ret, GError **errp);
int bdrv_options_take_bool(BdrvOptions *o, const char *key, bool dflt,
                           bool *ret, GError **errp);

/* Returns whether a key has @text in it. @o may be NULL. */
bool bdrv_options_mentions(const BdrvOptions *o, const char *text);

/*
 * Remove all keys that start with @prefix; returns them, without it, as a new
 * set (empty when there are none).
 */
BdrvOptions *bdrv_options_take_prefix(BdrvOptions *o, const char *prefix);

/*
 * Remove all keys "N.rest" with N below @max, without needless zeroes. Returns
 * an array that has at N the set of what was "N.rest" (NULL: none), and frees
 * the sets.
 */
GPtrArray *bdrv_options_take_numbered(BdrvOptions *o, unsigned max);

/*
 * Move every option of @src (NULL: none) that @dst lacks to @dst; @src is
 * freed. What @dst has wins.
 */
void bdrv_options_merge(BdrvOptions *dst, BdrvOptions *src);

/* Set every option of @src (consumed) in @dst, as @prefix and its key. */
void bdrv_options_add_prefix(BdrvOptions *dst, const char *prefix,
                             BdrvOptions *src);

/* Returns the number of options left. */
unsigned bdrv_options_size(const BdrvOptions *o);

/*
 * Returns 0 when nothing is left, or -EINVAL naming one option that nobody
 * took and the most similar name anybody asked for.
 */
int bdrv_options_check_empty(const BdrvOptions *o, GError **errp);

/*
 * Sets "option KEY: 'VALUE' is none of ..." (nearest_refusal()); @names end
 * with NULL. Returns -EINVAL.
 */
int bdrv_options_refuse(const char *key, const char *value,
                        const char *const *names, GError **errp);

/* @who ("driver 'raw'") needs @key, which @o does not have, but perhaps a name
 * like it. Sets that; returns -EINVAL. */
int bdrv_options_missing(const BdrvOptions *o, const char *who,
                         const char *key, GError **errp);

#endif
