/* SPDX-License-Identifier: MIT */
/*
 * blkdebug: a filter that makes things go wrong on purpose.
 *
 * Drivers announce what they are about to do (BLKDBG_EVENT); rules react to
 * that. An inject-error rule is armed by its event, which disarms the error
 * rules that other events had armed, and then strikes requests that pass
 * through here: each one, the nth, or one only. A rule without event is armed
 * from the start and stays so. A set-state rule changes the state other rules
 * are tied to. A suspend rule, or a breakpoint set by a test, stops the
 * announcing request until its tag is resumed.
 *
 *   breakpoint set --> request passes event: suspended --> resume(tag): runs
 *
 * Options: config (file), image (child), align, max-transfer, opt-write-zero,
 * max-write-zero, opt-discard, max-discard, and the rules, which
 * blkdebug-rules.c reads. Filename: blkdebug:CONFIG:IMAGE, CONFIG may be empty.
 */
#include <string.h>

#include "block/blkdebug_int.h"
#include "util/coroutine.h"

#define BLKDEBUG_PREFIX "blkdebug:"
#define MAX_ALIGN (1024 * 1024)

typedef struct BlkdebugSuspended {
    char *tag;
    Coroutine *co;
} BlkdebugSuspended;

typedef struct BlkdebugState {
    uint64_t state;        /* 1 at first */
    GPtrArray *rules;      /* BlkdebugRule */
    bool reopening;        /* nothing stops, the node is about to go */
    GList *suspended;      /* BlkdebugSuspended, on their coroutine's stack */
} BlkdebugState;

/* --- Opening --- */

static int blkdebug_parse_filename(const char *filename, BdrvOptions *options,
                                   GError **errp)
{
    const char *config = filename + strlen(BLKDEBUG_PREFIX);
    const char *colon = strchr(config, ':');

    if (!colon) {
        return set_error(errp, -EINVAL, "'%s' is not blkdebug:CONFIG:IMAGE",
                         filename);
    }
    if (colon > config) {
        g_autofree char *path = g_strndup(config, colon - config);

        bdrv_options_set_default(options, "config", path);
    }
    bdrv_options_set_default(options, "image", colon + 1);
    return 0;
}

static int read_rules(BlkdebugState *s, BdrvOptions *options, GError **errp)
{
    g_autofree char *config = bdrv_options_take(options, "config");
    int ret = 0;

    if (config) {
        ret = blkdebug_read_config(config, options, errp);
    }
    if (ret == 0) {
        ret = blkdebug_take_rules(options, s->rules, errp);
    }
    return ret;
}

static int take_align(BdrvOptions *options, const char *key, uint32_t *ret,
                      GError **errp)
{
    uint64_t align;
    int err = bdrv_options_take_size(options, key, *ret, &align, errp);

    if (err == 0 && align != *ret &&
        (align == 0 || align > MAX_ALIGN || (align & (align - 1)) != 0)) {
        return set_error(errp, -EINVAL, "option %s: not a power of two up to "
                         "%d", key, MAX_ALIGN);
    }
    if (err == 0) {
        *ret = align;
    }
    return err;
}

static int take_max(BdrvOptions *options, const char *key, uint64_t align,
                    uint64_t *ret, GError **errp)
{
    int err = bdrv_options_take_size(options, key, 0, ret, errp);

    if (err == 0 && (!IS_ALIGNED(*ret, align) || *ret > INT32_MAX)) {
        return set_error(errp, -EINVAL, "option %s: not a multiple of %"
                         G_GUINT64_FORMAT " below 2 GiB", key, align);
    }
    return err;
}

/* What a device could say of itself. */
static int take_limits(BlockDriverState *bs, BdrvOptions *options,
                       GError **errp)
{
    int ret = take_align(options, "align", &bs->request_alignment, errp);

    ret = ret < 0 ? ret : take_align(options, "opt-write-zero",
                                     &bs->pwrite_zeroes_alignment, errp);
    ret = ret < 0 ? ret : take_align(options, "opt-discard",
                                     &bs->pdiscard_alignment, errp);
    ret = ret < 0 ? ret : take_max(options, "max-transfer",
                                   bs->request_alignment, &bs->max_transfer,
                                   errp);
    ret = ret < 0 ? ret : take_max(options, "max-write-zero",
                                   MAX(bs->request_alignment,
                                       bs->pwrite_zeroes_alignment),
                                   &bs->max_pwrite_zeroes, errp);
    return ret < 0 ? ret : take_max(options, "max-discard",
                                    MAX(bs->request_alignment,
                                        bs->pdiscard_alignment),
                                    &bs->max_pdiscard, errp);
}

