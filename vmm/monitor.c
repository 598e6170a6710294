/* SPDX-License-Identifier: MIT */
/*
 * The monitor's loop and its commands.
 *
 * One thread, one poll(2): standard input, a signalfd, and an eventfd on
 * which a save or load that runs on the context's thread tells of its
 * progress and end. While one runs, input waits; SIGINT and SIGTERM cancel
 * it, and SIGTERM quits afterwards.
 */
#include "monitor.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "nearest.h"

enum {
    MAX_LINE_BYTES = 4096,
    BAR_WIDTH = 30,
};

/* A save or load that is under way. */
typedef struct Operation {
    pthread_mutex_t lock;
    FirnProgress progress;  /* lock: the latest */
    bool over;              /* lock; the rest is const once it is true */
    int ret;
    FirnVmResult result;
    GError *err;
} Operation;

struct Monitor {
    Machine *m;
    FirnVmstateParams params; /* workers, chunk_bytes, no_readahead */
    Operation op;
    int signal_fd;
    int event_fd;           /* the operation has news */
    bool show_bar;          /* standard error is a terminal */
    bool show_prompt;       /* standard input is a terminal */
    bool quit;
    GString *input;         /* read and not yet obeyed */
    bool input_ended;
};

/* ---- Making and freeing ---- */

static void signal_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

void monitor_block_signals(void)
{
    sigset_t set;

    signal_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

Monitor *monitor_new(Machine *m, const Options *opts, GError **errp)
{
    Monitor *mon = g_new0(Monitor, 1);
    sigset_t set;

    signal_set(&set);
    mon->m = m;
    mon->params.workers = opts->workers;
    mon->params.chunk_bytes = opts->chunk_bytes;
    mon->params.no_readahead = opts->no_readahead;
    mon->show_bar = isatty(STDERR_FILENO);
    mon->show_prompt = isatty(STDIN_FILENO);
    mon->input = g_string_new(NULL);
    pthread_mutex_init(&mon->op.lock, NULL);
    mon->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    mon->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mon->signal_fd < 0 || mon->event_fd < 0) {
        int err = errno;

        vmm_error(errp, -err, "no descriptors: %s", g_strerror(err));
        monitor_free(mon);
        return NULL;
    }
    return mon;
}

void monitor_free(Monitor *mon)
{
    if (!mon) {
        return;
    }
    if (mon->signal_fd >= 0) {
        close(mon->signal_fd);
    }
    if (mon->event_fd >= 0) {
        close(mon->event_fd);
    }
    pthread_mutex_destroy(&mon->op.lock);
    g_string_free(mon->input, TRUE);
    g_free(mon);
}

/* ---- Saving and loading ---- */

static void notify(Monitor *mon)
{
    /* Can only fail when 2^64 - 2 notes wait, and then one more is no news. */
    eventfd_write(mon->event_fd, 1);
}

/* On the context's thread, as the next one. */
static void on_progress(const FirnProgress *progress, void *opaque)
{
    Monitor *mon = opaque;

    pthread_mutex_lock(&mon->op.lock);
    mon->op.progress = *progress;
    pthread_mutex_unlock(&mon->op.lock);
    if (mon->show_bar) {
        notify(mon);
    }
}

static void on_done(void *opaque, int ret, const FirnVmResult *result,
                    const GError *error)
{
    Monitor *mon = opaque;

    pthread_mutex_lock(&mon->op.lock);
    mon->op.ret = ret;
    if (result) {
        mon->op.result = *result;
    }
    mon->op.err = error ? g_error_copy(error) : NULL;
    mon->op.over = true;
    pthread_mutex_unlock(&mon->op.lock);
    notify(mon);
}

static void draw_bar(const FirnProgress *p)
{
    char bar[BAR_WIDTH + 1];
    double part = p->total ? (double)p->done / (double)p->total : 0;
    int filled = (int)(BAR_WIDTH * MIN(part, 1.0));

    memset(bar, ' ', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %3.0f%% %6.0f MB/s", bar, 100 * MIN(part, 1.0),
            p->bytes_per_s / 1e6);
    if (p->eta_s >= 0) {
        fprintf(stderr, " %4.0f s left", p->eta_s);
    }
    fputs("\033[K", stderr);
    fflush(stderr);
}

