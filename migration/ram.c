/* SPDX-License-Identifier: MIT */
/*
 * RAM page records. Two loops carry all the weight, one page at a time with
 * one copy: ram_save_pages() into the stream's window and ram_load_fast() out
 * of it. Everything unusual leaves them for the slow, careful path.
 */
#include "migration/ram.h"

#include <errno.h>
#include <inttypes.h>

#include "ram-copy.h"
#include "ram-prefault.h"
#include "util/error.h"
#include "util/zero.h"

#define RAM_FLAG_ZERO          0x002
#define RAM_FLAG_MEM_SIZE      0x004
#define RAM_FLAG_PAGE          0x008
#define RAM_FLAG_EOS           0x010
#define RAM_FLAG_CONTINUE      0x020
#define RAM_FLAG_XBZRLE        0x040
#define RAM_FLAG_HOOK          0x080
#define RAM_FLAG_COMPRESS_PAGE 0x100
#define RAM_FLAG_MULTIFD_FLUSH 0x200
#define RAM_FLAGS              (TARGET_PAGE_SIZE - 1)

#define RAM_DENSE_PAGES 64 /* data without a zero page: a run */
#define RAM_STEP_PAGES 256 /* between two calls of the step function */
#define RAM_MAX_IDLE 65536 /* records without a page in a row */

RamBlock *ram_block_new(const char *idstr, void *host, uint64_t bytes)
{
    RamBlock *block = g_new0(RamBlock, 1);

    block->idstr = g_strdup(idstr);
    block->host = host;
    block->bytes = bytes;
    return block;
}

void ram_block_free(RamBlock *block)
{
    if (block) {
        g_free(block->idstr);
        g_free(block);
    }
}

/* --- Saving --- */

void coroutine_fn ram_save_setup(RamSaver *r, VmStream *f)
{
    uint64_t total = 0;

    for (guint i = 0; i < r->blocks->len; i++) {
        total += ((RamBlock *)r->blocks->pdata[i])->bytes;
    }
    vmstream_put_be64(f, total | RAM_FLAG_MEM_SIZE);
    for (guint i = 0; i < r->blocks->len; i++) {
        RamBlock *block = r->blocks->pdata[i];

        vmstream_put_counted(f, block->idstr);
        vmstream_put_be64(f, block->bytes);
    }
    vmstream_put_be64(f, RAM_FLAG_EOS);
}

static inline bool ram_page_is_zero(const uint8_t *page)
{
    uint64_t first;

    memcpy(&first, page, sizeof(first));
    return first == 0 && buffer_is_zero(page, TARGET_PAGE_SIZE);
}

/*
 * Save pages of one block, from r->offset on, at most @max. The first record
 * names the block.
 */
static void coroutine_fn ram_save_pages(RamSaver *r, VmStream *f,
                                        const RamBlock *block, uint64_t max)
{
    uint64_t end = MIN(block->bytes, r->offset + max * TARGET_PAGE_SIZE);
    uint64_t cont = 0;

    r->pages += (end - r->offset) / TARGET_PAGE_SIZE;
    for (; r->offset < end; r->offset += TARGET_PAGE_SIZE) {
        const uint8_t *page = block->host + r->offset;
        bool zero = ram_page_is_zero(page);

        vmstream_put_be64(f, r->offset | cont |
                             (zero ? RAM_FLAG_ZERO : RAM_FLAG_PAGE));
        if (cont == 0) {
            vmstream_put_counted(f, block->idstr);
            cont = RAM_FLAG_CONTINUE;
        }
        if (zero) {
            vmstream_put_u8(f, 0);
        } else if (G_LIKELY(f->end - f->at >= TARGET_PAGE_SIZE)) {
            memcpy(f->at, page, TARGET_PAGE_SIZE);
            f->at += TARGET_PAGE_SIZE;
        } else {
            vmstream_put_buffer(f, page, TARGET_PAGE_SIZE);
        }
    }
}

