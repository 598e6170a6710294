/* SPDX-License-Identifier: MIT */
/* Signals that ask a tool to stop; everything in the handler may be there. */
#include "tools/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} signals[] = {
    { SIGINT, "SIGINT" },
    { SIGTERM, "SIGTERM" },
    { SIGHUP, "SIGHUP" },
};

static AioContext *stop_ctx;
static volatile sig_atomic_t came;
static int null_fd = -1;

/* Let the next one, or raise(), do what it does to other programs. */
static void restore_default(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        signal(signals[i].number, SIG_DFL);
    }
}

static void on_signal(int sig)
{
    int saved_errno = errno;

    came = sig;
    restore_default();
    if (null_fd >= 0) {
        dup2(null_fd, STDIN_FILENO);
    }
    aio_stop(stop_ctx);
    errno = saved_errno;
}

void stop_on_signals(AioContext *ctx)
{
    /* No SA_RESTART: a read that waits for input is to end. */
    struct sigaction action = { .sa_handler = on_signal };

    stop_ctx = ctx;
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaddset(&action.sa_mask, signals[i].number);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        struct sigaction old;

        sigaction(signals[i].number, NULL, &old);
        if (old.sa_handler != SIG_IGN) {
            sigaction(signals[i].number, &action, NULL);
        }
    }
}

int stop_signal(void)
{
    return came;
}

const char *stop_signal_name(void)
{
    size_t i = 0;

    while (i + 1 < G_N_ELEMENTS(signals) && signals[i].number != came) {
        i++;
    }
    return signals[i].name;
}

void stop_raise(void)
{
    if (came) {
        fflush(stdout);
        restore_default();
        raise(came);
    }
}

void stop_ends_input(void)
{
    null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}
