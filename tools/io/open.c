/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing the image. -s lays a temporary qcow2 image over it,
 * which has no name any more once it is open.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool refuse(const char *what, const char *value,
                   const char *const *names)
{
    g_autofree char *refusal = nearest_refusal(value, names);

    io_error("%s: %s", what, refusal);
    return false;
}

bool io_set_cache(IoOpen *o, const char *text)
{
    if (bdrv_parse_cache_mode(text, &o->flags) < 0) {
        return refuse("cache mode", text, bdrv_cache_modes);
    }
    return true;
}

bool io_set_discard(IoOpen *o, const char *text)
{
    if (strcmp(text, "unmap") == 0 || strcmp(text, "on") == 0) {
        o->flags |= BDRV_O_UNMAP;
    } else if (strcmp(text, "ignore") == 0 || strcmp(text, "off") == 0) {
        o->flags &= ~BDRV_O_UNMAP;
    } else {
        return refuse("discard mode", text, NEAREST_LIST("unmap", "ignore"));
    }
    return true;
}

bool io_set_aio(IoOpen *o, const char *text)
{
    o->native_aio = strcmp(text, "native") == 0;
    if (!o->native_aio && strcmp(text, "threads") != 0 &&
        strcmp(text, "io_uring") != 0) {
        return refuse("aio mode", text,
                      NEAREST_LIST("threads", "native", "io_uring"));
    }
    return true;
}

BdrvOptions *io_parse_options(const char *text)
{
    BdrvOptions *o;
    GError *error = NULL;

    if (bdrv_options_parse(&o, text, &error) < 0) {
        io_error("%s", error->message);
        g_error_free(error);
        return NULL;
    }
    return o;
}

/* A temporary image of the size of the disk that @options describe. */
static int create_overlay(const BdrvOptions *options, unsigned flags,
                          const char *path, GError **errp)
{
    BdrvOptions *create = bdrv_options_new();
    g_autofree char *size = NULL;
    BlockBackend *blk;
    int ret = blk_open(io.ctx, NULL, bdrv_options_copy(options),
                       flags & ~BDRV_O_RDWR, &blk, errp);

    if (ret == 0) {
        size = g_strdup_printf("%" G_GINT64_FORMAT, blk_getlength(blk));
        ret = blk_close(blk);
    }
    if (ret < 0) {
        bdrv_options_free(create);
        return ret;
    }
    bdrv_options_set(create, "size", size);
    return blk_create(io.ctx, "qcow2", path, create, errp);
}

/* A name of any kind as an option. */
static int add_name(BdrvOptions *options, const char *filename, GError **errp)
{
    int ret = bdrv_options_expand_json(options, &filename, errp);

    if (ret == 0 && filename) {
        bdrv_options_set(options, "filename", filename);
    }
    return ret;
}

/*
 * The file that -s writes to, or -1. It has no name, so that nothing is left
 * of it whatever happens; what reopen opens is the descriptor.
 */
static int overlay_fd = -1;

static void drop_overlay(void)
{
    if (overlay_fd >= 0) {
        close(overlay_fd);
        overlay_fd = -1;
    }
}

/* Make that file. NULL with @errp; else the name by which it is opened. */
static char *make_overlay(GError **errp)
{
    g_autofree char *path = NULL, *name = NULL;

    overlay_fd = g_file_open_tmp("firn-io-XXXXXX", &path, errp);
    if (overlay_fd < 0) {
        return NULL;
    }
    name = g_strdup_printf("/proc/self/fd/%d", overlay_fd);
    if (access(name, F_OK) < 0) {
        return g_steal_pointer(&path); /* without /proc it keeps its name */
    }
    unlink(path);
    return g_steal_pointer(&name);
}

/* Consumes @options. */
static int open_overlay(BdrvOptions *options, const IoOpen *o, GError **errp)
{
    /* What is written is of no use after a crash, and nobody else's. */
    unsigned flags = (o->flags & ~BDRV_O_FORCE_SHARE) | BDRV_O_NO_FLUSH;
    g_autofree char *name = make_overlay(errp);
    BdrvOptions *top = NULL;
    int ret;

    if (!name) {
        bdrv_options_free(options);
        return -EIO;
    }
    ret = create_overlay(options, o->flags, name, errp);
    if (ret == 0) {
        top = bdrv_options_new();
        bdrv_options_set(top, "driver", "qcow2");
        bdrv_options_set(top, "file.driver", "file");
        bdrv_options_set(top, "file.filename", name);
        if (o->copy_on_read) {
            bdrv_options_set(top, "copy-on-read", "on");
        }
        if (o->flags & BDRV_O_FORCE_SHARE) {
            bdrv_options_set(options, "force-share", "on");
        }
        bdrv_options_add_prefix(top, "backing.", options);
        ret = blk_open(io.ctx, NULL, top, flags, &io.blk, errp);
    } else {
        bdrv_options_free(options);
    }
    if (!g_str_has_prefix(name, "/proc/")) {
        unlink(name);
    }
    if (ret < 0) {
        drop_overlay();
    }
    return ret;
}

/* What the flags and options say together. The option read-only goes before
 * the flag, but an image that is to be written has to be writable. */
static int check_mode(IoOpen *o, BdrvOptions *options, GError **errp)
{
    bool given = bdrv_options_get(options, "read-only") != NULL;
    const char *wrong = NULL;
    bool read_only;
    int ret = bdrv_options_take_bool(options, "read-only", false, &read_only,
                                     errp);

    if (ret < 0) {
        return ret;
    }
    if (read_only && (o->flags & BDRV_O_RDWR)) {
        wrong = "the option read-only=on needs -r as well";
    } else if (given && !read_only) {
        o->flags |= BDRV_O_RDWR;
    }
    if (o->native_aio && !(o->flags & BDRV_O_NOCACHE)) {
        wrong = "native aio needs cache mode none or directsync (-n)";
    } else if (o->copy_on_read && !(o->flags & BDRV_O_RDWR)) {
        wrong = "copy on read writes to the image, which -r forbids";
    }
    if (wrong) {
        g_set_error_literal(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL, wrong);
        return -EINVAL;
    }
    return 0;
}

