/* SPDX-License-Identifier: MIT */
/*
 * One counter per host cluster, for images whose files are mostly holes.
 *
 * Counters lie in pages that exist once one of them is not 0. A page starts
 * with 16 bits per counter and is made anew with 64 when one gets too large,
 * which takes more than 65535 snapshots or a hostile image. So memory follows
 * what the image refers to, about two bytes per cluster in use, and never
 * exceeds MAX_BYTES.
 */
#include "check_int.h"

#define PAGE_BITS    10
#define PAGE_SLOTS   (1u << PAGE_BITS)
#define MAX_CLUSTERS ((1ULL << 31) - 1)
#define MAX_BYTES    (1ULL << 30)

typedef struct Page {
    bool wide;
    uint8_t flags[PAGE_SLOTS / 8];
    uint64_t slots[];       /* uint16_t unless wide */
} Page;

struct Qcow2Counts {
    uint64_t nb_clusters;
    uint64_t bytes;         /* of all pages */
    uint64_t max_bytes;
    Page **pages;
};

static uint64_t nb_pages(uint64_t nb_clusters)
{
    return DIV_ROUND_UP(nb_clusters, PAGE_SLOTS);
}

Qcow2Counts *qcow2_counts_new(uint64_t nb_clusters, GError **errp)
{
    Qcow2Counts *c;
    Page **pages;

    if (nb_clusters > MAX_CLUSTERS) {
        set_error(errp, -EFBIG, "the file has %" PRIu64 " clusters; no more "
                  "than %" PRIu64 " can be checked", nb_clusters,
                  (uint64_t)MAX_CLUSTERS);
        return NULL;
    }
    pages = g_try_malloc0((nb_pages(nb_clusters) + 1) * sizeof(*pages));
    if (!pages) {
        set_error(errp, -ENOMEM, "no memory for the counters of %" PRIu64
                  " clusters", nb_clusters);
        return NULL;
    }
    c = g_new0(Qcow2Counts, 1);
    c->nb_clusters = nb_clusters;
    c->max_bytes = MAX_BYTES;
    c->pages = pages;
    return c;
}

void qcow2_counts_limit(Qcow2Counts *c, uint64_t max_bytes)
{
    c->max_bytes = max_bytes;
}

void qcow2_counts_free(Qcow2Counts *c)
{
    if (!c) {
        return;
    }
    for (uint64_t i = 0; i < nb_pages(c->nb_clusters); i++) {
        g_free(c->pages[i]);
    }
    g_free(c->pages);
    g_free(c);
}

static uint64_t page_get(const Page *p, unsigned slot)
{
    return p->wide ? p->slots[slot] : ((const uint16_t *)p->slots)[slot];
}

static void page_set(Page *p, unsigned slot, uint64_t value)
{
    if (p->wide) {
        p->slots[slot] = value;
    } else {
        ((uint16_t *)p->slots)[slot] = value;
    }
}

static int new_page(Qcow2Counts *c, bool wide, Page **ret)
{
    size_t bytes = sizeof(Page) + PAGE_SLOTS * (wide ? sizeof(uint64_t)
                                                     : sizeof(uint16_t));

    if (c->bytes + bytes > c->max_bytes) {
        return -EFBIG;
    }
    *ret = g_try_malloc0(bytes);
    if (!*ret) {
        return -ENOMEM;
    }
    (*ret)->wide = wide;
    c->bytes += bytes;
    return 0;
}

static int widen(Qcow2Counts *c, Page **p)
{
    Page *wide;
    int ret = new_page(c, true, &wide);

    if (ret < 0) {
        return ret;
    }
    memcpy(wide->flags, (*p)->flags, sizeof(wide->flags));
    for (unsigned i = 0; i < PAGE_SLOTS; i++) {
        wide->slots[i] = page_get(*p, i);
    }
    g_free(*p);
    *p = wide;
    return 0;
}

uint64_t qcow2_counts_get(const Qcow2Counts *c, uint64_t cluster)
{
    const Page *p;

    if (cluster >= c->nb_clusters) {
        return 0;
    }
    p = c->pages[cluster >> PAGE_BITS];
    return p ? page_get(p, cluster % PAGE_SLOTS) : 0;
}

int qcow2_counts_add(Qcow2Counts *c, uint64_t cluster, uint64_t n)
{
    unsigned slot = cluster % PAGE_SLOTS;
    uint64_t value;
    Page **p;
    int ret = 0;

    assert(cluster < c->nb_clusters);
    p = &c->pages[cluster >> PAGE_BITS];
    if (!*p) {
        ret = new_page(c, false, p);
    }
    if (ret < 0) {
        return ret;
    }
    value = page_get(*p, slot);
    value = value > UINT64_MAX - n ? UINT64_MAX : value + n;
    if (value > UINT16_MAX && !(*p)->wide) {
        ret = widen(c, p);
    }
    if (ret == 0) {
        page_set(*p, slot, value);
    }
    return ret;
}

int qcow2_counts_set_flag(Qcow2Counts *c, uint64_t cluster)
{
    unsigned slot = cluster % PAGE_SLOTS;
    Page **p;
    int ret = 0;

    assert(cluster < c->nb_clusters);
    p = &c->pages[cluster >> PAGE_BITS];
    if (!*p) {
        ret = new_page(c, false, p);
    }
    if (ret == 0) {
        (*p)->flags[slot / 8] |= 1u << (slot % 8);
    }
    return ret;
}

bool qcow2_counts_flag(const Qcow2Counts *c, uint64_t cluster)
{
    unsigned slot = cluster % PAGE_SLOTS;
    const Page *p;

    if (cluster >= c->nb_clusters) {
        return false;
    }
    p = c->pages[cluster >> PAGE_BITS];
    return p && (p->flags[slot / 8] & (1u << (slot % 8)));
}

uint64_t qcow2_counts_skip(const Qcow2Counts *c, uint64_t cluster)
{
    while (cluster < c->nb_clusters && !c->pages[cluster >> PAGE_BITS]) {
        cluster = ((cluster >> PAGE_BITS) + 1) << PAGE_BITS;
    }
    return MIN(cluster, c->nb_clusters);
}
