/* SPDX-License-Identifier: MIT */
/*
 * How blkdebug rules are written.
 *
 * Options:  inject-error.0.event=l2_load,inject-error.0.errno=5,...
 * File:     the same as repeated groups, which is why this is no GKeyFile:
 *
 *     [inject-error]
 *     event = "l2_load"
 *     errno = "5"
 *
 * inject-error: event, state, iotype (read, write, zero, discard, flush,
 * block-status), errno, sector or offset, once, immediately; our own: nth,
 * delay-ns. set-state: event, state, new_state. suspend (ours): event, tag.
 */
#include <errno.h>
#include <string.h>

#include "block/blkdebug_int.h"
#include "util/nearest.h"
#include "util/small-file.h"

#define MAX_CONFIG (1024 * 1024)
#define MAX_RULES  1024

static const char *const event_names[] = {
#define BLKDBG_NAME(sym, name) [BLKDBG_##sym] = name,
    BLKDBG_EVENT_TABLE(BLKDBG_NAME)
#undef BLKDBG_NAME
};

const char *blkdebug_event_name(BlkdebugEvent event)
{
    assert(event < BLKDBG__MAX);
    return event_names[event];
}

int blkdebug_event_parse(const char *name)
{
    for (int i = 0; i < BLKDBG__MAX; i++) {
        if (strcmp(event_names[i], name) == 0) {
            return i;
        }
    }
    return -EINVAL;
}

void blkdebug_rule_free(BlkdebugRule *rule)
{
    if (rule) {
        g_free(rule->tag);
        g_free(rule);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlkdebugRule, blkdebug_rule_free)

/* --- Configuration file --- */

static int config_error(const char *path, unsigned line, GError **errp)
{
    return set_error(errp, -EINVAL, "%s:%u: neither '[group]' nor 'key = "
                     "\"value\"' inside one", path, line);
}

/* "key = value" or "key = "value"", in place. */
static bool split_assignment(char *line, char **ret_key, char **ret_value)
{
    char *equals = strchr(line, '=');
    char *value;
    size_t len;

    if (!equals) {
        return false;
    }
    *equals = '\0';
    *ret_key = g_strstrip(line);
    value = g_strstrip(equals + 1);
    len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value[len - 1] = '\0';
        value++;
    }
    *ret_value = value;
    return **ret_key != '\0';
}

int blkdebug_read_config(const char *path, BdrvOptions *options,
                         GError **errp)
{
    g_autofree char *text = NULL;
    g_autofree char *group = NULL;
    g_auto(GStrv) lines = NULL;
    unsigned nb_groups = 0;
    size_t bytes;
    int ret = read_small_file(path, "blkdebug rules", MAX_CONFIG, &text,
                              &bytes, errp);

    if (ret < 0) {
        return ret;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);
        size_t len = strlen(line);
        char *key, *value;

        if (len == 0 || *line == '#') {
            continue;
        }
        if (*line == '[' && line[len - 1] == ']') {
            g_free(group);
            /* One number for each group, whatever its kind. */
            group = g_strdup_printf("%.*s.%u", (int)len - 2, line + 1,
                                    nb_groups++);
        } else if (group && split_assignment(line, &key, &value)) {
            g_autofree char *full = g_strconcat(group, ".", key, NULL);

            bdrv_options_set_default(options, full, value);
        } else {
            return config_error(path, i + 1, errp);
        }
    }
    return 0;
}

/* --- Rules from options --- */

int blkdebug_unknown_event(const char *name, GError **errp)
{
    g_autofree char *hint = NULL;
    Nearest n;

    nearest_init(&n, name);
    for (int i = 0; i < BLKDBG__MAX; i++) {
        nearest_offer(&n, event_names[i]);
    }
    hint = nearest_hint(&n, "", "");
    return set_error(errp, -EINVAL, "unknown event '%s'%s", name, hint);
}

static int take_event(BdrvOptions *o, BlkdebugRule *rule, GError **errp)
{
    g_autofree char *name = bdrv_options_take(o, "event");
    int event;

    if (!name) {
        if (rule->action == BLKDEBUG_INJECT_ERROR) {
            rule->event = BLKDBG_NONE;
            return 0;
        }
        return set_error(errp, -EINVAL, "the rule needs an event");
    }
    event = blkdebug_event_parse(name);
    if (event < 0) {
        return blkdebug_unknown_event(name, errp);
    }
    rule->event = event;
    return 0;
}

