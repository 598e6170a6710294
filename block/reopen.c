/* SPDX-License-Identifier: MIT */
/*
 * Reopening: another mode, cache or options for a tree that is open.
 *
 * The tree is flushed and closed as ever, which writes back what it holds
 * (dirty bitmaps too), and is opened anew. What must not get lost meanwhile is
 * kept by the drivers: locks, which are made those of the new mode before
 * anything is closed, so that nobody else can come in between; and the rules
 * and the state of blkdebug.
 *
 *   keep all --> rehearse --> close --> open --> give, drop
 *      \------ fails ----/                \--> fails: open as before
 *      unkeep: as before
 *
 * The tree stays what it is: changes to which files it consists of and how they
 * are read would be another disk below what the old one holds, and those to
 * locks and trust would undo what others rely on. Such options are refused when
 * they differ from what there is.
 *
 * Options that cannot work must not cost the image: the new tree is opened for
 * a rehearsal first, read-only and without locks, while the old one is still
 * there.
 */
#include <string.h>

#include "block/block_int.h"

unsigned blk_get_open_flags(const BlockBackend *blk)
{
    return blk->open_flags;
}

static int coroutine_fn rehearse(const BlockBackend *blk,
                                 const BdrvOptions *options, GError **errp)
{
    BdrvOptions *o = bdrv_options_copy(options);
    BlockBackend *trial = NULL;
    unsigned flags = blk->open_flags & ~BDRV_O_RDWR;
    int ret;

    /* Whether the image can be locked is not what is asked here. */
    g_free(bdrv_options_take(o, "read-only"));
    bdrv_options_set(o, "read-only", "on");
    bdrv_options_set(o, "force-share", "on");
    ret = blk_co_open(blk->filename, o, flags, &trial, errp);
    if (ret == 0) {
        (void)blk_co_close(trial);
    }
    return ret;
}

/* What a node has kept, and where in the tree it is. */
typedef struct Kept {
    char *path;
    BlockDriver *drv;
    BlockDriverState *bs; /* while it is open */
    void *what;
} Kept;

static void kept_free(Kept *k)
{
    g_free(k->path);
    g_free(k);
}

/* @bs, called @path, and what is below; it is to be a writer or not. */
static int keep(GPtrArray *all, BlockDriverState *bs, const char *path,
                bool writer, unsigned flags, GError **errp)
{
    void *what = NULL;
    int ret = 0;

    if (bs->drv->reopen_keep) {
        ret = bs->drv->reopen_keep(bs, writer, &what, errp);
    }
    if (what) {
        Kept *k = g_new(Kept, 1);

        *k = (Kept) { g_strdup(path), bs->drv, bs, what };
        g_ptr_array_add(all, k);
    }
    for (GList *l = bs->children; l && ret == 0; l = l->next) {
        BdrvChild *child = l->data;
        g_autofree char *name = g_strconcat(path, ".", child->name, NULL);
        bool backing = child->role == BDRV_CHILD_BACKING;

        ret = keep(all, child->bs, name,
                   writer && (!backing || (flags & BDRV_O_BACKING_RDWR)),
                   flags, errp);
    }
    return ret;
}

static void unkeep(GPtrArray *all)
{
    for (guint i = 0; i < all->len; i++) {
        Kept *k = g_ptr_array_index(all, i);

        k->drv->reopen_unkeep(k->bs, k->what);
    }
}

/* The node of @bs's tree that is called @path, when @bs is called @own. */
static BlockDriverState *find_node(BlockDriverState *bs, const char *own,
                                   const char *path)
{
    if (strcmp(own, path) == 0) {
        return bs;
    }
    for (GList *l = bs->children; l; l = l->next) {
        BdrvChild *child = l->data;
        g_autofree char *name = g_strconcat(own, ".", child->name, NULL);
        BlockDriverState *found = find_node(child->bs, name, path);

        if (found) {
            return found;
        }
    }
    return NULL;
}

/* What option @name of @bs (NULL: there is none), called @key, is now, or NULL:
 * it was not said. */
static const char *current(const BlockBackend *blk, const BlockDriverState *bs,
                           const char *key, const char *name)
{
    if (bs && strcmp(name, "driver") == 0) {
        return bs->drv->format_name;
    }
    if (bs && !bs->children && strcmp(name, "filename") == 0) {
        return bs->filename;
    }
    /* Tools say this one of themselves. */
    return strcmp(name, "allow-data-file") == 0
           ? NULL : bdrv_options_get(blk->options, key);
}

/* Is @name one of the options that stay while @bs (or NULL) is open? */
static bool is_fixed(const BlockDriverState *bs, const char *name)
{
    static const char *const names[] = {
        "driver", "filename", "backing", "allow-data-file", "copy-on-read",
        "force-share", "locking", "node-name", NULL,
    };

    if (g_strv_contains(names, name)) {
        return true;
    }
    for (GList *l = bs ? bs->children : NULL; l; l = l->next) {
        const BdrvChild *child = l->data;

        if (strcmp(child->name, name) == 0) {
            return true; /* as "NAME=" it would be another node */
        }
    }
    return false;
}

