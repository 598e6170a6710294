/* SPDX-License-Identifier: MIT */
/*
 * Progress: "    (12.34/100%)" and a carriage return, as scripts expect it,
 * whenever a percent more is done. A terminal gets rate and time left, too, as
 * far as they fit in its line, some times a second. SIGUSR1 shows it once, also
 * without -p, on standard error then; commands that show none outlive it, so
 * that one who asks need not know which ones do.
 */
#include "tools/img/common.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/aio.h"
#include "util/progress.h"

#define TERMINAL_NS (200 * 1000 * 1000)

static bool enabled;
static bool on_terminal;
static double shown;
static int64_t shown_ns;
static size_t shown_width;
static Progress state;
static volatile sig_atomic_t wanted;

static void on_signal(int sig)
{
    wanted = 1;
}

/* One that is shorter than the last covers it. */
static void show_line(GString *line)
{
    size_t width = line->len;

    while (on_terminal && line->len < shown_width) {
        g_string_append_c(line, ' ');
    }
    shown_width = width;
    printf("%s\r", line->str);
    fflush(stdout);
}

void img_progress_clear(void)
{
    if (shown_width > 0 && on_terminal) {
        printf("%*s\r", (int)shown_width, "");
        fflush(stdout);
        shown_width = 0;
    }
}

/* Add @text where it leaves the cursor in the line: carriage return goes no
 * further back than the start of a line that was wrapped. */
static void add_if_fits(GString *line, size_t columns, const char *text)
{
    if (line->len + strlen(text) < columns) {
        g_string_append(line, text);
    }
}

static size_t terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0
        ? size.ws_col : 80;
}

static void show(double percent, bool more)
{
    g_autoptr(GString) line = g_string_new(NULL);
    int64_t now = aio_now_ns(), eta = progress_eta_seconds(&state, now);

    g_string_printf(line, "    (%3.2f/100%%)", percent);
    if (more) {
        size_t columns = terminal_columns();
        g_autofree char *size = img_size_text(progress_rate(&state, now));
        g_autofree char *rate = g_strdup_printf("  %s/s", size);
        g_autofree char *left = g_strdup_printf("  ETA %" PRId64 ":%02d",
                                                eta / 60, (int)(eta % 60));

        add_if_fits(line, columns, rate);
        add_if_fits(line, columns, eta >= 0 ? left : "");
    }
    shown = percent;
    shown_ns = now;
    show_line(line);
}

void img_progress_listen(void)
{
    struct sigaction action = { .sa_handler = on_signal,
                                .sa_flags = SA_RESTART };

    sigaction(SIGUSR1, &action, NULL);
}

void img_progress_start(bool on)
{
    enabled = on;
    on_terminal = isatty(STDOUT_FILENO);
    shown_width = 0;
    progress_init(&state, 0, aio_now_ns());
    if (enabled) {
        show(0, false);
    }
}

void img_progress(uint64_t done, uint64_t total, void *opaque)
{
    double percent = total ? 100.0 * ((double)done / (double)total) : 100;
    int64_t now = aio_now_ns();

    progress_set_total(&state, total);
    progress_update(&state, done, now);
    if (enabled && (percent >= shown + 1 ||
                    (on_terminal && now - shown_ns >= TERMINAL_NS))) {
        show(percent, on_terminal);
    }
    if (wanted) {
        wanted = 0;
        img_progress_clear();
        fprintf(stderr, "    (%3.2f/100%%)\n", percent);
    }
}

void img_progress_end(bool done)
{
    if (enabled && done) {
        show(100, false);
    }
    if (enabled) {
        fputc('\n', stdout);
        fflush(stdout);
    }
    enabled = false;
}