static void erase_bar(void)
{
    fputs("\r\033[K", stderr);
    fflush(stderr);
}

/* A signal came: what it means during an operation, and outside of one. */
static void take_signal(Monitor *mon, bool in_operation)
{
    struct signalfd_siginfo info;

    while (read(mon->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (in_operation) {
            firn_machine_cancel(mon->m->firn);
        }
        if (!in_operation || info.ssi_signo == SIGTERM) {
            mon->quit = true;
        }
    }
}

/* Wait for the end of the operation that was started. */
static int wait_for_operation(Monitor *mon)
{
    struct pollfd fds[] = {
        { .fd = mon->event_fd, .events = POLLIN },
        { .fd = mon->signal_fd, .events = POLLIN },
    };
    FirnProgress progress;
    eventfd_t news;
    bool over = false;

    do {
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
            continue;
        }
        if (fds[1].revents) {
            take_signal(mon, true);
        }
        eventfd_read(mon->event_fd, &news);
        pthread_mutex_lock(&mon->op.lock);
        over = mon->op.over;
        progress = mon->op.progress;
        pthread_mutex_unlock(&mon->op.lock);
        if (mon->show_bar && !over) {
            draw_bar(&progress);
        }
    } while (!over);
    if (mon->show_bar) {
        erase_bar();
    }
    return mon->op.ret;
}

typedef int StartFunc(FirnMachine *, const char *, const FirnVmstateParams *,
                      FirnVmDoneFunc *, void *, GError **);

/* Run a save or load to its end and print what it did. */
static int run_operation(Monitor *mon, const char *command, StartFunc *start,
                         const char *tag, bool fresh_ram, GError **errp)
{
    FirnVmstateParams params = mon->params;
    double seconds;
    int ret;

    params.fresh_ram = fresh_ram;
    params.progress = on_progress;
    params.opaque = mon;
    mon->op.over = false;
    mon->op.err = NULL;
    mon->op.progress = (FirnProgress) { .eta_s = -1 };
    ret = start(mon->m->firn, tag, &params, on_done, mon, errp);
    if (ret < 0) {
        return ret;
    }
    ret = wait_for_operation(mon);
    if (ret < 0) {
        g_propagate_error(errp, mon->op.err);
        return ret;
    }
    seconds = (double)mon->op.result.elapsed_ns / 1e9;
    printf("%s %s: %" PRIu64 " bytes in %.2f s, %.0f MB/s\n", command, tag,
           mon->op.result.stream_bytes, seconds,
           (double)mon->op.result.stream_bytes / 1e6 / MAX(seconds, 1e-9));
    if (start == firn_machine_loadvm_async) {
        mon->m->has_guest = true;
    }
    return 0;
}

int monitor_load_first(Monitor *mon, const char *tag, GError **errp)
{
    int ret = run_operation(mon, "loadvm", firn_machine_loadvm_async, tag,
                            true, errp);

    fflush(stdout);
    return ret;
}

/* ---- Commands ---- */

/* Returns 0, or -errno with @errp set; obey() answers "ok" or "error: ...". */
typedef int CommandFunc(Monitor *mon, const char *arg, GError **errp);

static int cmd_savevm(Monitor *mon, const char *tag, GError **errp)
{
    return run_operation(mon, "savevm", firn_machine_savevm_async, tag,
                         false, errp);
}

static int cmd_loadvm(Monitor *mon, const char *tag, GError **errp)
{
    return run_operation(mon, "loadvm", firn_machine_loadvm_async, tag,
                         false, errp);
}

static int cmd_delvm(Monitor *mon, const char *tag, GError **errp)
{
    return firn_machine_delvm(mon->m->firn, tag, errp);
}

