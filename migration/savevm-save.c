/* SPDX-License-Identifier: MIT */
/*
 * savevm: stop, drain, write the stream through the pipeline, snapshot all
 * disks. The snapshot's table entry is what makes a save exist: it comes last,
 * and its own flush makes the stream durable before it.
 */
#include "savevm-int.h"

/* Pages of one PART section: 64 MiB of RAM. */
#define SAVE_ROUND_PAGES 16384

enum { SAVE_RAM_SECTION = 0 }; /* devices count from 1 */

static void coroutine_fn save_section_header(VmStream *f, uint8_t type,
                                             uint32_t id, const char *idstr,
                                             uint32_t instance_id,
                                             uint32_t version_id)
{
    vmstream_put_u8(f, type);
    vmstream_put_be32(f, id);
    if (type == VM_START || type == VM_FULL) {
        vmstream_put_counted(f, idstr);
        vmstream_put_be32(f, instance_id);
        vmstream_put_be32(f, version_id);
    }
}

static void coroutine_fn save_footer(VmStream *f, uint32_t id)
{
    vmstream_put_u8(f, VM_FOOTER);
    vmstream_put_be32(f, id);
}

static void coroutine_fn save_header(SaveVMOp *op, VmDesc *desc)
{
    VmStream *f = op->f;
    size_t len = strlen(op->s->machine);

    vmstream_put_be32(f, VM_MAGIC);
    vmstream_put_be32(f, VM_VERSION);
    vmstream_put_u8(f, VM_CONFIGURATION);
    vmstream_put_be32(f, (uint32_t)len);
    vmstream_put_buffer(f, op->s->machine, len);

    vmdesc_begin_configuration(desc);
    vmdesc_begin_vmsd(desc, "configuration", 1);
    vmdesc_begin_field(desc, "len", "uint32", 0, -1);
    vmdesc_end_field(desc, "uint32", 4);
    vmdesc_begin_field(desc, "name", "buffer", 0, -1);
    vmdesc_end_field(desc, "buffer", len);
    vmdesc_end_fields(desc);
    vmdesc_end_vmsd(desc);
    vmdesc_end_configuration(desc);
}

static int save_ram_step(void *opaque, uint64_t pages)
{
    SaveVMOp *op = opaque;

    op->pages = pages;
    return savevm_op_step(op, pages * TARGET_PAGE_SIZE);
}

static int coroutine_fn save_ram(SaveVMOp *op)
{
    VmStream *f = op->f;
    RamSaver saver = {
        .blocks = op->s->ram, .step = save_ram_step, .opaque = op,
    };
    int more = op->s->ram->len > 0;

    save_section_header(f, VM_START, SAVE_RAM_SECTION, RAM_SECTION_NAME, 0,
                        RAM_SECTION_VERSION);
    ram_save_setup(&saver, f);
    save_footer(f, SAVE_RAM_SECTION);
    while (more > 0) {
        save_section_header(f, VM_PART, SAVE_RAM_SECTION, NULL, 0, 0);
        more = ram_save_round(&saver, f, SAVE_ROUND_PAGES);
        save_footer(f, SAVE_RAM_SECTION);
    }
    if (more < 0) {
        return more;
    }
    save_section_header(f, VM_END, SAVE_RAM_SECTION, NULL, 0, 0);
    more = ram_save_round(&saver, f, 0);
    save_footer(f, SAVE_RAM_SECTION);
    return more;
}

static int coroutine_fn save_devices(SaveVMOp *op, VmDesc *desc,
                                     GError **errp)
{
    SaveVMState *s = op->s;

    for (guint i = 0; i < s->devices->len; i++) {
        const SaveVMDevice *dev = s->devices->pdata[i];
        int ret;

        save_section_header(op->f, VM_FULL, i + 1, dev->idstr,
                            dev->instance_id,
                            (uint32_t)dev->vmsd->version_id);
        vmdesc_begin_device(desc, dev->idstr, dev->instance_id);
        ret = vmstate_save(op->f, dev->vmsd, dev->opaque, desc, errp);
        vmdesc_end_device(desc);
        save_footer(op->f, i + 1);
        if (ret < 0) {
            return prefix_error(errp, ret, "device '%s' instance %" PRIu32
                                ": ", dev->idstr, dev->instance_id);
        }
        if (savevm_op_cancelled(op)) {
            return -ECANCELED;
        }
    }
    return 0;
}