static int take_iotype(BdrvOptions *o, BlkdebugRule *rule, GError **errp)
{
    static const struct {
        const char *name;
        BlkdebugIoType type;
    } types[] = {
        { "read", BLKDEBUG_READ },
        { "write", BLKDEBUG_WRITE },
        { "zero", BLKDEBUG_ZERO },
        { "write-zeroes", BLKDEBUG_ZERO },
        { "discard", BLKDEBUG_DISCARD },
        { "flush", BLKDEBUG_FLUSH },
        { "block-status", BLKDEBUG_STATUS },
    };
    g_autofree char *name = bdrv_options_take(o, "iotype");

    rule->iotypes = ((1u << BLKDEBUG_IOTYPE__MAX) - 1) &
                    ~(1u << BLKDEBUG_STATUS);
    if (!name) {
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            rule->iotypes = 1u << types[i].type;
            return 0;
        }
    }
    return bdrv_options_refuse("iotype", name,
                               NEAREST_LIST("read", "write", "write-zeroes",
                                            "discard", "flush",
                                            "block-status"), errp);
}

static int take_place(BdrvOptions *o, BlkdebugRule *rule, GError **errp)
{
    uint64_t sector;
    int ret = bdrv_options_take_size(o, "offset", UINT64_MAX, &rule->offset,
                                     errp);

    if (ret == 0) {
        ret = bdrv_options_take_u64(o, "sector", UINT64_MAX, &sector, errp);
    }
    if (ret < 0 || sector == UINT64_MAX) {
        return ret;
    }
    if (rule->offset != UINT64_MAX || sector > BDRV_MAX_LENGTH / 512) {
        return set_error(errp, -EINVAL, "sector is out of range or given "
                         "along with offset");
    }
    rule->offset = sector * 512;
    return 0;
}

static int take_inject_error(BdrvOptions *o, BlkdebugRule *rule,
                             GError **errp)
{
    uint64_t error = 0;
    int ret = take_iotype(o, rule, errp);

    if (ret == 0) {
        ret = take_place(o, rule, errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_u64(o, "errno", EIO, &error, errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_u64(o, "nth", 0, &rule->nth, errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_u64(o, "delay-ns", 0, &rule->delay_ns, errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_bool(o, "once", false, &rule->once, errp);
    }
    if (ret == 0) {
        ret = bdrv_options_take_bool(o, "immediately", false,
                                     &rule->immediately, errp);
    }
    if (ret == 0 && error > 4095) {
        return set_error(errp, -EINVAL, "errno is out of range");
    }
    rule->error = error;
    rule->armed = rule->event == BLKDBG_NONE;
    return ret;
}

static int take_suspend(BdrvOptions *o, BlkdebugRule *rule, GError **errp)
{
    rule->tag = bdrv_options_take(o, "tag");
    return rule->tag ? 0 : set_error(errp, -EINVAL, "the rule needs a tag");
}

/* The options of one rule, all of which must have a meaning. */
static int take_rule(BdrvOptions *o, BlkdebugAction action,
                     BlkdebugRule **ret_rule, GError **errp)
{
    g_autoptr(BlkdebugRule) rule = g_new0(BlkdebugRule, 1);
    int ret;

    rule->action = action;
    ret = take_event(o, rule, errp);
    if (ret == 0) {
        ret = bdrv_options_take_u64(o, "state", 0, &rule->state, errp);
    }
    if (ret < 0) {
        return ret;
    }
    switch (action) {
    case BLKDEBUG_INJECT_ERROR:
        ret = take_inject_error(o, rule, errp);
        break;
    case BLKDEBUG_SET_STATE:
        ret = bdrv_options_take_u64(o, "new_state", 0, &rule->new_state,
                                    errp);
        break;
    case BLKDEBUG_SUSPEND:
        ret = take_suspend(o, rule, errp);
        break;
    }
    if (ret == 0) {
        ret = bdrv_options_check_empty(o, errp);
    }
    if (ret == 0) {
        *ret_rule = g_steal_pointer(&rule);
    }
    return ret;
}

static int take_group(BdrvOptions *options, const char *group,
                      BlkdebugAction action, GPtrArray *rules, GError **errp)
{
    g_autofree char *prefix = g_strconcat(group, ".", NULL);
    g_autoptr(BdrvOptions) all = bdrv_options_take_prefix(options, prefix);
    g_autoptr(GPtrArray) each = bdrv_options_take_numbered(all, MAX_RULES);
    int ret = 0;

    for (guint i = 0; i < each->len && ret == 0; i++) {
        BdrvOptions *one = g_ptr_array_index(each, i);
        BlkdebugRule *rule = NULL;

        ret = one ? take_rule(one, action, &rule, errp) : 0;
        if (rule) {
            g_ptr_array_add(rules, rule);
        }
    }
    if (ret == 0) {
        ret = bdrv_options_check_empty(all, errp);
    }
    return ret < 0 ? prefix_error(errp, ret, "blkdebug, %s: ", group) : 0;
}

int blkdebug_take_rules(BdrvOptions *options, GPtrArray *rules, GError **errp)
{
    int ret = take_group(options, "inject-error", BLKDEBUG_INJECT_ERROR,
                         rules, errp);

    if (ret == 0) {
        ret = take_group(options, "set-state", BLKDEBUG_SET_STATE, rules,
                         errp);
    }
    if (ret == 0) {
        ret = take_group(options, "suspend", BLKDEBUG_SUSPEND, rules, errp);
    }
    return ret;
}
