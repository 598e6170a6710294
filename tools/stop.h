/* SPDX-License-Identifier: MIT */
/*
 * SIGINT, SIGTERM and SIGHUP: the first asks what runs to stop (aio_stop), so
 * that images are closed as they should be, and the process then ends by that
 * signal, which is what shells look at. Another one ends it at once.
 */
#ifndef FIRN_TOOLS_STOP_H
#define FIRN_TOOLS_STOP_H

#include "util/aio.h"

/* From now on, for @ctx, which must live as long as the process. Signals that
 * are ignored (nohup) stay ignored. */
void stop_on_signals(AioContext *ctx);

/* The signal that came, or 0. */
int stop_signal(void);
/* "SIGINT". Only after a signal came. */
const char *stop_signal_name(void);

/* End by the signal that came; returns when none did. */
void stop_raise(void);

/*
 * While a signal has not come, reading standard input is as ever; once it
 * comes, also while a read waits, standard input is at its end.
 */
void stop_ends_input(void);

#endif
