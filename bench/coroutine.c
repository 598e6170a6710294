/* SPDX-License-Identifier: MIT */
/*
 * What coroutines cost: a switch, a short life, an uncontended CoMutex, and a
 * wake-up across threads and back; next to POSIX ucontext in the same run.
 *
 *   bench/coroutine [--runs N] [--only NAME] [--iterations N] [--json]
 *
 * Prints a markdown table (or JSON) of nanoseconds per operation, as minimum,
 * median and maximum of the runs, and of instructions in user space where the
 * kernel lets us count them. What runs in one thread is measured in CPU time
 * of that thread, the wake-up in real time. The runs of all operations are
 * interleaved, so that a slow spell of the machine hits all alike.
 *
 * For callgrind, take one operation and few iterations:
 *   valgrind --tool=callgrind bench/coroutine --only switch --runs 1
 *            --iterations 10000
 */
#include "util/aio.h"
#include "util/co-lock.h"
#include "util/coroutine.h"

#include <getopt.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { MAX_RUNS = 99 };

typedef struct Bench {
    const char *name;
    const char *what;
    void (*run)(unsigned long iterations);
    unsigned long iterations;
    unsigned ops;               /* per iteration */
    bool one_thread;            /* instructions can be counted */

    double ns[MAX_RUNS];
    double instructions;        /* per operation; < 0: not counted */
} Bench;

/* -- firn ----------------------------------------------------------------- */

static bool stop;

static void coroutine_fn yield_until_stop(void *opaque)
{
    while (!stop) {
        co_yield();
    }
}

static void run_switch(unsigned long iterations)
{
    Coroutine *co = co_create(yield_until_stop, NULL);

    stop = false;
    for (unsigned long i = 0; i < iterations; i++) {
        co_enter(co);
    }
    stop = true;
    co_enter(co);
}

static void coroutine_fn do_nothing(void *opaque)
{
}

static void run_life(unsigned long iterations)
{
    for (unsigned long i = 0; i < iterations; i++) {
        co_enter(co_create(do_nothing, NULL));
    }
}

static void coroutine_fn lock_and_unlock(void *opaque)
{
    unsigned long iterations = *(unsigned long *)opaque;
    CoMutex m;

    co_mutex_init(&m);
    for (unsigned long i = 0; i < iterations; i++) {
        co_mutex_lock(&m);
        co_mutex_unlock(&m);
    }
    co_mutex_destroy(&m);
}

static void run_mutex(unsigned long iterations)
{
    co_enter(co_create(lock_and_unlock, &iterations));
}

/* -- A wake-up to another thread and back --------------------------------- */

typedef struct Side {
    AioContext *ctx;
    Coroutine *co;
    struct Side *other;
    unsigned long iterations;
    bool starts;
    bool done;                  /* by its own thread */
} Side;

static void coroutine_fn play(void *opaque)
{
    Side *s = opaque;

    for (unsigned long i = 0; i < s->iterations; i++) {
        if (s->starts) {
            aio_co_wake(s->other->co);
            co_yield();
        } else {
            co_yield();
            aio_co_wake(s->other->co);
        }
    }
    s->done = true;
}

/* The side that does not start is at its first yield before the other runs. */
static void *side_main(void *opaque)
{
    Side *s = opaque;

    while (!s->done) {
        aio_poll(s->ctx, true);
    }
    return NULL;
}

static void run_wake(unsigned long iterations)
{
    Side side[2] = { { .starts = true }, { .starts = false } };
    pthread_t thread;

    for (unsigned i = 0; i < 2; i++) {
        GError *err = NULL;

        side[i].ctx = aio_context_new(AIO_BACKEND_AUTO, &err);
        if (!side[i].ctx) {
            fprintf(stderr, "bench/coroutine: %s\n", err->message);
            exit(1);
        }
        side[i].other = &side[!i];
        side[i].iterations = iterations;
        side[i].co = co_create(play, &side[i]);
    }
    aio_co_schedule(side[1].ctx, side[1].co);
    while (aio_poll(side[1].ctx, false)) {
        continue;
    }
    if (pthread_create(&thread, NULL, side_main, &side[1]) != 0) {
        perror("bench/coroutine: pthread_create");
        exit(1);
    }
    aio_co_schedule(side[0].ctx, side[0].co);
    side_main(&side[0]);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++) {
        aio_context_unref(side[i].ctx);
    }
}

/* -- ucontext, for comparison --------------------------------------------- */

static ucontext_t uc_main, uc_other;
static char uc_stack[256 * 1024] __attribute__((aligned(64)));

static void uc_yield_forever(void)
{
    for (;;) {
        swapcontext(&uc_other, &uc_main);
    }
}

static void uc_do_nothing(void)
{
}

/* Make uc_other run @fn, then go back to uc_main. */
static void uc_create(void (*fn)(void))
{
    getcontext(&uc_other);
    uc_other.uc_stack.ss_sp = uc_stack;
    uc_other.uc_stack.ss_size = sizeof(uc_stack);
    uc_other.uc_link = &uc_main;
    makecontext(&uc_other, fn, 0);
}

static void run_uc_switch(unsigned long iterations)
{
    uc_create(uc_yield_forever);
    for (unsigned long i = 0; i < iterations; i++) {
        swapcontext(&uc_main, &uc_other);
    }
}

static void run_uc_life(unsigned long iterations)
{
    for (unsigned long i = 0; i < iterations; i++) {
        uc_create(uc_do_nothing);
        swapcontext(&uc_main, &uc_other);
    }
}

