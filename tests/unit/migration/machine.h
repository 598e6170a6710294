/* SPDX-License-Identifier: MIT */
/*
 * A toy machine for tests of savevm and loadvm: two RAM blocks, two devices,
 * and disks that the test opens.
 */
#ifndef FIRN_TESTS_UNIT_MIGRATION_MACHINE_H
#define FIRN_TESTS_UNIT_MIGRATION_MACHINE_H

#include "../../support/fake_vmstate.h"
#include "../../support/test_main.h"
#include "migration/savevm.h"
#include "util/coroutine.h"

#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define MAX_DISKS 3

typedef struct Serial {
    uint8_t reg;
    uint32_t counter;
    bool irq;            /* in a subsection when set */
    int fail_post_load;
    unsigned loads;
} Serial;

static inline bool serial_irq_needed(void *opaque)
{
    return ((Serial *)opaque)->irq;
}

static inline int serial_post_load(void *opaque, int version_id)
{
    Serial *s = opaque;

    s->loads++;
    return s->fail_post_load;
}

static const VMStateDescription vmstate_serial_irq = {
    .name = "serial/irq",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = serial_irq_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(irq, Serial),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_serial = {
    .name = "serial",
    .version_id = 3,
    .minimum_version_id = 2,
    .post_load = serial_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(reg, Serial),
        VMSTATE_UINT32_V(counter, Serial, 3),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *const[]) {
        &vmstate_serial_irq,
        NULL
    },
};

typedef struct Machine {
    AioContext *ctx;
    SaveVMState *state;
    BlockBackend *disks[MAX_DISKS];
    FakeVmstate *fakes[MAX_DISKS];    /* NULL for other formats */
    unsigned nb_disks;
    uint8_t *ram[2];
    size_t ram_bytes[2];
    Serial serial[2];
    bool running;
    unsigned stops, conts;
    int fail_stop;
    unsigned coroutines;
} Machine;

static inline int coroutine_fn machine_stop(void *opaque, GError **errp)
{
    Machine *m = opaque;

    assert_true(m->running);
    if (m->fail_stop < 0) {
        return m->fail_stop;
    }
    m->running = false;
    m->stops++;
    return 0;
}

static inline void coroutine_fn machine_cont(void *opaque)
{
    Machine *m = opaque;

    assert_false(m->running);
    m->running = true;
    m->conts++;
}

static inline bool machine_is_running(void *opaque)
{
    return ((Machine *)opaque)->running;
}

static inline uint64_t machine_clock_ns(void *opaque)
{
    return 1234567;
}

static const SaveVMOps machine_ops = {
    .stop = machine_stop,
    .cont = machine_cont,
    .is_running = machine_is_running,
    .clock_ns = machine_clock_ns,
};

