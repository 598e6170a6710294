/* SPDX-License-Identifier: MIT */
/*
 * Lines of standard input, after a prompt. On a terminal they can be edited,
 * have a history, kept in ~/.firn-io_history, and Tab completes names of
 * commands and, for open, of files, when the library for that is there.
 *
 * Otherwise they are cut out of a buffer. What was printed goes out before
 * more has to be read, so that whoever sends a line after the answer to the
 * last one gets that answer, while a file of commands costs few writes.
 */
#include "tools/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(HAVE_LIBEDIT)
#include <editline/readline.h>
#elif defined(HAVE_READLINE)
#include <readline/history.h>
#include <readline/readline.h>
#endif

#define CHUNK 65536u
#define MAX_LINE (1u << 20)

static struct {
    char *data;
    size_t size;          /* of the memory */
    size_t start, end;    /* what was read and not taken yet */
    bool at_end;
} input;

/* More of standard input behind what is there. */
static void fill_input(void)
{
    ssize_t n;

    if (input.start > 0) {
        memmove(input.data, input.data + input.start,
                input.end - input.start);
        input.end -= input.start;
        input.start = 0;
    }
    if (input.size - input.end <= CHUNK) {
        input.size = input.end + 2 * CHUNK;
        input.data = g_realloc(input.data, input.size);
    }
    io_flush_output();
    do {
        n = read(STDIN_FILENO, input.data + input.end, CHUNK);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        input.end += (size_t)n;
    } else {
        input.at_end = true;
    }
}

/* The next line, or NULL; *@too_long when it is cut. */
static char *take_line(bool *too_long)
{
    size_t searched = 0;

    *too_long = false;
    for (;;) {
        size_t length = input.end - input.start;
        char *from = input.data + input.start;
        char *end = length > searched ?
            memchr(from + searched, '\n', length - searched) : NULL;

        if (end) {
            input.start += (size_t)(end - from) + 1;
            *end = '\0';
            return from;
        }
        if (input.at_end) {
            if (length > 0 || *too_long) {
                input.start = input.end;
                from[length] = '\0'; /* fill_input() has left room */
                return from;
            }
            return NULL;
        }
        searched = length;
        if (length > MAX_LINE) {
            *too_long = true;
            input.end = input.start; /* forget what it was */
            searched = 0;
        }
        fill_input();
    }
}

static char *read_plain(const char *prompt, size_t length)
{
    char *line;
    bool too_long;

    io_put(prompt, length);
    while ((line = take_line(&too_long)) != NULL && too_long) {
        io_error("a line is longer than %u bytes", MAX_LINE);
        io.failed = true;
        io_put(prompt, length);
    }
    return line;
}

#if defined(HAVE_LIBEDIT) || defined(HAVE_READLINE)
#define MAX_HISTORY 1000

static char *history_path(void)
{
    return g_build_filename(g_get_home_dir(), ".firn-io_history", NULL);
}

static void save_history(void)
{
    g_autofree char *path = history_path();

    write_history(path); /* a history that cannot be kept is no failure */
}

/* The next name of a command that begins with @text; all anew at @state 0. */
static char *next_name(const char *text, int state)
{
    static unsigned next;
    const IoCommand *c;

    if (state == 0) {
        next = 0;
    }
    while ((c = io_nth_command(next++)) != NULL) {
        if (g_str_has_prefix(c->name, text)) {
            return strdup(c->name); /* freed by the library */
        }
    }
    return NULL;
}

/* Candidates for the word that begins at @start of the line. */
static char **complete(const char *text, int start, int end)
{
    g_autofree char *before = g_strndup(rl_line_buffer, (gsize)start);
    const char *command = g_strstrip(before);

    if (!*command || strcmp(command, "help") == 0 ||
        strcmp(command, "?") == 0) {
        rl_attempted_completion_over = 1;
        return rl_completion_matches(text, next_name);
    }
    /* Files are offered by the library itself unless we say no. */
    rl_attempted_completion_over = !g_str_has_prefix(command, "open") &&
                                   !g_str_has_prefix(command, "o ") &&
                                   strcmp(command, "o") != 0 &&
                                   !g_str_has_suffix(command, " -s");
    return NULL;
}

static void start_editing(void)
{
    g_autofree char *path = history_path();

    rl_readline_name = "firn-io";
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(MAX_HISTORY);
    read_history(path);
    atexit(save_history);
}

static char *read_edited(const char *prompt)
{
    static bool started;
    static char *line, *last;

    if (!started) {
        start_editing();
        started = true;
    }
    io_flush_output();
    free(line);
    line = readline(prompt);
    /* A line that is repeated is kept once. */
    if (line && *line && g_strcmp0(line, last) != 0) {
        add_history(line);
        g_free(last);
        last = g_strdup(line); /* the other one will be cut up */
    }
    return line;
}
#else
static char *read_edited(const char *prompt)
{
    return read_plain(prompt, strlen(prompt));
}
#endif

char *io_read_line(void)
{
    static char *prompt;
    static size_t length;
    static bool edited;

    if (!prompt) {
        prompt = g_strdup_printf("%s> ", io.program);
        length = strlen(prompt);
        edited = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    }
    return edited ? read_edited(prompt) : read_plain(prompt, length);
}
