/* SPDX-License-Identifier: MIT */
/* reopen: other flags, cache mode or options for the image that is open. */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

typedef struct Change {
    bool has_mode, has_cache;
    IoOpen to;
    BdrvOptions *options;
} Change;

static int parse(Change *c, int argc, char **argv)
{
    IoFlags f;
    int letter;

    io_flags_init(&f, argc, argv, "rwc:o:");
    while ((letter = io_flags_next(&f)) > 0) {
        switch (letter) {
        case 'r':
        case 'w':
            if (c->has_mode) {
                io_error("-r and -w can be given once");
                return -EINVAL;
            }
            c->has_mode = true;
            c->to.flags &= ~BDRV_O_RDWR;
            c->to.flags |= letter == 'w' ? BDRV_O_RDWR : 0;
            break;
        case 'c':
            c->has_cache = true;
            if (!io_set_cache(&c->to, f.arg)) {
                return -EINVAL;
            }
            break;
        case 'o':
            if (c->options) {
                io_error("-o can be given once");
                return -EINVAL;
            }
            c->options = io_parse_options(f.arg);
            if (!c->options) {
                return -EINVAL;
            }
            break;
        default:
            g_assert_not_reached();
        }
    }
    return letter == 0 && f.nb_words > 0 ? io_bad_usage(argv[0]) : letter;
}

/* The same thing said in two ways is a mistake. */
static int check(const Change *c)
{
    if (c->has_mode && bdrv_options_get(c->options, "read-only")) {
        io_error("-r and -w exclude the option read-only");
        return -EINVAL;
    }
    if (c->has_cache && bdrv_options_has_prefix(c->options, "cache.")) {
        io_error("-c excludes the options cache.*");
        return -EINVAL;
    }
    return 0;
}

/* The option read-only, which check() has seen alone. */
static int apply_mode(Change *c)
{
    g_autofree char *given = bdrv_options_take(c->options, "read-only");

    if (!given) {
        return 0;
    }
    if (strcmp(given, "on") != 0 && strcmp(given, "off") != 0) {
        io_error("read-only is on or off, not '%s'", given);
        return -EINVAL;
    }
    if (strcmp(given, "off") == 0) {
        c->to.flags |= BDRV_O_RDWR;
    } else if (c->to.flags & BDRV_O_RDWR) {
        io_error("the image is open for writing; 'reopen -r' changes that");
        return -EINVAL;
    }
    return 0;
}

int io_cmd_reopen(int argc, char **argv)
{
    Change c = { .to.flags = blk_get_open_flags(io.blk) };
    GError *error = NULL;
    int ret = parse(&c, argc, argv);

    if (ret == 0) {
        ret = check(&c);
    }
    if (ret == 0 && c.options) {
        ret = apply_mode(&c);
    }
    if (ret < 0) {
        bdrv_options_free(c.options);
        return ret;
    }
    io_pass_breaks(true);
    AIO_WAIT_WHILE(io.ctx, io.aio > 0);
    ret = blk_reopen(&io.blk, c.options, c.to.flags, &error);
    io_pass_breaks(false);
    if (ret < 0) {
        io_error("%s", error ? error->message : g_strerror(-ret));
        g_clear_error(&error);
    }
    return ret;
}
