/* SPDX-License-Identifier: MIT */
/*
 * The "ram" section, version 4: a list of blocks, then page records. Each
 * record starts with an address that carries flags below the page size.
 */
#include "migration/stream-int.h"

enum {
    RAM_ZERO          = 0x02,
    RAM_MEM_SIZE      = 0x04,
    RAM_PAGE          = 0x08,
    RAM_EOS           = 0x10,
    RAM_CONTINUE      = 0x20,
    RAM_XBZRLE        = 0x40,
    RAM_HOOK          = 0x80,
    RAM_COMPRESS_PAGE = 0x100,
    RAM_MULTIFD_FLUSH = 0x200,
};

void stream_ram_block_free(gpointer p)
{
    StreamRamBlock *block = p;

    g_free(block->idstr);
    g_free(block);
}

static int coroutine_fn block_entry(StreamWalk *w, uint64_t *left,
                                    GError **errp)
{
    g_autofree char *idstr = NULL;
    StreamRamBlock *block;
    uint64_t bytes;
    const uint8_t *p;
    int ret;

    ret = stream_walk_name(w, &idstr, "a RAM block's name", errp);
    if (ret == 0) {
        ret = stream_walk_take(w, w->ignore_shared ? 16 : 8, &p,
                               "a RAM block's length", errp);
    }
    if (ret < 0) {
        return ret;
    }
    bytes = be64_get(p);
    if (bytes > *left || bytes % w->result->page_size != 0) {
        return stream_walk_error(w, errp, -EINVAL, "RAM block '%s' has "
                                 "%#" PRIx64 " bytes, where %#" PRIx64 " are "
                                 "left of the total", idstr, bytes, *left);
    }
    if (g_hash_table_contains(w->block_names, idstr) ||
        w->blocks->len == STREAM_MAX_BLOCKS) {
        return stream_walk_error(w, errp, -EINVAL, "RAM block '%s' is listed "
                                 "twice or is one of too many", idstr);
    }
    block = g_new0(StreamRamBlock, 1);
    block->idstr = g_steal_pointer(&idstr);
    block->bytes = bytes;
    block->index = w->blocks->len;
    g_ptr_array_add(w->blocks, block);
    g_hash_table_insert(w->block_names, block->idstr, block);
    w->result->ram_blocks++;
    *left -= bytes;
    return w->ops->ram_block ? w->ops->ram_block(w->opaque, block) : 0;
}

static int coroutine_fn block_list(StreamWalk *w, uint64_t total,
                                   GError **errp)
{
    uint64_t left = total;
    int ret = 0;

    if (w->blocks->len > 0) {
        return stream_walk_error(w, errp, -EINVAL,
                                 "a second list of RAM blocks");
    }
    w->result->ram_bytes = total;
    while (ret == 0 && left > 0) {
        ret = block_entry(w, &left, errp);
    }
    return ret;
}

/* The block a page record belongs to: named, or the one before. */
static int coroutine_fn page_block(StreamWalk *w, uint64_t flags,
                                   uint64_t addr, GError **errp)
{
    g_autofree char *idstr = NULL;
    int ret;

    if (!(flags & RAM_CONTINUE)) {
        ret = stream_walk_name(w, &idstr, "a page's block name", errp);
        if (ret < 0) {
            return ret;
        }
        w->last_block = g_hash_table_lookup(w->block_names, idstr);
        if (!w->last_block) {
            return stream_walk_error(w, errp, -EINVAL, "a page of RAM block "
                                     "'%s', which was not listed", idstr);
        }
    } else if (!w->last_block) {
        return stream_walk_error(w, errp, -EINVAL, "the first page record "
                                 "continues a RAM block");
    }
    if (addr >= w->last_block->bytes) {
        return stream_walk_error(w, errp, -EINVAL, "page %#" PRIx64 " is "
                                 "outside RAM block '%s' of %#" PRIx64
                                 " bytes", addr, w->last_block->idstr,
                                 w->last_block->bytes);
    }
    return 0;
}

static int coroutine_fn page_record(StreamWalk *w, uint64_t flags,
                                    uint64_t addr, GError **errp)
{
    const bool fill = flags & RAM_ZERO;
    const uint32_t page_size = w->result->page_size;
    const uint8_t *p;
    int ret;

    ret = page_block(w, flags, addr, errp);
    if (ret == 0) {
        ret = stream_walk_take(w, fill ? 1 : page_size, &p, "a page", errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (fill) {
        w->result->fill_pages++;
    } else {
        w->result->pages++;
    }
    if (!w->ops->ram_page) {
        return 0;
    }
    return w->ops->ram_page(w->opaque, w->last_block, addr, fill ? NULL : p,
                            fill ? *p : 0, page_size);
}

static int refuse_record(StreamWalk *w, uint64_t flags, GError **errp)
{
    if (flags & RAM_COMPRESS_PAGE) {
        return stream_walk_error(w, errp, -ENOTSUP,
                                 "compressed pages are not supported");
    }
    if (flags & RAM_XBZRLE) {
        return stream_walk_error(w, errp, -ENOTSUP,
                                 "XBZRLE pages are not supported");
    }
    return stream_walk_error(w, errp, -EINVAL,
                             "RAM record with flags %#" PRIx64, flags);
}

int coroutine_fn stream_ram_section(StreamWalk *w, GError **errp)
{
    const uint64_t mask = w->result->page_size - 1;
    uint64_t record, flags;
    const uint8_t *p;
    int ret;

    if (w->section.version != 4) {
        return stream_walk_error(w, errp, -ENOTSUP, "RAM version %"
                                 G_GUINT32_FORMAT " is not supported (4 is)",
                                 w->section.version);
    }
    do {
        ret = stream_walk_take(w, 8, &p, "a RAM record", errp);
        if (ret < 0) {
            return ret;
        }
        record = be64_get(p);
        flags = record & mask;
        switch (flags & ~(uint64_t)RAM_CONTINUE) {
        case RAM_MEM_SIZE:
            ret = block_list(w, record & ~mask, errp);
            break;
        case RAM_ZERO:
        case RAM_PAGE:
            ret = page_record(w, flags, record & ~mask, errp);
            break;
        case RAM_EOS:
        case RAM_HOOK:
        case RAM_MULTIFD_FLUSH:
            break;
        default:
            ret = refuse_record(w, flags, errp);
        }
    } while (ret == 0 && flags != RAM_EOS);
    return ret;
}
