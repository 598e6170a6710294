/* SPDX-License-Identifier: MIT */
/*
 * loadvm. The stream is read once from end to end: RAM goes straight to RAM,
 * device sections are checked and their place is noted. Only when all of it
 * was sound are the devices loaded, from a second look at their bytes, and
 * then the disks changed. Until the first page is stored the machine is as it
 * was and can go on.
 */
#include "savevm-int.h"

#define LOAD_MAX_CAPABILITIES 64

/* QEMU commands that mean nothing in a snapshot. */
enum { VM_COMMAND_OPEN_RETURN_PATH = 1, VM_COMMAND_PING = 2 };

/* A device's state in the stream. */
typedef struct LoadDevice {
    const SaveVMDevice *dev;
    uint64_t pos;
    uint64_t end;           /* where the check ended */
    uint32_t version_id;
    uint32_t section_id;
    bool found;
} LoadDevice;

typedef struct Loader {
    SaveVMOp *op;
    VmStream *f;
    RamLoader *ram;
    LoadDevice *devices;    /* as op->s->devices */
    GArray *order;          /* guint: indexes of @devices as they came */
    uint32_t ram_id;        /* once has_ram */
    bool has_ram;           /* START seen */
    bool ram_ended;         /* END seen */
    bool devices_touched;
} Loader;

typedef struct LoadSection {
    uint8_t type;
    uint64_t pos;
    uint32_t id;
    char idstr[256];        /* START, FULL */
    uint32_t instance_id;
    uint32_t version_id;
} LoadSection;

/* The stream's own error in words; 0 if there is none. */
static int load_stream_error(Loader *l, const char *where, GError **errp)
{
    int err = vmstream_error(l->f);

    if (err < 0) {
        set_error(errp, err, "%s: the stream ends or cannot be read at offset "
                  "%" PRIu64 " (%s)", where, vmstream_pos(l->f),
                  g_strerror(-err));
    }
    return err;
}

/* --- Envelope --- */

static int coroutine_fn load_machine(Loader *l, GError **errp)
{
    const char *machine = l->op->s->machine;
    uint32_t len = vmstream_get_be32(l->f);
    char name[256] = "";

    if (len > UINT8_MAX) {
        return set_error(errp, -EINVAL, "configuration: the machine's name "
                         "has %" PRIu32 " bytes", len);
    }
    vmstream_get_buffer(l->f, name, len);
    if (vmstream_error(l->f) < 0) {
        return load_stream_error(l, "configuration", errp);
    }
    if (len != strlen(machine) || memcmp(name, machine, len) != 0) {
        g_autofree char *shown = g_strescape(name, NULL);

        return set_error(errp, -EINVAL, "the snapshot is of a machine '%s', "
                         "this one is '%s'", shown, machine);
    }
    return 0;
}

