/* SPDX-License-Identifier: MIT */
/*
 * The driver table. Requests hold map_lock shared and go to alloc.c, zero.c or
 * writeback.c, those for compressed clusters to compress-write.c; what changes
 * the whole map holds it exclusively (K4) and is in snapshot.c, vmstate.c and
 * truncate.c.
 */
#include "qcow2_int.h"

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    if (len < 8 || be32_get(buf) != QCOW2_MAGIC ||
        be32_get(buf + 4) < 2) {
        return 0;
    }
    return 100;
}

static int coroutine_fn qcow2_co_preadv(BlockDriverState *bs,
                                        uint64_t offset, uint64_t bytes,
                                        QEMUIOVector *qiov, unsigned flags)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_rwlock_rdlock(&s->map_lock);
    ret = qcow2_read_range(s, offset, bytes, qiov, 0);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs,
                                         uint64_t offset, uint64_t bytes,
                                         QEMUIOVector *qiov, unsigned flags)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_rwlock_rdlock(&s->map_lock);
    ret = qcow2_write_range(s, offset, bytes, qiov);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs,
                                                    uint64_t offset,
                                                    uint64_t bytes,
                                                    QEMUIOVector *qiov,
                                                    unsigned flags)
{
    Qcow2State *s = bs->opaque;
    int ret;

    co_rwlock_rdlock(&s->map_lock);
    ret = qcow2_write_compressed(s, offset, bytes, qiov,
                                 flags & BDRV_REQ_REPLACE);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static int coroutine_fn qcow2_co_copy_range(BlockDriverState *bs,
                                            uint64_t offset, uint64_t bytes,
                                            BlockDriverState *src,
                                            uint64_t src_offset)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (s->hdr.crypt_method) {
        return -ENOTSUP; /* what is stored is not what is written */
    }
    co_rwlock_rdlock(&s->map_lock);
    ret = qcow2_copy_range(s, offset, bytes, src, src_offset);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static const char *qcow2_data_file_name(const BlockDriverState *bs)
{
    const Qcow2State *s = bs->opaque;

    return qcow2_has_data_file(s) ? s->ext.data_file_name : NULL;
}

static int coroutine_fn qcow2_co_flush_to_os(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (bs->read_only) {
        return 0;
    }
    co_rwlock_rdlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = qcow2_flush_metadata(s);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    return ret;
}

static int coroutine_fn qcow2_co_block_status(BlockDriverState *bs,
                                              uint64_t offset,
                                              uint64_t bytes,
                                              uint64_t *ret_bytes,
                                              uint64_t *ret_map)
{
    Qcow2State *s = bs->opaque;
    Qcow2Mapping m;
    int ret, valid;

    co_rwlock_rdlock(&s->map_lock);
    co_mutex_lock(&s->lock);
    ret = qcow2_map(s, &s->l1, offset, bytes, &m);
    co_mutex_unlock(&s->lock);
    co_rwlock_unlock(&s->map_lock);
    if (ret < 0) {
        return ret;
    }
    *ret_bytes = m.bytes;
    if (ret_map) {
        *ret_map = m.host_offset;
    }
    /* Bytes that only the key makes sense of are nobody's to look up. */
    valid = s->hdr.crypt_method ? 0 : BDRV_BLOCK_OFFSET_VALID;
    switch (m.type) {
    case QCOW2_CLUSTER_UNALLOCATED:
        return qcow2_entry_has_host(s, m.entry) ? valid : 0;
    case QCOW2_CLUSTER_ZERO_PLAIN:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    case QCOW2_CLUSTER_COMPRESSED:
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
    case QCOW2_CLUSTER_ZERO_ALLOC:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED | valid;
    case QCOW2_CLUSTER_NORMAL:
        break;
    }
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | valid |
           (valid && qcow2_holes_are_zeroes(s) ? BDRV_BLOCK_RECURSE : 0);
}

static int coroutine_fn qcow2_co_get_info(BlockDriverState *bs,
                                          BdrvInfo *ret)
{
    Qcow2State *s = bs->opaque;

    *ret = (BdrvInfo) {
        .cluster_size = s->cluster_size,
        .vm_state_offset = qcow2_vmstate_offset(s, s->hdr.size),
        .is_dirty = s->hdr.incompatible_features & QCOW2_INC_DIRTY,
    };
    return 0;
}

BlockDriver bdrv_qcow2 = {
    .format_name = "qcow2",
    .instance_size = sizeof(Qcow2State),
    .probe = qcow2_probe,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_create = qcow2_co_create,
    .co_measure = qcow2_co_measure,
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwritev_compressed = qcow2_co_pwritev_compressed,
    .co_copy_range = qcow2_co_copy_range,
    .data_file_name = qcow2_data_file_name,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_flush_to_os = qcow2_co_flush_to_os,
    .co_truncate = qcow2_co_truncate,
    .co_amend = qcow2_co_amend,
    .co_make_empty = qcow2_co_make_empty,
    .co_change_backing_file = qcow2_co_change_backing_file,
    .co_block_status = qcow2_co_block_status,
    .co_get_info = qcow2_co_get_info,
    .co_describe = qcow2_co_describe,
    .co_check = qcow2_co_check,
    .bitmap_can_store = qcow2_bitmap_can_store,
    .co_bitmap_load = qcow2_co_bitmap_load,
    .co_snapshot_create = qcow2_co_snapshot_create,
    .co_snapshot_goto = qcow2_co_snapshot_goto,
    .co_snapshot_delete = qcow2_co_snapshot_delete,
    .co_snapshot_list = qcow2_co_snapshot_list,
    .co_save_vmstate = qcow2_co_save_vmstate,
    .co_load_vmstate = qcow2_co_load_vmstate,
    .co_vmstate_select = qcow2_co_vmstate_select,
    .co_vmstate_discard = qcow2_co_vmstate_discard,
};
