/* SPDX-License-Identifier: MIT */
/* The machine: RAM, devices, disks and the guest, put together on firn. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <firn/firn.h>

#include "guest.h"
#include "options.h"
#include "ram.h"
#include "serial.h"
#include "timer.h"

typedef struct Machine {
    FirnContext *ctx;
    FirnMachine *firn;
    GPtrArray *disks;       /* FirnDisk * */
    Ram ram;
    Serial serial;
    Timer timer;
    Guest *guest;
    FILE *serial_out;
    bool has_guest;         /* booted or loaded */
} Machine;

/*
 * Make the machine that @opts describe, stopped, RAM zeroed, nothing booted.
 * Returns NULL with @errp set.
 */
Machine *machine_new(const Options *opts, GError **errp);

/*
 * Stop the guest, close the disks, free everything; NULL is fine. Returns 0,
 * or -errno with @errp set when a disk could not be closed properly.
 */
int machine_free(Machine *m, GError **errp);

/* Let the guest run; boot it first when RAM holds none yet. */
void machine_cont(Machine *m);

#endif