/* Of no effect: no permissions are negotiated here. */
static int take_perms(BdrvOptions *options, const char *list, GError **errp)
{
    static const char *const known[] = {
        "consistent-read", "write", "write-unchanged", "resize", NULL
    };

    for (unsigned i = 0;; i++) {
        g_autofree char *key = g_strdup_printf("%s.%u", list, i);
        g_autofree char *perm = bdrv_options_take(options, key);

        if (!perm || !g_strv_contains(known, perm)) {
            return perm ? bdrv_options_refuse(key, perm, known, errp) : 0;
        }
    }
}

static int coroutine_fn open_image(BlockDriverState *bs, BdrvOptions *options,
                                   GError **errp)
{
    g_autofree char *image = bdrv_options_take(options, "image");
    BdrvOptions *image_options = bdrv_options_take_prefix(options, "image.");

    if (!image && bdrv_options_size(image_options) == 0) {
        bdrv_options_free(image_options);
        return bdrv_options_missing(options, "driver 'blkdebug'", "image",
                                    errp);
    }
    return bdrv_co_open_child(bs, image, image_options, "image",
                              BDRV_CHILD_FILTERED, &bs->file, errp);
}

static int coroutine_fn blkdebug_co_open(BlockDriverState *bs,
                                         BdrvOptions *options, unsigned flags,
                                         GError **errp)
{
    BlkdebugState *s = bs->opaque;
    int ret;

    s->state = 1;
    s->rules = g_ptr_array_new_with_free_func(
        (GDestroyNotify)blkdebug_rule_free);
    ret = read_rules(s, options, errp);
    if (ret == 0) {
        ret = take_limits(bs, options, errp);
    }
    ret = ret < 0 ? ret : take_perms(options, "take-child-perms", errp);
    ret = ret < 0 ? ret : take_perms(options, "unshare-child-perms", errp);
    if (ret == 0) {
        ret = open_image(bs, options, errp);
    }
    if (ret < 0) {
        g_ptr_array_unref(s->rules);
        return ret;
    }
    bdrv_filter_take_over(bs);
    bs->supported_zero_flags |= BDRV_REQ_EXPLICIT_ZERO;
    /* A flush meets the rules if something went through here before. */
    bs->flushed_gen = bs->write_gen;
    return 0;
}

static int coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;

    assert(!s->suspended);
    g_ptr_array_unref(s->rules);
    return 0;
}

/* --- Reopening: state and rules go on as they are --- */

typedef struct BlkdebugKept {
    uint64_t state;
    GPtrArray *rules;
} BlkdebugKept;

static int blkdebug_reopen_keep(BlockDriverState *bs, bool writer, void **ret,
                                GError **errp)
{
    BlkdebugState *s = bs->opaque;
    BlkdebugKept *kept = g_new(BlkdebugKept, 1);

    *kept = (BlkdebugKept) { s->state, g_ptr_array_ref(s->rules) };
    s->reopening = true;
    *ret = kept;
    return 0;
}

static void blkdebug_reopen_drop(void *opaque)
{
    BlkdebugKept *kept = opaque;

    g_ptr_array_unref(kept->rules);
    g_free(kept);
}

static void blkdebug_reopen_unkeep(BlockDriverState *bs, void *kept)
{
    BlkdebugState *s = bs->opaque;

    s->reopening = false;
    blkdebug_reopen_drop(kept);
}

static void blkdebug_reopen_give(BlockDriverState *bs, void *opaque)
{
    BlkdebugState *s = bs->opaque;
    BlkdebugKept *kept = opaque;

    s->state = kept->state;
    g_ptr_array_unref(s->rules);
    s->rules = g_ptr_array_ref(kept->rules);
}

/* --- Events --- */

static BdrvDebugNotify *notify;

void bdrv_debug_set_notify(BdrvDebugNotify *fn)
{
    notify = fn;
}

static void coroutine_fn suspend(BlkdebugState *s, const char *tag)
{
    BlkdebugSuspended here = { g_strdup(tag), co_self() };

    s->suspended = g_list_append(s->suspended, &here);
    if (notify) {
        notify(tag, false);
    }
    co_yield(); /* debug_resume() has taken us off the list */
    g_free(here.tag);
}

static bool rule_applies(const BlkdebugState *s, const BlkdebugRule *rule,
                         BlkdebugEvent event, uint64_t state)
{
    return rule->event == event && (rule->state == 0 || rule->state == state);
}

static void arm_errors(BlkdebugState *s, BlkdebugEvent event)
{
    bool any = false;

    for (guint i = 0; i < s->rules->len; i++) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);

        any |= rule->action == BLKDEBUG_INJECT_ERROR &&
               rule_applies(s, rule, event, s->state);
    }
    for (guint i = 0; any && i < s->rules->len; i++) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);

        if (rule->action == BLKDEBUG_INJECT_ERROR &&
            rule->event != BLKDBG_NONE) {
            rule->armed = !rule->spent &&
                          rule_applies(s, rule, event, s->state);
        }
    }
}

