/* SPDX-License-Identifier: MIT */
/* Serial port; see serial.h. */
#include "serial.h"

#include <errno.h>
#include <string.h>

static bool fifo_needed(void *opaque)
{
    Serial *s = opaque;

    return s->used_bytes > 0;
}

static int fifo_post_load(void *opaque, int version_id)
{
    Serial *s = opaque;

    if (s->head >= SERIAL_FIFO_BYTES || s->used_bytes > SERIAL_FIFO_BYTES) {
        s->head = s->used_bytes = 0;
        return -EINVAL;
    }
    return 0;
}

static const VMStateDescription vmstate_serial_fifo = {
    .name = "serial/fifo",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = fifo_needed,
    .post_load = fifo_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(head, Serial),
        VMSTATE_UINT32(used_bytes, Serial),
        VMSTATE_BUFFER(fifo, Serial),
        VMSTATE_END_OF_LIST()
    },
};

/* A stream without the subsection means an empty FIFO. */
static int serial_pre_load(void *opaque)
{
    Serial *s = opaque;

    s->head = s->used_bytes = 0;
    return 0;
}

const VMStateDescription vmstate_serial = {
    .name = "serial",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load = serial_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(sent, Serial),
        VMSTATE_UINT64(overruns, Serial),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_serial_fifo,
        NULL
    },
};

void serial_init(Serial *s, FILE *out)
{
    *s = (Serial) { .out = out };
    pthread_mutex_init(&s->lock, NULL);
}

void serial_cleanup(Serial *s)
{
    pthread_mutex_destroy(&s->lock);
}

void serial_write(Serial *s, const char *text)
{
    size_t len = strlen(text);
    size_t at;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < len; i++) {
        if (s->used_bytes == SERIAL_FIFO_BYTES) {
            s->overruns += len - i;
            break;
        }
        at = (s->head + s->used_bytes) % SERIAL_FIFO_BYTES;
        s->fifo[at] = (uint8_t)text[i];
        s->used_bytes++;
    }
    pthread_mutex_unlock(&s->lock);
}

void serial_drain(Serial *s)
{
    char text[SERIAL_FIFO_BYTES];
    size_t len;

    pthread_mutex_lock(&s->lock);
    len = s->used_bytes;
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)s->fifo[(s->head + i) % SERIAL_FIFO_BYTES];
    }
    s->head = (s->head + len) % SERIAL_FIFO_BYTES;
    s->used_bytes = 0;
    s->sent += len;
    pthread_mutex_unlock(&s->lock);

    if (len > 0) {
        /* A reader that went away is no reason to stop the guest. */
        fwrite(text, 1, len, s->out);
        fflush(s->out);
    }
}