static Bench benches[] = {
    { "switch", "one switch (enter or yield)", run_switch, 400000, 2, true,
      { 0 }, -1 },
    { "ucontext-switch", "one switch, ucontext", run_uc_switch, 20000, 2,
      true, { 0 }, -1 },
    { "life", "create + enter + end", run_life, 200000, 1, true, { 0 }, -1 },
    { "ucontext-life", "create + enter + end, ucontext", run_uc_life, 10000,
      1, true, { 0 }, -1 },
    { "mutex", "CoMutex lock + unlock, uncontended", run_mutex, 400000, 1,
      true, { 0 }, -1 },
    { "wake", "wake-up to another thread and back", run_wake, 2000, 1, false,
      { 0 }, -1 },
};

/* -- Measuring ------------------------------------------------------------ */

/* A counter of instructions in user space, or -1. */
static int open_counter(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .disabled = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };

    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static int64_t now_ns(const Bench *b)
{
    struct timespec ts;

    clock_gettime(b->one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
                  &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void measure(Bench *b, unsigned run, int counter)
{
    double ops = (double)b->iterations * b->ops;
    int64_t start;
    uint64_t count;

    if (counter >= 0) {
        ioctl(counter, PERF_EVENT_IOC_RESET, 0);
        ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
    }
    start = now_ns(b);
    b->run(b->iterations);
    b->ns[run] = (double)(now_ns(b) - start) / ops;
    if (counter >= 0) {
        ioctl(counter, PERF_EVENT_IOC_DISABLE, 0);
        if (b->one_thread &&
            read(counter, &count, sizeof(count)) == sizeof(count)) {
            b->instructions = (double)count / ops;
        }
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* -- Output --------------------------------------------------------------- */

/* The CPU's name, up to the end of its line in /proc/cpuinfo. */
static void cpu_name(char *ret, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];

    g_strlcpy(ret, "unknown CPU", size);
    while (f && fgets(line, sizeof(line), f)) {
        char *value = strchr(line, ':');

        if (g_str_has_prefix(line, "model name") && value) {
            g_strlcpy(ret, g_strstrip(value + 1), size);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
}

static void print_table(const char *only, unsigned runs)
{
    char cpu[128];

    cpu_name(cpu, sizeof(cpu));
    printf("%s, %ld CPUs, %u runs\n\n", cpu, sysconf(_SC_NPROCESSORS_ONLN),
           runs);
    printf("| operation | ns min | ns median | ns max | instructions |\n"
           "|---|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
        Bench *b = &benches[i];
        char count[32] = "n/a";

        if (only && strcmp(only, b->name) != 0) {
            continue;
        }
        if (b->instructions >= 0) {
            snprintf(count, sizeof(count), "%.1f", b->instructions);
        }
        printf("| %s | %.1f | %.1f | %.1f | %s |\n", b->what, b->ns[0],
               b->ns[runs / 2], b->ns[runs - 1], count);
    }
}

static void print_json(const char *only, unsigned runs)
{
    const char *separator = "";
    char cpu[128];

    cpu_name(cpu, sizeof(cpu));
    printf("{\"cpu\": \"%s\", \"runs\": %u, \"results\": [", cpu, runs);
    for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
        Bench *b = &benches[i];
        char count[32] = "null";

        if (only && strcmp(only, b->name) != 0) {
            continue;
        }
        if (b->instructions >= 0) {
            snprintf(count, sizeof(count), "%.2f", b->instructions);
        }
        printf("%s\n  {\"name\": \"%s\", \"ns\": {\"min\": %.2f, "
               "\"median\": %.2f, \"max\": %.2f}, \"instructions\": %s}",
               separator, b->name, b->ns[0], b->ns[runs / 2],
               b->ns[runs - 1], count);
        separator = ",";
    }
    printf("\n]}\n");
}

/* -- Command line --------------------------------------------------------- */

typedef struct Options {
    unsigned long runs;
    unsigned long iterations;   /* 0: each bench's own */
    const char *only;
    bool json;
} Options;

static void usage(FILE *out)
{
    fputs("usage: coroutine [--runs 1..99] [--only NAME] [--iterations N] "
          "[--json]\nNAME is one of", out);
    for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
        fprintf(out, " %s", benches[i].name);
    }
    fputc('\n', out);
}

static bool bench_exists(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
        if (strcmp(benches[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns false when the command line makes no sense. */
static bool parse_options(int argc, char **argv, Options *o)
{
    static const struct option longs[] = {
        { "runs", required_argument, NULL, 'r' },
        { "iterations", required_argument, NULL, 'i' },
        { "only", required_argument, NULL, 'o' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'r':
            o->runs = strtoul(optarg, NULL, 10);
            break;
        case 'i':
            o->iterations = strtoul(optarg, NULL, 10);
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            return false;
        }
    }
    return optind == argc && o->runs >= 1 && o->runs <= MAX_RUNS &&
           (!o->only || bench_exists(o->only));
}

int main(int argc, char **argv)
{
    Options o = { .runs = 25 };
    int counter;

    if (!parse_options(argc, argv, &o)) {
        usage(stderr);
        return 2;
    }
    counter = open_counter();
    for (unsigned run = 0; run < o.runs; run++) {
        for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
            Bench *b = &benches[i];

            if (o.only && strcmp(o.only, b->name) != 0) {
                continue;
            }
            if (o.iterations) {
                b->iterations = o.iterations;
            }
            measure(b, run, counter);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(benches); i++) {
        qsort(benches[i].ns, o.runs, sizeof(double), compare);
    }
    (o.json ? print_json : print_table)(o.only, (unsigned)o.runs);
    if (counter >= 0) {
        close(counter);
    }
    return 0;
}
