/* SPDX-License-Identifier: MIT */
/*
 * The native guest: a C workload in a thread of its own that stands in for a
 * virtual processor. Its whole state is in guest RAM, so that a restored RAM
 * is a restored guest, and a lost byte anywhere shows.
 */
#ifndef VMM_GUEST_H
#define VMM_GUEST_H

#include <firn/firn.h>

#include "ram.h"
#include "serial.h"
#include "timer.h"

enum { GUEST_MAX_DISKS = 8 };
#define GUEST_MIN_MEMORY (UINT64_C(4) << 20)
#define GUEST_MAX_MEMORY (UINT64_C(1) << 40)

typedef struct Guest Guest;

typedef struct GuestConfig {
    Ram *ram;
    Serial *serial;
    Timer *timer;
    FirnDisk *disks[GUEST_MAX_DISKS];
    unsigned nb_disks;
    uint64_t seed;
    unsigned fill_percent;  /* of RAM, with random data, 0..100 */
    bool quiet;             /* idle once it is ready */
} GuestConfig;

/*
 * Make the guest, stopped, with RAM untouched. What @config points to must
 * outlive it. Returns NULL with @errp set: RAM is too small for the guest's
 * tables, or no thread.
 */
Guest *guest_new(const GuestConfig *config, GError **errp);

/* Stop the guest and free it; NULL is fine. */
void guest_free(Guest *g);

/* Write the state of a guest that was just switched on; while stopped. */
void guest_boot(Guest *g);

/*
 * Stop at the next step boundary, at most some ms of work away, where no disk
 * request is in flight; go on. Any thread; stop waits.
 */
void guest_stop(Guest *g);
void guest_cont(Guest *g);
bool guest_is_running(Guest *g);

typedef struct GuestInfo {
    uint64_t nonce;         /* of the boot it comes from */
    uint64_t counter;       /* steps since then */
} GuestInfo;

/* What the guest would say of itself; while stopped. Returns and fails as
 * guest_verify(). */
int guest_info(Guest *g, GuestInfo *ret, GError **errp);

typedef struct GuestVerify {
    uint64_t ram_ok, ram_bad;   /* blocks */
    uint64_t disk_ok, disk_bad;
} GuestVerify;

/*
 * Check every block of RAM and of the disks; while stopped. Returns 0 or
 * -EINVAL when guest RAM does not hold a guest like this one.
 */
int guest_verify(Guest *g, GuestVerify *ret, GError **errp);

#endif
