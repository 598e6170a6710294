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
#define QEMU_SIZE     440       /* of the "QEMU" note, version 1 */
#define QEMU_SEGMENTS 152
#define QEMU_CR       392
#define NAME_BYTES    8         /* "CORE" or "QEMU" and its NUL, padded */

/* --- vCPUs --- */

void elf_cpu_section_begin(ElfCpuReader *reader, const StreamSection *section)
{
    reader->is_cpu = section->type == STREAM_FULL &&
                     g_str_equal(section->idstr, "cpu");
    reader->has_rip = false;
    reader->segment = NULL;
    reader->depth = 0;
    memset(&reader->cpu, 0, sizeof(reader->cpu));
}

static void top_value(ElfCpuReader *reader, const StreamValue *v)
{
    ElfCpu *cpu = &reader->cpu;
    const struct {
        const char *name;
        uint64_t *to;
    } single[] = {
        { "env.eip", &cpu->rip },
        { "env.eflags", &cpu->rflags },
        { "env.cr[0]", &cpu->cr[0] },
        { "env.cr[2]", &cpu->cr[2] },
        { "env.cr[3]", &cpu->cr[3] },
        { "env.cr[4]", &cpu->cr[4] },
        { "env.kernelgsbase", &cpu->kernel_gs_base },
    };
    uint64_t i;

    if (stream_value_class(v->type, v->size) != 'u') {
        return;
    }
    for (i = 0; i < MIN(v->count, 16) && g_str_equal(v->name, "env.regs");
         i++) {
        cpu->regs[i] = stream_value_u64(v, i);
    }
    for (i = 0; i < G_N_ELEMENTS(single); i++) {
        if (g_str_equal(v->name, single[i].name)) {
            *single[i].to = stream_value_u64(v, 0);
        }
    }
    reader->has_rip |= g_str_equal(v->name, "env.eip");
}

/* The segment that a structure of the "cpu" section is, or NULL. */
static ElfSegment *find_segment(ElfCpu *cpu, const StreamValue *v)
{
    static const char *const names[] = { "env.ldt", "env.tr", "env.gdt",
                                         "env.idt" };
    unsigned i;

    if (g_str_equal(v->name, "env.segs") && v->index >= 0 && v->index < 6) {
        return &cpu->segments[v->index];
    }
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_str_equal(v->name, names[i])) {
            return &cpu->segments[ELF_LDT + i];
        }
    }
    return NULL;
}

static void segment_value(ElfSegment *segment, const StreamValue *v)
{
    if (stream_value_class(v->type, v->size) != 'u') {
        return;
    }
    if (g_str_equal(v->name, "selector")) {
        segment->selector = (uint32_t)stream_value_u64(v, 0);
    } else if (g_str_equal(v->name, "limit")) {
        segment->limit = (uint32_t)stream_value_u64(v, 0);
    } else if (g_str_equal(v->name, "flags")) {
        segment->flags = (uint32_t)stream_value_u64(v, 0);
    } else if (g_str_equal(v->name, "base")) {
        segment->base = stream_value_u64(v, 0);
    }
}

