/* SPDX-License-Identifier: MIT */
/* The command line of firn-vmm; the man page explains the options. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <firn/firn.h>

#include "guest.h"
#include "nearest.h"

enum {
    OPT_MEMORY = 256, OPT_MEMORY_BACKEND, OPT_DISK, OPT_CACHE, OPT_LOADVM,
    OPT_SERIAL, OPT_SEED, OPT_FILL, OPT_QUIET_GUEST, OPT_PAUSED, OPT_WORKERS,
    OPT_CHUNK, OPT_NO_READAHEAD, OPT_HELP, OPT_VERSION,
};

/* In the order of --help; a heading is an option without a number. */
static const struct {
    const char *name;
    const char *argument;   /* NULL: takes none */
    int number;
    const char *text;
} option_table[] = {
    { "Machine", NULL, 0, NULL },
    { "memory", "SIZE", OPT_MEMORY,
      "guest RAM, a multiple of 1M (default 256M)" },
    { "memory-backend", "KIND", OPT_MEMORY_BACKEND,
      "memfd (default) or anon" },
    { "disk", "FILE", OPT_DISK, "a disk image; may be given several times" },
    { "cache", "MODE", OPT_CACHE,
      "none, directsync, writeback, writethrough, unsafe" },
    { "loadvm", "TAG", OPT_LOADVM,
      "start from this snapshot instead of booting" },
    { "paused", NULL, OPT_PAUSED, "wait for 'cont' (or loadvm)" },
    { "serial", "FILE", OPT_SERIAL, "append what the guest prints to FILE" },
    { "Guest", NULL, 0, NULL },
    { "seed", "N", OPT_SEED, "of everything the guest writes (default 1)" },
    { "fill", "PERCENT", OPT_FILL,
      "of its RAM with random data (default 10)" },
    { "quiet-guest", NULL, OPT_QUIET_GUEST,
      "do and print nothing once it is ready" },
    { "Saving and loading", NULL, 0, NULL },
    { "workers", "N", OPT_WORKERS, "requests in flight, 1 to 64 (default 8)" },
    { "chunk", "SIZE", OPT_CHUNK, "of each, a multiple of 4k up to 64M" },
    { "no-readahead", NULL, OPT_NO_READAHEAD,
      "one request after the other, nothing ahead" },
    { "Others", NULL, 0, NULL },
    { "help", NULL, OPT_HELP, "this text" },
    { "version", NULL, OPT_VERSION, "the version" },
};

static void print_help(void)
{
    fputs("Usage: firn-vmm --disk FILE [OPTION]...\n"
          "Run the built-in guest with snapshots in its disks, with a monitor "
          "on\nstandard input and output (type 'help' there).\n", stdout);
    for (size_t i = 0; i < G_N_ELEMENTS(option_table); i++) {
        const char *arg = option_table[i].argument;
        g_autofree char *left = g_strconcat(option_table[i].name,
                                            arg ? " " : NULL, arg, NULL);

        if (option_table[i].number) {
            printf("  --%-23s%s\n", left, option_table[i].text);
        } else {
            printf("\n%s:\n", left);
        }
    }
    fputs("\nExit status: 0 quit, 1 could not start, load or close, 2 bad "
          "usage.\n"
          "Example:\n  firn-vmm --memory 1G --disk d.qcow2 --loadvm monday\n",
          stdout);
}

static int complain(const char *option, const char *value, const char *want)
{
    fprintf(stderr, "firn-vmm: --%s %s: %s\n", option, value, want);
    return EXIT_USAGE;
}

/* A whole number of any base with nothing behind it. */
static bool parse_number(const char *text, uint64_t *ret, const char **ret_end)
{
    char *end;

    if (!g_ascii_isdigit(text[0])) {
        return false;
    }
    errno = 0;
    *ret = g_ascii_strtoull(text, &end, 0);
    *ret_end = end;
    return errno == 0;
}

static bool parse_plain(const char *text, uint64_t max, uint64_t *ret)
{
    const char *end;

    return parse_number(text, ret, &end) && *end == '\0' && *ret <= max;
}

