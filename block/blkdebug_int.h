/* SPDX-License-Identifier: MIT */
/*
 * Rules of blkdebug and how they are read from options and configuration
 * files (blkdebug-rules.c); what they do is in blkdebug.c.
 */
#ifndef FIRN_BLOCK_BLKDEBUG_INT_H
#define FIRN_BLOCK_BLKDEBUG_INT_H

#include "block/block_int.h"

/* Kinds of requests a rule can be limited to. */
typedef enum BlkdebugIoType {
    BLKDEBUG_READ,
    BLKDEBUG_WRITE,
    BLKDEBUG_ZERO,
    BLKDEBUG_DISCARD,
    BLKDEBUG_FLUSH,
    BLKDEBUG_STATUS,
    BLKDEBUG_IOTYPE__MAX,
} BlkdebugIoType;

typedef enum BlkdebugAction {
    BLKDEBUG_INJECT_ERROR,
    BLKDEBUG_SET_STATE,
    BLKDEBUG_SUSPEND,
} BlkdebugAction;

typedef struct BlkdebugRule {
    BlkdebugAction action;
    BlkdebugEvent event;   /* NONE: an error that is armed from the start */
    uint64_t state;        /* applies in this state only; 0: in any */

    /* BLKDEBUG_INJECT_ERROR */
    unsigned iotypes;      /* bit per BlkdebugIoType; 0: all but STATUS */
    uint64_t offset;       /* the request covers it; UINT64_MAX: any */
    uint64_t nth;          /* only the nth match, from 1; 0: each */
    uint64_t seen;         /* matches so far */
    uint64_t delay_ns;     /* wait before going on */
    int error;             /* errno, 0: only delay */
    bool once;             /* disarm after the first time */
    bool immediately;      /* fail without yielding */
    bool armed;            /* the event has come */
    bool spent;            /* once, and that was it */

    uint64_t new_state;    /* BLKDEBUG_SET_STATE */
    char *tag;             /* BLKDEBUG_SUSPEND */
} BlkdebugRule;

void blkdebug_rule_free(BlkdebugRule *rule);

/*
 * Add what the file @path says to @options, under keys that are not there
 * yet. Returns 0 or -errno.
 */
int blkdebug_read_config(const char *path, BdrvOptions *options,
                         GError **errp);

/*
 * Take the rules ("inject-error.N.*", "set-state.N.*", "suspend.N.*") out of
 * @options and append them to @rules. Returns 0 or -EINVAL.
 */
int blkdebug_take_rules(BdrvOptions *options, GPtrArray *rules,
                        GError **errp);

#endif
