/* SPDX-License-Identifier: MIT */
/*
 * ELF core files. The headers come last, when the stream has told the vCPUs'
 * registers; memory is written before, from ELF_CORE_DATA on. p_vaddr is the
 * guest-physical address too, so that a debugger finds memory by it.
 */
#include <elf.h>
#include <string.h>

#include "tools/elf-core.h"

#define GIB           (1ULL << 30)
#define PRSTATUS_SIZE 336       /* of x86-64 Linux, whatever the host is */
#define PRSTATUS_PID  32
#define PRSTATUS_REGS 112
#define NAME_BYTES    8         /* "CORE", padded to 4 */

/* --- vCPUs --- */

void elf_cpu_section_begin(ElfCpuReader *reader, const StreamSection *section)
{
    reader->is_cpu = section->type == STREAM_FULL &&
                     g_str_equal(section->idstr, "cpu");
    reader->has_rip = false;
    reader->segment = -1;
    reader->depth = 0;
    memset(&reader->cpu, 0, sizeof(reader->cpu));
}

static void top_value(ElfCpuReader *reader, const StreamValue *v)
{
    uint64_t i;

    if (stream_value_class(v->type, v->size) != 'u') {
        return;
    }
    if (g_str_equal(v->name, "env.regs")) {
        for (i = 0; i < MIN(v->count, 16); i++) {
            reader->cpu.regs[i] = stream_value_u64(v, i);
        }
    } else if (g_str_equal(v->name, "env.eip")) {
        reader->cpu.rip = stream_value_u64(v, 0);
        reader->has_rip = true;
    } else if (g_str_equal(v->name, "env.eflags")) {
        reader->cpu.rflags = stream_value_u64(v, 0);
    }
}

static void segment_value(ElfCpuReader *reader, const StreamValue *v)
{
    if (stream_value_class(v->type, v->size) != 'u') {
        return;
    }
    if (g_str_equal(v->name, "selector")) {
        reader->cpu.selector[reader->segment] =
            (uint16_t)stream_value_u64(v, 0);
    } else if (g_str_equal(v->name, "base")) {
        reader->cpu.base[reader->segment] = stream_value_u64(v, 0);
    }
}

void elf_cpu_value(ElfCpuReader *reader, const StreamValue *v)
{
    if (!reader->is_cpu) {
        return;
    }
    switch (v->kind) {
    case STREAM_STRUCT_BEGIN:
        if (reader->depth++ == 0 && g_str_equal(v->name, "env.segs") &&
            v->index >= 0 && v->index < 6) {
            reader->segment = (int)v->index;
        }
        break;
    case STREAM_STRUCT_END:
        reader->segment = --reader->depth == 0 ? -1 : reader->segment;
        break;
    case STREAM_SUBSECTION_BEGIN:
        reader->depth++;
        break;
    case STREAM_SUBSECTION_END:
        reader->depth--;
        break;
    case STREAM_VALUE:
        if (reader->depth == 0) {
            top_value(reader, v);
        } else if (reader->depth == 1 && reader->segment >= 0) {
            segment_value(reader, v);
        }
        break;
    }
}

void elf_cpu_section_end(ElfCpuReader *reader)
{
    if (reader->is_cpu && reader->has_rip) {
        g_array_append_val(reader->cpus, reader->cpu);
    }
    reader->is_cpu = false;
}

/* --- Where memory is --- */

/* Bytes of RAM below 4 GiB by default, of the usual x86 machine types. */
static uint64_t default_below_4g(const char *machine, uint64_t bytes)
{
    if (g_str_has_prefix(machine, "pc-q35") || g_str_equal(machine, "q35")) {
        return bytes >= 0xb0000000ULL ? 2 * GIB : bytes;
    }
    if (g_str_has_prefix(machine, "microvm")) {
        return MIN(bytes, 3 * GIB);
    }
    if (g_str_has_prefix(machine, "pc-") || g_str_equal(machine, "pc") ||
        g_str_equal(machine, "isapc")) {
        return bytes >= 0xe0000000ULL ? 3 * GIB : bytes;
    }
    return bytes;
}

unsigned elf_core_layout(const char *machine, uint64_t bytes,
                         uint64_t below_4g, uint64_t file_offset,
                         ElfRegion *regions)
{
    uint64_t below = below_4g ? MIN(below_4g, bytes)
                              : default_below_4g(machine, bytes);

    regions[0] = (ElfRegion){ 0, below, file_offset };
    if (below == bytes) {
        return 1;
    }
    regions[1] = (ElfRegion){ 4 * GIB, bytes - below, file_offset + below };
    return 2;
}

/* --- The file --- */

static void put_le64(uint8_t *p, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    memcpy(p, &value, sizeof(value));
}

