/* SPDX-License-Identifier: MIT */
/* Which drivers there are, by name, by prefix of a filename, one by one. */
#include <string.h>

#include "block/block_int.h"
#include "util/nearest.h"

static BlockDriver *const builtin_drivers[] = {
    &bdrv_raw,
    &bdrv_qcow2,
    &bdrv_file,
    &bdrv_null_co,
    &bdrv_blkdebug,
    &bdrv_blkverify,
    &bdrv_copy_on_read,
    &bdrv_null_aio,
    &bdrv_preallocate,
};

static GPtrArray *registered_drivers;

void bdrv_register(BlockDriver *drv)
{
    if (!registered_drivers) {
        registered_drivers = g_ptr_array_new();
    }
    if (!g_ptr_array_find(registered_drivers, drv, NULL)) {
        g_ptr_array_add(registered_drivers, drv);
    }
}

BlockDriver *bdrv_nth_driver(size_t i)
{
    if (i < G_N_ELEMENTS(builtin_drivers)) {
        return builtin_drivers[i];
    }
    i -= G_N_ELEMENTS(builtin_drivers);
    if (registered_drivers && i < registered_drivers->len) {
        return g_ptr_array_index(registered_drivers, i);
    }
    return NULL;
}

BlockDriver *bdrv_find_format(const char *name)
{
    BlockDriver *drv;

    for (size_t i = 0; (drv = bdrv_nth_driver(i)) != NULL; i++) {
        if (strcmp(drv->format_name, name) == 0) {
            return drv;
        }
    }
    return NULL;
}

static void unknown_protocol(const char *name, const char *filename,
                             GError **errp)
{
    g_autofree char *hint = NULL;
    BlockDriver *drv;
    Nearest n;

    nearest_init(&n, name);
    for (size_t i = 0; (drv = bdrv_nth_driver(i)) != NULL; i++) {
        if (drv->protocol_name) {
            nearest_offer(&n, drv->protocol_name);
        }
    }
    nearest_offer(&n, "json");
    hint = nearest_hint(&n, "", "");
    set_error(errp, -ENOTSUP, "unknown protocol '%s' in '%s'%s; for a file of "
              "that name say 'file:%s'", name, filename, hint, filename);
}

BlockDriver *bdrv_find_protocol(const char *filename, GError **errp)
{
    g_autofree char *name = bdrv_protocol_name(filename);
    BlockDriver *drv;

    if (!name) {
        return &bdrv_file;
    }
    for (size_t i = 0; (drv = bdrv_nth_driver(i)) != NULL; i++) {
        if (drv->protocol_name && strcmp(drv->protocol_name, name) == 0) {
            return drv;
        }
    }
    unknown_protocol(name, filename, errp);
    return NULL;
}

static void unknown_driver(const char *name, GError **errp)
{
    g_autofree char *hint = NULL;
    BlockDriver *drv;
    Nearest n;

    nearest_init(&n, name);
    for (size_t i = 0; (drv = bdrv_nth_driver(i)) != NULL; i++) {
        nearest_offer(&n, drv->format_name);
    }
    hint = nearest_hint(&n, "", "");
    set_error(errp, -ENOTSUP, "unknown driver '%s'%s", name, hint);
}

BlockDriver *bdrv_find_named_driver(const char *name, GError **errp)
{
    BlockDriver *drv = bdrv_find_format(name);

    if (!drv && strcmp(name, "throttle") == 0) {
        set_error(errp, -ENOTSUP, "driver 'throttle' is not supported: rates "
                  "are limited by who asks (commit -r)");
    } else if (!drv) {
        unknown_driver(name, errp);
    }
    return drv;
}
