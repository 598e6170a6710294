/* SPDX-License-Identifier: MIT */
/*
 * Saving, checking and loading a structure as its VMStateDescription says.
 * What comes from a stream is hostile: counts, versions, names and values are
 * checked, and a message names field and offset.
 */
#ifndef FIRN_MIGRATION_VMSTATE_DESC_H
#define FIRN_MIGRATION_VMSTATE_DESC_H

#include <firn/vmstate.h>

#include "migration/vmdesc-json.h"
#include "migration/vmstream.h"

#define VMSTATE_SUBSECTION 0x05
#define VMSTATE_MAX_DEPTH  16

/*
 * Is the table itself sound: names of 1..255 bytes, 0 <= minimum_version_id <=
 * version_id, elements of the size their kind has, subsections named after
 * their parent, at most VMSTATE_MAX_DEPTH levels? Returns 0 or -EINVAL.
 */
int vmstate_validate(const VMStateDescription *vmsd, GError **errp);

/*
 * Write @opaque, and its description to @desc (NULL: not wanted). Runs
 * pre_save and post_save. Returns 0, what a hook returned, -EINVAL for a
 * count above its limit, or the stream's error.
 */
int coroutine_fn vmstate_save(VmStream *f, const VMStateDescription *vmsd,
                              void *opaque, VmDesc *desc, GError **errp);

/*
 * Read a state of version @version_id into @opaque, with hooks. Returns 0, or
 * -EINVAL, the stream's error or a hook's; @opaque is then partly loaded.
 */
int coroutine_fn vmstate_load(VmStream *f, const VMStateDescription *vmsd,
                              void *opaque, uint32_t version_id,
                              GError **errp);

/*
 * The same bytes and the same errors, but nothing is stored and no hook runs;
 * @opaque is only looked at.
 */
int coroutine_fn vmstate_check(VmStream *f, const VMStateDescription *vmsd,
                               void *opaque, uint32_t version_id,
                               GError **errp);

#endif
