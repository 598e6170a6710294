/* SPDX-License-Identifier: MIT */
/*
 * firn-vmm: a machine with a built-in guest, to save and restore with firn.
 *
 * It rests on the library's installed face alone and so shows that the face
 * is enough to build a virtual machine monitor on.
 */
#include <stdio.h>

#include "machine.h"
#include "monitor.h"
#include "options.h"

static int fail(GError *err)
{
    fflush(stdout);
    fprintf(stderr, "firn-vmm: %s\n", err->message);
    g_error_free(err);
    return EXIT_FAILED;
}

/* Boot or load, then obey the monitor. Returns the exit code. */
static int run(Machine *m, const Options *opts)
{
    GError *err = NULL;
    Monitor *mon = monitor_new(m, opts, &err);
    int ret = 0;

    if (!mon) {
        return fail(err);
    }
    if (opts->loadvm) {
        ret = monitor_load_first(mon, opts->loadvm, &err);
        if (ret < 0) {
            g_prefix_error(&err, "loadvm: ");
        }
    }
    if (ret == 0) {
        if (!opts->paused) {
            machine_cont(m);
        }
        monitor_run(mon);
    }
    monitor_free(mon);
    return ret < 0 ? fail(err) : EXIT_OK;
}

int main(int argc, char **argv)
{
    GError *err = NULL;
    Options opts;
    Machine *m;
    int code;

    monitor_block_signals();
    code = options_parse(&opts, argc, argv);
    if (code < 0) {
        m = machine_new(&opts, &err);
        code = m ? run(m, &opts) : fail(err);
        if (m && machine_free(m, &err) < 0) {
            code = fail(err);
        }
    }
    options_cleanup(&opts);
    return code;
}
