/* SPDX-License-Identifier: MIT */
/* Finding and running a subcommand; each has its own file. */
#include "tools/img/common.h"
#include "tools/stop.h"
#include "util/nearest.h"

static const struct {
    const char *name;
    ImgCommandFunc *run;
} commands[] = {
    { "amend", img_amend },
    { "bench", img_bench },
    { "bitmap", img_bitmap },
    { "check", img_check },
    { "commit", img_commit },
    { "compare", img_compare },
    { "convert", img_convert },
    { "create", img_create },
    { "dd", img_dd },
    { "info", img_info },
    { "map", img_map },
    { "measure", img_measure },
    { "rebase", img_rebase },
    { "resize", img_resize },
    { "snapshot", img_snapshot },
};

bool img_is_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, name)) {
            return true;
        }
    }
    return false;
}

static int unknown_command(const char *name)
{
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, name);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        nearest_offer(&n, commands[i].name);
    }
    hint = nearest_hint(&n, "", "; 'firn-img --help' lists them");
    return img_error("there is no command '%s'%s", name, hint);
}

int img_use_backend(AioBackend backend)
{
    AioContext *old = img_ctx, *ctx;
    GError *err = NULL;

    ctx = aio_context_new(backend, &err);
    if (!ctx) {
        return img_fail(&err, -EIO);
    }
    img_ctx = ctx;
    aio_set_current(ctx);
    stop_on_signals(ctx);
    if (stop_signal()) {
        aio_stop(ctx);
    }
    if (old) {
        aio_context_unref(old);
    }
    return 0;
}

int img_run_command(int argc, char **argv)
{
    int status;

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[0], commands[i].name)) {
            continue;
        }
        if (img_use_backend(AIO_BACKEND_AUTO)) {
            return 1;
        }
        optind = 0; /* forget the options before the command */
        status = commands[i].run(argc, argv);
        img_tell_stopped(argv[0], status == 0);
        stop_raise();
        return status; /* the context stays: a signal may still come */
    }
    return unknown_command(argv[0]);
}
