/* SPDX-License-Identifier: MIT */
/*
 * The guest's steps. Everything random comes from the generator in the
 * guest's state, all contents from (seed, place, generation), and the
 * generations are in guest RAM: a snapshot that misses a write, or has one
 * too many, shows as a block of another generation.
 *
 *   PHASE_SCAN --all blocks read--> PHASE_FILL --filled--> PHASE_RUN
 *
 * Generations change in the step that writes the block, after the write has
 * succeeded; as a machine is stopped between steps only, RAM and disks of a
 * snapshot always agree.
 */
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "error.h"
#include "pattern.h"

enum {
    TICK_NS = 10 * 1000 * 1000,
    TICKS_PER_REPORT = 100,
    TICKS_PER_DRAIN = 5,        /* how often the serial FIFO is emptied */
    SCAN_PER_STEP = 256,        /* blocks: 4 MiB */
    FILL_PER_STEP = 128,        /* blocks: 8 MiB */
    RAM_PER_STEP = 2,           /* blocks written, and verified */
    STEPS_PER_DISK_IO = 5,
    DISK_PER_STEP = 2,          /* blocks written, and verified, per disk */
    STEPS_PER_FLUSH = 100,
};

G_STATIC_ASSERT(DISK_PER_STEP * GUEST_MAX_DISKS <= NB_BUFFERS);

static G_GNUC_PRINTF(2, 3) void guest_print(Workload *w, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    serial_write(w->config.serial, text);
}

static uint64_t random_below(Workload *w, uint64_t n)
{
    return pattern_random(&w->state->random) % n;
}

/* ---- Layout ---- */

