/* SPDX-License-Identifier: MIT */
/* The monitor: commands on standard input, results on standard output. */
#ifndef VMM_MONITOR_H
#define VMM_MONITOR_H

#include "machine.h"

typedef struct Monitor Monitor;

/*
 * Make the monitor of @m. SIGINT and SIGTERM become its events: block them
 * in every thread before any is made (monitor_block_signals()). Returns NULL
 * with @errp set.
 */
Monitor *monitor_new(Machine *m, const Options *opts, GError **errp);
void monitor_free(Monitor *mon);

/* Call first in main(). */
void monitor_block_signals(void);

/* Load snapshot @tag before the first command. Returns 0 or -errno. */
int monitor_load_first(Monitor *mon, const char *tag, GError **errp);

/* Obey commands until quit, end of input, SIGINT or SIGTERM. */
void monitor_run(Monitor *mon);

#endif
