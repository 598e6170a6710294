/* SPDX-License-Identifier: MIT */
/*
 * One snapshot on several disks. Ids differ from disk to disk, so name, date
 * and clock hold it together: a save gives all disks the same. The name alone
 * does not, since a save that is killed may have replaced it on some disks
 * only. Within a disk everything here goes by id. The newest snapshot that is
 * complete counts.
 */
#include "savevm-int.h"

static int coroutine_fn savevm_list_disk(SaveVMDisk *disk, GPtrArray **ret,
                                         GError **errp)
{
    int err = bdrv_co_snapshot_list(blk_bs(disk->blk), ret, errp);

    if (err < 0) {
        set_error(errp, err, "%s", g_strerror(-err));
        return prefix_error(errp, err, "snapshots of disk '%s': ",
                            disk->name);
    }
    return 0;
}

static void savevm_free_array(void *array)
{
    g_ptr_array_unref(array);
}

/* The snapshots of each disk, in the order of op->disks. */
static int coroutine_fn savevm_list_all(SaveVMOp *op, GPtrArray **ret,
                                        GError **errp)
{
    g_autoptr(GPtrArray) lists = NULL;

    lists = g_ptr_array_new_with_free_func(savevm_free_array);
    for (guint i = 0; i < op->disks->len; i++) {
        GPtrArray *list;
        int err = savevm_list_disk(op->disks->pdata[i], &list, errp);

        if (err < 0) {
            return err;
        }
        g_ptr_array_add(lists, list);
    }
    *ret = g_steal_pointer(&lists);
    return 0;
}

/* The newest snapshot called @name, or NULL. */
static BdrvSnapshotInfo *savevm_find_name(GPtrArray *list, const char *name)
{
    for (guint i = list->len; i > 0; i--) {
        BdrvSnapshotInfo *info = list->pdata[i - 1];

        if (strcmp(info->name, name) == 0) {
            return info;
        }
    }
    return NULL;
}

static BdrvSnapshotInfo *savevm_find_id(GPtrArray *list, const char *id)
{
    for (guint i = 0; i < list->len; i++) {
        BdrvSnapshotInfo *info = list->pdata[i];

        if (strcmp(info->id, id) == 0) {
            return info;
        }
    }
    return NULL;
}

/* Did one save make both? See savevm_make_info(). */
static bool savevm_same_save(const BdrvSnapshotInfo *a,
                             const BdrvSnapshotInfo *b)
{
    return strcmp(a->name, b->name) == 0 && a->date_sec == b->date_sec &&
           a->date_nsec == b->date_nsec &&
           a->vm_clock_nsec == b->vm_clock_nsec;
}

/* What the save that made @info left in @list, or NULL. */
static BdrvSnapshotInfo *savevm_find_same(GPtrArray *list,
                                          const BdrvSnapshotInfo *info)
{
    for (guint i = list->len; i > 0; i--) {
        if (savevm_same_save(list->pdata[i - 1], info)) {
            return list->pdata[i - 1];
        }
    }
    return NULL;
}

/* The first disk without a part of @info's save; NULL: it is complete. */
static const SaveVMDisk *savevm_find_gap(SaveVMOp *op, GPtrArray *lists,
                                         const BdrvSnapshotInfo *info)
{
    for (guint i = 0; i < lists->len; i++) {
        if (!savevm_find_same(lists->pdata[i], info)) {
            return op->disks->pdata[i];
        }
    }
    return NULL;
}

guint savevm_carrier_index(const SaveVMOp *op)
{
    guint i = 0;

    while (op->disks->pdata[i] != op->carrier) {
        i++;
    }
    return i;
}

/* -ENOENT, naming the disks, unless all have a snapshot called @name. */
static int savevm_check_name(SaveVMOp *op, GPtrArray *lists, const char *name,
                             GError **errp)
{
    g_autoptr(GString) missing = g_string_new(NULL);

    for (guint i = 0; i < lists->len; i++) {
        const SaveVMDisk *disk = op->disks->pdata[i];

        if (!savevm_find_name(lists->pdata[i], name)) {
            g_string_append_printf(missing, " '%s'", disk->name);
        }
    }
    if (missing->len > 0) {
        return set_error(errp, -ENOENT, "there is no snapshot '%s' on disk%s",
                         op->tag, missing->str);
    }
    return 0;
}

/*
 * The newest complete snapshot that op->tag means, as the carrier lists it: a
 * name, or else the id of the only one that will do.
 */
