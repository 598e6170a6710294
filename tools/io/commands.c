/* SPDX-License-Identifier: MIT */
/*
 * Finding and running commands: a line is words separated by blanks, the first
 * one a command. There is no quoting: a name can be json:{"driver":...}.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <string.h>

#include "util/nearest.h"

IoSession io;

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
    static const IoCommand *last; /* many lines begin like the one before */

    if (last && strcmp(last->name, name) == 0) {
        return last;
    }
    if (!names) {
        names = make_names();
    }
    last = g_hash_table_lookup(names, name);
    return last;
}

int io_usage(const IoCommand *command)
{
    io_print("%s%s%s -- %s\n", command->name, *command->args ? " " : "",
             command->args, command->what);
    return -EINVAL;
}

int io_bad_usage(const char *name)
{
    return io_usage(io_find_command(name));
}

int io_bad_flag(const char *name, char letter, const char *letters)
{
    g_autofree char *mistake = nearest_letter_mistake(letter, letters, "");

    io_sync_output();
    fprintf(stderr, "%s: %s\n", name, mistake);
    return io_bad_usage(name);
}

static char *no_such_command(const char *name)
{
    g_autofree char *hint = NULL;
    Nearest n;
    const IoCommand *c;

    nearest_init(&n, name);
    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        nearest_offer(&n, c->name);
    }
    hint = nearest_hint(&n, "", "; 'help' lists them");
    return g_strdup_printf("there is no command '%.*s%s'%s\n", SHOWN, name,
                           strlen(name) > SHOWN ? "..." : "", hint);
}

static int unknown_command(const char *name)
{
    g_autofree char *text = no_such_command(name);

    io_sync_output();
    fputs(text, stderr);
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
    return c->run(argc, argv);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

int io_run_line(char *line)
{
    static char **words; /* kept: commands do not run lines */
    static int room;
    int n = 0;

    for (;;) {
        while (is_blank(*line)) {
            line++;
        }
        if (n == room) {
            room = 2 * room + 8;
            words = g_renew(char *, words, room);
        }
        if (!*line) {
            words[n] = NULL;
            return n > 0 ? run_words(n, words) : 0;
        }
        words[n++] = line;
        while ((unsigned char)*line > ' ' || (*line && !is_blank(*line))) {
            line++;
        }
        if (*line) {
            *line++ = '\0';
        }
    }
}

static int cmd_help(int argc, char **argv)
{
    const IoCommand *c;

    if (argc == 2) {
        c = io_find_command(argv[1]);
        if (!c) {
            g_autofree char *text = no_such_command(argv[1]);

            io_print("%s", text);
            return -EINVAL;
        }
        io_usage(c);
        if (c->more) {
            io_print("\n%s\n", c->more);
        } else {
            io_print("\nExample: %s\n\n", c->name);
        }
        return 0;
    }
    for (unsigned i = 0; (c = io_nth_command(i)) != NULL; i++) {
        io_usage(c);
    }
    io_print("\n'help COMMAND' tells more about one.\n");
    return 0;
}

const IoCommand io_help_commands[] = {
    { "help", "?", cmd_help, 0, 1, false, false, "[command]",
      "what commands there are, or all about one",
      "Example: help read\n" },
    { 0 },
};
