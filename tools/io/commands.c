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

/* Of a longer word this much is repeated. */
#define SHOWN 64

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

static GHashTable *make_names(void)
{
    GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);
    const IoCommand *c;

    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        g_hash_table_insert(names, (gpointer)c->name, (gpointer)c);
        if (c->alt) {
            g_hash_table_insert(names, (gpointer)c->alt, (gpointer)c);
        }
    }
    return names;
}

const IoCommand *io_find_command(const char *name)
{
    static GHashTable *names;

    if (!names) {
        names = make_names();
    }
    return g_hash_table_lookup(names, name);
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

int io_bad_flag(const char *name)
{
    io_sync_output();
    fprintf(stderr, "%s: there is no flag -%c, or it lacks its argument\n",
            name, optopt);
    return io_bad_usage(name);
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
    io_sync_output();
    fprintf(stderr, "there is no command '%.*s%s'%s\n", SHOWN, name,
            strlen(name) > SHOWN ? "..." : "", hint);
    return -EINVAL;
}

static int check_count(const IoCommand *c, int args)
{
    if (args >= c->min_args && (c->max_args < 0 || args <= c->max_args)) {
        return 0;
    }
    io_sync_output();
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
        io_sync_output();
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
    opterr = 0; /* io_bad_flag() tells */
    return c->run(argc, argv);
}

int io_run_line(const char *line)
{
    static GPtrArray *words; /* kept: commands do not run lines */
    g_autofree char *text = g_strdup(line);
    char *rest = NULL;

    if (!words) {
        words = g_ptr_array_new();
    }
    g_ptr_array_set_size(words, 0);
    for (char *word = strtok_r(text, " \t", &rest); word;
         word = strtok_r(NULL, " \t", &rest)) {
        g_ptr_array_add(words, word);
    }
    if (words->len == 0) {
        return 0;
    }
    g_ptr_array_add(words, NULL);
    return run_words((int)words->len - 1, (char **)words->pdata);
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
        } else {
            printf("\nExample: %s\n\n", c->name);
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
      "what commands there are, or all about one",
      "Example: help read\n" },
    { 0 },
};