static int open_plain(const char *filename, BdrvOptions *options,
                      IoOpen *o, GError **errp)
{
    int ret = check_mode(o, options, errp);

    if (ret == 0 && filename && !g_str_has_prefix(filename, "json:") &&
        bdrv_options_get(options, "file.filename")) {
        g_set_error_literal(errp, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                            "the option file.filename names a file as well; "
                            "leave out one of both");
        ret = -EINVAL;
    }
    if (ret == 0 && o->snapshot && filename) {
        ret = add_name(options, filename, errp);
    }
    if (ret < 0) {
        bdrv_options_free(options);
        return ret;
    }
    if (o->snapshot) {
        return open_overlay(options, o, errp);
    }
    if (o->copy_on_read) {
        bdrv_options_set_default(options, "copy-on-read", "on");
    }
    return blk_open(io.ctx, filename, options, o->flags, &io.blk, errp);
}

int io_open_image(const char *filename, BdrvOptions *options, IoOpen *o)
{
    GError *error = NULL;
    int ret;

    if (io.blk) {
        bdrv_options_free(options);
        io_error("'%s' is open; close it first",
                 bdrv_get_filename(blk_bs(io.blk)));
        return -EBUSY;
    }
    if (!options) {
        options = bdrv_options_new();
    }
    /* Who names an image on the command line trusts what it names. */
    bdrv_options_set_default(options, "allow-data-file", "on");
    ret = open_plain(filename, options, o, &error);
    if (ret < 0) {
        io_error("can't open%s%s: %s", filename ? " device " : "",
                 filename ? filename : "",
                 error ? error->message : g_strerror(-ret));
        g_clear_error(&error);
    }
    return ret;
}

int io_close_image(void)
{
    BlockBackend *blk = io.blk;
    int ret;

    if (!blk) {
        return 0;
    }
    io_release_breaks();
    AIO_WAIT_WHILE(io.ctx, io.aio > 0);
    io.blk = NULL;
    ret = blk_close(blk);
    drop_overlay();
    if (ret < 0) {
        io_error("closing failed: %s", g_strerror(-ret));
    }
    return ret;
}

static int cmd_close(int argc, char **argv)
{
    return io_close_image();
}

/* One flag of open; false after saying what is wrong. */
static bool apply_flag(IoOpen *o, BdrvOptions **options, int c,
                       const char *arg)
{
    BdrvOptions *more;

    switch (c) {
    case 's':
        o->snapshot = true;
        return true;
    case 'n':
        return io_set_cache(o, "none");
    case 'C':
        o->copy_on_read = true;
        return true;
    case 'r':
        o->flags &= ~BDRV_O_RDWR;
        return true;
    case 'U':
        o->flags |= BDRV_O_FORCE_SHARE;
        return true;
    case 'k':
        return io_set_aio(o, "native");
    case 'i':
        return io_set_aio(o, arg);
    case 't':
        return io_set_cache(o, arg);
    case 'd':
        return io_set_discard(o, arg);
    case 'o':
        more = io_parse_options(arg);
        if (more) {
            bdrv_options_merge(more, *options);
            *options = more;
        }
        return more;
    default:
        g_assert_not_reached();
    }
}

static int cmd_open(int argc, char **argv)
{
    IoOpen o = { .flags = IO_OPEN_FLAGS };
    BdrvOptions *options = bdrv_options_new();
    IoFlags f;
    int c;

    io_flags_init(&f, argc, argv, "sCrUnki:t:d:o:");
    while ((c = io_flags_next(&f)) > 0) {
        if (!apply_flag(&o, &options, c, f.arg)) {
            c = -EINVAL;
            break;
        }
    }
    if (c == 0 && (f.nb_words > 1 || (f.nb_words == 0 && !io.blk &&
                                      bdrv_options_size(options) == 0))) {
        c = io_bad_usage("open");
    }
    if (c < 0) {
        bdrv_options_free(options);
        return c;
    }
    return io_open_image(f.nb_words ? f.words[0] : NULL, options, &o);
}

const IoCommand io_open_commands[] = {
    { "open", "o", cmd_open, 1, -1, false, false,
      "[-rsCnkU] [-i aio] [-t cache] [-d discard] [-o options] [path]",
      "open an image",
      "  -r  read-only\n"
      "  -s  keep what is written in a temporary image\n"
      "  -C  copy what is read from the backing file\n"
      "  -n  past the host's cache; the same as -t none\n"
      "  -k  the same as -i native\n"
      "  -U  share the image with others; read-only\n"
      "  -i  threads, native or io_uring\n"
      "  -t  none, writeback, writethrough, directsync or unsafe\n"
      "  -d  unmap or ignore\n"
      "  -o  options of the driver\n"
      "Example: open -n -o driver=raw /tmp/data\n" },
    { "close", "c", cmd_close, 0, 0, true, false, "", "close the image",
      NULL },
    { "reopen", NULL, io_cmd_reopen, 0, -1, true, false,
      "[-r|-w] [-c cache] [-o options]",
      "open the image in another way without closing it",
      "  -r  read-only\n"
      "  -w  for reading and writing\n"
      "  -c  with this cache mode\n"
      "  -o  with these options of the driver, others staying as they are\n"
      "Example: reopen -o lazy-refcounts=on\n" },
    { 0 },
};
