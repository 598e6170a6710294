/* SPDX-License-Identifier: MIT */
/* What bitmap.c and bitstore.c share. */
#ifndef FIRN_BLOCK_QCOW2_BITMAP_H
#define FIRN_BLOCK_QCOW2_BITMAP_H

#include "block/dirty-bitmap_int.h"
#include "qcow2_int.h"

#define QCOW2_MAX_BITMAPS      65535
/* Ours; the field's is 64 MiB - 1024. Names are kept in memory. */
#define QCOW2_MAX_BITMAP_DIR   (40u * 1024 * 1024)
#define QCOW2_MAX_BITMAP_BYTES (512ULL * 1024 * 1024)

/* Directory entry: this many bytes, then the name, padded to 8. */
#define QCOW2_BITMAP_ENTRY     24
#define QCOW2_BITMAP_DIRTY     1        /* the only type */
#define QCOW2_BITMAP_IN_USE    (1u << 0)
#define QCOW2_BITMAP_AUTO      (1u << 1)
#define QCOW2_BITMAP_KNOWN     (QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO)

/* Table entry without an offset. */
#define QCOW2_BITMAP_ALL_ONES  1ULL

/* A table that the directory on disk names; owned by s->bitmap_tables. */
typedef struct Qcow2BitmapTable {
    uint64_t offset;
    uint32_t size;          /* entries */
    uint64_t nb_bits;       /* that count; 0: not to be trusted */
} Qcow2BitmapTable;

static inline uint64_t qcow2_bitmap_entry_bytes(uint16_t name_len)
{
    return ROUND_UP((uint64_t)QCOW2_BITMAP_ENTRY + name_len, 8);
}

/* Entries of the table for @nb_bits bits. */
uint64_t qcow2_bitmap_table_entries(const Qcow2State *s, uint64_t nb_bits);
/* Read and check a table, *@ret to be g_free()d. -EINVAL: damaged. */
int coroutine_fn qcow2_bitmap_table_read(Qcow2State *s,
                                         const Qcow2BitmapTable *t,
                                         uint64_t **ret, GError **errp);
/* The cluster of bits that checked @entry, number @index, stands for; those
 * from @nb_bits on are 0. */
int coroutine_fn qcow2_bitmap_data_read(Qcow2State *s, uint64_t entry,
                                        uint64_t index, uint64_t nb_bits,
                                        uint8_t *buf);
/* Let the header point at another, durable directory, or at none (@nb 0). */
int coroutine_fn qcow2_bitmaps_switch(Qcow2State *s, uint32_t nb,
                                      uint64_t offset, uint64_t bytes)
    REQUIRES(s->lock);

#endif