/* Three significant digits and a binary unit, as other tools show sizes. */
static void format_size(char *buf, size_t len, uint64_t bytes)
{
    static const char *const units[] = {
        "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
    };
    double n = (double)bytes;
    unsigned unit = 0;

    while (n >= 999.5 && unit + 1 < G_N_ELEMENTS(units)) {
        n /= 1024;
        unit++;
    }
    snprintf(buf, len, "%.3g %s", n, units[unit]);
}

static void print_snapshot(const FirnSnapshotInfo *info)
{
    char size[32], date[32] = "", clock_text[48], icount[24] = "";
    time_t seconds = (time_t)info->date_sec;
    uint64_t ms = info->vm_clock_ns / 1000000;
    struct tm tm;

    format_size(size, sizeof(size), info->vm_state_bytes);
    if (localtime_r(&seconds, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    snprintf(clock_text, sizeof(clock_text),
             "%02" PRIu64 ":%02u:%02u.%03u", ms / 3600000,
             (unsigned)(ms / 60000 % 60), (unsigned)(ms / 1000 % 60),
             (unsigned)(ms % 1000));
    if (info->icount != UINT64_MAX) {
        snprintf(icount, sizeof(icount), "%" PRIu64, info->icount);
    }
    printf("%-9s %-16s %8s %19s %12s %10s\n", info->id, info->name, size,
           date, clock_text, icount);
}

static int info_snapshots(Monitor *mon, GError **errp)
{
    g_autoptr(GPtrArray) infos = NULL;
    int ret = firn_machine_list_snapshots(mon->m->firn, &infos, errp);

    if (ret < 0) {
        return ret;
    }
    if (infos->len == 0) {
        puts("There is no snapshot.");
        return 0;
    }
    puts("Snapshot list:");
    printf("%-9s %-16s %8s %19s %12s %10s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (guint i = 0; i < infos->len; i++) {
        print_snapshot(g_ptr_array_index(infos, i));
    }
    return 0;
}

static int info_status(Monitor *mon)
{
    Guest *guest = mon->m->guest;
    bool was_running = guest_is_running(guest);
    GuestInfo info;

    printf("status: %s, clock %.3f s, I/O by %s\n",
           was_running ? "running" : "stopped",
           (double)timer_clock_ns(&mon->m->timer) / 1e9,
           firn_context_backend(mon->m->ctx));
    guest_stop(guest);
    if (guest_info(guest, &info, NULL) == 0) {
        printf("guest: nonce %016" PRIx64 " counter %" PRIu64 "\n",
               info.nonce, info.counter);
    }
    if (was_running) {
        guest_cont(guest);
    }
    return 0;
}

static int cmd_info(Monitor *mon, const char *what, GError **errp)
{
    g_autofree char *refusal = NULL;

    if (!strcmp(what, "snapshots")) {
        return info_snapshots(mon, errp);
    }
    if (!strcmp(what, "status")) {
        return info_status(mon);
    }
    refusal = nearest_refusal(what, NEAREST_LIST("status", "snapshots"));
    return vmm_error(errp, -EINVAL, "info: %s", refusal);
}

static int cmd_stop(Monitor *mon, const char *arg, GError **errp)
{
    guest_stop(mon->m->guest);
    return 0;
}

static int cmd_cont(Monitor *mon, const char *arg, GError **errp)
{
    if (!firn_machine_is_usable(mon->m->firn)) {
        return vmm_error(errp, -EINVAL, "the machine's state is not usable "
                         "since a load failed; load a snapshot first");
    }
    machine_cont(mon->m);
    return 0;
}

static int cmd_verify(Monitor *mon, const char *arg, GError **errp)
{
    bool was_running = guest_is_running(mon->m->guest);
    GuestVerify v;
    int ret;

    guest_stop(mon->m->guest);
    ret = guest_verify(mon->m->guest, &v, errp);
    if (was_running) {
        guest_cont(mon->m->guest);
    }
    if (ret == 0) {
        printf("verify: ram %" PRIu64 " blocks ok, disk %" PRIu64 " blocks "
               "ok, %" PRIu64 " bad\n", v.ram_ok, v.disk_ok,
               v.ram_bad + v.disk_bad);
    }
    return ret;
}

static int cmd_quit(Monitor *mon, const char *arg, GError **errp)
{
    mon->quit = true;
    return 0;
}

static CommandFunc cmd_help;

static const struct {
    const char *name;
    const char *arg;        /* NULL: takes none */
    const char *help;
    CommandFunc *func;
} commands[] = {
    { "savevm", "TAG", "save the machine into a snapshot", cmd_savevm },
    { "loadvm", "TAG", "bring the machine back to a snapshot", cmd_loadvm },
    { "delvm", "TAG", "delete a snapshot", cmd_delvm },
    { "info", "status|snapshots", "show", cmd_info },
    { "stop", NULL, "stop the guest", cmd_stop },
    { "cont", NULL, "let the guest run", cmd_cont },
    { "verify", NULL, "check every block of RAM and disks", cmd_verify },
    { "help", NULL, "this list", cmd_help },
    { "quit", NULL, "close the disks and exit", cmd_quit },
};

static int cmd_help(Monitor *mon, const char *arg, GError **errp)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *usage = g_strjoin(" ", commands[i].name,
                                           commands[i].arg, NULL);

        printf("%-24s %s\n", usage, commands[i].help);
    }
    return 0;
}

