/* SPDX-License-Identifier: MIT */
/*
 * ELF64 core files of x86 guest memory: PT_LOAD segments at guest-physical
 * addresses; for each vCPU whose registers were in the stream a NT_PRSTATUS
 * note and the "QEMU" note with its system registers, which kernel crash
 * tools use to find their way through paging.
 */
#ifndef FIRN_TOOLS_ELF_CORE_H
#define FIRN_TOOLS_ELF_CORE_H

#include <glib.h>
#include <stdint.h>

#include "migration/stream-walk.h"
#include "tools/tool-common.h"

#define ELF_CORE_DATA 4096      /* file offset where memory may start */

/* Segment registers and tables, in the order of x86 numbering. */
enum { ELF_ES, ELF_CS, ELF_SS, ELF_DS, ELF_FS, ELF_GS, ELF_LDT, ELF_TR,
       ELF_GDT, ELF_IDT, ELF_SEGMENTS };

typedef struct ElfSegment {
    uint32_t selector;
    uint32_t limit;
    uint32_t flags;
    uint64_t base;
} ElfSegment;

/* Registers in the order of x86 encoding: rax, rcx, rdx, rbx, rsp, ... */
typedef struct ElfCpu {
    uint64_t regs[16];
    uint64_t rip;
    uint64_t rflags;
    ElfSegment segments[ELF_SEGMENTS];
    uint64_t cr[5];
    uint64_t kernel_gs_base;
} ElfCpu;

typedef struct ElfRegion {
    uint64_t guest_phys;
    uint64_t bytes;
    uint64_t file_offset;
} ElfRegion;

/* Collects vCPUs from the values of "cpu" sections. */
typedef struct ElfCpuReader {
    GArray *cpus;               /* ElfCpu */
    ElfCpu cpu;                 /* the one at hand */
    bool is_cpu;                /* the section at hand is one */
    bool has_rip;
    ElfSegment *segment;        /* inside of this one of cpu; NULL: not */
    unsigned depth;             /* of nested structures */
} ElfCpuReader;

/* Call them from the walk's callbacks of the same name. */
void elf_cpu_section_begin(ElfCpuReader *reader, const StreamSection *section);
void elf_cpu_value(ElfCpuReader *reader, const StreamValue *value);
void elf_cpu_section_end(ElfCpuReader *reader);

/*
 * Where RAM block addresses are in guest-physical space: all of @bytes from 0
 * on, or for PC machines the part behind @below_4g (0: what the machine type
 * @machine does by default) from 4 GiB on. Fills @regions (room for two) with
 * file offsets from @file_offset on; returns how many there are.
 */
unsigned elf_core_layout(const char *machine, uint64_t bytes,
                         uint64_t below_4g, uint64_t file_offset,
                         ElfRegion *regions);

/*
 * Write headers at the start of @out and notes at @notes_offset (a multiple of
 * 4 behind all memory). At most 2 @regions. 0 or -errno, kept in @out.
 */
int elf_core_write(OutFile *out, const ElfRegion *regions, unsigned n,
                   const GArray *cpus, uint64_t notes_offset);

#endif