int coroutine_fn ram_save_round(RamSaver *r, VmStream *f, uint64_t max_pages)
{
    uint64_t stop = r->pages + max_pages;
    int ret = 0;

    while (ret == 0 && r->pages < stop && r->block < r->blocks->len) {
        const RamBlock *block = r->blocks->pdata[r->block];

        ram_save_pages(r, f, block, MIN(stop - r->pages, RAM_STEP_PAGES));
        if (r->offset == block->bytes) {
            r->block++;
            r->offset = 0;
        }
        ret = vmstream_error(f);
        if (ret == 0) {
            ret = r->step(r->opaque, r->pages);
        }
    }
    vmstream_put_be64(f, RAM_FLAG_EOS);
    return ret < 0 ? ret : r->block < r->blocks->len;
}

/* --- Loading --- */

typedef struct RamTarget {
    const RamBlock *block;
    uint64_t *seen;         /* one bit per page that had a record */
    bool listed;            /* in the stream's block list */
} RamTarget;

struct RamLoader {
    RamTarget *targets;
    unsigned nb_targets;
    RamTarget *current;     /* what CONTINUE refers to, or NULL */
    bool fresh;
    bool has_list;
    bool touched;
    uint64_t pages;
    uint64_t last_offset;   /* of ram_load_fast()'s last page */
    RamPrefault *prefault;  /* NULL: RAM is not fresh */
    RamStepFn *step;
    void *opaque;
};

RamLoader *ram_loader_new(const GPtrArray *blocks, bool fresh,
                          RamStepFn *step, void *opaque)
{
    RamLoader *l = g_new0(RamLoader, 1);

    l->targets = g_new0(RamTarget, blocks->len);
    l->nb_targets = blocks->len;
    l->fresh = fresh;
    l->prefault = fresh ? ram_prefault_new() : NULL;
    l->step = step;
    l->opaque = opaque;
    for (guint i = 0; i < blocks->len; i++) {
        const RamBlock *block = blocks->pdata[i];
        uint64_t pages = block->bytes / TARGET_PAGE_SIZE;

        l->targets[i].block = block;
        l->targets[i].seen = g_new0(uint64_t, DIV_ROUND_UP(pages, 64));
    }
    return l;
}

void coroutine_fn ram_loader_free(RamLoader *l)
{
    if (l) {
        ram_prefault_free(l->prefault);
        for (unsigned i = 0; i < l->nb_targets; i++) {
            g_free(l->targets[i].seen);
        }
        g_free(l->targets);
        g_free(l);
    }
}

bool ram_loader_touched(const RamLoader *l)
{
    return l->touched;
}

static RamTarget *ram_find(RamLoader *l, const char *idstr)
{
    for (unsigned i = 0; i < l->nb_targets; i++) {
        if (strcmp(l->targets[i].block->idstr, idstr) == 0) {
            return &l->targets[i];
        }
    }
    return NULL;
}

/* Note a record for the page at @offset; was there one before? */
static inline bool ram_mark_seen(RamTarget *t, uint64_t offset)
{
    uint64_t page = offset / TARGET_PAGE_SIZE;
    uint64_t bit = 1ULL << (page % 64);
    bool before = (t->seen[page / 64] & bit) != 0;

    t->seen[page / 64] |= bit;
    return before;
}

/* The page becomes @fill. One that is zero already is not dirtied. */
static inline void ram_fill_page(RamLoader *l, RamTarget *t, uint64_t offset,
                                 uint8_t fill)
{
    uint8_t *page = t->block->host + offset;
    bool before = ram_mark_seen(t, offset);

    if (fill != 0 || ((!l->fresh || before) && !ram_page_is_zero(page))) {
        memset(page, fill, TARGET_PAGE_SIZE);
    }
}

/*
 * Load the common records of the current block out of @n bytes at @p; stop at
 * the first that is cut off or is anything else. Returns the bytes used.
 */
