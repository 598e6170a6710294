/* SPDX-License-Identifier: MIT */
/*
 * Rewriting cluster 0 when more than its fixed fields changes.
 *
 * Only a sector is written as a whole or not at all, and cluster 0 has many.
 * So the new one is put in place in steps, each a durable change of sectors
 * that nothing reads yet, or of sector 0 alone:
 *
 *   1  the backing file name, in sectors that hold nothing now
 *   2  sector 0: new fields and extensions, and the end record. From here on
 *      the image is the new one, only its table of feature names is missing
 *   3  the other sectors
 *   4  sector 0 once more, with the table, which reaches into sector 1
 *
 * Steps that change nothing are left out; mostly one sector remains. When one
 * fails, they are undone in the opposite order, each durably before the next: a
 * disk that takes no more flushes keeps the new image or the old one. What does
 * not fit that scheme (extensions without the table longer than sector 0, as a
 * long data file name or big unknown records make them; no free room for a
 * name, in clusters of 1 to 4 KiB) is written last sector first, sector 0 at
 * the end: a power cut in between can then leave a mixture of both versions.
 */
#include "qcow2_int.h"

typedef struct Rewrite {
    Qcow2Header h;              /* new fields */
    uint8_t *old;               /* cluster 0 */
    uint8_t *new;
    uint64_t bytes;             /* that differ or matter: whole sectors */
    uint8_t core[QCOW2_SECTOR]; /* step 2 */
    uint64_t name_lo, name_hi;  /* sectors of step 1, in bytes */
    bool in_steps;              /* 1 and 2 are needed, and possible */
    bool core_begun;            /* step 2 may be on disk */
} Rewrite;

static uint64_t used_bytes(const uint8_t *buf, uint64_t end)
{
    while (end && !buf[end - 1]) {
        end--;
    }
    return end;
}

static uint64_t sector_ceil(uint64_t offset)
{
    return ROUND_UP(offset, (uint64_t)QCOW2_SECTOR);
}

/*
 * Where a name of @len bytes goes: where it is, right behind the extensions
 * when all that is sector 0, or into sectors that are not in use. 0: there is
 * no such place.
 */
static uint64_t choose_name_offset(const Qcow2State *s, const Rewrite *w,
                                   uint64_t ext_end, uint64_t len)
{
    uint64_t was = be64_get(w->old + 8);
    uint64_t was_len = be32_get(w->old + 16);
    uint64_t gap = sector_ceil(ext_end);
    uint64_t last = sector_ceil(MAX(ext_end,
                                    used_bytes(w->old, s->cluster_size)));

    if (ext_end + len <= QCOW2_SECTOR) {
        return ext_end;
    }
    if (was >= ext_end && was_len == len &&
        !memcmp(w->old + was, s->ext.backing_file, len)) {
        return was;
    }
    if (was && gap + len <= ROUND_DOWN(was, (uint64_t)QCOW2_SECTOR) &&
        gap >= sector_ceil(used_bytes(w->old, was))) {
        return gap;
    }
    return last + len <= s->cluster_size ? last : 0;
}

static unsigned count_diff(const Rewrite *w)
{
    unsigned n = 0;

    for (uint64_t at = 0; at < w->bytes; at += QCOW2_SECTOR) {
        n += memcmp(w->old + at, w->new + at, QCOW2_SECTOR) != 0;
    }
    return n;
}

/* Fill in w->h, w->new, w->core. */
static int plan(Qcow2State *s, Rewrite *w)
{
    g_autoptr(GByteArray) full = g_byte_array_new();
    g_autoptr(GByteArray) core = g_byte_array_new();
    Qcow2HeaderForm form = { .feature_names = true, .old = w->old };
    uint64_t ext_end, core_end;
    Qcow2Header h;
    int ret;

    w->h = s->hdr;
    w->in_steps = true;
    ret = qcow2_header_build(&w->h, &s->ext, &form, full, &ext_end, NULL);
    if (ret == 0 && w->h.backing_file_size) {
        form.name_offset = choose_name_offset(s, w, ext_end,
                                              w->h.backing_file_size);
        w->in_steps = form.name_offset != 0;
        ret = qcow2_header_build(&w->h, &s->ext, &form, full, NULL, NULL);
        if (w->h.backing_file_offset >= QCOW2_SECTOR &&
            w->h.backing_file_offset != be64_get(w->old + 8)) {
            w->name_lo = ROUND_DOWN(w->h.backing_file_offset,
                                    (uint64_t)QCOW2_SECTOR);
            w->name_hi = sector_ceil(w->h.backing_file_offset +
                                     w->h.backing_file_size);
        }
    }
    if (ret < 0) {
        return ret;
    }
    memcpy(w->new, full->data, full->len);
    memcpy(w->core, w->new, QCOW2_SECTOR);
    form.feature_names = full->len <= QCOW2_SECTOR;
    form.name_offset = w->h.backing_file_offset;
    h = s->hdr;
    ret = qcow2_header_build(&h, &s->ext, &form, core, &core_end, NULL);
    if (ret < 0) {
        return ret;
    }
    if (core_end <= QCOW2_SECTOR) {
        memset(w->core, 0, QCOW2_SECTOR);
        memcpy(w->core, core->data, MIN(core->len, QCOW2_SECTOR));
    } else {
        w->in_steps = false;
    }
    w->bytes = sector_ceil(MAX(full->len,
                               used_bytes(w->old, s->cluster_size)));
    w->in_steps = w->in_steps && count_diff(w) > 1;
    return 0;
}

