/* SPDX-License-Identifier: MIT */
/*
 * firn-img: makes, shows, checks and converts disk images; takes the command
 * lines of qemu-img. This file reads the options before the subcommand.
 */
#include "tools/img/common.h"
#include "tools/memory.h"

#include <locale.h>
#include <signal.h>

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "trace", required_argument, NULL, 'T' },
        { 0 },
    };
    int c;

    img_progress_listen();
    tool_keep_memory();
    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C");
    signal(SIGPIPE, SIG_IGN);
    while ((c = img_getopt(argc, argv, "+:hVT:", options)) != -1) {
        if (c == '?') {
            return 1;
        }
        if (c == 'V') {
            printf("firn-img version %s\n", FIRN_VERSION);
            return img_end_output(0);
        }
        /* -T: there is nothing to trace, but scripts may ask. */
    }
    if (optind >= argc) {
        return img_error("no command; 'firn-img --help' lists them");
    }
    return img_end_output(img_run_command(argc - optind, argv + optind));
}