/* Bytes with an optional binary suffix k, M, G or T. */
static bool parse_bytes(const char *text, uint64_t *ret)
{
    static const char suffixes[] = "kMGT";
    const char *end, *suffix;
    unsigned shift = 0;
    uint64_t n;

    if (!parse_number(text, &n, &end)) {
        return false;
    }
    if (*end) {
        suffix = strchr(suffixes, *end == 'K' ? 'k' : *end);
        if (!suffix || end[1]) {
            return false;
        }
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (n > UINT64_MAX >> shift) {
        return false;
    }
    *ret = n << shift;
    return true;
}

static void set_string(char **where, const char *value)
{
    g_free(*where);
    *where = g_strdup(value);
}

/* Numbers, sizes and words that need a check. Returns -1 when it is fine. */
static int take_checked(Options *opts, int c, const char *value)
{
    uint64_t n;

    switch (c) {
    case OPT_MEMORY:
        if (!parse_bytes(value, &opts->memory_bytes)
            || opts->memory_bytes < GUEST_MIN_MEMORY
            || opts->memory_bytes > GUEST_MAX_MEMORY
            || opts->memory_bytes % MIB) {
            return complain("memory", value,
                            "not a multiple of 1M from 4M to 1T");
        }
        return -1;
    case OPT_MEMORY_BACKEND:
        if (strcmp(value, "memfd") && strcmp(value, "anon")) {
            g_autofree char *refusal = nearest_refusal(
                value, NEAREST_LIST("memfd", "anon"));

            return complain("memory-backend", value, refusal);
        }
        opts->memory_is_anon = !strcmp(value, "anon");
        return -1;
    case OPT_SEED:
        if (!parse_plain(value, UINT64_MAX, &opts->seed)) {
            return complain("seed", value, "not a number");
        }
        return -1;
    case OPT_FILL:
        if (!parse_plain(value, 100, &n)) {
            return complain("fill", value, "not a percentage");
        }
        opts->fill_percent = n;
        return -1;
    case OPT_WORKERS:
        if (!parse_plain(value, 64, &n) || n == 0) {
            return complain("workers", value, "not a number from 1 to 64");
        }
        opts->workers = n;
        return -1;
    case OPT_CHUNK:
        if (!parse_bytes(value, &opts->chunk_bytes)
            || opts->chunk_bytes == 0 || opts->chunk_bytes > 64 * MIB
            || opts->chunk_bytes % 4096) {
            return complain("chunk", value,
                            "not a multiple of 4k from 4k to 64M");
        }
        return -1;
    default:
        g_assert_not_reached();
    }
}

static int take_option(Options *opts, int c, const char *value)
{
    switch (c) {
    case OPT_DISK:
        g_ptr_array_add(opts->disks, g_strdup(value));
        return -1;
    case OPT_CACHE:
        set_string(&opts->cache, value);
        return -1;
    case OPT_LOADVM:
        set_string(&opts->loadvm, value);
        return -1;
    case OPT_SERIAL:
        set_string(&opts->serial, value);
        return -1;
    case OPT_QUIET_GUEST:
        opts->quiet_guest = true;
        return -1;
    case OPT_PAUSED:
        opts->paused = true;
        return -1;
    case OPT_NO_READAHEAD:
        opts->no_readahead = true;
        return -1;
    case OPT_HELP:
        print_help();
        return EXIT_OK;
    case OPT_VERSION:
        printf("firn-vmm %s\n", firn_version());
        return EXIT_OK;
    default:
        return take_checked(opts, c, value);
    }
}

/* getopt_long() of the table's options; '?' after a message. */
static int next_option(int argc, char **argv)
{
    static struct option longs[G_N_ELEMENTS(option_table) + 1];
    g_autofree char *mistake = NULL;
    struct option *o = longs;
    int c;

    for (size_t i = 0; i < G_N_ELEMENTS(option_table); i++) {
        if (option_table[i].number) {
            *o++ = (struct option) {
                option_table[i].name, option_table[i].argument
                ? required_argument : no_argument, NULL,
                option_table[i].number };
        }
    }
    opterr = 0;
    c = getopt_long(argc, argv, ":", longs, NULL);
    if (c != '?' && c != ':') {
        return c;
    }
    mistake = nearest_option_mistake(c, argv, ":", longs);
    fprintf(stderr, "firn-vmm: %s\n", mistake);
    return '?';
}

int options_parse(Options *opts, int argc, char **argv)
{
    int c, code;

    *opts = (Options) {
        .memory_bytes = 256 * MIB,
        .disks = g_ptr_array_new_with_free_func(g_free),
        .seed = 1,
        .fill_percent = 10,
    };
    while ((c = next_option(argc, argv)) != -1) {
        code = c == '?' ? EXIT_USAGE : take_option(opts, c, optarg);
        if (code >= 0) {
            return code;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "firn-vmm: '%s' is not an option\n", argv[optind]);
        return EXIT_USAGE;
    }
    if (opts->disks->len == 0 || opts->disks->len > GUEST_MAX_DISKS) {
        fprintf(stderr, "firn-vmm: give 1 to %d disks with --disk\n",
                GUEST_MAX_DISKS);
        return EXIT_USAGE;
    }
    return -1;
}

void options_cleanup(Options *opts)
{
    g_ptr_array_unref(opts->disks);
    g_free(opts->cache);
    g_free(opts->loadvm);
    g_free(opts->serial);
}