static int coroutine_fn save_stream(SaveVMOp *op, GError **errp)
{
    VmDesc *desc = vmdesc_new(TARGET_PAGE_SIZE);
    g_autofree char *text = NULL;
    size_t len;
    int ret;

    save_header(op, desc);
    ret = save_ram(op);
    if (ret == 0) {
        ret = save_devices(op, desc, errp);
    }
    if (ret == 0) {
        vmstream_put_u8(op->f, VM_EOF);
        text = vmdesc_to_text(desc, &len);
        vmstream_put_u8(op->f, VM_DESCRIPTION);
        vmstream_put_be32(op->f, (uint32_t)len);
        vmstream_put_buffer(op->f, text, len);
        ret = vmstream_error(op->f);
    }
    vmdesc_free(desc);
    return ret;
}

/* Write the vmstate to the carrier, whole or not at all. */
static int coroutine_fn save_vmstate(SaveVMOp *op, uint64_t *ret_size,
                                     GError **errp)
{
    BlockDriverState *bs = blk_bs(op->carrier->blk);
    BdrvVmstateOptions opts = {
        .workers = op->params.workers,
        .chunk_bytes = op->params.chunk_bytes,
        .no_readahead = op->params.no_readahead,
    };
    int ret = bdrv_co_vmstate_begin_save(bs, &opts, errp);
    int err;

    if (ret < 0) {
        return ret;
    }
    op->f = vmstream_new_save_bdrv(bs);
    ret = save_stream(op, errp);
    *ret_size = vmstream_pos(op->f);
    vmstream_free(op->f);
    op->f = NULL;
    err = bdrv_co_finalize_vmstate(bs);
    ret = ret < 0 ? ret : err;
    if (ret == 0 && savevm_op_cancelled(op)) {
        ret = -ECANCELED;
    }
    if (ret == -ECANCELED) {
        set_error(errp, ret, "saving '%s' was cancelled", op->tag);
    } else if (ret < 0) {
        set_error(errp, ret, "cannot write the machine's state to disk '%s': "
                  "%s", op->carrier->name, g_strerror(-ret));
    }
    return ret;
}

/* Nothing of a failed save stays in the carrier's active layer. */
static void coroutine_fn save_discard(SaveVMOp *op, GError **errp)
{
    int ret = bdrv_co_vmstate_discard(blk_bs(op->carrier->blk));

    if (ret < 0) {
        savevm_add_message(errp, "; what was written could not be dropped "
                           "again (%s)", g_strerror(-ret));
    }
}

int coroutine_fn savevm_co_save(SaveVMState *s, const char *tag,
                                const SaveVMParams *params, GError **errp)
{
    g_autoptr(GError) local = NULL;
    SaveVMOp op;
    uint64_t size = 0;
    int ret;

    if (!savevm_is_usable(s)) {
        return set_error(errp, -EINVAL, "the machine's state is not usable "
                         "since a load failed; load a snapshot first");
    }
    ret = savevm_op_begin(&op, s, tag, params, errp);
    if (ret < 0) {
        return ret;
    }
    for (guint i = 0; i < s->ram->len; i++) {
        op.total += ((RamBlock *)s->ram->pdata[i])->bytes;
    }
    ret = savevm_op_quiesce(&op, true, &local);
    if (ret == 0) {
        ret = save_vmstate(&op, &size, &local);
        if (ret == 0) {
            ret = savevm_disks_create(&op, size, &local);
        }
        if (ret < 0) {
            save_discard(&op, &local);
        }
        savevm_op_release(&op, true);
    }
    if (ret == 0) {
        savevm_op_show_end(&op, size);
    } else {
        g_propagate_error(errp, g_steal_pointer(&local));
    }
    savevm_op_end(&op);
    return ret;
}
