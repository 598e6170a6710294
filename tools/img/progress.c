/* SPDX-License-Identifier: MIT */
/*
 * Progress: "    (12.34/100%)" and a carriage return, as scripts expect it,
 * whenever the number has changed; on a terminal rate and time left follow.
 * SIGUSR1 shows it once, also without -p, on standard error then.
 */
#include "tools/img/common.h"

#include <signal.h>
#include <unistd.h>

#include "util/aio.h"
#include "util/progress.h"

static bool enabled;
static bool on_terminal;
static double shown;
static Progress state;
static volatile sig_atomic_t wanted;

static void on_signal(int sig)
{
    wanted = 1;
}

void img_progress_start(bool on)
{
    struct sigaction action = { .sa_handler = on_signal,
                                .sa_flags = SA_RESTART };

    enabled = on;
    on_terminal = isatty(STDOUT_FILENO);
    shown = 0;
    progress_init(&state, 0, aio_now_ns());
    sigaction(SIGUSR1, &action, NULL);
    if (enabled) {
        fputs("    (0.00/100%)\r", stdout);
        fflush(stdout);
    }
}

static void show(FILE *f, double percent, bool more)
{
    fprintf(f, "    (%3.2f/100%%)", percent);
    if (more) {
        int64_t now = aio_now_ns(), eta = progress_eta_seconds(&state, now);
        g_autofree char *rate = img_size_text(progress_rate(&state, now));

        fprintf(f, "  %s/s", rate);
        if (eta >= 0) {
            fprintf(f, "  ETA %d:%02d  ", (int)(eta / 60), (int)(eta % 60));
        }
    }
    fputc(f == stdout ? '\r' : '\n', f);
    fflush(f);
}

void img_progress(uint64_t done, uint64_t total, void *opaque)
{
    double percent = total ? 100.0 * ((double)done / (double)total) : 100;

    progress_set_total(&state, total);
    progress_update(&state, done, aio_now_ns());
    if (enabled && percent >= shown + 1) {
        shown = percent;
        show(stdout, percent, on_terminal);
    }
    if (wanted) {
        wanted = 0;
        show(stderr, percent, false);
    }
}

void img_progress_end(bool done)
{
    if (enabled && done) {
        show(stdout, 100, false);
    }
    if (enabled) {
        fputc('\n', stdout);
        fflush(stdout);
    }
    enabled = false;
}