/* Every set-state rule sees the state from before the event. */
static void change_state(BlkdebugState *s, BlkdebugEvent event)
{
    uint64_t before = s->state;

    for (guint i = 0; i < s->rules->len; i++) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);

        if (rule->action == BLKDEBUG_SET_STATE &&
            rule_applies(s, rule, event, before)) {
            s->state = rule->new_state;
        }
    }
}

/* The tag of the first breakpoint for @event, which is used up; or NULL. */
static char *take_breakpoint(BlkdebugState *s, BlkdebugEvent event)
{
    for (guint i = 0; i < s->rules->len; i++) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);

        if (rule->action == BLKDEBUG_SUSPEND &&
            rule_applies(s, rule, event, s->state)) {
            char *tag = g_steal_pointer(&rule->tag);

            g_ptr_array_remove_index(s->rules, i);
            return tag;
        }
    }
    return NULL;
}

static void coroutine_fn blkdebug_debug_event(BlockDriverState *bs,
                                              BlkdebugEvent event)
{
    BlkdebugState *s = bs->opaque;
    g_autofree char *tag = NULL;

    if (event == BLKDBG_NONE) {
        return;
    }
    arm_errors(s, event);
    tag = s->reopening ? NULL : take_breakpoint(s, event);
    change_state(s, event);
    if (tag) {
        suspend(s, tag);
    }
}

static int blkdebug_debug_breakpoint(BlockDriverState *bs,
                                     BlkdebugEvent event, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    BlkdebugRule *rule = g_new0(BlkdebugRule, 1);

    rule->action = BLKDEBUG_SUSPEND;
    rule->event = event;
    rule->tag = g_strdup(tag);
    g_ptr_array_add(s->rules, rule);
    return 0;
}

static BlkdebugSuspended *find_suspended(BlkdebugState *s, const char *tag)
{
    for (GList *l = s->suspended; l; l = l->next) {
        BlkdebugSuspended *r = l->data;

        if (strcmp(r->tag, tag) == 0) {
            return r;
        }
    }
    return NULL;
}

static int blkdebug_debug_resume(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    BlkdebugSuspended *r;
    int ret = -ENOENT;

    while ((r = find_suspended(s, tag)) != NULL) {
        s->suspended = g_list_remove(s->suspended, r);
        if (notify) {
            notify(tag, true);
        }
        aio_co_wake(r->co);
        ret = 0;
    }
    return ret;
}

static int blkdebug_debug_remove_breakpoint(BlockDriverState *bs,
                                            const char *tag)
{
    BlkdebugState *s = bs->opaque;
    int ret = -ENOENT;

    for (guint i = s->rules->len; i-- > 0;) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);

        if (rule->action == BLKDEBUG_SUSPEND &&
            strcmp(rule->tag, tag) == 0) {
            g_ptr_array_remove_index(s->rules, i);
            ret = 0;
        }
    }
    (void)blkdebug_debug_resume(bs, tag);
    return ret;
}

static bool blkdebug_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    return find_suspended(bs->opaque, tag) != NULL;
}

/* --- Requests --- */

static bool rule_strikes(BlkdebugRule *rule, uint64_t offset, uint64_t bytes,
                         BlkdebugIoType type)
{
    if (rule->action != BLKDEBUG_INJECT_ERROR || !rule->armed ||
        !(rule->iotypes & (1u << type))) {
        return false;
    }
    if (rule->offset != UINT64_MAX && type != BLKDEBUG_FLUSH &&
        (rule->offset < offset || rule->offset - offset >= bytes)) {
        return false;
    }
    rule->seen++;
    return rule->nth == 0 || rule->seen == rule->nth;
}

/* Returns the error of the first rule that strikes, 0 when none does. */
static int coroutine_fn check_rules(BlockDriverState *bs, uint64_t offset,
                                    uint64_t bytes, BlkdebugIoType type)
{
    BlkdebugState *s = bs->opaque;

    for (guint i = 0; i < s->rules->len; i++) {
        BlkdebugRule *rule = g_ptr_array_index(s->rules, i);
        /* Waiting lets others use up breakpoints: @rule may be gone then. */
        int error = rule->error;
        uint64_t delay_ns = rule->delay_ns;
        bool yields = !rule->immediately;

        if (!rule_strikes(rule, offset, bytes, type)) {
            continue;
        }
        rule->armed = !rule->once;
        rule->spent = rule->once;
        if (delay_ns > 0) {
            aio_co_sleep_ns(MIN(delay_ns, INT64_MAX));
        } else if (yields) {
            aio_co_sleep_ns(0);
        }
        return -error;
    }
    return 0;
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs,
                                           uint64_t offset, uint64_t bytes,
                                           QEMUIOVector *qiov, unsigned flags)
{
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_READ);

    return ret ? ret : bdrv_co_preadv(bs->file, offset, bytes, qiov, flags);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            QEMUIOVector *qiov,
                                            unsigned flags)
{
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_WRITE);

    return ret ? ret : bdrv_co_pwritev(bs->file, offset, bytes, qiov, flags);
}

