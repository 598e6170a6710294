/* SPDX-License-Identifier: MIT */
/* Commands on the process itself: how it waits and how it ends. */
#include "tools/io/io.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

static bool parse_int(const char *text, int *ret)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 0);
    if (end == text || *end || errno || value < 0 || value > INT32_MAX) {
        io_print("'%s' is no number from 0 on\n", text);
        return false;
    }
    *ret = (int)value;
    return true;
}

static void set_true(void *opaque)
{
    *(bool *)opaque = true;
}

static int cmd_sleep(int argc, char **argv)
{
    bool over = false;
    AioTimer *timer;
    int ms;

    if (!parse_int(argv[1], &ms)) {
        return -EINVAL;
    }
    timer = aio_timer_new(io.ctx, set_true, &over);
    aio_timer_mod(timer, aio_now_ns() + (int64_t)ms * 1000000);
    AIO_WAIT_WHILE(io.ctx, !over && !aio_stopping(io.ctx));
    aio_timer_free(timer);
    return aio_check_stop();
}

static int cmd_sigraise(int argc, char **argv)
{
    struct sigaction now;
    uint64_t number;
    int sig;

    if (!io_parse_number(argv[1], &number)) {
        return -EINVAL;
    }
    if (number > NSIG) { /* which is one more than there are, as it was ever */
        io_print("'%s' is no signal: there are 1 to %d\n", argv[1], SIGRTMAX);
        return -EINVAL;
    }
    sig = (int)number;
    io_flush_output(); /* what was reported so far is not lost */
    if (sigaction(sig, NULL, &now) == 0 && now.sa_handler != SIG_IGN) {
        signal(sig, SIG_DFL); /* as kill -9: nothing is closed before */
    }
    raise(sig);
    return 0;
}

static int cmd_abort(int argc, char **argv)
{
    io_sync_output();
    abort();
}

static int cmd_quit(int argc, char **argv)
{
    io.quit = true;
    return 0;
}

const IoCommand io_process_commands[] = {
    { "abort", NULL, cmd_abort, 0, 0, false, false, "",
      "crash at once", NULL },
    { "sleep", NULL, cmd_sleep, 1, 1, false, false, "milliseconds",
      "wait, while requests go on", "Example: sleep 100\n" },
    { "sigraise", NULL, cmd_sigraise, 1, 1, false, false, "signal",
      "send this process a signal, by number",
      "Example: sigraise 9\n" },
    { "quit", "q", cmd_quit, 0, -1, false, false, "", "end", NULL },
    { 0 },
};
