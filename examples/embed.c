/* SPDX-License-Identifier: MIT */
/*
 * The smallest program that saves and restores a machine with firn.
 *
 *     cc embed.c -o embed $(pkg-config --cflags --libs firn)
 *     ./embed /tmp/toy.qcow2
 *
 * The machine has 16 MiB of RAM, one device and one disk. It is saved,
 * scribbled over, loaded and compared; then the snapshot is deleted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <firn/firn.h>

#define RAM_BYTES (16u << 20)

/* A device, and the table that says how its state looks in a snapshot. */
typedef struct Lamp {
    uint32_t brightness;
    bool on;
} Lamp;

static const VMStateDescription vmstate_lamp = {
    .name = "lamp",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(brightness, Lamp),
        VMSTATE_BOOL(on, Lamp),
        VMSTATE_END_OF_LIST()
    },
};

/* This machine has no processor: it never runs. */
static int toy_stop(void *opaque) { return 0; }
static void toy_cont(void *opaque) { }
static bool toy_is_running(void *opaque) { return false; }
static uint64_t toy_clock_ns(void *opaque) { return 0; }

static const FirnMachineOps toy_ops = {
    .stop = toy_stop,
    .cont = toy_cont,
    .is_running = toy_is_running,
    .clock_ns = toy_clock_ns,
};

static void check(int ret, GError **err)
{
    if (ret < 0) {
        fprintf(stderr, "embed: %s\n", err ? (*err)->message
                                           : strerror(-ret));
        exit(1);
    }
}

static void expect(bool right, const char *what)
{
    if (!right) {
        fprintf(stderr, "embed: %s is not what was saved\n", what);
        exit(1);
    }
}

static void scribble(uint8_t *ram, FirnDisk *disk, Lamp *lamp, char with)
{
    char sector[512];

    memset(ram, with, RAM_BYTES / 2); /* the other half stays zero */
    memset(sector, with, sizeof(sector));
    check(firn_disk_pwrite(disk, 0, sector, sizeof(sector)), NULL);
    *lamp = (Lamp) { .brightness = with, .on = with == 'a' };
}

static void save_and_load(FirnMachine *m, uint8_t *ram, FirnDisk *disk,
                          Lamp *lamp)
{
    FirnVmResult result;
    GError *err = NULL;
    char sector[512];

    scribble(ram, disk, lamp, 'a');
    check(firn_machine_savevm(m, "first", NULL, &result, &err), &err);
    printf("saved %llu bytes\n", (unsigned long long)result.stream_bytes);

    scribble(ram, disk, lamp, 'b');
    check(firn_machine_loadvm(m, "first", NULL, NULL, &err), &err);
    check(firn_disk_pread(disk, 0, sector, sizeof(sector)), NULL);

    expect(ram[0] == 'a' && !memcmp(ram, ram + 1, RAM_BYTES / 2 - 1), "RAM");
    expect(ram[RAM_BYTES / 2] == 0, "the zero half of RAM");
    expect(lamp->brightness == 'a' && lamp->on, "the lamp");
    expect(sector[0] == 'a' && sector[511] == 'a', "the disk");
    check(firn_machine_delvm(m, "first", &err), &err);
    puts("loaded, compared and deleted");
}

int main(int argc, char **argv)
{
    const char *filename = argc > 1 ? argv[1] : "toy.qcow2";
    uint8_t *ram = aligned_alloc(4096, RAM_BYTES);
    Lamp lamp = { 0 };
    GError *err = NULL;
    FirnContext *ctx;
    FirnMachine *m;
    FirnDisk *disk;

    memset(ram, 0, RAM_BYTES);
    ctx = firn_context_new(FIRN_CONTEXT_THREAD, &err);
    check(ctx ? 0 : -1, &err);
    check(firn_disk_create(ctx, "qcow2", filename, "size=64M", &err), &err);
    check(firn_disk_open(ctx, filename, "driver=qcow2", FIRN_DISK_RDWR, &disk,
                         &err), &err);

    m = firn_machine_new(ctx, "toy", &toy_ops, NULL, &err);
    check(m ? 0 : -1, &err);
    check(firn_machine_add_ram(m, "ram", ram, RAM_BYTES, &err), &err);
    check(firn_machine_add_device(m, "lamp", 0, &vmstate_lamp, &lamp, &err),
          &err);
    check(firn_machine_add_disk(m, "disk", disk, &err), &err);

    save_and_load(m, ram, disk, &lamp);

    firn_machine_free(m);
    check(firn_disk_close(disk), NULL);
    firn_context_free(ctx);
    free(ram);
    return 0;
}