/* Without disks; RAM blocks "low" and "high" of so many pages, zero. */
static inline void machine_init(Machine *m, size_t low, size_t high)
{
    static const char *const names[] = { "low", "high" };

    memset(m, 0, sizeof(*m));
    m->coroutines = co_live_count();
    m->ctx = aio_context_new(AIO_BACKEND_AUTO, NULL);
    assert_non_null(m->ctx);
    m->running = true;
    m->state = savevm_new("toy-1.0", &machine_ops, m);
    m->ram_bytes[0] = low * PAGE;
    m->ram_bytes[1] = high * PAGE;
    for (unsigned i = 0; i < 2; i++) {
        m->ram[i] = mmap(NULL, m->ram_bytes[i], PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(m->ram[i] != MAP_FAILED);
        assert_int_equal(savevm_add_ram(m->state, names[i], m->ram[i],
                                        m->ram_bytes[i], NULL), 0);
        assert_int_equal(savevm_add_device(m->state, "serial", i,
                                           &vmstate_serial, &m->serial[i],
                                           NULL), 0);
    }
}

static inline void machine_add_disk(Machine *m, BlockBackend *blk)
{
    g_autofree char *name = g_strdup_printf("disk%u", m->nb_disks);

    assert_true(m->nb_disks < MAX_DISKS);
    m->disks[m->nb_disks++] = blk;
    assert_int_equal(savevm_add_disk(m->state, blk, name, NULL), 0);
}

static inline FakeVmstate *machine_add_fake(Machine *m)
{
    BlockBackend *blk = fake_vmstate_open(m->ctx, NULL);

    machine_add_disk(m, blk);
    m->fakes[m->nb_disks - 1] = fake_vmstate(blk);
    return fake_vmstate(blk);
}

/* Returns the first error of closing a disk. */
static inline int machine_close(Machine *m)
{
    int first = 0;

    savevm_free(m->state);
    for (unsigned i = 0; i < m->nb_disks; i++) {
        int ret;

        assert_null(blk_bs(m->disks[i])->vmstate);
        ret = blk_close(m->disks[i]);
        first = first < 0 ? first : ret;
    }
    for (unsigned i = 0; i < 2; i++) {
        munmap(m->ram[i], m->ram_bytes[i]);
    }
    aio_context_unref(m->ctx);
    assert_int_equal(co_live_count(), m->coroutines);
    return first;
}

static inline void machine_cleanup(Machine *m)
{
    assert_int_equal(machine_close(m), 0);
}

/* Operations from outside of coroutines. */
typedef struct MachineCall {
    Machine *m;
    const char *tag;
    const SaveVMParams *params;
    GPtrArray *list;
    GError *err;
    int coroutine_fn (*fn)(struct MachineCall *);
} MachineCall;

static inline int coroutine_fn machine_call_entry(void *opaque)
{
    MachineCall *c = opaque;

    return c->fn(c);
}

static inline int coroutine_fn machine_co_save(MachineCall *c)
{
    return savevm_co_save(c->m->state, c->tag, c->params, &c->err);
}

static inline int coroutine_fn machine_co_load(MachineCall *c)
{
    return savevm_co_load(c->m->state, c->tag, c->params, &c->err);
}

static inline int coroutine_fn machine_co_delete(MachineCall *c)
{
    return savevm_co_delete(c->m->state, c->tag, &c->err);
}

static inline int coroutine_fn machine_co_list(MachineCall *c)
{
    return savevm_co_list(c->m->state, &c->list, &c->err);
}

/* Every failure has a sentence, success has none. */
static inline int machine_call(MachineCall *c, char **ret_message)
{
    int ret = aio_run_blocking(c->m->ctx, machine_call_entry, c);

    assert_int_equal(ret < 0, c->err != NULL);
    if (c->err) {
        assert_int_equal(c->err->code, -ret);
        if (ret_message) {
            *ret_message = g_strdup(c->err->message);
        }
        g_error_free(c->err);
    }
    return ret;
}

static inline int machine_save(Machine *m, const char *tag,
                               const SaveVMParams *params, char **message)
{
    MachineCall c = { .m = m, .tag = tag, .params = params,
                      .fn = machine_co_save };

    return machine_call(&c, message);
}

static inline int machine_load(Machine *m, const char *tag,
                               const SaveVMParams *params, char **message)
{
    MachineCall c = { .m = m, .tag = tag, .params = params,
                      .fn = machine_co_load };

    return machine_call(&c, message);
}

static inline int machine_delete(Machine *m, const char *tag, char **message)
{
    MachineCall c = { .m = m, .tag = tag, .fn = machine_co_delete };

    return machine_call(&c, message);
}

static inline int machine_list(Machine *m, GPtrArray **ret)
{
    MachineCall c = { .m = m, .fn = machine_co_list };
    int err = machine_call(&c, NULL);

    *ret = c.list;
    return err;
}

/* A known content of RAM and devices; page 1 of each block stays zero. */
static inline void machine_fill(Machine *m, unsigned seed)
{
    for (unsigned i = 0; i < 2; i++) {
        for (size_t n = 0; n < m->ram_bytes[i]; n++) {
            m->ram[i][n] = n / PAGE == 1 ? 0 : (uint8_t)(n * 31 + n / PAGE +
                                                         i * 7 + seed);
        }
        m->serial[i].reg = (uint8_t)(seed + i);
        m->serial[i].counter = seed * 1000 + i;
        m->serial[i].irq = i == 1;
    }
}

static inline bool machine_is_filled(Machine *m, unsigned seed)
{
    for (unsigned i = 0; i < 2; i++) {
        for (size_t n = 0; n < m->ram_bytes[i]; n++) {
            uint8_t want = n / PAGE == 1 ? 0 : (uint8_t)(n * 31 + n / PAGE +
                                                         i * 7 + seed);

            if (m->ram[i][n] != want) {
                return false;
            }
        }
        if (m->serial[i].reg != (uint8_t)(seed + i) ||
            m->serial[i].counter != seed * 1000 + i ||
            m->serial[i].irq != (i == 1)) {
            return false;
        }
    }
    return true;
}

/* Three and two pages, one fake disk, machine_fill(1). */
static inline void machine_init_golden(Machine *m, FakeVmstate **ret)
{
    machine_init(m, 3, 2);
    *ret = machine_add_fake(m);
    machine_fill(m, 1);
}

#endif
