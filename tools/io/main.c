/* SPDX-License-Identifier: MIT */
/*
 * firn-io: single requests to disk images, by hand and from scripts. This file
 * reads the command line; then come the commands of -c, or else those of
 * standard input. The exit status is 1 when anything failed.
 */
#include "tools/io/io.h"

#include <getopt.h>
#include <libgen.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "block/secret.h"
#include "tools/memory.h"
#include "tools/stop.h"
#include "util/nearest.h"

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

typedef struct Args {
    IoOpen open;
    const char *format;
    const char *backend;      /* of -i, or NULL */
    bool image_opts;
    GPtrArray *commands;      /* of -c */
} Args;

static void print_usage(void)
{
    printf(
"Usage: %s [OPTIONS]... [-c COMMAND]... [IMAGE]\n"
"Reads, writes and examines disk images, one request at a time.\n\n"
"  -c, --cmd COMMAND    run this command; -c help lists them. Without any,\n"
"                       commands are read from standard input\n"
"  -f, --format FORMAT  raw or qcow2; found out when not given\n"
"  -r, --read-only      open the image read-only\n"
"  -s, --snapshot       keep what is written in a temporary image\n"
"  -n, --nocache        past the host's cache; the same as -t none\n"
"  -C, --copy-on-read   copy what is read from the backing file\n"
"  -m, --misalign       use buffers that O_DIRECT cannot take\n"
"  -k, --native-aio     the same as -i native\n"
"  -i, --aio MODE       threads, native or io_uring\n"
"  -t, --cache MODE     none, writeback, writethrough, directsync or unsafe\n"
"  -d, --discard MODE   unmap or ignore\n"
"  -U, --force-share    share the image with others; needs -r\n"
"      --image-opts     IMAGE is a list of options: driver=qcow2,...\n"
"      --object SPEC    secret,id=NAME,... for encrypted images\n"
"  -T, --trace SPEC     accepted and ignored\n"
"  -h, --help           this text\n"
"  -V, --version        the version\n\n"
"Example:\n  %s -c 'write -P 1 0 64k' -c 'read -P 1 0 64k' disk.qcow2\n",
    io.program, io.program);
}

static bool add_object(const char *text)
{
    GError *error = NULL;

    if (secret_add_object(text, &error) < 0) {
        io_error("%s", error->message);
        g_error_free(error);
        return false;
    }
    return true;
}

static bool apply_option(Args *a, int c, char *arg)
{
    switch (c) {
    case 'c':
        g_ptr_array_add(a->commands, arg);
        return true;
    case 'f':
        a->format = arg;
        return true;
    case 'r':
        a->open.flags &= ~BDRV_O_RDWR;
        return true;
    case 's':
        a->open.snapshot = true;
        return true;
    case 'n':
        return io_set_cache(&a->open, "none");
    case 'C':
        a->open.copy_on_read = true;
        return true;
    case 'm':
        io.misalign = true;
        return true;
    case 'k':
        return io_set_aio(&a->open, "native");
    case 'i':
        a->backend = arg;
        return io_set_aio(&a->open, arg);
    case 't':
        return io_set_cache(&a->open, arg);
    case 'd':
        return io_set_discard(&a->open, arg);
    case 'U':
        a->open.flags |= BDRV_O_FORCE_SHARE;
        return true;
    case 'T':
        return true;
    case OPT_IMAGE_OPTS:
        a->image_opts = true;
        return true;
    case OPT_OBJECT:
        return add_object(arg);
    default:
        g_assert_not_reached();
    }
}

static void tell_mistake(int c, char **argv, const char *letters,
                         const struct option *options)
{
    g_autofree char *mistake = nearest_option_mistake(c, argv, letters,
                                                      options);

    io_error("%s", mistake);
}

