/* SPDX-License-Identifier: MIT */
/*
 * firn-vmstate: looks into the snapshots of any QEMU-family VMM. This file
 * finds the subcommand; each has a file of its own.
 */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "tools/tool-common.h"
#include "util/nearest.h"

static const ToolCommand *const commands[] = {
    &tool_list, &tool_show, &tool_extract, &tool_dump_ram, &tool_verify,
};

static void print_usage(FILE *f)
{
    unsigned i;

    fputs("Usage: firn-vmstate COMMAND IMAGE [TAG] [OPTIONS]\n\n"
          "Reads the machine states that are kept in internal snapshots of\n"
          "qcow2 images. TAG is the snapshot's id or name.\n\n", f);
    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(f, "  %-9s %s\n", commands[i]->name, commands[i]->synopsis);
    }
    fputs("\n  -h, --help     this text; 'firn-vmstate COMMAND --help' has "
          "the options\n"
          "  -V, --version  the version\n\n"
          "Exit status: 0 success, 1 failure, 2 wrong usage.\n"
          "Example:\n  firn-vmstate list disk.qcow2\n", f);
}

static const ToolCommand *find_command(const char *name)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(commands[i]->name, name)) {
            return commands[i];
        }
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    g_autofree char *hint = NULL;
    Nearest n;
    unsigned i;

    nearest_init(&n, name);
    nearest_offer(&n, "--help");
    nearest_offer(&n, "--version");
    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        nearest_offer(&n, commands[i]->name);
    }
    hint = nearest_hint(&n, "", "; 'firn-vmstate --help' lists them");
    tool_error("there is no %s '%s'%s", *name == '-' ? "option" : "command",
               name, hint);
    return TOOL_USAGE;
}

int main(int argc, char **argv)
{
    const ToolCommand *command;
    ToolArgs args;
    int code;

    setlocale(LC_ALL, "");
    if (argc < 2) {
        print_usage(stderr);
        return TOOL_USAGE;
    }
    if (g_str_equal(argv[1], "-h") || g_str_equal(argv[1], "--help")) {
        print_usage(stdout);
        return TOOL_OK;
    }
    if (g_str_equal(argv[1], "-V") || g_str_equal(argv[1], "--version")) {
        printf("firn-vmstate %s\n", FIRN_VERSION);
        return TOOL_OK;
    }
    command = find_command(argv[1]);
    if (!command) {
        return unknown_command(argv[1]);
    }
    argv[1] = argv[0];
    code = tool_parse(command, argc - 1, argv + 1, &args);
    if (code < 0) {
        code = command->run(&args);
        if (fflush(stdout) != 0 && code == TOOL_OK) {
            tool_error("standard output: %s", g_strerror(errno));
            code = TOOL_FAILED;
        }
    }
    return code;
}
