/* SPDX-License-Identifier: MIT */
/*
 * The tree of nodes: opening and closing, probing.
 *
 * Opening a node goes through these steps:
 *   1. json: names and options are merged; generic options become flags.
 *   2. The driver is the named one; else for a protocol role the one of the
 *      filename's prefix; else the format is probed.
 *   3. Formats get bs->file opened (and probed) first; protocols and filters
 *      get the filename as options and open what they need themselves.
 *   4. drv->co_open; then every option must have been taken by somebody.
 *
 * Each backing file is opened on a coroutine stack of its own, so that a long
 * chain in a hostile image runs into MAX_BACKING_DEPTH and not into the guard
 * page; MAX_NESTING does the same for protocols inside protocols. Requests are
 * in io.c, the BlockBackend in block-backend.c, the drivers in drivers.c.
 */
#include <string.h>

#include "block/block_int.h"
#include "block/dirty-bitmap_int.h"
#include "util/coroutine.h"

#define MAX_BACKING_DEPTH 200
#define MAX_NESTING 16

/* Make sure that a failure has a sentence. */
static int explain(GError **errp, int err, const char *what,
                   const char *filename)
{
    if (errp && !*errp) {
        set_error(errp, err, "%s '%s': %s", what, filename,
                  g_strerror(-err));
    }
    return err;
}

/* --- One node: create, free, close --- */

static BlockDriverState *node_new(unsigned flags)
{
    BlockDriverState *bs = g_new0(BlockDriverState, 1);

    bs->ctx = aio_get_current();
    assert(bs->ctx);
    bs->open_flags = flags;
    bs->read_only = !(flags & BDRV_O_RDWR);
    bs->request_alignment = 1;
    bs->mem_alignment = 1;
    bs->write_gen = 1; /* the first flush always goes to the disk */
    bs->announced_gen = bs->write_gen;
    g_queue_init(&bs->tracked);
    co_queue_init(&bs->drain_waiters);
    co_queue_init(&bs->flush_queue);
    co_mutex_init(&bs->exclusive_lock);
    co_mutex_init(&bs->bitmaps_lock);
    return bs;
}

static void node_free(BlockDriverState *bs)
{
    assert(bs->in_flight == 0 && g_queue_is_empty(&bs->tracked));
    assert(!bs->children && !bs->vmstate);
    co_mutex_destroy(&bs->exclusive_lock);
    co_mutex_destroy(&bs->bitmaps_lock);
    bdrv_bitmaps_free(bs);
    g_free(bs->bitmaps_unusable);
    g_free(bs->opaque);
    g_free(bs->filename);
    bdrv_options_free(bs->given);
    g_free(bs);
}

static int coroutine_fn close_children(BlockDriverState *bs)
{
    int first_error = 0;

    while (bs->children) {
        int ret = bdrv_co_close_child(bs->children->data);

        if (ret < 0 && first_error == 0) {
            first_error = ret;
        }
    }
    return first_error;
}

static int coroutine_fn node_close(BlockDriverState *bs)
{
    int ret, ret2;

    assert(bs->in_flight == 0 && bs->quiesce_counter == 0);
    ret = bdrv_co_flush(bs);
    if (bs->drv->co_close) {
        ret2 = bs->drv->co_close(bs);
        ret = ret < 0 ? ret : ret2;
    }
    ret2 = close_children(bs);
    ret = ret < 0 ? ret : ret2;
    node_free(bs);
    return ret;
}

/* --- Options and flags --- */

static int take_flag(BdrvOptions *options, const char *key, unsigned flag,
                     unsigned *flags, GError **errp)
{
    bool on;
    int ret = bdrv_options_take_bool(options, key, *flags & flag, &on, errp);

    if (ret == 0) {
        *flags = on ? *flags | flag : *flags & ~flag;
    }
    return ret;
}

static int take_discard(BdrvOptions *options, unsigned *flags, GError **errp)
{
    g_autofree char *text = bdrv_options_take(options, "discard");

    if (!text) {
        return 0;
    }
    if (strcmp(text, "unmap") == 0 || strcmp(text, "on") == 0) {
        *flags |= BDRV_O_UNMAP;
    } else if (strcmp(text, "ignore") == 0 || strcmp(text, "off") == 0) {
        *flags &= ~BDRV_O_UNMAP;
    } else {
        return bdrv_options_refuse("discard", text,
                                   NEAREST_LIST("unmap", "ignore"), errp);
    }
    return 0;
}

