/* SPDX-License-Identifier: MIT */
/*
 * The vmdescription at the end of a stream: JSON that says which fields with
 * which sizes each device's bytes consist of, with the key names of QEMU, so
 * that tools made for its streams can parse ours.
 *
 * Calls follow the stream; every begin has its end. A VmDesc that is NULL
 * swallows everything, for those who want no description.
 */
#ifndef FIRN_MIGRATION_VMDESC_JSON_H
#define FIRN_MIGRATION_VMDESC_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef struct VmDesc VmDesc;

VmDesc *vmdesc_new(unsigned page_size);
void vmdesc_free(VmDesc *d); /* NULL ok */

/* The configuration section, before all devices. */
void vmdesc_begin_configuration(VmDesc *d);
void vmdesc_end_configuration(VmDesc *d);

void vmdesc_begin_device(VmDesc *d, const char *name, uint32_t instance_id);
void vmdesc_end_device(VmDesc *d);

/* A description: of a device, or within a struct field or subsection. */
void vmdesc_begin_vmsd(VmDesc *d, const char *vmsd_name, int version);
void vmdesc_end_fields(VmDesc *d);
void vmdesc_begin_subsection(VmDesc *d); /* the first one opens the list */
void vmdesc_end_subsection(VmDesc *d);
void vmdesc_end_vmsd(VmDesc *d);

/*
 * A field. @array_len: > 1: stands for so many equal elements; @index: >= 0:
 * one element of an array; otherwise 0 and -1. @type "struct" encloses one
 * vmsd.
 */
void vmdesc_begin_field(VmDesc *d, const char *name, const char *type,
                        uint32_t array_len, int64_t index);
void vmdesc_end_field(VmDesc *d, const char *type, uint64_t size);

/* The text, NUL-terminated, to be freed. */
char *vmdesc_to_text(VmDesc *d, size_t *ret_len);

#endif