static void parse_args(Args *a, int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "cmd", required_argument, NULL, 'c' },
        { "format", required_argument, NULL, 'f' },
        { "read-only", no_argument, NULL, 'r' },
        { "snapshot", no_argument, NULL, 's' },
        { "nocache", no_argument, NULL, 'n' },
        { "copy-on-read", no_argument, NULL, 'C' },
        { "misalign", no_argument, NULL, 'm' },
        { "native-aio", no_argument, NULL, 'k' },
        { "aio", required_argument, NULL, 'i' },
        { "discard", required_argument, NULL, 'd' },
        { "cache", required_argument, NULL, 't' },
        { "trace", required_argument, NULL, 'T' },
        { "force-share", no_argument, NULL, 'U' },
        { "object", required_argument, NULL, OPT_OBJECT },
        { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
        { 0 },
    };
    static const char letters[] = ":hVc:d:f:rsnCmki:t:T:U";
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        if (c == '?' || c == ':') {
            tell_mistake(c, argv, letters, options);
            exit(EXIT_FAILURE);
        }
        if (c == 'h') {
            print_usage();
            exit(EXIT_SUCCESS);
        }
        if (c == 'V') {
            printf("%s version %s\n", io.program, FIRN_VERSION);
            exit(EXIT_SUCCESS);
        }
        if (!apply_option(a, c, optarg)) {
            exit(EXIT_FAILURE);
        }
    }
    if (argc - optind > 1) {
        io_error("'%s' is one image too many", argv[optind + 1]);
        exit(EXIT_FAILURE);
    }
    if (a->format && a->image_opts) {
        io_error("--image-opts and -f exclude one another: put "
                 "driver=%s among the options", a->format);
        exit(EXIT_FAILURE);
    }
}

static void start_context(const Args *a)
{
    GError *error = NULL;
    AioBackend backend = AIO_BACKEND_AUTO;

    if (a->backend && strcmp(a->backend, "threads") == 0) {
        backend = AIO_BACKEND_THREADS;
    } else if (a->backend && strcmp(a->backend, "io_uring") == 0) {
        backend = AIO_BACKEND_IO_URING;
    }
    io.ctx = aio_context_new(backend, &error);
    if (!io.ctx) {
        io_error("%s", error->message);
        exit(EXIT_FAILURE);
    }
    aio_set_current(io.ctx);
    stop_ends_input();
    stop_on_signals(io.ctx);
}

static int open_first(Args *a, const char *name)
{
    BdrvOptions *options = bdrv_options_new();

    if (a->image_opts) {
        bdrv_options_free(options);
        options = io_parse_options(name);
        name = NULL;
    } else if (a->format) {
        bdrv_options_set(options, "driver", a->format);
    }
    return options ? io_open_image(name, options, &a->open) : -1;
}

static bool goes_on(void)
{
    return !io.quit && !aio_stopping(io.ctx);
}

/* Returns whether every command was done. */
static bool run_all(const Args *a)
{
    char *line;
    bool ok = true;

    for (guint i = 0; i < a->commands->len && goes_on(); i++) {
        ok &= io_run_line(g_ptr_array_index(a->commands, i)) >= 0;
    }
    while (io.prompts && goes_on() && (line = io_read_line()) != NULL) {
        ok &= io_run_line(line) >= 0;
    }
    return ok && !io.failed;
}

int main(int argc, char **argv)
{
    Args a = { .open.flags = IO_OPEN_FLAGS };
    bool ok;

    tool_keep_memory();
    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C"); /* scripts read our numbers */
    signal(SIGPIPE, SIG_IGN); /* the image is closed nevertheless */
    signal(SIGUSR1, SIG_IGN); /* asks firn-img for progress; there is none */
    io.program = g_path_get_basename(argv[0]);
    a.commands = g_ptr_array_new();
    parse_args(&a, argc, argv);
    io.prompts = a.commands->len == 0;
    io_start_output();
    start_context(&a);
    io_watch_breaks();
    if (optind < argc && open_first(&a, argv[optind]) < 0) {
        return EXIT_FAILURE;
    }
    ok = run_all(&a);
    ok &= io_close_image() >= 0;
    g_ptr_array_unref(a.commands);
    ok &= io_end_output();
    stop_raise();
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
