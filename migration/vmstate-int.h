/* SPDX-License-Identifier: MIT */
/* What vmstate-desc.c, vmstate-save.c and vmstate-load.c share. */
#ifndef FIRN_MIGRATION_VMSTATE_INT_H
#define FIRN_MIGRATION_VMSTATE_INT_H

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "migration/vmstate-desc.h"
#include "util/error.h"

/* Bytes of one element in the stream; 0: variable (buffers, structs). */
size_t vmstate_kind_size(VMStateKind kind);
/* Its name in the JSON description. */
const char *vmstate_kind_name(VMStateKind kind);
bool vmstate_kind_is_count(VMStateKind kind);

/* Is @field in a stream of @version_id? */
bool vmstate_field_present(const VMStateField *field, void *opaque,
                           uint32_t version_id);
/* Address of the first element. */
uint8_t *vmstate_field_data(const VMStateField *field, void *opaque);
/* The count in memory at count_offset; negative ones are huge. */
uint64_t vmstate_read_count(const VMStateField *field, const void *opaque);

#endif
