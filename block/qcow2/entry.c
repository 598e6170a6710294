/* SPDX-License-Identifier: MIT */
/*
 * What an L2 entry says: types, the checks of an entry (R7), and how far a run
 * of entries goes on being the same. No locks, no I/O.
 *
 * A cluster has s->nb_subclusters parts, each with a type of its own: 32 with
 * extended L2 entries, else 1, so that one code serves both. With an external
 * data file the host offset of a cluster is its guest offset, and 0 is a legal
 * one: COPIED says whether there is storage.
 */
#include "qcow2_int.h"

Qcow2ClusterType qcow2_entry_type(uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        return QCOW2_CLUSTER_COMPRESSED;
    }
    if (entry & QCOW2_ZERO) {
        return entry & QCOW2_OFFSET_MASK ? QCOW2_CLUSTER_ZERO_ALLOC
                                         : QCOW2_CLUSTER_ZERO_PLAIN;
    }
    return entry & QCOW2_OFFSET_MASK ? QCOW2_CLUSTER_NORMAL
                                     : QCOW2_CLUSTER_UNALLOCATED;
}

bool qcow2_entry_has_host(const Qcow2State *s, Qcow2Entry e)
{
    if (e.desc & QCOW2_COMPRESSED) {
        return false;
    }
    return (e.desc & QCOW2_OFFSET_MASK) ||
           (qcow2_has_data_file(s) && (e.desc & QCOW2_COPIED));
}

Qcow2ClusterType qcow2_subcluster_type(const Qcow2State *s, Qcow2Entry e,
                                       unsigned sc)
{
    bool host = qcow2_entry_has_host(s, e);
    bool alloc = host, zero = e.desc & QCOW2_ZERO;

    if (e.desc & QCOW2_COMPRESSED) {
        return QCOW2_CLUSTER_COMPRESSED;
    }
    if (qcow2_has_subclusters(s)) {
        alloc = e.bitmap >> sc & 1;
        zero = e.bitmap >> (32 + sc) & 1;
    }
    if (zero) {
        return host ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_ZERO_PLAIN;
    }
    return alloc ? QCOW2_CLUSTER_NORMAL : QCOW2_CLUSTER_UNALLOCATED;
}

uint32_t qcow2_subcluster_mask(const Qcow2State *s, uint64_t cluster,
                               uint64_t lo, uint64_t hi)
{
    uint64_t end = cluster + s->cluster_size;
    unsigned first, last;

    lo = MAX(lo, cluster);
    hi = MIN(hi, end);
    if (lo >= hi) {
        return 0;
    }
    first = (lo - cluster) >> s->subcluster_bits;
    last = (hi - 1 - cluster) >> s->subcluster_bits;
    return (uint32_t)((2ULL << last) - (1ULL << first));
}

void qcow2_entry_compressed(const Qcow2State *s, uint64_t entry,
                            uint64_t *ret_offset, uint64_t *ret_bytes)
{
    unsigned x = 70 - s->cluster_bits;
    uint64_t offset = entry & ((1ULL << x) - 1);
    uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> x;

    *ret_offset = offset & (QCOW2_MAX_HOST_OFFSET - 1);
    *ret_bytes = (sectors + 1) * 512 - (offset & 511);
}

/* ---- checks ---- */

static const char *compressed_fault(const Qcow2State *s, Qcow2Entry e)
{
    if (qcow2_has_data_file(s)) {
        return "is compressed, with an external data file";
    }
    if (e.bitmap) {
        return "is compressed and has subclusters";
    }
    return NULL;
}

const char *qcow2_entry_fault(const Qcow2State *s, Qcow2Entry e,
                              uint64_t guest_offset)
{
    uint64_t offset = e.desc & QCOW2_OFFSET_MASK;

    if (e.desc & QCOW2_COMPRESSED) {
        return compressed_fault(s, e);
    }
    if (!qcow2_has_subclusters(s) && (e.desc & QCOW2_ZERO) &&
        s->hdr.version < 3) {
        return "has the zero flag in a version 2 image";
    }
    if (!IS_ALIGNED(offset, s->cluster_size)) {
        return "has an unaligned host offset";
    }
    if (e.bitmap & e.bitmap >> 32 & UINT32_MAX) {
        return "has a subcluster that is both data and zero";
    }
    if ((e.bitmap & UINT32_MAX) && !qcow2_entry_has_host(s, e)) {
        return "has subclusters with data and no host offset";
    }
    if (qcow2_has_data_file(s) && qcow2_entry_has_host(s, e) &&
        offset != qcow2_cluster_floor(s, guest_offset)) {
        return "has a host offset in the data file that is not its own";
    }
    return NULL;
}

int coroutine_fn qcow2_check_entry(Qcow2State *s, Qcow2Entry e,
                                   uint64_t guest_offset)
{
    const char *fault = qcow2_entry_fault(s, e, guest_offset);

    if (!fault) {
        return 0;
    }
    return qcow2_corruption(s, "the cluster at guest offset %#" PRIx64 " %s "
                            "(L2 entry %016" PRIx64 " %016" PRIx64 ")",
                            guest_offset, fault, e.desc, e.bitmap);
}

/* ---- runs ---- */

unsigned qcow2_subcluster_run(const Qcow2State *s, Qcow2Entry e, unsigned sc)
{
    uint32_t alloc = e.bitmap, zero = e.bitmap >> 32, differ;

    if (!qcow2_has_subclusters(s) || (e.desc & QCOW2_COMPRESSED)) {
        return s->nb_subclusters - sc;
    }
    alloc = alloc >> sc & 1 ? ~alloc : alloc;
    zero = zero >> sc & 1 ? ~zero : zero;
    differ = (alloc | zero) >> sc;
    return differ ? (unsigned)__builtin_ctz(differ) : s->nb_subclusters - sc;
}

bool qcow2_entry_continues(const Qcow2State *s, Qcow2Entry first,
                           Qcow2Entry e, uint64_t n)
{
    return !((e.desc ^ first.desc) & QCOW2_COPIED) &&
           (e.desc & QCOW2_OFFSET_MASK) ==
           (first.desc & QCOW2_OFFSET_MASK) + (n << s->cluster_bits);
}

uint64_t qcow2_entry_run(const Qcow2State *s, const uint8_t *slice,
                         uint64_t index, unsigned sc, uint64_t max,
                         uint64_t guest_offset)
{
    Qcow2Entry first = qcow2_entry_get(s, slice, index);
    Qcow2ClusterType type = qcow2_subcluster_type(s, first, sc);
    /* Subclusters that hold nothing have a place as well. */
    bool placed = type != QCOW2_CLUSTER_COMPRESSED &&
                  qcow2_entry_has_host(s, first);
    uint64_t run = qcow2_subcluster_run(s, first, sc);

    if (type == QCOW2_CLUSTER_COMPRESSED || sc + run < s->nb_subclusters) {
        return run;
    }
    for (uint64_t n = 1; n < max; n++) {
        Qcow2Entry e = qcow2_entry_get(s, slice, index + n);
        unsigned more;

        if (qcow2_subcluster_type(s, e, 0) != type ||
            placed != qcow2_entry_has_host(s, e) ||
            (placed && !qcow2_entry_continues(s, first, e, n)) ||
            qcow2_entry_fault(s, e, guest_offset + (n << s->cluster_bits))) {
            break;
        }
        more = qcow2_subcluster_run(s, e, 0);
        run += more;
        if (more < s->nb_subclusters) {
            break;
        }
    }
    return run;
}