static size_t ram_load_fast(RamLoader *l, const uint8_t *p, size_t n)
{
    const uint8_t *start = p;
    const uint8_t *end = p + n;
    RamTarget *t = l->current;
    uint64_t bytes = t->block->bytes;

    while (end - p > 8) {
        uint64_t record, offset;

        memcpy(&record, p, sizeof(record));
        record = GUINT64_FROM_BE(record);
        offset = record & ~(uint64_t)RAM_FLAGS;
        if (offset >= bytes) {
            break;
        }
        if ((record & RAM_FLAGS) == (RAM_FLAG_PAGE | RAM_FLAG_CONTINUE) &&
            end - p >= 8 + TARGET_PAGE_SIZE) {
            ram_copy_page(t->block->host + offset, p + 8);
            ram_mark_seen(t, offset);
            p += 8 + TARGET_PAGE_SIZE;
        } else if ((record & RAM_FLAGS) ==
                   (RAM_FLAG_ZERO | RAM_FLAG_CONTINUE)) {
            ram_fill_page(l, t, offset, p[8]);
            p += 9;
        } else {
            break;
        }
        l->pages++;
        l->last_offset = offset;
    }
    ram_copy_fence();
    return (size_t)(p - start);
}

/* All that can be loaded in place from the stream's window. */
static void coroutine_fn ram_load_window(RamLoader *l, VmStream *f)
{
    uint64_t pages = l->pages;
    const uint8_t *p;
    size_t n, used;

    p = vmstream_window(f, &n);
    if (!l->touched || !l->current) {
        return;
    }
    used = ram_load_fast(l, p, n);
    vmstream_advance(f, used);
    pages = l->pages - pages;
    /* Nothing but data, and enough of it: it will go on like that. */
    if (l->prefault && pages >= RAM_DENSE_PAGES &&
        used == pages * (8 + TARGET_PAGE_SIZE)) {
        uint8_t *host = l->current->block->host;

        ram_prefault_ahead(l->prefault, host + l->last_offset,
                           host + l->current->block->bytes);
    }
}

static int coroutine_fn ram_load_list_entry(RamLoader *l, VmStream *f,
                                            uint64_t *left, GError **errp)
{
    uint64_t pos = vmstream_pos(f);
    char idstr[256];
    uint64_t bytes;
    RamTarget *t;

    vmstream_get_counted(f, idstr);
    bytes = vmstream_get_be64(f);
    if (vmstream_error(f) < 0) {
        return set_error(errp, vmstream_error(f), "the list of RAM blocks is "
                         "cut off at offset %" PRIu64, pos);
    }
    t = ram_find(l, idstr);
    if (!t || t->listed) {
        return set_error(errp, -EINVAL, "RAM block '%s' at offset %" PRIu64
                         " %s", idstr, pos,
                         t ? "is listed twice" : "is unknown here");
    }
    if (bytes != t->block->bytes || bytes > *left) {
        return set_error(errp, -EINVAL, "RAM block '%s' at offset %" PRIu64
                         " has %" PRIu64 " bytes, not %" PRIu64, idstr, pos,
                         bytes, t->block->bytes);
    }
    t->listed = true;
    *left -= bytes;
    return 0;
}

static int coroutine_fn ram_load_list(RamLoader *l, VmStream *f,
                                      uint64_t total, GError **errp)
{
    if (l->has_list) {
        return set_error(errp, -EINVAL, "second list of RAM blocks at offset "
                         "%" PRIu64, vmstream_pos(f));
    }
    while (total > 0) {
        int ret = ram_load_list_entry(l, f, &total, errp);

        if (ret < 0) {
            return ret;
        }
    }
    for (unsigned i = 0; i < l->nb_targets; i++) {
        if (!l->targets[i].listed) {
            return set_error(errp, -EINVAL, "RAM block '%s' is not in the "
                             "stream", l->targets[i].block->idstr);
        }
    }
    l->has_list = true;
    return 0;
}

/* A record with a page, whole or zero. */
static int coroutine_fn ram_load_page(RamLoader *l, VmStream *f,
                                      uint64_t record, uint64_t pos,
                                      GError **errp)
{
    uint64_t offset = record & ~(uint64_t)RAM_FLAGS;
    char idstr[256] = "";
    uint8_t page[TARGET_PAGE_SIZE];
    uint8_t fill = 0;

    if (!(record & RAM_FLAG_CONTINUE)) {
        vmstream_get_counted(f, idstr);
        l->current = ram_find(l, idstr);
    }
    if (record & RAM_FLAG_PAGE) {
        vmstream_get_buffer(f, page, sizeof(page));
    } else {
        fill = vmstream_get_u8(f);
    }
    if (vmstream_error(f) < 0) {
        return 0; /* the caller looks */
    }
    if (!l->has_list || !l->current || offset >= l->current->block->bytes) {
        return set_error(errp, -EINVAL, "page at offset %" PRIu64
                         " belongs to no RAM block ('%s' + 0x%" PRIx64 ")",
                         pos, l->current ? l->current->block->idstr : idstr,
                         offset);
    }
    l->touched = true;
    l->pages++;
    if (record & RAM_FLAG_PAGE) {
        memcpy(l->current->block->host + offset, page, sizeof(page));
        ram_mark_seen(l->current, offset);
    } else {
        ram_fill_page(l, l->current, offset, fill);
    }
    return 0;
}

