/* SPDX-License-Identifier: MIT */
/*
 * Finding and running commands: a line is words separated by blanks, the first
 * one a command. There is no quoting: a name can be json:{"driver":...}.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/nearest.h"

static const IoCommand *const lists[] = {
    io_read_commands, io_write_commands, io_aio_commands, io_map_commands,
    io_image_commands, io_debug_commands, io_open_commands,
    io_process_commands, io_help_commands,
};

static gint by_name(gconstpointer a, gconstpointer b)
{
    const IoCommand *const *left = a, *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

const IoCommand *io_nth_command(unsigned i)
{
    static GPtrArray *sorted;

    if (!sorted) {
        sorted = g_ptr_array_new();
        for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
            for (const IoCommand *c = lists[l]; c->name; c++) {
                g_ptr_array_add(sorted, (gpointer)c);
            }
        }
        g_ptr_array_sort(sorted, by_name);
    }
    return i < sorted->len ? g_ptr_array_index(sorted, i) : NULL;
}

const IoCommand *io_find_command(const char *name)
{
    const IoCommand *c;

    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        if (strcmp(c->name, name) == 0 ||
            (c->alt && strcmp(c->alt, name) == 0)) {
            return c;
        }
    }
    return NULL;
}

int io_usage(const IoCommand *command)
{
    printf("%s%s%s -- %s\n", command->name, *command->args ? " " : "",
           command->args, command->what);
    return -EINVAL;
}

int io_bad_usage(const char *name)
{
    return io_usage(io_find_command(name));
}

static int unknown_command(const char *name)
{
    g_autofree char *hint = NULL;
    Nearest n;
    const IoCommand *c;

    nearest_init(&n, name);
    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        nearest_offer(&n, c->name);
    }
    hint = nearest_hint(&n, "", "; 'help' lists them");
    fprintf(stderr, "there is no command '%s'%s\n", name, hint);
    return -EINVAL;
}

static int check_count(const IoCommand *c, int args)
{
    if (args >= c->min_args && (c->max_args < 0 || args <= c->max_args)) {
        return 0;
    }
    fprintf(stderr, "%s has %d argument%s; it wants ", c->name, args,
            args == 1 ? "" : "s");
    if (c->max_args < 0) {
        fprintf(stderr, "%d or more\n", c->min_args);
    } else if (c->max_args == c->min_args) {
        fprintf(stderr, "%d\n", c->min_args);
    } else {
        fprintf(stderr, "%d to %d\n", c->min_args, c->max_args);
    }
    return -EINVAL;
}

static int run_words(int argc, char **argv)
{
    const IoCommand *c = io_find_command(argv[0]);
    int ret;

    if (!c) {
        return unknown_command(argv[0]);
    }
    if (c->needs_image && !io.blk) {
        fprintf(stderr, "%s: no image is open; 'open FILE' opens one\n",
                c->name);
        return -EINVAL;
    }
    ret = check_count(c, argc - 1);
    if (ret < 0) {
        return ret;
    }
    if (c->writes && io.blk && blk_is_read_only(io.blk)) {
        io_error("%s: '%s' is open read-only", c->name,
                 bdrv_get_filename(blk_bs(io.blk)));
        return -EROFS;
    }
    optind = 0; /* getopt() starts anew */
    return c->run(argc, argv);
}

int io_run_line(const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t", -1);
    int argc = 0;

    for (unsigned i = 0; words[i]; i++) {
        char *word = words[i];

        words[i] = NULL;
        if (*word) {
            words[argc++] = word;
        } else {
            g_free(word);
        }
    }
    return argc > 0 ? run_words(argc, words) : 0;
}

static int cmd_help(int argc, char **argv)
{
    const IoCommand *c;

    if (argc == 2) {
        c = io_find_command(argv[1]);
        if (!c) {
            printf("there is no command '%s'\n", argv[1]);
            return -EINVAL;
        }
        io_usage(c);
        if (c->more) {
            printf("\n%s\n", c->more);
        }
        return 0;
    }
    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        io_usage(c);
    }
    printf("\n'help COMMAND' tells more about one.\n");
    return 0;
}

const IoCommand io_help_commands[] = {
    { "help", "?", cmd_help, 0, 1, false, false, "[command]",
      "what commands there are, or all about one", NULL },
    { 0 },
};