static int layout_disk(WorkloadDisk *d, FirnDisk *disk, GError **errp)
{
    int64_t length = firn_disk_length(disk);

    if (length < 0) {
        return vmm_error(errp, (int)length, "cannot tell the length of a "
                         "disk: %s", g_strerror((int)-length));
    }
    d->disk = disk;
    d->bytes = (uint64_t)length;
    d->nb_blocks = MIN(d->bytes / DISK_BLOCK_BYTES, DISK_MAX_BLOCKS);
    if (d->nb_blocks > 0) {
        /* Spread over the whole disk. */
        d->stride = d->bytes / d->nb_blocks / 4096 * 4096;
    }
    return 0;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

int workload_init(Workload *w, const GuestConfig *config, GError **errp)
{
    uint8_t *host = config->ram->host;
    uint64_t addr = round_up(GUEST_STATE_ADDR + sizeof(GuestState), 4096);
    int ret;

    *w = (Workload) { .config = *config };
    w->state = (GuestState *)(host + GUEST_STATE_ADDR);
    w->ram_generations = (uint32_t *)(host + addr);
    addr += config->ram->bytes / RAM_BLOCK_BYTES * sizeof(uint32_t);
    for (unsigned i = 0; i < config->nb_disks; i++) {
        ret = layout_disk(&w->disks[i], config->disks[i], errp);
        if (ret < 0) {
            return ret;
        }
        addr = round_up(addr, 4096);
        w->disks[i].entries = (DiskEntry *)(host + addr);
        addr += w->disks[i].nb_blocks * sizeof(DiskEntry);
    }
    addr = round_up(addr, 4096);
    w->buffers = host + addr;
    addr = round_up(addr + NB_BUFFERS * DISK_BLOCK_BYTES, RAM_BLOCK_BYTES);
    w->blocks = host + addr;
    if (addr + RAM_BLOCK_BYTES > config->ram->bytes) {
        return vmm_error(errp, -EINVAL, "%" PRIu64 " bytes of RAM are too "
                         "few for a guest with these disks",
                         config->ram->bytes);
    }
    w->nb_blocks = (config->ram->bytes - addr) / RAM_BLOCK_BYTES;
    pvqueue_init(&w->queue);
    return 0;
}

void workload_cleanup(Workload *w)
{
    pvqueue_cleanup(&w->queue);
}

/* ---- The state in RAM ---- */

void workload_boot(Workload *w)
{
    GuestState *s = w->state;

    *s = (GuestState) {
        .magic = GUEST_MAGIC,
        .memory_bytes = w->config.ram->bytes,
        .nb_disks = w->config.nb_disks,
        .seed = w->config.seed,
        .random = w->config.seed,
        .phase = PHASE_SCAN,
        .fill_blocks = w->nb_blocks * w->config.fill_percent / 100,
    };
    for (unsigned i = 0; i < w->config.nb_disks; i++) {
        s->disk_bytes[i] = w->disks[i].bytes;
    }
    /* Never fails for this size once the system is up. */
    g_assert(getrandom(&s->nonce, sizeof(s->nonce), 0) == sizeof(s->nonce));
    timer_program(w->config.timer, TICK_NS);
    guest_print(w, "guest: boot nonce %016" PRIx64 " seed %" PRIu64 "\n",
                s->nonce, s->seed);
}

bool workload_fits(const Workload *w)
{
    const GuestState *s = w->state;
    bool fits = s->magic == GUEST_MAGIC
                && s->memory_bytes == w->config.ram->bytes
                && s->nb_disks == w->config.nb_disks
                && s->phase <= PHASE_RUN
                && s->fill_blocks <= w->nb_blocks
                && s->filled <= s->fill_blocks;

    for (unsigned i = 0; fits && i < w->config.nb_disks; i++) {
        fits = s->disk_bytes[i] == w->disks[i].bytes;
    }
    return fits;
}

static void count_error(Workload *w, const char *what, unsigned unit,
                        uint64_t index)
{
    w->state->errors++;
    guest_print(w, "guest: ERROR %s %u block %" PRIu64 "\n", what, unit,
                index);
}

/* ---- Blocks ---- */

static void *ram_block(Workload *w, uint64_t index)
{
    return w->blocks + index * RAM_BLOCK_BYTES;
}

static void write_ram_block(Workload *w, uint64_t index)
{
    uint32_t generation = ++w->ram_generations[index];

    pattern_fill(ram_block(w, index), RAM_BLOCK_BYTES,
                 pattern_key(w->state->seed, PATTERN_RAM, 0, index,
                             generation));
}

static bool ram_block_is_good(Workload *w, uint64_t index)
{
    uint32_t generation = w->ram_generations[index];

    if (generation == 0) {
        return pattern_is_zero(ram_block(w, index), RAM_BLOCK_BYTES);
    }
    return pattern_matches(ram_block(w, index), RAM_BLOCK_BYTES,
                           pattern_key(w->state->seed, PATTERN_RAM, 0, index,
                                       generation));
}

/* One block of a disk and the buffer that its request uses. */
typedef struct DiskJob {
    PvRequest req;
    unsigned unit;
    uint64_t index;
    uint32_t generation;        /* of a write */
} DiskJob;

static void submit_job(Workload *w, DiskJob *job, unsigned nr, PvType type)
{
    WorkloadDisk *d = &w->disks[job->unit];

    job->req = (PvRequest) {
        .type = type,
        .disk = d->disk,
        .offset = job->index * d->stride,
        .buf = w->buffers + (size_t)nr * DISK_BLOCK_BYTES,
        .bytes = DISK_BLOCK_BYTES,
    };
    if (type == PV_WRITE) {
        job->generation = d->entries[job->index].generation + 1;
        if (job->generation == 0 || job->generation == DISK_UNKNOWN) {
            job->generation = 1;
        }
        pattern_fill(job->req.buf, DISK_BLOCK_BYTES,
                     pattern_key(w->state->seed, PATTERN_DISK, job->unit,
                                 job->index, job->generation));
    }
    pvqueue_submit(&w->queue, &job->req);
}

/* The buffer of @job was read into: is it what the block should hold? */
static bool disk_block_is_good(Workload *w, const DiskJob *job)
{
    const DiskEntry *e = &w->disks[job->unit].entries[job->index];
    const void *buf = job->req.buf;

    if (job->req.ret < 0) {
        return false;
    }
    if (e->generation == DISK_UNKNOWN) {
        return true;
    }
    if (e->generation == 0) {
        return pattern_hash(buf, DISK_BLOCK_BYTES) == e->boot_hash;
    }
    return pattern_matches(buf, DISK_BLOCK_BYTES,
                           pattern_key(w->state->seed, PATTERN_DISK,
                                       job->unit, job->index,
                                       e->generation));
}

/* ---- Steps ---- */

static void finish_scan(Workload *w, const DiskJob *jobs, unsigned nb)
{
    pvqueue_wait(&w->queue);
    for (unsigned i = 0; i < nb; i++) {
        DiskEntry *e = &w->disks[jobs[i].unit].entries[jobs[i].index];

        if (jobs[i].req.ret < 0) {
            e->generation = DISK_UNKNOWN;
            count_error(w, "reading disk", jobs[i].unit, jobs[i].index);
        } else {
            e->boot_hash = pattern_hash(jobs[i].req.buf, DISK_BLOCK_BYTES);
        }
    }
}

static bool step_scan(Workload *w)
{
    GuestState *s = w->state;
    DiskJob jobs[NB_BUFFERS];
    unsigned nb = 0;

    for (unsigned done = 0; done < SCAN_PER_STEP; done++) {
        while (s->scan_disk < s->nb_disks
               && s->scan_block >= w->disks[s->scan_disk].nb_blocks) {
            s->scan_disk++;
            s->scan_block = 0;
        }
        if (s->scan_disk >= s->nb_disks) {
            s->phase = PHASE_FILL;
            break;
        }
        jobs[nb] = (DiskJob) { .unit = s->scan_disk, .index = s->scan_block };
        s->scan_block++;
        submit_job(w, &jobs[nb], nb, PV_READ);
        if (++nb == NB_BUFFERS) {
            finish_scan(w, jobs, nb);
            nb = 0;
        }
    }
    finish_scan(w, jobs, nb);
    return true;
}

static bool step_fill(Workload *w)
{
    GuestState *s = w->state;
    uint64_t nb_disk_blocks = 0;

    for (unsigned i = 0; i < FILL_PER_STEP && s->filled < s->fill_blocks;
         i++) {
        write_ram_block(w, s->filled++);
    }
    if (s->filled == s->fill_blocks) {
        for (unsigned i = 0; i < w->config.nb_disks; i++) {
            nb_disk_blocks += w->disks[i].nb_blocks;
        }
        s->phase = PHASE_RUN;
        guest_print(w, "guest: ready, filled %" PRIu64 " of %" PRIu64 " RAM "
                    "blocks, %" PRIu64 " disk blocks\n", s->filled,
                    w->nb_blocks, nb_disk_blocks);
    }
    return true;
}

static void step_ram(Workload *w)
{
    GuestState *s = w->state;
    /* Rewrite what is filled, so that the rest of RAM stays zero. */
    uint64_t used = s->fill_blocks ? s->fill_blocks : MIN(16, w->nb_blocks);
    uint64_t index;

    for (int i = 0; i < RAM_PER_STEP; i++) {
        write_ram_block(w, random_below(w, used));
        index = random_below(w, w->nb_blocks);
        if (ram_block_is_good(w, index)) {
            s->ram_verified++;
        } else {
            count_error(w, "ram", 0, index);
        }
    }
}

/* Choose blocks, all different from each other, on every disk. */
static unsigned choose_blocks(Workload *w, DiskJob *jobs)
{
    unsigned nb = 0;

    for (unsigned unit = 0; unit < w->config.nb_disks; unit++) {
        uint64_t nb_blocks = w->disks[unit].nb_blocks;

        if (nb_blocks < DISK_PER_STEP) {
            continue;
        }
        /* One from each of DISK_PER_STEP equal parts. */
        for (unsigned i = 0; i < DISK_PER_STEP; i++) {
            uint64_t part = nb_blocks / DISK_PER_STEP;

            jobs[nb++] = (DiskJob) {
                .unit = unit,
                .index = i * part + random_below(w, part),
            };
        }
    }
    return nb;
}

static void step_disk_writes(Workload *w)
{
    DiskJob jobs[NB_BUFFERS];
    unsigned nb = choose_blocks(w, jobs);

    for (unsigned i = 0; i < nb; i++) {
        submit_job(w, &jobs[i], i, PV_WRITE);
    }
    pvqueue_wait(&w->queue);
    for (unsigned i = 0; i < nb; i++) {
        DiskEntry *e = &w->disks[jobs[i].unit].entries[jobs[i].index];

        if (jobs[i].req.ret < 0) {
            e->generation = DISK_UNKNOWN; /* any part may be written */
            count_error(w, "writing disk", jobs[i].unit, jobs[i].index);
        } else {
            e->generation = jobs[i].generation;
        }
    }
}

static void step_disk_verifies(Workload *w)
{
    DiskJob jobs[NB_BUFFERS];
    unsigned nb = choose_blocks(w, jobs);

    for (unsigned i = 0; i < nb; i++) {
        submit_job(w, &jobs[i], i, PV_READ);
    }
    pvqueue_wait(&w->queue);
    for (unsigned i = 0; i < nb; i++) {
        if (disk_block_is_good(w, &jobs[i])) {
            w->state->disk_verified++;
        } else {
            count_error(w, "disk", jobs[i].unit, jobs[i].index);
        }
    }
}

static void step_flush(Workload *w)
{
    PvRequest reqs[GUEST_MAX_DISKS];

    for (unsigned i = 0; i < w->config.nb_disks; i++) {
        reqs[i] = (PvRequest) { .type = PV_FLUSH, .disk = w->disks[i].disk };
        pvqueue_submit(&w->queue, &reqs[i]);
    }
    pvqueue_wait(&w->queue);
    for (unsigned i = 0; i < w->config.nb_disks; i++) {
        if (reqs[i].ret < 0) {
            count_error(w, "flushing disk", i, 0);
        }
    }
}

static bool step_run(Workload *w)
{
    GuestState *s = w->state;
    uint64_t ticks = timer_advance(w->config.timer);

    if (ticks % TICKS_PER_DRAIN == 0) {
        serial_drain(w->config.serial);
    }
    s->counter++;
    if (w->config.quiet) {
        return false;
    }
    step_ram(w);
    if (s->counter % STEPS_PER_DISK_IO == 0) {
        step_disk_writes(w);
        step_disk_verifies(w);
    }
    if (s->counter % STEPS_PER_FLUSH == 0) {
        step_flush(w);
    }
    if (ticks - s->last_report >= TICKS_PER_REPORT) {
        s->last_report = ticks;
        guest_print(w, "guest: nonce %016" PRIx64 " counter %" PRIu64
                    " verified ram %" PRIu64 " disk %" PRIu64 " errors %"
                    PRIu64 "\n", s->nonce, s->counter, s->ram_verified,
                    s->disk_verified, s->errors);
    }
    return false;
}

bool workload_step(Workload *w)
{
    switch (w->state->phase) {
    case PHASE_SCAN:
        return step_scan(w);
    case PHASE_FILL:
        return step_fill(w);
    default:
        return step_run(w);
    }
}

/* ---- Verify everything ---- */

static void finish_verify(Workload *w, const DiskJob *jobs, unsigned nb,
                          GuestVerify *v)
{
    pvqueue_wait(&w->queue);
    for (unsigned i = 0; i < nb; i++) {
        if (disk_block_is_good(w, &jobs[i])) {
            v->disk_ok++;
        } else {
            v->disk_bad++;
        }
    }
}

static void verify_disk(Workload *w, unsigned unit, uint64_t nb_blocks,
                        GuestVerify *v)
{
    DiskJob jobs[NB_BUFFERS];
    unsigned nb = 0;

    for (uint64_t index = 0; index < nb_blocks; index++) {
        jobs[nb] = (DiskJob) { .unit = unit, .index = index };
        submit_job(w, &jobs[nb], nb, PV_READ);
        if (++nb == NB_BUFFERS) {
            finish_verify(w, jobs, nb, v);
            nb = 0;
        }
    }
    finish_verify(w, jobs, nb, v);
}

/* How many blocks of disk @unit the guest knows already. */
static uint64_t known_blocks(const Workload *w, unsigned unit)
{
    const GuestState *s = w->state;

    if (s->phase != PHASE_SCAN || unit < s->scan_disk) {
        return w->disks[unit].nb_blocks;
    }
    return unit == s->scan_disk
           ? MIN(s->scan_block, w->disks[unit].nb_blocks) : 0;
}

void workload_verify(Workload *w, GuestVerify *ret)
{
    *ret = (GuestVerify) { 0 };
    for (uint64_t i = 0; i < w->nb_blocks; i++) {
        if (ram_block_is_good(w, i)) {
            ret->ram_ok++;
        } else {
            ret->ram_bad++;
        }
    }
    for (unsigned unit = 0; unit < w->config.nb_disks; unit++) {
        verify_disk(w, unit, known_blocks(w, unit), ret);
    }
}