static int coroutine_fn load_capabilities(Loader *l, GError **errp)
{
    uint32_t count = vmstream_get_be32(l->f);
    char name[256];

    if (count > LOAD_MAX_CAPABILITIES) {
        return set_error(errp, -EINVAL, "configuration: %" PRIu32
                         " capabilities", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        vmstream_get_counted(l->f, name);
        if (vmstream_error(l->f) == 0 && strcmp(name, "validate-uuid") != 0) {
            return set_error(errp, -EINVAL, "configuration: capability '%s' "
                             "changes the stream and is not known", name);
        }
    }
    return load_stream_error(l, "configuration/capabilities", errp);
}

static int coroutine_fn load_config_subsection(Loader *l, GError **errp)
{
    uint64_t pos = vmstream_pos(l->f);
    uint32_t version, bits;
    char name[256];

    vmstream_skip(l->f, 1);
    vmstream_get_counted(l->f, name);
    version = vmstream_get_be32(l->f);
    if (vmstream_error(l->f) < 0) {
        return load_stream_error(l, "configuration", errp);
    }
    if (version == 1 && strcmp(name, "configuration/capabilities") == 0) {
        return load_capabilities(l, errp);
    }
    if (version == 1 && strcmp(name, "configuration/uuid") == 0) {
        vmstream_skip(l->f, 16);
    } else if (version == 1 &&
               strcmp(name, "configuration/target-page-bits") == 0) {
        bits = vmstream_get_be32(l->f);
        if (vmstream_error(l->f) == 0 && bits != 12) {
            return set_error(errp, -EINVAL, "configuration: pages of 2^%"
                             PRIu32 " bytes are not supported", bits);
        }
    } else {
        return set_error(errp, -EINVAL, "configuration: unknown subsection "
                         "'%s' version %" PRIu32 " at offset %" PRIu64, name,
                         version, pos);
    }
    return load_stream_error(l, name, errp);
}

static int coroutine_fn load_envelope(Loader *l, GError **errp)
{
    uint32_t magic = vmstream_get_be32(l->f);
    uint32_t version = vmstream_get_be32(l->f);
    uint8_t type = vmstream_get_u8(l->f);
    int ret;

    if (vmstream_error(l->f) < 0) {
        return load_stream_error(l, "header", errp);
    }
    if (magic != VM_MAGIC || version != VM_VERSION) {
        return set_error(errp, -EINVAL, "this is not a vmstate stream of "
                         "version %u (magic 0x%08" PRIx32 ", version %"
                         PRIu32 ")", VM_VERSION, magic, version);
    }
    if (type != VM_CONFIGURATION) {
        return set_error(errp, -EINVAL, "the stream has no configuration");
    }
    ret = load_machine(l, errp);
    while (ret == 0 && vmstream_peek(l->f, &type, 1) == 1 &&
           type == VMSTATE_SUBSECTION) {
        ret = load_config_subsection(l, errp);
        ret = ret < 0 ? ret : savevm_op_step(l->op, vmstream_pos(l->f));
    }
    return ret;
}

/* --- Sections --- */

static int load_section_error(const LoadSection *section, int ret,
                              GError **errp)
{
    g_autofree char *idstr = g_strescape(section->idstr, NULL);

    return prefix_error(errp, ret, "section %" PRIu32 " ('%s' instance %"
                        PRIu32 ") at offset %" PRIu64 ": ", section->id,
                        idstr, section->instance_id, section->pos);
}

static int coroutine_fn load_footer(Loader *l, const LoadSection *section,
                                    GError **errp)
{
    uint64_t pos = vmstream_pos(l->f);
    uint8_t type = vmstream_get_u8(l->f);
    uint32_t id = vmstream_get_be32(l->f);

    if (vmstream_error(l->f) < 0) {
        return load_stream_error(l, "footer", errp);
    }
    if (type != VM_FOOTER || id != section->id) {
        return set_error(errp, -EINVAL, "no footer at offset %" PRIu64
                         ": there is more or less state than expected", pos);
    }
    return 0;
}

/* An unknown subsection would otherwise look like a missing footer. */
static int coroutine_fn load_check_leftover(Loader *l, GError **errp)
{
    uint64_t pos = vmstream_pos(l->f);
    char name[256];
    uint8_t type;

    if (vmstream_peek(l->f, &type, 1) == 1 && type == VMSTATE_SUBSECTION) {
        vmstream_skip(l->f, 1);
        vmstream_get_counted(l->f, name);
        g_autofree char *shown = g_strescape(name, NULL);

        return set_error(errp, -EINVAL, "unknown subsection '%s' at offset %"
                         PRIu64, shown, pos);
    }
    return 0;
}

static int coroutine_fn load_ram_section(Loader *l,
                                         const LoadSection *section,
                                         GError **errp)
{
    if (section->type == VM_START) {
        if (l->has_ram || section->instance_id != 0 ||
            section->version_id != RAM_SECTION_VERSION) {
            return set_error(errp, -EINVAL, "RAM comes twice or has version %"
                             PRIu32, section->version_id);
        }
        l->has_ram = true;
        l->ram_id = section->id;
    } else if (!l->has_ram || section->id != l->ram_id || l->ram_ended) {
        return set_error(errp, -EINVAL, "an id that never had a START, or has "
                         "had its END");
    }
    l->ram_ended = section->type == VM_END;
    return ram_load_section(l->ram, l->f, errp);
}

static int coroutine_fn load_check_device(Loader *l,
                                          const LoadSection *section,
                                          GError **errp)
{
    SaveVMState *s = l->op->s;
    int ret;

    for (guint i = 0; i < s->devices->len; i++) {
        LoadDevice *d = &l->devices[i];

        if (d->dev->instance_id != section->instance_id ||
            strcmp(d->dev->idstr, section->idstr) != 0) {
            continue;
        }
        if (d->found) {
            return set_error(errp, -EINVAL, "the device comes twice");
        }
        d->found = true;
        d->pos = vmstream_pos(l->f);
        d->version_id = section->version_id;
        d->section_id = section->id;
        g_array_append_val(l->order, i);
        ret = vmstate_check(l->f, d->dev->vmsd, d->dev->opaque,
                            d->version_id, errp);
        d->end = vmstream_pos(l->f);
        return ret < 0 ? ret : load_check_leftover(l, errp);
    }
    return set_error(errp, -EINVAL, "this machine has no such device");
}

static int coroutine_fn load_section(Loader *l, uint8_t type, uint64_t pos,
                                     GError **errp)
{
    LoadSection section = { .type = type, .pos = pos };
    int ret;

    section.id = vmstream_get_be32(l->f);
    if (type == VM_START || type == VM_FULL) {
        vmstream_get_counted(l->f, section.idstr);
        section.instance_id = vmstream_get_be32(l->f);
        section.version_id = vmstream_get_be32(l->f);
    } else if (l->has_ram && section.id == l->ram_id) {
        strcpy(section.idstr, RAM_SECTION_NAME);
    }
    ret = load_stream_error(l, "section header", errp);
    if (ret == 0 && type == VM_FULL) {
        ret = load_check_device(l, &section, errp);
    } else if (ret == 0 && type == VM_START &&
               strcmp(section.idstr, RAM_SECTION_NAME) != 0) {
        ret = set_error(errp, -EINVAL, "only RAM comes in parts");
    } else if (ret == 0) {
        ret = load_ram_section(l, &section, errp);
    }
    if (ret == 0) {
        ret = load_footer(l, &section, errp);
    }
    return ret < 0 && ret != -ECANCELED
           ? load_section_error(&section, ret, errp) : ret;
}

static int coroutine_fn load_command(Loader *l, uint64_t pos, GError **errp)
{
    uint16_t command = vmstream_get_be16(l->f);
    uint16_t len = vmstream_get_be16(l->f);

    if (vmstream_error(l->f) == 0 &&
        command != VM_COMMAND_OPEN_RETURN_PATH &&
        command != VM_COMMAND_PING) {
        return set_error(errp, -EINVAL, "unknown command %u at offset %"
                         PRIu64, command, pos);
    }
    vmstream_skip(l->f, len);
    return load_stream_error(l, "command", errp);
}

/* What follows the end of the sections: nothing, or the description. */
static int coroutine_fn load_trailer(Loader *l, GError **errp)
{
    uint64_t pos = vmstream_pos(l->f);
    uint32_t len;

    if (vmstream_left(l->f) == 0) {
        return 0;
    }
    if (vmstream_get_u8(l->f) != VM_DESCRIPTION) {
        return set_error(errp, -EINVAL, "bytes behind the end of the stream "
                         "at offset %" PRIu64, pos);
    }
    len = vmstream_get_be32(l->f);
    if (vmstream_error(l->f) < 0 || len != vmstream_left(l->f)) {
        return set_error(errp, -EINVAL, "the description at offset %" PRIu64
                         " does not end where the stream does", pos);
    }
    return 0;
}

/* All sections are there that have to be. */
static int load_complete(Loader *l, GError **errp)
{
    SaveVMState *s = l->op->s;

    if (s->ram->len > 0 && !l->ram_ended) {
        return set_error(errp, -EINVAL, "the stream has no RAM, or not all "
                         "of it");
    }
    for (guint i = 0; i < s->devices->len; i++) {
        const SaveVMDevice *dev = l->devices[i].dev;

        if (!l->devices[i].found) {
            return set_error(errp, -EINVAL, "device '%s' instance %" PRIu32
                             " is not in the stream", dev->idstr,
                             dev->instance_id);
        }
    }
    return 0;
}

/* The first pass. */
static int coroutine_fn load_stream(Loader *l, GError **errp)
{
    int ret = load_envelope(l, errp);

    while (ret == 0) {
        uint64_t pos = vmstream_pos(l->f);
        uint8_t type = vmstream_get_u8(l->f);

        ret = load_stream_error(l, "section", errp);
        if (ret < 0) {
            break;
        }
        switch (type) {
        case VM_EOF:
            ret = load_trailer(l, errp);
            return ret < 0 ? ret : load_complete(l, errp);
        case VM_START:
        case VM_PART:
        case VM_END:
        case VM_FULL:
            ret = load_section(l, type, pos, errp);
            break;
        case VM_COMMAND:
            ret = load_command(l, pos, errp);
            break;
        default:
            ret = set_error(errp, -EINVAL, "unknown section type 0x%02x at "
                            "offset %" PRIu64, type, pos);
            break;
        }
        if (ret == 0) {
            ret = savevm_op_step(l->op, vmstream_pos(l->f));
        }
    }
    return ret;
}

/* The second pass: devices in the stream's order. */
static int coroutine_fn load_devices(Loader *l, GError **errp)
{
    for (guint n = 0; n < l->order->len; n++) {
        LoadDevice *d = &l->devices[g_array_index(l->order, guint, n)];
        int ret;

        vmstream_seek(l->f, d->pos);
        l->devices_touched = true;
        ret = vmstate_load(l->f, d->dev->vmsd, d->dev->opaque, d->version_id,
                           errp);
        if (ret == 0 && vmstream_pos(l->f) != d->end) {
            ret = set_error(errp, -EINVAL, "its state was of another size "
                            "when checked");
        }
        if (ret < 0) {
            return prefix_error(errp, ret, "section %" PRIu32 " ('%s' "
                                "instance %" PRIu32 "): ", d->section_id,
                                d->dev->idstr, d->dev->instance_id);
        }
    }
    return 0;
}

/* --- The operation --- */

static int load_ram_step(void *opaque, uint64_t pages)
{
    SaveVMOp *op = opaque;

    op->pages = pages;
    return savevm_op_step(op, vmstream_pos(op->f));
}

static void loader_init(Loader *l, SaveVMOp *op)
{
    GPtrArray *devices = op->s->devices;

    memset(l, 0, sizeof(*l));
    l->op = op;
    l->f = op->f;
    l->ram = ram_loader_new(op->s->ram, op->params.fresh_ram, load_ram_step,
                            op);
    l->devices = g_new0(LoadDevice, devices->len);
    l->order = g_array_new(FALSE, FALSE, sizeof(guint));
    for (guint i = 0; i < devices->len; i++) {
        l->devices[i].dev = devices->pdata[i];
    }
}

static void coroutine_fn loader_cleanup(Loader *l)
{
    g_array_unref(l->order);
    g_free(l->devices);
    ram_loader_free(l->ram);
}

/*
 * Read the vmstate into the machine. *@changed: something of it was stored, so
 * the machine cannot go on after a failure.
 */
static int coroutine_fn load_vmstate(SaveVMOp *op, const char *id,
                                     bool *changed, GError **errp)
{
    BlockDriverState *bs = blk_bs(op->carrier->blk);
    BdrvVmstateOptions opts = {
        .workers = op->params.workers,
        .chunk_bytes = op->params.chunk_bytes,
        .no_readahead = op->params.no_readahead,
    };
    Loader l;
    int ret = bdrv_co_vmstate_begin_load(bs, id, &opts, &op->total, errp);
    int err;

    if (ret < 0) {
        return ret;
    }
    op->f = vmstream_new_load_bdrv(bs, op->total);
    loader_init(&l, op);
    ret = load_stream(&l, errp);
    if (ret == 0) {
        *changed = true;
        ram_load_finish(l.ram);
        ret = load_devices(&l, errp);
    }
    *changed = *changed || ram_loader_touched(l.ram) || l.devices_touched;
    loader_cleanup(&l);
    vmstream_free(op->f);
    op->f = NULL;
    err = bdrv_co_finalize_vmstate(bs);
    ret = ret < 0 ? ret : err;
    if (ret == -ECANCELED) {
        set_error(errp, ret, "loading '%s' was cancelled", op->tag);
    } else if (ret < 0) {
        set_error(errp, ret, "cannot read the machine's state from disk '%s': "
                  "%s", op->carrier->name, g_strerror(-ret));
    }
    return ret;
}

/* Note whether a load that ended with @ret leaves a machine that can run. */
static void load_set_usable(SaveVMState *s, int ret, bool changed)
{
    if (ret == 0 || changed) {
        __atomic_store_n(&s->unusable, ret < 0, __ATOMIC_RELAXED);
    }
}

int coroutine_fn savevm_co_load(SaveVMState *s, const char *tag,
                                const SaveVMParams *params, GError **errp)
{
    g_autoptr(GPtrArray) ids = NULL;
    g_autoptr(GError) local = NULL;
    bool changed = false;
    SaveVMOp op;
    uint64_t size = 0;
    int ret = savevm_op_begin(&op, s, tag, params, errp);

    if (ret < 0) {
        return ret;
    }
    ret = savevm_disks_find(&op, &ids, &size, &local);
    if (ret == 0 && size == 0) {
        ret = set_error(&local, -EINVAL, "snapshot '%s' has no machine state",
                        tag);
    }
    if (ret == 0) {
        ret = savevm_op_quiesce(&op, false, &local);
    }
    if (ret == 0) {
        ret = load_vmstate(&op, ids->pdata[savevm_carrier_index(&op)],
                           &changed, &local);
        if (ret == 0) {
            ret = savevm_disks_goto(&op, ids, &local);
        }
        load_set_usable(s, ret, changed);
        savevm_op_release(&op, ret == 0 || !changed);
    }
    if (ret == 0) {
        savevm_op_show_end(&op, size);
    } else {
        savevm_add_message(&local, "%s", changed
                           ? "; the machine is left stopped, its state is "
                             "not usable" : "");
        g_propagate_error(errp, g_steal_pointer(&local));
    }
    savevm_op_end(&op);
    return ret;
}