/* Refuse in @changes what cannot change, and forget what does not. */
static int check_changes(const BlockBackend *blk, BdrvOptions *changes,
                         GError **errp)
{
    g_autoptr(BdrvOptions) all = bdrv_options_copy(changes);
    g_autoptr(GList) keys = bdrv_options_keys(all);

    for (GList *l = keys; l; l = l->next) {
        const char *key = l->data;
        const char *dot = strrchr(key, '.');
        const char *name = dot ? dot + 1 : key;
        g_autofree char *path =
            dot ? g_strdup_printf(".%.*s", (int)(dot - key), key) : NULL;
        BlockDriverState *bs = find_node(blk->root->bs, "", dot ? path : "");

        if (!is_fixed(bs, name)) {
            continue;
        }
        if (g_strcmp0(bdrv_options_get(all, key),
                      current(blk, bs, key, name)) != 0) {
            return set_error(errp, -EINVAL, "the option '%s' cannot be "
                             "changed; close the image and open it anew",
                             key);
        }
        g_free(bdrv_options_take(changes, key));
    }
    return 0;
}

/* To the nodes of @blk (NULL: none) where they are of use; then it is gone. */
static void give_and_drop(GPtrArray *all, BlockBackend *blk, bool give)
{
    for (guint i = 0; i < all->len; i++) {
        Kept *k = g_ptr_array_index(all, i);
        BlockDriverState *bs = blk && give && k->drv->reopen_give
                               ? find_node(blk->root->bs, "", k->path) : NULL;

        if (bs && bs->drv == k->drv) {
            k->drv->reopen_give(bs, k->what);
        }
        k->drv->reopen_drop(k->what);
    }
}

/* Close *@blk and open it with @now (consumed). */
static int coroutine_fn exchange(BlockBackend **blk, BdrvOptions *now,
                                 unsigned flags, GError **errp)
{
    /* What is kept must not be found when others are looked for. */
    const unsigned no_probe = BDRV_O_NO_SHARE_PROBE;
    g_autoptr(BdrvOptions) old = bdrv_options_copy((*blk)->options);
    g_autofree char *filename = g_strdup((*blk)->filename);
    unsigned old_flags = (*blk)->open_flags;
    BlockBackend *opened = NULL;
    int ret = blk_co_close(*blk);

    *blk = NULL;
    if (ret < 0) {
        bdrv_options_free(now);
        return set_error(errp, ret, "cannot close '%s': %s", filename,
                         g_strerror(-ret));
    }
    ret = blk_co_open(filename, now, flags | no_probe, &opened, errp);
    if (ret < 0) {
        flags = old_flags;
        /* *@blk stays NULL when even that is not possible any more. */
        (void)blk_co_open(filename, g_steal_pointer(&old), flags | no_probe,
                          &opened, NULL);
    }
    if (opened) {
        opened->open_flags = flags;
    }
    *blk = opened;
    return ret;
}

int coroutine_fn blk_co_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp)
{
    g_autoptr(GPtrArray) kept =
        g_ptr_array_new_with_free_func((GDestroyNotify)kept_free);
    BdrvOptions *now = changes ? changes : bdrv_options_new();
    bool rules = bdrv_options_mentions(now, "inject-error.") ||
                 bdrv_options_mentions(now, "set-state.");
    bool writer;
    int ret = check_changes(*blk, now, errp);

    bdrv_options_merge(now, bdrv_options_copy((*blk)->options));
    writer = (flags & BDRV_O_RDWR) &&
             g_strcmp0(bdrv_options_get(now, "read-only"), "on");
    ret = ret < 0 ? ret : blk_co_flush(*blk);
    if (ret == 0) {
        ret = keep(kept, (*blk)->root->bs, "", writer, flags, errp);
        ret = ret < 0 ? ret : rehearse(*blk, now, errp);
        if (ret < 0) {
            unkeep(kept);
        }
    }
    if (ret < 0) {
        bdrv_options_free(now);
        return ret;
    }
    ret = exchange(blk, now, flags, errp);
    give_and_drop(kept, *blk, !rules);
    return ret;
}

typedef struct ReopenArgs {
    BlockBackend **blk;
    BdrvOptions *changes;
    unsigned flags;
    GError **errp;
} ReopenArgs;

static int coroutine_fn reopen_entry(void *opaque)
{
    ReopenArgs *a = opaque;

    return blk_co_reopen(a->blk, a->changes, a->flags, a->errp);
}

int no_coroutine_fn blk_reopen(BlockBackend **blk, BdrvOptions *changes,
                               unsigned flags, GError **errp)
{
    ReopenArgs a = { blk, changes, flags, errp };

    return aio_run_blocking((*blk)->ctx, reopen_entry, &a);
}