/* Write sectors of [@lo, @hi) that @now and @want do not share; flush. @now is
 * brought up to date. */
static int coroutine_fn write_diff(Qcow2State *s, uint8_t *now,
                                   const uint8_t *want, uint64_t lo,
                                   uint64_t hi)
    REQUIRES(s->lock)
{
    bool any = false;

    for (uint64_t o = hi; o > lo; o -= QCOW2_SECTOR) {
        uint64_t at = o - QCOW2_SECTOR;
        int ret;

        if (!memcmp(now + at, want + at, QCOW2_SECTOR)) {
            continue;
        }
        ret = bdrv_co_pwrite(s->bs->file, at, QCOW2_SECTOR, want + at, 0);
        if (ret < 0) {
            return ret;
        }
        memcpy(now + at, want + at, QCOW2_SECTOR);
        any = true;
    }
    return any ? bdrv_co_flush(s->bs->file->bs) : 0;
}

/* @now is what is on disk, as far as it is known. */
static int coroutine_fn write_steps(Qcow2State *s, Rewrite *w, uint8_t *now)
    REQUIRES(s->lock)
{
    int ret = 0;

    if (w->in_steps) {
        ret = write_diff(s, now, w->new, w->name_lo, w->name_hi);
        w->core_begun = ret == 0;
        ret = ret < 0 ? ret : write_diff(s, now, w->core, 0, QCOW2_SECTOR);
    }
    ret = ret < 0 ? ret : write_diff(s, now, w->new, QCOW2_SECTOR, w->bytes);
    return ret < 0 ? ret : write_diff(s, now, w->new, 0, QCOW2_SECTOR);
}

/* Write [@lo, @hi) of @buf; flush. */
static int coroutine_fn put(Qcow2State *s, const uint8_t *buf, uint64_t lo,
                            uint64_t hi)
    REQUIRES(s->lock)
{
    int ret = lo == hi ? 0 : bdrv_co_pwrite(s->bs->file, lo, hi - lo,
                                            buf + lo, 0);

    return ret < 0 || lo == hi ? ret : bdrv_co_flush(s->bs->file->bs);
}

/* Something failed: old or new may be on disk. Make it old, the last step
 * first. */
static int coroutine_fn undo_steps(Qcow2State *s, const Rewrite *w)
    REQUIRES(s->lock)
{
    bool has_name = w->in_steps && w->name_hi;
    uint64_t lo = has_name ? w->name_lo : w->bytes;
    uint64_t hi = has_name ? w->name_hi : w->bytes;
    int ret = 0;

    if (w->core_begun) {
        ret = put(s, w->core, 0, QCOW2_SECTOR);
    }
    if (w->core_begun || !w->in_steps) {
        ret = ret < 0 ? ret : put(s, w->old, QCOW2_SECTOR, lo);
        ret = ret < 0 ? ret : put(s, w->old, hi, w->bytes);
    }
    ret = ret < 0 ? ret : put(s, w->old, 0, QCOW2_SECTOR);
    return ret < 0 ? ret : put(s, w->old, lo, hi);
}

static void coroutine_fn put_back(Qcow2State *s, const Rewrite *w)
    REQUIRES(s->lock)
{
    if (undo_steps(s, w) < 0) {
        s->corrupt = true;
        g_free(s->corrupt_reason);
        s->corrupt_reason = g_strdup("the header could not be written");
    }
}

static int coroutine_fn rewrite(Qcow2State *s, Rewrite *w, uint8_t *now)
    REQUIRES(s->lock)
{
    int ret = bdrv_co_pread(s->bs->file, 0, s->cluster_size, w->old, 0);

    memset(w->new, 0, s->cluster_size);
    ret = ret < 0 ? ret : plan(s, w);
    if (ret < 0) {
        return ret;
    }
    memcpy(now, w->old, s->cluster_size);
    ret = write_steps(s, w, now);
    if (ret < 0) {
        put_back(s, w);
        return ret;
    }
    memcpy(s->hdr_sector, w->new, QCOW2_SECTOR);
    s->hdr = w->h;
    return 0;
}

int coroutine_fn qcow2_header_rewrite(Qcow2State *s)
{
    Rewrite w = { 0 };
    uint8_t *now = blk_try_memalign(s->cluster_size);
    int ret = qcow2_check_writable(s);

    w.old = blk_try_memalign(s->cluster_size);
    w.new = blk_try_memalign(s->cluster_size);
    if (ret == 0) {
        ret = w.old && w.new && now ? rewrite(s, &w, now) : -ENOMEM;
    }
    free(w.old);
    free(w.new);
    free(now);
    if (ret < 0) {
        (void)qcow2_header_decode(s->hdr_sector, QCOW2_SECTOR, &s->hdr, NULL);
    }
    return ret;
}