static int coroutine_fn blkdebug_co_pwritev_compressed(
    BlockDriverState *bs, uint64_t offset, uint64_t bytes, QEMUIOVector *qiov,
    unsigned flags)
{
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_WRITE);

    return ret ? ret : bdrv_co_pwritev(bs->file, offset, bytes, qiov, flags);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs,
                                                  uint64_t offset,
                                                  uint64_t bytes,
                                                  unsigned flags)
{
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_ZERO);

    return ret ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs,
                                             uint64_t offset, uint64_t bytes)
{
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_DISCARD);

    return ret ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush_to_disk(BlockDriverState *bs)
{
    return check_rules(bs, 0, 0, BLKDEBUG_FLUSH);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs,
                                                 uint64_t offset,
                                                 uint64_t bytes,
                                                 uint64_t *ret_bytes,
                                                 uint64_t *ret_map)
{
    uint64_t align = bs->request_alignment;
    int ret = check_rules(bs, offset, bytes, BLKDEBUG_STATUS);

    if (ret < 0) {
        return ret;
    }
    ret = bdrv_filter_co_block_status(bs, offset, bytes, ret_bytes, ret_map);
    if (ret >= 0 && *ret_bytes < align) {
        /* Mixed inside one block. */
        *ret_bytes = align;
        ret = (ret & ~BDRV_BLOCK_ZERO) | BDRV_BLOCK_DATA;
    }
    return ret;
}

BlockDriver bdrv_blkdebug = {
    .format_name = "blkdebug",
    .protocol_name = "blkdebug",
    .instance_size = sizeof(BlkdebugState),
    .is_filter = true,
    .parse_filename = blkdebug_parse_filename,
    .co_open = blkdebug_co_open,
    .co_close = blkdebug_co_close,
    .reopen_keep = blkdebug_reopen_keep,
    .reopen_unkeep = blkdebug_reopen_unkeep,
    .reopen_give = blkdebug_reopen_give,
    .reopen_drop = blkdebug_reopen_drop,
    .co_getlength = bdrv_filter_co_getlength,
    .co_preadv = blkdebug_co_preadv,
    .co_pwritev = blkdebug_co_pwritev,
    .co_pwritev_compressed = blkdebug_co_pwritev_compressed,
    .co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .co_pdiscard = blkdebug_co_pdiscard,
    .co_flush_to_disk = blkdebug_co_flush_to_disk,
    .co_truncate = bdrv_filter_co_truncate,
    .co_block_status = blkdebug_co_block_status,
    .debug_event = blkdebug_debug_event,
    .debug_breakpoint = blkdebug_debug_breakpoint,
    .debug_resume = blkdebug_debug_resume,
    .debug_remove_breakpoint = blkdebug_debug_remove_breakpoint,
    .debug_is_suspended = blkdebug_debug_is_suspended,
};

/* --- Finding the blkdebug node --- */

static BlockDriverState *find_debug_node(BlockDriverState *bs)
{
    while (bs && !bs->drv->debug_event) {
        bs = bs->file ? bs->file->bs : NULL;
    }
    return bs;
}

void coroutine_fn bdrv_co_debug_event(BlockDriverState *bs,
                                      BlkdebugEvent event)
{
    if (bs->drv->debug_event) {
        bs->drv->debug_event(bs, event);
    }
}

int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event,
                          const char *tag)
{
    int parsed = blkdebug_event_parse(event);

    bs = find_debug_node(bs);
    if (!bs) {
        return -ENOTSUP;
    }
    return parsed < 0 ? -EINVAL : bs->drv->debug_breakpoint(bs, parsed, tag);
}

int bdrv_debug_resume(BlockDriverState *bs, const char *tag)
{
    bs = find_debug_node(bs);
    return bs ? bs->drv->debug_resume(bs, tag) : -ENOTSUP;
}

int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    bs = find_debug_node(bs);
    return bs ? bs->drv->debug_remove_breakpoint(bs, tag) : -ENOTSUP;
}

bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    bs = find_debug_node(bs);
    return bs && bs->drv->debug_is_suspended(bs, tag);
}
