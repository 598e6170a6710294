/* SPDX-License-Identifier: MIT */
/*
 * One pool of worker threads per process, for calls that block (file I/O where
 * io_uring is not permitted) or compute for long (compression, hashing).
 *
 * Workers are started on demand, up to THREAD_POOL_MAX, and leave after some
 * seconds without work. They run with all signals blocked. Jobs start in the
 * order in which they were given.
 */
#ifndef FIRN_UTIL_THREAD_POOL_H
#define FIRN_UTIL_THREAD_POOL_H

#include "util/compiler.h"

enum { THREAD_POOL_MAX = 64 };

/*
 * Run @fn(@opaque) in a worker and yield until it is done; the coroutine goes
 * on on its home context. What the caller stored before is visible to @fn, and
 * what @fn stored to the caller. Returns what @fn returned.
 *
 * If not a single worker can be started, @fn runs in the calling thread.
 */
int coroutine_fn thread_pool_co_run(int (*fn)(void *opaque), void *opaque);

/* Workers alive at the moment, busy or idle. Any thread. */
unsigned thread_pool_nb_threads(void);

/*
 * Send idle workers home and wait until every worker has ended, busy ones
 * after their job. No job may be waiting or be given meanwhile by another
 * thread. For tests and before the process ends; the pool stays usable.
 */
void no_coroutine_fn thread_pool_trim(void);

#endif