static int find_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(name, commands[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

static void unknown_command(const char *name)
{
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, name);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        nearest_offer(&n, commands[i].name);
    }
    hint = nearest_hint(&n, "", "; try help");
    printf("error: no command %s%s\n", name, hint);
}

/* Obey @line, which is changed. */
static void obey(Monitor *mon, char *line)
{
    g_autoptr(GError) err = NULL;
    char *name = g_strstrip(line);
    char *arg = name + strcspn(name, " \t");
    int nr;

    if (*arg) {
        *arg++ = '\0';
        arg = g_strchug(arg);
    }
    if (!*name) {
        return;
    }
    nr = find_command(name);
    if (nr < 0) {
        unknown_command(name);
    } else if (!commands[nr].arg != !*arg) {
        printf("error: %s: %s\n", name, commands[nr].arg
               ? "needs one argument" : "takes no argument");
    } else if (commands[nr].func(mon, arg, &err) < 0) {
        printf("error: %s: %s\n", name, err->message);
    } else {
        puts("ok");
    }
}

/* ---- The loop ---- */

/* Obey the lines that are complete, while nothing says to quit. */
static void obey_input(Monitor *mon)
{
    char *end;

    while (!mon->quit
           && (end = memchr(mon->input->str, '\n', mon->input->len))) {
        size_t len = (size_t)(end - mon->input->str);
        g_autofree char *line = g_strndup(mon->input->str, len);

        g_string_erase(mon->input, 0, (gssize)len + 1);
        obey(mon, line);
        fflush(stdout);
    }
    if (mon->input->len > MAX_LINE_BYTES) {
        printf("error: a line of more than %d bytes\n", MAX_LINE_BYTES);
        fflush(stdout);
        g_string_truncate(mon->input, 0);
    }
}

static void take_input(Monitor *mon)
{
    char buf[1024];
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        /* A last line without a newline counts. */
        mon->input_ended = true;
        g_string_append_c(mon->input, '\n');
    } else {
        g_string_append_len(mon->input, buf, n);
    }
    obey_input(mon);
}

static void prompt(Monitor *mon)
{
    if (mon->show_prompt) {
        fputs("(firn) ", stdout);
        fflush(stdout);
    }
}

void monitor_run(Monitor *mon)
{
    struct pollfd fds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = mon->signal_fd, .events = POLLIN },
    };

    prompt(mon);
    while (!mon->quit && !mon->input_ended) {
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
            continue;
        }
        if (fds[1].revents) {
            take_signal(mon, false);
        }
        if (fds[0].revents && !mon->quit) {
            take_input(mon);
            if (!mon->quit) {
                prompt(mon);
            }
        }
    }
    if (mon->show_prompt) {
        putchar('\n');
    }
}