static int savevm_pick(SaveVMOp *op, GPtrArray *lists,
                       const BdrvSnapshotInfo **ret, GError **errp)
{
    GPtrArray *list = lists->pdata[savevm_carrier_index(op)];
    const BdrvSnapshotInfo *named = savevm_find_name(list, op->tag);
    const BdrvSnapshotInfo *first = named ? named
                                          : savevm_find_id(list, op->tag);
    int err = savevm_check_name(op, lists, first ? first->name : op->tag,
                                errp);

    if (err < 0) {
        return err;
    }
    for (guint i = list->len; i > 0; i--) {
        const BdrvSnapshotInfo *info = list->pdata[i - 1];

        if ((named ? strcmp(info->name, op->tag) == 0 : info == first) &&
            !savevm_find_gap(op, lists, info)) {
            *ret = info;
            return 0;
        }
    }
    return set_error(errp, -EINVAL, "snapshot '%s' is of different saves on "
                     "disks '%s' and '%s'", op->tag, op->carrier->name,
                     savevm_find_gap(op, lists, first)->name);
}

int coroutine_fn savevm_disks_find(SaveVMOp *op, GPtrArray **ret_ids,
                                   uint64_t *ret_size, GError **errp)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) lists = NULL;
    const BdrvSnapshotInfo *info = NULL;
    int ret = savevm_list_all(op, &lists, errp);

    if (ret == 0) {
        ret = savevm_pick(op, lists, &info, errp);
    }
    if (ret < 0) {
        return ret;
    }
    for (guint i = 0; i < lists->len; i++) {
        g_ptr_array_add(ids, g_strdup(savevm_find_same(lists->pdata[i], info)
                                      ->id));
    }
    *ret_size = info->vm_state_size;
    *ret_ids = g_steal_pointer(&ids);
    return 0;
}

/* --- Create --- */

/* For each disk the ids that have the name now: what a save replaces. */
static int coroutine_fn savevm_collect_old(SaveVMOp *op, GPtrArray *old,
                                           GError **errp)
{
    g_autoptr(GPtrArray) lists = NULL;
    int ret = savevm_list_all(op, &lists, errp);

    for (guint i = 0; ret == 0 && i < lists->len; i++) {
        GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
        const GPtrArray *list = lists->pdata[i];

        g_ptr_array_add(old, ids);
        for (guint n = 0; n < list->len; n++) {
            const BdrvSnapshotInfo *info = list->pdata[n];

            if (strcmp(info->name, op->tag) == 0) {
                g_ptr_array_add(ids, g_strdup(info->id));
            }
        }
    }
    return ret;
}

/* Remove @id from @disk; what goes wrong is added to @errp's message. */
static void coroutine_fn savevm_undo_create(SaveVMDisk *disk, const char *id,
                                            GError **errp)
{
    g_autoptr(GError) local = NULL;
    int ret = bdrv_co_snapshot_delete(blk_bs(disk->blk), id, NULL, &local);

    if (ret < 0) {
        savevm_add_message(errp, "; it could not be removed from disk '%s' "
                           "again (%s)", disk->name,
                           local ? local->message : g_strerror(-ret));
    }
}

/* One for all disks: what it holds but the size marks them as one save. */
static BdrvSnapshotInfo *savevm_make_info(SaveVMOp *op)
{
    BdrvSnapshotInfo *info = bdrv_snapshot_info_new();
    int64_t now_us = g_get_real_time();
    SaveVMState *s = op->s;

    info->name = g_strdup(op->tag);
    info->date_sec = now_us / 1000000;
    info->date_nsec = (uint32_t)(now_us % 1000000) * 1000;
    if (s->ops->clock_ns) {
        info->vm_clock_nsec = s->ops->clock_ns(s->opaque);
    }
    return info;
}

/* Create on all disks or on none. */
static int coroutine_fn savevm_create_all(SaveVMOp *op,
                                          uint64_t vm_state_size,
                                          GError **errp)
{
    g_autoptr(BdrvSnapshotInfo) model = savevm_make_info(op);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    int ret = 0;

    for (guint i = 0; i < op->disks->len && ret == 0; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];
        g_autoptr(BdrvSnapshotInfo) info = bdrv_snapshot_info_copy(model);

        info->vm_state_size = disk == op->carrier ? vm_state_size : 0;
        ret = bdrv_co_snapshot_create(blk_bs(disk->blk), info, errp);
        if (ret == 0) {
            g_ptr_array_add(ids, g_strdup(info->id));
        } else {
            set_error(errp, ret, "%s", g_strerror(-ret));
            prefix_error(errp, ret, "snapshot '%s' on disk '%s': ", op->tag,
                         disk->name);
        }
    }
    if (ret < 0) {
        for (guint i = ids->len; i > 0; i--) {
            savevm_undo_create(op->disks->pdata[i - 1], ids->pdata[i - 1],
                               errp);
        }
    }
    return ret;
}

/* The new one is complete everywhere; remove what it replaces. */
static int coroutine_fn savevm_delete_old(SaveVMOp *op, GPtrArray *old,
                                          GError **errp)
{
    int first = 0;

    for (guint i = 0; i < op->disks->len; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];
        GPtrArray *ids = old->pdata[i];

        for (guint n = 0; n < ids->len; n++) {
            g_autoptr(GError) local = NULL;
            int ret = bdrv_co_snapshot_delete(blk_bs(disk->blk),
                                              ids->pdata[n], NULL, &local);

            if (ret < 0 && first == 0) {
                first = set_error(errp, ret, "snapshot '%s' is complete, but "
                                  "the one it replaces remains on disk '%s': "
                                  "%s", op->tag, disk->name,
                                  local ? local->message : g_strerror(-ret));
            }
        }
    }
    return first;
}

