/* SPDX-License-Identifier: MIT */
/*
 * Serial port: what the guest prints waits in a FIFO until the host side
 * takes it. Characters that are still there are device state, in a subsection
 * that exists only then.
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>
#include <stdio.h>

#include <firn/vmstate.h>

enum { SERIAL_FIFO_BYTES = 2048 };

typedef struct Serial {
    pthread_mutex_t lock;   /* guards all below */

    /* Device state. */
    uint64_t sent;          /* characters that reached the host side */
    uint64_t overruns;      /* characters lost because the FIFO was full */
    uint8_t fifo[SERIAL_FIFO_BYTES]; /* ring: used from head, used_bytes */
    uint32_t head;
    uint32_t used_bytes;

    FILE *out;              /* host side */
} Serial;

extern const VMStateDescription vmstate_serial;

/* @out stays the caller's. */
void serial_init(Serial *s, FILE *out);
void serial_cleanup(Serial *s);

/* The guest sends @text; what does not fit is lost and counted. */
void serial_write(Serial *s, const char *text);

/* Move the FIFO to the host side. May block as long as that does. */
void serial_drain(Serial *s);

#endif