static int ram_refuse(uint64_t record, uint64_t pos, GError **errp)
{
    const char *what = "unknown";

    if (record & RAM_FLAG_XBZRLE) {
        what = "XBZRLE";
    } else if (record & RAM_FLAG_COMPRESS_PAGE) {
        what = "compressed page";
    }
    return set_error(errp, -EINVAL, "RAM record with flags 0x%x (%s) at "
                     "offset %" PRIu64, (unsigned)(record & RAM_FLAGS), what,
                     pos);
}

/* One record with all checks. Returns 1 at the end of the section. */
static int coroutine_fn ram_load_record(RamLoader *l, VmStream *f,
                                        GError **errp)
{
    uint64_t pos = vmstream_pos(f);
    uint64_t record = vmstream_get_be64(f);
    int ret = 0;

    if (vmstream_error(f) < 0) {
        ret = 0;
    } else {
        switch (record & RAM_FLAGS & ~(uint64_t)RAM_FLAG_CONTINUE) {
        case RAM_FLAG_ZERO:
        case RAM_FLAG_PAGE:
            ret = ram_load_page(l, f, record, pos, errp);
            break;
        case RAM_FLAG_MEM_SIZE:
            ret = ram_load_list(l, f, record & ~(uint64_t)RAM_FLAGS, errp);
            break;
        case RAM_FLAG_EOS:
            return 1;
        case RAM_FLAG_HOOK:
        case RAM_FLAG_MULTIFD_FLUSH:
            break; /* nothing follows in a snapshot */
        default:
            return ram_refuse(record, pos, errp);
        }
    }
    if (ret == 0 && vmstream_error(f) < 0) {
        ret = set_error(errp, vmstream_error(f), "RAM record at offset %"
                        PRIu64 ": the stream ends or cannot be read", pos);
    }
    return ret;
}

int coroutine_fn ram_load_section(RamLoader *l, VmStream *f, GError **errp)
{
    uint64_t stepped = l->pages;
    unsigned records = 0; /* that came one by one since the last step */
    unsigned idle = 0;

    for (;;) {
        uint64_t pages = l->pages;
        int ret;

        ram_load_window(l, f);
        ret = ram_load_record(l, f, errp);
        if (ret > 0 && !l->has_list) {
            return set_error(errp, -EINVAL, "no list of RAM blocks before "
                             "offset %" PRIu64, vmstream_pos(f));
        }
        if (ret != 0) {
            return ret < 0 ? ret : 0;
        }
        idle = l->pages == pages ? idle + 1 : 0;
        if (idle > RAM_MAX_IDLE) {
            return set_error(errp, -EINVAL, "more than %u RAM records without "
                             "a page before offset %" PRIu64, RAM_MAX_IDLE,
                             vmstream_pos(f));
        }
        if (l->pages - stepped + ++records >= RAM_STEP_PAGES) {
            stepped = l->pages;
            records = 0;
            ret = l->step(l->opaque, l->pages);
            if (ret < 0) {
                return ret;
            }
        }
    }
}

void ram_load_finish(RamLoader *l)
{
    for (unsigned i = 0; !l->fresh && i < l->nb_targets; i++) {
        RamTarget *t = &l->targets[i];
        uint64_t pages = t->block->bytes / TARGET_PAGE_SIZE;

        for (uint64_t n = 0; n < pages; n++) {
            uint8_t *page = t->block->host + n * TARGET_PAGE_SIZE;

            if (!(t->seen[n / 64] & (1ULL << (n % 64))) &&
                !ram_page_is_zero(page)) {
                memset(page, 0, TARGET_PAGE_SIZE);
            }
        }
    }
}