int coroutine_fn savevm_disks_create(SaveVMOp *op, uint64_t vm_state_size,
                                     GError **errp)
{
    g_autoptr(GPtrArray) old = NULL;
    int ret;

    old = g_ptr_array_new_with_free_func(savevm_free_array);
    ret = savevm_collect_old(op, old, errp);
    if (ret == 0) {
        ret = savevm_create_all(op, vm_state_size, errp);
    }
    if (ret == 0) {
        ret = savevm_delete_old(op, old, errp);
    }
    return ret;
}

/* --- Apply, delete, list --- */

int coroutine_fn savevm_disks_goto(SaveVMOp *op, const GPtrArray *ids,
                                   GError **errp)
{
    g_autoptr(GString) applied = g_string_new(NULL);

    for (guint i = 0; i < op->disks->len; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];
        int ret = bdrv_co_snapshot_goto(blk_bs(disk->blk), ids->pdata[i],
                                        errp);

        if (ret < 0) {
            set_error(errp, ret, "%s", g_strerror(-ret));
            prefix_error(errp, ret, "snapshot '%s' could not be applied to "
                         "disk '%s': ", op->tag, disk->name);
            savevm_add_message(errp, "; applied to:%s",
                               applied->len ? applied->str : " none");
            return ret;
        }
        g_string_append_printf(applied, " '%s'", disk->name);
    }
    return 0;
}

/* Delete all snapshots called @name from @disk and count them. */
static int coroutine_fn savevm_delete_disk(SaveVMDisk *disk, const char *name,
                                           unsigned *found, GError **errp)
{
    g_autoptr(GPtrArray) list = NULL;
    int ret = savevm_list_disk(disk, &list, errp);

    for (guint i = 0; ret == 0 && i < list->len; i++) {
        const BdrvSnapshotInfo *info = list->pdata[i];

        if (strcmp(info->name, name) == 0) {
            ++*found;
            ret = bdrv_co_snapshot_delete(blk_bs(disk->blk), info->id, NULL,
                                          errp);
            if (ret < 0) {
                set_error(errp, ret, "%s", g_strerror(-ret));
                prefix_error(errp, ret, "snapshot '%s' on disk '%s': ", name,
                             disk->name);
            }
        }
    }
    return ret;
}

/* The name that op->tag, a name or an id, stands for; to be freed. */
static int coroutine_fn savevm_resolve(SaveVMOp *op, char **ret,
                                       GError **errp)
{
    g_autoptr(GPtrArray) list = NULL;
    BdrvSnapshotInfo *info = NULL;
    int err = savevm_list_disk(op->carrier, &list, errp);

    if (err < 0) {
        return err;
    }
    if (!savevm_find_name(list, op->tag)) {
        info = savevm_find_id(list, op->tag);
    }
    *ret = g_strdup(info ? info->name : op->tag);
    return 0;
}

int coroutine_fn savevm_disks_delete(SaveVMOp *op, GError **errp)
{
    g_autoptr(GString) remains = g_string_new(NULL);
    g_autofree char *name = NULL;
    unsigned found = 0;
    int first = savevm_resolve(op, &name, errp);

    if (first < 0) {
        return first;
    }
    for (guint i = 0; i < op->disks->len; i++) {
        SaveVMDisk *disk = op->disks->pdata[i];
        int ret = savevm_delete_disk(disk, name, &found,
                                     first == 0 ? errp : NULL);

        if (ret < 0) {
            g_string_append_printf(remains, " '%s'", disk->name);
            first = first == 0 ? ret : first;
        }
    }
    if (first < 0) {
        savevm_add_message(errp, "; it may remain on disk%s", remains->str);
        return first;
    }
    if (found == 0) {
        return set_error(errp, -ENOENT, "there is no snapshot '%s'", op->tag);
    }
    return 0;
}

static void savevm_info_free(void *info)
{
    bdrv_snapshot_info_free(info);
}

int coroutine_fn savevm_disks_list(SaveVMOp *op, GPtrArray **ret,
                                   GError **errp)
{
    g_autoptr(GPtrArray) result = NULL;
    g_autoptr(GPtrArray) lists = NULL;
    const GPtrArray *list;
    int err = savevm_list_all(op, &lists, errp);

    if (err < 0) {
        return err;
    }
    result = g_ptr_array_new_with_free_func(savevm_info_free);
    list = lists->pdata[savevm_carrier_index(op)];
    for (guint i = 0; i < list->len; i++) {
        if (!savevm_find_gap(op, lists, list->pdata[i])) {
            g_ptr_array_add(result, bdrv_snapshot_info_copy(list->pdata[i]));
        }
    }
    *ret = g_steal_pointer(&result);
    return 0;
}
