/* SPDX-License-Identifier: MIT */
/*
 * The two operations on a GQueue of embedded links that every request does
 * several times, without the calls and checks of GLib. Like those they take no
 * memory; the links are the caller's.
 */
#ifndef FIRN_UTIL_QUEUE_H
#define FIRN_UTIL_QUEUE_H

#include <glib.h>

/* As g_queue_push_tail_link(); @link is in no list. */
static inline void queue_push_tail_link(GQueue *q, GList *link)
{
    link->prev = q->tail;
    link->next = NULL;
    if (q->tail) {
        q->tail->next = link;
    } else {
        q->head = link;
    }
    q->tail = link;
    q->length++;
}

/* As g_queue_unlink(); @link is in @q. */
static inline void queue_unlink(GQueue *q, GList *link)
{
    if (link->prev) {
        link->prev->next = link->next;
    } else {
        q->head = link->next;
    }
    if (link->next) {
        link->next->prev = link->prev;
    } else {
        q->tail = link->prev;
    }
    link->prev = link->next = NULL;
    q->length--;
}

#endif
