/* SPDX-License-Identifier: MIT */
/*
 * Lines of standard input, after a prompt. On a terminal they can be edited
 * and have a history, kept in ~/.firn-io_history, when the library for that is
 * there.
 */
#include "tools/io/io.h"

#include <stdlib.h>
#include <unistd.h>

#if defined(HAVE_LIBEDIT)
#include <editline/readline.h>
#elif defined(HAVE_READLINE)
#include <readline/history.h>
#include <readline/readline.h>
#endif

static char *read_plain(const char *prompt)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    fputs(prompt, stdout);
    fflush(stdout);
    n = getline(&line, &size, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    if (n > 0 && line[n - 1] == '\n') {
        line[n - 1] = '\0';
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

static char *read_edited(const char *prompt)
{
    static bool initialized;
    char *line;

    if (!initialized) {
        g_autofree char *path = history_path();

        using_history();
        stifle_history(MAX_HISTORY);
        read_history(path);
        atexit(save_history);
        initialized = true;
    }
    line = readline(prompt);
    if (line && *line) {
        add_history(line);
    }
    return line;
}
#else
#define read_edited read_plain
#endif

char *io_read_line(void)
{
    g_autofree char *prompt = g_strdup_printf("%s> ", io.program);

    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
        return read_edited(prompt);
    }
    return read_plain(prompt);
}
