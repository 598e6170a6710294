/* SPDX-License-Identifier: MIT */
/*
 * Puts the machine together, in this order, and takes it apart in the
 * opposite one: context, RAM, devices, disks, guest, FirnMachine.
 */
#include "machine.h"

#include <errno.h>
#include <string.h>

#include "error.h"

/* ---- What firn asks of the machine ---- */

static int op_stop(void *opaque)
{
    Machine *m = opaque;

    guest_stop(m->guest);
    return 0;
}

static void op_cont(void *opaque)
{
    Machine *m = opaque;

    guest_cont(m->guest);
}

static bool op_is_running(void *opaque)
{
    Machine *m = opaque;

    return guest_is_running(m->guest);
}

static uint64_t op_clock_ns(void *opaque)
{
    Machine *m = opaque;

    return timer_clock_ns(&m->timer);
}

static const FirnMachineOps machine_ops = {
    .stop = op_stop,
    .cont = op_cont,
    .is_running = op_is_running,
    .clock_ns = op_clock_ns,
};

/* ---- Parts ---- */

static int open_serial(Machine *m, const char *filename, GError **errp)
{
    m->serial_out = stdout;
    if (filename) {
        m->serial_out = fopen(filename, "ae");
        if (!m->serial_out) {
            int err = errno;

            return vmm_error(errp, -err, "cannot open %s: %s", filename,
                             g_strerror(err));
        }
    }
    serial_init(&m->serial, m->serial_out);
    return 0;
}

static int open_disks(Machine *m, const Options *opts, GError **errp)
{
    g_autofree char *options = NULL;
    int ret;

    if (opts->cache) {
        options = g_strdup_printf("cache=%s", opts->cache);
    }
    for (guint i = 0; i < opts->disks->len; i++) {
        const char *filename = g_ptr_array_index(opts->disks, i);
        FirnDisk *disk;

        ret = firn_disk_open(m->ctx, filename, options,
                             FIRN_DISK_RDWR | FIRN_DISK_UNMAP, &disk, errp);
        if (ret < 0) {
            g_prefix_error(errp, "disk %s: ", filename);
            return ret;
        }
        g_ptr_array_add(m->disks, disk);
    }
    return 0;
}

static int make_guest(Machine *m, const Options *opts, GError **errp)
{
    GuestConfig config = {
        .ram = &m->ram,
        .serial = &m->serial,
        .timer = &m->timer,
        .nb_disks = m->disks->len,
        .seed = opts->seed,
        .fill_percent = opts->fill_percent,
        .quiet = opts->quiet_guest,
    };

    for (guint i = 0; i < m->disks->len; i++) {
        config.disks[i] = g_ptr_array_index(m->disks, i);
    }
    m->guest = guest_new(&config, errp);
    return m->guest ? 0 : -EINVAL;
}

static int register_parts(Machine *m, const Options *opts, GError **errp)
{
    int ret;

    m->firn = firn_machine_new(m->ctx, "firn-vmm-1", &machine_ops, m, errp);
    if (!m->firn) {
        return -EINVAL;
    }
    ret = firn_machine_add_ram(m->firn, "ram0", m->ram.host, m->ram.bytes,
                               errp);
    if (ret == 0) {
        ret = firn_machine_add_device(m->firn, "timer", 0, &vmstate_timer,
                                      &m->timer, errp);
    }
    if (ret == 0) {
        ret = firn_machine_add_device(m->firn, "serial", 0, &vmstate_serial,
                                      &m->serial, errp);
    }
    for (guint i = 0; ret == 0 && i < m->disks->len; i++) {
        ret = firn_machine_add_disk(m->firn,
                                    g_ptr_array_index(opts->disks, i),
                                    g_ptr_array_index(m->disks, i), errp);
    }
    return ret;
}

/* ---- The whole ---- */

Machine *machine_new(const Options *opts, GError **errp)
{
    Machine *m = g_new0(Machine, 1);

    m->disks = g_ptr_array_new();
    m->ram.memfd = -1;
    timer_init(&m->timer);
    if (open_serial(m, opts->serial, errp) < 0) {
        goto fail;
    }
    m->ctx = firn_context_new(FIRN_CONTEXT_THREAD, errp);
    if (!m->ctx
        || ram_init(&m->ram, opts->memory_bytes, opts->memory_is_anon,
                    errp) < 0
        || open_disks(m, opts, errp) < 0
        || make_guest(m, opts, errp) < 0
        || register_parts(m, opts, errp) < 0) {
        goto fail;
    }
    return m;

fail:
    machine_free(m, NULL);
    return NULL;
}

int machine_free(Machine *m, GError **errp)
{
    int ret, first = 0;

    if (!m) {
        return 0;
    }
    guest_free(m->guest);
    firn_machine_free(m->firn);
    for (guint i = 0; i < m->disks->len; i++) {
        ret = firn_disk_close(g_ptr_array_index(m->disks, i));
        if (ret < 0 && first == 0) {
            first = vmm_error(errp, ret, "closing disk %u: %s", i,
                              g_strerror(-ret));
        }
    }
    firn_context_free(m->ctx);
    g_ptr_array_unref(m->disks);
    if (m->serial_out) {
        serial_cleanup(&m->serial);
        if (m->serial_out != stdout) {
            fclose(m->serial_out);
        }
    }
    timer_cleanup(&m->timer);
    ram_cleanup(&m->ram);
    g_free(m);
    return first;
}

void machine_cont(Machine *m)
{
    if (!m->has_guest) {
        guest_boot(m->guest);
        m->has_guest = true;
    }
    guest_cont(m->guest);
}
