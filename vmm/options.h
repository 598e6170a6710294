/* SPDX-License-Identifier: MIT */
/* The command line of firn-vmm. */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define MIB (UINT64_C(1) << 20)

/* Exit codes; see the man page. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
};

typedef struct Options {
    uint64_t memory_bytes;
    bool memory_is_anon;    /* else a memfd */
    GPtrArray *disks;       /* char *: file names */
    char *cache;            /* NULL: the default */
    char *loadvm;           /* NULL: boot */
    char *serial;           /* file name; NULL: standard output */
    uint64_t seed;
    unsigned fill_percent;
    bool quiet_guest;
    bool paused;            /* do not start or boot the guest */
    unsigned workers;       /* 0: default */
    uint64_t chunk_bytes;   /* 0: default */
    bool no_readahead;
} Options;

/*
 * Parse the command line. Returns -1 to go on, else the code to exit with:
 * help or version was printed, or a complaint was.
 */
int options_parse(Options *opts, int argc, char **argv);

void options_cleanup(Options *opts);

#endif