/* The general registers, in the order of struct user_regs_struct. */
static void put_regs(uint8_t *p, const ElfCpu *cpu)
{
    static const int order[] = { 15, 14, 13, 12, 5, 3, 11, 10, 9, 8, 0, 1, 2,
                                 6, 7 };
    enum { ES, CS, SS, DS, FS, GS };
    unsigned i, n = G_N_ELEMENTS(order);

    for (i = 0; i < n; i++) {
        put_le64(p + 8 * i, cpu->regs[order[i]]);
    }
    put_le64(p + 8 * 15, UINT64_MAX);           /* orig_rax: no system call */
    put_le64(p + 8 * 16, cpu->rip);
    put_le64(p + 8 * 17, cpu->selector[CS]);
    put_le64(p + 8 * 18, cpu->rflags);
    put_le64(p + 8 * 19, cpu->regs[4]);
    put_le64(p + 8 * 20, cpu->selector[SS]);
    put_le64(p + 8 * 21, cpu->base[FS]);
    put_le64(p + 8 * 22, cpu->base[GS]);
    put_le64(p + 8 * 23, cpu->selector[DS]);
    put_le64(p + 8 * 24, cpu->selector[ES]);
    put_le64(p + 8 * 25, cpu->selector[FS]);
    put_le64(p + 8 * 26, cpu->selector[GS]);
}

static void append_prstatus(GByteArray *notes, const ElfCpu *cpu,
                            uint32_t number)
{
    const Elf64_Nhdr header = {
        .n_namesz = GUINT32_TO_LE(sizeof("CORE")),
        .n_descsz = GUINT32_TO_LE(PRSTATUS_SIZE),
        .n_type = GUINT32_TO_LE(NT_PRSTATUS),
    };
    const uint8_t name[NAME_BYTES] = "CORE";
    uint8_t desc[PRSTATUS_SIZE] = { 0 };
    uint32_t pid = GUINT32_TO_LE(number + 1);

    memcpy(desc + PRSTATUS_PID, &pid, sizeof(pid));
    put_regs(desc + PRSTATUS_REGS, cpu);
    g_byte_array_append(notes, (const uint8_t *)&header, sizeof(header));
    g_byte_array_append(notes, name, sizeof(name));
    g_byte_array_append(notes, desc, sizeof(desc));
}

static void fill_ehdr(Elf64_Ehdr *h, unsigned segments)
{
    *h = (Elf64_Ehdr){
        .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
                     ELFDATA2LSB, EV_CURRENT },
        .e_type = GUINT16_TO_LE(ET_CORE),
        .e_machine = GUINT16_TO_LE(EM_X86_64),
        .e_version = GUINT32_TO_LE(EV_CURRENT),
        .e_phoff = GUINT64_TO_LE(sizeof(Elf64_Ehdr)),
        .e_ehsize = GUINT16_TO_LE(sizeof(Elf64_Ehdr)),
        .e_phentsize = GUINT16_TO_LE(sizeof(Elf64_Phdr)),
        .e_phnum = GUINT16_TO_LE((uint16_t)segments),
    };
}

static Elf64_Phdr load_segment(const ElfRegion *r)
{
    return (Elf64_Phdr){
        .p_type = GUINT32_TO_LE(PT_LOAD),
        .p_flags = GUINT32_TO_LE(PF_R | PF_W | PF_X),
        .p_offset = GUINT64_TO_LE(r->file_offset),
        .p_vaddr = GUINT64_TO_LE(r->guest_phys),
        .p_paddr = GUINT64_TO_LE(r->guest_phys),
        .p_filesz = GUINT64_TO_LE(r->bytes),
        .p_memsz = GUINT64_TO_LE(r->bytes),
    };
}

int elf_core_write(OutFile *out, const ElfRegion *regions, unsigned n,
                   const GArray *cpus, uint64_t notes_offset)
{
    g_autoptr(GByteArray) notes = g_byte_array_new();
    struct {
        Elf64_Ehdr ehdr;
        Elf64_Phdr phdr[3];
    } head = { 0 };
    unsigned i;
    int ret;

    G_STATIC_ASSERT(sizeof(head) <= ELF_CORE_DATA);
    g_assert(n <= 2);
    for (i = 0; i < cpus->len; i++) {
        append_prstatus(notes, &g_array_index(cpus, ElfCpu, i), i);
    }
    fill_ehdr(&head.ehdr, n + 1);
    head.phdr[0] = (Elf64_Phdr){
        .p_type = GUINT32_TO_LE(PT_NOTE),
        .p_offset = GUINT64_TO_LE(notes_offset),
        .p_filesz = GUINT64_TO_LE(notes->len),
        .p_align = GUINT64_TO_LE(4),
    };
    for (i = 0; i < n; i++) {
        head.phdr[i + 1] = load_segment(&regions[i]);
    }
    ret = out_file_pwrite(out, &head, sizeof(head), 0);
    if (ret == 0) {
        ret = out_file_pwrite(out, notes->data, notes->len, notes_offset);
    }
    return ret;
}