static int take_detect_zeroes(BdrvOptions *options, unsigned *flags,
                              GError **errp)
{
    g_autofree char *text = bdrv_options_take(options, "detect-zeroes");
    unsigned on = 0;

    if (!text) {
        return 0;
    }
    if (strcmp(text, "unmap") == 0) {
        on = BDRV_O_DETECT_ZEROES | BDRV_O_DETECT_UNMAP;
    } else if (strcmp(text, "on") == 0) {
        on = BDRV_O_DETECT_ZEROES;
    } else if (strcmp(text, "off") != 0) {
        return bdrv_options_refuse("detect-zeroes", text,
                                   NEAREST_LIST("off", "on", "unmap"), errp);
    }
    if ((on & BDRV_O_DETECT_UNMAP) && !(*flags & BDRV_O_UNMAP)) {
        return set_error(errp, -EINVAL, "option detect-zeroes: unmap needs "
                         "discard=unmap");
    }
    *flags = (*flags & ~(BDRV_O_DETECT_ZEROES | BDRV_O_DETECT_UNMAP)) | on;
    return 0;
}

/* Take the options every node has out of @options and into *@flags. */
static int take_generic_options(BdrvOptions *options, unsigned *flags,
                                GError **errp)
{
    bool read_only, ignored;
    int ret;

    /* Of no effect: a node is read-only when it is opened so, and nodes are
     * not referred to by name. */
    g_free(bdrv_options_take(options, "node-name"));
    /* "off" does not make writable what was not opened for writing: a name
     * inside an image must not be able to do that. */
    ret = bdrv_options_take_bool(options, "read-only", false, &read_only,
                                 errp);
    if (ret == 0) {
        /* Who opens for writing writes: falling back would only put the
         * refusal off. */
        ret = bdrv_options_take_bool(options, "auto-read-only", false,
                                     &ignored, errp);
    }
    if (ret == 0) {
        ret = take_flag(options, "force-share", BDRV_O_FORCE_SHARE, flags,
                        errp);
    }
    if (ret == 0) {
        ret = take_flag(options, "cache.direct", BDRV_O_NOCACHE, flags, errp);
    }
    if (ret == 0) {
        ret = take_flag(options, "cache.no-flush", BDRV_O_NO_FLUSH, flags,
                        errp);
    }
    if (ret == 0) {
        ret = take_flag(options, "allow-data-file", BDRV_O_DATA_FILE, flags,
                        errp);
    }
    if (ret == 0) {
        ret = take_flag(options, "copy-on-read", BDRV_O_COPY_ON_READ, flags,
                        errp);
    }
    if (ret == 0) {
        ret = take_discard(options, flags, errp);
    }
    if (ret == 0) {
        ret = take_detect_zeroes(options, flags, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (read_only) {
        *flags &= ~BDRV_O_RDWR;
    }
    if ((*flags & BDRV_O_FORCE_SHARE) && (*flags & BDRV_O_RDWR)) {
        return set_error(errp, -EINVAL, "force-share works with read-only "
                         "images only");
    }
    return 0;
}

static unsigned child_flags(const BlockDriverState *parent,
                            BdrvChildRole role)
{
    unsigned flags = parent->open_flags;

    flags &= ~(BDRV_O_WRITETHROUGH | BDRV_O_PROTOCOL | BDRV_O_DATA_FILE |
               BDRV_O_COPY_ON_READ | BDRV_O_DETECT_ZEROES |
               BDRV_O_DETECT_UNMAP);
    switch (role) {
    case BDRV_CHILD_FILE:
        /* The format decides what is discarded. */
        return flags | BDRV_O_PROTOCOL | BDRV_O_UNMAP;
    case BDRV_CHILD_FILTERED:
        return flags | BDRV_O_PROTOCOL;
    case BDRV_CHILD_TWIN:
        return flags & ~BDRV_O_CHECK;
    default:
        if (role != BDRV_CHILD_BACKING || !(flags & BDRV_O_BACKING_RDWR)) {
            flags &= ~BDRV_O_RDWR;
        }
        return flags & ~(BDRV_O_BACKING_RDWR | BDRV_O_CHECK);
    }
}

/* --- Opening --- */

static int coroutine_fn probe_format(BdrvChild *file, BlockDriver **ret,
                                     GError **errp)
{
    uint64_t len = MIN(file->bs->total_bytes, BDRV_PROBE_BYTES);
    g_autofree uint8_t *buf = g_malloc0(BDRV_PROBE_BYTES);
    int err = bdrv_co_pread(file, 0, len, buf, 0);
    const char *format;

    if (err < 0) {
        return set_error(errp, err, "cannot read '%s' to find its format: "
                         "%s", file->bs->filename, g_strerror(-err));
    }
    format = bdrv_probe(buf, BDRV_PROBE_BYTES, file->bs->filename);
    *ret = bdrv_find_format(format);
    if (!*ret) {
        return set_error(errp, -ENOTSUP, "'%s' is of format %s, which is not "
                         "supported; there are qcow2 and raw, and raw (-f raw, "
                         "driver=raw) shows it byte for byte",
                         file->bs->filename, format);
    }
    return 0;
}

/* Hand @filename to a protocol driver as options. */
static int set_filename(BlockDriver *drv, const char *filename,
                        BdrvOptions *options, GError **errp)
{
    g_autofree char *protocol = NULL;

    if (!filename) {
        return 0;
    }
    protocol = bdrv_protocol_name(filename);
    if (drv->parse_filename && protocol && drv->protocol_name &&
        strcmp(protocol, drv->protocol_name) == 0) {
        return drv->parse_filename(filename, options, errp);
    }
    bdrv_options_set_default(options, "filename", filename);
    return 0;
}

static bool is_power_of_2(uint32_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

/* What a driver said about itself must make sense. */
static int coroutine_fn check_limits(BlockDriverState *bs, GError **errp)
{
    int ret = bdrv_co_refresh_length(bs);

    assert(is_power_of_2(bs->request_alignment) &&
           bs->request_alignment <= BDRV_MAX_REQUEST_ALIGNMENT);
    assert(is_power_of_2(bs->mem_alignment) &&
           bs->mem_alignment <= BDRV_MAX_MEM_ALIGNMENT);
    assert(IS_ALIGNED(bs->max_transfer, bs->request_alignment));
    if (ret < 0) {
        return set_error(errp, ret, "cannot find the size of '%s': %s",
                         bs->filename, g_strerror(-ret));
    }
    if (bs->total_bytes > BDRV_MAX_LENGTH) {
        return set_error(errp, -EFBIG, "'%s' claims %" G_GUINT64_FORMAT
                         " bytes, more than any image can have",
                         bs->filename, bs->total_bytes);
    }
    return 0;
}

/* Step 4: bs->drv is chosen; on failure the driver is closed again. */
static int coroutine_fn open_driver(BlockDriverState *bs,
                                    BdrvOptions *options, GError **errp)
{
    int ret;

    bs->opaque = g_malloc0(MAX(bs->drv->instance_size, 1));
    bs->given = bdrv_options_copy(options);
    ret = bs->drv->co_open(bs, options, bs->open_flags, errp);
    if (ret < 0) {
        explain(errp, ret, "cannot open", bs->filename);
        /* A loop would name itself many times over. */
        if (!bs->drv->protocol_name && ret != -ELOOP) {
            prefix_error(errp, ret, "%s: ", bs->filename);
        }
        return ret;
    }
    ret = check_limits(bs, errp);
    if (ret == 0) {
        ret = bdrv_options_check_empty(options, errp);
        if (ret < 0) {
            prefix_error(errp, ret, "%s, driver %s: ", bs->filename,
                         bs->drv->format_name);
        }
    }
    if (ret < 0 && bs->drv->co_close) {
        bs->drv->co_close(bs);
    }
    return ret;
}

/* Step 3 for formats. @drv is NULL when the format is to be probed. */
static int coroutine_fn open_format(BlockDriverState *bs,
                                    const char *filename,
                                    BdrvOptions *options, BlockDriver *drv,
                                    GError **errp)
{
    BdrvOptions *file_options;
    int ret;

    if (!filename && !bdrv_options_has_prefix(options, "file.")) {
        return bdrv_options_missing(options, "no file name: the image",
                                    "file.filename", errp);
    }
    file_options = bdrv_options_take_prefix(options, "file.");
    ret = bdrv_co_open_child(bs, filename, file_options, "file",
                             BDRV_CHILD_FILE, &bs->file, errp);
    if (ret == 0 && !drv) {
        bs->probed = true;
        ret = probe_format(bs->file, &drv, errp);
    }
    if (ret < 0) {
        return ret;
    }
    bs->drv = drv;
    bs->filename = g_strdup(bs->file->bs->filename);
    return open_driver(bs, options, errp);
}

static int coroutine_fn open_protocol(BlockDriverState *bs,
                                      const char *filename,
                                      BdrvOptions *options, BlockDriver *drv,
                                      GError **errp)
{
    int ret = set_filename(drv, filename, options, errp);
    const char *name = bdrv_options_get(options, "filename");

    if (ret < 0) {
        return ret;
    }
    bs->drv = drv;
    bs->filename = g_strdup(filename ? filename :
                            name ? name : drv->format_name);
    return open_driver(bs, options, errp);
}

/* Steps 2 and 3. */
static int coroutine_fn open_with_driver(BlockDriverState *bs,
                                         const char *filename,
                                         BdrvOptions *options, GError **errp)
{
    g_autofree char *driver = bdrv_options_take(options, "driver");
    g_autofree char *name = NULL;
    BlockDriver *drv = NULL;

    if (driver) {
        drv = bdrv_find_named_driver(driver, errp);
        if (!drv) {
            return -ENOTSUP;
        }
    } else if (bs->open_flags & BDRV_O_PROTOCOL) {
        drv = filename ? bdrv_find_protocol(filename, errp) : &bdrv_file;
        if (!drv) {
            return -ENOTSUP;
        }
    }
    if (drv && drv->protocol_name) {
        return open_protocol(bs, filename, options, drv, errp);
    }
    if (!filename) {
        name = bdrv_options_take(options, "filename");
    }
    return open_format(bs, filename ? filename : name, options, drv, errp);
}

/* Consumes @options. */
static int coroutine_fn open_node(const char *filename, BdrvOptions *options,
                                  unsigned flags, BdrvChild *edge,
                                  GError **errp)
{
    g_autoptr(BdrvOptions) opts = options ? options : bdrv_options_new();
    BlockDriverState *bs;
    int ret = bdrv_options_expand_json(opts, &filename, errp);

    if (ret == 0) {
        ret = take_generic_options(opts, &flags, errp);
    }
    if (ret < 0) {
        return ret;
    }
    bs = node_new(flags);
    bs->parent_edge = edge;
    ret = open_with_driver(bs, filename, opts, errp);
    if (ret < 0) {
        close_children(bs);
        node_free(bs);
        return ret;
    }
    edge->bs = bs;
    return 0;
}

/* --- Edges --- */

static BdrvChild *edge_new(BlockDriverState *parent, const char *name,
                           BdrvChildRole role)
{
    BdrvChild *edge = g_new0(BdrvChild, 1);

    edge->parent = parent;
    edge->name = g_strdup(name);
    edge->role = role;
    return edge;
}

static void edge_free(BdrvChild *edge)
{
    g_free(edge->name);
    g_free(edge);
}

static int coroutine_fn open_edge(const char *filename, BdrvOptions *options,
                                  unsigned flags, BdrvChild *edge,
                                  BdrvChild **ret_child, GError **errp)
{
    int ret = open_node(filename, options, flags, edge, errp);

    if (ret < 0) {
        edge_free(edge);
        return ret;
    }
    if (edge->parent) {
        edge->parent->children = g_list_append(edge->parent->children, edge);
        edge->link = g_list_find(edge->parent->children, edge);
    }
    *ret_child = edge;
    return 0;
}

/* A backing file is opened on another stack. */
typedef struct OpenBacking {
    const char *filename;
    BdrvOptions *options;
    unsigned flags;
    BdrvChild *edge;
    BdrvChild **ret_child;
    GError **errp;
    Coroutine *waiter; /* NULL while it has not gone to sleep */
    bool done;
    int ret;
} OpenBacking;

static void coroutine_fn open_backing_entry(void *opaque)
{
    OpenBacking *o = opaque;

    o->ret = open_edge(o->filename, o->options, o->flags, o->edge,
                       o->ret_child, o->errp);
    o->done = true;
    if (o->waiter) {
        aio_co_wake(o->waiter);
    }
}

static int coroutine_fn open_backing(OpenBacking *o)
{
    Coroutine *co = co_create(open_backing_entry, o);

    co_set_name(co, "open_backing");
    co_enter(co);
    if (!o->done) {
        o->waiter = co_self();
        co_yield();
    }
    assert(o->done);
    return o->ret;
}

/* How many nodes lie above @bs: by way of backing files, and since the last of
 * these. */
static void node_depth(const BlockDriverState *bs, unsigned *ret_backing,
                       unsigned *ret_nesting)
{
    unsigned backing = 0, nesting = 0;

    while (bs && bs->parent_edge) {
        if (bs->parent_edge->role == BDRV_CHILD_BACKING) {
            backing++;
        } else if (backing == 0) {
            nesting++;
        }
        bs = bs->parent_edge->parent;
    }
    *ret_backing = backing;
    *ret_nesting = nesting;
}

int coroutine_fn bdrv_co_open_child(BlockDriverState *parent,
                                    const char *filename,
                                    BdrvOptions *options, const char *name,
                                    BdrvChildRole role, BdrvChild **ret,
                                    GError **errp)
{
    unsigned flags = child_flags(parent, role);
    unsigned backing, nesting;
    OpenBacking o;

    node_depth(parent, &backing, &nesting);
    if (role == BDRV_CHILD_BACKING && backing >= MAX_BACKING_DEPTH) {
        bdrv_options_free(options);
        return set_error(errp, -ELOOP, "more than %d backing files, or one "
                         "that leads back to itself", MAX_BACKING_DEPTH);
    }
    if (nesting > MAX_NESTING) {
        bdrv_options_free(options);
        return set_error(errp, -ELOOP, "more than %d drivers inside one "
                         "another", MAX_NESTING);
    }
    if (role != BDRV_CHILD_BACKING) {
        return open_edge(filename, options, flags,
                         edge_new(parent, name, role), ret, errp);
    }
    o = (OpenBacking) {
        .filename = filename,
        .options = options,
        .flags = flags,
        .edge = edge_new(parent, name, role),
        .ret_child = ret,
        .errp = errp,
    };
    return open_backing(&o);
}

int coroutine_fn bdrv_co_close_child(BdrvChild *child)
{
    BlockDriverState *parent;
    int ret;

    if (!child) {
        return 0;
    }
    /* Unlinked last: a flush during close still finds its way up. */
    ret = node_close(child->bs);
    parent = child->parent;
    if (parent) {
        parent->children = g_list_delete_link(parent->children, child->link);
        if (parent->file == child) {
            parent->file = NULL;
        }
        if (parent->backing == child) {
            parent->backing = NULL;
        }
    }
    edge_free(child);
    return ret;
}

int coroutine_fn bdrv_co_open_root(const char *filename, BdrvOptions *options,
                                   unsigned flags, BdrvChild **ret,
                                   GError **errp)
{
    return open_edge(filename, options, flags,
                     edge_new(NULL, "root", BDRV_CHILD_ROOT), ret, errp);
}

int coroutine_fn bdrv_co_open_file(const char *filename, BdrvOptions *options,
                                   unsigned flags, BdrvChild **ret,
                                   GError **errp)
{
    flags |= BDRV_O_PROTOCOL | BDRV_O_UNMAP;
    return open_edge(filename, options, flags,
                     edge_new(NULL, "file", BDRV_CHILD_FILE), ret, errp);
}

/* --- Creating images --- */

/* Consumes @options. */
static int coroutine_fn create_with(BlockDriver *drv, const char *filename,
                                    BdrvOptions *options, GError **errp)
{
    g_autoptr(BdrvOptions) opts = options ? options : bdrv_options_new();
    int ret;

    if (!drv->co_create) {
        return set_error(errp, -ENOTSUP, "driver '%s' cannot create images",
                         drv->format_name);
    }
    ret = drv->co_create(filename, opts, errp);
    if (ret < 0) {
        return explain(errp, ret, "cannot create", filename);
    }
    return bdrv_options_check_empty(opts, errp);
}

int coroutine_fn bdrv_co_create_file(const char *filename,
                                     BdrvOptions *options, GError **errp)
{
    BlockDriver *drv = bdrv_find_protocol(filename, errp);

    if (!drv) {
        bdrv_options_free(options);
        return -ENOTSUP;
    }
    return create_with(drv, filename, options, errp);
}

void coroutine_fn bdrv_co_uncreate_file(const char *filename)
{
    BlockDriver *drv = bdrv_find_protocol(filename, NULL);

    if (drv && drv->co_uncreate) {
        drv->co_uncreate(filename);
    }
}

int coroutine_fn blk_co_create(const char *format, const char *filename,
                               BdrvOptions *create_opts, GError **errp)
{
    BlockDriver *drv = bdrv_find_named_driver(format, errp);

    if (!drv) {
        bdrv_options_free(create_opts);
        return -ENOTSUP;
    }
    return create_with(drv, filename, create_opts, errp);
}

/* --- Facts about a node --- */

const char *bdrv_get_format_name(const BlockDriverState *bs)
{
    return bs->drv->format_name;
}

const char *bdrv_get_filename(const BlockDriverState *bs)
{
    return bs->filename;
}

bool bdrv_is_read_only(const BlockDriverState *bs)
{
    return bs->read_only;
}

int coroutine_fn bdrv_co_get_info(BlockDriverState *bs, BdrvInfo *ret)
{
    while (!bs->drv->co_get_info && bs->drv->is_filter && bs->file) {
        bs = bs->file->bs;
    }
    return bs->drv->co_get_info ? bs->drv->co_get_info(bs, ret) : -ENOTSUP;
}