void elf_cpu_value(ElfCpuReader *reader, const StreamValue *v)
{
    if (!reader->is_cpu) {
        return;
    }
    switch (v->kind) {
    case STREAM_STRUCT_BEGIN:
        if (reader->depth++ == 0) {
            reader->segment = find_segment(&reader->cpu, v);
        }
        break;
    case STREAM_STRUCT_END:
        if (--reader->depth == 0) {
            reader->segment = NULL;
        }
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
        } else if (reader->depth == 1 && reader->segment) {
            segment_value(reader->segment, v);
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

static void put_le32(uint8_t *p, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(p, &value, sizeof(value));
}

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
    const ElfSegment *seg = cpu->segments;
    unsigned i, n = G_N_ELEMENTS(order);

    for (i = 0; i < n; i++) {
        put_le64(p + 8 * i, cpu->regs[order[i]]);
    }
    put_le64(p + 8 * 15, UINT64_MAX);           /* orig_rax: no system call */
    put_le64(p + 8 * 16, cpu->rip);
    put_le64(p + 8 * 17, seg[ELF_CS].selector);
    put_le64(p + 8 * 18, cpu->rflags);
    put_le64(p + 8 * 19, cpu->regs[4]);
    put_le64(p + 8 * 20, seg[ELF_SS].selector);
    put_le64(p + 8 * 21, seg[ELF_FS].base);
    put_le64(p + 8 * 22, seg[ELF_GS].base);
    put_le64(p + 8 * 23, seg[ELF_DS].selector);
    put_le64(p + 8 * 24, seg[ELF_ES].selector);
    put_le64(p + 8 * 25, seg[ELF_FS].selector);
    put_le64(p + 8 * 26, seg[ELF_GS].selector);
}

/* The registers, in the order and layout of the "QEMU" note. */
static void put_qemu_state(uint8_t *p, const ElfCpu *cpu)
{
    static const int order[] = { 0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13,
                                 14, 15 };
    static const int segments[] = { ELF_CS, ELF_DS, ELF_ES, ELF_FS, ELF_GS,
                                    ELF_SS, ELF_LDT, ELF_TR, ELF_GDT,
                                    ELF_IDT };
    unsigned i, n = G_N_ELEMENTS(order);

    put_le32(p, 1);
    put_le32(p + 4, QEMU_SIZE);
    for (i = 0; i < n; i++) {
        put_le64(p + 8 + 8 * i, cpu->regs[order[i]]);
    }
    put_le64(p + 8 + 8 * n, cpu->rip);
    put_le64(p + 16 + 8 * n, cpu->rflags);
    for (i = 0; i < G_N_ELEMENTS(segments); i++) {
        const ElfSegment *seg = &cpu->segments[segments[i]];
        uint8_t *to = p + QEMU_SEGMENTS + 24 * i;

        put_le32(to, seg->selector);
        put_le32(to + 4, seg->limit);
        put_le32(to + 8, seg->flags);
        put_le64(to + 16, seg->base);
    }
    for (i = 0; i < G_N_ELEMENTS(cpu->cr); i++) {
        put_le64(p + QEMU_CR + 8 * i, cpu->cr[i]);
    }
    put_le64(p + QEMU_CR + 8 * i, cpu->kernel_gs_base);
}

static void append_note(GByteArray *notes, const char *name, uint32_t type,
                        const uint8_t *desc, uint32_t bytes)
{
    const Elf64_Nhdr header = {
        .n_namesz = GUINT32_TO_LE((uint32_t)strlen(name) + 1),
        .n_descsz = GUINT32_TO_LE(bytes),
        .n_type = GUINT32_TO_LE(type),
    };
    uint8_t padded[NAME_BYTES] = { 0 };

    memcpy(padded, name, strlen(name));
    g_byte_array_append(notes, (const uint8_t *)&header, sizeof(header));
    g_byte_array_append(notes, padded, sizeof(padded));
    g_byte_array_append(notes, desc, bytes);
}

/* As QEMU does it: the NT_PRSTATUS of all vCPUs, then their "QEMU" notes. */
static void append_notes(GByteArray *notes, const GArray *cpus)
{
    uint8_t prstatus[PRSTATUS_SIZE] = { 0 }, state[QEMU_SIZE] = { 0 };
    unsigned i;

    for (i = 0; i < cpus->len; i++) {
        put_le32(prstatus + PRSTATUS_PID, i + 1);
        put_regs(prstatus + PRSTATUS_REGS, &g_array_index(cpus, ElfCpu, i));
        append_note(notes, "CORE", NT_PRSTATUS, prstatus, sizeof(prstatus));
    }
    for (i = 0; i < cpus->len; i++) {
        put_qemu_state(state, &g_array_index(cpus, ElfCpu, i));
        append_note(notes, "QEMU", 0, state, sizeof(state));
    }
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
    append_notes(notes, cpus);
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
